"""The benchmark of real texts with a tiny model: killed, resumed, bit-equal the second time."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from benchmarks import real_texts as bench

pytestmark = pytest.mark.torch

OBJECTS = ("the act", "the tariff", "the protest")
SUBJECTS = ("We support", "They oppose", "You know", "I saw")
TEXTS = [f"{who} {what}." for who in SUBJECTS for what in OBJECTS]
FIGURES = (
    "resumed_seconds", "second_run_seconds", "part_seconds", "tokens_per_second",
    "tokens_per_processor_second", "sd_log_prob", "mean_log_prob_per_token",
)  # fmt: skip


@pytest.mark.slow
def test_killed_resumed_and_bit_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from causal_lm_opt.lm import from_texts

    policy = from_texts(TEXTS, vocab_size=300, n_layer=1, n_embd=16, n_head=1, epochs=1)
    model, file = tmp_path / "model", tmp_path / "new folder" / "figures.json"
    policy.model.save_pretrained(model)
    policy.tokenizer.save_pretrained(model)
    monkeypatch.setattr(bench, "texts_of", lambda data: {"made up": TEXTS})
    command = ["--model", str(model), "--data", str(tmp_path), "--json", str(file)]
    bench.main([*command, "--rows", "10", "--threads", "1", "--after", "0"])
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["model"]["model_type"] == "gpt2"
    assert {"threads", "machine", "versions"} <= set(found)
    row = found["texts"]["made up"]
    assert row["texts"] == 10
    assert row["part_texts"] == 2
    assert row["killed"] in (0.0, 1.0)  # so few texts may be done before the signal comes
    assert row["bytes_kept"] > 0
    assert row["tokens"] == sum(len(x) for _, x in policy.encode(TEXTS[:10]))
    assert row["mean_log_prob"] == pytest.approx(policy.log_prob(TEXTS[:10]).mean(), rel=1e-5)
    assert row["largest_relative_difference_without_cache"] < 1e-5
    for key in FIGURES:
        assert np.isfinite(row[key]), key


def test_scores_that_change_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a cache that gave other numbers would not pass."""
    count = iter(range(9))

    def log_prob(texts: list[str]) -> Any:
        return np.full(len(texts), -1.0 - 1e-12 * next(count))

    policy = SimpleNamespace(log_prob=log_prob, encode=lambda texts: [((0,), (1,))] * len(texts))
    monkeypatch.setattr(bench, "killed_run", lambda *_: {})
    monkeypatch.setattr(bench, "open_policy", lambda *_: policy)
    with pytest.raises(AssertionError, match="differ from the first"):
        bench.measure(tmp_path, TEXTS, 1)


@pytest.mark.real_data
def test_texts_of_both_experiments(data_dir: Path) -> None:
    found = bench.texts_of(data_dir)
    assert {name: len(texts) for name, texts in found.items()} == {
        "Hong Kong": 1868, "persuasion": 511,
    }  # fmt: skip
    for texts in found.values():
        assert len(set(texts)) == len(texts)
        assert min(map(len, texts)) > 20
