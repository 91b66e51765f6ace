"""Drawing completions token by token, from exactly the distribution whose log-probability is kept.

``generate`` is not used: it truncates to the 50 likeliest tokens by default, and applies whatever
the model's generation config holds (repetition penalty, temperature).
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from causal_lm_opt.lm._decoding import Decoding
from causal_lm_opt.lm._forward import NAN
from causal_lm_opt.lm.sequence import pad_batch, position_ids

__all__ = ["DrawnTokens", "draw_tokens", "pick"]

Float = NDArray[np.float64]


@dataclass(frozen=True)
class DrawnTokens:
    """One completion: tokens (the end token last, if it was drawn) and their log-probability."""

    ids: tuple[int, ...]
    log_prob: float
    finished: bool


def pick(log_probs: Tensor, uniform: Tensor) -> Tensor:
    """Tokens by inverse CDF, (B,): where the cumulative probability first passes ``uniform``.

    Parameters
    ----------
    log_probs : (B, V) float64 tensor
    uniform : (B,) float64 tensor in [0, 1)

    Examples
    --------
    >>> p = torch.tensor([[0.2, 0.0, 0.8]], dtype=torch.float64)
    >>> pick(p.log(), torch.tensor([0.2], dtype=torch.float64)).tolist()
    [2]
    """
    cumulative = log_probs.exp().cumsum(1)
    total = cumulative[:, -1:]
    # Just below the total, so that rounding never selects a token of probability 0 at the end.
    wanted = torch.minimum(uniform[:, None] * total, total * (1 - 2**-52))
    return torch.searchsorted(cumulative, wanted, right=True)[:, 0]


def draw_tokens(
    model: Any,
    contexts: Sequence[Sequence[int]],
    limits: Sequence[int],
    seeds: Sequence[int],
    *,
    end_id: int,
    decoding: Decoding,
    device: torch.device,
) -> list[DrawnTokens]:
    """One completion per context.

    Parameters
    ----------
    model : causal language model of transformers
    contexts : B non-empty sequences of token ids
    limits : B int
        Most tokens drawn, the end token included.
    seeds : B int
        Each row has its own stream of uniform numbers, so that a draw does not depend on which
        others are beside it.
    end_id : int
    decoding : Decoding
    device : torch.device

    Returns
    -------
    list of B DrawnTokens
    """
    n = len(contexts)
    uniform = _uniforms(seeds, max(limits, default=0))
    batch = pad_batch(contexts, [()] * n, side="left").to(device)
    ids, mask = batch.input_ids, batch.attention_mask
    home = torch.device("cpu") if device.type == "mps" else device  # mps knows no float64
    uniform, limit = uniform.to(home), torch.tensor(limits, device=home)
    log_prob = torch.zeros(n, dtype=torch.float64, device=home)
    drawn = torch.full((n, max(limits, default=0)), -1, dtype=torch.int64, device=home)
    at = torch.arange(n, device=home)  # rows of the batch that are still computed
    alive = limit > 0
    known = forward_arguments(model)
    past: Any = None
    step = 0
    while bool(alive.any()):
        logits, past = _next_logits(model, ids, mask, past, known)
        table = decoding.log_probs(logits.to(home).double())
        if bool(torch.isnan(table).any()):
            raise ValueError(NAN)
        token = pick(table, uniform[at, step])
        chosen = table.gather(1, token[:, None])[:, 0]
        log_prob[at[alive]] += chosen[alive]
        drawn[at[alive], step] = token[alive]
        step += 1
        alive = alive & (token != end_id) & (limit[at] > step)
        ids = token[:, None].to(device)
        # A row that is done reads no more: its positions would run past the model's context.
        mask = torch.cat([mask, alive[:, None].to(mask)], dim=1)
        if 0 < 2 * int(alive.sum()) <= len(alive) and _rows_can_be_dropped(past):
            some = torch.nonzero(alive)[:, 0]
            past.batch_select_indices(some.to(device))
            ids, mask = ids[some.to(device)], mask[some.to(device)]
            at, alive = at[some], alive[some]
    found = zip(drawn.tolist(), log_prob.tolist(), strict=True)
    return [_drawn(row, lp, end_id) for row, lp in found]


def _rows_can_be_dropped(past: Any) -> bool:
    """Whether a cache is keys and values of each row alone: states of other kinds stay whole."""
    layers = getattr(past, "layers", None)
    kinds = {type(layer).__name__ for layer in layers or ()}
    return bool(kinds) and kinds <= {"DynamicLayer", "DynamicSlidingWindowLayer"}


def _drawn(row: list[int], log_prob: float, end_id: int) -> DrawnTokens:
    ids = tuple(token for token in row if token >= 0)
    return DrawnTokens(ids, log_prob, bool(ids) and ids[-1] == end_id)


def _uniforms(seeds: Sequence[int], length: int) -> Tensor:
    rows = [np.random.default_rng(seed).random(length) for seed in seeds]
    return torch.from_numpy(np.stack(rows)) if rows else torch.zeros(0, length)


def forward_arguments(model: Any) -> frozenset[str]:
    """Names of the arguments that the model's forward pass takes."""
    inner = getattr(model, "get_base_model", lambda: model)()
    return frozenset(inspect.signature(inner.forward).parameters)


def _next_logits(
    model: Any, ids: Tensor, mask: Tensor, past: Any, known: frozenset[str]
) -> tuple[Tensor, Any]:
    """Logits (B, V) of the token after ``ids``, and the keys and values so far."""
    given: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "use_cache": True}
    if "position_ids" in known:
        given["position_ids"] = position_ids(mask)[:, -ids.shape[1] :]
    if past is not None:
        given["past_key_values"] = past
    if "logits_to_keep" in known:
        given["logits_to_keep"] = 1
    out = model(**given)
    return out.logits[:, -1], out.past_key_values
