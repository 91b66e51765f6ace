"""How texts are written, whatever they are about: length and style, in columns that have names."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt

from causal_lm_opt.diagnostics.text_features import WORD, count_words
from causal_lm_opt.estimators._text_rows import TextTransformer, text_rows

__all__ = ["STYLE", "LogLength", "StyleFeatures", "style_features"]

FloatArray = npt.NDArray[np.float64]


class LogLength(TextTransformer):
    """Logarithm of one plus the number of words.

    Examples
    --------
    >>> LogLength().fit_transform(["good day to you", ""]).round(2).tolist()
    [[1.61], [0.0]]
    """

    def __init__(self, column: str = "text") -> None:
        self.column = column

    def transform(self, X: Any) -> FloatArray:
        """Log lengths, (n, 1)."""
        return np.log1p(count_words(text_rows(X, self.column).tolist()))[:, None]

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """Name of the column."""
        return np.array(["log words"], dtype=object)


_SENTENCE = re.compile(r"[.!?…]+(?=\s|$|[\"'”’)])")
_LIST_ITEM = re.compile(r"^\s*(?:[-*•–]|\d{1,2}[.)])\s", re.MULTILINE)
_NUMBER = re.compile(r"\d[\d.,]*")
_QUOTE = re.compile(r"[\"“”«»]")
_CLOSED = re.compile(r"[.!?…][\"'”’)*\]]*\s*$")
_YOU = frozenset(("you", "your", "yours", "yourself", "yourselves"))
_WE = frozenset(("we", "us", "our", "ours", "ourselves", "let's", "let’s"))
#: Names of the columns, in order.
STYLE = (
    "mean word length", "long words", "words per sentence", "distinct words", "repeated runs",
    "numbers", "questions", "exclamations", "quotation marks", "capitals", "list items",
    "paragraphs", "you", "we", "closed",
)  # fmt: skip


def style_features(text: str) -> tuple[float, ...]:
    """How a text is written, whatever it is about: the values of ``STYLE``.

    mean word length (letters); long words (share with 7 letters or more); words per sentence;
    distinct words over the root of twice the words (Carroll 1964; unlike the plain share it hardly
    falls with length); repeated runs (share of three-word runs that came before); numbers,
    quotation marks, "you" and "we" words (per 100 words; the last two know English only);
    questions and exclamations (signs per sentence); capitals (share of words of two letters or
    more written in capitals); list items (share of lines); paragraphs (log of their number); closed
    (1 where the end is a full stop or the like, 0 where the text breaks off). All 0 for an empty
    text.

    Examples
    --------
    >>> style = dict(zip(STYLE, style_features("Are you sure? I am. 100 % SURE"), strict=True))
    >>> style["questions"], style["you"], style["closed"]
    (0.5, 14.29, 0.0)
    """
    words = WORD.findall(text)
    if not words:
        return (0.0,) * len(STYLE)
    n = len(words)
    lower = [word.lower() for word in words]
    runs = list(zip(lower, lower[1:], lower[2:], strict=False))
    sentences = max(1, len(_SENTENCE.findall(text)))
    lines = [line for line in text.splitlines() if line.strip()]
    shouted = sum(len(word) > 1 and word.isupper() for word in words)
    return (
        sum(map(len, words)) / n,
        sum(len(word) >= 7 for word in words) / n,
        n / sentences,
        len(set(lower)) / float(np.sqrt(2 * n)),
        1 - len(set(runs)) / len(runs) if runs else 0.0,
        100 * len(_NUMBER.findall(text)) / n,
        text.count("?") / sentences,
        text.count("!") / sentences,
        100 * len(_QUOTE.findall(text)) / n,
        shouted / n,
        len(_LIST_ITEM.findall(text)) / len(lines),
        float(np.log(len(re.split(r"\n\s*\n", text.strip())))),
        100 * sum(word in _YOU for word in lower) / n,
        100 * sum(word in _WE for word in lower) / n,
        float(_CLOSED.search(text) is not None),
    )


class StyleFeatures(TextTransformer):
    """How texts are written, in 15 columns that have names; see `style_features`.

    Length is left out: see `LogLength`.

    Parameters
    ----------
    column : str
        See `text_rows`.

    Examples
    --------
    >>> style = StyleFeatures()
    >>> style.fit_transform(["Why? 3 of 4 say so!", "no"]).shape
    (2, 15)
    >>> style.get_feature_names_out()[:2].tolist()
    ['mean word length', 'long words']
    """

    def __init__(self, column: str = "text") -> None:
        self.column = column

    def transform(self, X: Any) -> FloatArray:
        """Style of each text, (n, 15); each distinct text is read once."""
        texts = text_rows(X, self.column).tolist()
        found = {text: style_features(text) for text in dict.fromkeys(texts)}
        return np.array([found[text] for text in texts]).reshape(len(texts), len(STYLE))

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """Names of the columns."""
        return np.array(STYLE, dtype=object)
