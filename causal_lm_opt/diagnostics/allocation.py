"""Was each arm given as often as the stated probabilities say?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special, stats

from causal_lm_opt._validation import check_groups

__all__ = ["AllocationCheck", "allocation_check"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
MAX_TABLES = 200_000  # outcomes enumerated by the exact multinomial test
SMALL = 5.0  # expected counts below this void the chi-square approximation
TIE = 1e-9


@dataclass(frozen=True, eq=False)
class AllocationCheck:
    """Counts of the arms against their stated probabilities.

    Attributes
    ----------
    statistic : float
        Pearson's chi-square; ``inf`` where an arm of probability 0 was given.
    dof : int
    p_value : float
    method : {"chi-square", "exact", "Monte Carlo"}
        The chi-square approximation, unless an expected count is below 5.
    table : DataFrame
        ``arm``, ``count``, ``expected``, ``probability`` and ``z`` (standardised residual).
    n_units : int
    """

    statistic: float
    dof: int
    p_value: float
    method: str
    table: pd.DataFrame
    n_units: int

    @property
    def sentence(self) -> str:
        """The finding in words."""
        text = (
            f"Allocation against the stated probabilities: chi-square {self.statistic:.1f} on "
            f"{self.dof} degrees of freedom, p = {self.p_value:.3g} ({self.method}, "
            f"{self.n_units:,} units)"
        )
        if self.p_value >= 0.01:
            return text + "."
        worst = self.table.iloc[int(np.argmax(np.abs(self.table["z"].to_numpy())))]
        return (
            f"{text}: {worst['arm']} was given {worst['count']:,.0f} times where "
            f"{worst['expected']:,.1f} were expected; the stated probabilities are not those used."
        )


def allocation_check(
    assignment: Any,
    probabilities: Mapping[Any, float],
    *,
    codes: Any = None,
    n_simulations: int = 9999,
    random_state: int = 0,
) -> AllocationCheck:
    r"""Test whether arms were given as often as the stated probabilities say.

    Pearson's chi-square. Where an expected count is below 5 the p-value is exact, over all
    divisions of the units among the arms, or where these are too many to list from
    simulated multinomial counts.

    Parameters
    ----------
    assignment : array, shape (n,), of labels; or counts: mapping, or Series, arm -> count
        Whole numbers are the same arm whether they are written 1, 1.0 or "1".
    probabilities : mapping arm -> float
        Stated probabilities of all arms; they must sum to 1.
    codes : array, shape (n,), optional
        Clusters assigned whole: each counts once.
    n_simulations, random_state : int
        For the simulated p-value.

    Returns
    -------
    AllocationCheck

    Raises
    ------
    ValueError
        Probabilities that do not sum to 1, arms without one, a cluster given two arms, a Series
        that could be labels or counts.

    Notes
    -----
    **Assumptions.** Units were assigned independently. A design that fixes the counts in advance
    fits better than chance, and a p-value near 1 says nothing against it.

    Examples
    --------
    >>> check = allocation_check({"a": 60, "b": 40}, {"a": .5, "b": .5})
    >>> round(check.statistic, 6), round(check.p_value, 4), check.method
    (4.0, 0.0455, 'chi-square')
    >>> check = allocation_check({"a": 4, "b": 0}, {"a": .5, "b": .5})
    >>> check.p_value, check.method
    (0.125, 'exact')
    """
    arms, p = _stated(probabilities)
    counts = _arm_counts(assignment, arms, codes)
    n = int(counts.sum())
    expected = n * p
    possible = p > 0
    z = np.zeros(p.shape[0])
    z[possible] = (counts - expected)[possible] / np.sqrt(np.maximum(expected * (1 - p), 1e-300))[
        possible
    ]
    z[~possible & (counts > 0)] = math.inf
    table = pd.DataFrame(
        {"arm": arms, "count": counts, "expected": expected, "probability": p, "z": z}
    )
    dof = int(possible.sum()) - 1
    if (counts[~possible] > 0).any():
        return AllocationCheck(math.inf, dof, 0.0, "exact", table, n)
    counts, p, expected = counts[possible], p[possible], expected[possible]
    statistic = float(((counts - expected) ** 2 / expected).sum())
    if dof == 0:
        return AllocationCheck(0.0, 0, 1.0, "exact", table, n)
    if expected.min() >= SMALL:
        p_value, method = float(stats.chi2.sf(statistic, dof)), "chi-square"
    elif math.comb(n + dof, dof) <= MAX_TABLES:
        p_value, method = _exact_p(statistic, n, p), "exact"
    else:
        rng = np.random.default_rng(random_state)
        drawn = rng.multinomial(n, p, size=n_simulations)
        simulated = ((drawn - expected) ** 2 / expected).sum(axis=1)
        beyond = int((simulated >= statistic * (1 - TIE)).sum())
        p_value, method = (1.0 + beyond) / (1.0 + n_simulations), "Monte Carlo"
    return AllocationCheck(statistic, dof, p_value, method, table, n)


def _stated(probabilities: Mapping[Any, float]) -> tuple[list[str], FloatArray]:
    arms = [_label(arm) for arm in probabilities]
    p = np.array([float(v) for v in probabilities.values()])
    if len(arms) < 2 or len(set(arms)) < len(arms):
        raise ValueError(f"probabilities must name at least two distinct arms, got {arms}.")
    if not np.isfinite(p).all() or (p < 0).any() or abs(p.sum() - 1.0) > 1e-6:
        raise ValueError(
            f"probabilities must be non-negative and sum to 1, got a sum of {p.sum():.6g}."
        )
    return arms, p / p.sum()


def _arm_counts(assignment: Any, arms: list[str], codes: Any) -> IntArray:
    counted = _counted(assignment, arms)
    if counted is not None:
        if codes is not None:
            raise ValueError("codes needs the assignment of every row, not counts.")
        given = {_label(arm): count for arm, count in counted.items()}
        if len(given) < len(counted):
            raise ValueError(f"assignment counts an arm twice: {[*map(str, counted)]}.")
    else:
        labels = np.asarray(assignment)
        labels = check_groups(labels, "assignment", int(np.size(labels)))
        labels = np.array([_label(v) for v in labels.tolist()], dtype=object)
        if codes is not None:
            frame = pd.DataFrame(
                {"arm": labels, "unit": check_groups(codes, "codes", labels.shape[0])}
            ).drop_duplicates()
            twice = frame["unit"].duplicated()
            if twice.any():
                unit = frame["unit"][twice].tolist()[0]
                raise ValueError(f"codes: the cluster {unit!r} was given several arms.")
            labels = frame["arm"].to_numpy(dtype=object)
        given = dict(zip(*np.unique(labels, return_counts=True), strict=True))
    unknown = sorted(set(given) - set(arms))
    if unknown:
        raise ValueError(f"assignment holds the arms {unknown}, which have no probability.")
    counts = np.array([given.get(arm, 0) for arm in arms])
    if counts.dtype.kind not in "iu" or (counts < 0).any() or counts.sum() < 1:
        raise ValueError("assignment: counts must be non-negative whole numbers, at least one.")
    return counts.astype(np.intp)


def _label(arm: Any) -> str:
    """An arm's name: whole numbers alike, whatever their type.

    >>> _label(1.0), _label(np.int64(1)), _label("1"), _label(1.5)
    ('1', '1', '1', '1.5')
    """
    value = arm.item() if isinstance(arm, np.generic) else arm
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _counted(assignment: Any, arms: list[str]) -> Mapping[Any, Any] | None:
    """Counts by arm, ``None`` where the assignment is labels, one a row.

    A Series counts where its index names arms, each once, and its values do not.
    """
    if isinstance(assignment, Mapping):
        return assignment
    if not isinstance(assignment, pd.Series) or isinstance(assignment.index, pd.RangeIndex):
        return None
    named = [_label(v) for v in assignment.index.tolist()]
    values = [_label(v) for v in assignment.tolist()]
    if not set(named) <= set(arms) or len(set(named)) < len(named):
        return None
    if set(values) <= set(arms) and assignment.name != "count":
        raise ValueError(
            "assignment: this Series could be labels or counts; pass labels as an array "
            "(.to_numpy()) or counts as a mapping (.to_dict())."
        )
    return dict(zip(assignment.index.tolist(), assignment.tolist(), strict=True))


def _exact_p(statistic: float, n: int, p: FloatArray) -> float:
    """P(chi-square as large) over all divisions of n units, multinomial."""
    tables = np.array(list(_divisions(n, p.shape[0])), dtype=np.float64)
    expected = n * p
    chi = ((tables - expected) ** 2 / expected).sum(axis=1)
    logs = special.gammaln(n + 1) - special.gammaln(tables + 1).sum(axis=1) + tables @ np.log(p)
    beyond = chi >= statistic * (1 - TIE) - TIE
    return float(min(np.exp(logs[beyond]).sum(), 1.0))


def _divisions(n: int, parts: int) -> Iterator[tuple[int, ...]]:
    if parts == 1:
        yield (n,)
        return
    for first in range(n + 1):
        for rest in _divisions(n - first, parts - 1):
            yield (first, *rest)
