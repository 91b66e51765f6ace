"""The numbers of a comparison: rate of wins, its interval, sign test."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from causal_lm_opt.core.inference import cluster_dof, cluster_sums, influence_covariance
from causal_lm_opt.diagnostics.typicality import binomial_interval

__all__ = ["RateInterval", "rate_interval", "sign_test"]

Float = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

WILSON = "Wilson"
INDEPENDENT = "Wilson, effective number of pairs (ties)"
CLUSTERED = "Wilson, effective number of pairs (clusters)"


@dataclass(frozen=True)
class RateInterval:
    """A mean score with its interval.

    Attributes
    ----------
    rate, se, lower, upper : float
    n, n_units : int
        Scores, and independent units (clusters) they come from.
    method : str
    """

    rate: float
    se: float
    lower: float
    upper: float
    n: int
    n_units: int
    method: str


def rate_interval(scores: Float, units: Codes | None = None, *, level: float) -> RateInterval:
    r"""Mean of scores in [0, 1] with an interval within [0, 1].

    Independent scores that are 0 or 1 have Wilson's interval. Otherwise it is Wilson's at the
    effective number :math:`n_e = \hat p(1-\hat p)/\hat V`, with the (cluster-)robust variance

    .. math:: \hat V = \frac{G-1}{G}\sum_g \Big(\sum_{i \in g} \frac{s_i - \hat p}{n - n_g}\Big)^2
              + \frac{(1-\hat p)^2 + \hat p^2}{n^2}

    (the jackknife that leaves out a cluster at a time) and Student's t quantile with one degree of
    freedom less than the equal clusters that they are worth. Ties make :math:`n_e` larger
    than n, correlated scores smaller. The last term is what one more win and one more loss would
    add, so that no interval has width 0; where clusters do not differ at all it has G for n, and
    where all scores are 0 (or 1) :math:`n_e = G`.

    Parameters
    ----------
    scores : (n,) array in [0, 1]
    units : (n,) int array, optional
        Cluster of each score, any integers. ``None``: scores are independent.
    level : float

    Raises
    ------
    ValueError
        Fewer than two units, unless the interval is Wilson's.

    References
    ----------
    Wilson (1927), eq. 4. Korn and Graubard (1998), Confidence intervals for proportions with small
    expected number of positive counts estimated from survey data (the effective number). Bonett
    and Price (2012), Adjusted Wald confidence interval for a difference of binomial proportions
    based on paired data (one more win and loss).

    Examples
    --------
    >>> import numpy as np
    >>> found = rate_interval(np.repeat([1.0, 0.0], [60, 40]), level=0.95)
    >>> round(found.lower, 4), round(found.upper, 4), found.method
    (0.502, 0.6906, 'Wilson')
    """
    n = scores.size
    p = float(scores.mean())
    whole = bool(np.isin(scores, (0.0, 1.0)).all())
    if units is None and whole:
        lower, upper = binomial_interval(float(scores.sum()), n, level=level, method="wilson")
        return RateInterval(p, math.sqrt(p * (1 - p) / n), lower, upper, n, n, WILSON)
    codes = None if units is None else np.unique(units, return_inverse=True)[1]
    g = n if codes is None else int(codes.max()) + 1
    if g < 2:
        raise ValueError(
            f"All {n} scores belong to one unit (prompt or group); an interval needs at least two."
        )
    robust = float(influence_covariance(scores - p, codes=codes, n_clusters=g))
    spread = p * (1.0 - p)
    smooth = ((1 - p) ** 2 + p**2) / (n if robust > 0 else g) ** 2
    effective = spread / (robust + smooth) if spread > 0 else float(g)
    # Wilson's interval depends on z^2/n alone: Student's quantile enters through n.
    dof = cluster_dof(np.bincount(codes).astype(np.float64)) if codes is not None else g - 1.0
    z, t = special.ndtri(0.5 + level / 2), stats.t.ppf(0.5 + level / 2, dof)
    used = effective * float(z / t) ** 2
    lower, upper = binomial_interval(p * used, used, level=level, method="wilson")
    method = INDEPENDENT if codes is None else CLUSTERED
    return RateInterval(p, math.sqrt(robust), lower, upper, n, g, method)


def sign_test(scores: Float, units: Codes | None = None) -> float:
    """Two-sided exact p-value that neither side is favoured, from the signs of the units.

    A unit (a score, or the scores of a cluster) is a win where its mean is above 0.5, a loss where
    it is below; ties do not count. Under exchangeable sides wins are Binomial(wins + losses, 1/2),
    however the scores of a cluster depend on one another.

    Examples
    --------
    >>> import numpy as np
    >>> sign_test(np.array([1.0, 1.0, 1.0, 1.0, 1.0, 0.5]))
    0.0625
    """
    lean = scores - 0.5
    if units is not None:
        codes = np.unique(units, return_inverse=True)[1]
        lean = cluster_sums(lean, codes, int(codes.max()) + 1)
    wins, losses = int((lean > 1e-12).sum()), int((lean < -1e-12).sum())
    if wins + losses == 0:
        return 1.0
    return float(stats.binomtest(wins, wins + losses).pvalue)
