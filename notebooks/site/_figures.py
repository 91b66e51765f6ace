"""Tables of the pages, read from ``benchmarks/results`` and from the package itself.

Each function makes one table in Markdown; a page asks for it by its name in double braces.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import typer.main

from causal_lm_opt._run.glossary import GLOSSARY, TRAINING
from causal_lm_opt.cli import app

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"


def read(name: str) -> Any:
    """A JSON file of the results."""
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def cell(value: Any, digits: int = 3) -> str:
    """A cell: numbers rounded, missing ones a dash."""
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    if value is None or (isinstance(value, float) and value != value):
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.{digits}f}" if isinstance(value, float) else str(value)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], digits: int = 3) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    lines += ["| " + " | ".join(cell(value, digits) for value in row) + " |" for row in rows]
    return "\n".join(lines)


def of_rows(rows: list[dict[Any, Any]], keys: dict[str, str], digits: int = 3) -> str:
    """A table of some columns (name in the file: heading) of a list of records."""
    return table(list(keys.values()), ([row[key] for key in keys] for row in rows), digits)


# ------------------------------------------------------------------ reliability
def coverage() -> str:
    """Coverage of nominal 95 % intervals at 1,000 rows, every design."""
    rows = pd.read_csv(RESULTS / "validation/coverage.csv").query("n == 1000")
    wide = rows.pivot(index=["design", "sd_log_ratio"], columns="estimator", values="coverage")
    wide = wide.sort_values(["sd_log_ratio"], kind="stable")[["HT", "Hajek", "OR", "DR"]]
    body = ([design, f"{sd:g}", *map(float, values)] for (design, sd), *values in wide.itertuples())
    return table(["design", "sd(log ratio)", "HT", "Hajek", "OR", "DR"], body)


def verdicts() -> str:
    """How often each verdict was given to Hajek and DR, and coverage where it was trusted."""
    rows = pd.read_csv(RESULTS / "validation/coverage.csv").query("n == 1000")
    rows = rows[rows.estimator.isin(["Hajek", "DR"])].sort_values("sd_log_ratio", kind="stable")
    keys = ["design", "estimator", "coverage", "share trustworthy", "share caution",
            "share do not use", "coverage trustworthy"]  # fmt: skip
    head = ["design", "estimator", "covers", "trustworthy", "caution", "do not use",
            "covers when trusted"]  # fmt: skip
    return of_rows(rows[keys].to_dict("records"), dict(zip(keys, head, strict=True)))


def efficiency() -> str:
    """Standard deviation over the efficiency bound's."""
    keys = {"design": "design", "n": "rows", "estimator": "estimator",
            "sd_over_bound": "sd over the bound's", "coverage": "covers"}  # fmt: skip
    return of_rows(read("validation/efficiency.json")["rows"], keys)


def bands() -> str:
    """Simultaneous bands over 24 policies, and the naive interval of the selected one."""
    keys = {"scenario": "scenario", "n": "rows", "estimator": "estimator",
            "bands": "all 24 at once", "selected": "selected, max-t",
            "naive selected": "selected, naive"}  # fmt: skip
    return of_rows(read("validation/bands.json")["rows"], keys)


def penalised_ratios() -> str:
    """Differences from the logging policy where few clusters make a penalised ratio."""
    rows = [
        [world, name, part["bias"], part["sd"], part["mean half width"], part["covered"]]
        for world, found in read("validation/penalised_ratios.json").items()
        for name, part in found.items()
        if name != "truth"
    ]
    head = ["world", "interval", "bias", "sd", "half width", "covers"]
    return table(head, rows)


def fuzz() -> str:
    """What became of damaged input files."""
    found = read("validation/fuzz.json")
    rows = [*found["outcomes"].items(), ("wrong", len(found["wrong"]))]
    return table(["outcome", "files"], rows)


# ------------------------------------------------------------------ real data
def upworthy() -> str:
    """Held-out click rates of the headlines a model picks."""
    names = {"DR, same tests": "DR", "IPW, same tests": "IPW",
             "DR, other tests": "DR, other tests", "IPW, other tests": "IPW, other tests",
             "strata ignored": "strata ignored", "rates as rows": "rates as rows",
             "picked on the same readers": "picked on the same readers",
             "model alone": "model alone"}  # fmt: skip
    rows = {(r["analysis"], r["quantity"]): r for r in read("upworthy.json")["summary"]}
    body = []
    for key, name in names.items():
        best, gain = (rows[key, q] for q in ("best predicted", "best - uniform"))
        body.append([name, f"{best['covered']}/{best['splits']}",
                     f"{gain['covered']}/{gain['splits']}", best["rms_z"]])  # fmt: skip
    return table(["analysis", "value covered", "gain covered", "rms z of the value"], body, 2)


def persuasion() -> str:
    """Authors left out: noise-corrected error and rank correlation."""
    found = read("persuasion.json")["estimators"]
    body = (
        [f"`{name}`", r["nc_mse"], r["rank"], f"{r['covered']}/{r['answered']}"]
        for name, r in sorted(found.items(), key=lambda item: float(item[1]["nc_mse"]))
    )
    return table(["estimator", "noise-corrected MSE", "rank correlation", "covered"], body, 2)


