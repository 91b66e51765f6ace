"""A training model's log-probabilities: under DDP or FSDP, with or without gradient, all rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from causal_lm_opt.lm._batching import plan_batches
from causal_lm_opt.lm._encoding import Encoded
from causal_lm_opt.lm._forward import NAN, Head, checked_head, evaluating, token_log_prob
from causal_lm_opt.lm.sequence import PaddedBatch, pad_batch, sequence_log_prob

__all__ = ["Scorer", "through", "world"]

Result = TypeVar("Result")
#: Logits kept for the backward pass: .3 GB on a CPU, 1 GB on a GPU; beyond, they are made anew.
CPU_DENSE, GPU_DENSE = 2**26, 2**28


def world() -> tuple[int, int]:
    """Rank and number of processes."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def _acts_around_forward(wrapper: Any, inner: Any) -> bool:
    """Whether DDP or FSDP wraps the model, or torch's `fully_shard` has put its hooks on it."""
    if wrapper is not inner:
        return True
    if not distributed.is_available():
        return False
    from torch.distributed.fsdp import FSDPModule

    return isinstance(inner, FSDPModule)


def through(wrapper: Any, inner: Any, function: Callable[[], Result], **inputs: Any) -> Result:
    """Run a function of the inner model as the wrapper's forward pass.

    DDP and FSDP act around ``wrapper.forward``: gradients are averaged, shards gathered. A head in
    chunks is no forward pass of the model, so it runs in the place of one.
    """
    if not _acts_around_forward(wrapper, inner):
        return function()
    own = inner.__dict__.get("forward")

    def restore() -> None:
        if own is None:
            inner.__dict__.pop("forward", None)
        else:
            inner.forward = own

    def instead(*_: Any, **__: Any) -> Result:
        restore()
        return function()

    inner.forward = instead
    try:
        result: Result = wrapper(**inputs)
        return result
    finally:
        restore()


class Scorer:
    """Sequence log-probabilities of one model.

    Parameters
    ----------
    unwrap : callable
        The transformers (or PEFT) model inside what the trainer trains.
    autocast : callable
        The trainer's context of mixed precision.
    pad_id, rows : int
        Padding, and rows of a batch where no gradient is taken.
    """

    def __init__(
        self, unwrap: Callable[[Any], Any], autocast: Callable[[], Any], *, pad_id: int, rows: int
    ) -> None:
        self.unwrap, self.autocast, self.pad_id, self.rows = unwrap, autocast, pad_id, rows
        self.head: Head | None = None
        self._known: tuple[Any, Any] = (None, None)

    def inner(self, model: Any) -> Any:
        """The model inside; looked for once, as that takes a walk through all modules."""
        if self._known[0] is not model:
            self._known = (model, self.unwrap(model))
        return self._known[1]

    def log_prob(self, model: Any, batch: PaddedBatch) -> Tensor:
        """Log-probability of each row, (B,) float64; carries gradient."""
        inner = self.inner(model)
        if self.head is None:
            self.head = self._checked(model, inner, batch)
        head = self.head
        most = CPU_DENSE if batch.input_ids.device.type == "cpu" else GPU_DENSE
        dense = most if torch.is_grad_enabled() else 0

        def tokens() -> Tensor:
            with self.autocast():
                return token_log_prob(inner, batch, head, dense_elements=dense)

        inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
        return sequence_log_prob(through(model, inner, tokens, **inputs), batch.target_mask)

    def _checked(self, model: Any, inner: Any, batch: PaddedBatch) -> Head:
        def check() -> Head:
            with self.autocast():
                return checked_head(inner, batch)

        with evaluating(inner), torch.no_grad():  # with dropout no two passes agree
            head = through(model, inner, check, input_ids=batch.input_ids)
        if world()[1] > 1:  # one way for all: passes of a sharded model must be as many everywhere
            slow = torch.tensor(float(head.kind == "logits"), device=batch.input_ids.device)
            distributed.all_reduce(slow)
            head = replace(head, kind="logits") if bool(slow > 0) else head
        return head

    def all_rows(self, model: Any, rows: Sequence[Encoded]) -> Tensor:
        """Log-probability of every row without gradient or dropout, (N,) float64.

        Processes share the work; each gets every row's.
        """
        inner = self.inner(model)
        device = next(inner.parameters()).device
        out = torch.zeros(len(rows), dtype=torch.float64, device=device)
        plan = plan_batches([len(row) for row in rows], max_tokens=2**31, max_rows=self.rows)
        rank, processes = world()
        with evaluating(inner), torch.no_grad():
            for k in range(-(-len(plan) // processes)):
                number = k * processes + rank
                at = plan[min(number, len(plan) - 1)]  # FSDP: as many passes on every process
                batch = pad_batch(
                    [rows[i].context for i in at], [rows[i].completion for i in at],
                    pad_id=self.pad_id,
                ).to(device)  # fmt: skip
                found = self.log_prob(model, batch)
                if number < len(plan):
                    out[torch.as_tensor(at, device=device)] = found
        if processes > 1:
            distributed.all_reduce(out)
        if bool(torch.isnan(out).any()):
            raise ValueError(NAN)
        return out


@contextmanager
def without_adapter(model: Any) -> Iterator[None]:
    """The model as it was before its PEFT adapter, if it has one."""
    if hasattr(model, "disable_adapter"):
        with model.disable_adapter():
            yield
    else:
        yield
