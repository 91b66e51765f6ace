"""The templates of CONTRIBUTING.md are applied to a copy of the package, and their tests run there.

The estimator is made public in the copy by the lines of its table, as a reader would do it, so that
the contract suite tests it beside the others.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
MOST_LINES = 60
WITH_MODEL = "Add an estimator with an outcome model"
MOST_LINES_WITH_MODEL = 100
#: Recipe -> the file of its tests.
RECIPES = {
    "Add an estimator": "tests/estimators/test_controlled.py",
    WITH_MODEL: "tests/estimators/test_scaled.py",
    "Add a weight transform": "tests/core/test_saturate.py",
    "Add a world": "tests/simulation/test_coin.py",
    "Add an objective": "tests/lm/test_threshold.py",
}
CONFTEST = """
from hypothesis import settings
settings.register_profile("copy", deadline=None, derandomize=True, database=None)
settings.load_profile("copy")
"""
SETTINGS = """[pytest]
addopts = --import-mode=importlib --strict-markers -p no:cacheprovider
filterwarnings = error
markers =
    torch
"""


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Language and content of each fenced block."""
    yield from re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)


def section(title: str) -> str:
    """A section of CONTRIBUTING.md."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE)
    assert found, f"CONTRIBUTING.md has no section {title!r}"
    return found.group(1)


def apply_diff(folder: Path, diff: str) -> None:
    """Replace each run of ``-`` lines, which must occur once, by the ``+`` lines after it."""
    lines = diff.splitlines()
    path = folder / lines.pop(0).removeprefix("--- ")
    text = path.read_text(encoding="utf-8")
    for old, new in re.findall(
        r"((?:^-.*\n)+)((?:^\+.*\n)+)", "\n".join(lines) + "\n", re.MULTILINE
    ):
        before, after = (re.sub(r"^[-+]", "", part, flags=re.MULTILINE) for part in (old, new))
        assert text.count(before) == 1, f"{path.name} holds {text.count(before)} times:\n{before}"
        text = text.replace(before, after)
    path.write_text(text, encoding="utf-8")


def add_lines(folder: Path, text: str) -> None:
    """Add each line of the table above the line it names, which must occur once, indented alike."""
    rows = re.findall(r"^\| `(.*?)` \| `(.*?)` \| `(.*?)` \|$", text, re.MULTILINE)
    assert rows
    for name, below, added in rows:
        path = folder / name
        found = re.findall(rf"^( *){re.escape(below)}$", path.read_text("utf-8"), re.MULTILINE)
        assert len(found) == 1, f"{name} holds {len(found)} times:\n{below}"
        line = found[0] + below + "\n"
        both = found[0] + added + "\n" + line
        path.write_text(path.read_text("utf-8").replace(line, both), encoding="utf-8")


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with the templates in it."""
    folder = tmp_path_factory.mktemp("contributing")
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("causal_lm_opt", "tests/contract"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    (folder / "tests/core").mkdir()
    shutil.copy(ROOT / "tests/core/test_parity.py", folder / "tests/core")
    (folder / "pytest.ini").write_text(SETTINGS, encoding="utf-8")
    for language, content in blocks(TEXT):
        if language == "diff":
            apply_diff(folder, content)
        elif language == "python" and content.startswith("# "):
            path = folder / content.splitlines()[0].removeprefix("# ")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
    for title in RECIPES:
        add_lines(folder, section(title))
    (folder / "tests/conftest.py").write_text(CONFTEST, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def outcomes(copied: Path) -> dict[str, dict[str, str]]:
    """Tests of the templates, run once: file -> test -> "passed" or what it said."""
    folder = copied
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--junitxml", "found.xml", "-k",
         "ControlledIPW or ScaledDR or test_every_public_estimator_is_checked or test_parity or "
         "test_controlled or test_scaled or test_saturate or test_coin or test_threshold",
         "tests"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder), "PYTEST_ADDOPTS": "", "CI_BUDGET": "0"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )  # fmt: skip
    assert (folder / "found.xml").is_file(), done.stdout + done.stderr
    found: dict[str, dict[str, str]] = {}
    for case in ElementTree.parse(folder / "found.xml").iter("testcase"):
        said = next((part for part in case if part.tag in ("failure", "error", "skipped")), None)
        file = case.attrib["classname"].replace(".", "/") + ".py"
        said_text = "passed" if said is None else f"{said.tag}: {said.text}"
        found.setdefault(file, {})[case.attrib["name"]] = said_text
    assert found, done.stdout + done.stderr
    return found


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_is_short(title: str) -> None:
    lines = sum(content.count("\n") for _, content in blocks(section(title)))
    assert 0 < lines < (MOST_LINES_WITH_MODEL if title == WITH_MODEL else MOST_LINES)


