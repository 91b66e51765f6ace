"""``compare``: finished training runs side by side, and whose texts a judge prefers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from causal_lm_opt._run.glossary import TRAINING
from causal_lm_opt._run.numbers import band_decimals, decimals_for, interval, number, percent
from causal_lm_opt._run.optimize import (
    Optimized,
    OptimizeRequest,
    asked_prompts,
    fresh_texts,
    judge_on,
    logged_rows,
    texts_csv,
)
from causal_lm_opt._run.optimize_files import clear_folder, own_folder, write_files
from causal_lm_opt._run.optimize_page import (
    Block,
    Fold,
    Grid,
    Pairs,
    Points,
    Section,
    Terms,
    Words,
    html_page,
    markdown_page,
)
from causal_lm_opt._run.optimize_paired import COLUMNS as PAIRED
from causal_lm_opt._run.optimize_paired import owned, paired_lines, paired_values
from causal_lm_opt._run.optimize_report import (
    decision,
    origin,
    short,
    value_rows,
    win_rate_grid,
)
from causal_lm_opt._run.optimize_runs import COLUMNS as COLUMNS_TOLD
from causal_lm_opt._run.optimize_runs import FinishedRun, other_columns, read_run, run_names
from causal_lm_opt._run.output import OutputError, csv_text, json_text
from causal_lm_opt._run.provenance import provenance
from causal_lm_opt._run.terminal import collected_warnings, printable
from causal_lm_opt.diagnostics.verdict import BLIND_SPOTS

if TYPE_CHECKING:
    from causal_lm_opt.comparison import Comparison
    from causal_lm_opt.lm._optimizer_rows import Rows
    from causal_lm_opt.lm.evaluation import WinRates
    from causal_lm_opt.lm.optimizer import CausalLMOptimizer

__all__ = ["compare_runs"]

NAMES = (
    "report.html", "report.md", "comparison.csv", "comparison.json", "win_rates.csv",
    "samples.csv", "differences.csv",
)  # fmt: skip
COLUMNS = (
    "run", "objective", "accepted", "step", "steps", "ess", "what", "value", "se", "ci_lower",
    "ci_upper", "level", "verdict",
)  # fmt: skip


def compare_runs(
    runs: Sequence[str],
    log: OptimizeRequest | None,
    out: str | Path,
    *,
    level: float = 0.95,
    seed: int = 0,
    overwrite: bool = False,
    arguments: Mapping[str, Any],
    reproduce: str = "",
) -> Optimized:
    """Write the table of finished runs and, with a log, the win rates of their policies.

    Raises
    ------
    DataError, ValueError
        If a folder holds no finished run, or there are fewer than two.
    OutputError
        If the folder holds something else, or cannot be written.
    """
    if len(runs) < 2:
        raise ValueError(f"compare needs at least two runs, got {len(runs)}")
    if not 0 < level < 1:
        raise ValueError(f"--level must lie between 0 and 1, as in 0.95; got {level:g}")
    folder = own_folder(out, NAMES)
    found = [read_run(given, name) for given, name in zip(runs, run_names(runs), strict=True)]
    if not overwrite and folder.is_dir() and any(folder.iterdir()):
        raise OutputError(f"{out} is not empty; give another --out, or --overwrite")
    rates: WinRates | None = None
    differences: Comparison | None = None
    said: list[str] = []
    with collected_warnings() as warned:
        if log is not None:
            rates, differences, said = _judged(found, _as_told(log, found), level, seed)
    notes = [*_paired(found, differences, asked=log is not None), *said]
    inputs = [] if log is None else [("log", log.log)]
    facts = provenance("compare", arguments, inputs, reproduce)
    files = _files(found, rates, differences, notes, warned, facts)
    clear_folder(folder)
    write_files(folder, files)
    return Optimized(_text(found, rates, differences, notes, folder), tuple(warned))


# ------------------------------------------------------------------------------ judging
def _as_told(log: OptimizeRequest, runs: Sequence[FinishedRun]) -> OptimizeRequest:
    """Columns that were not named are those the first run was told of, log-probabilities any."""
    known = [run.columns.get("logp_logging") for run in runs]
    told = {**runs[0].columns, "logp_logging": next(filter(None, known), None)}
    given = {name: getattr(log, name) or told.get(name) for name in COLUMNS_TOLD}
    return replace(log, **given | {"text": given["text"] or "text"})


def _paired(
    runs: Sequence[FinishedRun], differences: Comparison | None, *, asked: bool
) -> list[str]:
    """What may not be read from two intervals side by side."""
    kinds = {run.result.ratio for run in runs}
    by = (
        f" Values by different weights ({', '.join(sorted(kinds))}) differ also for one and the "
        "same policy, as V(f0) shows."
    )
    more = by if len(kinds) > 1 else ""
    if differences is not None:
        return [
            "The runs report from the same rows, so that their errors go together: read the "
            f"differences between the runs, not their intervals side by side.{more}"
        ]
    if all(run.of_part(runs[0]) for run in runs):
        return [
            "The runs report from the same rows, so that their errors go together: two intervals "
            "side by side are not a paired comparison, and say too little of the difference "
            f"between two runs{'.' if asked else '; --log FILE tells it.'}{more}"
        ]
    same = all(run.of_log(runs[0]) for run in runs)
    apart = "" if same else other_columns(runs)
    other = f"logs that were told by different columns ({apart})" if apart else "different logs"
    which = "overlapping parts of one log" if same else f"rows of {other}"
    return [
        f"The runs report from {which}: their intervals are neither independent nor paired; do "
        "not subtract one value from another. Train with the same log, columns, --seed and split "
        f"to report from the same rows.{more}"
    ]


def _judged(
    runs: Sequence[FinishedRun], request: OptimizeRequest, level: float, seed: int
) -> tuple[WinRates | None, Comparison | None, list[str]]:
    """Win rates of the runs' policies by an outcome model of the log, and their differences."""
    from causal_lm_opt._run.optimize_settings import check_installed

    check_installed("compare --log")
    log = logged_rows(request)
    from causal_lm_opt.lm._loading import without_bars
    from causal_lm_opt.lm._optimizer_rows import read_rows
    from causal_lm_opt.lm.evaluation import win_rates
    from causal_lm_opt.lm.optimizer import CausalLMOptimizer

    rows = read_rows(log.text, log.outcome, log.prompt, log.logp_logging, log.groups)
    judging, note = _unseen(rows, runs)
    with without_bars():
        every = {_policy_name(run): CausalLMOptimizer.load(run.folder) for run in runs}
        loaded, same = _distinct(every)
        if len(loaded) < 2:
            return None, None, same
        prompts = asked_prompts(rows)
        apart = _other_prompts(loaded, given=prompts is not None)
        if apart:
            return None, None, [apart, *same]
        texts = {
            name: fresh_texts(optimizer.policy_, prompts, (seed, k), optimizer.max_new_tokens_)
            for k, (name, optimizer) in enumerate(loaded.items())
        }
        judge = judge_on(judging, rows.read, seed=seed)
        rates = win_rates(texts, judge, prompts=prompts, random_state=seed, level=level)
        found = paired_values(rows, runs, loaded, seed=seed, level=level)
    if isinstance(found, str):
        return rates, None, [note, found, *same]
    return rates, found, [note, *same]


