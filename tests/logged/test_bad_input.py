"""Every bad input is one clear error that names the file, the row and the column."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from causal_lm_opt.exceptions import DataError
from causal_lm_opt.logged import LoggedData

Write = Callable[..., Path]
NAN, INF = float("nan"), float("inf")
GOOD: dict[str, list[Any]] = {
    "t": ["a", "b", "c"],
    "q": ["", "p", "q"],
    "y": [1.0, 2.0, 3.0],
    "lp": [-1.0, -2.0, -3.0],
    "new": [-1.0, -INF, -3.0],
    "g": ["u", "u", "v"],
    "w": [1, 2, 0],
}
ALL: dict[str, Any] = {
    "text": "t",
    "outcome": "y",
    "prompt": "q",
    "logp_logging": "lp",
    "logp_target": {"policy": "new"},
    "group": "g",
    "weight": "w",
}


def test_the_good_table_is_good(write: Write) -> None:
    for suffix in ("csv", "jsonl", "parquet"):
        assert len(LoggedData.read(write(suffix, GOOD), **ALL)) == 3


CELLS = [
    ("y", NAN, "NaN or missing"),
    ("y", INF, "not finite"),
    ("y", "many", "'many' is not a number"),
    ("y", "1,5", "'1,5' is not a number"),
    ("y", "False", "'False' is not a number; write 1 and 0 for true and false"),
    ("y", "25 EUR", "'25 EUR' is not a number; write the number without its unit"),
    ("y", "1_000", "'1_000' is not a number"),
    ("y", "\u0661", "is not a number"),
    ("lp", NAN, "NaN or missing"),
    ("lp", INF, "is positive; log-probabilities"),
    ("lp", -INF, "never writes this text, yet the text was observed"),
    ("lp", 0.5, "is positive; log-probabilities .natural logarithm. are at most 0"),
    ("new", NAN, "NaN or missing"),
    ("new", 2.0, "is positive"),
    ("w", -1, "is negative"),
    ("w", NAN, "NaN or missing"),
    ("w", INF, "not finite"),
    ("t", "", "is an empty string"),
    ("g", "", "label is missing"),
]


@pytest.mark.parametrize("column, cell, message", CELLS)
@pytest.mark.parametrize("chunk_rows", [1, 100])
def test_a_bad_cell(write: Write, column: str, cell: Any, message: str, chunk_rows: int) -> None:
    table = GOOD | {column: [GOOD[column][0], cell, GOOD[column][2]]}
    for suffix, line in [("csv", " (line 3)"), ("jsonl", " (line 2)"), ("parquet", "")]:
        if suffix == "parquet" and isinstance(cell, str):
            table[column] = [str(value) for value in table[column]]
        path = write(suffix, table)
        place = re.escape(f"{path}, row 2{line}, column {column!r}: ")
        with pytest.raises(DataError, match=place + ".*" + message):
            LoggedData.read(path, chunk_rows=chunk_rows, **ALL)
    place = re.escape(f"DataFrame, row 2, column {column!r}: ")
    with pytest.raises(DataError, match=place + ".*" + message):
        LoggedData.from_pandas(pd.DataFrame(table), **ALL)


@pytest.mark.parametrize("column", ["t", "q", "y", "lp", "new", "g", "w"])
def test_a_null(write: Write, column: str) -> None:
    table = GOOD | {column: [*GOOD[column][:2], None]}
    for suffix in ("jsonl", "parquet"):
        path = write(suffix, table)
        with pytest.raises(DataError, match=rf"row 3.*column {column!r}: .*missing"):
            LoggedData.read(path, **ALL)
    with pytest.raises(DataError, match=f"row 3, column {column!r}: .*missing"):
        LoggedData.from_pandas(pd.DataFrame(table), **ALL)


def test_lines_are_counted_through_quoted_newlines_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('t,y\n"one\ntwo\r\nthree",1\n\n"x\ny",bad\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.csv, row 2 \(line 6\), column 'y': 'bad'"):
        LoggedData.read(path, text="t", outcome="y")
    path = tmp_path / "a.jsonl"
    path.write_text('\n{"t": "a", "y": 1}\n\n{"t": "b", "y": "bad"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.jsonl, row 2 \(line 4\), column 'y': 'bad'"):
        LoggedData.read(path, text="t", outcome="y")


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_a_missing_column_is_named_with_those_there_are(write: Write, suffix: str) -> None:
    path = write(suffix, GOOD | {"outcome": [1, 2, 3]})
    with pytest.raises(
        DataError, match=r"no column 'outcom' \(outcome\); columns: 't', .*"
    ) as info:
        LoggedData.read(path, text="t", outcome="outcom")
    assert "did you mean 'outcome'?" in str(info.value)
    assert str(path) in str(info.value)
    with pytest.raises(DataError, match=r"no column 'z' \(logp_target\['two'\]\)"):
        LoggedData.read(path, **(ALL | {"logp_target": {"one": "new", "two": "z"}}))


def test_a_key_missing_from_one_json_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"t": "a", "y": 1}\n{"t": "b", "Y": 1}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"row 2 \(line 2\): no column 'y' \(outcome\)"):
        LoggedData.read(path, text="t", outcome="y")


def test_many_columns_are_not_all_listed() -> None:
    frame = pd.DataFrame({f"column {i}": [1] for i in range(500)})
    with pytest.raises(DataError, match=r"\.\.\. \(500 in all\)") as info:
        LoggedData.from_pandas(frame, text="t", outcome="y")
    assert len(str(info.value)) < 600


def test_duplicate_names(tmp_path: Path) -> None:
    csv_file, jsonl = tmp_path / "a.csv", tmp_path / "a.jsonl"
    csv_file.write_text("t,y,y,z,z\na,1,2,3,4\n", encoding="utf-8")
    jsonl.write_text('{"t": "a", "y": 1, "y": 2, "z": 3, "z": 4}\n', encoding="utf-8")
    frame = pd.DataFrame([["a", 1, 2, 3, 4]], columns=["t", "y", "y", "z", "z"])
    for path in (csv_file, jsonl):
        with pytest.raises(DataError, match=r"column 'y'.* occurs 2 times"):
            LoggedData.read(path, text="t", outcome="y")
    with pytest.raises(DataError, match=r"column 'y'.* occurs 2 times"):
        LoggedData.from_pandas(frame, text="t", outcome="y")
    csv_file.write_text("t,y,z,z\na,1,3,4\n", encoding="utf-8")
    assert len(LoggedData.read(csv_file, text="t", outcome="y")) == 1


BROKEN = [
    ("a.csv", b"", "is empty"),
    ("a.csv", b"\n\n", "has no header line"),
    ("a.csv", b"\xef\xbb\xbf", "has no header line"),
    ("a.csv.gz", gzip.compress(b"", mtime=0), "has no header line"),
    ("a.csv", b"t,y\n", "has no data rows"),
    ("a.csv", b"t,y\na,1\nb\n", r"row 2 \(line 3\): 1 fields where the header has 2"),
    ("a.csv", b"t,y\na,1,\n", r"row 1 \(line 2\): 3 fields where the header has 2"),
    ("a.csv", b't,y\na,1\n"b,2\nc,3\n', r"begins on line 3: malformed CSV \(unexpected end"),
    ("a.csv", b't,y\n"b"x,2\n', r"begins on line 2: malformed CSV"),
    ("a.csv", b"t,y\na,1\n\xff\xfe,2\n", r"line 3: byte 0xff at position 1 is not UTF-8"),
    ("a.csv", "t,y\na,1\n".encode("utf-16"), r"is UTF-16, not UTF-8; save the file as UTF-8"),
    ("a.csv", "t,y\na,1\n".encode("utf-16-be"), r"is UTF-16, not UTF-8"),
    ("a.jsonl", '{"t": "a", "y": 1}\n'.encode("utf-16-le"), r"is UTF-16, not UTF-8"),
    ("a.csv", b"t,y\ncaf\xc3\xa9,1\ncaf\xe9,2\n", "line 3: byte 0xe9 .* mixes encodings"),
    ("a.csv", b"t;y\na;1\n", r"found 1 column, 't;y', with ';' in it.*delimiter=';'"),
    ("a.tsv", b"t,y\na,1\n", r"found 1 column, 't,y', with ',' in it.*delimiter=','"),
    ("a.csv", b't,y\na,"1,5"\n', "'1,5' is not a number; write it with a decimal point"),
    ("a.csv", b"PK\x03\x04....", "is a zip archive or an Excel workbook"),
    ("a.jsonl", b"PAR1....", "is a Parquet file; give it the suffix"),
    ("a.csv.gz", gzip.compress(gzip.compress(b"t,y\n", mtime=0), mtime=0), "gzipped twice"),
    ("a.csv.gz", gzip.compress(b"t,y\na,1\n", mtime=0) + b"junk", "truncated or damaged"),
    ("a.csv.gz", b"BZh91AY&SY", "compressed with bzip2"),
    ("a.jsonl", b'{"t": "a", "y": 1, "z": ' + b"[" * 99_999 + b"}\n", "malformed JSON"),
    ("a.csv", b"t,y\n" + b"a,1\n" * 9999 + b"caf\xe9,1\n", "line 10001: byte 0xe9 at position 4"),
    (
        "a.csv.gz",
        gzip.compress(b"t,y\na,1\n" * 99, mtime=0)[:-9],
        "gzip stream is truncated or damaged",
    ),
    ("a.jsonl", b"", "is empty"),
    ("a.jsonl", b"\n", "has no data rows"),
    ("a.jsonl", b'{"t": "a", "y": 1}\n{"t": "b"\n', r"row 2 \(line 2\): malformed JSON at char"),
    ("a.jsonl", b'{"t": "a", "y": 1' + b"0" * 5000 + b"}\n", r"row 1 \(line 1\): malformed JSON"),
    ("a.jsonl", b"[" * 200_000 + b"\n", r"row 1 \(line 1\): malformed JSON"),
    ("a.json", b'[{"t": "a", "y": 1}]\n', r"holds an array; need one JSON object a line"),
    ("a.json", b'{\n"t": "a"}\n', r"line 1\): malformed JSON .*one JSON object a line"),
    ("a.jsonl", b"7\n", r"holds int; need one JSON object a line"),
    ("a.jsonl", b'{"t": "\xff", "y": 1}\n', "line 1: byte 0xff at position 8 is not UTF-8"),
    ("a.jsonl", b'{"t": "\\ud800", "y": 1}\n', "column 't': character 1 is half of a surrogate"),
    ("a.jsonl", b'{"t": 7, "y": 1}\n', "column 't': 7 is not a string but int"),
    ("a.jsonl", b'{"t": "a", "y": [1]}\n', r"column 'y': \[1\] is not a number"),
    ("a.parquet", b"t,y\na,1\n" * 9, "cannot be read"),
    ("a.parquet", b"PAR1", "cannot be read"),
    ("a.txt", b"t,y\na,1\n", r"unknown file type '\.txt'; known: \.csv"),
]


@pytest.mark.parametrize("name, data, message", BROKEN)
def test_a_broken_file(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(DataError, match=re.escape(str(path)) + ".*" + message) as info:
        LoggedData.read(path, text="t", outcome="y")
    assert "\n" not in str(info.value)
    assert len(str(info.value)) < 500


def test_a_truncated_parquet_file(write: Write) -> None:
    path = write("parquet", GOOD)
    data = path.read_bytes()
    for size in (1, 3, 50, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(DataError, match="cannot be read"):
            LoggedData.read(path, **ALL)
    path.write_bytes(data[:4] + b"\xff" * 40 + data[44:])
    with pytest.raises(DataError, match="cannot be read"):
        LoggedData.read(path, **ALL)


def test_an_empty_parquet_table_and_an_empty_frame(write: Write) -> None:
    path = write("parquet", {"t": [], "y": []})
    with pytest.raises(DataError, match="has no data rows"):
        LoggedData.read(path, text="t", outcome="y")
    with pytest.raises(DataError, match="DataFrame: has no data rows"):
        LoggedData.from_pandas(pd.DataFrame({"t": [], "y": []}), text="t", outcome="y")


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.csv: no such file"):
        LoggedData.read(tmp_path / "absent.csv", text="t", outcome="y")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match=r"folder\.csv: is not a file"):
        LoggedData.read(tmp_path / "folder.csv", text="t", outcome="y")


def test_probabilities_in_place_of_log_probabilities(write: Write) -> None:
    for values in ([0.0, 0.2, 1.0], [1e-30, 2e-31, 3e-29]):
        path = write("csv", GOOD | {"new": values})
        with pytest.raises(DataError, match=r"column 'new'.*probabilities instead of log-prob"):
            LoggedData.read(path, chunk_rows=1, **ALL)
    # Rounding above zero, a policy that always writes the same text, one that never writes any.
    for fine in ([0.0, 1e-9, -1.0], [0.0, 0.0, 0.0], [1e-7, 0.0, 0.0], [-INF] * 3):
        assert len(LoggedData.read(write("csv", GOOD | {"new": fine}), **ALL)) == 3


def test_a_rate_weighted_by_its_trials_warns(write: Write) -> None:
    rates = GOOD | {"y": [0.05, 0.1, 0.0], "w": [1000, 2000, 500]}
    path = write("csv", rates)
    with pytest.warns(UserWarning, match="give counts instead") as caught:
        LoggedData.from_csv(path, **ALL)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    for fine in ({"w": [1, 1, 0]}, {"w": [1.5, 2, 2]}, {"y": [0.5, 2, 0]}, {"y": [1, 0, 1]}):
        LoggedData.from_pandas(pd.DataFrame(rates | fine), **ALL)  # a warning is an error here


def many(n: int = 30) -> pd.DataFrame:
    return pd.DataFrame({"t": [f"text {i}" for i in range(n)], "y": np.arange(n) % 3 / 2})


def test_a_log_appended_to_itself_warns(tmp_path: Path) -> None:
    path, frame = tmp_path / "a.csv", many()
    pd.concat([frame, frame]).sample(frac=1, random_state=0).to_csv(path, index=False)
    with pytest.warns(UserWarning, match="each of its 60 rows occurs an even number"):
        LoggedData.read(path, text="t", outcome="y")
    with pytest.warns(UserWarning, match="even number"):
        LoggedData.from_pandas(
            pd.concat([frame, frame]).assign(z=np.nan), text="t", outcome="y", covariates=["z"]
        )


@pytest.mark.parametrize(
    "frame",
    [
        pd.concat([many(), many().assign(y=1.0)]),  # each text twice, its outcomes not
        pd.concat([many(), many(), many()]),
        pd.concat([many(19), many(19)]),  # few distinct rows: such things happen
        pd.concat([many(), many().iloc[:29]]),
    ],
)
def test_repeated_rows_alone_do_not_warn(frame: pd.DataFrame) -> None:
    LoggedData.from_pandas(frame, text="t", outcome="y")  # a warning is an error here


def rated(n: int = 300, values: int = 101) -> pd.DataFrame:
    """Six texts rated from 0 to 100, each rating with its reader."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"t": np.array(list("abcdef"))[rng.integers(6, size=n)]})
    return frame.assign(y=rng.integers(values, size=n) * 1.0, reader=np.arange(n))


