"""A note where outcomes are alike within a column that no option named.

200 logs of independent rows at a chance of .001 each: 4 notes or more have probability 6e-5.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from causal_lm_opt import IPW
from causal_lm_opt._run.log import Request, _clustered_by_prompt, _read
from causal_lm_opt._run.unnamed_clusters import cluster_note, unnamed_clusters

from .conftest import Run


def make(icc: float, n: int = 2000, each: int = 5, seed: int = 0) -> pd.DataFrame:
    """Readers with ``each`` rows, and columns that are no clusters."""
    rng = np.random.default_rng(seed)
    reader = np.arange(n) // each
    people = reader.max() + 1
    at = rng.integers(0, 6, n)
    noise = math.sqrt(icc) * rng.normal(size=people)[reader]
    noise += math.sqrt(1.0 - icc) * rng.normal(size=n)
    return pd.DataFrame(
        {
            "text": np.array([f"text {j} of six" for j in range(6)])[at],
            "y": np.round(noise + 0.3 * at, 4),
            "reader": [f"r{i}" for i in reader],
            "session": [f"s{i}" for i in rng.integers(0, 300, n)],
            "town": rng.integers(0, 40, n),
            "score": rng.integers(0, 30, n) / 7,
            "row": np.arange(n),
        }
    )


def notes(
    frame: pd.DataFrame, folder: Path, name: str = "log.csv", **options: Any
) -> Sequence[str]:
    path = folder / name
    if name.endswith(".csv"):
        frame.to_csv(path, index=False)
    elif name.endswith(".jsonl"):
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_parquet(path)
    outcome = {} if "clicks" in options else {"outcome": "y"}
    request = Request(str(path), **outcome, **options)
    log, _ = _clustered_by_prompt(_read(request, {}), request)
    found = unnamed_clusters(log, request, ())
    return [cluster_note(found)] if found else []


# ------------------------------------------------------------------ level and power
def test_independent_rows_bring_no_note(tmp_path: Path) -> None:
    told = 0
    for seed in range(200):
        frame = make(0.0, n=300, seed=seed)
        frame["y"] = np.sinh(2.0 * frame["y"])  # heavy tails
        told += len(notes(frame, tmp_path))
    assert told <= 3


@pytest.mark.parametrize("seed", range(10))
def test_a_reader_s_effect_is_told(tmp_path: Path, seed: int) -> None:
    (note,) = notes(make(0.2, seed=seed), tmp_path)
    assert note.startswith("Rows of equal 'reader' have correlated outcomes (400 labels, 5.0 rows")
    assert note.count("of equal") == 1


def test_the_figure_is_the_ratio_of_standard_errors(tmp_path: Path) -> None:
    frame = make(0.8)
    X = np.zeros((len(frame), 1))
    clustered, plain = (IPW().fit(X, frame["y"], groups=g).se_ for g in (frame["reader"], None))
    (note,) = notes(frame, tmp_path)
    assert f"of the mean outcome {clustered / plain:.2f} times as large." in note
    assert "--group reader would" in note


# ------------------------------------------------------------------ where there is nothing to tell
def test_no_note_where_the_column_is_named(tmp_path: Path) -> None:
    frame = make(0.5)
    for option in ("group", "prompt", "by"):
        assert notes(frame, tmp_path, **{option: "reader"}) == []


def test_no_note_of_few_or_very_unequal_labels(tmp_path: Path) -> None:
    frame = make(0.5, each=500)  # 4 readers
    assert notes(frame, tmp_path) == []
    frame = make(0.0)
    frame["reader"] = np.where(frame["row"] < 1000, "usual", frame["reader"])
    frame["y"] += 2.0 * (frame["row"] < 1000)
    assert notes(frame, tmp_path) == []


def test_no_note_of_what_comes_with_a_repeated_text(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = make(0.0).drop(columns=["reader", "session", "town"])
    at = rng.integers(0, 60, len(frame))
    frame["text"] = [f"a text that has number {j} of sixty" for j in at]
    frame["y"] += rng.normal(size=60)[at]
    frame["text_id"] = [f"t{j}" for j in at]
    frame["characters"] = at
    frame["finer"] = [f"{j}-{i % 3}" for i, j in enumerate(at)]  # three numbers a text
    frame["topic"] = [f"about {j // 2}" for j in at]  # two texts each, as unlike as others
    assert notes(frame, tmp_path) == []


def test_no_note_of_pieces_of_texts_or_fractions(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = make(0.0).drop(columns=["reader", "session", "town"])
    at = rng.integers(0, 60, len(frame))
    frame["y"] += rng.normal(size=60)[at]
    frame["piece"] = [f"A sentence that has number {j}." for j in at]
    frame["text"] = [f"{a} Then comes {i}." for i, a in enumerate(frame["piece"])]
    frame["score"] = at / 7
    frame["empty"] = ""
    assert notes(frame, tmp_path) == []
    assert "'piece'" in notes(frame.assign(piece=frame["piece"].str.upper()), tmp_path)[0]


def test_rows_without_a_label_are_no_cluster(tmp_path: Path) -> None:
    frame = make(0.0, n=400)
    frame.loc[:50, "reader"] = ""
    frame["y"] += 3.0 * (frame["row"] <= 50)
    assert notes(frame, tmp_path) == []


def test_no_note_of_an_ordered_trait(tmp_path: Path) -> None:
    frame = make(0.0)
    age = np.random.default_rng(1).integers(18, 80, len(frame))
    frame["age"] = age
    frame["y"] += 0.03 * age
    frame["twice"] = np.round(frame["y"] * 10).astype(int)  # the outcome, nearly
    assert notes(frame, tmp_path) == []


def test_numbers_as_labels_are_no_order(tmp_path: Path) -> None:
    frame = make(0.3)
    frame["reader"] = frame["reader"].str[1:].astype(int)
    (note,) = notes(frame, tmp_path)
    assert "'reader'" in note


def test_readers_of_one_text_each_are_told_beyond_the_text(tmp_path: Path) -> None:
    frame = make(0.4)
    frame["text"] = [f"text {i // 50} of many" for i in range(len(frame))]  # ten readers a text
    (note,) = notes(frame, tmp_path)
    assert "'reader'" in note


# ------------------------------------------------------------------ clusters in larger ones
def test_clusters_in_larger_ones_are_told_beyond_them(tmp_path: Path) -> None:
    frame = make(0.4, each=10).drop(columns="session")
    frame["visit"] = frame["row"] // 2
    (note,) = notes(frame, tmp_path, group="visit")
    assert note.startswith("Clusters of equal 'reader' have correlated outcomes (200 labels, 5.0")
    X = np.zeros((len(frame), 1))
    se = [IPW().fit(X, frame["y"], groups=frame[g]).se_ for g in ("reader", "visit")]
    assert f"{se[0] / se[1]:.2f} times as large" in note


def test_few_labels_are_told_as_such(tmp_path: Path) -> None:
    (note,) = notes(make(0.5, each=150), tmp_path)
    assert "(14 labels, 142.9 rows each" in note
    assert "(of so few, no interval is right if they were drawn)" in note


# ------------------------------------------------------------------ clusters that cross
def crossed(seed: int, prompt_sd: float, reader_sd: float, n: int = 1200) -> pd.DataFrame:
    """150 prompts of 8 rows each, read by 300 readers."""
    rng = np.random.default_rng(seed)
    prompt, reader = np.arange(n) // 8, rng.permutation(np.arange(n) % 300)
    y = prompt_sd * rng.normal(size=150)[prompt] + reader_sd * rng.normal(size=300)[reader]
    text = [f"answer {i}" for i in range(n)]
    y = np.round(y + rng.normal(size=n), 4)
    frame = pd.DataFrame({"text": text, "y": y, "prompt": [f"p{i}" for i in prompt]})
    return frame.assign(reader=[f"r{i}" for i in reader])


@pytest.mark.parametrize(("named", "other"), [("reader", "prompt"), ("prompt", "reader")])
def test_clusters_that_cross_those_named_are_told(tmp_path: Path, named: str, other: str) -> None:
    frame = crossed(0, 1.0, 1.0)
    (note,) = notes(frame, tmp_path, group=named)
    assert note.startswith(f"Rows of equal '{other}' have correlated outcomes")
    X = np.zeros((len(frame), 1))
    se = [IPW().fit(X, frame["y"], groups=g).se_ for g in (frame[named], frame[other], None)]
    both = math.sqrt(se[0] ** 2 + se[1] ** 2 - se[2] ** 2)  # no two rows share both
    assert (
        f"counted as well would make the standard error of the mean outcome {both / se[0]:.2f}"
        in note
    )


def test_crossing_labels_that_tell_nothing_bring_no_note(tmp_path: Path) -> None:
    """At .001 a log, 60 logs have .06 notes; the named clusters' own effect brings none."""
    told = sum(len(notes(crossed(seed, 0.0, 1.5), tmp_path, group="reader")) for seed in range(60))
    assert told <= 1


