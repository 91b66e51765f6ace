"""Both training benchmarks at tiny sizes: the same loss for all, complete tables, tests by hand."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from benchmarks import training, training_value
from benchmarks.training_value_plot import STYLES, plot

pytestmark = pytest.mark.torch

SMALL = training.Sizes(hidden=16, layers=1, vocabulary=64, length=8, batch=4, steps=5)
TINY = [
    "--n_embd", "16", "--n_layer", "1", "--vocab", "270", "--pretrain", "150", "--logged", "24",
    "--drawn", "24", "--batch", "8", "--steps", "2", "--points", "1", "--fresh", "8",
    "--tokens", "12",
]  # fmt: skip


# ---------------------------------------------------------------------------- step time
@pytest.fixture(scope="module")
def first_steps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, training.Ran]:
    """One step of loop, plain and ours, on all rows, so that their order does not matter."""
    sizes = training.Sizes(hidden=16, layers=1, vocabulary=64, length=8, batch=6, steps=1)
    folder = str(tmp_path_factory.mktemp("runs"))
    return {name: training.RUNS[name](sizes, folder) for name in training.OURS}


def test_all_compute_the_same_loss(first_steps: dict[str, training.Ran]) -> None:
    log = training.make_log(training.Sizes(hidden=16, length=8, batch=6, steps=1))
    for name, ran in first_steps.items():
        assert len(ran.ends) == 1, name
        assert ran.loss == pytest.approx(-np.mean(log["outcome"]), rel=1e-5), name
        assert ran.gradient_norm == pytest.approx(first_steps["loop"].gradient_norm, rel=1e-5), name
    assert first_steps["loop"].gradient_norm > 1e-3


def test_step_time_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(training, "start", lambda python, name, sizes: training.work(name, sizes))
    file = tmp_path / "new" / "figures.json"
    settings = [f"--{k}={v}" for k, v in asdict(SMALL).items()]
    training.main([*settings, "--repeats", "1", "--json", str(file)])
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["sizes"] == asdict(SMALL)
    assert list(found["contenders"]) == list(training.OURS)
    for row in found["contenders"].values():
        assert set(row) == {"step_ms", "step_processor_ms", "least_ms", "before_s", "peak_mb"}
        assert min(row.values()) > 0
    best = {k: row["step_processor_ms"] for k, row in found["contenders"].items()}
    assert found["ours_over"] == {
        k: pytest.approx(best["ours"] / best[k]) for k in ("loop", "plain")
    }
    assert set(found["ours_over_by_turn"]) == set(found["ours_over_least"]) == {"loop", "plain"}
    assert "ms a step" in capsys.readouterr().out


def test_a_contender_that_fails_is_told() -> None:
    with pytest.raises(RuntimeError, match="loop failed"):
        training.start("false", "loop", SMALL)


# ---------------------------------------------------------------------------- true value
def test_the_oracle_and_its_error() -> None:
    class Same:
        """Draws as many texts as asked for, every fourth about freedom."""

        def sample(self, count: int, seed: int, max_new_tokens: int) -> Any:
            from types import SimpleNamespace

            return SimpleNamespace(texts=["a", "b", "c", "FREEDOM"] * (count // 4))

    sizes = training_value.Sizes(fresh=400)
    value, se = training_value.true_value(Same(), sizes, 0)
    assert value == pytest.approx(0.2 + 0.6 / 4)
    assert se == pytest.approx(0.6 * np.sqrt(0.25 * 0.75 / 399))
    assert training_value.true_value(Same(), sizes, 0, 0.25)[1] == pytest.approx(
        0.6 * np.sqrt(0.25 * 0.75 / 99)
    )


def test_whole_run_and_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts, file = tmp_path / "texts.csv", tmp_path / "new" / "figures.json"
    lines = [f"the {w} of {v}" for w in ("freedom", "price", "road") for v in ("men", "law", "tea")]
    texts.write_text("text\n" + "\n".join(lines), encoding="utf-8")
    command = ["--texts", str(texts), "--json", str(file), "--seeds", "2", *TINY]
    plain, seen = training_value.run, []

    def run(texts: Any, sizes: Any, seed: int) -> Any:
        seen.append(seed)
        if seed == 1:
            raise KeyboardInterrupt
        return plain(texts, sizes, seed)

    monkeypatch.setattr(training_value, "run", run)
    with pytest.raises(KeyboardInterrupt):
        training_value.main(command)
    (one,) = json.loads(file.read_text(encoding="utf-8"))["seeds"]
    assert list(one["objectives"]) == list(STYLES)
    for name, row in one["objectives"].items():
        assert row["steps"][-1][0] == 2, name
        assert {"value", "ess", "sd_log_ratio", "kl"} == set(row["last"])
    # A second seed as the first: gains without spread, and the first is not run again.
    monkeypatch.setattr(training_value, "run", lambda *given: seen.append(given[2]) or one)
    training_value.main(command)
    assert seen == [0, 1, 1]
    found = json.loads(file.read_text(encoding="utf-8"))
    assert len(found["seeds"]) == 2
    assert set(found["objectives"]) == set(STYLES)
    training_value.main(command)
    assert seen == [0, 1, 1]
    assert json.loads(file.read_text(encoding="utf-8")) == found


def made_up(gain: float, seed: int) -> dict[str, Any]:
    """Figures of one seed: every objective but the baseline gains; CPO stops after 2 steps."""
    names = list(STYLES)
    objectives = {
        name: {
            "steps": [[2, 0.3 + end / 2, 0.02], [4, 0.3 + end, 0.01]][: 1 if name == "CPO" else 2],
            "stopped": "ess" if name == "CPO" else None,
        }
        for name, end in zip(names, [0.01 * (-1) ** seed, *[gain] * 5], strict=True)
    }
    return {"seed": seed, "start": {"value": 0.3, "se": 0.01}, "objectives": objectives}


def test_claims_are_tests_over_seeds(tmp_path: Path) -> None:
    sizes = training_value.Sizes(steps=4, points=2, fresh=100)
    seeds = [made_up(g, k) for k, g in enumerate((0.11, 0.13, 0.15, 0.13))]
    found = training_value.summarise(seeds, sizes)
    row = found["objectives"]["DR-CPO"]
    gains = np.array([0.11, 0.13, 0.15, 0.13])
    over_seeds, monte_carlo = gains.std(ddof=1) / 2, np.sqrt(2e-4) / 2
    assert row["se_over_seeds"] == pytest.approx(over_seeds)
    assert row["se_monte_carlo"] == pytest.approx(monte_carlo)
    assert row["se"] == pytest.approx(max(over_seeds, monte_carlo))
    half = 3.182446 * row["se"]
    assert row["interval_95"] == pytest.approx([0.13 - half, 0.13 + half])
    assert row["p"] < 0.01
    assert [p["step"] for p in row["path"]] == [0, 2, 4]
    assert row["path"][0]["mean"] == 0.0
    stopped = found["objectives"]["CPO"]
    assert stopped["gains"] == pytest.approx(gains / 2)  # what it had when it stopped
    assert stopped["stopped"] == 4
    assert list(found["claims"].values()) == [True, True]
    assert "p" not in found["objectives"][training_value.BASELINE]
    none = training_value.summarise([made_up(0.0, k) for k in range(2)], sizes)
    assert list(none["claims"].values()) == [False, True]
    file = tmp_path / "figure.png"
    plot(found | {"seeds": seeds, "sizes": asdict(sizes)}, file)
    assert file.stat().st_size > 10_000


def test_one_seed_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        training_value.main(["--texts", "x.csv", "--json", "y.json", "--seeds", "1"])
    assert "--seeds must be at least 2" in capsys.readouterr().err
