"""The pieces a sensitivity analysis takes from a fitted estimator: weights, predictions, draws."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from causal_lm_opt.core.weights import Weighting, relative_weights
from causal_lm_opt.diagnostics.sensitivity import (
    Bounds,
    PlugIn,
    hidden_confounder_bounds,
    hidden_confounder_contrast,
    interpolate_columns,
    logging_probability_bounds,
    logging_probability_contrast,
    resample_multipliers,
)
from causal_lm_opt.diagnostics.sensitivity._bounds import Rows
from causal_lm_opt.estimators._doubly_robust import target_predictions
from causal_lm_opt.estimators._log import Log
from causal_lm_opt.estimators._policies import LOGGING_POLICY, Policies
from causal_lm_opt.estimators._sensitivity_models import ConditionalModels
from causal_lm_opt.estimators._target import TargetRows
from causal_lm_opt.estimators.doubly_robust import DoublyRobust

__all__ = ["OmittedPieces", "Pieces", "PolicyPieces", "Workspace", "omitted_pieces"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PolicyPieces:
    """One policy: its weights, and its second sample's means of ``q`` and of the excess.

    Attributes
    ----------
    weight : array, shape (n,)
    means : array, shape (1 + 2 T,)
        ``E_f[q]``, then the excess of the lower and of the upper bound at T strengths.
    replicates : array, shape (B, 1 + 2 T), optional
        The same for resampled draws.
    has_excess : bool
        Whether the excess was modelled (not for weighting alone).
    """

    weight: FloatArray
    means: FloatArray | None
    replicates: FloatArray | None
    has_excess: bool


@dataclass(frozen=True, eq=False)
class Pieces:
    """What all policies share.

    Attributes
    ----------
    log : Log
    prediction : array (n,) or None
        ``q`` of a doubly robust value.
    normalize : bool
    models : ConditionalModels or None
        Conditional quantiles and excess; ``None`` for mis-scored logging probabilities.
    resamples : array (B, units)
    texts : array (n,) or None
        Text of each row, which shares one mis-scoring.
    policies : tuple of PolicyPieces
    names : tuple of str
        Of the policies, and the logging policy's last.
    """

    log: Log
    prediction: FloatArray | None
    normalize: bool
    models: ConditionalModels | None
    resamples: npt.NDArray[Any]
    texts: npt.NDArray[Any] | None
    policies: tuple[PolicyPieces, ...]
    names: tuple[str, ...]

    @property
    def _rows(self) -> dict[str, Any]:
        return {
            "sample_weight": self.log.sample_weight, "codes": self.log.codes,
            "resamples": self.resamples,
        }  # fmt: skip

    def bounds(self, k: int, lambdas: FloatArray) -> Bounds:
        """Bounds of policy ``k``'s value; of the logging policy's its mean, which none moves."""
        if k == self._logging:
            return self._observed(lambdas)
        part, y = self.policies[k], self.log.y
        if self.models is None:
            return logging_probability_bounds(
                part.weight, y, lambdas, prediction=self.prediction, plug_in=_plug_in(part),
                texts=self.texts, **self._rows,
            )  # fmt: skip
        low, high = self.models.quantiles_at(lambdas)
        rho = None
        if part.has_excess and self.prediction is not None:
            down, up = self.models.excess_at(lambdas)
            rho = (self.prediction[:, None] - down, self.prediction[:, None] + up)
        return hidden_confounder_bounds(
            part.weight, y, low, high, lambdas, prediction=self.prediction, rho=rho,
            plug_in=_plug_in(part, self.models, lambdas), normalize=self.normalize, **self._rows,
        )  # fmt: skip

    @property
    def _logging(self) -> int:
        """Position of the logging policy."""
        return len(self.policies)

    def _observed(self, lambdas: FloatArray) -> Bounds:
        """The mean outcome of the log: what its policy was worth, whatever decided who got what."""
        log = self.log
        rows = Rows.of(log.y.shape[0], log.sample_weight, log.codes, self.resamples)
        table = np.column_stack([np.ones(log.y.shape[0]), log.y])
        sums, totals = rows.frequency @ table, rows.totals(table)
        mean = np.full(lambdas.size, sums[1] / sums[0])
        means = np.repeat(totals[:, 1:] / totals[:, :1], lambdas.size, axis=1)
        return Bounds(lambdas, float(sums[1] / sums[0]), mean, mean, means, means, rows.dof)

    def contrast(self, k: int, reference: int, lambdas: FloatArray) -> Bounds:
        """Bounds of the difference of two policies' values, one violation for both."""
        if self._logging in (k, reference):
            return _minus(self.bounds(k, lambdas), self.bounds(reference, lambdas))
        one, two, y = self.policies[k], self.policies[reference], self.log.y
        draws = _difference(one, two)
        if self.models is None:
            return logging_probability_contrast(
                one.weight, two.weight, y, lambdas, prediction=self.prediction, plug_in=draws,
                texts=self.texts, **self._rows,
            )  # fmt: skip
        low, high = self.models.quantiles_at(lambdas)
        return hidden_confounder_contrast(
            one.weight, two.weight, y, low, high, lambdas, prediction=self.prediction,
            plug_in=draws, normalize=self.normalize, **self._rows,
        )  # fmt: skip


