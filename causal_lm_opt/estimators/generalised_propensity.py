r"""Generalised propensity of a few text features given the reader's covariates."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from causal_lm_opt._parts import check_same_order
from causal_lm_opt._validation import (
    check_groups,
    check_sample_weight,
    check_vector,
    content_keys,
    digest,
    n_rows,
)
from causal_lm_opt.diagnostics.verdict import LEVELS, Verdict, worst
from causal_lm_opt.estimate import ValueEstimate
from causal_lm_opt.estimators._confounders import Encoder, confounder_frame, row_folds, same_length
from causal_lm_opt.estimators._densities import (
    ConditionalDensity,
    fit_multinomial,
    fit_normal,
    labels,
    law_influence,
    numbers,
    ones,
    refuse_few_values,
)
from causal_lm_opt.estimators._law_balance import form_findings, law_findings
from causal_lm_opt.estimators._target import TargetSample
from causal_lm_opt.estimators.observational import ProductSample
from causal_lm_opt.exceptions import OverlapError
from causal_lm_opt.influence import InfluenceSample

__all__ = ["GeneralisedPropensity"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]


class GeneralisedPropensity(BaseEstimator):
    r"""Log-probs of low-dimensional text features t(x), logged given Z and under the policy.

    ``logp_logging`` is the fitted :math:`\log P_R(t \mid z)`, ``logp_target`` the
    :math:`\log P_f(t)` of the policy's draws, so that IPW and DoublyRobust weight by
    :math:`P_f(t) / P_R(t \mid z)` and estimate :math:`V(f) = E_Z E_{x\sim f}[g(x, Z)]` from an
    observational log.

    Parameters
    ----------
    model : {"auto", "normal", "logistic"} or scikit-learn classifier, default "auto"
        ``"normal"``: numeric features, normal with a mean linear in Z and one covariance; the
        policy's features are normal too. ``"logistic"``: a discrete feature (cluster, arm), a
        multinomial logit in Z; the policy's shares are its draws' counts. ``"auto"``: normal for
        floating-point t, else logistic. A classifier: cross-fitted class probabilities.
    cv : int, splitter or list of (train, test), default 5
        For a classifier.
    random_state : int, default 0

    Attributes
    ----------
    logp_logging_, logp_target_ : arrays, shape (n,)
        Log-probs (or log densities relative to one constant) of the logged features.
    classes_ : array, or ``None`` for normal features

    Notes
    -----
    **Assumptions.** All confounders are in Z and precede the text; the outcome depends on the text
    through t(x) alone given Z (else the weights compare texts that differ in what t leaves out);
    positivity: P_R(t | z) > 0 wherever P_f(t) > 0 for every reader. The model of t is right; for
    normal features the target must not be much wider than the log is given Z (weights have no
    variance from twice the logged variance on).

    Source: Hirano and Imbens (2004) for the generalised propensity; the two-step inference is that
    of stacked maximum-likelihood scores (Newey and McFadden 1994).

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> z = rng.integers(0, 2, 4000)                             # two kinds of readers
    >>> t = (rng.random(4000) < np.where(z == 1, .8, .2)) * 1    # kind 1 seeks text 1
    >>> y = t + 2. * z + rng.normal(size=4000)
    >>> from causal_lm_opt import IPW
    >>> gp = GeneralisedPropensity().fit(t, z, [1] * 1000)       # the policy always writes text 1
    >>> r = gp.value(IPW(), t[:, None], y)
    >>> low, high = r.confint()
    >>> bool(low < 1 + 2 * .5 < high), bool(y[t == 1].mean() > 2.5)
    (True, True)
    """

    def __init__(self, model: Any = "auto", *, cv: Any = 5, random_state: int | None = 0) -> None:
        self.model = model
        self.cv = cv
        self.random_state = random_state

    # ------------------------------------------------------------------ fit
    def fit(
        self, t: Any, Z: Any, t_target: Any, *, groups: Any = None, sample_weight: Any = None
    ) -> GeneralisedPropensity:
        """Fit both laws of the features.

        Parameters
        ----------
        t : array (n,) or (n, d)
            Features of the logged texts; labels (n,) for a discrete one.
        Z : array (n,) or (n, c), or DataFrame
            Reader covariates of the logged rows.
        t_target : array (m,) or (m, d), or TargetSample of it
            The same features of draws of the policy; ``TargetSample(t, weight=probabilities,
            exact=True)`` where its shares are known.
        groups : array, shape (n,), optional
            Clusters of logged rows (kept whole by a classifier's folds).
        sample_weight : array, shape (n,), optional
            Frequencies.

        Raises
        ------
        OverlapError
            When the policy writes a class that was never logged.
        """
        check_same_order({"t": t, "Z": Z, "groups": groups, "sample_weight": sample_weight})
        n = n_rows(t, "t")
        frame = confounder_frame(Z)
        if frame.shape[0] != n:
            raise ValueError(f"Z has {frame.shape[0]} rows and t has {n}; they must agree.")
        self._weight = check_sample_weight(sample_weight, n)
        self._groups = None if groups is None else check_groups(groups, "groups", n)
        self._read_target(t_target)
        kind = self._kind(t)
        self._encoder = Encoder.of(frame)
        design = self._design(frame)
        self._read_classes(t, discrete=kind != "normal")
        logged, drawn = self._rows(t), self._rows(self._t_target)
        self._logging: ConditionalDensity | None = None
        self._target: ConditionalDensity
        probability = None
        if self.classes_ is None:
            if logged.shape[1] != drawn.shape[1]:
                raise ValueError(f"t has {logged.shape[1]} features and t_target {drawn.shape[1]}.")
            self._logging = fit_normal(logged, design, self._weight)
            self._target = fit_normal(drawn, ones(drawn), self._target_weight)
        else:
            count = int(self.classes_.size)
            self._target = fit_multinomial(drawn, count, ones(drawn), self._target_weight)
            if kind == "logistic":
                self._logging = fit_multinomial(logged, count, design, self._weight)
            else:
                probability = self._classify(logged, design, frame)
        self._t, self._z = logged, design
        self._reference = max(
            0.0, self._target.peak, 0.0 if self._logging is None else self._logging.peak
        )
        self.logp_target_ = self._target.log_prob(logged, ones(logged)) - self._reference
        self.logp_logging_ = self._log_logging(logged, design, probability)
        if not np.isfinite(self.logp_logging_).all():
            raise OverlapError(
                f"{int((~np.isfinite(self.logp_logging_)).sum())} logged rows have probability 0 "
                "under the model of t given Z; use a model that keeps every class possible."
            )
        return self

    def _read_target(self, t_target: Any) -> None:
        given = t_target if isinstance(t_target, TargetSample) else TargetSample(t_target)
        self._t_target, self._exact = given.X, given.exact
        m = n_rows(given.X, "t_target")
        weight = None if given.weight is None else check_vector(given.weight, "t_target.weight", m)
        if weight is not None and ((weight < 0).any() or not weight.any()):
            raise ValueError("t_target.weight must be non-negative with a positive sum.")
        if given.exact and (weight is None or abs(float(weight.sum()) - 1.0) > 1e-6):
            raise ValueError("t_target with exact=True needs weight=: probabilities summing to 1.")
        self._target_weight = weight
        self._n_draws = m

    def _kind(self, t: Any) -> str:
        model = "auto" if self.model is None else self.model
        if isinstance(model, str):
            if model not in ("auto", "normal", "logistic"):
                raise ValueError(
                    f"model={model!r} is not known; use 'auto', 'normal', 'logistic' or a "
                    "scikit-learn classifier."
                )
            if model == "auto":
                if np.asarray(t).dtype.kind != "f":
                    return "logistic"
                refuse_few_values(t)
                return "normal"
            return model
        if not hasattr(model, "predict_proba"):
            raise TypeError(
                f"model must be 'auto', 'normal', 'logistic' or a classifier with predict_proba, "
                f"got {model!r}."
            )
        return "classifier"

    def _design(self, frame: Any) -> FloatArray:
        basis = self._encoder.design(frame)
        return np.column_stack([np.ones(basis.shape[0]), basis])

    def _read_classes(self, t: Any, *, discrete: bool) -> None:
        """The logged classes of a discrete feature, ``None`` for numbers."""
        self.classes_: npt.NDArray[Any] | None = None
        if not discrete:
            return
        logged, drawn = labels(t, "t"), labels(self._t_target, "t_target")
        known = np.unique(logged if self._weight is None else logged[self._weight > 0])
        unknown = ~np.isin(drawn, known)
        if unknown.any():
            raise OverlapError(
                f"The policy writes the class {drawn[unknown][0]!r}, which was never logged "
                f"({float(unknown.mean()):.3g} of its draws lie in such classes): its value is not "
                "identified; merge classes, or value a policy closer to the log."
            )
        self.classes_ = known

    def _rows(self, t: Any) -> Any:
        """Features as numbers (m, d), or as class codes (m,)."""
        if self.classes_ is None:
            return numbers(t, "t")
        given = labels(t, "t")
        unknown = ~np.isin(given, self.classes_)
        if unknown.any():
            raise ValueError(
                f"t holds the class {given[unknown][0]!r}, which no logged row of positive weight "
                "has; drop these rows."
            )
        return np.searchsorted(self.classes_, given)

    def _classify(self, logged: IntArray, design: FloatArray, frame: Any) -> FloatArray:
        """Cross-fitted class probabilities (n, K) of a classifier."""
        codes = None
        if self._groups is not None:
            codes = np.unique(self._groups, return_inverse=True)[1]
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        folds = row_folds(frame, logged.astype(float), codes, self.cv, seed)
        out = np.zeros((logged.shape[0], self._n_classes()))
        self._models: list[Any] = []
        for k, rows in enumerate(folds.train):
            weight = {} if self._weight is None else {"sample_weight": self._weight[rows]}
            model = clone(self.model).fit(design[rows, 1:], logged[rows], **weight)
            test = np.flatnonzero(folds.fold == k)
            out[np.ix_(test, model.classes_)] = model.predict_proba(design[test, 1:])
            self._models.append(model)
        return out

    def _n_classes(self) -> int:
        return 0 if self.classes_ is None else int(self.classes_.size)

    def _log_logging(
        self, t: Any, design: FloatArray, probability: FloatArray | None
    ) -> FloatArray:
        if self._logging is not None:
            return self._logging.log_prob(t, design) - self._reference
        if probability is None:
            probability = np.zeros((t.shape[0], self._n_classes()))
            for model in self._models:
                part = model.predict_proba(design[:, 1:]) / len(self._models)
                probability[:, model.classes_] += part
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(probability[np.arange(t.shape[0]), t])) - self._reference

    # ------------------------------------------------------------------ use
    def log_probs(self, t: Any, Z: Any) -> dict[str, FloatArray]:
        """``logp_target`` and ``logp_logging`` of further pairs of features and covariates (m,).

        ``-inf`` where a law rules the pair out; both relative to the constant of the fitted rows.
        """
        check_is_fitted(self, "logp_logging_")
        same_length(n_rows(t, "t"), Z=Z)
        rows = self._rows(t)
        target = self._target.log_prob(rows, ones(rows)) - self._reference
        design = self._design(confounder_frame(Z))
        return {"logp_target": target, "logp_logging": self._log_logging(rows, design, None)}

    def value(
        self,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        product: ProductSample | None = None,
        **fit_arguments: Any,
    ) -> ValueEstimate:
        r"""Value of the policy, the uncertainty of both fitted laws included.

        Parameters
        ----------
        estimator : IPW or DoublyRobust
            With Hajek or Horvitz-Thompson weights. DoublyRobust needs ``product``.
        X : array (n, d) or DataFrame
            Logged rows; for DoublyRobust :func:`text_and_reader` of texts and covariates.
        y : array, shape (n,)
        product : ProductSample, optional
            The draws behind ``t_target``, in their order, crossed with the logged readers.
        **fit_arguments
            Passed on to ``estimator.fit``, which refuses names it does not know.

        Returns
        -------
        ValueEstimate
            Logged influence: the estimator's, the readers' share of the pairs, and the parameters
            of P_R; on the draws: the pairs' share and the parameters of P_f.

        Notes
        -----
        With :math:`a_i = w_i (r_i - R) / \bar w` (:math:`w_i r_i` for Horvitz-Thompson; r the
        outcome or the residual) a parameter that moves :math:`\log w_i` by :math:`u_i` moves the
        value by the mean of :math:`a_i u_i`; parameters carry their maximum-likelihood influence.
        A *classifier* has none: its probabilities count as known, which holds for DoublyRobust with
        a right outcome model and not for IPW (the note says so).
        """
        check_is_fitted(self, "logp_logging_")
        own = [
            a for a in ("logp_target", "logp_logging", "groups", "sample_weight", "by", "X_target")
            if a in fit_arguments
        ]  # fmt: skip
        if own:
            raise ValueError(f"value() takes no {own}: these are made of what was given to fit.")
        n = self.logp_logging_.shape[0]
        y = check_vector(y, "y", n)
        arguments = dict(fit_arguments)
        if product is not None:
            arguments["X_target"] = self._scored(product)
        fitted = clone(estimator).fit(
            X, y, logp_target=self.logp_target_, logp_logging=self.logp_logging_,
            groups=self._groups, sample_weight=self._weight, **arguments,
        )  # fmt: skip
        result: ValueEstimate = fitted.result_
        if result.dropped_variance is not None or not any(
            s.role == "logged" for s in result.samples
        ):
            raise ValueError(
                "The estimator must keep an influence function of the logged rows: "
                "influence='keep', and no bootstrap."
            )
        if product is not None and any(s.role == "target" for s in result.samples):
            result = product.adjust(result)
        logged, drawn = law_influence(
            fitted, self._logging, self._target, self._t, self._z, self._rows(self._t_target),
            self._target_weight,
        )  # fmt: skip
        samples = [
            replace(s, influence=s.influence + logged[:, None]) if s.role == "logged" else s
            for s in result.samples
        ]
        if not self._exact:
            samples = self._add_draws(samples, drawn, product)
        estimated = "log-probs of text features fitted to the log given the readers' covariates"
        how = (
            "standard errors hold both laws' parameters"
            if self._logging is not None
            else "standard errors take the classifier's probabilities as known, which needs a "
            "right outcome model (DoublyRobust)"
        )
        result = replace(
            result, samples=tuple(samples), term_moment=False,
            notes=(*result.notes, f"Weights from {estimated}; {how}."),
        )  # fmt: skip
        return replace(result, verdicts=self._verdicts(fitted, result))

    def _verdicts(self, fitted: Any, result: ValueEstimate) -> tuple[Verdict, ...]:
        """The estimator's verdicts, with what the balance of both laws says."""
        rows = slice(None) if fitted.log_.taken is None else fitted.log_.taken
        t, drawn = self._columns(self._t)[rows], self._columns(self._rows(self._t_target))
        z, se = self._z[rows], float(np.max(result.se))
        found = law_findings(fitted, t, z[:, 1:], drawn, self._target_weight, se)
        if self._logging is not None:
            found = [*form_findings(fitted, self._logging, self._t[rows], z, se), *found]
        said = [Verdict(LEVELS[severity], (text,)) for severity, text in found]
        return tuple(worst([*said, given]) for given in result.verdicts)

    def _columns(self, rows: Any) -> FloatArray:
        """Features as columns: indicators of all classes but the last."""
        if self.classes_ is None:
            return np.asarray(rows, dtype=np.float64)
        return np.asarray(rows[:, None] == np.arange(max(1, self.classes_.size - 1)), dtype=float)

    def _scored(self, product: ProductSample) -> TargetSample:
        """The pairs with their log-probs, for the unseen-mass check."""
        if product.n_draws != self._n_draws or product.n_readers != self.logp_logging_.shape[0]:
            raise ValueError(
                f"product crosses {product.n_draws} draws with {product.n_readers} readers, but "
                f"fit saw {self._n_draws} and {self.logp_logging_.shape[0]}: cross the same ones."
            )
        rows = self._rows(self._t_target)[product.draw]
        return replace(
            product.sample,
            logp_target=self._target.log_prob(rows, ones(rows)) - self._reference,
            logp_logging=self._log_logging(rows, self._z[product.reader], None),
        )

    def _add_draws(
        self, samples: list[InfluenceSample], drawn: FloatArray, product: ProductSample | None
    ) -> list[InfluenceSample]:
        """The draws' own influence, added to the pairs' share where there is one."""
        table = np.reshape(np.asarray(self._t_target), (self._n_draws, -1))
        key = f"draws:{digest(content_keys(table))}"
        if product is not None:
            key = product.draw_key
        if not any(s.key == key for s in samples):
            return [*samples, InfluenceSample(key, "target", drawn[:, None], self._target_weight)]
        return [
            replace(s, influence=s.influence + drawn[:, None]) if s.key == key else s
            for s in samples
        ]
