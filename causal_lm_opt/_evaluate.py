"""Every estimator that a log identifies, run on it: the arithmetic of the command line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
import warnings

import numpy as np
import numpy.typing as npt

from causal_lm_opt._cells import did_you_mean
from causal_lm_opt.estimate import ValueEstimate
from causal_lm_opt.estimators import IPW, DoublyRobust, OutcomeRegression, TargetSample
from causal_lm_opt.exceptions import NotIdentifiedError, OverlapError

if TYPE_CHECKING:
    from causal_lm_opt.logged import LoggedData

__all__ = [
    "ESTIMATORS",
    "LOGGING",
    "Contrast",
    "Evaluation",
    "Part",
    "Row",
    "Settings",
    "Study",
    "Table",
    "collected_warnings",
    "evaluate_log",
    "evaluate_part",
    "study_of",
]

LOGGING = "logging policy"
MEAN = "mean"
#: Estimators by their short names, in the order of tables.
ESTIMATORS = {
    "ht": "Horvitz-Thompson",
    "hajek": "Hajek",
    "or": "outcome regression",
    "dr": "doubly robust",
}
LABELS = {MEAN: "sample mean", **ESTIMATORS}


# ------------------------------------------------------------------------------ what is asked
@dataclass(frozen=True)
class Settings:
    """How to evaluate.

    Attributes
    ----------
    estimators : tuple of str, optional
        Keys of ``ESTIMATORS``; by default all that the inputs identify.
    cv, n_bootstrap, seed : int
        Folds, bootstrap replicates (where outcome regression needs them), seed.
    level : float
        Confidence level.
    reference : str, optional
        Policy that contrasts are taken with; by default the logging policy.
    """

    estimators: tuple[str, ...] | None = None
    cv: int = 5
    level: float = 0.95
    seed: int = 0
    n_bootstrap: int = 200
    reference: str | None = None


@dataclass(frozen=True, eq=False)
class Study:
    """A log with its target policies, ready for ``fit``.

    Attributes
    ----------
    X : sequence of n texts, or DataFrame (n, d)
        What the outcome model reads.
    outcome : array, shape (n,)
    fit_params : mapping
        ``logp_target``, ``logp_logging``, ``groups``, ``sample_weight``, ``by``; absent ones left
        out.
    targets : mapping policy -> TargetSample, optional
    model : outcome model, optional
    unit : str
        Name of the outcome.
    truth : mapping policy -> float
        True values, where they are known.
    """

    X: Any
    outcome: npt.NDArray[np.float64]
    fit_params: Mapping[str, Any]
    targets: Mapping[str, TargetSample] | None = None
    model: Any = None
    unit: str = "outcome"
    truth: Mapping[str, float] = field(default_factory=dict)

    @property
    def policies(self) -> tuple[str, ...]:
        """Names of the target policies."""
        given = self.fit_params.get("logp_target")
        if given is None:
            return tuple(self.targets or ())
        return tuple(str(name) for name in given)

    def params(self, *names: str) -> dict[str, Any]:
        """Those of the named fit parameters that there are."""
        return {name: self.fit_params[name] for name in names if name in self.fit_params}


# ------------------------------------------------------------------------------ what comes back
@dataclass(frozen=True)
class Row:
    """One value with its interval and verdict; ``policy`` may carry a subgroup."""

    policy: str
    estimator: str
    value: float
    se: float
    lower: float
    upper: float
    verdict: str
    reasons: tuple[str, ...]
    figures: Mapping[str, Any]
    truth: float | None = None

    @property
    def label(self) -> str:
        """The estimator in words."""
        return LABELS[self.estimator]

    @property
    def covers(self) -> bool | None:
        """Whether the interval holds the truth; ``None`` where the truth is not known."""
        return None if self.truth is None else self.lower <= self.truth <= self.upper


@dataclass(frozen=True)
class Contrast:
    """Difference of two policies' values, with pointwise interval and simultaneous band."""

    policy: str
    reference: str
    estimator: str
    value: float
    se: float
    lower: float
    upper: float
    band_lower: float
    band_upper: float
    verdict: str

    @property
    def label(self) -> str:
        """The estimator in words."""
        return LABELS[self.estimator]


@dataclass(frozen=True)
class Table:
    """A further table of a report: column names and rows of cells."""

    title: str
    text: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class Part:
    """All estimates on one log.

    Attributes
    ----------
    key, title, text : str
    unit : str
        Name of the outcome.
    rows, contrasts : tuples
    left_out : tuple of (estimator key, reason)
    notes : tuple of str
    counts : mapping
    """

    key: str
    title: str
    text: str
    unit: str
    rows: tuple[Row, ...]
    contrasts: tuple[Contrast, ...]
    left_out: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    counts: Mapping[str, float]


