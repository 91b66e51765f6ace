"""Step time of training, beside a hand-written loop, a plain Trainer and TRL.

``python -m benchmarks.training --json FILE`` trains one Llama with random weights on the same texts
with the same batches, optimiser and clipping of gradients:

*loop*: a hand-written torch loop, which computes the same loss from full logits, nothing else: no
logs, no effective sample size, the normaliser and centre of the first step (a test holds loss and
gradient norm of the first step equal for loop, plain and ours).
*plain*: a subclass of `transformers.Trainer` with the loop's loss.
*ours*: `CausalPreferenceTrainer` with `IPWObjective`, every step logged.
*trl kto*, *trl dpo*: TRL's trainers, if ``--trl-python`` names an interpreter that has TRL; as many
completions a step (DPO has half as many pairs). Both run a reference model too, KTO also its
mismatched pairs: it is work that ours does once, before the first step (``before``).

Each contender runs in a process of its own, in turn, ``--repeats`` times; a figure is the least of
the repeats' medians over steps. On a CPU a step's processor time is told beside its wall time: on a
busy machine only the former means anything, and it grows too where others use the caches.
``ours_over_by_turn`` is the median of the ratios within a turn, ``ours_over_least`` the ratio of
the quickest steps: both are moved less.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
OURS = ("loop", "plain", "ours")
TRL = ("trl kto", "trl dpo")
SKIPPED = 3  # steps that warm up


@dataclass(frozen=True)
class Sizes:
    """The model, the texts and the steps."""

    hidden: int = 128
    layers: int = 2
    vocabulary: int = 4096
    length: int = 64
    batch: int = 8
    steps: int = 15
    threads: int = 1
    device: str = "cpu"
    dtype: str = "float32"


# -------------------------------------------------------------------------------- the same for all
def make_tokenizer(sizes: Sizes) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"</s>": 0, "<pad>": 1} | {f"w{i}": i + 2 for i in range(sizes.vocabulary - 2)}
    made = Tokenizer(models.WordLevel(words, "</s>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="</s>", bos_token="</s>", pad_token="<pad>"
    )


def make_model(sizes: Sizes) -> Any:
    import torch
    import transformers

    torch.set_num_threads(sizes.threads)
    torch.manual_seed(0)
    heads = max(1, sizes.hidden // 64)
    config = transformers.LlamaConfig(
        vocab_size=sizes.vocabulary, hidden_size=sizes.hidden, intermediate_size=3 * sizes.hidden,
        num_hidden_layers=sizes.layers, num_attention_heads=heads, num_key_value_heads=heads,
        max_position_embeddings=2048, tie_word_embeddings=True, pad_token_id=1, bos_token_id=0,
        eos_token_id=0,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    return model.to(sizes.device, getattr(torch, sizes.dtype))


def make_log(sizes: Sizes) -> dict[str, list[Any]]:
    import numpy as np

    rng = np.random.default_rng(0)
    n = sizes.batch * sizes.steps
    ids = rng.integers(0, sizes.vocabulary - 2, (n, sizes.length))
    return {
        "prompt": ["w1 w2"] * n,
        "completion": [" ".join(f"w{i}" for i in row) for row in ids],
        "outcome": rng.random(n).tolist(),
    }


def synchronize(sizes: Sizes) -> None:
    import torch

    if sizes.device != "cpu":
        torch.cuda.synchronize()


def settings(sizes: Sizes, folder: str) -> dict[str, Any]:
    """What every Trainer gets."""
    return {
        "output_dir": folder, "per_device_train_batch_size": sizes.batch, "report_to": "none",
        "max_steps": sizes.steps, "learning_rate": 1e-5, "lr_scheduler_type": "constant",
        "logging_steps": 1, "save_strategy": "no", "disable_tqdm": True, "weight_decay": 0.0,
        "use_cpu": sizes.device == "cpu", "dataloader_pin_memory": False, "max_grad_norm": 1.0,
        "optim": "adamw_torch",
    }  # fmt: skip


Ends = list[tuple[float, float]]


@dataclass(frozen=True)
class Ran:
    """When steps ended, and the first step's loss and gradient norm (before clipping)."""

    ends: Ends
    loss: float | None = None
    gradient_norm: float | None = None


def now(sizes: Sizes) -> tuple[float, float]:
    """Wall and processor time, the device's work done."""
    synchronize(sizes)
    return time.perf_counter(), time.process_time()


