"""``evaluate`` gives what the estimators give."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from causal_lm_opt import IPW, DoublyRobust, LoggedData, OutcomeRegression, TargetSample
from causal_lm_opt.estimators._named_models import named_outcome_model

from .conftest import MEANS, TARGETS, TEXTS, Files, Run, make_draws, make_log

ALL = ["Horvitz-Thompson", "Hajek", "outcome regression", "doubly robust"]


def estimates(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "estimates.csv").set_index(["policy", "estimator"])


def facts(folder: Path) -> dict[str, Any]:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    text = (folder / "diagnostics.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text, parse_constant=refuse)
    return found


def test_the_log_alone_gives_the_mean_outcome(files: Files, run: Run) -> None:
    result = run(["evaluate", str(files.log), "--outcome", "y", *files.out()])
    assert result.exit_code == 0, result.output
    table = estimates(files.folder / "out")
    assert list(table.index) == [("logging policy", "sample mean")]
    assert table["value"].iloc[0] == pytest.approx(make_log()["y"].mean(), abs=1e-12)
    assert pd.read_csv(files.folder / "out/contrasts.csv").empty


def test_every_estimator_equals_a_direct_call(files: Files, run: Run) -> None:
    result = run([*files.evaluate, "--draws", str(files.draws), *files.out()])
    assert result.exit_code == 0, result.output
    table = estimates(files.folder / "out")

    log = LoggedData.from_csv(
        files.log, text="text", outcome="y", logp_logging="lp",
        logp_target={name: f"lp_{name}" for name in TARGETS},
    )  # fmt: skip
    draws = {
        str(name): TargetSample(
            part["text"].tolist(), logp_target=part["logp_target"],
            logp_logging=part["logp_logging"],
        )
        for name, part in pd.read_csv(files.draws).groupby("policy")
    }  # fmt: skip
    model = named_outcome_model("tfidf-ridge")
    params = log.fit_params()
    direct = {
        "Horvitz-Thompson": IPW("ht"),
        "Hajek": IPW(),
        "outcome regression": OutcomeRegression(model),
        "doubly robust": DoublyRobust(model),
    }
    for label, estimator in direct.items():
        frame = estimator.fit(log.X, log.outcome, X_target=draws, **params).result_.to_frame()
        ours = table.xs(label, level="estimator").loc[list(TARGETS)]
        for column in ("value", "se", "ci_lower", "ci_upper"):
            np.testing.assert_allclose(ours[column], frame[column], rtol=1e-9, err_msg=label)
        assert ours["verdict"].tolist() == frame["verdict"].tolist()


def test_values_lie_near_the_truth(files: Files, run: Run) -> None:
    run([*files.evaluate, "--draws", str(files.draws), *files.out()])
    table = estimates(files.folder / "out")
    for name, p in TARGETS.items():
        for label in ("Hajek", "doubly robust"):
            row = table.loc[(name, label)]
            assert abs(row["value"] - float(p @ MEANS)) < 3.5 * row["se"]


def test_no_value_is_printed_without_interval_and_verdict(files: Files, run: Run) -> None:
    result = run([*files.evaluate, "--draws", str(files.draws), *files.out()])
    question, table = result.stdout.split("\n\n")[:2]
    assert question.startswith("What would the mean of y have been")
    lines = table.splitlines()
    head = re.split(r"  +", lines[0])
    assert head == ["policy", "estimator", "value", "std err", "95% interval", "verdict"]
    rows = lines[2:]
    assert len(rows) == 1 + 2 * len(ALL)
    for row in rows:
        assert " to " in row
        assert row.endswith(("trustworthy", "caution", "do not use"))
    assert "No diagnostic sees" in result.stdout
    assert str(files.folder / "out") in result.stdout


def test_quiet_prints_nothing(files: Files, run: Run) -> None:
    result = run([*files.evaluate, *files.out(), "--quiet"])
    assert (result.exit_code, result.output) == (0, "")
    assert (files.folder / "out/report.html").is_file()


def test_what_cannot_be_identified_is_left_out_with_a_reason(files: Files, run: Run) -> None:
    result = run([*files.evaluate, *files.out()])
    assert result.exit_code == 0, result.output
    assert "Left out" in result.stdout
    (part,) = facts(files.folder / "out")["parts"]
    assert {x["estimator"] for x in part["left_out"]} == {"outcome regression", "doubly robust"}
    assert all("draws" in x["reason"] for x in part["left_out"])


def test_draws_alone_give_outcome_regression(files: Files, run: Run) -> None:
    log = ["evaluate", str(files.log), "--outcome", "y", "--draws", str(files.draws)]
    result = run([*log, *files.out()])
    assert result.exit_code == 0, result.output
    labels = {label for _, label in estimates(files.folder / "out").index}
    assert labels == {"sample mean", "outcome regression"}


def test_exact_support(files: Files, run: Run) -> None:
    support = ["--draws", str(files.support), "--support"]
    result = run([*files.evaluate, *support, *files.out(), "--estimator", "dr"])
    assert result.exit_code == 0, result.output
    log = make_log()
    fitted = DoublyRobust(named_outcome_model("tfidf-ridge")).fit(
        log["text"].tolist(), log["y"], logp_logging=log["lp"], logp_target=log["lp_warm"],
        X_target=TargetSample(TEXTS, weight=TARGETS["warm"], exact=True),
    )  # fmt: skip
    row = estimates(files.folder / "out").loc[("warm", "doubly robust")]
    assert row["value"] == pytest.approx(fitted.value_, rel=1e-9)
    assert row["se"] == pytest.approx(fitted.se_, rel=1e-9)


def test_draws_of_a_sampling_policy(files: Files, run: Run) -> None:
    draws = make_draws()
    draws["logp_sampling"] = draws["logp_target"]
    draws.to_csv(files.draws, index=False)
    result = run([*files.evaluate, "--draws", str(files.draws), *files.out()])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("model", ["ridge", "linear", "forest"])
def test_features_in_place_of_the_text(files: Files, run: Run, model: str) -> None:
    make_draws().drop(columns="text").to_csv(files.draws, index=False)
    options = ["--draws", str(files.draws), "--feature", "kind", "--feature", "length"]
    chosen = ["--outcome-model", model, "--estimator", "dr", "--cv", "3"]
    result = run([*files.evaluate, *options, *chosen, *files.out()])
    assert result.exit_code == 0, result.output
    if model == "linear":
        log, draws = make_log(), make_draws().query("policy == 'warm'")
        fitted = DoublyRobust(named_outcome_model("linear", features=["kind", "length"]), cv=3).fit(
            log[["kind", "length"]], log["y"], logp_logging=log["lp"],
            logp_target=log["lp_warm"], X_target=draws[["kind", "length"]],
        )  # fmt: skip
        row = estimates(files.folder / "out").loc[("warm", "doubly robust")]
        assert row["value"] == pytest.approx(fitted.value_, rel=1e-6)


def test_text_and_features_together(files: Files, run: Run) -> None:
    options = ["--draws", str(files.draws), "--feature", "length", "--estimator", "dr"]
    result = run([*files.evaluate, *options, *files.out()])
    assert result.exit_code == 0, result.output


def test_logistic_model_of_a_binary_outcome(files: Files, run: Run) -> None:
    log = make_log()
    log["y"] = (log["y"] > 2).astype(int)
    log.to_csv(files.log, index=False)
    options = ["--draws", str(files.draws), "--outcome-model", "logistic"]
    result = run([*files.evaluate, *options, *files.out()])
    assert result.exit_code == 0, result.output
    assert estimates(files.folder / "out")["value"].between(0, 1).all()


def test_clicks_of_impressions(files: Files, run: Run) -> None:
    rng = np.random.default_rng(2)
    impressions = rng.integers(200, 400, len(TEXTS) * 8)
    frame = pd.DataFrame({"text": TEXTS * 8, "lp": np.tile(np.log(LOGGING_EVEN), 8)})
    frame["views"] = impressions
    frame["clicks"] = rng.binomial(impressions, np.tile(MEANS / 10, 8))
    frame["lp_warm"] = np.tile(np.log(TARGETS["warm"]), 8)
    frame.to_csv(files.log, index=False)
    draws = make_draws().query("policy == 'warm'")
    draws.to_csv(files.draws, index=False)
    arguments = ["evaluate", str(files.log), "--clicks", "clicks", "--impressions", "views"]
    arguments += ["--logp-logging", "lp", "--policy", "warm=lp_warm"]
    arguments += ["--draws", str(files.draws), *files.out()]
    result = run(arguments)
    assert result.exit_code == 0, result.output
    table = estimates(files.folder / "out")
    mean = frame["clicks"].sum() / frame["views"].sum()
    assert table.loc[("logging policy", "sample mean"), "value"] == pytest.approx(mean)
    assert table["value"].between(0, 1).all()
    assert "clicks per views" in (files.folder / "out/report.html").read_text(encoding="utf-8")


LOGGING_EVEN = np.full(len(TEXTS), 1 / len(TEXTS))


def test_texts_that_were_shown_to_many_are_told_and_may_be_the_clusters(
    files: Files, run: Run
) -> None:
    """Log-probs of texts that hardly ever repeat by chance; draws are texts of their own."""
    log, draws = make_log(), make_draws()
    for frame in (log, draws):
        names = [c for c in frame if c == "lp" or c.startswith(("lp_", "logp_"))]
        frame[names] -= 12.0
    log.to_csv(files.log, index=False)
    draws.to_csv(files.draws, index=False)
    given = [*files.evaluate, "--draws", str(files.draws)]
    assert run([*given, *files.out()]).exit_code == 0
    table = estimates(files.folder / "out")
    for row in (("logging policy", "sample mean"), ("warm", "Hajek"), ("warm", "doubly robust")):
        assert "equal pairs" in table.loc[row, "reasons"], row
        assert table.loc[row, "verdict"] in ("caution", "do not use")
    done = run([*given, "--group", "text", *files.out("named")])
    assert done.exit_code == 0, done.output
    table = estimates(files.folder / "named")
    assert ("warm", "doubly robust") in table.index
    assert not table["reasons"].fillna("").str.contains("equal pairs").any()


def test_groups_weights_and_subgroups(files: Files, run: Run) -> None:
    log = make_log()
    log["copies"] = np.where(np.arange(len(log)) % 3 == 0, 2, 1)
    log.to_csv(files.log, index=False)
    options = ["--group", "reader", "--weight", "copies", "--by", "town"]
    options += ["--draws", str(files.draws)]
    result = run([*files.evaluate, *options, *files.out()])
    assert result.exit_code == 0, result.output
    table = estimates(files.folder / "out")
    south = log[log["town"] == "south"]
    mean = np.average(south["y"], weights=south["copies"])
    found = table.loc[("logging policy", "sample mean")]
    (row,) = (r for _, r in found.iterrows() if r["subgroup"] == "south")
    assert row["value"] == pytest.approx(mean)
    assert "north" in set(table.loc[("warm", "doubly robust")]["subgroup"])
    # Without the subgroup of every draw, a model's values by subgroup would all be the same.
    assert ("warm", "outcome regression") in table.index
    assert pd.isna(table.loc[("warm", "outcome regression"), "subgroup"])  # of all rows alone
    left_out = facts(files.folder / "out")["parts"][0]["left_out"]
    assert [x["estimator"] for x in left_out] == ["outcome regression"]
    assert "by subgroup" in left_out[0]["reason"]


def test_a_policy_without_draws_is_valued_by_its_weights(files: Files, run: Run) -> None:
    run([*files.evaluate, "--draws", str(files.draws), *files.out("all")])
    make_draws().query("policy == 'warm'").to_csv(files.draws, index=False)
    result = run([*files.evaluate, "--draws", str(files.draws), *files.out()])
    assert result.exit_code == 0, result.output
    assert "warning: the draws hold no rows of policy 'brief'" in result.stderr
    every, table = estimates(files.folder / "all"), estimates(files.folder / "out")
    assert set(every.index) - set(table.index) == {
        ("brief", "outcome regression"),
        ("brief", "doubly robust"),
    }
    numbers = ["value", "se", "ci_lower", "ci_upper"]
    pd.testing.assert_frame_equal(table[numbers], every.loc[table.index, numbers])
    kept = [row for row in table.index if row[0] == "warm"]  # its own draws judge its weights
    assert table.loc[kept, "verdict"].equals(every.loc[kept, "verdict"])
    reasons = {
        name: [
            row["reasons"] for row in facts(files.folder / name)["parts"][0]["estimates"]
            if (row["policy"], row["estimator"]) == ("warm", "Hajek")
        ]
        for name in ("all", "out")
    }  # fmt: skip
    assert reasons["all"] == reasons["out"] != []
    left_out = facts(files.folder / "out")["parts"][0]["left_out"]
    assert {x["estimator"] for x in left_out} == {"outcome regression", "doubly robust"}
    assert all("leaves out policy 'brief'" in x["reason"] for x in left_out)
    options = ["--draws", str(files.draws), "--reference", "brief"]
    assert run([*files.evaluate, *options, *files.out("other")]).exit_code == 0
    contrasts = pd.read_csv(files.folder / "other/contrasts.csv")
    assert set(contrasts["estimator"]) == {"Horvitz-Thompson", "Hajek"}


def test_draws_of_a_policy_not_asked_for_are_not_used(files: Files, run: Run) -> None:
    one = ["evaluate", str(files.log), *files.columns, "--policy", "warm=lp_warm"]
    result = run([*one, "--draws", str(files.draws), *files.out()])
    assert result.exit_code == 0, result.output
    assert "warning: the draws of policy 'brief' are not used" in result.stderr
    assert "brief" not in {name for name, _ in estimates(files.folder / "out").index}


def test_prompts_are_clusters_unless_others_are_named(files: Files, run: Run) -> None:
    log = make_log()
    log["reader"] = "r" + log["reader"].astype(str)
    log.to_csv(files.log, index=False)
    tables = {}
    for name, options in {
        "prompt": ["--prompt", "reader"],
        "group": ["--group", "reader"],
        "both": ["--prompt", "reader", "--group", "town"],
        "neither": [],
    }.items():
        result = run([*files.evaluate, *options, *files.out(name)])
        assert result.exit_code == 0, result.output
        assert ("200 prompts are one cluster" in " ".join(result.stdout.split())) == (
            name == "prompt"
        )
        tables[name] = estimates(files.folder / name)["se"]
    pd.testing.assert_series_equal(tables["prompt"], tables["group"])
    assert (tables["prompt"] != tables["neither"]).all()
    assert (tables["both"] != tables["group"]).all()


ASKED = [f"Why {i}?" for i in range(40)]


def prompted_files(files: Files, **draws: Any) -> list[str]:
    """A log of forty prompts, and draws with these columns; the arguments that evaluate them."""
    make_log().assign(question=np.resize(ASKED, 400)).to_csv(files.log, index=False)
    make_draws().assign(**draws).to_csv(files.draws, index=False)
    return [*files.evaluate, "--prompt", "question", "--draws", str(files.draws)]


NO_PROMPT = (
    "The draws do not say their prompt: right only if they are spread over prompts as the log is; "
    "give the draws file the column 'question'."
)
OTHER_MIX = "The draws' mix of prompts is not the log's ('question'): "
OTHER_PROMPTS = (
    "The draws answer none of the log's prompts ('question'): right only if the policies write for "
    "these as for the log's."
)


@pytest.mark.parametrize(
    ("draws", "options", "reason"),
    [
        ({}, [], NO_PROMPT),
        ({}, ["--group", "reader"], NO_PROMPT),
        ({"reader": np.arange(600)}, ["--group", "reader"], NO_PROMPT),
        ({"group": np.arange(600)}, ["--group", "reader"], NO_PROMPT),
        ({"question": np.resize(ASKED, 600)}, ["--group", "reader"], ""),
        ({"question": np.resize(["Who?"], 600)}, ["--group", "reader"], OTHER_PROMPTS),
        ({"question": np.resize(ASKED[:30], 600)}, ["--group", "reader"], OTHER_MIX),
        ({"question": np.resize(["Who?", "When?"], 600)}, [], OTHER_PROMPTS),
        ({"question": np.resize(ASKED, 600)}, [], ""),
    ],
    ids=[
        "no column",
        "readers are the clusters",
        "draws of readers",
        "draws of groups",
        "readers, as many of each prompt",
        "readers, other prompts",
        "readers, another mix",
        "other prompts",
        "the log's prompts",
    ],
)
def test_draws_that_do_not_say_their_prompt_are_no_better_than_caution(
    files: Files, run: Run, draws: dict[str, Any], options: list[str], reason: str
) -> None:
    result = run([*prompted_files(files, **draws), *options, *files.out()])
    assert result.exit_code == 0, result.output
    table = estimates(files.folder / "out")
    told = dict(table.loc["warm"]["reasons"].fillna(""))
    read = ("outcome regression", "doubly robust")
    assert {e for e, r in told.items() if "prompt" in r} == set(read if reason else ())
    assert all(reason in told[e] for e in read)
    contrasts = pd.read_csv(files.folder / "out/contrasts.csv")
    of_draws = contrasts[contrasts["estimator"].isin(read)]
    assert (set(of_draws["verdict"]) <= {"caution", "do not use"}) == bool(reason)


def test_draws_of_prompts_and_subgroups_that_the_log_lacks_are_told(files: Files, run: Run) -> None:
    asked = np.resize([*ASKED, "Who?"], 600)
    arguments = prompted_files(
        files, question=asked, town=np.resize(["north", "east", "south"], 600)
    )
    options = ["--by", "town", "--estimator", "dr", "--estimator", "or"]
    result = run([*arguments, *options, *files.out()])
    assert result.exit_code == 0, result.output
    for policy in ("warm", "brief"):
        said = [
            x
            for x in result.stderr.splitlines()
            if x.startswith(f"warning: The draws of {policy!r}")
        ]
        assert [x.partition(f" {policy!r} ")[2].split(",")[0] for x in said] == [
            "(--by): 100 of 300 draws are of subgroups that no logged row has ('east'): no "
            "subgroup's value uses them; check the labels.",
            "(--group): 7 of 300 draws are left out",
        ]


def test_one_prompt_is_no_cluster(files: Files, run: Run) -> None:
    make_log().assign(question="Why?").to_csv(files.log, index=False)
    result = run([*files.evaluate, "--prompt", "question", *files.out()])
    assert result.exit_code == 0, result.output
    assert "prompts are no clusters" in result.stdout


def test_semicolons_and_a_column_named_as_its_policy(files: Files, run: Run) -> None:
    run([*files.evaluate, *files.out("comma")])
    for path in (files.log, files.draws):
        pd.read_csv(path).to_csv(path, index=False, sep=";")
    options = ["--delimiter", ";", "--policy", "lp_warm"]
    result = run(["evaluate", str(files.log), *files.columns, *options, *files.out()])
    assert result.exit_code == 0, result.output
    a, b = estimates(files.folder / "comma"), estimates(files.folder / "out")
    assert b.loc[("lp_warm", "Hajek"), "value"] == a.loc[("warm", "Hajek"), "value"]


def test_decimal_commas_give_the_same_values(files: Files, run: Run) -> None:
    run([*files.evaluate, "--draws", str(files.draws), *files.out("point")])
    for path in (files.log, files.draws):
        pd.read_csv(path).to_csv(path, index=False, sep=";", decimal=",")
    assert "," in files.log.read_text(encoding="utf-8")
    marks = ["--delimiter", ";", "--decimal", ","]
    result = run([*files.evaluate, "--draws", str(files.draws), *marks, *files.out()])
    assert result.exit_code == 0, result.output
    a, b = estimates(files.folder / "point"), estimates(files.folder / "out")
    pd.testing.assert_frame_equal(a, b)
    result = run([*files.evaluate, "--delimiter", ";", *files.out("unsaid")])
    assert result.exit_code == 2
    assert "--decimal ," in result.stderr
    result = run([*files.evaluate, "--delimiter", ";", "--decimal", "x", *files.out("unsaid")])
    assert result.exit_code == 2
    assert "decimal must be '.' or ','" in result.stderr


def test_a_log_appended_to_itself_is_told(files: Files, run: Run) -> None:
    log = make_log()
    pd.concat([log, log]).to_csv(files.log, index=False)
    result = run([*files.evaluate, *files.out()])
    assert result.exit_code == 0, result.output
    assert "warning: " in result.stderr
    assert "each of its 800 rows occurs an even number of times" in result.stderr


def test_contrasts_share_rows_with_the_logging_policy(files: Files, run: Run) -> None:
    run([*files.evaluate, *files.out()])
    contrasts = pd.read_csv(files.folder / "out/contrasts.csv")
    log = make_log()
    target = IPW().fit(
        log["text"].tolist(), log["y"], logp_logging=log["lp"], logp_target=log["lp_warm"]
    )
    mean = IPW().fit(log["text"].tolist(), log["y"])
    difference = target.result_ - mean.result_
    row = contrasts.query("policy == 'warm' and estimator == 'Hajek'").iloc[0]
    assert row["reference"] == "logging policy"
    assert row["difference"] == pytest.approx(difference.value)
    assert row["se"] == pytest.approx(difference.se)
    assert row["band_lower"] < row["ci_lower"] < row["ci_upper"] < row["band_upper"]


def test_values_have_bands_that_allow_for_a_choice(files: Files, run: Run) -> None:
    result = run([*files.evaluate, *files.out()])
    log = make_log()
    fitted = IPW().fit(
        log["text"].tolist(), log["y"], logp_logging=log["lp"],
        logp_target={name: log[f"lp_{name}"] for name in TARGETS},
    )  # fmt: skip
    usable = [k for k, v in enumerate(fitted.result_.verdicts) if v.level != "do not use"]
    assert len(usable) > 1
    bands = fitted.result_.select(usable).compare(random_state=0).bands
    table = estimates(files.folder / "out")
    for k, (low, high) in zip(usable, bands, strict=True):
        row = table.loc[(fitted.result_.names[k], "Hajek")]
        assert row["band_lower"] == pytest.approx(low)
        assert row["band_upper"] == pytest.approx(high)
        assert row["band_lower"] < row["ci_lower"]
    assert table.loc[("logging policy", "sample mean"), ["band_lower", "band_upper"]].isna().all()
    said = f"chosen among these {len(usable)} by its value"
    page = (files.folder / "out/report.html").read_text(encoding="utf-8")
    assert all(said in text for text in (" ".join(result.output.split()), page))
    one = run([*files.evaluate[:-2], *files.out("one")])
    assert "allow for the choice" not in one.output


def test_contrasts_with_another_policy(files: Files, run: Run) -> None:
    result = run([*files.evaluate, *files.out(), "--reference", "brief"])
    assert result.exit_code == 0, result.output
    contrasts = pd.read_csv(files.folder / "out/contrasts.csv")
    assert set(contrasts["reference"]) == {"brief"}
    assert set(contrasts["policy"]) == {"warm", "logging policy"}
    table = estimates(files.folder / "out")["value"]
    row = contrasts.query("policy == 'warm' and estimator == 'Hajek'").iloc[0]
    expected = table[("warm", "Hajek")] - table[("brief", "Hajek")]
    assert row["difference"] == pytest.approx(expected)


def test_level_and_seed(files: Files, run: Run) -> None:
    run([*files.evaluate, *files.out("a")])
    run([*files.evaluate, *files.out("b"), "--level", "0.5"])
    a, b = estimates(files.folder / "a"), estimates(files.folder / "b")
    assert set(b["level"]) == {0.5}
    ratio = (b["ci_upper"] - b["ci_lower"]) / (a["ci_upper"] - a["ci_lower"])
    np.testing.assert_allclose(ratio, 0.6744898 / 1.9599640, rtol=1e-6)


def test_rerun_gives_the_same_bytes(files: Files, run: Run) -> None:
    arguments = [*files.evaluate, "--draws", str(files.draws), *files.out()]
    run(arguments)
    first = {p.name: p.read_bytes() for p in (files.folder / "out").iterdir()}
    run([*arguments, "--overwrite"])
    second = {p.name: p.read_bytes() for p in (files.folder / "out").iterdir()}
    assert first["estimates.csv"] == second["estimates.csv"]
    assert first["contrasts.csv"] == second["contrasts.csv"]


@pytest.mark.parametrize("suffix", [".tsv", ".jsonl", ".parquet", ".csv.gz"])
def test_other_formats_give_the_same(files: Files, run: Run, suffix: str) -> None:
    run([*files.evaluate, "--draws", str(files.draws), *files.out("csv")])

    def other(path: Path) -> str:
        frame, to = pd.read_csv(path), path.with_suffix("").with_suffix(suffix)
        if suffix == ".jsonl":
            frame.to_json(to, orient="records", lines=True, double_precision=15)
        elif suffix == ".parquet":
            frame.to_parquet(to)
        else:
            frame.to_csv(to, index=False, sep="\t" if suffix == ".tsv" else ",")
        return str(to)

    arguments = ["evaluate", other(files.log), *files.columns, *files.policies]
    result = run([*arguments, "--draws", other(files.draws), *files.out("other")])
    assert result.exit_code == 0, result.output
    a, b = estimates(files.folder / "csv"), estimates(files.folder / "other")
    pd.testing.assert_frame_equal(a, b, rtol=1e-9)


def test_a_warning_is_said_and_kept(files: Files, run: Run) -> None:
    log = make_log()
    log["y"], log["views"] = 0.25 + 0.5 * (log["y"] > 2), 40
    log.to_csv(files.log, index=False)
    result = run([*files.evaluate, "--weight", "views", *files.out()])
    assert result.exit_code == 0, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("warning: ")
    assert "give counts instead" in line
    assert len(facts(files.folder / "out")["warnings"]) == 1


def test_hopeless_weights_leave_an_estimator_out(files: Files, run: Run) -> None:
    log = make_log()
    log["lp"] = log["lp"] - 1500.0  # exp of the ratio overflows; its own scale cancels in Hajek
    log.to_csv(files.log, index=False)
    result = run([*files.evaluate, *files.out()])
    assert result.exit_code == 0, result.output
    labels = {label for _, label in estimates(files.folder / "out").index}
    assert labels == {"sample mean", "Hajek"}
    left_out = facts(files.folder / "out")["parts"][0]["left_out"]
    assert "overflow" in left_out[-1]["reason"]
    facts(files.folder / "out")  # strict JSON although figures are infinite


def test_provenance(files: Files, run: Run) -> None:
    import hashlib

    run([*files.evaluate, "--draws", str(files.draws), *files.out(), "--seed", "7"])
    found = facts(files.folder / "out")
    assert found["command"] == "evaluate"
    assert found["seed"] == 7
    assert found["arguments"]["policy"] == ["warm=lp_warm", "brief=lp_brief"]
    digest = hashlib.sha256(files.log.read_bytes()).hexdigest()
    assert [i["role"] for i in found["inputs"]] == ["log", "draws"]
    assert found["inputs"][0]["sha256"] == digest
    for row in found["parts"][0]["estimates"]:
        assert row["verdict"] in ("trustworthy", "caution", "do not use")
        assert isinstance(row["reasons"], list)


def test_draws_of_one_policy_need_not_name_it(files: Files, run: Run) -> None:
    drawn = pd.read_csv(files.draws)
    warm = drawn[drawn["policy"] == "warm"]
    found = []
    for name, frame in (("named", warm), ("unnamed", warm.drop(columns="policy"))):
        frame.to_csv(files.draws, index=False)
        done = run([
            "evaluate", str(files.log), "--outcome", "y", "--logp-logging", "lp", "--policy",
            "warm=lp_warm", "--draws", str(files.draws), "--out", str(files.folder / name),
        ])  # fmt: skip
        assert done.exit_code == 0, done.output
        found.append((files.folder / name / "estimates.csv").read_bytes())
    assert found[0] == found[1]
