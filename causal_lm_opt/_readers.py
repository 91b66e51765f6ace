"""Files and tables cut into chunks of rows, only the named columns kept.

Each function yields :class:`causal_lm_opt._columns.Chunk` objects and knows nothing of what the
columns mean; a source that cannot be read is a ``DataError`` that names the file and the line.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, cast

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from causal_lm_opt._cells import Cells
from causal_lm_opt._columns import Chunk, Columns, check_present
from causal_lm_opt._parts import series_cells
from causal_lm_opt.exceptions import DataError

FilePath = str | PathLike[str]

CHUNK_ROWS = 16_384
"""Rows parsed at a time unless the caller says otherwise."""

_BOM = b"\xef\xbb\xbf"
_GZIP_MAGIC = b"\x1f\x8b"
_FIELD_LIMIT = 2**31 - 1


def check_chunk_rows(chunk_rows: int) -> int:
    """``chunk_rows`` itself, or an error unless it is an integer >= 1."""
    if isinstance(chunk_rows, bool) or not isinstance(chunk_rows, int):
        raise TypeError(f"chunk_rows must be an integer, not {chunk_rows!r}")
    if chunk_rows < 1:
        raise ValueError(f"chunk_rows must be at least 1, not {chunk_rows}")
    return chunk_rows


def check_file(path: FilePath) -> Path:
    """The path of an existing, non-empty file, else ``DataError``."""
    file = Path(path)
    if not file.exists():
        raise DataError(f"{file}: no such file")
    if not file.is_file():
        raise DataError(f"{file}: is not a file")
    if file.stat().st_size == 0:
        raise DataError(f"{file}: is empty")
    return file


def _open(path: Path) -> BinaryIO:
    """The file's bytes, gunzipped where it begins with gzip's magic number."""
    with path.open("rb") as stream:
        packed = stream.read(2) == _GZIP_MAGIC
    return cast(BinaryIO, gzip.open(path, "rb") if packed else path.open("rb"))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what a broken file raises into a ``DataError`` that names it."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise _undecodable(path) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: the gzip stream is truncated or damaged ({error})") from error
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: cannot be read ({reason})") from error


def _undecodable(path: Path) -> DataError:
    """The error for a file that is not UTF-8; a second pass finds the line."""
    with _open(path) as stream:
        for line, raw in enumerate(stream, start=1):
            try:
                raw.decode()
            except UnicodeDecodeError as error:
                return DataError(
                    f"{path}, line {line}: byte 0x{raw[error.start]:02x} at position "
                    f"{error.start + 1} is not UTF-8; save the file as UTF-8"
                )
    return DataError(f"{path}: is not UTF-8; save the file as UTF-8")


def _batched(
    records: Iterator[tuple[int, tuple[Any, ...]]], names: Sequence[str], chunk_rows: int
) -> Iterator[Chunk]:
    while batch := list(islice(records, chunk_rows)):
        cells = zip(*(values for _, values in batch), strict=True)
        yield Chunk(
            {name: list(values) for name, values in zip(names, cells, strict=True)},
            [line for line, _ in batch],
        )


def csv_chunks(path: Path, columns: Columns, chunk_rows: int, delimiter: str) -> Iterator[Chunk]:
    """Chunks of a delimited text file (RFC 4180 quoting); every cell is a string, verbatim.

    Raises
    ------
    DataError
        If the file is not UTF-8, has no header, lacks a column, or a record is malformed.
    """
    if len(delimiter) != 1:
        raise ValueError(f"delimiter must be one character, not {delimiter!r}")
    # The csv module refuses fields above 128 KiB by default; a text may be longer. Raising the
    # process-wide limit is harmless, and putting it back would race with other threads.
    csv.field_size_limit(max(csv.field_size_limit(), _FIELD_LIMIT))
    yield from _batched(_csv_records(path, columns, delimiter), columns.names(), chunk_rows)


def _csv_records(
    path: Path, columns: Columns, delimiter: str
) -> Iterator[tuple[int, tuple[str, ...]]]:
    with _reading(path), io.TextIOWrapper(_open(path), encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, delimiter=delimiter, strict=True)
        line = 1
        try:
            header = next((row for row in reader if row), None)
            if header is None:
                raise DataError(f"{path}: has no header line")
            check_present(header, columns.wanted(), str(path))
            positions = [header.index(name) for name in columns.names()]
            row, width, line = 0, len(header), reader.line_num + 1
            for cells in reader:
                if cells:  # a blank line is no record
                    row += 1
                    if len(cells) != width:
                        raise DataError(
                            f"{path}, row {row} (line {line}): {len(cells)} fields where the "
                            f"header has {width}; quote texts that hold the delimiter"
                        )
                    yield line, tuple([cells[p] for p in positions])
                line = reader.line_num + 1
        except csv.Error as error:
            raise DataError(
                f"{path}, record that begins on line {line}: malformed CSV ({error})"
            ) from error


def json_chunks(path: Path, columns: Columns, chunk_rows: int) -> Iterator[Chunk]:
    """Chunks of a file with one JSON object a line.

    Raises
    ------
    DataError
        If a line is not UTF-8, not a JSON object, or lacks a named key.
    """
    yield from _batched(_json_records(path, columns), columns.names(), chunk_rows)


def _json_records(path: Path, columns: Columns) -> Iterator[tuple[int, tuple[Any, ...]]]:
    names, row = columns.names(), 0
    with _reading(path), _open(path) as stream:
        for line, raw in enumerate(stream, start=1):
            if line == 1:
                raw = raw.removeprefix(_BOM)
            if not raw.strip():
                continue
            row += 1
            where = f"{path}, row {row} (line {line})"
            record = _json_object(raw.decode(), where, names)
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
    with _reading(path), pq.ParquetFile(path, pre_buffer=False) as file:
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


def format_of(path: FilePath) -> str:
    """``"csv"``, ``"jsonl"`` or ``"parquet"`` by the file's suffix, ``.gz`` set aside."""
    suffixes = {".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
    suffixes |= {".jsonl": "jsonl", ".json": "jsonl", ".ndjson": "jsonl"}
    name = Path(path).name.lower().removesuffix(".gz")
    kind = suffixes.get(Path(name).suffix)
    if kind is None:
        known = ", ".join(suffixes)
        raise DataError(
            f"{path}: unknown file type {Path(name).suffix!r}; known: {known} "
            "(all but .parquet also with .gz), or call from_csv, from_jsonl or from_parquet"
        )
    return kind


def default_delimiter(path: FilePath) -> str:
    """A tab for ``.tsv`` and ``.tsv.gz``, else a comma."""
    return "\t" if Path(path).name.lower().removesuffix(".gz").endswith(".tsv") else ","
