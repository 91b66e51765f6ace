"""The gap between a reward's accuracy on pairs like those of training and on others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

__all__ = ["AccuracyGap", "accuracy_gap"]


@dataclass(frozen=True)
class AccuracyGap:
    """Accuracy where training looked and where it did not.

    Attributes
    ----------
    inside, outside : float
        Accuracies on pairs like those of training, and on others.
    gap, se : float
        Their difference and its standard error.
    low, high : float
        Normal interval of the gap.
    """

    inside: float
    outside: float
    gap: float
    se: float
    low: float
    high: float

    def __str__(self) -> str:
        return (
            f"accuracy {self.inside:.3f} like training, {self.outside:.3f} elsewhere: gap "
            f"{self.gap:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"
        )


def accuracy_gap(
    margin_id: Any,
    margin_ood: Any,
    *,
    label_id: Any = None,
    label_ood: Any = None,
    groups_id: Any = None,
    groups_ood: Any = None,
    level: float = 0.95,
) -> AccuracyGap:
    """Gap of a reward's accuracy between pairs like those of training and others.

    Parameters
    ----------
    margin_id, margin_ood : arrays, shape (n,), (m,)
        Reward of the response that was preferred less that of the other, on two separate samples.
    label_id, label_ood : arrays, optional
        Probability that the first response is the better one; 1 by default, .5 for ties.
    groups_id, groups_ood : arrays, optional
        Clusters, such as prompts; standard errors allow for them.
    level : float

    Returns
    -------
    AccuracyGap
        It speaks of this reward: how it would differ on other training draws is not in it.

    Examples
    --------
    >>> print(accuracy_gap([1.0] * 90 + [-1.0] * 10, [1.0] * 60 + [-1.0] * 40))
    accuracy 0.900 like training, 0.600 elsewhere: gap +0.300 [+0.187, +0.413]
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie strictly between 0 and 1, got {level!r}.")
    a, se_a = _accuracy(margin_id, label_id, groups_id, "id")
    b, se_b = _accuracy(margin_ood, label_ood, groups_ood, "ood")
    se = math.hypot(se_a, se_b)
    half = float(stats.norm.ppf(0.5 + level / 2)) * se
    return AccuracyGap(a, b, a - b, se, a - b - half, a - b + half)


def _accuracy(margin: Any, label: Any, groups: Any, name: str) -> tuple[float, float]:
    """Mean accuracy and its (clustered) standard error."""
    m = np.asarray(margin, dtype=np.float64)
    if m.ndim != 1 or m.size < 2 or not np.isfinite(m).all():
        raise ValueError(f"margin_{name} must be at least two finite numbers.")
    p = np.ones(m.size) if label is None else np.asarray(label, dtype=np.float64)
    if p.shape != m.shape or not ((p >= 0.0) & (p <= 1.0)).all():
        raise ValueError(f"label_{name} must be {m.size} probabilities.")
    right = np.where(m > 0.0, p, np.where(m < 0.0, 1.0 - p, 0.5))
    off = right - right.mean()
    if groups is not None:
        codes = pd.factorize(np.asarray(groups))[0]
        if codes.size != m.size or codes.max() < 1:
            raise ValueError(f"groups_{name} must name at least two clusters of {m.size} rows.")
        off = np.bincount(codes, weights=off)
    units = off.size
    se = math.sqrt(units / (units - 1.0) * float(off @ off)) / m.size
    return float(right.mean()), se
