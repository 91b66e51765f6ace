"""Files and tables cut into chunks of rows, only the named columns kept.

Each function yields :class:`causal_lm_opt._columns.Chunk` objects and knows nothing of what the
columns mean; a source that cannot be read is a ``DataError`` that names the file and the line.
"""

from __future__ import annotations

import csv
import io
import json
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from causal_lm_opt._cells import Cells, shown
from causal_lm_opt._columns import Chunk, Columns, check_present
from causal_lm_opt._files import (
    default_delimiter,
    ends_in_a_line,
    format_of,
    open_text,
    reading,
)
from causal_lm_opt._parts import series_cells
from causal_lm_opt.exceptions import DataError

CHUNK_ROWS = 16_384
"""Rows parsed at a time unless the caller says otherwise."""

_BOM = b"\xef\xbb\xbf"
_FIELD_LIMIT = 2**31 - 1


def check_chunk_rows(chunk_rows: int) -> int:
    """``chunk_rows`` itself, or an error unless it is an integer >= 1."""
    if isinstance(chunk_rows, bool) or not isinstance(chunk_rows, int):
        raise TypeError(f"chunk_rows must be an integer, not {chunk_rows!r}")
    if chunk_rows < 1:
        raise ValueError(f"chunk_rows must be at least 1, not {chunk_rows}")
    return chunk_rows


def _batched(
    records: Iterator[tuple[int, tuple[Any, ...]]], names: Sequence[str], chunk_rows: int,
    decimal: str = ".",
) -> Iterator[Chunk]:  # fmt: skip
    while batch := list(islice(records, chunk_rows)):
        cells = zip(*(values for _, values in batch), strict=True)
        yield Chunk(
            {name: list(values) for name, values in zip(names, cells, strict=True)},
            [line for line, _ in batch],
            decimal,
        )


def csv_chunks(
    path: Path, columns: Columns, chunk_rows: int, delimiter: str, decimal: str = "."
) -> Iterator[Chunk]:
    """Chunks of a delimited text file (RFC 4180 quoting); every cell is a string, verbatim.

    Raises
    ------
    DataError
        If the file is not UTF-8, has no header, lacks a column, or a record is malformed.
    """
    if len(delimiter) != 1:
        raise ValueError(f"delimiter must be one character, not {delimiter!r}")
    if decimal not in (".", ","):
        raise ValueError(f"decimal must be '.' or ',', not {decimal!r}")
    # The csv module refuses fields above 128 KiB by default; a text may be longer. Raising the
    # process-wide limit is harmless, and putting it back would race with other threads.
    csv.field_size_limit(max(csv.field_size_limit(), _FIELD_LIMIT))
    records = _csv_records(path, columns, delimiter)
    yield from _batched(records, columns.names(), chunk_rows, decimal)


