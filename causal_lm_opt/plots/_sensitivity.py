"""Bounds of a value against the strength of a violated assumption."""

from __future__ import annotations

import math
from typing import Any

import matplotlib.ticker as mticker
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from causal_lm_opt.plots._theme import (
    DATA_TEXT,
    MARKERS,
    TIPS,
    Theme,
    finite_column,
    legend_below,
    note_above,
    open_axes,
    plain_numbers,
    shown_text,
)

__all__ = ["sensitivity_plot"]

FloatArray = npt.NDArray[np.float64]
DASHED: Any = (0, (4, 3))
LABEL = 0.08  # of the axis, from one label's middle to the next


# ------------------------------------------------------------------------------ bounds
def sensitivity_plot(
    table: pd.DataFrame,
    *,
    claim: float | None = None,
    breakdown: float | None = None,
    level: float = 0.95,
    unit: str | None = None,
    difference: bool = False,
    theme: str = "light",
    ax: Axes | None = None,
) -> Axes:
    """Bounds of a value, or of a difference, against the strength of a violation.

    Parameters
    ----------
    table : DataFrame
        One quantity of :meth:`causal_lm_opt.estimators.SensitivityResult.to_frame`: ``lambda``
        (ascending, from 1), ``value``, ``lower``, ``upper``, ``ci_lower``, ``ci_upper``; a column
        ``quantity`` names it.
    claim : float, optional
        Number that the value is claimed to exceed, or to stay under (0: of a difference): a
        dashed line.
    breakdown : float, optional
        Strength at which the claim stops holding, 1 or more or ``inf``; needs ``claim``.
    level : float
        What the intervals were made for, to be named.
    unit : str, optional
        Name and unit of the outcome.
    difference : bool
        The quantity is a difference of two values.
    theme : {"light", "dark"}
    ax : Axes, optional

    Returns
    -------
    Axes
        Strengths on a logarithmic axis; between them lines are drawn straight.

    Raises
    ------
    ValueError
        Several quantities, fewer than two strengths, strengths below 1 or out of order, a missing
        column or NaN, ``breakdown`` without ``claim`` or below 1.

    Examples
    --------
    >>> import pandas as pd
    >>> from causal_lm_opt import plots
    >>> table = pd.DataFrame({"lambda": [1.0, 2.0], "value": 3.0, "lower": [3.0, 2.0],
    ...     "upper": [3.0, 4.5], "ci_lower": [2.5, 1.5], "ci_upper": [3.5, 5.0]})
    >>> ax = plots.sensitivity_plot(table, claim=2.5, breakdown=1.41, ax=plots.new_axes())
    >>> ax.get_title("left")
    'the claim holds up to Λ = 1.41'
    """
    columns = _columns(table)
    strength = columns["lambda"]
    _check_claim(claim, breakdown)
    ax, palette = open_axes(ax, 3.8, theme)
    _strength_axis(ax, strength)
    _value_axis(ax, columns, claim, unit, difference=difference)
    _bands(ax, columns, palette)
    value = float(columns["value"][0])
    ax.plot(strength, np.full(strength.size, value), color=palette.first, linewidth=1.0,
            linestyle=(0, (1, 2)), gid="value")  # fmt: skip
    ax.plot(strength[0], value, "o", color=palette.first, markersize=7.5, markeredgewidth=0.0,
            clip_on=False, zorder=5, gid="estimate")  # fmt: skip
    if claim is not None:
        ax.axhline(claim, color=palette.second, linestyle=DASHED, linewidth=1.4, gid="claim")
    marked = breakdown is not None and strength[0] <= breakdown <= strength[-1]
    if claim is not None and breakdown is not None and marked:
        ax.plot([breakdown] * 2, [ax.get_ylim()[0], claim], color=palette.no, linewidth=1.0,
                linestyle=(0, (1, 2)), gid="strength")  # fmt: skip
        (mark,) = ax.plot(breakdown, claim, MARKERS["do not use"], color=palette.no, markersize=9,
                          markeredgewidth=0.0, clip_on=False, zorder=6,
                          gid="breakdown")  # fmt: skip
        TIPS[mark] = f"Λ = {breakdown:.3g}"
    lines = [shown_text(table["quantity"].iloc[0], 48)] if "quantity" in table.columns else []
    if breakdown is not None:
        lines.append(_breakdown_words(breakdown, float(strength[-1])))
    note_above(ax, lines, palette)
    legend_below(ax, _bounds_legend(palette, level, claim, marked=marked), palette)
    return ax


def _columns(table: pd.DataFrame) -> dict[str, FloatArray]:
    """The table's figures, checked."""
    if "quantity" in table.columns and table["quantity"].nunique() != 1:
        raise ValueError(
            "table holds several quantities; pass the rows of one, as in "
            "table[table['quantity'] == name]."
        )
    names = ("lambda", "value", "lower", "upper")
    columns = {name: finite_column(table, name) for name in names}
    columns |= {name: finite_column(table, name) for name in ("ci_lower", "ci_upper")}
    strength = columns["lambda"]
    if strength.size < 2 or (np.diff(strength) <= 0).any() or strength[0] < 1:
        raise ValueError("table must hold at least two strengths lambda of 1 or more, ascending.")
    return columns


