"""Rows that trained a model are left out of its value; other logs are not touched."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from causal_lm_opt._run.own_rows import seen_rows, without_seen_rows
from causal_lm_opt._training_rows import (
    FILE,
    TrainingRows,
    plain_text,
    read_training_rows,
    write_training_rows,
)
from causal_lm_opt.exceptions import DataError
from causal_lm_opt.logged import LoggedData

N = 100
TEXTS = [f"Text number {i}" for i in range(N)]
USED = np.arange(N) < 70


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The folder of a model, without the model."""
    folder = tmp_path / "trained"
    folder.mkdir()
    write_training_rows(folder, [TrainingRows.of(TEXTS, USED)])
    return folder


def log_of(texts: list[str]) -> LoggedData:
    return LoggedData(text=texts, outcome=np.arange(len(texts), dtype=float), source="log.csv")


def test_the_same_rows_are_known_whatever_their_order(model: Path) -> None:
    for at in (np.arange(N), np.random.default_rng(0).permutation(N), np.arange(40, 90)):
        seen = seen_rows(str(model), [TEXTS[i] for i in at])
        np.testing.assert_array_equal(seen, USED[at])
    longer = seen_rows(str(model), TEXTS + [f"new {i}" for i in range(30)])
    assert longer.sum() == 70


def test_they_are_known_in_other_case_and_blanks_and_in_a_copied_folder(
    model: Path, tmp_path: Path
) -> None:
    copied = shutil.copytree(model, tmp_path / "my model")
    varied = [f"  {text.upper()}\n" if i % 2 else text for i, text in enumerate(TEXTS)]
    turned = np.random.default_rng(1).permutation(N)
    seen = seen_rows(str(copied), [varied[i] for i in turned])
    np.testing.assert_array_equal(seen, USED[turned])
    assert plain_text("\uff21  b") == "a b"


def test_the_rows_of_each_log_that_trained_a_model_are_known(model: Path) -> None:
    more = [f"A later text, {i}" for i in range(N)]
    later = TrainingRows.of(more, np.arange(N) >= 60)
    write_training_rows(model, [*read_training_rows(model), later])
    np.testing.assert_array_equal(seen_rows(str(model), TEXTS), USED)
    np.testing.assert_array_equal(seen_rows(str(model), more), np.arange(N) >= 60)
    assert seen_rows(str(model), TEXTS + more).sum() == 110


def test_the_run_s_rows_are_known_among_others_and_several_times(model: Path) -> None:
    more = [f"new {i}" for i in range(3 * N)]
    for texts in (more + TEXTS, [t for pair in zip(TEXTS, TEXTS, strict=True) for t in pair]):
        seen = seen_rows(str(model), texts)
        np.testing.assert_array_equal(seen, np.isin(texts, TEXTS[:70]))
    some = more + TEXTS[:30]  # few of the run's: another log that repeats some texts
    assert not seen_rows(str(model), some).any()


def test_few_texts_many_times_are_known_in_their_order_alone() -> None:
    few = [f"text {i % 5}" for i in range(N)]
    training = TrainingRows.of(few, USED)
    seen = training.among(few)
    assert seen is not None
    assert seen.sum() == 70
    assert training.among([f"text {i % 3}" for i in range(N)]) is None


def test_other_logs_and_other_folders_are_left_alone(model: Path, tmp_path: Path) -> None:
    other = [f"another {i}" for i in range(N)]
    assert not seen_rows(str(model), other).any()
    assert not seen_rows(str(tmp_path / "none"), TEXTS).any()
    log = log_of(other)
    assert without_seen_rows(log, {"f": str(model)}) == (log, [])


def test_what_a_folder_keeps_says_as_much_and_holds_no_text(model: Path) -> None:
    (kept,) = read_training_rows(model)
    np.testing.assert_array_equal(kept.used, USED)
    np.testing.assert_array_equal(kept.keys, TrainingRows.of(TEXTS, USED).keys)
    assert "number" not in (model / FILE).read_text(encoding="utf-8")
    write_training_rows(model.parent, [])
    assert not (model.parent / FILE).exists()


@pytest.mark.parametrize("damage", ["cut", "keys", "shape", "kind"])
def test_a_damaged_file_is_refused_and_not_read_as_no_rows(model: Path, damage: str) -> None:
    whole = json.loads((model / FILE).read_text(encoding="utf-8"))
    content = json.dumps(whole)[:-30] if damage == "cut" else ""
    if damage == "keys":
        whole["trainings"][0]["keys"] = "not base64!"
    if damage == "shape":
        whole["trainings"][0]["used"] = [[True, 5]]
    if damage == "kind":
        whole = [1]
    (model / FILE).write_text(content or json.dumps(whole), encoding="utf-8")
    with pytest.raises(DataError, match="which rows of a log trained the model"):
        seen_rows(str(model), TEXTS)


def test_the_rest_is_valued_and_told(model: Path) -> None:
    log, told = without_seen_rows(log_of(TEXTS), {"f": str(model)})
    assert log.text == TEXTS[70:]
    assert told == [
        "70 of the 100 rows trained or chose 'f': they are left out, and every policy is valued on "
        "the other 30 (parts.csv of its run says which part a row was in)."
    ]
    with pytest.raises(DataError, match="so that 10 are left"):
        without_seen_rows(log_of(TEXTS[:80]), {"f": str(model)})
