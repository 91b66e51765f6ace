r"""Objectives that train a language model on logged texts and their outcomes.

Each is the value of an estimator with gradient: the formulas are those of
:mod:`causal_lm_opt.core`, called with tensors. What is added is what training needs: normaliser and
centre of the whole sample kept as state, a penalty on the KL divergence from a reference, an
entropy bonus, a floor on the effective sample size.

With :math:`S_i` the log-probability of row i, :math:`\tilde w = w / \sum w` and self-normalised
weights the gradients are

.. math::
    \nabla V_{IPW} &= \sum_i \tilde w_i (y_i - V) \nabla S_i \\
    \nabla V_{OR} &= \sum_j \tilde w^0_j (q_j - Q) \nabla S_j \\
    \nabla V_{DR} &= \sum_i \tilde w_i (r_i - R) \nabla S_i
                   + \sum_j \tilde w^0_j (q_j - Q) \nabla S_j, \qquad r = y - q

with sums over the whole sample, whatever the batch.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from causal_lm_opt import core
from causal_lm_opt.core.weights import HorvitzThompson, Weighting
from causal_lm_opt.lm._objective_base import Objective, Through, check_number
from causal_lm_opt.lm._objective_state import Columns, SampleState

__all__ = [
    "Columns",
    "DoublyRobustObjective",
    "IPWObjective",
    "LikelihoodObjective",
    "Objective",
    "OnPolicyObjective",
    "OutcomeRegressionObjective",
]


class IPWObjective(Objective):
    r"""Importance-weighted value of the policy (CPO): :math:`\sum w y / \sum w`.

    Use it when the logging policy is known and outcomes are all there is.

    Parameters
    ----------
    weights : {"hajek", "ht", "psis"} or Weighting, default "hajek"
        As for the estimators: ``Clip(10)``, ``Shrink(..)``, ``Temper(.5)``, ``Switch(..)``.
    clip : {"value", "gradient"}, default "value"
        What a transform limits. "value": the objective is the value under transformed weights, and
        a clipped row has no gradient. "gradient": the weight in front of each row's
        :math:`\nabla S_i` is the transformed one, and every row keeps pulling.
    kl : float, default 0
        Strength of the penalty ``kl * KL(f || reference)``, in outcome units per nat.
    entropy : float, default 0
        Strength of the bonus on the policy's entropy.
    ess_floor : float in [0, 1], default 0.1
        Raw effective sample size, as a share of the rows, below which training stops. 0: never.
    kl_limit : float, optional
        KL divergence from the reference, in nats per text, beyond which training stops.

    Attributes
    ----------
    exact : bool
        True where the gradient is the value's own; transformed weights make it a surrogate.

    Notes
    -----
    **Assumptions**: outcomes independent of what else moves the text, overlap, the right
    ``logp_logging``. Known only from the weights' own rows, the floor cannot see texts that were
    never logged.

    Source: Lin, Ben-Michael and Morency (2024), Proposition 4.1; normaliser over the sample, not
    over the micro-batch.

    Examples
    --------
    >>> import torch
    >>> theta = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    >>> texts, y = torch.tensor([0, 0, 1, 1]), torch.tensor([1., 1., 3., 3.], dtype=torch.float64)
    >>> logp = theta.log_softmax(0)[texts]
    >>> objective = IPWObjective()
    >>> objective.begin([Columns(y, logp.detach(), logp.detach())])
    >>> objective.refresh(logp)
    >>> value = objective(logp, torch.arange(4))
    >>> value.backward()
    >>> value.item(), theta.grad.tolist()
    (2.0, [-0.5, 0.5])
    >>> objective.label
    'IPW (CPO) [Hajek; exact]'
    """

    name = "IPW (CPO)"
    needs = (("logged", "outcome"),)

    def __init__(
        self,
        weights: Weighting | str = "hajek",
        *,
        clip: Through = "value",
        kl: float = 0.0,
        entropy: float = 0.0,
        ess_floor: float = 0.1,
        kl_limit: float | None = None,
    ) -> None:
        super().__init__([weights], clip, kl, entropy, ess_floor, kl_limit)


class OutcomeRegressionObjective(Objective):
    r"""Outcome model's mean over the policy's texts (OO-RLHF): :math:`\sum w^0 q / \sum w^0`.

    Use it when predictions are to be trusted and draws of a sampling policy are at hand.

    Parameters
    ----------
    weights_target : {"hajek", "ht", "psis"} or Weighting, default "hajek"
        For the draws' weights, ``P_f / P_0``.
    clip, kl, entropy, ess_floor, kl_limit
        As for `IPWObjective`, estimated on the draws.

    Notes
    -----
    **Assumptions**: the predictions are right wherever the policy moves; the draws come from
    exactly the model scored as ``P_0`` (temperature 1, no truncation).

    Source: Lin, Ben-Michael and Morency (2024), section 4.

    Examples
    --------
    >>> import torch
    >>> theta = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    >>> texts, q = torch.tensor([0, 0, 1, 1]), torch.tensor([1., 1., 3., 3.], dtype=torch.float64)
    >>> logp = theta.log_softmax(0)[texts]
    >>> objective = OutcomeRegressionObjective()
    >>> objective.begin([Columns(q, logp.detach(), logp.detach())])  # draws of the start
    >>> objective.refresh(logp)
    >>> objective(logp, torch.arange(4)).item()
    2.0
    """

    name = "outcome regression (OO-RLHF)"
    samples: ClassVar[tuple[Literal["logged", "target"], ...]] = ("target",)
    needs = (("target", "prediction"),)

    def __init__(
        self,
        weights_target: Weighting | str = "hajek",
        *,
        clip: Through = "value",
        kl: float = 0.0,
        entropy: float = 0.0,
        ess_floor: float = 0.1,
        kl_limit: float | None = None,
    ) -> None:
        super().__init__([weights_target], clip, kl, entropy, ess_floor, kl_limit)


class DoublyRobustObjective(Objective):
    r"""Doubly robust value (DR-CPO): weighted residuals of logged rows plus predicted draws.

    Use it when both are at hand: its value is right if the logging policy or the predictions are.

    Parameters
    ----------
    weights, weights_target : {"hajek", "ht", "psis"} or Weighting, default "hajek"
        For logged rows, ``P_f / P_R``, and for draws, ``P_f / P_0``.
    clip, kl, entropy, ess_floor, kl_limit
        As for `IPWObjective`; penalties are estimated on the logged rows, the floor is that of
        both samples.

    Notes
    -----
    **Assumptions**: those of `IPWObjective` or of `OutcomeRegressionObjective`. Predictions of
    logged rows come from models that did not see them (cross-fitting).

    Source: Lin, Ben-Michael and Morency (2024), Proposition 4.3.

    Examples
    --------
    >>> import torch
    >>> theta = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    >>> texts, q = torch.tensor([0, 0, 1, 1]), torch.tensor([1., 1., 3., 3.], dtype=torch.float64)
    >>> logp = theta.log_softmax(0)[texts]
    >>> residual = torch.tensor([.5, -.5, 1., 0.], dtype=torch.float64)
    >>> parts = [Columns(payoff, logp.detach(), logp.detach()) for payoff in (residual, q)]
    >>> objective = DoublyRobustObjective()
    >>> objective.begin(parts)  # rows of the log, then draws of the start
    >>> both = torch.cat([logp, logp])
    >>> objective.refresh(both)
    >>> objective(both, torch.arange(8)).item()  # .25 + 2
    2.25
    """

    name = "doubly robust (DR-CPO)"
    samples: ClassVar[tuple[Literal["logged", "target"], ...]] = ("logged", "target")
    needs = (("logged", "outcome"), ("logged", "prediction"), ("target", "prediction"))

    def __init__(
        self,
        weights: Weighting | str = "hajek",
        *,
        weights_target: Weighting | str = "hajek",
        clip: Through = "value",
        kl: float = 0.0,
        entropy: float = 0.0,
        ess_floor: float = 0.1,
        kl_limit: float | None = None,
    ) -> None:
        super().__init__([weights, weights_target], clip, kl, entropy, ess_floor, kl_limit)


class LikelihoodObjective(Objective):
    r"""Mean log-probability of logged texts (supervised fine-tuning): the baseline.

    Parameters
    ----------
    rows : {"all", "high", "weighted"}, default "all"
        All rows alike, those with the highest outcomes, or each in proportion to its outcome
        (which must not be negative).
    share : float in (0, 1], default 0.5
        Share of rows that counts as "high"; rows tied with the last of them count too.
    weights, clip, kl, entropy, ess_floor, kl_limit
        As for `IPWObjective`; they concern penalties and floor only, which is off by default.

    Examples
    --------
    >>> import torch
    >>> objective = LikelihoodObjective("high", share=0.5)
    >>> y, logp = torch.tensor([0., 1., 2., 3.]), torch.tensor([-4., -3., -2., -1.])
    >>> objective.begin([Columns(y, logp, logp)])
    >>> objective.refresh(logp)
    >>> float(objective(logp.double(), torch.arange(4)))
    -1.5
    """

    name = "likelihood"
    needs = (("logged", "outcome"),)

    def __init__(
        self,
        rows: Literal["all", "high", "weighted"] = "all",
        *,
        share: float = 0.5,
        weights: Weighting | str = "hajek",
        clip: Through = "value",
        kl: float = 0.0,
        entropy: float = 0.0,
        ess_floor: float = 0.0,
        kl_limit: float | None = None,
    ) -> None:
        super().__init__([weights], clip, kl, entropy, ess_floor, kl_limit)
        if rows not in ("all", "high", "weighted"):
            raise ValueError(f'rows must be "all", "high" or "weighted", got {rows!r}.')
        self.rows = rows
        self.share = check_number("share", share, high=1.0)

    def begin(self, columns: list[Columns]) -> None:  # type: ignore[override]
        """As for every objective; the payoff decides which rows count."""
        outcome = columns[0].payoff.double()
        row_weight = self._weights_of(outcome)
        nothing = torch.zeros_like(outcome)  # the likelihood is no payoff of the policy's own texts
        super().begin(
            [Columns(nothing, columns[0].logp_logging, columns[0].logp_reference), *columns[1:]]
        )
        self.states[0].register_buffer("row_weight", row_weight)

    def _weights_of(self, outcome: Tensor) -> Tensor:
        """Weight of every row, of mean 1."""
        if self.rows == "all":
            return torch.ones_like(outcome)
        if self.rows == "high":
            count = max(1, round(self.share * len(outcome)))
            chosen = (outcome >= outcome.sort(descending=True).values[count - 1]).double()
        else:
            chosen = outcome
            if bool((outcome < 0).any()) or not bool(outcome.sum() > 0):
                raise ValueError(
                    'rows="weighted" needs outcomes that are not negative and not all 0; shift '
                    'them, or use rows="high".'
                )
        mean: Tensor = core.weighted_mean(chosen)
        return chosen / mean

    def _contributions(self, state: SampleState, logp: Tensor, rows: Tensor) -> Tensor:
        weight = state.get_buffer("row_weight")[rows]
        likelihood: Tensor = core.ipw_moment(weight, logp, normalize=False)[1]
        if not (self.kl or self.entropy):
            return likelihood
        return likelihood + state.contributions(logp, rows)

    def value(self) -> tuple[float, float]:
        """Mean log-probability of the rows that count, and its standard error."""
        state = self.states[0]
        logp = state.log_ratio + state.logp_logging
        found, influence = core.solve_linear_moment(
            *core.ipw_moment(state.get_buffer("row_weight"), logp, normalize=True)
        )
        return float(found), float(core.influence_covariance(influence)) ** 0.5

    @property
    def label(self) -> str:
        """Which rows count."""
        which = {
            "high": f"highest {self.share:.0%} of",
            "all": "all",
            "weighted": "outcome-weighted",
        }
        return f"likelihood of {which[self.rows]} rows [surrogate: not a value]"

    @property
    def exact(self) -> bool:
        """A likelihood is no value."""
        return False


class OnPolicyObjective(Objective):
    r"""Clipped policy gradient on fresh draws with a reward: the inner step of on-policy recipes.

    Use it where sequence weights of logged texts are hopeless: draw texts, reward them (with a
    retargeted outcome model, a classifier, people), take a few steps, draw again. With
    :math:`\rho = P_f / P_{f_t}` of a draw and its reward's distance from their mean,
    :math:`A = r - \bar r`, a step maximises the mean of

    .. math:: \min(\rho A, \operatorname{clip}(\rho, 1 - \epsilon, 1 + \epsilon) A).

    Parameters
    ----------
    clip_range : float, default 0.2
        ``epsilon``, on the ratio of whole texts. The clip is of the value: a draw that moved far
        enough has no gradient.
    kl, entropy, ess_floor, kl_limit
        As for `IPWObjective`; the effective sample size is that of the round's draws.

    Notes
    -----
    Exact at the first step of a round, where every ratio is 1; a surrogate after it.

    Source: Schulman et al. (2017), arXiv 1707.06347, equation 7, with one ratio per text.

    Examples
    --------
    >>> import torch
    >>> theta = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    >>> texts, q = torch.tensor([0, 0, 1, 1]), torch.tensor([1., 1., 3., 3.], dtype=torch.float64)
    >>> logp = theta.log_softmax(0)[texts]
    >>> objective = OnPolicyObjective()
    >>> objective.begin([Columns(q, logp.detach(), logp.detach())])  # rewards of fresh draws
    >>> objective.refresh(logp)
    >>> objective(logp, torch.arange(4)).backward()
    >>> theta.grad.tolist()  # towards the second text
    [-0.5, 0.5]
    """

    name = "on-policy"
    needs = (("logged", "outcome"),)

    def __init__(
        self,
        *,
        clip_range: float = 0.2,
        kl: float = 0.0,
        entropy: float = 0.0,
        ess_floor: float = 0.1,
        kl_limit: float | None = None,
    ) -> None:
        super().__init__([HorvitzThompson()], "value", kl, entropy, ess_floor, kl_limit)
        self.clip_range = check_number("clip_range", clip_range, high=0.999)

    def _contributions(self, state: SampleState, logp: Tensor, rows: Tensor) -> Tensor:
        payoff = state.full_payoff(logp, rows)
        baseline = self._baseline(state)
        ell = state.ratio(logp, rows)
        low, high = (torch.log1p(ell.new_tensor(s * self.clip_range)) for s in (-1, 1))
        parts = [
            core.residual_moment(
                core.relative_weights(e, normalize=False), payoff, baseline, normalize=False
            )[1]
            for e in (ell, torch.clamp(ell, low, high))
        ]
        return torch.minimum(*parts) + baseline

    @staticmethod
    def _baseline(state: SampleState) -> Tensor:
        """Mean payoff of the round's draws when they were drawn."""
        mean: Tensor = core.weighted_mean(state.full_payoff(state.logp_logging).detach())
        return mean

    def diagnostics(self) -> dict[str, float]:
        """As for every objective; the share clipped is that of ratios beyond the range."""
        found = super().diagnostics()
        ratio = self.states[0].log_ratio.exp()
        found["clip_share"] = float(((ratio - 1).abs() > self.clip_range).double().mean())
        found["value"] = float(core.weighted_mean(self.states[0].payoff))
        return found

    @property
    def exact(self) -> bool:
        """Exact at the first step of a round only."""
        return False

    @property
    def label(self) -> str:
        """Name and clip."""
        return f"on-policy [clip of the value at 1 +- {self.clip_range:g}; surrogate]"

    def _same(self, own: Tensor, saved: Tensor) -> bool:
        return True  # rewards are of the round's draws, which the checkpoint brings
