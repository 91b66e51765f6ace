"""Texts of a policy that put words side by side which stand so in no logged text."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import stats

from causal_lm_opt.diagnostics.new_words import FEWEST, words_of

__all__ = ["LoggedPairs", "NewPairs", "new_pairs"]

SOME, MANY = 0.05, 0.2  # lower ends of the excess over what is due: caution, do not use
NAMED = 3

Pair = tuple[str, str]


@dataclass(frozen=True)
class NewPairs:
    """How many of a policy's texts hold a pair of neighbours that no logged text holds.

    Attributes
    ----------
    share : float
        Of the policy's texts.
    expected : float
        Of the logged texts, those with a pair that no *other* logged text holds: texts of the
        logging policy itself would have this share. Of free texts nearly all have one, and nothing
        can be said.
    se : float
        Standard error of ``share - expected``; infinite for fewer than 10 independent texts.
    dof : float
        Degrees of freedom of it.
    pairs : tuple of str
        The new pairs that most of the policy's texts hold.

    Examples
    --------
    >>> found = new_pairs(["join us now", "stay at home", "stay home now"] * 5, ["join home now"])
    >>> found.share, found.expected, found.pairs
    (1.0, 1.0, ('join home',))
    """

    share: float
    expected: float
    se: float
    dof: float
    pairs: tuple[str, ...]

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval of ``share - expected``."""
        return self.share - self.expected - float(stats.t.ppf(0.975, self.dof)) * self.se

    @property
    def findings(self) -> list[tuple[int, str]]:
        """Caution (severity and words) for texts made of scraps of logged ones."""
        if not self.low > SOME:
            return []
        named = ", ".join(map(repr, self.pairs))
        return [(1, (
            f"{self.share:.0%} of the policy's texts put words side by side that stand so in no "
            f"logged text (most often {named}), where {self.expected:.0%} were to be expected: "
            "scraps of logged texts, taken to be worth what they add up to. Read some; value a "
            "policy that writes as the log does, or log such texts."
        ))]  # fmt: skip


@dataclass(frozen=True, eq=False)
class LoggedPairs:
    """Pairs of neighbouring words of a log, with which many policies' are compared.

    Attributes
    ----------
    holds : Counter
        Number of distinct logged texts (of each prompt) that hold each pair.
    expected : float
        Share of these texts with a pair that no other holds.
    units : int
        How many they are.

    Examples
    --------
    >>> LoggedPairs.of(["join us now", "join us now", "join us soon"]).expected
    1.0
    """

    holds: Counter[Pair]
    expected: float
    units: int

    @classmethod
    def of(cls, texts: Sequence[str], prompts: Sequence[Hashable] | None = None) -> LoggedPairs:
        """Count the pairs of n texts; equal ones (that answer one prompt) count once."""
        labels: Sequence[Hashable] = [None] * len(texts) if prompts is None else prompts
        units = dict.fromkeys(zip(labels, texts, strict=True))
        known = {text: frozenset(_pairs(text)) for _, text in units}
        holds = Counter(pair for _, text in units for pair in known[text])
        alone = {text: any(holds[pair] == 1 for pair in pairs) for text, pairs in known.items()}
        return cls(holds, float(np.mean([alone[text] for _, text in units])), len(units))


def new_pairs(
    texts: Sequence[str] | LoggedPairs,
    texts_target: Sequence[str],
    *,
    prompts: Sequence[Hashable] | None = None,
    codes_target: Any = None,
) -> NewPairs:
    """Compare a policy's texts with logged ones by their pairs of neighbouring words.

    A model that has not learnt to write the logged texts, or was led away from them, strings scraps
    of them together. Each scrap is logged, so that features and outcome models know all of their
    words; what such a text does to a reader nobody has seen.

    Parameters
    ----------
    texts : sequence of n str, or LoggedPairs
        Logged texts; equal ones (that answer one prompt) count once.
    texts_target : sequence of m str
        Of the policy.
    prompts : sequence of n labels, optional
        Prompts of the logged texts.
    codes_target : array, shape (m,), optional
        Clusters of the policy's texts (prompts).

    Raises
    ------
    ValueError
        Without texts of either kind.

    Examples
    --------
    >>> log = [f"{a} us {b}" for a in ("join", "help", "see") for b in ("today", "now", "soon")]
    >>> found = new_pairs(log, ["join us now"] * 20 + ["join now soon"] * 20)
    >>> found.share, found.expected, found.pairs
    (0.5, 0.0, ('join now', 'now soon'))
    """
    none = not isinstance(texts, LoggedPairs) and not len(texts)
    if none or not len(texts_target):
        raise ValueError("new_pairs needs logged texts and texts of the policy.")
    logged = texts if isinstance(texts, LoggedPairs) else LoggedPairs.of(texts, prompts)
    fresh = [set(_pairs(text)).difference(logged.holds) for text in texts_target]
    new = np.array([bool(pairs) for pairs in fresh], dtype=np.float64)
    share = float(new.mean())
    off = np.asarray((new - share) / new.size)
    if codes_target is not None:
        units = np.unique(codes_target, return_inverse=True)[1]
        off = np.bincount(units, weights=off).astype(np.float64)
    expected = logged.expected
    variance = expected * (1.0 - expected) / logged.units + float(off @ off)
    se = math.sqrt(variance) if off.size >= FEWEST else math.inf
    count = Counter(pair for pairs in fresh for pair in pairs)
    most = sorted(count, key=lambda pair: (-count[pair], pair))[:NAMED]
    dof = max(float(min(off.size, logged.units)) - 1.0, 1.0)
    return NewPairs(share, expected, se, dof, tuple(" ".join(pair) for pair in most))


def _pairs(text: str) -> Iterator[Pair]:
    return pairwise(words_of(text))
