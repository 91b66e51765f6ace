"""Plots of the weights: how unevenly they fall on the rows, and where log and target overlap."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from causal_lm_opt._validation import check_sample_weight, check_vector
from causal_lm_opt.core.pareto import TIE
from causal_lm_opt.core.weights import relative_weights
from causal_lm_opt.diagnostics import (
    OverlapDiagnostics,
    overlap,
    unseen_mass,
    unseen_mass_interval,
)
from causal_lm_opt.exceptions import OverlapError
from causal_lm_opt.plots._theme import (
    DATA_TEXT,
    SMALL,
    Theme,
    legend_below,
    note_above,
    open_axes,
    percent_axis,
    percent_text,
    plain_numbers,
)

__all__ = ["overlap_plot", "weights_plot"]

FloatArray = npt.NDArray[np.float64]
BINS = 40


def weights_plot(
    log_ratio: Any, sample_weight: Any = None, *, theme: str = "light", ax: Axes | None = None
) -> Axes:
    r"""What share of the total weight the heaviest rows carry.

    Parameters
    ----------
    log_ratio : array, shape (n,)
        :math:`\log P_f - \log P_R` of the logged rows, natural logs; ``-inf`` allowed.
    sample_weight : array, shape (n,), optional
        Frequencies.
    theme : {"light", "dark"}
    ax : Axes, optional

    Returns
    -------
    Axes
        Effective sample size, largest share and Pareto k stand above the plot.

    Raises
    ------
    ValueError
        For NaN, ``+inf``, wrong shapes.
    OverlapError
        When all weights are 0.

    Examples
    --------
    >>> from causal_lm_opt import plots
    >>> ax = plots.weights_plot([0.0, 0.0, 0.0, -np.inf], ax=plots.new_axes())
    >>> ax.get_title("left").split("\n")[0]
    'effective sample size: 3 of 4 rows (75%)'
    """
    ell, s = _log_ratios(log_ratio, "log_ratio", sample_weight, impossible=-math.inf)
    if np.isneginf(ell).all():
        raise OverlapError("log_ratio is -inf for every row: all weights are 0.")
    figures = overlap(ell, s)
    rows, carried = _carried(ell, s)
    ax, palette = open_axes(ax, 3.4, theme)
    start = float(rows[0])
    even = np.geomspace(start, 1.0, 100)
    ax.set_xscale("log")
    ax.plot(even, even, color=palette.soft, linestyle=(0, (4, 3)), linewidth=1.2, gid="even")
    ax.plot(rows, carried, color=palette.first, linewidth=2.2, gid="carried",
            drawstyle="default")  # fmt: skip
    ax.plot(
        start, carried[0], "o", color=palette.first, markersize=6, clip_on=False, gid="heaviest"
    )
    for share in (0.01, 0.1):
        if share > 3 * start:
            _reading(ax, share, float(np.interp(share, rows, carried)), palette)
    ax.set_xlim(start, 1.0)
    ax.set_ylim(0.0, 1.1)
    percent_axis(ax.xaxis, log=True)
    percent_axis(ax.yaxis)
    ax.set_xlabel("share of rows, heaviest first")
    ax.set_ylabel("share of the weight")
    note_above(ax, _weight_lines(figures), palette)
    handles = {line.get_gid(): line for line in ax.lines}
    legend_below(
        ax, [(handles["carried"], "these weights"), (handles["even"], "equal weights")], palette
    )
    return ax


def _weight_lines(figures: OverlapDiagnostics) -> list[str]:
    """The figures in words."""
    tail = "no tail to fit" if math.isnan(figures.pareto_k) else f"{figures.pareto_k:.2f}"
    lines = [
        f"effective sample size: {figures.ess:,.0f} of {figures.n:,.0f} rows "
        f"({percent_text(figures.ess_share)})",
        f"heaviest row: {percent_text(figures.largest_share)} of the weight",
        f"Pareto k: {tail}",
    ]
    if figures.zero_share:
        never = percent_text(figures.zero_share)
        lines.append(f"rows the target never writes: {never}")
    return lines


def _log_ratios(
    values: Any, name: str, weight: Any, *, impossible: float
) -> tuple[FloatArray, FloatArray | None]:
    """Log ratios that count and their frequencies; one kind of infinity is let by."""
    ell = np.asarray(values, dtype=np.float64)
    if ell.ndim != 1 or not ell.size:
        raise ValueError(f"{name} must have shape (n,) with n > 0, got {ell.shape}.")
    check_vector(np.where(ell == impossible, 0.0, ell), name, ell.shape[0])
    s = check_sample_weight(weight, ell.shape[0])
    return (ell, None) if s is None else (ell[s > 0], s[s > 0])


def _carried(ell: FloatArray, s: FloatArray | None) -> tuple[FloatArray, FloatArray]:
    """Cumulative shares of rows and of weight, heaviest first, at most 2,000 points."""
    weight = np.asarray(relative_weights(ell, normalize=True))
    order = np.argsort(-weight, kind="stable")
    frequency = np.ones(ell.shape[0]) if s is None else s[order]
    rows, carried = np.cumsum(frequency), np.cumsum(frequency * weight[order])
    if rows.shape[0] > 2000:
        kept = np.unique(np.geomspace(1, rows.shape[0], 2000).round().astype(int)) - 1
        rows, total, carried = rows[kept], rows[-1], carried[kept]
        return rows / total, carried / carried[-1]
    return rows / rows[-1], carried / carried[-1]


def _reading(ax: Axes, share: float, carried: float, palette: Theme) -> None:
    """A point of the curve with its figures."""
    ax.plot(share, carried, "o", color=palette.first, markersize=6, gid=f"reading-{share:g}")
    ax.annotate(
        f"{share:.0%} of rows: {percent_text(carried)}", (share, carried), xytext=(-6, 3),
        textcoords="offset points", ha="right", va="bottom", size=SMALL, color=palette.ink,
        **DATA_TEXT,
    )  # fmt: skip


def overlap_plot(
    log_ratio: Any,
    log_ratio_target: Any = None,
    *,
    sample_weight: Any = None,
    target_weight: Any = None,
    exact: bool = False,
    theme: str = "light",
    ax: Axes | None = None,
) -> Axes:
    r"""Log ratios of the logged rows beside those of the target's draws.

    Draws beyond every logged row (hatched) are texts the logger would have had to write and did
    not: no weighting reaches them. Logged rows that the target never writes have no place on the
    axis: the plot names their share, and the bins hold shares of the others.

    Parameters
    ----------
    log_ratio : array, shape (n,)
        :math:`\log P_f - \log P_R` of the logged rows, natural logs; ``-inf`` where the target
        never writes the text.
    log_ratio_target : array, shape (m,), optional
        The same of the target's draws; ``+inf`` where the logger never writes the text.
    sample_weight, target_weight : array, shape (n,) and (m,), optional
        Frequencies; the support's probabilities with ``exact``.
    exact : bool
        The draws are the target's whole support: the share has no sampling error.
    theme : {"light", "dark"}
    ax : Axes, optional

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        For NaN, the wrong infinity, wrong shapes.

    Examples
    --------
    >>> from causal_lm_opt import plots
    >>> ax = plots.overlap_plot([-1., 0., 1.], [0., 1., 2., 3.], ax=plots.new_axes())
    >>> ax.get_title("left")
    'beyond every logged row: 50% (6.8% to 93%)'
    """
    ell, s = _log_ratios(log_ratio, "log_ratio", sample_weight, impossible=-math.inf)
    if np.isneginf(ell).all():
        raise OverlapError("log_ratio is -inf for every row: all weights are 0.")
    target, share = _target(log_ratio_target, target_weight, exact)
    ax, palette = open_axes(ax, 3.4, theme)
    top = float(ell.max())
    edges = _edges(ell, target, top)
    rows = _binned(ell, s, edges)
    ax.stairs(rows, edges, fill=True, color=palette.first, alpha=0.45, gid="logged-fill")
    ax.stairs(rows, edges, color=palette.first, linewidth=1.2, gid="logged")
    line = ax.axvline(top, color=palette.ink, linestyle=(0, (4, 3)), linewidth=1.2,
                      gid="largest-logged")  # fmt: skip
    entries: list[tuple[Any, str]] = [
        (Patch(color=palette.first, alpha=0.6), "logged rows"),
        (line, "largest logged ratio"),
    ]
    lines = []
    if target is None:
        lines.append("no draws: what was never logged is not seen")
    else:
        height = _binned(target, share, edges)
        ax.stairs(height, edges, color=palette.second, linewidth=1.6, gid="target")
        beyond = np.where(edges[:-1] >= top - TIE, height, 0.0)
        ax.stairs(
            beyond, edges, fill=True, facecolor="none", edgecolor=palette.second, hatch="////",
            linewidth=0.0, gid="beyond",
        )  # fmt: skip
        entries.append((Patch(facecolor="none", edgecolor=palette.second, linewidth=2.0),
                        "target's texts" if exact else "target's draws"))  # fmt: skip
        entries.append((Patch(facecolor="none", edgecolor=palette.second, hatch="////",
                              linewidth=0.0), "beyond every logged row"))  # fmt: skip
        lines += _beyond_lines(target, share, top, exact)
    never = _share(np.isneginf(ell), s)
    if never:
        lines.append(f"not drawn: {percent_text(never)} of the rows, never written by the target")
    ax.set_xlim(edges[0], edges[-1])
    ax.set_ylim(bottom=0.0)
    plain_numbers(ax.xaxis)
    percent_axis(ax.yaxis)
    ax.set_xlabel("log ratio, target to logging policy (nats)")
    ax.set_ylabel("share in each bin")
    note_above(ax, lines, palette)
    legend_below(ax, entries, palette)
    return ax


def _target(values: Any, weight: Any, exact: bool) -> tuple[FloatArray | None, FloatArray | None]:
    """The draws' log ratios with their frequencies or probabilities."""
    if values is None:
        if weight is not None or exact:
            raise ValueError("target_weight and exact describe draws: give log_ratio_target too.")
        return None, None
    if not exact:
        return _log_ratios(values, "log_ratio_target", weight, impossible=math.inf)
    if weight is None:
        raise ValueError("exact=True needs the support's probabilities as target_weight.")
    ell, _ = _log_ratios(values, "log_ratio_target", None, impossible=math.inf)
    p = check_vector(weight, "target_weight", ell.shape[0])
    if (p < 0).any() or not p.any():
        raise ValueError("target_weight: probabilities must be non-negative and not all 0.")
    return ell[p > 0], p[p > 0]


