"""Correlation within labels: its permutation moments, its level and the ratio of standard errors.

500 simulated logs a law and cut, all seeded; the share beyond the level-.01 point is at most 4
binomial standard errors (.0045 each) above .01.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest

from causal_lm_opt import IPW
from causal_lm_opt.diagnostics import label_correlation
from causal_lm_opt.diagnostics.label_correlation import pair_moments

LABELS = np.array([0, 0, 0, 1, 1, 2])
SIZES = np.array([3.0, 2.0, 1.0])


def pair_sum(e: np.ndarray, labels: np.ndarray) -> float:
    """T by its definition."""
    alike = (labels[:, None] == labels[None, :]) & ~np.eye(labels.size, dtype=bool)
    return float(e @ alike @ e)


def test_moments_are_those_of_all_permutations() -> None:
    e = np.array([3.0, -1.0, 0.5, 7.0, -2.0, 1.0])
    e -= e.mean()
    found = np.array([pair_sum(e[list(order)], LABELS) for order in permutations(range(6))])
    mean, variance, _ = pair_moments(e, SIZES)
    assert mean == pytest.approx(found.mean(), rel=1e-12)
    assert variance == pytest.approx(found.var(), rel=1e-12)


def test_of_three_rows_too() -> None:
    e = np.array([1.0, 2.0, -3.0])
    found = [pair_sum(e[list(o)], np.array([0, 0, 1])) for o in permutations(range(3))]
    mean, variance, _ = pair_moments(e, np.array([2.0, 1.0]))
    assert (mean, variance) == pytest.approx((np.mean(found), np.var(found)))


def test_intraclass_correlation_at_its_ends() -> None:
    labels = np.repeat(np.arange(30), 4)
    y = np.random.default_rng(0).normal(size=30)[labels]
    assert label_correlation(y, labels).intraclass == pytest.approx(1.0)
    assert label_correlation(y, labels).z > 8
    opposite = np.tile([1.0, -1.0], 60)
    assert label_correlation(opposite, labels).z < 0
    assert label_correlation(opposite, labels).design_effect == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_design_effect_is_the_ratio_of_the_library_s_standard_errors(weighted: bool) -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 40, 300)
    y = rng.normal(size=300) + rng.normal(size=40)[labels]
    s = rng.integers(0, 4, 300).astype(float) if weighted else None
    X = np.zeros((300, 1))
    ours = label_correlation(y, labels, sample_weight=s)
    clustered, plain = (IPW().fit(X, y, sample_weight=s, groups=g).se_ for g in (labels, None))
    assert ours.design_effect == pytest.approx((clustered / plain) ** 2, rel=1e-10)


def test_a_frequency_is_a_repeated_row_and_the_units_of_outcomes_do_not_matter() -> None:
    rng = np.random.default_rng(2)
    y, labels, s = rng.normal(size=60), rng.integers(0, 20, 60), rng.integers(0, 4, 60)
    weighted = label_correlation(y, labels, sample_weight=s)
    repeated = label_correlation(1e6 - 100 * np.repeat(y, s), np.repeat(labels, s))
    for name in ("intraclass", "design_effect", "z"):
        assert getattr(weighted, name) == pytest.approx(getattr(repeated, name), rel=1e-6)
    assert (weighted.n_rows, weighted.n_labels) == (repeated.n_rows, repeated.n_labels)


LAWS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "lognormal": lambda rng, n: np.exp(2.0 * rng.normal(size=n)),
    "t of 2": lambda rng, n: rng.standard_t(2, size=n),
    "one in a hundred": lambda rng, n: (rng.random(n) < 0.01).astype(float),
}
CUTS = {
    "of five": np.arange(1000) // 5,
    "twenty large": np.arange(1000) // 50,
    "one huge": np.maximum(np.arange(1000) - 500, 0) // 5,
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("cut", CUTS)
def test_independent_rows_pass_the_one_percent_point_in_one_percent(law: str, cut: str) -> None:
    rng, beyond = np.random.default_rng(3), 0
    for _ in range(500):
        y = LAWS[law](rng, 1000)
        beyond += label_correlation(y, CUTS[cut]).z > 2.326
    assert beyond <= 500 * 0.01 + 4 * np.sqrt(500 * 0.01)


def test_what_does_not_vary_has_no_correlation() -> None:
    found = label_correlation(np.full(10, 3.3), np.arange(10) // 2)
    assert np.isnan([found.intraclass, found.design_effect, found.z]).all()


def test_labels_that_cannot_be_judged() -> None:
    y = np.arange(4.0)
    with pytest.raises(ValueError, match="no two rows share a label"):
        label_correlation(y, y)
    with pytest.raises(ValueError, match="one distinct label"):
        label_correlation(y, np.zeros(4))
    with pytest.raises(ValueError, match=r"outcome must have shape"):
        label_correlation(3.0, [1])
    with pytest.raises(ValueError, match=r"labels must have shape \(4,\)"):
        label_correlation(y, [1, 1])
