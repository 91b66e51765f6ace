"""Language models as policies, encoders as features; torch loads when it is first needed.

>>> from causal_lm_opt import lm
>>> lm.LanguageModelPolicy.__name__
'LanguageModelPolicy'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from causal_lm_opt.lm.draws import Draws
from causal_lm_opt.lm.protocol import EnumerablePolicy, Policy

if TYPE_CHECKING:
    from causal_lm_opt.lm.embed import TextEmbedder
    from causal_lm_opt.lm.objectives import (
        DoublyRobustObjective,
        IPWObjective,
        LikelihoodObjective,
        OnPolicyObjective,
        OutcomeRegressionObjective,
    )
    from causal_lm_opt.lm.policy import LanguageModelPolicy
    from causal_lm_opt.lm.trainer import CausalPreferenceConfig, CausalPreferenceTrainer
    from causal_lm_opt.lm.training import from_texts

_HOME = {
    "CausalPreferenceConfig": "trainer",
    "CausalPreferenceTrainer": "trainer",
    "DoublyRobustObjective": "objectives",
    "IPWObjective": "objectives",
    "LanguageModelPolicy": "policy",
    "LikelihoodObjective": "objectives",
    "OnPolicyObjective": "objectives",
    "OutcomeRegressionObjective": "objectives",
    "TextEmbedder": "embed",
    "from_texts": "training",
}
_EXTRA = ("torch", "transformers", "tokenizers", "safetensors", "accelerate")

__all__ = [
    "CausalPreferenceConfig",
    "CausalPreferenceTrainer",
    "DoublyRobustObjective",
    "Draws",
    "EnumerablePolicy",
    "IPWObjective",
    "LanguageModelPolicy",
    "LikelihoodObjective",
    "OnPolicyObjective",
    "OutcomeRegressionObjective",
    "Policy",
    "TextEmbedder",
    "from_texts",
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
            "pip install 'causal_lm_opt[lm]' brings what language models need",
            name=error.name,
        ) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
