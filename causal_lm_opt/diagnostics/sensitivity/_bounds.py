"""What the sensitivity bounds share: their result, resamples of the rows, checks of arguments."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from causal_lm_opt._validation import check_groups, check_vector
from causal_lm_opt.core.inference import cluster_dof, cluster_sums

__all__ = [
    "Bounds",
    "PlugIn",
    "Rows",
    "check_lambdas",
    "check_weight",
    "interpolate_columns",
    "quantile_levels",
    "resample_multipliers",
]

FloatArray = npt.NDArray[np.float64]
LARGEST = 1e6  # strength; far beyond, squares overflow
BLOCK = 2_000_000  # entries of one block of resampled rows


@dataclass(frozen=True, eq=False)
class Bounds:
    r"""Bounds of a value, or of a difference of two, on a grid of :math:`\Lambda`.

    Attributes
    ----------
    lambdas : array, shape (L,)
    value : float
        The estimate, which the bounds at :math:`\Lambda = 1` equal.
    lower, upper : arrays, shape (L,)
        In outcome units.
    lower_replicates, upper_replicates : arrays, shape (B, L), optional
        The bounds of the resamples.
    dof : float
        One less than the number of equal clusters that the clusters are worth; ``inf`` for rows.
    """

    lambdas: FloatArray
    value: float
    lower: FloatArray
    upper: FloatArray
    lower_replicates: FloatArray | None = None
    upper_replicates: FloatArray | None = None
    dof: float = math.inf

    def interval(self, level: float = 0.95) -> FloatArray:
        r"""Percentile-bootstrap interval of the bounded set, shape (L, 2).

        From the :math:`\alpha/2` quantile of the lower bound's replicates to the
        :math:`1 - \alpha/2` quantile of the upper bound's (Zhao, Small and Bhattacharya
        2019): it covers every value the violation allows with probability ``level``.

        Resamples of G clusters vary too little, by :math:`(G-1)/G` in variance, and their
        quantiles do not know that the spread is estimated. With clusters each end's distance from
        its bound is therefore stretched by :math:`\sqrt{G/(G-1)}\, t_{G-1}/z`, the factors of
        standard errors from G equal clusters (what unequal ones are worth, see
        :func:`~causal_lm_opt.diagnostics.effective_clusters`): 1.13 for 15 at 95 %, 1.04 for 50.

        Raises
        ------
        ValueError
            When the bounds were made without ``resamples``.
        """
        if not 0.0 < level < 1.0:
            raise ValueError(f"level must lie strictly between 0 and 1, got {level!r}.")
        if self.lower_replicates is None or self.upper_replicates is None:
            raise ValueError(
                "An interval needs bootstrap replicates: pass resamples=resample_multipliers(...)."
            )
        tail = (1.0 - level) / 2
        low = np.quantile(self.lower_replicates, tail, axis=0)
        high = np.quantile(self.upper_replicates, 1.0 - tail, axis=0)
        more = stretch(self.dof, level) - 1.0
        # an end beyond its own bound (resamples that are off centre) is not drawn in
        low = low - more * np.maximum(self.lower - low, 0.0)
        high = high + more * np.maximum(high - self.upper, 0.0)
        return np.stack([low, high], axis=1)


def stretch(dof: float, level: float) -> float:
    r"""Factor :math:`\sqrt{G/(G-1)}\, t_{G-1}/z` of a percentile interval from G clusters.

    Examples
    --------
    >>> round(stretch(14, .95), 3), stretch(math.inf, .95)
    (1.133, 1.0)
    """
    if math.isinf(dof):
        return 1.0
    tail = 0.5 + level / 2
    quantile = float(stats.t(dof).ppf(tail)) / float(stats.norm.ppf(tail))
    return quantile * math.sqrt((dof + 1.0) / dof)


@dataclass(frozen=True, eq=False)
class PlugIn:
    r"""Means over the second sample (draws of the target), for doubly robust bounds.

    Attributes
    ----------
    value : float
        :math:`E_f[q]`.
    lower, upper : arrays (L,), optional
        :math:`E_f[\rho]` of the lower and upper bound; ``None``: equal to ``value``.
    value_replicates : array (B,), optional
    lower_replicates, upper_replicates : arrays (B, L), optional
        The same for resampled draws; ``None``: the draws are not resampled (exact support).

    Examples
    --------
    >>> import numpy as np
    >>> means = PlugIn(2.0, lower=np.array([1.5]), upper=np.array([3.0]))
    >>> [shift.tolist() for shift in means.shifts(1)]
    [[0.5], [1.0]]
    """

    value: float = 0.0
    lower: FloatArray | None = None
    upper: FloatArray | None = None
    value_replicates: FloatArray | None = None
    lower_replicates: FloatArray | None = None
    upper_replicates: FloatArray | None = None

    def shifts(self, n_lambdas: int) -> tuple[FloatArray, FloatArray]:
        """``E_f[q] - E_f[rho_lower]`` and ``E_f[rho_upper] - E_f[q]``, each (L,)."""
        zero = np.zeros(n_lambdas)
        down = zero if self.lower is None else self.value - np.asarray(self.lower)
        up = zero if self.upper is None else np.asarray(self.upper) - self.value
        return down, up

    def replicates(self) -> FloatArray | float:
        """``E_f[q]`` of the resamples, shape (B, 1), or the one value."""
        return self.value if self.value_replicates is None else self.value_replicates[:, None]

    def replicate_shifts(self, n_lambdas: int) -> tuple[FloatArray, FloatArray]:
        """The shifts of the resamples, each (B, L), or (L,) where draws are not resampled."""
        down, up = self.shifts(n_lambdas)
        centre = self.replicates()
        if self.lower_replicates is not None:
            down = centre - self.lower_replicates
        if self.upper_replicates is not None:
            up = self.upper_replicates - centre
        return down, up


# ------------------------------------------------------------------------------ the rows
@dataclass(frozen=True, eq=False)
class Rows:
    """Frequencies of n rows and how the bootstrap resamples their units (rows or clusters)."""

    frequency: FloatArray
    codes: npt.NDArray[np.intp] | None
    resamples: npt.NDArray[Any] | None

    @property
    def dof(self) -> float:
        """One less than the equal clusters that clusters are worth; ``inf`` for rows."""
        if self.codes is None:
            return math.inf
        return cluster_dof(np.bincount(self.codes, weights=self.frequency).astype(np.float64))

    @classmethod
    def of(cls, n: int, sample_weight: Any, codes: Any, resamples: Any) -> Rows:
        """Check the arguments shared by all bounds."""
        s = np.ones(n) if sample_weight is None else check_vector(sample_weight, "sample_weight", n)
        if (s < 0).any() or not (s > 0).any():
            raise ValueError("sample_weight must be non-negative frequencies with a positive sum.")
        inverse, units = None, n
        if codes is not None:
            labels, inverse = np.unique(check_groups(codes, "codes", n), return_inverse=True)
            units = int(labels.shape[0])
        counts = None
        if resamples is not None:
            counts = np.asarray(resamples)
            if counts.ndim != 2 or counts.shape[1] != units or counts.shape[0] < 2:
                raise ValueError(
                    f"resamples must have shape (B, {units}), B >= 2, one column a "
                    f"{'row' if codes is None else 'cluster'}, got {counts.shape}."
                )
            if not np.isfinite(counts).all() or (counts < 0).any():
                raise ValueError("resamples must hold finite, non-negative multipliers.")
        return cls(s, inverse, counts)

    def totals(self, columns: FloatArray) -> FloatArray:
        """Sums of (n, C) columns over the rows of every resample, shape (B, C)."""
        assert self.resamples is not None
        weighted = self.frequency[:, None] * columns
        if self.codes is not None:
            weighted = cluster_sums(weighted, self.codes, self.resamples.shape[1])
        out = np.empty((self.resamples.shape[0], columns.shape[1]))
        step = max(1, BLOCK // self.resamples.shape[1])
        for start in range(0, out.shape[0], step):
            some = slice(start, start + step)
            out[some] = self.resamples[some].astype(np.float64) @ weighted
        return out

    def blocks(self, width: int = 1) -> Iterator[tuple[slice, FloatArray]]:
        """Blocks of resamples: which, and how often each counts the rows, (b, n)."""
        assert self.resamples is not None
        n = self.frequency.shape[0]
        step = max(1, BLOCK // (n * width))
        for start in range(0, self.resamples.shape[0], step):
            some = slice(start, start + step)
            counts = self.resamples[some].astype(np.float64)
            yield some, (counts if self.codes is None else counts[:, self.codes]) * self.frequency


def resample_multipliers(
    n: int,
    n_bootstrap: int,
    rng: np.random.Generator,
    *,
    sample_weight: Any = None,
    codes: Any = None,
) -> npt.NDArray[Any]:
    """How often each bootstrap resample counts each unit, shape (B, n) or (B, clusters).

    Clusters are resampled whole. Without clusters a row of frequency 2 is two rows, so that its
    multiplier may be one half.

    Examples
    --------
    >>> resample_multipliers(3, 20, np.random.default_rng(0)).sum(axis=1).tolist() == 20 * [3]
    True
    """
    if not isinstance(n_bootstrap, int | np.integer) or n_bootstrap < 20:
        raise ValueError(f"n_bootstrap must be at least 20 for an interval, got {n_bootstrap!r}.")
    rows = Rows.of(n, sample_weight, codes, None)
    if rows.codes is not None or sample_weight is None:
        units = n if rows.codes is None else int(rows.codes.max()) + 1
        counts = rng.multinomial(units, np.full(units, 1.0 / units), size=n_bootstrap)
        return counts.astype(np.int32)
    s = rows.frequency
    counts = rng.multinomial(max(round(float(s.sum())), 2), s / s.sum(), size=n_bootstrap)
    return np.asarray(counts / np.where(s > 0, s, 1.0))


# ------------------------------------------------------------------------------ arguments
def check_lambdas(lambdas: Any) -> FloatArray:
    """A grid (L,) of strengths from 1 to a million."""
    try:
        out = np.atleast_1d(np.asarray(lambdas, dtype=np.float64))
    except (TypeError, ValueError):
        out = np.empty(0)
    if out.ndim != 1 or out.size == 0 or not ((out >= 1) & (out <= LARGEST)).all():
        raise ValueError(
            "lambdas must be finite numbers of at least 1 (the assumption holds exactly) and at "
            f"most {LARGEST:,.0f}, got {lambdas!r}."
        )
    return out


def check_weight(weight: Any, name: str, n: int, frequency: FloatArray) -> FloatArray:
    """Importance weights (n,), non-negative with a positive sum."""
    out = check_vector(weight, name, n)
    if (out < 0).any() or not (out * frequency).sum() > 0:
        raise ValueError(f"{name} must be non-negative importance weights with a positive sum.")
    return out


def quantile_levels(lambdas: Any) -> tuple[FloatArray, FloatArray]:
    r"""Quantile levels of the sharp bounds, :math:`1/(1+\Lambda)` and :math:`\Lambda/(1+\Lambda)`.

    Of the outcome given the text, for the lower and the upper bound; each (L,).

    Examples
    --------
    >>> [t.round(3).tolist() for t in quantile_levels([1, 3])]
    [[0.5, 0.25], [0.5, 0.75]]
    """
    grid = check_lambdas(lambdas)
    return 1.0 / (1.0 + grid), grid / (1.0 + grid)


def interpolate_columns(knots: Any, table: Any, at: Any) -> FloatArray:
    """Columns of a (n, T) table between its knots (T,), linear, flat beyond the ends: (n, L).

    For conditional quantiles the table is first sorted within rows, which undoes crossing
    quantiles and brings each closer to the truth (Chernozhukov, Fernandez-Val and Galichon 2010):
    pass ``np.sort(table, axis=1)``.

    Examples
    --------
    >>> interpolate_columns([.25, .75], [[0., 1.]], [.1, .5, .9]).tolist()
    [[0.0, 0.5, 1.0]]
    """
    knots, table = np.asarray(knots, dtype=np.float64), np.asarray(table, dtype=np.float64)
    at = np.atleast_1d(np.asarray(at, dtype=np.float64))
    if knots.ndim != 1 or table.ndim != 2 or table.shape[1] != knots.shape[0]:
        raise ValueError(
            f"table must have shape (n, {knots.size}), one column a knot, got {table.shape}."
        )
    if knots.size == 0 or (np.diff(knots) <= 0).any():
        raise ValueError("knots must be strictly increasing.")
    if knots.size == 1:
        return np.repeat(table, at.size, axis=1)
    left = np.clip(np.searchsorted(knots, at, side="right") - 1, 0, knots.size - 2)
    share = np.clip((at - knots[left]) / (knots[left + 1] - knots[left]), 0.0, 1.0)
    return np.asarray((1.0 - share) * table[:, left] + share * table[:, left + 1])
