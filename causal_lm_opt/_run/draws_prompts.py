"""Draws that do not say what they answer, where the log's texts answer prompts.

Draws of the log's prompts are weighted to its frequencies of prompts where prompts are the
clusters. Where others are, the draws must have the log's mix of prompts. Where it is unknown, or
another one, no verdict on a value that averages over draws is better than caution.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from causal_lm_opt._evaluation import Contrast, Evaluation, Part, Row
from causal_lm_opt._parts import cluster_label
from causal_lm_opt.diagnostics.verdict import FEW_CLUSTERS, LEVELS, Verdict, worst
from causal_lm_opt.estimators._policies import to_logged_frequencies

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from causal_lm_opt._run.log import Request
    from causal_lm_opt.estimators import TargetSample
    from causal_lm_opt.logged import LoggedData

__all__ = ["cautioned", "unprompted"]

UNPROMPTED = (
    "The draws do not say their prompt: right only if they are spread over prompts as the log is; "
    "give the draws file the column {!r}."
)
OTHER_PROMPTS = (
    "The draws answer none of the log's prompts ({!r}): right only if the policies write for these "
    "as for the log's."
)
OTHER_MIX = (
    "The draws' mix of prompts is not the log's ({!r}): {:.0%} of them would have to answer other "
    "prompts, and values that average over draws are of their mix. Draw for prompts as often as "
    "the log has them."
)
BY_PROMPTS = (
    " (Without --group draws are weighted to the log's prompts, which are then the clusters, and "
    "the only ones.)"
)
ONE_MIX = 0.05  # total variation: draws that would have to answer other prompts
READ_DRAWS = ("or", "dr")  # what averages over draws; weights estimated from texts, all do


UNREAD = (
    "Neither the weights nor the outcome model read the prompts ({!r}): right only if the policy "
    "prefers the same texts under every prompt, and outcomes do; log-probabilities do read them."
)


def with_unread(
    reasons: Mapping[str, str], log: LoggedData, policies: Iterable[str], column: str | None
) -> dict[str, str]:
    """The reasons, and that estimated weights do not read prompts, where there are several."""
    if column is None or log.prompt is None or len(set(log.prompt)) < 2:
        return dict(reasons)
    said = UNREAD.format(column)
    return {p: f"{reasons[p]} {said}" if p in reasons else said for p in policies}


def unprompted(
    log: LoggedData,
    targets: Mapping[str, TargetSample],
    request: Request,
    prompts: Mapping[str, NDArray[np.object_]],
) -> dict[str, str]:
    """The policies whose draws are not known to be of the log's prompts, each with the reason.

    None where all logged texts answer one prompt, or an exact support is listed. ``prompts`` are
    those of the draws (m,) by policy, where the clusters are others and the file has them.
    """
    column = request.prompt
    if column is None or request.support or log.prompt is None or len(set(log.prompt)) < 2:
        return {}
    grouped = request.group is not None
    logged = [cluster_label(prompt) for prompt in log.prompt]
    found = {}
    for policy, sample in targets.items():
        drawn = prompts.get(policy) if grouped else sample.groups
        if drawn is None:
            found[policy] = UNPROMPTED.format(column)
        elif set(logged).isdisjoint(drawn.tolist()):
            found[policy] = OTHER_PROMPTS.format(column)
        elif grouped and (apart := _mixes_apart(log, logged, sample, drawn)) > ONE_MIX:
            many = len(set(logged)) >= FEW_CLUSTERS  # of fewer as clusters intervals are rough
            found[policy] = OTHER_MIX.format(column, apart) + BY_PROMPTS * many
    return found


def _mixes_apart(
    log: LoggedData, logged: list[str], sample: TargetSample, drawn: NDArray[np.object_]
) -> float:
    """Total variation of the mixes of prompts in log and draws, both as estimates count them.

    Not a test: draws that differ by chance alone are another mix too, which their weights mend.
    """
    m = drawn.shape[0]
    given = np.ones(m) if sample.weight is None else np.asarray(sample.weight, dtype=np.float64)
    weight = _by_logged_clusters(sample.groups, given, log)
    shares = [
        pd.Series(w).groupby(np.asarray(prompts, dtype=object)).sum() / w.sum()
        for prompts, w in ((logged, _frequency(log)), (drawn, weight))
    ]
    return float(shares[0].sub(shares[1], fill_value=0.0).abs().sum() / 2.0)


def _frequency(log: LoggedData) -> NDArray[np.float64]:
    return np.ones(len(log)) if log.sample_weight is None else log.sample_weight


def _by_logged_clusters(
    groups: NDArray[np.object_] | None, weight: NDArray[np.float64], log: LoggedData
) -> NDArray[np.float64]:
    """Frequencies (m,) of draws as estimators count them: by the log's clusters where shared.

    Draws of other clusters than the log's then count 0.
    """
    if groups is None or log.groups is None:
        return weight
    codes, names = pd.factorize(log.groups)
    at = pd.Index(names).get_indexer(pd.Index(groups))
    kept = at >= 0
    if not kept.any():
        return weight
    out = np.zeros(weight.shape[0])
    count = np.bincount(codes, weights=_frequency(log), minlength=names.size).astype(np.float64)
    out[kept] = to_logged_frequencies(weight[kept], at[kept], count)
    return out


def cautioned(
    evaluation: Evaluation, reasons: Mapping[str, str], *, ratio: bool, cause: bool = False
) -> Evaluation:
    """The evaluation with verdicts no better than caution on what rests on these draws.

    Parameters
    ----------
    evaluation : Evaluation
    reasons : mapping policy -> reason
    ratio : bool
        The weights were estimated from the draws, so that every value rests on them.
    cause : bool
        The reasons are what may have brought about the others, and come first.
    """
    if not reasons:
        return evaluation
    parts = tuple(
        _cautioned_part(part, reasons, ratio=ratio, cause=cause) for part in evaluation.parts
    )
    return replace(evaluation, parts=parts)


def _cautioned_part(part: Part, reasons: Mapping[str, str], *, ratio: bool, cause: bool) -> Part:
    def rests(policy: str, estimator: str) -> bool:
        return policy in reasons and (ratio or estimator in READ_DRAWS)

    def row(given: Row) -> Row:
        if not rests(given.policy, given.estimator):
            return given
        own = Verdict(given.verdict, given.reasons)
        why = reasons[given.policy]
        both = worst([own, Verdict(LEVELS[1], (why,))])
        ordered = dict.fromkeys((why, *both.reasons)) if cause else both.reasons
        return replace(given, verdict=both.level, reasons=tuple(ordered))

    def contrast(given: Contrast) -> Contrast:
        sides = (given.policy, given.reference)
        if not any(rests(side, given.estimator) for side in sides):
            return given
        return replace(given, verdict=max(given.verdict, LEVELS[1], key=LEVELS.index))

    return replace(
        part, rows=tuple(map(row, part.rows)), contrasts=tuple(map(contrast, part.contrasts)),
        subgroup_contrasts=tuple(map(contrast, part.subgroup_contrasts)),
    )  # fmt: skip