@pytest.mark.parametrize("suffix", ["csv", "tsv.gz", "jsonl", "parquet"])
def test_rows_that_an_export_repeated_warn(write: Write, suffix: str) -> None:
    frame = rated(values=10_000)
    path = write(suffix, pd.concat([frame, frame.iloc[:21]]).to_dict("list"))
    with pytest.warns(UserWarning, match="copies of earlier rows") as caught:
        LoggedData.read(path, text="t", outcome="y")
    assert [str(w.message) for w in caught] == [
        f"{path}: 21 of 321 rows are copies of earlier rows in every column: if an export repeated "
        "them, drop them, as standard errors would be too small."
    ]


@pytest.mark.parametrize(
    "frame",
    [
        pd.concat([rated(values=10_000), rated(values=10_000).iloc[:15]]),  # 5 %
        pd.concat([rated(), rated().iloc[:80].assign(reader=-np.arange(80))]),  # other readers
        rated(n=2000).drop(columns="reader"),  # by chance: few texts, few ratings
        pd.concat([rated(values=20), rated(values=20)[:200]]).drop(columns="reader"),
    ],
    ids=["few", "a column that is not read", "by chance", "few outcomes"],
)
def test_repeated_rows_that_may_well_be(write: Write, frame: pd.DataFrame) -> None:
    path = write("csv", frame.to_dict("list"))
    LoggedData.read(path, text="t", outcome="y")  # a warning is an error here


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_missing_outcomes_are_counted(write: Write, suffix: str) -> None:
    path = write(suffix, GOOD | {"y": [1.0, NAN, NAN]})
    with pytest.raises(DataError) as error:
        LoggedData.read(path, **ALL)
    line = {"csv": 3, "jsonl": 2}[suffix]
    assert str(error.value) == (
        f"{path}, row 2 (line {line}), column 'y': nan (NaN or missing): 2 of 3 rows lack it; give "
        "the true values, or leave these rows out and ask why they have none (leaving rows out is "
        "right only if what is missing has nothing to do with text and outcome)"
    )


