"""The folder of a training run or a comparison: what may be in it, and how it is written."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

from causal_lm_opt._run.output import OutputError
from causal_lm_opt.simulation._blocks import clear_unfinished, unfinished_of, write_atomically

__all__ = ["RUN", "clear_folder", "own_folder", "returned_model", "write_files"]

RUN = "run"  # of the optimiser's own files
TRAINED, START = "trained", "start"  # models in it


def own_folder(out: str | Path, names: Collection[str]) -> Path:
    """The resolved folder, if it is new, empty, or holds nothing but ``names``.

    Parameters
    ----------
    names : collection of str
        What such a folder may hold.

    Raises
    ------
    OutputError
        If it holds something else, is no folder, or cannot be written.
    """
    folder = Path(out).expanduser().resolve()
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{out} exists and is not a folder; give another --out")
    here = Path.cwd()
    if folder == here or folder in here.parents:
        raise OutputError(f"{out} is the current folder or above it; name a folder of its own")
    held = os.listdir(folder) if folder.is_dir() else []
    strange = sorted(name for name in held if (unfinished_of(name) or name) not in names)
    if strange:
        raise OutputError(
            f"{out} holds {strange[0]!r}, which no such run wrote; give another --out"
        )
    nearest = next(p for p in (folder, *folder.parents) if p.exists())
    if not os.access(nearest, os.W_OK):
        raise OutputError(f"{out} cannot be written: {nearest} is no folder one may write to")
    return folder


def returned_model(folder: str | Path) -> Path | None:
    """The model that a finished run of ``optimize`` returns; None where the folder holds none.

    The trained one where that was accepted, else the start.
    """
    run = Path(folder).expanduser() / RUN
    try:
        record = json.loads((run / "optimizer.json").read_text(encoding="utf-8"))
        accepted = record["result"]["accepted"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return run / (TRAINED if accepted else START)


def clear_folder(folder: Path) -> None:
    """Empty a folder that `own_folder` let pass; its ``run`` folder must be an optimiser's.

    Raises
    ------
    OutputError
    """
    held = os.listdir(folder) if folder.is_dir() else []
    run = folder / RUN
    if run.is_dir() and any(run.iterdir()) and not (run / "run.json").is_file():
        raise OutputError(
            f"{folder} holds a folder {RUN!r} that no run wrote, so --overwrite does not touch it; "
            "give another --out"
        )
    try:
        for name in held:
            path = folder / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}") from error


def write_files(folder: Path, files: Mapping[str, str]) -> None:
    """Write each file whole or not at all.

    Raises
    ------
    OutputError
        If the system refuses.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        clear_unfinished(folder)
        for name, content in files.items():
            write_atomically(folder / name, content.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}") from error
