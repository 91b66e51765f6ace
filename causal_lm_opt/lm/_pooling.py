"""One vector out of a text's hidden states, and what a sentence-transformers folder says of it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from causal_lm_opt.lm._loading import Loading, locate, transformers

__all__ = ["POOLINGS", "Pooling", "SentenceSettings", "pool", "sentence_settings"]

Pooling = Literal["mean", "cls", "last"]
POOLINGS = ("mean", "cls", "last")
#: What sentence-transformers calls them.
_NAMES = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
}


def pool(hidden: Tensor, mask: Tensor, how: Pooling) -> Tensor:
    """Mean of a row's hidden states, or that of its first or last token, (B, H).

    Parameters
    ----------
    hidden : (B, T, H) tensor
        Half precision is raised to float32.
    mask : (B, T) tensor
        1 at real tokens, padding on the right; at least one token a row. What stands at padding
        counts for nothing, NaN included.
    how : {"mean", "cls", "last"}

    Examples
    --------
    >>> hidden = torch.tensor([[[1.0], [3.0], [torch.nan]]])
    >>> mask = torch.tensor([[1, 1, 0]])
    >>> [pool(hidden, mask, how).item() for how in ("mean", "cls", "last")]
    [2.0, 1.0, 3.0]
    """
    hidden = hidden if hidden.dtype == torch.float64 else hidden.float()
    if how == "cls":
        return hidden[:, 0]
    count = mask.sum(1)
    if how == "last":
        return hidden[torch.arange(len(hidden), device=hidden.device), count - 1]
    return hidden.masked_fill(mask[:, :, None] == 0, 0.0).sum(1) / count[:, None]


@dataclass(frozen=True)
class SentenceSettings:
    """How a folder wants its hidden states used; None where it does not say.

    Attributes
    ----------
    pooling : {"mean", "cls", "last"} or None
    normalize : bool or None
    max_length : int or None
        Tokens of a text that are read.
    lower : bool
        Texts are put in lower case before the tokenizer sees them.
    inside : str
        Folder of the weights within the folder.
    unsupported : str or None
        Why pooling cannot be taken from the folder.
    """

    pooling: Pooling | None = None
    normalize: bool | None = None
    max_length: int | None = None
    lower: bool = False
    inside: str = ""
    unsupported: str | None = None


def sentence_settings(name: str | os.PathLike[str], loading: Loading) -> SentenceSettings:
    """Read ``modules.json`` and what it names; all None where there is none.

    Raises
    ------
    ValueError
        If a file there is no JSON of the expected form.
    """
    try:
        modules = _read(name, "modules.json", loading)
    except FileNotFoundError:
        return SentenceSettings(unsupported="its modules.json is not on this machine")
    if modules is None:
        return SentenceSettings()
    paths = {str(m["type"]).rsplit(".", 1)[-1]: str(m.get("path", "")) for m in modules}
    inside = paths.get("Transformer", "")
    own = _read(name, os.path.join(inside, "sentence_bert_config.json"), loading) or {}
    where = os.path.join(paths["Pooling"], "config.json") if "Pooling" in paths else ""
    pooling, unsupported = _pooling_of(_read(name, where, loading) or {} if where else {})
    other = sorted(set(paths) - {"Transformer", "Pooling", "Normalize"})
    if other:
        unsupported = f"a module {other[0]!r} follows its pooling"
    length = own.get("max_seq_length")
    return SentenceSettings(
        pooling, "Normalize" in paths, None if length is None else int(length),
        bool(own.get("do_lower_case")), inside, unsupported,
    )  # fmt: skip


def _pooling_of(config: dict[str, Any]) -> tuple[Pooling | None, str | None]:
    """The pooling that a configuration switches on, or why it cannot be had."""
    asked = [key for key, on in config.items() if key.startswith("pooling_mode_") and on is True]
    if isinstance(config.get("pooling_mode"), str):
        asked.append(config["pooling_mode"])
    known = [name for key in asked if (name := _NAMES.get(key, key)) in POOLINGS]
    if len(asked) > 1 or len(known) < len(asked):
        return None, f"it pools by {' and '.join(asked)}"
    return (cast(Pooling, known[0]) if known else None), None


def _read(name: str | os.PathLike[str], file: str, loading: Loading) -> Any:
    """A JSON file of a folder or hub model; None where the model has no such file."""
    where, local = locate(name, "model")
    path = Path(where, file) if local else _fetched(where, file.replace(os.sep, "/"), loading)
    if path is None or not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}.") from error


def _fetched(name: str, file: str, loading: Loading) -> Path | None:
    """A hub model's file; None where the model has none.

    Raises
    ------
    FileNotFoundError
        Without a network, if the file was not fetched together with the model.
    """
    transformers()  # sets what the hub's library reads when it is imported
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError

    try:
        return Path(hf_hub_download(name, file, local_files_only=loading.local_files_only))
    except RemoteEntryNotFoundError:
        return None
