"""scikit-learn estimators of policy values."""

from __future__ import annotations

from causal_lm_opt.estimators._target import TargetSample
from causal_lm_opt.estimators.doubly_robust import DoublyRobust
from causal_lm_opt.estimators.ipw import IPW
from causal_lm_opt.estimators.outcome_models import StatsmodelsGLM
from causal_lm_opt.estimators.outcome_regression import OutcomeRegression
from causal_lm_opt.estimators.sensitivity import Claim, SensitivityResult, sensitivity

__all__ = [
    "IPW",
    "Claim",
    "DoublyRobust",
    "OutcomeRegression",
    "SensitivityResult",
    "StatsmodelsGLM",
    "TargetSample",
    "sensitivity",
]
