r"""The one training loop of reward models.

Each pair contributes :math:`a_i \log(1 + e^{m_i}) - b_i m_i`, the pair loss where
:math:`a = w,\ b = w p`; so soft labels, importance weights and the doubly robust risk are
coefficients, not loops of their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from causal_lm_opt.rewards._modules import (
    RewardNetwork,
    discriminator_logits,
    reverse_gradient,
)
from causal_lm_opt.rewards.losses import expected_accuracy, pair_loss

__all__ = ["Adversary", "Rows", "Schedule", "margins", "risk", "train"]

#: Rows of a forward pass that no gradient follows.
CHUNK = 4096


@dataclass(frozen=True)
class Rows:
    """Pairs as tensors on the network's device.

    Attributes
    ----------
    chosen, rejected : (n, d) tensors
    objective : (n,) integer tensor or None
        Head of each row, and what a discriminator is to read.
    coefficients : (n, 2) tensor
        a and b; a averages 1, so that a batch's mean estimates the whole sample's weighted mean.
    """

    chosen: Tensor
    rejected: Tensor
    objective: Tensor | None
    coefficients: Tensor

    def __len__(self) -> int:
        return len(self.chosen)


@dataclass(frozen=True)
class Adversary:
    """A discriminator of objectives, its learning rate, and the encoder's strength against it."""

    discriminator: nn.Module
    strength: float
    learning_rate: float


@dataclass(frozen=True)
class Schedule:
    """Optimiser settings; arguments of the reward models."""

    learning_rate: float
    weight_decay: float
    epochs: int
    batch_size: int
    patience: int | None
    seed: int
    progress: bool | None
    heads: bool  # whether rows go by their objective's head


def risk(margin: Tensor, coefficients: Tensor) -> Tensor:
    """Sum of ``a log(1 + e^m) - b m`` over rows, from margins (n,) and coefficients (n, 2)."""
    a, b = coefficients.unbind(1)
    total: Tensor = (a * pair_loss(margin, 0.0) - b * margin).sum()
    return total


def accuracy(margin: Tensor, coefficients: Tensor) -> Tensor:
    """Sum over rows of what the same coefficients make of the accuracy, also linear in labels."""
    a, b = coefficients.unbind(1)
    wrong = expected_accuracy(margin, 0.0)
    total: Tensor = (a * wrong + b * (1.0 - 2.0 * wrong)).sum()
    return total


