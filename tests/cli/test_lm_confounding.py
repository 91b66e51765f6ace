"""`simulate lm-confounding`: the whole quick study runs, goes on where it stopped, and is told."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from causal_lm_opt.cli import app
from causal_lm_opt.simulation.confounding_tables import COLUMNS

PRESCRIBED = ["scenario", "strength", "seed", "objective", "true_value", "heldout_value",
              "heldout_lo", "heldout_hi", "ess"]  # fmt: skip


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["simulate", *arguments])
    return done.exit_code, done.output


@pytest.mark.torch
@pytest.mark.slow
def test_the_quick_study_is_written_and_resumed(tmp_path: Path) -> None:
    out = tmp_path / "study"
    code, said = run("lm-confounding", "--quick", "--out", str(out))
    assert code == 0, said
    results = pd.read_csv(out / "results.csv")
    assert list(results.columns) == list(COLUMNS)
    assert set(PRESCRIBED) <= set(results.columns)
    assert len(results) == 2 * 4 * 5  # seeds, scenarios, objectives
    assert results["true_value"].between(35, 80).all()
    oo = results[results["objective"] == "oo"].groupby("scenario")["true_value"].mean()
    assert oo["confounded"] < oo["right"]
    claims = pd.read_csv(out / "claims.csv")
    assert set(claims["part"]) == {"a", "b", "c"}
    page = (out / "report.html").read_text(encoding="utf-8")
    for words in ("A quick look at tiny sizes", "claimed by training rows", "judged by GPT-4"):
        assert words in page
    assert "(b) appeals: FT - OO, confounded 2" in said
    assert json.loads((out / "study.json").read_text())["best_values"] == {"appeals": 67.0}
    before = {p.name: p.read_bytes() for p in out.iterdir() if p.is_file()}
    next((out / "blocks").iterdir()).unlink()  # one run is made again, to the same bytes
    assert run("lm-confounding", "--quick", "--quiet", "--out", str(out)) == (0, "")
    assert before == {p.name: p.read_bytes() for p in out.iterdir() if p.is_file()}
    for arguments, told in (
        (["lm-confounding"], "tiny sizes (--quick)"),
        (["lm-confounding", "--quick", "--seed", "1"], "seed 0"),
        (["user-objectives", "--quick"], "lm-confounding"),
        (["overlap", "--quick"], "lm-confounding"),
    ):
        code, said = run(*arguments, "--out", str(out))
        assert code == 3
        assert f"{out} holds a finished study of {told}; give another --out" in said
    assert before == {p.name: p.read_bytes() for p in out.iterdir() if p.is_file()}


@pytest.mark.torch
def test_a_stopped_run_says_whose_folder_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from causal_lm_opt.lm import confounding_study

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(confounding_study, "make_start", stop)
    out = tmp_path / "study"
    code, said = run("lm-confounding", "--quick", "--out", str(out))
    assert (code, "run again to go on" in said) == (130, True)
    code, said = run("lm-confounding", "--quick", "--seed", "5", "--out", str(out))
    assert code == 3
    assert f"{out} holds an unfinished study of seed 0; give another --out" in said
    assert run("lm-confounding", "--quick", "--out", str(out))[0] == 130  # its own goes on


def test_it_is_listed_and_refuses_others_options(tmp_path: Path) -> None:
    assert "lm-confounding" in run("--list")[1]
    code, said = run("lm-confounding", "--noise", "low", "--out", str(tmp_path / "a"))
    assert code == 2
    assert "--noise goes with latent-positivity" in said
    (tmp_path / "mine.txt").write_text("kept")
    code, said = run("lm-confounding", "--out", str(tmp_path))
    assert code == 3
    assert "mine.txt" in said
    assert (tmp_path / "mine.txt").read_text() == "kept"


@pytest.mark.torch
def test_a_folder_without_the_files_is_one_clear_message(tmp_path: Path) -> None:
    code, said = run(
        "lm-confounding", "--quick", "--data", str(tmp_path), "--out", str(tmp_path / "out")
    )
    assert code == 2
    assert "hong_kong" in said
    assert not (tmp_path / "out").exists()
