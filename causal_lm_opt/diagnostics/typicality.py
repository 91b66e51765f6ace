r"""How much of the log lies where the target policy lives, and how little of the target may lie
beyond the log.

Both look at where texts are, not at how heavy their weights came out, and so see failures that
effective sample sizes of stabilised weights hide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from causal_lm_opt._validation import check_vector
from causal_lm_opt.core.pareto import TIE
from causal_lm_opt.diagnostics._units import Units, support_probabilities

__all__ = [
    "TypicalityCoverage",
    "UnseenMass",
    "binomial_interval",
    "typicality_coverage",
    "unseen_mass_interval",
]

FloatArray = npt.NDArray[np.float64]
GATE = 0.7  # [CJE]: below it, values from logs alone failed for real pairs of models


@dataclass(frozen=True)
class TypicalityCoverage:
    """Share of logged texts in the target's typical region.

    Attributes
    ----------
    coverage : float
        Equals ``mass`` when log and target agree in surprisal.
    se : float
        Standard error, from the logged texts and from the estimated threshold.
    low, high : float
        Interval at ``level``, inside [0, 1].
    threshold : float
        Largest typical surprisal (nats per token).
    mass, level : float
    """

    coverage: float
    se: float
    low: float
    high: float
    threshold: float
    mass: float
    level: float

    @property
    def sentence(self) -> str:
        """The finding in words."""
        text = (
            f"{self.coverage:.0%} of the logged texts ({self.low:.0%} to {self.high:.0%}) lie "
            f"where {self.mass:.0%} of the target's own texts do"
        )
        if self.high < GATE:
            return (
                text + f". Values of language models from such logs (below {GATE:.0%}) have "
                "failed although their weights looked healthy: go by the unseen mass, and if "
                "that is unknown or large collect texts from the target."
            )
        return text + "."


def typicality_coverage(
    surprisal_logged: Any,
    surprisal_target: Any,
    *,
    mass: float = 0.9,
    level: float = 0.95,
    sample_weight: Any = None,
    target_weight: Any = None,
    codes: Any = None,
    target_codes: Any = None,
    exact: bool = False,
) -> TypicalityCoverage:
    r"""Target-typicality coverage: the mass the logger puts where the target is typical.

    With surprisal :math:`S(x) = -\log P_f(x)/|x|`, the typical region is
    :math:`T = \{x : S(x) \le c\}`, :math:`P_f(T)` = ``mass``, and the coverage is :math:`P_R(T)`.

    Parameters
    ----------
    surprisal_logged : array, shape (n,)
        Target's surprisal per token of the LOGGED texts, nats; ``+inf`` where it never writes them.
    surprisal_target : array, shape (m,)
        The same of the target's own draws, finite.
    mass : float
        Target mass of the typical region.
    sample_weight, target_weight : array, optional
        Frequencies of logged rows (n,) and draws (m,).
    codes, target_codes : array, optional
        Cluster labels; the standard error is clustered.
    exact : bool
        The target rows are its finite support and ``target_weight`` their probabilities: the
        threshold has no error. The typical region may then hold more than ``mass``, as it takes
        in the whole of its last surprisal; ``mass`` of the result says how much.

    Returns
    -------
    TypicalityCoverage

    Raises
    ------
    ValueError
        For NaN, negative surprisal (log-probabilities passed by mistake), ``mass`` outside (0, 1),
        fewer than two units.

    Notes
    -----
    The threshold ``c`` is the empirical quantile of the draws. Its error is carried over by
    Woodruff's device: the coverage is read off at the quantiles
    ``mass`` :math:`\pm 1.96` standard errors, which needs no density. The interval is Wilson's with
    the implied effective sample size.

    **Limits.** Low surprisal counts as typical, so a log of dull, very likely texts scores high;
    and equal surprisal is not equal texts: necessary for overlap, not sufficient. Values of
    .19 to .49 were seen for real model pairs whose stabilised effective sample size exceeded 90 %
    [CJE, arXiv 2512.11150].

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> same = typicality_coverage(rng.gamma(9., .2, 2000), rng.gamma(9., .2, 2000))
    >>> far = typicality_coverage(rng.gamma(9., .4, 2000), rng.gamma(9., .2, 2000))
    >>> abs(same.coverage - .9) < 3 * same.se, far.coverage < .4
    (True, True)
    """
    for name, share in (("mass", mass), ("level", level)):
        if not 0 < share < 1:
            raise ValueError(f"{name} must lie strictly between 0 and 1, got {share!r}.")
    logged = _surprisal(surprisal_logged, "surprisal_logged", infinite=True)
    target = _surprisal(surprisal_target, "surprisal_target", infinite=False)
    rows = Units.of(logged.shape[0], sample_weight, codes)
    logged = logged[rows.kept]
    if exact:
        p = support_probabilities(target_weight, target.shape[0])
        threshold, se_draws = weighted_quantile(target, mass, p), 0.0
        mass = float(p[target <= _up(threshold)].sum())
    else:
        draws = Units.of(
            target.shape[0], target_weight, target_codes,
            weight_name="target_weight", codes_name="target_codes",
        )  # fmt: skip
        threshold, se_draws = _threshold(logged, target[draws.kept], rows, draws, mass)
    inside = (logged <= _up(threshold)).astype(np.float64)
    coverage = float(rows.mean(inside))
    se = math.hypot(rows.se(inside - coverage), se_draws)
    # An all-in or all-out log has se 0: its interval then rests on the number of units.
    size = coverage * (1 - coverage) / se**2 if se > 0 else rows.count
    size = min(size, rows.count) if size > 0 else rows.count
    low, high = binomial_interval(coverage * size, size, level=level, method="wilson")
    return TypicalityCoverage(coverage, se, low, high, threshold, mass, level)


def _threshold(
    logged: FloatArray, target: FloatArray, rows: Units, draws: Units, mass: float
) -> tuple[float, float]:
    """Largest typical surprisal, and what its error adds to the coverage's."""

    def covered(share: float) -> float:
        inside = logged <= _up(weighted_quantile(target, share, draws.frequency))
        return float(rows.mean(inside.astype(np.float64)))

    threshold = weighted_quantile(target, mass, draws.frequency)
    z = 1.959963984540054
    step = z * draws.se((target <= _up(threshold)).astype(np.float64) - mass)
    return threshold, (covered(min(mass + step, 1.0)) - covered(mass - step)) / (2 * z)


