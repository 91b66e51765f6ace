"""``--sensitivity``: a chapter with the estimator's own bounds, and nothing without it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from causal_lm_opt import IPW, LoggedData, _sensitivity
from causal_lm_opt._evaluate import evaluate_log, evaluate_part
from causal_lm_opt._evaluation import Doubt, Settings, Study
from causal_lm_opt._run.sensitivity import TITLE, doubt_sentence, omitted_sentence
from causal_lm_opt._sensitivity import Omitted
from causal_lm_opt.diagnostics.sensitivity import ConfounderStrength, omitted_variable_bound
from causal_lm_opt.estimators import Claim, TargetSample, sensitivity

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
            texts=log["text"] if violation == "logging_probabilities" else None,
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
    assert page.count('id="log-omitted-variable-0-title"') == 1


def test_a_hidden_factor_is_held_against_the_recorded_features(files: Files, run: Run) -> None:
    """The chapter's figures from the fit's own pieces: S^2 = E(y-q)^2 E w^2, times both shares.

    A factor twice as strong as a feature explains twice as much of both.
    """
    options = ["--draws", str(files.draws), "--feature", "length", "--feature", "kind",
               "--estimator", "dr", "--sensitivity"]  # fmt: skip
    result = run([*files.evaluate, *options, *files.out()])
    assert result.exit_code == 0, result.output
    part = facts(files)
    contrasts = {c["policy"]: c for c in part["contrasts"]}
    found = {o["policy"]: o for o in part["sensitivity"]["omitted_variable"]}
    assert found.keys() == {"warm", "brief"}
    log = make_log()
    for policy, o in found.items():
        none, *others = o["confounders"]
        assert none["confounder"] == "none"
        assert none["lower"] == none["upper"] == pytest.approx(contrasts[policy]["difference"])
        assert none["ci_lower"] == pytest.approx(contrasts[policy]["ci_lower"], abs=1e-6)
        assert none["ci_upper"] == pytest.approx(contrasts[policy]["ci_upper"], abs=1e-6)
        words = [c["confounder"] for c in others]
        assert {w.split()[-1] for w in words} == {"length", "kind"}
        assert [w.split()[0] for w in words] == ["as", "twice"] * 2
        w = np.exp(log[f"lp_{policy}"] - log["lp"])
        spread = float(np.mean((w / w.mean()) ** 2))
        for once, twice in (others[:2], others[2:]):
            share = once["weight"]
            bias = o["scale"] * np.sqrt(once["outcome"] * share / (1 - share))
            assert once["upper"] - once["value"] == pytest.approx(bias)
            assert twice["outcome"] == pytest.approx(min(2 * once["outcome"], 1))
            assert twice["weight"] == pytest.approx(2 * share / (1 + share))
            assert twice["ci_upper"] > once["ci_upper"] > none["ci_upper"]
        # the noise has unit variance, and the residual variance is that and the model's error
        assert 0.8 < o["scale"] ** 2 / spread < 1.3
        v = o["explained_to_undo"]
        assert o["scale"] * v / np.sqrt(1 - v) == pytest.approx(abs(none["value"]), rel=1e-6)
        assert o["explained_to_undo_ci"] < v
    page = (files.folder / "out/report.html").read_text(encoding="utf-8")
    for text in (page, (files.folder / "out/report.md").read_text(encoding="utf-8")):
        assert "beside what was recorded" in text
        assert "twice as strong as length" in text
        assert "Left out" not in text


def test_features_of_all_rows_that_count() -> None:
    """Numbers alone, rows of weight 0 among them; where nothing varies nothing is compared."""
    rng = np.random.default_rng(3)
    n = 240
    X = pd.DataFrame({"a": rng.normal(size=n), "b": rng.normal(size=n), "same": np.ones(n)})
    weight = np.r_[np.zeros(40), np.ones(n - 40)]
    given = {
        "logp_logging": -(X["a"].to_numpy() ** 2) / 2, "sample_weight": weight,
        "logp_target": pd.DataFrame({"f": -((X["a"] - 0.5) ** 2) / 2}),
    }  # fmt: skip
    draws = {"f": TargetSample(X.assign(a=X["a"] + 0.5))}
    for y in (X["a"].to_numpy() + rng.normal(size=n), np.ones(n)):
        study = Study(X, y, given, draws, model=LinearRegression())
        settings = Settings(estimators=("dr",), figures=False, sensitivity=True)
        part = evaluate_part(study, settings, key="k", title="t")
        assert part.sensitivity is not None
        found = [d for d in part.sensitivity.doubts if isinstance(d, Omitted)]
        if (y == 1).all():
            assert not found
            assert "nothing is left" in part.sensitivity.left_out[-1]
            continue
        assert [d.n_features for d in found] == [2]
        assert next(iter(found[0].benchmarks)) == "as strong as a"


def test_without_features_there_is_nothing_to_compare_with(files: Files, run: Run) -> None:
    options = ["--draws", str(files.draws), "--estimator", "dr", "--sensitivity"]
    result = run([*files.evaluate, *options, *files.out()])
    assert result.exit_code == 0, result.output
    assert facts(files)["sensitivity"]["omitted_variable"] == []
    report = (files.folder / "out/report.md").read_text(encoding="utf-8")
    assert "comparison with recorded features" in report


@pytest.mark.parametrize(
    ("share", "by_chance", "reach", "said"),
    [
        (0.0, 0.0, 0.0, "there is no difference to undo."),
        (0.3, 0.0, 0.5, "chance alone could undo it, and so could a hidden factor that explained "
         "30% of both."),
        (0.3, 0.2, 0.5, "30% of both could be enough to undo it; allowing for chance as well, one "
         "that explained 20% of both. One twice as strong as age would not, chance allowed for."),
        (0.3, 0.2, 0.9, "One twice as strong as age could, with chance, be enough."),
        (0.3, 0.2, 1.1, "One twice as strong as age could be enough."),
    ],
)  # fmt: skip
def test_explained_shares_in_words(share: float, by_chance: float, reach: float, said: str) -> None:
    words = ["none", "as strong as age", "twice as strong as age"]
    table = pd.DataFrame({"confounder": words, "outcome": 0.1, "weight": 0.1, "value": 1.0})
    bias = reach * np.array([0.0, 0.7, 1.0])
    table = table.assign(lower=1 - bias, upper=1 + bias, ci_lower=0.8 - bias, ci_upper=1.2 + bias)
    bound = omitted_variable_bound(
        [-1.0, 1.0], [1.0, 1.0], ConfounderStrength(0.1, 0.1), value=1.0, influence=[-1.0, 1.0]
    )
    doubt = Omitted("warm", "brief", "dr", "omitted_variable", table, share, by_chance, bound, 1)
    sentence = omitted_sentence(doubt, 1)
    assert sentence.startswith("warm, 1.0 above policy 'brief' (doubly robust): ")
    assert sentence.endswith(said)


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


def test_the_cross_is_told_of_where_there_is_one(files: Files, run: Run) -> None:
    chosen = [*files.evaluate, "--estimator", "hajek", *files.out(), "--sensitivity", "--figures"]
    result = run(chosen)
    assert result.exit_code == 0, result.output
    doubts = facts(files)["sensitivity"]["doubts"]
    page = (files.folder / "out/report.html").read_text(encoding="utf-8")
    crossed = sum(d["breakdown"] <= d["bounds"][-1]["lambda"] for d in doubts)
    assert 0 < crossed < len(doubts)
    captions = page.split("Bounds of the difference against the strength")[1:]
    assert len(captions) == 2 * len(doubts)  # under the plot, and in its description
    told = sum("At the cross" in c.split("</")[0] for c in captions)
    assert told == 2 * crossed


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize(
    ("strength", "by_chance", "said"),
    [
        (1.034, 1.0, "chance alone could undo it, and so could a hidden factor that made some "
         "readers 1.03 times likelier"),
        (1.5, 1.2, "1.50 times likelier (or less likely) to be given some texts could be enough "
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
