"""Outcome models: fitting and predicting ``g(x) = E[Y(x)]`` with any scikit-learn learner."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin, clone, is_classifier
from sklearn.dummy import DummyClassifier
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    has_fit_parameter,
    validate_data,
)

from causal_lm_opt._validation import is_frame, n_rows, take_rows
from causal_lm_opt.exceptions import EstimationWarning

__all__ = ["StatsmodelsGLM", "fit_outcome_model", "numeric_outcome", "predict_outcome"]

FloatArray = npt.NDArray[np.float64]
MAX_REPEATED_ROWS = 5_000_000


def numeric_outcome(y: npt.NDArray[Any], utility: Mapping[Any, float] | None) -> FloatArray:
    """Outcomes as numbers: ``utility[class]`` for class outcomes, else ``y`` itself.

    Examples
    --------
    >>> numeric_outcome(np.array(["like", "hide"]), {"like": 1.0, "hide": -2.0}).tolist()
    [1.0, -2.0]
    """
    if utility is None:
        return np.asarray(y, dtype=np.float64)
    classes = list(dict.fromkeys(np.asarray(y).tolist()))
    missing = [c for c in classes if c not in utility]
    if missing:
        raise ValueError(f"utility has no entry for the outcome classes {missing}; state one each.")
    bad = {c: v for c, v in utility.items() if not np.isfinite(v)}
    if bad:
        raise ValueError(f"utility must be finite numbers, got {bad}.")
    return np.array([float(utility[c]) for c in np.asarray(y).tolist()])


def check_outcome_model(
    model: Any, y: npt.NDArray[Any], utility: Mapping[Any, float] | None
) -> None:
    """Refuse learner and outcome that do not fit together."""
    for method in ("fit", "predict"):
        if not hasattr(model, method):
            raise TypeError(
                f"outcome_model must be a scikit-learn regressor or classifier, got {model!r}, "
                f"which has no {method}()."
            )
    if not is_classifier(model):
        if utility is not None:
            raise ValueError("utility= is for classifiers; the outcome_model is a regressor.")
        return
    if not hasattr(model, "predict_proba"):
        raise TypeError(f"outcome_model {model!r} is a classifier without predict_proba.")
    if utility is None and np.unique(y).size > 2:
        raise ValueError(
            f"outcome_model is a classifier but y has {np.unique(y).size} distinct values: use a "
            "regressor for numeric outcomes, or state utility={class: value} for classes."
        )


def _refuse_frame_for_text_learner(model: Any, X: Any) -> None:
    """A text pipeline takes texts; a frame would be read as its column names."""
    first = model.steps[0][1] if isinstance(model, Pipeline) else model
    if not is_frame(X) or not isinstance(first, BaseEstimator):
        return
    tags = get_tags(first).input_tags
    if tags.string and not tags.two_d_array:
        raise ValueError(
            f"X is a frame with the columns {[str(c) for c in X.columns]}, but the outcome_model "
            "starts with a text step: pass the text column (X['text']), or put the step into a "
            "ColumnTransformer."
        )


def fit_outcome_model(
    model: Any, X: Any, y: npt.NDArray[Any], sample_weight: FloatArray | None
) -> Any:
    """A fitted clone of ``model``; frequency weights mean repeated rows.

    Learners (and pipelines, whose earlier steps take no weights) that cannot take ``sample_weight``
    are fitted on repeated rows when the weights are whole numbers.
    """
    _refuse_frame_for_text_learner(model, X)
    if is_classifier(model) and np.unique(y).size == 1:
        warnings.warn(
            f"Some training rows hold one outcome class only ({y[0]!r}); the outcome model is that "
            "constant there.",
            EstimationWarning,
            stacklevel=2,
        )
        model = DummyClassifier(strategy="prior")
    learner = clone(model)
    if sample_weight is None or (sample_weight == 1).all():
        return _fit(learner, X, y)
    whole = bool(np.all(sample_weight == np.rint(sample_weight)))
    direct = not isinstance(learner, Pipeline) and has_fit_parameter(learner, "sample_weight")
    if direct:
        return _fit(learner, X, y, sample_weight=sample_weight)
    if whole and sample_weight.sum() <= MAX_REPEATED_ROWS:
        rows = np.repeat(np.arange(n_rows(X)), sample_weight.astype(np.intp))
        return _fit(learner, take_rows(X, rows), y[rows])
    if isinstance(learner, Pipeline) and has_fit_parameter(learner.steps[-1][1], "sample_weight"):
        return _fit(learner, X, y, **{f"{learner.steps[-1][0]}__sample_weight": sample_weight})
    raise ValueError(
        f"sample_weight has fractional entries and outcome_model {model!r} takes no sample_weight; "
        "use whole-number frequencies or another learner."
    )


def _fit(learner: Any, X: Any, y: npt.NDArray[Any], **weights: FloatArray) -> Any:
    """``learner.fit``, saying what to do where a learner of numbers was given texts."""
    try:
        return learner.fit(X, y, **weights)
    except ValueError as error:
        if "could not convert string to float" not in str(error):
            raise
        raise ValueError(
            f"outcome_model {learner!r} takes numbers but X holds texts: use a text pipeline such "
            "as make_pipeline(TfidfVectorizer(), Ridge()), or a ColumnTransformer for a frame with "
            f"a text column ({error})."
        ) from error


def class_values(model: Any, utility: Mapping[Any, float] | None) -> FloatArray:
    """Outcome of each class of a fitted classifier, in the order of its ``classes_``."""
    classes = model.classes_.tolist()
    return np.array([float(c if utility is None else utility[c]) for c in classes])


def predict_outcome(model: Any, X: Any, utility: Mapping[Any, float] | None = None) -> FloatArray:
    """Expected outcome under a fitted learner, shape (n,).

    Regressors predict it; classifiers average the class values (``utility``, or the two numeric
    classes themselves) over their predicted probabilities, never over predicted labels.
    """
    if is_classifier(model):
        out = np.asarray(model.predict_proba(X), dtype=np.float64) @ class_values(model, utility)
    else:
        out = np.asarray(model.predict(X), dtype=np.float64)
        out = out[:, 0] if out.ndim == 2 and out.shape[1] == 1 else out
    if out.shape != (n_rows(X),):
        raise ValueError(
            f"outcome_model predicted shape {out.shape} for {n_rows(X)} rows; expected one number "
            "a row."
        )
    bad = ~np.isfinite(out)
    if bad.any():
        raise ValueError(
            f"outcome_model predicted {int(bad.sum())} NaN or infinite values (row "
            f"{int(np.argmax(bad))}); choose a learner that extrapolates finitely."
        )
    return np.asarray(out)


class StatsmodelsGLM(RegressorMixin, BaseEstimator):
    r"""A statsmodels generalised linear model as an outcome model that keeps its inference.

    Parameters
    ----------
    family : {"gaussian", "binomial", "poisson", "gamma"}
        Outcome distribution, with its canonical link (log link for gamma).
    cov_type : str
        Covariance of the coefficients in ``results_`` (statsmodels' names).
    max_iter : int
        Iterations of reweighted least squares.

    Attributes
    ----------
    results_ : statsmodels GLMResults
        Coefficients, standard errors, ``summary()``.
    coef_, intercept_ : array (d,), float
    n_features_in_ : int

    Notes
    -----
    ``sample_weight`` are frequency weights. Collinear columns are resolved by the pseudo-inverse.

    Examples
    --------
    >>> X, y = np.array([[0.], [1.], [2.], [3.]]), np.array([1., 3., 5., 7.])
    >>> StatsmodelsGLM().fit(X, y).predict([[4.]]).round(6).tolist()
    [9.0]
    """

    def __init__(
        self, family: str = "gaussian", *, cov_type: str = "nonrobust", max_iter: int = 100
    ) -> None:
        self.family = family
        self.cov_type = cov_type
        self.max_iter = max_iter

    def _family(self) -> Any:
        from statsmodels.genmod import families

        table = {
            "gaussian": families.Gaussian,
            "binomial": families.Binomial,
            "poisson": families.Poisson,
            "gamma": lambda: families.Gamma(link=families.links.Log()),
        }
        if self.family not in table:
            raise ValueError(f"family={self.family!r} is not known; use one of {sorted(table)}.")
        return table[self.family]()

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> StatsmodelsGLM:
        """Fit by iteratively reweighted least squares.

        Parameters
        ----------
        X : array, shape (n, d)
        y : array, shape (n,)
            In the family's range.
        sample_weight : array, shape (n,), optional
            Frequency weights.
        """
        import statsmodels.api as sm
        from statsmodels.tools.sm_exceptions import PerfectSeparationWarning

        X, y = validate_data(self, X, y, y_numeric=True, dtype=np.float64)
        y = y.astype(np.float64)
        s = _check_sample_weight(sample_weight, X, dtype=np.float64)
        keep = s > 0
        if keep.sum() < 2:
            raise ValueError(f"A fit needs at least two rows: n_samples = {int(keep.sum())}.")
        lower, upper = {"binomial": (0, 1), "poisson": (0, np.inf), "gamma": (1e-300, np.inf)}.get(
            self.family, (-np.inf, np.inf)
        )
        if y[keep].min() < lower or y[keep].max() > upper:
            raise ValueError(
                f"y lies outside the range of family={self.family!r}: {y.min():.4g} to "
                f"{y.max():.4g}."
            )
        design = np.column_stack([np.ones(keep.sum()), X[keep]])
        model = sm.GLM(y[keep], design, family=self._family(), freq_weights=s[keep])
        with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
            if self.family == "gaussian":  # a perfect linear fit is no separation
                warnings.simplefilter("ignore", PerfectSeparationWarning)
            self.results_ = model.fit(maxiter=self.max_iter, cov_type=self.cov_type)
        self.intercept_ = float(self.results_.params[0])
        self.coef_ = np.asarray(self.results_.params[1:])
        self.n_iter_ = int(self.results_.fit_history["iteration"])
        return self

    def predict(self, X: Any) -> FloatArray:
        """Predicted means, shape (n,)."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        return np.asarray(self.results_.family.link.inverse(self.intercept_ + X @ self.coef_))

    def summary(self) -> Any:
        """The statsmodels summary of the fit."""
        check_is_fitted(self)
        return self.results_.summary()
