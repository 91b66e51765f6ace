"""Diagnostics of an estimated density ratio: calibration, balance reached, unseen mass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from causal_lm_opt.core.inference import cluster_sums, influence_covariance
from causal_lm_opt.core.weights import relative_weights
from causal_lm_opt.diagnostics.balance import balance
from causal_lm_opt.diagnostics.overlap import effective_sample_size, unseen_mass

__all__ = ["RatioDiagnostics", "ratio_diagnostics"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
LEVEL_Z = 3.29  # two-sided level .001
SMALL_DIFFERENCE = 0.1  # of a standard deviation
MOST_FEATURES = 200
BINS = 10


@dataclass(frozen=True, eq=False)
class RatioDiagnostics:
    """What can be seen of an estimated density ratio; ``nan`` where a figure is not defined.

    Attributes
    ----------
    label : str
        How the ratio was made.
    n, m : float
        Logged rows and draws (sums of frequencies).
    ess : float
        Effective sample size of the estimated weights.
    mean_weight, mean_weight_z : float
        Mean estimated weight of the logged rows (1 for a right ratio), and its distance from 1 in
        standard errors.
    unseen_mass : float
        Share of the draws whose log ratio exceeds every logged one.
    empty_mass : float
        Share of the draws where no text was logged (cells: latent positivity fails there).
    auc : float
        How well the ratio tells draws from logged rows; .5: not at all.
    calibration_slope, calibration_curvature_z : float
        Logistic regression of "is a draw" on the (out-of-fold) log ratio: its slope (1 when
        calibrated), and the z of a square term (0 when the odds have the right form).
    reliability : DataFrame
        By tenths of the ratio: predicted and observed share of draws (both samples given equal
        total), rows.
    balance : DataFrame or None
        Standardised mean differences of the ratio's features before and after weighting.
    odds : bool
        Whether the ratio claims to be odds, so that it has to be calibrated.
    """

    label: str
    n: float
    m: float
    ess: float
    mean_weight: float
    mean_weight_z: float
    unseen_mass: float
    empty_mass: float
    auc: float
    calibration_slope: float
    calibration_curvature_z: float
    reliability: pd.DataFrame
    balance: pd.DataFrame | None = None
    odds: bool = True

    @property
    def max_smd(self) -> float:
        """Largest standardised difference of a feature after weighting."""
        return self._largest("smd_weighted")

    @property
    def max_smd_unweighted(self) -> float:
        """Largest standardised difference of a feature before weighting."""
        return self._largest("smd_unweighted")

    def _largest(self, column: str) -> float:
        return math.nan if self.balance is None else float(self.balance[column].abs().max())

    @property
    def findings(self) -> list[tuple[int, str]]:
        """(severity, sentence): 1 for caution, 2 for do not use."""
        found: list[tuple[int, str]] = []
        if abs(self.mean_weight - 1.0) > 0.1 and abs(self.mean_weight_z) > LEVEL_Z:
            found.append(
                (1, f"The estimated weights average {self.mean_weight:.3g} where 1 is due (z "
                    f"{self.mean_weight_z:+.1f}): the ratio does not fit; try another classifier "
                    "or fewer features.")
            )  # fmt: skip
        if self.odds and abs(self.calibration_curvature_z) > LEVEL_Z:
            found.append(
                (1, "The ratio's odds are not calibrated (square term, z "
                    f"{self.calibration_curvature_z:+.1f}): logged rows and draws differ in more "
                    "than its form allows; add interactions or squares, or another classifier.")
            )  # fmt: skip
        if self.balance is not None:
            off = self.balance["smd_weighted"].abs()
            bad = (off > SMALL_DIFFERENCE) & (self.balance["z"].abs() > LEVEL_Z)
            if bad.any():
                name = str(self.balance["feature"].iloc[int(off.where(bad, -1.0).argmax())])
                found.append(
                    (1, f"The weights leave {int(bad.sum())} of {len(off)} of the ratio's own "
                        f"features out of balance, most of all {name!r} "
                        f"({float(off[bad].max()):.2f} standard deviations).")
                )  # fmt: skip
        return found

    def to_dict(self) -> dict[str, float]:
        """Figures for a table."""
        return {
            "ratio_auc": self.auc,
            "ratio_calibration_slope": self.calibration_slope,
            "ratio_curvature_z": self.calibration_curvature_z,
            "ratio_mean_weight": self.mean_weight,
            "ratio_unseen_mass": self.unseen_mass,
            "ratio_empty_mass": self.empty_mass,
            "ratio_max_smd_unweighted": self.max_smd_unweighted,
            "ratio_max_smd": self.max_smd,
        }

    def __str__(self) -> str:
        lines = [
            f"Density ratio ({self.label}): {self.n:,.0f} logged rows, {self.m:,.0f} draws",
            f"  effective sample size {self.ess:,.0f}, mean weight {self.mean_weight:.3g}, "
            f"AUC {self.auc:.2f}",
            f"  calibration: slope {self.calibration_slope:.2f}, square term z "
            f"{self.calibration_curvature_z:+.1f}",
            f"  unseen mass {self.unseen_mass:.1%}, in empty cells {self.empty_mass:.1%}",
        ]
        if self.balance is not None:
            lines.append(
                f"  largest difference of a feature: {self.max_smd_unweighted:.2f} standard "
                f"deviations before, {self.max_smd:.2f} after weighting"
            )
        return "\n".join([*lines, *(f"  - {text}" for _, text in self.findings)])


def _logistic(
    design: FloatArray, y: FloatArray, s: FloatArray, codes: IntArray | None
) -> tuple[FloatArray, FloatArray]:
    """Coefficients of a logistic regression and their (clustered) robust standard errors."""
    b = np.zeros(design.shape[1])
    ridge = 1e-8 * float(s.sum()) * np.eye(b.size)
    for _ in range(50):
        p = special.expit(design @ b)
        information = design.T @ ((s * p * (1 - p))[:, None] * design) + ridge
        step = np.linalg.solve(information, design.T @ (s * (y - p)) - ridge @ b)
        b = b + step * min(1.0, 4.0 / max(float(np.abs(step).max()), 1e-300))
        if float(np.abs(step).max()) < 1e-9:
            break
    error = (y - special.expit(design @ b))[:, None] * design
    if codes is None:
        meat = error.T @ (s[:, None] * error)
    else:
        n_clusters = int(codes.max()) + 1
        sums = np.asarray(cluster_sums(s[:, None] * error, codes, n_clusters))
        meat = sums.T @ sums
    inverse = np.linalg.inv(information)
    return b, np.sqrt(np.diag(inverse @ meat @ inverse))


def _calibration(
    ell: FloatArray, is_target: FloatArray, weight: FloatArray, codes: IntArray | None
) -> tuple[float, float]:
    """Slope of "is a draw" on the log ratio, and z of its square."""
    finite = np.isfinite(ell)
    x, y, s = ell[finite], is_target[finite], weight[finite]
    groups = None if codes is None else codes[finite]
    scale = math.sqrt(max(float(np.average((x - np.average(x, weights=s)) ** 2, weights=s)), 0.0))
    if not scale > 1e-9 or np.unique(y).size < 2:
        return math.nan, math.nan
    z = (x - np.average(x, weights=s)) / scale
    slope, _ = _logistic(np.column_stack([np.ones_like(z), z]), y, s, groups)
    if np.unique(x.round(9)).size < 3:  # two values have no curvature
        return float(slope[1] / scale), math.nan
    curve, se = _logistic(np.column_stack([np.ones_like(z), z, z**2]), y, s, groups)
    return float(slope[1] / scale), float(curve[2] / se[2])


def _reliability(ell: FloatArray, is_target: FloatArray, share: FloatArray) -> pd.DataFrame:
    """Predicted and observed share of draws by tenths of the ratio; ``share`` sums to 1/2 each."""
    _, code = np.unique(ell.round(9), return_inverse=True)  # ties stay together
    size = np.bincount(code, weights=share)
    place = (np.cumsum(size) - size / 2.0)[code]
    cut = np.minimum((place * BINS).astype(np.intp), BINS - 1)

    def total(values: FloatArray) -> FloatArray:
        return np.asarray(np.bincount(cut, weights=values, minlength=BINS), dtype=np.float64)

    weight, some = total(share), np.unique(cut)
    return pd.DataFrame(
        {
            "predicted": (total(share * special.expit(ell)))[some] / weight[some],
            "observed": total(share * is_target)[some] / weight[some],
            "rows": np.bincount(cut, minlength=BINS)[some],
        }
    )


def _auc(ell: FloatArray, is_target: FloatArray, share: FloatArray) -> float:
    """Chance that a draw's ratio exceeds a logged row's, ties counted half."""
    _, code = np.unique(ell, return_inverse=True)
    logged = np.bincount(code, weights=share * (1.0 - is_target))
    target = np.bincount(code, weights=share * is_target)
    below = np.cumsum(logged) - logged / 2
    return float(target @ below / (logged.sum() * target.sum()))


def ratio_diagnostics(
    log_ratio: FloatArray,
    log_ratio_target: FloatArray,
    *,
    sample_weight: FloatArray | None = None,
    target_weight: FloatArray | None = None,
    codes: IntArray | None = None,
    target_codes: IntArray | None = None,
    features: FloatArray | None = None,
    features_target: FloatArray | None = None,
    names: Sequence[str] | None = None,
    label: str = "given",
    odds: bool = True,
) -> RatioDiagnostics:
    """Diagnose estimated log ratios of logged rows and of draws of the target.

    Parameters
    ----------
    log_ratio, log_ratio_target : arrays, shape (n,), (m,)
        Estimated ``log P_f/P_R`` of both samples, out of fold where it was cross-fitted.
    sample_weight, target_weight : arrays, shape (n,), (m,), optional
        Positive frequencies.
    codes, target_codes : integer arrays, shape (n,), (m,), optional
        Clusters, of one label space; errors are clustered.
    features, features_target : arrays, shape (n, d), (m, d), optional
        What the ratio was made of, for its balance (the 200 that vary most).
    names : sequence of str, optional
    label : str
    odds : bool
        Whether the ratio claims to be the odds of draws against logged rows (balancing weights
        need not be).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x, z = rng.normal(size=4000), rng.normal(.5, 1., 4000)     # N(0, 1) and N(.5, 1)
    >>> found = ratio_diagnostics(.5 * x - .125, .5 * z - .125)
    >>> abs(found.calibration_slope - 1) < .1, abs(found.mean_weight - 1) < .1, found.findings
    (True, True, [])
    """
    n, m = log_ratio.shape[0], log_ratio_target.shape[0]
    s = np.ones(n) if sample_weight is None else sample_weight
    t = np.ones(m) if target_weight is None else target_weight
    with np.errstate(over="ignore"):
        weight = np.exp(np.minimum(log_ratio, 300.0))
    mean = float(np.average(weight, weights=s))
    clusters = 0 if codes is None else int(codes.max()) + 1
    counted = float(clusters if codes is None else np.unique(codes).size)
    variance = float(influence_covariance(weight - mean, s, codes, clusters))
    if codes is not None:  # the code space may hold clusters of the draws alone
        variance *= clusters / (clusters - 1) * (counted - 1) / counted
    se = math.sqrt(variance)
    ell = np.concatenate([log_ratio, log_ratio_target])
    is_target = np.repeat([0.0, 1.0], [n, m])
    both = _joined_codes(codes, target_codes, n, m)
    slope, curvature = _calibration(ell, is_target, np.concatenate([s, t]), both)
    share = np.concatenate([s / s.sum(), t / t.sum()]) / 2.0
    table = None
    if features is not None and features_target is not None and features.shape[1]:
        some = np.arange(features.shape[1])
        if features.shape[1] > MOST_FEATURES:
            some = np.sort(np.argsort(-features.var(axis=0), kind="stable")[:MOST_FEATURES])
        table = balance(
            features[:, some], features_target[:, some], log_ratio, sample_weight=s,
            target_weight=t, codes=codes, target_codes=target_codes,
            names=None if names is None else [names[int(j)] for j in some],
        )  # fmt: skip
    return RatioDiagnostics(
        label=label,
        n=float(s.sum()),
        m=float(t.sum()),
        ess=float(effective_sample_size(relative_weights(log_ratio, normalize=True), s)),
        mean_weight=mean,
        mean_weight_z=(mean - 1.0) / se if se > 1e-9 else 0.0,
        unseen_mass=unseen_mass(log_ratio_target, float(log_ratio.max()), t),
        empty_mass=float(np.average(np.isposinf(log_ratio_target), weights=t)),
        auc=_auc(ell, is_target, share),
        calibration_slope=slope,
        calibration_curvature_z=curvature,
        reliability=_reliability(ell, is_target, share),
        balance=table,
        odds=odds,
    )


def _joined_codes(
    codes: IntArray | None, target_codes: IntArray | None, n: int, m: int
) -> IntArray | None:
    """Clusters of both samples, (n + m,); rows of an unclustered one stand alone."""
    if codes is None and target_codes is None:
        return None
    top = max(0 if c is None else int(c.max()) + 1 for c in (codes, target_codes))
    here = np.arange(top, top + n) if codes is None else codes
    there = np.arange(top + n, top + n + m) if target_codes is None else target_codes
    return np.asarray(np.concatenate([here, there]), dtype=np.intp)
