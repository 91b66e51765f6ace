"""Standard errors, intervals and bands against explicit formulas, repetition and simulation.

Monte-Carlo tolerances: four standard errors of the simulated figure.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from causal_lm_opt.core import (
    Clip,
    ParetoSmooth,
    Shrink,
    Switch,
    Temper,
    Weighting,
    bias_aware_half_width,
    cluster_sums,
    empirical_bernstein,
    influence_covariance,
    ipw_moment,
    max_t_critical_value,
    multiplier_t,
    relative_weights,
    solve_linear_moment,
    transform_bias,
)

RNG = np.random.default_rng(5)
N, K, G = 40, 3, 7
PHI = RNG.normal(size=(N, K))
S = RNG.integers(1, 5, size=N).astype(np.float64)
CODES = np.r_[np.arange(G), RNG.integers(0, G, size=N - G)]
REPEATED = np.repeat(np.arange(N), S.astype(int))


# ------------------------------------------------------------------------------ covariance
@pytest.mark.parametrize("phi", [PHI, PHI[:, 0]], ids=["many", "one"])
def test_cluster_sums_add_rows(phi: np.ndarray) -> None:
    expected = np.zeros((G + 1, *phi.shape[1:]))  # the last cluster is empty
    for i in range(N):
        expected[CODES[i]] += phi[i]
    np.testing.assert_allclose(cluster_sums(phi, CODES, G + 1), expected, atol=1e-14)


def test_covariance_of_rows_is_the_sample_covariance_of_a_mean() -> None:
    phi = PHI - PHI.mean(axis=0)
    np.testing.assert_allclose(influence_covariance(phi), np.cov(phi.T) / N, atol=1e-15)
    np.testing.assert_allclose(influence_covariance(phi[:, 0]), np.var(phi[:, 0], ddof=1) / N)


def test_covariance_of_clusters_in_a_loop() -> None:
    total = np.zeros((K, K))
    for g in range(G):
        inside, rows = np.zeros(K), 0.0
        for i in range(N):
            if CODES[i] == g:
                inside += S[i] * PHI[i]
                rows += S[i]
        total += np.outer(inside, inside) / (S.sum() - rows) ** 2
    expected = (G - 1) / G * total
    np.testing.assert_allclose(influence_covariance(PHI, S, CODES, G), expected, rtol=1e-12)


def test_covariance_of_clusters_is_the_jackknife_of_means() -> None:
    moved = []
    for g in range(G):
        rest = g != CODES
        moved.append(np.average(PHI[rest], axis=0, weights=S[rest]))
    gap = np.array(moved) - np.average(PHI, axis=0, weights=S)
    centred = PHI - np.average(PHI, axis=0, weights=S)
    expected = (G - 1) / G * gap.T @ gap
    np.testing.assert_allclose(influence_covariance(centred, S, CODES, G), expected, rtol=1e-12)


def test_equal_clusters_have_the_sandwich_of_their_sums() -> None:
    codes = np.arange(N) % 5
    sums = cluster_sums(PHI, codes, 5) / N
    expected = 5 / 4 * sums.T @ sums
    np.testing.assert_allclose(influence_covariance(PHI, None, codes, 5), expected, rtol=1e-12)


@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize("phi", [PHI, PHI[:, 0]], ids=["many", "one"])
def test_a_frequency_weight_repeats_the_row(phi: np.ndarray, clustered: bool) -> None:
    codes = CODES if clustered else None
    again = CODES[REPEATED] if clustered else None
    np.testing.assert_allclose(
        influence_covariance(phi, S, codes, G),
        influence_covariance(phi[REPEATED], None, again, G),
        rtol=1e-12,
    )
    w = np.exp(phi)
    value, influence = solve_linear_moment(*ipw_moment(w, phi, normalize=True), S)
    value2, influence2 = solve_linear_moment(
        *ipw_moment(w[REPEATED], phi[REPEATED], normalize=True)
    )
    np.testing.assert_allclose(value, value2, rtol=1e-12)
    np.testing.assert_allclose(influence[REPEATED], influence2, atol=1e-12)


def test_one_row_a_cluster_is_the_row_formula() -> None:
    phi = PHI - PHI.mean(axis=0)
    np.testing.assert_allclose(
        influence_covariance(phi, None, np.arange(N), N), influence_covariance(phi), rtol=1e-12
    )


# ------------------------------------------------------------------------------ half-widths
@pytest.mark.parametrize("dof", [3.0, 12.0, math.inf])
@pytest.mark.parametrize("bias", [0.0, 0.3, 1.0, 4.0, 30.0])
def test_bias_aware_half_width_by_simulation(dof: float, bias: float) -> None:
    """|se T + bias| stays within the half-width with probability ``level``, t draws included."""
    rng, se, draws = np.random.default_rng(11), 0.5, 200_000
    t = rng.standard_normal(draws) if math.isinf(dof) else rng.standard_t(dof, draws)
    half = bias_aware_half_width(se, level=0.9, dof=dof, bias=bias)
    covered = np.mean(np.abs(se * t + bias) <= half)
    assert abs(covered - 0.9) < 4 * math.sqrt(0.09 / draws)


@pytest.mark.parametrize("dof", [2.0, 30.0, math.inf])
def test_bias_aware_half_width_is_monotone_and_between_its_bounds(dof: float) -> None:
    biases = np.linspace(0, 20, 401)
    halves = np.array([bias_aware_half_width(1.0, level=0.95, dof=dof, bias=b) for b in biases])
    central = stats.norm if math.isinf(dof) else stats.t(dof)
    assert halves[0] == pytest.approx(central.ppf(0.975), rel=1e-12)
    steps = np.diff(halves)
    assert (steps > 0).all()  # no jump back
    assert (steps < 0.05 + 1e-6).all()  # a bias of b widens by at most b
    assert (halves >= biases + central.ppf(0.95) - 1e-9).all()


def test_bias_aware_half_width_at_the_edges() -> None:
    assert bias_aware_half_width(0.0, level=0.95, bias=2.0) == 2.0
    assert bias_aware_half_width(1.0, level=0.95, bias=math.inf) == math.inf
    assert bias_aware_half_width(math.nan, level=0.95) == math.inf
    for bias in (1e-300, 1e-17, 1e-8, 1e8, 1e17, 1e60):  # far from the scale of the error
        half = bias_aware_half_width(1.0, level=0.95, bias=bias)
        assert bias + 1.64 < half < bias + 1.97 or half == bias > 1e16
    assert bias_aware_half_width(1.0, level=0.1, bias=50.0) == pytest.approx(
        50 + stats.norm.ppf(0.1)
    )


# ------------------------------------------------------------------------------ bootstrap, bands
def test_multiplier_t_in_a_loop() -> None:
    c, xi = RNG.normal(size=N), RNG.normal(size=(5, N))
    for b, t in enumerate(multiplier_t(c, xi)):
        top = sum(xi[b, i] * c[i] for i in range(N))
        bottom = sum(xi[b, i] ** 2 * c[i] ** 2 for i in range(N))
        assert t == pytest.approx(top / math.sqrt(bottom))
    assert (multiplier_t(np.zeros(3), np.ones((2, 3))) == 0).all()


def test_multiplier_t_keeps_skewness() -> None:
    """The t statistic of right-skewed contributions is skewed to the left."""
    rng = np.random.default_rng(0)
    low, high = (1 - math.sqrt(5)) / 2, (1 + math.sqrt(5)) / 2
    xi = np.where(rng.random((4000, 200)) < high / math.sqrt(5), low, high)
    assert abs(xi.mean()) < 0.01
    assert abs((xi**3).mean() - 1) < 0.02
    c = rng.exponential(size=200) - 1
    right, left = (np.quantile(multiplier_t(x, xi), [0.025, 0.975]) for x in (c, -c))
    assert right.sum() < -0.2
    assert left.sum() > 0.2


def test_max_t_is_the_quantile_of_the_largest_t() -> None:
    rng = np.random.default_rng(3)
    root = rng.normal(size=(4, 4))
    covariance = root @ root.T * np.outer([1, 10, 0.1, 3], [1, 10, 0.1, 3])
    level, size = 0.95, 100_000
    ours = max_t_critical_value(covariance, rng.standard_normal((size, 4)), level=level)
    draws = rng.multivariate_normal(np.zeros(4), covariance, size=size)
    largest = np.abs(draws / np.sqrt(np.diag(covariance))).max(axis=1)
    covered = np.mean(largest <= ours)
    assert abs(covered - level) < 4 * math.sqrt(2 * level * (1 - level) / size)
    assert stats.norm.ppf(0.975) < ours < stats.norm.ppf(1 - 0.025 / 4)


def test_max_t_of_special_correlations() -> None:
    normals = np.random.default_rng(4).standard_normal((100_000, 3))
    same = max_t_critical_value(np.ones((3, 3)), normals, level=0.95)
    assert same == pytest.approx(1.96, abs=0.03)
    independent = max_t_critical_value(np.eye(3), normals, level=0.95)
    assert independent == pytest.approx(stats.norm.ppf((1 + 0.95 ** (1 / 3)) / 2), abs=0.03)
    degenerate = max_t_critical_value(np.diag([1.0, 0.0, 0.0]), normals, level=0.95)
    assert degenerate == pytest.approx(1.96, abs=0.03)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_empirical_bernstein_covers_a_skewed_bounded_law(level: float) -> None:
    """Finite sample: at least ``level`` for any law in the bounds, 20 rows, 97 % of them zero."""
    rng = np.random.default_rng(9)
    reps, n, p = 4000, 20, 0.03
    z = 50.0 * (rng.random((reps, n)) < p)
    intervals = np.array([empirical_bernstein(row, lower=0, upper=50, level=level) for row in z])
    covered = np.mean((intervals[:, 0] <= 50 * p) & (50 * p <= intervals[:, 1]))
    assert covered >= level
    normal = 1.96 * z.std(axis=1, ddof=1) / math.sqrt(n)
    assert np.mean(np.abs(z.mean(axis=1) - 50 * p) <= normal) < 0.6  # where the normal one fails


# ------------------------------------------------------------------------------ transform bias
def test_bias_of_clipping_without_normalisation_in_closed_form() -> None:
    ell, residual, c = RNG.normal(scale=2, size=N), RNG.normal(size=N), 1.5
    w = np.exp(ell)
    expected = np.mean(np.maximum(w - c, 0) * np.abs(residual))
    assert transform_bias(ell, Clip(c, normalize=False), residual) == pytest.approx(expected)
    weighted = np.sum(S * np.maximum(w - c, 0) * np.abs(residual)) / S.sum()
    assert transform_bias(ell, Clip(c, normalize=False), residual, S) == pytest.approx(weighted)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(
    "make", [lambda n: Clip(1.5, normalize=n), lambda n: Shrink(2.0, normalize=n),
             lambda n: Temper(0.5, normalize=n), lambda n: Switch(1.5, normalize=n),
             lambda n: ParetoSmooth(normalize=n)],
    ids=["clip", "shrink", "temper", "switch", "pareto"],
)  # fmt: skip
def test_bias_bound_holds_and_is_its_formula(make: object, normalize: bool) -> None:
    weighting: Weighting = make(normalize)  # type: ignore[operator]
    rng = np.random.default_rng(8)
    for _ in range(20):
        ell, r = rng.normal(scale=1.5, size=N), rng.normal(size=N) + 1
        raw, new = np.exp(ell), np.exp(weighting.transform(ell))
        centre = 0.0
        if normalize:
            raw, new = raw / raw.mean(), new / new.mean()
            centre = np.mean(new * r)
        bound = float(transform_bias(ell, weighting, r))
        assert bound == pytest.approx(np.mean(np.abs(new - raw) * np.abs(r - centre)))
        assert abs(np.mean(new * r) - np.mean(raw * r)) <= bound + 1e-12


def test_transforms_are_what_they_say() -> None:
    ell = RNG.normal(scale=2, size=N)
    w = np.exp(ell)
    for weighting, expected in (
        (Clip(1.5), np.minimum(w, 1.5)),
        (Shrink(2.0), 2 * w / (w**2 + 2)),
        (Temper(0.3), w**0.3),
        (Switch(1.5), np.where(w > 1.5, 0, w)),
    ):
        np.testing.assert_allclose(np.exp(weighting.transform(ell)), expected, rtol=1e-12)
    np.testing.assert_allclose(relative_weights(ell, normalize=False), w, rtol=1e-15)
    np.testing.assert_allclose(relative_weights(ell, normalize=True), w / w.max(), rtol=1e-12)