def _other_prompts(loaded: Mapping[str, CausalLMOptimizer], *, given: bool) -> str:
    """Why policies cannot be compared by texts given prompts, or without; empty if they can."""
    other = [name for name, optimizer in loaded.items() if optimizer.prompted_ != given]
    if not other:
        return ""
    so, but = ("without", "has") if given else ("with", "is told without")
    return (
        f"No win rate and no difference is told: {', '.join(other)} trained {so} prompts, and "
        f"--log {but} them, so that texts of the runs' policies answer different questions. "
        "Compare runs that were made from the same columns."
    )


def _distinct(
    loaded: Mapping[str, CausalLMOptimizer],
) -> tuple[dict[str, CausalLMOptimizer], list[str]]:
    """One optimiser for each model that runs return, and a sentence of those that share one."""
    from causal_lm_opt.lm._cache import fingerprint

    alike: dict[str, list[str]] = {}
    for name, optimizer in loaded.items():
        policy = optimizer.policy_
        own = fingerprint(policy.model, policy.decoding, policy.dtype_name)
        alike.setdefault(own, []).append(name)
    told = [
        f"{' and '.join(names)} hold the same model: how it was valued is all that they differ in, "
        "and no difference is told between them."
        for names in alike.values() if len(names) > 1
    ]  # fmt: skip
    return {" = ".join(names): loaded[names[0]] for names in alike.values()}, told


def _policy_name(run: FinishedRun) -> str:
    """A run's policy is its trained model where that was accepted, else its start."""
    return run.name if run.result.accepted else f"{run.name} (its start)"


