r"""Log density ratios, importance weights and their transforms, all in log space.

With :math:`\ell = \log P_f(x) - \log P_R(x)` the weight is :math:`w = e^\ell`. Every transform
maps :math:`\ell \mapsto \ell'`, so that log ratios of :math:`\pm 10^4` never overflow before a
self-normalised estimate is formed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace, is_numpy_array

from causal_lm_opt.core.pareto import pareto_smooth
from causal_lm_opt.core.solve import weighted_mean

__all__ = [
    "Clip",
    "Hajek",
    "HorvitzThompson",
    "ParetoSmooth",
    "Shrink",
    "Switch",
    "Temper",
    "Weighting",
    "log_ratio",
    "relative_weights",
    "transform_bias",
]

Array = Any
LARGEST_EXPONENT = 300.0  # squares and products with outcomes must stay finite in float64


def log_ratio(logp_target: Array, logp_logging: Array) -> Array:
    r"""Log density ratio :math:`\ell = \log P_f - \log P_R`, the only place that forms it.

    Parameters
    ----------
    logp_target : array, shape (n,) or (n, K)
        Natural log-probabilities under the target; ``-inf`` where the policy never writes the text.
    logp_logging : array, shape (n,)
        Natural log-probabilities under the logging policy, finite.

    Returns
    -------
    array, shape of ``logp_target``; gradients flow to both arguments.

    Examples
    --------
    >>> import numpy as np
    >>> log_ratio(np.log([.2, .8]), np.log([.5, .5])).round(3).tolist()
    [-0.916, 0.47]
    """
    if logp_target.ndim == 2 and logp_logging.ndim == 1:
        logp_logging = logp_logging[:, None]
    return logp_target - logp_logging


def _clip(ell: Array, c: float, _: Array | None) -> Array:
    xp = array_namespace(ell)
    return xp.clip(ell, max=math.log(c))


def _shrink(ell: Array, lam: float, _: Array | None) -> Array:
    """``lam w / (w^2 + lam)`` in logs, with ``-inf`` (a text never written) kept at ``-inf``."""
    xp = array_namespace(ell)
    constant = xp.full_like(ell, math.log(lam))
    return constant + ell - xp.logaddexp(2.0 * ell, constant)


def _temper(ell: Array, beta: float, _: Array | None) -> Array:
    return beta * ell


def _switch(ell: Array, tau: float, _: Array | None) -> Array:
    xp = array_namespace(ell)
    return xp.where(ell > math.log(tau), xp.full_like(ell, -math.inf), ell)


def _smooth(ell: Array, _: float, s: Array | None) -> Array:
    xp = array_namespace(ell)
    if ell.ndim == 1:
        return pareto_smooth(ell, s)[0]
    return xp.stack([pareto_smooth(ell[:, k], s)[0] for k in range(ell.shape[1])], axis=1)


_TRANSFORMS: dict[str, Callable[[Array, float, Array | None], Array]] = {
    "none": lambda ell, _, __: ell,
    "clip": _clip,
    "shrink": _shrink,
    "temper": _temper,
    "switch": _switch,
    "pareto": _smooth,
}
# fmt: off
_WITH_PARAMETER = {
    "clip",
    "shrink",
    "temper",
    "switch",
}
# fmt: on


@dataclass(frozen=True)
class Weighting:
    r"""How log ratios become weights: a transform, and whether weights are self-normalised.

    Build one with :func:`HorvitzThompson`, :func:`Hajek`, :func:`Clip`, :func:`Shrink`,
    :func:`Temper`, :func:`ParetoSmooth` or :func:`Switch`; ``Weighting.of("hajek")`` reads the
    names ``"hajek"``, ``"ht"`` (or ``"none"``) and ``"psis"``.

    Parameters
    ----------
    kind : {"none", "clip", "shrink", "temper", "switch", "pareto"}
    parameter : float or None
        Clipping bound, shrinkage ``lambda``, exponent ``beta`` or switching threshold ``tau``.
    normalize : bool
        Divide by the mean weight (Hajek). The moment is then ``a_i = w_i`` instead of ``a_i = 1``.

    Notes
    -----
    Every kind other than ``"none"`` is biased for V(f); :func:`transform_bias` bounds that bias and
    the estimators widen their intervals by it. ``Switch`` drops weights above ``tau``: in a doubly
    robust value the outcome model stands in for them (Wang, Agarwal and Dudik 2017).

    Examples
    --------
    >>> import numpy as np
    >>> Clip(2.0).transform(np.log([.5, 10.])).round(3).tolist()
    [-0.693, 0.693]
    >>> Weighting.of("hajek")
    Weighting(kind='none', parameter=None, normalize=True)
    """

    kind: str = "none"
    parameter: float | None = None
    normalize: bool = True

    def __post_init__(self) -> None:
        if self.kind not in _TRANSFORMS:
            raise ValueError(
                f"weights: unknown kind {self.kind!r}; use one of {sorted(_TRANSFORMS)}."
            )
        needs = self.kind in _WITH_PARAMETER
        if needs != (self.parameter is not None):
            raise ValueError(
                f"weights: {self.kind!r} {'needs' if needs else 'takes no'} parameter, "
                f"got {self.parameter!r}."
            )
        if self.parameter is not None and not (
            math.isfinite(self.parameter) and self.parameter > 0
        ):
            raise ValueError(
                f"weights: the parameter of {self.kind!r} must be a positive number, "
                f"got {self.parameter!r}."
            )
        if self.kind == "temper" and self.parameter is not None and self.parameter > 1:
            raise ValueError(f"weights: Temper(beta) needs 0 < beta <= 1, got {self.parameter!r}.")

    @classmethod
    def of(cls, weights: Weighting | str) -> Weighting:
        """Read the ``weights=`` argument of an estimator."""
        if isinstance(weights, Weighting):
            return weights
        named = {
            "hajek": Hajek,
            "ht": HorvitzThompson,
            "none": HorvitzThompson,
            "psis": ParetoSmooth,
        }
        if isinstance(weights, str) and weights in named:
            return named[weights]()
        raise ValueError(
            f"weights={weights!r} is not known; use 'hajek', 'ht', 'psis', or a weighting of "
            "causal_lm_opt.core: Clip(c), Shrink(lam), Temper(beta), ParetoSmooth(), Switch(tau), "
            "or one of your own."
        )

    def transform(self, ell: Array, sample_weight: Array | None = None) -> Array:
        """Transformed log weights, shape of ``ell``; gradients flow.

        Frequency weights (n,) matter to Pareto smoothing only, whose tail counts rows.
        """
        parameter = 0.0 if self.parameter is None else self.parameter
        return _TRANSFORMS[self.kind](ell, parameter, sample_weight)

    @property
    def unbiased(self) -> bool:
        """Whether the weights are those of the target policy (plain or self-normalised)."""
        return self.kind == "none"

    @property
    def pointwise(self) -> bool:
        """Whether a transform reads each row's log ratio alone, not its place in the sample."""
        return self.kind not in ("none", "pareto")

    @property
    def label(self) -> str:
        """Name for tables."""
        if self.kind == "none":
            return "Hajek" if self.normalize else "Horvitz-Thompson"
        name = {"pareto": "Pareto-smoothed"}.get(self.kind, self.kind)
        inner = "" if self.parameter is None else f"({self.parameter:g})"
        return f"{name}{inner}" + (", Hajek" if self.normalize else ", unnormalised")


