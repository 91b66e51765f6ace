r"""Balance of features: do the weighted logged texts look like the target policy's own draws?

Under the right logging policy the weighted mean of *every* feature of the text agrees with the
target's mean up to sampling error, so that a standardised difference many standard errors from
zero means wrong log-probabilities, missing overlap, or draws of another policy. Balance of the
chosen features says nothing about features that were not looked at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from causal_lm_opt._validation import is_frame
from causal_lm_opt.core.solve import solve_linear_moment
from causal_lm_opt.diagnostics._balance_error import (
    DifferenceError,
    difference_error,
    joined_clusters,
    max_z_p_value,
    unit_mean_weights,
)
from causal_lm_opt.diagnostics._units import Units, importance_weights, support_probabilities
from causal_lm_opt.exceptions import OverlapError

__all__ = ["BalanceSummary", "balance", "balance_summary"]

FloatArray = npt.NDArray[np.float64]
ROUNDING = 1e-12  # a spread this small beside the values themselves is rounding


@dataclass(frozen=True, eq=False)
class BalanceSummary:
    """Balance of all features together.

    Attributes
    ----------
    table : DataFrame
        See :func:`balance`.
    max_unweighted, max_weighted : float
        Largest absolute standardised difference before and after weighting.
    worst : str
        Feature with the largest ``|z|``.
    max_z : float
        That ``|z|``.
    p_value : float
        Joint p-value of ``max_z``: the chance of one so large among these (correlated) features
        when all are balanced. ``nan`` without ``normals``.
    """

    table: pd.DataFrame
    max_unweighted: float
    max_weighted: float
    worst: str
    max_z: float
    p_value: float

    @property
    def sentence(self) -> str:
        """The summary in words."""
        joint = "" if math.isnan(self.p_value) else f", joint p {self.p_value:.3g}"
        return (
            f"Weighting takes the largest standardised difference of {len(self.table)} features "
            f"from {self.max_unweighted:.2f} to {self.max_weighted:.2f}; the most significant is "
            f"{self.worst!r} ({self.max_z:.1f} standard errors{joint})."
        )


def balance(
    features_logged: Any,
    features_target: Any,
    log_ratio: Any,
    *,
    sample_weight: Any = None,
    target_weight: Any = None,
    target_log_ratio: Any = None,
    ell_target: Any = None,
    codes: Any = None,
    target_codes: Any = None,
    shared_codes: bool = False,
    exact: bool = False,
    names: Sequence[str] | None = None,
) -> pd.DataFrame:
    r"""Standardised mean differences of features, before and after weighting.

    .. math:: \mathrm{SMD}_k = \frac{\bar F_k^{\,\text{logged}} - \bar F_k^{\,\text{target}}}{s_k},
              \qquad s_k^2 = \tfrac12 (s^2_{k,\text{target}} + s^2_{k,\text{logged}})

    with the logged mean plain or weighted by :math:`w = e^\ell` (self-normalised) and the same
    :math:`s_k` (unweighted variances, taken as fixed) under both, as for a Love plot.

    Parameters
    ----------
    features_logged : array or DataFrame, shape (n, d)
        Numeric features of the logged texts (length, topic indicators, embedding coordinates).
    features_target : array or DataFrame, shape (m, d)
        The same features of the target's draws (or of its whole support, with ``exact``).
    log_ratio : array, shape (n,)
        :math:`\log P_f - \log P_R` of the logged rows, natural logs; ``-inf`` allowed.
    sample_weight, target_weight : array, shape (n,) and (m,), optional
        Frequencies; ``target_weight`` holds the support's probabilities with ``exact``.
    target_log_ratio : array, shape (m,), optional
        :math:`\log P_f - \log P_0` when the draws come from a sampling model.
    ell_target : array, shape (m,), optional
        :math:`\log P_f - \log P_R` of the target rows (``+inf`` where the logger never writes).
        They show what variance the logged mean should have (see Notes).
    codes, target_codes : array, shape (n,) and (m,), optional
        Cluster labels; standard errors are clustered.
    shared_codes : bool
        The two sets of labels name the same clusters (shared prompts): log and draws of one
        cluster then vary together.
    exact : bool
        The target rows are its finite support: no sampling error there.
    names : sequence of str, optional
        Feature names; the column names of a DataFrame otherwise.

    Returns
    -------
    DataFrame
        Columns ``feature``, ``smd_unweighted``, ``smd_weighted``, ``se_weighted`` (sampling error
        of log and draws when all is balanced), ``z``. A feature that is constant and equal in both
        samples has 0 everywhere; one that is constant at two different values has an infinite
        difference.

    Raises
    ------
    ValueError
        For shapes that do not fit, entries that are not finite, fewer than two units.
    OverlapError
        When every weight is 0.

    Notes
    -----
    **Assumptions.** Rows (or clusters) are independent; ``z`` is standard normal for large samples
    with finite :math:`E_R[w^2 F^2]`. Under heavy weights both the difference and its error are
    understated. **Standard errors** are the sandwich's, yet each sample's part is at least what
    the other one expects of it when the feature is balanced: a rare word that none of few logged
    texts holds has no spread there, which is no certainty. Where ``ell_target`` is given that
    expectation is :math:`E_f[w (F - \mu)^2]/n`, else :math:`\mathrm{Var}_f(F)/n`.

    Standardised differences: Austin (2009), Statistics in Medicine 28(25).

    Examples
    --------
    >>> logged, target = np.array([[0.], [0.], [1.], [1.]]), np.array([[1.], [1.], [1.], [0.]])
    >>> ell = np.log(np.where(logged[:, 0] == 1, 1.5, .5))      # P_f(1) = .75, P_R(1) = .5
    >>> table = balance(logged, target, ell, names=["polite"])
    >>> table[["smd_unweighted", "smd_weighted"]].round(3).to_numpy().tolist()
    [[-0.535, 0.0]]
    """
    return _differences(
        features_logged, features_target, log_ratio, sample_weight, target_weight,
        target_log_ratio, ell_target, codes, target_codes, shared_codes, exact, names,
    )[0]  # fmt: skip


def balance_summary(
    features_logged: Any,
    features_target: Any,
    log_ratio: Any,
    *,
    normals: Any = None,
    sample_weight: Any = None,
    target_weight: Any = None,
    target_log_ratio: Any = None,
    ell_target: Any = None,
    codes: Any = None,
    target_codes: Any = None,
    shared_codes: bool = False,
    exact: bool = False,
    names: Sequence[str] | None = None,
) -> BalanceSummary:
    r"""Largest differences, and one joint test that all features are balanced.

    The test compares :math:`\max_k |z_k|` with the maximum of normals that carry the estimated
    correlation of the :math:`z_k`; p-value :math:`(1 + \#\{b: M_b \ge M\})/(B + 1)`. Each
    :math:`z_k` is first brought to the normal from a t distribution with its variance's effective
    degrees of freedom.

    Parameters
    ----------
    normals : array, shape (B, d), optional
        Independent standard normals; without them there is no p-value.

    Other arguments are those of :func:`balance`.

    Raises
    ------
    ValueError
        As :func:`balance`, and for ``normals`` of another width.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x, x_f = rng.standard_normal((500, 2)), rng.standard_normal((2000, 2)) + [.3, 0]
    >>> right = .3 * x[:, 0] - .045                             # log N(.3, 1) - log N(0, 1)
    >>> normals = rng.standard_normal((999, 2))
    >>> balance_summary(x, x_f, right, normals=normals).p_value > .05
    True
    >>> balance_summary(x, x_f, np.zeros(500), normals=normals).p_value
    0.001
    """
    table, error = _differences(
        features_logged, features_target, log_ratio, sample_weight, target_weight,
        target_log_ratio, ell_target, codes, target_codes, shared_codes, exact, names,
    )  # fmt: skip
    z = np.abs(table["z"].to_numpy())
    p_value = math.nan
    if normals is not None:
        p_value = max_z_p_value(error, z, _check_normals(normals, z.shape[0]))
    return BalanceSummary(
        table=table,
        max_unweighted=float(table["smd_unweighted"].abs().max()),
        max_weighted=float(table["smd_weighted"].abs().max()),
        worst=str(table["feature"].iloc[int(np.argmax(z))]),
        max_z=float(z.max()),
        p_value=p_value,
    )


def _differences(
    features_logged: Any,
    features_target: Any,
    log_ratio: Any,
    sample_weight: Any,
    target_weight: Any,
    target_log_ratio: Any,
    ell_target: Any,
    codes: Any,
    target_codes: Any,
    shared_codes: bool,
    exact: bool,
    names: Sequence[str] | None,
) -> tuple[pd.DataFrame, DifferenceError]:
    """Balance table, and the error of the weighted standardised differences."""
    logged, labels = _features(features_logged, "features_logged")
    target, other = _features(features_target, "features_target")
    labels = _feature_names(names, labels, other, logged.shape[1], target.shape[1])
    if shared_codes and (codes is None or target_codes is None):
        raise ValueError("shared_codes=True needs both codes and target_codes.")
    if exact and (target_codes is not None or target_log_ratio is not None):
        raise ValueError("exact=True takes neither target_codes nor target_log_ratio.")
    m = target.shape[0]
    units = Units.of(logged.shape[0], sample_weight, codes)
    weight = importance_weights(log_ratio, "log_ratio", logged.shape[0])[units.kept]
    if not weight.any():
        raise OverlapError("Every row of positive sample_weight has log_ratio -inf.")
    draws, ratio = _target_rows(m, target_weight, target_codes, target_log_ratio, exact=exact)
    logged, target = logged[units.kept], target if draws is None else target[draws.kept]

    centre = target.mean(axis=0)  # differences of centred values keep their digits
    logged, target = logged - centre, target - centre
    frequency = None if draws is None else draws.frequency
    mean_w, phi_w = solve_linear_moment(weight[:, None], weight[:, None] * logged, units.frequency)
    mean_f, phi_f = solve_linear_moment(ratio[:, None], ratio[:, None] * target, frequency)
    mean_u = units.mean(logged)
    counted = weight if units.frequency is None else weight * units.frequency
    counted_f = ratio if frequency is None else ratio * frequency
    square = (target - mean_f) ** 2
    variance_f = counted_f @ square / counted_f.sum()
    sd = np.sqrt((variance_f + units.mean((logged - mean_u) ** 2)) / 2)
    size = np.abs(centre) + np.abs(mean_u) + sd
    scale = np.where(sd > ROUNDING * size, sd, 0.0)
    inverse = np.where(scale > 0, 1.0 / np.where(scale > 0, scale, 1.0), 0.0)
    expected = variance_f
    if ell_target is not None:
        heavy = counted_f * unit_mean_weights(log_ratio, ell_target, units, draws, m)
        expected = heavy @ square / counted_f.sum()
    error = difference_error(
        phi_w * inverse,
        phi_f * inverse,
        units,
        draws,
        expected_logged=expected * inverse**2,
        expected_target=counted @ (logged - mean_w) ** 2 / counted.sum() * inverse**2,
        shared=joined_clusters(codes, target_codes, units, draws) if shared_codes else None,
    )
    se = np.sqrt(np.diag(error.covariance))
    weighted = _standardised(mean_w - mean_f, scale, size)
    table = pd.DataFrame(
        {
            "feature": labels,
            "smd_unweighted": _standardised(mean_u - mean_f, scale, size),
            "smd_weighted": weighted,
            "se_weighted": se,
            "z": _standardised(weighted, se, np.ones_like(se)),
        }
    )
    return table, error


def _target_rows(
    m: int, target_weight: Any, target_codes: Any, target_log_ratio: Any, *, exact: bool
) -> tuple[Units | None, FloatArray]:
    """Units of the target's draws (``None``: exact support) and the weights of those kept."""
    if exact:
        return None, support_probabilities(target_weight, m)
    draws = Units.of(
        m, target_weight, target_codes, weight_name="target_weight", codes_name="target_codes"
    )
    return draws, importance_weights(target_log_ratio, "target_log_ratio", m)[draws.kept]


