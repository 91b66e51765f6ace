r"""From logits to the log-probability of a completion: pure functions on tensors.

The one home of token log-probabilities. A completion's log-probability is

.. math:: S(x \mid c) = \sum_{t=1}^{T} \log P(x_t \mid c, x_{<t}),

the sum over the completion's tokens, its closing end-of-text token included, of the log-softmax of
the logits that the model puts one place EARLIER. Tokens of the context `c` (beginning-of-text
token, prompt) and padding are not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from causal_lm_opt.lm._chunked import chunked_token_log_prob

__all__ = [
    "PaddedBatch",
    "chunked_token_log_prob",
    "gather_predictors",
    "pad_batch",
    "position_ids",
    "sequence_log_prob",
    "spread",
    "target_ids",
    "token_log_prob_from_logits",
]

PaddingSide = Literal["right", "left"]


@dataclass(frozen=True)
class PaddedBatch:
    """Contexts and completions as one rectangle of tokens.

    Attributes
    ----------
    input_ids : (B, T) int64 tensor
        Context, then completion; padding on one side.
    attention_mask : (B, T) int64 tensor
        1 at real tokens, 0 at padding.
    target_mask : (B, T) bool tensor
        True at the completion's tokens: those whose log-probability counts.
    """

    input_ids: Tensor
    attention_mask: Tensor
    target_mask: Tensor

    def to(self, device: torch.device | str) -> PaddedBatch:
        """The batch on another device."""
        return PaddedBatch(
            self.input_ids.to(device), self.attention_mask.to(device), self.target_mask.to(device)
        )

    def rows(self, start: int, stop: int) -> PaddedBatch:
        """Rows ``start:stop``, still as wide as the whole batch."""
        at = slice(start, stop)
        return PaddedBatch(self.input_ids[at], self.attention_mask[at], self.target_mask[at])


def pad_batch(
    contexts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    *,
    pad_id: int = 0,
    side: PaddingSide = "right",
) -> PaddedBatch:
    """Contexts and completions, concatenated as token ids and padded to one length.

    Ids are joined, never texts: encoding prompt and completion together could merge characters
    across the boundary into one token, and the completion's probability would not be defined.

    Parameters
    ----------
    contexts : sequence of B sequences of int
        What each completion is conditioned on; at least one token, since the first token of a
        completion is predicted from the token before it.
    completions : sequence of B sequences of int
        Tokens that are scored; may be empty.
    pad_id : int, default 0
        Any valid token: padding is masked, so its value changes nothing.
    side : {"right", "left"}

    Returns
    -------
    PaddedBatch

    Raises
    ------
    ValueError
        If lengths differ, there are no rows, or a context is empty.

    Examples
    --------
    >>> batch = pad_batch([[0], [0, 5]], [[7, 8], [9]], pad_id=3)
    >>> batch.input_ids.tolist(), batch.target_mask.int().tolist()
    ([[0, 7, 8], [0, 5, 9]], [[0, 1, 1], [0, 0, 1]])
    """
    if len(contexts) != len(completions) or not contexts:
        raise ValueError(
            f"contexts and completions must be as many, and at least one; got {len(contexts)} "
            f"and {len(completions)}."
        )
    if side not in ("right", "left"):
        raise ValueError(f'side must be "right" or "left", got {side!r}.')
    width = max(len(c) + len(x) for c, x in zip(contexts, completions, strict=True))
    ids = torch.full((len(contexts), width), pad_id, dtype=torch.int64)
    attention = torch.zeros_like(ids)
    target = torch.zeros(ids.shape, dtype=torch.bool)
    for row, (context, completion) in enumerate(zip(contexts, completions, strict=True)):
        if not len(context):
            raise ValueError(
                f"contexts[{row}] is empty: the first token of a completion is predicted from the "
                "token before it; begin the context with the beginning-of-text token."
            )
        length = len(context) + len(completion)
        start = 0 if side == "right" else width - length
        ids[row, start : start + length] = torch.tensor([*context, *completion])
        attention[row, start : start + length] = 1
        target[row, start + len(context) : start + length] = True
    return PaddedBatch(ids, attention, target)


def position_ids(attention_mask: Tensor) -> Tensor:
    """Position of every token counted from its row's first real token, (B, T); 0 at padding.

    Without them a left-padded row would be read as if it began later.

    Examples
    --------
    >>> position_ids(torch.tensor([[0, 0, 1, 1], [1, 1, 1, 0]])).tolist()
    [[0, 0, 0, 1], [0, 1, 2, 0]]
    """
    positions = attention_mask.long().cumsum(-1) - 1
    return positions.masked_fill(attention_mask == 0, 0)


def gather_predictors(values: Tensor, target_mask: Tensor) -> Tensor:
    """Hidden states (or logits) at the places that PREDICT the scored tokens: one place earlier.

    Parameters
    ----------
    values : (B, T, H) or (B, T - 1, H) tensor
        The last token predicts nothing that is scored, so it need not have been read.
    target_mask : (B, T) bool tensor
        Column 0 is never scored: nothing precedes it.

    Returns
    -------
    (N, H) tensor
        Row by row, N the number of scored tokens; carries gradient.
    """
    return values[:, : target_mask.shape[1] - 1][target_mask[:, 1:]]


def target_ids(batch: PaddedBatch) -> Tensor:
    """Scored tokens, (N,) int64, in the order of :func:`gather_predictors`."""
    return batch.input_ids[:, 1:][batch.target_mask[:, 1:]]


def token_log_prob_from_logits(logits: Tensor, targets: Tensor) -> Tensor:
    """Log-probabilities of tokens from full logits: ``log_softmax`` and gather.

    The plain form, which holds an (N, V) array; half-precision logits are summed in float32.

    Parameters
    ----------
    logits : (N, V) tensor
    targets : (N,) int64 tensor

    Returns
    -------
    (N,) tensor
        float64 for float64 logits, else float32; carries gradient.
    """
    exact = logits if logits.dtype == torch.float64 else logits.float()
    picked = exact.gather(1, targets[:, None])[:, 0]
    return picked - exact.logsumexp(1)


def spread(token_log_prob: Tensor, target_mask: Tensor) -> Tensor:
    """Token log-probabilities (N,) put back in their places of (B, T), 0 elsewhere.

    Examples
    --------
    >>> mask = torch.tensor([[False, True, True], [False, False, True]])
    >>> spread(torch.tensor([-1.0, -2.0, -3.0]), mask).tolist()
    [[0.0, -1.0, -2.0], [0.0, 0.0, -3.0]]
    """
    out = token_log_prob.new_zeros(target_mask.shape)
    return out.masked_scatter(target_mask, token_log_prob)


def sequence_log_prob(token_log_prob: Tensor, target_mask: Tensor) -> Tensor:
    """Log-probability of every completion, (B,) float64; an empty completion has 0.

    Sums are taken in float64: at 1,000 tokens a float32 sum is off in the fourth decimal.

    Parameters
    ----------
    token_log_prob : (N,) tensor
        Of the scored tokens, row by row.
    target_mask : (B, T) bool tensor

    Examples
    --------
    >>> mask = torch.tensor([[False, True, True], [False, False, True], [False, False, False]])
    >>> sequence_log_prob(torch.tensor([-1.0, -2.0, -3.0]), mask).tolist()
    [-3.0, -3.0, 0.0]
    """
    if token_log_prob.shape != (int(target_mask.sum()),):
        raise ValueError(
            f"token_log_prob must have one entry per scored token "
            f"({int(target_mask.sum())},), got {tuple(token_log_prob.shape)}."
        )
    return spread(token_log_prob.double(), target_mask).sum(1)
