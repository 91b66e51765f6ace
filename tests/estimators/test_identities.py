"""What must hold exactly (to rounding) of every estimator, whatever the data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LinearRegression, Ridge

from causal_lm_opt import IPW, DoublyRobust, OutcomeRegression, ValueEstimate
from causal_lm_opt.core import Clip, Shrink, Switch, Temper
from causal_lm_opt.estimators._target import TargetSample

N, M = 240, 160
RNG = np.random.default_rng(31)
X = RNG.normal(size=(N, 2))
Y = X @ [1.0, -1.0] + 0.5 * X[:, 0] ** 2 + RNG.normal(size=N) + 3.0
GROUPS = np.r_[np.arange(20), RNG.integers(0, 20, N - 20)]
DRAWS = RNG.normal(0.4, 1.0, size=(M, 2))
F0 = RNG.normal(0.2, 1.0, size=(M, 2))
ZERO = DummyRegressor(strategy="constant", constant=0.0)
EXACT_AT_HOME = ["hajek", "ht", Clip(1.0), Clip(5.0), Temper(0.5), "psis", Switch(2.0)]
ALL = [*EXACT_AT_HOME, Shrink(3.0), Clip(0.5, normalize=False)]


def density(x: np.ndarray, mean: float) -> np.ndarray:
    return -0.5 * ((x - mean) ** 2).sum(axis=1) - 1.9


def logp(mean: float = 0.4) -> dict[str, np.ndarray]:
    return {"logp_target": density(X, mean), "logp_logging": density(X, 0.0)}


def width(result: ValueEstimate) -> float:
    low, high = result.confint()
    return float(high - low)


# ------------------------------------------------------------------------------ logging policy
@pytest.mark.parametrize("make", [IPW, OutcomeRegression, DoublyRobust])
@pytest.mark.parametrize("y", [Y, 1e6 + 1e-3 * Y, (Y > 3).astype(float)])
def test_no_policy_is_the_mean_outcome_exactly(make: Any, y: np.ndarray) -> None:
    est = make().fit(X, y)
    assert est.value_ == y.mean()
    assert est.se_ == pytest.approx(y.std(ddof=1) / np.sqrt(N), rel=1e-12)
    clustered = make().fit(X, y, groups=GROUPS)
    assert clustered.value_ == y.mean()
    rest = y - y.mean()
    moved = np.array([rest[g != GROUPS].mean() for g in range(20)])  # the jackknife
    assert clustered.se_ == pytest.approx(np.sqrt(19 / 20 * np.sum(moved**2)), rel=1e-9)


@pytest.mark.parametrize("weights", EXACT_AT_HOME, ids=str)
def test_the_target_that_is_the_logging_policy_has_the_mean_outcome(weights: Any) -> None:
    est = IPW(weights).fit(X, Y, **logp(0.0))
    assert est.value_ == pytest.approx(Y.mean(), rel=1e-12)
    assert est.se_ == pytest.approx(Y.std(ddof=1) / np.sqrt(N), rel=1e-9)
    assert est.result_.bias_bound[0] == pytest.approx(0, abs=1e-12)


def test_shrunken_weights_are_exact_at_home_once_normalised() -> None:
    assert IPW(Shrink(3.0)).fit(X, Y, **logp(0.0)).value_ == pytest.approx(Y.mean())
    plain = IPW(Shrink(3.0, normalize=False)).fit(X, Y, **logp(0.0))
    assert plain.value_ == pytest.approx(0.75 * Y.mean())
    assert plain.result_.bias_bound[0] >= abs(plain.value_ - Y.mean()) - 1e-12


# ------------------------------------------------------------------------------ outcomes
@pytest.mark.parametrize("weights", ["hajek", Clip(2.0), "psis", Temper(0.5)], ids=str)
def test_a_constant_outcome_has_no_error(weights: Any) -> None:
    est = IPW(weights).fit(X, np.full(N, 7.0), **logp())
    assert est.value_ == pytest.approx(7.0, rel=1e-12)
    assert est.se_ == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(est.result_.confint(), 7.0, atol=1e-10)
    dr = DoublyRobust(Ridge(), weights=weights).fit(X, np.full(N, 7.0), X_target=DRAWS, **logp())
    assert dr.value_ == pytest.approx(7.0, rel=1e-12)
    assert dr.se_ == pytest.approx(0, abs=1e-10)
    assert IPW("ht").fit(X, np.full(N, 7.0), **logp()).se_ > 0.1  # not so without normalisation


@pytest.mark.parametrize("groups", [None, GROUPS], ids=["rows", "clusters"])
@pytest.mark.parametrize("weights", ALL, ids=str)
def test_doubly_robust_without_a_model_is_weighting(weights: Any, groups: Any) -> None:
    dr = DoublyRobust(ZERO, weights=weights)
    dr.fit(X, Y, X_target=DRAWS, groups=groups, **logp())
    ipw = IPW(weights).fit(X, Y, groups=groups, **logp())
    assert dr.value_ == pytest.approx(ipw.value_, rel=1e-12)
    assert dr.se_ == pytest.approx(ipw.se_, rel=1e-12)
    assert dr.result_.bias_bound[0] == pytest.approx(ipw.result_.bias_bound[0], rel=1e-12)
    np.testing.assert_allclose(dr.result_.confint(), ipw.result_.confint(), rtol=1e-12)


@pytest.mark.parametrize("inference", ["influence", "stacked"])
@pytest.mark.parametrize("groups", [None, GROUPS], ids=["rows", "clusters"])
@pytest.mark.parametrize("weights", ["hajek", Clip(2.0), "psis"], ids=str)
def test_a_shift_of_the_outcome_shifts_the_value_only(
    weights: Any, groups: Any, inference: str
) -> None:
    c = 250.0
    second = TargetSample(F0, logp_target=density(F0, 0.4), logp_sampling=density(F0, 0.2))
    for est, arguments in (
        (IPW(weights), {}),
        (DoublyRobust(Ridge(), weights=weights, inference=inference), {"X_target": second}),
    ):
        before = est.fit(X, Y, groups=groups, **logp(), **arguments).result_
        after = est.fit(X, Y + c, groups=groups, **logp(), **arguments).result_
        assert after.value == pytest.approx(before.value + c, rel=1e-10)
        assert after.se == pytest.approx(before.se, rel=1e-8)
        assert width(after) == pytest.approx(width(before), rel=1e-8)


def test_a_shift_changes_widths_without_normalisation() -> None:
    """As documented: plain w, and plain w0 of draws from a sampling policy."""
    second = TargetSample(F0, logp_target=density(F0, 0.4), logp_sampling=density(F0, 0.2))
    plain = DoublyRobust(Ridge(), weights_target="ht")
    before = width(plain.fit(X, Y, X_target=second, **logp()).result_)
    assert width(plain.fit(X, Y + 250, X_target=second, **logp()).result_) > 10 * before
    before = width(IPW("ht").fit(X, Y, **logp()).result_)
    assert width(IPW("ht").fit(X, Y + 250, **logp()).result_) > 10 * before
    or_plain = OutcomeRegression(Ridge(), weights_target="ht")
    before = width(or_plain.fit(X, Y, X_target=second).result_)
    assert width(or_plain.fit(X, Y + 250, X_target=second).result_) > 10 * before
    ours = OutcomeRegression(Ridge())
    before = width(ours.fit(X, Y, X_target=second).result_)
    assert width(ours.fit(X, Y + 250, X_target=second).result_) == pytest.approx(before)


# ------------------------------------------------------------------------------ second samples
def test_exact_support_is_the_limit_of_draws() -> None:
    rng = np.random.default_rng(2)
    texts = np.arange(8)[:, None].astype(float)
    p_r, p_f = np.full(8, 1 / 8), rng.dirichlet(np.full(8, 3.0))
    logged = rng.integers(0, 8, N)
    y = np.sin(logged) + rng.normal(size=N)
    arguments = {"logp_target": np.log(p_f[logged]), "logp_logging": np.log(p_r[logged])}
    m = 200_000
    draws = TargetSample(texts, weight=rng.multinomial(m, p_f))
    for make in (DoublyRobust, OutcomeRegression):
        est = make(Ridge())
        exact = est.fit(
            texts[logged], y, X_target=TargetSample(texts, weight=p_f, exact=True), **arguments
        ).result_
        many = est.fit(texts[logged], y, X_target=draws, **arguments).result_
        spread = float(many.influence_target.std()) if many.influence_target is not None else 0.0
        assert abs(many.value - exact.value) < 4 * max(spread, 1.0) / np.sqrt(m)
        assert exact.influence_target is None
        assert many.se == pytest.approx(exact.se, rel=0.01)
        logs = est.fit(
            texts[logged], y, X_target=TargetSample(texts, logp_target=np.log(p_f), exact=True),
            **arguments,
        ).result_  # fmt: skip
        assert logs.value == pytest.approx(exact.value, rel=1e-12)


def test_draws_of_a_sampling_policy_agree_with_direct_draws_in_expectation() -> None:
    rng = np.random.default_rng(3)
    model = LinearRegression().fit(X, Y)
    truth = float(model.predict([[0.4, 0.4]])[0])
    for weights, tolerance in (("hajek", 0.0), ("ht", 0.0)):
        values = []
        for _ in range(200):
            f0 = rng.normal(0.2, 1.0, size=(100, 2))
            second = TargetSample(f0, logp_target=density(f0, 0.4), logp_sampling=density(f0, 0.2))
            est = OutcomeRegression(LinearRegression(), weights_target=weights)
            values.append(est.fit(X, Y, X_target=second).value_)
        error = np.mean(values) - truth
        assert abs(error) < tolerance + 4 * np.std(values, ddof=1) / np.sqrt(200)


def test_a_frequency_of_draws_repeats_them() -> None:
    s = np.random.default_rng(4).integers(0, 4, M)
    rows = np.repeat(np.arange(M), s)
    for make in (DoublyRobust, OutcomeRegression):
        a = make(Ridge()).fit(X, Y, X_target=TargetSample(DRAWS, weight=s), **logp()).result_
        b = make(Ridge()).fit(X, Y, X_target=DRAWS[rows], **logp()).result_
        assert a.value == pytest.approx(b.value, rel=1e-12)
        assert a.se == pytest.approx(b.se, rel=1e-12)


def test_probabilities_are_not_taken_for_frequencies() -> None:
    """They sum to one: as frequencies they would make the standard error infinite or absurd."""
    for m in (M, 500):
        with pytest.raises(ValueError, match="exact=True"):
            OutcomeRegression().fit(
                X, Y, X_target=TargetSample(np.zeros((m, 2)), weight=np.full(m, 1 / m))
            )


# ------------------------------------------------------------------------------ evaluate, by, n_rep
def test_evaluate_is_fit_with_the_same_nuisances() -> None:
    other = {"logp_target": density(X, -0.3)}
    fresh = DRAWS - 0.7
    for est in (IPW("psis"), DoublyRobust(Ridge(), n_rep=2), DoublyRobust(inference="influence")):
        second = {} if isinstance(est, IPW) else {"X_target": fresh}
        whole = est.fit(X, Y, groups=GROUPS, **(logp() | other), **second).result_
        first = {} if isinstance(est, IPW) else {"X_target": DRAWS}
        later = est.fit(X, Y, groups=GROUPS, **logp(), **first).evaluate(**other, **second)
        assert later.value == pytest.approx(whole.value, rel=1e-12)
        assert later.se == pytest.approx(whole.se, rel=1e-12)
        assert (later - whole).se == pytest.approx(0, abs=1e-12)
    est = OutcomeRegression(Ridge())
    whole = est.fit(X, Y, X_target=fresh).result_
    later = est.fit(X, Y, X_target=DRAWS).evaluate(fresh)
    assert (later.value, later.se) == pytest.approx((whole.value, whole.se), rel=1e-12)


def test_many_policies_are_each_alone() -> None:
    means = {"a": 0.1, "b": 0.4, "c": -0.3}
    target = {name: density(X, m) for name, m in means.items()}
    draws = {name: DRAWS - 0.4 + m for name, m in means.items()}
    for est in (IPW(Clip(1.5)), DoublyRobust(Ridge()), OutcomeRegression(Ridge())):
        second = {} if isinstance(est, IPW) else {"X_target": draws}
        many = est.fit(X, Y, logp_target=target, logp_logging=density(X, 0.0), **second).result_
        drop = type(est)(**(est.get_params(deep=False) | {"influence": "drop"})).fit(
            X, Y, logp_target=target, logp_logging=density(X, 0.0), **second
        )
        np.testing.assert_allclose(drop.se_, many.se, rtol=1e-12)
        np.testing.assert_allclose(drop.result_.confint(), many.confint(), rtol=1e-12)
        for name, m in means.items():
            one = {} if isinstance(est, IPW) else {"X_target": draws[name]}
            alone = est.fit(X, Y, **logp(m), **one).result_
            assert many[name].value == pytest.approx(alone.value, rel=1e-12)
            assert many[name].se == pytest.approx(alone.se, rel=1e-10)


BY = np.where(X[:, 1] > 0.3, "hot", "cold")


@pytest.mark.parametrize("weights", ["hajek", "ht", Clip(1.5), "psis"], ids=str)
def test_a_subgroup_by_weighting_is_its_own_log(weights: Any) -> None:
    result = IPW(weights).fit(X, Y, by=BY, **logp()).result_by_
    for label in ("hot", "cold"):
        rows = np.flatnonzero(label == BY)
        alone = IPW(weights).fit(X[rows], Y[rows], **{k: v[rows] for k, v in logp().items()})
        ours = result[f"target policy | {label}"]
        assert ours.value == pytest.approx(alone.value_, rel=1e-12)
        assert ours.se == pytest.approx(alone.se_, rel=1e-10)
    shares = np.array([np.mean(label == BY) for label in ("cold", "hot")])
    if weights == "ht":  # additive without normalisation
        total = sum(float(s) * result[i] for i, s in enumerate(shares))
        whole = IPW("ht").fit(X, Y, by=BY, **logp()).result_
        assert total.value == pytest.approx(whole.value, rel=1e-12)


def test_a_clustered_subgroup_is_its_own_log() -> None:
    """A subgroup in few clusters has its own G, in the factor and in the degrees of freedom."""
    groups = np.arange(N) // 10
    by = np.where(groups < 6, "few", "many")
    both = IPW().fit(X, Y, by=by, groups=groups, **logp()).result_by_
    rows = np.flatnonzero(by == "few")
    part = {k: v[rows] for k, v in logp().items()}
    alone = IPW().fit(X[rows], Y[rows], groups=groups[rows], **part).result_
    ours = both["target policy | few"]
    assert ours.se == pytest.approx(alone.se, rel=1e-10)
    assert ours.dof()[0] == alone.dof()[0] == 5
    np.testing.assert_allclose(ours.confint(), alone.confint(), rtol=1e-10)
    with pytest.raises(ValueError, match="one group"):
        IPW().fit(X, Y, by=np.where(groups < 1, "one", "rest"), groups=groups, **logp())


def test_a_doubly_robust_subgroup() -> None:
    """Its rows' residual term plus its draws' plug-in term, one outcome model for all."""
    by_draws = np.where(DRAWS[:, 1] > 0.3, "hot", "cold")
    est = DoublyRobust(Ridge(), inference="influence")
    est.fit(X, Y, X_target=TargetSample(DRAWS, by=by_draws), by=BY, **logp())
    q = est.splits_[0].logged
    w = np.exp(density(X, 0.4) - density(X, 0.0))
    for label in ("hot", "cold"):
        rows = label == BY
        residual = np.average((Y - q)[rows], weights=w[rows])
        plug_in = est.predict(DRAWS[by_draws == label])
        ours = est.result_by_[f"target policy | {label}"]
        assert ours.value == pytest.approx(residual + plug_in.mean(), rel=1e-10)
        phi = np.zeros(N)
        phi[rows] = w[rows] * ((Y - q)[rows] - residual) / w[rows].mean() * N / rows.sum()
        np.testing.assert_allclose(ours.influence, phi, atol=1e-10)
        n = rows.sum()  # the factor n / (n - 1) is the subgroup's own
        logged = (phi**2).sum() / N**2 * n / (n - 1)
        assert ours.se**2 == pytest.approx(logged + ours.influence_target.var(ddof=1) / M, rel=1e-9)


def test_a_subgroup_without_draws_is_refused() -> None:
    second = TargetSample(DRAWS, by=np.full(M, "hot"))
    for est in (DoublyRobust(), OutcomeRegression()):
        with pytest.raises(ValueError, match="no draw of the subgroup 'cold'"):
            est.fit(X, Y, X_target=second, by=BY, **logp())


def test_draws_of_no_subgroup_are_told_where_the_policy_differs_between_subgroups() -> None:
    """Texts 0 and 1 with means 0 and 2; the policy writes 1 with .8 in s and .2 in o."""
    rng = np.random.default_rng(4)

    def sample(n: int) -> tuple[np.ndarray, np.ndarray]:
        return np.where(rng.random(n) < 0.5, "s", "o"), rng.random(n)

    by, u = sample(1000)
    x = (u < 0.5).astype(float)
    share = np.where(by == "s", 0.8, 0.2)
    logp_target = np.log(np.where(x == 1, share, 1 - share))
    y = 2 * x + rng.normal(size=1000)
    side, v = sample(800)
    drawn = (v < np.where(side == "s", 0.8, 0.2)).astype(float)[:, None]
    columns = {"logp_target": logp_target, "logp_logging": np.full(1000, np.log(0.5)), "by": by}
    est = DoublyRobust(Ridge())
    lost = est.fit(x[:, None], y, X_target=drawn, **columns).result_by_
    assert [v.level for v in lost.verdicts] == ["do not use"] * 2
    assert all("differs between subgroups" in " ".join(v.reasons) for v in lost.verdicts)
    told = est.fit(x[:, None], y, X_target=TargetSample(drawn, by=side), **columns).result_by_
    truth = {"o": 0.4, "s": 1.6}
    for name, value, se in zip(told.names, told.values, told.se, strict=True):
        assert abs(value - truth[name[-1]]) < 4 * se
    same = {**columns, "logp_target": np.full(1000, np.log(0.5))}
    alike = (rng.random(800) < 0.5).astype(float)[:, None]
    fine = est.fit(x[:, None], y, X_target=alike, **same).result_by_
    assert [v.level for v in fine.verdicts] == ["caution"] * 2
    assert "writes alike in every one" in " ".join(fine.verdicts[0].reasons)


def test_a_subgroup_far_from_the_others_has_its_own_scale() -> None:
    """Its weights are exp(-5000) of the others': they must not vanish before normalisation."""
    target = logp()["logp_target"] - np.where(BY == "hot", 5000.0, 0.0)
    far = DoublyRobust(Ridge()).fit(
        X, Y, by=BY, X_target=DRAWS, logp_target=target, logp_logging=density(X, 0.0)
    )
    near = DoublyRobust(Ridge()).fit(X, Y, by=BY, X_target=DRAWS, **logp())
    np.testing.assert_allclose(far.result_by_.values, near.result_by_.values, rtol=1e-9)
    np.testing.assert_allclose(far.result_by_.se, near.result_by_.se, rtol=1e-9)


