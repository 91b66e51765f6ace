"""``optimize``: train a model on a log, value it on rows it has not seen, write the report."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from causal_lm_opt._run.log import Request, _check_text, _read
from causal_lm_opt._run.models import check_folder
from causal_lm_opt._run.optimize_files import RUN, clear_folder, own_folder, write_files
from causal_lm_opt._run.optimize_report import (
    TrainingRun,
    decision,
    models,
    report_pages,
    value_rows,
)
from causal_lm_opt._run.optimize_settings import check_installed, settings_of
from causal_lm_opt._run.output import OutputError, csv_text, guarded, json_text
from causal_lm_opt._run.provenance import provenance
from causal_lm_opt._run.slips import odd_cells
from causal_lm_opt._run.terminal import collected_warnings, printable
from causal_lm_opt.exceptions import DataError, EstimationWarning, OtherRunError
from causal_lm_opt.logged import LoggedData

if TYPE_CHECKING:
    from causal_lm_opt.lm import LanguageModelPolicy
    from causal_lm_opt.lm._optimizer_rows import Rows
    from causal_lm_opt.lm.evaluation import WinRates
    from causal_lm_opt.lm.optimizer import CausalLMOptimizer

__all__ = [
    "NAMES",
    "OptimizeRequest",
    "Optimized",
    "judge_on",
    "logged_rows",
    "optimize_file",
    "texts_csv",
]

FORMAT = "causal-lm-opt training run 1"
NAMES = (
    RUN, "report.html", "report.md", "history.csv", "steps.csv", "result.json", "samples.csv",
    "parts.csv",
    "win_rates.csv",
)  # fmt: skip
N_TEXTS = 200  # fresh texts of each policy for win rates and samples
TINY = "tiny"
#: The trainer's value of the rows it trains on is an objective, and no estimate.
RENAMED = {"value": "objective_on_training_rows"}


@dataclass(frozen=True)
class OptimizeRequest:
    """What ``optimize`` was asked; the names are those of its options.

    Attributes
    ----------
    flags : mapping
        Settings of the optimiser given as options; None where an option was not given.
    arguments : mapping
        All of the command line, for the report.
    """

    log: str
    out: Path
    text: str = "text"
    outcome: str | None = None
    prompt: str | None = None
    group: str | None = None
    logp_logging: str | None = None
    delimiter: str | None = None
    decimal: str | None = None
    config: str | None = None
    flags: Mapping[str, Any] = field(default_factory=dict)
    overwrite: bool = False
    figures: bool = True
    progress: bool | Literal["lines"] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    reproduce: str = ""


@dataclass(frozen=True)
class Optimized:
    """What was done, to print; fresh texts as (prompt, before, after)."""

    text: str
    warnings: tuple[str, ...]
    pairs: Sequence[tuple[str | None, str, str | None]] = ()


def optimize_file(request: OptimizeRequest) -> Optimized:
    """Train (or go on, or take up a finished run) and write the folder.

    Raises
    ------
    DataError, ValueError
        If the log, the settings or the model make no sense.
    OutputError
        If the folder holds something else, or cannot be written.
    """
    check_installed("optimize")
    folder = own_folder(request.out, NAMES)
    log = logged_rows(request)
    settings = settings_of(request.config, request.flags)
    _check_model(settings.get("model", TINY))
    if request.overwrite:
        clear_folder(folder)
    from causal_lm_opt.lm.optimizer import CausalLMOptimizer

    optimizer = CausalLMOptimizer(**settings, out=folder / RUN, progress=request.progress)
    done = (folder / RUN / "optimizer.json").is_file()
    with collected_warnings() as warned, _quiet_libraries():
        for note in odd_cells(log):
            warnings.warn(note, EstimationWarning, stacklevel=1)
        _fit(optimizer, log, folder)
        rates, pairs = _compared(optimizer, log, folder / RUN)
    run = _told(request, optimizer, log, rates, pairs, warned)
    write_files(folder, _files(run, optimizer))
    return Optimized(_summary(run, folder, done=done), tuple(warned), pairs)


def logged_rows(request: OptimizeRequest) -> LoggedData:
    """The log's texts, outcomes and whatever columns are named."""
    if request.outcome is None:
        raise ValueError("name the outcome's column: --outcome COL")
    read = Request(
        log=request.log, text=request.text, outcome=request.outcome, prompt=request.prompt,
        group=request.group, logp_logging=request.logp_logging, delimiter=request.delimiter,
        decimal=request.decimal,
    )  # fmt: skip
    _check_text(read)
    return _read(read, {})


