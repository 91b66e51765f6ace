"""Where a run came from: command, arguments, inputs and versions."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from causal_lm_opt import __version__
from causal_lm_opt._run.output import file_facts

__all__ = ["provenance"]

SOFTWARE = ("numpy", "scipy", "scikit-learn", "pandas", "statsmodels")


def provenance(
    command: str, arguments: Mapping[str, Any], inputs: Sequence[tuple[str, str | Path]]
) -> dict[str, Any]:
    """JSON-safe facts; ``inputs`` are roles and paths of the files read."""
    return {
        "version": __version__,
        "command": command,
        "arguments": {name: _plain(value) for name, value in arguments.items()},
        "seed": arguments.get("seed"),
        "inputs": [file_facts(path, role) for role, path in inputs],
        "software": {"python": platform.python_version()} | _versions(),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def _versions() -> dict[str, str]:
    found = {}
    for name in SOFTWARE:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # a source tree on the path, not an installed package
            found[name] = "unknown"
    return found
