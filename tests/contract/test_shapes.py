"""One policy gives numbers, K policies arrays; names flow from the log-probs to the result."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from causal_lm_opt import DoublyRobust, OutcomeRegression, TargetSample


def fit(kind: Any, e: Any, *, policies: int, **settings: Any) -> Any:
    return kind(**settings).fit(e.X, e.y, **e.arguments(kind, policies=policies))


def test_one_policy_gives_scalars(kind, experiment):
    est = fit(kind, experiment, policies=1)
    result = est.result_
    assert type(est.value_) is float
    assert type(est.se_) is float
    assert type(result.value) is float
    assert result.influence.shape == (120,)
    assert result.confint().shape == (2,)
    assert result.confint(method="multiplier", n_boot=200).shape == (2,)
    assert len(result.to_frame()) == 1
    assert result.names == ("target policy",)
    if not hasattr(kind, "predict"):
        assert result.influence_target is None
    else:
        assert result.influence_target.shape == (40,)


def test_the_logging_policy_alone(kind, experiment):
    e = experiment
    est = kind().fit(e.X, e.y)
    assert type(est.value_) is float
    assert_allclose(est.value_, e.y.mean(), rtol=1e-15)
    assert_allclose(est.se_, e.y.std(ddof=1) / np.sqrt(120), rtol=1e-12)
    assert est.result_.names == ("logging policy",)
    assert "logging policy itself" in str(est.summary())


def test_k_policies_give_arrays(kind, experiment):
    est = fit(kind, experiment, policies=2)
    result = est.result_
    assert est.value_.shape == est.se_.shape == (2,)
    assert result.influence.shape == (120, 2)
    assert result.confint().shape == (2, 2)
    assert result.confint(method="multiplier", n_boot=200).shape == (2, 2)
    assert (result.confint()[:, 0] < est.value_).all()
    assert (result.confint()[:, 1] > est.value_).all()
    assert result.covariance().shape == (2, 2)
    assert len(result.to_frame()) == 2
    if hasattr(kind, "predict"):  # draws of both policies, one block under the other
        assert result.influence_target.shape == (40 + 47, 2)


def test_k_policies_are_k_fits(kind, experiment):
    """Each column equals the fit of that policy alone."""
    e = experiment
    both = fit(kind, e, policies=2)
    for k, name in enumerate("ab"):
        arguments = e.arguments(kind, policies=2)
        arguments["logp_target"] = e.target[:, k]
        if hasattr(kind, "predict"):
            arguments["X_target"] = e.draws[k]
        alone = kind().fit(e.X, e.y, **arguments)
        assert_allclose(both.value_[k], alone.value_, rtol=1e-12)
        assert_allclose(both.se_[k], alone.se_, rtol=1e-12)
        assert_allclose(both.result_.confint()[k], alone.result_.confint(), rtol=1e-12)
        picked = both.result_[both.result_.names[k]]
        assert type(picked.value) is float
        if hasattr(kind, "predict"):
            assert picked.names == (name,)


def test_one_column_stays_an_array(kind, experiment):
    """(n, 1) is K = 1 policies: shapes keep the axis the caller gave."""
    e = experiment
    arguments = e.arguments(kind)
    arguments["logp_target"] = e.target[:, :1]
    est = kind().fit(e.X, e.y, **arguments)
    assert est.value_.shape == est.se_.shape == (1,)
    assert est.result_.influence.shape == (120, 1)
    assert est.result_.confint().shape == (1, 2)


@pytest.mark.parametrize("form", ["frame", "mapping"])
def test_names_flow_to_the_result(kind, experiment, form):
    e = experiment
    names = ("calm", "loud")
    arguments = e.arguments(kind, policies=2)
    columns = dict(zip(names, e.target.T, strict=True))
    arguments["logp_target"] = pd.DataFrame(columns) if form == "frame" else columns
    if hasattr(kind, "predict"):  # by name, in any order
        arguments["X_target"] = {"loud": e.draws[1], "calm": e.draws[0]}
    est = kind().fit(e.X, e.y, **arguments)
    plain = fit(kind, e, policies=2)
    assert est.result_.names == names
    assert list(est.result_.to_frame()["policy"]) == list(names)
    assert_array_equal(est.value_, plain.value_)
    assert_array_equal(est.se_, plain.se_)
    assert all(name in str(est.summary()) for name in names)
    contrast = est.result_["loud"] - est.result_["calm"]
    assert_allclose(contrast.value, plain.value_[1] - plain.value_[0], rtol=1e-12)


def test_names_from_the_draws_alone(experiment):
    e = experiment
    draws = {"calm": e.draws[0], "loud": e.draws[1]}
    est = OutcomeRegression().fit(e.X, e.y, X_target=draws)
    assert est.result_.names == ("calm", "loud")
    alone = OutcomeRegression().fit(e.X, e.y, X_target={"calm": e.draws[0]})
    assert alone.value_.shape == (1,)
    assert alone.result_.names == ("calm",)
    robust = DoublyRobust().fit(
        e.X, e.y, logp_target=e.target, logp_logging=e.logging, X_target=draws
    )
    assert robust.result_.names == ("calm", "loud")


def test_numbered_policies(kind, experiment):
    e = experiment
    arguments = e.arguments(kind, policies=2)
    if hasattr(kind, "predict"):
        arguments["X_target"] = TargetSample(
            e.draws[0], logp_target=np.zeros((40, 2)), logp_sampling=np.zeros(40)
        )
    est = kind().fit(e.X, e.y, **arguments)
    assert est.result_.names == ("policy 0", "policy 1")


# ------------------------------------------------------------------------------ influence="drop"
@pytest.mark.parametrize("policies", [1, 2])
@pytest.mark.parametrize("groups", [False, True], ids=["rows", "groups"])
def test_dropped_influence_keeps_the_figures(kind, experiment, policies, groups):
    e = experiment
    labels = e.groups if groups else None
    arguments = e.arguments(kind, policies=policies)
    keep = kind().fit(e.X, e.y, groups=labels, **arguments)
    drop = kind(influence="drop").fit(e.X, e.y, groups=labels, **arguments)
    assert type(drop.value_) is type(keep.value_)
    assert_array_equal(drop.value_, keep.value_)
    assert_allclose(drop.se_, keep.se_, rtol=1e-12)
    assert_allclose(drop.result_.confint(), keep.result_.confint(), rtol=1e-12)
    assert_allclose(drop.result_.dof(), keep.result_.dof())
    assert drop.result_.samples == ()
    assert str(drop.summary())
    assert repr(drop.result_).startswith("<ValueEstimate")


def test_dropped_influence_refuses_what_needs_it(kind, experiment):
    result = fit(kind, experiment, policies=2, influence="drop").result_
    for call in (
        lambda: result.influence,
        lambda: result.covariance(),
        lambda: result.compare(),
        lambda: result.confint(method="multiplier"),
        lambda: result[0] - result[1],
        lambda: result + result,
    ):
        with pytest.raises(ValueError, match="influence='drop' kept no influence function"):
            call()
    assert type(result[0].se) is float  # one policy's figures stay
    assert_allclose((2 * result).se, 2 * result.se)


def test_dropped_influence_with_repeated_splits(experiment):
    e = experiment
    keep = fit(DoublyRobust, e, policies=2, n_rep=3)
    drop = fit(DoublyRobust, e, policies=2, n_rep=3, influence="drop")
    assert_allclose(drop.se_, keep.se_, rtol=1e-12)
    assert_array_equal(drop.value_, keep.value_)
