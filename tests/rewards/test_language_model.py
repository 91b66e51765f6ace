"""A language model as reward: learning, padding, prompts, adapters, folders."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
import torch

from causal_lm_opt.exceptions import NotIdentifiedError
from causal_lm_opt.lm import from_texts
from causal_lm_opt.rewards import LanguageModelReward, pair_loss
from causal_lm_opt.rewards._pair_trainer import PairTrainer

GOOD = ["yes, do join us.", "yes.", "do come.", "yes, come."] * 6
BAD = ["no.", "never join us, never.", "no, stay.", "do not."] * 6
SETTINGS: dict[str, Any] = {"learning_rate": 1e-2, "epochs": 3, "batch_size": 8}


@pytest.fixture(scope="module")
def start() -> Any:
    return from_texts(GOOD + BAD, epochs=0, vocab_size=260, n_layer=1, n_embd=16, n_head=2)


@pytest.fixture(scope="module")
def fitted(start: Any) -> Any:
    return LanguageModelReward(start, **SETTINGS).fit(GOOD, BAD)


def test_what_was_learnt_holds_and_swapping_flips(fitted: Any) -> None:
    assert fitted.score(GOOD, BAD) == 1.0
    assert fitted.score(BAD, GOOD) == 0.0
    p = fitted.predict_proba(GOOD, BAD)
    np.testing.assert_allclose(p + fitted.predict_proba(BAD, GOOD), 1.0, atol=1e-6)
    assert fitted.score(GOOD, BAD, label=np.full(24, 0.5)) == 0.5


def test_a_reward_is_read_at_the_last_token_whatever_the_padding(fitted: Any) -> None:
    together = fitted.predict(GOOD[:4])
    alone = [fitted.predict([text])[0] for text in GOOD[:4]]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    (row,) = fitted.encoder.rows([GOOD[0]], None, eos=True)
    ids = torch.tensor([[*row.context, *row.completion]])
    assert ids[0, -1] == fitted.encoder.end_id
    with torch.no_grad():
        hidden = fitted.model_.base_model(input_ids=ids).last_hidden_state[0, -1]
        by_hand = fitted.model_.score(hidden)
    assert together[0] == pytest.approx(by_hand.item(), abs=1e-5)


def test_a_fit_is_repeatable_and_leaves_the_start_alone(start: Any, fitted: Any) -> None:
    again = LanguageModelReward(start, **SETTINGS).fit(GOOD, BAD)
    np.testing.assert_array_equal(again.predict(GOOD), fitted.predict(GOOD))
    twice = again.fit(GOOD, BAD)  # from the start, not from where it was
    np.testing.assert_array_equal(twice.predict(GOOD), fitted.predict(GOOD))
    assert "loss" in fitted.history_[0]


def test_the_trainers_loss_is_the_weighted_pair_loss(fitted: Any) -> None:
    label, weight = np.linspace(0, 1, 24), np.arange(24.0)
    pairs = fitted._pairs(GOOD, BAD, None, weight, label)
    gap = fitted.predict(GOOD) - fitted.predict(BAD)
    wanted = np.mean(weight / weight.mean() * pair_loss(gap, label))
    trainer = PairTrainer.__new__(PairTrainer)
    from causal_lm_opt.rewards._pair_trainer import PairCollator

    batch = PairCollator(0, fitted.model_)([pairs[i] for i in range(24)])
    with torch.no_grad():
        loss = trainer.compute_loss(fitted.model_, batch)
    assert float(loss) == pytest.approx(wanted, rel=1e-5)


def test_prompts_matter_and_validation_is_logged(start: Any) -> None:
    prompts = ["Shall I?", "Must I?"] * 12
    reward = LanguageModelReward(start, **SETTINGS)
    validation = {"chosen": GOOD[:8], "rejected": BAD[:8], "prompts": prompts[:8]}
    reward.fit(GOOD, BAD, prompts=prompts, validation=validation)
    assert reward.score(GOOD, BAD, prompts) == 1.0
    last = [line for line in reward.history_ if "eval_accuracy" in line][-1]
    assert last["eval_accuracy"] == 1.0
    gap = reward.predict(GOOD[:8], prompts[:8]) - reward.predict(BAD[:8], prompts[:8])
    assert last["eval_loss"] == pytest.approx(np.mean(pair_loss(gap)), rel=1e-4)
    assert abs(reward.predict(GOOD[:1], ["A?"]) - reward.predict(GOOD[:1], ["B, or C?"])) > 1e-4


def test_a_saved_reward_is_an_ordinary_folder(fitted: Any, tmp_path: Any) -> None:
    import transformers

    fitted.save(tmp_path / "m")
    names = {f.name for f in (tmp_path / "m").iterdir()}
    assert "model.safetensors" in names
    assert not any(name.endswith((".bin", ".pt", ".pkl")) for name in names)
    twin = LanguageModelReward(tmp_path / "m")
    np.testing.assert_allclose(twin.predict(GOOD), fitted.predict(GOOD), atol=1e-6)
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "m")
    assert plain.config.num_labels == 1
    with pytest.raises(FileExistsError):
        fitted.save(tmp_path / "m")


def test_a_causal_model_folder_gets_a_fresh_head(start: Any, tmp_path: Any) -> None:
    start.save(tmp_path / "lm")
    reward = LanguageModelReward(tmp_path / "lm", **SETTINGS)
    assert not reward.has_head
    with pytest.raises(NotIdentifiedError, match="call fit first"):
        reward.predict(GOOD)
    with pytest.raises(NotIdentifiedError, match="call fit first"):
        reward.save(tmp_path / "x")
    assert reward.fit(GOOD, BAD).score(GOOD, BAD) == 1.0


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
@pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="peft is not installed")
def test_an_adapter_is_trained_and_merged_on_saving(start: Any, tmp_path: Any) -> None:
    import peft

    config = peft.LoraConfig(r=4, target_modules=["c_attn"], fan_in_fan_out=True)
    settings = {**SETTINGS, "learning_rate": 3e-2}
    reward = LanguageModelReward(start, **settings, peft_config=config).fit(GOOD, BAD)
    assert isinstance(reward.model_, peft.PeftModel)
    assert reward.score(GOOD, BAD) > 0.9
    reward.save(tmp_path / "m")
    twin = LanguageModelReward(tmp_path / "m")
    np.testing.assert_allclose(twin.predict(GOOD), reward.predict(GOOD), atol=1e-5)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda r: r.fit(GOOD, BAD[:3]),
            r"rejected must have as many rows as chosen \(24\), got 3",
        ),
        (lambda r: r.fit([], []), "chosen is empty"),
        (lambda r: r.fit("yes", "no"), "is one string"),
        (lambda r: r.fit([1.0], [2.0]), "where a text"),
        (lambda r: r.fit(["a"], ["b" * 200]), "exceed the model's context"),
        (lambda r: r.fit(GOOD, BAD, label=np.full(24, 2.0)), "label is the probability"),
        (lambda r: r.fit(GOOD, BAD, prompts=["a"]), "prompts must be as many"),
        (lambda r: r.fit(GOOD, BAD, validation=(GOOD, BAD, GOOD)), "has an objective"),
    ],
    ids=range(8),
)
def test_input_that_makes_no_sense_is_refused(start: Any, call: Any, said: str) -> None:
    with pytest.raises((ValueError, TypeError), match=said):
        call(LanguageModelReward(start, **SETTINGS))


def test_what_is_no_language_model_is_refused(start: Any, tmp_path: Any) -> None:
    with pytest.raises(TypeError, match="needs its tokenizer"):
        LanguageModelReward(start.model)
    with pytest.raises(TypeError, match="must be a folder, a hub name"):
        LanguageModelReward(3, start.tokenizer)
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        LanguageModelReward(tmp_path / "none")
    with pytest.raises(ValueError, match="epochs must be an integer"):
        LanguageModelReward(start, epochs=0)
