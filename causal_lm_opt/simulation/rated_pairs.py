"""Pairs with a set correlation of their differences, out of real ratings of several attributes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import brentq

from causal_lm_opt.exceptions import DataError
from causal_lm_opt.simulation._checks import check_count, check_number

__all__ = ["RatedPairs", "StratifiedPairs", "rated_pairs"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
LEVELS = 6  # sizes of a difference up to which each is a bin of its own
SIZES = 3  # else: bins of sizes, by quantiles, besides no difference
STEEPEST = 40.0  # largest exponent of a stratum: beyond it shares no longer move
ROUNDS, CLOSE = 2000, 1e-13  # of iterative proportional fitting


@dataclass(frozen=True, eq=False)
class RatedPairs:
    """All pairs of responses to the same prompt, with the differences of two ratings.

    Each pair stands once, the first factor's difference not negative; both orders carry the same
    information, so that figures count it in both.

    Attributes
    ----------
    first, second : int arrays, shape (n,)
        Rows of the table.
    differences : array, shape (n, 2)
        First response minus second, in standard deviations of each factor over the table.
    prompt : int array, shape (n,)
        Number of the prompt.
    names : tuple of str
        The factors.
    """

    first: IntArray
    second: IntArray
    differences: FloatArray
    prompt: IntArray
    names: tuple[str, ...]

    def __len__(self) -> int:
        return int(self.first.shape[0])

    @property
    def correlation(self) -> float:
        """Correlation of the differences (about 0, each pair in both orders)."""
        return _correlation(self.differences)

    def of_prompts(self, prompts: IntArray) -> RatedPairs:
        """The pairs of some prompts, so that a split keeps prompts whole."""
        return self.take(np.flatnonzero(np.isin(self.prompt, prompts)))

    def take(self, rows: IntArray) -> RatedPairs:
        """The pairs at some positions."""
        return RatedPairs(
            self.first[rows], self.second[rows], self.differences[rows], self.prompt[rows],
            self.names,
        )  # fmt: skip

    def opposite(self) -> RatedPairs:
        """The pairs whose two differences have opposite signs."""
        return self.take(np.flatnonzero(self.differences.prod(axis=1) < 0.0))

    def at_correlation(self, correlation: float) -> StratifiedPairs:
        r"""Strata and their shares at which the differences have this correlation.

        Of all laws of the strata with the pool's margins and this correlation, the one nearest to
        the pool (in Kullback-Leibler divergence): :math:`p_c \propto q_c\, a_i b_j\, e^{t m_c}` for
        a stratum c in bins i and j, with the pool's share q, the mean product m of its differences,
        and t, a, b such that correlation and margins hold.

        Raises
        ------
        ValueError
            A correlation that cannot be reached; the reachable range is told.
        """
        rho = check_number(correlation, "correlation")
        cells, at = _strata(self.differences)
        d = self.differences
        moments = np.stack([d[:, 0] * d[:, 1], d[:, 0] ** 2, d[:, 1] ** 2], axis=1)
        size = np.bincount(at).astype(np.float64)
        inside = np.stack([np.bincount(at, weights=m) for m in moments.T], axis=1) / size[:, None]
        own = size / size.sum()

        def law(t: float) -> FloatArray:
            return _tilted(cells, own, t * inside[:, 0])

        def reached(t: float) -> float:
            m = law(t) @ inside
            return float(m[0] / np.sqrt(m[1] * m[2]))

        most = STEEPEST / float(np.abs(inside[:, 0]).max())
        low, high = reached(-most), reached(most)
        if not low <= rho <= high:
            raise ValueError(
                f"correlation {rho:g} cannot be reached with these ratings: strata with the "
                f"ratings' own margins reach {low:.3f} to {high:.3f}."
            )
        t = float(brentq(lambda t: reached(t) - rho, -most, most, xtol=1e-10))
        return StratifiedPairs(self, at, law(t), own)


@dataclass(frozen=True, eq=False)
class StratifiedPairs:
    """A pool of rated pairs with the share of each stratum to draw.

    Attributes
    ----------
    pool : RatedPairs
    stratum : int array, shape (n,)
        Stratum of each pair of the pool.
    shares, own : arrays, shape (strata,)
        Wanted shares, and those of the pool.
    """

    pool: RatedPairs
    stratum: IntArray
    shares: FloatArray
    own: FloatArray

    def largest(self) -> int:
        """How many pairs can be drawn without taking one twice."""
        size = np.bincount(self.stratum, minlength=self.shares.size)
        some = self.shares > 0.0
        n = int(np.floor((size[some] / self.shares[some]).min() + 1e-9))
        while n > 0 and (_counts(self.shares, n) > size).any():
            n -= 1
        return n

    def sample(self, n: int, rng: np.random.Generator) -> RatedPairs:
        """Draw n pairs, as many of each stratum as its share says, none twice, in random order.

        Raises
        ------
        ValueError
            If the pool has too few pairs.
        """
        return self.pool.take(self.rows(n, rng))

    def rows(self, n: int, rng: np.random.Generator) -> IntArray:
        """Positions in the pool of what :meth:`sample` draws, shape (n,)."""
        check_count(n, "n")
        most = self.largest()
        if n > most:
            raise ValueError(
                f"n = {n} pairs at this correlation are too many: without taking a pair twice, "
                f"{most} can be drawn. Ask for fewer, or for a correlation nearer the pool's "
                f"{self.pool.correlation:.2f}."
            )
        counts = _counts(self.shares, n)
        taken = [
            rng.permutation(np.flatnonzero(self.stratum == c))[:k]
            for c, k in enumerate(counts)
            if k
        ]
        return rng.permutation(np.concatenate(taken))

    def weights_to(self, other: StratifiedPairs, rows: IntArray) -> FloatArray:
        """Importance weights, from these shares to another's of the same pool, of drawn rows."""
        at = self.stratum[rows]
        return np.asarray(other.shares[at] / self.shares[at])


