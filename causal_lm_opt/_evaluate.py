"""Every estimator that a log identifies, run on it: the arithmetic of the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causal_lm_opt._cells import did_you_mean
from causal_lm_opt._evaluation import (
    ESTIMATORS,
    GROUP,
    LABELS,
    LOGGING,
    MEAN,
    SPEAKERS,
    Contrast,
    Evaluation,
    Part,
    Row,
    Settings,
    Study,
)
from causal_lm_opt._sensitivity import part_sensitivity
from causal_lm_opt._studies import (
    judged_by_ratios,
    partly_drawn,
    partly_unidentified,
    question,
    study_for,
    study_of,
    unidentified,
    unreached_notes,
    with_draws,
)
from causal_lm_opt._views import PolicyView, RatioView, policy_views, ratio_views
from causal_lm_opt.comparison import differences, simultaneous_band
from causal_lm_opt.diagnostics.verdict import LEVELS, Verdict, worst
from causal_lm_opt.estimate import ValueEstimate
from causal_lm_opt.estimators import IPW, DoublyRobust, OutcomeRegression, TargetSample
from causal_lm_opt.estimators._dependence import DEPENDS, TRAIT
from causal_lm_opt.estimators._figures import repeats_finding
from causal_lm_opt.estimators._progress import track
from causal_lm_opt.exceptions import NotIdentifiedError, OverlapError
from causal_lm_opt.influence import covariance_parts, on_resamples

if TYPE_CHECKING:
    from causal_lm_opt.diagnostics.trust import TrustReport
    from causal_lm_opt.logged import LoggedData

MOST_VIEWS = 8  # policies whose plots a report holds
RATIO_RESAMPLES = 200  # refits of a cross-fitted ratio, whose noise has no first-order form
FEWEST_RESAMPLES = 20

__all__ = [
    "beside_logging",
    "evaluate_log",
    "evaluate_part",
    "question",
    "study_of",
    "unidentified",
    "with_provenance",
]


def evaluate_log(
    log: LoggedData,
    targets: Mapping[str, TargetSample] | None = None,
    *,
    settings: Settings | None = None,
    model: Any = None,
    read: str = "text",
    unit: str = "outcome",
    ratio: Any = None,
    ratio_name: str = "",
) -> Evaluation:
    """Value the target policies on a log by every estimator that the inputs identify.

    Parameters
    ----------
    log : LoggedData
    targets : mapping policy -> TargetSample, optional
        Draws or exact support of each policy.
    settings : Settings, optional
    model, read, unit, ratio, ratio_name
        As in :func:`study_of`.

    Returns
    -------
    Evaluation
        With one part.

    Raises
    ------
    ValueError
        Bad input; :class:`NotIdentifiedError` if an estimator asked for, or every estimator, lacks
        what it needs; :class:`OverlapError` if the log says nothing about the policies.

    Examples
    --------
    >>> from causal_lm_opt import LoggedData
    >>> log = LoggedData(text=["a", "b", "a", "b"], outcome=[1.0, 2.0, 3.0, 6.0])
    >>> row = evaluate_log(log).parts[0].rows[0]
    >>> row.policy, row.estimator, row.value
    ('logging policy', 'mean', 3.0)
    """
    settings = Settings() if settings is None else settings
    study = study_of(
        log, targets, model=model, read=read, unit=unit, ratio=ratio, ratio_name=ratio_name
    )
    part = evaluate_part(study, settings, key="log", title="The log")
    return Evaluation(
        title="Policy values",
        question=question(study.policies, unit),
        parts=(part,),
        level=settings.level,
    )


# ------------------------------------------------------------------------------ one part
def evaluate_part(
    study: Study, settings: Settings, *, key: str, title: str, text: str = ""
) -> Part:
    """All estimates of one study; see :func:`evaluate_log`."""
    policies = study.policies
    _check_names(policies, settings.reference)
    lacking = unidentified(study)
    asked = settings.estimators
    for name in asked or ():
        if name in lacking:
            raise NotIdentifiedError(f"estimator {name!r} cannot be used: {lacking[name]}")
    left_out = [(name, why) for name, why in lacking.items() if asked is None and policies]
    usable = [n for n in ESTIMATORS if n not in lacking and (asked is None or n in asked)]
    left_out += [
        (name, why) for name, why in partly_unidentified(study, settings) if name in usable
    ]
    logging = IPW().fit(study.X, study.outcome, **study.params("groups", "sample_weight", "by"))
    results: dict[str, Any] = {MEAN: logging}
    for name in track(usable, len(usable), "estimators"):
        try:
            results[name], study = _fitted_where_reached(name, study, settings)
        except OverlapError as error:
            if asked is not None:
                raise
            left_out.append((name, str(error)))
            if study.ratio is not None:
                study = replace(study, unreached=dict.fromkeys(policies, str(error)))
    if policies and len(results) == 1:
        raise NotIdentifiedError(
            "no estimator can value the policies: "
            + " ".join(f"{LABELS[name]}: {why}" for name, why in left_out)
        )
    _judge_by_subgroups(results, study)
    left_out += unreached_notes(study, results)
    reports = {name: x.diagnose() for name, x in results.items() if hasattr(x, "ratio_")}
    rows = _repeats_told(_rows(results, study, settings), results)
    contrasts, within = _contrasts(results, settings), _subgroup_contrasts(results, settings)
    if study.ratio is not None:
        rows, contrasts, within = judged_by_ratios(rows, contrasts, within, reports, study)
    return Part(
        key=key, title=title, text=text, unit=study.unit,
        rows=rows,
        contrasts=contrasts,
        subgroup_contrasts=within,
        left_out=tuple(left_out),
        notes=_notes(results),
        counts=dict(results[list(results)[-1]].result_.counts),
        views=_views(results, rows, study) if settings.figures else (),
        figures=settings.figures,
        sensitivity=part_sensitivity(results, rows, contrasts, study, settings)
        if settings.sensitivity else None,
        ratios=_ratio_views(results, reports, study),
    )  # fmt: skip


def _fitted_where_reached(name: str, study: Study, settings: Settings) -> tuple[Any, Study]:
    """A fitted estimator; under ``study.ratio`` of the policies that weights of the log reach.

    Returns the study too, which says which policies they do not reach.
    """
    try:
        fitted = _fitted(name, study_for(name, study), settings)
        if name in ("ht", "hajek") and study.ratio is None and partly_drawn(study):
            _judge_by_draws(fitted, _fitted(name, with_draws(study), settings))
        return fitted, study
    except OverlapError:
        if study.ratio is None or study.unreached or len(study.policies) < 2:
            raise
        study = replace(study, unreached=_unreached(study))
        if len(study.unreached) in (0, len(study.policies)):
            raise
    return _fitted(name, study_for(name, study), settings), study


def _judge_by_draws(fitted: Any, drawn: Any) -> None:
    """Give policies of which there are draws the verdicts that these make.

    ``drawn`` is of these policies alone: the weights' values are the same without the draws.
    """
    for attribute in ("result_", "result_by_"):
        if not hasattr(fitted, attribute):
            continue
        every, some = getattr(fitted, attribute), getattr(drawn, attribute)
        place = {name: k for k, name in enumerate(some.names)}
        verdicts, diagnostics = (
            tuple(
                own[place[name]] if name in place else other
                for name, other in zip(every.names, others, strict=True)
            )
            for own, others in (
                (some.verdicts, every.verdicts), (some.diagnostics, every.diagnostics)
            )
        )  # fmt: skip
        setattr(fitted, attribute, replace(every, verdicts=verdicts, diagnostics=diagnostics))


def _judge_by_subgroups(results: Mapping[str, Any], study: Study) -> None:
    """Tell outcome regression what the weights tell: that texts depend on the subgroup.

    Not where its model reads what tells the subgroups apart.
    """
    fitted = results.get("or")
    if fitted is None or "by" not in study.fit_params or _reads_subgroup(study):
        return
    for attribute in ("result_", "result_by_"):
        own = getattr(fitted, attribute, None)
        if own is None:
            continue
        others = [getattr(results.get(name), attribute, None) for name in ("hajek", "ht", "dr")]
        told = {
            policy: Verdict(LEVELS[1 if TRAIT in why else 2], (why,))
            for other in others
            if other is not None
            for policy, one in zip(other.names, other.verdicts, strict=True)
            for why in one.reasons
            if DEPENDS in why
        }
        both = zip(own.names, own.verdicts, strict=True)
        verdicts = tuple(worst([v, told[p]]) if p in told else v for p, v in both)
        setattr(fitted, attribute, replace(own, verdicts=verdicts))


def _reads_subgroup(study: Study) -> bool:
    """Whether a column beside the texts tells every row's subgroup."""
    if not isinstance(study.X, pd.DataFrame):
        return False
    by = pd.Series([str(label) for label in study.fit_params["by"]], index=study.X.index)
    features = [c for c in study.X.columns if study.X[c].dtype.kind in "biuf"]
    return any((by.groupby(study.X[c]).nunique() <= 1).all() for c in features)