def _plug_in(
    part: PolicyPieces,
    models: ConditionalModels | None = None,
    lambdas: FloatArray | None = None,
) -> PlugIn | None:
    """Plug-in term at a grid of strengths."""
    if part.means is None:
        return None
    if models is None or lambdas is None or not part.has_excess:
        reps = None if part.replicates is None else part.replicates[:, 0]
        return PlugIn(float(part.means[0]), value_replicates=reps)
    size, at = models.lambdas.size, lambdas

    def moved(means: FloatArray) -> tuple[FloatArray, FloatArray]:
        down = interpolate_columns(models.lambdas, means[:, 1 : 1 + size], at)
        up = interpolate_columns(models.lambdas, means[:, 1 + size :], at)
        return means[:, :1] - down, means[:, :1] + up

    low, high = moved(part.means[None])
    if part.replicates is None:
        return PlugIn(float(part.means[0]), low[0], high[0])
    return PlugIn(
        float(part.means[0]), low[0], high[0], part.replicates[:, 0], *moved(part.replicates)
    )


def _minus(one: Bounds, two: Bounds) -> Bounds:
    """Bounds of a difference of which one side no violation moves: the sides are sharp together."""
    below = above = None
    if one.lower_replicates is not None and two.upper_replicates is not None:
        below = one.lower_replicates - two.upper_replicates
    if one.upper_replicates is not None and two.lower_replicates is not None:
        above = one.upper_replicates - two.lower_replicates
    return Bounds(
        one.lambdas, one.value - two.value, one.lower - two.upper, one.upper - two.lower, below,
        above, one.dof,
    )  # fmt: skip


def _difference(one: PolicyPieces, two: PolicyPieces) -> PlugIn | None:
    if one.means is None or two.means is None:
        return None
    replicates = None
    if one.replicates is not None or two.replicates is not None:
        left = one.means[0] if one.replicates is None else one.replicates[:, 0]
        right = two.means[0] if two.replicates is None else two.replicates[:, 0]
        replicates = np.asarray(left - right)
    return PlugIn(float(one.means[0] - two.means[0]), value_replicates=replicates)


