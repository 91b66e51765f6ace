"""Drift: formulas against statsmodels and loops, growth told apart, levels of its errors.

Statistical tolerances: 4 Monte-Carlo errors, plus what the comment of a test says.
"""

from __future__ import annotations

import math
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from causal_lm_opt.diagnostics.drift import length_drift, position_drift


def texts(rng: np.random.Generator, n: int, kind: float, noise: float, longest: int = 40) -> Any:
    """Token ratios of texts of random length: a text effect, token noise, growing noise."""
    mask = np.arange(longest) < rng.integers(5, longest + 1, n)[:, None]
    ratio = kind * rng.standard_normal((n, 1)) + noise * rng.standard_normal((n, longest))
    return np.where(mask, ratio, np.nan), mask


# ------------------------------------------------------------------------------ length
def test_length_against_statsmodels() -> None:
    rng = np.random.default_rng(0)
    length = rng.integers(5, 100, 300).astype(float)
    ell = 1 - 0.03 * length + np.sqrt(length) * rng.standard_normal(300)
    codes = np.arange(300) // 3
    found = length_drift(ell, length, codes=codes)
    X = sm.add_constant(length)
    kwds = {"groups": codes, "use_correction": False}
    line = sm.OLS(ell, X).fit(cov_type="cluster", cov_kwds=kwds)
    np.testing.assert_allclose([found.intercept, found.slope], line.params, rtol=1e-9)
    assert found.se_slope == pytest.approx(line.bse[1] * math.sqrt(100 / 99))
    assert found.correlation == pytest.approx(np.corrcoef(ell, length)[0, 1])
    assert found.explained == pytest.approx(line.rsquared)
    log_length = sm.add_constant(np.log(length))
    power = sm.GLM(line.resid**2, log_length, family=sm.families.Poisson()).fit(
        cov_type="cluster", cov_kwds=kwds
    )
    assert found.exponent == pytest.approx(power.params[1] / 2, rel=1e-6)
    assert found.se_exponent == pytest.approx(power.bse[1] / 2 * math.sqrt(100 / 99), rel=1e-5)


@pytest.mark.statistical
def test_length_errors_are_right_and_growth_is_told_apart() -> None:
    rng = np.random.default_rng(1)
    z_slope, z_power, growth = [], [], []
    for _ in range(150):
        length = rng.integers(5, 200, 1500).astype(float)
        noise = rng.standard_normal(1500)
        one = length_drift(-0.02 * length + np.sqrt(length) * noise, length)
        two = length_drift(-0.02 * length + 0.1 * length * noise, length)
        z_slope += [(d.slope + 0.02) / d.se_slope for d in (one, two)]
        z_power += [(one.exponent - 0.5) / one.se_exponent, (two.exponent - 1) / two.se_exponent]
        growth.append((one.growth, two.growth))
    for z in (z_slope, z_power):
        assert abs(np.mean(z)) < 4 / math.sqrt(300) + 0.15  # squares are skewed: a small bias
        assert abs(np.std(z) - 1) < 4 / math.sqrt(600) + 0.05
    right = np.mean([g == ("wording noise", "systematic drift") for g in growth])
    assert right > 0.97


def test_length_frequencies_are_repetitions() -> None:
    rng = np.random.default_rng(2)
    length, ell = rng.integers(1, 30, 40), rng.standard_normal(40)
    s = rng.integers(0, 4, 40)
    one = length_drift(ell, length, sample_weight=s)
    two = length_drift(np.repeat(ell, s), np.repeat(length, s))
    for name in ("slope", "se_slope", "correlation", "exponent", "se_exponent"):
        assert getattr(one, name) == pytest.approx(getattr(two, name), rel=1e-7)


def test_length_edge_cases() -> None:
    flat = length_drift(np.zeros(6), np.arange(1, 7))
    assert (flat.slope, flat.correlation) == (0, 0)
    assert math.isnan(flat.exponent)
    assert flat.growth == "undetermined"
    assert "cannot be told" in flat.sentence


# ------------------------------------------------------------------------------ position
def test_positions_against_loops() -> None:
    rng = np.random.default_rng(3)
    ratio, mask = texts(rng, 60, 0.3, 0.5, 12)
    s = rng.integers(1, 3, 60)
    found = position_drift(ratio, mask, sample_weight=s)
    for t in range(found.table.shape[0]):
        alive = [i for i in range(60) if mask[i, t]]
        n = sum(s[i] for i in alive)
        mean = sum(s[i] * ratio[i, t] for i in alive) / n
        sums = {i: sum(ratio[i, : t + 1]) for i in alive}
        mean_sum = sum(s[i] * sums[i] for i in alive) / n
        expected = {
            "position": t + 1,
            "n": n,
            "mean": mean,
            "sd": math.sqrt(sum(s[i] * (ratio[i, t] - mean) ** 2 for i in alive) / n),
            "cumulative_mean": mean_sum,
            "cumulative_sd": math.sqrt(sum(s[i] * (sums[i] - mean_sum) ** 2 for i in alive) / n),
        }
        for name, value in expected.items():
            assert found.table[name][t] == pytest.approx(value), name
    use = found.table[found.table["n"] >= 10]
    slope = np.polyfit(np.log((use["sd"] ** 2).cumsum()), np.log(use["cumulative_sd"]), 1)[0]
    assert found.exponent == pytest.approx(slope)
    repeated = position_drift(np.repeat(ratio, s, 0), np.repeat(mask, s, 0))
    pd.testing.assert_frame_equal(found.table, repeated.table)
    assert found.se_exponent == pytest.approx(repeated.se_exponent)
    assert found.se_mean == pytest.approx(repeated.se_mean)


