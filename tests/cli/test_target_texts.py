"""``evaluate --target-texts``: texts of the policies alone, the weights estimated from them."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from causal_lm_opt import IPW, DoublyRobust, _evaluate
from causal_lm_opt._run.options import RATIO_NAMES
from causal_lm_opt._run.without_logp import FOUND, RESTS, TITLE
from causal_lm_opt._views import policy_views
from causal_lm_opt.datasets import hong_kong_policies, load_hong_kong
from causal_lm_opt.estimators import DensityRatio
from causal_lm_opt.estimators._named_models import named_outcome_model
from causal_lm_opt.estimators._named_ratios import (
    RATIOS,
    FeasibleBalance,
    KnownFeatures,
    named_ratio,
)
from causal_lm_opt.estimators.text_pipelines import tfidf_features
from causal_lm_opt.exceptions import OverlapError

from .conftest import MEANS, TARGETS, Files, Run, make_draws, make_log

Refused = Callable[..., str]
TRUTH = {name: float(p @ MEANS) for name, p in TARGETS.items()}
FAST = ["--estimator", "dr", "--ratio", "latent"]


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """A classifier is fitted anew on each."""
    monkeypatch.setattr(_evaluate, "RATIO_RESAMPLES", 20)


@pytest.fixture
def texts(files: Files) -> Path:
    """A log and texts without any log-probabilities."""
    log = make_log().drop(columns=["lp", *(f"lp_{name}" for name in TARGETS)])
    log.to_csv(files.log, index=False)
    path = files.folder / "texts.csv"
    make_draws().drop(columns=["logp_target", "logp_logging"]).to_csv(path, index=False)
    return path


@pytest.fixture
def evaluate(files: Files, texts: Path) -> list[str]:
    log = ["evaluate", str(files.log), "--outcome", "y", "--target-texts", str(texts)]
    return [*log, *files.out()]


def table(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "out/estimates.csv")


def facts(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "out/diagnostics.json").read_text(encoding="utf-8"))
    part: dict[str, Any] = found["parts"][0]
    return part


# ------------------------------------------------------------------------------ values
@pytest.mark.parametrize("ratio", [None, *RATIO_NAMES])
def test_every_ratio_finds_the_known_values(
    files: Files, evaluate: list[str], run: Run, ratio: str | None
) -> None:
    result = run([*evaluate, *([] if ratio is None else ["--ratio", ratio])])
    assert result.exit_code == 0, result.output
    values = table(files.folder).query("policy != 'logging policy'")
    assert sorted(values["estimator"].unique()) == ["Hajek", "doubly robust", "outcome regression"]
    truth = values["policy"].map(TRUTH)
    assert (abs(values["value"] - truth) < 3 * values["se"]).all()
    assert set(values["verdict"]) == {"caution"}  # never better: latent sufficiency is not seen
    part = facts(files.folder)
    assert part["estimated_ratios"]["ratio"] == (ratio or "classifier")
    for found in part["estimated_ratios"]["policies"]:
        assert found["reached"]
        assert found["verdict"] == "caution"
        figures = found["figures"]
        assert 0 < figures["ess"] <= figures["n"] == 400
        assert figures["ratio_mean_weight"] == pytest.approx(1.0, abs=0.15)
        assert figures["readable_smd"] < figures["readable_smd_unweighted"]
        assert found["balance"]
    assert [x["estimator"] for x in part["left_out"]] == ["Horvitz-Thompson"]


def test_the_values_are_those_of_the_estimators(
    files: Files, texts: Path, evaluate: list[str], run: Run
) -> None:
    assert run([*evaluate, "--ratio", "latent"]).exit_code == 0
    log, drawn = make_log(), pd.read_csv(texts)
    by_policy = {n: x["text"].tolist() for n, x in drawn.groupby("policy", sort=False)}
    ratio = named_ratio("latent", [*log["text"], *drawn["text"]], units=300)
    model = named_outcome_model("tfidf-ridge")
    values = table(files.folder).set_index(["policy", "estimator"])
    for est, label in ((IPW(ratio=ratio), "Hajek"), (DoublyRobust(model, ratio=ratio), None)):
        est.fit(log["text"].tolist(), log["y"].to_numpy(), X_target=by_policy)
        for k, name in enumerate(by_policy):
            row = values.loc[(name, label or "doubly robust")]
            assert row["value"] == pytest.approx(est.value_[k], rel=1e-9)
            assert row["se"] == pytest.approx(est.se_[k], rel=1e-9)


def test_features_enter_ratio_and_outcome_model(
    files: Files, evaluate: list[str], run: Run
) -> None:
    result = run([*evaluate, *FAST, "--feature", "kind", "--feature", "length"])
    assert result.exit_code == 0, result.output
    names = {
        row["feature"] for row in facts(files.folder)["estimated_ratios"]["policies"][0]["balance"]
    }
    assert {"kind", "length"} <= names
    alone = [*evaluate, "--estimator", "dr", "--ratio", "balance", "--outcome-model", "linear"]
    result = run([*alone, "--feature", "kind", "--overwrite"])
    assert result.exit_code == 0, result.output
    found = facts(files.folder)["estimated_ratios"]["policies"][0]
    assert found["made_by"] == "entropy balancing of 1 features"
    assert found["figures"]["ratio_max_smd"] == pytest.approx(0.0, abs=1e-6)


def test_groups_cluster_and_subgroups_share_the_ratio(
    files: Files, evaluate: list[str], run: Run
) -> None:
    assert run([*evaluate, *FAST]).exit_code == 0
    plain = table(files.folder)
    result = run([*evaluate, *FAST, "--group", "reader", "--by", "town", "--overwrite"])
    assert result.exit_code == 0, result.output
    clustered = table(files.folder)
    assert facts(files.folder)["counts"]["Clusters"] == 200
    everyone = clustered[clustered["subgroup"].isna()]
    assert everyone["policy"].tolist() == plain["policy"].tolist()
    assert (everyone["se"].to_numpy() != plain["se"].to_numpy()).all()
    of_warm = clustered[clustered["policy"] == "warm"]["subgroup"]
    assert sorted(of_warm.dropna()) == ["north", "south"]


def test_texts_of_bootstrapped_weights_are_shown() -> None:
    """Replicates have no influence function row by row, which the report's texts need."""
    rng = np.random.default_rng(0)
    words, tilted = np.array([f"w{i}" for i in range(12)]), np.arange(1, 13) / 78
    logged, drawn = ([" ".join(row) for row in rng.choice(words, (300, 3), p=p)]
                     for p in (None, tilted))  # fmt: skip
    outcome, few = rng.normal(size=300), np.arange(300) % 10
    fitted = IPW(ratio=DensityRatio(), n_bootstrap=20)
    fitted.fit(logged, outcome, groups=few, X_target={"f": drawn})
    assert [s.role for s in fitted.result_.samples] == ["replicates"]
    (view,) = policy_views(fitted, "Hajek", logged, ["f"])
    assert view.by_influence
    assert all(np.isfinite(text.pull) for text in view.by_influence)


