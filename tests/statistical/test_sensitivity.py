r"""Coverage of the sensitivity bounds in worlds with a known violation, at the bound's edge.

Hidden confounder of strength L: binary U, P(U=1) = L/(1+L). Half-space A of texts (P_R(A) = 1/L)
has P(U=1 | A) = 1/(1+L), so that r = p_R(x)/p_R(x | U) is exactly L (U=1) or 1/L (U=0) there; the
target writes A only; U=1 lifts the outcome past every quantile in question. Then V(f) equals the
population's upper bound at L: nothing narrower covers. Intervals are two-sided at .95, so that at
the edge they cover with probability .975 (and never less than .95 nominally); over 400 replications
.95 lies in a band of 3 sqrt(.95 * .05 / 400) = .033.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import LinearRegression

from causal_lm_opt import IPW, DoublyRobust
from causal_lm_opt.diagnostics.sensitivity import (
    hidden_confounder_bounds,
    hidden_confounder_contrast,
    logging_probability_bounds,
    resample_multipliers,
)
from causal_lm_opt.estimators import Claim, TargetSample, sensitivity

pytestmark = pytest.mark.statistical
L, N, B = 2.0, 600, 200
FLOOR = 0.95 - 3 * math.sqrt(0.95 * 0.05 / 400)
P_TEXT = np.array([0.3, 0.2, 0.3, 0.2])  # A = {0, 1}
TARGET = np.array([0.5, 0.5, 0.0, 0.0])
LEVEL = np.array([0.0, 1.0, 0.5, 0.2])
LIFT = 2.0
VALUE = float(TARGET @ LEVEL) + LIFT * L / (1 + L)


def confounded(rng: np.random.Generator, n: int = N) -> tuple[np.ndarray, np.ndarray]:
    """Texts and outcomes of a log with a hidden U."""
    text = rng.choice(4, size=n, p=P_TEXT)
    u = np.where(text < 2, rng.random(n) < 1 / (1 + L), True)
    return text, LEVEL[text] + LIFT * u + rng.uniform(-0.5, 0.5, size=n)


def test_the_world_is_at_the_bounds_edge() -> None:
    """V(f) by enumeration of U equals the sharp upper bound of the observed law."""
    rng = np.random.default_rng(0)
    text, y = confounded(rng, 400_000)
    u = y - LEVEL[text] > 1
    assert u.mean() == pytest.approx(L / (1 + L), abs=0.005)  # P(U=1), with U independent of f
    w = (TARGET / P_TEXT)[text]
    q = (LEVEL[text] + 1.25)[:, None]
    found = hidden_confounder_bounds(w, y, q, q, [L])
    assert found.upper[0] == pytest.approx(VALUE, abs=0.01)
    assert found.value == pytest.approx(VALUE - LIFT * (L - 1) / (L + 1), abs=0.01)


def test_hidden_confounder_bounds_cover_and_the_plain_interval_does_not() -> None:
    covered = np.zeros((400, 2))
    for b in range(400):
        rng = np.random.default_rng([1, b])
        text, y = confounded(rng)
        low, high = LEVEL[text][:, None], LEVEL[text][:, None] + 1.25
        found = hidden_confounder_bounds(
            (TARGET / P_TEXT)[text], y, low, high, [1.0, L],
            resamples=resample_multipliers(N, B, rng),
        )  # fmt: skip
        interval = found.interval()
        covered[b] = (interval[:, 0] <= VALUE) & (interval[:, 1] >= VALUE)
    plain, bounds = covered.mean(axis=0)
    assert bounds >= FLOOR
    assert plain <= 0.02


def test_intervals_from_fifteen_clusters_cover() -> None:
    """Ten readers share an effect of unit variance; no violation, the texts' means under f.

    Measured over 800 replications with 1,000 resamples and 20 readers (.009 either way): the
    percentile interval covers in 91.5 %, the stretched one in 94.4 %; of 8 clusters 89 and 95 %.
    """
    clusters, readers, reps = 15, 10, 400
    codes = np.repeat(np.arange(clusters), readers)
    truth, covered = float(TARGET @ LEVEL) + LIFT / (1 + L), np.zeros((reps, 2))
    for b in range(reps):
        rng = np.random.default_rng([6, b])
        text, y = confounded(rng, codes.size)
        y = y + rng.normal(size=clusters)[codes]
        q = (LEVEL[text] + 1.0)[:, None]
        found = hidden_confounder_bounds(
            (TARGET / P_TEXT)[text], y, q, q, [1.0], codes=codes,
            resamples=resample_multipliers(codes.size, 2 * B, rng, codes=codes),
        )  # fmt: skip
        for j, bounds in enumerate((replace(found, dof=math.inf), found)):
            low, high = bounds.interval()[0]
            covered[b, j] = low <= truth <= high
    plain, stretched = covered.mean(axis=0)
    assert stretched >= FLOOR
    assert stretched >= plain + 0.01


class CellQuantile(RegressorMixin, BaseEstimator):
    """Quantile of the outcome within each text (column 0)."""

    def __init__(self, quantile: float = 0.5) -> None:
        self.quantile = quantile

    def fit(self, X: np.ndarray, y: np.ndarray) -> CellQuantile:
        cells = np.argmax(X, axis=1)
        self.table_ = np.array(
            [np.quantile(y[cells == t], self.quantile) for t in range(X.shape[1])]
        )
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.table_[np.argmax(X, axis=1)]


@pytest.mark.parametrize("estimator", ["IPW", "DoublyRobust"])
def test_fitted_estimators_cover_with_estimated_quantiles(estimator: str) -> None:
    """100 replications: the band is .065 wide; quantiles, q and rho all cross-fitted."""
    eye, covered = np.eye(4), np.zeros((100, 2))
    for b in range(100):
        rng = np.random.default_rng([2, b])
        text, y = confounded(rng, 800)
        with np.errstate(divide="ignore"):
            logs = {"logp_logging": np.log(P_TEXT)[text], "logp_target": np.log(TARGET)[text]}
        if estimator == "IPW":
            est = IPW().fit(eye[text], y, **logs)
        else:
            est = DoublyRobust(LinearRegression()).fit(
                eye[text], y, X_target=TargetSample(eye, weight=TARGET, exact=True), **logs
            )
        found = sensitivity(est, (1, L), quantile_model=CellQuantile(), n_bootstrap=100)
        covered[b] = (found.ci_lower[0] <= VALUE) & (found.ci_upper[0] >= VALUE)
    plain, bounds = covered.mean(axis=0)
    assert bounds >= 0.95 - 0.065
    assert plain <= 0.05


def test_only_the_right_bound_covers_mis_scored_probabilities() -> None:
    """P_R stated L (or 1/L) times too large at texts of high (low) value: (A) covers 0."""
    texts, strength = 6, 1.5
    truth, g = np.full(texts, 1 / texts), np.arange(texts, dtype=float)
    stated = truth * np.where(g >= 3, strength, 1 / strength)
    stated /= stated.sum()
    target = np.full(texts, 1 / texts)
    value = float(target @ g)
    covered = np.zeros((200, 3))
    for b in range(200):
        rng = np.random.default_rng([3, b])
        text = rng.choice(texts, size=N, p=truth)
        y = g[text] + rng.uniform(-0.1, 0.1, size=N)
        w = (target / stated)[text]
        reps = resample_multipliers(N, B, rng)
        q = g[text][:, None] + 0.2 * (np.array([1, strength]) / (1 + strength) - 0.5)
        sharp = hidden_confounder_bounds(w, y, q[:, :1], q[:, 1:], [1.0, strength], resamples=reps)
        right = logging_probability_bounds(w, y, [strength], resamples=reps)
        for j, i in enumerate([*sharp.interval(), right.interval()[0]]):
            covered[b, j] = i[0] <= value <= i[1]
    plain, sharp_covers, right_covers = covered.mean(axis=0)
    assert right_covers >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 200)
    assert plain <= 0.01
    assert sharp_covers <= 0.01


def test_contrast_with_one_confounder_covers_and_is_narrower() -> None:
    """f and h both on A: the same U lifts both, so that their order survives what values do not."""
    other = np.array([0.8, 0.2, 0.0, 0.0])
    difference = float((TARGET - other) @ LEVEL)
    covered, width = np.zeros(100), np.zeros((100, 2))
    for b in range(100):
        rng = np.random.default_rng([4, b])
        text, y = confounded(rng)
        low, high = LEVEL[text][:, None], LEVEL[text][:, None] + 1.25
        w, v = (TARGET / P_TEXT)[text], (other / P_TEXT)[text]
        reps = resample_multipliers(N, B, rng)
        both = hidden_confounder_contrast(w, v, y, low, high, [L], resamples=reps)
        one = hidden_confounder_bounds(w, y, low, high, [L])
        two = hidden_confounder_bounds(v, y, low, high, [L])
        i = both.interval()[0]
        covered[b] = i[0] <= difference <= i[1]
        width[b] = (
            both.upper[0] - both.lower[0],
            one.upper[0] - two.lower[0] - (one.lower[0] - two.upper[0]),
        )
    assert covered.mean() >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 100)
    assert (width[:, 0] < 0.5 * width[:, 1]).all()


def test_breakdown_strength_of_a_claim_is_consistent() -> None:
    """Claim V(f) < VALUE, its breakdown strength L in the population."""
    rng = np.random.default_rng(5)
    text, y = confounded(rng, 20_000)
    with np.errstate(divide="ignore"):
        logs = {"logp_logging": np.log(P_TEXT)[text], "logp_target": np.log(TARGET)[text]}
    est = IPW().fit(np.eye(4)[text], y, **logs)
    grid = np.linspace(1, 3, 7)
    found = sensitivity(
        est, grid, quantile_model=CellQuantile(), claim=Claim(below=VALUE), n_bootstrap=100
    )
    assert found.breakdowns[0].strength == pytest.approx(L, abs=0.1)
    assert 1 < found.breakdowns[0].strength_ci < found.breakdowns[0].strength
