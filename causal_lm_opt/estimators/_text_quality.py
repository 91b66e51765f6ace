"""How well texts by several authors are made, as far as the texts alone tell; kernels of texts.

Nothing here sees an outcome, so the texts of an author whom nobody read may take part.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer

from causal_lm_opt.estimators._text_style import STYLE, LogLength, StyleFeatures
from causal_lm_opt.estimators.text_pipelines import TOKEN, term_vectorizer

__all__ = [
    "QUALITY",
    "average_kernel",
    "linear_kernel",
    "on_the_issue",
    "quality_features",
    "word_kernel",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
STYLE_USED = (
    "mean word length", "words per sentence", "distinct words", "repeated runs", "numbers",
    "list items", "closed",
)  # fmt: skip
#: Names of the columns of `quality_features`, in order.
QUALITY = (*STYLE_USED, "log words", "unusual words")
UNUSUAL = 0.1
MOST_TERMS = 50_000


def quality_features(texts: Sequence[str], author: IntArray) -> FloatArray:
    """Marks of how well each text is made, shape (M, 9); columns named by ``QUALITY``.

    Readability (length of words and sentences), lexical diversity, repetition, evidence (numbers),
    marks of a list, a complete ending, the log of the number of words, and the share of words that
    at most one in ten of the other authors uses (misspelt, garbled, beside the matter). Few, as
    there are as many observations as authors.

    Parameters
    ----------
    texts : sequence of str, length M
    author : (M,) integer array
        Codes 0, 1, ...

    Examples
    --------
    >>> texts = ["tax the rich", "tax the wealthy", "xyz abc"]
    >>> found = quality_features(texts, np.array([0, 1, 2]))
    >>> found[:, QUALITY.index("unusual words")].round(2).tolist()
    [0.33, 0.33, 1.0]
    """
    rows = np.asarray(texts, dtype=object)
    style = StyleFeatures().transform(rows)[:, [STYLE.index(name) for name in STYLE_USED]]
    return np.column_stack([style, LogLength().transform(rows), unusual_words(texts, author)])


def on_the_issue(texts: Sequence[str], author: IntArray, issue: IntArray) -> FloatArray:
    """How much closer each text is to others' texts on its issue than to theirs on other issues.

    Mean cosines of TF-IDF words. A text that misses its issue cannot move a reader on it.

    Parameters
    ----------
    texts : sequence of str, length M
    author, issue : (M,) integer arrays
        Codes 0, 1, ...

    Returns
    -------
    (M,) float64 array
        With one issue, the first of the two means.

    Examples
    --------
    >>> texts = ["tax the rich", "tax the wealthy", "feed the birds", "feed the ducks", "xyz abc"]
    >>> author, issue = np.array([0, 1, 0, 1, 2]), np.array([0, 0, 1, 1, 0])
    >>> on_the_issue(texts, author, issue).round(2).tolist()
    [0.08, 0.08, 0.41, 0.41, 0.0]
    """
    terms = term_vectorizer().fit_transform(texts)
    other = author[:, None] != author
    same = issue[:, None] == issue
    alike = (terms @ terms.T).toarray()

    def mean(chosen: npt.NDArray[np.bool_]) -> FloatArray:
        number = chosen.sum(axis=1)
        total = np.where(chosen, alike, 0.0).sum(axis=1)
        return np.asarray(total / np.maximum(number, 1), dtype=np.float64)

    return mean(same & other) - mean(~same & other)


def unusual_words(texts: Sequence[str], author: IntArray) -> FloatArray:
    """Share of each text's words that at most a tenth of the other authors use, shape (M,)."""
    counts = CountVectorizer(token_pattern=TOKEN).fit_transform(texts)
    authors = int(author.max()) + 1
    of_author = sparse.csr_matrix(
        (np.ones(author.size), (author, np.arange(author.size))), shape=(authors, author.size)
    )
    users = np.asarray(((of_author @ counts) > 0).sum(axis=0)).ravel()
    # The author of the text is one of the users of its words.
    unusual = (users - 1 <= UNUSUAL * (authors - 1)).astype(np.float64)
    return np.asarray((counts @ unusual) / np.maximum(counts.sum(axis=1).A1, 1.0))


def linear_kernel(features: npt.ArrayLike, issue: IntArray) -> FloatArray:
    """Inner products of the columns, centred within issue and put on one scale, (M, M), trace M."""
    values = np.asarray(features, dtype=np.float64).reshape(issue.size, -1)
    centred = values - _means(values, issue)
    spread = centred.std(axis=0)
    # A column that does not vary within issues tells no author from another.
    kept = centred[:, spread > 1e-9 * (1 + np.abs(values).max(axis=0))]
    return _trace_one(_inner(kept / kept.std(axis=0)))


def word_kernel(texts: Sequence[str], issue: IntArray) -> FloatArray:
    """Inner products of TF-IDF of words and pairs of words, centred within issue, (M, M)."""
    terms = term_vectorizer("words", (1, 2), MOST_TERMS).fit_transform(texts)
    return centred_kernel((terms @ terms.T).toarray(), issue)


def average_kernel(kernel: FloatArray, author: IntArray, weight: FloatArray) -> FloatArray:
    """The kernel of the authors' weighted averages of the same features, one row a text, (M, M)."""
    member = (author[:, None] == np.arange(int(author.max()) + 1)).astype(np.float64)
    mean = member.T * weight
    return _trace_one(np.asarray(member @ (mean @ kernel @ mean.T) @ member.T))


def centred_kernel(kernel: FloatArray, issue: IntArray) -> FloatArray:
    """The kernel of the same features centred within issue, scaled to trace M."""
    left = kernel - _means(kernel, issue)
    both = left - _means(left.T, issue).T
    return _trace_one((both + both.T) / 2)


def _means(values: FloatArray, issue: IntArray) -> FloatArray:
    """Means of the rows of the same issue, shape as ``values``."""
    member = (issue[:, None] == np.arange(int(issue.max()) + 1)).astype(np.float64)
    return np.asarray(member @ ((member.T @ values) / member.sum(axis=0)[:, None]))


def _inner(values: FloatArray) -> FloatArray:
    return np.asarray(values @ values.T)


def _trace_one(kernel: FloatArray) -> FloatArray:
    """Mean of the diagonal 1; a kernel of nothing stays 0."""
    scale = float(np.trace(kernel)) / kernel.shape[0]
    return kernel / scale if scale > 1e-12 else np.zeros_like(kernel)
