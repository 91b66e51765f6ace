"""Confidence sequences: they hold at all of many looks, where the usual interval does not.

Coverage at all looks is that of "the wealth against the true value never reaches its limit", which
needs no grid: 1,000 replications of 5,000 looks. A right error probability of at most .05 is
exceeded by chance by less than 3.3 sqrt(.05 .95 / 1000) = .023.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from causal_lm_opt import IPW, OverlapError
from causal_lm_opt.anytime import estimate_sequence, value_sequence
from causal_lm_opt.core.sequences import (
    bernstein_lower,
    betting_log_wealth,
    betting_lower,
    plug_in_bets,
)

pytestmark = pytest.mark.statistical
LOOKS, REPLICATIONS, ALPHA = 5000, 1000, 0.05
SLACK = 3.3 * math.sqrt(0.05 * 0.95 / REPLICATIONS)


def weighted_log(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Weights exp(.8 z - .32), unbounded, and outcomes in {0, 1} that rise with z."""
    z = rng.normal(size=n)
    y = (rng.random(n) < 1.0 / (1.0 + np.exp(-z))) * 1.0
    return np.exp(0.8 * z - 0.32), y


def true_value() -> float:
    """E of expit(z) for z ~ N(.8, 1), by quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    return float(weights @ (1.0 / (1.0 + np.exp(-0.8 - nodes))) / weights.sum())


# ---------------------------------------------------------------- arithmetic
def naive_wealth(x: np.ndarray, sizes: np.ndarray, mean: float, alpha: float) -> list[float]:
    """Wealth by a plain loop over units."""
    wealth, total, square, out = 1.0, 0.5, 0.25, []
    variance = 0.25
    for t, (term, size) in enumerate(zip(x, sizes, strict=True), start=1):
        bet = math.sqrt(2 * math.log(1 / alpha) / (variance * t * math.log(1 + t)))
        wealth *= 1 + min(bet, 0.35) * (term - size * mean)
        out.append(math.log(wealth))
        total += term
        square += (term - total / (t + 1)) ** 2
        variance = square / (t + 1)
    return out


def test_wealth_against_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    x, sizes = rng.exponential(0.4, size=40), rng.uniform(0.3, 1.0, size=40)
    found = betting_log_wealth(x, sizes, 0.3, plug_in_bets(x, 0.05))
    assert found == pytest.approx(naive_wealth(x, sizes, 0.3, 0.05), abs=1e-12)


def test_bernstein_against_a_plain_loop() -> None:
    x = np.random.default_rng(1).exponential(0.6, size=60)
    mean, total, variance, square = 0.5, 0.5, 0.25, 0.25
    top = weight = best = 0.0
    for t, term in enumerate(x, start=1):
        bet = min(0.35, math.sqrt(2 * math.log(1 / ALPHA) / (variance * t * math.log(1 + t))))
        top += bet * term - (term - min(mean, 1.0)) ** 2 * (-math.log(1 - bet) - bet)
        weight += bet
        best = max(best, (top - math.log(1 / ALPHA)) / weight)
        assert bernstein_lower(x, ALPHA)[t - 1] == pytest.approx(best, abs=1e-12)
        total += term
        mean = total / (t + 1)
        square += (term - mean) ** 2
        variance = square / (t + 1)


def test_the_bound_is_where_the_wealth_first_reaches_its_limit() -> None:
    rng = np.random.default_rng(2)
    w, y = weighted_log(400, rng)
    x, sizes, bets = w * y, np.ones(400), plug_in_bets(w * y, ALPHA)
    lower = betting_lower(x, sizes, ALPHA, grid=200)
    limit = math.log(1 / ALPHA)
    for t in (50, 150, 399):
        refuted = lower[t]
        if refuted > 0:
            assert betting_log_wealth(x, sizes, refuted, bets)[: t + 1].max() >= limit
        above = refuted + lower[-1] / 200 + 1e-9
        assert betting_log_wealth(x, sizes, above, bets)[: t + 1].max() < limit


def test_wealth_falls_as_the_value_grows() -> None:
    w, y = weighted_log(300, np.random.default_rng(3))
    bets = plug_in_bets(w * y, ALPHA)
    path = [betting_log_wealth(w * y, np.ones(300), m, bets) for m in np.linspace(0, 1, 41)]
    assert (np.diff(path, axis=0) <= 1e-12).all()


def test_torch_agrees_with_numpy() -> None:
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(4).exponential(0.5, size=100)
    sizes = np.linspace(0.5, 1.0, 100)
    for ours, theirs in (
        (plug_in_bets(x, 0.1), plug_in_bets(torch.as_tensor(x), 0.1)),
        (bernstein_lower(x, 0.1), bernstein_lower(torch.as_tensor(x), 0.1)),
        (
            betting_lower(x, sizes, 0.1, grid=50),
            betting_lower(torch.as_tensor(x), torch.as_tensor(sizes), 0.1, grid=50),
        ),
    ):
        assert np.asarray(theirs) == pytest.approx(ours, abs=1e-10)


# ---------------------------------------------------------------- coverage at every look
def ever_wrong(x: np.ndarray, sizes: np.ndarray, value: float) -> bool:
    """Whether the betting lower bound at ALPHA / 2 ever passes the true value."""
    wealth = betting_log_wealth(x, sizes, value, plug_in_bets(x, ALPHA / 2))
    return bool(wealth.max() >= math.log(2 / ALPHA))


def test_it_covers_at_all_of_5000_looks_where_the_normal_interval_fails() -> None:
    value, wrong, bernstein, normal = true_value(), 0, 0, 0
    count = np.arange(1, LOOKS + 1)
    for b in range(REPLICATIONS):
        w, y = weighted_log(LOOKS, np.random.default_rng([5, b]))
        up, down, one = w * y, w * (1.0 - y), np.ones(LOOKS)
        wrong += ever_wrong(up, one, value) or ever_wrong(down, one, 1.0 - value)
        bernstein += bool(
            bernstein_lower(up, ALPHA / 2)[-1] > value
            or 1.0 - bernstein_lower(down, ALPHA / 2)[-1] < value
        )
        mean = np.cumsum(up) / count
        sd = np.sqrt(np.maximum(np.cumsum(up**2) / count - mean**2, 0.0))
        late = count >= 100
        normal += bool((np.abs(mean - value) > 1.96 * sd / np.sqrt(count))[late].any())
    assert wrong / REPLICATIONS <= ALPHA + SLACK
    assert bernstein / REPLICATIONS <= ALPHA + SLACK
    assert normal / REPLICATIONS > 0.25  # looked at after every row from the 100th on


def test_clusters_of_unequal_and_informative_sizes() -> None:
    """Large clusters do worse; rows of a cluster share its outcome; V is the rows' mean."""
    rng, wrong = np.random.default_rng(6), 0
    value = (1 * 0.7 + 4 * 0.4) / 5  # sizes 1 and 4 equally likely, rates .7 and .4
    for _ in range(300):
        sizes = rng.choice([1, 4], size=1000)
        hit = rng.random(1000) < np.where(sizes == 1, 0.7, 0.4)
        share = sizes / 4
        up, down = share * hit, share * ~hit
        wrong += ever_wrong(up, share, value) or ever_wrong(down, share, 1.0 - value)
    assert wrong / 300 <= ALPHA + 3.3 * math.sqrt(ALPHA * 0.95 / 300)