def batches(n: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """A fresh random order of n rows, cut into slices; the same on every device."""
    order = torch.randperm(n, generator=generator)
    for start in range(0, n, size):
        yield order[start : start + size]


def train(
    network: RewardNetwork,
    rows: Rows,
    held: Rows | None,
    schedule: Schedule,
    adversary: Adversary | None = None,
) -> list[dict[str, float]]:
    """Train in place; keep the epoch of the best validation accuracy (the first of equals).

    Returns
    -------
    list of dict
        Of each epoch: ``epoch``, ``train_loss`` and, with validation pairs,
        ``validation_accuracy`` and ``validation_loss``; with an adversary
        ``discriminator_accuracy`` and ``discriminator_loss``: on the validation pairs, or without
        any on the batches as they came.

    Raises
    ------
    ValueError
        If the loss stops being finite.
    """
    modules = nn.ModuleList([network] + ([adversary.discriminator] if adversary else []))
    optimizer = _optimizer(network, schedule, adversary)
    generator = torch.Generator().manual_seed(schedule.seed)
    history: list[dict[str, float]] = []
    best, kept, waited = -math.inf, None, 0
    hide = None if schedule.progress is None else not schedule.progress
    with tqdm(total=schedule.epochs, desc="reward", unit="epoch", disable=hide, leave=False) as bar:
        for epoch in range(1, schedule.epochs + 1):
            modules.train()
            found = {"epoch": float(epoch)}
            found |= _epoch(network, rows, schedule, adversary, optimizer, generator)
            if not all(map(math.isfinite, found.values())):
                raise ValueError(
                    f"training diverged in epoch {epoch} (loss {found['train_loss']}): lower "
                    "learning_rate or lambda_, bound the weights, or bring features to a common "
                    "scale (standardize=True)."
                )
            history.append(found)
            bar.update(1)
            if held is None:
                continue
            found |= _evaluate(network, held, schedule, adversary)
            if found["validation_accuracy"] > best:
                best, waited = found["validation_accuracy"], 0
                kept = {name: value.clone() for name, value in modules.state_dict().items()}
            else:
                waited += 1
            if schedule.patience is not None and waited >= schedule.patience:
                break
    if kept is not None:
        modules.load_state_dict(kept)
    modules.eval()
    return history


def _optimizer(
    network: RewardNetwork, schedule: Schedule, adversary: Adversary | None
) -> torch.optim.Optimizer:
    """One optimiser of all weights; the discriminator goes at its own rate."""
    groups: list[dict[str, Any]] = [
        {"params": [p for p in network.parameters() if p.requires_grad]}
    ]
    if adversary is not None:
        own = list(adversary.discriminator.parameters())
        groups.append({"params": own, "lr": adversary.learning_rate})
    return torch.optim.AdamW(
        groups, lr=schedule.learning_rate, weight_decay=schedule.weight_decay, fused=True
    )


def _epoch(
    network: RewardNetwork,
    rows: Rows,
    schedule: Schedule,
    adversary: Adversary | None,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
) -> dict[str, float]:
    """One pass over the rows; mean losses as they were met."""
    total = torch.zeros((), dtype=torch.float64, device=network.device)
    told = torch.zeros(2, dtype=torch.float64, device=network.device)
    for order in batches(len(rows), schedule.batch_size, generator):
        at = order.to(network.device)
        objective = None if rows.objective is None else rows.objective[at]
        z = network.latent(torch.cat((rows.chosen[at], rows.rejected[at])))
        margin = network.margin(z, objective if schedule.heads else None)
        coefficients = rows.coefficients[at]
        summed = risk(margin, coefficients)
        loss = summed / len(at)
        if adversary is not None and objective is not None:
            entropy, right = _read_objective(adversary, z, objective, adversary.strength)
            loss = loss + (entropy * coefficients[:, 0].repeat(2)).mean()
            told += torch.stack((entropy.detach().sum(), right))
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        total += summed.detach()
    found = {"train_loss": float(total) / len(rows)}
    return found if adversary is None else found | _discriminated(told, len(rows))


def _read_objective(
    adversary: Adversary, z: Tensor, objective: Tensor, strength: float
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the discriminator for both texts of each pair, (2b,); how many it told."""
    logits = discriminator_logits(adversary.discriminator, reverse_gradient(z, strength))
    wanted = objective.repeat(2)
    right = (logits.detach().argmax(1) == wanted).sum()
    return functional.cross_entropy(logits, wanted, reduction="none"), right


def _discriminated(told: Tensor, pairs: int) -> dict[str, float]:
    """Figures of the discriminator from its summed entropy and number of right answers."""
    entropy, right = (told / (2 * pairs)).tolist()
    return {"discriminator_accuracy": right, "discriminator_loss": entropy}


@torch.inference_mode()
def margins(
    network: RewardNetwork, chosen: Tensor, rejected: Tensor, objective: Tensor | None
) -> Tensor:
    """Margins of pairs, (n,), in evaluation mode and in chunks."""
    out = []
    for start in range(0, len(chosen), CHUNK):
        at = slice(start, start + CHUNK)
        z = network.latent(torch.cat((chosen[at], rejected[at])))
        out.append(network.margin(z, None if objective is None else objective[at]))
    return torch.cat(out)


@torch.inference_mode()
def _evaluate(
    network: RewardNetwork, held: Rows, schedule: Schedule, adversary: Adversary | None
) -> dict[str, float]:
    """Figures of one epoch on the validation pairs."""
    network.eval()
    margin = margins(
        network, held.chosen, held.rejected, held.objective if schedule.heads else None
    ).double()
    sums = held.coefficients.double()
    found = {
        "validation_accuracy": float(accuracy(margin, sums)) / len(held),
        "validation_loss": float(risk(margin, sums)) / len(held),
    }
    if adversary is None or held.objective is None:
        return found
    adversary.discriminator.eval()
    told = torch.zeros(2, dtype=torch.float64, device=network.device)
    for start in range(0, len(held), CHUNK):
        at = slice(start, start + CHUNK)
        z = network.latent(torch.cat((held.chosen[at], held.rejected[at])))
        entropy, right = _read_objective(adversary, z, held.objective[at], 0.0)
        told += torch.stack((entropy.sum(), right))
    return found | _discriminated(told, len(held))
