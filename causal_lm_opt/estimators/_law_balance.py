"""Whether the weights of fitted feature laws balance: readers, text features and their products."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from causal_lm_opt.core.weights import Weighting, relative_weights
from causal_lm_opt.estimators._densities import ConditionalDensity

__all__ = ["form_findings", "law_findings"]

FloatArray = npt.NDArray[np.float64]
LEVEL, LEVEL_Z = 0.001, 3.29  # two-sided
MOST_COLUMNS = 100
ESTIMATED = (
    "The weights come from fitted laws of text features: no diagnostic sees a confounder outside "
    "Z, or outcomes that respond to more of the text than these features, so that the verdict is "
    "never better than caution."
)


def law_findings(
    fitted: Any, t: FloatArray, z: FloatArray, t_target: FloatArray,
    target_weight: FloatArray | None, se: float,
) -> list[tuple[int, str]]:  # fmt: skip
    r"""Findings from moments that right laws give: :math:`E_R[w\,h(t, z)] = E_Z E_{t\sim f}\,h`.

    Looked at are z and t, their squares, and t times z and its squares. Do not use where outcomes
    (or residuals) respond to what is out of balance by more than ``se``, and that is no noise.

    Parameters
    ----------
    fitted : IPW or DoublyRobust
    t, z : arrays, shape (r, d), (r, c)
        Features and covariates of the estimator's rows; ``t_target`` (m, d) those of the draws.
    """
    log = fitted.log_
    s = np.ones(log.y.shape[0]) if log.sample_weight is None else log.sample_weight
    v = np.ones(t_target.shape[0]) if target_weight is None else target_weight
    weighting, ell = Weighting.of(fitted.weights), fitted.policies_.ell.column(0)
    w = relative_weights(weighting.transform(ell, log.sample_weight), normalize=True)
    w = w / np.average(w, weights=s)
    t, t_target, z = _centred(t, t_target, s, v, z)
    readers, goal_draws = np.hstack([z, z**2]), np.hstack([t_target, t_target**2])
    bent = np.hstack([z, z**2 - np.average(z**2, axis=0, weights=s)])
    products = (t[:, :, None] * bent[:, None, :]).reshape(t.shape[0], -1)
    if products.shape[1] > MOST_COLUMNS:
        products = products[:, :0]
    h = np.hstack([readers, products, t, t**2])
    mean_r, mean_f = np.average(readers, axis=0, weights=s), np.average(goal_draws, 0, weights=v)
    goal = np.concatenate([mean_r, np.zeros(products.shape[1]), mean_f])
    reached = np.average(h, axis=0, weights=s * w)
    gap = goal - reached
    own = w[:, None] * (h - reached)
    own[:, : readers.shape[1]] -= readers - mean_r
    logged = s[:, None] * own / s.sum()
    if log.codes is not None:
        logged = np.stack([np.bincount(log.codes, weights=x) for x in logged.T], axis=1)
    covariance = logged.T @ logged
    drawn = v[:, None] * (goal_draws - mean_f) / v.sum()
    covariance[-mean_f.size :, -mean_f.size :] += drawn.T @ drawn
    found = [(1, ESTIMATED)]
    spread = np.sqrt(np.average((h - np.average(h, axis=0, weights=s)) ** 2, axis=0, weights=s))
    far = np.abs(gap) / np.maximum(spread, 1e-12)
    noise = np.sqrt(np.diag(covariance))
    bad = (far > 0.1) & (np.abs(gap) > LEVEL_Z * np.maximum(noise, 1e-12))
    if not bad.any():
        return found
    shift, error = _shift(fitted, h, s, gap, covariance)
    text = (
        f"The fitted laws do not balance: {int(bad.sum())} of {gap.size} means of z, t, their "
        f"squares and products are off after weighting (up to {far[bad].max():.2f} standard "
        f"deviations), which would move the value by {shift:+.3g}. Let P(t | z) bend in z (squares "
        "in Z, or a classifier), or give DoublyRobust an outcome model that does."
    )
    refuted = abs(shift) > max(se, LEVEL_Z * error)
    return [(2 if refuted else 1, text), *found]


def _centred(
    t: FloatArray, t_target: FloatArray, s: FloatArray, v: FloatArray, z: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Features less the draws' means, covariates less the readers'; constants dropped."""
    middle = np.average(t_target, axis=0, weights=v)
    z = z[:, np.ptp(z, axis=0) > 0]
    return t - middle, t_target - middle, z - np.average(z, axis=0, weights=s)


