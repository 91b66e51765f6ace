"""What all objectives share: samples, steps, synchronised state, trust region."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from causal_lm_opt import core
from causal_lm_opt.core.weights import Weighting
from causal_lm_opt.exceptions import OverlapError
from causal_lm_opt.lm._objective_state import Columns, SampleState, gather_all

__all__ = ["Objective", "check_number"]

Through = Literal["value", "gradient"]
SAMPLES = ("logged", "target")


def check_number(name: str, value: float, *, low: float = 0.0, high: float = math.inf) -> float:
    """A finite number within bounds, or ValueError."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not low <= value <= high:
        raise ValueError(f"{name} must be a number in [{low:g}, {high:g}], got {value!r}.")
    return float(value)


class Objective(nn.Module):
    """Base of the objectives; see `IPWObjective` for the shared parameters.

    Rows are numbered through: those of the first sample, then those of the second.
    """

    #: Samples the objective rests on, in the order rows are numbered.
    samples: ClassVar[tuple[Literal["logged", "target"], ...]] = ("logged",)
    #: Columns it cannot do without: (sample, column).
    needs: ClassVar[tuple[tuple[str, str], ...]] = ()
    name: ClassVar[str] = "objective"

    def __init_subclass__(cls, **given: Any) -> None:
        """Check the class's own table of samples and columns when it is defined."""
        super().__init_subclass__(**given)
        strange: list[str] = [name for name in cls.samples if name not in SAMPLES]
        strange += [name for name, _ in cls.needs if name not in cls.samples]
        if strange:
            raise TypeError(
                f"{cls.__name__} names a sample {strange[0]!r}: samples are {list(SAMPLES)}, and "
                "needs pairs one of the class's own with a column, as in (('logged', 'outcome'),)."
            )

    def __init__(
        self, weights: Sequence[Weighting | str], clip: Through, kl: float, entropy: float,
        ess_floor: float, kl_limit: float | None,
    ) -> None:  # fmt: skip
        super().__init__()
        if clip not in ("value", "gradient"):
            raise ValueError(f'clip must be "value" or "gradient", got {clip!r}.')
        self.weightings, self.clip = [Weighting.of(w) for w in weights], clip
        self.kl, self.entropy = check_number("kl", kl), check_number("entropy", entropy)
        self.ess_floor = check_number("ess_floor", ess_floor, high=1.0)
        self.kl_limit = None if kl_limit is None else check_number("kl_limit", kl_limit)
        self.frozen = False
        self._states = nn.ModuleList()
        self._pending: list[tuple[Tensor, Tensor]] = []

    # ------------------------------------------------------------------ beginning
    def begin(self, columns: Sequence[Columns]) -> None:
        """Take up the samples' columns, in the order of ``samples``; log ratios are not known yet.

        Raises
        ------
        ValueError
            If there is not one set of columns per sample.
        """
        if len(columns) != len(self.samples):
            raise ValueError(
                f"{self.name} rests on {len(self.samples)} sample(s), {list(self.samples)}; got "
                f"columns of {len(columns)}."
            )
        made = []
        for i, part in enumerate(columns):
            # Penalties are paid once, on the first sample.
            kl, entropy = (self.kl, self.entropy) if i == 0 else (0.0, 0.0)
            made.append(SampleState(part, self.weightings[i], self.clip, kl, entropy))
        self._states = nn.ModuleList(made)
        self._pending = []

    @property
    def states(self) -> list[SampleState]:
        """One per sample."""
        if not len(self._states):
            raise RuntimeError(f"{self.name} has no rows yet: call begin(columns) first.")
        return [cast(SampleState, state) for state in self._states]

    @property
    def sizes(self) -> list[int]:
        """Rows of each sample."""
        return [len(state) for state in self.states]

    @property
    def ready(self) -> bool:
        """Whether every row's log ratio is known."""
        return bool(len(self._states)) and all(
            bool(torch.isfinite(s.log_ratio).all() and torch.isfinite(s.centre))
            for s in self.states
        )

    def fill(self, logp_reference: Tensor) -> None:
        """Give rows whose logging or reference log-probability is not known that of the reference.

        Parameters
        ----------
        logp_reference : (N,) tensor, all rows of all samples
        """
        for state, logp in zip(self.states, self._split(logp_reference), strict=True):
            logp = logp.detach().double()
            for name in ("logp_logging", "logp_reference"):
                known = getattr(state, name)
                setattr(state, name, torch.where(torch.isnan(known), logp, known))

    def refresh(self, logp: Tensor) -> None:
        """Take every row's log-probability (N,) under the current policy as the state.

        With the state frozen at the current policy, the gradients of an epoch's steps average to
        the full-sample gradient exactly.
        """
        for state, part in zip(self.states, self._split(logp), strict=True):
            state.refresh(part)
        self._check()

    # ------------------------------------------------------------------ a step
    def forward(self, logp: Tensor, rows: Tensor) -> Tensor:
        """The batch's estimate of the objective, to be MAXIMISED; carries gradient to ``logp``.

        Parameters
        ----------
        logp : (b,) float64 tensor
            Log-probability of each row under the policy being trained.
        rows : (b,) int64 tensor
            Which rows they are, numbered through the samples.

        Returns
        -------
        () float64 tensor
            Batches of equal size that partition all rows average to the full-sample value.

        Raises
        ------
        OverlapError
            If a weight overflows.
        """
        if logp.shape != rows.shape or logp.ndim != 1:
            raise ValueError(
                f"logp and rows must be (b,), got {tuple(logp.shape)} and {tuple(rows.shape)}."
            )
        logp = logp.double()
        terms, centre = torch.zeros_like(logp), logp.new_zeros(())
        total, offset = sum(self.sizes), 0
        for state, n in zip(self.states, self.sizes, strict=True):
            mine = ((rows >= offset) & (rows < offset + n)).nonzero()[:, 0]
            own, at = logp[mine], rows[mine] - offset
            part = self._contributions(state, own, at) * (total / n)
            terms = terms.index_put((mine,), part)
            centre = centre + state.centre
            self._pending.append((rows[mine], state.ratio(own, at).detach()))
            offset += n
        value: Tensor = centre + core.solve_linear_moment(1.0, terms)[0]
        if not bool(torch.isfinite(value.detach())):
            raise OverlapError(
                f"{self.name}: a weight overflows; use weights='hajek' or a clipped or tempered "
                "transform, a smaller learning rate, or a tighter kl_limit."
            )
        return value

    def _contributions(self, state: SampleState, logp: Tensor, rows: Tensor) -> Tensor:
        return state.contributions(logp, rows)

    def commit(self) -> None:
        """After an optimiser step: what all its rows said, on all processes, becomes the state.

        Every process must have seen as many rows. Nothing changes while ``frozen``.
        """
        pending, self._pending = self._pending, []
        if self.frozen or not pending:
            return
        rows = gather_all(torch.cat([r for r, _ in pending]))
        ratio = gather_all(torch.cat([e for _, e in pending]))
        offset = 0
        for state, n in zip(self.states, self.sizes, strict=True):
            mine = (rows >= offset) & (rows < offset + n)
            state.remember(rows[mine] - offset, ratio[mine])
            state.settle()
            offset += n

    # ------------------------------------------------------------------ the whole sample
    def value(self) -> tuple[float, float]:
        """Value of the current policy on these rows, and its standard error, from the state.

        Rows the policy was trained on flatter it: report a value on other rows.
        """
        value, variance = 0.0, 0.0
        for state in self.states:
            part, influence = state.solve()
            value += float(part)
            variance += float(core.influence_covariance(influence))
        return value, math.sqrt(variance)

    def diagnostics(self) -> dict[str, float]:
        """Raw ESS share, sd of the log ratio, share clipped, KL, entropy, value on these rows."""
        first, *others = [state.health() for state in self.states]
        found = dict(first)
        for other in others:
            found |= {f"target_{key}": other[key] for key in ("ess", "sd_log_ratio", "clip_share")}
        found["value"] = self.value()[0]
        return found

    def violation(self) -> str | None:
        """Why the trust region is left, in words; None inside it."""
        if not self.ess_floor and self.kl_limit is None:
            return None
        for name, state in zip(self.samples, self.states, strict=True):
            health = state.health()
            if health["ess"] < self.ess_floor:
                return (
                    f"the effective sample size of the {name} rows is {health['ess']:.1%} of them, "
                    f"below ess_floor={self.ess_floor:g}"
                )
            if self.kl_limit is not None and health["kl"] > self.kl_limit:
                return f"KL to the reference is {health['kl']:.3g}, above kl_limit={self.kl_limit}"
        return None

    # ------------------------------------------------------------------ words
    @property
    def exact(self) -> bool:
        """Whether the gradient is the value's own, given current state."""
        return all(weighting.unbiased for weighting in self.weightings)

    @property
    def label(self) -> str:
        """Name, weights, and whether the objective is exact or a surrogate."""
        labels = ", draws ".join(weighting.label for weighting in self.weightings)
        why = {self._surrogate(w) for w in self.weightings if not w.unbiased}
        kind = f"surrogate: {', '.join(sorted(why))}" if why else "exact"
        return f"{self.name} [{labels}; {kind}]"

    def _surrogate(self, weighting: Weighting) -> str:
        if weighting.kind == "pareto":
            return "smoothed weights, held fixed in the gradient"
        return f"{weighting.kind} of the {self.clip}"

    def extra_repr(self) -> str:
        """Shown by ``print``."""
        return self.label

    # ------------------------------------------------------------------ helpers
    def _split(self, x: Tensor) -> Sequence[Tensor]:
        if x.shape != (sum(self.sizes),):
            raise ValueError(f"expected one number per row ({sum(self.sizes)},), got {x.shape}.")
        return list(torch.split(x, self.sizes))

    def _check(self) -> None:
        for name, state in zip(self.samples, self.states, strict=True):
            if not bool(torch.isfinite(state.log_ratio).all() & torch.isfinite(state.centre)):
                raise OverlapError(
                    f"{self.name}: log-probabilities or weights of the {name} rows are not finite; "
                    "were logp_logging and the model's log-probabilities taken of the same texts?"
                )

    def load_buffers(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up a state saved by ``state_dict`` for the same rows.

        Raises
        ------
        ValueError
            If it belongs to other rows: other numbers of them, or other outcomes.
        """
        own = self.state_dict()
        wrong = sorted(
            key for key in own.keys() | tensors.keys()
            if key not in own or key not in tensors or own[key].shape != tensors[key].shape
        )  # fmt: skip
        wrong += [
            key for key in own
            if not wrong
            and key.endswith(("payoff", "row_weight"))
            and not self._same(own[key], tensors[key])
        ]  # fmt: skip
        if wrong:
            raise ValueError(
                f"the checkpoint's objective belongs to other rows ({wrong[0]} differs); resume "
                "with the training data and objective it was made with."
            )
        self.load_state_dict(dict(tensors))
        for state in self.states:
            state.known_health = None

    def _same(self, own: Tensor, saved: Tensor) -> bool:
        return bool(torch.equal(own.cpu(), saved.cpu()))
