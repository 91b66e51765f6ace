"""Embeddings of simulated responses: a fixed random nonlinear map of latents, and noise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

__all__ = ["EmbeddingMap", "PreferencePairs", "label_by_reward"]

FloatArray = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
HIDDEN = 128
GAIN = 1.5
ROWS = 4096  # of a block: memory stays small at any number of pairs


@dataclass(frozen=True)
class EmbeddingMap:
    r""":math:`x = \sqrt{2/H}\, W_2 \tanh(g W_1 s/\sqrt{q} + b) + \sigma e`, weights fixed by seed.

    Parameters
    ----------
    inputs : int
        q, latents that the embedding shows.
    dimension : int
        d of the embedding.
    noise : float
        :math:`\sigma`, of each coordinate of the embedding (whose signal has variance about 1).
    seed : int
        Of :math:`W_1, W_2, b`, which have standard normal entries; H = 128, g = 1.5.
    """

    inputs: int
    dimension: int
    noise: float
    seed: int

    def __call__(self, latents: FloatArray, rng: np.random.Generator) -> Float32:
        """Embeddings (n, d), float32, of latents (n, q)."""
        first, offset, second = _weights(self.inputs, self.dimension, self.seed)
        out = np.empty((latents.shape[0], self.dimension), dtype=np.float32)
        for start in range(0, out.shape[0], ROWS):
            part = slice(start, start + ROWS)
            hidden = np.tanh(latents[part] @ first + offset)
            signal = hidden.astype(np.float32) @ second
            error = rng.standard_normal(signal.shape, dtype=np.float32)
            out[part] = signal + np.float32(self.noise) * error
        return out


@lru_cache(maxsize=8)
def _weights(inputs: int, dimension: int, seed: int) -> tuple[FloatArray, FloatArray, Float32]:
    rng = np.random.default_rng([seed, inputs, dimension])
    first = rng.standard_normal((inputs, HIDDEN)) * (GAIN / np.sqrt(inputs))
    offset = rng.standard_normal(HIDDEN)
    second = rng.standard_normal((HIDDEN, dimension)) * np.sqrt(2.0 / HIDDEN)
    return first, offset, second.astype(np.float32)


@dataclass(frozen=True, eq=False)
class PreferencePairs:
    """Pairs of responses of which the first was preferred.

    Attributes
    ----------
    chosen, rejected : arrays, shape (n, d), float32
        Embeddings.
    z_chosen, z_rejected : arrays, shape (n, K)
        Latents, between 0 and 1: hidden from models.
    tie : bool array, shape (n,)
        Pairs of equal reward, whose label is a coin's.
    objective, kind : int arrays, shape (n,), or None
        Objective seen by the model, and hidden type of the prompt.
    """

    chosen: Float32
    rejected: Float32
    z_chosen: FloatArray
    z_rejected: FloatArray
    tie: npt.NDArray[np.bool_]
    objective: npt.NDArray[np.int64] | None = None
    kind: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return int(self.tie.shape[0])

    @property
    def differences(self) -> FloatArray:
        """Latents of the chosen response minus those of the other, shape (n, K)."""
        return self.z_chosen - self.z_rejected

    @property
    def label(self) -> FloatArray:
        """Probability that the chosen response wins: 1, and .5 for ties (for scoring)."""
        return np.where(self.tie, 0.5, 1.0)


def label_by_reward(
    gap: FloatArray, rng: np.random.Generator
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Whether the first response of each pair is chosen, and whether it is a tie.

    Parameters
    ----------
    gap : array, shape (n,)
        Reward of the first response minus that of the second; ties fall by a fair coin.
    """
    coin = rng.random(gap.shape[0]) < 0.5
    tie = np.abs(gap) < 1e-9
    return np.where(tie, coin, gap > 0.0), tie
