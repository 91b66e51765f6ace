"""Trust diagnostics: arrays in, figures and verdicts out; they never import an estimator."""

from __future__ import annotations

from causal_lm_opt.diagnostics.coverage import (
    PredictedCoverage,
    effective_dof,
    predicted_coverage,
)
from causal_lm_opt.diagnostics.overlap import (
    OverlapDiagnostics,
    effective_sample_size,
    overlap,
    unseen_mass,
)
from causal_lm_opt.diagnostics.trust import TrustReport
from causal_lm_opt.diagnostics.verdict import BLIND_SPOTS, LEVELS, Verdict, verdict, worst

__all__ = [
    "BLIND_SPOTS",
    "LEVELS",
    "OverlapDiagnostics",
    "PredictedCoverage",
    "TrustReport",
    "Verdict",
    "effective_dof",
    "effective_sample_size",
    "overlap",
    "predicted_coverage",
    "unseen_mass",
    "verdict",
    "worst",
]
