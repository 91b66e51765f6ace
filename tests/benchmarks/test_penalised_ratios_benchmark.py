"""The worlds of penalised ratios are what they say, and a short run is summed up."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import penalised_ratios
from benchmarks.penalised_ratios import WORLDS, laws, main, truth


def test_the_truth_is_the_mean_of_many_texts() -> None:
    world = WORLDS["40 words, 60 prompts"]
    effect, logged, target = laws(world[0], world[4])
    rng = np.random.default_rng(0)
    drawn = [effect[rng.choice(40, (100_000, 5), p=p)].sum(axis=1).mean() for p in (logged, target)]
    assert truth(world) == pytest.approx(drawn[1] - drawn[0], abs=0.03)


def test_a_short_run_is_summed_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(penalised_ratios, "WORLDS", {"small": (12, 3, 20, 200, 0.5)})
    monkeypatch.setattr(penalised_ratios, "RESAMPLES", 20)
    main(["--out", str(tmp_path / "found.json"), "--runs", "2"])
    found = json.loads((tmp_path / "found.json").read_text())["small"]
    widths = [found[k]["mean half width"] for k in ("Hajek", "Hajek, no allowance")]
    assert widths[0] > widths[1] > 0
    assert found["DR"]["runs"] == 2
