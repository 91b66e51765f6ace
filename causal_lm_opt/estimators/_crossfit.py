r"""Cluster-aware cross-fitting.

Folds are dealt by the rank of a seeded hash of each row's group, or of its content where there are
no groups. So duplicates share a fold, a frequency weight means exactly what repeating the row
means, and row order does not matter. Outcomes never enter a key.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from joblib import Parallel, delayed
from sklearn.model_selection import check_cv

from causal_lm_opt._validation import content_keys, mix64, n_rows, take_rows
from causal_lm_opt.estimators.outcome_models import fit_outcome_model, predict_outcome

__all__ = ["CrossFit", "Folds", "crossfit", "deal_folds", "make_folds"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
AVERAGE = -1  # a draw predicted by the average of all folds' models


@dataclass(frozen=True, eq=False)
class Folds:
    """Test fold of every row, training rows of every fold, and the rule that made them.

    Attributes
    ----------
    fold : array, shape (n,)
    train : tuple of integer arrays
    rule : {"group", "content", "row", "user"}
    distinct : int
        Distinct groups or contents dealt to the folds, rows under the rule "row"; 0 for "user".
    """

    fold: IntArray
    train: tuple[IntArray, ...]
    rule: str
    distinct: int = 0

    @property
    def n_folds(self) -> int:
        """Number of folds."""
        return len(self.train)


def deal_folds(keys: npt.NDArray[np.uint64], n_folds: int, seed: int) -> IntArray:
    """Deal distinct keys to folds by the rank of their seeded hash, shape (n,).

    Rank, not hash modulo ``n_folds``: the latter leaves a fold empty half the time at ten keys.
    """
    distinct, inverse = np.unique(mix64(keys, seed), return_inverse=True)
    return np.asarray((np.arange(distinct.shape[0]) % n_folds)[inverse], dtype=np.intp)


def _row_keys(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Keys made distinct by counting occurrences of each key."""
    occurrence = pd.Series(keys).groupby(keys).cumcount().to_numpy().astype(np.uint64)
    return mix64(keys + mix64(occurrence, 3), 5)


def make_folds(
    X: Any,
    y: FloatArray,
    codes: IntArray | None,
    cv: Any,
    seed: int,
    taken: IntArray | None = None,
    n_given: int = 0,
) -> Folds:
    """Folds of the logged rows.

    Parameters
    ----------
    codes : integer array, shape (n,), optional
        Clusters, which are never split.
    cv : int, splitter, or iterable of (train, test)
        A list of splits counts all rows given to ``fit``, also those of weight 0.
    seed : int
    taken, n_given
        Positions of these rows among the rows given to ``fit``, and the number of the latter.

    Raises
    ------
    ValueError
        When rows or clusters are too few, test folds do not cover every row once, or a cluster
        lies on both sides of a split.
    """
    n = n_rows(X)
    if isinstance(cv, bool | float | str):
        raise ValueError(
            f"cv must be a number of folds (2 or more), a splitter or a list of (train, test), got "
            f"{cv!r}."
        )
    if isinstance(cv, int | np.integer):
        if cv < 2:
            raise ValueError(f"cv must be at least 2 folds, got {cv}.")
        if codes is not None:
            keys, rule = mix64(codes.astype(np.uint64)), "group"
        else:
            keys, rule = content_keys(X), "content"
        ascending = np.sort(keys)  # np.unique hashes, five times slower at a million keys
        distinct = int(np.count_nonzero(ascending[1:] != ascending[:-1])) + min(n, 1)
        if codes is None and distinct < 2 * cv and distinct < n:
            keys, rule = _row_keys(keys), "row"
            distinct = n
        if distinct < 2:
            raise ValueError(
                "Cross-fitting needs at least two groups (or two rows): got "
                f"{distinct}, n_samples = {n}."
            )
        fold = deal_folds(keys, min(int(cv), distinct), seed)
        train = tuple(np.flatnonzero(fold != k) for k in range(int(fold.max()) + 1))
        return Folds(fold, train, rule, distinct)
    if hasattr(cv, "split") or cv is None:
        with warnings.catch_warnings():  # _user_folds itself checks that no group is split
            warnings.filterwarnings("ignore", "The groups parameter is ignored", UserWarning)
            return _user_folds(list(check_cv(cv).split(np.zeros((n, 1)), y, codes)), n, codes)
    splits = list(cv)
    if taken is not None:
        keep = np.zeros(n_given, dtype=bool)
        keep[taken] = True
        position = np.cumsum(keep) - 1
        splits = [tuple(_kept(rows, keep, position) for rows in split) for split in splits]
    return _user_folds(splits, n, codes)


def _kept(rows: Any, keep: npt.NDArray[np.bool_], position: IntArray) -> IntArray:
    """Positions among the kept rows of ``rows``, which count all rows."""
    rows = np.arange(keep.shape[0])[rows]
    return np.asarray(position[rows[keep[rows]]])


def _user_folds(splits: list[Any], n: int, codes: IntArray | None) -> Folds:
    fold = np.full(n, AVERAGE, dtype=np.intp)
    train = []
    for k, (fit_rows, test_rows) in enumerate(splits):
        fit_rows, test_rows = np.arange(n)[fit_rows], np.arange(n)[test_rows]
        if (fold[test_rows] != AVERAGE).any() or np.isin(fit_rows, test_rows).any():
            raise ValueError(f"cv: split {k} tests a row twice or trains on a row it tests.")
        if codes is not None and np.isin(codes[fit_rows], codes[test_rows]).any():
            raise ValueError(
                f"cv: split {k} has a group in training and test; use GroupKFold or an integer cv."
            )
        fold[test_rows] = k
        train.append(fit_rows)
    if (fold == AVERAGE).any() or len(train) < 2:
        raise ValueError(
            f"cv: {int((fold == AVERAGE).sum())} rows are in no test fold; the splits must test "
            "every row once, in at least two folds."
        )
    return Folds(fold, tuple(train), "user")


