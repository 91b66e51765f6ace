r"""Logs of texts with Gaussian features: every truth in closed form.

A text is its feature vector: :math:`x \sim N(0, I_d)` under the logging policy and
:math:`x \sim N(\mu, I_d)` under the target, so that :math:`\ell = \mu^\top x - |\mu|^2/2` has
standard deviation :math:`|\mu|` and :math:`E_R[w^2] = e^{|\mu|^2}`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from causal_lm_opt.estimators._target import TargetSample
from causal_lm_opt.simulation._checks import check_choice, check_count, check_drawn, check_number

__all__ = ["GaussianDesign", "SimulatedLog"]

FloatArray = npt.NDArray[np.float64]
LOG_2PI = math.log(2 * math.pi)
OUTCOMES = ("linear", "quadratic", "binary", "heavy", "skewed")
SLOPE = 0.25  # of log g in each feature, for skewed outcomes
SKEWED = math.e - 1.0  # variance of a lognormal factor with mean 1 and log standard deviation 1
PER_PROMPT = 5
"""Logged rows, and draws, of each prompt."""


@dataclass(frozen=True, eq=False)
class SimulatedLog:
    """One simulated log and second sample.

    Attributes
    ----------
    X, y : arrays (n, d), (n,)
    log_probs : dict
        ``logp_target`` and ``logp_logging`` of the logged rows (the latter wrong on purpose under
        ``logging_error``).
    X_target : TargetSample
    groups : array (n,) or None
    q_logged, q_target : arrays (n,), (m,), or None
        The oracle outcome model at the logged rows and at the draws, where the world fills it in.
    """

    X: FloatArray
    y: FloatArray
    log_probs: Mapping[str, FloatArray]
    X_target: TargetSample
    groups: npt.NDArray[np.intp] | None
    q_logged: FloatArray | None = None
    q_target: FloatArray | None = None

    def fit_arguments(
        self, *, target: bool = True, log_probs: bool = True, oracle: bool = False
    ) -> dict[str, Any]:
        """Keyword arguments for an estimator's ``fit``; ``oracle`` adds the oracle's predictions.

        Raises
        ------
        ValueError
            ``oracle`` for a log without them.
        """
        out: dict[str, Any] = dict(self.log_probs) if log_probs else {}
        if target:
            out["X_target"] = self.X_target
        if self.groups is not None:
            out["groups"] = self.groups
        if oracle:
            if self.q_logged is None or self.q_target is None:
                raise ValueError("This log holds no oracle predictions: its world gives none.")
            out |= {"q_logged": self.q_logged, "q_target": self.q_target}
        return out


@dataclass(frozen=True)
class GaussianDesign:
    r"""A design with known value V(f), for coverage studies.

    Parameters
    ----------
    outcome : {"linear", "quadratic", "binary", "heavy", "skewed"}
        ``linear``: :math:`g = 1 + \sum_j x_j`, unit normal noise. ``quadratic`` adds
        :math:`x_1^2 / 2`, which a linear outcome model misses. ``binary``: Bernoulli with
        :math:`g = \mathrm{expit}(-.5 + \sum_j x_j / 2)`. ``heavy``: linear with Student t noise,
        2.5 degrees of freedom, so that fourth moments do not exist. ``skewed``:
        :math:`g = \exp(\sum_j x_j / 4)` times lognormal noise of mean 1, whose logarithm has
        standard deviation 1 (money, minutes, counts of clicks).
    shift : float
        :math:`|\mu|`, the standard deviation of the log ratio.
    dim : int
        Number of features.
    draws_per_row : float
        Draws of the second sample per logged row, ``m / n``.
    readers : int
        Readers per logged text (rows that share the text and a text effect, clustered).
    text_effect : float
        Standard deviation of the text's random effect among its readers (``skewed``: of its
        logarithm, a factor of mean 1).
    prompts : bool
        Five logged rows and five draws per prompt; the first feature belongs to the prompt, which
        no policy changes. Log and draws share prompts. Needs two features or more, and no
        ``readers``.
    logging_error : float
        The stated logging policy is :math:`N(e, I)` with ``e`` this far along the shift: wrong
        importance weights.
    sampling_shift : float, optional
        Draws come from :math:`N(\mu_0, I)`, ``mu_0`` this far along the shift, with ratios; not
        with ``prompts``.

    Raises
    ------
    ValueError
        An unknown outcome, numbers that make no sense, settings that exclude each other.

    Examples
    --------
    >>> design = GaussianDesign("linear", shift=.5)
    >>> log = design.draw(100, np.random.default_rng(0))
    >>> log.X.shape, round(design.value(), 3)
    ((100, 3), 1.866)
    """

    outcome: Literal["linear", "quadratic", "binary", "heavy", "skewed"] = "linear"
    shift: float = 0.5
    dim: int = 3
    draws_per_row: float = 4.0
    readers: int = 1
    text_effect: float = 0.5
    prompts: bool = False
    logging_error: float = 0.0
    sampling_shift: float | None = None

    def __post_init__(self) -> None:
        check_choice(self.outcome, "outcome", OUTCOMES)
        for name in ("shift", "logging_error"):
            check_number(getattr(self, name), name)
        check_number(self.text_effect, "text_effect", least=0.0)
        check_number(self.draws_per_row, "draws_per_row", above=0.0)
        check_count(self.dim, "dim")
        check_count(self.readers, "readers")
        if self.sampling_shift is not None:
            check_number(self.sampling_shift, "sampling_shift")
        if self.prompts and self.sampling_shift is not None:
            raise ValueError("prompts=True draws from the target itself: leave out sampling_shift.")
        if self.prompts and self.readers > 1:
            raise ValueError(
                f"prompts=True with readers={self.readers}: rows cluster by prompt or by text; "
                "leave out one of the two."
            )
        if self.prompts and self.dim < 2:
            raise ValueError(
                f"prompts=True needs dim >= 2, got {self.dim}: the first feature is the prompt's."
            )

    # ------------------------------------------------------------------ truth
    @property
    def direction(self) -> FloatArray:
        """Unit vector of the shift, shape (d,); zero on the prompt's feature."""
        out = np.ones(self.dim)
        if self.prompts:
            out[0] = 0.0
        return out / np.linalg.norm(out)

    @property
    def mean_target(self) -> FloatArray:
        """Mean of the target's features, shape (d,)."""
        return self.shift * self.direction

    def mean_outcome(self, X: FloatArray) -> FloatArray:
        """g(x) of rows (n, d)."""
        total = X.sum(axis=1)
        if self.outcome == "binary":
            return np.asarray(special.expit(-0.5 + 0.5 * total))
        if self.outcome == "skewed":
            return np.asarray(np.exp(SLOPE * total))
        curve = 0.5 * X[:, -1] ** 2 if self.outcome == "quadratic" else 0.0
        return np.asarray(1.0 + total + curve)

    def value(self, mean: FloatArray | None = None) -> float:
        """V(f), exact (Gauss-Hermite quadrature for the binary outcome).

        Of the design's target, or of the policy :math:`N(mean, I)`, mean of shape (d,) (with
        prompts its first entry is 0, as no policy changes the prompt).
        """
        mu = self.mean_target if mean is None else np.asarray(mean, dtype=np.float64)
        if mu.shape != (self.dim,):
            raise ValueError(f"mean must have shape ({self.dim},), got {mu.shape}.")
        if self.outcome == "binary":
            nodes, weights = np.polynomial.hermite_e.hermegauss(80)
            total = mu.sum() + math.sqrt(self.dim) * nodes
            return float(weights @ special.expit(-0.5 + 0.5 * total) / weights.sum())
        if self.outcome == "skewed":
            return _mean_exp(SLOPE, float(mu.sum()), self.dim)
        curve = 0.5 * (1.0 + mu[-1] ** 2) if self.outcome == "quadratic" else 0.0
        return float(1.0 + mu.sum() + curve)

    def value_variance(self, mean: FloatArray | None = None) -> float:
        """Variance of g(X) under the target, or under :math:`N(mean, I)`; prompts vary too."""
        mu = self.mean_target if mean is None else np.asarray(mean, dtype=np.float64)
        if self.outcome == "binary":
            nodes, weights = np.polynomial.hermite_e.hermegauss(80)
            g = special.expit(-0.5 + 0.5 * (mu.sum() + math.sqrt(self.dim) * nodes))
            p = weights / weights.sum()
            return float(p @ g**2 - (p @ g) ** 2)
        if self.outcome == "skewed":
            total = float(mu.sum())
            return _mean_exp(2 * SLOPE, total, self.dim) - _mean_exp(SLOPE, total, self.dim) ** 2
        linear = float(self.dim)
        if self.outcome == "quadratic":  # Var(x + x^2/2) = 1 + 1/2 + 2 mu + mu^2 - 1 on top of x
            return linear + 0.5 + 2.0 * float(mu[-1]) + float(mu[-1] ** 2)
        return linear

    def efficiency_bound(self, n: int) -> float:
        r"""Smallest asymptotic variance with ``n`` rows, where draws alone tell of :math:`P_f`.

        :math:`E_R[w^2 Var(Y|X)]/n + Var_f(g)/m`, of regular estimators to which the logged texts
        say nothing of :math:`E_f[g]` (with few draws weighting alone may have less); for several
        readers of a text :math:`Var(Y|X)` is that of the text's mean, over the number of texts.
        With prompts, of which there are :math:`n/5`, it is over their number

        .. math:: \frac15 E_R[w^2 Var(Y|X)] + Var_c E_f[g|c] + \frac15 E_c Var_f(g|c),

        as of :meth:`PromptDesign.efficiency_bound
        <causal_lm_opt.simulation.PromptDesign.efficiency_bound>` without a shared effect.

        With ``sampling_shift`` draws come from :math:`P_0` and are weighted by
        :math:`w_0 = f / p_0`, self-normalised: in place of :math:`Var_f(g)` stands

        .. math:: E_0[w_0^2 (g - V)^2]
                  = e^{|\mu - \mu_0|^2}\, E_{N(2\mu - \mu_0, I)}[(g - V)^2].
        """
        units = self._units(n)
        if self.prompts:
            between = self._between_prompts()
            within = math.exp(self.shift**2) * self._residual_variance()
            within += self.value_variance() - between
            return (within / PER_PROMPT + between) / units
        logged = math.exp(self.shift**2) * self._residual_variance() / units
        return logged + self._draws_variance() / check_drawn(n, self.draws_per_row)

    def _units(self, n: int) -> int:
        """Prompts, or texts, of a log of ``n`` rows; at least one."""
        per = PER_PROMPT if self.prompts else self.readers
        return check_count(n, "n", per) // per

    def _draws_variance(self) -> float:
        """Variance of one draw's term in the mean of g over the draws."""
        if self.sampling_shift is None:
            return self.value_variance()
        apart = (self.shift - self.sampling_shift) * self.direction
        centre = self.mean_target + apart  # of w0^2 P_0, up to a factor
        off = self.value(centre) - self.value()
        return math.exp(float(apart @ apart)) * (self.value_variance(centre) + off**2)

    def _between_prompts(self) -> float:
        """Variance over prompts of the target's mean outcome there, :math:`Var_c E_f[g|c]`."""
        if self.outcome == "skewed":  # a factor of the prompt, and the text's mean factor
            of_text = _mean_exp(SLOPE, float(self.mean_target.sum()), self.dim - 1)
            return of_text**2 * (_mean_exp(2 * SLOPE, 0.0, 1) - _mean_exp(SLOPE, 0.0, 1) ** 2)
        if self.outcome != "binary":
            return 1.0  # g is c plus what belongs to the text alone
        nodes, weights = np.polynomial.hermite_e.hermegauss(80)
        p = weights / weights.sum()
        text = self.mean_target.sum() + math.sqrt(self.dim - 1) * nodes
        mean = special.expit(-0.5 + 0.5 * (nodes[:, None] + text)) @ p
        return float(p @ mean**2 - (p @ mean) ** 2)

    def _residual_variance(self) -> float:
        """Variance of a text's mean outcome given the text, under N(2 mu, I) (w^2 P_R, scaled)."""
        if self.outcome == "binary":  # readers share no effect
            nodes, weights = np.polynomial.hermite_e.hermegauss(80)
            total = 2.0 * self.mean_target.sum() + math.sqrt(self.dim) * nodes
            g = special.expit(-0.5 + 0.5 * total)
            return float(weights @ (g * (1.0 - g)) / weights.sum()) / self.readers
        if self.outcome == "skewed":
            shared = math.exp(self.text_effect**2) if self.readers > 1 else 1.0
            square = _mean_exp(2 * SLOPE, 2.0 * float(self.mean_target.sum()), self.dim)
            return square * (shared * (1.0 + SKEWED / self.readers) - 1.0)
        noise = 5.0 if self.outcome == "heavy" else 1.0  # nu / (nu - 2) at nu = 2.5
        shared = self.text_effect**2 if self.readers > 1 else 0.0
        return shared + noise / self.readers

    # ------------------------------------------------------------------ draws
    def draw(self, n: int, rng: np.random.Generator) -> SimulatedLog:
        """A log of ``n`` rows and its second sample."""
        texts = self._units(n)
        prompt = None
        X = rng.normal(size=(n // self.readers, self.dim))
        if self.prompts:
            prompt = np.repeat(np.arange(texts), PER_PROMPT)
            X = rng.normal(size=(prompt.size, self.dim))
            X[:, 0] = rng.normal(size=texts)[prompt]
        groups = prompt
        effect = np.zeros(X.shape[0])
        if self.readers > 1:
            effect = self.text_effect * rng.normal(size=texts)
            groups = np.repeat(np.arange(texts), self.readers)
            X, effect = X[groups], effect[groups]
        y = self._outcomes(X, effect, rng)
        wrong = self.logging_error * self.direction
        drawn = self._second_sample(n, X, prompt, rng)
        return SimulatedLog(
            X=X,
            y=y,
            log_probs={
                "logp_target": self._log_density(X, self.mean_target),
                "logp_logging": self._log_density(X, wrong),
            },
            X_target=drawn,
            groups=groups,
            q_logged=self.mean_outcome(X),
            q_target=self.mean_outcome(drawn.X),
        )

    def _outcomes(self, X: FloatArray, effect: FloatArray, rng: np.random.Generator) -> FloatArray:
        g = self.mean_outcome(X)
        if self.outcome == "binary":
            return (rng.random(g.shape[0]) < g).astype(np.float64)
        if self.outcome == "heavy":
            return np.asarray(g + effect + rng.standard_t(2.5, size=g.shape[0]))
        if self.outcome == "skewed":
            tau = self.text_effect if self.readers > 1 else 0.0
            noise = rng.normal(size=g.shape[0]) - 0.5
            return np.asarray(g * np.exp(effect - tau**2 / 2 + noise))
        return np.asarray(g + effect + rng.normal(size=g.shape[0]))

    def _second_sample(
        self, n: int, X: FloatArray, prompt: npt.NDArray[np.intp] | None, rng: np.random.Generator
    ) -> TargetSample:
        if prompt is not None:
            draws = self.mean_target + rng.normal(size=X.shape)
            draws[:, 0] = X[:, 0]
            return self._scored(draws, groups=prompt)
        m = check_drawn(n, self.draws_per_row)
        if self.sampling_shift is not None:
            centre = self.sampling_shift * self.direction
            draws = centre + rng.normal(size=(m, self.dim))
            return self._scored(draws, logp_sampling=self._log_density(draws, centre))
        return self._scored(self.mean_target + rng.normal(size=(m, self.dim)))

    def _scored(self, draws: FloatArray, **more: Any) -> TargetSample:
        return TargetSample(
            draws,
            logp_target=self._log_density(draws, self.mean_target),
            logp_logging=self._log_density(draws, self.logging_error * self.direction),
            **more,
        )

    def _log_density(self, X: FloatArray, mean: FloatArray) -> FloatArray:
        return np.asarray(-0.5 * ((X - mean) ** 2).sum(axis=1) - 0.5 * self.dim * LOG_2PI)


def _mean_exp(slope: float, total: float, dim: int) -> float:
    """Mean of exp(slope * sum x) for x ~ N(m, I) of ``dim`` features, ``total`` the sum of m."""
    return math.exp(slope * total + dim * slope**2 / 2)
