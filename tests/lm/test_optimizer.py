"""The optimiser: split, train, choose, report; interrupted, resumed, refused.

A tiny world: four openings, of which two raise the outcome. What matters statistically is tested
over many runs by `benchmarks.optimizer`; here are identities and behaviour.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import transformers

from causal_lm_opt._training_rows import lost_training_rows
from causal_lm_opt.diagnostics.verdict import CLOSER, Verdict, worst
from causal_lm_opt.estimators import IPW
from causal_lm_opt.exceptions import DataError, EstimationWarning, OverlapError, OverlapWarning
from causal_lm_opt.lm import LanguageModelPolicy, _optimizer_steps, from_texts
from causal_lm_opt.lm._features import TextFeatures
from causal_lm_opt.lm._heldout import Drawn, HeldOut
from causal_lm_opt.lm._left_out import LoggedTexts, fixed_prompts, judged, response_beyond
from causal_lm_opt.lm._optimizer_files import nearer_checkpoints
from causal_lm_opt.lm._optimizer_rows import joined, read_rows, split
from causal_lm_opt.lm._optimizer_settings import decide, trainer_settings
from causal_lm_opt.lm._optimizer_steps import NOT_ELIGIBLE, Watch, make_objective, nuisances_of
from causal_lm_opt.lm._targeted import TargetedReward
from causal_lm_opt.lm.objectives import IPWObjective, OnPolicyObjective
from causal_lm_opt.lm.optimizer import CausalLMOptimizer
from causal_lm_opt.lm.trainer import CausalPreferenceTrainer

OPENINGS = ("Join us", "Do join", "Stay home", "Stay away")


def join(texts: Any) -> pd.DataFrame:
    """Whether a text asks to join."""
    return pd.DataFrame({"join": [float("join" in t.lower()) for t in texts]})


def make_log(n: int = 240, seed: int = 0, noise: float = 0.3) -> tuple[list[str], np.ndarray]:
    rng = np.random.default_rng(seed)
    texts = [f"{OPENINGS[i]} {rng.integers(10)}" for i in rng.integers(0, 4, n)]
    return texts, join(texts).to_numpy()[:, 0] + noise * rng.normal(size=n)


@pytest.fixture(scope="module")
def start() -> LanguageModelPolicy:
    return from_texts(
        make_log(160, 9)[0], vocab_size=290, n_layer=1, n_embd=16, n_head=1, epochs=12, context=64
    )


SETTINGS: dict[str, Any] = {
    "features": join, "fine_tune_epochs": 0, "steps": 6, "batch_size": 16, "round_size": 32,
    "round_passes": 1, "n_draws": 60, "learning_rate": 2e-3, "cv": 2,
}  # fmt: skip


def make(start: LanguageModelPolicy, **given: Any) -> CausalLMOptimizer:
    return CausalLMOptimizer(start, **(SETTINGS | given))


@pytest.fixture(scope="module")
def finished(start: LanguageModelPolicy) -> CausalLMOptimizer:
    texts, y = make_log()
    return make(start, safe=False).fit(texts, y, groups=np.arange(240))


# ------------------------------------------------------------------ rows that trained a policy
def test_a_policy_knows_the_rows_that_trained_it_wherever_it_is_saved(finished, tmp_path):
    texts, _ = make_log()
    finished.policy_.save(tmp_path / "mine")
    (kept,) = LanguageModelPolicy(tmp_path / "mine").training_rows
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "mine")
    (same,) = LanguageModelPolicy(loaded, finished.policy_.tokenizer).training_rows
    np.testing.assert_array_equal(same.keys, kept.keys)
    np.testing.assert_array_equal(kept.among(texts), finished.parts_ != "report")
    assert finished.start_.training_rows == ()  # it was not fine-tuned
    tuned = make(finished.start_, fine_tune_epochs=1, steps=1, safe=False)
    tuned = tuned.fit(*make_log(), groups=np.arange(240))
    (of_start,) = tuned.start_.training_rows
    np.testing.assert_array_equal(of_start.among(texts), tuned.parts_ == "train")
    assert finished.start_.training_rows == ()


def test_transformers_own_way_to_save_keeps_the_mark_and_loses_the_rows(finished, tmp_path):
    for model, name in ((finished.policy_.model, "memory"), (None, "copy")):
        if model is None:
            model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "memory")
        model.save_pretrained(tmp_path / name)
        finished.policy_.tokenizer.save_pretrained(tmp_path / name)
        with pytest.warns(EstimationWarning, match=r"training_rows\.json.* is not there"):
            LanguageModelPolicy(tmp_path / name)
    finished.start_.model.save_pretrained(tmp_path / "start")  # nothing trained that one
    assert not lost_training_rows(tmp_path / "start")


def test_no_value_of_a_start_comes_from_the_rows_that_trained_it(finished):
    texts, y = make_log()
    trained = finished.trained_
    with pytest.raises(DataError, match=r"on \d+ of the 72 rows that its value would be reported"):
        make(trained, random_state=1).fit(texts, y, groups=np.arange(240))
    again = make(trained, steps=2, safe=False).fit(texts, y, groups=np.arange(240))
    assert len(again.trained_.training_rows) == 2
    other, z = make_log(seed=5)
    other = [f"{text} ({i})" for i, text in enumerate(other)]
    make(trained, steps=1, random_state=1).fit(other, z)


# ------------------------------------------------------------------ rows
def test_no_cluster_in_two_parts_and_shares_as_asked():
    texts, y = make_log(600)
    rows = read_rows(texts, y, None, None, np.arange(600) // 3)
    parts = split(rows, (0.5, 0.2, 0.3), 0)
    seen = [set(part.groups.tolist()) for part in parts]
    assert not (seen[0] & seen[1] | seen[0] & seen[2] | seen[1] & seen[2])
    assert [len(part) / 600 for part in parts] == pytest.approx([0.5, 0.2, 0.3], abs=0.01)
    assert sum(map(len, parts)) == 600


def test_equal_texts_or_many_prompts_are_clusters():
    texts = ["a", "b", "a"]
    assert read_rows(texts, [0, 1, 2], None, None, None).groups.tolist() == [0, 1, 0]
    varied = ["Join us", "stay", "join  US "]
    assert read_rows(varied, [0, 1, 2], None, None, None).groups.tolist() == [0, 1, 0]
    prompts = [f"p{i % 60}" for i in range(120)]
    rows = read_rows([f"t{i}" for i in range(120)], np.arange(120.0), prompts, None, None)
    assert len(set(rows.groups.tolist())) == 60
    few = read_rows(["x", "x", "y"], [0, 1, 2], ["p", "q", "p"], None, None)
    assert len(set(few.groups.tolist())) == 3
    assert few.read == ["p\n\nx", "q\n\nx", "p\n\ny"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"texts": [], "outcomes": []}, "texts"),
        ({"texts": "one", "outcomes": [1.0]}, "texts"),
        ({"texts": ["a", 2], "outcomes": [1.0, 2.0]}, "texts"),
        ({"outcomes": [1.0]}, r"outcomes must have shape \(3,\)"),
        ({"outcomes": [1.0, np.nan, 2.0]}, "outcomes has 1 NaN"),
        ({"outcomes": [1.0, np.inf, 2.0]}, "outcomes has 1 NaN or infinite"),
        ({"outcomes": [2.0, 2.0, 2.0]}, "outcomes are all 2"),
        ({"prompts": ["p"]}, "prompts must be 3"),
        ({"prompts": ["p", float("nan"), "q"]}, "must be a string or a conversation"),
        ({"logp_logging": [0.5, -1.0, -1.0]}, "logp_logging"),
        ({"groups": [1, 2]}, "groups"),
    ],
)
def test_bad_rows_are_named(given, said):
    whole = {"texts": ["a", "b", "c"], "outcomes": [1.0, 2.0, 3.0]} | given
    values = [whole.get(k) for k in ("texts", "outcomes", "prompts", "logp_logging", "groups")]
    with pytest.raises((TypeError, ValueError), match=said):
        read_rows(*values)


def test_too_few_rows_after_splitting():
    texts, y = make_log(40)
    with pytest.raises(DataError, match="after splitting, train has"):
        split(read_rows(texts, y, None, None, np.arange(40)), (0.2, 0.4, 0.4), 0)
    with pytest.raises(ValueError, match="three positive shares"):
        split(read_rows(texts, y, None, None, None), (0.5, 0.5), 0)
    rare = np.zeros(400)
    rare[0] = 1.0
    rows = read_rows([f"t{i}" for i in range(400)], rare, None, None, None)
    with pytest.raises(DataError, match=r"outcomes of .* are 0"):
        split(rows, (0.5, 0.2, 0.3), 0)


# ------------------------------------------------------------------ features
def test_features_are_fitted_once_and_remembered():
    calls: list[int] = []

    def count(texts: Any) -> np.ndarray:
        calls.append(len(texts))
        return np.array([[len(t)] for t in texts], dtype=float)

    features = TextFeatures(count, ["a", "bb"])
    assert features(["bb", "a", "bb"]).to_numpy()[:, 0].tolist() == [2.0, 1.0, 2.0]
    assert features(["bb"]).columns.tolist() == ["feature 0"]
    assert sum(calls) == 2
    assert TextFeatures(None, make_log(60)[0]).width > 2


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (3.5, "features must be a number of topics"),
        (True, "features must be a number of topics"),
        (0, "n_components must be an integer >= 1"),
        (lambda texts: np.zeros(len(texts)), "shape"),
        (lambda texts: np.full((len(texts), 1), np.nan), "finite"),
        (lambda texts: [["x"]] * len(texts), "numbers"),
    ],
)
def test_bad_features(spec, said):
    with pytest.raises((TypeError, ValueError), match=said):
        TextFeatures(spec, ["a", "b"])


# ------------------------------------------------------------------ values and rewards
def held_out(n: int = 300) -> HeldOut:
    texts, y = make_log(n, 3)
    rows = read_rows(texts, y, None, None, np.arange(n))
    return HeldOut(rows, TextFeatures(join, texts), lambda read: np.zeros(len(read)), "latent")


def drawn(share: float, n: int = 400) -> Drawn:
    many = round(share * n)
    texts = ["Join us 1"] * many + ["Stay home 1"] * (n - many)
    return Drawn(texts, None, np.zeros(n), None)


def test_held_out_values_are_those_of_the_re_weighted_rows():
    """One binary feature: V(f) is the mix of the two feature means by the draws' shares."""
    held = held_out()
    values = held.value({"trained": drawn(0.8), "start": drawn(0.5)}, None, "latent")
    y, z = held.rows.outcome, join(held.rows.texts).to_numpy()[:, 0]
    means = y[z == 1].mean(), y[z == 0].mean()
    assert values.values == pytest.approx(
        [0.8 * means[0] + 0.2 * means[1], sum(means) / 2], abs=1e-4
    )
    assert values.names == ("trained", "start")


