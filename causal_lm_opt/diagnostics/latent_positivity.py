"""Latent positivity of preference pairs: does training show what the target asks about?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.spatial import ConvexHull, QhullError

from causal_lm_opt.diagnostics.overlap import effective_sample_size
from causal_lm_opt.diagnostics.verdict import LEVELS, Verdict

__all__ = ["LatentPositivity", "latent_positivity"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
BINS = 3  # of a difference's size, besides no difference
DISTINCT = 4  # sizes up to which each is a bin of its own
MOST_CELLS = 10_000
FLAT = 1e-6  # of the spread: directions in which training does not extend
NEVER = (0.0, 0.05)  # share of the target that training never shows: caution, do not use
FEW = (30.0, 200.0)  # effective pairs of the stratum weights: do not use, caution
THIN = 10.0  # pairs of a cell
SMALL_SHARE = 0.1  # effective pairs of all
ALIKE = 0.9  # correlation of differences
BLIND = (
    "No figure here sees latents that nobody rated, nor ratings that differ from what preferences "
    "go by."
)


@dataclass(frozen=True, eq=False)
class LatentPositivity:
    """Whether training pairs occupy the cells of latent differences that a target has.

    Attributes
    ----------
    table : DataFrame
        A row per cell that training or target has: the bin of each factor's difference, ``pairs``
        (training), ``effective_pairs`` (of their sample weights), ``share``, ``target_share`` and
        ``weight`` (their ratio; ``inf`` where training has none).
    correlation : array, shape (K, K)
        Of the training differences, about 0 (a pair counts in both orders).
    target_correlation : array, shape (K, K)
    n : int
        Training pairs.
    ess, ess_share : float
        Effective number of training pairs under the stratum weights, and its share of ``n``.
    smallest : float
        Fewest training pairs in a cell that the target has (0 where one is empty).
    empty_share : float
        Share of the target in cells without training pairs.
    outside_hull : float
        Share of the target outside the convex hull of the training differences.
    verdict : Verdict
    names : tuple of str
        Of the factors.
    """

    table: pd.DataFrame
    correlation: FloatArray
    target_correlation: FloatArray
    n: int
    ess: float
    ess_share: float
    smallest: float
    empty_share: float
    outside_hull: float
    verdict: Verdict
    names: tuple[str, ...]

    @property
    def blind_spots(self) -> str:
        """What these figures cannot see."""
        return BLIND

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe figures without the table."""
        numbers = {
            name: float(getattr(self, name))
            for name in ("ess", "ess_share", "smallest", "empty_share", "outside_hull")
        }
        return {
            "n": self.n, **numbers, "correlation": self.correlation.tolist(),
            "target_correlation": self.target_correlation.tolist(), "names": list(self.names),
            "verdict": self.verdict.level, "reasons": list(self.verdict.reasons),
        }  # fmt: skip

    def __str__(self) -> str:
        return str(self.verdict)


