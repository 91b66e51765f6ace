"""Numbers and names as words: shared by the printed table, the report and its plot."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from causal_lm_opt._evaluation import LOGGING, SPEAKERS, Contrast, Part, Row

__all__ = [
    "MANY",
    "answers",
    "apart",
    "joint_band",
    "band_decimals",
    "chosen",
    "counted",
    "decimals_for",
    "differs",
    "interval",
    "named",
    "number",
    "percent",
    "row_decimals",
    "speaking",
]

UNUSABLE = "do not use"
#: Up to so many policies each has a sentence and a line of its own.
MANY = 8
MOST_NAMES = 30


def decimals_for(errors: Iterable[float]) -> int:
    """Decimals that show two figures of the median standard error, 0 to 6.

    >>> decimals_for([0.35, 0.4]), decimals_for([12.0]), decimals_for([0.0])
    (2, 0, 2)
    """
    sizes = sorted(e for e in errors if math.isfinite(e) and e > 0)
    if not sizes:
        return 2
    return min(max(1 - math.floor(math.log10(sizes[len(sizes) // 2])), 0), 6)


def number(value: float | None, decimals: int) -> str:
    """A number with fixed decimals; huge and undefined ones in words.

    >>> number(1.25, 1), number(-0.001, 1), number(float("inf"), 1), number(3e12, 1)
    ('1.2', '0.0', 'inf', '3e+12')
    """
    if value is None or math.isnan(value):
        return "n/a"
    if not math.isfinite(value) or abs(value) >= 1e9:
        return f"{value:.4g}"
    shown = f"{value:.{decimals}f}"
    return shown[1:] if shown.startswith("-") and not shown.strip("-0.") else shown


def interval(low: float, high: float, decimals: int) -> str:
    """``"1.20 to 3.40"``."""
    return f"{number(low, decimals)} to {number(high, decimals)}"


def apart(low: float, high: float, decimals: int) -> str:
    """An interval with the decimals that keep an end that is not 0 from being printed as 0.

    >>> apart(-0.003, 0.33, 2), apart(0.0, 0.33, 2)
    ('-0.003 to 0.330', '0.00 to 0.33')
    """
    for more in range(decimals, decimals + 3):
        ends = [number(low, more), number(high, more)]
        if all(e.strip("-0.") or v == 0 for e, v in zip(ends, (low, high), strict=True)):
            return interval(low, high, more)
    return interval(low, high, decimals)


def joint_band(contrast: Contrast, decimals: int) -> str:
    """The joint band of a difference, which one that is not to be used has not."""
    return "" if contrast.band is None else apart(*contrast.band, decimals)


def row_decimals(rows: Sequence[Row]) -> dict[bool, int]:
    """Decimals of values of all rows (False) and of subgroups (True), by their own errors."""
    return {group: decimals_for(r.se for r in rows if bool(r.subgroup) == group)
            for group in (False, True)}  # fmt: skip


def band_decimals(low: float, high: float, decimals: int) -> int:
    """Decimals, more than asked for where a band that leaves 0 out would seem to touch it.

    >>> band_decimals(0.004, 0.58, 2), band_decimals(-0.004, 0.58, 2), band_decimals(0.0, 1.0, 2)
    (3, 2, 2)
    """
    edge = min(abs(low), abs(high))
    if not math.isfinite(edge) or low <= 0 <= high:
        return decimals
    return next((d for d in range(decimals, 6) if round(edge, d) != 0), 6)


def percent(level: float) -> str:
    """A level in words.

    >>> percent(0.95), percent(0.999)
    ('95%', '99.9%')
    """
    return f"{100 * level:.10g}%"


def speaking(part: Part) -> list[tuple[Row, Contrast | None]]:
    """Each policy's row of the estimator that speaks for it, and that estimator's contrast.

    Subgroups are left out; the logging policy is spoken for by its mean, and its contrast with
    another reference by the first estimator of ``SPEAKERS``.
    """
    rows: dict[str, dict[str, Row]] = {}
    for row in part.rows:
        if not row.subgroup:
            rows.setdefault(row.policy, {})[row.estimator] = row
    contrasts = {(c.policy, c.estimator): c for c in part.contrasts}
    out: list[tuple[Row, Contrast | None]] = []
    for policy, by_estimator in rows.items():
        if policy == LOGGING:
            (row,) = by_estimator.values()
            found = [contrasts[LOGGING, s] for s in SPEAKERS if (LOGGING, s) in contrasts]
            out.append((row, found[0] if found else None))
            continue
        speaker = next(name for name in SPEAKERS if name in by_estimator)
        out.append((by_estimator[speaker], contrasts.get((policy, speaker))))
    return out


def chosen(part: Part, level: float) -> str:
    """Intervals of the values that allow for a choice among policies; empty without a choice.

    Of more than eight policies the largest and the smallest value's.
    """
    rows = [r for r in part.rows if r.band is not None and r.verdict != UNUSABLE]
    speaker = next((s for s in SPEAKERS if sum(r.estimator == s for r in rows) > 1), None)
    found = [r for r in rows if r.estimator == speaker]
    if not found:
        return ""
    decimals = decimals_for(r.se for r in found)
    bands = [
        f"{r.name} {interval(*r.band, decimals)}"
        for r in (found if len(found) <= MANY else _extremes(found))
        if r.band is not None
    ]
    return (
        f"For a policy chosen among these {len(found)} by its value, intervals that allow for the "
        f"choice ({percent(level)}, {found[0].label}): {'; '.join(bands)}."
    )


def _extremes(rows: Sequence[Row]) -> list[Row]:
    """Rows of the largest and the smallest value."""
    return [max(rows, key=lambda r: r.value), min(rows, key=lambda r: r.value)]


def differs(contrast: Contrast | None) -> bool:
    """Whether a usable contrast's joint band leaves 0 out."""
    if contrast is None or contrast.verdict == UNUSABLE:
        return False
    return not contrast.band_lower <= 0 <= contrast.band_upper


