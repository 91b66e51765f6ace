"""Calibration plot of an outcome model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from scipy import stats

from causal_lm_opt.plots._theme import (
    DATA_TEXT,
    finite_column,
    legend_below,
    open_axes,
    plain_numbers,
    shown_text,
)

__all__ = ["calibration_plot"]


def calibration_plot(
    table: pd.DataFrame,
    *,
    level: float = 0.95,
    unit: str | None = None,
    theme: str = "light",
    ax: Axes | None = None,
) -> Axes:
    """Mean outcome against mean prediction, by bins of the prediction.

    Parameters
    ----------
    table : DataFrame
        Of :func:`causal_lm_opt.diagnostics.calibration_table`: ``mean_q``, ``mean_y``, ``se``
        (``nan`` for a bin with one unit: drawn hollow, without an interval), ``low``, ``high``.
    level : float
        Of the intervals (normal).
    unit : str, optional
        Name and unit of the outcome.
    theme : {"light", "dark"}
    ax : Axes, optional

    Returns
    -------
    Axes
        Both axes have one scale; a calibrated model's points lie on the diagonal.

    Examples
    --------
    >>> from causal_lm_opt import plots
    >>> from causal_lm_opt.diagnostics import calibration_table
    >>> table = calibration_table([0., 1., 1., 1.], [.2, .2, .8, .8], bins=2)
    >>> plots.calibration_plot(table, ax=plots.new_axes()).get_xlabel()
    'mean prediction'
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie strictly between 0 and 1, got {level!r}.")
    q, y = finite_column(table, "mean_q"), finite_column(table, "mean_y")
    low, high = finite_column(table, "low"), finite_column(table, "high")
    if not q.size:
        raise ValueError("The calibration table has no bin.")
    if "se" not in table.columns:
        raise ValueError(f"The table has no column 'se'; it has {list(table.columns)}.")
    se = np.asarray(table["se"], dtype=np.float64)
    if (se < 0).any() or np.isinf(se).any():
        raise ValueError("Column 'se' holds a negative or infinite standard error.")
    half = float(stats.norm.ppf(0.5 + level / 2)) * se
    ax, palette = open_axes(ax, 4.2, theme)
    known = ~np.isnan(half)
    ends = np.concatenate([low, high, y, (y - half)[known], (y + half)[known]])
    span = float(ends.max() - ends.min()) or max(abs(float(ends.max())), 1.0)
    limits = (float(ends.min()) - 0.04 * span, float(ends.max()) + 0.04 * span)
    ax.plot(limits, limits, color=palette.soft, linestyle=(0, (4, 3)), linewidth=1.2,
            gid="diagonal")  # fmt: skip
    for k in range(q.shape[0]):
        ax.plot([low[k], high[k]], [y[k], y[k]], color=palette.first, linewidth=1.0, alpha=0.6,
                gid=f"range-{k}")  # fmt: skip
        if known[k]:
            ax.plot([q[k], q[k]], [y[k] - half[k], y[k] + half[k]], color=palette.first,
                    linewidth=2.2, solid_capstyle="butt", gid=f"interval-{k}")  # fmt: skip
        ax.plot(q[k], y[k], "o", color=palette.first, markersize=6.5, markeredgewidth=1.5,
                markerfacecolor=palette.first if known[k] else "none", gid=f"bin-{k}")  # fmt: skip
    ax.set_xlim(limits)
    ax.set_ylim(limits)
    ax.set_aspect("equal", adjustable="box")
    plain_numbers(ax.xaxis)
    plain_numbers(ax.yaxis)
    of = "" if unit is None else f" of {shown_text(unit, 24)}"
    ax.set_xlabel(f"mean prediction{of}", **DATA_TEXT)
    said = "mean outcome" if unit is None else f"mean outcome,\n{shown_text(unit, 24)}"
    ax.set_ylabel(said, **DATA_TEXT)
    point: list[tuple[Any, str]] = [
        (Line2D([], [], color=palette.first, marker="o", linewidth=2.2, markersize=6.5),
         f"bin, {100 * level:.4g}% interval"),
        (Line2D([], [], color=palette.soft, linestyle=(0, (4, 3)), linewidth=1.2), "calibrated"),
        (Line2D([], [], color=palette.first, linewidth=1.0, alpha=0.6), "range of predictions"),
    ]  # fmt: skip
    if not known.all():
        point.append((Line2D([], [], color=palette.first, marker="o", markerfacecolor="none",
                             linestyle="", markersize=6.5), "one unit: no interval"))  # fmt: skip
    legend_below(ax, point, palette)
    return ax
