"""The benchmark's bare loop is the same training, with the same rewards. Nothing is timed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks import rewards


@pytest.mark.parametrize("name", list(rewards.KINDS))
def test_the_bare_loop_does_the_same_work(name: str) -> None:
    pairs = rewards.make_pairs(96, 8, seed=0)
    settings = {"epochs": 2, "batch_size": 32, "learning_rate": 1e-3, "random_state": 0}
    ours, bare = rewards.ours(name, pairs, settings), rewards.bare(name, pairs, settings)
    gap = (ours - ours[0]) - (bare - bare[0])
    assert abs(gap).max() < 1e-3 * abs(bare - bare[0]).max()


def test_figures_are_written(tmp_path: Any, capsys: Any) -> None:
    file = tmp_path / "rewards.json"
    given = ["--pairs", "64", "--width", "4", "--epochs", "1", "--repeats", "1"]
    assert rewards.main([*given, "--models", "BradleyTerryReward", "--json", str(file)]) == 0
    (row,) = json.loads(file.read_text())["rows"]
    assert row["ratio"] > 0
    assert row["cpu_ratio"] > 0
    assert capsys.readouterr().out.startswith('{"model": "BradleyTerryReward"')