def test_a_prompt_that_is_not_counted_bars_the_best_verdict(tmp_path: Path, run: Run) -> None:
    crossed(0, 1.0, 0.0).to_csv(tmp_path / "log.csv", index=False)
    log = ["evaluate", str(tmp_path / "log.csv"), "--outcome", "y", "--prompt", "prompt"]
    for more, level in (["--group", "reader"], "caution"), ([], "trustworthy"):
        out = tmp_path / level
        assert run([*log, *more, "--out", str(out)]).exit_code == 0
        (row,) = pd.read_csv(out / "estimates.csv").to_dict("records")
        assert row["verdict"] == level
        told = (out / "diagnostics.json").read_text(encoding="utf-8")
        assert ("standard errors count the clusters of --group alone" in told) is bool(more)


@pytest.mark.parametrize("group", [None, "arm"])
def test_arms_of_a_test(tmp_path: Path, group: str | None) -> None:
    rng = np.random.default_rng(0)
    test = np.arange(400) // 4
    trials = rng.integers(0, 500, 400)
    clicks = rng.binomial(trials, rng.beta(2, 20, 100)[test])
    frame = pd.DataFrame({"text": [f"arm {i}" for i in range(400)], "arm": np.arange(400)})
    frame = frame.assign(clicks=clicks, shown=trials, test=[f"t{i}" for i in test])
    options = {"clicks": "clicks", "impressions": "shown", "group": group}
    (note,) = notes(frame, tmp_path, **options)
    called = "Clusters" if group else "Arms"
    assert note.startswith(f"{called} of equal 'test' have correlated outcomes (100 labels, 4.0 ")
    y = np.tile([1.0, 0.0], 400)
    s = np.stack([clicks, trials - clicks], axis=1).ravel()
    fits = [
        IPW().fit(np.zeros((800, 1)), y, sample_weight=s, groups=np.repeat(g, 2)).se_
        for g in (test, np.arange(400))
    ]
    assert f"{fits[0] / fits[1]:.2f} times as large" in note


