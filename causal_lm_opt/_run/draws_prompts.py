"""Draws that do not say what they answer, where the log's texts answer prompts.

Draws of the log's prompts are weighted to its frequencies of prompts. Those that do not say their
prompt cannot be, so that no verdict on a value that averages over them is better than caution.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from causal_lm_opt._evaluation import Contrast, Evaluation, Part, Row
from causal_lm_opt.diagnostics.verdict import LEVELS, Verdict, worst

if TYPE_CHECKING:
    from causal_lm_opt._run.log import Request
    from causal_lm_opt.estimators import TargetSample
    from causal_lm_opt.logged import LoggedData

__all__ = ["cautioned", "unprompted"]

UNPROMPTED = (
    "The draws do not say their prompt: right only if they are spread over prompts as the log is; "
    "give the draws file the column {!r}{}."
)
OTHER_PROMPTS = (
    "The draws answer none of the log's prompts ({!r}): right only if the policies write for these "
    "as for the log's."
)
READ_DRAWS = ("or", "dr")  # what averages over draws; weights estimated from texts, all do


def unprompted(
    log: LoggedData, targets: Mapping[str, TargetSample], request: Request
) -> dict[str, str]:
    """The policies whose draws are not known to be of the log's prompts, each with the reason.

    None where all logged texts answer one prompt, or an exact support is listed.
    """
    column = request.prompt
    if column is None or request.support or log.prompt is None or len(set(log.prompt)) < 2:
        return {}
    if request.group is not None:
        lacking = UNPROMPTED.format(column, " and leave out --group")
        return {p: lacking for p, s in targets.items() if s.groups is None}
    logged = set() if log.groups is None else set(log.groups.tolist())
    found = {}
    for policy, sample in targets.items():
        if sample.groups is None:
            found[policy] = UNPROMPTED.format(column, "")
        elif logged.isdisjoint(sample.groups.tolist()):
            found[policy] = OTHER_PROMPTS.format(column)
    return found


def cautioned(evaluation: Evaluation, reasons: Mapping[str, str], *, ratio: bool) -> Evaluation:
    """The evaluation with verdicts no better than caution on what rests on these draws.

    Parameters
    ----------
    evaluation : Evaluation
    reasons : mapping policy -> reason
    ratio : bool
        The weights were estimated from the draws, so that every value rests on them.
    """
    if not reasons:
        return evaluation
    parts = tuple(_cautioned_part(part, reasons, ratio=ratio) for part in evaluation.parts)
    return replace(evaluation, parts=parts)


def _cautioned_part(part: Part, reasons: Mapping[str, str], *, ratio: bool) -> Part:
    def rests(policy: str, estimator: str) -> bool:
        return policy in reasons and (ratio or estimator in READ_DRAWS)

    def row(given: Row) -> Row:
        # A subgroup's policy carries its label.
        name = given.policy.rpartition(" | ")[0] if given.subgroup else given.policy
        if not rests(name, given.estimator):
            return given
        own = Verdict(given.verdict, given.reasons)
        both = worst([own, Verdict(LEVELS[1], (reasons[name],))])
        return replace(given, verdict=both.level, reasons=both.reasons)

    def contrast(given: Contrast) -> Contrast:
        sides = (given.policy, given.reference)
        if not any(rests(side, given.estimator) for side in sides):
            return given
        return replace(given, verdict=max(given.verdict, LEVELS[1], key=LEVELS.index))

    return replace(
        part, rows=tuple(map(row, part.rows)), contrasts=tuple(map(contrast, part.contrasts))
    )
