r"""Value against shift strength: how far from the logging policy can the log still speak?

Between the logging policy and a target lie the policies :math:`P_t \propto P_R^{1-t} P_f^{\,t}`.
Their weights on the logged rows are :math:`e^{t\ell}` up to a factor, so that one log values the
whole path: a target that is too far away (few effective rows) is seen together with the policies
on the way to it that are not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import logsumexp

from causal_lm_opt._validation import check_vector
from causal_lm_opt.core.inference import (
    bias_aware_half_width,
    cluster_sums,
    contributions,
    welch_satterthwaite,
)
from causal_lm_opt.core.scores import ipw_moment, plug_in_moment
from causal_lm_opt.core.solve import solve_linear_moment
from causal_lm_opt.core.weights import relative_weights
from causal_lm_opt.diagnostics._units import Units
from causal_lm_opt.diagnostics.coverage import PredictedCoverage, predicted_coverage
from causal_lm_opt.diagnostics.overlap import effective_clusters, overlap
from causal_lm_opt.diagnostics.verdict import UNSEEN_UNKNOWN, sampling_findings, verdict
from causal_lm_opt.exceptions import OverlapError

__all__ = ["tilt_path"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Sample:
    """Rows of one sample that count: log ratios, what is averaged, units."""

    ell: FloatArray
    residual: FloatArray
    units: Units


@dataclass(frozen=True, eq=False)
class _Draws:
    """The target's draws (or its exact support): log ratios, predictions, units, probabilities."""

    ell: FloatArray
    prediction: FloatArray | None
    units: Units | None
    probability: FloatArray | None


