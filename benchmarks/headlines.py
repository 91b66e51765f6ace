"""What ``benchmarks.upworthy`` is made of: the model that picks headlines, readers dealt in halves,
realised click rates.

``cells`` is everywhere the table of `Upworthy.headlines`: one row (m) a headline of a stratum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold

Float = NDArray[np.float64]


# ------------------------------------------------------------------ the outcome model
def within(values: Any, codes: NDArray[np.intp], weight: Float) -> Any:
    """Rows (m, d) less their stratum's weighted mean; sparse stays sparse."""
    _, codes = np.unique(codes, return_inverse=True)
    share = weight / np.bincount(codes, weights=weight)[codes]
    rows = np.arange(codes.size)
    mean = sparse.csr_matrix((share, (codes, rows))) @ values
    return values - mean[codes]


@dataclass(frozen=True)
class HeadlineModel:
    """How a headline's click rate departs from its stratum's, and the level of all of them."""

    features: TfidfVectorizer
    ridge: Ridge
    level: float

    def predict(self, cells: pd.DataFrame) -> Float:
        """Click rates (m,) predicted of headlines; in each stratum they average to the level."""
        score = self.ridge.predict(self.features.transform(cells["headline"]))
        p = cells["probability"].to_numpy()
        rate = self.level + within(score, cells["stratum"].to_numpy(), p)
        return np.asarray(np.clip(rate, 0.0, 1.0))


def fit_model(cells: pd.DataFrame, alphas: Sequence[float]) -> HeadlineModel:
    """Ridge of within-stratum deviations, weighted by impressions; alpha by tests left out."""
    n = cells["impressions"].to_numpy(dtype=np.float64)
    strata = cells["stratum"].to_numpy()
    features = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    X = within(features.fit_transform(cells["headline"]), strata, n)
    y = within(cells["clicks"].to_numpy() / n, strata, n)
    search = GridSearchCV(
        Ridge(fit_intercept=False), {"alpha": list(alphas)}, cv=GroupKFold(5),
        scoring="neg_mean_squared_error",
    )  # fmt: skip
    search.fit(X, y, groups=cells["test"].to_numpy(), sample_weight=n / n.mean())
    return HeadlineModel(features, search.best_estimator_, float(cells["clicks"].sum() / n.sum()))


def best_of(score: Float, cells: pd.DataFrame) -> Float:
    """Policy (m,): probability 1 for the highest score of each stratum (the first, if several)."""
    order = np.lexsort((np.arange(score.size), -score, cells["stratum"].to_numpy()))
    chosen = np.zeros(score.size)
    first = ~cells["stratum"].iloc[order].duplicated().to_numpy()
    chosen[order[first]] = 1.0
    return chosen


# ------------------------------------------------------------------ readers and strata
def thin(cells: pd.DataFrame, rng: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two halves of every headline's impressions, its clicks dealt without replacement."""
    n, clicks = cells["impressions"].to_numpy(), cells["clicks"].to_numpy()
    size = (n + rng.integers(0, 2, n.size)) // 2
    taken = rng.hypergeometric(clicks, n - clicks, size)
    return (
        cells.assign(impressions=size, clicks=taken),
        cells.assign(impressions=n - size, clicks=clicks - taken),
    )


def stratum_share(cells: pd.DataFrame) -> Float:
    """Share omega (m,) of the impressions that fell into each row's stratum."""
    total = cells.groupby("stratum")["impressions"].transform("sum").to_numpy(dtype=np.float64)
    return np.asarray(total / cells["impressions"].sum())


@dataclass(frozen=True)
class Realised:
    """Realised click rate of a policy (or contrast), with both standard errors."""

    value: float
    se_readers: float
    se_tests: float


def realised(cells: pd.DataFrame, policy: Float, share: Float) -> Realised:
    r"""Weighted click rates :math:`\sum_s \omega_s \sum_h f(h) r_h` of a policy or contrast f (m,).

    ``se_readers``: binomial, tests and headlines given; ``se_tests``: tests are the sample.
    """
    n = cells["impressions"].to_numpy(dtype=np.float64)
    used = policy != 0.0
    if (n[used] < 2).any():
        raise ValueError("a headline of the policy has fewer than two impressions.")
    rate = np.divide(cells["clicks"].to_numpy(), n, out=np.zeros(n.size), where=n > 0)
    weight = share * policy
    value = float(weight @ rate)
    noise = np.where(used, rate * (1.0 - rate) / np.maximum(n - 1.0, 1.0), 0.0)
    # Each stratum's departure from the value, summed over a test: a ratio of sums over tests.
    part = weight * rate - share * cells["probability"].to_numpy() * value
    sums = np.bincount(pd.factorize(cells["test"])[0], weights=part)
    return Realised(
        value=value,
        se_readers=math.sqrt(float(weight**2 @ noise)),
        se_tests=math.sqrt(float(sums @ sums) * sums.size / (sums.size - 1)),
    )
