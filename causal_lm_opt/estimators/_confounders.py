r"""The effect of known confounders Z on the outcome: design, partialling-out, backfitting.

With :math:`y = g(x) + h(z) + e` and a basis B of z, Robinson's (1988) step regresses
:math:`y - E[y|x]` on :math:`B - E[B|x]`; where no text is given the conditional means are means.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from causal_lm_opt._validation import content_keys, is_frame, n_rows, take_rows
from causal_lm_opt.estimators._crossfit import Folds, _row_keys, crossfit, deal_folds, make_folds
from causal_lm_opt.estimators._linear import LinearOutcome, coefficient_influence
from causal_lm_opt.estimators.outcome_models import fit_outcome_model
from causal_lm_opt.exceptions import NotIdentifiedError

__all__ = [
    "Encoder",
    "LinearEffect",
    "backfit",
    "between_group_penalty",
    "columns_of",
    "confounder_frame",
    "linear_effect",
    "need_groups_in_training",
    "partial_out",
    "row_folds",
    "same_length",
    "some_rows",
    "take_folds",
    "unexplained",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
LEAST_UNEXPLAINED = 1e-8


# ------------------------------------------------------------------------------ design
def confounder_frame(Z: Any, name: str = "Z") -> pd.DataFrame:
    """Confounders as a frame (n, c) of numeric and categorical columns, nothing missing."""
    if sparse.issparse(Z):
        raise ValueError(f"{name} is a sparse matrix; give a dense array or a frame of covariates.")
    if is_frame(Z):
        columns = {str(c): np.asarray(Z[c]) for c in Z.columns}
        if len(columns) < len(Z.columns):
            raise ValueError(f"{name} has columns of equal names; rename them.")
    else:
        values = np.asarray(Z)
        values = values[:, None] if values.ndim == 1 else values
        if values.ndim != 2:
            raise ValueError(f"{name} must have shape (n,) or (n, c), got {values.shape}.")
        columns = {f"z{j}": column for j, column in enumerate(values.T)}
    if not columns:
        raise ValueError(f"{name} has no column; give at least one confounder.")
    frame = pd.DataFrame(columns).infer_objects()
    for label in frame.columns:
        column = frame[label]
        missing = ~np.isfinite(column.to_numpy(dtype=float)) if _numeric(column) else column.isna()
        if missing.any():
            raise ValueError(
                f"{name}[{label!r}] has {int(missing.sum())} missing or infinite entries, the "
                f"first at row {int(np.argmax(missing))}; drop these rows, or give missing "
                "covariates a category of their own."
            )
    return frame


def _numeric(column: pd.Series[Any]) -> bool:
    return np.asarray(column).dtype.kind in "biuf"


@dataclass(frozen=True, eq=False)
class Encoder:
    """Basis B(z): numeric columns as they are, an indicator of each category.

    Attributes
    ----------
    columns : tuple of str
    categories : mapping column -> sorted labels, ``None`` for a numeric column
    full : bool
        Keep the indicator of each column's first category too (for penalised fits).
    """

    columns: tuple[str, ...]
    categories: dict[str, npt.NDArray[np.str_] | None]
    full: bool = False

    @classmethod
    def of(cls, frame: pd.DataFrame, *, categorical: bool = False, full: bool = False) -> Encoder:
        """Read the categories of ``frame``; ``categorical``: numbers are labels too."""
        categories = {
            str(c): None if _numeric(frame[c]) and not categorical else np.unique(_labels(frame[c]))
            for c in frame.columns
        }
        return cls(tuple(map(str, frame.columns)), categories, full)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the basis columns."""
        out: list[str] = []
        for column in self.columns:
            labels = self.categories[column]
            lead = 0 if self.full else 1
            out += [column] if labels is None else [f"{column}={v}" for v in labels[lead:]]
        return tuple(out)

    def design(self, frame: pd.DataFrame) -> FloatArray:
        """Basis (n, p), no intercept column; an unknown category is refused, or 0 when ``full``."""
        if tuple(map(str, frame.columns)) != self.columns:
            raise ValueError(
                f"Z must have the columns {list(self.columns)} of fit, got "
                f"{[str(c) for c in frame.columns]}."
            )
        blocks = []
        for column in self.columns:
            known = self.categories[column]
            if known is None:
                if not _numeric(frame[column]):
                    raise ValueError(f"Z[{column!r}] was numeric in fit and holds labels now.")
                blocks.append(frame[column].to_numpy(dtype=np.float64)[:, None])
                continue
            labels = _labels(frame[column])
            unknown = ~np.isin(labels, known)
            if unknown.any() and not self.full:
                raise ValueError(
                    f"Z[{column!r}] holds {labels[unknown][0]!r}, which fit has not seen: its "
                    "effect is not known (model='group-shrunk' gives new groups the mean effect)."
                )
            blocks.append((labels[:, None] == known[None, 0 if self.full else 1 :]).astype(float))
        return np.concatenate(blocks, axis=1)


