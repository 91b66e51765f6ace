"""Finished training runs, read from their folders without loading a model."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from causal_lm_opt._run.optimize_files import RUN
from causal_lm_opt._run.options import mark
from causal_lm_opt.exceptions import DataError
from causal_lm_opt.lm._optimizer_result import OptimizerResult

COLUMNS = ("text", "outcome", "prompt", "group", "logp_logging", "delimiter", "decimal")

__all__ = ["COLUMNS", "FinishedRun", "other_columns", "read_run", "run_names"]


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """A finished run as its folder tells it.

    Attributes
    ----------
    name : str
        The folder's, made unique.
    folder : Path
        The optimiser's own.
    result : OptimizerResult
    settings : mapping
    rows, rows_without_logp : str
        Identity of the log's rows, with and without their log-probabilities. (Older folders keep
        the first alone, which is then both.)
    steps : int
    features : str
        Identity of the features of its training rows.
    columns : mapping
        Columns of the log, their delimiter and decimal sign, as ``optimize`` was told.
    """

    name: str
    folder: Path
    result: OptimizerResult
    settings: Mapping[str, Any]
    rows: str
    rows_without_logp: str
    steps: int
    features: str
    columns: Mapping[str, Any]

    @property
    def ess(self) -> float:
        """Effective sample size of the trained policy's weights on the report rows, a share."""
        figures = self.result.trained.diagnostics
        share = figures[0].get("ess_share") if figures else None
        return float("nan") if share is None else float(share)

    def of_rows(self, rows: str, rows_without_logp: str) -> bool:
        """Whether its log had these rows, known by either identity."""
        return self.rows == rows or self.rows_without_logp == rows_without_logp

    def of_log(self, other: FinishedRun) -> bool:
        """Whether its log had the rows of another's."""
        return self.of_rows(other.rows, other.rows_without_logp)

    def of_part(self, other: FinishedRun) -> bool:
        """Whether it reports from the rows that another run does."""
        deal = ("split", "random_state")
        same = all(self.settings.get(name) == other.settings.get(name) for name in deal)
        return same and self.of_log(other)


def run_names(runs: Sequence[str]) -> list[str]:
    """A name for each folder: its last part, or all of it where that is taken."""
    short = [Path(run).expanduser().resolve().name for run in runs]
    names = [s if short.count(s) == 1 else str(run) for s, run in zip(short, runs, strict=True)]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"run {name!r} is given twice")
    return names


def read_run(given: str, name: str) -> FinishedRun:
    """A run's record, without loading a model.

    Parameters
    ----------
    given : path
        The folder of ``optimize``, or an optimiser's own.

    Raises
    ------
    DataError
        If it holds no finished run, or is damaged.
    """
    folder = Path(given).expanduser()
    folder = folder / RUN if (folder / RUN).is_dir() else folder
    if not (folder / "optimizer.json").is_file():
        more = "; the run is not finished" if (folder / "run.json").is_file() else ""
        raise DataError(f"{given}: holds no finished run of optimize{more}")
    try:
        record = json.loads((folder / "optimizer.json").read_text(encoding="utf-8"))
        own = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        steps = [int(row["step"]) for row in record["steps"]]
        settings = {str(k): _value(v) for k, v in own["settings"].items()}
        return FinishedRun(
            name, folder, OptimizerResult.from_dict(record["result"]), settings, str(own["rows"]),
            str(own.get("rows_without_logp", own["rows"])), max(steps, default=0),
            str(own["features"]), _columns(Path(given).expanduser()),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{given}: the run is damaged ({error!r})") from error


def other_columns(runs: Sequence[FinishedRun]) -> str:
    """Which options that decide the rows of the log the runs were told differently, in words."""
    decide = [name for name in COLUMNS if name != "logp_logging"]
    apart = [name for name in decide if len({str(run.columns.get(name)) for run in runs}) > 1]
    return ", ".join("--" + name.replace("_", "-") for name in apart)


def _columns(folder: Path) -> dict[str, Any]:
    """What ``optimize`` was told of the log's columns; nothing for runs that Python made."""
    file = folder / "result.json"
    if not file.is_file():
        return {}
    arguments = json.loads(file.read_text(encoding="utf-8"))["arguments"]
    told = {name: arguments.get(name) for name in COLUMNS}
    return told | {"delimiter": mark(told["delimiter"])}


def _value(words: str) -> Any:
    """A setting from its words; what is no plain value stays in words."""
    try:
        return ast.literal_eval(words)
    except (ValueError, SyntaxError):
        return words
