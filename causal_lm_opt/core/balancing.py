r"""Entropy balancing: weights near uniform whose feature means are those of another sample.

.. math:: \min_p \sum_i p_i \log(p_i / b_i) \quad\text{s.t.}\quad
          \Big|\sum_i p_i F_{ik} - t_k\Big| \le \delta_k,\ \sum_i p_i = 1

Its solution is :math:`p_i \propto b_i e^{\lambda^\top F_i}` with :math:`\lambda` the minimiser of
the convex dual :math:`\log \sum_i b_i e^{\lambda^\top (F_i - t)} + \sum_k \delta_k |\lambda_k|`
(Hainmueller 2012, eq. 11-12; with tolerances Wang and Zubizarreta 2020, eq. 4). So the log ratio is
linear in the features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

__all__ = ["EntropyBalance", "balance_influence", "entropy_balance", "least_imbalance"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
EXACT = 1e-10  # imbalance left over, in the features' units
MAX_STEPS = 200
FLAT = 1e-13  # curvature below which a direction is taken to be flat (collinear features)


@dataclass(frozen=True, eq=False)
class EntropyBalance:
    r"""Solution of the balancing problem.

    Attributes
    ----------
    dual : array, shape (p,)
        :math:`\lambda`.
    log_weight : array, shape (n,)
        Log of :math:`p_i/b_i`, weights averaging 1 under ``b``.
    shift : float
        ``log_weight`` is ``centred @ dual + shift``.
    imbalance : array, shape (p,)
        Weighted mean of the centred features.
    active : bool array, shape (p,)
        Features whose balance binds (all, where the tolerance is 0).
    converged : bool
        ``False``: no weights reach the balance asked for (or not within the steps allowed).
    """

    dual: FloatArray
    log_weight: FloatArray
    shift: float
    imbalance: FloatArray
    active: BoolArray
    converged: bool


def _moments(
    centred: FloatArray, log_base: FloatArray, dual: FloatArray
) -> tuple[float, FloatArray, FloatArray]:
    """Dual objective, probabilities (n,) and its gradient (p,)."""
    eta = log_base + centred @ dual
    value = float(special.logsumexp(eta))
    p = np.exp(eta - value)
    return value, p, p @ centred


def _newton_step(centred: FloatArray, p: FloatArray, gradient: FloatArray) -> FloatArray:
    """Newton direction; nothing along flat directions."""
    hessian = centred.T @ (p[:, None] * centred) - np.outer(gradient, gradient)
    values, vectors = np.linalg.eigh(hessian)
    usable = values > FLAT
    along = vectors[:, usable].T @ gradient
    return np.asarray(-vectors[:, usable] @ (along / values[usable]))


def _newton(centred: FloatArray, log_base: FloatArray, dual: FloatArray) -> tuple[FloatArray, bool]:
    """Minimiser of the dual without tolerance, and whether the means balance there."""
    floor = float(log_base.min()) - 1.0  # no dual value is below it where balance is possible
    value, p, gradient = _moments(centred, log_base, dual)
    for _ in range(MAX_STEPS):
        if np.abs(gradient).max(initial=0.0) < EXACT:
            return dual, True
        step = _newton_step(centred, p, gradient)
        slope, size = float(gradient @ step), 1.0
        if not slope < 0 or value < floor:
            break
        while size > 1e-12:
            tried = dual + size * step
            new, new_p, new_gradient = _moments(centred, log_base, tried)
            if new <= value + 1e-4 * size * slope + 1e-15 * abs(value):
                break
            size /= 2.0
        else:
            break
        dual, value, p, gradient = tried, new, new_p, new_gradient
    return dual, bool(np.abs(gradient).max(initial=0.0) < 1e3 * EXACT)


def _tolerant_start(centred: FloatArray, log_base: FloatArray, tolerance: FloatArray) -> FloatArray:
    """Dual with the absolute values in it, split into positive and negative parts (L-BFGS-B)."""
    width = centred.shape[1]

    def objective(parts: FloatArray) -> tuple[float, FloatArray]:
        value, _, gradient = _moments(centred, log_base, parts[:width] - parts[width:])
        penalty = float(tolerance @ (parts[:width] + parts[width:]))
        return value + penalty, np.concatenate([gradient + tolerance, tolerance - gradient])

    found = optimize.minimize(
        objective, np.zeros(2 * width), jac=True, method="L-BFGS-B",
        bounds=[(0.0, None)] * (2 * width),
        options={"maxiter": 5000, "maxfun": 20000, "ftol": 1e-15, "gtol": 1e-9},
    )  # fmt: skip
    return np.asarray(found.x[:width] - found.x[width:])


def _tolerant(
    centred: FloatArray, log_base: FloatArray, tolerance: FloatArray
) -> tuple[FloatArray, BoolArray, bool]:
    """Dual, binding features, convergence; the L-BFGS solution polished on its active set."""
    dual = _tolerant_start(centred, log_base, tolerance)
    free = tolerance == 0.0
    active = free | (np.abs(dual) > 1e-7)
    for _ in range(50):
        sign = np.where(free, 0.0, np.sign(dual))
        edge = centred[:, active] + (sign * tolerance)[active]
        part, converged = _newton(edge, log_base, dual[active])
        dual = np.zeros_like(dual)
        dual[active] = part
        _, _, gradient = _moments(centred, log_base, dual)
        turned = active & ~free & (np.sign(dual) * sign < 0)
        beyond = ~active & (np.abs(gradient) > tolerance + 1e-9)
        if not turned.any() and not beyond.any():
            return dual, active, converged
        if not converged:
            break
        dual[turned] = 0.0
        dual[beyond] = -1e-12 * np.sign(gradient[beyond])
        active = (active & ~turned) | beyond
    return dual, active, False


def entropy_balance(
    centred: FloatArray, base: FloatArray | None = None, *, tolerance: FloatArray | float = 0.0
) -> EntropyBalance:
    r"""Weights closest to ``base`` whose weighted mean of ``centred`` is 0 (or within tolerance).

    Parameters
    ----------
    centred : array, shape (n, p)
        Features less the means to be reached, of comparable scale (say in standard deviations).
    base : array, shape (n,), optional
        Positive frequencies; all 1 by default.
    tolerance : float or array (p,)
        Largest imbalance allowed of each feature.

    Examples
    --------
    >>> found = entropy_balance(np.array([[-.75], [.25]]))       # mean of x in {0, 1} to be .75
    >>> (np.exp(found.log_weight) / 2).round(6).tolist()
    [0.25, 0.75]
    """
    n, width = centred.shape
    weight = np.ones(n) if base is None else base
    log_base = np.log(weight / weight.sum())
    bound = np.broadcast_to(np.asarray(tolerance, dtype=np.float64), (width,))
    if (bound > 0).any():
        dual, active, converged = _tolerant(centred, log_base, bound)
    else:
        dual, converged = _newton(centred, log_base, np.zeros(width))
        active = np.ones(width, dtype=bool)
    value, _, imbalance = _moments(centred, log_base, dual)
    converged = converged and bool((np.abs(imbalance) <= bound + 1e3 * EXACT).all())
    return EntropyBalance(
        dual=dual, log_weight=centred @ dual - value, shift=-value, imbalance=imbalance,
        active=active, converged=converged,
    )  # fmt: skip


def balance_influence(
    centred: FloatArray,
    solution: EntropyBalance,
    base: FloatArray | None = None,
    target: FloatArray | None = None,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    r"""How the balancing weights move with the rows of both samples.

    With :math:`w_i = p_i/b_i` of mean 1 and :math:`S` the weighted covariance of the features, the
    dual moves by :math:`-S^{-1} w_i (F_i - \bar F_w)` for logged row i and by
    :math:`S^{-1}(\tilde F_j - \bar F_f)` for row j of the other sample (binding features only);
    the constant that makes the weights average 1 moves by :math:`1 - w_i`.

    Parameters
    ----------
    centred, base
        As in :func:`entropy_balance`.
    target : array, shape (m, p), optional
        Features of the other sample, less their mean.

    Returns
    -------
    gradient : array, shape (n, q + 1)
        Derivative of the log weights in the q binding duals and the constant.
    logged, target : arrays, shape (n, q + 1), (m, q + 1)
        Influence of the rows on those.
    """
    n = centred.shape[0]
    b = np.ones(n) if base is None else base
    active = solution.active
    gradient = (centred - solution.imbalance)[:, active]
    weight = np.exp(solution.log_weight)
    covariance = gradient.T @ ((b * weight)[:, None] * gradient) / b.sum()
    inverse = np.linalg.pinv(covariance, rcond=1e-12, hermitian=True)
    logged = -(weight[:, None] * gradient) @ inverse
    other = np.zeros((0, inverse.shape[0])) if target is None else target[:, active] @ inverse
    return (
        np.column_stack([gradient, np.ones(n)]),
        np.column_stack([logged, 1.0 - weight]),
        np.column_stack([other, np.zeros(other.shape[0])]),
    )


def least_imbalance(centred: FloatArray) -> tuple[float, int]:
    """Smallest attainable largest imbalance over all weights, and a feature that attains it.

    Examples
    --------
    >>> least_imbalance(np.array([[1., 0.], [2., 0.]]))          # the first mean is at least 1
    (1.0, 0)
    """
    n, width = centred.shape
    columns = np.vstack([centred.T, -centred.T])
    found = optimize.linprog(
        np.append(np.zeros(n), 1.0),
        A_ub=np.column_stack([columns, -np.ones(2 * width)]),
        b_ub=np.zeros(2 * width),
        A_eq=np.append(np.ones(n), 0.0)[None, :],
        b_eq=np.ones(1),
        bounds=[(0.0, None)] * (n + 1),
        method="highs",
    )
    if found.x is None or found.fun is None:
        return math.nan, 0
    gaps = np.abs(found.x[:n] @ centred)
    return float(found.fun), int(np.argmax(gaps))
