"""Scores and vectors kept on disk: written whole or not at all, damage noticed, nothing unpickled.

A folder per model fingerprint holds part files. Each is a magic line, the SHA-256 of what follows,
and records of (16-byte key, float64 log-probability) or (16-byte key, vector). Parts are written
beside their name and renamed, under names of their own, so that several processes may share a
folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from causal_lm_opt.exceptions import EstimationWarning

__all__ = ["ScoreCache", "VectorCache", "fingerprint"]

Value = TypeVar("Value")
#: Seconds of scoring that a killed run may lose.
FLUSH_SECONDS = 10.0
#: Parts above which a folder is rewritten as one.
MANY_PARTS = 64
#: Entries of a configuration that say where a model came from, not what it computes.
PROVENANCE = (
    "_name_or_path", "transformers_version", "architectures", "use_cache", "dtype", "torch_dtype",
)  # fmt: skip


def fingerprint(model: Any, *facts: object) -> str:
    """Identity of a model: configuration, adapters, and every weight and buffer, bit by bit.

    Parameters
    ----------
    model : torch module
    *facts : object
        Further things the scores depend on; their ``repr`` counts.

    Returns
    -------
    str
        32 hexadecimal digits (BLAKE2b).
    """
    config: Any = getattr(model, "config", None)
    known = config.to_dict() if hasattr(config, "to_dict") else {}
    known = {k: v for k, v in known.items() if k not in PROVENANCE}
    out = hashlib.blake2b(digest_size=16)
    out.update(type(model).__name__.encode())
    out.update(json.dumps(known, sort_keys=True, default=repr).encode())
    adapters = getattr(model, "peft_config", None)
    if adapters is not None:
        active = getattr(model, "active_adapters", None)
        out.update(repr((sorted(adapters), active if not callable(active) else active())).encode())
        out.update(repr([_adapter_facts(adapters[name]) for name in sorted(adapters)]).encode())
    out.update(repr(facts).encode())
    tensors = dict(model.state_dict(keep_vars=False))
    tensors |= {f"buffer {name}": value for name, value in model.named_buffers()}
    names = sorted(name for name, value in tensors.items() if isinstance(value, torch.Tensor))
    # hashlib lets go of the interpreter lock, so threads share the work.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for name, found in zip(
            names, pool.map(_tensor_digest, map(tensors.get, names)), strict=True
        ):
            out.update(name.encode() + found)
    return out.hexdigest()


def _adapter_facts(config: Any) -> list[tuple[str, str]]:
    known = config.to_dict() if hasattr(config, "to_dict") else vars(config)
    skip = ("base_model_name_or_path", "inference_mode", "revision")
    return sorted((k, repr(v)) for k, v in known.items() if k not in skip)


def _tensor_digest(tensor: Any) -> bytes:
    value = tensor.detach().cpu().contiguous()
    out = hashlib.blake2b(f"{tuple(value.shape)}{value.dtype}".encode(), digest_size=16)
    out.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return out.digest()


class _RecordCache(Generic[Value]):
    """Values of one kind by key, in memory and on disk.

    Parameters
    ----------
    folder : path
        Made if missing; values of other models beside it are left alone.
    name : str
        The model's fingerprint.
    record : dtype
        Fields ``key`` (16 bytes) and ``value``.
    kind : str
        Ending of the files.
    again : str
        What is done anew where a file is damaged.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        name: str,
        record: np.dtype[Any],
        kind: str,
        again: str,
    ) -> None:
        self.folder = Path(folder) / name
        self.record, self.kind, self.again = record, kind, again
        form = "" if record["value"].shape == () else f" {record['value']}"
        self.magic = f"causal_lm_opt {kind}{form} 1\n".encode()
        self._new: dict[bytes, Value] = {}
        self._lock = threading.Lock()
        self._written = time.monotonic()
        self._known = self._load()

    def _values(self, values: NDArray[Any]) -> Iterable[Value]:
        """The values of records, one by one."""
        raise NotImplementedError

    def get(self, key: bytes) -> Value | None:
        """The value kept under a key."""
        return self._known.get(key)

    def put(self, key: bytes, value: Value) -> None:
        """Keep a value; on disk within about ten seconds, or at `flush`."""
        with self._lock:
            self._known[key] = self._new[key] = value
            due = time.monotonic() - self._written > FLUSH_SECONDS
        if due:
            self.flush()

    def flush(self) -> None:
        """Write what is new."""
        with self._lock:
            new, self._new = self._new, {}
            self._written = time.monotonic()
        if new:
            self._write(new)

    # -------------------------------------------------------------------------- files
    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob(f"*.{self.kind}")) if self.folder.is_dir() else []

    def _load(self) -> dict[bytes, Value]:
        known: dict[bytes, Value] = {}
        parts = self._parts()
        for part in parts:
            known.update(self._read(part))
        if len(parts) > MANY_PARTS:
            self._write(known)
            for part in parts:
                part.unlink(missing_ok=True)
        return known

    def _read(self, part: Path) -> Iterator[tuple[bytes, Value]]:
        try:
            raw = part.read_bytes()
        except FileNotFoundError:  # another process has merged the parts
            return iter(())
        magic, record = self.magic, self.record
        body = raw[len(magic) + 32 :]
        whole = (
            raw.startswith(magic)
            and raw[len(magic) : len(magic) + 32] == hashlib.sha256(body).digest()
            and len(body) % record.itemsize == 0
        )
        if not whole:
            warnings.warn(
                f"{part} is damaged; it is set aside and its texts are {self.again} again.",
                EstimationWarning, stacklevel=6,
            )  # fmt: skip
            part.replace(part.with_suffix(".damaged"))
            return iter(())
        records = np.frombuffer(body, dtype=record)
        keys = [bytes(key) for key in records["key"]]
        return iter(zip(keys, self._values(records["value"]), strict=True))

    def _write(self, values: dict[bytes, Value]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        records = np.empty(len(values), dtype=self.record)
        records["key"] = np.frombuffer(b"".join(values), dtype="V16")
        records["value"] = list(values.values())
        body = records.tobytes()
        target = self.folder / f"{time.time_ns():020d}-{secrets.token_hex(4)}.{self.kind}"
        partial = target.with_suffix(".partial")
        try:
            with partial.open("wb") as stream:
                stream.write(self.magic + hashlib.sha256(body).digest() + body)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)


class ScoreCache(_RecordCache[float]):
    """Log-probabilities by key, in memory and on disk.

    Parameters
    ----------
    folder : path
        Made if missing; scores of other models beside it are left alone.
    name : str
        The model's fingerprint.
    """

    def __init__(self, folder: str | os.PathLike[str], name: str) -> None:
        record = np.dtype([("key", "V16"), ("value", "<f8")])
        super().__init__(folder, name, record, "scores", "scored")

    def _values(self, values: NDArray[Any]) -> Iterable[float]:
        found: list[float] = values.tolist()
        return found


class VectorCache(_RecordCache[NDArray[Any]]):
    """Vectors of one length by key, in memory and on disk.

    Parameters
    ----------
    folder, name :
        As of `ScoreCache`.
    width : int
        Length of a vector.
    dtype : dtype
        float32 or float64.
    """

    def __init__(
        self, folder: str | os.PathLike[str], name: str, width: int, dtype: np.dtype[Any]
    ) -> None:
        value = dtype.newbyteorder("<")
        record = np.dtype([("key", "V16"), ("value", value, (width,))])
        super().__init__(folder, name, record, "vectors", "embedded")

    def _values(self, values: NDArray[Any]) -> Iterable[NDArray[Any]]:
        return iter(values)
