"""The pure functions, against their formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from causal_lm_opt.lm._decoding import Decoding
from causal_lm_opt.lm.sequence import (
    chunked_token_log_prob,
    gather_predictors,
    pad_batch,
    position_ids,
    sequence_log_prob,
    target_ids,
    token_log_prob_from_logits,
)

pytestmark = pytest.mark.torch


def head_inputs(n: int = 11, v: int = 7, h: int = 5, *, dtype: torch.dtype = torch.float64):
    rng = torch.Generator().manual_seed(0)
    hidden = torch.randn(n, h, generator=rng, dtype=torch.float64).to(dtype).requires_grad_()
    weight = torch.randn(v, h, generator=rng, dtype=torch.float64).to(dtype).requires_grad_()
    bias = torch.randn(v, generator=rng, dtype=torch.float64).to(dtype).requires_grad_()
    targets = torch.randint(v, (n,), generator=rng)
    return hidden, weight, bias, targets


def full(hidden, weight, bias, targets, scale, cap, temperature):
    z = (hidden @ weight.T + (0 if bias is None else bias)) * scale
    z = z if cap is None else cap * torch.tanh(z / cap)
    return token_log_prob_from_logits(z / temperature, targets)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("scale, cap", [(1.0, None), (0.3, None), (1.0, 2.0), (0.5, 1.5)])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("rows", [1, 3, 100])
def test_chunked_head_equals_full_softmax(scale, cap, with_bias, rows, temperature) -> None:
    hidden, weight, bias, targets = head_inputs()
    bias = bias if with_bias else None
    leaves = [x for x in (hidden, weight, bias) if x is not None]
    ours = chunked_token_log_prob(
        hidden, weight, targets, bias, scale=scale, cap=cap, temperature=temperature,
        chunk_elements=rows * 7,
    )  # fmt: skip
    plain = full(hidden, weight, bias, targets, scale, cap, temperature)
    torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)
    upstream = torch.linspace(-1, 2, len(ours), dtype=torch.float64)
    for one, two in zip(
        torch.autograd.grad(ours, leaves, upstream),
        torch.autograd.grad(plain, leaves, upstream),
        strict=True,
    ):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 0.3])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("rows", [1, 3, 100])
def test_kept_probabilities_change_nothing(scale, with_bias, rows) -> None:
    hidden, weight, bias, targets = head_inputs()
    bias = bias if with_bias else None
    leaves = [x for x in (hidden, weight, bias) if x is not None]
    ours = chunked_token_log_prob(
        hidden, weight, targets, bias, scale=scale, keep=True,
        chunk_elements=rows * weight.shape[0],
    )  # fmt: skip
    theirs = full(hidden, weight, bias, targets, scale, None, 1.0)
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)
    upstream = torch.linspace(-1, 2, len(targets), dtype=torch.float64)
    wanted = torch.autograd.grad(theirs, leaves, upstream)
    for again in (True, False):  # the second pass finds what was kept spent
        found = torch.autograd.grad(ours, leaves, upstream, retain_graph=again)
        for mine, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(mine, other, atol=1e-12, rtol=0)


def test_capped_logits_are_not_kept() -> None:
    hidden, weight, _, targets = head_inputs()
    with pytest.raises(ValueError, match="capped logits"):
        chunked_token_log_prob(hidden, weight, targets, cap=2.0, keep=True)


def test_chunked_head_passes_gradcheck() -> None:
    hidden, weight, bias, targets = head_inputs(5, 4, 3)

    def value(h, w, b):
        return chunked_token_log_prob(
            h, w, targets[:5] % 4, b, scale=0.7, cap=2.0, chunk_elements=8
        )

    assert torch.autograd.gradcheck(value, (hidden, weight, bias))


def test_only_what_needs_gradient_gets_it() -> None:
    hidden, weight, _, targets = head_inputs()
    chunked_token_log_prob(hidden, weight.detach(), targets).sum().backward()
    assert hidden.grad is not None
    assert weight.grad is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(dtype: torch.dtype) -> None:
    hidden, weight, _, targets = head_inputs(64, 500, 16, dtype=dtype)
    ours = chunked_token_log_prob(hidden, weight, targets, chunk_elements=5000)
    assert ours.dtype == torch.float32
    logits = hidden @ weight.T  # rounded to half precision, as the model's own logits are
    plain = torch.log_softmax(logits.double(), 1).gather(1, targets[:, None])[:, 0]
    torch.testing.assert_close(ours.double(), plain, rtol=1e-5, atol=1e-5)
    ours.sum().backward()
    exact = weight.detach().double().requires_grad_()
    full(hidden.detach().double(), exact, None, targets, 1.0, None, 1.0).sum().backward()
    relative = (weight.grad.double() - exact.grad).norm() / exact.grad.norm()
    assert float(relative) < 0.02


def test_no_rows_and_bad_shapes() -> None:
    hidden, weight, _, targets = head_inputs()
    assert chunked_token_log_prob(hidden[:0], weight, targets[:0]).shape == (0,)
    with pytest.raises(ValueError, match="targets must have shape"):
        chunked_token_log_prob(hidden, weight, targets[:3])
    with pytest.raises(ValueError, match="hidden must be"):
        chunked_token_log_prob(hidden[:, :2], weight, targets)


@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_and_shift(side: str) -> None:
    contexts, completions = [[9], [9, 8, 7]], [[1, 2, 3], []]
    batch = pad_batch(contexts, completions, side=side, pad_id=5)
    for row in range(2):
        real = batch.attention_mask[row].bool()
        assert batch.input_ids[row][real].tolist() == contexts[row] + completions[row]
        assert position_ids(batch.attention_mask)[row][real].tolist() == list(
            range(int(real.sum()))
        )
        assert batch.input_ids[row][batch.target_mask[row]].tolist() == completions[row]
    assert target_ids(batch).tolist() == [1, 2, 3]
    # A "model" whose state at a place is the token read there: predictors are the tokens before.
    states = batch.input_ids[:, :, None].double()
    assert gather_predictors(states, batch.target_mask)[:, 0].tolist() == [9, 1, 2]
    assert gather_predictors(states[:, :-1], batch.target_mask)[:, 0].tolist() == [9, 1, 2]


def test_pad_batch_refuses_an_empty_context() -> None:
    with pytest.raises(ValueError, match=r"contexts\[1\] is empty"):
        pad_batch([[1], []], [[2], [3]])
    with pytest.raises(ValueError, match="as many"):
        pad_batch([[1]], [])


def test_sequence_sums_are_float64() -> None:
    mask = torch.zeros(1, 20_001, dtype=torch.bool)
    mask[:, 1:] = True
    tokens = torch.full((20_000,), -0.1)
    assert sequence_log_prob(tokens, mask).item() == pytest.approx(-2000, rel=1e-7)
    with pytest.raises(ValueError, match="one entry per scored token"):
        sequence_log_prob(tokens[:5], mask)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("top_k, top_p", [(0, 1.0), (3, 1.0), (0, 0.6), (4, 0.5), (50, 0.999)])
def test_truncation_is_that_of_generate(temperature: float, top_k: int, top_p: float) -> None:
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    z = torch.randn(200, 9, generator=torch.Generator().manual_seed(3))
    z[0] = torch.tensor([1.0, 1.0, 1.0, 1.0, 0, 0, 0, 0, 0])  # ties at the edge
    expected = TemperatureLogitsWarper(temperature)(None, z) if temperature != 1 else z
    expected = TopKLogitsWarper(top_k)(None, expected) if top_k else expected
    expected = TopPLogitsWarper(top_p)(None, expected) if top_p < 1 else expected
    ours = Decoding(temperature, top_k, top_p).log_probs(z)
    torch.testing.assert_close(ours, expected.log_softmax(1))
    np.testing.assert_allclose(ours.exp().sum(1), 1, rtol=1e-6)


@pytest.mark.parametrize(
    "bad", [{"temperature": 0.0}, {"top_k": -1}, {"top_k": 2.5}, {"top_p": 0.0}, {"top_p": 1.2}]
)
def test_bad_decoding(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        Decoding(**bad)