@dataclass(frozen=True)
class Evaluation:
    """What a run of the command line found.

    Attributes
    ----------
    title : str
    question : str
    parts : tuple of Part
    tables : tuple of Table
    notes, warnings : tuples of str
    level : float
    provenance : mapping
        JSON-safe: command, arguments, seed, inputs, versions.
    """

    title: str
    question: str
    parts: tuple[Part, ...]
    level: float
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)


# ------------------------------------------------------------------------------ from a log
def study_of(
    log: LoggedData,
    targets: Mapping[str, TargetSample] | None = None,
    *,
    model: Any = None,
    read: str = "text",
    unit: str = "outcome",
) -> Study:
    """A study of a :class:`causal_lm_opt.LoggedData`.

    Parameters
    ----------
    log : LoggedData
    targets : mapping policy -> TargetSample, optional
        Rows in the layout that ``read`` names.
    model : outcome model, optional
    read : {"text", "features", "both"}
        What the model reads: the texts, the log's covariates, or a frame of both.
    unit : str
    """
    X: Any = log.text if read == "text" else log.covariates if read == "features" else log.X
    if targets is not None and log.policies:
        _same_policies(log.policies, list(targets))
    return Study(X, log.outcome, log.fit_params(), targets, model, unit)


def _same_policies(logged: Sequence[str], drawn: Sequence[str]) -> None:
    for name in drawn:
        if name not in logged:
            raise ValueError(
                f"the draws hold policy {name!r}, which is not among the policies with "
                f"log-probabilities in the log ({', '.join(map(repr, logged))})"
                f"{did_you_mean(name, logged)}"
            )
    for name in logged:
        if name not in drawn:
            raise ValueError(
                f"the draws hold no rows of policy {name!r}; they hold "
                f"{', '.join(map(repr, drawn))}{did_you_mean(name, drawn)}"
            )


