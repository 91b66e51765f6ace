r"""Sampling error of balance differences, and the joint test that all are zero.

The plain sandwich fails where a feature is rare: a word seen in 5 of 1,000 draws and in none of 100
logged texts has a difference whose logged half has no spread at all, and z comes out at 2 standard
errors of the draws alone. Under the hypothesis each sample says how much the other should vary:

.. math:: n \operatorname{Var}(\bar F_w) = E_R[w^2 (F - \mu)^2] = E_f[w (F - \mu)^2] ,

and the right-hand side is seen in the draws (in the weighted log for the draws' half). Each half's
variance is therefore at least what the other sample expects of it. Under heavy weights that also
counts the part of the variance that the log has not met yet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from causal_lm_opt.core.inference import cluster_contributions, largest_t
from causal_lm_opt.diagnostics._units import Units

__all__ = [
    "DifferenceError",
    "difference_error",
    "joined_clusters",
    "max_z_p_value",
    "unit_mean_weights",
]

FloatArray = npt.NDArray[np.float64]
HEAVIEST = 100.0  # log weights above it are as good as infinite


@dataclass(frozen=True, eq=False)
class DifferenceError:
    """Sampling error of d differences: covariance (d, d), degrees of freedom of each variance."""

    covariance: FloatArray
    dof: FloatArray


def difference_error(
    phi_logged: FloatArray,
    phi_target: FloatArray | None,
    units: Units,
    draws: Units | None,
    *,
    expected_logged: FloatArray,
    expected_target: FloatArray,
    shared: npt.NDArray[np.intp] | None = None,
) -> DifferenceError:
    """Sampling error of ``mean_logged - mean_target``.

    Parameters
    ----------
    phi_logged, phi_target : arrays, shape (n, d), (m, d)
        Influence functions of both means; the second ``None`` for an exact support.
    units, draws : Units
        Of both samples.
    expected_logged, expected_target : arrays, shape (d,)
        Variance of one row's influence function that the other sample expects.
    shared : integer array, shape (n + m,), optional
        Clusters over both samples, where log and draws share them.
    """
    own = units.covariance(phi_logged)
    extra = _unseen_variance(phi_logged, units, np.diag(own), expected_logged)
    parts = [_unit_sums(phi_logged, units)]
    covariance = own
    if draws is not None and phi_target is not None:
        theirs = draws.covariance(phi_target)
        extra = extra + _unseen_variance(phi_target, draws, np.diag(theirs), expected_target)
        parts.append(_unit_sums(phi_target, draws))
        covariance = own + theirs
        if shared is not None:
            count, n = int(shared.max()) + 1, phi_logged.shape[0]
            sums = np.asarray(
                cluster_contributions(phi_logged, units.frequency, shared[:n], count)
                - cluster_contributions(phi_target, draws.frequency, shared[n:], count)
            )
            apart = np.diag(covariance)
            covariance = count / (count - 1) * (sums.T @ sums)
            # what log and draws of a prompt have in common cancels, unseen variance of it too
            left = np.diag(covariance) / np.where(apart > 0, apart, 1.0)
            extra = extra * np.where(apart > 0, np.minimum(left, 1.0), 1.0)
            parts = [(sums, np.ones(count))]
    covariance = np.asarray(covariance + np.diag(extra))
    return DifferenceError(covariance, _dof(parts, np.diag(covariance)))


def joined_clusters(
    codes: Any, target_codes: Any, units: Units, draws: Units | None
) -> npt.NDArray[np.intp] | None:
    """Clusters over both samples' rows, counted from 0."""
    if draws is None:
        return None
    both = [np.asarray(codes)[units.kept], np.asarray(target_codes)[draws.kept]]
    return np.unique(np.concatenate(both), return_inverse=True)[1]


def unit_mean_weights(
    log_ratio: Any, ell_target: Any, units: Units, draws: Units | None, m: int
) -> FloatArray:
    """Weights of the target's rows, on a scale on which the logged rows' weights average 1.

    Rows that the logger never writes count for nothing: no log of it varies by them.
    """
    ell = np.asarray(log_ratio, dtype=np.float64)[units.kept]
    other = np.asarray(ell_target, dtype=np.float64)
    if other.shape != (m,) or np.isnan(other).any():
        raise ValueError(f"ell_target must be a vector of {m} log ratios without NaN.")
    if draws is not None:
        other = other[draws.kept]
    level = special.logsumexp(ell, b=units.frequency) - math.log(
        ell.shape[0] if units.frequency is None else units.frequency.sum()
    )
    return np.where(np.isposinf(other), 0.0, np.exp(np.minimum(other - level, HEAVIEST)))


def _unseen_variance(
    phi: FloatArray, units: Units, clustered: FloatArray, expected: FloatArray
) -> FloatArray:
    """Variance (d,) of a mean that its own sample does not show but the other one expects.

    Clusters multiply it by the feature's own design effect, and by the mean cluster's size where
    the feature has no spread to tell that from.
    """
    s = units.frequency
    n = float(phi.shape[0] if s is None else s.sum())
    square = phi * phi
    row = np.asarray(square.sum(axis=0) if s is None else s @ square) / (n * (n - 1))
    size = n / units.count
    effect = np.where(row > 0, clustered / np.where(row > 0, row, 1.0), size)
    return np.asarray(np.maximum(expected / n - row, 0.0) * np.clip(effect, 1.0, size))


def _unit_sums(phi: FloatArray, units: Units) -> tuple[FloatArray, FloatArray]:
    """Contributions (G, d) of independent units and how often each occurs (G,)."""
    if units.codes is not None:
        count = int(units.count)
        sums = cluster_contributions(phi, units.frequency, units.codes, count)
        return np.asarray(sums), np.ones(count)
    s = np.ones(phi.shape[0]) if units.frequency is None else units.frequency
    return phi / float(s.sum()), s


def _dof(parts: list[tuple[FloatArray, FloatArray]], variance: FloatArray) -> FloatArray:
    r"""Degrees of freedom (d,): :math:`2/(\sum c^4/V^2 - 1/G)`, see
    :func:`causal_lm_opt.diagnostics.effective_dof`.
    """
    fourth = sum(s @ c**4 for c, s in parts)
    count = sum(float(s.sum()) for _, s in parts)
    safe = np.where(variance > 0, variance, 1.0)
    spread = np.where(variance > 0, fourth / safe**2, 0.0) - 1.0 / count
    return np.asarray(np.where(spread > 2e-9, 2.0 / np.maximum(spread, 2e-9), 1e9))


def max_z_p_value(error: DifferenceError, z: FloatArray, normals: FloatArray) -> float:
    """Monte-Carlo p-value of ``max |z|`` under the correlation of the differences.

    Each z is first brought from its t distribution to the normal: few rows that carry a variance
    make z large by themselves.
    """
    alive = np.diag(error.covariance) > 0
    lowest = 1.0 / (len(normals) + 1)
    if (np.isinf(z) & ~alive).any():
        return lowest
    if not alive.any():
        return 1.0
    tail = stats.t.logsf(np.abs(z[alive]), np.maximum(error.dof[alive], 1.0))
    score = float(-special.ndtri_exp(np.maximum(tail, -1e10)).min())
    largest = np.asarray(largest_t(error.covariance, normals))
    return lowest * (1.0 + int(np.count_nonzero(largest >= score)))