def test_a_right_outcome_model_narrows_the_interval():
    held = held_out()
    right = HeldOut(held.rows, held.features, lambda r: join(r).to_numpy()[:, 0], "latent")
    draws = {"trained": drawn(0.8), "start": drawn(0.5)}
    wide, narrow = (h.value(draws, None, "latent") for h in (held, right))
    assert narrow["trained"].se <= wide["trained"].se * 1.001
    assert narrow["trained"].value == pytest.approx(wide["trained"].value, abs=0.02)


def test_checkpoints_below_the_floor_are_not_eligible():
    held = held_out()
    logged = LoggedTexts.of(held.rows)
    watch = Watch(held, logged, drawn(0.5), None, None, 100, 10, 0, 0.95, 0.95)
    figures = watch._figures("latent", held.value(
        {"trained": drawn(0.97), "start": drawn(0.5)}, None, "latent"
    ))  # fmt: skip
    assert figures["score"] == NOT_ELIGIBLE
    assert figures["difference_lower"] > 0
    watch.ess_floor = 0.0
    again = watch._figures("latent", held.value(
        {"trained": drawn(0.97), "start": drawn(0.5)}, None, "latent"
    ))  # fmt: skip
    assert again["score"] == again["difference_lower"]


def test_checkpoints_that_left_the_logged_texts_are_not_eligible(monkeypatch):
    """All 40 texts of the log are known; 40 % of a checkpoint's draws are none of them."""
    held = held_out()
    logged = LoggedTexts.of(replace(held.rows, logp_logging=np.full(300, -np.log(40.0))))
    away = drawn(0.6)
    away.read[-160:] = ["Stay home Stay"] * 160  # of logged words
    for read, eligible in ((drawn(0.6), True), (away, False)):
        monkeypatch.setattr(_optimizer_steps, "draw_for", lambda *_, read=read: read)
        watch = Watch(held, logged, drawn(0.5), None, None, 100, 10, 0, 0.05, 0.95)
        found = watch(start, 20)
        assert (found["score"] > NOT_ELIGIBLE) == eligible
        assert ("Training led to texts that no row holds: 40.0%" in found["why"]) != eligible


