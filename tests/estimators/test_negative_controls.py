"""Four mistakes that MATH names, each beside ours in the same simulation: ours passes, it fails.

Tolerances: a bias is nought within 3.5 Monte-Carlo standard errors and a fault beyond 5; a coverage
of .95 from B replications lies within 3.5 sqrt(.95 .05/B) = .054 (B = 200) or .044 (B = 300).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.tree import DecisionTreeRegressor

from causal_lm_opt import IPW, DoublyRobust
from causal_lm_opt.core import ipw_moment, solve_linear_moment
from causal_lm_opt.estimators._target import TargetSample
from causal_lm_opt.logged import LoggedData

pytestmark = pytest.mark.statistical


def density(x: np.ndarray, mean: float) -> np.ndarray:
    return np.asarray(-0.5 * (x[:, 0] - mean) ** 2 - 0.919)


def z_score(errors: np.ndarray) -> float:
    return float(errors.mean() / errors.std(ddof=1) * math.sqrt(errors.size))


def test_a_refit_on_all_rows_for_the_draws_is_biased() -> None:
    """Thm 4.4 needs q from other rows than y in BOTH terms.

    The residual term uses q_-k and the plug-in term a refit on all n rows. A refit learns more than
    a fit on half the rows, and where q is shrunk the two differ on average by what it learnt.
    """
    mean, n, m, reps = 1.0, 40, 2000, 250
    learner = DecisionTreeRegressor(min_samples_leaf=10)
    rng = np.random.default_rng(0)
    ours, refit = np.empty(reps), np.empty(reps)
    for b in range(reps):
        X = rng.normal(size=(n, 1))
        y = 2 * X[:, 0] + 0.3 * rng.normal(size=n)
        draws = rng.normal(mean, 1.0, size=(m, 1))
        est = DoublyRobust(learner, weights="ht", cv=2, inference="influence", random_state=b)
        est.fit(X, y, logp_target=density(X, mean), logp_logging=density(X, 0.0), X_target=draws)
        ours[b] = est.value_ - 2 * mean
        residual = est.result_.diagnostics[0]["residual"]
        refit[b] = residual + clone(learner).fit(X, y).predict(draws).mean() - 2 * mean
    assert abs(z_score(ours)) < 3.5
    assert abs(z_score(refit)) > 5
    assert refit.mean() > 0.08


class ShrunkMeans(RegressorMixin, BaseEstimator):
    """Mean outcome of each text; of unseen texts the mean of all."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> ShrunkMeans:
        codes = X[:, 0].astype(int)
        counts = np.bincount(codes, minlength=400)
        sums = np.bincount(codes, weights=y, minlength=400)
        self.mean_ = float(y.mean())
        self.table_ = np.where(counts > 0, sums / np.maximum(counts, 1), self.mean_)
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return np.asarray(self.table_[X[:, 0].astype(int)])


def test_averaged_folds_on_repeated_texts_do_not_cover() -> None:
    """Equal texts share a fold, and the draws are logged texts (exact support).

    At a logged text the residual term uses the model that has not seen it; the average of all
    folds' models has seen it four times in five.
    """
    texts, readers, reps = 60, 5, 200
    rng = np.random.default_rng(1)
    g = rng.normal(size=texts) * 2
    p_r, p_f = np.full(texts, 1 / texts), np.exp(0.3 * g) / np.exp(0.3 * g).sum()
    value = float(p_f @ g)
    support = np.arange(texts)[:, None].astype(float)
    sample = TargetSample(support, weight=p_f, exact=True)
    covered = {"own": 0, "average": 0}
    for _ in range(reps):
        text = rng.integers(0, texts, size=texts * readers)
        X, y = support[text], g[text] + rng.normal(size=text.size)
        est = DoublyRobust(ShrunkMeans(), weights="hajek", cv=5)
        est.fit(X, y, logp_target=np.log(p_f[text]), logp_logging=np.log(p_r[text]),
                X_target=sample)  # fmt: skip
        low, high = est.result_.confint()
        covered["own"] += bool(low <= value <= high)
        crossfit = est.splits_[0].crossfit
        assert crossfit is not None
        shift = float(p_f @ crossfit.predict(support)) - est.result_.diagnostics[0]["plug_in"]
        covered["average"] += bool(low + shift <= value <= high + shift)
    assert est.fold_rule_ == "content"
    assert abs(covered["own"] / reps - 0.95) < 0.054
    assert covered["average"] / reps < 0.6


def test_the_value_in_place_of_the_residual_term_inflates_the_standard_error() -> None:
    """phi = w(y - q - R)/mean(w): with V for R a self-normalised DR looks worse than it is."""
    mean, n, reps = 0.6, 400, 300
    rng = np.random.default_rng(2)
    values, ours, inflated = np.empty(reps), np.empty(reps), np.empty(reps)
    for b in range(reps):
        X = rng.normal(size=(n, 1))
        y = 1.0 + X[:, 0] + rng.normal(size=n)
        draws = rng.normal(mean, 1.0, size=(4 * n, 1))
        est = DoublyRobust(weights="hajek", inference="influence")
        est.fit(X, y, logp_target=density(X, mean), logp_logging=density(X, 0.0), X_target=draws)
        values[b], ours[b] = est.value_, est.se_
        w = np.exp(density(X, mean) - density(X, 0.0))
        residual = y - est.splits_[0].logged
        wrong = w * (residual - est.value_) / w.mean()
        second = est.result_.influence_target
        inflated[b] = math.sqrt(wrong.var(ddof=1) / n + second.var(ddof=1) / second.size)
        right = solve_linear_moment(*ipw_moment(w, residual, normalize=True))[1]
        np.testing.assert_allclose(est.result_.influence, right, atol=1e-10)
    spread = values.std(ddof=1)
    # The empirical standard deviation itself is known to 1/sqrt(2 B) = 4 %.
    assert abs(ours.mean() / spread - 1) < 0.13
    assert inflated.mean() / spread > 1.25


def test_a_rate_with_impressions_as_weights_is_far_too_sure() -> None:
    """Clicks of impressions: a row a click or none, clustered by arm; not a rate a row."""
    rng = np.random.default_rng(3)
    arms, reps = 40, 300
    covered: dict[str, Any] = {"counts": 0, "rates": 0}
    ratios = []
    for _ in range(reps):
        rate = rng.beta(4, 16, size=arms)  # arms differ, as headlines do
        impressions = rng.integers(2000, 4000, size=arms)
        clicks = rng.binomial(impressions, rate)
        frame = pd.DataFrame(
            {"arm": [f"arm {a}" for a in range(arms)], "clicks": clicks, "shown": impressions}
        )
        log = LoggedData.from_counts(frame, text="arm", clicks="clicks", impressions="shown")
        counts = IPW().fit(log.X, log.outcome, **log.fit_params()).result_
        rates = IPW().fit(
            np.zeros((arms, 1)), clicks / impressions, sample_weight=impressions
        ).result_  # fmt: skip
        assert counts.value == pytest.approx(rates.value, rel=1e-12)
        for name, result in (("counts", counts), ("rates", rates)):
            low, high = result.confint()
            covered[name] += bool(low <= 0.2 <= high)
        ratios.append(counts.se / rates.se)
    assert abs(covered["counts"] / reps - 0.95) < 0.044
    assert covered["rates"] / reps < 0.2
    assert min(ratios) > 20
