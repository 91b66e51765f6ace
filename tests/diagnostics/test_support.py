"""Support checks on tokens whose law is known: exact under right sampling, loud under wrong.

Each token has its own distribution over 60 words (random logits and sharpness). Statistical
tolerances: 4 Monte-Carlo errors of a rate or a mean.
"""

from __future__ import annotations

import math
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from causal_lm_opt.diagnostics.support import (
    probability_hint,
    temperature_check,
    top_k_check,
    top_p_check,
)

WORDS = 60


def scored_tokens(
    rng: np.random.Generator,
    n: int,
    *,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int = WORDS,
) -> dict[str, Any]:
    """Tokens drawn by a sampler with these settings, with their figures under temperature 1."""
    logits = rng.standard_normal((n, WORDS)) * rng.uniform(0.5, 3.0, (n, 1))
    logp = -np.sort(-special.log_softmax(logits, axis=1), axis=1)  # column = rank - 1
    p = np.exp(logp)
    above = np.cumsum(p, axis=1) - p
    law = special.softmax(logp / temperature, axis=1)
    law = np.where((np.cumsum(law, axis=1) - law < top_p) & (np.arange(WORDS) < top_k), law, 0.0)
    law /= law.sum(axis=1, keepdims=True)
    column = (np.cumsum(law, axis=1) < rng.random((n, 1)) * (1 - 1e-12)).sum(axis=1)
    rows = np.arange(n)
    entropy = -(p * logp).sum(axis=1)
    return {
        "rank": column + 1,
        "logp": logp[rows, column],
        "above": np.clip(above[rows, column], 0, 1),
        "p": p[rows, column],
        "entropy": entropy,
        "variance": (p * logp**2).sum(axis=1) - entropy**2,
        "beyond": lambda k: np.clip(1 - p[:, :k].sum(axis=1), 0, 1),
    }


def pit(rng: np.random.Generator, t: dict[str, Any]) -> Any:
    return top_p_check(t["above"], t["p"], rng.random(t["p"].shape[0]))


# ------------------------------------------------------------------------------ top-p
@pytest.mark.statistical
def test_pit_is_uniform_under_right_sampling() -> None:
    rng = np.random.default_rng(0)
    found = [pit(rng, scored_tokens(rng, 300)) for _ in range(300)]
    below = np.mean([f.p_value <= 0.05 for f in found])
    assert below < 0.05 + 4 * math.sqrt(0.05 * 0.95 / 300)  # Bonferroni: level at most
    assert max(f.severity for f in found) == 0
    assert abs(np.mean([f.figures["mean"] for f in found]) - 0.5) < 4 / math.sqrt(12 * 90_000)


@pytest.mark.statistical
@pytest.mark.parametrize("p", [0.8, 0.9, 0.95])
def test_top_p_is_found_and_read_off(p: float) -> None:
    rng = np.random.default_rng(1)
    found = pit(rng, scored_tokens(rng, 3000, top_p=p))
    assert found.severity == 2
    assert found.p_value < 1e-6
    assert p - 0.02 < found.estimate < p
    assert "cut or sharpened" in found.sentence


@pytest.mark.statistical
def test_pit_sees_temperature_and_another_model_too() -> None:
    rng = np.random.default_rng(2)
    cold, hot = (scored_tokens(rng, 3000, temperature=t) for t in (0.8, 1.3))
    for tokens, side in ((cold, -1), (hot, 1)):
        found = pit(rng, tokens)
        assert found.severity == 2
        assert (found.figures["mean"] - 0.5) * side > 0
    assert "less likely" in pit(rng, hot).sentence


def test_pit_formula_and_small_deviations_of_large_logs() -> None:
    u = np.random.default_rng(3).random(200)
    found = top_p_check(np.zeros(200), np.ones(200), u)
    assert found.statistic == pytest.approx(stats.kstest(u, "uniform").statistic)
    assert found.figures["beyond_0.9"] == np.mean(u > 0.9)
    tilted = (np.arange(200_000) + 0.5) / 200_000
    tilted = tilted - 0.03 * tilted * (1 - tilted)  # distance .0075: real, and harmless
    small = top_p_check(np.zeros(200_000), np.ones(200_000), tilted)
    assert small.p_value < 0.001
    assert (small.severity, "likelier" in small.sentence) == (1, True)


