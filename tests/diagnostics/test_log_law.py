"""The smoothed law of a logged row, and the coverage predicted from logs drawn from it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from causal_lm_opt.diagnostics import _log_law, predicted_coverage
from causal_lm_opt.diagnostics._log_law import Atoms, law_of_rows, studentised_errors
from causal_lm_opt.simulation import GaussianDesign

Z = 1.959964


def normal_log(n: int, shift: float, seed: int = 0, m: int = 4000) -> tuple[Any, Any]:
    """Log ratios of N(shift, 1) against N(0, 1) of a log and of the target's draws."""
    rng = np.random.default_rng(seed)
    x, d = rng.normal(size=n), rng.normal(shift, 1.0, m)
    return shift * x - shift**2 / 2, shift * d - shift**2 / 2


def test_pooled_points_hold_both_laws() -> None:
    """E_R[1], E_R[w], E_R[w^2] and E_R[l], of which the log alone shows the third badly."""
    shift = 2.0
    ell, drawn = normal_log(2000, shift)
    law = law_of_rows(ell, np.zeros(2000), drawn)
    mass = np.exp(law.log_mass)
    assert mass.sum() == pytest.approx(1.0)
    assert mass @ np.exp(law.ell) == pytest.approx(1.0, abs=0.05)
    assert mass @ law.ell == pytest.approx(-(shift**2) / 2, abs=0.15)
    log_square = math.log(mass @ np.exp(2 * law.ell))
    assert log_square == pytest.approx(shift**2, abs=1.0)
    assert log_square > math.log(np.mean(np.exp(2 * ell)))


def test_frequencies_and_weights_are_rows_and_draws() -> None:
    ell, drawn = normal_log(200, 0.7, m=300)
    y = np.random.default_rng(1).normal(size=200) + ell
    twice = law_of_rows(np.tile(ell, 2), np.tile(y, 2), np.tile(drawn, 3)).atoms()
    weighted = law_of_rows(
        ell, y, np.append(drawn, 5.0), sample_weight=np.full(200, 2.0),
        target_weight=np.append(np.full(300, 3.0), 0.0),
    ).atoms()  # fmt: skip
    # Weighted draws are worth 1 / sum(share^2) draws: here 300, not 900, which moves mass a little.
    assert twice.probability @ twice.weight == pytest.approx(
        weighted.probability @ weighted.weight, rel=0.15
    )


@pytest.mark.parametrize("normalize", [True, False])
def test_atoms_keep_the_moments(normalize: bool) -> None:
    ell, drawn = normal_log(3000, 1.0)
    rng = np.random.default_rng(2)
    r = 0.5 * ell + np.exp(0.3 * ell) * rng.exponential(1.0, 3000)
    law = law_of_rows(ell, r, drawn)
    atoms = law.atoms(normalize=normalize)
    assert atoms.probability.sum() == pytest.approx(1.0)
    p, product = atoms.probability, atoms.weight * atoms.residual
    noise = float(law.noise_mass @ law.noise**2)
    mass, w = np.exp(law.log_mass), np.exp(law.ell - law.ell.max())
    value = (mass * w) @ law.mean / (mass @ w if normalize else 1.0)
    centred = law.mean - value if normalize else law.mean
    expected = mass @ (w**2 * (centred**2 + law.spread**2 * noise)) - (0 if normalize else value**2)
    scale = math.sqrt(expected)
    assert abs(p @ product) < 0.01 * scale
    assert p @ product**2 == pytest.approx(expected, rel=0.05)


def test_errors_are_those_of_logs_drawn_row_by_row() -> None:
    """The same law, 4,000 logs of 300 rows drawn by hand: quantiles agree."""
    ell, drawn = normal_log(300, 1.0)
    rng = np.random.default_rng(3)
    atoms = law_of_rows(ell, ell + rng.exponential(1.0, 300), drawn).atoms()
    p = atoms.probability / atoms.probability.sum()
    rows = np.searchsorted(np.cumsum(p), rng.random((4000, 300)) * (1 - 1e-12))
    w, r = atoms.weight[rows], atoms.residual[rows]
    mean = (w * r).sum(axis=1) / w.sum(axis=1)
    by_hand = mean * w.sum(axis=1) / np.sqrt((w**2 * (r - mean[:, None]) ** 2).sum(axis=1))
    found = studentised_errors(atoms, 300.0)
    for q in (0.05, 0.25, 0.5, 0.75, 0.95):
        share = np.mean(found < np.quantile(by_hand, q))
        assert abs(share - q) < 4 * math.sqrt(2 * q * (1 - q) / 4000)


def test_few_rows_one_by_one_do_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """50 rows of 1,000 drawn one by one, or all of them."""
    ell, drawn = normal_log(1000, 1.3)
    rng = np.random.default_rng(10)
    atoms = law_of_rows(ell, np.exp(rng.normal(size=1000)) + ell, drawn).atoms()
    few = studentised_errors(atoms, 1000.0, logs=20_000)
    monkeypatch.setattr(_log_law, "TAIL_ROWS", 2000.0)
    every = studentised_errors(atoms, 1000.0, logs=20_000)
    for test in (lambda t: np.abs(t) < Z, lambda t: t < -Z):
        assert np.mean(test(few)) == pytest.approx(np.mean(test(every)), abs=0.012)


