"""From terms to a :class:`ValueEstimate`: values, influence samples, verdicts, subgroups."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from causal_lm_opt.core.inference import (
    contributions,
    influence_covariance,
    welch_satterthwaite,
)
from causal_lm_opt.core.scores import ipw_moment, plug_in_moment
from causal_lm_opt.core.solve import solve_linear_moment, weighted_mean, weighted_moments
from causal_lm_opt.core.weights import Weighting, relative_weights, transform_bias
from causal_lm_opt.diagnostics.coverage import PredictedCoverage, predicted_coverage, sum_skewness
from causal_lm_opt.diagnostics.overlap import (
    OverlapDiagnostics,
    effective_clusters,
    effective_sample_size,
    overlap,
    unseen_mass,
)
from causal_lm_opt.diagnostics.verdict import (
    SKEWNESS_SQUARED,
    SMALL_SHARE,
    UNSUPPORTED,
    Verdict,
    clusters_finding,
    fractions_finding,
    rare_outcome_finding,
    sampling_findings,
    skewness_finding,
    verdict,
    worst,
)
from causal_lm_opt.estimate import ValueEstimate
from causal_lm_opt.estimators._estimand import outcome_slope
from causal_lm_opt.estimators._log import Log
from causal_lm_opt.estimators._policies import Policies
from causal_lm_opt.estimators._target import TargetRows
from causal_lm_opt.exceptions import OverlapError
from causal_lm_opt.influence import InfluenceSample, covariance_parts

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class LoggedTerm:
    """The logged rows' term of one value: estimate, influence (n,), bias bound.

    ``raw_weight`` (n,) holds the weights up to a factor, where no transform changed them, and
    ``raw_moments`` their mean and mean square.
    """

    value: float
    influence: FloatArray
    bias_bound: float = 0.0
    raw_weight: FloatArray | None = None
    raw_moments: tuple[float, float] | None = None

    @property
    def weight(self) -> FloatArray:
        """``raw_weight``, where no transform changed it."""
        if self.raw_weight is None:
            raise AttributeError("weights that a transform changed are not kept")
        return self.raw_weight


def weighted_term(
    ell: FloatArray, residual: FloatArray, weighting: Weighting, s: FloatArray | None, name: str
) -> LoggedTerm:
    """Importance-weighted mean of ``residual`` (``y``, or ``y - q``) under one policy."""
    weight = relative_weights(weighting.transform(ell, s), normalize=weighting.normalize)
    mean, square = map(float, weighted_moments(weight, s))
    if not math.isfinite(mean) or not mean > 0:
        largest = float(np.max(ell))
        raise OverlapError(
            f"The weights of {name} {'overflow' if not math.isfinite(mean) else 'all vanish'} "
            f"under weights={weighting.label!r} (largest log ratio {largest:.4g}): use 'hajek' or "
            "Clip(c), and expect the verdict to be harsh."
        )
    a, b = ipw_moment(weight, residual, normalize=weighting.normalize)
    value, influence = solve_linear_moment(a, b, s, mean_a=mean, overwrite_b=True)
    if weighting.unbiased:
        return LoggedTerm(float(value), influence, raw_weight=weight, raw_moments=(mean, square))
    with np.errstate(over="ignore", invalid="ignore"):
        bias = float(transform_bias(ell, weighting, residual, s, margin=1.645))
    return LoggedTerm(float(value), influence, bias if math.isfinite(bias) else math.inf)


def of_estimand(
    log: Log, term: LoggedTerm, ell: FloatArray, weighting: Weighting, rows: IntArray | None,
    name: str,
) -> LoggedTerm:  # fmt: skip
    """The term with the readers' noise as influence, where these texts are the estimand."""
    if log.texts is None:
        return term
    s, texts = log.sample_weight, log.texts
    if rows is not None:
        s, texts = None if s is None else s[rows], texts[rows]
    return replace(term, influence=outcome_slope(ell, weighting, s, texts, name) * log.noise(rows))


