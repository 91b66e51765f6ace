"""The best of many, its regret, joint tables, and the choice of a transform's strength.

Estimates with a known normal distribution stand for fitted ones where calibration is tested:
`normal_estimate` has exactly the covariance wanted.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression

from causal_lm_opt import IPW, Clip, DoublyRobust, ValueEstimate
from causal_lm_opt.diagnostics.verdict import Verdict
from causal_lm_opt.influence import InfluenceSample
from causal_lm_opt.joint import compare_estimates, join_estimates
from causal_lm_opt.selection import probability_best, regret_upper_bound
from causal_lm_opt.simulation import GaussianDesign
from causal_lm_opt.strength import choose_strength

ROWS = 64


def normal_estimate(
    values: Any, covariance: Any, *, bias: Any = 0.0, clusters: int = 0
) -> ValueEstimate:
    """An estimate whose influence functions have exactly this covariance."""
    values, covariance = np.asarray(values, dtype=float), np.asarray(covariance, dtype=float)
    k, n = values.size, clusters or ROWS
    base = np.linalg.qr(np.random.default_rng(0).normal(size=(n, k + 1)) + np.eye(n, k + 1))[0]
    base = np.linalg.qr(np.column_stack([np.ones(n), base[:, :k]]))[0][:, 1:]  # means 0
    influence = base @ np.linalg.cholesky(covariance).T * math.sqrt(n * (n - 1))
    codes = np.arange(n) if clusters else None
    return ValueEstimate(
        values=values,
        names=tuple(f"p{i}" for i in range(k)),
        samples=(InfluenceSample("rows", "logged", influence, codes=codes, n_clusters=clusters),),
        estimator="normal",
        bias_bound=np.broadcast_to(np.asarray(bias, dtype=float), (k,)),
        verdicts=(Verdict("trustworthy"),) * k,
        scalar=False,
    )


def covariance_of(k: int, seed: int) -> np.ndarray:
    root = np.random.default_rng(seed).normal(size=(k, k)) + np.eye(k)
    return np.asarray(root @ root.T / k)


def test_the_stand_in_has_the_covariance_wanted() -> None:
    wanted = covariance_of(4, 1)
    assert normal_estimate(np.zeros(4), wanted).covariance() == pytest.approx(wanted, abs=1e-12)
    clustered = normal_estimate(np.zeros(4), wanted, clusters=12)
    assert clustered.covariance() == pytest.approx(wanted, abs=1e-12)
    assert clustered.dof() == pytest.approx(np.full(4, 11.0))


# ---------------------------------------------------------------- probability of being best
def test_two_policies_by_the_normal_distribution() -> None:
    cov = np.array([[0.5, 0.3], [0.3, 0.9]])
    found = probability_best(normal_estimate([1.0, 0.6], cov))
    exact = stats.norm.cdf(0.4 / math.sqrt(0.5 + 0.9 - 0.6))
    assert found["prob_best"][0] == pytest.approx(exact, abs=4 * found["mc_se"][0])
    assert found["prob_best"].sum() == pytest.approx(1.0)


def test_three_policies_by_the_orthant_probability() -> None:
    cov, values = covariance_of(3, 2), np.array([0.3, 0.0, 0.1])
    found = probability_best(normal_estimate(values, cov))["prob_best"].to_numpy()
    for k in range(3):
        others = [j for j in range(3) if j != k]
        contrast = np.zeros((2, 3))
        contrast[:, k] = -1.0
        contrast[[0, 1], others] = 1.0
        exact = stats.multivariate_normal.cdf(
            np.zeros(2), contrast @ values, contrast @ cov @ contrast.T
        )
        assert found[k] == pytest.approx(exact, abs=0.01)


def test_equal_policies_share_the_probability() -> None:
    found = probability_best(normal_estimate(np.zeros(5), np.eye(5)))["prob_best"]
    assert found.to_numpy() == pytest.approx(np.full(5, 0.2), abs=0.01)
    # the same policy twice: ties are shared, not given to the first
    twin = normal_estimate([1.0, 0.0], np.eye(2)).select([0, 0, 1])
    assert probability_best(twin)["prob_best"][0] == probability_best(twin)["prob_best"][1]


def test_few_clusters_are_less_sure() -> None:
    cov = np.eye(2)
    many = probability_best(normal_estimate([2.5, 0.0], cov))["prob_best"][0]
    few = probability_best(normal_estimate([2.5, 0.0], cov, clusters=4))["prob_best"][0]
    assert few == pytest.approx(stats.t(3).cdf(2.5 / math.sqrt(2)), abs=0.01)
    assert few < many - 0.02


def test_a_bound_on_bias_widens_the_probability() -> None:
    found = probability_best(normal_estimate([0.5, 0.0], np.eye(2), bias=[0.2, 0.1]))
    spread = math.sqrt(2)
    assert found["lowest"][0] == pytest.approx(stats.norm.cdf(0.2 / spread), abs=0.01)
    assert found["highest"][0] == pytest.approx(stats.norm.cdf(0.8 / spread), abs=0.01)


def calibration(spread: float, replications: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """Stated probability that the first-ranked policy is best, and whether it is."""
    rng, cov = np.random.default_rng(3), covariance_of(4, 4)
    root = np.linalg.cholesky(cov)
    template = normal_estimate(np.zeros(4), cov)
    stated, right = np.zeros(replications), np.zeros(replications)
    for b in range(replications):
        truth = spread * rng.normal(size=4)
        values = truth + root @ rng.normal(size=4)
        estimate = normal_like(template, values)
        found = probability_best(estimate, n_sim=500, random_state=b)["prob_best"].to_numpy()
        first = int(np.argmax(values))
        stated[b], right[b] = found[first], float(first == int(np.argmax(truth)))
    return stated, right


def normal_like(template: ValueEstimate, values: np.ndarray) -> ValueEstimate:
    return replace(template, values=values)


def test_it_is_calibrated_under_a_flat_prior_and_not_for_near_equal_policies() -> None:
    """Values far apart compared with the errors: of choices given 80 %, 80 % are right.

    1,000 replications in four bins of at least 40: within 4 standard errors.
    """
    stated, right = calibration(spread=10.0)
    for low, high in ((0.4, 0.7), (0.7, 0.9), (0.9, 0.99), (0.99, 1.01)):
        bin_ = (stated >= low) & (stated < high)
        assert bin_.sum() >= 40
        error = math.sqrt(max(0.25 * 0.1, stated[bin_].mean() * (1 - stated[bin_].mean())))
        gap = abs(right[bin_].mean() - stated[bin_].mean())
        assert gap < 4 * error / math.sqrt(bin_.sum())
    # negative control: policies that hardly differ are right less often than stated
    stated, right = calibration(spread=0.2, replications=400)
    assert right.mean() < stated.mean() - 0.1


# ---------------------------------------------------------------- regret
def naive_regret(values: np.ndarray, cov: np.ndarray, chosen: int) -> float:
    """Upper bound with the one-sided pointwise quantile, no allowance for the choice."""
    se = np.sqrt(np.diag(cov) + cov[chosen, chosen] - 2 * cov[:, chosen])
    return float(max(0.0, np.max(values - values[chosen] + 1.645 * se)))


@pytest.mark.parametrize("spread", [0.0, 2.0])
def test_the_regret_of_the_largest_estimate_is_bounded(spread: float) -> None:
    """400 replications: a right .95 stays within 3.3 sqrt(.95 .05 / 400) = .036."""
    rng, k, reps = np.random.default_rng(5), 8, 400
    cov = covariance_of(k, 6)
    root, template = np.linalg.cholesky(cov), normal_estimate(np.zeros(k), cov)
    truth = spread * np.linspace(0.0, 1.0, k)
    covered = contains = any_choice = 0
    margin_rng = np.random.default_rng(7)
    for b in range(reps):
        values = truth + root @ rng.normal(size=k)
        estimate = normal_like(template, values)
        found = regret_upper_bound(estimate, n_sim=1000, random_state=b)
        regret = truth.max() - truth[int(np.argmax(values))]
        covered += regret <= found.bound + 1e-12
        contains += f"p{k - 1}" in found.candidates
        other = int(margin_rng.integers(k))
        loose = regret_upper_bound(estimate, other, n_sim=1000, random_state=b)
        any_choice += truth.max() - truth[other] <= loose.bound + 1e-12
    slack = 3.3 * math.sqrt(0.95 * 0.05 / reps)
    assert covered / reps >= 0.95 - slack
    assert any_choice / reps >= 0.95 - slack
    assert contains / reps >= 0.95 - slack


def test_two_policies_by_the_one_sided_interval() -> None:
    cov = np.array([[1.0, 0.2], [0.2, 1.0]])
    found = regret_upper_bound(normal_estimate([0.5, 0.0], cov))
    exact = -0.5 + stats.norm.ppf(0.95) * math.sqrt(1.6)
    assert found.bound == pytest.approx(exact, abs=0.03)
    assert found.candidates == ("p0", "p1")
    clear = regret_upper_bound(normal_estimate([9.0, 0.0], cov))
    assert (clear.bound, clear.candidates) == (0.0, ("p0",))
    worst = regret_upper_bound(normal_estimate([9.0, 0.0], cov), "p1")
    assert worst.bound == pytest.approx(9.0 + stats.norm.ppf(0.95) * math.sqrt(1.6), abs=0.03)


def test_it_is_tighter_than_all_pairs_and_wider_than_no_allowance() -> None:
    cov, values = covariance_of(10, 8), np.linspace(0, 1, 10)
    estimate = normal_estimate(values, cov)
    found = regret_upper_bound(estimate).bound
    compared = estimate.compare()
    chosen = int(np.argmax(values))
    se = np.sqrt(np.diag(cov) + cov[chosen, chosen] - 2 * cov[:, chosen])
    pairs = np.max(values - values[chosen] + compared.contrast_critical_value * se)
    assert naive_regret(values, cov, chosen) < found < 0.95 * pairs
    assert compared.regret_bound().bound == found
    assert compared.prob_best().equals(probability_best(estimate))


def test_bias_adds_to_the_regret() -> None:
    plain = regret_upper_bound(normal_estimate([0.5, 0.0], np.eye(2)))
    biased = regret_upper_bound(normal_estimate([0.5, 0.0], np.eye(2), bias=[0.2, 0.1]))
    assert biased.bound == pytest.approx(plain.bound + 0.3)


def test_one_policy_has_no_rival() -> None:
    one = normal_estimate([1.0], [[1.0]])
    with pytest.raises(ValueError, match="at least two"):
        probability_best(one)
    with pytest.raises(ValueError, match="two policies"):
        regret_upper_bound(one)
    with pytest.raises(ValueError, match="level"):
        regret_upper_bound(normal_estimate([1.0, 2.0], np.eye(2)), level=95)


# ---------------------------------------------------------------- joint tables
def two_policies(n: int, seed: int) -> dict[str, ValueEstimate]:
    """IPW, clipped IPW and DR of two policies on one log."""
    design = GaussianDesign("linear", shift=0.5)
    log = design.draw(n, np.random.default_rng(seed))
    near = GaussianDesign("linear", shift=0.2)
    logging = log.log_probs["logp_logging"]
    to = {"near": logging + 0.0, "far": log.log_probs["logp_target"]}
    to["near"] = -0.5 * ((log.X - near.mean_target) ** 2).sum(axis=1) - 1.5 * np.log(2 * np.pi)
    rng = np.random.default_rng(seed + 1)
    draws = {
        "near": near.mean_target + rng.normal(size=(2 * n, 3)),
        "far": design.mean_target + rng.normal(size=(2 * n, 3)),
    }
    probs = {"logp_target": to, "logp_logging": logging}
    dr = DoublyRobust(LinearRegression(), inference="influence")
    return {
        "Hajek": IPW().fit(log.X, log.y, **probs).result_,
        "clipped": IPW(Clip(2.0)).fit(log.X, log.y, **probs).result_,
        "DR": dr.fit(log.X, log.y, X_target=draws, **probs).result_,
    }


def test_joined_estimates_keep_their_correlations() -> None:
    fits = two_policies(300, 10)
    joint = join_estimates(fits)
    assert joint.names[:3] == ("Hajek: near", "Hajek: far", "clipped: near")
    by_subtraction = fits["DR"]["far"] - fits["Hajek"]["far"]
    contrast = np.zeros((1, 6))
    contrast[0, [5, 1]] = 1.0, -1.0
    joined = joint.linear(contrast, ["difference"])
    assert joined.values[0] == pytest.approx(by_subtraction.value)
    assert joined.se[0] == pytest.approx(by_subtraction.se)
    for label, estimate in fits.items():
        rows = [i for i, name in enumerate(joint.names) if name.startswith(f"{label}:")]
        block = joint.covariance()[np.ix_(rows, rows)]
        assert block == pytest.approx(estimate.covariance(), abs=1e-15)
        assert joint.bias_bound[rows].tolist() == estimate.bias_bound.tolist()


def test_separate_logs_are_independent() -> None:
    one, other = two_policies(100, 11)["Hajek"], two_policies(100, 12)["Hajek"]
    joint = join_estimates({"first": one, "second": other})
    assert joint.covariance()[:2, 2:] == pytest.approx(np.zeros((2, 2)))


def test_clusters_join() -> None:
    rng = np.random.default_rng(13)
    x, groups = rng.normal(size=200), np.repeat(np.arange(20), 10)
    probs = {"logp_logging": -(x**2) / 2 - 1, "logp_target": -((x - 0.3) ** 2) / 2 - 1}
    fits = {w: IPW(w).fit(x[:, None], x, groups=groups, **probs).result_ for w in ("ht", "hajek")}
    joint = join_estimates(fits)
    assert joint.dof() == pytest.approx([19.0, 19.0])
    assert (joint["ht"] - joint["hajek"]).se == pytest.approx((fits["ht"] - fits["hajek"]).se)


def test_one_table_of_policies_and_estimators() -> None:
    fits = two_policies(300, 14)
    table = compare_estimates(fits, reference="near")
    assert table.shape[0] == 6
    assert list(table["label"]) == ["Hajek"] * 2 + ["clipped"] * 2 + ["DR"] * 2
    assert list(table["policy"]) == ["near", "far"] * 3
    assert (table["band_upper"] > table["ci_upper"]).all()
    assert table.groupby("label")["prob_best"].sum().to_numpy() == pytest.approx(np.ones(3))
    difference = fits["DR"]["far"] - fits["DR"]["near"]
    assert table["difference"].iloc[5] == pytest.approx(difference.value)
    assert table["difference"].isna().tolist() == [True, False] * 3
    half = (table["difference_upper"] - table["difference_lower"]).iloc[5] / 2
    assert half > 1.96 * difference.se  # simultaneous over the three
    alone = compare_estimates({label: fit["far"] for label, fit in fits.items()})
    assert alone["prob_best"].isna().all()


def test_what_cannot_be_joined_is_named() -> None:
    fits = two_policies(60, 15)
    with pytest.raises(ValueError, match="empty"):
        join_estimates({})
    with pytest.raises(TypeError, match="not a ValueEstimate"):
        join_estimates({"a": 3.0})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="has no policy 'nowhere'"):
        compare_estimates(fits, reference="nowhere")
    with pytest.raises(ValueError, match="besides the reference"):
        compare_estimates({"a": fits["DR"]["near"]}, reference="near")


# ---------------------------------------------------------------- strength of a transform
def test_the_last_interval_that_meets_all_earlier_ones() -> None:
    """Published rule: with c = 2.5 the intervals are -2.5 to 2.5, -.9 to 1.1, .95 to 1.45, 0 to .2;
    the third meets the second, but a point of the fourth and the third is not to be had.
    """
    se = np.array([0.5, 0.2, 0.05, 0.02])
    joint = normal_estimate([0.0, 0.1, 1.2, 0.1], np.diag(se**2))
    fits = {f"s{i}": joint[i] for i in range(4)}
    choice = choose_strength(fits, rule="slope")
    c = choice.critical_value
    assert c == pytest.approx(stats.norm.ppf((1 + 0.95 ** (1 / 4)) / 2), abs=0.03)
    lower, upper = joint.values - 2 * c * se, joint.values + 2 * c * se
    meets = [max(lower[: i + 1]) <= min(upper[: i + 1]) for i in range(4)]
    assert choice.table["agrees"].tolist() == meets == [True, True, True, False]
    assert choice.label == "s2"
    assert choice.interval == pytest.approx(1.2 + c * 0.05 * np.array([-1.0, 1.0]))
    assert choice.cost == pytest.approx(c / 1.959964, rel=1e-6)


def test_the_last_candidate_before_a_difference_that_is_not_zero() -> None:
    """Independent candidates: the fourth differs from the third only, the fifth from none."""
    se = np.array([0.5, 0.2, 0.05, 0.02, 0.5])
    joint = normal_estimate([0.0, 0.1, 0.3, 0.0, 0.1], np.diag(se**2))
    fits = {f"s{i}": joint[i] for i in range(5)}
    choice = choose_strength(fits)
    assert choice.table["agrees"].tolist() == [True, True, True, False, True]
    assert choice.label == "s2"
    # a clip that changes nothing is no contradiction
    same = joint.select([0, 0])
    assert choose_strength({"a": same[0], "b": same[1]}).label == "b"
    with pytest.raises(ValueError, match="rule"):
        choose_strength(fits, rule="best")  # type: ignore[arg-type]


STRENGTHS = (math.inf, 30.0, 10.0, 5.0, 2.0, 1.0)


def clipped_values(effect: float, seed: int) -> tuple[dict[str, ValueEstimate], float]:
    """Plain weights at each clip, log ratio with sd 1.5; the mean outcome rises by ``effect``."""
    rng = np.random.default_rng([16, seed])
    x = rng.normal(size=400)
    y = 1.0 + effect * x + rng.normal(size=400)
    probs = {"logp_logging": -(x**2) / 2 - 1, "logp_target": -((x - 1.5) ** 2) / 2 - 1}
    fits = {}
    for c in STRENGTHS:
        weights = "hajek" if math.isinf(c) else Clip(c)
        fits[str(c)] = IPW(weights).fit(x[:, None], y, **probs).result_
    return fits, 1.0 + 1.5 * effect


@pytest.mark.parametrize("effect", [0.0, 0.3, 1.0])
def test_the_choice_is_near_the_best_strength(effect: float) -> None:
    """Root mean squared error of the choice over that of the best strength.

    Below 1.6 for differences (1.2 to 1.5 over 300 replications elsewhere) where a wrong strength
    costs 1.9 to 3.8 times; SLOPE stays within its theorem's constant, 12 for equal strengths.
    """
    reps = 80
    errors, chosen, slope, covered = [], [], [], 0
    for b in range(reps):
        fits, truth = clipped_values(effect, b)
        choice = choose_strength(fits, n_sim=1000)
        errors.append([e.value - truth for e in fits.values()])
        chosen.append(choice.estimate.value - truth)
        slope.append(choose_strength(fits, rule="slope", n_sim=1000).estimate.value - truth)
        covered += choice.interval[0] <= truth <= choice.interval[1]
    rmse = np.sqrt(np.mean(np.square(errors), axis=0))
    assert math.sqrt(np.mean(np.square(chosen))) < 1.6 * rmse.min()
    assert math.sqrt(np.mean(np.square(slope))) < 6 * rmse.min()
    assert rmse.max() > 1.8 * rmse.min()
    assert covered / reps >= 0.95 - 3.3 * math.sqrt(0.95 * 0.05 / reps)


def judged(values: list[float], levels: list[str]) -> dict[str, ValueEstimate]:
    """Candidates s0, s1, ... with the given values and verdicts."""
    joint = normal_estimate(values, np.diag([0.5, 0.2, 0.1][: len(values)]))
    verdicts = tuple(
        Verdict(level, () if level == "trustworthy" else (f"reason {i}",))
        for i, level in enumerate(levels)
    )
    figures = tuple({"ess": float(i)} for i in range(len(values)))
    joint = replace(joint, verdicts=verdicts, diagnostics=figures)
    return {f"s{i}": joint[i] for i in range(len(values))}


def test_a_choice_carries_the_verdict_of_what_was_chosen() -> None:
    """Not that of the first candidate, nor of candidates that were not taken."""
    fits = judged([0.0, 0.0, 9.0], ["trustworthy", "caution", "do not use"])
    choice = choose_strength(fits)
    assert choice.label == "s1"
    assert choice.verdict == choice.estimate.verdicts[0] == Verdict("caution", ("reason 1",))
    assert choice.estimate.diagnostics == ({"ess": 1.0},)
    assert choice.estimate.value == fits["s1"].value
    assert choice.table["verdict"].tolist() == ["trustworthy", "caution", "do not use"]
    assert "caution" in repr(choice)
    assert any("chosen from the data" in note for note in choice.estimate.notes)
    assert not any("chosen" in note for note in fits["s1"].notes)


@pytest.mark.parametrize("own", ["trustworthy", "caution", "do not use"])
def test_agreement_with_a_candidate_not_to_be_used_is_no_evidence(own: str) -> None:
    choice = choose_strength(judged([0.0, 0.0, 0.0], ["do not use", "trustworthy", own]))
    assert choice.label == "s2"
    assert choice.verdict.level == ("caution" if own == "trustworthy" else own)
    assert "'s0'" in choice.verdict.reasons[-1]
    assert "reason 0" not in choice.verdict.reasons
    first = choose_strength(judged([0.0, 9.0], ["do not use", "trustworthy"]))
    assert first.label == "s0"
    assert first.verdict == Verdict("do not use", ("reason 0",))


def test_strengths_of_one_policy_only() -> None:
    fits = two_policies(60, 17)
    with pytest.raises(ValueError, match="2 policies"):
        choose_strength(fits)
    with pytest.raises(ValueError, match="at least two"):
        choose_strength({"a": fits["DR"]["near"]})