def latent_positivity(
    dz_train: Any,
    dz_target: Any = None,
    *,
    bins: int | Sequence[float] | None = None,
    sample_weight: Any = None,
    target_weight: Any = None,
    names: Sequence[str] | None = None,
) -> LatentPositivity:
    r"""Occupancy of latent cells by training pairs, against those of a target.

    A reward learnt where factors move together need not hold where they part (latent positivity,
    assumption A5 of Kobalczyk and van der Schaar 2025). Differences of the factors within each
    pair are cut into cells; a pair counts in both orders, as swapping its responses changes
    nothing. Weights :math:`w_c = q_c/p_c` lead from training shares p to target shares q where
    training has pairs at all; their effective sample size says how many pairs remain.

    Parameters
    ----------
    dz_train : array or frame, shape (n, K)
        Latents (ratings) of the first response minus those of the second, of each training pair.
    dz_target : array or frame, shape (m, K), optional
        The same of pairs the reward is meant for; default: every combination of the factors'
        differences, as often as if they were independent with the margins of training.
    bins : int or sequence of float, optional
        Number of bins of a difference's size (by quantiles of training), or their inner edges,
        increasing and positive. Default: each size by itself where there are at most four,
        otherwise three bins. No difference is a bin of its own.
    sample_weight, target_weight : arrays, shape (n,), (m,), optional
        Frequencies or importance weights of the pairs.
    names : sequence of K str, optional
        Default: the frame's columns, or ``z1, z2, ...``.

    Returns
    -------
    LatentPositivity

    Raises
    ------
    ValueError
        Differences that are not finite (n, K) numbers, a factor that never differs in training,
        a target of another width, more than 10,000 cells, or weights and bins that make no sense.

    Notes
    -----
    *Verdict*: "do not use" where more than 5 % of the target lies in cells training never shows
    or outside its hull, or fewer than 30 effective pairs remain; "caution" where any does, where a
    target cell has fewer than 10 pairs, fewer than 200 (or 10 %) effective pairs remain, or two
    factors' differences correlate beyond .9. The thresholds are conventions, not estimates.

    *Hull*: of training pairs in both orders; beyond six factors it is not formed (``nan``).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> free = rng.integers(-2, 3, (3000, 2))
    >>> latent_positivity(free).verdict.level
    'trustworthy'
    >>> same = free[:, [0, 0]]
    >>> found = latent_positivity(same, free)
    >>> found.verdict.level, round(found.empty_share, 1), round(found.outside_hull, 1)
    ('do not use', 0.8, 0.8)
    """
    train, named = _differences(dz_train, "dz_train")
    names = _names(names, named, train.shape[1])
    s = _weights(sample_weight, "sample_weight", train.shape[0])
    flat = np.flatnonzero(np.abs(train).max(axis=0) == 0.0)
    if flat.size:
        raise ValueError(
            f"factor {names[flat[0]]!r} never differs within a training pair: nothing can be "
            "learnt about it. Drop it, or collect pairs that differ in it."
        )
    edges = [_edges(d, bins) for d in train.T]
    target, q = _target(train, s, edges, dz_target, target_weight)
    table = _cells(train, s, target, q, edges, names)
    some = table["target_share"].to_numpy() > 0.0
    weight = np.where(np.isfinite(table["weight"]), table["weight"], 0.0)
    at = _place(train, edges, table, names)
    ess = float(effective_sample_size(s * weight[at]))
    outside = _outside_hull(train, target, q)
    pairs = table["pairs"].to_numpy(dtype=np.float64)
    figures = {
        "ess": ess, "ess_share": ess / train.shape[0],
        "smallest": float(pairs[some].min()),
        "empty_share": float(table.loc[pairs == 0.0, "target_share"].sum()),
        "outside_hull": outside,
    }  # fmt: skip
    correlation = _correlation(train, s)
    return LatentPositivity(
        table=table, correlation=correlation, target_correlation=_correlation(target, q),
        n=train.shape[0], **figures, names=names,
        verdict=_verdict(figures, correlation, train.shape[0], names),
    )  # fmt: skip


# ------------------------------------------------------------------------------ input
def _differences(values: Any, name: str) -> tuple[FloatArray, tuple[str, ...] | None]:
    columns = getattr(values, "columns", None)
    try:
        out = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be numbers: {error}.") from error
    out = out[:, None] if out.ndim == 1 else out
    if out.ndim != 2 or not out.size:
        raise ValueError(f"{name} must have shape (pairs, factors), got {np.shape(values)}.")
    if not np.isfinite(out).all():
        row = int(np.argmin(np.isfinite(out).all(axis=1)))
        raise ValueError(f"{name} has NaN or infinite entries, the first in row {row}.")
    return out, None if columns is None else tuple(map(str, columns))


def _names(given: Sequence[str] | None, found: tuple[str, ...] | None, k: int) -> tuple[str, ...]:
    names = tuple(given) if given is not None else found or tuple(f"z{j + 1}" for j in range(k))
    if len(names) != k or len(set(names)) != k:
        raise ValueError(f"names must be {k} different names, got {list(names)}.")
    return names


def _weights(values: Any, name: str, n: int) -> FloatArray:
    if values is None:
        return np.ones(n)
    out = np.asarray(values, dtype=np.float64)
    if out.shape != (n,) or not np.isfinite(out).all() or (out < 0.0).any() or not out.any():
        raise ValueError(f"{name} must be {n} numbers of at least 0, not all 0.")
    return out


