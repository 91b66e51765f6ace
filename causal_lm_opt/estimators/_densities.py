"""Conditional densities of a few text features: log density, score, and parameters' influence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from causal_lm_opt.core.weights import Weighting, relative_weights

__all__ = [
    "ConditionalDensity",
    "fit_multinomial",
    "fit_normal",
    "labels",
    "law_influence",
    "numbers",
    "ones",
    "parameter_influence",
    "refuse_few_values",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
FEW_VALUES = 10


class ConditionalDensity(Protocol):
    """A fitted p(t | b(z)); ``design`` is (n, p) with a leading column of ones."""

    def log_prob(self, t: Any, design: FloatArray) -> FloatArray:
        """Log density or probability (n,)."""

    def score(self, t: Any, design: FloatArray) -> FloatArray:
        """Gradient of :meth:`log_prob` in the parameters, (n, q)."""

    def residual(self, t: Any, design: FloatArray) -> FloatArray:
        """Features less their means, of classes indicators (all but the last), (n, q)."""

    def refit(self, t: Any, design: FloatArray, s: FloatArray | None) -> ConditionalDensity:
        """A law of this kind fitted to other covariates."""

    @property
    def peak(self) -> float:
        """Largest value :meth:`log_prob` can take."""


@dataclass(frozen=True, eq=False)
class Normal:
    """``t = design @ coef + e`` with normal e of covariance ``covariance`` (d, d)."""

    coef: FloatArray
    covariance: FloatArray

    @property
    def peak(self) -> float:
        """Log density at the mean."""
        _, logdet = np.linalg.slogdet(2 * math.pi * self.covariance)
        return -0.5 * float(logdet)

    def residual(self, t: FloatArray, design: FloatArray) -> FloatArray:
        """Features less their means (n, d)."""
        return np.asarray(t - design @ self.coef)

    def refit(self, t: FloatArray, design: FloatArray, s: FloatArray | None) -> Normal:
        """A normal law of other covariates."""
        return fit_normal(t, design, s)

    def _scaled(self, t: FloatArray, design: FloatArray) -> tuple[FloatArray, FloatArray]:
        error = t - design @ self.coef
        return error, np.asarray(np.linalg.solve(self.covariance, error.T).T, dtype=np.float64)

    def log_prob(self, t: FloatArray, design: FloatArray) -> FloatArray:
        """Log density (n,)."""
        error, scaled = self._scaled(t, design)
        return np.asarray(self.peak - 0.5 * np.einsum("ij,ij->i", error, scaled))

    def score(self, t: FloatArray, design: FloatArray) -> FloatArray:
        """Gradient in the coefficients and the covariance's upper triangle."""
        _, u = self._scaled(t, design)
        n, d = u.shape
        mean = (u[:, :, None] * design[:, None, :]).reshape(n, -1)
        rows, columns = np.triu_indices(d)
        precision = np.linalg.inv(self.covariance)
        factor = np.where(rows == columns, 0.5, 1.0)
        spread = factor * (u[:, rows] * u[:, columns] - precision[rows, columns])
        return np.column_stack([mean, spread])


def fit_normal(t: FloatArray, design: FloatArray, s: FloatArray | None) -> Normal:
    """Maximum likelihood.

    Raises
    ------
    ValueError
        When the design explains t without a rest: nothing was left to chance.
    """
    weight = np.ones(t.shape[0]) if s is None else s
    root = np.sqrt(weight)[:, None]
    coef: FloatArray = np.linalg.lstsq(root * design, root * t, rcond=None)[0].astype(np.float64)
    error = t - design @ coef
    covariance = error.T @ (weight[:, None] * error) / weight.sum()
    total = np.average((t - np.average(t, axis=0, weights=weight)) ** 2, axis=0, weights=weight)
    smallest = float(np.linalg.eigvalsh(covariance).min())
    if not smallest > 1e-10 * max(float(total.max()), 1e-300):
        raise ValueError(
            "The features t have no spread of their own (given Z, or beside each other), so that "
            "they have no density: drop constant or collinear features."
        )
    return Normal(coef, covariance)


@dataclass(frozen=True, eq=False)
class Multinomial:
    """Class probabilities ``softmax(design @ coef)`` (p, K); ``-inf`` where a class has none."""

    coef: FloatArray
    alive: npt.NDArray[np.bool_]

    @property
    def peak(self) -> float:
        """No log-probability is above 0."""
        return 0.0

    def residual(self, t: IntArray, design: FloatArray) -> FloatArray:
        """Indicators of all classes but the last, less their probabilities (n, K - 1)."""
        every = np.arange(self.alive.size - 1)
        return np.asarray((t[:, None] == every) - np.exp(self._log_probs(design)[:, every]))

    def refit(self, t: IntArray, design: FloatArray, s: FloatArray | None) -> Multinomial:
        """A multinomial law of other covariates."""
        return fit_multinomial(t, self.alive.size, design, s)

    def _log_probs(self, design: FloatArray) -> FloatArray:
        eta = np.where(self.alive, design @ self.coef, -np.inf)
        top = eta.max(axis=1, keepdims=True)
        return np.asarray(eta - top - np.log(np.exp(eta - top).sum(axis=1, keepdims=True)))

    def log_prob(self, t: IntArray, design: FloatArray) -> FloatArray:
        """Log-probability (n,) of classes coded 0 .. K-1."""
        return np.asarray(self._log_probs(design)[np.arange(t.shape[0]), t])

    def score(self, t: IntArray, design: FloatArray) -> FloatArray:
        """Gradient in the coefficients of all living classes but the last."""
        free = np.flatnonzero(self.alive)[:-1]
        error = (t[:, None] == free) - np.exp(self._log_probs(design)[:, free])
        return np.asarray((error[:, :, None] * design[:, None, :]).reshape(t.shape[0], -1))