def _check_model(model: Any) -> None:
    """``tiny``, or a folder in which a model can be opened."""
    if model == TINY:
        return
    check_folder("--model", str(model))
    from causal_lm_opt.lm import LanguageModelPolicy
    from causal_lm_opt.lm._loading import without_bars

    try:
        with without_bars():
            LanguageModelPolicy(str(model), local_files_only=True)
    except Exception as error:  # a loader raises errors of many libraries; each says: bad folder
        why = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{model}: the model cannot be loaded: {why}") from error


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Inside, transformers shows no bars and no remarks (tied weights are no missing ones)."""
    from causal_lm_opt.lm._loading import transformers, without_bars

    logging = transformers().utils.logging
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with without_bars():
            yield
    finally:
        logging.set_verbosity(before)


def _fit(optimizer: CausalLMOptimizer, log: LoggedData, folder: Path) -> None:
    try:
        optimizer.fit(
            log.text, log.outcome, prompts=log.prompt, logp_logging=log.logp_logging,
            groups=log.groups,
        )  # fmt: skip
    except OtherRunError as error:
        raise OutputError(str(error)) from error
    except KeyboardInterrupt as error:
        if folder.is_dir():
            error.add_note(f"What was done so far is kept in {folder}: run again to go on.")
        raise


# ------------------------------------------------------------------------------ win rates
def _compared(
    optimizer: CausalLMOptimizer, log: LoggedData, run: Path
) -> tuple[WinRates | None, list[tuple[str | None, str, str | None]]]:
    """Fresh texts of both policies, and which are judged the better ones."""
    from causal_lm_opt.lm._optimizer_rows import read_rows, split
    from causal_lm_opt.lm._optimizer_steps import most_tokens
    from causal_lm_opt.lm.evaluation import win_rates

    seed = optimizer.random_state
    rows = read_rows(log.text, log.outcome, log.prompt, log.logp_logging, log.groups)
    parts = split(rows, optimizer.split, seed)
    prompts = asked_prompts(parts.report)
    limit = optimizer.max_new_tokens or most_tokens(optimizer.start_, parts.train)
    before = fresh_texts(optimizer.start_, prompts, (seed, 10), limit)
    trained = optimizer.trained_
    if trained is None:
        asked = prompts or [None] * len(before)
        return None, [(p, b, None) for p, b in zip(asked, before, strict=True)]
    after = fresh_texts(trained, prompts, (seed, 11), limit)
    judge = judge_on(
        parts.report, parts.train.read, features=optimizer.features,
        outcome_model=optimizer.outcome_model, cv=optimizer.cv, seed=seed,
    )  # fmt: skip
    rates = win_rates(
        {"trained": after, "start": before}, judge, prompts=prompts, random_state=seed,
        level=optimizer.level, reference="start",
    )  # fmt: skip
    asked = prompts or [None] * len(before)
    return rates, list(zip(asked, before, after, strict=True))


def asked_prompts(rows: Rows) -> list[Any] | None:
    """The first distinct prompts of some rows, or None where there are none."""
    if rows.prompts is None:
        return None
    return list(dict.fromkeys(rows.prompts))[:N_TEXTS]


def fresh_texts(
    policy: LanguageModelPolicy, prompts: Sequence[Any] | None, seed: Sequence[int],
    limit: int | None = None,
) -> Any:  # fmt: skip
    """A text for each prompt, or so many without; by default as long as the model can."""
    import numpy as np

    rng = np.random.default_rng(list(seed))
    n = N_TEXTS if prompts is None else 1
    return policy.sample(n, rng, prompts=prompts, max_new_tokens=limit)


def judge_on(
    rows: Rows, read: Sequence[str], *, features: Any = None, outcome_model: Any = None,
    cv: int = 5, seed: int = 0,
) -> Any:  # fmt: skip
    """A judge that prefers the text of larger prediction, by an outcome model fitted on ``rows``.

    Parameters
    ----------
    rows : Rows
    read : sequence of str
        Texts on which features are fitted, outcomes unseen.
    features, outcome_model, cv, seed
        As for the optimiser; no more folds than clusters.
    """
    import numpy as np

    from causal_lm_opt.lm._features import TextFeatures
    from causal_lm_opt.lm._optimizer_rows import joined
    from causal_lm_opt.lm._optimizer_steps import nuisances_of
    from causal_lm_opt.lm.evaluation import pointwise_judge

    folds = min(cv, int(np.unique(rows.groups).size))
    made = TextFeatures(features, read, prompted=rows.prompts is not None)
    fitted = nuisances_of(rows, outcome_model, made, folds, seed)
    if rows.prompts is None:
        return pointwise_judge(lambda texts: fitted.predict(list(texts)))
    return pointwise_judge(
        lambda texts, prompts: fitted.predict(joined(texts, prompts)), with_prompts=True
    )


# ------------------------------------------------------------------------------ what is told
def _told(
    request: OptimizeRequest, optimizer: CausalLMOptimizer, log: LoggedData,
    rates: WinRates | None, pairs: Sequence[tuple[str | None, str, str | None]],
    warned: Sequence[str],
) -> TrainingRun:  # fmt: skip
    settings = {
        name: value.strip("'") for name, value in optimizer._identity().items()
    }  # as words, as the run's own folder keeps them
    inputs = [("log", request.log), *([("settings", request.config)] if request.config else [])]
    facts = provenance(
        "optimize", request.arguments, inputs, request.reproduce,
        models=[{"model": settings["model"]}],
    )  # fmt: skip
    steps = optimizer.steps_
    if settings["learning_rate"] == "None" and "learning_rate" in steps and len(steps):
        settings["learning_rate"] = f"{steps['learning_rate'].iloc[0]:g} (by default)"
    return TrainingRun(
        result=optimizer.result_, history=optimizer.history_, sizes=optimizer.sizes_,
        settings=settings, objective=settings["objective"], unit=str(request.outcome),
        logged=log.logp_logging is not None, clusters=_clusters(request, log),
        floor=optimizer.ess_floor,
        steps=int(steps["step"].max()) if len(steps) else 0, rates=rates, pairs=pairs,
        provenance=facts | {"seed": optimizer.random_state}, warnings=tuple(warned),
        figures=request.figures,
    )  # fmt: skip


def _clusters(request: OptimizeRequest, log: LoggedData) -> str:
    """What the rows of a cluster, which are dealt together, have in common."""
    from causal_lm_opt.lm._optimizer_rows import many_prompts

    if request.group is not None:
        return f"one {request.group!r} (--group)"
    if log.prompt is not None and many_prompts(log.prompt):
        return "equal prompt"
    return "equal text" if log.prompt is None else "equal prompt and text"


def _files(run: TrainingRun, optimizer: CausalLMOptimizer) -> dict[str, str]:
    """Content of every file beside the optimiser's own."""
    steps = optimizer.steps_.rename(columns=RENAMED)
    columns = ("prompt", "start", "trained")
    files = {
        "history.csv": _csv(run.history),
        "steps.csv": _csv(steps),
        "samples.csv": texts_csv(columns, run.pairs),
        "parts.csv": csv_text(("row", "part"), [[i, p] for i, p in enumerate(optimizer.parts_)]),
        "result.json": json_text(_facts(run)),
    }
    if run.rates is not None:
        files["win_rates.csv"] = _csv(run.rates.to_frame())
    return files | report_pages(run)