def test_prompts_that_estimated_weights_do_not_read_are_told(
    files: Files, evaluate: list[str], run: Run
) -> None:
    log = pd.read_csv(files.log)
    log["question"] = np.resize([f"Why {k}?" for k in range(40)], len(log))
    log.to_csv(files.log, index=False)
    done = run([*evaluate, *FAST, "--prompt", "question"])
    assert done.exit_code == 0, done.output
    told = table(files.folder)
    read = "Neither the weights nor the outcome model read the prompts ('question')"
    of_policies = told[told["policy"] != "logging policy"]
    assert of_policies["reasons"].str.contains(read, regex=False).all()
    assert (of_policies["verdict"] != "trustworthy").all()


def test_rows_of_one_text_may_be_clusters(files: Files, evaluate: list[str], run: Run) -> None:
    result = run([*evaluate, *FAST, "--group", "text"])
    assert result.exit_code == 0, result.output
    assert facts(files.folder)["counts"]["Clusters"] == 6


# ------------------------------------------------------------------------------ files
def test_a_file_without_policies_is_one_policy(
    files: Files, texts: Path, evaluate: list[str], run: Run
) -> None:
    drawn = pd.read_csv(texts).query("policy == 'warm'")
    path = files.folder / "speeches.2019.csv"
    drawn[["text", "kind"]].to_csv(path, index=False)
    evaluate[evaluate.index(str(texts))] = str(path)
    assert run([*evaluate, *FAST]).exit_code == 0
    first = table(files.folder)
    assert first["policy"].unique().tolist() == ["logging policy", "speeches"]
    # A single column is the texts, whatever its name; log-probabilities beside them are not read.
    drawn[["text"]].rename(columns={"text": "said"}).to_csv(path, index=False)
    assert run([*evaluate, *FAST, "--overwrite"]).exit_code == 0
    assert table(files.folder)["value"].tolist() == first["value"].tolist()
    drawn.assign(logp_target=np.nan)[["text", "logp_target"]].to_csv(path, index=False)
    assert run([*evaluate, *FAST, "--overwrite"]).exit_code == 0
    assert table(files.folder)["value"].tolist() == first["value"].tolist()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--policy", "warm=lp_warm"], "and --policy would give them by log-probabilities"),
        (["--logp-logging", "lp"], "and --logp-logging would"),
        (["--draws", "draws.csv"], "and --draws would"),
        (["--draws", "50", "--support"], "and --draws and --support would"),
        (["--ratio", "clasifier"], "did you mean 'classifier'"),
        (["--estimator", "ht"], "weights are not scaled to average 1"),
        (["--feature", "nope"], "'nope'"),
        (["--outcome-model", "linear"], "needs features"),
    ],
)
def test_options_that_do_not_go_together(
    evaluate: list[str], refused: Refused, options: list[str], said: str
) -> None:
    assert said in refused([*evaluate, *options])