def tilt_path(
    log_ratio: Any,
    outcome: Any,
    *,
    q: Any = None,
    q_target: Any = None,
    log_ratio_target: Any = None,
    target_weight: Any = None,
    exact: bool = False,
    sample_weight: Any = None,
    codes: Any = None,
    target_codes: Any = None,
    grid: Any = None,
    level: float = 0.95,
) -> pd.DataFrame:
    r"""Values of the policies between the logging policy (``t = 0``) and a target (``t = 1``).

    .. math:: \hat V_t = \frac{\sum_i s_i e^{t\ell_i} y_i}{\sum_i s_i e^{t\ell_i}}, \qquad
              \hat V_t^{DR} = \frac{\sum_i s_i e^{t\ell_i} (y_i - q_i)}{\sum_i s_i e^{t\ell_i}}
              + \frac{\sum_j e^{(t-1)\tilde\ell_j} \tilde q_j}{\sum_j e^{(t-1)\tilde\ell_j}}

    with draws :math:`\tilde x_j` of the target, which :math:`e^{(t-1)\ell}` turns into draws of
    :math:`P_t`. At ``t = 1`` these are the Hajek and the doubly robust value; at ``t = 0`` the
    former is the mean outcome.

    Parameters
    ----------
    log_ratio : array, shape (n,)
        :math:`\ell = \log P_f - \log P_R` of the logged rows, natural logs; ``-inf`` where the
        target never writes the text.
    outcome : array, shape (n,)
        Outcomes ``y``.
    q, q_target : array, shape (n,) and (m,), optional
        Predicted outcomes of the logged rows (made without the row's own fold) and of the draws:
        the doubly robust path. Both or neither.
    log_ratio_target : array, shape (m,), optional
        :math:`\ell` of draws of the target, ``+inf`` where the logger never writes the text.
        Needed with ``q``; else it only lets ``trusted`` see texts that were never logged.
    target_weight : array, shape (m,), optional
        Frequencies of the draws, or the support's probabilities with ``exact``.
    exact : bool
        The draws are the target's whole support: no sampling error there.
    sample_weight : array, shape (n,), optional
        Frequencies of the logged rows.
    codes, target_codes : array, shape (n,) and (m,), optional
        Cluster labels; log and draws are taken as independent of each other.
    grid : array, shape (T,), optional
        Shift strengths in [0, 1]; 21 equal steps by default.
    level : float
        Of the intervals.

    Returns
    -------
    DataFrame
        One row for each ``t``: ``t``, ``value``, ``se``, ``lower``, ``upper`` (outcome units),
        ``ess`` (rows), ``pareto_k`` (``nan`` where the weights have no tail), ``ess_target``
        (effective draws; ``nan``
        without draws or for an exact support), ``zero_share`` (of the rows: those the target
        never writes lose their weight as soon as ``t > 0``), ``trusted``: whether the diagnostics
        behind :func:`~causal_lm_opt.diagnostics.verdict` find nothing to say against the value.
        Without draws that rests on the weights alone and is too kind.

    Raises
    ------
    ValueError
        For shapes that do not fit, entries that are not finite, ``t`` outside [0, 1].
    OverlapError
        When all weights are 0.

    Notes
    -----
    **Assumptions.** Those of the Hajek and the doubly robust value. With prompts the joint law of
    prompt and text is tilted, not each prompt's law of texts alone.

    Towards ``t = 0`` the doubly robust path leans on draws of the *target* weighted back to the
    logger: ``ess_target`` tells how many are left.

    Examples
    --------
    >>> ell = np.log(np.array([.4, .4, 1.6, 1.6]))             # P_f = .2, .8; P_R = .5, .5
    >>> path = tilt_path(ell, [1., 2., 3., 6.], grid=[0., .5, 1.])
    >>> path["value"].round(3).tolist()                        # P_.5 = 1/3, 2/3
    [3.0, 3.5, 3.9]
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie strictly between 0 and 1, got {level!r}.")
    if (q is None) != (q_target is None):
        raise ValueError("q and q_target belong together: give both or neither.")
    if log_ratio_target is None and (q is not None or target_weight is not None or exact):
        raise ValueError("q, target_weight and exact describe draws: give log_ratio_target too.")
    if exact and (target_weight is None or target_codes is not None):
        raise ValueError("exact=True needs target_weight (probabilities) and no target_codes.")
    strengths = _strengths(grid)
    logged = _logged(log_ratio, outcome, q, sample_weight, codes)
    draws = None
    if log_ratio_target is not None:
        draws = _draws(log_ratio_target, q_target, target_weight, exact, target_codes)
    return pd.DataFrame([_at(float(t), logged, draws, level) for t in strengths])


def _strengths(grid: Any) -> FloatArray:
    values = np.linspace(0.0, 1.0, 21) if grid is None else np.atleast_1d(np.asarray(grid, float))
    values = check_vector(values, "grid", values.shape[0])
    if not values.size or values.min() < 0.0 or values.max() > 1.0:
        raise ValueError(f"grid must hold shift strengths in [0, 1], got {values.tolist()}.")
    return values


def _ratios(values: Any, name: str, *, impossible: float) -> FloatArray:
    """Log ratios, shape (n,); the one infinity that means probability 0 on one side is let by."""
    ell = np.asarray(values, dtype=np.float64)
    if ell.ndim != 1:
        raise ValueError(f"{name} must have shape (n,), got {ell.shape}.")
    check_vector(np.where(ell == impossible, 0.0, ell), name, ell.shape[0])
    return ell


def _logged(log_ratio: Any, outcome: Any, q: Any, sample_weight: Any, codes: Any) -> _Sample:
    ell = _ratios(log_ratio, "log_ratio", impossible=-math.inf)
    n = ell.shape[0]
    residual = check_vector(outcome, "outcome", n)
    if q is not None:
        residual = residual - check_vector(q, "q", n)
    units = Units.of(n, sample_weight, codes)
    return _Sample(ell[units.kept], residual[units.kept], units)


def _draws(ell: Any, q: Any, weight: Any, exact: bool, codes: Any) -> _Draws:
    ratio = _ratios(ell, "log_ratio_target", impossible=math.inf)
    m = ratio.shape[0]
    prediction = None if q is None else check_vector(q, "q_target", m)
    if exact:
        p = check_vector(weight, "target_weight", m)
        if (p < 0).any() or not math.isclose(float(p.sum()), 1.0, abs_tol=1e-6):
            raise ValueError(
                "target_weight: probabilities of the exact support must be non-negative and sum "
                f"to 1, got a sum of {float(p.sum()):.6g}."
            )
        written = p > 0
        kept = None if prediction is None else prediction[written]
        return _Draws(ratio[written], kept, None, p[written])
    units = Units.of(m, weight, codes, weight_name="target_weight", codes_name="target_codes")
    kept = None if prediction is None else prediction[units.kept]
    return _Draws(ratio[units.kept], kept, units, units.frequency)


def _scaled(ell: FloatArray, factor: float) -> FloatArray:
    """``factor * ell`` with ``0 * inf = 0``: at the end of the path itself nothing is excluded."""
    return np.zeros_like(ell) if factor == 0.0 else factor * ell


def _weights(log_weight: FloatArray, what: str, t: float) -> FloatArray:
    weight = np.asarray(relative_weights(log_weight, normalize=True))
    if not weight.any():
        raise OverlapError(
            f"{what} all have weight 0 at t = {t:g}: logging policy and target have no text in "
            "common, so that there is no path between them."
        )
    return weight


def _at(t: float, logged: _Sample, draws: _Draws | None, level: float) -> dict[str, float | bool]:
    """Figures at one shift strength."""
    ell, units = _scaled(logged.ell, t), logged.units
    weight = _weights(ell, "the logged rows", t)
    moment = ipw_moment(weight, logged.residual, normalize=True)
    value, phi = solve_linear_moment(*moment, units.frequency)
    centre = float(value)
    variances = [float(units.covariance(phi))]
    dofs = [units.dof]
    back = None
    if draws is not None:
        back = _weights(_scaled(draws.ell, t - 1.0), "the target's draws", t)
        if draws.prediction is not None:
            moment = plug_in_moment(back, draws.prediction, normalize=True)
            plug_in, phi_target = solve_linear_moment(*moment, draws.probability)
            value = value + plug_in
            if draws.units is not None:
                variances.append(float(draws.units.covariance(phi_target)))
                dofs.append(draws.units.dof)
    se = math.sqrt(max(sum(variances), 0.0))
    half = bias_aware_half_width(se, level=level, dof=welch_satterthwaite(variances, dofs))
    figures, trusted = _trust(t, logged, phi, centre, draws, back)
    return {
        "t": t,
        "value": float(value),
        "se": se,
        "lower": float(value) - half,
        "upper": float(value) + half,
        "ess": figures["ess"],
        "pareto_k": figures["pareto_k"],
        "ess_target": figures["ess_target"],
        "zero_share": figures["zero_share"],
        "trusted": trusted,
    }


def _trust(
    t: float,
    logged: _Sample,
    phi: FloatArray,
    centre: float,
    draws: _Draws | None,
    back: FloatArray | None,
) -> tuple[dict[str, float], bool]:
    """Overlap figures at ``t``, and whether they raise no concern."""
    ell, units = _scaled(logged.ell, t), logged.units
    clusters = math.nan
    if units.codes is not None:
        weight = np.asarray(relative_weights(ell, normalize=True))
        clusters = effective_clusters(
            units.codes, weight if units.frequency is None else units.frequency * weight
        )
    # Weights off the ends of the path are known up to a factor: their mean says nothing.
    found = replace(overlap(ell, units.frequency, clusters=clusters), mean_weight_z=math.nan)
    coverage: PredictedCoverage | None = None
    findings: list[tuple[int, str]] = []
    ess_target = math.nan
    if draws is not None and back is not None:
        share = back if draws.probability is None else back * draws.probability
        parts = contributions(phi, units.frequency)
        if units.codes is not None:
            parts = cluster_sums(parts, units.codes, int(units.count))
        size = ell.shape[0] if units.frequency is None else float(units.frequency.sum())
        factor = float(logsumexp(ell, b=units.frequency)) - math.log(size)
        coverage = predicted_coverage(
            ell - factor, logged.residual - centre, np.asarray(parts),
            _scaled(draws.ell, t) - factor, n_units=units.count, sample_weight=units.frequency,
            target_weight=share,
        )  # fmt: skip
        if draws.units is not None:
            reached = overlap(_scaled(draws.ell, t - 1.0), draws.probability)
            ess_target = reached.ess
            if t < 1.0 and draws.prediction is not None:
                findings = sampling_findings(reached.ess, reached.n, reached.sd_log_ratio)
    # As the estimators do: with the whole support known and nothing of it beyond the log, a small
    # share of rows is no sign of rows that are lacking.
    listed = draws is not None and draws.units is None
    if coverage is not None:
        found = replace(found, unseen_mass=coverage.unseen_variance)
    judged = verdict(found, coverage=coverage, enumerated=listed, findings=findings)
    trusted = not [r for r in judged.reasons if r != UNSEEN_UNKNOWN]
    shown = {"ess": found.ess, "pareto_k": found.pareto_k, "zero_share": found.zero_share}
    return shown | {"ess_target": ess_target}, trusted