# ---------------------------------------------------------------- sequences of values
def log_of(n: int, seed: int) -> dict[str, Any]:
    w, y = weighted_log(n, np.random.default_rng(seed))
    logging = np.full(n, -20.0)
    return {"y": y, "logp_target": np.log(w) + logging, "logp_logging": logging}


def test_it_narrows_and_holds_the_value() -> None:
    sequence = value_sequence(**log_of(4000, 7), outcome_bounds=(0, 1))
    assert (np.diff(sequence.lower) >= 0).all()
    assert (np.diff(sequence.upper) <= 0).all()
    assert sequence.lower[-1] < true_value() < sequence.upper[-1]
    assert sequence.upper[-1] - sequence.lower[-1] < 0.16  # .09 on average
    closed = value_sequence(**log_of(4000, 7), outcome_bounds=(0, 1), method="bernstein")
    assert np.diff(sequence.interval) < np.diff(closed.interval)
    assert sequence.at(1000).tolist() == [sequence.lower[999], sequence.upper[999]]


def test_scale_and_origin_of_the_outcome() -> None:
    log = log_of(500, 8)
    unit = value_sequence(**log, outcome_bounds=(0, 1))
    points = value_sequence(**(log | {"y": 100 * log["y"] - 50}), outcome_bounds=(-50, 50))
    assert points.interval == pytest.approx(100 * unit.interval - 50, abs=1e-9)


def test_without_overlap_it_still_holds() -> None:
    """Half of the target's texts are never logged: V lies from .3 to .8, which is what is found."""
    rng = np.random.default_rng(9)
    y = (rng.random(20_000) < 0.6) * 1.0
    logging, target = np.zeros(20_000), np.full(20_000, np.log(0.5))
    low, high = value_sequence(y, target, logging, outcome_bounds=(0, 1)).interval
    assert 0.28 < low < 0.3
    assert 0.8 < high < 0.82


