"""The same rows give the same log from every format, in any number of chunks."""

from __future__ import annotations

import csv
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from causal_lm_opt.exceptions import DataError
from causal_lm_opt.logged import LoggedData

Write = Callable[..., Path]
INF = float("inf")
FORMATS = ("csv", "csv.gz", "tsv", "jsonl", "jsonl.gz", "json", "parquet")

AWKWARD = [
    "NA",
    "null",
    "None",
    "nan",
    "1e5",
    "007",
    "TRUE",
    "=1+1",
    "@sum(a1)",
    "  outer blanks  ",
    'a "quoted", comma\nnew line\r\nand tab\t.',
    "lone \r return",
    "\ufeffmark inside",
    "NUL \x00 and \u2028 separator",
    "na\u00efve \U0001f600 \u05e9\u05dc\u05d5\u05dd",
    ".",
]
N = len(AWKWARD)
TABLE: dict[str, list[Any]] = {
    "unused": ["x" * 50] * N,
    "reply": AWKWARD,
    "question": ["", "NA", *AWKWARD[2:]],
    "y": [0.1 * i - 0.3 for i in range(N)],
    "lp": [-0.1 - i for i in range(N)],
    "lp a": [-INF if i == 3 else -1e-3 * i for i in range(N)],
    "lp_b": [-700.5 - i for i in range(N)],
    "user": [f"0{i // 2}" for i in range(N)],
    "times": [float(i % 3 + 1) for i in range(N)],
    "age": [20.5 + i for i in range(N)],
    "country": ["NA", "007", *["DE"] * (N - 2)],
    "arm": ["x", "y"] * (N // 2),
}
COLUMNS: dict[str, Any] = {
    "text": "reply",
    "outcome": "y",
    "prompt": "question",
    "logp_logging": "lp",
    "logp_target": {"a": "lp a", "b": "lp_b"},
    "group": "user",
    "weight": "times",
    "covariates": ["age", "country"],
    "by": "arm",
}


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("chunk_rows", [1, 3, 1000])
def test_every_format_gives_the_rows_verbatim(write: Write, suffix: str, chunk_rows: int) -> None:
    path = write(suffix, TABLE)
    log = LoggedData.read(path, chunk_rows=chunk_rows, **COLUMNS)
    assert log.text == TABLE["reply"]
    assert log.prompt == TABLE["question"]
    assert log.source == str(path)
    for name, column in [("outcome", "y"), ("logp_logging", "lp"), ("sample_weight", "times")]:
        np.testing.assert_array_equal(getattr(log, name), TABLE[column])
    assert log.groups is not None
    assert log.by is not None
    assert log.groups.tolist() == TABLE["user"]
    assert log.by.tolist() == TABLE["arm"]
    assert log.logp_target is not None
    assert log.policies == ["a", "b"]
    np.testing.assert_array_equal(log.logp_target["a"], TABLE["lp a"])
    np.testing.assert_array_equal(log.logp_target["b"], TABLE["lp_b"])
    assert isinstance(log.X, pd.DataFrame)
    assert list(log.X) == ["text", "age", "country"]
    assert log.X["text"].tolist() == TABLE["reply"]
    assert log.X["country"].tolist() == TABLE["country"]
    np.testing.assert_array_equal(log.X["age"], TABLE["age"])
    assert log.fingerprint == LoggedData.from_pandas(pd.DataFrame(TABLE), **COLUMNS).fingerprint


def test_a_dataset_gives_the_same_log_and_respects_its_selection() -> None:
    datasets = pytest.importorskip("datasets")
    frame = pd.DataFrame(TABLE)
    whole = LoggedData.from_pandas(frame, **COLUMNS)
    data = datasets.Dataset.from_dict(TABLE)
    assert LoggedData.from_dataset(data, **COLUMNS).fingerprint == whole.fingerprint
    some = data.select([5, 2, 2, 9]).with_format("numpy", columns=["y"])
    log = LoggedData.from_dataset(some, chunk_rows=3, **COLUMNS)
    assert log.fingerprint == whole[[5, 2, 2, 9]].fingerprint
    stream = data.to_iterable_dataset()
    log = LoggedData.from_dataset(stream, chunk_rows=5, **COLUMNS)
    assert log.fingerprint == whole.fingerprint
    with pytest.raises(TypeError, match=r"splits \['test'\].*dataset\[split\]"):
        LoggedData.from_dataset(datasets.DatasetDict({"test": data}), **COLUMNS)


UNICODE = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
@given(
    rows=st.lists(
        st.tuples(UNICODE, st.floats(allow_nan=False, allow_infinity=False)),
        min_size=1,
        max_size=8,
    ),
    chunk_rows=st.integers(1, 9),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_unicode_text_survives(
    write: Write, suffix: str, rows: list[tuple[str, float]], chunk_rows: int
) -> None:
    table = {"t": [row[0] for row in rows], "y": [row[1] for row in rows]}
    path = write(suffix, table)
    log = LoggedData.read(path, text="t", outcome="y", chunk_rows=chunk_rows)
    assert log.text == table["t"]
    np.testing.assert_array_equal(log.outcome, table["y"])


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    for name, data in {"a.csv": b"t,y\nx,1\n", "a.jsonl": b'{"t": "x", "y": 1}\n'}.items():
        path = tmp_path / name
        path.write_bytes(b"\xef\xbb\xbf" + data)
        assert LoggedData.read(path, text="t", outcome="y").text == ["x"]


def test_csv_written_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "a.CSV"
    path.write_bytes(b'\r\nt,y\r\n 5" disk ,1\r\n\r\nb, 2.5 \r\n"""c""",-3e-2')
    with pytest.warns(UserWarning, match="no line end"):
        log = LoggedData.read(path, text="t", outcome="y")
    assert log.text == [' 5" disk ', "b", '"c"']
    assert log.outcome.tolist() == [1.0, 2.5, -0.03]
    path = tmp_path / "semicolon.csv"
    path.write_bytes(b"t;y\na,b;1\n")
    assert LoggedData.from_csv(path, text="t", outcome="y", delimiter=";").text == ["a,b"]


def test_decimal_commas(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("t;y;lp;age;note\n1,5;2,5;-1,25e1;30,5;1,5\nb;-3;-2;NA;x\n", encoding="utf-8")
    log = LoggedData.read(
        path, text="t", outcome="y", logp_logging="lp", covariates=["age", "note"], delimiter=";",
        decimal=",",
    )  # fmt: skip
    assert log.text == ["1,5", "b"]  # a text is no number
    assert log.outcome.tolist() == [2.5, -3.0]
    assert log.logp_logging is not None
    assert log.logp_logging.tolist() == [-12.5, -2.0]
    assert isinstance(log.X, pd.DataFrame)
    np.testing.assert_array_equal(log.X["age"], [30.5, np.nan])
    assert log.X["note"].tolist() == ["1,5", "x"]


@pytest.mark.parametrize("cell", ["1.234", "1.234,5", "1,2,3"])
def test_a_point_among_decimal_commas_is_no_number(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"t;y;z\na;2,5;1\nb;{cell};1\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"row 2 .*its decimal sign is ','.*as 1234,5"):
        LoggedData.read(path, text="t", outcome="y", delimiter=";", decimal=",")


def test_a_decimal_sign_is_for_delimited_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"t": "a", "y": 1}\n', encoding="utf-8")
    with pytest.raises(DataError, match="a decimal sign is for"):
        LoggedData.read(path, text="t", outcome="y", decimal=",")


def test_a_spreadsheets_first_line_tells_the_delimiter(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("sep=;\nt;y\nsep=;1\n", encoding="utf-8")
    log = LoggedData.from_csv(path, text="t", outcome="y", delimiter=";")
    assert (log.text, log.outcome.tolist()) == (["sep="], [1.0])
    with pytest.raises(DataError, match=r"its first line tells the delimiter ';'"):
        LoggedData.from_csv(path, text="t", outcome="y")


def test_fields_longer_than_the_csv_module_takes_by_default(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    long = "word " * 60_000
    before = csv.field_size_limit()
    path.write_text(f"t,y\n{long},1\n", encoding="utf-8")
    assert LoggedData.read(path, text="t", outcome="y").text == [long]
    assert csv.field_size_limit() >= before


def test_numbers_may_be_booleans_strings_or_nullable(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"t": "a", "y": true, "lp": -Infinity}\n{"t": "b", "y": "0.5", "lp": -2}\n',
        encoding="utf-8",
    )
    log = LoggedData.read(path, text="t", outcome="y", logp_target=["lp"])
    assert log.outcome.tolist() == [1.0, 0.5]
    assert log.logp_target is not None
    assert log.logp_target["lp"].tolist() == [-INF, -2.0]
    frame = pd.DataFrame({"t": ["a", "b"], "y": pd.array([1, 2], dtype="Int64")})
    assert LoggedData.from_pandas(frame, text="t", outcome="y").outcome.tolist() == [1.0, 2.0]


def test_labels_are_the_same_strings_whatever_their_type() -> None:
    big = 2**60 + 1
    for ids in ([7, big], ["7", str(big)], pd.array([7, big], dtype="Int64")):
        frame = pd.DataFrame({"t": ["a", "b"], "y": [1, 2], "id": ids})
        log = LoggedData.from_pandas(frame, text="t", outcome="y", group="id", by="id")
        assert log.groups is not None
        assert log.groups.tolist() == ["7", str(big)]
    frame["id"] = [1.0, 2.5]
    log = LoggedData.from_pandas(frame, text="t", outcome="y", by="id")
    assert log.by is not None
    assert log.by.tolist() == ["1", "2.5"]


def test_long_integer_labels_with_nulls_elsewhere_keep_their_digits(write: Write) -> None:
    big = 2**60 + 1
    path = write("parquet", {"t": ["a", "b"], "y": [1, 2], "id": [big, big - 1], "z": [None, 3]})
    log = LoggedData.read(path, text="t", outcome="y", group="id", covariates="z")
    assert log.groups is not None
    assert log.groups.tolist() == [str(big), str(big - 1)]
    assert isinstance(log.X, pd.DataFrame)
    np.testing.assert_array_equal(log.X["z"], [np.nan, 3.0])


@pytest.mark.parametrize("chunk_rows", [1, 2, 100])
def test_csv_covariates_are_numeric_where_every_cell_is_a_number(
    tmp_path: Path, chunk_rows: int
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "t,y,age,zip,mixed,none\na,1,30,01234,1,\nb,2,NA,90210,x,\nc,3,,00001,2,\n",
        encoding="utf-8",
    )
    names = ["age", "zip", "mixed", "none"]
    log = LoggedData.read(path, text="t", outcome="y", covariates=names, chunk_rows=chunk_rows)
    assert isinstance(log.X, pd.DataFrame)
    np.testing.assert_array_equal(log.X["age"], [30.0, np.nan, np.nan])
    assert log.X["zip"].tolist() == ["01234", "90210", "00001"]
    assert log.X["mixed"].tolist() == ["1", "x", "2"]
    assert log.X["none"].tolist() == ["", "", ""]


def test_strings_of_digits_stay_strings_where_the_file_has_types(write: Write) -> None:
    table = {"t": ["a", "b"], "y": [1, 2], "code": ["1", None]}
    for suffix in ("jsonl", "parquet"):
        log = LoggedData.read(write(suffix, table), text="t", outcome="y", covariates=["code"])
        assert isinstance(log.X, pd.DataFrame)
        assert log.X["code"][0] == "1"
        assert pd.isna(log.X["code"][1])
        rest = log[[1]].X
        assert isinstance(rest, pd.DataFrame)
        assert rest["code"].dtype == log.X["code"].dtype


def test_policies_named_by_a_list_by_a_mapping_and_by_one_name(write: Write) -> None:
    path = write("csv", TABLE)
    cases: list[tuple[Any, list[str]]] = [
        (["lp a", "lp_b"], ["lp a", "lp_b"]),
        ({"new": "lp_b"}, ["new"]),
        ("lp_b", ["lp_b"]),
    ]
    for given_as, names in cases:
        log = LoggedData.read(path, text="reply", outcome="y", logp_target=given_as)
        assert log.policies == names


def test_columns_not_named_cost_no_memory(tmp_path: Path) -> None:
    rows, wide = 400, "w" * 50_000  # 20 MB, of which less than 0.1 MB is asked for
    path = tmp_path / "wide.csv"
    with path.open("w", encoding="utf-8") as stream:
        stream.write("t,wide,y\n")
        for i in range(rows):
            stream.write(f"text {i},{wide},{i}\n")
    LoggedData.read(path, text="t", outcome="y")  # whatever is loaded once
    tracemalloc.start()
    log = LoggedData.read(path, text="t", outcome="y")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(log) == rows
    assert peak < 2_000_000


def test_memory_of_a_long_file_is_what_is_kept_plus_a_chunk(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    rows = 30_000
    path.write_text("t,y\n" + "".join(f"{i},{i}\n" for i in range(rows)), encoding="utf-8")

    def peak(chunk_rows: int) -> int:
        tracemalloc.start()
        LoggedData.read(path, text="t", outcome="y", chunk_rows=chunk_rows)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    assert peak(500) < 0.6 * peak(rows)
