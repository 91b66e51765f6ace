"""The report as Markdown: for a pull request, a notebook or an e-mail."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from causal_lm_opt._evaluation import LABELS, Contrast, Evaluation, Part
from causal_lm_opt._run.glossary import BAND_OF_SUBGROUPS, which_to_read
from causal_lm_opt._run.numbers import (
    answers,
    apart,
    chosen,
    decimals_for,
    interval,
    joint_band,
    number,
    percent,
    row_decimals,
)
from causal_lm_opt._run.sensitivity import sensitivity_markdown
from causal_lm_opt._run.terminal import printable
from causal_lm_opt._run.text import reasons_of, reasons_of_differences
from causal_lm_opt._run.without_logp import ratio_markdown
from causal_lm_opt.diagnostics.verdict import BLIND_SPOTS

__all__ = ["escaped", "report_markdown"]

# Markup, HTML, tables, mathematics; and what turns bare addresses into links.
_SPECIAL = re.compile(r"([\\`*_\[\]<>#|~$&@]|:(?=//)|(?<=www)\.)")


def escaped(text: str) -> str:
    r"""Plain text that Markdown shows as it is: no markup, link, image or HTML comes of it.

    >>> escaped("<b>*x*</b>") == r"\<b\>\*x\*\</b\>"
    True
    """
    return _SPECIAL.sub(r"\\\1", printable(text))


def code(text: str) -> str:
    """A code span that holds whatever backticks the text has.

    >>> code("a `b`")
    '`` a `b` ``'
    """
    shown = printable(text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    pad = " " if "`" in shown else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], right: set[int]) -> str:
    rule = ["---:" if j in right else "---" for j in range(len(head))]
    lines = [head, rule, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def report_markdown(evaluation: Evaluation) -> str:
    """The report's answers, tables, reasons and provenance."""
    out = [f"# {escaped(evaluation.title)}", escaped(evaluation.question)]
    out += [escaped(note) for note in evaluation.notes]
    several = len(evaluation.parts) > 1
    for part in evaluation.parts:
        out += _part(part, evaluation.level, several=several)
    for t in evaluation.tables:
        rows = [[_cell(c) for c in row] for row in t.rows]
        out += [f"## {escaped(t.title)}", escaped(t.text)]
        out.append(_table([escaped(c) for c in t.columns], rows, set()))
    out += ratio_markdown(evaluation) + sensitivity_markdown(evaluation)
    out += ["## What no figure here can see", escaped(BLIND_SPOTS)]
    out += [_bullets(evaluation.warnings)] if evaluation.warnings else []
    out += ["## Where this came from", _provenance(evaluation.provenance)]
    return "\n\n".join(block.rstrip("\n") for block in out if block) + "\n"


def _part(part: Part, level: float, *, several: bool) -> list[str]:
    out = [f"## {escaped(part.title) if several else 'Answer'}"]
    out += [escaped(part.text)] if part.text else []
    out.append(_bullets(answers(part, level)))
    rows = (r.estimator for r in part.rows)
    out.append(escaped(which_to_read(rows, estimated=bool(part.ratios))))
    out.append(_values(part, level))
    choice = chosen(part, level)
    out += [escaped(choice)] if choice else []
    reasons = [f"{who}: {reason}" for reason, who in reasons_of(part)]
    reasons += reasons_of_differences(part)
    if reasons:
        out += ["### Reasons for the verdicts", _bullets(reasons)]
    if part.left_out:
        left = [f"{LABELS[name]}: {why}" for name, why in part.left_out]
        out += ["### Estimators left out", _bullets(left)]
    if part.contrasts:
        out += ["### Differences", _contrasts(part.contrasts, level)]
    if part.subgroup_contrasts:
        out += [
            "### Differences within subgroups", BAND_OF_SUBGROUPS,
            _contrasts(part.subgroup_contrasts, level),
        ]  # fmt: skip
    if part.notes:
        out += ["### Notes", _bullets(part.notes)]
    counts = ", ".join(f"{name.lower()}: {n:,.0f}" for name, n in part.counts.items())
    return [*out, escaped(f"Rows: {counts}.")]


def _values(part: Part, level: float) -> str:
    every = row_decimals(part.rows)
    truth = any(r.truth is not None for r in part.rows)
    head = ["policy", "estimator", "value", "std err", f"{percent(level)} interval", "verdict"]
    rows = []
    for r in part.rows:
        decimals = every[bool(r.subgroup)]
        cells = [
            escaped(r.name), r.label, number(r.value, decimals), number(r.se, decimals),
            interval(r.lower, r.upper, decimals), r.verdict,
        ]  # fmt: skip
        if truth:
            cells += ["" if r.truth is None else number(r.truth, decimals)]
        rows.append(cells)
    return _table([*head, "truth"] if truth else head, rows, {2, 3, 4, 6} if truth else {2, 3, 4})


def _contrasts(contrasts: Sequence[Contrast], level: float) -> str:
    decimals = decimals_for(c.se for c in contrasts)
    head = ["policy", "minus", "estimator", "difference", f"{percent(level)} interval",
            "joint band", "verdict"]  # fmt: skip
    rows = [
        [
            *map(escaped, c.sides), c.label, number(c.value, decimals),
            apart(c.lower, c.upper, decimals), joint_band(c, decimals),
            c.verdict,
        ]
        for c in contrasts
    ]  # fmt: skip
    return _table(head, rows, {3, 4, 5})


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else escaped(str(value))


def _bullets(items: Sequence[str]) -> str:
    return "\n".join(f"- {escaped(item)}" for item in items)


def _provenance(facts: Mapping[str, Any]) -> str:
    if not facts:
        return "Made by a call of the package, not by the command line."
    version = f"causal-lm-opt {facts.get('version', '')}, seed {facts.get('seed')}."
    lines = [f"To reproduce: {code(str(facts.get('reproduce', facts.get('command', ''))))}"]
    lines += [
        f"Input: {code(str(i['path']))}, {i['bytes']:,} bytes, SHA-256 {i['sha256']}"
        for i in facts.get("inputs", ())
    ]
    versions = ", ".join(f"{k} {v}" for k, v in facts.get("software", {}).items())
    return (
        escaped(version)
        + "\n\n"
        + "\n".join(f"- {line}" for line in lines)
        + (f"\n- {escaped(versions)}" if versions else "")
    )
