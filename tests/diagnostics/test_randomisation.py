"""Randomisation and allocation checks: exact enumeration, invariances, power, real data.

Sizes are binomial: 400 tests at .05 lie in .05 -+ 3 sqrt(.05 * .95 / 400) = .05 -+ .033.
"""

from __future__ import annotations

import math
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causal_lm_opt.diagnostics import allocation_check, randomisation_check

BAND = 3 * math.sqrt(0.05 * 0.95 / 400)


def test_p_value_is_that_of_all_permutations() -> None:
    rng = np.random.default_rng(0)
    arm = np.array(["a", "a", "b", "b", "b", "c", "c"])
    z = rng.normal(size=(7, 2))

    def largest(z: np.ndarray) -> float:
        best = 0.0
        for level in "abc":
            a = (arm == level) - (arm == level).mean()
            for column in (z - z.mean(axis=0)).T:
                best = max(best, abs(a @ column) / math.sqrt(a**2 @ column**2))
        return best

    observed = largest(z)
    exact = np.mean([largest(z[list(p)]) >= observed - 1e-12 for p in permutations(range(7))])
    found = randomisation_check(arm, z, n_permutations=9999)
    assert found.statistic == pytest.approx(observed)
    assert found.p_value == pytest.approx(exact, abs=4 * math.sqrt(exact / 9999) + 1e-4)


@pytest.mark.parametrize("design", ["rows", "clusters", "readers", "strata"])
def test_size_under_the_null(design: str) -> None:
    """Covariates with clusters, strata and a spread that differs between them."""
    rejected = 0
    for b in range(400):
        rng = np.random.default_rng([7, b])
        n, unit = 120, np.repeat(np.arange(30), 4)
        more: dict[str, np.ndarray] = {}
        arm = rng.integers(0, 3, size=n)
        z = rng.standard_t(3, size=(n, 2))
        if design == "clusters":  # villages given one text; villagers are alike
            arm, z = rng.integers(0, 3, size=30)[unit], z + 2 * rng.normal(size=(30, 2))[unit]
            more = {"codes": unit}
        elif design == "readers":  # readers who saw several alike texts
            arm = np.where(rng.random(n) < 0.8, rng.integers(0, 3, size=30)[unit], arm)
            z, more = rng.normal(size=(30, 2))[unit], {"codes": unit}
        elif design == "strata":  # arms' shares and traits both differ between strata
            block = rng.integers(0, 2, size=n)
            arm, z = np.where(rng.random(n) < 0.2 + 0.6 * block, 1, 0), z + 3 * block[:, None]
            more = {"strata": block}
        found = randomisation_check(arm, z, n_permutations=39, random_state=b, **more)
        rejected += found.p_value <= 0.05
    assert abs(rejected / 400 - 0.05) <= BAND


def test_ignoring_clusters_or_strata_rejects_far_too_often() -> None:
    """The negative controls of the test above."""
    rejected = np.zeros(2)
    for b in range(100):
        rng = np.random.default_rng([8, b])
        unit = np.repeat(np.arange(30), 4)
        village = rng.integers(0, 3, size=30)[unit]
        traits = rng.normal(size=(120, 1)) + 2 * rng.normal(size=(30, 1))[unit]
        block = rng.integers(0, 2, size=120)
        arm = np.where(rng.random(120) < 0.2 + 0.6 * block, 1, 0)
        for j, (a, z) in enumerate([(village, traits), (arm, traits + 3 * block[:, None])]):
            found = randomisation_check(a, z, n_permutations=39, random_state=b)
            rejected[j] += found.p_value <= 0.05
    assert (rejected / 100 > 0.3).all()


def test_power_and_what_is_named() -> None:
    rng = np.random.default_rng(1)
    arm = rng.choice(["a", "b", "c", "d"], size=600)
    frame = pd.DataFrame(
        {
            "age": rng.normal(size=600),
            "party": np.where((arm == "c") & (rng.random(600) < 0.4), "left", "right"),
            "income": np.where(rng.random(600) < 0.1, np.nan, rng.normal(size=600)),
        }
    )
    found = randomisation_check(arm, frame, n_permutations=499)
    assert found.p_value == pytest.approx(1 / 500)
    assert found.table.loc[0, "assignment"] == "c"
    assert str(found.table.loc[0, "covariate"]).startswith("party=")
    assert "does not look random" in found.sentence
    assert "income missing" in set(found.table["covariate"])
    others = found.table.query("not covariate.str.startswith('party')")
    assert others["p_adjusted"].min() > 0.05
    assert (found.table["t"].abs().diff().dropna() <= 0).all()


