"""The tilt path: its ends are known estimators, its middle known by enumeration."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from causal_lm_opt import IPW, DoublyRobust, OverlapError, TargetSample
from causal_lm_opt.diagnostics import tilt_path

# A space of four texts: logger, target, mean outcome.
P_R = np.array([0.4, 0.3, 0.2, 0.1])
P_F = np.array([0.1, 0.2, 0.3, 0.4])
G = np.array([1.0, 2.0, 4.0, 9.0])
ELL = np.log(P_F / P_R)


def between(t: float) -> np.ndarray:
    p = P_R ** (1 - t) * P_F**t
    return p / p.sum()


def log(n: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.choice(4, size=n, p=P_R)
    return x, G[x] + rng.normal(size=n)


@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_ends_are_the_mean_and_the_hajek_estimate(clustered: bool, weighted: bool) -> None:
    x, y = log()
    rng = np.random.default_rng(1)
    given: dict[str, Any] = {}
    if weighted:
        given["sample_weight"] = rng.integers(0, 3, size=y.shape[0])
    groups = rng.integers(0, 60, size=y.shape[0]) if clustered else None
    path = tilt_path(ELL[x], y, codes=groups, grid=[0.0, 1.0], **given)
    mean = IPW().fit(x[:, None], y, groups=groups, **given).result_
    hajek = IPW().fit(
        x[:, None], y, groups=groups, logp_target=np.log(P_F)[x], logp_logging=np.log(P_R)[x],
        **given,
    ).result_  # fmt: skip
    for row, expected in zip(path.itertuples(), (mean, hajek), strict=True):
        assert row.value == pytest.approx(expected.value, rel=1e-12)
        assert row.se == pytest.approx(expected.se, rel=1e-12)
        np.testing.assert_allclose([row.lower, row.upper], expected.confint(), rtol=1e-12)
    assert path["ess"].iloc[1] == pytest.approx(hajek.diagnostics[0]["ess"], rel=1e-12)


def test_the_far_end_is_the_doubly_robust_estimate() -> None:
    x, y = log()
    draws = np.random.default_rng(2).choice(4, size=900, p=P_F)
    target = TargetSample(draws[:, None], logp_target=np.log(P_F)[draws],
                          logp_logging=np.log(P_R)[draws])  # fmt: skip
    est = DoublyRobust(cv=5).fit(
        x[:, None], y, logp_target=np.log(P_F)[x], logp_logging=np.log(P_R)[x],
        X_target=target, q_logged=G[x] + 0.3, q_target=G[draws] + 0.3,
    )  # fmt: skip
    path = tilt_path(
        ELL[x], y, q=G[x] + 0.3, q_target=G[draws] + 0.3, log_ratio_target=ELL[draws], grid=[1.0]
    )
    assert path["value"].item() == pytest.approx(est.value_, rel=1e-12)
    assert path["se"].item() == pytest.approx(est.se_, rel=1e-12)


def test_a_right_model_on_an_exact_support_is_the_enumerated_value() -> None:
    x, _ = log(50)
    path = tilt_path(
        ELL[x], G[x], q=G[x], q_target=G, log_ratio_target=ELL, target_weight=P_F, exact=True
    )
    expected = [between(t) @ G for t in path["t"]]
    np.testing.assert_allclose(path["value"], expected, rtol=1e-12)
    np.testing.assert_allclose(path["se"], 0.0, atol=1e-12)
    assert path["ess_target"].isna().all()


def test_the_middle_is_a_naive_loop() -> None:
    x, y = log(30)
    codes = np.arange(30) // 3
    t = 0.4
    w = [math.exp(t * ELL[i]) for i in x]
    value = sum(wi * yi for wi, yi in zip(w, y, strict=True)) / sum(w)
    sums = [0.0] * 10
    for wi, yi, c in zip(w, y, codes, strict=True):
        sums[c] += wi * (yi - value) / sum(w)
    row = tilt_path(ELL[x], y, codes=codes, grid=t).iloc[0]
    assert row["value"] == pytest.approx(value, rel=1e-12)
    assert row["se"] == pytest.approx(math.sqrt(10 / 9 * sum(s * s for s in sums)), rel=1e-12)
    assert row["ess"] == pytest.approx(sum(w) ** 2 / sum(wi * wi for wi in w), rel=1e-12)


@pytest.mark.statistical
def test_the_path_is_unbiased_within_four_monte_carlo_errors() -> None:
    # 300 logs of 400 rows and 900 draws; a wrong model (a constant) on the doubly robust path.
    draws = np.random.default_rng(3)
    found = []
    for seed in range(300):
        x, y = log(seed=seed)
        d = draws.choice(4, size=900, p=P_F)
        plain = tilt_path(ELL[x], y, grid=[0.5])["value"].item()
        both = tilt_path(
            ELL[x], y, q=0.5 * G[x], q_target=0.5 * G[d], log_ratio_target=ELL[d], grid=[0.5]
        )["value"].item()
        found.append((plain, both))
    values = np.array(found)
    error = values.std(axis=0, ddof=1) / math.sqrt(len(found))
    assert (np.abs(values.mean(axis=0) - between(0.5) @ G) < 4 * error).all()


def test_ess_falls_along_the_path_and_trust_ends() -> None:
    rng = np.random.default_rng(4)
    ell = rng.normal(-4.5, 3.0, 1000)
    path = tilt_path(ell, rng.normal(size=1000))
    assert (np.diff(path["ess"]) < 0).all()
    trusted = path["trusted"].to_numpy()
    assert trusted[0]
    assert not trusted[-1]
    assert (np.diff(trusted.astype(int)) <= 0).all()


def test_draws_see_what_the_weights_cannot() -> None:
    # Every logged text is far from the target's, and so alike in weight: the log looks healthy.
    rng = np.random.default_rng(5)
    ell, y = rng.normal(-0.5, 0.5, 1000), rng.normal(size=1000)
    alone = tilt_path(ell, y, grid=[1.0])
    seen = tilt_path(ell, y + ell, log_ratio_target=rng.normal(6.0, 1.0, 1000), grid=[1.0])
    assert alone["trusted"].item()
    assert not seen["trusted"].item()


def test_impossible_texts_count_at_the_loggers_end_only() -> None:
    ell = np.array([-np.inf, 0.5, -0.5, 0.1])
    path = tilt_path(ell, [10.0, 1.0, 2.0, 3.0], grid=[0.0, 1e-9, 1.0])
    assert path["value"].iloc[0] == pytest.approx(4.0)
    assert path["value"].iloc[1] == pytest.approx(2.0, abs=1e-6)
    both = tilt_path(
        ell, [10.0, 1.0, 2.0, 3.0], q=np.zeros(4), q_target=[1.0, 2.0, 5.0],
        log_ratio_target=[0.0, 0.0, np.inf], grid=[0.5, 1.0],
    )  # fmt: skip
    expected = tilt_path(ell, [10.0, 1.0, 2.0, 3.0], grid=[0.5, 1.0])["value"]
    np.testing.assert_allclose(both["value"] - expected, [1.5, 8 / 3])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"grid": [0.0, 1.5]}, "grid must hold shift strengths"),
        ({"grid": []}, "grid must hold"),
        ({"level": 1.0}, "level must lie"),
        ({"q": np.zeros(4)}, "q and q_target belong together"),
        ({"q": np.zeros(4), "q_target": np.zeros(3)}, "log_ratio_target too"),
        ({"log_ratio_target": np.zeros(3), "exact": True}, "exact=True needs target_weight"),
        (
            {"log_ratio_target": np.zeros(3), "exact": True, "target_weight": np.ones(3)},
            "sum to 1",
        ),
        ({"log_ratio": np.array([0.0, np.nan, 0.0, 0.0])}, "log_ratio has 1 NaN"),
        ({"log_ratio": np.array([0.0, np.inf, 0.0, 0.0])}, "log_ratio has 1 NaN or infinite"),
        ({"log_ratio": np.zeros((2, 2))}, "log_ratio must have shape"),
        ({"outcome": np.array([0.0, np.nan, 0.0, 0.0])}, "outcome has 1 NaN"),
        ({"log_ratio_target": np.array([-np.inf])}, "log_ratio_target has 1"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {"log_ratio": np.zeros(4), "outcome": np.arange(4.0)} | change
    with pytest.raises(ValueError, match=said):
        tilt_path(given.pop("log_ratio"), given.pop("outcome"), **given)


def test_no_common_text_is_refused() -> None:
    with pytest.raises(OverlapError, match="no text in common"):
        tilt_path(np.full(4, -np.inf), np.arange(4.0), grid=[0.5])
