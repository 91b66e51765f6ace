"""Learning curves of an optimiser: values on select rows, their difference, what they rest on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from causal_lm_opt.plots._theme import (
    DATA_TEXT,
    MARKERS,
    TIPS,
    WIDTH,
    FloatArray,
    Theme,
    dress,
    legend_below,
    note_above,
    percent_axis,
    percent_text,
    plain_numbers,
    shown_text,
    themed,
)

__all__ = ["training_plot"]

NEEDED = (
    "step", "value", "lower", "upper", "start", "difference", "difference_lower",
    "difference_upper", "ess", "verdict", "model_based",
)  # fmt: skip
HEIGHT = 6.6
SHADE = 0.18
DASHED, DOTTED = (0, (5, 3)), (0, (1, 1.5))
Panels = tuple[Axes, Axes, Axes]


def training_plot(
    history: pd.DataFrame,
    *,
    chosen: int = 0,
    floor: float | None = None,
    unit: str = "outcome",
    level: float = 0.95,
    theme: str = "light",
    axes: Panels | None = None,
) -> Panels:
    r"""Values of a policy while it was trained, on rows that training did not see.

    Three panels over optimiser steps: V(f) and V(f0) with bands, and dotted with hollow points the
    outcome model's own mean over fresh texts, which is no estimate; V(f) - V(f0), whose lower end
    chooses the checkpoint; the effective sample size behind both.

    Parameters
    ----------
    history : DataFrame
        ``history_`` of an optimiser, one row an evaluation: ``step``, ``value``, ``lower``,
        ``upper``, ``start``, ``difference``, ``difference_lower``, ``difference_upper``, ``ess``
        (share), ``verdict``, ``model_based``; ``start_lower`` and ``start_upper`` are drawn where
        there are any. Values may be missing where the rows could not say them.
    chosen : int
        Step of the chosen checkpoint; 0 for none.
    floor : float, optional
        Share below which a checkpoint is not chosen.
    unit : str
        Name of the outcome.
    level : float
        Of the bands.
    theme : {"light", "dark"}
    axes : three Axes, optional

    Returns
    -------
    tuple of three Axes

    Raises
    ------
    ValueError
        Missing columns, no rows, an unknown verdict, or a step twice.

    Examples
    --------
    >>> import pandas as pd
    >>> from causal_lm_opt import plots
    >>> history = pd.DataFrame({"step": [10, 20], "value": [44., 47.], "lower": [43., 45.],
    ...     "upper": [45., 49.], "start": [43., 43.], "difference": [1., 4.],
    ...     "difference_lower": [.2, 2.], "difference_upper": [1.8, 6.], "ess": [.9, .4],
    ...     "verdict": ["trustworthy", "caution"], "model_based": [45., 49.]})
    >>> panels = plots.training_plot(history, chosen=20, floor=.05)
    >>> [ax.get_ylabel() for ax in panels]
    ['outcome', 'V(f) − V(f0)', 'ESS per row']
    """
    _check(history)
    palette = themed(theme)
    panels = _new_panels() if axes is None else axes
    for ax in panels:
        dress(ax, palette)
    rows = history.sort_values("step", kind="stable").reset_index(drop=True)
    values, differences, sizes = panels
    at = rows["step"].to_numpy(dtype=np.float64)
    _values(values, rows, at, palette)
    _difference(differences, rows, at, palette)
    _sizes(sizes, rows, at, floor, palette)
    _chosen(panels, chosen, palette)
    if at[0] > 0:
        _beginning(panels, float(rows["start"].iloc[0]), float(at[0]), palette)
    plain_numbers(values.yaxis, wanted=5)
    plain_numbers(differences.yaxis, wanted=4)
    plain_numbers(sizes.xaxis, wanted=7)
    values.set_ylabel(shown_text(unit, 28), **DATA_TEXT)
    differences.set_ylabel("V(f) − V(f0)")
    sizes.set_ylabel("ESS per row")
    sizes.set_xlabel("optimiser steps")
    for ax in (values, differences):
        ax.tick_params(labelbottom=False)
    first = min(at[0], 0.0)
    span = at[-1] - first or 1.0
    for ax in panels:
        ax.set_xlim(first - 0.04 * span, at[-1] + 0.04 * span)
    note_above(values, [f"select rows; bands and bars: {100 * level:.10g}% intervals"], palette)
    legend_below(sizes, _legend(rows, chosen, palette), palette)
    return panels


def _new_panels() -> Panels:
    """Axes of a new figure that pyplot does not know."""
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    grid = figure.subplots(3, 1, height_ratios=[3.0, 2.0, 1.4], squeeze=False)
    return grid[0, 0], grid[1, 0], grid[2, 0]


def _check(history: pd.DataFrame) -> None:
    missing = [c for c in NEEDED if c not in history.columns]
    if missing:
        raise ValueError(
            f"The history has no column {missing[0]!r}; it has {list(history.columns)}."
        )
    if not len(history):
        raise ValueError("The history has no rows: no evaluation was made.")
    if history["step"].duplicated().any():
        raise ValueError("A step occurs twice in the history; keep one evaluation of each.")
    strange = sorted(set(map(str, history["verdict"])) - set(MARKERS))
    if strange:
        raise ValueError(f"Unknown verdict {strange[0]!r}; verdicts are {list(MARKERS)}.")


def _numbers(rows: pd.DataFrame, column: str) -> FloatArray:
    return rows[column].to_numpy(dtype=np.float64)


# ------------------------------------------------------------------------------ panels
def _values(ax: Axes, rows: pd.DataFrame, at: FloatArray, palette: Theme) -> None:
    value = _numbers(rows, "value")
    _band(ax, rows, at, ("lower", "upper"), palette.first, "value", 1.0)
    if {"start_lower", "start_upper"} <= set(rows.columns):
        _band(ax, rows, at, ("start_lower", "start_upper"), palette.soft, "start", 0.9)
    ax.plot(
        at, _numbers(rows, "start"), color=palette.soft, linestyle=DASHED, linewidth=1.4,
        zorder=3, gid="start",
    )  # fmt: skip
    ax.plot(
        at, _numbers(rows, "model_based"), color=palette.second, linestyle=DOTTED, linewidth=1.4,
        marker="s", markersize=4.5, markerfacecolor="none", zorder=2, gid="model-based",
    )  # fmt: skip
    ax.plot(at, value, color=palette.first, linewidth=1.6, zorder=4, gid="value")
    _points(ax, rows, at, value, palette, "value")


def _band(
    ax: Axes, rows: pd.DataFrame, at: FloatArray, ends: tuple[str, str], colour: str, name: str,
    above: float,
) -> None:  # fmt: skip
    """Intervals as a band; one without a neighbour has no width there, and is a bar."""
    low, high = (_numbers(rows, end) for end in ends)
    ax.fill_between(
        at, low, high, color=colour, alpha=SHADE, linewidth=0, zorder=above, gid=f"{name}-band"
    )
    known = np.concatenate([[False], np.isfinite(low) & np.isfinite(high), [False]])
    for j in np.flatnonzero(known[1:-1] & ~known[:-2] & ~known[2:]):
        # the start's own mark is at step 0, where its bar is not hidden behind the policy's
        x = 0.0 if name == "start" and len(at) == 1 else at[j]
        ax.plot(
            [x, x], [low[j], high[j]], color=colour, linewidth=1.3, zorder=1.0 + above,
            gid=f"{name}-bar-{j}",
        )  # fmt: skip


def _points(
    ax: Axes, rows: pd.DataFrame, at: FloatArray, heights: FloatArray, palette: Theme, name: str
) -> None:
    """A mark for each evaluation, its shape and colour the verdict."""
    for j, (x, y, verdict) in enumerate(zip(at, heights, rows["verdict"], strict=True)):
        if not np.isfinite(y):
            continue
        (mark,) = ax.plot(
            [x], [y], marker=MARKERS[verdict], color=palette.verdict(verdict), linestyle="none",
            markersize=6.0, markeredgewidth=0.0, zorder=5, gid=f"{name}-at-{j}",
        )  # fmt: skip
        TIPS[mark] = f"step {x:.0f}: {y:.4g}, {verdict}"


def _difference(ax: Axes, rows: pd.DataFrame, at: FloatArray, palette: Theme) -> None:
    gap = _numbers(rows, "difference")
    low, high = _numbers(rows, "difference_lower"), _numbers(rows, "difference_upper")
    ax.axhline(0.0, color=palette.soft, linestyle=DASHED, linewidth=1.0, gid="zero")
    for j, (x, a, b) in enumerate(zip(at, low, high, strict=True)):
        if np.isfinite(a) and np.isfinite(b):
            ax.plot([x, x], [a, b], color=palette.first, linewidth=1.3, zorder=3, gid=f"bar-{j}")
    ax.plot(at, gap, color=palette.first, linewidth=1.0, alpha=0.6, zorder=2, gid="difference")
    _points(ax, rows, at, gap, palette, "difference")


def _sizes(
    ax: Axes, rows: pd.DataFrame, at: FloatArray, floor: float | None, palette: Theme
) -> None:
    share = _numbers(rows, "ess")
    ax.plot(at, share, color=palette.first, linewidth=1.6, marker=".", markersize=6, gid="ess")
    if floor is not None:
        ax.axhline(floor, color=palette.no, linestyle=DASHED, linewidth=1.2, gid="floor")
        ax.annotate(
            f"floor {percent_text(floor)}", (0.0, floor), xycoords=("axes fraction", "data"),
            xytext=(2, 3), textcoords="offset points", ha="left", va="bottom", fontsize=8.5,
            color=palette.no,
        )  # fmt: skip
    percent_axis(ax.yaxis)
    ax.set_ylim(0.0, max(1.08 * float(np.nanmax(share, initial=0.0)), 2.5 * (floor or 0.0), 0.1))


def _beginning(panels: Panels, start: float, first: float, palette: Theme) -> None:
    """Step 0, where the policy is the start: its value there, and no difference."""
    for ax, height, name in ((panels[0], start, "value"), (panels[1], 0.0, "difference")):
        if ax is panels[0]:
            ax.plot([0.0, first], [height] * 2, color=palette.soft, linestyle=DASHED, linewidth=1.4)
        (mark,) = ax.plot(
            [0.0], [height], marker="o", markersize=6.0, markerfacecolor="none",
            color=palette.soft, linestyle="none", zorder=5, gid=f"start-{name}",
        )  # fmt: skip
        TIPS[mark] = f"step 0, the start: {height:.4g}"


def _chosen(panels: Panels, step: int, palette: Theme) -> None:
    if step <= 0:
        return
    for ax in panels:
        ax.axvline(step, color=palette.ink, linewidth=1.0, alpha=0.55, zorder=0.8, gid="chosen")


def _legend(rows: pd.DataFrame, chosen: int, palette: Theme) -> list[tuple[Any, str]]:
    first, soft = palette.first, palette.soft
    entries: list[tuple[Any, str]] = [
        (Line2D([], [], color=first, linewidth=1.6), "V(f), the trained policy"),
        (Line2D([], [], color=soft, linestyle=DASHED, linewidth=1.4), "V(f0), the start"),
        (
            Line2D([], [], color=palette.second, linestyle=DOTTED, marker="s", markersize=4.5,
                   markerfacecolor="none"), "model-based, no estimate",
        ),
    ]  # fmt: skip
    if chosen > 0:
        line = Line2D([], [], color=palette.ink, linewidth=1.0, alpha=0.55)
        entries.append((line, f"chosen: step {chosen}"))
    entries += [
        (Line2D([], [], color=palette.verdict(level), marker=MARKERS[level], linestyle="none",
                markersize=6, markeredgewidth=0.0), level)
        for level in MARKERS if (rows["verdict"] == level).any()
    ]  # fmt: skip
    return entries
