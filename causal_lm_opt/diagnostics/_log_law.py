r"""The law of a logged row, smoothed from the log and draws of the target; logs drawn from it.

Of a row the law knows the log ratio :math:`\ell` and the residual that is averaged:

- :math:`\ell` is pooled from both samples. As :math:`dP_f = e^{\ell} dP_R`, a logged row counts
  :math:`1/(n + m e^{\ell})`, and so does a draw, for :math:`n` rows and :math:`m` draws: texts that
  the log lacks are there by their draws, however rare the logger writes them;
- the residual has a quadratic mean in :math:`\ell` and a spread :math:`e^{b\ell}`, about which the
  noise of *all* rows is found. A log that happens to lack the large outcomes where weights are
  large shows a small standard error and no skewness there; the noise of all rows still has them.

Thousands of logs are drawn at the cost of one: the few rows that a log's largest contributions come
from are drawn one by one, the sums over all others are as good as normal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

__all__ = ["Atoms", "LogLaw", "law_of_rows", "studentised_errors"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

RATIO_CELLS, NOISE_CELLS = 96, 64
TAIL_ROWS = 50.0  # rows of each log that are drawn one by one; 800 give the same coverage
NEVER = 1e-12  # probability of texts that are in no log
FARTHEST = 100.0  # nats: a value further beyond the log than this is as good as infinite
WIDEST = 10.0  # nats between spreads of the noise
LOGS = 4000
SEED = 20261123


@dataclass(frozen=True, eq=False)
class LogLaw:
    """Law of a logged row: points of the log ratio, and a residual's mean, spread and noise there.

    Attributes
    ----------
    ell, log_mass, mean, spread : arrays, shape (points,)
        Log ratios with their log-probabilities, the residual's mean there, and what its noise is
        multiplied by.
    noise, noise_mass : arrays, shape (values,)
        Noise with its probabilities; its mean is 0.
    """

    ell: FloatArray
    log_mass: FloatArray
    mean: FloatArray
    spread: FloatArray
    noise: FloatArray
    noise_mass: FloatArray

    def atoms(
        self,
        log_weight: Callable[[FloatArray], FloatArray] | None = None,
        *,
        normalize: bool = True,
    ) -> Atoms:
        """The law on few atoms, fine where the weighted sums' second moments lie.

        Parameters
        ----------
        log_weight : callable, optional
            Log weights for log ratios; without it the log ratios themselves.
        normalize : bool
            Self-normalised weights: residuals are centred at their weighted mean. Else weights are
            1 and residuals the products, centred at their mean.
        """
        log_w = self.ell if log_weight is None else log_weight(self.ell)
        # What no log will ever hold is part of the value all the same.
        drawn = self.log_mass > math.log(NEVER)
        unit = float(log_w[drawn].max())
        log_part = self.log_mass + log_w
        top = float(log_part.max())
        part = np.exp(log_part - top)
        scale = 1.0 / float(part.sum()) if normalize else math.exp(min(top - unit, FARTHEST))
        value = float(part @ self.mean) * scale
        mass, weight = np.exp(self.log_mass[drawn]), np.exp(log_w[drawn] - unit)
        at = _cells(self.ell[drawn], mass, weight, RATIO_CELLS)
        share = np.bincount(at, weights=mass)
        w, mean, spread = (
            (np.bincount(at, weights=mass * x) / share)[:, None]
            for x in (weight, self.mean[drawn], self.spread[drawn])
        )
        of = _cells(self.noise, self.noise_mass, np.abs(self.noise), NOISE_CELLS)
        noise_share = np.bincount(of, weights=self.noise_mass)
        noise = np.bincount(of, weights=self.noise_mass * self.noise) / noise_share
        residual = mean + spread * noise
        weights = w * np.ones_like(noise)
        if not normalize:
            weights, residual = np.ones_like(residual), weights * residual
        p = np.asarray(share[:, None] * noise_share, dtype=np.float64)
        return Atoms(p.ravel(), weights.ravel(), (residual - value).ravel())


@dataclass(frozen=True, eq=False)
class Atoms:
    """Probabilities, weights and centred residuals of a row's law, each of shape (atoms,)."""

    probability: FloatArray
    weight: FloatArray
    residual: FloatArray


def _cells(values: FloatArray, mass: FloatArray, size: FloatArray, count: int) -> IntArray:
    """Cell of each value: neighbours together, with equal shares of mass and its first moments."""
    order = np.argsort(values, kind="stable")
    importance = np.zeros_like(mass)
    for power in range(3):
        part = mass * size**power
        total = float(part.sum())
        if total > 0:
            importance += part / total
    ordered = importance[order]
    middle = np.cumsum(ordered) - ordered / 2
    cell = np.minimum((middle / float(importance.sum()) * count).astype(np.intp), count - 1)
    out = np.empty(values.shape[0], dtype=np.intp)
    out[order] = np.unique(cell, return_inverse=True)[1]
    return out


