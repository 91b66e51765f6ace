"""A note where outcomes are alike within a column of the log that no option named.

Rows of equal reader, session or prompt may be clusters. So may rows of equal town; or the town is a
trait of readers who were drawn one by one. The data cannot tell, so that it is a note; where the
standard error would be a fifth larger the verdict waits for the user's word.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from causal_lm_opt._cells import Cells, Place, did_you_mean, shown, to_numbers
from causal_lm_opt._files import check_file, default_delimiter, format_of
from causal_lm_opt._readers import column_names, loose_chunks
from causal_lm_opt.diagnostics.label_correlation import label_correlation
from causal_lm_opt.diagnostics.overlap import effective_clusters
from causal_lm_opt.exceptions import DataError

if TYPE_CHECKING:
    from causal_lm_opt._run.log import Request
    from causal_lm_opt.logged import LoggedData

__all__ = ["Alike", "cluster_caution", "cluster_note", "unnamed_clusters"]

Float = NDArray[np.float64]
Codes = NDArray[np.int64]
Read = Callable[[Sequence[str], int], Iterator[dict[str, Cells]]]

FEWEST_LABELS = 6  # of equal size, or worth as many
FEW_LABELS = 20  # with fewer no interval is right, if they were drawn
MOST_COLUMNS = 50  # of 8 bytes a row each
MOST_TOLD = 3
FIRST_ROWS = 1000  # choose the columns
CHUNK_ROWS = 4096
LEVEL = 0.001  # chance of a note on independent rows, over all the columns
WORTH_TELLING = 1.21  # design effect: a standard error 10 % larger
WORTH_CAUTION = 1.44  # 20 % larger: an interval without them covers less than 90 %
ORDERED = 0.5  # neighbouring numbers at least half as alike as equal ones: an order, no labels
REPEATS = 20  # repeated texts whose label is always the same: it belongs to the text
PIECE = 20  # mean characters from which cells found in their own texts are pieces of them

MISSING = np.iinfo(np.int64).min
_MISSING = frozenset({"", "NA", "NaN", "nan", "None", "null", "<NA>"})
_WHOLE = re.compile(r"(-?(?:0|[1-9][0-9]{0,17}))(?:\.0*)?", re.ASCII)


@dataclass(frozen=True, eq=False)
class _Rows:
    """What is known of the file's n rows.

    Attributes
    ----------
    outcome, weight : array (n,)
        As in the log; with clicks, an arm's clicks less those that its impressions would bring.
    units : array (n,), optional
        Codes of the clusters that the standard error counts already.
    texts : array (n,), optional
        Codes of the texts, where they repeat.
    called : str
        What it counts.
    """

    outcome: Float
    weight: Float | None
    units: Codes | None
    texts: Codes | None
    called: str


@dataclass(frozen=True)
class Alike:
    """A column whose rows (clusters, arms) of equal label have alike outcomes.

    ``crosses``: its labels cut through the clusters that standard errors count.
    """

    column: str
    labels: int
    size: float
    lacking: int
    intraclass: float
    design_effect: float
    z: float
    called: str
    crosses: bool = False

    def sentence(self) -> str:
        rows = "row" if self.lacking == 1 else "rows"
        lacking = f", {self.lacking:,} {rows} without one" if self.lacking else ""
        return (
            f"{self.called} of equal {shown(self.column)} have correlated outcomes "
            f"({self.labels:,} labels, {self.size:.1f} {self.called} each{lacking}, intraclass "
            f"correlation {self.intraclass:.2f}): {self._named()} would make the standard error of "
            f"the mean outcome {math.sqrt(self.design_effect):.2f} times as large{self._few()}"
        )

    def brief(self) -> str:
        return (
            f"so have {self.called} of equal {shown(self.column)} ({self.labels:,} labels, "
            f"intraclass correlation {self.intraclass:.2f}; {self._named()}: "
            f"{math.sqrt(self.design_effect):.1f} times{self._few()})"
        )

    def _named(self) -> str:
        if self.crosses:
            return "these clusters, which cross those that are counted, counted as well"
        return f"--group {shlex.quote(self.column)}"

    def _few(self) -> str:
        few = self.labels < FEW_LABELS
        return " (of so few, no interval is right if they were drawn)" if few else ""


@dataclass(eq=False)
class _Labels:
    """A column's cells as integers, collected chunk by chunk.

    ``whole``: all are whole numbers so far, each then its own code. Others are hashed.
    """

    whole: bool | None = None
    hashed: bool = False
    parts: list[Codes] = field(default_factory=list)

    @property
    def values(self) -> Codes:
        """All cells (n,)."""
        return np.concatenate(self.parts)

    def add(self, cells: Cells) -> None:
        if isinstance(cells, np.ndarray) and cells.dtype.kind in "iu" and not self.hashed:
            self.whole = self.whole is not False
            self.parts.append(cells.astype(np.int64))
            return
        strings = _strings(cells) or [""] * len(cells)
        plain = None if self.hashed else _plain_numbers(strings)
        if plain is not None:
            self.whole = self.whole is not False
            self.parts.append(plain)
            return
        if self.whole is None:
            self.whole = all(_WHOLE.fullmatch(cell) for cell in strings if cell not in _MISSING)
            self.hashed = not self.whole
        coded = map(hash if self.hashed else self._number, strings)
        part = np.fromiter(coded, np.int64, len(strings))
        part[[cell in _MISSING for cell in strings]] = MISSING
        self.parts.append(part)

    def _number(self, cell: str) -> int:
        found = _WHOLE.fullmatch(cell)
        if found is None:
            self.whole = self.whole and cell in _MISSING
            return hash(cell)
        return int(found[1])


# ------------------------------------------------------------------------------ the note
def unnamed_clusters(log: LoggedData, request: Request, policies: Collection[str]) -> list[Alike]:
    """Columns of the log's file that may be clusters and are not counted as such, worst first.

    Parameters
    ----------
    log : LoggedData
        As it was read, with prompts as groups where they are the clusters.
    request : Request
    policies : collection of str
        Columns of the target policies.

    Notes
    -----
    The file is read once more; 8 bytes a row and column are held, of at most 50 columns.
    """
    file = check_file(request.log)
    header = column_names(file, request.delimiter)
    for name in request.independent:
        if name not in header:
            meant = did_you_mean(name, header)
            raise DataError(f"--independent {name}: {request.log} has no such column{meant}")
    named = {
        request.text, request.outcome, request.clicks, request.impressions,
        request.group or request.prompt, request.weight, request.by, request.logp_logging,
        *request.features, *policies, *request.independent,
    }  # fmt: skip
    names = [name for name in header if name not in named and header.count(name) == 1]
    delimiter = request.delimiter or default_delimiter(file)
    read = partial(loose_chunks, file, format_of(file), delimiter)
    first = next(read(names, FIRST_ROWS), {}) if names else {}
    texts = None if request.clicks else log.text
    names = [n for n in names if n in first and _may_be_labels(first[n], texts, _place(request))]
    if not names:
        return []
    columns, rows = _columns(log, request, names[:MOST_COLUMNS], read)
    tested = [_tested(name, labels, rows) for name, labels in columns.items()]
    found = [one for one in tested if one is not None]
    limit = float(stats.norm.isf(LEVEL / max(len(found), 1)))
    alike = [one for one in found if one.z > limit and one.design_effect > WORTH_TELLING]
    # A name and its number cut the rows alike.
    distinct = {(one.labels, round(one.design_effect, 9)): one for one in reversed(alike)}
    return sorted(distinct.values(), key=lambda one: -one.design_effect)[:MOST_TOLD]


def cluster_note(found: Sequence[Alike]) -> str:
    """One note on the columns found, at least one.

    It is no verdict: a trait of rows drawn one by one looks the same as a cluster.
    """
    first, *others = found
    said, called = "; ".join([first.sentence(), *(one.brief() for one in others)]), first.called
    return (
        f"{said[0].upper()}{said[1:]}. If such labels were drawn, and not {called} one by one, "
        f"name them; if they are a trait of {called} drawn one by one, --independent "
        f"{shlex.quote(first.column)} says so."
    )


def cluster_caution(found: Sequence[Alike]) -> str:
    """A reason for caution, where intervals that leave the labels out would cover less than 90 %.

    Empty where none would.
    """
    wide = [one for one in found if one.design_effect > WORTH_CAUTION]
    if not wide:
        return ""
    return (
        f"{wide[0].sentence()}; that they are independent is for you to say (--independent "
        f"{shlex.quote(wide[0].column)})."
    )


# ------------------------------------------------------------------------------ the columns
def _place(request: Request) -> Place:
    delimited = format_of(request.log) == "csv"
    return Place(request.log, decimal=request.decimal or "." if delimited else ".")


def _may_be_labels(cells: Cells, texts: Sequence[str] | None, place: Place) -> bool:
    """Whether a column's first cells may be labels: no fractions, no lists, no pieces of texts."""
    strings = _strings(cells)
    if strings is None:
        return False
    present = [(i, cell) for i, cell in enumerate(strings) if cell not in _MISSING]
    values = [cell for _, cell in present]
    if not values or (not all(map(_WHOLE.fullmatch, values)) and _are_numbers(values, place)):
        return False
    if texts is None or sum(map(len, values)) < PIECE * len(values):
        return True
    return not all(cell in texts[i] for i, cell in present)


