"""Every function of core gives the same numbers on torch tensors as on NumPy arrays, to 1e-10."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from causal_lm_opt import core
from causal_lm_opt.core import (
    Clip,
    Hajek,
    HorvitzThompson,
    ParetoSmooth,
    Shrink,
    Switch,
    Temper,
    Weighting,
)
from causal_lm_opt.core.inference import contributions

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

Pair = tuple[Any, Any]
RNG = np.random.default_rng(20240229)
N, K, G = 60, 3, 9
ELL = RNG.normal(scale=1.5, size=N)
ELLS = RNG.normal(scale=1.5, size=(N, K))
Y, Q = RNG.normal(size=N), RNG.normal(size=N)
S = RNG.integers(1, 4, size=N).astype(np.float64)
CODES = np.r_[np.arange(G), RNG.integers(0, G, size=N - G)]
WEIGHTINGS = [
    make(*arguments, normalize=normalize)
    for make, arguments in (
        (Clip, (2.0,)),
        (Shrink, (3.0,)),
        (Temper, (0.5,)),
        (ParetoSmooth, ()),
        (Switch, (2.0,)),
    )
    for normalize in (True, False)
] + [Hajek(), HorvitzThompson()]


def tensor(value: Any) -> Any:
    return torch.as_tensor(value.copy()) if isinstance(value, np.ndarray) else value


def numbers(value: Any) -> list[np.ndarray]:
    parts = value if isinstance(value, tuple) else (value,)
    return [np.asarray(p, dtype=np.float64) for p in parts]


def same(function: Callable[..., Any], *arguments: Any, **named: Any) -> None:
    ours = numbers(function(*arguments, **named))
    theirs = numbers(function(*map(tensor, arguments), **{k: tensor(v) for k, v in named.items()}))
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("ell", [ELL, ELLS, np.where(ELL > 2.5, -np.inf, ELL)], ids="1ki")
@pytest.mark.parametrize("s", [None, S], ids=["rows", "frequencies"])
@pytest.mark.parametrize("weighting", WEIGHTINGS, ids=lambda w: w.label)
def test_weights_and_their_bias(weighting: Weighting, s: Any, ell: np.ndarray) -> None:
    same(lambda e, f: weighting.transform(e, f), ell, s)
    same(core.relative_weights, ell, normalize=weighting.normalize)
    same(lambda e, r, f: core.transform_bias(e, weighting, r, f), ell, Y, s)


@pytest.mark.parametrize("weight", [np.exp(ELL), np.exp(ELLS)], ids=["one", "many"])
@pytest.mark.parametrize("s", [None, S], ids=["rows", "frequencies"])
@pytest.mark.parametrize("normalize", [True, False])
def test_scores_and_solve(weight: np.ndarray, s: Any, normalize: bool) -> None:
    def value(w: Any, y: Any, q: Any, f: Any) -> tuple[Any, ...]:
        moments = (
            core.ipw_moment(w, y, normalize=normalize),
            core.plug_in_moment(w, q, normalize=normalize),
            core.residual_moment(w, y, q, normalize=normalize),
        )
        return tuple(x for m in moments for x in (*m, *core.solve_linear_moment(*m, f)))

    same(value, weight, Y, Q, s)
    same(core.weighted_mean, weight, s)
    same(core.log_ratio, np.log(weight), Q)


@pytest.mark.parametrize("phi", [ELL, ELLS], ids=["one", "many"])
@pytest.mark.parametrize("s", [None, S], ids=["rows", "frequencies"])
def test_standard_errors(phi: np.ndarray, s: Any) -> None:
    same(contributions, phi, s)
    same(core.cluster_sums, phi, CODES, G)
    same(core.cluster_sums, phi, CODES, G + 2)  # empty clusters
    same(core.cluster_contributions, phi, s, CODES, G)
    same(core.leave_out_factor, S, CODES, G)
    same(core.effective_count, S)
    same(core.cluster_dof, S)
    same(core.influence_covariance, phi, s)
    same(core.influence_covariance, phi, s, CODES, G)


def test_intervals_and_bands() -> None:
    normals, xi = RNG.normal(size=(500, K)), RNG.choice([-0.618, 1.618], size=(40, N))
    covariance = np.cov(ELLS.T)
    covariance[0], covariance[:, 0] = 0.0, 0.0  # a value without sampling error
    same(core.largest_t, covariance, normals)
    same(core.max_t_critical_value, covariance, normals, level=0.9)
    same(core.multiplier_t, ELL, xi)
    same(core.multiplier_t, ELL, xi, 2.0)
    same(core.multiplier_t, np.zeros(N), xi)
    same(core.empirical_bernstein, Y, lower=-9.0, upper=9.0, level=0.9)


def test_pareto_tail() -> None:
    heavy = RNG.exponential(size=2000)
    s = RNG.integers(0, 4, size=2000).astype(np.float64)
    for ell in (0.8 * heavy, np.round(heavy, 1), np.where(heavy < 0.1, -np.inf, heavy)):
        same(core.pareto_smooth, ell)
        same(core.pareto_smooth, ell, s)
    same(core.generalized_pareto_fit, np.sort(np.expm1(heavy)))


def test_functions_of_numbers_take_no_array() -> None:
    """What is left of core has no array argument, so that there is nothing to hold equal."""
    assert core.bias_aware_half_width(2.0, level=0.9, dof=math.inf) == pytest.approx(3.2897072539)
    assert core.welch_satterthwaite([1.0, 1.0], [4.0, 4.0]) == 8.0
    assert core.welch_satterthwaite([1.0, 1.0], [4.0, math.inf]) == 16.0
    assert core.welch_satterthwaite([], []) == math.inf


def test_nothing_public_is_left_out() -> None:
    source = inspect.getsource(inspect.getmodule(same))  # type: ignore[arg-type]
    missing = [name for name in core.__all__ if name not in source]
    assert not missing, (
        f"{missing} of core are not compared with torch: add a weighting to WEIGHTINGS above, or a "
        "test that calls same() for anything else."
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighting", WEIGHTINGS, ids=lambda w: w.label)
def test_dtype_is_kept(weighting: Weighting, dtype: Any) -> None:
    for ell in (ELL.astype(dtype), ELLS.astype(dtype)):
        for array in (ell, torch.as_tensor(ell)):
            weight = core.relative_weights(
                weighting.transform(array), normalize=weighting.normalize
            )
            assert weight.dtype == array.dtype
            value, phi = core.solve_linear_moment(
                *core.ipw_moment(weight, array, normalize=weighting.normalize)
            )
            assert value.dtype == phi.dtype == array.dtype
