"""Figures of a simulation study over its parameter."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.markers import CARETDOWNBASE
from matplotlib.text import Annotation
from scipy import stats

from causal_lm_opt.plots._theme import (
    DATA_TEXT,
    SMALL,
    Theme,
    legend_below,
    note_above,
    open_axes,
    percent_axis,
    plain_numbers,
    shown_text,
)

__all__ = ["plot_study"]

FloatArray = npt.NDArray[np.float64]
Figure = Literal["coverage", "bias", "sd", "rmse", "se_over_sd", "width"]
SAID = {
    "coverage": "coverage of the interval",
    "bias": "bias",
    "sd": "standard deviation",
    "rmse": "root mean squared error",
    "se_over_sd": "mean standard error / true one",
    "width": "mean width of the interval",
}
FLOOR = 0.70  # coverage below it is written, not drawn to scale
SHAPES = ("o", "s", "^", "D", "v", "P")
MC_LEVEL = 0.95
BELOW, STACKED = SMALL - 1.5, 3  # size of the figures at the floor, most above one another
NUMBER = re.compile(r"^(.*?)\s*([-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?)$")


@dataclass(frozen=True)
class _Axis:
    """Where the settings of a study lie on the horizontal axis."""

    place: dict[Any, float]
    label: str
    words: tuple[str, ...] | None  # names of categories; None for numbers
    log: bool


def plot_study(
    result: Any,
    *,
    x: Literal["design", "n"] | None = None,
    y: Figure = "coverage",
    level: float | None = None,
    theme: str = "light",
    ax: Axes | None = None,
) -> Axes:
    r"""A figure of a simulation study, estimator by estimator, with Monte-Carlo error bars.

    Parameters
    ----------
    result : StudyResult or DataFrame
        Of :func:`causal_lm_opt.simulation.run_study`, or its summary table (or rows of it):
        columns ``design``, ``n``, ``estimator``, the figure and its ``..._mc_se``.
    x : {"design", "n"}, optional
        What runs along the axis; default: the designs where there are several, else the sizes.
        Designs whose names differ by a number at the end stand at that number.
    y : {"coverage", "bias", "sd", "rmse", "se_over_sd", "width"}
    level : float, optional
        Of the intervals, for the line at nominal coverage; default: the study's, .95 for a table.
    theme : {"light", "dark"}
    ax : Axes, optional

    Returns
    -------
    Axes
        Bars are 95 % Monte-Carlo intervals (normal). Where the other of designs and sizes varies
        too, its first setting is drawn hollow and its last full. Coverage below 70 % is
        written at the floor.

    Raises
    ------
    ValueError
        An unknown ``x`` or ``y``, a table without its columns or without one finite figure, or
        more than two settings of what is not on the axis (choose rows of the table).

    Examples
    --------
    >>> import pandas as pd
    >>> from causal_lm_opt import plots
    >>> table = pd.DataFrame({"design": ["shift 1", "shift 2"], "n": 500, "estimator": "DR",
    ...                       "coverage": [.95, .91], "coverage_mc_se": [.01, .01]})
    >>> plots.plot_study(table, ax=plots.new_axes()).get_xlabel()
    'shift'
    """
    table, level = _read(result, y, level)
    along = x or ("design" if table["design"].nunique() > 1 else "n")
    if along not in ("design", "n"):
        raise ValueError(f"x={x!r} is not known; use 'design' or 'n'.")
    other = "n" if along == "design" else "design"
    parts = list(dict.fromkeys(table[other]))
    if len(parts) > 2:
        raise ValueError(
            f"The study has {len(parts)} settings of {other!r}, which is not on the axis; draw "
            f"x={other!r}, or keep one or two of them: plot_study(table[table[{other!r}] == ...])."
        )
    axis = _axis(table, along)
    ax, palette = open_axes(ax, 3.8, theme)
    every = list(dict.fromkeys(table["estimator"]))  # an estimator looks the same for every y
    names = {k: name for k, name in enumerate(every) if _finite(table, name, y)}
    if not names:
        raise ValueError(f"The table has no finite {y!r} to draw.")
    _lines(ax, table, axis, (along, other, y), names, parts, palette)
    _dress(ax, axis, y, level, palette)
    crowded = _stack_figures(ax)
    left = [str(name) for k, name in enumerate(every) if k not in names]
    _words(ax, left, y, palette, crowded=crowded)
    legend_below(ax, _legend(names, other, parts, palette), palette)
    return ax


def _read(result: Any, y: str, level: float | None) -> tuple[pd.DataFrame, float]:
    """The summary table, and the level of its intervals."""
    if y not in SAID:
        raise ValueError(f"y={y!r} is not known; use {', '.join(SAID)}.")
    table = result if isinstance(result, pd.DataFrame) else getattr(result, "summary", None)
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"result must be a StudyResult or its table, got {type(result).__name__}.")
    missing = [c for c in ("design", "n", "estimator", y, f"{y}_mc_se") if c not in table.columns]
    if missing:
        raise ValueError(f"The table has no column {missing[0]!r}; it has {list(table.columns)}.")
    if not len(table):
        raise ValueError("The table has no rows.")
    if table.duplicated(["design", "n", "estimator"]).any():
        raise ValueError("A design, size and estimator occurs twice in the table.")
    stated = 0.95 if level is None and isinstance(result, pd.DataFrame) else level
    stated = float(result.study.level) if stated is None else float(stated)
    if not 0.0 < stated < 1.0:
        raise ValueError(f"level must lie strictly between 0 and 1, got {level!r}.")
    return table, stated


def _finite(table: pd.DataFrame, estimator: Any, y: str) -> bool:
    values = table.loc[table["estimator"] == estimator, y].to_numpy(dtype=np.float64)
    return bool(np.isfinite(values).any())


def _axis(table: pd.DataFrame, along: str) -> _Axis:
    """Places of the settings: numbers where they are numbers, else in their order."""
    settings = list(dict.fromkeys(table[along]))
    if along == "n":
        place = {n: float(n) for n in settings}
        wide = max(place.values()) >= 8.0 * min(place.values()) > 0
        return _Axis(place, "rows", None, wide)
    found = [NUMBER.match(str(s)) for s in settings]
    heads = {m[1] for m in found if m}
    values = [float(m[2]) for m in found if m]
    if len(settings) > 1 and all(found) and len(heads) == 1 and len(set(values)) == len(values):
        return _Axis(
            dict(zip(settings, values, strict=True)), shown_text(heads.pop() or "design"), None,
            log=False,
        )  # fmt: skip
    words = tuple(shown_text(s, 40) for s in settings)
    return _Axis({s: float(k) for k, s in enumerate(settings)}, "", words, log=False)


def _lines(
    ax: Axes,
    table: pd.DataFrame,
    axis: _Axis,
    columns: tuple[str, str, str],
    names: Mapping[int, Any],
    parts: Sequence[Any],
    palette: Theme,
) -> None:
    """One series per estimator and setting of what is not on the axis."""
    along, other, y = columns
    floor = FLOOR if y == "coverage" else -math.inf
    total = len(names) * len(parts)
    for slot, (k, name) in enumerate(names.items()):
        colour, shape = _style(k, palette)
        for j, part in enumerate(parts):
            rows = table[(table["estimator"] == name) & (table[other] == part)]
            place = np.array([axis.place[s] for s in rows[along]], dtype=np.float64)
            order = np.argsort(place, kind="stable")
            value = rows[y].to_numpy(dtype=np.float64)[order]
            error = rows[f"{y}_mc_se"].to_numpy(dtype=np.float64)[order]
            at = _shifted(place[order], axis, (slot * len(parts) + j + 0.5) / total - 0.5)
            gid = f"series-{k}" if len(parts) == 1 else f"series-{k}-{j}"
            full = j == len(parts) - 1
            joined = axis.words is None
            style = {
                "color": colour, "markeredgecolor": colour, "marker": shape, "markersize": 5.5,
                "linewidth": 1.6 if joined else 0.0, "linestyle": "-" if full else (0, (3, 2)),
                "markerfacecolor": colour if full else "none",
            }  # fmt: skip
            _series(ax, at, value, error, floor, y, style, gid)


def _series(
    ax: Axes,
    at: FloatArray,
    value: FloatArray,
    error: FloatArray,
    floor: float,
    y: str,
    style: dict[str, Any],
    gid: str,
) -> None:
    """A line with error bars; what is below the floor is a mark there, with its figure."""
    drawn = np.isfinite(value) & (value >= floor)
    half = float(stats.norm.ppf(0.5 + MC_LEVEL / 2)) * np.where(np.isfinite(error), error, 0.0)
    low, high = value - half, value + half
    if y == "coverage":
        low, high = np.clip(low, floor, 1.0), np.clip(high, floor, 1.0)
    ax.plot(at, np.where(drawn, value, np.nan), gid=gid, zorder=4, **style)
    for k in np.flatnonzero(drawn):
        ax.plot([at[k], at[k]], [low[k], high[k]], color=style["color"], linewidth=1.2,
                gid=f"{gid}-error-{k}", zorder=3)  # fmt: skip
    for k in np.flatnonzero(np.isfinite(value) & ~drawn):
        ax.plot([at[k]], [floor], marker=CARETDOWNBASE, color=style["color"], markersize=5.0,
                linestyle="", clip_on=False, gid=f"{gid}-below-{k}", zorder=4)  # fmt: skip
        ax.annotate(
            f"{100 * value[k]:.0f}%", (at[k], floor), xytext=(0, 5), textcoords="offset points",
            rotation=90, ha="center", va="bottom", size=BELOW, color=style["color"],
            gid=f"{gid}-figure-{k}", **DATA_TEXT,
        )  # fmt: skip


def _stack_figures(ax: Axes) -> bool:
    """Figures at the floor that stand too close go above one another; limits must be set.

    Whether some found no room and were taken out.
    """
    figures = [t for t in ax.texts if "-figure-" in str(t.get_gid()) and isinstance(t, Annotation)]
    points = 72.0 / ax.figure.dpi
    placed: list[tuple[float, int]] = []  # across, in points, and the row above the floor
    for text in sorted(figures, key=lambda t: float(t.xy[0])):
        across = float(ax.transData.transform(text.xy)[0]) * points
        taken = {row for x, row in placed if across - x < BELOW}
        row = next(r for r in range(len(placed) + 1) if r not in taken)
        text.set_position((0, 5 + row * 2.8 * BELOW))
        text.set_visible(row < STACKED)
        placed.append((across, row))
    return any(row >= STACKED for _, row in placed)


def _shifted(place: FloatArray, axis: _Axis, share: float) -> FloatArray:
    """Places moved aside by ``share`` (-.5 to .5) of the room between settings."""
    if axis.words is not None:
        return np.asarray(place + 0.75 * share)
    every = np.array(sorted(axis.place.values()))
    if every.size < 2:
        return np.asarray(place + 0.1 * share * max(abs(float(every[0])), 1.0))
    if axis.log:
        return np.asarray(place * np.exp(0.15 * share * np.diff(np.log(every)).min()))
    return np.asarray(place + 0.3 * share * np.diff(every).min())


def _style(k: int, palette: Theme) -> tuple[str, str]:
    """Colour and marker of the k-th estimator: thirty pairs before one comes again."""
    colours = (palette.first, palette.second, palette.no, palette.ink, palette.soft)
    return colours[k % len(colours)], SHAPES[k % len(SHAPES)]


def _dress(ax: Axes, axis: _Axis, y: str, level: float, palette: Theme) -> None:
    """Scales, ticks, labels, and the line where an estimator should be."""
    wanted = {"coverage": level, "bias": 0.0, "se_over_sd": 1.0}.get(y)
    if wanted is not None:
        ax.axhline(wanted, color=palette.soft, linestyle=(0, (4, 3)), linewidth=1.2,
                   gid="wanted")  # fmt: skip
    if y == "coverage":
        heights = np.concatenate([np.asarray(line.get_ydata(), float) for line in ax.lines])
        lowest = float(np.nanmin(heights))  # a line all below the floor is nan: the rest is there
        ax.set_ylim(min(lowest, level - 0.1) - (0.0 if lowest <= FLOOR else 0.01), 1.005)
        percent_axis(ax.yaxis)
    else:
        plain_numbers(ax.yaxis)
        if y != "bias":
            ax.set_ylim(bottom=0.0)
    places = sorted(axis.place.values())
    if axis.words is not None:
        ax.set_xlim(-0.5, len(axis.words) - 0.5)
        ax.set_xticks(places, [_folded(w, len(axis.words)) for w in axis.words], **DATA_TEXT)
        ax.grid(False, axis="x")
        ax.tick_params(axis="x", length=0, pad=8)  # room for marks at the floor
    else:
        if axis.log:
            ax.set_xscale("log")
            ax.minorticks_off()
        ax.set_xticks(places, [f"{p:,g}" if p < 1e6 else f"{p:.3g}" for p in places])
    ax.set_xlabel(axis.label, **DATA_TEXT)
    ax.set_ylabel(SAID[y])


def _folded(words: str, count: int) -> str:
    """A name over several lines, as many letters a line as the axis has room for."""
    width = max(8, 44 // count)
    lines = [""]
    for word in words.split():
        joined = f"{lines[-1]} {word}".strip()
        if len(joined) <= width or not lines[-1]:
            lines[-1] = joined
        else:
            lines.append(word)
    return "\n".join(lines)


def _words(ax: Axes, left: Sequence[str], y: str, palette: Theme, *, crowded: bool) -> None:
    """What the bars are, and which estimators have nothing to draw."""
    lines = [f"bars: {100 * MC_LEVEL:.0f}% Monte-Carlo intervals"]
    if any("-below-" in str(line.get_gid()) for line in ax.lines):
        lines[0] += f"; below {100 * FLOOR:.0f}% as written"
        lines += ["(not all of these have room: see the table)"] * crowded
    if left:
        lines.insert(0, f"without {SAID[y]}: {', '.join(shown_text(e, 24) for e in left)}")
    note_above(ax, lines, palette)


def _legend(
    names: Mapping[int, Any], other: str, parts: Sequence[Any], palette: Theme
) -> list[tuple[Any, str]]:
    entries: list[tuple[Any, str]] = []
    for k, name in names.items():
        colour, shape = _style(k, palette)
        mark = Line2D([], [], color=colour, marker=shape, markersize=5.5, linewidth=1.6)
        entries.append((mark, shown_text(name, 28)))
    if len(parts) == 2:
        for part, full in zip(parts, (False, True), strict=True):
            mark = Line2D([], [], color=palette.ink, marker="o", linestyle="", markersize=5.5,
                          markerfacecolor=palette.ink if full else "none")  # fmt: skip
            entries.append((mark, f"n = {part:,}" if other == "n" else shown_text(part, 28)))
    return entries
