"""Full validation of the estimators: ``python -m benchmarks.validate``.

Three parts, each with a file of figures: ``coverage`` (here), ``bands``
(:mod:`benchmarks.bands`, K policies at once) and ``efficiency`` (:mod:`benchmarks.efficiency`,
which runs 2.5 times the replications, as a standard deviation within 3 % needs).

Coverage: every cell is a design with known truth, a sample size and an estimator; figures are
coverage of 95 % intervals, bias, standard deviation, mean standard error, width against the oracle
and the shares of verdicts, over at least 1,000 replications. Cells are kept as they finish, so that
an interrupted run resumes; the table is written when all are there.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.linear_model import LinearRegression, LogisticRegression
from threadpoolctl import threadpool_limits
from tqdm import tqdm

import causal_lm_opt
from causal_lm_opt import IPW, DoublyRobust, OutcomeRegression
from causal_lm_opt.simulation import GaussianDesign

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "validation"
SEED = 20261121
DESIGNS: dict[str, GaussianDesign] = {
    "continuous": GaussianDesign("linear", shift=0.5),
    "binary": GaussianDesign("binary", shift=0.5),
    "heavy tails": GaussianDesign("heavy", shift=0.5),
    "wrong q": GaussianDesign("quadratic", shift=0.5),
    "20 readers a text": GaussianDesign("linear", shift=0.3, readers=20),
    "shared prompts": GaussianDesign("linear", shift=0.5, prompts=True),
    "draws from f0": GaussianDesign("linear", shift=0.5, sampling_shift=0.2),
    "wrong P_R": GaussianDesign("linear", shift=1.5, logging_error=1.5),
    "wrong P_R and q": GaussianDesign("quadratic", shift=1.0, logging_error=1.0),
    "shift 1": GaussianDesign("linear", shift=1.0),
    "shift 1.5": GaussianDesign("linear", shift=1.5),
    "shift 2": GaussianDesign("linear", shift=2.0),
    "shift 2.5": GaussianDesign("linear", shift=2.5),
    "shift 1, wrong q": GaussianDesign("quadratic", shift=1.0),
    "shift 1.5, wrong q": GaussianDesign("quadratic", shift=1.5),
    "shift 2, wrong q": GaussianDesign("quadratic", shift=2.0),
    "shift 2.5, wrong q": GaussianDesign("quadratic", shift=2.5),
    "shift 1, binary": GaussianDesign("binary", shift=1.0),
    "shift 2, binary": GaussianDesign("binary", shift=2.0),
}
SIZES = (200, 1000, 5000)
PARTS = ("coverage", "bands", "efficiency")
Replication = Callable[[int], list[dict[str, Any]]]


@dataclass(frozen=True)
class Cell:
    """One design, sample size and number of replications."""

    design: str
    n: int
    replications: int

    @property
    def file(self) -> Path:
        """Where the finished cell's replications are kept."""
        name = f"{self.design}-{self.n}-{self.replications}".replace(" ", "_").replace(",", "")
        return RESULTS / ".cells" / f"{name}.parquet"


def estimators(design: GaussianDesign) -> dict[str, Any]:
    """Estimators run on every log of a design."""
    model = LinearRegression()
    if design.outcome == "binary":
        model = LogisticRegression(C=np.inf)
    out: dict[str, Any] = {
        "HT": IPW("ht"),
        "Hajek": IPW(),
        "OR": OutcomeRegression(model),
        "DR": DoublyRobust(model),
    }
    if design.logging_error:
        out["DR, naive interval"] = DoublyRobust(model, inference="influence")
    return out


def replicate(design: GaussianDesign, n: int, replication: int) -> list[dict[str, Any]]:
    """One row per estimator: estimate, interval, verdict and the figures behind it."""
    log = design.draw(n, np.random.default_rng([SEED, n, replication]))
    rows = []
    for name, estimator in estimators(design).items():
        result = estimator.fit(log.X, log.y, **log.fit_arguments()).result_
        low, high = result.confint()
        rows.append(
            {
                "estimator": name,
                "replication": replication,
                "value": result.value,
                "se": result.se,
                "low": low,
                "high": high,
                "verdict": result.verdicts[0].level,
                **result.diagnostics[0],
            }
        )
        if name == "OR":  # what a user gets who takes the draws' spread for a standard error
            draws = result.influence_target
            assert draws is not None
            half = 1.96 * draws.std(ddof=1) / math.sqrt(draws.shape[0])
            rows.append(
                {
                    "estimator": "OR, draws only",
                    "replication": replication,
                    "value": result.value,
                    "se": half / 1.96,
                    "low": result.value - half,
                    "high": result.value + half,
                    "verdict": "",
                }
            )
    return rows


def _chunk(one: Replication, replications: range) -> list[dict[str, Any]]:
    with threadpool_limits(1):
        return [row for r in replications for row in one(r)]


