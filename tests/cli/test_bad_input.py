"""Every bad input is one line, exit code 2, and leaves nothing behind."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
        (["--outcome", "y", "--policy", "bad"], "NAME=COL"),
        (["--outcome", "y", "--policy", "lp_worm"], "did you mean 'lp_warm'"),
        (["--outcome", "y", "--delimiter", "::"], "one character"),
        (["--outcome", "y", "--delimiter", ";"], "delimiter=','"),
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
        (b"text,y\na,nan\n", "NaN or missing"),
        (b"text,y\na,1\nb,2\x00,\n", "fields"),
        (b'text,y\na,1\n"b,2\nc,3\n', "malformed CSV"),
        (b"text;y\na;1,5\nb;2\n", "found 1 column, 'text;y', with ';' in it"),
        (b'text,y\na,"1,5"\nb,2\n', "decimal point"),
        (b'text,y\na,"1.234,5"\nb,2\n', "decimal point"),
        (b"text,y\na,1,5\nb,2,5\n", "decimal comma"),
        (b"text,y\ncaf\xc3\xa9,1\ncaf\xe9,2\n", "line 3: byte 0xe9"),
        ("text,y\na,1\n".encode("utf-16"), "is UTF-16"),
        ("text,y\na,1\n".encode("utf-16-le"), "is UTF-16"),
        (b"PAR1 not text", "is a Parquet file"),
        (b"\xd0\xcf\x11\xe0rest", "Excel"),
        (b"text,y\n" + b"x" * 10_000_000 + b",one\n", "'one' is not a number"),
        (b"text,y\na," + b"9" * 10_000_000 + b"\n", "is not finite"),
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


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("log.jsonl", b'{"text": "a", "y": 1}\n{"text": "b", "y"', "line 2): malformed JSON"),
        ("log.jsonl", b"{" * 100_000, "malformed JSON"),
        ("log.jsonl", b'\xef\xbb\xbf{"text": "a"}\n', "no column 'y'"),
        ("log.parquet", b"PAR1" + b"\0" * 99, "cannot be read"),
        ("log.csv.gz", gzip.compress(b"text,y\na,1\n" * 99, mtime=0)[:-9], "truncated or damaged"),
        (
            "log.csv.gz",
            gzip.compress(gzip.compress(b"text,y\n", mtime=0), mtime=0),
            "gzipped twice",
        ),
        ("l" * 300 + ".csv", None, "name too long"),
    ],
)
def test_bad_logs_of_other_kinds(
    files: Files, refused: Refused, name: str, content: bytes | None, said: str
) -> None:
    path = files.folder / name
    if content is not None:
        path.write_bytes(content)
    assert said in refused(["evaluate", str(path), "--outcome", "y", *files.out()])


def test_text_under_a_gzip_name_is_read(files: Files, run: Run) -> None:
    """Browsers unpack what they save and keep its name."""
    path = files.log.rename(files.folder / "log.csv.gz")
    out = ["--out", str(files.folder / "log.csv.gz" / "..")]
    assert run(["evaluate", str(path), "--outcome", "y", *out]).exit_code == 3


def test_a_policy_without_overlap(files: Files, refused: Refused) -> None:
    make_log().assign(lp_warm=-np.inf).to_csv(files.log, index=False)
    line = refused([*files.evaluate, *files.out()])
    assert "'warm' gives every logged text probability 0" in line


@pytest.mark.parametrize("what", ["changed", "disappeared"])
def test_a_log_that_does_not_stay(
    files: Files, refused: Refused, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    from causal_lm_opt._run import log

    original = log.evaluate_file

    def meanwhile(*arguments: Any) -> Any:
        found = original(*arguments)
        if what == "changed":
            with files.log.open("a", encoding="utf-8") as stream:
                stream.write("more")
        else:
            files.log.unlink()
        return found

    monkeypatch.setattr(log, "evaluate_file", meanwhile)
    line = refused(["evaluate", str(files.log), "--outcome", "y", *files.out()])
    assert f"log.csv: {what} while" in line


def test_a_log_that_is_gone_when_it_is_opened(
    files: Files, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(path: Path) -> None:
        raise FileNotFoundError(2, "No such file or directory", str(path))

    monkeypatch.setattr("causal_lm_opt._files.open_bytes", gone)
    line = refused(["evaluate", str(files.log), "--outcome", "y", *files.out()])
    assert "log.csv: cannot be read (No such file or directory)" in line


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
        (lambda d: d.replace({"policy": {"brief": "other"}}), "no rows of policy 'brief'"),
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
        ("bad.jsonl", b"{]\n", "malformed JSON"),
        ("list.jsonl", b"[1]\n", "holds an array"),
        ("bad.parquet", b"PAR1nonsense", "cannot be read"),
        ("latin.csv", b"policy,t\xe9xt\n", "is not UTF-8"),
        ("cut.csv.gz", b"\x1f\x8b\x08\x00", "truncated or damaged"),
        ("no_gzip.csv.gz", b"PK\x03\x04rest", "zip archive"),
        ("wide.csv", "policy,text\n".encode("utf-16"), "is UTF-16"),
        ("semicolons.csv", b"policy;text\nwarm;a\n", "--delimiter"),
        ("open.csv", b'policy,text\nwarm,"a\n', "malformed CSV"),
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


def test_draws_are_cut_as_the_log_is(files: Files, refused: Refused) -> None:
    pd.read_csv(files.log).to_csv(files.log, index=False, sep=";")
    line = refused([*files.evaluate, "--delimiter", ";", "--draws", str(files.draws), *files.out()])
    assert "by the log's delimiter ';', which is used for it too: write both files alike" in line


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


def test_a_file_with_other_separators_is_recognised(files: Files, run: Run) -> None:
    make_log().to_csv(files.log, index=False, sep=";")
    for more in ([], ["--text", "texts"]):
        result = run([*files.evaluate, *more, *files.out()])
        assert result.exit_code == 2
        assert "--delimiter" in result.stderr
        assert "did you mean" not in result.stderr
