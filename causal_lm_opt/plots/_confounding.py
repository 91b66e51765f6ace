"""How far objectives get under a confounded outcome model, and by which way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from causal_lm_opt.plots._theme import Theme, finite_column, legend_below, note_above, open_axes

__all__ = ["confounding_plot", "training_paths_plot"]

SHAPES: Mapping[str, str] = {"ft": "D", "cpo": "^", "oo": "s", "dr": "o", "targeted": "v"}
NAMES: Mapping[str, str] = {
    "ft": "FT (start)", "cpo": "CPO", "oo": "OO-RLHF", "dr": "DR-CPO", "targeted": "targeted",
}  # fmt: skip


def confounding_plot(
    table: pd.DataFrame,
    *,
    start: float,
    best: float,
    title: str = "",
    theme: str = "light",
    ax: Axes | None = None,
) -> Axes:
    """True value that each objective reaches, scenario by scenario.

    Parameters
    ----------
    table : DataFrame
        Columns ``scene`` (drawn from the top in the order found), ``objective``, ``true_value``,
        ``low``, ``high``; one row for each of a scene.
    start, best : float
        V(f0) and V_max, drawn as lines.
    title : str
    theme : {"light", "dark"}
    ax : Axes, optional

    Returns
    -------
    Axes

    Examples
    --------
    >>> import pandas as pd
    >>> from causal_lm_opt import plots
    >>> table = pd.DataFrame({"scene": "right", "objective": ["oo", "dr"], "true_value": [64., 63.],
    ...                       "low": [63., 62.], "high": [65., 64.]})
    >>> plots.confounding_plot(table, start=54., best=66., ax=plots.new_axes()).get_xlabel()
    'true value (points)'
    """
    finite_column(table, "true_value")
    scenes = list(dict.fromkeys(table["scene"]))
    ax, palette = open_axes(ax, 1.0 + 0.85 * len(scenes), theme)
    names = [name for name in NAMES if name in set(table["objective"])]
    ax.axvline(start, color=palette.soft, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
    ax.axvline(best, color=palette.ink, linewidth=1.0, zorder=1)
    for row in table.to_dict("records"):
        k = names.index(str(row["objective"]))
        y = scenes.index(row["scene"]) + 0.14 * (k - (len(names) - 1) / 2)
        style = _style(names[k], palette)
        if np.isfinite(row["low"]):
            ax.plot([row["low"], row["high"]], [y, y], color=style["color"], linewidth=1.6)
        ax.plot(row["true_value"], y, linestyle="none", markersize=5.5, zorder=4, **style)
    reached = table["true_value"].to_numpy(dtype=float)
    span = best - min(start, float(reached.min()))
    # Intervals of two seeds may be wider than all that can be reached: they leave the plot.
    low = max(float(np.nanmin([*table["low"], start])), float(reached.min()) - 0.3 * span)
    high = min(
        float(np.nanmax([*table["high"], best])), max(best, float(reached.max())) + 0.1 * span
    )
    ax.set_xlim(low - 0.03 * span, high + 0.03 * span)
    ax.set_yticks(range(len(scenes)), scenes)
    ax.set_ylim(len(scenes) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("true value (points)")
    note = f"dashed: start, {start:.1f}; line: best text, {best:.1f}"
    note_above(ax, [*filter(None, [title]), note], palette)
    legend_below(ax, [(_mark(n, palette), NAMES[n]) for n in names], palette, columns=3)
    return ax


def training_paths_plot(
    paths: Mapping[str, Sequence[Sequence[float]]],
    *,
    every: int,
    start: float,
    best: float,
    title: str = "",
    theme: str = "light",
    ax: Axes | None = None,
) -> Axes:
    """True value by step of training: a thin line a seed, a thick one their mean.

    Parameters
    ----------
    paths : mapping of objective -> sequences of true values
        After ``every``, ``2 every``, ... steps.
    every : int
    start, best : float
        V(f0), at step 0, and V_max.

    Returns
    -------
    Axes

    Examples
    --------
    >>> from causal_lm_opt import plots
    >>> plots.training_paths_plot({"dr": [[56., 58.], [57., 60.]]}, every=14, start=54., best=66.,
    ...                           ax=plots.new_axes()).get_xlabel()
    'steps'
    """
    ax, palette = open_axes(ax, 3.6, theme)
    ax.axhline(best, color=palette.ink, linewidth=1.0, zorder=1)
    for name, lines in paths.items():
        style = _style(name, palette)
        longest = max(len(line) for line in lines)
        drawn = np.full((len(lines), longest + 1), np.nan)
        drawn[:, 0] = start
        for i, line in enumerate(lines):
            drawn[i, 1 : len(line) + 1] = line
        steps = every * np.arange(longest + 1)
        ax.plot(steps, drawn.T, color=style["color"], linewidth=0.6, alpha=0.35, zorder=2)
        ax.plot(steps, np.nanmean(drawn, axis=0), linewidth=1.9, markersize=4.5, zorder=4, **style)
    ax.set_xlabel("steps")
    ax.set_ylabel("true value (points)")
    note = f"line: best text, {best:.1f}; thin: single seeds"
    note_above(ax, [*filter(None, [title]), note], palette)
    legend_below(ax, [(_mark(n, palette), NAMES[n]) for n in paths], palette, columns=3)
    return ax


def _style(name: str, palette: Theme) -> dict[str, Any]:
    colours = {"ft": palette.soft, "cpo": palette.second, "oo": palette.no, "dr": palette.first,
               "targeted": palette.ink}  # fmt: skip
    colour = colours[name]
    return {"color": colour, "markeredgecolor": colour, "marker": SHAPES[name]}


def _mark(name: str, palette: Theme) -> Line2D:
    return Line2D([], [], linewidth=1.6, markersize=5.5, **_style(name, palette))
