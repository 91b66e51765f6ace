"""Every bad input is one line, exit code 2, and leaves nothing behind."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from .conftest import Files, Run, make_draws, make_log, make_support, subprocess_run

Refused = Callable[..., str]


@pytest.fixture(autouse=True)
def nothing_written(files: Files) -> object:
    """No test of this file may leave an output folder, whole or half."""
    yield
    left = {p.name for p in files.folder.iterdir() if p.is_dir()}
    assert left <= {"folder"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--outcome", "z"], "'z'"),
        (["--outcom", "y"], "No such option"),
        ([], "--outcome"),
        (["--clicks", "y"], "impressions"),
        (["--outcome", "y", "--clicks", "y", "--impressions", "y"], "not both"),
        (["--outcome", "text"], "is not a number"),
        (["--outcome", "y", "--text", "txt"], "did you mean 'text'"),
        (["--outcome", "y", "--group", "readr"], "did you mean 'reader'"),
        (["--outcome", "y", "--by", "twon"], "did you mean 'town'"),
        (["--outcome", "y", "--weight", "y"], "is negative"),
        (["--outcome", "y", "--logp-logging", "length"], "at most 0"),
        (["--outcome", "y", "--policy", "warm=lp_worm"], "did you mean 'lp_warm'"),
        (["--outcome", "y", "--policy", "warm=lp_warm"], "log-probabilities"),
        (["--outcome", "y", "--policy", "=lp_warm"], "NAME=COL"),
        (["--outcome", "y", "--policy", "warm="], "NAME=COL"),
        (["--outcome", "y", "--policy", "a=lp_warm", "--policy", "a=lp_brief"], "twice"),
        (["--outcome", "y", "--estimator", "hayek"], "did you mean 'hajek'"),
        (["--outcome", "y", "--estimator", "dr"], "cannot be used"),
        (["--outcome", "y", "--reference", "warm"], "is not a policy"),
        (["--outcome", "y", "--level", "95"], "between 0 and 1"),
        (["--outcome", "y", "--level", "high"], "--level"),
        (["--outcome", "y", "--cv", "1"], "--cv"),
        (["--outcome", "y", "--seed", "-1"], "--seed"),
        (["--outcome", "y", "--support"], "--draws"),
        (["--outcome", "y", "--feature", "kind"], "--draws"),
        (["--outcome", "y", "--outcome-model", "forest"], "--draws"),
        (["--outcome", "y", "surplus"], "surplus"),
    ],
)
def test_bad_options(files: Files, refused: Refused, options: list[str], said: str) -> None:
    line = refused(["evaluate", str(files.log), *options, *files.out()])
    assert said in line


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--outcome-model", "boost"], "tfidf-ridge"),
        (["--outcome-model", "linear"], "features"),
        (["--outcome-model", "logistic"], "classifier"),
        (["--feature", "town"], "column of numbers"),
        (["--feature", "length", "--feature", "length"], "more than once"),
        (["--feature", "reader"], "reader"),
        (["--reference", "warn"], "did you mean 'warm'"),
        (["--support"], "prob"),
    ],
)
def test_bad_options_with_draws(
    files: Files, refused: Refused, options: list[str], said: str
) -> None:
    if options == ["--support"]:
        make_draws()[["policy", "text"]].to_csv(files.draws, index=False)
    line = refused([*files.evaluate, "--draws", str(files.draws), *options, *files.out()])
    assert said in line


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such file"),
        (b"", "is empty"),
        (b"\n\n", "no header"),
        (b"text,y\n", "no data rows"),
        (b"text,y\na,1\nb,\n", "row 2 (line 3)"),
        (b"text,y\na,1\n,2\n", "empty string"),
        (b"text,y\na,1\nb,inf\n", "not finite"),
        (b"text,y\na,1,3\n", "fields"),
        (b"text,y\n\xff,1\n", "UTF-8"),
        (b"text,y,y\na,1,2\n", "occurs 2 times"),
        (b"text,y\na,1\n", "two rows"),
    ],
)
def test_bad_logs(files: Files, refused: Refused, content: bytes | None, said: str) -> None:
    files.log.unlink()
    if content is not None:
        files.log.write_bytes(content)
    line = refused(["evaluate", str(files.log), "--outcome", "y", *files.out()])
    assert said in line
    assert "log.csv" in line or said == "two rows"


def test_log_is_a_folder_or_of_unknown_kind(files: Files, refused: Refused) -> None:
    (files.folder / "folder").mkdir()
    folder = files.folder / "folder.csv"
    (files.folder / "folder").rename(folder)
    assert "is not a file" in refused(["evaluate", str(folder), "--outcome", "y", *files.out()])
    folder.rename(files.folder / "folder")
    other = files.folder / "log.xlsx"
    other.write_bytes(b"x")
    assert "unknown file type" in refused(["evaluate", str(other), "--outcome", "y", *files.out()])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.replace({"policy": {"brief": "breif"}}), "did you mean 'brief'"),
        (lambda d: d[d["policy"] == "warm"], "no rows of policy 'brief'"),
        (lambda d: d.drop(columns="policy"), "'policy'"),
        (lambda d: d.drop(columns="text"), "'text'"),
        (lambda d: d.iloc[:0], "no data rows"),
        (lambda d: d.assign(policy=np.where(d.index == 4, None, d["policy"])), "row 5 (line 6)"),
        (lambda d: d.assign(text=np.where(d.index == 4, None, d["text"])), "row 5 (line 6)"),
        (lambda d: d.assign(logp_target=-d["logp_target"]), "logp_target"),
        (lambda d: d.assign(logp_sampling="x"), "is not a number"),
        (lambda d: d.assign(weight=-1), "is negative"),
        (lambda d: d.assign(prob=0.1), "--support"),
        (lambda d: d.drop(columns="logp_target").assign(logp_sampling=-1.0), "logp_target"),
    ],
)
def test_bad_draws(
    files: Files,
    refused: Refused,
    change: Callable[[pd.DataFrame], pd.DataFrame],
    said: str,
) -> None:
    change(make_draws()).to_csv(files.draws, index=False)
    line = refused([*files.evaluate, "--draws", str(files.draws), *files.out()])
    assert said in line


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.csv", None, "no such file"),
        ("empty.csv", b"", "is empty"),
        ("bad.jsonl", b"{]\n", "cannot be read"),
        ("list.jsonl", b"[1]\n", "'policy'"),
        ("bad.parquet", b"PAR1nonsense", "cannot be read"),
        ("latin.csv", b"policy,t\xe9xt\n", "cannot be read"),
        ("cut.csv.gz", b"\x1f\x8b\x08\x00", "cannot be read"),
    ],
)
def test_unreadable_draws(
    files: Files, refused: Refused, name: str, content: bytes | None, said: str
) -> None:
    path = files.folder / name
    if content is not None:
        path.write_bytes(content)
    line = refused([*files.evaluate, "--draws", str(path), *files.out()])
    assert said in line
    assert name in line


def test_support_that_is_not_whole(files: Files, refused: Refused) -> None:
    make_support().iloc[1:].to_csv(files.support, index=False)
    line = refused([*files.evaluate, "--draws", str(files.support), "--support", *files.out()])
    assert "sum to" in line


def test_a_feature_with_a_gap(files: Files, refused: Refused) -> None:
    log = make_log()
    log.loc[3, "length"] = np.nan
    log.to_csv(files.log, index=False)
    options = ["--draws", str(files.draws), "--feature", "length"]
    line = refused([*files.evaluate, *options, *files.out()])
    assert "row 4" in line
    assert "length" in line


def test_the_name_of_the_logging_policy_is_taken(files: Files, refused: Refused) -> None:
    options = ["--outcome", "y", "--logp-logging", "lp", "--policy", "logging policy=lp_warm"]
    assert "rename" in refused(["evaluate", str(files.log), *options, *files.out()])


def test_an_estimator_asked_for_that_overflows_is_an_error(files: Files, refused: Refused) -> None:
    log = make_log()
    log["lp"] = log["lp"] - 1500.0
    log.to_csv(files.log, index=False)
    assert "overflow" in refused([*files.evaluate, "--estimator", "ht", *files.out()])


def test_control_characters_do_not_reach_the_terminal(files: Files, refused: Refused) -> None:
    line = refused(["evaluate", str(files.log), "--outcome", "\x1b[31mred\n", *files.out()])
    assert "\x1b" not in line


@pytest.mark.parametrize("arguments", [[], ["evalute"], ["evaluate"], ["hong-kong"], ["--nope"]])
def test_bad_usage(refused: Refused, files: Files, arguments: list[str]) -> None:
    assert "--help" in refused(arguments)


def test_hong_kong_of_other_files(files: Files, refused: Refused) -> None:
    assert "hong_kong" in refused(["hong-kong", str(files.folder / "none"), *files.out()])
    assert "error" in refused(["hong-kong", str(files.log), *files.out()])


def test_unexpected_failure(
    files: Files, run: Run, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("inner")

    monkeypatch.setattr("causal_lm_opt._run.log.evaluate_file", broken)
    line = refused([*files.evaluate, *files.out()], code=1)
    assert "CAUSAL_LM_OPT_TRACEBACK" in line
    assert "KeyError" in line
    monkeypatch.setenv("CAUSAL_LM_OPT_TRACEBACK", "1")
    result = run([*files.evaluate, *files.out()])
    assert result.exit_code == 1
    assert "Traceback" in result.stderr


def test_a_real_process(files: Files) -> None:
    done = subprocess_run(["evaluate", str(files.log), "--outcome", "nope", *files.out()])
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_undecodable_arguments_and_ascii_terminals(files: Files) -> None:
    name = os.fsdecode(b"caf\xe9")
    options = ["--outcome", name, *files.out()]
    done = subprocess_run(["evaluate", str(files.log), *options], PYTHONIOENCODING="ascii")
    assert done.returncode == 2
    assert done.stderr.isascii()
    assert done.stderr.count("\n") == 1
