"""Scores against a token-by-token loop and against enumeration, for every family of models."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from causal_lm_opt.exceptions import EstimationWarning
from causal_lm_opt.lm import LanguageModelPolicy
from causal_lm_opt.lm._forward import Head, checked_head, find_head, token_log_prob
from causal_lm_opt.lm.sequence import pad_batch

pytestmark = pytest.mark.torch

TEXTS = ["ab", "", "b", "aabbab", "ab", "bbbbbbbbbbb", "aab"]
PROMPTS = ["a", "ba", "bbb", "", "a", "abab", "aaaaaaaa"]


def by_loop(
    tiny: Any, policy: LanguageModelPolicy, prompts: list[str] | None, *, eos: bool
) -> list[float]:
    rows = policy.encode(TEXTS, prompts, eos=eos)
    return [tiny.loop(policy.model, context, tokens) for context, tokens in rows]


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_equal_to_a_loop(tiny: Any, family: str, dtype: torch.dtype, tolerance: float) -> None:
    policy = tiny.policy(tiny.model(family).to(dtype))
    # Gemma's own attention turns float64 padding on the left into NaN (a float32 softmax of
    # float64's lowest number); what we do about it is tested in test_nan_is_an_error.
    sides = ("right",) if (family, dtype) == ("gemma2", torch.float64) else ("right", "left")
    for prompts, eos in itertools.product((None, PROMPTS), (True, False)):
        expected = by_loop(tiny, policy, prompts, eos=eos)
        for side, tokens in itertools.product(sides, (2048, 20)):
            policy.engine.padding_side, policy.engine.batch_tokens = side, tokens
            found = policy.log_prob(TEXTS, prompts, eos=eos)
            assert found.dtype == np.float64
            np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("family", ["llama", "cohere", "unknown"])
def test_order_and_size_of_batches_change_nothing(tiny: Any, family: str) -> None:
    policy = tiny.policy(tiny.model(family).double())
    expected = policy.log_prob(TEXTS, PROMPTS)
    order = np.random.default_rng(0).permutation(len(TEXTS))
    for size in (1, 2, 3, None):
        policy.engine.batch_size = size
        found = policy.log_prob([TEXTS[i] for i in order], [PROMPTS[i] for i in order])
        np.testing.assert_allclose(found, expected[order], rtol=1e-10)


def test_enumeration_sums_to_one(tiny: Any, family: str) -> None:
    """Complete texts of up to 3 letters, and all beginnings of 4: together, certainty."""
    policy = tiny.policy(tiny.model(family).double())
    complete = ["".join(x) for k in range(4) for x in itertools.product("ab", repeat=k)]
    longer = ["".join(x) for x in itertools.product("ab", repeat=4)]
    for prompt in (None, "ba"):
        first = policy.log_prob(complete, prompt and [prompt] * len(complete))
        rest = policy.log_prob(longer, prompt and [prompt] * len(longer), eos=False)
        assert np.exp(first).sum() + np.exp(rest).sum() == pytest.approx(1, abs=1e-9)


def test_token_scores_add_up(tiny: Any) -> None:
    policy = tiny.policy(tiny.model())
    tokens = policy.token_log_prob(TEXTS, PROMPTS)
    assert [len(t) for t in tokens] == [len(text) + 1 for text in TEXTS]
    np.testing.assert_allclose([t.sum() for t in tokens], policy.log_prob(TEXTS, PROMPTS))
    assert [len(t) for t in policy.token_log_prob(["", "a"], eos=False)] == [0, 1]
    assert policy.log_prob([""], eos=False).tolist() == [0.0]
    assert policy.log_prob([]).shape == (0,)


@pytest.mark.parametrize(
    "family, kind, scale, cap",
    [
        ("gpt2", "chunked", 1.0, None),
        ("granite", "chunked", 1 / 6, None),
        ("cohere", "chunked", 0.25, None),
        ("gemma2", "chunked", 1.0, 2.0),
        ("unknown", "logits", 1.0, None),
    ],
)
def test_heads_are_found_and_checked(
    tiny: Any, family: str, kind: str, scale: float, cap: float | None
) -> None:
    model = tiny.model(family)
    batch = pad_batch([[0], [0]], [[1, 2, 1, 1], [2]])
    head = checked_head(model, batch)
    assert head.kind == kind
    assert (head.rule.scale, head.rule.cap) == pytest.approx((scale, cap))
    # The check would notice a wrong rule: it is what tells the unknown model apart.
    assert find_head(model).kind == "chunked"


def test_a_wrong_head_would_be_far_off(tiny: Any) -> None:
    """Negative control: without the scale Granite's scores are wrong."""
    model = tiny.model("granite").double()
    batch = pad_batch([[0]], [[1, 2, 1, 1]])
    with torch.no_grad():
        right = token_log_prob(model, batch, checked_head(model, batch))
        wrong = token_log_prob(model, batch, Head("chunked"))
    assert float((right - wrong).abs().max()) > 0.1


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "unknown"])
def test_gradient_is_that_of_the_full_model(tiny: Any, family: str) -> None:
    model = tiny.model(family).double()
    batch = pad_batch([[0], [0, 1], [0]], [[1, 2, 0], [2, 0], [0]])
    token_log_prob(model, batch, checked_head(model, batch)).sum().backward()
    ours = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    table = logits[:, :-1].log_softmax(2).gather(2, batch.input_ids[:, 1:, None])[..., 0]
    table[batch.target_mask[:, 1:]].sum().backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(ours[name], p.grad, rtol=1e-6, atol=1e-9, msg=name)