def test_a_last_line_that_may_be_cut_off_warns(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"t,y\na,1.25\nb,2.")
    with pytest.warns(UserWarning, match="its last line has no line end"):
        assert LoggedData.read(path, text="t", outcome="y").outcome.tolist() == [1.25, 2.0]
    # Nothing that is read can be cut where the last cell is quoted, or is another column.
    for fine in (b't,y\na,1\nb,"2"', b"t,y,z\na,1,2\nb,2,"):
        path.write_bytes(fine)
        LoggedData.read(path, text="t", outcome="y")
    zipped = tmp_path / "a.csv.gz"
    zipped.write_bytes(gzip.compress(b"t,y\na,1\nb,2"))
    LoggedData.read(zipped, text="t", outcome="y")


def test_a_ten_megabyte_field_is_read_whole(tmp_path: Path) -> None:
    text = "long \u20ac" * 1_500_000
    for suffix in ("csv", "jsonl", "parquet"):
        path = tmp_path / f"a.{suffix}"
        frame = pd.DataFrame({"t": [text, "short"], "y": [1.0, 2.0]})
        if suffix == "csv":
            frame.to_csv(path, index=False)
        elif suffix == "jsonl":
            frame.to_json(path, orient="records", lines=True)
        else:
            frame.to_parquet(path)
        assert LoggedData.read(path, text="t", outcome="y").text == [text, "short"]