def repeat(one: Replication, replications: int, jobs: int) -> pd.DataFrame:
    """Rows of ``one(0), ..., one(replications - 1)``, over ``jobs`` processes."""
    step = max(1, replications // (8 * jobs))
    chunks = [range(i, min(i + step, replications)) for i in range(0, replications, step)]
    parts = Parallel(n_jobs=jobs)(delayed(_chunk)(one, c) for c in chunks)
    return pd.DataFrame([row for part in parts for row in part])


def run_cell(cell: Cell, jobs: int) -> pd.DataFrame:
    """All replications of a cell, from its file if it is there."""
    if cell.file.exists():
        return pd.read_parquet(cell.file)
    frame = repeat(partial(replicate, DESIGNS[cell.design], cell.n), cell.replications, jobs)
    cell.file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = cell.file.with_suffix(".tmp")
    frame.to_parquet(unfinished)
    unfinished.replace(cell.file)
    return frame


def summarise(cell: Cell, frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """One row per estimator of a finished cell."""
    design = DESIGNS[cell.design]
    truth = design.value()
    for name, part in frame.groupby("estimator", sort=False):
        covered = (part["low"] <= truth) & (truth <= part["high"])
        spread = float(part["value"].std(ddof=1))
        row: dict[str, Any] = {
            "design": cell.design,
            "sd_log_ratio": abs(design.shift - design.logging_error),
            "n": cell.n,
            "estimator": name,
            "replications": len(part),
            "truth": truth,
            "bias": float(part["value"].mean() - truth),
            "sd": spread,
            "se_over_sd": float(part["se"].mean() / spread),
            "coverage": float(covered.mean()),
            "mc_se": math.sqrt(0.95 * 0.05 / len(part)),
            "width_over_oracle": float((part["high"] - part["low"]).mean() / (2 * 1.96 * spread)),
        }
        for level in ("trustworthy", "caution", "do not use"):
            chosen = part["verdict"] == level
            row[f"share {level}"] = float(chosen.mean())
            row[f"coverage {level}"] = float(covered[chosen].mean()) if chosen.any() else None
        yield row


def commit() -> str:
    """The commit the figures were made at, with a mark when the tree had changes."""
    run = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        capture_output=True, text=True, cwd=HERE, check=False,
    )  # fmt: skip
    return run.stdout.strip() or "unknown"


def begin(seed: int) -> dict[str, Any]:
    """Where a run's figures come from, taken before it: code changed meanwhile is not theirs."""
    return {
        "commit": commit(),
        "version": causal_lm_opt.__version__,
        "seed": seed,
        "seconds": time.time(),
    }


def write_table(path: Path, begun: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Write rows as JSON under what `begin` returned, with the seconds since; atomically."""
    seconds = round(time.time() - begun["seconds"])
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(begun | {"seconds": seconds, "rows": rows}, indent=1) + "\n")
    unfinished.replace(path)


def run_coverage(cells: list[Cell], jobs: int, path: Path) -> None:
    """Run all cells and write ``coverage.json`` and ``coverage.csv``."""
    begun = begin(SEED)
    rows: list[dict[str, Any]] = []
    for cell in tqdm(cells, unit="cell"):
        rows += summarise(cell, run_cell(cell, jobs))
    write_table(path, begun, rows)
    frame = pd.DataFrame(rows)
    frame.round(4).to_csv(path.with_suffix(".csv"), index=False)
    shown = ["design", "n", "estimator", "bias", "se_over_sd", "coverage", "share trustworthy"]
    print(frame[shown].round(3).to_string(index=False))


def main(argv: list[str] | None = None) -> int:
    """Run the coverage table, the bands and the efficiency, in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replications", type=int, default=2000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES))
    parser.add_argument("--designs", nargs="*", default=list(DESIGNS))
    parser.add_argument(
        "--json",
        type=Path,
        default=RESULTS / "coverage.json",
        help="the coverage table's file; those of the other parts go into the same folder",
    )
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    arguments = parser.parse_args(argv)
    unknown = [d for d in arguments.designs if d not in DESIGNS]
    if unknown:
        parser.error(f"unknown designs {unknown}; there are {list(DESIGNS)}")
    from benchmarks import bands, efficiency  # both import this module's helpers

    if "coverage" in arguments.parts:
        cells = [
            Cell(d, n, arguments.replications) for d in arguments.designs for n in arguments.sizes
        ]
        run_coverage(cells, arguments.jobs, arguments.json)
    for part, times in ((bands, 1.0), (efficiency, 2.5)):
        name = part.__name__.rpartition(".")[2]
        if name in arguments.parts:
            part.run(
                math.ceil(times * arguments.replications),
                arguments.jobs,
                arguments.json.with_name(f"{name}.json"),
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
