"""From cells to checked columns: one specification and one set of checks for every kind of log.

The file readers in :mod:`causal_lm_opt._readers` only cut a source into :class:`Chunk` objects;
:func:`read_log` here turns them into the fields of :class:`causal_lm_opt.logged.LoggedData`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import chain
from typing import Any, Required, TypedDict

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causal_lm_opt._cells import (
    Cells,
    Float,
    Place,
    check_finite,
    check_log_probs,
    check_outcome,
    check_weights,
    did_you_mean,
    fail_at,
    shown,
    to_covariate,
    to_labels,
    to_numbers,
    to_strings,
)
from causal_lm_opt._parts import LogParts, object_array, prompt_clusters, take
from causal_lm_opt.exceptions import DataError


class CommonSpec(TypedDict, total=False):
    """Column arguments that every reader takes; see :class:`Columns`."""

    text: Required[str]
    prompt: str | None
    logp_logging: str | None
    logp_target: Mapping[str, str] | Sequence[str] | str | None
    group: str | None
    covariates: Sequence[str] | str
    by: str | None


class ColumnSpec(CommonSpec, total=False):
    """Column arguments of the readers, outcome columns included; see :class:`Columns`."""

    outcome: str | None
    weight: str | None
    clicks: str | None
    impressions: str | None


@dataclass(frozen=True)
class Chunk:
    """Some rows of a source: cells by column name and, where there are any, the file's lines.

    ``decimal`` is the decimal sign of numbers that are still strings.
    """

    cells: Mapping[str, Cells]
    lines: Sequence[int] | NDArray[np.int64] | None = None
    decimal: str = "."


def check_present(names: Sequence[object], wanted: Mapping[str, str], where: str) -> None:
    """Raise ``DataError`` unless each wanted column occurs exactly once among ``names``."""
    for role, column in wanted.items():
        count = sum(1 for name in names if name == column)
        if count > 1:
            raise DataError(
                f"{where}: column {column!r} ({role}) occurs {count} times; "
                "rename the duplicates so that each name is unique"
            )
        if count == 0:
            known = [str(name) for name in names]
            listed = ", ".join(shown(name) for name in known[:20]) or "none"
            more = f", ... ({len(known)} in all)" if len(known) > 20 else ""
            raise DataError(
                f"{where}: no column {column!r} ({role}); "
                f"columns: {listed}{more}{did_you_mean(column, known)}"
            )


@dataclass(frozen=True)
class Columns:
    """Which column of a source plays which part.

    Parameters
    ----------
    text : str
        Column of texts (the treatment).
    outcome : str, optional
        Column of outcomes. Give either this or both ``clicks`` and ``impressions``.
    prompt : str, optional
        Column of prompts.
    logp_logging : str, optional
        Column of log-probabilities of the text under the policy that wrote it (nats).
    logp_target : mapping, sequence of str or str, optional
        Columns of log-probabilities under target policies: ``{policy name: column}``, or the
        columns, whose names then name the policies.
    group : str, optional
        Column of cluster labels.
    weight : str, optional
        Column of frequency weights.
    covariates : sequence of str or str
        Columns of covariates that go into ``X`` beside the text.
    by : str, optional
        Column of subgroup labels.
    clicks, impressions : str, optional
        Columns of counts of successes and of trials, in place of ``outcome`` and ``weight``.
    """

    text: str
    outcome: str | None = None
    prompt: str | None = None
    logp_logging: str | None = None
    logp_target: Mapping[str, str] | Sequence[str] | str | None = None
    group: str | None = None
    weight: str | None = None
    covariates: Sequence[str] | str = ()
    by: str | None = None
    clicks: str | None = None
    impressions: str | None = None
    policies: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        target, covariates = self.logp_target, self.covariates
        if isinstance(target, str):
            target = [target]
        if target is not None and not isinstance(target, Mapping):
            _check_unique(target, "logp_target")
            target = {name: name for name in target}
        covariates = (covariates,) if isinstance(covariates, str) else tuple(covariates)
        _check_unique(covariates, "covariates")
        if "text" in covariates:
            raise ValueError("covariates: 'text' is the name of the text in X; rename that column")
        object.__setattr__(self, "covariates", covariates)
        object.__setattr__(self, "policies", dict(target or {}))
        for role, column in self.wanted().items():
            if not isinstance(column, str):
                raise TypeError(f"{role} must be a column name (str), not {column!r}")
        self._check_outcome()

    def _check_outcome(self) -> None:
        if (self.clicks is None) != (self.impressions is None):
            raise ValueError("clicks and impressions go together: name both columns")
        if (self.outcome is None) == (self.clicks is None):
            raise ValueError("name the outcome column, or both clicks and impressions (not both)")
        if self.clicks is not None and self.weight is not None:
            raise ValueError("weight cannot be combined with clicks and impressions")

    def wanted(self) -> dict[str, str]:
        """Column by the argument that names it, absent ones left out."""
        single = ("text", "outcome", "prompt", "logp_logging", "group", "weight", "by")
        named = {role: getattr(self, role) for role in (*single, "clicks", "impressions")}
        named |= {f"logp_target[{name!r}]": column for name, column in self.policies.items()}
        named |= {f"covariates[{i}]": column for i, column in enumerate(self.covariates)}
        return {role: column for role, column in named.items() if column is not None}

    def names(self) -> list[str]:
        """The columns to read, each once."""
        return list(dict.fromkeys(self.wanted().values()))

    def numeric(self) -> list[str]:
        """The columns read as numbers."""
        named = (self.outcome, self.clicks, self.impressions, self.weight, self.logp_logging)
        return list(dict.fromkeys(c for c in (*named, *self.policies.values()) if c is not None))


def _check_unique(names: Iterable[str], argument: str) -> None:
    seen = list(names)
    repeated = [name for name in seen if seen.count(name) > 1]
    if repeated:
        raise ValueError(f"{argument} names {repeated[0]!r} more than once")


def columns_from(spec: Mapping[str, Any]) -> Columns:
    """``Columns`` from keyword arguments; an unknown one is a ``TypeError`` naming a near match."""
    known = [f.name for f in fields(Columns) if f.init]
    for name in spec:
        if name not in known:
            raise TypeError(f"unknown column argument {name!r}{did_you_mean(name, known)}")
    if "text" not in spec:
        raise TypeError("name the column of texts: text=...")
    return Columns(**spec)


def check_numbers(parts: LogParts, columns: Columns, place: Place) -> None:
    """Run the checks of the numeric fields, naming the columns they came from."""
    check_outcome(parts["outcome"], place, columns.outcome or columns.clicks or "outcome")
    if parts["sample_weight"] is not None:
        check_weights(parts["sample_weight"], place, columns.weight or "sample_weight")
    if parts["logp_logging"] is not None:
        name = columns.logp_logging or "logp_logging"
        check_log_probs(parts["logp_logging"], place, name, allow_impossible=False)
    if parts["logp_target"] is not None:
        for policy, values in parts["logp_target"].items():
            column = columns.policies.get(str(policy), f"logp_target[{policy!r}]")
            check_log_probs(values.to_numpy(), place, column, allow_impossible=True)


def expand_counts(
    parts: LogParts, clicks: Float, impressions: Float, place: Place, columns: Columns
) -> LogParts:
    """Rows (y = 1, weight = clicks) and (y = 0, weight = impressions - clicks) of each arm.

    Parameters
    ----------
    parts : LogParts
        Fields with one row an arm, length m; its outcome and weight are ignored.
    clicks, impressions : ndarray (m,)
        Successes and trials of each arm.
    place : Place
        Where the arms come from.
    columns : Columns
        Names of the columns, for error messages.

    Returns
    -------
    LogParts
        Between m and 2m rows, zero-weight rows dropped; ``groups`` is the arm (its row number,
        1-based) unless the arms have groups already, or answer several prompts, which are then
        the clusters.

    Raises
    ------
    DataError
        If a count is missing, negative, fractional, or clicks exceed impressions.
    """
    names = (columns.clicks or "clicks", columns.impressions or "impressions")
    for name, values in zip(names, (clicks, impressions), strict=True):
        check_finite(values, place, name)
        fail_at(values < 0, values, place, name, "is negative; a count is at least 0")
        fail_at(values != np.floor(values), values, place, name, "is fractional; not a count")
    over = clicks > impressions
    if over.any():
        index = int(np.argmax(over))
        raise DataError(
            f"{place.at(index, names[0])}: {clicks[index]:g} clicks of "
            f"{impressions[index]:g} impressions ({names[1]!r}); swapped columns?"
        )
    if not impressions.any():
        raise DataError(f"{place.source}, column {names[1]!r}: no arm has an impression")
    m = clicks.shape[0]
    weight = np.stack([clicks, impressions - clicks], axis=1).ravel()
    rows = np.flatnonzero(weight)
    arms = take(parts, rows // 2)
    if arms["groups"] is None and prompt_clusters(arms["prompt"]) is None:
        arms["groups"] = object_array([str(i + 1) for i in range(m)])[rows // 2]
    arms["outcome"] = np.where(rows % 2 == 0, 1.0, 0.0)
    arms["sample_weight"] = weight[rows]
    return arms


class _Buffers:
    """Converted cells of the columns, collected chunk by chunk."""

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        self.numbers: dict[str, list[Float]] = {name: [] for name in columns.numeric()}
        self.strings: dict[str, list[str]] = {"text": [], "prompt": []}
        self.labels: dict[str, list[str]] = {"group": [], "by": []}
        self.covariates: dict[str, list[Cells]] = {name: [] for name in columns.covariates}
        self.lines: list[NDArray[np.int64]] = []
        self.rows = 0
        self.decimal = "."

    def add(self, chunk: Chunk, source: str) -> None:
        """Convert a chunk's cells; ``DataError`` at a cell of the wrong kind."""
        self.decimal = chunk.decimal
        place = Place(source, chunk.lines, self.rows, chunk.decimal)
        for name, values in self.numbers.items():
            values.append(to_numbers(chunk.cells[name], place, name))
        for role, strings in self.strings.items():
            name = getattr(self.columns, role)
            if name is not None:
                empty = role == "prompt"
                strings += to_strings(chunk.cells[name], place, name, allow_empty=empty)
        for role, labels in self.labels.items():
            name = getattr(self.columns, role)
            if name is not None:
                labels += to_labels(chunk.cells[name], place, name)
        for name, cells in self.covariates.items():
            cells.append(chunk.cells[name])
        if chunk.lines is not None:
            self.lines.append(np.asarray(chunk.lines, dtype=np.int64))
        self.rows += len(chunk.cells[self.columns.text])

    def number(self, name: str | None) -> Float | None:
        return None if name is None else np.concatenate(self.numbers[name])

    def covariate_frame(self, place: Place, *, typed: bool) -> pd.DataFrame | None:
        if not self.covariates:
            return None
        data: dict[str, Any] = {}
        for name, chunks in self.covariates.items():
            whole: Cells
            if all(isinstance(cells, np.ndarray) for cells in chunks):
                whole = np.concatenate(chunks)
            else:
                whole = list(chain.from_iterable(chunks))
            data[name] = to_covariate(whole, place, name, typed=typed)
        return pd.DataFrame(data)

    def parts(self, place: Place, *, typed: bool) -> LogParts:
        columns = self.columns
        outcome = self.number(columns.outcome if columns.clicks is None else columns.clicks)
        assert outcome is not None  # Columns guarantees one of the two
        target = {p: np.concatenate(self.numbers[c]) for p, c in columns.policies.items()}
        return LogParts(
            text=self.strings["text"],
            outcome=outcome,
            prompt=None if columns.prompt is None else self.strings["prompt"],
            logp_logging=self.number(columns.logp_logging),
            logp_target=pd.DataFrame(target) if target else None,
            groups=None if columns.group is None else object_array(self.labels["group"]),
            sample_weight=self.number(columns.weight),
            covariates=self.covariate_frame(place, typed=typed),
            by=None if columns.by is None else object_array(self.labels["by"]),
        )


def read_log(
    chunks: Iterable[Chunk], columns: Columns, source: str, *, typed: bool = True
) -> LogParts:
    """Checked fields of a log from chunks of its rows.

    Parameters
    ----------
    chunks : iterable of Chunk
        Each holds the columns of ``columns.names()``; consumed once.
    columns : Columns
        Which column plays which part.
    source : str
        Name of the file or object, for error messages.
    typed : bool
        False where every cell is a string (CSV), so that numeric covariates are recognised.

    Returns
    -------
    LogParts
        Fields of length n; with counts, the rows of :func:`expand_counts`.

    Raises
    ------
    DataError
        If there are no rows or a cell fails a check; the message names source, row and column.
    """
    buffers = _Buffers(columns)
    for chunk in chunks:
        buffers.add(chunk, source)
    if buffers.rows == 0:
        raise DataError(f"{source}: has no data rows")
    lines = np.concatenate(buffers.lines) if buffers.lines else None
    place = Place(source, lines, decimal=buffers.decimal)
    parts = buffers.parts(place, typed=typed)
    check_numbers(parts, columns, place)
    impressions = buffers.number(columns.impressions)
    if impressions is None:
        return parts
    return expand_counts(parts, parts["outcome"], impressions, place, columns)
