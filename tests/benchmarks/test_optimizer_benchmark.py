"""The benchmark of the optimiser: its figures from made-up runs, and one tiny run of its own."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks import optimizer

DATA = os.environ.get("CAUSAL_LM_OPT_DATA")


def run(**given: Any) -> dict[str, Any]:
    plain = {
        "world": "right", "seed": 0, "seconds": 1.0, "step": 4, "truth": 3.0, "truth_start": 1.0,
        "verdict": "caution", "accepted": True, "sufficiency_fails": False,
        "trained_lower": 2.0, "trained_upper": 4.0, "difference_lower": 1.0,
        "difference_upper": 3.0, "one_fold_lower": 2.0, "one_fold_upper": 4.0,
        "one_fold_difference_lower": 1.0, "one_fold_difference_upper": 3.0,
        "sequence_lower": 2.0, "sequence_upper": 4.0, "sequence_verdict": "do not use",
        "response_p": 0.5, "one_fold_all_score": 0.5, "one_fold_all_truth": 3.0,
        "one_fold_all_truth_start": 1.0, "one_fold_all_value_lower": 4.0,
        "one_fold_all_value_upper": 5.0, "one_fold_all_difference_lower": 0.5,
        "one_fold_all_difference_upper": 3.0,
    }  # fmt: skip
    return plain | given


def test_shares_are_of_the_runs_they_name():
    table = pd.DataFrame([
        run(), run(seed=1, trained_lower=3.5), run(seed=2, verdict="do not use", trained_lower=9.0),
        run(seed=3, step=0, accepted=False, truth=1.0, response_p=None),  # an older run
    ])  # fmt: skip
    found = optimizer.summary(table, 2.0)["right"]
    assert found["do not use"]["share"] == 0.25
    assert found["no checkpoint chosen"]["share"] == 0.25
    assert found["report rows cover V(f), where used"] == pytest.approx(
        {"share": 0.5, "low": 0.0945, "high": 0.9055, "runs": 2}, abs=1e-3
    )
    assert found["safe accepts"]["runs"] == 4
    assert found["gain in sd of g"] == pytest.approx(0.75)
    assert found["training rows cover V(f)"] | {"low": 0, "high": 1} == {
        "share": 0.0, "low": 0, "high": 1, "runs": 3,
    }  # fmt: skip
    assert found["training rows cover V(f) - V(f0)"]["share"] == 1.0
    assert found["training rows accept"]["share"] == 1.0


@pytest.mark.torch
@pytest.mark.skipif(DATA is None, reason="CAUSAL_LM_OPT_DATA names no folder of real data")
def test_a_tiny_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lm = pytest.importorskip("causal_lm_opt.lm")
    world = optimizer.make_world(Path(str(DATA)), True)
    monkeypatch.setattr(optimizer, "EFFECTS", {"evil": 8.0})
    texts = list(world.design.sample(300, random_state=0))
    start = lm.from_texts(
        texts, vocab_size=600, phrases=True, n_layer=1, n_embd=16, n_head=1, epochs=4
    )
    sizes = optimizer.Sizes(
        rows=300, steps=4, batch_size=16, round_size=32, eval_every=2, n_draws=40, fresh=40
    )
    found = optimizer.one_run(world, "negated", start, 0, sizes, 55.0)
    json.dumps(found, default=float)
    assert found["world"] == "negated"
    assert found["one_fold_all_value_lower"] <= found["one_fold_all_value_upper"]
    assert 0 <= found["response_p"] <= 1
    assert {"trained_lower", "difference_upper", "truth"} <= set(found)
