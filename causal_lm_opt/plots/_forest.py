"""Forest plot: policies x estimators with intervals, bands, verdicts and truth."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from causal_lm_opt.comparison import Comparison
from causal_lm_opt.diagnostics.verdict import LEVELS
from causal_lm_opt.estimate import ValueEstimate
from causal_lm_opt.plots._theme import (
    DATA_TEXT,
    MARKERS,
    SMALL,
    TEXT,
    TIPS,
    Theme,
    finite_column,
    legend_below,
    open_axes,
    plain_numbers,
    shown_text,
)

__all__ = ["contrast_plot", "forest_height", "forest_plot", "forest_table"]

FloatArray = npt.NDArray[np.float64]
Estimates = ValueEstimate | Mapping[str, ValueEstimate] | pd.DataFrame
ROW, HEAD = 0.24, 1.15  # inches a row; rows' heights a policy's heading takes
NAME, HEADING = 22, 34  # letters a name may take beside and above the rows


@dataclass(frozen=True)
class _Layout:
    """Where rows stand: ``y`` of each row, headings (y, text), labels of the rows."""

    y: FloatArray
    headings: tuple[tuple[float, str], ...]
    labels: tuple[str, ...]
    depth: float


def forest_plot(
    estimates: Estimates,
    *,
    level: float = 0.95,
    truth: Mapping[str, float] | None = None,
    bands: Any = None,
    reference: float | None = None,
    reference_label: str = "logging mean",
    unit: str | None = None,
    theme: str = "light",
    ax: Axes | None = None,
) -> Axes:
    """Values of policies with their intervals and verdicts, one row per policy and estimator.

    Parameters
    ----------
    estimates : ValueEstimate, mapping of str to ValueEstimate, or DataFrame
        One estimator's values; several estimators' by label; or a table with the columns of
        :meth:`causal_lm_opt.ValueEstimate.to_frame` (``policy``, ``estimator``, ``value``,
        ``ci_lower``, ``ci_upper``, ``verdict``; optional ``band_lower``, ``band_upper``,
        ``truth``, whose missing entries are not drawn).
    level : float
        Of the intervals, in (0, 1); of a table's intervals as it names them.
    truth : mapping policy -> float, optional
        Known values, marked by upright bars.
    bands : array (K, 2), or mapping label -> array (K, 2), optional
        Simultaneous bands (:attr:`causal_lm_opt.Comparison.bands`) of one or several estimators,
        drawn as thin second whiskers; not with a table, which carries its own.
    reference : float, optional
        A dashed line, such as the mean outcome under the logging policy.
    reference_label : str
        What the dashed line is.
    unit : str, optional
        Name and unit of the outcome.
    theme : {"light", "dark"}
    ax : Axes, optional

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        For NaN anywhere, an infinite value, unknown verdicts, or nothing to draw.

    Notes
    -----
    What is fit for use sets the axis. An interval that goes on beyond it, to infinity too, ends in
    an arrow head; so does a value, with the number beside it.

    Examples
    --------
    >>> import numpy as np
    >>> from causal_lm_opt import IPW, plots
    >>> result = IPW().fit(np.zeros((4, 1)), [1., 2., 3., 6.]).result_
    >>> ax = plots.forest_plot(result, unit="minutes", ax=plots.new_axes())
    >>> [line.get_xdata().round(2).tolist() for line in ax.lines if line.get_gid() == "interval-0"]
    [[0.88, 5.12]]
    """
    table = forest_table(estimates, level=level, truth=truth, bands=bands)
    if reference is not None and not math.isfinite(reference):
        raise ValueError(f"reference must be a finite number, got {reference!r}.")
    layout = _layout(table)
    ax, palette = open_axes(ax, _height(layout), theme)
    low, high = _reach(table, reference)
    ax.set_xlim(low, high)
    ax.set_ylim(layout.depth, -0.2)
    ax.grid(False, axis="y")
    ax.spines["left"].set_visible(False)
    plain_numbers(ax.xaxis)
    ax.tick_params(axis="y", length=0)
    ax.set_yticks(layout.y, list(layout.labels), **DATA_TEXT)
    for y, words in layout.headings:
        ax.text(
            0.0, y, words, transform=ax.get_yaxis_transform(), ha="left", va="center", size=TEXT,
            weight="bold", color=palette.ink, **DATA_TEXT,
        )  # fmt: skip
    if reference is not None:
        above, below = _stretches(layout)
        ax.vlines(
            [reference] * len(above), above, below, color=palette.soft, linestyle=(0, (4, 3)),
            linewidth=1.2, zorder=1, gid="reference",
        )  # fmt: skip
    for k, (y, row) in enumerate(zip(layout.y, table.itertuples(), strict=True)):
        _draw_row(ax, k, float(y), row, palette, (low, high))
    what = "policy value" if unit is None else f"mean of {shown_text(unit, 40)}"
    ax.set_xlabel(what, **DATA_TEXT)
    dashed = None if reference is None else shown_text(reference_label, 24)
    side: Literal["left", "right"] = "left" if layout.headings else "right"
    legend_below(ax, _legend(table, palette, dashed), palette, side=side)
    return ax


def contrast_plot(
    comparison: Comparison,
    *,
    unit: str | None = None,
    theme: str = "light",
    ax: Axes | None = None,
) -> Axes:
    """Differences of policies' values with pointwise intervals and simultaneous bands.

    Parameters
    ----------
    comparison : Comparison
        Of :meth:`causal_lm_opt.ValueEstimate.compare`.
    unit : str, optional
        Name and unit of the outcome.
    theme : {"light", "dark"}
    ax : Axes, optional

    Returns
    -------
    Axes

    Examples
    --------
    >>> import numpy as np
    >>> from causal_lm_opt import IPW
    >>> rng = np.random.default_rng(0)
    >>> p = rng.uniform(.3, .7, (50, 2))
    >>> logs = {"logp_logging": np.log(np.full(50, .5)), "logp_target": np.log(p)}
    >>> estimate = IPW().fit(p, rng.normal(size=50), **logs).result_
    >>> from causal_lm_opt import plots
    >>> ax = contrast_plot(estimate.compare(), ax=plots.new_axes())
    >>> len(ax.get_yticklabels())
    1
    """
    axes = forest_plot(
        comparison.contrasts, level=comparison.level, bands=comparison.contrast_bands,
        reference=0.0, reference_label="no difference", theme=theme, ax=ax,
    )  # fmt: skip
    what = "difference" if unit is None else f"difference of mean {shown_text(unit, 36)}"
    axes.set_xlabel(what, **DATA_TEXT)
    return axes


def forest_height(estimates: Estimates) -> float:
    """Inches a forest plot of ``estimates`` wants, for :func:`new_axes`.

    Examples
    --------
    >>> import numpy as np
    >>> from causal_lm_opt import IPW
    >>> rng = np.random.default_rng(0)
    >>> p = rng.uniform(.3, .7, (50, 2))
    >>> logs = {"logp_logging": np.log(np.full(50, .5)), "logp_target": np.log(p)}
    >>> estimate = IPW().fit(p, rng.normal(size=50), **logs).result_
    >>> forest_height({'IPW': estimate}) > 0
    True
    """
    return _height(_layout(forest_table(estimates, level=0.95, truth=None, bands=None)))


def forest_table(
    estimates: Estimates, *, level: float, truth: Mapping[str, float] | None, bands: Any
) -> pd.DataFrame:
    """The rows of a forest plot, checked and grouped by policy: one per policy and estimator."""
    if isinstance(estimates, pd.DataFrame):
        if bands is not None:
            raise ValueError("bands: a table carries its own, as band_lower and band_upper.")
        table = estimates.copy()
    else:
        table = _stacked(estimates, level, bands)
    if table.empty:
        raise ValueError("There is no estimate to draw.")
    for column in ("policy", "estimator", "verdict"):
        if column not in table.columns:
            raise ValueError(f"The table has no column {column!r}; it has {list(table.columns)}.")
    finite_column(table, "value")
    lower = finite_column(table, "ci_lower", infinite=True)
    upper = finite_column(table, "ci_upper", infinite=True)
    if (lower > upper).any():
        row = int(np.argmax(lower > upper))
        raise ValueError(f"Row {row}: the interval's lower end lies above its upper end.")
    unknown = sorted(set(map(str, table["verdict"])) - set(LEVELS))
    if unknown:
        raise ValueError(f"Unknown verdicts {unknown}; there are {list(LEVELS)}.")
    if "level" not in table:
        table["level"] = level
    for column in ("band_lower", "band_upper", "truth"):
        if column not in table:
            table[column] = math.nan
        table[column] = np.asarray(table[column], dtype=np.float64)
    if truth is not None:
        table["truth"] = [_true_value(truth, str(p)) for p in table["policy"]]
    order = {p: k for k, p in enumerate(dict.fromkeys(table["policy"]))}
    return table.sort_values("policy", key=lambda s: s.map(order), kind="stable", ignore_index=True)


def _true_value(truth: Mapping[str, float], policy: str) -> float:
    value = float(truth.get(policy, math.nan))
    if policy in truth and not math.isfinite(value):
        raise ValueError(f"truth[{policy!r}] must be a finite number, got {value!r}.")
    return value


def _stacked(
    estimates: ValueEstimate | Mapping[str, ValueEstimate], level: float, bands: Any
) -> pd.DataFrame:
    """Tables of several estimators, one under the other, with their bands."""
    if isinstance(estimates, ValueEstimate):
        named, given = {estimates.estimator: estimates}, {estimates.estimator: bands}
    else:
        named = dict(estimates)
        if bands is not None and not isinstance(bands, Mapping):
            raise ValueError("bands of several estimators: give a mapping label -> array (K, 2).")
        given = {label: (bands or {}).get(label) for label in named}
    frames = []
    for label, estimate in named.items():
        if not isinstance(estimate, ValueEstimate):
            raise TypeError(f"estimates[{label!r}] must be a ValueEstimate, got {type(estimate)}.")
        frame = estimate.to_frame(level).assign(estimator=label)
        if given[label] is not None:
            band = np.asarray(given[label], dtype=np.float64)
            if band.shape != (len(frame), 2) or np.isnan(band).any():
                raise ValueError(
                    f"bands of {label!r} must be numbers of shape ({len(frame)}, 2), "
                    f"got shape {band.shape}."
                )
            frame["band_lower"], frame["band_upper"] = band[:, 0], band[:, 1]
        frames.append(frame)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


# ------------------------------------------------------------------------------ where things stand
def _layout(table: pd.DataFrame) -> _Layout:
    """Short names of one estimator stand beside their rows; else each policy gets a heading."""
    policies = [str(p) for p in table["policy"]]
    once = len(set(policies)) == len(policies) and table["estimator"].nunique() == 1
    if once and max(len(shown_text(p)) for p in policies) <= NAME:
        y = np.arange(len(policies), dtype=np.float64) + 0.5
        return _Layout(y, (), tuple(map(shown_text, policies)), len(policies) + 0.2)
    places, headings, at = [], [], 0.0
    for k, policy in enumerate(policies):
        if k == 0 or policy != policies[k - 1]:
            headings.append((at + 0.6, shown_text(policy, HEADING)))
            at += HEAD
        places.append(at + 0.5)
        at += 1.0
    labels = tuple("" if once else shown_text(e, NAME) for e in table["estimator"])
    return _Layout(np.array(places), tuple(headings), labels, at + 0.2)


def _stretches(layout: _Layout) -> tuple[list[float], list[float]]:
    """Where rows begin and end between headings."""
    marks = [y for y, _ in layout.headings]
    above = [y + 0.5 for y in marks] or [-0.2]
    below = [y - 0.5 for y in marks[1:]] + [layout.depth]
    return above, below


def _height(layout: _Layout) -> float:
    return 1.25 + ROW * layout.depth


def _reach(table: pd.DataFrame, reference: float | None) -> tuple[float, float]:
    """The axis' ends: what is fit for use sets them, where anything is."""
    usable = table[table["verdict"] != "do not use"]
    chosen = table if usable.empty else usable
    columns = ["value", "ci_lower", "ci_upper", "band_lower", "band_upper"]
    ends = np.concatenate([chosen[columns].to_numpy(float).ravel(), table["truth"].to_numpy(float)])
    if reference is not None:
        ends = np.append(ends, reference)
    ends = ends[np.isfinite(ends)]
    low, high = float(ends.min()), float(ends.max())
    span = high - low
    # The others' values may stretch the axis to twice its length, no more.
    values = table["value"].to_numpy(float)
    near = values[(values > low - span / 2) & (values < high + span / 2)]
    low, high = min([low, *near]), max([high, *near])
    pad = 0.05 * (high - low) or 0.5 * max(abs(high), 1.0)
    return low - pad, high + pad


