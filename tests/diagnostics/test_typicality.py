"""Typicality coverage against closed forms, its error against simulation; binomial intervals.

Statistical tolerances: 4 Monte-Carlo errors, plus .02 for the smoothing of the threshold's error.
"""

from __future__ import annotations

import math
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from causal_lm_opt.diagnostics.overlap import unseen_mass
from causal_lm_opt.diagnostics.typicality import (
    binomial_interval,
    typicality_coverage,
    unseen_mass_interval,
    weighted_quantile,
)


def test_coverage_against_counts() -> None:
    rng = np.random.default_rng(0)
    logged, target = rng.gamma(3, 1, 50), rng.gamma(2, 1, 40)
    s, r = rng.integers(0, 4, 50), rng.integers(1, 4, 40)
    found = typicality_coverage(logged, target, sample_weight=s, target_weight=r)
    expanded = np.sort(np.repeat(target, r))
    c = expanded[math.ceil(0.9 * expanded.shape[0]) - 1]
    assert found.threshold == c
    assert found.coverage == pytest.approx(np.mean(np.repeat(logged, s) <= c))
    repeated = typicality_coverage(np.repeat(logged, s), np.repeat(target, r))
    for name in ("coverage", "se", "low", "high"):
        assert getattr(found, name) == pytest.approx(getattr(repeated, name)), name


@pytest.mark.statistical
@pytest.mark.parametrize("scale", [1.0, 1.6])
def test_error_counts_both_samples(scale: float) -> None:
    """Truth: gamma surprisals; few draws, so that the threshold's error matters."""
    rng = np.random.default_rng(1)
    law = stats.gamma(9)
    truth = law.cdf(law.ppf(0.9) / scale)
    found = [
        typicality_coverage(scale * rng.gamma(9, 1, 1000), rng.gamma(9, 1, 250)) for _ in range(400)
    ]
    errors = np.array([f.coverage - truth for f in found])
    assert abs(errors.mean()) < 4 * errors.std() / 20 + 0.005  # a quantile is a little biased
    ratio = np.mean([f.se for f in found]) / errors.std()
    assert abs(ratio - 1) < 4 / math.sqrt(800) + 0.02
    covered = np.mean([f.low <= truth <= f.high for f in found])
    assert abs(covered - 0.95) < 4 * math.sqrt(0.05 * 0.95 / 400) + 0.01
    rows_only = np.mean([math.sqrt(f.coverage * (1 - f.coverage) / 1000) for f in found])
    assert rows_only < 0.8 * errors.std()  # negative control


@pytest.mark.statistical
def test_clusters_of_readers() -> None:
    rng = np.random.default_rng(2)
    codes = np.repeat(np.arange(100), 5)
    target = rng.gamma(9, 1, 4000)
    found = [
        typicality_coverage(np.repeat(1.5 * rng.gamma(9, 1, 100), 5), target, codes=codes)
        for _ in range(200)
    ]
    spread = np.std([f.coverage for f in found])
    assert abs(np.mean([f.se for f in found]) / spread - 1) < 4 / math.sqrt(400) + 0.03


def test_all_or_none_of_the_log() -> None:
    target = np.linspace(1, 2, 100)
    none = typicality_coverage(np.r_[np.full(49, 5.0), np.inf], target)
    assert (none.coverage, none.se, none.low) == (0, 0, 0)
    assert 0 < none.high < 0.1
    assert "collect texts from the target" in none.sentence
    everything = typicality_coverage(np.full(50, 0.5), target)
    assert (everything.coverage, everything.high) == (1, 1)
    assert 0.9 < everything.low < 1
    assert everything.sentence.endswith("do.")


# differences above the rounding that is forgiven
SURPRISALS = st.floats(0, 50).map(lambda x: round(x, 3))


@given(
    logged=hnp.arrays(np.float64, st.integers(2, 30), elements=SURPRISALS),
    target=hnp.arrays(np.float64, st.integers(2, 30), elements=SURPRISALS),
    mass=st.floats(0.05, 0.95),
)
@settings(max_examples=60)
def test_coverage_properties(logged: Any, target: Any, mass: float) -> None:
    found = typicality_coverage(logged, target, mass=mass)
    assert 0 <= found.low <= found.coverage + 1e-12
    assert found.coverage - 1e-12 <= found.high <= 1
    assert found.coverage == np.mean(logged <= found.threshold + 1e-6)
    assert np.mean(target <= found.threshold) >= mass - 1e-9
    if mass < 0.9:
        assert typicality_coverage(logged, target, mass=mass + 0.05).coverage >= found.coverage
    monotone = typicality_coverage(2 * logged, 2 * target, mass=mass)
    assert monotone.coverage == found.coverage


def test_weighted_quantile_is_that_of_repeated_values() -> None:
    rng = np.random.default_rng(3)
    values, counts = rng.standard_normal(30), rng.integers(1, 5, 30)
    repeated = np.repeat(values, counts)
    for share in (0.0, 0.1, 0.5, 0.9, 1.0):
        expected = np.quantile(repeated, share, method="inverted_cdf")
        assert weighted_quantile(values, share, counts.astype(float)) == expected


