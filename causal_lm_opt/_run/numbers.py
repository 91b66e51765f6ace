"""Numbers and names as words: shared by the printed table, the report and its plot."""

from __future__ import annotations

import math
from collections.abc import Iterable

from causal_lm_opt._evaluation import LOGGING, SPEAKERS, Contrast, Part, Row

__all__ = [
    "answers",
    "decimals_for",
    "interval",
    "named",
    "number",
    "percent",
]


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


def percent(level: float) -> str:
    """A level in words.

    >>> percent(0.95), percent(0.999)
    ('95%', '99.9%')
    """
    return f"{100 * level:.10g}%"


def answers(part: Part, level: float) -> list[str]:
    """The part's findings in sentences: the logging policy first, then each policy."""
    decimals = decimals_for(r.se for r in part.rows)
    everyone = [r for r in part.rows if not r.subgroup]
    by_policy: dict[str, dict[str, Row]] = {}
    for row in everyone:
        by_policy.setdefault(row.policy, {})[row.estimator] = row
    out = []
    for policy, rows in by_policy.items():
        if policy == LOGGING:
            (row,) = rows.values()
            out.append(
                f"Under the {LOGGING} the mean of {part.unit} was {number(row.value, decimals)} "
                f"({percent(level)} interval {interval(row.lower, row.upper, decimals)}): "
                f"{row.verdict}."
            )
            continue
        speaker = next(name for name in SPEAKERS if name in rows)
        row = rows[speaker]
        contrast = next(
            (c for c in part.contrasts if (c.policy, c.estimator) == (policy, speaker)), None
        )
        out.append(_answer(row, contrast, level, decimals))
    return out


def _answer(row: Row, contrast: Contrast | None, level: float, decimals: int) -> str:
    figures = (
        f"{number(row.value, decimals)} ({percent(level)} interval "
        f"{interval(row.lower, row.upper, decimals)}; {row.label})"
    )
    if row.verdict == "do not use":
        return f"{row.policy}: no usable answer from these data. The estimate {figures} is not to "\
               "be used; see the reasons."  # fmt: skip
    text = f"{row.policy}: about {figures}."
    if contrast is not None:
        text += " " + _difference(contrast)
    return text + f" Verdict: {row.verdict}."


def _difference(contrast: Contrast) -> str:
    """How the policy compares, by the band that holds for all policies together."""
    decimals = decimals_for([contrast.se])
    low, high = contrast.band_lower, contrast.band_upper
    band = f"(difference {interval(low, high, decimals)}, for all policies jointly)"
    if low <= 0 <= high:
        return f"These data do not tell it apart from {named(contrast.reference)} {band}."
    side = "above" if contrast.value > 0 else "below"
    size = number(abs(contrast.value), decimals)
    return f"That is {size} {side} {named(contrast.reference)} {band}."


def named(policy: str) -> str:
    """A policy in a sentence.

    >>> named("logging policy"), named("new")
    ('the logging policy', "policy 'new'")
    """
    return f"the {LOGGING}" if policy == LOGGING else f"policy {policy!r}"
