"""``evaluate`` with policies that are language models: scored, drawn from, told in the report."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from causal_lm_opt import IPW, DoublyRobust, LoggedData, TargetSample, lm
from causal_lm_opt.estimators._named_models import named_outcome_model

from .conftest import TEXTS, Files, Run, make_log

Refused = Callable[..., str]
SIZE: dict[str, Any] = {"vocab_size": 270, "n_layer": 1, "n_embd": 16, "n_head": 1, "context": 200}
needs_torch = pytest.mark.torch


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two small models that have learnt to write the log's texts, more or less."""
    place = tmp_path_factory.mktemp("models")
    made = {}
    for name, favoured, seed in (("kind", [1, 2, 4], 0), ("short", [3, 5], 1)):
        texts = (TEXTS + [TEXTS[i] for i in favoured]) * 10
        policy = lm.from_texts(texts, epochs=8, learning_rate=2e-2, random_state=seed, **SIZE)
        made[name] = str(policy.save(place / name))
    return made


def estimates(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "estimates.csv").set_index(["policy", "estimator"])


def facts(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "diagnostics.json").read_text(encoding="utf-8"))
    return found


def with_models(files: Files, folders: dict[str, str], *more: str) -> list[str]:
    return [
        "evaluate", str(files.log), *files.columns, "--policy", f"kind={folders['kind']}",
        "--policy", "warm=lp_warm", "--policy", f"short={folders['short']}", *more, *files.out(),
    ]  # fmt: skip


@needs_torch
def test_a_folder_gives_what_its_scores_as_a_column_give(
    files: Files, folders: dict[str, str], run: Run
) -> None:
    result = run(with_models(files, folders))
    assert result.exit_code == 0, result.output
    log = make_log()
    target = {
        "kind": lm.LanguageModelPolicy(folders["kind"]).log_prob(log["text"]),
        "warm": log["lp_warm"],
        "short": lm.LanguageModelPolicy(folders["short"]).log_prob(log["text"]),
    }
    data = LoggedData(
        text=log["text"].tolist(), outcome=log["y"], logp_logging=log["lp"],
        logp_target=pd.DataFrame(target),
    )  # fmt: skip
    direct = IPW().fit(data.X, data.outcome, **data.fit_params()).result_.to_frame()
    ours = estimates(files.folder / "out").xs("Hajek", level="estimator")
    assert list(ours.index) == ["kind", "warm", "short"]
    np.testing.assert_allclose(ours["value"], direct["value"], rtol=1e-9)
    np.testing.assert_allclose(ours["se"], direct["se"], rtol=1e-9)
    assert not (files.folder / "out.scores").exists()


@needs_torch
def test_report_and_provenance_name_the_models(
    files: Files, folders: dict[str, str], run: Run
) -> None:
    assert run(with_models(files, folders)).exit_code == 0
    found = facts(files.folder / "out")
    models = {m["policy"]: m for m in found["models"]}
    assert list(models) == ["kind", "short"]
    assert {m["role"] for m in models.values()} == {"target policy"}
    assert models["kind"]["folder"] == folders["kind"]
    assert models["kind"]["texts_scored"] == len(TEXTS)
    prints = {m["fingerprint"] for m in models.values()}
    assert len(prints) == 2
    assert {"torch", "transformers"} <= set(found["software"])
    (table,) = found["tables"]
    assert table["title"] == "Scored by language models"
    assert [row["fingerprint"] for row in table["rows"]] == [
        m["fingerprint"] for m in models.values()
    ]
    for name in ("report.html", "report.md"):
        report = (files.folder / "out" / name).read_text(encoding="utf-8")
        assert all(fingerprint in report for fingerprint in prints)
    assert "Estimated propensity" not in report


