r"""Worlds of finitely many readers' traits and texts: every truth by enumeration.

A reader has a trait ``t`` with probability :math:`\pi_t`, sees text ``x`` with probability
:math:`p_R(x|t)` and responds with mean :math:`g(t, x)`. The analyst sees a function ``c(t)`` of the
trait, possibly nothing, and a stated logging probability, possibly wrong. A target policy writes
``x`` with probability :math:`f(x|c)`:

.. math:: V(f) = \sum_t \pi_t \sum_x f(x|c(t))\, g(t, x).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from causal_lm_opt.estimators._target import TargetSample
from causal_lm_opt.simulation._checks import check_choice, check_count, check_drawn, check_number
from causal_lm_opt.simulation.gaussian import SimulatedLog

__all__ = ["TabularDesign"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
NOISES = ("normal", "uniform", "binary")


@dataclass(frozen=True, eq=False)
class TabularDesign:
    r"""A finite world with a known value V(f), for studies of confounding.

    Parameters
    ----------
    trait_probs : array, shape (T,)
        :math:`\pi_t`.
    logging : array, shape (T, J)
        :math:`p_R(x|t)`, by which texts are shown.
    target : array, shape (T, J)
        :math:`f(x|t)`, equal for traits that the analyst cannot tell apart.
    mean : array, shape (T, J)
        :math:`g(t, x)`; probabilities for a binary outcome.
    observed : integer array, shape (T,), optional
        Class ``c(t)`` of the trait that the analyst sees, 0, 1, ...; default: nothing is seen.
    stated : array, shape (T, J), optional
        Logging probability that the log states, by rows that sum to 1; default: the right one
        given what is seen, :math:`p_R(x|c)`.
    noise : {"normal", "uniform", "binary"}
        Of the outcome around its mean.
    scale : float
        Standard deviation of normal noise, half the range of uniform noise.
    texts : sequence of str, optional
        The J texts; then ``X`` of a log is the texts.
    features : array, shape (T, J, d), optional
        Rows of ``X``, equal for traits of one seen class. Without features and texts ``X`` has an
        indicator of each pair of seen class and text, which an outcome regression can saturate
        (not so a cross-fitted one: equal rows share a fold, whose model never saw them).
    draws_per_row : float
        Draws of the target (reader and text) per logged row, ``m / n``.

    Raises
    ------
    ValueError
        Tables of wrong shapes, or that are no probabilities where these are due; a target or
        features that differ between traits that look the same; classes, texts, noise, scale or
        ``draws_per_row`` that make no sense.

    Examples
    --------
    A hidden trait moves the text seen and the outcome: weights with the marginal propensity are
    wrong, those with the trait's own are right.

    >>> prefers = np.array([[.8, .2], [.2, .8]])
    >>> world = TabularDesign([.5, .5], logging=prefers, target=[[0., 1.], [0., 1.]],
    ...                       mean=np.array([[0., 1.], [2., 3.]]))
    >>> world.value(), round(world.weighting_limit(), 3), round(world.regression_limit(), 3)
    (2.0, 2.6, 2.6)
    >>> world.strength
    2.5
    """

    trait_probs: Any
    logging: Any
    target: Any
    mean: Any
    observed: Any = None
    stated: Any = None
    noise: Literal["normal", "uniform", "binary"] = "normal"
    scale: float = 1.0
    texts: tuple[str, ...] | None = None
    features: Any = None
    draws_per_row: float = 4.0
    label: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        probs = np.asarray(self.trait_probs, dtype=np.float64)
        if probs.ndim != 1 or np.ndim(self.logging) not in (1, 2):
            raise ValueError("trait_probs must have shape (T,) and logging (T, J) or (J,).")
        set_ = object.__setattr__
        set_(self, "trait_probs", probs)
        set_(self, "observed", _classes(self.observed, probs.size))
        shape = (probs.size, np.shape(self.logging)[-1])
        for name in ("logging", "target", "mean"):
            set_(self, name, _table(getattr(self, name), name, shape))
        _check_probs(probs[None, :], "trait_probs")
        _check_probs(self.logging, "logging")
        _check_probs(self.target, "target")
        stated = self.seen_logging() if self.stated is None else self.stated
        set_(self, "stated", _table(stated, "stated", shape))
        _check_probs(self.stated, "stated")
        if ((self.stated <= 0.0) & (self.logging > 0.0)).any():
            raise ValueError("stated is 0 for a text that the logger writes.")
        self._check_seen(self.target, "target")
        check_choice(self.noise, "noise", NOISES)
        check_number(self.scale, "scale", above=0.0)
        check_number(self.draws_per_row, "draws_per_row", above=0.0)
        if self.noise == "binary" and not ((self.mean >= 0) & (self.mean <= 1)).all():
            raise ValueError("mean must hold probabilities for a binary outcome.")
        self._check_rows(shape)

    def _check_rows(self, shape: tuple[int, int]) -> None:
        """Features and texts, of which the rows of ``X`` are made."""
        if self.features is not None:
            rows = np.asarray(self.features, dtype=np.float64)
            if rows.ndim != 3 or rows.shape[:2] != shape:
                raise ValueError(f"features must have shape {(*shape, 'd')}, got {rows.shape}.")
            if not np.isfinite(rows).all():
                raise ValueError("features has entries that are not finite.")
            for j in range(rows.shape[2]):
                self._check_seen(rows[:, :, j], "features")
            object.__setattr__(self, "features", rows)
        if self.texts is not None and len(self.texts) != shape[1]:
            raise ValueError(f"texts must name {shape[1]} texts, got {len(self.texts)}.")
        if self.texts is not None and len(set(self.texts)) < len(self.texts):
            raise ValueError("texts holds a text twice; each column of the tables is one text.")

    def _check_seen(self, table: FloatArray, name: str) -> None:
        """Refuse a table that tells apart traits that the analyst cannot."""
        if not np.allclose(table[self._first_alike()], table):
            raise ValueError(f"{name} differs between traits that look the same (observed).")

    def _first_alike(self) -> IntArray:
        """For each trait the first that looks the same, shape (T,)."""
        return np.asarray((self.observed[:, None] == self.observed[None, :]).argmax(axis=1))

    # ------------------------------------------------------------------ truth
    def value(self, target: Any = None) -> float:
        """V(f) of the design's target, or of another (T, J) or (J,)."""
        return float(self.trait_probs @ (self._policy(target) * self.mean).sum(axis=1))

    def _policy(self, target: Any) -> FloatArray:
        """The design's target, or the checked probabilities of another, shape (T, J)."""
        if target is None:
            return np.asarray(self.target)
        table = _table(target, "target", self.mean.shape)
        _check_probs(table, "target")
        return table

    def seen_logging(self) -> FloatArray:
        """:math:`p_R(x|c)` of what the analyst sees of the trait, shape (T, J)."""
        return self._by_class(self.logging)

    def _by_class(self, table: FloatArray) -> FloatArray:
        """Means of a (T, J) table over the traits of each seen class."""
        same = (self.observed[:, None] == self.observed[None, :]) * self.trait_probs[None, :]
        return np.asarray(same @ table / same.sum(axis=1, keepdims=True))

    def seen_mean(self) -> FloatArray:
        """:math:`E_R[Y | c, x]`, what a saturated outcome regression fits, shape (T, J).

        Not a number for texts that a class never sees.
        """
        with np.errstate(invalid="ignore"):
            return self._by_class(self.logging * self.mean) / self.seen_logging()

    def stated_weights(self) -> FloatArray:
        """Target over stated logging probabilities, 0 for texts that are never logged, (T, J)."""
        stated = np.where(self.stated > 0, self.stated, 1.0)
        return np.where(self.logging > 0, self.target / stated, 0.0)

    def weighting_limit(self, *, normalize: bool = False) -> float:
        """Limit of the weighted mean with the stated logging probabilities."""
        shown = self.trait_probs[:, None] * self.logging
        weight = self.stated_weights()
        total = float((shown * weight).sum()) if normalize else 1.0
        return float((shown * weight * self.mean).sum()) / total

    def regression_limit(self) -> float:
        """Limit of the mean prediction over the target's texts of a saturated regression."""
        fitted = np.where(self.target > 0, self.seen_mean(), 0.0)
        return float(self.trait_probs @ (self.target * fitted).sum(axis=1))

    @property
    def strength(self) -> float:
        """Smallest ``L`` with :math:`1/L <= p_R(x|c) / p_R(x|t) <= L` wherever both are positive.

        Infinite where a trait rules out a text that its class sees.
        """
        shown = self.seen_logging() > 0
        with np.errstate(divide="ignore"):
            r = self.seen_logging()[shown] / self.logging[shown]
        return float(np.maximum(r, 1.0 / r).max())

    def doubly_robust_variance(self, n: int, *, weights: Literal["hajek", "ht"] = "hajek") -> float:
        r"""Variance of a doubly robust value with the stated weights and the saturated model.

        .. math:: \frac{E_R[w^2 (Y - g - \rho)^2]}{n\, E_R[w]^2}
                  + \frac{\operatorname{Var}_f(g)}{m},
                  \qquad g = E[Y|c,x], \quad \rho = \frac{E_R[w (Y - g)]}{E_R[w]}

        with ``"hajek"`` weights, which sum to one, as
        :class:`~causal_lm_opt.DoublyRobust` has them by default; with ``"ht"`` weights
        :math:`\operatorname{Var}_R(w (Y - g)) / n` comes first. Both are the same where
        :math:`E_R[w] = 1` and :math:`\rho = 0`, so with right stated probabilities. Asymptotic.
        Log and draws are not pooled, so with seen classes it is above :meth:`efficiency_bound`.

        Raises
        ------
        ValueError
            Other ``weights``; a target that writes logged texts never.
        """
        check_choice(weights, "weights", ("hajek", "ht"))
        check_count(n, "n")
        shown = self.trait_probs[:, None] * self.logging
        weight, seen = self.stated_weights(), self._fitted()
        total = float((shown * weight).sum())
        if total == 0.0:
            raise ValueError("The target writes no text that is logged: every weight is 0.")
        beyond = float((shown * weight * (self.mean - seen)).sum())
        if weights == "ht":
            square = weight**2 * (self._noise_variance() + (self.mean - seen) ** 2)
            logged = float((shown * square).sum()) - beyond**2
        else:
            off = (self.mean - seen - beyond / total) ** 2
            logged = float((shown * weight**2 * (self._noise_variance() + off)).sum()) / total**2
        within, between = self._spread(np.asarray(self.target))
        return logged / n + (within + between) / check_drawn(n, self.draws_per_row)

    def efficiency_bound(self, n: int, target: Any = None) -> float:
        r"""Smallest asymptotic variance of a regular estimator of what is seen, n logged rows.

        .. math:: \frac{E_R[w^2 \operatorname{Var}(Y|c,x)]}{n}
                  + \frac{E_c \operatorname{Var}_f(g|c)}{m}
                  + \frac{\operatorname{Var}_c(E_f[g|c])}{n + m},
                  \qquad w = \frac{f(x|c)}{p_R(x|c)}, \quad g = E[Y|c,x]

        Parameters
        ----------
        n : int
            Logged rows; there are ``m = draws_per_row * n`` draws.
        target : array, shape (T, J) or (J,), optional
            In place of the design's target; equal for traits that look the same.

        Returns
        -------
        float
            Infinite where the target writes a text that is never logged.

        Notes
        -----
        Of :meth:`regression_limit`, which is V(f) where nothing hidden moves text and outcome.

        **Model.** The log holds (c, x, Y), the draws hold (c, x) of other readers; the readers of
        both come from one population, of which nothing else is known, so that their classes count
        in log and draws alike. Texts given c follow :math:`p_R` in the log, known or not, and
        :math:`f` in the draws, from which alone :math:`f` is known. The likelihood factorises into
        readers' classes (n + m of them), texts of the draws (m) and outcomes (n), and each term
        above is the variance of the efficient influence function's part in one factor.
        """
        check_count(n, "n")
        policy = self._policy(target)
        self._check_seen(policy, "target")
        shown = self.seen_logging()
        if ((policy > 0) & (shown <= 0) & (self.trait_probs[:, None] > 0)).any():
            return math.inf
        weight = policy / np.where(shown > 0, shown, 1.0)
        square = weight**2 * (self._noise_variance() + (self.mean - self._fitted()) ** 2)
        logged = float((self.trait_probs[:, None] * self.logging * square).sum())
        within, between = self._spread(policy)
        m = check_drawn(n, self.draws_per_row)
        return logged / n + within / m + between / (n + m)

    def _fitted(self) -> FloatArray:
        """:math:`E_R[Y|c,x]`, 0 for texts that a class never sees, shape (T, J)."""
        return np.where(self.seen_logging() > 0, self.seen_mean(), 0.0)

    def _spread(self, policy: FloatArray) -> tuple[float, float]:
        """Mean over seen classes of the variance of g under the policy; variance of its means."""
        fitted = self._fitted()
        mean = (policy * fitted).sum(axis=1)
        within = float(self.trait_probs @ ((policy * fitted**2).sum(axis=1) - mean**2))
        return within, float(self.trait_probs @ (mean - self.trait_probs @ mean) ** 2)

    def _noise_variance(self) -> FloatArray:
        if self.noise == "binary":
            return np.asarray(self.mean * (1.0 - self.mean))
        square = self.scale**2 * (1.0 if self.noise == "normal" else 1.0 / 3.0)
        return np.full(self.mean.shape, square)

    # ------------------------------------------------------------------ logs
    def draw(self, n: int, rng: np.random.Generator) -> SimulatedLog:
        """A log of ``n`` readers and draws of the target for others."""
        m = check_drawn(n, self.draws_per_row)
        trait = rng.choice(self.trait_probs.size, size=n, p=self.trait_probs)
        text = _choose(self.logging, trait, rng)
        y = self._outcomes(self.mean[trait, text], rng)
        reader = rng.choice(self.trait_probs.size, size=m, p=self.trait_probs)
        written = _choose(self.target, reader, rng)
        return SimulatedLog(
            X=self.rows_of_X(trait, text),
            y=y,
            log_probs={
                "logp_target": self._log(self.target, trait, text),
                "logp_logging": self._log(self.stated, trait, text),
            },
            X_target=TargetSample(
                self.rows_of_X(reader, written),
                logp_target=self._log(self.target, reader, written),
                logp_logging=self._log(self.stated, reader, written),
            ),
            groups=None,
            q_logged=self.seen_mean()[trait, text],
            q_target=self.seen_mean()[reader, written],
        )

    def rows_of_X(self, trait: IntArray, text: IntArray) -> Any:
        """Texts, features, or an indicator of each pair of seen class and text."""
        if self.features is not None:
            return self.features[trait, text]
        if self.texts is not None:
            return np.array(self.texts, dtype=object)[text]
        count = self.mean.shape[1]
        cell = self.observed[trait] * count + text
        return np.eye((int(self.observed.max()) + 1) * count)[cell]

    @staticmethod
    def _log(table: FloatArray, trait: IntArray, text: IntArray) -> FloatArray:
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(table[trait, text]))

    def _outcomes(self, mean: FloatArray, rng: np.random.Generator) -> FloatArray:
        if self.noise == "binary":
            return (rng.random(mean.size) < mean).astype(np.float64)
        if self.noise == "uniform":
            return np.asarray(mean + self.scale * rng.uniform(-1.0, 1.0, size=mean.size))
        return np.asarray(mean + self.scale * rng.normal(size=mean.size))


