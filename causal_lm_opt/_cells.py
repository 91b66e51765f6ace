"""Cells to values, each with the one error that says where a bad cell is."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causal_lm_opt.exceptions import DataError

Cells = list[Any] | NDArray[Any]
Float = NDArray[np.float64]

LOGP_SLACK = 1e-6
"""Log-probabilities up to this far above zero are taken for rounding (float32 sums)."""

_SHOWN = 40
# A leading zero ("007") marks a code, not a number, so such a column of covariates stays text.
_PLAIN_NUMBER = re.compile(r"[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_COMMA_NUMBER = re.compile(r"[+-]?[\d.,'\u00a0\u202f ]*\d([eE][+-]?\d+)?")
_MISSING_NUMBER = frozenset({"", "NA", "NaN", "nan"})


@dataclass(frozen=True)
class Place:
    """Where rows come from, so that an error can say it, and how their numbers are written."""

    source: str
    lines: Sequence[int] | NDArray[np.int64] | None = None
    offset: int = 0
    decimal: str = "."

    def at(self, index: int, column: str) -> str:
        """``source, row 3 (line 5), column 'y'`` for the zero-based ``index``."""
        line = "" if self.lines is None else f" (line {int(self.lines[index])})"
        return f"{self.source}, row {self.offset + index + 1}{line}, column {column!r}"


def shown(value: object) -> str:
    """A value for an error message, cut to a safe length."""
    text = repr(value[: 2 * _SHOWN] if isinstance(value, str) else value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for a near match, else an empty string.

    A header that is one name with other separators in it was read by the wrong one.

    >>> did_you_mean("y", ["text;y"])
    "; is ';' the sign between columns? say so (--delimiter ';', delimiter=)"
    """
    known = list(known)
    for sign in ";\t|":
        if len(known) == 1 and sign in known[0]:
            return (
                f"; is {sign!r} the sign between columns? say so (--delimiter {sign!r}, delimiter=)"
            )
    match = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {match[0]!r}?" if match else ""


def _is_missing(cell: object) -> bool:
    if cell is None or cell is pd.NA or cell is pd.NaT:
        return True
    return isinstance(cell, float | np.floating) and bool(cell != cell)


def _pointed(cell: str, decimal: str) -> str | None:
    """The cell with a decimal point; ``None`` where it holds one beside another decimal sign.

    With decimal commas "1.234" is more than a thousand to whoever wrote it.
    """
    if decimal == ".":
        return cell
    return None if "." in cell else cell.replace(decimal, ".")


def _as_number(cell: Any, decimal: str) -> float | None:
    """The cell as a float, NaN where it is missing, None where it is no number."""
    if _is_missing(cell) or (isinstance(cell, str) and not cell):
        return float("nan")
    if isinstance(cell, str):
        cell = _pointed(cell, decimal)
    # float() would also take "1_000" and digits of other scripts, which no writer means.
    if isinstance(cell, str) and ("_" in cell or not cell.isascii()):
        return None
    if not isinstance(cell, str | Real | Decimal | np.bool_):
        return None
    try:
        return float(cell)
    except (ValueError, OverflowError):
        return None


def _comma_hint(cell: object, decimal: str) -> str:
    """What to say of a number with another decimal sign or separators of thousands."""
    if not isinstance(cell, str) or not _COMMA_NUMBER.fullmatch(cell.strip()):
        return ""
    if decimal != ".":
        return f"; its decimal sign is {decimal!r}: write it without separators, as 1234{decimal}5"
    if "," not in cell:
        return ""
    return (
        "; write it with a decimal point and without separators, as 1234.5, or for a delimited "
        "file with decimal commas say decimal=',' (on the command line --decimal ,)"
    )


def _word_hint(cell: Any) -> str:
    """What to do with yes and no, or a unit, where a number is due."""
    if not isinstance(cell, str):
        return ""
    if cell.strip().lower() in {"true", "false", "yes", "no"}:
        return "; write 1 and 0 for true and false"
    words = cell.split()
    numbers = [word for word in words if _as_number(word, ".") is not None]
    return "; write the number without its unit" if len(words) == 2 and len(numbers) == 1 else ""


def to_numbers(cells: Cells, place: Place, column: str) -> Float:
    """Cells (n,) as float64, missing ones as NaN; ``DataError`` at the first that is no number."""
    if isinstance(cells, np.ndarray) and cells.dtype.kind in "fiub":
        return np.asarray(cells, dtype=np.float64)
    values = [_as_number(cell, place.decimal) for cell in cells]
    if None in values:
        index = values.index(None)
        raise DataError(
            f"{place.at(index, column)}: {shown(cells[index])} is not a number"
            f"{_comma_hint(cells[index], place.decimal)}{_word_hint(cells[index])}"
        )
    return np.asarray(values, dtype=np.float64)


def to_strings(cells: Iterable[Any], place: Place, column: str, *, allow_empty: bool) -> list[str]:
    """Cells (n,) as strings, verbatim; ``DataError`` for a missing, empty or non-string cell."""
    result: list[str] = []
    for index, cell in enumerate(cells):
        if not isinstance(cell, str):
            if _is_missing(cell):
                raise DataError(
                    f"{place.at(index, column)}: is missing; drop the row or give the true value"
                )
            kind = type(cell).__name__
            raise DataError(
                f"{place.at(index, column)}: {shown(cell)} is not a string but {kind}; "
                "texts and prompts must be strings"
            )
        if not cell and not allow_empty:
            raise DataError(
                f"{place.at(index, column)}: is an empty string; drop the row, or where the text "
                "is empty indeed, as a policy may write it, give it a mark such as (empty)"
            )
        _check_unicode(cell, place, index, column)
        result.append(str(cell))
    return result