# ------------------------------------------------------------------ files and cells
@pytest.mark.parametrize("name", ["log.csv", "log.jsonl", "log.parquet"])
def test_every_format_says_the_same(tmp_path: Path, name: str) -> None:
    frame = make(0.3)
    frame["reader"] = frame["reader"].str[1:].astype(int)
    frame.loc[:9, "reader"] = np.nan
    if name != "log.csv":
        frame["list"] = [[i] for i in range(len(frame))]
        frame["a.b"] = 1
    (note,) = notes(frame, tmp_path, name)
    assert "(398 labels, 5.0 rows each, 10 rows without one, intraclass" in note


def test_a_json_record_may_lack_the_column(tmp_path: Path) -> None:
    lines = make(0.3).to_dict("records")
    del lines[7]["reader"]
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    request = Request(str(path), outcome="y")
    note = cluster_note(unnamed_clusters(_read(request, {}), request, ()))
    assert "1 row without one" in note


def test_frequencies_are_repeated_rows(tmp_path: Path) -> None:
    frame = make(0.3)
    frame["copies"] = np.random.default_rng(0).integers(0, 4, len(frame))
    (weighted,) = notes(frame, tmp_path, weight="copies")
    X, s = np.zeros((len(frame), 1)), frame["copies"]
    se = [IPW().fit(X, frame["y"], sample_weight=s, groups=g).se_ for g in (frame["reader"], None)]
    assert f"{se[0] / se[1]:.2f} times as large" in weighted
    frame["reader"] = frame["row"] // 5
    frame.loc[::2, "copies"] = 0  # labels lose rows
    assert "'reader'" in notes(frame, tmp_path, weight="copies")[0]
    frame["copies"] = 0.1  # not even a row together: nothing to say, and no error
    assert notes(frame, tmp_path, weight="copies") == []


