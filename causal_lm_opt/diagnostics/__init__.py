"""Trust diagnostics: arrays in, figures and verdicts out; they never import an estimator."""

from __future__ import annotations

from causal_lm_opt.diagnostics.accuracy_gap import AccuracyGap, accuracy_gap
from causal_lm_opt.diagnostics.agreement import draws_agreement
from causal_lm_opt.diagnostics.allocation import AllocationCheck, allocation_check
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
from causal_lm_opt.diagnostics.label_correlation import LabelCorrelation, label_correlation
from causal_lm_opt.diagnostics.latent_positivity import LatentPositivity, latent_positivity
from causal_lm_opt.diagnostics.latent_probes import latent_probes
from causal_lm_opt.diagnostics.new_pairs import LoggedPairs, NewPairs, new_pairs
from causal_lm_opt.diagnostics.new_words import LoggedWords, NewWords, new_words
from causal_lm_opt.diagnostics.overlap import (
    OverlapDiagnostics,
    effective_clusters,
    effective_sample_size,
    overlap,
    unseen_mass,
)
from causal_lm_opt.diagnostics.randomisation import RandomisationCheck, randomisation_check
from causal_lm_opt.diagnostics.ratio import RatioDiagnostics, ratio_diagnostics
from causal_lm_opt.diagnostics.relations import BrokenRelations, broken_relations
from causal_lm_opt.diagnostics.sensitivity import (
    ConfounderStrength,
    OmittedVariableBound,
    benchmark_strength,
    hidden_confounder_bounds,
    hidden_confounder_contrast,
    logging_probability_bounds,
    logging_probability_contrast,
    omitted_variable_bound,
)
from causal_lm_opt.diagnostics.sufficiency import (
    Sufficiency,
    TextResponse,
    latent_sufficiency,
    text_response,
)
from causal_lm_opt.diagnostics.support import (
    SupportFinding,
    probability_hint,
    temperature_check,
    top_k_check,
    top_p_check,
)
from causal_lm_opt.diagnostics.text_features import count_words, frequent_words, text_features
from causal_lm_opt.diagnostics.tilt import tilt_path
from causal_lm_opt.diagnostics.trust import TrustDetail, TrustReport
from causal_lm_opt.diagnostics.typicality import (
    TypicalityCoverage,
    UnseenMass,
    binomial_interval,
    typicality_coverage,
    unseen_mass_interval,
)
from causal_lm_opt.diagnostics.unlogged import UnloggedTexts, unlogged_texts
from causal_lm_opt.diagnostics.unmet import UnmetPairs, unmet_pairs
from causal_lm_opt.diagnostics.verdict import BLIND_SPOTS, LEVELS, Verdict, verdict, worst

__all__ = [
    "BLIND_SPOTS",
    "LEVELS",
    "AccuracyGap",
    "AllocationCheck",
    "BalanceSummary",
    "BrokenRelations",
    "Calibration",
    "ConfounderStrength",
    "LabelCorrelation",
    "LatentPositivity",
    "LengthDrift",
    "LoggedPairs",
    "LoggedWords",
    "NewPairs",
    "NewWords",
    "OmittedVariableBound",
    "OverlapDiagnostics",
    "PositionDrift",
    "PredictedCoverage",
    "RandomisationCheck",
    "RatioDiagnostics",
    "Sufficiency",
    "TextResponse",
    "SupportFinding",
    "TrustDetail",
    "TrustReport",
    "TypicalityCoverage",
    "UnloggedTexts",
    "UnmetPairs",
    "UnseenMass",
    "Verdict",
    "accuracy_gap",
    "allocation_check",
    "balance",
    "balance_summary",
    "benchmark_strength",
    "binomial_interval",
    "broken_relations",
    "calibration",
    "calibration_table",
    "count_words",
    "draws_agreement",
    "effective_clusters",
    "effective_dof",
    "effective_sample_size",
    "frequent_words",
    "hidden_confounder_bounds",
    "hidden_confounder_contrast",
    "label_correlation",
    "latent_positivity",
    "latent_probes",
    "latent_sufficiency",
    "length_drift",
    "logging_probability_bounds",
    "logging_probability_contrast",
    "new_pairs",
    "new_words",
    "omitted_variable_bound",
    "overlap",
    "position_drift",
    "predicted_coverage",
    "probability_hint",
    "randomisation_check",
    "ratio_diagnostics",
    "temperature_check",
    "text_features",
    "text_response",
    "tilt_path",
    "top_k_check",
    "top_p_check",
    "typicality_coverage",
    "unlogged_texts",
    "unmet_pairs",
    "unseen_mass",
    "unseen_mass_interval",
    "verdict",
    "worst",
]
