"""What the diagnostics share: frequencies, clusters, importance weights and tokens of a sample."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from causal_lm_opt._validation import check_groups, check_vector
from causal_lm_opt.core.inference import cluster_dof, influence_covariance
from causal_lm_opt.core.solve import weighted_mean
from causal_lm_opt.core.weights import relative_weights
from causal_lm_opt.exceptions import OverlapError

__all__ = [
    "Units",
    "importance_weights",
    "scored_tokens",
    "support_probabilities",
    "token_units",
    "token_values",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
SLACK = 1e-6  # rounding of float32 scorers


@dataclass(frozen=True, eq=False)
class Units:
    """Independent units of one sample: which rows count, how often, and in which cluster.

    Attributes
    ----------
    kept : array of bool, shape (n,)
        Rows with a positive frequency.
    frequency : array (n_kept,) or None
        Frequency weights; ``None`` when all are 1.
    codes : integer array (n_kept,) or None
        Cluster of each row, ``0..count - 1``.
    count : float
        Clusters, or the sum of frequencies.
    """

    kept: npt.NDArray[np.bool_]
    frequency: FloatArray | None
    codes: IntArray | None
    count: float

    @classmethod
    def of(
        cls,
        n: int,
        sample_weight: Any = None,
        codes: Any = None,
        *,
        weight_name: str = "sample_weight",
        codes_name: str = "codes",
    ) -> Units:
        """Check frequency weights (n,) and cluster labels (n,) of one sample.

        Raises
        ------
        ValueError
            When there are fewer than two units, or a weight is negative.
        """
        frequency = None if sample_weight is None else check_vector(sample_weight, weight_name, n)
        kept = np.ones(n, dtype=np.bool_)
        if frequency is not None:
            if (frequency < 0).any():
                row = int(np.argmin(frequency))
                raise ValueError(
                    f"{weight_name} must be non-negative frequencies, got {frequency[row]:.4g} at "
                    f"row {row}."
                )
            kept = frequency > 0
            frequency = frequency[kept]
        count = float(n if frequency is None else frequency.sum())
        if count <= 1 + 1e-6:
            raise ValueError(
                f"A standard error needs at least two rows: {weight_name} counts {count:.4g} "
                "(frequencies, not probabilities)."
            )
        inverse = None
        if codes is not None:
            labels, inverse = np.unique(
                check_groups(codes, codes_name, n)[kept], return_inverse=True
            )
            count = float(labels.shape[0])
            if count < 2:
                raise ValueError(
                    f"{codes_name} holds one distinct label; a standard error needs at least two."
                )
        return cls(kept, frequency, inverse, count)

    @property
    def dof(self) -> float:
        """Degrees of freedom of a standard error: ``inf`` for rows, else of Student's t.

        One less than the number of equal clusters that the clusters are worth, at least 1.
        """
        if self.codes is None:
            return math.inf
        return cluster_dof(np.bincount(self.codes, weights=self.frequency).astype(np.float64))

    def mean(self, values: FloatArray) -> FloatArray:
        """Mean over rows of (n_kept,) or (n_kept, k) values."""
        return np.asarray(weighted_mean(values, self.frequency))

    def covariance(self, influence: FloatArray) -> FloatArray:
        """Covariance () or (k, k) from influence functions (n_kept,) or (n_kept, k)."""
        clusters = int(self.count) if self.codes is not None else 0
        return np.asarray(influence_covariance(influence, self.frequency, self.codes, clusters))

    def se(self, influence: FloatArray) -> float:
        """Standard error of a number from its influence function (n_kept,)."""
        return math.sqrt(max(float(self.covariance(influence)), 0.0))


def importance_weights(log_ratio: Any, name: str, n: int) -> FloatArray:
    """Self-normalisable weights (n,) from log ratios (``-inf`` allowed); ones for ``None``.

    Raises
    ------
    ValueError
        For a wrong shape, NaN or ``+inf``.
    OverlapError
        When every weight is 0.
    """
    if log_ratio is None:
        return np.ones(n)
    ell = np.asarray(log_ratio, dtype=np.float64)
    impossible = np.isneginf(ell)
    check_vector(np.where(impossible, 0.0, ell), name, n)
    if impossible.all():
        raise OverlapError(
            f"{name} is -inf for every row: the target policy writes none of these texts, so "
            "nothing can be compared."
        )
    return np.asarray(relative_weights(ell, normalize=True))


def support_probabilities(target_weight: Any, m: int) -> FloatArray:
    """Probabilities (m,) of an exact support."""
    if target_weight is None:
        raise ValueError("exact=True needs the support's probabilities as target_weight.")
    p = check_vector(target_weight, "target_weight", m)
    if (p < 0).any() or abs(float(p.sum()) - 1.0) > 1e-6:
        raise ValueError(
            "target_weight: probabilities of the exact support must be non-negative and sum to 1, "
            f"got a sum of {float(p.sum()):.6g}."
        )
    return p


def scored_tokens(
    values: Any, mask: Any, name: str
) -> tuple[tuple[int, ...], npt.NDArray[np.bool_]]:
    """Shape of a token array, and which tokens count."""
    shape = np.shape(values)
    if len(shape) not in (1, 2):
        raise ValueError(f"{name} must have shape (N,) or (n, T), got {shape}.")
    scored = np.ones(shape, dtype=np.bool_) if mask is None else np.asarray(mask)
    if scored.shape != shape or not np.isin(scored, (0, 1)).all():
        raise ValueError(f"mask must be boolean with the shape of {name}, {shape}.")
    scored = scored.astype(np.bool_)
    if not scored.any():
        raise ValueError(f"{name} has no scored token.")
    return shape, scored


def token_values(
    values: Any,
    name: str,
    shape: tuple[int, ...],
    scored: npt.NDArray[np.bool_],
    *,
    low: float,
    high: float,
) -> FloatArray:
    """The scored entries (N,), finite and within ``low`` .. ``high`` up to rounding."""
    if np.shape(values) != shape:
        raise ValueError(f"{name} must have shape {shape}, got {np.shape(values)}.")
    out = check_vector(np.asarray(values)[scored], name, int(scored.sum()))
    bad = (out < low - SLACK) | (out > high + SLACK)
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(
            f"{name} must lie between {low:g} and {high:g}, got {out[row]:.4g} at scored token "
            f"{row}."
        )
    return out


def token_units(
    shape: tuple[int, ...], scored: npt.NDArray[np.bool_], sample_weight: Any, codes: Any
) -> Units:
    """Units of the scored tokens; values of a text (n,) hold for each of its tokens."""
    texts = np.nonzero(scored)[0]
    clusters = codes
    if codes is None and len(shape) == 2:
        clusters = np.arange(shape[0])
    for name, given in (("sample_weight", sample_weight), ("codes", clusters)):
        if given is not None and np.shape(given) != shape[:1]:
            raise ValueError(f"{name} must have shape {shape[:1]}, got {np.shape(given)}.")
    return Units.of(
        texts.shape[0],
        None if sample_weight is None else np.asarray(sample_weight)[texts],
        None if clusters is None else np.asarray(clusters)[texts],
    )
