"""Tests of a stated randomisation against the counts of the texts that were shown."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from itertools import permutations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from causal_lm_opt.datasets._vocabulary import ArmSequence
from causal_lm_opt.datasets.pieces import PiecePolicy

__all__: list[str] = []

Step = dict[str, object]


def chi_square_step(
    name: str, values: Sequence[Hashable], cells: Sequence[Hashable], prob: ArrayLike
) -> Step:
    """Pearson's chi-square of the counts of ``cells`` in ``values`` against ``prob``.

    Parameters
    ----------
    name : str
    values : sequence of n cell labels
    cells : sequence of all C labels, distinct
    prob : (C,) array of probabilities

    Returns
    -------
    dict
        step, test, n, statistic, df, p_value, min_expected, counts; the p-value is NaN if n is 0.
    """
    counter = Counter(values)
    counts = np.array([counter[cell] for cell in cells], dtype=np.float64)
    expected = counts.sum() * np.asarray(prob, dtype=np.float64)
    df = len(cells) - 1
    return _step(name, counts, _pearson(counts, expected), df, float(expected.min()))


def order_step(name: str, sequences: Sequence[ArmSequence]) -> Step:
    """Chi-square of "every order of a set is equally likely", added up over the sets seen."""
    by_set: dict[ArmSequence, Counter[ArmSequence]] = {}
    for sequence in sequences:
        by_set.setdefault(tuple(sorted(sequence)), Counter())[sequence] += 1
    statistic, df, counts = 0.0, 0, []
    smallest = math.inf if by_set else 0.0
    for arms in sorted(by_set):
        cell = np.array([by_set[arms][order] for order in permutations(arms)], dtype=np.float64)
        expected = np.full(cell.shape, cell.mean())
        statistic += _pearson(cell, expected)
        df += len(cell) - 1
        counts.append(cell)
        smallest = min(smallest, float(expected[0]))
    together = np.concatenate(counts) if counts else np.zeros(0)
    return _step(name, together, statistic, df, smallest)


def repeat_step(name: str, texts: Sequence[str], design: PiecePolicy) -> Step:
    """Poisson test of the number of pairs of rows that share a text.

    Independent draws from a design share a text with probability ``sum(P(x)**2)`` a pair; far more
    repeats than that mean that the texts were dealt from a finite pool made beforehand.
    """
    pairs = sum(count * (count - 1) // 2 for count in Counter(texts).values())
    expected = math.comb(len(texts), 2) * collision_probability(design)
    p_value = float(stats.poisson.sf(pairs - 1, expected)) if len(texts) > 1 else math.nan
    return {
        "step": name,
        "test": "Poisson",
        "n": len(texts),
        "statistic": float(pairs),
        "df": 0,
        "p_value": p_value,
        "min_expected": expected,
        "counts": (pairs,),
    }


def collision_probability(design: PiecePolicy) -> float:
    """Probability that two independent draws are the same text (texts with one parse)."""
    same = {arm: float(np.square(p).sum()) for arm, p in design.wording_prob.items()}
    return math.fsum(
        float(p) ** 2 * math.prod(same[arm] for arm in sequence)
        for sequence, p in zip(design.sequences, design.sequence_prob, strict=True)
    )


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Holm's step-down adjustment; NaN p-values stay NaN and are not counted.

    Parameters
    ----------
    p_values : (m,) array

    Returns
    -------
    (m,) float64 array

    Notes
    -----
    Holm (1979), A simple sequentially rejective multiple test procedure.
    """
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    there = np.flatnonzero(~np.isnan(p))
    order = there[np.argsort(p[there], kind="stable")]
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return adjusted


def as_table(steps: Sequence[Step]) -> pd.DataFrame:
    """Put steps into a frame indexed by their names, with a Holm-adjusted column."""
    table = pd.DataFrame(list(steps)).set_index("step")
    table["p_holm"] = holm(table["p_value"])
    return table[["test", "n", "statistic", "df", "p_value", "p_holm", "min_expected", "counts"]]


def _pearson(counts: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    at = expected > 0
    return float(np.sum((counts[at] - expected[at]) ** 2 / expected[at]))


def _step(
    name: str, counts: NDArray[np.float64], statistic: float, df: int, min_expected: float
) -> Step:
    n = int(counts.sum())
    return {
        "step": name,
        "test": "chi-square",
        "n": n,
        "statistic": statistic,
        "df": df,
        "p_value": float(stats.chi2.sf(statistic, df)) if n and df else math.nan,
        "min_expected": min_expected,
        "counts": tuple(int(count) for count in counts),
    }
