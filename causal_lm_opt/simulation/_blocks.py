"""Replications in blocks: computed anywhere in any order, kept on disk, the same every time.

A cell is one setting of a study, a block a fixed range of its replications. Blocks do not depend on
the number of workers, each runs on one BLAS thread, and a finished one is a file that carries the
digest of its rows, so that a killed run goes on where it stopped and a damaged file is made again.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from joblib.parallel import get_active_backend
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from tqdm import tqdm

__all__ = [
    "BLOCK",
    "Cell",
    "Replicate",
    "block_files",
    "clear_unfinished",
    "repeat",
    "run_cells",
    "unfinished_of",
    "write_atomically",
]

Row = Mapping[str, Any]
Replicate = Callable[[int], Iterable[Row]]
Columns = dict[str, list[Any]]
BLOCK = 100
FORMAT = 1


@dataclass(frozen=True)
class Cell:
    """Replications ``one(0), ..., one(replications - 1)`` of one setting.

    Parameters
    ----------
    name : str
        Readable, unique in its study; part of the file names.
    one : callable, replication number -> rows
        Each row maps column names to numbers, texts or ``None``. It must pickle, and depend on the
        replication number alone.
    replications : int
    identity : str
        Everything that decides the numbers (settings, seed, version): kept blocks of another
        identity are not used.
    """

    name: str
    one: Replicate
    replications: int
    identity: str = ""

    def file(self, folder: Path, block: range) -> Path:
        """Where a finished block is kept."""
        words = f"{FORMAT}|{self.name}|{self.identity}|{block.start}|{block.stop}"
        digest = hashlib.sha256(words.encode()).hexdigest()[:12]
        readable = re.sub(r"[^A-Za-z0-9.]+", "_", self.name).strip("_.")[:80]
        return folder / f"{readable}-{block.start}-{block.stop}-{digest}.json.gz"


def run_cells(
    cells: Sequence[Cell],
    *,
    out: Path | None = None,
    jobs: int | None = 1,
    block: int = BLOCK,
    progress: bool = True,
) -> list[pd.DataFrame]:
    """All replications of all cells, one frame per cell, rows in the order of replications.

    Parameters
    ----------
    cells : sequence of Cell
    out : Path, optional
        Folder in which finished blocks are kept and looked for; made if missing.
    jobs : int or None
        Worker processes; ``None`` leaves it to :func:`joblib.parallel_config` (also for the
        back end, so that a Dask or Ray cluster can do the work).
    block : int
        Replications per block.
    progress : bool
        Show a progress bar on stderr.

    Raises
    ------
    ValueError
        Names that occur twice, or no replications.
    """
    if len({c.name for c in cells}) < len(cells):
        raise ValueError(f"Cells share a name: {sorted(c.name for c in cells)}.")
    if block < 1:
        raise ValueError(f"block must be at least 1 replication, got {block!r}.")
    tasks = [(i, b) for i, cell in enumerate(cells) for b in _blocks(cell, block)]
    found: dict[tuple[int, int], Columns] = {}
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        clear_unfinished(out)
        for i, b in tasks:
            kept = _read(cells[i].file(out, b))
            if kept is not None:
                found[i, b.start] = kept
    missing = [(i, b) for i, b in tasks if (i, b.start) not in found]
    bar = tqdm(total=len(tasks), initial=len(found), unit="block", disable=not progress)
    with bar:
        for i, start, columns in _computed(cells, missing, out, jobs):
            found[i, start] = columns
            bar.update()
    return [
        _frame([found[i, b.start] for b in _blocks(cell, block)]) for i, cell in enumerate(cells)
    ]


def block_files(cells: Iterable[Cell], folder: Path, block: int = BLOCK) -> Iterator[Path]:
    """Where the finished blocks of some cells are kept."""
    for cell in cells:
        for b in _blocks(cell, block):
            yield cell.file(folder, b)


def repeat(one: Replicate, replications: int, jobs: int | None = 1) -> pd.DataFrame:
    """Rows of ``one(0), ..., one(replications - 1)``, over ``jobs`` processes; nothing is kept.

    Examples
    --------
    >>> repeat(lambda r: [{"square": r * r}], 4)["square"].tolist()
    [0, 1, 4, 9]
    """
    (frame,) = run_cells([Cell("cell", one, replications)], jobs=jobs, progress=False)
    return frame


def _blocks(cell: Cell, size: int) -> Iterator[range]:
    if cell.replications < 1:
        raise ValueError(f"{cell.name}: replications must be at least 1, got {cell.replications}.")
    for start in range(0, cell.replications, size):
        yield range(start, min(start + size, cell.replications))


def _computed(
    cells: Sequence[Cell], tasks: Sequence[tuple[int, range]], out: Path | None, jobs: int | None
) -> Iterator[tuple[int, int, Columns]]:
    """Blocks as they finish, in any order."""
    backend, _ = get_active_backend()
    streams = getattr(backend, "supports_return_generator", False)
    parallel = Parallel(n_jobs=jobs, return_as="generator_unordered" if streams else "list")
    yield from parallel(
        delayed(_run)(i, cells[i], b, None if out is None else cells[i].file(out, b))
        for i, b in tasks
    )


def _run(position: int, cell: Cell, block: range, file: Path | None) -> tuple[int, int, Columns]:
    """One block, on one BLAS thread; kept as soon as it is whole."""
    rows: list[Row] = []
    with threadpool_limits(1):
        for replication in block:
            try:
                rows += cell.one(replication)
            except Exception as error:
                error.add_note(f"in replication {replication} of cell {cell.name!r}")
                raise
    columns = _columns(rows)
    if file is not None:
        _write(file, columns)
    return position, block.start, columns


# ------------------------------------------------------------------------------ rows
def _columns(rows: Sequence[Row]) -> Columns:
    """Rows as plain columns; what a row lacks is ``None``."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {str(name): [_plain(row.get(name)) for row in rows] for name in names}


