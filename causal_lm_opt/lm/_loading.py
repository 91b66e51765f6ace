"""Models and tokenizers from a folder or hub name: safetensors only and no remote code by default.

Nothing is fetched when a folder is named. Usage reports of the Hugging Face libraries are switched
off before they are imported (set ``HF_HUB_DISABLE_TELEMETRY=0`` yourself to have them).
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

__all__ = [
    "Loading",
    "check_counts",
    "context_length",
    "end_token",
    "load_adapter",
    "load_encoder",
    "load_model",
    "load_tokenizer",
    "locate",
    "missing_weights",
    "open_model",
    "save_folder",
    "without_bars",
]

BAR_FROM = 10**9  # bytes of a model whose loading takes long enough to show how far it is
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def transformers() -> Any:
    """The library, imported on first use (it takes seconds)."""
    if find_spec("transformers") is None:
        raise ImportError(
            "language models need transformers: pip install 'causal_lm_opt[lm]'",
            name="transformers",
        )
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # Otherwise a hub model without safetensors starts a conversion request in the background.
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    return import_module("transformers")


def as_dtype(dtype: str | torch.dtype | None) -> torch.dtype | str:
    """A dtype by name or value; None keeps the one the weights are stored in."""
    if dtype is None:
        return "auto"
    if isinstance(dtype, torch.dtype):
        return dtype
    found = getattr(torch, dtype, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(f'dtype must be like "float32", "bfloat16" or "float64", got {dtype!r}.')
    return found


def locate(name: str | os.PathLike[str], what: str) -> tuple[str, bool]:
    """The name as a string, and whether it is a folder on this machine."""
    text = os.fspath(name)
    folder = Path(text).expanduser()
    if folder.is_dir():
        return str(folder), True
    if folder.is_absolute() or text.startswith(("./", "../", "~")):
        raise FileNotFoundError(f"{what} {text!r} is not a folder.")
    return text, False


def _refuse_pickles(folder: str, allow_pickle: bool) -> None:
    """An error that says what to do, in place of a later one that does not."""
    names = sorted(os.listdir(folder))
    safe = any(name.endswith((".safetensors", ".gguf")) for name in names)
    pickled = [name for name in names if name.endswith(PICKLED) and "training_args" not in name]
    if not safe and pickled and not allow_pickle:
        raise ValueError(
            f"{folder} holds weights as a pickle only ({pickled[0]}), which can run code when it "
            "is loaded; convert them to safetensors, or pass allow_pickle=True if you trust them."
        )


@dataclass(frozen=True)
class Loading:
    """How a model is loaded; the arguments of `LanguageModelPolicy` of the same names."""

    dtype: str | torch.dtype | None = None
    device: str | torch.device | None = None
    quantization_config: Any = None
    gguf_file: str | None = None
    trust_remote_code: bool = False
    allow_pickle: bool = False
    local_files_only: bool = False

    @property
    def concerns_weights(self) -> bool:
        """Whether anything was asked that only loading can do."""
        asked = (self.dtype, self.device, self.quantization_config, self.gguf_file)
        return any(value is not None for value in asked)


def open_model(
    model: Any, tokenizer: Any, adapter: str | os.PathLike[str] | None, loading: Loading
) -> tuple[Any, Any]:
    """Model and tokenizer, loaded where they are named and taken as they are where given."""
    place = model if isinstance(model, str | os.PathLike) else None
    if place is None:
        check_object(model, loading)
        if tokenizer is None:
            raise TypeError("a model object needs its tokenizer: LanguageModelPolicy(model, tok).")
    else:
        model = load_model(place, loading)
    if tokenizer is None:
        tokenizer = load_tokenizer(place or "", loading, gguf_file=loading.gguf_file)
    elif isinstance(tokenizer, str | os.PathLike):
        tokenizer = load_tokenizer(tokenizer, loading)
    if adapter is not None:
        model = load_adapter(model, adapter, loading)
    return model, tokenizer


def check_object(model: Any, loading: Loading, what: str = "a causal language model") -> None:
    """Refuse what is no model of transformers, and settings that come too late for it."""
    if not hasattr(model, "config") or not hasattr(model, "forward"):
        raise TypeError(
            f"model must be a folder, a hub name or {what} of transformers, got "
            f"{type(model).__name__}."
        )
    if loading.concerns_weights:
        raise TypeError(
            "dtype, device, quantization_config and gguf_file are for models loaded here; move or "
            "convert the model object yourself."
        )
    if getattr(model.config, "is_encoder_decoder", False):
        raise TypeError(f"an encoder-decoder model is not {what}.")


def load_model(name: str | os.PathLike[str], loading: Loading) -> Any:
    """A causal language model in evaluation mode."""
    return _load("AutoModelForCausalLM", name, loading)


def load_encoder(name: str | os.PathLike[str], loading: Loading) -> Any:
    """A model without its head, in evaluation mode.

    Raises
    ------
    ValueError
        If weights that the hidden states depend on are not in the files.
    """
    model, report = _load("AutoModel", name, loading, output_loading_info=True)
    missing = set(report["missing_keys"]) | {str(key) for key in report["mismatched_keys"]}
    if missing and all(key.startswith("pooler.") for key in missing):
        # The files come from a model with a head: a random pooler, which nothing reads, would make
        # every loading another model.
        model.pooler = None
    elif missing:
        raise ValueError(
            f"model {os.fspath(name)!r} lacks {len(missing)} of the weights of "
            f"{type(model).__name__} ({min(missing)}, ...), which would be random numbers; is it a "
            "folder of another kind of model?"
        )
    return model


def _load(auto: str, name: str | os.PathLike[str], loading: Loading, **more: Any) -> Any:
    where, local = locate(name, "model")
    if local:
        _refuse_pickles(where, loading.allow_pickle)
    given: dict[str, Any] = {
        **more,
        "dtype": as_dtype(loading.dtype),
        "trust_remote_code": loading.trust_remote_code,
        "local_files_only": local or loading.local_files_only,
    }
    quantised = loading.quantization_config is not None
    if loading.gguf_file is not None:
        given["gguf_file"] = loading.gguf_file
    elif not loading.allow_pickle:
        given["use_safetensors"] = True
    if quantised:
        given["quantization_config"] = loading.quantization_config
        if loading.device is not None:
            given["device_map"] = {"": loading.device}
    with without_bars() if local and _read_at_once(Path(where)) else nullcontext():
        found = getattr(transformers(), auto).from_pretrained(where, **given)
    model = found[0] if more else found
    if loading.gguf_file is not None:
        # Its weights are ordinary numbers by now, yet it would refuse to be saved as if packed.
        model.hf_quantizer = None
        del model.config.quantization_config
    if loading.device is not None and not quantised:
        model = model.to(loading.device)
    return (model.eval(), *found[1:]) if more else model.eval()


def _read_at_once(folder: Path) -> bool:
    """Whether a folder's files are so few bytes that a progress bar would only flash up."""
    return sum(part.stat().st_size for part in folder.iterdir() if part.is_file()) < BAR_FROM