# ------------------------------------------------------------------------------ cells
def _edges(d: FloatArray, bins: int | Sequence[float] | None) -> FloatArray:
    """Lower edges of the bins of a difference's size, above 0."""
    size = np.round(np.abs(d), 12)
    some = size[size > 0.0]
    known = np.unique(some)
    if bins is None:
        if known.size <= DISTINCT:
            return np.asarray(known, dtype=np.float64)
        bins = BINS
    if isinstance(bins, int | np.integer):
        if isinstance(bins, bool) or bins < 1:
            raise ValueError(f"bins must be at least 1, got {bins!r}.")
        return np.unique(np.quantile(some, np.arange(bins) / bins))
    inner = np.asarray(bins, dtype=np.float64)
    if inner.ndim != 1 or not (inner > 0.0).all() or not (np.diff(inner) > 0.0).all():
        raise ValueError(f"bins must be positive, increasing inner edges, got {bins!r}.")
    return np.concatenate([[0.0], inner])


def _codes(d: FloatArray, edges: Sequence[FloatArray]) -> IntArray:
    """Signed bin of each difference, shape (n, K): 0 for none, -1 and 1 for the smallest."""
    size = np.round(np.abs(d), 12)
    out = np.empty(d.shape, dtype=np.intp)
    for k, inner in enumerate(edges):
        number = np.maximum(np.searchsorted(inner, size[:, k], side="right"), 1)
        out[:, k] = np.where(size[:, k] > 0.0, np.sign(d[:, k]) * number, 0)
    return out


def _once(codes: IntArray) -> IntArray:
    """Each pair in the order in which its first difference that is not 0 is positive."""
    lead = np.zeros(codes.shape[0], dtype=np.intp)
    for column in codes.T:
        lead = np.where(lead == 0, np.sign(column), lead)
    return np.where(lead[:, None] < 0, -codes, codes)


def _target(
    train: FloatArray, s: FloatArray, edges: Sequence[FloatArray], dz_target: Any, weight: Any
) -> tuple[FloatArray, FloatArray]:
    """Target differences (m, K) and their weights."""
    if dz_target is not None:
        target, _ = _differences(dz_target, "dz_target")
        if target.shape[1] != train.shape[1]:
            raise ValueError(f"dz_target has {target.shape[1]} factors, dz_train {train.shape[1]}.")
        return target, _weights(weight, "target_weight", target.shape[0])
    if weight is not None:
        raise ValueError("target_weight goes with dz_target.")
    codes = _codes(train, edges)
    values, shares = [], []
    for k in range(train.shape[1]):
        number = np.abs(codes[:, k])
        mass = np.bincount(number, weights=s)
        total = np.bincount(number, weights=s * np.abs(train[:, k]))
        some = np.flatnonzero(mass > 0.0)
        centre = total[some] / mass[some]
        share = mass[some] / mass.sum()
        signed = some > 0
        values.append(np.concatenate([centre, -centre[signed]]))
        shares.append(np.concatenate([np.where(signed, share / 2, share), share[signed] / 2]))
    if math.prod(v.size for v in values) > MOST_CELLS:
        raise ValueError(
            f"{math.prod(v.size for v in values)} cells are more than {MOST_CELLS}: give fewer "
            "bins or factors, or a dz_target."
        )
    grid = np.stack([g.ravel() for g in np.meshgrid(*values, indexing="ij")], axis=1)
    mass = np.stack([g.ravel() for g in np.meshgrid(*shares, indexing="ij")], axis=1).prod(axis=1)
    return grid, mass


def _cells(
    train: FloatArray,
    s: FloatArray,
    target: FloatArray,
    q: FloatArray,
    edges: Sequence[FloatArray],
    names: tuple[str, ...],
) -> pd.DataFrame:
    """Table of cells, in the order of their bins."""
    n = train.shape[0]
    both = np.vstack([_once(_codes(train, edges)), _once(_codes(target, edges))])
    cells, at = np.unique(both, axis=0, return_inverse=True)
    at = at.ravel()
    m = cells.shape[0]
    share = np.bincount(at[:n], weights=s, minlength=m) / s.sum()
    square = np.bincount(at[:n], weights=s * s, minlength=m)
    wanted = np.bincount(at[n:], weights=q, minlength=m) / q.sum()
    sums = share * s.sum()
    effective = np.where(square > 0.0, sums * sums / np.where(square > 0.0, square, 1.0), 0.0)
    weight = np.where(
        share > 0.0, wanted / np.where(share > 0.0, share, 1.0),
        np.where(wanted > 0.0, np.inf, 0.0),
    )  # fmt: skip
    table = pd.DataFrame(cells, columns=list(names))
    return table.assign(
        pairs=np.bincount(at[:n], weights=s > 0.0, minlength=m).astype(int),
        effective_pairs=effective, share=share, target_share=wanted, weight=weight,
    )  # fmt: skip


