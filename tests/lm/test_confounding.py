"""The study's parts: confounded models, gradients in closed form, a run that is resumed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from causal_lm_opt.lm import from_texts
from causal_lm_opt.lm.confounding import Scenario, Training
from causal_lm_opt.lm.confounding_study import (
    ConfoundingStudy,
    appeals_world,
    run_confounding_study,
)
from causal_lm_opt.lm.gradient_variance import (
    dr_gradient,
    gradient_spread,
    hajek_pull,
    ipw_gradient,
    score_gradient,
)
from causal_lm_opt.lm.objectives import Columns, DoublyRobustObjective, IPWObjective
from causal_lm_opt.simulation.confounded_model import ConfoundedModel
from causal_lm_opt.simulation.confounding_tables import tidy


def lengths(texts):
    return np.array([[len(t)] for t in texts], dtype=float)


def test_strength_turns_the_regression_about_the_mean() -> None:
    texts = ["a" * k for k in range(1, 30)]
    y = np.arange(1.0, 30.0)
    right, none, turned = (
        ConfoundedModel(lengths, b).fit(texts, y).predict(texts) for b in (0.0, 1.0, 2.0)
    )
    assert np.corrcoef(right, y)[0, 1] > 0.99
    assert none == pytest.approx(np.full(29, 15.0))
    assert (right + turned) / 2 == pytest.approx(np.full(29, 15.0))


def test_a_wrong_design_is_told_only_where_it_is_wrong() -> None:
    world = appeals_world()
    texts, y = world.log(50, 3)
    again, same = world.log(50, 3)
    assert texts == again
    assert y.tolist() == same.tolist()
    right = world.logp(texts, Scenario("right"))
    assert right == pytest.approx(world.world.design.log_prob(texts))
    assert (right == world.logp(texts, Scenario("confounded", 2.0))).all()
    wrong = world.logp(texts, Scenario("wrong design"))
    assert abs(right - wrong).max() > 0.3
    assert (wrong == world.logp(texts, Scenario("both wrong", 2.0))).all()


@pytest.fixture(scope="module")
def policy():
    texts = [f"{a} {b}" for a in ("one", "two", "three") for b in "xyz"] * 6
    made = from_texts(texts, vocab_size=290, n_layer=1, n_embd=16, n_head=1, epochs=2)
    made.model.double()
    return made


def test_gradients_are_those_of_the_objectives(policy) -> None:
    """Closed form against the objective's own state, backward through all rows at once."""
    rng = np.random.default_rng(0)
    texts = [f"{a} {b}" for a in ("one", "two") for b in "xyz"]
    drawn = ["three x", "one y", "two z", "three z"]
    outcome, predicted, q = rng.normal(size=6), rng.normal(size=6), rng.normal(size=4)
    logp = policy.log_prob(texts)
    logging = logp - 0.4 * rng.normal(size=6)
    written = policy.log_prob(drawn)
    ratio = logp - logging
    residual = [outcome - predicted, logging, logp]
    cases = [
        (IPWObjective(), [[outcome, logging, logp]], texts,
         ipw_gradient(policy, texts, ratio, outcome)),
        (DoublyRobustObjective(), [residual, [q, written, written]], [*texts, *drawn],
         dr_gradient(policy, texts, ratio, outcome - predicted, drawn, q)),
    ]  # fmt: skip
    for objective, columns, read, closed in cases:
        objective.begin([Columns(*map(torch.as_tensor, c)) for c in columns])
        scores = torch.as_tensor(policy.log_prob(read))
        objective.refresh(scores)
        leaf = scores.clone().requires_grad_()
        objective(leaf, torch.arange(len(read))).backward()
        assert closed == pytest.approx(score_gradient(policy, read, leaf.grad.numpy()), abs=1e-9)
        assert np.abs(closed).max() > 1e-4


def test_a_score_gradient_is_a_finite_difference(policy) -> None:
    texts, pull = ["one x", "three z"], np.array([0.7, -0.2])
    found = score_gradient(policy, texts, pull)
    rng = np.random.default_rng(1)
    way, step = rng.normal(size=found.size), 1e-6
    values = []
    parameters = [p.data.clone() for p in policy.model.parameters()]
    for sign in (1, -1):
        at = 0
        for p, own in zip(policy.model.parameters(), parameters, strict=True):
            part = torch.as_tensor(way[at : at + p.numel()]).reshape(p.shape)
            p.data.copy_(own + sign * step * part)
            at += p.numel()
        policy_values = policy.with_decoding().log_prob(texts)
        values.append(float(pull @ policy_values))
    for p, own in zip(policy.model.parameters(), parameters, strict=True):
        p.data.copy_(own)
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(found @ way, rel=1e-5)


def test_pulls_sum_to_nothing_and_spread_is_the_covariances_trace() -> None:
    rng = np.random.default_rng(2)
    assert hajek_pull(rng.normal(size=20), rng.normal(size=20)).sum() == pytest.approx(0, abs=1e-15)
    g = rng.normal(size=(7, 4))
    assert gradient_spread(g).mean() == pytest.approx(np.trace(np.cov(g.T)))


@pytest.mark.slow
def test_a_tiny_study_runs_resumes_and_is_the_same(tmp_path: Path) -> None:
    training = Training(
        rows=300, steps=2, batch_size=32, round_size=64, eval_every=1, n_draws=80, fresh=100,
        start_texts=300, start_epochs=2,
    )  # fmt: skip
    study = replace(ConfoundingStudy(1, 0, (2.0,), 3), training=training)
    worlds = [appeals_world()]
    assert len(study.runs(worlds)) == 4 + 3 + 2 + 1 + 2 * 3
    rows, gradients = run_confounding_study(study, worlds, tmp_path, progress=False)
    table = tidy(rows)
    assert len(table) == 4 * 5
    assert table["true_value"].between(0, 100).all()
    assert gradients["seed"].tolist() == [2000, 2001, 2002]
    blocks = sorted((tmp_path / "blocks").iterdir())
    blocks[0].unlink()
    again, _ = run_confounding_study(study, worlds, tmp_path, progress=False)
    assert again.to_json() == rows.to_json()
