"""Accuracy of preference rewards over correlation or confounding, beside the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from causal_lm_opt.plots._theme import (
    DATA_TEXT,
    Theme,
    finite_column,
    legend_below,
    note_above,
    open_axes,
    percent_axis,
    shown_text,
)

__all__ = ["preference_plot"]

SHAPES = ("o", "s", "^", "D", "v", "P")
DOTTED = (0, (1, 1.5))
CLOSE = 0.07  # of the axis, nearer than which two labels touch
NEEDED = ("rho", "model", "accuracy", "low", "high")
LABELS = {
    "correlation": "correlation of the factors' differences in training",
    "share": "pairs whose objective is the prompt's type (rho)",
}


def preference_plot(
    table: pd.DataFrame,
    *,
    x: str = "correlation",
    title: str = "",
    bars: str = "bars: 95% intervals over seeds",
    limits: tuple[float, float] | None = None,
    theme: str = "light",
    ax: Axes | None = None,
) -> Axes:
    r"""Accuracy of each model over rho on one test, the paper's figures hollow and dashed.

    Parameters
    ----------
    table : DataFrame
        Columns ``rho`` (drawn at even steps where two lie close together), ``model``,
        ``accuracy``, ``low``, ``high`` (``nan`` for none) and, where there are published figures,
        ``paper``; one row per model and rho, of one test.
    x : {"correlation", "share"} or other text
        What rho is.
    title : str
        Above the axes, such as the test's name.
    bars : str
        What the bars are.
    limits : tuple of float, optional
        Of the vertical axis, so that several plots can be compared.
    theme : {"light", "dark"}
    ax : Axes, optional

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        Missing columns, no rows, or a model twice at one rho.

    Examples
    --------
    >>> import pandas as pd
    >>> from causal_lm_opt import plots
    >>> table = pd.DataFrame({"rho": [0., .9], "model": "Base", "accuracy": [.65, .56],
    ...                       "low": [.64, .55], "high": [.66, .57], "paper": [.645, .578]})
    >>> plots.preference_plot(table, ax=plots.new_axes()).get_ylabel()
    'accuracy'
    """
    missing = [c for c in NEEDED if c not in table.columns]
    if missing:
        raise ValueError(f"The table has no column {missing[0]!r}; it has {list(table.columns)}.")
    if not len(table):
        raise ValueError("The table has no rows.")
    if table.duplicated(["rho", "model"]).any():
        raise ValueError("A model occurs twice at one rho; keep the rows of one test and lambda.")
    finite_column(table, "accuracy")
    ax, palette = open_axes(ax, 3.8, theme)
    names = list(dict.fromkeys(table["model"]))
    drawn = {name: table[table["model"] == name] for name in names}
    bare = [not np.isfinite(rows["low"].to_numpy(dtype=float)).any() for rows in drawn.values()]
    place = _places(sorted({float(r) for r in table["rho"]}))
    aside = 0.008 * max(place.values())  # so that bars of the same rho do not hide each other
    for k, rows in enumerate(drawn.values()):
        shift = (k - (len(names) - 1) / 2) * aside
        _series(ax, rows, place, k, shift, bare=bare[k], palette=palette)
    ax.axhline(0.5, color=palette.soft, linestyle=(0, (4, 3)), linewidth=1.0, gid="chance")
    percent_axis(ax.yaxis)
    if limits is not None:
        ax.set_ylim(*limits)
    ax.set_xticks(list(place.values()), [f"{rho:g}" for rho in place])
    ax.set_xlabel(LABELS.get(x, x), **DATA_TEXT)
    ax.set_ylabel("accuracy")
    known = "paper" in table and bool(np.isfinite(table["paper"].to_numpy(dtype=float)).any())
    words = f"{bars}; hollow: the paper" if known else bars
    note_above(ax, [*([title] if title else []), words], palette)
    marks = [_mark(k, palette, bare=bare[k]) for k in range(len(names))]
    said = [shown_text(name, 28) for name in names]
    legend_below(ax, list(zip(marks, said, strict=True)), palette)
    return ax


def _series(
    ax: Axes,
    rows: pd.DataFrame,
    place: Mapping[float, float],
    k: int,
    shift: float,
    *,
    bare: bool,
    palette: Theme,
) -> None:
    """One model's line with intervals (dotted without any), and the paper's points beside it."""
    rows = rows.sort_values("rho")
    at = _at(rows, place) + (0.0 if bare else shift)
    style = _style(k, palette)
    ax.plot(
        at, rows["accuracy"].to_numpy(dtype=float), gid=f"series-{k}", zorder=4, linewidth=1.6,
        linestyle=DOTTED if bare else "-", markersize=0.0 if bare else 5.0, **style,
    )  # fmt: skip
    for j, (x, low, high) in enumerate(zip(at, rows["low"], rows["high"], strict=True)):
        if np.isfinite(low) and np.isfinite(high):
            ax.plot([x, x], [low, high], color=style["color"], linewidth=1.2,
                    gid=f"series-{k}-interval-{j}", zorder=3)  # fmt: skip
    if "paper" not in rows:
        return
    known = rows[np.isfinite(rows["paper"].to_numpy(dtype=float))]
    if len(known):
        ax.plot(
            _at(known, place), known["paper"].to_numpy(dtype=float),
            gid=f"paper-{k}", zorder=2, linewidth=1.0, linestyle=(0, (4, 3)), markersize=5.0,
            markerfacecolor="none", **style,
        )  # fmt: skip


def _style(k: int, palette: Theme) -> dict[str, Any]:
    colours = (palette.first, palette.second, palette.no, palette.soft, palette.ink)
    colour = colours[k % len(colours)]
    return {"color": colour, "markeredgecolor": colour, "marker": SHAPES[k % len(SHAPES)]}


def _mark(k: int, palette: Theme, *, bare: bool) -> Line2D:
    return Line2D([], [], linewidth=1.6, linestyle=DOTTED if bare else "-",
                  markersize=0.0 if bare else 5.0, **_style(k, palette))  # fmt: skip


def _places(rhos: Sequence[float]) -> dict[float, float]:
    """Where each rho stands: to scale from 0, or at even steps where labels would touch."""
    span = rhos[-1] - rhos[0]
    if len(rhos) > 1 and min(np.diff(rhos)) < CLOSE * span:
        return {rho: float(k) for k, rho in enumerate(rhos)}
    return {rho: (rho - rhos[0]) / span if span > 0.0 else 0.0 for rho in rhos}


def _at(rows: pd.DataFrame, place: Mapping[float, float]) -> npt.NDArray[np.float64]:
    return np.array([place[float(rho)] for rho in rows["rho"]])
