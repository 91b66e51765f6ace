"""Clone, parameters, pickle, repr, refits, and what the estimators leave alone."""

from __future__ import annotations

import inspect
import pickle
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor

from causal_lm_opt import IPW, Clip, DoublyRobust, OutcomeRegression, StatsmodelsGLM, TargetSample

from .conftest import kinds

MODELS = {
    "default": None,
    "pipeline": make_pipeline(StandardScaler(), Ridge()),
    "statsmodels": StatsmodelsGLM(),
    "black box": DecisionTreeRegressor(max_depth=2, random_state=0),
}
CASES = [pytest.param(kind, None, id=kind.__name__) for kind in kinds()] + [
    pytest.param(cls, model, id=f"{cls.__name__}-{name}")
    for cls in kinds(takes="outcome_model")
    for name, model in MODELS.items()
    if model is not None
]
NOT_DEFAULT = {
    IPW: {"weights": Clip(5.0), "influence": "drop"},
    OutcomeRegression: {"outcome_model": Ridge(alpha=3.0), "n_bootstrap": 30, "random_state": 7},
    DoublyRobust: {"outcome_model": Ridge(alpha=3.0), "weights": Clip(5.0), "cv": 3, "n_rep": 2},
    StatsmodelsGLM: {"family": "poisson", "cov_type": "HC1", "max_iter": 25},
}


def with_model(kind: Any, model: Any) -> Any:
    """An estimator with the outcome model, where it has one."""
    settings = {} if model is None else {"outcome_model": model}
    if "n_bootstrap" in kind().get_params():
        settings["n_bootstrap"] = 20
    return kind(**settings)


@pytest.mark.parametrize("cls", [*kinds(), StatsmodelsGLM], ids=lambda c: c.__name__)
def test_init_only_assigns(cls):
    """Every parameter is kept as the very object that was passed, and nothing else is set."""
    parameters = list(inspect.signature(cls).parameters)
    passed = {name: object() for name in parameters}
    made = cls(**passed)
    assert vars(made).keys() == passed.keys()
    assert all(getattr(made, name) is value for name, value in passed.items())


@pytest.mark.parametrize("cls", NOT_DEFAULT, ids=lambda c: c.__name__)
def test_clone_and_parameters(cls):
    made = cls(**NOT_DEFAULT[cls])
    copy = clone(made)
    assert copy is not made
    assert repr(copy) == repr(made)
    for name, value in NOT_DEFAULT[cls].items():
        assert repr(copy.get_params()[name]) == repr(value)
    assert repr(cls().set_params(**NOT_DEFAULT[cls])) == repr(made)
    with pytest.raises(ValueError, match="Invalid parameter 'weigths'"):
        cls().set_params(weigths="hajek")


def test_nested_parameters_reach_the_outcome_model():
    est = DoublyRobust(make_pipeline(StandardScaler(), Ridge()))
    est.set_params(outcome_model__ridge__alpha=9.0)
    assert est.outcome_model[-1].alpha == 9.0
    assert clone(est).get_params()["outcome_model__ridge__alpha"] == 9.0


def test_repr_shows_what_was_changed(kind):
    assert repr(kind()) == f"{kind.__name__}()"
    assert "influence='drop'" in repr(kind(influence="drop"))


@pytest.mark.parametrize("cls, model", CASES)
@pytest.mark.parametrize("policies", [1, 2])
def test_pickle_keeps_everything(cls, model, policies, experiment):
    e = experiment
    arguments = e.arguments(cls, policies=policies)
    est = with_model(cls, model).fit(e.X, e.y, groups=e.groups, **arguments)
    back = pickle.loads(pickle.dumps(est))
    assert_array_equal(back.value_, est.value_)
    assert_array_equal(back.se_, est.se_)
    assert_array_equal(back.result_.confint(), est.result_.confint())
    assert str(back.summary()).split("Date")[0] == str(est.summary()).split("Date")[0]
    if hasattr(cls, "predict"):
        assert_array_equal(back.predict(e.X), est.predict(e.X))
    again = [k for k in ("logp_target", "X_target") if k in arguments]
    other = {k: arguments[k] for k in again}
    assert_array_equal(back.evaluate(**other).value, est.evaluate(**other).value)
    assert_array_equal(back.evaluate(**other).se, est.evaluate(**other).se)
    # a contrast of the pickled and the live result knows that both rest on the same rows
    difference = back.result_ - est.result_
    np.testing.assert_allclose(difference.se, 0, atol=1e-12)


