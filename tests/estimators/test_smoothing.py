"""The bias that a ratio's penalty or folds bring to a weighted mean, and its interval."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.pipeline import make_pipeline

from causal_lm_opt import IPW, DensityRatio
from causal_lm_opt.estimators import TargetSample

WORDS = np.array([f"w{i}" for i in range(12)])
EFFECT = np.linspace(-1.0, 1.0, 12)
TILTED = np.exp(0.5 * EFFECT) / np.exp(0.5 * EFFECT).sum()


def world(n_clusters: int, noise: float = 0.0) -> tuple[dict[str, Any], np.ndarray]:
    """A log of 300 texts of three words with outcomes additive in them, and the draws' outcomes."""
    rng = np.random.default_rng(4)
    at, drawn = rng.integers(0, 12, (300, 3)), rng.choice(12, (300, 3), p=TILTED)
    groups = np.arange(300) % n_clusters
    data = {
        "X": [" ".join(w) for w in WORDS[at]],
        "y": EFFECT[at].sum(axis=1) + noise * rng.normal(size=300),
        "groups": groups,
        "X_target": TargetSample([" ".join(w) for w in WORDS[drawn]], groups=groups),
        "sample_weight": rng.integers(1, 3, 300).astype(float),
    }
    return data, EFFECT[drawn].sum(axis=1)


@pytest.mark.parametrize("weights", ["hajek", "ht"])
@pytest.mark.parametrize("kind", ["words", "own classifier", "latent"])
def test_of_outcomes_that_are_known_the_bias_is_known(weights: str, kind: str) -> None:
    """Without noise the regression is exact: the bound is what the value is off by."""
    data, drawn = world(n_clusters=30)
    forest = RandomForestClassifier(10, min_samples_leaf=30, random_state=0)
    ratio = {
        "words": DensityRatio(),
        "own classifier": DensityRatio(make_pipeline(CountVectorizer(), forest), cv=2),
        "latent": DensityRatio(forest, latent=CountVectorizer(), cv=2),
    }[kind]
    by = np.arange(300) % 2
    est = IPW(weights, ratio=ratio, n_bootstrap=20).fit(**data, by=by)
    mean = np.average(drawn, weights=est.ratio_[0].samples_.target_weight)  # the log's clusters
    off = mean - np.append(est.value_, est.result_by_.values)
    found = np.append(est.result_.bias_bound, est.result_by_.bias_bound)
    np.testing.assert_allclose(found, np.abs(off), atol=1e-3)
    assert found[0] > 0.02
    low, high = est.result_.confint()
    assert low < mean < high
    told = any("penalty or folds" in reason for reason in est.result_.verdicts[0].reasons)
    assert told == (kind != "words")  # whose bias is a part of the standard error
    assert any("smoothing bias" in note for note in est.result_.notes)


def test_an_unpenalised_ratio_has_no_such_bias() -> None:
    data, _ = world(n_clusters=150, noise=1.0)
    est = IPW(ratio=DensityRatio()).fit(**data)
    assert est.ratio_[0].influence_ is not None
    assert est.result_.bias_bound == 0.0
