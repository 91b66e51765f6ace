"""Estimated ratios in IPW and DoublyRobust: closed forms, derivatives, refusals, reports."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from causal_lm_opt import (
    IPW,
    BalancingRatio,
    Clip,
    DensityRatio,
    DoublyRobust,
    NotIdentifiedError,
    TargetSample,
)
from causal_lm_opt.core.weights import Weighting
from causal_lm_opt.estimators import sensitivity
from causal_lm_opt.estimators._estimated import value_slope

RATIOS = {
    "logistic": DensityRatio(),
    "folds": DensityRatio(cv=4),
    "cells": DensityRatio("cells", latent=[2]),
    "balance": BalancingRatio(),
    "tolerant": BalancingRatio(tolerance=0.05),
}


def sample(n: int = 400, m: int = 500, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([5, seed])
    X, draws = rng.normal(size=(n, 3)), rng.normal([0.4, -0.3, 0.0], 1.0, (m, 3))
    X[:, 2] = rng.integers(0, 3, n)
    draws[:, 2] = rng.choice(3, m, p=[0.2, 0.3, 0.5])
    y = 1.0 + X @ [1.0, 0.5, 0.7] + 0.3 * X[:, 0] ** 2 + rng.normal(size=n)
    return {"X": X, "y": y, "X_target": draws}


def test_cells_give_the_post_stratified_mean_and_its_error() -> None:
    """V = sum_z p_f(z) ybar_z; phi_i = w(y_i - ybar_z), phi~_j = ybar_z - V."""
    data = sample()
    z, target, y = data["X"][:, 2], data["X_target"][:, 2], data["y"]
    for weights in ("hajek", "ht"):
        est = IPW(weights, ratio=DensityRatio("cells", latent=[2])).fit(**data)
        mean = np.array([y[z == c].mean() for c in range(3)])
        p, p_target = (np.bincount(a.astype(int)) / a.size for a in (z, target))
        w = (p_target / p)[z.astype(int)]
        value = p_target @ mean
        phi, phi_target = w * (y - mean[z.astype(int)]), mean[target.astype(int)] - value
        assert est.value_ == pytest.approx(value)
        logged, draws = est.result_.samples
        assert logged.influence[:, 0] == pytest.approx(phi, abs=1e-9)
        assert draws.influence[:, 0] == pytest.approx(phi_target, abs=1e-9)
        se = np.sqrt(phi @ phi / (400 * 399) + phi_target @ phi_target / (500 * 499))
        assert est.se_ == pytest.approx(se)


def derivative(est: Any, data: dict[str, Any], row: int, side: str, q: dict[str, Any]) -> float:
    """Change of the value with the frequency of one row, times the rows."""
    step, values = 1e-4, []
    n, m = len(data["y"]), len(data["X_target"])
    for sign in (1.0, -1.0):
        s, t = np.ones(n), np.ones(m)
        (s if side == "logged" else t)[row] += sign * step
        again = clone(est).fit(
            data["X"], data["y"], sample_weight=s,
            X_target=TargetSample(data["X_target"], weight=t), **q,
        )  # fmt: skip
        values.append(again.value_)
    return (values[0] - values[1]) / (2 * step) * (n if side == "logged" else m)


@pytest.mark.parametrize("weights", ["hajek", "ht"])
@pytest.mark.parametrize("name", ["logistic", "cells", "balance", "tolerant"])
@pytest.mark.parametrize("doubly", [False, True], ids=["ipw", "dr"])
def test_influence_is_the_derivative_of_the_value(name: str, weights: str, doubly: bool) -> None:
    """Exact for cells and balancing.

    The logistic's is of leave-one-out form (HC3), and a tolerance is in standard deviations that
    are taken as fixed: these are 5 % and 1.5 % apart.
    """
    data = sample()
    q = {}
    est: Any = IPW(weights, ratio=RATIOS[name])
    if doubly:
        est = DoublyRobust(weights=weights, ratio=RATIOS[name])
        q = {"q_logged": data["X"][:, 0], "q_target": data["X_target"][:, 0]}
    fitted = clone(est).fit(**data, **q)
    logged, target = (x.influence[:, 0] for x in fitted.result_.samples)
    loose = {"logistic": 0.05, "tolerant": 0.015}.get(name, 2e-3)
    for influence, side in ((logged, "logged"), (target, "target")):
        rows = [0, 333]
        found = [derivative(est, data, i, side, q) for i in rows]
        assert found == pytest.approx(influence[rows], abs=loose * np.abs(influence).max())


@pytest.mark.parametrize("weights", ["hajek", "ht", Clip(1.2), Clip(1.2, normalize=False)])
def test_the_slope_in_log_ratios_is_the_derivative(weights: str | Weighting) -> None:
    rng = np.random.default_rng(0)
    ell, y, s = rng.normal(size=50), rng.normal(size=50), rng.integers(1, 3, 50).astype(float)
    weighting = Weighting.of(weights)

    def value(ell: np.ndarray) -> float:
        w = np.exp(weighting.transform(ell, s))
        return float((s * w) @ y / ((s * w).sum() if weighting.normalize else s.sum()))

    slope = value_slope(ell, y, weighting, s, value(ell))
    for i in range(0, 50, 7):
        step = np.zeros(50)
        step[i] = 1e-6
        assert slope[i] == pytest.approx((value(ell + step) - value(ell - step)) / 2e-6, abs=1e-6)


@pytest.mark.parametrize("name", ["logistic", "cells", "balance"])
def test_standard_errors_are_those_of_the_bootstrap(name: str) -> None:
    """The first-order error against 200 resamples of both samples with refit: within 15 %.

    A bootstrap standard error of 200 has a standard error of 5 %.
    """
    data = sample(300, 300)
    ratio = RATIOS[name]
    if name == "balance":  # resamples may lack the reach of exact balance on all three
        ratio = BalancingRatio([0, 1])
    est = IPW(ratio=ratio).fit(**data)
    rng = np.random.default_rng(0)
    values = []
    for _ in range(200):
        i, j = rng.integers(0, 300, 300), rng.integers(0, 300, 300)
        again = clone(ratio).fit(data["X"][i], data["X_target"][j])
        values.append(np.average(data["y"][i], weights=again.weights()))
    assert est.se_ == pytest.approx(np.std(values), rel=0.15)


@pytest.mark.parametrize("name", list(RATIOS))
def test_frequencies_are_repeated_rows(name: str) -> None:
    data = sample(150, 200)
    rng = np.random.default_rng(0)
    s, t = rng.integers(0, 4, 150), rng.integers(1, 4, 200)
    for est in (IPW(ratio=RATIOS[name]), DoublyRobust(LinearRegression(), ratio=RATIOS[name])):
        short = clone(est).fit(
            data["X"], data["y"], sample_weight=s,
            X_target=TargetSample(data["X_target"], weight=t),
        )  # fmt: skip
        long = clone(est).fit(
            np.repeat(data["X"], s, axis=0), np.repeat(data["y"], s),
            X_target=np.repeat(data["X_target"], t, axis=0),
        )  # fmt: skip
        assert short.value_ == pytest.approx(long.value_, abs=1e-6)
        assert short.se_ == pytest.approx(long.se_, rel=0.02)


def test_groups_cluster_the_noise_of_both_samples() -> None:
    """Every row twice, as a cluster of two, is no more information than once."""
    data = sample(200, 250)
    once = IPW(ratio=BalancingRatio()).fit(**data)
    twice = IPW(ratio=BalancingRatio()).fit(
        np.repeat(data["X"], 2, axis=0), np.repeat(data["y"], 2),
        groups=np.repeat([f"r{i}" for i in range(200)], 2),
        X_target=TargetSample(
            np.repeat(data["X_target"], 2, axis=0),
            groups=np.repeat([f"d{j}" for j in range(250)], 2),
        ),
    )  # fmt: skip
    assert twice.value_ == pytest.approx(once.value_)
    assert twice.se_ == pytest.approx(once.se_, rel=1e-6)


def test_shared_prompts_vary_together() -> None:
    data = sample(200, 400)
    prompts = np.arange(200) // 4
    est = IPW(ratio=BalancingRatio([0, 1])).fit(
        data["X"], data["y"], groups=prompts,
        X_target=TargetSample(data["X_target"], groups=np.arange(400) // 8),
    )  # fmt: skip
    logged, target = est.result_.samples
    assert logged.cluster_key == target.cluster_key != ""
    folds = DoublyRobust(LinearRegression(), ratio=DensityRatio(cv=3)).fit(
        data["X"], data["y"], groups=prompts,
        X_target=TargetSample(data["X_target"], groups=np.arange(400) // 8),
    )  # fmt: skip
    assert np.isfinite(folds.se_)


def test_each_policy_has_its_own_ratio_and_contrasts_share_the_log() -> None:
    data = sample()
    targets = {"one": data["X_target"], "two": data["X_target"] + [0.1, 0.0, 0.0]}
    est = IPW(ratio=BalancingRatio([0, 1])).fit(data["X"], data["y"], X_target=targets)
    assert est.value_.shape == (2,)
    assert len(est.ratio_) == 2
    alone = IPW(ratio=BalancingRatio([0, 1])).fit(data["X"], data["y"], X_target=targets["two"])
    assert est.value_[1] == pytest.approx(alone.value_)
    assert est.evaluate(X_target=targets["two"]).value == pytest.approx(alone.value_)
    difference = est.result_.compare()
    assert float(np.ravel(difference.contrasts.se)[0]) < 0.75 * np.hypot(*est.se_)  # one log


def test_evaluate_refits_the_ratio_and_keeps_the_outcome_model() -> None:
    data = sample()
    est = DoublyRobust(LinearRegression(), ratio=DensityRatio()).fit(**data)
    models = est.splits_[0].crossfit.models
    other = est.evaluate(X_target=data["X_target"] + 0.1)
    again = DoublyRobust(LinearRegression(), ratio=DensityRatio()).fit(
        **(data | {"X_target": data["X_target"] + 0.1})
    )
    assert other.value == pytest.approx(again.value_)
    assert est.splits_[0].crossfit.models is models


def test_a_black_box_ratio_is_bootstrapped_in_ipw_and_orthogonal_in_dr() -> None:
    data = sample(300, 300)
    tree = DensityRatio(DecisionTreeClassifier(min_samples_leaf=40, random_state=0), cv=3)
    est = IPW(ratio=tree, n_bootstrap=30).fit(**data)
    assert [x.role for x in est.result_.samples] == ["replicates"]
    assert "cluster bootstrap with refit" in est.result_.notes[1]
    assert "smoothing bias" in est.result_.notes[1]
    again = IPW(ratio=tree, n_bootstrap=30).fit(**data)
    assert again.se_ == est.se_
    dr = DoublyRobust(LinearRegression(), ratio=tree).fit(**data)
    assert [x.role for x in dr.result_.samples] == ["logged", "target"]
    boot = DoublyRobust(LinearRegression(), ratio=tree, inference="bootstrap", n_bootstrap=40)
    assert boot.fit(**data).se_ == pytest.approx(dr.se_, rel=0.4)


def test_dr_with_a_parametric_ratio_carries_its_noise_unless_told_not_to() -> None:
    data = sample()
    forest = RandomForestRegressor(10, min_samples_leaf=40, random_state=0)
    full = DoublyRobust(forest, ratio=DensityRatio()).fit(**data)
    bare = DoublyRobust(forest, ratio=DensityRatio(), inference="influence").fit(**data)
    assert full.value_ == bare.value_
    assert full.se_ != bare.se_
    assert "noise of the ratio" in full.result_.notes[-1]
    assert "noise of the ratio" not in bare.result_.notes[-1]


def test_subgroups_share_the_ratio() -> None:
    data = sample()
    by = np.where(np.arange(400) % 3 == 0, "a", "b")
    est = IPW(ratio=BalancingRatio()).fit(**data, by=by)
    w = est.ratio_[0].weights()
    expected = [np.average(data["y"][by == g], weights=w[by == g]) for g in ("a", "b")]
    assert est.result_by_.values == pytest.approx(expected)
    assert (est.result_by_.se > est.se_).all()


def test_dropped_influence_gives_the_same_error() -> None:
    data = sample()
    for ratio in (BalancingRatio(), DensityRatio()):
        keep = IPW(ratio=ratio).fit(**data)
        drop = IPW(ratio=ratio, influence="drop").fit(**data)
        assert drop.se_ == pytest.approx(keep.se_)


@pytest.mark.parametrize("kind", [IPW, DoublyRobust])
def test_log_probs_beside_a_ratio_are_refused(kind: type) -> None:
    data, logp = sample(), np.full(400, -1.0)
    est = kind(ratio=DensityRatio())
    with pytest.raises(ValueError, match="drop logp_target and logp_logging to use the estimated"):
        est.fit(**data, logp_target=logp, logp_logging=logp)
    with pytest.raises(ValueError, match="drop logp_logging to use"):
        est.fit(**data, logp_logging=logp)
    with pytest.raises(NotIdentifiedError, match="needs X_target"):
        est.fit(data["X"], data["y"])
    with pytest.raises(ValueError, match="drop logp_target"):
        est.fit(**data).evaluate(logp, X_target=data["X_target"])
    sampled = TargetSample(data["X_target"], logp_target=-np.ones(500), logp_sampling=-np.ones(500))
    with pytest.raises(ValueError, match="logp_sampling"):
        est.fit(data["X"], data["y"], X_target=sampled)
    with pytest.raises(ValueError, match=r"X_target\.by"):
        est.fit(data["X"], data["y"], X_target=TargetSample(data["X_target"], by=np.ones(500)))
    with pytest.raises(TypeError, match="density-ratio estimator"):
        kind(ratio="logistic").fit(**data)
    with pytest.raises(ValueError, match="ratio=DensityRatio"):
        kind().fit(**data)


def test_predictions_without_texts_cannot_have_a_ratio() -> None:
    data = sample()
    with pytest.raises(NotIdentifiedError, match="needs X_target"):
        DoublyRobust(ratio=DensityRatio()).fit(
            data["X"], data["y"], q_logged=data["y"], q_target=np.zeros(5)
        )


def test_the_verdict_says_that_the_ratio_is_estimated_and_what_nobody_sees() -> None:
    data = sample()
    est = IPW(ratio=DensityRatio()).fit(**data)
    verdict = est.result_.verdicts[0]
    assert any("estimated (logistic odds" in r and "sufficiency" in r for r in verdict.reasons)
    assert "DensityRatio" in est.result_.estimator
    assert "Density ratio: logistic odds, fitted on all rows." in str(est.summary())
    report = est.diagnose()
    assert {"ratio_auc", "ratio_max_smd", "ratio_unseen_mass"} <= set(report.figures[0])
    assert np.isnan(report.figures[0]["agreement_z"])
    assert report.details[0].balance is not None
    assert "log-probs" not in " ".join(report.verdict.reasons)


def test_an_empty_cell_shows_as_unseen_mass() -> None:
    """Latent positivity: nothing was logged where a quarter of the draws lie."""
    rng = np.random.default_rng(0)
    z, target = rng.integers(0, 3, 600), rng.integers(0, 4, 600)
    y = z + rng.normal(size=600)
    est = IPW(ratio=DensityRatio("cells")).fit(z[:, None], y, X_target=target[:, None])
    verdict, figures = est.result_.verdicts[0], est.result_.diagnostics[0]
    assert verdict.level == "do not use"
    assert any("never writes 2" in reason for reason in verdict.reasons)
    empty = (target == 3).mean()
    assert figures["unsupported_mass"] == pytest.approx(empty)
    assert figures["ratio_empty_mass"] == pytest.approx(empty)


def test_a_latent_that_leaves_out_what_matters_shows_in_the_report() -> None:
    data = sample(1000, 1000)
    short = IPW(ratio=DensityRatio(latent=[0, 2])).fit(**data)  # x1 matters and is left out
    given = short.result_.verdicts[0]
    assert given.level == "do not use"  # the shift exceeds the standard error
    assert any("sufficiency fails" in r and "'x1'" in r for r in given.reasons)
    assert given.reasons[0] in short.diagnose().verdict.reasons
    mended = DoublyRobust(LinearRegression(), ratio=DensityRatio(latent=[0, 2])).fit(**data)
    assert not any("sufficiency fails" in r for r in mended.diagnose().verdict.reasons)


def test_fitted_estimators_pickle_and_sensitivity_takes_them() -> None:
    data = sample()
    for est in (IPW(ratio=BalancingRatio()), DoublyRobust(ratio=DensityRatio(latent=[0, 1]))):
        est.fit(**data)
        again = pickle.loads(pickle.dumps(est))
        assert again.se_ == est.se_
        assert again.ratio_[0].predict(data["X"]) == pytest.approx(est.ratio_[0].predict(data["X"]))
    result = sensitivity(
        IPW(ratio=BalancingRatio()).fit(**data), (1, 1.5), n_bootstrap=20,
        violation="logging_probabilities",
    )  # fmt: skip
    assert result.lower[0, 1] < result.lower[0, 0]


def test_raw_texts_need_no_log_probs() -> None:
    rng = np.random.default_rng(0)

    def write(n: int, polite: float) -> list[str]:
        words = rng.choice(["tax", "road", "school", "river", "bridge"], (n, 3))
        lead = np.where(rng.random(n) < polite, "please", "now")
        return [f"{a} {' '.join(b)}" for a, b in zip(lead, words, strict=True)]

    texts, draws = write(600, 0.3), write(600, 0.8)
    polite = np.array([t.startswith("please") for t in texts])
    y = polite + rng.normal(0.0, 0.3, 600)
    est = DoublyRobust(
        LogisticRegression(), utility={False: 0.0, True: 1.0}, ratio=BalancingRatio(_polite)
    )
    with pytest.raises(ValueError, match="text"):
        est.fit(texts, y > 0.5, X_target=draws)  # the outcome model takes numbers
    value = IPW(ratio=BalancingRatio(_polite)).fit(texts, y, X_target=draws)
    share = np.mean([t.startswith("please") for t in draws])
    assert value.value_ == pytest.approx(share * y[polite].mean() + (1 - share) * y[~polite].mean())
    assert "words" in str(value.diagnose()) or value.diagnose().details[0].balance is not None


def _polite(texts: Any) -> np.ndarray:
    return np.array([[float(t.startswith("please"))] for t in texts])


def test_an_estimated_ratio_is_never_trusted_without_caution() -> None:
    data = sample(2000, 2000)
    for est in (IPW(ratio=BalancingRatio()), DoublyRobust(ratio=DensityRatio())):
        verdict = est.fit(**data).result_.verdicts[0]
        assert verdict.level == "caution"
        assert any("latent sufficiency" in reason for reason in verdict.reasons)
