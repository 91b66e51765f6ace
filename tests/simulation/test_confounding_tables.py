"""Claims of the study of confounded outcome models, on tables whose answers are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causal_lm_opt.simulation.confounding_tables import (
    COLUMNS,
    claims,
    coverage_table,
    paired_interval,
    pitman_morgan,
    summary_table,
    tidy,
    win_rate_table,
)

BEST = {"w": 70.0}
#: True values of objectives where nothing is wrong, with predictions turned, with a wrong design.
VALUES = {
    ("right", 0.0): {"ft": 50.0, "cpo": 62.0, "oo": 64.0, "dr": 63.5, "targeted": 68.0},
    ("confounded", 2.0): {"oo": 42.0, "dr": 57.0, "targeted": 67.5},
    ("wrong design", 0.0): {"cpo": 56.0, "dr": 60.0},
    ("both wrong", 2.0): {"dr": 51.0},
}


def rows(seeds: int = 6, **changed: float) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    found = []
    for seed in range(seeds):
        luck = rng.normal()  # shared by all runs of a log
        for (scenario, strength), values in VALUES.items():
            for objective, value in values.items():
                true = value + changed.get(objective, 0.0) + luck + 0.2 * rng.normal()
                found.append({
                    "world": "w", "scenario": scenario, "strength": strength, "seed": seed,
                    "objective": objective, "short": False, "true_value": true,
                    "heldout_value": true + 0.5, "heldout_lo": true - 1.5, "heldout_hi": true + 2.5,
                    "ess": 0.2, "verdict": "do not use" if objective == "oo" else "caution",
                    "oracle": "50:3 60:1" if objective == "ft" else "60:4",
                    "train_value": true + 9, "train_lo": true + 8, "train_hi": true + 10,
                })  # fmt: skip
    return pd.DataFrame(found)


def test_every_objective_stands_in_every_scenario_once() -> None:
    table = tidy(rows())
    assert list(table.columns) == list(COLUMNS)
    assert len(table) == 6 * 4 * 5
    assert not table.duplicated(["world", "scenario", "strength", "seed", "objective"]).any()
    at = table.set_index(["scenario", "objective", "seed"])
    same = [("confounded", "cpo", "right"), ("wrong design", "oo", "right"),
            ("both wrong", "cpo", "wrong design"), ("both wrong", "oo", "confounded"),
            ("both wrong", "targeted", "confounded"), ("both wrong", "ft", "right")]  # fmt: skip
    for scenario, objective, source in same:
        one, other = at.loc[(scenario, objective, 3)], at.loc[(source, objective, 3)]
        assert one["true_value"] == other["true_value"]
        assert one["run_of"] == source


def test_claims_that_hold_and_claims_that_do_not() -> None:
    found = claims(tidy(rows()), BEST)
    assert all(c.holds for c in found)
    assert {c.part for c in found} == {"a", "b", "c"}
    texts = [c.text for c in found]
    assert len(set(texts)) == len(texts)
    share = next(c for c in found if c.text.startswith("DR, right"))
    assert share.estimate == pytest.approx(13.5 / 20, abs=0.03)
    worse = claims(tidy(rows(dr=-11.0, targeted=-9.0)), BEST)
    failed = {c.text for c in worse if not c.holds}
    assert {"DR - FT, confounded 2", "DR - OO, right", "DR, right: share of the way to V_max",
            "DR - FT, wrong design"} <= failed  # fmt: skip
    assert "FT - OO, confounded 2" not in failed


def test_two_seeds_of_noise_decide_nothing() -> None:
    found = [c for c in claims(tidy(rows(1)), BEST) if not c.text.endswith("V_max")]
    assert not any(c.holds for c in found)


def test_paired_intervals_and_pitman_morgan() -> None:
    assert paired_interval([1.0]) == (1.0, pytest.approx(np.nan, nan_ok=True),
                                      pytest.approx(np.nan, nan_ok=True))  # fmt: skip
    d = np.random.default_rng(1).normal(size=12)
    low, high = stats.t.interval(0.99, 11, d.mean(), d.std(ddof=1) / np.sqrt(12))
    assert paired_interval(d, 0.99) == pytest.approx((d.mean(), low, high))
    with pytest.raises(ValueError, match="pairs of at least 3"):
        pitman_morgan([1.0, 2.0], [1.0, 2.0])


@pytest.mark.statistical
def test_pitman_morgan_has_its_level_for_correlated_pairs() -> None:
    """2,000 pairs of samples of 20: a rate of .05 has a Monte-Carlo sd of .005."""
    rng = np.random.default_rng(2)
    p = []
    for _ in range(2000):
        both = rng.normal(size=20)
        p.append(pitman_morgan(both + rng.normal(size=20), both + rng.normal(size=20))[1])
    assert 0.035 < np.mean(np.array(p) < 0.05) < 0.065
    assert 0.035 < np.mean(np.array(p) > 0.95) < 0.065


def test_spread_and_gradients_are_claims_of_the_first_world() -> None:
    rng = np.random.default_rng(3)
    short = pd.DataFrame([
        {"seed": s, "objective": o, "true_value": v}
        for s in range(40)
        for o, v in (("cpo", 3 * rng.normal()), ("dr", rng.normal()))
    ])  # fmt: skip
    gradients = pd.DataFrame({"seed": range(40), "cpo": rng.gamma(9, 1, 40), "dr": np.ones(40)})
    spread, gradient = claims(tidy(rows()), BEST, short, gradients)[-2:]
    assert spread.part == gradient.part == "d"
    assert spread.holds
    assert gradient.holds
    assert gradient.estimate == pytest.approx(8 / 9, abs=0.1)
    turned = gradients.rename(columns={"cpo": "dr", "dr": "cpo"})
    assert not claims(tidy(rows()), BEST, short, turned)[-1].holds


def test_coverage_counts_each_run_once() -> None:
    table = coverage_table(tidy(rows())).set_index("objective")
    assert table.loc["dr", "runs"] == 6 * 4
    assert table.loc["cpo", "runs"] == 6 * 2
    assert table.loc["oo", "report_rows"] == 0  # all refused
    assert table.loc["dr", "report_covers"] == 1.0
    assert table.loc["dr", "training_covers"] == 0.0
    assert table.loc["dr", "training_bias"] == pytest.approx(9.0)


def test_the_summary_is_by_hand() -> None:
    made = tidy(rows())
    line = summary_table(made, BEST).set_index(["scenario", "objective"]).loc[("right", "dr")]
    some = made[(made["scenario"] == "right") & (made["objective"] == "dr")]
    assert line["true_value"] == pytest.approx(some["true_value"].mean())
    assert line["closed"] == pytest.approx(13.5 / 20, abs=0.03)
    assert line["seeds"] == 6


def test_win_rates_are_by_hand() -> None:
    found = win_rate_table(tidy(rows()), "w", "right", 0.0).set_index(["first", "second"])["rate"]
    assert len(found) == 20
    assert found["dr", "ft"] == pytest.approx(0.75 + 0.125)
    assert found["ft", "dr"] == pytest.approx(0.125)
    assert found["dr", "cpo"] == 0.5
