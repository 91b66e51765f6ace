r"""The reward of the targeted on-policy recipe: an outcome model retargeted to each round's policy.

Round t draws texts from :math:`f_t`; the odds of these draws against the randomised rows are
weights marginalised on what outcomes respond to; a weighted regression of the rows' residuals makes
:math:`q^* = q + \delta` answer to those rows, so that :math:`E_{f_t}[q^*]` is the doubly robust
value; the draws are rewarded by :math:`q^*`. Nothing here reads a held-out row.

The reward's second part keeps the policy where the log can value it. The best policy for

.. math:: E_f[q^*] - \tau \, KL(P_f(z) \| P_R(z)), \qquad \tau = sd(q^*) / \text{tilt}

is the log's own distribution of features tilted by :math:`e^{q^* / \tau}`: the largest gain for a
loss of effective sample size. For normal :math:`q^*` it gains ``tilt`` standard deviations at an
effective sample size of :math:`e^{-\text{tilt}^2}` of the rows; for few features of few levels the
price is lower.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from causal_lm_opt.estimators.targeting import Correction, retarget
from causal_lm_opt.exceptions import OverlapError
from causal_lm_opt.lm._features import TextFeatures
from causal_lm_opt.lm._heldout import make_ratio
from causal_lm_opt.lm._optimizer_rows import Rows, joined

__all__ = ["TargetedReward"]

FloatArray = npt.NDArray[np.float64]
ROWS_PER_CELL = 20


@dataclass(eq=False)
class TargetedReward:
    r"""``reward(texts, prompts)`` of a round's draws.

    Parameters
    ----------
    rows : Rows
        Training rows.
    predicted : (n,) array
        Their outcomes by models that have not seen them.
    predict : callable list of m str -> (m,)
        The outcome model elsewhere.
    features : TextFeatures
        Basis of odds and correction; the outcome model's own prediction is a column of it too, so
        that a model of the wrong scale or sign is mended even where the features are poor.
    ratio : {"latent", "classifier", "balance"}
    tilt : float or None
        Strength of the pull, in standard deviations of :math:`q^*`: a text loses
        :math:`\tau \log w_z`, with :math:`\tau` the standard deviation over ``tilt``.

    Attributes
    ----------
    last : Correction or None
        That of the newest round.
    lost : str
        Why the rows say nothing of the newest round's draws; training is to end then.
    """

    rows: Rows
    predicted: FloatArray
    predict: Callable[[list[str]], FloatArray]
    features: TextFeatures
    ratio: str = "latent"
    tilt: float | None = None
    last: Correction | None = field(default=None, init=False)
    lost: str = field(default="", init=False)

    def __call__(self, texts: Sequence[str], prompts: Sequence[Any] | None) -> list[float]:
        """Retargeted outcomes of the draws less the price of leaving what the log supports."""
        read, rows = joined(texts, prompts), self.rows
        try:
            ratio = self._ratio(read)
        except OverlapError as error:
            self.lost = str(error)
            return [0.0] * len(read)
        logged = self._basis(rows.read, self.predicted)
        correction = retarget(logged, rows.outcome - self.predicted, ratio.log_ratio_)
        self.last = correction
        found = self.predict(read)
        low, high = rows.outcome.min(), rows.outcome.max()  # no mean lies beyond the outcomes
        reward = np.clip(found + correction(self._basis(read, found)), low, high)
        if self.tilt is not None:
            if not (ratio.log_ratio_target_ <= ratio.log_ratio_.max()).any():
                self.lost = "every text of the round lies beyond the logged ones."
            spread = float(np.std(self.predicted + correction(logged)))
            reward = _less_the_price(
                reward, ratio.log_ratio_target_, float(ratio.log_ratio_.max()), spread / self.tilt
            )
        return [float(r) for r in reward]

    def _ratio(self, read: list[str]) -> Any:
        """Odds of the draws against the rows; by cells where the features take few values.

        Cells see combinations that were never logged, which odds linear in the features do not: a
        policy rewarded by an additive model would look for them.
        """
        logged = self.features(self.rows.read).to_numpy()
        few = np.unique(logged, axis=0).shape[0] * ROWS_PER_CELL <= len(self.rows)
        ratio = make_ratio("cells" if few else self.ratio, self.features)
        texts = (np.array(some, dtype=object) for some in (self.rows.read, read))
        return ratio.fit(*texts, groups=self.rows.groups)

    def _basis(self, read: list[str], predicted: FloatArray) -> FloatArray:
        return np.column_stack([self.features(read).to_numpy(), predicted])


def _less_the_price(
    reward: FloatArray, log_ratio: FloatArray, most: float, price: float
) -> FloatArray:
    """Rewards less ``price`` times the log ratio, (m,); the least of them for unsupported texts.

    A text is unsupported where its ratio is beyond ``most``, that of every logged row: whatever the
    outcome model says of it, no reader has answered to anything like it.
    """
    within = log_ratio <= most
    if not within.any():
        return np.zeros_like(reward)
    net = reward - price * np.where(within, log_ratio, 0.0)
    return np.where(within, net, net[within].min())
