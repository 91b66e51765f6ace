"""The mix of prompts in draws and log: how often chance alone is taken for another mix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from causal_lm_opt._run.prompt_mix import Mix, homogeneity_p, mix_of, weights_to_clusters

REPLICATIONS = 400
Pair = tuple[Mix, Mix]


def asked(rng: np.random.Generator, n: int, share: Any) -> Any:
    return rng.choice(len(share), n, p=share).astype(str)


def test_with_many_rows_a_prompt_it_is_pearson_s_test() -> None:
    counts = np.array([[300, 500, 200], [210, 290, 100]])
    left, right = (mix_of(np.repeat(["a", "b", "c"], row)) for row in counts)
    wanted = stats.chi2_contingency(counts, correction=False).pvalue
    assert homogeneity_p(left, right) == pytest.approx(wanted, rel=0.02)


def test_the_design_effect_is_that_of_cluster_sums() -> None:
    rng = np.random.default_rng(0)
    prompts, groups = asked(rng, 500, [0.5, 0.3, 0.2]), rng.integers(0, 40, 500)
    share = np.array([(prompts == p).mean() for p in "012"])
    variances = [
        sum(((prompts[groups == g] == p) - share[int(p)]).sum() ** 2 for g in range(40)) / 500**2
        for p in "012"
    ]
    effect = float(np.sum(np.array(variances) / (share / 500)) / 2)
    found = mix_of(prompts, groups=groups)
    assert found.size == pytest.approx(500 / max(effect, 1.0))
    alone = mix_of(prompts, groups=np.arange(500))
    assert alone.size == pytest.approx(500)
    weights = rng.integers(1, 4, 500)
    repeated = mix_of(np.repeat(prompts, weights), groups=np.repeat(groups, weights))
    weighted = mix_of(prompts, weights, groups)
    assert weighted.size == pytest.approx(repeated.size)
    assert weighted.share == pytest.approx(repeated.share)


def sampled(rng: np.random.Generator) -> Pair:
    share = np.array([0.4, 0.3, 0.2, 0.1])
    return mix_of(asked(rng, 400, share)), mix_of(asked(rng, 150, share))


def few_each(rng: np.random.Generator) -> Pair:
    share = np.full(300, 1 / 300)
    return mix_of(asked(rng, 600, share)), mix_of(asked(rng, 40, share))


def fixed_draws(rng: np.random.Generator) -> Pair:
    share = np.full(20, 0.05)
    return mix_of(asked(rng, 400, share)), mix_of(np.resize(np.arange(20), 400).astype(str))


def readers(rng: np.random.Generator) -> Pair:
    """Each reader answers one prompt ten times: 40 readers say as much as 40 rows."""
    share = np.full(4, 0.25)
    of_reader = asked(rng, 40, share)
    logged = mix_of(np.repeat(of_reader, 10), groups=np.repeat(np.arange(40), 10))
    return logged, mix_of(asked(rng, 400, share))


@pytest.mark.parametrize("design", [sampled, few_each, fixed_draws, readers])
def test_one_mix_is_seldom_taken_for_two(design: Callable[[np.random.Generator], Pair]) -> None:
    """Rejections at .05 in 400 samples; the binomial bound at .0001 above is .093."""
    rng = np.random.default_rng(1)
    p = np.array([homogeneity_p(*design(rng)) for _ in range(REPLICATIONS)])
    assert (p < 0.05).mean() <= 0.093
    assert (p < 0.001).sum() <= 4


def test_readers_taken_for_rows_would_often_be() -> None:
    """The negative control: without clusters the same samples look different."""
    rng = np.random.default_rng(1)
    wrong = []
    for _ in range(100):
        logged, drawn = readers(rng)
        wrong.append(homogeneity_p(Mix(logged.share, 400.0), drawn) < 0.001)
    assert np.mean(wrong) > 0.3


def test_another_mix_is_seen() -> None:
    rng = np.random.default_rng(2)
    even, uneven = np.full(10, 0.1), np.arange(1, 11) / 55
    fixed = mix_of(np.resize(np.arange(10), 300).astype(str))
    assert homogeneity_p(mix_of(asked(rng, 400, uneven)), fixed) < 1e-6
    assert homogeneity_p(mix_of(asked(rng, 400, even)), fixed) > 0.05
    one = mix_of(["0"] * 300)
    assert homogeneity_p(mix_of(asked(rng, 400, even)), one) < 1e-6


def test_what_no_sample_could_tell_is_1() -> None:
    each = mix_of([f"a{i}" for i in range(50)])
    assert homogeneity_p(each, mix_of([f"b{i}" for i in range(50)])) == 1.0
    assert homogeneity_p(mix_of(["a", "b"]), mix_of(["a", "b"])) == 1.0


def test_draws_of_the_log_s_readers_count_as_the_log_s_rows() -> None:
    logged = np.repeat(np.array(["r1", "r2"], dtype=object), [30, 10])
    drawn = np.repeat(np.array(["r1", "r2", "r9"], dtype=object), 5)
    weight = weights_to_clusters(drawn, np.ones(15), logged, None)
    assert weight.tolist() == pytest.approx([6.0] * 5 + [2.0] * 5 + [0.0] * 5)
    others = np.full(3, "x", dtype=object)
    assert weights_to_clusters(others, np.ones(3), logged, None).tolist() == [1.0] * 3
