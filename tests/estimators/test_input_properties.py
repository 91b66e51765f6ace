"""Any input: the right answer, or the one clear error that names the argument."""

from __future__ import annotations

from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from causal_lm_opt import IPW, DoublyRobust, OutcomeRegression
from causal_lm_opt.core import Clip, Shrink, Switch
from causal_lm_opt.exceptions import OverlapError

quick = settings(max_examples=40)
RATIO = st.one_of(st.floats(-5, 5), st.sampled_from([0.0, 1e4, -1e4, -np.inf]))
OUTCOME = st.one_of(st.floats(-100, 100), st.sampled_from([0.0, 1.0, 1e6]))
WEIGHTS = st.sampled_from(["hajek", "ht", "psis", Clip(2.0), Shrink(3.0), Switch(1.0),
                           Clip(2.0, normalize=False)])  # fmt: skip
DTYPES = st.sampled_from([np.float32, np.float64])


@st.composite
def logs(draw: Any) -> dict[str, np.ndarray]:
    n = draw(st.integers(2, 25))
    ell = draw(hnp.arrays(np.float64, n, elements=RATIO))
    y = draw(hnp.arrays(np.float64, n, elements=OUTCOME))
    # log-probabilities are never above 0: the larger of the two is a sequence's
    target, logging = np.where(ell > 0, -1.0, ell - 1.0), np.where(ell > 0, -ell - 1.0, -1.0)
    return {"y": y, "logp_target": target, "logp_logging": logging}


def check(est: Any, X: Any, log: dict[str, Any], **more: Any) -> Any:
    """A finite value with a standard error, or a refusal for lack of overlap."""
    refusal = None
    try:
        result = est.fit(X, **log, **more).result_
    except OverlapError as error:
        refusal = str(error)
    if refusal is not None:
        assert "weights" in refusal or "probability 0" in refusal
        return None
    assert np.isfinite(result.value)
    assert np.isfinite(result.se)
    assert result.se >= 0
    low, high = result.confint()
    assert low <= result.value <= high
    return result


@quick
@given(logs(), WEIGHTS)
def test_weighting_is_finite_or_refuses(log: Any, weights: Any) -> None:
    n = log["y"].shape[0]
    result = check(IPW(weights), np.arange(n)[:, None], log)
    plain = weights == "ht"
    if result is None:
        ell = log["logp_target"] - log["logp_logging"]
        assert plain or isinstance(weights, type(Switch(1.0))) or not np.isfinite(ell).any()
        return
    normalised = not plain and getattr(weights, "normalize", True)
    if normalised:
        slack = 1e-9 * max(1.0, np.abs(log["y"]).max())
        assert log["y"].min() - slack <= result.value <= log["y"].max() + slack
    d = result.diagnostics[0]
    assert 1 - 1e-9 <= d["ess"] <= n + 1e-9


@settings(max_examples=25)
@given(logs(), WEIGHTS)
def test_doubly_robust_is_finite_or_refuses(log: Any, weights: Any) -> None:
    n = log["y"].shape[0]
    X = np.linspace(-1, 1, n)[:, None]
    check(DoublyRobust(Ridge(), weights=weights, cv=2), X, log, X_target=np.zeros((3, 1)) + X[:1])


@quick
@given(logs(), DTYPES, st.sampled_from(["frozen", "strided", "backward", "fortran", "series"]))
def test_layout_and_dtype_do_not_matter(log: Any, dtype: Any, layout: str) -> None:
    n = log["y"].shape[0]
    X = np.arange(2 * n, dtype=np.float64).reshape(n, 2)

    def view(a: np.ndarray) -> Any:
        a = a.astype(dtype)
        if layout == "strided":
            return np.repeat(a, 2, axis=0)[::2]
        if layout == "backward":
            return a[::-1].copy()[::-1]
        if layout == "fortran":
            return np.asfortranarray(a)
        if layout == "series":  # odd indices
            index = np.arange(n)[::-1] * 7
            return pd.Series(a, index=index) if a.ndim == 1 else pd.DataFrame(a, index=index)
        a.flags.writeable = False
        return a

    exact = {k: v.astype(dtype).astype(np.float64) for k, v in log.items()}
    expected = check(IPW(), X, exact)
    found = check(IPW(), view(X), {k: view(v) for k, v in log.items()})
    assert (expected is None) == (found is None)
    if expected is not None:
        assert found.value == pytest.approx(expected.value, rel=1e-12, abs=1e-12)
        assert found.se == pytest.approx(expected.se, rel=1e-9, abs=1e-12)


