r"""Worlds of finitely many prompts and texts, logged in clusters: every truth by enumeration.

A prompt of kind ``c`` comes with probability :math:`\pi_c` and is answered ``k`` times,
independently, by text ``x`` with probability :math:`p_R(x|c)`. Its answers share an effect
:math:`u \sim N(0, \tau^2)`, and :math:`y = g(c, x) + u + \sigma e`. A target answers with
:math:`f(x|c)`:

.. math:: V(f) = \sum_c \pi_c \sum_x f(x|c)\, g(c, x).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from causal_lm_opt.estimators._target import TargetSample
from causal_lm_opt.simulation._checks import check_count, check_number
from causal_lm_opt.simulation.gaussian import SimulatedLog
from causal_lm_opt.simulation.tabular import _check_probs, _choose, _table

__all__ = ["PromptDesign", "prompt_world"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class PromptDesign:
    r"""Prompts answered several times, in clusters, with draws for the same prompts.

    Parameters
    ----------
    prompt_probs : array, shape (C,)
        :math:`\pi_c`.
    logging, target : arrays, shape (C, J) or (J,)
        :math:`p_R(x|c)` and :math:`f(x|c)`.
    mean : array, shape (C, J)
        :math:`g(c, x)`.
    per_prompt : int
        Logged answers of each prompt, k.
    draws_per_prompt : int
        Draws of the target for each logged prompt.
    prompt_effect, scale : float
        :math:`\tau`, shared by the answers to one prompt, and :math:`\sigma`.

    Notes
    -----
    ``X`` of a log indicates the kind of prompt and text; ``groups`` names the prompt, in the log
    and in the draws. A study's ``n`` counts answers: there are ``n // k`` prompts.

    Examples
    --------
    >>> world = PromptDesign([.5, .5], logging=[[.5, .5], [.5, .5]], target=[[1., 0.], [0., 1.]],
    ...                      mean=[[1., 0.], [0., 3.]], per_prompt=2)
    >>> world.value(), world.value([.5, .5])
    (2.0, 1.0)
    >>> log = world.draw(6, np.random.default_rng(0))
    >>> log.X.shape, log.groups.tolist(), log.X_target.groups.tolist()
    ((6, 4), [0, 0, 1, 1, 2, 2], [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2])
    """

    prompt_probs: Any
    logging: Any
    target: Any
    mean: Any
    per_prompt: int = 5
    draws_per_prompt: int = 4
    prompt_effect: float = 0.5
    scale: float = 1.0
    label: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        probs = np.asarray(self.prompt_probs, dtype=np.float64)
        object.__setattr__(self, "prompt_probs", probs)
        shape = (probs.size, np.shape(self.mean)[-1])
        for name in ("logging", "target", "mean"):
            object.__setattr__(self, name, _table(getattr(self, name), name, shape))
        _check_probs(probs[None, :], "prompt_probs")
        _check_probs(self.logging, "logging")
        _check_probs(self.target, "target")
        for name in ("per_prompt", "draws_per_prompt"):
            check_count(getattr(self, name), name)
        check_number(self.scale, "scale", above=0.0)
        check_number(self.prompt_effect, "prompt_effect", least=0.0)

    def _count(self, n: Any) -> int:
        """Prompts of a log of ``n`` answers, at least one."""
        return check_count(n, "n", self.per_prompt) // self.per_prompt

    # ------------------------------------------------------------------ truth
    def value(self, target: Any = None) -> float:
        """V(f) of the design's target, or of another (C, J) or (J,)."""
        return float(self.prompt_probs @ (self._policy(target) * self.mean).sum(axis=1))

    def doubly_robust_variance(self, n: int, target: Any = None) -> float:
        r"""Asymptotic variance of the doubly robust value with right nuisances, ``n`` answers.

        With :math:`G = n/k` prompts and ``r`` draws for each, over ``G``:

        .. math:: \frac{\sigma^2 + \tau^2}{k} E_R[w^2] + \frac{k-1}{k} \tau^2
                  + \operatorname{Var}_c E_f[g|c] + \frac1r E_c \operatorname{Var}_f(g|c)
        """
        f, k = self._policy(target), self.per_prompt
        with np.errstate(divide="ignore", invalid="ignore"):
            square = np.where(f > 0, f**2 / self.logging, 0.0).sum(axis=1)
        within = (self.scale**2 + self.prompt_effect**2) / k * float(self.prompt_probs @ square)
        shared = (k - 1) / k * self.prompt_effect**2
        return (within + shared + self._spread(f)) / self._count(n)

    def efficiency_bound(self, n: int, target: Any = None) -> float:
        r"""Smallest asymptotic variance of a regular estimator with ``n`` answers and the draws.

        Over ``G`` prompts, with :math:`M_c = E[D^\top \Sigma^{-1} D | c]`, ``D`` the (k, J)
        indicators of a prompt's texts and :math:`\Sigma = \sigma^2 I + \tau^2 1 1^\top`:

        .. math:: \sum_c \pi_c f_c^\top M_c^{-1} f_c + \operatorname{Var}_c E_f[g|c]
                  + \frac1r E_c \operatorname{Var}_f(g|c)

        Source: Chamberlain (1987), for the conditional means :math:`E[Y_j|X,c] = g(c, X_j)`.
        Below :meth:`doubly_robust_variance` where answers share an effect, as residuals of one
        prompt then tell of each other; equal to it without.
        """
        f, count = self._policy(target), self._count(n)
        if ((f > 0) & (self.logging <= 0) & (self.prompt_probs[:, None] > 0)).any():
            return math.inf
        logged = 0.0
        for c, prob in enumerate(self.prompt_probs):
            kept = self.logging[c] > 0
            solved = np.linalg.solve(self._information(c)[np.ix_(kept, kept)], f[c, kept])
            logged += float(prob * (f[c, kept] @ solved))
        return (logged + self._spread(f)) / count

    def _information(self, c: int) -> FloatArray:
        """:math:`M_c` in closed form: counts of texts are multinomial, shape (J, J)."""
        k, p = self.per_prompt, self.logging[c]
        rho = self.prompt_effect**2 / (self.scale**2 + k * self.prompt_effect**2)
        return np.asarray(
            k / self.scale**2 * ((1.0 - rho) * np.diag(p) - rho * (k - 1) * np.outer(p, p))
        )

    def _spread(self, f: FloatArray) -> float:
        """Variance of a prompt's mean prediction over its draws."""
        mean = (f * self.mean).sum(axis=1)
        between = float(self.prompt_probs @ mean**2 - (self.prompt_probs @ mean) ** 2)
        within = float(self.prompt_probs @ ((f * self.mean**2).sum(axis=1) - mean**2))
        return between + within / self.draws_per_prompt

    def _policy(self, target: Any) -> FloatArray:
        if target is None:
            return np.asarray(self.target)
        table = _table(target, "target", self.mean.shape)
        _check_probs(table, "target")
        return table

    # ------------------------------------------------------------------ logs
    def draw(self, n: int, rng: np.random.Generator) -> SimulatedLog:
        """A log of ``n // per_prompt`` prompts, and draws of the target for the same prompts."""
        count = self._count(n)
        kind = rng.choice(self.prompt_probs.size, size=count, p=self.prompt_probs)
        effect = self.prompt_effect * rng.normal(size=count)
        logged = np.repeat(np.arange(count), self.per_prompt)
        text = _choose(self.logging, kind[logged], rng)
        noise = self.scale * rng.normal(size=logged.size)
        drawn = np.repeat(np.arange(count), self.draws_per_prompt)
        written = _choose(self.target, kind[drawn], rng)
        return SimulatedLog(
            X=self.rows_of_X(kind[logged], text),
            y=self.mean[kind[logged], text] + effect[logged] + noise,
            log_probs={
                "logp_target": _log(self.target, kind[logged], text),
                "logp_logging": _log(self.logging, kind[logged], text),
            },
            X_target=TargetSample(
                self.rows_of_X(kind[drawn], written),
                groups=drawn,
                logp_target=_log(self.target, kind[drawn], written),
                logp_logging=_log(self.logging, kind[drawn], written),
            ),
            groups=logged,
            q_logged=self.mean[kind[logged], text],
            q_target=self.mean[kind[drawn], written],
        )

    def rows_of_X(self, kind: IntArray, text: IntArray) -> FloatArray:
        """An indicator of each pair of prompt's kind and text, shape (n, C J)."""
        return np.asarray(np.eye(self.mean.size)[kind * self.mean.shape[1] + text])


