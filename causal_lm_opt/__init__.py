"""Causal value estimates for language models, from logged texts and outcomes.

>>> import causal_lm_opt
>>> causal_lm_opt.DoublyRobust
<class 'causal_lm_opt.estimators.doubly_robust.DoublyRobust'>
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from causal_lm_opt._version import __version__

if TYPE_CHECKING:
    from causal_lm_opt.comparison import Comparison
    from causal_lm_opt.core import (
        Clip,
        Hajek,
        HorvitzThompson,
        ParetoSmooth,
        Shrink,
        Switch,
        Temper,
    )
    from causal_lm_opt.estimate import ValueEstimate
    from causal_lm_opt.estimators import (
        IPW,
        BalancingRatio,
        Deconfounder,
        DensityRatio,
        DoublyRobust,
        OutcomeRegression,
        StatsmodelsGLM,
        TargetSample,
    )
    from causal_lm_opt.exceptions import (
        DataError,
        EstimationWarning,
        NotIdentifiedError,
        OverlapError,
        OverlapWarning,
    )
    from causal_lm_opt.lm import CausalLMOptimizer as CausalLMOptimizer
    from causal_lm_opt.lm import LanguageModelPolicy as LanguageModelPolicy
    from causal_lm_opt.logged import LoggedData
    from causal_lm_opt.rewards import AdversarialReward as AdversarialReward
    from causal_lm_opt.rewards import BradleyTerryReward as BradleyTerryReward
    from causal_lm_opt.rewards import MultiHeadReward as MultiHeadReward

_HOME = {
    "AdversarialReward": "rewards",
    "BalancingRatio": "estimators",
    "BradleyTerryReward": "rewards",
    "CausalLMOptimizer": "lm",
    "Clip": "core",
    "Comparison": "comparison",
    "DataError": "exceptions",
    "Deconfounder": "estimators",
    "DensityRatio": "estimators",
    "DoublyRobust": "estimators",
    "EstimationWarning": "exceptions",
    "Hajek": "core",
    "HorvitzThompson": "core",
    "IPW": "estimators",
    "LanguageModelPolicy": "lm",
    "LoggedData": "logged",
    "MultiHeadReward": "rewards",
    "NotIdentifiedError": "exceptions",
    "OutcomeRegression": "estimators",
    "OverlapError": "exceptions",
    "OverlapWarning": "exceptions",
    "ParetoSmooth": "core",
    "Shrink": "core",
    "StatsmodelsGLM": "estimators",
    "Switch": "core",
    "TargetSample": "estimators",
    "Temper": "core",
    "ValueEstimate": "estimate",
}

# What needs torch is left out: a star import must not need the extra lm.
__all__ = [
    "IPW",
    "BalancingRatio",
    "Clip",
    "Comparison",
    "DataError",
    "Deconfounder",
    "DensityRatio",
    "DoublyRobust",
    "EstimationWarning",
    "Hajek",
    "HorvitzThompson",
    "LoggedData",
    "NotIdentifiedError",
    "OutcomeRegression",
    "OverlapError",
    "OverlapWarning",
    "ParetoSmooth",
    "Shrink",
    "StatsmodelsGLM",
    "Switch",
    "TargetSample",
    "Temper",
    "ValueEstimate",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*_HOME, "__version__"])
