"""Files of an optimiser's run: names, settings as words, tables as JSON, the trained policy."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from causal_lm_opt.exceptions import DataError
from causal_lm_opt.lm._cache import fingerprint
from causal_lm_opt.lm._optimizer_steps import FIGURES, NOT_ELIGIBLE, OTHER_FIGURES
from causal_lm_opt.lm.objectives import Objective
from causal_lm_opt.lm.policy import LanguageModelPolicy

__all__ = [
    "RECORD",
    "RUN",
    "START",
    "TRAINED",
    "TRAINING",
    "evaluations",
    "json_rows",
    "nearer_checkpoints",
    "opened_trained",
    "plain_settings",
    "from_runs",
    "read_json",
    "run_differs",
    "runs_of",
    "setting_words",
    "write_json",
]

RECORD, RUN, TRAINED, START, TRAINING = (
    "optimizer.json", "run.json", "trained", "start", "training",
)  # fmt: skip
HISTORY = ("step", *FIGURES, "chosen_by", *OTHER_FIGURES)


def setting_words(value: Any) -> str:
    """A setting as words that say all of it."""
    if isinstance(value, LanguageModelPolicy):
        return fingerprint(value.model, value.decoding, value.dtype_name)
    if isinstance(value, tuple) and len(value) == 2 and hasattr(value[0], "state_dict"):
        return setting_words(LanguageModelPolicy(*value))
    if isinstance(value, Objective):
        own = {k: v for k, v in vars(value).items() if isinstance(v, str | int | float | None)}
        return f"{value.label} {sorted(own.items())}"
    if hasattr(value, "to_dict"):  # a peft configuration
        return json.dumps(value.to_dict(), sort_keys=True, default=str)
    if isinstance(value, Mapping):
        return str({str(k): setting_words(v) for k, v in sorted(value.items())})
    if isinstance(value, list | tuple | np.ndarray):
        return f"({', '.join(repr(v) if isinstance(v, str) else setting_words(v) for v in value)})"
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        return repr(value.item() if isinstance(value, np.number) else value)
    if value is None or isinstance(value, str | bool | os.PathLike):
        return str(value)
    return type(value).__qualname__


def plain_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that JSON can hold; those that are objects are left out.

    >>> plain_settings({"steps": 5, "split": (0.5, 0.2, 0.3), "features": len})
    {'steps': 5, 'split': [0.5, 0.2, 0.3]}
    """
    kept: dict[str, Any] = {}
    for name, value in settings.items():
        value = os.fspath(value) if isinstance(value, os.PathLike) else value
        try:
            kept[name] = json.loads(json.dumps(value))
        except (TypeError, ValueError):
            continue
    return kept


def run_differs(kept: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """What tells a kept run from this one, in words; empty where nothing does.

    Features and outcome models are told by what they give on the training rows.
    """
    before, now = kept.get("settings"), own["settings"]
    if isinstance(before, Mapping) and before != now:
        names = [name for name in now if before.get(name) != now[name]]
        told = [f"{name} was {before.get(name)}, is {now[name]}" for name in names[:3]]
        return "; ".join(told) + ("; and more" if len(names) > 3 else "")
    words = {
        "version": f"version {kept.get('version')}",
        "rows": "other rows (texts, outcomes, prompts, groups or logp_logging differ)",
        "features": "other features of the training rows (random ones need a seed)",
        "outcome_model": "another outcome model (a random one needs a seed)",
    }
    return next((said for key, said in words.items() if kept.get(key) != own[key]), "")


def opened_trained(folder: Path) -> LanguageModelPolicy:
    """The trained policy; an adapter upon the start that it was trained from.

    Raises
    ------
    DataError
        If it is not there.
    """
    if not (folder / TRAINED).is_dir():
        older = " (an older version named it policy: rename it)" * (folder / "policy").is_dir()
        raise DataError(f"{folder} is damaged: its model {TRAINED!r} is missing{older}.")
    if (folder / TRAINED / "adapter_config.json").is_file():
        return LanguageModelPolicy(folder / START, adapter=folder / TRAINED, name="trained")
    return LanguageModelPolicy(folder / TRAINED, name="trained")


def evaluations(lines: Sequence[Mapping[str, Any]], monitored: Iterable[str] = ()) -> pd.DataFrame:
    """The trainer's evaluations as a table."""
    rows = [
        {"step": int(x["step"])}
        | {k.removeprefix("eval_"): v for k, v in x.items() if k.startswith("eval_")}
        for x in lines if "eval_score" in x
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    if table.empty:  # stopped before the first
        return pd.DataFrame(columns=HISTORY)
    table["score"] = table["score"].where(table["score"] > NOT_ELIGIBLE)
    table = table.rename(columns={"score": "chosen_by"})
    return table[[name for name in (*HISTORY, *monitored) if name in table]]


def json_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows with NaN as null."""
    return [
        {str(k): None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}
        for row in table.astype(object).to_dict("records")
    ]


def runs_of(words: npt.NDArray[np.str_]) -> list[list[Any]]:
    """Neighbours that are alike as one: ``[[word, how many], ...]``."""
    return [[str(word), len(list(alike))] for word, alike in groupby(words)]


def from_runs(runs: Sequence[Sequence[Any]]) -> npt.NDArray[np.str_]:
    """What `runs_of` was given.

    >>> from_runs(runs_of(np.array(["train", "train", "report"]))).tolist()
    ['train', 'train', 'report']
    """
    return np.repeat([str(word) for word, _ in runs], [int(count) for _, count in runs])


def nearer_checkpoints(history: pd.DataFrame, step: int, share: float) -> str:
    """What to do where a chosen checkpoint is too far from the log and an earlier one was not."""
    near = [
        row for row in history.to_dict("records")
        if row["step"] < step and row["ess"] >= share and row["verdict"] != "do not use"
    ]  # fmt: skip
    if not near:
        return ""
    best = max(near, key=lambda row: float(row["difference_lower"]))
    return (
        f" Step {best['step']:.0f} kept an effective sample size of {best['ess']:.0%} of the rows: "
        f"ess_floor={share:g} would have chosen among such steps."
    )


def write_json(file: Path, content: Any) -> None:
    beside = file.with_suffix(".partial")
    beside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(beside, file)


def read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        inside = file.parent / RUN / file.name  # of the command's folder
        there = f" There is one in {inside.parent}." if inside.is_file() else ""
        raise DataError(f"{file} is missing: the folder holds no finished run.{there}") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{file} is damaged ({error}); delete the folder and fit again.") from error
