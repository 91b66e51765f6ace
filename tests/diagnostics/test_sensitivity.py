"""Sensitivity bounds against linear programmes on exact discrete spaces, and their identities.

The truth of violation (A) on a finite space is a linear programme in ``r(x, y)``: maximise
``sum p(x, y) w(x) r y`` over ``1/L <= r <= L`` with ``sum_y p(y | x) r = 1`` at every text; of (B)
the fractional programme that Charnes and Cooper's change of variables makes linear.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from causal_lm_opt.diagnostics.sensitivity import (
    Bounds,
    ConfounderStrength,
    PlugIn,
    benchmark_strength,
    breakdown,
    covariate_strengths,
    hidden_confounder_bounds,
    hidden_confounder_contrast,
    interpolate_columns,
    logging_probability_bounds,
    logging_probability_contrast,
    omitted_variable_bound,
    quantile_excess,
    quantile_levels,
    resample_multipliers,
)

GRID = np.array([1.0, 1.2, 2.0, 5.0])


class Space:
    """A finite space of texts and outcomes: one row a (text, outcome), with its probability."""

    def __init__(self, seed: int, n_texts: int = 4, n_outcomes: int = 5) -> None:
        rng = np.random.default_rng(seed)
        shape = (n_texts, n_outcomes)
        self.p_text = rng.dirichlet(np.ones(n_texts))
        self.p_given = rng.dirichlet(np.ones(n_outcomes), size=n_texts)
        self.target = rng.dirichlet(np.ones(n_texts))
        self.other = rng.dirichlet(np.ones(n_texts))
        self.text = np.repeat(np.arange(n_texts), n_outcomes)
        self.y = rng.normal(size=shape).ravel() + self.text
        self.p = (self.p_text[:, None] * self.p_given).ravel()
        self.w = (self.target / self.p_text)[self.text]
        self.v = (self.other / self.p_text)[self.text]
        self.g = np.array([self.mean(t) for t in range(n_texts)])[self.text]

    def mean(self, t: int) -> float:
        rows = self.text == t
        return float(self.p_given[t] @ self.y[rows])

    def quantiles(self, levels: np.ndarray) -> np.ndarray:
        """Exact conditional quantiles of every row's text, shape (rows, levels)."""
        out = np.empty((self.text.size, levels.size))
        for t in np.unique(self.text):
            rows = np.flatnonzero(self.text == t)
            order = np.argsort(self.y[rows])
            held = np.cumsum(self.p_given[t][order])
            place = np.minimum(np.searchsorted(held, levels - 1e-12), order.size - 1)
            out[rows] = self.y[rows][order][place]
        return out

    def programme(self, omega: np.ndarray, lam: float) -> float:
        """Largest ``sum p omega r y`` with ``E[r | text] = 1``."""
        n_texts = self.p_text.size
        a_eq = np.zeros((n_texts, self.y.size))
        for t in range(n_texts):
            a_eq[t, self.text == t] = self.p_given[t]
        found = optimize.linprog(
            -self.p * omega * self.y, A_eq=a_eq, b_eq=np.ones(n_texts), bounds=(1 / lam, lam)
        )
        assert found.status == 0
        return -float(found.fun)

    def bounds(self, quantile_lower: np.ndarray, quantile_upper: np.ndarray, **more: object):  # type: ignore[no-untyped-def]
        return hidden_confounder_bounds(
            self.w, self.y, quantile_lower, quantile_upper, GRID, sample_weight=self.p,
            **more,  # type: ignore[arg-type]
        )  # fmt: skip


def fractional_programme(w: np.ndarray, y: np.ndarray, lam: float) -> float:
    """Largest ``sum w r y / sum w r`` over ``1/lam <= r <= lam``, by linprog."""
    n = y.size
    bands = np.vstack(
        [
            np.hstack([np.eye(n), -lam * np.ones((n, 1))]),
            np.hstack([-np.eye(n), np.ones((n, 1)) / lam]),
        ]
    )
    found = optimize.linprog(
        np.append(-w * y, 0.0), A_ub=bands, b_ub=np.zeros(2 * n),
        A_eq=np.append(w, 0.0)[None], b_eq=[1.0], bounds=(0, None),
    )  # fmt: skip
    assert found.status == 0
    return -float(found.fun)


