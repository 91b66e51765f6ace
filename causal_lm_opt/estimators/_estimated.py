"""Policies whose log ratios are estimated from their texts: reading, noise, findings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse
from sklearn.base import clone

from causal_lm_opt._validation import take_rows
from causal_lm_opt.core.weights import Weighting, relative_weights
from causal_lm_opt.diagnostics.ratio import RatioDiagnostics
from causal_lm_opt.estimators._log import Log
from causal_lm_opt.estimators._target import TargetRows
from causal_lm_opt.exceptions import NotIdentifiedError, OverlapError

__all__ = [
    "ESTIMATED",
    "EstimatedRatios",
    "fit_ratios",
    "ratio_noise",
    "refuse_log_probs",
    "value_slope",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

ESTIMATED = (
    "The density ratio is estimated ({label}): no diagnostic sees outcomes that respond to "
    "something in the text which the ratio leaves out (latent sufficiency), so that the verdict is "
    "never better than caution."
)


@dataclass(frozen=True, eq=False)
class EstimatedRatios:
    """Log ratios of the logged rows, one fitted density ratio a policy.

    Attributes
    ----------
    fits : tuple of fitted ratio estimators
    columns : array, shape (n, K)
    noisy : bool
        Whether values carry the ratios' own noise.
    replicate : bool
        Refitted on a resample, of which the value alone is wanted.
    memo : dict
        Readable features of log and draws, made once for the tests of all policies.
    """

    fits: tuple[Any, ...]
    columns: FloatArray
    noisy: bool = True
    replicate: bool = False
    memo: dict[str, Any] = field(default_factory=dict, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"memo": {}}

    @property
    def count(self) -> int:
        """Number of policies."""
        return int(self.columns.shape[1])

    def column(self, k: int) -> FloatArray:
        """Log ratios (n,) of policy ``k``."""
        return np.ascontiguousarray(self.columns[:, k])

    def take(self, rows: IntArray) -> EstimatedRatios:
        """The log ratios of a resample of the rows, not fitted anew."""
        return replace(self, columns=self.columns[rows])

    @property
    def parametric(self) -> bool:
        """Whether the noise of every ratio has a first-order form."""
        return all(f.influence_ is not None for f in self.fits)

    @property
    def labels(self) -> str:
        """How the ratios were made."""
        return "; ".join(dict.fromkeys(str(f.label_) for f in self.fits))

    def influence(self, k: int, slope: FloatArray) -> tuple[FloatArray, FloatArray] | None:
        """What the noise of ratio ``k`` adds to the influence of log (n,) and draws (m,)."""
        found = self.fits[k].influence_
        if not self.noisy or found is None:
            return None
        logged, target = found.move(slope)
        return np.asarray(logged), np.asarray(target)

    def diagnostics(self, k: int) -> RatioDiagnostics | None:
        """Diagnostics of ratio ``k``; ``None`` for a ratio that makes none."""
        if self.replicate or not hasattr(self.fits[k], "diagnose"):
            return None
        found: RatioDiagnostics = self.fits[k].diagnose()
        return found


def refuse_log_probs(logp_target: Any, logp_logging: Any, X_target: Any) -> None:
    """With ``ratio=`` there must be draws and no log-probs."""
    given = {"logp_target": logp_target, "logp_logging": logp_logging}
    named = [name for name, value in given.items() if value is not None]
    if named:
        raise ValueError(
            f"ratio= estimates P_f/P_R from the texts and {' and '.join(named)} would state it: "
            f"drop {' and '.join(named)} to use the estimated ratio, or ratio= to use log-probs."
        )
    if X_target is None:
        raise NotIdentifiedError(
            "ratio= needs X_target: texts of the target policy, to be told from the logged ones."
        )
    samples = X_target.values() if isinstance(X_target, Mapping) else [X_target]
    for sample in samples:
        if getattr(sample, "logp_sampling", None) is not None:
            raise ValueError(
                "ratio= takes draws of the target itself (or its exact support): TargetSample with "
                "logp_sampling= holds draws of another policy. Resample them by their weights, or "
                "drop ratio= and give logp_target and logp_logging."
            )
        if getattr(sample, "by", None) is not None:
            raise ValueError(
                "ratio= takes no X_target.by: one ratio is fitted for all readers. Fit each "
                "subgroup on its own."
            )


def fit_ratios(
    ratio: Any, log: Log, row_sets: tuple[TargetRows, ...], of_policy: tuple[int, ...]
) -> tuple[EstimatedRatios, tuple[TargetRows, ...]]:
    """A clone of ``ratio`` fitted for every policy, and the draws with their log ratios."""
    fits: list[Any] = []
    rows: list[TargetRows] = []
    for k, index in enumerate(of_policy):
        second = row_sets[index]
        fitted, drawn = _fit_one(ratio, log, second, k)
        if not np.isfinite(fitted.log_ratio_).any():
            raise OverlapError("ratio=: the estimated ratio gives every logged row weight 0.")
        fits.append(fitted)
        rows.append(replace(second, logp_target=None, estimated=drawn))
    columns = np.stack([f.log_ratio_ for f in fits], axis=1)
    return EstimatedRatios(tuple(fits), columns), tuple(rows)


def _fit_one(ratio: Any, log: Log, second: TargetRows, k: int) -> tuple[Any, FloatArray]:
    """The fitted clone and the log ratios (m,) of all rows of the second sample."""
    if not (hasattr(ratio, "fit") and hasattr(ratio, "get_params")):
        raise TypeError(
            f"ratio must be a density-ratio estimator such as DensityRatio() or BalancingRatio(), "
            f"got {ratio!r}."
        )
    if isinstance(ratio, type):
        raise TypeError(f"ratio is the class {ratio.__name__}: give {ratio.__name__}().")
    X, frequency, codes, some = second.X, second.frequency, second.shared, None
    if second.exact:
        assert second.probability is not None
        share = second.probability[:, second.columns[k]]
        some = np.flatnonzero(share > 0)
        X, frequency = take_rows(X, some), share[some] * log.size
    elif not (frequency > 0).all():
        raise ValueError("ratio= needs positive X_target.weight; drop draws of weight 0.")
    if codes is None and second.groups is not None:
        codes = np.unique(second.groups, return_inverse=True)[1] + log.n_clusters
    fitted = clone(ratio).fit(
        _named(log.X, log.columns),
        _named(X, log.columns),
        sample_weight=log.sample_weight,
        target_weight=frequency,
        groups=log.codes,
        target_groups=codes,
    )
    for name in ("log_ratio_", "log_ratio_target_", "influence_", "label_"):
        if not hasattr(fitted, name):
            raise TypeError(f"ratio={ratio!r} has no {name} after fit; use DensityRatio().")
    drawn = np.asarray(fitted.log_ratio_target_)
    if some is not None:
        every = np.full(second.size, -np.inf)  # support the policy never writes
        every[some] = drawn
        drawn = every
    return fitted, drawn


def _named(X: Any, columns: tuple[str, ...]) -> Any:
    """A numeric array as the frame that it was made of, so that columns can be named."""
    if not columns or hasattr(X, "columns") or sparse.issparse(X) or X.ndim != 2:
        return X
    return pd.DataFrame(X, columns=list(columns))


def ratio_noise(
    ratios: EstimatedRatios | None,
    k: int,
    ell: FloatArray,
    residual: FloatArray,
    weighting: Weighting,
    value: float,
    log: Log,
    rows: IntArray | None,
) -> tuple[FloatArray, FloatArray] | None:
    """First-order effect of ratio ``k``'s fit on a weighted mean over ``rows``: (n,), (m,).

    ``None`` where the ratio is known, or its noise has no such form.
    """
    if ratios is None or not ratios.noisy or ratios.fits[k].influence_ is None:
        return None
    s = log.sample_weight if log.sample_weight is None or rows is None else log.sample_weight[rows]
    slope = value_slope(ell, residual, weighting, s, value)
    if rows is not None:
        full = np.zeros(log.y.shape[0])
        full[rows] = slope
        slope = full
    return ratios.influence(k, slope)


def value_slope(
    ell: FloatArray,
    residual: FloatArray,
    weighting: Weighting,
    s: FloatArray | None,
    value: float,
) -> FloatArray:
    r"""Derivative of the weighted mean of ``residual`` in each row's log ratio, shape (n,).

    :math:`s_i w_i' (r_i - V) / \sum s w` (self-normalised) or :math:`s_i w_i' r_i / \sum s`, with
    :math:`w' = dw/d\ell` of the transform (of Pareto smoothing that of the raw weight).
    """
    transformed = weighting.transform(ell, s)
    weight = relative_weights(transformed, normalize=weighting.normalize)
    if weighting.kind not in ("none", "pareto"):
        step = 1e-5
        with np.errstate(invalid="ignore"):
            rise = weighting.transform(ell + step, s) - weighting.transform(ell - step, s)
        weight_slope = weight * np.nan_to_num(rise / (2 * step), nan=0.0, posinf=0.0, neginf=0.0)
    else:
        weight_slope = weight
    count = np.ones(ell.shape[0]) if s is None else s
    if weighting.normalize:
        return np.asarray(count * weight_slope * (residual - value) / (count @ weight))
    return np.asarray(count * weight_slope * residual / count.sum())
