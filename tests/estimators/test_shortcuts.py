"""A glance that spares a pass over all rows never changes what is found in them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from causal_lm_opt import IPW
from causal_lm_opt._validation import check_vector, surely_finite
from causal_lm_opt.estimators._log import FEW_ROWS
from causal_lm_opt.estimators._policies import LogRatios
from causal_lm_opt.exceptions import OverlapError

N = 3 * FEW_ROWS


def rarer(y: Any, sample_weight: Any = None) -> float:
    X = np.arange(float(len(y)))[:, None]
    return IPW().fit(X, y, sample_weight=sample_weight).log_.rarer_outcomes


def test_rarer_outcomes_beyond_the_first_rows() -> None:
    y = np.zeros(N)
    assert rarer(y) == math.inf  # one value: nothing is rarer
    y[-3:] = 1.0
    assert rarer(y) == 3.0
    assert rarer(y, np.where(y == 1.0, 2.0, 1.0)) == 6.0
    y[-1] = 0.5
    assert rarer(y) == math.inf
    y[:3] = 0.0, 1.0, 2.0
    assert rarer(y) == math.inf


@pytest.mark.parametrize("taken", [False, True])
def test_dead_policies_beyond_the_first_rows(taken: bool) -> None:
    logp = np.full((N, 4), -np.inf)
    logp[:, 0] = -1.0
    logp[-2, 1] = -1.0
    logp[-1, 2] = -1.0
    rows = np.arange(N - 1) if taken else None
    ell = LogRatios(logp, np.zeros(N if rows is None else N - 1), rows)
    assert ell.dead().tolist() == [False, False, taken, True]
    alive = LogRatios(logp[:, :1], ell.logp_logging, rows)
    assert alive.dead().tolist() == [False]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["X", "y"])
def test_one_bad_entry_is_found(bad: float, where: str) -> None:
    given = {"X": np.zeros((N, 2)), "y": np.zeros(N)}
    given[where][-1] = bad
    with pytest.raises(ValueError, match="NaN" if math.isnan(bad) else "infinity"):
        IPW().fit(given["X"], given["y"])


def test_large_numbers_are_not_taken_for_infinite() -> None:
    """Their squares overflow, so that every entry is looked at."""
    x = np.array([1e200, 2e200, 3e200])
    assert not surely_finite(x)
    assert check_vector(x, "q_logged", 3) is x
    assert IPW().fit(x[:, None], np.arange(3.0)).log_.X[:, 0].tolist() == x.tolist()


def test_surely_finite_claims_nothing_of_other_arrays() -> None:
    assert surely_finite(np.zeros((3, 2)))
    assert surely_finite(np.zeros((3, 2), order="F"))
    assert not surely_finite(np.zeros((4, 4))[::2, ::2])
    assert not surely_finite(np.zeros(3, dtype=np.float32))
    assert not surely_finite(np.ma.masked_array(np.zeros(3), mask=[True, False, False]))
    assert not surely_finite([0.0, 1.0])


@pytest.mark.parametrize(("shift", "says"), [(500.0, "overflow"), (-2000.0, "all vanish")])
def test_plain_weights_out_of_range_are_refused(shift: float, says: str) -> None:
    x = np.linspace(-1.0, 1.0, 50)
    base = np.full(50, -3000.0)
    with pytest.raises(OverlapError, match=says):
        IPW("ht").fit(x[:, None], x, logp_logging=base, logp_target=base + x + shift)
    found = IPW().fit(x[:, None], x, logp_logging=base, logp_target=base + x + shift)
    same = IPW().fit(x[:, None], x, logp_logging=base, logp_target=base + x)
    assert found.value_ == pytest.approx(same.value_, rel=1e-12)
    assert found.se_ == pytest.approx(same.se_, rel=1e-12)
