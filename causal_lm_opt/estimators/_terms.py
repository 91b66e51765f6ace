"""The two terms of a value: the weighted mean over the log, the plug-in mean over draws."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from causal_lm_opt.core.inference import influence_covariance
from causal_lm_opt.core.scores import ipw_moment, plug_in_moment
from causal_lm_opt.core.solve import solve_linear_moment, weighted_moments
from causal_lm_opt.core.weights import Weighting, relative_weights, transform_bias
from causal_lm_opt.estimators._estimand import outcome_slope
from causal_lm_opt.estimators._log import Log
from causal_lm_opt.estimators._target import TargetRows
from causal_lm_opt.exceptions import OverlapError

__all__ = ["LoggedTerm", "of_estimand", "plug_in_term", "transform_finding", "weighted_term"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class LoggedTerm:
    """The logged rows' term of one value: estimate, influence (n,), weights (n,), bias bound.

    ``weight`` is up to a factor where weights are normalised. ``raw_moments`` are its mean and
    mean square where no transform changed it, else None.
    """

    value: float
    influence: FloatArray
    weight: FloatArray
    bias_bound: float = 0.0
    raw_moments: tuple[float, float] | None = None

    @property
    def raw_weight(self) -> FloatArray | None:
        """``weight``, where no transform changed it."""
        return None if self.raw_moments is None else self.weight


def weighted_term(
    ell: FloatArray, residual: FloatArray, weighting: Weighting, s: FloatArray | None, name: str
) -> LoggedTerm:
    """Importance-weighted mean of ``residual`` (``y``, or ``y - q``) under one policy."""
    weight = relative_weights(weighting.transform(ell, s), normalize=weighting.normalize)
    mean, square = map(float, weighted_moments(weight, s))
    if not math.isfinite(mean) or not mean > 0:
        largest = float(np.max(ell))
        raise OverlapError(
            f"The weights of {name} {'overflow' if not math.isfinite(mean) else 'all vanish'} "
            f"under weights={weighting.label!r} (largest log ratio {largest:.4g}): use 'hajek' or "
            "Clip(c), and expect the verdict to be harsh."
        )
    a, b = ipw_moment(weight, residual, normalize=weighting.normalize)
    value, influence = solve_linear_moment(a, b, s, mean_a=mean, overwrite_b=True)
    if weighting.unbiased:
        return LoggedTerm(float(value), influence, weight, raw_moments=(mean, square))
    with np.errstate(over="ignore", invalid="ignore"):
        bias = float(transform_bias(ell, weighting, residual, s, margin=1.645))
    return LoggedTerm(float(value), influence, weight, bias if math.isfinite(bias) else math.inf)


def of_estimand(
    log: Log, term: LoggedTerm, ell: FloatArray, weighting: Weighting, rows: IntArray | None,
    name: str,
) -> LoggedTerm:  # fmt: skip
    """The term with the readers' noise as influence, where these texts are the estimand."""
    if log.texts is None:
        return term
    s, texts = log.sample_weight, log.texts
    if rows is not None:
        s, texts = None if s is None else s[rows], texts[rows]
    return replace(term, influence=outcome_slope(ell, weighting, s, texts, name) * log.noise(rows))


def transform_finding(
    term: LoggedTerm, s: FloatArray | None, codes: IntArray | None, n_clusters: int
) -> list[tuple[int, str]]:
    """A reason for caution where a transform's bias may exceed the sampling error."""
    if term.bias_bound == 0.0:
        return []
    se = float(np.sqrt(influence_covariance(term.influence, s, codes, n_clusters)))
    if term.bias_bound <= se:
        return []
    return [
        (1, f"The weight transform may bias the value by up to {term.bias_bound:.3g}, more than "
            f"its standard error ({se:.3g}).")
    ]  # fmt: skip


def plug_in_term(
    rows: TargetRows, k: int, prediction: FloatArray, weighting: Weighting
) -> tuple[float, FloatArray]:
    """Mean prediction of policy ``k``'s second sample and its influence (m,); zeros when exact."""
    frequency = None if rows.plain else rows.frequency
    if rows.logp_sampling is None and not rows.exact:  # draws of the policy itself
        a, b = 1.0, prediction
    else:
        weight, normalize = rows.policy_weight(k, weighting)
        a, b = plug_in_moment(weight, prediction, normalize=normalize)
    value, influence = solve_linear_moment(a, b, frequency)
    if rows.exact:
        influence = np.zeros_like(influence)
    return float(value), influence
