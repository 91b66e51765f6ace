"""Variance over logs of the papers' gradients at one fixed policy."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from causal_lm_opt.core.weights import relative_weights
from causal_lm_opt.lm._forward import evaluating
from causal_lm_opt.lm._scorer import Scorer
from causal_lm_opt.lm.policy import LanguageModelPolicy
from causal_lm_opt.lm.sequence import pad_batch

__all__ = ["dr_gradient", "gradient_spread", "hajek_pull", "ipw_gradient", "score_gradient"]

FloatArray = npt.NDArray[np.float64]
ROWS = 64  # of a batch


def hajek_pull(log_ratio: FloatArray, payoff: FloatArray) -> FloatArray:
    r"""Derivative of a weighted mean by each row's log-probability, shape (n,).

    .. math:: \tilde w_i (r_i - R), \qquad \tilde w_i = w_i / \textstyle\sum_k w_k,
              \quad R = \tilde w^\top r

    Examples
    --------
    >>> hajek_pull(np.zeros(4), np.array([0., 0., 1., 1.])).tolist()
    [-0.125, -0.125, 0.125, 0.125]
    """
    weight = relative_weights(log_ratio, normalize=True)
    weight = weight / weight.sum()
    return np.asarray(weight * (payoff - weight @ payoff))


def score_gradient(
    policy: LanguageModelPolicy, texts: Sequence[str], pull: FloatArray
) -> FloatArray:
    """Gradient of ``sum_i pull_i log f(text_i)`` by the policy's parameters, shape (p,), float64.

    Memory is that of a batch of 64 texts.
    """
    model = policy.model
    rows = policy.encode(list(texts))
    scorer = Scorer(lambda inner: inner, nullcontext, pad_id=0, rows=ROWS)
    model.zero_grad(set_to_none=True)
    with evaluating(model), torch.enable_grad():
        for at in range(0, len(rows), ROWS):
            part = rows[at : at + ROWS]
            batch = pad_batch([c for c, _ in part], [x for _, x in part], side="right")
            logp = scorer.log_prob(model, batch.to(policy.device))
            total: Any = logp @ torch.as_tensor(pull[at : at + ROWS], device=logp.device)
            total.backward()
    found = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    flat = torch.cat([g.detach().double().flatten().cpu() for g in found])
    model.zero_grad(set_to_none=True)
    return np.asarray(flat.numpy())


def ipw_gradient(
    policy: LanguageModelPolicy, texts: Sequence[str], log_ratio: FloatArray, outcome: FloatArray
) -> FloatArray:
    """Gradient of CPO's value (Hajek), shape (p,)."""
    return score_gradient(policy, texts, hajek_pull(log_ratio, outcome))


def dr_gradient(
    policy: LanguageModelPolicy, texts: Sequence[str], log_ratio: FloatArray, residual: FloatArray,
    drawn: Sequence[str], predicted: FloatArray,
) -> FloatArray:  # fmt: skip
    """Gradient of DR-CPO's value at the policy that wrote ``drawn``, shape (p,)."""
    pull = np.concatenate([
        hajek_pull(log_ratio, residual), hajek_pull(np.zeros(predicted.size), predicted),
    ])  # fmt: skip
    return score_gradient(policy, [*texts, *drawn], pull)


def gradient_spread(gradients: FloatArray) -> FloatArray:
    """Squared distance of each log's gradient from their mean, times S / (S - 1), shape (S,).

    Its mean is the trace of the gradients' covariance.

    Parameters
    ----------
    gradients : array, shape (S, p)
    """
    away: Any = gradients - gradients.mean(axis=0)
    return np.asarray((away**2).sum(axis=1) * len(gradients) / (len(gradients) - 1))
