"""What is asked of a log: its policies, their draws, and what the inputs do not identify."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from causal_lm_opt._cells import did_you_mean
from causal_lm_opt._evaluation import ESTIMATORS, Settings, Study
from causal_lm_opt.estimators import TargetSample
from causal_lm_opt.exceptions import EstimationWarning

if TYPE_CHECKING:
    from causal_lm_opt.logged import LoggedData

__all__ = ["partly_unidentified", "question", "study_for", "study_of", "unidentified"]

MODEL_BASED = ("or", "dr")
SUBGROUPS = (
    "its values by subgroup need the subgroup of every draw: give the draws file the column that "
    "--by names."
)


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
        targets = _matched(log.policies, targets)
    return Study(X, log.outcome, log.fit_params(), targets, model, unit, texts=log.text)


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
            "robust estimator leave that out, the weights alone value it, and the verdicts of the "
            "weights are made without draws. Add draws for more than that.",
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
        found.append(("or", SUBGROUPS))
    return found


def _no_subgroups(study: Study) -> bool:
    """Whether subgroups are asked for and some draws do not say theirs."""
    targets = (study.targets or {}).values()
    return "by" in study.fit_params and any(sample.by is None for sample in targets)


def study_for(estimator: str, study: Study) -> Study:
    """The part of a study that an estimator (key of ``ESTIMATORS``) can value."""
    if study.targets is None:
        return study
    some = len(study.targets) < len(study.policies)
    if estimator not in MODEL_BASED:  # draws serve the verdict alone, and only all together
        return replace(study, targets=None) if some else study
    params = dict(study.fit_params)
    given = params.get("logp_target")
    if given is not None and some:
        params["logp_target"] = {name: given[name] for name in study.targets}
    if estimator == "or" and _no_subgroups(study):
        # A model's values would be the same in every subgroup, were they formed.
        del params["by"]
    return replace(study, fit_params=params)
