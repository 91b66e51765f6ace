"""Omitted-variable bounds against sums over finite spaces, and covariates to hold them against."""

from __future__ import annotations

import math

import numpy as np
import pytest

from causal_lm_opt.diagnostics.sensitivity import (
    ConfounderStrength,
    benchmark_strength,
    covariate_strengths,
    omitted_variable_bound,
)


def test_omitted_variable_bound_holds_and_is_attained() -> None:
    """|E w (r - 1) (g(x, u) - q(x))| over random confounders; equality where they align."""
    rng = np.random.default_rng(9)
    for _ in range(50):
        p_x, p_u = rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(3))
        r = rng.uniform(0.3, 3.0, size=(4, 3))
        r /= (r @ p_u)[:, None]  # E[r | x] = 1
        g = rng.normal(size=(4, 3))
        w = rng.dirichlet(np.ones(4)) / p_x
        p = p_x[:, None] * p_u
        q = (g @ p_u)[:, None]
        noise = 0.5
        bias = float((p * w[:, None] * r * g).sum() - (p_x * w) @ q[:, 0])
        explained = float((p * (g - q) ** 2).sum())
        scale = (explained + noise) * float(p_x @ w**2)
        extra = float((p * (w[:, None] * (r - 1)) ** 2).sum()) / float(p_x @ w**2)
        strength = ConfounderStrength(explained / (explained + noise), extra / (1 + extra))
        assert abs(bias) <= math.sqrt(scale) * strength.factor + 1e-12
        aligned = q + 0.7 * w[:, None] * (r - 1)
        explained = float((p * (aligned - q) ** 2).sum())
        bias = float((p * w[:, None] * r * aligned).sum() - (p_x * w) @ q[:, 0])
        bound = math.sqrt(explained * float(p_x @ w**2)) * math.sqrt(extra)
        assert bias == pytest.approx(bound)


def test_omitted_variable_bounds_standard_error_is_that_of_simulations() -> None:
    """Spread of the upper bound over 800 samples, known to 2.5 %: tolerance three times that."""
    rng = np.random.default_rng(10)
    strength = ConfounderStrength(0.3, 0.2)
    found = []
    for _ in range(800):
        x = rng.normal(size=400)
        w, y = np.exp(0.5 * x - 0.125), x + rng.normal(size=400)
        value = float(w @ y / w.sum())
        bound = omitted_variable_bound(
            y - x, w, strength, value=value, influence=w * (y - value) / w.mean()
        )
        found.append((bound.upper, bound.upper_se, bound.scale, bound.scale_se))
    upper, upper_se, scale, scale_se = np.array(found).T
    assert upper_se.mean() / upper.std() == pytest.approx(1, abs=0.075)
    assert scale_se.mean() / scale.std() == pytest.approx(1, abs=0.075)
    assert scale.mean() == pytest.approx(math.exp(0.125), abs=0.02)  # E w^2 = e^.25, variance 1


def test_omitted_variable_bound_of_a_difference_holds() -> None:
    """As above with w_f - w_h in place of w, the same r for both policies."""
    rng = np.random.default_rng(16)
    for _ in range(50):
        p_x, p_u = rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(3))
        r = rng.uniform(0.3, 3.0, size=(4, 3))
        r /= (r @ p_u)[:, None]
        g = rng.normal(size=(4, 3))
        w, v = rng.dirichlet(np.ones(4)) / p_x, rng.dirichlet(np.ones(4)) / p_x
        alpha, p = (w - v)[:, None] * np.ones(3), p_x[:, None] * p_u
        q = (g @ p_u)[:, None]
        bias = float((p * alpha * (r - 1) * (g - q)).sum())
        extra = float((p * (alpha * (r - 1)) ** 2).sum() / (p * alpha**2).sum())
        bound = omitted_variable_bound(
            (g - q).ravel(), w.repeat(3), ConfounderStrength(1.0, extra / (1 + extra)), value=0.0,
            influence=np.zeros(12), reference_weight=v.repeat(3), sample_weight=99 * p.ravel(),
        )  # fmt: skip
        assert bound.scale**2 == pytest.approx((p * (g - q) ** 2).sum() * (p * alpha**2).sum())
        assert abs(bias) <= bound.bias + 1e-12


@pytest.mark.parametrize("own", [True, False])
def test_standard_error_of_a_differences_bound(own: bool) -> None:
    """Spread over 800 samples, as above; against the logging policy (ones) and another one."""
    rng = np.random.default_rng(17)
    strength, found = ConfounderStrength(0.3, 0.2), []
    for _ in range(800):
        x = rng.normal(size=400)
        w, y = np.exp(0.5 * x - 0.125), x + rng.normal(size=400)
        v = np.ones(400) if own else np.exp(-0.3 * x - 0.045)
        one, two = float(w @ y / w.sum()), float(v @ y / v.sum())
        phi = w * (y - one) / w.mean() - v * (y - two) / v.mean()
        bound = omitted_variable_bound(
            y - x, w, strength, value=one - two, influence=phi, reference_weight=v
        )
        found.append((bound.upper, bound.upper_se, bound.scale, bound.scale_se))
    upper, upper_se, scale, scale_se = np.array(found).T
    assert upper_se.mean() / upper.std() == pytest.approx(1, abs=0.075)
    assert scale_se.mean() / scale.std() == pytest.approx(1, abs=0.09)
    more = omitted_variable_bound(
        y - x, w, strength, value=one, influence=phi, reference_weight=v, draws_variance=0.5
    )
    assert more.se**2 == pytest.approx(bound.se**2 + 0.5)
    assert more.upper_se**2 == pytest.approx(bound.upper_se**2 + 0.5)


