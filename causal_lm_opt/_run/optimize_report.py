"""The report of a training run: the decision first, then curves, win rates, texts and origins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from causal_lm_opt._run.glossary import GLOSSARY, TRAINING
from causal_lm_opt._run.numbers import band_decimals, decimals_for, interval, number, percent
from causal_lm_opt._run.optimize_files import RUN, START, TRAINED
from causal_lm_opt._run.optimize_page import (
    Block,
    Command,
    Fold,
    Grid,
    Pairs,
    Picture,
    Points,
    Section,
    Terms,
    Words,
    html_page,
    markdown_page,
)
from causal_lm_opt.diagnostics.verdict import BLIND_SPOTS

if TYPE_CHECKING:
    from causal_lm_opt.lm._optimizer_result import OptimizerResult
    from causal_lm_opt.lm.evaluation import WinRates

__all__ = [
    "TrainingRun",
    "decision",
    "origin",
    "report_pages",
    "short",
    "value_rows",
    "win_rate_grid",
]

WHAT = {
    "trained": "V(f), trained", "start": "V(f0), start", "difference": "Difference, f - f0",
}  # fmt: skip
PARTS = {
    "train": "outcome model and training",
    "select": "learning curves, when to stop, which checkpoint",
    "report": "the values at the top, once",
}
WORDS = ("value", "interval", "verdict", "doubly robust", "logging policy",
         "effective sample size (ESS)", "ESS per row")  # fmt: skip
MOST_PAIRS = 12
LONGEST = 400  # letters of a text that is shown


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """A finished run, as its report tells it.

    Attributes
    ----------
    result : OptimizerResult
    history : DataFrame
        One row an evaluation on the select rows.
    sizes : mapping
        Rows of each part.
    settings : mapping
        Of the optimiser, as words.
    objective, ratio : str
    unit : str
        Name of the outcome.
    logged : bool
        Whether the log says how likely its texts were.
    clusters : str
        What rows of a cluster have in common.
    steps : int
        Optimiser steps taken.
    rates : WinRates or None
        Of the trained policy against the start.
    pairs : sequence of (prompt or None, before, after)
        Fresh texts.
    provenance : mapping
    warnings : sequence of str
    figures : bool
        Whether the curves are drawn.
    """

    result: OptimizerResult
    history: pd.DataFrame
    sizes: Mapping[str, int]
    settings: Mapping[str, str]
    objective: str
    unit: str
    logged: bool
    clusters: str
    steps: int
    floor: float
    rates: WinRates | None
    pairs: Sequence[tuple[str | None, str, str | None]]
    provenance: Mapping[str, Any]
    warnings: Sequence[str] = ()
    figures: bool = True


def report_pages(run: TrainingRun) -> dict[str, str]:
    """``report.html`` and ``report.md``."""
    title = f"Training run: {run.objective}"
    lead = (
        f"Does a language model write texts with a better {run.unit} after training than before, "
        "and how much better, on rows that training did not see?"
    )
    footer = f"causal-lm-opt {run.provenance.get('version', '')}".strip()
    sections = _sections(run)
    return {
        "report.html": html_page(title, lead, sections, footer),
        "report.md": markdown_page(title, lead, sections, footer),
    }


def _sections(run: TrainingRun) -> list[Section]:
    curves = [*_curves(run), *_curve_table(run)]
    out = [Section("Answer", _answer(run)), Section("Learning curves", curves)]
    out.append(Section("Win rates", _win_rates(run)))
    out.append(Section("Texts before and after", _texts(run)))
    out.append(Section("How it was made", _making(run)))
    out.append(Section("What this rests on", [Points(assumptions(run)), Words(BLIND_SPOTS)]))
    if run.warnings:
        out.append(Section("Warnings of this run", [Points(list(run.warnings))]))
    words = {**TRAINING, **{name: GLOSSARY[name] for name in WORDS}}
    out.append(Section("Words", [Fold("What the words mean", [Terms(words)])]))
    out.append(Section("Where this came from", origin(run.provenance)))
    return out


# ------------------------------------------------------------------------------ the answer
def decision(result: OptimizerResult) -> str:
    """What was decided and why, in a sentence."""
    said = result.decision.removeprefix("policy_ is ")
    if result.step == 0:
        return f"No trained model is returned: {said.partition(': ')[2]}"
    if not result.accepted:
        why = said.partition(": ")[2] or said
        return (
            f"The trained model (step {result.step}) is not accepted, the start is returned: {why}"
        )
    return f"The trained model is accepted: it is {said}"


def models(run: TrainingRun) -> tuple[str, str]:
    """Folders, within the run's, of the model that is returned and of one that was not accepted."""
    trained, start = f"{RUN}/{TRAINED}", f"{RUN}/{START}"
    if run.result.accepted:
        return trained, ""
    return start, "" if run.rates is None else trained


