"""Rows of a log that trained a model, or chose it: no value of that model may come from them.

A run of ``optimize`` keeps a key of each text it was given and the part that row was in. A log is
taken for that run's if it begins with the same texts in the same order, if most of the texts that
it has once are texts that the run had once (some rows of the run's log, in any order), or if it has
most of the texts that the run had once (the run's log among others, or several times).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from causal_lm_opt._run.optimize_files import START, TRAINED
from causal_lm_opt._validation import content_keys
from causal_lm_opt.exceptions import DataError
from causal_lm_opt.logged import LoggedData

__all__ = ["seen_rows", "without_seen_rows"]

Mask = NDArray[np.bool_]
Keys = NDArray[np.uint64]
#: What each model of a run has read; the start only where it was fine-tuned.
READ = {TRAINED: ("train", "select"), START: ("train",)}
SAME_ORDER, SAME_TEXTS, FEW = 0.9, 0.5, 20


def seen_rows(folder: str, texts: Sequence[str]) -> Mask | None:
    """Which of n texts trained or chose the model in a folder, shape (n,).

    Returns None where the folder is no run's, or the texts are not that run's.
    """
    model = Path(folder).expanduser().resolve()
    parts = READ.get(model.name)
    kept = _kept(model.parent) if parts else None
    if parts is None or kept is None or (model.name == START and not kept.tuned):
        return None
    keys = content_keys(np.array(texts, dtype=object))
    return _matched(keys, kept.keys, np.isin(kept.parts, parts))


def without_seen_rows(log: LoggedData, models: Mapping[str, str]) -> tuple[LoggedData, list[str]]:
    """The log without rows that trained or chose one of the models, and a sentence for each.

    Parameters
    ----------
    models : mapping policy -> folder

    Raises
    ------
    DataError
        If fewer than 20 rows are left.
    """
    n, told = len(log), []
    left_out = np.zeros(n, dtype=bool)
    for name, folder in models.items():
        seen = seen_rows(folder, log.text)
        if seen is not None and seen.any():
            left_out |= seen
            told.append(f"{int(seen.sum()):,} of the {n:,} rows trained or chose {name!r}")
    if not told:
        return log, []
    rest = int(n - left_out.sum())
    where = "parts.csv of its run says which part a row was in"
    if rest < FEW:
        raise DataError(
            f"{log.source}: {'; '.join(told)}, so that {rest:,} are left to value it by, where "
            f"{FEW} are the least: give rows that had no part in training ({where})"
        )
    said = f"{'; '.join(told)}: they are left out, and every policy is valued on the other {rest:,}"
    return log[~left_out], [f"{said} ({where})."]


class _Kept(NamedTuple):
    """Key and part of each row that a run was given, (m,), and whether its start was tuned."""

    keys: Keys
    parts: NDArray[np.str_]
    tuned: bool


def _kept(run: Path) -> _Kept | None:
    """What a run keeps of its rows; None where the folder holds no such run."""
    try:
        keys = np.frombuffer((run / "rows.keys").read_bytes(), dtype="<u8")
        record = json.loads((run / "optimizer.json").read_text(encoding="utf-8"))
        runs, tuned = record["parts"], bool(record["start_epochs"])
        parts = np.repeat([str(part) for part, _ in runs], [int(many) for _, many in runs])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return _Kept(keys.astype(np.uint64), parts, tuned) if keys.shape == parts.shape else None


def _matched(keys: Keys, kept: Keys, read: Mask) -> Mask | None:
    """Which of the rows with ``keys`` (n,) are rows of ``kept`` (m,) that were ``read`` (m,)."""
    both = min(keys.size, kept.size)
    if both and np.mean(keys[:both] == kept[:both]) > SAME_ORDER:
        seen = np.zeros(keys.size, dtype=bool)
        seen[:both] = read[:both]
        return seen
    single, theirs = _once(keys), _once(kept)
    some = single.size >= FEW and np.isin(single, theirs).mean() > SAME_TEXTS
    among = theirs.size >= FEW and np.isin(theirs, keys).mean() > SAME_TEXTS
    return np.isin(keys, kept[read]) if some or among else None


def _once(keys: Keys) -> Keys:
    """Keys that occur once."""
    distinct, count = np.unique(keys, return_counts=True)
    return np.asarray(distinct[count == 1])
