"""A part of an evaluation as a chapter: answer, figure, table, verdict; then the rest, folded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape

from causal_lm_opt._evaluation import LABELS, LOGGING, MEAN, SPEAKERS, Contrast, Part, Row
from causal_lm_opt._run.glossary import (
    BAND_OF_SUBGROUPS,
    FIGURES,
    figure_cell,
    figure_of,
    which_to_read,
)
from causal_lm_opt._run.numbers import (
    MANY,
    answers,
    apart,
    chosen,
    decimals_for,
    interval,
    joint_band,
    named,
    number,
    percent,
    speaking,
)
from causal_lm_opt._run.page import bullets, folded, paragraph, table
from causal_lm_opt._run.text import reasons_of, reasons_of_differences
from causal_lm_opt.diagnostics.verdict import LEVELS
from causal_lm_opt.estimators._progress import track

__all__ = ["part_chapter"]

#: Verdicts differ by shape as well as by colour.
CLASSES = {"trustworthy": "ok", "caution": "careful", "do not use": "no"}
MEANING = {
    "trustworthy": "no diagnostic speaks against the value and its interval",
    "caution": "usable with the reasons below in mind",
    "do not use": "the value is no answer to the question",
}
MOST_COLUMNS = 5  # policies that stand beside each other in a table of diagnostics


def part_chapter(part: Part, level: float, notes: str = "") -> str:
    """HTML of one part; ``notes`` is HTML that belongs under the verdict."""
    found = speaking(part)
    rows = tuple(row for row, _ in found)
    counts = "; ".join(f"{name.lower()}: {n:,.0f}" for name, n in part.counts.items())
    body = paragraph(part.text) if part.text else ""
    body += _answer(part, level)
    body += _main_figure(part, rows, level)
    body += _main_table(part, found, level)
    body += paragraph(f"Counts. {counts[:1].upper()}{counts[1:]}.", "soft") if counts else ""
    body += _verdicts(part, rows)
    body += f"<h3>What these values are</h3>{notes}" if notes else ""
    return body + "<h3>What stands behind this</h3>" + _folds(part, rows, level)


# ------------------------------------------------------------------------------ the answer
def _answer(part: Part, level: float) -> str:
    """What was found in sentences; a word of care where the largest of many values is in sight."""
    body = bullets(answers(part, level), "answers")
    usable = [r for r, _ in speaking(part) if r.policy != LOGGING and r.verdict != LEVELS[-1]]
    if len(usable) <= MANY:
        return body
    decimals = decimals_for(r.se for r in part.rows)
    best = max(usable, key=lambda r: r.value)
    return body + paragraph(
        f"The largest value is that of {best.policy}: about {number(best.value, decimals)} "
        f"({percent(level)} interval {interval(best.lower, best.upper, decimals)}; {best.label}; "
        f"{best.verdict}). The largest of many estimates tends to be too large: choose by the "
        "joint bands."
    )


def _main_figure(part: Part, rows: Sequence[Row], level: float) -> str:
    if not part.figures or len(rows) < 2:
        return ""
    from causal_lm_opt._run.figures import forest_figure  # loads matplotlib

    caption = (
        f"Each policy's value with its {percent(level)} interval ({_by(rows)}). The dashed line is "
        "the mean of the log; shape and colour are the verdict. An arrow head marks what goes on "
        "beyond."
    )
    return forest_figure(part, level, rows=rows, main=True, caption=caption)


def _by(rows: Sequence[Row]) -> str:
    """The estimators that speak, in words."""
    return ", ".join(dict.fromkeys(r.label for r in rows if r.policy != LOGGING)) or rows[0].label


def _main_table(part: Part, found: Sequence[tuple[Row, Contrast | None]], level: float) -> str:
    """Value, interval and verdict of each policy, with its difference from the reference."""
    rows = [row for row, _ in found]
    decimals = decimals_for(r.se for r in rows)
    fine = decimals_for(c.se for _, c in found if c is not None)
    columns = ["Policy", "Value", f"{percent(level)} interval", "Verdict"]
    kinds = ["", "n", "n", "w"]
    if part.contrasts:
        several = len({c.policy for c in part.contrasts}) > 1
        columns += ["Difference", "Joint band" if several else "Its interval"]
        kinds += ["n", "n"]
    truth = any(r.truth is not None for r in rows)
    if truth:
        columns, kinds = [*columns, "Truth", "Covered"], [*kinds, "n", "w"]
    cells = [
        [
            escape(r.policy), number(r.value, decimals), interval(r.lower, r.upper, decimals),
            _verdict(r.verdict), *(_difference_cells(c, fine) if part.contrasts else ()),
            *(_truth_cells(r, decimals) if truth else ()),
        ]
        for r, c in found
    ]  # fmt: skip
    caption = f"Values: mean of {part.unit} ({_by(rows)})"
    if part.contrasts:
        caption += f"; differences from {named(part.contrasts[0].reference)}"
    return table(caption, columns, cells, kinds)


def _difference_cells(contrast: Contrast | None, decimals: int) -> tuple[str, str]:
    """Difference and joint band; one that is not to be used is not shown here."""
    if contrast is None or contrast.verdict == LEVELS[-1]:
        return "", ""
    return number(contrast.value, decimals), joint_band(contrast, decimals)


def _verdict(level: str, note: str = "") -> str:
    return f'<span class="v {CLASSES[level]}">{escape(level)}</span>{escape(note)}'


def _truth_cells(row: Row, decimals: int) -> tuple[str, str]:
    if row.truth is None:
        return "", ""
    return number(row.truth, decimals), "yes" if row.covers else "<strong>no</strong>"


def _verdicts(part: Part, rows: tuple[Row, ...]) -> str:
    """Which policies have which verdict, what it means, and why."""
    mine = [r for r in rows if r.policy != LOGGING] or list(rows)
    items = []
    for level in LEVELS:
        names = [r.policy for r in mine if r.verdict == level]
        if names:
            who = ", ".join(names)
            if len(names) == len(mine) > 2:
                who = f"all {len(names)} policies"
            items.append(f"<li>{_verdict(level, f' ({MEANING[level]}): {who}.')}</li>")
    body = f'<h3>Verdict</h3><ul class="verdicts">{"".join(items)}</ul>'
    return body + bullets([f"{who}: {why}" for why, who in reasons_of(replace(part, rows=rows))])


# ------------------------------------------------------------------------------ folded away
def _folds(part: Part, shown: tuple[Row, ...], level: float) -> str:
    body = folded("All numbers: estimators, standard errors, differences",
                  _all_numbers(part, shown, level))  # fmt: skip
    body += _subgroups(part, level)
    body += _behind(part)
    body += _diagnostics(part)
    return body + (folded("How this was computed", bullets(part.notes)) if part.notes else "")


def _all_numbers(part: Part, shown: tuple[Row, ...], level: float) -> str:
    rows = tuple(r for r in part.rows if not r.subgroup)
    others = tuple(r for r in rows if r not in shown)
    advice = which_to_read((r.estimator for r in rows), estimated=bool(part.ratios))
    body = paragraph(advice) if advice and others else ""
    if part.figures and others:
        from causal_lm_opt._run.figures import forest_figure  # loads matplotlib

        body += forest_figure(part, level, rows=rows, name="estimators")
    body += _value_table(rows, f"Values: mean of {part.unit}, by estimator", level)
    choice = chosen(part, level)
    body += paragraph(choice) if choice else ""
    reasons = [f"{who}: {why}" for why, who in reasons_of(replace(part, rows=others))]
    if reasons:
        body += "<h4>Reasons for the other estimators' verdicts</h4>" + bullets(reasons)
    if part.left_out:
        left = [f"{LABELS[name]}: {why}" for name, why in part.left_out]
        body += "<h4>Estimators left out</h4>" + bullets(left)
    return body + (_contrast_table(part, level) if part.contrasts else "")


def _subgroups(part: Part, level: float) -> str:
    """Values of subgroups: a figure of the estimator that speaks, and all numbers."""
    rows = tuple(r for r in part.rows if r.subgroup)
    if not rows:
        return ""
    speaks: dict[str, Row] = {}
    for row in sorted(rows, key=lambda r: (MEAN, *SPEAKERS).index(r.estimator)):
        speaks.setdefault(row.name, row)
    shown = [speaks[name] for name in dict.fromkeys(r.name for r in rows)]
    body = ""
    if part.figures:
        from causal_lm_opt._run.figures import forest_figure  # loads matplotlib

        caption = f"Subgroups' values with {percent(level)} intervals, as above."
        body += forest_figure(part, level, rows=shown, name="subgroups", caption=caption)
    body += _value_table(rows, f"Values: mean of {part.unit}, by subgroup", level)
    within = part.subgroup_contrasts
    if within:
        body += f"<h4>Differences from {escape(named(within[0].reference))} within subgroups</h4>"
        body += paragraph(BAND_OF_SUBGROUPS)
        caption = f"Differences of the mean of {part.unit}, by subgroup"
        body += _difference_table(within, caption, level)
    return folded("Subgroups", body + bullets(
        [f"{who}: {why}" for why, who in reasons_of(replace(part, rows=rows))]
    ))  # fmt: skip


def _value_table(rows: Sequence[Row], caption: str, level: float) -> str:
    decimals = decimals_for(r.se for r in rows)
    columns = ["Policy", "Estimator", "Value", "Std. error", f"{percent(level)} interval"]
    kinds = ["", "w", "n", "n", "n"]
    truth = any(r.truth is not None for r in rows)
    if truth:
        columns, kinds = [*columns, "Truth", "Covered"], [*kinds, "n", "w"]
    cells = [
        [
            escape(r.name), escape(r.label), number(r.value, decimals), number(r.se, decimals),
            interval(r.lower, r.upper, decimals),
            *(_truth_cells(r, decimals) if truth else ()), _verdict(r.verdict),
        ]
        for r in rows
    ]  # fmt: skip
    return table(caption, [*columns, "Verdict"], cells, [*kinds, "w"])


def _contrast_table(part: Part, level: float) -> str:
    reference, reasons = part.contrasts[0].reference, reasons_of_differences(part)
    text = (
        f"The joint bands hold for all policies of an estimator together in {percent(level)} of "
        "samples: read them when choosing among policies."
    )
    return (
        f"<h4>Differences from {escape(named(reference))}</h4>"
        + paragraph(text)
        + _difference_table(part.contrasts, f"Differences of the mean of {part.unit}", level)
        + (bullets(reasons) if reasons else "")
    )


def _difference_table(contrasts: Sequence[Contrast], caption: str, level: float) -> str:
    decimals = decimals_for(c.se for c in contrasts)
    rows = [
        [
            escape(c.sides[0]), escape(c.label), number(c.value, decimals), number(c.se, decimals),
            apart(c.lower, c.upper, decimals), joint_band(c, decimals),
            _verdict(c.verdict),
        ]
        for c in contrasts
    ]  # fmt: skip
    columns = [
        "Policy", "Estimator", "Difference", "Std. error", f"{percent(level)} interval",
        "Joint band", "Verdict",
    ]  # fmt: skip
    return table(caption, columns, rows, ["", "w", "n", "n", "n", "n", "w"])


def _behind(part: Part) -> str:
    """What stands behind the values of the policies that are shown."""
    if not part.views:
        return ""
    from causal_lm_opt._run.figures import policy_details  # loads matplotlib

    policies = dict.fromkeys(r.policy for r in part.rows if not r.subgroup and r.policy != LOGGING)
    told = ""
    if len(policies) > len(part.views):
        told = paragraph(f"Of the {len(part.views)} policies with the largest values:", "soft")
    ordered = sorted(part.views, key=lambda v: list(policies).index(v.policy))
    return told + "".join(
        policy_details(view, part.unit, f"{part.key}-{k}")
        for k, view in enumerate(track(ordered, len(ordered), "figures"))
    )


def _diagnostics(part: Part) -> str:
    """Figures behind the verdicts: first those that all estimators share, then each one's own."""
    by_label: dict[str, list[Row]] = {}
    for row in part.rows:
        if set(row.figures) - {"n"} and not row.subgroup:
            by_label.setdefault(row.label, []).append(row)
    if not by_label:
        return ""
    order = [*FIGURES, *dict.fromkeys(n for r in part.rows for n in r.figures if n not in FIGURES)]
    shared = _shared(by_label, order) if len(by_label) > 1 else []
    body = ""
    if shared:
        first = {r.policy: r for rows in by_label.values() for r in rows}
        body = _figure_table("The same for all estimators", list(first.values()), shared)
    for label, rows in by_label.items():
        own = [n for n in order if n not in shared]
        body += _figure_table(f"{label[:1].upper()}{label[1:]}", rows, own)
    told = "Figures behind the verdicts; empty where not defined. The glossary says what they mean."
    if any(r.subgroup for r in part.rows):
        told += " Those of subgroups are in diagnostics.json."
    return folded("Diagnostics", paragraph(told) + body)