@pytest.mark.skipif(find_spec("ruff") is None, reason="not installed: ruff")
def test_what_the_recipes_write_has_no_error_but_lacking_docstrings_and_format(
    outcomes: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    for number, (language, content) in enumerate(blocks(TEXT)):
        if language == "python":
            (tmp_path / f"block{number}.py").write_text(content, encoding="utf-8")
    shutil.copy(ROOT / "ruff.toml", tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "--ignore", "D,N802", "."],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_s_own_tests_pass(outcomes: dict[str, dict[str, str]], title: str) -> None:
    if "lm" in RECIPES[title].split("/") and find_spec("torch") is None:
        pytest.skip("an objective needs torch")
    found = outcomes[RECIPES[title]]
    wrong = {
        name: said
        for name, said in found.items()
        if said != "passed" and not (find_spec("torch") is None and said.startswith("skipped"))
    }
    assert not wrong, "\n".join(f"{name}: {said}" for name, said in wrong.items())


def test_torch_agrees_with_the_transform(outcomes: dict[str, dict[str, str]]) -> None:
    pytest.importorskip("torch")
    found = outcomes["tests/core/test_parity.py"]
    assert any("saturate" in name.lower() for name in found)
    assert set(found.values()) == {"passed"}


@pytest.mark.parametrize(("name", "least"), [("ControlledIPW", 100), ("ScaledDR", 130)])
def test_the_estimator_passes_the_contract_suite(
    outcomes: dict[str, dict[str, str]], name: str, least: int
) -> None:
    contract = {
        f"{file}::{test}": said
        for file, tests in outcomes.items()
        if file.startswith("tests/contract/")
        for test, said in tests.items()
        if name in test or "[" not in test
    }
    assert f"tests/contract/test_check_estimator.py::test_every_check_passes[{name}]" in contract
    passed = [test for test, said in contract.items() if said == "passed"]
    wrong = [
        f"{test}: {said}"
        for test, said in contract.items()
        # A test is skipped where what it reads is not installed (polars, torch).
        if said != "passed" and not said.startswith("skipped")
    ]
    assert not wrong, "\n".join(wrong)
    assert len(passed) > least


PUBLIC = """
import causal_lm_opt
from causal_lm_opt import core, simulation
from causal_lm_opt.simulation import studies

assert causal_lm_opt.Saturate is core.Saturate
assert studies.WORLDS["coin"] is simulation.CoinWorld
for module, names in ((causal_lm_opt, "ControlledIPW Saturate ScaledDR"), (core, "Saturate"),
                      (simulation, "CoinWorld")):
    assert set(names.split()) <= set(module.__all__)
"""
PUBLIC_LM = """
from causal_lm_opt import lm
assert lm.ThresholdObjective.name == "threshold" and "ThresholdObjective" in lm.__all__
"""


def test_the_lines_make_public_what_they_say(copied: Path) -> None:
    code = PUBLIC + (PUBLIC_LM if find_spec("torch") else "")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=copied, env=os.environ | {"PYTHONPATH": str(copied)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