# ------------------------------------------------------------------------------ temperature
@pytest.mark.statistical
def test_temperature_one_is_not_rejected_and_z_is_normal() -> None:
    rng = np.random.default_rng(4)
    z = []
    for _ in range(300):
        t = scored_tokens(rng, 400)
        z.append(temperature_check(t["logp"], t["entropy"]).statistic)
    assert abs(np.mean(z)) < 4 / math.sqrt(300) + 0.1  # surprisal is skewed
    assert abs(np.std(z) - 1) < 4 / math.sqrt(600) + 0.02


@pytest.mark.statistical
@pytest.mark.parametrize("temperature", [0.5, 0.7, 0.9, 1.2, 1.5])
def test_temperature_is_found_with_sign_and_size(temperature: float) -> None:
    rng = np.random.default_rng(5)
    t = scored_tokens(rng, 6000, temperature=temperature)
    found = temperature_check(t["logp"], t["entropy"], variance=t["variance"])
    assert found.severity == 2
    assert np.sign(found.statistic) == np.sign(temperature - 1)
    slack = 0.06 * abs(math.log(temperature))  # the variance is not exactly exponential
    assert abs(found.estimate - temperature) < slack + 4 * found.figures["se_temperature"]
    assert ("below 1" if temperature < 1 else "above 1") in found.sentence


@pytest.mark.statistical
def test_truncation_reads_as_likelier_and_repeated_texts_need_codes() -> None:
    rng = np.random.default_rng(6)
    cut = scored_tokens(rng, 3000, top_p=0.9)
    found = temperature_check(cut["logp"], cut["entropy"])
    assert found.severity == 2
    assert "or cut" in found.sentence
    assert math.isnan(found.estimate)
    z, naive = [], []
    for _ in range(200):
        t = scored_tokens(rng, 100)
        logp, entropy = np.repeat(t["logp"], 6), np.repeat(t["entropy"], 6)
        codes = np.repeat(np.arange(100), 6)
        z.append(temperature_check(logp, entropy, codes=codes).statistic)
        naive.append(temperature_check(logp, entropy).statistic)
    assert abs(np.std(z) - 1) < 4 / math.sqrt(400) + 0.06
    assert np.std(naive) > 2


def test_sure_tokens_do_not_move_the_implied_temperature() -> None:
    t = scored_tokens(np.random.default_rng(10), 500, temperature=0.6)
    alone = temperature_check(t["logp"], t["entropy"], variance=t["variance"])
    sure = np.zeros(1500)
    diluted = temperature_check(
        np.r_[t["logp"], sure], np.r_[t["entropy"], sure], variance=np.r_[t["variance"], sure]
    )
    assert diluted.estimate == pytest.approx(alone.estimate, rel=1e-10)


def test_temperature_formula_masks_and_frequencies() -> None:
    rng = np.random.default_rng(7)
    t = scored_tokens(rng, 60)
    shape, mask = (12, 5), rng.random((12, 5)) < 0.7
    logp, entropy = t["logp"].reshape(shape), t["entropy"].reshape(shape)
    s = rng.integers(1, 4, 12)
    found = temperature_check(np.where(mask, logp, np.nan), entropy, mask=mask, sample_weight=s)
    delta = sum(s[i] * (-logp[i, j] - entropy[i, j]) for i, j in np.argwhere(mask))
    n = sum(s[i] for i, _ in np.argwhere(mask))
    assert found.figures["delta"] == pytest.approx(delta / n)
    moved = [  # leaving out a text
        s[i]
        * sum(-logp[i, j] - entropy[i, j] - delta / n for j in range(5) if mask[i, j])
        / (n - s[i] * mask[i].sum())
        for i in range(12)
        if mask[i].any()
    ]
    groups = len(moved)
    se = math.sqrt((groups - 1) / groups * sum(x * x for x in moved))
    assert found.figures["se"] == pytest.approx(se)
    assert found.p_value == pytest.approx(2 * stats.norm.sf(abs(delta / n / se)))


def test_sure_tokens_are_no_evidence() -> None:
    found = temperature_check(np.zeros(9), np.zeros(9), variance=np.zeros(9))
    assert (found.severity, found.statistic, math.isnan(found.estimate)) == (0, 0, True)
    certain = temperature_check(np.full(9, -0.1), np.full(9, 0.5))
    assert (certain.severity, certain.statistic) == (2, -math.inf)