def _check_unicode(cell: str, place: Place, index: int, column: str) -> None:
    if cell.isascii():
        return
    try:
        cell.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{place.at(index, column)}: character {error.start + 1} is half of a surrogate "
            "pair, which is no Unicode text; repair it where the file is written"
        ) from error


def to_labels(cells: Iterable[Any], place: Place, column: str) -> list[str]:
    """Cells (n,) as label strings; ``DataError`` for a missing one.

    Labels become strings so that the integer 7 of a Parquet file and the 7 of a CSV file are the
    same group.
    """
    result: list[str] = []
    for index, cell in enumerate(cells):
        if _is_missing(cell) or (isinstance(cell, str) and not cell):
            raise DataError(
                f"{place.at(index, column)}: the label is missing (NaN or empty); name such rows "
                "('unknown', or a label for each where each stands by itself), or drop them"
            )
        if isinstance(cell, float | np.floating) and float(cell).is_integer():
            cell = int(cell)
        label = str(cell)
        _check_unicode(label, place, index, column)
        result.append(label)
    return result


def _is_plain(cell: str, decimal: str) -> bool:
    pointed = _pointed(cell.strip(), decimal)
    return pointed is not None and _PLAIN_NUMBER.fullmatch(pointed) is not None


def to_covariate(cells: Cells, place: Place, column: str, *, typed: bool) -> Float | list[Any]:
    """A whole covariate (n,) as float64 (missing: NaN) or as strings (missing: None).

    ``typed`` is false for CSV, where numbers arrive as strings: a column in which every cell is
    a plain number, empty, ``NA`` or ``NaN`` (at least one number) is then numeric.
    """
    if isinstance(cells, np.ndarray):
        return to_numbers(cells, place, column)
    present = [cell for cell in cells if not _is_missing(cell)]
    if not typed:
        numbers = [c for c in present if c not in _MISSING_NUMBER]
        if numbers and all(_is_plain(c, place.decimal) for c in numbers):
            return to_numbers(["" if c in _MISSING_NUMBER else c for c in cells], place, column)
    if present and isinstance(present[0], str):
        for index, cell in enumerate(cells):
            if isinstance(cell, str):
                _check_unicode(cell, place, index, column)
            elif not _is_missing(cell):
                raise DataError(f"{place.at(index, column)}: {shown(cell)} among strings")
        return [None if _is_missing(cell) else cell for cell in cells]
    for index, cell in enumerate(cells):
        if isinstance(cell, str):
            raise DataError(f"{place.at(index, column)}: {shown(cell)} among numbers")
    return to_numbers(cells, place, column)


def fail_at(bad: NDArray[np.bool_], values: Float, place: Place, column: str, why: str) -> None:
    """``DataError`` at the first bad row (n,): its place, its value and why it is refused."""
    if bad.any():
        index = int(np.argmax(bad))
        raise DataError(f"{place.at(index, column)}: {values[index]:g} {why}")


def check_finite(values: Float, place: Place, column: str) -> None:
    """``DataError`` at the first NaN or infinite value."""
    fail_at(
        np.isnan(values),
        values,
        place,
        column,
        "(NaN or missing); drop the row or give the true value",
    )
    fail_at(np.isinf(values), values, place, column, "is not finite")


def check_outcome(values: Float, place: Place, column: str) -> None:
    """``DataError`` at the first outcome that is missing or infinite; tells how many are missing.

    Rows without an outcome may be left out only where that is not selection on text or outcome.
    """
    missing = np.isnan(values)
    lacking = f"{int(missing.sum()):,} of {values.size:,} rows lack it"
    why = (
        f"(NaN or missing): {lacking}; give the true values, or leave these rows out and ask why "
        "they have none (leaving rows out is right only if what is missing has nothing to do with "
        "text and outcome)"
    )
    fail_at(missing, values, place, column, why)
    check_finite(values, place, column)


def check_weights(values: Float, place: Place, column: str) -> None:
    """``DataError`` unless the weights are finite, none negative and not all zero."""
    check_finite(values, place, column)
    fail_at(values < 0, values, place, column, "is negative; a weight counts copies of the row")
    if not values.any():
        raise DataError(f"{place.source}, column {column!r}: every weight is zero")


def check_log_probs(values: Float, place: Place, column: str, *, allow_impossible: bool) -> None:
    """``DataError`` for NaN, +inf or positive log-probabilities, and -inf unless allowed."""
    fail_at(np.isnan(values), values, place, column, "(NaN or missing) is no log-probability")
    positive = values[values > 0]
    within = bool(np.all((values >= 0) & (values <= 1)))
    # Probabilities of whole texts are tiny, so several distinct ones betray themselves too.
    tiny = within and np.unique(positive).size > 1
    bad = values > (0.0 if tiny else LOGP_SLACK)
    hint = (
        "; probabilities instead of log-probabilities? Take the natural logarithm"
        if within
        else "; log-probabilities (natural logarithm) are at most 0"
    )
    fail_at(bad, values, place, column, "is positive" + hint)
    if not allow_impossible:
        why = "says the logging policy never writes this text, yet the text was observed"
        fail_at(np.isneginf(values), values, place, column, why)
