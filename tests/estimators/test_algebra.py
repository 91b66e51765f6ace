"""Contrasts, sums, bands and tables of estimates that share rows, draws and clusters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from causal_lm_opt import IPW, DoublyRobust, OutcomeRegression, ValueEstimate
from causal_lm_opt.core import Clip
from causal_lm_opt.estimators._target import TargetSample

N, M, K = 200, 150, 4
RNG = np.random.default_rng(41)
X = RNG.normal(size=(N, 2))
Y = X @ [1.0, -1.0] + RNG.normal(size=N)
GROUPS = np.r_[np.arange(15), RNG.integers(0, 15, N - 15)]
REST = N - np.bincount(GROUPS)  # rows outside each cluster
DRAWS = RNG.normal(0.4, 1.0, size=(M, 2))
MEANS = np.array([0.0, 0.2, 0.4, -0.5])
NAMES = ["a", "b", "c", "<script>alert(1)</script>"]


def density(x: np.ndarray, mean: float) -> np.ndarray:
    return -0.5 * ((x - mean) ** 2).sum(axis=1) - 1.9


LOGGING = density(X, 0.0)
TARGET = {name: density(X, m) for name, m in zip(NAMES, MEANS, strict=True)}
SHARED = TargetSample(
    DRAWS,
    logp_target={name: density(DRAWS, m) for name, m in zip(NAMES, MEANS, strict=True)},
    logp_sampling=density(DRAWS, 0.4),
)


def policies(est: Any, groups: Any = None) -> ValueEstimate:
    second = {} if isinstance(est, IPW) else {"X_target": SHARED}
    return est.fit(X, Y, logp_target=TARGET, logp_logging=LOGGING, groups=groups, **second).result_


ESTIMATORS = [IPW(), IPW(Clip(1.2)), DoublyRobust(Ridge()), OutcomeRegression(Ridge())]


# ------------------------------------------------------------------------------ contrasts
@pytest.mark.parametrize("groups", [None, GROUPS], ids=["rows", "clusters"])
@pytest.mark.parametrize("est", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_variance_of_a_difference_is_that_of_the_influence_difference(
    est: Any, groups: Any
) -> None:
    r = policies(est, groups)
    diff = r["b"] - r["a"]
    assert diff.value == pytest.approx(r["b"].value - r["a"].value)
    phi = r["b"].influence - r["a"].influence
    if groups is None:
        variance = (phi**2).sum() / N / (N - 1)
    else:
        variance = 14 / 15 * ((np.bincount(groups, weights=phi) / REST) ** 2).sum()
    second = diff.influence_target
    if second is not None:
        np.testing.assert_allclose(
            second, r["b"].influence_target - r["a"].influence_target, atol=1e-12
        )
        variance += (second**2).sum() / M / (M - 1)
    assert diff.se == pytest.approx(np.sqrt(variance), rel=1e-10)
    cov = r.covariance()
    assert diff.se**2 == pytest.approx(cov[1, 1] + cov[0, 0] - 2 * cov[0, 1], rel=1e-9)


@pytest.mark.parametrize("est", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_an_estimate_minus_itself_is_nought(est: Any) -> None:
    one, again = policies(est), policies(est)
    gap = one - again
    np.testing.assert_allclose(gap.values, 0, atol=1e-12)
    np.testing.assert_allclose(gap.se, 0, atol=1e-12)


def test_estimators_on_the_same_rows_subtract_their_influence() -> None:
    ipw, dr = policies(IPW())["c"], policies(DoublyRobust(Ridge()))["c"]
    gap = ipw - dr
    phi, second = ipw.influence - dr.influence, dr.influence_target
    expected = (phi**2).sum() / N / (N - 1) + (second**2).sum() / M / (M - 1)
    assert gap.se == pytest.approx(np.sqrt(expected), rel=1e-10)
    assert gap.se < np.hypot(ipw.se, dr.se)
    assert gap.names == ("c",)


def test_draws_of_their_own_do_not_cancel() -> None:
    one = DoublyRobust(Ridge(), inference="influence")
    a = one.fit(X, Y, X_target=DRAWS, logp_target=TARGET["c"], logp_logging=LOGGING).result_
    b = one.evaluate(TARGET["c"], DRAWS[::-1] + 1e-9)
    gap = a - b
    draws = [np.var(r.influence_target, ddof=1) / M for r in (a, b)]
    assert gap.se == pytest.approx(np.sqrt(sum(draws)), rel=1e-6)


def test_prompts_shared_by_log_and_draws_are_one_sample() -> None:
    prompts = np.r_[np.arange(15), np.arange(15)]
    draws = np.random.default_rng(1).normal(0.4, 1, size=(30, 2))
    est = DoublyRobust(Ridge(), inference="influence")
    r = est.fit(
        X, Y, logp_target=TARGET["c"], logp_logging=LOGGING, groups=GROUPS,
        X_target=TargetSample(draws, groups=prompts),
    ).result_  # fmt: skip
    sums = np.bincount(GROUPS, weights=r.influence) / N
    frequency = r.samples[1].sample_weight
    assert frequency is not None
    second = np.bincount(prompts, weights=frequency * r.influence_target) / frequency.sum()
    moved = (sums + second) * N / REST  # draws of a prompt weigh as its rows
    assert r.se == pytest.approx(np.sqrt(14 / 15 * (moved**2).sum()), rel=1e-10)
    assert r.dof() == pytest.approx([N**2 / (np.bincount(GROUPS) ** 2).sum() - 1])


def test_rows_clustered_on_one_side_only_are_clustered() -> None:
    """Either order gives the clustered standard error; two clusterings are refused."""
    a, b = policies(IPW(), GROUPS)["a"], policies(IPW("ht"))["b"]
    assert (a - b).se == pytest.approx((b - a).se, rel=1e-12)
    phi = a.influence - b.influence
    clustered = 14 / 15 * ((np.bincount(GROUPS, weights=phi) / REST) ** 2).sum()
    assert (a - b).se == pytest.approx(np.sqrt(clustered))
    other = policies(IPW(), np.arange(N) // 10)["a"]
    with pytest.raises(ValueError, match="cluster the same rows differently"):
        _ = a - other


def test_bootstraps_of_different_size_both_count() -> None:
    few, more = (
        OutcomeRegression(Ridge(), inference="bootstrap", n_bootstrap=b, random_state=b)
        .fit(X, Y, X_target=DRAWS + b).result_
        for b in (20, 30)
    )  # fmt: skip
    for gap in (few - more, more - few):
        assert gap.se == pytest.approx(np.hypot(few.se, more.se), rel=1e-10)


# ------------------------------------------------------------------------------ + - *
def test_algebra() -> None:
    r = policies(DoublyRobust(Ridge()))
    a, b = r["a"], r["b"]
    np.testing.assert_allclose((a + b).value, a.value + b.value)
    np.testing.assert_allclose((2 * a - a).influence, a.influence)
    np.testing.assert_allclose((-a).confint()[::-1], -a.confint())
    assert (a + 3).value == a.value + 3
    assert (3 - a).value == pytest.approx(3 - a.value)
    assert (a + 3).se == a.se
    assert (a * -2).se == pytest.approx(2 * a.se)
    assert sum([a, b]).value == pytest.approx(a.value + b.value)
    mean = 0.25 * sum(r[i] for i in range(K))
    assert mean.se**2 == pytest.approx(r.covariance().sum() / 16)
    lin = r.linear(np.array([[1.0, -1.0, 0, 0], [0, 0.5, 0.5, 0]]), ["x", "y"])
    assert lin["x"].se == pytest.approx((a - b).se)
    gap = r - r["a"]
    assert gap.values[0] == 0
    assert gap.se[0] == pytest.approx(0, abs=1e-12)
    assert (r["a"] - r).se[1] == pytest.approx((a - b).se)
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="Cannot"):
            _ = a + bad
        with pytest.raises(ValueError, match="Cannot"):
            _ = a * bad
    with pytest.raises(TypeError):
        _ = a + "b"
    with pytest.raises(ValueError, match="Cannot combine"):
        _ = r.select([0, 1]) + r.select([0, 1, 2])


def test_bias_bounds_add_and_scale() -> None:
    r = policies(IPW(Clip(1.2)))
    assert (r.bias_bound[1:] > 0).all()
    gap = r["b"] - r["c"]
    assert gap.bias_bound[0] == pytest.approx(r.bias_bound[1] + r.bias_bound[2])
    assert (-3 * r["b"]).bias_bound[0] == pytest.approx(3 * r.bias_bound[1])


def test_getitem() -> None:
    r = policies(IPW())
    assert r["b"].value == r[1].value == r[-3].value == r.values[1]
    assert r["b"].confint().shape == (2,)
    assert r.confint().shape == (K, 2)
    assert r.influence.shape == (N, K)
    np.testing.assert_allclose(r.confint()[1], r["b"].confint(), rtol=1e-12)
    assert r["b"].names == ("b",)
    with pytest.raises(KeyError, match="subtract its result_, or name it as a policy"):
        r.compare("logging policy")
    with pytest.raises(KeyError, match=r"No policy named 'z'; there are \[.*\]\."):
        r["z"]
    with pytest.raises(IndexError):
        r[K]


# ------------------------------------------------------------------------------ compare
@pytest.mark.parametrize("groups", [None, GROUPS], ids=["rows", "clusters"])
@pytest.mark.parametrize("est", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_bands_contain_pointwise_intervals(est: Any, groups: Any) -> None:
    r = policies(est, groups)
    c = r.compare(n_sim=5000)
    for band, interval in (
        (c.bands, r.confint()),
        (c.contrast_bands, c.contrasts.confint()),
    ):
        assert (band[:, 0] <= interval[:, 0] + 1e-12).all()
        assert (band[:, 1] >= interval[:, 1] - 1e-12).all()
    assert len(c.contrasts.names) == K * (K - 1) // 2
    best = int(np.argmax(r.values))
    assert c.best == NAMES[best]
    np.testing.assert_array_equal(c.selected_interval, c.bands[best])
    np.testing.assert_array_equal(c.best_interval, [c.bands[:, 0].max(), c.bands[:, 1].max()])


def test_bands_of_one_contrast_are_not_below_the_pointwise_one() -> None:
    """Two perfectly correlated values: simulation noise must not make the band too narrow."""
    r = policies(IPW())
    twice = r.select([1, 1])
    for seed in range(10):
        c = twice.compare(n_sim=500, random_state=seed)
        assert c.critical_value >= 1.9599


def test_contrasts_are_antisymmetric() -> None:
    r = policies(DoublyRobust(Ridge()))
    ab = r.compare("a", n_sim=20_000).contrasts
    ba = r.compare("b", n_sim=20_000).contrasts
    one, other = ab["b - a"], ba["a - b"]
    assert one.value == pytest.approx(-other.value)
    assert one.se == pytest.approx(other.se)
    np.testing.assert_allclose(one.confint(), -other.confint()[::-1])
    assert r.compare(-1).contrasts.names[0] == f"a - {NAMES[3]}"
    frame = r.compare("a").to_frame()
    assert (frame["band_lower"] <= frame["ci_lower"]).all()
    with pytest.raises(ValueError, match="at least two"):
        r["a"].compare()
    with pytest.raises(KeyError):
        r.compare("nobody")


# ------------------------------------------------------------------------------ intervals
def test_multiplier_interval_is_near_normal_for_symmetric_influence() -> None:
    rng = np.random.default_rng(2)
    half = rng.normal(size=500)
    y = np.r_[half, -half]
    r = IPW().fit(np.zeros((1000, 1)), y).result_
    normal, boot = r.confint(), r.confint(method="multiplier", n_boot=8000)
    np.testing.assert_allclose(boot, normal, atol=0.05 * (normal[1] - normal[0]))
    np.testing.assert_array_equal(boot, r.confint(method="multiplier", n_boot=8000))
    assert (r.confint(method="multiplier", random_state=1) != boot).any()
    skewed = IPW().fit(np.zeros((200, 1)), rng.exponential(size=200) ** 2).result_
    low, high = skewed.confint(method="multiplier") - skewed.value
    assert high > -low  # leans to the long tail


def test_bernstein_is_for_plain_weights_and_true_bounds() -> None:
    y = (Y > 0).astype(float)
    logp = {"logp_target": TARGET["b"], "logp_logging": LOGGING}
    ht = IPW("ht").fit(X, y, **logp).result_
    terms = np.exp(TARGET["b"] - LOGGING) * y
    wide = (0.0, float(terms.max()) + 5)
    low, high = ht.confint(method="bernstein", bounds=wide)
    normal = ht.confint()
    assert low < normal[0] < normal[1] < high
    with pytest.raises(ValueError, match="do not hold"):
        ht.confint(method="bernstein", bounds=(0.0, float(terms.max()) - 0.01))
    with pytest.raises(ValueError, match="lower < upper"):
        ht.confint(method="bernstein", bounds=(wide[1], 0.0))
    with pytest.raises(ValueError, match="needs bounds"):
        ht.confint(method="bernstein")
    others = [
        IPW().fit(X, y, **logp).result_,
        IPW(Clip(2.0, normalize=False)).fit(X, y, **logp).result_,
        DoublyRobust(weights="ht").fit(X, y, X_target=DRAWS, **logp).result_,
        ht - 1.0,
        2 * ht,
        ht - ht,
    ]
    for other in others:
        with pytest.raises(ValueError, match="Horvitz-Thompson"):
            other.confint(method="bernstein", bounds=wide)
    dropped = IPW("ht", influence="drop").fit(X, y, **logp).result_
    with pytest.raises(ValueError, match="influence='keep'"):
        dropped.confint(method="bernstein", bounds=wide)
    mean = IPW().fit(X, y).result_.confint(method="bernstein", bounds=(0, 1))
    assert mean[0] < y.mean() < mean[1]


def test_bernstein_of_clusters_and_frequencies_is_wider() -> None:
    y = (Y > 0).astype(float)
    alone = IPW().fit(X, y).result_.confint(method="bernstein", bounds=(0, 1))
    clustered = IPW().fit(X, y, groups=GROUPS).result_.confint(method="bernstein", bounds=(0, 1))
    assert np.ptp(clustered) > np.ptp(alone)
    twice = IPW().fit(X, y, sample_weight=np.full(N, 2.0)).result_
    np.testing.assert_allclose(twice.confint(method="bernstein", bounds=(0, 1)), alone, rtol=0.2)


def test_levels_and_methods_are_checked() -> None:
    r = policies(IPW())
    for level in (0.0, 1.0, 95, np.nan):
        with pytest.raises(ValueError, match="level"):
            r.confint(level)
    with pytest.raises(ValueError, match="method="):
        r.confint(method="bca")  # type: ignore[arg-type]
    assert (np.ptp(r.confint(0.99), axis=1) > np.ptp(r.confint(0.9), axis=1)).all()


# ------------------------------------------------------------------------------ tables
@pytest.mark.parametrize("est", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_tables_hold_the_figures_and_escape_names(est: Any) -> None:
    r = policies(est)
    frame = r.to_frame()
    np.testing.assert_allclose(frame[["ci_lower", "ci_upper"]], r.confint())
    assert list(frame["policy"]) == NAMES
    for page in (r._repr_html_(), r.compare(n_sim=500)._repr_html_()):
        assert "<script" not in page
        assert "&lt;script&gt;" in page
    text = str(r.summary())
    for k in range(K):
        assert f"{r.values[k]:.4f}" in text
        assert f"{r.se[k]:.4f}" in text
    assert "No diagnostic sees" in text
    assert "a: " in repr(r)


def test_dropped_influence_says_so() -> None:
    r = policies(IPW(influence="drop"))
    kept = policies(IPW())
    np.testing.assert_allclose(r.se, kept.se, rtol=1e-12)
    np.testing.assert_allclose((2 * r).se, 2 * kept.se, rtol=1e-12)
    for act in (
        lambda: r.influence,
        r.covariance,
        r.compare,
        lambda: r - r,
        lambda: r.confint(method="multiplier"),
    ):
        with pytest.raises(ValueError, match="influence='keep'"):
            act()
