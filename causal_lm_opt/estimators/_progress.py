"""Progress bars: shown only where a caller with a terminal asks for them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

__all__ = ["progress_shown", "track"]

Item = TypeVar("Item")
_SHOWN: ContextVar[bool] = ContextVar("progress_shown", default=False)
DELAY = 2.0
"""Seconds before a bar appears; what is done sooner needs none."""


@contextmanager
def progress_shown(wanted: bool) -> Iterator[None]:
    """Inside, :func:`track` draws bars on stderr where ``wanted``."""
    token = _SHOWN.set(wanted)
    try:
        yield
    finally:
        _SHOWN.reset(token)


def track(items: Iterable[Item], total: int, what: str) -> Iterable[Item]:
    """The items; a bar of them on stderr where :func:`progress_shown` is on.

    Examples
    --------
    >>> list(track("ab", 2, "letters"))
    ['a', 'b']
    """
    if not _SHOWN.get():
        return items
    from tqdm import tqdm

    return tqdm(items, total=total, desc=what, file=sys.stderr, delay=DELAY, leave=False)
