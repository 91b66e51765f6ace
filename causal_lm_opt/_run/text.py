"""The summary printed on a terminal."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from causal_lm_opt._evaluation import LABELS, Contrast, Evaluation, Part, Row
from causal_lm_opt._run.glossary import figure_cell, figure_of
from causal_lm_opt._run.numbers import (
    MANY,
    band_decimals,
    chosen,
    counted,
    decimals_for,
    differs,
    interval,
    named,
    number,
    percent,
    row_decimals,
    speaking,
)
from causal_lm_opt._run.terminal import printable, width
from causal_lm_opt.diagnostics.verdict import BLIND_SPOTS

__all__ = ["aligned", "reasons_of", "reasons_of_differences", "summary"]

LINE = 96
#: The figures printed of every policy's weights, under their short names.
COLUMNS = {
    "ESS": "ess", "largest share": "largest_share", "Pareto k": "pareto_k",
    "mean weight": "mean_weight", "sd(log ratio)": "sd_log_ratio",
    "rows never written": "zero_share", "residual": "residual",
}  # fmt: skip
DECIMALS = {"pareto_k": 2, "mean_weight": 3, "sd_log_ratio": 2}


def summary(evaluation: Evaluation, folder: Path | str) -> str:
    """The question, tables, reasons, and where the files are."""
    lines = [*_wrapped(evaluation.question), ""]
    for part in evaluation.parts:
        if len(evaluation.parts) > 1:
            lines += [printable(part.title), "=" * width(printable(part.title))]
            lines += _wrapped(part.text) if part.text else []
            lines.append("")
        lines += [*_value_table(part, evaluation.level), ""]
        lines += _contrast_table(part, evaluation.level)
        choice = chosen(part, evaluation.level)
        lines += [*_wrapped(choice), ""] if choice else []
        lines += _figure_table(part)
        lines += _reasons(part)
        counts = ", ".join(f"{name.lower()}: {n:,.0f}" for name, n in part.counts.items())
        lines += [*_wrapped(f"Rows: {counts}."), ""] if counts else []
    for note in evaluation.notes:
        lines += [*_wrapped(note), ""]
    if evaluation.tables:
        titles = "; ".join(t.title for t in evaluation.tables)
        lines += [*_wrapped(f"Further tables, in report.html and report.md: {titles}"), ""]
    lines += [*_wrapped(BLIND_SPOTS), "", f"Written to {printable(str(folder))}:"]
    lines.append("  report.html  report.md  estimates.csv  contrasts.csv  diagnostics.json")
    return "\n".join(lines) + "\n"


def _value_table(part: Part, level: float) -> list[str]:
    decimals = row_decimals(part.rows)
    head = ["policy", "estimator", "value", "std err", f"{percent(level)} interval", "verdict"]
    with_truth = any(r.truth is not None for r in part.rows)
    if with_truth:
        head[5:5] = ["truth", "covered"]
    rows = [_cells(r, decimals[bool(r.subgroup)], with_truth=with_truth) for r in part.rows]
    return aligned(head, rows, right={2, 3, 4, *({5} if with_truth else ())})


def _contrast_table(part: Part, level: float) -> list[str]:
    """Differences from the reference with their joint band, one line a policy.

    Of more than eight policies only those whose band leaves 0 out have a line.
    """
    found = [c for _, c in speaking(part) if c is not None]
    if not found:
        return []
    shown = found if len(found) <= MANY else [c for c in found if differs(c)]
    decimals = decimals_for(c.se for c in found)
    rows = [
        [c.policy, c.label, number(c.value, decimals), _band(c, decimals), c.verdict] for c in shown
    ]
    what = "joint band" if len(found) > 1 else f"{percent(level)} interval"
    said = f"Differences from {named(found[0].reference)}"
    if len(found) > 1:
        said += f"; the {percent(level)} bands hold for all policies of an estimator together"
    head = ["policy", "estimator", "difference", what, "verdict"]
    lines = [*_wrapped(said + ":"), *(aligned(head, rows, right={2, 3}) if rows else [])]
    if len(shown) < len(found):
        lines += _wrapped(
            f"Not told apart, or without a usable difference: {counted(len(found) - len(shown))}; "
            "see contrasts.csv."
        )
    return [*lines, ""]


def _band(contrast: Contrast, decimals: int) -> str:
    if contrast.band is None:
        return ""
    low, high = contrast.band
    return interval(low, high, band_decimals(low, high, decimals))


def _figure_table(part: Part) -> list[str]:
    """The weights' figures, one line a policy: from its doubly robust row where there is one."""
    chosen: dict[str, Mapping[str, Any]] = {}
    for row in sorted(part.rows, key=lambda r: r.estimator == "dr"):
        if row.estimator != "or" and row.figures.get("ess") is not None:
            chosen[row.name] = row.figures
    if not chosen:
        return []
    # Only where some rows are never written, and only where there is a model to be tested.
    shown = {
        name: key for name, key in COLUMNS.items()
        if key not in ("zero_share", "residual") or any(f.get(key) for f in chosen.values())
    }  # fmt: skip
    order = dict.fromkeys(r.name for r in part.rows if r.name in chosen)
    rows = [[name, *(_figure(chosen[name], key) for key in shown.values())] for name in order]
    return [*aligned(["weights of", *shown], rows, right=set(range(1, 1 + len(shown)))), ""]


