"""Known confounders: formulas of the freed outcome, of pairs, of generalised propensities."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import KFold
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures

from causal_lm_opt import IPW, DoublyRobust, OutcomeRegression, TargetSample
from causal_lm_opt.core import Clip
from causal_lm_opt.estimators._densities import fit_multinomial, fit_normal
from causal_lm_opt.estimators.deconfounding import Deconfounder
from causal_lm_opt.estimators.generalised_propensity import GeneralisedPropensity
from causal_lm_opt.estimators.observational import product_sample, text_and_reader
from causal_lm_opt.exceptions import NotIdentifiedError, OverlapError

RNG = np.random.default_rng(3)
N = 400
Z = RNG.normal(size=N)
X = (Z + RNG.normal(size=N))[:, None]
Y = X[:, 0] + 2 * Z + RNG.normal(size=N)
LOGP = {"logp_logging": -0.5 * X[:, 0] ** 2 / 2, "logp_target": -0.5 * (X[:, 0] - 0.5) ** 2 / 2}
EXACT = LinearRegression()


# ------------------------------------------------------------------------------ fit
def test_without_text_each_fold_is_least_squares_on_the_others() -> None:
    fitted = Deconfounder(cv=4).fit(Z, Y)
    used = ((fitted.effect_ + fitted.level_) / Z).round(10)  # the slope each row was given
    assert np.unique(used).size == 4
    for slope in np.unique(used):
        rest = used != slope
        assert slope == pytest.approx(np.polyfit(Z[rest], Y[rest], 1)[0], abs=1e-8)
    assert fitted.coef_names_ == ("z0",)
    assert not fitted.adjusted_for_text_


@pytest.mark.parametrize("kind", ["linear", "group"])
def test_additive_outcomes_without_noise_are_freed_exactly(kind: str) -> None:
    """y = 3x + h(z): what is left is 3x plus the mean of h, although x goes with z."""
    z = RNG.integers(0, 4, N)
    x = (z + RNG.normal(size=N))[:, None]
    h = np.array([0.0, 5.0, -2.0, 1.0])[z] if kind == "group" else 2.0 * z
    fitted = Deconfounder(kind, text_model=EXACT).fit(z, 3 * x[:, 0] + h, X=x)
    np.testing.assert_allclose(fitted.residual_, 3 * x[:, 0] + h.mean(), atol=1e-9)
    np.testing.assert_allclose(fitted.residual(z, 3 * x[:, 0] + h), fitted.residual_, atol=1e-9)
    assert fitted.effect_.mean() == pytest.approx(0.0, abs=1e-12)


def test_the_naive_fit_takes_the_text_for_the_confounder() -> None:
    """cov(x, z) / var(z) = 1, so that regressing y on z alone finds 2 + 1."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=20_000)
    x = (z + rng.normal(size=z.size))[:, None]
    y = x[:, 0] + 2 * z + rng.normal(size=z.size)
    naive = Deconfounder(adjust_for_text=False).fit(z, y, X=x)
    ours = Deconfounder().fit(z, y, X=x)
    assert abs(naive.coef_[0] - 3.0) < 4 * math.sqrt(naive.coef_cov_[0, 0])
    assert abs(ours.coef_[0] - 2.0) < 4 * math.sqrt(ours.coef_cov_[0, 0])
    # Robinson's variance: residual variance 1 over n var(z | x) = 1/2.
    assert ours.coef_cov_[0, 0] == pytest.approx(2.0 / z.size, rel=0.05)


