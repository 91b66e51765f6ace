"""A small language model trained from scratch on some texts: a default, and a simulated author."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from causal_lm_opt.lm._batching import plan_batches
from causal_lm_opt.lm._encoding import Encoded
from causal_lm_opt.lm._forward import checked_head, token_log_prob
from causal_lm_opt.lm._loading import transformers
from causal_lm_opt.lm.policy import LanguageModelPolicy
from causal_lm_opt.lm.sequence import pad_batch

__all__ = ["from_texts"]

END, PAD = "<|endoftext|>", "<|pad|>"
#: Words that a byte-level vocabulary has at the least: 256 bytes and two special tokens.
LEAST_VOCABULARY = 258


def from_texts(
    texts: Iterable[str],
    *,
    vocab_size: int = 2000,
    phrases: bool = False,
    n_layer: int = 3,
    n_embd: int = 128,
    n_head: int = 4,
    context: int | None = None,
    epochs: int = 12,
    batch_size: int = 32,
    learning_rate: float = 2e-3,
    random_state: int = 0,
    device: str | torch.device = "cpu",
    progress: bool = False,
    name: str = "from texts",
) -> LanguageModelPolicy:
    """Train a tokenizer and a tiny GPT on texts, from scratch and without a download.

    Use it as the embedded default where no model is at hand, as a fine-tuned stand-in for the
    policy that wrote a log, and in simulations. Two minutes for 2,000 short texts on two cores.

    Parameters
    ----------
    texts : iterable of n str
    vocab_size : int, default 2000
        Most words of the byte-level vocabulary, at least 258; any text can be encoded.
    phrases : bool, default False
        Words of the vocabulary may span spaces. Texts put together from recurring phrases become a
        few tokens long, and training and drawing several times faster.
    n_layer, n_embd, n_head : int
        Size of the GPT-2; ``n_embd`` is a multiple of ``n_head``.
    context : int, optional
        Longest text in tokens; by default twice the longest of ``texts``, at least 64.
    epochs, batch_size, learning_rate : int, int, float
        AdamW, with a linear warm-up over a tenth of the steps and decay to zero.
    random_state : int, default 0
        The same texts, settings and seed give the same model on the same machine; torch's global
        random state is left as it was.
    device : str or torch.device
    progress : bool, default False
    name : str

    Returns
    -------
    LanguageModelPolicy
        ``save(folder)`` writes an ordinary Hugging Face folder.

    Raises
    ------
    ImportError
        If transformers is not installed.
    ValueError
        If there are no texts, sizes do not fit each other, or a text exceeds ``context``.

    Examples
    --------
    >>> policy = from_texts(["a b", "b a"] * 8, epochs=1, n_layer=1, n_embd=16, n_head=1)
    >>> bool(policy.log_prob(["a b"])[0] < 0)
    True
    """
    listed = list(texts)
    _check(listed, vocab_size, n_embd, n_head, epochs, batch_size)
    library = transformers()
    tokenizer = _tokenizer(library, listed, vocab_size, phrases)
    ids = [tuple(row) for row in tokenizer(listed, split_special_tokens=True)["input_ids"]]
    longest = max(map(len, ids)) + 2
    width = max(64, 2 * longest) if context is None else context
    if longest > width:
        raise ValueError(f"context={width} is shorter than the longest text ({longest} tokens).")
    config = library.GPT2Config(
        vocab_size=len(tokenizer), n_positions=width, n_embd=n_embd, n_layer=n_layer,
        n_head=n_head, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        bos_token_id=tokenizer.eos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(random_state)
        model = library.GPT2LMHeadModel(config).to(device)
    end = int(tokenizer.eos_token_id)
    rows = [Encoded((end,), (*row, end)) for row in ids]
    _train(model, rows, epochs, batch_size, learning_rate, random_state, progress)
    return LanguageModelPolicy(model.eval(), tokenizer, name=name)


def _check(
    texts: Sequence[object], vocab_size: int, n_embd: int, n_head: int, epochs: int, batch: int
) -> None:
    if not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError("texts must be a non-empty list of strings.")
    if vocab_size < LEAST_VOCABULARY:
        raise ValueError(
            f"vocab_size must be at least {LEAST_VOCABULARY} (bytes and special tokens), got "
            f"{vocab_size}."
        )
    if n_embd % n_head:
        raise ValueError(f"n_embd={n_embd} must be a multiple of n_head={n_head}.")
    if epochs < 0 or batch < 1:
        raise ValueError(f"epochs must be >= 0 and batch_size >= 1, got {epochs} and {batch}.")


def _tokenizer(library: Any, texts: Sequence[str], vocab_size: int, phrases: bool) -> Any:
    """Byte-level BPE; end of text is also the beginning."""
    import tokenizers

    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=not phrases
    )
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[END, PAD], show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    made.train_from_iterator(texts, trainer)
    return library.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=END, eos_token=END, pad_token=PAD
    )


def _train(
    model: Any, rows: list[Encoded], epochs: int, batch_size: int, rate: float, seed: int,
    progress: bool,
) -> None:  # fmt: skip
    """Maximise the mean log-probability of tokens."""
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    per_epoch = -(-len(rows) // batch_size)
    steps = epochs * per_epoch
    warm = max(1, steps // 10)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda t: min((t + 1) / warm, max(0.0, (steps - t) / max(1, steps - warm)))
    )
    device = model.device
    head = None
    model.train()
    with tqdm(total=steps, desc="training", disable=not progress, leave=False) as bar:
        for _ in range(epochs):
            for at in _shuffled_batches(rows, batch_size, rng):
                batch = pad_batch([rows[i].context for i in at], [rows[i].completion for i in at])
                batch = batch.to(device)
                head = head or checked_head(model, batch)
                loss = -token_log_prob(model, batch, head).mean()
                optimizer.zero_grad(set_to_none=True)
                torch.autograd.backward(loss)
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                scheduler.step()
                bar.update(1)


def _shuffled_batches(
    rows: Sequence[Encoded], batch_size: int, rng: np.random.Generator
) -> list[list[int]]:
    """Batches of similar length in random order; ties of length are shuffled anew every epoch."""
    order = rng.permutation(len(rows))
    lengths = [len(rows[i]) for i in order]
    # Windows of many batches are sorted by length: little padding, and still a random partition.
    window = 8 * batch_size
    batches: list[list[int]] = []
    for start in range(0, len(order), window):
        part = order[start : start + window]
        cuts = plan_batches(lengths[start : start + window], max_tokens=2**31, max_rows=batch_size)
        batches += [part[cut].tolist() for cut in cuts]
    return [batches[i] for i in rng.permutation(len(batches))]
