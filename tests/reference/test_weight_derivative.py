"""The stacked influence function is n times the derivative of the value in a row's weight.

Folds are fixed, the outcome model is refitted. Left over are constants within a fold: the shares of
the folds in the average prediction, and the penalty's score, which no row carries; so rows are
compared with others of their fold. The leave-one-out factors (HC3, CR3) are switched off for the
exact comparison and left on for a second one, at large n.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from causal_lm_opt import DoublyRobust, OutcomeRegression
from causal_lm_opt.core import Clip
from causal_lm_opt.estimators import _linear
from causal_lm_opt.estimators._target import TargetSample
from causal_lm_opt.estimators.outcome_models import StatsmodelsGLM

LEARNERS: dict[str, Any] = {
    "ridge": Ridge(alpha=5.0, tol=1e-14),
    "logistic": LogisticRegression(C=0.2, tol=1e-12, solver="newton-cholesky"),
    "poisson": StatsmodelsGLM("poisson"),
    "gamma": StatsmodelsGLM("gamma"),
    "pipeline": make_pipeline(FunctionTransformer(), Ridge(alpha=2.0, tol=1e-14)),
}


def a_log(learner: str, n: int = 150, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 2))
    eta = 0.2 + 0.4 * X[:, 0] - 0.3 * X[:, 1] + 0.2 * X[:, 0] ** 2  # no learner is right
    if learner == "logistic":
        y = (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(float)
    elif learner == "poisson":
        y = rng.poisson(np.exp(eta)).astype(float)
    elif learner == "gamma":
        y = rng.gamma(2.0, np.exp(eta) / 2)
    else:
        y = eta + rng.normal(size=n)
    return {
        "X": X, "y": y,
        "logp_logging": -0.5 * (X**2).sum(axis=1) - 2,
        "logp_target": -0.5 * ((X - 0.5) ** 2).sum(axis=1) - 2.2,  # wrong: not normalised
    }  # fmt: skip


def second_sample(kind: str, X: np.ndarray) -> TargetSample:
    rng = np.random.default_rng(99)
    draws = rng.normal(0.3, 1.0, size=(60, 2))
    if kind == "draws of f0":
        lt, l0 = -0.5 * ((draws - 0.5) ** 2).sum(1) - 3, -0.5 * ((draws - 0.3) ** 2).sum(1) - 3
        return TargetSample(draws, logp_target=lt, logp_sampling=l0)
    if kind == "logged texts":  # predicted by their own fold's model
        return TargetSample(np.r_[X[:40], draws[:20]])
    return TargetSample(draws)


def user_folds(n: int, groups: np.ndarray | None) -> list[tuple[np.ndarray, np.ndarray]]:
    fold = (np.arange(n) if groups is None else groups) % 3
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(3)]


def derivative(est: Any, log: dict[str, Any], rows: np.ndarray, step: float = 1e-3) -> np.ndarray:
    """``n dV/ds_i`` of the rows, by central differences with refits."""
    n = log["y"].shape[0]
    out = np.zeros(rows.size)
    for j, i in enumerate(rows):
        values = []
        for sign in (1, -1):
            s = np.ones(n)
            s[i] += sign * step
            values.append(est.fit(**log, sample_weight=s).value_)
        out[j] = n * (values[0] - values[1]) / (2 * step)
    return out


def centred(values: np.ndarray, fold: np.ndarray) -> np.ndarray:
    out = values.copy()
    for k in np.unique(fold):
        out[fold == k] -= values[fold == k].mean()
    return out


@pytest.fixture
def no_leave_one_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_linear, "_leverage", lambda z, *_: np.zeros(z.shape[0]))
    monkeypatch.setattr(
        _linear, "_leave_cluster_out", lambda info, inverse, z, w, scores, *_: scores @ inverse
    )


CASES = [
    (learner, weights, fresh, kind, clustered)
    for learner in LEARNERS
    for weights, fresh, kind, clustered in (
        ("hajek", "hajek", "draws", False),
        ("ht", "hajek", "logged texts", True),
        (Clip(1.5), "ht", "draws of f0", False),
        ("hajek", "hajek", "draws of f0", True),
    )
]


@pytest.mark.usefixtures("no_leave_one_out")
@pytest.mark.parametrize(("learner", "weights", "fresh", "kind", "clustered"), CASES)
def test_doubly_robust(learner: str, weights: Any, fresh: str, kind: str, clustered: bool) -> None:
    log = a_log(learner)
    n = log["y"].shape[0]
    groups = np.arange(n) // 3 if clustered else None
    cv = user_folds(n, groups)
    log |= {"groups": groups, "X_target": second_sample(kind, log["X"])}
    est = DoublyRobust(
        LEARNERS[learner], weights=weights, weights_target=fresh, cv=cv, inference="stacked"
    ).fit(**log)
    phi = est.result_.influence
    rows = np.arange(0, 12)
    fold = np.empty(n, dtype=int)
    for k, (_, test) in enumerate(cv):
        fold[test] = k
    expected = centred(derivative(est, log, rows), fold[rows])
    found = centred(phi[rows], fold[rows])
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())
    # Negative control: without the fit's part it is another function.
    plain = DoublyRobust(
        LEARNERS[learner], weights=weights, weights_target=fresh, cv=cv, inference="influence"
    ).fit(**log)
    off = centred(plain.result_.influence[rows], fold[rows]) - expected
    assert np.abs(off).max() > 0.01 * np.abs(expected).max()


@pytest.mark.usefixtures("no_leave_one_out")
@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize("learner", LEARNERS)
def test_outcome_regression(learner: str, clustered: bool) -> None:
    log = a_log(learner)
    del log["logp_target"], log["logp_logging"]
    log["groups"] = np.arange(150) // 3 if clustered else None
    log["X_target"] = second_sample("draws of f0", log["X"])
    est = OutcomeRegression(LEARNERS[learner]).fit(**log)
    phi, rows = est.result_.influence, np.arange(0, 12)
    expected = derivative(est, log, rows)
    expected -= expected.mean()
    found = phi[rows] - phi[rows].mean()
    np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())


@pytest.mark.parametrize("learner", ["ridge", "logistic"])
def test_leave_one_out_factors_vanish_in_large_logs(learner: str) -> None:
    log = a_log(learner, n=3000, seed=1)
    cv = user_folds(3000, None)
    log["X_target"] = second_sample("draws", log["X"])
    est = DoublyRobust(LEARNERS[learner], cv=cv, inference="stacked").fit(**log)
    phi, rows = est.result_.influence, np.arange(0, 30, 3)
    expected = derivative(est, log, rows, step=1e-2)
    error = (phi[rows] - phi[rows].mean()) - (expected - expected.mean())
    assert np.abs(error).max() < 0.01 * np.abs(expected).max()