def test_one_row_clusters_are_rows() -> None:
    log = log_of(200, 10)
    rows = value_sequence(**log, outcome_bounds=(0, 1))
    clusters = value_sequence(**log, outcome_bounds=(0, 1), groups=np.arange(200), largest_group=1)
    assert clusters.lower == pytest.approx(rows.lower, abs=1e-12)
    assert clusters.upper == pytest.approx(rows.upper, abs=1e-12)


def test_clusters_count_when_their_last_row_has_come() -> None:
    log = log_of(6, 11)
    given = {**log, "outcome_bounds": (0, 1), "largest_group": 3}
    sequence = value_sequence(**given, groups=list("aaabbc"))
    assert sequence.rows.tolist() == [3, 5, 6]
    assert not sequence.contradiction
    with pytest.raises(ValueError, match="complete at row 3"):
        sequence.at(2)
    # Scattered clusters are complete in an order that goes with their size.
    with pytest.raises(ValueError, match="must stand together"):
        value_sequence(**given, groups=list("aabbca"))


def test_bounded_terms_of_an_estimate() -> None:
    """Weights of at most 1.6 by design: tighter than without a bound."""
    rng = np.random.default_rng(12)
    good = rng.random(3000) < 0.5
    y = (rng.random(3000) < np.where(good, 0.7, 0.5)) * 1.0
    probs = {
        "logp_target": np.log(np.where(good, 0.8, 0.2)),
        "logp_logging": np.log(np.full(3000, 0.5)),
    }
    result = IPW("ht").fit(good[:, None], y, **probs).result_
    bounded = estimate_sequence(result, bounds=(0, 1.6))
    assert bounded.interval[0] < 0.66 < bounded.interval[1]
    assert bounded.lower.shape == (3000,)
    with pytest.raises(ValueError, match="do not hold"):
        estimate_sequence(result, bounds=(0, 1.5))


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"outcome_bounds": (0, 0.5)}, ValueError, "do not hold"),
        ({"outcome_bounds": (1, 0)}, ValueError, "lower < upper"),
        ({"outcome_bounds": (0, math.inf)}, ValueError, "finite"),
        ({"level": 95}, ValueError, "level"),
        ({"method": "normal"}, ValueError, "method"),
        ({"groups": [0, 0, 1]}, ValueError, "largest_group"),
        ({"largest_group": 2}, ValueError, "give groups too"),
        ({"groups": [0, 0, 1], "largest_group": 1}, ValueError, "has 2"),
        ({"groups": [0, 0, 1], "largest_group": 2, "method": "bernstein"}, ValueError, "groups"),
        ({"grid": 0}, ValueError, "grid"),
        ({"logp_logging": [-1.0, -1.0, -800.0]}, OverlapError, "overflows"),
        ({"y": []}, ValueError, "shape|rows"),
    ],
)
def test_bad_input_is_named(change: dict[str, Any], error: type, said: str) -> None:
    good: dict[str, Any] = {
        "y": [0.0, 1.0, 1.0],
        "logp_target": [-1.0, -1.0, -1.0],
        "logp_logging": [-1.0, -1.0, -1.0],
        "outcome_bounds": (0, 1),
    }
    with pytest.raises(error, match=said):
        value_sequence(**(good | change))


def test_estimates_without_terms_are_refused() -> None:
    y, even = np.array([0.0, 1.0, 1.0, 0.0]), np.full(4, np.log(0.5))
    probs = {"logp_target": even, "logp_logging": even}
    hajek = IPW().fit(np.zeros((4, 1)), y, **probs).result_
    with pytest.raises(ValueError, match="Horvitz-Thompson"):
        estimate_sequence(hajek, (0, 1))
    two = IPW("ht").fit(
        np.zeros((4, 1)), y, logp_target=np.stack([even, even], axis=1), logp_logging=even
    )
    with pytest.raises(ValueError, match="One policy"):
        estimate_sequence(two.result_, (0, 1))
    grouped = IPW("ht").fit(np.zeros((4, 1)), y, groups=[0, 0, 1, 1], **probs).result_
    with pytest.raises(ValueError, match="give groups"):
        estimate_sequence(grouped, (0, 1))
    weighted = IPW("ht").fit(np.zeros((4, 1)), y, sample_weight=[1, 2, 1, 1], **probs).result_
    with pytest.raises(ValueError, match="Frequency"):
        estimate_sequence(weighted, (0, 1))
