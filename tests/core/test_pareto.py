"""Pareto k-hat and smoothing: the right tail, its sign, ties, frequencies, another implementation.

Tolerance of k-hat: three times its asymptotic standard error (1 + k)/sqrt(tail size), Smith 1987.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from causal_lm_opt.core import ParetoSmooth, generalized_pareto_fit, pareto_smooth
from causal_lm_opt.core.pareto import tail_size
from causal_lm_opt.diagnostics import overlap


@pytest.mark.parametrize("k", [0.3, 0.5, 0.83, 1.2])
@pytest.mark.parametrize("n", [2000, 50_000])
def test_k_of_a_pareto_tail_comes_back(k: float, n: int) -> None:
    ell = k * np.random.default_rng(1).exponential(size=n)  # w = exp(ell) is Pareto, shape k
    tolerance = 3 * (1 + k) / math.sqrt(tail_size(n))
    assert abs(pareto_smooth(ell)[1] - k) < tolerance
    # Negative control, the sign trap: the negated log ratios are bounded above.
    assert pareto_smooth(-ell)[1] < 0
    assert abs(pareto_smooth(-ell)[1] - k) > tolerance


def test_fit_recovers_a_generalised_pareto() -> None:
    u, k, sigma = np.random.default_rng(2).random(5000), 0.4, 3.0
    exceedance = np.sort(sigma * ((1 - u) ** -k - 1) / k)
    found, scale = generalized_pareto_fit(exceedance)
    assert abs(found - k) < 3 * (1 + k) / math.sqrt(5000)
    assert abs(scale / sigma - 1) < 0.1


@pytest.mark.parametrize("sd", [0.5, 1.5, 3.0])
@pytest.mark.parametrize("n", [100, 1000, 10_000])
def test_parity_with_arviz(sd: float, n: int) -> None:
    """ArviZ takes log-likelihoods and negates them."""
    base = pytest.importorskip("arviz_stats.base")
    ell = np.random.default_rng(n).normal(scale=sd, size=n)
    theirs, k = base.array_stats.psislw(-ell)
    ours, ours_k = pareto_smooth(ell)
    assert abs(ours_k - float(k)) < 0.02
    w, v = np.exp(ours - ours.max()), np.exp(theirs - theirs.max())
    np.testing.assert_allclose(w / w.sum(), v / v.sum(), rtol=0.05, atol=1e-4)


def test_sign_against_arviz_on_a_skewed_tail() -> None:
    base = pytest.importorskip("arviz_stats.base")
    ell = 0.83 * np.random.default_rng(3).exponential(size=5000)
    assert abs(pareto_smooth(ell)[1] - float(base.array_stats.psislw(-ell)[1])) < 0.02
    assert abs(pareto_smooth(ell)[1] - float(base.array_stats.psislw(ell)[1])) > 0.5


@pytest.mark.parametrize(
    "ell",
    [
        np.zeros(1000),
        np.r_[np.zeros(500), np.ones(500)],
        np.r_[np.zeros(910), np.full(45, 1.0), np.full(45, 2.0)],  # two distinct weights
        np.log(np.r_[np.full(996, 0.5), 1.0, 2.0, 3.0, 4.0]),
        np.full(1000, -np.inf),
        np.zeros(1),
        np.array([0.0, 1.0, 2.0]),
        np.r_[np.zeros(999), np.inf],
    ],
    ids=["equal", "two", "tied", "four", "dead", "one-row", "three-rows", "infinite"],
)
def test_no_tail_no_k(ell: np.ndarray) -> None:
    smoothed, k = pareto_smooth(ell)
    assert math.isnan(k)
    np.testing.assert_array_equal(smoothed, ell)


def test_smoothing_touches_the_tail_only_and_keeps_its_order() -> None:
    ell = 0.9 * np.random.default_rng(4).exponential(size=900)
    ell[:5] = -np.inf
    smoothed, _ = pareto_smooth(ell)
    order = np.argsort(ell, kind="stable")
    body = order[: 900 - tail_size(900)]
    np.testing.assert_array_equal(smoothed[body], ell[body])
    assert (np.diff(smoothed[order][5:]) >= 0).all()
    assert smoothed.max() <= ell.max()
    assert not np.shares_memory(smoothed, ell)


def test_ties_share_a_weight_and_row_order_does_not_matter() -> None:
    rng = np.random.default_rng(5)
    ell = np.round(0.9 * rng.exponential(size=900), 1)
    smoothed, k = pareto_smooth(ell)
    assert math.isfinite(k)
    for value in np.unique(ell):
        assert np.unique(smoothed[ell == value]).size == 1
    order = rng.permutation(900)
    again, k_again = pareto_smooth(ell[order])
    assert k_again == k
    np.testing.assert_allclose(again, smoothed[order], rtol=1e-13)


def test_a_frequency_weight_repeats_the_row() -> None:
    rng = np.random.default_rng(6)
    ell, s = 0.9 * rng.exponential(size=400), rng.integers(0, 6, size=400)
    rows = np.repeat(np.arange(400), s)
    smoothed, k = pareto_smooth(ell, s.astype(float))
    again, k_again = pareto_smooth(ell[rows])
    assert k == pytest.approx(k_again, rel=1e-12)
    np.testing.assert_allclose(smoothed[rows], again, rtol=1e-12)
    many = ParetoSmooth().transform(np.stack([ell, ell[::-1]], axis=1), s.astype(float))
    np.testing.assert_array_equal(many[:, 0], smoothed)
    assert overlap(ell, s.astype(float)).pareto_k == pytest.approx(overlap(ell[rows]).pareto_k)


def test_huge_frequencies_cost_nothing() -> None:
    """Impressions as weights: a thousand million rows are never written out."""
    ell = 0.8 * np.random.default_rng(7).exponential(size=3000)
    assert math.isnan(pareto_smooth(ell, np.full(3000, 400_000.0))[1])  # one text fills the tail
    assert overlap(ell, np.full(3000, 400_000.0)).n == 1.2e9
