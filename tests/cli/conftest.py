"""A small randomised log over six texts with known probabilities, and ways to run commands."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from causal_lm_opt.cli import app

TEXTS = ["plain words", "kind words", "kind plain words", "short note", "long kind note", "a note"]
LOGGING = np.array([0.25, 0.15, 0.1, 0.2, 0.1, 0.2])
TARGETS = {
    "warm": np.array([0.1, 0.3, 0.2, 0.1, 0.2, 0.1]),
    "brief": np.array([0.2, 0.1, 0.05, 0.35, 0.05, 0.25]),
}
MEANS = np.array([1.0, 3.0, 2.5, 2.0, 3.5, 0.5])


@dataclass(frozen=True)
class Files:
    """Paths of the generated files and the options that name their columns."""

    log: Path
    draws: Path
    support: Path
    folder: Path

    @property
    def columns(self) -> list[str]:
        return ["--outcome", "y", "--logp-logging", "lp"]

    @property
    def policies(self) -> list[str]:
        return ["--policy", "warm=lp_warm", "--policy", "brief=lp_brief"]

    @property
    def evaluate(self) -> list[str]:
        return ["evaluate", str(self.log), *self.columns, *self.policies]

    def out(self, name: str = "out") -> list[str]:
        return ["--out", str(self.folder / name)]


def make_log(n: int = 400, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    at = rng.choice(len(TEXTS), n, p=LOGGING)
    frame = pd.DataFrame(
        {
            "text": np.array(TEXTS)[at],
            "y": np.round(MEANS[at] + rng.normal(size=n), 3),
            "lp": np.log(LOGGING)[at],
            "kind": [float("kind" in TEXTS[i]) for i in at],
            "length": [float(len(TEXTS[i])) for i in at],
            "reader": np.arange(n) // 2,
            "town": np.where(rng.random(n) < 0.5, "north", "south"),
        }
    )
    for name, p in TARGETS.items():
        frame[f"lp_{name}"] = np.log(p)[at]
    return frame


def make_draws(m: int = 300, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    parts = []
    for name, p in TARGETS.items():
        at = rng.choice(len(TEXTS), m, p=p)
        part = {"policy": name, "text": np.array(TEXTS)[at], "logp_target": np.log(p)[at]}
        part |= {"logp_logging": np.log(LOGGING)[at]}
        part |= {"kind": [float("kind" in TEXTS[i]) for i in at]}
        part |= {"length": [float(len(TEXTS[i])) for i in at]}
        parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


def make_support() -> pd.DataFrame:
    parts = [
        pd.DataFrame({"policy": name, "text": TEXTS, "prob": p}) for name, p in TARGETS.items()
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    found = Files(tmp_path / "log.csv", tmp_path / "draws.csv", tmp_path / "support.csv", tmp_path)
    make_log().to_csv(found.log, index=False)
    make_draws().to_csv(found.draws, index=False)
    make_support().to_csv(found.support, index=False)
    return found


@pytest.fixture(autouse=True)
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots take longer than all the rest; tests that look at them ask for --figures."""
    monkeypatch.setenv("CAUSAL_LM_OPT_FIGURES", "0")


Run = Callable[[list[str]], Result]


@pytest.fixture
def run() -> Run:
    def invoke(arguments: list[str]) -> Result:
        return CliRunner().invoke(app, arguments, prog_name="causal-lm-opt")

    return invoke


@pytest.fixture
def refused(run: Run) -> Callable[..., str]:
    """Run, and return the one line on stderr of a failure with the given exit code."""

    def invoke(arguments: list[str], code: int = 2) -> str:
        result = run(arguments)
        assert result.exit_code == code, result.output
        assert result.stdout == ""
        assert "Traceback" not in result.stderr
        (line,) = result.stderr.splitlines()
        assert line.startswith("error: ")
        return line

    return invoke


def subprocess_run(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "causal_lm_opt", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | environment,
    )
