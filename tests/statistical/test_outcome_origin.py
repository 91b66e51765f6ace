"""Adding 1,000 to every outcome moves a value by 1,000 and leaves its interval's width alone.

An identity, so no Monte-Carlo tolerance: the arithmetic is exact up to rounding, which at outcomes
of 1,000 is 1,000 * 2e-16 * sqrt(n) in a residual of size 1; 1e-8 relative leaves room. It needs
self-normalised weights, of logged rows and of draws alike, and an outcome model that moves with the
outcomes (one with an unpenalised intercept). Where plain weights meet the outcome itself it fails,
as documented: the width then depends on where the outcome's scale has its origin.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, Ridge

from causal_lm_opt import IPW, DoublyRobust, OutcomeRegression, ValueEstimate
from causal_lm_opt.simulation import GaussianDesign

pytestmark = pytest.mark.statistical
ADDED = 1000.0
DESIGNS = {
    "rows": GaussianDesign("linear", shift=0.5),
    "heavy tails": GaussianDesign("heavy", shift=0.5),
    "readers": GaussianDesign("linear", shift=0.3, readers=20),
    "prompts": GaussianDesign("linear", shift=0.5, prompts=True),
    "draws from f0": GaussianDesign("linear", shift=0.5, sampling_shift=0.2),
}


def before_and_after(design: GaussianDesign, estimator: Any) -> tuple[ValueEstimate, ValueEstimate]:
    log = design.draw(1000, np.random.default_rng(11))
    fits = [estimator.fit(log.X, log.y + c, **log.fit_arguments()).result_ for c in (0.0, ADDED)]
    return fits[0], fits[1]


def width(result: ValueEstimate) -> float:
    return float(np.diff(result.confint())[0])


@pytest.mark.parametrize("name", DESIGNS)
@pytest.mark.parametrize(
    "estimator",
    [
        IPW(),
        DoublyRobust(LinearRegression()),
        DoublyRobust(LinearRegression(), inference="influence"),
        DoublyRobust(Ridge(tol=1e-12), weights="ht"),  # residuals do not know the origin
        OutcomeRegression(LinearRegression()),
    ],
    ids=["Hajek", "DR", "DR, influence", "DR, HT weights", "OR"],
)
def test_the_origin_of_the_outcome_does_not_matter(name: str, estimator: Any) -> None:
    plain, moved = before_and_after(DESIGNS[name], estimator)
    assert moved.value - plain.value == pytest.approx(ADDED, abs=1e-7)
    assert width(moved) == pytest.approx(width(plain), rel=1e-8)


def test_horvitz_thompson_depends_on_the_origin() -> None:
    """phi gains 1,000 (w - 1), whose standard error is 1,000 sqrt((e^.25 - 1)/n) = 16.9."""
    plain, moved = before_and_after(DESIGNS["rows"], IPW("ht"))
    assert width(plain) < 1
    # sd(w) over 1,000 rows is known to about 6 % (three times that here)
    assert moved.se == pytest.approx(ADDED * math.sqrt((math.exp(0.25) - 1) / 1000), rel=0.2)


def test_plain_weights_of_the_draws_depend_on_it_too() -> None:
    estimator = DoublyRobust(LinearRegression(), weights_target="ht")
    plain, moved = before_and_after(DESIGNS["draws from f0"], estimator)
    assert width(moved) > 20 * width(plain)
