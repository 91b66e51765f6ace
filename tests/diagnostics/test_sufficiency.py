"""The global test of responses to the text beyond some features: level, power, robustness.

Level: 1,000 null samples, where a rejection rate of .05 has a Monte-Carlo sd of .007; the test may
be conservative (its noise is that of the null), not liberal, hence the one-sided bounds.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from causal_lm_opt.diagnostics import text_response
from causal_lm_opt.diagnostics.sufficiency import _quadratic_form_p


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
