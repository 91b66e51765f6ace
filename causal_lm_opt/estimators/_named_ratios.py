"""Density ratios chosen by name, for the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from causal_lm_opt.estimators._ratio import BaseRatio
from causal_lm_opt.estimators._text_rows import text_rows
from causal_lm_opt.estimators.balancing import BalancingRatio
from causal_lm_opt.estimators.density_ratio import DensityRatio
from causal_lm_opt.estimators.text_pipelines import tfidf_features
from causal_lm_opt.exceptions import OverlapError

__all__ = [
    "RATIOS",
    "FeasibleBalance",
    "KnownFeatures",
    "NamedColumns",
    "WordOdds",
    "named_ratio",
    "topic_names",
]

#: Names and how each makes its weights.
RATIOS = {
    "classifier": "odds of a logistic regression on the words of the text",
    "balance": "entropy balancing of a few topics of the text (tf-idf, singular value "
    "decomposition)",
    "latent": "odds of a logistic regression on a few topics of the text (tf-idf, singular value "
    "decomposition)",
}
#: Imbalance allowed, in standard deviations: the first of these that weights of the log reach.
TOLERANCES = (0.0, 0.02, 0.05, 0.1, 0.2)
MOST_TOPICS = {"balance": 10, "latent": 20}
NO_BALANCE = (
    "{}; an imbalance of {:g} standard deviations would have been allowed. The policy writes what "
    "the log lacks: log more texts like its own, or value a policy closer to the logged texts."
)
LOOKED_AT = 20  # terms that stand out most in a topic, for its name
ROWS_PER_TOPIC = 20  # few enough topics that their odds are told precisely


class KnownFeatures(TransformerMixin, BaseEstimator):
    """Features of texts made once, by a step fitted on all of them; clones share them.

    A ratio is fitted on folds, policies and resamples. Its features look at no outcome and at no
    label, and are taken as given there, so that making them anew each time would buy nothing.

    Parameters
    ----------
    step : transformer of texts, unfitted
    texts : sequence of str
        Those of all samples.
    """

    def __init__(self, step: Any, texts: Sequence[str]) -> None:
        self.step = step
        self.texts = texts
        distinct = list(dict.fromkeys(texts))
        made: Any = step.fit_transform(distinct)
        self.known_ = made.tocsr() if hasattr(made, "tocsr") else np.asarray(made)
        self.place_ = {text: i for i, text in enumerate(distinct)}

    def fit(self, X: Any, y: Any = None) -> KnownFeatures:
        """Nothing is learnt."""
        return self

    def transform(self, X: Any) -> Any:
        """Features (m, k) of texts; those of new texts by the fitted step."""
        texts = text_rows(X)
        rows = [self.place_.get(text, -1) for text in texts]
        if -1 in rows:
            return self.step.transform(texts)
        return self.known_[rows]

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """Those of the step; topics by the terms that stand out in them."""
        return topic_names(self.step)

    def __sklearn_clone__(self) -> KnownFeatures:
        return self


class NamedColumns(TransformerMixin, BaseEstimator):
    """Numeric columns as they are, with their names.

    Parameters
    ----------
    names : sequence of str
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    def fit(self, X: Any, y: Any = None) -> NamedColumns:
        """Nothing is learnt."""
        return self

    def transform(self, X: Any) -> Any:
        """The columns."""
        return X

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """Their names."""
        return np.array(self.names, dtype=object)


class WordOdds(DensityRatio):
    """Odds of a classifier of words, whose thousands of features nobody wants in a table.

    That its weights balance is judged by readable features of the texts instead.
    """

    def _features(self) -> None:
        return None


class FeasibleBalance(BaseRatio):
    """Entropy balancing within the smallest of some tolerances that weights of the log reach.

    Parameters
    ----------
    features : transformer or None
        As in :class:`BalancingRatio`.
    tolerances : tuple of float
        Increasing, in standard deviations.

    Attributes
    ----------
    balancing_ : BalancingRatio
        The fitted one.
    """

    _odds = False

    def __init__(self, features: Any = None, tolerances: tuple[float, ...] = TOLERANCES) -> None:
        self.features = features
        self.tolerances = tolerances

    def fit(
        self,
        X: Any,
        X_target: Any,
        *,
        sample_weight: Any = None,
        target_weight: Any = None,
        groups: Any = None,
        target_groups: Any = None,
    ) -> FeasibleBalance:
        """Balance; :class:`OverlapError` where not even the last tolerance is reached."""
        for tolerance in self.tolerances:
            fitted = BalancingRatio(self.features, tolerance=tolerance)
            try:
                fitted.fit(
                    X, X_target, sample_weight=sample_weight, target_weight=target_weight,
                    groups=groups, target_groups=target_groups,
                )  # fmt: skip
            except OverlapError as error:
                if tolerance == self.tolerances[-1]:
                    raise OverlapError(NO_BALANCE.format(_what(error), tolerance)) from error
                continue
            break
        self.balancing_ = fitted
        self.samples_, self.label_ = fitted.samples_, fitted.label_
        self.log_ratio_ = fitted.log_ratio_
        self.log_ratio_target_ = fitted.log_ratio_target_
        self.influence_ = fitted.influence_
        return self

    def predict(self, X: Any) -> npt.NDArray[np.float64]:
        """Log ratios of new rows, shape (rows,)."""
        return self.balancing_.predict(X)

    def _features(self) -> Any:
        return self.balancing_._features()


