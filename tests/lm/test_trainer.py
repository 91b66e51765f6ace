"""The trainer: columns, negative controls, adapters, rounds, evaluation, the trust region."""

from __future__ import annotations

import logging
import warnings
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from causal_lm_opt._training_rows import read_training_rows  # noqa: E402
from causal_lm_opt.exceptions import (  # noqa: E402
    DataError,
    EstimationWarning,
    NotIdentifiedError,
    OverlapWarning,
)
from causal_lm_opt.lm import (  # noqa: E402
    CausalPreferenceConfig,
    CausalPreferenceTrainer,
    DoublyRobustObjective,
    IPWObjective,
    LikelihoodObjective,
    OnPolicyObjective,
    OutcomeRegressionObjective,
)
from causal_lm_opt.lm._collator import read_examples  # noqa: E402
from causal_lm_opt.lm._sampler import FullBatchSampler  # noqa: E402

pytestmark = pytest.mark.torch

CHECKPOINTING = (
    "activation_checkpointing"
    if hasattr(CausalPreferenceConfig, "activation_checkpointing")
    else "gradient_checkpointing"
)
TEMPLATE = (
    "{% for m in messages %}{{ m['role'][0] + ':' + m['content'] + '</s>' }}"
    "{{ '\n' if m['role'] == 'assistant' else '' }}{% endfor %}"
    "{% if add_generation_prompt %}a:{% endif %}"
)


def small(tiny: SimpleNamespace, family: str = "gpt2") -> Any:
    """Double precision, weights so small that the policy is near uniform."""
    model = tiny.model(family).double()
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim > 1:
                p.mul_(0.3)
    return model


def log(n: int = 40, seed: int = 0) -> dict[str, Any]:
    """Texts over a and b; the outcome is the share of a's."""
    rng = np.random.default_rng(seed)
    texts = ["".join(rng.choice(["a", "b"], rng.integers(1, 7))) for _ in range(n)]
    return {"completion": texts, "outcome": [t.count("a") / len(t) for t in texts]}


def config(folder: Path, **settings: Any) -> CausalPreferenceConfig:
    given = {
        "use_cpu": True, "report_to": "none", "disable_tqdm": True, "save_strategy": "no",
        "per_device_train_batch_size": 8, "num_train_epochs": 2, "learning_rate": 3e-3,
        "dataloader_pin_memory": False,
    } | settings  # fmt: skip
    return CausalPreferenceConfig(str(folder), **given)


def trainer_of(
    tiny: SimpleNamespace, folder: Path, objective: Any = None, data: Any = None, *,
    model: Any = None, target: Any = None, tokenizer: Any = None, settings: Any = None,
    **given: Any,
) -> Any:  # fmt: skip
    return CausalPreferenceTrainer(
        small(tiny) if model is None else model,
        IPWObjective(ess_floor=0) if objective is None else objective,
        config(folder, **(settings or {})), log() if data is None else data, target,
        processing_class=tokenizer or tiny.tokenizer(), **given,
    )  # fmt: skip


def steps(trainer: Any) -> list[dict[str, float]]:
    return [line for line in trainer.state.log_history if "loss" in line]


def parameters(trainer: Any) -> np.ndarray:
    return np.concatenate([p.detach().numpy().ravel() for p in trainer.model.parameters()])


# ---------------------------------------------------------------------------- one step
def first_batch(trainer: Any) -> tuple[dict[str, Any], Any]:
    inputs = next(iter(trainer.get_train_dataloader()))
    return inputs, trainer.scorer.log_prob(trainer.model, trainer_batch(inputs))


def trainer_batch(inputs: Any) -> Any:
    from causal_lm_opt.lm._collator import as_batch

    return as_batch(inputs)


