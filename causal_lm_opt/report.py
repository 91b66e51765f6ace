"""The files of a run, from what it found: two CSV tables, strict JSON and one HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from causal_lm_opt._evaluation import LABELS, LOGGING, Evaluation, Part, Row
from causal_lm_opt._run.glossary import GLOSSARY, which_to_read
from causal_lm_opt._run.markdown import report_markdown
from causal_lm_opt._run.numbers import answers, decimals_for, interval, named, number, percent
from causal_lm_opt._run.output import csv_text, json_text
from causal_lm_opt._run.page import (
    Chapter,
    bullets,
    definitions,
    folded,
    page,
    paragraph,
    table,
)
from causal_lm_opt._run.text import reasons_of
from causal_lm_opt.diagnostics.verdict import BLIND_SPOTS

__all__ = ["contrasts_csv", "diagnostics_json", "estimates_csv", "report_files", "report_html"]

#: Verdicts differ by shape as well as by colour.
CLASSES = {"trustworthy": "ok", "caution": "careful", "do not use": "no"}
ESTIMATE_COLUMNS = (
    "part", "policy", "estimator", "value", "se", "ci_lower", "ci_upper", "level", "verdict",
    "reasons",
)  # fmt: skip
CONTRAST_COLUMNS = (
    "part", "policy", "reference", "estimator", "difference", "se", "ci_lower", "ci_upper",
    "band_lower", "band_upper", "level", "verdict",
)  # fmt: skip
DIAGNOSTICS_FORMAT = "causal-lm-opt diagnostics 1"


def report_files(evaluation: Evaluation) -> dict[str, str]:
    """Content of every file of a run's folder, by name.

    Examples
    --------
    >>> from causal_lm_opt import LoggedData
    >>> from causal_lm_opt._evaluate import evaluate_log
    >>> log = LoggedData(text=["a", "b", "a", "b"], outcome=[1.0, 2.0, 3.0, 6.0])
    >>> sorted(report_files(evaluate_log(log)))
    ['contrasts.csv', 'diagnostics.json', 'estimates.csv', 'report.html', 'report.md']
    """
    return {
        "estimates.csv": estimates_csv(evaluation),
        "contrasts.csv": contrasts_csv(evaluation),
        "diagnostics.json": diagnostics_json(evaluation),
        "report.html": report_html(evaluation),
        "report.md": report_markdown(evaluation),
    }


def estimates_csv(evaluation: Evaluation) -> str:
    """One row per part, policy and estimator; with the truth where it is known."""
    known = any(r.truth is not None for p in evaluation.parts for r in p.rows)
    rows = [
        [
            p.key, r.policy, r.label, r.value, r.se, r.lower, r.upper, evaluation.level,
            r.verdict, " ".join(r.reasons),
            *([r.truth, "" if r.covers is None else str(r.covers).lower()] if known else []),
        ]
        for p in evaluation.parts
        for r in p.rows
    ]  # fmt: skip
    return csv_text((*ESTIMATE_COLUMNS, *(("truth", "covers_truth") if known else ())), rows)


def contrasts_csv(evaluation: Evaluation) -> str:
    """One row per part, policy and estimator: the difference from the reference policy."""
    rows = [
        [
            p.key, c.policy, c.reference, c.label, c.value, c.se, c.lower, c.upper, c.band_lower,
            c.band_upper, evaluation.level, c.verdict,
        ]
        for p in evaluation.parts
        for c in p.contrasts
    ]  # fmt: skip
    return csv_text(CONTRAST_COLUMNS, rows)


def diagnostics_json(evaluation: Evaluation) -> str:
    """Everything a program may want: arguments, inputs, verdicts, reasons and figures."""
    content = {
        "format": DIAGNOSTICS_FORMAT,
        **evaluation.provenance,
        "question": evaluation.question,
        "level": evaluation.level,
        "blind_spots": BLIND_SPOTS,
        "notes": evaluation.notes,
        "warnings": evaluation.warnings,
        "parts": [_part_facts(part) for part in evaluation.parts],
        "tables": [
            {
                "title": t.title,
                "text": t.text,
                "rows": [dict(zip(t.columns, row, strict=True)) for row in t.rows],
            }
            for t in evaluation.tables
        ],
    }
    return json_text(content)


def _part_facts(part: Part) -> dict[str, Any]:
    return {
        "part": part.key,
        "title": part.title,
        "text": part.text,
        "outcome": part.unit,
        "counts": dict(part.counts),
        "estimates": [
            {
                "policy": r.policy, "estimator": r.label, "value": r.value, "se": r.se,
                "ci_lower": r.lower, "ci_upper": r.upper, "verdict": r.verdict,
                "reasons": r.reasons, "figures": dict(r.figures),
                **({} if r.truth is None else {"truth": r.truth, "covers_truth": r.covers}),
            }
            for r in part.rows
        ],
        "contrasts": [
            {
                "policy": c.policy, "reference": c.reference, "estimator": c.label,
                "difference": c.value, "se": c.se, "ci_lower": c.lower, "ci_upper": c.upper,
                "band_lower": c.band_lower, "band_upper": c.band_upper, "verdict": c.verdict,
            }
            for c in part.contrasts
        ],
        "checks": {v.policy: {"estimator": v.estimator, **v.detail.to_dict()} for v in part.views},
        "left_out": [{"estimator": LABELS[n], "reason": why} for n, why in part.left_out],
        "notes": part.notes,
    }  # fmt: skip


# ------------------------------------------------------------------------------ the page
def report_html(evaluation: Evaluation) -> str:
    """One self-contained page."""
    lead = f'<p class="ask">{escape(evaluation.question)}</p>' + "".join(
        map(paragraph, evaluation.notes)
    )
    several = len(evaluation.parts) > 1
    chapters = [_part_chapter(part, evaluation.level, several=several) for part in evaluation.parts]
    chapters += [Chapter(t.title, paragraph(t.text) + _plain_table(t)) for t in evaluation.tables]
    blind = paragraph(BLIND_SPOTS) + bullets(evaluation.warnings)
    chapters.append(Chapter("What no figure here can see", blind))
    words = folded("What the words mean", definitions(GLOSSARY))
    chapters.append(Chapter("Words", words))
    chapters.append(Chapter("Where this came from", _provenance(evaluation.provenance)))
    version = evaluation.provenance.get("version", "")
    return page(evaluation.title, lead, chapters, f"causal-lm-opt {version}".strip())


def _part_chapter(part: Part, level: float, *, several: bool) -> Chapter:
    counts = ", ".join(f"{name.lower()}: {n:,.0f}" for name, n in part.counts.items())
    body = paragraph(part.text) if part.text else ""
    body += bullets(answers(part, level), "answers")
    advice = which_to_read(r.estimator for r in part.rows)
    body += paragraph(advice) if advice else ""
    body += _forest(part, level)
    body += _value_table(part, level)
    reasons = [f"{who}: {reason}" for reason, who in reasons_of(part)]
    if reasons:
        body += "<h3>Reasons for the verdicts</h3>" + bullets(reasons)
    if part.left_out:
        left = [f"{LABELS[name]}: {why}" for name, why in part.left_out]
        body += "<h3>Estimators left out</h3>" + bullets(left)
    if part.contrasts:
        body += _contrast_table(part, level)
    body += _behind(part)
    body += _diagnostics(part)
    if part.notes:
        body += "<h3>Notes</h3>" + bullets(part.notes)
    body += paragraph(f"Rows: {counts}.", "soft")
    return Chapter(part.title if several else "Answer", body)


def _forest(part: Part, level: float) -> str:
    if not part.figures:
        return ""
    from causal_lm_opt._run.figures import forest_figure  # loads matplotlib

    return forest_figure(part, level)


def _behind(part: Part) -> str:
    """What stands behind the values of the policies that are shown."""
    if not part.views:
        return ""
    from causal_lm_opt._run.figures import policy_details  # loads matplotlib

    policies = dict.fromkeys(r.policy for r in part.rows if not r.subgroup and r.policy != LOGGING)
    told = ""
    if len(policies) > len(part.views):
        told = paragraph(f"The {len(part.views)} policies with the largest values.", "soft")
    shown = (
        policy_details(view, part.unit, f"{part.key}-{k}") for k, view in enumerate(part.views)
    )
    return "<h3>What stands behind the values</h3>" + told + "".join(shown)


def _verdict(level: str) -> str:
    return f'<span class="v {CLASSES[level]}">{escape(level)}</span>'


def _value_table(part: Part, level: float) -> str:
    decimals = decimals_for(r.se for r in part.rows)
    columns = ["Policy", "Estimator", "Value", "Std. error", f"{percent(level)} interval"]
    kinds = ["", "w", "n", "n", "n"]
    truth = any(r.truth is not None for r in part.rows)
    if truth:
        columns, kinds = [*columns, "Truth", "Covered"], [*kinds, "n", "w"]
    rows = [
        [
            escape(r.policy), escape(r.label), number(r.value, decimals), number(r.se, decimals),
            interval(r.lower, r.upper, decimals),
            *(_truth_cells(r, decimals) if truth else ()), _verdict(r.verdict),
        ]
        for r in part.rows
    ]  # fmt: skip
    return table(f"Values: mean of {part.unit}", [*columns, "Verdict"], rows, [*kinds, "w"])


def _truth_cells(row: Row, decimals: int) -> tuple[str, str]:
    if row.truth is None:
        return "", ""
    return number(row.truth, decimals), "yes" if row.covers else "<strong>no</strong>"


def _contrast_table(part: Part, level: float) -> str:
    decimals = decimals_for(c.se for c in part.contrasts)
    reference = part.contrasts[0].reference
    rows = [
        [
            escape(c.policy), escape(c.label), number(c.value, decimals), number(c.se, decimals),
            interval(c.lower, c.upper, decimals), interval(c.band_lower, c.band_upper, decimals),
            _verdict(c.verdict),
        ]
        for c in part.contrasts
    ]  # fmt: skip
    columns = [
        "Policy", "Estimator", "Difference", "Std. error", f"{percent(level)} interval",
        "Joint band", "Verdict",
    ]  # fmt: skip
    text = (
        f"The joint bands hold for all policies of an estimator together in {percent(level)} of "
        "samples: read them when choosing among policies."
    )
    kinds = ["", "w", "n", "n", "n", "n", "w"]
    return (
        f"<h3>Differences from {escape(named(reference))}</h3>"
        + paragraph(text)
        + table(f"Differences of the mean of {part.unit}", columns, rows, kinds)
    )


def _diagnostics(part: Part) -> str:
    with_figures = [r for r in part.rows if r.figures]
    names = list(dict.fromkeys(name for r in with_figures for name in r.figures))
    if not names:
        return ""
    rows = [
        [
            escape(r.policy),
            escape(r.label),
            *("" if r.figures.get(n) is None else f"{r.figures[n]:.4g}" for n in names),
        ]
        for r in with_figures
    ]
    columns = ["Policy", "Estimator", *(n.replace("_", " ") for n in names)]
    kinds = ["", "w", *("n" for _ in names)]
    inner = table("Figures behind the verdicts; empty where not defined.", columns, rows, kinds)
    return folded("Diagnostics", inner)


def _plain_table(t: Any) -> str:
    def cell(value: Any) -> str:
        return f"{value:.4g}" if isinstance(value, float) else escape(str(value))

    numeric = [
        bool(t.rows) and all(isinstance(row[j], int | float) for row in t.rows)
        for j in range(len(t.columns))
    ]
    rows = [[cell(value) for value in row] for row in t.rows]
    return table("", list(t.columns), rows, ["n" if n else "w" for n in numeric])


def _provenance(facts: Mapping[str, Any]) -> str:
    if not facts:
        return paragraph("Made by a call of the package, not by the command line.")
    inputs: Sequence[Mapping[str, Any]] = facts.get("inputs", ())
    body = "<p>To reproduce this report:</p>"
    body += f"<p><code>{escape(str(facts.get('reproduce', facts.get('command', ''))))}</code></p>"
    body += f"<p>Version {escape(str(facts.get('version', '')))}, seed {facts.get('seed')}.</p>"
    arguments = facts.get("arguments", {})
    given = [
        f"<li><code>{escape(str(k))}: {escape(_argument(v))}</code></li>"
        for k, v in arguments.items()
        if v not in (None, [], False)
    ]
    body += "<ul>" + "".join(given) + "</ul>" if given else ""
    rows = [
        [
            escape(i["role"]),
            f"<code>{escape(i['path'])}</code>",
            f"{i['bytes']:,}",
            f"<code>{i['sha256']}</code>",
        ]
        for i in inputs
    ]
    if rows:
        body += table("Input files", ["Role", "File", "Bytes", "SHA-256"], rows, ["", "", "n", ""])
    versions = ", ".join(f"{k} {v}" for k, v in facts.get("software", {}).items())
    return body + (paragraph(f"Software: {versions}.", "soft") if versions else "")


def _argument(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
