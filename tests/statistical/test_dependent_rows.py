"""Texts read by many, and prompts shared by log and draws.

Coverage that is claimed lies within 3.3 sqrt(.95 .05/B) of .95 (.032 for B = 500). With 100 texts
the interval's t has 99 degrees of freedom, and the skewness of 100 weighted texts costs up to .01
more (the full run: .947 to .952 with 50 texts). The ratio mean(se)/sd has a Monte-Carlo error of
1/sqrt(2 B) = 3.2 % (B = 500) and 2.4 % (B = 900); three of them and 2 % for few clusters.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from causal_lm_opt import IPW, DoublyRobust, ValueEstimate
from causal_lm_opt.simulation import GaussianDesign

pytestmark = pytest.mark.statistical


def band(replications: int) -> float:
    return 3.3 * math.sqrt(0.95 * 0.05 / replications)


def covers(result: ValueEstimate, truth: float) -> bool:
    low, high = result.confint()
    return bool(low <= truth <= high)


@pytest.mark.parametrize("name", ["Hajek", "DR"])
def test_twenty_readers_a_text_are_clustered(name: str) -> None:
    """The text is the unit for a value over texts to come; rows are 20 copies of it."""
    design = GaussianDesign("linear", shift=0.3, readers=20, draws_per_row=2.0)
    n, reps, truth = 2000, 500 if name == "Hajek" else 300, design.value()
    make: dict[str, Any] = {
        "Hajek": IPW(),
        "DR": DoublyRobust(LinearRegression(), inference="influence"),
    }
    clustered, ignoring = np.zeros((2, reps))
    values, errors = np.empty((2, reps))
    for b in range(reps):
        log = design.draw(n, np.random.default_rng([31, b]))
        given = log.fit_arguments()
        result = make[name].fit(log.X, log.y, **given).result_
        values[b], errors[b] = result.value, result.se
        clustered[b] = covers(result, truth)
        # The same estimate and influence function, its rows taken as independent.
        rows = tuple(replace(s, codes=None, n_clusters=0) for s in result.samples)
        ignoring[b] = covers(replace(result, samples=rows), truth)
    assert abs(clustered.mean() - 0.95) <= band(reps) + 0.01
    assert abs(errors.mean() / values.std(ddof=1) - 1) <= 3 / math.sqrt(2 * reps) + 0.02
    assert ignoring.mean() < {"Hajek": 0.6, "DR": 0.85}[name]


def test_readers_of_the_logged_texts_are_another_target() -> None:
    """The mean over the logged texts, reweighted: only readers vary, so rows are the units.

    Row-wise errors also count the texts' spread among themselves, which this target does not have:
    they cover at least 95 %. Clustered errors are for the other target, and far too wide here.
    """
    shift, readers, texts, reps = 0.3, 20, 100, 400
    rng = np.random.default_rng(32)
    x, effect = rng.normal(size=(reps, texts)), 0.5 * rng.normal(size=(reps, texts))
    g = 1.0 + x + effect
    density = -0.5 * np.stack([x - shift, x]) ** 2 - 0.919  # target, logger
    w = np.exp(density[0] - density[1])
    truth = (w * g).sum(axis=1) / w.sum(axis=1)
    inside, width = np.zeros((2, reps)), np.zeros((2, reps))
    for b in range(reps):
        y = np.repeat(g[b], readers) + rng.normal(size=texts * readers)
        X = np.repeat(x[b], readers)[:, None]
        target, logging = np.repeat(density[:, b], readers, axis=1)
        for j, groups in enumerate([None, np.repeat(np.arange(texts), readers)]):
            est = IPW().fit(X, y, logp_target=target, logp_logging=logging, groups=groups)
            inside[j, b] = covers(est.result_, truth[b])
            width[j, b] = np.diff(est.result_.confint())[0]
    assert inside[0].mean() >= 0.95 - band(reps)
    assert inside[1].mean() == 1.0
    assert width[1].mean() > 2 * width[0].mean()


def test_shared_prompts_are_one_sample() -> None:
    """A prompt's residuals and its draws' predictions move together where q misses half of it.

    Prompts have N(0, 1) effects; q = 1 + c/2 + x_2 + x_3. Per prompt w (y - q) holds c/2 and
    the predictions hold c/2: one sample's variance is that of their sum, (1/2 + 1/2)^2 = 1, and
    adding the two as if independent gives 1/4 + 1/4.
    """
    design = GaussianDesign("linear", shift=0.5, prompts=True)
    n, reps, truth = 1000, 900, design.value()
    half = np.array([0.5, 1.0, 1.0])
    one, two = np.zeros((2, reps))
    values, se_one, se_two = np.empty((3, reps))
    for b in range(reps):
        log = design.draw(n, np.random.default_rng([33, b]))
        q = {
            "q_logged": 1 + log.X @ half,
            "q_target": 1 + np.asarray(log.X_target.X) @ half,
        }
        result = DoublyRobust().fit(log.X, log.y, **log.fit_arguments(), **q).result_
        apart = tuple(replace(s, cluster_key=s.key) for s in result.samples)
        added = replace(result, samples=apart)
        values[b], se_one[b], se_two[b] = result.value, result.se, added.se
        one[b], two[b] = covers(result, truth), covers(added, truth)
    spread = values.std(ddof=1)
    assert abs(one.mean() - 0.95) <= band(reps)
    assert abs(se_one.mean() / spread - 1) <= 3 / math.sqrt(2 * reps)
    assert two.mean() < 0.95 - 1.5 * band(reps)
    assert se_two.mean() / spread < 0.9
