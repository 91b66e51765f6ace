"""Doubly robust values from cross-fitted predictions: one policy, one sample split at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from causal_lm_opt._validation import check_vector, take_rows
from causal_lm_opt.core.inference import influence_covariance
from causal_lm_opt.core.weights import Weighting, relative_weights
from causal_lm_opt.diagnostics.overlap import effective_clusters, effective_sample_size
from causal_lm_opt.estimate import ValueEstimate
from causal_lm_opt.estimators._crossfit import CrossFit
from causal_lm_opt.estimators._estimated import ratio_noise
from causal_lm_opt.estimators._figures import (
    judged,
)
from causal_lm_opt.estimators._linear import (
    LinearOutcome,
    coefficient_influence,
    linear_outcome,
    tractable,
)
from causal_lm_opt.estimators._log import Log
from causal_lm_opt.estimators._policies import Policies
from causal_lm_opt.estimators._samples import PolicyValue
from causal_lm_opt.estimators._subgroup_mix import PlugIn, plug_in_of
from causal_lm_opt.estimators._subgroups import (
    spread,
    subgroup_codes,
    subgroup_rows,
    subgroup_worth,
)
from causal_lm_opt.estimators._target import TargetRows, TargetSample
from causal_lm_opt.estimators._terms import of_estimand, weighted_term
from causal_lm_opt.exceptions import NotIdentifiedError
from causal_lm_opt.influence import InfluenceSample

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
ENOUGH = 50.0  # effective rows from which a gap of draws and weights is not the weights' tail
ROWS_PER_PARAMETER = 20.0  # below this the stacked term counts the fit's noise twice


@dataclass(frozen=True, eq=False)
class Predictions:
    """Outcome predictions of one sample split.

    Attributes
    ----------
    logged : array, shape (n,)
        Out-of-fold predictions of the logged rows.
    crossfit : CrossFit, optional
        ``None`` when predictions were given by the caller.
    coefficients : tuple of (LinearOutcome, influence (n, p)), one a fold, optional
        For the stacked correction.
    """

    logged: FloatArray
    crossfit: CrossFit | None = None
    coefficients: tuple[tuple[LinearOutcome, FloatArray], ...] | None = None


def need_both(policies: Policies) -> None:
    if policies.logging:
        return
    if policies.ell is None:
        raise NotIdentifiedError(
            "DoublyRobust needs logp_target and logp_logging of the logged texts, or "
            "ratio=DensityRatio() to estimate the weights from the texts; with draws alone use "
            "OutcomeRegression."
        )
    if not policies.row_sets:
        raise NotIdentifiedError(
            "DoublyRobust needs X_target: draws of the target policy, draws of a sampling policy "
            "with log-probs, or the exact support (TargetSample). With log-probs alone use IPW."
        )


def predictions_as_rows(q_target: Any) -> Any:
    """Stand-in rows for predictions given without their texts."""

    def rows(q: Any) -> TargetSample:
        return TargetSample(np.broadcast_to(0.0, (int(np.size(q)), 1)))

    if isinstance(q_target, Mapping):
        return {name: rows(q) for name, q in q_target.items()}
    return rows(q_target)


def given_predictions(
    log: Log, policies: Policies, q_logged: Any, q_target: Any
) -> tuple[FloatArray, list[FloatArray]]:
    """Checked predictions of the logged rows and of every row set's draws that were kept."""
    logged = check_vector(q_logged, "q_logged", log.n_given)
    logged = logged if log.taken is None else logged[log.taken]
    if not isinstance(q_target, Mapping):
        if len(policies.row_sets) > 1:
            raise ValueError(
                "q_target must be a mapping policy name -> predictions, as X_target is."
            )
        return logged, [policies.row_sets[0].of_given(q_target, "q_target")]
    named = {str(k): v for k, v in q_target.items()}
    missing = [n for n in policies.names if n not in named]
    if missing:
        raise ValueError(f"q_target lacks the policies {missing}.")
    tables = [np.zeros(0)] * len(policies.row_sets)
    for k, name in enumerate(policies.names):
        index = policies.of_policy[k]
        tables[index] = policies.row_sets[index].of_given(named[name], f"q_target[{name!r}]")
    return logged, tables


