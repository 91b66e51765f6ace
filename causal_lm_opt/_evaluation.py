"""What an evaluation is asked and what it finds: plain records without arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from causal_lm_opt._views import PolicyView, RatioView
from causal_lm_opt.diagnostics.verdict import LEVELS
from causal_lm_opt.estimators import TargetSample

__all__ = [
    "ESTIMATORS",
    "LABELS",
    "LOGGING",
    "MEAN",
    "SPEAKERS",
    "Contrast",
    "Doubt",
    "Evaluation",
    "Part",
    "Row",
    "Sensitivity",
    "Settings",
    "Study",
    "Table",
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
#: The estimator that speaks for a policy in the answer: the first that is there.
SPEAKERS = ("dr", "hajek", "or", "ht")


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
    figures : bool
        Whether the report holds plots and what stands behind each policy's value.
    sensitivity : bool
        Whether to bound what hidden confounding and wrong logging probabilities could do.
    """

    estimators: tuple[str, ...] | None = None
    cv: int = 5
    level: float = 0.95
    seed: int = 0
    n_bootstrap: int = 200
    reference: str | None = None
    figures: bool = True
    sensitivity: bool = False


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
    texts : sequence of n str, optional
        The logged texts as readers saw them.
    ratio : unfitted density ratio, optional
        Estimates the weights from the texts, in place of ``logp_target`` and ``logp_logging``.
    ratio_name : str
        Its name on the command line.
    unreached : mapping policy -> str
        Policies that no weights of the ratio reach, and why.
    """

    X: Any
    outcome: npt.NDArray[np.float64]
    fit_params: Mapping[str, Any]
    targets: Mapping[str, TargetSample] | None = None
    model: Any = None
    unit: str = "outcome"
    truth: Mapping[str, float] = field(default_factory=dict)
    texts: Sequence[str] | None = None
    ratio: Any = None
    ratio_name: str = ""
    unreached: Mapping[str, str] = field(default_factory=dict)

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
GROUP = " | "  # stands between a policy and its subgroup


@dataclass(frozen=True)
class Row:
    """One value with its interval and verdict; ``subgroup`` is "" for that of all rows.

    ``band`` holds for all usable policies of the estimator at once, and so for one that was chosen
    by its value; ``None`` where there is nothing to choose.
    """

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
    subgroup: str = ""
    band: tuple[float, float] | None = None

    @property
    def name(self) -> str:
        """The policy as pages and tables name it, with its subgroup."""
        return self.policy + (f"{GROUP}{self.subgroup}" if self.subgroup else "")

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
    """Difference of two policies' values, with pointwise interval and simultaneous band.

    The band of a subgroup's holds over all policies and subgroups of the estimator. ``reasons``
    are those of the verdict.
    """

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
    subgroup: str = ""
    reasons: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The estimator in words."""
        return LABELS[self.estimator]

    @property
    def band(self) -> tuple[float, float] | None:
        """The simultaneous band; none holds a difference that is not to be used."""
        return None if self.verdict == LEVELS[-1] else (self.band_lower, self.band_upper)

    @property
    def sides(self) -> tuple[str, str]:
        """Policy and reference, a subgroup's as its values are named."""
        end = f"{GROUP}{self.subgroup}" if self.subgroup else ""
        return self.policy + end, self.reference + end


@dataclass(frozen=True, eq=False)
class Doubt:
    """What one violated assumption could do to a policy's difference from the reference.

    Attributes
    ----------
    policy, reference, estimator : str
    violation : {"hidden_confounder", "logging_probabilities"}
    table : DataFrame
        ``lambda``, ``value``, ``lower``, ``upper``, ``ci_lower``, ``ci_upper``: policy minus
        reference.
    strength, strength_ci : float
        Lambda at which the difference may have the other sign: by the bounds, and by their
        interval. 1: without any violation; ``inf``: at none that was tried.
    """

    policy: str
    reference: str
    estimator: str
    violation: str
    table: pd.DataFrame
    strength: float
    strength_ci: float

    @property
    def value(self) -> float:
        """The estimated difference."""
        return float(self.table["value"].iloc[0])


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """Doubts of a part, and why some of its policies have none."""

    reference: str
    n_bootstrap: int
    doubts: tuple[Doubt, ...]
    left_out: tuple[str, ...]


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
    subgroup_contrasts : tuple of Contrast
        Differences within subgroups; empty where nobody asked for subgroups.
    left_out : tuple of (estimator key, reason)
    notes : tuple of str
    counts : mapping
    views : tuple of PolicyView
        What stands behind the values of some policies; empty without figures.
    figures : bool
        Whether the page has plots.
    sensitivity : Sensitivity, optional
        What violated assumptions could do; ``None`` where nobody asked.
    ratios : tuple of RatioView
        How the weights were estimated from texts, policy by policy; empty where log-probabilities
        give them.
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
    views: tuple[PolicyView, ...] = ()
    figures: bool = False
    sensitivity: Sensitivity | None = None
    ratios: tuple[RatioView, ...] = ()
    subgroup_contrasts: tuple[Contrast, ...] = ()


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
