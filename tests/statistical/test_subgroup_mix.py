"""Draws of subgroups in another mix than the log's: the value over all is that of the log's mix.

400 replications a cell: a coverage of .95 has a Monte-Carlo error of .011 (allowed: 4 of them), a
ratio of mean standard error to standard deviation one of .035 (4 of them: .14).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from causal_lm_opt import DoublyRobust, OutcomeRegression, TargetSample

SHARE = 0.3  # of subgroup "a" among the log's readers
WRITES = {"a": 0.8, "b": 0.35}  # text 1 by the policy; the log writes it with 1/2
TRUTH = 2.0 * (SHARE * WRITES["a"] + (1 - SHARE) * WRITES["b"])


def sample(n: int, share: float, rng: np.random.Generator) -> tuple[Any, Any]:
    by = np.where(rng.random(n) < share, "a", "b")
    return by, np.where(by == "a", WRITES["a"], WRITES["b"])


def fitted(kind: str, n: int, m: int, share: float, rng: np.random.Generator) -> Any:
    by, p = sample(n, SHARE, rng)
    x = (rng.random(n) < 0.5).astype(float)
    y = 2.0 * x + rng.normal(size=n)
    drawn_by, q = sample(m, share, rng)
    drawn = (rng.random(m) < q).astype(float)
    target = TargetSample(drawn[:, None], by=drawn_by)
    logs = {
        "logp_target": np.log(np.where(x == 1, p, 1 - p)),
        "logp_logging": np.full(n, np.log(0.5)),
    }
    if kind == "or":
        return OutcomeRegression(LinearRegression()).fit(x[:, None], y, X_target=target, by=by)
    inference = {"dr": "stacked", "dr-influence": "influence"}[kind]
    est = DoublyRobust(LinearRegression(), inference=inference, cv=2)
    return est.fit(x[:, None], y, X_target=target, by=by, **logs)


@pytest.mark.parametrize("kind", ["dr", "dr-influence", "or"])
@pytest.mark.parametrize("m", [150, 3000])
def test_the_value_over_all_readers_is_that_of_the_log_s_mix(kind: str, m: int) -> None:
    rng = np.random.default_rng(5)
    found = []
    for _ in range(400):
        est = fitted(kind, 300, m, 0.9, rng)
        low, high = est.result_.confint()
        found.append((est.value_, est.se_, low < TRUTH < high))
    value, se, covered = np.array(found).T
    assert abs(value.mean() - TRUTH) < 4 * value.std() / 20
    assert abs(covered.mean() - 0.95) < 4 * 0.011
    assert abs(se.mean() / value.std() - 1) < 0.14


def test_draws_in_the_log_s_mix_keep_their_value() -> None:
    """By enumeration: counts in the log's very shares leave the plug-in mean as it is."""
    by = np.repeat(["a", "b"], [30, 70])
    x = np.resize([0.0, 1.0], 100)
    y = 2 * x + np.resize([0.5, 0.5, -0.5, -0.5], 100)
    drawn_by = np.repeat(["a", "b"], [60, 140])
    drawn = np.concatenate([np.arange(60) < 48, np.arange(140) < 49]).astype(float)[:, None]
    est = OutcomeRegression(LinearRegression())
    plain = est.fit(x[:, None], y, X_target=drawn).value_
    mixed = est.fit(x[:, None], y, X_target=TargetSample(drawn, by=drawn_by), by=by).value_
    assert mixed == pytest.approx(plain, rel=1e-12)
    thrice = np.concatenate([np.tile(drawn[:60], (3, 1)), drawn[60:]])
    more = TargetSample(thrice, by=np.repeat(["a", "b"], [180, 140]))
    assert est.fit(x[:, None], y, X_target=more, by=by).value_ == pytest.approx(plain, rel=1e-12)
