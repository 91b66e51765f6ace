r"""Calibration of an outcome model: is the outcome, on average, what the model says it is?

Outcome regression is right only where the model is calibrated *under the target*; a doubly robust
value survives miscalibration but pays for it in width. Both are judged on logged rows weighted to
the target by :math:`w = P_f/P_R`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from causal_lm_opt._validation import check_vector
from causal_lm_opt.core.inference import cluster_sums, influence_covariance
from causal_lm_opt.core.solve import solve_linear_moment
from causal_lm_opt.diagnostics._units import Units, importance_weights
from causal_lm_opt.diagnostics.overlap import effective_sample_size
from causal_lm_opt.diagnostics.typicality import weighted_quantile
from causal_lm_opt.exceptions import OverlapError

__all__ = ["Calibration", "calibration", "calibration_table"]

FloatArray = npt.NDArray[np.float64]
ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Calibration:
    r"""Calibration of an outcome model.

    Attributes
    ----------
    intercept, slope : float
        Of the weighted regression of ``y`` on ``q``; 0 and 1 for a calibrated model. A slope below
        1: predictions are too spread out; above 1: too timid. ``nan`` where predictions do
        not vary, or vary in one row or cluster only.
    se_intercept, se_slope : float
        Their (clustered) standard errors.
    covariance : array, shape (2, 2)
        Of intercept and slope.
    wald : float
        Wald statistic of intercept = 0 and slope = 1 (of the mean residual = 0 without a slope).
    p_value : float
        From the F distribution with ``tested`` and ``dof`` degrees of freedom.
    tested, dof : float
        Restrictions tested; independent units minus fitted parameters.
    mean_residual, se_residual : float
        Weighted mean of ``y - q``: the residual term R of a doubly robust value.
    error : float
        Expected calibration error: mean absolute gap over the bins of ``table``.
    error_noise : float
        What ``error`` comes to on average for a perfectly calibrated model, from sampling alone.
        Read ``error`` against it.
    table : DataFrame
        See :func:`calibration_table`.
    """

    intercept: float
    slope: float
    se_intercept: float
    se_slope: float
    covariance: FloatArray
    wald: float
    p_value: float
    tested: int
    dof: float
    mean_residual: float
    se_residual: float
    error: float
    error_noise: float
    table: pd.DataFrame

    @property
    def sentence(self) -> str:
        """The finding in words."""
        z = self.mean_residual / self.se_residual if self.se_residual > 0 else math.nan
        gap = self.mean_residual if abs(z) > 1e-6 else 0.0  # rounding is no gap
        text = (
            f"Outcomes lie {abs(gap):.3g} {'below' if gap < 0 else 'above'} predictions on average "
            f"({round(z, 1) + 0.0:+.1f} standard errors)"
        )
        if math.isfinite(self.slope):
            text += f"; calibration slope {self.slope:.2f} (se {self.se_slope:.2f})"
        text += f", joint p {self.p_value:.3g}"
        if self.p_value < 0.001:
            return text + (
                ": the outcome model is miscalibrated; prefer the doubly robust value to outcome "
                "regression."
            )
        return text + "."


def calibration(
    y: Any,
    q: Any,
    *,
    log_ratio: Any = None,
    sample_weight: Any = None,
    codes: Any = None,
    bins: int = 10,
) -> Calibration:
    r"""Calibration slope, intercept, residual and binned errors of predictions ``q``.

    The regression minimises :math:`\sum_i s_i w_i (y_i - a - b q_i)^2`. Its covariance is the
    jackknife over rows (that is HC3) or clusters: heavy weights give single rows high leverage,
    under which the plain sandwich is far too small.

    Parameters
    ----------
    y : array, shape (n,)
        Outcomes; 0/1 outcomes with predicted probabilities are handled alike, since
        :math:`E[Y \mid q] = q` is linear in ``q`` for them too.
    q : array, shape (n,)
        Predictions made WITHOUT the row (cross-fitted). Predictions of the rows a linear model was
        fitted on have slope 1 and intercept 0 by construction.
    log_ratio : array, shape (n,), optional
        :math:`\log P_f - \log P_R`: calibration under the target. Without it, under the logger.
    sample_weight : array, shape (n,), optional
        Frequencies.
    codes : array, shape (n,), optional
        Cluster labels.
    bins : int
        Quantile bins of ``q``, see :func:`calibration_table`.

    Raises
    ------
    ValueError
        For entries that are not finite, shapes that do not fit, fewer than four units.
    OverlapError
        When every weight is 0.

    Notes
    -----
    **Assumptions.** Independent rows or clusters. ``q`` is taken as given: the test is of these
    predictions, not of the learner that made them. Passing it does not make ``q`` right for each
    text, only right on average among texts with the same prediction.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> q = rng.normal(size=2000)
    >>> y = q + rng.normal(size=2000)
    >>> calibration(y, q).p_value > .01, calibration(y, 2 * q).p_value < 1e-6
    (True, True)
    >>> round(calibration(y, 2 * q).slope, 1)
    0.5
    """
    y, q, weight, units = _checked(y, q, log_ratio, sample_weight, codes)
    residual = y - q
    mean_residual, phi_residual = solve_linear_moment(weight, weight * residual, units.frequency)
    se_residual = units.se(phi_residual)
    line, covariance = _line(q, residual, weight, units)
    if covariance is None:  # only the mean can be tested
        tested, wald = 1, _quadratic(np.array([mean_residual]), np.array([[se_residual**2]]))
        line, covariance = np.full(2, np.nan), np.full((2, 2), np.nan)
    else:
        tested, wald = 2, _quadratic(line, covariance)
    dof = units.count - tested
    table = _table(y, q, weight, units, bins)
    noise = np.nan_to_num(table["se_gap"].to_numpy()) * math.sqrt(2 / math.pi)
    share = table["share"].to_numpy()
    return Calibration(
        intercept=float(line[0]),
        slope=float(line[1] + 1.0),
        se_intercept=float(np.sqrt(covariance[0, 0])),
        se_slope=float(np.sqrt(covariance[1, 1])),
        covariance=covariance,
        wald=wald,
        p_value=float(stats.f.sf(wald / tested, tested, dof)),
        tested=tested,
        dof=dof,
        mean_residual=float(mean_residual),
        se_residual=se_residual,
        error=float(np.sum(share * np.abs(table["gap"].to_numpy()))),
        error_noise=float(np.sum(share * noise)),
        table=table,
    )


def calibration_table(
    y: Any,
    q: Any,
    *,
    log_ratio: Any = None,
    sample_weight: Any = None,
    codes: Any = None,
    bins: int = 10,
) -> pd.DataFrame:
    """Outcome and prediction by quantile bins of the prediction (a reliability diagram's table).

    Bins hold equal weight where predictions are distinct; equal predictions are never parted, so
    that there may be fewer bins than asked for.

    Parameters
    ----------
    y, q, log_ratio, sample_weight, codes
        As in :func:`calibration`.
    bins : int
        Bins asked for.

    Returns
    -------
    DataFrame
        One row for each bin: ``low``, ``high`` (range of q), ``mean_q``, ``mean_y``, ``se`` (of
        mean_y), ``gap`` (mean_y - mean_q), ``se_gap``, ``n`` (rows), ``n_eff`` (effective sample
        size of the weights), ``share`` of the weight. Standard errors are ``nan`` for a bin with
        one unit.

    Examples
    --------
    >>> table = calibration_table([0., 1., 1., 1.], [.2, .2, .8, .8], bins=2)
    >>> table[["mean_q", "mean_y", "gap"]].round(2).to_numpy().tolist()
    [[0.2, 0.5, 0.3], [0.8, 1.0, 0.2]]
    """
    return _table(*_checked(y, q, log_ratio, sample_weight, codes), bins)


def _checked(
    y: Any, q: Any, log_ratio: Any, sample_weight: Any, codes: Any
) -> tuple[FloatArray, FloatArray, FloatArray, Units]:
    """Rows that count: outcomes, predictions, weights; and their units."""
    n = int(np.shape(y)[0]) if np.ndim(y) else 0
    outcome, prediction = check_vector(y, "y", n), check_vector(q, "q", n)
    weight = importance_weights(log_ratio, "log_ratio", n)
    units = Units.of(n, sample_weight, codes)
    if units.count < 4:
        raise ValueError(
            f"Calibration needs at least four independent rows or clusters, got {units.count:g}."
        )
    weight = weight[units.kept]
    if not weight.any():
        raise OverlapError("Every row of positive sample_weight has log_ratio -inf.")
    return outcome[units.kept], prediction[units.kept], weight, units


def _line(
    q: FloatArray, residual: FloatArray, weight: FloatArray, units: Units
) -> tuple[FloatArray, FloatArray | None]:
    """Weighted least squares of the residual on (1, q): coefficients (2,), covariance (2, 2).

    Coefficients 0, 0 are calibration: intercept 0 and slope 1 of ``y`` on ``q``. The covariance is
    ``None`` when there is no slope to test: predictions do not vary, or only in one unit, whose
    own residual then says nothing of its error.
    """
    mass = units.mean(weight)
    centre = units.mean(weight * q) / mass
    spread = units.mean(weight * (q - centre) ** 2) / mass
    if not spread > (ROUNDING * (abs(float(centre)) + float(np.ptp(q)))) ** 2:
        return np.full(2, np.nan), None
    z = (q - centre) / np.sqrt(spread)  # orthonormal under the weights: well conditioned
    rows = np.column_stack([weight, weight * z, weight * z**2, weight * residual,
                            weight * residual * z])  # fmt: skip
    frequency = units.frequency
    counted = rows if frequency is None else rows * frequency[:, None]
    if units.codes is not None:  # leave out a cluster
        part, frequency = cluster_sums(counted, units.codes, int(units.count)), None
    else:  # leave out one copy of a row
        part = rows if frequency is None else rows * np.minimum(frequency, 1.0)[:, None]
    beta, _ = _solve_line(counted.sum(axis=0)[None, :])
    without, estimable = _solve_line(counted.sum(axis=0) - part)
    if not estimable.all():
        return np.full(2, np.nan), None
    covariance = np.asarray(influence_covariance((units.count - 1) * (beta - without), frequency))
    root = float(np.sqrt(spread))
    back = np.array([[1.0, -float(centre) / root], [0.0, 1.0 / root]])
    return back @ beta[0], back @ covariance @ back.T


def _solve_line(moments: FloatArray) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Lines (k, 2) from rows of sums (w, wz, wzz, wr, wrz), and where there is one."""
    m0, m1, m2, r0, r1 = moments.T
    determinant = m0 * m2 - m1 * m1
    estimable = determinant > 1e-10 * np.abs(m0 * m2)
    safe = np.where(estimable, determinant, 1.0)
    return np.column_stack([(m2 * r0 - m1 * r1) / safe, (m0 * r1 - m1 * r0) / safe]), estimable


def _quadratic(estimate: FloatArray, covariance: FloatArray) -> float:
    """Wald statistic; 0 for an exact fit, infinite for a certain deviation."""
    largest = float(np.abs(estimate).max())
    if not np.diag(covariance).max() > 0:
        return 0.0 if largest <= ROUNDING else math.inf
    scale = np.sqrt(np.where(np.diag(covariance) > 0, np.diag(covariance), 1.0))
    standard = estimate / scale
    inverse = np.linalg.pinv(covariance / np.outer(scale, scale), hermitian=True)
    return float(standard @ inverse @ standard)


def _table(
    y: FloatArray, q: FloatArray, weight: FloatArray, units: Units, bins: int
) -> pd.DataFrame:
    if isinstance(bins, bool) or not isinstance(bins, int | np.integer) or bins < 1:
        raise ValueError(f"bins must be a positive whole number, got {bins!r}.")
    total = weight if units.frequency is None else weight * units.frequency
    edges = np.unique([weighted_quantile(q, (k + 1) / bins, total) for k in range(bins)])
    place = np.searchsorted(edges, q)  # a row of weight 0 may lie beyond the last edge
    rows = [
        _bin(y, q, weight, units, (place == k) & (weight > 0), float(total.sum()))
        for k in range(edges.shape[0])
    ]
    return pd.DataFrame(rows)


def _bin(
    y: FloatArray,
    q: FloatArray,
    weight: FloatArray,
    units: Units,
    inside: npt.NDArray[np.bool_],
    total: float,
) -> dict[str, float]:
    """Figures of the rows ``inside`` one bin."""
    w, y, q = weight[inside], y[inside], q[inside]
    s = None if units.frequency is None else units.frequency[inside]
    mean_q, _ = solve_linear_moment(w, w * q, s)
    mean_y, phi = solve_linear_moment(w, w * y, s)
    gap, phi_gap = solve_linear_moment(w, w * (y - q), s)
    n = float(w.shape[0] if s is None else s.sum())
    codes = None if units.codes is None else units.codes[inside]
    one = n <= 1 + 1e-6 if codes is None else np.unique(codes).shape[0] < 2
    part = None if one else Units.of(w.shape[0], s, codes)
    return {
        "low": float(q.min()),
        "high": float(q.max()),
        "mean_q": float(mean_q),
        "mean_y": float(mean_y),
        "se": math.nan if part is None else part.se(phi),
        "gap": float(gap),
        "se_gap": math.nan if part is None else part.se(phi_gap),
        "n": n,
        "n_eff": float(effective_sample_size(w, s)),
        "share": float(np.sum(w if s is None else w * s)) / total,
    }
