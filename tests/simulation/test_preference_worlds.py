"""Preference worlds: laws against enumeration by plain loops, samples against the laws.

Samples have 40,000 pairs in 4 dimensions; tolerances are 5 standard errors of what is compared.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from causal_lm_opt.exceptions import DataError, OverlapError
from causal_lm_opt.simulation import (
    CorrelationShiftWorld,
    LatentPositivityWorld,
    UserObjectiveWorld,
    rated_pairs,
)
from causal_lm_opt.simulation._difference_law import (
    DifferenceLaw,
    comonotone_law,
    independent_law,
    level_differences,
    mixed,
)
from causal_lm_opt.simulation._embedding import EmbeddingMap
from causal_lm_opt.simulation.correlation_shift import two_ratings
from causal_lm_opt.simulation.preference_study import (
    PAPER,
    Fit,
    draw_pairs,
    preference_study,
)
from causal_lm_opt.simulation.preference_tables import (
    contrast_table,
    gap_ratio,
    gap_table,
    summary_table,
)

N = 40_000
RHOS = (-0.5, 0.0, 0.3, 0.6, 0.9, 1.0)
SMALL = LatentPositivityWorld(dimension=4)


def moment_correlation(d: np.ndarray) -> float:
    """About 0: a pair counts in both orders."""
    return float((d[:, 0] * d[:, 1]).sum() / np.sqrt((d**2).sum(axis=0).prod()))


# ------------------------------------------------------------------------------ laws
def test_differences_of_two_uniform_ratings_by_enumeration() -> None:
    values, probs = level_differences(5)
    found: dict[float, float] = {}
    for a, b in itertools.product(range(5), range(5)):
        found[(a - b) / 4] = found.get((a - b) / 4, 0.0) + 1 / 25
    assert dict(zip(values.tolist(), probs.tolist(), strict=True)) == pytest.approx(found)


@pytest.mark.parametrize("rho", RHOS)
def test_a_law_has_its_correlation_and_the_margins_of_every_other(rho: float) -> None:
    law = SMALL.law(rho)
    values, probs = level_differences(5)
    # correlation by a plain loop over cells
    m11 = sum(p * a * b for (a, b), p in zip(law.cells, law.probs, strict=True))
    m20 = sum(p * a * a for (a, _), p in zip(law.cells, law.probs, strict=True))
    assert m11 / m20 == pytest.approx(rho, abs=1e-12)
    assert law.correlation() == pytest.approx(rho, abs=1e-12)
    for k in range(2):
        assert law.marginal(k)[0] == pytest.approx(values)
        assert law.marginal(k)[1] == pytest.approx(probs, abs=1e-12)


def test_every_cell_is_occupied_below_1_and_most_are_not_at_1() -> None:
    base = SMALL.law(0.0)
    for rho in (0.3, 0.9, 0.99):
        assert (SMALL.law(rho).lookup(base.cells) >= (1 - rho) * base.probs - 1e-15).all()
    assert SMALL.law(1.0).probs.size == 9


def test_opposite_signs_correlate_at_minus_four_fifths_with_five_levels() -> None:
    law = SMALL.opposite_law()
    assert (law.cells.prod(axis=1) < 0).all()
    assert law.correlation() == pytest.approx(-0.8, abs=1e-12)
    turned = LatentPositivityWorld(signs=(1, -1), dimension=4)
    assert (turned.opposite_law().cells.prod(axis=1) > 0).all()
    assert turned.law(0.6).correlation() == pytest.approx(-0.6)


def test_three_factors_move_together_by_their_signs() -> None:
    world = CorrelationShiftWorld((0.2, 0.3, 0.5), signs=(1, -1, 1), dimension=4)
    law = world.law(0.7)
    assert [law.correlation(0, 1), law.correlation(1, 2), law.correlation(0, 2)] == pytest.approx(
        [-0.7, -0.7, 0.7]
    )
    with pytest.raises(ValueError, match="at least 0 for more than two factors"):
        world.law(-0.1)


def test_a_mixture_keeps_each_cell_once() -> None:
    values, probs = level_differences(3)
    law = mixed(independent_law(values, probs, 2), comonotone_law(values, probs, (1, 1)), 0.5)
    assert len({tuple(c) for c in law.cells}) == law.probs.size == 25
    assert law.probs.sum() == pytest.approx(1.0)
    with pytest.raises(ValueError, match="sum to 1"):
        DifferenceLaw(np.zeros((2, 2)), np.array([0.5, 0.6]))
    with pytest.raises(ValueError, match="no probability"):
        law.given(np.zeros(law.probs.size, dtype=bool))


def test_ratings_given_their_difference_are_uniform_over_what_is_left() -> None:
    steps = np.repeat(np.array([[0], [2], [-4]]), 20_000, axis=0)
    first, second = two_ratings(steps, 5, np.random.default_rng(0))
    assert np.allclose(first - second, steps / 4)
    for step, levels in ((0, [0, 1, 2, 3, 4]), (2, [0, 1, 2]), (-4, [4])):
        seen, counts = np.unique(4 * second[steps == step], return_counts=True)
        assert seen.tolist() == levels
        assert counts / counts.sum() == pytest.approx(1 / len(levels), abs=0.02)


# ------------------------------------------------------------------------------ truth
def loop_accuracy(world: CorrelationShiftWorld, v: list[float], law: DifferenceLaw) -> float:
    spread = math.sqrt(2) * world.tau * world.z_sd * math.hypot(*v)
    total = 0.0
    for d, p in zip(law.cells, law.probs, strict=True):
        gap = sum(a * x for a, x in zip(world.weights, d, strict=True))
        read = sum(a * x for a, x in zip(v, d, strict=True)) * math.copysign(1.0, gap)
        right = 0.5 * (1 + math.erf(read / spread / math.sqrt(2)))
        total += p * (0.5 if abs(gap) < 1e-9 else right)
    return total


def test_stated_accuracies_are_those_of_plain_loops() -> None:
    for v in ([0.25, 0.75], [0.5, 0.5], [1.0, -0.2]):
        for law in (SMALL.law(0.6), SMALL.opposite_law()):
            assert SMALL.linear_accuracy(v, law) == pytest.approx(loop_accuracy(SMALL, v, law))


def test_the_default_noise_is_near_the_papers_accuracy() -> None:
    known = PAPER["latent-positivity"]
    id_, ood = SMALL.law(0.0), SMALL.opposite_law()
    assert abs(SMALL.linear_accuracy((0.25, 0.75), id_) - known[0.0, "Base", "id"]) < 0.01
    assert abs(SMALL.linear_accuracy((0.25, 0.75), ood) - known[0.0, "Base", "ood"]) < 0.015


def test_limit_weights_are_least_squares_in_a_large_sample() -> None:
    rng = np.random.default_rng(1)
    law = SMALL.law(0.9)
    d = law.cells[law.sample(200_000, rng)]
    seen = d + math.sqrt(2) * SMALL.tau * SMALL.z_sd * rng.normal(size=d.shape)
    fitted = np.linalg.lstsq(seen, SMALL.reward(d), rcond=None)[0]
    assert SMALL.limit_weights(law) == pytest.approx(fitted, abs=0.004)
    # Uncorrelated differences leave the direction right; noiseless ratings leave all of it.
    ratio = SMALL.limit_weights(SMALL.law(0.0))
    assert ratio[1] / ratio[0] == pytest.approx(3.0)
    clear = LatentPositivityWorld(noise=1.0, dimension=4)
    assert clear.limit_weights(law) == pytest.approx([0.25, 0.75])
    assert clear.linear_accuracy((0.25, 0.75), law) == pytest.approx(clear.ceiling(law))


def test_the_large_sample_learner_loses_out_of_distribution_only() -> None:
    id_, ood = [], []
    for rho in (0.0, 0.3, 0.6, 0.9):
        v = SMALL.limit_weights(SMALL.law(rho))
        id_.append(SMALL.linear_accuracy(v, SMALL.law(rho)))
        ood.append(SMALL.linear_accuracy(v, SMALL.opposite_law()))
    assert (np.diff(ood) < -0.02).all()
    assert (np.diff(id_) > 0).all()


# ------------------------------------------------------------------------------ samples
@pytest.mark.parametrize("rho", RHOS)
def test_samples_have_the_correlation_labels_and_margins_of_the_law(rho: float) -> None:
    pairs = SMALL.pairs(N, rho, np.random.default_rng(2))
    d = pairs.differences
    assert moment_correlation(d) == pytest.approx(rho, abs=5 / math.sqrt(N))
    gap = SMALL.reward(d)
    assert (gap[~pairs.tie] > 0).all()
    assert np.abs(gap[pairs.tie]).max() < 1e-9
    share = 2 * (1 - SMALL.ceiling(SMALL.law(rho)))
    assert pairs.tie.mean() == pytest.approx(share, abs=5 * math.sqrt(0.25 / N))
    assert pairs.label[pairs.tie].tolist() == [0.5] * int(pairs.tie.sum())
    z = np.vstack([pairs.z_chosen, pairs.z_rejected])
    for k in range(2):
        counts = np.bincount(np.rint(4 * z[:, k]).astype(int), minlength=5) / (2 * N)
        assert counts == pytest.approx(0.2, abs=0.01)


def test_ties_fall_by_a_fair_coin() -> None:
    tied = LatentPositivityWorld(weights=(1.0, -1.0), dimension=2)
    pairs = tied.pairs(4000, 1.0, np.random.default_rng(3))
    assert pairs.tie.all()
    up = pairs.differences[:, 0]
    assert (up[up != 0] > 0).mean() == pytest.approx(0.5, abs=0.05)


def test_the_embedding_is_fixed_and_shows_what_it_should() -> None:
    rng = np.random.default_rng(4)
    again = LatentPositivityWorld(dimension=4)
    a = SMALL.embed(np.full((5, 2), 0.5), np.random.default_rng(5))
    b = again.embed(np.full((5, 2), 0.5), np.random.default_rng(5))
    other = LatentPositivityWorld(dimension=4, map_seed=1).embed(
        np.full((5, 2), 0.5), np.random.default_rng(5)
    )
    assert (a == b).all()
    assert (a != other).any()
    clear = EmbeddingMap(3, 64, 0.0, 7)
    s = rng.normal(size=(20_000, 3))
    x = clear(s, rng)
    assert x.dtype == np.float32
    assert float(x.var(axis=0).mean()) == pytest.approx(1.0, abs=0.4)
    # blocks of rows give what single rows give
    assert np.allclose(clear(s[:1], rng), x[:1], atol=1e-5)
    basis = np.column_stack([np.ones(len(x)), x])
    left = s - basis @ np.linalg.lstsq(basis, s, rcond=None)[0]
    assert (left.var(axis=0) < 0.1).all()  # latents can be read from it


def test_weights_lead_to_the_target_and_refuse_what_training_never_shows() -> None:
    pairs = SMALL.pairs(N, 0.9, np.random.default_rng(6))
    w = SMALL.stratum_weights(pairs, 0.9)
    d, share = pairs.differences, w / w.sum()
    moment = (share[:, None, None] * d[:, :, None] * d[:, None, :]).sum(axis=0)
    assert moment[0, 1] / moment[0, 0] == pytest.approx(0.0, abs=0.06)
    assert w.mean() == pytest.approx(1.0, abs=0.1)
    assert float(w.max()) == pytest.approx(10.0)
    to_ood = SMALL.stratum_weights(pairs, 0.9, SMALL.opposite_law())
    assert to_ood[d.prod(axis=1) >= 0].max() == 0.0
    with pytest.raises(OverlapError, match=r"never shows cells that hold 86%"):
        SMALL.stratum_weights(SMALL.pairs(10, 1.0, np.random.default_rng(0)), 1.0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"weights": (1.0,)}, "at least two"),
        ({"weights": "ab"}, "list of numbers"),
        ({"levels": 1}, "levels"),
        ({"noise": "loud"}, "not known"),
        ({"noise": 1.5}, r"\(0, 1\]"),
        ({"dimension": 0}, "dimension"),
        ({"signs": (1, 2)}, "1 or -1"),
        ({"embedding_noise": -1.0}, "embedding_noise"),
    ],
)
def test_senseless_worlds_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        CorrelationShiftWorld(**settings)  # type: ignore[arg-type]


def test_senseless_requests_are_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="two factors, got 3"):
        LatentPositivityWorld(weights=(1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match=r"\[-1, 1\]"):
        SMALL.law(1.1)
    odd = DifferenceLaw(np.array([[0.1, 0.2]]), np.ones(1))
    with pytest.raises(ValueError, match="steps of 1/4"):
        SMALL.pairs(5, odd, rng)
    with pytest.raises(ValueError, match="rho must lie"):
        UserObjectiveWorld(dimension=2).pairs(5, 1.2, rng)
    with pytest.raises(ValueError, match="shared"):
        UserObjectiveWorld(shared=0.6)
    with pytest.raises(ValueError, match="entanglement"):
        UserObjectiveWorld(entanglement=1.5)
    with pytest.raises(ValueError, match="entanglement goes with user-objectives"):
        preference_study("latent-positivity", entanglement=0.5)
    with pytest.raises(ValueError, match="nuisance goes with user-objectives"):
        preference_study("latent-positivity", nuisance=64)
    with pytest.raises(ValueError, match="discriminator_learning_rate goes with user-objectives"):
        preference_study("latent-positivity", discriminator_learning_rate=1e-3)
    with pytest.raises(ValueError, match="nuisance"):
        preference_study("user-objectives", nuisance=-1)
    with pytest.raises(ValueError, match="discriminator_learning_rate"):
        preference_study("user-objectives", discriminator_learning_rate=-1.0)


# ------------------------------------------------------------------------------ objectives
@pytest.mark.parametrize("rho", [0.5, 0.8, 1.0])
def test_objectives_label_and_types_only_show(rho: float) -> None:
    world = UserObjectiveWorld(dimension=4)
    pairs = world.pairs(N, rho, np.random.default_rng(7))
    assert pairs.objective is not None
    assert pairs.kind is not None
    assert (pairs.objective == pairs.kind).mean() == pytest.approx(rho, abs=5 * 0.5 / math.sqrt(N))
    assert pairs.kind.mean() == pytest.approx(0.5, abs=0.02)
    gap = world.reward(pairs.z_chosen, pairs.objective) - world.reward(
        pairs.z_rejected, pairs.objective
    )
    assert (gap[~pairs.tie] > 0).all()
    assert pairs.tie.mean() == pytest.approx(1 / 25, abs=0.01)
    # Ratings know nothing of the type: the rating's differences given type and objective
    # depend on the objective alone.
    for c in (0, 1):
        here = pairs.objective == c
        for t in (0, 1):
            at = here & (pairs.kind == t)
            if at.sum() > 2000:
                mean = pairs.differences[at].mean(axis=0)
                everywhere = pairs.differences[here].mean(axis=0)
                assert mean == pytest.approx(everywhere, abs=0.025)


def test_the_type_shows_in_the_embedding_unless_its_strength_is_0() -> None:
    for strength, least, most in ((2.0, 0.9, 1.0), (0.0, 0.4, 0.6)):
        world = UserObjectiveWorld(dimension=64, type_strength=strength)
        pairs = world.pairs(4000, 0.5, np.random.default_rng(8))
        assert pairs.kind is not None
        x = np.column_stack([np.ones(4000), pairs.chosen])
        half = slice(0, 2000), slice(2000, None)
        beta = np.linalg.lstsq(x[half[0]], pairs.kind[half[0]] - 0.5, rcond=None)[0]
        right = ((x[half[1]] @ beta > 0) == pairs.kind[half[1]]).mean()
        assert least <= right <= most


@pytest.mark.parametrize(("entanglement", "low", "high"), [(0.0, 0.9, 1.0), (1.0, -0.2, 0.5)])
def test_entanglement_keeps_what_is_learnt_on_one_type_from_the_other(
    entanglement: float, low: float, high: float
) -> None:
    world = UserObjectiveWorld(
        dimension=64, noise=1.0, embedding_noise=0.1, entanglement=entanglement
    )
    pairs = world.pairs(6000, 0.5, np.random.default_rng(0))
    x, z = np.column_stack([np.ones(6000), pairs.chosen]), pairs.z_chosen[:, 0]
    here = pairs.kind == 0
    learn = here & (np.arange(6000) % 2 == 0)
    beta = np.linalg.lstsq(x[learn], z[learn], rcond=None)[0]
    read = [np.corrcoef(x[at] @ beta, z[at])[0, 1] for at in (here & ~learn, ~here)]
    assert read[0] > 0.93
    assert low <= read[1] <= high


def test_both_tests_are_equally_hard_for_the_objectives_own_reward() -> None:
    world = UserObjectiveWorld(dimension=2)
    assert world.ceiling() == pytest.approx(1 - 1 / 50)
    assert world.objective_accuracy() > world.type_accuracy() > 0.5
    clear = UserObjectiveWorld(noise=1.0, dimension=2)
    assert clear.objective_accuracy() == pytest.approx(clear.ceiling())
    for which, share in (("consistent", 1.0), ("inconsistent", 0.0)):
        pairs = world.test_pairs(500, which, np.random.default_rng(9))  # type: ignore[arg-type]
        assert (pairs.objective == pairs.kind).mean() == share


# ------------------------------------------------------------------------------ real ratings
def table(n: int = 1200, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 2)) @ np.array([[1.0, 0.5], [0.0, 0.8]])
    return pd.DataFrame(
        {"ask": np.arange(n) // 8, "a": np.round(20 * z[:, 0] + 50), "b": 10 * z[:, 1]}
    )


def test_pairs_stay_within_prompts_and_differences_are_the_tables() -> None:
    rows = table()
    pairs = rated_pairs(rows, prompt="ask", factors=["a", "b"])
    assert len(pairs) == 150 * 28
    assert (rows["ask"].to_numpy()[pairs.first] == rows["ask"].to_numpy()[pairs.second]).all()
    z = rows[["a", "b"]].to_numpy() / rows[["a", "b"]].to_numpy().std(axis=0)
    assert pairs.differences == pytest.approx(z[pairs.first] - z[pairs.second])
    assert (pairs.differences[:, 0] >= 0).all()
    both = np.vstack([pairs.differences, -pairs.differences])
    assert pairs.correlation == pytest.approx(np.corrcoef(both.T)[0, 1])
    assert (pairs.opposite().differences.prod(axis=1) < 0).all()


@pytest.mark.parametrize("rho", [-0.2, 0.0, 0.3, 0.6, 0.8])
def test_strata_reach_the_correlation_and_keep_each_factors_differences(rho: float) -> None:
    pairs = rated_pairs(table(), prompt="ask", factors=["a", "b"])
    strata = pairs.at_correlation(rho)
    n = min(strata.largest(), 1000)
    drawn = strata.sample(n, np.random.default_rng(1))
    assert len({*zip(drawn.first, drawn.second, strict=True)}) == n
    assert drawn.correlation == pytest.approx(rho, abs=0.06)
    size = np.abs(pairs.differences).mean(axis=0)
    assert np.abs(drawn.differences).mean(axis=0) == pytest.approx(size, rel=0.1)
    weights = strata.weights_to(pairs.at_correlation(0.0), np.arange(len(pairs)))
    share = strata.shares[strata.stratum] / strata.own[strata.stratum]
    assert np.average(weights, weights=share) == pytest.approx(1.0)


def test_a_pools_own_correlation_needs_no_strata() -> None:
    pairs = rated_pairs(table(), prompt="ask", factors=["a", "b"])
    strata = pairs.at_correlation(pairs.correlation)
    assert strata.shares == pytest.approx(strata.own, abs=1e-6)


def test_what_ratings_cannot_give_is_told() -> None:
    rows = table(80)
    pairs = rated_pairs(rows, prompt="ask", factors=["a", "b"])
    with pytest.raises(ValueError, match=r"cannot be reached .* reach -0\.\d+ to 0\.\d+"):
        pairs.at_correlation(0.999)
    with pytest.raises(ValueError, match=r"too many: .* \d+ can be drawn"):
        pairs.at_correlation(0.0).sample(279, np.random.default_rng(0))
    with pytest.raises(DataError, match="no column 'c'"):
        rated_pairs(rows, prompt="ask", factors=["a", "c"])
    with pytest.raises(DataError, match="two different columns"):
        rated_pairs(rows, prompt="ask", factors=["a", "a"])
    with pytest.raises(DataError, match="'a' is 1 in every row"):
        rated_pairs(rows.assign(a=1.0), prompt="ask", factors=["a", "b"])
    with pytest.raises(DataError, match="'a' never differs between responses"):
        rated_pairs(rows.assign(a=rows["ask"]), prompt="ask", factors=["a", "b"])
    with pytest.raises(DataError, match="0 pairs of responses share a prompt"):
        rated_pairs(rows.assign(ask=range(80)), prompt="ask", factors=["a", "b"])
    with pytest.raises(DataError, match="must hold numbers"):
        rated_pairs(rows.assign(a="high"), prompt="ask", factors=["a", "b"])
    with pytest.raises(DataError, match="1 missing or infinite ratings, the first in row 3"):
        rated_pairs(rows.assign(b=rows["b"].where(rows.index != 3)), prompt="ask",
                    factors=["a", "b"])  # fmt: skip
    with pytest.raises(DataError, match="'ask' has empty cells"):
        rated_pairs(rows.assign(ask=rows["ask"].where(rows.index > 0)), prompt="ask",
                    factors=["a", "b"])  # fmt: skip


def test_real_ratings_reach_the_studys_correlations(data_dir: object) -> None:
    rows = pd.read_csv(f"{data_dir}/webnlg2020_human_ratings.csv.gz")
    pairs = rated_pairs(rows, prompt="triples", factors=["Correctness", "Fluency"])
    assert len(pairs) > 20_000
    for rho in (0.0, 0.3, 0.6, 0.8):
        drawn = pairs.at_correlation(rho).sample(2000, np.random.default_rng(0))
        assert drawn.correlation == pytest.approx(rho, abs=0.06)


# ------------------------------------------------------------------------------ the study
def test_models_of_a_seed_share_their_pairs_and_tests_do_not_depend_on_rho() -> None:
    study = preference_study("latent-positivity", quick=True)
    one, other = (Fit("high", rho, 0, "Base") for rho in (0.0, 0.9))
    weighted = Fit("high", 0.9, 0, "Base, stratum weights")

    def same(a: Fit, b: Fit, part: str) -> bool:
        return bool((draw_pairs(study, a, part).chosen == draw_pairs(study, b, part).chosen).all())

    assert same(other, weighted, "train")
    assert same(one, other, "ood")
    assert not same(one, other, "id")
    assert not same(one, Fit("high", 0.0, 1, "Base"), "ood")


def test_tables_pair_by_seed_and_stand_beside_the_paper() -> None:
    study = preference_study("latent-positivity", quick=True, seeds=3)
    rows = [
        {"noise": "high", "rho": rho, "seed": seed, "model": "Base", "lambda": np.nan,
         "test": test, "accuracy": 0.6 + 0.01 * seed + (0.1 if test == "id" else -0.1 * rho)}
        for rho in (0.0, 0.9) for seed in range(3) for test in ("id", "ood")
    ]  # fmt: skip
    results = pd.DataFrame(rows)
    summary = summary_table(results, study)
    at = summary[(summary["model"] == "Base") & (summary["test"] == "ood")].set_index("rho")
    assert at["accuracy"].tolist() == pytest.approx([0.61, 0.52])
    assert at["paper"].tolist() == pytest.approx([0.645, 0.578])
    half = 4.302653 * 0.01 / math.sqrt(3)
    assert at["high"].to_numpy() - at["accuracy"].to_numpy() == pytest.approx(half)
    gaps = gap_table(results, study).set_index("rho")
    assert gaps["gap"].tolist() == pytest.approx([0.1, 0.19])
    assert gaps["low"].tolist() == pytest.approx([0.1, 0.19])  # the same in every seed
    assert gaps["lost"].tolist() == pytest.approx([0.0, 0.09])
    assert gaps["paper"].tolist() == pytest.approx([0.048, 0.098])
    assert gap_ratio(results, ("id", "ood"), 0.9, 0.0) == pytest.approx((1.9, 1.9, 1.9))
    better = results.assign(model="Base, stratum weights", accuracy=results["accuracy"] + 0.02)
    contrasts = contrast_table(pd.concat([results, better]), study)
    assert contrasts["difference"].tolist() == pytest.approx([0.02] * 4)
    assert set(contrasts["contrast"]) == {"Base, stratum weights less Base"}


def test_nuisance_and_the_adversarys_rate_reach_world_and_settings_alone() -> None:
    plain = preference_study("user-objectives")
    world = plain.world("high")
    assert isinstance(world, UserObjectiveWorld)
    assert world == UserObjectiveWorld()
    assert "discriminator_learning_rate" not in plain.model
    more = preference_study("user-objectives", nuisance=64, discriminator_learning_rate=1e-3)
    wide = more.world("high")
    assert isinstance(wide, UserObjectiveWorld)
    assert (wide.nuisance, wide.prompt_nuisance) == (64, 32)
    assert dict(more.model) == {**plain.model, "discriminator_learning_rate": 1e-3}
    assert more.facts()["nuisance"] == 64


def test_fits_of_the_full_studies() -> None:
    fits = preference_study("user-objectives", seeds=3).fits()
    assert len(fits) == 3 * (6 * 3 + 3)
    assert len({f.name for f in fits}) == len(fits)
    assert [f.seed for f in fits] == sorted(f.seed for f in fits)
    with pytest.raises(ValueError, match="study"):
        preference_study("other")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="noise"):
        preference_study("latent-positivity", noises=("loud",))
