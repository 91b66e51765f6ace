r"""Drift of the log ratio with the length of the text and with the position in it.

The log ratio of a text is a sum over tokens, :math:`\ell = \sum_t \ell_t`. How that sum spreads
says what the two policies disagree about:

- **Wording noise.** Token ratios that are uncorrelated along the text add up like a random walk:
  sd of the running sum grows like the square root of length. The policies word things differently;
  weights on whole sequences collapse with length although nothing readers respond to need differ.
- **Systematic drift.** Token ratios that share a sign along the text add up linearly: some texts
  are favoured by every one of their tokens (topic, tone, language). Weights then separate kinds of
  texts, and that difference is likely to matter to readers.

Under the logging policy each token's expected log ratio, given the text so far, is minus a
Kullback-Leibler divergence: never positive. Downward drift is therefore no fault; a mean clearly
ABOVE zero shows that the texts were not drawn from the policy they were scored under.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from causal_lm_opt._validation import check_vector
from causal_lm_opt.core.solve import solve_linear_moment
from causal_lm_opt.diagnostics._units import Units

__all__ = ["GROWTHS", "LengthDrift", "PositionDrift", "length_drift", "position_drift"]

FloatArray = npt.NDArray[np.float64]
GROWTHS = ("wording noise", "systematic drift", "undetermined", "no growth")
BETWEEN = 0.75  # halfway between the exponents 1/2 (noise) and 1 (systematic)
LEAST = 0.25  # halfway between no growth at all and noise
LEAST_ROWS = 10  # texts that must reach a position for its spread to be used
MEANING = {
    "wording noise": "it spreads like the square root of length (wording noise)",
    "systematic drift": "it spreads in proportion to length (systematic drift)",
    "undetermined": "whether it spreads like noise or drifts cannot be told",
    "no growth": "its spread does not grow with length",
}


def growth_of(exponent: float, se: float) -> str:
    """Classify a growth exponent of sd(ell) by where its 95 % interval lies.

    Below 1/4: no growth. From 1/4 to 3/4: noise. Above 3/4: drift.

    Examples
    --------
    >>> growth_of(.52, .03), growth_of(.98, .05), growth_of(.7, .2), growth_of(.02, .05)
    ('wording noise', 'systematic drift', 'undetermined', 'no growth')
    """
    low, high = exponent - 1.96 * se, exponent + 1.96 * se
    if high < LEAST:
        return GROWTHS[3]
    if low > LEAST and high < BETWEEN:
        return GROWTHS[0]
    return GROWTHS[1] if low > BETWEEN else GROWTHS[2]


# ------------------------------------------------------------------------------ by length
@dataclass(frozen=True)
class LengthDrift:
    """Drift of whole-text log ratios with length.

    Attributes
    ----------
    slope, se_slope : float
        Change of the log ratio for each further token (nats), and its robust standard error.
    intercept : float
        Fitted log ratio at length 0.
    correlation : float
        Of log ratio and length.
    explained : float
        Share of the variance of the log ratio that a line in length accounts for.
    exponent, se_exponent : float
        Growth of the sd about that line: ``sd = const * length ** exponent``.
    growth : {"wording noise", "systematic drift", "undetermined", "no growth"}
        Exponent near 1/2, near 1, not to be told apart, or near 0 (texts of one design whose
        length has nothing to do with the ratio).
    unit : str
        What length counts, for the sentence.
    """

    slope: float
    se_slope: float
    intercept: float
    correlation: float
    explained: float
    exponent: float
    se_exponent: float
    growth: str
    unit: str = "token"

    @property
    def sentence(self) -> str:
        """The finding in words."""
        return (
            f"The log ratio changes by {self.slope:+.3g} (se {self.se_slope:.2g}) a {self.unit}, "
            f"which accounts for {self.explained:.0%} of its variance; about that line "
            f"{MEANING[self.growth]}."
        )


def length_drift(
    log_ratio: Any,
    length: Any,
    *,
    sample_weight: Any = None,
    codes: Any = None,
    unit: str = "token",
) -> LengthDrift:
    r"""Does the log ratio depend on the length of the text, and does its spread?

    Least squares of :math:`\ell_i` on length :math:`L_i`, then the Poisson pseudo-likelihood fit of
    the squared residuals, :math:`E[e_i^2] = \exp(c + 2\alpha \log L_i)`. Exponent
    :math:`\alpha = 1/2` is wording noise, 1 a systematic drift (see the module's text); without
    token-level ratios this compares short with long texts, so that texts of different length must
    be of one kind. :func:`position_drift` compares positions within texts and is sharper.

    Parameters
    ----------
    log_ratio : array, shape (n,)
        :math:`\log P_f - \log P_R`, finite (drop texts the target never writes).
    length : array, shape (n,)
        Tokens of each text, positive, not all equal.
    sample_weight, codes : array, shape (n,), optional
        Frequencies; cluster labels.
    unit : str
        What ``length`` counts, for the sentence.

    Raises
    ------
    ValueError
        For entries that are not finite, lengths below 1 or all equal, fewer than four rows.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> length = rng.integers(5, 200, 2000)
    >>> found = length_drift(-.02 * length + np.sqrt(length) * rng.normal(size=2000), length)
    >>> round(found.slope, 1), found.growth
    (-0.0, 'wording noise')
    """
    n = int(np.shape(log_ratio)[0]) if np.ndim(log_ratio) else 0
    ell, tokens = check_vector(log_ratio, "log_ratio", n), check_vector(length, "length", n)
    units = Units.of(n, sample_weight, codes)
    ell, tokens = ell[units.kept], tokens[units.kept]
    if ell.shape[0] < 4:
        raise ValueError(f"length_drift needs at least four rows, got {ell.shape[0]}.")
    if tokens.min() < 1:
        raise ValueError(f"length must count at least one token, got {tokens.min():g}.")
    if tokens.min() == tokens.max():
        raise ValueError(
            f"length is {tokens[0]:g} for every row: drift with length needs texts of different "
            "length; use position_drift."
        )
    centre, level = units.mean(tokens), units.mean(ell)
    x, e = tokens - centre, ell - level
    spread, variance = float(units.mean(x * x)), float(units.mean(e * e))
    slope = float(units.mean(x * e)) / spread
    residual = e - slope * x
    correlation = slope * math.sqrt(spread / variance) if variance > 0 else 0.0
    exponent, se_exponent = _power(residual**2, tokens, units)
    return LengthDrift(
        slope=slope,
        se_slope=units.se(x * residual / spread),
        intercept=float(level) - slope * float(centre),
        correlation=correlation,
        explained=correlation**2,
        exponent=exponent,
        se_exponent=se_exponent,
        growth=growth_of(exponent, se_exponent),
        unit=unit,
    )


def _power(square: FloatArray, size: FloatArray, units: Units) -> tuple[float, float]:
    """Exponent a and its standard error in ``E[square] = exp(c + 2 a log size)``.

    Newton's method on the Poisson pseudo-likelihood, consistent whatever the distribution of the
    squares (Gourieroux, Monfort and Trognon 1984); ``nan`` when all squares are 0.
    """
    if not square.max() > 0:
        return math.nan, math.nan
    square = square / units.mean(square)
    x = np.log(size)
    design = np.column_stack([np.ones_like(x), x - units.mean(x)])
    beta = np.zeros(2)
    for _ in range(100):
        fitted = np.exp(design @ beta)
        score = units.mean(design * (square - fitted)[:, None])
        hessian = np.stack([units.mean(design * (fitted * column)[:, None])
                            for column in design.T])  # fmt: skip
        step = np.linalg.solve(hessian, score)
        step *= min(1.0, 1.0 / float(np.abs(step).max() + 1e-300))  # exp() must not run away
        beta = beta + step
        if np.abs(step).max() < 1e-10:
            break
    influence = design * (square - np.exp(design @ beta))[:, None] @ np.linalg.inv(hessian)
    return float(beta[1]) / 2, units.se(influence[:, 1]) / 2


# ------------------------------------------------------------------------------ by position
@dataclass(frozen=True, eq=False)
class PositionDrift:
    """Drift of token log ratios along the text.

    Attributes
    ----------
    table : DataFrame
        One row for each position: ``position`` (from 1), ``n`` (texts that reach it), ``mean`` and
        ``se``, ``sd`` of the token log ratio, ``cumulative_mean``, ``cumulative_sd`` of the
        running sum among those texts.
    mean_per_token, se_mean : float
        Mean token log ratio over all tokens, standard error clustered by text (or ``codes``).
    exponent, se_exponent : float
        Growth of the running sum's sd against what uncorrelated tokens would give (see
        :func:`position_drift`); ``nan`` with fewer than two usable positions.
    growth : {"wording noise", "systematic drift", "undetermined", "no growth"}
    """

    table: pd.DataFrame
    mean_per_token: float
    se_mean: float
    exponent: float
    se_exponent: float
    growth: str

    @property
    def impossible(self) -> bool:
        """Whether the mean lies more than 3 standard errors above zero, which texts drawn from
        the scored logging policy do not show.
        """
        return self.mean_per_token > 3 * self.se_mean

    @property
    def sentence(self) -> str:
        """The finding in words."""
        text = (
            f"The log ratio moves by {self.mean_per_token:+.3g} (se {self.se_mean:.2g}) a token "
            f"along the text, and {MEANING[self.growth]}."
        )
        if self.impossible:
            text += (
                " Under the scored logging policy it could only fall on average: the texts were "
                "drawn from another distribution, or the log-probabilities are wrong."
            )
        return text


def position_drift(
    token_log_ratio: Any, mask: Any, *, sample_weight: Any = None, codes: Any = None
) -> PositionDrift:
    r"""Token log ratios by position, and how their running sum spreads.

    With :math:`C_t = \sum_{s \le t} \ell_s` and :math:`V_t = \sum_{s \le t} \mathrm{Var}(\ell_s)`,
    uncorrelated tokens have :math:`\mathrm{Var}(C_t) = V_t` whatever the variance by position. The
    exponent is half the least-squares slope of :math:`\log \mathrm{Var}(C_t)` on :math:`\log V_t`:
    1/2 for wording noise, 1 when every token of a text pulls the same way. Its standard error
    follows from the influence functions of all the variances.

    Parameters
    ----------
    token_log_ratio : array, shape (n, T)
        Log ratio of each token, natural logs; entries outside ``mask`` are ignored (may be NaN).
    mask : array of bool, shape (n, T)
        Tokens that were scored. Padding on either side is allowed: positions count scored tokens.
    sample_weight, codes : array, shape (n,), optional
        Frequencies; cluster labels of texts.

    Raises
    ------
    ValueError
        For shapes that do not fit, scored entries that are not finite, no scored token.

    Notes
    -----
    Positions reached by fewer than 10 texts stay in the table but do not enter the exponent. Where
    the length of a text depends on its ratios, late positions describe the texts that got there.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> noise = rng.normal(-.05, .3, size=(500, 40))
    >>> position_drift(noise, np.ones((500, 40), bool)).growth
    'wording noise'
    >>> kind = rng.normal(size=(500, 1))                     # each text has its own pull
    >>> position_drift(.5 * kind + .1 * noise, np.ones((500, 40), bool)).growth
    'systematic drift'
    """
    ratio, tokens = _aligned(token_log_ratio, mask)
    n = ratio.shape[0]
    units = Units.of(n, sample_weight, codes)
    ratio, scored = ratio[units.kept], tokens[units.kept].astype(np.float64)
    total, phi = solve_linear_moment(scored.sum(axis=1), ratio.sum(axis=1), units.frequency)
    running = np.cumsum(ratio, axis=1) * scored
    mean, se, sd, phi_own = _by_position(ratio, scored, units)
    mean_sum, _, sd_sum, phi_sum = _by_position(running, scored, units)
    reached = (scored if units.frequency is None else scored * units.frequency[:, None]).sum(axis=0)
    usable = (reached >= LEAST_ROWS) & (sd > 0) & (sd_sum > 0)
    usable &= np.cumprod(usable).astype(np.bool_)  # the running variance needs all before it
    exponent, se_exponent = _exponent(
        sd[usable] ** 2, sd_sum[usable] ** 2, phi_own[:, usable], phi_sum[:, usable], units
    )
    table = pd.DataFrame(
        {
            "position": np.arange(1, ratio.shape[1] + 1),
            "n": reached,
            "mean": mean,
            "se": se,
            "sd": sd,
            "cumulative_mean": mean_sum,
            "cumulative_sd": sd_sum,
        }
    )
    return PositionDrift(
        table, float(total), units.se(phi), exponent, se_exponent, growth_of(exponent, se_exponent)
    )


def _by_position(
    values: FloatArray, scored: FloatArray, units: Units
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Mean, its standard error, sd by position (T,), and influence functions of the variance.

    ``values`` (n, T) are 0 where not scored; only texts that reach a position enter there.
    """
    mean, phi = solve_linear_moment(scored, values, units.frequency)
    variance, phi_variance = solve_linear_moment(
        scored, scored * (values - mean) ** 2, units.frequency
    )
    se = np.array([units.se(column) for column in phi.T])
    return mean, se, np.sqrt(variance), phi_variance


