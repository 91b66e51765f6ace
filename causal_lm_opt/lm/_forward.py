"""A model's token log-probabilities: the fast path, and the check that it is the model's own.

The fast path runs the model without its head, keeps the hidden states that predict scored tokens,
and applies the head to them in chunks. Some models do more after the head (scale, cap, or something
unknown), so the first batch of every model is held against ``model(...).logits``.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from causal_lm_opt.lm._batching import is_out_of_memory
from causal_lm_opt.lm._chunked import CPU_ELEMENTS, GPU_ELEMENTS, LogitRule
from causal_lm_opt.lm._decoding import Decoding
from causal_lm_opt.lm.sequence import (
    PaddedBatch,
    chunked_token_log_prob,
    gather_predictors,
    position_ids,
    target_ids,
    token_log_prob_from_logits,
)

__all__ = [
    "NAN",
    "Head",
    "checked_head",
    "evaluating",
    "find_head",
    "model_inputs",
    "plain_model",
    "token_log_prob",
]

#: Mean absolute difference of token log-probabilities at which the two paths count as one.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.02}
#: Tokens of the first batch that are held against the model's own logits.
CHECKED_TOKENS = 256
NAN = (
    "the model gives NaN log-probabilities: its numbers overflow. A model in float16 may need "
    '"bfloat16" or "float32"; one in float64 whose attention cannot mask padding on the left needs '
    'padding_side="right" and, to draw, batch_size=1.'
)


@dataclass(frozen=True)
class Head:
    """How logits are made.

    Attributes
    ----------
    kind : {"chunked", "logits"}
        The head in chunks on the hidden states, or the model's own logits, a few rows at a time.
    rule : LogitRule
        Scale and cap of the chunked head.
    """

    kind: Literal["chunked", "logits"] = "chunked"
    rule: LogitRule = field(default_factory=LogitRule)


def plain_model(model: Any) -> Any:
    """The transformers model inside a PEFT wrapper (its adapters are part of its layers)."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def find_head(model: Any) -> Head:
    """What the model's configuration says of its head; to be checked, not trusted."""
    plain = plain_model(model)
    linear = plain.get_output_embeddings() if hasattr(plain, "get_output_embeddings") else None
    body = getattr(plain, "base_model", plain)
    if type(linear) is not nn.Linear or body is plain:
        return Head("logits")
    text = plain.config.get_text_config() if hasattr(plain.config, "get_text_config") else None
    config = plain.config if text is None else text
    divisor = getattr(config, "logits_scaling", None)
    factor = getattr(config, "logit_scale", None)
    cap = getattr(config, "final_logit_softcapping", None)
    scale = (1.0 if factor is None else float(factor)) / (1.0 if not divisor else float(divisor))
    return Head("chunked", LogitRule(scale, None if cap is None else float(cap)))


def model_inputs(model: Any, batch: PaddedBatch) -> dict[str, Any]:
    """Arguments of the model's forward pass, all but the last token, which predicts nothing.

    Position ids are given only to models that know them.
    """
    attention = batch.attention_mask[:, :-1]
    given: dict[str, Any] = {
        "input_ids": batch.input_ids[:, :-1],
        "attention_mask": attention,
        "use_cache": False,
    }
    known = inspect.signature(plain_model(model).forward).parameters
    if "position_ids" in known:
        given["position_ids"] = position_ids(attention)
    return given


def token_log_prob(
    model: Any, batch: PaddedBatch, head: Head, *, decoding: Decoding | None = None,
    dense_elements: int = 0,
) -> Tensor:  # fmt: skip
    """Log-probabilities of the scored tokens, (N,), row by row; carries gradient.

    Parameters
    ----------
    model : a causal language model of transformers, or a PEFT wrapper of one
    batch : PaddedBatch, on the model's device
    head : Head, as `checked_head` found it
    decoding : Decoding, optional
        Temperature and truncation; a truncated token has -inf.
    dense_elements : int, default 0
        Up to so many logits are kept for the backward pass, which then need not make them anew: a
        quarter of the head's time for one array of them (three where the model caps its logits).
    """
    decoding = decoding or Decoding()
    targets = target_ids(batch)
    if not len(targets):
        return torch.zeros(0, device=batch.input_ids.device)
    if head.kind == "logits":
        return _from_logits(model, batch, targets, decoding)
    plain = plain_model(model)
    out = plain.base_model(**model_inputs(model, batch))
    hidden = gather_predictors(out.last_hidden_state, batch.target_mask)
    linear = plain.get_output_embeddings()
    keep = decoding.is_plain and len(targets) * linear.weight.shape[0] <= dense_elements
    if keep and head.rule.cap is not None:
        return _picked(head.rule.apply(_raised(linear(hidden))).log_softmax(1), targets)
    if not decoding.truncates:
        kind = _product_dtype(linear)
        bias = None if linear.bias is None else linear.bias.to(kind)
        return chunked_token_log_prob(
            hidden.to(kind), linear.weight.to(kind), targets, bias,
            scale=head.rule.scale, cap=head.rule.cap, temperature=decoding.temperature,
            keep=keep,
        )  # fmt: skip
    parts = []
    for h, t in _row_chunks(hidden, targets, linear.weight.shape[0]):
        z = head.rule.apply(_raised(linear(h)))
        parts.append(_picked(decoding.log_probs(z), t))
    return torch.cat(parts)


