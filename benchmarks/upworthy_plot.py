"""Plot of ``benchmarks.upworthy``: ``python -m benchmarks.upworthy_plot FILE``.

Above: the estimate less the realised click rate, split by split, for the same tests and for other
tests. Below: what the chosen headlines gain, and how many splits each analysis covers.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from causal_lm_opt import plots

BEST, LIFT = "best predicted", "best - uniform"
SAME, OTHER = "DR, same tests", "DR, other tests"
INK = plots.LIGHT
SMALL = 8.0
PER_MILLE = 1000.0  # click rates are shown in clicks per 1,000 impressions
WANTED = 17 / 20
Z = 1.959964


def figure(table: dict[str, Any]) -> Any:
    """The figure of a finished run."""
    rows = pd.DataFrame(table["rows"])
    names = list(dict.fromkeys(rows["analysis"]))
    grid, axes = plots.new_grid(2, 2, width=8.6, height=6.4)
    for ax, name, words in (
        (axes[0][0], SAME, "Same tests, other readers"),
        (axes[0][1], OTHER, "Other tests, headlines, readers"),
    ):
        _differences(ax, rows[rows["analysis"] == name])
        _title(ax, f"{words}: DR - realised")
    _lifts(axes[1][0], rows)
    _title(axes[1][0], "Gain of the chosen headlines over all")
    _coverage(axes[1][1], rows, names)
    _title(axes[1][1], "Splits whose interval covers")
    return grid


def _title(ax: Any, words: str) -> None:
    ax.set_title(words, loc="left", fontsize=9, color=INK.ink)


def _differences(ax: Any, rows: pd.DataFrame) -> None:
    """Interval of estimate - realised for each split, in the order of the splits."""
    missed: list[tuple[float, float]] = []
    for quantity, shift, marker, colour in ((BEST, -0.17, "o", INK.first),
                                            (LIFT, 0.17, "s", INK.second)):  # fmt: skip
        part = rows[rows["quantity"] == quantity]
        x = part["split"].to_numpy() + 1 + shift
        gap = PER_MILLE * (part["value"] - part["realised"]).to_numpy()
        half = PER_MILLE * part["half_width"].to_numpy()
        ax.vlines(x, gap - half, gap + half, color=colour, linewidth=1.1)
        what = "value" if quantity == BEST else "gain"
        ax.plot(x, gap, marker, color=colour, markersize=3.6, label=what)
        at = ~part["covered"].to_numpy()
        missed += list(zip(x[at], gap[at], strict=True))
    ax.plot([x for x, _ in missed], [y for _, y in missed], "x", color=INK.no, markersize=7,
            markeredgewidth=1.6, label="missed")  # fmt: skip
    ax.axhline(0.0, color=INK.ink, linewidth=1.0)
    _split_axis(ax, rows)
    ax.legend(frameon=False, fontsize=SMALL, ncols=3, loc="lower left", labelcolor=INK.ink)
    low, high = ax.get_ylim()
    ax.set_ylim(low - 0.18 * (high - low), high)


def _split_axis(ax: Any, rows: pd.DataFrame) -> None:
    ax.set_xlim(0.4, rows["split"].max() + 1.6)
    ax.set_xlabel("split")
    ax.set_ylabel("clicks per 1,000 impressions")
    ax.grid(False, axis="x")


def _lifts(ax: Any, rows: pd.DataFrame) -> None:
    """Off-policy gain with its interval for these tests, the realised one and the model's claim."""
    gains = rows[rows["quantity"] == LIFT]
    dr, claim = (gains[gains["analysis"] == name] for name in (SAME, "model alone"))
    x = dr["split"].to_numpy() + 1
    value, half = PER_MILLE * dr["value"].to_numpy(), PER_MILLE * Z * dr["se"].to_numpy()
    ax.vlines(x, value - half, value + half, color=INK.first, linewidth=1.2)
    ax.plot(x, value, "o", color=INK.first, markersize=3.8, label="DR, 95%")
    ax.plot(x, PER_MILLE * dr["realised"].to_numpy(), "D", color=INK.ink, markersize=3.6,
            markerfacecolor="none", label="realised")  # fmt: skip
    ax.plot(x, PER_MILLE * claim["value"].to_numpy(), "_", color=INK.no, markersize=7,
            markeredgewidth=1.6, label="model's claim")  # fmt: skip
    ax.axhline(0.0, color=INK.ink, linewidth=1.0)
    ax.set_ylim(top=ax.get_ylim()[1] * 1.28)
    _split_axis(ax, rows)
    ax.legend(frameon=False, fontsize=SMALL, loc="upper left", ncols=3, labelcolor=INK.ink)


def _coverage(ax: Any, rows: pd.DataFrame, names: list[str]) -> None:
    """Share of splits that cover, analyses down; the controls are meant to fail."""
    names = sorted(names, key=lambda name: not name.startswith(("DR", "IPW")))
    for quantity, shift, marker, colour in ((BEST, -0.16, "o", INK.first),
                                            (LIFT, 0.16, "s", INK.second)):  # fmt: skip
        part = rows[rows["quantity"] == quantity]
        share = part.groupby("analysis")["covered"].mean()[names].to_numpy()
        y = [k + shift for k in range(len(names))]
        ax.hlines(y, 0.0, share, color=colour, linewidth=1.2)
        what = "value" if quantity == BEST else "gain"
        ax.plot(share, y, marker, color=colour, markersize=4.5, label=what)
    ax.axvline(WANTED, color=INK.ink, linewidth=1.0, linestyle=(0, (4, 3)))
    first = sum(name.startswith(("DR", "IPW")) for name in names)
    ax.axhline(first - 0.5, color=INK.soft, linewidth=0.8)
    ax.annotate("mistakes, meant to fail", (0.5, first - 0.42), ha="center", va="top", size=SMALL,
                color=INK.ink)  # fmt: skip
    ax.set_yticks(range(len(names)), [name.replace(" same readers", "\nsame readers")
                                      for name in names])  # fmt: skip
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlim(-0.02, 1.03)
    ax.set_xticks([0.0, 0.25, 0.5, 0.75, 1.0], ["0%", "25%", "50%", "75%", "100%"])
    ax.set_xlabel("share of splits (dashed: wanted, 17 of 20)")
    ax.tick_params(axis="y", length=0)
    ax.grid(False, axis="y")


def draw(file: Path) -> Path:
    """Write the plot beside the figures; its path."""
    path = file.with_suffix(".png")
    figure(json.loads(file.read_text(encoding="utf-8"))).savefig(
        path, dpi=150, facecolor="white", metadata={"Software": None},
        pil_kwargs={"optimize": True},
    )  # fmt: skip
    return path


def main(argv: list[str] | None = None) -> int:
    """Draw one file of figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    print(draw(parser.parse_args(argv).file))
    return 0


if __name__ == "__main__":
    sys.exit(main())