def _classes(observed: Any, traits: int) -> IntArray:
    """Seen class of each trait, shape (T,); one class where nothing is seen."""
    if observed is None:
        return np.zeros(traits, dtype=np.intp)
    given = np.asarray(observed)
    whole = given.dtype.kind in "iu" and given.shape == (traits,)
    if not whole or (given < 0).any():
        raise ValueError(
            f"observed must hold a class 0, 1, ... for each of {traits} traits; got {observed!r}."
        )
    return given.astype(np.intp)


def _table(values: Any, name: str, shape: tuple[int, int]) -> FloatArray:
    """A finite (T, J) table; one row serves all traits."""
    out = np.asarray(values, dtype=np.float64)
    if out.shape not in (shape, shape[1:]):
        raise ValueError(f"{name} must have shape {shape} or {shape[1:]}, got {out.shape}.")
    if not np.isfinite(out).all():
        raise ValueError(f"{name} has entries that are not finite.")
    return np.array(np.broadcast_to(out, shape))


def _check_probs(table: FloatArray, name: str) -> None:
    if (table < 0).any() or not np.allclose(table.sum(axis=1), 1.0, atol=1e-9):
        raise ValueError(f"{name} must hold probabilities that sum to 1 in each row.")


def _choose(table: FloatArray, row: IntArray, rng: np.random.Generator) -> IntArray:
    """One column for each row index, by the row's probabilities."""
    upto = np.cumsum(table, axis=1)
    upto[:, -1] = 1.0
    return np.asarray((rng.random(row.size)[:, None] > upto[row]).sum(axis=1), dtype=np.intp)