def _unreached(study: Study) -> dict[str, str]:
    """The policies that no weights of the ratio reach, each with the reason."""
    lost: dict[str, str] = {}
    for policy, sample in (study.targets or {}).items():
        try:
            IPW(ratio=study.ratio, n_bootstrap=FEWEST_RESAMPLES).fit(
                study.X, study.outcome, X_target={policy: sample},
                **study.params("groups", "sample_weight"),
            )  # fmt: skip
        except OverlapError as error:
            lost[policy] = str(error)
    return lost


def _ratio_views(
    results: Mapping[str, Any], reports: Mapping[str, TrustReport], study: Study
) -> tuple[RatioView, ...]:
    """How the weights were estimated, as the first of the speakers has them."""
    if study.ratio is None:
        return ()
    name = next((n for n in SPEAKERS if n in reports), None)
    fitted, report = (None, None) if name is None else (results[name], reports[name])
    label = "" if name is None else LABELS[name]
    return ratio_views(fitted, report, label, study.ratio_name, study.unreached)


def _views(results: Mapping[str, Any], rows: Sequence[Row], study: Study) -> tuple[PolicyView, ...]:
    """What stands behind the policies with the largest values, in the order of the rows."""
    speaker = next((name for name in SPEAKERS if name in results and name != "or"), None)
    if speaker is None:
        return ()
    mine = [r for r in rows if r.estimator == speaker and not r.subgroup]
    largest = sorted(mine, key=lambda r: -r.value)[:MOST_VIEWS]
    shown = [r.policy for r in mine if r in largest]
    return policy_views(results[speaker], LABELS[speaker], study.texts, shown)


