"""A language model with a scalar head as reward: text in, trained under transformers' Trainer."""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from scipy import special

from causal_lm_opt.exceptions import NotIdentifiedError
from causal_lm_opt.lm._batching import MemoryLimit, plan_batches, run_batches
from causal_lm_opt.lm._encoding import Encoded, Encoder, Prompt
from causal_lm_opt.lm._loading import (
    Loading,
    check_counts,
    context_length,
    end_token,
    load_tokenizer,
    save_folder,
    transformers,
)
from causal_lm_opt.lm.policy import LanguageModelPolicy
from causal_lm_opt.rewards import _inputs as inputs
from causal_lm_opt.rewards._classifier import classifier_from, load_classifier
from causal_lm_opt.rewards._pair_trainer import PairCollator, PairRows, PairTrainer
from causal_lm_opt.rewards.losses import expected_accuracy

__all__ = ["LanguageModelReward"]

FloatArray = npt.NDArray[np.float64]


class LanguageModelReward:
    r"""A causal language model whose last token's state gives a reward: texts in, numbers out.

    The Bradley-Terry likelihood of `BradleyTerryReward`, with all of the model (or an adapter on
    it) as the encoder. Use it where pairs are many and a GPU is at hand; on few pairs a reward on
    frozen embeddings is better and a thousand times cheaper.

    Parameters
    ----------
    model : folder, hub name, LanguageModelPolicy, or model object
        A causal language model, which gets a fresh head, or a sequence classifier with one label,
        whose head is kept (so a saved reward predicts without `fit`). Names are loaded from
        safetensors only; objects are copied, so that a fit starts from what was given.
    tokenizer : folder, hub name or tokenizer, optional
        By default the one beside the model; needed with a model object.
    learning_rate, epochs, batch_size : float, int, int
        Of the default training settings; ``batch_size`` is in pairs, and in texts when predicting.
    args : transformers.TrainingArguments, optional
        All other settings of training (output folder, evaluation, precision, accumulation); it
        takes the place of the three above and of ``random_state``. With ``load_best_model_at_end``
        and ``metric_for_best_model="accuracy"`` the best epoch is kept.
    peft_config : peft configuration, optional
        Train an adapter (LoRA); `save` merges it.
    max_length : int, optional
        Longest prompt plus text in tokens; by default what the model was made for. Longer ones are
        an error.
    device : str or torch.device, optional
        Where a named model goes. Training takes the GPU where there is one, unless this is "cpu"
        or ``args`` says otherwise.
    random_state : int
        Of the fresh head and of the order of pairs.

    Attributes
    ----------
    model_ : transformers model
        With ``num_labels`` 1, in evaluation mode.
    history_ : list of dict
        The trainer's log.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError, OSError
        If arguments do not fit each other or a model cannot be found.

    Notes
    -----
    A text is the prompt's tokens, its own, and the end-of-text token, from which the reward is
    read (from the one before where the tokenizer pads with end of text); prompts may be
    conversations (see `LanguageModelPolicy`). Padding changes nothing but rounding. transformers'
    Trainer sets the global random seeds of Python and NumPy.

    Examples
    --------
    >>> from causal_lm_opt.lm import from_texts
    >>> good, bad = ["yes yes.", "yes."] * 8, ["no no.", "no."] * 8
    >>> start = from_texts(good + bad, epochs=0, vocab_size=260, n_layer=1, n_embd=16, n_head=1)
    >>> reward = LanguageModelReward(start, learning_rate=1e-2, epochs=4, batch_size=8)
    >>> reward.fit(good, bad).score(good, bad)
    1.0
    >>> reward.predict(["yes.", "no."]).shape
    (2,)
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        *,
        learning_rate: float = 1e-5,
        epochs: int = 1,
        batch_size: int = 16,
        args: Any = None,
        peft_config: Any = None,
        max_length: int | None = None,
        device: str | torch.device | None = None,
        random_state: int = 0,
    ) -> None:
        check_counts(epochs=epochs, batch_size=batch_size, max_length=max_length)
        self.learning_rate, self.epochs, self.batch_size = learning_rate, epochs, batch_size
        self.args, self.peft_config, self.random_state = args, peft_config, random_state
        self.device = None if device is None else str(device)
        self.history_: list[dict[str, Any]] = []
        if isinstance(model, LanguageModelPolicy):
            model, tokenizer = model.model, model.tokenizer if tokenizer is None else tokenizer
        loading = Loading(device=device)
        if isinstance(model, str | os.PathLike):
            self._start, self.has_head = load_classifier(model, loading, random_state)
            tokenizer = model if tokenizer is None else tokenizer
        else:
            if tokenizer is None:
                raise TypeError(
                    "a model object needs its tokenizer: LanguageModelReward(model, tok)."
                )
            self._start, self.has_head = classifier_from(model, random_state)
        if isinstance(tokenizer, str | os.PathLike):
            tokenizer = load_tokenizer(tokenizer, loading)
        self.tokenizer = tokenizer
        self.encoder = _encoder(self._start, tokenizer, max_length)
        if tokenizer.pad_token_id is None:
            self._start.config.pad_token_id = self.encoder.end_id
        else:
            self._start.config.pad_token_id = int(tokenizer.pad_token_id)
        if self.has_head:
            self.model_ = self._start.eval()

    # ------------------------------------------------------------------ learning
    def fit(
        self,
        chosen: Sequence[str],
        rejected: Sequence[str],
        *,
        prompts: Sequence[Prompt] | None = None,
        sample_weight: Any = None,
        label: Any = None,
        validation: Any = None,
        callbacks: list[Any] | None = None,
    ) -> Self:
        """Train on pairs, from the model that was given.

        Parameters
        ----------
        chosen, rejected : n texts each
        prompts : n prompts, optional
            Strings or conversations.
        sample_weight, label : (n,) arrays, optional
            As in `BradleyTerryReward.fit`.
        validation : (chosen, rejected) or mapping, optional
            Pairs that ``args.eval_strategy`` evaluates on (by default once, at the end); a mapping
            may also hold ``prompts``, ``sample_weight`` and ``label``.
        callbacks : list, optional
            Of transformers.

        Returns
        -------
        self
        """
        pairs = self._pairs(chosen, rejected, prompts, sample_weight, label)
        held = None
        if validation is not None:
            held = self._pairs(**_without_objective(inputs.as_validation(validation)))
        model = copy.deepcopy(self._start)
        if self.peft_config is not None:
            model = _with_adapter(model, self.peft_config)
        with tempfile.TemporaryDirectory() as folder:
            args = self._arguments(folder) if self.args is None else self.args
            trainer = PairTrainer(
                model=model, args=args, data_collator=PairCollator(self.encoder.end_id, model),
                train_dataset=pairs, eval_dataset=held, processing_class=self.tokenizer,
                callbacks=callbacks,
            )  # fmt: skip
            if self.args is None:  # the log is in history_
                trainer.remove_callback(transformers().trainer_callback.PrinterCallback)
            trainer.train()
            if held is not None and args.eval_strategy == "no":
                trainer.evaluate()
            self.history_ = [dict(line) for line in trainer.state.log_history]
        self.model_ = trainer.model.eval()
        return self

    def _arguments(self, folder: str) -> Any:
        """Settings of a plain run; nothing is reported or kept."""
        return transformers().TrainingArguments(
            folder, num_train_epochs=self.epochs, learning_rate=self.learning_rate,
            per_device_train_batch_size=self.batch_size,
            per_device_eval_batch_size=self.batch_size, seed=self.random_state,
            save_strategy="no", logging_strategy="epoch", report_to="none", disable_tqdm=True,
            remove_unused_columns=False, dataloader_pin_memory=False,
            use_cpu=self.device == "cpu" or not torch.cuda.is_available(),
        )  # fmt: skip

    def _pairs(
        self, chosen: Any, rejected: Any, prompts: Any = None, sample_weight: Any = None,
        label: Any = None,
    ) -> PairRows:  # fmt: skip
        first, second = self._encode(chosen, prompts), self._encode(rejected, prompts)
        n = len(first)
        if not n:
            raise ValueError("chosen is empty; at least one pair is needed.")
        inputs.check_rows(n, len(second), "rejected", "chosen")
        sums = inputs.coefficients(label, sample_weight, n)
        return PairRows(first, second, sums / sums[:, 0].mean())

    # ------------------------------------------------------------------ using it
    def predict(self, texts: Sequence[str], prompts: Sequence[Prompt] | None = None) -> FloatArray:
        """Reward of texts, (n,): the difference of two is the logit of a preference.

        Raises
        ------
        NotIdentifiedError
            Before `fit`, where the model came without a trained head.
        """
        if not hasattr(self, "model_"):
            raise NotIdentifiedError(
                "this LanguageModelReward is not fitted, and its model has no trained head: call "
                "fit first."
            )
        rows = self._encode(texts, prompts)
        collate = PairCollator(self.encoder.end_id, self.model_)
        lengths = [len(row) for row in rows]
        batches = plan_batches(
            lengths, max_tokens=self.batch_size * max(lengths, default=1), max_rows=self.batch_size
        )

        def compute(at: Any) -> Any:
            with torch.inference_mode():
                batch = collate.texts([rows[i] for i in at])
                given = {k: v.to(self.model_.device) for k, v in batch.items()}
                return self.model_(**given).logits[:, 0].double().cpu().numpy()

        out = np.empty(len(rows))
        for at, part in run_batches(batches, lengths, compute, MemoryLimit()):
            out[at] = part
        return out

    def predict_proba(
        self,
        chosen: Sequence[str],
        rejected: Sequence[str],
        prompts: Sequence[Prompt] | None = None,
    ) -> FloatArray:
        """Probability that ``chosen`` beats ``rejected``, (n,)."""
        return np.asarray(special.expit(self._gap(chosen, rejected, prompts)))

    def score(
        self,
        chosen: Sequence[str],
        rejected: Sequence[str],
        prompts: Sequence[Prompt] | None = None,
        sample_weight: Any = None,
        label: Any = None,
    ) -> float:
        """Share of labels told right, ties counting half."""
        gap = self._gap(chosen, rejected, prompts)
        right = expected_accuracy(gap, inputs.check_label(label, len(gap)))
        return float(np.average(right, weights=inputs.check_weight(sample_weight, len(gap))))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write model and tokenizer as a Hugging Face folder (safetensors), adapters merged.

        ``LanguageModelReward(folder)`` reads it, and so does
        ``AutoModelForSequenceClassification``.

        Raises
        ------
        FileExistsError
            If the folder exists and is not empty.
        """
        if not hasattr(self, "model_"):
            raise NotIdentifiedError("this LanguageModelReward is not fitted: call fit first.")
        model = self.model_
        if hasattr(model, "merge_and_unload"):
            model = copy.deepcopy(model).merge_and_unload()
        save_folder(model, self.tokenizer, folder)

    def _gap(self, chosen: Any, rejected: Any, prompts: Any) -> FloatArray:
        first, second = self.predict(chosen, prompts), self.predict(rejected, prompts)
        inputs.check_rows(len(first), len(second), "rejected", "chosen")
        return first - second

    def _encode(self, texts: Any, prompts: Any) -> list[Encoded]:
        return self.encoder.rows(texts, prompts, eos=True)


# ------------------------------------------------------------------------------ helpers
def _encoder(model: Any, tokenizer: Any, max_length: int | None) -> Encoder:
    """How texts become tokens. The end token is read, so it needs a place of its own."""
    end = end_token(tokenizer, None)
    start = tokenizer.bos_token_id
    places = context_length(model) if max_length is None else max_length
    limit = None if places is None else places - 1
    return Encoder(tokenizer, end if start is None else int(start), end, limit)


def _with_adapter(model: Any, peft_config: Any) -> Any:
    """The model with a fresh adapter, its head trained along."""
    try:
        import peft
    except ModuleNotFoundError as error:
        raise ImportError(
            "peft_config needs peft: pip install 'causal_lm_opt[lm]'", name="peft"
        ) from error
    if getattr(peft_config, "task_type", None) is None:
        peft_config = copy.copy(peft_config)
        peft_config.task_type = "SEQ_CLS"
    return peft.get_peft_model(model, peft_config)


def _without_objective(given: dict[str, Any]) -> dict[str, Any]:
    if given.pop("objective", None) is not None:
        raise ValueError("validation has an objective, which this model does not take.")
    return given