def fit_multinomial(
    t: IntArray, n_classes: int, design: FloatArray, s: FloatArray | None
) -> Multinomial:
    """Maximum likelihood: counts where the design is the constant, else a logistic regression."""
    counts = np.bincount(t, weights=s, minlength=n_classes)
    alive = counts > 0
    coef = np.zeros((design.shape[1], n_classes))
    coef[0, alive] = np.log(counts[alive] / counts.sum())
    moving = np.ptp(design, axis=0) > 0
    if not moving.any() or int(alive.sum()) < 2:
        return Multinomial(coef, alive)
    z = design[:, moving]
    centre, scale = z.mean(axis=0), z.std(axis=0)
    model = LogisticRegression(C=np.inf, tol=1e-8, max_iter=2000)
    model.fit((z - centre) / scale, t, sample_weight=s)
    slope, lead = model.coef_.T / scale[:, None], model.intercept_
    if int(alive.sum()) == 2:  # one logit, of the second class
        slope, lead = np.column_stack([0.0 * slope, slope]), np.array([0.0, lead[0]])
    coef = np.zeros_like(coef)
    coef[np.ix_(moving, alive)] = slope
    coef[0, alive] = lead - centre @ slope
    return Multinomial(coef, alive)


def parameter_influence(score: FloatArray, s: FloatArray | None) -> FloatArray:
    """Influence of maximum-likelihood parameters (n, q): inverse information times the score."""
    weight = np.ones(score.shape[0]) if s is None else s
    information = score.T @ (weight[:, None] * score) / weight.sum()
    return np.asarray(score @ np.linalg.pinv(information, hermitian=True))


# ------------------------------------------------------------------------------ values
def response(fitted: Any) -> FloatArray:
    """Change of a fitted estimator's value with each logged row's log weight, times n (r,)."""
    weighting = Weighting.of(fitted.weights)
    if not weighting.unbiased:
        raise ValueError(
            f"weights={weighting.label!r} are transformed: with fitted log-probs use 'hajek' or "
            "'ht'."
        )
    log, ell = fitted.log_, fitted.policies_.ell.column(0)
    residual = log.y
    if hasattr(fitted, "splits_"):
        residual = residual - np.mean([p.logged for p in fitted.splits_], axis=0)
    s = np.ones(residual.shape[0]) if log.sample_weight is None else log.sample_weight
    w = relative_weights(weighting.transform(ell, log.sample_weight), normalize=weighting.normalize)
    if not weighting.normalize:
        return np.asarray(w * residual)
    centre = np.average(residual, weights=s * w)
    return np.asarray(w * (residual - centre) / np.average(w, weights=s))


def law_influence(
    fitted: Any,
    logging: ConditionalDensity | None,
    target: ConditionalDensity,
    t: Any,
    design: FloatArray,
    t_target: Any,
    target_weight: FloatArray | None,
) -> tuple[FloatArray, FloatArray]:
    """Influence of the two laws' parameters on the value: logged rows (r,), draws (m,).

    ``logging`` is ``None`` where its probabilities count as known.
    """
    moved = response(fitted)
    log = fitted.log_
    if log.taken is not None:
        t, design = t[log.taken], design[log.taken]
    s = np.ones(moved.shape[0]) if log.sample_weight is None else log.sample_weight
    share = s * moved / s.sum()
    logged = np.zeros(moved.shape[0])
    if logging is not None:
        score = logging.score(t, design)
        logged = parameter_influence(score, s) @ -(share @ score)
    # The score at classes the policy never writes is no number to use: their weight is 0.
    derivative = share @ np.where((moved == 0.0)[:, None], 0.0, target.score(t, ones(t)))
    own = parameter_influence(target.score(t_target, ones(t_target)), target_weight)
    return logged, own @ derivative


def ones(t: Any) -> FloatArray:
    """Design (n, 1) of a law without covariates."""
    return np.ones((t.shape[0], 1))


def numbers(t: Any, name: str) -> FloatArray:
    """Finite numbers (n, d)."""
    values = np.asarray(t, dtype=np.float64)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or not np.isfinite(values).all():
        raise ValueError(f"{name} must hold finite numbers of shape (n,) or (n, d).")
    return values


def refuse_few_values(t: Any) -> None:
    """Floating-point columns of few values are no normal features."""
    values = np.asarray(t).reshape(len(t), -1)
    for j, column in enumerate(values.T):
        distinct = np.unique(column).size
        if 1 < distinct <= FEW_VALUES and column.size > 5 * distinct:
            raise ValueError(
                f"t holds {distinct} different floating-point values in column {j}, which is not "
                "normal: say model='logistic' (or give integers) for a class, model='normal' if "
                "it is meant."
            )


def labels(t: Any, name: str) -> npt.NDArray[np.str_]:
    """Class labels (n,) as strings."""
    values = np.asarray(t)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise ValueError(f"{name} must hold one class label a row, got shape {values.shape}.")
    return np.asarray([_label(v) for v in values], dtype=np.str_)


def _label(value: Any) -> str:
    """Class 1 of one table is 1.0 of another."""
    whole = isinstance(value, float | np.floating) and float(value).is_integer()
    return str(int(value)) if whole else str(value)
