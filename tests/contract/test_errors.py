"""Bad input: one error that names the argument and says what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold, ShuffleSplit
from sklearn.pipeline import make_pipeline

from causal_lm_opt import (
    IPW,
    DoublyRobust,
    NotIdentifiedError,
    OutcomeRegression,
    OverlapError,
    StatsmodelsGLM,
)

TEXT_MODEL = make_pipeline(TfidfVectorizer(), Ridge())
Fit = Callable[..., Any]


def spoilt(a: Any, value: float, row: int = 3) -> Any:
    out = np.array(a, dtype=float)
    out[row] = value
    return out


# ------------------------------------------------------------------------------ numbers
@pytest.mark.parametrize("value, word", [(np.nan, "NaN"), (np.inf, "infinity")])
def test_not_finite(refit, experiment, value, word):
    e = experiment
    with pytest.raises(ValueError, match=f"Input X contains {word}"):
        refit(X=spoilt(e.X, value))
    with pytest.raises(ValueError, match=f"Input y contains {word}"):
        refit(y=spoilt(e.y, value))


@pytest.mark.parametrize("value, word", [(np.nan, "NaN"), (np.inf, "infinity")])
def test_not_finite_outcomes_of_texts(experiment, value, word):
    e = experiment
    for est in (IPW(), OutcomeRegression(TEXT_MODEL), DoublyRobust(TEXT_MODEL)):
        with pytest.raises(ValueError, match=f"Input y contains {word}"):
            est.fit(e.texts, spoilt(e.y, value))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["logp_target", "logp_logging"])
def test_not_finite_log_probs(refit, experiment, kind, name, value):
    given = experiment.arguments(kind)[name]
    match = rf"^{name} has 1 NaN or \+inf entries, the first at \(3,\)"
    with pytest.raises(ValueError, match=match):
        refit(**{name: spoilt(given, value)})


def test_minus_infinity(refit, experiment, kind):
    """Legal where the target never writes a text; not for a text that was written."""
    e = experiment
    assert np.isfinite(refit(logp_target=spoilt(e.target[:, 0], -np.inf)).value_)
    with pytest.raises(ValueError, match=r"^logp_logging is -inf at \(3,\)"):
        refit(logp_logging=spoilt(e.logging, -np.inf))
    with pytest.raises(OverlapError, match=r"^logp_target: the policy gives every logged text"):
        refit(logp_target=np.full(120, -np.inf))
    two = np.column_stack([e.target[:, 0], np.full(120, -np.inf)])
    more = {} if not hasattr(kind, "predict") else {"X_target": {"a": e.draws[0], "b": e.draws[1]}}
    with pytest.raises(OverlapError, match=r"^logp_target: the policy 'b' gives every logged text"):
        refit(logp_target=pd.DataFrame(two, columns=["a", "b"]), **more)


@pytest.mark.parametrize("name", ["logp_target", "logp_logging"])
def test_positive_log_probs(refit, experiment, kind, name):
    given = experiment.arguments(kind)[name]
    with pytest.raises(ValueError, match=f"^{name} is positive.*are these probabilities.*np.log"):
        refit(**{name: np.exp(given)})
    with pytest.raises(ValueError, match=f"^{name} is positive") as caught:
        refit(**{name: given + 10})
    assert "probabilities?" not in str(caught.value)
    tiny = np.minimum(given, 0) * 0 + 1e-7  # a float32 scorer's rounding is forgiven
    assert np.isfinite(refit(**{name: tiny}).value_)


def test_strings_where_numbers_belong(refit):
    with pytest.raises(ValueError, match=r"^logp_target must be numbers"):
        refit(logp_target=["a"] * 120)
    with pytest.raises(ValueError, match=r"^sample_weight must be numbers"):
        refit(sample_weight=["a"] * 120)
    with pytest.raises(ValueError, match=r"^y holds strings.*utility="):
        refit(y=["like", "hide"] * 60)


# ------------------------------------------------------------------------------ lengths
@pytest.mark.parametrize("rows", [119, 121, 1])
@pytest.mark.parametrize("name", ["logp_target", "logp_logging", "groups", "sample_weight", "by"])
def test_wrong_lengths(refit, name, rows):
    with pytest.raises(ValueError, match=rf"^{name} must have shape \(120,\), got \({rows},\)"):
        refit(**{name: -np.ones(rows) if name.startswith("logp") else np.arange(rows)})


def test_wrong_lengths_of_rows_and_outcomes(refit, experiment):
    e = experiment
    for y in (e.y[:-1], list(e.y[:-1]), pd.Series(e.y[:-1])):
        with pytest.raises(ValueError, match=r"^X has 120 rows and y has 119"):
            refit(y=y)
    with pytest.raises(ValueError, match=r"^X has 120 rows and y has 119"):
        IPW().fit(list(e.texts), e.y[:-1])
    with pytest.raises(ValueError, match="y should be a 1d array"):
        refit(y=np.column_stack([e.y, e.y]))


def test_wrong_lengths_of_given_predictions(robust, experiment):
    q, p = np.zeros(120), np.zeros(40)
    with pytest.raises(ValueError, match=r"^q_logged must have shape \(120,\), got \(119,\)"):
        robust(q_logged=q[:-1], q_target=p)
    with pytest.raises(ValueError, match=r"^q_target must have shape \(40,\), got \(39,\)"):
        robust(q_logged=q, q_target=p[:-1])
    with pytest.raises(ValueError, match=r"^q_logged and q_target go together"):
        robust(q_logged=q)
    with pytest.raises(ValueError, match=r"^q_logged has 1 NaN"):
        robust(q_logged=spoilt(q, np.nan), q_target=p)


def test_shapes_of_log_probs(refit, experiment):
    e = experiment
    for bad, match in (
        (np.zeros((120, 0)), "^logp_target has no column"),
        (np.zeros((120, 1, 1)), r"^logp_target must have shape \(120,\) or \(120, K\)"),
        ({}, "^logp_target is an empty mapping"),
        ({"a": e.target[:, 0], "b": e.target[:-1, 1]}, "^logp_target: policies differ in shape"),
        (pd.DataFrame(e.target, columns=["a", "a"]), "^logp_target has duplicate policy names"),
        (e.target.T, r"^logp_target must have shape \(120, 120\), got \(2, 120\)"),
    ):
        with pytest.raises(ValueError, match=match):
            refit(logp_target=bad)
    with pytest.raises(ValueError, match=r"^logp_logging must have shape \(120,\), got \(120, 2\)"):
        refit(logp_logging=e.target)


# ------------------------------------------------------------------------------ what is missing
def test_one_log_prob_without_the_other(refit):
    with pytest.raises(NotIdentifiedError, match=r"^logp_logging was given without logp_target"):
        refit(logp_target=None)
    with pytest.raises(NotIdentifiedError, match=r"^logp_target was given without logp_logging"):
        refit(logp_logging=None)


def test_what_each_estimator_needs(experiment):
    e = experiment
    logs = {"logp_target": e.target[:, 0], "logp_logging": e.logging}
    with pytest.raises(NotIdentifiedError, match="OutcomeRegression needs X_target"):
        OutcomeRegression().fit(e.X, e.y, **logs)
    with pytest.raises(NotIdentifiedError, match="DoublyRobust needs X_target"):
        DoublyRobust().fit(e.X, e.y, **logs)
    with pytest.raises(NotIdentifiedError, match="DoublyRobust needs logp_target and logp_logging"):
        DoublyRobust().fit(e.X, e.y, X_target=e.draws[0])
    with pytest.raises(ValueError, match=r"^X_target alone cannot be valued by weighting"):
        IPW().fit(e.X, e.y, X_target=e.draws[0])
    with pytest.raises(NotIdentifiedError, match="logp_target was given without logp_logging"):
        DoublyRobust().fit(e.X, e.y).evaluate(e.target[:, 0], e.draws[0])


def test_policies_that_do_not_match(robust, experiment):
    e = experiment
    target = pd.DataFrame(e.target, columns=["calm", "loud"])
    with pytest.raises(ValueError, match=r"^X_target and .* X_target lacks \['loud'\]"):
        robust(logp_target=target, X_target={"calm": e.draws[0]})
    extra = dict.fromkeys(["calm", "loud", "shy"], e.draws[0])
    with pytest.raises(ValueError, match=r"logp_target lacks \['shy'\]"):
        robust(logp_target=target, X_target=extra)
    with pytest.raises(NotIdentifiedError, match=r"^X_target is one set of draws for 2 policies"):
        robust(logp_target=target, X_target=e.draws[0])


# ------------------------------------------------------------------------------ too little
def test_too_few_rows(kind, experiment):
    e = experiment
    for empty in (np.zeros((0, 3)), [], pd.DataFrame({"a": []})):
        with pytest.raises(ValueError, match=r"^X is empty"):
            kind().fit(empty, [])
    with pytest.raises(ValueError, match="at least two rows: n_samples = 1"):
        kind().fit(e.X[:1], e.y[:1])
    with pytest.raises(ValueError, match="at least two rows: n_samples = 1"):
        kind().fit(["one text"], [1.0])
    with pytest.raises(ValueError, match="requires y to be passed"):
        kind().fit(e.X, None)


def test_groups(refit, experiment):
    e = experiment
    with pytest.raises(ValueError, match=r"^groups holds one distinct label"):
        refit(groups=np.zeros(120))
    s = np.where(e.groups == 3, 1, 0)  # one label among the rows that count
    with pytest.raises(ValueError, match=r"^groups holds one distinct label"):
        refit(groups=e.groups, sample_weight=s)
    missing = pd.Series(e.groups).astype(object)
    missing[7] = None
    with pytest.raises(ValueError, match=r"^groups has 1 missing labels, the first at row 7"):
        refit(groups=missing)
    with pytest.raises(ValueError, match=r"^by: 120 of 120 subgroups have fewer than two rows"):
        refit(by=np.arange(120))


@pytest.mark.parametrize(
    "weight, match",
    [
        (lambda one: spoilt(one, -1), "^sample_weight must be non-negative.*-1 at row 3"),
        (lambda one: 0 * one, "^sample_weight is zero for every row"),
        (lambda one: one / 120, "^sample_weight sums to 1: they are frequencies"),
        (lambda one: one / 240, "^sample_weight sums to 0.5: they are frequencies"),
        (lambda one: spoilt(0 * one, 1), "^sample_weight sums to 1"),
        (lambda one: spoilt(one, np.nan), "^sample_weight has 1 NaN"),
        (lambda one: one[:, None] * [1, 1], r"^sample_weight must have shape \(120,\)"),
    ],
)
def test_sample_weight(refit, weight, match):
    with pytest.raises(ValueError, match=match):
        refit(sample_weight=weight(np.ones(120)))


def test_fractional_weights_need_a_learner_that_takes_them(experiment):
    from sklearn.neighbors import KNeighborsRegressor

    e = experiment
    with pytest.raises(ValueError, match=r"^sample_weight has fractional entries"):
        OutcomeRegression(KNeighborsRegressor()).fit(
            e.X, e.y, X_target=e.draws[0], sample_weight=np.full(120, 1.5)
        )


# ------------------------------------------------------------------------------ settings
@pytest.mark.parametrize(
    "settings, match",
    [
        ({"weights": "hayek"}, "^weights='hayek' is not known"),
        ({"weights_target": "hayek"}, "weights.*'hayek' is not known"),
        ({"cv": 1}, "^cv must be at least 2 folds, got 1"),
        ({"cv": True}, "^cv must be a number of folds.*got True"),
        ({"cv": 2.5}, "^cv must be a number of folds.*got 2.5"),
        ({"cv": "five"}, "^cv must be a number of folds.*got 'five'"),
        ({"cv": ShuffleSplit(3, random_state=0)}, "^cv: split . tests a row twice"),
        ({"cv": [(np.arange(60), np.arange(60, 120))]}, "^cv: 60 rows are in no test fold"),
        ({"n_rep": 0}, "^n_rep must be a positive whole number, got 0"),
        ({"inference": "magic"}, "^inference='magic' is not known"),
        ({"influence": "hide"}, "^influence='hide' is not known"),
        ({"inference": "bootstrap", "n_bootstrap": 3}, "^n_bootstrap must be at least 20"),
        ({"outcome_model": LogisticRegression()}, "^outcome_model is a classifier but y has"),
        ({"utility": {0: 1.0}}, "^utility has no entry"),
    ],
)
def test_settings(robust, settings, match):
    with pytest.raises(ValueError, match=match):
        robust(settings)


@pytest.mark.parametrize("model", ["ridge", Ridge, object()], ids=["str", "class", "object"])
def test_what_is_no_learner(robust, model):
    with pytest.raises(TypeError, match=r"outcome_model|estimator instance"):
        robust({"outcome_model": model})


def test_a_splitter_that_splits_groups(robust, experiment):
    """The one error, and no warning of scikit-learn's besides."""
    for cv in (KFold(3), list(KFold(3).split(experiment.X))):
        with pytest.raises(ValueError, match=r"^cv: split 0 has a group in training and test"):
            robust({"cv": cv}, groups=experiment.groups)