def law_of_rows(
    ell: FloatArray,
    residual: FloatArray,
    ell_target: FloatArray,
    *,
    sample_weight: FloatArray | None = None,
    target_weight: FloatArray | None = None,
) -> LogLaw:
    """Fit the law of a logged row to the log and draws of the target.

    Parameters
    ----------
    ell, residual : arrays, shape (n,)
        Log ratios (``-inf`` where the target never writes) and what is averaged.
    ell_target : array, shape (m,)
        Log ratios of the draws (``+inf`` where the logger never writes: no log has them).
    sample_weight, target_weight : arrays, optional
        Frequencies of the rows, weights of the draws.
    """
    s = np.ones(ell.shape[0]) if sample_weight is None else sample_weight
    share = np.ones(ell_target.shape[0]) if target_weight is None else target_weight
    possible = np.isfinite(ell_target) & (share > 0)
    ell_target, share = ell_target[possible], share[possible]
    n, m = float(s.sum()), float(share.sum()) ** 2 / max(float((share**2).sum()), 1e-300)
    points = np.concatenate([ell, ell_target])
    counts = np.concatenate([s, share * (m / float(share.sum()))]) if share.size else s
    log_mass = np.log(counts) - np.logaddexp(math.log(n), math.log(max(m, 1e-300)) + points)
    log_mass -= float(logsumexp(log_mass))
    mean, spread, noise, noise_mass = _residual_law(ell, residual, s, points)
    return LogLaw(points, log_mass, mean, spread, noise, noise_mass)


def _residual_law(
    ell: FloatArray, residual: FloatArray, s: FloatArray, points: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Mean and spread of the residual at ``points``, and its noise with probabilities."""
    finite = np.isfinite(ell)
    x, r, f = ell[finite], residual[finite], s[finite]
    f = f / float(f.sum())
    centre = float(f @ x)
    scale = math.sqrt(float(f @ (x - centre) ** 2))
    if not scale > 1e-9:
        average = float(f @ r)
        flat = np.full(points.shape[0], average)
        return flat, np.ones_like(flat), r - average, f
    z = (x - centre) / scale
    ahead = np.clip((points - centre) / scale, float(z.min()), None)
    design = np.vander(z, 3, increasing=True)
    trend = np.linalg.pinv(design.T @ (f[:, None] * design), hermitian=True) @ (design.T @ (f * r))
    mean = np.clip(np.vander(ahead, 3, increasing=True) @ trend, float(r.min()), float(r.max()))
    noise = r - design @ trend
    size = np.abs(noise)
    log_size = np.log(np.maximum(size, 1e-6 * max(float(size.max()), 1e-300)))
    slope = float(f @ (z * log_size))  # z has mean 0 and variance 1
    left = log_size - float(f @ log_size) - slope * z
    se = math.sqrt(float(f**2 @ (z * left) ** 2))
    slope = math.copysign(max(0.0, abs(slope) - se), slope)
    noise = noise * np.exp(-np.clip(slope * z, -WIDEST, WIDEST))
    spread = np.exp(np.clip(slope * np.minimum(ahead, float(z.max())), -WIDEST, WIDEST))
    return mean, spread, noise - float(f @ noise), f


def studentised_errors(
    atoms: Atoms, n: float, *, extra: float = 0.0, logs: int = LOGS
) -> FloatArray:
    r"""Errors over standard errors of the weighted mean in logs of ``n`` rows drawn from the law.

    With weights :math:`w` and centred residuals :math:`r` a log gives
    :math:`\sum w r \big/ \sqrt{\sum w^2 (r - \delta)^2}`, :math:`\delta = \sum w r / \sum w`.

    Parameters
    ----------
    n : float
        Independent rows of a log.
    extra : float
        Variance of another, normal part of the estimate, in units of the rows'.
    logs : int
        Number of logs.

    Returns
    -------
    array, shape (logs,)
        The same for the same input. ``nan`` where residuals do not vary.
    """
    p, w = atoms.probability, atoms.weight
    scale = math.sqrt(float(p @ (w * atoms.residual) ** 2))
    if not scale > 0:
        return np.full(logs, math.nan)
    r = atoms.residual / scale
    terms = np.column_stack([w, w * r, w * w, w * w * r, (w * r) ** 2])
    total, error, square, cross, variance = _sums(p, terms, n, logs).T
    shift = np.divide(error, total, out=np.zeros(logs), where=total > 0)
    variance = np.maximum(variance - 2 * shift * cross + shift**2 * square, 0.0) + extra * n
    other = np.random.default_rng([SEED, 1]).standard_normal(logs)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (error + math.sqrt(extra * n) * other) / np.sqrt(variance)
    # A log whose rows do not vary at all has an interval of no width beside the value.
    return np.asarray(np.where(variance > 0, found, np.copysign(math.inf, error)))


def _sums(p: FloatArray, terms: FloatArray, n: float, logs: int) -> FloatArray:
    """Sums of ``terms`` (atoms, J) over Poisson numbers of each atom, in every log (logs, J)."""
    rng = np.random.default_rng([SEED, 0])
    order = np.argsort(-np.abs(terms[:, 1]), kind="stable")
    expected = n * p[order]
    reached = np.cumsum(expected)
    cut = int(np.searchsorted(reached, TAIL_ROWS, side="right"))
    tail, body = order[:cut], order[cut:]
    mean = (n * p[body]) @ terms[body]
    covariance = terms[body].T @ ((n * p[body])[:, None] * terms[body])
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    out = mean + rng.standard_normal((logs, mean.shape[0])) @ root.T
    # Poisson numbers over all logs together, each row then falls into one of them.
    times = rng.poisson(logs * expected[:cut])
    log_of = rng.integers(logs, size=int(times.sum()))
    for j in range(mean.shape[0]):
        rows = np.repeat(terms[tail, j], times)
        out[:, j] += np.bincount(log_of, weights=rows, minlength=logs)
    return np.asarray(out)
