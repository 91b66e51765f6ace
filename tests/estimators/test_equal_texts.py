"""A text that both the log and the draws hold has one log ratio: what is said where it has two."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.dummy import DummyRegressor

from causal_lm_opt.estimators import IPW, DoublyRobust, TargetSample
from causal_lm_opt.estimators._agreement import CommonRows

TEXTS = np.array(["yes", "no", "maybe", "later", "never", "soon"], dtype=object)
LOGGING = np.array([0.25, 0.15, 0.1, 0.2, 0.1, 0.2])
TARGET = np.array([0.1, 0.3, 0.2, 0.1, 0.2, 0.1])
OTHER = TARGET[::-1].copy()  # of a second prompt or subgroup
N = 600


def sampled(
    seed: int, p: np.ndarray, q: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Texts that ``p`` writes, the half of every second row under ``q``; both log-probs; halves."""
    rng = np.random.default_rng(seed)
    half = np.arange(N) % 2
    at = np.where(half, rng.choice(6, N, p=q), rng.choice(6, N, p=p))
    target = np.where(half, np.log(OTHER)[at], np.log(TARGET)[at])
    return TEXTS[at], target, np.log(LOGGING)[at], half


def fitted(shift: Any = 0.0, *, estimator: Any = None, told: str = "", **changed: Any) -> Any:
    """A fit whose policy depends on a prompt (the halves) and whose draws' scores are shifted."""
    texts, logp_target, logp_logging, half = sampled(0, LOGGING, LOGGING)
    drawn, drawn_target, drawn_logging, drawn_half = sampled(1, TARGET, OTHER)
    y = np.random.default_rng(2).normal(size=N)
    labels = {told: half.astype(str)} if told else {}
    second: dict[str, Any] = {"logp_target": drawn_target + np.where(drawn == "no", shift, 0.0)}
    second |= {"logp_logging": drawn_logging} | changed
    second |= {told: drawn_half.astype(str)} if told else {}
    return (estimator or IPW()).fit(
        texts, y, logp_target=logp_target, logp_logging=logp_logging,
        X_target=TargetSample(drawn, **second), **labels,
    )  # fmt: skip


def said(est: Any) -> str:
    return " ".join(r for v in est.result_.verdicts for r in v.reasons)


@pytest.mark.parametrize("estimator", [IPW(), DoublyRobust(DummyRegressor())])
@pytest.mark.parametrize("told", ["groups", "by"])
def test_a_policy_that_differs_between_prompts_or_subgroups_is_no_contradiction(
    estimator: Any, told: str
) -> None:
    assert "Equal texts" not in said(fitted(0.0, estimator=estimator, told=told))
    apart = fitted(-0.4, estimator=estimator, told=told)
    assert "Equal texts have other log ratios in the log than among the draws: 2 of the 12" in said(
        apart
    )
    assert "'no'" in said(apart)
    assert apart.result_.verdicts[0].level != "trustworthy"


def test_rows_that_vary_with_what_was_not_told_say_nothing() -> None:
    assert "Equal texts" not in said(fitted(-0.4))


def test_many_that_were_scored_otherwise_are_not_to_be_used() -> None:
    _, target, _, _ = sampled(1, TARGET, OTHER)
    ended = fitted(0.0, told="groups", logp_target=target - 0.3)
    assert ended.result_.verdicts[0].level == "do not use"
    assert "12 of the 12" in said(ended)


@pytest.mark.parametrize(("shift", "expected"), [(0.0, False), (-0.4, True)])
def test_texts_without_the_loggers_scores_are_held_against_the_policys_own(
    shift: float, expected: bool
) -> None:
    est = fitted(shift, told="groups", logp_logging=None)
    assert ("Equal texts have other log-probs under the policy" in said(est)) is expected


def test_rounding_is_no_contradiction() -> None:
    assert "Equal texts" not in said(fitted(-0.04, told="groups"))


def test_texts_that_occur_once_may_answer_other_prompts() -> None:
    once, twice, two = np.arange(3), np.array([0, 0, 2]), np.arange(2)
    assert not CommonRows(two, two, once, two, False).repeated
    assert CommonRows(two, two, twice, two, False).repeated
    assert CommonRows(two, two, two, twice, False).repeated


def test_one_stray_row_does_not_silence_the_rest() -> None:
    """Told prompts: the stray content is left out and named; the others are still compared."""
    texts, logp_target, logp_logging, half = sampled(0, LOGGING, LOGGING)
    drawn, drawn_target, drawn_logging, drawn_half = sampled(1, TARGET, OTHER)
    logp_target[7] += 0.3
    second = TargetSample(drawn, logp_target=drawn_target - 0.1, logp_logging=drawn_logging,
                          groups=drawn_half.astype(str))  # fmt: skip
    y = np.random.default_rng(2).normal(size=N)
    est = IPW().fit(texts, y, logp_target=logp_target, logp_logging=logp_logging, X_target=second,
                    groups=half.astype(str))  # fmt: skip
    assert "11 of the 12 that occur in both" in said(est)
    assert "1 of the 12 texts that the log repeats within a prompt" in said(est)


def test_a_log_that_contradicts_itself_is_not_to_be_used() -> None:
    texts, logp_target, logp_logging, half = sampled(0, LOGGING, LOGGING)
    drawn, drawn_target, drawn_logging, drawn_half = sampled(1, TARGET, OTHER)
    logp_target += np.where(np.random.default_rng(3).random(N) < 0.5, 0.3, -0.35)
    second = TargetSample(drawn, logp_target=drawn_target, logp_logging=drawn_logging,
                          groups=drawn_half.astype(str))  # fmt: skip
    y = np.random.default_rng(2).normal(size=N)
    est = IPW().fit(texts, y, logp_target=logp_target, logp_logging=logp_logging, X_target=second,
                    groups=half.astype(str))  # fmt: skip
    assert est.result_.verdicts[0].level == "do not use"
    assert "12 of the 12 texts that the log repeats within a prompt" in said(est)


def test_gaps_by_hand() -> None:
    common = CommonRows(
        np.array([0, 2]), np.array([1, 0]), np.array([0, 0, 2]), np.array([0, 1]), False
    )
    logged = np.array([-1.0, -1.0, -np.inf])
    gaps = common.gaps(logged, np.array([-np.inf, -0.5]), 0.05)
    assert gaps is not None
    assert gaps.tolist() == [0.5, 0.0]
    assert common.gaps(np.array([-1.0, -2.0, 0.0]), np.zeros(2), 0.05) is None
    gaps = common.gaps(logged, np.array([0.0, -1.0]), 0.05)
    assert gaps is not None
    assert gaps.tolist() == [0.0, np.inf]