def named_ratio(
    name: str,
    texts: Sequence[str] | None,
    *,
    features: Sequence[str] = (),
    units: int,
    cv: int = 5,
    seed: int = 0,
) -> Any:
    """An unfitted density ratio for texts, numeric features, or a frame of both.

    Parameters
    ----------
    name : str
        A key of ``RATIOS``.
    texts : sequence of str, optional
        All texts, of the log and of every policy. ``None``: the ratio reads the features alone
        (``"classifier"`` and ``"latent"`` are then the same).
    features : sequence of str
        Numeric columns. With texts the rows are a frame of ``"text"`` and these.
    units : int
        Rows (or clusters) of the smallest sample: few of them bear few topics.
    cv, seed : int
        Folds of the classifier, and their seed.

    Raises
    ------
    ValueError
        If the name is unknown, or there is nothing to read.

    Examples
    --------
    >>> texts = ["good day", "bad day", "good night", "bad night"] * 10
    >>> ratio = named_ratio("latent", texts + ["good luck"] * 30, units=30)
    >>> weight = ratio.fit(texts, ["good day", "good luck"] * 15).weights()
    >>> bool(weight[0] > weight[1])                             # "good day" over "bad day"
    True
    """
    if name not in RATIOS:
        raise ValueError(f"ratio {name!r} is not known; use one of {list(RATIOS)}.")
    if texts is None and not features:
        raise ValueError("there are neither texts nor features to estimate a ratio from.")
    if name == "classifier" and texts is not None and not features:
        return WordOdds(random_state=seed)
    if name == "classifier" and texts is not None:
        words = KnownFeatures(tfidf_features(n_components=None, words=(1, 1)), texts)
        learner = LogisticRegression(max_iter=1000)
        latent = _beside(words, features)
        return WordOdds(learner, latent=latent, cv=cv, random_state=seed)
    step: Any = NamedColumns(tuple(features))
    if texts is not None:
        most = MOST_TOPICS[name]
        count = max(2, min(most, units // ROWS_PER_TOPIC - 1 - len(features)))
        step = _beside(KnownFeatures(tfidf_features(n_components=count), texts), features)
    if name == "balance":
        return FeasibleBalance(step)
    return DensityRatio(latent=step, random_state=seed)


def _beside(step: Any, features: Sequence[str]) -> Any:
    """The step on the column of texts, with the standardised features beside it."""
    if not features:
        return step
    return ColumnTransformer(
        [("text", step, ["text"]), ("features", StandardScaler(), list(features))],
        verbose_feature_names_out=False,
    )


def _what(error: OverlapError) -> str:
    """What went wrong, without the advice that follows it."""
    return str(error).split(": ")[0]


def topic_names(step: Any) -> npt.NDArray[np.object_]:
    """Names of a step's features, ``"topic 1 (tax, river)"`` for topics."""
    names = np.asarray(step.get_feature_names_out(), dtype=object)
    steps = getattr(step, "named_steps", {})
    if not {"terms", "topics"} <= set(steps):
        return names
    terms = steps["terms"].get_feature_names_out()
    words = [[part for part in term.split() if any(c.isalnum() for c in part)] for term in terms]
    spoken = np.array([bool(found) for found in words])
    loads = np.where(spoken, steps["topics"].components_, -np.inf)
    tops = np.argsort(-loads, axis=1, kind="stable")[:, :LOOKED_AT]
    said = [_two_apart([words[i] for i in top if spoken[i]]) for top in tops]
    return np.array([f"topic {j + 1} ({', '.join(two)})" for j, two in enumerate(said)], object)


def _two_apart(ranked: Sequence[Sequence[str]]) -> list[str]:
    """The first term and the next that shares no word with it."""
    first = next(iter(ranked), ["no words"])
    apart = [term for term in ranked[1:] if not set(term) & set(first)]
    return [" ".join(term) for term in [first, *apart[:1]]]
