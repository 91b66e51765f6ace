"""Overlap and predicted coverage of a policy's value, and reasons for its verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from causal_lm_opt.core.inference import contributions, influence_covariance
from causal_lm_opt.core.solve import weighted_mean, weighted_moments
from causal_lm_opt.core.weights import Weighting, relative_weights
from causal_lm_opt.diagnostics.coverage import PredictedCoverage, predicted_coverage, sum_skewness
from causal_lm_opt.diagnostics.overlap import (
    OverlapDiagnostics,
    effective_clusters,
    effective_sample_size,
)
from causal_lm_opt.diagnostics.verdict import (
    SKEWNESS_SQUARED,
    SMALL_SHARE,
    UNSUPPORTED,
    clusters_finding,
    fractions_finding,
    mean_weight_finding,
    rare_outcome_finding,
    sampling_findings,
    skewness_finding,
    verdict,
)
from causal_lm_opt.estimators._agreement import agreement
from causal_lm_opt.estimators._dependence import dependence_finding
from causal_lm_opt.estimators._left_out import ratio_report, relations_broken
from causal_lm_opt.estimators._log import Log
from causal_lm_opt.estimators._policies import Policies
from causal_lm_opt.estimators._policy_overlap import policy_overlap
from causal_lm_opt.estimators._samples import PolicyValue, logged_sample, target_sample
from causal_lm_opt.estimators._subgroup_mix import mix_note
from causal_lm_opt.estimators._subgroups import own_draws, subgroup_codes, subgroup_units
from causal_lm_opt.estimators._target import TargetRows
from causal_lm_opt.estimators._terms import LoggedTerm, transform_finding
from causal_lm_opt.estimators._unlogged import unlogged_findings

__all__ = [
    "judged",
    "enumerated",
    "outcome_findings",
    "policy_coverage",
    "policy_figures",
    "repeats_finding",
    "second_is_exact",
    "second_sample_findings",
    "weight_findings",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
COVERAGES = ("predicted_coverage", "coverage_over_logs", "interval_too_low", "missing_in_se")
TINY = 1e-300  # a variance that is none


def weight_findings(log: Log, second: TargetRows | None) -> list[tuple[int, str]]:
    """Caution where weights that count rows are no whole numbers."""
    instead = "clusters (groups=), subgroups (by=) or the log-probs behind the weights"
    found = fractions_finding(log.sample_weight, "sample_weight", instead)
    if second is not None and not second.exact and second.shared is None:
        instead = "logp_sampling, or the draws' subgroups (by=)"
        found += fractions_finding(second.frequency, "X_target.weight", instead)
    return found


def policy_coverage(
    log: Log,
    policies: Policies,
    k: int,
    rows: IntArray | None,
    ell: FloatArray,
    residual: Callable[[], FloatArray],
    logged: FloatArray,
    target: FloatArray | None,
    weighting: Weighting,
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
    second, own = policies.rows_of(k), own_draws(log, policies.rows_of(k), rows)
    drawn = None if own is None else own.ratio_to_logging(k)
    if drawn is None or second is None or log.texts is not None:
        return None
    s = log.sample_weight
    here = logged_sample(log, logged[:, None]).unit_contributions()
    alone, variance = (
        float(influence_covariance(logged, s, *clusters))
        for clusters in ((None, 0), (log.codes, log.n_clusters))
    )
    units, total = here, variance
    if target is not None and not second.exact:
        draws = target_sample(log, second, target[:, None])
        there = draws.unit_contributions()
        if draws.cluster_key == log.cluster_key != "":
            units = here + there
            total = variance * _squares(units) / max(_squares(here), TINY)
        else:
            units = np.concatenate([here, there])
            total = variance + _squares(there)
    if rows is not None:
        s = None if s is None else s[rows]
    size = float(ell.shape[0]) if s is None else float(s.sum())
    n_units = subgroup_units(log, rows) or (log.size if log.codes is None else log.n_clusters)
    return predicted_coverage(
        ell, residual(), units[:, 0], drawn[0], n_units=float(n_units), sample_weight=s,
        target_weight=drawn[1], normalize=weighting.normalize,
        log_weight=weighting.transform if weighting.pointwise else None,
        n_independent=size * min(1.0, alone / variance) if variance > 0 else size,
        extra=max(total / variance - 1.0, 0.0) if variance > 0 else 0.0,
    )  # fmt: skip


def _squares(parts: FloatArray) -> float:
    """Sum of squares, which of contributions is the variance."""
    return float(np.vdot(parts, parts))


def policy_figures(
    figures: OverlapDiagnostics | None, coverage: PredictedCoverage | None
) -> dict[str, Any]:
    """The figures behind a verdict, JSON-safe."""
    out: dict[str, Any] = {} if figures is None else figures.to_dict()
    if coverage is None:
        return out
    told = coverage.to_dict()
    if coverage.unsupported > UNSUPPORTED[1]:  # of a value that no log can tell
        told |= dict.fromkeys(COVERAGES, math.nan)
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


def repeats_finding(log: Log, *, exact: bool = False) -> list[tuple[int, str]]:
    """Caution where texts repeat far more often than independent rows' log-probs allow.

    Of rows that are texts: features may be equal where texts differ.
    ``exact``: the policy's exact support is given, so that the texts are a fixed list.
    """
    texts = isinstance(log.X, np.ndarray) and log.X.ndim == 1
    asked = texts and log.codes is None and log.texts is None and not exact
    found = log.shown_to_many if asked else None
    if found is None or not found.times > 1.0:
        return []
    times = f"{found.times:,.3g}" if found.times < 1000 else "over 1,000"
    return [(1, (
        f"{found.rows:,} rows hold {found.distinct:,} distinct texts, {times} times as many "
        "equal pairs as logp_logging allows rows that were drawn one by one: texts were drawn "
        "once and shown to many, so that the standard error is too small (or logp_logging is far "
        "too low). Give the texts' ids as groups (--group); in Python, estimand='texts' values "
        "these texts alone."
    ))]  # fmt: skip


def second_is_exact(policies: Policies, k: int) -> bool:
    """Whether policy ``k``'s second sample is its exact support, without sampling error."""
    second = policies.rows_of(k)
    return second is not None and second.exact


