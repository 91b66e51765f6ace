"""Overlap figures against their definitions, on rows repeated as often as they count."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from scipy import special, stats

from causal_lm_opt.core.inference import influence_covariance
from causal_lm_opt.core.solve import weighted_moments
from causal_lm_opt.core.weights import relative_weights
from causal_lm_opt.diagnostics.agreement import _as_normal, draws_agreement
from causal_lm_opt.diagnostics.overlap import effective_sample_size, overlap, unit_scale
from causal_lm_opt.diagnostics.verdict import missing_mass, verdict

FloatArray = npt.NDArray[np.float64]


def log_ratios(kind: str, n: int = 400) -> FloatArray:
    rng = np.random.default_rng(7)
    e = rng.standard_normal(n)
    return {
        "spread": 0.5 * e - 0.125,
        "narrow": 1e-3 * e,
        "hair": 1e-7 * e,
        "far": 0.5 * e - 5000.0,
        "impossible": np.where(e > 1.0, -np.inf, 0.5 * e),
        "one": np.where(np.arange(n) == 3, 0.25, -np.inf),
    }[kind]


KINDS = ("spread", "narrow", "hair", "far", "impossible", "one")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frequencies", [False, True])
def test_figures_are_their_definitions(kind: str, frequencies: bool) -> None:
    ell = log_ratios(kind)
    s = np.random.default_rng(8).integers(1, 5, ell.shape[0]).astype(float)
    rows = np.repeat(ell, s.astype(int)) if frequencies else ell
    found = overlap(ell, s if frequencies else None)
    w = np.exp(rows - rows.max())
    n = rows.shape[0]
    inside = rows[np.isfinite(rows)]
    assert found.n == n
    assert found.ess == pytest.approx(w.sum() ** 2 / (w @ w), rel=1e-12)
    assert found.largest_share == pytest.approx(1.0 / w.sum(), rel=1e-12)
    assert found.sd_log_ratio == pytest.approx(inside.std(), rel=1e-9, abs=1e-12)
    assert found.zero_share == pytest.approx(1.0 - inside.size / n, abs=1e-15)
    assert found.mean_weight == pytest.approx(math.exp(rows.max()) * w.mean(), rel=1e-10)
    if kind in ("spread", "impossible"):
        raw = np.exp(rows)
        z = (raw.mean() - 1.0) / (raw.std(ddof=1) / math.sqrt(n))
        assert found.mean_weight_z == pytest.approx(z, rel=1e-9)


@pytest.mark.parametrize("kind", ["spread", "narrow", "hair", "impossible"])
@pytest.mark.parametrize("frequencies", [False, True])
def test_z_of_the_mean_weight_uses_the_one_variance_formula(kind: str, frequencies: bool) -> None:
    """A difference of moments would lose the digits of nearly equal weights."""
    ell = log_ratios(kind)
    s = np.random.default_rng(9).integers(1, 5, ell.shape[0]).astype(float) if frequencies else None
    w = np.exp(ell)
    mean = float(np.average(w, weights=s))
    se = math.sqrt(float(influence_covariance(w - mean, s)))
    rel = 1e-11 if kind in ("spread", "impossible") else 1e-6  # the numerator cancels in the others
    assert overlap(ell, s).mean_weight_z == pytest.approx((mean - 1.0) / se, rel=rel)


def test_each_row_a_cluster_is_no_clustering() -> None:
    ell = log_ratios("spread")
    codes = np.arange(ell.shape[0])
    clustered = overlap(ell, codes=codes, n_clusters=codes.size)
    assert clustered.mean_weight_z == pytest.approx(overlap(ell).mean_weight_z, rel=1e-12)


@pytest.mark.parametrize("frequencies", [False, True])
def test_weights_and_moments_at_hand_change_nothing(frequencies: bool) -> None:
    ell = log_ratios("impossible")
    s = np.random.default_rng(8).integers(1, 5, ell.shape[0]).astype(float) if frequencies else None
    for normalize in (False, True):
        weight = relative_weights(ell, normalize=normalize)
        mean, square = map(float, weighted_moments(weight, s))
        given = overlap(ell, s, weight=weight, moments=(mean, square)).to_dict()
        expected = overlap(ell, s).to_dict()
        assert {k for k, v in expected.items() if v is None} == {"unseen_mass", "clusters"}
        for name, figure in expected.items():
            assert given[name] == (figure if figure is None else pytest.approx(figure, rel=1e-11))


def test_equal_weights_have_no_z() -> None:
    assert overlap(np.zeros(10)).mean_weight_z == 0.0
    assert overlap(np.full(10, 1.0)).mean_weight_z == math.inf
    assert overlap(np.full(10, -1.0)).mean_weight_z == -math.inf


def test_one_row_has_no_z() -> None:
    assert math.isnan(overlap(np.zeros(1)).mean_weight_z)
    assert math.isnan(overlap(np.zeros(2), np.array([0.5, 0.5])).mean_weight_z)


def test_no_row_of_positive_probability() -> None:
    found = overlap(np.full(4, -np.inf))
    assert found.zero_share == 1.0
    assert found.ess == 0.0
    assert math.isnan(found.sd_log_ratio)
    assert math.isnan(found.largest_share)
    assert math.isnan(found.mean_weight_z)
    assert found.to_dict()["sd_log_ratio"] is None


def test_effective_sample_size_of_columns_is_that_of_each() -> None:
    rng = np.random.default_rng(10)
    w, s = np.exp(rng.standard_normal((30, 3))), rng.integers(1, 5, 30).astype(float)
    for frequency in (None, s):
        each = [float(effective_sample_size(w[:, k], frequency)) for k in range(3)]
        np.testing.assert_allclose(effective_sample_size(w, frequency), each, rtol=1e-13)
    assert float(effective_sample_size(np.zeros(3))) == 0.0


# ------------------------------------------------------------------------------ the bridge test
@pytest.mark.parametrize(
    ("t", "dof", "log_tail"),
    [
        (38.0, 199, -213.54492047953582),  # below, of mpmath's betainc with 60 digits
        (100.0, 2000, -1796.38792308711),
        (1e4, 199, -1309.7409481968),
        (60.0, 9999, -1542.26193761742),
        (1e8, 9999, -138147.314128217),
    ],
)
def test_far_contradictions_have_a_finite_z(t: float, dof: float, log_tail: float) -> None:
    """z has the normal tail that t has under Student's t, where both underflow as well."""
    for sign in (1.0, -1.0):
        z = _as_normal(sign * t, dof)
        assert np.sign(z) == sign
        assert special.log_ndtr(-abs(z)) == pytest.approx(log_tail, rel=1e-11)


