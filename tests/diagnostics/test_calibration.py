"""Calibration: loops, statsmodels, level under the truth, power under a wrong model.

Statistical tolerances: 4 Monte-Carlo errors of a 5 % rate, plus .015 for finite samples.
"""

from __future__ import annotations

import math
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import special

from causal_lm_opt.diagnostics.calibration import calibration, calibration_table
from causal_lm_opt.exceptions import OverlapError

FIGURES = ["intercept", "slope", "se_intercept", "se_slope", "wald", "p_value", "mean_residual",
           "se_residual", "error", "error_noise"]  # fmt: skip


def world(rng: np.random.Generator, n: int = 400) -> tuple[Any, Any, Any]:
    x = rng.standard_normal(n)
    return x + rng.standard_normal(n) * (1 + 0.5 * np.abs(x)), x, 0.4 * x - 0.08


def test_line_against_statsmodels() -> None:
    y, q, ell = world(np.random.default_rng(0), 200)
    X, w = sm.add_constant(q), np.exp(ell)
    found = calibration(y, q, log_ratio=ell)
    fit = sm.WLS(y, X, weights=w).fit(cov_type="HC3")
    np.testing.assert_allclose([found.intercept, found.slope], fit.params, rtol=1e-9)
    np.testing.assert_allclose(found.covariance, fit.cov_params() * 199 / 200, rtol=1e-8)
    test = fit.wald_test((np.eye(2), [0.0, 1.0]), use_f=False, scalar=True)
    assert found.wald == pytest.approx(float(test.statistic) * 200 / 199)


def test_clustered_line_against_refits() -> None:
    y, q, ell = world(np.random.default_rng(7), 80)
    codes, s = np.arange(80) // 4, np.random.default_rng(8).integers(1, 4, 80)
    X, w = sm.add_constant(q), np.exp(ell) * s
    beta = sm.WLS(y, X, weights=w).fit().params
    refits = [sm.WLS(y, X, weights=w * (codes != g)).fit().params - beta for g in range(20)]
    found = calibration(y, q, log_ratio=ell, codes=codes, sample_weight=s)
    expected = 19 / 20 * sum(np.outer(d, d) for d in refits)
    np.testing.assert_allclose(found.covariance, expected, rtol=1e-7)
    assert found.dof == 18


def test_a_slope_that_hangs_on_one_row_is_not_tested() -> None:
    """The plain sandwich would give it a standard error of 0 and reject with certainty."""
    y = np.cos(np.arange(15.0))
    found = calibration(y, np.r_[5.0, np.zeros(14)])
    assert math.isnan(found.slope)
    assert found.tested == 1
    assert found.p_value > 0.1


def test_table_and_error_against_loops() -> None:
    rng = np.random.default_rng(1)
    y, q, ell = world(rng, 60)
    s = rng.integers(1, 4, 60).astype(float)
    found = calibration(y, q, log_ratio=ell, sample_weight=s, bins=4)
    w, error, seen = np.exp(ell), 0.0, 0
    for row in found.table.itertuples():
        inside = [i for i in range(60) if row.low <= q[i] <= row.high]
        total = sum(s[i] * w[i] for i in inside)
        mean_y = sum(s[i] * w[i] * y[i] for i in inside) / total
        mean_q = sum(s[i] * w[i] * q[i] for i in inside) / total
        n = sum(s[i] for i in inside)
        variance = sum(s[i] * (w[i] * (y[i] - mean_y)) ** 2 for i in inside) / total**2
        assert row.mean_y == pytest.approx(mean_y)
        assert row.gap == pytest.approx(mean_y - mean_q)
        assert row.se == pytest.approx(math.sqrt(variance * n / (n - 1)))
        assert row.n_eff == pytest.approx(total**2 / sum(s[i] * w[i] ** 2 for i in inside))
        error += total / sum(s * w) * abs(mean_y - mean_q)
        seen += len(inside)
    assert seen == 60
    assert found.error == pytest.approx(error)
    assert found.table["share"].sum() == pytest.approx(1)
    assert found.table["share"].between(0.15, 0.35).all()


def test_frequencies_are_repetitions() -> None:
    rng = np.random.default_rng(2)
    y, q, ell = world(rng, 80)
    s, codes = rng.integers(0, 4, 80), np.arange(80) // 2
    for c in (None, codes):
        one = calibration(y, q, log_ratio=ell, sample_weight=s, codes=c)
        two = calibration(*(np.repeat(a, s) for a in (y, q)), log_ratio=np.repeat(ell, s),
                          codes=None if c is None else np.repeat(c, s))  # fmt: skip
        for name in FIGURES:
            assert getattr(one, name) == pytest.approx(getattr(two, name)), name
        pd.testing.assert_frame_equal(one.table, two.table)


@pytest.mark.statistical
@pytest.mark.parametrize("kind", ["rows", "clusters", "binary"])
def test_level_under_the_truth_and_power_under_a_wrong_model(kind: str) -> None:
    rng = np.random.default_rng(3)
    replications, rejected, found_wrong, errors, noise = 300, 0, 0, [], []
    for r in range(replications):
        y, q, ell = world(rng)
        codes = None
        if kind == "clusters":  # 5 readers of each text share an effect beyond the model
            q = np.repeat(rng.standard_normal(100), 5)
            y = q + np.repeat(rng.standard_normal(100), 5) + rng.standard_normal(500)
            ell, codes = 0.4 * q, np.repeat(np.arange(100), 5)
        elif kind == "binary":
            q = special.expit(q)
            y = (rng.random(q.shape[0]) < q).astype(float)
        right = calibration(y, q, log_ratio=ell, codes=codes)
        rejected += right.p_value < 0.05
        if r < 60:
            wrong = calibration(y, 0.5 * q + 0.25, log_ratio=ell, codes=codes)
            found_wrong += wrong.p_value < 0.05
        errors.append(right.error)
        noise.append(right.error_noise)
    rate = rejected / replications
    assert abs(rate - 0.05) < 4 * math.sqrt(0.05 * 0.95 / replications) + 0.015, rate
    assert found_wrong / 60 > 0.95
    assert np.mean(errors) == pytest.approx(np.mean(noise), rel=0.12)  # noise alone


