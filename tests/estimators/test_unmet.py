"""What a policy combines and the log never does, in the verdicts of what extrapolates to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from causal_lm_opt.estimators import (
    IPW,
    DensityRatio,
    DoublyRobust,
    OutcomeRegression,
    TargetSample,
    tfidf_features,
)

WORDS = np.array(["brave", "evil", "kind"])


def arms(rng: np.random.Generator, n: int, together: float) -> np.ndarray:
    """Three arms (n, 3); a share of the rows has the first two, all others never both."""
    x = (rng.random((n, 3)) < 0.4).astype(float)
    both = np.arange(n) < together * n
    x[~both & (x[:, 0] * x[:, 1] > 0), 1] = 0.0
    x[both, :2] = 1.0
    return x


def texts(x: np.ndarray) -> np.ndarray:
    return np.array(["We say " + " ".join(WORDS[row > 0]) + "." for row in x], dtype=object)


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = arms(rng, 600, 0.0)
    return x, x.sum(axis=1) + rng.normal(size=600), arms(rng, 400, 0.2)


def reasons(est: Any) -> tuple[str, str]:
    verdict = est.result_.verdicts[0]
    return verdict.level, " ".join(verdict.reasons)


@pytest.mark.parametrize("estimator", [
    IPW(ratio=DensityRatio(cv=None), n_bootstrap=20),
    DoublyRobust(LinearRegression(), ratio=DensityRatio(cv=None), n_bootstrap=20),
    OutcomeRegression(LinearRegression()),
], ids=["ipw", "dr", "or"])  # fmt: skip
def test_features(estimator: Any, data: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    x, y, drawn = data
    level, said = reasons(estimator.fit(x, y, X_target=drawn))
    assert level == "do not use"
    assert "20% of the policy's texts combine what no logged one does" in said
    assert "0 with" in said
    drawn = drawn[drawn[:, 0] * drawn[:, 1] == 0]
    assert "combine" not in reasons(estimator.fit(x, y, X_target=drawn))[1]


def test_words(data: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    x, y, drawn = data
    model = tfidf_features(n_components=2)
    for given in (texts(drawn), TargetSample(texts(drawn))):
        est = OutcomeRegression(_piped(model)).fit(texts(x), y, X_target=given)
        assert "20% of the policy's texts combine" in reasons(est)[1]
        assert "'brave' with 'evil'" in reasons(est)[1]
    met = np.vstack([x, [[1.0, 1.0, 0.0]]])
    est = OutcomeRegression(_piped(model)).fit(texts(met), np.append(y, 0.0), X_target=texts(drawn))
    assert "combine" not in reasons(est)[1]


def test_texts_without_a_word_are_no_error() -> None:
    signs = np.array(["!!", "??", "!?", "?!"] * 10, dtype=object)
    est = OutcomeRegression(_Constant()).fit(signs, np.arange(40.0), X_target=signs[:10])
    assert "combine" not in reasons(est)[1]


def _piped(model: Any) -> Any:
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline

    return make_pipeline(model, Ridge())


class _Constant(LinearRegression):
    """Reads nothing of the texts."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> _Constant:
        self.mean_ = float(np.mean(y))
        return self

    def predict(self, X: Any) -> Any:
        return np.full(len(X), self.mean_)


def test_a_relation_that_the_policy_breaks_is_named() -> None:
    """One of three openings in every logged row; 6 % of the draws have none."""
    rng = np.random.default_rng(1)
    x = np.eye(3)[rng.integers(3, size=600)]
    drawn = np.eye(3)[rng.choice(3, size=500, p=[0.5, 0.3, 0.2])]
    drawn[:30] = 0.0
    y = x @ [1.0, 2.0, 3.0] + rng.normal(size=600)
    whole = DoublyRobust(LinearRegression(), ratio=DensityRatio()).fit(x, y, X_target=drawn)
    verdict = whole.result_.verdicts[0]
    assert verdict.level == "do not use"
    assert verdict.reasons[0].startswith("6.0% of the policy's texts break what every logged row")
    assert "(feature 0 + feature 1 + feature 2 = 1)" in verdict.reasons[0]
    fewer = DoublyRobust(LinearRegression(), ratio=DensityRatio())
    fewer.fit(x[:, 1:], y, X_target=drawn[:, 1:])
    assert fewer.result_.verdicts[0].level == "caution"
