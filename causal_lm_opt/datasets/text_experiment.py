"""A small generated text experiment whose true values are known, and its confounded companion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logsumexp

from causal_lm_opt.datasets import _tree_messages as world
from causal_lm_opt.datasets._sequences import pick
from causal_lm_opt.datasets.pieces import PiecePolicy

__all__ = ["TextExperiment", "make_text_experiment", "true_mean"]

#: Name of the logging policy in tables of true values.
LOGGING = "logging"


@dataclass(frozen=True, eq=False)
class TextExperiment:
    """A generated text experiment, as `make_text_experiment` returns it.

    Attributes
    ----------
    frame : DataFrame of shape (n, ...)
        One row per reader: ``text, outcome``, a 0/1 column per arm, ``n_pieces``, the
        log-probabilities, ``reader_id, age, interest``. Log-probability columns are
        ``logp_logging`` (randomised) or ``logp_logging_true`` and ``logp_logging_naive``
        (confounded), and ``logp_<policy>`` for each target.
    texts : list of str, length n
    outcome : (n,) float64 array
        Stated chance of coming to the tree-planting day, 0 to 100, two decimals.
    arms : DataFrame of shape (n, 7)
        0/1 indicators of the six arms, and ``n_pieces``.
    logp_logging : (n,) float64 array
        Natural log of the true P(text), or of P(text | interest) in the confounded one.
    logp_target : DataFrame of shape (n, 3)
        Natural log of P(text) under each target policy, one column per policy.
    design : PiecePolicy
        The randomisation. In the confounded one, what it would have been without confounding.
    policies : dict of str to PiecePolicy
        The three target policies, from a mild to a strong shift.
    truth : dict of str to float
        Exact value of each target, and of the ``"logging"`` design, by enumeration.
    naive_limit : dict of str to float
        What inverse weighting by the marginal P(text) tends to as n grows. In the randomised
        experiment it is the truth; in the confounded one it is not.
    confounded : bool
    """

    frame: pd.DataFrame
    texts: list[str]
    outcome: NDArray[np.float64]
    arms: pd.DataFrame
    logp_logging: NDArray[np.float64]
    logp_target: pd.DataFrame
    design: PiecePolicy
    policies: dict[str, PiecePolicy]
    truth: dict[str, float]
    naive_limit: dict[str, float]
    confounded: bool

    def __len__(self) -> int:
        return len(self.texts)

    def draws(self, m: int, random_state: int | np.random.Generator | None = None) -> pd.DataFrame:
        """Draw m fresh texts of each target policy.

        Parameters
        ----------
        m : int
            Draws per policy.
        random_state : int, numpy Generator or None
            An int makes the draws reproducible.

        Returns
        -------
        DataFrame of shape (3 m, 4)
            Columns ``policy, text, logp_target, logp_logging``; the last is the marginal P(text)
            over readers (in the randomised experiment simply P_R).
        """
        rng = np.random.default_rng(random_state)
        parts = []
        for name, policy in self.policies.items():
            texts = policy.sample(m, rng)
            logp_logging = _marginal_logp(texts, self.design, confounded=self.confounded)
            columns = {"policy": name, "text": texts, "logp_target": policy.log_prob(texts)}
            parts.append(pd.DataFrame({**columns, "logp_logging": logp_logging}))
        return pd.concat(parts, ignore_index=True)


def true_mean(arms: pd.DataFrame) -> NDArray[np.float64]:
    r"""Mean outcome over readers of a text with these arms, the g(x) of the generated experiment.

    .. math::

        g = 42 + 3\,\text{shade} + 2\,\text{birds} + 6\,\text{neighbours} + 5\,\text{easy}
            - 5\,\text{cost} - 7\,\text{rule} + 6\,\text{neighbours}\cdot\text{easy}
            - 1.5\,(\text{n\_pieces} - 1)

    Parameters
    ----------
    arms : DataFrame of shape (n, 7) or wider
        0/1 columns of the six arms, and ``n_pieces``; ``design.arms_of(texts)`` makes it.

    Returns
    -------
    (n,) float64 array
        Points of 0 to 100.

    Raises
    ------
    ValueError
        If a column is missing.

    Examples
    --------
    >>> from causal_lm_opt.datasets import make_text_experiment, true_mean
    >>> experiment = make_text_experiment(n=10)
    >>> true_mean(experiment.design.arms_of(["No experience is needed."])).tolist()
    [47.0]
    """
    return world.mean_answer(arms)


def make_text_experiment(
    n: int = 2000,
    random_state: int | np.random.Generator | None = 0,
    *,
    confounded: bool = False,
) -> TextExperiment:
    """Generate a text experiment with known true values.

    Each of n readers is shown one message that invites them to a tree-planting day, one to three
    pieces long, and says how likely they are to come (0 to 100).

    Parameters
    ----------
    n : int, default 2000
        Number of readers, 1 or more.
    random_state : int, numpy Generator or None, default 0
        An int makes the experiment reproducible.
    confounded : bool, default False
        Instead of randomising, send more messages about neighbours and fewer about cost to
        readers who were interested anyway. Interest raises the outcome by itself, so that
        weighting by the marginal P(text) is biased; ``P(text | interest)`` is kept.

    Returns
    -------
    TextExperiment

    Raises
    ------
    ValueError
        If n is below 1.

    Notes
    -----
    The outcome is ``true_mean(arms) + 4 (interest - 3) - .08 (age - 48.5) + noise``, where interest
    is 1 to 5 with mean 3, age uniform over 18 to 79 (mean 48.5) and the noise a sum of three
    uniforms on -5 to 5, all independent: it stays within 0 to 100 without clipping. Rounding to
    two decimals moves a mean by .005 at most.

    Examples
    --------
    >>> from causal_lm_opt.datasets import make_text_experiment
    >>> experiment = make_text_experiment(n=500, random_state=1)
    >>> list(experiment.policies)
    ['less_cost', 'friendly', 'neighbours_and_easy']
    >>> {name: round(value, 2) for name, value in experiment.truth.items()}
    {'logging': 43.19, 'less_cost': 44.03, 'friendly': 47.01, 'neighbours_and_easy': 56.24}
    >>> experiment.frame.shape
    (500, 16)
    """
    if n < 1:
        raise ValueError(f"n must be 1 or more, got {n}.")
    rng = np.random.default_rng(random_state)
    design = world.design_policy()
    age, interest = _readers(n, rng)
    if confounded:
        texts, logp = _texts_by_interest(interest, world.interest_policies(design), rng)
    else:
        texts = design.sample(n, rng)
        logp = design.log_prob(texts)
    noise = world.NOISE_HALF_WIDTH * (rng.random((n, 3)).sum(axis=1) / 1.5 - 1.0)
    mean = world.mean_answer(design.arms_of(texts))
    rows = pd.DataFrame(
        {
            "text": texts,
            "outcome": np.round(mean + world.reader_effect(age, interest) + noise, 2),
            "reader_id": np.arange(1, n + 1),
            "age": age,
            "interest": interest,
        }
    )
    return assemble(rows, logp, confounded=confounded)


def assemble(
    rows: pd.DataFrame, logp_logging: NDArray[np.float64], *, confounded: bool
) -> TextExperiment:
    """Build the experiment from its rows (text, outcome, reader_id, age, interest).

    Parameters
    ----------
    rows : DataFrame of shape (n, 5)
    logp_logging : (n,) float64 array
    confounded : bool

    Returns
    -------
    TextExperiment
    """
    design = world.design_policy()
    policies = world.target_policies(design)
    texts = rows["text"].tolist()
    arms = design.arms_of(texts)
    logp_target = pd.DataFrame({name: p.log_prob(texts) for name, p in policies.items()})
    logged = {"logp_logging": logp_logging}
    if confounded:
        naive = _marginal_logp(texts, design, confounded=True)
        logged = {"logp_logging_true": logp_logging, "logp_logging_naive": naive}
    frame = pd.concat(
        [
            rows[["text", "outcome"]].reset_index(drop=True),
            arms,
            pd.DataFrame(logged),
            logp_target.add_prefix("logp_"),
            rows[["reader_id", "age", "interest"]].reset_index(drop=True),
        ],
        axis=1,
    )
    everyone = {LOGGING: design, **policies}
    return TextExperiment(
        frame=frame,
        texts=texts,
        outcome=frame["outcome"].to_numpy(dtype=np.float64),
        arms=arms,
        logp_logging=logp_logging,
        logp_target=logp_target,
        design=design,
        policies=policies,
        truth={name: _value(policy) for name, policy in everyone.items()},
        naive_limit={
            name: _value(policy) + (_naive_bias(policy, design) if confounded else 0.0)
            for name, policy in everyone.items()
        },
        confounded=confounded,
    )


def _readers(n: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw ages and interests of n readers, independent of each other."""
    youngest, oldest = world.AGES
    age = youngest + np.floor(rng.random(n) * (oldest - youngest + 1)).astype(np.int64)
    levels = np.array(world.INTERESTS, dtype=np.int64)
    interest = levels[pick(np.cumsum(world.INTEREST_PROB), rng.random(n))]
    return age, interest


