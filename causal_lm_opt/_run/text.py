"""The summary printed on a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from causal_lm_opt._evaluation import LABELS, Evaluation, Part, Row
from causal_lm_opt._run.numbers import decimals_for, interval, number, percent
from causal_lm_opt._run.terminal import printable, width
from causal_lm_opt.diagnostics.trust import FIGURE_HEADERS, figure_cells
from causal_lm_opt.diagnostics.verdict import BLIND_SPOTS

__all__ = ["aligned", "reasons_of", "summary"]

LINE = 96


def summary(evaluation: Evaluation, folder: Path | str) -> str:
    """Tables, reasons, and where the files are."""
    lines: list[str] = []
    for part in evaluation.parts:
        if len(evaluation.parts) > 1:
            lines += [printable(part.title), "=" * width(printable(part.title))]
            lines += _wrapped(part.text) if part.text else []
            lines.append("")
        lines += [*_value_table(part, evaluation.level), ""]
        lines += _figure_table(part)
        lines += _reasons(part)
    for note in evaluation.notes:
        lines += [*_wrapped(note), ""]
    lines += [*_wrapped(BLIND_SPOTS), "", f"Written to {printable(str(folder))}:"]
    lines.append("  report.html  report.md  estimates.csv  contrasts.csv  diagnostics.json")
    return "\n".join(lines) + "\n"


def _value_table(part: Part, level: float) -> list[str]:
    decimals = decimals_for(r.se for r in part.rows)
    head = ["policy", "estimator", "value", "std err", f"{percent(level)} interval", "verdict"]
    with_truth = any(r.truth is not None for r in part.rows)
    if with_truth:
        head[5:5] = ["truth", "covered"]
    rows = [_cells(r, decimals, with_truth=with_truth) for r in part.rows]
    return aligned(head, rows, right={2, 3, 4, *({5} if with_truth else ())})


def _figure_table(part: Part) -> list[str]:
    """The weights' figures, one line a policy: from its doubly robust row where there is one."""
    chosen: dict[str, list[str]] = {}
    for row in sorted(part.rows, key=lambda r: r.estimator == "dr"):
        cells = figure_cells(row.figures) if row.estimator != "or" else None
        if cells is not None:
            chosen[row.policy] = cells
    if not chosen:
        return []
    order = dict.fromkeys(r.policy for r in part.rows if r.policy in chosen)
    rows = [[policy, *chosen[policy]] for policy in order]
    return [*aligned(["weights of", *FIGURE_HEADERS], rows, right=set(range(1, 7))), ""]


def _cells(row: Row, decimals: int, *, with_truth: bool) -> list[str]:
    cells = [
        row.policy, row.label, number(row.value, decimals), number(row.se, decimals),
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
    """The verdicts' reasons, each once: (sentence, policies and estimators concerned)."""
    concerned: dict[str, dict[str, list[str]]] = {}
    for row in part.rows:
        for reason in row.reasons:
            concerned.setdefault(reason, {}).setdefault(row.label, []).append(row.policy)
    everyone = {
        label: [r.policy for r in part.rows if r.label == label]
        for label in {r.label for r in part.rows}
    }
    out = []
    for reason, by_label in concerned.items():
        groups: dict[tuple[str, ...], list[str]] = {}
        for label, policies in by_label.items():
            groups.setdefault(tuple(policies), []).append(label)
        said = [
            f"{_who(policies, everyone[labels[0]])} ({', '.join(labels)})"
            for policies, labels in groups.items()
        ]
        out.append((reason, "; ".join(said)))
    return out


def _who(policies: Sequence[str], everyone: Sequence[str]) -> str:
    if len(policies) > 1 and list(policies) == list(everyone):
        return "all policies"
    return ", ".join(policies)


def _reasons(part: Part) -> list[str]:
    lines: list[str] = []
    found = reasons_of(part)
    if found:
        lines.append("Reasons")
        for reason, who in found:
            lines += _wrapped(f"{who}: {reason}", bullet=True)
        lines.append("")
    if part.left_out:
        lines.append("Left out")
        for name, why in part.left_out:
            lines += _wrapped(f"{LABELS[name]}: {why}", bullet=True)
        lines.append("")
    return lines


def _wrapped(text: str, *, bullet: bool = False) -> list[str]:
    first, rest = ("- ", "  ") if bullet else ("", "")
    return textwrap.wrap(
        printable(text), LINE, initial_indent=first, subsequent_indent=rest,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