def _shared(by_label: Mapping[str, Sequence[Row]], order: Sequence[str]) -> list[str]:
    """Figures that every estimator has, and that look alike for every policy."""
    rows = [r for rows in by_label.values() for r in rows]

    def alike(name: str) -> bool:
        seen: dict[str, set[str]] = {}
        for r in rows:
            cell = figure_cell(r.figures.get(name), figure_of(name).kind)
            seen.setdefault(r.policy, set()).add(cell)
        return all(len(cells) == 1 for cells in seen.values())

    return [n for n in order if all(n in r.figures for r in rows) and alike(n)]


def _figure_table(caption: str, rows: Sequence[Row], names: Sequence[str]) -> str:
    """A table of figures, whichever way round is narrower; empty where none is defined."""
    defined = [n for n in names if any(r.figures.get(n) is not None for r in rows)]
    if not defined:
        return ""
    cells = [[figure_cell(r.figures.get(n), figure_of(n).kind) for n in defined] for r in rows]
    head, side = [r.policy for r in rows], [figure_of(n).name for n in defined]
    corner = "Figure"
    if len(rows) > MOST_COLUMNS:
        head, side, corner = side, head, "Policy"
    else:
        cells = [list(line) for line in zip(*cells, strict=True)]
    lines = [[escape(name), *line] for name, line in zip(side, cells, strict=True)]
    return table(caption, [corner, *head], lines, ["", *("n" for _ in head)])
