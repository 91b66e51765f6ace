"""Notes on what may be slips of the pen in a log: nothing is changed for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from causal_lm_opt._training_rows import plain_text
from causal_lm_opt.logged import LoggedData

__all__ = ["odd_cells", "same_labels"]

MOST_ODD = 3  # outcomes that are neither 0 nor 1
FEWEST_OF_EACH = 20  # zeros, and ones, beside them


def odd_cells(log: LoggedData) -> list[str]:
    """Notes on what may be slips of the pen: a number among zeros and ones, texts of blanks."""
    y, said = np.asarray(log.outcome, dtype=np.float64), []
    off = np.flatnonzero((y != 0.0) & (y != 1.0))
    two = min(int((y == 0.0).sum()), int((y == 1.0).sum())) >= FEWEST_OF_EACH
    if 0 < off.size <= MOST_ODD and two and not (y[off] == 2.0).any():
        said.append(
            f"{log.source}: all outcomes are 0 or 1 but {_counted(y[off].tolist())}, of "
            f"{len(y):,}: mend it if it is a slip."
        )
    blank = sum(not str(text).strip() for text in log.text)
    if blank:
        said.append(
            f"{log.source}: {blank:,} of the {len(y):,} texts hold nothing but blanks, and are "
            "kept as texts; drop those rows if their texts are missing."
        )
    return said


def _counted(values: Sequence[float]) -> str:
    """Numbers with how often each is there.

    >>> _counted([11.0, 11.0, -3.0])
    '-3, 11 (2 times)'
    """
    count = sorted(Counter(float(v) for v in values).items())
    return ", ".join(f"{v:g}" + (f" ({k} times)" if k > 1 else "") for v, k in count)


def same_labels(option: str, labels: Iterable[object] | None) -> list[str]:
    """A note on labels that are one but for case and blanks."""
    spelt: dict[str, list[str]] = {}
    for label in dict.fromkeys(map(str, () if labels is None else labels)):
        spelt.setdefault(plain_text(label), []).append(label)
    twice = next((some for some in spelt.values() if len(some) > 1), None)
    if twice is None:
        return []
    return [
        f"{option}: {twice[0]!r} and {twice[1]!r} differ in case or blanks alone, and count as two "
        "labels; write them alike if they are one."
    ]
