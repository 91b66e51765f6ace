r"""Standard errors, intervals and bands from influence functions.

Rows of independent units enter through their *contributions*
:math:`C_i = s_i \phi_i / \sum_j s_j`, so that :math:`\hat V - V \approx \sum_i C_i`.
Randomness (normals, multipliers) is always an argument.
"""

from __future__ import annotations

import math
from typing import Any

from array_api_compat import array_namespace, is_numpy_array
from scipy import optimize, stats

__all__ = [
    "bias_aware_half_width",
    "cluster_contributions",
    "cluster_dof",
    "cluster_sums",
    "contributions",
    "effective_count",
    "empirical_bernstein",
    "influence_covariance",
    "largest_t",
    "leave_out_factor",
    "max_t_critical_value",
    "multiplier_t",
    "welch_satterthwaite",
]

Array = Any


def contributions(influence: Array, sample_weight: Array | None = None) -> Array:
    r"""Row contributions :math:`s_i \phi_i / \sum_j s_j`, shape of ``influence``."""
    if sample_weight is None:
        return influence / influence.shape[0]
    xp = array_namespace(influence)
    s = sample_weight[:, None] if influence.ndim == 2 else sample_weight
    return s * influence / xp.sum(sample_weight)


def cluster_sums(rows: Array, codes: Array, n_clusters: int) -> Array:
    """Sum rows (n,) or (n, K) within clusters ``codes`` in ``0..n_clusters-1``.

    Examples
    --------
    >>> import numpy as np
    >>> cluster_sums(np.array([1., 2., 4.]), np.array([0, 1, 0]), 2).tolist()
    [5.0, 2.0]
    """
    if is_numpy_array(rows):
        import numpy as np

        if rows.ndim == 1:
            return np.bincount(codes, weights=rows, minlength=n_clusters)
        sums = [np.bincount(codes, weights=col, minlength=n_clusters) for col in rows.T]
        return np.stack(sums, axis=1)
    xp = array_namespace(rows)
    order = xp.argsort(codes)
    running = xp.cumulative_sum(rows[order, ...], axis=0, include_initial=True)
    ends = xp.searchsorted(
        codes[order], xp.arange(n_clusters, device=codes.device, dtype=codes.dtype), side="right"
    )
    upto = running[ends, ...]
    first = xp.zeros_like(upto[:1, ...])
    return upto - xp.concat([first, upto[:-1, ...]], axis=0)


def effective_count(sizes: Array) -> float:
    r"""Equal units that unequal ones are worth, :math:`(\sum_g n_g)^2 / \sum_g n_g^2`; 0 for none.

    Examples
    --------
    >>> import numpy as np
    >>> effective_count(np.array([1., 1., 1.])), effective_count(np.array([3., 1.]))
    (3.0, 1.6)
    """
    xp = array_namespace(sizes)
    square = float(sizes @ sizes)
    return float(xp.sum(sizes)) ** 2 / square if square > 0 else 0.0


def cluster_dof(sizes: Array) -> float:
    """Degrees of freedom of clusters' standard error: `effective_count` less 1, at least 1.

    References
    ----------
    Carter, Schnepel and Steigerwald (2017), the effective number of clusters.

    Examples
    --------
    >>> import numpy as np
    >>> cluster_dof(np.full(12, 5.)), round(cluster_dof(np.array([50., 10., 10., 10.])), 2)
    (11.0, 1.29)
    """
    return max(effective_count(sizes) - 1.0, 1.0)


def leave_out_factor(frequency: Array, codes: Array, n_clusters: int) -> Array:
    r"""Factor :math:`(1 - 1/G) / (1 - n_g/n)` of :func:`cluster_contributions`, shape (G,).

    Examples
    --------
    >>> import numpy as np
    >>> leave_out_factor(np.ones(4), np.array([0, 0, 0, 1]), 2).round(3).tolist()
    [2.0, 0.667]
    """
    xp = array_namespace(frequency)
    share = cluster_sums(frequency, codes, n_clusters) / xp.sum(frequency)
    # A cluster that is the whole sample has a sum of 0, which stays 0.
    return (1.0 - 1.0 / n_clusters) / xp.clip(1.0 - share, min=1e-9)