# ------------------------------------------------------------------ (A) hidden confounder
@pytest.mark.parametrize("seed", range(6))
def test_hidden_confounder_bounds_are_the_linear_programme(seed: int) -> None:
    space = Space(seed)
    low, high = quantile_levels(GRID)
    found = space.bounds(space.quantiles(low), space.quantiles(high))
    upper = [space.programme(space.w, lam) for lam in GRID]
    lower = [-space.programme(-space.w, lam) for lam in GRID]
    np.testing.assert_allclose(found.upper, upper, atol=1e-8)
    np.testing.assert_allclose(found.lower, lower, atol=1e-8)


@pytest.mark.parametrize("seed", range(6))
def test_doubly_robust_bounds_are_the_linear_programme(seed: int) -> None:
    """Exact rho and exact quantiles, and any rho at all where the weights are right."""
    space = Space(seed)
    low, high = (space.quantiles(t) for t in quantile_levels(GRID))
    down, up = quantile_excess(space.y, low, high, GRID)
    truth = [space.programme(space.w, lam) for lam in GRID]
    rng = np.random.default_rng(seed)
    for exact in (True, False):
        q_text = np.array([space.mean(t) for t in range(4)]) + (0 if exact else rng.normal(size=4))
        rise = np.stack(
            [space.p_given[t] @ up[space.text == t] for t in range(4)]
        ) + (0 if exact else rng.normal(size=(4, GRID.size)))  # fmt: skip
        rise[:, 0] = 0.0
        q = q_text[space.text]
        found = space.bounds(
            low, high, prediction=q,
            rho=(q[:, None] - down * 0, q[:, None] + rise[space.text]),
            plug_in=PlugIn(
                float(space.target @ q_text), upper=space.target @ (q_text[:, None] + rise)
            ),
        )  # fmt: skip
        np.testing.assert_allclose(found.upper, truth, atol=1e-8)
        np.testing.assert_allclose(found.value, space.target @ [space.mean(t) for t in range(4)])


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.floats(-3, 3), st.floats(0, 3))
def test_a_wrong_quantile_only_widens(seed: int, shift: float, noise: float) -> None:
    space = Space(seed % 50)
    rng = np.random.default_rng(seed)
    moved = shift + noise * rng.normal(size=(4, GRID.size))[space.text]
    low, high = (space.quantiles(t) + moved for t in quantile_levels(GRID))
    found = space.bounds(low, high)
    assert (found.upper >= [space.programme(space.w, lam) - 1e-9 for lam in GRID]).all()
    assert (found.lower <= [-space.programme(-space.w, lam) + 1e-9 for lam in GRID]).all()


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("dr", [True, False])
def test_no_violation_returns_the_estimate_exactly(normalize: bool, dr: bool) -> None:
    rng = np.random.default_rng(0)
    w, y, q = rng.exponential(size=60), rng.normal(size=60) + 1e6, rng.normal(size=60) + 1e6
    more = {"prediction": q, "plug_in": PlugIn(2.5)} if dr else {}
    found = hidden_confounder_bounds(
        w, y, rng.normal(size=(60, 1)), rng.normal(size=(60, 1)), [1.0], normalize=normalize,
        **more,  # type: ignore[arg-type]
    )  # fmt: skip
    bottom = w.sum() if normalize else 60
    value = w @ (y - q) / bottom + 2.5 if dr else w @ y / bottom
    assert found.lower[0] == found.value == found.upper[0]
    assert found.value == pytest.approx(value, rel=1e-12)


