"""Plots of the validation tables: ``python -m benchmarks.validation_plots``.

From ``coverage.json``: coverage by design, sample size and estimator; the verdicts of cells in the
order of their coverage; the trade-off between what is trusted and what is lost; coverage against
what one log predicts. From ``bands.json`` and ``efficiency.json``: coverage for 24 policies at
once, and the standard deviation against the efficiency bound. All are written beside their tables
as PNG; a table that is not there is left out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causal_lm_opt import plots
from causal_lm_opt.diagnostics import LEVELS, binomial_interval

FOLDER = Path(__file__).parent / "results" / "validation"
NOMINAL = 0.95
MC_BAND = 3.3  # Monte-Carlo standard errors: what the table is held to
SOUND, LOST = 0.94, 0.80  # coverage of a cell whose estimates should be trusted, should not be used
FLOOR = 0.78  # coverage below it is written, not drawn
ESTIMATORS = ("HT", "Hajek", "DR", "OR")
JUDGED = ("HT", "Hajek", "DR")  # outcome regression is never more than `caution`
SIZE_MARKS = ("v", "s", "o", "^", "P")
INK = plots.LIGHT
SMALL = 8.0
MILD = 0.5  # sd of the log ratio up to which trust is asked for
FEWEST = 50  # trusted replications, to speak of their coverage


def read(path: Path) -> pd.DataFrame:
    """Rows of a validation table."""
    return pd.DataFrame(json.loads(path.read_text(encoding="utf-8"))["rows"])


def misspecified(table: pd.DataFrame) -> pd.Series[bool]:
    """Cells with a wrong logging policy, which no diagnostic of these can see."""
    return table["design"].str.contains("wrong P_R")


def size_styles(table: pd.DataFrame) -> dict[int, dict[str, Any]]:
    """Marker and colour of each sample size."""
    colours = (INK.second, INK.first, INK.ink, INK.ok, INK.no)
    sizes = sorted(set(table["n"]))
    return {
        int(n): {"marker": SIZE_MARKS[k % 5], "color": colours[k % 5]} for k, n in enumerate(sizes)
    }


def binomial_ends(share: float, trials: float) -> tuple[float, float]:
    """Exact 95 % interval of a share of ``trials`` replications."""
    return binomial_interval(share * trials, trials, level=0.95, side="two")


def size_legend(
    figure: Any, ax: Any, styles: dict[int, dict[str, Any]], also: Sequence[Any]
) -> None:
    """One legend under all axes."""
    marks = [ax.plot([], [], linestyle="", markersize=5, **s, label=f"n = {n:,}")[0]
             for n, s in styles.items()]  # fmt: skip
    figure.legend(
        handles=[*marks, *also], loc="outside lower left", ncols=4, frameon=False, fontsize=SMALL,
        labelcolor=INK.ink,
    )  # fmt: skip


def title(ax: Any, words: str) -> None:
    """Left-aligned title of one panel."""
    ax.set_title(words, loc="left", fontsize=9, color=INK.ink)


# ------------------------------------------------------------------------------ coverage
def coverage_figure(table: pd.DataFrame) -> Any:
    """Coverage of 95 % intervals: designs down, estimators across, sample sizes by marker."""
    designs = list(dict.fromkeys(table["design"]))
    shown = [e for e in ESTIMATORS if (table["estimator"] == e).any()]
    figure, axes = plots.new_grid(
        1, len(shown), width=2.2 + 1.7 * len(shown), height=1.2 + 0.42 * len(designs), sharey=True
    )
    styles = size_styles(table)
    shift = dict(zip(styles, np.linspace(-0.26, 0.26, len(styles)), strict=True))
    for ax, estimator in zip(axes[0], shown, strict=True):
        title(ax, estimator)
        half = MC_BAND * float(table["mc_se"].max())
        band = ax.axvspan(NOMINAL - half, NOMINAL + half, color=INK.line, alpha=0.7, linewidth=0,
                          label=f"95% and {MC_BAND} Monte-Carlo errors")  # fmt: skip
        ax.axvline(NOMINAL, color=INK.soft, linewidth=1.0)
        rows: Any = table[table["estimator"] == estimator].itertuples()
        for row in rows:
            _coverage_mark(ax, row, designs.index(row.design) + shift[row.n], styles[row.n])
        ax.set_xlim(FLOOR, 1.004)
        ax.set_xticks([0.8, 0.85, 0.9, 0.95, 1.0], ["80%", "", "90%", "", "100%"])
        ax.set_xlabel("coverage")
        ax.grid(False, axis="y")
    axes[0][0].set_ylim(len(designs) - 0.45, -0.55)
    axes[0][0].set_yticks(range(len(designs)), designs)
    for ax in axes[0]:
        ax.tick_params(axis="y", length=0)
        for k in range(len(designs) - 1):
            ax.axhline(k + 0.5, color=INK.line, linewidth=0.6)
    size_legend(figure, axes[0][0], styles, [band])
    return figure


def _coverage_mark(ax: Any, row: Any, y: float, style: dict[str, Any]) -> None:
    if row.coverage < FLOOR:
        ax.plot(FLOOR, y, "<", color=style["color"], markersize=4.5, clip_on=False)
        ax.annotate(f"{row.coverage:.0%}", (FLOOR, y), xytext=(5, 0), textcoords="offset points",
                    ha="left", va="center", size=6.5, color=style["color"])  # fmt: skip
        return
    low, high = binomial_ends(row.coverage, row.replications)
    ax.plot([low, high], [y, y], color=style["color"], linewidth=1.2)
    ax.plot(row.coverage, y, markersize=4.2, linestyle="", **style)


# ------------------------------------------------------------------------------ verdicts
def judged(table: pd.DataFrame) -> pd.DataFrame:
    """Cells whose verdict is put to the test: weighted estimators under a right logging policy."""
    return table[table["estimator"].isin(JUDGED) & ~misspecified(table)]


def verdict_figure(table: pd.DataFrame) -> Any:
    """Shares of the verdicts in each cell, cells in the order of their coverage."""
    cells = judged(table).sort_values("coverage", kind="stable", ignore_index=True)
    figure, ((above,), (below,)) = plots.new_grid(2, 1, width=7.0, height=4.6, sharex=True)
    x, bottom = np.arange(len(cells)), np.zeros(len(cells))
    hatches = {"trustworthy": "", "caution": "///", "do not use": "xxx"}
    for level in LEVELS:
        share = cells[f"share {level}"].to_numpy(float)
        above.bar(x, share, 1.0, bottom=bottom, color=INK.verdict(level), hatch=hatches[level],
                  edgecolor="white", linewidth=0.0, label=level)  # fmt: skip
        bottom = bottom + share
    rows: Any = cells.itertuples()
    ends = [binomial_ends(r.coverage, r.replications) for r in rows]
    below.vlines(x, [e[0] for e in ends], [e[1] for e in ends], color=INK.first, linewidth=1.0)
    below.plot(x, cells["coverage"], ".", color=INK.first, markersize=4)
    for threshold, words in ((LOST, "lost"), (SOUND, "sound")):
        at = float(np.searchsorted(cells["coverage"], threshold)) - 0.5
        for ax in (above, below):
            ax.axvline(at, color=INK.ink, linewidth=1.0, linestyle=(0, (4, 3)))
        side = -1 if words == "lost" else 1
        below.annotate(
            f"{words}: {'below' if side < 0 else 'at least'} {threshold:.0%}", (at, 0.02),
            xycoords=("data", "axes fraction"), xytext=(4 * side, 2), textcoords="offset points",
            ha="right" if side < 0 else "left", va="bottom", size=SMALL, color=INK.ink,
        )  # fmt: skip
    below.axhline(NOMINAL, color=INK.soft, linewidth=1.0)
    above.set_xlim(-0.5, len(cells) - 0.5)
    above.set_ylim(0.0, 1.0)
    above.set_ylabel("share of verdicts")
    below.set_ylabel("coverage")
    below.set_xticks([])
    below.set_xlabel(f"{len(cells)} cells (design, n, HT / Hajek / DR) by coverage")
    figure.legend(*above.get_legend_handles_labels(), loc="outside lower left", ncols=3,
                  frameon=False, fontsize=SMALL, labelcolor=INK.ink)  # fmt: skip
    return figure


def tradeoff_figure(table: pd.DataFrame) -> Any:
    """Per cell: how often trusted, how often refused, and how the trusted ones cover."""
    cells = judged(table)
    figure, (axes,) = plots.new_grid(1, 3, width=8.6, height=3.6)
    styles = size_styles(table)
    left = float(np.floor(10 * cells["coverage"].min()) / 10)
    for ax, level in zip(axes, ("trustworthy", "do not use"), strict=False):
        title(ax, f"called {level}")
        _share_marks(ax, cells, cells[f"share {level}"], cells["replications"], styles)
        ax.set_ylim(-0.02, 1.02)
        ax.set_ylabel("share of replications")
    axes[0].plot([SOUND, 1.0], [0.85, 0.85], color=INK.ink, linewidth=1.6)
    axes[1].plot([left, LOST], [0.9, 0.9], color=INK.ink, linewidth=1.6)
    axes[1].plot([SOUND, 1.0], [0.02, 0.02], color=INK.ink, linewidth=1.6)
    for ax, x, y, words in (
        (axes[0], left, 0.9, "wanted of filled\nmarks: 85%"),
        (axes[1], left, 0.87, "wanted:\nat least 90%"),
    ):
        ax.annotate(words, (x, y), xytext=(2, 0), textcoords="offset points", ha="left",
                    va="top", size=SMALL, color=INK.ink)  # fmt: skip
    count = cells["share trustworthy"] * cells["replications"]
    kept = count >= FEWEST
    title(axes[2], "coverage of those trusted")
    _share_marks(axes[2], cells[kept], cells["coverage trustworthy"][kept], count[kept], styles)
    axes[2].axhline(SOUND, color=INK.ink, linewidth=1.2, linestyle=(0, (4, 3)))
    trusted = float(cells["coverage trustworthy"][kept].min())
    axes[2].set_ylim(min(FLOOR, trusted - 0.06), 1.005)
    axes[2].set_ylabel(f"coverage ({FEWEST} or more trusted)")
    for ax, start in zip(axes, (left, left, LOST), strict=True):
        # Stretched towards 1, where the cells crowd.
        ax.set_xscale("function", functions=(_stretch, _shrink))
        ticks = [t for t in (0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 1.0) if t >= start]
        ax.set_xticks(ticks, [f"{t:.0%}" for t in ticks])
        ax.set_xlim(start - 0.01, 1.0)
        ax.set_xlabel("coverage of the cell")
        for threshold in (LOST, SOUND):
            ax.axvline(threshold, color=INK.soft, linewidth=0.9, linestyle=(0, (1, 2)))
    (hollow,) = axes[0].plot([], [], "o", color=INK.ink, markerfacecolor="none", markersize=5,
                             label="hollow: sd of the log ratio above .5")  # fmt: skip
    size_legend(figure, axes[0], styles, [hollow])
    return figure


def _stretch(coverage: Any) -> Any:
    return -np.log(np.maximum(1.06 - np.asarray(coverage), 1e-9))


def _shrink(place: Any) -> Any:
    return 1.06 - np.exp(-np.asarray(place))


def predicted_figure(table: pd.DataFrame) -> Any:
    """What one log predicts of its interval's coverage, and the coverage of its cell."""
    cells = table[table["estimator"].isin(JUDGED) & ~misspecified(table)]
    figure, (axes,) = plots.new_grid(1, len(JUDGED), width=8.6, height=3.8, sharey=True)
    styles = size_styles(table)
    least = min(float(cells["coverage"].min()), float(cells["predicted"].min())) - 0.02
    for ax, estimator in zip(axes, JUDGED, strict=True):
        title(ax, estimator)
        ax.plot([least, 1.0], [least, 1.0], color=INK.soft, linewidth=1.0)
        rows: Any = cells[cells["estimator"] == estimator].itertuples()
        for row in rows:
            style = styles[row.n]
            ends = binomial_ends(row.coverage, row.replications)
            ax.plot([row.predicted] * 2, ends, color=style["color"], linewidth=0.8, alpha=0.7)
            fill = "none" if row.design.endswith("binary") else style["color"]
            ax.plot(row.predicted, row.coverage, markersize=4.5, linestyle="", alpha=0.85,
                    markerfacecolor=fill, **style)  # fmt: skip
        for axis, scale in ((ax.xaxis, ax.set_xscale), (ax.yaxis, ax.set_yscale)):
            scale("function", functions=(_stretch, _shrink))
            ticks = [t for t in (0.4, 0.6, 0.8, 0.9, 0.95) if t >= least]
            axis.set_ticks(ticks, [f"{t:.0%}" for t in ticks])
        ax.set_xlim(least, 0.99)
        ax.set_ylim(least, 0.99)
        ax.set_xlabel("predicted by one log (median)")
    axes[0].set_ylabel("coverage of the cell")
    (hollow,) = axes[0].plot([], [], "o", color=INK.ink, markerfacecolor="none", markersize=5,
                             label="hollow: binary outcomes")  # fmt: skip
    size_legend(figure, axes[0], styles, [hollow])
    return figure


