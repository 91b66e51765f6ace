"""Balancing weights in values: the stated influence function, identities, refusals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline

from causal_lm_opt import IPW, BalancingRatio, DoublyRobust, OverlapError, TargetSample


@pytest.fixture(scope="module")
def data() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    X, draws = rng.normal(size=(300, 3)), rng.normal([0.5, -0.3, 0.2], 1.0, (500, 3))
    y = 1.0 + X @ [1.0, -2.0, 0.5] + X[:, 0] ** 2 + rng.normal(size=300)
    return {"X": X, "y": y, "X_target": draws}


def test_the_means_balance_and_predict_continues_the_weights(data) -> None:
    fitted = BalancingRatio().fit(data["X"], data["X_target"])
    w = fitted.weights()
    assert np.average(data["X"], axis=0, weights=w) == pytest.approx(
        data["X_target"].mean(axis=0), abs=1e-9
    )
    assert np.exp(fitted.log_ratio_).mean() == pytest.approx(1.0)
    assert fitted.predict(data["X"]) == pytest.approx(fitted.log_ratio_)
    assert fitted.predict(data["X_target"]) == pytest.approx(fitted.log_ratio_target_)
    assert fitted.diagnose().max_smd < 1e-8


def test_squares_and_products_balance_at_degree_two(data) -> None:
    fitted = BalancingRatio(degree=2).fit(data["X"], data["X_target"])
    w = fitted.weights() / fitted.weights().sum()
    second = (data["X"] * w[:, None]).T @ data["X"]
    wanted = data["X_target"].T @ data["X_target"] / 500
    assert second == pytest.approx(wanted, abs=1e-8)
    assert len(fitted.names_) == 9


def test_tolerance_bounds_the_imbalance(data) -> None:
    fitted = BalancingRatio(tolerance=0.1).fit(data["X"], data["X_target"])
    exact = BalancingRatio().fit(data["X"], data["X_target"])
    gap = np.average(data["X"], axis=0, weights=fitted.weights()) - data["X_target"].mean(axis=0)
    assert np.abs(gap / data["X"].std(axis=0)).max() == pytest.approx(0.1, abs=1e-7)
    assert fitted.diagnose().ess > exact.diagnose().ess
    binding = int((np.abs(fitted.imbalance_) > 0.1 - 1e-7).sum())
    assert fitted.influence_.size == binding + 1  # and the constant


def test_value_and_influence_follow_the_formula(data) -> None:
    """phi_i = n p_i {y_i - V - beta'(F_i - Fbar)}, phi~_j = beta'(F~_j - Fbar), weighted OLS."""
    est = IPW(ratio=BalancingRatio()).fit(**data)
    X, y, draws = data["X"], data["y"], data["X_target"]
    p = est.ratio_[0].weights() / 300
    value = p @ y
    design = np.column_stack([np.ones(300), X])
    beta = np.linalg.solve(design.T @ (p[:, None] * design), design.T @ (p * y))[1:]
    centre = draws.mean(axis=0)
    phi = 300 * p * (y - value - (X - centre) @ beta)
    phi_target = (draws - centre) @ beta
    assert est.value_ == pytest.approx(value)
    logged, target = est.result_.samples
    assert logged.influence[:, 0] == pytest.approx(phi, abs=1e-7)
    assert target.influence[:, 0] == pytest.approx(phi_target, abs=1e-7)
    variance = phi @ phi / (300 * 299) + phi_target @ phi_target / (500 * 499)
    assert est.se_ == pytest.approx(np.sqrt(variance))


@pytest.mark.parametrize("weights", ["hajek", "ht"])
def test_exact_balance_is_doubly_robust_with_any_linear_model(data, weights: str) -> None:
    """Value, both influence functions and so the interval, for any q linear in the features."""
    plain = IPW(weights, ratio=BalancingRatio()).fit(**data)
    slope = np.array([3.0, 1.0, -4.0])
    augmented = DoublyRobust(weights=weights, ratio=BalancingRatio()).fit(
        **data, q_logged=5.0 + data["X"] @ slope, q_target=5.0 + data["X_target"] @ slope
    )
    assert augmented.value_ == pytest.approx(plain.value_)
    for one, other in zip(plain.result_.samples, augmented.result_.samples, strict=True):
        assert other.influence == pytest.approx(one.influence, abs=1e-7)
    assert augmented.se_ == pytest.approx(plain.se_)


def test_an_exact_support_has_no_sampling_error() -> None:
    rng = np.random.default_rng(1)
    X = rng.integers(0, 2, (400, 2)).astype(float)
    y = X @ [1.0, 2.0] + rng.normal(size=400)
    support = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    p = np.array([0.1, 0.2, 0.3, 0.4])
    est = IPW(ratio=BalancingRatio()).fit(
        X, y, X_target=TargetSample(support, weight=p, exact=True)
    )
    assert len(est.result_.samples) == 1
    w = est.ratio_[0].weights()
    assert np.average(X, axis=0, weights=w) == pytest.approx([0.7, 0.6], abs=1e-9)
    assert abs(est.value_ - 1.9) < 4 * est.se_


def test_a_feature_out_of_reach_is_named() -> None:
    rng = np.random.default_rng(2)
    logged = pd.DataFrame({"length": rng.random(100), "praise": rng.random(100)})
    draws = pd.DataFrame({"length": rng.random(50), "praise": 1.5 + rng.random(50)})
    with pytest.raises(OverlapError, match="'praise'") as caught:
        BalancingRatio().fit(logged, draws)
    assert "tolerance=" in str(caught.value)
    never = logged.assign(praise=0.0)
    with pytest.raises(OverlapError, match="'praise' is 0 in every logged row"):
        BalancingRatio().fit(never, draws)
    same = BalancingRatio().fit(never, draws.assign(praise=0.0))
    assert same.names_ == ["length"]


def test_means_within_each_range_may_still_be_out_of_reach_together() -> None:
    """Features that exclude each other: each mean may be .8, both may not."""
    logged = np.array([[0.0, 1.0], [1.0, 0.0]] * 20)
    with pytest.raises(OverlapError, match="together with those of the others"):
        BalancingRatio().fit(logged, np.array([[1.0, 0.8], [0.6, 0.8]]))


def test_texts_need_features() -> None:
    rng = np.random.default_rng(3)
    words = np.array(["fine", "bad", "day", "night", "what"])
    logged = [" ".join(rng.choice(words, 3)) for _ in range(80)]
    draws = [" ".join(rng.choice(words, 3, p=[0.3, 0.1, 0.2, 0.2, 0.2])) for _ in range(60)]
    with pytest.raises(ValueError, match="features="):
        BalancingRatio().fit(logged, draws)
    step = make_pipeline(TfidfVectorizer(), TruncatedSVD(2, random_state=0))
    fitted = BalancingRatio(step).fit(logged, draws)
    assert fitted.diagnose().max_smd < 1e-8
    assert fitted.predict(draws) == pytest.approx(fitted.log_ratio_target_)
    s = rng.integers(1, 3, 80)  # a text of weight 2 is two texts, to the feature step too
    short = BalancingRatio(step).fit(logged, draws, sample_weight=s)
    long = BalancingRatio(step).fit(list(np.repeat(logged, s)), draws)
    assert np.repeat(short.log_ratio_, s) == pytest.approx(long.log_ratio_, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"tolerance": -1.0}, "tolerance"), ({"degree": 3}, "degree")],
)
def test_settings_are_checked(data, change: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        BalancingRatio(**change).fit(data["X"], data["X_target"])


def test_parameters_follow_scikit_learn() -> None:
    assert clone(BalancingRatio(["a"], tolerance=0.1)).get_params() == {
        "features": ["a"], "degree": 1, "tolerance": 0.1,
    }  # fmt: skip
