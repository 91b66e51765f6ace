"""Intervals for 24 policies at once or the best of them: ``python -m benchmarks.bands``.

A log of texts in 24 styles; policy k writes style k (or writes it more often), with a feature of
its own distribution. Figures: the share of replications in which all 24 bands hold together, in
which the interval of the selected policy (the largest estimate) covers that policy's value, in
which ``[max lower, max upper]`` covers the largest value, and how the pointwise interval of the
selected policy fares, which ignores the selection: with equal values and independent estimates it
covers with probability .975 ** 24 = .545.

Critical values are normal. With 250 rows a policy the skewness of plain and of self-normalised
weights still shows in tails as far out as 3.1 standard errors (an estimate is low when its standard
error is); with 1,000 rows a policy little of it is left.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.linear_model import LinearRegression

from benchmarks.validate import RESULTS, SEED, begin, repeat, write_table
from causal_lm_opt import IPW, DoublyRobust, ValueEstimate

FloatArray = npt.NDArray[np.float64]
K = 24
DRAWS = 500  # a policy
TILT = 0.3  # mean of the feature under every policy; 0 under the logger
N_SIM = (
    3000  # normals behind a critical value, others in each replication: their noise averages out
)
NAMES = tuple(f"style {k}" for k in range(K))
FIGURES = ("bands", "selected", "best value", "naive selected", "naive best value")


@dataclass(frozen=True)
class Scenario:
    """Mean outcome of the styles, and the share of its texts a policy writes in any style.

    Parameters
    ----------
    spread : float
        Style k has mean outcome ``1 + spread k / (K - 1)``.
    mixing : float
        Share of a policy's texts in a style drawn at random: policies, and so their estimates,
        overlap.
    n : int
        Logged rows; 1 in 24 is of each style.
    estimators : tuple of str
    """

    spread: float
    mixing: float
    n: int = 6000
    estimators: tuple[str, ...] = ("HT", "Hajek", "DR")

    def style_probs(self) -> FloatArray:
        """Probability of each style (columns) under each policy (rows), shape (K, K)."""
        return (1.0 - self.mixing) * np.eye(K) + self.mixing / K

    def values(self) -> FloatArray:
        """True values, shape (K,)."""
        styles = 1.0 + self.spread * np.arange(K) / (K - 1)
        return np.asarray(self.style_probs() @ styles + TILT)


SCENARIOS = {
    "equal values": Scenario(spread=0.0, mixing=0.0),
    "unequal values, overlapping policies": Scenario(spread=0.5, mixing=0.5),
    "equal values, 1,000 rows a policy": Scenario(
        spread=0.0, mixing=0.0, n=24_000, estimators=("HT", "Hajek")
    ),
}


@dataclass(frozen=True, eq=False)
class StyleLog:
    """Logged rows: features (n, 2), outcomes (n,) and log-probabilities (n,), (n, K)."""

    X: FloatArray
    y: FloatArray
    logp_logging: FloatArray
    logp_target: pd.DataFrame


def draw_log(scenario: Scenario, rng: np.random.Generator) -> StyleLog:
    """A log in which every style is as frequent, ``y = style's mean + feature + N(0, 1)``."""
    style, x = rng.integers(K, size=scenario.n), rng.normal(size=scenario.n)
    position = style / (K - 1)
    y = 1.0 + scenario.spread * position + x + rng.normal(size=scenario.n)
    with np.errstate(divide="ignore"):  # a style that a policy never writes
        log_style = np.log(scenario.style_probs())[:, style].T
    density = -0.5 * (x - TILT) ** 2
    return StyleLog(
        X=np.column_stack([position, x]),
        y=y,
        logp_logging=-0.5 * x**2 - math.log(K),
        logp_target=pd.DataFrame(log_style + density[:, None], columns=NAMES),
    )


def draw_targets(scenario: Scenario, rng: np.random.Generator) -> dict[str, FloatArray]:
    """Draws of its own (DRAWS, 2) for each policy."""
    out = {}
    for k, name in enumerate(NAMES):
        anything = rng.random(DRAWS) < scenario.mixing
        style = np.where(anything, rng.integers(K, size=DRAWS), k)
        out[name] = np.column_stack([style / (K - 1), rng.normal(TILT, 1.0, size=DRAWS)])
    return out


ESTIMATORS: dict[str, Callable[[], Any]] = {
    "HT": lambda: IPW("ht"),
    "Hajek": IPW,
    "DR": lambda: DoublyRobust(LinearRegression(), inference="influence"),
}


def judge(result: ValueEstimate, truth: FloatArray, seed: int) -> dict[str, float]:
    """What held in one replication (0 or 1), and the band's width over the pointwise one."""
    compared = result.compare(0, n_sim=N_SIM, random_state=seed)
    pointwise = result.confint()
    chosen = int(np.argmax(result.values))

    def holds(interval: FloatArray, value: float) -> float:
        return float(interval[0] <= value <= interval[1])

    inside = (compared.bands[:, 0] <= truth) & (truth <= compared.bands[:, 1])
    widths = np.diff(compared.bands, axis=1) / np.diff(pointwise, axis=1)
    return {
        "bands": float(inside.all()),
        "selected": holds(compared.selected_interval, truth[chosen]),
        "best value": holds(compared.best_interval, truth.max()),
        "naive selected": holds(pointwise[chosen], truth[chosen]),
        "naive best value": holds(pointwise[chosen], truth.max()),
        "critical value": compared.critical_value,
        "width over pointwise": float(widths.mean()),
    }


def replicate(
    scenario: Scenario, replication: int, names: tuple[str, ...] | None = None
) -> list[dict[str, Any]]:
    """One row per estimator (those named, or the scenario's)."""
    rng = np.random.default_rng([SEED, replication])
    log, targets = draw_log(scenario, rng), draw_targets(scenario, rng)
    probs = {"logp_target": log.logp_target, "logp_logging": log.logp_logging}
    rows = []
    for name in scenario.estimators if names is None else names:
        draws = {"X_target": targets} if name == "DR" else {}
        result = ESTIMATORS[name]().fit(log.X, log.y, **probs, **draws).result_
        rows.append({"estimator": name} | judge(result, scenario.values(), replication))
    return rows


def run(replications: int, jobs: int, path: Path) -> None:
    """All scenarios and estimators; writes and prints the table."""
    begun = begin(SEED)
    rows: list[dict[str, Any]] = []
    for label, scenario in SCENARIOS.items():
        frame = repeat(partial(replicate, scenario), replications, jobs)
        for name, part in frame.groupby("estimator", sort=False):
            shares = part.drop(columns="estimator").mean()
            rows.append(
                {
                    "scenario": label,
                    "policies": K,
                    "n": scenario.n,
                    "estimator": name,
                    "replications": len(part),
                    "mc_se": math.sqrt(0.95 * 0.05 / len(part)),
                }
                | {str(k): float(v) for k, v in shares.items()}
            )
    write_table(path, begun, rows)
    shown = ["scenario", "estimator", *FIGURES, "critical value"]
    print(pd.DataFrame(rows)[shown].round(3).to_string(index=False))


def main(argv: list[str] | None = None) -> int:
    """Write ``bands.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replications", type=int, default=2000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=Path, default=RESULTS / "bands.json")
    arguments = parser.parse_args(argv)
    run(arguments.replications, arguments.jobs, arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
