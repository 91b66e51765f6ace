"""Contrasts of policies with simultaneous inference, and the printed table of an estimate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from causal_lm_opt.core.inference import bias_aware_half_width, max_t_critical_value
from causal_lm_opt.diagnostics.coverage import sum_skewness
from causal_lm_opt.diagnostics.trust import FIGURE_HEADERS, figure_cells
from causal_lm_opt.diagnostics.verdict import BLIND_SPOTS, LEVELS, skewness_finding, verdict, worst
from causal_lm_opt.estimate import ValueEstimate
from causal_lm_opt.influence import independent_units

if TYPE_CHECKING:
    from statsmodels.iolib.summary import Summary

    from causal_lm_opt.plots import Axes
    from causal_lm_opt.selection import RegretBound

__all__ = [
    "Comparison",
    "differences",
    "simultaneous_band",
    "compare",
    "grouped_reasons",
    "simultaneous_critical_value",
    "standard_draws",
    "summary_table",
]

FloatArray = npt.NDArray[np.float64]
ESTIMANDS = {"model": "texts the policy would write", "texts": "these texts"}


NOT_SHARED = "what the two values do not share"


@dataclass(frozen=True, eq=False)
class Comparison:
    """Policies compared on the same rows.

    Attributes
    ----------
    values : ValueEstimate
        The policies' own values.
    contrasts : ValueEstimate
        Differences, named ``"a - b"``.
    level : float
    bands : array, shape (K, 2)
        Simultaneous max-t bands of the values: all hold together with probability ``level``.
    contrast_bands : array, shape (L, 2)
        The same for the contrasts.
    critical_value, contrast_critical_value : float
    """

    values: ValueEstimate
    contrasts: ValueEstimate
    level: float
    bands: FloatArray
    contrast_bands: FloatArray
    critical_value: float
    contrast_critical_value: float

    @property
    def best(self) -> str:
        """Name of the policy with the largest estimate (a selection: see `best_interval`)."""
        return self.values.names[int(np.argmax(self.values.values))]

    @property
    def selected_interval(self) -> FloatArray:
        """Interval (2,) of the selected policy's own value, valid after selection (max-t)."""
        return np.asarray(self.bands[int(np.argmax(self.values.values))])

    @property
    def best_interval(self) -> FloatArray:
        """Interval (2,) of the largest value over the policies: ``[max lower, max upper]``."""
        return np.asarray(self.bands.max(axis=0))

    def prob_best(self, *, n_sim: int = 50_000, random_state: int = 0) -> pd.DataFrame:
        """Probability that each policy is the best: :func:`~.selection.probability_best`."""
        from causal_lm_opt.selection import probability_best

        return probability_best(self.values, n_sim=n_sim, random_state=random_state)

    def regret_bound(
        self, policy: str | int | None = None, *, n_sim: int = 50_000, random_state: int = 0
    ) -> RegretBound:
        """What choosing a policy may cost, at the comparison's level.

        See :func:`~.selection.regret_upper_bound`; ``None``: the largest estimate.
        """
        from causal_lm_opt.selection import regret_upper_bound

        return regret_upper_bound(
            self.values, policy, level=self.level, n_sim=n_sim, random_state=random_state
        )

    def to_frame(self) -> pd.DataFrame:
        """One row per contrast, with pointwise and simultaneous intervals."""
        frame = self.contrasts.to_frame(self.level).rename(columns={"policy": "contrast"})
        frame.insert(6, "band_lower", self.contrast_bands[:, 0])
        frame.insert(7, "band_upper", self.contrast_bands[:, 1])
        return frame.drop(columns=["reasons"])

    def plot(
        self,
        *,
        unit: str | None = None,
        theme: Literal["light", "dark"] = "light",
        ax: Axes | None = None,
    ) -> Axes:
        """Forest plot of the contrasts, pointwise and simultaneous, against no difference.

        Parameters
        ----------
        unit : str, optional
            Name and unit of the outcome.
        theme : {"light", "dark"}
        ax : matplotlib Axes, optional
            A new pyplot figure's by default.
        """
        from causal_lm_opt.plots import contrast_plot

        return contrast_plot(self, unit=unit, theme=theme, ax=ax)

    def __repr__(self) -> str:
        lo, hi = self.selected_interval
        return (
            f"<Comparison of {len(self.values.names)} policies: largest estimate {self.best!r}, "
            f"its {self.level:.0%} interval after selection {lo:.4g} to {hi:.4g}, "
            f"verdict {self.values[self.best].verdicts[0].level}>"
        )

    def _repr_html_(self) -> str:
        return str(
            self.to_frame().to_html(
                index=False, escape=True, border=0, float_format="{:.4g}".format
            )
        )


