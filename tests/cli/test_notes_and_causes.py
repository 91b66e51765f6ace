"""What a report says besides its values: where width comes from, and causes before effects."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from causal_lm_opt import LoggedData
from causal_lm_opt._evaluate import evaluate_log
from causal_lm_opt._evaluation import Evaluation, Settings
from causal_lm_opt._run.draws_prompts import cautioned
from causal_lm_opt._run.preference_findings import _monotone, _weights
from causal_lm_opt._run.study_report import study_files
from causal_lm_opt.estimators import TargetSample
from causal_lm_opt.estimators._named_models import named_outcome_model
from causal_lm_opt.simulation import GaussianDesign, run_study
from causal_lm_opt.simulation.preference_tables import t_interval

LINE = "variance of the differences from the logging policy comes from the draws"


def evaluation(draws: int) -> Evaluation:
    rng = np.random.default_rng(0)
    words = np.array(["good", "bad", "so", "very"])
    at, drawn = rng.integers(0, 4, (600, 2)), rng.integers(0, 4, (draws, 2))
    log = LoggedData(
        text=[" ".join(w) for w in words[at]],
        outcome=(at == 0).sum(axis=1) + rng.normal(size=600),
        logp_logging=np.full(600, 2 * np.log(0.25)),
        logp_target=pd.DataFrame({"same": np.full(600, 2 * np.log(0.25))}),
    )
    target = {"same": TargetSample([" ".join(w) for w in words[drawn]])}
    return evaluate_log(log, target, settings=Settings(figures=False),
                        model=named_outcome_model("tfidf-ridge"))  # fmt: skip


@pytest.mark.parametrize(("draws", "told"), [(100, True), (20_000, False)])
def test_differences_that_draws_make_wide_say_so(draws: int, told: bool) -> None:
    notes = [note for note in evaluation(draws).parts[0].notes if LINE in note]
    assert bool(notes) == told
    assert all("more draws would narrow them" in note for note in notes)


def test_a_cause_comes_before_what_it_brought_about() -> None:
    given = evaluation(500)
    part = given.parts[0]
    worse = replace(part, rows=tuple(replace(r, reasons=("one", "two")) for r in part.rows))
    given = replace(given, parts=(worse,))
    for cause, where in ((True, 0), (False, -1)):
        rows = cautioned(given, {"same": "why"}, ratio=True, cause=cause).parts[0].rows
        assert {r.reasons[where] for r in rows if r.policy == "same"} == {"why"}
        assert {r.reasons for r in rows if r.policy != "same"} == {("one", "two")}


def test_findings_on_preference_rewards_say_what_two_steps_can() -> None:
    assert _monotone([0.7, 0.6]) == "the mean falls"
    assert _monotone([0.6, 0.7]) == "the mean does not fall"
    assert _monotone([0.7, 0.6, 0.5]) == "the mean falls at every step"
    results = pd.DataFrame({"model": ["x"], "rho": [0.0], "weights_ess": [9.0]})
    assert _weights(results, pd.DataFrame({"model": []})) == []
    low, high = t_interval([0.6, 1.0])
    assert low < 0 < 1 < high  # which the table of accuracies cuts


def test_a_study_s_table_begins_with_its_reading_and_keeps_long_descriptions() -> None:
    from causal_lm_opt import IPW, Clip

    designs = {"a design": GaussianDesign(shift=0.3, draws_per_row=2.0)}
    done = run_study(designs, {"H": IPW(Clip(5.0))}, sizes=[50], replications=5, progress=False)
    page = study_files(done)["report.md"]
    assert page.index("Reading") < page.index("Coverage") < page.index("Trustworthy")
    assert repr(designs["a design"]).split("\n")[0][:60] in page.replace("\\", "")
    assert "of their bias" in page
