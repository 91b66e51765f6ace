"""The study of objectives under a confounded outcome model, from the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causal_lm_opt import __version__
from causal_lm_opt._run.optimize_settings import check_installed
from causal_lm_opt._run.output import json_text
from causal_lm_opt._run.page import Chapter, bullets, page, paragraph, table
from causal_lm_opt._run.study_folder import check_study_folder, study_run, warn_of_replaced
from causal_lm_opt._run.terminal import printable
from causal_lm_opt.simulation._blocks import write_atomically
from causal_lm_opt.simulation._claim import read_facts
from causal_lm_opt.simulation.confounding_tables import (
    Claim,
    claims,
    coverage_table,
    summary_table,
    tidy,
    win_rate_table,
)

__all__ = ["LEAD", "NAME", "simulate_confounding", "write_confounding"]

NAME = "lm-confounding"
LEAD = (
    "Which training objective survives an outcome model that a confounder has turned? Models are "
    "trained by CPO, OO-RLHF, DR-CPO and the targeted objective, and judged by the truth."
)
SHOWN = {"ft": "FT", "cpo": "CPO", "oo": "OO-RLHF", "dr": "DR-CPO", "targeted": "targeted"}
ASKED = (
    "The policy is that of the last step, for every objective after as many steps; what a choice "
    "by held-out rows would have taken is beside it (chosen_true_value).",
    "right: the outcome model is ridge regression on what outcomes respond to, cross-fitted. "
    "confounded b: its predictions' effects times 1 - b about their mean, so that b = 2 is the "
    "wrong sign. wrong design: log-probabilities of a design that the log was not dealt by. both "
    "wrong: that and b = 2.",
    "FT is the start, a tiny GPT that imitates the design. CPO knows no outcome model, OO-RLHF and "
    "the targeted objective know no log-probabilities: where a scenario does not touch them the "
    "run of another scenario stands (run_of).",
    "Values and intervals are the report rows' (doubly robust, odds on what outcomes respond to); "
    "train_value is what the objective's own estimate says on the rows it was trained on.",
    "Effects and claimed designs were fixed before the first result; noise, steps and learning "
    "rates after pilot runs of other seeds.",
)


def simulate_confounding(
    out: str | Path,
    *,
    data: str | None = None,
    seeds: int | None = None,
    seed: int = 0,
    jobs: int = 1,
    quick: bool = False,
    progress: bool = True,
) -> str:
    """Run the study, or what of it is not in ``out`` yet; return the text to print.

    Parameters
    ----------
    out : path
        New, empty, or the folder of an earlier run of the same settings.
    data : path, optional
        Folder of the Hong Kong experiment's files; without it, the world of appeals alone.
    seeds, seed : int
        How many (default 10, quick 2), and the first.
    jobs, quick, progress
        As for other studies.

    Raises
    ------
    OutputError
        The folder holds something else, another study or this one of other settings or worlds, or
        cannot be written.
    """
    folder = check_study_folder(out)
    check_installed(f"simulate {NAME}")
    from causal_lm_opt.lm.confounding_study import (  # loads torch
        ConfoundingStudy,
        appeals_world,
        confounding_facts,
        hong_kong_world,
        run_confounding_study,
    )

    study = ConfoundingStudy(seeds or 10, seed)
    if quick:
        study = ConfoundingStudy.quick(seeds or 2, seed)
    worlds = [] if data is None else [hong_kong_world(data)]
    worlds.append(appeals_world())
    best = {w.name: float(w.world.best_value) for w in worlds}
    facts = confounding_facts(study, worlds) | {"quick": quick, "best_values": best}
    held = read_facts(folder)
    with study_run(out, folder):
        rows, gradients = run_confounding_study(
            study, worlds, folder, jobs=jobs, progress=progress, facts=facts
        )
        text = write_confounding(rows, gradients, best, folder, facts)
    warn_of_replaced(held, read_facts(folder) or {})
    return text


# ------------------------------------------------------------------------------ files
def write_confounding(
    rows: pd.DataFrame, gradients: pd.DataFrame, best: Mapping[str, float], folder: Path,
    facts: Mapping[str, Any],
) -> str:  # fmt: skip
    """Write tables, plots and report of finished runs; return the text to print."""
    folder.mkdir(parents=True, exist_ok=True)
    results = tidy(rows)
    short = rows.loc[rows["short"].astype(bool), ["seed", "objective", "true_value"]]
    found = claims(results, best, short, gradients)
    tables = {
        "results.csv": results,
        "summary.csv": summary_table(results, best),
        "claims.csv": pd.DataFrame([vars(c) for c in found]),
        "coverage.csv": coverage_table(results),
        "win_rates.csv": _win_rates(results),
        "spread.csv": short,
        "gradients.csv": gradients,
    }
    contents = {
        name: frame.to_csv(index=False, lineterminator="\n") for name, frame in tables.items()
    }
    plots = _plots(results, tables["summary.csv"], best, facts)
    contents |= {name: svg + "\n" for name, svg in plots.items()}
    contents["study.json"] = json_text(dict(facts))
    contents["report.html"] = _report(tables, found, plots, facts)
    for name, content in contents.items():
        write_atomically(folder / name, content.encode())
    return _text(tables["summary.csv"], found, folder, list(contents), facts)


def _win_rates(results: pd.DataFrame) -> pd.DataFrame:
    """Every world and scenario, with the published rates where they are of the same pair."""
    parts = []
    for world, scenario, strength in dict.fromkeys(
        zip(results["world"], results["scenario"], results["strength"], strict=True)
    ):
        part = win_rate_table(results, world, scenario, strength)
        part.insert(0, "world", world)
        part.insert(1, "scenario", scenario)
        part.insert(2, "strength", strength)
        parts.append(part)
    made = pd.concat(parts, ignore_index=True)
    from causal_lm_opt.lm import LIN24_TABLE3  # loads torch

    published, names = LIN24_TABLE3["hong_kong"], {"ft": "FT", "oo": "OO-RLHF", "cpo": "CPO",
                                                   "dr": "DR-CPO"}  # fmt: skip
    made["lin24"] = [
        published.get((names.get(a, ""), names.get(b, "")), np.nan)
        for a, b in zip(made["first"], made["second"], strict=True)
    ]
    return made


def scene_of(scenario: str, strength: float) -> str:
    """A scenario in words."""
    return f"{scenario} {strength:g}" if scenario == "confounded" else str(scenario)


def _plots(
    results: pd.DataFrame,
    summary: pd.DataFrame,
    best: Mapping[str, float],
    facts: Mapping[str, Any],
) -> dict[str, str]:
    from causal_lm_opt import plots  # loads matplotlib

    every = int(facts["training"]["eval_every"])
    out = {}
    for world, most in best.items():
        part = summary[summary["world"] == world]
        scenes = [scene_of(s, b) for s, b in zip(part["scenario"], part["strength"], strict=True)]
        start = float(part.loc[part["objective"] == "ft", "true_value"].iloc[0])
        height = 1.2 + 0.8 * len(set(scenes))
        ax: Any = plots.confounding_plot(
            part.assign(scene=scenes), start=start, best=most, ax=plots.new_axes(height),
            title=f"{world}: mean over seeds, 95% t-interval",
        )  # fmt: skip
        key = f"reached-{world}"
        out[f"{key}.svg"] = plots.to_svg(
            ax.figure, key=key, title=f"True value reached, {world}",
            description="Figures: summary.csv.",
        )  # fmt: skip
        at = (results["world"] == world) & (results["scenario"] == "right")
        paths = {
            o: [[float(v) for v in str(p).split()] for p in results.loc[
                at & (results["objective"] == o), "path"
            ]]
            for o in ("cpo", "oo", "dr", "targeted")
        }  # fmt: skip
        ax = plots.training_paths_plot(
            paths, every=every, start=start, best=most, ax=plots.new_axes(3.6),
            title=f"{world}, nothing is wrong: by step",
        )  # fmt: skip
        key = f"paths-{world}"
        out[f"{key}.svg"] = plots.to_svg(
            ax.figure, key=key, title=f"True value by step, {world}",
            description="Figures: results.csv, column path.",
        )  # fmt: skip
    return out


# ------------------------------------------------------------------------------ report
def _claim(c: Claim) -> list[str]:
    interval = f" ({c.low:.2f} to {c.high:.2f})" if np.isfinite(c.low) else ""
    holds = "holds" if c.holds else "does not hold"
    return [c.part, c.world, c.text, holds, f"{c.estimate:.2f}{interval}", c.wanted]


def _report(
    tables: Mapping[str, pd.DataFrame], found: Sequence[Claim], plots: Mapping[str, str],
    facts: Mapping[str, Any],
) -> str:  # fmt: skip
    figures = "".join(f'<figure class="main">{svg}</figure>' for svg in plots.values())
    summary, coverage = tables["summary.csv"], tables["coverage.csv"]
    head = ["world", "scenario", "objective", "true value", "share closed", "chosen instead",
            "report rows' ESS", "do not use", "claimed by training rows"]  # fmt: skip
    lines = [
        [r["world"], scene_of(r["scenario"], r["strength"]), SHOWN[r["objective"]],
         f"{r['true_value']:.1f} ({r['low']:.1f} to {r['high']:.1f})", f"{r['closed']:.0%}",
         _number(r["chosen_true_value"], 1), _number(r["ess"], 2), f"{r['do_not_use']:.0%}",
         _number(r["train_value"], 1)]
        for r in summary.to_dict("records")
    ]  # fmt: skip
    chapters = [
        Chapter("What was claimed, and what is true", _table(
            "Paired by seed; shares and differences in points with their intervals",
            ["part", "world", "claim", "", "estimate", "wanted"], [_claim(c) for c in found], 0,
        ) + figures),
        Chapter("What was asked", bullets(ASKED)),
        Chapter("True values", _table("Means over seeds, 95% t-intervals", head, lines, 3)),
        Chapter("Honest and dishonest intervals", _table(
            "How often 95% intervals hold the true value (Wilson); report rows: where not 'do not "
            "use'; bias is estimate less truth",
            [*map(str, coverage.columns)],
            [[v if isinstance(v, str) else _number(v, 2) for v in row]
             for row in coverage.to_numpy().tolist()], 2,
        )),
        Chapter("Win rates", _win_chapter(tables["win_rates.csv"])),
        Chapter("Settings", f"<pre>{escape(json_text(dict(facts)))}</pre>"),
    ]  # fmt: skip
    lead = paragraph(LEAD, "ask")
    if facts.get("quick"):
        lead += paragraph("A quick look at tiny sizes: it shows that all runs, not what is true.")
    title = "Objectives under a confounded outcome model"
    return page(title, lead, chapters, f"causal-lm-opt {__version__}")


def _win_chapter(rates: pd.DataFrame) -> str:
    head = ["world", "scenario", "first", "beats", "by the truth", "published, judged by GPT-4"]
    pairs = rates[rates["lin24"].notna()]
    lines = [
        [r["world"], scene_of(r["scenario"], r["strength"]), SHOWN[r["first"]],
         SHOWN[r["second"]], f"{r['rate']:.2f} ({r['low']:.2f} to {r['high']:.2f})",
         f"{r['lin24']:.3f}"]
        for r in pairs.to_dict("records")
    ]  # fmt: skip
    told = (
        "Share of pairs of fresh texts in which the first has the larger mean outcome, equal ones "
        "half; beside Table 3 (Hong Kong, half width .022) of Lin, Ben-Michael and Morency (2024), "
        "whose policies and judge are other ones: beside, not against."
    )
    return _table(told, head, lines, 4)


def _number(value: Any, digits: int) -> str:
    return "" if value is None or not np.isfinite(value) else f"{value:.{digits}f}"


def _table(caption: str, head: Sequence[str], lines: Sequence[Sequence[str]], words: int) -> str:
    kinds = ["w"] * words + ["n"] * (len(head) - words) if words else [""] * len(head)
    return table(caption, head, [[escape(str(c)) for c in line] for line in lines], kinds)


def _text(
    summary: pd.DataFrame, found: Sequence[Claim], folder: Path, written: Sequence[str],
    facts: Mapping[str, Any],
) -> str:  # fmt: skip
    keep = ["world", "scenario", "strength", "objective", "seeds", "true_value", "low", "high",
            "closed", "ess", "do_not_use", "train_value"]  # fmt: skip
    shown = summary[keep].round(2).to_string(index=False, na_rep="")
    lines = [LEAD, "", *(printable(row) for row in shown.splitlines()), ""]
    for c in found:
        part, world, text, holds, estimate, wanted = _claim(c)
        lines.append(printable(f"({part}) {world}: {text}: {estimate}; wanted {wanted}: {holds}"))
    if facts.get("quick"):
        lines += ["", "A quick look at tiny sizes: it shows that all runs, not what is true."]
    lines += ["", f"Written to {printable(str(folder))}:", "  " + "  ".join(written)]
    return "\n".join(lines) + "\n"
