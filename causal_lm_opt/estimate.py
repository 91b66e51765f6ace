"""The result of every value estimator: values with their influence functions.

A :class:`ValueEstimate` keeps the influence function of every sample that entered it, so that
contrasts, simultaneous bands and clustered standard errors of any estimators on shared data follow
by algebra.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from causal_lm_opt.core import inference as inf
from causal_lm_opt.diagnostics.verdict import Verdict, worst
from causal_lm_opt.influence import (
    InfluenceSample,
    bernstein_interval,
    covariance_parts,
    independent_units,
    merge_samples,
    multiplier_interval,
    on_resamples,
)

if TYPE_CHECKING:
    from statsmodels.iolib.summary import Summary

    from causal_lm_opt.comparison import Comparison
    from causal_lm_opt.plots import Axes

__all__ = ["ValueEstimate"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]


SAME_TEXT_NOTE = (
    "This is the value of the logging policy itself (the mean outcome of the log): no log-probs or "
    "draws of another policy were given."
)
LOGGING_HINT = (
    " The logging policy's own value is that of fit(X, y) alone: subtract its result_, or name it "
    "as a policy whose logp_target is logp_logging."
)


@dataclass(frozen=True, eq=False)
class ValueEstimate:
    r"""Values of one or K policies with everything needed to judge and combine them.

    Made by the estimators' ``result_`` and ``evaluate``; combined with ``+``, ``-``, ``*``.

    Attributes
    ----------
    values : array, shape (K,)
        Estimates, in outcome units.
    names : tuple of str
        Policy names.
    samples : tuple of InfluenceSample
        One per independent source of randomness; empty when the influence was dropped.
    estimator : str
        Estimator and weights, for tables.
    bias_bound : array, shape (K,)
        Bound on the bias brought by a weight transform, or by the penalty or folds of an estimated
        ratio; intervals are widened by it.
    verdicts : tuple of Verdict
    diagnostics : tuple of dict
        Figures behind each verdict (JSON-safe).
    notes : tuple of str
        What a reader must know about how the estimate was made.
    scalar : bool
        One policy: ``value``, ``se``, ``influence`` and ``confint`` lose the policy axis.
    dropped_variance, dropped_dof : arrays, shape (K,), optional
        Variances kept when the influence functions were dropped.
    term_moment : bool
        The logged influence is ``Z_i - V`` of independent unbiased terms (Horvitz-Thompson), as
        finite-sample intervals need.
    estimand : {"model", "texts"}
        Texts the policies would write, or these texts as they stand (:class:`IPW`).

    Examples
    --------
    >>> import numpy as np
    >>> from causal_lm_opt import IPW
    >>> r = IPW().fit(np.zeros((4, 1)), [1., 2., 3., 6.]).result_
    >>> r.value, round(r.se, 3)
    (3.0, 1.08)
    >>> r.confint().round(2).tolist()
    [0.88, 5.12]
    """

    values: FloatArray
    names: tuple[str, ...]
    samples: tuple[InfluenceSample, ...]
    estimator: str
    bias_bound: FloatArray
    verdicts: tuple[Verdict, ...]
    diagnostics: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    scalar: bool = True
    dropped_variance: FloatArray | None = None
    dropped_dof: FloatArray | None = None
    term_moment: bool = False
    counts: Mapping[str, float] = field(default_factory=dict)
    estimand: str = "model"

    # ---------------------------------------------------------------- figures
    @property
    def value(self) -> Any:
        """Estimate: float for one policy, else array (K,)."""
        return float(self.values[0]) if self.scalar else self.values

    @property
    def se(self) -> Any:
        """Standard error: float for one policy, else array (K,)."""
        se = np.sqrt(self._variance())
        return float(se[0]) if self.scalar else se

    @property
    def influence(self) -> FloatArray:
        """Influence function on the logged rows, shape (n,) or (n, K)."""
        return self._influence("logged")

    @property
    def influence_target(self) -> FloatArray | None:
        """Influence function on the second sample, ``None`` where there is none.

        Policies with draws of their own are stacked by rows, zero outside their own draws.
        """
        roles = [s.role for s in self.samples]
        return self._influence("target") if "target" in roles else None

    def _influence(self, role: str) -> FloatArray:
        self._need_influence(f"the {role} influence function")
        found = [s.influence for s in self.samples if s.role == role]
        if not found:
            raise ValueError(f"This estimate has no {role} influence function: {self.estimator}.")
        stacked = found[0] if len(found) == 1 else np.concatenate(found)
        return stacked[:, 0] if self.scalar else stacked

    def _need_influence(self, purpose: str) -> None:
        if self.dropped_variance is not None:
            raise ValueError(
                f"influence='drop' kept no influence function, which {purpose} needs; fit again "
                "with influence='keep'."
            )

    def covariance(self) -> FloatArray:
        """Covariance matrix of the values, shape (K, K)."""
        self._need_influence("a covariance between policies")
        k = self.values.shape[0]
        return sum((cov for cov, _ in covariance_parts(self.samples)), np.zeros((k, k)))

    def _variance(self) -> FloatArray:
        if self.dropped_variance is not None:
            return self.dropped_variance
        return np.maximum(np.diagonal(self.covariance()), 0.0)

    def dof(self) -> FloatArray:
        """Degrees of freedom of each interval (K,): ``inf`` for rows.

        For clusters one less than the equal clusters that they are worth (at least 1).
        """
        if self.dropped_dof is not None:
            return self.dropped_dof
        parts = covariance_parts(self.samples)
        diagonals = [np.diagonal(c) for c, _ in parts]
        return np.array(
            [
                inf.welch_satterthwaite(
                    [float(d[k]) for d in diagonals], [float(d[k]) for _, d in parts]
                )
                for k in range(self.values.shape[0])
            ]
        )

    # ---------------------------------------------------------------- intervals
    def confint(
        self,
        level: float = 0.95,
        method: Literal["normal", "multiplier", "bernstein"] = "normal",
        *,
        n_boot: int = 2000,
        random_state: int = 0,
        bounds: tuple[float, float] | None = None,
    ) -> FloatArray:
        r"""Confidence interval of each value.

        Parameters
        ----------
        level : float
        method : {"normal", "multiplier", "bernstein"}
            ``"normal"``: value +- quantile x se (Student's t for clusters, see :meth:`dof`).
            ``"multiplier"``: studentised multiplier bootstrap of the influence functions (keeps
            their skewness). ``"bernstein"``: finite-sample empirical Bernstein interval; for plain
            Horvitz-Thompson values with ``bounds`` on ``w y`` known beforehand.
        n_boot, random_state : int
            For ``"multiplier"``.
        bounds : (float, float)
            For ``"bernstein"``: known lower and upper bound of one row's ``w_i y_i``.

        Returns
        -------
        array, shape (2,) or (K, 2)
            Widened by the bound on the transform's bias, if any.
        """
        if not 0.0 < level < 1.0:
            raise ValueError(f"level must lie strictly between 0 and 1, got {level!r}.")
        if method == "normal":
            out = self._normal_interval(level)
        elif method == "multiplier":
            out = self._multiplier_interval(level, n_boot, random_state)
        elif method == "bernstein":
            out = self._bernstein_interval(level, bounds)
        else:
            raise ValueError(
                f"method={method!r} is not known; use 'normal', 'multiplier' or 'bernstein'."
            )
        return out[0] if self.scalar else out

    def _normal_interval(self, level: float) -> FloatArray:
        se, dof = np.sqrt(self._variance()), self.dof()
        half = np.array(
            [
                inf.bias_aware_half_width(float(s), level=level, dof=float(d), bias=float(b))
                for s, d, b in zip(se, dof, self.bias_bound, strict=True)
            ]
        )
        return np.stack([self.values - half, self.values + half], axis=1)

    def _multiplier_interval(self, level: float, n_boot: int, random_state: int) -> FloatArray:
        self._need_influence("the multiplier bootstrap")
        out = multiplier_interval(
            independent_units(self.samples),
            self.values,
            np.sqrt(self._variance()),
            level=level,
            n_boot=n_boot,
            random_state=random_state,
        )
        return out + np.stack([-self.bias_bound, self.bias_bound], axis=1)

    def _bernstein_interval(self, level: float, bounds: tuple[float, float] | None) -> FloatArray:
        if not self.term_moment:
            raise ValueError(
                "method='bernstein' holds for plain Horvitz-Thompson values only: fit "
                "IPW(weights='ht') with log-probs, or use method='normal'."
            )
        if bounds is None:
            raise ValueError(
                "method='bernstein' needs bounds=(lower, upper) of one row's w * y, known before "
                "seeing the data (bounds read off the sample void the interval)."
            )
        self._need_influence("the empirical Bernstein interval")
        sample = next(s for s in self.samples if s.role == "logged")
        return bernstein_interval(sample, self.values, bounds, level=level)

    def compare(
        self,
        reference: str | int | None = None,
        *,
        level: float = 0.95,
        n_sim: int = 50_000,
        random_state: int = 0,
    ) -> Comparison:
        """Contrasts between policies with simultaneous bands, and the best policy's interval.

        Parameters
        ----------
        reference : str, int or None
            Contrast every other policy with this one; ``None``: all pairs.
        level : float
        n_sim, random_state : int
            Normal draws behind the max-t critical values.

        Returns
        -------
        Comparison
        """
        from causal_lm_opt.comparison import compare

        return compare(self, reference, level=level, n_sim=n_sim, random_state=random_state)

    # ---------------------------------------------------------------- algebra
    def __getitem__(self, policy: str | int) -> ValueEstimate:
        """One policy's estimate, by name or position."""
        return self.select([self.position(policy)], scalar=True)

    def position(self, policy: str | int) -> int:
        """Position of a policy given by name or position."""
        if isinstance(policy, str):
            if policy not in self.names:
                hint = LOGGING_HINT if "logging" in policy.lower() else ""
                raise KeyError(f"No policy named {policy!r}; there are {list(self.names)}.{hint}")
            return self.names.index(policy)
        if not -len(self.names) <= policy < len(self.names):
            raise IndexError(f"Policy {policy} of {len(self.names)} does not exist.")
        return policy % len(self.names)

    def select(self, positions: Sequence[int], *, scalar: bool = False) -> ValueEstimate:
        """The policies at ``positions``, in that order."""
        p = list(positions)
        return replace(
            self,
            values=self.values[p],
            names=tuple(self.names[i] for i in p),
            samples=tuple(s.columns(p) for s in self.samples),
            bias_bound=self.bias_bound[p],
            verdicts=tuple(self.verdicts[i] for i in p),
            diagnostics=tuple(self.diagnostics[i] for i in p) if self.diagnostics else (),
            scalar=scalar,
            dropped_variance=None if self.dropped_variance is None else self.dropped_variance[p],
            dropped_dof=None if self.dropped_dof is None else self.dropped_dof[p],
        )

    def linear(
        self, matrix: FloatArray, names: Sequence[str], *, scalar: bool = False
    ) -> ValueEstimate:
        """Linear combinations ``matrix @ values`` with ``matrix`` of shape (L, K)."""
        self._need_influence("a contrast")
        used = [np.flatnonzero(row) for row in matrix]
        return replace(
            self,
            values=matrix @ self.values,
            names=tuple(names),
            samples=tuple(s.combined(matrix) for s in self.samples),
            bias_bound=np.abs(matrix) @ self.bias_bound,
            verdicts=tuple(worst(self.verdicts[i] for i in rows) for rows in used),
            diagnostics=(),
            scalar=scalar,
            term_moment=False,
        )

    def _combine(self, other: object, sign: float) -> ValueEstimate:
        if isinstance(other, int | float | np.floating | np.integer):
            if not math.isfinite(other):
                raise ValueError(f"Cannot add {other!r} to a value.")
            return replace(self, values=self.values + sign * float(other), term_moment=False)
        if not isinstance(other, ValueEstimate):
            return NotImplemented  # type: ignore[no-any-return]
        self._need_influence("a contrast")
        other._need_influence("a contrast")
        estimand = common_estimand((self, other))
        left, right = _broadcast(self, other)
        symbol = "-" if sign < 0 else "+"
        names = tuple(f"{a} {symbol} {b}" for a, b in zip(left.names, right.names, strict=True))
        same = left.names == right.names and self.estimator != other.estimator
        return ValueEstimate(
            values=left.values + sign * right.values,
            names=left.names if same else names,
            samples=merge_samples(left.samples, right.samples, sign),
            estimator=self.estimator
            if self.estimator == other.estimator
            else f"{self.estimator} {symbol} {other.estimator}",
            bias_bound=left.bias_bound + right.bias_bound,
            verdicts=tuple(worst(v) for v in zip(left.verdicts, right.verdicts, strict=True)),
            notes=tuple(
                note
                for note in dict.fromkeys(
                    (*self.notes, *other.notes, *_independence_notes(left, right))
                )
                if note != SAME_TEXT_NOTE  # of one side's value, not of the combination's
            ),
            scalar=self.scalar and other.scalar,
            counts=dict(self.counts),
            estimand=estimand,
        )

    def __add__(self, other: object) -> ValueEstimate:
        return self._combine(other, 1.0)

    def __sub__(self, other: object) -> ValueEstimate:
        return self._combine(other, -1.0)

    __radd__ = __add__

    def __rsub__(self, other: object) -> ValueEstimate:
        return (-1.0 * self)._combine(other, 1.0)

    def __mul__(self, factor: float) -> ValueEstimate:
        if not isinstance(factor, int | float | np.floating | np.integer):
            return NotImplemented
        if not math.isfinite(factor):
            raise ValueError(f"Cannot multiply a value by {factor!r}.")
        c = float(factor)
        return replace(
            self,
            values=c * self.values,
            samples=tuple(s.with_influence(c * s.influence, s.units) for s in self.samples),
            bias_bound=abs(c) * self.bias_bound,
            term_moment=False,
            dropped_variance=None
            if self.dropped_variance is None
            else c * c * self.dropped_variance,
        )

    __rmul__ = __mul__

    def __neg__(self) -> ValueEstimate:
        return self * -1.0

    # ---------------------------------------------------------------- tables
    def to_frame(self, level: float = 0.95) -> pd.DataFrame:
        """One row per policy: value, standard error, interval, verdict and its reasons."""
        interval = self._normal_interval(level)
        return pd.DataFrame(
            {
                "policy": list(self.names),
                "estimator": self.estimator,
                "value": self.values,
                "se": np.sqrt(self._variance()),
                "ci_lower": interval[:, 0],
                "ci_upper": interval[:, 1],
                "level": level,
                "bias_bound": self.bias_bound,
                "verdict": [v.level for v in self.verdicts],
                "reasons": [" ".join(v.reasons) for v in self.verdicts],
            }
        )

    def summary(self, level: float = 0.95) -> Summary:
        """A statsmodels table: values, intervals, verdicts, and the notes beneath."""
        from causal_lm_opt.comparison import summary_table

        return summary_table(self, level)

    def plot(
        self,
        *,
        level: float = 0.95,
        truth: Mapping[str, float] | None = None,
        bands: bool = False,
        reference: float | None = None,
        unit: str | None = None,
        theme: Literal["light", "dark"] = "light",
        ax: Axes | None = None,
    ) -> Axes:
        """Forest plot of the values: :func:`causal_lm_opt.plots.forest_plot`.

        Parameters
        ----------
        level : float
        truth : mapping policy -> float, optional
            Known values.
        bands : bool
            Add the simultaneous bands of :meth:`compare` (two policies or more).
        reference : float, optional
            A dashed line, such as the logged mean outcome.
        unit : str, optional
            Name and unit of the outcome.
        theme : {"light", "dark"}
        ax : matplotlib Axes, optional
            A new pyplot figure's by default.

        Examples
        --------
        >>> import numpy as np
        >>> from causal_lm_opt import IPW, plots
        >>> r = IPW().fit(np.zeros((4, 1)), [1., 2., 3., 6.]).result_
        >>> r.plot(unit="minutes", ax=plots.new_axes()).get_xlabel()
        'mean of minutes'
        """
        from causal_lm_opt.plots import forest_plot

        return forest_plot(
            self, level=level, truth=truth, reference=reference, unit=unit, theme=theme, ax=ax,
            bands=self.compare(level=level).bands if bands else None,
        )  # fmt: skip

    def __repr__(self) -> str:
        frame = self.to_frame()
        rows = "; ".join(
            f"{r.policy}: {r.value:.4g} (se {r.se:.3g}, 95% {r.ci_lower:.4g} to {r.ci_upper:.4g}, "
            f"{r.verdict})"
            for r in frame.head(5).itertuples()
        )
        more = f"; ... {len(frame) - 5} more" if len(frame) > 5 else ""
        return f"<ValueEstimate {self.estimator}: {rows}{more}>"

    def _repr_html_(self) -> str:
        table = self.to_frame().to_html(
            index=False, escape=True, border=0, float_format="{:.4g}".format
        )
        notes = "".join(f"<li>{html.escape(n)}</li>" for n in self.notes)
        return table + (f"<ul>{notes}</ul>" if notes else "")


def common_estimand(estimates: Sequence[ValueEstimate]) -> str:
    """The estimand that all the estimates share.

    Raises
    ------
    ValueError
        When some are of texts to be written and others of these texts.
    """
    found = {e.estimand for e in estimates}
    if len(found) > 1:
        raise ValueError(
            "These estimates have different estimands: texts the policy would write ('model') and "
            "these texts as they stand ('texts'). Their combination is the value of neither; fit "
            "both with the same estimand=."
        )
    return found.pop()


def _independence_notes(a: ValueEstimate, b: ValueEstimate) -> tuple[str, ...]:
    """A warning where two estimates are combined as independent and may not be."""
    keys = [{s.key for s in r.samples if s.role == "logged"} for r in (a, b)]
    if keys[0] and keys[1] and not keys[0] & keys[1]:
        return (
            "The two estimates rest on different logged rows or outcomes and are combined as "
            "independent; for the same rows the standard error of the combination is wrong.",
        )
    paired = on_resamples(a.samples, b.samples), on_resamples(b.samples, a.samples)
    bootstrapped = [any(s.role == "replicates" for s in samples) for samples in paired]
    if bootstrapped[0] == bootstrapped[1]:
        return ()
    return (
        "One side has a bootstrap and the other an influence function: they are combined as if "
        "independent, so that the standard error of the combination is rough.",
    )


def _broadcast(a: ValueEstimate, b: ValueEstimate) -> tuple[ValueEstimate, ValueEstimate]:
    ka, kb = len(a.names), len(b.names)
    if ka == kb:
        return a, b
    if ka == 1:
        return a.select([0] * kb), b
    if kb == 1:
        return a, b.select([0] * ka)
    raise ValueError(
        f"Cannot combine estimates of {ka} and {kb} policies; select with result[name]."
    )