@pytest.mark.parametrize("right", ["outcome", "confounder", "neither"])
def test_one_right_text_model_of_the_two_is_enough(right: str) -> None:
    """A linear text model: with E[y|x] or E[z|x] linear h is found, with both curved it is not."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=20_000)
    lean = x if right == "confounder" else x**2
    z = lean + rng.normal(size=x.size)
    y = (x if right == "outcome" else x**2) + 2 * z + rng.normal(size=x.size)
    if right == "outcome":  # E[y|x] = x + 2 x^2 is curved, but g is linear: that is what counts
        assert np.corrcoef(x, z)[0, 1] < 0.1
    found = Deconfounder(text_model=EXACT).fit(z, y, X=x[:, None])
    gap = abs(found.coef_[0] - 2.0) / math.sqrt(found.coef_cov_[0, 0])
    assert gap < 4 if right != "neither" else gap > 20


def test_texts_frames_and_categories() -> None:
    words = np.array(["good day", "bad day", "good night", "bad night"])
    kind = RNG.integers(0, 4, N)
    land = np.array(["A", "B", "C"])[np.where(RNG.random(N) < 0.5, kind, RNG.integers(0, 3, N)) % 3]
    frame = pd.DataFrame({"age": RNG.normal(size=N), "land": land})
    y = (kind % 2) + frame["age"].to_numpy() + 4.0 * (frame["land"] == "C")
    pipe = make_pipeline(CountVectorizer(), LinearRegression())
    fitted = Deconfounder(text_model=pipe).fit(frame, y, X=list(words[kind]))
    assert fitted.coef_names_ == ("age", "land=B", "land=C")
    np.testing.assert_allclose(fitted.coef_, [1.0, 0.0, 4.0], atol=1e-8)
    with pytest.raises(ValueError, match="which fit has not seen"):
        fitted.predict(frame.assign(land="D"))


def test_a_confounder_that_the_text_tells_is_not_identified() -> None:
    fitted = Deconfounder(text_model=EXACT).fit(Z, Y, X=X)
    assert fitted.unexplained_[0] == pytest.approx(0.5, abs=0.06)  # var(z | x) = 1/2
    with pytest.raises(NotIdentifiedError, match="z0 is known from the text"):
        Deconfounder(text_model=EXACT).fit(2 * X[:, 0] + 1, Y, X=X)


def test_shrunk_groups_are_empirical_bayes_means() -> None:
    """Balanced groups of r rows: effects are shrunk by tau^2 / (tau^2 + sigma^2 / r)."""
    group = np.repeat(np.arange(40), 10)
    effect = np.random.default_rng(2).normal(size=40)
    y = effect[group] + np.random.default_rng(3).normal(size=400) * 2
    fitted = Deconfounder("group-shrunk").fit(group, y)
    plain = Deconfounder("group").fit(group, y)
    slope = np.polyfit(plain.predict(group), fitted.predict(group), 1)[0]
    assert slope == pytest.approx(1 / (1 + 4 / 10), abs=0.12)  # the fold fits hold 8 of 10 rows
    assert fitted.predict([99])[0] == pytest.approx(-fitted.level_)
    nothing = Deconfounder("group-shrunk").fit(group, np.tile([1.0, -1.0], 200))
    np.testing.assert_allclose(nothing.effect_, 0.0, atol=1e-6)


def test_a_regressor_is_backfitted_beside_the_text() -> None:
    """h = z^2 goes with x = z^2 + noise: fitted alone it takes in half of the text's effect."""
    rng = np.random.default_rng(4)
    z = rng.normal(size=3000)
    x = (z**2 + rng.normal(size=3000))[:, None]
    y = x[:, 0] + 2 * z**2 + 0.3 * rng.normal(size=3000)
    curve = make_pipeline(PolynomialFeatures(3), LinearRegression())
    naive = Deconfounder(curve).fit(z, y)
    ours = Deconfounder(curve, text_model=EXACT, max_iter=30).fit(z, y, X=x)
    truth = 2 * (z**2 - np.mean(z**2))
    assert np.polyfit(truth, naive.effect_, 1)[0] == pytest.approx(1.5, abs=0.05)
    assert np.polyfit(truth, ours.effect_, 1)[0] == pytest.approx(1.0, abs=0.02)
    assert not hasattr(ours, "coef_")


def test_rows_of_weight_zero_and_row_order_do_not_matter() -> None:
    s = np.ones(N)
    s[:50] = 0.0
    some = Deconfounder().fit(Z, Y, X=X, sample_weight=s)
    rest = Deconfounder().fit(Z[50:], Y[50:], X=X[50:])
    np.testing.assert_allclose(some.residual_[50:], rest.residual_)
    order = np.random.default_rng(0).permutation(N)
    other = Deconfounder().fit(Z[order], Y[order], X=X[order])
    np.testing.assert_allclose(other.residual_, Deconfounder().fit(Z, Y, X=X).residual_[order])


