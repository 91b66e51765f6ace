"""Class outcomes: the value is an average over predicted probabilities, never over labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from causal_lm_opt import IPW, DoublyRobust, OutcomeRegression, StatsmodelsGLM

WORTH = {"hide": -3.0, "skip": 0.0, "like": 2.0}
FOLDS = [(np.flatnonzero(np.arange(120) % 3 != k), np.arange(120)[k::3]) for k in range(3)]


def reactions(e: Any) -> Any:
    """Three classes, ordered by the outcome."""
    return np.array(list(WORTH))[np.digitize(e.y, [2, 8])]


def expected(model: Any, X: Any, worth: dict[Any, float]) -> Any:
    return model.predict_proba(X) @ np.array([worth[c] for c in model.classes_.tolist()])


@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression(),
        RandomForestClassifier(15, random_state=0, max_depth=3),
        make_pipeline(StandardScaler(), LogisticRegression(C=0.5)),
    ],
    ids=["logistic", "forest", "pipeline"],
)
def test_three_classes_with_their_worth(experiment, model):
    e, labels = experiment, reactions(experiment)
    y = np.array([WORTH[c] for c in labels])
    regression = OutcomeRegression(model, utility=WORTH, n_bootstrap=20)
    regression.fit(e.X, labels, X_target=e.draws[0])
    whole = clone(model).fit(e.X, labels)
    assert_allclose(regression.value_, expected(whole, e.draws[0], WORTH).mean(), rtol=1e-12)
    assert_allclose(regression.predict(e.X), expected(whole, e.X, WORTH), rtol=1e-12)
    assert regression.se_ > 0

    robust = DoublyRobust(model, utility=WORTH, cv=FOLDS)
    robust.fit(e.X, labels, **e.arguments(DoublyRobust))
    w, q, plug_in = np.exp(e.target[:, 0] - e.logging), np.empty(120), 0.0
    for train, test in FOLDS:
        fitted = clone(model).fit(e.X[train], labels[train])
        q[test] = expected(fitted, e.X[test], WORTH)
        plug_in += expected(fitted, e.draws[0], WORTH).mean() / 3
    assert_allclose(robust.value_, w @ (y - q) / w.sum() + plug_in, rtol=1e-12)

    weighted = IPW(utility=WORTH).fit(e.X, labels, **e.arguments(IPW))
    assert_allclose(weighted.value_, w @ y / w.sum(), rtol=1e-12)
    assert_allclose(IPW(utility=WORTH).fit(e.X, labels).value_, y.mean(), rtol=1e-12)


@pytest.mark.parametrize("cls", [OutcomeRegression, DoublyRobust])
@pytest.mark.parametrize(
    "name, low, high, worth",
    [
        ("whole numbers", 0, 1, None),
        ("floats", 0.0, 1.0, None),
        ("booleans", False, True, None),
        ("stated", 0, 1, {0: 0.0, 1: 1.0}),
        ("strings", "a", "b", {"a": 0.0, "b": 1.0}),
        ("another unit", 0, 1, {0: 5.0, 1: 10.0}),
        ("turned", 0, 1, {0: 10.0, 1: 5.0}),
        ("one and two", 1, 2, None),
        ("minus and plus one", -1, 1, None),
    ],
)
def test_two_classes_in_any_unit(cls, experiment, name, low, high, worth):
    """Value and standard error move with the unit of the outcome: V -> a + b V, se -> |b| se."""
    e = experiment
    liked = e.y > 4
    reference = cls(LogisticRegression(tol=1e-10)).fit(e.X, liked.astype(float), **e.arguments(cls))
    a, b = (float(worth[c]) if worth else float(c) for c in (low, high))
    labels = np.where(liked, high, low)
    est = cls(LogisticRegression(tol=1e-10), utility=worth).fit(e.X, labels, **e.arguments(cls))
    assert_allclose(est.value_, a + (b - a) * reference.value_, rtol=1e-9)
    assert_allclose(est.se_, abs(b - a) * reference.se_, rtol=1e-9)
    assert est.inference_ == reference.inference_
    assert ("sandwich" in est.inference_) or ("stacked" in est.inference_)


def test_classes_of_equal_worth_have_no_error(experiment):
    e = experiment
    for cls in (OutcomeRegression, DoublyRobust):
        est = cls(LogisticRegression(), utility={False: 2.0, True: 2.0}, n_bootstrap=20)
        est.fit(e.X, e.y > 4, **e.arguments(cls))
        assert_allclose(est.value_, 2.0, rtol=1e-12)
        assert_allclose(est.se_, 0.0, atol=1e-12)


def test_unpenalised_logistic_equals_the_binomial_glm(experiment):
    e = experiment
    liked = (e.y > 4).astype(float)
    for cls in (OutcomeRegression, DoublyRobust):
        left = cls(LogisticRegression(C=np.inf, tol=1e-12, max_iter=5000))
        left.fit(e.X, liked, **e.arguments(cls))
        right = cls(StatsmodelsGLM("binomial")).fit(e.X, liked, **e.arguments(cls))
        assert_allclose(left.value_, right.value_, rtol=1e-5)
        assert_allclose(left.se_, right.se_, rtol=1e-4)


def test_a_fold_of_one_class_warns_and_goes_on(experiment):
    """Training rows of one class: that constant, said aloud."""
    from causal_lm_opt import EstimationWarning

    e = experiment
    labels = np.zeros(120)
    labels[::3] = 1.0
    est = DoublyRobust(LogisticRegression(), cv=FOLDS)
    with pytest.warns(EstimationWarning, match="one outcome class only"):
        est.fit(e.X, labels, **e.arguments(DoublyRobust))
    assert np.isfinite(est.value_)
    assert np.isfinite(est.se_)


def test_more_classes_in_the_log_than_in_a_fold(experiment):
    """A rare class that some training folds lack: its probability is 0 there."""
    e, labels = experiment, reactions(experiment)
    labels[labels == "hide"] = "skip"
    labels[0] = "hide"
    est = DoublyRobust(LogisticRegression(), utility=WORTH, cv=FOLDS)
    est.fit(e.X, labels, **e.arguments(DoublyRobust))
    assert np.isfinite(est.value_)