def rated_pairs(
    table: pd.DataFrame, *, prompt: str, factors: Sequence[str], least: int = 50
) -> RatedPairs:
    """All pairs of rows with the same prompt, and the differences of two ratings.

    Parameters
    ----------
    table : DataFrame
        One row a response.
    prompt : str
        Column of the prompt (anything that is equal for responses to compare).
    factors : two str
        Columns of ratings, numbers.
    least : int
        Fewest pairs.

    Raises
    ------
    DataError
        Missing columns, ratings that are no numbers or missing, a factor that never differs
        within a prompt, or too few pairs.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> z = rng.integers(1, 6, (300, 2))
    >>> table = pd.DataFrame({"ask": np.arange(300) // 6, "true": z[:, 0], "fluent": z[:, 1]})
    >>> pairs = rated_pairs(table, prompt="ask", factors=["true", "fluent"])
    >>> len(pairs), abs(pairs.correlation) < .1
    (750, True)
    >>> drawn = pairs.at_correlation(.6).sample(100, rng)
    >>> round(drawn.correlation, 1)
    0.6
    """
    names = tuple(factors)
    if len(names) != 2 or len(set(names)) != 2:
        raise DataError(f"factors must be two different columns, got {list(names)}.")
    missing = [c for c in (prompt, *names) if c not in table.columns]
    if missing:
        raise DataError(f"the table has no column {missing[0]!r}; it has {list(table.columns)}.")
    z = np.column_stack([_ratings(table[c], c) for c in names])
    if table[prompt].isna().any():
        raise DataError(f"column {prompt!r} has empty cells; every row needs its prompt.")
    scale = z.std(axis=0)
    for k, name in enumerate(names):
        if not scale[k] > 0.0:
            raise DataError(f"the factor {name!r} is {z[0, k]:g} in every row: it cannot vary.")
    codes = pd.factorize(table[prompt])[0]
    first, second = _within(codes)
    if first.size < least:
        raise DataError(
            f"{first.size} pairs of responses share a prompt (column {prompt!r}); at least "
            f"{least} are needed."
        )
    d = (z[first] - z[second]) / scale
    for k, name in enumerate(names):
        if not np.abs(d[:, k]).max() > 0.0:
            raise DataError(f"the factor {name!r} never differs between responses to one prompt.")
    flip = (d[:, 0] < 0.0) | ((d[:, 0] == 0.0) & (d[:, 1] < 0.0))
    d = np.where(flip[:, None], -d, d) + 0.0
    return RatedPairs(
        np.where(flip, second, first), np.where(flip, first, second), d, codes[first], names
    )


