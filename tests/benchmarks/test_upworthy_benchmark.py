"""The Upworthy benchmark: its pieces against formulas, and whole on a made-up archive."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import headlines
from benchmarks import upworthy as bench
from causal_lm_opt.datasets.upworthy import load_upworthy

WORDS = ("why", "how", "cats", "tax", "secret", "never", "video", "people", "see", "one")
GOOD = {"secret": 0.02, "why": 0.01, "tax": -0.015}


def made_up(tests: int, seed: int, impressions: int = 800) -> pd.DataFrame:
    """Strata of three headlines; words move the click rate, strata differ in level and size."""
    rng = np.random.default_rng(seed)
    rows = []
    for t in range(tests):
        level, size = rng.uniform(0.03, 0.08), impressions * rng.integers(1, 4)
        shown = rng.multinomial(3 * size, [1 / 3] * 3)
        for n in shown:
            words = rng.choice(WORDS, 4, replace=False)
            p = level + sum(GOOD.get(w, 0.0) for w in words)
            rows.append((f"t{t:03d}", "a", t, " ".join(words), 1, 1 / 3, n, p))
    names = ["test", "image", "stratum", "headline", "arms", "probability", "impressions", "p"]
    frame = pd.DataFrame(rows, columns=names)
    return frame.assign(clicks=rng.binomial(frame["impressions"], frame["p"]))


@pytest.fixture(scope="module")
def cells() -> pd.DataFrame:
    return made_up(40, seed=1)


def policies(cells: pd.DataFrame) -> dict[str, np.ndarray]:
    score = np.array([sum(GOOD.get(w, 0.0) for w in h.split()) for h in cells["headline"]])
    best = headlines.best_of(score, cells)
    return {bench.BEST: best, bench.UNIFORM: cells["probability"].to_numpy()}


def stratified(cells: pd.DataFrame, policy: np.ndarray) -> float:
    """Sum over strata of share times rate, by a loop."""
    total, value = cells["impressions"].sum(), 0.0
    for _, part in cells.assign(f=policy).groupby("stratum"):
        rate = part["clicks"] / part["impressions"]
        value += part["impressions"].sum() / total * float((part["f"] * rate).sum())
    return value


# ---------------------------------------------------------------------- pieces
def test_deviations_average_to_zero_within_strata() -> None:
    codes, weight = np.array([7, 7, 3, 3, 3]), np.array([1.0, 3.0, 2.0, 2.0, 4.0])
    found = headlines.within(np.array([4.0, 8.0, 1.0, 2.0, 3.0]), codes, weight)
    np.testing.assert_allclose(found, [-3.0, 1.0, -1.25, -0.25, 0.75])


def test_the_best_is_one_a_stratum_and_the_first_of_equals() -> None:
    frame = pd.DataFrame({"stratum": [5, 5, 2, 2, 2]})
    found = headlines.best_of(np.array([1.0, 2.0, 3.0, 3.0, 0.0]), frame)
    assert found.tolist() == [0.0, 1.0, 1.0, 0.0, 0.0]


def test_thinning_keeps_the_totals_and_is_fair(cells: pd.DataFrame) -> None:
    one, two = headlines.thin(cells, np.random.default_rng(0))
    for name in ("impressions", "clicks"):
        assert (one[name] + two[name]).tolist() == cells[name].tolist()
    assert (one["impressions"] - two["impressions"]).abs().max() <= 1
    # Given the totals, a half's clicks are hypergeometric: mean K/2, variance about K (1 - p) / 4.
    taken = [headlines.thin(cells, np.random.default_rng(r))[0]["clicks"].sum() for r in range(300)]
    spread = math.sqrt(float((cells["clicks"] * (1 - cells["p"])).sum()) / 4)
    assert np.mean(taken) == pytest.approx(cells["clicks"].sum() / 2, abs=4 * spread / 300**0.5)
    assert np.std(taken) == pytest.approx(spread, rel=0.15)


def test_realised_rates_by_a_loop(cells: pd.DataFrame) -> None:
    best = policies(cells)[bench.BEST]
    share = headlines.stratum_share(cells)
    found = headlines.realised(cells, best, share)
    assert found.value == pytest.approx(stratified(cells, best), rel=1e-12)
    chosen = cells[best == 1]
    n, r = chosen["impressions"], chosen["clicks"] / chosen["impressions"]
    omega = share[best == 1]
    assert found.se_readers == pytest.approx(math.sqrt((omega**2 * r * (1 - r) / (n - 1)).sum()))
    part = omega * (r - found.value)
    assert found.se_tests == pytest.approx(math.sqrt((part**2).sum() * 40 / 39))
    few = cells.assign(impressions=1, clicks=0)
    with pytest.raises(ValueError, match="fewer than two impressions"):
        headlines.realised(few, best, share)


def test_with_equal_arms_the_library_gives_the_stratified_mean(cells: pd.DataFrame) -> None:
    size = cells.groupby("stratum")["impressions"].transform("min")
    even = cells.assign(impressions=size, clicks=np.minimum(cells["clicks"], size))
    targets = policies(even)
    q = np.linspace(0.01, 0.1, len(even))
    truth = stratified(even, targets[bench.BEST])
    realised = headlines.realised(even, targets[bench.BEST], headlines.stratum_share(even))
    for name, result in bench.on_same_tests(even, q, targets).items():
        assert result[bench.BEST].value == pytest.approx(truth, rel=1e-9), name
        # Readers as rows: binomial noise, and what strata differ from q by, which is small here.
        assert result[bench.BEST].se == pytest.approx(realised.se_readers, rel=0.03), name
    for name, result in bench.on_other_tests(even, q, targets).items():
        assert result[bench.BEST].value == pytest.approx(truth, rel=1e-9), name
        assert result[bench.BEST].se == pytest.approx(realised.se_tests, rel=0.03), name


@pytest.mark.parametrize("where", ["same", "other"])
def test_intervals_cover_what_is_known(where: str) -> None:
    """30 archives: the interval of these headlines' value, or of tests to come, holds the truth.

    Bands at about 99.9 %: 24 of 30 at least at .95; root mean square z within .6 to 1.43, so that
    neither too small nor too large a standard error passes.
    """
    rng = np.random.default_rng(3)
    base = made_up(40, seed=2, impressions=300)
    known = policies(base)
    # Of tests to come, by a large sample: sizes do not depend on levels, so strata weigh alike.
    many = made_up(1000, seed=9, impressions=300)
    limit = [
        float(headlines.stratum_share(many) @ (f * many["p"])) for f in policies(many).values()
    ]
    z = []
    for r in range(30):
        if where == "same":
            data, targets = base.assign(clicks=rng.binomial(base["impressions"], base["p"])), known
            share = headlines.stratum_share(base)
            truth = [float(share @ (f * base["p"])) for f in known.values()]
            found = bench.on_same_tests(data, np.full(len(data), 0.05), targets)["DR"]
        else:
            data, truth = made_up(40, seed=100 + r, impressions=300), limit
            found = bench.on_other_tests(data, np.full(len(data), 0.05), policies(data))["DR"]
        z.append((np.asarray(found.value) - truth) / np.asarray(found.se))
    assert (np.sum(np.abs(z) < bench.Z, axis=0) >= 24).all()
    rms = np.sqrt(np.mean(np.square(z), axis=0))
    assert ((rms > 0.6) & (rms < 1.43)).all(), rms


# ---------------------------------------------------------------------- whole
@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frame = made_up(60, seed=4, impressions=1500).rename(
        columns={"test": "clickability_test_id", "image": "eyecatcher_id"}
    )
    path = tmp_path_factory.mktemp("archive") / "tests.csv"
    frame.assign(possibly_not_random=False).drop(columns="p").to_csv(path, index=False)
    return path


def test_the_whole_run(archive: Path, tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    argv = ["--data", str(archive), "--json", str(file), "--quick"]
    assert bench.main(argv) == 0
    assert file.with_suffix(".png").stat().st_size > 10_000
    found = json.loads(file.read_text())
    assert found["data"]["tests"] == 60
    assert len(found["splits"]) == 3
    assert all(c["figure"] >= 2 for c in found["claims"])
    assert [c["met"] for c in found["claims"]] == [c["figure"] == 3 for c in found["claims"]]
    by = {(r["analysis"], r["quantity"]): r for r in found["summary"]}
    # The words that matter are found, and the gain is real.
    assert by["DR, same tests", bench.LIFT]["mean_value"] > 0.005
    assert all(s["all_held_out"]["lift_low"] > 0 for s in found["splits"])
    # Mistakes: a standard error far too small, and the winner's curse.
    assert found["se_over_that_of_rates_as_rows"] > 5
    assert by["rates as rows", bench.BEST]["covered"] <= 1
    picked = by["picked on the same readers", bench.BEST]
    assert picked["mean_difference"] > by["DR, same tests", bench.BEST]["mean_difference"] + 0.001
    assert all(r["warned"] for r in found["rows"] if r["analysis"] == "rates as rows")
    cells = load_upworthy(archive).headlines()
    assert bench.one_split(cells, 1, (10.0,))[1] == [r for r in found["rows"] if r["split"] == 1]


def test_one_split_is_refused(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.main(["--data", str(archive), "--splits", "1"])
    assert "--splits must be 2 or more" in capsys.readouterr().err


def test_quick_on_the_real_file(data_dir: Path, tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    data = str(data_dir / "upworthy_headlines.parquet")
    assert bench.main(["--data", data, "--json", str(file), "--quick", "--no-plot"]) == 0
    found = json.loads(file.read_text())
    by = {(r["analysis"], r["quantity"]): r for r in found["summary"]}
    value = by["DR, same tests", bench.BEST]
    assert 0.008 < value["mean_value"] < 0.02
    assert abs(value["mean_difference"]) < 3 * value["mean_half_width"]
    assert by["picked on the same readers", bench.BEST]["mean_difference"] > 0.001
    assert found["se_over_that_of_rates_as_rows"] > 8
