"""Features of texts for outcome models and density ratios: TF-IDF, topics, length and style.

The pipelines serve lists, arrays, Series, and frames that have a text column beside others.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.linalg import svds
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.utils.validation import check_is_fitted

from causal_lm_opt.estimators._text_rows import TextRows, text_rows
from causal_lm_opt.estimators._text_style import LogLength, StyleFeatures, style_features

__all__ = [
    "TOKEN",
    "LogLength",
    "StyleFeatures",
    "TextRows",
    "TextTopics",
    "style_features",
    "term_vectorizer",
    "text_rows",
    "tfidf_features",
]

FloatArray = npt.NDArray[np.float64]
#: One-character words and punctuation count: no text should lose all its terms.
TOKEN = r"(?u)\b\w+\b|[^\w\s]"
#: Entries up to which a matrix is decomposed as a dense one.
DENSE = 250_000
#: Share of the largest singular value below which a direction is rounding.
NEGLIGIBLE = 1e-6


class TextTopics(TransformerMixin, BaseEstimator):
    """Truncated singular value decomposition with as many components as the rows can bear.

    Unlike scikit-learn's it needs no vocabulary as large as ``n_components``, has no random error,
    and drops directions that are rounding (repeated texts), which a later standardisation would
    blow up. Each component points to where its largest loading is positive.

    Parameters
    ----------
    n_components : int
        At most ``min(n - 1, columns - 1)``, and at least 1, are kept.
    random_state : int
        Starts the iteration; the result does not depend on it beyond rounding.

    Attributes
    ----------
    components_ : (k, columns) array
    singular_values_ : (k,) array

    Examples
    --------
    >>> TextTopics(5).fit_transform(np.eye(4)[[0, 1, 2, 2, 3]]).shape
    (5, 3)
    """

    def __init__(self, n_components: int = 100, random_state: int = 0) -> None:
        self.n_components = n_components
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Decompose an (n, columns) matrix, sparse or dense."""
        k = self.n_components
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
            raise ValueError(f"n_components must be an integer >= 1, got {k!r}.")
        X = sparse.csr_array(X, dtype=np.float64)
        n, columns = X.shape
        k = max(1, min(int(k), n - 1, columns - 1))
        if n * columns <= DENSE or min(n, columns) == 1:
            _, s, v = np.linalg.svd(X.toarray(), full_matrices=False)
        else:
            rng = np.random.default_rng(self.random_state)
            _, s, v = svds(X, k, v0=rng.uniform(-1, 1, min(n, columns)))
            order = np.argsort(-s, kind="stable")
            s, v = s[order], v[order]
        real = (s[:k] > NEGLIGIBLE * s[0]) | (np.arange(k) == 0)
        s, v = s[:k][real], v[:k][real]
        largest = v[np.arange(len(v)), np.abs(v).argmax(1)]
        self.components_ = v * np.where(largest < 0, -1.0, 1.0)[:, None]
        self.singular_values_ = s
        self.n_features_in_ = columns
        return self

    def transform(self, X: Any) -> FloatArray:
        """Coordinates of rows, (m, k)."""
        check_is_fitted(self)
        X = sparse.csr_array(X, dtype=np.float64)
        if X.shape[1] != self.n_features_in_:
            raise ValueError(f"X has {X.shape[1]} columns; fitted were {self.n_features_in_}.")
        return np.asarray(X @ self.components_.T)

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """``topic0``, ``topic1``, ..."""
        check_is_fitted(self)
        return np.array([f"topic{j}" for j in range(len(self.components_))], dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


# ------------------------------------------------------------------------------ the pipeline
def tfidf_features(
    *,
    n_components: int | None = 100,
    words: tuple[int, int] | None = (1, 2),
    characters: tuple[int, int] | None = None,
    max_terms: int | None = 50_000,
    unit_length: bool = True,
    log_length: bool = False,
    style: bool = False,
    column: str = "text",
    random_state: int = 0,
) -> Pipeline:
    """Pipeline from texts to a few numbers: TF-IDF, singular value decomposition, length 1.

    Nothing in it looks at outcomes. Use it before a learner in an outcome model, or as the
    ``latent`` of an estimated ratio.

    Parameters
    ----------
    n_components : int or None
        Coordinates kept, clipped to what the rows can bear; None keeps the terms themselves, as a
        sparse matrix.
    words : (shortest, longest) or None
        Runs of words (and punctuation) that are terms.
    characters : (shortest, longest), optional
        Runs of characters within words that are terms too: they see spelling and word forms.
    max_terms : int, optional
        Most terms of each kind, the most frequent first.
    unit_length : bool
        Terms of a text, and its coordinates, have length 1 together: what a text is about, however
        long. False: they add up over its words, as log odds and outcomes do that are additive in
        words; of length 1 the same phrase counts for less beside longer ones.
    log_length, style : bool
        Append the log of the number of words, and `StyleFeatures`, each standardised (the
        coordinates of a text have length 1 together, so that these weigh more: scale them down
        where that is not wanted).
    column : str
        Where X is a frame, the column of the texts.
    random_state : int

    Returns
    -------
    sklearn.pipeline.Pipeline
        Unfitted. ``transform`` gives (m, k) float64; a text without a known term has zeros.

    Raises
    ------
    ValueError
        If no kind of term is asked for or a range is wrong; on fitting, if no text has a visible
        character.

    Notes
    -----
    Terms are counted per row of X: a text that stands in many rows counts as often. Coordinates
    are fitted on the rows that the pipeline is fitted on, so inside cross-fitting nothing of a
    held-out text is seen.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.pipeline import make_pipeline
    >>> texts = ["good day", "good night", "bad day", "bad night", "bad bad luck"]
    >>> tfidf_features(n_components=100).fit_transform(texts).shape
    (5, 4)
    >>> model = make_pipeline(tfidf_features(log_length=True), Ridge(0.1))
    >>> model.fit(texts, [1.0, 1.0, 0.0, 0.0, 0.0]).predict(["good luck"]).shape
    (1,)
    """
    terms = _terms(words, characters, max_terms, unit_length=unit_length)
    steps: list[tuple[str, Any]] = [("terms", terms)]
    if n_components is not None:
        steps += [("topics", TextTopics(n_components, random_state))]
        steps += [("length1", Normalizer())] if unit_length else []
    beside: list[tuple[str, Any]] = []
    if log_length:
        beside.append(("log_length", LogLength(column)))
    if style:
        beside.append(("style", StyleFeatures(column)))
    rows = ("texts", TextRows(column))
    if not beside:
        return Pipeline([rows, *steps])
    scaled = [
        (name, Pipeline([(name, step), ("scale", StandardScaler())])) for name, step in beside
    ]
    return Pipeline([rows, ("features", FeatureUnion([("text", Pipeline(steps)), *scaled]))])


def _terms(
    words: tuple[int, int] | None, characters: tuple[int, int] | None, max_terms: int | None, *,
    unit_length: bool,
) -> Any:  # fmt: skip
    kinds: list[tuple[str, Any]] = []
    for name, runs in (("words", words), ("characters", characters)):
        if runs is None:
            continue
        if (
            len(runs) != 2
            or not all(isinstance(r, int) for r in runs)
            or not 1 <= runs[0] <= runs[1]
        ):
            raise ValueError(
                f"{name} must be (shortest, longest) with 1 <= shortest, got {runs!r}."
            )
        vectorizer = term_vectorizer(name, runs, max_terms, unit_length=unit_length)
        kinds.append((name, vectorizer))
    if not kinds:
        raise ValueError("words and characters are both None: there are no terms; give one.")
    return kinds[0][1] if len(kinds) == 1 else FeatureUnion(kinds)


def term_vectorizer(
    kind: str = "words", runs: tuple[int, int] = (1, 1), max_terms: int | None = None, *,
    unit_length: bool = True,
) -> TfidfVectorizer:  # fmt: skip
    """TF-IDF of words or characters, counts damped by their logarithm; the package's one setting.

    >>> term_vectorizer().fit(["A b!"]).get_feature_names_out().tolist()
    ['!', 'a', 'b']
    """
    norm = "l2" if unit_length else None
    if kind == "characters":
        return TfidfVectorizer(
            analyzer="char_wb", ngram_range=runs, max_features=max_terms, sublinear_tf=True,
            norm=norm,
        )  # fmt: skip
    return TfidfVectorizer(
        token_pattern=TOKEN, ngram_range=runs, max_features=max_terms, sublinear_tf=True, norm=norm
    )
