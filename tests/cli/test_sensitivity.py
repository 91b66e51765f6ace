"""``--sensitivity``: a chapter with the estimator's own bounds, and nothing without it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from causal_lm_opt import IPW, LoggedData, _sensitivity
from causal_lm_opt._evaluate import evaluate_log
from causal_lm_opt._evaluation import Doubt, Settings
from causal_lm_opt._run.sensitivity import TITLE, doubt_sentence
from causal_lm_opt.estimators import Claim, sensitivity

from .conftest import TEXTS, Files, Run, make_log

TABLE = {"lambda": [1.0, 2.0], "value": [1.0, 1.0]}


@pytest.fixture(autouse=True)
def few_strengths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of the time goes into a model per strength and fold."""
    monkeypatch.setattr(_sensitivity, "STRENGTHS", (1.0, 1.5))
    monkeypatch.setattr(_sensitivity, "RESAMPLES", 20)


def facts(files: Files) -> dict[str, Any]:
    found = json.loads((files.folder / "out/diagnostics.json").read_text(encoding="utf-8"))
    part: dict[str, Any] = found["parts"][0]
    return part


def test_the_chapter_holds_the_estimators_bounds(files: Files, run: Run) -> None:
    chosen = [*files.evaluate, "--estimator", "hajek", *files.out()]
    result = run([*chosen, "--sensitivity"])
    assert result.exit_code == 0, result.output
    log = make_log()
    names = ("warm", "brief")
    est = IPW().fit(
        log["text"].tolist(), log["y"], logp_logging=log["lp"],
        logp_target=log[[f"lp_{n}" for n in names]].rename(columns=lambda c: c[3:]),
    )  # fmt: skip
    part = facts(files)
    differences = {c["policy"]: c["difference"] for c in part["contrasts"]}
    for violation in ("hidden_confounder", "logging_probabilities"):
        found = {
            d["policy"]: d for d in part["sensitivity"]["doubts"] if d["violation"] == violation
        }
        grid = [r["lambda"] for r in found["warm"]["bounds"]]
        direct = sensitivity(
            est, grid, violation=violation, n_bootstrap=20,  # type: ignore[arg-type]
            claim=[Claim(n, better_than="logging policy") for n in names],
        )  # fmt: skip
        for n in names:
            at = direct.quantities.index(f"{n} - logging policy")
            rows = found[n]["bounds"]
            assert rows[0]["value"] == pytest.approx(differences[n], abs=1e-12)
            assert rows[0]["lower"] == pytest.approx(differences[n], abs=1e-10)
            for column in ("lower", "upper", "ci_lower", "ci_upper"):
                np.testing.assert_allclose(
                    [r[column] for r in rows], getattr(direct, column)[at], atol=1e-9
                )
        assert found["warm"]["breakdown"] == pytest.approx(direct.breakdowns[0].strength, abs=1e-6)
        assert found["warm"]["breakdown"] > found["warm"]["breakdown_ci"]
    for name in ("report.html", "report.md"):
        text = (files.folder / "out" / name).read_text(encoding="utf-8")
        assert TITLE in text
        assert f"{found['warm']['breakdown']:.2f}" in text
    assert run([*chosen, "--overwrite"]).exit_code == 0
    assert "sensitivity" not in facts(files)
    assert TITLE not in (files.folder / "out/report.html").read_text(encoding="utf-8")


def test_doubly_robust_reads_a_frame_of_text_and_features(files: Files, run: Run) -> None:
    """Against another policy; the other one's difference has the other sign."""
    options = ["--draws", str(files.draws), "--feature", "length", "--reference", "brief",
               "--estimator", "dr", "--sensitivity", "--figures"]  # fmt: skip
    result = run([*files.evaluate, *options, *files.out()])
    assert result.exit_code == 0, result.output
    doubts = facts(files)["sensitivity"]["doubts"]
    assert {(d["policy"], d["reference"], d["estimator"]) for d in doubts} == {
        ("warm", "brief", "doubly robust")
    }
    difference = facts(files)["contrasts"]
    warm = next(c["difference"] for c in difference if c["policy"] == "warm")
    assert doubts[0]["bounds"][0]["value"] == pytest.approx(warm, abs=1e-12)
    page = (files.folder / "out/report.html").read_text(encoding="utf-8")
    assert page.count('id="log-hidden-confounder-0-title"') == 1
    assert page.count('id="log-logging-probabilities-0-title"') == 1


def test_of_many_policies_the_largest_are_bounded() -> None:
    """A subset of the fitted policies gives the differences that all of them gave."""
    rng = np.random.default_rng(0)
    at = rng.integers(0, 6, 200)
    target = {f"p{k}": np.log(rng.dirichlet(np.full(6, 5.0)))[at] for k in range(10)}
    log = LoggedData(
        text=[TEXTS[i] for i in at], outcome=at + rng.normal(size=200),
        logp_logging=np.full(200, np.log(1 / 6)), logp_target=pd.DataFrame(target),
    )  # fmt: skip
    settings = Settings(estimators=("hajek",), reference="p3", figures=False, sensitivity=True)
    (part,) = evaluate_log(log, settings=settings).parts
    assert part.sensitivity is not None
    doubts = part.sensitivity.doubts
    values = {r.policy: r.value for r in part.rows if r.policy in target and r.policy != "p3"}
    usable = {c.policy: c.value for c in part.contrasts if c.verdict != "do not use"}
    largest = sorted(usable.keys() & values.keys(), key=values.__getitem__)[-8:]
    assert {d.policy for d in doubts} == set(largest)
    for d in doubts:
        assert d.value == pytest.approx(usable[d.policy], abs=1e-12)
    assert any("smallest values" in why for why in part.sensitivity.left_out)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize(
    ("strength", "by_chance", "said"),
    [
        (1.034, 1.0, "chance alone could undo it, and so could a hidden factor that made some "
         "readers 1.03 times likelier"),
        (1.5, 1.2, "1.50 times likelier (or less likely) to be given some texts would be enough "
         "to undo it; allowing for chance as well, a strength of 1.20."),
        (float("inf"), 12.4, "not even a hidden factor that made some readers 1,000 times"),
        (float("inf"), float("inf"), "would undo it, chance allowed for."),
        (1.0, 1.0, "there is no difference to undo."),
    ],
)  # fmt: skip
def test_breakdowns_in_words(sign: float, strength: float, by_chance: float, said: str) -> None:
    table = pd.DataFrame(TABLE) * [1.0, sign]
    doubt = Doubt("warm", "logging policy", "dr", "hidden_confounder", table, strength, by_chance)
    sentence = doubt_sentence(doubt, 1)
    side = "above" if sign > 0 else "below"
    assert sentence.startswith(f"warm, 1.0 {side} the logging policy (doubly robust): ")
    assert said in sentence


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--estimator", "ht"], "neither gives one"),
        ([], "rests on neither assumption"),
    ],
)
def test_what_has_no_bounds_is_told(options: list[str], said: str, files: Files, run: Run) -> None:
    start = files.evaluate if options else ["evaluate", str(files.log), "--outcome", "y"]
    result = run([*start, *options, "--sensitivity", *files.out()])
    assert result.exit_code == 0, result.output
    assert facts(files)["sensitivity"]["doubts"] == []
    assert said in (files.folder / "out/report.html").read_text(encoding="utf-8")