# ------------------------------------------------------------------------------ drawing
def _draw_row(
    ax: Axes, k: int, y: float, row: Any, palette: Theme, limits: tuple[float, float]
) -> None:
    """Band, interval, estimate and truth of one row."""
    colour = palette.verdict(row.verdict)
    if not (math.isnan(row.band_lower) or math.isnan(row.band_upper)):
        _whisker(ax, y, row.band_lower, row.band_upper, limits, colour, 1.0, f"band-{k}", cap=7.0)
    _whisker(ax, y, row.ci_lower, row.ci_upper, limits, colour, 2.6, f"interval-{k}")
    mark = MARKERS[row.verdict]
    if not limits[0] <= row.value <= limits[1]:
        mark = _beyond(ax, y, row, colour, limits)
    (point,) = ax.plot(
        min(max(row.value, limits[0]), limits[1]), y, mark, color=colour, markersize=7.5,
        markeredgewidth=0.0, clip_on=False, zorder=4, gid=f"estimate-{k}",
    )  # fmt: skip
    TIPS[point] = (
        f"{shown_text(row.policy)}, {shown_text(row.estimator)}: {row.value:.4g} "
        f"({row.ci_lower:.4g} to {row.ci_upper:.4g}), {row.verdict}"
    )
    if not math.isnan(row.truth):
        ax.plot(row.truth, y, "|", color=palette.ink, markersize=15, markeredgewidth=1.9,
                zorder=5, gid=f"truth-{k}")  # fmt: skip


