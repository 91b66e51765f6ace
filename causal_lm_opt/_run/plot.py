"""A forest plot as hand-written SVG: points, whiskers, an axis with its unit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from causal_lm_opt._evaluation import LOGGING, MEAN, Row

__all__ = ["forest_plot", "ticks"]

WIDTH, LEFT, RIGHT = 440, 64, 14
ROW, HEAD, TOP, BOTTOM = 19, 21, 10, 46
SHORT = {"mean": "mean", "ht": "HT", "hajek": "Hajek", "or": "OR", "dr": "DR"}
#: Verdicts differ by shape as well as by colour.
CLASSES = {"trustworthy": "ok", "caution": "careful", "do not use": "no"}


def ticks(low: float, high: float, wanted: int = 7) -> list[float]:
    """Round positions that span ``low`` to ``high``.

    >>> ticks(0.3, 9.2)
    [2.0, 4.0, 6.0, 8.0]
    """
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(m for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def forest_plot(rows: Sequence[Row], *, unit: str, name: str, interval: str) -> str:
    """The plot of some rows, grouped by policy; ``name`` makes its ids unique on the page."""
    low, high = _reach(rows)
    scale = _Scale(low, high)
    body: list[str] = []
    y = float(TOP)
    policy: str | None = None
    for row in rows:
        if row.policy != policy:
            policy = row.policy
            y += HEAD
            body.append(f'<text class="who" x="0" y="{y - 5:g}">{_short(policy, 46)}</text>')
        y += ROW
        body.append(_whisker(row, y - ROW / 2, scale))
    bottom = y + 6
    frame = _axis(scale, bottom, unit) + _mean_line(rows, scale, bottom)
    height = bottom + BOTTOM
    described = (
        f"Estimates with {interval} intervals, grouped by policy; the same figures are in the "
        "table below."
    )
    return (
        f'<svg class="forest" viewBox="0 0 {WIDTH} {height:g}" role="img" '
        f'aria-labelledby="{name}-t {name}-d"><title id="{name}-t">Values of {escape(unit)}'
        f'</title><desc id="{name}-d">{escape(described)}</desc>'
        f"{frame}{''.join(body)}</svg>"
    )


class _Scale:
    """Positions on the axis."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def x(self, value: float) -> float:
        inside = min(max(value, self.low), self.high)
        share = (inside - self.low) / (self.high - self.low)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def _reach(rows: Sequence[Row]) -> tuple[float, float]:
    """The axis' ends: what is fit for use sets them, where anything is."""
    usable = [r for r in rows if r.verdict != "do not use"] or list(rows)
    ends = [e for r in usable for e in (r.lower, r.upper, r.value)]
    ends += [r.truth for r in rows if r.truth is not None]
    ends += [r.value for r in rows]
    finite = [e for e in ends if math.isfinite(e)] or [0.0]
    low, high = min(finite), max(finite)
    pad = 0.04 * (high - low) or 0.5 * max(abs(high), 1.0)
    return low - pad, high + pad


def _short(text: str, length: int) -> str:
    shown = text if len(text) <= length else text[: length - 1] + "\u2026"
    full = f"<title>{escape(text)}</title>" if shown != text else ""
    return full + escape(shown)


def _whisker(row: Row, y: float, scale: _Scale) -> str:
    kind = CLASSES[row.verdict]
    x, a, b = scale.x(row.value), scale.x(row.lower), scale.x(row.upper)
    parts = [
        f'<text class="how" x="{LEFT - 12}" y="{y + 4:g}" text-anchor="end">'
        f"{SHORT[row.estimator]}</text>",
        f'<line class="bar" x1="{a}" x2="{b}" y1="{y:g}" y2="{y:g}"/>',
        _end(a, y, -1, cut=row.lower < scale.low),
        _end(b, y, 1, cut=row.upper > scale.high),
    ]
    if row.truth is not None:
        t = scale.x(row.truth)
        parts.append(f'<path class="truth" d="M{t} {y - 8:g}V{y + 8:g}"/>')
    if kind == "no":
        parts.append(f'<path class="dot" d="M{x - 4.5} {y - 4.5}L{x + 4.5} {y + 4.5}M{x - 4.5} '
                     f'{y + 4.5}L{x + 4.5} {y - 4.5}"/>')  # fmt: skip
    elif kind == "careful":
        parts.append(f'<path class="dot" d="M{x} {y - 6}L{x + 6} {y}L{x} {y + 6}L{x - 6} {y}Z"/>')
    else:
        parts.append(f'<circle class="dot" cx="{x}" cy="{y:g}" r="4.5"/>')
    said = f"{row.policy}, {row.label}: {row.value:.4g} ({row.lower:.4g} to {row.upper:.4g}), "
    return f'<g class="{kind}"><title>{escape(said + row.verdict)}</title>{"".join(parts)}</g>'


def _end(x: float, y: float, side: int, *, cut: bool) -> str:
    """A whisker's end; an arrow head where it goes on beyond the axis."""
    if not cut:
        return f'<path class="bar" d="M{x} {y - 3.5:g}V{y + 3.5:g}"/>'
    return f'<path class="bar" d="M{x - 5 * side} {y - 4:g}L{x} {y:g}L{x - 5 * side} {y + 4:g}"/>'


def _axis(scale: _Scale, bottom: float, unit: str) -> str:
    at = ticks(scale.low, scale.high)
    marks = "".join(
        f'<path class="grid" d="M{scale.x(t)} {TOP}V{bottom:g}"/>'
        f'<text class="tick" x="{scale.x(t)}" y="{bottom + 15:g}" text-anchor="middle">'
        f"{t:.10g}</text>"
        for t in at
    )
    line = f'<path class="axis" d="M{LEFT} {bottom:g}H{WIDTH - RIGHT}"/>'
    middle = (LEFT + WIDTH - RIGHT) / 2
    label = (
        f'<text class="unit" x="{middle:g}" y="{bottom + 35:g}" text-anchor="middle">'
        f"mean of {_short(unit, 36)}</text>"
    )
    return marks + line + label


def _mean_line(rows: Sequence[Row], scale: _Scale, bottom: float) -> str:
    means = [r.value for r in rows if r.policy == LOGGING and r.estimator == MEAN]
    if not means:
        return ""
    return f'<path class="mean" d="M{scale.x(means[0])} {TOP}V{bottom:g}"/>'