# ------------------------------------------------------------------------------ making them
@dataclass(frozen=True, eq=False)
class Workspace:
    """A fitted estimator, its policies, and the seeded resamples."""

    estimator: Any
    policies: Policies
    n_bootstrap: int
    seed: int

    def pieces(self, models: ConditionalModels | None, texts: npt.NDArray[Any] | None) -> Pieces:
        """Weights and second-sample means of all policies."""
        log, policies = self.estimator.log_, self.policies
        weighting = Weighting.of(self.estimator.weights)
        resamples = resample_multipliers(
            log.y.shape[0], self.n_bootstrap, np.random.default_rng([self.seed, 0]),
            sample_weight=log.sample_weight, codes=log.codes,
        )  # fmt: skip
        prediction: FloatArray | None = None
        tables: list[FloatArray] = []
        if isinstance(self.estimator, DoublyRobust):
            prediction = self.estimator.splits_[0].logged
            tables = target_predictions(self.estimator.splits_[0], policies, log)
        draws = [self._draw_rows(i, rows, resamples) for i, rows in enumerate(policies.row_sets)]
        assert policies.ell is not None
        parts = []
        for k in range(policies.count):
            ell = policies.ell.column(k)
            weight = relative_weights(
                weighting.transform(ell, log.sample_weight), normalize=weighting.normalize
            )
            part = PolicyPieces(weight, None, None, False)
            if prediction is not None:
                index = policies.of_policy[k]
                part = self._with_draws(part, k, draws[index], tables[index], models)
                part = self._at_median(part, k, weighting)
            parts.append(part)
        names = (*policies.names, LOGGING_POLICY)
        return Pieces(
            log, prediction, weighting.normalize, models, resamples, texts, tuple(parts), names
        )

    def _draw_rows(self, i: int, rows: TargetRows, resamples: npt.NDArray[Any]) -> Rows:
        """Frequencies and resamples of one second sample; with the log where prompts are shared."""
        if rows.exact:
            return Rows.of(rows.size, rows.frequency, None, None)
        if rows.shared is not None:
            return Rows.of(rows.size, rows.frequency, rows.shared, resamples)
        plain = None if rows.plain else rows.frequency
        own = resample_multipliers(
            rows.size, self.n_bootstrap, np.random.default_rng([self.seed, 1 + i]),
            sample_weight=plain, codes=rows.groups,
        )  # fmt: skip
        return Rows.of(rows.size, plain, rows.groups, own)

    def _with_draws(
        self,
        part: PolicyPieces,
        k: int,
        draws: Rows,
        q: FloatArray,
        models: ConditionalModels | None,
    ) -> PolicyPieces:
        index = self.policies.of_policy[k]
        rows = self.policies.row_sets[index]
        fresh = Weighting.of(self.estimator.weights_target)
        weight, normalize = rows.policy_weight(k, fresh)
        columns = [q[:, None]]
        if models is not None and models.has_excess:
            columns += [models.draws_down[index], models.draws_up[index]]
        table = np.column_stack([np.ones(rows.size), *columns]) * weight[:, None]
        if not normalize:
            table[:, 0] = 1.0
        sums = draws.frequency @ table
        replicates = None
        if draws.resamples is not None:
            totals = draws.totals(table)
            replicates = totals[:, 1:] / totals[:, :1]
        return replace(
            part, means=sums[1:] / sums[0], replicates=replicates, has_excess=len(columns) > 1
        )

    def _at_median(self, part: PolicyPieces, k: int, weighting: Weighting) -> PolicyPieces:
        """Move the plug-in so that the value is the median over repeated splits, as reported."""
        splits = self.estimator.splits_
        if len(splits) == 1:
            return part
        log, index = self.estimator.log_, self.policies.of_policy[k]
        s = np.ones(log.y.shape[0]) if log.sample_weight is None else log.sample_weight
        bottom = float(s @ part.weight) if weighting.normalize else float(s.sum())
        rows = self.policies.row_sets[index]
        w0, normalize = rows.policy_weight(k, Weighting.of(self.estimator.weights_target))
        w0 = rows.frequency * w0
        w0 = w0 / (w0.sum() if normalize else rows.frequency.sum())
        values = [
            float((s * part.weight) @ (log.y - p.logged)) / bottom
            + float(w0 @ target_predictions(p, self.policies, log)[index])
            for p in splits
        ]
        shift = np.zeros_like(part.means)
        shift[0] = float(np.median(values)) - values[0]
        assert part.means is not None
        moved = None if part.replicates is None else part.replicates + shift
        return replace(part, means=part.means + shift, replicates=moved)


# ------------------------------------------------------------------------------ omitted variables
@dataclass(frozen=True, eq=False)
class OmittedPieces:
    """What an omitted-variable bound of a difference takes from a fit.

    Attributes
    ----------
    residual : array, shape (n,)
        ``y - q``, predicted without the row.
    weight : array, shape (n,)
    reference_weight : array, shape (n,), or None
        ``None``: the reference is the logging policy, whose mean no confounder biases.
    influence : array, shape (n,)
        Of the difference on the logged rows.
    fold : integer array, shape (n,)
        Folds of the cross-fit.
    """

    residual: FloatArray
    weight: FloatArray
    reference_weight: FloatArray | None
    influence: FloatArray
    fold: npt.NDArray[np.intp]


def omitted_pieces(estimator: DoublyRobust, policy: str, reference: str) -> OmittedPieces:
    """Pieces of a policy's difference from another one, or from the logging policy.

    Parameters
    ----------
    estimator : DoublyRobust
        Fitted, with an outcome model of its own.
    policy, reference : str
        ``reference`` may be "logging policy".
    """
    log, policies, result = estimator.log_, estimator.policies_, estimator.result_
    weighting = Weighting.of(estimator.weights)
    (logged,) = (s for s in result.samples if s.role == "logged")
    split = estimator.splits_[0]
    ratios = policies.ell
    assert split.crossfit is not None
    assert ratios is not None

    def of(name: str) -> tuple[FloatArray, FloatArray]:
        """Weights and influence of a policy's value."""
        k = policies.names.index(name)
        weight = relative_weights(
            weighting.transform(ratios.column(k), log.sample_weight), normalize=weighting.normalize
        )
        return weight, logged.influence[:, k]

    weight, one = of(policy)
    other: FloatArray | None = None
    two: FloatArray = log.y - float(np.average(log.y, weights=log.sample_weight))
    if reference != LOGGING_POLICY:
        other, two = of(reference)
    return OmittedPieces(log.y - split.logged, weight, other, one - two, split.crossfit.folds.fold)
