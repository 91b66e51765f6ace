"""What an objective keeps of a whole sample, so that a step is a part of the full-sample gradient.

A softmax over a micro-batch would depend on batch size, accumulation and the number of processes,
and would drop the sample-level ratio. Here every row's latest log ratio is remembered (n numbers);
normaliser and centre are those of the whole sample. They are held fixed during a step and settled
after it, from the rows of all micro-batches and processes at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, distributed, nn

from causal_lm_opt import core
from causal_lm_opt.core.weights import Weighting

__all__ = ["Columns", "SampleState", "gather_all"]

#: Transforms after which a row's own weight is no longer its raw one, so that a share is told.
CUTTING = ("clip", "switch", "pareto")


@dataclass(frozen=True)
class Columns:
    """Fixed numbers of the n rows of one sample, each (n,) float64.

    Attributes
    ----------
    payoff : Tensor
        What a row counts: an outcome, a residual or a prediction.
    logp_logging : Tensor
        Log-probability under the policy that wrote the rows; NaN until it is scored.
    logp_reference : Tensor
        Log-probability under the reference policy of the KL; NaN until it is scored.

    Examples
    --------
    >>> import torch
    >>> from causal_lm_opt.lm import Columns
    >>> zeros = torch.zeros(2, dtype=torch.float64)
    >>> Columns(zeros, zeros, zeros).payoff.shape
    torch.Size([2])
    """

    payoff: Tensor
    logp_logging: Tensor
    logp_reference: Tensor

    def __post_init__(self) -> None:
        shapes = {tuple(c.shape) for c in (self.payoff, self.logp_logging, self.logp_reference)}
        if len(shapes) != 1 or self.payoff.ndim != 1 or not len(self.payoff):
            raise ValueError(f"columns must be (n,) with n >= 1 each, got {sorted(shapes)}.")


class SampleState(nn.Module):
    """Columns of one sample, each row's latest log ratio, and the sample's normaliser and centre.

    Parameters
    ----------
    weighting : Weighting
    through : {"value", "gradient"}
        Whether the transform is differentiated (the gradient of the transformed value: zero where
        a weight is clipped), or only limits the coefficient of each row's gradient.
    kl, entropy : float
        A row's payoff loses ``kl * (S - S_reference)`` and ``entropy * S``, S its log-probability.
    """

    payoff: Tensor
    logp_logging: Tensor
    logp_reference: Tensor
    log_ratio: Tensor
    shift: Tensor
    log_normalizer: Tensor
    centre: Tensor

    def __init__(
        self, columns: Columns, weighting: Weighting,
        through: Literal["value", "gradient"] = "value", kl: float = 0.0, entropy: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.weighting, self.through, self.kl, self.entropy = weighting, through, kl, entropy
        self.known_health: dict[str, float] | None = None
        for name in ("payoff", "logp_logging", "logp_reference"):
            self.register_buffer(name, getattr(columns, name).detach().double().clone())
        n = columns.payoff.shape[0]
        device = columns.payoff.device
        for name, size in (("log_ratio", (n,)), ("shift", (n,)), ("log_normalizer", ()),
                           ("centre", ())):  # fmt: skip
            filled = torch.full(size, torch.nan, dtype=torch.float64, device=device)
            self.register_buffer(name, filled)

    def __len__(self) -> int:
        return int(self.payoff.shape[0])

    # ------------------------------------------------------------------ memory
    def refresh(self, logp: Tensor) -> None:
        """Take every row's log-probability (n,) under the current policy; settle."""
        self.log_ratio = core.log_ratio(logp.detach().double(), self.logp_logging)
        self.settle()

    def remember(self, rows: Tensor, log_ratio: Tensor) -> None:
        """Write the latest log ratios of some rows; `settle` takes them up."""
        self.log_ratio[rows] = log_ratio.detach()

    def settle(self) -> None:
        """Normaliser and centre of the whole sample, from the remembered log ratios."""
        self.known_health = None
        ell = self.log_ratio
        changed = self.weighting.transform(ell)
        self.shift = (
            torch.zeros_like(ell)
            if self.weighting.unbiased
            else torch.where(changed == ell, 0.0, changed - ell)
        )
        if not self.weighting.normalize:
            self.log_normalizer = torch.zeros_like(self.log_normalizer)
            self.centre = torch.zeros_like(self.centre)
            return
        peak = changed.max()
        weight = core.relative_weights(changed, normalize=True)
        self.log_normalizer = core.weighted_mean(weight).log() + peak
        self.centre = self.solve(self.full_payoff(ell + self.logp_logging), weight)[0]

    # ------------------------------------------------------------------ one step
    def contributions(self, logp: Tensor, rows: Tensor) -> Tensor:
        r"""Terms ``w (p - c)`` of some rows, (b,); carries gradient to ``logp``.

        Their mean over the whole sample, plus the centre c, is the sample's value; the mean's
        gradient is the value's, :math:`\frac1n \sum_i w_i (p_i - V) \nabla S_i`.
        """
        payoff = self.full_payoff(logp, rows)
        terms: Tensor = core.residual_moment(
            self.weight(logp, rows), payoff, self.centre, normalize=self.weighting.normalize
        )[1]
        return terms

    def ratio(self, logp: Tensor, rows: Tensor) -> Tensor:
        """Log ratios of some rows, (b,)."""
        ell: Tensor = core.log_ratio(logp, self.logp_logging[rows])
        return ell

    def weight(self, logp: Tensor, rows: Tensor) -> Tensor:
        """Transformed weights (b,), of mean 1 over the whole sample where they are normalised."""
        ell = self.ratio(logp, rows)
        if self.weighting.kind == "pareto":  # its tail is the whole sample's: held fixed
            changed = ell + self.shift[rows]
        else:
            changed = self.weighting.transform(ell)
            if self.through == "gradient" and not self.weighting.unbiased:
                changed = changed.detach() + (ell - ell.detach())
        weight: Tensor = core.relative_weights(changed - self.log_normalizer, normalize=False)
        return weight

    def full_payoff(self, logp: Tensor, rows: Tensor | slice = slice(None)) -> Tensor:
        """Payoff less penalties, (b,); the penalties carry gradient to ``logp``."""
        payoff = self.payoff[rows]
        if self.kl:
            payoff = payoff - self.kl * (logp - self.logp_reference[rows])
        return payoff - self.entropy * logp if self.entropy else payoff

    # ------------------------------------------------------------------ the whole sample
    def solve(
        self, payoff: Tensor | None = None, weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Value and influence (n,) of the whole sample, by the estimators' own formula.

        ``weight``: the transformed weights, where they are at hand.
        """
        normalize = self.weighting.normalize
        if weight is None:
            weight = core.relative_weights(
                self.weighting.transform(self.log_ratio), normalize=normalize
            )
        chosen = self.payoff if payoff is None else payoff
        return core.solve_linear_moment(*core.ipw_moment(weight, chosen, normalize=normalize))

    def solve_raw(self, payoff: Tensor) -> Tensor:
        """Self-normalised mean of a payoff under raw weights."""
        weight = core.relative_weights(self.log_ratio, normalize=True)
        mean: Tensor = core.solve_linear_moment(*core.ipw_moment(weight, payoff, normalize=True))[0]
        return mean

    def health(self) -> dict[str, float]:
        """Raw effective sample size (a share of n), sd of the log ratio, share cut, KL, entropy.

        All before any transform: after clipping, weights look healthy whatever they are.
        """
        if self.known_health is None:
            self.known_health = self._health()
        return self.known_health

    def _health(self) -> dict[str, float]:
        ell = self.log_ratio
        raw = core.relative_weights(ell, normalize=True)
        logp = ell + self.logp_logging
        cut = float((self.shift != 0).double().mean()) if self.weighting.kind in CUTTING else 0.0
        return {
            "ess": float(core.weighted_mean(raw) ** 2 / core.weighted_mean(raw**2)),
            "sd_log_ratio": float(ell.std(correction=0)),
            "clip_share": cut,
            "kl": float(self.solve_raw(logp - self.logp_reference)),
            "entropy": -float(self.solve_raw(logp)),
        }


def gather_all(x: Tensor) -> Tensor:
    """The tensors of all processes, joined; equal shapes on each."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return x
    world = distributed.get_world_size()
    if world == 1:
        return x
    parts = [torch.empty_like(x) for _ in range(world)]
    distributed.all_gather(parts, x.contiguous())
    return torch.cat(parts)
