"""Draws of prompts and of subgroups that the log does not hold."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from causal_lm_opt import IPW, DoublyRobust, EstimationWarning, OutcomeRegression, TargetSample

PROMPTS = [f"p{i:02}" for i in range(20)]


def log(n: int = 200) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 1))
    groups = np.array(PROMPTS)[np.arange(n) % 20]
    y = X[:, 0] + np.arange(n) % 20 + rng.normal(size=n)
    lp = -0.5 * X[:, 0] ** 2 - 5.0
    return {"X": X, "y": y, "groups": groups, "logp_logging": lp, "logp_target": lp + 0.1 * X[:, 0]}


def draws(labels: list[str], each: int = 5) -> TargetSample:
    groups = np.repeat(labels, each)
    X = np.random.default_rng(len(labels)).normal(size=(groups.size, 1))
    return TargetSample(X, groups=groups, logp_target=-5.0 - 0.5 * X[:, 0] ** 2)


def fitted(estimator: Any, target: Any, **more: Any) -> Any:
    given = log() | more
    if isinstance(estimator, OutcomeRegression):
        del given["logp_target"], given["logp_logging"]
    return estimator.fit(given.pop("X"), given.pop("y"), X_target=target, **given)


@pytest.mark.parametrize(
    "estimator",
    [OutcomeRegression(LinearRegression()), DoublyRobust(LinearRegression())],
    ids=["or", "dr"],
)
def test_draws_of_prompts_that_were_not_logged_are_left_out(estimator: Any) -> None:
    given = draws([*PROMPTS, "q1", "q2"])
    known = np.isin(given.groups, PROMPTS)
    by_hand = replace(
        given, X=given.X[known], groups=given.groups[known], logp_target=given.logp_target[known]
    )
    with pytest.warns(EstimationWarning) as told:
        found = fitted(estimator, given).result_
    assert [str(w.message) for w in told] == [
        "X_target.groups: 10 of 110 draws are left out, as no logged row has their label (prompt): "
        "'q1', 'q2'."
    ]
    assert told[0].filename == __file__
    wanted = fitted(estimator, by_hand).result_
    assert (found.value, found.se) == (wanted.value, wanted.se)
    assert found.counts["Draws"] == 100


def test_the_policy_whose_draws_they_are_is_named() -> None:
    target = {"a": draws(PROMPTS), "b": draws([*PROMPTS, *(f"q{i}" for i in range(7))])}
    with pytest.warns(
        EstimationWarning, match=r"^X_target\['b'\]\.groups: 35 of .*'q4', \.\.\.\.$"
    ):
        fitted(OutcomeRegression(LinearRegression()), target)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (PROMPTS[3:], r"17 labels \(prompts\), but 3 logged ones have no draws \('p00', 'p01', "),
        ([*PROMPTS[1:], "q1"], r"1 logged ones have no draws \('p00'\): draw texts for these too"),
        ([*PROMPTS, *(f"q{i}" for i in range(21))], "no logged row has the other 21 of the draws"),
    ],
    ids=["a prompt without draws", "both", "more unknown than known"],
)
def test_what_stays_an_error(labels: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        fitted(OutcomeRegression(LinearRegression()), draws(labels))
    assert "if the labels mean different things, give the draws other labels" in str(error.value)


def test_no_shared_prompt_and_all_shared_prompts_say_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted(OutcomeRegression(LinearRegression()), draws([f"q{i}" for i in range(9)]))
        fitted(OutcomeRegression(LinearRegression()), draws(PROMPTS))


def test_draws_of_subgroups_that_were_not_logged_are_told() -> None:
    given = draws(PROMPTS)
    towns = np.where(np.arange(100) % 10 == 0, "west", np.where(np.arange(100) % 2, "n", "s"))
    more = {"by": np.where(np.arange(200) % 3 == 0, "n", "s"), "groups": None}
    for estimator in (IPW(), DoublyRobust(LinearRegression())):
        target = replace(given, by=towns, groups=None)
        with pytest.warns(EstimationWarning) as told:
            found = fitted(estimator, target, **more)
        assert [str(w.message) for w in told] == [
            "X_target.by: 10 of 100 draws are of subgroups that no logged row has ('west'): no "
            "subgroup's value uses them; check the labels."
        ]
        assert len(found.result_by_.names) == 2


# ------------------------------------------------------------------ predictions made elsewhere
def test_predictions_of_draws_left_out_are_not_read() -> None:
    """Value and standard error are those with the draws removed by hand."""
    given = draws([*PROMPTS, "q1", "q2"])
    known = np.isin(given.groups, PROMPTS)
    q_logged, q_target = 0.5 * log()["X"][:, 0], 0.5 * given.X[:, 0]
    by_hand = replace(
        given, X=given.X[known], groups=given.groups[known], logp_target=given.logp_target[known]
    )
    wanted = fitted(DoublyRobust(), by_hand, q_logged=q_logged, q_target=q_target[known])
    q_target[~known] = np.nan  # nobody could predict these
    for q in (q_target, q_target[:, None]):
        with pytest.warns(EstimationWarning, match="10 of 110 draws are left out"):
            found = fitted(DoublyRobust(), given, q_logged=q_logged, q_target=q)
        assert (found.value_, found.se_) == (wanted.value_, wanted.se_)
    several = {"q_logged": q_logged, "q_target": {"a": q_target, "b": q_target[known]}}
    both = log()
    both["logp_target"] = dict.fromkeys("ab", both["logp_target"])
    with pytest.warns(EstimationWarning, match=r"X_target\['a'\]\.groups: 10 of 110"):
        named = DoublyRobust().fit(X_target={"a": given, "b": by_hand}, **both, **several)
    assert named.value_.tolist() == pytest.approx([wanted.value_] * 2, abs=1e-12)
    assert named.se_.tolist() == pytest.approx([wanted.se_] * 2, abs=1e-12)


@pytest.mark.filterwarnings("ignore::causal_lm_opt.EstimationWarning")
def test_predictions_of_another_number_of_draws_are_refused() -> None:
    given = draws([*PROMPTS, "q1", "q2"])
    for size in (100, 109):
        said = rf"^q_target must have shape \(110,\), got \({size},\): one number for each draw"
        with pytest.raises(ValueError, match=said):
            fitted(DoublyRobust(), given, q_logged=np.zeros(200), q_target=np.zeros(size))
    q = np.zeros(110)
    q[0] = np.nan
    with pytest.raises(
        ValueError, match="q_target has 1 NaN or infinite entries, the first at row "
    ):
        fitted(DoublyRobust(), given, q_logged=np.zeros(200), q_target=q)


def test_draws_of_weight_0_count_as_if_removed() -> None:
    given = replace(draws(PROMPTS), groups=None, logp_target=None)
    weight = np.where(np.arange(100) < 30, 0.0, 1.0)
    q = {"q_logged": log()["X"][:, 0], "groups": None}
    some = fitted(DoublyRobust(), replace(given, weight=weight), q_target=given.X[:, 0], **q)
    kept = fitted(DoublyRobust(), replace(given, X=given.X[30:]), q_target=given.X[30:, 0], **q)
    assert some.value_ == pytest.approx(kept.value_, abs=1e-12)
    assert some.se_ == pytest.approx(kept.se_, abs=1e-12)
