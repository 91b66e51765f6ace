r"""Omitted-variable bias of a value in terms of explained variance.

With the right weight :math:`\alpha` (:math:`w r` for a hidden confounder) and the right regression
:math:`g(X, U)` the bias of a value that leaves ``U`` out is
:math:`E[(g - g_s)(\alpha - w)]`, so that

.. math:: |\mathrm{bias}| \le S\, C_Y C_D, \qquad S^2 = E(Y - q)^2\, E w^2,

:math:`C_Y^2` the share of the residual variance of the outcome that ``U`` explains, and
:math:`C_D^2 = E(\alpha - w)^2 / E w^2`, how much it adds to the weights' second moment
(Chernozhukov, Cinelli, Newey, Sharma and Syrgkanis 2022).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

from causal_lm_opt._validation import check_vector
from causal_lm_opt.diagnostics._units import Units
from causal_lm_opt.diagnostics.sensitivity._bounds import check_weight

__all__ = [
    "ConfounderStrength",
    "OmittedVariableBound",
    "benchmark_strength",
    "omitted_variable_bound",
]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ConfounderStrength:
    r"""Strength of a confounder.

    Attributes
    ----------
    outcome : float
        Share of the outcome's residual variance it explains, :math:`C_Y^2` in [0, 1].
    weight : float
        Share of the right weights' second moment it explains, in [0, 1): with it
        :math:`C_D^2 = share / (1 - share)`.

    Examples
    --------
    >>> ConfounderStrength.of_lambda(2.0).c_weight**2
    0.5
    """

    outcome: float
    weight: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.outcome <= 1.0:
            raise ValueError(f"outcome must be a share in [0, 1], got {self.outcome!r}.")
        if not 0.0 <= self.weight < 1.0:
            raise ValueError(f"weight must be a share in [0, 1), got {self.weight!r}.")

    @classmethod
    def of_lambda(cls, lam: float, outcome: float = 1.0) -> ConfounderStrength:
        r"""The most a hidden confounder with :math:`r \in [1/\Lambda, \Lambda]` can do.

        :math:`E[r \mid X] = 1` then gives :math:`E[(r-1)^2 \mid X] \le (\Lambda-1)^2/\Lambda`.
        """
        if not (math.isfinite(lam) and lam >= 1):
            raise ValueError(f"lam must be a finite number of at least 1, got {lam!r}.")
        extra = (lam - 1.0) ** 2 / lam
        return cls(outcome, extra / (1.0 + extra))

    @property
    def c_outcome(self) -> float:
        r""":math:`C_Y`."""
        return math.sqrt(self.outcome)

    @property
    def c_weight(self) -> float:
        r""":math:`C_D`."""
        return math.sqrt(self.weight / (1.0 - self.weight))

    @property
    def factor(self) -> float:
        r""":math:`C_Y C_D`, which multiplies the scale ``S``."""
        return self.c_outcome * self.c_weight


@dataclass(frozen=True, eq=False)
class OmittedVariableBound:
    """A value with the bias a confounder of stated strength could bring.

    Attributes
    ----------
    value, se : float
        Estimate and its standard error.
    strength : ConfounderStrength
    scale, scale_se : float
        ``S``, in outcome units, and its standard error.
    bias, bias_se : float
        Bound on the absolute bias, ``S C_Y C_D``.
    lower, upper : float
        ``value -+ bias``.
    lower_se, upper_se : float
        Standard errors of the two bounds (the bias bound is estimated too).
    covariance : float
        Between the value and ``S``.
    dof : float
        One less than the number of equal clusters that the clusters are worth; ``inf`` for rows.
    """

    value: float
    se: float
    strength: ConfounderStrength
    scale: float
    scale_se: float
    bias: float
    bias_se: float
    lower: float
    upper: float
    lower_se: float
    upper_se: float
    covariance: float
    dof: float

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Interval for the value under any confounder up to the stated strength."""
        z = self._quantile(level)
        return self.lower - z * self.lower_se, self.upper + z * self.upper_se

    def _quantile(self, level: float) -> float:
        if not 0.0 < level < 1.0:
            raise ValueError(f"level must lie strictly between 0 and 1, got {level!r}.")
        central: Any = stats.norm if math.isinf(self.dof) else stats.t(self.dof)
        return float(central.ppf(0.5 + level / 2))

    def robustness_value(self, null: float = 0.0, level: float | None = None) -> float:
        r"""Strength, equal in outcome and weights, at which the value may be ``null``.

        The smallest share ``v`` with :math:`S\, v / \sqrt{1 - v} \ge |V - null|` (with ``level``:
        at which the interval of :meth:`interval` reaches ``null``; 0 if it does so already).

        Examples
        --------
        >>> w, y = np.ones(4), np.array([0., 1., 2., 3.])
        >>> bound = omitted_variable_bound(y - 1.5, w, ConfounderStrength(.1, .1), value=1.5,
        ...                                influence=y - 1.5)
        >>> round(bound.robustness_value(1.0), 3)
        0.358
        """
        distance = abs(self.value - null)
        sign = 1.0 if self.value > null else -1.0
        z = 0.0 if level is None else self._quantile(level)

        def margin(share: float) -> float:
            factor = share / math.sqrt(1.0 - share)
            moved = self.se**2 + (factor * self.scale_se) ** 2 - 2 * sign * factor * self.covariance
            return distance - self.scale * factor - z * math.sqrt(max(moved, 0.0))

        if margin(0.0) <= 0:
            return 0.0
        end = 1.0 - 1e-12
        return 1.0 if margin(end) > 0 else float(optimize.brentq(margin, 0.0, end, xtol=1e-12))

    @property
    def sentence(self) -> str:
        """The finding in words."""
        return (
            f"A hidden confounder that explains {self.strength.outcome:.1%} of the outcome's "
            f"residual variance and {self.strength.weight:.1%} of the weights' variation could "
            f"move the value by at most {self.bias:.3g} (se {self.bias_se:.2g}): "
            f"{self.lower:.4g} to {self.upper:.4g}."
        )