def _csv(table: pd.DataFrame) -> str:
    """A table, numbers to 12 digits: a run's own record keeps no more than 15."""
    rows = [
        [float(f"{v:.12g}") if isinstance(v, float) else v for v in row]
        for row in table.to_numpy(dtype=object).tolist()
    ]
    return csv_text([str(c) for c in table.columns], rows)


def texts_csv(columns: Sequence[str], rows: Sequence[Sequence[str | None]]) -> str:
    """Texts as CSV, every cell in quotes: a model may write a line break of any kind."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(columns)
    writer.writerows([guarded(cell or "") for cell in row] for row in rows)
    return out.getvalue()


def _facts(run: TrainingRun) -> dict[str, Any]:
    return {
        "format": FORMAT, **run.provenance, "outcome": run.unit, "decision": decision(run.result),
        "model": models(run)[0], "accepted": run.result.accepted, "sizes": dict(run.sizes),
        "settings": dict(run.settings), "values": run.result.to_frame().to_dict("records"),
        "result": run.result.to_dict(),
        "win_rates": [] if run.rates is None else run.rates.to_frame().to_dict("records"),
        "win_rates_judge": "outcome model fitted on the report rows; right only if it is",
        "warnings": list(run.warnings),
    }  # fmt: skip


def _summary(run: TrainingRun, folder: Path, *, done: bool) -> str:
    """What is printed."""
    lines = []
    if done:
        lines = [f"The run in {folder} was finished before; its report is written anew.", ""]
    rows = value_rows(run.result)
    wide = [max(len(row[j]) for row in rows) for j in range(4)]
    lines += [decision(run.result), ""]
    lines += ["  " + "  ".join(c.ljust(w) for c, w in zip(row, wide, strict=True)) for row in rows]
    if run.rates is not None:
        (pair,) = run.rates.pairs
        told = f"{pair.rate:.1%} ({pair.lower:.1%} to {pair.upper:.1%})"
        lines += ["", f"Win rate against the start: {told}, judged by the outcome model: right "
                  "only if it is."]  # fmt: skip
    kept, refused = models(run)
    lines += ["", f"Model:  {folder / kept}"]
    if refused:
        lines.append(f"        ({folder / refused} is the one that was not accepted)")
    lines += [f"Report: {folder / 'report.html'}"]
    return "\n".join(printable(line.rstrip()) for line in lines) + "\n"
