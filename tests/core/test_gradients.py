"""Gradients of log ratio -> transform -> weights -> moment -> value, against finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from causal_lm_opt.core import (
    Clip,
    Hajek,
    HorvitzThompson,
    ParetoSmooth,
    Shrink,
    Switch,
    Temper,
    Weighting,
    ipw_moment,
    log_ratio,
    relative_weights,
    residual_moment,
    solve_linear_moment,
)

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

WEIGHTINGS = [
    Hajek(),
    HorvitzThompson(),
    *(
        make(*arguments, normalize=normalize)
        for make, arguments in (
            (Clip, (2.0,)),
            (Shrink, (3.0,)),
            (Temper, (0.5,)),
            (ParetoSmooth, ()),
            (Switch, (2.0,)),
        )
        for normalize in (True, False)
    ),
]
N = 60


def value(logp: Any, logging: Any, y: Any, weighting: Weighting, q: Any = None) -> Any:
    ell = weighting.transform(log_ratio(logp, logging))
    weight = relative_weights(ell, normalize=weighting.normalize)
    if q is None:
        moment = ipw_moment(weight, y, normalize=weighting.normalize)
    else:
        moment = residual_moment(weight, y, q, normalize=weighting.normalize)
    return solve_linear_moment(*moment)[0]


def a_log(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    logging = -rng.exponential(size=N) - 3.0
    return logging + rng.normal(scale=1.2, size=N), logging, rng.normal(size=N), rng.normal(size=N)


def gradient(logp: np.ndarray, logging: np.ndarray, y: np.ndarray, *rest: Any) -> np.ndarray:
    leaf = torch.tensor(logp, requires_grad=True)
    rest = tuple(torch.tensor(r) if isinstance(r, np.ndarray) else r for r in rest)
    value(leaf, torch.tensor(logging), torch.tensor(y), *rest).backward()
    return np.asarray(leaf.grad)


def finite_differences(
    logp: np.ndarray, logging: np.ndarray, y: np.ndarray, *rest: Any, step: float = 1e-6
) -> np.ndarray:
    out = np.zeros(N)
    for i in range(N):
        if not np.isfinite(logp[i]):
            continue  # probability 0 stays 0 under any finite step
        moved = np.zeros(N)
        moved[i] = step
        up, down = value(logp + moved, logging, y, *rest), value(logp - moved, logging, y, *rest)
        out[i] = (up - down) / (2 * step)
    return out


@pytest.mark.parametrize("never", [0, 7], ids=["", "never-written"])
@pytest.mark.parametrize("residual", [False, True], ids=["ipw", "dr"])
@pytest.mark.parametrize("weighting", WEIGHTINGS, ids=lambda w: w.label)
def test_gradient_is_that_of_finite_differences(
    weighting: Weighting, residual: bool, never: int
) -> None:
    logp, logging, y, q = a_log(1)
    logp[:never] = -np.inf
    arguments = (logp, logging, y, weighting, *([q] if residual else []))
    auto, numeric = gradient(*arguments), finite_differences(*arguments)
    np.testing.assert_allclose(auto, numeric, rtol=2e-6, atol=2e-8)
    assert (auto[:never] == 0).all()
    assert np.abs(auto).max() > 1e-4


def test_policy_gradient_of_hajek_in_closed_form() -> None:
    """MATH 6: the gradient in S_i is w~_i (y_i - V), w~ = w / sum w."""
    logp, logging, y, _ = a_log(2)
    w = np.exp(logp - logging)
    share = w / w.sum()
    np.testing.assert_allclose(
        gradient(logp, logging, y, Hajek()), share * (y - share @ y), atol=1e-12
    )
    np.testing.assert_allclose(gradient(logp, logging, y, HorvitzThompson()), w * y / N, atol=1e-12)


@pytest.mark.parametrize("weighting", WEIGHTINGS, ids=lambda w: w.label)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extreme_log_ratios_give_no_nan_gradient(weighting: Weighting, dtype: str) -> None:
    logp, logging, y, _ = (a.astype(dtype) for a in a_log(3))
    logp[0], logp[1], logp[2] = logging[0] + 1e4, logging[1] - 1e4, -np.inf
    if weighting.kind in ("none", "temper", "pareto") and not weighting.normalize:
        logp[0] = logging[0] - 1e4  # a plain weight of exp(1e4) is infinite: callers refuse it
    auto = gradient(logp, logging, y, weighting)
    assert np.isfinite(auto).all()
    assert auto[2] == 0
    with np.errstate(under="ignore"):
        assert np.isfinite(value(logp, logging, y, weighting))


def test_every_policy_has_its_own_gradient() -> None:
    logp, logging, y, _ = a_log(4)
    both = torch.tensor(np.stack([logp, 0.5 * logp - 2], axis=1), requires_grad=True)
    value(both, torch.tensor(logging), torch.tensor(y), Hajek())[0].backward()
    grad = np.asarray(both.grad)
    np.testing.assert_allclose(grad[:, 0], gradient(logp, logging, y, Hajek()), atol=1e-14)
    assert (grad[:, 1] == 0).all()