def transform_finding(
    term: LoggedTerm, s: FloatArray | None, codes: IntArray | None, n_clusters: int
) -> list[tuple[int, str]]:
    """A reason for caution where a transform's bias may exceed the sampling error."""
    if term.bias_bound == 0.0:
        return []
    se = float(np.sqrt(influence_covariance(term.influence, s, codes, n_clusters)))
    if term.bias_bound <= se:
        return []
    return [
        (1, f"The weight transform may bias the value by up to {term.bias_bound:.3g}, more than "
            f"its standard error ({se:.3g}).")
    ]  # fmt: skip


def plug_in_term(
    rows: TargetRows, k: int, prediction: FloatArray, weighting: Weighting
) -> tuple[float, FloatArray]:
    """Mean prediction of policy ``k``'s second sample and its influence (m,); zeros when exact."""
    frequency = None if rows.plain else rows.frequency
    if rows.logp_sampling is None and not rows.exact:  # draws of the policy itself
        a, b = 1.0, prediction
    else:
        weight, normalize = rows.policy_weight(k, weighting)
        a, b = plug_in_moment(weight, prediction, normalize=normalize)
    value, influence = solve_linear_moment(a, b, frequency)
    if rows.exact:
        influence = np.zeros_like(influence)
    return float(value), influence


@dataclass(frozen=True, eq=False)
class PolicyValue:
    """One policy's value with the pieces its estimate is assembled from.

    ``units`` is the number of independent logged units of a subgroup, ``None`` for everyone.
    """

    value: float
    logged: FloatArray | None
    target: FloatArray | None
    bias_bound: float
    verdict: Verdict
    diagnostics: Mapping[str, Any]
    replicates: FloatArray | None = None
    units: float | None = None


def logged_sample(log: Log, influence: FloatArray) -> InfluenceSample:
    """The logged rows' influence functions as a sample."""
    return InfluenceSample(
        key=log.key,
        role="logged",
        influence=influence,
        sample_weight=log.sample_weight,
        codes=log.codes,
        n_clusters=log.n_clusters,
        cluster_key=log.cluster_key,
    )


def target_sample(log: Log, rows: TargetRows, influence: FloatArray) -> InfluenceSample:
    """A second sample's influence functions; clustered with the log where prompts are shared."""
    frequency = None if rows.plain else rows.frequency
    if rows.shared is not None:
        return InfluenceSample(
            rows.key, "target", influence, frequency, rows.shared, log.n_clusters, log.cluster_key
        )
    if rows.groups is None:
        return InfluenceSample(rows.key, "target", influence, frequency)
    labels, codes = np.unique(rows.groups, return_inverse=True)
    if labels.shape[0] < 2:
        raise ValueError("X_target.groups holds one distinct label; at least two are needed.")
    return InfluenceSample(
        rows.key, "target", influence, frequency, codes, labels.shape[0], f"{rows.key}:groups"
    )


def _columns(parts: Sequence[FloatArray | None], n: int) -> FloatArray:
    """Influence columns side by side (n, K), zero where there is none; one column is not copied."""
    if len(parts) == 1 and parts[0] is not None:
        return parts[0][:, None]
    out = np.zeros((n, len(parts)))
    for k, part in enumerate(parts):
        if part is not None:
            out[:, k] = part
    return out


def policy_samples(
    log: Log, policies: Policies, parts: Sequence[PolicyValue], positions: Sequence[int]
) -> tuple[InfluenceSample, ...]:
    """Influence samples of the policies at ``positions``; shared draws are one sample."""
    samples: list[InfluenceSample] = []
    logged = [p.logged for p in parts]
    if any(column is not None for column in logged):
        sample = logged_sample(log, _columns(logged, log.y.shape[0]))
        if any(p.units is not None for p in parts):
            every = sample.unit_counts()
            counts = [every[j] if p.units is None else p.units for j, p in enumerate(parts)]
            sample = replace(sample, units=np.array(counts))
        samples.append(sample)
    columns: dict[str, tuple[TargetRows, FloatArray]] = {}
    for j, (k, part) in enumerate(zip(positions, parts, strict=True)):
        rows = policies.rows_of(k)
        if rows is None or part.target is None or rows.exact:
            continue
        if len(parts) == 1:
            columns[rows.key] = (rows, part.target[:, None])
            continue
        _, block = columns.setdefault(rows.key, (rows, np.zeros((rows.size, len(parts)))))
        block[:, j] = part.target
    samples += [target_sample(log, rows, block) for rows, block in columns.values()]
    if parts[0].replicates is not None:
        stacked = np.stack([p.replicates for p in parts if p.replicates is not None], axis=1)
        samples.append(InfluenceSample(f"{log.key}:bootstrap", "replicates", stacked))
    return tuple(samples)