@pytest.mark.parametrize("influence", ["keep", "drop"])
def test_repeated_splits_are_their_median_and_spread(influence: str) -> None:
    singles = []
    for r in range(3):
        one = DoublyRobust(Ridge(), n_rep=3)
        one.fit(X, Y, X_target=DRAWS, **logp())
        one.splits_ = (one.splits_[r],)
        singles.append(one.evaluate(density(X, 0.4), DRAWS))
    est = DoublyRobust(Ridge(), n_rep=3, influence=influence)
    result = est.fit(X, Y, X_target=DRAWS, **logp()).result_
    values = [s.value for s in singles]
    assert len(set(values)) == 3
    assert result.value == pytest.approx(np.median(values), rel=1e-12)
    assert result.se > np.std(values, ddof=1)
    assert result.se == pytest.approx(np.sqrt(np.mean([s.se for s in singles]) ** 2
                                              + np.var(values, ddof=1)), rel=0.02)  # fmt: skip


@pytest.mark.parametrize("groups", [None, GROUPS], ids=["rows", "clusters"])
def test_smoothed_weights_count_repeated_rows(groups: Any) -> None:
    s = np.random.default_rng(5).integers(1, 4, N)
    rows = np.repeat(np.arange(N), s)
    a = IPW("psis").fit(X, Y, sample_weight=s, groups=groups, **logp(1.0)).result_
    again = {k: v[rows] for k, v in logp(1.0).items()}
    b = (
        IPW("psis")
        .fit(X[rows], Y[rows], groups=None if groups is None else groups[rows], **again)
        .result_
    )
    assert a.value == pytest.approx(b.value, rel=1e-12)
    assert a.se == pytest.approx(b.se, rel=1e-12)
    assert a.bias_bound[0] == pytest.approx(b.bias_bound[0], rel=1e-10)
