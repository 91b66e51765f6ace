"""Whether two samples answer prompts in one mix, with chance as their standard errors count it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from causal_lm_opt.estimators._policies import to_logged_frequencies

__all__ = ["Mix", "homogeneity_p", "mix_of", "weights_to_clusters"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Mix:
    """Shares of prompts, and how many independent rows would say as much of them."""

    share: Mapping[str, float]
    size: float


def mix_of(prompts: Sequence[str] | NDArray[Any], weight: Any = None, groups: Any = None) -> Mix:
    r"""The mix of prompts of a sample.

    Rows of a cluster are not independent: the number of rows S is divided by the mean design effect
    of the P shares (Rao and Scott 1981),
    :math:`[\sum_{cp} N_{cp}^2 / b_p - \sum_c N_c^2] / (S (P - 1))`, where above 1.

    Parameters
    ----------
    prompts : sequence of str, length n
    weight : array, shape (n,), optional
        Frequencies.
    groups : array, shape (n,), optional

    Examples
    --------
    >>> mix_of(["a", "a", "b", "b"])
    Mix(share={'a': 0.5, 'b': 0.5}, size=4.0)
    >>> mix_of(["a", "a", "b", "b"], groups=[1, 1, 2, 2]).size
    2.0
    """
    codes, names = pd.factorize(np.asarray(prompts, dtype=object))
    s = np.ones(codes.size) if weight is None else np.asarray(weight, dtype=np.float64)
    count = np.bincount(codes, weights=s, minlength=names.size)
    total, share = float(count.sum()), count / count.sum()
    effect = 1.0
    if groups is not None and names.size > 1:
        cluster, _ = pd.factorize(np.asarray(groups, dtype=object))
        pairs, at = np.unique(cluster * names.size + codes, return_inverse=True)
        both = np.bincount(at, weights=s)
        present = both > 0
        within = (both[present] ** 2 / share[pairs[present] % names.size]).sum()
        whole = (np.bincount(cluster, weights=s) ** 2).sum()
        effect = max(float(within - whole) / (total * (names.size - 1)), 1.0)
    return Mix(dict(zip(names.tolist(), share.tolist(), strict=True)), total / effect)


def homogeneity_p(left: Mix, right: Mix) -> float:
    r"""p-value of Pearson's test that two samples have one mix.

    The statistic is referred to a scaled chi-square with its exact mean and variance given both
    margins (Dawson 1954), as many prompts may have a row or two each. A sample whose counts were
    fixed (so many draws for each prompt) differs by less than chance, and the test errs to 1.

    Examples
    --------
    >>> many = mix_of(["a", "b"] * 100)
    >>> homogeneity_p(many, many)
    1.0
    >>> round(homogeneity_p(many, mix_of(["a", "b", "b", "b"] * 20)), 4)
    0.0001
    """
    names = sorted(name for name in {*left.share, *right.share})
    n, m = left.size, right.size
    a = np.array([left.share.get(name, 0.0) for name in names])
    b = np.array([right.share.get(name, 0.0) for name in names])
    total, every = n + m, n * a + m * b
    names_count = int((every > 0).sum())
    if names_count < 2 or total <= 4:
        return 1.0
    a, b, every = a[every > 0], b[every > 0], every[every > 0]
    statistic = float(n * m * ((a - b) ** 2 / every).sum())
    mean, variance = _moments(n, m, every)
    if not variance > 0:  # every prompt once: no sample of this size could tell
        return 1.0
    scale = variance / (2.0 * mean)
    return float(stats.chi2.sf(statistic / scale, mean / scale))


def _moments(n: float, m: float, every: FloatArray) -> tuple[float, float]:
    """Mean and variance of the statistic of a 2 x c table given its margins."""
    total, c = n + m, every.size
    v1, v2 = (total - 2) / (total - 1), (c - 1) * (total - c) / (total - 1)
    w1 = (total * (1 / n + 1 / m) - 4) / (total - 2)
    w2 = (total * (1 / every).sum() - c**2) / (total - 2)
    variance = 2 * total / (total - 3) * (v1 - w1) * (v2 - w2) + total**2 / (total - 1) * w1 * w2
    return total * (c - 1) / (total - 1), variance


def weights_to_clusters(
    groups: NDArray[Any] | None, weight: FloatArray, logged: NDArray[Any] | None,
    logged_weight: FloatArray | None,
) -> FloatArray:  # fmt: skip
    """Frequencies (m,) of draws as estimators count them: by the log's clusters where shared.

    Draws of other clusters than the log's then count 0.

    >>> groups, logged = np.array(["x", "y", "y", "z"]), np.array(["x", "x", "y"])
    >>> weights_to_clusters(groups, np.ones(4), logged, None).tolist()
    [2.0, 0.5, 0.5, 0.0]
    """
    if groups is None or logged is None:
        return weight
    codes, names = pd.factorize(logged)
    at = pd.Index(names).get_indexer(pd.Index(groups))
    kept = at >= 0
    if not kept.any():
        return weight
    out = np.zeros(weight.shape[0])
    count = np.bincount(codes, weights=logged_weight, minlength=names.size).astype(np.float64)
    out[kept] = to_logged_frequencies(weight[kept], at[kept], count)
    return out