def _ratings(column: Any, name: str) -> FloatArray:
    try:
        values = np.asarray(column, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"column {name!r} must hold numbers: {error}.") from error
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values)))
        raise DataError(
            f"column {name!r} has {int((~np.isfinite(values)).sum())} missing or infinite ratings, "
            f"the first in row {row}; drop or mend these rows."
        )
    return values


def _within(codes: IntArray) -> tuple[IntArray, IntArray]:
    """Rows of every pair of the same code."""
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    first, second = [], []
    for rows in np.split(order, starts[1:]):
        a, b = np.triu_indices(rows.size, 1)
        first.append(rows[a])
        second.append(rows[b])
    return np.concatenate(first), np.concatenate(second)


# ------------------------------------------------------------------------------ strata
def _strata(differences: FloatArray) -> tuple[IntArray, IntArray]:
    """Bins of both differences as strata: cells (s, 2), each with its mirror; stratum of each."""
    codes = np.column_stack([_signed_bins(d) for d in differences.T])
    flip = (codes[:, 0] < 0) | ((codes[:, 0] == 0) & (codes[:, 1] < 0))
    cells, at = np.unique(np.where(flip[:, None], -codes, codes), axis=0, return_inverse=True)
    return cells, at.ravel()


def _tilted(cells: IntArray, own: FloatArray, exponent: FloatArray) -> FloatArray:
    """Shares ``own * exp(exponent)`` brought to the margins of ``own`` (s,), mirrors counted.

    Iterative proportional fitting. The margins that matter are those of the sizes of the bins: a
    pair in both orders has each sign equally often.
    """
    size = np.abs(cells)
    margins = [np.bincount(s, weights=own) for s in size.T]
    p = own * np.exp(exponent - exponent.max())
    for _ in range(ROUNDS):
        before = p
        for s, wanted in zip(size.T, margins, strict=True):
            found = np.bincount(s, weights=p, minlength=wanted.size)
            p = p * np.where(found > 0.0, wanted / np.where(found > 0.0, found, 1.0), 0.0)[s]
        if np.abs(p - before).max() < CLOSE:
            break
    return np.asarray(p / p.sum())


def _signed_bins(d: FloatArray) -> IntArray:
    """Number of the bin of each difference's size, with its sign; 0 for none."""
    size = np.round(np.abs(d), 9)
    known = np.unique(size[size > 0.0])
    if known.size > LEVELS:
        some = size[size > 0.0]
        known = np.unique(np.quantile(some, np.arange(SIZES) / SIZES))
    bins = np.searchsorted(known, size, side="right")
    bins = np.where(size > 0.0, np.maximum(bins, 1), 0)
    return (np.sign(d) * bins).astype(np.intp)


def _counts(shares: FloatArray, n: int) -> IntArray:
    """Whole numbers that add to n, nearest to the shares (largest remainders)."""
    wanted = shares * n
    counts = np.floor(wanted + 1e-9).astype(np.intp)
    rest = n - int(counts.sum())
    if rest > 0:
        counts[np.argsort(-(wanted - counts), kind="stable")[:rest]] += 1
    return counts


def _correlation(d: FloatArray) -> float:
    m = (d * d).sum(axis=0)
    return float((d[:, 0] * d[:, 1]).sum() / np.sqrt(m[0] * m[1])) if m.all() else float("nan")
