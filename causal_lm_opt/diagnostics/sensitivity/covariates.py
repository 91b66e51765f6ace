r"""How strong recorded covariates are: what a hidden confounder is held against."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from causal_lm_opt._validation import check_vector
from causal_lm_opt.diagnostics.sensitivity._bounds import check_weight
from causal_lm_opt.diagnostics.sensitivity.omitted_variable import ConfounderStrength

__all__ = ["covariate_strengths"]

FloatArray = npt.NDArray[np.float64]


def covariate_strengths(
    covariates: Any,
    outcome: Any,
    residual: Any,
    weight: Any,
    *,
    fold: Any,
    reference_weight: Any = None,
    times: float = 1.0,
    sample_weight: Any = None,
) -> list[ConfounderStrength]:
    r"""Strength of a confounder ``times`` as strong as each recorded covariate.

    With :math:`\Delta_Y` the variance of the outcome, and :math:`\Delta_w` that of the weights,
    that a straight-line model explains with the covariate beyond what it explains with the others,

    .. math:: C_Y^2 = \frac{k\,\Delta_Y}{E(Y-q)^2}, \qquad C_D^2 = \frac{k\,\Delta_w}{E w^2},

    ``k`` being ``times``. So a confounder "as strong as age" moves outcome and weights by as much
    as age does, and its bias is at most :math:`k \sqrt{\Delta_Y \Delta_w}`, whatever the model
    in use explains.

    Parameters
    ----------
    covariates : array, shape (n, p)
    outcome : array, shape (n,)
    residual : array, shape (n,)
        ``y - q`` of the outcome model in use, predicted without the row.
    weight : array, shape (n,)
        Importance weights; scaled to mean 1.
    fold : integer array, shape (n,)
        Fold of each row; rows of one cluster in one fold. Each is predicted by the others.
    reference_weight : array, shape (n,), optional
        As in :func:`omitted_variable_bound`.
    times : float
        2 for "twice as strong": it moves both by twice as much variance.
    sample_weight : array, shape (n,), optional
        Frequencies.

    Returns
    -------
    list of ConfounderStrength
        One a column, 0 for a column that the others determine.

    Raises
    ------
    ValueError
        For wrong shapes, one fold only, negative weights, residuals that are 0 everywhere.

    Notes
    -----
    After the benchmarks of Cinelli and Hazlett (2020) and Chernozhukov et al. (2022). These take
    the share of the weights relative to all that the confounder's own model explains
    (:func:`benchmark_strength`), which has no limit where covariates explain most of the weights,
    as they may those of a difference; here it is relative to the weights in use. Whether a hidden
    confounder may be as strong as a recorded covariate is a judgement; the figures do not tell.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> age, noise = rng.uniform(-1, 1, size=(2, 20_000))
    >>> y, w = 3 * age + noise, 1 + age / 2              # Var(age) = 1/3
    >>> fold = np.arange(20_000) % 5
    >>> (found,) = covariate_strengths(age[:, None], y, y, w, fold=fold)
    >>> round(found.outcome, 2), round(found.c_weight**2, 2)      # 3 of 3.33; 1/12 of 1.08
    (0.9, 0.08)
    """
    if not (math.isfinite(times) and times > 0):
        raise ValueError(f"times must be a positive number, got {times!r}.")
    X = np.asarray(covariates, dtype=np.float64)
    if X.ndim != 2 or X.shape[0] == 0 or not np.isfinite(X).all():
        raise ValueError(f"covariates must be a finite (n, p) array, got shape {X.shape}.")
    n = X.shape[0]
    s = np.ones(n) if sample_weight is None else check_vector(sample_weight, "sample_weight", n)
    y, e = check_vector(outcome, "outcome", n), check_vector(residual, "residual", n)
    labels = np.asarray(fold)
    if labels.shape != (n,) or np.unique(labels).size < 2:
        raise ValueError(f"fold must hold two folds or more, one label for each of {n} rows.")
    alpha = _scaled(weight, "weight", s)
    if reference_weight is not None:
        alpha = alpha - _scaled(reference_weight, "reference_weight", s)
    left, moment = float(s @ (e * e) / s.sum()), float(s @ (alpha * alpha) / s.sum())
    if left == 0.0:
        raise ValueError("residual is 0 everywhere: no variance is left for a confounder.")
    both = np.stack([y, alpha], axis=1)
    every = _left_over(X, both, labels, s)
    found = []
    for j in range(X.shape[1]):
        gain = np.maximum(_left_over(np.delete(X, j, axis=1), both, labels, s) - every, 0.0)
        explained = times * float(gain[0]) / left
        moved = times * float(gain[1]) / moment if moment > 0 else 0.0
        found.append(ConfounderStrength(min(explained, 1.0), moved / (1.0 + moved)))
    return found


def _scaled(weight: Any, name: str, s: FloatArray) -> FloatArray:
    """Weights of mean 1."""
    w = check_weight(weight, name, s.shape[0], s)
    return np.asarray(w * (s.sum() / (s @ w)))


def _left_over(
    X: FloatArray, targets: FloatArray, fold: npt.NDArray[Any], s: FloatArray
) -> FloatArray:
    """Mean squares that lines fitted on the other folds leave of (n, 2) targets, shape (2,)."""
    design = np.column_stack([np.ones(X.shape[0]), X])
    # columns of like size, so that the least squares' cut-off is the same for all
    size = np.sqrt(s @ design**2)
    design = design / np.where(size > 0, size, 1.0)
    total = np.zeros(targets.shape[1])
    for k in np.unique(fold):
        test = fold == k
        root = np.sqrt(s[~test])[:, None]
        line = np.linalg.lstsq(root * design[~test], root * targets[~test], rcond=1e-10)[0]
        total += s[test] @ (targets[test] - design[test] @ line) ** 2
    return np.asarray(total / s.sum())
