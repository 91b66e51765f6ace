"""The figure of `benchmarks.training_value`: gains by steps, and where every run ended.

``python -m benchmarks.training_value_plot FIGURES.json FILE.png`` draws it anew.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

#: Colours that the colour-blind tell apart (Okabe and Ito), and markers for print in grey.
STYLES = {
    "SFT, all rows": ("#666666", "s"),
    "SFT, best half": ("#E69F00", "D"),
    "CPO": ("#009E73", "o"),
    "OO-RLHF": ("#D55E00", "^"),
    "DR-CPO": ("#0072B2", "v"),
    "on-policy": ("#CC79A7", "P"),
}
STYLE = {
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
    "axes.linewidth": 0.8, "axes.titlesize": 9, "axes.titlelocation": "left",
}  # fmt: skip


def draw_paths(axes: Any, found: dict[str, Any]) -> None:
    """Mean gain by steps, a line an objective; bars are one standard error."""
    table = found["objectives"]
    steps = [point["step"] for point in next(iter(table.values()))["path"]]
    shift = 0.006 * steps[-1]  # bars of one step side by side
    for k, (name, row) in enumerate(table.items()):
        colour, marker = STYLES[name]
        at = [s + shift * (k - len(table) / 2 + 0.5) * (s > 0) for s in steps]
        axes.errorbar(
            at, [p["mean"] for p in row["path"]], [p["se"] for p in row["path"]], color=colour,
            marker=marker, markersize=4, linewidth=1.3, elinewidth=0.8, capsize=2, label=name,
            linestyle="--" if name.startswith("SFT") else "-",
        )  # fmt: skip
    axes.axhline(0.0, color="0.75", linewidth=0.8, zorder=0)
    axes.set_xticks(steps)
    axes.set_xlabel("Optimiser steps")
    axes.set_ylabel("Gain in true value over the logging policy")
    axes.set_title(f"a  Mean of {len(found['seeds'])} runs, ± 1 s.e.")
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda i: -table[labels[i]]["mean"])
    axes.legend(
        [handles[i] for i in order], [labels[i] for i in order], frameon=False, loc="upper left",
        handlelength=2.2, labelspacing=0.3, ncols=2, columnspacing=1.0, fontsize=8,
    )  # fmt: skip
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.28 * (high - low))  # the legend's place


def said_of(row: dict[str, Any]) -> str:
    """The p-value of a raised value; the baseline has none."""
    if "p" not in row:
        return "imitates the log"
    return "p < 0.001" if row["p"] < 0.001 else f"p = {row['p']:.3f}"


def draw_ends(axes: Any, found: dict[str, Any]) -> None:
    """Where every run ended, and the mean with its 95 % interval."""
    table = found["objectives"]
    names = sorted(table, key=lambda name: table[name]["mean"])
    for y, name in enumerate(names):
        row, (colour, marker) = table[name], STYLES[name]
        axes.plot(row["interval_95"], [y, y], color=colour, linewidth=1.5)
        axes.plot(row["mean"], y, marker, color=colour, markersize=6)
        axes.plot(
            row["gains"], [y - 0.27] * len(row["gains"]), "o", markersize=3.5, alpha=0.8,
            markerfacecolor="none", markeredgecolor=colour,
        )  # fmt: skip
        axes.text(
            1.03, y, said_of(row), va="center", fontsize=8, color="0.25",
            transform=axes.get_yaxis_transform(),
        )  # fmt: skip
    axes.axvline(0.0, color="0.75", linewidth=0.8, zorder=0)
    stopped = {name: table[name]["stopped"] for name in names}
    axes.set_yticks(range(len(names)), [f"{n} †" if stopped[n] else n for n in names])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_ylim(-0.6, len(names) - 0.5)
    axes.set_xlabel("Gain at the end of training")
    axes.set_title("b  Mean and 95 % interval; circles are single runs")


def plot(found: dict[str, Any], file: Path) -> None:
    """Both panels, with what the reader must know below them."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    with mpl.rc_context(STYLE):
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(7.5, 3.7), width_ratios=(1, 1.15), layout="constrained"
        )
        draw_paths(left, found)
        draw_ends(right, found)
        sizes = found["sizes"]
        stops = ", ".join(
            f"{name} {row['stopped']}/{len(found['seeds'])}"
            for name, row in found["objectives"].items()
            if row["stopped"]
        )
        said = (
            f"True value: mean outcome of {sizes['fresh']:,} fresh texts (a quarter on the way) by "
            "the known oracle, which no objective\nsees. SFT on all rows imitates the log: its "
            "target is the logging policy, its gain 0. p: one-sided paired t test over runs."
        )
        if stops:
            said += (
                "\n† stopped early by the floor of the effective sample size "
                f"({sizes['ess_floor']:g}) in some runs ({stops}); the value then stays."
            )
        figure.supxlabel(said, fontsize=7.5, color="0.25", x=0.01, ha="left")
        figure.savefig(file, dpi=200)
        plt.close(figure)


if __name__ == "__main__":
    plot(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