def _beyond(ax: Axes, y: float, row: Any, colour: str, limits: tuple[float, float]) -> str:
    """Write the number of an estimate off the axis, above its whisker; the marker it gets."""
    right = row.value > limits[1]
    bare = row.ci_lower > limits[1] or row.ci_upper < limits[0]
    ax.annotate(
        f"{row.value:.3g}", (limits[1] if right else limits[0], y),
        xytext=(-8 if right else 8, 0 if bare else 6), textcoords="offset points",
        ha="right" if right else "left", va="center", size=SMALL, color=colour,
        annotation_clip=False, **DATA_TEXT,
    )  # fmt: skip
    return ">" if right else "<"


def _whisker(
    ax: Axes,
    y: float,
    lower: float,
    upper: float,
    limits: tuple[float, float],
    colour: str,
    width: float,
    gid: str,
    *,
    cap: float = 0.0,
) -> None:
    """A line from ``lower`` to ``upper`` (y in rows), with arrow heads where the axis cuts it."""
    ends = np.clip([lower, upper], *limits)
    if ends[0] == ends[1] and lower != upper:  # wholly outside: the estimate's arrow says so
        return
    ax.plot(ends, [y, y], color=colour, linewidth=width, solid_capstyle="butt", zorder=3, gid=gid)
    for end, cut, arrow in ((0, lower < limits[0], "<"), (1, upper > limits[1], ">")):
        if cut:
            ax.plot(ends[end], y, arrow, color=colour, markersize=6.5, markeredgewidth=0.0,
                    clip_on=False, zorder=3, gid=f"{gid}-cut-{end}")  # fmt: skip
        elif cap:
            ax.plot(ends[end], y, "|", color=colour, markersize=cap, markeredgewidth=width,
                    zorder=3)  # fmt: skip


