"""The files of a run or a study, from what it found: CSV tables, strict JSON, pages."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from causal_lm_opt._evaluation import LABELS, Evaluation, Part, Table
from causal_lm_opt._run.chapters import part_chapter
from causal_lm_opt._run.glossary import GLOSSARY
from causal_lm_opt._run.markdown import report_markdown
from causal_lm_opt._run.numbers import number
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
from causal_lm_opt._run.sensitivity import sensitivity_chapters, sensitivity_facts
from causal_lm_opt._run.study_report import study_files
from causal_lm_opt._run.without_logp import ratio_chapters, ratio_facts
from causal_lm_opt.diagnostics.verdict import BLIND_SPOTS

__all__ = [
    "contrasts_csv",
    "diagnostics_json",
    "estimates_csv",
    "report_files",
    "report_html",
    "study_files",
]

ESTIMATE_COLUMNS = (
    "part", "policy", "estimator", "value", "se", "ci_lower", "ci_upper", "band_lower",
    "band_upper", "level", "verdict", "reasons",
)  # fmt: skip
CONTRAST_COLUMNS = (
    "part", "policy", "reference", "estimator", "difference", "se", "ci_lower", "ci_upper",
    "band_lower", "band_upper", "level", "verdict",
)  # fmt: skip
SHORT = 30  # letters of a cell that is not broken over lines
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
    """One row per part, policy and estimator.

    The band holds for all usable policies of an estimator together; empty where there is one. With
    a column ``subgroup`` (empty: all rows) where values by subgroup were asked for, and with
    the truth where it is known.
    """
    grouped = _grouped(evaluation)
    known = any(r.truth is not None for p in evaluation.parts for r in p.rows)
    rows = [
        [
            p.key, r.policy, r.label, r.value, r.se, r.lower, r.upper, *(r.band or (None, None)),
            evaluation.level, r.verdict, " ".join(r.reasons), *([r.subgroup] if grouped else []),
            *([r.truth, "" if r.covers is None else str(r.covers).lower()] if known else []),
        ]
        for p in evaluation.parts
        for r in p.rows
    ]  # fmt: skip
    more = (*(["subgroup"] if grouped else []), *(("truth", "covers_truth") if known else ()))
    return csv_text((*ESTIMATE_COLUMNS, *more), rows)


def _grouped(evaluation: Evaluation) -> bool:
    """Whether values by subgroup were asked for."""
    return any(r.subgroup for p in evaluation.parts for r in p.rows)


def contrasts_csv(evaluation: Evaluation) -> str:
    """One row per part, policy and estimator: the difference from the reference policy.

    Those within subgroups follow, with a column ``subgroup`` as in ``estimates.csv``.
    """
    grouped = _grouped(evaluation)
    rows = [
        [
            p.key, c.policy, c.reference, c.label, c.value, c.se, c.lower, c.upper,
            *(c.band or (None, None)), evaluation.level, c.verdict,
            *([c.subgroup] if grouped else []),
        ]
        for p in evaluation.parts
        for c in (*p.contrasts, *p.subgroup_contrasts)
    ]  # fmt: skip
    return csv_text((*CONTRAST_COLUMNS, *(["subgroup"] if grouped else [])), rows)


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
                **({"subgroup": r.subgroup} if r.subgroup else {}),
                **({} if r.truth is None else {"truth": r.truth, "covers_truth": r.covers}),
                **({} if r.band is None else {"band_lower": r.band[0], "band_upper": r.band[1]}),
            }
            for r in part.rows
        ],
        "contrasts": [
            {
                "policy": c.policy, "reference": c.reference, "estimator": c.label,
                "difference": c.value, "se": c.se, "ci_lower": c.lower, "ci_upper": c.upper,
                **dict(zip(("band_lower", "band_upper"), c.band or (None, None), strict=True)),
                "verdict": c.verdict, "reasons": c.reasons,
                **({"subgroup": c.subgroup} if c.subgroup else {}),
            }
            for c in (*part.contrasts, *part.subgroup_contrasts)
        ],
        "checks": {v.policy: {"estimator": v.estimator, **v.detail.to_dict()} for v in part.views},
        "left_out": [{"estimator": LABELS[n], "reason": why} for n, why in part.left_out],
        "notes": part.notes, **ratio_facts(part), **sensitivity_facts(part),
    }  # fmt: skip


# ------------------------------------------------------------------------------ the page
def report_html(evaluation: Evaluation) -> str:
    """One self-contained page: question, answer, figure, verdict; then the rest, folded away."""
    several = len(evaluation.parts) > 1
    said = "".join(map(paragraph, evaluation.notes))
    lead = f'<p class="ask">{escape(evaluation.question)}</p>' + (said if several else "")
    chapters = [
        Chapter(
            part.title if several else "Answer",
            part_chapter(part, evaluation.level, "" if several else said),
        )
        for part in evaluation.parts
    ]
    if evaluation.warnings:
        chapters.append(Chapter("Warnings of this run", bullets(evaluation.warnings)))
    chapters += [Chapter(t.title, paragraph(t.text) + _plain_table(t)) for t in evaluation.tables]
    chapters += ratio_chapters(evaluation) + sensitivity_chapters(evaluation)
    chapters.append(Chapter("What no figure here can see", paragraph(BLIND_SPOTS)))
    words = folded("What the words mean", definitions(GLOSSARY))
    chapters.append(Chapter("Words", words))
    chapters.append(Chapter("Where this came from", _provenance(evaluation.provenance)))
    version = evaluation.provenance.get("version", "")
    return page(evaluation.title, lead, chapters, f"causal-lm-opt {version}".strip())


def _plain_table(t: Table) -> str:
    """A further table; a column of numbers has one number of decimals."""
    columns = [[row[j] for row in t.rows] for j in range(len(t.columns))]
    cells = [_numbers(c) or [escape(str(v)) for v in c] for c in columns]
    kinds = ["n" if _numbers(c) else "k" if _short(c) else "" for c in columns]
    rows = [list(row) for row in zip(*cells, strict=True)]
    return table("", list(t.columns), rows, kinds)


def _short(values: Sequence[Any]) -> bool:
    """Whether words fit on a line each, even beside numbers on a phone."""
    return max((len(str(v)) for v in values), default=0) <= SHORT


def _numbers(values: Sequence[Any]) -> list[str]:
    """A column of numbers (or n/a) flush with each other; empty for one that holds words."""
    known = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if not known or any(v not in (None, "", "n/a") for v in values if v not in known):
        return []
    finite = [v for v in known if isinstance(v, float) and math.isfinite(v)]
    wanted = [max(3 - math.floor(math.log10(abs(v))), 0) for v in finite if abs(v) >= 1e-3]
    written = [len(f"{v:.4f}".rstrip("0").split(".")[1]) for v in finite]
    decimals = min(max(written, default=0), min(wanted, default=4), 4)
    if any(0 < abs(v) < 1e-3 for v in finite):  # as p-values are
        decimals = max(decimals, 3)

    def cell(value: Any) -> str:
        if value in (None, ""):
            return ""
        if isinstance(value, str) or math.isinf(value):
            return escape(str(value))
        if isinstance(value, int):
            return f"{value:,}"
        if 0 < abs(value) < 0.5 * 10**-decimals:
            return f"&lt; {10**-decimals:.{decimals}f}" if value > 0 else f"{value:.1g}"
        return number(value, decimals)

    return [cell(value) for value in values]


def _provenance(facts: Mapping[str, Any]) -> str:
    if not facts:
        return paragraph("Made by a call of the package, not by the command line.")
    inputs: Sequence[Mapping[str, Any]] = facts.get("inputs", ())
    command = escape(str(facts.get("reproduce", facts.get("command", ""))))
    unbroken = re.sub(r"(?<=\s)(--[a-z-]+)", r'<span class="w">\1</span>', command)
    body = f"<p>To reproduce this report:</p><pre><code>{unbroken}</code></pre>"
    body += paragraph(f"Version {facts.get('version', '')}, seed {facts.get('seed')}.")
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
    given = [
        f"<li><code>{escape(str(k))}: {escape(_argument(v))}</code></li>"
        for k, v in facts.get("arguments", {}).items()
        if v not in (None, [], False)
    ]
    inner = "<ul>" + "".join(given) + "</ul>" if given else ""
    versions = ", ".join(f"{k} {v}" for k, v in facts.get("software", {}).items())
    inner += paragraph(f"Software: {versions}.", "soft") if versions else ""
    return body + (folded("Settings and software", inner) if inner else "")


def _argument(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