def _up(threshold: float) -> float:
    """A threshold that takes in equal surprisals whose last digits differ."""
    return threshold + 1e-9 * (1.0 + abs(threshold))


def weighted_quantile(values: FloatArray, share: float, frequency: FloatArray | None) -> float:
    """Smallest value with at least ``share`` of the total frequency at or below it.

    Examples
    --------
    >>> weighted_quantile(np.array([3., 1., 2.]), .5, np.array([1., 3., 1.]))
    1.0
    """
    order = np.argsort(values, kind="stable")
    counts = np.ones_like(values) if frequency is None else frequency[order]
    reached = np.cumsum(counts)
    position = int(np.searchsorted(reached, max(share, 0.0) * reached[-1] * (1 - 1e-12)))
    return float(values[order[min(position, values.shape[0] - 1)]])


def _surprisal(values: Any, name: str, *, infinite: bool) -> FloatArray:
    out = np.asarray(values, dtype=np.float64)
    if out.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {out.shape}.")
    beyond = np.isposinf(out) if infinite else np.zeros(out.shape, dtype=np.bool_)
    finite = check_vector(np.where(beyond, 0.0, out), name, out.shape[0])
    if (finite < -1e-6).any():
        row = int(np.argmin(finite))
        raise ValueError(
            f"{name} is negative at row {row} ({finite[row]:.4g}): surprisal is MINUS the "
            "log-probability, divided by the number of tokens."
        )
    return out


