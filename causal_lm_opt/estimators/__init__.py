"""scikit-learn estimators of policy values."""

from __future__ import annotations

from causal_lm_opt.estimators._target import TargetSample
from causal_lm_opt.estimators.balancing import BalancingRatio
from causal_lm_opt.estimators.deconfounding import Deconfounder
from causal_lm_opt.estimators.density_ratio import DensityRatio
from causal_lm_opt.estimators.doubly_robust import DoublyRobust
from causal_lm_opt.estimators.generalised_propensity import GeneralisedPropensity
from causal_lm_opt.estimators.ipw import IPW
from causal_lm_opt.estimators.observational import ProductSample, product_sample, text_and_reader
from causal_lm_opt.estimators.outcome_models import StatsmodelsGLM
from causal_lm_opt.estimators.outcome_regression import OutcomeRegression
from causal_lm_opt.estimators.sensitivity import Claim, SensitivityResult, sensitivity
from causal_lm_opt.estimators.targeting import Correction, retarget
from causal_lm_opt.estimators.text_pipelines import tfidf_features
from causal_lm_opt.estimators.transport import (
    AuthorPrediction,
    ReadTexts,
    predict_author,
    predict_by_others,
    read_texts,
    transport_verdict,
)

__all__ = [
    "IPW",
    "AuthorPrediction",
    "BalancingRatio",
    "Claim",
    "Correction",
    "Deconfounder",
    "DensityRatio",
    "DoublyRobust",
    "GeneralisedPropensity",
    "OutcomeRegression",
    "ProductSample",
    "ReadTexts",
    "SensitivityResult",
    "StatsmodelsGLM",
    "TargetSample",
    "predict_author",
    "predict_by_others",
    "product_sample",
    "read_texts",
    "retarget",
    "sensitivity",
    "text_and_reader",
    "tfidf_features",
    "transport_verdict",
]