# ------------------------------------------------------------------------------ top-k
@pytest.mark.statistical
def test_top_k() -> None:
    rng = np.random.default_rng(8)
    full, cut = scored_tokens(rng, 3000), scored_tokens(rng, 3000, top_k=20)
    assert top_k_check(full["rank"], vocabulary_size=WORDS).severity == 0
    assert top_k_check(full["rank"], k=20, mass_beyond=full["beyond"](20)).p_value == 1
    looks = top_k_check(cut["rank"], vocabulary_size=WORDS)
    assert (looks.severity, looks.estimate) == (1, 20)
    assert "looks like top-k" in looks.sentence
    tested = top_k_check(cut["rank"], k=20, mass_beyond=cut["beyond"](20))
    assert (tested.severity, tested.figures["beyond"]) == (2, 0)
    assert "top-k 20" in tested.sentence


@pytest.mark.parametrize("tail", [0.8, 2.0])
def test_a_thinning_tail_of_ranks_is_no_cut(tail: float) -> None:
    ranks = np.floor(np.random.default_rng(9).pareto(tail, 20_000)) + 1
    assert top_k_check(ranks).severity == 0
    assert top_k_check(np.ones(500)).severity == 0  # a sure model


def test_top_k_probability() -> None:
    mass = np.array([0.1, 0.2, 0.5])
    found = top_k_check([1, 2, 1], k=2, mass_beyond=mass)
    assert found.p_value == pytest.approx(0.9 * 0.8 * 0.5)
    assert found.figures["expected_beyond"] == pytest.approx(0.8)
    assert top_k_check([1, 2, 1], k=2, mass_beyond=[0, 0, 1.0]).p_value == 0


# ------------------------------------------------------------------------------ hints, input
@given(hnp.arrays(np.float64, st.integers(1, 20), elements=st.floats(-1e4, -1e-3)))
@settings(max_examples=50)
def test_hint_only_for_what_is_not_a_log_probability(logp: Any) -> None:
    assert probability_hint(logp).severity == 0
    assert probability_hint(np.r_[logp, -np.inf, np.nan, 1e-9]).severity == 0
    assert probability_hint(-logp - 0.0).severity == (2 if -logp.max() > 1e-6 else 0)
    tiny = np.array([1e-300, 1e-280])
    assert "probabilities; pass np.log" in probability_hint(tiny).sentence
    assert "change their sign" in probability_hint([3.0, 700.0]).sentence


ONE = np.ones(4)
BAD: list[tuple[Any, str]] = [
    (lambda: top_k_check([0, 1]), "token_rank must lie between 1 and inf"),
    (lambda: top_k_check([1.5, 2]), "whole numbers"),
    (lambda: top_k_check([1, 2], k=2), "k and mass_beyond go together"),
    (lambda: top_k_check([1, 2], k=0, mass_beyond=[0, 0]), "k must be a positive whole number"),
    (lambda: top_k_check([1, 2], k=2, mass_beyond=[0, 2]), "mass_beyond must lie between 0 and 1"),
    (lambda: top_k_check([1, 2], k=2, mass_beyond=[0]), r"mass_beyond must have shape \(2,\)"),
    (lambda: top_k_check(np.ones((2, 2, 2))), r"shape \(N,\) or \(n, T\)"),
    (lambda: top_k_check([1, 2], mask=[True]), "mask must be boolean"),
    (lambda: top_k_check([1, 2], mask=[False, False]), "no scored token"),
    (lambda: top_p_check(ONE, ONE, ONE), "STRICTLY likelier"),
    (lambda: top_p_check(0 * ONE, -ONE, ONE), "probability must lie between 0 and 1"),
    (lambda: top_p_check(0 * ONE, ONE, np.full(4, np.nan)), "uniforms has 4 NaN"),
    (lambda: temperature_check(ONE, ONE), "logp must lie between -inf and"),
    (lambda: temperature_check(-ONE, -ONE), "entropy must lie between"),
    (lambda: temperature_check(-ONE, ONE, variance=-ONE), "variance must lie between"),
    (lambda: temperature_check(-ONE, ONE, codes=[1, 2]), r"codes must have shape \(4,\)"),
    (lambda: temperature_check(-ONE, ONE, codes=ONE), "one distinct label"),
    (lambda: temperature_check(-ONE, ONE, sample_weight=-ONE), "non-negative frequencies"),
]


@pytest.mark.parametrize("call,message", BAD)
def test_bad_input(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
