"""Writing a run's folder: whole or not at all."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from causal_lm_opt.exceptions import DataError

__all__ = [
    "OutputError",
    "check_output",
    "check_unchanged",
    "csv_text",
    "file_facts",
    "file_stamps",
    "json_text",
    "write_folder",
]

#: What a run writes; a folder that holds anything else is never replaced.
FILES = ("report.html", "report.md", "estimates.csv", "contrasts.csv", "diagnostics.json")
#: A spreadsheet takes a cell that begins so for a formula (full-width signs in some languages).
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


class OutputError(Exception):
    """The output folder exists, or cannot be written."""


def check_output(folder: str | Path, *, overwrite: bool) -> Path:
    """The resolved folder, if it may be written.

    Raises
    ------
    OutputError
        If it is not empty and ``overwrite`` is false, or holds files that no run wrote, or is no
        folder, or is the current one or above it.
    """
    try:
        target = Path(folder).expanduser().resolve()
        _check_target(target, folder, overwrite=overwrite)
    except (OSError, RuntimeError) as error:  # a circle of links, a name too long, no home
        reason = getattr(error, "strerror", None) or str(error)
        raise OutputError(f"{folder} cannot be written: {reason}") from error
    return target


def _check_target(target: Path, folder: str | Path, *, overwrite: bool) -> None:
    if target.exists() and not target.is_dir():
        raise OutputError(f"{folder} exists and is not a folder; give another --out")
    here = Path.cwd()
    if target == here or target in here.parents:
        raise OutputError(f"{folder} is the current folder or above it; name a folder of its own")
    held = sorted(os.listdir(target)) if target.is_dir() else []
    if held and not overwrite:
        raise OutputError(f"{folder} is not empty; give another --out, or --overwrite")
    strange = [name for name in held if name not in FILES]
    if strange:
        raise OutputError(
            f"{folder} holds {strange[0]!r}, which no run wrote, so --overwrite does not touch it; "
            "give another --out"
        )
    nearest = next(p for p in target.parents if p.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise OutputError(f"{folder} cannot be written: {nearest} is no folder one may write to")


def write_folder(folder: str | Path, files: Mapping[str, str], *, overwrite: bool) -> Path:
    """Write the files beside the folder, then rename; an old folder goes last.

    Parameters
    ----------
    folder : str or Path
        Made with its parents if missing.
    files : mapping name -> content
    overwrite : bool

    Returns
    -------
    Path
        The resolved folder.

    Raises
    ------
    OutputError
        As :func:`check_output`, or if the system refuses.
    """
    target = check_output(folder, overwrite=overwrite)
    new_parents = [p for p in target.parents if not p.exists()]
    staged = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    try:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            staged.mkdir()
            for name, content in files.items():
                (staged / name).write_bytes(content.encode("utf-8", "backslashreplace"))
            _put_in_place(staged, target)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise OutputError(f"{folder} cannot be written: {reason}") from error
    finally:
        # Also on Ctrl-C: nothing half-written stays behind.
        shutil.rmtree(staged, ignore_errors=True)
        if not target.exists():
            for parent in new_parents:
                with suppress(OSError):
                    parent.rmdir()
    return target


def _put_in_place(staged: Path, target: Path) -> None:
    """Rename ``staged`` to ``target``, keeping an old folder until the new one is there."""
    if not target.exists():
        os.rename(staged, target)
        return
    old = staged.with_suffix(".old")
    os.rename(target, old)
    try:
        os.rename(staged, target)
    except BaseException:
        os.rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def guarded(cell: str) -> str:
    """A text cell that a spreadsheet does not take for a formula.

    >>> guarded("=1+1"), guarded("plain")
    ("'=1+1", 'plain')
    """
    return "'" + cell if cell.startswith(FORMULA) else cell


def csv_text(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    r"""A CSV file; texts are guarded, ``None`` and NaN are empty cells.

    >>> csv_text(["policy", "value"], [["-x", -1.5], ["y", float("nan")]])
    "policy,value\n'-x,-1.5\ny,\n"
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_csv_cell(cell) for cell in row])
    return out.getvalue()


def _csv_cell(cell: Any) -> Any:
    if isinstance(cell, str):
        return guarded(cell)
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    return repr(cell) if isinstance(cell, float) else cell


def json_text(content: Any) -> str:
    r"""Strict JSON: numbers that are not finite become ``null``.

    >>> json_text({"a": float("inf"), "b": (1, 2.5)})
    '{\n  "a": null,\n  "b": [\n    1,\n    2.5\n  ]\n}\n'
    """
    return json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {str(key): _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    if content is None or isinstance(content, str | bool | int):
        return content
    number = float(content)  # NumPy scalars too; anything else is a mistake and raises
    return number if math.isfinite(number) else None


def file_stamps(inputs: Sequence[tuple[str, str | Path]]) -> dict[Path, tuple[int, ...] | None]:
    """Size and time of change of the input files (role, path); ``None`` for one not there."""
    return {Path(path): _stamp(Path(path)) for _, path in inputs}


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:  # what is wrong with it is for the reader to say
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def check_unchanged(stamps: Mapping[Path, tuple[int, ...] | None]) -> None:
    """``DataError`` if a file is no longer what it was, so that its hash is not of what was read.

    ``stamps`` come from :func:`file_stamps`.
    """
    for path, stamp in stamps.items():
        now = _stamp(path)
        if now is None or now != stamp:
            what = "disappeared" if now is None else "changed"
            raise DataError(f"{path}: {what} while it was being evaluated; run again")


def file_facts(path: str | Path, role: str) -> dict[str, Any]:
    """Role, path, size in bytes and SHA-256 (hex) of an input file."""
    digest, size = hashlib.sha256(), 0
    with Path(path).open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
            size += len(block)
    return {"role": role, "path": str(path), "bytes": size, "sha256": digest.hexdigest()}
