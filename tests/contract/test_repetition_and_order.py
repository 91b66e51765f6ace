"""Frequency weights mean repeated rows, and neither row order nor policy order matters.

Exact to rounding (1e-9) wherever the learner itself has the property. A bootstrapped forest has
not: its trees resample rows by position, so that a repeated or a moved row meets other random
numbers (and ``min_samples_leaf`` counts rows, not their weights). There the folds must agree, and
the figures only to the forest's own noise.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.ensemble import RandomForestRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from causal_lm_opt import (
    IPW,
    Clip,
    DoublyRobust,
    OutcomeRegression,
    ParetoSmooth,
    Shrink,
    StatsmodelsGLM,
    TargetSample,
    Temper,
)

from .conftest import kinds, with_draws

RTOL = 1e-9
FREQUENCY = np.resize([1, 0, 3, 2, 1, 1, 0, 5], 120)
ORDER = np.random.default_rng(5).permutation(120)
MODELS = {
    "default": None,
    "scaled": make_pipeline(StandardScaler(), Ridge(alpha=5.0)),
    "statsmodels": StatsmodelsGLM(),
}
CASES = [pytest.param(kind, None, id=kind.__name__) for kind in kinds()] + [
    pytest.param(cls, model, id=f"{cls.__name__}-{name}")
    for cls in kinds(takes="outcome_model")
    for name, model in MODELS.items()
    if model is not None
]


def each(classes: Any) -> Any:
    """A parameter ``cls``, told by its name (``-k`` finds the tests of one estimator)."""
    return pytest.mark.parametrize("cls", [pytest.param(c, id=c.__name__) for c in classes])


def assert_same(left: Any, right: Any) -> None:
    assert_allclose(left.value_, right.value_, rtol=RTOL)
    assert_allclose(left.se_, right.se_, rtol=RTOL)
    assert_allclose(left.result_.confint(), right.result_.confint(), rtol=RTOL)
    assert_allclose(left.result_.dof(), right.result_.dof())
    assert [v.level for v in left.result_.verdicts] == [v.level for v in right.result_.verdicts]
    for a, b in zip(left.result_.diagnostics, right.result_.diagnostics, strict=True):
        assert a.keys() == b.keys()
        numbers = [k for k, v in a.items() if isinstance(v, float | int)]
        assert_allclose([a[k] for k in numbers], [b[k] for k in numbers], rtol=1e-7, atol=1e-12)


def fit(est: Any, e: Any, *, groups: bool = False, policies: int = 2, **more: Any) -> Any:
    arguments = {**e.arguments(type(est), policies=policies), **more}
    return est.fit(e.X, e.y, groups=e.groups if groups else None, **arguments)


def made(kind: Any, model: Any = None, **settings: Any) -> Any:
    return kind(**settings) if model is None else kind(outcome_model=model, **settings)


# ------------------------------------------------------------------------------ repetition
@pytest.mark.parametrize("groups", [False, True], ids=["rows", "groups"])
@pytest.mark.parametrize("policies", [1, 2])
@pytest.mark.parametrize("cls, model", CASES)
def test_weights_mean_repetition(cls, experiment, model, policies, groups):
    e, s = experiment, FREQUENCY
    repeated = e.rows(np.repeat(np.arange(120), s))
    settings = {"groups": groups, "policies": policies}
    left = fit(made(cls, model), e, **settings, sample_weight=s)
    assert_same(left, fit(made(cls, model), repeated, **settings))


@pytest.mark.parametrize("weights", ["ht", Clip(3.0), Shrink(10.0), Temper(0.5)], ids=repr)
@each(kinds(takes="weights"))
def test_weights_mean_repetition_under_every_weighting(cls, experiment, weights):
    e = experiment
    repeated = e.rows(np.repeat(np.arange(120), FREQUENCY))
    left = fit(cls(weights=weights), e, sample_weight=FREQUENCY)
    assert_same(left, fit(cls(weights=weights), repeated))


@each(kinds(takes="weights"))
def test_weights_mean_repetition_under_pareto_smoothing(cls, experiment):
    e = experiment
    repeated = e.rows(np.repeat(np.arange(120), FREQUENCY))
    left = fit(cls(weights=ParetoSmooth()), e, sample_weight=FREQUENCY)
    right = fit(cls(weights=ParetoSmooth()), repeated)
    assert_allclose(left.value_, right.value_, rtol=RTOL)
    assert_allclose(left.se_, right.se_, rtol=RTOL)


def test_no_log_probs_is_the_repeated_mean(kind, experiment):
    e, s = experiment, FREQUENCY
    est = kind().fit(e.X, e.y, sample_weight=s)
    rows = np.repeat(e.y, s)
    assert_allclose(est.value_, rows.mean(), rtol=RTOL)
    assert_allclose(est.se_, rows.std(ddof=1) / np.sqrt(rows.size), rtol=RTOL)


def test_a_weight_of_one_is_no_weight(kind, experiment):
    for s in (np.ones(120), np.ones(120, dtype=int), 1):
        assert_same(fit(made(kind), experiment, sample_weight=s), fit(made(kind), experiment))


def test_rows_of_weight_zero_are_absent(kind, experiment):
    """Not even a broken fold, group or subgroup label is left of them."""
    e = experiment
    s = np.where(np.arange(120) < 70, 1, 0)
    left = fit(made(kind), e, groups=True, sample_weight=s)
    assert_same(left, fit(made(kind), e.rows(np.arange(70)), groups=True))
    assert left.result_.influence.shape == (70, 2)


def test_subgroups_under_weights(kind, experiment):
    e, s = experiment, FREQUENCY
    by = np.where(e.X[:, 1] > 0, "east", "west")
    again = np.repeat(np.arange(120), s)
    more: dict[str, Any] = {"policies": 1}
    if kind is OutcomeRegression:  # rests on draws alone, which then say their subgroup
        more["X_target"] = TargetSample(e.draws[0], by=np.resize(["east", "west"], 40))
    left = fit(kind(), e, by=by, sample_weight=s, **more).result_by_
    right = fit(kind(), e.rows(again), by=by[again], **more).result_by_
    assert left.names == right.names
    assert_allclose(left.value, right.value, rtol=RTOL)
    assert_allclose(left.se, right.se, rtol=RTOL)


def test_a_subgroup_has_the_value_of_its_own_rows(kind, experiment):
    """Exactly where nothing is shared with the other rows; an outcome model is, so that there the
    subgroup whose outcomes are raised must rise, and the other stay.
    """
    if kind is OutcomeRegression:
        pytest.skip("values draws, whose subgroups they say themselves")
    e = experiment
    east = np.resize([True, False, True], 120)
    by = np.where(east, "east", "west")
    if kind in with_draws():
        raised = replace(e, y=e.y + np.where(east, 1000.0, 0.0))
        here, there = (fit(kind(), x, policies=1, by=by).result_by_.value for x in (e, raised))
        assert_allclose(there - here, [1000.0, 0.0], atol=250.0)
        return
    found = fit(kind(), e, policies=1, by=by).result_by_
    for k, rows in enumerate((east, ~east)):
        alone = fit(kind(), e.rows(np.flatnonzero(rows)), policies=1)
        assert_allclose(found.value[k], alone.value_, rtol=RTOL)
        assert_allclose(found.se[k], alone.se_, rtol=RTOL)


@each(with_draws())
def test_weights_of_draws_mean_repeated_draws(cls, experiment):
    e = experiment
    s = np.resize([2, 1, 0, 4], 40)
    groups = np.resize(np.arange(9), 40) + 1000
    again = np.repeat(np.arange(40), s)
    for labels in (None, groups):
        weighted = TargetSample(e.draws[0], weight=s, groups=labels)
        repeated = TargetSample(e.draws[0][again], groups=None if labels is None else labels[again])
        left = fit(cls(), e, policies=1, X_target=weighted)
        right = fit(cls(), e, policies=1, X_target=repeated)
        assert_allclose(left.value_, right.value_, rtol=RTOL)
        assert_allclose(left.se_, right.se_, rtol=RTOL)


@pytest.mark.parametrize("case", ["repetition", "order"])
@each(with_draws())
def test_shared_prompts(cls, experiment, case):
    """Draws weighted to the log's prompt frequencies, which repetition and weights both change."""
    e = experiment
    prompts = np.resize(np.arange(15), 120)
    draws = TargetSample(e.draws[0], groups=np.resize(np.arange(15), 40))
    s = 1 + np.resize([0, 2, 1], 120) if case == "repetition" else np.ones(120, dtype=int)
    again = np.repeat(np.arange(120), s) if case == "repetition" else ORDER
    repeated = e.rows(again)
    left = cls().fit(
        e.X, e.y, groups=prompts, sample_weight=s, **{**e.arguments(cls), "X_target": draws}
    )
    right = cls().fit(
        repeated.X, repeated.y, groups=prompts[again],
        **{**repeated.arguments(cls), "X_target": draws},
    )  # fmt: skip
    assert_same(left, right)