SAME_TEXT_NOTE = (
    "This is the value of the logging policy itself (the mean outcome of the log): no log-probs or "
    "draws of another policy were given."
)
Subgroup = tuple[IntArray | None, FloatArray, FloatArray, FloatArray | None]
Cell = tuple[int, Any]  # policy position, subgroup label (None: everyone)


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


def weight_findings(log: Log, second: TargetRows | None) -> list[tuple[int, str]]:
    """Caution where weights that count rows are no whole numbers."""
    instead = "clusters (groups=), subgroups (by=) or the log-probs behind the weights"
    found = fractions_finding(log.sample_weight, "sample_weight", instead)
    if second is not None and not second.exact and second.shared is None:
        instead = "logp_sampling, or the draws' subgroups (by=)"
        found += fractions_finding(second.frequency, "X_target.weight", instead)
    return found


def with_findings(part: PolicyValue, findings: list[tuple[int, str]]) -> PolicyValue:
    """The value with further reasons in its verdict."""
    if not findings:
        return part
    return replace(part, verdict=worst([part.verdict, verdict(None, findings=findings)]))


def all_cells(policies: Policies) -> list[Cell]:
    """Every policy over all readers."""
    return [(k, None) for k in range(policies.count)]


def subgroup_cells(log: Log, policies: Policies) -> list[Cell]:
    """Every policy in every subgroup of ``by``."""
    if log.by is None:
        return []
    labels = np.unique(log.by)
    s = np.ones(log.y.shape[0]) if log.sample_weight is None else log.sample_weight
    small = [str(b) for b in labels if float(s[log.by == b].sum()) < 2]
    if small:
        raise ValueError(
            f"by: {len(small)} subgroups hold fewer than two rows ({', '.join(small[:5])}"
            f"{', ...' if len(small) > 5 else ''}); merge them."
        )
    return [(k, label) for k in range(policies.count) for label in labels]


def subgroup_rows(by: npt.NDArray[Any] | None, label: Any) -> IntArray | None:
    """Rows of a subgroup; ``None`` for everyone."""
    if label is None or by is None:
        return None
    rows = np.flatnonzero(by == label)
    if rows.size == 0:
        raise ValueError(
            f"X_target.by has no draw of the subgroup {str(label)!r}; give every subgroup draws."
        )
    return rows


def in_subgroup(log: Log, ell: FloatArray, label: Any) -> Subgroup:
    """Rows of a subgroup (``None``: all) and their log ratios, outcomes and frequencies."""
    rows, s = subgroup_rows(log.by, label), log.sample_weight
    if rows is None:
        return rows, ell, log.y, s
    return rows, ell[rows], log.y[rows], None if s is None else s[rows]


def subgroup_units(log: Log, rows: IntArray | None) -> float | None:
    """Independent units of a subgroup: its clusters, or its rows; ``None`` for everyone.

    Raises
    ------
    ValueError
        When the subgroup lies in one cluster, which has no standard error.
    """
    if rows is None:
        return None
    if log.codes is None:
        s = log.sample_weight
        return float(rows.size if s is None else s[rows].sum())
    units = float(np.unique(log.codes[rows]).size)
    if units < 2:
        raise ValueError("by: a subgroup lies in one group of groups=; merge it with another.")
    return units


def subgroup_codes(log: Log, rows: IntArray | None) -> IntArray | None:
    """Cluster codes of a subgroup's rows."""
    return log.codes if log.codes is None or rows is None else log.codes[rows]