def _check_names(policies: Sequence[str], reference: str | None) -> None:
    if LOGGING in policies:
        raise ValueError(f"{LOGGING!r} is the name of the logging policy; rename that policy")
    if reference not in (None, LOGGING, *policies):
        raise ValueError(
            f"reference {reference!r} is not a policy; there are "
            f"{', '.join(map(repr, (LOGGING, *policies)))}{did_you_mean(str(reference), policies)}"
        )


def _fitted(name: str, study: Study, settings: Settings) -> Any:
    """A fitted estimator."""
    shared = ("groups", "sample_weight", "by", "logp_target", "logp_logging")
    params = study.params(*shared)
    if not {"logp_target", "logp_logging"} <= set(params):
        params = study.params(*shared[:3])
    estimator: Any
    if name in ("ht", "hajek"):
        resamples = min(settings.n_bootstrap, RATIO_RESAMPLES)
        estimator = IPW(name, ratio=study.ratio, n_bootstrap=resamples, random_state=settings.seed)
    elif name == "or":
        estimator = OutcomeRegression(
            study.model, n_bootstrap=settings.n_bootstrap, random_state=settings.seed
        )
    else:
        estimator = DoublyRobust(
            study.model, ratio=study.ratio, cv=settings.cv, random_state=settings.seed
        )
    return estimator.fit(study.X, study.outcome, X_target=study.targets, **params)


def _rows(results: Mapping[str, Any], study: Study, settings: Settings) -> tuple[Row, ...]:
    """All values, policy by policy; subgroups follow everyone."""
    rows: list[Row] = []
    for attribute in ("result_", "result_by_"):
        found = [
            row
            for name, fitted in results.items()
            if hasattr(fitted, attribute)
            for row in _rows_of(
                getattr(fitted, attribute), fitted.result_.names, name, study.truth, settings
            )
        ]
        order = {name: i for i, name in enumerate(dict.fromkeys(r.name for r in found))}
        rows += sorted(found, key=lambda row: order[row.name])
    return tuple(rows)


