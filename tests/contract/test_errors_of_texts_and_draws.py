"""Bad texts and bad draws: one error that names the argument and says what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from causal_lm_opt import DoublyRobust, OutcomeRegression, StatsmodelsGLM, TargetSample

TEXT_MODEL = make_pipeline(TfidfVectorizer(), Ridge())
Fit = Callable[..., Any]


def spoilt(a: Any, value: float, row: int = 3) -> Any:
    out = np.array(a, dtype=float)
    out[row] = value
    return out


@pytest.mark.parametrize("cls", [OutcomeRegression, DoublyRobust])
@pytest.mark.parametrize("model", [None, Ridge(), StatsmodelsGLM()], ids=str)
def test_texts_need_a_text_pipeline(experiment, cls, model):
    e = experiment
    arguments = {**e.arguments(cls), "X_target": e.text_draws}
    match = "^outcome_model .* takes numbers but X holds texts: use a text pipeline"
    with pytest.raises(ValueError, match=match):
        cls(model).fit(e.texts, e.y, **arguments)
    with pytest.raises(ValueError, match=match):  # without a target policy too
        cls(model).fit(e.texts, e.y, sample_weight=np.resize([1, 2], 120))
    frame = pd.DataFrame({"text": list(e.texts), "mood": e.X[:, 0]})
    with pytest.raises(ValueError, match="ColumnTransformer for a frame with a text column"):
        cls(model).fit(frame, e.y)


def test_one_string_is_no_list_of_texts(kind, experiment):
    e = experiment
    with pytest.raises(TypeError, match=r"^X is one string; pass a list of texts"):
        kind().fit("close the roads", e.y)
    with pytest.raises(TypeError, match=r"^X\[1\] is 1.0 where a text"):
        kind().fit(["close the roads", 1.0], [1.0, 2.0])
    with pytest.raises(TypeError, match=r"^X\[1\] is None where a text"):
        kind().fit(["close the roads", None], [1.0, 2.0])


@pytest.mark.parametrize("cls", [OutcomeRegression, DoublyRobust])
def test_draws_unlike_the_log(experiment, cls):
    e = experiment
    numbers, texts = cls().fit, cls(TEXT_MODEL, n_bootstrap=20).fit

    def raises(match: str, fit: Fit, X: Any, draws: Any, error: type = ValueError) -> None:
        with pytest.raises(error, match=match):
            fit(X, e.y, **{**e.arguments(cls), "X_target": draws})

    raises("^X_target is numeric but the estimator was fitted on texts", texts, e.texts, e.draws[0])
    raises("^X_target holds texts but .* numeric array", numbers, e.X, e.text_draws)
    raises("^X_target does not match the logged X: X has 2 features", numbers, e.X, e.X[:, :2])
    raises("^X_target does not match.*NaN", numbers, e.X, spoilt(e.draws[0], np.nan))
    raises("^X_target does not match.*infinity", numbers, e.X, spoilt(e.draws[0], np.inf))
    raises("^X_target is empty", numbers, e.X, e.draws[0][:0])
    raises("^X_target is empty", texts, e.texts, [])
    raises("^X_target is one string", texts, e.texts, "close the roads", TypeError)
    raises(r"^X_target\['target policy'\] is one string", texts, e.texts,
           {"target policy": "close the roads"}, TypeError)  # fmt: skip


@pytest.mark.parametrize(
    "sample, match",
    [
        ({"weight": np.ones(39)}, r"^X_target.weight must have shape \(40,\)"),
        ({"weight": -np.ones(40)}, "^X_target.weight must be non-negative"),
        ({"weight": np.full(40, 0.025)}, "^X_target.weight sums to 1: they are frequencies"),
        ({"weight": np.ones(40), "exact": True}, "^X_target: the probabilities .* sum to 40"),
        ({"exact": True}, "^X_target: exact=True needs the support's probabilities"),
        ({"logp_sampling": -np.ones(40)}, "^X_target: logp_sampling was given without logp_target"),
        ({"logp_target": np.ones(40)}, "^X_target.logp_target is positive"),
        ({"logp_target": -np.ones(40), "logp_sampling": np.full(40, np.nan)},
         "^X_target.logp_sampling has 40 NaN"),
        ({"groups": np.zeros(40) - 5}, "^X_target.groups holds one distinct label"),
        ({"groups": np.arange(39)}, r"^X_target.groups must have shape \(40,\)"),
    ],
)  # fmt: skip
def test_target_samples(robust, experiment, sample, match):
    with pytest.raises(ValueError, match=match):
        robust(X_target=TargetSample(experiment.draws[0], **sample))


def test_predict_on_other_rows(experiment):
    e = experiment
    numbers = DoublyRobust().fit(e.X, e.y)
    with pytest.raises(ValueError, match=r"^X holds texts but the estimator was fitted on a num"):
        numbers.predict(e.texts)
    with pytest.raises(ValueError, match="X has 2 features"):
        numbers.predict(e.X[:, :2])
    words = DoublyRobust(TEXT_MODEL).fit(e.texts, e.y)
    with pytest.raises(ValueError, match=r"^X is numeric but the estimator was fitted on texts"):
        words.predict(e.X)
    # a refit on texts forgets that the first fit saw numbers
    numbers.set_params(outcome_model=TEXT_MODEL).fit(e.texts, e.y)
    assert numbers.predict(e.texts[:5]).shape == (5,)


def test_a_frame_for_a_text_pipeline_is_one_clear_error() -> None:
    frame = pd.DataFrame({"text": ["a b", "b c"] * 20})
    model = make_pipeline(TfidfVectorizer(), Ridge())
    for estimator in (DoublyRobust(model), OutcomeRegression(model)):
        with pytest.raises(ValueError, match=r"X is a frame .*'text'.*ColumnTransformer"):
            estimator.fit(frame, np.arange(40.0))
