"""Tables, plots and report of a finished study of preference rewards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causal_lm_opt import __version__
from causal_lm_opt._run.output import csv_text, json_text
from causal_lm_opt._run.page import Chapter, bullets, page, paragraph, table
from causal_lm_opt._run.preference_findings import findings
from causal_lm_opt._run.preference_words import WORDS, Words
from causal_lm_opt._run.terminal import printable
from causal_lm_opt.simulation._blocks import write_atomically
from causal_lm_opt.simulation.preference_study import (
    ADVERSARIAL,
    LATENT,
    OBJECTIVES,
    TESTS,
    PreferenceStudy,
)
from causal_lm_opt.simulation.preference_tables import (
    contrast_table,
    gap_table,
    summary_table,
    t_interval,
)

__all__ = ["FILES", "lambda_table", "rated_summary", "told_facts", "write_study"]

REAL = "ratings"  # stands where simulated worlds have a noise level
TABLES = (
    *("results.csv", "summary.csv", "gaps.csv", "contrasts.csv", "study.json"),
    *("findings.txt", "report.html"),
)
PLOTS = {test: f"{test}.svg" for tests in TESTS.values() for test in tests}
CONTRASTS = "Differences between models on the same pairs, paired by seed (95% t-interval)"
#: What a study writes; a folder that holds anything else is not a study's.
FILES = ("blocks", *TABLES, *PLOTS.values(), "lambda.csv")


def write_study(
    study: PreferenceStudy, results: pd.DataFrame, folder: Path, facts: Mapping[str, Any]
) -> str:
    """Write tables, plots and report of finished fits; return the text to print."""
    folder.mkdir(parents=True, exist_ok=True)
    real = "data" in facts
    summary = rated_summary(results) if real else summary_table(results, study)
    gaps = gap_table(results, study)
    contrasts = contrast_table(results, study)
    if real:
        gaps, contrasts = gaps.assign(paper=np.nan), contrasts.assign(paper=np.nan)
    found = findings(study, results, summary, gaps, contrasts)
    words = WORDS["ratings" if real else study.name]
    told = told_facts(study, facts)
    contents = {
        "results.csv": results.to_csv(index=False, lineterminator="\n"),
        "summary.csv": summary.to_csv(index=False, lineterminator="\n"),
        "gaps.csv": gaps.to_csv(index=False, lineterminator="\n"),
        "contrasts.csv": contrasts.to_csv(index=False, lineterminator="\n"),
        "findings.txt": "".join(f"{said}\n" for said in found),
        "study.json": json_text(told),
    }
    sweep = lambda_table(results)
    if len(sweep):
        contents["lambda.csv"] = csv_text(list(sweep.columns), sweep.to_numpy().tolist())
    plots = _plots(summary, study, real=real)
    contents |= {PLOTS[test]: svg + "\n" for test, svg in plots.items()}
    tables = {"summary": summary, "gaps": gaps, "contrasts": contrasts, "sweep": sweep}
    contents["report.html"] = _report(study, tables, found, plots, words, told)
    for name, content in contents.items():
        write_atomically(folder / name, content.encode())
    return _text(summary, found, words, folder, list(contents))


def told_facts(study: PreferenceStudy, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What ``study.json`` says: with facts on real ratings these, else the study's settings too."""
    settings = {} if "data" in facts else study.facts()
    return {"study": study.name, "version": __version__} | settings | dict(facts)


