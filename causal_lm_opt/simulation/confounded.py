"""Worlds in which the log misleads in one stated way, each with its truth by enumeration."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from causal_lm_opt.simulation._checks import check_choice, check_count, check_number
from causal_lm_opt.simulation.tabular import TabularDesign

__all__ = ["confounded_log", "drifted_logging", "hidden_confounder", "token_world"]

FloatArray = npt.NDArray[np.float64]


def _tilted(probs: FloatArray, exponent: FloatArray) -> FloatArray:
    """``probs * exp(exponent)``, normalised in each row."""
    weight = probs * np.exp(exponent - exponent.max(axis=-1, keepdims=True))
    return np.asarray(weight / weight.sum(axis=-1, keepdims=True))


def hidden_confounder(
    strength: float,
    *,
    effect: float = 1.0,
    texts: int = 4,
    tilt: float = 1.0,
    edge: bool = False,
) -> TabularDesign:
    r"""A binary reader's trait that nobody recorded moves the text seen and the outcome.

    The density ratio :math:`r = p_R(x) / p_R(x|u)` lies between ``1/strength`` and ``strength`` and
    reaches one of them; the log states :math:`p_R(x)`.

    Parameters
    ----------
    strength : float
        :math:`\Lambda \ge 1`; 1 is a randomised log.
    effect : float
        Of the trait on the outcome; above 0 with ``edge``.
    texts : int
        Number of texts, even.
    tilt : float
        Log ratio of target to logger between the best and the worst text (of those it writes).
    edge : bool
        A world at the edge of the sharp bounds: where the target writes, ``r`` is ``1/strength``
        for the readers with the better outcomes and ``strength`` for the others, noise is too small
        to mix them, and V is the sharp *lower* bound at this strength.

    Examples
    --------
    >>> world = hidden_confounder(2.0)
    >>> world.strength, round(world.value(), 3), round(world.weighting_limit(), 3)
    (2.0, 1.135, 1.215)
    >>> world = hidden_confounder(2.0, edge=True)
    >>> round(world.strength, 12), round(world.weighting_limit() - world.value(), 3)
    (2.0, 0.333)
    """
    check_number(strength, "strength", least=1.0)  # of a ratio and its inverse
    check_number(effect, "effect", above=0.0 if edge else None)
    check_number(tilt, "tilt")
    check_count(texts, "texts", 2)
    if texts % 2:
        raise ValueError(f"texts must be an even number, at least 2; got {texts!r}.")
    position = np.linspace(-0.5, 0.5, texts)
    base = 0.5 + position
    if edge:
        return _at_the_edge(strength, effect, base, tilt)
    marginal = np.full(texts, 1.0 / texts)
    pull = (1.0 - 1.0 / strength) * np.where(position > 0, 1.0, -1.0)
    return TabularDesign(
        trait_probs=[0.5, 0.5],
        logging=marginal * (1.0 + np.array([[-1.0], [1.0]]) * pull),
        target=_tilted(marginal, tilt * position),
        mean=base + effect * np.array([[0.0], [1.0]]),
        label=f"hidden confounder of strength {strength:g}",
    )


def _at_the_edge(strength: float, effect: float, base: FloatArray, tilt: float) -> TabularDesign:
    """Upper half of the texts: P(U=1|x) = L/(1+L) and P(U=1) = 1/(1+L), so r is 1/L or L.

    The lower half takes up the difference; the share 1/(1+L) of the upper half keeps ``r`` there
    within the bounds too.
    """
    half = base.size // 2
    share = np.repeat([1.0 - 1.0 / (1.0 + strength), 1.0 / (1.0 + strength)], half) / half
    better = 1.0 / (1.0 + strength)  # P(U = 1), and the upper half's share of the texts
    given_text = np.repeat([better / strength, strength * better], half)
    if strength == 1.0:
        given_text = np.full(base.size, better)
    logging = np.stack([share * (1 - given_text) / (1 - better), share * given_text / better])
    upper = np.repeat([0.0, 1.0], half)
    return TabularDesign(
        trait_probs=[1.0 - better, better],
        logging=logging,
        target=_tilted(upper, tilt * (base - 0.5)),
        mean=base + effect * np.array([[0.0], [1.0]]),
        noise="uniform",
        scale=effect / 3.0,
        label=f"hidden confounder at the edge of strength {strength:g}",
    )


def confounded_log(
    strength: float,
    *,
    seen: bool = False,
    stated: Literal["right", "marginal"] = "right",
    effect: float = 1.0,
    texts: int = 20,
    tilt: float = 1.0,
) -> TabularDesign:
    r"""An observational log: readers of three kinds choose texts, and respond, each in their way.

    Kind -1, 0 or 1 reads text z (from -1 to 1) with probability proportional to
    :math:`e^{\text{strength} \cdot kind \cdot z / 2}`; the outcome is ``1 + z + effect * kind`` on
    average, and normal.

    Parameters
    ----------
    strength : float
        0: a randomised log.
    seen : bool
        Whether the reader's kind is a feature beside z (``X``).
    stated : {"right", "marginal"}
        The logged propensity: that of the reader, or that of the text whoever reads it (wrong
        unless ``strength`` is 0; ``seen`` does not mend it).
    effect : float
    texts : int
    tilt : float
        The target writes z with probability proportional to ``exp(tilt z)``.

    Examples
    --------
    Without the reader's kind outcome regression is off, weighting by the right propensity is not:

    >>> world = confounded_log(2.0)
    >>> v = world.value()
    >>> round(world.regression_limit() - v, 3), round(world.weighting_limit() - v, 3)
    (0.197, 0.0)
    """
    for name, number in (("strength", strength), ("effect", effect), ("tilt", tilt)):
        check_number(number, name)
    check_count(texts, "texts", 2)
    check_choice(stated, "stated", ("right", "marginal"))
    kind = np.array([-1.0, 0.0, 1.0])
    z = np.linspace(-1.0, 1.0, texts)
    uniform = np.full((3, texts), 1.0 / texts)
    logging = _tilted(uniform, 0.5 * strength * kind[:, None] * z)
    written = {"right": logging, "marginal": np.tile(logging.mean(axis=0), (3, 1))}
    columns = [np.broadcast_to(z, (3, texts)), np.broadcast_to(kind[:, None], (3, texts))]
    return TabularDesign(
        trait_probs=np.full(3, 1.0 / 3.0),
        logging=logging,
        target=_tilted(uniform, tilt * z),
        mean=1.0 + z + effect * kind[:, None],
        observed=np.arange(3) if seen else None,
        stated=written[stated],
        features=np.stack(columns if seen else columns[:1], axis=2),
        label=f"confounded log of strength {strength:g}",
    )


def drifted_logging(drift: float, *, texts: int = 20, tilt: float = 1.0) -> TabularDesign:
    """A randomised log whose writer has drifted from the probabilities that the log states.

    Texts z from -1 to 1 are stated to be equally likely and are written with probability
    proportional to ``exp(drift z)``: the true weight is the stated one times a function of the text
    (violation B of the sensitivity analysis).

    Examples
    --------
    >>> world = drifted_logging(.5)
    >>> v = world.value()
    >>> round(world.weighting_limit() - v, 3), round(world.regression_limit() - v, 3)
    (0.393, 0.0)
    """
    check_number(drift, "drift")
    check_number(tilt, "tilt")
    check_count(texts, "texts", 2)
    z = np.linspace(-1.0, 1.0, texts)
    uniform = np.full(texts, 1.0 / texts)
    return TabularDesign(
        trait_probs=[1.0],
        logging=_tilted(uniform, drift * z)[None, :],
        target=_tilted(uniform, tilt * z),
        mean=1.0 + z,
        stated=uniform,
        features=z[None, :, None],
        label=f"logging policy drifted by {drift:g}",
    )


def token_world(
    tilt: float = 1.0,
    *,
    vocabulary: Sequence[str] = ("good", "bad", "it", "is"),
    length: int = 3,
) -> TabularDesign:
    """Every text of a small vocabulary, written token by token, with a binary outcome.

    The logger's next token repeats the last one half as often as it takes another; the target
    prefers the first word of the vocabulary by ``exp(tilt)`` at every position. A text succeeds
    more often for each first word, less for each second, and more again if it has two first words
    (an interaction that a bag of words misses).

    Parameters
    ----------
    tilt : float
    vocabulary : sequence of str
        At least two different words, without white space.
    length : int
        Tokens of a text; there are ``len(vocabulary) ** length`` texts.

    Examples
    --------
    >>> world = token_world()
    >>> len(world.texts), world.texts[1], round(world.value(), 4)
    (64, 'good good bad', 0.5177)
    """
    check_number(tilt, "tilt")
    check_count(length, "length")
    listed = isinstance(vocabulary, Sequence) and not isinstance(vocabulary, str)
    if not listed or not 2 <= len(vocabulary) == len(set(vocabulary)):
        raise ValueError(
            'vocabulary must list two or more different words, as in ["good", "bad"]; got '
            f"{vocabulary!r}."
        )
    size = len(vocabulary)
    if not all(isinstance(word, str) and len(word.split()) == 1 for word in vocabulary):
        raise ValueError(f"vocabulary must hold words without white space; got {vocabulary!r}.")
    if size**length > 100_000:
        raise ValueError(f"{size} ** {length} texts are too many to enumerate.")
    first = np.full(size, 1.0 / size)
    chain = np.full((size, size), 1.0) - 0.5 * np.eye(size)
    chain /= chain.sum(axis=1, keepdims=True)
    favour = tilt * (np.arange(size) == 0)
    tokens = np.array(list(itertools.product(range(size), repeat=length)))
    firsts, seconds = (tokens == 0).sum(axis=1), (tokens == 1).sum(axis=1)
    mean = 0.4 + 0.3 * (firsts - seconds) / length + 0.1 * (firsts >= 2)
    return TabularDesign(
        trait_probs=[1.0],
        logging=_chain_probs(tokens, first, chain)[None, :],
        target=_chain_probs(tokens, _tilted(first, favour), _tilted(chain, favour[None, :])),
        mean=mean,
        noise="binary",
        texts=tuple(" ".join(vocabulary[i] for i in row) for row in tokens),
        label=f"token world tilted by {tilt:g}",
    )


def _chain_probs(tokens: npt.NDArray[np.intp], first: FloatArray, chain: FloatArray) -> FloatArray:
    """Probability of each row of tokens under a Markov chain."""
    steps = chain[tokens[:, :-1], tokens[:, 1:]]
    return np.asarray(first[tokens[:, 0]] * steps.prod(axis=1))
