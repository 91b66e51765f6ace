"""From the values of policies and subgroups to one :class:`ValueEstimate`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from causal_lm_opt.core.inference import welch_satterthwaite
from causal_lm_opt.core.scores import ipw_moment
from causal_lm_opt.core.solve import solve_linear_moment
from causal_lm_opt.diagnostics.overlap import effective_clusters
from causal_lm_opt.diagnostics.verdict import (
    clusters_finding,
    verdict,
    worst,
)
from causal_lm_opt.estimate import SAME_TEXT_NOTE, ValueEstimate
from causal_lm_opt.estimators._figures import outcome_findings, weight_findings
from causal_lm_opt.estimators._log import Log
from causal_lm_opt.estimators._policies import Policies
from causal_lm_opt.estimators._samples import PolicyValue, policy_samples
from causal_lm_opt.estimators._subgroups import (
    Cell,
    spread,
    subgroup_codes,
    subgroup_rows,
    subgroup_units,
    subgroup_worth,
)
from causal_lm_opt.influence import InfluenceSample, covariance_parts

__all__ = ["assemble", "sample_mean", "with_findings"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]


def assemble(
    log: Log,
    policies: Policies,
    cells: Sequence[Cell],
    value_of: Callable[[int, Any], PolicyValue],
    *,
    estimator: str,
    notes: Sequence[str] = (),
    influence: str = "keep",
    term_moment: bool = False,
) -> ValueEstimate:
    """Values of all cells; with ``influence="drop"`` one cell is held in memory at a time."""
    if influence not in ("keep", "drop"):
        raise ValueError(f"influence={influence!r} is not known; use 'keep' or 'drop'.")
    parts: list[PolicyValue] = []
    variance, dof = np.zeros(len(cells)), np.zeros(len(cells))
    samples: tuple[InfluenceSample, ...] = ()
    for c, (k, label) in enumerate(cells):
        part = with_findings(value_of(k, label), weight_findings(log, policies.rows_of(k)))
        if influence == "drop":
            pieces = covariance_parts(policy_samples(log, policies, [part], [k]))
            variances = [float(cov[0, 0]) for cov, _ in pieces]
            variance[c] = sum(variances)
            dof[c] = welch_satterthwaite(variances, [float(d[0]) for _, d in pieces])
            part = replace(part, logged=None, target=None, replicates=None)
        parts.append(part)
    positions = [k for k, _ in cells]
    if influence == "keep":
        samples = policy_samples(log, policies, parts, positions)
    return ValueEstimate(
        values=np.array([p.value for p in parts]),
        names=tuple(
            policies.names[k] if label is None else f"{policies.names[k]} | {label}"
            for k, label in cells
        ),
        samples=samples,
        estimator=estimator,
        bias_bound=np.array([p.bias_bound for p in parts]),
        verdicts=tuple(p.verdict for p in parts),
        diagnostics=tuple(p.diagnostics for p in parts),
        notes=(SAME_TEXT_NOTE,) * policies.logging + tuple(notes),
        scalar=policies.scalar and len(cells) == 1,
        dropped_variance=variance if influence == "drop" else None,
        dropped_dof=dof if influence == "drop" else None,
        term_moment=term_moment,
        counts=_counts(log, policies),
        estimand=log.estimand,
    )


def with_findings(part: PolicyValue, findings: list[tuple[int, str]]) -> PolicyValue:
    """The value with further reasons in its verdict."""
    if not findings:
        return part
    return replace(part, verdict=worst([part.verdict, verdict(None, findings=findings)]))


def _counts(log: Log, policies: Policies) -> dict[str, float]:
    counts = {"Logged rows": log.size}
    if log.codes is not None:
        counts["Clusters"] = float(log.n_clusters)
    if log.texts is not None:
        counts["Texts"] = float(log.n_texts)
    if policies.row_sets:
        what = "Support rows" if all(r.exact for r in policies.row_sets) else "Draws"
        counts[what] = float(sum(r.size for r in policies.row_sets))
    return counts


def sample_mean(log: Log, label: Any) -> PolicyValue:
    """The logging policy's own value: the mean outcome."""
    rows = subgroup_rows(log.by, label)
    y, s = log.y, log.sample_weight
    if rows is not None:
        y, s = y[rows], None if s is None else s[rows]
    value, phi = solve_linear_moment(*ipw_moment(np.ones_like(y), y, normalize=False), s)
    if log.texts is not None:
        phi = log.noise(rows)
    size = float(y.shape[0] if s is None else s.sum())
    units = subgroup_units(log, rows)
    n_units = units or (size if log.codes is None else float(log.n_clusters))
    codes = subgroup_codes(log, rows)
    some = n_units if codes is None else effective_clusters(codes, s)
    few = clusters_finding(some, clustered=codes is not None)
    few += outcome_findings(log, rows, None, phi)
    return PolicyValue(
        value=float(value),
        logged=spread(phi, rows, log.sample_weight, log.y.shape[0], log.codes),
        target=None,
        bias_bound=0.0,
        verdict=verdict(None, findings=few),
        diagnostics={"n": size},
        units=subgroup_worth(log, rows),
    )