def rated_summary(results: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy over seeds with t-intervals, where no truth is enumerable."""
    rows = []
    for at, part in results.groupby(["noise", "rho", "model", "test"], sort=False):
        low, high = t_interval(part["accuracy"].to_numpy())
        rows.append(
            dict(zip(("noise", "rho", "model", "test"), at, strict=True))
            | {"lambda": np.nan, "seeds": len(part), "accuracy": float(part["accuracy"].mean()),
               "low": low, "high": high, "paper": np.nan, "true_weights": np.nan,
               "n_train": float(part["n_train"].mean()), "n_test": float(part["n_test"].mean())}
        )  # fmt: skip
    return pd.DataFrame(rows)


def lambda_table(results: pd.DataFrame) -> pd.DataFrame:
    """Accuracies and the discriminator's, by strength of the adversary, where several ran."""
    rows = results[results["model"] == ADVERSARIAL]
    swept = rows.groupby("rho")["lambda"].nunique()
    rows = rows[rows["rho"].isin(swept.index[swept > 1])]
    found = []
    for (noise, rho, strength), part in rows.groupby(["noise", "rho", "lambda"]):
        line: dict[str, Any] = {"noise": noise, "rho": rho, "lambda": strength}
        for test in TESTS[OBJECTIVES]:
            line[test] = float(part.loc[part["test"] == test, "accuracy"].mean())
        for name in ("discriminator", "fresh_discriminator"):
            each = part.drop_duplicates("seed")[f"{name}_accuracy"].to_numpy(dtype=float)
            line[name] = float(each.mean())
            line[f"{name}_low"], line[f"{name}_high"] = t_interval(each)
        found.append(line)
    return pd.DataFrame(found)


def shown_rows(summary: pd.DataFrame, noise: str) -> pd.DataFrame:
    """The rows of one noise level with one strength of the adversary."""
    part = summary[summary["noise"] == noise]
    return part[part["lambda"].isna() | (part["lambda"] == 1.0)]


def _plots(summary: pd.DataFrame, study: PreferenceStudy, *, real: bool) -> dict[str, str]:
    """An SVG for each test, at the first noise level, on the same vertical scale."""
    from causal_lm_opt import plots  # loads matplotlib

    rows = shown_rows(summary, str(summary["noise"].iloc[0]))
    values = rows[["accuracy", "low", "high", "paper"]].to_numpy(dtype=float)
    # Intervals of two seeds may be wider than any accuracy can be.
    limits = (
        float(np.clip(np.nanmin(values) - 0.01, 0.4, 0.49)),
        float(np.clip(np.nanmax(values), None, np.nanmax(values[:, [0, 3]]) + 0.1)) + 0.01,
    )
    out = {}
    for test in TESTS[study.name]:
        ax: Any = plots.preference_plot(
            rows[rows["test"] == test], ax=plots.new_axes(3.8), limits=limits,
            x="correlation" if study.name == LATENT else "share", title=WORDS[test].title,
        )  # fmt: skip
        out[test] = plots.to_svg(
            ax.figure, key=test, title=WORDS[test].title, description="Figures: summary.csv."
        )
    return out


# ------------------------------------------------------------------------------ tables
def _cell(row: Mapping[str, Any] | None) -> str:
    """Accuracy in per cent with its interval, and the paper's."""
    if row is None:
        return ""
    text = f"{100 * row['accuracy']:.1f}"
    if np.isfinite(row["low"]):
        text += f" ({100 * row['low']:.1f} to {100 * row['high']:.1f})"
    return text


def _wide(rows: pd.DataFrame, study: PreferenceStudy) -> tuple[list[str], list[list[str]]]:
    """A line per rho and model: each test's accuracy beside the paper's."""
    tests = TESTS[study.name]
    paper = bool(np.isfinite(rows["paper"].to_numpy(dtype=float)).any())
    head = ["rho", "model"]
    for test in tests:
        head += [test, *([f"{test}, paper"] if paper else [])]
    lines = []
    for rho, model in dict.fromkeys(zip(rows["rho"], rows["model"], strict=True)):
        at = rows[(rows["rho"] == rho) & (rows["model"] == model)].set_index("test")
        line = [f"{rho:g}", str(model)]
        for test in tests:
            row = dict(at.loc[test]) if test in at.index else None
            known = "" if row is None or not np.isfinite(row["paper"]) else row["paper"]
            line += [_cell(row), *([f"{100 * known:.1f}" if known != "" else ""] if paper else [])]
        lines.append(line)
    return head, lines


def _gap_lines(gaps: pd.DataFrame, noise: str) -> tuple[list[str], list[list[str]]]:
    part = gaps[(gaps["noise"] == noise) & (gaps["lambda"].isna() | (gaps["lambda"] == 1.0))]
    head = ["rho", "model", "gap, points", "paper", "lost since the first rho, points"]
    lines = []
    for row in part.to_dict("records"):
        known = f"{100 * row['paper']:.1f}" if np.isfinite(row["paper"]) else ""
        lines.append([f"{row['rho']:g}", str(row["model"]), _points(row, "gap", "low", "high"),
                      known, _points(row, "lost", "lost_low", "lost_high")])  # fmt: skip
    return head, lines


def _contrast_lines(contrasts: pd.DataFrame, noise: str) -> tuple[list[str], list[list[str]]]:
    head = ["rho", "models", "test", "difference, points", "paper"]
    lines = []
    for row in contrasts[contrasts["noise"] == noise].to_dict("records"):
        known = f"{100 * row['paper']:+.1f}" if np.isfinite(row["paper"]) else ""
        lines.append([f"{row['rho']:g}", str(row["contrast"]), str(row["test"]),
                      _points(row, "difference", "low", "high"), known])  # fmt: skip
    return head, lines


def _points(row: Mapping[Any, Any], value: str, low: str, high: str) -> str:
    if not np.isfinite(row[value]):
        return ""
    text = f"{100 * row[value]:+.1f}"
    if np.isfinite(row[low]):
        text += f" ({100 * row[low]:+.1f} to {100 * row[high]:+.1f})"
    return text


# ------------------------------------------------------------------------------ report
def _report(
    study: PreferenceStudy,
    tables: Mapping[str, pd.DataFrame],
    found: Sequence[str],
    plots: Mapping[str, str],
    words: Words,
    told: Mapping[str, Any],
) -> str:
    summary, sweep = tables["summary"], tables["sweep"]
    figures = "".join(
        f'<figure class="main">{svg}<figcaption><p>{escape(WORDS[test].lead)}</p></figcaption>'
        "</figure>"
        for test, svg in plots.items()
    )
    chapters = [
        Chapter("What was found", bullets(found) + figures),
        Chapter("What was asked", bullets(words.asked)),
    ]
    for noise in dict.fromkeys(summary["noise"]):
        title = "Figures" if noise == REAL else f"Figures at {noise} noise"
        body = _html(*_wide(shown_rows(summary, noise), study), caption=words.table)
        body += _html(*_gap_lines(tables["gaps"], noise), caption=words.gaps)
        body += _html(*_contrast_lines(tables["contrasts"], noise), caption=CONTRASTS)
        chapters.append(Chapter(title, body))
    if len(sweep):
        head = [*sweep.columns]
        lines = [[f"{v:.3f}" if isinstance(v, float) else str(v) for v in row]
                 for row in sweep.to_numpy().tolist()]  # fmt: skip
        chapters.append(Chapter("Strength of the adversary", _html(head, lines,
                                "Accuracies and the discriminator's, over seeds")))  # fmt: skip
    chapters.append(Chapter("Why ours differ from the paper's", bullets(words.differ)))
    chapters.append(Chapter("Settings", f"<pre>{escape(json_text(told))}</pre>"))
    lead = paragraph(words.lead, "ask")
    if told.get("quick"):
        lead += paragraph("A quick look at tiny sizes: it shows that all runs, not what is true.")
    return page(words.title, lead, chapters, f"causal-lm-opt {__version__}")


def _html(head: Sequence[str], lines: Sequence[Sequence[str]], caption: str) -> str:
    kinds = ["", "w", *["n"] * (len(head) - 2)]
    return table(caption, head, [[escape(c) for c in line] for line in lines], kinds)


def _text(
    summary: pd.DataFrame, found: Sequence[str], words: Words, folder: Path, written: Sequence[str]
) -> str:
    lines = [words.lead, ""]
    keep = ["noise", "rho", "model", "lambda", "test", "seeds", "accuracy", "low", "high", "paper"]
    shown = summary[keep].round(3).to_string(index=False, na_rep="")
    lines += [printable(row) for row in shown.splitlines()]
    lines += ["", *(f"- {printable(said)}" for said in found)]
    lines += ["", f"Written to {printable(str(folder))}:", "  " + "  ".join(written)]
    return "\n".join(lines) + "\n"
