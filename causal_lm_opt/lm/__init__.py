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
    from causal_lm_opt.lm.evaluation import (
        LIN24_TABLE3,
        Agreement,
        Judge,
        Lin24Table,
        WinRates,
        agreement,
        client_judge,
        judge_from_csv,
        judge_from_frame,
        lin24_table,
        pointwise_judge,
        win_rates,
    )
    from causal_lm_opt.lm.objectives import (
        Columns,
        DoublyRobustObjective,
        IPWObjective,
        LikelihoodObjective,
        OnPolicyObjective,
        OutcomeRegressionObjective,
    )
    from causal_lm_opt.lm.optimizer import CausalLMOptimizer
    from causal_lm_opt.lm.policy import LanguageModelPolicy
    from causal_lm_opt.lm.trainer import CausalPreferenceConfig, CausalPreferenceTrainer
    from causal_lm_opt.lm.training import from_texts

_HOME = {
    "Agreement": "evaluation",
    "CausalLMOptimizer": "optimizer",
    "CausalPreferenceConfig": "trainer",
    "CausalPreferenceTrainer": "trainer",
    "Columns": "objectives",
    "DoublyRobustObjective": "objectives",
    "IPWObjective": "objectives",
    "Judge": "evaluation",
    "LIN24_TABLE3": "evaluation",
    "LanguageModelPolicy": "policy",
    "LikelihoodObjective": "objectives",
    "Lin24Table": "evaluation",
    "OnPolicyObjective": "objectives",
    "OutcomeRegressionObjective": "objectives",
    "TextEmbedder": "embed",
    "WinRates": "evaluation",
    "agreement": "evaluation",
    "client_judge": "evaluation",
    "from_texts": "training",
    "judge_from_csv": "evaluation",
    "judge_from_frame": "evaluation",
    "lin24_table": "evaluation",
    "pointwise_judge": "evaluation",
    "win_rates": "evaluation",
}
_EXTRA = ("torch", "transformers", "tokenizers", "safetensors", "accelerate")

__all__ = [
    "Agreement",
    "CausalLMOptimizer",
    "CausalPreferenceConfig",
    "CausalPreferenceTrainer",
    "Columns",
    "DoublyRobustObjective",
    "Draws",
    "EnumerablePolicy",
    "IPWObjective",
    "Judge",
    "LIN24_TABLE3",
    "LanguageModelPolicy",
    "LikelihoodObjective",
    "Lin24Table",
    "OnPolicyObjective",
    "OutcomeRegressionObjective",
    "Policy",
    "TextEmbedder",
    "WinRates",
    "agreement",
    "client_judge",
    "from_texts",
    "judge_from_csv",
    "judge_from_frame",
    "lin24_table",
    "pointwise_judge",
    "win_rates",
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
