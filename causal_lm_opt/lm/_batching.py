"""Batches of texts of similar length, split where memory runs out."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["MemoryLimit", "is_out_of_memory", "plan_batches", "run_batches"]

Rows = NDArray[np.intp]
Result = TypeVar("Result")


def plan_batches(
    lengths: Sequence[int], *, max_tokens: int, max_rows: int | None = None
) -> list[Rows]:
    """Rows sorted by length and cut so that no batch, padding included, has too many tokens.

    The longest come first: memory that does not suffice is found out at once.

    Parameters
    ----------
    lengths : sequence of n int
    max_tokens : int
        Most tokens of a batch (rows times its longest row); a longer row is a batch of its own.
    max_rows : int, optional

    Returns
    -------
    list of (b,) int arrays
        Positions; every row once.

    Examples
    --------
    >>> [batch.tolist() for batch in plan_batches([3, 9, 4, 8], max_tokens=18)]
    [[1, 3], [2, 0]]
    """
    array = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-array, kind="stable")
    batches, start = [], 0
    while start < len(order):
        rows = max(1, max_tokens // max(1, int(array[order[start]])))
        rows = min(rows, max_rows or rows)
        batches.append(order[start : start + rows])
        start += rows
    return batches


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocator of torch, of any device, or Python itself ran out of memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "can't allocate memory" in text
    )


class MemoryLimit:
    """Most rows that fitted so far; None while nothing has failed."""

    def __init__(self) -> None:
        self.tokens: int | None = None

    def fits(self, rows: int, length: int) -> bool:
        """Whether a batch of this size may be tried."""
        return rows == 1 or self.tokens is None or rows * length <= self.tokens

    def failed(self, rows: int, length: int) -> None:
        """Remember that a batch of this size did not fit."""
        self.tokens = rows * length // 2


def run_batches(
    batches: Sequence[Rows],
    lengths: Sequence[int],
    compute: Callable[[Rows], Result],
    limit: MemoryLimit,
) -> Iterator[tuple[Rows, Result]]:
    """Compute every batch, halving those that do not fit in memory.

    Yields
    ------
    rows, result
        In the order computed; ``limit`` remembers what did not fit.

    Raises
    ------
    MemoryError
        If a single row does not fit.
    """
    waiting = deque(batches)
    while waiting:
        rows = waiting.popleft()
        longest = max(lengths[i] for i in rows)
        if not limit.fits(len(rows), longest):
            middle = (len(rows) + 1) // 2
            waiting.extendleft([rows[middle:], rows[:middle]])
            continue
        failure: str | None = None
        try:
            result = compute(rows)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            failure = str(error)
        if failure is None:
            yield rows, result
            continue
        # Outside the handler: the traceback held the failed batch's tensors.
        _release()
        if len(rows) == 1:
            raise MemoryError(
                f"one text of {longest} tokens does not fit in memory ({failure.splitlines()[0]}); "
                "use a smaller dtype or model, or another device."
            )
        limit.failed(len(rows), longest)
        waiting.appendleft(rows)


def _release() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