def test_unknown_arguments_are_refused(refit):
    with pytest.raises(TypeError, match="unexpected keyword argument 'group'"):
        refit(group=np.arange(120))


def test_utility(experiment):
    e = experiment
    labels = np.where(e.y > 4, "like", "hide")
    with pytest.raises(ValueError, match=r"^utility has no entry for .*\['hide'\]"):
        IPW(utility={"like": 1.0}).fit(e.X, labels)
    with pytest.raises(ValueError, match=r"^utility must be finite numbers"):
        IPW(utility={"like": 1.0, "hide": np.nan}).fit(e.X, labels)
    with pytest.raises(ValueError, match=r"^utility= is for classifiers"):
        OutcomeRegression(Ridge(), utility={"like": 1.0, "hide": 0.0}).fit(e.X, labels)


def test_statsmodels_glm(experiment):
    e = experiment
    with pytest.raises(ValueError, match=r"^family='cauchy' is not known"):
        StatsmodelsGLM("cauchy").fit(e.X, e.y)
    with pytest.raises(ValueError, match=r"^y lies outside the range of family='binomial'"):
        StatsmodelsGLM("binomial").fit(e.X, e.y)


def test_a_failed_fit_leaves_nothing_behind(refit, kind, experiment):
    """No value of an earlier fit can be read after a fit that failed."""
    from sklearn.exceptions import NotFittedError

    e = experiment
    est = kind().fit(e.X, e.y)
    with pytest.raises(ValueError, match=r"^groups"):
        est.fit(e.X, e.y, groups=np.zeros(120))
    assert not hasattr(est, "value_")
    with pytest.raises(NotFittedError):
        est.summary()


@pytest.mark.parametrize("rows", ["numbers", "texts"])
def test_an_outcome_that_is_missing_is_named(refit, experiment, rows):
    y = np.array(experiment.y, dtype=float)
    y[[17, 30]] = np.nan
    X = experiment.X if rows == "numbers" else list(experiment.texts)
    with pytest.raises(ValueError, match=r"Input y contains NaN.* 2 of .* the first at row 17"):
        refit(X=X, y=y)
