"""Training on real outcomes: its logs, a known outcome, values by hand, one tiny run of its own."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks import real_training
from causal_lm_opt.datasets import load_hong_kong

DATA = os.environ.get("CAUSAL_LM_OPT_DATA")
NO_DATA = pytest.mark.skipif(DATA is None, reason="CAUSAL_LM_OPT_DATA names no folder of real data")
WORDS = ("good news", "bad news", "no news", "good day")


def score(texts: Any) -> np.ndarray:
    return np.array([float("good" in t) - float("bad" in t) for t in texts])


def test_true_values_by_hand():
    before, after = np.array([0.0, 1.0, 0.0, 1.0]), np.array([1.0, 1.0, 1.0, 0.0, 1.0])
    found = real_training.true_values(before, after)
    start_se, trained_se = np.sqrt((1 / 3) / 4), np.sqrt(0.2 / 5)
    assert found["start"]["value"] == 0.5
    assert found["start"]["se"] == pytest.approx(start_se)
    assert found["trained"]["lower"] == pytest.approx(0.8 - 1.96 * trained_se)
    assert found["difference"]["value"] == pytest.approx(0.3)
    assert found["difference"]["se"] == pytest.approx(np.sqrt(1 / 12 + 0.04))


def test_outcomes_are_the_score_plus_noise(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(real_training.TRUTHS, "vader", score)
    log = {"texts": list(WORDS) * 500, "outcomes": np.full(2000, 7.0), "groups": np.arange(2000)}
    exact = real_training.with_truth(log, "vader", 0.0, 3)
    np.testing.assert_array_equal(exact["outcomes"], np.tile([1.0, -1.0, 0.0, 1.0], 500))
    assert exact["groups"] is log["groups"]
    assert log["outcomes"][0] == 7.0
    noise = real_training.with_truth(log, "vader", 0.3, 3)["outcomes"] - exact["outcomes"]
    assert noise.std() == pytest.approx(0.3, rel=4 / np.sqrt(2 * 2000))
    again = real_training.with_truth(log, "vader", 0.3, 3)["outcomes"] - exact["outcomes"]
    np.testing.assert_array_equal(again, noise)


def test_vader_knows_praise_from_blame():
    pytest.importorskip("vaderSentiment")
    praise, blame, none = real_training.vader(["What a wonderful day", "A horrible crime", "Chair"])
    assert -1 <= blame < none == 0 < praise <= 1


@NO_DATA
@pytest.mark.real_data
def test_headlines_are_compared_within_their_test():
    log = real_training.upworthy_log(Path(str(DATA)), 300, 0)
    assert 250 < len(log["texts"]) <= 300
    means = pd.Series(log["outcomes"]).groupby(log["groups"]).mean()
    np.testing.assert_allclose(means, means.iloc[0])  # all that tests differ in is taken off
    other = real_training.upworthy_log(Path(str(DATA)), 300, 1)
    assert set(log["groups"]) != set(other["groups"])


@NO_DATA
@pytest.mark.real_data
def test_hong_kong_rows_keep_their_outcome_and_log_probability():
    log = real_training.hong_kong_log(Path(str(DATA)), 50, 0)
    found = load_hong_kong(Path(str(DATA)))
    assert len(log["texts"]) == 50
    known = list(zip(found.texts, found.outcome, strict=True))
    assert all(row in known for row in zip(log["texts"], log["outcomes"], strict=True))
    np.testing.assert_allclose(log["logp_logging"], found.design.log_prob(log["texts"]))


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:.*draws were cut at the limit")
def test_a_tiny_run_tells_all_and_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    rng = np.random.default_rng(0)
    texts = [f"{WORDS[i]} {rng.integers(100)}" for i in rng.integers(0, 4, 120)]
    log = {"texts": texts, "outcomes": score(texts) + rng.normal(size=120)}
    monkeypatch.setitem(real_training.LOGS, "upworthy", lambda data, rows, seed: log)
    monkeypatch.setitem(real_training.TRUTHS, "vader", score)
    out = tmp_path / "new" / "told.json"
    command = [
        "--data", str(tmp_path), "--log", "upworthy", "--out", str(out), "--steps", "2",
        "--batch-size", "8", "--n-draws", "20", "--eval-every", "1", "--fine-tune-epochs", "1",
        "--max-new-tokens", "8", "--fresh", "20", "--choose", "last",
        "--folder", str(tmp_path / "run"), "--truth", "vader",
    ]  # fmt: skip
    real_training.main(command)
    first = out.read_text(encoding="utf-8")
    assert str(tmp_path) not in first
    told = json.loads(first)
    assert told["steps"] == told["chosen_step"] == 2
    assert [row["what"] for row in told["result"]] == ["trained", "start", "difference"]
    assert len(told["before"]) == len(told["after"]) == 12
    assert "trained beats start" in told["win_rates"]
    assert set(told["true_values"]) == {"start", "trained", "difference"}
    assert -1 <= told["history"][0]["truth"] <= 1
    real_training.main(command)  # the kept run is taken up, not fitted again
    again = json.loads(out.read_text(encoding="utf-8"))
    assert again | {"seconds": 0} == told | {"seconds": 0}
