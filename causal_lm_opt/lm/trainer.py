"""Training on outcomes under transformers' own Trainer.

The trainer is thin: the loss is an objective's (:mod:`causal_lm_opt.lm.objectives`), everything
else (optimisers, schedules, accumulation, DDP, mixed precision, callbacks) is `transformers`'.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from causal_lm_opt._training_rows import TrainingRows, write_training_rows
from causal_lm_opt.lm._atomic_trainer import AtomicTrainer
from causal_lm_opt.lm._collator import Collator, EncodedRows, Examples, as_batch, read_examples
from causal_lm_opt.lm._encoding import Encoded
from causal_lm_opt.lm._loading import missing_weights, without_bars
from causal_lm_opt.lm._model_card import model_card
from causal_lm_opt.lm._rounds import Reward
from causal_lm_opt.lm._sampler import FullBatchSampler
from causal_lm_opt.lm._scorer import Scorer, without_adapter
from causal_lm_opt.lm._trainer_config import CausalPreferenceConfig
from causal_lm_opt.lm._trainer_parts import (
    Evaluator,
    ObjectiveSteps,
    check_arguments,
    copy_of,
    empty_columns,
    on_first,
    opened,
    rounds_of,
)
from causal_lm_opt.lm.objectives import (
    Columns,
    IPWObjective,
    LikelihoodObjective,
    Objective,
    OnPolicyObjective,
)
from causal_lm_opt.lm.policy import LanguageModelPolicy

__all__ = ["CausalPreferenceConfig", "CausalPreferenceTrainer"]

STATE = "objective.safetensors"
ONE_SIDED = 1.6448536269514722  # lower 95 % limit


class CausalPreferenceTrainer(AtomicTrainer):
    """Train a causal language model to raise an outcome that people reported on logged texts.

    Parameters
    ----------
    model : folder, hub name or model object
        Where training starts: best the model fine-tuned on the logged texts.
    objective : Objective
        `IPWObjective` (CPO), `OutcomeRegressionObjective`, `DoublyRobustObjective` (DR-CPO),
        `LikelihoodObjective` or `OnPolicyObjective`.
    args : CausalPreferenceConfig
    train_dataset : datasets.Dataset, DataFrame, mapping of columns or list of rows
        Columns as in TRL, ``prompt`` (optional) and ``completion``, as text or conversation, plus
        ``outcome``. Optional: ``logp_logging``, natural log-probability under the policy that wrote
        the text (default: that of the reference model); ``logp_reference``; ``prediction`` of the
        outcome by a model that did not see the row; ``fold``. The second sample may be in columns
        ``target_completion``, ``target_prediction``, ``target_logp_sampling``: a text or a list
        of texts for each row's prompt. On-policy: ``prompt`` only, or None.
    target_dataset : the same kinds, optional
        The second sample, draws of a sampling policy: ``prompt``, ``completion``, ``prediction``
        (one number, or one per fold), ``logp_sampling`` (default: the reference model's).
    eval_dataset, eval_target_dataset : optional
        Other rows, on which `evaluate` values the policy.
    processing_class : tokenizer, optional
        By default the one that lies beside the model.
    eval_objective : Objective, optional
        What `evaluate` estimates; by default the objective, or `IPWObjective` where the objective
        is no value of logged rows.
    evaluator : callable, optional
        ``evaluator(policy, step) -> mapping of figures``, in the place of evaluation rows: what
        `evaluate` logs, and what ``metric_for_best_model`` and early stopping go by. Called on the
        first process.
    reward : callable, optional
        On-policy: ``reward(texts, prompts) -> numbers``.
    reference_model : model object, optional
        Reference of the KL; by default the model as it was at the start, with a PEFT adapter the
        model without it.
    peft_config : peft configuration, optional
        Train an adapter (LoRA).
    callbacks, optimizers
        As for `transformers.Trainer`.

    Attributes
    ----------
    objective : Objective
        With its state.
    policy : LanguageModelPolicy
        The model being trained, to score and to draw.
    stopped_because : str or None
        How the trust region was left, where training stopped for that.

    Raises
    ------
    NotIdentifiedError
        If the objective needs a column or sample that is not there.
    DataError, TypeError, ValueError
        If rows cannot be read, or settings do not fit each other.

    Notes
    -----
    Not TRL's ``CPOTrainer``, which is contrastive preference optimisation.

    *Batches* are full and global: those of two processes, or of accumulation, are those of one.
    *State*: the objective's normaliser and centre are those of all rows, from each row's latest
    log-probability; ``refresh="epoch"`` in the settings brings it up to date. Between refreshes
    it lags: in a first epoch of a tiny model's fast training the effective sample size was told as
    .17 where all rows scored at once gave .014. Floors on it act late; held-out evaluations, which
    score all their rows, do not lag.
    *Logs* of every step: raw effective sample size (a share), sd of the log ratio, share clipped,
    KL to the reference, gradient norm, before any transform.
    *Checkpoints* are renamed into place when complete; ``train(resume_from_checkpoint=True)``
    resumes from the newest complete one, ``"auto"`` begins anew where there is none.
    *Assumptions* are the objective's. Value a trained policy on rows that had no part in training.

    Examples
    --------
    >>> import tempfile
    >>> from causal_lm_opt.lm import from_texts
    >>> texts = ["Join us today.", "Join us.", "Stay at home."] * 4
    >>> start = from_texts(texts, epochs=0, vocab_size=280, n_layer=1, n_embd=16, n_head=1)
    >>> log = {"completion": texts, "outcome": [1.0, 0.5, 0.0] * 4}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     args = CausalPreferenceConfig(
    ...         folder, max_steps=2, use_cpu=True, report_to="none", save_strategy="no",
    ...         disable_tqdm=True, logging_strategy="no", dataloader_pin_memory=False,
    ...     )
    ...     trainer = CausalPreferenceTrainer(
    ...         start.model, IPWObjective(kl=0.1), args, log, processing_class=start.tokenizer
    ...     )
    ...     trainer.train().global_step
    {...}
    2
    >>> trainer.policy.log_prob(["Join us."]).shape
    (1,)
    """

    model_accepts_loss_kwargs = False
    control: Any  # of transformers, which has no types here

    def __init__(
        self,
        model: Any,
        objective: Objective,
        args: CausalPreferenceConfig | None = None,
        train_dataset: Any = None,
        target_dataset: Any = None,
        eval_dataset: Any = None,
        eval_target_dataset: Any = None,
        processing_class: Any = None,
        *,
        eval_objective: Objective | None = None,
        evaluator: Evaluator | None = None,
        reward: Reward | None = None,
        reference_model: Any = None,
        peft_config: Any = None,
        callbacks: list[Any] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
    ) -> None:
        args = CausalPreferenceConfig("causal_preference") if args is None else args
        check_arguments(objective, args, reward)
        model, tokenizer = opened(model, processing_class, peft_config, args)
        self.policy = LanguageModelPolicy(
            model, tokenizer, max_length=args.max_length, eos_token=args.eos_token, name="trained"
        )
        self.objective, self.reference_model = objective, reference_model
        self.rounds = None if reward is None else rounds_of(train_dataset, reward, args)
        rows = self._begin_rows(train_dataset, target_dataset, args)
        self.eval_objective, self._eval_rows = self._for_evaluation(
            eval_dataset, eval_target_dataset, eval_objective, args
        )
        if evaluator is not None and self.eval_objective is not None:
            raise ValueError("evaluation goes by evaluator or by eval_dataset, not by both.")
        self.evaluator = evaluator
        self.stopped_because: str | None = None
        pad = tokenizer.pad_token_id
        pad = self.policy.encoder.end_id if pad is None else int(pad)
        super().__init__(
            model=model, args=args, data_collator=Collator(pad), train_dataset=EncodedRows(rows),
            eval_dataset=EncodedRows(self._eval_rows) if self._eval_rows or evaluator else None,
            processing_class=tokenizer, callbacks=[ObjectiveSteps(self), *(callbacks or [])],
            optimizers=optimizers,
        )  # fmt: skip
        if args.n_gpu > 1:
            raise ValueError(
                "several GPUs in one process: start with torchrun, a process for each."
            )
        self.model_accepts_loss_kwargs = False
        self.scorer = Scorer(
            self.accelerator.unwrap_model, self.accelerator.autocast, pad_id=pad,
            rows=args.per_device_eval_batch_size,
        )  # fmt: skip
        for module in (self.objective, self.eval_objective, self.reference_model):
            if isinstance(module, nn.Module):
                module.to(args.device)

    # ------------------------------------------------------------------ rows
    def _begin_rows(self, data: Any, target: Any, args: CausalPreferenceConfig) -> list[Encoded]:
        """Rows to train on, handed to the objective; those of a round are not known yet."""
        objective, model = self.objective, self.policy.model
        if self.rounds is None:
            examples = self._read(data, target, objective, args, "train_dataset")
            used = np.ones(len(examples.logged), dtype=bool)
            own = TrainingRows.of(examples.logged, used, prompts=examples.prompts)
            self.policy.training_rows += (own,) * bool(used.size)
            objective.begin(examples.columns)
            return examples.rows
        objective.begin([empty_columns(args.round_size)])
        needed = objective.kl or objective.kl_limit is not None
        if needed and self.reference_model is None and not hasattr(model, "disable_adapter"):
            self.reference_model = copy.deepcopy(model).eval()
        return [Encoded((self.policy.encoder.start_id,), ())] * args.round_size

    def _read(
        self, data: Any, target: Any, objective: Objective, args: CausalPreferenceConfig, name: str
    ) -> Examples:
        return read_examples(data, target, objective, self.policy.encoder, eos=args.eos, name=name)

    def _for_evaluation(
        self, data: Any, target: Any, objective: Objective | None, args: CausalPreferenceConfig
    ) -> tuple[Objective | None, list[Encoded]]:
        if data is None and target is None:
            return None, []
        if objective is None:
            no_value = isinstance(self.objective, OnPolicyObjective | LikelihoodObjective)
            objective = IPWObjective() if no_value else copy_of(self.objective)
        examples = self._read(data, target, objective, args, "eval_dataset")
        objective.begin(examples.columns)
        return objective, examples.rows

    def _get_train_sampler(self, train_dataset: Any = None) -> FullBatchSampler:
        batch = self.get_total_train_batch_size(self.args)
        sampler: FullBatchSampler = FullBatchSampler(
            self.objective.sizes, batch,
            seed=self.args.seed if self.args.data_seed is None else self.args.data_seed,
            epoch=lambda: self.state.global_step // sampler.steps,
            passes=1 if self.rounds is None else self.args.round_passes,
        )  # fmt: skip
        if self.rounds is not None and len(sampler) != self.args.round_passes * sampler.rows:
            raise ValueError(
                f"round_size * round_passes = {self.args.round_passes * sampler.rows} must be a "
                f"multiple of the global batch of {batch} rows."
            )
        self.sampler = sampler
        return sampler

    # ------------------------------------------------------------------ the loss
    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:  # fmt: skip
        """Minus the objective's value on the batch."""
        logp = self.scorer.log_prob(model, as_batch(inputs))
        loss = -self.objective(logp, inputs["rows"])
        return (loss, {"log_prob": logp}) if return_outputs else loss

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """A micro-batch; after the step's last one its rows become the objective's state."""
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        if self.accelerator.sync_gradients:
            self.objective.commit()
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As transformers', with the objective's diagnostics at every training step."""
        if "loss" in logs and self.objective.ready:
            logs |= self.objective.diagnostics()
        super().log(logs, start_time)

    # ------------------------------------------------------------------ the objective's state
    def begin_objective(self) -> None:
        """Score all rows under the model and the reference, where the state is not known yet."""
        self.stopped_because = None
        if self.restored:
            self.find_best()
        if self.rounds is None and not self.restored:
            self._bring_up(self.objective, self.train_dataset.rows)
        if self.eval_objective is not None and not self.eval_objective.ready:
            self._bring_up(self.eval_objective, self._eval_rows)

    def begin_epoch(self) -> None:
        """A new round of draws, or the state brought up to date, as the settings say."""
        steps = self.sampler.steps
        inside = self.state.global_step % steps != 0
        if self.rounds is not None:
            if not (self.restored and inside):
                self._new_round(self.state.global_step // steps)
        elif self.args.refresh == "epoch" and self.state.global_step and not inside:
            rows = self.train_dataset.rows
            self.objective.refresh(self.scorer.all_rows(self.model_wrapped, rows))
        self.restored = False

    def _new_round(self, number: int) -> None:
        assert self.rounds is not None
        rows, rewards = self.rounds.draw(self.policy, number)
        self.train_dataset.rows = rows
        unknown = torch.full_like(rewards, torch.nan)
        current = self.scorer.all_rows(self.model_wrapped, rows)
        rewards, unknown = rewards.to(current.device), unknown.to(current.device)
        reference = self._reference_log_prob(rows, current)
        self.objective.begin([Columns(rewards, current, reference)])
        self.objective.refresh(current)

    def _bring_up(self, objective: Objective, rows: list[Encoded]) -> None:
        current = self.scorer.all_rows(self.model_wrapped, rows)
        objective.fill(self._reference_log_prob(rows, current))
        objective.refresh(current)

    def _reference_log_prob(self, rows: list[Encoded], current: Tensor) -> Tensor:
        if self.reference_model is not None:
            own = self.scorer  # another model may have another head
            scorer = Scorer(own.unwrap, own.autocast, pad_id=own.pad_id, rows=own.rows)
            return scorer.all_rows(self.reference_model, rows)
        inner = self.accelerator.unwrap_model(self.model_wrapped)
        if not hasattr(inner, "disable_adapter"):
            return current
        with without_adapter(inner):
            return self.scorer.all_rows(self.model_wrapped, rows)

    # ------------------------------------------------------------------ evaluation
    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:  # fmt: skip
        """Value of the policy on the evaluation rows: estimate, standard error, lower limit.

        ``eval_lower`` is the lower end of a one-sided 95 % interval: what to stop on and to choose
        a checkpoint by (``metric_for_best_model="lower"``).

        Raises
        ------
        ValueError
            If there are no evaluation rows, or others are given than at the start.
        """
        if eval_dataset is not None and eval_dataset is not self.eval_dataset:
            raise ValueError("give eval_dataset when the trainer is made: its rows keep a state.")
        if self.evaluator is not None:
            evaluator, step = self.evaluator, self.state.global_step
            found = on_first(lambda: dict(evaluator(self.policy, step)))
        else:
            found = self._value_of_rows()
        metrics = {f"{metric_key_prefix}_{key}": x for key, x in found.items()}
        self.log(metrics)
        control: Any = self.control
        self.control = self.callback_handler.on_evaluate(self.args, self.state, control, metrics)
        return metrics

    def _value_of_rows(self) -> dict[str, float]:
        if self.eval_objective is None:
            raise ValueError("evaluate needs eval_dataset (and eval_target_dataset) at the start.")
        if not self.eval_objective.ready:
            self._bring_up(self.eval_objective, self._eval_rows)
        self.eval_objective.refresh(self.scorer.all_rows(self.model_wrapped, self._eval_rows))
        value, se = self.eval_objective.value()
        found = self.eval_objective.diagnostics()
        return found | {"value": value, "value_se": se, "lower": value - ONE_SIDED * se}

    # ------------------------------------------------------------------ files
    def write_extra(self, folder: Path) -> None:
        """The objectives' state, and the texts of the round, beside the model."""
        from safetensors.torch import save_file

        tensors = {f"train.{k}": v for k, v in self.objective.state_dict().items()}
        if self.eval_objective is not None:
            tensors |= {f"eval.{k}": v for k, v in self.eval_objective.state_dict().items()}
        save_file({k: v.cpu().contiguous() for k, v in tensors.items()}, folder / STATE)
        if self.rounds is not None:
            self.rounds.save(folder)

    def read_extra(self, folder: Path) -> None:
        """What `write_extra` wrote.

        Raises
        ------
        ValueError
            If it is not there, or belongs to other rows.
        """
        from safetensors.torch import load_file

        if not (folder / STATE).is_file():
            raise ValueError(f"{folder / STATE} is missing: the checkpoint is not of this trainer.")
        tensors = load_file(folder / STATE)
        for name, objective in (("train.", self.objective), ("eval.", self.eval_objective)):
            own = {k.removeprefix(name): v for k, v in tensors.items() if k.startswith(name)}
            if objective is not None and own:
                objective.load_buffers(own)
        if self.rounds is not None:
            self.train_dataset.rows = self.rounds.load(folder)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """As transformers', but a weight that is tied to one that was read is not missing."""
        missing = missing_weights(self.model, load_result.missing_keys)
        super()._issue_warnings_after_load(load_result._replace(missing_keys=missing))

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write model, tokenizer, a model card, and keys of the logged rows that trained it.

        By ``training_rows.json`` ``evaluate`` knows those rows and leaves them out.
        """
        with without_bars():
            super().save_model(output_dir, _internal_call)
        if self.args.should_save:
            folder = Path(output_dir or self.args.output_dir)
            text = model_card(self.objective.label, self.objective.sizes, self.state.log_history)
            (folder / "README.md").write_text(text, encoding="utf-8")
            write_training_rows(folder, self.policy.training_rows)
