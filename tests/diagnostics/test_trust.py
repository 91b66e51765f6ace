"""Trust reports of fitted estimators: what each part says, and when it says that it cannot.

Statistical tolerance: the balance finding is a test at level .001, so that 60 sound logs give one
or more with probability .06 at most if it keeps its level; the seed is fixed, and none is allowed.
"""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from causal_lm_opt import IPW, DoublyRobust, OutcomeRegression, TargetSample
from causal_lm_opt.datasets import (
    hong_kong_policies,
    load_hong_kong,
    load_text_experiment,
    shipped_data_dir,
)
from causal_lm_opt.diagnostics.balance import balance
from causal_lm_opt.diagnostics.text_features import count_words, frequent_words, text_features
from causal_lm_opt.diagnostics.trust import PARTS, TrustReport
from causal_lm_opt.simulation import GaussianDesign

MILD = GaussianDesign("linear", shift=0.5)
# four texts, their probabilities under the logger and the target, and one feature by hand
TEXTS = np.array(["go", "please go", "please go now", "stop"], dtype=object)
P_R = np.array([0.4, 0.3, 0.2, 0.1])
P_F = np.array([0.1, 0.2, 0.3, 0.4])


def swapped(arguments: dict[str, Any]) -> dict[str, Any]:
    """Target and logging log-probs exchanged, in log and draws alike."""
    sample = arguments["X_target"]
    return {
        **arguments,
        "logp_target": arguments["logp_logging"],
        "logp_logging": arguments["logp_target"],
        "X_target": replace(
            sample, logp_target=sample.logp_logging, logp_logging=sample.logp_target
        ),
    }


def enumerated(sample_weight: Any = 1000 * P_R, **changes: Any) -> Any:
    """IPW on a log whose frequencies are the logger's probabilities; the target's exact support."""
    target = TargetSample(TEXTS, logp_target=np.log(P_F), logp_logging=np.log(P_R), exact=True)
    arguments = {"logp_target": np.log(P_F), "logp_logging": np.log(P_R), "X_target": target}
    return IPW().fit(TEXTS, [1.0, 2.0, 3.0, 4.0], sample_weight=sample_weight,
                     **{**arguments, **changes})  # fmt: skip


# ------------------------------------------------------------------------------ text features
def test_text_features_by_hand() -> None:
    words = frequent_words(TEXTS)
    assert words == ("go", "now", "please", "stop")
    table = text_features(TEXTS, words)
    assert list(table.columns) == [
        "characters", "words", "mean word length", "word: go", "word: now", "word: please",
        "word: stop",
    ]  # fmt: skip
    np.testing.assert_allclose(table.iloc[2], [13, 3, 11 / 3, 1, 1, 1, 0])
    assert text_features(["...", ""], []).to_numpy().tolist() == [[3, 0, 0], [0, 0, 0]]
    assert count_words(["Well-known: don't, 24/7", ""]).tolist() == [4, 0]


def test_frequent_words_do_not_depend_on_order_or_on_the_sample_they_come_from() -> None:
    rng = np.random.default_rng(0)
    vocabulary = [f"w{j}" for j in range(60)]
    texts = [" ".join(rng.choice(vocabulary, 8)) for _ in range(200)]
    words = frequent_words(texts)
    assert len(words) == 30
    assert list(words) == sorted(words)
    assert frequent_words(texts[::-1]) == words
    assert frequent_words(texts[:70], texts[70:]) == words
    assert frequent_words(["all the same", "all the rest"], count=5) == ("rest", "same")
    pd.testing.assert_frame_equal(
        text_features(texts).iloc[::-1].reset_index(drop=True), text_features(texts[::-1])
    )


