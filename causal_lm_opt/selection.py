"""The best of several policies: how likely it is each one, and what a wrong choice may cost.

Both rest on the joint distribution of the estimates, which their influence functions give.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from causal_lm_opt.comparison import standard_draws
from causal_lm_opt.estimate import ValueEstimate

__all__ = ["RegretBound", "probability_best", "regret_upper_bound"]

FloatArray = npt.NDArray[np.float64]


def _errors(estimate: ValueEstimate, n_sim: int, random_state: int) -> FloatArray:
    """Simulated errors of the estimates (n_sim, K), with their joint covariance."""
    values, vectors = np.linalg.eigh(estimate.covariance())
    root = vectors * np.sqrt(np.clip(values, 0.0, None))
    return np.asarray(standard_draws(estimate, n_sim, random_state) @ root.T)


def probability_best(
    estimate: ValueEstimate, *, n_sim: int = 50_000, random_state: int = 0
) -> pd.DataFrame:
    r"""Probability that each policy is the best one.

    The share of draws from :math:`N(\hat V, \hat\Sigma)` (multivariate t for clusters) in which the
    policy comes first. This is the posterior probability under a flat prior on the values, and
    what a multiplier bootstrap of the influence functions gives. It is *not* a p-value, *not* the
    frequency with which such a choice is right when the policies are in truth about equal (of K
    equal policies one is always ahead: read the regret bound beside it), and it knows no more of
    wrong log-probs or missing overlap than the standard errors do.

    Parameters
    ----------
    estimate : ValueEstimate
        Two or more policies.
    n_sim, random_state : int

    Returns
    -------
    DataFrame
        ``policy, value, prob_best``, its Monte-Carlo error ``mc_se``, and ``lowest, highest``: the
        same with the policy's value lowered and the others' raised by their bounds on the
        transform's bias, and the other way round (equal to ``prob_best`` without transform).

    Examples
    --------
    Two policies: the normal probability of a positive difference.

    >>> import numpy as np
    >>> from causal_lm_opt import IPW
    >>> rng = np.random.default_rng(0)
    >>> good = rng.random(400) < .5
    >>> r = IPW().fit(good[:, None], good + rng.normal(size=400),
    ...               logp_logging=np.log(np.full(400, .5)),
    ...               logp_target={"f": np.log(np.where(good, .55, .45)),
    ...                            "g": np.log(np.where(good, .5, .5))}).result_
    >>> z = (r["f"] - r["g"]).value / (r["f"] - r["g"]).se
    >>> from scipy.stats import norm
    >>> p = probability_best(r)["prob_best"]
    >>> bool(abs(p[0] - norm.cdf(z)) < .01), float(round(p.sum(), 6))
    (True, 1.0)
    """
    if len(estimate.names) < 2:
        raise ValueError("One policy is always the best of one; give at least two.")
    errors = _errors(estimate, n_sim, random_state)
    values, bias = estimate.values, estimate.bias_bound
    found = _wins(values, errors)
    lowest, highest = found.copy(), found.copy()
    if np.any(bias > 0):
        for k in range(len(estimate.names)):
            own = np.where(np.arange(bias.size) == k, -bias, bias)
            lowest[k] = _wins(values + own, errors)[k]
            highest[k] = _wins(values - own, errors)[k]
    return pd.DataFrame(
        {
            "policy": list(estimate.names),
            "value": values,
            "prob_best": found,
            "mc_se": np.sqrt(found * (1.0 - found) / n_sim),
            "lowest": lowest,
            "highest": highest,
        }
    )


def _wins(values: FloatArray, errors: FloatArray) -> FloatArray:
    """Share of draws in which each policy is the largest (ties shared), shape (K,)."""
    drawn = values + errors
    # Copies of a policy differ by rounding in the simulated errors.
    first = drawn >= drawn.max(axis=1, keepdims=True) - 1e-9 * (np.abs(errors).max() or 1.0)
    return np.asarray((first / first.sum(axis=1, keepdims=True)).mean(axis=0))


@dataclass(frozen=True)
class RegretBound:
    """How much better than the chosen policy the best one may be.

    Attributes
    ----------
    policy : str
        The chosen policy.
    bound : float
        Upper bound of :math:`max_k V_k - V_{chosen}`, at least 0, in outcome units.
    candidates : tuple of str
        Policies that may be the best: the true best is among them.
    level : float
        Probability with which both hold, however the policy was chosen.
    """

    policy: str
    bound: float
    candidates: tuple[str, ...]
    level: float

    def __str__(self) -> str:
        return (
            f"{self.policy}: with {self.level:.0%} confidence no policy is better by more than "
            f"{self.bound:.4g}; possibly the best: {', '.join(self.candidates)}"
        )


def regret_upper_bound(
    estimate: ValueEstimate,
    policy: str | int | None = None,
    *,
    level: float = 0.95,
    n_sim: int = 50_000,
    random_state: int = 0,
) -> RegretBound:
    r"""Upper confidence bound of the regret of a policy that was chosen after seeing the estimates.

    Were policy k the best, the differences :math:`V_k - V_j` would all lie below
    :math:`\hat V_k - \hat V_j + c_k s_{kj}` with probability ``level``, ``c_k`` the one-sided max-t
    critical value of the differences from k. The best policy is one of them, whichever, so

    .. math:: \max_k V_k - V_j \le \max_k (\hat V_k - \hat V_j + c_k s_{kj})_+

    for all j at once, the chosen one included (Hsu 1984, multiple comparisons with the best: a
    family of K - 1 differences, not of all pairs).

    Parameters
    ----------
    estimate : ValueEstimate
        Two or more policies.
    policy : str, int or None
        The chosen policy; ``None``: the largest estimate.
    level : float
    n_sim, random_state : int

    Returns
    -------
    RegretBound
        Widened by the bounds on the transforms' bias, if any.

    Examples
    --------
    >>> import numpy as np
    >>> from causal_lm_opt import IPW
    >>> rng = np.random.default_rng(0)
    >>> good = rng.random(4000) < .5
    >>> r = IPW().fit(good[:, None], good + rng.normal(size=4000),
    ...               logp_logging=np.log(np.full(4000, .5)),
    ...               logp_target={p: np.log(np.where(good, s, 1 - s))
    ...                            for p, s in {"f": .7, "g": .3, "h": .6}.items()}).result_
    >>> print(regret_upper_bound(r))
    f: with 95% confidence no policy is better by more than 0; possibly the best: f
    >>> round(regret_upper_bound(r, "h").bound, 2)
    0.11
    """
    if len(estimate.names) < 2:
        raise ValueError("Regret needs at least two policies.")
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie strictly between 0 and 1, got {level!r}.")
    values = estimate.values
    chosen = int(np.argmax(values)) if policy is None else estimate.position(policy)
    margin = _margins(estimate, level, n_sim, random_state)
    # upper[k, j]: how much better k may be than j, were k the best
    upper = values[:, None] - values[None, :] + margin
    np.fill_diagonal(upper, 0.0)
    possible = np.flatnonzero((upper >= 0.0).all(axis=1))
    # Were k beaten by some j even at its upper limit, it could not be the best at all.
    bound = max(0.0, float(upper[possible, chosen].max(initial=0.0)))
    names = tuple(estimate.names[k] for k in possible)
    return RegretBound(estimate.names[chosen], bound, names, level)


def _margins(estimate: ValueEstimate, level: float, n_sim: int, random_state: int) -> FloatArray:
    """``c_k s_kj`` plus the bounds on bias, shape (K, K)."""
    covariance = estimate.covariance()
    variance = np.diagonal(covariance)
    spread = np.sqrt(np.maximum(variance[:, None] + variance[None, :] - 2.0 * covariance, 0.0))
    # differences that are 0 in every row have no error, up to rounding
    alive = spread > 1e-12 * np.sqrt(variance.max())
    errors = _errors(estimate, n_sim, random_state)
    out = np.zeros_like(spread)
    for k in range(len(estimate.names)):
        if not alive[k].any():
            continue
        t = (errors[:, alive[k]] - errors[:, [k]]) / spread[k, alive[k]]
        out[k, alive[k]] = np.quantile(t.max(axis=1), level) * spread[k, alive[k]]
    bias = estimate.bias_bound
    return out + bias[:, None] + bias[None, :]