def _repeats_told(rows: Sequence[Row], results: Mapping[str, Any]) -> tuple[Row, ...]:
    """Texts that repeat too often for independent rows, told of the logging policy's mean too.

    Its own estimator is given no log-probs to see it by.
    """
    fits = (results[name] for name in SPEAKERS if name in results)
    why = next((why for fitted in fits for _, why in repeats_finding(fitted.log_)), "")
    if not any(why in row.reasons for row in rows):
        return tuple(rows)

    def told(row: Row) -> Row:
        both = worst([Verdict(row.verdict, row.reasons), Verdict(LEVELS[1], (why,))])
        return replace(row, verdict=both.level, reasons=both.reasons)

    return tuple(told(row) if row.estimator == MEAN else row for row in rows)


def _rows_of(
    result: ValueEstimate, policies: Sequence[str], estimator: str, truth: Mapping[str, float],
    settings: Settings,
) -> list[Row]:  # fmt: skip
    """Values of the policies, of all rows or of each policy's subgroups in turn."""
    each = len(result.names) // len(policies)
    whose = [policy for policy in policies for _ in range(each)]
    groups = [
        n.removeprefix(p + GROUP) if n != p else ""
        for n, p in zip(result.names, whose, strict=True)
    ]
    frame = result.to_frame(settings.level)
    bands = {} if any(groups) else _bands(result, settings)
    return [
        Row(
            policy=policy, estimator=estimator, value=float(r["value"]), se=float(r["se"]),
            lower=float(r["ci_lower"]), upper=float(r["ci_upper"]), verdict=verdict.level,
            reasons=verdict.reasons, figures=dict(figures), subgroup=group,
            truth=None if group else truth.get(policy), band=bands.get(policy),
        )
        for policy, group, r, verdict, figures in zip(
            whose, groups, frame.to_dict("records"), result.verdicts, result.diagnostics,
            strict=True,
        )
    ]  # fmt: skip


def _bands(result: ValueEstimate, settings: Settings) -> dict[str, tuple[float, float]]:
    """Bands that hold for all usable policies together, where there are several."""
    usable = [k for k, v in enumerate(result.verdicts) if v.level != LEVELS[-1]]
    if len(usable) < 2:
        return {}
    found = result.select(usable)
    bands = found.compare(level=settings.level, random_state=settings.seed).bands
    return {
        name: (float(low), float(high))
        for name, (low, high) in zip(found.names, bands, strict=True)
    }


def beside_logging(result: ValueEstimate, logging: ValueEstimate) -> ValueEstimate:
    """Values of K policies and of the logging policy on the same rows, as one estimate of K + 1.

    Of subgroups, all policies' values are followed by the logging policy's.
    """
    k, more = len(result.names), len(logging.names)
    names = (*result.names, *(logging.names if more > 1 else (LOGGING,)))
    padded = result.linear(np.vstack([np.eye(k), np.zeros((more, k))]), names)
    last = np.vstack([np.zeros((k, more)), np.eye(more)])
    return padded + logging.linear(last, names)


def _contrasts(results: Mapping[str, Any], settings: Settings) -> tuple[Contrast, ...]:
    reference = settings.reference or LOGGING
    logging = results[MEAN].result_
    out: list[Contrast] = []
    for name, fitted in results.items():
        if name == MEAN:
            continue
        joint = beside_logging(fitted.result_, logging)
        if reference not in joint.names:
            continue
        comparison = joint.compare(reference, level=settings.level, random_state=settings.seed)
        others = [policy for policy in joint.names if policy != reference]
        table = comparison.to_frame().to_dict("records")
        told = comparison.contrasts.verdicts
        for policy, r, one in zip(others, table, told, strict=True):
            out.append(
                Contrast(
                    policy=policy, reference=reference, estimator=name, value=float(r["value"]),
                    se=float(r["se"]), lower=float(r["ci_lower"]), upper=float(r["ci_upper"]),
                    band_lower=float(r["band_lower"]), band_upper=float(r["band_upper"]),
                    verdict=str(r["verdict"]), reasons=one.reasons,
                )
            )  # fmt: skip
    order = {policy: i for i, policy in enumerate(dict.fromkeys(c.policy for c in out))}
    return tuple(sorted(out, key=lambda c: order[c.policy]))