# ------------------------------------------------------------------------------ balance
def test_balance_by_exact_enumeration() -> None:
    """With the population as log the right weights balance every feature exactly."""
    report = enumerated().diagnose()
    found = report.balance["target policy"]
    assert found is not None
    table = found.table.set_index("feature")
    np.testing.assert_allclose(table["smd_weighted"], 0.0, atol=1e-12)
    assert found.p_value == 1.0
    features = text_features(TEXTS, frequent_words(TEXTS, TEXTS)).to_numpy()
    here, there = P_R @ features, P_F @ features
    spread = (P_R @ (features - here) ** 2 + P_F @ (features - there) ** 2) / 2
    np.testing.assert_allclose(
        table["smd_unweighted"], (here - there) / np.sqrt(spread), atol=1e-12
    )
    typical = report.typicality["target policy"]
    assert typical is not None
    # surprisal a word: go 2.3, please go .80, please go now .40, stop .92: typical are all but go
    assert (typical.coverage, typical.mass) == (pytest.approx(0.6), pytest.approx(0.9))


def test_swapped_log_probs_are_caught_and_the_fitted_verdict_is_left_alone() -> None:
    log = MILD.draw(1000, np.random.default_rng(1))
    arguments = swapped(log.fit_arguments())
    arguments["X_target"] = arguments["X_target"].X  # without log-probs the bridge test is blind
    est = IPW().fit(log.X, log.y, **arguments)
    before = est.result_.verdicts
    report = est.diagnose()
    assert est.result_.verdicts == before
    reason = report.verdicts[0].reasons[-1]
    assert "does not look like the policy's own texts" in reason
    assert "does not look like" not in str(before[0])
    assert report.verdict.level != "trustworthy"
    assert report.balance["target policy"].p_value == 1e-4
    assert report.to_frame()["verdict"].tolist() == [report.verdicts[0].level]


def test_a_trusted_estimate_becomes_caution_when_its_features_do_not_balance() -> None:
    """A column in which the draws differ for no reason that the log-probs give."""
    log = MILD.draw(1000, np.random.default_rng(2))
    arguments = log.fit_arguments()
    draws = log.X_target.X.copy()
    assert IPW().fit(log.X, log.y, **arguments).diagnose().verdict.level == "trustworthy"
    draws[:, 0] += 0.4
    arguments["X_target"] = replace(log.X_target, X=draws)
    est = IPW().fit(log.X, log.y, **arguments)
    assert est.result_.verdicts[0].level == "trustworthy"
    assert est.diagnose().verdict.level == "caution"


@pytest.mark.statistical
@pytest.mark.parametrize("shift, n", [(0.5, 1000), (2.0, 500)])
def test_sound_logs_are_not_accused(shift: float, n: int) -> None:
    rng = np.random.default_rng(3)
    design = GaussianDesign("linear", shift=shift)
    found = []
    for _ in range(60):
        log = design.draw(n, rng)
        summary = IPW().fit(log.X, log.y, **log.fit_arguments()).diagnose().balance
        found.append(summary["target policy"].p_value)
    assert min(found) > 0.001


def test_a_rare_word_that_few_rows_cannot_hold_is_no_imbalance() -> None:
    """2 % of 2,000 draws hold a word; that none of 100 texts does is chance (.13)."""
    logged, drawn = np.zeros((100, 1)), (np.arange(2000) % 50 == 0).astype(float)[:, None]
    z = balance(logged, drawn, np.zeros(100))["z"][0]
    assert -1.5 < z < -1.3  # -.02 / sqrt(.0196 / 100 + .0196 / 2000)
    often = balance(np.zeros((2000, 1)), drawn[:100], np.zeros(2000))["z"][0]
    assert -1.5 < often < 0
    missing = balance(np.zeros((1000, 1)), drawn, np.zeros(1000))["z"][0]
    assert missing < -3.5  # now 20 were due


def test_prompts_shared_by_log_and_draws() -> None:
    log = GaussianDesign("linear", shift=0.5, prompts=True).draw(500, np.random.default_rng(4))
    arguments = log.fit_arguments()
    found = DoublyRobust().fit(log.X, log.y, **arguments).diagnose().balance["target policy"]
    assert found is not None
    assert found.p_value > 0.001
    arguments |= {"groups": None, "X_target": replace(log.X_target, groups=None)}
    apart = DoublyRobust().fit(log.X, log.y, **arguments).diagnose().balance["target policy"]
    assert apart is not None
    shared, added = (t.table.set_index("feature")["se_weighted"] for t in (found, apart))
    assert shared["x0"] < 0.7 * added["x0"]  # the prompt's own feature cancels


