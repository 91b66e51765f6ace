"""Properties that hold for any log: hypothesis looks for a log that breaks them."""

from __future__ import annotations

from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from causal_lm_opt.core import (
    Clip,
    Hajek,
    HorvitzThompson,
    ParetoSmooth,
    Shrink,
    Switch,
    Temper,
    Weighting,
    influence_covariance,
    ipw_moment,
    relative_weights,
    solve_linear_moment,
    transform_bias,
)
from causal_lm_opt.diagnostics import effective_sample_size, overlap

NORMALISED = [
    Hajek(),
    Clip(2.0),
    Shrink(3.0),
    Temper(0.5),
    ParetoSmooth(),
    Switch(1.0, normalize=True),
]
DTYPES = st.sampled_from([np.float32, np.float64])
ELEMENT = st.one_of(
    st.floats(-5, 5), st.sampled_from([0.0, 1e4, -1e4, -np.inf, 1e-30]), st.floats(-1e4, 1e4)
)
OUTCOME = st.one_of(st.floats(-100, 100), st.sampled_from([0.0, 1.0, 1e6, -1e6]))
quick = settings(max_examples=60)


@st.composite
def logs(draw: Any, dtype: Any = None) -> tuple[np.ndarray, np.ndarray]:
    n = draw(st.integers(2, 40))
    kind = draw(DTYPES) if dtype is None else dtype
    ell = draw(hnp.arrays(np.float64, n, elements=ELEMENT)).astype(kind)
    y = draw(hnp.arrays(np.float64, n, elements=OUTCOME)).astype(kind)
    assume(np.isfinite(ell).any())
    return ell, y


def odd_views(a: np.ndarray) -> list[np.ndarray]:
    """The same numbers read-only, strided, reversed and in Fortran order."""
    frozen = a.copy()
    frozen.flags.writeable = False
    strided = np.repeat(a, 2)[::2]
    backward = a[::-1].copy()[::-1]
    column = np.asfortranarray(np.stack([a, a], axis=1))[:, 1]
    return [frozen, strided, backward, column]


def solve(ell: np.ndarray, y: np.ndarray, weighting: Weighting) -> tuple[Any, np.ndarray]:
    weight = relative_weights(weighting.transform(ell), normalize=weighting.normalize)
    return solve_linear_moment(*ipw_moment(weight, y, normalize=weighting.normalize))


def alive(ell: np.ndarray, weighting: Weighting) -> bool:
    return bool(np.isfinite(weighting.transform(ell)).any())


def slack(y: np.ndarray) -> float:
    return 64 * float(np.finfo(y.dtype).eps) * max(1.0, float(np.abs(y).max())) * y.shape[0]


@quick
@given(logs(), st.sampled_from(NORMALISED))
def test_self_normalised_value_lies_within_the_outcomes(log: Any, weighting: Weighting) -> None:
    ell, y = log
    assume(alive(ell, weighting))
    value, phi = solve(ell, y, weighting)
    assert y.min() - slack(y) <= value <= y.max() + slack(y)
    assert np.isfinite(phi).all()
    assert phi.dtype == y.dtype
    # phi is n times larger than its mean where one row has all the weight
    assert abs(phi.mean()) <= slack(y) * y.shape[0]


@quick
@given(logs(np.float64), st.sampled_from(NORMALISED), st.floats(-1e3, 1e3), st.floats(-50, 50))
def test_self_normalised_value_follows_the_outcomes_origin_and_unit(
    log: Any, weighting: Weighting, shift: float, unit: float
) -> None:
    ell, y = log
    assume(alive(ell, weighting))
    value, phi = solve(ell, y, weighting)
    moved, phi_moved = solve(ell, y + shift, weighting)
    assert moved == pytest.approx(value + shift, rel=1e-9, abs=1e-6)
    np.testing.assert_allclose(phi_moved, phi, rtol=1e-6, atol=1e-5)
    scaled, phi_scaled = solve(ell, unit * y, weighting)
    assert scaled == pytest.approx(unit * value, rel=1e-9, abs=1e-9)
    np.testing.assert_allclose(phi_scaled, unit * phi, rtol=1e-9, atol=1e-6)


@quick
@given(logs(np.float64), st.floats(-1e3, 1e3))
def test_a_constant_outcome_has_no_error(log: Any, constant: float) -> None:
    ell, y = log
    value, phi = solve(ell, np.full_like(y, constant), Hajek())
    assert value == pytest.approx(constant, rel=1e-12)
    assert np.sqrt(influence_covariance(phi)) <= 1e-9 * max(1, abs(constant))