def _share_marks(
    ax: Any,
    cells: pd.DataFrame,
    shares: pd.Series[float],
    trials: pd.Series[float],
    styles: dict[int, dict[str, Any]],
) -> None:
    """Shares of ``trials`` with their intervals, over the coverage of the cells."""
    columns = (cells["coverage"], cells["n"], cells["sd_log_ratio"], shares, trials)
    for x, n, sd, share, number in zip(*columns, strict=True):
        low, high = binomial_ends(float(share), float(number))
        style = styles[int(n)]
        ax.plot([x, x], [low, high], color=style["color"], linewidth=0.8, alpha=0.7)
        fill = style["color"] if sd <= MILD else "none"
        ax.plot(x, share, markersize=4, linestyle="", alpha=0.85, markerfacecolor=fill, **style)


# ------------------------------------------------------------------------------ bands, efficiency
def bands_figure(table: pd.DataFrame) -> Any:
    """Coverage for K policies at once: max-t bands against the naive interval of the best."""
    rows = [f"{r.scenario}, {r.estimator}" for r in table.itertuples()]
    figure, ((ax,),) = plots.new_grid(1, 1, width=7.0, height=1.5 + 0.34 * len(rows))
    kinds = (
        ("bands", "o", INK.first, "all bands hold together"),
        ("selected", "s", INK.ink, "selected policy, max-t interval"),
        ("best value", "^", INK.ok, "largest value, [max lower, max upper]"),
        ("naive selected", "X", INK.no, "selected policy, naive interval"),
    )
    for place, (column, marker, colour, words) in zip(
        np.linspace(-0.27, 0.27, len(kinds)), kinds, strict=True
    ):
        y = np.arange(len(rows)) + place
        ends = [binomial_ends(c, r) for c, r in
                zip(table[column], table["replications"], strict=True)]  # fmt: skip
        ax.hlines(y, [e[0] for e in ends], [e[1] for e in ends], color=colour, linewidth=1.2)
        ax.plot(table[column], y, marker, color=colour, markersize=4.5, label=words)
    ax.axvline(NOMINAL, color=INK.soft, linewidth=1.0)
    ax.set_yticks(range(len(rows)), rows)
    ax.set_ylim(len(rows) - 0.45, -0.55)
    ax.tick_params(axis="y", length=0)
    ax.grid(False, axis="y")
    ax.set_xlabel(f"coverage, {int(table['policies'].max())} policies")
    figure.legend(loc="outside lower left", ncols=2, frameon=False, fontsize=SMALL,
                  labelcolor=INK.ink)  # fmt: skip
    return figure