def targeted(tilt: float | None, sign: float = 1.0) -> TargetedReward:
    texts, y = make_log(400, 5)
    rows = read_rows(texts, y, None, None, np.arange(400))

    def predict(read: Any) -> np.ndarray:
        return sign * join(read).to_numpy()[:, 0]

    features = TextFeatures(join, texts)
    return TargetedReward(rows, predict(texts), predict, features, "latent", tilt)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_reward_has_the_right_direction_whatever_the_sign_of_the_outcome_model(sign):
    reward = targeted(None, sign)
    texts = ["Join us 1", "Stay home 1"] * 50
    found = np.array(reward(texts, None))
    assert found[0] - found[1] == pytest.approx(1.0, abs=0.1)
    plug_in = found.mean()
    weighted = HeldOut(reward.rows, reward.features, lambda r: np.zeros(len(r)), "latent").value(
        {"f": Drawn(texts, None, np.zeros(100), None)}, None, "latent"
    )
    assert plug_in == pytest.approx(weighted.value if weighted.scalar else weighted.values[0],
                                    abs=0.02)  # fmt: skip


def test_the_pull_vanishes_at_the_best_tilt():
    """Where the draws' features are the log's tilted by exp(q*/tau), every text is as good."""
    tilt = 1.2
    reward = targeted(tilt)
    z = join(reward.rows.texts).to_numpy()[:, 0]
    gap = 1.0  # of q* between the two cells
    tau = gap * z.std() / tilt
    odds = z.mean() / (1 - z.mean()) * np.exp(gap / tau)
    many = round(2000 * odds / (1 + odds))
    found = np.array(reward(["Join us 1"] * many + ["Stay home 1"] * (2000 - many), None))
    assert abs(found[0] - found[-1]) < 0.12
    plain = np.array(reward(["Join us 1", "Stay home 1"] * 500, None))
    assert plain[0] - plain[1] > 0.8


def test_what_was_never_logged_pays():
    """A text of a cell without logged rows is worth no more than the worst that was logged."""
    reward = targeted(1.0)
    reward.features = TextFeatures(
        lambda texts: np.array([["join" in t.lower(), "zebra" in t] for t in texts], float),
        list(reward.rows.texts),
    )
    found = np.array(reward(["Join us 1"] * 60 + ["Stay home 1"] * 60 + ["Join zebra"] * 4, None))
    assert found[-1] == found.min() == found[60]


# ------------------------------------------------------------------ a whole run
def test_history_result_and_words(finished):
    history = finished.history_
    assert history["step"].tolist() == [2, 4, 6]
    assert {"value", "lower", "upper", "start", "difference", "ess", "verdict", "model_based"} <= (
        set(history.columns)
    )
    assert finished.sizes_ == {"train": 120, "select": 48, "report": 72}
    assert {p: int((finished.parts_ == p).sum()) for p in finished.sizes_} == finished.sizes_
    result = finished.result_
    table = result.to_frame().set_index("what")
    assert table.loc["difference", "value"] == pytest.approx(
        table.loc["trained", "value"] - table.loc["start", "value"]
    )
    text = str(result)
    assert "V(f) - V(f0)" in text
    assert "no estimate to report" in text
    assert finished.summary() == text
    assert "<pre>" in result._repr_html_()
    assert len(finished.steps_) == 6
    assert len(finished.sample(3, random_state=0, max_new_tokens=8)) == 3


def test_training_raises_the_feature_that_matters(start):
    texts, y = make_log(400)
    run = make(
        start, steps=30, eval_every=10, learning_rate=4e-3, patience=20, tilt=None, safe=False
    )
    run.fit(texts, y, groups=np.arange(400))
    before, after = (
        join(p.sample(300, 1, max_new_tokens=20).texts)["join"].mean()
        for p in (run.start_, run.policy_)
    )
    assert after > before + 0.15
    assert run.result_.accepted


