"""Coverage where readers' known covariates move both the texts they saw and their outcomes.

Intervals that should cover do so within 3.3 sqrt(.95 .05/B) of .95 (.051 for B = 200), which a
right one leaves once in 1,000 checks. Biased values must lie at least four of their own Monte-Carlo
errors from the truth, and their coverage below that band.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures

from causal_lm_opt import IPW, DoublyRobust, ValueEstimate
from causal_lm_opt.estimators.deconfounding import Deconfounder
from causal_lm_opt.estimators.density_ratio import DensityRatio
from causal_lm_opt.estimators.generalised_propensity import GeneralisedPropensity
from causal_lm_opt.estimators.observational import product_sample, text_and_reader
from causal_lm_opt.simulation import confounded_log

pytestmark = pytest.mark.statistical
B = 200
BAND = 3.3 * math.sqrt(0.95 * 0.05 / B)


def coverage(found: Sequence[ValueEstimate], truth: float) -> float:
    ends = np.array([r.confint() for r in found])
    return float(np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1])))


def errors(found: Sequence[ValueEstimate], truth: float) -> tuple[float, float, float]:
    """Bias, its Monte-Carlo error, and mean standard error over the values' spread."""
    values = np.array([r.value for r in found])
    spread = values.std(ddof=1)
    return values.mean() - truth, spread / math.sqrt(B), np.mean([r.se for r in found]) / spread


def log_of(
    seed: int, replication: int, *, goes_with: float, effect: float, n: int
) -> tuple[Any, ...]:
    """Texts x ~ N(0, 1) correlated with the reader's z; y = x + effect z + e."""
    rng = np.random.default_rng([seed, replication])
    z = rng.normal(size=n)
    x = goes_with * z + math.sqrt(1 - goes_with**2) * rng.normal(size=n)
    return x[:, None], z, x + effect * z + rng.normal(size=n), rng


def log_probs(x: Any, shift: float) -> dict[str, Any]:
    """The texts' marginal N(0, 1) and the target's N(shift, 1)."""
    return {
        "logp_logging": -0.5 * x[:, 0] ** 2 - 1,
        "logp_target": -0.5 * (x[:, 0] - shift) ** 2 - 1,
    }


def test_values_of_freed_outcomes_cover_where_readers_choose_their_texts() -> None:
    """V = E_f[x] = .5. Raw outcomes are off by 2 x .6 x .5; h fitted to y on z alone as well."""
    found: dict[str, list[ValueEstimate]] = {k: [] for k in ("raw", "naive", "ipw")}
    for b in range(B):
        x, z, y, _ = log_of(1, b, goes_with=0.6, effect=2.0, n=500)
        log = log_probs(x, 0.5)
        found["raw"].append(IPW().fit(x, y, **log).result_)
        found["naive"].append(Deconfounder().fit(z, y).value(IPW(), x, **log))
        found["ipw"].append(Deconfounder().fit(z, y, X=x).value(IPW(), x, **log))
    bias, noise, ratio = errors(found["ipw"], 0.5)
    assert abs(bias) < 4 * noise
    assert abs(ratio - 1) < 0.15
    assert abs(coverage(found["ipw"], 0.5) - 0.95) <= BAND
    assert errors(found["raw"], 0.5)[0] == pytest.approx(0.6, abs=0.06)
    assert coverage(found["raw"], 0.5) < 0.1
    # y on z has the slope 2.6: x is robbed of .6 E_f[z] = .6 (.6 .5).
    assert errors(found["naive"], 0.5)[0] == pytest.approx(-0.18, abs=0.04)
    assert coverage(found["naive"], 0.5) < 0.85


def test_the_fit_of_the_confounders_effect_belongs_into_the_interval() -> None:
    """Text and z correlate at .95: little of z is left to learn h from, and D is large."""
    stacked, without = [], []
    for b in range(B):
        x, z, y, rng = log_of(2, b, goes_with=0.95, effect=0.3, n=500)
        freed = Deconfounder().fit(z, y, X=x)
        log = log_probs(x, 1.0) | {"X_target": rng.normal(1.0, 1.0, (2000, 1))}
        learner = DoublyRobust(LinearRegression())
        stacked.append(freed.value(learner, x, **log))
        without.append(freed.value(learner, x, inference="orthogonal", **log))
    bias, noise, ratio = errors(stacked, 1.0)
    assert abs(bias) < 4 * noise
    assert abs(ratio - 1) < 0.15
    assert abs(coverage(stacked, 1.0) - 0.95) <= BAND
    assert coverage(without, 1.0) < 0.95 - BAND
    assert errors(without, 1.0)[2] < 0.85


