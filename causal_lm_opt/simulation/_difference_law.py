r"""Laws of the differences between the latents of a pair's two responses.

A law is a table of cells. Independent differences mixed with differences that are all equal keep
their margins, so also means and variances: the correlation is the share of the mixture, exactly,
and every cell keeps at least the other share of its probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from causal_lm_opt.simulation._checks import check_count

__all__ = [
    "DifferenceLaw",
    "comonotone_law",
    "independent_law",
    "level_differences",
    "mixed",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
ROUND = 9  # decimals to which differences are the same


@dataclass(frozen=True, eq=False)
class DifferenceLaw:
    """Cells of differences and their probabilities.

    Attributes
    ----------
    cells : array, shape (m, K)
        Difference of each factor, first response minus second.
    probs : array, shape (m,)
        They sum to 1.
    """

    cells: FloatArray
    probs: FloatArray

    def __post_init__(self) -> None:
        if self.cells.ndim != 2 or self.probs.shape != self.cells.shape[:1]:
            raise ValueError(
                f"cells must have shape (m, K) and probs (m,), got {self.cells.shape} and "
                f"{self.probs.shape}."
            )
        if (self.probs < 0.0).any() or abs(float(self.probs.sum()) - 1.0) > 1e-9:
            raise ValueError("probs must be probabilities that sum to 1.")

    def mean(self) -> FloatArray:
        """Mean difference of each factor, shape (K,)."""
        return np.asarray(self.probs @ self.cells)

    def covariance(self) -> FloatArray:
        """Covariance of the differences, shape (K, K)."""
        centred = self.cells - self.mean()
        return np.asarray((self.probs[:, None] * centred).T @ centred)

    def correlation(self, j: int = 0, k: int = 1) -> float:
        """Correlation of the differences of two factors."""
        c = self.covariance()
        return float(c[j, k] / np.sqrt(c[j, j] * c[k, k]))

    def marginal(self, k: int) -> tuple[FloatArray, FloatArray]:
        """Values of one factor's difference, ascending, and their probabilities."""
        values, at = np.unique(np.round(self.cells[:, k], ROUND), return_inverse=True)
        return np.asarray(values), np.asarray(np.bincount(at, weights=self.probs), np.float64)

    def sample(self, n: int, rng: np.random.Generator) -> IntArray:
        """Cells of n draws, shape (n,)."""
        return rng.choice(self.probs.size, size=n, p=self.probs)

    def given(self, keep: npt.NDArray[np.bool_]) -> DifferenceLaw:
        """The law given that the cell is one of ``keep`` (m,)."""
        total = float(self.probs[keep].sum())
        if not total > 0.0:
            raise ValueError("The cells to keep have no probability.")
        return DifferenceLaw(self.cells[keep], self.probs[keep] / total)

    def lookup(self, differences: FloatArray) -> FloatArray:
        """Probability of the cell of each row of differences (n, K), shape (n,); 0 outside."""
        known = {tuple(c): p for c, p in zip(_keys(self.cells), self.probs, strict=True)}
        rows, at = np.unique(_keys(differences), axis=0, return_inverse=True)
        return np.array([known.get(tuple(row), 0.0) for row in rows])[at.ravel()]


def _keys(cells: FloatArray) -> FloatArray:
    return np.asarray(np.round(np.asarray(cells, dtype=np.float64), ROUND) + 0.0, np.float64)


def level_differences(levels: int) -> tuple[FloatArray, FloatArray]:
    """Differences of two independent ratings, each uniform on ``levels`` steps from 0 to 1.

    Examples
    --------
    >>> values, probs = level_differences(3)
    >>> values.tolist(), (9 * probs).round(9).tolist()
    ([-1.0, -0.5, 0.0, 0.5, 1.0], [1.0, 2.0, 3.0, 2.0, 1.0])
    """
    check_count(levels, "levels", 2)
    steps = np.arange(-(levels - 1), levels)
    return steps / (levels - 1.0), (levels - np.abs(steps)) / levels**2


def independent_law(values: FloatArray, probs: FloatArray, factors: int) -> DifferenceLaw:
    """Independent differences of the same marginal law (values and probs of shape (v,))."""
    grids = np.meshgrid(*[np.arange(values.size)] * factors, indexing="ij")
    at = np.stack([g.ravel() for g in grids], axis=1)
    return DifferenceLaw(values[at], probs[at].prod(axis=1))


def comonotone_law(values: FloatArray, probs: FloatArray, signs: Sequence[int]) -> DifferenceLaw:
    """All differences equal, up to the sign of each factor; the law must be symmetric about 0."""
    return DifferenceLaw(values[:, None] * np.asarray(signs, dtype=np.float64)[None, :], probs)


def mixed(base: DifferenceLaw, other: DifferenceLaw, share: float) -> DifferenceLaw:
    """``(1 - share) * base + share * other``, each cell once, those without probability left out.

    Examples
    --------
    >>> values, probs = level_differences(5)
    >>> base = independent_law(values, probs, 2)
    >>> law = mixed(base, comonotone_law(values, probs, (1, 1)), 0.6)
    >>> round(law.correlation(), 12), law.probs.size
    (0.6, 81)
    """
    cells, at = np.unique(
        np.vstack([_keys(base.cells), _keys(other.cells)]), axis=0, return_inverse=True
    )
    mass = np.concatenate([(1.0 - share) * base.probs, share * other.probs])
    probs = np.bincount(at.ravel(), weights=mass, minlength=cells.shape[0])
    some = probs > 0.0
    return DifferenceLaw(cells[some], probs[some] / probs[some].sum())