def cluster_contributions(
    influence: Array, sample_weight: Array | None, codes: Array, n_clusters: int
) -> Array:
    r"""Contributions of clusters, each over one less its share of the rows.

    .. math:: C_g = \frac{1 - 1/G}{1 - n_g/n}\, \frac{1}{n} \sum_{i \in g} s_i \phi_i,
              \qquad n_g = \sum_{i \in g} s_i

    A large cluster pulls the value towards itself, so that its own :math:`\phi_i` are too small;
    what leaving it out does to a mean is its sum over :math:`n - n_g`. Equal clusters: their sums.

    Parameters
    ----------
    influence : array, shape (n,) or (n, K)
    sample_weight : array, shape (n,), optional
        Frequency weights ``s``.
    codes : integer array, shape (n,)
        Cluster of each row, in ``0..n_clusters-1``.

    Returns
    -------
    array, shape (G,) or (G, K)

    References
    ----------
    Bell and McCaffrey (2002), the jackknife of clusters; MacKinnon, Nielsen and Webb (2023), CV3.

    Examples
    --------
    >>> import numpy as np
    >>> codes = np.array([0, 0, 0, 1])  # 1/2 over 1 - 3/4, and over 1 - 1/4
    >>> cluster_contributions(np.ones(4), None, codes, 2).round(3).tolist()
    [1.5, 0.167]
    """
    xp = array_namespace(influence)
    sums = cluster_sums(contributions(influence, sample_weight), codes, n_clusters)
    row = influence if influence.ndim == 1 else influence[:, 0]
    factor = leave_out_factor(
        xp.ones_like(row) if sample_weight is None else sample_weight, codes, n_clusters
    )
    return sums * (factor if influence.ndim == 1 else factor[:, None])


def influence_covariance(
    influence: Array,
    sample_weight: Array | None = None,
    codes: Array | None = None,
    n_clusters: int = 0,
) -> Array:
    r"""Covariance of the values from their influence functions.

    Rows: :math:`\frac{n}{n-1}\sum_i s_i\phi_i\phi_i^\top/n^2` with :math:`n=\sum s_i`. Clusters:
    :math:`\frac{G}{G-1}\sum_g C_g C_g^\top` of :func:`cluster_contributions`, which for a mean is
    the jackknife that leaves out one cluster at a time, and for clusters of equal size
    :math:`\frac{G}{G-1}\sum_g \Phi_g\Phi_g^\top/n^2` with :math:`\Phi_g=\sum_{i\in g}s_i\phi_i`.

    Parameters
    ----------
    influence : array, shape (n,) or (n, K)
    sample_weight : array, shape (n,), optional
        Frequency weights.
    codes : integer array, shape (n,), optional
        Cluster of each row.

    Returns
    -------
    array, shape () or (K, K)

    Examples
    --------
    >>> import numpy as np
    >>> phi = np.array([1., -1., 1., -1.])
    >>> round(float(influence_covariance(phi)), 6)  # 4/3 * 4 / 16
    0.333333
    >>> codes = np.array([0, 0, 1, 1])  # clusters that each sum to 0
    >>> float(influence_covariance(phi, codes=codes, n_clusters=2))
    0.0
    """
    xp = array_namespace(influence)
    if codes is not None:
        left = right = cluster_contributions(influence, sample_weight, codes, n_clusters)
        factor: Array | float = n_clusters / (n_clusters - 1)
    elif sample_weight is None:
        n = influence.shape[0]
        left = right = influence
        factor = 1.0 / (n * (n - 1.0))
    else:
        n = xp.sum(sample_weight)
        right = influence / n
        left = contributions(influence, sample_weight)
        factor = n / (n - 1)
    if influence.ndim == 1:
        return factor * (left @ right)
    return factor * (left.T @ right)


def welch_satterthwaite(variances: list[float], dofs: list[float]) -> float:
    """Degrees of freedom of a sum of variance estimates (``inf`` for unclustered parts).

    Examples
    --------
    >>> round(welch_satterthwaite([1., 1.], [10, 10]), 6)
    20.0
    >>> welch_satterthwaite([1.], [float('inf')])
    inf
    """
    total = sum(variances)
    spread = sum(v * v / d for v, d in zip(variances, dofs, strict=True) if math.isfinite(d))
    return total * total / spread if spread > 0 else math.inf


def bias_aware_half_width(
    se: float, *, level: float, dof: float = math.inf, bias: float = 0.0
) -> float:
    r"""Half-width covering with probability ``level`` for every bias up to ``bias``.

    The ``level`` quantile of :math:`|\,se\,T + bias|` with ``T`` standard normal (or t with ``dof``
    degrees of freedom): Armstrong and Kolesar (2018), eq. 18. With ``bias = 0`` it is the usual
    two-sided half-width.

    Examples
    --------
    >>> round(bias_aware_half_width(1.0, level=.95), 4)
    1.96
    >>> round(bias_aware_half_width(1.0, level=.95, bias=10.0), 4)   # one-sided, shifted
    11.6449
    """
    if not (math.isfinite(se) and math.isfinite(bias)):
        return math.inf
    if se == 0.0:
        return bias
    ratio = bias / se
    central = stats.norm if math.isinf(dof) else stats.t(dof)
    if ratio == 0.0:
        return se * float(central.ppf(0.5 + level / 2))
    # The allowance beyond the bias lies between the one-sided and the two-sided quantile.
    lower = max(float(central.ppf(level)), -ratio)
    upper = float(central.ppf(0.5 + level / 2))

    def excess(beyond: float) -> float:
        return float(central.cdf(beyond) - central.cdf(-beyond - 2.0 * ratio)) - level

    if excess(lower) >= 0.0:  # the other tail has vanished
        return bias + se * lower
    if excess(upper) <= 0.0:  # the bias has, up to rounding
        return bias + se * upper
    return bias + se * float(optimize.brentq(excess, lower, upper, xtol=1e-12))