# ------------------------------------------------------------------------------ unseen mass
def binomial_interval(
    events: float,
    trials: float,
    *,
    level: float = 0.95,
    method: Literal["exact", "wilson"] = "exact",
    side: Literal["two", "upper"] = "two",
) -> tuple[float, float]:
    r"""Interval for a probability from counts.

    Parameters
    ----------
    events, trials : float
        Whole counts, or effective ones.
    method : {"exact", "wilson"}
        Clopper and Pearson (1934): coverage never below ``level``. Wilson (1927), eq. 4: close to
        ``level`` on average.
    side : {"two", "upper"}
        ``upper`` gives ``(0, bound)``; with 0 events the exact bound is
        :math:`1 - (1-level)^{1/m}`, about ``3/m`` at 95 %.

    Raises
    ------
    ValueError
        Unless ``0 <= events <= trials``, ``trials > 0`` and ``0 < level < 1``.

    Examples
    --------
    >>> round(binomial_interval(0, 300, side="upper")[1], 5)
    0.00994
    >>> [round(b, 4) for b in binomial_interval(5, 100, method="wilson")]
    [0.0215, 0.1118]
    """
    if not (math.isfinite(trials) and trials > 0 and 0 <= events <= trials * (1 + 1e-12)):
        raise ValueError(
            f"events and trials must satisfy 0 <= events <= trials, trials > 0; got {events!r} "
            f"of {trials!r}."
        )
    if not 0 < level < 1:
        raise ValueError(f"level must lie strictly between 0 and 1, got {level!r}.")
    if method not in ("exact", "wilson") or side not in ("two", "upper"):
        raise ValueError(
            f"method must be 'exact' or 'wilson' and side 'two' or 'upper', got {method!r} and "
            f"{side!r}."
        )
    events = min(events, trials)
    tail = (1 - level) / (2 if side == "two" else 1)
    if method == "exact":
        low = float(special.betaincinv(events, trials - events + 1, tail)) if events > 0 else 0.0
        high = (
            float(special.betaincinv(events + 1, trials - events, 1 - tail))
            if events < trials
            else 1.0
        )
    else:
        z2 = float(special.ndtri(1 - tail)) ** 2
        p = events / trials
        centre = (p + z2 / (2 * trials)) / (1 + z2 / trials)
        half = math.sqrt(z2 * (p * (1 - p) / trials + z2 / (4 * trials**2))) / (1 + z2 / trials)
        low, high = max(centre - half, 0.0), min(centre + half, 1.0)
        low, high = (0.0 if events == 0 else low), (1.0 if events == trials else high)
    return (0.0 if side == "upper" else low), high


@dataclass(frozen=True)
class UnseenMass:
    """Unseen mass with its interval.

    Attributes
    ----------
    mass : float
        Share of the target's draws beyond every logged log ratio.
    low, high : float
        Interval at ``level``; ``high`` alone when one-sided.
    trials : float
        Effective number of independent draws behind it.
    level : float
    """

    mass: float
    low: float
    high: float
    trials: float
    level: float

    @property
    def sentence(self) -> str:
        """The finding in words."""
        return (
            f"{self.mass:.2%} of the target's draws lie beyond every logged text; up to "
            f"{self.high:.2%} is compatible with {self.trials:.0f} draws."
        )


def unseen_mass_interval(
    ell_target: Any,
    ell_logged_max: float,
    *,
    level: float = 0.95,
    side: Literal["two", "upper"] = "upper",
    method: Literal["exact", "wilson"] = "exact",
    target_weight: Any = None,
    target_codes: Any = None,
) -> UnseenMass:
    r"""Unseen mass, and how large it may be given the number of draws.

    No unseen draw among 50 still allows 5.8 %; a bound below 1 % takes 299 independent draws. The
    log is held fixed, so that given it the unseen draws are binomial.

    Parameters
    ----------
    ell_target : array, shape (m,)
        :math:`\log P_f - \log P_R` of the target's draws; ``+inf`` where the logger never writes,
        ``-inf`` where the target does not (draws of a sampling model).
    ell_logged_max : float
        Largest log ratio among the logged rows.
    target_weight : array, shape (m,), optional
        Frequencies of the draws.
    target_codes : array, shape (m,), optional
        Clusters (prompts) of the draws: the trials are then reduced by the design effect, and to
        the number of clusters when nothing or everything is unseen.

    Raises
    ------
    ValueError
        For NaN or fewer than two draws.

    Examples
    --------
    >>> found = unseen_mass_interval(np.zeros(299), 1.0)
    >>> found.mass, found.high < .01
    (0.0, True)
    """
    ell = np.asarray(ell_target, dtype=np.float64)
    if ell.ndim != 1 or np.isnan(ell).any() or math.isnan(ell_logged_max):
        raise ValueError(
            "ell_target must be a vector of log ratios without NaN and ell_logged_max a number, "
            f"got shape {ell.shape}, {int(np.isnan(ell).sum())} NaN entries and {ell_logged_max!r}."
        )
    draws = Units.of(
        ell.shape[0], target_weight, target_codes,
        weight_name="target_weight", codes_name="target_codes",
    )  # fmt: skip
    beyond = (ell[draws.kept] > ell_logged_max + TIE).astype(np.float64)
    mass = float(draws.mean(beyond))
    trials = draws.count
    if draws.codes is not None and 0 < mass < 1:
        n = beyond.shape[0] if draws.frequency is None else float(draws.frequency.sum())
        variance = draws.se(beyond - mass) ** 2
        trials = min(mass * (1 - mass) / variance, n) if variance > 0 else n
    low, high = binomial_interval(mass * trials, trials, level=level, method=method, side=side)
    return UnseenMass(mass, low, high, trials, level)