def test_rows_order_and_units_of_measurement_do_not_matter() -> None:
    rng = np.random.default_rng(2)
    a, z = rng.normal(size=(80, 2)), rng.normal(size=(80, 3))
    order = rng.permutation(80)
    base = randomisation_check(a, z, n_permutations=19)
    assert randomisation_check(a[order], z[order], n_permutations=19).statistic == pytest.approx(
        base.statistic
    )
    moved = randomisation_check(-3 * a + 1, 100 * z - 7, n_permutations=19)
    assert moved.statistic == pytest.approx(base.statistic)
    assert moved.p_value == base.p_value
    again = randomisation_check(a, z, n_permutations=19)
    pd.testing.assert_frame_equal(base.table, again.table)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda a, z: randomisation_check(a, z[:3]), "lengths"),
        (lambda a, z: randomisation_check(["a"] * 6, z), "does not vary"),
        (lambda a, z: randomisation_check(a, z * math.inf), "infinite"),
        (lambda a, z: randomisation_check([1, None, 2, 3, 4, 5], z), "missing"),
        (lambda a, z: randomisation_check(a, z, codes=[0, 0, 0, 1, 1, 1]), "permuted whole"),
        (lambda a, z: randomisation_check(a, z, n_permutations=5), "at least 19"),
        (lambda a, z: allocation_check(a, {"a": 0.5, "b": 0.4}), "sum to 1"),
        (lambda a, z: allocation_check(a, {"a": 0.5, "x": 0.5}), "no probability"),
        (lambda a, z: allocation_check(a, {"a": 0.5, "b": 0.5}, codes=[0] * 6), "several arms"),
        (lambda a, z: allocation_check({"a": 0.5, "b": 1}, {"a": 0.5, "b": 0.5}), "whole numbers"),
    ],
    ids=[
        "length", "constant", "infinite", "missing", "clusters", "permutations", "sum", "arm",
        "cluster", "counts",
    ],
)  # fmt: skip
def test_bad_input_is_named(call, said: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=said):
        call(np.array(list("ababab")), np.arange(1.0, 7.0)[:, None])


# ------------------------------------------------------------------ allocation
def test_large_counts_give_pearsons_chi_square() -> None:
    counts, p = {"a": 55, "b": 70, "c": 75}, {"a": 0.3, "b": 0.3, "c": 0.4}
    found = allocation_check(counts, p)
    truth = stats.chisquare([55, 70, 75], [60, 60, 80])
    assert (found.statistic, found.p_value) == pytest.approx((truth.statistic, truth.pvalue))
    assert found.method == "chi-square"
    labels = np.repeat(list(counts), list(counts.values()))
    assert allocation_check(labels, p).statistic == pytest.approx(found.statistic)
    whole = allocation_check(np.repeat(labels, 3), p, codes=np.repeat(np.arange(200), 3))
    assert whole.statistic == pytest.approx(found.statistic)


def test_exact_p_is_the_binomial_test_and_simulation_agrees() -> None:
    found = allocation_check({"a": 7, "b": 1}, {"a": 0.5, "b": 0.5})
    assert found.method == "exact"
    assert found.p_value == pytest.approx(stats.binomtest(7, 8, 0.5).pvalue)
    p = {str(j): w for j, w in enumerate(np.array([1, 2, 3, 4, 5]) / 15)}
    counts = dict(zip(p, [3, 0, 4, 6, 5], strict=True))
    exact = allocation_check(counts, p)
    assert exact.method == "exact"
    rng = np.random.default_rng(3)
    drawn = rng.multinomial(18, list(p.values()), size=40_000)
    expected = 18 * np.array(list(p.values()))
    chi = ((drawn - expected) ** 2 / expected).sum(axis=1)
    share = float(np.mean(chi >= exact.statistic - 1e-9))
    assert exact.p_value == pytest.approx(share, abs=4 * math.sqrt(share / 40_000))


