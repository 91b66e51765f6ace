"""Agreement of raters beyond chance."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats
from statsmodels.stats.inter_rater import cohens_kappa

from causal_lm_opt._validation import check_groups
from causal_lm_opt.lm._kappas import (
    Weights,
    costs_of,
    counts_of,
    equal_pairs,
    fleiss_kappas,
    kappas_of_tables,
    less_one,
    pair_tables,
    sums_in,
)

__all__ = ["Agreement", "agreement"]

Float = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

SAME = "every rating is the same, so that agreement beyond chance is not defined"
PERFECT = "raters never disagree: the interval has no width, and says nothing of the next item"


@dataclass(frozen=True)
class Agreement:
    """How far raters agree.

    Attributes
    ----------
    kappa : float
        1: they always agree; 0: no more than by chance. NaN where it is not defined.
    se, lower, upper : float
    raw : float
        Share of equal ratings among pairs of ratings of the same item.
    method, interval : str
        Which kappa and which interval, in words.
    n_items, n_raters, n_clusters : int
    categories : tuple
    level : float
    notes : tuple of str
    """

    kappa: float
    se: float
    lower: float
    upper: float
    raw: float
    method: str
    interval: str
    n_items: int
    n_raters: int
    n_clusters: int
    categories: tuple[Any, ...]
    level: float
    notes: tuple[str, ...] = ()

    def to_frame(self) -> pd.DataFrame:
        """One row: method, kappa, se, ci_lower, ci_upper, raw_agreement, items, raters, ..."""
        return pd.DataFrame(
            {
                "method": [self.method],
                "kappa": [self.kappa],
                "se": [self.se],
                "ci_lower": [self.lower],
                "ci_upper": [self.upper],
                "raw_agreement": [self.raw],
                "items": [self.n_items],
                "raters": [self.n_raters],
                "clusters": [self.n_clusters],
                "interval": [self.interval],
            }
        )

    def summary(self) -> str:
        """The finding in words."""
        head = (
            f"{self.method} {self.kappa:.3f} ({self.level:.0%} {self.lower:.3f} to "
            f"{self.upper:.3f}, {self.interval}); raters agree on {self.raw:.1%} of pairs of "
            f"ratings; {self.n_items} items, {self.n_raters} raters"
        )
        return "\n".join([head, *self.notes])

    def __repr__(self) -> str:
        return f"<Agreement: {self.summary().splitlines()[0]}>"

    def _repr_html_(self) -> str:
        table = self.to_frame().to_html(
            index=False, escape=True, border=0, float_format="{:.4g}".format
        )
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        return str(table) + (f"<ul>{notes}</ul>" if notes else "")


def agreement(
    ratings: pd.DataFrame | npt.ArrayLike | Mapping[str, Any],
    *,
    weights: Weights | None = None,
    categories: Sequence[Any] | None = None,
    missing: Literal["raise", "pairwise"] = "raise",
    groups: npt.ArrayLike | None = None,
    level: float = 0.95,
) -> Agreement:
    r"""Cohen's kappa of two raters, Fleiss' kappa of more.

    .. math:: \kappa = \frac{P_o - P_e}{1 - P_e} = 1 - \frac{\sum_{jk} v_{jk} p_{jk}}
              {\sum_{jk} v_{jk} p_{j\cdot} p_{\cdot k}}

    with the share of equal ratings :math:`P_o`, what chance gives :math:`P_e`, and in the weighted
    form the cost :math:`v_{jk}` of rating j beside rating k.

    Parameters
    ----------
    ratings : DataFrame or array (n, r), or mapping rater -> n labels
        A row per item, a column per rater; labels of any kind.
    weights : {"linear", "quadratic"}, optional
        Cost of a disagreement by how far apart the categories are (Cohen only); they must be
        numbers, or in the order given by ``categories``.
    categories : sequence, optional
        All labels, in order.
    missing : {"raise", "pairwise"}
        A missing rating is an error, or: each pair of raters is compared on the items both rated,
        and with more than two raters their kappas are averaged (Light 1971).
    groups : (n,) labels, optional
        Items that belong together, as texts under one prompt. Intervals are then by a jackknife
        that leaves out one group at a time.
    level : float

    Returns
    -------
    Agreement
        Interval of two raters without groups: delta method (Fleiss, Cohen and Everitt 1969), from
        statsmodels; otherwise jackknife over items or groups with Student's t. No interval exceeds
        1.

    Raises
    ------
    ValueError
        Fewer than two raters or items, missing ratings (how many), labels outside ``categories``,
        weights with more than two raters or with labels in no order.

    Notes
    -----
    **Assumptions**: items (groups) are independent. Kappa depends on how frequent the categories
    are: compare kappas of the same items only, and read ``raw`` beside.

    References
    ----------
    Cohen (1960), A coefficient of agreement for nominal scales. Fleiss (1971), Measuring nominal
    scale agreement among many raters, eq. 7. Light (1971), Measures of response agreement.

    Examples
    --------
    >>> from causal_lm_opt.lm import agreement
    >>> two = {"model": list("aabbabab"), "human": list("aabbabba")}
    >>> found = agreement(two)
    >>> round(found.kappa, 3), found.raw
    (0.5, 0.75)
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie strictly between 0 and 1, got {level!r}.")
    if weights not in (None, "linear", "quadratic"):
        raise ValueError(f'weights must be "linear" or "quadratic", got {weights!r}.')
    if missing not in ("raise", "pairwise"):
        raise ValueError(f'missing must be "raise" or "pairwise", got {missing!r}.')
    table = _rating_table(ratings)
    if weights is not None and table.shape[1] > 2:
        raise ValueError("weights are for two raters; pass two columns, or leave weights out.")
    codes, labels = _coded(table, categories, ordered=weights is not None)
    clusters = None if groups is None else check_groups(groups, "groups", len(codes))
    codes, clusters = _complete(codes, clusters, missing)
    return _agreement(codes, labels, clusters, weights, level, light=bool((codes < 0).any()))