def value_rows(result: OptimizerResult) -> list[list[str]]:
    """A line each for V(f), V(f0) and the difference: value, interval, verdict."""
    frame = result.to_frame()
    if result.step == 0:  # nothing was trained that could be valued
        frame = frame[frame["what"] == "start"]
    decimals = decimals_for(frame["se"])
    return [
        [
            WHAT[row["what"]], number(row["value"], decimals),
            interval(
                row["lower"], row["upper"], band_decimals(row["lower"], row["upper"], decimals)
            ), row["verdict"],
        ]
        for row in frame.to_dict("records")
    ]  # fmt: skip


def _answer(run: TrainingRun) -> list[Block]:
    result = run.result
    columns = ["", "Value", f"{percent(result.level)} interval", "Verdict"]
    caption = (
        f"Mean of {run.unit} on the {run.sizes.get('report', 0):,} report rows, which neither "
        f"trained nor chose anything; doubly robust, {result.ratio} weights"
    )
    blocks: list[Block] = [
        Words(decision(result)),
        Grid(caption, columns, value_rows(result), ["", "n", "n", "v"]),
    ]
    if run.logged and run.settings["ratio"] == "auto" and result.ratio != "sequence":
        blocks.append(Words(
            "Weights are the odds of the texts' features. Those of whole texts, by the log's own "
            "log-probabilities, are taken only where their verdict is no worse, they average 1 and "
            "they leave an effective sample size of 30% of the rows."
        ))  # fmt: skip
    reasons = result.reasons()
    if reasons:
        blocks += [Words("Why the verdicts are what they are:"), Points(reasons)]
    kept, refused = models(run)
    not_it = f" {refused} is the trained one, which was not accepted." if refused else ""
    blocks += [
        Words(f"The model that is returned is in {kept}, beside this report.{not_it}"),
        Fold("How to use it", _use(run, kept)),
    ]
    return blocks


def _use(run: TrainingRun, model: str) -> list[Block]:
    """Commands that draw texts of a model, and score others under it."""
    where = f"{run.provenance.get('arguments', {}).get('out', '.')}/{model}"
    prompted = any(prompt is not None for prompt, _, _ in run.pairs)
    asked = ', prompts=["..."]' if prompted else ""
    draw = (
        "from causal_lm_opt.lm import LanguageModelPolicy\n"
        f"print(LanguageModelPolicy({where!r}).sample(5, 0{asked}).texts)"
    )
    also = " --prompt COLUMN" if prompted else ""
    score = f"causal-lm-opt score LOG.csv --model {where}{also} --column logp_f --out scored.csv"
    return [
        Words("Texts of it, in Python:"), Command(draw),
        Words("Log-probabilities of other texts under it:"), Command(score),
        Words(
            "Values of it come from rows that neither trained nor chose it: parts.csv names them, "
            "and evaluate --policy f=FOLDER leaves the others out by itself."
        ),
    ]  # fmt: skip


