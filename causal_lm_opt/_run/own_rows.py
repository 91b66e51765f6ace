"""Rows of a log that trained one of an evaluation's models are left out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from causal_lm_opt._training_rows import (
    FEW,
    FILE,
    MOST,
    lost_training_rows,
    needs_prompts,
    read_training_rows,
)
from causal_lm_opt.exceptions import DataError
from causal_lm_opt.logged import LoggedData

__all__ = ["lost_rows", "models_of_prompts", "seen_rows", "unsure_rows", "without_seen_rows"]


def seen_rows(
    folder: str, texts: Sequence[str], prompts: Sequence[str] | None = None
) -> NDArray[np.bool_]:
    """Which of n rows trained or chose the model in a folder, or hold such a text, shape (n,).

    Raises
    ------
    DataError
        If what the folder says of that is damaged.
    """
    seen = np.zeros(len(texts), dtype=bool)
    for training in read_training_rows(Path(folder).expanduser()):
        seen |= training.among(texts, prompts)
    return seen


def lost_rows(models: Mapping[str, str]) -> dict[str, str]:
    """The policies whose folder lacks the list of rows that trained them, with a reason each."""
    return {
        name: (
            f"Rows of a log trained this model, and {FILE}, which tells them, is not in its "
            "folder: if they are among these rows, this value flatters. Copy the file from where "
            "the model was trained."
        )
        for name, folder in models.items()
        if lost_training_rows(Path(folder).expanduser())
    }


def models_of_prompts(log: LoggedData, models: Mapping[str, str]) -> dict[str, str]:
    """The policies that are models of prompts where the log names none, or were trained without
    where it names some, with a reason each.
    """
    found = {
        name: needs_prompts(
            read_training_rows(Path(folder).expanduser()), given=log.prompt is not None
        )
        for name, folder in models.items()
    }
    return {name: said[0].upper() + said[1:] for name, said in found.items() if said}


def unsure_rows(log: LoggedData, models: Mapping[str, str]) -> dict[str, str]:
    """The policies that rows of the log may have trained, with a reason for caution each.

    Where texts repeat, only the order of a log's rows tells whose they are.
    """
    found = {}
    for name, folder in models.items():
        trainings = read_training_rows(Path(folder).expanduser())
        share = max((one.unsure(log.text, log.prompt) for one in trainings), default=0.0)
        if share > MOST:
            found[name] = (
                f"{share:.0%} of the rows hold texts that trained this model, and texts repeat so "
                "often that neither they nor their order tell whether they are the rows that "
                "trained it: if they are, this value flatters, and the log in the order in which "
                "it trained the model would tell which to leave out. If you know that they are "
                "other rows, logged apart from those, this is no reason for caution."
            )
    return found


def without_seen_rows(log: LoggedData, models: Mapping[str, str]) -> tuple[LoggedData, list[str]]:
    """The log without rows that trained or chose one of the models, and a sentence for each.

    Parameters
    ----------
    models : mapping policy -> folder

    Raises
    ------
    DataError
        If fewer than 20 rows are left, or what a folder says of its rows is damaged.
    """
    n, told = len(log), []
    left_out = np.zeros(n, dtype=bool)
    for name, folder in models.items():
        seen = seen_rows(folder, log.text, log.prompt)
        if seen.any():
            left_out |= seen
            told.append(
                f"{int(seen.sum()):,} of the {n:,} rows hold texts that trained or chose {name!r}"
            )
    if not told:
        return log, []
    rest = int(n - left_out.sum())
    where = "parts.csv in the folder of its training says which part each row was in"
    if rest < FEW:
        raise DataError(
            f"{log.source}: {'; '.join(told)}, so that {rest:,} are left to value it by, where "
            f"{FEW} are the least: give rows of texts that had no part in training ({where})"
        )
    said = f"{'; '.join(told)}: they are left out, and every policy is valued on the other {rest:,}"
    return log[~left_out], [f"{said} ({where})."]
