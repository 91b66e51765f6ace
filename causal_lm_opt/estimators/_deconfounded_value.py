"""Values from deconfounded outcomes: the derivative in h's coefficients, or refits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import clone

from causal_lm_opt.estimate import ValueEstimate
from causal_lm_opt.estimators._bootstrap import replicate_influence
from causal_lm_opt.estimators._confounders import LinearEffect, same_length
from causal_lm_opt.estimators._progress import track
from causal_lm_opt.influence import InfluenceSample

__all__ = ["DeconfoundedRows", "deconfounded_value"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
OWN_ARGUMENTS = ("y", "groups", "sample_weight", "by")
INFERENCE = ("auto", "stacked", "orthogonal", "bootstrap")


@dataclass(frozen=True, eq=False)
class DeconfoundedRows:
    """The rows a Deconfounder was fitted on, all ``n`` of them, and what it made of them.

    ``kept`` (r,) are the positions of the rows of positive weight, ``design`` (r, p) their basis
    and ``fitted`` the coefficients with their influence on them (``None`` for a regressor).
    """

    y: FloatArray
    residual: FloatArray
    effect: FloatArray
    groups: npt.NDArray[Any] | None
    weight: FloatArray | None
    kept: IntArray
    design: FloatArray
    fitted: LinearEffect | None
    adjusted_for_text: bool

    def fit_value(self, estimator: Any, X: Any, y: FloatArray, arguments: Mapping[str, Any]) -> Any:
        """A clone of ``estimator`` fitted on these rows with the outcomes ``y``."""
        return clone(estimator).fit(
            X, y, groups=self.groups, sample_weight=self.weight, **arguments
        )


def deconfounded_value(
    rows: DeconfoundedRows,
    estimator: Any,
    X: Any,
    arguments: Mapping[str, Any],
    inference: str,
    refit: Callable[[FloatArray], FloatArray],
    n_bootstrap: int,
    seed: int,
) -> ValueEstimate:
    """:meth:`Deconfounder.value`; ``refit`` gives the residuals under other frequency weights."""
    _check(rows, estimator, X, inference, arguments)
    fitted = rows.fit_value(estimator, X, rows.residual, arguments)
    result: ValueEstimate = fitted.result_
    logged = [s for s in result.samples if s.role == "logged"]
    if result.dropped_variance is not None or len(logged) != 1:
        raise ValueError(
            "The estimator must keep an influence function of the logged rows: use "
            "influence='keep' and another inference than 'bootstrap' in the estimator "
            "(Deconfounder.value(inference='bootstrap') resamples both fits)."
        )
    result = replace(result, estimator=f"{result.estimator}, deconfounded", term_moment=False)
    taken = fitted.log_.taken
    key = replace(fitted.log_, y=rows.y if taken is None else rows.y[taken]).key
    notes = (*result.notes, _note(rows, inference, n_bootstrap))
    if inference == "bootstrap":
        rest = tuple(s for s in result.samples if s is not logged[0])
        if any(s.codes is not None and s.cluster_key == logged[0].cluster_key for s in rest):
            raise ValueError(
                "inference='bootstrap' cannot resample draws that share prompts with the log; use "
                "a parametric model (inference='stacked')."
            )
        values = _replicates(rows, estimator, X, arguments, refit, n_bootstrap, seed)
        noise = InfluenceSample(f"{key}:deconfounded", "replicates", replicate_influence(values))
        return replace(result, samples=(noise, *rest), notes=notes)
    own = rows.effect[:, None]  # the level is an estimate: the mean of h over the log's readers
    if inference == "stacked":
        own = own + _stacked_term(rows, estimator, X, arguments, len(result.names))
    own = own if taken is None else own[taken]
    sample = replace(logged[0], key=key, influence=logged[0].influence + own)
    samples = tuple(sample if s is logged[0] else s for s in result.samples)
    return replace(result, samples=samples, notes=notes)


def _check(
    rows: DeconfoundedRows, estimator: Any, X: Any, inference: str, arguments: Mapping[str, Any]
) -> None:
    if inference not in INFERENCE:
        raise ValueError(f"inference={inference!r} is not known; use one of {list(INFERENCE)}.")
    if inference == "stacked" and rows.fitted is None:
        raise ValueError(
            "inference='stacked' needs a parametric model ('linear', 'group'); a regressor takes "
            "'bootstrap' or 'orthogonal'."
        )
    own = [a for a in OWN_ARGUMENTS if a in arguments]
    if own:
        raise ValueError(
            f"value() takes no {own}: outcomes, groups and weights are those given to fit; value "
            "subgroups by fitting their rows alone."
        )
    if getattr(estimator, "utility", None) is not None:
        raise ValueError("The residual outcomes are numbers: use an estimator without utility.")
    same_length(rows.y.shape[0], X=X)


def _stacked_term(
    rows: DeconfoundedRows, estimator: Any, X: Any, arguments: Mapping[str, Any], k: int
) -> FloatArray:
    """``D' IF`` of h's coefficients on all given rows, shape (n, K).

    The value is linear in the outcome: its derivative is minus the value of the centred basis.
    """
    assert rows.fitted is not None
    n, p = rows.y.shape[0], rows.design.shape[1]
    s = None if rows.weight is None else rows.weight[rows.kept]
    centred = np.zeros((n, p))
    centred[rows.kept] = rows.design - np.average(rows.design, axis=0, weights=s)
    derivative = np.zeros((p, k))
    for j, column in enumerate(centred.T):
        if np.ptp(column) > 0:
            derivative[j] = -rows.fit_value(estimator, X, column, arguments).result_.values
    out = np.zeros((n, k))
    out[rows.kept] = rows.fitted.influence @ derivative
    return out


def _replicates(
    rows: DeconfoundedRows,
    estimator: Any,
    X: Any,
    arguments: Mapping[str, Any],
    refit: Callable[[FloatArray], FloatArray],
    count: int,
    seed: int,
) -> FloatArray:
    """Values (B, K) of resampled rows (clusters), both fits anew.

    A resample is a set of frequency weights, so that copies of a row never lie on both sides of a
    split.
    """
    if count < 20:
        raise ValueError(f"n_bootstrap must be at least 20 for a standard error, got {count}.")
    n = rows.y.shape[0]
    s = np.ones(n) if rows.weight is None else rows.weight
    codes, alive, n_clusters = np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp), 0
    if rows.groups is not None:
        labels, codes = np.unique(rows.groups, return_inverse=True)
        n_clusters = int(labels.size)
        alive = np.flatnonzero(np.bincount(codes, weights=s) > 0)
    out = []
    for b in track(range(count), count, "bootstrap replicates"):
        rng = np.random.default_rng([seed, b])
        if rows.groups is None:
            counts = rng.multinomial(int(np.rint(s.sum())), s / s.sum()).astype(np.float64)
        else:
            drawn = np.bincount(rng.choice(alive, alive.size), minlength=n_clusters)
            counts = s * drawn[codes]
        again = replace(rows, weight=counts)
        out.append(again.fit_value(estimator, X, refit(counts), arguments).result_.values)
    return np.stack(out)


def _note(rows: DeconfoundedRows, inference: str, n_bootstrap: int) -> str:
    what = {
        "stacked": f"stacked with the {rows.design.shape[1]} coefficients of h",
        "orthogonal": "without a term for h's fit, which holds where weighted logged rows have the "
        "log's mix of readers",
        "bootstrap": f"by {n_bootstrap} bootstrap refits of it and of the value (no allowance for "
        "smoothing bias)",
    }[inference]
    text = "partialled out" if rows.adjusted_for_text else "not partialled out"
    return (
        "Outcomes minus the cross-fitted effect of known confounders, at the mean of the log's "
        f"readers (text {text}); standard errors {what}."
    )
