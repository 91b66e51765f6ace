"""Settings of `CausalPreferenceTrainer`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from causal_lm_opt.lm._loading import check_counts, transformers

TrainingArguments = transformers().TrainingArguments

__all__ = ["CausalPreferenceConfig"]


@dataclass
class CausalPreferenceConfig(TrainingArguments):  # type: ignore[misc,valid-type]
    """Settings of a training run: those of `transformers.TrainingArguments`, and a few more.

    What is estimated, and penalties, belong to the objective.

    Parameters
    ----------
    max_length : int, optional
        Longest prompt plus completion in tokens; by default what the model was made for. Longer
        rows are an error: a text cut short has another probability.
    eos : bool, default True
        Whether a completion ends with the end-of-text token, whose probability counts.
    eos_token : str, optional
        The token that closes a text, by default the tokenizer's.
    disable_dropout : bool, default True
        Train without dropout: it would put noise on every log ratio, so that weights say less of
        the policy than of the masks drawn.
    refresh : {"start", "epoch"}, default "start"
        When all rows are scored to bring the objective's state up to date: once, or before every
        epoch, which costs a forward pass over the data and takes the bias of stale state away.
    round_size, round_passes : int
        On-policy: texts drawn in a round, and how often a round's texts are gone through.
    max_new_tokens : int, default 64
        On-policy: most tokens of a draw.

    Notes
    -----
    Other defaults than the parent's: ``logging_steps=1`` (every step tells the raw effective sample
    size), ``remove_unused_columns=False``.

    *FSDP*: ``fsdp`` and ``fsdp_config`` as for the parent, but not on-policy. On CPUs accelerate
    takes DDP in its place; so what is tested on two processes is the scorer and the objective on a
    model sharded by torch's ``fully_shard`` (losses equal to one process's), not the whole trainer,
    which nobody has run sharded on GPUs yet.

    Examples
    --------
    >>> config = CausalPreferenceConfig("runs", use_cpu=True, max_length=128, refresh="epoch")
    >>> config.logging_steps, config.eos
    (1, True)
    """

    remove_unused_columns: bool = field(default=False)
    logging_steps: float = field(default=1)
    max_length: int | None = field(default=None)
    eos: bool = field(default=True)
    eos_token: str | None = field(default=None)
    disable_dropout: bool = field(default=True)
    refresh: Literal["start", "epoch"] = field(default="start")
    round_size: int = field(default=64)
    round_passes: int = field(default=1)
    max_new_tokens: int = field(default=64)

    def __post_init__(self) -> None:
        check_counts(
            max_length=self.max_length, round_size=self.round_size,
            round_passes=self.round_passes, max_new_tokens=self.max_new_tokens,
        )  # fmt: skip
        if self.refresh not in ("start", "epoch"):
            raise ValueError(f'refresh must be "start" or "epoch", got {self.refresh!r}.')
        if self.remove_unused_columns:
            raise ValueError("remove_unused_columns must be False: rows are told by their number.")
        if getattr(self, "train_sampling_strategy", "random") != "random":
            raise ValueError(
                "train_sampling_strategy must be 'random': batches are the trainer's own, full and "
                "the same for any number of processes."
            )
        super().__post_init__()