def test_a_ratio_needs_texts(files: Files, refused: Refused) -> None:
    line = refused([*files.evaluate, "--ratio", "latent", *files.out()])
    assert "give --target-texts FILE" in line


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("policy,words\np,a\n", "no column 'text'"),
        ("text\n", "has no data rows"),
        ("text\nonly one\n", "has 1 rows; a density ratio needs at least two"),
        ("text,prob\na,0.5\nb,0.5\n", "name the column 'weight'"),
        ("policy,text\nlogging policy,a\nlogging policy,b\n", "rename that policy"),
    ],
)
def test_bad_files(
    texts: Path, evaluate: list[str], refused: Refused, content: str, said: str
) -> None:
    texts.write_text(content, encoding="utf-8")
    assert said in refused([*evaluate, *FAST])


def test_texts_of_subgroups_are_refused(texts: Path, evaluate: list[str], refused: Refused) -> None:
    drawn = pd.read_csv(texts)
    drawn["age"] = "old"
    drawn.to_csv(texts, index=False)
    log = Path(evaluate[1])
    rows = pd.read_csv(log)
    rows["age"] = np.resize(["old", "young"], len(rows))
    rows.to_csv(log, index=False)
    assert "has the column 'age' of --by" in refused([*evaluate, *FAST, "--by", "age"])


# ------------------------------------------------------------------------------ no overlap
def foreign(m: int = 60) -> pd.DataFrame:
    """Texts that share no word with the log."""
    words = np.array(["rerum", "novarum", "laborem", "exercens", "pacem", "terris"])
    picked = np.random.default_rng(0).choice(words, (m, 4))
    return pd.DataFrame({"policy": "foreign", "text": [" ".join(row) for row in picked]})


@pytest.mark.parametrize("ratio", RATIO_NAMES)
def test_texts_without_overlap_are_not_to_be_used(
    files: Files, texts: Path, evaluate: list[str], run: Run, ratio: str
) -> None:
    foreign().to_csv(texts, index=False)
    result = run([*evaluate, "--ratio", ratio])
    assert result.exit_code == 0, result.output
    assert "Traceback" not in result.output
    values = table(files.folder).query("policy == 'foreign'")
    assert "outcome regression" in set(values["estimator"])
    assert set(values["verdict"]) == {"do not use"}
    contrasts = pd.read_csv(files.folder / "out/contrasts.csv")
    assert set(contrasts["verdict"]) == {"do not use"}
    page = (files.folder / "out/report.html").read_text(encoding="utf-8")
    assert "no usable answer" in page


def unreachable(texts: Path) -> None:
    drawn = pd.read_csv(texts)
    drawn.loc[drawn["policy"] == "brief", "length"] += 1000.0
    drawn.to_csv(texts, index=False)


def test_a_policy_out_of_reach_leaves_the_others_their_values(
    files: Files, texts: Path, evaluate: list[str], run: Run
) -> None:
    unreachable(texts)
    balance = ["--ratio", "balance", "--feature", "length", "--outcome-model", "ridge"]
    result = run([*evaluate, *balance])
    assert result.exit_code == 0, result.output
    values = table(files.folder).set_index(["policy", "estimator"])
    assert values.loc[("warm", "doubly robust"), "verdict"] == "caution"
    assert ("brief", "doubly robust") not in values.index
    row = values.loc[("brief", "outcome regression")]
    assert row["verdict"] == "do not use"
    assert "'length'" in row["reasons"]
    part = facts(files.folder)
    found = {x["policy"]: x for x in part["estimated_ratios"]["policies"]}
    assert found["warm"]["reached"]
    assert not found["brief"]["reached"]
    assert {x["estimator"] for x in part["left_out"]} == {
        "Horvitz-Thompson", "Hajek", "doubly robust",
    }  # fmt: skip
    assert "brief: out of reach. " in (files.folder / "out/report.md").read_text("utf-8")


def test_an_estimator_asked_for_that_reaches_nothing_is_an_error(
    texts: Path, evaluate: list[str], refused: Refused
) -> None:
    pd.read_csv(texts).query("policy == 'brief'").to_csv(texts, index=False)
    unreachable(texts)
    balance = ["--ratio", "balance", "--feature", "length", "--outcome-model", "ridge"]
    line = refused([*evaluate, *balance, "--estimator", "dr"])
    assert "No weights of the logged rows reach the target's mean of the feature 'length'" in line
    assert "log more texts like its own" in line


