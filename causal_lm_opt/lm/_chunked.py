"""The language-model head in chunks: token log-probabilities without a (tokens, vocabulary) array.

A batch of 8 texts of 512 tokens over 128,000 words would need 2 GB of float32 logits, and the
backward pass as much again. Here the head runs over some tokens at a time; the backward pass makes
the logits anew (one more matrix product in four) instead of keeping them. Where they fit, their
softmax is kept: one array, written in the logits' place and turned into their gradient there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["LogitRule", "chunked_token_log_prob"]

#: Logits held at a time: 16 MB of float32 on a CPU, where that is quickest; 256 MB on a GPU.
CPU_ELEMENTS, GPU_ELEMENTS = 2**22, 2**26
#: Logits that a CPU's second cache holds: passes over more at once wait for the memory.
CACHED = 2**17


@dataclass(frozen=True)
class LogitRule:
    """What some models do to the head's output: multiply it, then cap it by ``c tanh(z / c)``."""

    scale: float = 1.0
    cap: float | None = None

    def apply(self, z: Tensor) -> Tensor:
        """Scaled and capped logits; carries gradient."""
        z = z if self.scale == 1.0 else z * self.scale
        return z if self.cap is None else torch.tanh(z / self.cap) * self.cap


def chunked_token_log_prob(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None = None,
    *,
    scale: float = 1.0,
    cap: float | None = None,
    temperature: float = 1.0,
    chunk_elements: int | None = None,
    keep: bool = False,
) -> Tensor:
    r"""Log-probabilities of tokens from hidden states, the head applied in chunks.

    .. math:: \log P(x_n) = z_{n, x_n} - \log \sum_v e^{z_{nv}}, \quad
              z = c \tanh(s (h W^\top + b) / c) / \tau

    Parameters
    ----------
    hidden : (N, H) tensor
        Hidden states at the places that predict the tokens.
    weight : (V, H) tensor
    targets : (N,) int64 tensor
    bias : (V,) tensor, optional
    scale, cap : float
        ``s`` and ``c``; no cap where it is None.
    temperature : float, default 1
        ``tau``.
    chunk_elements : int, optional
        Most logits held at a time; by default what suits the device.
    keep : bool, default False
        Whether to keep an (N, V) array of probabilities for the backward pass, which then need not
        make the logits anew. Without a cap only.

    Returns
    -------
    (N,) tensor
        float64 for float64 input, else float32. Carries gradient to ``hidden``, ``weight`` and
        ``bias``, once (no second derivatives).

    Raises
    ------
    ValueError
        If shapes do not fit, or probabilities of capped logits are to be kept.

    Notes
    -----
    bf16 and fp16: the products are taken in that precision, as the model itself takes them;
    everything after is float32, and the weight's gradient is added up in float32.

    Examples
    --------
    >>> h, W = torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    >>> round(float(chunked_token_log_prob(h, W, torch.tensor([0]))), 4)
    -0.1269
    """
    if hidden.ndim != 2 or weight.ndim != 2 or hidden.shape[1] != weight.shape[1]:
        raise ValueError(
            f"hidden must be (N, H) and weight (V, H), got {tuple(hidden.shape)} and "
            f"{tuple(weight.shape)}."
        )
    if targets.shape != hidden.shape[:1]:
        raise ValueError(
            f"targets must have shape ({hidden.shape[0]},), got {tuple(targets.shape)}."
        )
    if keep and cap is not None:
        raise ValueError("keep=True is not for capped logits: their slope needs the logits.")
    if chunk_elements is None:
        chunk_elements = CPU_ELEMENTS if hidden.device.type == "cpu" else GPU_ELEMENTS
    rows = max(1, chunk_elements // weight.shape[0])
    # c tanh(s z / c) / tau = c' tanh(s' z / c') with s' = s / tau and c' = c / tau.
    rule = LogitRule(scale / temperature, None if cap is None else cap / temperature)
    apply: Any = _ChunkedLogProb.apply  # torch gives it no type
    return cast(Tensor, apply(hidden, weight, bias, targets, rule, rows, keep))


class _Head:
    """Logits of some rows at a time, written into the same buffers again and again.

    With ``keep`` every row has its own place, in ``exact``.
    """

    def __init__(
        self, hidden: Tensor, weight: Tensor, bias: Tensor | None, rows: int, keep: bool = False
    ) -> None:
        self.hidden, self.weight, self.bias, self.keep = hidden, weight, bias, keep
        self.rows = max(1, min(rows, hidden.shape[0]))
        half = hidden.dtype in (torch.float16, torch.bfloat16)
        shape = (hidden.shape[0] if keep else self.rows, weight.shape[0])
        kind = torch.float32 if half else hidden.dtype
        self.exact = torch.empty(shape, dtype=kind, device=hidden.device)
        self.product = self.exact
        if half:
            self.product = torch.empty(
                (self.rows, shape[1]), dtype=hidden.dtype, device=hidden.device
            )

    def slices(self) -> list[slice]:
        return _slices(self.hidden.shape[0], self.rows)

    def logits(self, at: slice, rule: LogitRule) -> Tensor:
        """Logits of rows ``at`` before the cap, in the precision of the sums."""
        n = at.stop - at.start
        exact = self.exact[at] if self.keep else self.exact[:n]
        product = exact if self.product is self.exact else self.product[:n]
        torch.mm(self.hidden[at], self.weight.t(), out=product)
        if self.bias is not None:
            product.add_(self.bias)
        if exact is not product:
            exact.copy_(product)
        return exact.mul_(rule.scale) if rule.scale != 1.0 else exact


def _slices(n: int, rows: int) -> list[slice]:
    return [slice(i, min(i + rows, n)) for i in range(0, n, rows)]


def _log_normaliser(z: Tensor) -> Tensor:
    """``log sum_v exp(z_nv)`` of every row; ``z`` is spent."""
    top = z.max(1).values
    return z.sub_(top[:, None]).exp_().sum(1).log_() + top


def _softmax(z: Tensor) -> Tensor:
    """As `_log_normaliser`; ``z`` becomes its softmax, a few rows at a time on a CPU."""
    n = z.shape[0]
    rows = max(1, CACHED // z.shape[1]) if z.device.type == "cpu" else n
    found = torch.empty_like(z[:, 0])
    for at in _slices(n, rows):
        part = z[at]
        top = part.amax(1)
        total = part.sub_(top[:, None]).exp_().sum(1)
        part.div_(total[:, None])
        found[at] = total.log_() + top
    return found


def _cap(z: Tensor, cap: float) -> Tensor:
    return z.div_(cap).tanh_().mul_(cap)


class _ChunkedLogProb(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        rule: LogitRule,
        rows: int,
        keep: bool,
    ) -> Tensor:
        kind = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        out = torch.empty(hidden.shape[0], dtype=kind, device=hidden.device)
        normaliser = torch.empty_like(out)
        keep = keep and any(ctx.needs_input_grad)
        head = _Head(hidden, weight, bias, rows, keep)
        for at in head.slices():
            z = head.logits(at, rule)
            if rule.cap is not None:
                _cap(z, rule.cap)
            picked = z.gather(1, targets[at, None])[:, 0]
            normaliser[at] = _softmax(z) if keep else _log_normaliser(z)
            out[at] = picked - normaliser[at]
        ctx.save_for_backward(hidden, weight, bias, targets, normaliser)
        ctx.rule, ctx.rows, ctx.probabilities = rule, rows, head.exact if keep else None
        return out

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator,unused-ignore]
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """The logits are made anew; d log P(x_n) / d z_nv = [v = x_n] - p_nv."""
        hidden, weight, bias, targets, normaliser = ctx.saved_tensors
        rule: LogitRule = ctx.rule
        want_hidden, want_weight, want_bias = ctx.needs_input_grad[:3]
        kind = normaliser.dtype
        d_hidden = torch.empty_like(hidden) if want_hidden else None
        d_weight = torch.zeros_like(weight, dtype=kind) if want_weight else None
        d_bias = torch.zeros_like(bias, dtype=kind) if want_bias else None
        # What is kept becomes the gradient: a second backward pass makes the logits anew.
        kept, ctx.probabilities = ctx.probabilities, None
        head = None if kept is not None else _Head(hidden, weight, bias, ctx.rows)
        for at in _slices(hidden.shape[0], ctx.rows):
            slope: Tensor | None = None
            if head is None:
                d = kept[at]
            else:
                z = head.logits(at, rule)
                if rule.cap is not None:
                    _cap(z, rule.cap)
                    slope = 1.0 - (z / rule.cap) ** 2
                d = z.sub_(normaliser[at, None]).exp_()
            pull = upstream[at, None] * rule.scale
            d.mul_(-pull).scatter_add_(1, targets[at, None], pull)
            if slope is not None:
                d.mul_(slope)
            if d_bias is not None:
                d_bias += d.sum(0)
            narrow = d.to(hidden.dtype)
            if d_hidden is not None:
                torch.mm(narrow, weight, out=d_hidden[at])
            if d_weight is not None:
                _add_product(d_weight, narrow, hidden[at])
        return (
            d_hidden,
            None if d_weight is None else d_weight.to(weight.dtype),
            None if d_bias is None else d_bias.to(weight.dtype),
            *(None,) * 4,
        )


def _add_product(total: Tensor, d: Tensor, hidden: Tensor) -> None:
    """``total += d' hidden``, added up in the precision of ``total``."""
    if d.dtype == total.dtype:
        total.addmm_(d.t(), hidden)
    else:
        total.add_(d.t() @ hidden)
