"""Score real texts with a real language model: tokens a second, the cache, a killed run.

``python -m benchmarks.real_texts --model FOLDER --data FOLDER --json FILE`` scores the distinct
texts of the Hong Kong experiment and the messages of the persuasion experiment. Each set is scored
once (half of it by a process that is killed, then resumed), and once more from the cache; the two
must agree to the last bit. ``--rows N`` takes the first N texts of each.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import signal
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from causal_lm_opt.datasets import load_hong_kong, load_persuasion


def texts_of(data: Path) -> dict[str, list[str]]:
    """The texts of both experiments, each once."""
    return {
        "Hong Kong": list(dict.fromkeys(map(str, load_hong_kong(data).texts))),
        "persuasion": list(
            dict.fromkeys(
                map(
                    str,
                    load_persuasion(
                        data / "llm_persuasion_messages.csv.gz",
                        data / "llm_persuasion_outcomes.csv.gz",
                    ).messages["text"],
                )
            )
        ),
    }


def open_policy(model: Path, cache: str, threads: int) -> Any:
    import torch

    from causal_lm_opt.lm import LanguageModelPolicy

    torch.set_num_threads(threads)
    return LanguageModelPolicy(model, cache=cache, local_files_only=True, progress=False)


def score_part(model: Path, cache: str, threads: int, texts: list[str]) -> None:
    """What the process that is killed does."""
    open_policy(model, cache, threads).log_prob(texts)


def records(cache: str) -> int:
    """Bytes of scores that are on disk."""
    return sum(f.stat().st_size for f in Path(cache).rglob("*") if f.is_file())


def killed_run(
    model: Path, cache: str, threads: int, texts: list[str], after: float
) -> dict[str, float]:
    """Score in a process of its own and kill it some seconds after something has been kept."""
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=score_part, args=(model, cache, threads, texts))
    start = time.perf_counter()
    process.start()
    while process.is_alive() and records(cache) == 0:
        time.sleep(0.2)
    time.sleep(after)
    alive = process.is_alive()
    if alive and process.pid is not None:
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    return {
        "killed": float(alive),
        "seconds_until_killed": time.perf_counter() - start,
        "bytes_kept": float(records(cache)),
    }


def measure(model: Path, texts: list[str], threads: int, after: float = 5.0) -> dict[str, Any]:
    """Figures of one set of texts, through a fresh cache."""
    with tempfile.TemporaryDirectory() as cache:
        kill = killed_run(model, cache, threads, texts, after)
        policy = open_policy(model, cache, threads)
        rows = policy.encode(texts)
        tokens = sum(len(x) for _, x in rows)
        start, busy = time.perf_counter(), time.process_time()
        resumed = policy.log_prob(texts)
        resumed_seconds, resumed_busy = time.perf_counter() - start, time.process_time() - busy
        start = time.perf_counter()
        again = policy.log_prob(texts)
        cached_seconds = time.perf_counter() - start
    if not np.array_equal(resumed, again):
        raise AssertionError("the second run's scores differ from the first's")
    plain = open_policy(model, "", threads)
    plain.cache = None
    # Another part of the texts, timed without the cache and without the kill.
    part = texts[: max(1, len(texts) // 4)]
    part_tokens = sum(len(x) for _, x in plain.encode(part))
    start, busy = time.perf_counter(), time.process_time()
    check = plain.log_prob(part)
    part_seconds, part_busy = time.perf_counter() - start, time.process_time() - busy
    per_token = resumed / np.array([len(x) for _, x in rows])
    return {
        "texts": len(texts),
        "tokens": tokens,
        **kill,
        "resumed_seconds": resumed_seconds,
        "resumed_processor_seconds": resumed_busy,
        "second_run_seconds": cached_seconds,
        "part_texts": len(part),
        "part_tokens": part_tokens,
        "part_seconds": part_seconds,
        "tokens_per_second": part_tokens / part_seconds,
        "tokens_per_processor_second": part_tokens / part_busy,
        "largest_relative_difference_without_cache": float(
            np.max(np.abs(check - resumed[: len(part)]) / np.abs(check))
        ),
        "mean_log_prob": float(resumed.mean()),
        "sd_log_prob": float(resumed.std()),
        "mean_log_prob_per_token": float(resumed.sum() / tokens),
        "sd_of_texts_log_prob_per_token": float(per_token.std()),
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face folder")
    parser.add_argument("--data", type=Path, required=True, help="folder of both experiments")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--rows", type=int, help="texts of each set, by default all")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--after", type=float, default=5.0, help="seconds from the first score kept to the kill"
    )
    given = parser.parse_args(arguments)
    found: dict[str, Any] = {}
    for name, texts in texts_of(given.data).items():
        found[name] = measure(given.model, texts[: given.rows], given.threads, given.after)
        print(name, json.dumps(found[name], indent=1), flush=True)
    config = json.loads((given.model / "config.json").read_text(encoding="utf-8"))
    report = {
        "model": {
            key: config.get(key)
            for key in ("model_type", "hidden_size", "num_hidden_layers", "vocab_size")
        },
        "threads": given.threads,
        "machine": {"platform": platform.platform(), "cores": os.cpu_count()},
        "versions": {name: version(name) for name in ("torch", "transformers")},
        "texts": found,
    }
    if given.json is not None:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
