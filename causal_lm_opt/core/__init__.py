"""Arithmetic of the estimators, on array-API arrays: NumPy arrays and torch tensors alike.

No function here draws random numbers, checks user input or knows an estimator; gradients flow
through all of `weights`, `scores` and `solve`.
"""

from __future__ import annotations

from causal_lm_opt.core.inference import (
    bias_aware_half_width,
    cluster_contributions,
    cluster_dof,
    cluster_sums,
    effective_count,
    empirical_bernstein,
    influence_covariance,
    largest_t,
    leave_out_factor,
    max_t_critical_value,
    multiplier_t,
    welch_satterthwaite,
)
from causal_lm_opt.core.pareto import generalized_pareto_fit, pareto_smooth
from causal_lm_opt.core.scores import ipw_moment, plug_in_moment, residual_moment
from causal_lm_opt.core.solve import solve_linear_moment, weighted_mean
from causal_lm_opt.core.weights import (
    Clip,
    Hajek,
    HorvitzThompson,
    ParetoSmooth,
    Shrink,
    Switch,
    Temper,
    Weighting,
    log_ratio,
    relative_weights,
    transform_bias,
)

__all__ = [
    "Clip",
    "Hajek",
    "HorvitzThompson",
    "ParetoSmooth",
    "Shrink",
    "Switch",
    "Temper",
    "Weighting",
    "bias_aware_half_width",
    "cluster_contributions",
    "cluster_dof",
    "cluster_sums",
    "effective_count",
    "empirical_bernstein",
    "generalized_pareto_fit",
    "influence_covariance",
    "largest_t",
    "ipw_moment",
    "leave_out_factor",
    "log_ratio",
    "max_t_critical_value",
    "multiplier_t",
    "pareto_smooth",
    "plug_in_moment",
    "relative_weights",
    "residual_moment",
    "solve_linear_moment",
    "transform_bias",
    "weighted_mean",
    "welch_satterthwaite",
]