def stopwatch(sizes: Sizes) -> tuple[Any, Ends]:
    """A callback that notes the time after every step."""
    import transformers

    ends: Ends = []

    class Stopwatch(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            ends.append(now(sizes))

    return Stopwatch(), ends


def logits_loss(model: Any, batch: Any) -> Any:
    """Minus the self-normalised CPO value, from full logits; the first policy wrote the log."""
    import torch

    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    targets = batch["input_ids"][:, 1:]
    picked = logits[:, :-1].float().log_softmax(-1).gather(2, targets[..., None])[..., 0]
    logp = (picked * batch["target_mask"][:, 1:]).sum(1)
    centre, weight = batch["centre"][0], torch.exp(logp - batch["logp_logging"])
    return -(centre + (weight * (batch["outcome"] - centre)).mean())


def encoded(sizes: Sizes) -> list[dict[str, Any]]:
    """Rows of tokens with their outcomes; every text is as long."""
    import torch

    tokenizer, log = make_tokenizer(sizes), make_log(sizes)
    rows = []
    for prompt, text, outcome in zip(*log.values(), strict=True):
        context, reply = [
            tokenizer(t, add_special_tokens=False)["input_ids"] for t in (prompt, text)
        ]
        ids = torch.tensor([*context, *reply, 0])
        scored = torch.arange(len(ids)) >= len(context)
        row = {"input_ids": ids, "target_mask": scored, "outcome": outcome}
        rows.append(row | {"centre": statistics.fmean(log["outcome"])})
    return rows


def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    import torch

    ids = torch.stack([row["input_ids"] for row in rows])
    logp = torch.tensor([row["logp_logging"] for row in rows])
    return {
        "input_ids": ids, "attention_mask": torch.ones_like(ids), "logp_logging": logp,
        "target_mask": torch.stack([row["target_mask"] for row in rows]),
        "outcome": torch.tensor([row["outcome"] for row in rows]),
        "centre": torch.tensor([row["centre"] for row in rows]),
    }  # fmt: skip


def with_logging(sizes: Sizes, model: Any) -> list[dict[str, Any]]:
    """Rows with the log-probabilities of the model as it starts."""
    import torch

    rows = encoded(sizes)
    for row in rows:
        row["logp_logging"] = 0.0
    with torch.no_grad():
        for start in range(0, len(rows), sizes.batch):
            part = rows[start : start + sizes.batch]
            batch = {k: v.to(sizes.device) for k, v in collate(part).items()}
            logits = model(input_ids=batch["input_ids"]).logits[:, :-1].float().log_softmax(-1)
            picked = logits.gather(2, batch["input_ids"][:, 1:, None])[..., 0]
            for row, logp in zip(
                part, (picked * batch["target_mask"][:, 1:]).sum(1).tolist(), strict=True
            ):
                row["logp_logging"] = logp
    return rows


# -------------------------------------------------------------------------------- contenders
def run_loop(sizes: Sizes, folder: str) -> Ran:
    import torch

    model = make_model(sizes)
    rows = with_logging(sizes, model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.0)
    model.train()
    ends: Ends = []
    first: list[float] = []
    for step in range(sizes.steps):
        batch = collate(rows[step * sizes.batch : (step + 1) * sizes.batch])
        loss = logits_loss(model, {k: v.to(sizes.device) for k, v in batch.items()})
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ends.append(now(sizes))
        first = first or [loss.item(), norm.item()]
    return Ran(ends, *first)


def told(trainer: Any, ends: Ends) -> Ran:
    """What a trainer's log says of its first step."""
    first = trainer.state.log_history[0]
    return Ran(ends, first["loss"], first["grad_norm"])


def run_plain(sizes: Sizes, folder: str) -> Ran:
    import transformers

    class Plain(transformers.Trainer):  # type: ignore[misc]
        def compute_loss(self, model: Any, inputs: Any, *_: Any, **__: Any) -> Any:
            return logits_loss(model, inputs)

    model = make_model(sizes)
    watch, ends = stopwatch(sizes)
    args = transformers.TrainingArguments(**settings(sizes, folder), remove_unused_columns=False)
    trainer = Plain(
        model, args, data_collator=collate, train_dataset=with_logging(sizes, model),
        callbacks=[watch],
    )  # fmt: skip
    trainer.train()
    return told(trainer, ends)


def run_ours(sizes: Sizes, folder: str) -> Ran:
    from causal_lm_opt.lm import CausalPreferenceConfig, CausalPreferenceTrainer, IPWObjective

    watch, ends = stopwatch(sizes)
    trainer = CausalPreferenceTrainer(
        make_model(sizes), IPWObjective(ess_floor=0.0),
        CausalPreferenceConfig(**settings(sizes, folder)), make_log(sizes),
        processing_class=make_tokenizer(sizes), callbacks=[watch],
    )  # fmt: skip
    trainer.train()
    return told(trainer, ends)


def run_trl(sizes: Sizes, folder: str, kind: str) -> Ran:
    import datasets
    import trl

    log = make_log(sizes)
    watch, ends = stopwatch(sizes)
    given = settings(sizes, folder) | {"max_length": sizes.length + 8}
    if kind == "trl kto":
        table = {k: log[k] for k in ("prompt", "completion")}
        table["label"] = [y > 0.5 for y in log["outcome"]]
        make, config = trl.KTOTrainer, trl.KTOConfig(**given)
    else:
        half = len(log["prompt"]) // 2
        table = {
            "prompt": log["prompt"][:half], "chosen": log["completion"][:half],
            "rejected": log["completion"][half:],
        }  # fmt: skip
        given["per_device_train_batch_size"] = sizes.batch // 2
        make, config = trl.DPOTrainer, trl.DPOConfig(**given)
    make(
        make_model(sizes), ref_model=make_model(sizes), args=config,
        train_dataset=datasets.Dataset.from_dict(table),
        processing_class=make_tokenizer(sizes), callbacks=[watch],
    ).train()  # fmt: skip
    return Ran(ends)


RUNS: dict[str, Callable[[Sizes, str], Ran]] = {
    "loop": run_loop, "plain": run_plain, "ours": run_ours,
    "trl kto": lambda sizes, folder: run_trl(sizes, folder, "trl kto"),
    "trl dpo": lambda sizes, folder: run_trl(sizes, folder, "trl dpo"),
}  # fmt: skip


def work(contender: str, sizes: Sizes) -> dict[str, float]:
    """Median step time, the least (on a CPU of processor time), what came before, peak memory."""
    import torch

    if sizes.device != "cpu":
        torch.zeros(1, device=sizes.device)  # the device's own start is nobody's
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        ends = RUNS[contender](sizes, folder).ends
    pairs = list(zip(ends[SKIPPED - 1 :], ends[SKIPPED:], strict=False))
    wall, processor = [[b[k] - a[k] for a, b in pairs] for k in (0, 1)]
    peak = (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        if sizes.device == "cpu"
        else torch.cuda.max_memory_allocated() / 2**20
    )
    return {
        "step_ms": 1e3 * statistics.median(wall),
        "step_processor_ms": 1e3 * statistics.median(processor),
        "least_ms": 1e3 * min(wall if sizes.device != "cpu" else processor),
        "before_s": ends[0][0] - begin, "peak_mb": peak,
    }  # fmt: skip


# -------------------------------------------------------------------------------- the run
def start(python: str, contender: str, sizes: Sizes) -> dict[str, float]:
    """A contender in a process of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": str(sizes.threads), "PYTHONPATH": str(ROOT)}
    command = [python, "-m", "benchmarks.training", "--worker", contender]
    for name, value in asdict(sizes).items():
        command += [f"--{name}", str(value)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{contender} failed:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def measure(sizes: Sizes, trl_python: str | None, repeats: int) -> dict[str, Any]:
    """Figures of all contenders, taken in turn, and ratios to ours."""
    pythons = dict.fromkeys(OURS, sys.executable)
    if trl_python is not None:
        pythons |= dict.fromkeys(TRL, trl_python)
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in pythons}
    for _ in range(repeats):
        for name, python in pythons.items():
            figures[name].append(start(python, name, sizes))
            last = figures[name][-1]
            print(
                f"{name:8} {last['step_ms']:9.2f} ms a step, "
                f"{last['step_processor_ms']:9.2f} of the processor",
                flush=True,
            )
    best = {
        name: {key: min(run[key] for run in runs) for key in runs[0]}
        for name, runs in figures.items()
    }
    key = "step_processor_ms" if sizes.device == "cpu" else "step_ms"
    own = best["ours"][key]
    turns = {
        name: statistics.median(
            mine[key] / other[key] for mine, other in zip(figures["ours"], runs, strict=True)
        )
        for name, runs in figures.items()
    }
    return {
        "sizes": asdict(sizes), "repeats": repeats, "machine": platform.machine(),
        "python": platform.python_version(), "contenders": best,
        "ours_over": {name: own / b[key] for name, b in best.items() if name != "ours"},
        "ours_over_by_turn": {name: x for name, x in turns.items() if name != "ours"},
        "ours_over_least": {
            name: best["ours"]["least_ms"] / b["least_ms"] for name, b in best.items()
            if name != "ours"
        },
    }  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    for name, default in asdict(Sizes()).items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    parser.add_argument("--trl-python", help="an interpreter that has trl")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = vars(parser.parse_args(argv))
    sizes = Sizes(**{name: given[name] for name in asdict(Sizes())})
    if given["worker"]:
        print(json.dumps(work(given["worker"], sizes)))
        return
    found = measure(sizes, given["trl_python"], given["repeats"])
    print(json.dumps(found["ours_over"], indent=1))
    if given["json"]:
        given["json"].parent.mkdir(parents=True, exist_ok=True)
        given["json"].write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
