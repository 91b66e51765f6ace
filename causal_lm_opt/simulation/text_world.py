r"""A world of texts from a small grammar, for language models: every truth by enumeration.

A text is one wording for each of a few factors (opener, claim, tone, closing). The outcome responds
to the *levels* of the factors, not to their wordings, and is defined for **any** text: one that the
grammar cannot read has a stated mean. So the value of every policy is known: by enumeration where
its texts can be listed, and to any precision by scoring draws for a language model.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from causal_lm_opt.datasets.pieces import PiecePolicy
from causal_lm_opt.estimators._target import TargetSample
from causal_lm_opt.simulation._checks import check_choice, check_count, check_drawn, check_number
from causal_lm_opt.simulation.gaussian import SimulatedLog

__all__ = ["TextWorld"]

FloatArray = npt.NDArray[np.float64]
Levels = tuple[str, ...]
POLICY_FIELDS = ("wordings", "wording_prob", "sequences", "sequence_prob", "name")


@dataclass(frozen=True, eq=False)
class TextWorld:
    r"""Texts over latent factors with a known mean outcome of any text.

    .. math:: g(x) = \text{base} + \sum_{s \subseteq z(x)} \text{effect}_s

    over the sets ``s`` of levels that are all among the levels ``z(x)`` of the text.

    Parameters
    ----------
    grammar : mapping factor -> mapping level -> sequence of wordings
        Pieces of the text in order, joined by one space. Levels are named once in the grammar.
    logging, target : mapping of level -> float, or PiecePolicy
        Tilts of the uniform policy (log odds, as :meth:`policy` takes), or policies over the
        grammar's texts.
    effects : mapping of tuple of levels -> float
        Main effects ``("friendly",)`` and interactions ``("reservoir", "forceful")``.
    base : float
        Mean of a text without effects.
    unparsed : float
        Mean of a text that is not made of one wording for each factor in order. Case and white
        space do not matter.
    noise : {"binary", "normal"}
    scale : float
        Standard deviation of normal noise.
    draws_per_row : float
        Draws of the target per logged row, ``m / n``.

    Raises
    ------
    ValueError
        A grammar that reads one text in two ways, unknown levels or noise, means that are not
        probabilities for a binary outcome, numbers that make no sense.

    Notes
    -----
    ``X`` of a log is its texts. A policy is a :class:`~causal_lm_opt.datasets.PiecePolicy`:
    ``log_prob``, ``sample`` and ``texts_support`` as a language model policy has them.

    Examples
    --------
    >>> from causal_lm_opt.simulation import text_world
    >>> world = text_world()
    >>> x = "HELLO neighbour, our reservoir is half empty. We must act now.  Thank you!"
    >>> world.levels([x, "Buy gold."])
    [('friendly', 'reservoir', 'forceful', 'thanks'), None]
    >>> world.mean_outcome([x, "Buy gold."]).round(3).tolist()
    [0.5, 0.05]
    >>> warmer = world.policy({"friendly": 1.0})
    >>> round(world.value(), 4), round(world.value(warmer), 4)
    (0.4236, 0.3849)
    """

    grammar: Mapping[str, Mapping[str, Sequence[str]]]
    logging: Any
    target: Any
    effects: Mapping[Levels, float]
    base: float = 0.25
    unparsed: float = 0.05
    noise: Literal["binary", "normal"] = "binary"
    scale: float = 1.0
    draws_per_row: float = 4.0
    label: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        names = [level for factor in self.grammar.values() for level in factor]
        if len(set(names)) < len(names):
            raise ValueError("A level's name occurs twice in the grammar; name each level once.")
        for levels in self.effects:
            unknown = sorted(set(levels) - set(names)) if isinstance(levels, tuple) else [levels]
            if unknown:
                raise ValueError(
                    f"effects: {unknown[0]!r} is no level; keys are tuples of {names}."
                )
        check_choice(self.noise, "noise", ("binary", "normal"))
        check_number(self.scale, "scale", above=0.0)
        check_number(self.draws_per_row, "draws_per_row", above=0.0)
        for name in ("logging", "target"):
            given = getattr(self, name)
            policy = given if isinstance(given, PiecePolicy) else self.policy(given, name=name)
            object.__setattr__(self, name, policy)
        means = [*self._means.values(), self.unparsed]
        if not all(math.isfinite(m) for m in means):
            raise ValueError("base, effects and unparsed must be finite.")
        if self.noise == "binary" and not all(0.0 <= m <= 1.0 for m in means):
            raise ValueError(
                f"Means run from {min(means):.3g} to {max(means):.3g}; they must be probabilities "
                "for a binary outcome: mend base, effects or unparsed."
            )

    # ------------------------------------------------------------------ texts
    @cached_property
    def _combinations(self) -> tuple[Levels, ...]:
        """Every choice of one level for each factor."""
        return tuple(itertools.product(*self.grammar.values()))

    @cached_property
    def _means(self) -> dict[Levels, float]:
        """Mean outcome of every combination of levels."""
        return {
            z: self.base + sum(effect for s, effect in self.effects.items() if set(s) <= set(z))
            for z in self._combinations
        }

    @cached_property
    def _readings(self) -> dict[str, Levels]:
        """Levels of every text of the grammar, by the text as it is compared."""
        wordings = self._wordings
        found: dict[str, Levels] = {}
        for z in self._combinations:
            for pieces in itertools.product(*(wordings[level] for level in z)):
                text = _plain(" ".join(pieces))
                if text in found:
                    raise ValueError(f"The grammar writes {text!r} in two ways: {found[text]}, {z}")
                found[text] = z
        return found

    @cached_property
    def _wordings(self) -> dict[str, tuple[str, ...]]:
        return {level: tuple(w) for f in self.grammar.values() for level, w in f.items()}

    def levels(self, texts: Iterable[str]) -> list[Levels | None]:
        """Levels of each factor in each text; ``None`` for a text that is not of the grammar."""
        return [self._readings.get(_plain(text)) for text in texts]

    def features(self, texts: Iterable[str]) -> pd.DataFrame:
        """Indicators (n, levels) of the levels, 0 throughout for a text not of the grammar.

        The latent features on which weights may be marginalised: the outcome of a readable text
        depends on it through them alone.
        """
        names = list(self._wordings)
        rows = [[float(z is not None and name in z) for name in names] for z in self.levels(texts)]
        return pd.DataFrame(np.reshape(np.array(rows), (-1, len(names))), columns=names)

    def mean_outcome(self, texts: Iterable[str]) -> FloatArray:
        """The oracle outcome model g(x) of n texts, any texts, shape (n,)."""
        means = (self.unparsed if z is None else self._means[z] for z in self.levels(texts))
        return np.fromiter(means, dtype=np.float64)

    def outcomes(
        self, texts: Iterable[str], random_state: int | np.random.Generator | None = None
    ) -> FloatArray:
        """One response to each of n texts, any texts, shape (n,)."""
        rng = np.random.default_rng(random_state)
        g = self.mean_outcome(texts)
        if self.noise == "binary":
            return (rng.random(g.size) < g).astype(np.float64)
        return np.asarray(g + self.scale * rng.normal(size=g.size))

    # ------------------------------------------------------------------ policies
    def policy(
        self,
        tilt: Mapping[str, float] | None = None,
        *,
        wording_tilt: float = 0.0,
        name: str = "policy",
    ) -> PiecePolicy:
        r"""A policy that shifts factors.

        Parameters
        ----------
        tilt : mapping of level -> float
            A text's probability is proportional to the product of ``exp(tilt)`` over its levels,
            times its wordings' probabilities; levels left out have 0.
        wording_tilt : float
            Each level's k-th wording has probability proportional to ``exp(-wording_tilt * k)``:
            a shift that the outcome does not respond to.
        name : str

        Returns
        -------
        PiecePolicy
        """
        check_number(wording_tilt, "wording_tilt")
        for level, by in dict(tilt or {}).items():
            check_number(by, f"tilt[{level!r}]")
        count = len(self._combinations)
        uniform = PiecePolicy(
            wordings=self._wordings,
            wording_prob={
                level: tuple(_falling(len(w), wording_tilt)) for level, w in self._wordings.items()
            },
            sequences=self._combinations,
            sequence_prob=np.full(count, 1.0 / count),
            name=name,
        )
        return uniform.tilt(dict(tilt or {}), name=name)

    # ------------------------------------------------------------------ truth
    def value(self, policy: Any = None) -> float:
        """V(f) of the world's target, or of any policy with ``texts_support()``, exact."""
        texts, probs = (self.target if policy is None else policy).texts_support()
        return float(probs @ self.mean_outcome(texts))

    def value_of_draws(self, texts: Iterable[str]) -> tuple[float, float]:
        """Value of a policy that cannot be enumerated, from its draws: mean of g, standard error.

        Examples
        --------
        >>> from causal_lm_opt.simulation import text_world
        >>> world = text_world()
        >>> v, se = world.value_of_draws(world.target.sample(4000, random_state=0))
        >>> abs(v - world.value()) < 4 * se
        True
        """
        g = self.mean_outcome(texts)
        if g.size < 2:
            raise ValueError(f"texts: at least two draws are needed, got {g.size}.")
        return float(g.mean()), float(g.std(ddof=1)) / math.sqrt(g.size)

    def efficiency_bound(self, n: int, policy: Any = None, *, latent: bool = False) -> float:
        r"""Smallest asymptotic variance with ``n`` rows, where draws alone tell of the policy.

        .. math:: E_R[w^2 \operatorname{Var}(Y|X)]/n + \operatorname{Var}_f(g)/m

        of regular estimators to which the logged texts say nothing of :math:`E_f[g]`; with few
        draws weighting alone, which needs none, may have less.

        Parameters
        ----------
        n : int
            Logged rows; there are ``m = draws_per_row * n`` draws.
        policy : policy with ``texts_support()``, optional
            In place of the target.
        latent : bool
            Whether it is known that the outcome depends on the levels alone; then ``w`` is the
            ratio of the levels' probabilities, which is never more variable.

        Returns
        -------
        float
            Infinite where the policy writes a text (or levels) that the logger never does.
        """
        check_count(n, "n")
        texts, f = (self.target if policy is None else policy).texts_support()
        g = self.mean_outcome(texts)
        log_p = self.logging.log_prob(texts)
        variance = g * (1.0 - g) if self.noise == "binary" else np.full(g.size, self.scale**2)
        spread = float(f @ g**2 - (f @ g) ** 2) / check_drawn(n, self.draws_per_row)
        p = np.exp(log_p)
        if latent:
            f, p, variance = self._by_levels(texts, f, variance)
        counts = (f > 0) & (variance > 0)
        with np.errstate(divide="ignore"):
            logged = float((f[counts] ** 2 / p[counts] * variance[counts]).sum())
        return logged / n + spread

    def _by_levels(
        self, texts: Sequence[str], f: FloatArray, variance: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Target and logging probabilities of the levels, and their outcome variance."""
        logged, p = self.logging.texts_support()
        place: dict[Levels | None, int] = {}
        at = np.array([place.setdefault(z, len(place)) for z in self.levels([*texts, *logged])])
        of_target, of_logger = at[: len(texts)], at[len(texts) :]
        given = np.zeros(len(place))
        given[of_target] = variance  # one value per choice of levels
        return (
            np.asarray(np.bincount(of_target, f, len(place)), dtype=np.float64),
            np.asarray(np.bincount(of_logger, p, len(place)), dtype=np.float64),
            given,
        )

    # ------------------------------------------------------------------ logs
    def draw(self, n: int, rng: np.random.Generator) -> SimulatedLog:
        """A log of ``n`` texts, and draws of the target; ``X`` is the texts (object arrays)."""
        m = check_drawn(n, self.draws_per_row)
        texts = self.logging.sample(n, rng)
        y = self.outcomes(texts, rng)
        drawn = self.target.sample(m, rng)
        return SimulatedLog(
            X=np.array(texts, dtype=object),
            y=y,
            log_probs={
                "logp_target": self.target.log_prob(texts),
                "logp_logging": self.logging.log_prob(texts),
            },
            X_target=TargetSample(
                np.array(drawn, dtype=object),
                logp_target=self.target.log_prob(drawn),
                logp_logging=self.logging.log_prob(drawn),
            ),
            groups=None,
            q_logged=self.mean_outcome(texts),
            q_target=self.mean_outcome(drawn),
        )

    def with_target(self, policy: PiecePolicy) -> TextWorld:
        """The same world with another target."""
        return replace(self, target=policy)

    def __reduce__(self) -> tuple[Any, tuple[dict[str, Any]]]:
        # Caches (of parses too) stay behind: the same world has the same bytes, whatever it did.
        return _rebuilt, ({f.name: _bare(getattr(self, f.name)) for f in fields(self)},)


def _bare(value: Any) -> Any:
    """A field to be pickled; of a policy its table alone."""
    if not isinstance(value, PiecePolicy):
        return value
    return _Table({f: getattr(value, f) for f in POLICY_FIELDS})


class _Table(dict[str, Any]):
    """Fields of a policy on their way through a pickle."""


def _rebuilt(values: dict[str, Any]) -> TextWorld:
    given: dict[str, Any] = {
        k: PiecePolicy(**v) if isinstance(v, _Table) else v for k, v in values.items()
    }
    return TextWorld(**given)


def _plain(text: str) -> str:
    """A text as it is compared: case and white space do not matter."""
    if not isinstance(text, str):
        raise TypeError(f"texts must be strings, got {type(text).__name__}.")
    return " ".join(text.casefold().split())


def _falling(count: int, tilt: float) -> FloatArray:
    """Probabilities proportional to ``exp(-tilt k)``, k = 0, 1, ..."""
    weight = np.exp(-tilt * np.arange(count) - max(0.0, -tilt * (count - 1)))
    return np.asarray(weight / weight.sum())
