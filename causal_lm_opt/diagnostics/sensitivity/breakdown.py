r"""Breakdown strength: the smallest :math:`\Lambda` at which a claim stops holding."""

from __future__ import annotations

import math
from collections.abc import Callable

from scipy import optimize

__all__ = ["breakdown"]


def breakdown(
    margin: Callable[[float], float],
    *,
    largest: float = 1000.0,
    step: float = 1.25,
    tolerance: float = 1e-6,
) -> float:
    r"""Smallest :math:`\Lambda \ge 1` at which ``margin`` is no longer positive.

    Parameters
    ----------
    margin : callable, Lambda -> float
        How far the bound is on the right side of the claim: for "V > v0" the lower bound at
        Lambda minus v0. It should fall with Lambda; the first crossing met is the answer.
    largest : float
        Strengths beyond this are not tried.
    step : float
        Ratio of successive strengths in the search for the bracket.
    tolerance : float
        Absolute error of the answer.

    Returns
    -------
    float
        1 if the claim fails already without a violation, ``inf`` if it still holds at ``largest``.

    Examples
    --------
    >>> breakdown(lambda strength: 3.0 - strength)
    3.0
    >>> breakdown(lambda strength: -1.0), breakdown(lambda strength: 1.0)
    (1.0, inf)
    """
    if not largest > 1 or not step > 1:
        raise ValueError(f"largest and step must exceed 1, got {largest!r} and {step!r}.")
    if margin(1.0) <= 0:
        return 1.0
    holds = 1.0
    while holds < largest:
        further = min(holds * step, largest)
        if margin(further) <= 0:
            found = optimize.brentq(margin, holds, further, xtol=tolerance)
            return float(found)
        holds = further
    return math.inf