def _beyond_lines(
    target: FloatArray, share: FloatArray | None, top: float, exact: bool
) -> list[str]:
    """The unseen mass in words, with its interval where it was sampled."""
    mass = unseen_mass(target, top + TIE, share)
    between = ""
    if not exact and target.shape[0] >= 2:
        found = unseen_mass_interval(target, top + TIE, side="two", target_weight=share)
        between = f" ({percent_text(found.low)} to {percent_text(found.high)})"
    lines = [f"beyond every logged row: {percent_text(mass)}{between}"]
    impossible = _share(np.isposinf(target), share)
    if impossible:
        lines.append(f"of these the logger never writes: {percent_text(impossible)} (last bin)")
    return lines


def _share(which: npt.NDArray[np.bool_], weight: FloatArray | None) -> float:
    return float(np.average(which.astype(np.float64), weights=weight))


def _edges(ell: FloatArray, target: FloatArray | None, top: float) -> FloatArray:
    """Bin edges (B + 1,), one of them at the largest logged ratio.

    The outermost halves per cent on either side go into the end bins.
    """
    finite = ell[np.isfinite(ell)]
    low, high = float(np.quantile(finite, 0.005)), top
    if target is not None:
        inside = target[np.isfinite(target)]
        if inside.size:
            low = min(low, float(np.quantile(inside, 0.005)))
            high = max(high, float(np.quantile(inside, 0.995)))
        if np.isposinf(target).any():
            high = max(high, top + (top - low) * 0.1 + 0.1)
    pad = max(0.06 * (high - low), 0.25)
    step = (high - low + 2 * pad) / BINS
    left, right = (math.ceil((d + pad) / step - 1e-9) for d in (top - low, high - top))
    edges = top + step * np.arange(-left, right + 1)
    return np.asarray(edges, dtype=np.float64)


def _binned(values: FloatArray, weight: FloatArray | None, edges: FloatArray) -> FloatArray:
    """Share of the finite rows in each bin (a value on an edge belongs to the bin on its left)."""
    shown = ~np.isneginf(values)
    place = np.searchsorted(edges, values[shown] - TIE, side="left") - 1
    place = np.clip(place, 0, edges.shape[0] - 2)
    counted = None if weight is None else weight[shown]
    total = float(np.count_nonzero(shown) if counted is None else counted.sum())
    counts = np.bincount(place, weights=counted, minlength=edges.shape[0] - 1)
    return np.asarray(counts, dtype=np.float64) / total