def second_sample_findings(
    log: Log,
    policies: Policies,
    k: int,
    rows: IntArray | None,
    logged: FloatArray | None,
    target: FloatArray | None,
) -> list[tuple[int, str]]:
    """Reasons from the second sample: uneven weights of its draws, and too few draws.

    ``rows``: logged rows of a subgroup; ``logged``, ``target``: influence of all rows and draws.
    """
    every = policies.rows_of(k)
    if every is None or every.exact or policies.fixed:
        return []
    found: list[tuple[int, str]] = []
    second = own_draws(log, every, rows)
    assert second is not None
    codes = second.codes
    if codes is None:
        found += clusters_finding(float(second.frequency.sum()), "draws", clustered=False)
    else:
        weight, _ = second.policy_weight(k, Weighting.of("hajek"))
        found += clusters_finding(effective_clusters(codes, second.frequency * weight), "draws")
    if second.logp_sampling is not None:
        ell = second.log_ratio_sampling(k)
        inside = ell[np.isfinite(ell)]
        ess = float(effective_sample_size(relative_weights(ell, normalize=True), second.frequency))
        found += sampling_findings(ess, float(second.size), float(inside.std()))
    if rows is None and target is not None:
        found += mix_note(log, every)
    if logged is not None and target is not None:
        found += _draws_share(logged, target, every.codes)
    return found


