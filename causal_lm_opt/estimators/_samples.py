"""A policy's value in pieces, and its influence functions as samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from causal_lm_opt.diagnostics.verdict import Verdict
from causal_lm_opt.estimators._log import Log
from causal_lm_opt.estimators._policies import Policies
from causal_lm_opt.estimators._target import TargetRows
from causal_lm_opt.influence import InfluenceSample, Resamples

__all__ = ["PolicyValue", "Replicates", "logged_sample", "policy_samples", "target_sample"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]


UNJUDGED = Verdict("caution", ("No diagnostic has judged this value.",))


@dataclass(frozen=True, eq=False)
class Replicates:
    """Bootstrap replicates of L values as an influence function (B, L).

    ``resamples`` says which logged rows they come from; ``None`` where texts are held fixed, whose
    readers alone are resampled.
    """

    influence: FloatArray
    key: str
    resamples: Resamples | None

    @property
    def size(self) -> int:
        """Number of replicates."""
        return int(self.influence.shape[0])

    def column(self, c: int) -> Replicates:
        """Those of one value."""
        return replace(self, influence=self.influence[:, [c]])


@dataclass(frozen=True, eq=False)
class PolicyValue:
    """One policy's value with the pieces its estimate is assembled from.

    ``logged`` and ``target`` are the influence functions of the two samples, ``None`` where one
    does not enter. ``units`` is the number of independent logged units of a subgroup, ``None`` for
    everyone. Nobody has judged it until a verdict is given (`_figures.judged`).
    """

    value: float
    logged: FloatArray | None
    target: FloatArray | None
    bias_bound: float = 0.0
    verdict: Verdict = UNJUDGED
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    replicates: Replicates | None = None
    units: float | None = None


def logged_sample(log: Log, influence: FloatArray) -> InfluenceSample:
    """The logged rows' influence functions as a sample."""
    return InfluenceSample(
        key=log.key,
        role="logged",
        influence=influence,
        sample_weight=log.sample_weight,
        codes=log.codes,
        n_clusters=log.n_clusters,
        cluster_key=log.cluster_key,
    )


def target_sample(log: Log, rows: TargetRows, influence: FloatArray) -> InfluenceSample:
    """A second sample's influence functions; clustered with the log where prompts are shared."""
    frequency = None if rows.plain else rows.frequency
    if rows.shared is not None:
        return InfluenceSample(
            rows.key, "target", influence, frequency, rows.shared, log.n_clusters, log.cluster_key
        )
    if rows.groups is None:
        return InfluenceSample(rows.key, "target", influence, frequency)
    labels, codes = np.unique(rows.groups, return_inverse=True)
    if labels.shape[0] < 2:
        raise ValueError("X_target.groups holds one distinct label; at least two are needed.")
    return InfluenceSample(
        rows.key, "target", influence, frequency, codes, labels.shape[0], f"{rows.key}:groups"
    )


def _columns(parts: Sequence[FloatArray | None], n: int) -> FloatArray:
    """Influence columns side by side (n, K), zero where there is none; one column is not copied."""
    if len(parts) == 1 and parts[0] is not None:
        return parts[0][:, None]
    out = np.zeros((n, len(parts)))
    for k, part in enumerate(parts):
        if part is not None:
            out[:, k] = part
    return out


def policy_samples(
    log: Log, policies: Policies, parts: Sequence[PolicyValue], positions: Sequence[int]
) -> tuple[InfluenceSample, ...]:
    """Influence samples of the policies at ``positions``; shared draws are one sample."""
    samples: list[InfluenceSample] = []
    logged = [p.logged for p in parts]
    if any(column is not None for column in logged):
        sample = logged_sample(log, _columns(logged, log.y.shape[0]))
        if any(p.units is not None for p in parts):
            sample = replace(sample, units=_units(sample, parts))
        samples.append(sample)
    columns: dict[str, tuple[TargetRows, FloatArray]] = {}
    for j, (k, part) in enumerate(zip(positions, parts, strict=True)):
        rows = policies.rows_of(k)
        if rows is None or part.target is None or rows.exact:
            continue
        if len(parts) == 1:
            columns[rows.key] = (rows, part.target[:, None])
            continue
        _, block = columns.setdefault(rows.key, (rows, np.zeros((rows.size, len(parts)))))
        block[:, j] = part.target
    samples += [target_sample(log, rows, block) for rows, block in columns.values()]
    replicates = [p.replicates for p in parts if p.replicates is not None]
    if replicates:
        samples.append(_replicated(log, replicates, parts))
    return tuple(samples)


def _units(sample: InfluenceSample, parts: Sequence[PolicyValue]) -> FloatArray:
    """Independent logged units behind each part (K,)."""
    every = sample.unit_counts()
    return np.array([every[j] if p.units is None else p.units for j, p in enumerate(parts)])


def _replicated(
    log: Log, replicates: Sequence[Replicates], parts: Sequence[PolicyValue]
) -> InfluenceSample:
    """Replicates as a sample; few clusters and subgroups keep the degrees of freedom they have."""
    stacked = np.concatenate([r.influence for r in replicates], axis=1)
    units = None
    if log.codes is not None or any(p.units is not None for p in parts):
        units = _units(logged_sample(log, np.zeros((log.y.shape[0], len(parts)))), parts)
    return InfluenceSample(
        replicates[0].key, "replicates", stacked, units=units, resamples=replicates[0].resamples
    )
