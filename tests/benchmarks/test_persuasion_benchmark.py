"""The persuasion benchmark: pieces by hand, whole on made-up files, the default on real ones."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import Ridge

from benchmarks import persuasion as bench
from benchmarks import persuasion_models as models
from causal_lm_opt.datasets import load_persuasion
from causal_lm_opt.estimators.transport import predict_author

from ..datasets.persuasion_files import write_files  # noqa: TID252 - tests are no package

NAMES = [
    "grand_mean", "tfidf_ridge", "tfidf_ridge_tuned", "author_features", "on_the_issue", "quality",
    "words", "classifier_ipw", "balancing", "dr", "dr_balancing",
]  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> models.Study:
    """A small made-up experiment."""
    return bench.make_study(load_persuasion(write_files(tmp_path_factory.mktemp("p"))), None)


def test_whole_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_files(tmp_path)
    command = [
        "--messages", str(folder / "llm_persuasion_messages.csv"),
        "--outcomes", str(folder / "llm_persuasion_outcomes.csv"), "--bootstrap", "50",
    ]  # fmt: skip
    file = tmp_path / "new folder" / "figures.json"
    assert bench.main([*command, "--json", str(file)]) == 0
    first = json.loads(file.read_text(encoding="utf-8"))
    assert list(first["estimators"]) == NAMES
    assert first["default"] == "author_features"
    for name, row in first["estimators"].items():
        assert {"nc_mse", "rank", "coverage", "interval_score", "verdicts"} <= set(row), name
    default = first["estimators"]["author_features"]
    assert default["verdicts"] == {"caution": 6}
    assert first["estimators"]["grand_mean"]["rank"] is None
    assert set(first["estimators"]["tfidf_ridge"]["compared"]) >= {
        "mse_difference_95", "rank_difference_95", "share_with_lower_mse",
    }  # fmt: skip
    assert "--encoder" in first["left_out"][0]
    assert "author_features (default)" in capsys.readouterr().out


def test_an_issue_without_control_readers_is_named(tmp_path: Path) -> None:
    data = load_persuasion(write_files(tmp_path))
    some = replace(data, control=data.control[data.control["issue"] != "parks"])
    with pytest.raises(ValueError, match="'parks'"):
        bench.make_study(some, None)


def test_effects_and_noise_by_hand(tmp_path: Path) -> None:
    data = load_persuasion(write_files(tmp_path))
    study = bench.make_study(data, None)
    k = study.data.authors.index("large")
    mine = data.readers[data.readers["author"] == "large"]
    effect = mine["outcome"] - mine["issue"].map(data.control.groupby("issue")["outcome"].mean())
    assert study.data.value(k) == pytest.approx(effect.mean())
    within = effect.groupby(mine["message_id"])
    pooled = ((within.var() * (within.size() - 1)).sum()) / (len(mine) - within.ngroups)
    assert bench.own_noise(study, k) == pytest.approx(pooled / len(mine))
    messages = np.bincount(study.reader_of, study.effect) / np.bincount(study.reader_of)
    np.testing.assert_allclose(messages, study.data.outcome)


def test_no_estimator_looks_at_the_authors_readers(study: models.Study) -> None:
    k = 2
    features = models.message_features(study)
    mine = study.data.author == k
    other = replace(
        study,
        data=replace(study.data, outcome=np.where(mine, 99.0, study.data.outcome),
                     variance=np.where(mine, 1e4, study.data.variance)),
        effect=np.where(mine[study.reader_of], 99.0, study.effect),
    )  # fmt: skip
    assert bench.guesses(study, features, k) == bench.guesses(other, features, k)


def test_the_ridge_is_scikit_learns(study: models.Study) -> None:
    data = study.data
    out = data.author == 1
    features = models._topics(study, ~out)
    model = Ridge(models.PENALTY).fit(
        features[~out], data.outcome[~out], sample_weight=data.readers[~out]
    )
    expected = float(data.weight[out] @ model.predict(features[out]))
    assert models.ridges(study, 1)["tfidf_ridge"].value == pytest.approx(expected, rel=1e-9)


def test_figures_by_hand(study: models.Study) -> None:
    data = study.data
    rng = np.random.default_rng(0)
    truth = np.array([data.value(k) for k in range(6)])
    guess = truth + rng.normal(0, 2, 6)
    plain = truth + rng.normal(0, 4, 6)
    found: list[dict[str, models.Guess | None]] = [
        {
            "author_features": models.Guess(float(g), 3.0, "caution"),
            "x": models.Guess(float(p), 3.0),
        }
        for g, p in zip(guess, plain, strict=True)
    ]
    row = bench.figures(study, found, "author_features")
    own = np.array([bench.own_noise(study, k) for k in range(6)])
    assert row["nc_mse"] == pytest.approx(np.mean((guess - truth) ** 2 - own))
    assert row["rank"] == pytest.approx(stats.spearmanr(guess, truth).statistic)
    half = np.array([
        models.half_width(3.0, data.noise(k, data.variance_without(k)), 5, 0.95) for k in range(6)
    ])  # fmt: skip
    miss = np.maximum(np.abs(guess - truth) - half, 0)
    assert row["covered"] == int((miss == 0).sum())
    assert row["interval_score"] == pytest.approx(np.mean(2 * half + 40 * miss))
    pair = bench.compared(study, found, "x", 300)
    assert pair is not None
    gap = np.mean((guess - truth) ** 2) - np.mean((plain - truth) ** 2)
    assert pair["mse_difference"] == pytest.approx(gap)
    low, high = pair["mse_difference_95"]
    assert low < gap < high
    found[0]["x"] = None  # refused: compared, and counted, on the others
    assert bench.figures(study, found, "x")["answered"] == 5
    again = bench.compared(study, found, "x", 300)
    assert again is not None
    assert again["authors"] == 5


@pytest.mark.real_data
@pytest.mark.slow
def test_default_on_real_files(data_dir: Path) -> None:
    # The whole run takes a minute or two; the default's own figures need the tenth of it. The plain
    # ridge has 3.60 and .57 there, the grand mean an interval score of 15.0.
    study = bench.make_study(load_persuasion(data_dir), None)
    found: list[dict[str, models.Guess | None]] = [
        {"author_features": models.from_prediction(
            predict_author(study.data, k, kernels=bench.TEXT_KERNELS))}
        for k in range(25)
    ]  # fmt: skip
    row = bench.figures(study, found, "author_features")
    assert row["nc_mse"] < 1.0
    assert row["rank"] > 0.7
    assert row["covered"] >= 22
    assert row["interval_score"] < 9
