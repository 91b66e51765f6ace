"""Texts and prompts to token ids: what is conditioned on, what is scored, where it ends."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from causal_lm_opt.exceptions import EstimationWarning

__all__ = ["Conversation", "Encoded", "Encoder", "Prompt", "prompt_words"]

#: Messages with ``role`` and ``content``, rendered by the tokenizer's chat template.
Conversation = Sequence[Mapping[str, Any]]
Prompt = str | Conversation


def prompt_words(prompt: Prompt) -> str:
    """A prompt or an answer as plain words: a conversation's messages, one a line."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(str(message["content"]) for message in prompt)


@dataclass(frozen=True)
class Encoded:
    """One row: the tokens conditioned on and the tokens scored."""

    context: tuple[int, ...]
    completion: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.context) + len(self.completion)

    def key(self, salt: bytes = b"") -> bytes:
        """16 bytes that tell this row from every other."""
        text = f"{list(self.context)}|{list(self.completion)}".encode()
        return hashlib.blake2b(text, digest_size=16, key=salt[:64]).digest()


@dataclass(frozen=True)
class Encoder:
    """A tokenizer and the decisions that make a text's probability well defined.

    Attributes
    ----------
    tokenizer : transformers tokenizer
    start_id : int
        Beginning-of-text token, or end-of-text where there is none.
    end_id : int
        Closing token of a text.
    max_length : int or None
        Longest context plus completion, in tokens.
    bos : {"auto", True, False}
        Whether a plain prompt is preceded by the start token; "auto": as the tokenizer does.
    special_tokens : {"text", "parse"}
        How the name of a special token inside a text is read.
    too_long : {"error", "truncate"}
    """

    tokenizer: Any
    start_id: int
    end_id: int
    max_length: int | None = None
    bos: bool | Literal["auto"] = "auto"
    special_tokens: Literal["text", "parse"] = "text"
    too_long: Literal["error", "truncate"] = "error"

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("bos", self.bos, ("auto", True, False)),
            ("special_tokens", self.special_tokens, ("text", "parse")),
            ("too_long", self.too_long, ("error", "truncate")),
        ):
            if value not in allowed:
                raise ValueError(f"{name} must be one of {list(allowed)}, got {value!r}.")

    def texts(self, texts: Iterable[str], name: str = "texts") -> list[tuple[int, ...]]:
        """Token ids of texts as they stand, nothing put before or after."""
        listed = _strings(texts, name)
        if not listed:
            return []
        found = self.tokenizer(
            listed,
            add_special_tokens=False,
            split_special_tokens=self.special_tokens == "text",
            return_attention_mask=False,
            verbose=False,
        )["input_ids"]
        return [tuple(ids) for ids in found]

    def contexts(self, prompts: Sequence[Prompt] | None, n: int) -> list[tuple[int, ...]]:
        """Token ids that each of n completions is conditioned on; never empty."""
        if prompts is None:
            return [(self.start_id,)] * n
        if isinstance(prompts, str) or not hasattr(prompts, "__len__"):
            raise TypeError("prompts must be a list with one prompt per text, not one string.")
        if len(prompts) != n:
            raise ValueError(f"prompts must be as many as texts ({n}), got {len(prompts)}.")
        made: dict[str, tuple[int, ...]] = {}
        out = []
        for i, prompt in enumerate(prompts):
            name = prompt if isinstance(prompt, str) else repr(prompt)
            name = f"{type(prompt) is str}{name}"
            if name not in made:
                made[name] = self._context(prompt, i)
            out.append(made[name])
        return out

    def _context(self, prompt: Prompt, i: int) -> tuple[int, ...]:
        if isinstance(prompt, str):
            if self.bos == "auto":
                plain = tuple(self.tokenizer(prompt, verbose=False)["input_ids"]) if prompt else ()
                # Some tokenizers also close what they encode; a prompt is not closed.
                return plain[: -1 if plain[-1:] == (self.end_id,) else None] or (self.start_id,)
            ids = self.tokenizer(prompt, add_special_tokens=False, verbose=False)["input_ids"]
            start = (self.start_id,) if self.bos or not ids else ()
            return (*start, *ids)
        if not _is_conversation(prompt):
            raise TypeError(
                f"prompts[{i}] must be a string or a list of messages with 'role' and 'content', "
                f"got {prompt!r:.80}."
            )
        if not getattr(self.tokenizer, "chat_template", None):
            raise ValueError(
                f"prompts[{i}] is a conversation, but the tokenizer has no chat template; give "
                "strings, or set tokenizer.chat_template."
            )
        ids = self.tokenizer.apply_chat_template(
            [dict(message) for message in prompt],
            tokenize=True, add_generation_prompt=True, return_dict=False,
        )  # fmt: skip
        return tuple(cast(Sequence[int], ids))

    def rows(
        self, texts: Iterable[str], prompts: Sequence[Prompt] | None, *, eos: bool
    ) -> list[Encoded]:
        """Contexts and completions of texts, closed by the end token where ``eos``."""
        completions = self.texts(texts)
        closing = (self.end_id,) if eos else ()
        contexts = self.contexts(prompts, len(completions))
        rows = [Encoded(c, (*x, *closing)) for c, x in zip(contexts, completions, strict=True)]
        return self.fitted(rows)

    def fitted(self, rows: list[Encoded]) -> list[Encoded]:
        """Rows within the model's context; longer ones are an error or lose their end."""
        limit = self.max_length
        if limit is None:
            return rows
        # The last token is predicted, never read: it needs no place of its own.
        long = [i for i, row in enumerate(rows) if len(row) - bool(row.completion) > limit]
        if not long:
            return rows
        i = long[0]
        said = (
            f"{len(long)} of {len(rows)} texts exceed the model's context of {limit} tokens, the "
            f"first at row {i} ({len(rows[i].context)} of context, {len(rows[i].completion)} of "
            "text)"
        )
        hopeless = [i for i in long if len(rows[i].context) > limit]
        if self.too_long == "error" or hopeless:
            more = f"; the prompt alone does not fit at row {hopeless[0]}" if hopeless else ""
            raise ValueError(
                f"{said}{more}. Shorten or drop them, or pass too_long='truncate' to score the "
                "beginning of each (the probability that a text begins so)."
            )
        warnings.warn(
            f"{said}: scored is the beginning that fits, without end of text.",
            EstimationWarning, stacklevel=4,
        )  # fmt: skip
        cut = list(rows)
        for i in long:
            cut[i] = Encoded(
                rows[i].context, rows[i].completion[: limit + 1 - len(rows[i].context)]
            )
        return cut

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens, special ones shown by their names."""
        return str(
            self.tokenizer.decode(
                list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        )


def _strings(texts: Iterable[str], name: str) -> list[str]:
    if isinstance(texts, str):
        raise TypeError(f"{name} is one string; pass a list of texts.")
    listed = list(texts)
    for i, text in enumerate(listed):
        if not isinstance(text, str):
            raise TypeError(f"{name}[{i}] is {text!r:.80} where a text (str) is expected.")
    # numpy's strings become plain ones, which the tokenizer insists on
    return [str(text) for text in listed]


def _is_conversation(prompt: object) -> bool:
    return (
        isinstance(prompt, Sequence)
        and len(prompt) > 0
        and all(isinstance(m, Mapping) and "role" in m and "content" in m for m in prompt)
    )