def _draws_share(
    logged: FloatArray, target: FloatArray, codes: IntArray | None
) -> list[tuple[int, str]]:
    """What would narrow the interval, where most of its width is not the log's.

    What draws of one prompt (or other cluster) have in common, more of them leave as it is.
    """
    here, there = (_variance(x) / x.shape[0] for x in (logged, target))
    within, size = there, target.shape[0]
    if codes is not None:
        count = np.maximum(np.bincount(codes), 1)
        mean = np.bincount(codes, weights=target) / count
        repeated = count[codes] > 1
        within = float((((target - mean[codes]) ** 2)[repeated]).sum()) / size**2
    for part, what, more in (
        (within, f"the {size:,} draws", "more draws would narrow the interval"),
        (there - within, "the clusters (prompts) of the draws",
         "more of these would narrow the interval, more draws of each would not"),
    ):  # fmt: skip
        if part > (here + there) / 2:
            return [(0, f"{part / (here + there):.0%} of the variance comes from {what}: {more}.")]
    return []


def judged(
    part: PolicyValue,
    log: Log,
    policies: Policies,
    k: int,
    rows: IntArray | None,
    ell: FloatArray,
    term: LoggedTerm,
    residual: Callable[[], FloatArray],
    weighting: Weighting,
    findings: Sequence[tuple[int, str]] = (),
    *,
    tell_share: bool = True,
    tell_words: bool = True,
) -> PolicyValue:
    """A value that weights the log, with its figures and verdict.

    Parameters
    ----------
    part : PolicyValue
        With no verdict yet.
    rows : array, optional
        Logged rows of a subgroup.
    ell : array, shape (rows,)
        Their log ratios.
    term : LoggedTerm
        Its weights, with their transform's bias.
    residual : callable
        Makes what the weights multiply, shape (rows,), formed only where it is used: outcomes or
        residuals as they are averaged, so that with ``weighting.normalize`` their weighted mean is
        ``term.value``. They are centred here.
    findings : sequence of (severity, reason)
        Those of the estimator's own. What the draws say of themselves is added here.
    tell_share : bool
        Whether to tell which share of the variance is the draws'.
    tell_words : bool
        Whether words that no logged text holds call a value by an estimated ratio in doubt.
    """
    assert part.logged is not None
    s, codes = log.sample_weight, subgroup_codes(log, rows)
    s = s if s is None or rows is None else s[rows]
    centre = term.value if weighting.normalize else 0.0
    figures = policy_overlap(log, policies, k, rows, ell, term.raw_weight, term.raw_moments)
    coverage = policy_coverage(
        log, policies, k, rows, ell, lambda: residual() - centre, part.logged, part.target,
        weighting,
    )  # fmt: skip
    agreement_z, contradictions = agreement(log, policies, k, rows, ell)
    said, ratio_figures = ratio_report(
        log, policies, k, rows, residual(), part.logged, part.target, tell_words=tell_words
    )
    found = transform_finding(term, s, codes, log.n_clusters) + contradictions
    found += repeats_finding(log, exact=any(r.exact for r in policies.row_sets))
    found += unlogged_findings(log, policies, k, rows)
    if rows is not None and policies.estimated is None:  # a part tells less than the whole
        every = policy_overlap(log, policies, k, None, policies.log_ratio(k))
        if every.mean_weight_z > 0:  # which no subgroup can bring about
            found += [(how, f"Over all readers: {why}") for how, why in mean_weight_finding(every)]
    found += dependence_finding(log, policies, k, rows)
    found += [*findings]
    found += outcome_findings(log, rows, term.raw_weight, residual()) + said
    drawn = second_sample_findings(
        log, policies, k, rows, part.logged if tell_share else None, part.target
    )
    # Draws that do not enter the value say something of its trust alone.
    found += drawn if part.target is not None else [(min(level, 1), why) for level, why in drawn]
    told = verdict(
        figures,
        coverage=coverage,
        cause=relations_broken(policies.estimated, k, coverage),
        enumerated=enumerated(log, policies, k, figures),
        plain=not weighting.normalize,
        findings=found,
    )
    diagnostics = policy_figures(figures, coverage) | {"bias_bound": part.bias_bound}
    diagnostics |= {"agreement_z": agreement_z, **ratio_figures, **part.diagnostics}
    return replace(part, verdict=told, diagnostics=diagnostics)
