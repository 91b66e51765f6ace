"""Texts that a policy writes and nobody logged, where those logged are nearly all there are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from causal_lm_opt._validation import check_log_probs

__all__ = [
    "UnloggedTexts",
    "distinct_mass",
    "impossible_texts",
    "unlogged_texts",
    "within_clusters",
]

FloatArray = npt.NDArray[np.float64]
SAME = 0.05  # nats: log-probs of one text differ by less in half precision
WEIGHT = 3.0  # times as often as the logging policy: what sound weights of unlogged texts may be
SOME, MANY = 0.05, 0.2  # of a policy's texts beyond that: caution, do not use
APART = 1.5  # clusters that hold a text, on average: its log-prob is then no cluster's own
FEWEST = 10  # independent texts of a policy


@dataclass(frozen=True)
class UnloggedTexts:
    """What a policy, and the logging policy, write of texts that no row holds.

    Attributes
    ----------
    share : float
        Of the policy's texts, those that no row holds.
    low : float
        Lower end of the 95 % interval of ``share``; itself where it is known.
    room : float
        The logging policy's probability of such texts: 1 less that of the distinct logged ones.
    """

    share: float
    low: float
    room: float

    @property
    def beyond(self) -> float:
        """Share of texts, at least, beyond three times what the logging policy writes of them."""
        return self.low - WEIGHT * self.room

    def findings(self, *, estimated: bool = False) -> list[tuple[int, str]]:
        """Reasons for a verdict: severity (1 caution, 2 do not use) and words.

        Parameters
        ----------
        estimated : bool
            The weights are odds of features, which may carry over to texts that were not logged:
            no more than a caution.
        """
        if not self.beyond > SOME:
            return []
        room = f"{self.room:.2%}" if self.room >= 1e-4 else "less than 0.01%"
        rests = "the features alone" if estimated else "the outcome model alone, if there is one"
        return [(2 if self.beyond > MANY and not estimated else 1, (
            f"{self.share:.1%} of what the policy writes are texts that no row holds, though the "
            f"logging policy writes those in {room} only: for them the value rests on {rests}. "
            "Read some; value a policy that writes as the log does, or log such texts."
        ))]  # fmt: skip


def distinct_mass(
    logp: FloatArray, first: npt.NDArray[np.intp], inverse: npt.NDArray[np.intp]
) -> FloatArray | None:
    """Probabilities of the distinct contents of some rows, shape (c,).

    Parameters
    ----------
    logp : array, shape (n,)
        Natural log-probability of each row's content.
    first : integer array, shape (c,)
        First row of each content.
    inverse : integer array, shape (n,)
        The content of each row.

    Returns
    -------
    array, or None where one content has several log-probs, which then depend on something that is
    not told.

    Examples
    --------
    >>> first, inverse = np.unique(["a", "a", "b"], return_index=True, return_inverse=True)[1:]
    >>> distinct_mass(np.log([.5, .5, .2]), first, inverse).tolist()
    [0.5, 0.2]
    """
    p = np.exp(logp)
    own = p[first]
    return own if np.allclose(p, own[inverse], rtol=SAME, atol=0.0) else None


def within_clusters(contents: npt.NDArray[np.intp], clusters: npt.NDArray[np.intp]) -> bool:
    """Whether texts lie within clusters of several texts, as those that answer a prompt do.

    >>> within_clusters(np.array([0, 1, 2, 3]), np.array([0, 0, 1, 1]))
    True
    >>> within_clusters(np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]))
    False
    """
    pairs = np.unique(np.column_stack([contents, clusters]), axis=0).shape[0]
    n_texts, n_clusters = np.unique(contents).size, np.unique(clusters).size
    return bool(n_clusters < pairs < APART * n_texts)


def unlogged_texts(
    texts: Sequence[str],
    logp_logging: Any,
    texts_target: Sequence[str],
    *,
    prompts: Sequence[Any] | None = None,
    prompts_target: Sequence[Any] | None = None,
    codes_target: Any = None,
) -> UnloggedTexts | None:
    r"""Share of a policy's draws that no row holds, and what the logging policy has to spare.

    The logging policy writes texts that are not in the log with probability
    :math:`1 - \sum_x P_R(x)` over the distinct logged texts x (of the draw's prompt). Of long
    texts that is all but 1, and nothing can be said; where it is little, a policy of which many
    draws are not in the log has left what the logging policy writes.

    Parameters
    ----------
    texts, logp_logging : sequence of n str, array of shape (n,)
        The log's, with natural log-probs under the policy that wrote them (given the prompt).
    texts_target : sequence of m str
        Draws of the policy.
    prompts, prompts_target : sequences of n, and of m, optional
        Prompts of both.
    codes_target : array, shape (m,), optional
        Clusters of the draws.

    Returns
    -------
    UnloggedTexts, or None where the log-probs cannot be of these texts (given these prompts): one
    text has several, or those of distinct texts add up to more than 1.

    Raises
    ------
    ValueError
        Without texts of either kind, or for prompts of one sample alone.

    Examples
    --------
    >>> log, logp = ["yes", "no", "yes"], np.log([.7, .3, .7])
    >>> found = unlogged_texts(log, logp, ["yes"] * 12 + ["noo"] * 12)
    >>> found.share, round(found.low, 2), abs(round(found.room, 6))
    (0.5, 0.28, 0.0)
    """
    if not len(texts) or not len(texts_target):
        raise ValueError("unlogged_texts needs logged texts and draws of the policy.")
    if (prompts is None) != (prompts_target is None):
        raise ValueError("prompts and prompts_target go together: give both or neither.")
    n = len(texts)
    logp = check_log_probs(logp_logging, "logp_logging", n, allow_zero=False)
    asked = dict.fromkeys(map(str, [""] * n if prompts is None else prompts))
    number = {prompt: i for i, prompt in enumerate(asked)}
    strata = np.zeros(n, dtype=np.intp)
    drawn = np.zeros(len(texts_target), dtype=np.intp)
    if prompts is not None and prompts_target is not None:
        strata = np.array([number[str(p)] for p in prompts], dtype=np.intp)
        # a prompt that no row has: nothing of its texts was logged
        drawn = np.array([number.get(str(p), len(number)) for p in prompts_target], dtype=np.intp)
    known: dict[tuple[int, str], int] = {}
    inverse = np.array([
        known.setdefault(pair, len(known)) for pair in zip(strata.tolist(), texts, strict=True)
    ])  # fmt: skip
    first = np.unique(inverse, return_index=True)[1]
    own = distinct_mass(logp, first, inverse)
    if own is None:
        return None
    mass = np.bincount(strata[first], weights=own, minlength=len(number) + 1)
    if bool((mass > 1.0 + SAME).any()):
        return None
    room = float(np.mean((1.0 - mass)[drawn]))
    new = np.array([pair not in known for pair in zip(drawn.tolist(), texts_target, strict=True)])
    return UnloggedTexts(*_share_and_low(new, codes_target), room)


def impossible_texts(logp_logging: FloatArray, codes_target: Any = None) -> UnloggedTexts:
    """The same of draws (m,) whose log-probs under the logging policy are known.

    >>> impossible_texts(np.array([-1.0, -np.inf] * 20)).share
    0.5
    """
    return UnloggedTexts(*_share_and_low(np.isneginf(logp_logging), codes_target), 0.0)


def _share_and_low(new: npt.NDArray[np.bool_], codes_target: Any) -> tuple[float, float]:
    """Share of draws (m,) and the lower end of its 95 % interval, by cluster if there are any."""
    share = float(new.mean())
    off: FloatArray = (new - share) / new.size
    if codes_target is not None:
        units = np.unique(codes_target, return_inverse=True)[1]
        off = np.asarray(np.bincount(units, weights=off), dtype=np.float64)
    se = math.sqrt(float(off @ off)) if off.size >= FEWEST else math.inf
    low = share - float(stats.t.ppf(0.975, max(off.size - 1, 1))) * se
    return share, max(low, 0.0)