def _unseen(rows: Rows, runs: Sequence[FinishedRun]) -> tuple[Rows, str]:
    """Rows that no run trained on or chose by, where there are enough; else all, and a warning."""
    from causal_lm_opt.lm._optimizer_rows import LEAST_CLUSTERS, LEAST_ROWS

    kept = np.ones(len(rows), dtype=bool)
    own = rows.digest(), rows.digest(logged=False)
    strangers = [run.name for run in runs if not run.of_rows(*own)]
    for run in runs:
        if run.of_rows(*own):
            kept &= _reported(rows, run)
    at = np.flatnonzero(kept)
    some = rows.take(at)
    enough = len(some) >= LEAST_ROWS and np.unique(some.groups).size >= LEAST_CLUSTERS
    if not enough or (enough and np.ptp(some.outcome) == 0):
        return rows, (
            f"The judge was fitted on all {len(rows):,} rows of the log, also those that the runs "
            "trained on, as too few are left besides: it may share their errors."
        )
    told = f"The judge was fitted on {len(some):,} rows of the log that no run trained on."
    if strangers:
        told = (
            f"The judge was fitted on {len(some):,} rows of the log; whether "
            f"{', '.join(strangers)} trained on some of them is not known, as the run was made "
            "from another log or other columns."
        )
    return some, told


def _reported(rows: Rows, run: FinishedRun) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which rows a run reported from."""
    from causal_lm_opt.lm._optimizer_rows import dealt

    part = dealt(rows, run.settings["split"], int(run.settings["random_state"]))
    return np.asarray(part == 2)


# ------------------------------------------------------------------------------ writing
def _files(
    runs: Sequence[FinishedRun], rates: WinRates | None, differences: Comparison | None,
    notes: Sequence[str], warned: Sequence[str], facts: Mapping[str, Any],
) -> dict[str, str]:  # fmt: skip
    lines = [line for run in runs for line in _lines(run)]
    files = {
        "comparison.csv": csv_text(COLUMNS, lines),
        "comparison.json": json_text({
            "format": "causal-lm-opt comparison 1", **facts,
            "runs": [dict(zip(COLUMNS, line, strict=True)) for line in lines],
            "differences": [] if differences is None else [
                dict(zip(PAIRED, line, strict=True)) for line in paired_lines(differences)
            ],
            "win_rates": [] if rates is None else rates.to_frame().to_dict("records"),
            "notes": list(notes), "warnings": list(warned),
        }),
    }  # fmt: skip
    if rates is not None:
        frame = rates.to_frame()
        files["win_rates.csv"] = csv_text(
            list(frame.columns), frame.to_numpy(dtype=object).tolist()
        )
        files["samples.csv"] = texts_csv(*_fresh_texts(rates))
    if differences is not None:
        files["differences.csv"] = csv_text(PAIRED, paired_lines(differences))
    sections = _sections(runs, rates, differences, notes, warned, facts)
    title, footer = "Training runs compared", f"causal-lm-opt {facts.get('version', '')}".strip()
    lead = "Which of these training runs gained most, as far as their own report rows can say?"
    return files | {
        "report.html": html_page(title, lead, sections, footer),
        "report.md": markdown_page(title, lead, sections, footer),
    }


def _asked(rates: WinRates) -> list[str | None]:
    """The prompt that each row's texts answer; empty without prompts."""
    return [] if rates.prompts is None else [str(prompt) for prompt in rates.prompts]


def _fresh_texts(rates: WinRates) -> tuple[list[str], list[tuple[str | None, ...]]]:
    """Columns and rows of all fresh texts, after their prompts where there are any."""
    asked = _asked(rates)
    columns: list[Any] = [asked, *rates.texts.values()] if asked else [*rates.texts.values()]
    return ["prompt"] * bool(asked) + list(rates.texts), list(zip(*columns, strict=True))


def _lines(run: FinishedRun) -> list[list[Any]]:
    """A line each for V(f), V(f0) and the difference."""
    result = run.result
    return [
        [
            run.name, str(run.settings.get("objective", "")), str(result.accepted).lower(),
            result.step, run.steps, run.ess, row["what"], float(row["value"]), float(row["se"]),
            float(row["lower"]), float(row["upper"]), result.level, str(row["verdict"]),
        ]
        for row in result.to_frame().to_dict("records")
    ]  # fmt: skip


