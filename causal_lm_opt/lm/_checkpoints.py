"""Checkpoints that are whole or not there: sealed with a list of files, renamed into place.

A run may be killed, or the disk be full, at any moment: what is being written lies in a folder of
another name until it is complete, and on resuming a folder whose files are not all there in full
length is passed over.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

__all__ = [
    "SEAL",
    "is_write_error",
    "newest_complete",
    "place",
    "problem",
    "remove_partial",
    "rotate",
    "seal",
]

SEAL = "complete.json"
_NAME = re.compile(r"checkpoint-(\d+)")
PARTIAL = ".partial-"
#: How libraries that write by themselves word a failed write.
_WORDS = (
    "no space", "file too large", "disk quota", "write failed", "iostream", "pytorchstreamwriter",
    "unexpected pos", "i/o error", "io error", "enforce fail",
)  # fmt: skip


def is_write_error(error: BaseException) -> bool:
    """Whether an exception says that a file could not be written."""
    if isinstance(error, OSError):
        return True
    named = isinstance(error, RuntimeError) or type(error).__name__ == "SafetensorError"
    return named and any(word in str(error).lower() for word in _WORDS)


def seal(folder: Path) -> None:
    """Flush every file to disk and write the list of them with their sizes."""
    sizes = {}
    for file in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != SEAL):
        with open(file, "rb+") as handle:
            os.fsync(handle.fileno())
        sizes[file.relative_to(folder).as_posix()] = file.stat().st_size
    with open(folder / SEAL, "w", encoding="utf-8") as handle:
        json.dump({"files": sizes}, handle, indent=1)
        handle.flush()
        os.fsync(handle.fileno())


def place(staged: Path, target: Path) -> None:
    """Rename a sealed folder to its name; one that is there already goes."""
    if target.exists():
        os.replace(target, staged.parent / "replaced")
    os.replace(staged, target)
    shutil.rmtree(staged.parent, ignore_errors=True)


def problem(folder: Path) -> str | None:
    """What is wrong with a checkpoint, or None."""
    try:
        files = json.loads((folder / SEAL).read_text(encoding="utf-8"))["files"]
    except FileNotFoundError:
        return f"it has no {SEAL}, so it was not written to the end"
    except (OSError, ValueError, KeyError, TypeError):
        return f"its {SEAL} cannot be read"
    for name, size in files.items():
        file = folder / name
        found = file.stat().st_size if file.is_file() else None
        if found != size:
            return f"{name} has {found if found is not None else 'no'} of {size} bytes"
    return None


def _numbered(output: Path) -> list[tuple[int, Path]]:
    """Checkpoints by step, newest first."""
    if not output.is_dir():
        return []
    found = [(m, p) for p in output.iterdir() if p.is_dir() and (m := _NAME.fullmatch(p.name))]
    return sorted(((int(m[1]), p) for m, p in found), reverse=True)


def newest_complete(output: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint that is whole, and why newer ones were passed over."""
    skipped: list[str] = []
    for _, folder in _numbered(output):
        wrong = problem(folder)
        if wrong is None:
            return folder, skipped
        skipped.append(f"{folder.name} is passed over: {wrong}")
    return None, skipped


def remove_partial(output: Path) -> None:
    """Clear away what a killed run left half written."""
    if output.is_dir():
        for folder in output.glob(f"{PARTIAL}*"):
            shutil.rmtree(folder, ignore_errors=True)


def rotate(output: Path, limit: int | None, best: str | None) -> None:
    """Delete the oldest checkpoints beyond ``limit``; never the newest or the best."""
    if not limit or limit < 1:
        return
    for i, (_, folder) in enumerate(_numbered(output)):
        protected = i == 0 or (best is not None and folder.name == Path(best).name)
        if i >= limit and not protected:
            shutil.rmtree(folder, ignore_errors=True)