def test_labels_that_are_no_unicode_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"t": "a", "y": 1, "g": "\\ud800"}\n')
    with pytest.raises(DataError, match="column 'g': character 1 is half of a surrogate"):
        LoggedData.read(path, text="t", outcome="y", group="g")


def test_a_delimiter_is_for_delimited_text(write: Write) -> None:
    with pytest.raises(DataError, match="a delimiter is for"):
        LoggedData.read(write("jsonl", GOOD), delimiter=";", text="t", outcome="y")
    path = write("csv", GOOD)
    path.write_bytes(path.read_bytes().replace(b",", b";"))
    assert len(LoggedData.read(path, delimiter=";", text="t", outcome="y")) == 3


def test_shuffled_indexes_are_refused() -> None:
    frame = many()
    shuffled = frame.sample(frac=1, random_state=0)
    with pytest.raises(ValueError, match=r"outcome carries the index labels of text in another"):
        LoggedData(text=frame["t"], outcome=shuffled["y"])  # type: ignore[arg-type]
    LoggedData(text=shuffled["t"], outcome=shuffled["y"])  # type: ignore[arg-type]
    LoggedData(text=frame["t"], outcome=shuffled["y"].to_numpy())  # type: ignore[arg-type]
    other = shuffled["y"].set_axis(np.arange(100, 130))
    LoggedData(text=frame["t"], outcome=other)  # type: ignore[arg-type]