def test_several_columns_are_one_note_the_worst_first(tmp_path: Path) -> None:
    frame = make(0.3)
    number = frame["row"] // 5
    frame["name"] = [f"n{i}" for i in number]  # cuts the rows as reader does: told once
    (note,) = notes(frame, tmp_path)
    assert (note.count("of equal"), note.count("'reader'")) == (1, 1)
    for rows in (10, 15, 20):
        frame[f"of_{rows}"] = [f"g{i}" for i in frame["row"] // rows]
        frame["y"] += 0.3 * np.random.default_rng(rows).normal(size=2000)[frame["row"] // rows]
    (note,) = notes(frame, tmp_path)
    assert note.count("of equal") == 3
    assert note.index("of_20") < note.index("of_15") < note.index("of_10")


def test_it_is_in_every_output_and_its_name_is_harmless(tmp_path: Path, run: Run) -> None:
    hostile = "<b>who\x1b[31m</b> |*x*| $(ls)"
    make(0.3).rename(columns={"reader": hostile}).to_csv(tmp_path / "log.csv", index=False)
    out = tmp_path / "out"
    result = run(["evaluate", str(tmp_path / "log.csv"), "--outcome", "y", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "have correlated outcomes" in " ".join(result.stdout.split())
    assert "\x1b" not in result.stdout
    found = json.loads((out / "diagnostics.json").read_text(encoding="utf-8"))
    (note,) = found["notes"]
    assert note.startswith("Rows of equal '<b>who")
    assert "--group '<b>who" in note  # quoted for a shell
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "have correlated outcomes" in page
    assert "<b>who" not in page
    assert "\\<b\\>who" in (out / "report.md").read_text(encoding="utf-8")
    named = ["--group", hostile, "--overwrite"]
    run(["evaluate", str(tmp_path / "log.csv"), "--outcome", "y", "--out", str(out), *named])
    assert json.loads((out / "diagnostics.json").read_text(encoding="utf-8"))["notes"] == []


def test_a_fifth_more_is_a_caution_until_the_user_has_spoken(tmp_path: Path, run: Run) -> None:
    def verdict(*more: str) -> tuple[str, str]:
        done = run([
            "evaluate", str(tmp_path / "log.csv"), "--outcome", "y", "--out", str(tmp_path / "out"),
            "--overwrite", *more,
        ])  # fmt: skip
        assert done.exit_code == 0, done.output
        found = json.loads((tmp_path / "out" / "diagnostics.json").read_text(encoding="utf-8"))
        row = pd.read_csv(tmp_path / "out" / "estimates.csv").iloc[0]
        return row["verdict"], " ".join(found["notes"])

    make(0.3).to_csv(tmp_path / "log.csv", index=False)  # 1.5 times
    assert verdict()[0] == "caution"
    assert "--independent reader says so" in verdict()[1]
    assert verdict("--group", "reader") == ("trustworthy", "")
    assert verdict("--independent", "reader") == ("trustworthy", "")
    make(0.08, seed=1).to_csv(tmp_path / "log.csv", index=False)  # 1.16 times: a note
    said, note = verdict()
    assert said == "trustworthy"
    assert "correlated outcomes" in note
    done = run(["evaluate", str(tmp_path / "log.csv"), "--outcome", "y", "--out",
                str(tmp_path / "new"), "--independent", "raeder"])  # fmt: skip
    assert done.exit_code == 2
    assert "no such column; did you mean 'reader'" in done.stderr


def test_decimal_commas_are_fractions_and_no_labels(tmp_path: Path) -> None:
    frame = make(0.2)
    frame["share"] = np.round(frame["y"] / 3, 1)  # goes with the outcome, and is a number
    path = tmp_path / "log.csv"
    frame.to_csv(path, index=False, sep=";", decimal=",")
    request = Request(str(path), outcome="y", delimiter=";", decimal=",")
    said = cluster_note(unnamed_clusters(_read(request, {}), request, ()))
    assert "'reader'" in said
    assert "'share'" not in said
