r"""Violation (A): a hidden confounder of text and outcome, in density-ratio form.

With a hidden ``U``, given which texts were assigned at random, the right weight of a row is
:math:`w r`, :math:`r = p_R(X)/p_R(X \mid U)`. So :math:`E[r \mid X] = 1` at every text, and the
model is :math:`1/\Lambda \le r \le \Lambda`: no reader's hidden traits made any text more than
:math:`\Lambda` times likelier, or less likely, than the stated log-probs say. (It is not the odds
ratio of Tan's marginal sensitivity model; a text's probability is tiny, and then the two agree.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from causal_lm_opt._validation import check_vector
from causal_lm_opt.diagnostics.sensitivity._bounds import (
    Bounds,
    PlugIn,
    Rows,
    check_lambdas,
    check_weight,
)
from causal_lm_opt.diagnostics.sensitivity.logging_probability import (
    logging_probability_bounds,
    logging_probability_contrast,
)

__all__ = ["hidden_confounder_bounds", "hidden_confounder_contrast", "quantile_excess"]

FloatArray = npt.NDArray[np.float64]


def quantile_excess(
    outcome: Any, quantile_lower: Any, quantile_upper: Any, lambdas: Any
) -> tuple[FloatArray, FloatArray]:
    r"""How far each row moves the lower bound down and the upper bound up, each (n, L).

    .. math:: e^+ = (\Lambda^{\mathrm{sgn}(Y-Q)} - 1)(Y - Q) \ge 0,
              \qquad e^- = (\Lambda^{\mathrm{sgn}(Q-Y)} - 1)(Q - Y) \ge 0,

    ``Q`` the conditional quantile of the outcome at :math:`\Lambda/(1+\Lambda)` for
    :math:`e^+` and at :math:`1/(1+\Lambda)` for :math:`e^-`. So :math:`Y + e^+` is the integrand
    :math:`Q + \Lambda^{\mathrm{sgn}(Y-Q)}(Y-Q)` of the sharp bound (Dorn and Guo 2022, for a
    density ratio). Both vanish at :math:`\Lambda = 1`, and for a fixed ``Q`` grow with
    :math:`\Lambda` row by row.

    Parameters
    ----------
    outcome : array, shape (n,)
    quantile_lower, quantile_upper : arrays, shape (n, L) or (n, 1)
    lambdas : array, shape (L,)

    Returns
    -------
    down, up : arrays, shape (n, L)

    Examples
    --------
    >>> down, up = quantile_excess([0., 2.], [[.5], [.5]], [[1.], [1.]], [2.])
    >>> down.ravel().tolist(), up.ravel().tolist()
    ([0.5, 0.75], [0.5, 1.0])
    """
    grid = check_lambdas(lambdas)
    y = np.asarray(outcome, dtype=np.float64)
    below = _quantiles(quantile_lower, "quantile_lower", y.shape[0], grid.size) - y[:, None]
    above = y[:, None] - _quantiles(quantile_upper, "quantile_upper", y.shape[0], grid.size)
    down = np.where(below > 0, grid - 1.0, 1.0 / grid - 1.0) * below
    up = np.where(above > 0, grid - 1.0, 1.0 / grid - 1.0) * above
    return down, up


def _quantiles(values: Any, name: str, n: int, n_lambdas: int) -> FloatArray:
    out = np.asarray(values, dtype=np.float64)
    if out.shape not in ((n, n_lambdas), (n, 1)):
        raise ValueError(
            f"{name} must have shape ({n}, {n_lambdas}), one column a Lambda, or ({n}, 1), got "
            f"{out.shape}."
        )
    if not np.isfinite(out).all():
        raise ValueError(f"{name} has NaN or infinite entries; predict every row's quantile.")
    return out


def hidden_confounder_bounds(
    weight: Any,
    outcome: Any,
    quantile_lower: Any,
    quantile_upper: Any,
    lambdas: Any,
    *,
    prediction: Any = None,
    rho: tuple[Any, Any] | None = None,
    plug_in: PlugIn | None = None,
    normalize: bool = True,
    sample_weight: Any = None,
    codes: Any = None,
    resamples: Any = None,
) -> Bounds:
    r"""Bounds of a value when a hidden confounder of strength :math:`\Lambda` is possible.

    Hajek: :math:`V^+ = \sum_i w_i\{Q_i + \Lambda^{\mathrm{sgn}(y_i-Q_i)}(y_i-Q_i)\} / \sum_i w_i`.
    Doubly robust: :math:`V^+ = E_f[\rho] + \sum_i w_i(\{\cdots\} - \rho_i)/\sum_i w_i`, ``rho`` a
    prediction of the brace.

    Parameters
    ----------
    weight : array, shape (n,)
        Importance weights under the stated log-probs, any scale if ``normalize``.
    outcome : array, shape (n,)
    quantile_lower, quantile_upper : arrays, shape (n, L) or (n, 1)
        Conditional quantiles of the outcome given the text at :func:`quantile_levels`, predicted
        without the row. Wrong quantiles widen the bounds and never void them.
    lambdas : array, shape (L,)
    prediction : array, shape (n,), optional
        ``q`` of a doubly robust value, predicted without the row.
    rho : pair of arrays (n, L), optional
        ``rho`` of the lower and the upper bound at the logged rows (at :math:`\Lambda = 1` both
        must be ``q``). ``None``: ``q``, which is valid with right weights but less precise.
    plug_in : PlugIn, optional
        Means of ``q`` and ``rho`` over the draws; needed with ``prediction``.
    normalize : bool
        Hajek; otherwise divide by the number of rows (Horvitz-Thompson).
    sample_weight : array, shape (n,), optional
        Frequencies.
    codes : array, shape (n,), optional
        Clusters, resampled whole.
    resamples : array, shape (B, n) or (B, clusters), optional
        From :func:`resample_multipliers`; the quantiles are held fixed, which leaves the interval
        valid, since wrong quantiles only widen.

    Returns
    -------
    Bounds

    Raises
    ------
    ValueError
        For wrong shapes, negative weights, strengths below 1.

    Notes
    -----
    **Assumptions.** Overlap, no interference, and :math:`E[r \mid X] = 1`: right marginal
    log-probs. Under mis-scored log-probs these bounds do not cover: use
    :func:`logging_probability_bounds`. Sharp when the quantiles are right. Self-normalised bounds
    are cut to those of :func:`logging_probability_bounds`, which allows every ``r`` this one does.

    Source: Dorn and Guo (2022), there for an odds ratio; doubly robust form: Dorn, Guo and
    Kallus (2024).

    Examples
    --------
    >>> w, y = np.ones(4), np.array([0., 1., 2., 3.])
    >>> q = np.full((4, 1), 1.5)
    >>> b = hidden_confounder_bounds(w, y, q - .5, q + .5, [1., 2.])
    >>> b.lower.round(3).tolist(), b.upper.round(3).tolist()
    ([1.5, 0.875], [1.5, 2.125])
    """
    y = np.asarray(outcome, dtype=np.float64)
    n, grid = int(np.size(y)), check_lambdas(lambdas)
    y = check_vector(y, "outcome", n)
    rows = Rows.of(n, sample_weight, codes, resamples)
    w = check_weight(weight, "weight", n, rows.frequency)
    q, draws = _second_sample(prediction, plug_in, n)
    down, up = quantile_excess(y, quantile_lower, quantile_upper, grid)
    if rho is not None:
        down = down - (q[:, None] - _quantiles(rho[0], "rho[0]", n, grid.size))
        up = up - (_quantiles(rho[1], "rho[1]", n, grid.size) - q[:, None])
    # columns: denominator, residual, what moves the lower bound down and the upper bound up
    columns = w[:, None] * np.column_stack([np.ones(n), y - q, down, up])
    if not normalize:
        columns[:, 0] = 1.0
    value, low, high = _solve(
        (rows.frequency @ columns)[None], draws.value, draws.shifts(grid.size), grid.size
    )
    below: FloatArray | None = None
    above: FloatArray | None = None
    if resamples is not None:
        _, below, above = _solve(
            rows.totals(columns), draws.replicates(), draws.replicate_shifts(grid.size), grid.size
        )
    out = Bounds(grid, float(value[0, 0]), low[0], high[0], below, above, rows.dof)
    if not normalize:
        return out
    cap = logging_probability_bounds(
        w, y, grid, prediction=prediction, plug_in=plug_in, sample_weight=sample_weight,
        codes=codes, resamples=resamples,
    )  # fmt: skip
    return _narrower(out, cap)


def _second_sample(prediction: Any, plug_in: PlugIn | None, n: int) -> tuple[FloatArray, PlugIn]:
    """``q`` (n,) and the plug-in term; zeros for a value without an outcome model."""
    if (prediction is None) != (plug_in is None):
        raise ValueError("prediction and plug_in go together: q at the logged rows and its mean.")
    if prediction is None or plug_in is None:
        return np.zeros(n), PlugIn()
    return check_vector(prediction, "prediction", n), plug_in


def _solve(
    sums: FloatArray,
    centre: FloatArray | float,
    shifts: tuple[FloatArray, FloatArray],
    n_lambdas: int,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Value (B, 1) and bounds (B, L) from sums over rows (B, 2 + 2 L)."""
    means = sums[:, 1:] / sums[:, :1]
    value = means[:, :1] + centre
    down = means[:, 1 : 1 + n_lambdas] + shifts[0]
    up = means[:, 1 + n_lambdas :] + shifts[1]
    # sampling noise of rho must not carry a bound past the estimate
    return value, value - np.maximum(down, 0.0), value + np.maximum(up, 0.0)