def test_clusters_enter_the_coefficients_variance() -> None:
    """Each row ten times: as a cluster it counts once."""
    z, y, reader = np.repeat(Z, 10), np.repeat(Y, 10), np.repeat(np.arange(N), 10)
    one = Deconfounder().fit(Z, Y).coef_cov_[0, 0]
    many = Deconfounder().fit(z, y, groups=reader).coef_cov_[0, 0]
    assert many == pytest.approx(one, rel=0.02)
    assert Deconfounder().fit(z, y).coef_cov_[0, 0] == pytest.approx(one / 10, rel=0.05)


# ------------------------------------------------------------------------------ value
def test_the_stacked_term_is_the_derivative_times_the_coefficients_influence() -> None:
    fitted = Deconfounder().fit(Z, Y, X=X)
    stacked = fitted.value(IPW(), X, **LOGP)
    without = fitted.value(IPW(), X, inference="orthogonal", **LOGP)
    centred = Z - Z.mean()
    moved = IPW().fit(X, fitted.residual_ - 1e-3 * centred, **LOGP).value_
    derivative = (moved - stacked.value) / 1e-3
    extra = stacked.influence - without.influence
    share = np.sum(extra**2) / N**2
    assert share == pytest.approx(derivative**2 * fitted.coef_cov_[0, 0], rel=1e-6)
    own = IPW().fit(X, fitted.residual_, **LOGP).result_
    assert stacked.value == own.value
    np.testing.assert_allclose(without.influence, own.influence + fitted.effect_)


def test_freed_and_raw_values_subtract_row_by_row() -> None:
    """y - h(z) + its mean: without an effect of z the two values are nearly one."""
    z = RNG.normal(size=N)
    x = RNG.normal(size=(N, 1))
    y = x[:, 0] + RNG.normal(size=N)
    log = {"logp_logging": -0.5 * x[:, 0] ** 2, "logp_target": -0.5 * (x[:, 0] - 0.3) ** 2}
    raw = IPW().fit(x, y, **log).result_
    change = Deconfounder().fit(z, y, X=x).value(IPW(), x, **log) - raw
    assert change.se < 0.3 * raw.se
    assert not any("independent" in note for note in change.notes)


def test_several_policies_weights_and_draws() -> None:
    s = np.where(np.arange(N) % 7 == 0, 0.0, 2.0)
    policies = np.stack([LOGP["logp_target"], LOGP["logp_logging"]], axis=1)
    fitted = Deconfounder().fit(Z, Y, X=X, sample_weight=s)
    both = fitted.value(IPW(), X, logp_logging=LOGP["logp_logging"], logp_target=policies)
    one = fitted.value(IPW(), X, **LOGP)
    np.testing.assert_allclose(both.se[0], one.se)
    draws = RNG.normal(0.5, 1.4, (500, 1))
    dr = fitted.value(DoublyRobust(EXACT), X, X_target=draws, **LOGP)
    assert {sample.role for sample in dr.samples} == {"logged", "target"}
    assert "deconfounded" in dr.estimator
    plugged = fitted.value(OutcomeRegression(EXACT), X, X_target=draws)
    assert plugged.value == pytest.approx(dr.value, abs=0.3)