# ------------------------------------------------------------------------------ kinds of X
def test_a_mixed_frame_gives_numbers_and_words() -> None:
    n = 300
    rng = np.random.default_rng(5)
    frame = pd.DataFrame(
        {
            "text": rng.choice(TEXTS, n, p=P_R),
            "age": rng.normal(40, 9, n),
            "old": rng.random(n) < 0.5,
        }
    )
    target = frame.sample(200, random_state=0)
    ell = dict(zip(TEXTS, np.log(P_F), strict=True)), dict(zip(TEXTS, np.log(P_R), strict=True))
    model = make_pipeline(
        ColumnTransformer(
            [("text", TfidfVectorizer(), "text"), ("numbers", StandardScaler(), ["age", "old"])]
        ),
        Ridge(),
    )
    est = DoublyRobust(model).fit(
        frame, rng.normal(size=n), logp_target=frame["text"].map(ell[0]),
        logp_logging=frame["text"].map(ell[1]), X_target=target,
    )  # fmt: skip
    report = est.diagnose()
    found = report.balance["target policy"]
    assert found is not None
    assert found.table["feature"].tolist()[:5] == [
        "age", "old", "characters", "words", "mean word length",
    ]  # fmt: skip
    assert found.p_value == 1e-4  # the "draws" are logged rows
    assert report.length_drift["target policy"] is not None
    assert "(TargetSample(logp_target=))" in report.details[0].sentence("typicality")


def test_wide_and_sparse_rows_show_the_columns_that_vary() -> None:
    rng = np.random.default_rng(6)
    X = rng.normal(size=(200, 130)) * np.linspace(0.1, 2, 130)
    draws = rng.normal(size=(150, 130)) * np.linspace(0.1, 2, 130)
    arguments = {"logp_target": -(X[:, 0] ** 2), "logp_logging": -(X[:, 0] ** 2)}
    tables = []
    for kind in (np.asarray, sparse.csr_matrix):
        report = IPW().fit(kind(X), X[:, 1], **arguments, X_target=kind(draws)).diagnose()
        found = report.balance["target policy"]
        assert found is not None
        assert "130 columns the 100 that vary most" in report.details[0].sentence("balance")
        assert set(found.table["feature"]) >= {f"x{j}" for j in range(60, 130)}
        tables.append(found.table)
    pd.testing.assert_frame_equal(*tables)


def test_columns_keep_their_names() -> None:
    log = MILD.draw(100, np.random.default_rng(7))
    frame = pd.DataFrame(log.X, columns=["tone", "topic", "age"])
    target = pd.DataFrame(log.X_target.X, columns=frame.columns)
    report = IPW().fit(frame, log.y, **log.log_probs, X_target=target).diagnose()
    assert report.balance["target policy"].table["feature"].tolist() == list(frame)


# ------------------------------------------------------------------------------ calibration
def test_calibration_under_the_target() -> None:
    """A linear model of a curved outcome: right on average where it was fitted, not where f is."""
    design = GaussianDesign("quadratic", shift=1.0)
    log = design.draw(3000, np.random.default_rng(8))
    est = DoublyRobust(LinearRegression()).fit(log.X, log.y, **log.fit_arguments())
    found = est.diagnose().calibration["target policy"]
    assert found is not None
    figures = est.result_.diagnostics[0]
    assert found.mean_residual == pytest.approx(figures["residual"])
    assert found.se_residual == pytest.approx(figures["residual_se"])
    assert found.p_value < 1e-3
    fitted = OutcomeRegression(LinearRegression()).fit(log.X, log.y, **log.fit_arguments())
    sentence = fitted.diagnose().details[0].sentence("calibration")
    assert "prefer the doubly robust value" in sentence
    assert "rows the model was fitted on" in sentence


def test_repeated_splits_and_given_predictions() -> None:
    log = MILD.draw(200, np.random.default_rng(9))
    arguments = log.fit_arguments()
    est = DoublyRobust(n_rep=2).fit(log.X, log.y, **arguments)
    assert est.diagnose().calibration["target policy"] is not None
    given = DoublyRobust().fit(
        log.X, log.y, **log.log_probs, q_logged=np.ones(200), q_target=np.ones(50)
    )
    report = given.diagnose()
    assert "given by the caller" in report.details[0].sentence("calibration")
    assert "without the draws" in report.details[0].sentence("balance")


