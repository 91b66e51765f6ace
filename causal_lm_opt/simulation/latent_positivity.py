"""The first study of Kobalczyk and van der Schaar (2025): two factors, opposite-sign test."""

from __future__ import annotations

from dataclasses import dataclass

from causal_lm_opt.simulation._difference_law import (
    DifferenceLaw,
    independent_law,
    level_differences,
)
from causal_lm_opt.simulation.correlation_shift import CorrelationShiftWorld

__all__ = ["LatentPositivityWorld"]


@dataclass(frozen=True)
class LatentPositivityWorld(CorrelationShiftWorld):
    r"""Two ratings, reward :math:`r = .25 z_1 + .75 z_2`, and a test where they disagree.

    A :class:`CorrelationShiftWorld` of two factors with one more law: pairs whose differences have
    opposite signs (independent otherwise). With five levels its correlation is
    :math:`-(E|d|)^2/E d^2 = -4/5`, the -.8 of the paper's out-of-distribution test; a test at
    another correlation is :meth:`pairs` at that correlation.

    Parameters
    ----------
    weights, levels, noise, dimension, nuisance, embedding_noise, signs, map_seed
        As :class:`CorrelationShiftWorld`.

    Examples
    --------
    >>> world = LatentPositivityWorld(dimension=16)
    >>> round(world.opposite_law().correlation(), 12)
    -0.8

    What an endless sample at correlation .9 teaches a linear learner, and how it fares there and
    where the factors disagree:

    >>> learnt = world.limit_weights(world.law(.9))
    >>> laws = world.law(.9), world.opposite_law()
    >>> [round(world.linear_accuracy(learnt, law), 2) for law in laws]
    [0.73, 0.55]
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.factors != 2:
            raise ValueError(
                f"LatentPositivityWorld has two factors, got {self.factors} weights; "
                "CorrelationShiftWorld takes more."
            )

    def opposite_law(self) -> DifferenceLaw:
        """Law of the differences given that they have opposite signs."""
        assert self.signs is not None
        base = independent_law(*level_differences(self.levels), 2)
        return base.given(base.cells.prod(axis=1) * self.signs[0] * self.signs[1] < 0.0)
