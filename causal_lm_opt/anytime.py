"""Anytime-valid intervals: looked at after every row, they hold at all looks together.

The usual interval holds at one sample size fixed beforehand; whoever looks after each batch and
stops when the result pleases is wrong far more often than 5 % of the time. A confidence sequence is
right at every look at once, without any approximation, and is wider for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from causal_lm_opt._validation import check_groups, check_log_probs, check_vector
from causal_lm_opt.core.inference import cluster_sums
from causal_lm_opt.core.sequences import bernstein_lower, betting_lower
from causal_lm_opt.core.weights import log_ratio, relative_weights
from causal_lm_opt.estimate import ValueEstimate
from causal_lm_opt.exceptions import OverlapError

__all__ = ["ConfidenceSequence", "estimate_sequence", "value_sequence"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
Method = Literal["betting", "bernstein"]
GRID = 500


@dataclass(frozen=True, eq=False)
class ConfidenceSequence:
    """Intervals for one value after each unit (row, or cluster when its last row has come).

    Attributes
    ----------
    rows : integer array, shape (u,)
        Rows seen after each unit.
    lower, upper : arrays, shape (u,)
        Bounds after each unit; they never widen.
    level : float
        Probability with which all ``u`` intervals, and all later ones, hold together.
    method : str

    Notes
    -----
    ``contradiction`` tells whether a lower bound ever passed an upper one: either one of the rare
    runs that the level allows, or proof that an assumption fails (outcome bounds, log-probs, an
    order of clusters that goes with their size or outcome).
    """

    rows: IntArray
    lower: FloatArray
    upper: FloatArray
    level: float
    method: str

    @property
    def contradiction(self) -> bool:
        """Whether a lower bound ever passed an upper one."""
        return bool((self.lower > self.upper).any())

    @property
    def interval(self) -> FloatArray:
        """The interval (2,) after the last unit; empty (lower > upper) on a contradiction."""
        return np.array([self.lower[-1], self.upper[-1]])

    def at(self, rows: int) -> FloatArray:
        """The interval (2,) after this many rows.

        Raises
        ------
        ValueError
            Before the first unit was complete.
        """
        position = int(np.searchsorted(self.rows, rows, side="right")) - 1
        if position < 0:
            raise ValueError(f"rows={rows!r}: the first unit was complete at row {self.rows[0]}.")
        return np.array([self.lower[position], self.upper[position]])

    def to_frame(self) -> pd.DataFrame:
        """One row per unit: rows seen, lower and upper bound."""
        return pd.DataFrame({"rows": self.rows, "lower": self.lower, "upper": self.upper})

    def __repr__(self) -> str:
        low, high = self.interval
        return (
            f"<ConfidenceSequence ({self.method}), {self.level:.0%} at all {self.rows.size} looks: "
            f"{low:.4g} to {high:.4g} after {self.rows[-1]} rows>"
        )


def value_sequence(
    y: Any,
    logp_target: Any,
    logp_logging: Any,
    *,
    outcome_bounds: tuple[float, float],
    groups: Any = None,
    largest_group: int | None = None,
    level: float = 0.95,
    method: Method = "betting",
    grid: int = GRID,
) -> ConfidenceSequence:
    r"""Confidence sequence of a policy's value from rows in the order in which they came.

    With the outcome scaled to [0, 1], :math:`w Y` and :math:`w (1 - Y)` are non-negative with means
    at most ``V`` and ``1 - V``: each gives a lower bound, at half the error probability, and
    neither needs a bound on the weights. Both stay valid where the target writes texts that the
    logger never does. Horvitz-Thompson terms throughout, no outcome model.

    Parameters
    ----------
    y : array, shape (n,)
        Outcomes in the order of logging.
    logp_target, logp_logging : arrays, shape (n,)
        Natural log-probabilities under one target policy and under the policy that wrote the texts.
    outcome_bounds : (float, float)
        Smallest and largest possible outcome, known before the data were seen.
    groups : array, shape (n,), optional
        Clusters (readers, prompts). A cluster enters as the sum of its rows, once complete.
    largest_group : int, optional
        Rows of the largest cluster there can be, known before; needed with ``groups``.
    level : float
    method : {"betting", "bernstein"}
        ``"betting"`` is tighter; ``"bernstein"`` is in closed form, for rows without clusters.
    grid : int
        Resolution of ``"betting"``.

    Returns
    -------
    ConfidenceSequence

    Raises
    ------
    ValueError
        Bad input, or an outcome beyond its bounds.

    Notes
    -----
    **Assumptions.** The logging policy is known, units are independent of the past given the design
    (the target and the logger may even change with the past, if the log-probs say so), and the
    value does not. Rows sorted by outcome or otherwise after the fact void the sequence. For K
    policies at once use ``level=1 - (1 - level) / K``.

    Sources: Waudby-Smith and Ramdas (2024), Theorems 2 and 3; weights without bound and the
    mirrored terms: Waudby-Smith, Wu, Ramdas, Karampatziakis and Mineiro (2024), sec. 2.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> good = rng.random(2000) < .5                         # half of the texts are of the kind
    >>> y = (rng.random(2000) < np.where(good, .6, .4)) * 1.  # that does better
    >>> s = value_sequence(y, np.log(np.where(good, .8, .2)), np.full(2000, np.log(.5)),
    ...                    outcome_bounds=(0, 1))
    >>> s.at(500).round(2).tolist(), s.interval.round(2).tolist()
    ([0.48, 0.69], [0.52, 0.64])
    """
    n = np.shape(y)[0] if np.ndim(y) else 0
    outcome = _scaled(check_vector(y, "y", n), outcome_bounds, "outcome_bounds", "outcomes")
    target = check_log_probs(logp_target, "logp_target", n, allow_zero=True)
    logging = check_log_probs(logp_logging, "logp_logging", n, allow_zero=False)
    weight = np.asarray(relative_weights(log_ratio(target, logging), normalize=False))
    if not np.isfinite(weight).all():
        raise OverlapError("A weight overflows; no sequence can be formed from these log-probs.")
    units = _units(n, groups, largest_group)
    low, high = outcome_bounds
    return _sequence(
        weight * outcome, weight * (1.0 - outcome), units, low, high, level, method, grid
    )


def estimate_sequence(
    estimate: ValueEstimate,
    bounds: tuple[float, float],
    *,
    groups: Any = None,
    largest_group: int | None = None,
    level: float = 0.95,
    method: Method = "betting",
    grid: int = GRID,
) -> ConfidenceSequence:
    """Confidence sequence of a Horvitz-Thompson estimate whose terms ``w y`` have known bounds.

    For weights that are bounded by design (a policy that tilts another by at most a known factor)
    this is the tighter one; :func:`value_sequence` needs bounds on the outcome alone.

    Parameters
    ----------
    estimate : ValueEstimate
        One policy, from ``IPW("ht")``, or a sample mean; rows in the order of logging.
    bounds : (float, float)
        Smallest and largest possible ``w_i y_i`` of a row, known before the data were seen.
    groups, largest_group, level, method, grid
        As in :func:`value_sequence`; ``groups`` must be given again where the estimate has them.

    Returns
    -------
    ConfidenceSequence

    Raises
    ------
    ValueError
        Another kind of estimate, several policies, frequency weights, or a term beyond its bounds.

    Examples
    --------
    >>> import numpy as np
    >>> from causal_lm_opt import IPW
    >>> y = np.tile([0., 1.], 1000)
    >>> even = np.full(2000, np.log(.5))
    >>> r = IPW("ht").fit(np.zeros((2000, 1)), y, logp_target=even, logp_logging=even).result_
    >>> estimate_sequence(r, bounds=(0, 1)).interval.round(3).tolist()
    [0.462, 0.537]
    """
    terms = _row_terms(estimate)
    scaled = _scaled(terms, bounds, "bounds", "terms w * y")
    sample = next(s for s in estimate.samples if s.role == "logged")
    if sample.codes is not None and groups is None:
        raise ValueError("The estimate has clusters: give groups and largest_group here as well.")
    units = _units(terms.shape[0], groups, largest_group)
    return _sequence(scaled, 1.0 - scaled, units, bounds[0], bounds[1], level, method, grid)


def _row_terms(estimate: ValueEstimate) -> FloatArray:
    """Unbiased terms (n,) of one Horvitz-Thompson value."""
    if not estimate.term_moment:
        raise ValueError(
            "A confidence sequence holds for plain Horvitz-Thompson values only: fit "
            "IPW(weights='ht'), or use value_sequence on outcomes and log-probs."
        )
    if len(estimate.names) != 1:
        raise ValueError(f"One policy at a time: select estimate[name] of {list(estimate.names)}.")
    sample = next(s for s in estimate.samples if s.role == "logged")
    if sample.sample_weight is not None:
        raise ValueError(
            "Frequency weights have no order in time: give one row per reader, or groups."
        )
    return np.asarray(sample.influence[:, 0] + estimate.values[0])


def _scaled(
    values: FloatArray, bounds: tuple[float, float], argument: str, what: str
) -> FloatArray:
    """Values moved from ``bounds`` to [0, 1], checked against them (to rounding)."""
    low, high = bounds
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"{argument} must be (lower, upper), finite, lower < upper; got {bounds}.")
    if values.size < 1:
        raise ValueError("There are no rows.")
    out = (values - low) / (high - low)
    if float(out.min()) < -1e-9 or float(out.max()) > 1.0 + 1e-9:
        raise ValueError(
            f"{argument}={bounds!r} do not hold: the {what} reach from {values.min():.4g} to "
            f"{values.max():.4g}. State bounds known before the data were seen."
        )
    return np.clip(out, 0.0, 1.0)


@dataclass(frozen=True, eq=False)
class _Units:
    """Units in the order in which they were complete; codes are ``None`` for single rows."""

    rows: IntArray
    sizes: FloatArray
    codes: IntArray | None
    largest: int

    def sums(self, terms: FloatArray) -> FloatArray:
        """Terms summed within units, over the largest possible size."""
        if self.codes is None:
            return terms
        return np.asarray(cluster_sums(terms, self.codes, self.rows.size)) / self.largest


def _units(n: int, groups: Any, largest_group: int | None) -> _Units:
    if groups is None:
        if largest_group is not None:
            raise ValueError("largest_group is for clusters: give groups too, or leave it out.")
        return _Units(np.arange(1, n + 1), np.ones(n), None, 1)
    labels = check_groups(groups, "groups", n)
    _, codes = np.unique(labels, return_inverse=True)
    changes = 1 + int(np.count_nonzero(codes[1:] != codes[:-1]))
    if changes > int(codes.max()) + 1:
        raise ValueError(
            "groups: the rows of a cluster must stand together, in the order in which clusters "
            "came. Scattered clusters are complete in an order that depends on their size, which "
            "no sequence allows for; sort the rows by the time each cluster began."
        )
    last = np.zeros(int(codes.max()) + 1, dtype=np.intp)
    np.maximum.at(last, codes, np.arange(1, n + 1))
    order = np.argsort(last)
    place = np.empty_like(order)
    place[order] = np.arange(order.size)
    codes = place[codes]
    sizes = np.bincount(codes).astype(np.float64)
    if largest_group is None or largest_group < sizes.max():
        raise ValueError(
            f"largest_group={largest_group!r}: state the rows of the largest cluster there can be, "
            f"known before the data were seen; the largest here has {sizes.max():.0f}."
        )
    return _Units(last[order], sizes / largest_group, codes, largest_group)


def _sequence(
    up: FloatArray,
    down: FloatArray,
    units: _Units,
    low: float,
    high: float,
    level: float,
    method: Method,
    grid: int,
) -> ConfidenceSequence:
    """Both bounds from terms of means at most ``V`` and ``1 - V`` (V scaled to [0, 1])."""
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie strictly between 0 and 1, got {level!r}.")
    bound = _bound(units, (1.0 - level) / 2.0, method, grid)
    below, above = bound(units.sums(up)), 1.0 - bound(units.sums(down))
    width = high - low
    return ConfidenceSequence(units.rows, low + width * below, low + width * above, level, method)


def _bound(
    units: _Units, alpha: float, method: Method, grid: int
) -> Callable[[FloatArray], FloatArray]:
    if method == "betting":
        if grid < 1:
            raise ValueError(f"grid must be a positive number of values, got {grid!r}.")
        return lambda x: np.asarray(betting_lower(x, units.sizes, alpha, grid=grid))
    if method != "bernstein":
        raise ValueError(f"method={method!r} is not known; use 'betting' or 'bernstein'.")
    if units.codes is not None:
        raise ValueError("method='bernstein' takes no groups; use method='betting'.")
    return lambda x: np.asarray(bernstein_lower(x, alpha))
