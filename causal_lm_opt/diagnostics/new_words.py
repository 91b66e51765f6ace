"""Words that a policy writes and no logged text holds."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse, stats
from scipy.sparse.csgraph import connected_components

from causal_lm_opt._validation import check_vector

__all__ = ["LoggedWords", "NewWords", "new_words", "words_of"]

FloatArray = npt.NDArray[np.float64]
#: Scripts without spaces between words are read by characters.
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")
SOME, MANY = 0.02, 0.05  # lower ends of the excess: caution, do not use
FEWEST = 10  # independent texts of a policy: of fewer nothing is said
#: Units are versions of one text if they share two rare words or more, and more than half of their
#: rare words. Rare is a word of at most one unit in 20, or 4; of 30 at most, as pairs are many.
SHARED, HALF = 2, 0.5
RARE, FEW_UNITS, MOST_UNITS = 1 / 20, 4, 30


@dataclass(frozen=True)
class NewWords:
    """How many of a policy's words no logged text holds, and how many are to be expected.

    Attributes
    ----------
    share : float
        Of the words of a policy's text, those that no logged text holds; the mean over its texts.
    expected : float
        Of the words of a logged text, those that no *other* logged text holds; the mean over
        distinct texts. Texts of the logging policy itself would have this share.
    se : float
        Standard error of ``share - expected``; infinite for fewer than 10 independent texts.
    dof : float
        Degrees of freedom of it.
    words : tuple of str
        The new words that most of the policy's texts hold.
    """

    share: float
    expected: float
    se: float
    dof: float
    words: tuple[str, ...]

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval of ``share - expected``."""
        return self.share - self.expected - float(stats.t.ppf(0.975, self.dof)) * self.se

    @property
    def findings(self) -> list[tuple[int, str]]:
        """Reasons for a verdict: severity (1 caution, 2 do not use) and words."""
        if not self.low > SOME:
            return []
        named = ", ".join(map(repr, self.words))
        return [(2 if self.low > MANY else 1, (
            f"{self.share:.0%} of the words that the policy writes stand in no logged text (most "
            f"often {named}), where {self.expected:.1%} were to be expected: no word of the log "
            "tells what they do to the outcome. Read some of its texts; value a policy that writes "
            "as the log does, or log such texts."
        ))]  # fmt: skip


@dataclass(frozen=True, eq=False)
class LoggedWords:
    """Words of a log, with which many policies' are compared: `new_words` counts them once.

    Attributes
    ----------
    holds : Counter
        Number of logged units that hold each word: clusters, or distinct texts. Edited versions
        of a text are one unit: none of them tells how often a further text has new words.
    expected, variance : float
        Mean over logged texts of the share of words that no other unit holds, and its variance.
    units : int
    length : float
        Mean number of words of a text.

    Examples
    --------
    >>> logged = LoggedWords.of(["join us today", "join us now"])
    >>> round(logged.expected, 3), new_words(logged, ["join them now"]).words
    (0.333, ('them',))
    """

    holds: Counter[str]
    expected: float
    variance: float
    units: int
    length: float

    @classmethod
    def of(cls, texts: Sequence[str], codes: Any = None, sample_weight: Any = None) -> LoggedWords:
        """Count the words of n texts.

        Parameters
        ----------
        texts : sequence of n str
        codes : integer array, shape (n,), optional
            Clusters, drawn one by one; without them equal texts are one unit and count once.
        sample_weight : array, shape (n,), optional
            Frequencies of the texts, with ``codes``.
        """
        if codes is None:
            texts = list(dict.fromkeys(texts))
            codes = np.arange(len(texts))
            sample_weight = None
        units = np.unique(codes, return_inverse=True)[1]
        distinct: dict[str, list[str]] = {}
        held: list[set[str]] = [set() for _ in range(int(units.max()) + 1)]
        for text, unit in zip(texts, units.tolist(), strict=True):
            if text not in distinct:
                distinct[text] = words_of(text)
            held[unit].update(distinct[text])
        units = _versions(held)[units]
        once = {(unit, word) for unit, text in zip(units.tolist(), texts, strict=True)
                for word in distinct[text]}  # fmt: skip
        holds = Counter(word for _, word in once)
        shares = {text: _share(words, holds, 1) for text, words in distinct.items()}
        own = np.array([shares[text] for text in texts])
        weight = np.ones(own.size) if sample_weight is None else np.asarray(sample_weight)
        weight = weight / weight.sum()
        expected = float(weight @ own)
        sums = np.bincount(units, weights=weight * (own - expected))
        length = float(np.mean([len(words) for words in distinct.values()]))
        return cls(holds, expected, float(sums @ sums), np.unique(units).size, length)