def answers(part: Part, level: float) -> list[str]:
    """The part's findings in sentences: the logging policy first, then each policy.

    Of more than eight policies only those that differ from the reference have a sentence of their
    own; the others are counted and named.
    """
    decimals = decimals_for(r.se for r in part.rows)
    found = speaking(part)
    jointly = sum(c is not None for _, c in found) > 1
    out = [
        _logging_answer(row, contrast, part.unit, level, decimals, jointly=jointly)
        for row, contrast in found
        if row.policy == LOGGING
    ]
    targets = [(row, contrast) for row, contrast in found if row.policy != LOGGING]
    full = targets if len(targets) <= MANY else _leading(targets)
    out += [_answer(row, c, level, decimals, jointly=jointly) for row, c in full]
    shown = {row.policy for row, _ in full}
    return out + _rest([(row, c) for row, c in targets if row.policy not in shown])


def _leading(found: Sequence[tuple[Row, Contrast | None]]) -> list[tuple[Row, Contrast | None]]:
    """The usable policies that differ most from the reference, at most ``MANY``, in their order."""
    usable = [(row, c) for row, c in found if row.verdict != UNUSABLE and differs(c)]
    size = {row.policy: abs(c.value) for row, c in usable if c is not None}
    largest = set(sorted(size, key=lambda policy: -size[policy])[:MANY])
    return [(row, c) for row, c in usable if row.policy in largest]


def _rest(found: Sequence[tuple[Row, Contrast | None]]) -> list[str]:
    """Policies without a sentence of their own, by what there is to say of them."""
    groups: dict[str, dict[str, list[str]]] = {}
    for row, c in found:
        if row.verdict == UNUSABLE:
            said = "No usable answer from these data for"
        elif c is None or c.verdict == UNUSABLE:
            said = "In the table alone, without a usable difference:"
        elif differs(c):
            said = f"Different from {named(c.reference)} too, by less:"
        else:
            said = f"These data do not tell apart from {named(c.reference)}, jointly:"
        groups.setdefault(said, {}).setdefault(row.verdict, []).append(row.policy)
    return [
        f"{said} {counted(sum(map(len, by.values())))} ("
        + "; ".join(f"{verdict}: {_few(policies)}" for verdict, policies in by.items())
        + ")."
        for said, by in groups.items()
    ]


def counted(n: int) -> str:
    """A number of policies.

    >>> counted(1), counted(3)
    ('1 policy', '3 policies')
    """
    return f"{n:,} {'policy' if n == 1 else 'policies'}"


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def _logging_answer(
    row: Row, contrast: Contrast | None, unit: str, level: float, decimals: int, *, jointly: bool
) -> str:
    text = (
        f"Under the {LOGGING} the mean of {unit} was {number(row.value, decimals)} "
        f"({percent(level)} interval {interval(row.lower, row.upper, decimals)}): {row.verdict}."
    )
    return text if contrast is None else f"{text} {_difference(contrast, row, jointly=jointly)}"


def _answer(
    row: Row, contrast: Contrast | None, level: float, decimals: int, *, jointly: bool
) -> str:
    figures = (
        f"{number(row.value, decimals)} ({percent(level)} interval "
        f"{interval(row.lower, row.upper, decimals)}; {row.label})"
    )
    if row.verdict == UNUSABLE:
        return f"{row.policy}: no usable answer from these data. The estimate {figures} is not to "\
               "be used; see the reasons."  # fmt: skip
    text = f"{row.policy}: about {figures}."
    if contrast is not None:
        text += " " + _difference(contrast, row, jointly=jointly)
    return text + f" Verdict: {row.verdict}."


def _difference(contrast: Contrast, row: Row, *, jointly: bool) -> str:
    """How the policy compares, by the band that holds for all policies together."""
    reference = named(contrast.reference)
    if contrast.verdict == UNUSABLE:
        return f"The difference from {reference} is not to be used; see the reasons."
    decimals = decimals_for([contrast.se])
    low, high = contrast.band_lower, contrast.band_upper
    decimals = band_decimals(low, high, decimals)
    joint = ", for all policies jointly" if jointly else ""
    doubt = f"; {contrast.verdict}" if contrast.verdict != row.verdict else ""
    band = f"(difference {interval(low, high, decimals)}{joint}{doubt})"
    if low <= 0 <= high:
        return f"These data do not tell it apart from {reference} {band}."
    side = "above" if contrast.value > 0 else "below"
    size = number(abs(contrast.value), decimals)
    return f"That is {size} {side} {reference} {band}."


def named(policy: str) -> str:
    """A policy in a sentence.

    >>> named("logging policy"), named("new")
    ('the logging policy', "policy 'new'")
    """
    return f"the {LOGGING}" if policy == LOGGING else f"policy {policy!r}"