def multiplier_t(unit_contributions: Array, multipliers: Array, scale: float = 1.0) -> Array:
    r"""Studentised multiplier-bootstrap statistics.

    .. math:: T^*_b = \frac{\sum_g \xi_{bg} C_g}{\sqrt{\sum_g \xi_{bg}^2 C_g^2}}

    Parameters
    ----------
    unit_contributions : array, shape (G,)
        Contributions summed within independent units (rows or clusters).
    multipliers : array, shape (B, G)
        Mean zero, variance one and third moment one (Mammen's two points), so that the statistic
        keeps the skewness of the contributions.

    Returns
    -------
    array, shape (B,)

    Examples
    --------
    >>> import numpy as np
    >>> multiplier_t(np.array([3., 4.]), np.array([[1., 1.], [1., -1.]])).tolist()
    [1.4, -0.2]
    """
    xp = array_namespace(unit_contributions)
    top = multipliers @ unit_contributions
    bottom = (multipliers * multipliers) @ (unit_contributions * unit_contributions)
    floor = xp.full_like(bottom, 1e-300)
    return scale * top / xp.sqrt(xp.where(bottom > floor, bottom, floor))


def largest_t(covariance: Array, normals: Array) -> Array:
    """Largest absolute coordinate of normal vectors with the correlation of ``covariance``, (B,).

    Parameters
    ----------
    covariance : array, shape (K, K)
        Coordinates of variance 0 are left out.
    normals : array, shape (B, K)
        Independent standard normals.

    Examples
    --------
    >>> import numpy as np
    >>> normals = np.array([[1., -2.], [.5, .25]])
    >>> largest_t(np.eye(2), normals).tolist()
    [2.0, 0.5]
    """
    xp = array_namespace(covariance)
    variance = xp.linalg.diagonal(covariance)
    alive = variance > 0
    scale = xp.sqrt(xp.where(alive, variance, xp.ones_like(variance)))
    correlation = covariance / (scale[:, None] * scale[None, :])
    values, vectors = xp.linalg.eigh(correlation)
    root = vectors * xp.sqrt(xp.clip(values, min=0.0))[None, :]
    return xp.max(xp.abs(normals @ root.T), axis=1)


def max_t_critical_value(covariance: Array, normals: Array, *, level: float) -> float:
    r"""Critical value of simultaneous max-t bands.

    The Gaussian multiplier bootstrap of :math:`\max_k |T_k|` given the data is exactly the maximum
    of a normal vector with the estimated correlation, so that K-dimensional normals replace n
    multipliers (Chernozhukov, Chetverikov and Kato 2013).

    Parameters
    ----------
    covariance : array, shape (K, K)
    normals : array, shape (B, K)
        Independent standard normals.

    Returns
    -------
    float, at least the pointwise critical value up to Monte-Carlo error.

    Examples
    --------
    >>> import numpy as np
    >>> normals = np.random.default_rng(0).normal(size=(100_000, 3))
    >>> round(max_t_critical_value(np.eye(3), normals, level=.95), 1)  # independent
    2.4
    >>> round(max_t_critical_value(np.ones((3, 3)), normals, level=.95), 1)
    2.0
    """
    xp = array_namespace(covariance)
    largest = largest_t(covariance, normals)
    position = min(math.ceil(level * largest.shape[0]), largest.shape[0]) - 1
    return float(xp.sort(largest)[position])


def empirical_bernstein(
    terms: Array, *, lower: float, upper: float, level: float
) -> tuple[float, float]:
    r"""Finite-sample interval for the mean of independent terms in ``[lower, upper]``.

    .. math:: \bar Z \pm \Big(\sqrt{2 \hat\sigma^2 \log(4/\alpha)/n} +
              \frac{7 (upper-lower) \log(4/\alpha)}{3(n-1)}\Big)

    Maurer and Pontil (2009), Theorem 4, two-sided. The bounds must be known beforehand; bounds read
    off the sample void it.

    Examples
    --------
    >>> import numpy as np
    >>> lo, hi = empirical_bernstein(np.tile([0., 1.], 500), lower=0., upper=1., level=.95)
    >>> round(lo, 3), round(hi, 3)
    (0.443, 0.557)
    """
    xp = array_namespace(terms)
    n = terms.shape[0]
    log_term = math.log(4.0 / (1.0 - level))
    centre = float(xp.mean(terms))
    variance = float(xp.sum((terms - centre) ** 2)) / (n - 1)
    half = math.sqrt(2.0 * variance * log_term / n) + 7.0 * (upper - lower) * log_term / (
        3.0 * (n - 1)
    )
    return centre - half, centre + half