def stack(predictions: Predictions, log: Log, *, strict: bool) -> Predictions:
    """Add the coefficients' influence of every fold's model, where all are parametric."""
    fitted = predictions.crossfit
    assert fitted is not None
    if predictions.coefficients is not None:
        return predictions
    out = []
    n = log.y.shape[0]
    for rows, model in zip(fitted.folds.train, fitted.models, strict=True):
        linear = linear_outcome(model, fitted.utility)
        least = 2.0 if strict else ROWS_PER_PARAMETER
        s = None if log.sample_weight is None else log.sample_weight[rows]
        inside = float(rows.shape[0] if s is None else s.sum())
        if linear is None or not tractable(linear, inside, rows_per_parameter=least):
            if strict:
                raise ValueError(
                    "inference='stacked' needs a linear or generalised linear outcome_model with "
                    "at most n/2 parameters; use inference='influence' or 'bootstrap'."
                )
            return predictions
        codes = None if log.codes is None else log.codes[rows]
        moved = coefficient_influence(
            linear, take_rows(log.X, rows), log.y[rows], sample_weight=s, codes=codes,
            n_clusters=log.n_clusters, noise=None if log.texts is None else log.noise()[rows],
        )  # fmt: skip
        full = np.zeros((n, moved.shape[1]))
        full[rows] = moved * (log.size / inside)
        out.append((linear, full))
    return replace(predictions, coefficients=tuple(out))


def _draw_folds(fitted: CrossFit, rows: TargetRows) -> IntArray:
    return fitted.fold_of_draws(rows.keys, rows.shared)


def target_predictions(predictions: Predictions, policies: Policies, log: Log) -> list[FloatArray]:
    """Predictions at every row set, each draw by the models that have not seen its key."""
    fitted = predictions.crossfit
    assert fitted is not None
    return [fitted.predict(r.X, _draw_folds(fitted, r)) for r in policies.row_sets]


def dr_value(
    log: Log,
    policies: Policies,
    k: int,
    label: Any,
    predictions: Predictions,
    table: list[FloatArray],
    weighting: Weighting,
    fresh: Weighting,
) -> PolicyValue:
    """Doubly robust value of policy ``k`` in a subgroup, from one sample split."""
    rows = subgroup_rows(log.by, label)
    ell, s = policies.log_ratio(k), log.sample_weight
    if rows is not None:
        ell, s = ell[rows], None if s is None else s[rows]

    def residual() -> FloatArray:  # made anew where needed: kept, it would cost 8 bytes a row
        every = log.y - predictions.logged
        return every if rows is None else every[rows]

    term = weighted_term(ell, residual(), weighting, s, policies.names[k])
    term = of_estimand(log, term, ell, weighting, rows, policies.names[k])
    index = policies.of_policy[k]
    second = policies.row_sets[index]
    plug_in = plug_in_of(log, second, k, label, table[index], fresh)
    target = None if policies.fixed else plug_in.draws
    logged = spread(term.influence, rows, log.sample_weight, log.y.shape[0], log.codes)
    if plug_in.shares is not None and not policies.fixed:
        logged = logged + plug_in.shares
    if predictions.coefficients is not None:
        logged = logged + _stacked_term(
            log, policies, k, rows, plug_in.rows, predictions, weighting, fresh
        )
    codes = subgroup_codes(log, rows)
    centre = term.value if weighting.normalize else 0.0
    noise = ratio_noise(policies.estimated, k, ell, residual(), weighting, centre, log, rows)
    if noise is not None:
        logged = logged + noise[0]
        target = target if second.exact or target is None else target + noise[1]
    findings: list[tuple[int, str]] = []
    if predictions.crossfit is None:
        findings = own_rows_finding(residual(), log.y if rows is None else log.y[rows])
    # Where predictions repeat the outcomes, the draws' share of the variance means nothing.
    share = not findings
    every = rows is not None and not plug_in.own
    if every or policies.estimated is None:  # estimated weights were fitted to the draws
        scored = second.ratio_to_logging(k) is not None
        gap = draws_gap(predictions.logged, ell, s, log, rows, second, plug_in)
        estimated = policies.estimated is not None
        findings += draws_findings_of(
            gap, plug_in.value, every=every, scored=scored, estimated=estimated
        )
    residual_se = math.sqrt(float(influence_covariance(term.influence, s, codes, log.n_clusters)))
    part = PolicyValue(
        value=term.value + plug_in.value,
        logged=logged,
        target=target,
        bias_bound=term.bias_bound,
        diagnostics={
            "residual": term.value, "residual_se": residual_se, "plug_in": plug_in.value,
        },
        units=subgroup_worth(log, rows),
    )  # fmt: skip
    return judged(
        part, log, policies, k, rows, ell, term, residual, weighting, findings, tell_share=share,
        tell_words=predictions.crossfit is not None,
    )  # fmt: skip