def HorvitzThompson() -> Weighting:
    """Plain weights ``w``: unbiased under a known logging policy, not shift invariant.

    Examples
    --------
    >>> HorvitzThompson().normalize
    False
    """
    return Weighting("none", None, False)


def Hajek() -> Weighting:
    """Self-normalised weights ``w / mean(w)``: the default; invariant to a shift of the outcome.

    Examples
    --------
    >>> Hajek().normalize
    True
    """
    return Weighting("none", None, True)


def Clip(max_weight: float, *, normalize: bool = True) -> Weighting:
    """``min(w, max_weight)``; bias at most ``E[(w - c)+ |Y - q|]``.

    Examples
    --------
    >>> import numpy as np
    >>> np.exp(Clip(2.0).transform(np.log([.5, 10.]))).round(3).tolist()
    [0.5, 2.0]
    """
    return Weighting("clip", float(max_weight), normalize)


def Shrink(lam: float, *, normalize: bool = True) -> Weighting:
    """``lam w / (w^2 + lam)``, optimistic shrinkage (Su et al. 2020, DRos).

    Examples
    --------
    >>> import numpy as np
    >>> np.exp(Shrink(4.0).transform(np.log([.5, 10.]))).round(3).tolist()
    [0.471, 0.385]
    """
    return Weighting("shrink", float(lam), normalize)


def Temper(beta: float, *, normalize: bool = True) -> Weighting:
    """``w ** beta`` with ``0 < beta <= 1``.

    Examples
    --------
    >>> import numpy as np
    >>> np.exp(Temper(.5).transform(np.log([.25, 9.]))).round(3).tolist()
    [0.5, 3.0]
    """
    return Weighting("temper", float(beta), normalize)


def ParetoSmooth(*, normalize: bool = True) -> Weighting:
    """Pareto-smoothed importance sampling (Vehtari et al. 2024): the largest weights are replaced
    by the quantiles of a generalised Pareto distribution fitted to them.

    Examples
    --------
    >>> import numpy as np
    >>> log_weight = np.sort(np.random.default_rng(0).standard_t(3, 200))
    >>> smooth = ParetoSmooth().transform(log_weight)
    >>> bool(smooth.max() < log_weight.max())
    True
    """
    return Weighting("pareto", None, normalize)


