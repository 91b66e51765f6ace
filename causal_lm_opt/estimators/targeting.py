r"""Retargeting an outcome model to one policy, so that its plug-in mean is the doubly robust value.

Where weights carry no gradient (marginalised on what outcomes respond to), a policy is trained on
an outcome model instead; retargeting makes that model answer to the randomised rows first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from causal_lm_opt._validation import check_vector
from causal_lm_opt.core.weights import relative_weights
from causal_lm_opt.diagnostics.overlap import effective_sample_size

__all__ = ["Correction", "regression_on", "retarget"]

FloatArray = npt.NDArray[np.float64]
PENALTIES = np.logspace(-1, 5, 13)


@dataclass(frozen=True, eq=False)
class Correction:
    r"""What `retarget` adds to an outcome model, :math:`\delta(z) = a + b^\top (z - c) / s`.

    Attributes
    ----------
    intercept : float
        Weighted mean of the residuals, ``a``.
    slopes, centre, scale : arrays, shape (p,)
    penalty : float
        Ridge penalty that leave-one-out chose, in rows.
    effective_rows : float
        Effective sample size of the weights.
    """

    intercept: float
    slopes: FloatArray
    centre: FloatArray
    scale: FloatArray
    penalty: float
    effective_rows: float

    def __call__(self, basis: npt.ArrayLike) -> FloatArray:
        """The correction at rows of the basis (m, p), shape (m,)."""
        z = np.asarray(basis, dtype=np.float64)
        return np.asarray(self.intercept + ((z - self.centre) / self.scale) @ self.slopes)


def retarget(basis: npt.ArrayLike, residual: npt.ArrayLike, log_ratio: npt.ArrayLike) -> Correction:
    r"""Weighted ridge regression of an outcome model's residuals on a basis of the text.

    .. math:: \min_{a, b} \sum_i w_i (y_i - q(x_i) - a - b^\top \tilde z_i)^2 + \lambda |b|^2,
              \qquad \sum_i w_i (y_i - q^*(x_i)) = 0, \quad q^* = q + \delta

    The constant is not penalised, so that the second equation holds, whatever the penalty: the
    residual term of the doubly robust value vanishes and :math:`E_f[q^*]` IS that value. A constant
    alone corrects the value; slopes correct the direction in which a policy is to be moved, too.

    Parameters
    ----------
    basis : array, shape (n, p)
        What outcomes respond to, without a constant; columns that do not vary are left alone.
    residual : array, shape (n,)
        ``y - q`` of randomised rows, q from a model that has not seen them.
    log_ratio : array, shape (n,)
        Log of the weights; ``-inf`` for a row of weight 0.

    Returns
    -------
    Correction

    Raises
    ------
    ValueError
        For other shapes, entries that are not finite, or no row of positive weight.

    Notes
    -----
    **Assumptions** of the policy moved by it: outcomes depend on the text through z alone (latent
    sufficiency), and the weights or :math:`q^*` are right.

    Source: Kang and Schafer (2007), Statistical Science 22(4), section 3 (weighted regression whose
    plug-in is doubly robust); van der Laan and Rubin (2006) (targeting).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> z = rng.integers(0, 2, (500, 2)).astype(float)
    >>> y, wrong = z @ [3., -1.], -(z @ [3., -1.])               # a model of the wrong sign
    >>> found = retarget(z, y - wrong, np.zeros(500))
    >>> bool(np.abs(wrong + found(z) - y).max() < .02)
    True
    """
    z = np.asarray(basis, dtype=np.float64)
    if z.ndim != 2 or not np.isfinite(z).all():
        raise ValueError(f"basis must be a finite (n, p) array, got shape {z.shape}.")
    r = check_vector(residual, "residual", z.shape[0])
    ell = np.asarray(log_ratio, dtype=np.float64)
    if ell.shape != r.shape or not (ell < np.inf).all() or not np.isfinite(ell).any():
        raise ValueError("log_ratio must be (n,) numbers, finite or -inf, some of them finite.")
    weight = relative_weights(ell, normalize=True)
    weight = weight / weight.mean()
    centre = np.average(z, axis=0, weights=weight)
    spread = np.sqrt(np.average((z - centre) ** 2, axis=0, weights=weight))
    varies = spread > 1e-9 * (1 + np.abs(z).max(axis=0, initial=0.0))
    scale = np.where(varies, spread, 1.0)
    slopes, penalty = np.zeros(z.shape[1]), 0.0
    intercept = float(np.average(r, weights=weight))
    ess = float(effective_sample_size(weight))
    if varies.any():
        clean = np.where(varies, (z - centre) / scale, 0.0)
        # Weights that sum to the effective rows, so that a penalty means as many rows' worth.
        fitted = RidgeCV(PENALTIES).fit(clean, r - intercept, weight * (ess / r.size))
        slopes, penalty = np.asarray(fitted.coef_, dtype=np.float64), float(fitted.alpha_)
    return Correction(intercept, slopes, centre, scale, penalty, ess)


def regression_on(features: Any) -> Any:
    """An outcome model: ridge regression on features of the rows, the penalty by leave-one-out.

    Parameters
    ----------
    features : callable rows -> (n, p)

    Examples
    --------
    >>> lengths = lambda texts: np.array([[len(t)] for t in texts], dtype=float)
    >>> model = regression_on(lengths).fit(["a", "bb", "ccc", "dddd"], [1., 2., 3., 4.])
    >>> float(model.predict(["bbb"])[0].round(1))
    3.0
    """
    return make_pipeline(
        FunctionTransformer(features), StandardScaler(), WithinReach(), RidgeCV(PENALTIES)
    )


class WithinReach(TransformerMixin, BaseEstimator):
    r"""Rows further from the centre than any training row, brought back along the ray to it.

    Distance is :math:`r^2(z) = (z - \bar z)^\top (S + \lambda I / n)^{-1} (z - \bar z)`, S the
    covariance of the training rows: n times the leverage of z in a ridge regression on them, and so
    the size of its prediction's error. A word that no training row of a fold holds (of a prompt
    that is left out) lies along a direction in which these hardly vary, and a linear model's
    prediction there is noise without bound. Training rows stay as they are.

    Attributes
    ----------
    centre_ : array, shape (p,)
    root_ : array, shape (p, p)
        :math:`r(z) = |(z - \bar z)^\top` ``root_`` :math:`|`.
    reach_ : float
        Of the furthest training row.
    """

    def fit(self, X: Any, y: Any = None) -> WithinReach:
        """Learn how far training rows (n, p) reach."""
        z = np.asarray(X, dtype=np.float64)
        self.centre_ = z.mean(axis=0)
        apart = z - self.centre_
        values, vectors = np.linalg.eigh(apart.T @ apart / z.shape[0])
        self.root_ = vectors / np.sqrt(np.maximum(values, 0.0) + PENALTIES[0] / z.shape[0])
        self.reach_ = float(self._distance(z).max(initial=0.0))
        return self

    def transform(self, X: Any) -> FloatArray:
        """Rows (m, p) within reach."""
        z = np.asarray(X, dtype=np.float64)
        far = np.maximum(self._distance(z) / max(self.reach_, np.finfo(np.float64).tiny), 1.0)
        return np.asarray(self.centre_ + (z - self.centre_) / far[:, None])

    def _distance(self, z: FloatArray) -> FloatArray:
        return np.asarray(np.linalg.norm((z - self.centre_) @ self.root_, axis=1))
