"""Bootstrapped values and others of the same logged rows: differences keep the correlation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from causal_lm_opt import IPW, OutcomeRegression
from causal_lm_opt.estimators._bootstrap import bootstrap_values
from causal_lm_opt.joint import compare_estimates, join_estimates

N = 240
KINDS = ["rows", "frequencies", "clusters", "clusters of frequencies"]


def world(kind: str) -> tuple[dict[str, Any], np.ndarray]:
    """A log whose outcomes are mostly noise, and many draws: both values err by that noise."""
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(40), 6)
    X = rng.normal(size=(N, 2))
    noise = 4 * rng.normal(size=N) + 2 * rng.normal(size=40)[groups]
    data: dict[str, Any] = {"X": X, "y": X @ [1.0, 2.0] + noise}
    if "clusters" in kind:
        data["groups"] = groups
    if "frequencies" in kind:
        data["sample_weight"] = rng.integers(1, 4, N).astype(float)
    return data, rng.normal(size=(4000, 2)) + 0.2


def regression(data: dict[str, Any], draws: np.ndarray, seed: int = 0, **how: Any) -> Any:
    model = OutcomeRegression(LinearRegression(), random_state=seed, **how)
    return model.fit(**data, X_target=draws).result_


@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_is_taken_on_the_very_resamples(kind: str) -> None:
    data, draws = world(kind)
    fitted = OutcomeRegression(LinearRegression()).fit(**data, X_target=draws)

    def mean(log: Any, *_: Any) -> np.ndarray:
        return np.array([np.average(log.y, weights=log.sample_weight)])

    found = bootstrap_values(
        fitted.log_, fitted.policies_, mean, n_bootstrap=30, seed=5, n_jobs=None
    )
    assert found.resamples is not None
    means = found.resamples.means(data["y"][:, None])
    expected = np.sqrt(30) * (means - means.mean(axis=0))
    np.testing.assert_allclose(found.influence, expected, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_difference_from_the_mean_has_the_stacked_standard_error(kind: str) -> None:
    """300 replicates have a standard error of 4 %; independents would have 1.5 times as much."""
    data, draws = world(kind)
    mean = IPW().fit(**data).result_
    exact = regression(data, draws, inference="stacked")
    boot = regression(data, draws, inference="bootstrap", n_bootstrap=300)
    assert boot.dof() == (boot - mean).dof() == mean.dof()
    for one, other in ((boot - mean, exact - mean), (mean - boot, mean - exact)):
        assert one.se == pytest.approx(other.se, rel=0.12)
        assert not any("independent" in note for note in one.notes)
    assert np.hypot(boot.se, mean.se) > 1.5 * (boot - mean).se
    joint = join_estimates({"boot": boot, "mean": mean})
    paired = joint["boot"] - joint["mean"]
    assert paired.se == pytest.approx((boot - mean).se)
    table = compare_estimates({"boot": boot, "mean": mean})
    assert table["se"].tolist() == [boot.se, mean.se]  # each alone, as it was


def test_other_resamples_or_clusters_are_not_paired() -> None:
    data, draws = world("clusters")
    one, other = (
        regression(data, draws, seed=s, inference="bootstrap", n_bootstrap=50) for s in (0, 1)
    )
    assert (one - other).se == pytest.approx(np.hypot(one.se, other.se))
    assert (one - one).se == 0.0
    rows = IPW().fit(data["X"], data["y"]).result_
    difference = one - rows
    assert difference.se == pytest.approx(np.hypot(one.se, rows.se))
    assert any("as if independent" in note for note in difference.notes)
