"""Figures of contributions do not hang on their unit, however large or small."""

from __future__ import annotations

import numpy as np
import pytest

from causal_lm_opt import IPW
from causal_lm_opt.diagnostics.coverage import effective_dof, predicted_coverage, sum_skewness


@pytest.mark.parametrize("unit", [1e-90, 1e-60, 1.0, 1e60, 1e90])
def test_a_unit_changes_no_figure(unit: float) -> None:
    c = np.array([1.0, -2.0, 0.5, 3.0, -1.0])
    assert effective_dof(unit * c) == pytest.approx(effective_dof(c))
    assert sum_skewness(unit * c) == pytest.approx(sum_skewness(c))
    ell, draws = np.linspace(-2.0, 1.0, 5), np.linspace(-2.0, 3.0, 40)
    here, there = (predicted_coverage(ell, u * c, u * c / 5, draws, n_units=5) for u in (1.0, unit))
    assert there.coverage == pytest.approx(here.coverage)
    assert there.missing == pytest.approx(here.missing)


@pytest.mark.parametrize("low", [-50.0, -300.0, -999.0])
def test_one_row_with_all_the_weight_is_refused_not_a_crash(low: float) -> None:
    """A stand-in for a missing log-probability, in logs with and without clusters."""
    rng = np.random.default_rng(0)
    logging, y = rng.uniform(-4.0, -3.0, 300), rng.normal(size=300)
    logging[7] = low
    for groups in (None, np.arange(300) // 3):
        est = IPW().fit(
            y[:, None], y, groups=groups, logp_target=np.full(300, -3.5), logp_logging=logging
        )
        assert est.result_.verdicts[0].level == "do not use"
