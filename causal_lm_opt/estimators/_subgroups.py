"""Cells of a value table: policies over everyone, and within the subgroups of ``by=``."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from causal_lm_opt.core.inference import leave_out_factor
from causal_lm_opt.diagnostics.overlap import effective_clusters
from causal_lm_opt.estimators._log import Log
from causal_lm_opt.estimators._policies import Policies
from causal_lm_opt.estimators._target import TargetRows

__all__ = [
    "Cell",
    "Subgroup",
    "cells_of",
    "in_subgroup",
    "in_the_log_s_mix",
    "own_draws",
    "spread",
    "subgroup_codes",
    "subgroup_rows",
    "subgroup_units",
    "subgroup_worth",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
Subgroup = tuple[IntArray | None, FloatArray, FloatArray, FloatArray | None]
Cell = tuple[int, Any]  # policy position, subgroup label (None: everyone)


def cells_of(log: Log, policies: Policies, *, by: bool = False) -> list[Cell]:
    """Every policy over all readers, or in every subgroup of ``by``."""
    if not by:
        return [(k, None) for k in range(policies.count)]
    if log.by is None:
        return []
    labels = np.unique(log.by)
    s = np.ones(log.y.shape[0]) if log.sample_weight is None else log.sample_weight
    small = [str(b) for b in labels if float(s[log.by == b].sum()) < 2]
    if small:
        raise ValueError(
            f"by: {len(small)} of {len(labels)} subgroups have fewer than two rows "
            f"({', '.join(map(repr, small[:5]))}{', ...' if len(small) > 5 else ''}): give their "
            "rows the label of a larger one."
        )
    return [(k, label) for k in range(policies.count) for label in labels]


def subgroup_rows(by: npt.NDArray[Any] | None, label: Any) -> IntArray | None:
    """Rows of a subgroup; ``None`` for everyone."""
    if label is None or by is None:
        return None
    rows = np.flatnonzero(by == label)
    if rows.size == 0:
        raise ValueError(
            f"X_target.by has no draw of the subgroup {str(label)!r}, but of "
            f"{', '.join(repr(str(b)) for b in np.unique(by)[:5])}; give every subgroup draws, "
            "labels written as in the log."
        )
    return rows


def in_the_log_s_mix(log: Log, second: TargetRows) -> TargetRows:
    """The draws, their frequencies such that each subgroup has its share of the log.

    As they are where log or draws do not say their subgroups, a subgroup has no draw, prompts are
    shared (draws then follow the log's prompts), or the rows are an exact support.
    """
    if log.by is None or second.by is None or second.exact or second.shared is not None:
        return second
    s = np.ones(log.y.shape[0]) if log.sample_weight is None else log.sample_weight
    factor = np.zeros(second.size)
    for label in np.unique(log.by):
        at = second.by == label
        drawn = float(second.frequency[at].sum())
        if not drawn > 0:
            return second
        factor[at] = (s[log.by == label].sum() / s.sum()) / (drawn / second.frequency.sum())
    return replace(second, frequency=second.frequency * factor)


def own_draws(log: Log, second: TargetRows | None, rows: IntArray | None) -> TargetRows | None:
    """A subgroup's own draws, where draws say whose readers they are for; else all of them.

    Of all readers (``rows`` is None) in the log's mix of subgroups, as log ratios may depend on the
    subgroup.
    """
    if second is None or second.by is None or log.by is None:
        return second
    if rows is None:
        return in_the_log_s_mix(log, second)
    picked = subgroup_rows(second.by, log.by[rows[0]])
    return second if picked is None else second.select_rows(picked)


def in_subgroup(log: Log, ell: FloatArray, label: Any) -> Subgroup:
    """Rows of a subgroup (``None``: all) and their log ratios, outcomes and frequencies."""
    rows, s = subgroup_rows(log.by, label), log.sample_weight
    if rows is None:
        return rows, ell, log.y, s
    return rows, ell[rows], log.y[rows], None if s is None else s[rows]


def subgroup_units(log: Log, rows: IntArray | None) -> float | None:
    """Independent units of a subgroup: its clusters, or its rows; ``None`` for everyone.

    Raises
    ------
    ValueError
        When the subgroup lies in one cluster, which has no standard error.
    """
    if rows is None:
        return None
    if log.codes is None:
        s = log.sample_weight
        return float(rows.size if s is None else s[rows].sum())
    units = float(np.unique(log.codes[rows]).size)
    if units < 2:
        label = "" if log.by is None else f" {str(log.by[rows[0]])!r}"
        raise ValueError(
            f"by: the subgroup{label} lies in one group of groups= (--group), which has no "
            "standard error; merge it with another subgroup, or leave its rows out."
        )
    return units


def subgroup_worth(log: Log, rows: IntArray | None) -> float | None:
    """Its rows, or the equal clusters that its clusters are worth; ``None`` for everyone."""
    units = subgroup_units(log, rows)
    if rows is None or log.codes is None:
        return units
    return effective_clusters(
        log.codes[rows], None if log.sample_weight is None else log.sample_weight[rows]
    )


def subgroup_codes(log: Log, rows: IntArray | None) -> IntArray | None:
    """Cluster codes of a subgroup's rows."""
    return log.codes if log.codes is None or rows is None else log.codes[rows]


def spread(
    influence: FloatArray,
    rows: IntArray | None,
    s: FloatArray | None,
    n: int,
    codes: IntArray | None = None,
) -> FloatArray:
    """A subgroup's influence on all ``n`` rows: zero outside, scaled to the full sample.

    ``codes``: clusters of all rows. `core.cluster_contributions` divides by one less a cluster's
    share of all rows; what counts is its share of the subgroup's, which is brought in here.
    """
    if rows is None:
        return influence
    if codes is not None:
        influence = influence * _share_of_subgroup(codes, rows, np.ones(n) if s is None else s)
    total = float(n if s is None else s.sum())
    inside = float(rows.shape[0] if s is None else s[rows].sum())
    out = np.zeros(n)
    out[rows] = influence * (total / inside)
    return out


def _share_of_subgroup(codes: IntArray, rows: IntArray, s: FloatArray) -> FloatArray:
    """What turns a cluster's factor in all rows, and theirs, into those in a subgroup's rows."""
    count = int(codes.max()) + 1
    labels, inside = np.unique(codes[rows], return_inverse=True)
    some = labels.size
    if some < 2:  # refused elsewhere
        return np.ones(rows.size)
    factor = leave_out_factor(s[rows], inside, some) / leave_out_factor(s, codes, count)[labels]
    return np.asarray(math.sqrt(some / (some - 1) * (count - 1) / count) * factor[inside])