def spread(
    influence: FloatArray, rows: IntArray | None, s: FloatArray | None, n: int
) -> FloatArray:
    """A subgroup's influence on all ``n`` rows: zero outside, scaled to the full sample."""
    if rows is None:
        return influence
    total = float(n if s is None else s.sum())
    inside = float(rows.shape[0] if s is None else s[rows].sum())
    out = np.zeros(n)
    out[rows] = influence * (total / inside)
    return out


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


def policy_overlap(
    log: Log,
    policies: Policies,
    k: int,
    rows: IntArray | None,
    ell: FloatArray,
    raw_weight: FloatArray | None = None,
    raw_moments: tuple[float, float] | None = None,
) -> OverlapDiagnostics:
    """Overlap figures of policy ``k`` from the log ratios of a subgroup's ``rows``.

    ``raw_weight`` and ``raw_moments``: the same rows' weights up to a factor and their mean and
    mean square, where they are at hand.
    """
    s, codes, n_codes = log.sample_weight, log.codes, log.n_clusters
    if log.n_texts > 1:  # whether weights average 1 is a matter of texts all the same
        codes, n_codes = log.texts, log.n_texts
    if rows is not None:
        s = None if s is None else s[rows]
        codes = None if codes is None else codes[rows]
    second = policies.rows_of(k)
    drawn = None if second is None else second.ratio_to_logging(k)
    unseen = math.nan if drawn is None else unseen_mass(drawn[0], float(np.max(ell)), drawn[1])
    clusters = math.nan
    if codes is not None and log.texts is None:  # worth of the clusters as this policy weights them
        weight = relative_weights(ell, normalize=True) if raw_weight is None else raw_weight
        clusters = effective_clusters(codes, weight if s is None else s * weight)
    found = overlap(
        ell, s, weight=raw_weight, moments=raw_moments, unseen=unseen, clusters=clusters,
        codes=codes, n_clusters=n_codes,
    )  # fmt: skip
    # What a mean weight off 1 says of stated log-probs it does not say of an estimated ratio.
    return found if policies.estimated is None else replace(found, mean_weight_z=math.nan)


def policy_coverage(
    log: Log,
    policies: Policies,
    k: int,
    rows: IntArray | None,
    ell: FloatArray,
    residual: Callable[[], FloatArray],
    logged: FloatArray,
    target: FloatArray | None,
) -> PredictedCoverage | None:
    """Predicted coverage of policy ``k``'s interval; ``None`` without scored draws.

    ``None`` too where these texts are the estimand: what the log never saw is no part of it.

    Parameters
    ----------
    ell : array, shape (rows,)
        Log ratios.
    residual : callable
        Makes what the logged rows average, centred, shape (rows,): formed only where it is used.
    logged, target : arrays, shape (n,), (m,)
        Influence functions of both samples.
    """
    second = policies.rows_of(k)
    drawn = None if second is None else second.ratio_to_logging(k)
    if drawn is None or second is None or log.texts is not None:
        return None
    samples = [logged_sample(log, logged[:, None])]
    if target is not None and not second.exact:
        samples.append(target_sample(log, second, target[:, None]))
    if len(samples) == 2 and samples[0].cluster_key == samples[1].cluster_key != "":
        units = samples[0].unit_contributions() + samples[1].unit_contributions()
    else:
        units = np.concatenate([x.unit_contributions() for x in samples])
    s = log.sample_weight
    if rows is not None:
        s = None if s is None else s[rows]
    n_units = subgroup_units(log, rows) or (log.size if log.codes is None else log.n_clusters)
    return predicted_coverage(
        ell, residual(), units[:, 0], drawn[0], n_units=float(n_units), sample_weight=s,
        target_weight=drawn[1],
    )  # fmt: skip


def policy_figures(
    figures: OverlapDiagnostics | None, coverage: PredictedCoverage | None
) -> dict[str, Any]:
    """The figures behind a verdict, JSON-safe."""
    out: dict[str, Any] = {} if figures is None else figures.to_dict()
    if coverage is None:
        return out
    told = coverage.to_dict()
    if coverage.unsupported > UNSUPPORTED[1]:  # of a value that no log can tell
        told |= {"predicted_coverage": math.nan, "missing_in_se": math.nan}
    return out | told