@settings(max_examples=15)
@given(st.integers(0, 10_000))
def test_bounds_are_nested_for_a_fixed_quantile(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, lams = 30, np.linspace(1, 6, 6)
    w, v, y = rng.exponential(size=n), rng.exponential(size=n), rng.standard_t(3, size=n)
    q = rng.normal(size=(n, 1))
    for found in (
        hidden_confounder_bounds(w, y, q, q + 1, lams),
        hidden_confounder_contrast(w, v, y, q, q + 1, lams),
        logging_probability_bounds(w, y, lams),
    ):
        assert (np.diff(found.upper) >= -1e-12).all()
        assert (np.diff(found.lower) <= 1e-12).all()


def test_bounds_are_equivariant_to_the_outcomes_units() -> None:
    rng = np.random.default_rng(1)
    w, y, q = rng.exponential(size=50), rng.normal(size=50), rng.normal(size=(50, 1))
    base = hidden_confounder_bounds(w, y, q, q, GRID)
    moved = hidden_confounder_bounds(7 * w, 3 * y + 5, 3 * q + 5, 3 * q + 5, GRID)
    np.testing.assert_allclose(moved.upper, 3 * base.upper + 5)
    flipped = hidden_confounder_bounds(w, -y, -q, -q, GRID)
    np.testing.assert_allclose(flipped.lower, -base.upper)


def test_frequencies_are_repeated_rows() -> None:
    rng = np.random.default_rng(2)
    s = rng.integers(1, 4, size=20)
    w, y, q = rng.exponential(size=20), rng.normal(size=20), rng.normal(size=(20, 1))
    rows = np.repeat(np.arange(20), s)
    some = hidden_confounder_bounds(w, y, q, q, GRID, sample_weight=s)
    all_ = hidden_confounder_bounds(w[rows], y[rows], q[rows], q[rows], GRID)
    np.testing.assert_allclose(some.upper, all_.upper)
    v = rng.exponential(size=20)
    one = logging_probability_contrast(w, v, y, GRID, sample_weight=s, texts=np.arange(20))
    two = logging_probability_contrast(w[rows], v[rows], y[rows], GRID, texts=rows)
    np.testing.assert_allclose(one.upper, two.upper, atol=1e-7)


# ------------------------------------------------------------------ two policies, one r
@pytest.mark.parametrize("seed", range(6))
def test_contrast_is_the_linear_programme_and_narrower_than_separate_bounds(seed: int) -> None:
    space = Space(seed)
    low, high = (space.quantiles(t) for t in quantile_levels(GRID))
    found = hidden_confounder_contrast(
        space.w, space.v, space.y, low, high, GRID, sample_weight=space.p
    )
    truth = [space.programme(space.w - space.v, lam) for lam in GRID]
    np.testing.assert_allclose(found.upper, truth, atol=1e-8)
    one = space.bounds(low, high)
    two = hidden_confounder_bounds(space.v, space.y, low, high, GRID, sample_weight=space.p)
    separate = (one.upper - two.lower) - (one.lower - two.upper)
    together = found.upper - found.lower
    assert (together[1:] < separate[1:]).all()
    assert together[0] == 0.0


@settings(max_examples=15)
@given(st.integers(0, 10_000))
def test_contrast_is_never_wider_than_separate_bounds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    w, v, y = rng.exponential(size=25), rng.exponential(size=25), rng.normal(size=25)
    q = rng.normal(size=(25, 1))
    pairs = [
        (
            hidden_confounder_contrast(w, v, y, q, q, GRID, normalize=False),
            hidden_confounder_bounds(w, y, q, q, GRID, normalize=False),
            hidden_confounder_bounds(v, y, q, q, GRID, normalize=False),
        ),
        (
            logging_probability_contrast(w, v, y, GRID),
            logging_probability_bounds(w, y, GRID),
            logging_probability_bounds(v, y, GRID),
        ),
    ]
    for both, one, two in pairs:
        assert (both.upper <= one.upper - two.lower + 1e-7).all()
        assert (both.lower >= one.lower - two.upper - 1e-7).all()
        assert both.value == pytest.approx(one.value - two.value)


def test_a_policy_never_beats_itself() -> None:
    rng = np.random.default_rng(3)
    w, y, q = rng.exponential(size=40), rng.normal(size=40), rng.normal(size=(40, 1))
    for found in (
        hidden_confounder_contrast(w, 2 * w, y, q, q, GRID),
        logging_probability_contrast(w, 2 * w, y, GRID),
    ):
        np.testing.assert_allclose([found.lower, found.upper], 0.0, atol=1e-12)


# ------------------------------------------------------------------ (B) mis-scored logging
@pytest.mark.parametrize("seed", range(8))
def test_logging_probability_bounds_are_the_linear_programme(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 15))
    w = rng.exponential(size=n) * (rng.random(n) > 0.2) + 1e-3
    y = rng.normal(size=n).round(1)  # with ties
    found = logging_probability_bounds(w, y, GRID)
    for j, lam in enumerate(GRID):
        assert found.upper[j] == pytest.approx(fractional_programme(w, y, lam), abs=1e-8)
        assert found.lower[j] == pytest.approx(-fractional_programme(w, -y, lam), abs=1e-8)
    assert found.lower[0] == found.value == found.upper[0]


