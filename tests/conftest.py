"""What every test shares: one BLAS thread, hypothesis profiles, real data, the time budget."""

from __future__ import annotations

import os

# Before numpy is imported: libraries read these once, when they load.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import importlib.util
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import hypothesis
import pytest

TESTS = Path(__file__).resolve().parent
DATA_VARIABLE = "CAUSAL_LM_OPT_DATA"
#: A folder may take this much more than its budget before CI fails: machines differ.
TOLERANCE = 1.25

# Derandomised by default, so that a run can be repeated; HYPOTHESIS_PROFILE=explore searches.
hypothesis.settings.register_profile(
    "repeatable", derandomize=True, deadline=None, database=None, print_blob=True
)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=1000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the real data sets; the test is skipped where it is not set."""
    value = os.environ.get(DATA_VARIABLE)
    if not value:
        pytest.skip(f"{DATA_VARIABLE} is not set: it names the folder of the real data sets")
    folder = Path(value).expanduser().resolve()
    if not folder.is_dir():
        pytest.fail(f"{DATA_VARIABLE}={value!r} is not a folder: correct or unset it")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked ``torch`` where torch is not installed."""
    if importlib.util.find_spec("torch") is not None:
        return
    skip = pytest.mark.skip(reason="torch is not installed")
    for item in items:
        if item.get_closest_marker("torch"):
            item.add_marker(skip)


def budget() -> dict[str, float]:
    """Seconds each folder may take, from ``tests/budget.toml``."""
    table = tomllib.loads((TESTS / "budget.toml").read_text(encoding="utf-8"))["seconds"]
    return {folder: float(seconds) for folder, seconds in table.items()}


def room(nodeid: str) -> str:
    """Folder of ``tests/`` that a test belongs to; ``doctests`` for the package's own.

    >>> room("tests/core/test_weights.py::test_one"), room("causal_lm_opt/core/weights.py::x")
    ('core', 'doctests')
    >>> room("tests/test_imports.py::test_one")
    'other'
    """
    parts = nodeid.split("::", maxsplit=1)[0].split("/")
    if parts[0] != "tests":
        return "doctests"
    return parts[1] if len(parts) > 2 else "other"


def spent(reports: Iterable[pytest.TestReport], allowed: Mapping[str, float]) -> dict[str, float]:
    """Seconds spent per line of the budget; a folder without a line counts as ``other``."""
    seconds: dict[str, float] = defaultdict(float)
    for report in reports:
        name = room(report.nodeid)
        seconds[name if name in allowed else "other"] += report.duration
    return dict(seconds)


def over_budget(seconds: Mapping[str, float], allowed: Mapping[str, float]) -> list[str]:
    """Folders past their budget by more than the tolerance."""
    return sorted(name for name, used in seconds.items() if used > TOLERANCE * allowed[name])


class BudgetPlugin:
    """Collects durations where the reports arrive: in the controller, with or without xdist."""

    def __init__(self) -> None:
        self.reports: list[pytest.TestReport] = []
        self.allowed = budget()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.reports.append(report)

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        over = over_budget(spent(self.reports, self.allowed), self.allowed)
        if over and exitstatus == pytest.ExitCode.OK and os.environ.get("CI_BUDGET") == "1":
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        seconds = spent(self.reports, self.allowed)
        if not seconds:
            return
        over = over_budget(seconds, self.allowed)
        terminalreporter.section("time budget (tests/budget.toml)")
        terminalreporter.write_line(f"{'folder':<16}{'seconds':>9}{'budget':>9}")
        for name in sorted(seconds):
            line = f"{name:<16}{seconds[name]:>9.1f}{self.allowed[name]:>9g}"
            terminalreporter.write_line(line + ("  OVER" if name in over else ""), red=name in over)
        total = f"{'all':<16}{sum(seconds.values()):>9.1f}{sum(self.allowed.values()):>9g}"
        terminalreporter.write_line(total)


def pytest_configure(config: pytest.Config) -> None:
    """Count durations in the controller only."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(BudgetPlugin(), "time-budget")
