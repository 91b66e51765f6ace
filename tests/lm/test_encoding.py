"""What is conditioned on, what is scored, where it ends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.torch
TEMPLATE = (
    "{% for m in messages %}{{ m['role'][0] }}{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}b{% endif %}"
)
CHAT = [{"role": "a", "content": "ab"}]


def test_start_and_end(tiny: Any) -> None:
    """From end of text where the tokenizer has no beginning of text; closed unless eos=False."""
    policy = tiny.policy(tiny.model())
    assert policy.encode(["ab", ""]) == [((0,), (1, 2, 0)), ((0,), (0,))]
    assert policy.encode(["ab"], eos=False) == [((0,), (1, 2))]
    with_bos = tiny.tokenizer(("</s>", "<s>", "a", "b"), bos=True)
    policy = tiny.policy(tiny.model(vocab=4), with_bos)
    assert policy.encode(["ab"]) == [((1,), (2, 3, 0))]


def test_prompts_are_joined_as_ids(tiny: Any) -> None:
    policy = tiny.policy(tiny.model())
    # This tokenizer puts nothing before a text, so nothing precedes a prompt; an empty one is none.
    assert policy.encode(["b", "b"], ["ab", ""]) == [((1, 2), (2, 0)), ((0,), (2, 0))]
    always = tiny.policy(tiny.model(), bos=True)
    assert always.encode(["b"], ["ab"]) == [((0, 1, 2), (2, 0))]
    assert always.encode(["b"], [""]) == policy.encode(["b"])


def test_what_the_tokenizer_adds_is_kept_apart_from_its_end(tiny: Any) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = tiny.tokenizer(("</s>", "<s>", "a", "b"), bos=True)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 0)]
    )
    policy = tiny.policy(tiny.model(vocab=4), tokenizer)
    assert policy.encode(["b"], ["ab"]) == [((1, 2, 3), (3, 0))]
    plain = tiny.policy(tiny.model(vocab=4), tokenizer, bos=False)
    assert plain.encode(["b"], ["ab"]) == [((2, 3), (3, 0))]


def test_a_boundary_is_never_merged(tiny: Any) -> None:
    """ "a" + "b" stay two tokens although "ab" is one: the completion's tokens are its own."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE({"</s>": 0, "a": 1, "b": 2, "ab": 3}, [("a", "b")]))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>")
    policy = tiny.policy(tiny.model(vocab=4), tokenizer)
    assert policy.encode(["b", "ab"], ["a", "a"]) == [((1,), (2, 0)), ((1,), (3, 0))]


def test_names_of_special_tokens_are_text_unless_asked(tiny: Any) -> None:
    tokenizer = tiny.tokenizer(("</s>", "a", "b", "<", "/", "s", ">"))
    model = tiny.model(vocab=7).double()
    as_text = tiny.policy(model, tokenizer)
    assert as_text.encode(["a</s>"]) == [((0,), (1, 3, 4, 5, 6, 0))]
    parsed = tiny.policy(model, tokenizer, special_tokens="parse")
    assert parsed.encode(["a</s>"]) == [((0,), (1, 0, 0))]
    for policy in (as_text, parsed):
        ((context, tokens),) = policy.encode(["a</s>b"])
        expected = tiny.loop(model, context, tokens)
        assert policy.log_prob(["a</s>b"])[0] == pytest.approx(expected, rel=1e-10)


def test_conversations_use_the_chat_template(tiny: Any) -> None:
    tokenizer = tiny.tokenizer()
    policy = tiny.policy(tiny.model().double(), tokenizer)
    with pytest.raises(ValueError, match="no chat template"):
        policy.log_prob(["a"], [CHAT])
    tokenizer.chat_template = TEMPLATE
    assert policy.encode(["b", "b"], [CHAT, "a"]) == [((1, 1, 2, 2), (2, 0)), ((1,), (2, 0))]
    expected = tiny.loop(policy.model, (1, 1, 2, 2), (2, 0))
    assert policy.log_prob(["b"], [CHAT])[0] == pytest.approx(expected, rel=1e-10)
    draws = policy.sample(2, 0, prompts=[CHAT], max_new_tokens=5)
    np.testing.assert_allclose(policy.log_prob_ids(draws.token_ids, [CHAT] * 2), draws.log_prob)


@pytest.mark.parametrize("bad", [[{"content": "x"}], [], 3, None, [["role", "content"]]])
def test_bad_prompts(tiny: Any, bad: Any) -> None:
    with pytest.raises(TypeError, match=r"prompts\[0\] must be a string or a list of messages"):
        tiny.policy(tiny.model()).log_prob(["a"], [bad])


def test_bad_texts(tiny: Any) -> None:
    policy = tiny.policy(tiny.model())
    with pytest.raises(TypeError, match="texts is one string"):
        policy.log_prob("ab")
    with pytest.raises(TypeError, match=r"texts\[1\] is None"):
        policy.log_prob(["a", None])
    with pytest.raises(ValueError, match=r"as many as texts \(1\), got 2"):
        policy.log_prob(["a"], ["a", "b"])
    with pytest.raises(TypeError, match="not one string"):
        policy.log_prob(["a"], "a")
    np.testing.assert_array_equal(
        policy.log_prob(np.array(["a", "bb"])), policy.log_prob(["a", "bb"])
    )


def test_another_end_token(tiny: Any) -> None:
    model = tiny.model()
    policy = tiny.policy(model, eos_token="b")
    assert policy.encode(["a"]) == [((0,), (1, 2))]
    assert tiny.policy(model, eos_token=2).encode(["a"]) == policy.encode(["a"])
    with pytest.raises(ValueError, match="eos_token 'zz' is not a token"):
        tiny.policy(model, eos_token="zz")


@pytest.mark.parametrize(
    "bad",
    [{"bos": "never"}, {"special_tokens": "drop"}, {"too_long": "cut"}, {"padding_side": "up"},
     {"batch_size": 0}, {"batch_tokens": -1}, {"max_length": 1.5}, {"temperature": 0.0}],
)  # fmt: skip
def test_bad_settings(tiny: Any, bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        tiny.policy(tiny.model(), **bad)
