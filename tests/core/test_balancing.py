"""Entropy balancing against an independent solver, closed forms and numerical derivatives."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize

from causal_lm_opt.core.balancing import balance_influence, entropy_balance, least_imbalance


def problem(seed: int, n: int = 25, width: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, width)) - rng.normal(0.0, 0.25, width)


def primal(centred: np.ndarray, base: np.ndarray, tolerance: float) -> np.ndarray:
    """The primal problem by sequential quadratic programming: no dual, no exponential form."""
    b = base / base.sum()
    constraints = [{"type": "eq", "fun": lambda p: p.sum() - 1.0}]
    if tolerance == 0.0:
        constraints.append({"type": "eq", "fun": lambda p: p @ centred})
    else:
        constraints += [
            {"type": "ineq", "fun": lambda p: tolerance - p @ centred},
            {"type": "ineq", "fun": lambda p: tolerance + p @ centred},
        ]
    found = optimize.minimize(
        lambda p: p @ np.log(p / b), b, jac=lambda p: np.log(p / b) + 1.0, method="SLSQP",
        bounds=[(1e-12, 1.0)] * b.size, constraints=constraints,
        options={"ftol": 1e-15, "maxiter": 2000},
    )  # fmt: skip
    return found.x


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("tolerance", [0.0, 0.05])
def test_the_dual_solves_the_primal(seed: int, tolerance: float) -> None:
    centred = problem(seed)
    base = np.random.default_rng(seed).integers(1, 4, 25).astype(float)
    found = entropy_balance(centred, base, tolerance=tolerance)
    assert found.converged
    p = base * np.exp(found.log_weight) / base.sum()
    assert p.sum() == pytest.approx(1.0, abs=1e-12)
    assert np.abs(p - primal(centred, base, tolerance)).max() < 1e-6
    assert np.abs(p @ centred).max() <= tolerance + 1e-8


def test_one_binary_feature_has_a_closed_form() -> None:
    x = np.array([0.0] * 6 + [1.0] * 4)
    found = entropy_balance((x - 0.7)[:, None])
    expected = np.where(x == 1.0, np.log(0.7 / 0.4), np.log(0.3 / 0.6))
    assert found.log_weight == pytest.approx(expected, abs=1e-9)


def test_frequencies_are_repeated_rows() -> None:
    centred, times = problem(1), np.random.default_rng(0).integers(1, 5, 25)
    short = entropy_balance(centred, times.astype(float))
    long = entropy_balance(np.repeat(centred, times, axis=0))
    assert np.repeat(short.log_weight, times) == pytest.approx(long.log_weight, abs=1e-9)


def test_collinear_features_change_nothing() -> None:
    centred = problem(2)
    more = np.column_stack([centred, centred[:, 0] - centred[:, 1]])
    one, other = entropy_balance(centred), entropy_balance(more)
    assert other.converged
    assert other.log_weight == pytest.approx(one.log_weight, abs=1e-8)


def test_large_tolerance_leaves_weights_uniform() -> None:
    found = entropy_balance(problem(3), tolerance=10.0)
    assert found.converged
    assert np.abs(found.log_weight).max() < 1e-12
    assert not found.active.any()


def test_a_mean_out_of_reach_does_not_converge() -> None:
    centred = np.abs(problem(4)) + np.array([0.5, 0.1, 0.0])
    assert not entropy_balance(centred).converged
    gap, feature = least_imbalance(centred[:, :1])
    assert gap == pytest.approx(centred[:, 0].min())
    assert feature == 0


@pytest.mark.parametrize("tolerance", [0.0, 0.05])
def test_influence_is_the_derivative(tolerance: float) -> None:
    """The binding duals move with a row's frequency and with the target's means as stated."""
    centred = problem(5, n=40)
    base = np.ones(40)
    found = entropy_balance(centred, base, tolerance=tolerance)
    some, step = found.active, 1e-5
    gradient, logged, target = balance_influence(centred, found, base, centred[:7])
    for i in (0, 11, 39):
        up, down = base.copy(), base.copy()
        up[i] += step
        down[i] -= step
        moved = (
            entropy_balance(centred, up, tolerance=tolerance).dual
            - entropy_balance(centred, down, tolerance=tolerance).dual
        ) / (2 * step)
        assert moved[some] == pytest.approx(logged[i, :-1] / 40, rel=1e-4, abs=1e-7)
    # A target mean that moves along row 3 of the other sample, one row of seven.
    moved = (
        entropy_balance(centred - step * centred[3], base, tolerance=tolerance).dual
        - entropy_balance(centred + step * centred[3], base, tolerance=tolerance).dual
    ) / (2 * step)
    assert moved[some] == pytest.approx(target[3, :-1], rel=1e-4, abs=1e-7)
    change = np.zeros(found.dual.size)
    change[some] = step
    shifted = found.log_weight + centred @ change
    shifted = shifted - np.log(np.mean(np.exp(shifted)))
    expected = gradient[:, :-1].sum(axis=1)
    assert (shifted - found.log_weight) / step == pytest.approx(expected, abs=1e-3)
