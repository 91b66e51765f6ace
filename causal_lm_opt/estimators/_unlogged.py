"""What stated log-probs say of texts that no row holds, for the verdict: no draws are needed."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from causal_lm_opt.diagnostics.unlogged import UnloggedTexts, distinct_mass
from causal_lm_opt.estimators._log import Log
from causal_lm_opt.estimators._policies import LogRatios, Policies

__all__ = ["unlogged_findings"]

IntArray = npt.NDArray[np.intp]
TOO_MUCH = 1.05  # rounding of log-probs aside


def unlogged_findings(
    log: Log, policies: Policies, k: int, rows: IntArray | None = None
) -> list[tuple[int, str]]:
    """Reasons from the probabilities of the distinct logged texts, under both policies.

    Those of policy ``k`` leave out what it writes of texts that no row holds, those of the logging
    policy the room for such texts; neither may be more than 1. ``rows``: those of a subgroup.
    """
    logged, contents = log.mass_of(rows)
    if not isinstance(policies.ell, LogRatios) or contents is None or math.isnan(logged):
        return []
    target = policies.ell.target(k)
    mass = distinct_mass(target if rows is None else target[rows], *contents)
    if mass is None:
        return []
    own = float(mass.sum())
    found = [
        (1, (
            f"The probabilities of the {mass.shape[0]:,} distinct texts under {whose} add up to "
            f"{total:.3g}, where 1 is the most: {name} holds no natural log-probs of whole texts "
            "(base 10, means per token, densities), or those given a prompt (--prompt; in Python "
            "groups=), or one text is spelt in several ways (case, blanks)."
        ))
        for whose, name, total in (
            ("the logging policy", "logp_logging", logged),
            ("this policy", "its column", own),
        )
        if total > TOO_MUCH
    ]  # fmt: skip
    share = max(1.0 - own, 0.0)
    return found or UnloggedTexts(share, share, max(1.0 - logged, 0.0)).findings()