def test_all_weights_zero() -> None:
    with pytest.raises(DataError, match="column 'w': every weight is zero"):
        LoggedData.from_pandas(pd.DataFrame(GOOD | {"w": [0, 0, 0]}), **ALL)


COUNTS = [
    ({"n": [10, 2]}, r"row 2, column 'k': 3 clicks of 2 impressions \('n'\); swapped"),
    ({"k": [1, -3]}, "row 2, column 'k': -3 is negative"),
    ({"k": [1.5, 1]}, "row 1, column 'k': 1.5 is fractional"),
    ({"n": [10.5, 10]}, "row 1, column 'n': 10.5 is fractional"),
    ({"n": [10, NAN]}, "row 2, column 'n': nan .NaN or missing."),
    ({"k": ["x", "1"]}, "row 1, column 'k': 'x' is not a number"),
    ({"k": [0, 0], "n": [0, 0]}, "column 'n': no arm has an impression"),
]


@pytest.mark.parametrize("change, message", COUNTS)
def test_bad_counts(change: dict[str, Any], message: str) -> None:
    frame = pd.DataFrame({"t": ["a", "b"], "k": [1, 3], "n": [10, 20]} | change)
    with pytest.raises(DataError, match=message):
        LoggedData.from_counts(frame, text="t", clicks="k", impressions="n")


