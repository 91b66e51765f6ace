"""`optimize` and `compare`: what is written, resumed, told and refused."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from causal_lm_opt._run import optimize_settings
from causal_lm_opt._run.optimize_page import (
    Block,
    Grid,
    Pairs,
    Points,
    Section,
    Terms,
    Words,
    html_page,
    markdown_page,
)  # fmt: skip
from causal_lm_opt.cli import app

WORDS = ("Join us today.", "Join the walk.", "Stay at home.", "Stay away.")
ENDS = ("Now.", "Please.", "Soon.", "Today.")
SETTINGS = """
fine_tune_epochs: 1
steps: 6
batch_size: 16
round_size: 32
round_passes: 1
n_draws: 40
learning_rate: 1e-3
ess_floor: 0.0
"""
FILES = {
    "history.csv", "parts.csv", "report.html", "report.md", "result.json", "run", "samples.csv",
    "steps.csv",
}  # fmt: skip
EVIL = "<script>alert(1)</script> | `x` [a](http://b)"


@dataclass(frozen=True)
class Workshop:
    """A log, a tiny model, settings, and a finished run of them."""

    folder: Path
    log: Path
    model: Path
    config: Path
    out: Path
    said: str

    def arguments(self, out: Path, *more: str) -> list[str]:
        return [
            "optimize", str(self.log), "--outcome", "y", "--model", str(self.model), "--config",
            str(self.config), "--out", str(out), "--group", "reader", *more,
        ]  # fmt: skip


def run(arguments: list[str]) -> Result:
    return CliRunner().invoke(app, arguments, prog_name="causal-lm-opt")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    from causal_lm_opt.lm import from_texts

    folder = tmp_path_factory.mktemp("optimize")
    rng = np.random.default_rng(0)
    kind, end = rng.integers(0, 4, (2, 160))
    texts = [f"{WORDS[i]} {ENDS[j]}" for i, j in zip(kind, end, strict=True)]
    y = np.round(2.0 * (kind < 2) + rng.normal(size=160), 3)
    frame = pd.DataFrame({"text": texts, "y": y, "reader": np.arange(160)})
    frame.to_csv(folder / "log.csv", index=False)
    start = from_texts(texts, vocab_size=280, n_layer=1, n_embd=16, n_head=1, context=256, epochs=8)
    start.save(folder / "model")
    (folder / "settings.yaml").write_text(SETTINGS, encoding="utf-8")
    made = Workshop(
        folder, folder / "log.csv", folder / "model", folder / "settings.yaml", folder / "out", ""
    )
    done = run(made.arguments(made.out, "--figures"))
    assert done.exit_code == 0, done.output
    return Workshop(*list(vars(made).values())[:-1], said=done.stdout)


@pytest.fixture(scope="module")
def trained(shop: Workshop) -> Path:
    """A run on the same rows that returns its last step whatever it is worth."""
    config = shop.folder / "last.yaml"
    config.write_text(SETTINGS + "choose: last\nsafe: false\n", encoding="utf-8")
    done = run(shop.arguments(shop.folder / "other", "--no-figures", "--config", str(config)))
    assert done.exit_code == 0, done.output
    return shop.folder / "other"


def result_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return found


def texts_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "samples.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


# ------------------------------------------------------------------------------ a run
@pytest.mark.torch
def test_a_run_writes_values_with_intervals_and_verdicts(shop: Workshop) -> None:
    facts = result_of(shop.out)
    held = {p.name for p in shop.out.iterdir()}
    assert held - {"win_rates.csv"} == FILES
    for row in facts["values"]:
        assert row["lower"] <= row["value"] <= row["upper"]
        assert row["verdict"] in ("trustworthy", "caution", "do not use")
    assert sum(facts["sizes"].values()) == 160
    assert "Report: " in shop.said
    kept = facts["model"]
    assert kept == f"run/{'trained' if facts['accepted'] else 'start'}"
    assert (shop.out / kept / "config.json").is_file()
    assert f"Model:  {shop.out / kept}\n" in shop.said
    report = (shop.out / "report.md").read_text("utf-8")
    assert f"is in {kept}, beside this report" in report
    assert f"LanguageModelPolicy('{shop.out}/{kept}').sample(5, 0).texts" in report
    assert "V(f0), start" in shop.said
    assert "wrote 40 texts for its value" in report
    assert "Rows: those of one 'reader' (--group) are in one part" in report
    assert facts["settings"]["n_draws"] == "40"
    assert [i["role"] for i in facts["inputs"]] == ["log", "settings"]
    history = pd.read_csv(shop.out / "history.csv")
    steps = history["step"].tolist()
    assert steps in ([2, 4], [2, 4, 6])  # two evaluations in a row that say nothing end a run
    page = (shop.out / "report.html").read_text(encoding="utf-8")
    for words in (
        "Answer", "Learning curves", "Win rates", "Texts before and after", "How it was made",
        "What this rests on", "model-based, no estimate", "<svg",
    ):  # fmt: skip
        assert words in page, words


@pytest.mark.torch
def test_the_trainers_own_value_is_not_shown_as_one(shop: Workshop) -> None:
    steps = pd.read_csv(shop.out / "steps.csv")
    assert "value" not in steps
    assert "objective_on_training_rows" in steps
    said = (shop.out / "report.md").read_text(encoding="utf-8")
    assert "objective_on_training_rows" not in said


@pytest.mark.torch
def test_win_rates_say_who_judged_and_samples_are_of_both(shop: Workshop) -> None:
    facts = result_of(shop.out)
    step = facts["result"]["step"]
    rows = texts_of(shop.out)
    assert len(rows) == 200
    assert any(row["trained"] for row in rows) == (step > 0)
    assert len(facts["win_rates"]) == (1 if step else 0)
    if step:
        assert "Judged by the outcome model" in (shop.out / "report.md").read_text(encoding="utf-8")
        assert "judged by the outcome model" in shop.said


@pytest.mark.torch
def test_a_finished_run_says_so_and_writes_the_same_report(shop: Workshop) -> None:
    before = {p.name: p.read_bytes() for p in shop.out.iterdir() if p.is_file()}
    done = run(shop.arguments(shop.out, "--figures"))
    assert done.exit_code == 0, done.output
    assert "was finished before" in done.stdout
    assert {p.name: p.read_bytes() for p in shop.out.iterdir() if p.is_file()} == before


@pytest.mark.torch
def test_a_log_file_gets_a_line_for_each_evaluation(shop: Workshop, tmp_path: Path) -> None:
    steps = ["--steps", "4", "--no-figures"]
    done = run(shop.arguments(tmp_path / "out", *steps))
    lines = [line for line in done.stderr.splitlines() if line.startswith("training: ")]
    assert len(lines) == 2
    assert lines[0].startswith("training: 2 of at most 4 steps; select rows: V(f) ")
    again = run(shop.arguments(tmp_path / "quiet", *steps, "--quiet"))
    assert "training:" not in again.stderr


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_a_run_that_goes_on_identically(
    shop: Workshop, tmp_path: Path, sent: signal.Signals
) -> None:
    out = tmp_path / "out"
    stopped = subprocess.Popen(
        [sys.executable, "-m", "causal_lm_opt.cli", *shop.arguments(out, "--no-figures")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ),
    )  # fmt: skip
    until = time.monotonic() + 100
    while stopped.poll() is None and time.monotonic() < until:
        if any((out / "run" / "training").glob("checkpoint-*")):
            break
        time.sleep(0.01)
    stopped.send_signal(sent)
    printed, said = stopped.communicate(timeout=60)
    assert stopped.returncode == 130, said
    assert printed == ""
    assert said.splitlines()[-1].startswith("interrupted; run the same command again to go on")
    assert not (out / "report.html").exists()
    assert run(shop.arguments(out, "--quiet")).exit_code == 0
    for name in ("history.csv", "samples.csv"):
        assert (out / name).read_bytes() == (shop.out / name).read_bytes(), name
    assert result_of(out)["values"] == result_of(shop.out)["values"]


@pytest.mark.torch
def test_evaluate_leaves_out_the_rows_that_trained_a_model(shop: Workshop, tmp_path: Path) -> None:
    start, out = tmp_path / "copied", tmp_path / "valued"
    shutil.copytree(shop.out / "run" / "start", start)
    done = run([
        "evaluate", str(shop.log), "--outcome", "y", "--policy", f"f={start}", "--logging-policy",
        str(shop.model), "--out", str(out), "--no-figures",
    ])  # fmt: skip
    assert done.exit_code == 0, done.output
    trained = result_of(shop.out)["sizes"]["train"]
    said = f"{trained} of the 160 rows hold texts that trained or chose 'f': they are left out"
    assert said in (out / "report.md").read_text(encoding="utf-8")
    assert said in done.stdout


@pytest.mark.torch
def test_a_folder_of_another_run_is_kept_until_overwrite(shop: Workshop, tmp_path: Path) -> None:
    before = (shop.out / "run" / "run.json").read_bytes()
    done = run(shop.arguments(shop.out, "--seed", "5"))
    assert done.exit_code == 3
    assert "random_state was 0, is 5" in done.stderr
    assert (shop.out / "run" / "run.json").read_bytes() == before
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    for more in ([], ["--overwrite"]):
        done = run(shop.arguments(tmp_path, *more))
        assert done.exit_code == 3
        assert "'notes.txt', which no such run wrote" in done.stderr
    own = tmp_path / "own"
    (own / "run").mkdir(parents=True)
    (own / "run" / "thesis.txt").write_text("mine", encoding="utf-8")
    done = run(shop.arguments(own, "--overwrite"))
    assert done.exit_code == 3
    assert (own / "run" / "thesis.txt").exists()


@pytest.mark.torch
def test_prompts_stand_beside_their_texts(shop: Workshop, tmp_path: Path) -> None:
    frame = pd.read_csv(shop.log)
    frame["ask"] = [f"Ask {i % 60}<b>" for i in range(len(frame))]
    frame.to_csv(tmp_path / "log.csv", index=False)
    given = shop.arguments(tmp_path / "out", "--prompt", "ask", "--steps", "2", "--objective", "dr")
    given[1] = str(tmp_path / "log.csv")
    given.remove("--group")
    given.remove("reader")
    done = run(given)
    assert done.exit_code == 0, done.output
    rows = texts_of(tmp_path / "out")
    assert all(row["prompt"].startswith("Ask ") for row in rows)
    assert len({row["prompt"] for row in rows}) == len(rows) > 10
    drawn = r"wrote [0-9,]+ texts for its value: [0-9]+ for the prompt of each report row"
    report = (tmp_path / "out" / "report.md").read_text("utf-8")
    assert re.search(drawn, report)
    assert "Rows: those of equal prompt are in one part" in report
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;" in page
    assert "<b>" not in page.partition("Texts before and after")[2]


@pytest.mark.torch
def test_where_no_checkpoint_is_worth_valuing_the_start_alone_is_told(
    shop: Workshop, tmp_path: Path
) -> None:
    strict = SETTINGS.replace("ess_floor: 0.0", "ess_floor: 0.9999") + "ratio: balance\n"
    (tmp_path / "c.yaml").write_text(strict, encoding="utf-8")
    done = run(shop.arguments(tmp_path / "out", "--config", str(tmp_path / "c.yaml")))
    assert done.exit_code == 0, done.output
    assert "No trained model is returned" in done.stdout
    assert "V(f), trained" not in done.stdout
    facts = result_of(tmp_path / "out")
    assert (facts["accepted"], facts["result"]["step"], facts["win_rates"]) == (False, 0, [])
    said = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "There is no trained model to compare" in said
    assert not any(row["trained"] for row in texts_of(tmp_path / "out"))


# ------------------------------------------------------------------------------ bad input
Change = Callable[[pd.DataFrame], pd.DataFrame]


@pytest.mark.torch
@pytest.mark.parametrize(
    ("change", "more", "said"),
    [
        (lambda f: f, ["--text", "texts"], "no column 'texts'"),
        (lambda f: f, ["--outcome", "Y"], "no column 'Y'"),
        (lambda f: f, ["--group", "raeder"], "takes one column and is given 2"),
        (lambda f: f.assign(y=f.y.where(f.index != 3)), [], "row 4"),
        (lambda f: f.assign(y=1.0), [], "outcomes are all 1"),
        (lambda f: f.iloc[:0], [], "no data rows"),
        (lambda f: f.iloc[:30], [], "after splitting"),
        (lambda f: f, ["--model", "no-such-folder"], "no model there"),
        (lambda f: f, ["--config", "no-such.yaml"], "no-such.yaml: cannot be read"),
        (lambda f: f, ["--objective", "drr"], "objective must be one of"),
        (lambda f: f, ["--ratio", "latnet"], "ratio must be one of"),
    ],
    ids=["text", "outcome", "group", "nan", "one-valued", "empty", "few", "model", "config",
         "objective", "ratio"],
)  # fmt: skip
def test_bad_input_is_one_line(
    shop: Workshop, tmp_path: Path, change: Change, more: list[str], said: str
) -> None:
    log = tmp_path / "log.csv"
    change(pd.read_csv(shop.log)).to_csv(log, index=False)
    given = shop.arguments(tmp_path / "out", *more)
    given[1] = str(log)
    done = run(given)
    assert done.exit_code == 2, done.output
    (line,) = [x for x in done.stderr.splitlines() if x.startswith("error: ")]
    assert said in line
    assert not (tmp_path / "out").exists()


@pytest.mark.torch
def test_a_damaged_model_is_one_line(shop: Workshop, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    done = run(shop.arguments(tmp_path / "out", "--model", str(tmp_path)))
    assert done.exit_code == 2
    assert "the model cannot be loaded" in done.stderr


def test_without_torch_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimize_settings, "find_spec", lambda name: None)
    done = run(["optimize", "log.csv", "--outcome", "y", "--out", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert "needs torch, which is not installed: pip install 'causal_lm_opt[lm]'" in done.stderr


def test_the_demo_without_torch_says_what_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimize_settings, "find_spec", lambda name: None)
    done = run(["demo", "--train", "--out", str(tmp_path / "demo")])
    assert done.exit_code == 0, done.output
    (line,) = [x for x in done.stdout.splitlines() if "training is left out" in x]
    assert "pip install 'causal_lm_opt[lm]'" in line
    assert not (tmp_path / "demo-training").exists()


# ------------------------------------------------------------------------------ settings
@pytest.mark.torch
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("stepz: 3", "unknown setting 'stepz'; did you mean 'steps'?"),
        ("qqqq: 3", "unknown setting 'qqqq'; settings: model, objective"),
        ("steps: many", "steps must be a number"),
        ("steps: 2.5", "steps must be a whole number"),
        ("steps: true", "steps must be a number"),
        ("safe: 1", "safe must be true or false"),
        ("split: [0.5, 0.5]", "split must be three shares"),
        ("training: 3", "training must be a mapping"),
        ("training: {weight_decy: 0.1}", "under training; did you mean 'weight_decay'?"),
        ("steps: 3\nsteps: 4", "names 'steps' twice"),
        ("- steps", "must be lines of 'setting: value'"),
        ("steps: [3", "is no YAML"),
        ("out: there", "--out names the folder"),
        ("features: words", "features must be a number of topics"),
        ("outcome_model: lasso", "outcome_model must be one of"),
    ],
    ids=lambda value: value.split(":")[0] if ":" in value else None,
)
def test_a_bad_settings_file_names_the_setting(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"c\.yaml") as caught:
        optimize_settings.settings_of(str(path), {})
    assert said in str(caught.value)


@pytest.mark.torch
def test_flags_override_the_file_and_numbers_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "learning_rate: 1e-4\nsteps: 5\ntilt: null\nsafe: false\nsplit: [0.4, 0.3, 0.3]\n"
        "features: 7\noutcome_model: ridge\ntraining: {weight_decay: 1e-2}\n",
        encoding="utf-8",
    )
    found = optimize_settings.settings_of(str(path), {"steps": 9, "cv": None, "safe": None})
    assert found["learning_rate"] == 1e-4
    assert (found["steps"], found["tilt"], found["safe"]) == (9, None, False)
    assert found["split"] == (0.4, 0.3, 0.3)
    assert found["training"] == {"weight_decay": 0.01}
    assert found["features"] == 7
    assert hasattr(found["outcome_model"], "predict")
    assert "cv" not in found
    path.write_text("", encoding="utf-8")
    assert optimize_settings.settings_of(str(path), {"steps": 2}) == {"steps": 2}


# ------------------------------------------------------------------------------ compare
@pytest.mark.torch
def test_compare_tells_values_and_who_wins(shop: Workshop, trained: Path, tmp_path: Path) -> None:
    other = trained
    columns = ["--log", str(shop.log), "--outcome", "y", "--group", "reader"]
    done = run(
        ["compare", str(shop.out), str(other), *columns, "--out", str(tmp_path / "compared")]
    )
    assert done.exit_code == 0, done.output
    table = pd.read_csv(tmp_path / "compared" / "comparison.csv")
    assert table["run"].tolist() == ["out"] * 3 + ["other"] * 3
    assert table["verdict"].notna().all()
    assert (table["ci_lower"] <= table["value"]).all()
    assert "read the differences between the runs" in done.stdout
    assert "a surrogate" in done.stdout
    paired = pd.read_csv(tmp_path / "compared" / "differences.csv")
    (told,) = paired.to_dict("records")
    start = "" if table["accepted"][0] else " (its start)"
    ours, others = f"out{start}", "other"
    assert told["difference"] in (f"{ours} - {others}", f"{others} - {ours}")  # the larger first
    assert told["ci_lower"] < told["value"] < told["ci_upper"]
    page = (tmp_path / "compared" / "report.html").read_text(encoding="utf-8")
    assert "Which gained most" in page
    assert "rows of the log that no run trained on" in done.stdout
    facts = json.loads((tmp_path / "compared" / "comparison.json").read_text(encoding="utf-8"))
    assert len(facts["win_rates"]) == 2  # both directions
    assert len(texts_of(tmp_path / "compared")) == 200
    again = run(["compare", str(shop.out), str(other), "--out", str(tmp_path / "compared")])
    assert again.exit_code == 3
    again = run(
        ["compare", str(shop.out), str(other), "--out", str(tmp_path / "compared"), "--overwrite"]
    )
    assert again.exit_code == 0  # the table alone
    assert "not a paired comparison" in again.stdout
    assert not (tmp_path / "compared" / "differences.csv").exists()
    assert not (tmp_path / "compared" / "win_rates.csv").exists()


@pytest.mark.torch
def test_compare_reads_columns_as_the_runs_did_and_says_what_it_cannot_tell(
    shop: Workshop, trained: Path, tmp_path: Path
) -> None:
    other, log = tmp_path / "other", tmp_path / "log.csv"
    shutil.copytree(trained, other)
    asked = ["compare", str(shop.out), str(other), "--overwrite", "--out", str(tmp_path / "c")]
    done = run([*asked, "--log", str(shop.log)])
    assert done.exit_code == 0, done.output
    assert "rows of the log that no run trained on" in done.stdout
    assert (tmp_path / "c" / "differences.csv").is_file()
    record = other / "run" / "optimizer.json"
    before = record.read_text(encoding="utf-8")
    record.write_text(json.dumps(json.loads(before) | {"prompted": True}), encoding="utf-8")
    done = run([*asked, "--log", str(shop.log)])
    assert "No win rate and no difference is told: other trained with prompts" in " ".join(
        done.stdout.split()
    )
    assert not (tmp_path / "c" / "win_rates.csv").exists()
    record.write_text(before, encoding="utf-8")
    frame = pd.read_csv(shop.log)
    frame.assign(y=frame["y"] + 1).to_csv(log, index=False)
    done = run([*asked, "--log", str(log)])
    assert "--log is not what they were trained on" in done.stdout
    own = other / "run" / "run.json"
    kept = json.loads(own.read_text(encoding="utf-8"))
    told, page = json.loads((other / "result.json").read_text("utf-8")), other / "result.json"
    page.write_text(json.dumps(told | {"arguments": told["arguments"] | {"prompt": "p"}}))
    others = {"rows": "others", "rows_without_logp": "others"}
    own.write_text(json.dumps(kept | others), encoding="utf-8")
    done = run(asked)
    assert "told by different columns (--prompt)" in done.stdout
    page.write_text(json.dumps(told))
    kept["settings"]["random_state"] = "7"
    own.write_text(json.dumps(kept), encoding="utf-8")
    done = run([*asked, "--log", str(shop.log)])
    assert "the runs report from different rows" in done.stdout


@pytest.mark.torch
def test_compare_pairs_runs_with_and_without_log_probabilities(
    shop: Workshop, trained: Path, tmp_path: Path
) -> None:
    from causal_lm_opt.lm import LanguageModelPolicy

    log, plain, logged = tmp_path / "log.csv", tmp_path / "plain", tmp_path / "logged"
    shutil.copytree(trained, plain)
    frame = pd.read_csv(shop.log)
    scores = LanguageModelPolicy(shop.model).log_prob(frame["text"].tolist())
    frame.assign(lp=scores).to_csv(log, index=False)
    asked = shop.arguments(logged, "--no-figures", "--logp-logging", "lp")
    done = run([str(log) if word == str(shop.log) else word for word in asked])
    assert done.exit_code == 0, done.output
    for runs in ((plain, logged), (logged, plain)):
        folders = ["compare", *map(str, runs), "--overwrite", "--out", str(tmp_path / "c")]
        assert "report from the same rows" in run(folders).stdout
        done = run([*folders, "--log", str(log)])
        assert done.exit_code == 0, done.output
        assert "read the differences" in done.stdout
        assert "rows of the log that no run trained on" in done.stdout
        assert len(pd.read_csv(tmp_path / "c" / "differences.csv")) == 1
    kept = logged / "run" / "run.json"
    older = json.loads(kept.read_text(encoding="utf-8"))
    del older["rows_without_logp"]
    kept.write_text(json.dumps(older), encoding="utf-8")
    done = run([*folders, "--log", str(log)])
    assert done.exit_code == 0, done.output  # nothing tells that its rows are the other's
    assert "the runs report from different rows" in done.stdout


@pytest.mark.torch
def test_compare_reads_decimal_commas_as_the_runs_did(
    shop: Workshop, trained: Path, tmp_path: Path
) -> None:
    log, names = tmp_path / "log.csv", ("a", "b")
    pd.read_csv(shop.log).to_csv(log, index=False, sep="\t", decimal=",")
    for name, made in zip(names, (shop.out, trained), strict=True):
        shutil.copytree(made, tmp_path / name)
        file = tmp_path / name / "result.json"
        kept = json.loads(file.read_text(encoding="utf-8"))
        kept["arguments"] |= {"delimiter": "tab", "decimal": ","}
        file.write_text(json.dumps(kept), encoding="utf-8")
    folders = [str(tmp_path / name) for name in names]
    done = run(["compare", *folders, "--log", str(log), "--out", str(tmp_path / "c")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "c" / "differences.csv").is_file(), done.stdout


@pytest.mark.torch
def test_compare_tells_no_difference_of_a_model_from_itself(
    shop: Workshop, trained: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again"
    shutil.copytree(trained, again)
    asked = ["compare", str(trained), str(again), "--log", str(shop.log), "--overwrite"]
    done = run([*asked, "--out", str(tmp_path / "c")])
    assert done.exit_code == 0, done.output
    assert "other and again hold the same model" in done.stdout
    assert "beats" not in done.stdout
    assert not (tmp_path / "c" / "differences.csv").exists()
    asked.insert(3, str(shop.out))
    done = run([*asked, "--out", str(tmp_path / "c")])
    (told,) = pd.read_csv(tmp_path / "c" / "differences.csv").to_dict("records")
    assert "other = again" in told["difference"]
    assert "hold the same model" in (tmp_path / "c" / "report.md").read_text(encoding="utf-8")


@pytest.mark.torch
def test_compare_refuses_what_is_no_finished_run(shop: Workshop, tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "compared")]
    for runs, said in (
        ([str(shop.out)], "at least two runs"),
        ([str(shop.out), str(shop.out)], "given twice"),
        ([str(shop.out), str(tmp_path)], "holds no finished run"),
    ):
        done = run(["compare", *runs, *out])
        assert done.exit_code == 2
        assert said in done.stderr
    unfinished = tmp_path / "half" / "run"
    unfinished.mkdir(parents=True)
    (unfinished / "run.json").write_text("{}", encoding="utf-8")
    done = run(["compare", str(shop.out), str(tmp_path / "half"), *out])
    assert "the run is not finished" in done.stderr
    (unfinished / "optimizer.json").write_text("{}", encoding="utf-8")
    done = run(["compare", str(shop.out), str(tmp_path / "half"), *out])
    assert done.exit_code == 2
    assert "is damaged" in done.stderr


# ------------------------------------------------------------------------------ escaping
def test_no_text_of_the_data_becomes_markup() -> None:
    blocks: list[Block] = [
        Words(EVIL), Points([EVIL]), Terms({EVIL: EVIL}),
        Grid(EVIL, [EVIL, EVIL], [[EVIL, EVIL]], ["", "t"]),
        Pairs((EVIL, "after"), [(EVIL, [EVIL, "\x00\u202eturned\nsecond line"])]),
    ]  # fmt: skip
    page = html_page(EVIL, EVIL, [Section(EVIL, blocks)], EVIL)
    assert "<script" not in page
    assert "\x00" not in page
    assert "\u202e" not in page
    text = markdown_page(EVIL, EVIL, [Section(EVIL, blocks)], EVIL)
    assert "<script" not in text.replace("\\<script", "")
    assert "[a](" not in text.replace("\\[a\\](", "")
    rows = [line for line in text.splitlines() if line.startswith("| 1 |")]
    assert len(rows) == 1  # a line break in a text does not break the table