def _standardised(difference: FloatArray, scale: FloatArray, size: FloatArray) -> FloatArray:
    """``difference / scale``; 0/0 is 0 and anything else over 0 infinite."""
    usable = scale > 0
    ratio = difference / np.where(usable, scale, 1.0)
    equal = np.abs(difference) <= ROUNDING * np.where(size > 0, size, 1.0)
    degenerate = np.where(equal, 0.0, np.copysign(np.inf, difference))
    return np.asarray(np.where(usable, ratio, degenerate))


def _check_normals(normals: Any, d: int) -> FloatArray:
    values = np.asarray(normals, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != d or not values.shape[0]:
        raise ValueError(
            f"normals must have shape (B, {d}), one column for each feature, got {values.shape}."
        )
    return values


def _features(values: Any, name: str) -> tuple[FloatArray, list[str] | None]:
    """Finite features (n, d) and their names if they carry any; (n,) is one feature."""
    labels = [str(c) for c in values.columns] if is_frame(values) else None
    try:
        out = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} must be a dense array of numbers, one column for each feature: {error}."
        ) from error
    if out.ndim == 1:
        out = out[:, None]
    if out.ndim != 2 or 0 in out.shape:
        raise ValueError(f"{name} must have shape (rows, features), got {out.shape}.")
    bad = ~np.isfinite(out)
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"{name} has {int(bad.sum())} NaN or infinite entries, the first at row {row}, "
            f"column {column}; drop or mend these rows."
        )
    return out, labels


def _feature_names(
    names: Sequence[str] | None,
    logged: list[str] | None,
    target: list[str] | None,
    d: int,
    d_target: int,
) -> list[str]:
    if d != d_target:
        raise ValueError(f"features_logged has {d} columns and features_target {d_target}.")
    if logged is not None and target is not None and logged != target:
        raise ValueError(
            f"features_logged and features_target name their columns differently: {logged} and "
            f"{target}."
        )
    if names is None:
        return logged or target or [f"x{k}" for k in range(d)]
    if isinstance(names, str) or len(names) != d:
        raise ValueError(f"names must hold {d} feature names, got {names!r}.")
    return [str(name) for name in names]
