"""Calibration of preference probabilities: a temperature, and how far from right they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize

from causal_lm_opt.diagnostics.calibration import Calibration, calibration
from causal_lm_opt.rewards.losses import pair_loss

__all__ = ["PairCalibration", "fit_temperature", "pair_calibration"]

FloatArray = npt.NDArray[np.float64]
#: Log temperatures are sought within this; pairs that are all told apart have no best one.
WIDEST = 7.0


@dataclass(frozen=True, eq=False)
class PairCalibration:
    """Quality of preference probabilities on labelled pairs.

    Attributes
    ----------
    accuracy : float
        Share of labels told right, ties counting half.
    log_loss : float
        Mean pair loss, in nats; ln 2 = 0.693 for a coin.
    brier : float
        Mean squared difference of probability and label, which is 0.25 for a coin and plain
        labels.
    error : float
        Expected calibration error of the preferred text's probability.
    error_noise : float
        What ``error`` would be on average were the probabilities right.
    calibration : Calibration
        Slope, intercept, test and table behind ``error``.
    """

    accuracy: float
    log_loss: float
    brier: float
    error: float
    error_noise: float
    calibration: Calibration


def fit_temperature(margin: Any, coefficients: Any) -> float:
    r"""Temperature T that minimises the risk of the margins :math:`m/T`.

    Guo et al. (2017), sec. 4.2. Accuracy is left as it is.

    Parameters
    ----------
    margin : array, shape (n,)
    coefficients : array, shape (n, 2)
        a and b of each pair's risk, ``a log(1 + e^m) - b m``: weight, and weight times label.

    Returns
    -------
    float, between exp(-7) and exp(7)

    Examples
    --------
    >>> margin = np.full(4, 2.0)                     # says 0.88 where it is 0.75
    >>> round(fit_temperature(margin, np.array([[1, 1], [1, 1], [1, 1], [1, 0]])), 3)
    1.820
    """
    m, (a, b) = np.asarray(margin, dtype=np.float64), np.asarray(coefficients, dtype=np.float64).T
    found = optimize.minimize_scalar(
        lambda t: float(a @ pair_loss(m * np.exp(-t), 0.0) - b @ m * np.exp(-t)) / len(m),
        bounds=(-WIDEST, WIDEST), method="bounded", options={"xatol": 1e-8},
    )  # fmt: skip
    return float(np.exp(found.x))


def pair_calibration(
    probability: Any, label: Any, sample_weight: Any = None, *, bins: int = 10
) -> PairCalibration:
    """Scores of probabilities (n,) that the first text wins against labels (n,) in [0, 1].

    Which text of a pair comes first says nothing, so calibration is that of the text the model
    prefers; swapping the texts of any pair changes nothing.

    Parameters
    ----------
    probability, label : arrays, shape (n,)
    sample_weight : array, shape (n,), optional
    bins : int

    Examples
    --------
    >>> found = pair_calibration([.8] * 5 + [.2] * 5, [1, 1, 1, 1, 0] + [0, 0, 0, 0, 1])
    >>> found.accuracy, round(found.brier, 2), round(abs(found.error), 12)
    (0.8, 0.16, 0.0)
    """
    p, y = np.asarray(probability, dtype=np.float64), np.asarray(label, dtype=np.float64)
    w = np.ones(len(p)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    first = p >= 0.5
    q, won = np.where(first, p, 1.0 - p), np.where(first, y, 1.0 - y)
    right = np.where(p == 0.5, 0.5, won)
    safe = np.clip(p, 1e-300, 1.0), np.clip(1.0 - p, 1e-300, 1.0)
    loss = -(y * np.log(safe[0]) + (1.0 - y) * np.log(safe[1]))
    # Weights here are importance weights: they enter as ratios, not as copies of rows.
    keep = w > 0
    table = calibration(won[keep], q[keep], log_ratio=np.log(w[keep]), bins=bins)
    return PairCalibration(
        accuracy=float(np.average(right, weights=w)),
        log_loss=float(np.average(loss, weights=w)),
        brier=float(np.average((p - y) ** 2, weights=w)),
        error=table.error,
        error_noise=table.error_noise,
        calibration=table,
    )
