r"""Predicted coverage of an interval, from draws of the target policy.

Weights of the logged rows cannot show what was never logged: in samples that fail, they look
healthier than in samples that hold. So do the outcomes: a log that lacks the few large ones where
weights are large has a small standard error and no skewness. A gate on the contributions' own
skewness therefore distrusts the sound logs and trusts the others. Draws of the target, and the
outcomes of all rows, can show both: from them the law of a logged row is made
(:mod:`causal_lm_opt.diagnostics._log_law`), thousands of logs are drawn from it, and the share of
their intervals that hold the law's own value is the coverage over logs. Texts beyond the log, few
rows that carry the variance, and skewness are all in it.

Of one log more is known: which texts of the target lie beyond its own largest log ratio. They would
move the value by :math:`B = E_f[\hat r(\ell)\, 1(\ell > \max_i \ell_i)]`, with :math:`\hat r` the
residual's quadratic trend (kept within the residuals' range), so that this log's interval covers
about :math:`P(|Z + B/se| < z)`. The predicted coverage is the lesser of the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from causal_lm_opt.core.pareto import TIE
from causal_lm_opt.diagnostics._log_law import law_of_rows, studentised_errors

__all__ = ["PredictedCoverage", "effective_dof", "predicted_coverage", "sum_skewness"]

FloatArray = npt.NDArray[np.float64]
ENOUGH = 2000.0  # degrees of freedom with which an interval is as good as its level


@dataclass(frozen=True)
class PredictedCoverage:
    r"""What the draws of a target say about the interval of its value.

    Attributes
    ----------
    coverage : float
        Predicted coverage of the nominal 95 % interval: the lesser of that over logs and that given
        what this log lacks.
    over_logs : float
        Share of simulated logs whose interval holds the value.
    too_low : float
        Share of simulated logs whose interval lies below the value.
    missing : float
        Part of the value beyond the logged texts, in standard errors.
    unseen_variance : float
        Share of the weights' second moment, :math:`E_f[w]`, beyond the logged texts: how much of
        the variance the sample cannot show.
    dof : float
        Effective degrees of freedom of the standard error.
    skewness : float
        Of the estimate: :math:`\sum c^3 / (\sum c^2)^{3/2}` over the contributions.
    unsupported : float
        Share of the draws to which the logger gives probability 0.
    """

    coverage: float
    missing: float
    unseen_variance: float
    dof: float
    skewness: float = 0.0
    unsupported: float = 0.0
    over_logs: float = 0.95
    too_low: float = 0.025

    def to_dict(self) -> dict[str, float]:
        """Figures for a table."""
        return {
            "predicted_coverage": self.coverage,
            "coverage_over_logs": self.over_logs,
            "interval_too_low": self.too_low,
            "missing_in_se": self.missing,
            "unseen_variance": self.unseen_variance,
            "se_dof": self.dof,
            "skewness": self.skewness,
            "unsupported_mass": self.unsupported,
        }


def effective_dof(contributions: FloatArray) -> float:
    r"""Degrees of freedom of :math:`\sum c_i^2` as a variance estimate.

    :math:`2 / (\sum c^4/(\sum c^2)^2 - 1/n)`: n for normal contributions, few when few rows carry
    the sum (Satterthwaite's matching of moments).

    Examples
    --------
    >>> round(effective_dof(np.array([1., -1., 1., -1., 10.])), 1)
    2.7
    """
    squares = _in_units_of_the_largest(contributions)[0] ** 2
    total = float(squares.sum())
    if not total > 0:
        return math.inf
    spread = float((squares * squares).sum()) / (total * total) - 1.0 / contributions.shape[0]
    return min(2.0 / spread, 1e9) if spread > 0 else 1e9


def sum_skewness(contributions: FloatArray) -> float:
    """Skewness of a sum of independent contributions.

    Examples
    --------
    >>> round(sum_skewness(np.array([-1., -1., 2.])), 3)   # 3 rows: the rows' own over sqrt(3)
    0.408
    """
    parts, _ = _in_units_of_the_largest(contributions)
    total = float((parts**2).sum())
    return float((parts**3).sum()) / total**1.5 if total > 0 else 0.0


def _in_units_of_the_largest(contributions: FloatArray) -> tuple[FloatArray, float]:
    """Contributions over the largest one's size, and that size: fourth powers stay in range."""
    size = float(np.abs(contributions).max(initial=0.0))
    return (contributions / size if size > 0 else contributions), size


def predicted_coverage(
    ell: FloatArray,
    residual: FloatArray,
    contributions: FloatArray,
    ell_target: FloatArray,
    *,
    n_units: float,
    sample_weight: FloatArray | None = None,
    target_weight: FloatArray | None = None,
    normalize: bool = True,
    log_weight: Callable[[FloatArray], FloatArray] | None = None,
    n_independent: float | None = None,
    extra: float = 0.0,
    level: float = 0.95,
) -> PredictedCoverage:
    """Predict the coverage of a normal interval of a weighted mean of residuals.

    Parameters
    ----------
    ell : array, shape (n,)
        Log ratios of the logged rows (``-inf`` allowed).
    residual : array, shape (n,)
        What is averaged, centred at its weighted mean: ``y - V`` (Hajek), ``y`` (plain), or
        ``y - q - R`` (doubly robust).
    contributions : array, shape (units,)
        Contributions of all independent units to the estimate (their squares sum to the variance).
    ell_target : array, shape (m,)
        Log ratios of the target's draws (``+inf`` where the logger never writes).
    n_units : float
        Independent logged units: without any shift, ``1 / (n_units + 1)`` of the draws would lie
        beyond the logged texts, and that much is no fault.
    sample_weight, target_weight : arrays, optional
        Frequencies of the rows, weights of the draws.
    normalize : bool
        Self-normalised weights.
    log_weight : callable, optional
        Log weights for log ratios, where a transform changed them: the interval's coverage of
        what such weights average is predicted, as their bias is bounded elsewhere.
    n_independent : float, optional
        How many independent rows the log is worth; without it, as many as it has.
    extra : float
        Variance of the second sample's part, in units of the logged rows' part.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> ell, y = rng.normal(-2., 2., 1000), rng.normal(size=1000)
    >>> far = predicted_coverage(ell, y + ell, (y + ell) * np.exp(ell) / 1000,
    ...                          rng.normal(2., 2., 4000), n_units=1000)
    >>> far.coverage < .9, far.unseen_variance > .5
    (True, True)
    """
    share = np.full(ell_target.shape[0], 1.0) if target_weight is None else target_weight
    share = share / share.sum()
    top = float(ell.max())
    beyond = ell_target > top + TIE
    mass = float(share[beyond].sum())
    parts, size = _in_units_of_the_largest(contributions)
    se = size * math.sqrt(float((parts**2).sum()))
    dof = effective_dof(contributions)
    excess = max(0.0, 1.0 - 1.0 / ((n_units + 1.0) * mass)) if mass > 0 else 0.0
    missing = 0.0
    if excess > 0 and se > 0:
        missing = excess * _missing_part(ell, residual, ell_target[beyond], share[beyond],
                                         sample_weight) / se  # fmt: skip
    unseen = _unseen_second_moment(ell_target, share, beyond)
    over_logs, too_low = level, (1.0 - level) / 2
    z = float(stats.norm.ppf(0.5 + level / 2))
    if dof < ENOUGH or max(abs(missing), unseen, mass) > 0.01:
        law = law_of_rows(
            ell, residual, ell_target, sample_weight=sample_weight, target_weight=target_weight
        )
        rows = float(ell.shape[0]) if sample_weight is None else float(sample_weight.sum())
        errors = studentised_errors(
            law.atoms(log_weight, normalize=normalize), n_independent or rows, extra=extra
        )
        if not np.isnan(errors).any():
            over_logs, too_low = float(np.mean(np.abs(errors) < z)), float(np.mean(errors < -z))
    return PredictedCoverage(
        coverage=min(over_logs, float(stats.norm.cdf(z - missing) - stats.norm.cdf(-z - missing))),
        missing=missing,
        unseen_variance=unseen,
        dof=dof,
        skewness=sum_skewness(contributions),
        unsupported=float(share[np.isposinf(ell_target)].sum()),
        over_logs=over_logs,
        too_low=too_low,
    )


def _unseen_second_moment(
    ell_target: FloatArray, share: FloatArray, beyond: npt.NDArray[np.bool_]
) -> float:
    """Share of ``E_f[w]`` on the draws beyond the log, among those the logger can write."""
    possible = ~np.isposinf(ell_target)
    if not possible.any():
        return 1.0
    ell = ell_target[possible]
    weight = share[possible] * np.exp(ell - float(ell.max()))
    total = float(weight.sum())
    return float(weight[beyond[possible]].sum()) / total if total > 0 else 0.0


def _missing_part(
    ell: FloatArray,
    residual: FloatArray,
    ell_beyond: FloatArray,
    share: FloatArray,
    sample_weight: FloatArray | None,
) -> float:
    """Size of the residual's trend summed over the draws beyond the log, less its own noise.

    A trend that is not told apart from zero counts for nothing: its absolute value is shrunk by
    its standard error.
    """
    finite = np.isfinite(ell)
    x, r = (ell, residual) if finite.all() else (ell[finite], residual[finite])
    s = np.ones(x.shape[0]) if sample_weight is None else sample_weight[finite]
    centre, scale = float(np.average(x, weights=s)), 1.0
    scale = math.sqrt(float(np.average((x - centre) ** 2, weights=s)))
    if not scale > 1e-9:
        return abs(float(np.average(r, weights=s))) * float(share.sum())
    ceiling = float(x.max()) + 3.0 * scale  # draws the logger never writes are put at the edge
    design = np.vander((x - centre) / scale, 3, increasing=True)
    ahead = np.vander((np.minimum(ell_beyond, ceiling) - centre) / scale, 3, increasing=True)
    gram = np.linalg.pinv(design.T @ (s[:, None] * design), hermitian=True)
    trend = gram @ (design.T @ (s * r))
    noise = float(np.average((r - design @ trend) ** 2, weights=s))
    direction = share @ ahead
    raw = abs(float(direction @ trend))
    se = math.sqrt(max(noise * float(direction @ gram @ direction), 0.0))
    kept = abs(float(share @ np.clip(ahead @ trend, r.min(), r.max())))
    return kept * max(0.0, 1.0 - se / raw) if raw > 0 else 0.0