def test_in_a_randomised_log_it_only_lowers_the_variance() -> None:
    freed, raw = [], []
    for b in range(B):
        x, z, y, _ = log_of(3, b, goes_with=0.0, effect=2.0, n=400)
        log = log_probs(x, 0.8)
        raw.append(IPW().fit(x, y, **log).result_)
        freed.append(Deconfounder().fit(z, y, X=x).value(IPW(), x, **log))
    change = np.array([a.value - b.value for a, b in zip(freed, raw, strict=True)])
    assert abs(change.mean()) < 4 * change.std() / math.sqrt(B)
    spread = np.std([r.value for r in freed]) / np.std([r.value for r in raw])
    assert spread < 0.9
    assert abs(coverage(freed, 0.8) - 0.95) <= BAND


def test_generalised_propensities_cover_where_the_reader_is_known() -> None:
    """Readers of three kinds choose texts; few draws, so that P_f's own error counts."""
    world = confounded_log(2.0, seen=True, texts=4)
    positions, truth = np.unique(world.features[0, :, 0]), world.value()
    names = ("ipw", "dr", "as known", "without the reader")
    found: dict[str, list[ValueEstimate]] = {k: [] for k in names}
    for b in range(B):
        rng = np.random.default_rng([4, b])
        log = world.draw(500, rng)
        text, kind = log.X.T
        draws = rng.choice(positions, size=40, p=world.target[0])
        fitted = GeneralisedPropensity("logistic").fit(text, kind, draws)
        found["ipw"].append(fitted.value(IPW(), log.X, log.y))
        pairs = product_sample(draws[:, None], kind, size=5000)
        found["dr"].append(
            fitted.value(DoublyRobust(LinearRegression()), log.X, log.y, product=pairs)
        )
        known = {"logp_target": fitted.logp_target_, "logp_logging": fitted.logp_logging_}
        found["as known"].append(IPW().fit(log.X, log.y, **known).result_)
        blind = GeneralisedPropensity("logistic").fit(text, np.zeros(500), draws)
        found["without the reader"].append(blind.value(IPW(), log.X, log.y))
    for name in ("ipw", "dr"):
        bias, noise, ratio = errors(found[name], truth)
        assert abs(bias) < 4 * noise, name
        assert abs(ratio - 1) < 0.15, name
        assert abs(coverage(found[name], truth) - 0.95) <= BAND, name
    assert errors(found["as known"], truth)[2] < 0.9  # P_f of 40 draws is not known
    assert errors(found["without the reader"], truth)[0] > 0.2
    assert coverage(found["without the reader"], truth) < 0.8  # .68 here


def test_pairs_are_no_independent_rows() -> None:
    """40 draws crossed with 400 readers: an interaction of text and reader, both laws fitted."""
    right, pairs_as_rows = [], []
    for b in range(B):
        x, z, y, rng = log_of(5, b, goes_with=0.5, effect=1.0, n=400)
        draws = rng.normal(0.4, 0.7, (40, 1))
        fitted = GeneralisedPropensity().fit(x[:, 0], z, draws)
        pairs = product_sample(draws, z, size=4000)
        joint, learner = text_and_reader(x, z), DoublyRobust(LinearRegression())
        right.append(fitted.value(learner, joint, y + 0.5 * x[:, 0] * z, product=pairs))
        log = {"logp_target": fitted.logp_target_, "logp_logging": fitted.logp_logging_}
        est = learner.fit(joint, y + 0.5 * x[:, 0] * z, X_target=pairs.sample, **log)
        pairs_as_rows.append(est.result_)
    truth = 0.4
    bias, noise, _ = errors(right, truth)
    assert abs(bias) < 4 * noise
    assert abs(coverage(right, truth) - 0.95) <= BAND
    assert coverage(pairs_as_rows, truth) < 0.75


def test_the_density_ratio_of_pairs_is_the_inverse_propensity() -> None:
    """Odds of pairs against logged rows, quadratic in (x, z) as the normal ratio is."""
    odds = make_pipeline(PolynomialFeatures(2), LogisticRegression(C=1e3, max_iter=500))
    right, pairs_as_rows = [], []
    for b in range(B):
        x, z, y, rng = log_of(6, b, goes_with=0.5, effect=1.0, n=400)
        pairs = product_sample(rng.normal(0.4, 0.7, (60, 1)), z, size=4000)
        est = IPW(ratio=DensityRatio(odds)).fit(text_and_reader(x, z), y, X_target=pairs.sample)
        pairs_as_rows.append(est.result_)
        right.append(pairs.adjust(est.result_))
    bias, noise, ratio = errors(right, 0.4)
    assert abs(bias) < 4 * noise
    assert abs(ratio - 1) < 0.15
    assert abs(coverage(right, 0.4) - 0.95) <= BAND
    assert coverage(pairs_as_rows, 0.4) < 0.85
