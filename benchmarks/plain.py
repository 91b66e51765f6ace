"""The benchmark's tasks in plain NumPy: what a careful analyst writes by hand.

Nothing of the package is imported. Every function returns the same figures as the package, so that
a ratio of times compares equal work; input checks, verdicts and notes are the package's extra.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
Figures = dict[str, FloatArray]


def mean_se(terms: FloatArray, scale: float = 1.0) -> float:
    """Standard error of the mean of ``terms / scale``."""
    return float(terms.std(ddof=1)) / (math.sqrt(terms.shape[0]) * scale)


def pareto_k(ell: FloatArray) -> float:
    """Tail shape of ``exp(ell)``: Zhang and Stephens (2009), prior of Vehtari et al. (2024)."""
    n = ell.shape[0]
    m = math.ceil(min(0.2 * n, 3.0 * math.sqrt(n)))
    top = np.sort(np.partition(ell, n - m - 1)[n - m - 1 :])
    x = np.exp(top[1:] - top[-1]) - math.exp(top[0] - top[-1])
    size = 30 + int(math.sqrt(m))
    grid = 1.0 - np.sqrt(size / (np.arange(1, size + 1) - 0.5))
    theta = grid / (3.0 * x[int(m / 4 + 0.5) - 1]) + 1.0 / x[-1]
    k = np.log1p(-theta[:, None] * x).mean(axis=1)
    fit = m * (np.log(-theta / k) - k - 1.0)
    posterior = np.exp(fit - fit.max())
    theta_hat = theta @ posterior / posterior.sum()
    return float((m * np.log1p(-theta_hat * x).mean() + 5.0) / (m + 10.0))


def _stacked(rows: Sequence[dict[str, float]]) -> Figures:
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


# ------------------------------------------------------------------ predictions given
def values(
    y: FloatArray,
    logp_logging: FloatArray,
    logp_target: FloatArray,
    q_logged: FloatArray,
    q_target: FloatArray,
) -> Figures:
    """IPW, Hajek and doubly robust value of one policy with SE, ESS and k-hat, weights shared."""
    n, m = y.shape[0], q_target.shape[0]
    ell = logp_target - logp_logging
    w = np.exp(ell)
    mean_w = w.mean()
    wy = w * y
    mean_wy = wy.mean()
    wr = w * (y - q_logged)
    residual = wr.mean() / mean_w
    variance = (wr - w * residual).var(ddof=1) / (n * mean_w**2) + q_target.var(ddof=1) / m
    return _stacked(
        [
            {
                "ipw": mean_wy,
                "ipw_se": mean_se(wy),
                "hajek": mean_wy / mean_w,
                "hajek_se": mean_se(wy - w * (mean_wy / mean_w), mean_w),
                "dr": residual + q_target.mean(),
                "dr_se": math.sqrt(variance),
                "ess": n * n * mean_w**2 / (w @ w),
                "pareto_k": pareto_k(ell),
            }
        ]
    )


def values_apart(
    y: FloatArray,
    logp_logging: FloatArray,
    logp_target: FloatArray,
    q_logged: FloatArray,
    q_target: FloatArray,
) -> Figures:
    """As :func:`values` by three scripts that share nothing: each has its weights, ESS, k-hat."""
    n, m = y.shape[0], q_target.shape[0]
    out: dict[str, float] = {}
    for kind in ("ipw", "hajek", "dr"):
        ell = logp_target - logp_logging
        w = np.exp(ell)
        scale = 1.0 if kind == "ipw" else float(w.mean())
        outcome = y - q_logged if kind == "dr" else y
        terms = w * outcome
        value = terms.mean() / scale
        if kind != "ipw":
            terms = terms - w * value
        variance = terms.var(ddof=1) / (n * scale**2)
        if kind == "dr":
            value += q_target.mean()
            variance += q_target.var(ddof=1) / m
        out |= {kind: float(value), f"{kind}_se": math.sqrt(variance)}
        out |= {"ess": float(w.sum()) ** 2 / float(w @ w), "pareto_k": pareto_k(ell)}
    return _stacked([out])


def policies(
    y: FloatArray,
    logp_logging: FloatArray,
    logp_target: FloatArray,
    q_logged: FloatArray,
    draws_target: FloatArray,
    draws_sampling: FloatArray,
    q_target: FloatArray,
) -> Figures:
    """Hajek and doubly robust values of K policies, one at a time.

    Policies share the draws of one sampling policy: ``draws_target`` (m, K) and ``draws_sampling``
    (m,) are the draws' log-probs.
    """
    n, m = y.shape[0], q_target.shape[0]
    residuals = y - q_logged
    rows = []
    for k in range(logp_target.shape[1]):
        ell = logp_target[:, k] - logp_logging
        w = np.exp(ell)
        mean_w = w.mean()
        wy = w * y
        hajek = wy.mean() / mean_w
        wr = w * residuals
        residual = wr.mean() / mean_w
        w0 = np.exp(draws_target[:, k] - draws_sampling)
        plug_in = w0 @ q_target / w0.sum()
        logged = (wr - w * residual).var(ddof=1) / (n * mean_w**2)
        drawn = (w0 * (q_target - plug_in)).var(ddof=1) / (m * w0.mean() ** 2)
        rows.append(
            {
                "hajek": hajek,
                "hajek_se": mean_se(wy - w * hajek, mean_w),
                "dr": residual + plug_in,
                "dr_se": math.sqrt(logged + drawn),
                "ess": n * n * mean_w**2 / (w @ w),
                "pareto_k": pareto_k(ell),
            }
        )
    return _stacked(rows)


# ------------------------------------------------------------------ simultaneous bands
def _influence(
    y: FloatArray, logp_logging: FloatArray, logp_target: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Hajek values (K,) and their contributions (n, K)."""
    w = np.exp(logp_target - logp_logging[:, None])
    total = w.sum(axis=0)
    value = y @ w / total
    return value, w * (y[:, None] - value) / total


