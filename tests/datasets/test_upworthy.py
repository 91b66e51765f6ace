"""The Upworthy loader: on small made-up tables of its layout, and on the real one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from causal_lm_opt.datasets.upworthy import Upworthy, load_upworthy
from causal_lm_opt.exceptions import DataError

FLAG = "possibly_not_random"


def table() -> pd.DataFrame:
    """Two tests (one with two images, one headline shown by two arms), and arms to leave out."""
    rows = [
        ("t1", "a", "Why?", 100, 5, False),
        ("t1", "a", "How?", 110, 2, False),
        ("t1", "a", "Why?", 90, 3, False),
        ("t1", "b", "Why?", 95, 4, False),
        ("t2", "a", "NA", 50, 0, False),
        ("t2", "a", '"Who", he asked', 60, 60, False),
        ("t2", None, "When?", 70, 1, False),
        ("t3", "a", "Where?", 80, 1, True),
    ]
    names = ["clickability_test_id", "eyecatcher_id", "headline", "impressions", "clicks", FLAG]
    return pd.DataFrame(rows, columns=names).assign(lede="not read")


def write(folder: Path, suffix: str, **changes: Any) -> Path:
    """The table in a file, some columns replaced or (None) dropped."""
    frame = table()
    for name, value in changes.items():
        frame = frame.drop(columns=name) if value is None else frame.assign(**{name: value})
    path = folder / f"tests{suffix}"
    if suffix == ".parquet":
        frame.to_parquet(path)
    elif suffix.startswith(".jsonl"):
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_csv(path, index=False, sep="\t" if suffix.startswith(".tsv") else ",")
    return path


@pytest.fixture
def data(tmp_path: Path) -> Upworthy:
    return load_upworthy(write(tmp_path, ".parquet"))


def test_what_is_loaded(data: Upworthy) -> None:
    assert (len(data), data.not_random, data.no_image) == (6, 1, 1)
    arms = data.arms
    assert list(arms) == ["test", "image", "stratum", "headline", "impressions", "clicks"]
    assert arms["stratum"].tolist() == [0, 0, 0, 1, 2, 2]
    assert arms["headline"].tolist() == ["Why?", "How?", "Why?", "Why?", "NA", '"Who", he asked']
    assert arms["impressions"].tolist() == [100, 110, 90, 95, 50, 60]
    assert arms["clicks"].tolist() == [5, 2, 3, 4, 0, 60]


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".tsv", ".jsonl"])
def test_every_format_is_the_same(data: Upworthy, tmp_path: Path, suffix: str) -> None:
    other = load_upworthy(write(tmp_path, suffix))
    pd.testing.assert_frame_equal(other.arms, data.arms)
    assert (other.not_random, other.no_image) == (data.not_random, data.no_image)


def test_headlines_of_strata(data: Upworthy) -> None:
    cells = data.headlines()
    assert cells["headline"].tolist() == ["Why?", "How?", "NA", '"Who", he asked']
    assert cells["arms"].tolist() == [2, 1, 1, 1]
    np.testing.assert_allclose(cells["probability"], [2 / 3, 1 / 3, 1 / 2, 1 / 2])
    assert cells["impressions"].tolist() == [190, 110, 50, 60]
    assert cells["clicks"].tolist() == [8, 2, 0, 60]
    every = data.headlines(1)
    assert len(every) == 5
    np.testing.assert_allclose(every.groupby("stratum")["probability"].sum(), 1.0)
    with pytest.raises(ValueError, match="least=3: no test shows 3 headlines"):
        data.headlines(3)
    with pytest.raises(ValueError, match="least must be at least 1, not 0"):
        data.headlines(0)


def test_a_file_without_the_flag(tmp_path: Path) -> None:
    path = write(tmp_path, ".csv", **{FLAG: None})
    with pytest.raises(DataError, match=f"no column '{FLAG}'"):
        load_upworthy(path)
    data = load_upworthy(path, flag=None)
    assert (len(data), data.not_random) == (7, 0)


@pytest.mark.parametrize(
    "column", ["clickability_test_id", "eyecatcher_id", "headline", "impressions", "clicks"]
)
@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_missing_column_is_named(tmp_path: Path, column: str, suffix: str) -> None:
    path = write(tmp_path, suffix, **{column: None})
    with pytest.raises(DataError, match=re.escape(str(path)) + f": no column '{column}'"):
        load_upworthy(path)


@pytest.mark.parametrize(
    "column, cell, message",
    [
        ("clicks", 200, "row 2, column 'clicks': 200 clicks of 110 impressions; swapped columns"),
        ("clicks", -1, "row 2, column 'clicks': -1 is negative"),
        ("clicks", 1.5, "row 2, column 'clicks': 1.5 is fractional"),
        ("clicks", np.nan, "row 2, column 'clicks': nan .NaN or missing"),
        ("impressions", 1e300, "row 2, column 'impressions': 1e.300 is too large"),
        ("headline", "", "row 2, column 'headline': is an empty string"),
        ("clickability_test_id", "", "row 2, column 'clickability_test_id': the label is missing"),
        (FLAG, "perhaps", f"row 2, column '{FLAG}': 'perhaps' is not true, false, 1 or 0"),
    ],
    ids=["more clicks", "negative", "fraction", "nan", "huge", "no headline", "no test", "flag"],
)
def test_a_bad_cell_is_named(tmp_path: Path, column: str, cell: Any, message: str) -> None:
    values = table()[column].astype(object)
    values[1] = cell
    if column == FLAG:
        values = values.astype(str)
    elif column in ("clicks", "impressions"):
        values = values.astype(np.float64)
    with pytest.raises(DataError, match=message):
        load_upworthy(write(tmp_path, ".parquet", **{column: values}))


def test_a_count_that_is_no_number(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 1 \(line 2\), column 'clicks': 'many'"):
        load_upworthy(write(tmp_path, ".csv", clicks="many"))


def test_nothing_left(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of 8 arms is left: 8 are flagged"):
        load_upworthy(write(tmp_path, ".csv", **{FLAG: 1}))
    with pytest.raises(
        DataError, match=r"none of 8 arms is left: 1 are flagged .* 7 name no image"
    ):
        load_upworthy(write(tmp_path, ".csv", eyecatcher_id=""))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load_upworthy(tmp_path / "absent.parquet")
    table()[:0].to_csv(tmp_path / "empty.csv", index=False)
    with pytest.raises(DataError, match="has no data rows"):
        load_upworthy(tmp_path / "empty.csv")
    (tmp_path / "tests.xyz").write_text("x")
    with pytest.raises(DataError, match="unknown file type"):
        load_upworthy(tmp_path / "tests.xyz")


def test_the_design_check_sees_a_lopsided_allocation() -> None:
    rng = np.random.default_rng(0)
    test = np.repeat([f"t{k:02d}" for k in range(60)], 4)
    arms = pd.DataFrame({"test": test, "image": "a", "stratum": np.repeat(np.arange(60), 4)})
    fair = rng.multinomial(4000, [0.25] * 4, size=60).ravel()
    lopsided = rng.multinomial(4000, [0.28, 0.24, 0.24, 0.24], size=60).ravel()
    for counts, rejected in ((fair, False), (lopsided, True)):
        found = Upworthy(arms.assign(impressions=counts, clicks=0), 0, 0).check_design()
        assert found["df"].tolist() == [180, 180]
        assert (found["p_value"] < 0.001).tolist() == [rejected, rejected]


def test_the_design_check_adds_up_over_tests() -> None:
    arms = pd.DataFrame({
        "test": ["t", "t", "u"], "image": ["a", "b", "a"], "stratum": [0, 1, 2],
        "impressions": [60, 40, 7], "clicks": 0,
    })  # fmt: skip
    found = Upworthy(arms, 0, 0).check_design()
    assert found["statistic"].tolist() == pytest.approx([4.0, 0.0])
    assert found["df"].tolist() == [1, 0]
    assert np.isnan(found["p_value"].iloc[1])


def test_the_real_file(data_dir: Path) -> None:
    data = load_upworthy(data_dir / "upworthy_headlines.parquet")
    assert (len(data), data.not_random, data.no_image) == (9064, 2341, 12)
    cells = data.headlines()
    assert (len(cells), cells["stratum"].nunique(), cells["test"].nunique()) == (4468, 1050, 1011)
    np.testing.assert_allclose(cells.groupby("stratum")["probability"].sum(), 1.0)
    assert data.arms["clicks"].sum() / data.arms["impressions"].sum() == pytest.approx(
        0.0131, abs=1e-4
    )
    # Readers who come back count again: a little more variable than multinomial, no more.
    found = data.check_design()
    assert found["statistic"].div(found["df"]).between(1.0, 1.2).all()
