"""What is asked of a log: its policies, their draws, and what the inputs do not identify."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from causal_lm_opt._cells import did_you_mean
from causal_lm_opt._evaluation import (
    ESTIMATORS,
    LOGGING,
    SPEAKERS,
    Contrast,
    Row,
    Settings,
    Study,
)
from causal_lm_opt.diagnostics.verdict import LEVELS, Verdict, worst
from causal_lm_opt.estimators import TargetSample
from causal_lm_opt.exceptions import EstimationWarning

if TYPE_CHECKING:
    from causal_lm_opt.diagnostics.trust import TrustReport
    from causal_lm_opt.logged import LoggedData

__all__ = [
    "judged_by_ratios",
    "partly_drawn",
    "partly_unidentified",
    "question",
    "study_for",
    "study_of",
    "unidentified",
    "unreached_notes",
    "with_draws",
]

MODEL_BASED = ("or", "dr")
WEIGHTED = ("hajek", "dr")
SUBGROUPS = (
    "it has no values by subgroup, which need the subgroup of every draw: give the draws file the "
    "column that --by names."
)

NO_SUBGROUPS = "it has no values by subgroup: its model does not tell readers apart."
NO_RATIO_HT = (
    "its weights are not scaled to average 1, which weights estimated from texts need; Hajek's are."
)


def study_of(
    log: LoggedData,
    targets: Mapping[str, TargetSample] | None = None,
    *,
    model: Any = None,
    read: str = "text",
    unit: str = "outcome",
    ratio: Any = None,
    ratio_name: str = "",
) -> Study:
    """A study of a :class:`causal_lm_opt.LoggedData`.

    Parameters
    ----------
    log : LoggedData
    targets : mapping policy -> TargetSample, optional
        Rows in the layout that ``read`` names.
    model : outcome model, optional
    read : {"text", "features", "both"}
        What the model (and the ratio) reads: the texts, the log's covariates, or a frame of both.
    unit : str
    ratio, ratio_name
        As in :class:`Study`.
    """
    X: Any = log.text if read == "text" else log.covariates if read == "features" else log.X
    if targets is not None and log.policies:
        targets = _matched(log.policies, targets)
    return Study(
        X, log.outcome, log.fit_params(), targets, model, unit, texts=log.text, ratio=ratio,
        ratio_name=ratio_name,
    )  # fmt: skip


def _matched(logged: Sequence[str], targets: Mapping[str, TargetSample]) -> dict[str, TargetSample]:
    """The targets of the log's policies, in its order; says which policies lack a side.

    Raises
    ------
    ValueError
        If both sides name a policy that the other lacks (a misspelt name), or share none.
    """
    missing = [name for name in logged if name not in targets]
    extra = [name for name in targets if name not in logged]
    if extra and missing:
        raise ValueError(
            f"the draws hold policy {extra[0]!r}, which is not among the policies with "
            f"log-probabilities in the log ({_listed(logged)}), and no rows of policy "
            f"{missing[0]!r}{did_you_mean(extra[0], missing)}"
        )
    if missing:
        warnings.warn(
            f"the draws hold no rows of {_policies(missing)}: outcome regression and the doubly "
            "robust estimator leave that out, the weights alone value it, and its verdicts are "
            "made without draws. Add draws for more than that.",
            EstimationWarning,
            stacklevel=4,
        )
    if extra:
        warnings.warn(
            f"the draws of {_policies(extra)} are not used: no log-probabilities in the log are "
            "named for that (--policy NAME=COL).",
            EstimationWarning,
            stacklevel=4,
        )
    return {name: targets[name] for name in logged if name in targets}


def _policies(names: Sequence[str]) -> str:
    return f"{'policy' if len(names) == 1 else 'policies'} {_listed(names)}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))


def question(policies: Sequence[str], unit: str) -> str:
    """The question that an evaluation answers, in words."""
    if not policies:
        return f"What was the mean of {unit} under the policy that wrote the logged texts?"
    who = policies[0] if len(policies) == 1 else "each of these policies"
    return (
        f"What would the mean of {unit} have been, had {who} written the texts instead of the "
        "policy that did?"
    )


def unidentified(study: Study) -> dict[str, str]:
    """The estimators that the inputs do not identify, each with what is lacking."""
    if study.ratio is not None:
        return {"ht": NO_RATIO_HT}
    sides = {
        "logp_target": "the target policies (--policy NAME=COL)",
        "logp_logging": "the logging policy (--logp-logging COL)",
    }
    missing = [said for name, said in sides.items() if name not in study.fit_params]
    logp = not missing
    no_logp = f"it needs log-probabilities of the logged texts under {' and '.join(missing)}."
    no_draws = "it needs draws of the target policies, or their exact support (--draws FILE)."
    lacking: dict[str, str] = {}
    if not logp:
        lacking |= dict.fromkeys(("ht", "hajek"), no_logp)
    if study.targets is None:
        lacking["or"] = no_draws
    if not logp or study.targets is None:
        lacking["dr"] = no_logp if not logp else no_draws
    return {name: lacking[name] for name in ESTIMATORS if name in lacking}


def partly_unidentified(study: Study, settings: Settings) -> list[tuple[str, str]]:
    """Estimators that the inputs identify in part, each with what it leaves out."""
    if study.targets is None:
        return []
    found: list[tuple[str, str]] = []
    missing = [name for name in study.policies if name not in study.targets]
    if missing:
        why = f"it leaves out {_policies(missing)}, of which there are no draws."
        if settings.reference in missing:
            why += " There are no contrasts with it either."
        found += [(name, why) for name in MODEL_BASED]
    if _no_subgroups(study):
        found.append(("or", SUBGROUPS if study.ratio is None else NO_SUBGROUPS))
    return found


def _no_subgroups(study: Study) -> bool:
    """Whether subgroups are asked for and some draws do not say theirs."""
    targets = (study.targets or {}).values()
    return "by" in study.fit_params and any(sample.by is None for sample in targets)


def study_for(estimator: str, study: Study) -> Study:
    """The part of a study that an estimator (key of ``ESTIMATORS``) can value."""
    if study.targets is None:
        return study
    if study.ratio is not None and estimator in WEIGHTED:
        reached = {name: x for name, x in study.targets.items() if name not in study.unreached}
        return replace(study, targets=reached or study.targets)
    if estimator not in MODEL_BASED:  # draws serve the verdict alone: see `with_draws`
        return replace(study, targets=None) if partly_drawn(study) else study
    study = with_draws(study)
    if estimator == "or" and _no_subgroups(study):
        # A model's values would be the same in every subgroup, were they formed.
        params = {name: x for name, x in study.fit_params.items() if name != "by"}
        return replace(study, fit_params=params)
    return study


def partly_drawn(study: Study) -> bool:
    """Whether there are draws of some policies that log-probs state, and not of all."""
    return study.targets is not None and len(study.targets) < len(study.policies)


def with_draws(study: Study) -> Study:
    """A study of the policies of which there are draws."""
    given = study.fit_params.get("logp_target")
    if given is None or study.targets is None or not partly_drawn(study):
        return study
    some = {name: given[name] for name in study.targets}
    return replace(study, fit_params={**study.fit_params, "logp_target": some})


# ------------------------------------------------------------------------------ estimated ratios
MUCH_UNSEEN = 0.5  # of a policy's texts: any value of theirs is then extrapolation
FAR = 0.25  # standard deviations between weighted log and policy's texts
FAR_Z = 3.29  # two-sided level .001
UNREACHED = "The model's value of this policy is extrapolation. "
BEYOND = (
    "{:.0%} of the policy's texts lie beyond every logged text by the estimated ratio, so that its "
    "value is extrapolation, which no logged outcome checks."
)
APART = (
    "After weighting, log and policy's texts still differ in readable features, most of all in "
    "{!r} ({:.1f} standard deviations): wrong where outcomes respond to that and the outcome model "
    "does not know how."
)


def unreached_notes(study: Study, results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Estimators that value some policies and not those that no estimated weights reach."""
    return [
        (name, f"it leaves out {_policies([policy])}: {why}")
        for policy, why in study.unreached.items()
        for name in WEIGHTED
        if name in results
    ]


