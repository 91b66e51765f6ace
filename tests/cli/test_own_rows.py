"""Rows that trained a model are left out of its value; other logs are not touched."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from causal_lm_opt._run.own_rows import seen_rows, without_seen_rows
from causal_lm_opt._validation import content_keys
from causal_lm_opt.exceptions import DataError
from causal_lm_opt.logged import LoggedData

N = 100
TEXTS = [f"text {i}" for i in range(N)]
PARTS = [["train", 50], ["select", 20], ["report", 30]]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run's own files, without its models."""
    keys = content_keys(np.array(TEXTS, dtype=object))
    (tmp_path / "rows.keys").write_bytes(keys.astype("<u8").tobytes())
    (tmp_path / "optimizer.json").write_text(
        json.dumps({"parts": PARTS, "start_epochs": 1}), encoding="utf-8"
    )
    return tmp_path


def log_of(texts: list[str]) -> LoggedData:
    return LoggedData(text=texts, outcome=np.arange(len(texts), dtype=float), source="log.csv")


def test_the_same_rows_are_known_whatever_their_order(run: Path) -> None:
    trained, start = str(run / "trained"), str(run / "start")
    expected = np.arange(N) < 70
    for at in (np.arange(N), np.random.default_rng(0).permutation(N), np.arange(40, 90)):
        seen = seen_rows(trained, [TEXTS[i] for i in at])
        assert seen is not None
        np.testing.assert_array_equal(seen, expected[at])
    first = seen_rows(start, TEXTS)
    assert first is not None
    assert first.sum() == 50  # the start was not chosen by the select rows
    record = {"parts": PARTS, "start_epochs": 0}  # a start that the log's texts did not tune
    (run / "optimizer.json").write_text(json.dumps(record), encoding="utf-8")
    assert seen_rows(start, TEXTS) is None
    longer = seen_rows(trained, TEXTS + [f"new {i}" for i in range(30)])
    assert longer is not None
    assert longer.sum() == 70


def test_the_run_s_rows_are_known_among_others_and_several_times(run: Path) -> None:
    more = [f"new {i}" for i in range(3 * N)]
    for texts in (more + TEXTS, [t for pair in zip(TEXTS, TEXTS, strict=True) for t in pair]):
        seen = seen_rows(str(run / "trained"), texts)
        assert seen is not None
        np.testing.assert_array_equal(seen, np.isin(texts, TEXTS[:70]))
    some = more + TEXTS[:30]  # few of the run's: another log that repeats some texts
    assert seen_rows(str(run / "trained"), some) is None


def test_few_texts_many_times_are_known_in_their_order_alone(run: Path) -> None:
    few = [f"text {i % 5}" for i in range(N)]
    (run / "rows.keys").write_bytes(content_keys(np.array(few, dtype=object)).tobytes())
    seen = seen_rows(str(run / "trained"), few)
    assert seen is not None
    assert seen.sum() == 70
    assert seen_rows(str(run / "trained"), [f"text {i % 3}" for i in range(N)]) is None


def test_other_logs_and_other_folders_are_left_alone(run: Path, tmp_path: Path) -> None:
    other = [f"another {i}" for i in range(N)]
    assert seen_rows(str(run / "trained"), other) is None
    assert seen_rows(str(run / "elsewhere"), TEXTS) is None
    assert seen_rows(str(tmp_path / "none" / "trained"), TEXTS) is None
    log = log_of(other)
    assert without_seen_rows(log, {"f": str(run / "trained")}) == (log, [])
    (run / "rows.keys").write_bytes(b"damaged")
    assert seen_rows(str(run / "trained"), TEXTS) is None


def test_the_rest_is_valued_and_told(run: Path) -> None:
    log, told = without_seen_rows(log_of(TEXTS), {"f": str(run / "trained")})
    assert log.text == TEXTS[70:]
    assert told == [
        "70 of the 100 rows trained or chose 'f': they are left out, and every policy is valued on "
        "the other 30 (parts.csv of its run says which part a row was in)."
    ]
    with pytest.raises(DataError, match="so that 10 are left"):
        without_seen_rows(log_of(TEXTS[:80]), {"f": str(run / "trained")})
