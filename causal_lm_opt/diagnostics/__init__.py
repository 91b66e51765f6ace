"""Trust diagnostics: arrays in, figures and verdicts out; they never import an estimator."""

from __future__ import annotations

from causal_lm_opt.diagnostics.agreement import draws_agreement
from causal_lm_opt.diagnostics.balance import BalanceSummary, balance, balance_summary
from causal_lm_opt.diagnostics.calibration import Calibration, calibration, calibration_table
from causal_lm_opt.diagnostics.coverage import (
    PredictedCoverage,
    effective_dof,
    predicted_coverage,
)
from causal_lm_opt.diagnostics.drift import (
    LengthDrift,
    PositionDrift,
    length_drift,
    position_drift,
)
from causal_lm_opt.diagnostics.overlap import (
    OverlapDiagnostics,
    effective_clusters,
    effective_sample_size,
    overlap,
    unseen_mass,
)
from causal_lm_opt.diagnostics.support import (
    SupportFinding,
    probability_hint,
    temperature_check,
    top_k_check,
    top_p_check,
)
from causal_lm_opt.diagnostics.trust import TrustReport
from causal_lm_opt.diagnostics.typicality import (
    TypicalityCoverage,
    UnseenMass,
    binomial_interval,
    typicality_coverage,
    unseen_mass_interval,
)
from causal_lm_opt.diagnostics.verdict import BLIND_SPOTS, LEVELS, Verdict, verdict, worst

__all__ = [
    "BLIND_SPOTS",
    "LEVELS",
    "BalanceSummary",
    "Calibration",
    "LengthDrift",
    "OverlapDiagnostics",
    "PositionDrift",
    "PredictedCoverage",
    "SupportFinding",
    "TrustReport",
    "TypicalityCoverage",
    "UnseenMass",
    "Verdict",
    "balance",
    "balance_summary",
    "binomial_interval",
    "calibration",
    "calibration_table",
    "draws_agreement",
    "effective_clusters",
    "effective_dof",
    "effective_sample_size",
    "length_drift",
    "overlap",
    "position_drift",
    "predicted_coverage",
    "probability_hint",
    "temperature_check",
    "top_k_check",
    "top_p_check",
    "typicality_coverage",
    "unseen_mass",
    "unseen_mass_interval",
    "verdict",
    "worst",
]