def test_exact_support_has_no_threshold_error_and_forgives_rounding() -> None:
    """P_f = (.6, .3, .1): the typical region at .8 is the first two, .9 of the target's mass."""
    p = np.array([0.6, 0.3, 0.1])
    logged = -np.log(np.repeat(p, [2, 5, 3])) * (1 + 1e-14)
    found = typicality_coverage(logged, -np.log(p), mass=0.8, target_weight=p, exact=True)
    assert (found.coverage, found.mass) == (0.7, pytest.approx(0.9))
    assert found.se == pytest.approx(math.sqrt(0.7 * 0.3 / 9))
    with pytest.raises(ValueError, match="sum to 1"):
        typicality_coverage(logged, -np.log(p), target_weight=p / 2, exact=True)


# ------------------------------------------------------------------------------ unseen mass
@pytest.mark.parametrize("events,trials", [(0, 20), (3, 50), (50, 50), (17, 40)])
def test_binomial_interval_against_scipy(events: int, trials: int) -> None:
    test = stats.binomtest(events, trials)
    for method in ("exact", "wilson"):
        expected = test.proportion_ci(0.95, method=method)
        found = binomial_interval(events, trials, method=method)
        np.testing.assert_allclose(found, [expected.low, expected.high], atol=1e-12)
    one_sided = stats.binomtest(events, trials, alternative="less").proportion_ci(0.9)
    found = binomial_interval(events, trials, level=0.9, side="upper")
    np.testing.assert_allclose(found, [0, one_sided.high], atol=1e-12)


@pytest.mark.parametrize("p", [0.001, 0.02, 0.3])
@pytest.mark.parametrize("m", [20, 200])
def test_exact_bound_covers_by_enumeration(p: float, m: int) -> None:
    probability = stats.binom.pmf(np.arange(m + 1), m, p)
    two = np.array([binomial_interval(k, m) for k in range(m + 1)])
    upper = np.array([binomial_interval(k, m, side="upper")[1] for k in range(m + 1)])
    assert probability @ ((two[:, 0] <= p) & (p <= two[:, 1])) >= 0.95
    assert probability @ (p <= upper) >= 0.95
    assert binomial_interval(0, m, side="upper")[1] == pytest.approx(1 - 0.05 ** (1 / m))


def test_unseen_mass_interval() -> None:
    ell = np.array([0.0, 1.0, 5.0, np.inf, -np.inf, 0.5])
    found = unseen_mass_interval(ell, 1.0)
    assert found.mass == pytest.approx(unseen_mass(ell, 1.0)) == pytest.approx(1 / 3)
    assert (found.low, found.high) == binomial_interval(2, 6, side="upper")
    counts = np.array([2, 0, 1, 1, 3, 1])
    weighted = unseen_mass_interval(ell, 1.0, target_weight=counts, side="two")
    assert weighted == unseen_mass_interval(np.repeat(ell, counts), 1.0, side="two")
    assert unseen_mass_interval(np.zeros(300), 1.0).high < 0.01 < binomial_interval(0, 300)[1]
    assert "300 draws" in unseen_mass_interval(np.zeros(300), 1.0).sentence


@pytest.mark.statistical
def test_draws_of_few_prompts_count_as_fewer() -> None:
    rng = np.random.default_rng(4)
    codes = np.repeat(np.arange(40), 10)
    assert unseen_mass_interval(np.zeros(400), 1.0, target_codes=codes).trials == 40
    covered, naive = [], []
    for _ in range(300):
        beyond = np.repeat(rng.random(40) < 0.2, 10) * 2.0  # a prompt is unseen as a whole
        covered.append(unseen_mass_interval(beyond, 1.0, target_codes=codes).high >= 0.2)
        naive.append(unseen_mass_interval(beyond, 1.0).high >= 0.2)
    assert np.mean(covered) > 0.95 - 4 * math.sqrt(0.05 * 0.95 / 300)
    assert np.mean(naive) < 0.85


@pytest.mark.parametrize(
    "call,message",
    [
        (lambda: typicality_coverage([1, 2], [1, 2], mass=1.0), "mass must lie strictly"),
        (lambda: typicality_coverage([1, 2], [1, 2], level=95), "level must lie strictly"),
        (lambda: typicality_coverage([-1, -2], [1, 2]), "surprisal_logged is negative at row 1"),
        (lambda: typicality_coverage([1, 2], [1, np.inf]), "surprisal_target has 1 NaN or inf"),
        (lambda: typicality_coverage([1, np.nan], [1, 2]), "surprisal_logged has 1 NaN"),
        (lambda: typicality_coverage([[1, 2]], [1, 2]), "must be one-dimensional"),
        (lambda: typicality_coverage([1], [1, 2]), "at least two rows"),
        (lambda: typicality_coverage([1, 2], [1, 2], target_codes=[1, 1]), "target_codes holds"),
        (lambda: binomial_interval(5, 3), "0 <= events <= trials"),
        (lambda: binomial_interval(0, 0), "0 <= events <= trials"),
        (lambda: binomial_interval(0, 5, level=1), "level must lie strictly"),
        (lambda: binomial_interval(0, 5, method="wald"), "method must be 'exact'"),
        (lambda: unseen_mass_interval([0, np.nan], 0.0), "without NaN"),
        (lambda: unseen_mass_interval([0, 0], math.nan), "without NaN"),
    ],
)
def test_bad_input(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
