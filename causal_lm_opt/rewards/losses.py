r"""The Bradley-Terry likelihood of a pair, on NumPy arrays and torch tensors alike.

With the margin :math:`m = R(x) - R(x')` the first of two texts wins with probability
:math:`\sigma(m)` (Bradley and Terry 1952; Kobalczyk and van der Schaar 2025, eq. 1).
"""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace

__all__ = ["expected_accuracy", "pair_loss"]

Array = Any


def pair_loss(margin: Array, label: Array | float = 1.0) -> Array:
    r"""Minus the log-likelihood of a pair's label, linear in the label.

    .. math:: \ell(m, p) = -p \log\sigma(m) - (1 - p) \log\sigma(-m) = \log(1 + e^m) - p\, m

    Parameters
    ----------
    margin : array, shape (n,)
        Reward of the chosen text less that of the rejected one, in natural-log odds.
    label : array, shape (n,), or float
        Probability in [0, 1] that the chosen text wins: 1 for a plain preference, 0.5 for a tie.

    Returns
    -------
    array, shape (n,), in nats; gradients flow to both arguments.

    Notes
    -----
    Being linear in the label, its mean given the pair is the loss at the label's mean: a model of
    the label is a model of the loss.

    Examples
    --------
    >>> import numpy as np
    >>> pair_loss(np.array([0., 2.]), np.array([.5, 1.])).round(4).tolist()
    [0.6931, 0.1269]
    """
    xp = array_namespace(margin)
    return xp.logaddexp(margin, xp.zeros_like(margin)) - label * margin


def expected_accuracy(margin: Array, label: Array | float = 1.0) -> Array:
    r"""Probability that the label agrees with the margin's sign, a margin of 0 counting half.

    Parameters
    ----------
    margin : array, shape (n,)
    label : array, shape (n,), or float
        Probability in [0, 1] that the chosen text wins; a tie (0.5) counts half either way.

    Returns
    -------
    array, shape (n,), in [0, 1]; linear in the label.

    Examples
    --------
    >>> import numpy as np
    >>> expected_accuracy(np.array([2., -1., 0., 3.]), np.array([1., 1., 1., .5])).tolist()
    [1.0, 0.0, 0.5, 0.5]
    """
    xp = array_namespace(margin)
    return 0.5 + xp.sign(margin) * (label - 0.5)
