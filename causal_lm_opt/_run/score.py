"""``score``: a log's texts scored by a language model, into a copy of it with a column more."""

from __future__ import annotations

import csv
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causal_lm_opt._cells import Place, to_strings
from causal_lm_opt._columns import Columns
from causal_lm_opt._files import check_file, default_delimiter, format_of
from causal_lm_opt._readers import (
    CHUNK_ROWS,
    check_delimiter,
    column_names,
    csv_chunks,
    json_chunks,
    parquet_chunks,
)
from causal_lm_opt._run.models import check_folder
from causal_lm_opt._run.output import OutputError
from causal_lm_opt.exceptions import DataError

if TYPE_CHECKING:
    from causal_lm_opt.lm import LanguageModelPolicy

__all__ = ["ScoreRequest", "Scored", "score_file"]

Float = NDArray[np.float64]


@dataclass(frozen=True)
class ScoreRequest:
    """What ``score`` was asked; the names are those of its options."""

    log: str
    model: str
    out: str
    text: str = "text"
    prompt: str | None = None
    column: str = "logp"
    adapter: str | None = None
    dtype: str | None = None
    device: str | None = None
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    eos: bool = True
    truncate: bool = False
    cache: str | None = None
    delimiter: str | None = None
    decimal: str | None = None
    overwrite: bool = False
    progress: bool | None = None


@dataclass(frozen=True)
class Scored:
    """What was written."""

    path: Path
    column: str
    log_prob: Float
    decoding: str
    trained_on: int = 0

    def __str__(self) -> str:
        mean = float(self.log_prob.mean())
        said = (
            f"{len(self.log_prob):,} texts scored under {self.decoding}: mean log-probability "
            f"{mean:.2f}, column {self.column!r} of {self.path}\n"
        )
        if self.trained_on:
            said += (
                f"{self.trained_on:,} of them trained or chose this model: a value of it from "
                "their rows flatters. evaluate --policy NAME=FOLDER, with the model's folder in "
                "place of the column, leaves them out.\n"
            )
        return said


@dataclass(frozen=True)
class _All:
    """Every column of a file, by its own name."""

    header: Sequence[str]

    def wanted(self) -> dict[str, str]:
        return {name: name for name in self.header}

    def names(self) -> list[str]:
        return list(self.header)


def score_file(request: ScoreRequest) -> Scored:
    """Score a log and write it, with its log-probabilities, as CSV.

    Scores are kept in a folder beside the output as they are made, so that the same command,
    given again after an interruption, goes on; the folder is removed at the end, unless the
    request names one.

    Raises
    ------
    DataError
        If the log cannot be read, lacks a column, or already has the new one.
    OutputError
        If the output exists, or cannot be written.
    """
    target = _check_out(request)
    header, cells, lines = _read(request)
    place = Place(request.log, lines)
    texts = to_strings(cells[request.text], place, request.text, allow_empty=True)
    prompts = None
    if request.prompt is not None:
        prompts = to_strings(cells[request.prompt], place, request.prompt, allow_empty=True)
    kept = Path(request.cache) if request.cache else target.with_name(f"{target.name}.scores")
    policy = _policy(request, kept)
    found = policy.log_prob(texts, prompts, eos=request.eos)
    _write(target, header, cells, request, found)
    if request.cache is None:
        shutil.rmtree(kept, ignore_errors=True)
    used = np.zeros(len(texts), dtype=bool)
    for training in policy.training_rows:
        used |= training.among(texts, prompts)
    return Scored(target, request.column, found, policy.decoding.describe(), int(used.sum()))


def _policy(request: ScoreRequest, cache: Path) -> LanguageModelPolicy:
    """The model of a folder or hub name; whatever is wrong with it said in one line."""
    from causal_lm_opt.lm import LanguageModelPolicy

    model = str(request.model)
    no_hub_name = model.count("/") > 1 or model.startswith((".", "~", "/"))
    if no_hub_name or Path(model).expanduser().exists():
        check_folder("--model", model)
    settings: dict[str, Any] = {
        "adapter": request.adapter, "dtype": request.dtype, "device": request.device,
        "temperature": request.temperature, "top_k": request.top_k, "top_p": request.top_p,
        "too_long": "truncate" if request.truncate else "error",
    }  # fmt: skip
    try:
        return LanguageModelPolicy(
            request.model, cache=cache, progress=request.progress, name="scoring", **settings
        )
    except OSError as error:  # no such name, no network, a damaged folder
        why = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"--model {model}: cannot be loaded: {why}") from error


def _check_out(request: ScoreRequest) -> Path:
    target = Path(request.out).expanduser().resolve()
    if target.suffix.lower() != ".csv":
        raise OutputError(f"{request.out}: the scored log is written as CSV; name it .csv")
    if target.is_dir() or (target.exists() and not request.overwrite):
        raise OutputError(f"{request.out} exists; give another --out, or --overwrite")
    if target.exists() and target == Path(request.log).expanduser().resolve():
        raise OutputError(f"{request.out} is the log itself; give another --out")
    if not target.parent.is_dir() or not os.access(target.parent, os.W_OK):
        raise OutputError(f"{request.out} cannot be written: {target.parent} is no such folder")
    return target


def _read(request: ScoreRequest) -> tuple[list[str], dict[str, list[Any]], list[int] | None]:
    """Header, cells by column, and the file's lines where it has any."""
    file = check_file(request.log)
    header = column_names(file, request.delimiter)
    kind = format_of(file)
    delimiter = request.delimiter or default_delimiter(file)
    if kind == "csv":
        check_delimiter(header, [request.text], delimiter, file)
    if request.column in header:
        raise DataError(f"{file}: already has a column {request.column!r}; give another --column")
    for name in (request.text, request.prompt):
        if name is not None and name not in header:
            raise DataError(f"{file}: no column {name!r}; it has {', '.join(header[:20])}")
    columns = cast(Columns, _All(header))
    if kind == "csv":
        chunks = csv_chunks(file, columns, CHUNK_ROWS, delimiter, request.decimal or ".")
    else:
        chunks = (parquet_chunks if kind == "parquet" else json_chunks)(file, columns, CHUNK_ROWS)
    cells: dict[str, list[Any]] = {name: [] for name in header}
    lines: list[int] = []
    for chunk in chunks:
        for name, values in cells.items():
            values.extend(list(chunk.cells[name]))
        lines.extend([] if chunk.lines is None else list(chunk.lines))
    if not cells[request.text]:
        raise DataError(f"{file}: has no data rows")
    return header, cells, lines or None


def _write(
    target: Path,
    header: Sequence[str],
    cells: Mapping[str, Sequence[Any]],
    request: ScoreRequest,
    logp: Float,
) -> None:
    """The log's own cells, verbatim, and the new column; whole or not at all.

    Delimiter and decimal sign are those that were told of the log, so that what reads the one reads
    the other.

    Texts that begin with "=" stay as they are: the file is read back as a log, and a guarded text
    would be another text.
    """
    staged = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    try:
        with staged.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n", delimiter=request.delimiter or ",")
            writer.writerow([*header, request.column])
            rows = zip(*(cells[name] for name in header), logp.tolist(), strict=True)
            decimal = request.decimal or "."
            writer.writerows([_cell(value, decimal) for value in row] for row in rows)
        os.replace(staged, target)
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror or error}") from error
    finally:
        staged.unlink(missing_ok=True)


def _cell(value: Any, decimal: str) -> Any:
    if value is None or value is pd.NA or (isinstance(value, float) and value != value):
        return ""
    return repr(float(value)).replace(".", decimal) if isinstance(value, float) else value