def _max_t(covariance: FloatArray, n_sim: int, level: float) -> float:
    scale = np.sqrt(np.diagonal(covariance))
    spectrum, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    root = vectors * np.sqrt(spectrum.clip(min=0.0))
    normals = np.random.default_rng(0).standard_normal((n_sim, scale.size))
    largest = np.sort(np.abs(normals @ root.T).max(axis=1))
    return max(float(largest[math.ceil(level * n_sim) - 1]), 1.959963984540054)


def band(
    y: FloatArray,
    logp_logging: FloatArray,
    logp_target: FloatArray,
    *,
    n_sim: int,
    level: float = 0.95,
) -> Figures:
    """Max-t bands of K Hajek values and of their contrasts with the first policy.

    K normals a simulation replace n multipliers: given the data the two have the same law.
    """
    n, count = logp_target.shape
    value, rows = _influence(y, logp_logging, logp_target)
    covariance = n / (n - 1) * (rows.T @ rows)
    contrast = np.column_stack([-np.ones(count - 1), np.eye(count - 1)])
    contrast_covariance = contrast @ covariance @ contrast.T
    return {
        "half_width": _max_t(covariance, n_sim, level) * np.sqrt(np.diagonal(covariance)),
        "value": value,
        "contrast": contrast @ value,
        "contrast_half_width": _max_t(contrast_covariance, n_sim, level)
        * np.sqrt(np.diagonal(contrast_covariance)),
    }