@pytest.mark.statistical
def test_negative_control_readers_taken_for_texts() -> None:
    rng = np.random.default_rng(4)
    rejected = 0
    for _ in range(100):
        q = np.repeat(rng.standard_normal(60), 8)
        y = q + np.repeat(rng.standard_normal(60), 8)
        rejected += calibration(y, q).p_value < 0.05
    assert rejected > 30


def test_weights_show_what_the_log_hides() -> None:
    """A model right where the logger writes, wrong where the target does."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal(4000)
    y = np.where(x > 1, 3.0, 0.0) + rng.standard_normal(4000)
    q = np.full(4000, y.mean()) + 1e-3 * rng.standard_normal(4000)
    log = calibration(y, q, bins=1)
    target = calibration(y, q, log_ratio=x - 0.5, bins=1)
    assert abs(log.mean_residual) < 1e-3 < 10 * target.se_residual < target.mean_residual
    assert "prefer the doubly robust value" in target.sentence


def test_constant_predictions_and_exact_fit() -> None:
    y = np.array([0.0, 1.0, 0.0, 1.0, 1.0, 0.0])
    flat = calibration(y, np.full(6, 0.1))
    assert math.isnan(flat.slope)
    assert (flat.tested, len(flat.table)) == (1, 1)
    assert flat.wald == pytest.approx((flat.mean_residual / flat.se_residual) ** 2)
    assert "slope" not in flat.sentence
    exact = calibration(y, y)
    assert (exact.wald, exact.p_value, exact.error) == (0, 1, 0)
    off = calibration(y + 1, y)
    assert (off.p_value, off.error) == (0.0, pytest.approx(1))


def test_in_sample_predictions_pass_by_construction() -> None:
    """Why the docstring asks for cross-fitted predictions."""
    rng = np.random.default_rng(6)
    X, y = sm.add_constant(rng.standard_normal((60, 30))), rng.standard_normal(60)
    fitted = X @ np.linalg.lstsq(X, y, rcond=None)[0]
    assert calibration(y, fitted).slope == pytest.approx(1)


@given(
    q=hnp.arrays(np.float64, 15, elements=st.floats(-1e3, 1e3)),
    a=st.sampled_from([1e-3, 1.0, 1e3]),
    b=st.sampled_from([0.0, 50.0]),
    order=st.permutations(range(15)),
)
@settings(max_examples=50)
def test_invariances(q: Any, a: float, b: float, order: list[int]) -> None:
    """Unit and origin of the outcome, a constant in ell and row order change no test."""
    assume(np.ptp(q) > 1e-3)
    y, ell = np.cos(np.arange(15)) * 5, np.linspace(-1, 1, 15)
    one = calibration(y, q, log_ratio=ell, bins=3)
    two = calibration((a * y + b)[order], (a * q + b)[order], log_ratio=ell[order] + 300, bins=3)
    assert two.tested == one.tested
    assert two.slope == pytest.approx(one.slope, rel=1e-5, abs=1e-7, nan_ok=True)
    assert two.wald == pytest.approx(one.wald, rel=1e-4, abs=1e-7)
    assert two.mean_residual == pytest.approx(a * one.mean_residual, rel=1e-6, abs=1e-8)
    assert one.table["share"].sum() == pytest.approx(1)
    assert one.table["n"].sum() == 15


def test_rows_of_weight_zero_and_bins_of_one_row() -> None:
    y, q = np.arange(8.0), np.arange(8.0) + 0.5
    ell = np.array([0, 0, 0, 0, 0, -np.inf, 0, -np.inf])
    table = calibration_table(y, q, log_ratio=ell, bins=6)
    kept = np.isfinite(ell)
    pd.testing.assert_frame_equal(table, calibration_table(y[kept], q[kept], bins=6))
    assert table["se"].isna().all()
    assert np.isfinite(calibration(y, q, log_ratio=ell, bins=6).error_noise)


@pytest.mark.parametrize(
    "change,message",
    [
        ({"q": np.zeros(3)}, r"q must have shape \(5,\)"),
        ({"y": np.array([0, 1, np.nan, 0, 1])}, "y has 1 NaN"),
        ({"y": ["a"] * 5}, "y must be numbers"),
        ({"log_ratio": np.full(5, np.nan)}, "log_ratio has 5 NaN"),
        ({"bins": 0}, "bins must be a positive whole number"),
        ({"bins": 2.5}, "bins must be a positive whole number"),
        ({"codes": [1, 1, 2, 2, 3]}, "at least four independent"),
        ({"y": 3.0}, "at least two rows|must have shape"),
    ],
)
def test_bad_input(change: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"y": np.arange(5.0), "q": np.arange(5.0)}
    with pytest.raises(ValueError, match=message):
        calibration(**(good | change))


def test_no_overlap() -> None:
    with pytest.raises(OverlapError):
        calibration(np.arange(5.0), np.arange(5.0), log_ratio=np.full(5, -np.inf))
