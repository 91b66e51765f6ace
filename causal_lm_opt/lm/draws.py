"""Texts drawn from a language model, with the log-probability of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import overload

import numpy as np
from numpy.typing import NDArray

__all__ = ["Draws"]


@dataclass(frozen=True, eq=False, repr=False)
class Draws(Sequence[str]):
    """A sequence of m texts and what is known of how each was drawn.

    Use it wherever a list of texts is taken.

    Attributes
    ----------
    texts : tuple of m str
    log_prob : (m,) float64 array
        Natural log-probability of the tokens drawn, under the distribution really drawn from.
    token_ids : tuple of m tuples of int
        The tokens drawn; the end token last where it was drawn.
    finished : (m,) bool array
        Whether the text ended by itself. Where False it was cut at the limit, and ``log_prob`` is
        the probability that a text begins so.
    canonical : (m,) bool array
        Whether encoding the text gives back the tokens drawn. Where False the model took an
        unusual way of spelling it, `LanguageModelPolicy.log_prob` of the text is that of the usual
        way, and only `log_prob_ids` of ``token_ids`` repeats ``log_prob``.
    prompt_index : (m,) int array
        Position of each draw's prompt; 0 where there were no prompts.
    source : str
        The distribution drawn from, in words.
    """

    texts: tuple[str, ...]
    log_prob: NDArray[np.float64]
    token_ids: tuple[tuple[int, ...], ...] = field(repr=False)
    finished: NDArray[np.bool_]
    canonical: NDArray[np.bool_]
    prompt_index: NDArray[np.intp]
    source: str

    def __len__(self) -> int:
        return len(self.texts)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        return self.texts[index]

    def __repr__(self) -> str:
        unfinished = len(self) - int(self.finished.sum())
        unusual = len(self) - int(self.canonical.sum())
        return (
            f"<Draws: {len(self)} texts from {self.source}; {unfinished} cut at the limit, "
            f"{unusual} spelt in unusual tokens>"
        )
