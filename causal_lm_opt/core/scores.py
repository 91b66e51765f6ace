r"""Linear moments :math:`a_i V - b_i` of the value estimators (one row each).

Solving a moment gives :math:`\hat V = \sum_i b_i / \sum_i a_i`; see
:mod:`causal_lm_opt.core.solve`.
"""

from __future__ import annotations

from typing import Any

__all__ = ["ipw_moment", "plug_in_moment", "residual_moment"]

Array = Any


def ipw_moment(weight: Array, outcome: Array, *, normalize: bool) -> tuple[Array | float, Array]:
    r"""Moment of the importance-weighted mean (CPO's value; Lin et al. 2024, Prop. 4.1).

    ``b = w y`` and ``a = w`` (Hajek) or ``a = 1`` (Horvitz-Thompson).

    Parameters
    ----------
    weight : array, shape (n,) or (n, K)
    outcome : array, shape (n,) or (n, K)

    Returns
    -------
    a : float 1.0, or array like ``weight``
    b : array like ``weight``

    Examples
    --------
    >>> import numpy as np
    >>> w, y = np.array([.5, 1.5]), np.array([1., 3.])
    >>> a, b = ipw_moment(w, y, normalize=True)
    >>> float(b.sum() / a.sum())  # Hajek
    2.5
    >>> a, b = ipw_moment(w, y, normalize=False)
    >>> a, float(b.mean())  # Horvitz-Thompson
    (1.0, 2.5)
    """
    if weight.ndim == 2 and outcome.ndim == 1:
        outcome = outcome[:, None]
    return (weight if normalize else 1.0), weight * outcome


def residual_moment(
    weight: Array, outcome: Array, prediction: Array, *, normalize: bool
) -> tuple[Array | float, Array]:
    r"""Moment of the doubly robust residual term ``R`` (Lin et al. 2024, Prop. 4.3).

    ``b = w (y - q)``, ``a = w`` or ``1``; ``q`` must come from other rows than ``y`` (Thm 4.4).

    Examples
    --------
    >>> import numpy as np
    >>> w, y, q = np.array([.5, 1.5]), np.array([1., 3.]), np.array([2., 2.])
    >>> a, b = residual_moment(w, y, q, normalize=True)
    >>> float(b.sum() / a.sum())
    0.5
    """
    return ipw_moment(weight, outcome - prediction, normalize=normalize)


def plug_in_moment(
    weight: Array, prediction: Array, *, normalize: bool
) -> tuple[Array | float, Array]:
    r"""Moment of the outcome model's mean ``Q`` over the second sample (OO-RLHF's value).

    ``weight`` is :math:`w_0 = P_f / P_0` for draws of a sampling policy, ones for draws of ``f``.

    Examples
    --------
    >>> import numpy as np
    >>> a, b = plug_in_moment(np.ones(2), np.array([1., 3.]), normalize=False)
    >>> a, b.tolist()
    (1.0, [1.0, 3.0])
    """
    return ipw_moment(weight, prediction, normalize=normalize)