def _sections(
    runs: Sequence[FinishedRun], rates: WinRates | None, differences: Comparison | None,
    notes: Sequence[str], warned: Sequence[str], facts: Mapping[str, Any],
) -> list[Section]:  # fmt: skip
    decided = Points([f"{run.name}: {decision(run.result)}" for run in runs])
    answer: list[Block] = [_values(runs), decided, _made(runs)]
    beside = notes if rates is None else [*notes[:1], *notes[2:]]
    out = [Section("Values", [*answer, *map(Words, beside)])]
    if differences is not None:
        out.insert(0, Section("Which gained most", _differences(differences)))
    if rates is not None:
        judged: list[Block] = [
            Words("How often a fresh text of one run's policy has a larger predicted outcome than "
                  "one of another's. A run whose trained model was not accepted has its start as "
                  "policy. Judged by the outcome model, and right only if it is."),
            Words(notes[1]), win_rate_grid(rates),
        ]  # fmt: skip
        out.append(Section("Win rates", judged))
        shown = list(zip(*rates.texts.values(), strict=True))[:8]
        said = f"The first {len(shown)} fresh texts of each, not picked; all are in samples.csv."
        asked = _asked(rates) or [None] * len(shown)
        pairs = Pairs(
            list(rates.texts),
            [(p, [short(t) for t in row]) for p, row in zip(asked, shown, strict=False)],
        )
        out.append(Section("Texts side by side", [Words(said), pairs]))
    if warned:
        out.append(Section("Warnings", [Points(list(warned))]))
    out.append(Section("What no figure here can see", [Words(BLIND_SPOTS)]))
    out.append(Section("Words", [Fold("What the words mean", [Terms(TRAINING)])]))
    return [*out, Section("Where this came from", origin(facts))]


def _values(runs: Sequence[FinishedRun]) -> Grid:
    """A line each for V(f), V(f0) and the difference of each run."""
    levels = sorted({run.result.level for run in runs})
    told = f"{percent(levels[0])} interval" if len(levels) == 1 else "Interval, at its run's level"
    lines = [
        [f"{run.name}: {what}", *line] for run in runs for what, *line in value_rows(run.result)
    ]
    columns = ["Run", "Value", told, "Verdict"]
    return Grid("On each run's report rows, used once", columns, lines, ["", "n", "n", "v"])


def _in_words(found: Comparison) -> list[list[str]]:
    """A line for each difference: name, value, band, verdict."""
    out = []
    for name, value, se, low, high, level, _ in paired_lines(found):
        decimals = decimals_for([se])
        ends = interval(low, high, band_decimals(low, high, decimals))
        out.append([name, number(value, decimals), ends, level])
    return out


def _differences(found: Comparison) -> list[Block]:
    """Every difference between two runs' policies, with a band at which all hold together."""
    told = (
        "Values of the runs' policies on their common report rows, estimated together, so that the "
        "noise they share cancels; with fresh texts and one kind of weights for all, so that they "
        "need not be the differences of the values below. A run whose trained model was not "
        "accepted has its start as policy. The run that is best here was found on these rows: its "
        "own value below is flattered if it was picked among many."
    )
    reasons = dict.fromkeys(r for v in found.contrasts.verdicts for r in v.reasons)
    why = [owned(reason, found) for reason in reasons]
    caption = f"All differences together, at {percent(found.level)}"
    grid = Grid(
        caption, ["", "Difference", "Band", "Verdict"], _in_words(found), ["", "n", "n", "v"]
    )
    return [Words(told), grid, *([Points(why)] if why else [])]


def _made(runs: Sequence[FinishedRun]) -> Grid:
    """How each run was made, in a line."""
    lines = [
        [
            run.name, str(run.settings.get("objective", "")),
            "yes" if run.result.accepted else "no", f"{run.result.step:,}", f"{run.steps:,}",
            "" if np.isnan(run.ess) else f"{run.ess:.1%}",
        ]
        for run in runs
    ]  # fmt: skip
    columns = ["Run", "Objective", "Accepted", "Chosen step", "Steps", "ESS per row"]
    return Grid("How they were made", columns, lines, ["", "w", "w", "n", "n", "n"])


def _text(
    runs: Sequence[FinishedRun], rates: WinRates | None, differences: Comparison | None,
    notes: Sequence[str], folder: Path,
) -> str:  # fmt: skip
    """What is printed."""
    lines = []
    for run in runs:
        said = "; ".join(
            f"{what} {value} ({ends}), {verdict}"
            for what, value, ends, verdict in value_rows(run.result)
        )
        accepted = "yes" if run.result.accepted else "no"
        lines.append(f"{run.name} ({run.settings.get('objective')}): {said}; accepted: {accepted}")
    for name, value, ends, verdict in [] if differences is None else _in_words(differences):
        lines.append(f"{name}: {value} ({ends}), {verdict}")
    for pair in () if rates is None else rates.pairs:
        told = f"{pair.rate:.1%} ({pair.lower:.1%} to {pair.upper:.1%})"
        lines.append(f"{pair.a} beats {pair.b} {told}, judged by the outcome model (a surrogate)")
    lines += ["", *notes, "", f"Report: {folder / 'report.html'}"]
    return "\n".join(map(printable, lines)) + "\n"
