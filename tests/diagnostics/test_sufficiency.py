"""Tests of what outcomes respond to beyond some features of the text: level, power, robustness.

Level: 1,000 null samples, where a rejection rate of .05 has a Monte-Carlo sd of .007; the test may
be conservative (its noise is that of the null), not liberal, hence the one-sided bounds.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from causal_lm_opt.diagnostics import latent_sufficiency, text_response
from causal_lm_opt.diagnostics.sufficiency import Sufficiency, _quadratic_form_p


def sample(seed: int, effect: float, n: int = 300) -> tuple[np.ndarray, ...]:
    """Three features; 40 words, of which the first three go with a feature each."""
    rng = np.random.default_rng([11, seed])
    z = rng.normal(size=(n, 3))
    words = (rng.random((n, 40)) < 0.2) * 1.0
    words[:, :3] += z > 0
    y = z @ [1.0, 2.0, 0.0] + effect * words[:, 5] + (1 + abs(z[:, 0])) * rng.normal(size=n)
    return z, words, y


@pytest.mark.statistical
def test_level_and_power_under_uneven_noise() -> None:
    null, other = (
        np.array([text_response(y, z, F).p_value for z, F, y in draws])
        for draws in (
            [sample(s, 0.0) for s in range(1000)],
            [sample(s, 2.0) for s in range(200)],
        )
    )
    assert np.mean(null < 0.05) < 0.065
    assert np.mean(null < 0.01) < 0.018
    assert np.mean(null < 0.2) > 0.1  # and no empty test
    assert np.mean(other < 0.01) > 0.9


@pytest.mark.statistical
def test_level_where_rows_come_in_clusters() -> None:
    found = []
    for seed in range(600):
        rng = np.random.default_rng([12, seed])
        z, F = (np.repeat(x, 4, axis=0) for x in sample(seed, 0.0, 100)[:2])
        y = z[:, 0] + np.repeat(rng.normal(size=100), 4) + rng.normal(size=400)
        codes = np.repeat(np.arange(100), 4)
        found.append((text_response(y, z, F, codes=codes).p_value, text_response(y, z, F).p_value))
    clustered, plain = np.mean(np.array(found) < 0.05, axis=0)
    assert clustered < 0.07
    assert plain > 0.3  # the negative control: rows taken as independent


def test_the_quadratic_forms_law_is_exact_where_it_is_known() -> None:
    for q in (0.5, 3.0, 20.0):
        assert _quadratic_form_p(2 * q, np.full(5, 2.0)) == pytest.approx(stats.chi2.sf(q, 5))
        assert _quadratic_form_p(q, np.array([1.0, 0.0])) == pytest.approx(stats.chi2.sf(q, 1))
    rng = np.random.default_rng(0)
    lam = np.array([5.0, 2.0, 1.0, 1.0, 0.2])
    draws = (rng.normal(size=(400_000, 5)) ** 2) @ lam
    for share in (0.9, 0.99, 0.999):  # sd of a simulated tail of .001: 5 %
        tail = _quadratic_form_p(float(np.quantile(draws, share)), lam)
        assert tail == pytest.approx(1 - share, rel=0.15)


def test_units_and_columns_that_say_nothing_do_not_matter() -> None:
    z, F, y = sample(0, 2.0)
    found = text_response(y, z, F)
    assert found is not None
    assert found.worst == "feature 5"
    same = text_response(10 * y - 3, z * 5 + 1, np.hstack([F, z, np.ones((300, 2))]))
    assert same is not None
    assert same.p_value == pytest.approx(found.p_value, rel=1e-8)
    twice = text_response(y, np.hstack([z, z]), F)  # a latent with a redundant column
    assert twice is not None
    assert twice.p_value == pytest.approx(found.p_value, rel=1e-8)


def test_nothing_to_test() -> None:
    z, F, y = sample(0, 0.0)
    assert text_response(y, F, F) is None
    assert text_response(y[:8], z[:8], F[:8]) is None
    assert text_response(y, z, np.zeros((300, 0))) is None


def test_what_is_seen_is_a_caution_and_names_the_word() -> None:
    z, F, y = sample(0, 3.0)
    found = text_response(y, z, F, names=[f"w{k}" for k in range(40)])
    assert found is not None
    [(severity, text)] = found.findings
    assert severity == 1
    assert "'w5'" in text
    null = text_response(sample(1, 0.0)[2], *sample(1, 0.0)[:2])
    assert null is not None
    assert null.findings == []


def left_out(seed: int, units: int, size: int, effect: float) -> tuple[Sufficiency | None, float]:
    """A ratio of two latent factors, 80 more features of which the policy prefers ten.

    With `effect`, outcomes respond to those ten. Rows come in ``units`` clusters of ``size``; the
    second figure is the standard error of the weighted mean.
    """
    rng = np.random.default_rng([13, seed])
    n = units * size
    codes = np.repeat(np.arange(units), size)
    z, F = rng.normal(size=(n, 2)), rng.normal(size=(n, 80))
    draws = rng.normal(0.3, 1, (1000, 80)) * (np.arange(80) < 10) + (
        rng.normal(size=(1000, 80)) * (np.arange(80) >= 10)
    )
    z_draws = rng.normal(0.3, 1, (1000, 2))
    mixed = rng.normal(size=(2, 80)) * 0.3  # what features tell of the latent
    y = z @ [1.0, -0.5] + effect * F[:, :10].sum(axis=1) + rng.normal(size=n)
    y = y + 0.7 * rng.normal(size=units)[codes]
    log_ratio = 0.3 * z.sum(axis=1) - 0.09
    found = latent_sufficiency(
        y, log_ratio, F + z @ mixed, draws + z_draws @ mixed, latent=z,
        codes=codes if size > 1 else None,
    )  # fmt: skip
    return found, float(y.std() / np.sqrt(units))


@pytest.mark.statistical
@pytest.mark.parametrize(("units", "size"), [(40, 10), (120, 6), (60, 1), (150, 1)])
def test_more_features_than_the_clusters_bear_are_no_reason_to_be_silent(
    units: int, size: int
) -> None:
    """Of 80 features in fewer than 249 clusters nothing was tested: IPW was half the truth."""
    null = [left_out(s, units, size, 0.0) for s in range(200)]
    other = [left_out(s, units, size, 0.5) for s in range(60)]
    assert all(found is not None and found.features < 80 for found, _ in null)
    assert np.mean([found.seen for found, _ in null]) <= 0.02  # of .002 with both tests
    assert np.mean([found.refutes(se) for found, se in null]) <= 0.01
    power = np.mean([found.refutes(se) for found, se in other])
    assert power > (0.2 if units * size == 60 else 0.9)


def test_all_features_are_looked_at_where_the_rows_bear_them() -> None:
    few, _ = left_out(0, 260, 1, 0.5)
    assert few is not None
    assert few.features == 80
    assert left_out(0, 12, 10, 0.5)[0] is None  # the latent and its log ratio alone