# ------------------------------------------------------------------------------ curves
def _curves(run: TrainingRun) -> list[Block]:
    if not len(run.history):
        return [Words("Training stopped before the first evaluation.")]
    if not run.figures:
        return []
    from causal_lm_opt import plots  # loads matplotlib

    result = run.result
    panels: Any = plots.training_plot(
        run.history, chosen=result.step, floor=run.floor, unit=run.unit, level=result.level
    )
    svg = plots.to_svg(
        panels[0].figure, key="training", title="Learning curves",
        description="Values on the select rows by optimiser step; the figures are in the table "
        "below and in history.csv.",
    )  # fmt: skip
    caption = (
        "On the select rows. Solid: V(f), its band the interval, shape and colour of the points "
        "the verdict. Dashed: V(f0) of the start, which is step 0 (hollow circle). Dotted, hollow "
        "squares: the outcome model's own mean over fresh texts, which is right only if that "
        "model is; training looks for its errors, so that it tends to run ahead, and it is no "
        "estimate. Below: the difference, whose lower end chooses the checkpoint (upright line); "
        "and how much of the rows the weights leave (ESS), with the floor below which no "
        "checkpoint is chosen."
    )
    return [Picture(svg, caption)]


def _curve_table(run: TrainingRun) -> list[Block]:
    if not len(run.history):
        return []
    rows = run.history.to_dict("records")
    decimals = decimals_for(float(r["se"]) for r in rows)
    fine = decimals_for(float(r["difference_se"]) for r in rows)
    lines = [
        [
            f"{int(r['step']):,}", number(r["value"], decimals),
            interval(r["lower"], r["upper"], decimals), number(r["difference"], fine),
            interval(r["difference_lower"], r["difference_upper"], fine), f"{r['ess']:.1%}",
            str(r["ratio"]), str(r["verdict"]),
        ]
        for r in rows
    ]  # fmt: skip
    columns = [
        "Step",
        "V(f)",
        "Interval",
        "V(f) - V(f0)",
        "Interval",
        "ESS per row",
        "Weights",
        "Verdict",
    ]
    told = "Each evaluation on the select rows; why each verdict, says column why of history.csv"
    grid = Grid(told, columns, lines, ["", *"nnnnn", "w", "v"])
    return [
        Words("A checkpoint chosen for its value looks better than it is on the rows that chose "
              "it: the values to quote are those of the report rows, at the top."),
        Fold("The same as numbers", [grid]),
    ]  # fmt: skip


# ------------------------------------------------------------------------------ win rates, texts
def win_rate_grid(rates: WinRates) -> Grid:
    """A line each for the comparisons made."""
    lines = [
        [
            f"{p.a} beats {p.b}", f"{p.rate:.1%}", f"{p.lower:.1%} to {p.upper:.1%}",
            f"{p.ties / p.n:.1%}", f"{p.n:,}", "below 0.001" if p.p_holm < 0.001
            else f"{p.p_holm:.3f}",
        ]
        for p in rates.pairs
    ]  # fmt: skip
    columns = ["", "Win rate", f"{percent(rates.level)} interval", "Ties", "Pairs", "p (Holm)"]
    return Grid("A tie counts half; 50% is no difference", columns, lines, ["", *"nnnnn"])


def _win_rates(run: TrainingRun) -> list[Block]:
    if run.rates is None:
        return [Words("There is no trained model to compare with the start.")]
    asked = bool(run.pairs) and run.pairs[0][0] is not None
    unaccepted = "" if run.result.accepted else " The trained model was not accepted."
    return [
        Words(
            "Judged by the outcome model, and right only if it is: how often a fresh text of the "
            "trained model has a larger predicted outcome than one of the start. This judge was "
            "fitted on the report rows, not on those that trained; its rates say which texts it "
            "prefers, not by how much readers' outcomes differ."
            f"{' A pair for each prompt of the report rows.' * asked}{unaccepted}"
        ),
        win_rate_grid(run.rates),
    ]


def _texts(run: TrainingRun) -> list[Block]:
    shown = run.pairs[:MOST_PAIRS]
    said = f"The first {len(shown)} of {len(run.pairs)} pairs of fresh texts, not picked; all are "
    blocks: list[Block] = [Words(said + "in samples.csv.")]
    after = all(text is not None for _, _, text in shown)
    if not after:
        blocks.append(Words("Of the start alone: no trained model was worth valuing."))
    rows = [
        (None if prompt is None else short(prompt), [short(t) for t in texts if t is not None])
        for prompt, *texts in shown
    ]
    return [*blocks, Pairs(("before", "after") if after else ("before",), rows)]


