"""The stages of an optimiser's fit: where it starts, what it trains on, how it is watched."""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from causal_lm_opt.estimators._crossfit import CrossFit, Folds, crossfit, make_folds
from causal_lm_opt.estimators.targeting import regression_on
from causal_lm_opt.exceptions import OverlapError
from causal_lm_opt.lm._decoding import Decoding
from causal_lm_opt.lm._engine import progress_bar
from causal_lm_opt.lm._features import TextFeatures
from causal_lm_opt.lm._heldout import NAMES, Drawn, HeldOut, draw_for
from causal_lm_opt.lm._left_out import LoggedTexts, judged
from causal_lm_opt.lm._loading import transformers
from causal_lm_opt.lm._optimizer_rows import Rows
from causal_lm_opt.lm._targeted import TargetedReward
from causal_lm_opt.lm.objectives import (
    DoublyRobustObjective,
    IPWObjective,
    LikelihoodObjective,
    Objective,
    OnPolicyObjective,
    OutcomeRegressionObjective,
)
from causal_lm_opt.lm.policy import LanguageModelPolicy
from causal_lm_opt.lm.trainer import CausalPreferenceConfig, CausalPreferenceTrainer
from causal_lm_opt.lm.training import from_texts

TrainerCallback = transformers().TrainerCallback

__all__ = [
    "BETWEEN",
    "FIGURES",
    "NOT_ELIGIBLE",
    "OBJECTIVES",
    "Bar",
    "FloorStop",
    "LostStop",
    "Nuisances",
    "Watch",
    "check_monitor",
    "fine_tune",
    "make_objective",
    "most_tokens",
    "nuisances_of",
    "on_gpu",
    "plain_model",
    "quiet",
    "start_epochs",
    "start_policy",
    "training_data",
]

Progress = bool | Literal["lines"] | None
FloatArray = npt.NDArray[np.float64]
TINY_EPOCHS = 12
BETWEEN = " | "  # reasons of a verdict in one cell
#: Name of an objective -> how it is made, what it raises.
OBJECTIVES: Mapping[str, tuple[Callable[..., Objective], str]] = {
    "targeted": (
        OnPolicyObjective,
        "rounds of fresh texts, rewarded by an outcome model that is corrected on the training "
        "rows for each round's texts",
    ),
    "dr": (DoublyRobustObjective, "doubly robust value of the training rows"),
    "ipw": (IPWObjective, "weighted outcomes of the training rows"),
    "or": (OutcomeRegressionObjective, "the outcome model's mean over texts of the start"),
    "likelihood": (
        partial(LikelihoodObjective, "high"),
        "likelihood of the better half of the training texts (a baseline)",
    ),
}
#: Value, standard error and interval of V(f), V(f0) and their difference.
FIGURES = (
    "value", "se", "lower", "upper", "start", "start_se", "start_lower", "start_upper",
    "difference", "difference_se", "difference_lower", "difference_upper",
)  # fmt: skip
OTHER_FIGURES = ("ess", "verdict", "why", "ratio", "model_based", "unfinished")
NOT_ELIGIBLE = -1e12  # score of a checkpoint that must not be chosen


def on_gpu() -> bool:
    """Whether training would run on an accelerator."""
    return torch.cuda.is_available()


# ------------------------------------------------------------------------------ the start
def is_tiny(model: Any) -> bool:
    """Whether the start is to be made from the training texts."""
    return isinstance(model, str) and model == "tiny"


def start_epochs(model: Any, epochs: int | None, *, logged: bool) -> int:
    """Passes of the start over training texts; ``logged``: the log says how likely they were."""
    if epochs is not None:
        return epochs
    return TINY_EPOCHS if is_tiny(model) else int(not logged)


