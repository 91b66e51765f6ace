"""Love plot: balance of features before and after weighting."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from scipy import stats

from causal_lm_opt.plots._theme import (
    DATA_TEXT,
    Theme,
    finite_column,
    legend_below,
    note_above,
    open_axes,
    plain_numbers,
    shown_text,
)

__all__ = ["love_height", "love_plot"]

ROW = 0.23  # inches
NAME = 26  # letters
MARGIN = 0.1  # standardised differences below it are commonly called balanced


def love_plot(
    table: pd.DataFrame,
    *,
    n_features: int = 30,
    level: float = 0.95,
    theme: str = "light",
    ax: Axes | None = None,
) -> Axes:
    """Standardised mean differences of features before and after weighting.

    Parameters
    ----------
    table : DataFrame
        Of :func:`causal_lm_opt.diagnostics.balance`: ``feature``, ``smd_unweighted``,
        ``smd_weighted``, ``se_weighted`` (in standard deviations of the feature).
    n_features : int
        Features shown, the most imbalanced (before or after) first; the plot says how many it
        leaves out.
    level : float
        Of the intervals around the weighted differences.
    theme : {"light", "dark"}
    ax : Axes, optional

    Returns
    -------
    Axes
        Dotted lines at differences of -.1 and .1. An infinite difference (a feature that is
        constant in both samples, at two values) is an arrow head.

    Examples
    --------
    >>> from causal_lm_opt import plots
    >>> table = pd.DataFrame({"feature": ["length", "polite"], "smd_unweighted": [.1, -.5],
    ...                       "smd_weighted": [.02, .01], "se_weighted": [.03, .04]})
    >>> ax = plots.love_plot(table, ax=plots.new_axes())
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['polite', 'length']
    """
    if isinstance(n_features, bool) or not isinstance(n_features, int) or n_features < 1:
        raise ValueError(f"n_features must be a positive whole number, got {n_features!r}.")
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie strictly between 0 and 1, got {level!r}.")
    rows = _worst_first(table)
    shown = rows.head(n_features)
    ax, palette = open_axes(ax, love_height(len(shown)), theme)
    y = np.arange(len(shown)) + 0.5
    z = float(stats.norm.ppf(0.5 + level / 2))
    reach = _reach(shown, z)
    ax.set_xlim(-reach, reach)
    ax.set_ylim(len(shown) + 0.1, 0.0)
    ax.axvline(0.0, color=palette.soft, linewidth=1.0)
    for side in (-MARGIN, MARGIN):
        ax.axvline(side, color=palette.soft, linewidth=1.0, linestyle=(0, (1, 2)))
    for k, row in enumerate(shown.itertuples()):
        _draw_row(ax, k, y[k], row, palette, z, reach)
    ax.set_yticks(y, [shown_text(f, NAME) for f in shown["feature"]], **DATA_TEXT)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.grid(False, axis="y")
    plain_numbers(ax.xaxis)
    ax.set_xlabel("logged minus target mean (SDs)")
    left_out = len(rows) - len(shown)
    if left_out:
        note_above(ax, [f"{left_out} better balanced features not shown"], palette)
    legend_below(ax, _legend(palette, level), palette, side="right")
    return ax


def love_height(n_features: int) -> float:
    """Inches a Love plot of that many features wants, for :func:`new_axes`.

    Examples
    --------
    >>> love_height(20) > love_height(5)
    True
    """
    return 1.35 + ROW * (n_features + 0.1)


def _worst_first(table: pd.DataFrame) -> pd.DataFrame:
    """Checked rows, the largest difference before or after weighting first."""
    columns = [
        finite_column(table, c, infinite=True)
        for c in ("smd_unweighted", "smd_weighted", "se_weighted")
    ]
    if "feature" not in table.columns or not len(table):
        raise ValueError("The table must have a column 'feature' and at least one row.")
    if not (columns[2] >= 0).all():
        raise ValueError("Column 'se_weighted' holds a negative standard error.")
    size = np.maximum(np.abs(columns[0]), np.abs(columns[1]))
    return table.iloc[np.argsort(-size, kind="stable")]


def _reach(shown: pd.DataFrame, z: float) -> float:
    """Half the width of the axis: all finite differences, and errors up to twice as far."""
    before, after = (np.abs(shown[f"smd_{c}"].to_numpy(float)) for c in ("unweighted", "weighted"))
    points = np.concatenate([before, after])
    points = points[np.isfinite(points)]
    largest = max(float(points.max()) if points.size else 0.0, 1.5 * MARGIN)
    ends = after + z * shown["se_weighted"].to_numpy(float)
    ends = ends[np.isfinite(ends)]
    return 1.08 * max(largest, min(float(ends.max()), 2 * largest) if ends.size else 0.0)


def _draw_row(ax: Axes, k: int, y: float, row: Any, palette: Theme, z: float, reach: float) -> None:
    before, after = row.smd_unweighted, row.smd_weighted
    inside = [float(np.clip(v, -0.96 * reach, 0.96 * reach)) for v in (before, after)]
    ax.plot(inside, [y, y], color=palette.line, linewidth=1.6, zorder=2)
    if np.isfinite(after):
        ends = [after - z * row.se_weighted, after + z * row.se_weighted]
        ax.plot(ends, [y, y], color=palette.first, linewidth=2.0, zorder=3, gid=f"interval-{k}",
                solid_capstyle="butt")  # fmt: skip
    for value, at, name, colour, filled in (
        (before, inside[0], "before", palette.second, False),
        (after, inside[1], "after", palette.first, True),
    ):
        mark = "o" if np.isfinite(value) else (">" if value > 0 else "<")
        ax.plot(
            at, y, mark, color=colour, markersize=6.5, markeredgewidth=1.6, clip_on=False,
            markerfacecolor=colour if filled else "none", zorder=4, gid=f"{name}-{k}",
        )  # fmt: skip


def _legend(palette: Theme, level: float) -> list[tuple[Any, str]]:
    before = Line2D([], [], color=palette.second, marker="o", markerfacecolor="none",
                    linestyle="", markersize=6.5, markeredgewidth=1.6)  # fmt: skip
    after = Line2D([], [], color=palette.first, marker="o", linewidth=2.0, markersize=6.5)
    margin = Line2D([], [], color=palette.soft, linestyle=(0, (1, 2)), linewidth=1.0)
    return [
        (before, "before weighting"),
        (after, f"after, {100 * level:.4g}% interval"),
        (margin, f"±{MARGIN:g}"),
    ]