def new_words(
    texts: Sequence[str] | LoggedWords,
    texts_target: Sequence[str],
    *,
    target_weight: Any = None,
    codes_target: Any = None,
    exact: bool = False,
) -> NewWords:
    r"""Compare the words a policy's texts do not share with the log with those of a logged text.

    With :math:`C(w)` the number of distinct logged texts (or clusters, of
    :class:`LoggedWords`) that hold the word w, :math:`d_j` is the share of the words of draw j with
    :math:`C(w) = 0`, and :math:`h_i` that of logged text i with :math:`C(w) = 1`, which no other
    one holds. For further texts of the logging policy both
    have the same mean (but for one text more or less in the log). Features that are made of the
    log's words are blind to the others, and so are outcome models that read them: a model that
    writes no language at all may look to them as the log does.

    Parameters
    ----------
    texts : sequence of n str, or LoggedWords
        Logged texts; equal ones count once.
    texts_target : sequence of m str
        Of the policy. Those that answer prompts must answer the log's.
    target_weight : array, shape (m,), optional
        Frequencies, or probabilities.
    codes_target : array, shape (m,), optional
        Clusters of the policy's texts (prompts).
    exact : bool
        The policy's texts are all that it writes: its share has no sampling error.

    Raises
    ------
    ValueError
        Without texts of either kind.

    Examples
    --------
    >>> log = ["join us today", "join us now", "stay at home today", "stay at work now"]
    >>> found = new_words(log, ["join us at home", "jion su ta hoem"])
    >>> found.share, found.words[:2]
    (0.5, ('hoem', 'jion'))
    """
    none = not isinstance(texts, LoggedWords) and not len(texts)
    if none or not len(texts_target):
        raise ValueError("new_words needs logged texts and texts of the policy.")
    logged = texts if isinstance(texts, LoggedWords) else LoggedWords.of(texts)
    drawn = [words_of(text) for text in texts_target]
    weight = np.ones(len(drawn))
    if target_weight is not None:
        weight = check_vector(target_weight, "target_weight", len(drawn))
    weight = weight / weight.sum()
    new = np.array([_share(words, logged.holds, 0) for words in drawn])
    share = float(weight @ new)
    off = weight * (new - share)
    if codes_target is not None:
        off = np.bincount(np.unique(codes_target, return_inverse=True)[1], weights=off)
    variance, units = logged.variance, float(logged.units)
    if not exact:
        units = min(units, float(off.size))
        variance = math.inf if off.size < FEWEST else variance + float(off @ off)
    count: Counter[str] = Counter()
    for words, mine in zip(drawn, weight, strict=True):
        for word in set(words).difference(logged.holds):
            count[word] += mine
    most = [word for word, mine in sorted(count.items(), key=lambda x: (-x[1], x[0])) if mine > 0]
    dof = max(units - 1.0, 1.0)
    return NewWords(share, logged.expected, math.sqrt(variance), dof, tuple(most[:3]))


def _versions(held: list[set[str]]) -> npt.NDArray[np.intp]:
    """Codes (k,) of k units' sets of words, the same for edited versions of one text."""
    count = Counter(word for words in held for word in words)
    most = min(MOST_UNITS, max(FEW_UNITS, RARE * len(held)))
    holders: dict[str, list[int]] = {}
    size = [0] * len(held)  # rare words of each
    for unit, words in enumerate(held):
        for word in words:
            if count[word] <= most:
                holders.setdefault(word, []).append(unit)
                size[unit] += 1
    both = Counter(pair for units in holders.values() for pair in combinations(units, 2))
    close = [
        (a, b) for (a, b), shared in both.items()
        if shared >= SHARED and shared > HALF * (size[a] + size[b] - shared)
    ]  # fmt: skip
    a, b = np.array(close, dtype=np.intp).reshape(-1, 2).T
    graph = sparse.coo_array((np.ones(a.size), (a, b)), shape=(len(held), len(held)))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.intp)


def words_of(text: str) -> list[str]:
    """Words of a text, in lower case and order; scripts without spaces by characters."""
    return WORD.findall(text.lower())


def _share(words: list[str], holds: Counter[str], count: int) -> float:
    """Share of some words that so many logged texts hold; 0 of no words."""
    return float(np.mean([holds[word] == count for word in words])) if words else 0.0