def _csv_rows(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Line and cells of every record that is not blank, the header first."""
    with (
        reading(path),
        open_text(path) as raw,
        io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as stream,
    ):
        reader = csv.reader(stream, delimiter=delimiter, strict=True)
        line = 1
        begun = False
        try:
            for cells in reader:
                if cells and (begun or not _is_excels_mark(cells, delimiter, path)):
                    begun = True
                    yield line, cells
                line = reader.line_num + 1
        except csv.Error as error:
            raise DataError(
                f"{path}, record that begins on line {line}: malformed CSV ({error})"
            ) from error


def _is_excels_mark(cells: Sequence[str], delimiter: str, path: Path) -> bool:
    """Whether a first line is ``sep=;``, by which spreadsheets tell the delimiter.

    Raises
    ------
    DataError
        If it tells another one.
    """
    first = delimiter.join(cells)
    if len(first) != len("sep=;") or not first.lower().startswith("sep="):
        return False
    if first[-1] != delimiter:
        raise DataError(
            f"{path}: its first line tells the delimiter {first[-1]!r}: say so, "
            f"delimiter={first[-1]!r} (on the command line --delimiter)"
        )
    return True


def _csv_records(
    path: Path, columns: Columns, delimiter: str
) -> Iterator[tuple[int, tuple[str, ...]]]:
    rows = _csv_rows(path, delimiter)
    _, header = next(rows, (0, None))
    if header is None:
        raise DataError(f"{path}: has no header line")
    check_delimiter(header, columns.names(), delimiter, path)
    check_present(header, columns.wanted(), str(path))
    positions, width = [header.index(name) for name in columns.names()], len(header)
    for row, (line, cells) in enumerate(rows, start=1):
        if len(cells) != width:
            raise DataError(
                f"{path}, row {row} (line {line}): {len(cells)} fields where the header has "
                f"{width}; quote texts (and numbers with a decimal comma) that hold the delimiter"
            )
        yield line, tuple([cells[p] for p in positions])
    if header[-1] in columns.names() and ends_in_a_line(path):
        warnings.warn(
            f"{path}: its last line has no line end; if the file was cut off, its last cell "
            f"(column {header[-1]!r}) may be too, and rows may be missing",
            UserWarning,
            stacklevel=2,
        )


def check_delimiter(
    header: Sequence[str], wanted: Iterable[str], delimiter: str, path: Path
) -> None:
    """``DataError`` where the header is one column that another delimiter would cut."""
    if len(header) != 1 or set(wanted) <= set(header):
        return
    other = max((mark for mark in ",;\t|" if mark != delimiter), key=header[0].count)
    if other in header[0]:
        raise DataError(
            f"{path}: found 1 column, {shown(header[0])}, with {other!r} in it; if that is the "
            f"delimiter, say so: delimiter={other!r} (on the command line --delimiter)"
        )


def json_chunks(path: Path, columns: Columns, chunk_rows: int) -> Iterator[Chunk]:
    """Chunks of a file with one JSON object a line.

    Raises
    ------
    DataError
        If a line is not UTF-8, not a JSON object, or lacks a named key.
    """
    yield from _batched(_json_records(path, columns), columns.names(), chunk_rows)


def _json_objects(path: Path, names: Sequence[str]) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Line, place (for error messages) and object of every line that is not blank."""
    row = 0
    with reading(path), open_text(path) as stream:
        for line, raw in enumerate(stream, start=1):
            if line == 1:
                raw = raw.removeprefix(_BOM)
            if not raw.strip():
                continue
            row += 1
            where = f"{path}, row {row} (line {line})"
            yield line, where, _json_object(raw.decode(), where, names)


def _json_records(path: Path, columns: Columns) -> Iterator[tuple[int, tuple[Any, ...]]]:
    names = columns.names()
    for line, where, record in _json_objects(path, names):
        try:
            yield line, tuple([record[name] for name in names])
        except KeyError:
            check_present(list(record), columns.wanted(), where)


def _json_object(text: str, where: str, names: Sequence[str]) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            keys = [key for key, _ in pairs]
            for name in names:
                if keys.count(name) > 1:
                    raise DataError(f"{where}: column {name!r} occurs {keys.count(name)} times")
        return result

    try:
        record = json.loads(text, object_pairs_hook=unique)
    except DataError:
        raise
    except json.JSONDecodeError as error:
        hint = "; the file must hold one JSON object a line"
        raise DataError(
            f"{where}: malformed JSON at character {error.colno} ({error.msg}){hint}"
        ) from error
    except (ValueError, RecursionError) as error:  # an absurdly long number, absurd nesting
        raise DataError(f"{where}: malformed JSON ({error})") from error
    if not isinstance(record, dict):
        kind = "an array" if isinstance(record, list) else type(record).__name__
        raise DataError(f"{where}: holds {kind}; need one JSON object a line")
    return record


def _arrow_cells(column: Any) -> Cells:
    """An Arrow array as a float, integer or boolean array, or as a list (nulls are None)."""
    kind = column.type
    whole = pa.types.is_integer(kind) or pa.types.is_boolean(kind)
    # Integers with nulls would turn to floats and lose digits of long identifiers.
    if pa.types.is_floating(kind) or (whole and column.null_count == 0):
        return cast(Cells, column.to_numpy(zero_copy_only=False))
    return cast(Cells, column.to_pylist())


def _arrow_chunk(batch: Any, names: Sequence[str]) -> Chunk:
    return Chunk({name: _arrow_cells(batch.column(name)) for name in names})


def parquet_chunks(path: Path, columns: Columns, chunk_rows: int) -> Iterator[Chunk]:
    """Chunks of a Parquet file; other columns are not decoded.

    Raises
    ------
    DataError
        If the file is truncated or no Parquet, or lacks a column.
    """
    names = columns.names()
    checked = {"page_checksum_verification": True}  # where the writer stored checksums
    with reading(path, text=False), pq.ParquetFile(path, pre_buffer=False, **checked) as file:
        check_present(file.schema_arrow.names, columns.wanted(), str(path))
        for batch in file.iter_batches(batch_size=chunk_rows, columns=names):
            yield _arrow_chunk(batch, names)


def dataset_chunks(dataset: Any, columns: Columns, chunk_rows: int) -> Iterator[Chunk]:
    """Chunks of a ``datasets.Dataset`` or ``IterableDataset``, by its own interface.

    Raises
    ------
    TypeError
        If the object is no such data set (a ``DatasetDict`` holds several: choose one).
    DataError
        If it lacks a column.
    """
    if isinstance(dataset, Mapping):
        raise TypeError(f"dataset holds the splits {sorted(dataset)}: choose one, dataset[split]")
    for method in ("select_columns", "with_format", "iter"):
        if not hasattr(dataset, method):
            raise TypeError(f"dataset must be a datasets.Dataset, not {type(dataset).__name__}")
    known = dataset.column_names
    if known is not None:  # an IterableDataset may not know its columns
        check_present(known, columns.wanted(), type(dataset).__name__)
    names = columns.names()
    view = dataset.select_columns(names).with_format("arrow")
    for table in view.iter(batch_size=chunk_rows):
        for batch in table.combine_chunks().to_batches():
            yield _arrow_chunk(batch, names)


def pandas_chunks(frame: pd.DataFrame, columns: Columns) -> Iterator[Chunk]:
    """The named columns of a DataFrame as one chunk.

    Raises
    ------
    TypeError
        If ``frame`` is no pandas DataFrame.
    DataError
        If it lacks a column.
    """
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"frame must be a pandas DataFrame, not {type(frame).__name__}")
    check_present(list(frame.columns), columns.wanted(), "DataFrame")
    yield Chunk({name: series_cells(frame[name]) for name in columns.names()})