def test_a_regressors_value_is_bootstrapped_or_called_orthogonal() -> None:
    fitted = Deconfounder(KNeighborsRegressor(40)).fit(Z, Y)
    auto = fitted.value(IPW(), X, n_bootstrap=20, **LOGP)
    assert [s.role for s in auto.samples] == ["replicates"]
    assert auto.se == pytest.approx(
        fitted.value(IPW(), X, inference="orthogonal", **LOGP).se, rel=1
    )
    grouped = Deconfounder(KNeighborsRegressor(40)).fit(Z, Y, groups=np.arange(N) // 2)
    assert grouped.value(IPW(), X, n_bootstrap=20, **LOGP).se > 0
    with pytest.raises(ValueError, match="'bootstrap' or 'orthogonal'"):
        fitted.value(IPW(), X, inference="stacked", **LOGP)


@pytest.mark.parametrize(
    "settings, arguments, message",
    [
        ({"model": "cubic"}, {}, "model='cubic' is not known"),
        ({"adjust_for_text": True}, {}, "needs X"),
        ({"adjust_for_text": "yes"}, {}, "adjust_for_text must be"),
        ({"max_iter": 0}, {}, "max_iter must be"),
        ({"cv": 1}, {}, "at least 2 folds"),
        ({"model": "group"}, {"Z": np.zeros((N, 2))}, "one categorical column"),
        ({"model": "group"}, {"Z": np.arange(N)}, "lies in one fold whole"),
        ({"model": "group"}, {"Z": np.arange(N) % 9, "groups": np.arange(N) % 9}, "one fold whole"),
        ({}, {"Z": np.where(np.abs(Z) < 1, Z, np.nan)}, "missing or infinite"),
        ({}, {"Z": Z[:-1]}, "Z has 399 rows"),
        ({}, {"X": X[:-1]}, "X has 399 rows"),
        ({"model": HistGradientBoostingRegressor(max_iter=2), "cv": 2}, {"X": X}, "at least 3"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_bad_input(settings: dict[str, Any], arguments: dict[str, Any], message: str) -> None:
    given = {"Z": Z, "y": Y} | arguments
    with pytest.raises(ValueError, match=message):
        Deconfounder(**settings).fit(**given)


def test_value_refuses_what_it_cannot_carry() -> None:
    fitted = Deconfounder().fit(Z, Y)
    for arguments, message in [
        ({"inference": "exact"}, "is not known"),
        ({"sample_weight": np.ones(N)}, r"takes no \['sample_weight'\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            fitted.value(IPW(), X, **(LOGP | arguments))
    with pytest.raises(ValueError, match="influence='keep'"):
        fitted.value(IPW(influence="drop"), X, **LOGP)
    with pytest.raises(ValueError, match="without utility"):
        fitted.value(IPW(utility={1: 1.0}), X, **LOGP)
    with pytest.raises(TypeError, match="logp_targt"):
        fitted.value(IPW(), X, logp_targt=Y)
    with pytest.raises(TypeError, match="has no fit"):
        Deconfounder(3).fit(Z, Y)


# ------------------------------------------------------------------------------ pairs
def test_the_variance_over_pairs_is_that_of_the_two_projections() -> None:
    rng = np.random.default_rng(5)
    n, m = 30, 12
    x, z, y = rng.normal(size=(3, n))
    draws = rng.normal(size=m)
    pairs = product_sample(draws[:, None], z)
    assert pairs.size == n * m
    q = (draws[:, None] * z[None, :] + draws[:, None]) + z[None, :]  # (m, n)
    weights = rng.normal(size=n) / 4 - 3
    est = DoublyRobust().fit(
        text_and_reader(x[:, None], z), y, logp_target=weights, logp_logging=np.full(n, -3.0),
        X_target=pairs.sample, q_logged=np.zeros(n), q_target=q[pairs.draw, pairs.reader],
    )  # fmt: skip
    right = pairs.adjust(est.result_)
    assert right.value == est.value_ == pytest.approx(right.value)
    w = np.exp(weights + 3)
    logged = w * (y - np.sum(w * y) / w.sum()) / w.mean() + q.mean(axis=0) - q.mean()
    expected = logged @ logged / (n * (n - 1)) + q.mean(axis=1).var(ddof=1) / m
    assert right.se**2 == pytest.approx(expected)
    np.testing.assert_allclose(right.influence_target, q.mean(axis=1) - q.mean())


def test_sampled_pairs_are_balanced_seeded_and_of_the_stated_size() -> None:
    a, b = (product_sample(np.arange(20.0)[:, None], np.arange(50.0), size=300) for _ in "ab")
    np.testing.assert_array_equal(a.draw, b.draw)
    assert a.size == 300
    assert set(np.bincount(a.reader)) == {6}
    assert set(np.bincount(a.draw)) == {15}
    other = product_sample(np.arange(20.0)[:, None], np.arange(50.0), size=300, random_state=1)
    assert (other.draw != a.draw).any()
    large = product_sample(np.zeros((1000, 1)), np.zeros(300))
    assert large.size == 10_200  # ten times the larger, rounded up to whole rounds of readers


def test_weighted_readers_and_a_known_support() -> None:
    """A reader of weight 2 is two readers; the whole support brings no error of draws."""
    rng = np.random.default_rng(6)
    x, z, y = rng.normal(size=(3, 40))
    s = np.array([0.0, 1.0, 2.0, 3.0] * 10)
    rows = np.repeat(np.arange(40), s.astype(int))
    support = TargetSample(np.array([[0.0], [1.0]]), weight=[0.25, 0.75], exact=True)

    def value(i: Any, weight: Any) -> Any:
        pairs = product_sample(support, z[i], sample_weight=weight)
        est = OutcomeRegression(LinearRegression()).fit(
            text_and_reader(x[i][:, None], z[i]), y[i], X_target=pairs.sample, sample_weight=weight
        )
        return pairs.adjust(est.result_)

    weighted, repeated = value(slice(None), s), value(rows, None)
    assert [r.role for r in weighted.samples] == ["logged"]
    assert weighted.value == pytest.approx(repeated.value)
    q = LinearRegression().fit(text_and_reader(x[rows][:, None], z[rows]), y[rows])
    assert weighted.value == pytest.approx(q.predict([[0.75, z[rows].mean()]])[0])
    drawn = product_sample(TargetSample(rng.normal(size=(9, 1)), weight=[2, 1, 1] * 3), z)
    np.testing.assert_allclose(
        drawn.sample.weight.sum() / drawn.size, 1.0
    )  # frequencies of pairs, whatever the scale of the draws' weights


def test_pairs_of_texts_and_frames_and_their_errors() -> None:
    frame = pd.DataFrame({"age": [20.0, 30.0], "land": ["A", "B"]})
    pairs = product_sample(["hi", "ho"], frame)
    assert pairs.sample.X.to_dict("list") == {
        "text": ["hi", "ho", "hi", "ho"], "age": [20, 20, 30, 30], "land": ["A", "A", "B", "B"],
    }  # fmt: skip
    with pytest.raises(ValueError, match="both have the columns"):
        text_and_reader(frame, frame)
    with pytest.raises(ValueError, match="X has 2 rows"):
        text_and_reader(["a", "b"], [1.0])
    with pytest.raises(ValueError, match="logp_sampling"):
        product_sample(TargetSample([[1.0]], logp_sampling=[-1.0]), Z)
    with pytest.raises(ValueError, match="size must be"):
        product_sample([[1.0]], Z, size=0)
    support = TargetSample([[0.0], [1.0]], weight=[0.5, 0.5], exact=True)
    with pytest.raises(ValueError, match="crossed whole"):
        product_sample(support, Z, size=N)
    with pytest.raises(ValueError, match="not the"):
        pairs.adjust(OutcomeRegression().fit(X, Y, X_target=X[:9]).result_)
    with pytest.raises(ValueError, match="one product"):
        pairs.adjust(IPW().fit(X, Y, **LOGP).result_)


# ------------------------------------------------------------------------------ propensity
def _cells() -> tuple[Any, ...]:
    rng = np.random.default_rng(7)
    z = rng.choice(["a", "b", "c"], size=600, p=[0.5, 0.3, 0.2])
    p = {"a": [0.6, 0.3, 0.1], "b": [0.2, 0.5, 0.3], "c": [0.3, 0.3, 0.4]}
    t = np.array([rng.choice(3, p=p[k]) for k in z])
    y = t * (1.0 + (z == "b")) + 2.0 * (z == "c") + rng.normal(size=600)
    return z, t, y, rng.choice(3, size=90, p=[0.1, 0.2, 0.7])


def test_a_saturated_propensity_is_standardisation_over_readers() -> None:
    r"""Cells: V = sum_z P(z) sum_t P_f(t) ybar(t, z), with that estimate's own influence."""
    z, t, y, draws = _cells()
    result = GeneralisedPropensity().fit(t, z, draws).value(IPW("ht"), t[:, None], y)
    share = np.bincount(draws, minlength=3) / draws.size
    table = pd.DataFrame({"z": z, "t": t, "y": y}).groupby(["z", "t"])["y"].mean().unstack()
    readers = pd.Series(z).value_counts(normalize=True)[table.index].to_numpy()
    assert result.value == pytest.approx(readers @ table.to_numpy() @ share, abs=1e-6)

    given = pd.crosstab(pd.Series(z), pd.Series(t), normalize="index")
    cell = np.array([table.loc[a, b] for a, b in zip(z, t, strict=True)])
    p = np.array([given.loc[a, b] for a, b in zip(z, t, strict=True)])
    own = share[t] / p * (y - cell) + table.loc[z].to_numpy() @ share - result.value
    np.testing.assert_allclose(result.influence, own, atol=1e-4)
    column = readers @ table.to_numpy()
    np.testing.assert_allclose(result.influence_target, column[draws] - result.value, atol=1e-6)


def test_hajek_and_known_shares() -> None:
    z, t, y, draws = _cells()
    share = np.bincount(draws, minlength=3) / draws.size
    known = TargetSample([0, 1, 2], weight=share, exact=True)
    a = GeneralisedPropensity().fit(t, z, draws).value(IPW(), t[:, None], y)
    b = GeneralisedPropensity().fit(t, z, known).value(IPW(), t[:, None], y)
    assert a.value == pytest.approx(b.value)
    np.testing.assert_allclose(a.influence, b.influence, atol=1e-8)
    assert b.influence_target is None
    assert a.se > b.se


def test_normal_densities_and_scores() -> None:
    rng = np.random.default_rng(8)
    z = rng.normal(size=(200, 2))
    t = z @ [[1.0, 0.5], [0.0, 2.0]] + rng.normal(size=(200, 2)) @ [[0.1, 0.02], [0.0, 0.3]]
    fitted = GeneralisedPropensity().fit(t, z, t[:50] + 0.1)
    design = np.column_stack([np.ones(200), z])
    law = fit_normal(t, design, None)
    scipy = [stats.multivariate_normal(d @ law.coef, law.covariance).logpdf(v)
             for d, v in zip(design, t, strict=True)]  # fmt: skip
    np.testing.assert_allclose(law.log_prob(t, design), scipy)
    np.testing.assert_allclose(law.score(t, design).sum(axis=0), 0.0, atol=1e-8)
    difference = fitted.logp_logging_ - scipy
    np.testing.assert_allclose(difference, difference[0])  # one constant
    assert fitted.logp_logging_.max() <= 0
    again = fitted.log_probs(t, z)
    np.testing.assert_allclose(again["logp_target"], fitted.logp_target_)
    moved = law.covariance.copy()
    moved[0, 1] = moved[1, 0] = moved[0, 1] + 1e-7
    slope = (type(law)(law.coef, moved).log_prob(t, design) - law.log_prob(t, design)) / 1e-7
    np.testing.assert_allclose(law.score(t, design)[:, -2], slope, rtol=1e-3, atol=1e-2)


def test_multinomial_scores() -> None:
    z, t, _, _ = _cells()
    design = np.column_stack([np.ones(600), z == "b", z == "c"]).astype(float)
    for classes, codes in [(3, t), (2, np.minimum(t, 1))]:
        law = fit_multinomial(codes, classes, design, None)
        np.testing.assert_allclose(law.score(codes, design).sum(axis=0), 0.0, atol=1e-3)
        cells = pd.crosstab(pd.Series(z), pd.Series(codes), normalize="index")
        expected = [math.log(cells.loc[a, b]) for a, b in zip(z, codes, strict=True)]
        np.testing.assert_allclose(law.log_prob(codes, design), expected, atol=1e-4)


def test_weights_mean_repeated_rows_in_propensities() -> None:
    z, t, y, draws = _cells()
    s = np.where(np.arange(600) % 3 == 0, 2.0, 1.0)
    s[5] = 0.0
    rows = np.repeat(np.arange(600), s.astype(int))
    one = GeneralisedPropensity().fit(t, z, draws, sample_weight=s).value(IPW(), t[:, None], y)
    two = GeneralisedPropensity().fit(t[rows], z[rows], draws)
    two = two.value(IPW(), t[rows][:, None], y[rows])
    assert one.value == pytest.approx(two.value, abs=1e-6)
    assert one.se == pytest.approx(two.se, rel=1e-5)


def test_a_classifier_gives_cross_fitted_probabilities() -> None:
    z, t, y, draws = _cells()
    fitted = GeneralisedPropensity(LogisticRegression(C=1e6)).fit(t, z, draws)
    exact = GeneralisedPropensity().fit(t, z, draws)
    np.testing.assert_allclose(fitted.logp_logging_, exact.logp_logging_, atol=0.3)
    again = fitted.log_probs(t, z)["logp_logging"]
    np.testing.assert_allclose(again, exact.logp_logging_, atol=0.02)
    result = fitted.value(IPW(), t[:, None], y)
    assert "as known" in result.notes[-1]
    grouped = GeneralisedPropensity(LogisticRegression()).fit(
        t, z, draws, groups=np.arange(600) // 3
    )
    assert grouped.value(IPW(), t[:, None], y).se > 0


def test_doubly_robust_with_pairs_and_errors() -> None:
    z, t, y, draws = _cells()
    fitted = GeneralisedPropensity().fit(t, z, draws)
    indicator = (z[:, None] == ["b", "c"]).astype(float)
    pairs = product_sample(draws[:, None].astype(float), indicator)
    joint = text_and_reader(t[:, None].astype(float), indicator)
    dr = fitted.value(DoublyRobust(LinearRegression()), joint, y, product=pairs)
    ipw = fitted.value(IPW(), joint, y, product=pairs)
    assert dr.value == pytest.approx(ipw.value, abs=0.1)
    assert len(dr.samples) == len(ipw.samples) == 2
    assert {s.key for s in dr.samples} == {s.key for s in ipw.samples}  # contrasts go by row
    assert (dr - ipw).se < 0.5 * ipw.se
    with pytest.raises(OverlapError, match="never logged"):
        GeneralisedPropensity().fit(t, z, [0, 1, 9])
    with pytest.raises(ValueError, match="cross the same"):
        fitted.value(IPW(), joint, y, product=product_sample(draws[:5, None], indicator))
    with pytest.raises(ValueError, match="takes no"):
        fitted.value(IPW(), joint, y, logp_target=y)
    with pytest.raises(ValueError, match="are transformed"):
        fitted.value(IPW(Clip(3.0)), joint, y)
    with pytest.raises(ValueError, match="no spread"):
        GeneralisedPropensity().fit(Z * 2.0, Z, Z)
    with pytest.raises(TypeError, match="predict_proba"):
        GeneralisedPropensity(LinearRegression()).fit(t, z, draws)
    with pytest.raises(ValueError, match="is not known"):
        GeneralisedPropensity("kernel").fit(t, z, draws)
    with pytest.raises(ValueError, match="summing to 1"):
        GeneralisedPropensity().fit(t, z, TargetSample([0, 1], weight=[0.5, 0.6], exact=True))


def test_a_callers_splits_name_the_rows_of_fit_and_rows_of_weight_0_do_not_count():
    rng = np.random.default_rng(3)
    z = rng.normal(size=(40, 2))
    y = z @ [1.0, 2.0] + rng.normal(size=40)
    weight = np.r_[0.0, np.ones(39)]
    splits = list(KFold(4).split(z))
    found = Deconfounder(cv=splits).fit(z, y, sample_weight=weight)
    kept = [(train[train > 0] - 1, test[test > 0] - 1) for train, test in splits]
    alone = Deconfounder(cv=kept).fit(z[1:], y[1:])
    np.testing.assert_allclose(found.coef_, alone.coef_, rtol=1e-12)
