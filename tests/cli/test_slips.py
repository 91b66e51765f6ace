"""Notes on what may be slips of the pen; and none where nothing is odd."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from causal_lm_opt._run.slips import odd_cells
from causal_lm_opt.logged import LoggedData

RNG = np.random.default_rng(0)
CLICKS = RNG.integers(0, 2, 300).astype(float)


def said(outcome: np.ndarray, texts: list[str] | None = None) -> list[str]:
    texts = [f"text {i}" for i in range(len(outcome))] if texts is None else texts
    return odd_cells(LoggedData(text=texts, outcome=outcome, source="log.csv"))


def test_a_number_among_zeros_and_ones_is_told() -> None:
    odd = CLICKS.copy()
    odd[[5, 9, 17]] = [11.0, -3.0, 11.0]
    (note,) = said(odd)
    assert "all outcomes are 0 or 1 but -3, 11 (2 times), of 300" in note


@pytest.mark.parametrize("outcome", [
    CLICKS, RNG.normal(size=300), RNG.poisson(0.3, 300).astype(float),
    np.append(np.zeros(299), 11.0), np.append(CLICKS, RNG.normal(size=4)),
], ids=["clicks", "numbers", "counts", "no ones", "several"])  # fmt: skip
def test_other_outcomes_are_left_alone(outcome: np.ndarray) -> None:
    assert said(outcome) == []


def test_texts_of_blanks_are_counted() -> None:
    texts = [f"text {i}" for i in range(298)] + [" ", "\t \n"]
    (note,) = said(CLICKS, texts)
    assert "2 of the 300 texts hold nothing but blanks" in note


@pytest.mark.parametrize(("value", "told"), [(-99.0, True), (-999.0, True), (-99.5, False),
                                             (-12.0, False), (-np.inf, False)])  # fmt: skip
def test_a_round_log_probability_far_below_the_others_is_told(value: float, told: bool) -> None:
    logp = pd.DataFrame({"new": RNG.uniform(-9.0, -3.0, 300)})
    logp.iloc[7, 0] = value
    texts = [f"text {i}" for i in range(300)]
    logging = RNG.uniform(-9.0, -3.0, 300)
    log = LoggedData(
        text=texts, outcome=CLICKS, logp_logging=logging, logp_target=logp, source="log.csv"
    )
    notes = odd_cells(log)
    assert bool(notes) == told
    if told:
        assert f"1 of the 300 log-probabilities of policy 'new' is {value:g}" in notes[0]


def test_texts_that_differ_in_blanks_are_counted() -> None:
    texts = ["Join us.", "Join  us.", "join us.", "Stay."] * 75
    (note,) = said(CLICKS, texts)
    assert "2 of the 4 distinct texts differ from another in case or blanks alone" in note
    assert "'Join us.'" in note


@pytest.mark.parametrize(("rows", "told"), [([7], True), ([7, 8], True), (range(60), False)])
def test_a_row_whose_text_has_another_log_probability_elsewhere_is_named(rows, told) -> None:
    texts = [f"text {i % 20}" for i in range(300)]
    logp = np.repeat([-3.0 - 0.1 * np.arange(20)], 15, axis=0).ravel()
    logp[list(rows)] = -19.7
    log = LoggedData(text=texts, outcome=CLICKS, logp_logging=logp, source="log.csv")
    notes = odd_cells(log)
    assert bool(notes) == told
    if told:
        assert notes[0].startswith("log.csv, row 8")
        assert "is -19.7, that of the other 14 rows of its text -3.7" in notes[0]


def test_rows_without_a_prompt_are_told() -> None:
    prompts = ["Why?", "", " ", "How?"] * 10
    texts = [f"text {i}" for i in range(40)]
    log = LoggedData(text=texts, outcome=CLICKS[:40], prompt=prompts, source="log.csv")
    (note,) = odd_cells(log)
    assert note.startswith("log.csv: 20 of the 40 rows have no prompt, and count as answers to one")
