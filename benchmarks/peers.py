"""Peers' average treatment effects, timed in an environment of their own.

Run as a script there (``python peers.py doubleml --data FILE --repeats 5``) it imports NumPy and
the peer, nothing of this package, and prints one JSON line. :func:`prepare` makes the environment.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Everything the peers need to run beside each other; zepid needs an old setuptools.
PINS = ("pandas==2.3.3", "setuptools<81")
ONE_THREAD = {
    f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB")
}
Figures = dict[str, "float | None"]
Columns = Mapping[str, Any]


@dataclass(frozen=True)
class Peer:
    """A peer's estimator: what to install, what it computes, and which task of ours matches."""

    package: str
    requirement: str
    computes: str
    ours: str


PEERS: dict[str, Peer] = {
    "doubleml, known propensities": Peer(
        "doubleml",
        "doubleml==0.11.4",
        "DoubleMLIRM: ATE and SE, 5 folds, OLS in each arm, true propensities handed in as "
        "external predictions; unnormalised weights",
        "known",
    ),
    "doubleml": Peer(
        "doubleml",
        "doubleml==0.11.4",
        "DoubleMLIRM: ATE and SE, 5 folds, OLS in each arm, logistic propensities fitted in each "
        "fold; unnormalised weights",
        "cross-fitted",
    ),
    "causallib": Peer(
        "causallib",
        "causallib>=0.10,<0.11",
        "AIPW: ATE without SE, no folds, OLS in each arm and logistic propensities fitted on all "
        "rows; unnormalised weights",
        "fitted",
    ),
    "zepid": Peer(
        "zepid",
        "zepid==0.9.1",
        "AIPTW: ATE and SE, no folds, Gaussian GLM with treatment interactions and logistic "
        "propensities fitted on all rows; unnormalised weights",
        "fitted",
    ),
}


# ------------------------------------------------------------------ memory of this process
def peak_mb(*, since_reset: bool = True) -> float:
    """Peak resident memory in MB (of 1e6 bytes), since :func:`reset_peak` where Linux allows."""
    status = Path("/proc/self/status")
    if since_reset and status.exists():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def reset_peak() -> float:
    """Start a new peak at the memory in use now, and return it; the old peak where refused."""
    gc.collect()
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:  # not Linux, or a sandbox: the peak stays that of the whole process
        return peak_mb()
    return peak_mb()


# ------------------------------------------------------------------ the peers
def doubleml_effect(data: Columns, *, known: bool) -> Figures:
    import doubleml  # type: ignore[import-not-found]
    import numpy as np
    from sklearn.linear_model import LinearRegression, LogisticRegression

    model = doubleml.DoubleMLIRM(
        doubleml.DoubleMLData.from_arrays(data["covariates"], data["y"], data["treated"]),
        LinearRegression(),
        LogisticRegression(C=np.inf),
        n_folds=5,
        score="ATE",
    )
    if known:
        model.fit(external_predictions={"d": {"ml_m": data["propensity"][:, None]}})
    else:
        model.fit()
    return {"effect": float(model.coef[0]), "effect_se": float(model.se[0])}


def causallib_effect(data: Columns) -> Figures:
    import numpy as np
    import pandas as pd
    from causallib.estimation import (  # type: ignore[import-not-found]
        AIPW,
        IPW,
        StratifiedStandardization,
    )
    from sklearn.linear_model import LinearRegression, LogisticRegression

    X = pd.DataFrame(data["covariates"]).add_prefix("c")
    treated, y = pd.Series(data["treated"].astype(int)), pd.Series(data["y"])
    outcome = StratifiedStandardization(LinearRegression())
    model = AIPW(outcome, IPW(LogisticRegression(C=np.inf)))
    means = model.fit(X, treated, y).estimate_population_outcome(X, treated, y)
    return {"effect": float(means[1] - means[0]), "effect_se": None}


