r"""How many rows and draws a study needs for an interval of a wanted half-width.

Every value here has variance

.. math:: \operatorname{Var}(\hat V) = \frac{A}{n} + \frac{B}{m}

for n logged rows and m draws: for a doubly robust value with right nuisances ``A`` is
:math:`E_R[w^2 \operatorname{Var}(Y|X)]` and ``B`` is :math:`\operatorname{Var}_f(g)`. Stated
moments or a pilot estimate give A and B; the rest is arithmetic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from causal_lm_opt.estimate import ValueEstimate
from causal_lm_opt.influence import InfluenceSample, covariance_parts

__all__ = ["SamplePlan", "SamplingMoments", "plan_sample_size"]

FloatArray = npt.NDArray[np.float64]
LARGEST = 10**12


@dataclass(frozen=True)
class SamplingMoments:
    r"""What the variance of a value is made of.

    Attributes
    ----------
    per_row : float
        ``A``: n times the variance that the logged rows bring, in squared outcome units.
    per_draw : float
        ``B``: m times the variance that draws of the target bring (0 without draws).
    rows_per_cluster : float
        Mean logged rows of a cluster (1: rows are independent). ``A`` already holds what clustering
        does to the variance; this sets the degrees of freedom.
    relative_error : float
        Standard error of ``A`` relative to it, for moments from a pilot; 0 for stated ones.

    Examples
    --------
    >>> SamplingMoments.efficient(weight_square=2.0, noise_variance=.2, value_variance=.05)
    SamplingMoments(per_row=0.4, per_draw=0.05, rows_per_cluster=1.0, relative_error=0.0)
    """

    per_row: float
    per_draw: float = 0.0
    rows_per_cluster: float = 1.0
    relative_error: float = 0.0

    def __post_init__(self) -> None:
        for name in ("per_row", "per_draw", "relative_error"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0.0):
                raise ValueError(f"{name} must be a finite number, at least 0; got {value!r}.")
        if not self.per_row + self.per_draw > 0.0:
            raise ValueError("per_row and per_draw are both 0: there is nothing to plan.")
        if not (math.isfinite(self.rows_per_cluster) and self.rows_per_cluster >= 1.0):
            raise ValueError(f"rows_per_cluster must be at least 1, got {self.rows_per_cluster!r}.")

    @classmethod
    def efficient(
        cls,
        *,
        weight_square: float,
        noise_variance: float,
        value_variance: float,
        cluster_size: float = 1.0,
        correlation: float = 0.0,
    ) -> SamplingMoments:
        r"""Moments of a doubly robust value with right nuisances and noise that does not depend on
        the text.

        Parameters
        ----------
        weight_square : float
            :math:`E_R[w^2]`, at least 1; ``1 + chi^2`` divergence of target from logger.
        noise_variance : float
            :math:`\operatorname{Var}(Y | X)`. With the outcome's variance around a constant
            instead, the plan is that of a Horvitz-Thompson value of a centred outcome.
        value_variance : float
            :math:`\operatorname{Var}_f(g(X))` between the target's texts.
        cluster_size : float
            Rows of a cluster.
        correlation : float
            Correlation of ``w (Y - q)`` between rows of a cluster, -1 to 1: variance grows by
            ``1 + (cluster_size - 1) correlation``.
        """
        if not weight_square >= 1.0:
            raise ValueError(f"weight_square is E[w^2] >= E[w]^2 = 1; got {weight_square!r}.")
        if not -1.0 <= correlation <= 1.0:
            raise ValueError(f"correlation must lie between -1 and 1, got {correlation!r}.")
        effect = 1.0 + (cluster_size - 1.0) * correlation
        if effect <= 0.0:
            raise ValueError(
                f"correlation={correlation!r} is impossible for clusters of {cluster_size:g} rows."
            )
        return cls(weight_square * noise_variance * effect, value_variance, float(cluster_size))

    @classmethod
    def of_pilot(cls, estimate: ValueEstimate) -> SamplingMoments:
        """Moments of a pilot's estimate of one value or of one difference of values.

        Draws that share prompts with the log count with the rows (``per_draw`` is 0): plan for the
        same number of draws a prompt.

        Raises
        ------
        ValueError
            Several values, dropped influence functions, or no logged rows.

        Notes
        -----
        A pilot that misses part of the target's texts (verdict "do not use") promises too much.
        """
        if len(estimate.names) != 1:
            raise ValueError(
                f"One value at a time: select estimate[name] of {list(estimate.names)}, or a "
                "difference of two."
            )
        if estimate.dropped_variance is not None:
            raise ValueError("influence='drop' kept no influence function; fit with 'keep'.")
        logged = [s for s in estimate.samples if s.role == "logged"]
        if not logged:
            raise ValueError("The pilot has no influence function of logged rows.")
        n = max(_rows(s) for s in logged)
        draws = [s for s in estimate.samples if s.role == "target" and not _shared(s, logged)]
        rest = [s for s in estimate.samples if not any(s is d for d in draws)]
        clusters = min(float(s.unit_counts()[0]) for s in logged)
        return cls(
            per_row=n * _variance(rest),
            per_draw=sum(_rows(s) * _variance([s]) for s in draws),
            rows_per_cluster=max(1.0, n / clusters),
            relative_error=_relative_error(logged),
        )


@dataclass(frozen=True)
class SamplePlan:
    """A sample that gives the wanted half-width.

    Attributes
    ----------
    rows, draws : int
        Logged rows n and draws m.
    clusters : float
        Independent units behind the rows.
    half_width : float
        Half-width these give.
    level : float
    rows_upper : int
        Rows that suffice if the pilot's variance is one standard error too small (equal to
        ``rows`` for stated moments).
    """

    rows: int
    draws: int
    clusters: float
    half_width: float
    level: float
    rows_upper: int

    def __str__(self) -> str:
        draws = f" and {self.draws:,} draws" if self.draws else ""
        more = ""
        if self.rows_upper > self.rows:
            more = f"; {self.rows_upper:,} rows if the pilot's variance is one se too small"
        return (
            f"{self.rows:,} rows{draws}: half-width {self.half_width:.4g} at {self.level:.0%}{more}"
        )


def plan_sample_size(
    half_width: float,
    moments: SamplingMoments | ValueEstimate,
    *,
    draws_per_row: float = 4.0,
    draw_cost: float | None = None,
    level: float = 0.95,
) -> SamplePlan:
    r"""Rows and draws for an interval of a wanted half-width.

    The smallest n with :math:`t \sqrt{A/n + B/m} \le h`, where ``t`` is the normal quantile, or
    that of Student's t with clusters minus 1 degrees of freedom (for unequal clusters of a pilot:
    the equal ones that they are worth).

    Parameters
    ----------
    half_width : float
        In outcome units. For a difference of two policies pass the pilot's difference.
    moments : SamplingMoments or ValueEstimate
        Stated, or a pilot's estimate of one value (see :meth:`SamplingMoments.of_pilot`).
    draws_per_row : float
        ``m / n``.
    draw_cost : float, optional
        Cost of a draw over that of a logged row: chooses ``m / n`` in place of ``draws_per_row``,
        :math:`\sqrt{B / (A\,c)}` being the cheapest.
    level : float

    Returns
    -------
    SamplePlan

    Raises
    ------
    ValueError
        A half-width that is not positive, or one that no sample below 1e12 rows reaches.

    Examples
    --------
    >>> moments = SamplingMoments.efficient(
    ...     weight_square=2.0, noise_variance=.2, value_variance=.05)
    >>> print(plan_sample_size(.02, moments))
    3,962 rows and 15,848 draws: half-width 0.02 at 95%
    >>> plan_sample_size(.02, moments, draw_cost=.01).draws   # draws are cheap
    14065
    """
    if not (math.isfinite(half_width) and half_width > 0.0):
        raise ValueError(f"half_width must be a positive number, got {half_width!r}.")
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie strictly between 0 and 1, got {level!r}.")
    if isinstance(moments, ValueEstimate):
        moments = SamplingMoments.of_pilot(moments)
    if not isinstance(moments, SamplingMoments):
        raise TypeError(
            "moments must be a pilot's ValueEstimate (est.result_) or SamplingMoments, got "
            f"{type(moments).__name__}."
        )
    ratio = _draws_per_row(moments, draws_per_row, draw_cost)
    rows = _fewest_rows(moments, ratio, half_width, level)
    pessimist = SamplingMoments(
        moments.per_row * (1.0 + moments.relative_error),
        moments.per_draw,
        moments.rows_per_cluster,
    )
    return SamplePlan(
        rows=rows,
        draws=math.ceil(ratio * rows) if moments.per_draw else 0,
        clusters=rows / moments.rows_per_cluster,
        half_width=_half_width(moments, rows, ratio, level),
        level=level,
        rows_upper=_fewest_rows(pessimist, ratio, half_width, level),
    )


def _draws_per_row(
    moments: SamplingMoments, draws_per_row: float, draw_cost: float | None
) -> float:
    for name, value in (("draws_per_row", draws_per_row), ("draw_cost", draw_cost)):
        if value is not None and not (math.isfinite(value) and value > 0.0):
            raise ValueError(f"{name} must be a positive number, got {value!r}.")
    if draw_cost is None or moments.per_draw == 0.0:
        return draws_per_row
    if moments.per_row == 0.0:
        raise ValueError("draw_cost cannot choose the draws: the rows bring no variance.")
    return math.sqrt(moments.per_draw / (moments.per_row * draw_cost))


def _half_width(moments: SamplingMoments, rows: float, ratio: float, level: float) -> float:
    clusters = rows / moments.rows_per_cluster
    if clusters < 2.0:
        return math.inf
    clustered = moments.rows_per_cluster > 1.0
    quantile = (stats.t(clusters - 1.0) if clustered else stats.norm()).ppf(0.5 + level / 2)
    return float(quantile) * math.sqrt((moments.per_row + moments.per_draw / ratio) / rows)


def _fewest_rows(moments: SamplingMoments, ratio: float, half_width: float, level: float) -> int:
    """Smallest number of rows that reaches the half-width, by bisection."""
    low, high = 1, 2
    while _half_width(moments, high, ratio, level) > half_width:
        low, high = high, 2 * high
        if high > LARGEST:
            raise ValueError(f"half_width={half_width!r} would take more than 1e12 rows.")
    while high - low > 1:
        middle = (low + high) // 2
        if _half_width(moments, middle, ratio, level) > half_width:
            low = middle
        else:
            high = middle
    return high


# ------------------------------------------------------------------------------ pilots
def _rows(sample: InfluenceSample) -> float:
    weight = sample.sample_weight
    return float(sample.influence.shape[0] if weight is None else weight.sum())


def _variance(samples: list[InfluenceSample]) -> float:
    return sum(float(cov[0, 0]) for cov, _ in covariance_parts(samples))


def _shared(sample: InfluenceSample, logged: list[InfluenceSample]) -> bool:
    """Whether draws share their clusters with the log."""
    keys = {s.cluster_key for s in logged if s.codes is not None}
    return sample.codes is not None and sample.cluster_key in keys


def _relative_error(logged: list[InfluenceSample]) -> float:
    """Standard error of the variance from the fourth moment of the units, relative to it."""
    square, count = (np.concatenate(x) for x in zip(*map(_unit_squares, logged), strict=True))
    total = float(count @ square)
    if total == 0.0:
        return 0.0
    units = float(count.sum())
    spread = float(count @ (square - total / units) ** 2) / units
    # se of a sum of G squares, over the sum
    return math.sqrt(units * spread) / total


def _unit_squares(sample: InfluenceSample) -> tuple[FloatArray, FloatArray]:
    """Squared contribution of each independent unit, and how many units there are like it.

    A row of frequency ``s`` is ``s`` units, not one unit ``s`` times as large.
    """
    weight = sample.sample_weight
    if sample.codes is not None or weight is None:
        square = sample.unit_contributions()[:, 0] ** 2
        return square, np.ones(square.size)
    return (sample.influence[:, 0] / weight.sum()) ** 2, weight