def _legend(table: pd.DataFrame, palette: Theme, reference: str | None) -> list[tuple[Any, str]]:
    """Only what is in the plot: verdicts, interval, band, truth, reference."""
    levels = dict.fromkeys(float(x) for x in table["level"])
    percent = " and ".join(f"{100 * x:.4g}%" for x in levels)
    entries: list[tuple[Any, str]] = [
        (Line2D([], [], color=palette.verdict(v), marker=MARKERS[v], linestyle="", markersize=7.5,
                markeredgewidth=0.0), v)
        for v in LEVELS
        if (table["verdict"] == v).any()
    ]  # fmt: skip
    entries.append((Line2D([], [], color=palette.soft, linewidth=2.6), f"{percent} interval"))
    if table["band_lower"].notna().any():
        entries.append(
            (Line2D([], [], color=palette.soft, linewidth=1.0), f"{percent}, all jointly")
        )
    if table["truth"].notna().any():
        entries.append(
            (Line2D([], [], color=palette.ink, marker="|", linestyle="", markersize=12,
                    markeredgewidth=2.2), "truth")
        )  # fmt: skip
    if reference is not None:
        entries.append(
            (Line2D([], [], color=palette.soft, linestyle=(0, (4, 3)), linewidth=1.2),
             reference)
        )  # fmt: skip
    return entries
