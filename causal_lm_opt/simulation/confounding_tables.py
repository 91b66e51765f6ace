"""Tables and claims of the study of objectives under a confounded outcome model.

The trained policies come from :mod:`causal_lm_opt.lm.confounding_study`; here are figures alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

__all__ = [
    "COLUMNS",
    "Claim",
    "claims",
    "coverage_table",
    "paired_interval",
    "pitman_morgan",
    "summary_table",
    "tidy",
    "win_rate_table",
]

FloatArray = npt.NDArray[np.float64]
RIGHT, CONFOUNDED = "right", "confounded"
WRONG_DESIGN, WRONG_BOTH = "wrong design", "both wrong"
OBJECTIVES = ("ft", "cpo", "oo", "dr", "targeted")
COLUMNS = (
    "world", "scenario", "strength", "seed", "objective", "true_value", "heldout_value",
    "heldout_lo", "heldout_hi", "ess", "verdict", "true_se", "steps", "path", "chosen_step",
    "chosen_true_value", "train_value", "train_lo", "train_hi", "oracle", "run_of",
)  # fmt: skip
KEYS = ["world", "scenario", "strength"]


def tidy(rows: pd.DataFrame) -> pd.DataFrame:
    """Every objective in every scenario, with the columns of ``COLUMNS``.

    What a scenario does not touch was run once: CPO (and FT) know no outcome model, OO-RLHF and the
    targeted objective no log-probabilities. Such rows are repeated; ``run_of`` names the scenario
    of the run behind a row.
    """
    plain = rows[~rows["short"].astype(bool)].copy()
    plain["run_of"] = plain["scenario"]
    found = [plain]
    for world, part in plain.groupby("world", sort=False):
        for scenario, strength in dict.fromkeys(
            zip(part["scenario"], part["strength"], strict=True)
        ):
            at = (part["scenario"] == scenario) & (part["strength"] == strength)
            for objective in OBJECTIVES:
                if (at & (part["objective"] == objective)).any():
                    continue
                source, b = _source(objective, str(scenario), float(strength))
                same = part[
                    (part["scenario"] == source) & (part["strength"] == b)
                    & (part["objective"] == objective)
                ]  # fmt: skip
                found.append(same.assign(world=world, scenario=scenario, strength=strength))
    table = pd.concat(found, ignore_index=True)
    for name in COLUMNS:
        if name not in table:
            table[name] = np.nan
    order = {name: i for i, name in enumerate(OBJECTIVES)}
    scenes = {name: i for i, name in enumerate((RIGHT, CONFOUNDED, WRONG_DESIGN, WRONG_BOTH))}
    worlds = {name: i for i, name in enumerate(dict.fromkeys(table["world"]))}
    places = pd.DataFrame({
        "w": table["world"].map(worlds), "s": table["scenario"].map(scenes),
        "b": table["strength"], "n": table["seed"], "o": table["objective"].map(order),
    })  # fmt: skip
    table = table.loc[places.sort_values(list("wsbno")).index, list(COLUMNS)]
    return table.reset_index(drop=True)


def _source(objective: str, scenario: str, strength: float) -> tuple[str, float]:
    """Scenario whose run stands for an objective that the scenario does not touch."""
    if objective == "ft":
        return RIGHT, 0.0
    if objective == "cpo":
        return (WRONG_DESIGN, 0.0) if scenario == WRONG_BOTH else (RIGHT, 0.0)
    return (CONFOUNDED, strength) if scenario == WRONG_BOTH else (RIGHT, 0.0)


def paired_interval(difference: Any, level: float = 0.95) -> tuple[float, float, float]:
    """Mean and t-interval of differences of the same seeds; no interval for fewer than two.

    >>> tuple(round(v, 2) for v in paired_interval([1.0, 2.0, 3.0]))
    (2.0, -0.48, 4.48)
    """
    d = np.asarray(difference, dtype=np.float64)
    if d.size < 2:
        return float(d.mean()) if d.size else math.nan, math.nan, math.nan
    half = float(stats.t.ppf(0.5 + level / 2, d.size - 1) * d.std(ddof=1) / math.sqrt(d.size))
    return float(d.mean()), float(d.mean() - half), float(d.mean() + half)


def pitman_morgan(x: Any, y: Any) -> tuple[float, float]:
    """Ratio of standard deviations of paired samples, x over y, and the p-value of x's being less.

    Pitman (1939), Morgan (1939): the correlation of sum and difference is zero where both have the
    same variance; one-sided t test with n - 2 degrees of freedom, exact for normal pairs.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.normal(size=60)
    >>> ratio, p = pitman_morgan(.5 * y + .1 * rng.normal(size=60), y)
    >>> round(ratio, 1), p < 1e-6
    (0.5, True)
    """
    a, b = (np.asarray(v, dtype=np.float64) for v in (x, y))
    if a.shape != b.shape or a.ndim != 1 or a.size < 3:
        raise ValueError(f"x and y must be pairs of at least 3, got {a.shape} and {b.shape}.")
    r = float(np.corrcoef(a + b, a - b)[0, 1])
    t = r * math.sqrt((a.size - 2) / max(1.0 - r * r, 1e-300))
    return float(a.std(ddof=1) / b.std(ddof=1)), float(stats.t.cdf(t, a.size - 2))


def summary_table(table: pd.DataFrame, best: Mapping[str, float]) -> pd.DataFrame:
    """Mean true value, with its interval over seeds, and how much of the way to V_max was closed.

    Parameters
    ----------
    table : DataFrame
        Of `tidy`.
    best : mapping world -> V_max

    Returns
    -------
    DataFrame
        Columns world, scenario, strength, objective, seeds, true_value, low, high, closed (share
        of V_max - V(f0)), chosen_true_value, ess, do_not_use (share), train_value.
    """
    rows = []
    for at, part in table.groupby([*KEYS, "objective"], sort=False):
        world, scenario, strength, objective = at
        start = _values(table, str(world), RIGHT, 0.0, "ft").reindex(part["seed"])
        value, low, high = paired_interval(part["true_value"])
        closed = _closed(part.set_index("seed")["true_value"], start, best[str(world)])
        rows.append({
            "world": world, "scenario": scenario, "strength": strength, "objective": objective,
            "seeds": len(part), "true_value": value, "low": low, "high": high,
            "closed": float(closed.mean()),
            "chosen_true_value": float(part["chosen_true_value"].mean()),
            "ess": float(part["ess"].mean()),
            "do_not_use": float((part["verdict"] == "do not use").mean()),
            "train_value": float(part["train_value"].mean()),
        })  # fmt: skip
    return pd.DataFrame(rows)


def _values(
    table: pd.DataFrame, world: str, scenario: str, strength: float, objective: str
) -> pd.Series:
    """True values by seed."""
    part = table[
        (table["world"] == world) & (table["scenario"] == scenario)
        & (table["strength"] == strength) & (table["objective"] == objective)
    ]  # fmt: skip
    return part.set_index("seed")["true_value"]


def _closed(value: pd.Series, start: pd.Series, best: float) -> pd.Series:
    """Share of the way from V(f0) to V_max, by seed."""
    return (value - start) / (best - start)


@dataclass(frozen=True)
class Claim:
    """A claim and what the study says of it.

    Attributes
    ----------
    part : str
        "a" to "e".
    world, text : str
    estimate, low, high : float
    wanted : str
    holds : bool
    """

    part: str
    world: str
    text: str
    estimate: float
    low: float
    high: float
    wanted: str
    holds: bool


def claims(
    table: pd.DataFrame,
    best: Mapping[str, float],
    short: pd.DataFrame | None = None,
    gradients: pd.DataFrame | None = None,
) -> list[Claim]:
    """What the papers and we claim, against the truth, paired by seed.

    Parameters
    ----------
    table : DataFrame
        Of `tidy`.
    best : mapping world -> V_max
    short : DataFrame, optional
        Short runs: seed, objective ("cpo", "dr"), true_value.
    gradients : DataFrame, optional
        ``seed, cpo, dr``: squared distances of gradients from their mean.
    """
    found: list[Claim] = []
    for world in dict.fromkeys(table["world"]):
        found += _of_world(table, str(world), best[str(world)])
    first = str(table["world"].iloc[0])
    if short is not None and len(short):
        wide = short.pivot(index="seed", columns="objective", values="true_value")
        ratio, p = pitman_morgan(wide["dr"], wide["cpo"])
        found.append(Claim(
            "d", first, f"DR's sd of true values over CPO's, {len(wide)} short runs each "
            f"(Pitman-Morgan, one-sided p {p:.2g})", ratio, math.nan, math.nan, "below 1, p < .05",
            ratio < 1 and p < 0.05,
        ))  # fmt: skip
    if gradients is not None and len(gradients):
        mean, low, high = paired_interval(gradients["cpo"] - gradients["dr"])
        total = float(gradients["dr"].mean() / gradients["cpo"].mean())
        scale = float(gradients["cpo"].mean())
        found.append(Claim(
            "d", first, f"variance of the gradient at f0, CPO less DR, in CPO's ({len(gradients)} "
            f"logs; DR's is {total:.2f} of CPO's)", mean / scale, low / scale, high / scale,
            "above 0 (95%)", low > 0,
        ))  # fmt: skip
    return found


def _of_world(table: pd.DataFrame, world: str, best: float) -> list[Claim]:
    def value(objective: str, scenario: str = RIGHT, strength: float = 0.0) -> pd.Series:
        return _values(table, world, scenario, strength, objective)

    def share(part: str, objective: str, scenario: str, strength: float, least: float) -> Claim:
        told = f"{_NAMES[objective]}, {_scene(scenario, strength)}: share of the way to V_max"
        got = paired_interval(_closed(value(objective, scenario, strength), start, best))
        return Claim(part, world, told, *got, f"at least {least:g}", got[0] >= least)

    def above(
        part: str, one: pd.Series, other: pd.Series, told: str, level: float, floor: float = 0.0
    ) -> Claim:
        got = paired_interval(one - other, level)
        wanted = f"above {floor:.3g} ({level:.0%})"
        return Claim(part, world, told, *got, wanted, got[1] > floor)

    start = value("ft")
    slack = -0.1 * float((best - start).mean())
    found = [share("a", "dr", RIGHT, 0.0, 0.6)]
    found += [
        above("a", value("dr"), value(o), f"DR - {_NAMES[o]}, {RIGHT}", 0.95, slack)
        for o in ("cpo", "oo")
    ]
    strengths = sorted({
        float(b) for b in table.loc[
            (table["world"] == world) & (table["scenario"] == CONFOUNDED), "strength"
        ]
    })  # fmt: skip
    for b in strengths:
        scene = _scene(CONFOUNDED, b)
        oo, dr = value("oo", CONFOUNDED, b), value("dr", CONFOUNDED, b)
        if b > 1:  # of strength 1 predictions are constant: OO-RLHF has nothing to climb
            found.append(above("b", start, oo, f"FT - OO, {scene}", 0.99))
        found.append(above("b", dr, start, f"DR - FT, {scene}", 0.99))
        found.append(above("b", dr, oo, f"DR - OO, {scene}", 0.99))
    for scenario, b in [(RIGHT, 0.0), *((CONFOUNDED, b) for b in strengths)]:
        part = "a" if scenario == RIGHT else "b"
        found.append(share(part, "targeted", scenario, b, 0.8))
        found.append(above(
            part, value("targeted", scenario, b), value("dr", scenario, b),
            f"targeted - DR, {_scene(scenario, b)}", 0.99,
        ))  # fmt: skip
    found.append(above("c", value("dr", WRONG_DESIGN), start, f"DR - FT, {WRONG_DESIGN}", 0.95))
    return found


_NAMES = {"ft": "FT", "cpo": "CPO", "oo": "OO", "dr": "DR", "targeted": "targeted"}


def _scene(scenario: str, strength: float) -> str:
    return f"{scenario} {strength:g}" if scenario == CONFOUNDED else scenario


def coverage_table(table: pd.DataFrame) -> pd.DataFrame:
    """How often intervals of report and of training rows hold the true value, Wilson's limits.

    Report rows: of the policies not marked "do not use". Rows that stand for several scenarios
    count once.
    """
    runs = table[table["run_of"] == table["scenario"]]
    rows = []
    for (world, objective), part in runs.groupby(["world", "objective"], sort=False):
        used = part[(part["verdict"] != "do not use") & part["heldout_lo"].notna()]
        trained = part[part["train_lo"].notna()]
        refused = float((part["verdict"] == "do not use").mean())
        line: dict[str, Any] = {
            "world": world, "objective": objective, "runs": len(part), "do_not_use": refused,
        }  # fmt: skip
        for name, some, low, high in (
            ("report", used, "heldout_lo", "heldout_hi"),
            ("training", trained, "train_lo", "train_hi"),
        ):
            hits = (some[low] <= some["true_value"]) & (some["true_value"] <= some[high])
            line |= {f"{name}_rows": len(some)} | _wilson(name, hits)
            centre = "heldout_value" if name == "report" else "train_value"
            line[f"{name}_bias"] = float((some[centre] - some["true_value"]).mean())
        rows.append(line)
    return pd.DataFrame(rows)


def _wilson(name: str, hits: pd.Series) -> dict[str, float]:
    if not len(hits):
        return dict.fromkeys((f"{name}_covers", f"{name}_low", f"{name}_high"), math.nan)
    low, high = stats.binomtest(int(hits.sum()), len(hits)).proportion_ci(method="wilson")
    return {f"{name}_covers": float(hits.mean()), f"{name}_low": float(low),
            f"{name}_high": float(high)}  # fmt: skip


def win_rate_table(table: pd.DataFrame, world: str, scenario: str, strength: float) -> pd.DataFrame:
    """How often a fresh text of one objective's policy has a larger mean outcome than another's.

    Equal ones count half; by the oracle, so that nobody judges. Mean over seeds, t-interval.

    Returns
    -------
    DataFrame
        Columns first, second, rate, low, high.
    """
    part = table[
        (table["world"] == world) & (table["scenario"] == scenario)
        & (table["strength"] == strength)
    ]  # fmt: skip
    laws = {
        (str(o), int(s)): _law(str(told))
        for o, s, told in zip(part["objective"], part["seed"], part["oracle"], strict=True)
    }
    seeds = list(dict.fromkeys(part["seed"]))
    rows = []
    for first in OBJECTIVES:
        for second in OBJECTIVES:
            if first != second:
                each = [win_rate(laws[first, s], laws[second, s]) for s in seeds]
                rate, low, high = paired_interval(each)
                rows.append(
                    {"first": first, "second": second, "rate": rate, "low": low, "high": high}
                )
    return pd.DataFrame(rows)


def _law(told: str) -> tuple[FloatArray, FloatArray]:
    """Values and probabilities from "value:count value:count"."""
    pairs = [item.split(":") for item in told.split()]
    counts = np.array([float(c) for _, c in pairs])
    return np.array([float(v) for v, _ in pairs]), counts / counts.sum()


def win_rate(first: tuple[FloatArray, FloatArray], second: tuple[FloatArray, FloatArray]) -> float:
    """P(A > B) + P(A = B) / 2 of independent draws of two finite laws.

    >>> a, b = (np.array([0., 1.]), np.array([.5, .5])), (np.array([1.]), np.array([1.]))
    >>> win_rate(a, b)
    0.25
    """
    gap = np.sign(first[0][:, None] - second[0][None, :])
    return float(first[1] @ (0.5 + 0.5 * gap) @ second[1])