def _figure(figures: Mapping[str, Any], key: str) -> str:
    """One figure, with the decimals of its column; a residual with its standard error."""
    value = figures.get(key)
    if value is None:
        return "-"
    if key in DECIMALS:
        return number(value, DECIMALS[key])
    error = figures.get("residual_se")
    if key == "residual" and error is not None:
        decimals = decimals_for([error])
        return f"{number(value, decimals)} (se {number(error, decimals)})"
    return figure_cell(value, figure_of(key).kind)


def _cells(row: Row, decimals: int, *, with_truth: bool) -> list[str]:
    cells = [
        row.name, row.label, number(row.value, decimals), number(row.se, decimals),
        interval(row.lower, row.upper, decimals), row.verdict,
    ]  # fmt: skip
    if with_truth:
        covered = {None: "", True: "yes", False: "NO"}[row.covers]
        truth = "" if row.truth is None else number(row.truth, decimals)
        cells[5:5] = [truth, covered]
    return cells


def aligned(
    head: Sequence[str], rows: Sequence[Sequence[str]], right: set[int] | None = None
) -> list[str]:
    r"""Lines of a plain table, columns ``right`` set flush right.

    >>> print("\n".join(aligned(["who", "n"], [["a", "10"], ["bcde", "5"]], right={1})))
    who    n
    ----  --
    a     10
    bcde   5
    """
    table = [[printable(cell) for cell in row] for row in (head, *rows)]
    widths = [max(width(row[j]) for row in table) for j in range(len(head))]

    def line(row: Sequence[str]) -> str:
        cells = []
        for j, cell in enumerate(row):
            gap = " " * (widths[j] - width(cell))
            cells.append(gap + cell if j in (right or set()) else cell + gap)
        return "  ".join(cells).rstrip()

    return [line(table[0]), line(["-" * w for w in widths]), *map(line, table[1:])]


def reasons_of(part: Part) -> list[tuple[str, str]]:
    """The verdicts' reasons, each once: (sentence, policies and estimators concerned).

    Sentences that differ in their numbers alone are one, with the ranges of the numbers.
    """
    said: dict[str, list[str]] = {}
    concerned: dict[str, dict[str, list[str]]] = {}
    for row in part.rows:
        for reason in row.reasons:
            form = _NUMBER.sub(_blank, reason)
            said.setdefault(form, []).append(reason)
            policies = concerned.setdefault(form, {}).setdefault(row.label, [])
            policies += [] if row.name in policies else [row.name]
    everyone = {
        label: [r.name for r in part.rows if r.label == label]
        for label in {r.label for r in part.rows}
    }
    out = []
    for form, by_label in concerned.items():
        whose = [
            f"{_who(policies, everyone[labels[0]])} ({', '.join(labels)})"
            for policies, labels in _together(by_label)
        ]
        out.append((_with_ranges(said[form]), "; ".join(whose)))
    return out