@each(with_draws())
def test_exact_support_in_any_order(cls, experiment):
    e = experiment
    p = np.random.default_rng(8).dirichlet(np.ones(40))
    order = np.random.default_rng(9).permutation(40)
    whole = TargetSample(e.draws[0], weight=p, exact=True)
    moved = TargetSample(e.draws[0][order], logp_target=np.log(p[order]), exact=True)
    left = fit(cls(), e, policies=1, X_target=whole)
    assert_same(left, fit(cls(), e, policies=1, X_target=moved))


@each(kinds(takes="outcome_model"))
def test_fractional_weights_scale_free_value(cls, experiment):
    """The value depends on the ratios of the weights only, with an unpenalised learner."""
    e = experiment
    s = 0.5 + np.resize([0.25, 1.0, 2.5], 120)
    left = fit(cls(StatsmodelsGLM()), e, sample_weight=s)
    right = fit(cls(StatsmodelsGLM()), e, sample_weight=3 * s)
    assert_allclose(left.value_, right.value_, rtol=1e-8)
    assert (left.se_ > right.se_).all()  # three times the rows


def test_stacking_counts_frequencies_not_distinct_rows(experiment):
    """45 rows of weight 4 are 180: enough rows for the 4 parameters' correction, either way."""
    e = experiment.rows(np.arange(45))
    again = np.repeat(np.arange(45), 4)
    left = fit(DoublyRobust(cv=3), e, sample_weight=np.full(45, 4))
    right = fit(DoublyRobust(cv=3), e.rows(again))
    assert left.inference_ == right.inference_
    assert "stacked" in left.inference_
    assert_same(left, right)


