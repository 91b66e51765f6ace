r"""Coverage of the sensitivity bounds: ``python -m benchmarks.sensitivity``.

Worlds of finitely many texts in which one assumption fails by a known strength L, so that V is
known by enumeration. In two a binary hidden trait moves the text seen and the outcome, in one of
these exactly as badly as L allows (V *is* the population's sharp bound: nothing narrower covers).
In two the stated logging probabilities are wrong as a function of the text.

Each log is analysed for both violations at strength 1 (no violation) and L: with the right
violation the interval must cover V; with strength 1 it should not; where the probabilities are
mis-scored, the narrower bound for a hidden confounder is the wrong one and should not either.
Intervals are two-sided at .95, so that at an edge they cover with probability .975.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import optimize, stats
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import LinearRegression

import causal_lm_opt
from benchmarks.validate import RESULTS, SEED, begin, write_table
from causal_lm_opt import IPW, DoublyRobust
from causal_lm_opt.diagnostics.sensitivity import (
    hidden_confounder_bounds,
    quantile_levels,
    resample_multipliers,
)
from causal_lm_opt.estimators import sensitivity
from causal_lm_opt.simulation import TabularDesign, drifted_logging, hidden_confounder
from causal_lm_opt.simulation._blocks import Cell, run_cells

HIDDEN, SCORED = "hidden_confounder", "logging_probabilities"
VIOLATIONS = (HIDDEN, SCORED)
N, RESAMPLES, DRAWS_PER_ROW = 600, 200, 2.0
LEVEL = 0.95


@dataclass(frozen=True)
class World:
    """A design, what is violated in it and how strongly."""

    design: TabularDesign
    violation: str
    strength: float


def scored_at_the_edge(strength: float) -> World:
    """Stated probabilities too large at the better texts and too small at the others, both by L."""
    z = np.linspace(-1.0, 1.0, 20)
    uniform = np.full(z.size, 1.0 / z.size)
    stated = uniform * np.where(z > 0, strength, 1.0 / strength)
    design = TabularDesign(
        trait_probs=[1.0], logging=uniform[None, :], target=uniform, mean=1.0 + z,
        stated=stated / stated.sum(), noise="uniform", scale=0.1, features=z[None, :, None],
        label=f"probabilities mis-scored at the edge of strength {strength:g}",
    )  # fmt: skip
    return World(design, SCORED, strength)


def worlds() -> dict[str, World]:
    """The worlds by name.

    A drift of ``d`` makes the right weight ``exp(-d z)`` times the stated one with z in [-1, 1]:
    strength ``exp(d)`` after one common factor.
    """
    drift = math.log(1.5)
    found = {
        "hidden, inside": World(hidden_confounder(2.0, effect=2.0, tilt=2.0), HIDDEN, 2.0),
        "hidden, at the edge": World(hidden_confounder(2.0, edge=True), HIDDEN, 2.0),
        "mis-scored, inside": World(drifted_logging(drift, tilt=0.5), SCORED, math.exp(drift)),
        "mis-scored, at the edge": scored_at_the_edge(1.5),
    }
    fewer = {k: replace(w.design, draws_per_row=DRAWS_PER_ROW) for k, w in found.items()}
    return {k: replace(w, design=fewer[k]) for k, w in found.items()}


# ------------------------------------------------------------------------------ quantiles
class CellQuantile(RegressorMixin, BaseEstimator):
    """Quantile of the outcome within each distinct row; of all rows for rows never met."""

    def __init__(self, quantile: float = 0.5) -> None:
        self.quantile = quantile

    def fit(self, X: Any, y: Any) -> CellQuantile:
        """Fit on rows (n, d) and outcomes (n,)."""
        self.rows_, at = np.unique(X, axis=0, return_inverse=True)
        at = np.ravel(at)
        self.table_ = np.array(
            [np.quantile(y[at == k], self.quantile) for k in range(at.max() + 1)]
        )
        self.rest_ = float(np.quantile(y, self.quantile))
        return self

    def predict(self, X: Any) -> Any:
        """Quantiles, shape (m,)."""
        same = (np.asarray(X)[:, None, :] == self.rows_[None]).all(axis=2)
        return np.where(same.any(axis=1), self.table_[same.argmax(axis=1)], self.rest_)


class LineQuantile(RegressorMixin, BaseEstimator):
    """Least squares plus the quantile of its residuals."""

    def __init__(self, quantile: float = 0.5) -> None:
        self.quantile = quantile

    def fit(self, X: Any, y: Any) -> LineQuantile:
        """Fit on rows (n, d) and outcomes (n,)."""
        design = np.column_stack([np.ones(len(X)), X])
        self.line_ = np.linalg.lstsq(design, y)[0]
        self.shift_ = float(np.quantile(y - design @ self.line_, self.quantile))
        return self

    def predict(self, X: Any) -> Any:
        """Quantiles, shape (m,)."""
        return self.line_[0] + np.asarray(X) @ self.line_[1:] + self.shift_


def oracle_quantiles(design: TabularDesign, level: float) -> np.ndarray:
    """Quantile of the outcome given each text, shape (J,), by the mixture over hidden traits."""
    noise: Any = stats.norm(scale=design.scale)
    if design.noise == "uniform":
        noise = stats.uniform(-design.scale, 2.0 * design.scale)
    share = design.trait_probs[:, None] * design.logging
    share = share / share.sum(axis=0)
    far = float(np.abs(design.mean).max() + 10.0 * design.scale)

    def excess(value: float, text: int) -> float:
        return float(share[:, text] @ noise.cdf(value - design.mean[:, text])) - level

    return np.array(
        [optimize.brentq(excess, -far, far, args=(j,)) for j in range(design.mean.shape[1])]
    )


# ------------------------------------------------------------------------------ one replication
def replicate(
    name: str, n: int, oracle: tuple[np.ndarray, np.ndarray], replication: int
) -> list[dict[str, Any]]:
    """Bounds and intervals of one log: estimator x violation x strength (1 and L).

    ``oracle`` holds the quantiles of each text for the lower and the upper bound, each (J, 2).
    """
    world = worlds()[name]
    log = world.design.draw(n, np.random.default_rng([SEED, 3, n, replication]))
    grid = np.array([1.0, world.strength])
    rows: list[dict[str, Any]] = []

    def add(estimator: str, violation: str, lower: Any, upper: Any, interval: Any) -> None:
        for k, strength in enumerate(grid):
            rows.append(
                {
                    "estimator": estimator, "analysis": violation, "strength": float(strength),
                    "lower": float(lower[k]), "upper": float(upper[k]),
                    "low": float(interval[k][0]), "high": float(interval[k][1]),
                }
            )  # fmt: skip

    cells = world.design.features is None
    quantiles = CellQuantile() if cells else LineQuantile()
    fitted = {
        "Hajek": IPW().fit(log.X, log.y, **log.fit_arguments(target=False)),
        "DR": DoublyRobust(LinearRegression(), inference="influence").fit(
            log.X, log.y, **log.fit_arguments()
        ),
    }
    for label, estimator in fitted.items():
        for violation in VIOLATIONS:
            found = sensitivity(
                estimator, grid, violation=violation, n_bootstrap=RESAMPLES,
                quantile_model=quantiles if violation == HIDDEN else None, level=LEVEL,
            )  # fmt: skip
            ends = np.stack([found.ci_lower[0], found.ci_upper[0]], axis=1)
            add(label, violation, found.lower[0], found.upper[0], ends)
    text = _text_of(world.design, log.X)
    sharp = hidden_confounder_bounds(
        np.exp(log.log_probs["logp_target"] - log.log_probs["logp_logging"]), log.y,
        oracle[0][text], oracle[1][text], grid,
        resamples=resample_multipliers(n, RESAMPLES, np.random.default_rng([replication, n])),
    )  # fmt: skip
    add("Hajek, exact quantiles", HIDDEN, sharp.lower, sharp.upper, sharp.interval(LEVEL))
    return rows


def _text_of(design: TabularDesign, X: Any) -> Any:
    """Number of the text of each row."""
    if design.features is None:
        return np.argmax(X, axis=1)
    return np.searchsorted(design.features[0, :, 0], X[:, 0])


# ------------------------------------------------------------------------------ the table
def summarise(name: str, world: World, n: int, frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Coverage and widths, one row per estimator, violation allowed for and strength."""
    truth = world.design.value()
    rows = []
    for key, part in frame.groupby(["estimator", "analysis", "strength"], sort=False):
        estimator, analysis, strength = key
        covered = (part["low"] <= truth) & (part["high"] >= truth)
        share = float(covered.mean())
        rows.append(
            {
                "world": name, "violated": world.violation, "n": n, "estimator": estimator,
                "allowed for": analysis, "strength": strength, "true strength": world.strength,
                "replications": len(part), "truth": truth,
                "lower": float(part["lower"].mean()), "upper": float(part["upper"].mean()),
                "width": float((part["upper"] - part["lower"]).mean()),
                "interval width": float((part["high"] - part["low"]).mean()),
                "coverage": share, "mc_se": math.sqrt(share * (1 - share) / len(part)),
                "should cover": bool(analysis == world.violation and strength > 1)
                or bool(world.violation == HIDDEN and analysis == SCORED and strength > 1),
            }
        )  # fmt: skip
    return rows


