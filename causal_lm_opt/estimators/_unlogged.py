"""What stated log-probs say of texts that no row holds, for the verdict: no draws are needed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from causal_lm_opt._validation import content_keys
from causal_lm_opt.diagnostics.unlogged import SOME, WEIGHT, UnloggedTexts, distinct_mass
from causal_lm_opt.estimators._log import Log
from causal_lm_opt.estimators._policies import LogRatios, Policies

__all__ = ["unlogged_findings"]

FloatArray = npt.NDArray[np.float64]
TOO_MUCH = 1.05  # rounding of log-probs aside
LEAST = 1.0 - (1.0 - SOME) / WEIGHT  # with less of the logging policy logged, nothing can be told
APART = 1.5  # clusters that hold a text, on average: its log-prob is then no cluster's own


def unlogged_findings(log: Log, policies: Policies, k: int) -> list[tuple[int, str]]:
    """Reasons from the probabilities of the distinct logged texts, under both policies.

    Those of policy ``k`` leave out what it writes of texts that no row holds, those of the logging
    policy the room for such texts; neither may be more than 1. Of rows that are texts with one
    log-prob each: others are conditional on something that is not told, such as a prompt.
    """
    texts = isinstance(log.X, np.ndarray) and log.X.ndim == 1
    if not texts or log.texts is not None or not isinstance(policies.ell, LogRatios):
        return []
    logging, target = policies.ell.logp_logging, policies.ell.target(k)
    # sums over rows bound those over distinct texts: of long texts nothing is looked up
    if max(float(np.exp(logging).sum()), float(np.exp(target).sum())) < LEAST:
        return []
    codes = np.unique(content_keys(log.X), return_inverse=True)[1]
    if log.codes is not None and _nested(codes, log.codes):
        return []
    masses = [distinct_mass(codes, logp) for logp in (logging, target)]
    if masses[0] is None or masses[1] is None:
        return []
    mass, own = float(masses[0][0]), float(masses[1][0])
    found = [
        (1, (
            f"The probabilities of the {codes.max() + 1:,} distinct texts under {whose} add up to "
            f"{total:.3g}, where 1 is the most: {name} holds no natural log-probs of whole texts "
            "(base 10, means per token, densities), or those given a prompt (--prompt)."
        ))
        for whose, name, total in (
            ("the logging policy", "logp_logging", mass), ("this policy", "its column", own)
        )
        if total > TOO_MUCH
    ]  # fmt: skip
    if found:
        return found
    share = max(1.0 - own, 0.0)
    return UnloggedTexts(share, share, 1.0 - mass).findings()


def _nested(codes: npt.NDArray[np.intp], clusters: npt.NDArray[np.intp]) -> bool:
    """Whether texts lie within clusters of several texts, as those that answer a prompt do."""
    pairs = np.unique(np.column_stack([codes, clusters]), axis=0)
    n_texts, n_clusters = int(codes.max()) + 1, int(np.unique(clusters).size)
    return bool(n_clusters < pairs.shape[0] < APART * n_texts)
