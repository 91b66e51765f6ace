"""What every policy can do: score texts and draw them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

__all__ = ["EnumerablePolicy", "Policy"]


@runtime_checkable
class Policy(Protocol):
    """A distribution over texts: a language model, a known design, a simulated policy.

    Examples
    --------
    >>> from causal_lm_opt.datasets import PiecePolicy
    >>> coin = PiecePolicy({"a": ("Yes.", "No.")}, {"a": (0.5, 0.5)}, (("a",),), (1.0,))
    >>> isinstance(coin, Policy)
    True
    """

    def log_prob(self, texts: Iterable[str], /) -> NDArray[np.float64]:
        """Natural log-probabilities of n texts, (n,); ``-inf`` where a text cannot occur."""
        ...

    def sample(
        self, n: int, /, random_state: int | np.random.Generator | None = None
    ) -> Sequence[str]:
        """Draw n texts independently."""
        ...


@runtime_checkable
class EnumerablePolicy(Policy, Protocol):
    """A policy whose texts can be listed.

    Examples
    --------
    >>> from causal_lm_opt.datasets import PiecePolicy
    >>> coin = PiecePolicy({"a": ("Yes.", "No.")}, {"a": (0.5, 0.5)}, (("a",),), (1.0,))
    >>> isinstance(coin, EnumerablePolicy), coin.texts_support()[0]
    (True, ['Yes.', 'No.'])
    """

    def texts_support(self, limit: int = 200_000, /) -> tuple[list[str], NDArray[np.float64]]:
        """All texts, distinct, and their probabilities, which sum to one."""
        ...
