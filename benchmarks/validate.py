"""Full validation of the estimators: ``python -m benchmarks.validate``.

Five parts, each with a file of figures: ``coverage`` (here), ``bands``
(:mod:`benchmarks.bands`, K policies at once), ``efficiency`` (:mod:`benchmarks.efficiency`,
which runs 2.5 times the replications, as a standard deviation within 3 % needs), ``sensitivity``
(:mod:`benchmarks.sensitivity`, half the replications: bounds under violations of known strength)
and ``fuzz`` (:mod:`benchmarks.fuzz`, 10,000 damaged files for the readers). The work is done by
the engine of :mod:`causal_lm_opt.simulation.study`.

Coverage: every cell is a design with known truth, a sample size and an estimator; figures are
coverage of 95 % intervals, what one log predicts of it (median of ``coverage_over_logs``), bias,
standard deviation, mean standard error, width against the oracle and the shares of verdicts, over
at least 1,000 replications. Blocks of replications are kept as they finish, so that an interrupted
run resumes; the table is written when all are there.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LinearRegression, LogisticRegression

import causal_lm_opt
from causal_lm_opt import IPW, DoublyRobust, OutcomeRegression
from causal_lm_opt.diagnostics.verdict import LEVELS
from causal_lm_opt.simulation import GaussianDesign
from causal_lm_opt.simulation._blocks import Cell, repeat, run_cells
from causal_lm_opt.simulation.study import result_figures, summarise

__all__ = ["RESULTS", "SEED", "begin", "repeat", "write_table"]  # for the other parts

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
    "skewed": GaussianDesign("skewed", shift=0.5),
    "shift 1, skewed": GaussianDesign("skewed", shift=1.0),
    "shift 1.3, skewed": GaussianDesign("skewed", shift=1.3),
}
SIZES = (200, 1000, 5000)
PARTS = ("coverage", "bands", "efficiency", "sensitivity", "fuzz")
VERDICTS = [f"{what} {level}" for level in LEVELS for what in ("share", "coverage")]
COLUMNS = [
    *("design", "sd_log_ratio", "n", "estimator", "replications", "truth", "bias", "sd"),
    *("se_over_sd", "coverage", "mc_se", "predicted", "width_over_oracle"),
    *VERDICTS,
]


def cell(design: str, n: int, replications: int) -> Cell:
    """One design, sample size and number of replications."""
    chosen = DESIGNS[design]
    identity = f"{chosen!r}|{n}|{SEED}|{causal_lm_opt.__version__}"
    return Cell(f"{design}-{n}", partial(replicate, chosen, n), replications, identity)


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
        head = {"estimator": name, "replication": replication}
        rows.append(head | result_figures(result))
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


def table_rows(design: str, n: int, frame: pd.DataFrame) -> list[dict[str, Any]]:
    """One row per estimator of a finished cell."""
    chosen = DESIGNS[design]
    rows = []
    predicted = frame.groupby("estimator")["coverage_over_logs"].median()
    for found in summarise(frame, chosen.value()):
        row: dict[str, Any] = {
            "design": design,
            "sd_log_ratio": abs(chosen.shift - chosen.logging_error),
            "n": n,
            "mc_se": math.sqrt(0.95 * 0.05 / found["replications"]),
            "predicted": float(predicted[found["estimator"]]),
        }
        row = {k: None if v != v else v for k, v in (row | found).items()}  # NaN is no JSON
        rows.append({name: row[name] for name in COLUMNS})
    return rows


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


def run_coverage(
    designs: list[str], sizes: list[int], replications: int, jobs: int, path: Path
) -> None:
    """Run all cells and write ``coverage.json`` and ``coverage.csv``."""
    begun = begin(SEED)
    settings = [(d, n) for d in designs for n in sizes]
    cells = [cell(d, n, replications) for d, n in settings]
    frames = run_cells(cells, out=RESULTS / ".cells", jobs=jobs)
    rows = [
        row
        for (d, n), frame in zip(settings, frames, strict=True)
        for row in table_rows(d, n, frame)
    ]
    write_table(path, begun, rows)
    frame = pd.DataFrame(rows)
    frame.round(4).to_csv(path.with_suffix(".csv"), index=False)
    shown = ["design", "n", "estimator", "bias", "se_over_sd", "coverage", "share trustworthy"]
    print(frame[shown].round(3).to_string(index=False))


def main(argv: list[str] | None = None) -> int:
    """Run the parts in turn."""
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
    from benchmarks import (  # some import our helpers
        bands,
        efficiency,
        fuzz,
        sensitivity,
        validation_plots,
    )

    if "coverage" in arguments.parts:
        run_coverage(
            arguments.designs,
            arguments.sizes,
            arguments.replications,
            arguments.jobs,
            arguments.json,
        )
    for part, times in ((bands, 1.0), (efficiency, 2.5), (sensitivity, 0.5)):
        name = part.__name__.rpartition(".")[2]
        if name in arguments.parts:
            part.run(
                math.ceil(times * arguments.replications),
                arguments.jobs,
                arguments.json.with_name(f"{name}.json"),
            )
    validation_plots.draw(arguments.json.parent, arguments.json.name)
    if "fuzz" in arguments.parts:
        return min(fuzz.run(10_000, arguments.jobs, arguments.json.with_name("fuzz.json")), 1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