def cell(name: str, world: World, n: int, replications: int) -> Cell:
    """One world; the quantiles of its outcome are found once."""
    levels = quantile_levels([1.0, world.strength])
    low, high = (
        np.column_stack([oracle_quantiles(world.design, float(t)) for t in side]) for side in levels
    )
    identity = f"{name}|{n}|{SEED}|{RESAMPLES}|{DRAWS_PER_ROW}|{causal_lm_opt.__version__}"
    one = partial(replicate, name, n, (low, high))
    return Cell(f"sensitivity {name}", one, replications, identity)


def run(replications: int, jobs: int, path: Path, n: int = N) -> None:
    """All worlds; writes and prints the table. Finished blocks are kept, so a stop costs little."""
    begun = begin(SEED)
    chosen = worlds()
    cells = [cell(name, world, n, replications) for name, world in chosen.items()]
    frames = run_cells(cells, out=RESULTS / ".cells", jobs=jobs)
    rows = [
        row
        for (name, world), frame in zip(chosen.items(), frames, strict=True)
        for row in summarise(name, world, n, frame)
    ]
    write_table(path, begun, rows)
    shown = ["world", "estimator", "allowed for", "strength", "lower", "upper", "interval width",
             "coverage", "should cover"]  # fmt: skip
    print(pd.DataFrame(rows)[shown].round(3).to_string(index=False))


def main(argv: list[str] | None = None) -> int:
    """Write ``sensitivity.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replications", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=Path, default=RESULTS / "sensitivity.json")
    arguments = parser.parse_args(argv)
    run(arguments.replications, arguments.jobs, arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
