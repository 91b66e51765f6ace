"""Finite worlds: stated truths against plain loops, large samples and the sharp bounds.

Large samples have 200,000 rows; tolerances are 5 standard errors of what is compared.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from causal_lm_opt import IPW
from causal_lm_opt.simulation import (
    TabularDesign,
    confounded_log,
    drifted_logging,
    hidden_confounder,
    token_world,
)

ROWS = 200_000
WORLDS = {
    "hidden": hidden_confounder(2.5),
    "edge": hidden_confounder(2.5, edge=True),
    "observational": confounded_log(2.0),
    "observational, marginal propensity": confounded_log(2.0, stated="marginal"),
    "observational, kind seen": confounded_log(2.0, seen=True),
    "drifted": drifted_logging(0.7),
    "tokens": token_world(length=2),
}


def loop_truths(world: TabularDesign) -> dict[str, float]:
    """Value, weighting and regression limits by loops over traits, texts and classes."""
    value = weighting = regression = 0.0
    traits, texts = range(world.trait_probs.size), range(world.mean.shape[1])
    for t, x in itertools.product(traits, texts):
        p = float(world.trait_probs[t])
        value += p * world.target[t, x] * world.mean[t, x]
        if world.logging[t, x] > 0:
            w = world.target[t, x] / world.stated[t, x]
            weighting += p * world.logging[t, x] * w * world.mean[t, x]
        same = [s for s in traits if world.observed[s] == world.observed[t]]
        shown = [float(world.trait_probs[s] * world.logging[s, x]) for s in same]
        if world.target[t, x] > 0:
            fitted = sum(a * world.mean[s, x] for a, s in zip(shown, same, strict=True))
            regression += p * world.target[t, x] * fitted / sum(shown)
    return {"value": value, "weighting": weighting, "regression": regression}


@pytest.mark.parametrize("name", WORLDS)
def test_truths_are_those_of_plain_loops(name: str) -> None:
    world = WORLDS[name]
    found = loop_truths(world)
    assert world.value() == pytest.approx(found["value"], abs=1e-12)
    assert world.weighting_limit() == pytest.approx(found["weighting"], abs=1e-12)
    assert world.regression_limit() == pytest.approx(found["regression"], abs=1e-12)


@pytest.mark.parametrize("name", WORLDS)
def test_logs_come_from_the_stated_world(name: str) -> None:
    world = WORLDS[name]
    log = world.draw(ROWS, np.random.default_rng(7))
    w = np.exp(log.log_probs["logp_target"] - log.log_probs["logp_logging"])
    terms = w * log.y
    assert abs(terms.mean() - world.weighting_limit()) < 5 * terms.std() / math.sqrt(ROWS)
    drawn = log.X_target
    ratio = np.exp(drawn.logp_target - drawn.logp_logging)
    assert np.isfinite(drawn.logp_target).all()
    # E_f[f / p] = E_p[(f / p)^2] under the stated probabilities
    expected = (world.trait_probs[:, None] * world.target * world.stated_weights()).sum()
    assert abs(ratio.mean() - expected) < 5 * ratio.std() / math.sqrt(ratio.size) + 1e-9


def test_saturated_regression_reaches_its_limit() -> None:
    world = hidden_confounder(3.0)
    log = world.draw(ROWS, np.random.default_rng(8))
    cells = log.X.sum(axis=0)
    means = (log.X.T @ log.y) / cells
    assert world.regression_limit() == pytest.approx(
        float(world.target[0] @ means), abs=5 * 1.2 / math.sqrt(cells.min())
    )


@pytest.mark.parametrize("strength", [1.0, 1.5, 2.0, 4.0])
@pytest.mark.parametrize("edge", [False, True])
def test_the_hidden_confounder_has_the_stated_strength(strength: float, edge: bool) -> None:
    world = hidden_confounder(strength, edge=edge)
    assert world.strength == pytest.approx(strength, abs=1e-9)
    assert world.trait_probs @ world.logging == pytest.approx(world.stated[0], abs=1e-12)
    ratio = world.stated / world.logging
    # E[r | X] = 1: the mean over P(u | x) = P(u) p(x | u) / p(x)
    given = world.trait_probs[:, None] * world.logging / world.stated
    assert (given * ratio).sum(axis=0) == pytest.approx(np.ones(ratio.shape[1]), abs=1e-12)


@pytest.mark.parametrize("strength", [1.5, 2.0, 4.0])
def test_at_the_edge_the_value_is_the_sharp_lower_bound(strength: float) -> None:
    """V- = E_R[w {Q + L^-sgn(Y-Q) (Y-Q)}], Q the 1/(1+L) quantile of Y given x (MATH 5 A)."""
    world = hidden_confounder(strength, edge=True)
    log = world.draw(ROWS, np.random.default_rng(9))
    text = log.X.argmax(axis=1)
    w = np.exp(log.log_probs["logp_target"] - log.log_probs["logp_logging"])
    written = np.flatnonzero(world.target[0] > 0)
    quantile = np.zeros(world.mean.shape[1])
    for x in written:
        quantile[x] = np.quantile(log.y[text == x], 1.0 / (1.0 + strength))
    beyond = log.y - quantile[text]
    factor = np.where(beyond > 0, 1.0 / strength, strength)
    terms = w * (quantile[text] + factor * beyond)
    assert abs(terms.mean() - world.value()) < 5 * terms.std() / math.sqrt(ROWS)
    # and the uncorrected value is far above it
    assert world.weighting_limit() - world.value() > 0.19


def test_variance_of_a_doubly_robust_value() -> None:
    world = confounded_log(1.0, seen=True)
    n, values = 400, []

    def g(X: np.ndarray) -> np.ndarray:  # columns z and kind
        return 1.0 + X.sum(axis=1)

    for b in range(1500):
        log = world.draw(n, np.random.default_rng([10, b]))
        w = np.exp(log.log_probs["logp_target"] - log.log_probs["logp_logging"])
        values.append(np.mean(w * (log.y - g(log.X))) + np.mean(g(log.X_target.X)))
    # sd of a standard deviation over 1,500 replications: 1.8 %
    assert np.std(values) == pytest.approx(math.sqrt(world.doubly_robust_variance(n)), rel=0.08)
    assert np.mean(values) == pytest.approx(world.value(), abs=4 * np.std(values) / math.sqrt(1500))


def readers_counted_once(world: TabularDesign, n: int, seed: int) -> float:
    """The oracle value with classes counted in log and draws alike."""
    log = world.draw(n, np.random.default_rng([11, seed]))
    assert log.q_logged is not None
    assert log.q_target is not None
    w = np.exp(log.log_probs["logp_target"] - log.log_probs["logp_logging"])
    logged, drawn = log.X[:, 1], log.X_target.X[:, 1]
    value = float(np.mean(w * (log.y - log.q_logged)))
    for k in (-1, 0, 1):
        share = ((logged == k).sum() + (drawn == k).sum()) / (logged.size + drawn.size)
        value += share * log.q_target[drawn == k].mean()
    return value


@pytest.mark.parametrize("draws_per_row", [4.0, 0.5])
def test_seen_classes_count_in_log_and_draws(draws_per_row: float) -> None:
    """The bound by loops, and met by the estimator that pools readers; to 4 of its errors."""
    world = replace(confounded_log(1.0, seen=True, effect=3.0, texts=8),
                    draws_per_row=draws_per_row)  # fmt: skip
    n, m, kinds, texts = 300, round(300 * draws_per_row), range(3), range(8)
    logged = within = 0.0
    means = [sum(world.target[c, x] * world.mean[c, x] for x in texts) for c in kinds]
    for c, x in itertools.product(kinds, texts):
        f = world.target[c, x]
        logged += f**2 / world.logging[c, x] / 3  # unit noise
        within += f * (world.mean[c, x] - means[c]) ** 2 / 3
    bound = logged / n + within / m + np.var(means) / (n + m)
    assert world.efficiency_bound(n) == pytest.approx(bound, rel=1e-12)
    values = [readers_counted_once(world, n, b) for b in range(1500)]
    assert np.var(values) == pytest.approx(bound, rel=4 * math.sqrt(2 / 1500))
    assert world.doubly_robust_variance(n) == pytest.approx(
        logged / n + (within + np.var(means)) / m, rel=1e-12
    )
    assert world.doubly_robust_variance(n) > 1.05 * bound


@pytest.mark.parametrize(
    "world",
    [drifted_logging(1.0, texts=6), confounded_log(1.5, stated="marginal", seen=True, texts=5),
     confounded_log(1.5, texts=5)],
    ids=["drifted", "marginal", "hidden"],
)  # fmt: skip
def test_variance_with_weights_that_do_not_average_one(world: TabularDesign) -> None:
    """Hajek and Horvitz-Thompson corrections of the oracle model; to 4 errors of a variance."""
    n, found = 500, {"hajek": [], "ht": []}  # type: ignore[var-annotated]
    for b in range(1500):
        log = world.draw(n, np.random.default_rng([12, b]))
        assert log.q_logged is not None
        assert log.q_target is not None
        w = np.exp(log.log_probs["logp_target"] - log.log_probs["logp_logging"])
        terms = w * (log.y - log.q_logged)
        found["hajek"].append(terms.sum() / w.sum() + log.q_target.mean())
        found["ht"].append(terms.mean() + log.q_target.mean())
    for weights, values in found.items():
        expected = world.doubly_robust_variance(n, weights=weights)  # type: ignore[arg-type]
        assert np.var(values) == pytest.approx(expected, rel=4 * math.sqrt(2 / 1500)), weights
    assert world.doubly_robust_variance(n) == world.doubly_robust_variance(n, weights="hajek")


def test_token_world_enumerates_all_texts() -> None:
    world = token_world(1.0, length=3)
    assert world.texts is not None
    assert len(set(world.texts)) == 64
    assert world.logging.sum() == pytest.approx(1.0, abs=1e-12)
    assert world.target[0].sum() == pytest.approx(1.0, abs=1e-12)
    log = world.draw(500, np.random.default_rng(0))
    assert isinstance(log.X[0], str)
    result = IPW().fit(log.X, log.y, **log.fit_arguments()).result_
    assert abs(result.value - world.value()) < 5 * result.se


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"logging": [[0.5, 0.6], [0.5, 0.5]]}, "sum to 1"),
        ({"target": [[1.0, 0.0], [0.0, 1.0]]}, "look the same"),
        ({"stated": [0.0, 1.0]}, "stated is 0"),
        ({"mean": [0.0, np.nan]}, "not finite"),
        ({"mean": np.zeros((3, 2))}, "shape"),
        ({"noise": "binary", "mean": [0.0, 2.0]}, "probabilities"),
        ({"texts": ("a",)}, "2 texts"),
        ({"features": np.zeros((2, 2))}, "features must have shape"),
    ],
)
def test_impossible_worlds_are_refused(change: dict[str, object], said: str) -> None:
    good: dict[str, object] = {
        "trait_probs": [0.5, 0.5],
        "logging": [[0.5, 0.5], [0.2, 0.8]],
        "target": [0.3, 0.7],
        "mean": [0.0, 1.0],
    }
    TabularDesign(**good)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=said):
        TabularDesign(**(good | change))  # type: ignore[arg-type]