# ------------------------------------------------------------------------------ order
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("groups", [False, True], ids=["rows", "groups"])
@pytest.mark.parametrize("cls, model", CASES)
def test_row_order_does_not_matter(cls, experiment, model, groups, weighted):
    e = experiment
    s = FREQUENCY if weighted else np.ones(120)
    left = fit(made(cls, model), e, groups=groups, sample_weight=s)
    right = fit(made(cls, model), e.rows(ORDER), groups=groups, sample_weight=s[ORDER])
    assert_same(left, right)
    if not weighted:
        assert_allclose(
            right.result_.influence, left.result_.influence[ORDER], rtol=1e-7, atol=1e-9
        )


@each(with_draws())
def test_order_of_draws_does_not_matter(cls, experiment):
    e = experiment
    p = np.random.default_rng(3).permutation(40)
    left = fit(cls(), e, policies=1)
    assert_same(left, fit(cls(), e, policies=1, X_target=e.draws[0][p]))


def test_repeated_sample_splits_keep_both_properties(experiment):
    e = experiment
    est = DoublyRobust(n_rep=3)
    left = fit(est, e, sample_weight=FREQUENCY)
    again = np.repeat(np.arange(120), FREQUENCY)
    again = again[np.random.default_rng(0).permutation(again.size)]
    assert_same(left, fit(DoublyRobust(n_rep=3), e.rows(again)))


# ------------------------------------------------------------------------------ texts, forests
@pytest.mark.parametrize("case", ["repetition", "order"])
@pytest.mark.parametrize("groups", [False, True], ids=["rows", "groups"])
def test_text_pipeline(experiment, case, groups):
    """Inverse document frequencies count repeated texts too, so weights repeat rows there."""
    e = experiment
    model = make_pipeline(TfidfVectorizer(), Ridge(tol=1e-14))
    s = FREQUENCY if case == "repetition" else np.ones(120)
    again = np.repeat(np.arange(120), s.astype(int)) if case == "repetition" else ORDER

    def run(x: Any, **weights: Any) -> Any:
        return DoublyRobust(model).fit(
            x.texts, x.y, logp_target=x.target[:, 0], logp_logging=x.logging,
            X_target=e.text_draws, groups=x.groups if groups else None, **weights,
        )  # fmt: skip

    assert_same(run(e, sample_weight=s), run(e.rows(again)))
    # the default inference of outcome regression is a bootstrap here: its value is exact
    left = OutcomeRegression(model, n_bootstrap=20).fit(
        e.texts, e.y, X_target=e.text_draws, sample_weight=s
    )
    right = OutcomeRegression(model, n_bootstrap=20).fit(
        e.rows(again).texts, e.rows(again).y, X_target=e.text_draws
    )
    assert_allclose(left.value_, right.value_, rtol=RTOL)


