"""Checks of what a world, a study or a log is asked to be; each error names the argument."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import numpy as np

__all__ = ["check_choice", "check_count", "check_drawn", "check_number"]


def check_count(value: Any, name: str, least: int = 1) -> int:
    """A whole number (of Python or numpy), at least ``least``.

    >>> check_count(2.0, "n")
    Traceback (most recent call last):
    ValueError: n must be a whole number, at least 1; got 2.0.
    """
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool | np.bool_)
    if not whole or value < least:
        raise ValueError(f"{name} must be a whole number, at least {least}; got {value!r}.")
    return int(value)


def check_number(
    value: Any, name: str, *, above: float | None = None, least: float | None = None
) -> float:
    """A finite number, ``> above`` or ``>= least`` where these are given.

    >>> check_number(float("nan"), "shift")
    Traceback (most recent call last):
    ValueError: shift must be a finite number; got nan.
    """
    limit = "" if above is None else f" above {above:g}"
    limit = limit if least is None else f", at least {least:g}"
    number = isinstance(value, Real) and not isinstance(value, bool | np.bool_)
    good = number and math.isfinite(value)
    if not good or (above is not None and value <= above) or (least is not None and value < least):
        raise ValueError(f"{name} must be a finite number{limit}; got {value!r}.")
    return float(value)


def check_choice(value: Any, name: str, known: tuple[str, ...]) -> None:
    """One of a few words."""
    if not isinstance(value, str) or value not in known:
        *others, last = map(repr, known)
        raise ValueError(f"{name}={value!r} is not known; use {', '.join(others)} or {last}.")


def check_drawn(n: Any, draws_per_row: float, *, rows: int = 1) -> int:
    """Draws for a log of ``n`` rows, which must be a whole number, at least ``rows``."""
    check_count(n, "n", rows)
    m: int = round(draws_per_row * n)
    if m < 1:
        raise ValueError(f"draws_per_row={draws_per_row!r} leaves no draws beside {n} rows.")
    return m
