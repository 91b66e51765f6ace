"""Whose a study's folder is: another study's is refused, a new one is marked before any work."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from causal_lm_opt.exceptions import EstimationWarning
from causal_lm_opt.simulation._blocks import BLOCK, Cell, block_files, write_atomically
from causal_lm_opt.simulation._facts import other_than

__all__ = ["OtherStudyError", "claim", "read_facts", "refuse_other"]

FACTS = "study.json"
NAMELESS = "blocks without study.json, none of which is of this study and version"


OTHER_CODE = (
    "out={!r} holds this study as other code computed it (of a design or estimator, of this "
    "package, or another version of a library): {} of it is computed anew, and its tables are "
    "replaced."
)


class OtherStudyError(ValueError):
    """The folder holds another study.

    Attributes
    ----------
    held : str
        What it holds, to follow its name.
    """

    def __init__(self, folder: Path, held: str) -> None:
        super().__init__(f"out={str(folder)!r} holds {held}; give another out.")
        self.held = held


def claim(
    folder: Path, facts: Mapping[str, Any], cells: Iterable[Cell], block: int = BLOCK
) -> None:
    """Make the folder this study's: new, empty, or with blocks of an earlier run of it.

    The facts are written at once, so that the blocks of a run that is killed say whose they are.
    A folder of an earlier version may hold blocks alone: it is this study's if one of them is.

    Parameters
    ----------
    folder : Path
        Made if missing.
    facts : mapping
        What ``study.json`` is to say: see :mod:`causal_lm_opt.simulation._facts`.
    cells, block
        As given to ``run_cells``, with ``folder / "blocks"``.

    Raises
    ------
    OtherStudyError
        A ``ValueError``.
    """
    refuse_other(folder, facts)
    blocks = folder / "blocks"
    kept = {file.name for file in blocks.glob("*.json.gz")}
    own = {file.name for file in block_files(cells, blocks, block)}
    if (folder / FACTS).is_file():
        stale = {*map(_place, kept)} & {*map(_place, own - kept)}
        if stale:
            part = "all" if kept.isdisjoint(own) else "a part"
            warnings.warn(OTHER_CODE.format(str(folder), part), EstimationWarning, stacklevel=3)
        return
    if kept and kept.isdisjoint(own):
        raise OtherStudyError(folder, NAMELESS)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / FACTS, (json.dumps(facts, indent=1) + "\n").encode())


def _place(block: str) -> str:
    """A block's file name without the digest of what computed it."""
    return block.rpartition("-")[0]


def refuse_other(folder: Path, facts: Mapping[str, Any]) -> None:
    """Refuse a folder whose ``study.json`` tells of another study.

    Raises
    ------
    OtherStudyError
    """
    if not (folder / FACTS).is_file():
        return
    other = other_than(json.loads(json.dumps(facts)), read_facts(folder))
    if other is not None:
        done = "a finished" if (folder / "summary.csv").exists() else "an unfinished"
        raise OtherStudyError(folder, f"{done} study of {other}")


def read_facts(folder: Path) -> dict[str, Any] | None:
    """What the folder says of the study it holds; ``None`` where that is nothing, or no facts."""
    try:
        held = json.loads((folder / FACTS).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return held if isinstance(held, dict) else None