# ------------------------------------------------------------------------------ ratings
def _rating_table(ratings: Any) -> pd.DataFrame:
    if isinstance(ratings, Mapping):
        lengths = {str(name): len(given) for name, given in ratings.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"ratings: raters differ in the number of items: {lengths}.")
        columns = {name: pd.Series(list(given), dtype=object) for name, given in ratings.items()}
        table = pd.DataFrame(columns)
    elif isinstance(ratings, pd.DataFrame):
        table = ratings.astype(object)
    else:
        array = np.asarray(ratings)
        if array.ndim != 2:
            raise ValueError(f"ratings must have shape (items, raters), got {array.shape}.")
        table = pd.DataFrame(array.astype(object))
    if table.shape[1] < 2:
        raise ValueError(f"ratings must be of at least two raters, got {table.shape[1]}.")
    return table


def _coded(
    table: pd.DataFrame, categories: Sequence[Any] | None, *, ordered: bool
) -> tuple[Codes, tuple[Any, ...]]:
    """Ratings as positions (n, r) in the categories, -1 where missing; and the categories."""
    values = table.to_numpy(dtype=object)
    there = ~np.asarray(pd.isna(values))
    seen = list(dict.fromkeys(values[there].tolist()))
    if categories is None:
        numeric = all(isinstance(v, int | float | np.number) for v in seen)
        if ordered and not numeric:
            raise ValueError(f"weights need the order of the categories: categories={seen!r}.")
        labels = sorted(seen) if numeric else sorted(seen, key=lambda v: (str(type(v)), str(v)))
    else:
        labels = list(categories)
        if len(set(labels)) < len(labels):
            raise ValueError(f"categories holds a label twice: {labels}.")
        strange = [v for v in seen if v not in labels]
        if strange:
            raise ValueError(f"ratings hold {strange[0]!r}, which is none of categories {labels}.")
    place = {label: i for i, label in enumerate(labels)}
    codes = np.full(values.shape, -1, dtype=np.intp)
    codes[there] = [place[v] for v in values[there]]
    return codes, tuple(labels)


