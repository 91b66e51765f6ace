"""The study of an estimated logging policy: its arithmetic, and one small run on made-up texts."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from causal_lm_opt.datasets import HongKong, hong_kong_design, hong_kong_policies

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed", allow_module_level=True)
from benchmarks import estimated_propensity as study

OTHERS = ("brave", "evil", "flag")
LISTED = {"treatycommit": [f"Promise {i}." for i in range(3)]} | {
    arm: [f"Words of {arm} {i}." for i in range(2 + k)] for k, arm in enumerate(OTHERS)
}


@pytest.fixture(scope="module")
def data() -> HongKong:
    """A made-up log of 150 rows, drawn from its design."""
    design = hong_kong_design(LISTED)
    texts = design.sample(150, random_state=0)
    arms = design.arms_of(texts)
    return HongKong(
        frame=pd.DataFrame({"text": texts}), texts=texts,
        outcome=np.random.default_rng(0).integers(0, 101, len(texts)).astype(np.float64),
        arms=arms[list(design.arms)], n_pieces=arms["n_pieces"].to_numpy(),
        logp_logging=design.log_prob(texts), groups=pd.factorize(pd.Series(texts))[0],
        design=design, sequences=(),
    )  # fmt: skip


def test_agreement_is_perfect_with_itself_and_finds_a_factor(data: HongKong) -> None:
    exact = data.logp_logging + 0.1 * np.random.default_rng(0).normal(size=len(data))
    same = study.agreement(exact, exact, data.n_pieces)
    assert same["correlation"] == pytest.approx(1.0)
    assert same["calibration slope"] == pytest.approx(1.0)
    assert same["kl"] == same["log mean of P^/P_R"] == 0.0
    assert same["ESS share of P_R/P^"] == pytest.approx(1.0)
    half = study.agreement(exact, exact + np.log(0.5), data.n_pieces)
    assert half["log mean of P^/P_R"] == pytest.approx(np.log(0.5))
    assert half["log mean of P_R/P^"] == pytest.approx(np.log(2.0))
    assert half["calibration intercept"] == pytest.approx(np.log(2.0))


def test_halves_keep_equal_texts_together(data: HongKong) -> None:
    half = study.halves(data.groups)
    for group in np.unique(data.groups):
        assert len(set(half[data.groups == group])) == 1
    sizes = [len(np.unique(data.groups[half == k])) for k in (0, 1)]
    assert abs(sizes[0] - sizes[1]) <= 1


def test_truth_is_the_mean_over_the_policys_texts(data: HongKong) -> None:
    for policy in hong_kong_policies(data.design).values():
        outcome = study.mean_outcome(policy.sample_arms(20_000, random_state=1), policy.arms)
        error = outcome.std() / np.sqrt(outcome.size)
        assert abs(outcome.mean() - study.truth(policy)) < 4 * error


def test_counted_sets_make_hajek_a_post_stratified_mean(data: HongKong) -> None:
    """With shares as counted, each set of arms has its policy's probability exactly."""
    policies = hong_kong_policies(data.design)
    log = study.make_log(data.texts, data.design, policies)
    logp = study.counted(data.design, data.texts)
    rows = pd.DataFrame(study.values(log, data.outcome, logp, policies))
    found = rows[rows["estimator"] == "Hajek"].set_index("policy")["value"]
    arms = list(data.design.arms)
    means = pd.Series(data.outcome).groupby([log.arms[a] for a in arms]).mean()
    for name, policy in policies.items():
        support, prob = policy.support()
        expected = sum(
            p * means[tuple(row)] for row, p in zip(support[arms].to_numpy(), prob, strict=True)
        )
        assert found[name] == pytest.approx(expected, rel=1e-9)


def test_a_right_q_is_fitted_without_error(data: HongKong) -> None:
    """Without noise the doubly robust estimator gives the truth under any P_R."""
    policies = hong_kong_policies(data.design)
    log = study.make_log(data.texts, data.design, policies)
    wrong = data.logp_logging + np.random.default_rng(0).normal(size=len(data))
    y = study.mean_outcome(log.arms, data.design.arms)
    rows = pd.DataFrame(study.values(log, y, wrong, policies)).set_index(["estimator", "policy"])
    for name, policy in policies.items():
        right = rows.loc[("DR, right q", name), "value"]
        assert right == pytest.approx(study.truth(policy), abs=1e-8)
        assert abs(rows.loc[("DR, wrong q", name), "value"] - right) > 1e-3


@pytest.mark.torch
def test_a_small_run_writes_table_and_plot_and_goes_on(
    data: HongKong, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    effort = study.Effort(epochs=1, n_layer=1, n_embd=16, n_head=1, noises=2, logs=2)
    path, models = tmp_path / "study.json", tmp_path / "models"
    found = study.run(data, path, effort, models)
    written: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    assert path.with_suffix(".png").stat().st_size > 10_000
    assert written["rows"] == found["rows"]
    assert set(written["agreement"]) == {
        study.IN_SAMPLE, study.CROSS, study.OTHER, study.COUNTS
    }  # fmt: skip
    table = pd.DataFrame(found["rows"])
    assert len(table) == 3 * 4 * (4 + 3 + 4)  # estimators, policies, kinds of P_R by outcome
    exact = table[table["P_R"] == study.EXACT]
    assert (exact["minus exact"] == 0.0).all()
    known = table[table["outcome"] != "real"]
    np.testing.assert_allclose(known["error"], known["value"] - known["truth"])

    def untouched(*given: Any, **more: Any) -> None:
        raise AssertionError("the models are there")

    monkeypatch.setattr(study, "from_texts", untouched)
    study.cross_fitted(data, models, effort)