def Switch(tau: float, *, normalize: bool = False) -> Weighting:
    """Weights above ``tau`` become 0; in a doubly robust value the outcome model stands in.

    Not self-normalised by default: that would spread the kept rows' residuals over the dropped
    region, where the outcome model is to speak alone.

    Examples
    --------
    >>> import numpy as np
    >>> np.exp(Switch(2.0).transform(np.log([.5, 10.]))).round(3).tolist()
    [0.5, 0.0]
    """
    return Weighting("switch", float(tau), normalize)


def relative_weights(log_weight: Array, *, normalize: bool) -> Array:
    r"""Weights :math:`e^{\ell' - c}`: ``c = 0`` for plain weights, the column maximum otherwise.

    A self-normalised estimate does not depend on ``c``, so that it never overflows. An all ``-inf``
    column gives weights 0 (callers refuse it); a plain weight beyond ``exp(300)`` (or the largest
    number of the dtype) becomes ``inf`` (callers refuse it too).

    Examples
    --------
    >>> import numpy as np
    >>> relative_weights(np.log([1., 4.]), normalize=True).tolist()
    [0.25, 1.0]
    >>> relative_weights(np.log([1., 4.]), normalize=False).round(6).tolist()
    [1.0, 4.0]
    """
    xp = array_namespace(log_weight)
    if normalize:
        top = xp.max(log_weight, axis=0)
        relative = log_weight - xp.where(xp.isfinite(top), top, xp.zeros_like(top))
        if is_numpy_array(relative) and relative.dtype.kind == "f":
            return xp.exp(relative, out=relative)  # nobody else holds it: no second array
        return xp.exp(relative)
    limit = min(LARGEST_EXPONENT, math.log(float(xp.finfo(log_weight.dtype).max)) - 1.0)
    if log_weight.shape[0] and not bool(xp.max(log_weight) <= limit):  # NaN counts as too large
        too_large = log_weight > limit
        log_weight = xp.where(too_large, xp.full_like(log_weight, math.inf), log_weight)
    return xp.exp(log_weight)


def transform_bias(
    ell: Array,
    weighting: Weighting,
    residual: Array,
    sample_weight: Array | None = None,
    *,
    margin: float = 0.0,
) -> Array:
    r"""Estimated bound on the bias that a weight transform brings, in outcome units.

    .. math:: E[\,|\tilde w' - \tilde w|\;|Y - q - R'|\,]

    with :math:`\tilde w` the raw and :math:`\tilde w'` the transformed weights, both divided by
    their means when self-normalised (then ``R'`` is the transformed residual mean, else 0). For
    clipping and no normalisation this is :math:`E[(w-c)_+ |Y-q|]`. The bound is estimated from the
    same rows, so it shares their blindness to mass that was never logged.

    Parameters
    ----------
    ell : array, shape (n,) or (n, K)
    residual : array, shape (n,) or (n, K)
        ``y`` for IPW, ``y - q`` for doubly robust values.
    margin : float
        Add this many standard errors of the estimated bound (1.645: an upper 95 % limit).

    Returns
    -------
    array, shape () or (K,); zero for untransformed weights.

    Examples
    --------
    >>> import numpy as np
    >>> ell, y = np.log([.5, 10.]), np.array([1., 2.])
    >>> plain = Clip(2.0, normalize=False)
    >>> round(float(transform_bias(ell, plain, y)), 6)  # (10 - 2) * 2 / 2
    8.0
    >>> float(transform_bias(ell, Hajek(), y))
    0.0
    """
    xp = array_namespace(ell)
    if ell.ndim == 2 and residual.ndim == 1:
        residual = residual[:, None]
    if weighting.unbiased:
        return xp.zeros_like(ell[0, ...])
    raw = relative_weights(ell, normalize=weighting.normalize)
    transformed = weighting.transform(ell, sample_weight)
    new = relative_weights(transformed, normalize=weighting.normalize)
    if weighting.normalize:
        raw = raw / weighted_mean(raw, sample_weight)
        new = new / weighted_mean(new, sample_weight)
        residual = residual - weighted_mean(new * residual, sample_weight)
    known = xp.isfinite(raw)  # a plain weight beyond the exponent's range has no bounded bias
    gap = xp.where(known, xp.abs(new - xp.where(known, raw, xp.zeros_like(raw))), 0.0 * new)
    terms = gap * xp.abs(residual)
    bias = weighted_mean(terms, sample_weight)
    if margin:
        count = ell.shape[0] if sample_weight is None else xp.sum(sample_weight)
        bias = bias + margin * xp.sqrt(weighted_mean((terms - bias) ** 2, sample_weight) / count)
    return xp.where(xp.all(known, axis=0), bias, xp.full_like(bias, math.inf))