def test_rows_of_one_text_share_one_mis_scoring() -> None:
    rng = np.random.default_rng(4)
    text = rng.integers(0, 6, size=60)
    w, y = rng.exponential(size=6)[text], text + rng.normal(size=60)
    found = logging_probability_bounds(w, y, GRID, texts=text)
    mass = np.bincount(text, weights=w)
    mean = np.bincount(text, weights=w * y) / mass
    truth = [fractional_programme(mass, mean, lam) for lam in GRID]
    np.testing.assert_allclose(found.upper, truth, atol=1e-8)
    assert (found.upper[1:] < logging_probability_bounds(w, y, GRID).upper[1:]).all()


def largest_difference(w: np.ndarray, v: np.ndarray, y: np.ndarray, lam: float) -> float:
    """Largest difference of two ratios: one linear programme for each ratio of denominators."""
    n = y.size
    bands = np.vstack(
        [
            np.hstack([np.eye(n), -lam * np.ones((n, 1))]),
            np.hstack([-np.eye(n), np.ones((n, 1)) / lam]),
        ]
    )

    def at(log_ratio: float) -> float:
        k = math.exp(log_ratio)
        found = optimize.linprog(
            np.append(-(w * y - v * y / k), 0.0), A_ub=bands, b_ub=np.zeros(2 * n),
            A_eq=np.vstack([np.append(w, 0.0), np.append(v, 0.0)]), b_eq=[1.0, k],
            bounds=(0, None),
        )  # fmt: skip
        return -float(found.fun) if found.status == 0 else -1e3

    grid = np.linspace(-2, 2, 41) * math.log(lam)
    best = int(np.argmax([at(u) for u in grid]))
    near = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, 40)])
    found = optimize.minimize_scalar(
        lambda u: -at(u), bounds=near, method="bounded", options={"xatol": 1e-8}
    )
    return max(-float(found.fun), at(float(grid[best])))


@pytest.mark.parametrize("seed", range(5))
def test_logging_probability_contrast_reaches_the_linear_programmes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    w, v, y = rng.exponential(size=9), rng.exponential(size=9), rng.normal(size=9)
    w, v = w / w.sum(), v / v.sum()
    found = logging_probability_contrast(w, v, y, [1.3, 2.5])
    for j, lam in enumerate([1.3, 2.5]):
        truth = largest_difference(w, v, y, lam)
        assert found.upper[j] == pytest.approx(truth, abs=1e-5)


def test_the_sharp_bounds_lie_inside_those_for_mis_scored_probabilities() -> None:
    for seed in range(5):
        space = Space(seed)
        low, high = (space.quantiles(t) for t in quantile_levels(GRID))
        wide = logging_probability_bounds(space.w, space.y, GRID, sample_weight=space.p)
        sharp = [space.programme(space.w, lam) for lam in GRID]
        assert (sharp <= wide.upper + 1e-9).all()
        poor = space.bounds(low - 50, high + 50)  # useless quantiles: cut to the wide bound
        np.testing.assert_allclose(poor.upper[1:], wide.upper[1:])


# ------------------------------------------------------------------ bootstrap
def test_replicates_are_the_bounds_of_the_resampled_rows() -> None:
    rng = np.random.default_rng(5)
    codes = rng.integers(0, 15, size=50)
    w, v, y = rng.exponential(size=50), rng.exponential(size=50), rng.normal(size=50)
    low = rng.normal(size=(50, GRID.size))
    high = low + 1
    reps = resample_multipliers(50, 20, rng, codes=codes)
    assert (reps.sum(axis=1) == np.unique(codes).size).all()
    draws = PlugIn(1.0, value_replicates=np.linspace(0, 1, 20))
    q = rng.normal(size=50)
    functions = [
        lambda **k: hidden_confounder_bounds(w, y, low, high, GRID, **k),
        lambda **k: hidden_confounder_contrast(w, v, y, low, high, GRID, **k),
        lambda **k: logging_probability_bounds(w, y, GRID, **k),
        lambda **k: logging_probability_bounds(w, y, GRID, texts=codes, **k),
    ]
    for j, function in enumerate(functions):
        full = function(codes=codes, resamples=reps, prediction=q, plug_in=draws)
        assert full.upper_replicates.shape == (20, GRID.size)
        for b in (0, 7):
            s = reps[b][np.unique(codes, return_inverse=True)[1]].astype(float)
            one = function(sample_weight=s, prediction=q, plug_in=PlugIn(b / 19))
            if j == 1:  # its cut keeps the full sample's worst r
                assert full.upper_replicates[b, 0] == pytest.approx(one.upper[0])
                continue
            np.testing.assert_allclose(full.upper_replicates[b], one.upper)
            np.testing.assert_allclose(full.lower_replicates[b], one.lower)


