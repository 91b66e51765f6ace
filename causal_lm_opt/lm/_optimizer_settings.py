"""Settings of the optimiser: checked, handed to its trainer, and what they decide at the end."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from causal_lm_opt.diagnostics.unmet import WITHOUT
from causal_lm_opt.diagnostics.verdict import CLOSER
from causal_lm_opt.lm._heldout import CLOSE, RATIOS
from causal_lm_opt.lm._loading import check_counts
from causal_lm_opt.lm._optimizer_files import nearer_checkpoints
from causal_lm_opt.lm._optimizer_rows import LEAST_CLUSTERS, LEAST_ROWS
from causal_lm_opt.lm._optimizer_steps import BETWEEN, check_monitor, make_objective, on_gpu
from causal_lm_opt.lm.objectives import Objective, OnPolicyObjective
from causal_lm_opt.lm.trainer import CausalPreferenceConfig

if TYPE_CHECKING:
    from causal_lm_opt.estimate import ValueEstimate
    from causal_lm_opt.lm.optimizer import CausalLMOptimizer
    from causal_lm_opt.lm.policy import LanguageModelPolicy

__all__ = ["check_settings", "decide", "on_policy", "trainer_settings"]

SMALL = 20_000_000  # parameters, below which ten times the learning rate is borne
#: Settings of the trainer that are the optimiser's, and its own names for them.
OWN = {
    "output_dir": "out", "max_steps": "steps", "num_train_epochs": "steps",
    "per_device_train_batch_size": "batch_size", "seed": "random_state",
    "learning_rate": "learning_rate", "round_size": "round_size", "round_passes": "round_passes",
    "max_new_tokens": "max_new_tokens", "eval_steps": "eval_every", "eval_strategy": "",
    "save_strategy": "", "save_steps": "eval_every", "save_total_limit": "",
    "load_best_model_at_end": "", "metric_for_best_model": "", "greater_is_better": "",
    "restore_callback_states_from_checkpoint": "", "save_only_model": "",
}  # fmt: skip


def check_settings(run: CausalLMOptimizer) -> None:
    """``ValueError`` for settings that make no sense, alone or together."""
    check_counts(
        steps=run.steps, batch_size=run.batch_size, round_size=run.round_size,
        round_passes=run.round_passes, eval_every=run.eval_every, patience=run.patience,
        n_draws=run.n_draws, max_new_tokens=run.max_new_tokens,
    )  # fmt: skip
    if run.choose not in ("lower", "last"):
        raise ValueError(f"choose must be 'lower' or 'last', got {run.choose!r}.")
    if run.ratio not in RATIOS:
        raise ValueError(f"ratio must be one of {list(RATIOS)}, got {run.ratio!r}.")
    for name, least in (("random_state", 0), ("fine_tune_epochs", 0), ("cv", 2)):
        value = getattr(run, name)
        optional = name == "fine_tune_epochs" and value is None
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not optional and not (whole and value >= least):
            raise ValueError(f"{name} must be an integer >= {least}, got {value!r}.")
    _check_training(run)
    if not 0 <= run.ess_floor < 1 or not 0 < run.level < 1:
        raise ValueError(
            f"ess_floor and level must be shares, got {run.ess_floor!r} and {run.level!r}."
        )
    check_monitor(run.monitor)
    if run.tilt is not None and not run.tilt > 0:
        raise ValueError(f"tilt must be a positive number or None, got {run.tilt!r}.")
    make_objective(run.objective, run.kl, run.entropy)


def _check_training(run: CausalLMOptimizer) -> None:
    """Other settings of the trainer: known names, and none that is set here."""
    known = {f.name for f in dataclasses.fields(CausalPreferenceConfig)}
    for key in run.training:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise ValueError(f"training: {key!r} is no setting of CausalPreferenceConfig{hint}")
        if key in OWN:
            raise ValueError(
                f"training: {key!r} is the optimiser's own"
                + (f"; use {OWN[key]}=." if OWN[key] else ", which its choice rests on.")
            )
    if isinstance(run.objective, Objective) and (run.kl or run.entropy):
        raise ValueError("kl and entropy belong to the objective given: set them there.")
    rows = run.round_size * run.round_passes
    if on_policy(run) and rows % run.batch_size:
        raise ValueError(
            f"round_size * round_passes = {rows} must be a multiple of batch_size={run.batch_size}."
        )


def on_policy(run: CausalLMOptimizer) -> bool:
    """Whether training draws its own texts."""
    return run.objective == "targeted" or isinstance(run.objective, OnPolicyObjective)


def trainer_settings(
    run: CausalLMOptimizer, folder: Path, model: LanguageModelPolicy | str
) -> dict[str, Any]:
    """Settings of every trainer of the run, for the policy (or "tiny") that is trained."""
    small = isinstance(model, str) or _size(model) < SMALL
    rate = 1e-4 if small or run.peft_config is not None else 1e-5
    every = run.eval_every
    if every is None:
        round_steps = max(1, run.round_size * run.round_passes // run.batch_size)
        every = round_steps if on_policy(run) else max(1, run.steps // 8)
    return {
        "output_dir": str(folder), "per_device_train_batch_size": run.batch_size,
        "max_steps": run.steps, "seed": run.random_state, "lr_scheduler_type": "constant",
        "learning_rate": rate if run.learning_rate is None else run.learning_rate,
        "eval_strategy": "steps", "eval_steps": every, "save_strategy": "steps",
        "save_steps": every, "save_total_limit": 1,
        "load_best_model_at_end": run.choose == "lower",
        "metric_for_best_model": "eval_score", "greater_is_better": True,
        "restore_callback_states_from_checkpoint": True, "report_to": "none",
        "dataloader_pin_memory": on_gpu(), "disable_tqdm": True,
        "round_size": run.round_size, "round_passes": run.round_passes, **run.training,
    }  # fmt: skip


def _size(policy: LanguageModelPolicy) -> int:
    """Parameters of the model."""
    return sum(int(p.numel()) for p in policy.model.parameters())


def _last_reason(run: CausalLMOptimizer) -> str:
    """Where training ended, and why its last checkpoint was refused."""
    if run.history_.empty:
        done = int(run.steps_["step"].max()) if len(run.steps_) else 0
        return (
            f" Training stopped after {done} of {run.steps} steps, before the first evaluation, at "
            "the objective's trust region (ess_floor, kl_limit): evaluate more often (eval_every), "
            "take smaller steps (learning_rate), or train on more rows."
        )
    last = run.history_.iloc[-1]
    early = f" Training stopped at step {int(last['step'])} of {run.steps}."
    gravest, _, more = str(last.get("why") or "").partition(BETWEEN)
    others = f" ({more.count(BETWEEN) + 1} more in history_, column why.)" if more else ""
    refused = f" The last was refused: {gravest}{others}" if gravest else ""
    return (early if last["step"] < run.steps else "") + refused


def decide(
    run: CausalLMOptimizer, values: Mapping[str, ValueEstimate], step: int
) -> tuple[bool, str]:
    """Whether the trained policy is returned, and why.

    Parameters
    ----------
    values : mapping
        "difference" and "start", and "trained" where a checkpoint was eligible.
    """
    if "trained" not in values:
        return False, (
            "policy_ is the start: on the select rows no checkpoint had a verdict other than "
            f"'do not use' and an effective sample size of {run.ess_floor:.0%} of the rows."
            f"{_last_reason(run)}"
        )
    difference = values["difference"]
    lower, verdict = float(difference.confint(run.level)[0]), difference.verdicts[0]
    if not run.safe:
        return True, f"policy_ is the checkpoint of step {step} (safe=False: not tested)."
    if verdict.level == "do not use":
        return (
            False,
            f"policy_ is the start: the report rows cannot value {_lost(run, values, step)}",
        )
    few = _too_few(values["trained"])
    if few:
        return False, f"policy_ is the start: {few}"
    if not lower > 0:
        return False, (
            "policy_ is the start: on the report rows the lower limit of V(f) - V(f0) is "
            f"{lower:.3g}, not above 0."
        )
    return True, (
        f"policy_ is the checkpoint of step {step}: on the report rows V(f) - V(f0) is above "
        f"{lower:.3g} ({run.level:.0%} interval; verdict: {verdict.level})."
    )


def _lost(run: CausalLMOptimizer, values: Mapping[str, ValueEstimate], step: int) -> str:
    """Which policy cannot be valued, the gravest reason, and what to do."""
    trained, start = (values[name].verdicts[0] for name in ("trained", "start"))
    if trained.level != "do not use" and start.level == "do not use":
        return (
            f"the start, so that no gain over it is known: {start.reasons[0]} A start that writes "
            "as the log does can be valued: fine-tune it on more of the log's texts, or for more "
            "fine_tune_epochs."
        )
    gravest = trained if trained.level == "do not use" else values["difference"].verdicts[0]
    said = f"the trained policy: {gravest.reasons[0]}"
    far = gravest.reasons[0].endswith((CLOSER, WITHOUT))  # else a nearer policy has the same fault
    return said + nearer_checkpoints(run.history_, step, CLOSE) * far


def _too_few(trained: ValueEstimate) -> str:
    """Why the report rows are too few to accept anything; empty where they are not.

    A part of the log has at least so many rows and clusters; what its weights leave needs them too.
    """
    figures = trained.diagnostics[0]
    rows, units = (float(figures.get(name) or math.nan) for name in ("ess", "clusters"))
    if not (rows < LEAST_ROWS or units < LEAST_CLUSTERS):
        return ""
    worth = f"{rows:.0f} rows" + (f" in {units:.0f} independent units" * math.isfinite(units))
    return (
        f"under its weights the report rows are worth {worth}, and nothing is accepted on fewer "
        f"than {LEAST_ROWS} rows in {LEAST_CLUSTERS}. Log more texts, or stay nearer to the log "
        "(a larger ess_floor)."
    )
