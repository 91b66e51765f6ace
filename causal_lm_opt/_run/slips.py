"""Notes on what may be slips of the pen in a log: nothing is changed for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from causal_lm_opt._cells import shown
from causal_lm_opt._training_rows import plain_text
from causal_lm_opt.logged import LoggedData

__all__ = ["odd_cells", "same_labels"]

MOST_ODD = 3  # outcomes that are neither 0 nor 1; rows whose text has another log-prob elsewhere
ENOUGH, SAME = 5, 0.05  # rows of a text that tell its log-prob; nats of rounding
STAND_IN = -20.0  # no log-probability above it is taken for one that is missing
FEWEST_OF_EACH = 20  # zeros, and ones, beside them


def odd_cells(log: LoggedData) -> list[str]:
    """Notes on what may be slips of the pen: a number among zeros and ones, log-probabilities that
    may stand for missing ones, texts of blanks or spelt in several ways, rows without a prompt.
    """
    y, said = np.asarray(log.outcome, dtype=np.float64), []
    off = np.flatnonzero((y != 0.0) & (y != 1.0))
    two = min(int((y == 0.0).sum()), int((y == 1.0).sum())) >= FEWEST_OF_EACH
    if 0 < off.size <= MOST_ODD and two and not (y[off] == 2.0).any():
        said.append(
            f"{log.source}: all outcomes are 0 or 1 but {_counted(y[off].tolist())}, of "
            f"{len(y):,}: mend it if it is a slip."
        )
    said += _stand_ins(log)
    blank = sum(not str(text).strip() for text in log.text)
    if blank:
        said.append(
            f"{log.source}: {blank:,} of the {len(y):,} texts hold nothing but blanks, and are "
            "kept as texts; drop those rows if their texts are missing."
        )
    asked = () if log.prompt is None else log.prompt
    unasked = sum(not str(prompt).strip() for prompt in asked)
    if unasked:
        said.append(
            f"{log.source}: {unasked:,} of the {len(y):,} rows have no prompt, and count as "
            "answers to one more; drop those rows if their prompts are missing."
        )
    distinct = [text for text in dict.fromkeys(map(str, log.text)) if text.strip()]
    spelt = Counter(map(plain_text, distinct))
    more = len(distinct) - len(spelt)
    if more:
        one = next(text for text in distinct if spelt[plain_text(text)] > 1)
        said.append(
            f"{log.source}: {more:,} of the {len(distinct):,} distinct texts differ from another "
            f"in case or blanks alone, and count as texts of their own ({shown(one)}); write them "
            "alike if they are one."
        )
    return said


def _stand_ins(log: LoggedData) -> list[str]:
    """A note on a log-probability that is a round number far below all others (-99, -999)."""
    columns: dict[str, Any] = {}
    if log.logp_logging is not None:
        columns["the logging policy"] = log.logp_logging
    if log.logp_target is not None:
        columns |= {f"policy {name!r}": log.logp_target[name] for name in log.logp_target}
    said = []
    for whose, column in columns.items():
        every = np.asarray(column, dtype=np.float64)
        odd = _odd_ones_out(log, whose, every)
        said += odd
        value = every[np.isfinite(every)]
        low = float(value.min(initial=0.0))
        others = value[value > low]
        whole = low == round(low) and bool((others != np.round(others)).any())
        if not odd and whole and low < min(STAND_IN, 2.0 * float(others.min())):
            many = value.size - others.size
            are = "is" if many == 1 else "are"
            said.append(
                f"{log.source}: {many:,} of the {every.size:,} log-probabilities of {whose} {are} "
                f"{low:g}, the others {others.min():.3g} or more: mend it if it stands for a "
                "missing one. A text so improbable under the logging policy gets all the weight; "
                "-inf says that a policy never writes it."
            )
    return said


def _odd_ones_out(log: LoggedData, whose: str, logp: npt.NDArray[np.float64]) -> list[str]:
    """A note on a few rows whose log-probability is another than that of all rows of their text."""
    if log.prompt is not None:
        return []
    rows = pd.DataFrame({"text": list(map(str, log.text)), "logp": logp})
    by_text = rows.groupby("text", sort=False)["logp"]
    usual, many = by_text.transform("median"), by_text.transform("size")
    off = np.flatnonzero((many >= ENOUGH) & ~np.isclose(logp, usual, rtol=0.0, atol=SAME))
    if not 0 < off.size <= MOST_ODD:
        return []
    at = int(off[0])
    more = f" (and {off.size - 1} more)" if off.size > 1 else ""
    return [
        f"{log.source}, row {at + 1:,}{more}: its log-probability under {whose} is {logp[at]:.4g}, "
        f"that of the other {many[at] - 1:,} rows of its text {usual[at]:.4g}: mend it if it is a "
        "slip; a single such row may carry all the weight."
    ]


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
