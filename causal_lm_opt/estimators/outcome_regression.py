"""Outcome-regression value estimates (OO-RLHF's value)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import RegressorMixin
from sklearn.linear_model import Ridge
from sklearn.utils.validation import check_is_fitted

from causal_lm_opt._parts import check_same_order
from causal_lm_opt.core.inference import influence_covariance
from causal_lm_opt.core.weights import Hajek, Weighting
from causal_lm_opt.diagnostics.verdict import unsupported_finding, verdict
from causal_lm_opt.estimate import ValueEstimate
from causal_lm_opt.estimators._assemble import assemble, sample_mean
from causal_lm_opt.estimators._base import (
    BaseValueEstimator,
    estimand_notes,
    r2_of_predictions,
)
from causal_lm_opt.estimators._bootstrap import (
    bootstrap_values,
    with_lost,
)
from causal_lm_opt.estimators._dependence import known_dependence
from causal_lm_opt.estimators._figures import second_sample_findings
from causal_lm_opt.estimators._linear import (
    LinearOutcome,
    coefficient_influence,
    linear_outcome,
    tractable,
)
from causal_lm_opt.estimators._log import Log, read_log, read_new_rows
from causal_lm_opt.estimators._policies import Policies, read_policies
from causal_lm_opt.estimators._policy_overlap import policy_overlap
from causal_lm_opt.estimators._samples import PolicyValue, Replicates
from causal_lm_opt.estimators._subgroup_mix import plug_in_of
from causal_lm_opt.estimators._subgroups import Cell, cells_of, subgroup_rows
from causal_lm_opt.estimators._target import TargetRows
from causal_lm_opt.estimators._terms import weighted_term
from causal_lm_opt.estimators._trust import LoggedPredictions
from causal_lm_opt.estimators._unmet import beyond_findings, unmet_of
from causal_lm_opt.estimators.outcome_models import (
    check_outcome_model,
    fit_outcome_model,
    predict_outcome,
)
from causal_lm_opt.exceptions import NotIdentifiedError

__all__ = ["OutcomeRegression"]

FloatArray = npt.NDArray[np.float64]


class OutcomeRegression(RegressorMixin, BaseValueEstimator):
    r"""Value of target policies as the mean prediction of an outcome model over their texts.

    .. math:: \hat V(f) = \frac1m \sum_j q(\tilde x_j), \qquad \tilde x_j \sim P_f

    Use it when log-probs of the texts are not to be had, and as the biased comparison of
    :class:`DoublyRobust`.

    Parameters
    ----------
    outcome_model : scikit-learn regressor or classifier, default ``Ridge(tol=1e-12)``
        Fitted (a clone) on all logged rows. Binary outcomes may use a classifier; class outcomes
        need ``utility``.
    estimand : {"model", "texts"}, default "model"
        ``"model"``: texts the policy would write, of which log and draws are samples (state
        ``groups`` where several readers had the same text). ``"texts"``: these texts as they stand;
        only readers vary (see Notes of :class:`IPW`).
    utility : mapping class -> float, optional
    weights_target : str or Weighting, default "hajek"
        Weights of draws from a sampling policy (``TargetSample(logp_sampling=)``).
    inference : {"auto", "stacked", "bootstrap"}, default "auto"
        ``"stacked"``: sandwich of the model's fit (HC3, clustered) plus the draws' variance, for
        linear and generalised linear models. ``"bootstrap"``: cluster bootstrap with refit, any
        learner, no allowance for smoothing bias. ``"auto"``: stacked where it applies.
    n_bootstrap : int, default 200
    random_state : int, default 0
    n_jobs : int, optional
    influence : {"keep", "drop"}, default "keep"

    Attributes
    ----------
    value_, se_ : float, or array (K,) for K policies
    result_, result_by_ : ValueEstimate
    model_ : fitted outcome model
    inference_ : str
        How the standard error was made.

    Notes
    -----
    **Assumptions.** The outcome model is right where the policy writes, and texts were assigned
    independently of readers' potential outcomes given what the model conditions on. Nothing
    corrects a wrong model; where log-probs are given the weighted residuals test it.
    The draws' spread alone is not a standard error (its intervals cover .12 to .44): the model's
    own uncertainty is always included.

    Under ``estimand="texts"`` the target is :math:`\frac1m \sum_j q(\tilde x_j)` with q the model's
    expectation over readers of the logged texts, and the standard error the readers' (exact for
    linear models): :class:`IPW` says what is held fixed.

    Source: Lin, Ben-Michael and Morency (2024), sec. 4 (OO-RLHF).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LinearRegression
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(500, 2))
    >>> y = 1 + X @ [1., 2.] + rng.normal(size=500)
    >>> est = OutcomeRegression(LinearRegression()).fit(X, y, X_target=rng.normal(1., 1., (800, 2)))
    >>> low, high = est.result_.confint()
    >>> bool(low < 4.0 < high)
    True
    """

    def __init__(
        self,
        outcome_model: Any = None,
        *,
        estimand: str = "model",
        utility: Mapping[Any, float] | None = None,
        weights_target: str | Weighting = "hajek",
        inference: str = "auto",
        n_bootstrap: int = 200,
        random_state: int | None = 0,
        n_jobs: int | None = None,
        influence: str = "keep",
    ) -> None:
        self.outcome_model = outcome_model
        self.estimand = estimand
        self.utility = utility
        self.weights_target = weights_target
        self.inference = inference
        self.n_bootstrap = n_bootstrap
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.influence = influence

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        X_target: Any = None,
        logp_target: Any = None,
        logp_logging: Any = None,
        groups: Any = None,
        sample_weight: Any = None,
        by: Any = None,
    ) -> OutcomeRegression:
        """Fit the outcome model and value the target policies.

        Parameters
        ----------
        X : array (n, d), DataFrame, or sequence of n texts
        y : array, shape (n,)
        X_target : array, TargetSample or mapping policy -> either, optional
            Texts of the target policies. Without it the logging policy is valued (``mean(y)``).
        logp_target, logp_logging : arrays, optional
            Only for the diagnostics: overlap and the weighted-residual test of the model.
        groups, sample_weight, by
            As in :class:`IPW`; ``by`` needs ``TargetSample(by=)``.
        """
        check_same_order({
            "X": X, "y": y, "logp_target": logp_target, "logp_logging": logp_logging,
            "groups": groups, "sample_weight": sample_weight, "by": by,
        })  # fmt: skip
        self.log_ = read_log(
            self, X, y, sample_weight=sample_weight, groups=groups, logp_logging=logp_logging,
            by=by, utility=self.utility, estimand=self.estimand,
        )  # fmt: skip
        policies = read_policies(self, self.log_, logp_target, logp_logging, X_target)
        self.policies_ = policies
        model = self._learner()
        check_outcome_model(model, self.log_.labels, self.utility)
        log = self.log_
        self.model_ = fit_outcome_model(model, log.X, log.labels, log.sample_weight)
        self._publish(self._estimate(policies, cells_of(log, policies)))
        if by is not None:
            self.result_by_ = self._estimate(policies, cells_of(log, policies, by=True))
        return self

    def _logged_predictions(self) -> LoggedPredictions:
        if self.policies_.ell is None:
            return LoggedPredictions(
                None,
                "without log-probs the model could be checked only on the rows it was fitted on, "
                "where it fits by construction.",
            )
        fitted = predict_outcome(self.model_, self.log_.X, self.utility)
        note = "Predictions of the rows the model was fitted on, which flatter it"
        return LoggedPredictions(fitted, note)

    def _learner(self) -> Any:
        return Ridge(tol=1e-12) if self.outcome_model is None else self.outcome_model

    def predict(self, X: Any) -> FloatArray:
        """The outcome model's expected outcome of new rows, shape (m,)."""
        check_is_fitted(self, "model_")
        return predict_outcome(self.model_, read_new_rows(self, X), self.utility)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R squared of :meth:`predict` (an accuracy of the outcome model, not of the value)."""
        return r2_of_predictions(self.predict(X), y, sample_weight, self.utility)

    def evaluate(self, X_target: Any, *, logp_target: Any = None) -> ValueEstimate:
        """Value of other policies with the fitted outcome model, no refit."""
        check_is_fitted(self, "model_")
        logging = None if logp_target is None else self.log_.logp_logging
        policies = read_policies(self, self.log_, logp_target, logging, X_target)
        return self._estimate(policies, cells_of(self.log_, policies))

    def _estimate(self, policies: Policies, cells: list[Cell]) -> ValueEstimate:
        log = self.log_.units
        if policies.logging:
            return assemble(
                log, policies, cells, lambda _, label: sample_mean(log, label),
                estimator="sample mean", notes=estimand_notes(log),
                influence=self.influence,
                term_moment=(log.by is None or cells[0][1] is None) and not policies.fixed,
            )  # fmt: skip
        if not policies.row_sets:
            raise NotIdentifiedError(
                "OutcomeRegression needs X_target: draws of the target policy, draws of a sampling "
                "policy with log-probs, or the exact support (TargetSample)."
            )
        if any(label is not None for _, label in cells):
            _need_target_by(policies)
        weighting = Weighting.of(self.weights_target)
        linear, self.inference_ = self._choose_inference(linear_outcome(self.model_, self.utility))
        notes = estimand_notes(log, enumerated=any(r.exact for r in policies.row_sets))
        notes.append(f"Standard errors: {self.inference_}.")
        coefficients = replicates = None
        if linear is not None:
            coefficients = coefficient_influence(
                linear, log.X, log.y, sample_weight=log.sample_weight, codes=log.codes,
                n_clusters=log.n_clusters, noise=None if log.texts is None else log.noise(),
            )  # fmt: skip
        else:
            replicates = self._bootstrap(policies, cells, weighting)
        predictions = [predict_outcome(self.model_, r.X, self.utility) for r in policies.row_sets]
        order = {cell: c for c, cell in enumerate(cells)}

        def value_of(k: int, label: Any) -> PolicyValue:
            part = _plug_in_value(
                log, policies, k, label, predictions, weighting, linear, coefficients
            )
            if policies.fixed:
                part = replace(part, target=None)
            if replicates is not None:
                column = replicates.column(order[k, label])
                part = replace(part, logged=None, target=None, replicates=column)
            part = self._judged(part, policies, k, label)
            if replicates is None:
                return part
            return replace(part, verdict=with_lost(part.verdict, replicates.size, self.n_bootstrap))

        return assemble(
            log, policies, cells, value_of, estimator="Outcome regression", notes=notes,
            influence=self.influence,
        )  # fmt: skip

    def _choose_inference(self, linear: LinearOutcome | None) -> tuple[LinearOutcome | None, str]:
        """The parametric form to linearise (``None``: bootstrap), and its description."""
        if self.inference not in ("auto", "stacked", "bootstrap"):
            raise ValueError(
                f"inference={self.inference!r} is not known; use 'auto', 'stacked' or 'bootstrap'."
            )
        n = self.log_.size
        usable = linear is not None and tractable(linear, n, rows_per_parameter=2.0)
        if self.inference == "stacked" and not usable:
            raise ValueError(
                "inference='stacked' needs a linear or generalised linear outcome_model with at "
                "most n/2 parameters; use inference='bootstrap'."
            )
        if usable and linear is not None and self.inference != "bootstrap":
            kind = "CR3" if self.log_.codes is not None else "HC3"
            kind = kind if self.log_.texts is None else "readers within texts"
            return linear, f"sandwich of the outcome model's {linear.coef.size} parameters ({kind})"
        whose = "" if self.log_.texts is None else "readers' "
        return None, (
            f"{whose}bootstrap with refit, {self.n_bootstrap} replicates; no allowance for "
            "smoothing bias"
        )

    def _bootstrap(self, policies: Policies, cells: list[Cell], weighting: Weighting) -> Replicates:
        model, utility = self._learner(), self.utility

        def statistic(log: Log, resampled: Policies, _: Any) -> FloatArray:
            fitted = fit_outcome_model(model, log.X, log.labels, log.sample_weight)
            predictions = [predict_outcome(fitted, r.X, utility) for r in resampled.row_sets]
            return np.array(
                [
                    _plug_in_value(
                        log, resampled, k, label, predictions, weighting, None, None
                    ).value
                    for k, label in cells
                ]
            )

        return bootstrap_values(
            self.log_, policies, statistic, n_bootstrap=self.n_bootstrap, seed=self._seed(),
            n_jobs=self.n_jobs,
        )  # fmt: skip

    def _judged(self, part: PolicyValue, policies: Policies, k: int, label: Any) -> PolicyValue:
        """The value with its verdict: the weighted-residual test where log-probs are given."""
        log = self.log_
        rows = subgroup_rows(log.by, label)
        figures, z, extra = None, math.nan, {}
        if policies.ell is not None:
            keep = np.arange(log.y.shape[0]) if rows is None else rows
            s = None if log.sample_weight is None else log.sample_weight[keep]
            residual = log.y - predict_outcome(self.model_, log.X, self.utility)
            ell = policies.ell.column(k)[keep]
            term = weighted_term(ell, residual[keep], Hajek(), s, policies.names[k])
            figures = policy_overlap(log, policies, k, rows, ell, term.raw_weight)
            codes, clusters = log.codes, log.n_clusters
            if log.n_texts > 1:  # a wrong model is wrong about texts
                codes, clusters = log.texts, log.n_texts
            codes = None if codes is None else codes[keep]
            se = math.sqrt(influence_covariance(term.influence, s, codes, clusters))
            z = term.value / se if se > 0 else 0.0
            extra = {"weighted_residual": term.value, "weighted_residual_se": se}
        return replace(
            part,
            verdict=verdict(
                figures,
                model_only=True,
                residual_z=z,
                findings=second_sample_findings(log, policies, k, rows, part.logged, part.target)
                + unsupported_finding(never_written(policies, k))
                + _unmet_findings(log, policies, k)
                + known_dependence(log)
                + (UNSEEN_SUBGROUP if rows is not None and np.ndim(log.X) == 1 else []),
            ),
            diagnostics=({} if figures is None else figures.to_dict()) | extra,
        )


UNSEEN_SUBGROUP = [(2, (
    "The outcome model does not read the subgroup (it is no part of X): values of subgroups differ "
    "by their draws alone, as if every subgroup responded alike. Weights or doubly robust values "
    "ask no such thing."
))]  # fmt: skip


def _unmet_findings(log: Log, policies: Policies, k: int) -> list[tuple[int, str]]:
    """What of the policy's rows is extrapolated by adding up."""
    second = policies.rows_of(k)
    if second is None or second.stand_in:
        return []
    return [*unmet_of(log, second, k).findings, *beyond_findings(log, second, k)]


