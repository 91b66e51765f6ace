"""Skewness is that of the independent units: few clusters with large outcomes make one."""

from __future__ import annotations

import numpy as np
import pytest

from causal_lm_opt import IPW


@pytest.mark.parametrize("weighted", [False, True])
def test_few_extreme_clusters_are_no_trustworthy_mean(weighted: bool) -> None:
    """One prompt in 33 is 10 higher: rows look symmetric enough, 40 prompts do not."""
    levels = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        prompt = np.repeat(np.arange(40), 20)
        y = 10.0 * (rng.random(40) < 0.03)[prompt] + rng.normal(size=800)
        if np.ptp(np.bincount(prompt, weights=y)) < 100:  # none of these 40 was one
            continue
        given = {"logp_target": np.zeros(800), "logp_logging": np.zeros(800)} if weighted else {}
        found = IPW().fit(np.zeros((800, 1)), y, groups=prompt, **given).result_
        levels.append(found.verdicts[0].level)
    assert len(levels) > 20
    assert "trustworthy" not in levels


def test_even_clusters_are() -> None:
    rng = np.random.default_rng(0)
    prompt = np.repeat(np.arange(40), 20)
    y = rng.normal(size=40)[prompt] + rng.normal(size=800)
    assert (
        IPW().fit(np.zeros((800, 1)), y, groups=prompt).result_.verdicts[0].level == "trustworthy"
    )