def test_resamples_of_the_contrast_follow_the_sign_of_its_weights() -> None:
    rng = np.random.default_rng(6)
    w, v, y = rng.exponential(size=40), rng.exponential(size=40), rng.normal(size=40)
    q = rng.normal(size=(40, 1))
    reps = resample_multipliers(40, 20, rng)
    full = hidden_confounder_contrast(w, v, y, q, q, GRID, normalize=False, resamples=reps)
    for b in range(20):
        one = hidden_confounder_contrast(
            w, v, y, q, q, GRID, normalize=False, sample_weight=reps[b].astype(float)
        )
        np.testing.assert_allclose(full.upper_replicates[b], one.upper)  # type: ignore[index]


def test_the_interval_is_the_union_of_the_bounds_own() -> None:
    rng = np.random.default_rng(7)
    w, y = rng.exponential(size=200), rng.normal(size=200)
    found = logging_probability_bounds(w, y, GRID, resamples=resample_multipliers(200, 400, rng))
    interval = found.interval(0.9)
    np.testing.assert_allclose(interval[:, 0], np.quantile(found.lower_replicates, 0.05, axis=0))
    np.testing.assert_allclose(interval[:, 1], np.quantile(found.upper_replicates, 0.95, axis=0))
    assert (interval[:, 0] < found.lower).all()
    with pytest.raises(ValueError, match="resamples="):
        logging_probability_bounds(w, y, GRID).interval()


def test_resampled_frequencies_count_rows() -> None:
    rng = np.random.default_rng(8)
    s = np.array([1.0, 3.0, 6.0])
    counts = resample_multipliers(3, 2000, rng, sample_weight=s) * s
    np.testing.assert_allclose(counts.sum(axis=1), 10)
    np.testing.assert_allclose(counts.mean(axis=0), s, atol=0.2)


# ------------------------------------------------------------------ breakdown
@pytest.mark.parametrize("v0", [0.0, 0.5])
def test_breakdown_is_where_the_bound_reaches_the_claim(v0: float) -> None:
    space = Space(3)
    levels = np.linspace(0.02, 0.98, 49)
    table = space.quantiles(levels)

    def margin(lam: float) -> float:
        low, high = quantile_levels([lam])
        found = hidden_confounder_bounds(
            space.w, space.y, interpolate_columns(levels, table, low),
            interpolate_columns(levels, table, high), [lam], sample_weight=space.p,
        )  # fmt: skip
        return float(found.lower[0]) - v0

    strength = breakdown(margin)
    assert 1 < strength < 1000
    assert margin(strength) == pytest.approx(0.0, abs=1e-5)
    assert margin(0.99 * strength) > 0 > margin(1.01 * strength)


def test_a_claim_below_every_outcome_never_breaks_down() -> None:
    space = Space(3)
    q = np.full((space.y.size, 1), np.median(space.y))

    def lowest(lam: float) -> float:
        return float(
            hidden_confounder_bounds(space.w, space.y, q, q, [lam], sample_weight=space.p).lower[0]
        )

    assert breakdown(lambda lam: lowest(lam) - space.y.min() + 1e-9) == math.inf
    assert breakdown(lambda lam: lowest(lam) - space.y.max()) == 1.0


@pytest.mark.parametrize("kind", ["hidden", "scored", "hidden contrast", "scored contrast"])
def test_intervals_from_clusters_are_stretched_about_the_bounds(kind: str) -> None:
    """Each end's distance from its bound times t / z sqrt(G / (G - 1)); of rows as it was."""
    rng = np.random.default_rng(14)
    w, v, y, codes = rng.exponential(size=60), np.ones(60), rng.normal(size=60), np.arange(60) // 6
    low, high = np.full((60, 1), -0.5), np.full((60, 1), 0.5)
    for labels, groups in ((codes, 10), (None, 60)):
        given = {
            "codes": labels,
            "resamples": resample_multipliers(60, 200, np.random.default_rng(15), codes=labels),
        }
        if kind.startswith("hidden"):
            found = (
                hidden_confounder_contrast(w, v, y, low, high, GRID, **given)
                if kind.endswith("contrast")
                else hidden_confounder_bounds(w, y, low, high, GRID, **given)
            )
        elif kind.endswith("contrast"):
            found = logging_probability_contrast(w, v, y, GRID, **given)
        else:
            found = logging_probability_bounds(w, y, GRID, **given)
        assert found.lower_replicates is not None
        assert found.upper_replicates is not None
        ends = np.stack(
            [np.quantile(found.lower_replicates, 0.05, axis=0),
             np.quantile(found.upper_replicates, 0.95, axis=0)], axis=1,
        )  # fmt: skip
        bounds = np.stack([found.lower, found.upper], axis=1)
        factor = 1.0
        if labels is not None:
            factor = stats.t(groups - 1).ppf(0.95) / stats.norm.ppf(0.95)
            factor *= math.sqrt(groups / (groups - 1))
        np.testing.assert_allclose(found.interval(0.9), bounds + factor * (ends - bounds))
    assert factor == 1.0


