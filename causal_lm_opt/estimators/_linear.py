r"""Parametric outcome models: the first-order effect of their fit on a value.

A linear or generalised linear q(x; b) solves :math:`\sum_i s_i(b) = 0` (penalised). A value with
gradient D in b then carries :math:`D^\top A^{-1} s_i` from row i, with A the mean negative
derivative of the score (MATH: stacked estimating equations; Stefanski and Boos 2002).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, RidgeCV
from sklearn.pipeline import Pipeline

from causal_lm_opt.core.inference import leave_out_factor
from causal_lm_opt.estimators.outcome_models import StatsmodelsGLM, class_values

__all__ = ["LinearOutcome", "coefficient_influence", "linear_outcome", "tractable"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
MAX_PARAMETERS = 1000
MAX_DESIGN_CELLS = 50_000_000  # 400 MB


@dataclass(frozen=True, eq=False)
class LinearOutcome:
    r"""A fitted :math:`q(x) = h(z(x)^\top b)` with its score.

    Attributes
    ----------
    steps : Pipeline or None
        Fitted feature steps before the learner.
    has_intercept : bool
        Whether the design leads with a column of ones.
    coef : array, shape (p,)
    mean, slope : callables
        ``h`` and ``h'`` of the linear predictor.
    score_factor : callable
        Factor of the score beside ``z (y - q)``: ``h' / Var``; ones for canonical links.
    penalty : array, shape (p,)
        Diagonal of the ridge penalty on the summed score.
    factor_slope : callable
        Derivative of ``score_factor`` in the linear predictor; zero for canonical links.

    Everything here pickles (module functions and partials), as fitted estimators keep it.
    """

    steps: Any
    has_intercept: bool
    coef: FloatArray
    mean: Callable[[FloatArray], FloatArray]
    slope: Callable[[FloatArray], FloatArray]
    score_factor: Callable[[FloatArray], FloatArray]
    penalty: FloatArray
    factor_slope: Callable[[FloatArray], FloatArray] = np.zeros_like

    def features(self, X: Any) -> FloatArray:
        """Dense design (n, p) of rows X, intercept column included."""
        z: Any = X if self.steps is None else self.steps.transform(X)
        z = z.toarray() if hasattr(z, "toarray") else np.asarray(z, dtype=np.float64)
        return np.column_stack([np.ones(z.shape[0]), z]) if self.has_intercept else z

    def gradient(self, X: Any) -> FloatArray:
        """Gradient of q in b at each row, shape (n, p)."""
        design = self.features(X)
        return np.asarray(self.slope(design @ self.coef)[:, None] * design)


def _ones(eta: FloatArray) -> FloatArray:
    return np.ones_like(eta)


def _same(eta: FloatArray) -> FloatArray:
    return eta


def _logistic_mean(low: float, unit: float, eta: FloatArray) -> FloatArray:
    return np.asarray(low + unit * special.expit(eta))


def _logistic_slope(unit: float, eta: FloatArray) -> FloatArray:
    p = special.expit(eta)
    return np.asarray(unit * p * (1 - p))


def _logistic_parts(low: float, high: float) -> Any:
    """(mean, slope, factor) of a binary outcome worth ``low`` or ``high``.

    The score stays that of the class, ``z (1{high} - p)``: the factor undoes the outcome's unit.
    """
    unit = high - low
    return (
        partial(_logistic_mean, low, unit),
        partial(_logistic_slope, unit),
        partial(np.full_like, fill_value=1.0 / unit),
    )


def _glm_factor(link: Any, variance: Any, eta: FloatArray) -> FloatArray:
    return np.asarray(link.inverse_deriv(eta) / variance(link.inverse(eta)))


def _gamma_factor_slope(eta: FloatArray) -> FloatArray:
    """Log link of the gamma family: ``score_factor`` is ``exp(-eta)``."""
    return np.asarray(-np.exp(-eta))


def _final_parts(
    model: Any, utility: Mapping[Any, float] | None
) -> tuple[FloatArray, FloatArray, bool, Any] | None:
    """Coefficients, penalty, intercept flag and (mean, slope, factor) of a recognised learner."""
    identity = (_same, _ones, _ones)
    if type(model) is LinearRegression and not model.positive and np.ndim(model.coef_) == 1:
        return model.coef_, np.zeros(model.coef_.size), model.fit_intercept, identity
    if type(model) is Ridge and not model.positive and np.ndim(model.coef_) == 1:
        alpha = np.broadcast_to(np.asarray(model.alpha, dtype=float), model.coef_.shape)
        return model.coef_, alpha.copy(), model.fit_intercept, identity
    if type(model) is RidgeCV and np.ndim(model.coef_) == 1 and np.ndim(model.alpha_) == 0:
        return model.coef_, np.full(model.coef_.size, model.alpha_), model.fit_intercept, identity
    if type(model) is LogisticRegression and _plain_logistic(model):
        coef = model.coef_[0]
        penalty = np.full(coef.size, 0.0 if np.isinf(model.C) else 1.0 / model.C)
        low, high = class_values(model, utility)
        if low == high:
            return None
        return coef, penalty, model.fit_intercept, _logistic_parts(low, high)
    if type(model) is StatsmodelsGLM:
        link, variance = model.results_.family.link, model.results_.family.variance
        parts = (link.inverse, link.inverse_deriv, partial(_glm_factor, link, variance))
        return model.coef_, np.zeros(model.coef_.size), True, parts
    return None


def _plain_logistic(model: LogisticRegression) -> bool:
    params = model.get_params()
    ridge = params.get("penalty") in ("l2", "deprecated", None) and not params.get("l1_ratio")
    return (
        ridge
        and params.get("penalty") is not None
        and not (params["solver"] == "liblinear" and model.fit_intercept)  # shrinks the intercept
        and params["class_weight"] is None
        and model.classes_.size == 2
    )


def linear_outcome(model: Any, utility: Mapping[Any, float] | None = None) -> LinearOutcome | None:
    """The parametric form of a fitted learner, ``None`` for black boxes.

    Recognised: ``LinearRegression``, ``Ridge``, ``RidgeCV``, ridge or unpenalised binary
    ``LogisticRegression``, :class:`StatsmodelsGLM`, and pipelines ending in one of these (their
    feature steps are taken as given).
    """
    steps: Any = None
    final = model
    if isinstance(model, Pipeline):
        steps, final = model[:-1], model.steps[-1][1]
    parts = _final_parts(final, utility)
    if parts is None:
        return None
    coef, penalty, has_intercept, (mean, slope, factor) = parts
    intercept = float(np.ravel(final.intercept_)[0]) if has_intercept else 0.0

    lead = [0.0] if has_intercept else []
    return LinearOutcome(
        steps=steps,
        has_intercept=has_intercept,
        coef=np.concatenate([[intercept] if has_intercept else [], coef]),
        mean=mean,
        slope=slope,
        score_factor=factor,
        penalty=np.concatenate([lead, penalty]),
        factor_slope=_gamma_factor_slope if _is_gamma(final) else np.zeros_like,
    )


def _is_gamma(model: Any) -> bool:
    return type(model) is StatsmodelsGLM and model.family == "gamma"


def tractable(model: LinearOutcome, n: float, *, rows_per_parameter: float) -> bool:
    """Whether p is small enough against n for first-order theory (and for memory)."""
    p = model.coef.size
    return p <= MAX_PARAMETERS and p * rows_per_parameter <= n and n * p <= MAX_DESIGN_CELLS


def coefficient_influence(
    model: LinearOutcome,
    X: Any,
    y: FloatArray,
    *,
    sample_weight: FloatArray | None = None,
    codes: IntArray | None = None,
    n_clusters: int = 0,
    noise: FloatArray | None = None,
) -> FloatArray:
    r"""Influence function of the coefficients, :math:`A^{-1} s_i`, shape (n, p).

    The coefficients move by its weighted mean over the training rows. Leave-one-out scores: row
    i's score is divided by one minus its leverage (HC3); for clusters the scores of cluster g meet
    the information without g (CR3, the jackknife), less the factor of their share that
    :func:`~causal_lm_opt.core.cluster_contributions` brings anyway. With ``noise`` (n,), each
    outcome about its mean given the text, the texts are held fixed: scores are the noise's, and
    nothing is left out.
    """
    z = model.features(X)
    eta = z @ model.coef
    factor = model.score_factor(eta)
    error = y - model.mean(eta)
    residual = factor * error
    s = np.ones(y.shape[0]) if sample_weight is None else sample_weight
    weight = factor * model.slope(eta) - model.factor_slope(eta) * error  # observed information
    information = z.T @ ((s * weight)[:, None] * z) + np.diag(model.penalty)
    share = model.penalty * model.coef / s.sum()  # the penalty's score, spread over the rows
    inverse = np.asarray(np.linalg.pinv(information, hermitian=True), dtype=np.float64)
    if noise is not None:
        return np.asarray(float(s.sum()) * (((factor * noise)[:, None] * z) @ inverse))
    if codes is not None:
        scores = residual[:, None] * z - share
        moved = _leave_cluster_out(information, inverse, z, s * weight, scores, codes, n_clusters)
        labels, inside = np.unique(codes, return_inverse=True)  # of a fold's rows
        factor = leave_out_factor(s, inside, labels.size)[inside]
        return np.asarray((float(s.sum()) / factor)[:, None] * moved)
    leverage = _leverage(z, inverse, weight)
    loo = np.where(leverage < 1 - 1e-8, residual / np.maximum(1 - leverage, 1e-8), residual)
    return np.asarray(float(s.sum()) * ((loo[:, None] * z - share) @ inverse))


def _leverage(z: FloatArray, inverse: FloatArray, weight: FloatArray) -> FloatArray:
    """Share of each row's own outcome in its fit, shape (n,)."""
    return np.asarray(weight * np.einsum("ij,ij->i", z @ inverse, z))