@pytest.mark.parametrize("settings", [{"temperature": 0.7}, {"top_k": 2}, {"top_p": 0.7}])
@pytest.mark.parametrize("family", ["llama", "granite", "gemma2", "unknown"])
def test_decoding_enters_the_score(tiny: Any, family: str, settings: dict[str, Any]) -> None:
    """Against the full table of next-token probabilities."""
    model = tiny.model(family).double()
    policy = tiny.policy(model, **settings)
    found = policy.log_prob(TEXTS)
    for (context, tokens), value in zip(policy.encode(TEXTS), found, strict=True):
        logits = model(input_ids=torch.tensor([context + tokens])).logits[0, :-1]
        table = policy.decoding.log_probs(logits.detach())
        at = torch.tensor(tokens)[:, None]
        expected = float(table[len(context) - 1 :].gather(1, at).sum())
        assert value == pytest.approx(expected, rel=1e-10, abs=1e-12)
    if policy.decoding.truncates:
        assert np.isneginf(found).any()
    plain = policy.with_decoding()
    np.testing.assert_allclose(plain.log_prob(TEXTS), tiny.policy(model).log_prob(TEXTS))


def test_dropout_is_off_and_the_mode_put_back(tiny: Any) -> None:
    model = tiny.model("gpt2")
    expected = tiny.policy(model).log_prob(TEXTS)
    model.train()
    model.lm_head.eval()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    np.testing.assert_allclose(tiny.policy(model).log_prob(TEXTS), expected)
    assert model.training
    assert not model.lm_head.training


def test_beyond_the_context(tiny: Any) -> None:
    policy = tiny.policy(tiny.model(positions=8).double())
    fits = "ab" * 4  # start, eight letters; the closing token is predicted and needs no place
    short = policy.log_prob([fits[:7]])
    assert np.isfinite(short).all()
    with pytest.raises(ValueError, match=r"2 of 3 texts exceed .* 8 tokens, the first at row 1"):
        policy.log_prob(["a", fits + "a", fits + "aaa"])
    cut = tiny.policy(policy.model, too_long="truncate")
    with pytest.warns(EstimationWarning, match="the beginning that fits"):
        found = cut.log_prob(["a", fits + "aaa"])
    expected = policy.log_prob([fits], eos=False)
    assert found[1] == pytest.approx(expected[0])
    with pytest.raises(ValueError, match="the prompt alone does not fit at row 0"):
        cut.log_prob(["a"], ["a" * 20])


def test_log_prob_ids_takes_tokens_as_they_are(tiny: Any) -> None:
    policy = tiny.policy(tiny.model())
    ids = [tokens for _, tokens in policy.encode(TEXTS, PROMPTS)]
    np.testing.assert_array_equal(
        policy.log_prob_ids(ids, PROMPTS), policy.log_prob(TEXTS, PROMPTS)
    )
    with pytest.raises(ValueError, match=r"completions\[0\] has a token outside"):
        policy.log_prob_ids([[7]])


def test_nan_is_an_error(tiny: Any) -> None:
    gemma = tiny.policy(tiny.model("gemma2").double(), padding_side="left")
    with pytest.raises(ValueError, match="NaN log-probabilities"):
        gemma.log_prob(["a", "abababa"])
    with pytest.raises(ValueError, match="NaN log-probabilities"):
        gemma.sample(1, 0, prompts=["a", "abababa"], max_new_tokens=2)
    model = tiny.model()
    policy = tiny.policy(model)
    policy.log_prob(["a"])
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="NaN log-probabilities"):
        policy.log_prob(["a"])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_close(tiny: Any, dtype: str) -> None:
    model = tiny.model("smollm")
    expected = tiny.policy(model).log_prob(TEXTS)
    half = tiny.policy(tiny.model("smollm").to(getattr(torch, dtype)))
    np.testing.assert_allclose(half.log_prob(TEXTS), expected, rtol=0.05, atol=0.2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_with_the_cpu(tiny: Any) -> None:
    expected = tiny.policy(tiny.model().double()).log_prob(TEXTS)
    found = tiny.policy(tiny.model().double().cuda()).log_prob(TEXTS)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
