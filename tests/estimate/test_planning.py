"""The planner: planned samples give the half-width wanted, within 10 %."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from causal_lm_opt import IPW, DoublyRobust
from causal_lm_opt.planning import SamplingMoments, plan_sample_size
from causal_lm_opt.simulation import GaussianDesign, confounded_log

Z = 1.959963984540054
DR = DoublyRobust(LinearRegression(), inference="influence")


def fitted(design: Any, n: int, seed: int, estimator: Any = DR) -> Any:
    log = design.draw(n, np.random.default_rng(seed))
    arguments = log.fit_arguments(target=not isinstance(estimator, IPW))
    return estimator.fit(log.X, log.y, **arguments).result_


def half_width(result: Any) -> float:
    return float(np.diff(result.confint()).item() / 2)


# ---------------------------------------------------------------- formulas
def test_the_smallest_sample_that_reaches_the_half_width() -> None:
    moments = SamplingMoments(per_row=3.0, per_draw=1.0)
    plan = plan_sample_size(0.05, moments, draws_per_row=2.0)
    assert plan.rows == math.ceil(Z**2 * (3.0 + 1.0 / 2.0) / 0.05**2)
    assert plan.draws == 2 * plan.rows
    assert plan.half_width <= 0.05
    assert Z * math.sqrt(3.5 / (plan.rows - 1)) > 0.05
    assert plan.rows_upper == plan.rows


def test_the_cheapest_share_of_draws() -> None:
    """No other m / n reaches the half-width at less cost."""
    moments, cost = SamplingMoments(per_row=2.0, per_draw=0.5), 0.04
    best = plan_sample_size(0.02, moments, draw_cost=cost)
    assert best.draws / best.rows == pytest.approx(math.sqrt(0.5 / (2.0 * cost)), rel=1e-3)
    for ratio in np.geomspace(0.3, 30, 25):
        other = plan_sample_size(0.02, moments, draws_per_row=float(ratio))
        assert best.rows + cost * best.draws <= other.rows + cost * other.draws + 2


def test_clusters_widen_the_interval_and_cost_degrees_of_freedom() -> None:
    moments = SamplingMoments.efficient(
        weight_square=1.5, noise_variance=2.0, value_variance=0.0, cluster_size=10, correlation=0.3
    )
    assert moments.per_row == pytest.approx(1.5 * 2.0 * (1 + 9 * 0.3))
    few = plan_sample_size(1.0, moments)
    normal = Z**2 * moments.per_row
    assert few.clusters == few.rows / 10
    assert few.rows > 1.1 * normal  # Student's t with few clusters
    assert few.half_width <= 1.0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"half_width": 0.0}, "half_width"),
        ({"half_width": 1e-9}, "1e12"),
        ({"level": 95}, "level"),
        ({"draws_per_row": 0.0}, "draws_per_row"),
        ({"draw_cost": -1.0}, "draw_cost"),
    ],
)
def test_bad_plans_are_refused(arguments: dict[str, Any], said: str) -> None:
    good: dict[str, Any] = {"half_width": 0.1, "moments": SamplingMoments(1.0, 1.0)}
    with pytest.raises(ValueError, match=said):
        plan_sample_size(**(good | arguments))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((-1.0,), "per_row"),
        ((0.0, 0.0), "both 0"),
        ((1.0, 0.0, 0.5), "rows_per_cluster"),
        ((1.0, math.nan), "per_draw"),
    ],
)
def test_bad_moments_are_refused(arguments: tuple[float, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SamplingMoments(*arguments)


def test_impossible_designs_are_refused() -> None:
    stated = {"noise_variance": 1.0, "value_variance": 0.0}
    with pytest.raises(ValueError, match="weight_square"):
        SamplingMoments.efficient(weight_square=0.5, **stated)
    with pytest.raises(ValueError, match="impossible"):
        SamplingMoments.efficient(weight_square=1.0, cluster_size=5, correlation=-0.5, **stated)


# ---------------------------------------------------------------- what a plan promises
DESIGN = GaussianDesign("linear", shift=0.5)


def test_stated_moments() -> None:
    """E_R[w^2] = exp(shift^2), unit noise, Var_f(g) = 3 for three unit normal features."""
    moments = SamplingMoments.efficient(
        weight_square=math.exp(0.25), noise_variance=1.0, value_variance=3.0
    )
    plan = plan_sample_size(0.06, moments)
    got = np.mean([half_width(fitted(DESIGN, plan.rows, seed)) for seed in range(8)])
    assert got == pytest.approx(0.06, rel=0.1)


def test_stated_moments_of_another_world() -> None:
    world = confounded_log(1.0, seen=True)
    total = 1000 * world.doubly_robust_variance(1000)
    plan = plan_sample_size(0.05, SamplingMoments(per_row=total))
    got = np.mean([half_width(fitted(world, plan.rows, seed)) for seed in range(8)])
    assert got == pytest.approx(0.05, rel=0.1)


@pytest.mark.parametrize("draws_per_row", [4.0, 1.0])
def test_a_pilot(draws_per_row: float) -> None:
    pilot = fitted(GaussianDesign("linear", shift=0.5), 1500, 20)
    moments = SamplingMoments.of_pilot(pilot)
    assert 0 < moments.relative_error < 0.15
    assert moments.per_row + moments.per_draw / 4 == pytest.approx(1500 * pilot.se**2)
    plan = plan_sample_size(0.06, pilot, draws_per_row=draws_per_row)
    assert plan.rows < plan.rows_upper < 1.2 * plan.rows
    study = GaussianDesign("linear", shift=0.5, draws_per_row=draws_per_row)
    got = np.mean([half_width(fitted(study, plan.rows, seed)) for seed in range(8)])
    assert got == pytest.approx(0.06, rel=0.1)


def test_a_clustered_pilot() -> None:
    design = GaussianDesign("linear", shift=0.3, readers=10)
    pilot = fitted(design, 6000, 21, IPW())
    plan = plan_sample_size(0.15, pilot)
    assert plan.clusters == pytest.approx(plan.rows / 10)
    assert plan.draws == 0
    rows = 10 * round(plan.rows / 10)
    got = np.mean([half_width(fitted(design, rows, seed, IPW())) for seed in range(12)])
    assert got == pytest.approx(0.15, rel=0.1)


def test_shared_prompts_count_with_the_rows() -> None:
    design = GaussianDesign("linear", shift=0.3, prompts=True)
    moments = SamplingMoments.of_pilot(fitted(design, 2000, 22))
    assert moments.per_draw == 0.0
    assert moments.rows_per_cluster == pytest.approx(5.0)


def test_a_difference_of_two_policies() -> None:
    log = DESIGN.draw(2000, np.random.default_rng(23))
    to = {"f": log.log_probs["logp_target"], "g": log.log_probs["logp_logging"]}
    result = (
        IPW().fit(log.X, log.y, logp_target=to, logp_logging=log.log_probs["logp_logging"]).result_
    )
    with pytest.raises(ValueError, match="One value"):
        plan_sample_size(0.1, result)
    difference = result["f"] - result["g"]
    plan = plan_sample_size(0.1, difference)
    assert plan.rows == pytest.approx(2000 * (Z * difference.se / 0.1) ** 2, abs=2)


def test_a_pilot_needs_its_influence_function() -> None:
    log = DESIGN.draw(100, np.random.default_rng(24))
    dropped = IPW(influence="drop").fit(log.X, log.y, **log.fit_arguments(target=False)).result_
    with pytest.raises(ValueError, match="keep"):
        plan_sample_size(0.1, dropped)


@pytest.mark.parametrize("clustered", [False, True])
def test_a_frequency_weight_is_repeated_rows(clustered: bool) -> None:
    """The error of the pilot's variance too: se of a mean of squares over the mean, by hand."""
    rng = np.random.default_rng(25)
    log = DESIGN.draw(300, rng)
    s = rng.integers(0, 5, size=300)
    again = np.repeat(np.arange(300), s)
    groups = np.arange(300) // 6
    found = []
    for rows, weight in ((np.arange(300), s.astype(float)), (again, None)):
        probs = {name: values[rows] for name, values in log.log_probs.items()}
        extra = {"groups": groups[rows]} if clustered else {}
        result = IPW().fit(log.X[rows], log.y[rows], sample_weight=weight, **probs, **extra).result_
        found.append(SamplingMoments.of_pilot(result))
    weighted, repeated = (
        (m.per_row, m.per_draw, m.rows_per_cluster, m.relative_error) for m in found
    )
    assert weighted == pytest.approx(repeated, rel=1e-12)
    units = IPW().fit(log.X[again], log.y[again], **{k: v[again] for k, v in log.log_probs.items()},
                      **({"groups": groups[again]} if clustered else {})).result_  # fmt: skip
    square = units.samples[0].unit_contributions()[:, 0] ** 2
    by_hand = square.std() / math.sqrt(square.size) / square.mean()
    assert found[0].relative_error == pytest.approx(by_hand, rel=1e-12)