def _leave_cluster_out(
    information: FloatArray,
    inverse: FloatArray,
    z: FloatArray,
    weight: FloatArray,
    scores: FloatArray,
    codes: IntArray,
    n_clusters: int,
) -> FloatArray:
    """Rows of ``(A - A_g)^{-1} s_i``; ``A^{-1} s_i`` where only cluster g informs a direction."""
    out = scores @ inverse
    order = np.argsort(codes, kind="stable")
    ends = np.searchsorted(codes[order], np.arange(n_clusters + 1))
    size = np.diff(ends)
    _leave_row_out(out, order[ends[:-1][size == 1]], inverse, z, weight)
    for g in np.flatnonzero(size > 1):
        rows = order[ends[g] : ends[g + 1]]
        rest = information - z[rows].T @ (weight[rows, None] * z[rows])
        try:
            found = np.linalg.solve(rest, scores[rows].T).T
        except np.linalg.LinAlgError:
            continue
        limit = 1e6 * max(float(np.abs(out[rows]).max()), 1e-300)
        if np.isfinite(found).all() and float(np.abs(found).max()) < limit:
            out[rows] = found
    return np.asarray(out)


def _leave_row_out(
    out: FloatArray, rows: IntArray, inverse: FloatArray, z: FloatArray, weight: FloatArray
) -> None:
    """Rows of ``(A - w z z')^{-1} s_i`` for clusters of one row, in place (Sherman-Morrison)."""
    moved = z[rows] @ inverse
    leverage = weight[rows] * np.einsum("ij,ij->i", moved, z[rows])
    free = leverage < 1 - 1e-8
    rows, moved, leverage = rows[free], moved[free], leverage[free]
    along = np.einsum("ij,ij->i", z[rows], out[rows])
    out[rows] += (weight[rows] * along / (1 - leverage))[:, None] * moved
