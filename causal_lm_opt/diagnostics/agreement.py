r"""Whether logged rows and draws of the target agree with the log-probs that are stated for them.

With :math:`\sigma` the logistic function, right log-probs and right draws obey

.. math:: E_R[\sigma(\ell)\sigma(-\ell)] = E_f[\sigma(-\ell)^2], \qquad \ell = \log P_f - \log P_R

(both sides are :math:`\sum_x P_f P_R^2/(P_f + P_R)^2`; a bridge function of Meng and Wong 1996,
chosen not to be symmetric in the two policies, so that swapped columns show). Both averages are
bounded, so that the comparison is a valid z-test however far the policies lie apart,
unlike the mean weight. It fails for swapped or unnormalised log-probs, for draws at another
temperature or of another policy, and for a logging policy that is misstated where it matters to
the ratio. It cannot see errors that leave the log ratio's distribution alone.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from causal_lm_opt.core.inference import cluster_sums, influence_covariance
from causal_lm_opt.core.solve import weighted_mean

__all__ = ["bridge_means", "draws_agreement"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
LEAST_TAIL = -600.0  # log of the least tail taken from scipy: its own is 0 below about -745


def draws_agreement(
    ell: FloatArray,
    ell_target: FloatArray,
    *,
    sample_weight: FloatArray | None = None,
    codes: IntArray | None = None,
    target_weight: FloatArray | None = None,
    target_codes: IntArray | None = None,
    exact: bool = False,
) -> float:
    r"""Standardised gap of :math:`\sigma(\ell)\sigma(-\ell)` over the log and its draws' match.

    The match is the draws' mean of :math:`\sigma(-\ell)^2`; the gap is standard normal when log,
    draws and log-probs belong together (with few draws or clusters it is turned from Student's t
    into the normal quantile of the same tail).

    Parameters
    ----------
    ell : array, shape (n,)
        Log ratios of the logged rows.
    ell_target : array, shape (m,)
        Log ratios of the draws, ``+inf`` where the logger never writes.
    sample_weight, codes : arrays, shape (n,), optional
        Frequencies and clusters of the rows.
    target_weight, target_codes : arrays, shape (m,), optional
        Weights (self-normalised) and clusters of the draws.
    exact : bool
        The draws are the exact support with its probabilities: no sampling error.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x, z = rng.normal(size=5000), rng.normal(1., 1., 5000)     # P_R, P_f = N(0, 1), N(1, 1)
    >>> abs(draws_agreement(x - .5, z - .5)) < 3.3
    True
    >>> abs(draws_agreement(.5 - x, .5 - z)) > 3.3                  # target and logging swapped
    True
    """
    logged = special.expit(ell) * special.expit(-ell)
    drawn = special.expit(-ell_target) ** 2
    weight = np.ones_like(drawn) if target_weight is None else target_weight
    centre = float(np.average(drawn, weights=weight))
    gap = float(weighted_mean(logged, sample_weight)) - centre
    phi = logged - weighted_mean(logged, sample_weight)
    variance = _variance(phi, sample_weight, codes)
    if not exact:
        variance += _variance(weight * (drawn - centre) / weight.mean(), None, target_codes)
    scale = math.sqrt(variance)
    if scale < 1e-12:
        return 0.0 if abs(gap) < 1e-6 else math.copysign(math.inf, gap)
    units = math.inf if exact else float(_units(drawn.shape[0], target_codes))
    if codes is not None:
        units = min(units, float(np.unique(codes).size))
    return _as_normal(gap / scale, max(units - 1.0, 1.0))


def bridge_means(
    scale: FloatArray,
    features: FloatArray,
    *,
    frequency: FloatArray | None = None,
    codes: IntArray | None = None,
) -> tuple[FloatArray, FloatArray]:
    r"""Means of features times a bounded factor of the log ratio, and their variances, (p,) each.

    For every feature :math:`h` of a text, right log-probs and right draws obey

    .. math:: E_R[\sigma(\ell) h] = E_f[\sigma(-\ell) h]

    (both sides are :math:`\sum_x h P_f P_R / (P_f + P_R)`), however far the policies lie apart.

    Parameters
    ----------
    scale : array, shape (n,)
        :math:`\sigma(\ell)` of logged rows, :math:`\sigma(-\ell)` of draws.
    features : array, shape (n, p)
    frequency, codes : arrays, shape (n,), optional
        Frequencies (or weights) and clusters.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x, z = rng.normal(size=5000), rng.normal(1., 1., 5000)     # P_R, P_f = N(0, 1), N(1, 1)
    >>> here, noise = bridge_means(special.expit(x - .5), x[:, None])
    >>> there, more = bridge_means(special.expit(.5 - z), z[:, None])
    >>> bool(abs(here - there)[0] < 3 * np.sqrt(noise + more)[0])
    True
    """
    f = np.ones(scale.shape[0]) if frequency is None else frequency
    f = f / float(f.sum())
    values = scale[:, None] * features
    mean = f @ values
    parts = f[:, None] * (values - mean)
    units = parts.shape[0]
    if codes is not None:
        _, at = np.unique(codes, return_inverse=True)
        units = int(at.max()) + 1
        parts = np.asarray(cluster_sums(parts, at, units))
    return mean, (parts**2).sum(axis=0) * (units / max(units - 1, 1))


def _units(rows: int, codes: IntArray | None) -> int:
    return rows if codes is None else int(np.unique(codes).size)


def _as_normal(t: float, dof: float) -> float:
    """The normal quantile with the tail probability of ``t`` under Student's t."""
    if not math.isfinite(dof) or dof > 1e4:
        return t
    return math.copysign(float(-special.ndtri_exp(_log_tail(abs(t), dof))), t)


def _log_tail(t: float, dof: float) -> float:
    r"""Log of the upper tail of Student's t at ``t >= 0``, also where the tail underflows.

    .. math:: P(T > t) = \frac{x^a (1 - x)^{1/2}}{2 a B(a, 1/2)} F(a + 1/2, 1; a + 1; x), \quad
              a = \nu/2, \; x = \nu/(\nu + t^2)

    (incomplete beta function, DLMF 8.17.8).
    """
    with np.errstate(divide="ignore"):
        tail = float(stats.t.logsf(t, dof))
    if tail > LEAST_TAIL:
        return tail
    a, odds = dof / 2.0, t * t / dof  # 1 / x = 1 + odds
    series = float(special.hyp2f1(a + 0.5, 1.0, a + 1.0, 1.0 / (1.0 + odds)))
    power = 0.5 * math.log(odds) - (a + 0.5) * math.log1p(odds)
    return power - math.log(2.0 * a) - float(special.betaln(a, 0.5)) + math.log(series)


def _variance(phi: FloatArray, s: FloatArray | None, codes: IntArray | None) -> float:
    if phi.shape[0] < 2:
        return 0.0
    n_clusters = 0 if codes is None else int(codes.max()) + 1
    if n_clusters == 1:
        codes = None
    return float(influence_covariance(phi, s, codes, n_clusters))
