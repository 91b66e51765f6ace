"""LoggedData itself: what fit takes, rows and parts of it, counts, its fingerprint."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from causal_lm_opt.logged import LoggedData


def a_log(**change: Any) -> LoggedData:
    fields: dict[str, Any] = {
        "text": ["a", "b", "c", "d", "e", "f"],
        "outcome": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
        "prompt": ["", "p", "p", "q", "q", "q"],
        "logp_logging": [-1.0, -2.0, -3.0, -1.0, -2.0, -3.0],
        "logp_target": pd.DataFrame({"one": [-1.0] * 6, "two": [-2.0] * 6}, index=range(5, 11)),
        "groups": ["u", "u", "v", "v", "w", "w"],
        "sample_weight": [1, 2, 3, 1, 2, 3],
        "covariates": pd.DataFrame({"age": range(6), "sex": list("mfmfmf")}),
        "by": [1, 1, 1, 2, 2, 2],
    }
    return LoggedData(**(fields | change))


def test_fit_params_holds_what_there_is() -> None:
    log = a_log()
    params = log.fit_params()
    assert set(params) == {"logp_target", "logp_logging", "groups", "sample_weight", "by"}
    assert list(params["logp_target"]) == ["one", "two"]
    assert list(params["logp_target"].index) == list(range(6))
    assert list(log.fit_params(["two"])["logp_target"]) == ["two"]
    assert list(log.fit_params("two")["logp_target"]) == ["two"]
    assert list(log.fit_params(["two", "one"])["logp_target"]) == ["two", "one"]
    assert set(log.fit_params([])) == {"groups", "sample_weight", "by"}
    assert LoggedData(text=["a"], outcome=np.ones(1)).fit_params() == {}
    assert set(a_log(logp_target=None).fit_params()) == {
        "logp_logging",
        "groups",
        "sample_weight",
        "by",
    }
    with pytest.raises(ValueError, match=r"no policy 'tow'.*\['one', 'two'\]; did you mean 'two'"):
        log.fit_params(["tow"])
    with pytest.raises(ValueError, match="it has none"):
        a_log(logp_target=None).fit_params("one")


def test_prompts_are_the_clusters_where_no_groups_are_named() -> None:
    own = a_log(groups=None).fit_params()["groups"]
    assert own.tolist() == ["(no prompt)", "p", "p", "q", "q", "q"]
    assert a_log().fit_params()["groups"].tolist() == ["u", "u", "v", "v", "w", "w"]
    assert "groups" not in a_log(groups=None, prompt=["p"] * 6).fit_params()
    arms = pd.DataFrame({"t": ["a", "b", "c"], "q": ["1", "1", "2"], "clicks": 1, "views": 3})
    counts = {"text": "t", "clicks": "clicks", "impressions": "views"}
    asked = LoggedData.from_counts(arms, prompt="q", **counts).fit_params()["groups"]
    assert asked.tolist() == ["1", "1", "1", "1", "2", "2"]
    alone = LoggedData.from_counts(arms.assign(q="1"), prompt="q", **counts).fit_params()["groups"]
    assert alone.tolist() == ["1", "1", "2", "2", "3", "3"]


def test_x_is_the_texts_or_a_frame() -> None:
    assert a_log(covariates=None).X == ["a", "b", "c", "d", "e", "f"]
    frame = a_log().X
    assert isinstance(frame, pd.DataFrame)
    assert frame.dtypes["age"] == np.float64
    assert list(frame) == ["text", "age", "sex"]


def test_it_is_frozen_and_keeps_no_hold_on_the_callers_arrays() -> None:
    outcome, text = np.arange(2.0), ["a", "b"]
    log = LoggedData(text=text, outcome=outcome)
    outcome[0], text[0] = 9.0, "z"
    assert log.outcome[0] == 0.0
    assert log.text[0] == "a"
    assert outcome.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        log.outcome[0] = 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        log.source = "other"  # type: ignore[misc]
    frame = a_log().X
    assert isinstance(frame, pd.DataFrame)
    frame.loc[0, "age"] = 99.0
    assert a_log().X["age"][0] == 0.0  # type: ignore[call-overload]


def test_rows_of_it() -> None:
    log = a_log()
    some = log[[4, 0, 0]]
    assert len(some) == 3
    assert some.text == ["e", "a", "a"]
    assert some.prompt == ["q", "", ""]
    assert some.outcome.tolist() == [4.0, 0.0, 0.0]
    assert some.groups is not None
    assert some.groups.tolist() == ["w", "u", "u"]
    assert some.covariates is not None
    assert some.covariates["sex"].tolist() == ["m", "m", "m"]
    assert list(some.covariates.index) == [0, 1, 2]
    assert log[-2:].text == ["e", "f"]
    assert log[np.array([-1])].text == ["f"]
    assert log[log.outcome > 3].text == ["e", "f"]
    assert log.subset(log.outcome > 3).fingerprint == log[[4, 5]].fingerprint
    for wrong in (3, "a", [1.0], [[0], [1]]):
        with pytest.raises(TypeError, match="index a log with"):
            log[wrong]
    with pytest.raises(IndexError):
        log[[6]]
    for nothing in (np.array([], dtype=int), slice(0, 0)):
        with pytest.raises(ValueError, match="at least one"):
            log[nothing]
    with pytest.raises(ValueError, match="at least one"):
        log[[]]
    with pytest.raises(ValueError, match="at least one"):
        log.subset(np.zeros(6, dtype=bool))
    with pytest.raises(ValueError, match=r"mask must be boolean of shape \(6,\)"):
        log.subset(np.zeros(5, dtype=bool))
    with pytest.raises(ValueError, match=r"mask must be boolean"):
        log.subset([1, 0, 1, 0, 1, 0])


@given(
    groups=st.lists(st.integers(0, 9), min_size=10, max_size=60),
    shares=st.sampled_from([(0.5, 0.5), (0.7, 0.3), (1.0,)]),
    seed=st.integers(0, 5),
)
def test_a_split_is_a_partition_that_respects_groups(
    groups: list[int], shares: tuple[float, ...], seed: int
) -> None:
    n, distinct = len(groups), len(set(groups))
    text = [str(i) for i in range(n)]
    log = LoggedData(text=text, outcome=np.arange(float(n)), groups=np.array(groups))
    if distinct < 2 * len(shares):
        return
    parts = log.split(shares, random_state=seed)
    assert sorted(t for part in parts for t in part.text) == sorted(text)
    members = [set(part.groups) for part in parts if part.groups is not None]
    assert sum(map(len, members)) == distinct == len(set().union(*members))
    assert all(abs(len(m) - s * distinct) <= 1 for m, s in zip(members, shares, strict=True))
    again = log.split(shares, random_state=seed)
    assert [part.text for part in again] == [part.text for part in parts]
    assert all(part.text == sorted(part.text, key=int) for part in parts)
    # The same groups go together whatever the order of the rows.
    turned = log[::-1].split(shares, random_state=seed)
    assert [set(part.text) for part in turned] == [set(part.text) for part in parts]


def test_a_split_without_groups_and_by_whole_numbers() -> None:
    log = a_log(groups=None)
    assert [len(part) for part in log.split([4, 1, 1], random_state=1)] == [4, 1, 1]
    first, second = log.split((0.5, 0.5), random_state=np.random.default_rng(0))
    assert len(first) == len(second) == 3
    rows = {tuple(log.split((0.5, 0.5), random_state=seed)[0].text) for seed in range(20)}
    assert len(rows) > 5
    assert [len(part) for part in a_log().split([1, 2], random_state=1)] == [2, 4]
    for sizes, message in [
        ((0.5, 0.4), "sum to 0.9"),
        ((4, 3), "sum to 7"),
        ((1.5, -0.5), "positive"),
        ((), "positive"),
        ((float("nan"), 0.5), "positive"),
        ((0.99, 0.01), "leave a part empty"),
    ]:
        with pytest.raises(ValueError, match=message):
            log.split(sizes, random_state=0)


def test_counts_mean_what_repeating_the_rows_means() -> None:
    arms = pd.DataFrame(
        {"h": ["A", "B", "C", "D"], "k": [2, 0, 3, 0], "n": [5, 4, 3, 0], "lp": [-1, -2, -1, -1]}
    )
    log = LoggedData.from_counts(arms, text="h", clicks="k", impressions="n", logp_logging="lp")
    assert log.text == ["A", "A", "B", "C"]
    assert log.outcome.tolist() == [1, 0, 0, 1]
    assert log.groups is not None
    assert log.groups.tolist() == ["1", "1", "2", "3"]
    assert log.logp_logging is not None
    assert log.logp_logging.tolist() == [-1, -1, -2, -1]
    assert log.sample_weight is not None
    repeated = np.repeat(log.outcome, log.sample_weight.astype(int))
    assert repeated.size == arms["n"].sum()
    assert repeated.sum() == arms["k"].sum()
    assert np.average(log.outcome, weights=log.sample_weight) == repeated.mean()


def test_counts_keep_a_group_column_and_work_from_files(tmp_path: Path) -> None:
    arms = pd.DataFrame({"h": ["A", "B"], "k": [2, 1], "n": [5, 4], "test": ["s", "s"]})
    columns: dict[str, Any] = {"text": "h", "clicks": "k", "impressions": "n", "group": "test"}
    log = LoggedData.from_counts(arms, **columns)
    assert log.groups is not None
    assert log.groups.tolist() == ["s"] * 4
    path = tmp_path / "arms.csv"
    arms.to_csv(path, index=False)
    for chunk_rows in (1, 10):
        same = LoggedData.read(path, chunk_rows=chunk_rows, **columns)
        assert same.fingerprint == log.fingerprint
    with pytest.raises(ValueError, match="not both"):
        LoggedData.from_counts(arms, outcome="k", **columns)  # type: ignore[call-arg]


def test_fingerprint_changes_with_any_content_and_only_with_content() -> None:
    log = a_log()
    assert log.fingerprint == a_log(source="elsewhere").fingerprint
    assert len(log.fingerprint) == 64
    int(log.fingerprint, 16)
    target = pd.DataFrame({"one": [-1.0] * 6, "2": [-2.0] * 6})
    changes: list[dict[str, Any]] = [
        {"text": ["a", "b ", "c", "d", "e", "f"]},
        {"outcome": [0.0, 1.0, 2.0, 3.0, 4.0, 5.5]},
        {"prompt": None},
        {"prompt": ["p", "", "p", "q", "q", "q"]},
        {"logp_logging": None},
        {"logp_target": target},
        {"groups": ["u", "u", "v", "v", "w", "x"]},
        {"groups": None, "by": None},
        {"sample_weight": None},
        {"covariates": None},
        {"covariates": pd.DataFrame({"age": range(6), "sex": ["m", "f", "m", "f", "m", None]})},
        {"covariates": pd.DataFrame({"Age": range(6), "sex": list("mfmfmf")})},
        {"by": None},
    ]
    prints = {a_log(**change).fingerprint for change in changes} | {log.fingerprint}
    assert len(prints) == len(changes) + 1
    shifted = LoggedData(text=["ab", "c"], outcome=np.zeros(2))
    assert shifted.fingerprint != LoggedData(text=["a", "bc"], outcome=np.zeros(2)).fingerprint
    minus = LoggedData(text=["ab", "c"], outcome=np.array([-0.0, 0.0]))
    assert shifted.fingerprint == minus.fingerprint


def test_repr_is_short_whatever_the_texts() -> None:
    log = LoggedData(
        text=["x" * 10**6],
        outcome=np.ones(1),
        logp_target=pd.DataFrame({f"policy {i}" * 30: [-1.0] for i in range(200)}),
        source="f" * 500,
    )
    assert len(repr(log)) < 300
    assert "+197" in repr(log)
    assert repr(a_log()) == (
        "LoggedData(n=6, source='arrays', prompt, logp_logging, groups, sample_weight, by, "
        "logp_target=['one', 'two'], covariates=['age', 'sex'])"
    )


def test_it_pickles_and_copies() -> None:
    log = a_log()
    assert pickle.loads(pickle.dumps(log)).fingerprint == log.fingerprint
    assert copy.deepcopy(log).fingerprint == log.fingerprint
    assert dataclasses.replace(log, by=None).by is None
