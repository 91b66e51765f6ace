"""Tiny models and tokenizers, made here; nothing is fetched."""

from __future__ import annotations

import importlib.util
import inspect
from types import SimpleNamespace
from typing import Any

import pytest

#: Whole folder: these tests are left out where the extra `lm` is not installed.
missing = [
    m for m in ("torch", "transformers", "tokenizers") if importlib.util.find_spec(m) is None
]
collect_ignore_glob = ["test_[!e]*.py", "test_e[!xv]*.py"] if missing else []

WORDS = ("</s>", "a", "b")
FAMILIES = ("gpt2", "llama", "smollm", "qwen2", "qwen3", "granite", "cohere", "gemma2", "unknown")


def make_tokenizer(words: tuple[str, ...] = WORDS, *, bos: bool = False) -> Any:
    """One token a character; `</s>` closes, and begins where there is no `<s>`."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, words[-1]))
    made.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    made.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="</s>", **({"bos_token": "<s>"} if bos else {})
    )


def _configs(vocab: int, positions: int) -> dict[str, tuple[str, dict[str, Any]]]:
    common = {
        "vocab_size": vocab, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": positions,
        "initializer_range": 0.4, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None,
    }  # fmt: skip
    gpt2 = {
        "vocab_size": vocab, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": positions,
        "initializer_range": 0.4, "bos_token_id": 0, "eos_token_id": 0,
    }  # fmt: skip
    return {
        "gpt2": ("GPT2", gpt2),
        "llama": ("Llama", common | {"tie_word_embeddings": False}),
        "smollm": ("Llama", common | {"tie_word_embeddings": True, "rope_theta": 1e5}),
        "qwen2": ("Qwen2", common),
        "qwen3": ("Qwen3", common | {"head_dim": 8}),
        "granite": ("Granite", common | {"logits_scaling": 6.0, "residual_multiplier": 0.5}),
        "cohere": ("Cohere", common | {"logit_scale": 0.25}),
        "gemma2": (
            "Gemma2",
            common | {"head_dim": 8, "final_logit_softcapping": 2.0, "query_pre_attn_scalar": 8},
        ),
        "unknown": ("Llama", common),
    }


def make_model(family: str = "llama", *, vocab: int = 3, positions: int = 64, seed: int = 0) -> Any:
    """A random model of a family, float32, in evaluation mode.

    "unknown" triples its logits, and says so nowhere.
    """
    import torch
    import transformers

    name, settings = _configs(vocab, positions)[family]
    config = getattr(transformers, f"{name}Config")(**settings)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = "GPT2LMHeadModel" if family == "gpt2" else f"{name}ForCausalLM"
        model = getattr(transformers, made)(config).eval()
    if family == "unknown":
        plain = model.forward

        def forward(*args: Any, **given: Any) -> Any:
            out = plain(*args, **given)
            out.logits = 3 * out.logits
            return out

        forward.__signature__ = inspect.signature(plain)
        model.forward = forward
    return model


def loop_log_prob(model: Any, context: tuple[int, ...], completion: tuple[int, ...]) -> float:
    """Token by token, without batch, mask, padding or cache: what every fast path must equal."""
    import torch

    total, ids = 0.0, list(context)
    for token in completion:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
        total += float(torch.log_softmax(logits.double(), 0)[token])
        ids.append(token)
    return total


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def make_policy(model: Any, tokenizer: Any = None, **settings: Any) -> Any:
    from causal_lm_opt.lm import LanguageModelPolicy

    return LanguageModelPolicy(model, tokenizer or make_tokenizer(), **settings)


@pytest.fixture(scope="session")
def tiny() -> SimpleNamespace:
    """Makers of tiny models, tokenizers and policies, and the naive loop."""
    return SimpleNamespace(
        model=make_model, tokenizer=make_tokenizer, policy=make_policy, loop=loop_log_prob
    )