def efficiency_figure(table: pd.DataFrame) -> Any:
    """Standard deviation over that of the efficiency bound."""
    settings = list(dict.fromkeys(zip(table["design"], table["n"], strict=True)))
    names = list(dict.fromkeys(table["estimator"]))
    colours = (INK.second, INK.first, INK.ink, INK.ok)
    figure, ((ax,),) = plots.new_grid(1, 1, width=7.0, height=1.5 + 0.34 * len(settings))
    ax.axvspan(0.97, 1.03, color=INK.line, alpha=0.7, linewidth=0, label="bound, within 3%")
    for k, name in enumerate(names):
        part = table[table["estimator"] == name]
        y = [settings.index(s) + 0.16 * (k - (len(names) - 1) / 2)
             for s in zip(part["design"], part["n"], strict=True)]  # fmt: skip
        half = 1.96 * part["sd_over_bound"] * part["mc_se"]
        ax.hlines(y, part["sd_over_bound"] - half, part["sd_over_bound"] + half,
                  color=colours[k % 4], linewidth=1.2)  # fmt: skip
        ax.plot(part["sd_over_bound"], y, SIZE_MARKS[k % 5], color=colours[k % 4], markersize=4.5,
                label=name)  # fmt: skip
    ax.axvline(1.0, color=INK.soft, linewidth=1.0)
    ax.set_yticks(range(len(settings)), [f"{d}, n = {n:,}" for d, n in settings])
    ax.set_ylim(len(settings) - 0.45, -0.55)
    ax.tick_params(axis="y", length=0)
    ax.grid(False, axis="y")
    ax.set_xlabel("standard deviation over the efficiency bound's")
    figure.legend(loc="outside lower left", ncols=3, frameon=False, fontsize=SMALL,
                  labelcolor=INK.ink)  # fmt: skip
    return figure


#: File of figures and what is drawn from it, by the plot's name.
FIGURES: dict[str, tuple[str, Callable[[pd.DataFrame], Any]]] = {
    "coverage": ("coverage.json", coverage_figure),
    "verdicts": ("coverage.json", verdict_figure),
    "tradeoff": ("coverage.json", tradeoff_figure),
    "predicted": ("coverage.json", predicted_figure),
    "bands": ("bands.json", bands_figure),
    "efficiency": ("efficiency.json", efficiency_figure),
}


def draw(folder: Path, coverage: str = "coverage.json") -> list[Path]:
    """Write the plots of the tables in ``folder``; the files written."""
    written = []
    for name, (file, make) in FIGURES.items():
        source = folder / (coverage if file == "coverage.json" else file)
        if not source.exists():
            continue
        path = folder / f"{name}.png"
        # White: these are seen on pages of any colour, and their ink is dark.
        make(read(source)).savefig(
            path, dpi=150, facecolor="white", metadata={"Software": None},
            pil_kwargs={"optimize": True},
        )  # fmt: skip
        written.append(path)
    return written


def main(argv: list[str] | None = None) -> int:
    """Draw the tables of a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    for path in draw(parser.parse_args(argv).folder):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