def _plain(value: Any) -> Any:
    """A number, text or ``None`` as JSON returns it."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"A row holds {value!r}; use numbers, texts or None.")


def _frame(blocks: Sequence[Columns]) -> pd.DataFrame:
    """One frame from the blocks of a cell."""
    names = dict.fromkeys(name for block in blocks for name in block)
    sizes = [len(next(iter(block.values()), [])) for block in blocks]
    return pd.DataFrame(
        {
            name: [
                value
                for block, size in zip(blocks, sizes, strict=True)
                for value in block.get(name, [None] * size)
            ]
            for name in names
        }
    )


# ------------------------------------------------------------------------------ files
def _digest(columns: Columns) -> str:
    return hashlib.sha256(json.dumps(columns).encode()).hexdigest()


def _write(file: Path, columns: Columns) -> None:
    content = json.dumps({"sha256": _digest(columns), "columns": columns}).encode()
    write_atomically(file, gzip.compress(content, compresslevel=6, mtime=0))


def _read(file: Path) -> Columns | None:
    """The columns of a kept block; ``None`` where it is missing or damaged (it is made again)."""
    try:
        content = json.loads(gzip.decompress(file.read_bytes()))
        columns: Columns = content["columns"]
        return columns if content["sha256"] == _digest(columns) else None
    except FileNotFoundError:
        return None
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError):
        return None


def write_atomically(file: Path, content: bytes) -> None:
    """Write a file whole or not at all, whoever else writes it at the same time."""
    unfinished = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)


UNFINISHED = re.compile(r"\.(?P<name>.+)\.(?P<pid>[0-9]+)\.tmp")


def unfinished_of(name: str) -> str | None:
    """The file that a killed :func:`write_atomically` was about to write, ``None`` for others.

    >>> unfinished_of(".summary.csv.123.tmp"), unfinished_of("summary.csv")
    ('summary.csv', None)
    """
    found = UNFINISHED.fullmatch(name)
    return None if found is None else found["name"]


def clear_unfinished(folder: Path) -> None:
    """Remove what killed runs left of files they were writing, unless their process still runs."""
    for name in os.listdir(folder):
        found = UNFINISHED.fullmatch(name)
        if found is not None and not _runs(int(found["pid"])):
            (folder / name).unlink(missing_ok=True)


def _runs(pid: int) -> bool:
    """Whether another process of this number runs (on Windows, where asking ends it: perhaps)."""
    if os.name == "nt":
        return True
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
