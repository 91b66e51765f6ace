"""Pairs whose latent differences have one correlation in training and another in the test."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from causal_lm_opt.exceptions import OverlapError
from causal_lm_opt.simulation._checks import check_count, check_number
from causal_lm_opt.simulation._difference_law import (
    DifferenceLaw,
    comonotone_law,
    independent_law,
    level_differences,
    mixed,
)
from causal_lm_opt.simulation._embedding import EmbeddingMap, PreferencePairs, label_by_reward

__all__ = ["NOISE_LEVELS", "CorrelationShiftWorld", "reliability_of"]

FloatArray = npt.NDArray[np.float64]
#: Reliability of the latents as the embedding shows them, by name.
NOISE_LEVELS: Mapping[str, float] = {"low": 0.8, "medium": 0.5, "high": 0.3}


def reliability_of(noise: str | float) -> float:
    """Reliability of a noise level's name, or the number itself.

    >>> reliability_of("high"), reliability_of(0.9)
    (0.3, 0.9)
    """
    if isinstance(noise, str):
        if noise not in NOISE_LEVELS:
            known = ", ".join(map(repr, NOISE_LEVELS))
            raise ValueError(f"noise={noise!r} is not known; use {known} or a number in (0, 1].")
        return NOISE_LEVELS[noise]
    value = check_number(noise, "noise", above=0.0)
    if value > 1.0:
        raise ValueError(f"noise, a reliability, must lie in (0, 1]; got {noise!r}.")
    return value


@dataclass(frozen=True)
class CorrelationShiftWorld:
    r"""K latent factors behind each response; a set correlation of their differences within pairs.

    Each factor :math:`z_k` is a rating, uniform on ``levels`` steps from 0 to 1. The reward is
    :math:`r = \sum_k a_k z_k`, the response of higher reward is preferred without noise, ties fall
    by a coin. The embedding shows :math:`s_k = (z_k - 1/2)/\mathrm{sd}(z_k) + \tau e_k` and
    standard normal nuisance through a fixed random nonlinear map
    (:class:`~causal_lm_opt.simulation._embedding.EmbeddingMap`), with noise.

    The differences of a pair follow the mixture

    .. math:: P_\rho = (1 - |\rho|) \prod_k P_k + |\rho|\, P_{\text{equal}}

    of independent differences and differences that are all equal (up to ``signs``). Their margins,
    so also those of every :math:`z_k`, are the same whatever :math:`\rho`, the correlation of each
    two is exactly :math:`\rho\, s_j s_k`, and every cell keeps at least :math:`1 - |\rho|` of its
    probability: latent positivity holds for :math:`|\rho| < 1` and fails at 1.

    Parameters
    ----------
    weights : sequence of K >= 2 floats
        :math:`a_k`.
    levels : int
    noise : {"low", "medium", "high"} or float
        Reliability of the latents as the embedding shows them, :math:`1/(1 + \tau^2)`: .8, .5, .3,
        or a number in (0, 1]. At independent differences the true weights then pick the better
        response in about :math:`1/2 + \arcsin(\sqrt{\text{reliability}})/\pi` = .85, .75, .68 of
        the pairs. The default is the level at which that is near the .69 of Kobalczyk and van der
        Schaar (2025), Table 1.
    dimension : int
        d of the embeddings.
    nuisance : int
        Latents that the embedding shows and the reward does not use.
    embedding_noise : float
        Noise of each coordinate of the embedding, whose signal has variance about 1.
    signs : sequence of K values 1 or -1, optional
        Directions in which the factors move together; default all 1.
    map_seed : int
        Of the map; two worlds with the same map show latents in the same way.

    Raises
    ------
    ValueError
        Settings that make no sense.

    Examples
    --------
    >>> world = CorrelationShiftWorld((.5, .3, .2), dimension=16)
    >>> law = world.law(-0.2) if world.factors == 2 else world.law(0.4)
    >>> [round(law.correlation(j, k), 9) for j, k in ((0, 1), (0, 2), (1, 2))]
    [0.4, 0.4, 0.4]
    >>> world.pairs(100, 0.4, np.random.default_rng(0)).chosen.shape
    (100, 16)
    """

    weights: Sequence[float] = (0.25, 0.75)
    levels: int = 5
    noise: str | float = "high"
    dimension: int = 256
    nuisance: int = 8
    embedding_noise: float = 0.5
    signs: Sequence[int] | None = None
    map_seed: int = 20250605

    def __post_init__(self) -> None:
        weights = tuple(check_number(a, "weights: each") for a in _listed(self.weights, "weights"))
        if len(weights) < 2 or not any(weights):
            raise ValueError(f"weights must be at least two numbers, not all 0; got {weights}.")
        object.__setattr__(self, "weights", weights)
        signs = (1,) * len(weights) if self.signs is None else _listed(self.signs, "signs")
        if len(signs) != len(weights) or any(s not in (1, -1) for s in signs):
            raise ValueError(f"signs must be {len(weights)} values 1 or -1; got {self.signs!r}.")
        object.__setattr__(self, "signs", tuple(int(s) for s in signs))
        check_count(self.levels, "levels", 2)
        reliability_of(self.noise)
        check_count(self.dimension, "dimension")
        check_count(self.nuisance, "nuisance", 0)
        check_number(self.embedding_noise, "embedding_noise", least=0.0)
        check_count(self.map_seed, "map_seed", 0)

    # ------------------------------------------------------------------ laws
    @property
    def factors(self) -> int:
        """K."""
        return len(self.weights)

    @property
    def z_sd(self) -> float:
        """Standard deviation of each latent rating."""
        return math.sqrt((self.levels**2 - 1) / 12.0) / (self.levels - 1)

    @property
    def tau(self) -> float:
        """Noise of each latent as the embedding shows it, in standard deviations of the latent."""
        return math.sqrt(1.0 / reliability_of(self.noise) - 1.0)

    def law(self, correlation: float = 0.0) -> DifferenceLaw:
        """Law of the differences at a correlation.

        Raises
        ------
        ValueError
            Outside [-1, 1], or below 0 for more than two factors (choose ``signs`` instead).
        """
        rho = check_number(correlation, "correlation")
        if abs(rho) > 1.0:
            raise ValueError(f"correlation must lie in [-1, 1], got {rho:g}.")
        assert self.signs is not None
        signs = list(self.signs)
        if rho < 0.0:
            if self.factors > 2:
                raise ValueError(
                    "correlation must be at least 0 for more than two factors, which cannot all "
                    f"run against each other; got {rho:g}. Use signs."
                )
            signs[1] = -signs[1]
        values, probs = level_differences(self.levels)
        base = independent_law(values, probs, self.factors)
        return mixed(base, comonotone_law(values, probs, signs), abs(rho))

    def reward(self, z: FloatArray) -> FloatArray:
        """True reward of latents (n, K), shape (n,)."""
        return np.asarray(z @ np.asarray(self.weights))

    # ------------------------------------------------------------------ truth by enumeration
    def ceiling(self, law: DifferenceLaw) -> float:
        """Accuracy of the true reward: 1 less half the share of ties."""
        return 1.0 - 0.5 * float(law.probs[np.abs(self.reward(law.cells)) < 1e-9].sum())

    def linear_accuracy(self, weights: Sequence[float], law: DifferenceLaw) -> float:
        r"""Accuracy of a linear reward of the latents as the embedding shows them, exactly.

        .. math:: \sum_{\text{cells}} P(d)\, \Phi\!\left(\operatorname{sign}(a^\top d)\,
                  \frac{v^\top d}{\sqrt2\, \tau\, \mathrm{sd}(z)\, \lVert v\rVert}\right),

        ties of :math:`a^\top d` counting 1/2.

        Examples
        --------
        >>> world = CorrelationShiftWorld()
        >>> round(world.linear_accuracy(world.weights, world.law(0.0)), 3)
        0.689
        """
        v = np.asarray(weights, dtype=np.float64)
        gap, read = self.reward(law.cells), law.cells @ v
        spread = math.sqrt(2.0) * self.tau * self.z_sd * float(np.linalg.norm(v))
        toward = np.sign(gap) * read
        if spread > 0.0:
            right = ndtr(toward / spread)
        else:
            right = np.where(np.abs(toward) < 1e-9, 0.5, toward > 0.0)
        right = np.where(np.abs(gap) < 1e-9, 0.5, right)
        return float(law.probs @ right)

    def limit_weights(self, law: DifferenceLaw) -> FloatArray:
        r"""Weights that least squares of the reward's difference finds in an endless sample.

        .. math:: v = (\Sigma_d + 2 \tau^2 \mathrm{sd}(z)^2 I)^{-1} \Sigma_d\, a

        With noisy latents a learner borrows from correlated factors: :math:`v` is proportional to
        :math:`a` only where the differences are uncorrelated. It tells what a large sample cannot
        mend; weighting to independent differences does.
        """
        c = law.covariance()
        noise = 2.0 * (self.tau * self.z_sd) ** 2
        return np.asarray(
            np.linalg.solve(c + noise * np.eye(self.factors), c @ np.asarray(self.weights))
            if noise > 0.0
            else np.asarray(self.weights, dtype=np.float64)
        )

    # ------------------------------------------------------------------ draws
    def pairs(
        self, n: int, correlation: float | DifferenceLaw, rng: np.random.Generator
    ) -> PreferencePairs:
        """Draw n labelled pairs of new responses.

        Parameters
        ----------
        n : int
        correlation : float or DifferenceLaw
            Of the differences (:meth:`law`), or a law of one's own over steps of ``1/(levels-1)``.
        rng : numpy Generator
        """
        check_count(n, "n")
        law = correlation if isinstance(correlation, DifferenceLaw) else self.law(correlation)
        steps = np.rint(law.cells * (self.levels - 1)).astype(np.int64)
        if np.abs(steps - law.cells * (self.levels - 1)).max() > 1e-6:
            raise ValueError(f"the law's differences are not steps of 1/{self.levels - 1}.")
        first, second = two_ratings(steps[law.sample(n, rng)], self.levels, rng)
        wins, tie = label_by_reward(self.reward(first - second), rng)
        a, b = self.embed(first, rng), self.embed(second, rng)
        pick = wins[:, None]
        return PreferencePairs(
            np.where(pick, a, b), np.where(pick, b, a), np.where(pick, first, second),
            np.where(pick, second, first), tie,
        )  # fmt: skip

    def embed(self, z: FloatArray, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """Embeddings (n, d) of responses with latents (n, K); noise and nuisance are drawn."""
        n = z.shape[0]
        shown = (z - 0.5) / self.z_sd + self.tau * rng.standard_normal(z.shape)
        latents = np.hstack([shown, rng.standard_normal((n, self.nuisance))])
        made = EmbeddingMap(
            self.factors + self.nuisance, self.dimension, self.embedding_noise, self.map_seed
        )
        return made(latents, rng)

    def stratum_weights(
        self, pairs: PreferencePairs, correlation: float, target: float | DifferenceLaw = 0.0
    ) -> FloatArray:
        r"""Importance weights :math:`P_{\text{target}}(d) / P_\rho(d)` of pairs, shape (n,).

        Parameters
        ----------
        pairs : PreferencePairs
        correlation : float
            At which they were drawn.
        target : float or DifferenceLaw
            Correlation (or law) to weight to.

        Raises
        ------
        OverlapError
            If training never shows a cell that the target has (at correlation 1): no weights reach
            it.

        Examples
        --------
        >>> world = CorrelationShiftWorld(dimension=4)
        >>> pairs = world.pairs(4000, 0.5, np.random.default_rng(0))
        >>> w = world.stratum_weights(pairs, 0.5)
        >>> round(float(w.max()), 6), abs(float(w.mean()) - 1) < 0.05
        (2.0, True)
        """
        train = self.law(correlation)
        wanted = target if isinstance(target, DifferenceLaw) else self.law(target)
        lost = float(wanted.probs[train.lookup(wanted.cells) <= 0.0].sum())
        if lost > 1e-12:
            raise OverlapError(
                f"training at correlation {correlation:g} never shows cells that hold {lost:.0%} "
                "of the target: no weights reach them. Collect pairs there."
            )
        d = pairs.differences
        return np.asarray(wanted.lookup(d) / train.lookup(d))


def two_ratings(
    steps: npt.NDArray[np.int64], levels: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Two uniform ratings between 0 and 1 given their difference in steps, elementwise."""
    room = levels - np.abs(steps)
    lower = np.floor(rng.random(steps.shape) * room).astype(np.int64) + np.maximum(0, -steps)
    return (lower + steps) / (levels - 1.0), lower / (levels - 1.0)


def _listed(values: Any, name: str) -> tuple[Any, ...]:
    if isinstance(values, str) or not hasattr(values, "__len__"):
        raise ValueError(f"{name} must be a list of numbers, got {values!r}.")
    return tuple(values)