def own_rows_finding(residual: FloatArray, y: FloatArray) -> list[tuple[int, str]]:
    """Caution where predictions made elsewhere all but repeat the outcomes (5 % of their sd)."""
    if not 0.0 <= float(residual.std()) < 0.05 * float(y.std()):
        return []
    return [(1, (
        f"The predictions given all but repeat the outcomes (sd {y.std():.2g}, of the residuals "
        f"{residual.std():.2g}): if they were made on these very rows, "
        "value and interval are wrong; give those of models that have not seen a row."
    ))]  # fmt: skip


def draws_gap(
    predicted: FloatArray, ell: FloatArray, s: FloatArray | None, log: Log, rows: IntArray | None,
    second: TargetRows, plug_in: PlugIn,
) -> tuple[float, float, float]:  # fmt: skip
    """Mean prediction by weighted rows; z of the draws' less that; effective sample size.

    Both are the policy's mean prediction where weights and draws are of one policy, and the log
    holds what it writes.

    Parameters
    ----------
    predicted : array, shape (n,)
        Predictions of the logged rows.
    ell, s : arrays, shape (rows,)
        Log ratios and frequencies of a subgroup's.
    """
    predicted = predicted if rows is None else predicted[rows]
    weight = relative_weights(ell, normalize=True)
    ess = float(effective_sample_size(weight, s))
    weight = weight * (1.0 if s is None else s)
    weight = weight / weight.sum()
    mean = float(weight @ predicted)
    here, codes = weight * (predicted - mean), subgroup_codes(log, rows)
    if log.texts is not None:  # which texts were logged is chance here, whatever the estimand
        codes = log.texts if rows is None else log.texts[rows]
    clusters = math.inf if codes is None else effective_clusters(codes, weight)
    frequency = second.frequency
    there = frequency * plug_in.draws / frequency.sum()
    if codes is not None:
        here = np.bincount(codes, weights=here, minlength=log.n_clusters)
    if codes is not None and second.shared is not None and log.texts is None:
        here = here - np.bincount(second.shared, weights=there, minlength=log.n_clusters)
        there = np.zeros(1)
    elif second.groups is not None:
        there = np.bincount(np.unique(second.groups, return_inverse=True)[1], weights=there)
    variance, gap = float(here @ here) + float(there @ there), plug_in.value - mean
    rounding = 1e-9 * max(abs(mean), abs(plug_in.value))
    if not (variance > 0 and abs(gap) > rounding):
        return mean, 0.0, ess
    return mean, t_score(gap / math.sqrt(variance), clusters - 1.0), ess


def t_score(t: float, dof: float) -> float:
    """Normal score of Student's t.

    >>> round(t_score(1.96, 1e9), 2), round(t_score(4.0, 3.0), 2)
    (1.96, 2.2)
    """
    tail = stats.t.logsf(abs(t), max(dof, 1.0))
    return math.copysign(-float(special.ndtri_exp(tail)), t)


