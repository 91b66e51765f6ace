"""Value against shift strength."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from causal_lm_opt.plots._theme import (
    DATA_TEXT,
    MARKERS,
    SMALL,
    Theme,
    finite_column,
    legend_below,
    note_above,
    open_axes,
    percent_text,
    plain_numbers,
    shown_text,
)

__all__ = ["tilt_plot"]

FloatArray = npt.NDArray[np.float64]


def tilt_plot(
    path: pd.DataFrame,
    *,
    level: float = 0.95,
    unit: str | None = None,
    reference: float | None = None,
    theme: str = "light",
    ax: Axes | None = None,
) -> Axes:
    """Value and interval of the policies between the logging policy and a target.

    Parameters
    ----------
    path : DataFrame
        Of :func:`causal_lm_opt.diagnostics.tilt_path`: ``t``, ``value``, ``lower``, ``upper``,
        ``ess``, ``trusted``.
    level : float
        What the path's intervals were made for, to be named.
    unit : str, optional
        Name and unit of the outcome.
    reference : float, optional
        A dashed line, such as the mean outcome under the logging policy.
    theme : {"light", "dark"}
    ax : Axes, optional

    Returns
    -------
    Axes
        Solid where the diagnostics find nothing to say against the value, dashed and hatched
        elsewhere; the effective sample size stands along the top.

    Notes
    -----
    Values and trusted intervals set the axis; other intervals may be cut by its ends. Where the
    target never writes some logged rows, they drop out as soon as ``t > 0``: the logging policy
    then stands apart, as a single point.

    Examples
    --------
    >>> from causal_lm_opt import plots
    >>> from causal_lm_opt.diagnostics import tilt_path
    >>> path = tilt_path(np.log([.4, .4, 1.6, 1.6]), [1., 2., 3., 6.], grid=[0., .5, 1.])
    >>> plots.tilt_plot(path, unit="minutes", ax=plots.new_axes()).get_ylabel()
    'mean of minutes'
    """
    t, value, ess = (finite_column(path, c) for c in ("t", "value", "ess"))
    lower, upper = (finite_column(path, c, infinite=True) for c in ("lower", "upper"))
    zero = finite_column(path, "zero_share") if "zero_share" in path.columns else np.zeros(t.size)
    if t.size < 2 or (np.diff(t) <= 0).any():
        raise ValueError("path must hold at least two shift strengths t, ascending.")
    if "trusted" not in path.columns:
        raise ValueError(f"The table has no column 'trusted'; it has {list(path.columns)}.")
    trusted = np.asarray(path["trusted"]).astype(bool)
    ax, palette = open_axes(ax, 3.8, theme)
    low, high = _limits(value, lower, upper, trusted)
    ax.set_xlim(t[0], t[-1])
    ax.set_ylim(low, high)
    far = 10.0 * (high - low)  # off the axes, and finite
    down, up = np.maximum(lower, low - far), np.minimum(upper, high + far)
    joined = zero[1:] == zero[:-1]  # where rows drop out the path jumps
    sound = trusted[:-1] & trusted[1:]  # a stretch is trusted where both its ends are
    _stretches(ax, t, down, up, value, sound & joined, palette.first, trusted=True)
    _stretches(ax, t, down, up, value, ~sound & joined, palette.no, trusted=False)
    for k in (*(np.flatnonzero(~joined)), t.size - 1):
        _point(ax, float(t[k]), (down[k], value[k], up[k]), palette, trusted=bool(trusted[k]))
    if reference is not None:
        ax.axhline(reference, color=palette.soft, linestyle=(0, (4, 3)), linewidth=1.2,
                   gid="reference")  # fmt: skip
    plain_numbers(ax.xaxis)
    plain_numbers(ax.yaxis)
    ax.set_xlabel("shift strength (0: logging policy, 1: target)")
    ax.set_ylabel("value" if unit is None else f"mean of {shown_text(unit, 30)}", **DATA_TEXT)
    _ess_row(ax, t, ess, palette.soft)
    lines = ["effective sample size along the path:"]
    if not joined.all():
        dropped = percent_text(float(zero[-1] - zero[0]))
        lines.insert(0, f"the target never writes {dropped} of the logged rows")
    note_above(ax, lines, palette, pad=6 + 1.5 * SMALL)
    legend_below(ax, _legend(palette, level, trusted, reference is not None), palette)
    return ax


def _legend(palette: Theme, level: float, trusted: Any, reference: bool) -> list[tuple[Any, str]]:
    entries: list[tuple[Any, str]] = []
    percent = f"{100 * level:.4g}% interval"
    if trusted.any():
        mark = Line2D([], [], color=palette.first, linewidth=2.2)
        entries.append(((Patch(color=palette.first, alpha=0.25, linewidth=0), mark),
                        f"value, {percent}"))  # fmt: skip
    if not trusted.all():
        mark = Line2D([], [], color=palette.no, linewidth=2.2, linestyle=(0, (2, 2)))
        hatched = Patch(facecolor="none", edgecolor=palette.no, alpha=0.55, hatch="///",
                        linewidth=0)  # fmt: skip
        entries.append(((hatched, mark), "not to be trusted"))
    if reference:
        mark = Line2D([], [], color=palette.soft, linestyle=(0, (4, 3)), linewidth=1.2)
        entries.append((mark, "logging mean"))
    return entries


def _limits(
    value: FloatArray, lower: FloatArray, upper: FloatArray, trusted: npt.NDArray[np.bool_]
) -> tuple[float, float]:
    """The axis' ends: all values and trusted intervals; the other intervals up to as far again."""
    ends = np.concatenate([value, lower[trusted], upper[trusted]])
    ends = ends[np.isfinite(ends)]
    low, high = float(ends.min()), float(ends.max())
    span = high - low
    if not trusted.all() and (~np.isinf(np.concatenate([lower, upper]))).any():
        rest = np.concatenate([lower[~trusted], upper[~trusted]])
        rest = rest[np.isfinite(rest)]
        room = span or np.inf
        low = max(min([low, *rest]), low - room)
        high = min(max([high, *rest]), high + room)
    pad = 0.06 * (high - low) or 0.5 * max(abs(high), 1.0)
    return low - pad, high + pad