@pytest.mark.parametrize("family", ["gpt2", "granite", "gemma2", "unknown"])
def test_log_probabilities_are_the_loops_and_naive_ones_are_not(
    tiny: SimpleNamespace, tmp_path: Path, family: str
) -> None:
    """Negative controls: raw logits, no shift, padding counted. Each is off; ours is not."""
    trainer = trainer_of(tiny, tmp_path, model=small(tiny, family))
    inputs, found = first_batch(trainer)
    rows = [trainer.train_dataset.rows[i] for i in inputs["rows"].tolist()]
    truth = [tiny.loop(trainer.model, row.context, row.completion) for row in rows]
    np.testing.assert_allclose(found.detach().numpy(), truth, atol=1e-10)
    ids, mask = inputs["input_ids"], inputs["target_mask"]
    with torch.no_grad():
        logits = trainer.model(input_ids=ids, attention_mask=inputs["attention_mask"]).logits
    logp = logits.log_softmax(-1)

    def picked(table: Any, targets: Any) -> Any:
        return table.gather(2, targets[..., None])[..., 0]

    raw = (picked(logits[:, :-1], ids[:, 1:]) * mask[:, 1:]).sum(1)
    unshifted = (picked(logp, ids) * mask).sum(1)
    padded = picked(logp[:, :-1], ids[:, 1:]).sum(1)
    right = (picked(logp[:, :-1], ids[:, 1:]) * mask[:, 1:]).sum(1)
    np.testing.assert_allclose(right, truth, atol=1e-10)
    for wrong in (raw, unshifted, padded):
        assert np.abs(wrong.numpy() - truth).max() > 0.01


@pytest.mark.parametrize(
    "objective",
    [
        IPWObjective(ess_floor=0), OutcomeRegressionObjective(ess_floor=0),
        DoublyRobustObjective(ess_floor=0), LikelihoodObjective("high"),
    ],
    ids=["ipw", "or", "dr", "high"],
)  # fmt: skip
def test_every_objective_raises_the_true_value(
    tiny: SimpleNamespace, tmp_path: Path, objective: Any
) -> None:
    """The truth by fresh draws of the trained policy; the oracle is the share of a's."""
    data, target = log(64), log(64, seed=1)
    data["prediction"] = data["outcome"]
    target["prediction"] = target.pop("outcome")
    settings = {"num_train_epochs": 4, "learning_rate": 1e-3}
    trainer = trainer_of(tiny, tmp_path, objective, data, target=target, settings=settings)

    def value() -> float:
        drawn = trainer.policy.sample(300, 0, max_new_tokens=12)
        return float(np.mean([t.count("a") / max(len(t), 1) for t in drawn.texts]))

    before = value()
    trainer.train()
    assert value() > before + 0.1
    logged = steps(trainer)
    assert len(logged) == trainer.state.global_step
    keys = {"ess", "sd_log_ratio", "clip_share", "kl", "entropy", "grad_norm", "value", "loss"}
    assert keys <= logged[-1].keys()
    assert logged[0]["ess"] == pytest.approx(1)
    assert logged[-1]["ess"] < 1


def test_trust_region_stops_the_run(tiny: SimpleNamespace, tmp_path: Path) -> None:
    trainer = trainer_of(
        tiny, tmp_path, IPWObjective(ess_floor=0.9), settings={"learning_rate": 0.02}
    )
    with pytest.warns(OverlapWarning, match="training stops at step"):
        trainer.train()
    assert "ess_floor=0.9" in trainer.stopped_because
    assert trainer.state.global_step < trainer.state.max_steps


def test_refreshing_every_epoch_brings_the_state_up_to_date(
    tiny: SimpleNamespace, tmp_path: Path
) -> None:
    trainer = trainer_of(tiny, tmp_path, settings={"refresh": "epoch"})
    told = []
    plain = trainer.objective.refresh
    trainer.objective.refresh = lambda logp: (told.append(trainer.state.global_step), plain(logp))
    trainer.train()
    assert told == [0, 5]  # at the start, and before the second epoch of five steps


# ---------------------------------------------------------------------------- rows
def examples(tiny: SimpleNamespace, data: Any, target: Any, objective: Any, **given: Any) -> Any:
    policy = tiny.policy(tiny.model("gpt2"), **given)
    return read_examples(data, target, objective, policy.encoder)