def _subgroup_contrasts(results: Mapping[str, Any], settings: Settings) -> tuple[Contrast, ...]:
    """Differences from the reference within each subgroup, policy by policy."""
    reference = settings.reference or LOGGING
    logging = getattr(results[MEAN], "result_by_", None)
    if logging is None:
        return ()
    head = results[MEAN].result_.names[0] + GROUP
    labels = [name.removeprefix(head) for name in logging.names]
    out: list[Contrast] = []
    for name, fitted in results.items():
        policies = [*fitted.result_.names, LOGGING]
        values = getattr(fitted, "result_by_", None)  # none of draws that do not say theirs
        if name == MEAN or values is None or reference not in policies:
            continue
        joint = beside_logging(values, logging)
        base, size = policies.index(reference), len(labels)
        cells = [(p, b) for p in range(len(policies)) if p != base for b in range(size)]
        found = differences(joint, [(p * size + b, base * size + b) for p, b in cells])
        bands = simultaneous_band(found, level=settings.level, random_state=settings.seed)
        table = found.to_frame(settings.level).to_dict("records")
        told = found.verdicts
        for (p, b), r, band, one in zip(cells, table, bands, told, strict=True):
            if not float(r["se"]) > 0.0:  # rows that do not differ: no error is known
                continue
            out.append(
                Contrast(
                    policy=policies[p], reference=reference, estimator=name,
                    value=float(r["value"]), se=float(r["se"]), lower=float(r["ci_lower"]),
                    upper=float(r["ci_upper"]), band_lower=float(band[0]),
                    band_upper=float(band[1]), verdict=str(r["verdict"]), subgroup=labels[b],
                    reasons=one.reasons,
                )
            )  # fmt: skip
    order = {side: i for i, side in enumerate(dict.fromkeys(c.sides for c in out))}
    return tuple(sorted(out, key=lambda c: order[c.sides]))


def _notes(results: Mapping[str, Any]) -> tuple[str, ...]:
    notes = [
        f"{LABELS[name].capitalize()}. {note}"
        for name, fitted in results.items()
        if name != MEAN
        for note in fitted.result_.notes
    ]
    logging = results[MEAN].result_.samples
    alone = [
        LABELS[name]
        for name, fitted in results.items()
        if any(s.role == "replicates" for s in fitted.result_.samples)
        and on_resamples(logging, fitted.result_.samples)[0].role == "logged"
    ]
    if alone:
        notes.append(
            f"Contrasts of {' and '.join(alone)} with the logging policy's mean take the two as "
            "independent: texts are held fixed, and only their readers are resampled."
        )
    return (*notes, *_draws_notes(results))


def _draws_notes(results: Mapping[str, Any]) -> list[str]:
    """Where the draws, not the log, are what makes differences from the logging policy wide.

    Much of the log's noise is in both values and cancels; that of the draws is in one.
    """
    logging, said = results[MEAN].result_, []
    for name, fitted in results.items():
        apart = fitted.result_ - logging if name != MEAN else None
        if apart is None or not any(s.role == "target" for s in apart.samples):
            continue
        draws = [s for s in apart.samples if s.role == "target"]
        parts = [np.diagonal(cov) for cov, _ in covariance_parts(draws)]
        share = np.max(sum(parts) / np.maximum(np.square(apart.se), np.finfo(float).tiny))
        if share > 0.5:
            more = "draws" if all(s.codes is None for s in draws) else "draws, of more prompts,"
            said.append(
                f"{LABELS[name].capitalize()}. Up to {min(share, 1.0):.0%} of the variance of the "
                f"differences from the logging policy comes from the draws: more {more} would "
                "narrow them."
            )
    return said


def with_provenance(
    evaluation: Evaluation, provenance: Mapping[str, Any], messages: Sequence[str] = ()
) -> Evaluation:
    """The evaluation with where it came from and the warnings met on the way."""
    return replace(evaluation, provenance=dict(provenance), warnings=tuple(messages))
