"""The reach of a hidden confounder, by how much of the outcome and of the weights it explains."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import matplotlib.ticker as mticker
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from causal_lm_opt.diagnostics.sensitivity import ConfounderStrength, OmittedVariableBound
from causal_lm_opt.plots._theme import (
    DATA_TEXT,
    SMALL,
    TIPS,
    Theme,
    legend_below,
    note_above,
    open_axes,
    percent_axis,
    percent_text,
    shown_text,
)

__all__ = ["confounder_plot"]

FloatArray = npt.NDArray[np.float64]
#: Where a letter may stand beside its point, in points of print, best first.
OFFSETS = [(10.0, 0.0), (-10.0, 0.0), (0.0, 11.0), (0.0, -11.0), (9.0, 9.0), (9.0, -9.0),
           (-9.0, 9.0), (-9.0, -9.0)]  # fmt: skip


def confounder_plot(
    bound: OmittedVariableBound,
    *,
    benchmarks: Mapping[str, ConfounderStrength] | None = None,
    null: float | None = None,
    unit: str | None = None,
    theme: str = "light",
    ax: Axes | None = None,
) -> Axes:
    """How far a hidden confounder could move a value, by how much it explains.

    Parameters
    ----------
    bound : OmittedVariableBound
        Of :func:`causal_lm_opt.diagnostics.sensitivity.omitted_variable_bound`; its scale is
        drawn, whatever strength it was made for.
    benchmarks : mapping words -> ConfounderStrength, optional
        Observed covariates to hold a hidden one against, named in words ("twice as strong as
        age"), of :func:`causal_lm_opt.diagnostics.sensitivity.benchmark_strength`.
    null : float, optional
        Value that would undo what is claimed; the shares at which it becomes possible are hatched.
    unit : str, optional
        Name and unit of the outcome.
    theme : {"light", "dark"}
    ax : Axes, optional

    Returns
    -------
    Axes
        Curves of equal bias, each with its size at the right-hand end.

    Raises
    ------
    ValueError
        A ``null`` that is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from causal_lm_opt import plots
    >>> from causal_lm_opt.diagnostics import sensitivity as s
    >>> y = np.array([0., 1., 2., 3.])
    >>> bound = s.omitted_variable_bound(y - 1.5, np.ones(4), s.ConfounderStrength(.1, .1),
    ...                                  value=1.5, influence=y - 1.5)
    >>> ax = plots.confounder_plot(bound, null=1.0, ax=plots.new_axes(),
    ...                            benchmarks={"as strong as age": s.ConfounderStrength(.2, .1)})
    >>> ax.get_title("left")
    'explaining 36% of both could bring the value to 1'
    """
    if null is not None and not math.isfinite(null):
        raise ValueError(f"null must be a finite number, got {null!r}.")
    marks = dict(benchmarks or {})
    robust = None if null is None else bound.robustness_value(null)
    right, top = _share_limits(list(marks.values()), robust)
    ax, palette = open_axes(ax, 4.2 + 0.18 * len(marks), theme)
    ax.set_xlim(0.0, right)
    ax.set_ylim(0.0, top)
    share = np.linspace(right / 2000.0, right, 600)
    drawn = _curves(ax, share, bound.scale, top, palette)
    if null is not None:
        _null_region(ax, share, abs(bound.value - null) / bound.scale if bound.scale else math.inf,
                     top, palette)  # fmt: skip
    percent_axis(ax.xaxis)
    percent_axis(ax.yaxis)
    ax.set_xlabel("explained of the weights' variation")
    ax.set_ylabel("explained of the outcome's\nleft-over variation")
    compared = _benchmarks(ax, marks, palette)
    lines = [] if null is None or robust is None else [_null_words(robust, null)]
    note_above(ax, lines, palette)
    entries: list[tuple[Any, str]] = []
    if drawn:
        said = "bias of at most" if unit is None else f"bias in {shown_text(unit, 18)}, at most"
        entries.append((Line2D([], [], color=palette.first, linewidth=1.4), said))
    if null is not None and any(line.get_gid() == "null" for line in ax.lines):
        hatched = Patch(facecolor="none", edgecolor=palette.no, alpha=0.55, hatch="///",
                        linewidth=0)  # fmt: skip
        entries.append(((hatched, Line2D([], [], color=palette.no, linewidth=2.2)),
                        f"value could be {null:.4g}"))  # fmt: skip
    point = Line2D([], [], color=palette.second, marker="D", linestyle="", markersize=6.5)
    entries += [(point, said) for said in compared]
    legend_below(ax, entries, palette, columns=1 if compared else 2)
    return ax


def _share_limits(marks: list[ConfounderStrength], robust: float | None) -> tuple[float, float]:
    """Ends of both axes: the benchmarks, and the null's share unless it is far beyond them."""
    weight = max((m.weight for m in marks), default=0.0)
    outcome = max((m.outcome for m in marks), default=0.0)
    wanted = 0.1 if robust is None else 1.5 * robust
    if marks:
        wanted = min(wanted, 3.0 * max(weight, outcome))
    return (
        min(max(1.35 * weight, wanted, 0.02), 0.98),
        min(max(1.35 * outcome, wanted, 0.02), 1.0),
    )


def _curves(ax: Axes, share: FloatArray, scale: float, top: float, palette: Theme) -> int:
    """Curves of equal bias, each labelled where it leaves the axes on the right; how many."""
    right = float(share[-1])
    largest = scale * math.sqrt(top * right / (1.0 - right))
    if not largest > 0:
        return 0
    levels = mticker.MaxNLocator(7, steps=[1, 2, 2.5, 5, 10]).tick_values(0.0, largest)
    levels = [float(b) for b in levels if 0.0 < b < 0.999 * largest]
    for k, bias in enumerate(levels):
        outcome = (bias / scale) ** 2 * (1.0 - share) / share
        ax.plot(share, outcome, color=palette.first, linewidth=1.4, gid=f"bias-{k}")
        ax.annotate(
            f"{bias:.4g}", (right, outcome[-1]), xytext=(4, 0), textcoords="offset points",
            ha="left", va="center", size=SMALL, color=palette.first, annotation_clip=False,
            **DATA_TEXT,
        )  # fmt: skip
    return len(levels)


def _null_region(ax: Axes, share: FloatArray, ratio: float, top: float, palette: Theme) -> None:
    """Shares at which the null value is possible; nothing where they lie off the axes."""
    if math.isinf(ratio):
        return
    outcome = ratio**2 * (1.0 - share) / share
    if outcome[-1] > top:
        return
    ax.fill_between(share, outcome, top, where=(outcome <= top).tolist(), facecolor="none",
                    edgecolor=palette.no, hatch="///", alpha=0.55, linewidth=0.0,
                    gid="null-region")  # fmt: skip
    ax.plot(share, outcome, color=palette.no, linewidth=2.2, gid="null")


def _null_words(robust: float, null: float) -> str:
    if robust <= 0:
        return f"the value may be {null:.4g} even without a confounder"
    return f"explaining {percent_text(robust)} of both could bring the value to {null:.4g}"


def _benchmarks(ax: Axes, marks: Mapping[str, ConfounderStrength], palette: Theme) -> list[str]:
    """Points, each with a letter beside it that the legend explains; the legend's words."""
    (_, right), (_, top) = ax.get_xlim(), ax.get_ylim()
    # the axes' size in points, once laid out, is about four fifths of what it is now
    size = 0.8 * 72.0 * np.array([ax.bbox.width, ax.bbox.height]) / float(ax.figure.dpi)
    at = np.array([[m.weight / right, m.outcome / top] for m in marks.values()]).reshape(-1, 2)
    places, words = _letter_places(at * size), []
    for k, (name, m) in enumerate(marks.items()):
        (mark,) = ax.plot(m.weight, m.outcome, "D", color=palette.second, markersize=6.5,
                          markeredgewidth=0.0, clip_on=False, zorder=6,
                          gid=f"benchmark-{k}")  # fmt: skip
        shown = shown_text(name, 44)
        TIPS[mark] = f"{shown}: {m.weight:.2%} of the weights, {m.outcome:.2%} of the outcome"
        ax.annotate(
            _letter(k), (m.weight, m.outcome), xytext=places[k], textcoords="offset points",
            ha="center", va="center", size=SMALL, weight="bold", color=palette.ink,
            annotation_clip=False, zorder=7, **DATA_TEXT,
        )  # fmt: skip
        words.append(f"{_letter(k)}: {shown}")
    return words


def _letter(k: int) -> str:
    """A, B, ..., Z, A1, B1, ..."""
    return chr(ord("A") + k % 26) + (str(k // 26) if k >= 26 else "")


def _letter_places(at: FloatArray) -> list[tuple[float, float]]:
    """Offsets of the letters from their points, clear of points and other letters where possible.

    Parameters
    ----------
    at : array, shape (B, 2)
        Points of the plane, in points of print.

    >>> _letter_places(np.array([[50.0, 50.0], [61.0, 50.0]]))
    [(-10.0, 0.0), (10.0, 0.0)]
    """
    found: list[tuple[float, float]] = []
    taken: list[FloatArray] = []
    for k, point in enumerate(at):
        others = [*np.delete(at, k, axis=0), *taken]
        room = [min((_distance(point + o, x) for x in others), default=1.0) for o in OFFSETS]
        best = next((j for j, r in enumerate(room) if r >= 1.0), int(np.argmax(room)))
        found.append(OFFSETS[best])
        taken.append(point + np.array(OFFSETS[best]))
    return found


def _distance(one: FloatArray, two: FloatArray) -> float:
    """Distance in letters: 1 and more do not touch."""
    apart = np.abs(one - two)
    return float(max(apart[0] / 9.0, apart[1] / 10.0))
