"""Networks of reward models: encoder, heads, discriminator, gradient reversal."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = [
    "RewardNetwork",
    "discriminator_logits",
    "make_discriminator",
    "make_encoder",
    "mlp",
    "reverse_gradient",
]


class _Reverse(torch.autograd.Function):
    """Identity whose gradient is turned round."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return z.view_as(z)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradients[0], None


def reverse_gradient(z: Tensor, strength: float) -> Tensor:
    r"""``z`` itself, whose gradient is multiplied by ``-strength`` on the way back.

    So one descent step minimises a loss for what stands above and, ``strength`` times as much,
    maximises it for what stands below (Ganin et al. 2016, eq. 13-14). A strength of 0 cuts
    the graph.

    Examples
    --------
    >>> z = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> (reverse_gradient(z, 0.5) ** 2).sum().backward()
    >>> z.grad.tolist()
    [-1.0, -2.0]
    """
    if strength == 0:
        return z.detach()
    reversed_: Tensor = _Reverse.apply(z, strength)  # type: ignore[no-untyped-call]
    return reversed_


def mlp(sizes: Sequence[int]) -> nn.Sequential:
    """Linear layers of these sizes, GELU between them, none after the last."""
    layers: list[nn.Module] = []
    for i, (width, out) in enumerate(pairwise(sizes)):
        layers += [nn.GELU()] * (i > 0) + [nn.Linear(width, out)]
    return nn.Sequential(*layers)


def make_encoder(
    encoder: str | nn.Module, width: int, hidden: Sequence[int], latent: int
) -> tuple[nn.Module, int]:
    """The encoder and the width of its latent; a module is copied, with the weights it has.

    Raises
    ------
    TypeError, ValueError
        If ``encoder`` is neither "mlp" nor a module that maps (n, width) to (n, k).
    """
    if isinstance(encoder, nn.Module):
        made = copy.deepcopy(encoder)
        return made, _latent_of(made, width)
    if encoder != "mlp":
        raise ValueError(f'encoder must be "mlp" or a torch.nn.Module, got {encoder!r}.')
    return mlp((width, *hidden, latent)), latent


def _latent_of(encoder: nn.Module, width: int) -> int:
    """Width of what a module returns; the module is left in the mode it was in."""
    parameter = next(encoder.parameters(), None)
    probe = torch.zeros((2, width)) if parameter is None else parameter.new_zeros((2, width))
    training = encoder.training
    try:
        with torch.inference_mode():
            found = encoder.eval()(probe)
    except RuntimeError as error:
        raise ValueError(
            f"encoder cannot read rows of {width} features (embedding, prompt features and, for "
            f"BradleyTerryReward, one column an objective): {str(error).splitlines()[0]}"
        ) from error
    encoder.train(training)
    if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != 2:
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(f"encoder must map (n, {width}) to (n, k), but (2, {width}) gave {shape}.")
    return int(found.shape[1])


class RewardNetwork(nn.Module):
    """An encoder and a linear head for each objective, without intercept: none is identified.

    Parameters
    ----------
    encoder : module
        (n, d) to latent (n, k).
    latent : int
        k.
    heads : int
    """

    def __init__(self, encoder: nn.Module, latent: int, heads: int) -> None:
        super().__init__()
        self.encoder = encoder
        parameter = next(encoder.parameters(), None)
        self.heads = nn.Linear(latent, heads, bias=False, dtype=getattr(parameter, "dtype", None))

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights."""
        return self.heads.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.heads.weight.device

    def latent(self, x: Tensor) -> Tensor:
        """Latent of rows, (n, k)."""
        z: Tensor = self.encoder(x)
        return z

    def reward(self, z: Tensor, objective: Tensor | None) -> Tensor:
        """Reward of latents (n, k) under each row's objective, (n,)."""
        out: Tensor = self.heads(z)
        return out[:, 0] if objective is None else out.gather(1, objective[:, None])[:, 0]

    def margin(self, z: Tensor, objective: Tensor | None) -> Tensor:
        """Reward of the first half of the latents (2b, k) less that of the second, (b,)."""
        out: Tensor = self.heads(z)
        half = out.shape[0] // 2
        gap = out[:half] - out[half:]
        return gap[:, 0] if objective is None else gap.gather(1, objective[:, None])[:, 0]


def make_discriminator(latent: int, hidden: Sequence[int], n_objectives: int) -> nn.Sequential:
    """Reads the objective from a latent: one logit for two objectives, else one each."""
    return mlp((latent, *hidden, 1 if n_objectives == 2 else n_objectives))


def discriminator_logits(discriminator: nn.Module, z: Tensor) -> Tensor:
    """Logits of the objectives, (n, K); of two, the first has logit 0 (binary cross-entropy)."""
    out: Tensor = discriminator(z)
    return functional.pad(out, (1, 0)) if out.shape[1] == 1 else out