@needs_torch
def test_an_estimated_logging_policy_is_said_to_be_one(
    files: Files, folders: dict[str, str], run: Run
) -> None:
    result = run([
        "evaluate", str(files.log), "--outcome", "y", "--logging-policy", folders["short"],
        "--policy", "warm=lp_warm", *files.out(),
    ])  # fmt: skip
    assert result.exit_code == 0, result.output
    log = make_log()
    logp = lm.LanguageModelPolicy(folders["short"]).log_prob(log["text"])
    direct = IPW().fit(
        log["text"].tolist(), log["y"], logp_logging=logp, logp_target=log["lp_warm"]
    )
    ours = estimates(files.folder / "out").loc[("warm", "Hajek")]
    assert ours["value"] == pytest.approx(direct.value_, rel=1e-9)
    found = facts(files.folder / "out")
    (model,) = found["models"]
    assert model["role"] == "logging policy, estimated"
    assert found["notes"][0].startswith("Estimated propensity: ")
    assert model["fingerprint"] in found["notes"][0]
    assert "Estimated propensity" in result.stdout
    for name in ("report.html", "report.md"):
        told = (files.folder / "out" / name).read_text(encoding="utf-8")
        assert "Estimated propensity" in told


@needs_torch
def test_draws_of_models_serve_the_model_based_estimators(
    files: Files, folders: dict[str, str], run: Run
) -> None:
    result = run([
        "evaluate", str(files.log), "--outcome", "y", "--logging-policy", folders["short"],
        "--policy", f"kind={folders['kind']}", "--draws", "60", "--seed", "3", *files.out(),
    ])  # fmt: skip
    assert result.exit_code == 0, result.output
    log = make_log()
    kind, short = (lm.LanguageModelPolicy(folders[k]) for k in ("kind", "short"))
    draws = kind.sample(60, np.random.default_rng([3, 0]), max_new_tokens=512)
    kept = [i for i in range(60) if draws.finished[i]]
    texts = [draws.texts[i] for i in kept]
    fitted = DoublyRobust(named_outcome_model("tfidf-ridge"), random_state=3).fit(
        log["text"].tolist(), log["y"],
        logp_logging=short.log_prob(log["text"]),
        logp_target=pd.DataFrame({"kind": kind.log_prob(log["text"])}),
        X_target={"kind": TargetSample(
            texts, logp_target=kind.log_prob(texts), logp_logging=short.log_prob(texts)
        )},
    )  # fmt: skip
    table = estimates(files.folder / "out")
    row = table.loc[("kind", "doubly robust")]
    assert row["value"] == pytest.approx(float(np.ravel(fitted.value_)[0]), rel=1e-6)
    assert row["se"] == pytest.approx(float(np.ravel(fitted.se_)[0]), rel=1e-6)
    assert ("kind", "outcome regression") in table.index
    model = facts(files.folder / "out")["models"][0]
    assert (model["draws"], model["draws"] + model["cut"]) == (len(texts), 60)
    (part,) = facts(files.folder / "out")["parts"]
    mine = [e for e in part["estimates"] if e["estimator"] == "doubly robust"]
    assert mine[0]["figures"]["unseen_mass"] is not None


@needs_torch
def test_draws_are_of_each_prompt(files: Files, folders: dict[str, str], run: Run) -> None:
    log = make_log(120)
    log["ask"] = np.where(np.arange(len(log)) % 3 == 0, "note", "kind")
    log.to_csv(files.log, index=False)
    result = run([
        "evaluate", str(files.log), *files.columns, "--prompt", "ask",
        "--policy", f"kind={folders['kind']}", "--draws", "8", *files.out(),
    ])  # fmt: skip
    assert result.exit_code == 0, result.output
    model = facts(files.folder / "out")["models"][0]
    assert model["draws"] + model["cut"] == 16
    assert ("kind", "doubly robust") in estimates(files.folder / "out").index


def test_what_lies_beside_the_output_is_left_alone(files: Files, run: Run) -> None:
    mine = files.folder / "out.scores" / "notes" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("keep", encoding="utf-8")
    assert run([*files.evaluate, *files.out()]).exit_code == 0
    assert mine.read_text(encoding="utf-8") == "keep"