def _variance(influence: FloatArray) -> float:
    """Variance of influence functions: their mean is all but 0, so that moments lose no digits."""
    mean, square = map(float, weighted_moments(influence))
    return square - mean * mean


def enumerated(log: Log, policies: Policies, k: int, figures: OverlapDiagnostics) -> bool:
    """Whether policy ``k``'s whole support is known, and all but 1 % of it was logged.

    Looked up only where it matters: where a small share of the rows carries the weight.
    """
    second = policies.rows_of(k)
    if second is None or not second.exact or figures.ess_share >= SMALL_SHARE:
        return False
    assert second.probability is not None
    never = ~np.isin(second.keys, log.keys)
    return float(second.probability[never, second.columns[k]].sum()) < 0.01


def outcome_findings(
    log: Log, rows: IntArray | None, raw_weight: FloatArray | None, residual: FloatArray
) -> list[tuple[int, str]]:
    """Reasons from the outcomes: events too rare where the weight lies, and skewness.

    Skewness is that of the *unweighted* mean of ``residual`` (cluster sums): an outcome so skewed
    that its plain mean has no symmetric interval has none when weighted either.
    """
    s, codes = log.sample_weight, log.codes
    if rows is not None:
        s = None if s is None else s[rows]
        codes = None if codes is None else codes[rows]
    count = log.rarer_outcomes
    if raw_weight is not None and math.isfinite(count):
        count = min(count, log.rarer_outcomes_of(raw_weight, rows))
    rare = rare_outcome_finding(count)
    if codes is None and s is None:  # |skewness| <= max|c| / sqrt(sum c^2), which is quickly had
        mean, square = map(float, weighted_moments(residual))
        reach = max(float(residual.max()) - mean, mean - float(residual.min()))
        if reach**2 <= SKEWNESS_SQUARED * residual.shape[0] * (square - mean * mean):
            return rare
    units = np.asarray(contributions(residual - weighted_mean(residual, s), s))
    if codes is not None:
        units = np.bincount(codes, weights=units)
    return rare + skewness_finding(sum_skewness(units))


def second_is_exact(policies: Policies, k: int) -> bool:
    """Whether policy ``k``'s second sample is its exact support, without sampling error."""
    second = policies.rows_of(k)
    return second is not None and second.exact


def second_sample_findings(
    policies: Policies, k: int, logged: FloatArray | None, target: FloatArray | None
) -> list[tuple[int, str]]:
    """Reasons from the second sample: uneven weights of its draws, and too few draws."""
    second = policies.rows_of(k)
    if second is None or second.exact or policies.fixed:
        return []
    found: list[tuple[int, str]] = []
    codes = second.shared
    if codes is None and second.groups is not None:
        codes = np.unique(second.groups, return_inverse=True)[1]
    if codes is None:
        found += clusters_finding(float(second.frequency.sum()), "draws")
    else:
        weight, _ = second.policy_weight(k, Weighting.of("hajek"))
        found += clusters_finding(effective_clusters(codes, second.frequency * weight), "draws")
    if second.logp_sampling is not None:
        ell = second.log_ratio_sampling(k)
        inside = ell[np.isfinite(ell)]
        ess = float(effective_sample_size(relative_weights(ell, normalize=True), second.frequency))
        found += sampling_findings(ess, float(second.size), float(inside.std()))
    if logged is not None and target is not None:
        here, there = (_variance(x) / x.shape[0] for x in (logged, target))
        if there > here:
            share = there / (here + there)
            found.append(
                (0, f"{share:.0%} of the variance comes from the {second.size:,} draws: more draws "
                    "would narrow the interval.")
            )  # fmt: skip
    return found


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
    few = clusters_finding(n_units if codes is None else effective_clusters(codes, s))
    few += skewness_finding(sum_skewness(phi)) + rare_outcome_finding(log.rarer_outcomes)
    return PolicyValue(
        value=float(value),
        logged=spread(phi, rows, log.sample_weight, log.y.shape[0]),
        target=None,
        bias_bound=0.0,
        verdict=verdict(None, findings=few),
        diagnostics={"n": size},
        units=units,
    )
