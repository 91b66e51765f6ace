"""Bands of values that rest on different numbers of units.

Under a normal law with known covariance a band at 95 % holds all values in 95 % of samples; values
whose verdict is "do not use" are not counted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from causal_lm_opt import ValueEstimate
from causal_lm_opt.comparison import simultaneous_band, simultaneous_critical_value
from causal_lm_opt.diagnostics.verdict import Verdict
from causal_lm_opt.influence import InfluenceSample


def estimate(units: Any, levels: Any = None, n: int = 600) -> ValueEstimate:
    """Correlated values of n rows, each said to rest on so many units."""
    rng = np.random.default_rng(0)
    k = len(units)
    phi = rng.normal(size=(n, k)) + rng.normal(size=(n, 1))
    sample = InfluenceSample(
        "log", "logged", phi - phi.mean(axis=0), units=np.asarray(units, dtype=float)
    )
    levels = levels or ["trustworthy"] * k
    return ValueEstimate(
        values=np.zeros(k), names=tuple("abcdefgh"[:k]), samples=(sample,), estimator="t",
        bias_bound=np.zeros(k), verdicts=tuple(Verdict(level) for level in levels), scalar=False,
    )  # fmt: skip


def in_se(found: ValueEstimate, **more: Any) -> np.ndarray:
    return np.asarray(simultaneous_band(found, level=0.95, **more)[:, 1] / found.se)


@pytest.mark.parametrize("units", [[600] * 4, [30] * 4])
def test_of_equal_units_it_is_the_max_t_band(units: list[int]) -> None:
    found = estimate(units)
    one = simultaneous_critical_value(found, level=0.95, n_sim=200_000, random_state=1)
    np.testing.assert_allclose(in_se(found, n_sim=200_000), one, rtol=0.02)


def test_few_units_widen_their_own_part_alone() -> None:
    alone, mixed = in_se(estimate([600, 600, 600])), in_se(estimate([600, 600, 600, 2]))
    assert mixed[3] > 10
    assert (mixed[:3] > alone).all()
    assert (mixed[:3] < 1.15 * alone).all()
    one = simultaneous_critical_value(
        estimate([600, 600, 600, 2]), level=0.95, n_sim=2000, random_state=0
    )
    assert one > 10  # the negative control: the fewest degrees of freedom for all


def test_it_holds_all_values_at_once() -> None:
    """Independent t statistics of 5, 20 and many degrees of freedom: their joint tail is known."""
    rng = np.random.default_rng(3)
    phi = rng.normal(size=(4000, 3))
    phi = np.linalg.qr(phi - phi.mean(axis=0))[0] * np.sqrt(4000)
    sample = InfluenceSample("log", "logged", phi, units=np.array([6.0, 21.0, 4000.0]))
    found = ValueEstimate(
        values=np.zeros(3), names=tuple("abc"), samples=(sample,), estimator="t",
        bias_bound=np.zeros(3), verdicts=(Verdict("trustworthy"),) * 3, scalar=False,
    )  # fmt: skip
    a, b, c = in_se(found, n_sim=200_000)
    inside = [
        1 - 2 * stats.t.sf(a, 5), 1 - 2 * stats.t.sf(b, 20), 1 - 2 * stats.norm.sf(c),
    ]  # fmt: skip
    np.testing.assert_allclose(inside, inside[0], rtol=1e-3)  # one level for each
    # variances that move together make joint misses likelier: no more than independent ones
    assert 0.945 <= np.prod(inside) <= 0.951


def test_values_that_are_not_to_be_used_are_not_counted() -> None:
    levels = ["trustworthy", "caution", "do not use"]
    counted = in_se(estimate([600, 600, 600], levels))
    np.testing.assert_allclose(counted[:2], in_se(estimate([600, 600, 600]).select([0, 1])))