def _labels(column: pd.Series[Any]) -> npt.NDArray[np.str_]:
    return np.asarray([str(v) for v in column], dtype=np.str_)


# ------------------------------------------------------------------------------ folds
def row_folds(
    frame: pd.DataFrame,
    y: FloatArray,
    codes: IntArray | None,
    cv: Any,
    seed: int,
    taken: IntArray | None = None,
    n_given: int = 0,
) -> Folds:
    """Folds by cluster, else by row: equal rows of Z must lie on both sides of a split.

    A group whose rows all lie in one fold would have no effect out of fold. A caller's splits name
    the ``n_given`` rows of ``fit``, of which the rows here are those at ``taken``.
    """
    if codes is not None or not isinstance(cv, int | np.integer) or isinstance(cv, bool):
        return make_folds(frame, y, codes, cv, seed, taken, n_given)
    n = y.shape[0]
    if cv < 2 or n < 2:
        raise ValueError(f"cv must be at least 2 folds of at least one row, got {cv} and {n} rows.")
    fold = deal_folds(_row_keys(content_keys(frame)), min(int(cv), n), seed)
    train = tuple(np.flatnonzero(fold != k) for k in range(int(fold.max()) + 1))
    return Folds(fold, train, "row", n)


# ------------------------------------------------------------------------------ linear effects
def partial_out(
    targets: FloatArray, X: Any, text_model: Any, folds: Folds, s: FloatArray | None
) -> FloatArray:
    """Columns of ``targets`` (n, q) minus their cross-fitted conditional means given the text."""
    out = np.empty_like(targets)
    for j, column in enumerate(targets.T):
        if float(np.ptp(column)) == 0.0:  # nothing to predict
            out[:, j] = 0.0
            continue
        fitted = crossfit(text_model, X, column, folds, sample_weight=s)
        out[:, j] = column - fitted.predict_logged(X)
    return out


def unexplained(
    left: FloatArray, design: FloatArray, s: FloatArray | None, names: tuple[str, ...]
) -> FloatArray:
    """Share of each basis column's variance that the text leaves, shape (p,).

    Raises
    ------
    NotIdentifiedError
        Where nothing is left: effects of the text and of the column cannot be told apart.
    """
    total = np.average((design - np.average(design, axis=0, weights=s)) ** 2, axis=0, weights=s)
    rest = np.average((left - np.average(left, axis=0, weights=s)) ** 2, axis=0, weights=s)
    share = np.divide(rest, total, out=np.ones_like(total), where=total > 0)
    if (share < LEAST_UNEXPLAINED).any():
        name = names[int(np.argmin(share))]
        raise NotIdentifiedError(
            f"{name} is known from the text (the text model leaves {share.min():.2g} of its "
            "variance), so that its effect cannot be told from the text's: drop it from Z, or from "
            "the features of X."
        )
    return np.asarray(share)


@dataclass(frozen=True, eq=False)
class LinearEffect:
    r"""Coefficients of :math:`h(z) = B(z)^\top \gamma` fitted without each fold.

    Attributes
    ----------
    coef : array, shape (F, p)
    share : array, shape (F,)
        Weight of each fold's fit in an average (the share of the rows it is used for).
    influence : array, shape (n, p)
        Influence function of the average coefficients on all rows.
    """

    coef: FloatArray
    share: FloatArray
    influence: FloatArray

    @property
    def mean_coef(self) -> FloatArray:
        """Coefficients averaged over the folds (p,)."""
        return np.asarray(self.share @ self.coef)


def linear_effect(
    design: FloatArray,
    outcome: FloatArray,
    folds: Folds,
    *,
    penalty: float,
    sample_weight: FloatArray | None,
    codes: IntArray | None,
    n_clusters: int,
) -> LinearEffect:
    """Least squares of residualised outcome on residualised basis, once without each fold.

    The influence is that of :func:`coefficient_influence` (HC3; CR3 for clusters). With the
    conditional means given the text in the residuals the score is orthogonal to them, so that
    their own fit adds nothing to first order.

    Parameters
    ----------
    design : array, shape (n, p)
    outcome : array, shape (n,)
    penalty : float
        Ridge penalty on every coefficient but the intercept, taken as given.
    """
    n, p = design.shape
    s = np.ones(n) if sample_weight is None else sample_weight
    share = np.bincount(folds.fold, weights=s, minlength=folds.n_folds) / s.sum()
    coef = np.zeros((folds.n_folds, p))
    influence = np.zeros((n, p))
    for k, rows in enumerate(folds.train):
        inside = s[rows]
        fitted = _least_squares(design[rows], outcome[rows], inside, penalty)
        coef[k] = fitted.coef[1:]
        moved = coefficient_influence(
            fitted, design[rows], outcome[rows], sample_weight=inside,
            codes=None if codes is None else codes[rows], n_clusters=n_clusters,
        )  # fmt: skip
        influence[rows] += share[k] * (s.sum() / inside.sum()) * moved[:, 1:]
    return LinearEffect(coef, share, influence)


