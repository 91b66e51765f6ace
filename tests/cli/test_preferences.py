"""`simulate latent-positivity | user-objectives`: what is written, resumed and refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from causal_lm_opt._run.preferences import list_studies
from causal_lm_opt._run.shell import SIMULATE_EXAMPLE
from causal_lm_opt.cli import app
from causal_lm_opt.simulation.studies import ESTIMATORS, WORLDS

COLUMNS = ["study", "noise", "rho", "seed", "model", "lambda", "test", "accuracy"]


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["simulate", *arguments])
    return done.exit_code, done.output


def rated_file(folder: Path, rows: int = 900) -> Path:
    """Texts that show two ratings by their words."""
    rng = np.random.default_rng(0)
    z = rng.integers(1, 6, (rows, 2))
    words = [
        " ".join(["true"] * a + ["false"] * (5 - a) + ["smooth"] * b + ["rough"] * (5 - b))
        for a, b in z
    ]
    path = folder / "rated.csv"
    frame = {"ask": np.arange(rows) // 10, "say": words, "right": z[:, 0], "fluent": z[:, 1]}
    pd.DataFrame(frame).to_csv(path, index=False)
    return path


# ------------------------------------------------------------------------------ runs
@pytest.mark.torch
def test_latent_positivity_is_written_and_resumed(tmp_path: Path) -> None:
    out = tmp_path / "study"
    code, said = run("latent-positivity", "--quick", "--out", str(out))
    assert code == 0, said
    results = pd.read_csv(out / "results.csv")
    assert list(results.columns[:8]) == COLUMNS
    assert set(results["test"]) == {"id", "ood"}
    assert results.groupby(["rho", "model", "test"]).size().eq(2).all()  # seeds
    assert results["accuracy"].between(0.3, 0.9).all()
    page = (out / "report.html").read_text(encoding="utf-8")
    for words in ("69.3", "57.8", "Why ours differ", "A quick look at tiny sizes", "Kobalczyk"):
        assert words in page
    facts = json.loads((out / "study.json").read_text())
    assert facts["worlds"]["high"]["weights"] == [0.25, 0.75]
    assert (out / "ood.svg").read_text().startswith("<svg")
    before = {p.name: p.read_bytes() for p in out.iterdir() if p.is_file()}
    next((out / "blocks").iterdir()).unlink()  # one fit is made again, to the same bytes
    assert run("latent-positivity", "--quick", "--quiet", "--out", str(out)) == (0, "")
    assert before == {p.name: p.read_bytes() for p in out.iterdir() if p.is_file()}


def files_of(folder: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.torch
def test_another_study_or_setting_in_the_folder_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "study"
    mine = ["latent-positivity", "--quick", "--seeds", "2", "--quiet", "--out", str(out)]
    assert run(*mine) == (0, "")
    before = files_of(out)
    rated = ["--data", str(rated_file(tmp_path)), "--text", "say", "--prompt", "ask"]
    for arguments, said in (
        (["user-objectives", "--quick"], "latent-positivity"),
        (["overlap", "--quick"], "latent-positivity"),
        (["latent-positivity"], "tiny sizes (--quick)"),
        (["latent-positivity", "--quick", "--noise", "low"], "noise high"),
        (["latent-positivity", "--quick", "--seed", "7"], "seed 0"),
        (["latent-positivity", "--quick", "--dimension", "8"], "dimension 32"),
        (
            ["latent-positivity", "--quick", *rated, "--factors", "right,fluent"],
            "latent-positivity in simulated worlds",
        ),
    ):
        code, output = run(*arguments, "--out", str(out))
        assert code == 3
        told = f"error: {out} holds a finished study of {said}; give another --out"
        assert output.splitlines() == [told]
    assert files_of(out) == before
    for p in out.glob("*.*"):  # as a run that was killed leaves it
        p.unlink() if p.name != "study.json" else None
    code, output = run("latent-positivity", "--quick", "--seed", "7", "--out", str(out))
    assert f"{out} holds an unfinished study of seed 0; give another --out" in output
    (out / "study.json").unlink()  # and one of a version that did not say whose blocks these are
    code, output = run("latent-positivity", "--quick", "--seed", "7", "--out", str(out))
    assert (code, "holds blocks without study.json" in output) == (3, True)
    times = {p: p.stat().st_mtime_ns for p in (out / "blocks").iterdir()}
    assert run(*mine) == (0, "")
    assert files_of(out) == before
    assert {p: p.stat().st_mtime_ns for p in (out / "blocks").iterdir()} == times
    fewer, more = ([*mine[:2], "--seeds", n, "--out", str(out)] for n in "23")
    assert "replaced" not in run(*more)[1]
    assert "The tables of 3 seeds are replaced; their blocks are kept, and" in run(*fewer)[1]
    assert "replaced" not in run(*fewer)[1]


@pytest.mark.torch
def test_user_objectives_has_a_table_of_lambdas_and_0_is_multihead(tmp_path: Path) -> None:
    out = tmp_path / "study"
    code, said = run("user-objectives", "--quick", "--dimension", "8", "--out", str(out))
    assert code == 0, said
    results = pd.read_csv(out / "results.csv")
    assert set(results["test"]) == {"consistent", "inconsistent"}
    at = results[results["rho"] == 0.9].set_index(["seed", "test"])
    none = at[(at["model"] == "Adversarial") & (at["lambda"] == 0.0)]["accuracy"]
    multi = at[at["model"] == "Multihead"]["accuracy"]
    pd.testing.assert_series_equal(none.sort_index(), multi.sort_index())
    sweep = pd.read_csv(out / "lambda.csv")
    assert sweep["lambda"].tolist() == [0.0, 1.0]
    assert sweep["discriminator"].between(0.3, 1.0).all()
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Strength of the adversary" in page
    assert "55.9" in page  # the paper's Base at rho .9
    assert json.loads((out / "study.json").read_text())["dimension"] == 8


@pytest.mark.torch
def test_real_ratings_make_pairs(tmp_path: Path) -> None:
    out = tmp_path / "study"
    columns = ["--text", "say", "--prompt", "ask", "--factors", "right,fluent"]
    code, said = run(
        "latent-positivity", "--quick", "--data", str(rated_file(tmp_path)), *columns,
        "--out", str(out),
    )  # fmt: skip
    assert code == 0, said
    results = pd.read_csv(out / "results.csv")
    assert set(results["noise"]) == {"ratings"}
    assert results.groupby("seed")["n_train"].nunique().eq(1).all()  # as many at every rho
    facts = json.loads((out / "study.json").read_text())
    assert facts["columns"]["factors"] == ["right", "fluent"]
    assert facts["data"]["name"] == "rated.csv"
    assert str(tmp_path) not in (out / "report.html").read_text(encoding="utf-8")
    before = files_of(out)
    again = ["latent-positivity", "--quick", "--out", str(out)]
    moved = rated_file(tmp_path).rename(tmp_path / "moved.csv")
    assert run(*again, "--quiet", "--data", str(moved), *columns) == (0, "")
    assert {p: files_of(out)[p] for p in before if p.parent != out} == {
        p: content for p, content in before.items() if p.parent != out
    }
    code, output = run(*again)
    assert code == 3
    assert "holds a finished study of latent-positivity on moved.csv; give" in output
    code, output = run(*again, "--data", str(moved), *columns[:-1], "fluent,right")
    assert "holds a finished study of factors right, fluent; give another --out" in output
    code, output = run(*again, "--data", str(rated_file(tmp_path, 901)), *columns)
    assert "holds a finished study of data moved.csv; give another --out" in output


# ------------------------------------------------------------------------------ refusals
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["overlap", "--noise", "low"], "--noise goes with latent-positivity"),
        (["overlap", "--dimension", "9"], "--dimension goes with latent-positivity"),
        (["overlap", "--nuisance", "9"], "--nuisance goes with latent-positivity"),
        (["overlap", "--discriminator-rate", "1e-3"], "--discriminator-rate goes with"),
        (["latent-positivity", "--nuisance", "9"], "nuisance"),
        (["user-objectives", "--discriminator-rate", "-1"], "discriminator_learning_rate"),
        (["latent-positivity", "--noise", "loud"], "noise='loud'"),
        (["latent-positivity", "--text", "t"], "--text goes with --data"),
        (["latent-positivity", "--data", "x.csv"], "--factors must name two columns"),
        (["latent-positivity", "--data", "x.csv", "--factors", "a"], "got a"),
        (["latent-positivity", "--data", "no.csv", "--factors", "a,b"], "no.csv"),
        (["user-objectives", "--data", "x.csv", "--factors", "a,b"], "goes with latent"),
        (
            ["latent-positivity", "--data", "x.csv", "--factors", "a,b", "--dimension", "9"],
            "without --noise and --dimension",
        ),
    ],
)
def test_what_cannot_be_is_one_line(
    tmp_path: Path, arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, output = run(*arguments, "--out", "study")
    assert code == 2
    (line,) = output.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert not (tmp_path / "study").exists()


@pytest.mark.torch
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("say,ask,right\na,b,1\n", "has no column 'fluent'"),
        ("say,ask,right,fluent\na,b,1,\n", "1 missing or infinite"),
        ("say,ask,right,fluent\na,b,1,x\n", "must hold numbers"),
        ("say,ask,right,fluent\na,b,1,2\nc,b,2,1\n", "1 pairs of responses share a prompt"),
    ],
)
def test_bad_tables_are_one_line(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "rated.csv"
    path.write_text(content)
    code, output = run(
        "latent-positivity", "--data", str(path), "--text", "say", "--prompt", "ask",
        "--factors", "right,fluent", "--out", str(tmp_path / "study"),
    )  # fmt: skip
    assert code == 2
    assert said in output
    assert len(output.splitlines()) == 1


def test_without_torch_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("causal_lm_opt._run.optimize_settings.find_spec", lambda name: None)
    code, output = run("user-objectives", "--quick", "--out", str(tmp_path / "study"))
    assert code == 2
    assert "pip install 'causal_lm_opt[lm]'" in output
    assert not (tmp_path / "study").exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("words")
    code, output = run("user-objectives", "--quick", "--out", str(tmp_path))
    assert code == 3
    assert "thesis.txt" in output


def test_both_studies_are_listed() -> None:
    code, output = run("--list")
    assert code == 0
    assert list_studies() in output
    assert [s for s in list_studies().splitlines() if not s.startswith(" ")] == [
        "latent-positivity",
        "user-objectives",
    ]


def test_a_name_that_no_study_has_is_met_with_all_names(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["simulate", "nosuch", "--out", str(tmp_path / "out")])
    assert done.exit_code == 2
    listed = CliRunner().invoke(app, ["simulate", "--list"]).stdout
    names = [line for line in listed.splitlines() if line and not line.startswith(" ")]
    assert len(names) == 7
    assert all(name in done.stderr for name in names)


def test_the_study_file_of_the_help_runs_and_names_every_choice(tmp_path: Path) -> None:
    lines = SIMULATE_EXAMPLE.split("study.toml:\n")[1]
    for choices in (WORLDS, ESTIMATORS):
        assert all(
            f"{name}," in lines or f"{name}\n" in lines or f"{name};" in lines for name in choices
        )
    (tmp_path / "study.toml").write_text(lines, encoding="utf-8")
    asked = ["simulate", str(tmp_path / "study.toml"), "--seeds", "4", "--quiet"]
    done = CliRunner().invoke(app, [*asked, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    (tmp_path / "study.toml").write_text(lines.replace("strength", "power"), encoding="utf-8")
    done = CliRunner().invoke(app, [*asked, "--out", str(tmp_path / "other")])
    assert done.exit_code == 2
    assert "unknown key 'power'" in done.stderr
    assert "strength" in done.stderr