def draws_findings_of(
    gap: tuple[float, float, float],
    plug_in: float,
    *,
    every: bool,
    scored: bool = False,
    estimated: bool = False,
) -> list[tuple[int, str]]:
    """What a gap between draws and weighted rows says.

    Parameters
    ----------
    every : bool
        All draws stand for a subgroup's, as they do not say theirs.
    scored : bool
        The draws have log-probs: what those tell is told elsewhere.
    estimated : bool
        One ratio was fitted for all readers, which takes no subgroups of draws.
    """
    give = "give TargetSample(X, by=), or the draws file that column."
    if estimated:
        give = "value each subgroup's log apart, by its own draws."
    mean, z, ess = gap
    both = (
        f"by the weighted rows the predictions average {mean:.3g}, over the draws {plug_in:.3g} "
        f"(z {z:+.1f})."
    )
    far = abs(z) > 3.29  # two-sided level .001
    if every and not far:
        return [(1, (
            "The draws do not say their subgroup: right only if the policy writes alike in every "
            f"one; else {give}"
        ))]  # fmt: skip
    if every:
        return [(2, (
            "The draws do not say their subgroup, and the policy differs between subgroups: "
            f"{both} {give[0].upper()}{give[1:]}"
        ))]  # fmt: skip
    if not far:
        return []
    which = "" if scored else " The draws' log-probs under both policies would tell which."
    # Scored draws of another policy are told elsewhere: a wrong P_R leaves the value to the model.
    return [(2 if ess >= ENOUGH and not scored else 1, (
        "Draws and weights are not of one policy (or of another mix of prompts, or of readers, "
        "which by= or --by, told of the draws too, puts right), or it writes what the log lacks, "
        f"or a log-prob is wrong: {both}{which}"
    ))]  # fmt: skip


def _stacked_term(
    log: Log,
    policies: Policies,
    k: int,
    rows: IntArray | None,
    second: TargetRows,
    predictions: Predictions,
    weighting: Weighting,
    fresh: Weighting,
) -> FloatArray:
    r"""First-order effect of the folds' fits on the value, :math:`\sum_k D_k^\top A_k^{-1} s_i`."""
    fitted = predictions.crossfit
    assert fitted is not None
    assert predictions.coefficients is not None
    ell = policies.log_ratio(k)
    some: Any = slice(None) if rows is None else rows
    s = (np.ones(ell.shape[0]) if log.sample_weight is None else log.sample_weight)[some]
    w = relative_weights(weighting.transform(ell[some], s), normalize=weighting.normalize)
    weight = np.zeros(ell.shape[0])
    weight[some] = s * w / (np.sum(s * w) if weighting.normalize else np.sum(s))
    w0, normalize0 = second.policy_weight(k, fresh)
    w0 = second.frequency * w0
    w0 = w0 / (w0.sum() if normalize0 else second.frequency.sum())
    shares = fitted.draw_shares(_draw_folds(fitted, second))
    out = np.zeros(ell.shape[0])
    for j, (linear, influence) in enumerate(predictions.coefficients):
        test = np.flatnonzero(fitted.folds.fold == j)
        d = (w0 * shares[:, j]) @ linear.gradient(second.X)
        d = d - weight[test] @ linear.gradient(take_rows(log.X, test))
        out += influence @ d
    return out


def median_part(parts: list[PolicyValue]) -> PolicyValue:
    """Median value over splits with the average influence function."""
    if len(parts) == 1:
        return parts[0]
    logged = [p.logged for p in parts if p.logged is not None]
    target = [p.target for p in parts if p.target is not None]
    middle = parts[int(np.argsort([p.value for p in parts])[len(parts) // 2])]
    return replace(
        middle,
        value=float(np.median([p.value for p in parts])),
        logged=np.mean(logged, axis=0),
        target=np.mean(target, axis=0) if target else None,
        bias_bound=float(np.median([p.bias_bound for p in parts])),
    )


def with_split_noise(result: ValueEstimate, values: FloatArray, log: Log) -> ValueEstimate:
    """Add the spread of the values over splits, (R, L), as an independent sample."""
    noise = np.sqrt(values.shape[0]) * (values - values.mean(axis=0))
    if result.dropped_variance is not None:
        return replace(result, dropped_variance=result.dropped_variance + values.var(0, ddof=1))
    sample = InfluenceSample(f"{log.key}:splits", "splits", noise)
    return replace(result, samples=(*result.samples, sample))