def band_by_multipliers(
    y: FloatArray,
    logp_logging: FloatArray,
    logp_target: FloatArray,
    *,
    n_sim: int,
    level: float = 0.95,
) -> Figures:
    """The textbook multiplier bootstrap of the same bands: n normals a simulation, in chunks."""
    value, rows = _influence(y, logp_logging, logp_target)
    rows = np.column_stack([rows, rows[:, 1:] - rows[:, :1]])
    scale = np.sqrt((rows * rows).sum(axis=0))
    rng = np.random.default_rng(0)
    chunk = max(1, int(4e6 // rows.shape[0]))
    drawn = [
        np.abs(rng.standard_normal((min(chunk, n_sim - start), rows.shape[0])) @ rows) / scale
        for start in range(0, n_sim, chunk)
    ]
    statistics = np.concatenate(drawn)
    count = logp_target.shape[1]
    critical = [
        np.quantile(part.max(axis=1), level)
        for part in (statistics[:, :count], statistics[:, count:])
    ]
    return {
        "half_width": critical[0] * scale[:count],
        "value": value,
        "contrast": value[1:] - value[0],
        "contrast_half_width": critical[1] * scale[count:],
    }


# ------------------------------------------------------------------ cross-fitting
def deal(n: int, n_folds: int = 5) -> IntArray:
    """Balanced folds in random order, shape (n,)."""
    return np.random.default_rng(0).permutation(n) % n_folds


def _with_intercept(X: FloatArray) -> FloatArray:
    return np.column_stack([np.ones(X.shape[0]), X])


def _coefficients(
    design: FloatArray, y: FloatArray, fold: IntArray, *, solver: str
) -> list[FloatArray]:
    """OLS without each fold: by ``lstsq`` fold by fold, or by normal equations downdated."""
    folds = range(int(fold.max()) + 1)
    if solver == "lstsq":
        return [np.linalg.lstsq(design[fold != k], y[fold != k])[0] for k in folds]
    parts = [design[fold == k] for k in folds]
    gram = [z.T @ z for z in parts]
    moment = [z.T @ y[fold == k] for k, z in zip(folds, parts, strict=True)]
    all_gram, all_moment = np.sum(gram, axis=0), np.sum(moment, axis=0)
    return [np.linalg.solve(all_gram - gram[k], all_moment - moment[k]) for k in folds]


def crossfit(
    X: FloatArray,
    y: FloatArray,
    logp_logging: FloatArray,
    logp_target: FloatArray,
    draws: FloatArray,
    *,
    fold: IntArray | None = None,
    solver: str = "lstsq",
) -> Figures:
    """Cross-fitted doubly robust value (Hajek) with OLS and its influence-function SE."""
    n, m = y.shape[0], draws.shape[0]
    fold = deal(n) if fold is None else fold
    design = _with_intercept(X)
    coef = _coefficients(design, y, fold, solver=solver)
    q = np.empty(n)
    for k, b in enumerate(coef):
        rows = np.flatnonzero(fold == k)
        q[rows] = design[rows] @ b
    share = np.bincount(fold) / n
    q_target = _with_intercept(draws) @ (share @ np.array(coef))
    w = np.exp(logp_target - logp_logging)
    mean_w = w.mean()
    wr = w * (y - q)
    residual = wr.mean() / mean_w
    variance = (wr - w * residual).var(ddof=1) / (n * mean_w**2) + q_target.var(ddof=1) / m
    return {"dr": residual + q_target.mean(), "dr_se": np.sqrt(variance)}


def treatment_effect(
    covariates: FloatArray,
    treated: FloatArray,
    y: FloatArray,
    propensity: FloatArray,
    *,
    fold: IntArray | None = None,
) -> Figures:
    """Cross-fitted AIPW effect of a binary treatment (Hajek weights), OLS in each arm, with SE."""
    n = y.shape[0]
    fold = deal(n) if fold is None else fold
    design = _with_intercept(covariates)
    influence, value = np.zeros(n), 0.0
    for arm, sign in ((1.0, 1.0), (0.0, -1.0)):
        inside = treated == arm
        q = np.empty(n)
        for k in range(int(fold.max()) + 1):
            train = inside & (fold != k)
            test = fold == k
            q[test] = design[test] @ np.linalg.lstsq(design[train], y[train])[0]
        w = inside / (propensity if arm else 1.0 - propensity)
        wr = w * (y - q)
        residual = wr.sum() / w.sum()
        value += sign * (residual + q.mean())
        influence += sign * ((wr - w * residual) / w.mean() + q - q.mean())
    return {"effect": np.asarray(value), "effect_se": np.asarray(mean_se(influence))}
