"""Arithmetic on tables of arm sequences: tilts, enumeration and draws of the texts they write."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from causal_lm_opt.datasets._vocabulary import ArmSequence

__all__: list[str] = []

_LOWEST_LOG = -700.0  # exp() below this underflows, and a text would silently lose its support


def known_arms(names: Iterable[str], known: Iterable[str], argument: str) -> None:
    """Raise ValueError naming ``argument`` if ``names`` holds an arm that is not known."""
    known = list(known)
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ValueError(f"{argument} names unknown arms {unknown}; known are {known}.")


def tilted(
    sequences: Sequence[ArmSequence],
    prob: NDArray[np.float64],
    theta: Mapping[str, float],
    *,
    within_length: bool,
) -> NDArray[np.float64]:
    """Return ``prob * exp(theta'z)``, normalised over all sequences or within each length.

    Parameters
    ----------
    sequences : sequence of S tuples of arm names
    prob : (S,) array of positive probabilities
    theta : mapping of arm name to float
    within_length : bool

    Returns
    -------
    (S,) float64 array

    Raises
    ------
    ValueError
        If a value of theta is not finite, or a probability would underflow to zero.
    """
    values = {arm: float(value) for arm, value in theta.items()}
    if not all(map(math.isfinite, values.values())):
        raise ValueError(f"theta must be finite, got {values}; use condition() for a sure arm.")
    shift = [sum(value for arm, value in values.items() if arm in s) for s in sequences]
    logp = np.log(prob) + np.array(shift, dtype=np.float64)
    lengths = np.array([len(s) if within_length else 0 for s in sequences])
    for length in np.unique(lengths):
        at = lengths == length
        logp[at] += math.log(prob[at].sum()) - float(logsumexp(logp[at]))
    if logp.min() < _LOWEST_LOG:
        raise ValueError(
            f"theta {values} is too strong: a log-probability of {logp.min():.0f} underflows. "
            "Use a smaller theta, or condition() for a sure arm."
        )
    result: NDArray[np.float64] = np.exp(logp)
    return result


def enumerate_texts(
    sequences: Sequence[ArmSequence],
    prob: NDArray[np.float64],
    wordings: Mapping[str, Sequence[str]],
    wording_prob: Mapping[str, Sequence[float]],
) -> dict[str, float]:
    """Return every text with its probability, added up over sequences and wordings."""
    total: dict[str, float] = {}
    for sequence, p in zip(sequences, prob.tolist(), strict=True):
        partial = {"": p}
        for arm in sequence:
            grown: dict[str, float] = {}
            for text, before in partial.items():
                for piece, share in zip(wordings[arm], wording_prob[arm], strict=True):
                    longer = f"{text} {piece}" if text else piece
                    grown[longer] = grown.get(longer, 0.0) + before * share
            partial = grown
        for text, share in partial.items():
            total[text] = total.get(text, 0.0) + share
    return total


def pick(cumulative: NDArray[np.float64], uniform: NDArray[np.float64]) -> NDArray[np.intp]:
    """Index of the cell each uniform draw falls into; the last cell takes rounding at the top.

    Inverse-CDF draws use ``Generator.random`` only, whose stream NumPy keeps stable in practice.
    """
    found = np.searchsorted(cumulative, uniform, side="right")
    clipped: NDArray[np.intp] = np.minimum(found, len(cumulative) - 1)
    return clipped


def write_texts(
    sequences: Sequence[ArmSequence],
    wordings: Mapping[str, Sequence[str]],
    wording_prob: Mapping[str, Sequence[float]],
    drawn: NDArray[np.intp],
    uniform: NDArray[np.float64],
) -> list[str]:
    """Write the texts of drawn sequences, their wordings chosen by uniform draws.

    Parameters
    ----------
    sequences : sequence of S tuples of arm names
    wordings, wording_prob : mappings of arm name to its texts and their probabilities
    drawn : (n,) array of indices into ``sequences``
    uniform : (n, L) array in [0, 1), L no less than the longest sequence

    Returns
    -------
    list of str, length n
    """
    pieces = np.full(uniform.shape, None, dtype=object)
    for place in range(uniform.shape[1]):
        arm_here = np.array([s[place] if place < len(s) else "" for s in sequences], dtype=object)
        arm_drawn = arm_here[drawn]
        for arm, texts in wordings.items():
            at = np.flatnonzero(arm_drawn == arm)
            chosen = pick(np.cumsum(wording_prob[arm]), uniform[at, place])
            pieces[at, place] = np.array(texts, dtype=object)[chosen]
    return [" ".join(piece for piece in row if piece is not None) for row in pieces]
