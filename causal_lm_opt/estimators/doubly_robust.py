"""Doubly robust value estimates (DR-CPO's value)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import RegressorMixin
from sklearn.linear_model import Ridge
from sklearn.utils.validation import check_is_fitted

from causal_lm_opt._parts import check_same_order
from causal_lm_opt.core.weights import Weighting
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
from causal_lm_opt.estimators._crossfit import Folds, crossfit, make_folds
from causal_lm_opt.estimators._doubly_robust import (
    Predictions,
    dr_value,
    given_predictions,
    median_part,
    need_both,
    predictions_as_rows,
    stack,
    target_predictions,
    with_split_noise,
)
from causal_lm_opt.estimators._log import Log, read_log, read_new_rows
from causal_lm_opt.estimators._policies import Policies, read_policies, with_ratio
from causal_lm_opt.estimators._samples import PolicyValue, Replicates
from causal_lm_opt.estimators._subgroups import Cell, cells_of
from causal_lm_opt.estimators._trust import LoggedPredictions
from causal_lm_opt.estimators.outcome_models import check_outcome_model

__all__ = ["DoublyRobust"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

RULES = {
    "group": "folds keep groups whole",
    "content": "folds keep equal texts together",
    "row": "folds split rows, as too few distinct texts were logged to hold whole texts out",
    "user": "folds as given by cv",
    "given": "predictions given by the caller, who answers for their being out of fold",
}
FEW_CONTENTS = 50  # distinct texts below which holding whole texts out costs the model much


class DoublyRobust(RegressorMixin, BaseValueEstimator):
    r"""Doubly robust value of one or many target policies, cross-fitted.

    .. math:: \hat V(f) = \frac{\sum_i w_i (y_i - q_{-k(i)}(x_i))}{\sum_i a_i}
              + \frac1m \sum_j \bar q(\tilde x_j), \qquad \tilde x_j \sim P_f

    with :math:`a_i = w_i` (Hajek) or 1, and :math:`q_{-k}` fitted without row i's fold. The
    default choice when log-probs and draws are both to be had. Without log-probs, ``ratio=``
    estimates the weights from the texts of log and target.

    Parameters
    ----------
    outcome_model : scikit-learn regressor or classifier, default ``Ridge(tol=1e-12)``
        Cloned for every fold. Text pipelines take raw strings.
    weights : str or Weighting, default "hajek"
        As in :class:`IPW`.
    ratio : DensityRatio, BalancingRatio or the like, optional
        Estimates the weights from the logged texts and the draws ``X_target``, instead of
        ``logp_target`` and ``logp_logging``; cloned and fitted for every policy. With
        :class:`BalancingRatio` this is augmented balancing.
    estimand : {"model", "texts"}, default "model"
        ``"model"``: texts the policy would write, of which log and draws are samples (state
        ``groups`` where several readers had the same text). ``"texts"``: these texts as they stand;
        only readers vary (see Notes of :class:`IPW`).
    cv : int, splitter or list of (train, test), default 5
        Folds never split a group; without groups equal texts share a fold.
    n_rep : int, default 1
        Repetitions of the split; the value is the median, the spread over splits enters the
        standard error.
    utility : mapping class -> float, optional
    weights_target : str or Weighting, default "hajek"
        Weights of draws from a sampling policy.
    inference : {"auto", "influence", "stacked", "bootstrap"}, default "auto"
        ``"influence"``: valid when the logging log-probs are right, or both nuisances converge
        fast enough. ``"stacked"`` adds the first-order effect of a parametric outcome model's
        fit, which also covers a *wrong* logging policy with a right parametric model.
        ``"bootstrap"``: cluster bootstrap with refit. ``"auto"``: stacked for linear and
        generalised linear models with at least 20 rows a parameter, else influence. The noise of
        a parametric ``ratio`` is carried to first order unless ``"influence"``; a cross-fitted
        one relies on the product of both nuisances' errors being small (see Notes).
    n_bootstrap : int, default 200
    random_state : int, default 0
        Seed of the folds' hash (and bootstrap).
    n_jobs : int, optional
    influence : {"keep", "drop"}, default "keep"

    Attributes
    ----------
    value_, se_ : float, or array (K,) for K policies
    result_, result_by_ : ValueEstimate
    ratio_ : tuple of fitted ratios, one a policy
        Where ``ratio`` was given.
    inference_, fold_rule_ : str
    n_contents_ : int
        Distinct texts (groups) dealt to the folds; 0 for folds or predictions of the caller.

    Notes
    -----
    **Assumptions.** No hidden confounding, no interference, and either right logging log-probs
    (with overlap) or a right outcome model. With both wrong and :math:`\rho = P_R/\hat P_R` the
    bias is :math:`\sum_x P_f(x) (\rho(x) - 1) (g - q)(x)` under Horvitz-Thompson weights, and
    :math:`\sum_x P_f \rho\, (g - q) / \sum_x P_f \rho - \sum_x P_f\, (g - q)` under Hajek weights
    (in large samples; 0 where :math:`\rho` is constant or :math:`g - q` is). For a black-box model
    and wrong log-probs the value is consistent but its interval is not claimed to cover.

    Fresh draws use the fold-weighted average of the fold models (a refit on all rows would break
    unbiasedness); a draw that repeats a logged text is predicted by the model that has not seen
    that text. The influence function centres at the residual term R, not at V.

    With a cross-fitted black-box ``ratio`` the interval rests on orthogonality: the errors of ratio
    and outcome model multiply, and their product must vanish faster than the root of n; with a
    poor ratio *and* a poor outcome model it is not claimed to cover.

    Under ``estimand="texts"`` the target is the estimate's expectation over readers,
    :math:`\sum_x n_x w_x (g - q)(x) / \sum_x n_x w_x + \frac1m \sum_j q(\tilde x_j)`, q the outcome
    model's expectation given the texts (:class:`IPW` says what is held fixed). Its distance from
    the draws' own :math:`\frac1m \sum_j g(\tilde x_j)` vanishes as the model is right or the texts
    many. Draws add no variance. Stacked inference is exact for linear models; ``"influence"``
    leaves out the outcome model's noise, of relative size parameters over texts, which
    ``"bootstrap"`` (readers within texts) carries for black boxes.

    Source: Lin, Ben-Michael and Morency (2024), Prop. 4.3, Thm 4.4; Chernozhukov et al. (2018).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LinearRegression
    >>> from causal_lm_opt import DoublyRobust
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(1000, 1))                        # logged texts' features ~ N(0, 1)
    >>> y = 2 * X[:, 0] + rng.normal(size=1000)
    >>> logp = lambda x, mean: -.5 * (x[:, 0] - mean) ** 2 - .919
    >>> est = DoublyRobust(LinearRegression()).fit(
    ...     X, y, logp_logging=logp(X, 0), logp_target=logp(X, .5),
    ...     X_target=rng.normal(.5, 1., (4000, 1)))
    >>> low, high = est.result_.confint()
    >>> bool(low < 1.0 < high)
    True
    """

    def __init__(
        self,
        outcome_model: Any = None,
        *,
        weights: str | Weighting = "hajek",
        ratio: Any = None,
        estimand: str = "model",
        cv: Any = 5,
        n_rep: int = 1,
        utility: Mapping[Any, float] | None = None,
        weights_target: str | Weighting = "hajek",
        inference: str = "auto",
        n_bootstrap: int = 200,
        random_state: int | None = 0,
        n_jobs: int | None = None,
        influence: str = "keep",
    ) -> None:
        self.outcome_model = outcome_model
        self.weights = weights
        self.ratio = ratio
        self.estimand = estimand
        self.cv = cv
        self.n_rep = n_rep
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
        logp_target: Any = None,
        logp_logging: Any = None,
        X_target: Any = None,
        groups: Any = None,
        sample_weight: Any = None,
        by: Any = None,
        q_logged: Any = None,
        q_target: Any = None,
    ) -> DoublyRobust:
        """Cross-fit the outcome model and value the target policies.

        Parameters
        ----------
        X : array (n, d), DataFrame, or sequence of n texts
        y : array, shape (n,)
        logp_target, logp_logging : arrays
            As in :class:`IPW`. Neither: the logging policy is valued (``mean(y)``).
        X_target : array, TargetSample or mapping policy -> either
            The second sample. A bare array of length n would be sliced by ``GridSearchCV``; wrap
            it in :class:`TargetSample`.
        groups, sample_weight, by
            As in :class:`IPW`.
        q_logged : array, shape (n,), optional
            Out-of-fold predictions made elsewhere; ``outcome_model`` is then not used.
        q_target : array (m,) or mapping policy -> array, optional
            The same at the second sample (``X_target`` may then be left out), one for each draw
            given; those of draws left out (of prompts that were not logged) are not read.

        Raises
        ------
        ValueError
            Bad input, log-probs beside ``ratio``; :class:`NotIdentifiedError` without log-probs
            (or ``ratio``) or without a second sample;
            :class:`OverlapError` without overlap.
        """
        check_same_order({
            "X": X, "y": y, "logp_target": logp_target, "logp_logging": logp_logging,
            "groups": groups, "sample_weight": sample_weight, "by": by,
        })  # fmt: skip
        self.log_ = read_log(
            self, X, y, sample_weight=sample_weight, groups=groups, logp_logging=logp_logging,
            by=by, utility=self.utility, estimand=self.estimand,
            unroll_below=2 * int(self.cv) if isinstance(self.cv, int | np.integer) else 0,
        )  # fmt: skip
        if not isinstance(self.n_rep, int | np.integer) or self.n_rep < 1:
            raise ValueError(f"n_rep must be a positive whole number, got {self.n_rep!r}.")
        if (q_logged is None) != (q_target is None):
            raise ValueError("q_logged and q_target go together: predictions for both samples.")
        stand_in = False
        if q_target is not None and X_target is None and self.ratio is None:
            X_target, stand_in = predictions_as_rows(q_target), True
        policies = read_policies(
            self, self.log_, logp_target, logp_logging, X_target, stand_in=stand_in,
            ratio=self.ratio,
        )  # fmt: skip
        need_both(policies)
        self.policies_ = policies
        if policies.estimated is not None:
            self.ratio_ = policies.estimated.fits
        given = None
        if q_logged is not None:
            given = given_predictions(self.log_, policies, q_logged, q_target)
            self.splits_: tuple[Predictions, ...] = (Predictions(given[0]),)
            self.fold_rule_, self.n_contents_ = "given", 0
        else:
            self._crossfit()
        self._publish(self._estimate(policies, cells_of(self.log_, policies), given))
        if by is not None:
            cells = cells_of(self.log_, policies, by=True)
            self.result_by_ = self._estimate(policies, cells, given)
        return self

    def _learner(self) -> Any:
        return Ridge(tol=1e-12) if self.outcome_model is None else self.outcome_model

    def _crossfit(self) -> None:
        """Fit the outcome model on every split."""
        log, model = self.log_, self._learner()
        check_outcome_model(model, log.labels, self.utility)
        seed = self._seed()
        splits = []
        for r in range(self.n_rep):
            folds = make_folds(log.X, log.y, log.codes, self.cv, seed + r, log.taken, log.n_given)
            splits.append(self._predictions(log, folds, self.n_jobs))
        self.splits_ = tuple(splits)
        self.fold_rule_, self.n_contents_ = folds.rule, folds.distinct

    def _predictions(self, log: Log, folds: Folds, n_jobs: int | None) -> Predictions:
        fitted = crossfit(
            self._learner(), log.X, log.labels, folds, sample_weight=log.sample_weight,
            codes=log.codes, n_clusters=log.n_clusters, utility=self.utility, n_jobs=n_jobs,
        )  # fmt: skip
        return Predictions(fitted.predict_logged(log.X), fitted)

    def predict(self, X: Any) -> FloatArray:
        """Expected outcome of new rows: the average over folds (and splits), shape (m,)."""
        check_is_fitted(self, "splits_")
        X = read_new_rows(self, X)
        fits = [p.crossfit for p in self.splits_ if p.crossfit is not None]
        if not fits:
            raise ValueError("predict is not available: q_logged and q_target were given to fit.")
        return np.asarray(np.mean([f.predict(X) for f in fits], axis=0))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R squared of :meth:`predict` (an accuracy of the outcome model, not of the value)."""
        return r2_of_predictions(self.predict(X), y, sample_weight, self.utility)

    def evaluate(self, logp_target: Any = None, X_target: Any = None) -> ValueEstimate:
        """Value of other policies with the fitted outcome model, no refit.

        Parameters
        ----------
        logp_target : array (n,) or (n, K), DataFrame or mapping
            Left out with ``ratio``, which is fitted anew for each policy.
        X_target : array, TargetSample or mapping
        """
        check_is_fitted(self, "splits_")
        if self.splits_[0].crossfit is None:
            raise ValueError("evaluate needs a fitted outcome model, but predictions were given.")
        policies = self._other_policies(logp_target, X_target)
        need_both(policies)
        return self._estimate(policies, cells_of(self.log_, policies), None)

    def _logged_predictions(self) -> LoggedPredictions:
        given = self.splits_[0].crossfit is None
        kind = "given by the caller" if given else "out of fold"
        mean = np.mean([p.logged for p in self.splits_], axis=0)
        return LoggedPredictions(np.asarray(mean), f"Predictions {kind}")

    # ------------------------------------------------------------------ estimation
    def _estimate(
        self,
        policies: Policies,
        cells: list[Cell],
        given: tuple[FloatArray, list[FloatArray]] | None,
    ) -> ValueEstimate:
        log, weighting = self.log_.units, Weighting.of(self.weights)
        if policies.logging:
            return assemble(
                log, policies, cells, lambda _, label: sample_mean(log, label),
                estimator="sample mean", notes=estimand_notes(log),
                influence=self.influence, term_moment=cells[0][1] is None and not policies.fixed,
            )  # fmt: skip
        splits = self._with_inference()
        if self.inference == "influence" and policies.estimated is not None:
            policies = replace(policies, ell=replace(policies.estimated, noisy=False))
        fresh = Weighting.of(self.weights_target)
        tables = [
            target_predictions(p, policies, log) if given is None else given[1] for p in splits
        ]
        replicates = None
        if self.inference == "bootstrap":
            replicates = self._bootstrap(policies, cells)
        order = {cell: c for c, cell in enumerate(cells)}
        by_cell: list[list[float]] = []

        def value_of(k: int, label: Any) -> PolicyValue:
            parts = [
                dr_value(log, policies, k, label, p, q, weighting, fresh)
                for p, q in zip(splits, tables, strict=True)
            ]
            by_cell.append([p.value for p in parts])
            part = median_part(parts)
            if replicates is not None:
                column = replicates.column(order[k, label])
                said = with_lost(part.verdict, column.size, self.n_bootstrap)
                part = replace(part, logged=None, target=None, replicates=column, verdict=said)
            return part

        name = weighting.label
        if policies.estimated is not None:
            name += f", {type(self.ratio).__name__}"
        result = assemble(
            log, policies, cells, value_of, estimator=f"Doubly robust ({name})",
            notes=self._notes(policies), influence=self.influence,
        )  # fmt: skip
        if len(splits) == 1 or replicates is not None:
            return result
        return with_split_noise(result, np.array(by_cell).T, log)

    def _notes(self, policies: Policies) -> list[str]:
        rule = f"Cross-fitting: {RULES[self.fold_rule_]}."
        s = self.log_.sample_weight
        rows = self.log_.y.shape[0] if s is None else float(s.sum())
        few = self.n_contents_ < FEW_CONTENTS and 2 * self.n_contents_ <= rows
        if self.fold_rule_ == "content" and few:
            rule += (
                f" Only {self.n_contents_} distinct texts (rows of X) were logged, and the outcome "
                "model predicts each without having seen it: the value stays right, but a model "
                "that does not carry over from text to text (an indicator for each) widens the "
                "interval. A splitter such as cv=KFold(5, shuffle=True, random_state=0) lets it "
                "learn from other rows of the same text."
            )
        about = estimand_notes(self.log_, enumerated=any(r.exact for r in policies.row_sets))
        errors, estimated = self.inference_, policies.estimated
        if estimated is None:
            return [rule, *about, f"Standard errors: {errors}."]
        if policies.fixed:
            errors += ", the ratio as it is"
        elif self.inference == "bootstrap":
            errors += ", the ratio's too"
        elif estimated.noisy and estimated.parametric:
            errors += ", with the noise of the ratio's fit"
        made = f"Density ratio: {estimated.labels}."
        return [rule, made, *about, f"Standard errors: {errors}."]

    def _with_inference(self) -> tuple[Predictions, ...]:
        """The splits, with the coefficients' influence where the stacked correction applies."""
        if self.inference not in ("auto", "influence", "stacked", "bootstrap"):
            raise ValueError(
                f"inference={self.inference!r} is not known; use 'auto', 'influence', 'stacked' or "
                "'bootstrap'."
            )
        given = self.splits_[0].crossfit is None
        if given and self.inference in ("stacked", "bootstrap"):
            raise ValueError(
                f"inference={self.inference!r} refits the outcome model, but predictions were "
                "given; use inference='influence'."
            )
        self.inference_ = "influence function"
        if self.log_.texts is not None and not given:
            self.inference_ += (
                " of the readers, without the outcome model's own noise (inference='bootstrap' "
                "carries it)"
            )
        if self.inference == "bootstrap":
            what = "cluster bootstrap" if self.log_.texts is None else "readers' bootstrap"
            self.inference_ = f"{what} with refit, {self.n_bootstrap} replicates"
        if given or self.inference in ("influence", "bootstrap"):
            return tuple(replace(p, coefficients=None) for p in self.splits_)
        stacked = [stack(p, self.log_, strict=self.inference == "stacked") for p in self.splits_]
        if all(p.coefficients is not None for p in stacked):
            self.splits_ = tuple(stacked)
            size = stacked[0].coefficients[0][0].coef.size if stacked[0].coefficients else 0
            self.inference_ = (
                f"influence function, stacked with the outcome model's {size} parameters"
            )
            return self.splits_
        return self.splits_

    def _bootstrap(self, policies: Policies, cells: list[Cell]) -> Replicates:
        weighting, fresh = Weighting.of(self.weights), Weighting.of(self.weights_target)
        assert self.splits_[0].crossfit is not None
        folds = self.splits_[0].crossfit.folds

        def statistic(log: Log, resampled: Policies, picked: IntArray) -> FloatArray:
            fold = folds.fold[picked]
            train = tuple(np.flatnonzero(fold != j) for j in range(folds.n_folds))
            predictions = self._predictions(log, Folds(fold, train, folds.rule), None)
            if resampled.estimated is not None and not resampled.fixed:
                resampled = with_ratio(self.ratio, log, resampled, replicate=True)
            table, units = target_predictions(predictions, resampled, log), log.units
            return np.array(
                [
                    dr_value(units, resampled, k, label, predictions, table, weighting, fresh).value
                    for k, label in cells
                ]
            )

        return bootstrap_values(
            self.log_, policies, statistic, n_bootstrap=self.n_bootstrap, seed=self._seed(),
            n_jobs=self.n_jobs,
        )  # fmt: skip