def _check_claim(claim: float | None, breakdown: float | None) -> None:
    if claim is not None and not math.isfinite(claim):
        raise ValueError(f"claim must be a finite number, got {claim!r}.")
    if breakdown is None:
        return
    if claim is None:
        raise ValueError("breakdown is where a claim stops holding: pass claim as well.")
    if not breakdown >= 1:
        raise ValueError(f"breakdown must be a strength of at least 1, got {breakdown!r}.")


def _bands(ax: Axes, columns: dict[str, FloatArray], palette: Theme) -> None:
    """The interval as the paler band, the bounds on top of it."""
    strength, colour = columns["lambda"], palette.first
    for low, high, alpha, dash, name in (
        ("ci_lower", "ci_upper", 0.14, DASHED, "interval"),
        ("lower", "upper", 0.34, "-", "bounds"),
    ):
        ax.fill_between(strength, columns[low], columns[high], facecolor=colour, edgecolor="none",
                        alpha=alpha, linewidth=0.0, gid=name)  # fmt: skip
        for column in (low, high):
            ax.plot(strength, columns[column], color=colour, linestyle=dash,
                    linewidth=1.0 if name == "interval" else 2.0,
                    gid=column.replace("_", "-"))  # fmt: skip


def _strength_axis(ax: Axes, strength: FloatArray) -> None:
    ax.set_xscale("log")
    ax.set_xlim(strength[0], strength[-1])
    ax.xaxis.set_major_locator(mticker.FixedLocator(_ticks(strength)))
    ax.xaxis.set_major_formatter(mticker.FuncFormatter(lambda x, _: f"{x:.3g}"))
    ax.xaxis.set_minor_locator(mticker.NullLocator())
    ax.set_xlabel("strength of the violation, Λ (1: none)")


def _ticks(strength: FloatArray) -> list[float]:
    """First and last strength, and those between whose labels have room on the logarithmic axis.

    >>> _ticks(np.array([1.0, 1.05, 1.1, 1.25, 1.5, 2.0, 3.0]))
    [1.0, 1.1, 1.25, 1.5, 2.0, 3.0]
    """
    at = np.log(strength / strength[0]) / math.log(strength[-1] / strength[0])
    kept = [0]
    for k in range(1, strength.size - 1):
        if min(at[k] - at[kept[-1]], 1.0 - at[k]) >= LABEL:
            kept.append(k)
    return [float(strength[k]) for k in (*kept, strength.size - 1)]


def _value_axis(
    ax: Axes,
    columns: dict[str, FloatArray],
    claim: float | None,
    unit: str | None,
    *,
    difference: bool,
) -> None:
    ends = np.concatenate([v for name, v in columns.items() if name != "lambda"])
    ends = ends if claim is None else np.append(ends, claim)
    low, high = float(ends.min()), float(ends.max())
    pad = 0.05 * (high - low) or 0.5 * max(abs(high), 1.0)
    ax.set_ylim(low - pad, high + pad)
    plain_numbers(ax.yaxis)
    said = "value" if unit is None else f"mean of {shown_text(unit, 30)}"
    ax.set_ylabel(f"difference in\n{said}" if difference else said, **DATA_TEXT)


def _breakdown_words(breakdown: float, largest: float) -> str:
    """Where the claim falls, in words.

    >>> _breakdown_words(1.0, 3.0), _breakdown_words(7.25, 3.0)
    ('the claim fails even without a violation', 'the claim holds up to Λ = 7.25, beyond this plot')
    """
    if breakdown <= 1:
        return "the claim fails even without a violation"
    if math.isinf(breakdown):
        return "the claim holds at every Λ tried"
    beyond = ", beyond this plot" if breakdown > largest else ""
    return f"the claim holds up to Λ = {breakdown:.3g}{beyond}"


def _bounds_legend(
    palette: Theme, level: float, claim: float | None, *, marked: bool
) -> list[tuple[Any, str]]:
    def band(alpha: float, dash: Any, width: float) -> Any:
        edge = Line2D([], [], color=palette.first, linestyle=dash, linewidth=width)
        return (Patch(color=palette.first, alpha=alpha, linewidth=0), edge)

    entries: list[tuple[Any, str]] = [
        (band(0.34, "-", 2.0), "bounds"),
        (band(0.14, DASHED, 1.0), f"{100 * level:.4g}% interval"),
        (Line2D([], [], color=palette.first, marker="o", linestyle="", markersize=7.5),
         "estimate"),
    ]  # fmt: skip
    if claim is not None:
        mark = Line2D([], [], color=palette.second, linestyle=DASHED, linewidth=1.4)
        entries.append((mark, f"claim: {claim:.4g}"))
    if marked:
        mark = Line2D([], [], color=palette.no, marker=MARKERS["do not use"], linestyle="",
                      markersize=9, markeredgewidth=0.0)  # fmt: skip
        entries.append((mark, "claim falls"))
    return entries
