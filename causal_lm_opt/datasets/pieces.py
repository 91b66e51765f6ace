"""Policies over texts that are made of ordered pieces, with exact probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from causal_lm_opt.datasets._piece_table import N_PIECES, PieceTable
from causal_lm_opt.datasets._sequences import known_arms, tilted
from causal_lm_opt.datasets._vocabulary import ArmSequence

__all__ = ["N_PIECES", "PiecePolicy"]


@dataclass(frozen=True, eq=False, repr=False)
class PiecePolicy(PieceTable):
    r"""A distribution over texts made of ordered pieces joined by one space.

    A text is written in two steps: an ordered sequence of arms is drawn from a finite table, then
    one wording of each arm, independently given the sequence:

    .. math::

        P(x) = \sum_{\text{parses of } x} P(a_1, \ldots, a_k) \prod_j P(\text{wording}_j \mid a_j)

    Use it as the known design P_R of a text experiment, or as a target policy whose value is asked:
    it scores texts exactly, draws from itself and can be enumerated, so every estimator applies.

    Parameters
    ----------
    wordings : mapping of str to sequence of str
        For each arm its texts, distinct within the arm and not empty.
    wording_prob : mapping of str to sequence of float
        For each arm the probabilities of its wordings; positive, summing to one.
    sequences : sequence of sequence of str
        The S ordered arm sequences that can occur, distinct.
    sequence_prob : (S,) array
        Their probabilities, summing to one.
    name : str, default "policy"
        Used in tables and as a column name.

    Raises
    ------
    TypeError
        If a wording is not a string.
    ValueError
        If probabilities are not valid, a sequence is empty or repeated, or names an unknown arm.

    Notes
    -----
    Assumes that wordings are drawn independently of each other and of the order of the arms. All
    log-probabilities are natural logarithms. Parses are cached, and policies made from one
    another by `tilt`, `condition` and `mix` share the cache.

    Examples
    --------
    >>> from causal_lm_opt.datasets import PiecePolicy
    >>> policy = PiecePolicy(
    ...     wordings={"greet": ("Hello.", "Hi there."), "ask": ("Will you join us?",)},
    ...     wording_prob={"greet": (0.5, 0.5), "ask": (1.0,)},
    ...     sequences=(("ask",), ("greet", "ask")),
    ...     sequence_prob=(0.2, 0.8),
    ... )
    >>> [round(float(p), 2) for p in policy.log_prob(["Hello. Will you join us?", "No."])]
    [-0.92, -inf]
    >>> target = policy.tilt({"greet": 1.0}, name="warmer")
    >>> [round(float(p), 4) for p in target.sequence_prob]
    [0.0842, 0.9158]
    >>> policy.sample(2, random_state=0)
    ['Hello. Will you join us?', 'Hi there. Will you join us?']
    """

    def tilt(
        self, theta: Mapping[str, float], *, within_length: bool = False, name: str | None = None
    ) -> PiecePolicy:
        r"""Tilt the policy exponentially towards (or away from) arms.

        .. math:: P_\theta(x) \propto P(x) \exp(\theta^\top z(x)), \quad z = \text{arm indicators}

        Parameters
        ----------
        theta : mapping of arm name to float
            Arms left out have 0; a negative value turns away from the arm.
        within_length : bool, default False
            Keep the distribution of the number of pieces, normalising within each of them.
        name : str, optional
            Name of the new policy.

        Returns
        -------
        PiecePolicy

        Raises
        ------
        ValueError
            If an arm is unknown, a value is not finite, or the tilt is so strong that some
            sequence's probability would underflow to zero.
        """
        known_arms(theta, self.wordings, "theta")
        prob = tilted(self.sequences, self.sequence_prob, theta, within_length=within_length)
        return self._with(self.sequences, prob, name)

    def condition(
        self,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        n_pieces: int | None = None,
        *,
        name: str | None = None,
    ) -> PiecePolicy:
        """Condition the policy on arms that must or must not occur, or on the number of pieces.

        Parameters
        ----------
        include, exclude : str or iterable of str
            Arms that every text holds, and arms that none holds.
        n_pieces : int, optional
            Number of pieces of every text.
        name : str, optional
            Name of the new policy.

        Returns
        -------
        PiecePolicy

        Raises
        ------
        ValueError
            If an arm is unknown, or no sequence meets the condition.
        """
        wanted = {include} if isinstance(include, str) else set(include)
        unwanted = {exclude} if isinstance(exclude, str) else set(exclude)
        known_arms(wanted, self.wordings, "include")
        known_arms(unwanted, self.wordings, "exclude")
        kept = [
            i
            for i, sequence in enumerate(self.sequences)
            if wanted <= set(sequence)
            and not unwanted & set(sequence)
            and n_pieces in (None, len(sequence))
        ]
        if not kept:
            raise ValueError(
                f"no sequence of policy {self.name!r} has include={sorted(wanted)}, "
                f"exclude={sorted(unwanted)}, n_pieces={n_pieces}; loosen the condition."
            )
        prob = self.sequence_prob[kept]
        return self._with(tuple(self.sequences[i] for i in kept), prob / prob.sum(), name)

    def mix(self, other: PiecePolicy, weight: float, *, name: str | None = None) -> PiecePolicy:
        """Mix with another policy: ``(1 - weight) * self + weight * other``.

        Parameters
        ----------
        other : PiecePolicy
            A policy with the same wordings and wording probabilities.
        weight : float in [0, 1]
        name : str, optional
            Name of the new policy.

        Returns
        -------
        PiecePolicy

        Raises
        ------
        ValueError
            If the weight is outside [0, 1], or the wordings differ.
        """
        if not 0.0 <= weight <= 1.0:
            raise ValueError(f"weight must lie in [0, 1], got {weight}.")
        if self.wordings != other.wordings or not _same_prob(self, other):
            raise ValueError(
                f"policies {self.name!r} and {other.name!r} have different wordings, so their "
                "mixture is not a piece policy; mix their draws and log-probabilities instead."
            )
        total = dict.fromkeys((*self.sequences, *other.sequences), 0.0)
        for policy, share in ((self, 1.0 - weight), (other, weight)):
            for sequence, p in zip(policy.sequences, policy.sequence_prob.tolist(), strict=True):
                total[sequence] += share * p
        return self._with(tuple(total), np.array(list(total.values())), name)

    def _with(
        self, sequences: tuple[ArmSequence, ...], prob: ArrayLike, name: str | None
    ) -> PiecePolicy:
        """Return a policy with the same wordings (and parse cache) over other sequences."""
        return replace(
            self,
            sequences=sequences,
            sequence_prob=np.asarray(prob, dtype=np.float64),
            name=self.name if name is None else name,
        )


def _same_prob(one: PieceTable, two: PieceTable) -> bool:
    return all(np.allclose(one.wording_prob[a], two.wording_prob[a]) for a in one.wording_prob)
