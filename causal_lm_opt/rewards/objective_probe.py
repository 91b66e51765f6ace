"""How well a discriminator that is new to a finished latent reads the objective from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from causal_lm_opt._validation import check_groups
from causal_lm_opt.rewards._modules import discriminator_logits, make_discriminator
from causal_lm_opt.rewards._training import batches

__all__ = ["fresh_discriminator_accuracy"]


def fresh_discriminator_accuracy(
    latent: Any,
    objective: Any,
    test_latent: Any,
    test_objective: Any,
    *,
    hidden: Sequence[int] = (512,),
    learning_rate: float = 1e-3,
    epochs: int = 10,
    batch_size: int = 128,
    seed: int = 0,
) -> float:
    """Accuracy on test rows of a discriminator fitted to a latent that no longer moves.

    The discriminator of an adversarial training only tells how it fared against the latent of the
    moment: it may be right less often than by chance because the latent has just turned round.
    What a latent holds of the objective is what one can read that is fitted afterwards
    (Moyer et al. 2018 on adversarial invariance).

    Parameters
    ----------
    latent, test_latent : arrays, shapes (n, k) and (m, k)
        ``model.transform(...)``; columns are brought to mean 0 and variance 1 by the first.
    objective, test_objective : labels, shapes (n,) and (m,)
    hidden, learning_rate, epochs, batch_size, seed
        Of the discriminator and of Adam.

    Returns
    -------
    float
        To be held against the share of the commonest test objective, which is chance.

    Raises
    ------
    ValueError
        Arrays that do not fit each other, one objective only, or a test objective never seen.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> objective = np.arange(600) % 2
    >>> shows = rng.normal(size=(600, 4)) + 2 * objective[:, None]
    >>> first, last = slice(0, 400), slice(400, 600)
    >>> found = fresh_discriminator_accuracy(
    ...     shows[first], objective[first], shows[last], objective[last], hidden=(16,), epochs=20)
    >>> found > 0.9
    True
    """
    z, test = _matrix(latent, "latent"), _matrix(test_latent, "test_latent")
    if z.shape[1] != test.shape[1]:
        raise ValueError(
            f"test_latent must have {z.shape[1]} columns like latent, got {test.shape[1]}."
        )
    seen, code = np.unique(check_groups(objective, "objective", len(z)), return_inverse=True)
    asked = np.asarray(check_groups(test_objective, "test_objective", len(test)))
    if len(seen) < 2 or not np.isin(asked, seen).all():
        raise ValueError(
            f"objective must hold two values or more and all of test_objective, got {seen!r}."
        )
    mean, sd = z.mean(axis=0), z.std(axis=0)
    scale = np.where(sd > 0.0, sd, 1.0)
    rows, test_rows = (torch.as_tensor((a - mean) / scale).float() for a in (z, test))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = make_discriminator(z.shape[1], hidden, len(seen))
    _learn(made, rows, torch.as_tensor(code), learning_rate, epochs, batch_size, seed)
    with torch.inference_mode():
        told = discriminator_logits(made, test_rows).argmax(1).numpy()
    return float((seen[told] == asked).mean())


def _learn(
    discriminator: nn.Module,
    rows: torch.Tensor,
    code: torch.Tensor,
    learning_rate: float,
    epochs: int,
    batch_size: int,
    seed: int,
) -> None:
    """Fit in place by cross-entropy."""
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=learning_rate, fused=True)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for at in batches(len(rows), batch_size, generator):
            logits = discriminator_logits(discriminator, rows[at])
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(functional.cross_entropy(logits, code[at]))
            optimizer.step()


def _matrix(values: Any, name: str) -> Any:
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 2 or not len(found) or not np.isfinite(found).all():
        raise ValueError(f"{name} must be a finite (n, k) array with rows, got {found.shape}.")
    return found
