"""Cluster bootstrap with refit: resampled logs and draws, the learners fitted anew each time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed

from causal_lm_opt._validation import digest, take_rows
from causal_lm_opt.diagnostics.verdict import Verdict, worst
from causal_lm_opt.estimators._estimand import resample_readers, spread_of_readers
from causal_lm_opt.estimators._log import Log
from causal_lm_opt.estimators._policies import Policies
from causal_lm_opt.estimators._progress import track
from causal_lm_opt.estimators._samples import Replicates
from causal_lm_opt.estimators._target import TargetRows

__all__ = ["bootstrap_values", "replicate_influence", "with_lost"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
MOST_LOST = 0.05  # share of resamples that cannot be valued
Statistic = Callable[[Log, Policies, IntArray], FloatArray]


@dataclass(frozen=True, eq=False)
class Resamples:
    """Which logged rows each replicate holds; drawn anew from the seed wherever they are needed.

    Attributes
    ----------
    rows : str
        Identity of the logged rows.
    n : int
    sample_weight : array, shape (n,), optional
    codes : integer array, shape (n,), optional
    n_clusters, seed : int
    kept : integer array, shape (B,)
        Numbers of the replicates that could be valued.
    """

    rows: str
    n: int
    sample_weight: FloatArray | None
    codes: IntArray | None
    n_clusters: int
    seed: int
    kept: IntArray

    @property
    def key(self) -> str:
        """Identity of the resamples: replicates of two estimates pair where it is the same."""
        return f"{self.rows}:bootstrap:{self.seed}:{digest(self.kept)}"

    def means(self, columns: FloatArray) -> FloatArray:
        """Means (B, K) of the columns (n, K) on each resample's rows."""
        found = np.empty((self.kept.shape[0], columns.shape[1]))
        for row, b in enumerate(self.kept):
            rng = np.random.default_rng([self.seed, int(b)])
            counts = None if self.codes is None else _cluster_counts(self.n_clusters, rng)
            picked, spent = _resample(self.n, self.codes, counts, self.sample_weight, rng)
            s = None if spent or self.sample_weight is None else self.sample_weight[picked]
            found[row] = np.average(columns[picked], axis=0, weights=s)
        return found


def _cluster_rows(codes: IntArray, counts: IntArray) -> IntArray:
    """Row positions of resampled clusters, each cluster's rows ``counts[g]`` times."""
    return np.repeat(np.arange(codes.shape[0]), counts[codes])


def _resample(
    n: int, codes: IntArray | None, counts: IntArray | None, s: FloatArray | None,
    rng: np.random.Generator,
) -> tuple[IntArray, bool]:  # fmt: skip
    """Resampled row positions, and whether frequency weights are already spent on them."""
    if codes is not None and counts is not None:
        return _cluster_rows(codes, counts), False
    if s is None:
        return rng.integers(0, n, size=n), False
    return rng.choice(n, size=int(np.rint(s.sum())), p=s / s.sum()), True


def _cluster_counts(n_clusters: int, rng: np.random.Generator) -> IntArray:
    return np.bincount(rng.integers(0, n_clusters, size=n_clusters), minlength=n_clusters)


def _resample_rows(
    rows: TargetRows, counts: IntArray | None, rng: np.random.Generator
) -> TargetRows:
    if rows.exact:
        return rows
    if rows.shared is not None:
        return rows.select_rows(_cluster_rows(rows.shared, np.asarray(counts)))
    codes, own = None, None
    if rows.groups is not None:
        labels, codes = np.unique(rows.groups, return_inverse=True)
        own = _cluster_counts(labels.shape[0], rng)
    plain = bool((rows.frequency == 1).all())
    picked, spent = _resample(rows.size, codes, own, None if plain else rows.frequency, rng)
    out = rows.select_rows(picked)
    return replace(out, frequency=np.ones(picked.shape[0])) if spent else out


