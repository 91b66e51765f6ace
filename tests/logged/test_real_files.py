"""Real experiments: what the reader gives is what the files hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causal_lm_opt.exceptions import DataError
from causal_lm_opt.logged import LoggedData

pytestmark = pytest.mark.real_data


def test_hong_kong(data_dir: Path) -> None:
    path = data_dir / "hong_kong_2019.csv"
    log = LoggedData.read(path, text="text", outcome="resp", covariates=["numtexts"], chunk_rows=99)
    frame = pd.read_csv(path)
    assert len(log) == 1983
    assert log.text == frame["text"].tolist()
    assert log.outcome.mean() == frame["resp"].mean()
    assert isinstance(log.X, pd.DataFrame)
    assert log.X["numtexts"].tolist() == frame["numtexts"].tolist()
    whole = LoggedData.read(path, text="text", outcome="resp", covariates=["numtexts"])
    assert log.fingerprint == whole.fingerprint
    same = LoggedData.from_pandas(frame, text="text", outcome="resp", covariates=["numtexts"])
    assert log.fingerprint == same.fingerprint


def test_upworthy_from_counts(data_dir: Path) -> None:
    path = data_dir / "upworthy_headlines.parquet"
    frame = pd.read_parquet(path)
    frame = frame[~frame["possibly_not_random"]]
    test = frame["clickability_test_id"]
    frame = frame.assign(block=test + "/" + frame["eyecatcher_id"].fillna("none"))
    log = LoggedData.from_counts(
        frame,
        text="headline",
        clicks="clicks",
        impressions="impressions",
        group="clickability_test_id",
        by="block",
    )
    assert log.sample_weight is not None
    assert log.groups is not None
    assert log.sample_weight.sum() == frame["impressions"].sum()
    assert log.outcome @ log.sample_weight == frame["clicks"].sum()
    assert set(log.groups) == set(test)
    clicked = frame["clicks"] > 0
    assert len(log) == clicked.sum() + (frame["clicks"] < frame["impressions"]).sum()
    parts = log.split((0.8, 0.2), random_state=0)
    blocks = [set(part.groups) for part in parts if part.groups is not None]
    assert len(blocks) == 2
    assert not blocks[0] & blocks[1]


def test_upworthy_counts_straight_from_the_file(data_dir: Path) -> None:
    log = LoggedData.read(
        data_dir / "upworthy_headlines.parquet",
        text="headline",
        clicks="clicks",
        impressions="impressions",
        group="clickability_test_id",
        chunk_rows=1000,
    )
    assert log.sample_weight is not None
    assert np.average(log.outcome, weights=log.sample_weight) == pytest.approx(0.0157, abs=0.005)
    with pytest.raises(DataError, match=r"column 'eyecatcher_id': the label is missing"):
        LoggedData.read(
            data_dir / "upworthy_headlines.parquet",
            text="headline",
            clicks="clicks",
            impressions="impressions",
            group="eyecatcher_id",
        )


def test_llm_persuasion(data_dir: Path) -> None:
    path = data_dir / "llm_persuasion_messages.csv.gz"
    log = LoggedData.read(
        path, text="text", outcome="response_word_count", group="issue", by="model"
    )
    frame = pd.read_csv(path, keep_default_na=False, lineterminator="\n")
    assert len(log) == 511
    assert log.by is not None
    assert set(log.by) == set(frame["model"])
    assert log.outcome.sum() == frame["response_word_count"].sum()
    assert log.text == frame["text"].tolist()
    # People who saw no message have no text: the error says which row is the first of them.
    people = pd.read_csv(data_dir / "llm_persuasion_outcomes.csv.gz")
    joined = people.merge(frame[["message_id", "text"]], on="message_id", how="left")
    first = int(np.argmax(joined["text"].isna())) + 1
    with pytest.raises(DataError, match=f"DataFrame, row {first}, column 'text': is missing"):
        LoggedData.from_pandas(joined, text="text", outcome="dv_response_mean")
    shown = joined.dropna(subset="text")
    seen = LoggedData.from_pandas(
        shown, text="text", outcome="dv_response_mean", covariates=["party"], group="message_id"
    )
    assert len(seen) == (people["message_id"] != 0).sum()
    assert seen.groups is not None
    assert seen.groups[0] == str(shown["message_id"].iloc[0])
