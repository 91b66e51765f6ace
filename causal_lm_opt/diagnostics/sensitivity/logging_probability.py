r"""Violation (B): mis-scored logging probabilities.

Nothing is hidden, but the log-probs under the logging policy are wrong: the right weight of a row
is :math:`w r`, ``r = r(x)`` a function of the text, :math:`1/\Lambda \le r \le \Lambda` up to a
common factor. Only :math:`E_R[w r] = 1` is known, which self-normalisation imposes; at a single
text ``r`` need not average 1, so that conditional quantiles are of no help here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from causal_lm_opt._validation import check_groups, check_vector
from causal_lm_opt.diagnostics.sensitivity._bounds import (
    Bounds,
    PlugIn,
    Rows,
    check_lambdas,
    check_weight,
)

__all__ = ["logging_probability_bounds", "logging_probability_contrast"]

FloatArray = npt.NDArray[np.float64]
MAX_STEPS, WHOLE_STEPS = 500, 10
GAP = 1e-8  # of the outcome's spread
SCAN = 7


def logging_probability_bounds(
    weight: Any,
    outcome: Any,
    lambdas: Any,
    *,
    prediction: Any = None,
    plug_in: PlugIn | None = None,
    texts: Any = None,
    sample_weight: Any = None,
    codes: Any = None,
    resamples: Any = None,
) -> Bounds:
    r"""Bounds of a self-normalised value when stated logging probabilities may be wrong.

    .. math:: V^+ = \max_{r \in [1/\Lambda, \Lambda]^n}
              \frac{\sum_i w_i r_i y_i}{\sum_i w_i r_i}

    The maximum has ``r`` large above one threshold of the outcome and small below, found exactly
    by one sort. For a doubly robust value ``y - q`` takes the outcome's place and
    :math:`E_f[q]` is added.

    Parameters
    ----------
    weight : array, shape (n,)
        Importance weights under the stated log-probs, any scale.
    outcome : array, shape (n,)
    lambdas : array, shape (L,)
        A stated log-prob may be off by up to log Lambda, after a common constant.
    prediction, plug_in, sample_weight, codes, resamples
        As in :func:`hidden_confounder_bounds`; resamples are bounded anew.
    texts : array, shape (n,), optional
        Label of each row's text: rows of one text share one ``r``, which narrows the bounds.
        ``None``: every row is a text of its own, which is wider and valid.

    Returns
    -------
    Bounds

    Raises
    ------
    ValueError
        For wrong shapes, negative weights, strengths below 1.

    Notes
    -----
    **Assumptions.** Overlap, no interference, no hidden confounder. Without ``texts`` a hidden
    confounder of the same strength is covered too (it allows fewer ``r``), at a loss of width; with
    ``texts`` it is not, as its ``r`` differs between readers of one text.

    Source: Zhao, Small and Bhattacharya (2019), a linear-fractional programme.

    Examples
    --------
    >>> b = logging_probability_bounds(np.ones(4), [0., 1., 2., 3.], [1., 2.])
    >>> b.lower.round(3).tolist(), b.upper.round(3).tolist()
    ([1.5, 0.857], [1.5, 2.143])
    """
    y = np.asarray(outcome, dtype=np.float64)
    n, grid = int(np.size(y)), check_lambdas(lambdas)
    y = check_vector(y, "outcome", n)
    rows = Rows.of(n, sample_weight, codes, resamples)
    w = check_weight(weight, "weight", n, rows.frequency)
    y, draws = _residual(y, prediction, plug_in)
    label = _text_codes(texts, n)
    if label is None:
        order = np.argsort(-y, kind="stable")
        y, w = y[order], w[order]
    else:
        order = np.arange(n)

    def at(counts: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Values (b,) and bounds (b, L) of rows counted (b, n) times."""
        mass = counts[:, order] * w
        if label is None:
            return _fractional(mass, y, grid)
        parts = [_fractional(*_by_text(m, y, label), grid) for m in mass]
        value, low, high = zip(*parts, strict=True)
        return np.concatenate(value), np.concatenate(low), np.concatenate(high)

    value, lower, upper = at(rows.frequency[None])
    low: FloatArray | None = None
    high: FloatArray | None = None
    if rows.resamples is not None:
        low = np.empty((rows.resamples.shape[0], grid.size))
        high = np.empty_like(low)
        for some, counts in rows.blocks():
            _, low[some], high[some] = at(counts)
        low, high = low + draws.replicates(), high + draws.replicates()
    return Bounds(
        grid, float(value[0]) + draws.value, lower[0] + draws.value, upper[0] + draws.value,
        low, high, rows.dof,
    )  # fmt: skip


def _residual(y: FloatArray, prediction: Any, plug_in: PlugIn | None) -> tuple[FloatArray, PlugIn]:
    if (prediction is None) != (plug_in is None):
        raise ValueError("prediction and plug_in go together: q at the logged rows and its mean.")
    if prediction is None or plug_in is None:
        return y, PlugIn()
    return y - check_vector(prediction, "prediction", y.shape[0]), plug_in