def test_pickle_of_texts_and_classes(experiment):
    e = experiment
    model = make_pipeline(TfidfVectorizer(), LogisticRegression())
    utility = {False: -1.0, True: 2.0}
    est = DoublyRobust(model, utility=utility).fit(
        e.texts, e.y > 4, logp_target=e.target[:, 0], logp_logging=e.logging, X_target=e.text_draws
    )
    back = pickle.loads(pickle.dumps(est))
    assert_array_equal(back.predict(e.texts), est.predict(e.texts))
    assert (back.value_, back.se_) == (est.value_, est.se_)


def test_evaluate_of_the_fitted_policy_is_the_fit(kind, experiment):
    e = experiment
    arguments = e.arguments(kind, policies=2)
    est = kind().fit(e.X, e.y, **arguments)
    result = est.evaluate(**{k: v for k, v in arguments.items() if k != "logp_logging"})
    assert_array_equal(result.value, est.value_)
    assert_array_equal(result.se, est.se_)


def test_fitting_twice_is_fitting_once(kind, experiment, figures):
    e = experiment
    once = kind().fit(e.X, e.y, groups=e.groups, **e.arguments(kind))
    twice = kind().fit(e.X[:50], e.y[:50] + 3)
    twice.fit(e.X, e.y, groups=e.groups, **e.arguments(kind))
    for a, b in zip(figures(once), figures(twice), strict=True):
        assert_array_equal(a, b)


def test_nothing_of_an_earlier_fit_remains(kind, experiment):
    """``by`` and groups of the first fit are gone after a second without them."""
    e = experiment
    by = np.where(e.X[:, 1] > 0, "east", "west")
    est = kind()
    arguments = e.arguments(kind)
    if kind is OutcomeRegression:
        arguments["X_target"] = TargetSample(e.draws[0], by=np.resize(["east", "west"], 40))
    est.fit(e.X, e.y, by=by, groups=e.groups, **arguments)
    assert len(est.result_by_.names) == 2
    est.fit(e.X, e.y, **e.arguments(kind))
    assert not hasattr(est, "result_by_")
    assert "Clusters" not in est.result_.counts
    assert est.result_.dof()[0] == np.inf


@pytest.mark.parametrize("cls", [OutcomeRegression, DoublyRobust], ids=lambda c: c.__name__)
def test_the_callers_learner_is_not_touched(cls, experiment):
    e = experiment
    for model in (LinearRegression(), make_pipeline(StandardScaler(), Ridge()), StatsmodelsGLM()):
        before = pickle.dumps(model)
        cls(model).fit(e.X, e.y, sample_weight=np.resize([1, 2], e.y.size), **e.arguments(cls))
        assert pickle.dumps(model) == before


def test_unfitted_estimators_say_so(kind, experiment):
    from sklearn.exceptions import NotFittedError

    e = experiment
    calls = [lambda est: est.summary(), lambda est: est.diagnose()]
    if not hasattr(kind, "predict"):
        calls.append(lambda est: est.evaluate(e.target))
    elif kind is OutcomeRegression:
        calls += [lambda est: est.predict(e.X), lambda est: est.evaluate(e.draws[0])]
    else:
        calls += [lambda est: est.predict(e.X), lambda est: est.evaluate(e.target, e.draws[0])]
    for call in calls:
        with pytest.raises(NotFittedError, match=kind.__name__):
            call(kind())
