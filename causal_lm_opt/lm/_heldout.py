"""Values of policies on rows that had no part in training: the only ones an optimiser reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from causal_lm_opt.diagnostics.verdict import MEAN_WEIGHT_Z
from causal_lm_opt.estimate import ValueEstimate
from causal_lm_opt.estimators._named_ratios import FeasibleBalance, WordOdds
from causal_lm_opt.estimators._target import TargetSample
from causal_lm_opt.estimators.density_ratio import DensityRatio
from causal_lm_opt.estimators.doubly_robust import DoublyRobust
from causal_lm_opt.lm._features import TextFeatures
from causal_lm_opt.lm._optimizer_rows import Rows, joined
from causal_lm_opt.lm.policy import LanguageModelPolicy

__all__ = ["RATIOS", "Drawn", "HeldOut", "draw_for", "make_ratio"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
RatioName = Literal["auto", "sequence", "latent", "classifier", "balance"]
RATIOS = ("auto", "sequence", "latent", "classifier", "balance")
NAMES = ("trained", "start")
CLOSE = 0.3  # effective sample size (share) from which sequence weights are preferred
LEVELS = ("trustworthy", "caution", "do not use")


@dataclass(frozen=True, eq=False)
class Drawn:
    """Draws of one policy for some held-out rows.

    Attributes
    ----------
    read : list of m str
        Texts after their prompts.
    groups : (m,) int array or None
        Cluster of the row whose prompt a draw has; None where there are no prompts.
    logp : (m,) float64 array
        Log-probability under the policy itself.
    logp_logging : (m,) float64 array or None
        Under the logging policy, where it can score.
    unfinished : float
        Share of the draws that were cut at the limit.
    """

    read: list[str]
    groups: IntArray | None
    logp: FloatArray
    logp_logging: FloatArray | None
    unfinished: float = 0.0


def draw_for(
    policy: Any, rows: Rows, n_draws: int, seed: Sequence[int], max_new_tokens: int,
    logger: Any = None,
) -> Drawn:  # fmt: skip
    """About ``n_draws`` texts of a policy; as many for each row's prompt, where rows have any."""
    rng = np.random.default_rng(list(seed))
    if rows.prompts is None:
        draws = policy.sample(n_draws, rng, max_new_tokens=max_new_tokens)
        prompts, groups = None, None
    else:
        each = -(-n_draws // len(rows))
        draws = policy.sample(each, rng, prompts=rows.prompts, max_new_tokens=max_new_tokens)
        prompts = [rows.prompts[i] for i in draws.prompt_index]
        groups = rows.groups[draws.prompt_index]
    texts = list(draws.texts)
    scored = None
    if isinstance(logger, LanguageModelPolicy) and logger.tokenizer is policy.tokenizer:
        # by tokens: a text in unusual ones may be too long in the usual ones
        scored = logger.log_prob_ids(draws.token_ids, prompts)
    elif logger is not None:
        scored = logger.log_prob(texts) if prompts is None else logger.log_prob(texts, prompts)
    cut = float(np.mean(~draws.finished)) if len(draws) else 0.0
    return Drawn(joined(texts, prompts), groups, np.asarray(draws.log_prob), scored, cut)


def make_ratio(name: str, features: TextFeatures) -> Any:
    """An unfitted density ratio of texts.

    "latent": odds on the features; "cells": counts of their values; "balance": entropy balancing of
    the features; "classifier": odds on words. Odds that are linear in the features balance their
    means, so that the doubly robust value is right where outcomes (or the odds) are linear in them;
    whether squares and products matter, the verdict tests.
    """
    if name == "latent":
        return DensityRatio(latent=features)
    if name == "cells":
        return DensityRatio("cells", latent=features)
    return FeasibleBalance(features) if name == "balance" else WordOdds()


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Rows that policies are valued on, and how.

    Attributes
    ----------
    rows : Rows
    features : TextFeatures
    predict : callable list of m str -> (m,)
        Outcome model that has not seen the rows.
    ratio : str
        One of ``RATIOS``.
    """

    rows: Rows
    features: TextFeatures
    predict: Callable[[list[str]], FloatArray]
    ratio: str

    def value(
        self, draws: Mapping[str, Drawn], logp: Mapping[str, FloatArray] | None, ratio: str
    ) -> ValueEstimate:
        """Doubly robust values of the policies, in the order of ``draws``, by one kind of weights.

        Parameters
        ----------
        logp : mapping policy -> (n,) array, or None
            Log-probabilities of the rows, for ratios of sequences.
        ratio : str
            One of ``RATIOS`` but "auto".
        """
        rows, read = self.rows, self.rows.read
        own = ratio == "sequence"
        estimator = DoublyRobust(ratio=None if own else make_ratio(ratio, self.features))
        samples = {
            name: TargetSample(
                np.array(d.read, dtype=object), groups=d.groups,
                logp_target=d.logp if own else None, logp_logging=d.logp_logging if own else None,
            )
            for name, d in draws.items()
        }  # fmt: skip
        fitted = estimator.fit(
            np.array(read, dtype=object), rows.outcome, groups=rows.groups,
            logp_target=dict(logp or {}) if own else None,
            logp_logging=rows.logp_logging if own else None, X_target=samples,
            q_logged=self.predict(read),
            q_target={name: self.predict(d.read) for name, d in draws.items()},
        )  # fmt: skip
        return fitted.result_

    def chosen(
        self, draws: Mapping[str, Drawn], logp: Mapping[str, FloatArray] | None
    ) -> tuple[str, ValueEstimate]:
        """The kind of weights by the setting, or where it is "auto" by the diagnostics.

        Ratios of sequences ask nothing of the features: they are taken where their verdict is the
        better one or as good, with an effective sample size of at least 30 % of the rows and
        weights that average 1; else the odds of the features. (Weights below 1 on average belong
        to policies that write texts which the log never has, as a small model does.)
        """
        if self.ratio != "auto":
            return self.ratio, self.value(draws, logp, self.ratio)
        latent = self.value(draws, logp, "latent")
        if logp is None:
            return "latent", latent
        sequence = self.value(draws, logp, "sequence")
        level, other = (LEVELS.index(r.verdicts[0].level) for r in (sequence, latent))
        share = sequence.diagnostics[0].get("ess_share") or 0.0
        off = max(abs(float(d.get("mean_weight_z") or 0.0)) for d in sequence.diagnostics)
        near = share >= CLOSE and not off > MEAN_WEIGHT_Z
        return ("sequence", sequence) if level <= other and near else ("latent", latent)
