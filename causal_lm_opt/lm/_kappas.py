"""Arithmetic of kappa: of all items and, for the jackknife, without each cluster of them."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = [
    "Weights",
    "costs_of",
    "counts_of",
    "equal_pairs",
    "fleiss_kappas",
    "kappas_of_tables",
    "less_one",
    "pair_tables",
    "sums_in",
]

Float = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Weights = Literal["linear", "quadratic"]


def costs_of(k: int, weights: Weights | None) -> Float:
    """Cost (k, k) of rating j beside rating l."""
    steps = np.abs(np.subtract.outer(np.arange(k), np.arange(k))).astype(np.float64)
    if weights is None:
        return (steps > 0).astype(np.float64)
    return (steps if weights == "linear" else steps**2) / max(k - 1, 1) ** (
        1 if weights == "linear" else 2
    )


def kappas_of_tables(tables: Float, costs: Float) -> Float:
    """Cohen's kappa of each of G contingency tables (G, k, k), under costs (k, k); (G,).

    Examples
    --------
    >>> import numpy as np
    >>> kappas_of_tables(np.array([[[20.0, 5.0], [10.0, 15.0]]]), 1 - np.eye(2)).round(3).tolist()
    [0.4]
    """
    n = tables.sum(axis=(1, 2))
    chance = np.einsum("gj,gk,jk->g", tables.sum(axis=2), tables.sum(axis=1), costs)
    seen = np.einsum("gjk,jk->g", tables, costs)
    out = np.full(len(tables), np.nan)
    np.divide(n * seen, chance, out=out, where=chance > 0)
    return 1.0 - out


def fleiss_kappas(totals: Float, equal: Float, items: Float, raters: int) -> Float:
    r"""Fleiss' kappa of each of G sets of items, (G,).

    Parameters
    ----------
    totals : (G, k) array
        Ratings in each category.
    equal : (G,) array
        Sum over items of the share of equal pairs among its ratings.
    items : (G,) array
    raters : int

    Examples
    --------
    >>> import numpy as np
    >>> fleiss_kappas(np.array([[4.0, 2.0]]), np.array([4 / 3]), np.array([2.0]), 3).tolist()
    [0.25]
    """
    chance = ((totals / (items[:, None] * raters)) ** 2).sum(axis=1)
    out = np.full(len(items), np.nan)
    np.divide(equal / items - chance, 1.0 - chance, out=out, where=chance < 1.0)
    return out


def less_one(whole: Float, of_cluster: Float) -> Float:
    """The whole, then the whole without each of G clusters, (G + 1, ...)."""
    return np.concatenate([whole[None], whole[None] - of_cluster])


def sums_in(values: Float, at: Codes, n: int) -> Float:
    sums = np.zeros((n, *values.shape[1:]))
    np.add.at(sums, at, values)
    return sums


def pair_tables(one: Codes, two: Codes, k: int, at: Codes, n: int) -> Float:
    """Contingency tables of two raters, whole and without each cluster, (G + 1, k, k)."""
    both = (one >= 0) & (two >= 0)
    flat = (at[both] * k + one[both]) * k + two[both]
    tables = np.bincount(flat, minlength=n * k * k).reshape(n, k, k).astype(np.float64)
    return less_one(tables.sum(axis=0), tables)


def counts_of(codes: Codes, k: int) -> Float:
    """Ratings (n, k) of each item in each category."""
    return np.asarray((codes[:, :, None] == np.arange(k)).sum(axis=1), dtype=np.float64)


def equal_pairs(counts: Float) -> tuple[Float, Float]:
    """Equal pairs and all pairs of ratings of each item, (n,) each."""
    m = counts.sum(axis=1)
    return (counts * (counts - 1)).sum(axis=1) / 2, m * (m - 1) / 2
