"""From linear moments to a value and its influence function; one solver for every estimator."""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace

__all__ = ["solve_linear_moment", "weighted_mean"]

Array = Any


def weighted_mean(x: Array, sample_weight: Array | None = None) -> Array:
    """Mean over rows of a (n,) or (n, K) array, rows counted ``sample_weight`` times."""
    xp = array_namespace(x)
    if sample_weight is None:
        return xp.sum(x, axis=0) / x.shape[0]
    s = sample_weight[:, None] if x.ndim == 2 else sample_weight
    return xp.sum(s * x, axis=0) / xp.sum(sample_weight)


def solve_linear_moment(
    a: Array | float, b: Array, sample_weight: Array | None = None
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
    if isinstance(a, float) and a == 1.0:
        return mean_b, b - mean_b
    if isinstance(a, float):
        return mean_b / a, (b - a * (mean_b / a)) / a
    mean_a = weighted_mean(a, sample_weight)
    value = mean_b / mean_a
    return value, (b - a * value) / mean_a
