r"""Do rows of equal label have alike outcomes? Then labels may be clusters that nobody named.

With :math:`e_i` the outcomes less their mean, all rests on the sum over ordered pairs of rows of
equal label, :math:`T = \sum_{i \ne j} 1\{l_i = l_j\} e_i e_j`, and on its moments when outcomes are
permuted over rows. It takes one pass over the rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from causal_lm_opt._validation import check_vector
from causal_lm_opt.core.inference import cluster_sums, influence_covariance
from causal_lm_opt.diagnostics._units import Units

__all__ = ["LabelCorrelation", "label_correlation", "pair_moments"]

FloatArray = npt.NDArray[np.float64]
SMALL_SKEW = 1e-4
SMALLEST_TAIL = 1e-16  # of a skewed sum: z within -8.2 and 8.2


@dataclass(frozen=True)
class LabelCorrelation:
    """How alike the outcomes of rows of equal label are; ``nan`` where outcomes do not vary.

    Attributes
    ----------
    intraclass : float
        Mean product of two rows of equal label over the variance, corrected for the mean being
        that of the same rows: 0 on average where labels tell nothing.
    design_effect : float
        Squared ratio of the mean outcome's standard errors: labels as clusters over rows as
        independent.
    z : float
        Standard normal where labels tell nothing; far above 0 where equal labels have alike
        outcomes.
    n_labels : int
    n_rows : float
        Sum of the frequencies.
    """

    intraclass: float
    design_effect: float
    z: float
    n_labels: int
    n_rows: float


def label_correlation(outcome: Any, labels: Any, *, sample_weight: Any = None) -> LabelCorrelation:
    r"""Intraclass correlation of outcomes within labels, with a test and its cost.

    Use it to ask whether a column (reader, session, prompt) that was not given as ``groups=``
    ought to be. A large ``design_effect`` beyond chance means that standard errors are too small
    *if labels were drawn, and not rows one by one*; a trait of independently drawn rows that goes
    with the outcome (age, say) looks the same, so that only the design can tell.

    .. math::
        T = \sum_{i \ne j} 1\{l_i = l_j\} e_i e_j, \qquad
        \hat\rho = \frac{T}{N s^2} + \frac{1}{n}, \qquad
        D = \frac{\frac{G-1}{G} \sum_g \big(\sum_{i \in g} e_i / (n - n_g)\big)^2}
            {\sum_i e_i^2 / (n (n - 1))},

    with N ordered pairs of equal label, G labels and :math:`s^2 = \sum_i e_i^2 / (n-1)`. ``z`` is
    T less its mean over its standard deviation, both exact when outcomes are permuted over rows,
    read off a gamma with its third moment (leading terms): a sum of few squares, or of heavy-tailed
    products, has a longer upper tail than a normal.

    Parameters
    ----------
    outcome : array, shape (n,)
        In any units.
    labels : array, shape (n,)
        None missing. At least two labels, and at least two rows that share one.
    sample_weight : array, shape (n,), optional
        Frequency weights: weight 3 means three equal rows, of the same label.

    Returns
    -------
    LabelCorrelation

    Raises
    ------
    ValueError
        For wrong shapes, missing values, negative weights, a single label, or labels of which no
        two rows share one.

    Notes
    -----
    **Assumptions.** ``z`` takes outcomes as exchangeable over rows. A spread of outcomes that
    differs between labels alone makes it wider by a little, not shifted.

    References
    ----------
    Kish (1965), *Survey Sampling*, section 5.4; Cliff and Ord (1981), *Spatial Processes*, section
    2.3 (the permutation moments of such a sum).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> reader = np.repeat(np.arange(400), 5)
    >>> y = rng.normal(size=2000)
    >>> bool(abs(label_correlation(y, reader).z) < 3)
    True
    >>> found = label_correlation(y + 0.5 * rng.normal(size=400)[reader], reader)
    >>> round(found.intraclass, 2), round(found.design_effect, 1)
    (0.22, 1.9)
    """
    y = check_vector(outcome, "outcome", np.shape(outcome)[0] if np.ndim(outcome) else 0)
    units = Units.of(y.shape[0], sample_weight, labels, codes_name="labels")
    assert units.codes is not None
    y, s, g = y[units.kept], units.frequency, int(units.count)
    n = float(y.shape[0] if s is None else s.sum())
    sizes = np.bincount(units.codes, weights=s, minlength=g).astype(np.float64)
    pairs = float(sizes @ (sizes - 1.0))
    if pairs <= 1e-9 * n:
        raise ValueError("labels: no two rows share a label; a correlation needs some that do.")
    e = y - units.mean(y)
    scale = math.sqrt(float(units.mean(e * e)))
    if not scale > 1e-12 * float(np.abs(y).max()):
        return LabelCorrelation(math.nan, math.nan, math.nan, g, n)
    e = e / scale
    products = float((cluster_sums(e if s is None else s * e, units.codes, g) ** 2).sum()) - n
    design = units.covariance(e) / influence_covariance(e, s)
    mean, variance, third = pair_moments(e, sizes, s)
    return LabelCorrelation(
        intraclass=min(products * (n - 1.0) / (pairs * n) + 1.0 / n, 1.0),
        design_effect=float(design),
        z=_normal_score(products - mean, variance, third),
        n_labels=g,
        n_rows=n,
    )


def pair_moments(
    e: FloatArray, sizes: FloatArray, s: FloatArray | None = None
) -> tuple[float, float, float]:
    """Mean, variance and third central moment of T over permutations of ``e`` over rows.

    Parameters
    ----------
    e : array, shape (n,)
        Values that sum to 0 (with their frequencies).
    sizes : array, shape (G,)
        Rows of each label.
    s : array, shape (n,), optional
        Frequency of each value.

    Returns
    -------
    mean, variance, third : float
        Mean and variance are exact; the third moment has its leading terms, never below 0.

    Examples
    --------
    >>> pair_moments(np.array([-1., 0., 1.]), np.array([2., 1.]))[0]   # 2 (-1 + 0 + 0) / 3
    -0.6666666666666666
    """
    n = float(e.shape[0] if s is None else s.sum())
    square, own = e * e, e if s is None else s * e
    p2, p3, p4 = float(own @ e), float(own @ square), float(own @ (square * e))
    p6 = float(own @ (square * square * e))
    pairs = float(sizes @ (sizes - 1.0))
    chains = float((sizes * (sizes - 1.0)) @ (sizes - 2.0))  # three rows of one label
    two, three = n * (n - 1.0), max(n * (n - 1.0) * (n - 2.0), 1.0)
    four = max(n * (n - 1.0) * (n - 2.0) * (n - 3.0), 1.0)
    mean = -pairs * p2 / two
    # Two pairs are the same pair, share one row, or none: mean product of e over such rows.
    same, one, none = (
        (p2**2 - p4) / two,
        (2.0 * p4 - p2**2) / three,
        3.0 * (p2**2 - 2.0 * p4) / four,
    )
    second = 2.0 * pairs * same + 4.0 * chains * one
    second += (pairs**2 - 2.0 * pairs - 4.0 * chains) * none
    # Three pairs: one pair thrice, or the sides of a triangle (as a quadratic form of centred
    # values has them: a label of nearly all rows adds nothing); all else is of smaller order.
    r1, r2, r3 = (float(sizes @ (sizes - 1.0) ** k) / n for k in (1, 2, 3))
    triangles = max(chains - 3.0 * r3 + 3.0 * r1 * r2 - r1**3, 0.0)
    third = 4.0 * pairs * max(p3**2 - p6, 0.0) / two
    third += 8.0 * triangles * max(p2**3 - 3.0 * p2 * p4 + 2.0 * p6, 0.0) / three
    return mean, second - mean**2, third


def _normal_score(deviation: float, variance: float, third: float) -> float:
    """A deviation as a standard normal score, by the tail of the gamma of the same moments."""
    if not variance > 0.0:
        return 0.0
    z, skew = deviation / math.sqrt(variance), third / variance**1.5
    if skew < SMALL_SKEW:
        return z
    shape = 4.0 / skew**2
    tail = float(stats.gamma.sf(shape + z * math.sqrt(shape), shape))
    score = float(stats.norm.isf(min(max(tail, SMALLEST_TAIL), 1.0 - SMALLEST_TAIL)))
    return max(score, z) if z < 0.0 else score  # a gamma ends below, a sum of products need not
