"""Where a run came from: command, arguments, inputs and versions."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from causal_lm_opt import __version__
from causal_lm_opt._run.output import file_facts

__all__ = ["command_line", "provenance"]

SOFTWARE = ("numpy", "scipy", "scikit-learn", "pandas", "statsmodels")
MODEL_SOFTWARE = ("torch", "transformers", "tokenizers", "safetensors")


def command_line(context: Any) -> str:
    """The shell command that gives a Typer context's arguments; defaults are left out."""
    words = ["causal-lm-opt", str(context.info_name)]
    for parameter in context.command.params:
        value = context.params.get(parameter.name)
        if parameter.param_type_name == "argument":
            words += map(str, value) if isinstance(value, list | tuple) else [str(value)]
            continue
        if value == parameter.default or value in (None, False, [], ()):
            continue
        option = max(parameter.opts, key=len)
        if value is True:
            words.append(option)
            continue
        for each in value if isinstance(value, list | tuple) else [value]:
            words += [option, str(each)]
    return shlex.join(words)


def provenance(
    command: str,
    arguments: Mapping[str, Any],
    inputs: Sequence[tuple[str, str | Path]],
    reproduce: str = "",
    models: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """JSON-safe facts; ``inputs`` are roles and paths of the files read.

    ``models`` are those that scored texts (see :class:`causal_lm_opt._run.models.Scored`).
    """
    software = SOFTWARE + (MODEL_SOFTWARE if models else ())
    return {
        "version": __version__,
        "command": command,
        "reproduce": reproduce or f"causal-lm-opt {command}",
        "arguments": {name: _plain(value) for name, value in arguments.items()},
        "seed": arguments.get("seed"),
        "inputs": [file_facts(path, role) for role, path in inputs],
        **({"models": [dict(model) for model in models]} if models else {}),
        "software": {"python": platform.python_version()} | _versions(software),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def _versions(names: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # a source tree on the path, not an installed package
            found[name] = "unknown"
    return found