def _place(
    train: FloatArray, edges: Sequence[FloatArray], table: pd.DataFrame, names: tuple[str, ...]
) -> IntArray:
    """Row of the table of each training pair."""
    known = pd.MultiIndex.from_frame(table[list(names)])
    rows = pd.MultiIndex.from_arrays(list(_once(_codes(train, edges)).T))
    return np.asarray(known.get_indexer(rows), dtype=np.intp)


def _correlation(d: FloatArray, s: FloatArray) -> FloatArray:
    moment = (s[:, None] * d).T @ d
    scale = np.sqrt(np.diag(moment))
    scale = np.where(scale > 0.0, scale, np.nan)
    return np.asarray(moment / np.outer(scale, scale))


# ------------------------------------------------------------------------------ hull
def _outside_hull(train: FloatArray, target: FloatArray, q: FloatArray) -> float:
    """Share of the target outside the convex hull of training pairs in both orders."""
    if train.shape[1] > 6:
        return math.nan
    rows, at = np.unique(np.round(target, 9), axis=0, return_inverse=True)
    mass = np.bincount(at.ravel(), weights=q)
    known = np.asarray(np.unique(np.round(np.vstack([train, -train]), 9), axis=0), np.float64)
    return float(mass[~_inside(rows, known)].sum() / mass.sum())


def _inside(rows: FloatArray, points: FloatArray) -> npt.NDArray[np.bool_]:
    """Whether each row lies in the convex hull of points that are symmetric about 0."""
    squares, columns = np.linalg.eigh(points.T @ points)
    directions = columns.T[::-1]  # widest first
    rank = int((squares > FLAT**2 * squares.max()).sum())
    reach = float(np.abs(points).max())
    off = np.abs(rows @ directions[rank:].T).max(axis=1, initial=0.0) <= 1e-7 * reach
    flat, seen = points @ directions[:rank].T, rows @ directions[:rank].T
    if rank == 1:
        return np.asarray(off & (np.abs(seen[:, 0]) <= np.abs(flat).max() + 1e-7 * reach))
    try:
        hull = ConvexHull(flat)
    except QhullError:  # nearly flat: joggled input encloses the points
        hull = ConvexHull(flat, qhull_options="QJ")
    level = seen @ hull.equations[:, :-1].T + hull.equations[:, -1]
    return np.asarray(off & (level.max(axis=1) <= 1e-7 * reach))


# ------------------------------------------------------------------------------ verdict
def _verdict(
    figures: dict[str, float], correlation: FloatArray, n: int, names: tuple[str, ...]
) -> Verdict:
    found: list[tuple[int, str]] = []
    empty, outside = figures["empty_share"], figures["outside_hull"]
    collect = "Collect pairs there; no weights can stand in for them."
    if empty > NEVER[0]:
        said = f"{empty:.1%} of the target lies in cells without one training pair. {collect}"
        found.append((2 if empty > NEVER[1] else 1, said))
    if outside > NEVER[0]:
        said = f"{outside:.1%} of the target lies outside the hull of the training differences."
        found.append((2 if outside > NEVER[1] else 1, said))
    if figures["ess"] < FEW[1] or figures["ess_share"] < SMALL_SHARE:
        said = (
            f"Weighted to the target, the {n:,} training pairs are worth {figures['ess']:,.0f}: a "
            "weighted fit rests on these alone."
        )
        found.append((2 if figures["ess"] < FEW[0] else 1, said))
    if 0.0 < figures["smallest"] < THIN:
        said = f"A cell of the target has {figures['smallest']:.0f} training pairs."
        found.append((1, said))
    k = correlation.shape[0]
    for i in range(k):
        for j in range(i + 1, k):
            if abs(correlation[i, j]) > ALIKE:
                said = (
                    f"Differences in {names[i]!r} and {names[j]!r} correlate at "
                    f"{correlation[i, j]:+.2f}: hardly any pair tells them apart."
                )
                found.append((1, said))
    level = max((severity for severity, _ in found), default=0)
    return Verdict(LEVELS[level], tuple(text for _, text in found))