def test_the_tail_is_of_one_piece() -> None:
    """Where the formula takes over (log tail -600) it agrees with scipy's, and falls on."""
    t = np.linspace(35.0, 45.0, 400)
    z = np.array([_as_normal(x, 1500.0) for x in t])
    steps = np.diff(z)
    assert stats.t.logsf(t[0], 1500) > -600 > stats.t.logsf(t[-1], 1500)
    assert (steps > 0).all()
    assert np.abs(np.diff(steps)).max() < 1e-5


def test_swapped_columns_are_told_with_a_number() -> None:
    rng = np.random.default_rng(0)
    x, draws = rng.normal(size=2000), rng.normal(2.0, 1.0, 2000)
    z = draws_agreement(2.0 - 2.0 * x, 2.0 - 2.0 * draws)  # log P_R - log P_f
    assert np.isfinite(z)
    assert abs(z) > 38  # where the normal tail itself underflows


@pytest.mark.parametrize(("unwritten", "level"), [(0.5, "do not use"), (0.04, "caution")])
def test_weights_below_one_bound_what_the_logger_cannot_write(unwritten: float, level: str) -> None:
    """Logger uniform on texts 0 to 3; of the target a share is text 4, the rest favours text 0."""
    share = (1 - unwritten) * np.array([0.4, 0.3, 0.2, 0.1])
    draws = np.random.default_rng(3).integers(0, 4, 20_000)
    figures = overlap(np.log(share[draws] / 0.25))
    bound = missing_mass(figures.mean_weight, figures.mean_weight_z)
    assert unwritten - 0.04 < bound < unwritten
    found = verdict(figures)
    assert found.level == level
    assert f"({bound:.0%} of its own or more" in " ".join(found.reasons)


def test_a_bound_that_rounds_to_nothing_is_not_told() -> None:
    figures = replace(overlap(np.zeros(2000)), mean_weight=0.98, mean_weight_z=-3.4, pareto_k=0.1)
    said = " ".join(verdict(figures).reasons)
    assert "cannot (if log-probs are right)" in said
    assert "of its own" not in said


@pytest.mark.parametrize(
    ("factor", "said"),
    [
        (1 / np.log(10), "base 10 (multiply by 2.3026)"),
        (1 / np.log(2), "base 2 (multiply by 0.6931)"),
        (1 / 12, "means per token"),
        (1.0, ""),
    ],
)
def test_logarithms_to_another_base_are_named(factor: float, said: str) -> None:
    rng = np.random.default_rng(3)
    told = []
    for _ in range(20):
        ell = factor * (0.8 * rng.normal(size=4000) - 0.32)  # of N(.8, 1) against N(0, 1)
        assert unit_scale(ell) * factor == pytest.approx(1.0, abs=0.2)
        reasons = str(verdict(overlap(ell)))
        told.append(said in reasons if said else "Log ratios times" not in reasons)
    assert np.mean(told) >= 0.9


def test_no_scale_makes_weights_below_one_average_one() -> None:
    assert np.isnan(unit_scale(np.log([0.5, 0.9, 0.2])))
    assert np.isnan(unit_scale(np.array([0.1, 0.2])))  # above 1 at every scale
    half = np.array([-np.inf, np.log(2.0)])
    assert unit_scale(half, np.array([1.0, 1.0])) == pytest.approx(1.0)