def judged_by_ratios(
    rows: Sequence[Row],
    contrasts: Sequence[Contrast],
    within: Sequence[Contrast],
    reports: Mapping[str, TrustReport],
    study: Study,
) -> tuple[tuple[Row, ...], tuple[Contrast, ...], tuple[Contrast, ...]]:
    """Rows and differences with verdicts no better than the estimators' own trust reports.

    These know of features to which outcomes respond and which the weights leave unbalanced. All
    are told where most of the policy's texts lie beyond the logged ones, since then the outcome
    model extrapolates, and where weighted log and texts are far apart in a readable feature.

    Parameters
    ----------
    rows, contrasts, within : sequences
        Values, differences, differences within subgroups.
    reports : mapping estimator key -> TrustReport
        Of the estimators with an estimated ratio.
    study : Study
    """
    found = {
        (name, policy): (verdict, figures)
        for name, report in reports.items()
        for policy, verdict, figures in zip(
            report.names, report.verdicts, report.figures, strict=True
        )
    }
    beyond = _beyond(reports, study)
    judged = []
    for row in rows:
        own, figures = found.get((row.estimator, row.name), (Verdict(LEVELS[0]), row.figures))
        verdict = worst([Verdict(row.verdict, row.reasons), own, *beyond.get(row.policy, ())])
        judged.append(
            replace(row, verdict=verdict.level, reasons=verdict.reasons, figures=dict(figures))
        )
    levels = {(r.name, r.estimator): r.verdict for r in judged}
    over_all, inside = (tuple(_no_better(c, levels) for c in some) for some in (contrasts, within))
    return tuple(judged), over_all, inside


def _beyond(reports: Mapping[str, TrustReport], study: Study) -> dict[str, tuple[Verdict, ...]]:
    """What the ratios say of any value of each policy."""
    out: dict[str, tuple[Verdict, ...]] = {
        p: (Verdict(LEVELS[2], (UNREACHED + why,)),) for p, why in study.unreached.items()
    }
    speaker = next((name for name in SPEAKERS if name in reports), None)
    if speaker is None:
        return out
    report = reports[speaker]
    for policy, figures, detail in zip(report.names, report.figures, report.details, strict=True):
        said = []
        unseen = float(figures.get("ratio_unseen_mass", 0.0))
        if unseen > MUCH_UNSEEN:
            said.append(Verdict(LEVELS[2], (BEYOND.format(unseen),)))
        if detail.balance is not None:
            lines = detail.balance.table
            off = lines["smd_weighted"].abs().where(lines["z"].abs() > FAR_Z, 0.0).to_numpy(float)
            if off.max() > FAR:
                name = str(lines["feature"].iloc[int(off.argmax())])
                said.append(Verdict(LEVELS[1], (APART.format(name, off.max()),)))
        out[policy] = tuple(said)
    return out


def _no_better(contrast: Contrast, levels: Mapping[tuple[str, str], str]) -> Contrast:
    """The difference with a verdict no better than its two values'."""
    own = [
        levels.get((side, contrast.estimator), LEVELS[0])
        for side, policy in zip(contrast.sides, (contrast.policy, contrast.reference), strict=True)
        if policy != LOGGING
    ]
    level = max([contrast.verdict, *own], key=LEVELS.index)
    return replace(contrast, verdict=level)