# ------------------------------------------------------------------------------ the report
def test_the_chapter_says_what_it_rests_on(
    files: Files, texts: Path, evaluate: list[str], run: Run
) -> None:
    pd.read_csv(texts).query("policy == 'warm'").to_csv(texts, index=False)
    assert run([*evaluate, *FAST, "--figures"]).exit_code == 0
    page = (files.folder / "out/report.html").read_text(encoding="utf-8")
    chapter = page[page.index(f"<h2>{TITLE}</h2>") :]
    chapter = chapter[: chapter.index("</section>")]
    assert all(said.split(",")[0].replace("'", "&#x27;") in chapter for said in RESTS)
    assert FOUND in chapter
    assert chapter.count("<svg") == 1  # balance
    assert "no verdict here is better than caution" in chapter
    words = (files.folder / "out/report.md").read_text(encoding="utf-8")
    assert f"## {TITLE}" in words
    assert "it is right if the estimated weights or the outcome model are" in words
    assert "logging probabilities or the outcome model" not in words


def test_with_log_probabilities_there_is_no_such_chapter(files: Files, run: Run) -> None:
    assert run([*files.evaluate, *files.out()]).exit_code == 0
    assert TITLE not in (files.folder / "out/report.html").read_text(encoding="utf-8")
    assert "estimated_ratios" not in facts(files.folder)


# ------------------------------------------------------------------------------ the ratios
def test_the_names_are_those_of_the_help() -> None:
    assert tuple(RATIOS) == RATIO_NAMES
    with pytest.raises(ValueError, match="not known"):
        named_ratio("none", ["a"], units=1)
    with pytest.raises(ValueError, match="neither texts nor features"):
        named_ratio("latent", None, units=1)


def test_known_features_are_made_once() -> None:
    texts = ["good day", "bad day", "good night", "bad night"]
    known = KnownFeatures(tfidf_features(n_components=2), texts)
    assert clone(known) is known
    made = known.fit(texts[:1]).transform(["bad day", "bad day", "good night"])
    assert made[0] == pytest.approx(made[1])
    assert known.transform(["bad luck"]).shape == (1, 2)  # a text it has not seen
    assert all(name.startswith("topic ") for name in known.get_feature_names_out())
    assert pickle.loads(pickle.dumps(known)).transform(texts) == pytest.approx(
        known.transform(texts)
    )


def test_balance_is_exact_where_it_can_be_and_as_near_as_it_can_elsewhere() -> None:
    X = np.array([[0.0], [1.0]] * 50)  # standard deviation 1/2
    for target, reached in ((0.9, "exactly"), (1.02, "within"), (1.2, "")):
        draws = np.array([[target], [target]])
        if not reached:
            with pytest.raises(OverlapError, match=r"imbalance of 0\.2 standard deviations"):
                FeasibleBalance().fit(X, draws)
            continue
        fitted = FeasibleBalance().fit(X, draws)
        mean = float(np.average(X[:, 0], weights=fitted.weights()))
        assert mean == pytest.approx(target, abs=1e-6 if reached == "exactly" else 0.1)
        assert ("within" in fitted.label_) == (reached == "within")
    assert fitted.predict(X) == pytest.approx(fitted.log_ratio_)


# ------------------------------------------------------------------------------ real texts
@pytest.mark.real_data
def test_hong_kong_texts_without_their_design(data_dir: Path, tmp_path: Path, run: Run) -> None:
    """A tilted policy is valued as with its known probabilities; speeches are not to be used."""
    data = load_hong_kong(data_dir)
    policy = hong_kong_policies(data.design)["less_evil"]
    drawn = policy.sample(800, np.random.default_rng(0))
    speeches = pd.read_csv(data_dir / "hong_kong_target_speeches.csv")["text_full"]
    path = tmp_path / "texts.csv"
    pd.concat(
        [
            pd.DataFrame({"policy": "less_evil", "text": drawn}),
            pd.DataFrame({"policy": "speeches", "text": speeches}),
        ]
    ).to_csv(path, index=False)
    log = ["evaluate", str(data_dir / "hong_kong_2019.csv"), "--outcome", "resp"]
    chosen = ["--target-texts", str(path), "--estimator", "dr", "--out", str(tmp_path / "out")]
    result = run([*log, *chosen])
    assert result.exit_code == 0, result.output
    values = table(tmp_path).set_index("policy")
    known = IPW().fit(
        data.texts, data.outcome, logp_logging=data.logp_logging, groups=data.groups,
        logp_target=policy.log_prob(data.texts),
    )  # fmt: skip
    assert abs(values.loc["less_evil", "value"] - known.value_) < known.se_
    assert values.loc["less_evil", "verdict"] == "caution"
    assert values.loc["speeches", "verdict"] == "do not use"
