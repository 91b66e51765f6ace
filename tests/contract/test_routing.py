"""Metadata routing, pipelines and grid search: the figures, not only the absence of errors.

A second sample belongs to no row of the log. ``GridSearchCV`` slices every fit argument of the
log's length, so draws go into a ``TargetSample``, which it cannot slice; a ``Pipeline`` transforms
``X`` only, so preprocessing belongs inside ``outcome_model``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from causal_lm_opt import IPW, Clip, DoublyRobust, OutcomeRegression, TargetSample

METADATA = ("logp_target", "logp_logging", "X_target", "groups", "sample_weight")
ALPHAS = (0.01, 20.0, 1e4)


@pytest.fixture
def routing() -> Iterator[None]:
    with config_context(enable_metadata_routing=True):
        yield


@pytest.fixture
def everything(kind: Any, experiment: Any) -> dict[str, Any]:
    """All metadata of a fit, draws as a plain array."""
    e = experiment
    second = {} if not hasattr(kind, "predict") else {"X_target": e.draws[0]}
    return {
        "logp_target": e.target[:, 0],
        "logp_logging": e.logging,
        "groups": e.groups,
        "sample_weight": np.resize([1, 2], 120),
        **second,
    }


def requesting(est: Any, **requests: bool) -> Any:
    """The estimator asking for all its metadata."""
    return est.set_fit_request(**(dict.fromkeys(METADATA, True) | requests))


def by_hand(y: Any, ell: Any, q: Any, plug_in: float, s: Any) -> float:
    """Doubly robust Hajek value."""
    w = s * np.exp(ell)
    return float(w @ (y - q) / w.sum() + plug_in)


# ------------------------------------------------------------------------------ requests
@pytest.mark.usefixtures("routing")
def test_each_argument_can_be_requested(kind):
    est = requesting(kind(), by=False)
    asked = est.get_metadata_routing().fit.requests
    assert all(asked[name] is True for name in METADATA)
    assert asked["by"] is False
    assert kind().get_metadata_routing().fit.requests["logp_target"] is None
    with pytest.raises(TypeError, match="logp_targte"):
        kind().set_fit_request(logp_targte=True)


@pytest.mark.usefixtures("routing")
def test_unrequested_metadata_is_an_error(experiment):
    e = experiment
    pipe = make_pipeline(StandardScaler(), IPW())
    with pytest.raises(UnsetMetadataPassedError, match="logp_target"):
        pipe.fit(e.X, e.y, logp_target=e.target[:, 0], logp_logging=e.logging)


# ------------------------------------------------------------------------------ pipelines
@pytest.mark.usefixtures("routing")
def test_pipeline_transforms_the_draws_it_is_told_of(kind, experiment, everything):
    """``transform_input=["X_target"]``: the same as scaling both samples by hand."""
    e = experiment
    scaler = StandardScaler().set_fit_request(sample_weight=False)
    transform = None if not hasattr(kind, "predict") else ["X_target"]
    pipe = Pipeline([("scale", scaler), ("value", requesting(kind()))], transform_input=transform)
    pipe.fit(e.X, e.y, **everything)
    scale = StandardScaler().fit(e.X).transform
    own = dict(everything)
    if hasattr(kind, "predict"):
        own["X_target"] = scale(e.draws[0])
    alone = kind().fit(scale(e.X), e.y, **own)
    assert_allclose(pipe[-1].value_, alone.value_, rtol=1e-12)
    assert_allclose(pipe[-1].se_, alone.se_, rtol=1e-12)
    if hasattr(kind, "predict"):
        assert_allclose(pipe.predict(e.draws[0]), alone.predict(scale(e.draws[0])), rtol=1e-12)


@pytest.mark.usefixtures("routing")
@pytest.mark.parametrize("cls", [OutcomeRegression, DoublyRobust])
def test_a_bare_pipeline_leaves_draws_untransformed(cls, experiment):
    """The trap: X is standardised, the draws are not, and nothing can tell."""
    e = experiment
    X, draws = 10 + 3 * e.X, 10 + 3 * e.draws[0]
    arguments = {**e.arguments(cls), "X_target": draws}
    bare = make_pipeline(StandardScaler(), requesting(cls())).fit(X, e.y, **arguments)
    scale = StandardScaler().fit(X).transform
    right = cls().fit(scale(X), e.y, **{**arguments, "X_target": scale(draws)})
    fed_raw = cls().fit(scale(X), e.y, **arguments)
    assert_allclose(bare[-1].value_, fed_raw.value_, rtol=1e-12)
    assert abs(bare[-1].value_ - right.value_) > 10 * right.se_


def test_pipeline_with_prefixed_arguments_needs_no_routing(kind, experiment, everything):
    """Without routing ``step__argument`` reaches the estimator; draws are transformed by hand."""
    e = experiment
    scale = StandardScaler().fit(e.X).transform
    own = dict(everything)
    if hasattr(kind, "predict"):
        own["X_target"] = scale(e.draws[0])
    pipe = make_pipeline(StandardScaler(), kind())
    pipe.fit(e.X, e.y, **{f"{kind.__name__.lower()}__{k}": v for k, v in own.items()})
    alone = kind().fit(scale(e.X), e.y, **own)
    assert_allclose(pipe[-1].value_, alone.value_, rtol=1e-12)
    assert_allclose(pipe[-1].se_, alone.se_, rtol=1e-12)


@pytest.mark.parametrize("routed", [False, True])
def test_preprocessing_inside_the_outcome_model(experiment, routed):
    """Equals scaling within every fold by hand, whatever the unit of the features."""
    e = experiment
    X, draws = 10 + 3 * e.X, 10 + 3 * e.draws[0]
    folds = list(KFold(3).split(X))
    s = np.resize([1, 2], 120)
    model = make_pipeline(StandardScaler(), Ridge(alpha=5.0))
    with config_context(enable_metadata_routing=routed):
        est = DoublyRobust(model, cv=folds)
        est.fit(X, e.y, sample_weight=s, **{**e.arguments(DoublyRobust), "X_target": draws})
    q, plug_in = np.empty(120), 0.0
    for train, test in folds:
        again = np.repeat(train, s[train])  # frequencies reach every step
        scaler = StandardScaler().fit(X[again])
        ridge = Ridge(alpha=5.0).fit(scaler.transform(X[again]), e.y[again])
        q[test] = ridge.predict(scaler.transform(X[test]))
        plug_in += s[test].sum() / s.sum() * ridge.predict(scaler.transform(draws)).mean()
    value = by_hand(e.y, e.target[:, 0] - e.logging, q, plug_in, s)
    assert_allclose(est.value_, value, rtol=1e-11)


@pytest.mark.usefixtures("routing")
def test_a_routed_learner_inside(experiment):
    """A learner with a fit request of its own gets the frequencies all the same."""
    e, s = experiment, np.resize([1, 2], 120)
    model = make_pipeline(StandardScaler(), Ridge(tol=1e-12).set_fit_request(sample_weight=True))
    left = DoublyRobust(model).fit(e.X, e.y, sample_weight=s, **e.arguments(DoublyRobust))
    again = np.repeat(np.arange(120), s)
    repeated = e.rows(again)
    right = DoublyRobust(model).fit(repeated.X, repeated.y, **repeated.arguments(DoublyRobust))
    assert_allclose(left.value_, right.value_, rtol=1e-9)


# ------------------------------------------------------------------------------ grid search
def hand_loop(e: Any, settings: list[dict[str, Any]], score: Any, draws: Any, cv: Any) -> Any:
    """Mean test score of each setting; draws whole in every fold."""
    table = []
    for s in settings:
        scores = []
        for train, test in cv:
            rows = e.rows(train)
            est = DoublyRobust(Ridge(alpha=s["alpha"]), weights=s["weights"]).fit(
                rows.X, rows.y, logp_target=rows.target[:, 0], logp_logging=rows.logging,
                X_target=draws(train),
            )  # fmt: skip
            scores.append(score(est, e.X[test], e.y[test]))
        table.append(np.mean(scores))
    return np.array(table)


def minus_se(est: Any, X: Any, y: Any) -> float:
    return -float(est.se_)


def r2(est: Any, X: Any, y: Any) -> float:
    return float(r2_score(y, est.predict(X)))


@pytest.mark.parametrize("score", [r2, minus_se])
@pytest.mark.parametrize("routed", [False, True], ids=["plain arguments", "routed"])
def test_grid_search_equals_a_hand_loop(experiment, routed, score):
    e = experiment
    rng = np.random.default_rng(0)
    draws = TargetSample(rng.normal(0.4, 1, (120, 3)))  # as many as rows: not sliced all the same
    grid = {"outcome_model__alpha": list(ALPHAS), "weights": ["hajek", "ht", Clip(2.0)]}
    cv = list(KFold(4).split(e.X))
    with config_context(enable_metadata_routing=routed):
        est = DoublyRobust(Ridge())
        if routed:
            est.set_fit_request(logp_target=True, logp_logging=True, X_target=True)
        search = GridSearchCV(
            est, grid, cv=cv, scoring=None if score is r2 else score, error_score="raise"
        )
        arguments = {**e.arguments(DoublyRobust), "X_target": draws}
        search.fit(e.X, e.y, **arguments)
    settings = [
        {"alpha": p["outcome_model__alpha"], "weights": p["weights"]}
        for p in search.cv_results_["params"]
    ]
    table = hand_loop(e, settings, score, lambda _: draws, cv)
    assert_allclose(search.cv_results_["mean_test_score"], table, rtol=1e-12)
    best = settings[int(np.argmax(table))]
    assert search.best_params_ == {
        "outcome_model__alpha": best["alpha"],
        "weights": best["weights"],
    }
    alone = DoublyRobust(Ridge(alpha=best["alpha"]), weights=best["weights"])
    alone.fit(e.X, e.y, **arguments)
    assert search.best_estimator_.value_ == alone.value_
    assert search.best_estimator_.se_ == alone.se_
    assert_array_equal(search.predict(e.X), alone.predict(e.X))


def test_a_bare_array_of_the_logs_length_is_sliced(experiment):
    """The trap that ``TargetSample`` closes: scikit-learn cuts draws as if they were rows."""
    e = experiment
    draws = np.random.default_rng(0).normal(0.4, 1, (120, 3))
    cv = list(KFold(4).split(e.X))
    search = GridSearchCV(DoublyRobust(Ridge()), {"weights": ["hajek"]}, cv=cv, scoring=minus_se)
    search.fit(e.X, e.y, **{**e.arguments(DoublyRobust), "X_target": draws})
    setting = [{"alpha": 1.0, "weights": "hajek"}]
    sliced = hand_loop(e, setting, minus_se, lambda train: draws[train], cv)
    whole = hand_loop(e, setting, minus_se, lambda _: draws, cv)
    assert_allclose(search.cv_results_["mean_test_score"], sliced, rtol=1e-12)
    assert abs(sliced[0] - whole[0]) > 1e-3


@pytest.mark.usefixtures("routing")
def test_groups_reach_splitter_and_estimator(experiment):
    e = experiment
    draws = TargetSample(e.draws[0])
    est = DoublyRobust(Ridge()).set_fit_request(
        logp_target=True, logp_logging=True, X_target=True, groups=True
    )
    arguments = {**e.arguments(DoublyRobust), "X_target": draws}
    grid = {"outcome_model__alpha": list(ALPHAS)}
    search = GridSearchCV(est, grid, cv=GroupKFold(3), scoring=minus_se)
    search.fit(e.X, e.y, groups=e.groups, **arguments)
    table = []
    for alpha in ALPHAS:
        scores = []
        for train, _ in GroupKFold(3).split(e.X, e.y, e.groups):
            rows = e.rows(train)
            fitted = DoublyRobust(Ridge(alpha=alpha)).fit(
                rows.X, rows.y, groups=rows.groups,
                **{**rows.arguments(DoublyRobust), "X_target": draws},
            )  # fmt: skip
            scores.append(-fitted.se_)
        table.append(np.mean(scores))
    assert_allclose(search.cv_results_["mean_test_score"], table, rtol=1e-12)
    assert search.best_estimator_.result_.counts["Clusters"] == 15


@pytest.mark.usefixtures("routing")
def test_frequencies_reach_fit_and_score(experiment):
    e, s = experiment, np.resize([1, 3], 120)
    est = OutcomeRegression(Ridge()).set_fit_request(X_target=True, sample_weight=True)
    est.set_score_request(sample_weight=True)
    cv = list(KFold(3).split(e.X))
    out = cross_validate(
        est, e.X, e.y, cv=cv,
        params={"sample_weight": s, "X_target": TargetSample(e.draws[0])},
        return_estimator=True,
    )  # fmt: skip
    for (train, test), fitted, score in zip(cv, out["estimator"], out["test_score"], strict=True):
        alone = OutcomeRegression(Ridge()).fit(
            e.X[train], e.y[train], sample_weight=s[train], X_target=e.draws[0]
        )
        assert fitted.value_ == alone.value_
        assert_allclose(score, r2_score(e.y[test], alone.predict(e.X[test]), sample_weight=s[test]))


def test_a_mapping_of_log_probs_is_not_sliced_and_says_so(experiment):
    """Frames and arrays of log-probs are cut with the rows; a mapping cannot be, and is refused."""
    e = experiment
    search = GridSearchCV(
        IPW(), {"weights": ["hajek", "ht"]}, cv=KFold(3), scoring=minus_se, error_score="raise"
    )
    mapping = {"a": e.target[:, 0], "b": e.target[:, 1]}
    with pytest.raises(ValueError, match=r"logp_target must have shape \(80, 2\), got \(120, 2\)"):
        search.fit(e.X, e.y, logp_target=mapping, logp_logging=e.logging)


def test_named_policies_survive_the_search(experiment):
    import pandas as pd

    e = experiment
    target = pd.DataFrame(e.target, columns=["calm", "loud"])
    search = GridSearchCV(
        DoublyRobust(Ridge()), {"outcome_model__alpha": list(ALPHAS)}, cv=KFold(3),
        error_score="raise",
    )  # fmt: skip
    second = {"calm": e.draws[0], "loud": e.draws[1]}
    search.fit(e.X, e.y, logp_target=target, logp_logging=e.logging, X_target=second)
    assert search.best_estimator_.result_.names == ("calm", "loud")
    assert search.best_estimator_.value_.shape == (2,)