def start_policy(
    model: Any, rows: Rows, epochs: int | None, seed: int, args: Mapping[str, Any], folder: Path,
    progress: Progress = None,
) -> LanguageModelPolicy:  # fmt: skip
    """The policy that training starts from, f0.

    "tiny" is a small GPT made from the training texts; any other model is fine-tuned on them where
    the log does not say how likely its texts were, unless ``epochs`` says otherwise.
    """
    given = start_epochs(model, epochs, logged=rows.logp_logging is not None)
    if is_tiny(model):
        if rows.prompts is None:
            return from_texts(rows.texts, epochs=given, random_state=seed, name="start")
        policy = from_texts(rows.read, epochs=0, random_state=seed, name="start")
        return fine_tune(policy, rows, given, seed, {**args, "learning_rate": 2e-3}, folder,
                         progress)  # fmt: skip
    policy = opened_policy(model)
    return fine_tune(policy, rows, given, seed, args, folder, progress) if given else policy


def opened_policy(model: Any) -> LanguageModelPolicy:
    """A policy from a policy, a folder or hub name, or a pair (model, tokenizer)."""
    if isinstance(model, LanguageModelPolicy):
        _check_plain(model)
        return model
    if isinstance(model, tuple) and len(model) == 2:
        return LanguageModelPolicy(*model, name="start")
    return LanguageModelPolicy(model, name="start")


def _check_plain(policy: LanguageModelPolicy) -> None:
    """Refuse settings that a trained copy, or a run taken up again, would not have."""
    encoder = policy.encoder
    other = [
        name
        for name, own in {
            "temperature, top_k or top_p": policy.decoding != Decoding(1.0, 0, 1.0),
            "eos_token": encoder.end_id != policy.tokenizer.eos_token_id,
            "bos": encoder.bos != "auto",
            "special_tokens": encoder.special_tokens != "text",
            "too_long": encoder.too_long != "error",
            "an adapter (merge it: merge_and_unload)": hasattr(policy.model, "peft_config"),
        }.items()
        if own
    ]
    if other:
        raise ValueError(
            f"model: training starts from a model's own distribution, but this policy has "
            f"{other[0]} of its own; give the plain model and its tokenizer."
        )