def test_robustness_value_is_where_the_bound_reaches_the_null() -> None:
    rng = np.random.default_rng(11)
    w, y = rng.exponential(size=300) + 0.1, rng.normal(size=300) + 0.4
    value = float(w @ y / w.sum())
    phi = w * (y - value) / w.mean()

    def at(share: float):  # type: ignore[no-untyped-def]
        strength = ConfounderStrength(share, share)
        return omitted_variable_bound(y - y.mean(), w, strength, value=value, influence=phi)

    share = at(0.1).robustness_value()
    assert at(share).lower == pytest.approx(0.0, abs=1e-8)
    with_noise = at(0.1).robustness_value(level=0.95)
    assert 0 <= with_noise < share
    assert at(with_noise).interval(0.95)[0] == pytest.approx(0.0, abs=1e-8)
    assert at(0.1).robustness_value(value) == 0.0
    above = at(0.1).robustness_value(2 * value)  # symmetric, but for the covariance
    assert above == pytest.approx(share)


def test_a_benchmark_is_the_strength_of_the_covariate_left_out() -> None:
    """y = x + z + e: leaving z out of q adds Var(z) to a residual variance of 1."""
    rng = np.random.default_rng(12)
    z, e = rng.normal(scale=0.5, size=200_000), rng.normal(size=200_000)
    once = benchmark_strength(e, z + e)
    assert once.outcome == pytest.approx(0.25, abs=0.01)
    assert once.weight == 0.0
    assert benchmark_strength(e, z + e, times=2).outcome == pytest.approx(2 * once.outcome)
    w = np.exp(z - z.var() / 2)
    both = benchmark_strength(e, z + e, w, np.ones_like(w))
    assert both.weight == pytest.approx(1 - math.exp(-0.25), abs=0.01)
    assert both.c_weight**2 == pytest.approx(math.exp(0.25) - 1, abs=0.02)


def test_a_confounder_as_strong_as_what_was_left_out_explains_its_bias() -> None:
    """y = 2 z + x + e and w = 1 + z/2 + x/4, all straight lines: gains are 4 Var z and Var z / 4.

    Leaving z out of both biases the value by 2 Var(z) / 2 = sqrt(gain * gain).
    """
    rng = np.random.default_rng(18)
    n = 100_000
    z, x, e = rng.uniform(-1, 1, size=(3, n))
    y, w, fold = 2 * z + x + e, 1 + z / 2 + x / 4, np.arange(n) % 4
    residual = y - x  # the model in use does not know of z: E(y - q)^2 = 4/3 + 1/3
    of_z, of_x = covariate_strengths(np.stack([z, x], axis=1), y, residual, w, fold=fold)
    moment = 1 + 1 / 12 + 1 / 48
    assert of_z.outcome == pytest.approx(4 / 5, rel=0.02)
    assert of_z.c_weight**2 == pytest.approx(1 / 12 / moment, rel=0.03)
    assert of_x.c_weight**2 == pytest.approx(1 / 48 / moment, rel=0.03)
    bound = omitted_variable_bound(residual, w, of_z, value=0.0, influence=y)
    bias = 1 / 3
    assert bound.bias == pytest.approx(bias, rel=0.02)
    contrast = covariate_strengths(
        np.stack([z, x], axis=1), y, residual, w, fold=fold, reference_weight=np.ones(n)
    )
    assert contrast[0].c_weight ** 2 == pytest.approx(
        4 / 5, rel=0.02
    )  # of the difference's own moment
    twice = covariate_strengths(x[:, None], y, residual, w, fold=fold, times=2)
    once = covariate_strengths(x[:, None], y, residual, w, fold=fold)
    assert twice[0].c_weight ** 2 == pytest.approx(2 * once[0].c_weight ** 2)
    assert twice[0].outcome == pytest.approx(2 * once[0].outcome)
    assert twice[0].factor == pytest.approx(2 * once[0].factor)


def test_covariates_that_add_nothing_and_rows_that_repeat() -> None:
    rng = np.random.default_rng(19)
    x, y = rng.normal(size=(80, 2)), rng.normal(size=80)
    y = y + x[:, 0]
    w, fold = rng.exponential(size=80), np.arange(80) % 3
    same = np.column_stack([x, x[:, 0], np.full(80, 7.0)])
    found = covariate_strengths(same, y, y, w, fold=fold)
    for j in (0, 2, 3):  # a copy and a constant
        assert found[j].outcome == pytest.approx(0.0, abs=1e-9)
        assert found[j].weight == pytest.approx(0.0, abs=1e-9)
    s = rng.integers(0, 4, size=80)
    at = np.repeat(np.arange(80), s)
    weighted = covariate_strengths(x, y, y, w, fold=fold, sample_weight=s.astype(float))
    repeated = covariate_strengths(x[at], y[at], y[at], w[at], fold=fold[at])
    for one, two in zip(weighted, repeated, strict=True):
        assert (one.outcome, one.weight) == pytest.approx((two.outcome, two.weight), abs=1e-10)
