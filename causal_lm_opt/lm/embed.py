"""Texts as vectors: any Hugging Face encoder as a scikit-learn transformer."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray

from causal_lm_opt.estimators._text_rows import TextTransformer, text_rows
from causal_lm_opt.exceptions import EstimationWarning
from causal_lm_opt.lm._encoder import Holder, Opened
from causal_lm_opt.lm._encoding import Encoded
from causal_lm_opt.lm._loading import check_counts
from causal_lm_opt.lm._pooling import POOLINGS, Pooling, SentenceSettings

__all__ = ["TextEmbedder"]

Vector = NDArray[Any]


class TextEmbedder(TextTransformer):
    """A Hugging Face encoder that turns texts into vectors; a scikit-learn transformer.

    Nothing is learnt from the texts, so that a pipeline may be fitted on any rows. Clones share the
    loaded model and the vectors already made: cross-fitting and bootstraps embed each text once.

    Parameters
    ----------
    model : folder, hub name, or model object
        A folder or name is loaded on first use, from safetensors only, without its head. An object
        is used as it is, where it is, in evaluation mode (its own mode is put back); clones share
        it. Decoders work too (see ``pooling``).
    tokenizer : folder, hub name or tokenizer, optional
        By default the one beside the model; needed with a model object.
    pooling : {"auto", "mean", "cls", "last"}
        Mean of the hidden states of a text's tokens (special ones included), or that of its first
        or last token. "auto": as the ``modules.json`` of a sentence-transformers folder says, and
        the mean where there is none.
    normalize : bool or "auto"
        Divide each vector by its length; "auto": where ``modules.json`` says so.
    batch_size : int
        Texts of a batch, halved when memory runs out. Changes nothing but rounding.
    max_length : int, optional
        Most tokens of a text, special ones included. By default what the sentence-transformers
        folder, the tokenizer and the model's table of places allow: the least of them.
    too_long : {"truncate", "error"}
        Longer texts are read up to there, with one warning that counts them, or are an error.
    device : str or torch.device, optional
        Where a loaded model goes; by default the CPU.
    dtype : str or torch.dtype, optional
        Precision to load in; by default that of the stored weights.
    cache : folder, optional
        Vectors are kept there, keyed by every weight of the model, its configuration, the pooling,
        and a text's tokens (so by tokenizer, ``max_length`` and text). All of a model's vectors are
        read into memory. Without it up to 256 MB are remembered while this object or a clone lives.
    trust_remote_code, allow_pickle : bool, default False
        Both let a downloaded model run code on this machine.
    local_files_only : bool, default False
        Never ask the hub; a folder is never asked for there anyway.
    progress : bool, optional
        A bar on stderr; by default on a terminal only.
    column : str
        Where X is a frame, the column of the texts.

    Attributes
    ----------
    n_truncated : int
        Distinct texts cut so far, by this object and its clones.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError, OSError
        On first use: if arguments do not fit each other, the model cannot be found, lacks weights,
        or gives numbers that are not finite.

    Notes
    -----
    *Padding* is masked and on the right: a vector does not depend on its batch beyond rounding
    (about 1e-7 in float32, 1e-3 in half precision).

    *An empty text* has the vector of the special tokens alone; of a tokenizer without any, zeros.

    *Names of special tokens* inside a text are plain characters. Prompts that a model wants before
    its texts ("query: ...") are yours to put there.

    *Pickles* hold no weights where a folder or name was given: the other side loads them anew.

    *A model object* may change between calls, so its weights are hashed at each; a folder's are
    hashed once.

    Examples
    --------
    >>> from causal_lm_opt.lm import TextEmbedder, from_texts
    >>> texts = ["Join us today.", "Join us.", "Stay at home."] * 4
    >>> policy = from_texts(texts, epochs=1, vocab_size=280, n_layer=1, n_embd=16, n_head=1)
    >>> embedder = TextEmbedder(policy.model, policy.tokenizer, pooling="last")
    >>> embedder.fit_transform(["Join us.", "Stay."]).shape
    (2, 16)
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        *,
        pooling: Literal["auto", "mean", "cls", "last"] = "auto",
        normalize: bool | Literal["auto"] = True,
        batch_size: int = 32,
        max_length: int | None = None,
        too_long: Literal["truncate", "error"] = "truncate",
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        cache: str | os.PathLike[str] | None = None,
        trust_remote_code: bool = False,
        allow_pickle: bool = False,
        local_files_only: bool = False,
        progress: bool | None = None,
        column: str = "text",
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.pooling = pooling
        self.normalize = normalize
        self.batch_size = batch_size
        self.max_length = max_length
        self.too_long = too_long
        self.device = device
        self.dtype = dtype
        self.cache = cache
        self.trust_remote_code = trust_remote_code
        self.allow_pickle = allow_pickle
        self.local_files_only = local_files_only
        self.progress = progress
        self.column = column

    # ------------------------------------------------------------------ scikit-learn
    def fit(self, X: Any, y: Any = None) -> Self:
        """Check texts and settings; nothing is learnt or loaded."""
        self._check()
        text_rows(X, self.column)
        return self

    def transform(self, X: Any) -> Vector:
        """Vectors of texts.

        Parameters
        ----------
        X : list, array or Series of n str, or frame

        Returns
        -------
        (n, d) array
            float64 for a model in double precision, else float32.

        Raises
        ------
        MemoryError
            If a single text does not fit.
        """
        self._check()
        texts = text_rows(X, self.column).tolist()
        with self._holder() as opened:
            how, normalize = self._how(opened.settings)
            rows = self._encode(opened, texts)
            out = opened.vectors(rows, how, self)
        if normalize:
            length = np.linalg.norm(out, axis=1, keepdims=True)
            out /= np.where(length > 0, length, 1)
        return out

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """``embedding0``, ``embedding1``, ..."""
        with self._holder() as opened:
            width = opened.width
        return np.array([f"embedding{j}" for j in range(width)], dtype=object)

    @property
    def n_truncated(self) -> int:
        """Distinct texts cut so far, by this object and its clones."""
        shared: Holder | None = self.__dict__.get("_shared")
        return 0 if shared is None or shared.opened is None else len(shared.opened.cut)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_clone__(self) -> Self:
        # Nothing is learnt, so a copy is a clone; the model is shared and never copied.
        self.__dict__.setdefault("_shared", Holder())
        other = type(self).__new__(type(self))
        for name, value in self.__dict__.items():
            other.__dict__[name] = dict(value) if isinstance(value, dict) else value
        return other

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in dict(super().__getstate__()).items() if k != "_shared"}

    # ------------------------------------------------------------------ settings
    def _check(self) -> None:
        for name, value, allowed in (
            ("pooling", self.pooling, ("auto", *POOLINGS)),
            ("normalize", self.normalize, (True, False, "auto")),
            ("too_long", self.too_long, ("truncate", "error")),
        ):
            if value not in allowed:
                raise ValueError(f"{name} must be one of {list(allowed)}, got {value!r}.")
        if self.batch_size is None:
            raise ValueError("batch_size must be an integer >= 1, got None.")
        check_counts(batch_size=self.batch_size, max_length=self.max_length)

    def _holder(self) -> Holder:
        """The model, loaded if it is not yet, or not as is asked now."""
        asked = (
            self.model, self.tokenizer, self.dtype, self.device, self.trust_remote_code,
            self.allow_pickle, self.local_files_only,
        )  # fmt: skip
        shared: Holder = self.__dict__.setdefault("_shared", Holder())
        if shared.asked not in (None, asked):
            shared = self._shared = Holder()
        shared.open(asked)
        return shared

    def _how(self, settings: SentenceSettings) -> tuple[Pooling, bool]:
        normalize = bool(settings.normalize) if self.normalize == "auto" else self.normalize
        if self.pooling != "auto":
            return self.pooling, normalize
        if settings.unsupported is not None:
            raise ValueError(
                f"pooling='auto' cannot follow model {os.fspath(self.model)!r}: "
                f"{settings.unsupported}. Pass pooling='mean', 'cls' or 'last'."
            )
        return settings.pooling or "mean", normalize

    def _limit(self, opened: Opened) -> int | None:
        """Most tokens of a text."""
        capacity, own = opened.capacity, int(opened.tokenizer.num_special_tokens_to_add())
        if self.max_length is None:
            known = [n for n in (capacity, opened.suggested) if n is not None]
            return min(known, default=None)
        if capacity is not None and self.max_length > capacity:
            raise ValueError(
                f"max_length is {self.max_length}, but the model reads at most {capacity} tokens."
            )
        if self.max_length <= own:
            raise ValueError(
                f"max_length is {self.max_length}, which leaves no room beside the tokenizer's "
                f"{own} special tokens."
            )
        return self.max_length

    # ------------------------------------------------------------------ tokens
    def _encode(self, opened: Opened, texts: Sequence[str]) -> list[Encoded]:
        """Token ids of texts, within the limit."""
        limit = self._limit(opened)
        ids = opened.ids(texts)
        long = [] if limit is None else [i for i, row in enumerate(ids) if len(row) > limit]
        if limit is None or not long:
            return [Encoded((), row) for row in ids]
        said = f"{len(long)} of {len(texts)} texts have more than {limit} tokens"
        if self.too_long == "error":
            raise ValueError(
                f"{said}, the first at row {long[0]} ({len(ids[long[0]])}). Shorten or drop them, "
                "raise max_length, or pass too_long='truncate' to read the beginning of each."
            )
        for i, row in zip(long, opened.ids([texts[i] for i in long], limit), strict=True):
            ids[i] = row
        if not opened.cut:
            warnings.warn(
                f"{said}: read is the beginning of each. (Said once; see n_truncated and "
                "max_length.)",
                EstimationWarning, stacklevel=4,
            )  # fmt: skip
        opened.cut.update(texts[i] for i in long)
        return [Encoded((), row) for row in ids]