def _are_numbers(values: list[str], place: Place) -> bool:
    try:
        to_numbers(values, place, "")
    except DataError:
        return False
    return True


def _strings(cells: Cells) -> list[str] | None:
    """Cells as strings, missing ones empty; ``None`` for cells that are no labels."""
    if isinstance(cells, np.ndarray):
        return ["" if cell != cell else str(cell) for cell in cells.tolist()]
    kinds = set(map(type, cells))
    if kinds <= {str}:
        return cells
    if kinds & {list, dict, bytes}:
        return None
    return ["" if cell is None or cell != cell else str(cell) for cell in cells]


def _plain_numbers(strings: list[str]) -> Codes | None:
    """Whole numbers in their usual spelling, else ``None``: a short cut, the codes are the same."""
    try:
        numbers = list(map(int, strings))
    except ValueError:
        return None
    if max(map(abs, numbers)) >= 10**18 or list(map(str, numbers)) != strings:
        return None
    return np.array(numbers, dtype=np.int64)


def _columns(
    log: LoggedData, request: Request, names: Sequence[str], read: Read
) -> tuple[dict[str, _Labels], _Rows]:
    """The labels of the columns, and what is known of the file's rows."""
    counts = [name for name in (request.clicks, request.impressions) if name is not None]
    named = request.group or request.prompt if counts else None
    labels = {name: _Labels() for name in (*names, *([named] if named else ()))}
    numbers: dict[str, list[Float]] = {name: [] for name in counts}
    for chunk in read([*labels, *counts], CHUNK_ROWS):
        for name, column in labels.items():
            column.add(chunk[name])
        for name, values in numbers.items():
            values.append(to_numbers(chunk[name], _place(request), name))
    if not counts:
        return labels, _rows_of(log)
    clicks, impressions = (np.concatenate(numbers[name]) for name in counts)
    outcome = clicks - impressions * (clicks.sum() / impressions.sum())
    units = np.arange(outcome.shape[0])
    if named:
        units = pd.factorize(labels.pop(named).values)[0]
    return labels, _Rows(outcome, None, units, None, "clusters" if named else "arms")