def test_exponential_mean_has_its_known_coverage() -> None:
    """Unweighted rows: the t statistic of 50 exponentials, by 40,000 samples of its own."""
    rng = np.random.default_rng(4)
    q = (np.arange(4000) + 0.5) / 4000
    y = -np.log1p(-q)
    atoms = Atoms(np.full(4000, 1 / 4000), np.ones(4000), y - y.mean())
    sample = rng.exponential(1.0, (40_000, 50))
    t = (sample.mean(axis=1) - 1.0) * math.sqrt(50) / sample.std(axis=1)
    found = studentised_errors(atoms, 50.0, logs=40_000)
    for test in (lambda x: np.abs(x) < Z, lambda x: x < -Z):
        assert np.mean(test(found)) == pytest.approx(np.mean(test(t)), abs=0.006)


def test_another_normal_part_heals() -> None:
    ell, drawn = normal_log(300, 1.5)
    atoms = law_of_rows(ell, np.random.default_rng(5).exponential(1.0, 300) + ell, drawn).atoms()
    covers = [
        float(np.mean(np.abs(studentised_errors(atoms, 300.0, extra=extra)) < Z))
        for extra in (0.0, 1.0, 100.0)
    ]
    assert covers[0] < 0.9
    assert covers[0] < covers[1] < covers[2]
    assert covers[2] == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize("far", [30.0, 800.0])
def test_texts_no_log_will_hold_are_part_of_the_value(far: float) -> None:
    """A tenth of the draws far beyond the log, with the trend's value there: nothing covers."""
    ell, drawn = normal_log(1000, 0.5)
    y = 3.0 * ell + np.random.default_rng(6).normal(size=1000)
    w = np.exp(ell)
    r = y - (w @ y) / w.sum()
    gone = np.where(np.arange(4000) % 10 == 0, far, drawn)
    found = predicted_coverage(ell, r, w * r / w.sum(), gone, n_units=1000.0)
    near = predicted_coverage(ell, r, w * r / w.sum(), drawn, n_units=1000.0)
    assert found.coverage < 0.5
    assert found.too_low > 0.5
    assert near.coverage > 0.93


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("far", [1e4, 1e13])
def test_ratios_out_of_all_proportion(far: float, normalize: bool) -> None:
    """Separated samples have odds like these: nothing overflows, nothing is promised."""
    rng = np.random.default_rng(11)
    ell = np.where(np.arange(300) % 3 == 0, far, -far) + rng.normal(size=300)
    y = rng.normal(size=300)
    with np.errstate(all="raise", under="ignore"):
        found = predicted_coverage(
            ell, y, y / 300, rng.normal(far, 1.0, 200), n_units=300.0, normalize=normalize
        )
        beyond = predicted_coverage(
            rng.normal(size=300), y, y / 300, np.full(200, far), n_units=300.0, normalize=normalize
        )
    assert 0.0 <= found.coverage <= 1.0
    assert beyond.coverage < 0.9


def test_an_outlying_ratio_spreads_no_noise_out_of_bounds() -> None:
    rng = np.random.default_rng(12)
    ell = rng.normal(size=2000) - 0.5
    ell[0] = 400.0
    y = np.exp(np.minimum(3.0 * ell, 300.0)) * rng.normal(size=2000)
    with np.errstate(all="raise", under="ignore"):
        law = law_of_rows(ell, y, rng.normal(0.5, 1.0, 500))
    assert np.ptp(np.log(law.spread)) <= 20.0 + 1e-9


@pytest.mark.parametrize("unit", [1e-90, 1e90])
def test_odd_rows_and_units(unit: float) -> None:
    """``-inf`` and ``+inf`` log ratios, constant residuals, units far from 1."""
    ell, drawn = normal_log(400, 0.8)
    y = unit * np.random.default_rng(7).normal(size=400)
    ell[:40], drawn[:40] = -np.inf, np.inf
    found = predicted_coverage(ell, y, np.exp(ell) * y / 400, drawn, n_units=400.0)
    assert 0.9 < found.coverage < 0.97
    assert found.unsupported == pytest.approx(0.01)
    flat = predicted_coverage(ell, np.zeros(400), np.zeros(400), drawn, n_units=400.0)
    assert flat.coverage == 0.95
    again = predicted_coverage(ell, y, np.exp(ell) * y / 400, drawn, n_units=400.0)
    assert again == found


@pytest.mark.parametrize(
    ("outcome", "shift", "n"),
    [
        ("linear", 0.5, 200),
        ("linear", 1.0, 200),
        ("skewed", 0.5, 1000),
        ("skewed", 1.3, 1000),
    ],
)
def test_prediction_from_one_log_is_the_coverage(outcome: Any, shift: float, n: int) -> None:
    """The median prediction of 30 logs against the share of 4,000 intervals that hold the value."""
    design = GaussianDesign(outcome, shift=shift)
    value, rng = design.value(), np.random.default_rng(8)
    told, held = [], []
    for k in range(4000):
        X = rng.normal(size=(n, 3))
        y = design._outcomes(X, np.zeros(n), rng)
        ell = X @ design.mean_target - shift**2 / 2
        w = np.exp(ell)
        r = y - (w @ y) / w.sum()
        c = w * r / w.sum()
        held.append(abs((w @ y) / w.sum() - value) < Z * math.sqrt(c @ c))
        if k < 30:
            drawn = rng.normal(shift, 1.0, 4 * n) * shift - shift**2 / 2
            told.append(predicted_coverage(ell, r, c, drawn, n_units=float(n)).coverage)
    assert np.median(told) == pytest.approx(np.mean(held), abs=0.04)