def _same(eta: FloatArray) -> FloatArray:
    return eta


def _least_squares(z: FloatArray, y: FloatArray, s: FloatArray, penalty: float) -> LinearOutcome:
    design = np.column_stack([np.ones(z.shape[0]), z])
    ridge = np.concatenate([[0.0], np.full(z.shape[1], penalty)])
    information = design.T @ (s[:, None] * design) + np.diag(ridge)
    coef = np.linalg.pinv(information, hermitian=True) @ (design.T @ (s * y))
    return LinearOutcome(None, True, coef, _same, np.ones_like, np.ones_like, ridge)


def between_group_penalty(group: FloatArray, y: FloatArray, s: FloatArray | None) -> float:
    r"""Ridge penalty :math:`\sigma^2/\tau^2` that makes group effects their empirical-Bayes means.

    Moment estimates of the variances within and between groups (analysis of variance).

    Parameters
    ----------
    group : array, shape (n, G)
        Indicators of all groups.
    y : array, shape (n,)
    """
    s = np.ones(y.shape[0]) if s is None else s
    size = s @ group
    group, size = group[:, size > 0], size[size > 0]
    means = (s * y) @ group / size
    total = float(s.sum())
    within = float(s @ (y - group @ means) ** 2) / max(total - size.size, 1.0)
    between = float(size @ (means - float(s @ y) / total) ** 2) / max(size.size - 1.0, 1.0)
    typical = (total - float(size @ size) / total) / max(size.size - 1.0, 1.0)
    variance = max((between - within) / typical, 1e-8 * within) if typical > 0 else 0.0
    return within / variance if variance > 0 else 0.0


# ------------------------------------------------------------------------------ any regressor
def backfit(
    model: Any,
    text_model: Any,
    Z: Any,
    X: Any,
    y: FloatArray,
    inner: Folds,
    s: FloatArray | None,
    max_iter: int,
) -> Any:
    r"""A regressor h fitted to ``y - g(X)`` where g is fitted to ``y - h(Z)``, in turn.

    Predictions that enter the other fit are cross-fitted over ``inner``. Stops when h moves by
    less than a thousandth of the outcome's standard deviation.
    """
    if X is None:
        return fit_outcome_model(model, Z, y, s)
    effect = np.zeros(y.shape[0])
    text = np.zeros(y.shape[0])
    tolerance = 1e-3 * float(np.std(y))
    for _ in range(max_iter):
        text = crossfit(text_model, X, y - effect, inner, sample_weight=s).predict_logged(X)
        found = crossfit(model, Z, y - text, inner, sample_weight=s).predict_logged(Z)
        found -= np.average(found, weights=s)
        moved = float(np.sqrt(np.mean((found - effect) ** 2)))
        effect = found
        if moved <= tolerance:
            break
    return fit_outcome_model(model, Z, y - text, s)


def take_folds(folds: Folds, rows: IntArray) -> Folds:
    """The folds of a subset of rows, renumbered."""
    _, fold = np.unique(folds.fold[rows], return_inverse=True)
    train = tuple(np.flatnonzero(fold != k) for k in range(int(fold.max()) + 1))
    return replace(folds, fold=fold, train=train)


def same_length(n: int, **given: Any) -> None:
    """``ValueError`` where an argument has other than ``n`` rows."""
    for name, value in given.items():
        if value is not None and n_rows(value, name) != n:
            raise ValueError(
                f"{name} has {n_rows(value, name)} rows and y has {n}; they must agree."
            )


def some_rows(X: Any, rows: IntArray | None) -> Any:
    """Rows of X, or X itself (also ``None``)."""
    return X if X is None or rows is None else take_rows(X, rows)


def need_groups_in_training(design: FloatArray, folds: Folds, names: tuple[str, ...]) -> None:
    """Refuse group effects of groups that some fold holds out whole."""
    for rows in folds.train:
        lacking = ~(design[rows] > 0).any(axis=0)
        if lacking.any():
            raise ValueError(
                f"{names[int(np.argmax(lacking))]} lies in one fold whole (a single row, or a "
                "cluster of groups=), so that its effect cannot be learned without it: merge small "
                "groups, cluster on something else, or use model='group-shrunk'."
            )


def columns_of(Z: Any) -> Any:
    """Z as a regressor takes it: a frame, or a two-dimensional array."""
    if is_frame(Z):
        return Z
    values = np.asarray(Z)
    return values[:, None] if values.ndim == 1 else values