def never_written(policies: Policies, k: int) -> float:
    """Share of policy ``k``'s own draws to which the logger gives probability 0; 0 if not known."""
    second = policies.rows_of(k)
    drawn = None if second is None else second.ratio_to_logging(k)
    if drawn is None:
        return 0.0
    ell, weight = drawn
    return float(weight[np.isposinf(ell)].sum() / weight.sum())


def _need_target_by(policies: Policies) -> None:
    if any(r.by is None for r in policies.row_sets):
        raise ValueError(
            "by= with OutcomeRegression needs the subgroup of every draw: TargetSample(X, by=...); "
            "otherwise every subgroup would get the same value."
        )


def _plug_in_value(
    log: Log,
    policies: Policies,
    k: int,
    label: Any,
    predictions: list[FloatArray],
    weighting: Weighting,
    linear: LinearOutcome | None,
    coefficients: FloatArray | None,
) -> PolicyValue:
    """Plug-in mean of policy ``k`` in a subgroup, with the model's first-order effect."""
    index = policies.of_policy[k]
    rows, q = policies.row_sets[index], predictions[index]
    plug_in = plug_in_of(log, rows, k, label, q, weighting)
    logged = None
    if linear is not None and coefficients is not None:
        gradient = linear.gradient(plug_in.rows.X)
        logged = coefficients @ mean_gradient(plug_in.rows, k, gradient, weighting)
        if plug_in.shares is not None and not policies.fixed:
            logged = logged + plug_in.shares
    return PolicyValue(plug_in.value, logged, plug_in.draws, 0.0, verdict(None), {})


def mean_gradient(
    rows: TargetRows, k: int, gradient: FloatArray, weighting: Weighting
) -> FloatArray:
    """Derivative of the plug-in mean in the parameters, shape (p,)."""
    weight, normalize = rows.policy_weight(k, weighting)
    s = rows.frequency
    total = float(np.sum(s * weight)) if normalize else float(s.sum())
    return np.asarray((s * weight) @ gradient / total)
