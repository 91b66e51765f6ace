"""Coverage when the logging policy, the outcome model or the reported error is wrong.

Each interval that should cover does so within 3.3 sqrt(.95 .05/B) of .95 (.036 for B = 400, .028
for 650), which a right one leaves once in 1,000 checks. Each that should fail has a coverage
measured over 1,000 other replications (.81, .77, .61, .29 below); the bound it must stay under lies
at least four of its own binomial standard errors above that, and below the band of the right one,
so that both cannot pass by chance.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from causal_lm_opt import DoublyRobust, OutcomeRegression, ValueEstimate
from causal_lm_opt.simulation import GaussianDesign

pytestmark = pytest.mark.statistical
N = 1000


def band(replications: int) -> float:
    return 3.3 * math.sqrt(0.95 * 0.05 / replications)


def results(
    design: GaussianDesign, estimator: Any, replications: int, seed: int
) -> list[ValueEstimate]:
    """Estimates on independent logs; the same logs for the same design and seed."""
    out = []
    for replication in range(replications):
        log = design.draw(N, np.random.default_rng([seed, replication]))
        out.append(estimator.fit(log.X, log.y, **log.fit_arguments()).result_)
    return out


def coverage(found: list[ValueEstimate], truth: float) -> float:
    ends = np.array([r.confint() for r in found])
    return float(np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1])))


def test_a_wrong_logging_policy_needs_the_stacked_correction() -> None:
    """Logging misstated by 1.5 sd, q right and parametric: its fit error is then first order."""
    design = GaussianDesign("linear", shift=1.5, logging_error=1.5)
    stacked = results(design, DoublyRobust(LinearRegression()), 400, seed=21)
    naive = results(design, DoublyRobust(LinearRegression(), inference="influence"), 400, seed=21)
    np.testing.assert_allclose([r.value for r in naive], [r.value for r in stacked])
    truth = design.value()
    assert abs(coverage(stacked, truth) - 0.95) <= band(400)
    assert 0.73 <= coverage(naive, truth) <= 0.89  # .81 in the long run
    values = np.array([r.value for r in stacked])
    # The spread of 400 values is known to 1/sqrt(800) = 3.5 %.
    ratio = np.mean([r.se for r in stacked]) / values.std(ddof=1)
    assert abs(ratio - 1) <= 0.12
    assert np.mean([r.se for r in naive]) / values.std(ddof=1) < 0.8  # .67 in the long run


def test_both_wrong_is_wrong() -> None:
    """Nothing repairs a wrong logging policy with a wrong outcome model: .29 in the long run."""
    design = GaussianDesign("quadratic", shift=1.0, logging_error=1.0)
    found = results(design, DoublyRobust(LinearRegression()), 150, seed=22)
    assert coverage(found, design.value()) < 0.5
    # All weights are 1, so that the bias is that of OLS: E_f[q - g] = -mu_3^2 / 2 = -1/6.
    errors = np.array([r.value for r in found]) - design.value()
    assert errors.mean() == pytest.approx(-1 / 6, abs=4 * errors.std(ddof=1) / math.sqrt(150))


def draws_only(result: ValueEstimate) -> np.ndarray:
    """The interval of who takes the draws' spread for the standard error."""
    phi = result.influence_target
    assert phi is not None
    half = 1.96 * phi.std(ddof=1) / math.sqrt(phi.shape[0])
    return np.array([result.value - half, result.value + half])


@pytest.mark.parametrize(("shift", "long_run"), [(0.5, 0.774), (1.5, 0.607)])
def test_outcome_regression_covers_with_a_right_model(shift: float, long_run: float) -> None:
    design = GaussianDesign("linear", shift=shift)
    found = results(design, OutcomeRegression(LinearRegression()), 650, seed=23)
    truth = design.value()
    assert abs(coverage(found, truth) - 0.95) <= band(650)
    ends = np.array([draws_only(r) for r in found])
    share = float(np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1])))
    assert abs(share - long_run) <= 4 * math.sqrt(long_run * (1 - long_run) / 650)
    assert share < 0.95 - 2 * band(650)


def test_outcome_regression_fails_with_a_wrong_model() -> None:
    design = GaussianDesign("quadratic", shift=1.0)
    found = results(design, OutcomeRegression(LinearRegression()), 150, seed=24)
    assert coverage(found, design.value()) < 0.5