# ------------------------------------------------------------------ training
def optimizer() -> str:
    """What `CausalLMOptimizer` gains, and whether its report rows say so."""
    worlds = read("optimizer/summary.json")["worlds"]
    about = {"null": "nothing to gain", "right": "outcome model right",
             "negated": "outcome model of the wrong sign", "words": "features of words alone",
             "hidden": "an important feature left out"}  # fmt: skip
    body = []
    for name, text in about.items():
        world = worlds[name]
        share = [world[key]["share"] for key in (
            "report rows cover V(f), where used", "report rows cover V(f) - V(f0), where used",
            "safe accepts", "do not use")]  # fmt: skip
        body.append([text, world["safe accepts"]["runs"], world["gain in sd of g"], *share])
    head = ["world", "runs", "gain, sd of g", "covers V(f)", "covers V(f) - V(f0)", "accepted",
            "do not use"]  # fmt: skip
    return table(head, body)


def true_value() -> str:
    """Gain in true value of each objective on a world with a known answer."""
    found = read("training/true_value.json")["objectives"]
    body = ([name, r["mean"], r["se"], r["stopped"]] for name, r in found.items())
    return table(["objective", "gain in true value", "standard error", "runs stopped"], body)


def step_time() -> str:
    """A training step's processor time over that of other loops."""
    body = []
    for name in ("4k", "8k", "49k"):
        found = read(f"training/vocabulary_{name}.json")
        over = found["ours_over"]
        body.append([found["sizes"]["vocabulary"],
                     *(over.get(k) for k in ("loop", "plain", "trl kto", "trl dpo"))])  # fmt: skip
    head = ["vocabulary", "hand-written loop", "plain Trainer", "TRL KTO", "TRL DPO"]
    return table(head, body, 2)


def scoring() -> str:
    """Scoring and training passes over those of a naive loop."""
    rows = [row for row in read("scoring.json")["rows"] if row["run"] in ("ours", "trl")]
    keys = {"task": "task", "vocabulary": "vocabulary", "run": "run",
            "processor_over_naive": "processor time over a naive loop's",
            "peak_mb": "peak MB"}  # fmt: skip
    return of_rows(rows, keys, 2)


# ------------------------------------------------------------------ speed
def speed() -> str:
    """Seconds at a million rows, beside plain NumPy."""
    found = [r for r in read("estimators.json")["timings"] if r["n"] == 1_000_000]
    keys = {"task": "task", "policies": "policies", "run": "run", "seconds": "seconds",
            "ratio_to_plain": "over plain NumPy"}  # fmt: skip
    return of_rows(found, keys)


def peers() -> str:
    """Seconds of other packages for the same effect at a million rows."""
    found = [r for r in read("estimators.json")["peers"] if r["n"] == 1_000_000]
    keys = {"peer": "package", "version": "version", "seconds": "its seconds",
            "our_seconds": "ours", "peer_over_ours": "its over ours"}  # fmt: skip
    return of_rows(found, keys, 2)


def speed_claims() -> str:
    """Limits set before measuring, and whether they were kept."""
    keys = {"claim": "claim", "figure": "figure", "limit": "limit", "met": "kept"}
    return of_rows(read("estimators.json")["claims"], keys, 2)


# ------------------------------------------------------------------ preference rewards
def preferences() -> str:
    """Accuracy of reward models as the ratings' correlation grows."""
    rows = pd.read_csv(RESULTS / "preferences/latent-positivity/summary.csv")
    body = []
    for (rho, model), part in rows.groupby(["rho", "model"], sort=True):
        by_test = part.set_index("test")
        low, ood = by_test.loc["id"], by_test.loc["ood"]
        body.append([f"{rho:g}", model, 100 * low.accuracy, 100 * low.paper, 100 * ood.accuracy,
                     100 * ood.paper])  # fmt: skip
    return table(["rho", "model", "same law", "paper", "opposite signs", "paper"], body, 1)


# ------------------------------------------------------------------ words and commands
def _terms(words: dict[str, str]) -> str:
    return "\n\n".join(f"{word}\n: {meaning}" for word, meaning in sorted(
        words.items(), key=lambda item: item[0].lower()))  # fmt: skip


def glossary() -> str:
    """The words of a report on values."""
    return _terms(GLOSSARY)


def glossary_training() -> str:
    """The words of a report on training."""
    return _terms(TRAINING)


def _option(parameter: Any) -> tuple[str, str]:
    names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    metavar = f" `{parameter.metavar}`" if parameter.metavar else ""
    if parameter.param_type_name == "argument":
        return f"`{parameter.metavar}`", getattr(parameter, "help", "") or ""
    return names + metavar, getattr(parameter, "help", "") or ""


def commands() -> str:
    """Every command with its options, as ``--help`` has them."""
    parts = []
    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        summary = " ".join((command.help or "").split("\n\n")[0].split())
        options = (_option(p) for p in command.params if not getattr(p, "hidden", False))
        rows = ([option, " ".join(text.replace("|", "\\|").split())] for option, text in options)
        head = table(["option", "meaning"], ([a.replace("|", "\\|"), b] for a, b in rows))
        parts.append(f"## `{name}`\n\n{summary}\n\n{head}")
    return "\n\n".join(parts)


TABLES: tuple[Callable[[], str], ...] = (
    bands, commands, coverage, efficiency, fuzz, glossary, glossary_training, optimizer, peers,
    penalised_ratios, persuasion, preferences, scoring, speed, speed_claims, step_time,
    true_value, upworthy, verdicts,
)  # fmt: skip


def substitutions() -> dict[str, str]:
    """Every table by its name."""
    return {make.__name__: make() for make in TABLES}
