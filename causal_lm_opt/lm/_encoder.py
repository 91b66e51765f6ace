"""An encoder at work: loaded once for all clones, batches embedded, vectors kept."""

from __future__ import annotations

import inspect
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from causal_lm_opt.lm._batching import MemoryLimit, Rows, plan_batches, run_batches
from causal_lm_opt.lm._cache import VectorCache, fingerprint
from causal_lm_opt.lm._encoding import Encoded
from causal_lm_opt.lm._engine import progress_bar
from causal_lm_opt.lm._forward import evaluating, plain_model
from causal_lm_opt.lm._loading import (
    Loading,
    check_object,
    context_length,
    load_encoder,
    load_tokenizer,
    locate,
)
from causal_lm_opt.lm._pooling import Pooling, SentenceSettings, pool, sentence_settings
from causal_lm_opt.lm.sequence import pad_batch

__all__ = ["Asked", "Holder", "Opened", "open_encoder"]

Vector = NDArray[Any]
#: Bytes of vectors remembered without a folder; the oldest go first.
REMEMBERED = 2**28
#: A tokenizer that knows no limit says so by a number above this.
NO_LIMIT = 10**9


class Asked(Protocol):
    """What a call says of its batches; a `TextEmbedder`."""

    batch_size: int
    cache: str | os.PathLike[str] | None
    progress: bool | None


class _Kept(Protocol):
    """Where vectors are kept."""

    def get(self, key: bytes) -> Vector | None: ...
    def put(self, key: bytes, value: Vector) -> None: ...
    def flush(self) -> None: ...


class _Memory:
    """Vectors kept while the program runs, the oldest dropped beyond a limit."""

    def __init__(self, most: int) -> None:
        self.most = max(1, most)
        self._known: dict[bytes, Vector] = {}

    def get(self, key: bytes) -> Vector | None:
        return self._known.get(key)

    def put(self, key: bytes, value: Vector) -> None:
        while len(self._known) >= self.most:
            del self._known[next(iter(self._known))]
        self._known[key] = value

    def flush(self) -> None:
        """There is nothing to write."""


class Holder:
    """A model that clones share, opened once; used by one thread at a time."""

    def __init__(self) -> None:
        self.asked: tuple[Any, ...] | None = None
        self.opened: Opened | None = None
        self._lock = threading.RLock()

    def open(self, asked: tuple[Any, ...]) -> None:
        """Load the model unless that was done."""
        with self._lock:
            if self.opened is None:
                self.opened = open_encoder(*asked)
                self.asked = asked

    def __enter__(self) -> Opened:
        self._lock.acquire()
        assert self.opened is not None
        return self.opened

    def __exit__(self, *exception: object) -> None:
        self._lock.release()