def _log(table: FloatArray, row: IntArray, column: IntArray) -> FloatArray:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(table[row, column]))


def prompt_world(
    tilt: float = 1.0,
    *,
    prompts: int = 3,
    texts: int = 4,
    per_prompt: int = 5,
    draws_per_prompt: int = 4,
    prompt_effect: float = 0.5,
) -> PromptDesign:
    r"""Kinds of prompts c and texts z, both from -1 to 1, with :math:`g = 1 + c + z + cz`.

    The logger answers in the prompt's manner, with probability proportional to
    :math:`e^{cz/2}`; the target turns to high z by :math:`e^{\text{tilt}\, z}` on top.

    Examples
    --------
    >>> world = prompt_world()
    >>> round(world.value(), 4)
    1.6064
    >>> world.efficiency_bound(1000) < world.doubly_robust_variance(1000)
    True
    """
    check_number(tilt, "tilt")
    check_count(prompts, "prompts")
    check_count(texts, "texts", 2)
    c = np.linspace(-1.0, 1.0, prompts) if prompts > 1 else np.zeros(1)
    z = np.linspace(-1.0, 1.0, texts)
    logging = np.exp(0.5 * c[:, None] * z)
    target = logging * np.exp(tilt * z)
    return PromptDesign(
        prompt_probs=np.full(prompts, 1.0 / prompts),
        logging=logging / logging.sum(axis=1, keepdims=True),
        target=target / target.sum(axis=1, keepdims=True),
        mean=1.0 + c[:, None] + z + c[:, None] * z,
        per_prompt=per_prompt,
        draws_per_prompt=draws_per_prompt,
        prompt_effect=prompt_effect,
        label=f"prompts, tilted by {tilt:g}",
    )
