"""Exact expectations over ALL samples of a space of six texts: no Monte Carlo, no tolerance.

The outcome of a text is fixed, so that the expectation runs over the texts that may be logged.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from sklearn.base import BaseEstimator, RegressorMixin

from causal_lm_opt import IPW, DoublyRobust
from causal_lm_opt.core import Clip
from causal_lm_opt.estimators._target import TargetSample

TEXTS = 6
P_R = np.array([0.3, 0.2, 0.2, 0.15, 0.1, 0.05])
P_F = np.array([0.05, 0.3, 0.0, 0.25, 0.1, 0.3])  # the third text is never written
WRONG = np.array([0.2, 0.2, 0.1, 0.2, 0.2, 0.1])
OUTCOME = np.array([1.0, -2.0, 5.0, 3.0, 0.5, 4.0])
PREDICTION = np.array([0.7, 1.0, -3.0, 2.0, 2.5, -1.0])
VALUE = float(P_F @ OUTCOME)
SUPPORT = TargetSample(np.arange(TEXTS)[:, None].astype(float), weight=P_F, exact=True)
with np.errstate(divide="ignore"):
    LOG_F = np.log(P_F)


def expectation(n: int, value: Callable[[np.ndarray], float]) -> float:
    """Mean of ``value`` over every sample of ``n`` texts, weighted by its probability under P_R."""
    return sum(
        float(np.prod(P_R[list(texts)])) * value(np.array(texts))
        for texts in product(range(TEXTS), repeat=n)
    )


def weighting(texts: np.ndarray, logging: np.ndarray = P_R) -> dict[str, np.ndarray]:
    return {"logp_target": LOG_F[texts], "logp_logging": np.log(logging[texts])}


def features(texts: np.ndarray) -> np.ndarray:
    return texts[:, None].astype(float)


def ipw(texts: np.ndarray, logging: np.ndarray = P_R, weights: object = "ht") -> float:
    if not (P_F[texts] > 0).any():  # refused as "no overlap"; its value is 0
        return 0.0
    est = IPW(weights).fit(features(texts), OUTCOME[texts], **weighting(texts, logging))
    return float(est.value_)


def dr(texts: np.ndarray, q: np.ndarray, logging: np.ndarray = P_R) -> float:
    if not (P_F[texts] > 0).any():
        return float(P_F @ q)
    est = DoublyRobust(weights="ht").fit(
        features(texts), OUTCOME[texts], X_target=SUPPORT, q_logged=q[texts], q_target=q,
        **weighting(texts, logging),
    )  # fmt: skip
    return float(est.value_)


@pytest.mark.parametrize("n", [2, 3])
def test_horvitz_thompson_is_unbiased(n: int) -> None:
    assert expectation(n, ipw) == pytest.approx(VALUE, abs=1e-12)


def test_the_check_has_teeth() -> None:
    """Negative controls: clipping and a wrong logging policy are biased here, Hajek a little."""
    assert abs(expectation(2, lambda t: ipw(t, weights=Clip(1.0, normalize=False))) - VALUE) > 0.3
    assert abs(expectation(2, lambda t: ipw(t, WRONG)) - VALUE) > 0.3
    assert abs(expectation(2, lambda t: ipw(t, weights="hajek")) - VALUE) > 0.05


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("q", [PREDICTION, np.zeros(TEXTS), OUTCOME], ids=["any", "zero", "true"])
def test_doubly_robust_is_unbiased_for_any_fixed_q(q: np.ndarray, n: int) -> None:
    if n == 3 and q is not PREDICTION:
        return
    assert expectation(n, lambda t: dr(t, q)) == pytest.approx(VALUE, abs=1e-12)


def test_doubly_robust_under_a_wrong_logging_policy() -> None:
    """Right q: unbiased. Both wrong: sum_x P_f(x) (P_R/P^_R - 1)(g - q)."""
    assert expectation(2, lambda t: dr(t, OUTCOME, WRONG)) == pytest.approx(VALUE, abs=1e-12)
    bias = float(np.sum(P_F * (P_R / WRONG - 1) * (OUTCOME - PREDICTION)))
    assert abs(bias) > 0.3
    found = expectation(2, lambda t: dr(t, PREDICTION, WRONG)) - VALUE
    assert found == pytest.approx(bias, abs=1e-12)


class MeanByText(RegressorMixin, BaseEstimator):
    """The mean outcome of each text, shrunk to the mean of all: as flexible as can be."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> MeanByText:
        self.mean_ = float(np.mean(y))
        self.table_ = {x: float(np.mean(y[X[:, 0] == x])) for x in np.unique(X[:, 0])}
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return np.array([self.table_.get(x, self.mean_) for x in X[:, 0]])


@pytest.mark.parametrize("own_fold", [True, False])
def test_cross_fitted_value_is_unbiased_where_folds_are_rows(own_fold: bool) -> None:
    """Folds fixed before the texts are seen: the fold average is exact, by enumeration.

    Negative control: one fit on all rows for both terms is biased.
    """
    learner = MeanByText()

    def value(texts: np.ndarray) -> float:
        y, X = OUTCOME[texts], features(texts)
        w = P_F[texts] / P_R[texts]
        folds = [np.array([0, 1]), np.array([2])]
        if not own_fold:
            fitted = learner.fit(X, y)
            q = fitted.predict(features(np.arange(TEXTS)))
            return float(np.mean(w * (y - q[texts])) + P_F @ q)
        out = 0.0
        for test in folds:
            train = np.setdiff1d(np.arange(3), test)
            q = learner.fit(X[train], y[train]).predict(features(np.arange(TEXTS)))
            out += float(np.sum(w[test] * (y[test] - q[texts[test]]))) / 3 + test.size / 3 * (
                P_F @ q
            )
        return out

    bias = expectation(3, value) - VALUE
    assert bool(abs(bias) < 1e-12) is own_fold