@dataclass
class Opened:
    """A model at work, and the vectors it has made."""

    model: Any
    tokenizer: Any
    settings: SentenceSettings
    loaded: bool
    cut: set[str] = field(default_factory=set)
    memory: MemoryLimit = field(default_factory=MemoryLimit)

    def __post_init__(self) -> None:
        self.capacity = context_length(self.model)
        known = (self.settings.max_length, getattr(self.tokenizer, "model_max_length", None))
        self.suggested = min((int(n) for n in known if n and n < NO_LIMIT), default=None)
        self._name: str | None = None
        self._kept: tuple[Any, _Kept] | None = None
        probe = self.hidden([Encoded((), self.ids(["a"])[0] or (0,))], "cls")
        self.width, self.dtype = probe.shape[1], probe.dtype

    def ids(self, texts: Sequence[str], limit: int | None = None) -> list[tuple[int, ...]]:
        """Token ids of texts with the special tokens, cut to ``limit`` if one is given."""
        if not texts:
            return []
        found = self.tokenizer(
            [text.lower() for text in texts] if self.settings.lower else list(texts),
            split_special_tokens=True, return_attention_mask=False, padding=False, verbose=False,
            truncation=limit is not None, max_length=limit,
        )["input_ids"]  # fmt: skip
        return [tuple(row) for row in found]

    def name(self) -> str:
        """Identity of the model now; a loaded one is this object's own and does not change."""
        if self._name is None or not self.loaded:
            self._name = fingerprint(self.model, "embedding", str(self.dtype))
        return self._name

    def kept(self, folder: str | os.PathLike[str] | None) -> _Kept:
        """Where this model's vectors are kept."""
        at = (None if folder is None else Path(folder), self.name())
        if self._kept is None or self._kept[0] != at:
            made: _Kept
            if at[0] is None:
                made = _Memory(REMEMBERED // (self.width * self.dtype.itemsize))
            else:
                made = VectorCache(at[0], at[1], self.width, self.dtype)
            self._kept = at, made
        return self._kept[1]

    def vectors(self, rows: Sequence[Encoded], how: Pooling, asked: Asked) -> Vector:
        """Pooled vectors of rows, (n, d), each distinct row computed once and kept."""
        kept, salt = self.kept(asked.cache), how.encode()
        found: dict[Encoded, Vector] = {}
        keys = {row: row.key(salt) for row in dict.fromkeys(rows)}
        for row, key in keys.items():
            known = np.zeros(self.width, self.dtype) if not len(row) else kept.get(key)
            if known is not None:
                found[row] = known
        wanted = [row for row in keys if row not in found]
        lengths = [len(row) for row in wanted]
        most = asked.batch_size * max(lengths, default=1)
        batches = plan_batches(lengths, max_tokens=most, max_rows=asked.batch_size)

        def compute(at: Rows) -> Vector:
            return self.hidden([wanted[i] for i in at], how)

        try:
            with progress_bar(sum(lengths), "tokens embedded", asked.progress, "") as bar:
                for at, part in run_batches(batches, lengths, compute, self.memory):
                    for i, vector in zip(at, part, strict=True):
                        found[wanted[i]] = vector
                        kept.put(keys[wanted[i]], vector)
                    bar.update(sum(lengths[i] for i in at))
        finally:  # also on Ctrl-C: what is done is kept
            kept.flush()
        out = np.empty((len(rows), self.width), self.dtype)
        for i, row in enumerate(rows):
            out[i] = found[row]
        return out

    def hidden(self, rows: Sequence[Encoded], how: Pooling) -> Vector:
        """Pooled vectors of one batch, (b, d)."""
        pad = getattr(self.model.config, "pad_token_id", None)
        batch = pad_batch([row.completion for row in rows], [()] * len(rows), pad_id=int(pad or 0))
        batch = batch.to(self.model.device)
        body = plain_model(self.model).base_model
        given: dict[str, Any] = {
            "input_ids": batch.input_ids,
            "attention_mask": batch.attention_mask,
        }
        if "use_cache" in inspect.signature(body.forward).parameters:  # decoders
            given["use_cache"] = False
        with evaluating(self.model), torch.inference_mode():
            out = body(**given)
            hidden = getattr(out, "last_hidden_state", None)
            if hidden is None or hidden.shape[:2] != batch.input_ids.shape:
                raise TypeError(
                    f"{type(self.model).__name__} gives no hidden state for each token "
                    "(last_hidden_state); it cannot be used as an encoder."
                )
            found: Vector = pool(hidden, batch.attention_mask, how).cpu().numpy()
        if not np.isfinite(found).all():
            raise ValueError(
                "the model gives vectors that are not finite: its numbers overflow. One in float16 "
                'may need dtype="bfloat16" or "float32".'
            )
        return found


def open_encoder(model: Any, tokenizer: Any, *settings: Any) -> Opened:
    """Model and tokenizer, loaded where they are named and taken as they are where given."""
    dtype, device, trust, pickles, local = settings
    loading = Loading(dtype, device, None, None, trust, pickles, local)
    found = SentenceSettings()
    place: Any = None
    if isinstance(model, str | os.PathLike):
        found = sentence_settings(model, loading)
        place, is_folder = locate(model, "model")
        if found.inside and not is_folder:
            raise ValueError(
                f"model {place!r} keeps its weights in {found.inside!r}: download it and give the "
                "folder."
            )
        place = os.path.join(place, found.inside) if found.inside else place
        model = load_encoder(place, loading)
        check_object(model, Loading(), "an encoder")
    else:
        check_object(model, loading, "an encoder")
        if tokenizer is None:
            raise TypeError("a model object needs its tokenizer: TextEmbedder(model, tokenizer).")
    if tokenizer is None or isinstance(tokenizer, str | os.PathLike):
        tokenizer = load_tokenizer(place if tokenizer is None else tokenizer, loading)
    return Opened(model, tokenizer, found, loaded=place is not None)