def _rows_of(log: LoggedData) -> _Rows:
    """The rows of a log that has as many as its file."""
    texts, distinct = pd.factorize(np.asarray(log.text, dtype=object))
    repeat = len(log) - len(distinct) >= REPEATS
    units = None if log.groups is None else pd.factorize(log.groups)[0]
    called = "rows" if units is None else "clusters"
    return _Rows(log.outcome, log.sample_weight, units, texts if repeat else None, called)


# ------------------------------------------------------------------------------ one column
def _tested(name: str, labels: _Labels, rows: _Rows) -> Alike | None:
    """What a column's labels say of the outcomes; ``None`` where they cannot be clusters."""
    values, n = labels.values, rows.outcome.shape[0]
    if values.shape[0] != n:  # the file has changed meanwhile, which is told elsewhere
        return None
    lacking = int((values == MISSING).sum())
    codes, distinct = pd.factorize(values, sort=bool(labels.whole))
    known = len(distinct) - (lacking > 0)
    codes[values == MISSING] = len(distinct) + np.arange(lacking)  # each on its own
    y, s, texts, units = rows.outcome, rows.weight, rows.texts, n - lacking
    if rows.units is not None:
        inside = _label_of(rows.units, codes)
        if inside is None:
            return _crossing(name, labels, codes, rows, len(distinct), lacking)
        y, s, codes, texts = _totals(y, s, rows.units), None, inside, None
        units = int((codes < len(distinct)).sum())
    if known >= units or effective_clusters(codes[codes < len(distinct)]) < FEWEST_LABELS:
        return None
    try:
        told = label_correlation(y, codes, sample_weight=s)
        y, codes, s = _beyond_the_text(y, codes, s, texts)
        z = label_correlation(y, codes, sample_weight=s).z
    except ValueError:  # no two left that share a label, or weights that count less than a row
        return None
    if labels.whole and _is_order(y, codes, s, len(distinct)):
        return None
    return Alike(
        name, known, units / known, lacking, told.intraclass, told.design_effect, z, rows.called
    )


