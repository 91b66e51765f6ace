"""The benchmark compares equal work: plain NumPy's figures are ours. Nothing here is timed."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import estimators, peers, plain, tasks

N = 2000
BENCHMARKS = Path(estimators.__file__).parent


@pytest.mark.parametrize("name", list(tasks.TASKS))
def test_plain_numpy_computes_our_figures(name: str) -> None:
    task = tasks.TASKS[name]
    for policies in task.policies:
        assert tasks.disagreement(task, task.make(N, policies)) < 1e-10


def test_a_wrong_standard_error_is_seen() -> None:
    task = tasks.TASKS["values"]
    inputs = task.make(N, 1)

    def wrong(a: tasks.Inputs) -> tasks.Figures:
        found = task.same(a)
        return found | {"dr_se": found["dr_se"] * (1 + 1e-6)}

    changed = tasks.Task(task.computes, task.make, task.runs, wrong)
    assert tasks.disagreement(changed, inputs) > 1e-9


@pytest.mark.parametrize("name", list(tasks.TASKS))
def test_every_other_run_computes_the_same_task(name: str) -> None:
    # Other folds, propensities or multipliers: equal up to a small part of the standard error.
    task = tasks.TASKS[name]
    inputs = task.make(N, task.policies[0])
    reference = next(iter(task.runs.values()))(inputs)
    for run, compute in task.runs.items():
        found = compute(inputs)
        assert set(found) == set(reference), run
        for figure, expected in reference.items():
            np.testing.assert_allclose(found[figure], expected, rtol=0.1, atol=0.02, err_msg=run)


def test_plain_k_hat_is_that_of_arviz() -> None:
    base = pytest.importorskip("arviz_stats.base")
    n = 10_000  # ArviZ rounds the tail's size down, the paper up: here 3 sqrt(n) is whole
    ell = 0.8 * np.random.default_rng(1).exponential(size=n)
    assert plain.pareto_k(ell) == pytest.approx(float(base.array_stats.psislw(-ell)[1]), abs=1e-10)


def test_the_two_solvers_of_plain_ols_agree() -> None:
    inputs = tasks.make_crossfit(N, 1)
    arrays = [inputs[name] for name in tasks.FEATURES]
    left = plain.crossfit(*arrays)
    right = plain.crossfit(*arrays, solver="normal")
    assert float(left["dr"]) == pytest.approx(float(right["dr"]), abs=1e-12)
    assert float(left["dr_se"]) == pytest.approx(float(right["dr_se"]), abs=1e-12)


def test_plain_numpy_and_the_peers_runner_import_nothing_of_ours() -> None:
    for file in ("plain.py", "peers.py"):
        tree = ast.parse((BENCHMARKS / file).read_text(encoding="utf-8"))
        modules = {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        modules |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        assert not {m for m in modules if m.split(".")[0] in ("causal_lm_opt", "benchmarks")}


def test_every_peer_has_a_runner_and_a_run_of_ours() -> None:
    assert set(peers.RUNNERS) == set(peers.PEERS)
    effect = tasks.TASKS["effect"].runs
    for peer in peers.PEERS.values():
        assert ("ours" if peer.ours == "known" else f"ours, {peer.ours}") in effect


def test_slopes_are_those_of_a_power_law() -> None:
    rows = [
        {"task": "t", "policies": 1, "run": "ours", "n": n, "seconds": 2e-6 * n**1.5}
        for n in (1000, 10_000, 100_000)
    ]
    (found,) = estimators.slopes(rows)
    assert found["slope"] == pytest.approx(1.5)
    assert estimators.slopes(rows[:1]) == []


def test_a_peer_that_is_not_there_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "doubleml.py").write_text("raise ImportError('not here')\n", encoding="utf-8")
    file = tmp_path / "effect.npz"
    np.savez(file, **tasks.make_effect(N, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path))
        found = peers.measure(Path(sys.executable), "doubleml", file, 1, 60.0)
    assert found == {"unavailable": "exit status 1: ImportError"}
    (row,) = estimators.against_peers([{"peer": "doubleml", "n": N, **found}], [])
    assert row["our_run"] == "ours, cross-fitted"
    assert "peer_over_ours" not in row


def test_the_claims_hold_against_their_limits() -> None:
    def timed(run: str, seconds: float, task: str = "values") -> dict[str, Any]:
        return {"task": task, "n": N, "policies": 1, "run": run, "seconds": seconds}

    def used(task: str, policies: int, peak: float, extra: float) -> dict[str, Any]:
        row = {"task": task, "run": "ours", "n": N, "policies": policies, "inputs_mb": 100.0}
        return row | {"peak_mb": peak, "extra_mb": extra}

    timings = [timed("ours", 3.0), timed("plain NumPy", 1.0), timed("ours", 2.0, "effect")]
    memory = [
        used("values", 1, 499.0, 9.0),
        used("policies", 1, 300.0, 9.0),
        used("policies", 100, 400.0, 13.0),
        used("band", 5, 1001.0, 9.0),
    ]
    slow = {"peer": "doubleml, known propensities", "n": N, "seconds": 4.0}
    rows = estimators.against_peers([slow], timings)
    met = [row["met"] for row in estimators.claims(timings, memory, rows)]
    assert met == [False, True, True, False, True]


def test_memory_is_that_of_a_fresh_process() -> None:
    row = estimators.probe_apart("values", "ours", N, 1)
    assert row["peak_mb"] >= row["before_mb"] > 0
    assert row["inputs_mb"] == pytest.approx(6 * 8 * N / 1e6, abs=0.06)


def test_a_run_resumes_writes_its_figures_and_clears_its_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(estimators, "RESULTS", tmp_path)
    folder = tmp_path / ".estimators-cells" / estimators.sources_key()
    kept = [{"task": "values", "n": 1000, "policies": 1, "run": "ours", "seconds": 7.0}]
    kept.append({"task": "values", "n": 1000, "policies": 1, "run": "plain NumPy", "seconds": 7.0})
    estimators.write(folder / "time-values-1000-1-3.json", kept)
    monkeypatch.setattr(estimators, "probe_apart", lambda *_: {"task": "values", "run": "ours"})
    arguments = ["--tasks", "values", "--sizes", "1000", "2000", "--repeats", "3", "--no-peers"]
    file = tmp_path / "figures.json"
    assert estimators.main([*arguments, "--json", str(file)]) == 0
    table = json.loads(file.read_text(encoding="utf-8"))
    assert table["timings"][:2] == kept
    assert {row["n"] for row in table["timings"]} == {1000, 2000}
    assert {"commit", "cpu", "packages", "version", "slopes"} <= set(table)
    assert not list(folder.glob("*"))
    assert "Seconds, and ratio to plain NumPy" in capsys.readouterr().out


def test_the_peers_runner_starts_without_the_package(tmp_path: Path) -> None:
    # Alone in a folder, isolated from the checkout: `-I` ignores the environment and the folder.
    script = tmp_path / "peers.py"
    script.write_text((BENCHMARKS / "peers.py").read_text(encoding="utf-8"), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-I", str(script), "--help"], capture_output=True, text=True, check=True
    )
    assert "doubleml" in done.stdout
