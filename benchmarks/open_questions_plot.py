"""Figure of the open question of model size: what a point of gain costs in effective rows.

python -m benchmarks.open_questions_plot --units model-size.csv --png model-size.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pandas as pd


def mean_paths(units: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Mean over seeds of each size's figures by step, with the gain of value since step 0."""
    found = {}
    for size, part in units.groupby("size", sort=False):
        paths = [pd.DataFrame(json.loads(p)) for p in part["path"]]
        paths = [p.assign(gain=p["value"] - p["value"].iloc[0]) for p in paths]
        found[str(size)] = pd.concat(paths).groupby("step").mean().reset_index()
    return found


def plot(units: pd.DataFrame, file: Path) -> None:
    """Two panels: effective sample size by step and by true gain, a line for each size."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    paths = mean_paths(units)
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    colours: Any = matplotlib.colormaps["viridis"]
    for i, (size, path) in enumerate(paths.items()):
        label = f"width {size}" if size.isdigit() else "135M, LoRA"
        style: dict[str, Any] = {"color": colours(0.9 * i / max(1, len(paths) - 1)), "marker": "o"}
        if not size.isdigit():
            style |= {"color": "tab:red", "linestyle": "--", "marker": "s"}
        axes[0].plot(path["step"], path["ess"], label=label, markersize=4, **style)
        axes[1].plot(path["gain"], path["ess"], markersize=4, **style)
    axes[0].set(xlabel="steps of 16 texts", ylabel="effective sample size of f/f0, a share",
                ylim=(0, 1.02), title="By step")  # fmt: skip
    axes[1].set(xlabel="true value gained, points of 100", title="By what was gained")
    axes[0].legend(frameon=False, fontsize=8)
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--units", type=Path, required=True)
    parser.add_argument("--png", type=Path, required=True)
    given = parser.parse_args(argv)
    plot(pd.read_csv(given.units, dtype={"size": str}), given.png)


if __name__ == "__main__":
    main()
