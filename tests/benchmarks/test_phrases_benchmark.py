"""The world of phrases is what it says, and both kinds of topics are valued in it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.phrases import BROKEN, TILTS, main, truth, write

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("name", list(TILTS))
def test_the_truth_is_the_mean_of_many_texts(name: str) -> None:
    _, effects = write(np.random.default_rng(0), 200_000, TILTS[name], BROKEN[name])
    assert truth(name) == pytest.approx(effects.mean(), abs=5 * effects.std() / 200_000**0.5)


def test_a_short_run_is_summed_up(tmp_path: Path) -> None:
    main(["--out", str(tmp_path / "found.json"), "--runs", "2"])
    found = json.loads((tmp_path / "found.json").read_text())
    assert {kind: part["runs"] for kind, part in found["topics"].items()} == {
        "add up": 2, "length 1": 2,
    }  # fmt: skip
    assert found["topics"]["add up"]["mean se"] > 0
