"""Rewards learnt from preferences; torch loads when it is first needed.

>>> from causal_lm_opt import rewards
>>> rewards.AdversarialReward.__name__
'AdversarialReward'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from causal_lm_opt.rewards._calibration import PairCalibration
    from causal_lm_opt.rewards.causal import CellWeights, cell_weights, objective_weights
    from causal_lm_opt.rewards.doubly_robust import (
        DoublyRobustRisk,
        crossfit_labels,
        doubly_robust_risk,
        fit_doubly_robust,
    )
    from causal_lm_opt.rewards.language_model import LanguageModelReward
    from causal_lm_opt.rewards.losses import expected_accuracy, pair_loss
    from causal_lm_opt.rewards.models import AdversarialReward, BradleyTerryReward, MultiHeadReward

_HOME = {
    "AdversarialReward": "models",
    "BradleyTerryReward": "models",
    "CellWeights": "causal",
    "DoublyRobustRisk": "doubly_robust",
    "LanguageModelReward": "language_model",
    "MultiHeadReward": "models",
    "PairCalibration": "_calibration",
    "cell_weights": "causal",
    "crossfit_labels": "doubly_robust",
    "doubly_robust_risk": "doubly_robust",
    "expected_accuracy": "losses",
    "fit_doubly_robust": "doubly_robust",
    "objective_weights": "causal",
    "pair_loss": "losses",
}
_EXTRA = ("torch", "transformers", "tokenizers", "safetensors", "accelerate")

__all__ = [
    "AdversarialReward",
    "BradleyTerryReward",
    "CellWeights",
    "DoublyRobustRisk",
    "LanguageModelReward",
    "MultiHeadReward",
    "PairCalibration",
    "cell_weights",
    "crossfit_labels",
    "doubly_robust_risk",
    "expected_accuracy",
    "fit_doubly_robust",
    "objective_weights",
    "pair_loss",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        raise ModuleNotFoundError(
            f"{name} needs {error.name}, which is not installed: "
            "pip install 'causal_lm_opt[lm]' brings what reward models need",
            name=error.name,
        ) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
