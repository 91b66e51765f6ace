"""What ``causal-lm-opt doctor`` finds: versions, threads, devices, extras and data files.

It writes nothing. torch is asked in a process of its own: the core never imports it.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from causal_lm_opt import __version__
from causal_lm_opt._run.terminal import printable

__all__ = ["DATA", "as_text", "examine"]

DATA = "CAUSAL_LM_OPT_DATA"
CORE = ("numpy", "scipy", "scikit-learn", "statsmodels", "pandas", "pyarrow", "matplotlib")
FURTHER = ("torch", "transformers", "accelerate", "peft")
#: Public research data that the loaders and tests know.
KNOWN_FILES = (
    "hong_kong_2019.csv",
    "hong_kong_arm_texts.csv",
    "llm_persuasion_messages.csv.gz",
    "llm_persuasion_outcomes.csv.gz",
    "upworthy_headlines.parquet",
)
SECONDS = 120  # a first import of torch from a cold disk takes a while
_ASK_TORCH = """
import json, torch
mps = getattr(torch.backends, "mps", None)
print(json.dumps({
    "cuda": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    "mps": bool(mps and mps.is_available()),
    "threads": torch.get_num_threads(),
}))
"""


def examine() -> dict[str, Any]:
    """Facts on the installation, safe for JSON.

    Returns
    -------
    dict
        ``works`` (bool), ``problem`` (str or None), ``versions``, ``blas``, ``torch``, ``extras``
        and ``data``.
    """
    problem = _core_problem()
    return {
        "works": problem is None,
        "problem": problem,
        "versions": _versions(),
        "blas": _threads(),
        "torch": _torch(),
        "extras": _extras(),
        "data": _data(os.environ.get(DATA)),
    }


def _core_problem() -> str | None:
    """What keeps the core from valuing a policy on four rows; ``None`` if nothing does."""
    try:
        import numpy as np

        from causal_lm_opt.estimators import IPW

        half = np.log([0.5, 0.5, 0.5, 0.5])
        fitted = IPW().fit(
            ["a", "b", "a", "b"], [1.0, 3.0, 2.0, 4.0], logp_logging=half,
            logp_target=np.log([0.25, 0.75, 0.25, 0.75]),
        )  # fmt: skip
        value = float(fitted.value_)
    except Exception as error:  # noqa: BLE001 - a broken installation is what is looked for
        return f"{type(error).__name__}: {error}"
    return None if abs(value - 3.0) < 1e-9 else f"a value that should be 3 is {value!r}"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {
        "python": f"{platform.python_version()} ({platform.system()} {platform.machine()})",
        "causal_lm_opt": __version__,
    }
    return found | {name: _version(name) for name in (*CORE, *FURTHER)}


def _threads() -> list[dict[str, Any]]:
    """Thread pools of the linear algebra libraries in this process."""
    try:
        threadpoolctl: Any = import_module("threadpoolctl")  # it carries no types
    except ImportError:
        return []
    return [
        {"api": p["user_api"], "library": p["internal_api"], "threads": p["num_threads"]}
        for p in threadpoolctl.threadpool_info()
    ]


def _torch() -> dict[str, Any] | None:
    """Devices that torch sees, or why it does not start; ``None`` without torch."""
    if find_spec("torch") is None:
        return None
    try:
        done = subprocess.run(
            [sys.executable, "-c", _ASK_TORCH],
            capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        if done.returncode == 0:
            return dict(json.loads(done.stdout.splitlines()[-1]))
        said = done.stderr.strip().splitlines()
        return {"problem": said[-1] if said else f"exit status {done.returncode}"}
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError) as error:
        return {"problem": str(error)}


def _extras() -> list[dict[str, Any]]:
    """Extras with what they lack and the line that adds it."""
    try:
        lines = requires("causal_lm_opt") or []
    except PackageNotFoundError:  # a source tree on the path
        return []
    wanted: dict[str, list[str]] = {}
    for line in lines:
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)", line)
        name = re.match(r"[A-Za-z0-9._-]+", line)
        if extra and name:
            wanted.setdefault(extra[1], []).append(name[0])
    return [
        {
            "extra": extra,
            "missing": [name for name in names if _version(name) is None],
            "add": f'pip install "causal_lm_opt[{extra}]"',
        }
        for extra, names in wanted.items()
    ]


def _data(folder: str | None) -> dict[str, Any]:
    """The shipped data, and the known files of the folder that ``CAUSAL_LM_OPT_DATA`` names."""
    from causal_lm_opt.datasets import shipped_data_dir

    try:
        shipped: str | None = str(shipped_data_dir())
    except FileNotFoundError:
        shipped = None
    files = [] if folder is None else [_file(Path(folder), name) for name in KNOWN_FILES]
    return {"shipped": shipped, "folder": folder, "files": files}


def _file(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    try:
        with path.open("rb") as stream:
            stream.read(1)
        return {"name": name, "state": "readable", "bytes": path.stat().st_size}
    except FileNotFoundError:
        return {"name": name, "state": "not there", "bytes": None}
    except OSError as error:
        return {"name": name, "state": error.strerror or "not readable", "bytes": None}


# ------------------------------------------------------------------------------ as text
def as_text(found: Mapping[str, Any]) -> str:
    """The facts for a terminal, at most 80 columns where names allow."""
    state = "works" if found["works"] else f"DOES NOT WORK: {found['problem']}"
    lines = [f"causal-lm-opt {__version__}: the core {state}", "", "Versions"]
    lines += _pairs([(name, value or "not installed") for name, value in found["versions"].items()])
    lines += ["", "Threads and devices"]
    lines += _pairs(
        [(pool["library"], f"{_plural(pool['threads'])} ({pool['api']})") for pool in found["blas"]]
    )
    lines += _pairs([("torch", _devices(found["torch"]))])
    lines += ["", "Extras"]
    for extra in found["extras"]:
        missing = ", ".join(extra["missing"])
        said = f"lacks {missing}: {extra['add']}" if missing else "complete"
        lines += _pairs([(extra["extra"], said)])
    lines += ["", "Data", *_data_lines(found["data"])]
    return "\n".join(map(printable, lines)) + "\n"


def _pairs(pairs: Sequence[tuple[str, str]]) -> list[str]:
    return [f"  {name:<20}{value}" for name, value in pairs]


def _devices(torch: Mapping[str, Any] | None) -> str:
    if torch is None:
        return "not installed; the core needs none"
    if "problem" in torch:
        return f"does not start: {torch['problem']}"
    devices = [*torch["cuda"], *(["mps"] if torch["mps"] else [])]
    return ", ".join([*devices, f"CPU with {_plural(torch['threads'])}"])


def _data_lines(data: Mapping[str, Any]) -> list[str]:
    shipped = data["shipped"] or "not found: work in a checkout for `causal-lm-opt demo`"
    lines = _pairs([("shipped", shipped)])
    if data["folder"] is None:
        return [*lines, *_pairs([(DATA, "not set; it names the folder of the research data")])]
    lines += [f"  {DATA}={data['folder']}"]
    for file in data["files"]:
        size = "" if file["bytes"] is None else f", {file['bytes'] / 1e6:.1f} MB"
        lines.append(f"    {file['name']:<32}{file['state']}{size}")
    return lines


def _plural(threads: int) -> str:
    return f"{threads} thread{'' if threads == 1 else 's'}"
