"""The Upworthy headline tests: headlines randomised to readers within a test, clicks counted."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from causal_lm_opt._cells import (
    Cells,
    Place,
    check_finite,
    fail_at,
    shown,
    to_labels,
    to_numbers,
    to_strings,
)
from causal_lm_opt._columns import Chunk, Columns
from causal_lm_opt._files import check_file, default_delimiter, format_of
from causal_lm_opt._readers import CHUNK_ROWS, csv_chunks, json_chunks, parquet_chunks
from causal_lm_opt.datasets._design_checks import Step, as_table
from causal_lm_opt.exceptions import DataError

__all__ = ["Upworthy", "load_upworthy"]

TEST, IMAGE, HEADLINE = "clickability_test_id", "eyecatcher_id", "headline"
IMPRESSIONS, CLICKS = "impressions", "clicks"
LARGEST = 2.0**53
_MISSING = ("", "NA", "NaN", "nan")
_YES_NO = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


@dataclass(frozen=True, eq=False)
class Upworthy:
    """The headline tests, as `load_upworthy` returns them.

    Attributes
    ----------
    arms : DataFrame of shape (n, 6)
        One row an arm in the file's order: test, image (labels), stratum (integer: a test and an
        image), headline, impressions, clicks (integers); index 0..n-1.
    not_random : int
        Arms left out because the file flags them as possibly not randomised.
    no_image : int
        Arms left out because they name no image, so that nothing says with which others they
        share it.
    """

    arms: pd.DataFrame
    not_random: int
    no_image: int

    def __len__(self) -> int:
        return len(self.arms)

    def headlines(self, least: int = 2) -> pd.DataFrame:
        """Headlines within strata, arms that show the same one together.

        Parameters
        ----------
        least : int
            Strata with fewer distinct headlines are left out: they leave no choice.

        Returns
        -------
        DataFrame of shape (m, 8)
            test, image, stratum, headline, arms (how many show it), probability (its share of the
            stratum's arms: P_R(headline | stratum), which sums to 1 within a stratum), impressions,
            clicks; in the order of strata and first arms, index 0..m-1.

        Raises
        ------
        ValueError
            If ``least`` is below 1, or no stratum has as many headlines.
        """
        if least < 1:
            raise ValueError(f"least must be at least 1, not {least}.")
        keys = ["test", "image", "stratum", "headline"]
        cells = self.arms.groupby(keys, sort=False, as_index=False).agg(
            arms=("clicks", "size"), impressions=("impressions", "sum"), clicks=("clicks", "sum")
        )
        of_stratum = cells.groupby("stratum")
        cells.insert(5, "probability", cells["arms"] / of_stratum["arms"].transform("sum"))
        kept = cells[of_stratum["headline"].transform("size") >= least]
        if kept.empty:
            raise ValueError(
                f"least={least}: no test shows {least} headlines with one image; use a smaller "
                "number, or more data."
            )
        return kept.sort_values("stratum", kind="stable", ignore_index=True)

    def check_design(self) -> pd.DataFrame:
        """Test whether impressions were dealt to arms with equal probabilities.

        Returns
        -------
        DataFrame
            One row a step (arms of a test; arms of a test with one image), columns as
            `HongKong.check_design`; statistics are added up over tests.

        Notes
        -----
        The chi-square takes impressions as independent. A reader who comes back is counted again,
        which makes counts vary more than that: a small p-value with ``statistic / df`` near 1 says
        that much, and not that the allocation was lopsided.
        """
        return as_table([
            _equal_shares("arms of a test equally likely", self.arms, "test"),
            _equal_shares("arms of a test and image equally likely", self.arms, "stratum"),
        ])  # fmt: skip


def load_upworthy(path: str | Path, *, flag: str | None = "possibly_not_random") -> Upworthy:
    """Load the Upworthy Research Archive: headlines tested against each other on a news site.

    Each test dealt its arms (packages of a headline and an image) to readers at random and counted
    impressions and clicks. Arms of a test that share the image differ in the headline, so that a
    test and an image are a stratum in which headlines were randomised.

    Parameters
    ----------
    path : str or Path
        ``.parquet``, ``.csv``, ``.tsv`` or ``.jsonl`` (text files also with ``.gz``), one row an
        arm, with columns ``clickability_test_id, eyecatcher_id, headline, impressions, clicks``
        and that of ``flag``; others are not read.
    flag : str or None
        Column that marks (true, false, 1, 0) tests whose randomisation is in doubt; their arms are
        left out. None: the file has no such column, and every arm is kept.

    Returns
    -------
    Upworthy

    Raises
    ------
    DataError
        If the file cannot be read, a column is missing, a test or a headline is, a count is no
        whole number of at least 0, clicks exceed impressions, or no arm is left; names file, row
        and column.

    Notes
    -----
    The data are not shipped; they are public (Upworthy Research Archive, CC BY 4.0; Matias, Munger,
    Le Quere and Ebersole, 2021).

    **Assumptions.** Arms of a test were equally likely. Within a stratum a few arms also differ in
    the lede or excerpt; the effect of such a headline is that of all that came with it. Headlines
    of several tests are kept: the same headline may be on both sides of a split of tests.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import pandas as pd
    >>> from causal_lm_opt.datasets.upworthy import load_upworthy
    >>> table = pd.DataFrame({
    ...     "clickability_test_id": ["t", "t", "t", "u"], "eyecatcher_id": ["a", "a", "b", "c"],
    ...     "headline": ["Why?", "How?", "Why?", "Who?"], "impressions": [90, 110, 100, 80],
    ...     "clicks": [3, 2, 1, 0], "possibly_not_random": [False, False, False, True],
    ... })
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "tests.csv")
    ...     table.to_csv(file, index=False)
    ...     data = load_upworthy(file)
    >>> len(data), data.not_random
    (3, 1)
    >>> data.headlines()[["headline", "probability", "impressions", "clicks"]].values.tolist()
    [['Why?', 0.5, 90, 3], ['How?', 0.5, 110, 2]]
    """
    file = check_file(path)
    spec = Columns(
        text=HEADLINE, clicks=CLICKS, impressions=IMPRESSIONS, group=TEST,
        covariates=(IMAGE,) if flag is None else (IMAGE, flag),
    )  # fmt: skip
    tables, rows = [], 0
    for chunk in _chunks(file, spec):
        table = _read_arms(chunk, Place(str(path), chunk.lines, rows), flag)
        tables.append(table)
        rows += len(table)
    if not rows:
        raise DataError(f"{path}: has no data rows")
    every = pd.concat(tables, ignore_index=True)
    random = every[~every["flagged"]]
    arms = random[~random["no_image"]].reset_index(drop=True)
    if arms.empty:
        raise DataError(
            f"{path}: none of {rows} arms is left: {rows - len(random)} are flagged "
            f"({shown(flag)}), {len(random)} name no image ({IMAGE!r})."
        )
    arms.insert(2, "stratum", arms.groupby(["test", "image"], sort=False).ngroup())
    return Upworthy(
        arms=arms.drop(columns=["flagged", "no_image"]),
        not_random=rows - len(random),
        no_image=len(random) - len(arms),
    )


def _chunks(path: Path, spec: Columns) -> Iterator[Chunk]:
    kind = format_of(path)
    if kind == "csv":
        return csv_chunks(path, spec, CHUNK_ROWS, default_delimiter(path))
    reader = json_chunks if kind == "jsonl" else parquet_chunks
    return reader(path, spec, CHUNK_ROWS)


def _read_arms(chunk: Chunk, place: Place, flag: str | None) -> pd.DataFrame:
    """Checked arms of a chunk, with ``flagged`` and ``no_image``."""
    cells = chunk.cells
    counts = {
        name: _counts(to_numbers(cells[name], place, name), place, name)
        for name in (IMPRESSIONS, CLICKS)
    }
    over = counts[CLICKS] > counts[IMPRESSIONS]
    if over.any():
        i = int(np.argmax(over))
        raise DataError(
            f"{place.at(i, CLICKS)}: {counts[CLICKS][i]} clicks of {counts[IMPRESSIONS][i]} "
            "impressions; swapped columns?"
        )
    missing = [_is_missing(cell) for cell in cells[IMAGE]]
    images = ["-" if no else cell for cell, no in zip(cells[IMAGE], missing, strict=True)]
    return pd.DataFrame({
        "test": to_labels(cells[TEST], place, TEST),
        "image": to_labels(images, place, IMAGE),
        "headline": to_strings(cells[HEADLINE], place, HEADLINE, allow_empty=False),
        "impressions": counts[IMPRESSIONS],
        "clicks": counts[CLICKS],
        "no_image": missing,
        "flagged": False if flag is None else _flags(cells[flag], place, flag),
    })  # fmt: skip


def _is_missing(cell: object) -> bool:
    if isinstance(cell, str):
        return cell in _MISSING
    return cell is None or (isinstance(cell, float | np.floating) and math.isnan(cell))


def _counts(values: NDArray[np.float64], place: Place, column: str) -> NDArray[np.int64]:
    check_finite(values, place, column)
    fail_at(values < 0, values, place, column, "is negative; a count is at least 0")
    fail_at(values != np.floor(values), values, place, column, "is fractional; not a count")
    fail_at(values > LARGEST, values, place, column, "is too large for a count")
    return values.astype(np.int64)


def _flags(cells: Cells, place: Place, column: str) -> NDArray[np.bool_]:
    found = [_YES_NO.get(str(cell).strip().lower()) for cell in cells]
    if None in found:
        i = found.index(None)
        raise DataError(f"{place.at(i, column)}: {shown(cells[i])} is not true, false, 1 or 0")
    return np.array(found, dtype=np.bool_)


def _equal_shares(name: str, arms: pd.DataFrame, unit: str) -> Step:
    """Chi-square of "every arm of a unit is equally likely", added up over units of several."""
    of_unit = arms.groupby(unit)["impressions"]
    due = of_unit.transform("mean").to_numpy(dtype=np.float64)
    several = (of_unit.transform("size").to_numpy() > 1) & (due > 0)
    counts, due = arms["impressions"].to_numpy(dtype=np.float64)[several], due[several]
    df = int(several.sum()) - int(arms[unit][several].nunique())
    statistic = float(np.sum((counts - due) ** 2 / due)) if df else 0.0
    return {
        "step": name,
        "test": "chi-square",
        "n": int(counts.sum()),
        "statistic": statistic,
        "df": df,
        "p_value": float(stats.chi2.sf(statistic, df)) if df else math.nan,
        "min_expected": float(due.min()) if df else 0.0,
        "counts": tuple(int(count) for count in counts),
    }
