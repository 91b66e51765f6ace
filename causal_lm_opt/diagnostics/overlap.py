r"""Overlap diagnostics of raw, unclipped weights (arrays in, numbers out).

All of them describe the logged rows that happened to be drawn. Texts that the target policy writes
and the logger never did leave no trace in them; only :func:`unseen_mass` looks there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import logsumexp

from causal_lm_opt.core.inference import effective_count, influence_covariance
from causal_lm_opt.core.pareto import TIE, pareto_k
from causal_lm_opt.core.solve import weighted_mean, weighted_moments
from causal_lm_opt.core.weights import relative_weights

__all__ = [
    "OverlapDiagnostics",
    "effective_clusters",
    "effective_sample_size",
    "overlap",
    "unit_scale",
    "unseen_mass",
]

FloatArray = npt.NDArray[np.float64]
OFF = 3.29  # z of the mean weight from which its scale is looked for


def effective_sample_size(
    weight: FloatArray, sample_weight: FloatArray | None = None
) -> FloatArray:
    r"""Kish's effective sample size :math:`(\sum s w)^2 / \sum s w^2`.

    Parameters
    ----------
    weight : array, shape (n,) or (n, K)
        Non-negative weights, any scale.
    sample_weight : array, shape (n,), optional
        Frequency weights.

    Examples
    --------
    >>> float(effective_sample_size(np.array([1., 1., 0., 0.])))
    2.0
    """
    n = weight.shape[0] if sample_weight is None else float(np.sum(sample_weight))
    if weight.ndim == 1:
        return _kish(n, *weighted_moments(weight, sample_weight))
    first = weighted_mean(weight, sample_weight)
    return _kish(n, first, weighted_mean(weight * weight, sample_weight))


def _kish(n: float, first: Any, second: Any) -> FloatArray:
    """Effective sample size from the mean and the mean square of the weights."""
    some = second > 0
    return np.asarray(np.where(some, n * first * first / np.where(some, second, 1.0), 0.0))


def _variance(x: FloatArray, s: FloatArray | None, first: float, second: float) -> float:
    """Variance of a (n,) array of mean ``first`` and mean square ``second``.

    The difference of the two has all its digits unless the mean dwarfs the spread; only then do
    the rows take a second pass.
    """
    found = second - first * first
    if found > 0.1 * second:
        return found
    return float(weighted_moments(x - first, s)[1])


def effective_clusters(codes: npt.NDArray[np.intp], weight: FloatArray | None = None) -> float:
    r"""Number of equal clusters that unequal ones are worth: :math:`(\sum n_g)^2 / \sum n_g^2`.

    A cluster-robust standard error rests on as few clusters as carry the sum, so that many small
    ones beside a few large ones do not help (Carter, Schnepel and Steigerwald 2017).

    Parameters
    ----------
    codes : integer array, shape (n,)
        Cluster of each row.
    weight : array, shape (n,), optional
        Weights (frequencies times importance weights), any scale: :math:`n_g` is their sum over
        the cluster. A policy that puts its weight on few clusters rests on few.

    Examples
    --------
    >>> effective_clusters(np.array([0, 1, 2, 3])), effective_clusters(np.array([0, 0, 0, 1]))
    (4.0, 1.6)
    """
    return effective_count(np.bincount(codes, weights=weight).astype(np.float64))


def unseen_mass(
    ell_target: FloatArray, ell_logged_max: float, weight: FloatArray | None = None
) -> float:
    r"""Share of the target's draws whose log ratio exceeds every logged one.

    Such draws stand for texts the logger would have had to write, and did not.

    Parameters
    ----------
    ell_target : array, shape (m,)
        :math:`\log P_f - \log P_R` of draws of the target (``+inf`` where the logger never writes).
    ell_logged_max : float
        Largest log ratio among the logged rows.
    weight : array, shape (m,), optional
        Weights of the draws (ratios, support probabilities).

    Examples
    --------
    >>> unseen_mass(np.array([0., 1., 5., 6.]), 1.0)
    0.5
    """
    beyond = (ell_target > ell_logged_max + TIE).astype(np.float64)
    return float(np.average(beyond, weights=weight))


@dataclass(frozen=True)
class OverlapDiagnostics:
    """Trust figures of one policy's weights; ``nan`` where a figure is not defined.

    Attributes
    ----------
    n : float
        Logged rows (sum of frequency weights).
    ess, ess_share : float
        Effective sample size of the raw weights, and its share of ``n``.
    largest_share : float
        Share of the total weight on the heaviest row.
    pareto_k : float
        Tail shape of the raw weights; above .7 the mean converges too slowly to be trusted.
    mean_weight : float
        Mean raw weight; 1 in expectation when the logger can write all the target writes.
        Overflows to ``inf`` for hopeless ratios; carries no information after self-normalisation.
    sd_log_ratio : float
        Standard deviation of the finite log ratios.
    zero_share : float
        Share of rows the target never writes.
    unseen_mass : float
        See :func:`unseen_mass`; ``nan`` when the draws carry no logging log-probs.
    clusters : float
        :func:`effective_clusters` when rows are clustered, else ``nan``.
    mean_weight_z : float
        ``mean_weight - 1`` over its standard error; a test only where ``pareto_k < .5``.
    unit_scale : float
        Where the mean weight is off, the number by which log ratios would have to be multiplied
        for it to be 1: 2.3 if they are logarithms to base 10.
    """

    n: float
    ess: float
    ess_share: float
    largest_share: float
    pareto_k: float
    mean_weight: float
    sd_log_ratio: float
    zero_share: float
    unseen_mass: float = math.nan
    clusters: float = math.nan
    mean_weight_z: float = math.nan
    unit_scale: float = math.nan

    def to_dict(self) -> dict[str, float | None]:
        """JSON-safe figures: ``None`` where not defined."""
        return {k: (v if math.isfinite(v) else None) for k, v in vars(self).items()}


def overlap(
    ell: FloatArray,
    sample_weight: FloatArray | None = None,
    *,
    weight: FloatArray | None = None,
    moments: tuple[float, float] | None = None,
    unseen: float = math.nan,
    clusters: float = math.nan,
    codes: npt.NDArray[np.intp] | None = None,
    n_clusters: int = 0,
) -> OverlapDiagnostics:
    """All overlap figures of one policy from its log ratios.

    Parameters
    ----------
    ell : array, shape (n,)
        Log ratios of the logged rows (``-inf`` allowed).
    sample_weight : array, shape (n,), optional
        Frequency weights.
    weight : array, shape (n,), optional
        The raw weights ``exp(ell)`` up to a factor, where they are at hand.
    moments : tuple of float, optional
        Mean and mean square of ``weight``, where they are at hand.
    unseen, clusters : float
        Figures known elsewhere, passed through.
    codes : integer array, shape (n,), optional
        Clusters, for the standard error of the mean weight.

    Examples
    --------
    >>> d = overlap(np.log(np.array([.5, 1., 1., 1.5])))
    >>> round(d.ess, 2), d.mean_weight
    (3.56, 1.0)
    """
    n = float(ell.shape[0] if sample_weight is None else np.sum(sample_weight))
    if weight is None:
        weight = relative_weights(ell, normalize=True)
    heaviest = int(np.argmax(ell))
    largest, shift = float(weight[heaviest]), float(ell[heaviest])
    mean, square = map(float, moments or weighted_moments(weight, sample_weight))
    ess = float(_kish(n, mean, square))
    spread, zero_share = _log_ratio_spread(ell, sample_weight)
    log_mean = shift + math.log(mean / largest) if mean > 0 else -math.inf
    z = _mean_weight_z(
        weight, mean, square, _unit_weight(largest, shift), sample_weight, codes, n_clusters
    )
    return OverlapDiagnostics(
        n=n,
        ess=ess,
        ess_share=ess / n,
        largest_share=largest / (n * mean) if mean > 0 else math.nan,
        pareto_k=pareto_k(ell, sample_weight),
        mean_weight=math.exp(log_mean) if log_mean < 700 else math.inf,
        sd_log_ratio=math.sqrt(spread) if spread >= 0 else math.nan,
        zero_share=zero_share,
        unseen_mass=unseen,
        clusters=clusters,
        mean_weight_z=z,
        unit_scale=unit_scale(ell, sample_weight) if abs(z) > OFF else math.nan,
    )


def unit_scale(ell: FloatArray, sample_weight: FloatArray | None = None) -> float:
    r"""The a > 0 for which weights :math:`e^{a\ell_i}` average 1, ``nan`` where none is below 50.

    Log ratios :math:`\ell` of true probabilities have a = 1 (in expectation); to another base, or
    divided by a length, they have that base's logarithm, or the length.

    Parameters
    ----------
    ell : array, shape (n,)

    Examples
    --------
    >>> ell = np.log([.5, .5, .5, 2.5])
    >>> round(unit_scale(ell / np.log(10)), 3)
    2.303
    """
    inside = np.isfinite(ell)
    some = ell[inside]
    s = np.ones(ell.shape[0]) if sample_weight is None else np.asarray(sample_weight, float)
    share = s[inside] / s.sum()

    def log_mean(a: float) -> float:
        return float(logsumexp(a * some, b=share))

    high = 0.05
    while high < 50 and not log_mean(high) > 0:
        high *= 2
    low = high / 2
    if not high < 50 or not log_mean(low) < 0 < log_mean(high):
        return math.nan
    return float(brentq(log_mean, low, high, xtol=1e-6))


def _log_ratio_spread(ell: FloatArray, s: FloatArray | None) -> tuple[float, float]:
    """Variance of the finite log ratios, and the share of rows that have none."""
    first, second = map(float, weighted_moments(ell, s))
    if math.isfinite(first):  # then every entry is; no mask is formed
        return _variance(ell, s, first, second), 0.0
    finite = np.isfinite(ell)
    zero_share = 1.0 - float(weighted_mean(finite + 0.0, s))
    if not finite.any():
        return math.nan, zero_share
    inside, s = ell[finite], s if s is None else s[finite]
    return _variance(inside, s, *map(float, weighted_moments(inside, s))), zero_share


def _unit_weight(largest: float, shift: float) -> float:
    """Weight 1 on the scale on which the heaviest row, of log ratio ``shift``, is ``largest``."""
    return math.exp(min(math.log(largest) - shift, 700.0)) if largest > 0 else math.nan


def _mean_weight_z(
    weight: FloatArray,
    mean: float,
    square: float,
    one: float,
    sample_weight: FloatArray | None,
    codes: npt.NDArray[np.intp] | None,
    n_clusters: int,
) -> float:
    """``(mean weight - one) / se``, ``one`` being weight 1 on the scale of ``weight``."""
    n = float(weight.shape[0] if sample_weight is None else np.sum(sample_weight))
    if weight.shape[0] < 2 or n <= 1.0 or not mean > 0:
        return math.nan
    if codes is None:  # what influence_covariance gives for one column of rows
        variance = _variance(weight, sample_weight, mean, square) / (n - 1.0)
    else:
        centred = weight - mean
        variance = float(influence_covariance(centred, sample_weight, codes, n_clusters))
    gap, se = mean - one, math.sqrt(variance)
    if se < 1e-12 * max(one, mean):
        return 0.0 if abs(gap) < 1e-6 * one else math.copysign(math.inf, gap)
    return gap / se
