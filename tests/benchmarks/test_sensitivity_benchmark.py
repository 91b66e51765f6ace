"""The worlds of the sensitivity study have the strengths it states; its summary counts right."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks import sensitivity as study
from causal_lm_opt.diagnostics.sensitivity import hidden_confounder_bounds, quantile_levels


@pytest.mark.parametrize("name", list(study.worlds()))
def test_each_world_has_its_strength(name: str) -> None:
    world = study.worlds()[name]
    design = world.design
    if world.violation == study.HIDDEN:
        assert design.strength == pytest.approx(world.strength)
        return
    ratio = design.stated[0] / design.logging[0]  # right weight over stated one
    # after the best common factor: half the range on the logarithmic scale
    assert np.sqrt(ratio.max() / ratio.min()) == pytest.approx(world.strength)


def test_quantiles_and_the_edge_agree_with_a_large_log() -> None:
    """At the edge V is the population's lower bound."""
    world = study.worlds()["hidden, at the edge"]
    log = world.design.draw(200_000, np.random.default_rng(0))
    text = np.argmax(log.X, axis=1)
    low, high = (
        study.oracle_quantiles(world.design, float(t[0])) for t in quantile_levels([world.strength])
    )
    for j in range(low.size):
        mine = log.y[text == j]
        assert np.mean(mine <= low[j]) == pytest.approx(1 / (1 + world.strength), abs=0.01)
        assert np.mean(mine <= high[j]) == pytest.approx(2 / (1 + world.strength), abs=0.01)
    w = np.exp(log.log_probs["logp_target"] - log.log_probs["logp_logging"])
    found = hidden_confounder_bounds(
        w, log.y, low[text][:, None], high[text][:, None], [world.strength]
    )
    assert found.lower[0] == pytest.approx(world.design.value(), abs=0.01)


def test_the_summary_counts_intervals_that_hold_the_truth() -> None:
    world = study.worlds()["mis-scored, at the edge"]
    truth = world.design.value()
    frame = pd.DataFrame(
        {
            "estimator": "Hajek", "analysis": study.SCORED, "strength": 1.5,
            "lower": truth - 0.5, "upper": truth + 0.5,
            "low": [truth - 1, truth + 0.1, truth - 1, truth - 1],
            "high": [truth + 1, truth + 1, truth + 1, truth - 0.1],
        }
    )  # fmt: skip
    (row,) = study.summarise("w", world, 10, frame)
    assert (row["coverage"], row["replications"], row["should cover"]) == (0.5, 4, True)
    assert row["width"] == pytest.approx(1.0)
    assert row["interval width"] == pytest.approx((2 + 0.9 + 2 + 0.9) / 4)


def test_one_replication_has_every_row() -> None:
    name = "mis-scored, inside"
    world = study.worlds()[name]
    oracle = tuple(
        np.column_stack([study.oracle_quantiles(world.design, float(t)) for t in side])
        for side in quantile_levels([1.0, world.strength])
    )
    rows = study.replicate(name, 200, oracle, 0)  # type: ignore[arg-type]
    assert len(rows) == 2 * (2 * 2 + 1)
    again = study.replicate(name, 200, oracle, 0)  # type: ignore[arg-type]
    assert rows == again
    for row in rows:
        assert row["low"] <= row["lower"] <= row["upper"] <= row["high"]
