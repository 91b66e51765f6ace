"""The benchmark of preference rewards on real data: reading, splitting and tables."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.preferences_real import (
    figures,
    positivity,
    preference_split,
    preference_table,
    read_pairs,
    turns_of,
)
from causal_lm_opt.simulation import rated_pairs

TALK = "\n\nHuman: one?\n\nAssistant: yes.\n\nHuman: two?\n\nAssistant:"
OTHER = "<|prompter|>one?<|assistant|>yes.<|prompter|>two?<|assistant|>"


def test_both_spellings_give_the_same_turns() -> None:
    found = turns_of({"chosen": TALK + " good", "rejected": TALK + " bad"})
    assert found["question"] == "two?"
    assert (found["chosen"], found["rejected"]) == ("good", "bad")
    other = turns_of({"prompt": OTHER, "chosen": "good", "rejected": "bad"})
    assert {k: other[k] for k in ("question", "chosen", "rejected")} == {
        k: found[k] for k in ("question", "chosen", "rejected")
    }
    assert "<|" not in other["prompt"]


def test_pairs_without_a_choice_are_left_out(tmp_path: Path) -> None:
    for objective, responses in {"helpful": ["good", ""], "harmless": ["bad", "good"]}.items():
        lines = [
            json.dumps({"chosen": TALK + f" {r}", "rejected": TALK + " bad"}) for r in responses
        ]
        with gzip.open(tmp_path / f"hh_{objective}_base_test.jsonl.gz", "wt") as stream:
            stream.write("\n".join(lines) + "\n")
    rows = read_pairs(tmp_path)
    assert rows[["objective", "chosen"]].to_numpy().tolist() == [
        ["helpful", "good"],
        ["harmless", "good"],
    ]


def test_prompts_stay_on_one_side() -> None:
    rows = pd.DataFrame({"prompt": np.arange(400) // 4})
    parts = preference_split(rows, 0)
    assert sum(map(len, parts)) == 400
    sides = [set(rows["prompt"].iloc[p]) for p in parts]
    assert sum(map(len, sides)) == len(set.union(*sides))
    assert len(parts[0]) == pytest.approx(240, abs=4)


def test_tables_have_means_and_intervals() -> None:
    cells = [
        {"model": "Base", "objective": "helpful", "accuracy": 0.5 + 0.1 * s, "other_told": 0.5,
         "discriminator": None} for s in range(3)
    ]  # fmt: skip
    (row,) = preference_table(cells)
    assert row["accuracy"] == pytest.approx(0.6)
    assert row["accuracy_high"] == pytest.approx(0.6 + 4.302653 * 0.1 / 3**0.5)
    assert "discriminator" not in row
    assert figures("x", np.array([1.0, 1.0]))["x_low"] == 1.0


def test_the_diagnostic_looks_at_opposite_pairs() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(600, 2)) @ np.array([[1.0, 0.6], [0.0, 0.8]])
    table = pd.DataFrame({"ask": np.arange(600) // 10, "a": z[:, 0], "b": z[:, 1]})
    pairs = rated_pairs(table, prompt="ask", factors=["a", "b"])
    near, far = positivity(pairs, 0.0), positivity(pairs, 0.8)
    assert near["ess"] / near["n"] > far["ess"] / far["n"]
