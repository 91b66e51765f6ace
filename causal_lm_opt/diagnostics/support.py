r"""Were the logged texts drawn from the distribution they are scored under?

Weights are right only if :math:`P_R` is the law that wrote the texts. Samplers cut it (top-k,
top-p) or sharpen it (temperature) while scorers return the model's full distribution. Every check
here takes figures of each logged token under the SCORED logging model.

All rest on one fact: given the text so far, a token drawn from the scored model has a known law.
Sums of centred token figures are then martingales, so that tokens may be pooled although texts
stop at random. That needs all tokens of the texts (the end-of-text token too) and texts not
selected by length or content, each draw once: a text read by many readers is ONE draw.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from causal_lm_opt.diagnostics._units import (
    SLACK,
    Units,
    scored_tokens,
    token_units,
    token_values,
)

__all__ = [
    "SupportFinding",
    "probability_hint",
    "temperature_check",
    "top_k_check",
    "top_p_check",
]

FloatArray = npt.NDArray[np.float64]
ALPHA = 0.001  # a log holds many tokens and is checked in many ways
TAIL_LEVELS = (0.9, 0.95, 0.99)
REMEDY = "score the texts with the sampler's own settings, or sample at temperature 1 without cuts"


@dataclass(frozen=True)
class SupportFinding:
    """What a check found.

    Attributes
    ----------
    check : str
        Name of the check.
    severity : {0, 1, 2}
        Nothing to report, caution, do not use: as the verdict's findings.
    sentence : str
        The finding with its figures and what to do.
    estimate : float
        Implied setting (k, p or temperature); ``nan`` where there is none.
    statistic, p_value : float
        Of the test named by the check; ``nan`` where none was made.
    tokens : float
        Tokens (or values) looked at.
    figures : mapping
        Further numbers.
    """

    check: str
    severity: int
    sentence: str
    estimate: float = math.nan
    statistic: float = math.nan
    p_value: float = math.nan
    tokens: float = math.nan
    figures: Mapping[str, float] = field(default_factory=dict)


# ------------------------------------------------------------------------------ top-k
def top_k_check(
    token_rank: Any,
    *,
    mask: Any = None,
    k: int | None = None,
    mass_beyond: Any = None,
    vocabulary_size: int | None = None,
) -> SupportFinding:
    r"""Do the logged tokens stop at a rank?

    Without ``mass_beyond`` only the look of it: under an uncut sampler few tokens lie near the
    largest rank seen (ranks thin out), under top-k many do; 20 tokens within a tenth of the largest
    rank give a caution. With ``k`` and ``mass_beyond``, a test: no token beyond rank k has
    probability :math:`\prod_i (1 - m_i)` under the scored model.

    Parameters
    ----------
    token_rank : integer array, shape (N,) or (n, T)
        Rank of each logged token under the scored model, 1 for the likeliest.
    mask : array of bool, of that shape, optional
        Tokens that were scored.
    k : int, optional
        Rank to test (50 is the default of a widely used sampler); chosen before looking.
    mass_beyond : array, shape of ``token_rank``, optional
        Scored probability of all ranks beyond ``k``, at each token.
    vocabulary_size : int, optional
        Tokens near this rank are no sign of a cut.

    Returns
    -------
    SupportFinding
        ``estimate`` is the largest rank; ``p_value`` is 1 when a token lies beyond ``k``, which
        refutes that cut.

    Raises
    ------
    ValueError
        For ranks below 1 or not whole, masses outside [0, 1], one of ``k`` and ``mass_beyond``
        alone.

    Examples
    --------
    >>> found = top_k_check(np.full(400, 3), k=50, mass_beyond=np.full(400, .05))
    >>> found.severity, found.p_value < 1e-8
    (2, True)
    """
    shape, scored = scored_tokens(token_rank, mask, "token_rank")
    rank = token_values(token_rank, "token_rank", shape, scored, low=1.0, high=math.inf)
    if (rank != np.floor(rank)).any():
        raise ValueError("token_rank must hold whole numbers, 1 for the likeliest token.")
    if (k is None) != (mass_beyond is None):
        raise ValueError("k and mass_beyond go together: the mass beyond rank k at each token.")
    n, largest = float(rank.shape[0]), float(rank.max())
    near = float(np.sum(rank > 0.9 * largest))
    figures = {"largest_rank": largest, "near_largest": near}
    if k is None:
        at_end = vocabulary_size is not None and largest > 0.9 * vocabulary_size
        cut = near >= 20 and largest > 1 and not at_end
        text = f"The largest rank of {n:.0f} logged tokens is {largest:.0f}"
        text += (
            f", and {near:.0f} tokens lie within a tenth of it: this looks like top-k sampling. "
            f"Test it with mass_beyond; {REMEDY}."
            if cut
            else f", with {near:.0f} tokens near it: no sign of top-k sampling."
        )
        return SupportFinding("top-k", int(cut), text, largest, tokens=n, figures=figures)
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise ValueError(f"k must be a positive whole number, got {k!r}.")
    mass = token_values(mass_beyond, "mass_beyond", shape, scored, low=0.0, high=1.0)
    beyond, expected = float(np.sum(rank > k)), float(mass.sum())
    with np.errstate(divide="ignore"):
        p_value = 1.0 if beyond else float(np.exp(np.log1p(-np.minimum(mass, 1.0)).sum()))
    cut = p_value < ALPHA
    text = (
        f"{beyond:.0f} of {n:.0f} logged tokens lie beyond rank {k}, where the scored model puts "
        f"{expected:.1f}"
    )
    text += f": the texts were sampled with top-k {k} or less; {REMEDY}." if cut else "."
    return SupportFinding(
        "top-k", 2 * int(cut), text, largest, beyond, p_value, n,
        {**figures, "beyond": beyond, "expected_beyond": expected},
    )  # fmt: skip


# ------------------------------------------------------------------------------ top-p
def top_p_check(
    mass_above: Any,
    probability: Any,
    uniforms: Any,
    *,
    mask: Any = None,
    tolerance: float = 0.02,
) -> SupportFinding:
    r"""Randomised probability-integral transform of the tokens: uniform under uncut sampling.

    Order the vocabulary from the likeliest token down. With :math:`a` the mass strictly above a
    logged token, :math:`p` its own probability and :math:`U` uniform, :math:`u = a + U p` is
    uniform given the text so far (Rosenblatt 1952; randomised for atoms, Smith 1985), and the
    :math:`u` of all tokens are independent.

    Parameters
    ----------
    mass_above : array, shape (N,) or (n, T)
        Scored probability of all tokens likelier than the logged one (order ties by token id).
    probability : array, of that shape
        Scored probability of the logged token itself; not its logarithm.
    uniforms : array, of that shape
        Independent uniforms on [0, 1].
    mask : array of bool, of that shape, optional
        Tokens that were scored.
    tolerance : float
        Largest deviation of the distribution function that is a caution only: scoring in half
        precision moves it a little, and a large log shows that.

    Returns
    -------
    SupportFinding
        ``statistic`` is the Kolmogorov-Smirnov distance; ``p_value`` is Bonferroni's of that test
        and of exact binomial tests for too few tokens beyond .9, .95 and .99 of the mass (top-p);
        ``estimate`` is the largest mass above a logged token, which top-p keeps below p.
        ``figures`` hold the mean of u (.5 expected) and the share beyond each level.

    Raises
    ------
    ValueError
        For values outside [0, 1] or ``mass_above + probability`` above 1.

    Notes
    -----
    Any wrong law of the tokens shows here: top-k, temperature and another model too. The mean of u
    below .5 says that tokens are likelier than the scored model has it. Rows must be distinct
    draws, hence no frequency weights.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> p = np.array([.4, .3, .2, .06, .04])
    >>> above = np.cumsum(p) - p
    >>> full, cut = rng.choice(5, 2000, p=p), rng.choice(3, 2000, p=p[:3] / .9)   # top-p .9
    >>> u = rng.random(2000)
    >>> [top_p_check(above[x], p[x], u).severity for x in (full, cut)]
    [0, 2]
    """
    shape, scored = scored_tokens(mass_above, mask, "mass_above")
    above = token_values(mass_above, "mass_above", shape, scored, low=0.0, high=1.0)
    own = token_values(probability, "probability", shape, scored, low=0.0, high=1.0)
    random = token_values(uniforms, "uniforms", shape, scored, low=0.0, high=1.0)
    if (above + own > 1 + 1e-3).any():
        raise ValueError(
            f"mass_above + probability reaches {float((above + own).max()):.4g}: mass_above is the "
            "mass of STRICTLY likelier tokens."
        )
    u = np.clip(above + random * own, 0.0, 1.0)
    n, implied = u.shape[0], float(above.max())
    fit = stats.kstest(u, "uniform")
    distance = float(fit.statistic)
    counts = {level: int(np.sum(u > level)) for level in TAIL_LEVELS}
    tails = [float(stats.binom.cdf(c, n, 1 - level)) for level, c in counts.items()]
    p_value = min(1.0, (1 + len(tails)) * min(float(fit.pvalue), *tails))
    empty = [
        level for (level, c), p in zip(counts.items(), tails, strict=True)
        if p * (1 + len(tails)) < ALPHA and c < 0.5 * (1 - level) * n
    ]  # fmt: skip
    wrong = p_value < ALPHA
    severity = 0 if not wrong else 2 if empty or distance > tolerance else 1
    figures = {"mean": float(u.mean()), **{f"beyond_{a:g}": c / n for a, c in counts.items()}}
    return SupportFinding(
        "top-p", severity, _pit_sentence(n, distance, p_value, wrong, empty, implied, figures),
        implied, distance, p_value, float(n), figures,
    )  # fmt: skip


def _pit_sentence(
    n: int,
    distance: float,
    p_value: float,
    wrong: bool,
    empty: list[float],
    implied: float,
    figures: Mapping[str, float],
) -> str:
    test = f"(distance {distance:.3f}, p {p_value:.2g})"
    if not wrong:
        return f"{n} logged tokens are spread as the scored model says {test}."
    if empty:
        level = empty[0]
        return (
            f"Only {figures[f'beyond_{level:g}']:.2%} of {n} logged tokens lie beyond {level:.0%} "
            f"of the scored mass, where {1 - level:.0%} belong, and none beyond {implied:.3f} "
            f"{test}: the sampler cut or sharpened the distribution; {REMEDY}."
        )
    side = "likelier" if figures["mean"] < 0.5 else "less likely"
    return (
        f"{n} logged tokens are {side} than the scored model says {test}: another temperature, cut "
        f"or model wrote them; {REMEDY}."
    )


# ------------------------------------------------------------------------------ temperature
def temperature_check(
    logp: Any,
    entropy: Any,
    *,
    variance: Any = None,
    mask: Any = None,
    sample_weight: Any = None,
    codes: Any = None,
    tolerance: float = 0.02,
) -> SupportFinding:
    r"""Is the surprisal of the logged tokens what the scored model expects?

    .. math:: \delta = \mathrm{mean}(-\log p_i - H_i), \qquad E[\delta] = 0
              \text{ at temperature } 1

    Negative: the texts are likelier than draws of the scored model (temperature below 1, or a cut
    distribution); positive: temperature above 1, or another model. With
    :math:`V(\beta)` the variance of :math:`\log p` under inverse temperature :math:`\beta`,
    :math:`\delta = -\int_1^\beta V(b)\,db`. ``variance`` gives V(1); :math:`V(\beta)` follows from
    the sample, :math:`\overline{(-\log p - H)^2} - \delta^2 \overline{V^2}/\bar V^2`, and the
    temperature from taking V exponential in between: :math:`\hat\beta = 1 - \delta/\Lambda`,
    :math:`\Lambda` the logarithmic mean of the two.

    Parameters
    ----------
    logp : array, shape (N,) or (n, T)
        Scored log-probability of each logged token, natural logs.
    entropy : array, of that shape
        Entropy of the scored distribution at that token, nats.
    variance : array, of that shape, optional
        Variance of :math:`\log p` under the scored distribution at that token.
    mask : array of bool, of that shape, optional
        Tokens that were scored.
    sample_weight, codes : array, shape (N,), or (n,) for (n, T) tokens, optional
        Frequencies and clusters. Tokens of shape (n, T) are clustered by text without ``codes``.
    tolerance : float
        Deviation of the temperature from 1 (without ``variance``: :math:`|\delta|` in mean
        entropies) that is a caution only, however significant.

    Returns
    -------
    SupportFinding
        ``statistic`` is z; ``estimate`` the implied temperature (``nan`` without ``variance`` or
        where none fits); ``figures`` hold ``delta``, ``se`` and ``se_temperature``, which leaves
        out the error of :math:`\Lambda`.

    Raises
    ------
    ValueError
        For positive log-probabilities, negative entropies or variances, fewer than two units.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> p = np.array([.5, .3, .2]); H = -(p * np.log(p)).sum()
    >>> V = (p * np.log(p) ** 2).sum() - H ** 2
    >>> cold = p ** (1 / .7); cold /= cold.sum()
    >>> x = rng.choice(3, 5000, p=cold)
    >>> found = temperature_check(np.log(p)[x], np.full(5000, H), variance=np.full(5000, V))
    >>> found.severity, round(found.estimate, 1), found.statistic < 0
    (2, 0.7, True)
    """
    shape, scored = scored_tokens(logp, mask, "logp")
    surprisal = -token_values(logp, "logp", shape, scored, low=-math.inf, high=SLACK)
    expected = token_values(entropy, "entropy", shape, scored, low=-SLACK, high=math.inf)
    units = token_units(shape, scored, sample_weight, codes)
    excess = (surprisal - expected)[units.kept]
    delta = float(units.mean(excess))
    se = units.se(excess - delta)
    level = float(units.mean(expected[units.kept]))
    certain = se <= 1e-12 * (1 + abs(level))
    z = (
        delta / se
        if not certain
        else 0.0
        if abs(delta) <= SLACK
        else math.copysign(math.inf, delta)
    )
    p_value = float(2 * stats.norm.sf(abs(z)))
    temperature = slope = math.nan
    if variance is not None:
        spread = token_values(variance, "variance", shape, scored, low=-SLACK, high=math.inf)
        slope = _mean_variance(np.maximum(spread[units.kept], 0.0), excess, delta, units)
        beta = 1 - delta / slope if slope > 0 else math.nan
        temperature = 1 / beta if beta > 0 else math.nan
    known = math.isfinite(temperature)
    size = abs(temperature - 1) if known else abs(delta) / level if level > 0 else math.inf
    severity = 0 if not p_value < ALPHA else 2 if size > tolerance else 1
    text = f"Logged tokens are {abs(delta):.3g} nats {'likelier' if delta < 0 else 'less likely'} "
    text += f"than the scored model expects ({z:+.1f} standard errors)"
    if severity:
        text += ": they were sampled at a temperature "
        text += "below 1, or cut" if delta < 0 else "above 1, or from another model"
        text += f" (implied temperature {temperature:.2f})" if known else ""
        text += f"; {REMEDY}"
    figures = {"delta": delta, "se": se}
    if known:
        figures["se_temperature"] = se / slope * temperature**2
    return SupportFinding(
        "temperature", severity, text + ".", temperature, z, p_value, float(excess.shape[0]),
        figures,
    )  # fmt: skip


def _mean_variance(variance: FloatArray, excess: FloatArray, delta: float, units: Units) -> float:
    """Logarithmic mean of V at temperature 1 and at the sampling temperature."""
    at_one = float(units.mean(variance))
    if not at_one > 0:
        return math.nan
    uneven = float(units.mean(variance**2)) / at_one**2
    at_sampling = float(units.mean(excess**2)) - delta**2 * uneven
    if not at_sampling > 1e-6 * at_one:
        return at_one
    ratio = at_sampling / at_one
    return at_one if abs(ratio - 1) < 1e-9 else at_one * (ratio - 1) / math.log(ratio)


# ------------------------------------------------------------------------------ logs
def probability_hint(values: Any) -> SupportFinding:
    """Do these log-probabilities look like something else?

    Probabilities lie in [0, 1]; negative log-likelihoods (losses) are positive. Probabilities of
    whole texts are so small that a tolerance for rounding above 0 lets them pass: several distinct
    non-negative values, however tiny, are no rounding.

    Parameters
    ----------
    values : array
        What is about to be used as natural log-probabilities; ``-inf`` allowed, NaN ignored.

    Examples
    --------
    >>> [probability_hint(v).severity for v in ([-3., -700.], [1e-30, 2e-40], [35.1, 20.7])]
    [0, 2, 2]
    """
    array = np.asarray(values, dtype=np.float64).ravel()
    array = array[~np.isnan(array)]
    n = float(array.shape[0])
    positive = np.unique(array[array > 0])
    if not positive.size or (array < 0).any() or (array.max() <= SLACK and positive.size < 2):
        return SupportFinding("log-probabilities", 0, "No sign of probabilities.", tokens=n)
    if array.max() <= 1:
        what, remedy = "all lie in [0, 1]: these look like probabilities", "pass np.log of them"
    else:
        what = "none is negative: these look like negative log-likelihoods"
        remedy = "change their sign"
    text = f"Of {n:.0f} log-probabilities {what}; {remedy}."
    return SupportFinding("log-probabilities", 2, text, tokens=n)