@dataclass(frozen=True, eq=False)
class CrossFit:
    """Outcome models of all folds and their out-of-fold predictions.

    Attributes
    ----------
    folds : Folds
    models : tuple of fitted learners, one a fold
    fold_share : array, shape (F,)
        Share of the rows (frequency weighted) each fold tests: weights of the average prediction.
    own_keys, own_folds : sorted arrays
        Content keys whose rows all lie in one fold, and that fold.
    group_fold : array, shape (n_clusters,)
        Fold of each cluster, for shared prompts.
    """

    folds: Folds
    models: tuple[Any, ...]
    fold_share: FloatArray
    own_keys: npt.NDArray[np.uint64]
    own_folds: IntArray
    group_fold: IntArray | None
    utility: Mapping[Any, float] | None

    def predict_logged(self, X: Any) -> FloatArray:
        """Out-of-fold predictions of the training rows, shape (n,)."""
        out = np.empty(self.folds.fold.shape[0])
        for k, model in enumerate(self.models):
            rows = np.flatnonzero(self.folds.fold == k)
            out[rows] = predict_outcome(model, take_rows(X, rows), self.utility)
        return out

    def fold_of_draws(
        self, keys: npt.NDArray[np.uint64], cluster: IntArray | None = None
    ) -> IntArray:
        """Fold whose model did not see a draw's key; ``AVERAGE`` where no single fold holds it.

        Where folds depend on the text (or prompt), the residual term and the plug-in term must use
        the same q at the same text: a draw that repeats a logged text is predicted by the model
        that has not seen that text.
        """
        if cluster is not None and self.group_fold is not None:
            return self.group_fold[cluster]
        if self.own_keys.size == 0:
            return np.full(keys.shape[0], AVERAGE, dtype=np.intp)
        position = np.clip(np.searchsorted(self.own_keys, keys), 0, self.own_keys.size - 1)
        return np.where(self.own_keys[position] == keys, self.own_folds[position], AVERAGE)

    def draw_shares(self, fold_of_draw: IntArray) -> FloatArray:
        """Weight of each fold's model in each draw's prediction, shape (m, F)."""
        shares = np.broadcast_to(self.fold_share, (fold_of_draw.shape[0], len(self.models))).copy()
        own = fold_of_draw != AVERAGE
        shares[own] = 0.0
        shares[np.flatnonzero(own), fold_of_draw[own]] = 1.0
        return shares

    def predict(self, X: Any, fold_of_draw: IntArray | None = None) -> FloatArray:
        r"""Average prediction :math:`\sum_k (n_k/n) q_{-k}`, or the own fold's, shape (m,)."""
        m = n_rows(X)
        out = np.zeros(m)
        if fold_of_draw is None:
            fold_of_draw = np.full(m, AVERAGE, dtype=np.intp)
        for k, model in enumerate(self.models):
            rows = np.flatnonzero((fold_of_draw == AVERAGE) | (fold_of_draw == k))
            if rows.size == 0:
                continue
            some = X if rows.size == m else take_rows(X, rows)
            share = np.where(fold_of_draw[rows] == k, 1.0, self.fold_share[k])
            out[rows] += share * predict_outcome(model, some, self.utility)
        return out


def _single_fold_keys(
    keys: npt.NDArray[np.uint64], fold: IntArray
) -> tuple[npt.NDArray[np.uint64], IntArray]:
    """Keys that occur in one fold only (sorted), with that fold."""
    order = np.argsort(keys, kind="stable")
    sorted_keys, sorted_fold = keys[order], fold[order]
    distinct, start = np.unique(sorted_keys, return_index=True)
    low = np.minimum.reduceat(sorted_fold, start)
    high = np.maximum.reduceat(sorted_fold, start)
    single = low == high
    return distinct[single], low[single]


def crossfit(
    model: Any,
    X: Any,
    labels: npt.NDArray[Any],
    folds: Folds,
    *,
    sample_weight: FloatArray | None = None,
    codes: IntArray | None = None,
    n_clusters: int = 0,
    utility: Mapping[Any, float] | None = None,
    n_jobs: int | None = None,
) -> CrossFit:
    """Fit a clone of ``model`` on every fold's training rows.

    Parameters
    ----------
    labels : array, shape (n,)
        Outcomes as the learner takes them (numbers, or classes).
    """

    def fit(rows: IntArray) -> Any:
        s = None if sample_weight is None else sample_weight[rows]
        return fit_outcome_model(model, take_rows(X, rows), labels[rows], s)

    models = Parallel(n_jobs=n_jobs)(delayed(fit)(rows) for rows in folds.train)
    weight = np.ones(folds.fold.shape[0]) if sample_weight is None else sample_weight
    share = np.bincount(folds.fold, weights=weight, minlength=folds.n_folds)
    own_keys = np.empty(0, dtype=np.uint64)
    own_folds = np.empty(0, dtype=np.intp)
    if folds.rule != "row":
        own_keys, own_folds = _single_fold_keys(content_keys(X), folds.fold)
    group_fold = None
    if codes is not None:
        group_fold = np.full(n_clusters, AVERAGE, dtype=np.intp)
        group_fold[codes] = folds.fold
    return CrossFit(
        folds, tuple(models), share / share.sum(), own_keys, own_folds, group_fold, utility
    )