def _texts_by_interest(
    interest: NDArray[np.int64], policies: dict[int, PiecePolicy], rng: np.random.Generator
) -> tuple[list[str], NDArray[np.float64]]:
    """Draw each reader's text from the policy of their interest; return texts and log-probs."""
    texts = np.empty(len(interest), dtype=object)
    logp = np.empty(len(interest))
    for level, policy in policies.items():
        at = np.flatnonzero(interest == level)
        drawn = policy.sample(len(at), rng)
        texts[at] = np.array([*drawn, None], dtype=object)[:-1]
        logp[at] = policy.log_prob(drawn)
    return texts.tolist(), logp


def _marginal_logp(
    texts: list[str], design: PiecePolicy, *, confounded: bool
) -> NDArray[np.float64]:
    """Log P(text) over all readers."""
    if not confounded:
        return design.log_prob(texts)
    terms = [policy.log_prob(texts) for policy in world.interest_policies(design).values()]
    weight = np.log(world.INTEREST_PROB)[:, None]
    marginal: NDArray[np.float64] = logsumexp(np.array(terms) + weight, axis=0)
    return marginal


def _value(policy: PiecePolicy) -> float:
    """Exact V of a policy: true_mean over its combinations of arms."""
    arms, prob = policy.support()
    return float(prob @ world.mean_answer(arms))


def _naive_bias(policy: PiecePolicy, design: PiecePolicy) -> float:
    """E_policy of the mean reader effect given the text, in the confounded companion.

    Weighting by the marginal P(text) tends to E_f[E(Y | text)], which is V plus this.
    """
    arms, prob = policy.support()
    by_interest = np.array(
        [np.exp(p.log_prob_arms(arms)) for p in world.interest_policies(design).values()]
    )
    joint = np.array(world.INTEREST_PROB)[:, None] * by_interest
    levels = np.array(world.INTERESTS, dtype=np.float64) - world.INTEREST_MEAN
    mean_interest = levels @ joint / joint.sum(axis=0)
    return float(prob @ (world.PER_INTEREST * mean_interest))