def _exponent(
    own: FloatArray, total: FloatArray, phi_own: FloatArray, phi_total: FloatArray, units: Units
) -> tuple[float, float]:
    """Half the slope of log Var(running sum) on log of summed variances, and its error."""
    if own.shape[0] < 2:
        return math.nan, math.nan
    clock = np.cumsum(own)
    u, v = np.log(clock), np.log(total)
    du, dv = np.cumsum(phi_own, axis=1) / clock, phi_total / total
    x, y = u - u.mean(), v - v.mean()
    size = float(x @ x)
    slope = float(x @ y) / size
    influence = (dv @ x + du @ (y - 2 * slope * x)) / size
    return slope / 2, units.se(influence) / 2


def _aligned(token_log_ratio: Any, mask: Any) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Scored tokens moved to the front, zeros behind them; trailing empty columns dropped."""
    ratio, scored = np.asarray(token_log_ratio, dtype=np.float64), np.asarray(mask)
    if ratio.ndim != 2 or scored.shape != ratio.shape:
        raise ValueError(
            f"token_log_ratio and mask must share a shape (n, T), got {ratio.shape} and "
            f"{scored.shape}."
        )
    if scored.dtype != np.bool_:
        if not np.isin(scored, (0, 1)).all():
            raise ValueError("mask must be boolean (or 0 and 1): True for tokens that were scored.")
        scored = scored.astype(np.bool_)
    if not scored.any():
        raise ValueError("mask has no scored token.")
    bad = scored & ~np.isfinite(ratio)
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"token_log_ratio has {int(bad.sum())} NaN or infinite scored entries, the first at "
            f"row {row}, column {column}; drop these texts or mask these tokens."
        )
    order = np.argsort(~scored, axis=1, kind="stable")
    scored = np.take_along_axis(scored, order, axis=1)
    ratio = np.where(scored, np.take_along_axis(np.where(np.isfinite(ratio), ratio, 0.0), order,
                                                axis=1), 0.0)  # fmt: skip
    longest = int(scored.sum(axis=1).max())
    return ratio[:, :longest], scored[:, :longest]