# ------------------------------------------------------------------------------ what is missing
def test_every_missing_part_says_why() -> None:
    log = MILD.draw(100, np.random.default_rng(10))
    cases = {
        "logging policy": IPW().fit(log.X, log.y),
        "no draws": IPW().fit(log.X, log.y, **log.log_probs),
        "no log-probs": OutcomeRegression().fit(log.X, log.y, X_target=log.X_target.X),
    }
    said = {name: est.diagnose().details[0] for name, est in cases.items()}
    for name, detail in said.items():
        assert all(getattr(detail, part) is None for part in PARTS)
        for part in PARTS:
            assert detail.sentence(part).startswith("not available: "), (name, part)
    assert "nothing is re-weighted" in said["logging policy"].sentence("balance")
    assert "X_target" in said["no draws"].sentence("typicality")
    assert "no outcome model" in said["no draws"].sentence("calibration")
    assert "fits by construction" in said["no log-probs"].sentence("calibration")
    assert "no log-probs" in said["no log-probs"].sentence("length_drift")


def test_a_refusal_is_told_and_not_raised() -> None:
    texts = np.resize(np.array(["one two", "two three", "three one"], dtype=object), 12)
    arguments = {"logp_target": np.linspace(-3, -2, 12), "logp_logging": np.full(12, -2.5)}
    detail = IPW().fit(texts, np.arange(12.0), **arguments).diagnose().details[0]
    assert detail.sentence("length_drift").startswith("not available: length is 2 for every row")
    same = IPW().fit(texts, np.arange(12.0), **{**arguments, "logp_target": np.full(12, -3.0)})
    assert "is the same for every text" in same.diagnose().details[0].sentence("length_drift")


def test_texts_that_the_policy_never_writes() -> None:
    dead = np.where(TEXTS == "stop", -np.inf, np.log(P_F))
    detail = enumerated(np.array([5.0, 4, 3, 2]), logp_target=dead, X_target=None).diagnose()
    assert "at least four rows" in detail.details[0].sentence("length_drift")
    rng = np.random.default_rng(11)
    rows = np.resize(np.arange(4), 40)
    noisy = dead[rows] + rng.normal(-2, 0.1, 40)
    est = IPW().fit(TEXTS[rows], rows, logp_target=noisy, logp_logging=np.log(P_R)[rows])
    sentence = est.diagnose().details[0].sentence("length_drift")
    assert "(10 texts that the policy never writes" in sentence


def test_typicality_needs_log_probs_of_one_kind() -> None:
    """Rows that are equal in log and draws and scored differently (say with the wording)."""
    report = enumerated(logp_target=np.log(P_F) - 5, logp_logging=np.log(P_R) - 5).diagnose()
    assert "scored as different things" in report.details[0].sentence("typicality")
    assert report.balance["target policy"] is not None


def test_typicality_of_reweighted_draws() -> None:
    design = GaussianDesign("linear", shift=0.5, sampling_shift=0.25)
    log = design.draw(2000, np.random.default_rng(12))
    own = MILD.draw(2000, np.random.default_rng(13))
    found = [
        IPW().fit(x.X, x.y, **x.fit_arguments()).diagnose().typicality["target policy"]
        for x in (log, own)
    ]
    assert abs(found[0].coverage - found[1].coverage) < 3 * np.hypot(found[0].se, found[1].se)
    assert found[0].se > found[1].se * 0.9


# ------------------------------------------------------------------------------ the report
def test_report_in_words_and_as_json() -> None:
    report = enumerated().diagnose()
    text = str(report)
    for label in PARTS.values():
        assert f"  {label}: " in text
    data = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    policy = data["policies"][0]
    assert set(PARTS) < set(policy)
    assert policy["balance"]["table"][0]["feature"] == "characters"
    assert policy["calibration"] == {
        "sentence": "not available: this estimator has no outcome model."
    }
    assert set(policy["length_drift"]) >= {"slope", "exponent", "growth", "unit"}


