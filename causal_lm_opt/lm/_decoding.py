"""How next-token probabilities follow from logits: temperature and truncation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Decoding"]


@dataclass(frozen=True)
class Decoding:
    """Temperature, then the k likeliest tokens, then the smallest set of probability ``top_p``.

    The order, and the treatment of ties, are those of Hugging Face's ``generate``, so that a log
    written with it can be scored.

    Attributes
    ----------
    temperature : float, default 1
    top_k : int, default 0
        Tokens kept; 0 keeps all. A token as likely as the last one kept is kept too.
    top_p : float, default 1
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(
                f"temperature must be a positive number, got {self.temperature!r}; greedy decoding "
                "(temperature 0) is no distribution over texts that could be weighted."
            )
        if isinstance(self.top_k, bool) or not isinstance(self.top_k, int) or self.top_k < 0:
            raise ValueError(f"top_k must be an integer >= 0 (0 keeps all), got {self.top_k!r}.")
        if not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"top_p must lie in (0, 1], got {self.top_p!r}.")

    @property
    def truncates(self) -> bool:
        """Whether some tokens get probability 0."""
        return self.top_k > 0 or self.top_p < 1.0

    @property
    def is_plain(self) -> bool:
        """Whether this is the model's own distribution."""
        return self.temperature == 1.0 and not self.truncates

    def describe(self) -> str:
        """In words, for messages."""
        if self.is_plain:
            return "the model's own distribution (temperature 1, nothing truncated)"
        parts = [f"temperature {self.temperature:g}"]
        parts += [f"top_k {self.top_k}"] if self.top_k else []
        parts += [f"top_p {self.top_p:g}"] if self.top_p < 1.0 else []
        return "the model at " + ", ".join(parts)

    def log_probs(self, logits: Tensor) -> Tensor:
        """Log-probabilities of the next token, (N, V), ``-inf`` for tokens cut off.

        Parameters
        ----------
        logits : (N, V) tensor
            Half precision is raised to float32.

        Examples
        --------
        >>> Decoding(top_k=2).log_probs(torch.tensor([[0.0, 0.0, -9.0]])).exp().tolist()
        [[0.5, 0.5, 0.0]]
        """
        z = logits if logits.dtype == torch.float64 else logits.float()
        z = z / self.temperature
        if 0 < self.top_k < z.shape[1]:
            last = z.topk(self.top_k, dim=1).values[:, -1:]
            z = z.masked_fill(z < last, -math.inf)
        if self.top_p < 1.0:
            ascending, order = z.sort(dim=1)
            below = ascending.softmax(1).cumsum(1) <= 1.0 - self.top_p
            below[:, -1] = False  # the likeliest token always stays
            z = z.masked_fill(below.scatter(1, order, below), -math.inf)
        return z.log_softmax(1)
