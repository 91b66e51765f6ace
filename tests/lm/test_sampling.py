"""Draws against the probabilities that are scored for them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from scipy import stats

from causal_lm_opt.datasets import PiecePolicy
from causal_lm_opt.exceptions import EstimationWarning
from causal_lm_opt.lm import Draws, EnumerablePolicy, LanguageModelPolicy, Policy

pytestmark = pytest.mark.torch


def events(policy: LanguageModelPolicy, length: int) -> dict[str, float]:
    """Every text that closes before ``length`` tokens, and every beginning cut there ("..")."""
    done = ["".join(x) for k in range(length) for x in itertools.product("ab", repeat=k)]
    cut = ["".join(x) for x in itertools.product("ab", repeat=length)]
    found = dict(zip(done, policy.log_prob(done), strict=True))
    found |= {f"{t}..": p for t, p in zip(cut, policy.log_prob(cut, eos=False), strict=True)}
    return {text: float(np.exp(p)) for text, p in found.items()}


@pytest.mark.parametrize(
    "family, settings",
    [("llama", {}), ("gpt2", {}), ("cohere", {"temperature": 0.8}), ("gemma2", {"top_k": 2}),
     ("qwen3", {"top_p": 0.8})],
)  # fmt: skip
def test_frequencies_are_the_scored_probabilities(
    tiny: Any, family: str, settings: dict[str, Any]
) -> None:
    policy = tiny.policy(tiny.model(family), **settings)
    expected = events(policy, 3)
    assert sum(expected.values()) == pytest.approx(1, abs=1e-5)
    draws = policy.sample(4000, random_state=1, max_new_tokens=3)
    names = [t if end else f"{t}.." for t, end in zip(draws, draws.finished, strict=True)]
    assert set(names) <= {name for name, p in expected.items() if p > 0}
    p = np.array(list(expected.values()))
    counts = np.array([names.count(name) for name in expected])
    rare = 4000 * p < 5
    if rare.any():
        p = np.append(p[~rare], p[rare].sum())
        counts = np.append(counts[~rare], counts[rare].sum())
    keep = p > 0
    assert stats.chisquare(counts[keep], 4000 * p[keep] / p[keep].sum()).pvalue > 0.001
    np.testing.assert_allclose(
        draws.log_prob, np.log([expected[name] for name in names]), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("family", ["llama", "gpt2", "granite"])
def test_draws_score_what_they_say(tiny: Any, family: str) -> None:
    policy = tiny.policy(tiny.model(family))
    prompts = ["a", "bbab"]
    draws = policy.sample(20, random_state=0, prompts=prompts, max_new_tokens=30)
    again = [prompts[i] for i in draws.prompt_index]
    np.testing.assert_allclose(
        policy.log_prob_ids(draws.token_ids, again), draws.log_prob, rtol=1e-5, atol=1e-5
    )
    whole = draws.finished & draws.canonical
    assert whole.any()
    texts = [t for t, ok in zip(draws, whole, strict=True) if ok]
    found = policy.log_prob(texts, [p for p, ok in zip(again, whole, strict=True) if ok])
    np.testing.assert_allclose(found, draws.log_prob[whole], rtol=1e-5, atol=1e-5)


def test_ratio_of_two_policies_averages_one(tiny: Any) -> None:
    """Mean of exp(S_f' - S_f) over draws of f is 1, within 4 Monte-Carlo standard errors."""
    one, two = (
        tiny.policy(tiny.model(seed=0), temperature=1.3),
        tiny.policy(tiny.model(seed=3), temperature=1.6),
    )
    draws = one.sample(4000, random_state=5, max_new_tokens=4)
    ratio = np.exp(two.log_prob_ids(draws.token_ids) - draws.log_prob)
    se = ratio.std() / np.sqrt(len(ratio))
    assert abs(ratio.mean() - 1) < 4 * se
    assert se < 0.1
    # Negative control: draws scored at the wrong temperature do not average one.
    wrong = np.exp(
        two.log_prob_ids(draws.token_ids) - one.with_decoding().log_prob_ids(draws.token_ids)
    )
    assert abs(wrong.mean() - 1) > 4 * wrong.std() / np.sqrt(len(wrong))


def test_kl_estimate_is_the_exact_one(tiny: Any) -> None:
    one, two = (
        tiny.policy(tiny.model(seed=0), temperature=1.3),
        tiny.policy(tiny.model(seed=3), temperature=1.6),
    )
    p, q = events(one, 3), events(two, 3)
    exact = sum(a * np.log(a / b) for a, b in zip(p.values(), q.values(), strict=True))
    draws = one.sample(3000, random_state=2, max_new_tokens=3)
    terms = draws.log_prob - two.log_prob_ids(draws.token_ids)
    assert abs(terms.mean() - exact) < 4 * terms.std() / np.sqrt(len(terms))


def test_draws_do_not_depend_on_the_batch(tiny: Any) -> None:
    policy = tiny.policy(tiny.model())
    whole = policy.sample(12, random_state=3, max_new_tokens=10)
    policy.engine.batch_size = 5
    parts = policy.sample(12, random_state=3, max_new_tokens=10)
    assert parts.token_ids == whole.token_ids
    fewer = policy.sample(4, random_state=3, max_new_tokens=10)
    assert fewer.token_ids == whole.token_ids[:4]
    assert policy.sample(12, random_state=4, max_new_tokens=10).token_ids != whole.token_ids
    mixed = policy.sample(2, random_state=3, prompts=["a", "abba", ""], max_new_tokens=4)
    assert mixed.prompt_index.tolist() == [0, 0, 1, 1, 2, 2]


def test_texts_that_did_not_end_are_told(tiny: Any) -> None:
    policy = tiny.policy(tiny.model(), max_length=4)
    with pytest.warns(EstimationWarning, match="cut at 4 tokens"):
        draws = policy.sample(60, random_state=0)
    assert not draws.finished.all()
    assert {
        len(ids) for ids, end in zip(draws.token_ids, draws.finished, strict=True) if not end
    } == {4}
    assert "cut at the limit" in repr(draws)
    with pytest.raises(ValueError, match="does not fit"):
        policy.sample(1, prompts=["aaaaaaaa"])


def test_unusual_spellings_are_told(tiny: Any) -> None:
    """Two tokens "a", "b" spell what the tokenizer writes as one token "ab"."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    words = {"</s>": 0, "a": 1, "b": 2, "ab": 3}
    made = Tokenizer(models.BPE(words, [("a", "b")]))
    made.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>")
    policy = LanguageModelPolicy(tiny.model("llama", vocab=4), tokenizer)
    draws = policy.sample(300, random_state=0, max_new_tokens=6)
    spelt = [(1, 2) in itertools.pairwise(ids) for ids in draws.token_ids]
    inner_end = [0 in ids[:-1] for ids in draws.token_ids]
    assert not any(inner_end)
    np.testing.assert_array_equal(draws.canonical, ~np.array(spelt))
    assert 0 < draws.canonical.sum() < 300


def test_protocol(tiny: Any) -> None:
    policy = tiny.policy(tiny.model())
    assert isinstance(policy, Policy)
    assert not isinstance(policy, EnumerablePolicy)
    assert issubclass(PiecePolicy, Policy)
    assert issubclass(PiecePolicy, EnumerablePolicy)
    draws = policy.sample(3, random_state=0, max_new_tokens=3)
    assert isinstance(draws, Draws)
    assert list(draws) == list(draws.texts)
    assert draws[1:] == draws.texts[1:]
    assert len(policy.sample(0)) == 0


def test_global_random_state_is_left_alone(tiny: Any) -> None:
    import torch

    before = torch.random.get_rng_state()
    tiny.policy(tiny.model()).sample(5, random_state=0, max_new_tokens=3)
    assert torch.equal(before, torch.random.get_rng_state())


def test_bad_requests(tiny: Any) -> None:
    policy = tiny.policy(tiny.model())
    with pytest.raises(ValueError, match="n must be an integer"):
        policy.sample(-1)
    with pytest.raises(ValueError, match="max_new_tokens must be"):
        policy.sample(1, max_new_tokens=0)
    with pytest.raises(TypeError, match="not one string"):
        policy.sample(1, prompts="ab")


def test_rows_that_are_done_read_nothing_beyond_the_context(tiny: Any) -> None:
    """A long prompt is full sooner than a short one; both are drawn as if alone."""
    policy = tiny.policy(tiny.model("gpt2", positions=12))
    prompts = ["ababababab", "a"]
    both = policy.sample(3, random_state=0, prompts=prompts, max_new_tokens=30)
    assert max(len(ids) for ids in both.token_ids[3:]) > max(len(ids) for ids in both.token_ids[:3])
    scored = policy.log_prob_ids(both.token_ids, [prompts[i] for i in both.prompt_index])
    np.testing.assert_allclose(scored, both.log_prob, rtol=1e-5)


def test_rows_are_dropped_from_caches_of_keys_and_values_alone():
    """States of other kinds (recurrent, convolutional) do not know how to lose a row."""
    from types import SimpleNamespace

    from causal_lm_opt.lm._sampling import _rows_can_be_dropped

    def layer(name: str) -> Any:
        return type(name, (), {})()

    plain, window, state = map(
        layer, ("DynamicLayer", "DynamicSlidingWindowLayer", "LinearAttentionLayer")
    )
    assert _rows_can_be_dropped(SimpleNamespace(layers=[plain, window]))
    assert not _rows_can_be_dropped(SimpleNamespace(layers=[plain, state]))
    assert not _rows_can_be_dropped(SimpleNamespace(layers=[]))
    assert not _rows_can_be_dropped((1, 2))
