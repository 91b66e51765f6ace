"""Tests of the randomisation of the persuasion experiment against the counts."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from causal_lm_opt.datasets._design_checks import Step, chi_square_step

__all__: list[str] = []


def persuasion_steps(
    messages: pd.DataFrame, readers: pd.DataFrame, control: pd.DataFrame, covariates: list[str]
) -> list[Step]:
    """Every step of the allocation, and the covariates' balance over authors.

    Parameters
    ----------
    messages, readers, control : DataFrames
        As attributes of `Persuasion`.
    covariates : list of str
        Columns of ``readers`` and ``control``.
    """
    everyone = pd.concat(
        [readers[["issue", "author", *covariates]], control[["issue", *covariates]]],
        ignore_index=True,
    )
    everyone["author"] = everyone["author"].fillna("(control)")
    issues = list(dict.fromkeys(messages["issue"]))
    steps = [
        chi_square_step(
            "issue", everyone["issue"].tolist(), issues, np.full(len(issues), 1 / len(issues))
        ),
        table_step("author (or control) | issue", everyone["author"], everyone["issue"]),
        _within_step("message | author, issue", messages),
    ]
    for name in covariates:
        steps.append(table_step(f"balance of {name} over authors", everyone["author"],
                                everyone[name]))  # fmt: skip
    return steps


def table_step(name: str, rows: pd.Series[str], columns: pd.Series[str]) -> Step:
    """Pearson's chi-square of independence of two columns; missing values are left out."""
    counts = pd.crosstab(rows, columns).to_numpy(dtype=np.float64)
    total = counts.sum()
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / max(total, 1.0)
    df = (counts.shape[0] - 1) * (counts.shape[1] - 1)
    return _step(name, counts.ravel(), expected.ravel(), df)


def _within_step(name: str, messages: pd.DataFrame) -> Step:
    """Messages of an author on an issue are equally likely: chi-squares added up over both."""
    cells = messages.groupby(["issue", "author"], sort=False)["n_readers"]
    counts = messages["n_readers"].to_numpy(dtype=np.float64)
    expected = cells.transform("mean").to_numpy(dtype=np.float64)
    return _step(name, counts, expected, len(messages) - cells.ngroups)


def _step(name: str, counts: NDArray[np.float64], expected: NDArray[np.float64], df: int) -> Step:
    statistic = float(np.sum((counts - expected) ** 2 / expected)) if df > 0 else 0.0
    return {
        "step": name,
        "test": "chi-square",
        "n": int(counts.sum()),
        "statistic": statistic,
        "df": df,
        "p_value": float(stats.chi2.sf(statistic, df)) if df > 0 else math.nan,
        "min_expected": float(expected.min()) if expected.size else 0.0,
        "counts": tuple(int(c) for c in counts),
    }