@needs_torch
def test_a_stopped_run_goes_on(
    files: Files, folders: dict[str, str], run: Run, refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def stop(*given: Any, **more: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("causal_lm_opt._run.log.evaluate_log", stop)
        assert "interrupted" in refused(with_models(files, folders), code=130)
    assert (files.folder / "out.scores").is_dir()
    monkeypatch.setattr("causal_lm_opt.lm._engine.token_log_prob", stop)  # nothing left to score
    assert run(with_models(files, folders)).exit_code == 0
    assert not (files.folder / "out.scores").exists()
    kept = files.folder / "kept"
    refused(with_models(files, folders, "--cache", str(kept), "--overwrite"), code=130)
    monkeypatch.undo()
    monkeypatch.setenv("CAUSAL_LM_OPT_FIGURES", "0")
    more = ["--cache", str(kept), "--overwrite"]
    assert run(with_models(files, folders, *more)).exit_code == 0
    assert len(list(kept.rglob("*.scores"))) == 2


def test_a_name_of_both_a_column_and_a_folder_is_refused(
    files: Files, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files.folder)
    Path("lp_warm").mkdir()
    Path("lp_warm", "config.json").write_text("{}", encoding="utf-8")
    line = refused([*files.evaluate, *files.out()])
    assert "write ./lp_warm for the model, or rename the column" in line


@needs_torch
def test_a_broken_model_is_named(
    files: Files, folders: dict[str, str], refused: Refused, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in Path(folders["kind"]).iterdir():
        content = file.read_bytes()
        cut = len(content) // 2 if file.suffix == ".safetensors" else None
        (broken / file.name).write_bytes(content[:cut])
    said = ["evaluate", str(files.log), *files.columns, "--policy", f"kind={broken}", *files.out()]
    assert f"{broken}: the model cannot be loaded: " in refused(said)
    (broken / "config.json").write_text("{", encoding="utf-8")
    assert f"{broken}: the model cannot be loaded: " in refused(said)


@needs_torch
def test_a_text_beyond_the_context_is_named(
    files: Files, folders: dict[str, str], refused: Refused
) -> None:
    log = make_log(20)
    log.loc[3, "text"] = "kind " * 300
    log.to_csv(files.log, index=False)
    line = refused(
        [
            "evaluate",
            str(files.log),
            *files.columns,
            "--policy",
            f"kind={folders['kind']}",
            *files.out(),
        ]
    )
    assert f"--policy kind={folders['kind']}: " in line
    assert "too_long" in line or "context" in line


def test_without_torch_one_line_says_what_to_install(
    files: Files, refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text("{}", encoding="utf-8")
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "causal_lm_opt.lm.policy", raising=False)
    monkeypatch.delitem(vars(lm), "LanguageModelPolicy", raising=False)
    line = refused(
        [
            "evaluate",
            str(files.log),
            *files.columns,
            "--policy",
            f"m={tmp_path / 'm'}",
            *files.out(),
        ]
    )
    assert "policy 'm' is a model: LanguageModelPolicy needs torch" in line
    assert "pip install 'causal_lm_opt[lm]'" in line


@pytest.mark.parametrize(
    "given, said",
    [
        (["--policy", "new=no/such/model"], "no such folder; a model is named by its folder"),
        (["--policy", "new=EMPTY"], "the folder has no config.json, so it holds no model"),
        (["--logging-policy", "nowhere"], "both say who wrote the texts"),
        (["--draws", "1"], "draw at least 2 texts"),
        (["--policy", "warm=lp_warm", "--draws", "50"], "no --policy NAME=FOLDER names one"),
        (["--draws", "50", "--support"], "--support says what the draws file lists"),
        (["--draws", "50", "--feature", "length"], "texts drawn from a model have no features"),
    ],
    ids=["path", "empty-folder", "both-loggers", "one-draw", "no-model", "support", "feature"],
)
def test_what_is_refused(files: Files, refused: Refused, given: list[str], said: str) -> None:
    empty = files.folder / "empty"
    empty.mkdir()
    given = [word.replace("EMPTY", str(empty)) for word in given]
    line = refused(["evaluate", str(files.log), *files.columns, *given, *files.out()])
    assert said in line
    assert not (files.folder / "out").exists()


def test_a_logging_policy_must_be_a_folder(files: Files, refused: Refused) -> None:
    line = refused(
        ["evaluate", str(files.log), "--outcome", "y", "--policy", "warm=lp_warm",
         "--logging-policy", "gpt2", *files.out()]
    )  # fmt: skip
    assert "--logging-policy gpt2: no model there (no config.json)" in line


def test_draws_of_prompts_and_other_clusters_do_not_go_together(
    files: Files, refused: Refused, tmp_path: Path
) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text("{}", encoding="utf-8")
    line = refused(
        ["evaluate", str(files.log), *files.columns, "--policy", f"m={tmp_path / 'm'}",
         "--draws", "9", "--prompt", "town", "--group", "reader", *files.out()]
    )  # fmt: skip
    assert "leave out --group, or give --draws FILE" in line