@pytest.mark.statistical
def test_exponent_is_a_half_under_noise_of_any_profile() -> None:
    rng = np.random.default_rng(4)
    profile = np.linspace(2, 0.2, 40)  # surprising first tokens, dull last ones
    z, growth, drift = [], [], []
    for _ in range(150):
        ratio, mask = texts(rng, 400, 0.0, 1.0)
        found = position_drift(ratio * profile, mask)
        z.append((found.exponent - 0.5) / found.se_exponent)
        growth.append(found.growth)
        drift.append(position_drift(*texts(rng, 200, 0.5, 0.2)).growth)
    assert abs(np.mean(z)) < 4 / math.sqrt(150) + 0.1
    assert abs(np.std(z) - 1) < 4 / math.sqrt(300) + 0.05
    assert set(growth) == {"wording noise"}
    assert set(drift) == {"systematic drift"}


def test_error_of_the_exponent_against_a_jackknife() -> None:
    """With three positions the variances of the tokens matter as much as those of the sums."""
    rng = np.random.default_rng(8)
    ratio, mask = rng.standard_normal((300, 3)), np.ones((300, 3), bool)
    ratio[:, 1] += 0.8 * ratio[:, 0]
    rest = ~np.eye(300, dtype=bool)
    left_out = [position_drift(ratio[r], mask[r]).exponent for r in rest]
    jackknife = math.sqrt(299 / 300 * np.sum((left_out - np.mean(left_out)) ** 2))
    assert position_drift(ratio, mask).se_exponent == pytest.approx(jackknife, rel=0.03)


@pytest.mark.statistical
def test_the_mean_falls_under_the_logger_and_a_rise_is_impossible() -> None:
    """Tokens drawn from the scored logger: mean -KL; drawn from the target instead: +KL."""
    rng = np.random.default_rng(5)
    p, f = np.array([0.5, 0.3, 0.2]), np.array([0.3, 0.3, 0.4])
    ell = np.log(f / p)
    mask = np.ones((400, 30), bool)
    right = position_drift(ell[rng.choice(3, mask.shape, p=p)], mask)
    wrong = position_drift(ell[rng.choice(3, mask.shape, p=f)], mask)
    assert abs(right.mean_per_token + p @ np.log(p / f)) < 4 * right.se_mean
    assert (right.impossible, wrong.impossible) == (False, True)
    assert "another distribution" in wrong.sentence
    assert "another distribution" not in right.sentence


@given(data=st.data())
@settings(max_examples=40)
def test_padding_changes_nothing(data: Any) -> None:
    ratio = data.draw(hnp.arrays(np.float64, (14, 6), elements=st.floats(-10, 10)))
    lengths = np.array(data.draw(st.lists(st.integers(1, 6), min_size=14, max_size=14)))
    mask = np.arange(6) < lengths[:, None]
    left = np.array([np.roll(r, 6 - k) for r, k in zip(ratio, lengths, strict=True)])
    left_mask = np.arange(6) >= 6 - lengths[:, None]
    one = position_drift(ratio, mask)
    wide = np.pad(ratio, ((0, 0), (3, 2)), constant_values=np.nan)
    wide_mask = np.pad(mask, ((0, 0), (3, 2)))
    for other in (position_drift(left, left_mask), position_drift(wide, wide_mask.astype(int))):
        pd.testing.assert_frame_equal(one.table, other.table)
        np.testing.assert_allclose(one.exponent, other.exponent)


def test_few_texts_or_one_position_leave_growth_open() -> None:
    rng = np.random.default_rng(6)
    few = position_drift(rng.standard_normal((5, 8)), np.ones((5, 8), bool))
    one = position_drift(rng.standard_normal((50, 1)), np.ones((50, 1), bool))
    for found in (few, one):
        assert math.isnan(found.exponent)
        assert found.growth == "undetermined"


@pytest.mark.parametrize(
    "call,message",
    [
        (lambda: length_drift([1, 2, 3, np.nan], [1, 2, 3, 4]), "log_ratio has 1 NaN"),
        (lambda: length_drift([1, 2, 3, -np.inf], [1, 2, 3, 4]), "log_ratio has 1 NaN or inf"),
        (lambda: length_drift(np.zeros(4), [0, 1, 2, 3]), "at least one token"),
        (lambda: length_drift(np.zeros(4), np.full(4, 7)), "length is 7 for every row"),
        (lambda: length_drift(np.zeros(3), [1, 2, 3]), "at least four rows"),
        (lambda: position_drift(np.zeros((3, 2)), np.ones((2, 3))), "must share a shape"),
        (lambda: position_drift(np.zeros(3), np.ones(3)), "must share a shape"),
        (lambda: position_drift(np.zeros((3, 2)), np.zeros((3, 2))), "no scored token"),
        (lambda: position_drift(np.zeros((3, 2)), np.full((3, 2), 2)), "mask must be boolean"),
        (lambda: position_drift(np.full((3, 2), np.nan), np.ones((3, 2))), "6 NaN or infinite"),
    ],
)
def test_bad_input(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
