"""``score`` as the command line runs it: a log in, the log and a column out."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from causal_lm_opt._run.models import Models, is_model_folder, score_log
from causal_lm_opt._run.output import OutputError
from causal_lm_opt._run.score import ScoreRequest, score_file
from causal_lm_opt._training_rows import TrainingRows
from causal_lm_opt.exceptions import DataError, EstimationWarning
from causal_lm_opt.lm import LanguageModelPolicy
from causal_lm_opt.logged import LoggedData

pytestmark = pytest.mark.torch
FRAME = pd.DataFrame(
    {"text": ["ab", "=b", "a,b\nb", "ab"], "y": [1.5, 2.0, 3.0, 4.0], "q": ["a", "", "b", "ab"]}
)


@pytest.fixture(scope="module")
def folder(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    tokenizer = tiny.tokenizer(("</s>", "a", "b", "=", ",", "\n", "?"))
    policy = tiny.policy(tiny.model(vocab=7), tokenizer)
    return str(policy.save(tmp_path_factory.mktemp("model") / "model"))


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_the_log_comes_back_with_a_column_more(folder: str, tmp_path: Path, suffix: str) -> None:
    log, out = tmp_path / f"log.{suffix}", tmp_path / "scored.csv"
    if suffix == "csv":
        FRAME.to_csv(log, index=False)
    elif suffix == "jsonl":
        FRAME.to_json(log, orient="records", lines=True)
    else:
        FRAME.to_parquet(log)
    done = score_file(ScoreRequest(str(log), folder, str(out), prompt="q", column="lp"))
    again = pd.read_csv(out, keep_default_na=False)
    expected = LanguageModelPolicy(folder).log_prob(FRAME["text"], FRAME["q"].tolist())
    np.testing.assert_allclose(again["lp"], expected, rtol=1e-12)
    pd.testing.assert_frame_equal(again[["text", "y", "q"]], FRAME, check_dtype=False)
    assert {path.name for path in tmp_path.iterdir()} == {log.name, "scored.csv"}
    assert "4 texts scored under the model's own distribution" in str(done)
    read = LoggedData.from_csv(out, text="text", outcome="y", logp_logging="lp", prompt="q")
    assert len(read) == 4


def test_rows_that_trained_the_model_are_told(folder: str, tmp_path: Path) -> None:
    texts = FRAME["text"].tolist()
    policy = LanguageModelPolicy(folder)
    policy.training_rows = (TrainingRows.of(texts, np.arange(len(texts)) < 3),)
    mine, log = policy.save(tmp_path / "trained"), tmp_path / "log.csv"
    FRAME.to_csv(log, index=False)
    done = score_file(ScoreRequest(str(log), str(mine), str(tmp_path / "scored.csv")))
    assert "2 of them trained or chose this model: a value of it from their rows" in str(done)
    plain = score_file(ScoreRequest(str(log), folder, str(tmp_path / "plain.csv")))
    assert "trained" not in str(plain).partition("\n")[2]


def test_a_model_of_prompts_that_is_given_none_is_told(folder: str, tmp_path: Path) -> None:
    policy = LanguageModelPolicy(folder)
    policy.training_rows = (TrainingRows.of(["x"], np.ones(1, dtype=bool), prompts=["Why?"]),)
    mine = LanguageModelPolicy(policy.save(tmp_path / "trained"))
    for call in (lambda: mine.log_prob(["ab"]), lambda: mine.sample(1, 0, max_new_tokens=2)):
        with pytest.warns(EstimationWarning, match="without a prompt it is another policy"):
            call()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mine.log_prob(["ab"], ["a"])
        mine.sample(1, 0, prompts=["a"], max_new_tokens=2)
        LanguageModelPolicy(folder).log_prob(["ab"])


def test_draws_of_each_of_many_prompts_are_counted_aloud(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = LanguageModelPolicy(folder)
    monkeypatch.setattr("causal_lm_opt.lm.policy.MANY_DRAWS", 6)
    with pytest.warns(EstimationWarning, match=r"6 texts are drawn of 3 prompts"):
        policy.sample(2, 0, prompts=["a", "b", "a"], max_new_tokens=1)


def test_the_marks_of_the_log_are_kept(folder: str, tmp_path: Path) -> None:
    log, out = tmp_path / "log.csv", tmp_path / "scored.csv"
    FRAME.assign(y=FRAME["y"] + 0.5).to_csv(log, index=False, sep=";", decimal=",")
    with pytest.raises(DataError, match="delimiter=';'"):
        score_file(ScoreRequest(str(log), folder, str(out)))
    score_file(ScoreRequest(str(log), folder, str(out), delimiter=";", decimal=","))
    columns = {"text": "text", "outcome": "y", "logp_logging": "logp"}
    read = LoggedData.from_csv(out, delimiter=";", decimal=",", **columns)  # type: ignore[arg-type]
    expected = LanguageModelPolicy(folder).log_prob(FRAME["text"])
    np.testing.assert_allclose(read.logp_logging, expected, rtol=1e-12)
    np.testing.assert_array_equal(read.outcome, FRAME["y"] + 0.5)


def test_a_training_run_is_no_model_but_holds_one(tmp_path: Path) -> None:
    FRAME.to_csv(tmp_path / "log.csv", index=False)
    (tmp_path / "trained" / "run").mkdir(parents=True)
    request = ScoreRequest(
        str(tmp_path / "log.csv"), str(tmp_path / "trained"), str(tmp_path / "out.csv")
    )
    for accepted, model in ((True, "trained"), (False, "start")):
        record = {"result": {"accepted": accepted}}
        (tmp_path / "trained" / "run" / "optimizer.json").write_text(json.dumps(record))
        with pytest.raises(ValueError, match=rf"a run of optimize; its model is .*run.{model}$"):
            score_file(request)


def test_an_interrupted_run_resumes(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from causal_lm_opt._run import score

    FRAME.to_csv(tmp_path / "log.csv", index=False)
    request = ScoreRequest(str(tmp_path / "log.csv"), folder, str(tmp_path / "out.csv"))

    def interrupt(*given: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(score, "_write", interrupt)
        with pytest.raises(KeyboardInterrupt):
            score_file(request)
    assert (tmp_path / "out.csv.scores").is_dir()
    assert not (tmp_path / "out.csv").exists()
    from causal_lm_opt.lm import _engine

    monkeypatch.setattr(_engine, "token_log_prob", interrupt)  # nothing is left to score
    score_file(request)
    assert not (tmp_path / "out.csv.scores").exists()


def test_what_is_refused(folder: str, tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    FRAME.to_csv(log, index=False)
    with pytest.raises(OutputError, match="exists; give another --out, or --overwrite"):
        score_file(ScoreRequest(str(log), folder, str(log)))
    with pytest.raises(OutputError, match="is the log itself"):
        score_file(ScoreRequest(str(log), folder, str(log), overwrite=True))
    with pytest.raises(OutputError, match=r"name it \.csv"):
        score_file(ScoreRequest(str(log), folder, str(tmp_path / "out.parquet")))
    with pytest.raises(OutputError, match="no such folder"):
        score_file(ScoreRequest(str(log), folder, str(tmp_path / "no" / "out.csv")))
    out = str(tmp_path / "out.csv")
    with pytest.raises(DataError, match="already has a column 'y'"):
        score_file(ScoreRequest(str(log), folder, out, column="y"))
    with pytest.raises(DataError, match="no column 'body'; it has text, y, q"):
        score_file(ScoreRequest(str(log), folder, out, text="body"))
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


@pytest.mark.parametrize("model", ["./nowhere", "run/run/trained"])
def test_a_model_that_is_not_there_is_one_line(model: str, tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("text\nJoin us.\n", encoding="utf-8")
    request = ScoreRequest(str(log), model, str(tmp_path / "out.csv"))
    with pytest.raises(ValueError, match=rf"--model {re.escape(model)}: no model there"):
        score_file(request)
    assert not (tmp_path / "out.csv").exists()


def test_models_as_target_policies(folder: str) -> None:
    log = LoggedData(text=["ab", "b"], outcome=[1.0, 2.0], logp_logging=[-1.0, -2.0])
    scored = score_log(log, Models({"new": folder})).log
    assert scored.logp_target is not None
    expected = LanguageModelPolicy(folder).log_prob(["ab", "b"])
    np.testing.assert_array_equal(scored.logp_target["new"], expected)
    assert is_model_folder(folder)
    assert not is_model_folder("logp_new")
    with pytest.raises(ValueError, match="names 'new' twice"):
        score_log(scored, Models({"new": folder}))