def _point(
    ax: Axes, t: float, figures: tuple[float, float, float], palette: Theme, *, trusted: bool
) -> None:
    """A single policy: the target, or the end of the path from which rows drop out."""
    lower, value, upper = figures
    colour = palette.first if trusted else palette.no
    ax.plot([t, t], [lower, upper], color=colour, linewidth=2.2, solid_capstyle="butt", zorder=4,
            gid=f"interval-at-{t:g}")  # fmt: skip
    ax.plot(t, value, MARKERS["trustworthy" if trusted else "do not use"], color=colour,
            markersize=7.5, markeredgewidth=0.0, clip_on=False, zorder=5,
            gid=f"value-at-{t:g}")  # fmt: skip


def _stretches(
    ax: Axes, t: Any, lower: Any, upper: Any, value: Any, kept: Any, colour: str, *, trusted: bool
) -> None:
    """Interval and line over the stretches (T - 1,) that are kept."""
    name = "trusted" if trusted else "lost"
    edges = np.flatnonzero(np.diff(np.concatenate([[False], kept, [False]]).astype(int)))
    for k, (start, stop) in enumerate(edges.reshape(-1, 2)):
        part = slice(start, stop + 1)
        ax.fill_between(
            t[part], lower[part], upper[part], facecolor=colour if trusted else "none",
            edgecolor="none" if trusted else colour, alpha=0.25 if trusted else 0.55,
            hatch=None if trusted else "///", linewidth=0.0, gid=f"{name}-interval-{k}",
        )  # fmt: skip
        ax.plot(t[part], value[part], color=colour, linewidth=2.2, gid=f"{name}-{k}",
                linestyle="-" if trusted else (0, (2, 2)))  # fmt: skip


def _ess_row(ax: Axes, t: Any, ess: Any, colour: str) -> None:
    """The effective sample size above the axes, at five strengths."""
    at = np.unique([int(np.argmin(np.abs(t - x))) for x in np.linspace(t[0], t[-1], 5)])
    for place, k in enumerate(at):
        side = "left" if place == 0 else "right" if place == len(at) - 1 else "center"
        ax.annotate(
            f"{ess[k]:,.0f}", (t[k], 1.0), xycoords=ax.get_xaxis_transform(), xytext=(0, 4),
            textcoords="offset points", ha=side, va="bottom", size=SMALL, color=colour,
            annotation_clip=False, **DATA_TEXT,
        )  # fmt: skip