def evaluate_log(
    log: LoggedData,
    targets: Mapping[str, TargetSample] | None = None,
    *,
    settings: Settings | None = None,
    model: Any = None,
    read: str = "text",
    unit: str = "outcome",
) -> Evaluation:
    """Value the target policies on a log by every estimator that the inputs identify.

    Parameters
    ----------
    log : LoggedData
    targets : mapping policy -> TargetSample, optional
        Draws or exact support of each policy.
    settings : Settings, optional
    model, read, unit
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
    study = study_of(log, targets, model=model, read=read, unit=unit)
    part = evaluate_part(study, settings, key="log", title="The log")
    return Evaluation(
        title="Policy values",
        question=question(study.policies, unit),
        parts=(part,),
        level=settings.level,
    )


def question(policies: Sequence[str], unit: str) -> str:
    """The question that an evaluation answers, in words."""
    if not policies:
        return f"What was the mean of {unit} under the policy that wrote the logged texts?"
    who = policies[0] if len(policies) == 1 else "each of these policies"
    return (
        f"What would the mean of {unit} have been, had {who} written the texts instead of the "
        "policy that did?"
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
    logging = IPW().fit(study.X, study.outcome, **study.params("groups", "sample_weight", "by"))
    results: dict[str, Any] = {MEAN: logging}
    for name in [n for n in ESTIMATORS if n not in lacking and (asked is None or n in asked)]:
        try:
            results[name] = _fitted(name, study, settings)
        except OverlapError as error:
            if asked is not None:
                raise
            left_out.append((name, str(error)))
    if policies and len(results) == 1:
        raise NotIdentifiedError(
            "no estimator can value the policies: "
            + " ".join(f"{LABELS[name]}: {why}" for name, why in left_out)
        )
    return Part(
        key=key, title=title, text=text, unit=study.unit,
        rows=_rows(results, study, settings.level),
        contrasts=_contrasts(results, settings),
        left_out=tuple(left_out),
        notes=_notes(results),
        counts=dict(results[list(results)[-1]].result_.counts),
    )  # fmt: skip


def _check_names(policies: Sequence[str], reference: str | None) -> None:
    if LOGGING in policies:
        raise ValueError(f"{LOGGING!r} is the name of the logging policy; rename that policy")
    if reference not in (None, LOGGING, *policies):
        raise ValueError(
            f"reference {reference!r} is not a policy; there are "
            f"{', '.join(map(repr, (LOGGING, *policies)))}{did_you_mean(str(reference), policies)}"
        )


def unidentified(study: Study) -> dict[str, str]:
    """The estimators that the inputs do not identify, each with what is lacking."""
    logp = "logp_target" in study.fit_params and "logp_logging" in study.fit_params
    no_logp = (
        "it needs log-probabilities of the logged texts under the target policies and under the "
        "logging policy."
    )
    no_draws = "it needs draws of the target policies, or their exact support."
    lacking: dict[str, str] = {}
    if not logp:
        lacking |= dict.fromkeys(("ht", "hajek"), no_logp)
    if study.targets is None:
        lacking["or"] = no_draws
    elif "by" in study.fit_params and any(t.by is None for t in study.targets.values()):
        lacking["or"] = "its values by subgroup need the subgroup of every draw."
    if not logp or study.targets is None:
        lacking["dr"] = no_logp if not logp else no_draws
    return {name: lacking[name] for name in ESTIMATORS if name in lacking}


def _fitted(name: str, study: Study, settings: Settings) -> Any:
    """A fitted estimator."""
    shared = ("groups", "sample_weight", "by", "logp_target", "logp_logging")
    params = study.params(*shared)
    if not {"logp_target", "logp_logging"} <= set(params):
        params = study.params(*shared[:3])
    estimator: Any
    if name in ("ht", "hajek"):
        estimator = IPW(name)
    elif name == "or":
        estimator = OutcomeRegression(
            study.model, n_bootstrap=settings.n_bootstrap, random_state=settings.seed
        )
    else:
        estimator = DoublyRobust(study.model, cv=settings.cv, random_state=settings.seed)
    return estimator.fit(study.X, study.outcome, X_target=study.targets, **params)


def _rows(results: Mapping[str, Any], study: Study, level: float) -> tuple[Row, ...]:
    """All values, policy by policy; subgroups follow everyone."""
    rows: list[Row] = []
    for attribute in ("result_", "result_by_"):
        found = [
            row
            for name, fitted in results.items()
            if hasattr(fitted, attribute)
            for row in _rows_of(getattr(fitted, attribute), name, study.truth, level)
        ]
        order = {policy: i for i, policy in enumerate(dict.fromkeys(r.policy for r in found))}
        rows += sorted(found, key=lambda row: order[row.policy])
    return tuple(rows)


def _rows_of(
    result: ValueEstimate, name: str, truth: Mapping[str, float], level: float
) -> list[Row]:
    frame = result.to_frame(level)
    return [
        Row(
            policy=str(r.policy), estimator=name, value=float(r.value), se=float(r.se),
            lower=float(r.ci_lower), upper=float(r.ci_upper), verdict=verdict.level,
            reasons=verdict.reasons, figures=dict(figures), truth=truth.get(str(r.policy)),
        )
        for r, verdict, figures in zip(
            frame.itertuples(), result.verdicts, result.diagnostics, strict=True
        )
    ]  # fmt: skip


def beside_logging(result: ValueEstimate, logging: ValueEstimate) -> ValueEstimate:
    """Values of K policies and of the logging policy on the same rows, as one estimate of K + 1."""
    k = len(result.names)
    names = (*result.names, LOGGING)
    padded = result.linear(np.vstack([np.eye(k), np.zeros(k)]), names)
    last = np.zeros((k + 1, 1))
    last[k, 0] = 1.0
    return padded + logging.linear(last, names)


def _contrasts(results: Mapping[str, Any], settings: Settings) -> tuple[Contrast, ...]:
    reference = settings.reference or LOGGING
    logging = results[MEAN].result_
    out: list[Contrast] = []
    for name, fitted in results.items():
        if name == MEAN:
            continue
        joint = beside_logging(fitted.result_, logging)
        comparison = joint.compare(reference, level=settings.level, random_state=settings.seed)
        others = [policy for policy in joint.names if policy != reference]
        for policy, r in zip(others, comparison.to_frame().itertuples(), strict=True):
            out.append(
                Contrast(
                    policy=policy, reference=reference, estimator=name, value=float(r.value),
                    se=float(r.se), lower=float(r.ci_lower), upper=float(r.ci_upper),
                    band_lower=float(r.band_lower), band_upper=float(r.band_upper),
                    verdict=str(r.verdict),
                )
            )  # fmt: skip
    order = {policy: i for i, policy in enumerate(dict.fromkeys(c.policy for c in out))}
    return tuple(sorted(out, key=lambda c: order[c.policy]))


def _notes(results: Mapping[str, Any]) -> tuple[str, ...]:
    notes = [
        f"{LABELS[name].capitalize()}. {note}"
        for name, fitted in results.items()
        if name != MEAN
        for note in fitted.result_.notes
    ]
    bootstrapped = [
        LABELS[name]
        for name, fitted in results.items()
        if any(s.role == "replicates" for s in fitted.result_.samples)
    ]
    if bootstrapped:
        notes.append(
            f"Contrasts of {' and '.join(bootstrapped)} with the logging policy's mean take the "
            "two as independent, since bootstrap replicates are not row by row."
        )
    return tuple(notes)


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Messages of the warnings raised inside, each once, filled in on leaving."""
    messages: list[str] = []
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("ignore")
        for category in (UserWarning, RuntimeWarning):
            warnings.simplefilter("always", category)
        yield messages
    messages += dict.fromkeys(" ".join(str(w.message).split()) for w in seen)


def with_provenance(
    evaluation: Evaluation, provenance: Mapping[str, Any], messages: Sequence[str] = ()
) -> Evaluation:
    """The evaluation with where it came from and the warnings met on the way."""
    return replace(evaluation, provenance=dict(provenance), warnings=tuple(messages))
