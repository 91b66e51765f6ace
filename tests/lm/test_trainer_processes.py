"""Gradients and losses do not depend on batch size, accumulation or the number of processes.

Run as a script (by torchrun) this file is the worker of its own tests.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
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
    folder: Path, objective: Any = None, callbacks: Any = None, **settings: Any
) -> Any:
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
        model(), DoublyRobustObjective(kl=0.05, ess_floor=0) if objective is None else objective,
        CausalPreferenceConfig(str(folder), **given), logged, drawn,
        processing_class=tokenizer(), callbacks=callbacks,
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


def test_two_processes_are_one(full: np.ndarray, tmp_path: Path) -> None:
    """64 rows in global batches of 12: four are left over and begin the second epoch."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone",
        str(Path(__file__)), str(tmp_path),
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).resolve().parents[2]), environment.get("PYTHONPATH", "")]
    )
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["processes"] == 2
    np.testing.assert_allclose(found["gradient"], full, atol=1e-8)
    np.testing.assert_allclose(found["gradient_accumulated"], full, atol=1e-8)
    whole = losses(tmp_path / "one", per_device_train_batch_size=12)
    np.testing.assert_allclose(found["losses"], whole[0], atol=1e-6)
    np.testing.assert_allclose(found["parameters"], whole[1], atol=1e-10)
    assert found["resumed"] == found["parameters"]  # from a checkpoint of two processes, bit by bit


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
    if torch.distributed.get_rank() == 0:
        found = {
            "processes": torch.distributed.get_world_size(), "gradient": gradient.tolist(),
            "gradient_accumulated": accumulated.tolist(), "losses": told,
            "parameters": parameters.tolist(), "resumed": resumed.tolist(),
        }  # fmt: skip
        (folder / "found.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    work(Path(sys.argv[1]))
