"""Density ratios from a classifier that tells the target's texts from logged ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from causal_lm_opt.estimators._ratio import (
    BaseRatio,
    RatioSamples,
    dense,
    distinct_rows,
    feature_names,
    feature_step,
    read_samples,
    transformed,
)
from causal_lm_opt.estimators._ratio_cells import CellOdds, fit_cells
from causal_lm_opt.estimators._ratio_fits import (
    ROWS_PER_PARAMETER,
    SingleOdds,
    fit_folds,
    fit_single,
    is_logistic,
)
from causal_lm_opt.estimators._word_counts import WordCounts
from causal_lm_opt.exceptions import OverlapError

__all__ = ["DensityRatio"]

FloatArray = npt.NDArray[np.float64]
DEFAULT_FOLDS = 5
FEW_WORDS, SOME_WORDS, MOST_WORDS = 50, 300, 1000


class DensityRatio(BaseRatio):
    r"""Density ratio of target to logged texts, from the odds of a classifier.

    .. math:: \log w(x) = \log \frac{P(\text{draw} \mid x)}{P(\text{logged} \mid x)}
              + \log \frac{n_R}{n_f}

    Use it where no log-probabilities are to be had (texts of human authors, closed models), or
    where those of whole sequences have hopeless ratios. With ``latent`` it is the *marginalised*
    ratio :math:`P_f(z)/P_R(z) = E_R[w \mid z]` of what outcomes respond to. It plugs into
    ``IPW(ratio=...)`` and ``DoublyRobust(ratio=...)``.

    Parameters
    ----------
    classifier : scikit-learn classifier or "cells", optional
        Needs ``predict_proba`` (or ``decision_function`` with calibration). Cloned for every fold.
        Trees need leaves of many rows: a leaf of draws alone has boundless odds.
        Default: standardised features and a logistic regression that is all but unpenalised; for
        texts (without ``latent``) the counts of the commonest words, one for five rows (groups) of
        the smaller sample, with a weak penalty; where these would be fewer than 50 of many words,
        300 words, a stronger penalty and a bootstrap. ``"cells"`` counts the cells of a discrete
        latent.
    latent : transformer, callable X -> Z, or column names, optional
        What outcomes respond to. A transformer (such as TF-IDF and SVD) is fitted inside folds, on
        texts of both samples.
    cv : int, "auto" or None, default "auto"
        Folds. ``"auto"``: a logistic regression with at least 5 rows (or groups) of the smaller
        sample for each parameter is fitted once, on all rows, and its noise carried into the
        value's standard error, unless its penalty biases some direction by more than a quarter of
        a standard error; other classifiers are cross-fitted in 5 folds, whose weights balance less
        well (``IPW`` is then biased where features are many). ``None``: on all rows in any case.
    calibrate : {"auto", "sigmoid", None}, default "auto"
        ``"sigmoid"``: the out-of-fold log odds are brought to :math:`a + b \times` themselves by
        maximum likelihood (Platt); ``"auto"``: where the classifier is no such logistic regression.
    degree : int, default 1
        Of the default classifier: 2 adds squares and products of the (standardised) features.
    random_state : int
        Seed of the folds.
    n_jobs : int, optional

    Attributes
    ----------
    log_ratio_, log_ratio_target_ : arrays, shape (n,), (m,)
        Natural logs of the estimated ratio, out of fold where it was cross-fitted. Cells:
        ``+inf`` for draws where nothing was logged, ``-inf`` for logged rows where no draw fell.
    influence_ : object or None
        How the fit's noise moves a value (parametric ratios and cells); ``None``: bootstrap.
    label_ : str

    Notes
    -----
    **For texts** ``DoublyRobust(model, ratio=DensityRatio())`` is the recommendation. ``IPW`` is
    right only if the words that the ratio reads hold all that outcomes respond to, and no penalty,
    calibration or fold takes out the bias of leaving some out.

    **Assumptions.** Rows of X are exchangeable draws of the logging policy (or mixture of authors),
    ``X_target`` of the target; the classifier can represent the odds. With ``latent``: outcomes
    depend on the text only through it (latent sufficiency), and logged texts reach everywhere in
    it where the target's do (latent positivity). The first no diagnostic proves; ``diagnose()`` of
    the value estimator tests it in the direction that matters to the value. The noise of a fitted
    transformer inside ``latent`` is not carried: its features are taken as given.

    Sources: Qin (1998), Biometrika 85(3) (odds); Saito and Joachims (2022), eq. 7 (marginalised
    ratios); Kobalczyk and van der Schaar (2025), assumptions 4-5 (latents).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X, draws = rng.normal(size=(4000, 1)), rng.normal(.5, 1., (4000, 1))
    >>> ratio = DensityRatio().fit(X, draws)                     # truth: .5 x - .125
    >>> bool(np.abs(ratio.log_ratio_ - (.5 * X[:, 0] - .125)).max() < .2)
    True
    >>> topics, wanted = [["a"], ["a"], ["b"], ["b"]], [["a"], ["b"], ["b"], ["b"]]
    >>> cells = DensityRatio("cells").fit(np.array(topics) == "a", np.array(wanted) == "a")
    >>> np.exp(cells.log_ratio_).tolist()
    [0.5, 0.5, 1.5, 1.5]
    """

    def __init__(
        self,
        classifier: Any = None,
        *,
        latent: Any = None,
        cv: int | str | None = "auto",
        calibrate: str | None = "auto",
        degree: int = 1,
        random_state: int | None = 0,
        n_jobs: int | None = None,
    ) -> None:
        self.classifier = classifier
        self.latent = latent
        self.cv = cv
        self.calibrate = calibrate
        self.degree = degree
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(
        self,
        X: Any,
        X_target: Any,
        *,
        sample_weight: Any = None,
        target_weight: Any = None,
        groups: Any = None,
        target_groups: Any = None,
    ) -> DensityRatio:
        """Fit the odds of draws against logged rows.

        Parameters
        ----------
        X, X_target : arrays (n, d), (m, d), DataFrames, or sequences of texts
            Logged rows and draws of the target.
        sample_weight, target_weight : arrays, shape (n,), (m,), optional
            Positive frequencies.
        groups, target_groups : arrays, shape (n,), (m,), optional
            Clusters, kept whole by folds; a label in both is one cluster.

        Raises
        ------
        ValueError
            Bad input; :class:`OverlapError` where no cell holds rows of both samples.
        TypeError
            For a classifier without probabilities, or a latent of no known kind.
        """
        self._check_settings()
        samples = read_samples(X, X_target, sample_weight, target_weight, groups, target_groups)
        if self.degree == 2 and self._reads_words(samples):
            raise ValueError("degree=2 needs numeric features: give latent= for texts.")
        if isinstance(self.classifier, str):
            fitted: Any = fit_cells(feature_step(self.latent, "latent"), samples)
            self.label_ = f"counts of {fitted.keys.size} cells"
            if not (np.isfinite(fitted.log_ratio)).any():
                raise OverlapError(
                    f"None of the {fitted.keys.size} cells holds both logged rows and draws: the "
                    "log says nothing about the target; use a coarser latent."
                )
        else:
            fitted = self._fit_odds(self._model(samples), samples)
            if self._reads_words(samples):
                self.label_ += _words_read(fitted)
        self.samples_, self.odds_ = samples, fitted
        self.log_ratio_, self.log_ratio_target_ = fitted.log_ratio, fitted.log_ratio_target
        self.influence_ = fitted.influence
        return self

    def _check_settings(self) -> None:
        known = self.cv in ("auto", None) or (
            isinstance(self.cv, int | np.integer) and not isinstance(self.cv, bool) and self.cv >= 2
        )
        if not known:
            raise ValueError(f"cv must be 'auto', None or at least 2 folds, got {self.cv!r}.")
        if self.calibrate not in ("auto", "sigmoid", None):
            raise ValueError(
                f"calibrate={self.calibrate!r} is not known; use 'auto', 'sigmoid' or None."
            )
        model = self.classifier
        if self.degree not in (1, 2):
            raise ValueError(f"degree must be 1 or 2, got {self.degree!r}.")
        if self.degree == 2 and model is not None:
            raise ValueError(
                "degree=2 belongs to the default classifier: put PolynomialFeatures into yours, or "
                "leave classifier out."
            )
        if isinstance(model, type):
            raise TypeError(f"classifier is the class {model.__name__}: give {model.__name__}().")
        if isinstance(model, str):
            if model != "cells":
                raise ValueError(f"classifier={model!r} is not known; give 'cells' or a learner.")
            return
        if model is None or hasattr(model, "predict_proba"):
            return
        if not (hasattr(model, "fit") and hasattr(model, "decision_function")):
            raise TypeError(
                f"classifier must have predict_proba (or decision_function), got {model!r}."
            )
        if self.calibrate is None:
            raise TypeError(
                f"classifier {model!r} has no predict_proba, so that its scores need calibration: "
                "calibrate='auto'."
            )

    def _fit_odds(self, model: Any, samples: RatioSamples) -> Any:
        """One fit on all rows where that is asked for or sound, else cross-fitted."""
        proper = is_logistic(model) or hasattr(model, "predict_proba")
        once = self.cv is None or (self.cv == "auto" and is_logistic(model))
        words = self._reads_words(samples)
        if once and proper and self.calibrate != "sigmoid":
            single: SingleOdds = fit_single(model, samples)
            if single.influence is not None or self.cv is None or words:
                self.label_ = f"{_name(model)} odds, fitted on all rows"
                return single
        folds = self.cv if isinstance(self.cv, int | np.integer) else DEFAULT_FOLDS
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        found = fit_folds(
            model, samples, int(folds), calibrate=self.calibrate, seed=seed, n_jobs=self.n_jobs
        )
        calibrated = ", calibrated" if found.calibration != (0.0, 1.0) else ""
        self.label_ = f"{_name(model)} odds, cross-fitted in {len(found.models)} folds{calibrated}"
        return found

    def _reads_words(self, samples: RatioSamples) -> bool:
        """Whether the default for texts is at work."""
        return self.classifier is None and self.latent is None and samples.is_text

    def _model(self, samples: RatioSamples) -> Any:
        """Latent step and classifier in one pipeline."""
        step, classifier = feature_step(self.latent, "latent"), self.classifier
        if classifier is None:
            if self._reads_words(samples):
                return word_odds(samples)
            bends = [] if self.degree == 1 else [PolynomialFeatures(2, include_bias=False)]
            again = [Standardise()] if bends else []
            classifier = make_pipeline(Standardise(), *bends, *again, default_logistic())
        steps = [] if step is None else [("latent", step)]
        if isinstance(classifier, Pipeline):
            return Pipeline([*steps, *classifier.steps])
        return Pipeline([*steps, ("classifier", classifier)]) if steps else classifier

    def predict(self, X: Any) -> FloatArray:
        """Log ratios of new rows, shape (rows,); the average over folds where cross-fitted.

        Cells seen in neither sample give ``nan``.
        """
        check_is_fitted(self, "odds_")
        return np.asarray(self.odds_.predict(X))

    def _words_read(self) -> frozenset[str]:
        """Words that the default for texts reads; none for other ratios."""
        samples: RatioSamples = self.samples_
        if not self._reads_words(samples):
            return frozenset()
        models = getattr(self.odds_, "models", None) or (self.odds_.model,)
        return frozenset().union(*(m.steps[0][1].get_feature_names_out() for m in models))

    def _features(self) -> tuple[FloatArray, FloatArray, list[str]] | None:
        """The latent (or the numeric rows themselves) of both samples."""
        samples: RatioSamples = self.samples_
        step: Any = None
        if isinstance(self.odds_, CellOdds):
            step = self.odds_.step
        elif self.latent is not None:
            step = feature_step(self.latent, "latent").fit(distinct_rows(samples.both)[0])
        elif samples.is_text:
            return None
        here, there = transformed(step, samples.X), transformed(step, samples.X_target)
        if isinstance(self.odds_, CellOdds) and not _numeric(here):
            return None
        values = dense(here)
        return values, dense(there), feature_names(here, step, values.shape[1])


class Standardise(TransformerMixin, BaseEstimator):
    """Columns of standard deviation 1; centred unless sparse."""

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Standardise:
        """Learn means and standard deviations."""
        self.scaler_ = StandardScaler(with_mean=not sparse.issparse(X))
        self.scaler_.fit(X, sample_weight=sample_weight)
        return self

    def transform(self, X: Any) -> Any:
        """Standardised columns."""
        check_is_fitted(self, "scaler_")
        return self.scaler_.transform(X)


def default_logistic() -> LogisticRegression:
    """A logistic regression on standardised features, penalised enough to be finite only."""
    return LogisticRegression(C=1e4, tol=1e-9, max_iter=2000, solver="newton-cholesky")


def _name(model: Any) -> str:
    """Short name of a classifier."""
    final = model.steps[-1][1] if isinstance(model, Pipeline) else model
    return "logistic" if is_logistic(model) else type(final).__name__


def word_odds(samples: RatioSamples) -> Pipeline:
    """The default for texts: counts of words in a logistic regression of weak penalty.

    As many words as the rows bear. Where that is few of many (long texts by few writers), a few
    hundred with a stronger penalty, about that of two rows for each coefficient.
    """
    seen = WordCounts().fit(distinct_rows(samples.both)[0]).seen_
    most, strength = int(samples.units / ROWS_PER_PARAMETER) - 1, 10.0
    if most < min(seen, FEW_WORDS):
        rows = min(float(samples.weight.sum()), float(samples.target_weight.sum()))
        most, strength = SOME_WORDS, 0.5 * min(1.0, samples.units / rows)
    # Newton's method: words of one phrase stand together, along which lbfgs gets nowhere.
    model = LogisticRegression(C=strength, tol=1e-8, max_iter=2000, solver="newton-cg")
    return make_pipeline(WordCounts(min(most, MOST_WORDS)), Standardise(), model)


def _words_read(fitted: Any) -> str:
    """How many words the default for texts read, for the label."""
    models = getattr(fitted, "models", None) or (fitted.model,)
    words: WordCounts = models[0].steps[0][1]
    read, seen = len(words.get_feature_names_out()), words.seen_
    which = f"{read:,}" if read == seen else f"the {read:,} commonest of {seen:,}"
    return f", of {which} words"


def _numeric(values: Any) -> bool:
    if hasattr(values, "toarray"):
        return True
    if hasattr(values, "columns"):
        return all(np.asarray(values[c]).dtype.kind in "biuf" for c in values.columns)
    return np.asarray(values).dtype.kind in "biuf"