def fine_tune(
    policy: LanguageModelPolicy, rows: Rows, epochs: int, seed: int, args: Mapping[str, Any],
    folder: Path, progress: Progress = None,
) -> LanguageModelPolicy:  # fmt: skip
    """A copy of the policy trained to write the rows' texts."""
    model = copy.deepcopy(policy.model)
    batch = int(args["per_device_train_batch_size"])
    config = CausalPreferenceConfig(**{
        **args, "output_dir": str(folder), "save_strategy": "no", "eval_strategy": "no",
        "load_best_model_at_end": False, "metric_for_best_model": None, "seed": seed,
        "max_steps": epochs * max(1, -(-len(rows) // batch)),
    })  # fmt: skip
    data = training_data(rows, None)
    trainer = CausalPreferenceTrainer(
        model, LikelihoodObjective(), config, data, processing_class=policy.tokenizer,
        callbacks=[Bar(progress, "fine-tuning the start")],
    )  # fmt: skip
    quiet(trainer)
    trainer.train()
    tuned = LanguageModelPolicy(plain_model(trainer), policy.tokenizer, name="start")
    tuned.training_rows = policy.training_rows
    return tuned


def plain_model(trainer: CausalPreferenceTrainer) -> Any:
    """What was trained, without the wrapper of mixed precision: as it is once saved and loaded."""
    return trainer.accelerator.unwrap_model(trainer.policy.model, keep_fp32_wrapper=False).eval()


def most_tokens(policy: LanguageModelPolicy, rows: Rows) -> int:
    """Room for a draw: a quarter more tokens than the longest training text has."""
    longest = max(len(ids) for _, ids in policy.encode(rows.texts, rows.prompts))
    return int(1.25 * longest) + 8


# ------------------------------------------------------------------------------ the outcome model
@dataclass(frozen=True, eq=False)
class Nuisances:
    """Cross-fitted outcome model of the training rows.

    Attributes
    ----------
    predicted : (n,) array
        Of each training row, by the model that has not seen its cluster.
    folds : Folds
    fit : CrossFit
    """

    predicted: FloatArray
    folds: Folds
    fit: CrossFit

    def predict(self, read: list[str]) -> FloatArray:
        """Predictions of other texts, (m,): the average of the folds' models."""
        return self.fit.predict(np.array(read, dtype=object))

    def by_fold(self, read: list[str]) -> FloatArray:
        """The prediction of each fold's model, (m, folds)."""
        X = np.array(read, dtype=object)
        parts = [replace(self.fit, models=(m,), fold_share=np.ones(1)) for m in self.fit.models]
        return np.column_stack([part.predict(X) for part in parts])


def nuisances_of(rows: Rows, model: Any, features: TextFeatures, cv: int, seed: int) -> Nuisances:
    """Fit the outcome model without each fold; by default ridge regression on the features."""
    X = np.array(rows.read, dtype=object)
    folds = make_folds(X, rows.outcome, rows.groups, cv, seed)
    learner = regression_on(features) if model is None else model
    fit = crossfit(
        learner, X, rows.outcome, folds, codes=rows.groups, n_clusters=int(rows.groups.max()) + 1
    )
    return Nuisances(fit.predict_logged(X), folds, fit)


# ------------------------------------------------------------------------------ the objective
def make_objective(objective: str | Objective, kl: float, entropy: float) -> Objective:
    """The objective of a name; the floor of the effective sample size is the select rows'."""
    if isinstance(objective, Objective):
        return objective
    if objective not in OBJECTIVES:
        raise ValueError(
            f"objective must be one of {list(OBJECTIVES)} or an Objective, got {objective!r}."
        )
    made, _ = OBJECTIVES[objective]
    return made(kl=kl, entropy=entropy, ess_floor=0.0)


def training_data(
    rows: Rows, nuisances: Nuisances | None, logp: FloatArray | None = None
) -> dict[str, Any]:
    """Columns of the logged rows, as the trainer takes them."""
    data: dict[str, Any] = {"completion": list(rows.texts), "outcome": rows.outcome.tolist()}
    if rows.prompts is not None:
        data["prompt"] = list(rows.prompts)
    if logp is not None:
        data["logp_logging"] = logp.tolist()
    if nuisances is not None:
        data["prediction"] = nuisances.predicted.tolist()
        data["fold"] = nuisances.folds.fold.tolist()
    return data


# ------------------------------------------------------------------------------ watching
@dataclass(eq=False)
class Watch:
    """The trainer's evaluator: V(f) and V(f) - V(f0) on select rows, after every so many steps.

    Attributes
    ----------
    held : HeldOut
        Select rows.
    logged : LoggedTexts
        All rows of the log, without their outcomes.
    start : Drawn
        Draws of f0 for them.
    start_logp : (n,) array or None
    logger : LanguageModelPolicy or None
        Scores draws under the logging policy.
    monitor : mapping of name -> callable
        Further figures of the draws, for the history alone.
    """

    held: HeldOut
    logged: LoggedTexts
    start: Drawn
    start_logp: FloatArray | None
    logger: Any
    n_draws: int
    max_new_tokens: int
    seed: int
    ess_floor: float
    level: float
    monitor: Mapping[str, Callable[[list[str]], float]] = field(default_factory=dict)

    def __call__(self, policy: LanguageModelPolicy, step: int) -> dict[str, Any]:
        """Figures after ``step`` steps; ``score`` is what the checkpoint is chosen by."""
        rows = self.held.rows
        drawn = draw_for(
            policy, rows, self.n_draws, (self.seed, step), self.max_new_tokens, self.logger
        )
        based = float(self.held.predict(drawn.read).mean())
        logp = None
        if self.start_logp is not None and self.held.ratio in ("auto", "sequence"):
            logp = {"trained": policy.log_prob(rows.texts, rows.prompts), "start": self.start_logp}
        both = dict(zip(NAMES, (drawn, self.start), strict=True))
        try:
            kind, values = self.held.chosen(both, logp)
        except OverlapError as error:
            unknown = dict.fromkeys(FIGURES, math.nan)
            found = unknown | {
                "ess": 0.0, "verdict": "do not use", "why": str(error), "ratio": self.held.ratio,
                "score": NOT_ELIGIBLE,
            }  # fmt: skip
        else:
            beyond = self.logged.beyond(both, estimated=kind != "sequence", words=False)
            found = self._figures(kind, judged(values, [], beyond))
        found |= {"model_based": based, "unfinished": drawn.unfinished}
        return found | {name: _figure(name, f(drawn.read)) for name, f in self.monitor.items()}

    def _figures(self, kind: str, values: Any) -> dict[str, Any]:
        trained, start = values["trained"], values["start"]
        difference = trained - start
        numbers: list[float] = []
        for one in (trained, start, difference):
            low, high = one.confint(self.level)
            numbers += [one.value, one.se, float(low), float(high)]
        ess = float(values.diagnostics[0].get("ess_share") or 0.0)
        verdict = difference.verdicts[0]  # as `safe` has it
        eligible = verdict.level != "do not use" and ess >= self.ess_floor
        return dict(zip(FIGURES, numbers, strict=True)) | {
            "ess": ess, "verdict": verdict.level, "why": BETWEEN.join(verdict.reasons),
            "ratio": kind,
            "score": numbers[FIGURES.index("difference_lower")] if eligible else NOT_ELIGIBLE,
        }  # fmt: skip


def check_monitor(monitor: Mapping[str, Any]) -> None:
    """Refuse names that the history has already, and what cannot be called."""
    taken = {*FIGURES, *OTHER_FIGURES, "step", "score", "chosen_by"}
    for name, function in monitor.items():
        if not callable(function):
            raise TypeError(
                f"monitor[{name!r}] must be a callable texts -> number, got {function!r}."
            )
        if not isinstance(name, str) or name in taken:
            raise ValueError(f"monitor: {name!r} is no free name of a column of history_.")


def _figure(name: str, value: Any) -> float:
    """A monitor's figure, as a number that JSON holds (NaN where there is none)."""
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"monitor[{name!r}] must return a number, got {value!r}.") from error


class FloorStop(TrainerCallback):  # type: ignore[misc,valid-type]
    """Stop where the select rows no longer say what the policy is worth.

    Parameters
    ----------
    patience : int
        Evaluations in a row that may be unusable.
    """

    def __init__(self, patience: int = 2) -> None:
        self.patience = patience

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any, **_: Any) -> None:
        """Count evaluations below the floor."""
        lines = [x for x in state.log_history if "eval_score" in x][-self.patience :]
        if len(lines) == self.patience and all(x["eval_score"] <= NOT_ELIGIBLE for x in lines):
            control.should_training_stop = True


