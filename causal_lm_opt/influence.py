"""Influence functions of a sample, and the covariances and intervals that follow from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from causal_lm_opt.core import inference as inf

__all__ = [
    "InfluenceSample",
    "bernstein_interval",
    "covariance_parts",
    "independent_units",
    "merge_samples",
    "multiplier_interval",
    "on_resamples",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]


class Resamples(Protocol):
    """The logged rows behind bootstrap replicates."""

    @property
    def rows(self) -> str:
        """Identity of the logged rows (an :class:`InfluenceSample`'s ``key``)."""

    @property
    def codes(self) -> IntArray | None:
        """Clusters that were resampled whole."""

    def means(self, columns: FloatArray) -> FloatArray:
        """Means (B, K) of the columns (n, K) on each resample's rows."""


@dataclass(frozen=True, eq=False)
class InfluenceSample:
    r"""Influence functions of K values on one sample of rows.

    Attributes
    ----------
    key : str
        Identity of the rows: two estimates that share rows or draws carry the same key, and their
        influence functions add row by row in a contrast.
    role : {"logged", "target", "replicates", "splits"}
        Logged rows, second sample, bootstrap replicates, or repeated sample splits.
    influence : array, shape (n, K)
        :math:`\phi_{ik}`; :math:`\hat V_k - V_k \approx \sum_i s_i \phi_{ik} / \sum_i s_i` plus
        the other samples' terms.
    sample_weight : array, shape (n,), optional
        Frequency weights ``s``.
    codes : integer array, shape (n,), optional
        Cluster of each row, ``0 .. n_clusters - 1``.
    n_clusters : int
    cluster_key : str
        Identity of the clusters' label space: samples with the same key share clusters (prompts
        that occur both in the log and among the draws).
    units : array, shape (K,), optional
        Independent units behind each column where fewer than the sample's carry it (a subgroup's):
        rows, or the equal clusters that its clusters are worth.
    resamples : Resamples, optional
        Of replicates: which logged rows each of them holds.
    """

    key: str
    role: Literal["logged", "target", "replicates", "splits"]
    influence: FloatArray
    sample_weight: FloatArray | None = None
    codes: IntArray | None = None
    n_clusters: int = 0
    cluster_key: str = ""
    units: FloatArray | None = None
    resamples: Resamples | None = None

    def unit_contributions(self) -> FloatArray:
        """Contributions of the independent units, shape (G, K) or (n, K)."""
        if self.codes is None:
            return np.asarray(inf.contributions(self.influence, self.sample_weight))
        return np.asarray(
            inf.cluster_contributions(
                self.influence, self.sample_weight, self.codes, self.n_clusters
            )
        )

    def with_influence(
        self, influence: FloatArray, units: FloatArray | None = None
    ) -> InfluenceSample:
        """The same rows with other influence columns (and their numbers of units)."""
        return replace(self, influence=influence, units=units)

    def columns(self, positions: Sequence[int]) -> InfluenceSample:
        """The columns at ``positions``."""
        units = None if self.units is None else self.units[list(positions)]
        return self.with_influence(self.influence[:, list(positions)], units)

    def combined(self, matrix: FloatArray) -> InfluenceSample:
        """Linear combinations of the columns; each as well founded as its weakest column."""
        units = self.units
        if units is not None:
            units = np.array([units[np.flatnonzero(row)].min(initial=np.inf) for row in matrix])
        return self.with_influence(self.influence @ matrix.T, units)

    def unit_counts(self) -> FloatArray:
        """Independent units behind each column, shape (K,): rows, or what clusters are worth."""
        if self.units is not None:
            return self.units
        weight = self.sample_weight
        if self.codes is None:
            every = float(self.influence.shape[0] if weight is None else weight.sum())
        else:
            every = inf.effective_count(np.bincount(self.codes, weights=weight).astype(np.float64))
        return np.full(self.influence.shape[1], every)


def covariance_parts(samples: Sequence[InfluenceSample]) -> list[tuple[FloatArray, FloatArray]]:
    """Covariance (K, K) and degrees of freedom (K,) of each independent part.

    The small-sample factor is ``n / (n - 1)`` with each column's own number of rows (a subgroup's
    has ``n - 1`` degrees of freedom), or ``G / (G - 1)`` with the number of clusters, whose degrees
    of freedom are one less than the number of equal clusters that they are worth (at least 1).

    Examples
    --------
    >>> import numpy as np
    >>> sample = InfluenceSample('log', 'logged', np.array([[1.], [-1.], [1.], [-1.]]))
    >>> ((covariance, dof),) = covariance_parts([sample])
    >>> covariance.round(4).tolist(), dof.tolist()
    ([[0.3333]], [inf])
    """
    parts: list[tuple[FloatArray, FloatArray]] = []
    shared: dict[str, list[InfluenceSample]] = {}
    for sample in samples:
        if sample.codes is None:
            cov = np.asarray(inf.influence_covariance(sample.influence, sample.sample_weight))
            dof = np.full(cov.shape[0], math.inf)
            if sample.units is not None:
                n = replace(sample, units=None).unit_counts()
                cov = cov * _factor(sample.units) / _factor(n)
                dof = np.where(sample.units < n, np.maximum(sample.units - 1.0, 1.0), math.inf)
            parts.append((cov, dof))
        else:
            shared.setdefault(sample.cluster_key, []).append(sample)
    for group in shared.values():
        total = sum((s.unit_contributions() for s in group), np.zeros(1))
        clusters = group[0].n_clusters
        units = np.min([s.unit_counts() for s in group], axis=0)
        parts.append((
            clusters / (clusters - 1.0) * (total.T @ total), np.maximum(units - 1.0, 1.0)
        ))  # fmt: skip
    return parts


def _factor(units: FloatArray) -> FloatArray:
    """Small-sample factor ``n / (n - 1)`` of a covariance, shape (K, K)."""
    root = np.sqrt(units / (units - 1.0))
    return np.asarray(root[:, None] * root[None, :])


def merge_samples(
    left: Sequence[InfluenceSample], right: Sequence[InfluenceSample], sign: float
) -> tuple[InfluenceSample, ...]:
    """Row-wise sum of influence functions; samples of one side only are kept with their sign.

    Where one side is a bootstrap and the other rests on the same logged rows alone, the latter is
    taken on the former's resamples, so that the two keep their correlation.

    Examples
    --------
    >>> import numpy as np
    >>> sample = InfluenceSample('log', 'logged', np.array([[1.], [-1.]]))
    >>> (merged,) = merge_samples([sample], [sample], -1.0)  # an estimate less itself
    >>> merged.influence.ravel().tolist()
    [0.0, 0.0]
    """
    left, right = on_resamples(left, right), on_resamples(right, left)
    out = {(s.key, s.role, s.influence.shape[0]): s for s in left}
    for s in right:
        name = (s.key, s.role, s.influence.shape[0])
        if name in out:
            common = _same_clusters(out[name], s)
            units = None
            if common.units is not None or s.units is not None or out[name].units is not None:
                units = np.minimum(out[name].unit_counts(), s.unit_counts())
            out[name] = common.with_influence(out[name].influence + sign * s.influence, units)
        else:
            out[name] = s.with_influence(sign * s.influence, s.units)
    return tuple(out.values())


def on_resamples(
    samples: Sequence[InfluenceSample], others: Sequence[InfluenceSample]
) -> tuple[InfluenceSample, ...]:
    """Samples that are logged rows alone as replicates of the others' bootstrap of these rows.

    Others, and those that share nothing with the bootstrap, come back as they are.

    Examples
    --------
    >>> import numpy as np
    >>> sample = InfluenceSample('log', 'logged', np.array([[1.], [-1.]]))
    >>> on_resamples([sample], [sample])[0] is sample  # no bootstrap
    True
    """
    given = tuple(samples)
    boot = next((s for s in others if s.resamples is not None), None)
    if boot is None or boot.resamples is None or [s.role for s in given] != ["logged"]:
        return given
    (sample,), drawn = given, boot.resamples
    alike = sample.codes is drawn.codes or (
        sample.codes is not None
        and drawn.codes is not None
        and np.array_equal(sample.codes, drawn.codes)
    )
    if sample.key != drawn.rows or not alike:
        return given
    means = drawn.means(sample.influence)
    centred = np.sqrt(means.shape[0]) * (means - means.mean(axis=0))
    units = sample.units if sample.codes is None else sample.unit_counts()
    return (InfluenceSample(boot.key, "replicates", centred, units=units, resamples=drawn),)


def _same_clusters(a: InfluenceSample, b: InfluenceSample) -> InfluenceSample:
    """Whichever of two samples of the same rows is clustered; refuses two different clusterings."""
    if a.codes is None or b.codes is None:
        return b if a.codes is None else a
    if a.cluster_key != b.cluster_key or not np.array_equal(a.codes, b.codes):
        raise ValueError(
            "These estimates cluster the same rows differently, so that their combination has no "
            "standard error; fit both with the same groups."
        )
    return a


def independent_units(samples: Sequence[InfluenceSample]) -> FloatArray:
    """Contributions of all independent units of the samples, shape (units, K).

    Examples
    --------
    >>> import numpy as np
    >>> sample = InfluenceSample('log', 'logged', np.array([[1.], [-1.]]))
    >>> independent_units([sample]).ravel().tolist()
    [0.5, -0.5]
    """
    rows: list[FloatArray] = []
    shared: dict[str, FloatArray] = {}
    for s in samples:
        if s.codes is None:
            rows.append(s.unit_contributions())
        else:
            shared[s.cluster_key] = shared.get(s.cluster_key, 0.0) + s.unit_contributions()
    return np.concatenate([*rows, *shared.values()])


def multiplier_interval(
    units: FloatArray,
    values: FloatArray,
    se: FloatArray,
    *,
    level: float,
    n_boot: int,
    random_state: int,
) -> FloatArray:
    """Studentised multiplier-bootstrap intervals (K, 2) with Mammen's two-point multipliers.

    Parameters
    ----------
    units : array, shape (units, K)
        Contributions of the independent units.
    values, se : arrays, shape (K,)

    Examples
    --------
    >>> import numpy as np
    >>> units = np.random.default_rng(0).normal(size=(400, 1)) / 400
    >>> se = np.sqrt((units ** 2).sum(axis=0))
    >>> settings = {'level': .95, 'n_boot': 500, 'random_state': 0}
    >>> low, high = multiplier_interval(units, np.zeros(1), se, **settings)[0]
    >>> bool(-.13 < low < -.07), bool(.07 < high < .13)
    (True, True)
    """
    rng = np.random.default_rng(random_state)
    low, high = (1 - math.sqrt(5)) / 2, (1 + math.sqrt(5)) / 2
    prob_low = (math.sqrt(5) + 1) / (2 * math.sqrt(5))
    chunk = max(1, int(2e7 // max(units.shape[0], 1)))  # <= 160 MB of multipliers at a time
    stats = []
    for start in range(0, n_boot, chunk):
        size = (min(chunk, n_boot - start), units.shape[0])
        xi = np.where(rng.random(size) < prob_low, low, high)
        stats.append(
            np.stack([inf.multiplier_t(units[:, k], xi) for k in range(units.shape[1])], axis=1)
        )
    tails = np.quantile(np.concatenate(stats), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return np.stack([values - tails[1] * se, values - tails[0] * se], axis=1)


def bernstein_interval(
    sample: InfluenceSample, values: FloatArray, bounds: tuple[float, float], *, level: float
) -> FloatArray:
    """Empirical Bernstein intervals (K, 2) of means of independent terms with known bounds.

    Clusters and weighted rows enter as sums, with the bounds of the largest.

    Examples
    --------
    >>> import numpy as np
    >>> y = np.tile([0., 1.], 200)
    >>> sample = InfluenceSample('log', 'logged', (y - .5)[:, None])
    >>> bernstein_interval(sample, np.array([.5]), (0., 1.), level=.95).round(3).tolist()
    [[0.4, 0.6]]
    """
    lower, upper = bounds
    if not lower < upper:
        raise ValueError(f"bounds must be (lower, upper) with lower < upper, got {bounds!r}.")
    terms = sample.influence + values
    if float(terms.min()) < lower - 1e-9 or float(terms.max()) > upper + 1e-9:
        raise ValueError(
            f"bounds={bounds!r} do not hold: the terms w * y reach from {terms.min():.4g} to "
            f"{terms.max():.4g}."
        )
    reach = (lower, upper)
    if sample.codes is not None or sample.sample_weight is not None:
        s = np.ones(terms.shape[0]) if sample.sample_weight is None else sample.sample_weight
        codes = np.arange(s.shape[0]) if sample.codes is None else sample.codes
        groups = int(codes.max()) + 1
        scale = groups / s.sum()
        terms = np.asarray(inf.cluster_sums(s[:, None] * terms, codes, groups)) * scale
        largest = float((np.bincount(codes, weights=s) * scale).max())
        reach = (min(0.0, lower) * largest, max(0.0, upper) * largest)
    rows = [
        inf.empirical_bernstein(terms[:, k], lower=reach[0], upper=reach[1], level=level)
        for k in range(terms.shape[1])
    ]
    return np.array(rows)
