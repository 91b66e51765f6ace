"""Outcome regression's standard error against statsmodels' HC3 and explicit jackknives."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from sklearn.linear_model import LinearRegression, Ridge

from causal_lm_opt import OutcomeRegression
from causal_lm_opt.estimators._target import TargetSample
from causal_lm_opt.estimators.outcome_models import StatsmodelsGLM

N, M, G = 120, 80, 15
RNG = np.random.default_rng(23)
X = RNG.normal(size=(N, 3))
GROUPS = np.r_[np.arange(G), RNG.integers(0, G, N - G)]
Y = X @ [1.0, -1.0, 0.5] + RNG.normal(size=G)[GROUPS] + RNG.normal(size=N) * (1 + np.abs(X[:, 0]))
DRAWS = RNG.normal(0.5, 1.0, size=(M, 3))
DESIGN, C = sm.add_constant(X), np.r_[1.0, DRAWS.mean(axis=0)]


def fit_variance(est: OutcomeRegression) -> float:
    """The part of the variance that comes from the logged rows."""
    second = est.result_.influence_target
    draws = 0.0 if second is None else np.var(second, ddof=1) / second.shape[0]
    return float(est.se_**2 - draws)


def test_hc3_of_statsmodels() -> None:
    est = OutcomeRegression(LinearRegression()).fit(X, Y, X_target=DRAWS)
    fit = sm.OLS(Y, DESIGN).fit()
    assert est.value_ == pytest.approx(float(C @ fit.params), rel=1e-12)
    hc3 = float(C @ fit.get_robustcov_results("HC3").cov_params() @ C)
    assert fit_variance(est) == pytest.approx(N / (N - 1) * hc3, rel=1e-10)
    hc0 = float(C @ fit.get_robustcov_results("HC0").cov_params() @ C)
    assert fit_variance(est) > 1.02 * hc0  # it is not HC0
    predicted = sm.add_constant(DRAWS) @ fit.params
    assert est.se_**2 == pytest.approx(N / (N - 1) * hc3 + np.var(predicted, ddof=1) / M, rel=1e-10)


def test_exact_support_has_the_fit_variance_only() -> None:
    p = np.random.default_rng(1).dirichlet(np.ones(M))
    support = TargetSample(DRAWS, weight=p, exact=True)
    est = OutcomeRegression(LinearRegression()).fit(X, Y, X_target=support)
    c = np.r_[1.0, p @ DRAWS]
    hc3 = float(c @ sm.OLS(Y, DESIGN).fit().get_robustcov_results("HC3").cov_params() @ c)
    assert est.se_**2 == pytest.approx(N / (N - 1) * hc3, rel=1e-10)


def ridge(rows: np.ndarray, alpha: float) -> np.ndarray:
    z = DESIGN[rows]
    return np.linalg.solve(z.T @ z + np.diag([0, alpha, alpha, alpha]), z.T @ Y[rows])


def test_cr3_is_the_jackknife_over_clusters() -> None:
    est = OutcomeRegression(LinearRegression()).fit(X, Y, X_target=DRAWS, groups=GROUPS)
    full = C @ ridge(np.arange(N), 0.0)
    moved = [C @ ridge(np.flatnonzero(np.not_equal(GROUPS, g)), 0.0) - full for g in range(G)]
    jackknife = G / (G - 1) * sum(m**2 for m in moved)
    assert fit_variance(est) == pytest.approx(jackknife, rel=1e-9)
    alone = OutcomeRegression(LinearRegression()).fit(X, Y, X_target=DRAWS)
    assert fit_variance(est) > 1.3 * fit_variance(alone)  # the clusters matter here


def test_a_cluster_a_row_is_hc3() -> None:
    rows = OutcomeRegression(LinearRegression()).fit(X, Y, X_target=DRAWS)
    single = OutcomeRegression(LinearRegression()).fit(X, Y, X_target=DRAWS, groups=np.arange(N))
    assert single.se_ == pytest.approx(rows.se_, rel=1e-10)


def test_ridge_is_near_its_jackknife() -> None:
    """The penalty is not a row, so that leaving one out is matched to its share only."""
    alpha = 5.0
    est = OutcomeRegression(Ridge(alpha=alpha, tol=1e-12)).fit(X, Y, X_target=DRAWS)
    full = C @ ridge(np.arange(N), alpha)
    moved = np.array([C @ ridge(np.delete(np.arange(N), i), alpha) - full for i in range(N)])
    jackknife = N / (N - 1) * np.sum((moved - moved.mean()) ** 2)
    assert fit_variance(est) == pytest.approx(jackknife, rel=0.01)


@pytest.mark.parametrize("family", ["binomial", "poisson", "gamma"])
def test_generalised_linear_models_against_the_jackknife(family: str) -> None:
    """One Newton step from the full fit: influence within 3 % of the jackknife's, on the whole."""
    rng, n = np.random.default_rng(4), 250
    x = rng.normal(size=(n, 2))
    eta = 0.3 + x @ [0.5, -0.5]
    y = {
        "binomial": lambda: (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(float),
        "poisson": lambda: rng.poisson(np.exp(eta)).astype(float),
        "gamma": lambda: rng.gamma(2.0, np.exp(eta) / 2),
    }[family]()
    draws = rng.normal(0.3, 1.0, size=(50, 2))
    est = OutcomeRegression(StatsmodelsGLM(family)).fit(x, y, X_target=draws)
    out = np.empty(n)
    for i in range(n):
        some = np.delete(np.arange(n), i)
        out[i] = StatsmodelsGLM(family).fit(x[some], y[some]).predict(draws).mean()
    moved = n * (est.value_ - out)
    phi = est.result_.influence
    error = np.linalg.norm(phi - moved) / np.linalg.norm(moved)
    assert error < 0.03
