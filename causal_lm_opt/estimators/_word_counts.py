"""Counts of the commonest words: what the default density ratio reads of texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.utils.validation import check_is_fitted

from causal_lm_opt.estimators.text_pipelines import TOKEN

__all__ = ["WordCounts"]


class WordCounts(TransformerMixin, BaseEstimator):
    """How often each of the commonest words (and signs) stands in a text, as a sparse matrix.

    Of two texts of bag-of-words writers the log ratio is exactly linear in these counts, which it
    is not in TF-IDF of length 1.

    Parameters
    ----------
    most : int
        Words kept: those that occur most often.

    Attributes
    ----------
    seen_ : int
        Different words that occur in two texts (where none does: in one).

    Examples
    --------
    >>> words = WordCounts(2).fit(["a rose is a rose", "a nose"])
    >>> words.get_feature_names_out().tolist(), words.transform(["A rose, a nose!"]).toarray()
    (['a'], array([[2]]))
    """

    def __init__(self, most: int = 1000) -> None:
        self.most = most

    def fit(self, X: Any, y: Any = None) -> WordCounts:
        """Learn the words."""
        for least in (2, 1):
            words = CountVectorizer(token_pattern=TOKEN, min_df=least)
            try:
                counts = words.fit_transform(X)
            except ValueError as error:
                if "no terms remain" in str(error) and least == 2:
                    continue  # no word stands in two texts
                if "vocabulary" in str(error):
                    raise ValueError("The texts hold no word: nothing tells them apart.") from error
                raise
            break
        total = np.asarray(counts.sum(axis=0)).ravel()
        kept = np.sort(np.argsort(-total, kind="stable")[: max(1, int(self.most))])
        self.seen_ = int(total.size)
        self.words_ = CountVectorizer(
            token_pattern=TOKEN, vocabulary=words.get_feature_names_out()[kept]
        )
        return self

    def transform(self, X: Any) -> Any:
        """Counts (rows, words)."""
        check_is_fitted(self, "words_")
        return self.words_.transform(X)

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """The words."""
        return np.asarray(self.words_.get_feature_names_out(), dtype=object)
