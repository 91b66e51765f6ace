"""The files around the package agree with each other, and name no one's machine."""

from __future__ import annotations

import configparser
import importlib.metadata
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from causal_lm_opt._version import __version__ as VERSION

ROOT = Path(__file__).resolve().parents[2]
SETUP = configparser.ConfigParser(interpolation=None)
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")
#: `make test` is to stay under this when the whole package is built.
MOST_SECONDS = 33 * 60


def canonical(name: str) -> str:
    """Spell a distribution's name one way.

    >>> canonical("Scikit_Learn")
    'scikit-learn'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def required(section: str, key: str) -> list[str]:
    """Names of the distributions that a list in setup.cfg requires."""
    lines = [line for line in SETUP[section][key].splitlines() if line.strip()]
    return [canonical(re.split(r"[<>=!~;\[ ]", line, maxsplit=1)[0]) for line in lines]


def pins() -> dict[str, str]:
    """Name and version of each line of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonical(name): version for name, version in pairs}


def tracked_files() -> list[Path]:
    """Files that git tracks or would track; without git, those of the folders we know."""
    done = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if done.returncode == 0:
        names = [os.fsdecode(name) for name in done.stdout.split(b"\0") if name]
        return [path for name in names if (path := ROOT / name).is_file()]
    folders = ("causal_lm_opt", "tests", "benchmarks", "notebooks", "data", ".ci")
    inside = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    return [
        path
        for path in [*ROOT.glob("*"), *inside]
        if path.is_file() and "__pycache__" not in path.parts
    ]


def test_the_version_is_written_once() -> None:
    written = re.compile(rf"""version\S*\s*=\s*["']?{re.escape(VERSION)}\b""")
    places = [
        path.relative_to(ROOT).as_posix()
        for path in [ROOT / "setup.cfg", ROOT / "setup.py", *(ROOT / "causal_lm_opt").rglob("*.py")]
        if written.search(path.read_text(encoding="utf-8"))
    ]
    assert places == ["causal_lm_opt/_version.py"]
    assert SETUP["metadata"]["version"] == "attr: causal_lm_opt._version.__version__"
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert VERSION in changes, "CHANGELOG.md has no section for this version"


def test_the_licence_is_mit() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert text.startswith("MIT License")
    assert "causal_lm_opt contributors" in text
    assert SETUP["metadata"]["license"] == "MIT"


def test_the_readme_has_both_commands() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    for command in ("make demo", "make test"):
        # A reader can copy it: alone at the start of a line, perhaps with a comment after it.
        assert any(re.match(rf"(\$ )?{command}\b", line.strip()) for line in lines), command


@pytest.mark.parametrize("target", ["demo", "test", "lint", "validate"])
def test_the_makefile_has_the_target(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def test_constraints_pin_everything_the_core_and_the_tests_require() -> None:
    wanted = {
        *required("options", "install_requires"),
        *required("options.extras_require", "test"),
        "torch",
    }
    assert sorted(wanted - set(pins())) == []


def test_constraints_are_exact_and_name_no_build() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    wrong = [
        line
        for line in lines
        if not line.startswith("#") and not re.fullmatch(r"[\w.-]+==[0-9][\w.]*", line)
    ]
    assert wrong == []


def test_this_environment_meets_the_lower_bounds() -> None:
    for name in required("options", "install_requires"):
        importlib.metadata.version(name)  # raises PackageNotFoundError, which names it


def test_torch_is_required_by_the_lm_extra_alone() -> None:
    assert "torch" in required("options.extras_require", "lm")
    assert "torch" not in required("options", "install_requires")
    assert "torch" not in required("options.extras_require", "test")


def test_the_time_budget_covers_every_folder_of_tests() -> None:
    budget = tomllib.loads((ROOT / "tests/budget.toml").read_text(encoding="utf-8"))["seconds"]
    folders = {
        path.name
        for path in (ROOT / "tests").iterdir()
        if path.is_dir() and any(path.glob("test_*.py"))
    }
    assert sorted(folders - set(budget)) == [], "give each folder a line in tests/budget.toml"
    assert {"doctests", "other"} <= set(budget)
    assert sum(budget.values()) <= MOST_SECONDS


def test_every_folder_with_modules_is_a_package() -> None:
    # setuptools finds packages by their __init__.py: a folder without one is left out of the wheel.
    package = ROOT / "causal_lm_opt"
    folders = {path.parent for path in package.rglob("*.py")}
    assert [
        str(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()
    ] == []
    assert (package / "py.typed").is_file()


def test_test_modules_have_names_of_their_own() -> None:
    # The folders of tests/ are no packages: fixtures are shared by conftest.py, not by imports.
    assert [str(path) for path in (ROOT / "tests").rglob("__init__.py")] == []


def test_the_ci_script_is_executable_and_parses() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True)


# Written in pieces, so that this file does not match itself.
MACHINE_FOLDERS = ["home", "root", "tmp", "work", "opt", "mnt", "media", "Users", "var/tmp"]
MACHINE_PATH = re.compile(
    r"(?<![\w.:/~$})*<-])" + "/" + f"(?:{'|'.join(MACHINE_FOLDERS)})" + r"/[\w.]"
    r"|\b[A-Za-z]:\\+Users\\"
)
NEIGHBOUR = re.compile(r"\.\./" + "shared")
REGISTRY = re.compile("|".join(["pypi" + r"\.org", "python" + "hosted", "extra-" + "index"]))


@pytest.mark.parametrize(
    "text", ['open("/ho' + 'me/ann/a.csv")', "cd /t" + "mp/x", "C:" + r"\Users\ann"]
)
def test_a_machine_path_is_found(text: str) -> None:
    assert MACHINE_PATH.search(text)


@pytest.mark.parametrize("text", ["https://x.org/work/a", "../tmp/a", "a/home/b", "n / work"])
def test_other_paths_are_left_alone(text: str) -> None:
    assert not MACHINE_PATH.search(text)


def test_nothing_tracked_names_a_machine_or_a_registry() -> None:
    found = []
    for path in tracked_files():
        name = path.relative_to(ROOT).as_posix()
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # binary: an image, a Parquet file
        for number, line in enumerate(text.splitlines(), start=1):
            if MACHINE_PATH.search(line) or REGISTRY.search(line):
                found.append(f"{name}:{number}: {line.strip()[:120]}")
            # CI alone knows the folder of real data that may lie beside the checkout.
            if NEIGHBOUR.search(line) and name != ".ci/run":
                found.append(f"{name}:{number}: {line.strip()[:120]}")
    assert not found, "\n".join(found)