def omitted_variable_bound(
    residual: Any,
    weight: Any,
    strength: ConfounderStrength,
    *,
    value: float,
    influence: Any,
    reference_weight: Any = None,
    draws_variance: float = 0.0,
    sample_weight: Any = None,
    codes: Any = None,
) -> OmittedVariableBound:
    r"""Bound on the bias from a hidden confounder of stated explanatory strength.

    Parameters
    ----------
    residual : array, shape (n,)
        ``y - q``, predictions made without the row.
    weight : array, shape (n,)
        Importance weights; scaled to mean 1.
    strength : ConfounderStrength
    value : float
    influence : array, shape (n,)
        Influence function of ``value`` on the logged rows (``result_.influence``). Sampling error
        of draws is not in it.
    reference_weight : array, shape (n,), optional
        For ``value`` a difference of two policies' values: the other one's weights (ones: the
        logging policy, had it assigned its texts at random). The difference of the two weights
        then takes the place of ``w``, and the bias is that of the difference.
    draws_variance : float
        Variance that draws of the target add to that of ``value``.
    sample_weight, codes : arrays, shape (n,), optional
        Frequencies and clusters.

    Returns
    -------
    OmittedVariableBound

    Raises
    ------
    ValueError
        For wrong shapes, negative weights or variances, shares outside [0, 1].

    Notes
    -----
    **Assumptions.** Right log-probs and overlap; residuals of a consistent outcome model (a poor
    one inflates ``S`` and so widens). Influence of the bounds: Chernozhukov et al. (2022), with
    known weights.

    Examples
    --------
    >>> w, y = np.ones(4), np.array([0., 1., 2., 3.])
    >>> b = omitted_variable_bound(y - 1.5, w, ConfounderStrength(.5, .2), value=1.5,
    ...                            influence=y - 1.5)
    >>> round(b.bias, 4), round(b.lower, 4)           # sqrt(1.25 * .5 * .25)
    (0.3953, 1.1047)
    """
    e = np.asarray(residual, dtype=np.float64)
    n = int(e.shape[0]) if e.ndim else 0
    e, phi = check_vector(e, "residual", n), check_vector(influence, "influence", n)
    if not math.isfinite(value):
        raise ValueError(f"value must be finite, got {value!r}.")
    if not (math.isfinite(draws_variance) and draws_variance >= 0.0):
        raise ValueError(f"draws_variance must be finite, at least 0; got {draws_variance!r}.")
    units = Units.of(n, sample_weight, codes)
    frequency = np.ones(n) if sample_weight is None else np.asarray(sample_weight, dtype=float)
    alpha, drift = _representer(weight, reference_weight, frequency, units)
    e, phi = e[units.kept], phi[units.kept]
    variance, moment = float(units.mean(e * e)), float(units.mean(alpha * alpha))
    scale = math.sqrt(variance * moment)
    moved = moment * (e * e - variance) + variance * (alpha * alpha - moment - drift)
    root = moved / (2.0 * scale) if scale > 0 else np.zeros_like(moved)
    cov = np.array(units.covariance(np.stack([phi, root], axis=1)))
    cov[0, 0] += draws_variance
    factor = strength.factor

    def se(sign: float) -> float:
        direction = np.array([1.0, sign * factor])
        return math.sqrt(max(float(direction @ cov @ direction), 0.0))

    scale_se = math.sqrt(max(float(cov[1, 1]), 0.0))
    return OmittedVariableBound(
        value=float(value), se=math.sqrt(max(float(cov[0, 0]), 0.0)), strength=strength,
        scale=scale, scale_se=scale_se, bias=factor * scale, bias_se=factor * scale_se,
        lower=value - factor * scale, upper=value + factor * scale, lower_se=se(-1.0),
        upper_se=se(1.0), covariance=float(cov[0, 1]),
        dof=units.dof,
    )  # fmt: skip


