"""Texts that depend on the subgroup: estimated ratios and outcome regression are told of it too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from causal_lm_opt import IPW, DensityRatio, LoggedData
from causal_lm_opt._evaluate import _reads_subgroup, evaluate_log
from causal_lm_opt._evaluation import Settings, Study
from causal_lm_opt.estimators import TargetSample
from causal_lm_opt.estimators._named_models import named_outcome_model
from causal_lm_opt.estimators._named_ratios import named_ratio

WORDS = np.array(["walk", "swim", "run", "sleep", "eat", "read"])
LAWS = {"young": np.array([6, 5, 4, 3, 2, 1]) / 21, "old": np.array([1, 2, 3, 4, 5, 6]) / 21}
SAID = "which texts they got depends on the subgroup (by=, --by)"


def world(confounded: bool, seed: int = 0, n: int = 1200) -> tuple[pd.DataFrame, list[str]]:
    """Readers of two ages, whose outcomes differ; the policy writes as the young are written to."""
    rng = np.random.default_rng([21, seed])
    age = rng.choice(["young", "old"], n)
    even = (LAWS["young"] + LAWS["old"]) / 2
    at = np.array([rng.choice(6, 2, p=LAWS[a] if confounded else even) for a in age])
    y = at.sum(axis=1) + 5.0 * (age == "old") + rng.normal(size=n)
    drawn = rng.choice(6, (n, 2), p=LAWS["young"])
    text, draws = ([" ".join(w) for w in WORDS[x]] for x in (at, drawn))
    return pd.DataFrame({"text": text, "y": y, "age": age}), draws


@pytest.mark.statistical
@pytest.mark.parametrize(("confounded", "told"), [(True, 1.0), (False, 0.0)])
def test_weights_of_an_estimated_ratio_average_1_in_subgroups_or_say_so(
    confounded: bool, told: float
) -> None:
    found = []
    for seed in range(20):
        log, draws = world(confounded, seed)
        est = IPW(ratio=DensityRatio()).fit(
            log["text"].tolist(), log["y"], X_target={"f": draws}, by=log["age"]
        )
        for verdict in (*est.result_.verdicts, *est.result_by_.verdicts):
            found.append(any(SAID in reason for reason in verdict.reasons))
            assert not found[-1] or verdict.level == "do not use"
    assert np.mean(found) == told


def test_outcome_regression_knows_what_the_weights_know() -> None:
    log, draws = world(True)
    found = evaluate_log(
        LoggedData(text=log["text"].tolist(), outcome=log["y"], by=log["age"]),
        {"f": TargetSample(draws)},
        settings=Settings(figures=False),
        model=named_outcome_model("tfidf-ridge"),
        ratio=named_ratio("classifier", [*log["text"], *draws], units=len(log)),
    )
    rows = [r for r in found.parts[0].rows if r.estimator == "or" and r.policy == "f"]
    assert rows
    assert all(r.verdict == "do not use" for r in rows)
    assert all(any(SAID in why for why in r.reasons) for r in rows)
    apart = [c for c in found.parts[0].contrasts if c.estimator == "or"]
    assert all(c.verdict == "do not use" for c in apart)


@pytest.mark.parametrize(
    ("X", "reads"),
    [
        (pd.DataFrame({"text": ["a", "b", "a", "c"], "years": [20.0, 60.0, 21.0, 70.0]}), True),
        (pd.DataFrame({"text": ["a", "b", "a", "c"], "height": [1.7, 1.7, 1.8, 1.6]}), False),
        (["a", "b", "a", "c"], False),
    ],
)
def test_a_model_that_reads_the_subgroup_is_let_be(X: Any, reads: bool) -> None:
    study = Study(X, np.zeros(4), {"by": ["young", "old", "young", "old"]})
    assert _reads_subgroup(study) == reads