def _together(by_label: Mapping[str, Sequence[str]]) -> Iterator[tuple[list[str], list[str]]]:
    """Names and the labels that have just these names."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for label, names in by_label.items():
        groups.setdefault(tuple(names), []).append(label)
    return ((list(names), labels) for names, labels in groups.items())


def reasons_of_differences(part: Part) -> list[str]:
    """Reasons for the verdicts of differences that neither of their values has, each once."""
    known = {reason for row in part.rows for reason in row.reasons}
    said: dict[str, list[str]] = {}
    whose: dict[str, dict[str, list[str]]] = {}
    for c in (*part.contrasts, *part.subgroup_contrasts):
        for reason in c.reasons:
            if reason not in known:
                form = _NUMBER.sub(_blank, reason)
                said.setdefault(form, []).append(reason)
                names = whose.setdefault(form, {}).setdefault(c.label, [])
                names.append(" less ".join(c.sides))
    return [
        "; ".join(f"{', '.join(names)} ({', '.join(of)})" for names, of in _together(whose[form]))
        + f": {_with_ranges(sentences)}"
        for form, sentences in said.items()
    ]


# A quoted name is no number, whatever is in it.
_NUMBER = re.compile(
    r"""'[^']*'|"[^"]*"|(?<![\w.])-?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:e[+-]?\d+)?%?(?![\w])"""
)


def _blank(found: re.Match[str]) -> str:
    text = found.group()
    return text if text[0] in "'\"" else "#"


def _with_ranges(sentences: Sequence[str]) -> str:
    """One sentence for many that differ in their numbers: each number that varies as a range.

    >>> _with_ranges(["It is 42 rows of 510.", "It is 9 rows of 510."])
    'It is 9 to 42 rows of 510.'
    """
    slots = [[n for n in _NUMBER.findall(sentence) if n[0] not in "'\""] for sentence in sentences]
    columns = iter(zip(*slots, strict=True))

    def span(found: re.Match[str]) -> str:
        if found.group()[0] in "'\"":
            return found.group()
        seen = sorted(set(next(columns)), key=lambda n: float(n.rstrip("%").replace(",", "")))
        return seen[0] if len(seen) == 1 else f"{seen[0]} to {seen[-1]}"

    return _NUMBER.sub(span, sentences[0])


def _who(policies: Sequence[str], everyone: Sequence[str]) -> str:
    if len(policies) > 1 and list(policies) == list(everyone):
        return "all policies"
    return ", ".join(policies)


def _reasons(part: Part) -> list[str]:
    lines: list[str] = []
    found = [f"{who}: {reason}" for reason, who in reasons_of(part)]
    found += reasons_of_differences(part)
    if found:
        lines.append("Reasons")
        for line in found:
            lines += _wrapped(line, bullet=True)
        lines.append("")
    if part.left_out:
        lines.append("Left out")
        alike: dict[str, list[str]] = {}
        for name, why in part.left_out:
            alike.setdefault(why, []).append(LABELS[name])
        for why, labels in alike.items():
            lines += _wrapped(f"{', '.join(labels)}: {why}", bullet=True)
        lines.append("")
    return lines


def _wrapped(text: str, *, bullet: bool = False) -> list[str]:
    first, rest = ("- ", "  ") if bullet else ("", "")
    return textwrap.wrap(
        printable(text), LINE, initial_indent=first, subsequent_indent=rest,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