def _text_codes(texts: Any, n: int) -> npt.NDArray[np.intp] | None:
    if texts is None:
        return None
    return np.unique(check_groups(texts, "texts", n), return_inverse=True)[1]


def _by_text(
    mass: FloatArray, y: FloatArray, label: npt.NDArray[np.intp]
) -> tuple[FloatArray, FloatArray]:
    """Total mass (1, T) and mean outcome (T,) of each text, outcomes descending."""
    total = np.asarray(np.bincount(label, weights=mass), dtype=np.float64)
    mean = np.bincount(label, weights=mass * y) / np.where(total > 0, total, 1.0)
    order = np.argsort(-mean, kind="stable")
    return total[None, order], mean[order]


def _fractional(
    mass: FloatArray, y: FloatArray, grid: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    r"""Value (b,) and extremes (b, L) over ``r``, outcomes (n,) descending, mass (b, n).

    With the ``k`` largest outcomes at :math:`\Lambda` and the others at :math:`1/\Lambda` the
    value moves by :math:`(\Lambda^2-1) A_k / (M + (\Lambda^2-1) M_k)`, ``A_k`` and ``M_k`` the
    leading sums of the centred outcomes and of the mass: one cumulative sum serves every Lambda,
    and both bounds, since all centred outcomes add up to 0.
    """
    total = mass.sum(axis=1)
    value = (mass @ y) / total
    moved = np.cumsum(mass * (y - value[:, None]), axis=1)
    held = np.cumsum(mass, axis=1)
    lower, upper = np.empty((mass.shape[0], grid.size)), np.empty((mass.shape[0], grid.size))
    for j, tilt in enumerate(grid * grid - 1.0):
        top = tilt * moved / (total[:, None] + tilt * held)
        bottom = tilt * moved / (total[:, None] + tilt * (total[:, None] - held))
        upper[:, j] = value + np.maximum(top.max(axis=1), 0.0)
        lower[:, j] = value - np.maximum(bottom.max(axis=1), 0.0)
    return value, lower, upper


# ------------------------------------------------------------------------------ two policies
def logging_probability_contrast(
    weight: Any,
    reference_weight: Any,
    outcome: Any,
    lambdas: Any,
    *,
    prediction: Any = None,
    plug_in: PlugIn | None = None,
    texts: Any = None,
    sample_weight: Any = None,
    codes: Any = None,
    resamples: Any = None,
) -> Bounds:
    r"""Bounds of a difference of two self-normalised values, one mis-scoring for both.

    .. math:: \max_r \frac{\sum w^f_i r_i y_i}{\sum w^f_i r_i} -
              \frac{\sum w^h_i r_i y_i}{\sum w^h_i r_i}

    Parameters
    ----------
    weight, reference_weight : arrays, shape (n,)
        Importance weights of f and of h on the same rows.
    outcome, lambdas, prediction, texts, sample_weight, codes, resamples
        As in :func:`logging_probability_bounds`. Resamples keep the worst ``r`` of the full sample
        (its own optimum moves the bound to second order only).
    plug_in : PlugIn, optional
        ``value`` is :math:`E_f[q] - E_h[q]`.

    Returns
    -------
    Bounds
        Of V(f) - V(h); never wider than the difference of separate bounds.

    Notes
    -----
    A difference of two ratios has no closed form: it is climbed, with exact line searches, from the
    best corners of a scan over the two values and the ratio of the two denominators.

    Examples
    --------
    >>> w, h = np.array([.5, .5, 1.5, 1.5]), np.array([1.5, 1.5, .5, .5])
    >>> b = logging_probability_contrast(w, h, [0., 1., 2., 3.], [1., 2.])
    >>> b.lower.round(3).tolist(), b.upper.round(3).tolist()
    ([1.0, 0.7], [1.0, 1.3])
    """
    y = np.asarray(outcome, dtype=np.float64)
    n, grid = int(np.size(y)), check_lambdas(lambdas)
    y = check_vector(y, "outcome", n)
    rows = Rows.of(n, sample_weight, codes, resamples)
    w = check_weight(weight, "weight", n, rows.frequency) * rows.frequency
    v = check_weight(reference_weight, "reference_weight", n, rows.frequency) * rows.frequency
    y, draws = _residual(y, prediction, plug_in)
    label = _text_codes(texts, n)
    label = np.arange(n) if label is None else label
    sides = np.stack([w, w * y, v, v * y], axis=1)
    pooled: FloatArray = np.stack(
        [np.asarray(np.bincount(label, weights=c), dtype=np.float64) for c in sides.T], axis=1
    )
    # counted once in sides, so that resampled totals must not count frequencies again
    plain = Rows(np.ones(n), rows.codes, rows.resamples)
    value = _difference(pooled.sum(axis=0))
    size = 0 if rows.resamples is None else rows.resamples.shape[0]
    lower, upper = np.empty(grid.size), np.empty(grid.size)
    low, high = np.empty((size, grid.size)), np.empty((size, grid.size))
    swapped = pooled[:, [2, 3, 0, 1]]
    for j, lam in enumerate(grid):
        best, r = _largest_difference(pooled, float(lam))
        worst, s = _largest_difference(swapped, float(lam))
        upper[j], lower[j] = best, -worst
        if size:
            # the linearised gap is kept where the optimum was not reached exactly
            slack = best - float(_difference(r @ pooled)), worst - float(_difference(s @ swapped))
            high[:, j] = _difference(plain.totals(r[label, None] * sides)) + slack[0]
            low[:, j] = _difference(plain.totals(s[label, None] * sides)) - slack[1]
    shift = draws.replicates()
    return Bounds(
        grid, float(value) + draws.value, lower + draws.value, upper + draws.value,
        low + shift if size else None, high + shift if size else None, rows.dof,
    )  # fmt: skip


def _difference(sums: FloatArray) -> Any:
    """Difference of the two self-normalised values from sums (..., 4)."""
    return sums[..., 1] / sums[..., 0] - sums[..., 3] / sums[..., 2]


def _largest_difference(sides: FloatArray, lam: float) -> tuple[float, FloatArray]:
    """Largest difference over ``r`` in ``[1/lam, lam]^T`` and the ``r`` that attains it."""
    if lam == 1.0:
        r = np.ones(sides.shape[0])
        return float(_difference(sides.sum(axis=0))), r
    scaled = sides / np.repeat(sides.sum(axis=0)[[0, 2]], 2)
    found = [_climb(scaled, start, lam) for start in _starts(scaled, lam)]
    return max(found, key=lambda pair: pair[0])


def _starts(sides: FloatArray, lam: float) -> list[FloatArray]:
    """The best corner ``r`` for each of some ``k``; the maximum lies next to such a corner.

    There ``r`` is large where ``p (y - a) > k q (y - b)``: ``a`` and ``b`` the two values and
    ``k`` the ratio of the two denominators, all of which have known ranges.
    """
    p, py, q, qy = sides.T

    def values(mass: FloatArray, total: FloatArray) -> FloatArray:
        y = np.where(mass > 0, total / np.where(mass > 0, mass, 1.0), 0.0)
        order = np.argsort(-y, kind="stable")
        _, low, high = _fractional(mass[None, order], y[order], np.array([lam]))
        return np.linspace(low[0, 0], high[0, 0], SCAN)

    logs = 2.0 * np.log(lam) * np.linspace(-1.0, 1.0, SCAN)
    right = [qy - b * q for b in values(q, qy)]
    left = [py - a * p for a in values(p, py)]
    starts = []
    for k in np.exp(logs):
        corners = [np.where(x > k * y, lam, 1.0 / lam) for x in left for y in right]
        starts.append(max(corners, key=lambda r: float(_difference(r @ sides))))
    return starts


def _climb(sides: FloatArray, r: FloatArray, lam: float) -> tuple[float, FloatArray]:
    """Ascent from ``r``: whole steps, then the one text that gains most at a time.

    At the optimum all but a few ``r`` lie in a corner; whole steps would zigzag on these few.
    Returns the value with its final linearised gap, which is next to 0.
    """
    spread = float(np.abs(sides[:, 1] + sides[:, 3]).sum()) + 1e-300
    gap = 0.0
    for step in range(MAX_STEPS):
        now = r @ sides
        a, b = now[1] / now[0], now[3] / now[2]
        slope = (sides[:, 1] - a * sides[:, 0]) / now[0] - (sides[:, 3] - b * sides[:, 2]) / now[2]
        change = np.where(slope > 0, lam, 1.0 / lam) - r
        gain = slope * change
        gap = float(gain.sum())
        if gap <= GAP * spread:
            break
        if step >= WHOLE_STEPS:
            change = np.where(np.arange(r.shape[0]) == np.argmax(gain), change, 0.0)
        r = r + _best_step(now, change @ sides) * change
    return float(_difference(r @ sides)) + max(gap, 0.0), r


def _best_step(now: FloatArray, change: FloatArray) -> float:
    """Step in (0, 1] that maximises the difference of ratios along a segment, exactly."""
    k = change[1] * now[0] - now[1] * change[0], change[3] * now[2] - now[3] * change[2]
    steps = [1.0]
    if k[0] * k[1] > 0:  # the derivative k0/D0(t)^2 - k1/D1(t)^2 may vanish inside
        root = np.sqrt(abs(np.array(k)))
        bottom = root[1] * change[0] - root[0] * change[2]
        if bottom != 0:
            t = (root[0] * now[2] - root[1] * now[0]) / bottom
            if 0.0 < t < 1.0:
                steps.append(float(t))
    return max(steps, key=lambda t: float(_difference(now + t * change)))