def column_names(path: Path, delimiter: str | None = None) -> list[str]:
    """Names of a file's columns, from its header, first record or schema.

    Raises
    ------
    DataError
        If the file's suffix is unknown or its beginning cannot be read.
    """
    kind = format_of(path)
    if kind == "parquet":
        with reading(path, text=False):
            return [str(name) for name in pq.read_schema(path).names]
    if kind == "jsonl":
        _, _, record = next(_json_objects(path, ()), (0, "", {}))
        return list(record)
    _, header = next(_csv_rows(path, delimiter or default_delimiter(path)), (0, []))
    return header


def repeated_rows(path: Path, kind: str, delimiter: str = ",") -> int:
    """Rows of a file that equal an earlier one in every column, whichever columns were asked for.

    ``kind`` is that of :func:`causal_lm_opt._files.format_of`; the file is read once more, 8 bytes
    a row held.
    """
    keys = np.fromiter((hash(row) for row in _whole_rows(path, kind, delimiter)), np.int64)
    return int(keys.size - np.unique(keys).size)


def loose_chunks(
    path: Path, kind: str, delimiter: str, names: Sequence[str], chunk_rows: int
) -> Iterator[dict[str, Cells]]:
    """Cells of columns that nobody has to have: a key that a JSON record lacks is ``None``.

    For a second look at a file that has been read, so that nothing is checked again.
    """
    if kind == "parquet":
        with reading(path, text=False), pq.ParquetFile(path, pre_buffer=False) as file:
            for batch in file.iter_batches(batch_size=chunk_rows, columns=list(names)):
                yield {name: _arrow_cells(batch.column(name)) for name in names}
        return
    records: Iterator[Sequence[Any]]
    if kind == "csv":
        rows = _csv_rows(path, delimiter)
        _, header = next(rows, (0, []))
        positions = [header.index(name) for name in names]
        records = ([cells[p] for p in positions] for _, cells in rows)
    else:
        objects = _json_objects(path, ())
        records = ([record.get(name) for name in names] for _, _, record in objects)
    while batch := list(islice(records, chunk_rows)):
        yield {name: [cells[j] for cells in batch] for j, name in enumerate(names)}


def _whole_rows(path: Path, kind: str, delimiter: str) -> Iterator[Any]:
    """Each row of a file with all its columns, hashable."""
    if kind == "csv":
        yield from (tuple(cells) for _, cells in islice(_csv_rows(path, delimiter), 1, None))
    elif kind == "jsonl":
        for _, _, record in _json_objects(path, ()):
            yield json.dumps(record, sort_keys=True)
    else:
        with reading(path, text=False), pq.ParquetFile(path, pre_buffer=False) as file:
            for batch in file.iter_batches(batch_size=CHUNK_ROWS):
                yield from map(repr, zip(*(column.to_pylist() for column in batch), strict=True))
