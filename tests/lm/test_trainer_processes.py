"""Gradients and losses do not depend on batch size, accumulation or the number of processes.

Nor on sharding, or on a SIGKILL in the middle of a checkpoint. Run as a script (by torchrun, say)
this file is the worker of its own tests.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")

pytestmark = [pytest.mark.torch, pytest.mark.slow]

N, M = 48, 16
WORDS = ("</s>", "a", "b")


def texts(count: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(["a", "b"], rng.integers(1, 9))) for _ in range(count)]


def tables() -> tuple[dict[str, Any], dict[str, Any]]:
    """Logged rows and draws; their log-probabilities are made up, and fixed."""
    rng = np.random.default_rng(7)
    logged, drawn = texts(N, 0), texts(M, 1)
    lengths, drawn_lengths = [np.array([len(t) for t in x]) for x in (logged, drawn)]
    return (
        {
            "completion": logged,
            "outcome": (rng.normal(size=N) + lengths / 4).tolist(),
            "prediction": (lengths / 4).tolist(),
            "logp_logging": (-1.1 * lengths - 1.1 + rng.normal(0, 0.3, N)).tolist(),
        },
        {
            "completion": drawn,
            "prediction": (drawn_lengths / 4).tolist(),
            "logp_sampling": (-1.1 * drawn_lengths - 1.1 + rng.normal(0, 0.3, M)).tolist(),
        },
    )


def tokenizer() -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, WORDS[-1]))
    made.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    made.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>")


def model(dropout: float = 0.0) -> Any:
    import transformers

    config = transformers.GPT2Config(
        vocab_size=3, n_embd=16, n_layer=1, n_head=2, n_positions=32, initializer_range=0.2,
        bos_token_id=0, eos_token_id=0, resid_pdrop=dropout, embd_pdrop=dropout,
        attn_pdrop=dropout,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return transformers.GPT2LMHeadModel(config).double()


def make_trainer(
    folder: Path, objective: Any = None, callbacks: Any = None, *, peft_config: Any = None,
    dropout: float = 0.0, **settings: Any,
) -> Any:  # fmt: skip
    from causal_lm_opt.lm import (
        CausalPreferenceConfig,
        CausalPreferenceTrainer,
        DoublyRobustObjective,
    )

    logged, drawn = tables()
    given = {
        "use_cpu": True, "report_to": "none", "disable_tqdm": True, "save_strategy": "no",
        "max_grad_norm": 0.0, "dataloader_pin_memory": False,
    } | settings  # fmt: skip
    if "RANK" in os.environ:
        given["ddp_backend"] = "gloo"
    return CausalPreferenceTrainer(
        model(dropout),
        DoublyRobustObjective(kl=0.05, ess_floor=0) if objective is None else objective,
        CausalPreferenceConfig(str(folder), **given), logged, drawn,
        processing_class=tokenizer(), callbacks=callbacks, peft_config=peft_config,
    )  # fmt: skip


def watcher() -> Any:
    """Keeps every step's gradient, as it stands before the optimiser acts."""
    import transformers

    class Watcher(transformers.TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.gradients: list[Any] = []

        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            module = getattr(given["model"], "module", given["model"])
            self.gradients.append(
                torch.cat([p.grad.flatten().clone() for p in module.parameters()]).numpy()
            )

    return Watcher()


def mean_gradient(folder: Path, **settings: Any) -> np.ndarray:
    """Mean of an epoch's step gradients at one theta, state frozen there."""
    watch = watcher()
    trainer = make_trainer(
        folder, callbacks=[watch], learning_rate=0.0, num_train_epochs=1, **settings
    )
    trainer.objective.frozen = True
    trainer.train()
    return -np.asarray(np.mean(watch.gradients, 0))


def losses(folder: Path, resume: bool = False, **settings: Any) -> tuple[list[float], np.ndarray]:
    """Losses and final parameters of a short run whose state runs along."""
    trainer = make_trainer(
        folder, learning_rate=1e-3, num_train_epochs=2, seed=3, optim="sgd", **settings
    )
    trainer.train(resume_from_checkpoint=resume)
    told = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    return told, torch.cat([p.detach().flatten() for p in trainer.model.parameters()]).numpy()


def sharded_losses() -> tuple[list[float], str]:
    """Losses of a few steps by torch alone; on several processes the model is sharded.

    Not by the trainer: accelerate shards on accelerators only, and takes DDP on CPUs.
    """
    from torch import distributed
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    from causal_lm_opt.lm import DoublyRobustObjective, LanguageModelPolicy
    from causal_lm_opt.lm._collator import Collator, as_batch, read_examples
    from causal_lm_opt.lm._scorer import Scorer, world

    net, (rank, size) = model(), world()
    if size > 1:
        mesh = init_device_mesh("cpu", (size,))
        for part in (*net.transformer.h, net):
            fully_shard(part, mesh=mesh)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-2)  # scoring leaves the shards joined
    objective = DoublyRobustObjective(kl=0.05, ess_floor=0)
    encoder = LanguageModelPolicy(model(), tokenizer()).encoder
    examples = read_examples(*tables(), objective, encoder)
    objective.begin(examples.columns)
    scorer = Scorer(lambda m: m, nullcontext, pad_id=0, rows=8)
    current = scorer.all_rows(net, examples.rows)
    objective.fill(current)
    objective.refresh(current)
    found = []
    for step in range(4):
        at = [(7 * step + 5 * i) % (N + M) for i in range(16)][rank::size]
        batch = Collator(0)([(i, examples.rows[i]) for i in at])
        loss = -objective(scorer.log_prob(net, as_batch(batch)), batch["rows"])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        objective.commit()
        told = loss.detach() / size
        if size > 1:
            distributed.all_reduce(told)
        found.append(float(told))
    assert scorer.head is not None
    return found, scorer.head.kind


