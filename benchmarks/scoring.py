"""Tokens a second and peak memory of scoring, against naive code and TRL's path.

``python -m benchmarks.scoring --json FILE`` times three tasks for each vocabulary on one model with
random weights: scoring ragged texts; forward and backward with every position scored; forward and
backward on ragged prompts, where only completions are scored. Each run is timed in turn with the
others (minimum of repeats); memory is the peak above the loaded model, in a process of its own,
with the head frozen so that its weight's gradient, which everyone needs, is not counted.

*naive*: batches in the order given, logits of every position, ``log_softmax``, ``gather``.
*trl*: the same batches, logits from the first completion token on, ``selective_log_softmax`` of
``trl.trainer.utils`` (left out where trl is not installed).
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import peak_mb, reset_peak

VOCABULARIES = (2_048, 49_152, 128_256)
TASKS = ("score ragged", "train all", "train ragged")
BATCH = 8


@dataclass(frozen=True)
class Sizes:
    """The model and the texts."""

    hidden: int = 384
    layers: int = 6
    texts: int = 48
    median: int = 60
    longest: int = 400
    threads: int = 2
    device: str = "cpu"
    dtype: str = "float32"


@dataclass
class Setting:
    """A model, rows of (context, completion), and whether a gradient is taken."""

    model: Any
    rows: list[Any]
    backward: bool
    head: Any = None
    device: str = "cpu"
    batches: list[list[Any]] = field(default_factory=list)


def make_setting(task: str, vocabulary: int, sizes: Sizes, *, frozen_head: bool) -> Setting:
    import torch
    import transformers

    from causal_lm_opt.lm._encoding import Encoded

    torch.set_num_threads(sizes.threads)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=vocabulary, hidden_size=sizes.hidden, intermediate_size=3 * sizes.hidden,
        num_hidden_layers=sizes.layers, num_attention_heads=max(1, sizes.hidden // 64),
        num_key_value_heads=max(1, sizes.hidden // 64), max_position_embeddings=2048,
        tie_word_embeddings=True,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).to(sizes.device, getattr(torch, sizes.dtype))
    model.lm_head.weight.requires_grad_(not frozen_head)
    rng = np.random.default_rng(1)
    n = sizes.texts if task == "score ragged" else 3 * BATCH
    if task == "train all":
        lengths = np.full(BATCH, 128)
    else:
        drawn = rng.lognormal(np.log(sizes.median), 0.7, n)
        lengths = np.clip(drawn, 4, sizes.longest).astype(int)
    contexts = [1] * len(lengths)
    if task == "train ragged":
        prompts = np.clip(rng.lognormal(np.log(2 * sizes.median), 0.7, n), 4, sizes.longest)
        contexts = prompts.astype(int).tolist()
    rows = [
        Encoded(tuple(rng.integers(vocabulary, size=c)), tuple(rng.integers(vocabulary, size=k)))
        for c, k in zip(contexts, lengths, strict=True)
    ]
    rows = [Encoded(tuple(map(int, r.context)), tuple(map(int, r.completion))) for r in rows]
    cut = [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]
    return Setting(model, rows, task != "score ragged", device=sizes.device, batches=cut)


# ------------------------------------------------------------------ the runs
def _padded(rows: list[Any], device: str) -> Any:
    from causal_lm_opt.lm.sequence import pad_batch

    return pad_batch([r.context for r in rows], [r.completion for r in rows]).to(device)


def _over_batches(setting: Setting, token_log_prob: Callable[[Any], Any]) -> float:
    import torch

    total = 0.0
    with torch.set_grad_enabled(setting.backward):
        for rows in setting.batches:
            found = token_log_prob(_padded(rows, setting.device))
            value = found.sum()
            if setting.backward:
                setting.model.zero_grad(set_to_none=False)
                (-value / len(rows)).backward()
            total += float(value.detach())
    return total


def naive(setting: Setting) -> float:
    def score(batch: Any) -> Any:
        logits = setting.model(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False
        ).logits
        table = logits[:, :-1].float().log_softmax(-1)
        picked = table.gather(2, batch.input_ids[:, 1:, None])[..., 0]
        return picked[batch.target_mask[:, 1:]]

    return _over_batches(setting, score)


def trl(setting: Setting) -> float:
    from trl.trainer.utils import selective_log_softmax  # type: ignore[import-not-found]

    def score(batch: Any) -> Any:
        width = batch.input_ids.shape[1]
        first = int(batch.target_mask.any(0).int().argmax())
        logits = setting.model(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False,
            logits_to_keep=width - first + 1,
        ).logits[:, :-1]  # fmt: skip
        found = selective_log_softmax(logits, batch.input_ids[:, first:])
        return found[batch.target_mask[:, first:]]

    return _over_batches(setting, score)


def ours(setting: Setting) -> float:
    from causal_lm_opt.lm._decoding import Decoding
    from causal_lm_opt.lm._engine import Engine
    from causal_lm_opt.lm._forward import checked_head, token_log_prob

    if setting.backward:
        if setting.head is None:  # once a model, as in use
            setting.head = checked_head(setting.model, _padded(setting.batches[0], setting.device))
        return _over_batches(
            setting, lambda batch: token_log_prob(setting.model, batch, setting.head)
        )
    total: list[float] = []
    engine = Engine(setting.model, head=setting.head)
    engine.score(setting.rows, Decoding(), lambda row, tokens: total.append(float(tokens.sum())))
    setting.head = engine.head
    return sum(total)


RUNS: dict[str, Callable[[Setting], float]] = {"ours": ours, "naive": naive, "trl": trl}


def runs() -> dict[str, Callable[[Setting], float]]:
    return {name: run for name, run in RUNS.items() if name != "trl" or find_spec("trl")}


# ------------------------------------------------------------------ time and memory
def _synchronise(device: str) -> None:
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize()


def time_task(
    task: str, vocabulary: int, sizes: Sizes, repeats: int
) -> dict[str, dict[str, float]]:
    """Seconds, tokens a second and the sum of log-probabilities of each run, taking turns."""
    setting = make_setting(task, vocabulary, sizes, frozen_head=False)
    best: dict[str, float] = {}
    busy: dict[str, float] = {}
    value: dict[str, float] = {}
    for turn in range(repeats + 1):
        for name, run in runs().items():
            gc.collect()
            _synchronise(sizes.device)
            start, before = time.perf_counter(), time.process_time()
            value[name] = run(setting)
            _synchronise(sizes.device)
            took, used = time.perf_counter() - start, time.process_time() - before
            if turn:
                best[name] = min(best.get(name, np.inf), took)
                busy[name] = min(busy.get(name, np.inf), used)
    tokens = sum(len(row) for row in setting.rows)
    return {
        name: {
            "seconds": s,
            "processor_seconds": busy[name],
            "tokens_per_second": tokens / s,
            "log_prob": value[name],
        }
        for name, s in best.items()
    }


def _peak(task: str, vocabulary: int, sizes: Sizes, name: str, pipe: Any) -> None:
    import torch

    setting = make_setting(task, vocabulary, sizes, frozen_head=True)
    if setting.backward:  # gradients of the body exist before and after
        for p in setting.model.parameters():
            p.grad = torch.zeros_like(p) if p.requires_grad else None
    small = Setting(
        setting.model, setting.rows[:1], setting.backward, device=sizes.device,
        batches=[[setting.rows[0]]],
    )  # fmt: skip
    RUNS[name](small)  # whatever is loaded on first use
    if sizes.device.startswith("cuda"):
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        RUNS[name](setting)
        pipe.send((torch.cuda.max_memory_allocated() - before) / 1e6)
        return
    before = reset_peak()
    RUNS[name](setting)
    pipe.send(peak_mb() - before)


def memory(task: str, vocabulary: int, sizes: Sizes, name: str) -> float:
    """Peak MB above the loaded model, in a fresh process."""
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_peak, args=(task, vocabulary, sizes, name, send))
    process.start()
    while not receive.poll(1.0):
        if not process.is_alive() and not receive.poll():
            raise RuntimeError(f"the process that measures {name!r} ended without a figure")
    value = float(receive.recv())
    process.join()
    return value


def measure(
    sizes: Sizes, vocabularies: list[int], tasks: list[str], repeats: int
) -> list[dict[str, Any]]:
    rows = []
    for vocabulary in vocabularies:
        for task in tasks:
            timed = time_task(task, vocabulary, sizes, repeats)
            for name, figures in timed.items():
                row = {"task": task, "vocabulary": vocabulary, "run": name, **figures}
                row["time_over_naive"] = figures["seconds"] / timed["naive"]["seconds"]
                # On a machine that others share, the processor's own clock is the fairer one.
                own = timed["naive"]["processor_seconds"]
                row["processor_over_naive"] = figures["processor_seconds"] / own
                row["peak_mb"] = memory(task, vocabulary, sizes, name)
                rows.append(row)
                print(
                    f"{task:<13} {vocabulary:>7} {name:<6} {figures['tokens_per_second']:>8.0f} "
                    f"tokens/s, {row['time_over_naive']:.2f} x naive "
                    f"({row['processor_over_naive']:.2f} of processor), {row['peak_mb']:.0f} MB",
                    flush=True,
                )
    return rows


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--vocabularies", type=int, nargs="+", default=list(VOCABULARIES))
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--repeats", type=int, default=3)
    for name in ("hidden", "layers", "texts", "median", "longest", "threads"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Sizes, name))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    given = vars(parser.parse_args(arguments))
    out, vocabularies, tasks, repeats = (
        given.pop(k) for k in ("json", "vocabularies", "tasks", "repeats")
    )
    sizes = Sizes(**given)
    rows = measure(sizes, vocabularies, tasks, repeats)
    packages = [name for name in ("torch", "transformers", "trl") if find_spec(name)]
    report = {
        "sizes": vars(sizes),
        "repeats": repeats,
        "machine": {"platform": platform.platform(), "cores": os.cpu_count()},
        "versions": {name: version(name) for name in packages},
        "rows": rows,
    }
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