def test_an_interval_never_shrinks_for_its_clusters() -> None:
    """Resamples off centre: an end beyond its own bound stays where it is."""
    off = np.linspace(1.0, 2.0, 101)[:, None]
    found = Bounds(np.ones(1), 0.0, np.zeros(1), np.zeros(1), off, off, dof=4.0)
    plain = Bounds(np.ones(1), 0.0, np.zeros(1), np.zeros(1), off, off)
    assert found.interval()[0, 0] == plain.interval()[0, 0] == pytest.approx(1.025)
    assert found.interval()[0, 1] > plain.interval()[0, 1]


# ------------------------------------------------------------------ omitted variables
def test_omitted_variable_bound_contains_the_sharp_bound_of_the_same_lambda() -> None:
    for seed in range(5):
        space = Space(seed)
        for lam in GRID[1:]:
            strength = ConfounderStrength.of_lambda(lam)
            residual = space.y - space.g
            scale = math.sqrt(space.p @ residual**2 * (space.p @ space.w**2))
            value = float(space.p @ (space.w * space.y))
            assert space.programme(space.w, lam) <= value + scale * strength.factor + 1e-9


# ------------------------------------------------------------------ bad input
@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda w, y, q: hidden_confounder_bounds(w, y, q, q, [0.5]), "at least 1"),
        (lambda w, y, q: hidden_confounder_bounds(-w, y, q, q, [2]), "non-negative"),
        (lambda w, y, q: hidden_confounder_bounds(w, y, q.T, q, [2, 3]), "quantile_lower"),
        (lambda w, y, q: hidden_confounder_bounds(w, y, q, q * np.nan, [2]), "quantile_upper"),
        (lambda w, y, q: hidden_confounder_bounds(w[:3], y, q, q, [2]), "weight must have shape"),
        (lambda w, y, q: hidden_confounder_bounds(w, y, q, q, [2], prediction=y), "plug_in"),
        (lambda w, y, q: logging_probability_bounds(w, y, [2], resamples=np.ones((2, 3))), "(B, 5"),
        (lambda w, y, q: logging_probability_bounds(w, y, [math.inf]), "finite"),
        (lambda w, y, q: resample_multipliers(5, 3, np.random.default_rng(0)), "at least 20"),
        (lambda w, y, q: interpolate_columns([2, 1], q @ [[1, 1]], 1), "increasing"),
        (lambda w, y, q: ConfounderStrength(0.2, 1.0), r"\[0, 1\)"),
        (lambda w, y, q: benchmark_strength(y, y, w), "go together"),
        (lambda w, y, q: breakdown(lambda _: 1.0, step=1.0), "exceed 1"),
        (lambda w, y, q: covariate_strengths(q, y, y, w, fold=np.zeros(5)), "two folds"),
        (lambda w, y, q: omitted_variable_bound(
            y, w, ConfounderStrength(0.1, 0.1), value=1.0, influence=y, draws_variance=-1.0
        ), "draws_variance"),
        (lambda w, y, q: covariate_strengths(y, y, y, w, fold=y), r"\(n, p\)"),
        (lambda w, y, q: covariate_strengths(q, y, 0 * y, w, fold=y), "0 everywhere"),
    ],
    ids=[
        "lambda", "weight", "shape", "nan", "length", "plug_in", "resamples", "infinite",
        "replicates", "knots", "share", "pair", "step", "one fold", "variance", "one column",
        "no residual",
    ],
)  # fmt: skip
def test_bad_input_is_named(call, said: str) -> None:  # type: ignore[no-untyped-def]
    w, y = np.ones(5), np.arange(5.0)
    with pytest.raises(ValueError, match=said.replace("(B", r"\(B")):
        call(w, y, y[:, None])
