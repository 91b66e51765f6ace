"""The open questions: worlds by hand, tables from made-up units, and tiny runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

pytest.importorskip("torch")
pytest.importorskip("transformers")

from benchmarks import open_questions as questions
from benchmarks import open_questions_plot
from benchmarks import open_questions_sizes as sizes
from benchmarks import open_questions_tables as tables
from benchmarks import open_questions_worlds as worlds
from causal_lm_opt.datasets.pieces import PiecePolicy

pytestmark = pytest.mark.torch
DATA = os.environ.get("CAUSAL_LM_OPT_DATA")
TEXT = {"brave": "They are brave.", "evil": "This is evil.", "flag": "We wave flags."}


def design() -> PiecePolicy:
    sequences = (("brave", "evil"), ("brave", "flag"), ("evil",), ("flag",))
    return PiecePolicy(
        {arm: (text,) for arm, text in TEXT.items()}, dict.fromkeys(TEXT, (1.0,)), sequences,
        (0.4, 0.3, 0.2, 0.1),
    )  # fmt: skip


# ------------------------------------------------------------------------------ worlds
def test_the_pair_never_meets_and_the_rest_keeps_its_odds():
    apart = worlds.never_together(design())
    assert apart.sequences == (("brave", "flag"), ("evil",), ("flag",))
    assert np.asarray(apart.sequence_prob) == pytest.approx([0.5, 1 / 3, 1 / 6])
    assert not np.isfinite(apart.log_prob([f"{TEXT['brave']} {TEXT['evil']}"])[0])


def test_together_counts_only_where_both_arms_are():
    texts = [TEXT["brave"], TEXT["evil"], f"{TEXT['brave']} {TEXT['evil']}", "Nothing at all."]
    given: dict[str, Any] = {"effects": {"brave": 2.0, "evil": 3.0}, "base": 1.0, "words": 3}
    plain = worlds.PairWorld(design(), **given)
    turned = worlds.PairWorld(design(), **given, together=-10.0)
    assert plain.mean_outcome(texts).tolist() == [3.0, 4.0, 6.0, 1.0]
    assert turned.mean_outcome(texts).tolist() == [3.0, 4.0, -4.0, 1.0]
    assert (plain.best_value, turned.best_value) == (6.0, 4.0)


def test_answers_are_the_same_whatever_they_are_worth():
    even = worlds.ClassWorld(design(), {}, words=3)
    averse = worlds.ClassWorld(design(), {}, words=3, utility=worlds.UTILITIES["averse"])
    chance = even.probabilities(np.array([[1.0, 0.0, 0.0]]))[0]  # brave alone
    odds = np.exp([worlds.DISLIKE_BASE + worlds.DISLIKE["brave"], 0.0,
                   worlds.LIKE_BASE + worlds.LIKE["brave"]])  # fmt: skip
    assert chance == pytest.approx(odds / odds.sum())
    texts = design().sample(4000, random_state=0)
    one, two = even.outcomes(texts, 1), averse.outcomes(texts, 1)
    assert np.array_equal(np.where(one < 0, -3.0, one), two)
    assert abs(two.mean() - averse.mean_outcome(texts).mean()) < 4 * two.std() / np.sqrt(4000)
    assert averse.value() == pytest.approx(
        sum(p * averse.mean_outcome([" ".join(TEXT[a] for a in s)])[0]
            for s, p in zip(design().sequences, (0.4, 0.3, 0.2, 0.1), strict=True))
    )  # fmt: skip


def test_mean_utility_is_chances_times_worth():
    def features(texts: Any) -> Any:
        return np.array([[float(t == "a")] for t in texts])

    texts = ["a", "b"] * 300
    worth = np.random.default_rng(0).choice([-3.0, 0.0, 1.0], 600)
    model = clone(worlds.MeanUtility(features)).fit(texts, worth)
    found = model.predict(["a", "b"])
    means = [worth[::2].mean(), worth[1::2].mean()]
    assert model.features is features
    assert found == pytest.approx(means, abs=0.02)  # the penalty's pull is small


# ------------------------------------------------------------------------------ units and tables
def test_a_unit_that_is_there_is_not_made_again(tmp_path: Path):
    made = []

    def make(name: str) -> dict[str, Any]:
        made.append(name)
        return {"value": 1.0}

    file = tmp_path / "units.jsonl"
    units = [(name, lambda n=name: make(n)) for name in ("one", "two", "three")]
    questions.keep(file, iter(units), limit=2)
    questions.keep(file, iter(units))
    assert made == ["one", "two", "three"]
    assert [json.loads(x)["unit"] for x in file.read_text().splitlines()] == made


def test_effective_share():
    assert questions.share([-900.0, -900.0]) == pytest.approx(1.0)
    assert questions.share(np.log([3.0, 1.0])) == pytest.approx(16 / 20)


def test_sizes_are_compared_where_a_path_crosses():
    path = pd.DataFrame({"step": [0, 7, 14], "value": [50.0, 52.0, 56.0], "sd": [0.0, 1.0, 3.0],
                         "kl": [0.0, 0.2, 0.8]})  # fmt: skip
    found = tables.crossed(path, "gain", 3.0)
    assert found is not None
    assert (found["step"], found["sd"]) == (8.75, 1.5)
    assert tables.crossed(path, "kl", 1.0) is None


def test_f0_is_compared_with_fine_tuning_by_seed(tmp_path: Path):
    rows = [
        {"unit": f"{start}|dr|{seed}", "start": start, "objective": "dr", "seed": seed,
         "true_value": value + seed, "start_true_value": 50.0, "ess": 0.5, "start_ess": 0.9,
         "ess_start": 0.1, "sd_log_start_over_design": 1.0, "start_off_topic": 0.0,
         "verdict": "caution", "heldout_lo": 50.0, "heldout_hi": 58.5, "seconds": 1.0}
        for start, value in (("fine-tuned", 57.0), ("mixture", 55.0)) for seed in (0, 1, 2)
    ]  # fmt: skip
    file = tmp_path / "f0.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tables.write_tables(file, "f0", tmp_path)
    found = pd.read_csv(tmp_path / "f0-summary.csv").set_index("start")
    assert found.loc["mixture", "less_fine_tuned"] == -2.0
    assert found.loc["mixture", "less_fine_tuned_high"] == -2.0
    assert found["covered"].to_dict() == {"fine-tuned": 2.0, "mixture": 3.0}


# ------------------------------------------------------------------------------ tiny runs
def test_a_tiny_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sizes, "LAYERS", {16: 1})
    plan = sizes.Plan(start_texts=100, epochs=1, logged=32, steps=2, batch=8, every=1, fresh=20,
                      drawn=10)  # fmt: skip
    file = tmp_path / "model-size.jsonl"
    questions.keep(file, sizes.units(tmp_path, range(1), None, [16], plan))
    tables.write_tables(file, "model-size", tmp_path)
    found = pd.read_csv(tmp_path / "model-size-summary.csv").set_index("at")
    assert list(found.index) == ["step 0", "step 1", "step 2", "gain 3", "kl 1"]
    assert found.loc["step 0", "sd"] == pytest.approx(0.0, abs=1e-5)
    assert found.loc["step 0", "ess"] == pytest.approx(1.0)
    assert min(found.loc["step 1", "sd"], found.loc["step 2", "sd"]) > 0.01
    figure = ["--units", str(tmp_path / "model-size.csv"), "--png", str(tmp_path / "figure.png")]
    open_questions_plot.main(figure)
    assert (tmp_path / "figure.png").stat().st_size > 5000


@pytest.mark.real_data
@pytest.mark.skipif(DATA is None, reason="CAUSAL_LM_OPT_DATA names no folder of real data")
@pytest.mark.parametrize("question", ["f0", "unseen-arms", "three-classes"])
def test_a_tiny_run(question: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(questions, "EPOCHS", 1)
    monkeypatch.setattr(questions, "LOGS", 1)
    monkeypatch.setattr(questions, "STARTS", ("fine-tuned",))
    small = {"rows": 200, "steps": 2, "batch_size": 16, "round_size": 32, "eval_every": 2,
             "n_draws": 60, "fresh": 60, "start_texts": 1600, "start_epochs": 1}  # fmt: skip
    asked = ["--question", question, "--data", str(DATA), "--out", str(tmp_path), "--seeds", "1",
             "--units", "1"]  # fmt: skip
    questions.main(asked, small)
    units_made = pd.read_csv(tmp_path / f"{question}.csv")
    assert len(units_made) == 1
    assert len(pd.read_csv(tmp_path / f"{question}-summary.csv")) >= 1
    if question == "unseen-arms":
        row = units_made.iloc[0]
        assert row["backfire_value"] == pytest.approx(
            row["true_value"] + worlds.BACKFIRE * row["both"]
        )
        assert {"latent_level", "cells_level", "product_level", "sequence_level"} <= set(row.index)