def _product_dtype(linear: Any) -> torch.dtype:
    """Precision in which the model multiplies its head: that of autocast, where it is on."""
    device = linear.weight.device.type
    if torch.is_autocast_enabled(device) and linear.weight.dtype == torch.float32:
        return torch.get_autocast_dtype(device)
    dtype: torch.dtype = linear.weight.dtype
    return dtype


def _raised(z: Tensor) -> Tensor:
    return z if z.dtype == torch.float64 else z.float()


def _picked(log_probs: Tensor, targets: Tensor) -> Tensor:
    return log_probs.gather(1, targets[:, None])[:, 0]


def _most_elements(device: torch.device) -> int:
    return CPU_ELEMENTS if device.type == "cpu" else GPU_ELEMENTS


def _row_chunks(
    hidden: Tensor, targets: Tensor, vocabulary: int
) -> Iterator[tuple[Tensor, Tensor]]:
    rows = max(1, _most_elements(hidden.device) // vocabulary)
    for start in range(0, len(targets), rows):
        yield hidden[start : start + rows], targets[start : start + rows]


def _from_logits(model: Any, batch: PaddedBatch, targets: Tensor, decoding: Decoding) -> Tensor:
    """The model's own logits, a few rows of the batch at a time."""
    n, width = batch.input_ids.shape
    vocabulary = int(plain_model(model).config.get_text_config().vocab_size)
    rows = max(1, 4 * _most_elements(batch.input_ids.device) // (width * vocabulary))
    parts = []
    for start in range(0, n, rows):
        part = batch.rows(start, min(start + rows, n))
        logits = gather_predictors(model(**model_inputs(model, part)).logits, part.target_mask)
        tokens = target_ids(part)
        if decoding.is_plain:
            parts.append(token_log_prob_from_logits(logits, tokens))
        else:
            parts.append(_picked(decoding.log_probs(logits), tokens))
    assert sum(len(p) for p in parts) == len(targets)
    return torch.cat(parts)


def checked_head(model: Any, batch: PaddedBatch) -> Head:
    """The fast head if it gives this batch the model's own log-probabilities, else "logits".

    Up to ``CHECKED_TOKENS`` tokens of the batch's rows are compared (one row at least).

    Raises
    ------
    ValueError
        If the model has an adapter of virtual tokens, so that logits and tokens do not line up.
    """
    if getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False):
        raise ValueError(
            "the model has a prompt-learning adapter, which adds virtual tokens; it cannot be "
            "scored: merge the adapter, or use LoRA."
        )
    head = find_head(model)
    rows = max(1, CHECKED_TOKENS // batch.input_ids.shape[1])
    part = batch.rows(0, rows)
    with torch.no_grad():
        if head.kind == "logits":
            return head
        linear = plain_model(model).get_output_embeddings()
        try:
            fast = token_log_prob(model, part, head)
        except (AttributeError, RuntimeError, TypeError) as error:
            if is_out_of_memory(error):
                raise
            return replace(head, kind="logits")
        # Last: a sharded model gives its parameters back after a forward pass of its own.
        logits = model(**model_inputs(model, part)).logits
        own = token_log_prob_from_logits(
            gather_predictors(logits, part.target_mask), target_ids(part)
        )
        gap = float((own - fast).abs().mean()) if len(own) else 0.0
        allowed = TOLERANCE.get(_product_dtype(linear), 1e-4)
    return head if gap <= allowed else replace(head, kind="logits")


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Dropout and the like switched off; every module's mode is put back afterwards."""
    modules = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in modules:
            module.training = True
