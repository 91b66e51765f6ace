"""Draws of another policy that bring no log-probs: weighted predictions and the draws' differ.

Level: 200 logs of n = 1,000 with 20 to a cluster, of a two-sided test at .001; more than 3 alarms
have chance 5e-5. With clusters that draws share with the log their effects cancel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.linear_model import LinearRegression

from causal_lm_opt import DoublyRobust, TargetSample
from causal_lm_opt.simulation import GaussianDesign

SHIFT = 0.7
SAID = "Draws and weights are not of one policy"


def density(x: Any, mean: float) -> Any:
    return -0.5 * (x - mean) ** 2 - 0.92


def fitted(rng: Any, *, drawn: float = SHIFT, clusters: bool = False, scored: bool = False) -> Any:
    """A fit on a log of N(0, 1) under N(SHIFT, 1), with draws of N(drawn, 1)."""
    n, size = 1000, 20
    codes = np.arange(n) // size
    prompt = rng.normal(size=n // size) * clusters  # read by the outcome model
    X = np.column_stack([rng.normal(size=n), prompt[codes]])
    y = X[:, 0] + 2 * X[:, 1] + rng.normal(size=n)
    there = np.repeat(np.arange(n // size), size)
    Z = np.column_stack([rng.normal(size=n) + drawn, prompt[there]])
    logs: dict[str, Any] = {}
    if scored:
        logs = {"logp_target": density(Z[:, 0], SHIFT), "logp_logging": density(Z[:, 0], 0.0)}
    sample = TargetSample(Z, groups=[f"c{c}" for c in there] if clusters else None, **logs)
    return DoublyRobust(LinearRegression()).fit(
        X, y, logp_target=density(X[:, 0], SHIFT), logp_logging=density(X[:, 0], 0.0),
        X_target=sample, groups=[f"c{c}" for c in codes] if clusters else None,
    ).result_  # fmt: skip


def test_draws_of_another_policy_are_refused() -> None:
    rng = np.random.default_rng(0)
    for other in (0.0, 1.4):
        (found,) = fitted(rng, drawn=other).verdicts
        assert found.level == "do not use"
        assert any(reason.startswith(SAID) for reason in found.reasons)


def test_draws_of_the_policy_are_not() -> None:
    alarms = []
    for clusters in (False, True):
        found = [fitted(np.random.default_rng(r), clusters=clusters) for r in range(200)]
        alarms.append(sum(SAID in str(one.verdicts[0]) for one in found))
    assert max(alarms) <= 3


def test_a_shared_prompts_effect_does_not_hide_a_gap() -> None:
    """Effects of 50 prompts (sd 2) would hide a gap of .35, did they not cancel."""
    found = [
        fitted(np.random.default_rng(r), drawn=SHIFT + 0.35, clusters=True).verdicts[0]
        for r in range(20)
    ]
    assert np.mean([SAID in str(one) for one in found]) > 0.9


def test_scored_draws_are_asked_too() -> None:
    rng = np.random.default_rng(1)
    assert fitted(rng, drawn=0.0, scored=True).verdicts[0].level == "do not use"


def test_predictions_that_do_not_vary_leave_no_gap() -> None:
    x, y = np.linspace(-1, 1, 240), np.full(240, 1 / 3)
    found = DoublyRobust(LinearRegression()).fit(
        x[:, None], y, logp_target=density(x, 0.3), logp_logging=density(x, 0.0),
        X_target=x[:, None] + 0.3,
    ).result_  # fmt: skip
    assert SAID not in str(found.verdicts[0])


def test_draws_of_another_mix_of_prompts_are_told() -> None:
    """Large prompts have good outcomes; draws, scored, are as many of each prompt, unlabelled."""
    told = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        sizes = rng.integers(2, 40, 60)
        prompt = np.repeat(np.arange(60), sizes)
        x, level = rng.normal(size=prompt.size), sizes / 20
        y = level[prompt] + 0.5 * x + rng.normal(size=prompt.size)
        every = np.repeat(np.arange(60), 10)
        drawn = rng.normal(0.3, 1.0, every.size)
        found = DoublyRobust(LinearRegression()).fit(
            np.column_stack([x, level[prompt]]), y, groups=prompt,
            logp_target=density(x, 0.3), logp_logging=density(x, 0.0),
            X_target=TargetSample(
                np.column_stack([drawn, level[every]]),
                logp_target=density(drawn, 0.3), logp_logging=density(drawn, 0.0),
            ),
        ).result_  # fmt: skip
        told.append(found.verdicts[0].level)
    assert np.mean([level == "trustworthy" for level in told]) < 0.3


def test_readers_of_one_text_are_no_further_texts() -> None:
    """Where these texts are the estimand the gap's error is that of texts, as anywhere else."""
    design = GaussianDesign("linear", shift=0.5, readers=20)
    alarms = 0
    for seed in range(40):
        log = design.draw(2000, np.random.default_rng([5, seed]))
        found = DoublyRobust(LinearRegression(), estimand="texts").fit(
            log.X, log.y, **log.fit_arguments()
        )
        alarms += SAID in str(found.result_.verdicts[0])
    assert alarms <= 1
