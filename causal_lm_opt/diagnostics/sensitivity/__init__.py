r"""How far violated assumptions could move a value: bounds, arrays in.

Two violations of "the stated log-probs assigned the texts" are told apart and never mixed. In both
the right weight of a row is :math:`w r` with :math:`1/\Lambda \le r \le \Lambda`:

- **hidden confounder**: texts were assigned by more than the stated log-probs know. ``r`` may
  depend on the outcome, but averages 1 over the rows of every text
  (:func:`hidden_confounder_bounds`);
- **mis-scored logging probabilities**: nothing is hidden, but the stated probabilities are wrong.
  ``r`` is a function of the text, and need not average 1 at any text
  (:func:`logging_probability_bounds`).

:func:`omitted_variable_bound` bounds the first violation by how much of the outcome and of the
weights a confounder explains, and can be held against observed covariates
(:func:`covariate_strengths`).
"""

from __future__ import annotations

from causal_lm_opt.diagnostics.sensitivity._bounds import (
    Bounds,
    PlugIn,
    interpolate_columns,
    quantile_levels,
    resample_multipliers,
)
from causal_lm_opt.diagnostics.sensitivity.breakdown import breakdown
from causal_lm_opt.diagnostics.sensitivity.covariates import covariate_strengths
from causal_lm_opt.diagnostics.sensitivity.hidden_confounder import (
    hidden_confounder_bounds,
    hidden_confounder_contrast,
    quantile_excess,
)
from causal_lm_opt.diagnostics.sensitivity.logging_probability import (
    logging_probability_bounds,
    logging_probability_contrast,
)
from causal_lm_opt.diagnostics.sensitivity.omitted_variable import (
    ConfounderStrength,
    OmittedVariableBound,
    benchmark_strength,
    omitted_variable_bound,
)

__all__ = [
    "Bounds",
    "ConfounderStrength",
    "OmittedVariableBound",
    "PlugIn",
    "benchmark_strength",
    "breakdown",
    "covariate_strengths",
    "hidden_confounder_bounds",
    "hidden_confounder_contrast",
    "interpolate_columns",
    "logging_probability_bounds",
    "logging_probability_contrast",
    "omitted_variable_bound",
    "quantile_excess",
    "quantile_levels",
    "resample_multipliers",
]