def standard_draws(estimate: ValueEstimate, n_sim: int, random_state: int) -> FloatArray:
    """Standard normals (n_sim, K); for clusters multivariate t with the fewest degrees.

    Examples
    --------
    >>> import numpy as np
    >>> from causal_lm_opt import IPW
    >>> rng = np.random.default_rng(0)
    >>> p = rng.uniform(.3, .7, (50, 2))
    >>> logs = {"logp_logging": np.log(np.full(50, .5)), "logp_target": np.log(p)}
    >>> estimate = IPW().fit(p, rng.normal(size=50), **logs).result_
    >>> standard_draws(estimate, 3, 0).shape
    (3, 2)
    """
    if n_sim < 1:
        raise ValueError(f"n_sim must be at least 1 draw, got {n_sim!r}.")
    rng = np.random.default_rng(random_state)
    normals = rng.standard_normal((n_sim, len(estimate.names)))
    dof = float(np.min(estimate.dof()))
    if np.isfinite(dof):
        normals /= np.sqrt(rng.chisquare(dof, size=(n_sim, 1)) / dof)
    return normals


def simultaneous_critical_value(
    estimate: ValueEstimate, *, level: float, n_sim: int, random_state: int
) -> float:
    """Max-t critical value over all values of an estimate (multivariate t for clusters).

    Simulated, and never below the pointwise one.

    Examples
    --------
    >>> import numpy as np
    >>> from causal_lm_opt import IPW
    >>> rng = np.random.default_rng(0)
    >>> p = rng.uniform(.3, .7, (50, 2))
    >>> logs = {"logp_logging": np.log(np.full(50, .5)), "logp_target": np.log(p)}
    >>> estimate = IPW().fit(p, rng.normal(size=50), **logs).result_
    >>> value = simultaneous_critical_value(estimate, level=.95, n_sim=2000, random_state=0)
    >>> 1.95 < value < 2.4
    True
    """
    normals = standard_draws(estimate, n_sim, random_state)
    dof = float(np.min(estimate.dof()))
    simulated = max_t_critical_value(estimate.covariance(), normals, level=level)
    return max(simulated, bias_aware_half_width(1.0, level=level, dof=dof))


def compare(
    estimate: ValueEstimate,
    reference: str | int | None,
    *,
    level: float,
    n_sim: int,
    random_state: int,
) -> Comparison:
    """See :meth:`causal_lm_opt.ValueEstimate.compare`.

    Examples
    --------
    >>> import numpy as np
    >>> from causal_lm_opt import IPW
    >>> rng = np.random.default_rng(0)
    >>> p = rng.uniform(.3, .7, (50, 2))
    >>> logs = {"logp_logging": np.log(np.full(50, .5)), "logp_target": np.log(p)}
    >>> estimate = IPW().fit(p, rng.normal(size=50), **logs).result_
    >>> comparison = compare(estimate, None, level=.95, n_sim=2000, random_state=0)
    >>> comparison.to_frame().shape[0]
    1
    """
    names = estimate.names
    if len(names) < 2:
        raise ValueError("compare needs at least two policies; subtract two estimates instead.")
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie strictly between 0 and 1, got {level!r}.")
    if reference is None:
        pairs = [(j, i) for i, j in combinations(range(len(names)), 2)]
    else:
        base = estimate.position(reference)
        pairs = [(k, base) for k in range(len(names)) if k != base]
    contrasts = differences(estimate, pairs)
    critical = simultaneous_critical_value(
        estimate, level=level, n_sim=n_sim, random_state=random_state
    )
    contrast_critical = simultaneous_critical_value(
        contrasts, level=level, n_sim=n_sim, random_state=random_state
    )
    return Comparison(
        values=estimate,
        contrasts=contrasts,
        level=level,
        bands=_band(estimate, critical),
        contrast_bands=_band(contrasts, contrast_critical),
        critical_value=critical,
        contrast_critical_value=contrast_critical,
    )


