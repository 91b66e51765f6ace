"""The pieces a policy can write, and the parse of a text into them.

A text is a sequence of pieces joined by one space. Pieces hold spaces themselves, so one text can
have several parses ("A B" may be one piece or two); a probability must add all of them up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__: list[str] = []

ArmSequence = tuple[str, ...]
ArmLogProbs = dict[ArmSequence, float]

# A parse cache past this many texts is started anew, so that memory stays bounded.
_CACHE_LIMIT = 200_000


def as_texts(texts: Iterable[str], name: str = "texts") -> list[str]:
    """Check that ``texts`` is an iterable of strings and return it as a list.

    Parameters
    ----------
    texts : iterable of str
        A list, array or pandas Series of texts; one bare string is refused.
    name : str
        The argument's name, for the messages.

    Returns
    -------
    list of str

    Raises
    ------
    TypeError
        If ``texts`` is one string, or holds something that is not a string.
    """
    if isinstance(texts, str):
        raise TypeError(f"{name} is one string; pass a list of texts, such as [{name}].")
    listed = list(texts)
    for index, text in enumerate(listed):
        if not isinstance(text, str):
            raise TypeError(
                f"{name}[{index}] is a {type(text).__name__}, not a string; "
                "drop or fill missing texts first."
            )
    return listed


def check_wordings(
    wordings: Mapping[str, Iterable[str]], wording_prob: Mapping[str, Iterable[float]]
) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[float, ...]]]:
    """Check the arms' wordings with their probabilities and return plain copies.

    Parameters
    ----------
    wordings : mapping of arm name to distinct, non-empty texts
    wording_prob : mapping of arm name to as many positive probabilities, which sum to one

    Returns
    -------
    tuple of dict
        The wordings and their probabilities, scaled to sum to one.

    Raises
    ------
    ValueError
        If an arm has no wording, a wording is empty or listed twice, or probabilities do not fit.
    """
    if not wordings:
        raise ValueError("wordings is empty; name at least one arm with one wording.")
    if set(wordings) != set(wording_prob):
        odd = sorted(set(wordings) ^ set(wording_prob))
        raise ValueError(f"wordings and wording_prob must name the same arms; differing: {odd}.")
    checked = {arm: tuple(as_texts(wordings[arm], f"wordings[{arm!r}]")) for arm in wordings}
    probs: dict[str, tuple[float, ...]] = {}
    for arm, pieces in checked.items():
        if not pieces or "" in pieces or len(set(pieces)) < len(pieces):
            raise ValueError(f"wordings[{arm!r}] must hold distinct, non-empty texts.")
        values = np.asarray(list(wording_prob[arm]), dtype=np.float64)
        if values.shape != (len(pieces),):
            raise ValueError(
                f"wording_prob[{arm!r}] has {values.size} entries for {len(pieces)} wordings."
            )
        probs[arm] = tuple(check_probabilities(values, f"wording_prob[{arm!r}]").tolist())
    return checked, probs


def check_probabilities(
    values: ArrayLike, name: str, *, positive: bool = True
) -> NDArray[np.float64]:
    """Return ``values`` scaled to sum to one, or raise ValueError naming ``name``."""
    array = np.asarray(values, dtype=np.float64)
    low = array.min() if array.size else math.nan
    in_range = low > 0 or (low == 0 and not positive)
    if array.ndim != 1 or not np.isfinite(array).all() or not in_range:
        kind = "positive" if positive else "non-negative"
        raise ValueError(f"{name} must be finite, {kind} probabilities; the smallest is {low}.")
    total = float(array.sum())
    if abs(total - 1.0) > 1e-8:
        raise ValueError(f"{name} sums to {total!r}; it must sum to 1.")
    # Left alone when the sum is right, so that checking twice changes no bit.
    scaled: NDArray[np.float64] = array.copy() if abs(total - 1.0) < 1e-12 else array / total
    return scaled


class Vocabulary:
    """Pieces by arm with their log-probabilities, and a cached parser.

    Parameters
    ----------
    wordings : dict of arm name to texts
    wording_prob : dict of arm name to probabilities
    max_pieces : int
        The longest parse looked for.
    """

    def __init__(
        self,
        wordings: dict[str, tuple[str, ...]],
        wording_prob: dict[str, tuple[float, ...]],
        max_pieces: int,
    ) -> None:
        self.max_pieces = max_pieces
        self._wordings = wordings
        self._wording_prob = wording_prob
        self._cache: dict[str, ArmLogProbs] = {}
        # Pieces are found by their first word, so that a parse does not try all of them.
        self._by_first_word: dict[str, list[tuple[str, str, float]]] = {}
        for arm, pieces in wordings.items():
            for piece, prob in zip(pieces, wording_prob[arm], strict=True):
                first = piece.partition(" ")[0]
                entry = (piece, arm, math.log(prob))
                self._by_first_word.setdefault(first, []).append(entry)

    def serves(
        self,
        wordings: dict[str, tuple[str, ...]],
        wording_prob: dict[str, tuple[float, ...]],
        longest: int,
    ) -> bool:
        """Say whether this vocabulary is right for a policy with these pieces and lengths."""
        return (
            longest <= self.max_pieces
            and wordings == self._wordings
            and wording_prob == self._wording_prob
        )

    def parse(self, text: str) -> ArmLogProbs:
        """Return, for each arm sequence that can write ``text``, log P(text | arm sequence)."""
        found = self._cache.get(text)
        if found is None:
            if len(self._cache) >= _CACHE_LIMIT:
                self._cache.clear()
            found = self._parse(text, 0, self.max_pieces, {})
            self._cache[text] = found
        return found

    def _parse(
        self, text: str, start: int, left: int, memo: dict[tuple[int, int], ArmLogProbs]
    ) -> ArmLogProbs:
        """Parse ``text[start:]`` into at most ``left`` pieces."""
        if left == 0:
            return {}
        key = (start, left)
        if key in memo:
            return memo[key]
        end_of_word = text.find(" ", start)
        first = text[start:] if end_of_word < 0 else text[start:end_of_word]
        found: ArmLogProbs = {}
        for piece, arm, logp in self._by_first_word.get(first, ()):
            stop = start + len(piece)
            if not text.startswith(piece, start):
                continue
            if stop == len(text):
                _add(found, (arm,), logp)
            elif text[stop] == " ":
                for arms, rest in self._parse(text, stop + 1, left - 1, memo).items():
                    _add(found, (arm, *arms), logp + rest)
        memo[key] = found
        return found


def _add(found: ArmLogProbs, arms: ArmSequence, logp: float) -> None:
    """Add the probability ``exp(logp)`` to ``found[arms]``, in log space."""
    before = found.get(arms)
    found[arms] = logp if before is None else float(np.logaddexp(before, logp))