def _complete(
    codes: Codes, clusters: npt.NDArray[Any] | None, missing: str
) -> tuple[Codes, npt.NDArray[Any] | None]:
    """Items that at least two raters rated."""
    lacking = int((codes < 0).sum())
    if lacking and missing == "raise":
        row = int(np.argmax((codes < 0).any(axis=1)))
        raise ValueError(
            f"ratings lack {lacking} of {codes.size} ratings, the first in row {row}; drop these "
            'items, or compare raters on the items both rated: missing="pairwise".'
        )
    kept = (codes >= 0).sum(axis=1) >= 2
    if kept.sum() < 2:
        raise ValueError(
            f"ratings hold {int(kept.sum())} items with two ratings; at least 2 are needed."
        )
    return codes[kept], None if clusters is None else clusters[kept]


# ------------------------------------------------------------------------------ figures
def _jackknife(kappas: Float, level: float) -> tuple[float, float, float]:
    """Standard error, lower and upper end, from the whole and the G leave-one-out values."""
    centre, left = float(kappas[0]), kappas[1:]
    g = len(left)
    if not np.isfinite(left).all():
        return np.nan, np.nan, np.nan
    se = float(np.sqrt((g - 1) / g * ((left - left.mean()) ** 2).sum()))
    half = float(stats.t.ppf(0.5 + level / 2, g - 1)) * se
    return se, max(centre - half, -1.0), min(centre + half, 1.0)


def _agreement(
    codes: Codes,
    labels: tuple[Any, ...],
    clusters: npt.NDArray[Any] | None,
    weights: Weights | None,
    level: float,
    *,
    light: bool,
) -> Agreement:
    n, raters = codes.shape
    k = len(labels)
    at = np.arange(n) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    g = int(at.max()) + 1
    if g < 2:
        raise ValueError("groups holds one label; at least two groups are needed.")
    counts = counts_of(codes, k)
    equal, pairs = equal_pairs(counts)
    costs = costs_of(k, weights)
    if raters == 2:
        kappas = kappas_of_tables(pair_tables(codes[:, 0], codes[:, 1], k, at, g), costs)
        method = "Cohen's kappa" if weights is None else f"Cohen's kappa ({weights} weights)"
    elif light:
        couples = list(combinations(range(raters), 2))
        tables = (pair_tables(codes[:, i], codes[:, j], k, at, g) for i, j in couples)
        kappas = np.mean([kappas_of_tables(t, costs) for t in tables], axis=0)
        method = "mean of pairwise Cohen's kappas (Light)"
    else:
        totals = less_one(counts.sum(axis=0), sums_in(counts, at, g))
        shares = less_one((equal / pairs).sum(), sums_in(equal / pairs, at, g))
        items = less_one(np.array(float(n)), np.bincount(at, minlength=g).astype(np.float64))
        kappas = fleiss_kappas(totals, shares, items, raters)
        method = "Fleiss' kappa"
    kappa = float(kappas[0])
    delta = raters == 2 and clusters is None
    if not np.isfinite(kappa):
        se = lower = upper = np.nan
    elif delta:
        se, lower, upper = _delta(codes, k, weights, level)
    else:
        se, lower, upper = _jackknife(kappas, level)
    what = "items" if clusters is None else "groups"
    notes = (SAME,) if not np.isfinite(kappa) else (PERFECT,) if kappa == 1.0 else ()
    return Agreement(
        kappa=kappa, se=se, lower=lower, upper=upper, raw=float(equal.sum() / pairs.sum()),
        method=method, interval="delta method" if delta else f"jackknife over {what}",
        n_items=n, n_raters=raters, n_clusters=g, categories=labels, level=level, notes=notes,
    )  # fmt: skip


def _delta(
    codes: Codes, k: int, weights: Weights | None, level: float
) -> tuple[float, float, float]:
    """Delta-method standard error and interval of Cohen's kappa, from statsmodels."""
    table = np.bincount(codes[:, 0] * k + codes[:, 1], minlength=k * k).reshape(k, k)
    seen = table.sum(axis=0) + table.sum(axis=1) > 0
    if weights is None:  # categories nobody used carry nothing, and statsmodels divides by them
        table = table[np.ix_(seen, seen)]
    with np.errstate(divide="ignore", invalid="ignore"):  # its test of kappa = 0 is not used
        found = cohens_kappa(table, wt=weights)
    kappa, se = float(found["kappa"]), float(np.sqrt(max(float(found["var_kappa"]), 0.0)))
    half = float(stats.norm.ppf(0.5 + level / 2)) * se
    return se, max(kappa - half, -1.0), min(kappa + half, 1.0)