def short(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    return f"{text[:LONGEST]} ... ({len(text):,} characters)"


# ------------------------------------------------------------------------------ origins
def assumptions(run: TrainingRun) -> list[str]:
    """What must hold for the values at the top."""
    out = [
        "Who read which text was decided by chance (or by what the log's probabilities say), so "
        "that readers of one text are like readers of another.",
        "No outcome depends on what other readers were shown, beyond the clusters.",
        "The select and report rows share no cluster with the training rows.",
    ]
    if run.result.ratio in ("latent", "balance"):
        out.append(
            "Outcomes respond to a text through the features alone (by default 20 topics of its "
            "words, and some of its prompt's), as the weights are made of them. What they leave "
            "out, the verdict's test looks for. The interval takes the features as given."
        )
    if run.result.ratio == "classifier":
        out.append("The estimated odds of words are near the true ratio of the policies.")
    if run.result.ratio == "sequence":
        out.append("The log-probabilities of the logging policy are right.")
    if not run.logged:
        out.append(
            "The log does not say how likely its texts were; the start, fine-tuned on the "
            "training texts, stands for the policy that wrote them."
        )
    out.append("The value is right if these weights or the outcome model are.")
    return out


def _making(run: TrainingRun) -> list[Block]:
    from causal_lm_opt.lm._optimizer_steps import OBJECTIVES  # loads torch

    _, told = OBJECTIVES.get(run.objective, (None, ""))
    rows = [[name, f"{run.sizes[name]:,}", why] for name, why in PARTS.items() if name in run.sizes]
    stopped = f"Training took {run.steps:,} steps of at most {run.settings.get('steps', '?')}"
    chosen = f"; the checkpoint of step {run.result.step:,} was chosen." if run.result.step else "."
    blocks: list[Block] = [
        Words(f"Objective {run.objective}: {told}." if told else f"Objective {run.objective}."),
        Grid(
            f"Rows: those of {run.clusters} are in one part",
            ["Part", "Rows", "Used for"],
            rows,
            ["", "n", ""],
        ),
        Words(stopped + chosen),
        *_drawn(run),
    ]
    lines = [[name, value] for name, value in run.settings.items()]
    return [*blocks, Fold("Settings", [Grid("", ["Setting", "Value"], lines, ["", ""])])]


def _drawn(run: TrainingRun) -> list[Block]:
    """How many texts of each policy its value on the report rows averages."""
    asked, rows = int(run.settings.get("n_draws", 0)), run.sizes.get("report", 0)
    if not asked or not rows:
        return []
    prompted = any(prompt is not None for prompt, _, _ in run.pairs)
    if not prompted:
        return [Words(f"Each policy wrote {asked:,} texts for its value.")]
    each = -(-asked // rows)
    return [Words(
        f"Each policy wrote {each * rows:,} texts for its value: {each:,} for the prompt of each "
        f"report row, the least that makes {asked:,}."
    )]  # fmt: skip


def origin(facts: Mapping[str, Any]) -> list[Block]:
    """Command, inputs and versions."""
    if not facts:
        return [Words("Made by a call of the package, not by the command line.")]
    rows = [[i["role"], i["path"], f"{i['bytes']:,}", i["sha256"]] for i in facts.get("inputs", ())]
    versions = ", ".join(f"{k} {v}" for k, v in facts.get("software", {}).items())
    blocks: list[Block] = [
        Words("To reproduce this report:"), Command(str(facts.get("reproduce", ""))),
        Words(f"Version {facts.get('version', '')}, seed {facts.get('seed')}."),
    ]  # fmt: skip
    if rows:
        columns = ["Role", "File", "Bytes", "SHA-256"]
        blocks.append(Grid("Input files", columns, rows, ["", "", "n", ""]))
    return [*blocks, Words(f"Software: {versions}.", soft=True)]