def full_gradient() -> np.ndarray:
    """Closed form, by a loop over texts and tokens: no batch, padding, trainer or state."""
    logged, drawn = tables()
    net = model().eval()
    encode = {"a": 1, "b": 2}

    def log_prob(text: str) -> Any:
        total, ids = torch.zeros((), dtype=torch.float64), [0]
        for token in [*(encode[c] for c in text), 0]:
            total = total + net(torch.tensor([ids])).logits[0, -1].log_softmax(0)[token]
            ids.append(token)
        return total

    def part(table: Any, key: str, payoff: np.ndarray, kl: float) -> Any:
        s = torch.stack([log_prob(t) for t in table["completion"]])
        w = np.exp(s.detach().numpy() - np.array(table[key]))
        w = w / w.sum()  # the reference is the model itself: no divergence yet, but its gradient
        pull = w * (payoff - w @ payoff) - kl * w
        return torch.as_tensor(pull) @ s

    residual = np.array(logged["outcome"]) - np.array(logged["prediction"])
    value = part(logged, "logp_logging", residual, 0.05)
    value = value + part(drawn, "logp_sampling", np.array(drawn["prediction"]), 0.0)
    value.backward()
    return torch.cat([p.grad.flatten() for p in net.parameters()]).numpy()


@pytest.fixture(scope="module")
def full() -> np.ndarray:
    return full_gradient()


@pytest.mark.parametrize(
    ("batch", "accumulation"), [(4, 1), (64, 1), (32, 1), (4, 4)], ids=["4", "n", "32", "4x4"]
)
def test_an_epoch_of_steps_averages_to_the_full_gradient(
    full: np.ndarray, tmp_path: Path, batch: int, accumulation: int
) -> None:
    found = mean_gradient(
        tmp_path, per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation
    )
    np.testing.assert_allclose(found, full, atol=1e-8)


def test_accumulation_changes_nothing(tmp_path: Path) -> None:
    whole = losses(tmp_path / "a", per_device_train_batch_size=12)
    parts = losses(tmp_path / "b", per_device_train_batch_size=3, gradient_accumulation_steps=4)
    np.testing.assert_allclose(parts[0], whole[0], atol=1e-6)
    np.testing.assert_allclose(parts[1], whole[1], atol=1e-10)


def start(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Python in a process of its own, on CPUs."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).resolve().parents[2]), environment.get("PYTHONPATH", "")]
    )
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip


def test_two_processes_are_one(full: np.ndarray, tmp_path: Path) -> None:
    """64 rows in global batches of 12: four are left over and begin the second epoch."""
    done = start(
        "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone",
        str(Path(__file__)), str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["processes"] == 2
    np.testing.assert_allclose(found["gradient"], full, atol=1e-8)
    np.testing.assert_allclose(found["gradient_accumulated"], full, atol=1e-8)
    whole = losses(tmp_path / "one", per_device_train_batch_size=12)
    np.testing.assert_allclose(found["losses"], whole[0], atol=1e-6)
    np.testing.assert_allclose(found["parameters"], whole[1], atol=1e-10)
    assert found["resumed"] == found["parameters"]  # from a checkpoint of two processes, bit by bit
    assert found["sharded"][1] == "chunked"
    np.testing.assert_allclose(found["sharded"][0], sharded_losses()[0], atol=1e-10)


def work(folder: Path) -> None:
    gradient = mean_gradient(folder / "g", per_device_train_batch_size=8)
    accumulated = mean_gradient(
        folder / "a", per_device_train_batch_size=2, gradient_accumulation_steps=4
    )
    settings = {
        "per_device_train_batch_size": 3, "gradient_accumulation_steps": 2, "save_steps": 4,
        "save_strategy": "steps",
    }  # fmt: skip
    told, parameters = losses(folder / "l", **settings)
    if torch.distributed.get_rank() == 0:
        for name in ("checkpoint-8", "checkpoint-10"):
            shutil.rmtree(folder / "l" / name)
    torch.distributed.barrier()
    _, resumed = losses(folder / "l", resume=True, **settings)
    sharded = sharded_losses()
    if torch.distributed.get_rank() == 0:
        found = {
            "processes": torch.distributed.get_world_size(), "gradient": gradient.tolist(),
            "gradient_accumulated": accumulated.tolist(), "losses": told,
            "parameters": parameters.tolist(), "resumed": resumed.tolist(), "sharded": sharded,
        }  # fmt: skip
        (folder / "found.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


def test_settings_of_sharding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from causal_lm_opt.lm import (
        CausalPreferenceConfig,
        CausalPreferenceTrainer,
        OnPolicyObjective,
    )

    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "false")  # the settings write it
    args = CausalPreferenceConfig(
        str(tmp_path), use_cpu=True, report_to="none", fsdp=True,
        fsdp_config={"transformer_layer_cls_to_wrap": ["GPT2Block"]},
    )  # fmt: skip
    assert args.fsdp
    with pytest.raises(ValueError, match="cannot shard"):
        CausalPreferenceTrainer(
            model(), OnPolicyObjective(), args, processing_class=tokenizer(),
            reward=lambda texts, prompts: [0.0] * len(texts),
        )  # fmt: skip


# ---------------------------------------------------------------------------- killed with LoRA
def lora_trainer(folder: Path) -> Any:
    """Dropout in the adapter and in the model; checkpoints every other step."""
    peft = pytest.importorskip("peft")
    adapter = peft.LoraConfig(
        r=2, target_modules=["c_attn"], lora_dropout=0.1, fan_in_fan_out=True,
        task_type="CAUSAL_LM",
    )  # fmt: skip
    return make_trainer(
        folder, peft_config=adapter, dropout=0.1, disable_dropout=False, learning_rate=0.02,
        per_device_train_batch_size=8, max_steps=7, seed=3, save_strategy="steps", save_steps=2,
    )  # fmt: skip


def adapter_of(trainer: Any) -> dict[str, np.ndarray]:
    return {k: p.detach().numpy() for k, p in trainer.model.named_parameters() if "lora" in k}


def killed(folder: Path) -> None:
    """SIGKILL when the second checkpoint is written, all but its seal."""
    from causal_lm_opt.lm import _atomic_trainer as module

    plain, count = module.seal, iter(range(9))

    def seal(at: Path) -> None:
        if next(count) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        plain(at)

    module.seal = seal
    lora_trainer(folder).train()


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_an_adapters_run_killed_outright_resumes_bit_by_bit(tmp_path: Path) -> None:
    unbroken = lora_trainer(tmp_path / "a")
    begun = {k: x.copy() for k, x in adapter_of(unbroken).items()}
    unbroken.train()
    done = start(str(Path(__file__)), str(tmp_path / "b"), "killed")
    assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == [".partial-4", "checkpoint-2"]
    torch.manual_seed(99)
    resumed = lora_trainer(tmp_path / "b")
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == unbroken.state.global_step == 7
    wanted = adapter_of(unbroken)
    assert any(not np.array_equal(begun[k], wanted[k]) for k in wanted)
    for key, found in adapter_of(resumed).items():
        np.testing.assert_array_equal(found, wanted[key])
    saved, other = [t.objective.state_dict() for t in (resumed, unbroken)]
    assert all(torch.equal(saved[k], other[k]) for k in other)


if __name__ == "__main__":
    (killed if "killed" in sys.argv else work)(Path(sys.argv[1]))
