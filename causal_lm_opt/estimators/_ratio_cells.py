"""Cell counts of a discrete latent as a density ratio, and how their noise moves a value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import clone

from causal_lm_opt._validation import content_keys
from causal_lm_opt.estimators._ratio import Influence, RatioSamples, distinct_rows

__all__ = ["CellOdds", "fit_cells"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class CellInfluence:
    r"""Influence through the cells' shares: :math:`\psi_i = 1 - 1\{z_i = z\}/p_R(z)` and
    :math:`\tilde\psi_j = 1\{z_j = z\}/p_f(z) - 1`.
    """

    code: IntArray
    code_target: IntArray
    share: FloatArray
    share_target: FloatArray

    @property
    def size(self) -> int:
        """Number of cells."""
        return int(self.share.shape[0])

    def move(self, slope: FloatArray) -> tuple[FloatArray, FloatArray]:
        """See :class:`causal_lm_opt.estimators._ratio.Influence`."""
        direction = np.bincount(self.code, weights=slope, minlength=self.size)
        total = float(direction.sum())
        with np.errstate(divide="ignore", invalid="ignore"):
            here = np.where(self.share > 0, direction / self.share, 0.0)
            there = np.where(self.share_target > 0, direction / self.share_target, 0.0)
        return total - here[self.code], there[self.code_target] - total


@dataclass(frozen=True, eq=False)
class CellOdds:
    """Counts of cells: ``w(z) = (share of draws in z) / (share of logged rows in z)``.

    ``+inf`` where only draws fall (latent positivity fails), ``-inf`` where no draw does, ``nan``
    for rows of new cells.
    """

    step: Any
    keys: npt.NDArray[np.uint64]
    cell_ratio: FloatArray
    log_ratio: FloatArray
    log_ratio_target: FloatArray
    influence: Influence | None

    def predict(self, X: Any) -> FloatArray:
        """Log ratios of new rows."""
        keys = cell_keys(self.step, X)
        place = np.minimum(np.searchsorted(self.keys, keys), self.keys.size - 1)
        return np.where(self.keys[place] == keys, self.cell_ratio[place], math.nan)


def cell_keys(step: Any, X: Any) -> npt.NDArray[np.uint64]:
    """Key of each row's cell."""
    return content_keys(X if step is None else step.transform(X))


def fit_cells(step: Any, samples: RatioSamples) -> CellOdds:
    """Count the cells of a discrete latent in both samples."""
    if step is not None:
        step = clone(step).fit(distinct_rows(samples.both)[0])
    found = np.concatenate([cell_keys(step, samples.X), cell_keys(step, samples.X_target)])
    keys, code = np.unique(found, return_inverse=True)
    here, there = code[: samples.n], code[samples.n :]
    p = np.bincount(here, weights=samples.weight, minlength=keys.size) / samples.weight.sum()
    p_target = np.bincount(there, weights=samples.target_weight, minlength=keys.size)
    p_target = p_target / samples.target_weight.sum()
    with np.errstate(divide="ignore"):
        ratio = np.log(p_target) - np.log(p)
    influence = CellInfluence(here, there, p, p_target)
    return CellOdds(step, keys, ratio, ratio[here], ratio[there], influence)
