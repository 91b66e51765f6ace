"""Rows that trained a model are left out of its value; other logs are not touched."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from causal_lm_opt._run.own_rows import (
    lost_rows,
    models_of_prompts,
    seen_rows,
    unsure_rows,
    without_seen_rows,
)
from causal_lm_opt._training_rows import (
    FILE,
    MARK,
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
    more = [f"new {i}" for i in range(30 * N)]
    doubled = [t for pair in zip(TEXTS, TEXTS, strict=True) for t in pair]
    few = np.random.default_rng(2).permutation([*more, *TEXTS[:30]]).tolist()
    for texts in (more + TEXTS, doubled, TEXTS + TEXTS, few):
        np.testing.assert_array_equal(seen_rows(str(model), texts), np.isin(texts, TEXTS[:70]))


@pytest.mark.parametrize("size", [5, N])
def test_rows_that_were_dropped_or_put_between_move_no_other(size: int) -> None:
    """Of few texts, each many times, too: runs of rows say where each stands."""
    rng = np.random.default_rng(3)
    texts = [f"text {i}" for i in (rng.integers(0, size, 900) if size < N else np.arange(900))]
    used = rng.random(900) < 0.7
    training = TrainingRows.of(texts, used)
    np.testing.assert_array_equal(training.among(texts), used)
    kept = np.delete(np.arange(900), [50, 51, 400, 812])
    np.testing.assert_array_equal(training.among([texts[i] for i in kept]), used[kept])
    with_new = [*texts[:300], "new", "newer", *texts[300:]]
    expected = [*used[:300], False, False, *used[300:]]
    np.testing.assert_array_equal(training.among(with_new), expected)


def test_few_texts_many_times_are_known_in_their_order_alone() -> None:
    rng = np.random.default_rng(4)
    few = [f"text {i}" for i in rng.integers(0, 5, N)]
    training = TrainingRows.of(few, USED)
    np.testing.assert_array_equal(training.among(few), USED)
    other = [f"text {i}" for i in rng.integers(0, 5, N)]
    assert not training.among(other).any()
    assert training.unsure(other) == 1.0  # nothing tells
    assert training.unsure(few) == 0.0


def test_rows_of_which_nothing_tells_are_a_caution(model: Path) -> None:
    rng = np.random.default_rng(6)
    few = [f"text {i}" for i in rng.integers(0, 5, N)]
    write_training_rows(model, [TrainingRows.of(few, USED)])
    log = log_of([few[i] for i in rng.permutation(N)])
    assert without_seen_rows(log, {"f": str(model)}) == (log, [])
    (why,) = unsure_rows(log, {"f": str(model)}).values()
    assert "100% of the rows hold texts that trained this model" in why
    assert unsure_rows(log_of(few), {"f": str(model)}) == {}
    assert unsure_rows(log_of([f"new {i}" for i in range(N)]), {"f": str(model)}) == {}


def test_a_folder_that_lost_its_list_of_rows_is_a_caution(model: Path) -> None:
    assert lost_rows({"f": str(model)}) == {}
    (model / "config.json").write_text(json.dumps({"model_type": "gpt2", MARK: FILE}))
    assert lost_rows({"f": str(model)}) == {}
    (model / FILE).unlink()
    (why,) = lost_rows({"f": str(model)}).values()
    assert "this value flatters" in why
    for other in ("{}", "no json", "[]"):
        (model / "config.json").write_text(other)
        assert lost_rows({"f": str(model)}) == {}


def test_a_model_of_prompts_is_known_where_the_log_names_none(model: Path) -> None:
    log = log_of(TEXTS)
    assert models_of_prompts(log, {"f": str(model)}) == {}
    write_training_rows(model, [TrainingRows.of(TEXTS, USED, prompts=["Why?", "How?"] * (N // 2))])
    assert list(models_of_prompts(log, {"f": str(model)})) == ["f"]
    assert "--prompt COL" in models_of_prompts(log, {"f": str(model)})["f"]
    asked = LoggedData(text=TEXTS, outcome=np.ones(N), prompt=["Why?", "How?"] * (N // 2))
    assert models_of_prompts(asked, {"f": str(model)}) == {}
    write_training_rows(model, [TrainingRows.of(TEXTS, USED)])
    assert "without prompts" in models_of_prompts(asked, {"f": str(model)})["f"]
    write_training_rows(model, [TrainingRows.of(TEXTS, USED, prompts=["Why?", "How?"] * (N // 2))])
    kept = json.loads((model / FILE).read_text())
    del kept["trainings"][0]["prompts"]  # as files of earlier versions, and of still earlier ones
    (model / FILE).write_text(json.dumps(kept))
    (read,) = read_training_rows(model)
    assert read.prompted
    assert read.prompts is None
    np.testing.assert_array_equal(read.among(TEXTS, ["Else?"] * N), USED)  # by text alone
    del kept["trainings"][0]["prompted"]
    (model / FILE).write_text(json.dumps(kept))
    assert not read_training_rows(model)[0].prompted


def asked_and_answered(seed: int, n: int) -> tuple[list[str], list[str]]:
    """Rows of 60 prompts, each with one of 40 replies: 2,400 pairs of texts that are common."""
    rng = np.random.default_rng([9, seed])
    asked, reply = rng.integers(0, 60, n), rng.integers(0, 40, n)
    return [f"Reply {i}." for i in reply], [f"Question {i}?" for i in asked]


def test_a_fresh_log_of_the_same_few_replies_is_no_training_log() -> None:
    """Rows are told by prompt and text: of texts alone nothing would tell them apart."""
    texts, prompts = asked_and_answered(0, 600)
    used = np.arange(600) < 400
    training = TrainingRows.of(texts, used, prompts=prompts)
    np.testing.assert_array_equal(training.among(texts, prompts), used)
    assert training.unsure(texts, prompts) == 0.0
    for seed in range(1, 6):
        fresh = asked_and_answered(seed, 600)
        assert training.unsure(*fresh) < 0.5
        assert not training.among(*fresh).any()  # no row is left out by what it says
        assert training.unsure(fresh[0]) == 1.0
    at = np.random.default_rng(1).permutation(600)
    shuffled = [texts[i] for i in at], [prompts[i] for i in at]
    told = training.among(*shuffled)
    assert (told == used[at]).mean() > 0.9
    in_other_words = [f"{p} Please tell me." for p in prompts]
    np.testing.assert_array_equal(training.among(texts, in_other_words), used)


@pytest.mark.parametrize("size", [2, 3, 8])
def test_two_logs_of_very_few_texts_share_no_run_by_chance(size: int) -> None:
    """Of two texts there are 4,096 runs of twelve: as many as a log has rows."""
    share = np.r_[0.7, np.full(size - 1, 0.3 / (size - 1))]
    for seed in range(20):
        rng = np.random.default_rng([10, seed])
        logs = [[f"text {i}" for i in rng.choice(size, 1500, p=share)] for _ in range(2)]
        training = TrainingRows.of(logs[0], np.arange(1500) < 1000)
        assert not training.among(logs[1]).any()
        np.testing.assert_array_equal(training.among(logs[0]), np.arange(1500) < 1000)


def test_what_everybody_writes_is_no_sign_of_the_same_log() -> None:
    """Two logs in which nearly all rows hold the same text."""
    rng = np.random.default_rng(5)
    first, second = (
        ["No message." if rng.random() < 0.96 else f"{name} {i}" for i in range(1000)]
        for name in ("first", "second")
    )
    training = TrainingRows.of(first, np.arange(1000) < 700)
    assert not training.among(second).any()
    pause = ["No message."] * 12  # a run of its own in either log
    apart = TrainingRows.of([*TEXTS, *pause, *TEXTS[::-1]], np.ones(2 * N + 12, dtype=bool))
    assert not apart.among([f"new {i}" for i in range(N)] + pause).any()
    said_once = TrainingRows.of(["Yes.", *TEXTS], np.ones(N + 1, dtype=bool))
    assert not said_once.among(["Yes.", "No."] * 200).any()


def test_no_rows_and_fewer_than_a_run(model: Path) -> None:
    assert seen_rows(str(model), []).shape == (0,)
    np.testing.assert_array_equal(seen_rows(str(model), TEXTS[66:73]), USED[66:73])


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
        "70 of the 100 rows hold texts that trained or chose 'f': they are left out, and every "
        "policy is valued on the other 30 (parts.csv in the folder of its training says which part "
        "each row was in)."
    ]
    with pytest.raises(DataError, match="so that 10 are left"):
        without_seen_rows(log_of(TEXTS[:80]), {"f": str(model)})
