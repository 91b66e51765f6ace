"""Files as bytes: whether they are there, gunzipped, and what is wrong with those that are no text.

Every failure is a ``DataError`` that names the file and, where there is one, the line.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from causal_lm_opt.exceptions import DataError

__all__ = [
    "FilePath",
    "check_file",
    "default_delimiter",
    "ends_in_a_line",
    "format_of",
    "open_bytes",
    "open_text",
    "reading",
]

FilePath = str | PathLike[str]

_GZIP = b"\x1f\x8b"
#: How files begin that are no text, and what to do about each.
_MAGIC = {
    _GZIP: "was gzipped twice; unpack it once",
    b"PK\x03\x04": "is a zip archive or an Excel workbook; unpack it, or save it as CSV UTF-8",
    b"\xd0\xcf\x11\xe0": "is an Excel workbook; save the sheet as CSV UTF-8",
    b"PAR1": "is a Parquet file; give it the suffix .parquet",
    b"BZh9": "is compressed with bzip2; unpack it, or use gzip",
    b"\xfd7zXZ": "is compressed with xz; unpack it, or use gzip",
    b"\x28\xb5\x2f\xfd": "is compressed with zstd; unpack it, or use gzip",
    b"SQLite format 3": "is an SQLite database; export the table as CSV",
    b"%PDF-": "is a PDF; save the table as CSV",
}


def check_file(path: FilePath) -> Path:
    """The path of an existing, non-empty file, else ``DataError``."""
    file = Path(path)
    try:
        if not file.exists():
            raise DataError(f"{file}: no such file")
        if not file.is_file():
            raise DataError(f"{file}: is not a file")
        if file.stat().st_size == 0:
            raise DataError(f"{file}: is empty")
    except OSError as error:  # a name too long, a folder one may not enter, a circle of links
        raise DataError(f"{file}: cannot be read ({_reason(error)})") from error
    return file


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


def open_bytes(path: Path) -> BinaryIO:
    """The file's bytes, gunzipped where it begins with gzip's magic number."""
    with path.open("rb") as stream:
        packed = stream.read(2) == _GZIP
    return cast(BinaryIO, gzip.open(path, "rb") if packed else path.open("rb"))


@contextmanager
def open_text(path: Path) -> Iterator[BinaryIO]:
    """As :func:`open_bytes`, for a file that ought to be text.

    Raises
    ------
    DataError
        If the first bytes say that it is something else, or UTF-16.
    """
    with open_bytes(path) as stream:
        # Both buffered files and gzip files can be peeked into; BinaryIO does not say so.
        head: bytes = stream.peek(16)[:16]  # type: ignore[attr-defined]
        for magic, what in _MAGIC.items():
            if head.startswith(magic):
                raise DataError(f"{path}: {what}")
        if _is_utf16(head):
            raise DataError(
                f"{path}: is UTF-16, not UTF-8; save the file as UTF-8 (Excel: 'CSV UTF-8')"
            )
        yield stream


def ends_in_a_line(path: Path) -> bool:
    """Whether plain text ends neither with a line end nor with a closing quote.

    Never for a gzipped file, whose own end is checked as it is unpacked.
    """
    with reading(path), path.open("rb") as stream:
        if stream.read(2) == _GZIP:
            return False
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) not in b'\r\n"'


def _is_utf16(head: bytes) -> bool:
    """Whether text begins with a UTF-16 mark, or each of its first letters comes with a NUL."""
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return True
    return len(head) >= 4 and (head[0] == head[2] == 0 or head[1] == head[3] == 0)


@contextmanager
def reading(path: Path, *, text: bool = True) -> Iterator[None]:
    """Turn what a broken file raises into a ``DataError`` that names it.

    ``text`` is false for a format that is no text, in which no line can be named.
    """
    try:
        yield
    except DataError:
        raise
    except UnicodeDecodeError as error:
        if text:
            raise _undecodable(path) from error
        raise DataError(f"{path}: holds text that is not UTF-8; write it anew") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: the gzip stream is truncated or damaged ({error})") from error
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    """One short line of what the system or a library said."""
    said = (error.strerror if isinstance(error, OSError) else None) or str(error)
    lines = said.splitlines()
    return lines[0][:200] if lines else type(error).__name__


def _undecodable(path: Path) -> DataError:
    """The error for a file that is not UTF-8; a second pass finds the line."""
    others = False
    # A damaged gzip stream may end this pass early: the file is no UTF-8 all the same.
    with suppress(OSError, EOFError, zlib.error), open_bytes(path) as stream:
        for line, raw in enumerate(stream, start=1):
            try:
                raw.decode()
            except UnicodeDecodeError as error:
                mixed = "; lines before it are, so the file mixes encodings" if others else ""
                return DataError(
                    f"{path}, line {line}: byte 0x{raw[error.start]:02x} at position "
                    f"{error.start + 1} is not UTF-8{mixed}; save the file as UTF-8 "
                    "(Excel: 'CSV UTF-8')"
                )
            others = others or not raw.isascii()
    return DataError(f"{path}: is not UTF-8; save the file as UTF-8 (Excel: 'CSV UTF-8')")