def test_float64_outcomes_survive(tiny: SimpleNamespace, tmp_path: Path) -> None:
    """Peers turn 0.1 into True, or into float32."""
    data = {"completion": ["a", "b"], "outcome": [0.1, 1 / 3], "logp_logging": [-1e-9, -0.7]}
    trainer = trainer_of(tiny, tmp_path, data=data, settings={"per_device_train_batch_size": 2})
    state = trainer.objective.states[0]
    assert state.payoff.tolist() == [0.1, 1 / 3]
    assert state.logp_logging.tolist() == [-1e-9, -0.7]


def test_any_table_will_do(tiny: SimpleNamespace) -> None:
    import pandas as pd

    datasets = pytest.importorskip("datasets")
    data = log(6) | {"prompt": list("ababab"), "note": [None] * 6}
    frame = pd.DataFrame(data)
    listed = [dict(zip(data, row, strict=True)) for row in zip(*data.values(), strict=True)]
    found = [
        examples(tiny, x, None, IPWObjective())
        for x in (data, frame, listed, datasets.Dataset.from_dict(data))
    ]
    for other in found[1:]:
        assert other.rows == found[0].rows
        assert torch.equal(other.columns[0].payoff, found[0].columns[0].payoff)


def test_conversations(tiny: SimpleNamespace) -> None:
    words = ("</s>", "a", "b", "u", ":", "\n")
    tokenizer = tiny.tokenizer(words)
    tokenizer.chat_template = TEMPLATE
    data = {
        "prompt": [[{"role": "user", "content": "ab"}]],
        "completion": [[{"role": "assistant", "content": "ba"}]],
        "outcome": [1],
    }
    policy = tiny.policy(tiny.model("gpt2", vocab=6), tokenizer)
    (row,) = read_examples(data, None, IPWObjective(), policy.encoder).rows
    assert policy.encoder.decode(row.context) == "u:ab</s>a:"
    assert policy.encoder.decode(row.completion) == "ba</s>"  # not the template's line break
    plain = read_examples(
        {"prompt": data["prompt"], "completion": ["ba"], "outcome": [1]}, None, IPWObjective(),
        policy.encoder,
    )  # fmt: skip
    assert plain.rows == [row]


def test_second_sample_in_columns_or_as_a_table_and_folds(tiny: SimpleNamespace) -> None:
    data = log(4) | {"prediction": [0.1, 0.2, 0.3, 0.4], "fold": [0, 0, 0, 1]}
    unfolded = data | {
        "target_completion": [["a", "b"], [], ["ab"], ["b"]],
        "target_prediction": [[1.0, 2.0], [], [[3.0, 7.0]], [4.0]],
        "target_logp_sampling": [[-1.0, -2.0], [], [-3.0], [-4.0]],
    }
    with pytest.raises(DataError, match="expected 2 predictions"):
        examples(tiny, unfolded, None, DoublyRobustObjective())
    unfolded["target_prediction"] = [[[1.0, 1.0], [2.0, 2.0]], [], [[3.0, 7.0]], [[4.0, 4.0]]]
    found = examples(tiny, unfolded, None, DoublyRobustObjective())
    table = {
        "completion": ["a", "b", "ab", "b"], "prediction": [1.0, 2.0, 0.75 * 3 + 0.25 * 7, 4.0],
        "logp_sampling": [-1.0, -2.0, -3.0, -4.0],
    }  # fmt: skip
    other = examples(tiny, data, table, DoublyRobustObjective())
    assert found.rows == other.rows
    for mine, theirs in zip(found.columns, other.columns, strict=True):
        assert torch.equal(mine.payoff, theirs.payoff)
    assert found.columns[1].logp_logging.tolist() == table["logp_sampling"]
    np.testing.assert_allclose(
        found.columns[0].payoff, np.array(data["outcome"]) - data["prediction"]
    )


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"outcome": None}, NotIdentifiedError, "needs column 'outcome' in train_dataset"),
        ({"logp_loging": [0.0] * 4}, DataError, "did you mean 'logp_logging'"),
        ({"outcome": [1, 2, None, 4]}, DataError, "row 2: column 'outcome' must be a finite"),
        ({"outcome": [1, 2, 3, "4"]}, DataError, "row 3: column 'outcome'"),
        ({"outcome": [1, 2, 3]}, DataError, "equally many"),
        ({"completion": ["a", "b", [], "a"]}, DataError, "must be one"),
        ({"completion": ["a", "b", None, "a"]}, TypeError, "texts"),
    ],
    ids=["missing", "typo", "none", "text", "ragged", "mixed", "no_text"],
)
def test_bad_rows(
    tiny: SimpleNamespace, change: dict[str, Any], error: type[Exception], match: str
) -> None:
    data = {k: v for k, v in (log(4) | change).items() if v is not None}
    with pytest.raises(error, match=match):
        examples(tiny, data, None, IPWObjective())