def test_a_result_alone_has_no_details() -> None:
    est = enumerated()
    bare, full = TrustReport.of(est.result_), est.diagnose()
    assert bare.balance == {} == bare.calibration
    assert "Balance" not in str(bare)
    pd.testing.assert_frame_equal(bare.to_frame(), full.to_frame())
    assert "balance" not in bare.to_dict()["policies"][0]


def test_the_report_is_the_same_twice_and_after_pickling() -> None:
    est = enumerated()
    first = est.diagnose().to_dict()
    assert est.diagnose().to_dict() == first
    assert pickle.loads(pickle.dumps(est)).diagnose().to_dict() == first
    log = MILD.draw(50, np.random.default_rng(14))
    est.fit(log.X, log.y)
    assert est.diagnose().names == ("logging policy",)


def test_several_policies_each_with_their_draws() -> None:
    rng = np.random.default_rng(15)
    X = rng.normal(size=(400, 1))
    means = {"a": 0.3, "b": -0.3}
    logp = {name: -0.5 * (X[:, 0] - mu) ** 2 - 0.92 for name, mu in means.items()}
    draws = {name: rng.normal(mu, 1, (300, 1)) for name, mu in means.items()}
    draws["b"] += 1.0  # not what policy b writes
    report = (
        DoublyRobust(influence="drop")
        .fit(X, X[:, 0], logp_target=logp, logp_logging=-0.5 * X[:, 0] ** 2 - 0.92, X_target=draws)
        .diagnose()
    )
    assert list(report.balance) == ["a", "b"]
    p = {name: b.p_value for name, b in report.balance.items() if b is not None}
    assert p["a"] > 0.01 > 0.001 > p["b"]
    assert "does not look like" not in str(report.verdicts[0])
    assert "does not look like" in str(report.verdicts[1])


# ------------------------------------------------------------------------------ data
def test_shipped_experiment() -> None:
    """Randomised messages: everything balances; the word model fails where arms interact."""
    folder = shipped_data_dir()
    draws = pd.read_csv(folder / "text_experiment_draws.csv")
    log = load_text_experiment(folder)
    policies = list(log.logp_target)
    targets = {
        name: TargetSample(
            part["text"].to_numpy(object), logp_target=part["logp_target"].to_numpy(),
            logp_logging=part["logp_logging"].to_numpy(),
        )
        for name, part in draws.groupby("policy")
    }  # fmt: skip
    model = make_pipeline(TfidfVectorizer(), Ridge())
    est = DoublyRobust(model).fit(
        log.texts, log.outcome, logp_target=log.logp_target, logp_logging=log.logp_logging,
        X_target={name: targets[name] for name in policies},
    )  # fmt: skip
    report = est.diagnose()
    assert report.verdicts == est.result_.verdicts
    assert all(b is not None and b.p_value > 0.001 for b in report.balance.values())
    wrong = report.calibration["neighbours_and_easy"]
    assert wrong is not None
    assert wrong.p_value < 1e-6
    assert wrong.mean_residual > 2


@pytest.mark.real_data
def test_hong_kong_experiment(data_dir: Path) -> None:
    """Arms balance under the stated design; text log-probs are no log-probs of arms."""
    data = load_hong_kong(data_dir / "hong_kong_2019.csv")
    arms = list(data.design.arms)
    policies = hong_kong_policies(data.design)
    targets = {}
    for name, policy in policies.items():
        support, prob = policy.support()
        targets[name] = TargetSample(
            support[arms].astype(float), logp_target=np.log(prob),
            logp_logging=data.design.log_prob_arms(support), exact=True,
        )  # fmt: skip
    est = DoublyRobust(LinearRegression()).fit(
        data.arms[arms].astype(float), data.outcome, groups=data.groups,
        logp_target={name: p.log_prob(data.texts) for name, p in policies.items()},
        logp_logging=data.logp_logging, X_target=targets,
    )  # fmt: skip
    report = est.diagnose()
    assert report.verdicts == est.result_.verdicts
    for name, detail in zip(report.names, report.details, strict=True):
        assert detail.balance is not None, name
        assert detail.balance.p_value > 0.01
        assert detail.balance.table["feature"].tolist() == arms
        assert "scored as different things" in detail.sentence("typicality")
        assert detail.calibration is not None