@quick
@given(hnp.arrays(np.float64, st.integers(2, 30), elements=st.floats(-20, 20)), st.data())
def test_horvitz_thompson_is_the_mean_of_w_y(ell: np.ndarray, data: Any) -> None:
    y = data.draw(hnp.arrays(np.float64, ell.shape[0], elements=st.floats(-100, 100)))
    value, phi = solve(ell, y, HorvitzThompson())
    terms = np.exp(ell) * y
    np.testing.assert_allclose(value, terms.mean(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(phi, terms - terms.mean(), rtol=1e-9, atol=1e-5)
    variance = float(influence_covariance(phi))
    assert variance == pytest.approx(np.var(terms, ddof=1) / ell.shape[0], rel=1e-6, abs=1e-12)


@quick
@given(logs(np.float64), st.sampled_from([*NORMALISED, HorvitzThompson()]), st.randoms())
def test_row_order_does_not_matter(log: Any, weighting: Weighting, random: Any) -> None:
    ell, y = log
    assume(alive(ell, weighting))
    assume(weighting.normalize or ell.max() < 200)
    order = np.array(random.sample(range(ell.shape[0]), ell.shape[0]))
    value, phi = solve(ell, y, weighting)
    again, phi_again = solve(ell[order], y[order], weighting)
    assert again == pytest.approx(value, rel=1e-9, abs=1e-7)
    np.testing.assert_allclose(phi_again, phi[order], rtol=1e-7, atol=1e-5)


@quick
@given(logs(), st.sampled_from([*NORMALISED, Clip(2.0, normalize=False)]))
def test_memory_layout_does_not_matter(log: Any, weighting: Weighting) -> None:
    ell, y = log
    assume(alive(ell, weighting))
    value, phi = solve(ell, y, weighting)
    before = ell.copy()
    for e, o in zip(odd_views(ell), odd_views(y), strict=True):
        other, phi_other = solve(e, o, weighting)
        np.testing.assert_allclose(other, value, rtol=1e-5, atol=slack(y))
        np.testing.assert_allclose(phi_other, phi, rtol=1e-4, atol=slack(y) * y.shape[0])
    np.testing.assert_array_equal(ell, before)


@quick
@given(logs(), st.sampled_from([*NORMALISED, Clip(2.0, normalize=False), HorvitzThompson()]))
def test_columns_do_not_see_each_other(log: Any, weighting: Weighting) -> None:
    ell, y = log
    assume(alive(ell, weighting))
    assume(weighting.normalize or weighting.kind == "clip" or ell.max() < 30)
    both = np.stack([ell, ell[::-1]], axis=1)
    value, phi = solve(both, y, weighting)
    assert value.shape == (2,)
    assert phi.shape == both.shape
    alone, phi_alone = solve(ell, y, weighting)
    np.testing.assert_allclose(value[0], alone, rtol=1e-4, atol=slack(y))
    np.testing.assert_allclose(phi[:, 0], phi_alone, rtol=1e-4, atol=slack(y) * y.shape[0])


@quick
@given(logs(), st.sampled_from(NORMALISED))
def test_bias_bounds_are_finite_and_not_negative(log: Any, weighting: Weighting) -> None:
    ell, y = log
    assume(alive(ell, weighting))
    bound = transform_bias(ell, weighting, y)
    assert np.isfinite(bound)
    assert bound >= 0
    if weighting.unbiased:
        assert bound == 0


@quick
@given(logs())
def test_effective_sample_size_is_between_one_and_n(log: Any) -> None:
    ell, _ = log
    n = ell.shape[0]
    weight = relative_weights(ell, normalize=True)
    ess = float(effective_sample_size(weight))
    tolerance = 1e-4 if ell.dtype == np.float32 else 1e-9
    assert 1 - tolerance <= ess <= n * (1 + tolerance)
    d = overlap(ell)
    assert 1 / n - tolerance <= d.largest_share <= 1 + tolerance
    assert d.ess == pytest.approx(ess, rel=1e-5)
    assert 0 <= d.zero_share <= 1
    assert d.mean_weight >= 0


@quick
@given(logs(np.float64), st.data())
def test_overlap_counts_a_frequency_weight_as_repeated_rows(log: Any, data: Any) -> None:
    ell, _ = log
    s = data.draw(hnp.arrays(np.int64, ell.shape[0], elements=st.integers(1, 4)))
    a, b = overlap(ell, s.astype(np.float64)), overlap(np.repeat(ell, s))
    for name in ("n", "ess", "mean_weight", "sd_log_ratio", "zero_share", "pareto_k"):
        ours, repeated = getattr(a, name), getattr(b, name)
        assert ours == pytest.approx(repeated, rel=1e-7, abs=1e-9, nan_ok=True), name


@pytest.mark.parametrize(
    "arguments",
    [("clip", None), ("none", 1.0), ("clip", -1.0), ("clip", np.inf), ("temper", 1.5), ("?", None)],
)
def test_bad_weightings_are_refused(arguments: tuple[str, Any]) -> None:
    with pytest.raises(ValueError, match="weights:"):
        Weighting(*arguments)
    with pytest.raises(ValueError, match="weights="):
        Weighting.of("snips")
