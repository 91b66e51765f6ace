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
from pathlib import Path
from typing import Any

__all__ = [
    "OutputError",
    "check_output",
    "csv_text",
    "file_facts",
    "json_text",
    "write_folder",
]

#: What a run writes; a folder that holds anything else is never replaced.
FILES = ("report.html", "report.md", "estimates.csv", "contrasts.csv", "diagnostics.json")
#: A spreadsheet takes a cell that begins so for a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


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
    target = Path(folder).expanduser().resolve()
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
    return target


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


def file_facts(path: str | Path, role: str) -> dict[str, Any]:
    """Role, path, size in bytes and SHA-256 (hex) of an input file."""
    digest, size = hashlib.sha256(), 0
    with Path(path).open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
            size += len(block)
    return {"role": role, "path": str(path), "bytes": size, "sha256": digest.hexdigest()}
