"""What the density-ratio estimators share: their two samples, feature steps and influence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse
from sklearn.base import BaseEstimator, clone
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from causal_lm_opt._validation import (
    as_text_rows,
    check_groups,
    check_vector,
    content_keys,
    is_frame,
    mix64,
    n_rows,
    take_rows,
)
from causal_lm_opt.diagnostics.ratio import RatioDiagnostics, ratio_diagnostics

__all__ = ["BaseRatio", "BlockInfluence", "Influence", "RatioSamples", "feature_step"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]


# ------------------------------------------------------------------------------ influence
class Influence(Protocol):
    """How a fitted ratio's own noise moves a value."""

    @property
    def size(self) -> int:
        """Number of parameters."""

    def move(self, slope: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Influence of the logged rows (n,) and the draws (m,) through the ratio's parameters.

        ``slope`` (n,) is the derivative of the value in each logged row's log ratio.
        """


@dataclass(frozen=True, eq=False)
class Block:
    """Parameters b with log ratios of slope ``gradient`` (n, p) in b, and the influence on b."""

    gradient: FloatArray
    logged: FloatArray
    target: FloatArray


@dataclass(frozen=True, eq=False)
class BlockInfluence:
    r"""Stacked moments: :math:`D = \sum_i` slope :math:`\times` gradient, then
    :math:`\psi_i^\top D`, summed over blocks of parameters (one for each fold's model).
    """

    blocks: tuple[Block, ...]

    @property
    def size(self) -> int:
        """Number of parameters of one model."""
        return int(self.blocks[0].gradient.shape[1])

    def move(self, slope: FloatArray) -> tuple[FloatArray, FloatArray]:
        """See :class:`Influence`."""
        logged = np.zeros(self.blocks[0].logged.shape[0])
        target = np.zeros(self.blocks[0].target.shape[0])
        for block in self.blocks:
            direction = slope @ block.gradient
            logged += block.logged @ direction
            target += block.target @ direction
        return logged, target


# ------------------------------------------------------------------------------ samples
@dataclass(frozen=True, eq=False)
class RatioSamples:
    """Checked logged rows and draws of the target.

    Attributes
    ----------
    X, X_target : arrays (n, d), (m, d), frames, or object arrays of texts
    weight, target_weight : arrays, shape (n,), (m,)
        Positive frequencies.
    codes, target_codes : integer arrays, shape (n,), (m,), optional
        Clusters; equal codes of log and draws are one cluster.
    """

    X: Any
    X_target: Any
    weight: FloatArray
    target_weight: FloatArray
    codes: IntArray | None = None
    target_codes: IntArray | None = None

    @property
    def n(self) -> int:
        """Logged rows."""
        return int(self.weight.shape[0])

    @property
    def m(self) -> int:
        """Draws."""
        return int(self.target_weight.shape[0])

    @cached_property
    def both(self) -> Any:
        """Logged rows and draws, one after the other."""
        return stacked_rows(self.X, self.X_target)

    @cached_property
    def is_target(self) -> IntArray:
        """0 for logged rows and 1 for draws, shape (n + m,)."""
        return np.repeat([0, 1], [self.n, self.m])

    @cached_property
    def weight_both(self) -> FloatArray:
        """Frequencies of both, shape (n + m,)."""
        return np.concatenate([self.weight, self.target_weight])

    @property
    def units(self) -> float:
        """Independent units of the smaller sample: clusters, or rows."""
        pairs = ((self.weight, self.codes), (self.target_weight, self.target_codes))
        return min(float(w.sum()) if c is None else float(np.unique(c).size) for w, c in pairs)

    @property
    def is_text(self) -> bool:
        """Whether rows are raw texts."""
        return as_text_rows(self.X) is not None

    @cached_property
    def codes_both(self) -> IntArray | None:
        """Clusters of both, ``0 .. G - 1``; rows of an unclustered sample stand alone."""
        if self.codes is None and self.target_codes is None:
            return None
        here, there = self.codes, self.target_codes
        top = 0 if here is None else int(here.max()) + 1
        if there is not None:
            top = max(top, int(there.max()) + 1)
        here = np.arange(top, top + self.n) if here is None else here
        there = np.arange(top + self.n, top + self.n + self.m) if there is None else there
        _, codes = np.unique(np.concatenate([here, there]), return_inverse=True)
        return np.asarray(codes, dtype=np.intp)


def stacked_rows(left: Any, right: Any) -> Any:
    """Rows of two tables of one kind, one after the other."""
    if sparse.issparse(left) or sparse.issparse(right):
        return sparse.vstack([left, right], format="csr")
    if is_frame(left):
        frames = [x if isinstance(x, pd.DataFrame) else x.to_pandas() for x in (left, right)]
        return pd.concat(frames, ignore_index=True)
    return np.concatenate([left, right])


def _read_rows(X: Any, name: str) -> Any:
    texts = as_text_rows(X, name)
    if texts is not None:
        return texts
    if is_frame(X) and not sparse.issparse(X):
        return X
    try:
        return check_array(X, accept_sparse="csr", dtype=np.float64, input_name=name)
    except ValueError as error:
        values = None if sparse.issparse(X) else np.asarray(X)
        if values is None or values.ndim != 2 or "could not convert string" not in str(error):
            raise
        return pd.DataFrame(values, columns=[f"x{j}" for j in range(values.shape[1])])


def _frequencies(values: Any, name: str, n: int) -> FloatArray:
    if values is None:
        return np.ones(n)
    out = check_vector(values, name, n)
    if not (out > 0).all():
        raise ValueError(
            f"{name} must be positive frequencies, got {out.min():.4g} at row "
            f"{int(np.argmin(out))}; drop rows of weight 0."
        )
    return out


def _same_columns(X: Any, X_target: Any) -> None:
    kinds = [
        "texts" if as_text_rows(x) is not None else "a frame" if is_frame(x) else "numbers"
        for x in (X, X_target)
    ]
    if kinds[0] != kinds[1]:
        raise ValueError(f"X holds {kinds[0]} and X_target {kinds[1]}; give both in one layout.")
    if kinds[0] == "a frame":
        here, there = ([str(c) for c in x.columns] for x in (X, X_target))
        if here != there:
            raise ValueError(f"X has the columns {here} and X_target {there}; they must agree.")
    elif kinds[0] == "numbers" and X.shape[1] != X_target.shape[1]:
        raise ValueError(
            f"X has {X.shape[1]} columns and X_target {X_target.shape[1]}; they must agree."
        )


def read_samples(
    X: Any, X_target: Any, sample_weight: Any, target_weight: Any, groups: Any, target_groups: Any
) -> RatioSamples:
    """Check the arguments of a ratio's ``fit``."""
    X, X_target = _read_rows(X, "X"), _read_rows(X_target, "X_target")
    _same_columns(X, X_target)
    n, m = n_rows(X), n_rows(X_target, "X_target")
    for rows, name in ((n, "X"), (m, "X_target")):
        if rows < 2:
            raise ValueError(f"{name} has {rows} rows; a density ratio needs at least two of each.")
    codes = target_codes = None
    labels: npt.NDArray[Any] = np.zeros(0, dtype=object)
    if groups is not None:
        labels, codes = np.unique(check_groups(groups, "groups", n), return_inverse=True)
    if target_groups is not None:
        checked = check_groups(target_groups, "target_groups", m)
        if groups is not None and checked.dtype.kind != labels.dtype.kind:
            checked, labels = checked.astype(str), labels.astype(str)
        distinct, inverse = np.unique(checked, return_inverse=True)
        place = {label: k for k, label in enumerate(labels.tolist())}
        codes_of = [place.get(label, labels.size + k) for k, label in enumerate(distinct.tolist())]
        target_codes = np.array(codes_of, dtype=np.intp)[inverse]
    for found, name in ((codes, "groups"), (target_codes, "target_groups")):
        if found is not None and np.unique(found).size < 2:
            raise ValueError(f"{name} holds one distinct label; at least two are needed.")
    return RatioSamples(
        X, X_target, _frequencies(sample_weight, "sample_weight", n),
        _frequencies(target_weight, "target_weight", m), codes, target_codes,
    )  # fmt: skip


def distinct_rows(X: Any, y: IntArray | None = None) -> tuple[Any, IntArray, IntArray]:
    """Distinct rows of X (and y) in an order that is their own, their first positions, each row's.

    A feature step learns from distinct texts, so that a row of weight 2 is two rows to it.
    """
    keys = content_keys(X)
    if y is not None:
        keys = mix64(keys + y.astype(np.uint64))
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return take_rows(X, first), np.asarray(first), np.asarray(inverse)


def transformed(step: Any, X: Any) -> Any:
    """``step.transform``, once for each distinct row; the rows themselves without a step."""
    if step is None:
        return X
    rows, _, inverse = distinct_rows(X)
    return take_rows(step.transform(rows), inverse)


# ------------------------------------------------------------------------------ features
def _columns(names: list[Any], X: Any) -> Any:
    """The columns of a frame (by name, else by position) or an array (by position)."""
    if is_frame(X) and not sparse.issparse(X):
        known = list(X.columns)
        picked = [
            known[c] if c not in known and isinstance(c, int) and 0 <= c < len(known) else c
            for c in names
        ]
        lacking = [c for c in picked if c not in known]
        if lacking:
            raise ValueError(f"There is no column {lacking[0]!r} among {known}: mend the name.")
        return X[picked]
    named = [c for c in names if isinstance(c, str)]
    if named:
        raise ValueError(
            f"The column {named[0]!r} is asked for by name but the rows have no column names: give "
            "a DataFrame, or positions."
        )
    width = X.shape[1] if len(X.shape) == 2 else 0
    beyond = [c for c in names if not -width <= c < width]
    if beyond:
        raise ValueError(f"There is no column {beyond[0]!r}: the rows have {width} columns.")
    return X[:, list(names)]


def _made(function: Any, X: Any) -> Any:
    """What a callable makes of the rows, one column at least."""
    out = function(X)
    if sparse.issparse(out) or (is_frame(out) and len(out.shape) == 2):
        return out
    out = np.asarray(out)
    out = out.reshape(-1, 1) if out.ndim == 1 else out
    if out.ndim != 2 or out.shape[0] != n_rows(X):
        raise ValueError(
            f"The latent (or features) callable returned shape {out.shape} for {n_rows(X)} rows; "
            "expected one row each."
        )
    return out


def feature_step(spec: Any, name: str) -> Any:
    """An unfitted transformer from ``None``, a transformer, a callable or column names.

    ``None`` stays ``None``: the rows themselves.
    """
    if spec is None:
        return None
    if isinstance(spec, type):
        raise TypeError(f"{name} is the class {spec.__name__}: give {spec.__name__}().")
    if hasattr(spec, "fit") and hasattr(spec, "transform"):
        return clone(spec)
    if isinstance(spec, str | int):
        spec = [spec]
    if isinstance(spec, Sequence) and not isinstance(spec, type) and len(spec):
        return FunctionTransformer(partial(_columns, list(spec)))
    if callable(spec):
        return FunctionTransformer(partial(_made, spec))
    raise TypeError(
        f"{name} must be None, a transformer, a callable X -> Z or column names, got {spec!r}."
    )


def dense(values: Any) -> FloatArray:
    """A dense float array (n, d) of features."""
    values = values.toarray() if hasattr(values, "toarray") else values
    try:
        out = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "The ratio's features must be numbers: give a transformer (for texts say "
            "make_pipeline(TfidfVectorizer(), TruncatedSVD(20))), a callable or numeric columns "
            f"({error})."
        ) from error
    return out.reshape(-1, 1) if out.ndim == 1 else out


def feature_names(values: Any, step: Any, width: int) -> list[str]:
    """Names of feature columns, where they have any."""
    if hasattr(values, "columns") and len(values.columns) == width:
        return [str(c) for c in values.columns]
    if step is not None and hasattr(step, "get_feature_names_out"):
        try:
            names = [str(x) for x in step.get_feature_names_out()]
        except (AttributeError, ValueError):  # transformers that keep no names
            names = []
        if len(names) == width:
            return names
    return [f"feature {j}" for j in range(width)]


# ------------------------------------------------------------------------------ base class
class BaseRatio(BaseEstimator):
    """Shared behaviour of the density-ratio estimators; abstract.

    After ``fit``: ``samples_``, ``log_ratio_`` (n,), ``log_ratio_target_`` (m,), ``influence_``
    (``None`` where the ratio's own noise has no first-order form), ``label_``.
    """

    _odds = True  # of draws against logged rows, so that calibration is asked for

    def predict(self, X: Any) -> FloatArray:
        raise NotImplementedError

    def _features(self) -> tuple[FloatArray, FloatArray, list[str]] | None:
        """Dense features of both samples and their names; ``None`` for texts without features."""
        raise NotImplementedError

    def weights(self) -> FloatArray:
        """Estimated weights of the logged rows, averaging 1, shape (n,)."""
        check_is_fitted(self, "log_ratio_")
        weight = np.exp(self.log_ratio_ - self.log_ratio_.max())
        return np.asarray(weight / np.average(weight, weights=self.samples_.weight))

    def diagnose(self) -> RatioDiagnostics:
        """Calibration, balance reached, unseen mass, mean weight and effective sample size."""
        check_is_fitted(self, "log_ratio_")
        samples, features = self.samples_, self._features()
        here, there, names = (None, None, None) if features is None else features
        return ratio_diagnostics(
            self.log_ratio_, self.log_ratio_target_, sample_weight=samples.weight,
            target_weight=samples.target_weight, codes=samples.codes,
            target_codes=samples.target_codes, features=here, features_target=there, names=names,
            label=self.label_, odds=self._odds,
        )  # fmt: skip
