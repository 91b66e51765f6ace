"""Shortcuts for long NumPy vectors change time and memory, not figures."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from causal_lm_opt.core.pareto import GLANCE, _largest, _upper_part, generalized_pareto_fit
from causal_lm_opt.core.solve import solve_linear_moment, weighted_mean, weighted_moments
from causal_lm_opt.core.weights import relative_weights

FloatArray = npt.NDArray[np.float64]
N = 8 * GLANCE + 37


def vectors() -> dict[str, FloatArray]:
    """Long vectors on which a shortcut could go wrong."""
    rng = np.random.default_rng(0)
    normal = rng.standard_normal(N)
    hidden = np.zeros(N)  # all large entries lie between the strided ones
    hidden[1::8] = rng.random(hidden[1::8].shape[0])
    seen = np.zeros(N)  # all large entries are strided ones
    seen[::8] = rng.random(seen[::8].shape[0])
    return {
        "normal": normal,
        "ascending": np.sort(normal),
        "descending": np.sort(normal)[::-1],
        "constant": np.full(N, 0.1),
        "rounded": np.round(normal),
        "hidden": hidden,
        "seen": seen,
        "impossible": np.where(normal > 2.0, normal, -np.inf),
        "nan": np.where(normal > 3.0, np.nan, normal),
        "strided": rng.standard_normal((N, 2))[:, 1],
    }


@pytest.mark.parametrize("name", list(vectors()))
@pytest.mark.parametrize("count", [1, 1087, N // 5])
def test_largest_entries_are_those_of_a_full_sort(name: str, count: int) -> None:
    x = vectors()[name]
    np.testing.assert_array_equal(_largest(x, count), np.sort(x)[N - count :])


def test_the_tail_is_looked_for_in_a_small_part() -> None:
    assert _upper_part(vectors()["normal"], 1087).shape[0] < 4 * 1087
    short = np.arange(100.0)
    assert _upper_part(short, 10) is short


@pytest.mark.parametrize("n", [1, 65_535, 65_536, 3 * 65_536 + 11])
@pytest.mark.parametrize("scale", [0.0, 2.0])
def test_long_sums_are_exact_to_rounding(n: int, scale: float) -> None:
    x = np.exp(scale * np.random.default_rng(n).standard_normal(n)) * 0.1
    exact = math.fsum(x) / n
    assert float(weighted_mean(x)) == pytest.approx(exact, rel=2e-14)
    mean, square = weighted_moments(x)
    assert float(mean) == float(weighted_mean(x))
    assert float(square) == pytest.approx(math.fsum(x * x) / n, rel=2e-14)


def test_moments_count_frequencies() -> None:
    rng = np.random.default_rng(1)
    x, s = rng.standard_normal(50), rng.integers(0, 4, 50)
    rows = np.repeat(x, s)
    assert list(map(float, weighted_moments(x, s.astype(float)))) == pytest.approx(
        [rows.mean(), (rows * rows).mean()], rel=1e-12
    )


@pytest.mark.torch
def test_moments_of_a_tensor_carry_gradient() -> None:
    import torch

    x = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64, requires_grad=True)
    mean, square = weighted_moments(x)
    (mean + square).backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), (1.0 + 2.0 * np.array([1.0, 2.0, 4.0])) / 3.0)


@pytest.mark.parametrize("hajek", [False, True])
@pytest.mark.parametrize("frequencies", [False, True])
def test_overwriting_changes_no_digit(hajek: bool, frequencies: bool) -> None:
    rng = np.random.default_rng(2)
    a: Any = rng.random(70_001) if hajek else 1.0
    b = rng.standard_normal(70_001)
    s = rng.integers(1, 4, 70_001).astype(float) if frequencies else None
    value, influence = solve_linear_moment(a, b.copy(), s)
    given = b.copy()
    again, same = solve_linear_moment(a, given, s, overwrite_b=True)
    assert float(value) == float(again)
    np.testing.assert_array_equal(influence, same)
    assert same is given


def test_moments_are_left_alone_unless_asked() -> None:
    a, b = np.array([1.0, 3.0]), np.array([2.0, 5.0])
    solve_linear_moment(a, b)
    solve_linear_moment(1.0, b)
    assert a.tolist() == [1.0, 3.0]
    assert b.tolist() == [2.0, 5.0]


@pytest.mark.parametrize("normalize", [False, True])
def test_log_weights_are_left_alone(normalize: bool) -> None:
    ell = np.array([-1.0, 0.0, 2.0, -np.inf, 400.0])
    before = ell.copy()
    weight = relative_weights(ell, normalize=normalize)
    np.testing.assert_array_equal(ell, before)
    assert weight[3] == 0.0
    assert weight[4] == (1.0 if normalize else np.inf)
    whole = relative_weights(np.array([0, -1]), normalize=True)  # integers are not written into
    np.testing.assert_allclose(whole, [1.0, math.exp(-1.0)])


def test_pareto_fit_in_parts_is_that_of_the_whole_grid() -> None:
    x = np.sort(np.random.default_rng(3).pareto(2.0, 500))
    m, size = 500, 30 + int(math.sqrt(500))
    grid = 1.0 - np.sqrt(size / (np.arange(1, size + 1) - 0.5))
    theta = grid / (3.0 * x[int(m / 4 + 0.5) - 1]) + 1.0 / x[-1]
    shape = np.log1p(-theta[:, None] * x).mean(axis=1)
    fit = m * (np.log(-theta / shape) - shape - 1.0)
    posterior = np.exp(fit - fit.max())
    theta_hat = float(theta @ posterior / posterior.sum())
    k = float(np.log1p(-theta_hat * x).mean())
    found, sigma = generalized_pareto_fit(x)
    assert float(found) == pytest.approx((m * k + 5.0) / (m + 10.0), rel=1e-12)
    assert float(sigma) == pytest.approx(-k / theta_hat, rel=1e-12)