def _representer(
    weight: Any, reference_weight: Any, frequency: FloatArray, units: Units
) -> tuple[FloatArray, FloatArray]:
    """Weights of mean 1, or their difference; and what estimating their means does to E[alpha^2].

    That moment's influence is ``alpha^2 - E alpha^2 - drift``, since ``d E[w^2]/E[w]^2`` moves
    with the mean of ``w`` too.
    """
    n = frequency.shape[0]
    w = check_weight(weight, "weight", n, frequency)[units.kept]
    w = w / float(units.mean(w))
    if reference_weight is None:
        return w, 2.0 * float(units.mean(w * w)) * (w - 1.0)
    v = check_weight(reference_weight, "reference_weight", n, frequency)[units.kept]
    v = v / float(units.mean(v))
    alpha = w - v
    drift = float(units.mean(alpha * w)) * (w - 1.0) - float(units.mean(alpha * v)) * (v - 1.0)
    return alpha, 2.0 * drift


def benchmark_strength(
    residual: Any,
    residual_without: Any,
    weight: Any = None,
    weight_without: Any = None,
    *,
    times: float = 1.0,
    sample_weight: Any = None,
) -> ConfounderStrength:
    r"""Strength of a confounder ``times`` as strong as an observed covariate.

    Parameters
    ----------
    residual, residual_without : arrays, shape (n,)
        Residuals of the outcome models with and without the covariate, predicted without the row.
    weight, weight_without : arrays, shape (n,), optional
        Weights given, and not given, the covariate (their second moments are compared). ``None``:
        texts were assigned without regard to it, share 0.
    times : float
        2 for "twice as strong": both shares are doubled (and stop at 1).
    sample_weight : array, shape (n,), optional

    Returns
    -------
    ConfounderStrength
        ``outcome``: what the covariate adds to the explained variance, over the variance left
        (Chernozhukov et al. 2022); ``weight``: what it adds to the weights' second moment,
        over that moment.

    Examples
    --------
    >>> e = np.array([-1., 1., -1., 1.])
    >>> benchmark_strength(e, 1.1 * e, times=2)
    ConfounderStrength(outcome=0.42..., weight=0.0)
    """
    if not (math.isfinite(times) and times > 0):
        raise ValueError(f"times must be a positive number, got {times!r}.")
    if (weight is None) != (weight_without is None):
        raise ValueError("weight and weight_without go together.")
    n = int(np.size(residual))
    s = np.ones(n) if sample_weight is None else check_vector(sample_weight, "sample_weight", n)

    def second_moment(values: Any, name: str) -> float:
        x = check_vector(values, name, n)
        return float(s @ (x * x) / s.sum())

    with_it = second_moment(residual, "residual")
    without = second_moment(residual_without, "residual_without")
    if with_it == 0.0:
        raise ValueError("residual is 0 everywhere: no variance is left for a confounder.")
    outcome = min(times * max(without / with_it - 1.0, 0.0), 1.0)
    if weight is None:
        return ConfounderStrength(outcome, 0.0)
    w, v = (
        check_weight(weight, "weight", n, s),
        check_weight(weight_without, "weight_without", n, s),
    )
    ratio = second_moment(v / (s @ v), "weight_without") / second_moment(w / (s @ w), "weight")
    return ConfounderStrength(outcome, min(times * max(1.0 - ratio, 0.0), 1.0 - 1e-12))
