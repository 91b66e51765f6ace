"""Outcomes freed from the effect of known confounders, with that step's share in the interval."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import Ridge
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from causal_lm_opt._parts import check_same_order
from causal_lm_opt._validation import (
    as_text_rows,
    check_groups,
    check_sample_weight,
    check_vector,
    n_rows,
)
from causal_lm_opt.core.inference import cluster_sums
from causal_lm_opt.estimate import ValueEstimate
from causal_lm_opt.estimators._confounders import (
    Encoder,
    LinearEffect,
    backfit,
    between_group_penalty,
    columns_of,
    confounder_frame,
    linear_effect,
    need_groups_in_training,
    partial_out,
    row_folds,
    same_length,
    some_rows,
    take_folds,
    unexplained,
)
from causal_lm_opt.estimators._crossfit import Folds
from causal_lm_opt.estimators._deconfounded_value import DeconfoundedRows, deconfounded_value
from causal_lm_opt.estimators._linear import MAX_PARAMETERS
from causal_lm_opt.estimators.outcome_models import predict_outcome

__all__ = ["Deconfounder"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
LINEAR_MODELS = ("linear", "group", "group-shrunk")


class Deconfounder(BaseEstimator):
    r"""Removes the cross-fitted effect of known confounders Z from outcomes.

    For :math:`Y = g(x) + h(z) + e` the residual outcome of row i is

    .. math:: y_i - h_{-k(i)}(z_i) + \bar h, \qquad \bar h = \text{mean of } h_{-k}(z) \text{ over
              the log}

    so that its level, and the value made of it, is that of the log's own readers:
    :math:`V(f) = E_f[g(x)] + E[h(Z)]`.

    Parameters
    ----------
    model : {"linear", "group", "group-shrunk"} or scikit-learn regressor, default "linear"
        ``"linear"``: numeric columns and indicators of categories. ``"group"``: fixed effects of
        one categorical column. ``"group-shrunk"``: the same shrunk towards their mean by the
        empirical-Bayes factor, for many small groups; what is shrunk away stays in the outcome, so
        that with texts dependent on the group a bias of the order of one over the group's size
        remains. A regressor: any h.
    text_model : scikit-learn regressor, default ``Ridge(tol=1e-12)``
        Predicts the outcome (and the confounders) from the text's features ``X``; a pipeline for
        raw texts.
    adjust_for_text : {"auto", True, False}, default "auto"
        Whether the part of outcome and confounders that the text predicts is taken out before h is
        fitted. ``"auto"``: where ``X`` is given. Without it h takes the blame for the part of g
        that goes with Z, unless texts were assigned independently of Z.
    cv : int, splitter or list of (train, test), default 5
        Folds never split a cluster (``groups``); else they split rows.
    max_iter : int, default 10
        Backfitting rounds of a regressor beside the text model.
    random_state : int, default 0

    Attributes
    ----------
    effect_ : array, shape (n,)
        Out-of-fold :math:`h_{-k}(z_i) - \bar h`.
    residual_ : array, shape (n,)
        ``y - effect_``.
    coef_ : array, shape (p,)
        Coefficients averaged over the folds, with ``coef_names_`` (parametric models only).
    coef_cov_ : array, shape (p, p)
        Their sandwich covariance (HC3; CR3 with ``groups``).
    unexplained_ : array, shape (p,)
        Share of each confounder column's variance that the text leaves: h rests on it.
    adjusted_for_text_ : bool

    Notes
    -----
    **Assumptions.** All confounders are known and given; effects of text and confounders add up
    (no interaction: else use :class:`GeneralisedPropensity` or a doubly robust value on both);
    Z still varies where the text is held fixed. Reader by reader Z must precede the text.

    *The text is partialled out* (Robinson 1988; Chernozhukov et al. 2018): the parametric h solves
    :math:`\sum_i \tilde B_i (\tilde y_i - \tilde B_i^\top \gamma) = 0` with
    :math:`\tilde y = y - E[y|x]`, :math:`\tilde B = B(z) - E[B(z)|x]` cross-fitted. It is right to
    first order where ``text_model`` fits E[y|x] or E[B|x] well. A regressor is backfitted.
    In a randomised log (texts independent of Z) the value keeps its expectation and loses variance.

    Source of the idea: DeconfoundLM, of which only the abstract is public; the estimation and its
    inference are ours.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> z = rng.normal(size=2000)
    >>> x = z + rng.normal(size=2000)                 # readers choose texts by their z
    >>> y = x + 2 * z + rng.normal(size=2000)
    >>> Deconfounder().fit(z, y).coef_.round(1)       # takes the text's effect for that of z
    array([3.])
    >>> Deconfounder().fit(z, y, X=x[:, None]).coef_.round(1)
    array([2.])
    """

    def __init__(
        self,
        model: Any = "linear",
        *,
        text_model: Any = None,
        adjust_for_text: Any = "auto",
        cv: Any = 5,
        max_iter: int = 10,
        random_state: int | None = 0,
    ) -> None:
        self.model = model
        self.text_model = text_model
        self.adjust_for_text = adjust_for_text
        self.cv = cv
        self.max_iter = max_iter
        self.random_state = random_state

    # ------------------------------------------------------------------ fit
    def fit(
        self, Z: Any, y: Any, X: Any = None, groups: Any = None, sample_weight: Any = None
    ) -> Deconfounder:
        """Fit the confounders' effect, once without each fold.

        Parameters
        ----------
        Z : array (n,) or (n, c), or DataFrame
            Known confounders; columns that are not numbers are categories.
        y : array, shape (n,)
            Numeric outcomes.
        X : array (n, d), DataFrame or sequence of n texts, optional
            The logged texts (features), to be partialled out.
        groups : array, shape (n,), optional
            Clusters: folds keep them whole, standard errors add within them.
        sample_weight : array, shape (n,), optional
            Frequencies; rows of weight 0 do not count.

        Raises
        ------
        ValueError
            Bad input; a group effect asked of clusters that the folds hold out whole;
            :class:`NotIdentifiedError` where the text tells a confounder for certain.
        """
        check_same_order({"Z": Z, "y": y, "X": X, "groups": groups, "sample_weight": sample_weight})
        self._check_settings(X)
        y = check_vector(y, "y", n_rows(y, "y"))
        n = y.shape[0]
        same_length(n, Z=Z, X=X)
        frame = confounder_frame(Z)
        s = check_sample_weight(sample_weight, n)
        labels = None if groups is None else check_groups(groups, "groups", n)
        taken = None if s is None or (s > 0).all() else np.flatnonzero(s > 0)
        kept = np.arange(n) if taken is None else taken
        self._y, self._Z, self._groups, self._weight = y, Z, labels, s
        self.adjusted_for_text_ = X is not None and self.adjust_for_text is not False
        self._X = X if self.adjusted_for_text_ else None
        codes, count = None, 0
        if labels is not None:
            clusters, codes = np.unique(labels[kept], return_inverse=True)
            count = int(clusters.size)
        inside = None if s is None else s[kept]
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self._kept = kept
        folds = row_folds(frame.iloc[kept], y[kept], codes, self.cv, seed, taken, n)
        raw = np.zeros(n)
        if self.model is None or isinstance(self.model, str):
            raw[kept] = self._fit_linear(frame, kept, folds, inside, codes, count)
        else:
            raw[kept] = self._fit_regressor(kept, folds, inside)
        if taken is not None:
            rest = np.flatnonzero(s == 0)
            raw[rest] = self._raw_effect(some_rows(Z, rest))
        self.level_ = float(np.average(raw[kept], weights=inside))
        self.effect_ = raw - self.level_
        self.residual_ = y - self.effect_
        return self

    def _check_settings(self, X: Any) -> None:
        if isinstance(self.model, str) and self.model not in LINEAR_MODELS:
            raise ValueError(
                f"model={self.model!r} is not known; use one of {list(LINEAR_MODELS)} or a "
                "scikit-learn regressor."
            )
        if self.model is not None and not isinstance(self.model, str):
            for method in ("fit", "predict"):
                if not hasattr(self.model, method):
                    raise TypeError(
                        f"model must be one of {list(LINEAR_MODELS)} or a scikit-learn regressor, "
                        f"got {self.model!r}, which has no {method}()."
                    )
        if self.adjust_for_text not in ("auto", True, False):
            raise ValueError(
                f"adjust_for_text must be 'auto', True or False, got {self.adjust_for_text!r}."
            )
        if self.adjust_for_text is True and X is None:
            raise ValueError("adjust_for_text=True needs X: the logged texts or their features.")
        if not isinstance(self.max_iter, int | np.integer) or self.max_iter < 1:
            raise ValueError(f"max_iter must be a positive whole number, got {self.max_iter!r}.")

    def _learner(self) -> Any:
        return Ridge(tol=1e-12) if self.text_model is None else self.text_model

    def _fit_linear(
        self,
        frame: Any,
        kept: IntArray,
        folds: Folds,
        s: FloatArray | None,
        codes: IntArray | None,
        n_clusters: int,
    ) -> FloatArray:
        """Coefficients and their influence; returns ``h_{-k}(z)`` of the kept rows."""
        by_group, shrunk = self.model in ("group", "group-shrunk"), self.model == "group-shrunk"
        if by_group and frame.shape[1] != 1:
            raise ValueError(
                f"model={self.model!r} takes one categorical column, got {list(frame.columns)}; "
                "model='linear' takes several."
            )
        self._encoder = Encoder.of(frame.iloc[kept], categorical=by_group, full=shrunk)
        design = self._encoder.design(frame.iloc[kept])
        if design.shape[1] > MAX_PARAMETERS:
            raise ValueError(
                f"Z has {design.shape[1]} columns and categories, more than {MAX_PARAMETERS}: "
                "merge categories, or give a regressor as model."
            )
        if by_group and not shrunk:
            need_groups_in_training(design, folds, self._encoder.names)
        y = self._y[kept]
        if self._X is None:
            basis, outcome = design, y
        else:
            X = some_rows(_rows_of_text(self._X), kept)
            both = partial_out(np.column_stack([y, design]), X, self._learner(), folds, s)
            basis, outcome = both[:, 1:], both[:, 0]
        self.unexplained_ = unexplained(basis, design, s, self._encoder.names)
        penalty = between_group_penalty(design, outcome, s) if shrunk else 0.0
        self._effect: LinearEffect | None = linear_effect(
            basis, outcome, folds, penalty=penalty, sample_weight=s, codes=codes,
            n_clusters=n_clusters,
        )  # fmt: skip
        self.coef_, self.coef_names_ = self._effect.mean_coef, self._encoder.names
        total = float(kept.size if s is None else s.sum())
        rows = self._effect.influence if s is None else np.sqrt(s)[:, None] * self._effect.influence
        if codes is not None:
            sums = self._effect.influence if s is None else s[:, None] * self._effect.influence
            rows = np.asarray(cluster_sums(sums, codes, n_clusters))
        self.coef_cov_ = rows.T @ rows / total**2
        self._design = design
        return np.asarray(np.einsum("ij,ij->i", design, self._effect.coef[folds.fold]))

    def _fit_regressor(self, kept: IntArray, folds: Folds, s: FloatArray | None) -> FloatArray:
        """One regressor a fold; returns its predictions of the rows it has not seen."""
        self._effect, self._design = None, np.zeros((kept.size, 0))
        Z, y = some_rows(columns_of(self._Z), kept), self._y[kept]
        X = None if self._X is None else some_rows(_rows_of_text(self._X), kept)
        weight = np.ones(y.shape[0]) if s is None else s
        out = np.empty(y.shape[0])
        models = []
        for k, rows in enumerate(folds.train):
            inner = take_folds(folds, rows)
            if X is not None and inner.n_folds < 2:
                raise ValueError("cv must give at least 3 folds to backfit a regressor beside X.")
            fitted = backfit(
                self.model, self._learner(), some_rows(Z, rows), some_rows(X, rows), y[rows],
                inner, None if s is None else s[rows], self.max_iter,
            )  # fmt: skip
            models.append(fitted)
            test = np.flatnonzero(folds.fold == k)
            out[test] = predict_outcome(fitted, some_rows(Z, test))
        share = np.bincount(folds.fold, weights=weight, minlength=folds.n_folds)
        self._models = tuple(models)
        self._share = share / share.sum()
        return out

    # ------------------------------------------------------------------ new rows
    def _raw_effect(self, Z: Any) -> FloatArray:
        """Effect averaged over the folds' fits, level included."""
        if self._effect is not None:
            design = self._encoder.design(confounder_frame(Z))
            return np.asarray(design @ self._effect.mean_coef)
        parts = [predict_outcome(m, columns_of(Z)) for m in self._models]
        return np.asarray(self._share @ np.stack(parts))

    def predict(self, Z: Any) -> FloatArray:
        """Effect of new rows' confounders relative to the log's mean, shape (m,)."""
        check_is_fitted(self, "effect_")
        return self._raw_effect(Z) - self.level_

    def residual(self, Z: Any, y: Any) -> FloatArray:
        """``y - predict(Z)`` of rows that fit has not seen, shape (m,); else use ``residual_``."""
        check_is_fitted(self, "effect_")
        same_length(n_rows(y, "y"), Z=Z)
        return check_vector(y, "y", n_rows(y, "y")) - self.predict(Z)

    # ------------------------------------------------------------------ value
    def value(
        self,
        estimator: Any,
        X: Any,
        *,
        inference: str = "auto",
        n_bootstrap: int = 200,
        **fit_arguments: Any,
    ) -> ValueEstimate:
        r"""Value of policies from the residual outcomes, h's own uncertainty included.

        Parameters
        ----------
        estimator : IPW, DoublyRobust or OutcomeRegression
            A clone is fitted on ``X`` and ``residual_``. Its outcome model must be a regressor.
        X : array (n, d), DataFrame or sequence of n texts
            The logged rows as the estimator takes them.
        inference : {"auto", "stacked", "orthogonal", "bootstrap"}
            ``"stacked"`` (parametric h): :math:`D^\top` times the influence of h's coefficients is
            added to row i, D the derivative of the value; see Notes. ``"orthogonal"``: no term for
            h's fit; right where weighted logged rows have the log's mix of readers (texts assigned
            independently of Z, or weights P_f(x) / P_R(x|z)). ``"bootstrap"``: both fits anew on
            resampled rows (clusters), no allowance for a regressor's smoothing bias. ``"auto"``:
            stacked for parametric h, else bootstrap.
        n_bootstrap : int
        **fit_arguments
            Passed on to ``estimator.fit`` (``logp_target``, ``logp_logging``, ``X_target``, ...),
            which refuses names it does not know. ``groups`` and ``sample_weight`` are those of
            this fit.

        Returns
        -------
        ValueEstimate
            Its logged influence goes by the rows of the raw outcomes, so that it subtracts row by
            row from estimates on the raw ones.

        Notes
        -----
        Every value here is linear in the outcome, so that its derivative is minus the same
        estimator's value of the centred basis, :math:`D_j = -\hat V[B_j(z) - \bar B_j]` (p more
        fits). Row i further carries :math:`h(z_i) - \bar h`: the level is an estimate.

        Examples
        --------
        >>> import numpy as np
        >>> from causal_lm_opt import IPW
        >>> rng = np.random.default_rng(0)
        >>> z, x = rng.normal(size=800), rng.integers(0, 2, 800)       # a randomised log
        >>> y, p = x + 3 * z + rng.normal(size=800), np.log([[.5, .5], [.2, .8]])
        >>> log = {"logp_logging": p[0, x], "logp_target": p[1, x]}
        >>> plain = IPW().fit(x[:, None], y, **log).result_
        >>> freed = Deconfounder().fit(z, y, X=x[:, None]).value(IPW(), x[:, None], **log)
        >>> bool(freed.se < .9 * plain.se)
        True
        """
        check_is_fitted(self, "effect_")
        if inference == "auto":
            inference = "bootstrap" if self._effect is None else "stacked"
        rows = DeconfoundedRows(
            self._y, self.residual_, self.effect_, self._groups, self._weight, self._kept,
            self._design, self._effect, self.adjusted_for_text_,
        )  # fmt: skip

        def refit(counts: FloatArray) -> FloatArray:
            fresh = clone(self).fit(self._Z, self._y, self._X, self._groups, counts)
            return np.asarray(fresh.residual_)

        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        return deconfounded_value(
            rows, estimator, X, fit_arguments, inference, refit, n_bootstrap, seed
        )


def _rows_of_text(X: Any) -> Any:
    texts = as_text_rows(X)
    return X if texts is None else texts