@quick
@given(logs(), st.randoms(), st.booleans())
def test_row_order_does_not_matter(log: Any, random: Any, groups: bool) -> None:
    n = log["y"].shape[0]
    X = np.arange(n, dtype=float)[:, None]
    order = np.array(random.sample(range(n), n))
    for est, more in ((IPW(), {}), (DoublyRobust(Ridge(), cv=3), {"X_target": X[:2]})):
        labels = {"groups": np.arange(n) // 2} if groups and n > 3 else {}
        one = check(est, X, log, **more, **labels)
        moved = {k: v[order] for k, v in (log | labels).items()}
        two = check(est, X[order], moved, **more)
        assert (one is None) == (two is None)
        if one is not None:
            assert two.value == pytest.approx(one.value, rel=1e-7, abs=1e-6)
            assert two.se == pytest.approx(one.se, rel=1e-5, abs=1e-5)


@quick
@given(st.integers(2, 30), st.sampled_from([np.int8, np.int64, np.uint8, bool]))
def test_whole_number_outcomes_and_log_probs(n: int, dtype: Any) -> None:
    y = (np.arange(n) % 2).astype(dtype)
    logp = -(np.arange(n) % 3) - 1
    X = np.arange(n)[:, None]
    ints = IPW().fit(X, y, logp_target=logp, logp_logging=-np.ones(n, dtype=int))
    floats = IPW().fit(X, y.astype(float), logp_target=logp * 1.0, logp_logging=-np.ones(n))
    assert (ints.value_, ints.se_) == (floats.value_, floats.se_)


BAD = [
    ({"y": [np.nan, 1, 2, 3]}, "NaN"),
    ({"y": [np.inf, 1, 2, 3]}, "infinity"),
    ({"y": [1, 2, 3]}, "4 rows and y has 3|inconsistent"),
    ({"logp_logging": [-1, -1, -1, -np.inf]}, "logp_logging is -inf"),
    ({"logp_logging": [-1, -1, np.nan, -1]}, "logp_logging has 1 NaN"),
    ({"logp_logging": [0.1, 0.2, 0.3, 0.4]}, "probabilities"),
    ({"logp_logging": None}, "logp_logging"),
    ({"logp_target": [-1, -1, np.inf, -1]}, "logp_target has 1 NaN or .inf"),
    ({"logp_target": [-np.inf] * 4}, "probability 0"),
    ({"logp_target": [-1, -1, -1]}, "logp_target must have shape"),
    ({"logp_target": [5.0, -1, -1, -1]}, "logp_target is positive"),
    ({"logp_target": None}, "logp_target"),
    ({"logp_target": ["a"] * 4}, "logp_target must be numbers"),
    ({"sample_weight": [1, -1, 1, 1]}, "sample_weight"),
    ({"sample_weight": [0, 0, 0, 0]}, "sample_weight"),
    ({"sample_weight": [0.25] * 4}, "sample_weight sums to 1"),
    ({"groups": ["a"] * 4}, "groups"),
    ({"groups": [1, 2, None, 3]}, "groups"),
    ({"by": ["a", "a", "a", "b"]}, "by"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
@pytest.mark.parametrize("make", [IPW, DoublyRobust, OutcomeRegression])
def test_bad_input_is_refused_by_name(make: Any, change: dict[str, Any], message: str) -> None:
    X = np.arange(4.0)[:, None]
    log: dict[str, Any] = {
        "y": [1.0, 2, 3, 5], "logp_target": [-1.0, -2, -1, -2], "logp_logging": [-1.5] * 4,
    }  # fmt: skip
    if make is not IPW:
        from causal_lm_opt.estimators._target import TargetSample

        log["X_target"] = TargetSample(X, by=["a", "a", "b", "b"])
    with pytest.raises(ValueError, match=message):
        make().fit(X, **(log | change))
