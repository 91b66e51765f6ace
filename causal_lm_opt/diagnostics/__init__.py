"""Trust diagnostics: arrays in, figures and verdicts out; they never import an estimator."""

from __future__ import annotations

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
    "TrustReport",
    "Verdict",
    "effective_sample_size",
    "overlap",
    "unseen_mass",
    "verdict",
    "worst",
]
