"""The second study of Kobalczyk and van der Schaar (2025): objectives confounded with prompts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from causal_lm_opt.simulation._checks import check_choice, check_count, check_number
from causal_lm_opt.simulation._difference_law import (
    DifferenceLaw,
    independent_law,
    level_differences,
)
from causal_lm_opt.simulation._embedding import EmbeddingMap, PreferencePairs, label_by_reward
from causal_lm_opt.simulation.correlation_shift import reliability_of, two_ratings

__all__ = ["UserObjectiveWorld"]

FloatArray = npt.NDArray[np.float64]
SHARES = {"consistent": 1.0, "inconsistent": 0.0}


@dataclass(frozen=True)
class UserObjectiveWorld:
    r"""Users who judge by an objective also tend to write prompts of its type.

    A prompt has a type :math:`t \in \{0, 1\}` (half each), which is never told but shows in the
    embeddings of both responses; the user has an objective :math:`c`, which is told, with
    :math:`P(c = t) = \rho`. Both responses have two ratings :math:`z_0, z_1`, independent of all
    that and of each other, uniform on ``levels`` steps from 0 to 1. The user prefers by

    .. math:: r_c = (1 - \text{shared})\, z_c + \text{shared}\, z_{1-c},

    without noise, ties by a coin. So preferences depend on the objective and never on the type
    (unconfounded given c), and at :math:`\rho = 1` no pair shows an objective on prompts of the
    other type: positivity given c fails, and a model may read "the rating that fits the type" in
    place of "the rating that fits the objective".

    The embedding is a fixed random nonlinear map of the noisy latents (as in
    :class:`CorrelationShiftWorld`), the type as :math:`\pm` ``type_strength``, nuisance that the
    two responses share (the prompt's) and nuisance of each response. As the map is nonlinear, the
    same rating looks a little different on prompts of the two types; with ``entanglement`` it
    looks as different as wanted, up to ratings that show in other directions altogether.

    Parameters
    ----------
    levels : int
    noise : {"low", "medium", "high"} or float
        As in :class:`CorrelationShiftWorld`.
    shared : float
        Between 0 and .5: what the objectives have in common.
    type_strength : float
        How strongly the type shows, in standard deviations of a rating; 0 hides it.
    dimension, nuisance, embedding_noise, map_seed
        As in :class:`CorrelationShiftWorld`.
    prompt_nuisance : int
        Nuisance latents that both responses of a pair share.
    entanglement : float
        Between 0 and 1: share of each rating's signal (of its variance) that enters the map by
        weights of the prompt's type alone. At 1 nothing that is learnt about ratings on prompts of
        one type carries over to the other. Added after the first results at 0, in which it did.

    Raises
    ------
    ValueError
        Settings that make no sense.

    Examples
    --------
    >>> world = UserObjectiveWorld(dimension=16)
    >>> pairs = world.pairs(1000, 0.8, np.random.default_rng(0))
    >>> abs(float((pairs.objective == pairs.kind).mean()) - 0.8) < 0.05
    True
    >>> round(world.objective_accuracy(), 3), round(world.type_accuracy(), 3)   # when c is not t
    (0.689, 0.556)
    """

    levels: int = 5
    noise: str | float = "high"
    shared: float = 0.1
    type_strength: float = 2.0
    dimension: int = 256
    nuisance: int = 8
    prompt_nuisance: int = 4
    embedding_noise: float = 0.5
    map_seed: int = 20250605
    entanglement: float = 0.0

    def __post_init__(self) -> None:
        check_count(self.levels, "levels", 2)
        reliability_of(self.noise)
        if check_number(self.shared, "shared", least=0.0) > 0.5:
            raise ValueError(f"shared must lie in [0, .5], got {self.shared!r}.")
        check_number(self.type_strength, "type_strength", least=0.0)
        check_count(self.dimension, "dimension")
        check_count(self.nuisance, "nuisance", 0)
        check_count(self.prompt_nuisance, "prompt_nuisance", 0)
        check_number(self.embedding_noise, "embedding_noise", least=0.0)
        check_count(self.map_seed, "map_seed", 0)
        if check_number(self.entanglement, "entanglement", least=0.0) > 1.0:
            raise ValueError(f"entanglement must lie in [0, 1], got {self.entanglement!r}.")

    @property
    def z_sd(self) -> float:
        """Standard deviation of each rating."""
        return math.sqrt((self.levels**2 - 1) / 12.0) / (self.levels - 1)

    @property
    def tau(self) -> float:
        """Noise of each rating as the embedding shows it, in its standard deviations."""
        return math.sqrt(1.0 / reliability_of(self.noise) - 1.0)

    def law(self) -> DifferenceLaw:
        """Law of the ratings' differences: independent, whatever type and objective."""
        return independent_law(*level_differences(self.levels), 2)

    def reward(self, z: FloatArray, objective: npt.NDArray[np.int64]) -> FloatArray:
        """True reward of ratings (n, 2) under objectives (n,), shape (n,)."""
        own = np.take_along_axis(z, objective[:, None], axis=1)[:, 0]
        return np.asarray((1.0 - self.shared) * own + self.shared * (z.sum(axis=1) - own))

    # ------------------------------------------------------------------ truth by enumeration
    def ceiling(self) -> float:
        """Accuracy of the true reward: 1 less half the share of ties."""
        law = self.law()
        gap = self.reward(law.cells, np.zeros(law.probs.size, dtype=np.int64))
        return 1.0 - 0.5 * float(law.probs[np.abs(gap) < 1e-9].sum())

    def objective_accuracy(self) -> float:
        """Accuracy of the objective's reward on the ratings as the embedding shows them."""
        return self._accuracy(0)

    def type_accuracy(self) -> float:
        """Accuracy on inconsistent pairs of a model that takes the type for the objective."""
        return self._accuracy(1)

    def _accuracy(self, read: int) -> float:
        law = self.law()
        first = np.zeros(law.probs.size, dtype=np.int64)
        gap, seen = self.reward(law.cells, first), self.reward(law.cells, first + read)
        size = math.hypot(1.0 - self.shared, self.shared)
        spread = math.sqrt(2.0) * self.tau * self.z_sd * size
        toward = np.sign(gap) * seen
        if spread > 0.0:
            right = ndtr(toward / spread)
        else:
            right = np.where(np.abs(toward) < 1e-9, 0.5, toward > 0.0)
        return float(law.probs @ np.where(np.abs(gap) < 1e-9, 0.5, right))

    # ------------------------------------------------------------------ draws
    def pairs(self, n: int, rho: float, rng: np.random.Generator) -> PreferencePairs:
        """Draw n labelled pairs, of which a share ``rho`` on average has objective = type.

        Raises
        ------
        ValueError
            ``rho`` outside [0, 1].
        """
        check_count(n, "n")
        if not 0.0 <= check_number(rho, "rho") <= 1.0:
            raise ValueError(f"rho must lie in [0, 1], got {rho!r}.")
        kind = rng.integers(0, 2, n)
        objective = np.where(rng.random(n) < rho, kind, 1 - kind)
        law = self.law()
        steps = np.rint(law.cells * (self.levels - 1)).astype(np.int64)
        first, second = two_ratings(steps[law.sample(n, rng)], self.levels, rng)
        gap = self.reward(first, objective) - self.reward(second, objective)
        wins, tie = label_by_reward(gap, rng)
        prompt = np.column_stack(
            [self.type_strength * (2.0 * kind - 1.0), rng.normal(size=(n, self.prompt_nuisance))]
        )
        a, b = (self._embed(z, prompt, kind, rng) for z in (first, second))
        pick = wins[:, None]
        return PreferencePairs(
            np.where(pick, a, b), np.where(pick, b, a), np.where(pick, first, second),
            np.where(pick, second, first), tie, objective, kind,
        )  # fmt: skip

    def test_pairs(
        self, n: int, which: Literal["consistent", "inconsistent"], rng: np.random.Generator
    ) -> PreferencePairs:
        """Draw n pairs that all have objective = type, or all objective != type."""
        check_choice(which, "which", tuple(SHARES))
        return self.pairs(n, SHARES[which], rng)

    def _embed(
        self,
        z: FloatArray,
        prompt: FloatArray,
        kind: npt.NDArray[np.int64],
        rng: np.random.Generator,
    ) -> Any:
        shown = (z - 0.5) / self.z_sd + self.tau * rng.standard_normal(z.shape)
        own = rng.standard_normal((z.shape[0], self.nuisance))
        parts = [shown, prompt, own]
        if self.entanglement > 0.0:
            first = kind[:, None] == 0
            apart = math.sqrt(self.entanglement) * shown
            parts = [math.sqrt(1.0 - self.entanglement) * shown, np.where(first, apart, 0.0),
                     np.where(first, 0.0, apart), prompt, own]  # fmt: skip
        latents = np.hstack(parts)
        made = EmbeddingMap(latents.shape[1], self.dimension, self.embedding_noise, self.map_seed)
        return made(latents, rng)
