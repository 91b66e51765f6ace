r"""A semi-synthetic world: the texts and the randomisation of a real experiment, a known outcome.

Texts are made of pieces of some arms, as :class:`~causal_lm_opt.datasets.PiecePolicy` has them. The
mean outcome is a function of which arms a text speaks of, and is defined for any text, also for one
that a language model wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from causal_lm_opt.datasets.pieces import PiecePolicy
from causal_lm_opt.simulation._checks import check_count, check_number

__all__ = ["PieceWorld"]

FloatArray = npt.NDArray[np.float64]
WORD = re.compile(r"\w+")


@dataclass(frozen=True, eq=False)
class PieceWorld:
    r"""Texts of a design of pieces, with a known mean outcome of any text.

    .. math:: g(x) = \text{base} + \sum_{a \in z(x)} \text{effect}_a

    where z(x) are the arms the text speaks of: those of which it has at least one run of
    ``words`` words that only this arm's pieces have.

    Parameters
    ----------
    design : PiecePolicy
        The logging policy.
    effects : mapping arm -> float
        In outcome units; arms left out have 0.
    base : float
    scale : float
        Standard deviation of a reader's answer about the mean.
    words : int
        Length of the runs that tell arms.

    Raises
    ------
    ValueError
        If an arm is unknown, or a piece holds no such run of its arm's own.

    Examples
    --------
    >>> design = PiecePolicy(
    ...     {"greet": ("Hello to you, dear friend.",), "ask": ("Will you join us today?",)},
    ...     {"greet": (1.0,), "ask": (1.0,)}, (("ask",), ("greet", "ask")), (0.5, 0.5))
    >>> world = PieceWorld(design, {"greet": 2.0}, base=1.0)
    >>> world.mean_outcome(["Oh, hello to you, dear!", "Will you join us"]).tolist()
    [3.0, 1.0]
    >>> world.value(design), world.best_value
    (2.0, 3.0)
    """

    design: PiecePolicy
    effects: Mapping[str, float]
    base: float = 50.0
    scale: float = 20.0
    words: int = 4

    def __post_init__(self) -> None:
        unknown = sorted(set(self.effects) - set(self.design.arms))
        if unknown:
            raise ValueError(f"effects: {unknown[0]!r} is no arm; arms are {self.design.arms}.")
        check_number(self.base, "base")
        check_number(self.scale, "scale", above=0.0)
        check_count(self.words, "words", 1)
        for arm, pieces in self.design.wordings.items():
            for piece in pieces:
                if not any(self._arm_of.get(run) == arm for run in _runs(piece, self.words)):
                    raise ValueError(
                        f"nothing tells the piece {piece!r} of arm {arm!r} from other arms' "
                        f"pieces: no run of {self.words} words is its arm's own; change words."
                    )

    # ------------------------------------------------------------------ texts
    @cached_property
    def _arm_of(self) -> dict[tuple[str, ...], str]:
        """Runs of words that one arm alone has, and that arm."""
        holders: dict[tuple[str, ...], set[str]] = {}
        for arm, pieces in self.design.wordings.items():
            for piece in pieces:
                for run in _runs(piece, self.words):
                    holders.setdefault(run, set()).add(arm)
        return {run: next(iter(arms)) for run, arms in holders.items() if len(arms) == 1}

    def features(self, texts: Iterable[str]) -> pd.DataFrame:
        """0/1 indicators (n, A) of the arms each text speaks of: what outcomes respond to."""
        arms = list(self.design.arms)
        found = [{self._arm_of.get(run) for run in _runs(text, self.words)} for text in texts]
        rows = [[float(arm in some) for arm in arms] for some in found]
        return pd.DataFrame(np.reshape(np.array(rows), (-1, len(arms))), columns=arms)

    def mean_outcome(self, texts: Iterable[str]) -> FloatArray:
        """The oracle g(x) of n texts, any texts, shape (n,)."""
        z = self.features(texts)
        slopes = np.array([float(self.effects.get(arm, 0.0)) for arm in z.columns])
        return np.asarray(self.base + z.to_numpy() @ slopes)

    def outcomes(
        self, texts: Sequence[str], random_state: int | np.random.Generator | None = None
    ) -> FloatArray:
        """One reader's answer to each of n texts, shape (n,)."""
        rng = np.random.default_rng(random_state)
        g = self.mean_outcome(texts)
        return np.asarray(g + self.scale * rng.normal(size=g.size))

    # ------------------------------------------------------------------ truth
    @cached_property
    def _means(self) -> FloatArray:
        """Mean outcome of each of the design's sequences of arms (S,)."""
        return np.array(
            [self.base + sum(self.effects.get(a, 0.0) for a in set(s))
             for s in self.design.sequences]
        )  # fmt: skip

    def value(self, policy: PiecePolicy | None = None) -> float:
        """Mean outcome of a policy over the design's pieces (default the design), exactly."""
        policy = self.design if policy is None else policy
        means = dict(zip(self.design.sequences, self._means, strict=True))
        return float(sum(
            p * means[s] for s, p in zip(policy.sequences, policy.sequence_prob, strict=True)
        ))  # fmt: skip

    @property
    def best_value(self) -> float:
        """The largest mean outcome of a text of the design, V_max."""
        return float(self._means.max())

    @property
    def sd(self) -> float:
        """Standard deviation of g over the design's texts."""
        p = np.asarray(self.design.sequence_prob)
        return float(np.sqrt(p @ np.square(self._means - p @ self._means)))


def _runs(text: str, words: int) -> list[tuple[str, ...]]:
    """Runs of words of a text, in small letters."""
    found = [w.lower() for w in WORD.findall(text)]
    return list(zip(*(found[i:] for i in range(words)), strict=False))
