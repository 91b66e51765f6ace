"""The time budget: what it counts, what it prints, and when it fails a session."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
SLEEPS = "import time\ndef test_sleeps():\n    time.sleep(0.2)\n"
QUICK = "def test_quick():\n    pass\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Make a small project with our conftest.py, one slow folder and a budget it cannot keep."""
    for folder, source in {"slow": SLEEPS, "quick": QUICK}.items():
        (tmp_path / "tests" / folder).mkdir(parents=True)
        (tmp_path / "tests" / folder / "test_one.py").write_text(source, encoding="utf-8")
    shutil.copy(TESTS / "conftest.py", tmp_path / "tests")
    budget = "[seconds]\nslow = 0.1\ndoctests = 9\nother = 9\n"
    (tmp_path / "tests" / "budget.toml").write_text(budget, encoding="utf-8")
    markers = "[pytest]\naddopts = --import-mode=importlib\nmarkers =\n    torch: needs torch\n"
    (tmp_path / "pytest.ini").write_text(markers, encoding="utf-8")
    return tmp_path


def session(project: Path, *arguments: str, enforced: bool) -> subprocess.CompletedProcess[str]:
    """Run pytest in the small project; a session of its own, whatever runs this one."""
    outer = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=project,
        env=outer | {"CI_BUDGET": "1" if enforced else "0"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_folder_over_its_budget_fails_the_session_in_ci(project: Path, workers: str) -> None:
    done = session(project, "-n", workers, "tests", enforced=True)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    lines = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line.strip()}
    assert lines["slow"] == ["slow", "0.2", "0.1", "OVER"]
    assert lines["other"][-1] != "OVER"  # `quick` has no line of its own


def test_elsewhere_it_is_only_printed(project: Path) -> None:
    done = session(project, "tests", enforced=False)
    assert done.returncode == pytest.ExitCode.OK, done.stdout + done.stderr
    assert "OVER" in done.stdout


def test_a_folder_within_its_budget_passes_in_ci(project: Path) -> None:
    done = session(project, "tests/quick", enforced=True)
    assert done.returncode == pytest.ExitCode.OK, done.stdout + done.stderr
    assert "OVER" not in done.stdout
