"""Values and standard errors against plain loops written from the formulas (no array code).

Weighted mean: V = sum b / sum a, phi = (b - a V)/mean(a), var = sum phi^2 / (n (n - 1)).
Clusters: Phi_g = sum of phi in g, var = (G - 1)/G sum (Phi_g / (n - n_g))^2, the jackknife that
leaves out a cluster at a time: for n_g = n/G it is G/(G - 1) sum Phi_g^2 / n^2.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, Ridge

from causal_lm_opt import IPW, DoublyRobust, OutcomeRegression
from causal_lm_opt.core import Clip
from causal_lm_opt.estimators._target import TargetSample

Floats = Sequence[float]


# ------------------------------------------------------------------------------ the loops
def solve(a: Floats, b: Floats) -> tuple[float, list[float]]:
    value = sum(b) / sum(a)
    mean_a = sum(a) / len(a)
    return value, [(bi - ai * value) / mean_a for ai, bi in zip(a, b, strict=True)]


def row_variance(phi: Floats) -> float:
    n = len(phi)
    return sum(p * p for p in phi) / (n * (n - 1))


def cluster_variance(contributions: Sequence[tuple[Hashable, float]]) -> float:
    total: dict[Hashable, float] = defaultdict(float)
    share: dict[Hashable, float] = defaultdict(float)
    for label, c in contributions:
        total[label] += c
        share[label] += 1 / len(contributions)
    size = len(total)
    return (size - 1) / size * sum((c / (1 - share[g])) ** 2 for g, c in total.items())


def weights(target: Floats, logging: Floats, largest: float = math.inf) -> list[float]:
    return [min(math.exp(t - r), largest) for t, r in zip(target, logging, strict=True)]


# ------------------------------------------------------------------------------ the data
N, TEXTS, G = 90, 14, 12
RNG = np.random.default_rng(17)
FEATURES = RNG.normal(size=(TEXTS, 2))
P_R, P_F = RNG.dirichlet(np.full(TEXTS, 4.0)), RNG.dirichlet(np.full(TEXTS, 3.0))
TEXT = RNG.choice(TEXTS, size=N, p=P_R)
X = FEATURES[TEXT]
Y = (X @ [1.0, -2.0] + 0.5 * X[:, 0] ** 2 + RNG.normal(size=N)).tolist()
LT, LR = np.log(P_F)[TEXT].tolist(), np.log(P_R)[TEXT].tolist()
LOGP = {"logp_target": LT, "logp_logging": LR}
GROUPS = np.r_[np.arange(G), RNG.integers(0, G, N - G)]
WAYS: dict[str, tuple[object, Callable[[list[float]], list[float]], float]] = {
    "ht": ("ht", lambda w: [1.0] * len(w), math.inf),
    "hajek": ("hajek", lambda w: w, math.inf),
    "clip": (Clip(1.3), lambda w: w, 1.3),
    "clip, plain": (Clip(1.3, normalize=False), lambda w: [1.0] * len(w), 1.3),
}


@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_ipw(way: str, clustered: bool) -> None:
    weighting, denominator, largest = WAYS[way]
    w = weights(LT, LR, largest)
    value, phi = solve(denominator(w), [wi * yi for wi, yi in zip(w, Y, strict=True)])
    variance = row_variance(phi)
    if clustered:
        variance = cluster_variance([(g, p / N) for g, p in zip(GROUPS, phi, strict=True)])
    est = IPW(weighting).fit(X, Y, groups=GROUPS if clustered else None, **LOGP)
    assert est.value_ == pytest.approx(value, rel=1e-12)
    assert est.se_ == pytest.approx(math.sqrt(variance), rel=1e-12)


def fold_models(fold: Sequence[int]) -> list[Ridge]:
    models = []
    for k in range(max(fold) + 1):
        rows = [i for i in range(N) if fold[i] != k]
        models.append(Ridge(alpha=0.7, tol=1e-12).fit(X[rows], [Y[i] for i in rows]))
    return models


def predict(model: Ridge, x: np.ndarray) -> float:
    return float(model.intercept_) + sum(
        float(c) * float(v) for c, v in zip(model.coef_, x, strict=True)
    )


def naive_dr(
    fold: Sequence[int], draws: np.ndarray, w: Floats, a: Floats
) -> tuple[float, float, list[float], list[float]]:
    """Residual term, plug-in term and their influence functions."""
    models = fold_models(fold)
    r, phi = solve(a, [w[i] * (Y[i] - predict(models[fold[i]], X[i])) for i in range(N)])
    share = [sum(f == k for f in fold) / N for k in range(len(models))]
    q = []
    for x in draws:
        folds = {fold[i] for i in range(N) if (X[i] == x).all()}
        if len(folds) == 1:  # all its logged rows in one fold: the model that has not seen it
            q.append(predict(models[folds.pop()], x))
        else:
            q.append(sum(s * predict(m, x) for s, m in zip(share, models, strict=True)))
    mean = sum(q) / len(q)
    return r, mean, phi, [v - mean for v in q]


FOLDS = {
    "texts whole": [int(t) % 3 for t in TEXT],
    "rows": [i % 3 for i in range(N)],
}
DRAWS = np.r_[FEATURES[RNG.choice(TEXTS, size=40, p=P_F)], RNG.normal(size=(10, 2))]


@pytest.mark.parametrize("folds", FOLDS)
@pytest.mark.parametrize("way", WAYS)
def test_doubly_robust_with_given_folds(way: str, folds: str) -> None:
    weighting, denominator, largest = WAYS[way]
    fold, w = FOLDS[folds], weights(LT, LR, largest)
    r, q, phi, phi_draws = naive_dr(fold, DRAWS, w, denominator(w))
    cv = [([i for i in range(N) if fold[i] != k], [i for i in range(N) if fold[i] == k])
          for k in range(3)]  # fmt: skip
    est = DoublyRobust(Ridge(alpha=0.7, tol=1e-12), weights=weighting, cv=cv, inference="influence")
    est.fit(X, Y, X_target=DRAWS, **LOGP)
    assert est.value_ == pytest.approx(r + q, rel=1e-10)
    assert est.se_ == pytest.approx(math.sqrt(row_variance(phi) + row_variance(phi_draws)))
    assert est.result_.diagnostics[0]["residual"] == pytest.approx(r, rel=1e-9)
    assert est.result_.diagnostics[0]["plug_in"] == pytest.approx(q, rel=1e-9)


def test_some_draws_are_averaged_and_some_are_not() -> None:
    """Both branches of the loop above are walked."""
    fold = FOLDS["rows"]
    singles = [len({fold[i] for i in range(N) if TEXT[i] == t}) == 1 for t in set(TEXT.tolist())]
    assert not all(singles)
    assert all(len({int(t) % 3}) == 1 for t in TEXT)


def test_doubly_robust_of_one_sample_with_shared_prompts() -> None:
    """phi_i = w_i(y_i - q_i) + mean_r q(c_i, x~_ir) - V, summed within prompts."""
    rng = np.random.default_rng(3)
    draw_prompt = np.r_[np.arange(G), rng.integers(0, G, size=30)]
    draws = rng.normal(size=(draw_prompt.size, 2))
    q_logged, q_draws = rng.normal(size=N), rng.normal(size=draw_prompt.size)
    w = weights(LT, LR)
    mean_q = {
        g: sum(q for q, c in zip(q_draws, draw_prompt, strict=True) if c == g)
        / sum(1 for c in draw_prompt if c == g)
        for g in range(G)
    }
    plain = [w[i] * (Y[i] - q_logged[i]) + mean_q[GROUPS[i]] for i in range(N)]
    value = sum(plain) / N
    variance = cluster_variance([(GROUPS[i], (plain[i] - value) / N) for i in range(N)])
    given = {"q_logged": q_logged, "q_target": q_draws, "groups": GROUPS, **LOGP}
    sample = TargetSample(draws, groups=draw_prompt)
    est = DoublyRobust(weights="ht").fit(X, Y, X_target=sample, **given)
    assert est.value_ == pytest.approx(value, rel=1e-12)
    assert est.se_ == pytest.approx(math.sqrt(variance), rel=1e-12)

    r, phi = solve(w, [w[i] * (Y[i] - q_logged[i]) for i in range(N)])  # Hajek: centred residual
    q_mean = sum(mean_q[g] for g in GROUPS) / N
    variance = cluster_variance(
        [(GROUPS[i], (phi[i] + mean_q[GROUPS[i]] - q_mean) / N) for i in range(N)]
    )
    est = DoublyRobust().fit(X, Y, X_target=sample, **given)
    assert est.value_ == pytest.approx(r + q_mean, rel=1e-12)
    assert est.se_ == pytest.approx(math.sqrt(variance), rel=1e-12)


@pytest.mark.parametrize("fresh", ["hajek", "ht"])
def test_outcome_regression_on_draws_of_a_sampling_policy(fresh: str) -> None:
    """phi~ = w0(q - Q)/mean(w0), or w0 q - Q; plus the variance of the fit."""
    rng = np.random.default_rng(5)
    draws = rng.normal(size=(50, 2))
    lt, l0 = -0.5 * ((draws - 0.4) ** 2).sum(axis=1) - 2, -0.5 * (draws**2).sum(axis=1) - 2
    model = LinearRegression().fit(X, Y)
    w0 = weights(lt, l0)
    q = [float(model.intercept_) + float(model.coef_ @ x) for x in draws]
    a = w0 if fresh == "hajek" else [1.0] * 50
    value, phi = solve(a, [w * v for w, v in zip(w0, q, strict=True)])
    est = OutcomeRegression(LinearRegression(), weights_target=fresh)
    est.fit(X, Y, X_target=TargetSample(draws, logp_target=lt, logp_sampling=l0))
    assert est.value_ == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(est.result_.influence_target, phi, atol=1e-12)
    fit = row_variance(est.result_.influence.tolist())
    assert est.se_ == pytest.approx(math.sqrt(row_variance(phi) + fit), rel=1e-12)


def test_frequency_weights_repeat_rows_in_a_loop() -> None:
    s = [1 + i % 3 for i in range(N)]
    w = weights(LT, LR)
    rows = [i for i in range(N) for _ in range(s[i])]
    value, phi = solve([w[i] for i in rows], [w[i] * Y[i] for i in rows])
    est = IPW().fit(X, Y, sample_weight=s, **LOGP)
    assert est.value_ == pytest.approx(value, rel=1e-12)
    assert est.se_ == pytest.approx(math.sqrt(row_variance(phi)), rel=1e-12)