def differences(estimate: ValueEstimate, pairs: Sequence[tuple[int, int]]) -> ValueEstimate:
    """The values at the first positions less those at the second, with verdicts of their own.

    What both values rest on cancels in their difference, and what is left may rest on few rows: a
    difference whose influence function is skewed is a ``caution``, whatever its values are.

    Examples
    --------
    >>> import numpy as np
    >>> from causal_lm_opt import IPW
    >>> logs = {"logp_logging": np.zeros(9), "logp_target": np.zeros((9, 2))}
    >>> both = IPW().fit(np.zeros((9, 1)), np.arange(9.), **logs).result_
    >>> differences(both, [(1, 0)]).names
    ('policy 1 - policy 0',)
    """
    names = estimate.names
    matrix = np.zeros((len(pairs), len(names)))
    for row, (plus, minus) in enumerate(pairs):
        matrix[row, plus], matrix[row, minus] = 1.0, -1.0
    found = estimate.linear(matrix, [f"{names[p]} - {names[m]}" for p, m in pairs])
    if not any(s.role in ("logged", "target") for s in found.samples):
        return found
    units = independent_units(found.samples)
    own = [
        verdict(None, findings=skewness_finding(sum_skewness(column), NOT_SHARED))
        for column in units.T
    ]
    verdicts = map(worst, zip(found.verdicts, own, strict=True))
    return replace(found, verdicts=tuple(verdicts))


def simultaneous_band(
    estimate: ValueEstimate, *, level: float, n_sim: int = 50_000, random_state: int = 0
) -> FloatArray:
    """Band (K, 2) that holds all K values at once.

    Each value has the quantile of its own t distribution at one common level, so that a value that
    rests on few units widens its own part of the band and not the others'. Values with the verdict
    ``do not use`` are not counted: no band holds those.

    Examples
    --------
    >>> import numpy as np
    >>> from causal_lm_opt import IPW
    >>> one = IPW().fit(np.zeros((50, 1)), np.arange(50.)).result_
    >>> band = simultaneous_band(one, level=.95, n_sim=100)  # of one value: its interval
    >>> bool(np.allclose(band[0], one.confint(), rtol=.2))
    True
    """
    covariance, dof = estimate.covariance(), estimate.dof()
    se = np.sqrt(np.diagonal(covariance))
    usable = np.array([v.level != LEVELS[-1] for v in estimate.verdicts])
    alive = np.flatnonzero((se > 0) & usable)
    least = np.ones(n_sim)
    rng = np.random.default_rng(random_state)
    if alive.size:
        correlation = covariance[np.ix_(alive, alive)] / np.outer(se[alive], se[alive])
        values, vectors = np.linalg.eigh(correlation)
        root = vectors * np.sqrt(np.clip(values, 0.0, None))
        normals = rng.standard_normal((n_sim, alive.size))
        spread = rng.random(n_sim)  # of all variances at once, as they rest on the same units
        for row, d in zip(root, dof[alive], strict=True):
            t = np.abs(normals @ row)
            if np.isfinite(d):
                t /= np.sqrt(stats.chi2.ppf(spread, d) / d)
            tail = stats.t.sf(t, d) if np.isfinite(d) else stats.norm.sf(t)
            least = np.minimum(least, 2.0 * tail)
    share = min(float(np.quantile(least, 1.0 - level)), 1.0 - level)
    finite = np.isfinite(dof)
    quantile = np.where(
        finite, stats.t.isf(share / 2, np.where(finite, dof, 1.0)), stats.norm.isf(share / 2)
    )
    half = estimate.bias_bound + se * quantile
    return np.stack([estimate.values - half, estimate.values + half], axis=1)


