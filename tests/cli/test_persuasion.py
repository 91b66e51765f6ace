"""The persuasion experiment, from the command to the files."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causal_lm_opt import IPW, DoublyRobust
from causal_lm_opt._run.persuasion import centred_outcome, persuasion_study
from causal_lm_opt._run.transport import Transport, author_transport, reachable_rank, score
from causal_lm_opt.datasets import load_persuasion

from ..datasets.persuasion_files import MODELS, write_files  # noqa: TID252 - tests are no package
from .conftest import Run


def tables(folder: Path) -> dict[str, pd.DataFrame]:
    found = json.loads((folder / "diagnostics.json").read_text(encoding="utf-8"))
    return {t["title"]: pd.DataFrame(t["rows"]) for t in found["tables"]}


def test_command(tmp_path: Path, run: Run) -> None:
    folder = write_files(tmp_path)
    result = run(["persuasion", "--messages", str(folder), "--out", str(tmp_path / "o")])
    assert result.exit_code == 0, result.output
    data = load_persuasion(folder)
    values = pd.read_csv(tmp_path / "o/estimates.csv").set_index("policy")
    assert values["estimator"].tolist() == ["sample mean", *["Hajek"] * 6]
    for author in data.authors:
        assert values.loc[author, "value"] == pytest.approx(data.direct(author).value, rel=1e-10)
    assert values.loc["logging policy", "value"] == pytest.approx(data.outcome.mean())
    assert values["value"].iloc[1:].is_monotonic_decreasing
    contrasts = pd.read_csv(tmp_path / "o/contrasts.csv").set_index("policy")
    gap = values["value"] - values.loc["logging policy", "value"]
    assert contrasts["difference"].to_dict() == pytest.approx(gap[contrasts.index].to_dict())

    shown = tables(tmp_path / "o")
    direct = shown["Direct means"].set_index("author")
    assert direct.loc["human", "se by message"] == "n/a"
    assert direct.loc["human", "minus human"] == "n/a"
    gain = data.direct("small").value - data.direct_control().value
    assert direct.loc["small", "minus control"] == pytest.approx(gain, abs=0.01)
    off = shown["Off-policy test: each author from the other authors' readers"]
    assert off["author"].tolist() == list(values.index[1:])
    page = (tmp_path / "o/report.html").read_text(encoding="utf-8")
    assert "messages as they stand: what readers would have said" in page


def test_both_files_named_and_no_control(tmp_path: Path, run: Run) -> None:
    folder = write_files(tmp_path, packed=True)
    outcomes = folder / "llm_persuasion_outcomes.csv.gz"
    frame = pd.read_csv(outcomes, keep_default_na=False)
    # No control group, and so few authors that none can be predicted from the others.
    keep = frame["model"].isin(["Small", "Large", "human"])
    frame[keep].to_csv(folder / "answers.csv", index=False)
    result = run([
        "persuasion", "--messages", str(folder / "llm_persuasion_messages.csv.gz"),
        "--outcomes", str(folder / "answers.csv"), "--out", str(tmp_path / "o"), "--quiet",
    ])  # fmt: skip
    assert (result.exit_code, result.output) == (0, "")
    shown = tables(tmp_path / "o")
    assert list(shown) == ["Direct means", "Was the allocation random?"]
    assert "minus control" not in shown["Direct means"].columns
    found = json.loads((tmp_path / "o/diagnostics.json").read_text(encoding="utf-8"))
    assert any("messages that nobody read" in note for note in found["notes"])


def test_bad_files_are_one_line(tmp_path: Path, refused: Callable[..., str]) -> None:
    line = refused(["persuasion", "--messages", str(tmp_path / "none.csv")])
    assert "none.csv" in line
    folder = write_files(tmp_path)
    messages = folder / "llm_persuasion_messages.csv"
    messages.write_text(messages.read_text().replace("model", "author", 1))
    out = ["--out", str(tmp_path / "o")]
    line = refused(["persuasion", "--messages", str(folder), *out])
    assert "['model'] are missing" in line
    assert "--messages" in refused(["persuasion", *out])
    assert not (tmp_path / "o").exists()


def test_authors_on_some_issues_only(tmp_path: Path, refused: Callable[..., str]) -> None:
    folder = write_files(tmp_path)
    path = folder / "llm_persuasion_outcomes.csv"
    frame = pd.read_csv(path, keep_default_na=False)
    home = {"tolls": ["Small"], "parks": ["Middle"], "schools": ["Large"]}
    keep = [m in home[i] for m, i in zip(frame["model"], frame["issue"], strict=True)]
    frame[keep].to_csv(path, index=False)
    line = refused(["persuasion", "--messages", str(folder), "--out", str(tmp_path / "o")])
    assert "no author has a message on every issue" in line


# ---------------------------------------------------------------------- the arithmetic


def test_estimators_left_out_would_say_the_same(tmp_path: Path) -> None:
    """With counts as probabilities, Horvitz-Thompson and DR are Hajek whatever the model says."""
    data = load_persuasion(write_files(tmp_path))
    study = persuasion_study(data)
    given = dict(study.fit_params)
    hajek = IPW().fit(study.X, study.outcome, **given)
    plain = IPW("ht").fit(study.X, study.outcome, **given)
    robust = DoublyRobust(study.model).fit(
        study.X, study.outcome, groups=data.groups, X_target=study.targets, **given
    )
    assert plain.value_ == pytest.approx(hajek.value_, rel=1e-12)
    assert robust.value_ == pytest.approx(hajek.value_, rel=1e-12)


def test_centring_changes_errors_but_no_value(tmp_path: Path) -> None:
    data = load_persuasion(write_files(tmp_path))
    study = persuasion_study(data)
    assert centred_outcome(data).mean() == pytest.approx(data.outcome.mean())
    raw = IPW().fit(study.X, data.outcome, **study.fit_params)
    centred = IPW().fit(study.X, study.outcome, **study.fit_params)
    assert centred.value_ == pytest.approx(raw.value_, rel=1e-12)
    assert (np.asarray(centred.se_) < np.asarray(raw.se_)).all()
    # Rows as the sample: about the readers' own standard error, plus what messages differ by.
    texts = np.array([data.direct(a).se_texts for a in data.complete_authors])
    assert (np.asarray(centred.se_) > 0.7 * texts).all()


def test_transport_uses_no_reader_of_the_author(tmp_path: Path) -> None:
    data = load_persuasion(write_files(tmp_path))
    before = author_transport(data)
    readers = data.readers.copy()
    mine = readers["author"] == "large"
    readers.loc[mine, "outcome"] = 100 - readers.loc[mine, "outcome"]
    after = author_transport(replace(data, readers=readers))
    at = before.authors.index("large")
    for name in before.predicted:
        assert after.predicted[name][at] == before.predicted[name][at]
        assert (np.delete(after.predicted[name], at) != np.delete(before.predicted[name], at)).all()
    assert after.direct[at] != before.direct[at]


def test_grand_mean_prediction_is_the_others_issue_means(tmp_path: Path) -> None:
    data = load_persuasion(write_files(tmp_path))
    found = author_transport(data)
    others = data.readers[data.readers["author"] != "small"]
    means = others.groupby("issue")["outcome"].mean()
    expected = float((data.issue_weights() * means).sum())
    assert found.predicted["grand mean"][found.authors.index("small")] == pytest.approx(expected)


def test_scores_by_hand() -> None:
    truth, noise = np.array([1.0, 2.0, 3.0, 6.0]), np.full(4, 0.5)
    guess = np.array([1.5, 2.0, 2.0, 3.0])
    difference = guess - truth
    beyond = difference**2 - 0.25
    se = np.array([math.sqrt(max(np.delete(beyond, i).mean(), 0) + 0.25) for i in range(4)])
    t = Transport(("a", "b", "c", "d"), truth, noise, {"text model": guess}, {"text model": se})
    found = score(t, "text model", 0.9)
    half = stats.t.ppf(0.95, 2) * se
    assert found.nc_mse == pytest.approx(np.mean(difference**2) - 0.25)
    assert found.rank == pytest.approx(stats.spearmanr(guess, truth).statistic)
    assert found.covered == int((np.abs(difference) <= half).sum())
    miss = np.maximum(np.abs(difference) - half, 0)
    assert found.interval_score == pytest.approx(np.mean(2 * half + 20 * miss))
    assert 0.8 < reachable_rank(t, 0) <= 1.0
    assert reachable_rank(t, 0) == reachable_rank(t, 0)


def test_too_few_authors(tmp_path: Path) -> None:
    data = load_persuasion(write_files(tmp_path))
    few = data.messages["author"].isin(MODELS[:4])
    some = data.readers["author"].isin(MODELS[:4])
    small = replace(
        data, messages=data.messages[few].reset_index(drop=True),
        readers=data.readers[some].reset_index(drop=True),
    )  # fmt: skip
    with pytest.raises(ValueError, match="needs 5 authors"):
        author_transport(small)


@pytest.mark.real_data
def test_real_files(data_dir: Path, tmp_path: Path, run: Run) -> None:
    result = run(["persuasion", "--messages", str(data_dir), "--out", str(tmp_path / "o")])
    assert result.exit_code == 0, result.output
    values = pd.read_csv(tmp_path / "o/estimates.csv").set_index("policy")
    data = load_persuasion(data_dir)
    assert len(values) == 26
    assert values.loc["human", "value"] == pytest.approx(data.direct("human").value)
    scores = tables(tmp_path / "o")["How well texts predict an author nobody read"]
    by = scores.set_index("predictor")
    # Measured .7 against 6.7, rank .79: texts say much of what an author is worth.
    assert by.loc["text model", "noise-corrected MSE"] < 3
    assert by.loc["grand mean", "noise-corrected MSE"] > 5
    assert 0.5 < by.loc["text model", "rank correlation"] < 0.82
    assert by.loc["text model", "covered"].endswith(" of 25")
    assert by.loc["text model", "interval score"] < by.loc["grand mean", "interval score"]
