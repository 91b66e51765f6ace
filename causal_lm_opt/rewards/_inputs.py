"""What reward models are given, checked and as numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.utils.validation import check_array, validate_data

from causal_lm_opt._validation import check_groups, check_vector

__all__ = [
    "Pairs",
    "as_validation",
    "check_label",
    "check_objective",
    "check_rows",
    "check_weight",
    "coefficients",
    "matrix",
    "objective_codes",
    "texts_with_prompts",
    "validation_rows",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Matrix = npt.NDArray[np.floating[Any]]
#: What stands between a prompt and a text that are embedded together.
JOINT = "\n\n"
#: What a validation mapping may hold.
VALIDATION = ("chosen", "rejected", "objective", "prompts", "sample_weight", "label")


@dataclass(frozen=True)
class Pairs:
    """Pairs of texts as numbers.

    Attributes
    ----------
    chosen, rejected : arrays, shape (n, d)
        What the network reads.
    objective : integer array, shape (n,), or None
        Position of each row's objective among the known ones.
    coefficients : array, shape (n, 2)
        What a pair adds to the risk, ``a log(1 + e^m) - b m`` at the margin m; the pair loss of
        label p and weight w has a = w and b = w p.
    """

    chosen: Matrix
    rejected: Matrix
    objective: IntArray | None
    coefficients: FloatArray

    def __len__(self) -> int:
        return len(self.chosen)

    def take(self, rows: npt.NDArray[np.bool_]) -> Pairs:
        """The pairs at some rows, (n,) bool; no copy where these are all of them."""
        if rows.all():
            return self
        return Pairs(
            self.chosen[rows], self.rejected[rows],
            None if self.objective is None else self.objective[rows], self.coefficients[rows],
        )  # fmt: skip

    def scaled(self) -> Pairs:
        """The pairs with coefficients a of mean 1."""
        return replace(self, coefficients=self.coefficients / self.coefficients[:, 0].mean())


# ------------------------------------------------------------------------------ vectors
def coefficients(label: Any, sample_weight: Any, n: int) -> FloatArray:
    """Coefficients (n, 2) of the weighted pair loss."""
    w = check_weight(sample_weight, n)
    return np.column_stack([w, w * check_label(label, n)])


def check_label(label: Any, n: int) -> FloatArray:
    """Probabilities (n,) that the chosen text wins; all 1 by default."""
    if label is None:
        return np.ones(n)
    p = check_vector(label, "label", n)
    if ((p < 0) | (p > 1)).any():
        i = int(np.argmax((p < 0) | (p > 1)))
        raise ValueError(
            f"label is the probability in [0, 1] that the chosen text wins, got {p[i]:g} at row "
            f"{i}; 0.5 is a tie."
        )
    return p


def check_weight(sample_weight: Any, n: int) -> FloatArray:
    """Non-negative weights (n,), not all 0; all 1 by default. Their scale does not matter."""
    if sample_weight is None:
        return np.ones(n)
    sample_weight = np.asarray(sample_weight)
    if sample_weight.ndim == 0:
        sample_weight = np.full(n, sample_weight)
    w = check_vector(sample_weight, "sample_weight", n)
    if (w < 0).any():
        i = int(np.argmax(w < 0))
        raise ValueError(f"sample_weight must not be negative, got {w[i]:g} at row {i}.")
    if not w.any():
        raise ValueError("sample_weight is zero for every pair; at least one must count.")
    return w


def check_rows(n: int, m: int, name: str, other: str) -> None:
    """Raise unless two arguments have the same number of rows."""
    if n != m:
        raise ValueError(f"{name} must have as many rows as {other} ({n}), got {m}.")


def check_objective(objective: Any, n: int) -> npt.NDArray[Any]:
    """Objective labels (n,); one label stands for every row."""
    if isinstance(objective, str) or np.ndim(objective) == 0:
        labels = np.empty(n, dtype=object)
        labels[:] = objective
        return check_groups(labels, "objective", n)
    return check_groups(objective, "objective", n)


def objective_codes(labels: npt.NDArray[Any], known: npt.NDArray[Any]) -> IntArray:
    """Position of each label among the known ones.

    Raises
    ------
    ValueError
        For a label that is not among them.
    """
    codes = np.asarray(pd.Index(known).get_indexer(pd.Index(labels)), dtype=np.int64)
    if (codes < 0).any():
        i = int(np.argmax(codes < 0))
        raise ValueError(
            f"objective {labels[i]!r} at row {i} is none of those the model was fitted on: "
            f"{list(known)}."
        )
    return codes


# ------------------------------------------------------------------------------ rows
def matrix(estimator: Any, X: Any, name: str, dtype: Any, *, reset: bool) -> Matrix:
    """A finite (n, d) array; ``reset`` has the estimator remember its width and column names.

    Raises
    ------
    ValueError, TypeError
        As scikit-learn's own, with the argument's name.
    """
    if reset:
        validate_data(estimator, X, reset=True, skip_check_array=True)
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, and is refused
        out: Matrix = check_array(X, dtype=dtype, input_name=name, estimator=estimator)
    expected = estimator.n_features_in_
    if out.shape[1] != expected:
        raise ValueError(
            f"{name} has {out.shape[1]} features, but {type(estimator).__name__} is expecting "
            f"{expected} features as input."
        )
    if not reset:
        validate_data(estimator, X, reset=False, skip_check_array=True)
    return out


def texts_with_prompts(texts: npt.NDArray[np.object_], prompts: Any) -> list[str]:
    """Texts, each after its prompt and an empty line where prompts are given."""
    if prompts is None:
        return [str(text) for text in texts]
    check_rows(len(texts), len(prompts), "prompts", "the texts")
    return [f"{prompt}{JOINT}{text}" for prompt, text in zip(prompts, texts, strict=True)]


# ------------------------------------------------------------------------------ validation
def validation_rows(
    n: int, groups: npt.NDArray[Any] | None, fraction: float, rng: np.random.RandomState
) -> npt.NDArray[np.bool_]:
    """Rows to hold out, (n,) bool: about a fraction of them, whole groups, never all.

    Raises
    ------
    ValueError
        If there are fewer than two pairs, or groups, to part.
    """
    codes = np.arange(n) if groups is None else pd.factorize(groups)[0]
    size = np.bincount(codes)
    if len(size) < 2:
        what = "pair" if groups is None else "group"
        raise ValueError(
            f"validation_fraction={fraction:g} needs at least two {what}s to part, got "
            f"{len(size)} (n_samples = {n}); pass validation= or validation_fraction=0."
        )
    order = rng.permutation(len(size))
    before = np.cumsum(size[order]) - size[order]
    wanted = before < fraction * n
    wanted[-1] = False  # somebody has to be learnt from
    held = np.zeros(len(size), dtype=bool)
    held[order[wanted]] = True
    return np.asarray(held[codes])


def as_validation(validation: Any, name: str = "validation") -> dict[str, Any]:
    """Pairs given in one argument as named arguments.

    Raises
    ------
    TypeError, ValueError
        If it is no (chosen, rejected[, objective]) and no mapping of known names.
    """
    if isinstance(validation, Mapping):
        unknown = [str(key) for key in validation if key not in VALIDATION]
        missing = [key for key in VALIDATION[:2] if key not in validation]
        if unknown or missing:
            raise ValueError(
                f"{name} has unknown keys {unknown} and lacks {missing}; it may hold "
                f"{list(VALIDATION)}."
            )
        return dict(validation)
    if isinstance(validation, tuple | list) and len(validation) in (2, 3):
        return dict(zip(VALIDATION, validation, strict=False))
    raise TypeError(
        f"{name} must be (chosen, rejected), (chosen, rejected, objective) or a mapping with keys "
        f"of {list(VALIDATION)}, got {type(validation).__name__}."
    )