def _narrower(sharp: Bounds, wide: Bounds) -> Bounds:
    """The narrower of two valid bounds, at every strength and in every resample."""
    below, above = sharp.lower_replicates, sharp.upper_replicates
    if below is not None and wide.lower_replicates is not None:
        below = np.maximum(below, wide.lower_replicates)
    if above is not None and wide.upper_replicates is not None:
        above = np.minimum(above, wide.upper_replicates)
    # rounding must not carry a bound past the estimate
    lower = np.minimum(np.maximum(sharp.lower, wide.lower), sharp.value)
    upper = np.maximum(np.minimum(sharp.upper, wide.upper), sharp.value)
    return Bounds(sharp.lambdas, sharp.value, lower, upper, below, above, sharp.dof)


def hidden_confounder_contrast(
    weight: Any,
    reference_weight: Any,
    outcome: Any,
    quantile_lower: Any,
    quantile_upper: Any,
    lambdas: Any,
    *,
    prediction: Any = None,
    plug_in: PlugIn | None = None,
    normalize: bool = True,
    sample_weight: Any = None,
    codes: Any = None,
    resamples: Any = None,
) -> Bounds:
    r"""Bounds of a difference of two policies' values, one confounder for both.

    With :math:`\omega = w_f/\sum w_f - w_h/\sum w_h` the upper bound adds to the estimated
    difference :math:`\sum_i \omega_i^+ e_i^+ + \omega_i^- e_i^-` (:func:`quantile_excess`): where
    the difference of weights is negative, the worst confounder lowers the outcome. As the same
    ``r`` serves both policies, the bounds are narrower than the difference of separate bounds.
    Self-normalised ones are cut to those of :func:`logging_probability_contrast`.

    Parameters
    ----------
    weight, reference_weight : arrays, shape (n,)
        Importance weights of f and of h on the same rows (ones: the logging policy, had it assigned
        its texts at random).
    outcome, quantile_lower, quantile_upper, lambdas, prediction, normalize
        As in :func:`hidden_confounder_bounds`; ``prediction`` is one outcome model for both.
    sample_weight, codes, resamples
        As in :func:`hidden_confounder_bounds`.
    plug_in : PlugIn, optional
        ``value`` is :math:`E_f[q] - E_h[q]`.

    Returns
    -------
    Bounds
        Of V(f) - V(h).

    Examples
    --------
    >>> y, q = np.array([0., 1., 2., 3.]), np.full((4, 1), 1.5)
    >>> same = hidden_confounder_contrast(np.ones(4), np.ones(4), y, q, q, [3.])
    >>> same.lower.tolist(), same.upper.tolist()      # a policy never beats itself
    ([0.0], [0.0])
    """
    y = np.asarray(outcome, dtype=np.float64)
    n, grid = int(np.size(y)), check_lambdas(lambdas)
    y = check_vector(y, "outcome", n)
    rows = Rows.of(n, sample_weight, codes, resamples)
    w = check_weight(weight, "weight", n, rows.frequency)
    v = check_weight(reference_weight, "reference_weight", n, rows.frequency)
    q, draws = _second_sample(prediction, plug_in, n)
    down, up = quantile_excess(y, quantile_lower, quantile_upper, grid)

    def at(counts: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Difference of residual terms (b,), and how far its bounds lie from it, (b, L)."""
        total = counts.sum(axis=1, keepdims=True)
        left, right = counts * w, counts * v
        omega = left / (left.sum(axis=1, keepdims=True) if normalize else total)
        omega -= right / (right.sum(axis=1, keepdims=True) if normalize else total)
        plus, minus = np.maximum(omega, 0.0), np.maximum(-omega, 0.0)
        return omega @ (y - q), plus @ down + minus @ up, plus @ up + minus @ down

    centre, below, above = at(rows.frequency[None])
    value = float(centre[0] + draws.value)
    low_replicates: FloatArray | None = None
    high_replicates: FloatArray | None = None
    if rows.resamples is not None:
        low_replicates = np.empty((rows.resamples.shape[0], grid.size))
        high_replicates = np.empty_like(low_replicates)
        shift = np.broadcast_to(draws.replicates(), (rows.resamples.shape[0], 1))
        for some, counts in rows.blocks():
            mid, less, more = at(counts)
            low_replicates[some] = mid[:, None] + shift[some] - less
            high_replicates[some] = mid[:, None] + shift[some] + more
    out = Bounds(
        grid, value, value - below[0], value + above[0], low_replicates, high_replicates, rows.dof
    )
    if not normalize:
        return out
    cap = logging_probability_contrast(
        w, v, y, grid, prediction=prediction, plug_in=plug_in, sample_weight=sample_weight,
        codes=codes, resamples=resamples,
    )  # fmt: skip
    return _narrower(out, cap)