def test_saved_and_loaded_is_the_same(finished, tmp_path):
    folder = finished.save(tmp_path / "kept")
    again = CausalLMOptimizer.load(folder)
    assert str(again.result_) == str(finished.result_)
    assert again.parts_.tolist() == finished.parts_.tolist()
    for name in ("objective", "steps", "learning_rate", "random_state", "level", "ess_floor"):
        assert getattr(again, name) == getattr(finished, name)
    assert list(again.split) == list(finished.split)
    pd.testing.assert_frame_equal(again.history_, finished.history_, check_dtype=False)
    one, other = (run.sample(2, 3, max_new_tokens=8) for run in (again, finished))
    assert one.texts == other.texts
    with pytest.raises(FileExistsError):
        finished.save(folder)
    record = (folder / "optimizer.json").read_bytes()
    (folder / "optimizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="damaged"):
        CausalLMOptimizer.load(folder)
    (folder / "trained").rename(folder / "policy")
    (folder / "optimizer.json").write_bytes(record)
    with pytest.raises(DataError, match="older version named it policy"):
        CausalLMOptimizer.load(folder)
    (folder / "optimizer.json").write_text(json.dumps({"sizes": {}}), encoding="utf-8")
    with pytest.raises(DataError, match="damaged"):
        CausalLMOptimizer.load(folder)
    with pytest.raises(DataError, match="missing"):
        CausalLMOptimizer.load(tmp_path)


def test_interrupted_and_resumed_is_the_unbroken_run(start, finished, tmp_path, monkeypatch):
    """Killed in the middle of a round: the resumed run is equal to the last bit."""
    texts, y = make_log()
    unbroken = finished
    steps = [0]
    plain = CausalPreferenceTrainer.training_step

    def break_off(self: Any, *given: Any, **named: Any) -> Any:
        steps[0] += 1
        if steps[0] == 4:
            raise KeyboardInterrupt
        return plain(self, *given, **named)

    run = make(start, safe=False, out=tmp_path / "run")
    monkeypatch.setattr(CausalPreferenceTrainer, "training_step", break_off)
    with pytest.raises(KeyboardInterrupt):
        run.fit(texts, y, groups=np.arange(240))
    monkeypatch.setattr(CausalPreferenceTrainer, "training_step", plain)
    run.fit(texts, y, groups=np.arange(240))
    pd.testing.assert_frame_equal(run.history_, unbroken.history_)
    assert str(run.result_) == str(unbroken.result_)
    once_more = make(start, safe=False, out=tmp_path / "run").fit(texts, y, groups=np.arange(240))
    assert str(once_more.result_) == str(run.result_)
    with pytest.raises(DataError, match="steps was 6, is 7"):
        make(start, safe=False, steps=7, out=tmp_path / "run").fit(texts, y, groups=np.arange(240))
    with pytest.raises(DataError, match="other rows"):
        make(start, safe=False, out=tmp_path / "run").fit(texts, y + 1, groups=np.arange(240))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(DataError, match="holds no run"):
        make(start, out=tmp_path / "other").fit(texts, y, groups=np.arange(240))


@pytest.mark.parametrize("objective", ["dr", "ipw", "or", "likelihood"])
def test_every_objective_runs(start, objective):
    texts, y = make_log()
    run = make(start, objective=objective, steps=4, eval_every=2, safe=False, learning_rate=1e-4)
    run.fit(texts, y, groups=np.arange(240), logp_logging=np.full(240, -6.0))
    assert len(run.history_) == 2
    assert np.isfinite(run.result_.difference.value)


@pytest.mark.parametrize(
    ("most", "given", "rate"),
    [(20_000_000, None, 1e-4), (1000, None, 1e-5), (1000, object(), 1e-4)],
)
def test_the_learning_rate_goes_by_the_model_s_size(
    start, tmp_path, monkeypatch, most, given, rate
):
    monkeypatch.setattr("causal_lm_opt.lm._optimizer_settings.SMALL", most)
    run = make(start, learning_rate=None, peft_config=given)
    assert trainer_settings(run, tmp_path, start)["learning_rate"] == rate
    assert trainer_settings(run, tmp_path, "tiny")["learning_rate"] == 1e-4


@pytest.mark.parametrize("ratio", ["sequence", "balance", "classifier", "auto"])
def test_every_ratio_runs(start, ratio):
    texts, y = make_log()
    run = make(start, ratio=ratio, steps=2, safe=False, learning_rate=1e-5)
    run.fit(texts, y, groups=np.arange(240), logp_logging=start.log_prob(texts))
    assert set(run.history_["ratio"]) <= {ratio if ratio != "auto" else "sequence", "latent"}
    if ratio == "auto":  # one small step: sequences still know what the policy is
        assert run.result_.ratio == "sequence"


def test_prompts(start):
    rng = np.random.default_rng(0)
    prompts = [f"Topic {rng.integers(6)}" for _ in range(240)]
    texts, y = make_log()
    run = make(start, steps=2, safe=False).fit(texts, y, prompts=prompts)
    assert len(run.sample(2, 0, prompts=["Topic 1"], max_new_tokens=8)) == 2
    with pytest.raises(ValueError, match="the log had prompts"):
        run.sample(2)
    with pytest.raises(ValueError, match="the log had prompts"):
        run.predict_outcome(texts[:2])
    tiny = CausalLMOptimizer(**(SETTINGS | {"steps": 2, "fine_tune_epochs": 1, "safe": False}))
    assert tiny.fit(texts, y, prompts=prompts).result_.step in (0, 2)


def test_a_kept_run_is_told_by_what_its_parts_do(start, tmp_path):
    """Other features, models, objectives or shares are another run; another path is the same."""
    texts, y = make_log()
    groups, out = np.arange(240), tmp_path / "run"
    given = {"steps": 2, "safe": False, "out": out}
    first = make(start, **given).fit(texts, y, groups=groups)

    def stay(some: Any) -> pd.DataFrame:
        return pd.DataFrame({"join": [float("stay" in t.lower()) for t in some]})

    other = from_texts(texts, vocab_size=290, n_layer=1, n_embd=16, n_head=1, epochs=0, context=64)
    for changed, said in (
        ({"features": stay}, "other features"),
        ({"split": np.array([0.4, 0.3, 0.3])}, "split was .0.5"),
        ({"objective": OnPolicyObjective(clip_range=0.3)}, "objective was"),
    ):
        with pytest.raises(DataError, match=said):
            make(start, **(given | changed)).fit(texts, y, groups=groups)
    with pytest.raises(DataError, match="model was"):
        make(other, **given).fit(texts, y, groups=groups)
    moved = tmp_path / "elsewhere"
    shutil.move(out, moved)
    again = make(start, **(given | {"out": moved, "split": [0.5, 0.2, 0.3]}))
    assert str(again.fit(texts, y, groups=groups).result_) == str(first.result_)


def test_a_run_that_moved_keeps_its_best_checkpoint(start, finished, tmp_path, monkeypatch):
    texts, y = make_log()
    plain = CausalPreferenceTrainer.training_step
    calls = [0]

    def break_off(self: Any, *given: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == 6:
            raise KeyboardInterrupt
        return plain(self, *given, **named)

    monkeypatch.setattr(CausalPreferenceTrainer, "training_step", break_off)
    with pytest.raises(KeyboardInterrupt):
        make(start, safe=False, out=tmp_path / "a").fit(texts, y, groups=np.arange(240))
    monkeypatch.setattr(CausalPreferenceTrainer, "training_step", plain)
    shutil.move(tmp_path / "a", tmp_path / "b")
    run = make(start, safe=False, out=tmp_path / "b").fit(texts, y, groups=np.arange(240))
    assert str(run.result_) == str(finished.result_)


def test_no_room_for_any_checkpoint_is_one_clear_error(start, monkeypatch):
    texts, y = make_log()

    def full(self: Any, *given: Any, **named: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(CausalPreferenceTrainer, "write_extra", full)
    with (
        pytest.warns(EstimationWarning, match="could not be written"),
        pytest.raises(OSError, match="no checkpoint could be written"),
    ):
        make(start, steps=2).fit(texts, y, groups=np.arange(240))


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_an_adapter_is_saved_upon_its_start(start, tmp_path):
    peft = pytest.importorskip("peft")
    texts, y = make_log()
    adapter = peft.LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True)
    run = make(start, steps=2, safe=False, peft_config=adapter, out=tmp_path / "run")
    run.fit(texts, y, groups=np.arange(240))
    again = CausalLMOptimizer.load(tmp_path / "run")
    assert again.trained_ is not None
    assert again.trained_.log_prob(texts[:5]) == pytest.approx(run.trained_.log_prob(texts[:5]))
    with pytest.raises(ValueError, match="adapter"):
        make(again.trained_).fit(texts, y, groups=np.arange(240))


def test_a_round_that_the_log_knows_nothing_of_ends_training(start, monkeypatch):
    """The reward's error ends training; the report's gives the start."""
    texts, y = make_log()

    def lost(self: Any, read: Any) -> Any:
        raise OverlapError("no cell holds both")

    with monkeypatch.context() as patch:
        patch.setattr(TargetedReward, "_ratio", lost)
        run = make(start, safe=False).fit(texts, y, groups=np.arange(240))
        assert run.history_["step"].tolist() == [1]
    plain = HeldOut.value

    def refuse(self: Any, draws: Any, logp: Any, ratio: str) -> Any:
        if len(self.rows) == 72 and "trained" in draws:
            raise OverlapError("no common cell")
        return plain(self, draws, logp, ratio)

    monkeypatch.setattr(HeldOut, "value", refuse)
    run = make(start, steps=2).fit(texts, y, groups=np.arange(240))
    assert run.policy_ is run.start_
    assert "no common cell" in run.result_.decision


def test_nothing_eligible_gives_the_start(start):
    texts, y = make_log()
    run = make(start, steps=4, ess_floor=0.9999).fit(texts, y, groups=np.arange(240))
    assert run.policy_ is run.start_
    assert run.result_.step == 0
    assert run.result_.difference.value == 0
    assert "no checkpoint" in run.result_.decision


@pytest.mark.parametrize("choose", ["lower", "last"])
def test_training_that_stops_before_the_first_evaluation_says_so(start, tmp_path, choose):
    never = IPWObjective(ess_floor=1.0)  # the first step leaves such a trust region
    run = make(start, objective=never, steps=6, eval_every=6, out=tmp_path / "run", choose=choose)
    with pytest.warns(OverlapWarning, match="training stops at step 2"):
        run.fit(*make_log(), groups=np.arange(240))
    again = CausalLMOptimizer.load(tmp_path / "run")
    for found in (run, again):
        assert found.history_.empty
        assert list(found.history_.columns)[:2] == ["step", "value"]
        if choose == "lower":
            assert found.policy_ is found.start_
            assert "before the first evaluation" in found.result_.decision


def told(finished: CausalLMOptimizer, **levels: str) -> dict[str, Any]:
    """The run's values with other verdicts, as `decide` is given them."""
    values = {name: getattr(finished.result_, name) for name in ("trained", "start", "difference")}
    for name, level in levels.items():
        verdict = Verdict(level, (f"The gravest of {name}.", "Another."))
        values[name] = replace(values[name], verdicts=(verdict,))
    return values


@pytest.mark.parametrize(("ess", "clusters"), [(13.0, 5.0), (40.0, 9.0), (19.0, math.nan)])
def test_nothing_is_accepted_on_rows_that_weights_leave_few_of(finished, ess, clusters):
    run, values = replace(finished, safe=True), told(finished, difference="caution")
    run.history_ = finished.history_
    moved = replace(values["difference"], values=values["difference"].values + 10)
    values["difference"] = moved
    assert decide(run, values, 6)[0]
    figures = {**values["trained"].diagnostics[0], "ess": ess, "clusters": clusters}
    values["trained"] = replace(values["trained"], diagnostics=(figures,))
    accepted, why = decide(run, values, 6)
    assert not accepted
    assert f"the report rows are worth {ess:.0f} rows" in why
    assert "fewer than 20 rows in 10" in why
    assert ("independent units" in why) == (clusters == clusters)
    assert decide(replace(run, safe=False), values, 6)[0]


def test_a_refusal_says_which_policy_and_the_gravest_reason_alone(finished):
    run = replace(finished, safe=True)
    run.history_ = finished.history_
    lost = "do not use"
    _, why = decide(run, told(finished, difference=lost, start=lost, trained="caution"), 6)
    assert "cannot value the start" in why
    assert "The gravest of start. A start that writes as the log does" in why
    _, why = decide(run, told(finished, difference=lost, start=lost, trained=lost), 6)
    assert "cannot value the trained policy: The gravest of trained." in why
    assert "Another" not in why
    run.history_ = pd.DataFrame({
        "step": [2, 6], "ess": [0.9, 0.1], "verdict": "caution", "difference_lower": [0.1, 0.2],
    })  # fmt: skip
    values = told(finished, difference=lost, trained=lost)
    assert "Step 2" not in decide(run, values, 6)[1]  # a nearer policy may have the same fault
    far = Verdict(lost, (f"The effective sample size is 4 rows. {CLOSER}",))
    values["trained"] = replace(values["trained"], verdicts=(far,))
    assert "Step 2 kept an effective sample size of 90%" in decide(run, values, 6)[1]
    _, why = decide(run, told(finished, difference=lost, start="caution", trained="caution"), 6)
    assert "cannot value the trained policy: The gravest of difference." in why


def test_reasons_are_told_once_with_whose_they_are(finished):
    both = Verdict("do not use", ("Bad.", "Shared."))
    values = {"trained": Verdict("caution", ("Shared.",)), "start": both}
    values["difference"] = worst([*values.values(), Verdict("caution", ("Its own.",))])
    made = {
        name: replace(getattr(finished.result_, name), verdicts=(verdict,))
        for name, verdict in values.items()
    }
    result = replace(finished.result_, step=6, **made)
    expected = ["V(f0): Bad.", "V(f), V(f0): Shared.", "difference: Its own."]
    assert result.reasons() == expected
    assert replace(result, step=0).reasons() == ["V(f0): Bad.", "V(f0): Shared."]


def test_safe_returns_the_start_where_nothing_is_gained(start):
    texts, y = make_log(noise=3.0)
    run = make(start, learning_rate=1e-6).fit(texts, np.roll(y, 7), groups=np.arange(240))
    assert not run.result_.accepted
    assert run.policy_ is run.start_


def test_a_feature_left_out_shows_in_the_verdict(start):
    """Outcomes respond to "Do" too, which words of all rows, those of training as well, tell."""
    texts, y = make_log(400)
    y = y + [0.6 * t.startswith("Do") for t in texts]
    found = make(start, safe=False, steps=2, ratio="latent").fit(texts, y, groups=np.arange(400))
    told = [r for r in found.result_.verdict.reasons if "on 400 rows" in r]
    assert told
    assert found.result_.verdict.level != "trustworthy"
    right = make(start, safe=False, steps=2, ratio="latent")
    right.fit(*make_log(400), groups=np.arange(400))
    assert not right.response_.seen


def test_prompts_that_move_outcomes_are_no_response_to_the_text():
    rng = np.random.default_rng(5)
    texts, y = make_log(600)
    asked = rng.integers(0, 2, 600)
    said = [f"{t} {'left' if a else 'right'}" for t, a in zip(texts, asked, strict=True)]
    prompts = [["to the right?", "to the left?"][a] for a in asked]  # the text echoes its prompt
    rows = read_rows(said, y + 2.0 * asked, prompts, None, np.arange(600))
    features = TextFeatures(join, rows.read)
    assert not response_beyond(rows, features).seen
    alone = read_rows(said, y + 2.0 * asked, None, None, np.arange(600))
    assert response_beyond(alone, features).seen
    assert response_beyond(replace(alone, texts=("",) * 600), TextFeatures(join, [""])) is None


def test_monitored_figures_are_columns_that_choose_nothing(start, finished, tmp_path):
    texts, y = make_log()
    groups = np.arange(240)
    own = {"length": lambda some: np.mean([len(t) for t in some])}
    run = make(start, safe=False, monitor=own).fit(texts, y, groups=groups)
    assert (run.history_["length"] > 5).all()
    pd.testing.assert_frame_equal(run.history_.drop(columns="length"), finished.history_)
    run.save(tmp_path / "kept")
    again = CausalLMOptimizer.load(tmp_path / "kept")
    assert again.history_["length"].tolist() == pytest.approx(run.history_["length"].tolist())
    with pytest.raises(ValueError, match="'ess' is no free name"):
        make(start, monitor={"ess": len}).fit(texts, y)
    with pytest.raises(TypeError, match="callable texts -> number"):
        make(start, monitor={"a": 3}).fit(texts, y)
    with pytest.raises(TypeError, match="must return a number"):
        make(start, steps=2, monitor={"a": list}).fit(texts, y, groups=groups)


def test_the_last_step_is_valued_where_that_is_asked(start, tmp_path):
    """Also where no checkpoint could be chosen: the verdict says what the value is worth."""
    texts, y = make_log()
    given = {"choose": "last", "ess_floor": 0.9999, "steps": 5, "eval_every": 2, "safe": False}
    run = make(start, **given).fit(texts, y, groups=np.arange(240))
    assert run.result_.step == 5
    assert run.history_["step"].tolist() == [2, 4, 5]  # the last step is told as well
    assert run.history_["chosen_by"].isna().all()
    assert run.policy_ is run.trained_
    run.save(tmp_path / "kept")
    again = CausalLMOptimizer.load(tmp_path / "kept")
    assert again.trained_.log_prob(texts[:3]) == pytest.approx(run.trained_.log_prob(texts[:3]))
    with pytest.raises(ValueError, match="choose must be"):
        make(start, choose="best").fit(texts, y)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a run on this machine's GPU is another one")
def test_mixed_precision_ends_with_the_policy_that_is_saved(start, tmp_path, capsys):
    """Steps in bfloat16, weights in float32; what is valued is what comes back from the folder."""
    texts, y = make_log()
    mixed = {"training": {"bf16": True, "use_cpu": True}, "choose": "last", "steps": 2}
    given = {"fine_tune_epochs": 1, "progress": True, "out": tmp_path / "run"}
    run = make(start, **mixed, **given).fit(texts, y, groups=np.arange(240))
    assert "fine-tuning the start" in capsys.readouterr().err
    plain = make(start, **(mixed | {"training": {"use_cpu": True}}), fine_tune_epochs=1)
    plain.fit(texts, y, groups=np.arange(240))
    again = CausalLMOptimizer.load(tmp_path / "run")
    for name in ("start_", "trained_"):
        own, kept = getattr(run, name), getattr(again, name)
        assert own.dtype_name == kept.dtype_name == "float32"
        found = own.log_prob(texts[:9])
        np.testing.assert_allclose(found, kept.log_prob(texts[:9]), rtol=1e-6)
        in_float32 = getattr(plain, name).log_prob(texts[:9])
        np.testing.assert_allclose(found, in_float32, rtol=0.05)
        assert np.abs(found - in_float32).max() > 1e-5  # the setting was heard


def test_sequences_whose_weights_do_not_average_one_are_not_taken():
    """Policies that write half their texts beyond the log's: the features say more."""
    texts, y = make_log(300)
    rows = read_rows(texts, y, None, np.full(300, -4.0), np.arange(300))
    features = TextFeatures(join, texts)
    held = HeldOut(rows, features, lambda read: np.zeros(len(read)), "auto")
    jitter = 0.1 * np.random.default_rng(0).normal(size=300)
    drawn = Drawn(texts[:150], None, jitter[:150] - 4.0, np.full(150, -4.0))
    draws = {"trained": drawn, "start": drawn}
    right = dict.fromkeys(draws, jitter - 4.0)
    assert held.chosen(draws, right)[0] == "sequence"
    assert held.chosen(draws, right | {"start": jitter - 4.7})[0] == "latent"


def test_settings_are_checked(start, tmp_path):
    texts, y = make_log()
    for given, said in (
        ({"objective": "dpo"}, "objective must be one of"),
        ({"ratio": "odds"}, "ratio must be one of"),
        ({"steps": 0}, "steps"),
        ({"ess_floor": 2.0}, "ess_floor"),
        ({"tilt": -1.0}, "tilt"),
        ({"ratio": "sequence"}, "needs logp_logging"),
        ({"training": {"metric_for_best_model": "value"}}, "which its choice rests on"),
        ({"training": {"max_steps": 3}}, "use steps="),
        ({"training": {"weight_decai": 3}}, "did you mean 'weight_decay'"),
        ({"fine_tune_epochs": -1}, "fine_tune_epochs"),
        ({"random_state": None}, "random_state"),
        ({"split": "abc"}, "three positive shares"),
        ({"round_size": 33}, "must be a multiple of batch_size"),
        ({"objective": OnPolicyObjective(), "kl": 1.0}, "belong to the objective"),
        ({"model": start.with_decoding(temperature=0.5)}, "temperature"),
    ):
        with pytest.raises(ValueError, match=said):
            CausalLMOptimizer(**({"model": start} | SETTINGS | given)).fit(
                texts, y, groups=np.arange(240)
            )
    with pytest.raises(AttributeError, match="not fitted"):
        make(start).sample(1)
    assert make_objective("dr", 0.1, 0.0).label.startswith("doubly robust")


def test_a_run_without_room_leaves_the_record_unwritten(start, tmp_path, monkeypatch):
    """A full disk at the end: one error, and the run resumes to the same result."""
    texts, y = make_log()
    run = make(start, steps=2, safe=False, out=tmp_path / "run")
    plain = Path.write_text

    def full(self: Path, *given: Any, **named: Any) -> int:
        if self.name.startswith("optimizer"):
            raise OSError(28, "No space left on device")
        return plain(self, *given, **named)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        run.fit(texts, y, groups=np.arange(240))
    monkeypatch.setattr(Path, "write_text", plain)
    assert not (tmp_path / "run" / "optimizer.json").exists()
    run.fit(texts, y, groups=np.arange(240))
    assert (tmp_path / "run" / "optimizer.json").is_file()
    shutil.rmtree(tmp_path / "run")


def test_a_policy_too_far_from_the_log_is_met_with_a_nearer_step() -> None:
    history = pd.DataFrame({
        "step": [2, 4, 6], "ess": [0.8, 0.5, 0.05], "difference_lower": [0.1, 0.4, 0.9],
        "verdict": ["caution", "trustworthy", "caution"],
    })  # fmt: skip
    assert "Step 4 kept an effective sample size of 50%" in nearer_checkpoints(history, 6, 0.3)
    assert nearer_checkpoints(history, 2, 0.3) == ""
    assert nearer_checkpoints(history.assign(verdict="do not use"), 6, 0.3) == ""


def test_topics_are_named_by_their_words():
    rows = [f"{a} {b}." for a in ("join us", "stay home") for b in ("today", "soon")] * 5
    names = TextFeatures(None, rows).names
    assert all(name.startswith(f"topic {j + 1} (") for j, name in enumerate(names))
    said = {word for name in names for word in re.findall(r"[a-z]+", name)} - {"topic"}
    assert said
    assert said <= {"join", "us", "stay", "home", "today", "soon"}
    assert TextFeatures(lambda texts: np.ones((len(texts), 1)), rows).names == ["feature 0"]


BEGINNINGS = ("Please join us", "Come along", "Stay away", "Do not bother")
REASONS = ("because it helps.", "as neighbours do.", "for the children.", "to save money.")


def wordy_prompts(n: int, many: int, seed: int) -> tuple[list[str], list[str], np.ndarray]:
    """Texts, prompts of 3 to 24 words, and what a text adds to its prompt's outcome."""
    rng = np.random.default_rng(seed)
    words = [a + b for a in ("ba", "ko", "li", "mu", "ne", "po") for b in ("da", "ge", "ho", "ji")]
    asked = [" ".join(rng.choice(words, rng.integers(3, 25))) for _ in range(many)]
    first, second = rng.integers(0, 4, (2, n))
    texts = [f"{BEGINNINGS[i]} {REASONS[j]}" for i, j in zip(first, second, strict=True)]
    return texts, [asked[i] for i in rng.integers(0, many, n)], np.array([1, 0.6, -0.6, -1])[first]


def explained(found: Any, effect: np.ndarray) -> float:
    """Share of a variance that is linear in features."""
    known = np.column_stack([np.ones(len(effect)), found])
    rest = effect - known @ np.linalg.lstsq(known, effect, rcond=None)[0]
    return 1 - float(rest.var() / effect.var())


def test_topics_of_prompts_take_none_from_the_texts():
    texts, prompts, effect = wordy_prompts(600, 100, 0)
    rows = read_rows(texts, effect, prompts, None, None)
    apart = TextFeatures(8, rows.read, prompted=True)
    assert explained(apart(rows.read), effect) > 0.99
    assert explained(TextFeatures(16, rows.read)(rows.read), effect) < 0.95  # as one: a control
    of_prompts = [name for name in apart.names if name.startswith("prompts' topic ")]
    assert len(of_prompts) == min(8, len(set(prompts)) // 10)
    six = [f"{i % 6} is the number\n\n{text}" for i, text in enumerate(texts)]
    few = TextFeatures(8, six, prompted=True)
    assert sum(name.startswith("prompts' ") for name in few.names) == 5


def test_a_text_has_the_same_topics_after_every_prompt():
    texts, prompts, effect = wordy_prompts(200, 60, 1)
    odd = ["a\n\n\nprompt of\n\nparts\n", *prompts[1:]]
    read = read_rows(texts, effect, odd, None, None).read
    found = TextFeatures(4, read, prompted=True)
    own = [j for j, name in enumerate(found.names) if name.startswith("topic")]
    assert 0 < len(own) < found.width
    alone = TextFeatures(4, texts)
    np.testing.assert_allclose(found(read).to_numpy()[:, own], alone(texts).to_numpy(), atol=1e-12)
    for same in ("why?", " "):
        one = read_rows(texts, effect, [same] * 200, None, np.arange(200)).read
        assert TextFeatures(4, one, prompted=True).width == len(own)


def test_a_policy_of_coined_words_is_no_good_whatever_its_features_say():
    texts = [f"{a} {b}" for a in BEGINNINGS for b in REASONS] * 10
    rows = read_rows(texts, np.arange(160.0), None, None, None)
    spoken = Drawn(texts[:50], None, np.zeros(50), None)
    coined = Drawn([f"{t} blarg {i}" for i, t in enumerate(texts[:50])], None, np.zeros(50), None)
    words = LoggedTexts.of(rows).beyond({"f": spoken, "g": coined}, estimated=True)
    value = IPW().fit(texts, np.arange(160.0)).result_
    sound = judged(replace(value, names=("f",)), [], words)
    broken = judged(replace(value, names=("g",)), [], words)
    assert sound.verdicts == value.verdicts
    assert broken.verdicts[0].level == "do not use"
    assert "'blarg'" in str(broken.verdicts[0])
    after = Drawn([f"Why blarg?\n\n{t}" for t in texts[:50]], np.arange(50), np.zeros(50), None)
    asked = read_rows(texts, np.arange(160.0), ["Why?"] * 160, None, None)
    assert LoggedTexts.of(asked).beyond({"f": after}, estimated=True) == {"f": []}


def test_draws_that_the_logging_policy_never_writes_are_told_beside_features():
    texts = [f"{a} {b}" for a in BEGINNINGS for b in REASONS] * 10
    logged = LoggedTexts.of(read_rows(texts, np.arange(160.0), None, None, None))
    drawn_ = {
        name: Drawn(texts[:100], None, np.zeros(100), np.repeat([-np.inf, -3.0], [k, 100 - k]))
        for name, k in (("start", 4), ("trained", 40))
    }
    found = logged.beyond(drawn_, estimated=True)
    assert found["start"] == []
    ((level, why),) = found["trained"]
    assert level == 2
    assert why.startswith("Training led to texts that no row holds: 40.0% of the trained policy's")
    assert logged.beyond(drawn_, estimated=False) == {"start": [], "trained": []}
    found = logged.beyond({"start": drawn_["trained"]}, estimated=True)
    assert [level for level, _ in found["start"]] == [1]


def test_values_over_few_prompts_that_differ_say_so():
    rng = np.random.default_rng(0)
    texts = [f"{a} {b}" for a in BEGINNINGS for b in REASONS] * 20
    prompt = rng.integers(0, 20, 320)
    prompts = [f"Why {p}?" for p in prompt]
    effect = rng.normal(size=20)[prompt]

    def said(outcome: Any, **given: Any) -> list[Any]:
        return fixed_prompts(read_rows(texts, outcome, given.get("prompts", prompts), None,
                                       given.get("groups")))  # fmt: skip

    ((level, why),) = said(effect + rng.normal(size=320))
    assert level == 1
    assert "over these 20 prompts alone" in why
    assert said(rng.normal(size=320)) == []  # alike by chance alone
    assert said(effect, groups=prompt) == []  # they are the clusters
    assert said(effect, prompts=None) == []
    assert len(said(effect, groups=np.arange(320))) == 1
    many = [f"Why {i % 160}?" for i in range(320)]  # these are clusters without being named
    assert said(effect, prompts=many) == []


def test_texts_that_no_row_holds_are_told_and_training_that_led_there_is_refused() -> None:
    texts = [f"{a} {b}" for a in BEGINNINGS for b in REASONS] * 10
    logp = np.full(160, -np.log(16.0))
    rows = read_rows(texts, np.arange(160.0), None, logp, None)

    def drawn(share: float) -> Drawn:
        """Draws of which a share are logged texts without their last word: no new word."""
        read = [t if i >= 50 * share else t.rpartition(" ")[0] for i, t in enumerate(texts[:50])]
        return Drawn(read, None, np.zeros(50), None)

    def levels(trained: float, start: float, *, estimated: bool) -> list[int]:
        both = {"trained": drawn(trained), "start": drawn(start)}
        found = LoggedTexts.of(rows).beyond(both, estimated=estimated)
        return sorted(how for how, _ in found["trained"])

    assert levels(0.0, 0.0, estimated=True) == []
    assert levels(0.3, 0.1, estimated=True) == [1]
    assert levels(0.5, 0.1, estimated=True) == [2]  # training led there
    assert levels(0.9, 0.9, estimated=True) == [1]  # the start was meant to
    assert levels(0.5, 0.5, estimated=False) == [2]


def test_scraps_of_logged_texts_are_told_and_training_that_led_there_is_refused() -> None:
    """Without log-probs: words side by side that stand so in no text of any prompt."""
    texts = [f"{a} {b}" for a in BEGINNINGS for b in REASONS] * 10
    prompts = [f"question {i // 4}" for i in range(160)]
    rows = read_rows(texts, np.arange(160.0), prompts, None, None)

    def drawn(share: float) -> Drawn:
        """Draws of which a share are logged texts without their second word."""
        cut = [" ".join(t.split()[:1] + t.split()[2:]) for t in texts[:50]]
        read = [
            c if i < 50 * share else t for i, (c, t) in enumerate(zip(cut, texts[:50], strict=True))
        ]
        return Drawn(joined(read, prompts[:50]), None, np.zeros(50), None)

    def found(trained: float, start: float, *, estimated: bool = True) -> list[tuple[int, str]]:
        both = {"trained": drawn(trained), "start": drawn(start)}
        return LoggedTexts.of(rows).beyond(both, estimated=estimated)["trained"]

    assert found(0.0, 0.0) == []
    ((how, said),) = found(0.3, 0.1)
    assert how == 1
    assert "put words side by side that stand so in no logged text" in said
    ((how, said),) = found(0.6, 0.1)
    assert how == 2
    assert said.startswith("Training led to scraps of logged texts: 60% of the trained policy's")
    assert [how for how, _ in found(0.9, 0.9)] == [1]
    assert found(0.6, 0.1, estimated=False) == []


def test_default_topics_hold_what_is_additive_in_phrases():
    """Of slots filled independently, log odds and outcomes add up over phrases of any length."""
    slots = (["Sorry", "We hear you well", "No"], ["we will fix it", "it costs too much", "later"])
    pairs = [(a, b) for a in slots[0] for b in slots[1]]
    texts = [f"{a}, {b}." for a, b in pairs]
    which = np.array([[p in pair for slot in slots for p in slot] for pair in pairs], dtype=float)
    for given, prompted in ((texts, False), ([f"Why?\n\n{t}" for t in texts], True)):
        features = TextFeatures(None, given, prompted=prompted)
        design = np.column_stack([np.ones(len(texts)), features(given)])
        left = which - design @ np.linalg.lstsq(design, which, rcond=None)[0]
        assert np.abs(left).max() < 1e-8


@pytest.mark.parametrize("seed", [7, 14, 21])
def test_outcomes_of_a_prompt_that_is_left_out_are_not_predicted_without_bound(seed):
    """Texts name the prompt's product; of one product the training rows may hold one prompt.

    Predictions of its rows, by a model that knows neither, had an R^2 of -26 to -92.
    """
    products, readers = (
        ["shoes", "phone", "tea", "bike", "lamp", "watch"],
        [
            "students",
            "parents",
            "runners",
            "travellers",
            "gamers",
            "nurses",
            "cooks",
            "artists",
            "teachers",
            "farmers",
            "pilots",
        ],
    )
    slots = {
        ("hello friend", "act now", "dear customer", "good news"): (4.0, -4.0, 0.0, 1.0),
        ("cheap", "lovely", "sturdy", "new"): (0.0, 2.0, 1.0, 0.0),
        ("buy today", "try it free", "see more", "tell others"): (-3.0, 5.0, 0.0, 0.0),
    }
    rng = np.random.default_rng(seed)
    prompts, texts, outcome = [], [], []
    for _ in range(1000):
        product, reader = rng.choice(products), rng.choice(readers)
        at = rng.integers(0, 4, 3)
        opening, kind, end = (words[i] for words, i in zip(slots, at, strict=True))
        prompts.append(f"write an ad for {product} to {reader}")
        texts.append(f"{opening} , {kind} {product} , {end}")
        effect = sum(e[i] for e, i in zip(slots.values(), at, strict=True))
        outcome.append(50.0 + effect + products.index(product) + 6.0 * rng.normal())
    rows = read_rows(texts, outcome, prompts, None, None)
    train = split(rows, (0.5, 0.2, 0.3), 0).train
    features = TextFeatures(None, train.read, prompted=True)
    predicted = nuisances_of(train, None, features, 5, 0).predicted
    left = np.mean((train.outcome - predicted) ** 2) / train.outcome.var()
    assert left < 0.95
    assert predicted.min() > train.outcome.min()
    assert predicted.max() < train.outcome.max()
