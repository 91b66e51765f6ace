"""A model at work: batches scored and drawn, in as much memory as there is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from causal_lm_opt.lm._batching import MemoryLimit, Rows, plan_batches, run_batches
from causal_lm_opt.lm._decoding import Decoding
from causal_lm_opt.lm._encoding import Encoded
from causal_lm_opt.lm._forward import NAN, Head, checked_head, evaluating, token_log_prob
from causal_lm_opt.lm._sampling import DrawnTokens, draw_tokens
from causal_lm_opt.lm.sequence import PaddingSide, pad_batch, spread

__all__ = ["Engine", "progress_bar"]

Float = NDArray[np.float64]
#: Tokens of a batch, padding included, unless the caller says otherwise.
CPU_TOKENS, GPU_TOKENS = 2048, 16384
#: Drawing holds no hidden states of the past, only keys and values: more rows fit.
DRAWING = 4
DRAWING_BYTES = 2**28


@dataclass
class Engine:
    """A model and how it is fed.

    Attributes
    ----------
    model : causal language model of transformers, or a PEFT wrapper of one
    batch_tokens, batch_size : int, optional
        Most tokens (by default what suits the device) and rows of a batch.
    padding_side : {"right", "left"}
    progress : bool, optional
        A bar on stderr; None: on a terminal only.
    label : str
        Put before the bar.
    """

    model: Any
    batch_tokens: int | None = None
    batch_size: int | None = None
    padding_side: PaddingSide = "right"
    progress: bool | None = None
    label: str = ""
    head: Head | None = None
    memory: MemoryLimit = field(default_factory=MemoryLimit)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return torch.device(self.model.device)

    @property
    def tokens(self) -> int:
        """Most tokens of a batch."""
        return self.batch_tokens or (CPU_TOKENS if self.device.type == "cpu" else GPU_TOKENS)

    # ------------------------------------------------------------------ scores
    def score(
        self, rows: Sequence[Encoded], decoding: Decoding, keep: Callable[[Encoded, Float], None]
    ) -> None:
        """Hand the token log-probabilities (T_i,) of every row to ``keep``, batch by batch."""
        for row in rows:
            if not row.completion:  # the empty beginning is sure
                keep(row, np.zeros(0))
        rows = [row for row in rows if row.completion]
        lengths = [len(row) for row in rows]
        batches = plan_batches(lengths, max_tokens=self.tokens, max_rows=self.batch_size)

        def compute(at: Rows) -> list[Float]:
            return self._score_batch([rows[i] for i in at], decoding)

        with (
            evaluating(self.model),
            torch.inference_mode(),
            self._bar(sum(lengths), "tokens scored") as bar,
        ):
            for at, scores in run_batches(batches, lengths, compute, self.memory):
                for i, score in zip(at, scores, strict=True):
                    keep(rows[i], score)
                bar.update(sum(lengths[i] for i in at))

    def _score_batch(self, rows: list[Encoded], decoding: Decoding) -> list[Float]:
        batch = pad_batch(
            [row.context for row in rows], [row.completion for row in rows], side=self.padding_side
        )
        on_device = batch.to(self.device)
        if self.head is None:
            self.head = checked_head(self.model, on_device)
        found = token_log_prob(self.model, on_device, self.head, decoding=decoding).cpu().double()
        if bool(torch.isnan(found).any()):
            raise ValueError(NAN)
        table, mask = spread(found, batch.target_mask).numpy(), batch.target_mask.numpy()
        return [table[i][mask[i]] for i in range(len(rows))]

    # ------------------------------------------------------------------ draws
    def draw(
        self,
        contexts: Sequence[tuple[int, ...]],
        limits: Sequence[int],
        seeds: Sequence[int],
        decoding: Decoding,
        end_id: int,
    ) -> list[DrawnTokens]:
        """One completion per context, in the order given; see `draw_tokens`."""
        lengths = [len(c) + m for c, m in zip(contexts, limits, strict=True)]
        batches = plan_batches(
            lengths, max_tokens=self._drawing_tokens(max(lengths, default=1)),
            max_rows=self.batch_size,
        )  # fmt: skip
        found: dict[int, DrawnTokens] = {}

        def compute(at: Rows) -> list[DrawnTokens]:
            return draw_tokens(
                self.model,
                [contexts[i] for i in at],
                [limits[i] for i in at],
                [seeds[i] for i in at],
                end_id=end_id,
                decoding=decoding,
                device=self.device,
            )

        with (
            evaluating(self.model),
            torch.inference_mode(),
            self._bar(len(contexts), "texts drawn") as bar,
        ):
            for at, part in run_batches(batches, lengths, compute, MemoryLimit()):
                found.update(zip(at.tolist(), part, strict=True))
                bar.update(len(at))
        return [found[i] for i in range(len(contexts))]

    def _drawing_tokens(self, longest: int) -> int:
        """Most tokens of a batch of draws: a small model's step costs much the same for many rows.

        By default as many rows as keep keys, values and the table of probabilities in
        ``DRAWING_BYTES``, or those that suit the device.
        """
        if self.batch_tokens is not None:
            return DRAWING * self.batch_tokens
        config = self.model.config.get_text_config()
        width = (
            8 * int(config.num_hidden_layers) * int(config.hidden_size)
        )  # bytes of a token, at the most
        row = longest * width + 32 * int(config.vocab_size)
        return max(DRAWING * self.tokens, DRAWING_BYTES // row * longest)

    def _bar(self, total: int, unit: str) -> tqdm[Any]:
        return progress_bar(total, unit, self.progress, self.label)


def progress_bar(
    total: int, unit: str, progress: bool | Literal["lines"] | None, label: str
) -> tqdm[Any]:
    """A bar on stderr; None shows it on a terminal only, ``"lines"`` not at all."""
    shown = sys.stderr.isatty() if progress is None else progress is True
    return tqdm(total=total, unit=f" {unit}", disable=not shown, desc=label, leave=False)
