"""Outcome models chosen by name, for the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, clone
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags

from causal_lm_opt.estimators.text_pipelines import term_vectorizer

__all__ = ["OUTCOME_MODELS", "named_outcome_model", "uses_text"]

#: Names and what they are.
OUTCOME_MODELS = {
    "tfidf-ridge": "ridge regression on tf-idf terms of the text, and on the features if any",
    "ridge": "ridge regression on the features (without features: on tf-idf terms)",
    "linear": "least squares on the features",
    "logistic": "logistic regression on the features (without features: on tf-idf terms)",
    "forest": "random forest on the features (without features: on tf-idf terms)",
}


def uses_text(name: str, features: Sequence[str]) -> bool:
    """Whether the named model reads the text; the others read the features alone.

    >>> uses_text("tfidf-ridge", ["age"]), uses_text("ridge", ["age"]), uses_text("forest", [])
    (True, False, True)
    """
    return name == "tfidf-ridge" or not features


class WeightedSteps(BaseEstimator):
    """Preprocessing and a learner that takes frequency weights without repeating rows.

    A pipeline has no ``sample_weight`` of its own, so that its rows would be repeated: a million
    impressions would be a million texts. Here the terms are counted once a row and the weights go
    to the learner (the document frequencies count rows, not weights).
    """

    def __init__(self, steps: Any, learner: Any) -> None:
        self.steps = steps
        self.learner = learner

    def fit(
        self, X: Any, y: npt.NDArray[Any], sample_weight: npt.NDArray[np.float64] | None = None
    ) -> WeightedSteps:
        """Fit clones of both on rows (n) and their frequencies (n,)."""
        self.steps_ = clone(self.steps)
        features = self.steps_.fit_transform(X)
        self.learner_ = clone(self.learner).fit(features, y, sample_weight=sample_weight)
        return self

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """The learner's predictions, shape (m,)."""
        return np.asarray(self.learner_.predict(self.steps_.transform(X)))

    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:
        """The learner's class probabilities, shape (m, C)."""
        return np.asarray(self.learner_.predict_proba(self.steps_.transform(X)))

    @property
    def classes_(self) -> npt.NDArray[Any]:
        """The learner's classes."""
        return np.asarray(self.learner_.classes_)

    def __sklearn_tags__(self) -> Any:
        tags, inner = super().__sklearn_tags__(), get_tags(self.learner)
        tags.estimator_type = inner.estimator_type
        tags.classifier_tags, tags.regressor_tags = inner.classifier_tags, inner.regressor_tags
        return tags


def named_outcome_model(
    name: str, *, features: Sequence[str] = (), weighted: bool = False, seed: int = 0
) -> Any:
    """An unfitted outcome model for texts, numeric features, or a frame of both.

    Parameters
    ----------
    name : str
        A key of ``OUTCOME_MODELS``.
    features : sequence of str
        Numeric columns. With ``tfidf-ridge`` the rows are a frame of ``"text"`` and these; with
        another name a numeric frame of these; without features the rows are texts.
    weighted : bool
        The log has frequency weights.
    seed : int
        For the forest.

    Raises
    ------
    ValueError
        If the name is unknown, or ``linear`` has no features.

    Examples
    --------
    >>> model = named_outcome_model("tfidf-ridge").fit(["good day", "bad day"], [1.0, 0.0])
    >>> bool(model.predict(["good"])[0] > model.predict(["bad"])[0])
    True
    """
    learners = {
        "tfidf-ridge": lambda: Ridge(tol=1e-8),
        "ridge": lambda: Ridge(tol=1e-8),
        "linear": LinearRegression,
        "logistic": lambda: LogisticRegression(max_iter=1000),
        "forest": lambda: RandomForestRegressor(
            n_estimators=200, min_samples_leaf=5, random_state=seed
        ),
    }
    if name not in learners:
        raise ValueError(f"outcome model {name!r} is not known; use one of {list(learners)}.")
    learner = learners[name]()
    if not uses_text(name, features):
        # Least squares and trees do not depend on the columns' scale; penalties do.
        steps: Any = StandardScaler() if name in ("ridge", "logistic") else None
    elif name == "linear":
        raise ValueError(
            "outcome model 'linear' needs features: terms of a text are more than its rows can "
            "bear without a penalty; name features, or use 'tfidf-ridge'."
        )
    elif features:
        steps = ColumnTransformer(
            [("text", term_vectorizer(), "text"), ("features", StandardScaler(), list(features))]
        )
    else:
        steps = term_vectorizer()
    if steps is None:
        return learner
    return (
        WeightedSteps(steps, learner)
        if weighted
        else Pipeline([("preparation", steps), ("learner", learner)])
    )
