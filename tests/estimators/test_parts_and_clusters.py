"""Verdicts of clustered logs rest on clusters, and those of subgroups on the whole log too.

Skewness is that of the independent units: few clusters with large outcomes make one.
"""

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


def test_what_the_whole_log_says_of_its_log_probs_its_parts_say_too() -> None:
    """Logarithms to base 2: weights of 100 rows may average 1.2 by chance, of 2,000 not."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=2000)
    y, by = x + rng.normal(size=2000), np.arange(2000) % 20
    target, logging = -((x - 0.7) ** 2) / 2, -(x**2) / 2
    for base, level in ((2.0, "do not use"), (np.e, "caution")):
        scale = 1 / np.log(base)
        found = IPW().fit(
            x[:, None], y, by=by, logp_target=scale * target, logp_logging=scale * logging
        )
        assert found.result_.verdicts[0].level == level
        if level == "do not use":
            assert {v.level for v in found.result_by_.verdicts} == {level}
        told = [r for v in found.result_by_.verdicts for r in v.reasons if "Over all readers" in r]
        assert len(told) == (20 if level == "do not use" else 0)