def _residual(fitted: Any) -> FloatArray:
    """Outcomes, less the predictions of an outcome model (the mean of the splits')."""
    y: FloatArray = fitted.log_.y
    if not hasattr(fitted, "splits_"):
        return y
    return np.asarray(y - np.mean([p.logged for p in fitted.splits_], axis=0))


def _shift(
    fitted: Any, h: FloatArray, s: FloatArray, gap: FloatArray, covariance: FloatArray
) -> tuple[float, float]:
    """Change of the value, and its error, if outcomes linear in h met the means that are due."""
    residual = _residual(fitted)
    root = np.sqrt(s)[:, None]
    design = root * np.column_stack([np.ones(s.shape[0]), h])
    slope = np.linalg.lstsq(design, root[:, 0] * residual, rcond=1e-9)[0][1:]
    return float(slope @ gap), math.sqrt(max(float(slope @ covariance @ slope), 0.0))


def form_findings(
    fitted: Any, law: ConditionalDensity, t: Any, design: FloatArray, se: float
) -> list[tuple[int, str]]:
    """Whether P(t | z) bends in z where the fitted law does not, and what that does to the value.

    The law's residuals are held against squares and products of z; where they respond (level .001,
    Bonferroni), the weighted mean is taken again with a law that has these terms: do not use where
    it moves by more than ``se``.

    Parameters
    ----------
    law : ConditionalDensity
        That of t given z, ``design`` (r, 1 + c) its covariates led by ones; ``t`` its features.
    """
    log, ell = fitted.log_, fitted.policies_.ell.column(0)
    s = np.ones(ell.shape[0]) if log.sample_weight is None else log.sample_weight
    extra = _bends(design, s)
    if not extra.shape[1]:
        return []
    error = law.residual(t, design)
    part = (s[:, None] * extra)[:, :, None] * error[:, None, :]
    part = part.reshape(error.shape[0], -1)
    total = part.sum(axis=0)
    if log.codes is not None:
        part = np.stack([np.bincount(log.codes, weights=x) for x in part.T], axis=1)
    z = np.abs(total) / np.maximum(np.sqrt((part**2).sum(axis=0)), 1e-300)
    if not 2.0 * float(special.ndtr(-z.max())) * z.size < LEVEL:
        return []
    wide = np.column_stack([design, extra])
    try:
        bent = law.refit(t, wide, log.sample_weight)
    except ValueError:  # the terms explain t without a rest: the wider law has no density
        return []
    moved = ell + law.log_prob(t, design) - bent.log_prob(t, wide)
    residual, weighting = _residual(fitted), Weighting.of(fitted.weights)
    means = []
    for ratio in (ell, moved):
        w = relative_weights(
            weighting.transform(ratio, log.sample_weight), normalize=weighting.normalize
        )
        means.append((s * w) @ residual / ((s * w).sum() if weighting.normalize else s.sum()))
    shift = float(means[1] - means[0])
    text = (
        f"P(t | z) bends in z where the fitted law does not (z {z.max():.1f}): with squares and "
        f"products of z in it the value would move by {shift:+.3g} (standard error {se:.3g}). Give "
        "them in Z, or use a classifier."
    )
    return [(2 if abs(shift) > se else 1, text)]


def _bends(design: FloatArray, s: FloatArray) -> FloatArray:
    """Squares and (of few covariates) products of z, less what the design explains; (r, k)."""
    z = design[:, np.ptp(design, axis=0) > 0]
    if not 0 < z.shape[1] <= 20:
        return np.zeros((z.shape[0], 0))
    z = (z - np.average(z, axis=0, weights=s)) / z.std(axis=0)
    pairs = combinations(range(z.shape[1]), 2) if z.shape[1] <= 6 else ()
    extra = np.column_stack([z**2, *(z[:, i] * z[:, j] for i, j in pairs)])
    root = np.sqrt(s)[:, None]
    slope = np.linalg.lstsq(root * design, root * extra, rcond=1e-9)[0]
    left = extra - design @ slope
    return np.asarray(left[:, left.std(axis=0) > 1e-6])
