"""What `CausalPreferenceTrainer` is put together from."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import distributed, nn

from causal_lm_opt.exceptions import OverlapWarning
from causal_lm_opt.lm._collator import LOGGED, read_table
from causal_lm_opt.lm._loading import Loading, load_model, load_tokenizer, transformers
from causal_lm_opt.lm._rounds import Reward, Rounds
from causal_lm_opt.lm._scorer import world
from causal_lm_opt.lm._trainer_config import CausalPreferenceConfig
from causal_lm_opt.lm.objectives import Columns, Objective, OnPolicyObjective
from causal_lm_opt.lm.policy import LanguageModelPolicy

TrainerCallback = transformers().TrainerCallback

__all__ = [
    "Evaluator",
    "ObjectiveSteps",
    "check_arguments",
    "copy_of",
    "empty_columns",
    "on_first",
    "opened",
    "rounds_of",
]

#: ``evaluator(policy, step)``: figures of the policy after so many steps.
Evaluator = Callable[[LanguageModelPolicy, int], Mapping[str, Any]]


class ObjectiveSteps(TrainerCallback):  # type: ignore[misc,valid-type]
    """What the objective needs before training, before an epoch and after a step."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Score the rows."""
        self.trainer.begin_objective()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Draw a round, or refresh."""
        self.trainer.begin_epoch()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Stop outside the trust region."""
        why = self.trainer.objective.violation()
        if why is not None:
            self.trainer.stopped_because = why
            warnings.warn(
                f"training stops at step {state.global_step}: {why}. Raise kl, lower the learning "
                "rate, or take an earlier checkpoint.",
                OverlapWarning, stacklevel=2,
            )  # fmt: skip
            control.should_training_stop = True
        return control


def check_arguments(
    objective: Objective, args: CausalPreferenceConfig, reward: Reward | None
) -> None:
    """Raise unless objective, settings and reward fit each other."""
    if not isinstance(objective, Objective):
        raise TypeError(f"objective must be an Objective, got {type(objective).__name__}.")
    if not isinstance(args, CausalPreferenceConfig):
        raise TypeError(f"args must be a CausalPreferenceConfig, got {type(args).__name__}.")
    if isinstance(objective, OnPolicyObjective) != (reward is not None):
        raise ValueError("reward and OnPolicyObjective go together.")
    if reward is not None and args.fsdp:
        raise ValueError(
            "on-policy training cannot shard the model (fsdp): one process draws a round's texts. "
            "Use torchrun without fsdp, or an adapter (peft_config) to save memory."
        )


def opened(model: Any, tokenizer: Any, peft_config: Any, args: Any) -> tuple[Any, Any]:
    """The model, with its adapter where one is to be trained, and the tokenizer."""
    if isinstance(model, str | os.PathLike):
        tokenizer = load_tokenizer(model, Loading()) if tokenizer is None else tokenizer
        model = load_model(model, Loading())
    if tokenizer is None:
        raise TypeError("a model object needs its tokenizer: processing_class=tokenizer.")
    if peft_config is not None:
        import peft

        transformers().set_seed(args.seed)  # an adapter begins with random numbers
        model = peft.get_peft_model(model, peft_config)
    if args.disable_dropout:
        _switch_dropout_off(model)
    names = ("activation_checkpointing", "gradient_checkpointing")  # the first since version 5
    if any(getattr(args, name, None) for name in names) and hasattr(model, "disable_adapter"):
        model.enable_input_require_grads()  # frozen embeddings would cut the gradient off
    return model, tokenizer


def _switch_dropout_off(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            setattr(module, "attention_dropout", 0.0)  # noqa: B010 - no such attribute of Module


def rounds_of(data: Any, reward: Reward, args: CausalPreferenceConfig) -> Rounds:
    """How an on-policy run draws its texts."""
    prompts = None if data is None else read_table(data, "train_dataset", LOGGED).get("prompt")
    if data is not None and prompts is None:
        raise ValueError("on-policy training takes prompts only: a column 'prompt', or None.")
    return Rounds(reward, prompts, args.round_size, args.seed, args.max_new_tokens)


def empty_columns(n: int) -> Columns:
    """Columns of a round that is not drawn yet."""
    zeros = torch.zeros(n, dtype=torch.float64)
    return Columns(zeros, torch.full_like(zeros, torch.nan), torch.full_like(zeros, torch.nan))


def copy_of(objective: Objective) -> Objective:
    """The same objective without rows."""
    states, objective._states = objective._states, nn.ModuleList()
    try:
        return copy.deepcopy(objective)
    finally:
        objective._states = states


def on_first(make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What the first process makes, on every process."""
    found: list[Any] = [make() if world()[0] == 0 else None]
    if world()[1] > 1:
        distributed.broadcast_object_list(found, src=0)
    made: dict[str, Any] = found[0]
    return made
