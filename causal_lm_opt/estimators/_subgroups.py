"""Cells of a value table: policies over everyone, and within the subgroups of ``by=``."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from causal_lm_opt.estimators._log import Log
from causal_lm_opt.estimators._policies import Policies

__all__ = [
    "Cell",
    "Subgroup",
    "cells_of",
    "in_subgroup",
    "spread",
    "subgroup_codes",
    "subgroup_rows",
    "subgroup_units",
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
            f"by: {len(small)} subgroups hold fewer than two rows ({', '.join(small[:5])}"
            f"{', ...' if len(small) > 5 else ''}); merge them."
        )
    return [(k, label) for k in range(policies.count) for label in labels]


def subgroup_rows(by: npt.NDArray[Any] | None, label: Any) -> IntArray | None:
    """Rows of a subgroup; ``None`` for everyone."""
    if label is None or by is None:
        return None
    rows = np.flatnonzero(by == label)
    if rows.size == 0:
        raise ValueError(
            f"X_target.by has no draw of the subgroup {str(label)!r}; give every subgroup draws."
        )
    return rows


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
        raise ValueError("by: a subgroup lies in one group of groups=; merge it with another.")
    return units


def subgroup_codes(log: Log, rows: IntArray | None) -> IntArray | None:
    """Cluster codes of a subgroup's rows."""
    return log.codes if log.codes is None or rows is None else log.codes[rows]


def spread(
    influence: FloatArray, rows: IntArray | None, s: FloatArray | None, n: int
) -> FloatArray:
    """A subgroup's influence on all ``n`` rows: zero outside, scaled to the full sample."""
    if rows is None:
        return influence
    total = float(n if s is None else s.sum())
    inside = float(rows.shape[0] if s is None else s[rows].sum())
    out = np.zeros(n)
    out[rows] = influence * (total / inside)
    return out
