"""Latent positivity against plain loops, worlds with known laws, and controls that must fail."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causal_lm_opt.diagnostics import accuracy_gap, latent_positivity, latent_probes
from causal_lm_opt.simulation import LatentPositivityWorld

WORLD = LatentPositivityWorld(dimension=2)


def differences(rho: float, n: int = 6000, seed: int = 0) -> np.ndarray:
    law = WORLD.law(rho)
    return law.cells[law.sample(n, np.random.default_rng(seed))]


def opposite(n: int = 4000, seed: int = 1) -> np.ndarray:
    law = WORLD.opposite_law()
    return law.cells[law.sample(n, np.random.default_rng(seed))]


def once(d: np.ndarray) -> tuple[float, ...]:
    """A pair in the order in which its first difference that is not 0 is positive."""
    lead = next((x for x in d if x != 0), 0.0)
    return tuple(-x if lead < 0 else x for x in d)


# ------------------------------------------------------------------------------ cells
def test_cells_weights_and_effective_pairs_are_those_of_plain_loops() -> None:
    train, target = differences(0.6, 500), opposite(300)
    found = latent_positivity(train, target)
    p: dict[tuple[float, ...], int] = {}
    q: dict[tuple[float, ...], int] = {}
    for d in train:
        p[once(d)] = p.get(once(d), 0) + 1
    for d in target:
        q[once(d)] = q.get(once(d), 0) + 1
    table = found.table.set_index(["z1", "z2"])
    assert len(table) == len({*p, *q})
    for cell in {*p, *q}:
        row = table.loc[tuple(round(4 * x) for x in cell)]
        assert row["pairs"] == p.get(cell, 0)
        assert row["share"] == pytest.approx(p.get(cell, 0) / 500)
        assert row["target_share"] == pytest.approx(q.get(cell, 0) / 300)
    w = np.array([(q.get(once(d), 0) / 300) / (p[once(d)] / 500) for d in train])
    assert found.ess == pytest.approx(w.sum() ** 2 / (w**2).sum())
    assert found.empty_share == pytest.approx(sum(v for c, v in q.items() if c not in p) / 300)
    assert found.smallest == min(p.get(c, 0) for c in q)
    moment = train.T @ train
    assert found.correlation[0, 1] == pytest.approx(
        moment[0, 1] / math.sqrt(moment[0, 0] * moment[1, 1])
    )


def test_the_effective_sample_is_the_laws_own() -> None:
    base, law = WORLD.law(0.0), WORLD.law(0.6)
    expected = 1 / float((base.probs**2 / law.lookup(base.cells)).sum())
    found = latent_positivity(differences(0.6, 40_000), differences(0.0, 40_000, 2))
    assert found.ess_share == pytest.approx(expected, rel=0.03)


def test_the_default_target_is_every_combination_of_the_margins() -> None:
    train = differences(0.6, 40_000)
    found = latent_positivity(train)
    assert found.target_correlation[0, 1] == pytest.approx(0.0, abs=1e-9)
    half = 1 / float((WORLD.law(0.0).probs ** 2
                      / WORLD.law(0.6).lookup(WORLD.law(0.0).cells)).sum())  # fmt: skip
    assert found.ess_share == pytest.approx(half, rel=0.03)
    assert found.empty_share == 0.0


def test_swapping_the_responses_of_any_pairs_changes_nothing() -> None:
    train, target = differences(0.9, 800), opposite(200)
    turn = np.where(np.random.default_rng(3).random(800) < 0.5, -1.0, 1.0)[:, None]
    a, b = latent_positivity(train, target), latent_positivity(turn * train, -target)
    for name in ("ess", "smallest", "empty_share", "outside_hull"):
        assert getattr(a, name) == pytest.approx(getattr(b, name))
    assert a.correlation == pytest.approx(b.correlation)
    assert a.verdict == b.verdict
    pd.testing.assert_frame_equal(a.table, b.table)


def test_weights_stand_for_repeated_pairs() -> None:
    train = differences(0.3, 300)
    counts = np.random.default_rng(4).integers(1, 4, 300)
    weighted = latent_positivity(train, opposite(), sample_weight=counts)
    repeated = latent_positivity(np.repeat(train, counts, axis=0), opposite())
    assert weighted.table["share"].to_numpy() == pytest.approx(repeated.table["share"].to_numpy())
    assert weighted.correlation == pytest.approx(repeated.correlation)
    assert weighted.table["effective_pairs"].sum() <= 300 + 1e-9
    dealt = latent_positivity(train, opposite(50), target_weight=np.ones(50))
    assert dealt.empty_share == pytest.approx(latent_positivity(train, opposite(50)).empty_share)


@pytest.mark.parametrize(
    ("bins", "cells"), [(1, 5), (2, 13), (None, 25), ([0.6], 13), ((0.3, 0.6, 0.9), 41)]
)
def test_bins(bins: object, cells: int) -> None:
    # (1 + 2b)^2 signed cells, each with its mirror but the one without any difference
    train = np.random.default_rng(5).uniform(-1, 1, (20_000, 2))
    train[:3000, 0] = 0.0
    train[2000:5000, 1] = 0.0
    found = latent_positivity(train, bins=bins)  # type: ignore[arg-type]
    assert len(found.table) == cells


# ------------------------------------------------------------------------------ hull
def test_the_hull_in_two_and_three_dimensions_and_on_a_line() -> None:
    square = np.array(list(itertools.product((-1.0, 1.0), repeat=2)))
    inside = latent_positivity(square, np.array([[0.5, 0.9], [1.0, 1.0], [1.2, 0.0], [0.0, -3.0]]))
    assert inside.outside_hull == pytest.approx(0.5)
    cube = np.array(list(itertools.product((-1.0, 1.0), repeat=3)))
    assert latent_positivity(cube, np.array([[0.9, 0.9, 0.9], [2.0, 0.0, 0.0]])).outside_hull == 0.5
    line = np.array([[1.0, 2.0], [0.5, 1.0], [-0.2, -0.4]])
    target = np.array([[0.9, 1.8], [1.1, 2.2], [0.5, 0.5], [-1.0, -2.0]])
    assert latent_positivity(line, target).outside_hull == pytest.approx(0.5)
    wide = np.random.default_rng(6).choice([-1.0, 1.0], (50, 7))
    assert math.isnan(latent_positivity(wide, wide).outside_hull)


# ------------------------------------------------------------------------------ verdict
def test_the_verdict_falls_with_the_correlation() -> None:
    levels = [latent_positivity(differences(r, 15_000)).verdict.level for r in (0.0, 0.6, 0.95)]
    assert levels == ["trustworthy", "trustworthy", "caution"]
    lost = latent_positivity(differences(1.0, 15_000))
    assert lost.verdict.level == "do not use"
    assert "without one training pair" in lost.verdict.reasons[0]
    assert "outside the hull" in lost.verdict.reasons[1]
    assert "correlate at +1.00" in str(lost.verdict)
    assert "nobody rated" in lost.blind_spots


def test_few_pairs_and_thin_cells_are_told() -> None:
    found = latent_positivity(differences(0.0, 120), opposite(50))
    assert found.verdict.level in ("caution", "do not use")
    thin = latent_positivity(differences(0.9, 15_000), opposite())
    assert any("has" in r and "training pairs" in r for r in thin.verdict.reasons)


def test_figures_are_json_and_names_come_from_a_frame() -> None:
    frame = pd.DataFrame(differences(0.3, 500), columns=["true", "fluent"])
    found = latent_positivity(frame)
    assert found.names == ("true", "fluent")
    assert json.loads(json.dumps(found.to_dict()))["n"] == 500
    assert list(found.table.columns[:2]) == ["true", "fluent"]
    assert str(found).startswith(found.verdict.level)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"dz_train": [["a", "b"]]}, "must be numbers"),
        ({"dz_train": [[1.0, math.nan]]}, "first in row 0"),
        ({"dz_train": np.zeros((0, 2))}, "pairs, factors"),
        ({"dz_train": [[1.0, 0.0]]}, "'z2' never differs"),
        ({"dz_target": np.ones((3, 3))}, "3 factors, dz_train 2"),
        ({"sample_weight": [1.0]}, "sample_weight must be"),
        ({"target_weight": [1.0]}, "goes with dz_target"),
        ({"bins": 0}, "at least 1"),
        ({"bins": [0.5, 0.2]}, "increasing inner edges"),
        ({"names": ["a"]}, "2 different names"),
        ({"dz_train": np.random.default_rng(0).normal(size=(99, 6))}, "more than 10000"),
    ],
)
def test_bad_input_is_one_clear_error(arguments: dict[str, object], said: str) -> None:
    given = {"dz_train": differences(0.3, 50)} | arguments
    with pytest.raises(ValueError, match=said):
        latent_positivity(**given)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------ the gap
def test_the_gap_and_its_interval_are_those_of_two_shares() -> None:
    rng = np.random.default_rng(7)
    a, b = rng.normal(0.8, 1.0, 700), rng.normal(0.1, 1.0, 500)
    found = accuracy_gap(a, b, level=0.9)
    p, q = (a > 0).mean(), (b > 0).mean()
    se = math.sqrt(p * (1 - p) / 699 + q * (1 - q) / 499)
    assert (found.inside, found.outside, found.gap) == pytest.approx((p, q, p - q))
    assert found.high - found.gap == pytest.approx(stats.norm.ppf(0.95) * se)


def test_ties_count_half_and_clusters_widen() -> None:
    found = accuracy_gap([0.0, 1.0], [1.0, 1.0], label_ood=[0.5, 1.0])
    assert (found.inside, found.outside) == (0.75, 0.75)
    m = np.repeat(np.random.default_rng(8).normal(0.5, 1.0, 60), 5)
    one = accuracy_gap(m, m)
    group = np.repeat(np.arange(60), 5)
    many = accuracy_gap(m, m, groups_id=group, groups_ood=group)
    assert many.se == pytest.approx(one.se * math.sqrt(5), rel=0.02)
    for arguments, said in (
        ({"margin_id": [1.0]}, "margin_id"),
        ({"label_id": [2.0, 1.0]}, "label_id"),
        ({"groups_ood": ["a", "a"]}, "two clusters"),
        ({"level": 1.0}, "level"),
    ):
        given = {"margin_id": [1.0, -1.0], "margin_ood": [1.0, -1.0]} | arguments
        with pytest.raises(ValueError, match=said):
            accuracy_gap(**given)


def test_intervals_of_the_gap_cover() -> None:
    # 400 draws: 3 binomial standard errors of .95 are .033
    rng = np.random.default_rng(9)
    truth = stats.norm.cdf(0.6) - stats.norm.cdf(0.1)
    hits = 0
    for _ in range(400):
        g = accuracy_gap(rng.normal(0.6, 1.0, 200), rng.normal(0.1, 1.0, 150))
        hits += g.low <= truth <= g.high
    assert abs(hits / 400 - 0.95) < 0.033


# ------------------------------------------------------------------------------ probes
def latent_of(z: np.ndarray, rng: np.random.Generator, turn: np.ndarray) -> np.ndarray:
    return (z @ turn[: z.shape[1]] + 0.05 * rng.normal(size=(len(z), turn.shape[1]))) * 3.0


def test_probes_tell_what_a_latent_holds_and_what_the_reward_uses() -> None:
    rng = np.random.default_rng(10)
    a, b = rng.normal(size=(2, 3000, 2))
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    za, zb = latent_of(a, rng, turn), latent_of(b, rng, turn)
    head = np.linalg.pinv(turn[:2] * 3.0) @ np.array([0.25, 0.75])
    margin = (za - zb) @ head
    label = ((a - b) @ [0.25, 0.75] > 0).astype(float)
    table = latent_probes(za, zb, a, b, margin=margin, label=label, names=["z1", "z2"])
    rows = table.set_index("factor")
    assert rows.loc["(none removed)", "accuracy"] > 0.95
    assert (rows["r2"].iloc[1:] > 0.98).all()
    # Without z2 the margin is that of z1 alone, and the other way round: the accuracy of the
    # sign of a Gaussian that correlates at c with the reward's is 1/2 + asin(c)/pi.
    size = math.hypot(0.25, 0.75)
    for factor, left in (("z2", 0.25), ("z1", 0.75)):
        expected = 0.5 + math.asin(left / size) / math.pi
        assert rows.loc[factor, "accuracy"] == pytest.approx(expected, abs=0.04)
    assert rows.loc["z2", "margin_share"] == pytest.approx((0.75 / size) ** 2, abs=0.05)


def test_a_factor_is_taken_out_wherever_the_latent_holds_it() -> None:
    # Six copies with noise: no one direction holds all of the factor, one erasure takes it all.
    rng = np.random.default_rng(12)
    a, b = rng.normal(size=(2, 4000, 1))
    za, zb = (z + 1.5 * rng.normal(size=(4000, 6)) for z in (a, b))
    margin = (za - zb).mean(axis=1)
    label = (a[:, 0] > b[:, 0]).astype(float)
    rows = latent_probes(za, zb, a, b, margin=margin, label=label, names=["z"]).set_index("factor")
    assert rows.loc["(none removed)", "accuracy"] > 0.75
    assert rows.loc["z", "accuracy"] == pytest.approx(0.5, abs=0.03)
    # correlated noise: the slopes alone are not where the factor lies
    shared = rng.normal(size=(2, 4000, 1))
    za, zb = (np.hstack([z + s, s + 0.3 * rng.normal(size=s.shape), z])
              for z, s in zip((a, b), shared, strict=True))  # fmt: skip
    table = latent_probes(za, zb, a, b, margin=(za - zb)[:, 0], label=label, names=["z"])
    assert table["accuracy"].iloc[1] == pytest.approx(0.5, abs=0.03)


def test_a_latent_without_a_factor_says_so() -> None:
    rng = np.random.default_rng(11)
    a, b = rng.normal(size=(2, 500, 2))
    table = latent_probes(a[:, :1], b[:, :1], a, b, margin=a[:, 0] - b[:, 0])
    assert table["r2"].iloc[1] > 0.99
    assert abs(table["r2"].iloc[2]) < 0.05
    with pytest.raises(ValueError, match="at least 20 pairs"):
        latent_probes(a[:9], b[:9], a[:9], b[:9], margin=np.zeros(9))
    with pytest.raises(ValueError, match="same shapes"):
        latent_probes(a, b[:9], a, b, margin=np.zeros(500))
    with pytest.raises(ValueError, match="margin and label"):
        latent_probes(a, b, a, b, margin=np.zeros(9))
    with pytest.raises(ValueError, match="table"):
        latent_probes(a[:, 0], b, a, b, margin=np.zeros(500))
