"""From linear moments to a value and its influence function; one solver for every estimator."""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace, is_numpy_array

__all__ = ["solve_linear_moment", "weighted_mean", "weighted_moments"]

Array = Any
BLOCK = 32_768
SLAB = 65_536


def weighted_mean(x: Array, sample_weight: Array | None = None) -> Array:
    """Mean over rows of a (n,) or (n, K) array, rows counted ``sample_weight`` times.

    Examples
    --------
    >>> import numpy as np
    >>> float(weighted_mean(np.array([1., 4.]), np.array([2., 1.])))
    2.0
    """
    xp = array_namespace(x)
    if sample_weight is None:
        return _sum(x) / x.shape[0]
    s = sample_weight[:, None] if x.ndim == 2 else sample_weight
    return xp.sum(s * x, axis=0) / xp.sum(sample_weight)


def _sum(x: Array) -> Array:
    """Sum over rows of a (n,) or (n, K) array.

    A long NumPy vector is first added up in slabs of 64 rows of 1024: half the time of NumPy's
    pairwise sum of a vector, and rounding errors of at most 64 additions.
    """
    xp = array_namespace(x)
    if x.ndim > 1 or x.shape[0] < SLAB or not is_numpy_array(x):
        return xp.sum(x, axis=0)
    body = x.shape[0] // SLAB * SLAB
    return x[:body].reshape(-1, 64, SLAB // 64).sum(axis=1).sum() + x[body:].sum()


def weighted_moments(x: Array, sample_weight: Array | None = None) -> tuple[Array, Array]:
    """Mean and mean square of a (n,) array, rows counted ``sample_weight`` times.

    Examples
    --------
    >>> import numpy as np
    >>> mean, square = weighted_moments(np.array([1., 3.]))
    >>> float(mean), float(square)
    (2.0, 5.0)
    """
    xp = array_namespace(x)
    if sample_weight is None:
        return _sum(x) / x.shape[0], x @ x / x.shape[0]
    total, counted = xp.sum(sample_weight), sample_weight * x
    return xp.sum(counted) / total, counted @ x / total


def solve_linear_moment(
    a: Array | float,
    b: Array,
    sample_weight: Array | None = None,
    *,
    mean_a: Array | None = None,
    overwrite_b: bool = False,
) -> tuple[Array, Array]:
    r"""Solve :math:`\sum_i s_i (a_i V - b_i) = 0`.

    .. math:: \hat V = \sum s_i b_i / \sum s_i a_i, \qquad
              \phi_i = (b_i - a_i \hat V) / \bar a

    Parameters
    ----------
    a : float 1.0 or array, shape (n,) or (n, K)
    b : array, shape (n,) or (n, K)
    sample_weight : array, shape (n,), optional
        Frequency weights ``s``: a row of weight 2 is two rows.
    mean_a : array, shape () or (K,), optional
        Weighted mean of the array ``a``, where it is at hand.
    overwrite_b : bool
        Whether ``b`` is not needed afterwards: a NumPy ``b`` then becomes the influence, which
        spares the time to fill new memory.

    Returns
    -------
    value : array, shape () or (K,)
    influence : array, shape of ``b``; ``se = sd(influence) / sqrt(n)``

    Notes
    -----
    For a doubly robust value this is called on the residual moment, so the centre is the residual
    term R and never the value V: centring at V inflates the standard error.

    Examples
    --------
    >>> import numpy as np
    >>> w, y = np.array([.5, 1.5]), np.array([1., 3.])
    >>> value, influence = solve_linear_moment(w, w * y)
    >>> float(value), influence.tolist()
    (2.5, [-0.75, 0.75])
    """
    mean_b = weighted_mean(b, sample_weight)
    in_place = overwrite_b and is_numpy_array(b) and b.ndim == 1
    if isinstance(a, float) and a == 1.0:
        return mean_b, _centre(b, mean_b) if in_place else b - mean_b
    if isinstance(a, float):
        return mean_b / a, (b - a * (mean_b / a)) / a
    if mean_a is None:
        mean_a = weighted_mean(a, sample_weight)
    value = mean_b / mean_a
    if in_place:
        return value, _centre(b, value, a, mean_a)
    return value, (a * -value + b) / mean_a  # in this order NumPy needs one new array, not two


def _centre(b: Array, value: Array, a: Array | None = None, mean_a: Array | float = 1.0) -> Array:
    """``(b - a value) / mean_a`` in the memory of a NumPy ``b``, by blocks that fit the cache."""
    for start in range(0, b.shape[0], BLOCK):
        rows = slice(start, start + BLOCK)
        b[rows] -= value if a is None else a[rows] * value
        if a is not None:
            b[rows] /= mean_a
    return b