def test_logistic_outcome(experiment):
    e = experiment
    model = LogisticRegression(tol=1e-12, max_iter=10_000)
    again = np.repeat(np.arange(120), FREQUENCY)
    for cls in (OutcomeRegression, DoublyRobust):
        arguments, repeated = e.arguments(cls), e.rows(again).arguments(cls)
        left = cls(model).fit(e.X, e.y > 4, sample_weight=FREQUENCY, **arguments)
        right = cls(model).fit(e.X[again], (e.y > 4)[again], **repeated)
        assert_allclose(left.value_, right.value_, rtol=1e-7)
        assert_allclose(left.se_, right.se_, rtol=1e-6)


def folds_of(est: Any) -> Any:
    return est.splits_[0].crossfit.folds.fold


@pytest.mark.parametrize("case", ["repetition", "order"])
def test_forest_keeps_its_folds(experiment, case):
    e = experiment
    forest = RandomForestRegressor(60, random_state=0, max_depth=3)
    s = FREQUENCY if case == "repetition" else np.ones(120, dtype=int)
    again = np.repeat(np.arange(120), s) if case == "repetition" else ORDER
    left = fit(DoublyRobust(forest, cv=4), e, sample_weight=s)
    right = fit(DoublyRobust(forest, cv=4), e.rows(again))
    kept = np.full(120, -1)
    kept[np.flatnonzero(s > 0)] = folds_of(left)
    assert_array_equal(kept[again], folds_of(right))
    assert np.abs(left.value_ - right.value_).max() < left.se_.min()


@pytest.mark.parametrize("case", ["repetition", "order"])
def test_forest_without_resampling_is_exact(experiment, case):
    """Grown to pure leaves on all rows and features nothing random is left but ties."""
    e = experiment
    forest = RandomForestRegressor(3, bootstrap=False, max_features=None, random_state=0)
    s = FREQUENCY if case == "repetition" else np.ones(120, dtype=int)
    again = np.repeat(np.arange(120), s) if case == "repetition" else ORDER
    left = fit(DoublyRobust(forest, cv=3), e, sample_weight=s)
    assert_same(left, fit(DoublyRobust(forest, cv=3), e.rows(again)))


# ------------------------------------------------------------------------------ policies
@settings(max_examples=15)
@given(order=st.permutations(range(4)), shift=st.floats(-2, 2))
@pytest.mark.parametrize("cls", [IPW, DoublyRobust])
def test_permuted_policies_give_permuted_values(cls, experiment, order, shift):
    """Also: a constant added to all log-probs of one policy changes no Hajek value."""
    e = experiment
    target = np.column_stack([e.target, e.target.mean(axis=1), e.logging])
    target = target - 5 + np.array([0, 0, shift, 0])
    support = TargetSample(e.draws[0], logp_target=np.zeros((40, 4)), logp_sampling=np.zeros(40))
    more = {} if cls is IPW else {"X_target": support}
    logging = e.logging - 5
    left = cls().fit(e.X, e.y, logp_target=target, logp_logging=logging, **more)
    right = cls().fit(e.X, e.y, logp_target=target[:, order], logp_logging=logging, **more)
    assert_allclose(right.value_, left.value_[list(order)], rtol=RTOL)
    assert_allclose(right.se_, left.se_[list(order)], rtol=RTOL)
    if cls is IPW:
        assert_allclose(left.value_[3], e.y.mean(), rtol=RTOL)
        plain = e.target.mean(axis=1)
        alone = cls().fit(e.X, e.y, logp_target=plain, logp_logging=e.logging)
        assert_allclose(left.value_[2], alone.value_, rtol=1e-8)


@settings(max_examples=15)
@given(s=st.lists(st.integers(0, 4), min_size=120, max_size=120), seed=st.integers(0, 99))
@each(kinds())
def test_any_weights_mean_repetition_in_any_order(cls, experiment, s, seed):
    e = experiment
    s = np.array(s)
    s[:30] += 1  # enough rows to fit on
    again = np.repeat(np.arange(120), s)
    again = again[np.random.default_rng(seed).permutation(again.size)]
    assert_same(fit(cls(), e, sample_weight=s), fit(cls(), e.rows(again)))