def zepid_effect(data: Columns) -> Figures:
    import pandas as pd
    from zepid.causal.doublyrobust import AIPTW  # type: ignore[import-not-found]

    frame = pd.DataFrame(data["covariates"]).add_prefix("c")
    names = list(frame.columns)
    frame["a"], frame["y"] = data["treated"].astype(int), data["y"]
    model = AIPTW(frame, exposure="a", outcome="y")
    model.exposure_model(" + ".join(names), print_results=False)
    crossed = " + ".join(["a", *names, *(f"a:{name}" for name in names)])
    model.outcome_model(crossed, continuous_distribution="gaussian", print_results=False)
    model.fit()
    return {
        "effect": float(model.average_treatment_effect),
        "effect_se": float(model.average_treatment_effect_se),
    }


RUNNERS: dict[str, Callable[[Columns], Figures]] = {
    "doubleml, known propensities": lambda data: doubleml_effect(data, known=True),
    "doubleml": lambda data: doubleml_effect(data, known=False),
    "causallib": causallib_effect,
    "zepid": zepid_effect,
}


def main(argv: list[str] | None = None) -> int:
    """Time one peer on the columns of an ``.npz`` file and print the figures as JSON."""
    import numpy as np

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=list(RUNNERS))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args(argv)
    with np.load(arguments.data, allow_pickle=False) as file:
        data = {name: file[name] for name in file.files}
    run = RUNNERS[arguments.peer]
    np.random.seed(0)  # noqa: NPY002 (the peers deal their folds by the global generator)
    before = reset_peak()
    figures = run(data)
    peak = peak_mb()  # of the first run, imports included, as a user's script would have it
    seconds = []
    for _ in range(arguments.repeats):
        gc.collect()
        start = time.perf_counter()
        figures = run(data)
        seconds.append(time.perf_counter() - start)
    version = importlib.metadata.version(PEERS[arguments.peer].package)
    print(
        json.dumps(
            {
                "version": version,
                "seconds": min(seconds),
                "repeats": arguments.repeats,
                "before_mb": round(before, 1),
                "peak_mb": round(peak, 1),
                **figures,
            }
        )
    )
    return 0


# ------------------------------------------------------------------ their environment
def python_of(folder: Path) -> Path:
    """The interpreter of a virtual environment."""
    windows = folder / "Scripts" / "python.exe"
    return windows if windows.exists() else folder / "bin" / "python"


def prepare(folder: Path) -> Path:
    """Make the peers' environment (once) and return its interpreter; git ignores the folder.

    A requirement that does not install is reported on stderr and left out.
    """
    python = python_of(folder / "venv")
    stamp = folder / "installed.json"
    wanted = sorted({peer.requirement for peer in PEERS.values()})
    done: list[str] = json.loads(stamp.read_text(encoding="utf-8")) if stamp.exists() else []
    if python.exists() and done == [*PINS, *wanted]:
        return python
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".gitignore").write_text("*\n", encoding="utf-8")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    python = python_of(folder / "venv")
    installed = [r for r in wanted if _install(python, [*PINS, r])]
    stamp.write_text(json.dumps([*PINS, *installed]) + "\n", encoding="utf-8")
    return python


def _install(python: Path, requirements: list[str]) -> bool:
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    code = subprocess.run([*command, *requirements], check=False).returncode
    if code:
        print(f"{requirements[-1]} did not install (pip exit status {code})", file=sys.stderr)
    return code == 0


def measure(python: Path, peer: str, data: Path, repeats: int, timeout: float) -> dict[str, Any]:
    """Figures of one peer, or ``{"unavailable": reason}``."""
    command = [str(python), "-W", "ignore", str(Path(__file__).resolve()), peer]
    command += ["--data", str(data), "--repeats", str(repeats)]
    try:
        done = subprocess.run(
            command, env=os.environ | ONE_THREAD, capture_output=True, text=True,
            timeout=timeout, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"unavailable": f"not done within {timeout:.0f} s"}
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        # Only the kind of error: messages may name folders of the machine.
        return {"unavailable": f"exit status {done.returncode}: {last.split(':', maxsplit=1)[0]}"}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


if __name__ == "__main__":
    sys.exit(main())