class LostStop(TrainerCallback):  # type: ignore[misc,valid-type]
    """Stop where the training rows say nothing of the round's draws.

    Parameters
    ----------
    reward : TargetedReward
    """

    def __init__(self, reward: TargetedReward) -> None:
        self.reward = reward

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Look at the newest round."""
        if self.reward.lost:
            control.should_training_stop = True
            control.should_evaluate = True
            control.should_save = True


class Bar(TrainerCallback):  # type: ignore[misc,valid-type]
    """A bar of the optimiser's steps, with the newest value on the select rows.

    Parameters
    ----------
    progress : bool or "lines", optional
        None: on a terminal only. "lines": a line on stderr for each evaluation, and no bar.
    label : str
    """

    def __init__(self, progress: Progress, label: str = "training") -> None:
        self.progress, self.label = progress, label
        self.bar: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Open."""
        if state.is_world_process_zero:
            self.bar = progress_bar(state.max_steps, "steps", self.progress, self.label)
            self.bar.update(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Go on."""
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any, **_: Any) -> None:
        """Say the newest value, with its interval and verdict."""
        if self.bar is None:
            return
        m = {key.removeprefix("eval_"): value for key, value in metrics.items()}
        said = f"V(f) {m['value']:.4g} [{m['lower']:.4g}, {m['upper']:.4g}], {m['verdict']}"
        self.bar.set_postfix_str(said)
        if self.progress == "lines":
            step = f"{state.global_step:,} of at most {state.max_steps:,} steps"
            print(f"{self.label}: {step}; select rows: {said}", file=sys.stderr, flush=True)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Close."""
        if self.bar is not None:
            self.bar.close()


def quiet(trainer: CausalPreferenceTrainer) -> None:
    """Without transformers' line for every log."""
    library = transformers()
    trainer.remove_callback(library.trainer_callback.PrinterCallback)
