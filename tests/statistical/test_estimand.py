"""100 texts x 20 readers: the interval of each estimand covers its own target, not the other's.

With text effects of variance ``tau^2`` and unit noise, shift ``s``, r readers and m draws, the
variance of a doubly robust value over readers is :math:`e^{s^2} / (100 r)`, over texts too
:math:`e^{s^2} (\\tau^2 + 1/r) / 100 + Var_f(g) / m`. The readers' interval then covers the policy's
value with probability :math:`2 \\Phi(1.96 \\sqrt{A/B}) - 1`: .65 at tau^2 = .12, s = .5, r = 20,
m = 5,000 (the first variance is less than a quarter of the second).

Coverage of an own target lies within 3.3 sqrt(.95 .05/B) of .95; clustered t intervals of 100
weighted texts cost up to .01 more.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression

from causal_lm_opt import IPW, DoublyRobust, OutcomeRegression, ValueEstimate
from causal_lm_opt.simulation import GaussianDesign

pytestmark = pytest.mark.statistical

TEXTS, READERS, TAU2, SHIFT, DRAWS = 100, 20, 0.12, 0.5, 2.5
N = TEXTS * READERS


def covers(result: ValueEstimate, truth: float) -> bool:
    low, high = result.confint()
    return bool(low <= truth <= high)


def band(replications: int, p: float = 0.95) -> float:
    return 3.3 * math.sqrt(p * (1 - p) / replications)


def estimator(name: str, estimand: str) -> Any:
    if name == "IPW":
        return IPW(estimand=estimand)
    if name == "DR":
        return DoublyRobust(LinearRegression(), cv=2, estimand=estimand)
    return OutcomeRegression(LinearRegression(), estimand=estimand)


def coverage(name: str, reps: int) -> dict[tuple[str, str], float]:
    """How often the interval of the first estimand covers the target of the second."""
    design = GaussianDesign("linear", shift=SHIFT, readers=READERS, draws_per_row=DRAWS)
    inside: dict[tuple[str, str], list[bool]] = {}
    for b in range(reps):
        rng = np.random.default_rng([71, b])
        log = design.draw(N, rng)
        assert log.groups is not None
        effect = math.sqrt(TAU2) * rng.normal(size=TEXTS)
        g = design.mean_outcome(log.X) + effect[log.groups]  # of the readers of each text
        y = g + rng.normal(size=N)
        given = log.fit_arguments(target=name != "IPW", log_probs=name != "OR")
        both: dict[str, ValueEstimate] = {
            e: estimator(name, e).fit(log.X, y, **given).result_ for e in ("model", "texts")
        }
        # the values are linear in the outcomes: at the texts' means they are the texts' target
        at_means = estimator(name, "texts").fit(log.X, g, **given)
        truth = {"model": design.value(), "texts": at_means.value_}
        for own, target in ((a, c) for a in both for c in truth):
            inside.setdefault((own, target), []).append(covers(both[own], truth[target]))
    return {pair: float(np.mean(hits)) for pair, hits in inside.items()}


@pytest.mark.parametrize(("name", "reps"), [("DR", 300), ("IPW", 500), ("OR", 300)])
def test_each_estimand_covers_its_own_target(name: str, reps: int) -> None:
    found = coverage(name, reps)
    assert abs(found["texts", "texts"] - 0.95) <= band(reps)
    assert abs(found["model", "model"] - 0.95) <= band(reps) + 0.01
    assert found["model", "texts"] > 0.99  # far too wide
    if name == "IPW":  # without an outcome model the texts' features are noise too
        assert found["texts", "model"] < 0.3
        return
    weight = math.exp(SHIFT**2) if name == "DR" else 1.0 + SHIFT**2
    readers = weight / N
    texts = weight * (TAU2 + 1 / READERS) / TEXTS + 3.0 / (DRAWS * N)
    expected = 2 * stats.norm.cdf(1.96 * math.sqrt(readers / texts)) - 1
    assert expected == pytest.approx(0.65, abs=0.01)
    assert abs(found["texts", "model"] - expected) <= band(reps, expected)
