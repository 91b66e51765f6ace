"""A small set of readable features of texts, for balance tables and Love plots."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = ["count_words", "frequent_words", "text_features"]

WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
COUNT = 30


def _words(text: str) -> list[str]:
    """Words in lower case: letters and digits, with apostrophes and hyphens inside."""
    return WORD.findall(text.lower())


def count_words(texts: Sequence[str]) -> npt.NDArray[np.float64]:
    """Number of words of each text, shape (n,).

    Examples
    --------
    >>> count_words(["Don't wait, Anna!", "..."]).tolist()
    [3.0, 0.0]
    """
    codes, distinct = pd.factorize(np.asarray(texts, dtype=object))
    return np.array([float(len(_words(text))) for text in distinct])[codes]


def frequent_words(*collections: Sequence[str], count: int = COUNT) -> tuple[str, ...]:
    """The words that occur in most texts of all collections together, in alphabetical order.

    Words of every text are left out, as they tell no texts apart. Ties go to the word that comes
    first in the alphabet, so that the order of the texts does not matter.

    Parameters
    ----------
    collections : sequences of str
        Logged texts, draws of each policy, ...
    count : int

    Examples
    --------
    >>> frequent_words(["to be", "to see"], ["to be or not"], count=2)
    ('be', 'not')
    """
    texts = Counter(str(text) for collection in collections for text in collection)
    holding: Counter[str] = Counter()
    for text, times in texts.items():
        holding.update(dict.fromkeys(_words(text), times))
    total = sum(texts.values())
    telling = [(word, held) for word, held in holding.items() if held < total]
    telling.sort(key=lambda pair: (-pair[1], pair[0]))
    return tuple(sorted(word for word, _ in telling[:count]))


def text_features(texts: Sequence[str], words: Sequence[str] | None = None) -> pd.DataFrame:
    """Length and vocabulary of texts, one row a text.

    A crude set that needs no model: it sees a shift of length or of common words, and no shift of
    meaning that leaves these alone. Nothing here looks at outcomes.

    Parameters
    ----------
    texts : sequence of n str
    words : sequence of str, optional
        Lower-case words; by default :func:`frequent_words` of these texts. Choose them once for
        log and draws together.

    Returns
    -------
    DataFrame, shape (n, 3 + len(words))
        ``characters``, ``words``, ``mean word length`` (0 without words), and ``word: ...``: 1
        where the text holds that word.

    Examples
    --------
    >>> text_features(["Good day", "Bad day, bad night"], ["bad"]).T.round(1)
                        0     1
    characters        8.0  18.0
    words             2.0   4.0
    mean word length  3.5   3.5
    word: bad         0.0   1.0
    """
    codes, distinct = pd.factorize(np.asarray(texts, dtype=object))
    listed = frequent_words(texts) if words is None else tuple(words)
    position = {word: 3 + j for j, word in enumerate(listed)}
    rows = np.zeros((len(distinct), 3 + len(listed)))
    for row, text in zip(rows, distinct, strict=True):
        found = _words(text)
        row[:2] = len(text), len(found)
        row[2] = sum(map(len, found)) / len(found) if found else 0.0
        row[[position[word] for word in set(found) & position.keys()]] = 1.0
    columns = ["characters", "words", "mean word length", *(f"word: {word}" for word in listed)]
    return pd.DataFrame(rows[codes], columns=columns)
