"""Pairs of features that a policy combines and the log never does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from causal_lm_opt._validation import check_vector
from causal_lm_opt.diagnostics._units import Units
from causal_lm_opt.diagnostics.typicality import binomial_interval

__all__ = ["UnmetPairs", "unmet_pairs"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
BoolArray = npt.NDArray[np.bool_]
CHUNK = 16_384
GLANCE = 256  # rows that spare most columns a closer look
WITHOUT = "Value a policy without it, or log such texts."
EXPECTED = 15.0  # rows that would hold a pair by chance: that none does then has chance 3e-7
SOME, MANY = 0.01, 0.1  # lower ends of the share: caution, do not use


@dataclass(frozen=True)
class UnmetPairs:
    """What share of a policy's rows combine two features as no logged row does.

    Attributes
    ----------
    share, low : float
        The share of the rows at hand, and the lower end of its 95 % interval.
    pairs : tuple of (str, str)
        The combinations, those of most of the policy's rows first.
    """

    share: float
    low: float
    pairs: tuple[tuple[str, str], ...]

    @property
    def findings(self) -> list[tuple[int, str]]:
        """Reasons for a verdict: severity (1 caution, 2 do not use) and words."""
        if self.low <= SOME:
            return []
        named = "; ".join(f"{a} with {b}" for a, b in self.pairs[:3])
        more = f"; {len(self.pairs) - 3} more pairs" if len(self.pairs) > 3 else ""
        return [(2 if self.low > MANY else 1, (
            f"{self.share:.0%} of the policy's texts combine what no logged one does ({named}{more}"
            "): what such a combination does to the outcome is taken to add up, and the log cannot "
            f"tell. {WITHOUT}"
        ))]  # fmt: skip


def unmet_pairs(
    features: Any, features_target: Any, *, sample_weight: Any = None, codes: Any = None,
    target_weight: Any = None, names: Any = None, absent: bool = True, exact: bool = False,
) -> UnmetPairs:  # fmt: skip
    r"""Find pairs of two-valued features that the policy's rows combine and the log's never do.

    Weights and outcome models that read features one by one extrapolate to such combinations,
    and neither balance nor effective sample size shows it. A pair counts as unmet where no logged
    row has it and independent features would have it in :math:`N_j N_k / N \ge 15` rows
    (clusters, where there are any): too many for chance. So rare pairs, which any new text has,
    do not count.

    Parameters
    ----------
    features : array, shape (n, p)
        Of the logged rows. Columns that take other than two values are passed over; the larger
        value is presence.
    features_target : array, shape (m, p)
        Of the policy's rows.
    sample_weight, target_weight : arrays, shape (n,), (m,), optional
        Frequencies, or probabilities of the policy's rows.
    codes : array, shape (n,), optional
        Clusters of the logged rows, which count in place of rows.
    names : sequence of p str, optional
    absent : bool
        Combinations with what is not there count too.
    exact : bool
        The policy's rows are its whole support: the share has no sampling error.

    Returns
    -------
    UnmetPairs

    Raises
    ------
    ValueError
        For shapes that do not agree.

    Notes
    -----
    **Limits.** Pairs only: three features that never meet at once are not looked for. Words stand
    for themselves, whatever they mean. Memory is (n + m) p bytes, or twice that.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> log = rng.random((400, 2)) < .4
    >>> log[log.all(axis=1)] = [True, False]               # the two never meet
    >>> drawn = rng.random((500, 2)) < .4
    >>> found = unmet_pairs(log, drawn, names=["brave", "evil"])
    >>> round(found.share, 2), found.pairs
    (0.16, (('brave', 'evil'),))
    """
    here, there = np.asarray(features), np.asarray(features_target)
    if here.ndim != 2 or there.ndim != 2 or here.shape[1] != there.shape[1]:
        raise ValueError(
            "features and features_target must have shapes (n, p) and (m, p), got "
            f"{here.shape} and {there.shape}."
        )
    names = [f"x{j}" for j in range(here.shape[1])] if names is None else list(map(str, names))
    if not any(_two_values(column).size for column in here.T):
        return UnmetPairs(0.0, 0.0, ())
    units = Units.of(here.shape[0], sample_weight, codes)
    weight = np.ones(there.shape[0])
    if target_weight is not None:
        weight = check_vector(target_weight, "target_weight", there.shape[0])
    held, held_target, labels, column = _indicators(here[units.kept], there, names, absent=absent)
    s = np.ones(held.shape[0]) if units.frequency is None else units.frequency
    alone = s @ held
    expected = np.outer(alone, alone) * units.count / float(s.sum()) ** 2
    unmet = (expected >= EXPECTED) & (column[:, None] < column[None, :])
    unmet &= _together(held, s) == 0.0
    share_of = _together(held_target, weight) / weight.sum() * unmet
    first, second = np.nonzero(share_of)
    order = np.argsort(-share_of[first, second], kind="stable")
    pairs = tuple((labels[first[i]], labels[second[i]]) for i in order)
    some = np.zeros(there.shape[0], dtype=np.bool_)
    for j in np.unique(first):
        some |= held_target[:, j] & held_target[:, unmet[j]].any(axis=1)
    share = float(weight @ some / weight.sum())
    size = float(weight.sum() ** 2 / (weight @ weight))
    low = share if exact else binomial_interval(share * size, size)[0]
    return UnmetPairs(share, low, pairs)


def _together(held: BoolArray, weight: FloatArray) -> FloatArray:
    """Weight of the rows that hold each pair, (q, q)."""
    total = np.zeros((held.shape[1], held.shape[1]))
    for start in range(0, held.shape[0], CHUNK):
        some = held[start : start + CHUNK].astype(np.float64)
        total += some.T @ (some * weight[start : start + CHUNK, None])
    return total


def _indicators(
    here: npt.NDArray[Any], there: npt.NDArray[Any], names: list[str], *, absent: bool
) -> tuple[BoolArray, BoolArray, list[str], IntArray]:
    """Values of two-valued columns as columns (n, q), (m, q), named and numbered by column."""
    found: list[tuple[BoolArray, BoolArray, str, int]] = []
    for j, name in enumerate(names):
        values = _two_values(here[:, j])
        for value in values if absent else values[1:]:
            label = _label(name, float(value))
            found.append((here[:, j] == value, there[:, j] == value, label, j))
    logged = np.zeros((here.shape[0], len(found)), dtype=np.bool_)
    drawn = np.zeros((there.shape[0], len(found)), dtype=np.bool_)
    for q, (one, other, _, _) in enumerate(found):
        logged[:, q], drawn[:, q] = one, other
    return logged, drawn, [f[2] for f in found], np.array([f[3] for f in found], dtype=np.intp)


def _two_values(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The two values that a column takes, or none."""
    if column.size and np.unique(column[:GLANCE]).size <= 2:
        both = np.array([column.min(), column.max()])
        if both[0] < both[1] and bool(((column == both[0]) | (column == both[1])).all()):
            return both
    return column[:0]


def _label(name: str, value: float) -> str:
    if value == 1.0:
        return name
    return f"no {name}" if value == 0.0 else f"{name} = {value:g}"