def test_what_an_objective_cannot_do_without(tiny: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(NotIdentifiedError, match="'prediction' in train_dataset"):
        examples(tiny, log(4), log(4), DoublyRobustObjective())
    with pytest.raises(NotIdentifiedError, match="target_dataset"):
        examples(tiny, log(4), None, OutcomeRegressionObjective())
    with pytest.raises(TypeError, match="a stream will not do"):
        examples(tiny, iter([]), None, IPWObjective())
    with pytest.raises(ValueError, match="go together"):
        trainer_of(tiny, tmp_path, OnPolicyObjective())
    with pytest.raises(ValueError, match="remove_unused_columns"):
        config(tmp_path, remove_unused_columns=True)
    with pytest.raises(ValueError, match="refresh must be"):
        config(tmp_path, refresh="never")


# ---------------------------------------------------------------------------- batches
def test_batches_are_full_and_leftovers_are_carried_on() -> None:
    now = {"epoch": 0}
    sampler = FullBatchSampler([61], 8, seed=0, epoch=lambda: now["epoch"])
    stream = []
    for now["epoch"] in range(61):
        part = list(sampler)
        assert len(part) == len(sampler) == 56
        stream += part
    counts = np.bincount(stream, minlength=61)
    assert len(stream) == 56 * 61
    assert set(counts) == {56}  # every row as often
    assert sorted(stream[:61]) == list(range(61))


def test_batches_hold_their_share_of_both_samples() -> None:
    sampler = FullBatchSampler([96, 32], 8, seed=0, epoch=lambda: 0)
    drawn = (np.reshape(list(sampler), (-1, 8)) >= 96).sum(1)
    assert set(drawn) <= {1, 2, 3}


def test_a_batch_larger_than_the_data_is_told() -> None:
    with pytest.warns(EstimationWarning, match="repeated within a batch"):
        FullBatchSampler([3], 8, seed=0, epoch=lambda: 0)


# ---------------------------------------------------------------------------- adapters
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_lora_trains_the_adapter_and_refers_to_the_model_without_it(
    tiny: SimpleNamespace, tmp_path: Path
) -> None:
    peft = pytest.importorskip("peft")
    model = small(tiny, "llama")
    base = {k: v.clone() for k, v in model.state_dict().items()}
    adapter = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    trainer = trainer_of(
        tiny, tmp_path, IPWObjective(ess_floor=0, kl=0.01), model=model, peft_config=adapter,
        settings={"learning_rate": 0.02, CHECKPOINTING: True},
    )  # fmt: skip
    trainer.train()
    state = trainer.objective.states[0]
    plain = tiny.policy(small(tiny, "llama"))
    texts = log()["completion"]
    np.testing.assert_allclose(state.logp_reference, plain.log_prob(texts), atol=1e-8)
    assert torch.equal(state.logp_logging, state.logp_reference)
    assert trainer.objective.diagnostics()["kl"] > 0
    inner = trainer.model.get_base_model().state_dict()
    for key, value in base.items():
        own = key.replace("_proj.weight", "_proj.base_layer.weight")
        assert torch.equal(inner[own if own in inner else key], value)
    trainer.save_model(str(tmp_path / "saved"))
    assert (tmp_path / "saved" / "adapter_model.safetensors").is_file()
    card = (tmp_path / "saved" / "README.md").read_text(encoding="utf-8")
    assert trainer.objective.label in card
    (rows,) = read_training_rows(tmp_path / "saved")
    assert np.asarray(rows.among(texts)).all()
    again = tiny.policy(peft.PeftModel.from_pretrained(small(tiny, "llama"), tmp_path / "saved"))
    np.testing.assert_allclose(again.log_prob(texts), trainer.policy.log_prob(texts), atol=1e-6)


def test_mixed_precision_and_checkpointed_activations(
    tiny: SimpleNamespace, tmp_path: Path
) -> None:
    settings = {"bf16": True, CHECKPOINTING: True, "num_train_epochs": 1}
    trainer = trainer_of(tiny, tmp_path, model=small(tiny, "llama").float(), settings=settings)
    trainer.train()
    assert np.isfinite([line["loss"] for line in steps(trainer)]).all()
    assert next(trainer.model.parameters()).dtype == torch.float32
    assert trainer.scorer.head.kind == "chunked"
    rows = trainer.train_dataset.rows
    in_half = trainer.scorer.all_rows(trainer.model, rows).numpy()
    exact = [tiny.loop(trainer.model.double(), r.context, r.completion) for r in rows[:5]]
    np.testing.assert_allclose(in_half[:5], exact, atol=0.1)


# ---------------------------------------------------------------------------- evaluation
def test_evaluation_is_the_estimators_and_the_best_checkpoint_is_kept(
    tiny: SimpleNamespace, tmp_path: Path
) -> None:
    import transformers

    from causal_lm_opt import IPW

    held = log(30, seed=5)
    held["logp_logging"] = [-1.2 * (len(t) + 1) for t in held["completion"]]
    settings = {
        "eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 2, "save_steps": 2,
        "metric_for_best_model": "lower", "greater_is_better": True, "save_total_limit": 2,
        "load_best_model_at_end": True, "num_train_epochs": 4, "learning_rate": 0.01,
    }  # fmt: skip
    trainer = trainer_of(
        tiny, tmp_path, settings=settings, eval_dataset=held,
        callbacks=[transformers.EarlyStoppingCallback(2)],
    )  # fmt: skip
    trainer.train()
    told = [line for line in trainer.state.log_history if "eval_lower" in line]
    best = max(line["eval_lower"] for line in told)
    assert trainer.state.best_metric == best
    assert Path(trainer.state.best_model_checkpoint).is_dir()
    found = trainer.evaluate()
    assert found["eval_lower"] == pytest.approx(best, abs=1e-9)  # the best one was loaded
    theirs = IPW().fit(
        np.zeros((30, 1)), held["outcome"], logp_logging=held["logp_logging"],
        logp_target=trainer.policy.log_prob(held["completion"]),
    )  # fmt: skip
    assert found["eval_value"] == pytest.approx(float(theirs.value_), abs=1e-8)
    assert found["eval_value_se"] == pytest.approx(float(theirs.se_), abs=1e-8)
    with pytest.raises(ValueError, match="when the trainer is made"):
        trainer.evaluate(log(4))


@pytest.fixture
def heard() -> Iterator[list[str]]:
    """What transformers' trainer logs."""
    logger, lines = logging.getLogger("transformers.trainer"), list[str]()
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    before = logger.level
    logger.setLevel(logging.WARNING)  # whatever an earlier test set for all of transformers
    yield lines
    logger.setLevel(before)
    logger.removeHandler(handler)


def test_tied_weights_are_not_missing_and_saving_draws_no_bar(
    tiny: SimpleNamespace, tmp_path: Path, heard: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    import transformers

    settings = {
        "eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 5, "save_steps": 5,
        "metric_for_best_model": "lower", "greater_is_better": True, "num_train_epochs": 1,
        "load_best_model_at_end": True,
    }  # fmt: skip
    model = small(tiny)
    head, embedding = "lm_head.weight", "transformer.wte.weight"
    named = dict(model.named_parameters(remove_duplicate=False))
    assert named[head] is named[embedding]
    trainer = trainer_of(tiny, tmp_path, model=model, settings=settings, eval_dataset=log(30))
    bars = transformers.utils.logging
    shown = bars.is_progress_bar_enabled()
    bars.enable_progress_bar()
    try:
        trainer.train()
        trainer.policy.save(tmp_path / "kept")
        assert bars.is_progress_bar_enabled()
    finally:
        if not shown:
            bars.disable_progress_bar()
    assert not [line for line in heard if "missing" in line]
    assert "Writing model shards" not in capfd.readouterr().err
    result = namedtuple("Result", ["missing_keys", "unexpected_keys"])
    for missing in ([head, "transformer.ln_f.bias"], [head, embedding]):
        trainer._issue_warnings_after_load(result(missing, ["other"]))
    assert "ln_f.bias" in heard[0]
    assert head not in heard[0]
    assert "other" in heard[1]
    assert head in heard[2]  # neither name of the tied weight was in the file


# ---------------------------------------------------------------------------- on-policy
def on_policy(tiny: SimpleNamespace, folder: Path, **given: Any) -> Any:
    def reward(texts: list[str], prompts: list[Any] | None) -> list[float]:
        return [t.count("a") / max(len(t), 1) for t in texts]

    settings = {
        "num_train_epochs": 4, "round_size": 32, "round_passes": 2, "max_new_tokens": 8,
        "learning_rate": 3e-3,
    } | given.pop("settings", {})  # fmt: skip
    return CausalPreferenceTrainer(
        small(tiny), OnPolicyObjective(ess_floor=0, kl=0.01), config(folder, **settings),
        given.pop("data", None), processing_class=tiny.tokenizer(), reward=reward, **given,
    )  # fmt: skip


def test_rounds_of_fresh_draws_raise_the_reward(tiny: SimpleNamespace, tmp_path: Path) -> None:
    trainer = on_policy(tiny, tmp_path)
    trainer.train()
    rewards = [line["value"] for line in steps(trainer)]
    assert len(rewards) == 4 * 8
    assert [len(set(rewards[i : i + 8])) for i in range(0, 32, 8)] == [1] * 4  # one round, one mean
    assert rewards[-1] > rewards[0] + 0.1
    for first in (0, 8):  # each round begins anew
        assert steps(trainer)[first]["ess"] == pytest.approx(1.0)


def test_rounds_take_prompts_and_fit_batches(tiny: SimpleNamespace, tmp_path: Path) -> None:
    trainer = on_policy(
        tiny, tmp_path, data={"prompt": ["a", "ab", "b"]}, settings={"num_train_epochs": 1}
    )
    trainer.train()
    contexts = {row.context for row in trainer.train_dataset.rows}
    assert contexts == set(trainer.policy.encoder.contexts(["a", "ab", "b"], 3))
    with pytest.raises(ValueError, match="multiple of the global batch"):
        on_policy(tiny, tmp_path, settings={"round_size": 30, "round_passes": 1}).train()
    with pytest.raises(ValueError, match="a column 'prompt'"):
        on_policy(tiny, tmp_path, data=log(4))


# ---------------------------------------------------------------------------- checkpoints
SAVING = {"save_strategy": "steps", "save_steps": 2, "disable_dropout": False}


def dropping(tiny: SimpleNamespace) -> Any:
    model = small(tiny)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.1
    return model


def ending_at(step: int) -> Any:
    import transformers

    class End(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == step:
                raise KeyboardInterrupt

    return [End()]


def made(tiny: SimpleNamespace, folder: Path, kind: str, callbacks: Any = None) -> Any:
    if kind == "on-policy":
        return on_policy(
            tiny, folder, settings=SAVING | {"num_train_epochs": 2}, callbacks=callbacks
        )
    accumulating = {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 4}
    return trainer_of(
        tiny, folder, IPWObjective(ess_floor=0, kl=0.1), model=dropping(tiny),
        settings=SAVING | accumulating, callbacks=callbacks,
    )  # fmt: skip


@pytest.mark.parametrize(("kind", "step"), [("ipw", 3), ("ipw", 6), ("on-policy", 5)])
def test_a_resumed_run_is_the_unbroken_one_bit_by_bit(
    tiny: SimpleNamespace, tmp_path: Path, kind: str, step: int
) -> None:
    unbroken = made(tiny, tmp_path / "a", kind)
    unbroken.train()
    with pytest.raises(KeyboardInterrupt):
        made(tiny, tmp_path / "b", kind, ending_at(step)).train()
    torch.manual_seed(99)
    resumed = made(tiny, tmp_path / "b", kind)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == unbroken.state.global_step
    np.testing.assert_array_equal(parameters(resumed), parameters(unbroken))
    last, other = steps(resumed)[-1], steps(unbroken)[-1]
    assert {k: last[k] for k in ("loss", "ess", "kl")} == {
        k: other[k] for k in ("loss", "ess", "kl")
    }


def test_a_run_killed_while_it_writes_resumes_from_the_one_before(
    tiny: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from causal_lm_opt.lm import _atomic_trainer as module

    unbroken = made(tiny, tmp_path / "a", "ipw")
    unbroken.train()
    plain, count = module.seal, iter(range(9))

    def seal(folder: Path) -> None:
        if next(count) == 1:
            raise KeyboardInterrupt
        plain(folder)

    monkeypatch.setattr(module, "seal", seal)
    with pytest.raises(KeyboardInterrupt):
        made(tiny, tmp_path / "b", "ipw").train()
    monkeypatch.undo()
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == [".partial-4", "checkpoint-2"]
    resumed = made(tiny, tmp_path / "b", "ipw")
    resumed.train(resume_from_checkpoint=True)
    np.testing.assert_array_equal(parameters(resumed), parameters(unbroken))
    assert not list((tmp_path / "b").glob(".partial*"))


@pytest.mark.parametrize("damage", ["truncated", "missing", "seal"])
def test_a_damaged_newest_checkpoint_is_passed_over(
    tiny: SimpleNamespace, tmp_path: Path, damage: str
) -> None:
    unbroken = made(tiny, tmp_path, "ipw")
    unbroken.train()
    newest = tmp_path / f"checkpoint-{unbroken.state.global_step}"
    if damage == "truncated":
        file = newest / "optimizer.pt"
        file.write_bytes(file.read_bytes()[:100])
    else:
        (newest / ("model.safetensors" if damage == "missing" else "complete.json")).unlink()
    resumed = made(tiny, tmp_path, "ipw")
    with pytest.warns(EstimationWarning, match=f"{newest.name} is passed over"):
        resumed.train(resume_from_checkpoint=True)
    np.testing.assert_array_equal(parameters(resumed), parameters(unbroken))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it was written anew
        made(tiny, tmp_path, "ipw").train(resume_from_checkpoint="auto")


def test_nothing_to_resume_from(tiny: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no complete checkpoint"):
        made(tiny, tmp_path, "ipw").train(resume_from_checkpoint=True)
    trainer = made(tiny, tmp_path, "ipw")
    trainer.train(resume_from_checkpoint="auto")
    assert trainer.state.global_step == 10


def test_a_full_disk_is_survived(tiny: SimpleNamespace, tmp_path: Path) -> None:
    """A limit on file sizes stands in for the disk: writes fail in the middle of a file."""
    resource = pytest.importorskip("resource")
    import signal

    import transformers

    class Full(transformers.TrainerCallback):  # type: ignore[misc]
        def limit(self, size: int) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 4:
                self.limit(30_000)

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.limit(resource.RLIM_INFINITY)

    unbroken = made(tiny, tmp_path / "a", "ipw")
    unbroken.train()
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        trainer = made(tiny, tmp_path / "b", "ipw", [Full()])
        with pytest.warns(EstimationWarning, match="checkpoint-4 could not be written"):
            trainer.train()
    finally:
        Full().limit(resource.RLIM_INFINITY)
        signal.signal(signal.SIGXFSZ, before)
    names = sorted(p.name for p in (tmp_path / "b").iterdir())
    assert names == ["checkpoint-10", "checkpoint-2", "checkpoint-6", "checkpoint-8"]
    np.testing.assert_array_equal(parameters(trainer), parameters(unbroken))


def test_a_checkpoint_of_other_rows_is_refused(tiny: SimpleNamespace, tmp_path: Path) -> None:
    trainer_of(tiny, tmp_path, settings=SAVING).train()
    with pytest.raises(ValueError, match="belongs to other rows"):
        trainer_of(tiny, tmp_path, data=log(seed=9), settings=SAVING).train(
            resume_from_checkpoint=True
        )