ARGUMENTS = [
    ({"txt": "t", "outcome": "y"}, TypeError, "unknown column argument 'txt'; did you mean 'text'"),
    ({"outcome": "y"}, TypeError, "text=..."),
    ({"text": "t"}, ValueError, "outcome column, or both clicks and impressions"),
    ({"text": "t", "clicks": "y"}, ValueError, "go together"),
    ({"text": "t", "outcome": "y", "clicks": "w", "impressions": "w"}, ValueError, "not both"),
    (
        {"text": "t", "clicks": "y", "impressions": "w", "weight": "w"},
        ValueError,
        "weight cannot be combined",
    ),
    ({"text": "t", "outcome": 3}, TypeError, "outcome must be a column name"),
    ({"text": "t", "outcome": "y", "covariates": ["w", "w"]}, ValueError, "'w' more than once"),
    ({"text": "t", "outcome": "y", "logp_target": ["a", "a"]}, ValueError, "'a' more than once"),
    ({"text": "t", "outcome": "y", "covariates": ["text"]}, ValueError, "rename that column"),
    ({"text": "t", "outcome": "y", "policies": {}}, TypeError, "unknown column argument"),
]


@pytest.mark.parametrize("arguments, kind, message", ARGUMENTS)
def test_contradictory_column_arguments(
    arguments: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        LoggedData.from_pandas(pd.DataFrame(GOOD), **arguments)


def test_other_arguments(write: Write) -> None:
    path = write("csv", GOOD)
    for rows, kind in ((0, ValueError), (2.5, TypeError), (True, TypeError)):
        with pytest.raises(kind, match="chunk_rows"):
            LoggedData.read(path, chunk_rows=rows, text="t", outcome="y")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="delimiter must be one character"):
        LoggedData.from_csv(path, delimiter=";;", text="t", outcome="y")
    with pytest.raises(TypeError, match="frame must be a pandas DataFrame, not list"):
        LoggedData.from_pandas([1], text="t", outcome="y")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"must be a datasets\.Dataset, not DataFrame"):
        LoggedData.from_dataset(pd.DataFrame(GOOD), text="t", outcome="y")


def test_covariates_of_mixed_kinds() -> None:
    frame = pd.DataFrame({"t": ["a", "b"], "y": [1, 2], "z": [1, "x"], "d": [None, {}]})
    with pytest.raises(DataError, match="row 2, column 'z': 'x' among numbers"):
        LoggedData.from_pandas(frame, text="t", outcome="y", covariates="z")
    with pytest.raises(DataError, match="row 2, column 'z': 1 among strings"):
        LoggedData.from_pandas(frame[::-1], text="t", outcome="y", covariates="z")
    with pytest.raises(DataError, match=r"row 2, column 'd': \{\} is not a number"):
        LoggedData.from_pandas(frame, text="t", outcome="y", covariates="d")


def test_arrays() -> None:
    make = LoggedData
    with pytest.raises(DataError, match="arrays: outcome has 1 rows, text has 2"):
        make(text=["a", "b"], outcome=np.ones(1))
    with pytest.raises(DataError, match="has no rows"):
        make(text=[], outcome=np.ones(0))
    with pytest.raises(TypeError, match="not one string"):
        make(text="ab", outcome=np.ones(2))  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"outcome must have shape \(n,\), not \(2, 1\)"):
        make(text=["a", "b"], outcome=np.ones((2, 1)))
    with pytest.raises(DataError, match="row 2, column 'outcome'"):
        make(text=["a", "b"], outcome=np.array([1, np.nan]))
    with pytest.raises(TypeError, match="logp_target must be a DataFrame"):
        make(text=["a"], outcome=np.ones(1), logp_target=np.zeros((1, 1)))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="more than one column 'a'"):
        make(
            text=["a"],
            outcome=np.ones(1),
            logp_target=pd.DataFrame([[0.0, 0.0]], columns=["a", "a"]),
        )
    with pytest.raises(DataError, match="logp_target has no columns"):
        make(text=["a"], outcome=np.ones(1), logp_target=pd.DataFrame(index=[0]))
    with pytest.raises(DataError, match=r"row 1, column .*logp_target\['p'\].*positive"):
        make(text=["a"], outcome=np.ones(1), logp_target=pd.DataFrame({"p": [2.0]}))


def test_a_huge_text_does_not_flood_the_message() -> None:
    frame = pd.DataFrame({"t": ["a"], "y": ["x" * 10**6]})
    with pytest.raises(DataError) as info:
        LoggedData.from_pandas(frame, text="t", outcome="y")
    assert len(str(info.value)) < 200