def load_tokenizer(
    name: str | os.PathLike[str], loading: Loading, *, gguf_file: str | None = None
) -> Any:
    """The tokenizer that lies beside a model."""
    where, local = locate(name, "tokenizer")
    given = {} if gguf_file is None else {"gguf_file": gguf_file}
    return transformers().AutoTokenizer.from_pretrained(
        where,
        trust_remote_code=loading.trust_remote_code,
        local_files_only=local or loading.local_files_only,
        **given,
    )


def load_adapter(model: Any, adapter: str | os.PathLike[str], loading: Loading) -> Any:
    """The model with a PEFT adapter on it."""
    if find_spec("peft") is None:
        raise ImportError("adapters need peft: pip install 'causal_lm_opt[lm]'", name="peft")
    where, local = locate(adapter, "adapter")
    if local:
        _refuse_pickles(where, loading.allow_pickle)
    given: dict[str, Any] = {} if local else {"local_files_only": loading.local_files_only}
    if not loading.allow_pickle:
        given["use_safetensors"] = True
    return import_module("peft").PeftModel.from_pretrained(model, where, **given).eval()


def save_folder(
    model: Any, tokenizer: Any, folder: str | os.PathLike[str],
    also: Callable[[Path], None] | None = None,
) -> Path:  # fmt: skip
    """Write model and tokenizer, and what ``also`` puts beside them, to a new folder: all or none.

    Raises
    ------
    FileExistsError
        If the folder exists and is not empty.
    """
    target = Path(folder).expanduser().resolve()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{target} exists; save to a new folder.")
    target.parent.mkdir(parents=True, exist_ok=True)
    staged = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    try:
        with without_bars():
            model.save_pretrained(staged)
        tokenizer.save_pretrained(staged)
        if also is not None:
            also(staged)
        os.replace(staged, target)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return target


@contextmanager
def without_bars() -> Iterator[None]:
    """Inside, transformers draws no progress bars; what it logs is heard."""
    said = transformers().utils.logging
    shown = said.is_progress_bar_enabled()
    said.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            said.enable_progress_bar()


def missing_weights(model: Any, missing: Sequence[str]) -> list[str]:
    """Of the names that a file lacks, those of weights that it does not hold by another name.

    Files hold tied weights (embedding and head) once.
    """
    lacking, named = set(missing), dict(model.named_parameters(remove_duplicate=False))
    read = {id(weight) for name, weight in named.items() if name not in lacking}
    return [name for name in missing if name not in named or id(named[name]) not in read]


def context_length(model: Any) -> int | None:
    """Longest sequence the model was made for, in tokens; None where it does not say."""
    table: Any = next(
        (m for n, m in model.named_modules() if n.endswith("position_embeddings")), None
    )
    if getattr(table, "padding_idx", None) is not None:
        # RoBERTa's kind: places are counted from the padding's index on.
        return int(table.num_embeddings) - int(table.padding_idx) - 1
    config = model.config.get_text_config()
    for name in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"):
        value = getattr(config, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return None


def end_token(tokenizer: Any, wanted: int | str | None) -> int:
    """Id of the token that closes a text."""
    if isinstance(wanted, bool):
        raise TypeError("eos_token must be a token or its id, not a bool.")
    if isinstance(wanted, int):
        return wanted
    if wanted is None:
        if tokenizer.eos_token_id is None:
            raise ValueError("the tokenizer has no end-of-text token; pass eos_token.")
        return int(tokenizer.eos_token_id)
    found = tokenizer.convert_tokens_to_ids(wanted)
    if found is None or found == tokenizer.unk_token_id:
        raise ValueError(f"eos_token {wanted!r} is not a token of this tokenizer.")
    return int(found)


def check_counts(**counts: int | None) -> None:
    """Raise ValueError unless every value is None or an integer >= 1."""
    for name, value in counts.items():
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, int) or value < 1
        ):
            raise ValueError(f"{name} must be an integer >= 1, got {value!r}.")