def test_many_rare_arms_are_simulated() -> None:
    p = {str(j): 1 / 40 for j in range(40)}
    rng = np.random.default_rng(4)
    fair = allocation_check(rng.integers(0, 40, size=100), p)
    assert fair.method == "Monte Carlo"
    assert fair.p_value > 0.01
    crooked = allocation_check(rng.integers(0, 25, size=100), p)
    assert crooked.p_value == pytest.approx(1e-4)
    assert "not those used" in crooked.sentence


def test_an_impossible_arm_refutes_the_design() -> None:
    found = allocation_check({"a": 5, "b": 1}, {"a": 1.0, "b": 0.0})
    assert found.p_value == 0.0
    assert math.isinf(found.statistic)
    assert allocation_check({"a": 5, "b": 0}, {"a": 1.0, "b": 0.0}).p_value == 1.0


@pytest.mark.real_data
def test_persuasion_readers_do_not_predict_the_author(data_dir: Path) -> None:
    """Readers were randomised to messages: party and ideology tell nothing about the author."""
    rows = pd.read_csv(data_dir / "llm_persuasion_outcomes.csv.gz").dropna(subset=["model"])
    traits = {"party": rows["party"].astype(str), "ideology": rows["ideology"]}
    found = randomisation_check(rows["model"], traits, strata=rows["issue"], n_permutations=99)
    assert found.n_units == 14_564
    assert found.p_value > 0.05
    share = 1 / rows["model"].nunique()
    even = allocation_check(rows["model"], dict.fromkeys(rows["model"].unique(), share))
    assert even.p_value < 1e-6  # authors were not given equally often


# ---------------------------------------------------------------- units of measurement
def test_a_covariate_of_large_numbers_hides_no_other() -> None:
    rng = np.random.default_rng(0)
    n = 600
    age = rng.normal(50, 10, n)
    arm = np.where(age + rng.normal(0, 5, n) > 50, "b", "a")
    alone = randomisation_check(arm, {"age": age}, n_permutations=99)
    when = 1.7e18 + 4 * 3.6e12 * np.arange(n)  # nanoseconds since 1970, one row every four hours
    both = randomisation_check(
        arm, {"age": age, "when": when, "rate": 1e-18 * rng.normal(size=n), "site": np.ones(n)},
        n_permutations=99,
    )  # fmt: skip
    assert set(both.table["covariate"]) == {"age", "when", "rate"}
    assert both.statistic == pytest.approx(alone.statistic)
    assert both.constant == ("site",)
    assert "not tested, as constant: site" in both.sentence
    assert "constant" not in alone.sentence
    assert alone.constant == ()


def test_what_is_constant_up_to_rounding_is_constant() -> None:
    rng = np.random.default_rng(1)
    arm, block = rng.choice(["a", "b"], size=300), np.repeat([0, 1, 2], 100)
    level = np.array([0.1, 1e9 / 3, 1 / 7])[block]  # constant within strata
    noise = 1e9 * (1 + 1e-16 * rng.normal(size=300))
    covariates = {"z": rng.normal(size=300), "level": level, "noise": noise}
    found = randomisation_check(arm, covariates, strata=block, n_permutations=19)
    assert found.constant == ("level", "noise")
    shifted = randomisation_check(
        arm, covariates | {"z": covariates["z"] * 1e200}, strata=block, n_permutations=19
    )
    assert shifted.statistic == pytest.approx(found.statistic)
    with pytest.raises(ValueError, match="covariates does not vary"):
        randomisation_check(arm, {"level": level}, strata=block)


def test_a_series_of_counts_is_counts_and_numbers_are_labels_however_written() -> None:
    labels = pd.Series([1, 2, 1, 1])
    stated = {1: 0.5, 2: 0.5}
    counts = allocation_check({"1": 3, "2": 1}, stated).table["count"].tolist()
    for given in (
        labels, labels.astype(float), labels.astype(str), labels.value_counts(),
        labels.to_numpy(float), {1.0: 3, 2: 1}, labels.set_axis(["w", "x", "y", "z"]),
    ):  # fmt: skip
        assert allocation_check(given, stated).table["count"].tolist() == counts == [3, 1]
    with pytest.raises(ValueError, match="could be labels or counts"):
        allocation_check(pd.Series([1, 2], index=[2, 1]), stated)
    with pytest.raises(ValueError, match="counts an arm twice"):
        allocation_check({1: 3, "1": 2, 2: 1}, stated)
    with pytest.raises(ValueError, match="the cluster 7 was given several arms"):
        allocation_check(["1", "2"], stated, codes=np.array([7, 7]))