def _band(estimate: ValueEstimate, critical: float) -> FloatArray:
    half = critical * np.sqrt(np.diagonal(estimate.covariance())) + estimate.bias_bound
    return np.stack([estimate.values - half, estimate.values + half], axis=1)


def grouped_reasons(estimate: ValueEstimate) -> list[str]:
    """The verdicts' reasons, each once with the policies it concerns.

    Examples
    --------
    >>> import numpy as np
    >>> from causal_lm_opt import IPW
    >>> rng = np.random.default_rng(0)
    >>> p = rng.uniform(.3, .7, (50, 2))
    >>> logs = {"logp_logging": np.log(np.full(50, .5)), "logp_target": np.log(p)}
    >>> estimate = IPW().fit(p, rng.normal(size=50), **logs).result_
    >>> any(reason.startswith('policy') for reason in grouped_reasons(estimate))
    True
    """
    concerned: dict[str, list[str]] = {}
    for name, own in zip(estimate.names, estimate.verdicts, strict=True):
        for reason in own.reasons:
            concerned.setdefault(reason, []).append(name)
    everyone = len(estimate.names)
    return [
        f"{'All policies' if len(names) == everyone > 1 else ', '.join(names)}: {reason}"
        for reason, names in concerned.items()
    ]


def summary_table(estimate: ValueEstimate, level: float) -> Summary:
    """The statsmodels ``Summary`` of an estimate.

    Examples
    --------
    >>> import numpy as np
    >>> from causal_lm_opt import IPW
    >>> rng = np.random.default_rng(0)
    >>> p = rng.uniform(.3, .7, (50, 2))
    >>> logs = {"logp_logging": np.log(np.full(50, .5)), "logp_target": np.log(p)}
    >>> estimate = IPW().fit(p, rng.normal(size=50), **logs).result_
    >>> len(summary_table(estimate, .95).tables) > 1
    True
    """
    from statsmodels.iolib.summary import Summary
    from statsmodels.iolib.table import SimpleTable

    frame = estimate.to_frame(level)
    low, high = f"[{(1 - level) / 2:.3g}", f"{(1 + level) / 2:.3g}]"
    rows = [
        [f"{r.value:.4f}", f"{r.se:.4f}", f"{r.ci_lower:.4f}", f"{r.ci_upper:.4f}", r.verdict]
        for r in frame.itertuples()
    ]
    counts = [f"{name}: {number:,.0f}" for name, number in estimate.counts.items()]
    target = ESTIMANDS[estimate.estimand]
    head = [[f"Estimator: {estimate.estimator}"], [f"Estimand: {target}"]]
    head += [[c] for c in counts]
    out = Summary()
    out.tables.append(SimpleTable(head, title="Policy value"))
    out.tables.append(
        SimpleTable(
            rows,
            headers=["value", "std err", low, high, "verdict"],
            stubs=list(frame["policy"]),
        )
    )
    cells = [figure_cells(f) for f in estimate.diagnostics]
    known = [(n, c) for n, c in zip(estimate.names, cells, strict=False) if c is not None]
    if known:
        out.tables.append(
            SimpleTable(
                [c for _, c in known], headers=list(FIGURE_HEADERS), stubs=[n for n, _ in known]
            )
        )
    extra = [*estimate.notes, *grouped_reasons(estimate)]
    if np.any(estimate.bias_bound > 0):
        extra.append(
            "Intervals are widened by bias_bound (of a weight transform, or a ratio's penalty)."
        )
    out.add_extra_txt([*extra, BLIND_SPOTS])
    return out