def _one(log: Log, policies: Policies, statistic: Statistic, seed: list[int]) -> FloatArray | str:
    """Values of one resample, or why it has none (say that its rows no longer reach the target)."""
    rng = np.random.default_rng(seed)
    counts = None
    if log.texts is not None:  # texts stay, their readers vary
        picked, spent = resample_readers(log.texts, log.sample_weight, rng), True
    else:
        counts = None if log.codes is None else _cluster_counts(log.n_clusters, rng)
        picked, spent = _resample(log.y.shape[0], log.codes, counts, log.sample_weight, rng)

    def pick(a: Any) -> Any:
        return None if a is None else a[picked]

    resampled = replace(
        log,
        X=take_rows(log.X, picked),
        labels=log.labels[picked],
        y=log.y[picked],
        sample_weight=None if spent else pick(log.sample_weight),
        codes=pick(log.codes),
        logp_logging=pick(log.logp_logging),
        by=pick(log.by),
        taken=None,
        n_given=picked.shape[0],
        texts=pick(log.texts),
    )
    draws = policies.row_sets
    if log.texts is None:
        draws = tuple(_resample_rows(r, counts, rng) for r in draws)
    ell = None if policies.ell is None else policies.ell.take(picked)
    try:
        return statistic(resampled, replace(policies, ell=ell, row_sets=draws), picked)
    except (ValueError, np.linalg.LinAlgError) as error:  # counted by bootstrap_values
        return str(error)


def bootstrap_values(
    log: Log,
    policies: Policies,
    statistic: Statistic,
    *,
    n_bootstrap: int,
    seed: int,
    n_jobs: int | None,
) -> Replicates:
    """Replicates of the values; fewer than ``n_bootstrap`` where some could not be valued.

    Clusters (prompts, readers) are resampled whole; draws are resampled on their own, or with the
    log's clusters where they share prompts. Replicate b uses the seed ``(seed, b)``, so that
    estimators on the same log see the same resamples. Where these texts are the estimand, the
    readers of each text are resampled and the draws stay.

    Raises
    ------
    ValueError
        Where more than half of the resamples cannot be valued; the first of them is named.
    """
    if n_bootstrap < 20:
        raise ValueError(
            f"n_bootstrap must be at least 20 for a standard error, got {n_bootstrap}."
        )
    values = Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(_one)(log, policies, statistic, [seed, b]) for b in range(n_bootstrap)
    )
    every = list(track(values, n_bootstrap, "bootstrap replicates"))
    kept = [b for b, value in enumerate(every) if not isinstance(value, str)]
    if 2 * len(kept) < n_bootstrap:
        first = next(b for b, value in enumerate(every) if isinstance(value, str))
        raise ValueError(
            f"{n_bootstrap - len(kept)} of {n_bootstrap} bootstrap resamples cannot be valued, so "
            f"that there is no standard error. Replicate {first}: {every[first]}"
        )
    found = np.array([every[b] for b in kept])
    if log.texts is not None:
        found = spread_of_readers(found, log.texts, log.sample_weight)
    drawn = Resamples(
        log.key, log.y.shape[0], log.sample_weight, log.codes, log.n_clusters, seed, np.array(kept)
    )
    return Replicates(replicate_influence(found), drawn.key, drawn if log.texts is None else None)


def with_lost(verdict: Verdict, kept: int, n_bootstrap: int) -> Verdict:
    """The verdict, at least caution where more than one resample in twenty had no value."""
    lost = n_bootstrap - kept
    if lost <= MOST_LOST * n_bootstrap:
        return verdict
    text = (
        f"{lost} of {n_bootstrap} bootstrap resamples could not be valued and were left out, most "
        "likely those least like the target: the standard error is too small. Use fewer features, "
        "or a tolerance."
    )
    return worst([verdict, Verdict("caution", (text,))])


def replicate_influence(values: FloatArray) -> FloatArray:
    r"""Replicates as an influence function: :math:`\sqrt{B}(V_b - \bar V)`, shape of ``values``.

    The covariance of these pseudo-rows is the bootstrap covariance.
    """
    return np.asarray(np.sqrt(values.shape[0]) * (values - values.mean(axis=0)))