def _crossing(
    name: str, labels: _Labels, codes: Codes, rows: _Rows, distinct: int, lacking: int
) -> Alike | None:
    """The same of labels that cut through the clusters named: beyond what these have in common.

    The design effect is that of both clusterings over the one that is counted: variances by both
    add up, less that of their intersections (Cameron, Gelbach and Miller 2011).
    """
    assert rows.units is not None
    y, s, n = rows.outcome, rows.weight, rows.outcome.shape[0]
    if effective_clusters(codes[codes < distinct]) < FEWEST_LABELS:
        return None
    weight = np.ones(n) if s is None else s
    total = np.bincount(rows.units, weights=weight)
    mean = np.bincount(rows.units, weights=weight * y) / np.where(total > 0, total, 1.0)
    left = y - mean[rows.units]
    both = pd.factorize(codes * np.int64(rows.units.max() + 1) + rows.units)[0]
    try:
        own = label_correlation(left, codes, sample_weight=s)
        e, at, w = _beyond_the_text(left, codes, s, rows.texts)
        z = label_correlation(e, at, sample_weight=w).z
    except ValueError:
        return None
    if labels.whole and _is_order(e, at, w, distinct):
        return None
    ways = [_design_effect(y, label, s) for label in (codes, rows.units, both)]
    effect = (ways[0] + ways[1] - ways[2]) / ways[1]
    called, known = "rows" if rows.called == "clusters" else rows.called, distinct - (lacking > 0)
    size = (n - lacking) / known
    return Alike(name, known, size, lacking, own.intraclass, effect, z, called, crosses=True)


def _design_effect(y: Float, codes: Codes, s: Float | None) -> float:
    try:
        return label_correlation(y, codes, sample_weight=s).design_effect
    except ValueError:  # no two rows share a label
        return 1.0


def _label_of(units: Codes, codes: Codes) -> Codes | None:
    """The label of each unit, where all its rows have the same."""
    label = np.zeros(units.max() + 1, dtype=np.int64)
    label[units] = codes
    return label if bool((label[units] == codes).all()) else None


def _less_mean(y: Float, s: Float | None) -> Float:
    """Outcomes less their mean, times their frequencies."""
    return np.asarray((y - np.average(y, weights=s)) * (1.0 if s is None else s))


def _totals(y: Float, s: Float | None, units: Codes) -> Float:
    """Each unit's total of outcomes less their mean."""
    return np.bincount(units, weights=_less_mean(y, s)).astype(np.float64)


def _beyond_the_text(
    y: Float, codes: Codes, s: Float | None, texts: Codes | None
) -> tuple[Float, Codes, Float | None]:
    """Outcomes, labels and frequencies in which rows are not alike because their text is the same.

    A text acts on outcomes, so that what comes with it (its number, its length, who wrote it) would
    look like clusters of independent readers.
    """
    if texts is None:
        return y, codes, s
    label = _label_of(texts, codes)
    if label is not None:  # of the text: are different texts of one label alike?
        return _totals(y, s, texts), label, None
    if _label_of(codes, texts) is None:
        return y, codes, s
    weight = np.ones_like(y) if s is None else s  # finer than the text: what the text leaves
    total = np.bincount(texts, weights=weight)
    mean = np.bincount(texts, weights=weight * y) / np.where(total > 0, total, 1.0)
    return y - mean[texts], codes, s


def _is_order(y: Float, codes: Codes, s: Float | None, known: int) -> bool:
    """Whether neighbouring numbers have outcomes nearly as alike as equal ones (age, length)."""
    kept = codes < known
    e, weight = _less_mean(y, s)[kept], None if s is None else s[kept]
    sums = np.bincount(codes[kept], weights=e)
    sizes = np.bincount(codes[kept], weights=weight).astype(np.float64)
    sums, sizes = sums[sizes > 0], sizes[sizes > 0]
    own = float((e * e if weight is None else e * e / np.where(weight > 0, weight, 1.0)).sum())
    equals, neighbours = float(sizes @ (sizes - 1.0)), float(sizes[1:] @ sizes[:-1])
    if min(equals, neighbours) <= 0.0:
        return False
    products = sums[1:] * sums[:-1]
    noise = 2.0 * math.sqrt(float(products @ products))
    least = ORDERED * neighbours * (float(sums @ sums) - own) / equals
    return float(products.sum()) > max(least, noise)
