"""Tail of the weights: generalised Pareto fit, its shape, smoothing by it (Vehtari et al. 2024).

Of long NumPy vectors the largest entries are found without sorting the rest.
"""

from __future__ import annotations

import math
from typing import Any

from array_api_compat import array_namespace, is_numpy_array

__all__ = ["TIE", "generalized_pareto_fit", "pareto_k", "pareto_smooth", "tail_size"]

Array = Any
TIE = 1e-6  # log ratios this close are one: log-probs are stored rounded
GLANCE = 16_384  # entries that tell where the tail of a long array begins


def _largest(x: Array, count: int) -> Array:
    """The ``count`` largest entries of a (n,) array, ascending."""
    if is_numpy_array(x):
        import numpy as np

        x = _upper_part(x, count)
        return np.sort(np.partition(x, x.shape[0] - count)[x.shape[0] - count :])
    xp = array_namespace(x)
    return xp.sort(x)[x.shape[0] - count :]


def _upper_part(x: Array, count: int) -> Array:
    """Part of a long NumPy array that holds its ``count`` largest entries, NaN among them.

    Every ``step``-th entry tells where to cut; a cut that leaves too few entries is not made, so
    that the order of the entries costs time at worst.
    """
    import numpy as np

    step = x.shape[0] // GLANCE
    if step < 4:
        return x
    glance = x[::step]
    rank = min(2 * count // step + 16, glance.shape[0])
    bound = np.partition(glance, -rank)[-rank]
    blocks = np.array_split(x, x.shape[0] // GLANCE)  # no mask of the whole length
    part = np.concatenate([block[~(block < bound)] for block in blocks])
    return part if part.shape[0] >= count else x


def _largest_copies(x: Array, counts: Array, count: int) -> Array:
    """As :func:`_largest`, entry ``i`` counted ``counts[i]`` times."""
    xp = array_namespace(x)
    order = xp.flip(xp.argsort(x), axis=(0,))
    reached = xp.cumulative_sum(counts[order])
    rows = order[: int(xp.sum(xp.astype(reached < count, counts.dtype))) + 1]
    return xp.flip(xp.repeat(x[rows], counts[rows])[:count], axis=(0,))


def tail_size(n: int) -> int:
    """Number of weights in the tail, ``min(n/5, 3 sqrt(n))`` (Vehtari et al. 2024, sec. 2.4)."""
    return math.ceil(min(0.2 * n, 3.0 * math.sqrt(n)))


def generalized_pareto_fit(exceedance: Array) -> tuple[Array, Array]:
    """Shape ``k`` and scale ``sigma`` of a generalised Pareto distribution.

    Empirical Bayes estimate of Zhang and Stephens (2009) with the weak prior of Vehtari et al.
    (2024, Appendix): ten pseudo-observations at ``k = 1/2``.

    Parameters
    ----------
    exceedance : array, shape (m,)
        Positive exceedances over the threshold, ascending.

    Examples
    --------
    >>> import numpy as np
    >>> u = (np.arange(500) + .5) / 500
    >>> quantiles = 2 * (u[::-1] ** -.3 - 1) / .3  # of k = .3, sigma = 2
    >>> k, sigma = generalized_pareto_fit(quantiles)
    >>> round(float(k), 2), round(float(sigma), 2)
    (0.31, 1.99)
    """
    xp = array_namespace(exceedance)
    m = exceedance.shape[0]
    grid_size = 30 + int(math.sqrt(m))
    j = xp.arange(1, grid_size + 1, dtype=exceedance.dtype, device=exceedance.device)
    quartile = exceedance[int(m / 4 + 0.5) - 1]
    theta = (1.0 - xp.sqrt(grid_size / (j - 0.5))) / (3.0 * quartile) + 1.0 / exceedance[-1]
    parts = [  # a few rows of the grid at a time: all of them do not fit the cache
        xp.mean(xp.log1p(-theta[i : i + 8, None] * exceedance[None, :]), axis=1)
        for i in range(0, grid_size, 8)
    ]
    shape = xp.concat(parts)
    log_lik = m * (xp.log(-theta / shape) - shape - 1.0)
    posterior = xp.exp(log_lik - xp.max(log_lik))
    theta_hat = xp.sum(theta * posterior) / xp.sum(posterior)
    k = xp.mean(xp.log1p(-theta_hat * exceedance))
    sigma = -k / theta_hat
    return (m * k + 5.0) / (m + 10.0), sigma


def pareto_smooth(ell: Array, sample_weight: Array | None = None) -> tuple[Array, float]:
    r"""Pareto-smoothed log weights and the tail shape :math:`\hat k`.

    Parameters
    ----------
    ell : array, shape (n,)
        Log ratios :math:`\log P_f - \log P_R` (not their negatives: for a heavy upper tail
        ``k`` comes out positive). ``-inf`` entries keep weight 0.
    sample_weight : array, shape (n,), optional
        Frequency weights, rounded to whole numbers: the tail counts rows.

    Returns
    -------
    log_weight : array, shape (n,)
        Log weights, the tail replaced by expected order statistics and cut at the raw maximum;
        tied rows share the mean of theirs, so that row order does not matter.
    k : float
        Tail shape; ``nan`` when fewer than five distinct weights exceed the threshold (tied or
        bounded weights have no Pareto tail to fit).

    Examples
    --------
    >>> import numpy as np
    >>> e = np.random.default_rng(0).exponential(size=50_000)
    >>> k = pareto_smooth(.83 * e)[1]      # w = exp(.83 e) has tail shape .83
    >>> abs(k - .83) < .1
    True
    """
    found = _tail_fit(ell, sample_weight)
    if found is None:
        return ell, math.nan
    xp = array_namespace(ell)
    above, peak, tail, base, k, sigma = found
    size = tail.shape[0]
    p = (xp.arange(1, size + 1, dtype=ell.dtype, device=ell.device) - 0.5) / size
    growth = -xp.log1p(-p)
    quantile = sigma * (growth if abs(_number(k)) < 1e-12 else xp.expm1(k * growth) / k)
    smoothed = xp.log(base + quantile) + peak
    smoothed = xp.where(smoothed > peak, peak + xp.zeros_like(smoothed), smoothed)
    return _put_tail(ell, above, tail, _share_ties(tail, smoothed, peak)), _number(k)


def pareto_k(ell: Array, sample_weight: Array | None = None) -> float:
    """Tail shape of :func:`pareto_smooth`, without smoothing."""
    found = _tail_fit(ell, sample_weight)
    return math.nan if found is None else _number(found[4])


def _tail_fit(
    ell: Array, sample_weight: Array | None
) -> tuple[Array, Array, Array, Array, Array, Array] | None:
    """Where the tail begins, the peak, the tail, the base weight, ``k``, ``sigma``; or ``None``."""
    xp = array_namespace(ell)
    counts = None
    n = ell.shape[0]
    if sample_weight is not None:
        counts = xp.astype(xp.round(sample_weight), xp.int64)
        n = int(xp.sum(counts))
    m = tail_size(n)
    if n < 2 or m >= n:
        return None
    top = _largest(ell, m + 1) if counts is None else _largest_copies(ell, counts, m + 1)
    cutoff, peak = top[0], top[-1]
    if not bool(xp.isfinite(peak)):
        return None
    above = cutoff + TIE
    in_tail = top[1:] > above
    tail = top[1:][in_tail]
    if _n_distinct(tail) < 5 or _number(peak) - _number(tail[0]) < 1e-10:
        return None
    base = xp.exp(cutoff - peak)
    exceedance = xp.exp(tail - peak) - base
    if not _number(exceedance[0]) > 0:
        return None
    k, sigma = generalized_pareto_fit(exceedance)
    if not math.isfinite(_number(k)):
        return None
    return above, peak, tail, base, k, sigma


def _number(x: Array) -> float:
    """A 0-d array as a float, without its gradient."""
    return float(x.detach() if hasattr(x, "detach") else x)


def _n_distinct(ascending: Array) -> int:
    """Number of entries of a sorted array that stand apart by more than ``TIE``."""
    if ascending.shape[0] == 0:
        return 0
    xp = array_namespace(ascending)
    return 1 + int(xp.sum(xp.astype(ascending[1:] > ascending[:-1] + TIE, xp.int64)))


def _share_ties(tail: Array, smoothed: Array, peak: Array) -> Array:
    """Give tied rows of the sorted tail the mean of their smoothed weights."""
    if _n_distinct(tail) == tail.shape[0]:
        return smoothed
    xp = array_namespace(tail)
    first = xp.searchsorted(tail, tail, side="left")
    last = xp.searchsorted(tail, tail, side="right")
    running = xp.cumulative_sum(xp.exp(smoothed - peak), include_initial=True)
    mean = (running[last] - running[first]) / xp.astype(last - first, tail.dtype)
    return xp.where(last - first == 1, smoothed, xp.log(mean) + peak)


def _put_tail(ell: Array, cutoff: Array, tail: Array, smoothed: Array) -> Array:
    """Give the entries above ``cutoff`` the smoothed value of their place in the sorted tail."""
    xp = array_namespace(ell)
    position = xp.nonzero(ell > cutoff)[0]
    place = xp.searchsorted(tail, ell[position])
    out = ell + 0.0
    out[position] = smoothed[xp.clip(place, max=tail.shape[0] - 1)]
    return out
