"""Every check of arrays handed to the estimators; each failure is one message that names the
argument, what was seen and what to do.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

__all__ = [
    "as_text_rows",
    "check_groups",
    "check_log_probs",
    "check_sample_weight",
    "check_vector",
    "content_keys",
    "digest",
    "is_frame",
    "n_rows",
    "policy_columns",
    "surely_finite",
    "take_rows",
]

FloatArray = npt.NDArray[np.float64]
KeyArray = npt.NDArray[np.uint64]
POSITIVE_TOLERANCE = 1e-6  # float32 scorers give log-probs a hair above 0


# ------------------------------------------------------------------------------ rows of X
def is_frame(X: Any) -> bool:
    """Whether X is a data frame (pandas, polars or the like)."""
    return hasattr(X, "columns") and hasattr(X, "shape")


def as_text_rows(X: Any, name: str = "X") -> npt.NDArray[np.object_] | None:
    """X as a (n,) object array of strings, or ``None`` when X is not a sequence of texts.

    Raises
    ------
    TypeError
        When some entries are strings and others are not.
    """
    if isinstance(X, str):
        raise TypeError(f"{name} is one string; pass a list of texts.")
    if sparse.issparse(X) or is_frame(X):
        return None
    if not (isinstance(X, list | tuple | np.ndarray) or hasattr(X, "to_numpy")):
        return None
    if isinstance(X, np.ndarray) and (X.ndim != 1 or X.dtype.kind not in "OUT"):
        return None
    if isinstance(X, list | tuple):
        if not any(isinstance(x, str) for x in X):
            return None
        values = np.empty(len(X), dtype=object)
        values[:] = X
    else:
        values = np.asarray(X, dtype=object)
    if values.ndim != 1 or not any(isinstance(x, str) for x in values):
        return None
    for i, x in enumerate(values):
        if not isinstance(x, str):
            raise TypeError(f"{name}[{i}] is {x!r} where a text (str) is expected.")
    return values


def n_rows(X: Any, name: str = "X") -> int:
    """Number of rows of an array, frame, sparse matrix or list."""
    if hasattr(X, "shape") and len(X.shape) > 0:
        return int(X.shape[0])
    if hasattr(X, "__len__"):
        return len(X)
    raise TypeError(f"{name} must be an array, a DataFrame or a list of texts, got {type(X)}.")


def take_rows(X: Any, rows: npt.NDArray[Any]) -> Any:
    """Rows of any accepted X (positions)."""
    from sklearn.utils import _safe_indexing

    return _safe_indexing(X, rows)


# ------------------------------------------------------------------------------ content keys
_MIX1, _MIX2, _GOLDEN = (
    np.uint64(0xBF58476D1CE4E5B9),
    np.uint64(0x94D049BB133111EB),
    np.uint64(0x9E3779B97F4A7C15),
)


def mix64(keys: KeyArray, seed: int = 0) -> KeyArray:
    """Seeded finaliser of splitmix64: a bijection that scatters 64-bit keys."""
    with np.errstate(over="ignore"):
        z = keys + _GOLDEN * np.uint64(seed + 1)
        z = (z ^ (z >> np.uint64(30))) * _MIX1
        z = (z ^ (z >> np.uint64(27))) * _MIX2
    return np.asarray(z ^ (z >> np.uint64(31)))


def _column_keys(values: Any) -> KeyArray:
    """64-bit key of each entry of a column; equal numbers and equal strings get equal keys."""
    column = np.asarray(values)
    if column.dtype.kind in "biuf":
        bits = (column.astype(np.float64) + 0.0).view(np.uint64)
        keys = mix64(bits, 1)
        keys[bits == 0] = 0  # zeros are absent, as in a sparse matrix
        return keys
    text = column.astype(object)
    return np.asarray(pd.util.hash_array(text, categorize=False), dtype=np.uint64)


def content_keys(X: Any) -> KeyArray:
    """A 64-bit key of each row's content, shape (n,): equal rows get equal keys.

    Numeric arrays, sparse matrices, frames and texts; a dense and a sparse copy agree.
    """
    texts = as_text_rows(X)
    if texts is not None:
        return mix64(_column_keys(texts))
    with np.errstate(over="ignore"):
        if sparse.issparse(X):
            csr: Any = sparse.csr_array(X)  # type: ignore[call-overload]
            if not csr.has_canonical_format:
                csr = csr.copy()  # the caller's matrix stays as it is
                csr.sum_duplicates()
            cells = mix64(_column_keys(csr.data) + csr.indices.astype(np.uint64) * _GOLDEN)
            cells[csr.data == 0] = 0  # zeros that are stored
            running = np.concatenate([np.zeros(1, np.uint64), np.cumsum(cells, dtype=np.uint64)])
            return mix64(running[csr.indptr[1:]] - running[csr.indptr[:-1]])
        if is_frame(X):  # columns go by name: their order does not matter
            columns: Any = [X[c] for c in X.columns]
            salts = _column_keys([str(c) for c in X.columns])
        else:
            columns = np.atleast_2d(np.asarray(X).T)
            salts = np.arange(len(columns), dtype=np.uint64) * _GOLDEN
        total = np.zeros(n_rows(X), dtype=np.uint64)
        for column, salt in zip(columns, salts, strict=True):
            keys = _column_keys(column)
            cell = mix64(keys + salt)
            cell[keys == 0] = 0
            total += cell
    return mix64(total)


def digest(*arrays: npt.NDArray[Any]) -> str:
    """Identity of arrays: shape, dtype and CRC-32 of each, folded into 128 bits.

    It tells data sets apart and is no guard against forgery: at a million rows a cryptographic
    hash takes ten times as long as all the estimate's other work.
    """
    out = hashlib.blake2b(digest_size=16)
    for array in map(np.ascontiguousarray, arrays):
        crc = zlib.crc32(array.view(np.uint8).data) if array.size else 0
        out.update(f"{array.shape}{array.dtype.str}{crc};".encode())
    return out.hexdigest()


# ------------------------------------------------------------------------------ vectors
def surely_finite(values: Any) -> bool:
    """Whether one cheap pass tells that an array holds neither NaN nor infinity.

    Its sum of squares is finite only then; ``False`` means that entries are to be looked at.
    """
    if type(values) is not np.ndarray or values.dtype != np.float64:
        return False
    if not (values.flags.c_contiguous or values.flags.f_contiguous):
        return False
    flat = values.ravel(order="K")
    with np.errstate(over="ignore", invalid="ignore"):
        return math.isfinite(float(flat @ flat))


def check_vector(values: Any, name: str, n: int) -> FloatArray:
    """A finite float64 vector of length ``n``."""
    try:
        out = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be numbers: {error}.") from error
    if out.ndim == 2 and out.shape[1] == 1:
        out = out[:, 0]
    if out.ndim != 1 or out.shape[0] != n:
        raise ValueError(f"{name} must have shape ({n},), got {out.shape}.")
    if surely_finite(out):
        return out
    bad = ~np.isfinite(out)
    if bad.any():
        i = int(np.argmax(bad))
        raise ValueError(
            f"{name} has {int(bad.sum())} NaN or infinite entries, the first at row {i} "
            f"({out[i]}); drop or mend these rows."
        )
    return out


def check_sample_weight(sample_weight: Any, n: int) -> FloatArray | None:
    """Frequency weights (n,), ``None`` when all are 1."""
    if sample_weight is None:
        return None
    if isinstance(sample_weight, int | float):
        sample_weight = np.full(n, float(sample_weight))
    s = check_vector(sample_weight, "sample_weight", n)
    if (s < 0).any():
        raise ValueError(
            f"sample_weight must be non-negative frequencies, got {s.min():.4g} "
            f"at row {int(np.argmin(s))}."
        )
    if not s.any():
        raise ValueError("sample_weight is zero for every row; at least two rows must count.")
    if s.sum() <= 1 + 1e-6:
        raise ValueError(
            f"sample_weight sums to {s.sum():.4g}: they are frequencies (a row of weight 2 is two "
            "rows), not probabilities; at least two rows are needed."
        )
    return None if (s == 1).all() else s


def check_groups(groups: Any, name: str, n: int) -> npt.NDArray[Any]:
    """Cluster labels (n,), no missing label."""
    labels = np.asarray(groups)
    if labels.ndim != 1 or labels.shape[0] != n:
        raise ValueError(f"{name} must have shape ({n},), got {labels.shape}.")
    missing = pd.isna(labels)
    if missing.any():
        raise ValueError(
            f"{name} has {int(missing.sum())} missing labels, the first at row "
            f"{int(np.argmax(missing))}; give every row a label."
        )
    return labels.astype(str).astype(object) if labels.dtype.kind in "US" else labels


# ------------------------------------------------------------------------------ log-probs
def policy_columns(logp: Any) -> tuple[Any, tuple[str, ...] | None, bool]:
    """Split ``logp_target`` into its array, policy names if it carries any, and whether one policy.

    Accepts an array (n,) or (n, K), a frame with one column per policy, a Series, or a mapping
    policy name -> (n,) array.
    """
    if isinstance(logp, Mapping):
        if not logp:
            raise ValueError("logp_target is an empty mapping; give at least one policy.")
        lengths = {str(k): np.shape(v) for k, v in logp.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"logp_target: policies differ in shape: {lengths}.")
        return (
            np.stack([np.asarray(v) for v in logp.values()], axis=1),
            tuple(map(str, logp)),
            False,
        )
    if is_frame(logp):
        names = tuple(str(c) for c in logp.columns)
        if len(set(names)) < len(names):
            raise ValueError(f"logp_target has duplicate policy names: {list(names)}.")
        return np.asarray(logp), names, False
    array = np.asarray(logp)
    return array, None, array.ndim == 1


def check_log_probs(
    values: Any, name: str, n: int, *, n_policies: int | None = None, allow_zero: bool
) -> FloatArray:
    """Natural log-probabilities, float64, shape (n,) or (n, K).

    Parameters
    ----------
    allow_zero : bool
        Whether ``-inf`` (probability 0) is legal: for a target policy yes, for the policy that
        wrote the text no.
    """
    try:
        out = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be numbers (natural log-probabilities): {error}.") from error
    shape = (n,) if n_policies is None else (n, n_policies)
    if out.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {out.shape}.")
    # Extremes need no (n, K) temporary, and NaN carries through them.
    if out.size and out.max() <= POSITIVE_TOLERANCE and (allow_zero or out.min() > -math.inf):
        return out
    bad = np.isnan(out) | (out == math.inf)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"{name} has {int(bad.sum())} NaN or +inf entries, the first at {where}; "
            "score these rows again or drop them."
        )
    if not allow_zero and np.isneginf(out).any():
        where = tuple(int(i) for i in np.argwhere(np.isneginf(out))[0])
        raise ValueError(
            f"{name} is -inf at {where}: a text that was observed cannot have probability 0 under "
            "the policy that wrote it; check the design's probabilities."
        )
    if out.size and float(out.max()) > POSITIVE_TOLERANCE:
        where = tuple(int(i) for i in np.argwhere(out > POSITIVE_TOLERANCE)[0])
        hint = (
            " All lie in [0, 1]: are these probabilities? Pass np.log of them."
            if float(out.min()) >= 0 and float(out.max()) <= 1
            else ""
        )
        raise ValueError(
            f"{name} is positive at {where} ({out[where]:.4g}): the log of a probability is never "
            f"above 0.{hint}"
        )
    return out
