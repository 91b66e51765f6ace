"""An outcome model that a confounder has turned: for worlds in which the truth is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin

from causal_lm_opt.estimators.targeting import regression_on

__all__ = ["ConfoundedModel"]

FloatArray = npt.NDArray[np.float64]


class ConfoundedModel(RegressorMixin, BaseEstimator):
    r"""Ridge regression on features whose effects are shrunk, or turned, about the mean.

    .. math:: q(x) = m + (1 - b)\,(h(x) - m)

    Parameters
    ----------
    features : callable texts -> (n, p)
    strength : float
        b: 0 leaves the regression as it is, 1 says nothing, 2 has the wrong sign.

    Examples
    --------
    >>> lengths = lambda texts: np.array([[len(t)] for t in texts], dtype=float)
    >>> texts, y = ["a", "bb", "ccc", "dddd"], [1., 2., 3., 4.]
    >>> ConfoundedModel(lengths, 2.0).fit(texts, y).predict(["bbb"]).round(1).tolist()
    [2.0]
    """

    def __init__(self, features: Any, strength: float = 0.0) -> None:
        self.features = features
        self.strength = strength

    def fit(self, X: Any, y: Any) -> ConfoundedModel:
        """Fit the regression."""
        self.mean_ = float(np.mean(y))
        self.model_ = regression_on(self.features).fit(X, y)
        return self

    def predict(self, X: Any) -> FloatArray:
        """Predictions (m,)."""
        right = np.asarray(self.model_.predict(X), dtype=np.float64)
        return np.asarray(self.mean_ + (1.0 - self.strength) * (right - self.mean_))

    def __sklearn_clone__(self) -> ConfoundedModel:
        return ConfoundedModel(self.features, self.strength)  # the features stay as they are
