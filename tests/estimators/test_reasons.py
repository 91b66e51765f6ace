"""Reasons of a verdict that come from how a log was handed over, on worlds by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from causal_lm_opt import IPW, DoublyRobust, OutcomeRegression, TargetSample

RNG = np.random.default_rng(11)
N = 600
X = RNG.normal(size=(N, 1))
Y = X[:, 0] + RNG.normal(size=N)
DRAWS = RNG.normal(0.2, 1.0, size=(N, 1))


def density(x: Any, mean: float) -> Any:
    return -0.5 * (x[:, 0] - mean) ** 2 - 0.92


LOGS = {"logp_target": density(X, 0.2), "logp_logging": density(X, 0.0)}
SECOND = TargetSample(DRAWS, logp_target=density(DRAWS, 0.2), logp_logging=density(DRAWS, 0.0))


def reasons(est: Any) -> str:
    return " ".join(est.result_.verdicts[0].reasons)


def level(est: Any) -> str:
    return str(est.result_.verdicts[0].level)


def test_whole_weights_are_counts_and_fractions_are_not() -> None:
    sound = DoublyRobust(LinearRegression()).fit(X, Y, X_target=SECOND, **LOGS)
    assert level(sound) == "trustworthy"
    for weight, expected in ((np.resize([1.0, 2.0], N), "trustworthy"),
                             (np.resize([0.5, 1.7], N), "caution")):  # fmt: skip
        est = DoublyRobust(LinearRegression()).fit(
            X, Y, X_target=SECOND, sample_weight=weight, **LOGS
        )
        assert level(est) == expected
    assert "sample_weight holds fractions" in reasons(est)
    drawn = TargetSample(DRAWS, weight=np.resize([0.2, 1.9], N))
    est = DoublyRobust(LinearRegression()).fit(X, Y, X_target=drawn, **LOGS)
    assert "X_target.weight holds fractions" in reasons(est)
    exact = TargetSample(DRAWS, weight=np.full(N, 1 / N), exact=True)
    est = DoublyRobust(LinearRegression()).fit(X, Y, X_target=exact, **LOGS)
    assert "fractions" not in reasons(est)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, None), (0.05, "caution"), (0.4, "do not use")]
)
def test_a_model_alone_says_what_of_the_policy_was_never_logged(
    share: float, expected: str | None
) -> None:
    logged = np.where(np.arange(N) < share * N, -np.inf, density(DRAWS, 0.0))
    second = TargetSample(DRAWS, logp_target=density(DRAWS, 0.2), logp_logging=logged)
    est = OutcomeRegression(LinearRegression()).fit(X, Y, X_target=second)
    said = f"never writes {share:.2%} of the policy's own draws"
    assert (said in reasons(est)) is (expected is not None)
    assert level(est) == (expected or "caution")
    both = DoublyRobust(LinearRegression()).fit(X, Y, X_target=second, **LOGS)
    told = both.result_.diagnostics[0]["predicted_coverage"]
    assert np.isnan(told) == (share > 0.005)


def test_predictions_that_repeat_the_outcomes_are_doubted() -> None:
    def fit(noise: float) -> Any:
        q = Y + noise * RNG.normal(size=N)
        return DoublyRobust().fit(X, Y, X_target=SECOND, q_logged=q, q_target=DRAWS[:, 0], **LOGS)

    doubted, sound = reasons(fit(0.02)), reasons(fit(0.5))
    assert "all but repeat the outcomes" in doubted
    assert "more draws" not in doubted  # they would narrow an interval that is wrong
    assert "all but repeat the outcomes" not in sound
    assert "more draws" in sound


def test_weights_alike_for_every_text_have_no_z() -> None:
    est = IPW().fit(X, Y, logp_target=np.full(N, -6.0), logp_logging=np.full(N, -5.0))
    assert "inf" not in reasons(est)
    assert level(est) == "do not use"


@pytest.mark.parametrize(("prompt", "own", "said"), [
    (0.1, 3.0, "the 800 draws: more draws would"), (3.0, 0.1, "more draws of each would not"),
    (0.1, 0.1, ""),
])  # fmt: skip
def test_more_draws_or_more_prompts(prompt: float, own: float, said: str) -> None:
    """Predictions of 100 prompts with 8 draws each, spread between prompts or within them."""
    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(100), 8)
    q = prompt * rng.normal(size=100)[groups] + own * rng.normal(size=800)
    draws = rng.normal(0.2, 1.0, (800, 1))
    second = TargetSample(draws, groups=[f"p{g}" for g in groups])
    est = DoublyRobust().fit(
        X, Y, X_target=second, q_logged=np.zeros(N), q_target=q, **LOGS
    )  # fmt: skip
    assert (said in reasons(est)) if said else ("of the variance comes from" not in reasons(est))
