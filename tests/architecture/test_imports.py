"""Imports point one way, and importing the package stays light."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "causal_lm_opt"

#: A room too large for one file, spread over modules at the top of the package.
PART_OF = {
    "_cells": "logged",
    "_files": "logged",
    "_log_readers": "logged",
    "_training_rows": "logged",
    "_sensitivity": "_evaluate",
    "_studies": "_evaluate",
    "_views": "_evaluate",
    "_columns": "logged",
    "_evaluation": "_evaluate",
    "_parts": "logged",
    "_readers": "logged",
    "comparison": "estimate",
    "anytime": "estimate",
    "joint": "estimate",
    "planning": "estimate",
    "selection": "estimate",
    "strength": "estimate",
    "influence": "estimate",
}

FOUNDATION = {"_version", "exceptions", "_validation"}
ARITHMETIC = FOUNDATION | {"core"}
RECORDS = ARITHMETIC | {"logged", "estimate", "diagnostics"}
MODELS = RECORDS | {"estimators"}
USES = MODELS | {"simulation", "rewards", "lm", "datasets"}

#: What each room (module or folder at the top of the package) may import from the package.
#: A room that is missing here fails the test: decide where it belongs.
MAY_IMPORT: dict[str, set[str]] = {
    "_version": set(),
    "exceptions": set(),
    "_validation": {"exceptions"},
    "core": FOUNDATION,
    "logged": ARITHMETIC,
    "diagnostics": ARITHMETIC,
    "estimate": ARITHMETIC | {"diagnostics"},
    "estimators": RECORDS,
    "datasets": ARITHMETIC | {"logged"},
    "simulation": USES,
    "rewards": USES,
    "lm": USES,
    "plots": USES,
    # The command line's own rooms: the estimators run on a log, and the parts of a run.
    "_evaluate": USES,
    "_run": USES | {"_evaluate", "plots"},
    "report": USES | {"plots", "_evaluate", "_run"},
    "cli": USES | {"plots", "report", "_evaluate", "_run"},
    "__main__": {"cli"},
    # Lazy: its imports run on first use.
    "__init__": USES | {"plots", "report"},
}

#: Third-party packages kept to some rooms.
KEPT_TO: dict[str, set[str]] = {
    "sklearn": {"_validation", "estimators", "rewards", "simulation"},
    "matplotlib": {"plots"},
    "torch": {"lm", "rewards"},
    "transformers": {"lm", "rewards"},
    "accelerate": {"lm", "rewards"},
    "peft": {"lm", "rewards"},
}


class Import(NamedTuple):
    """An import: the absolute module it names, its line, whether loading the file runs it.

    An import inside a function, or for type checkers only, is deferred.
    """

    module: str
    line: int
    deferred: bool


def room_of(module: str) -> str:
    """Return the top-level room of a dotted name inside the package.

    >>> room_of("causal_lm_opt.core.weights"), room_of("causal_lm_opt")
    ('core', '__init__')
    >>> room_of("causal_lm_opt._readers")
    'logged'
    """
    parts = module.split(".")
    name = parts[1] if len(parts) > 1 else "__init__"
    return PART_OF.get(name, name)


def module_name(path: Path, package: Path) -> str:
    """Dotted name of a file of the package."""
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def absolute_base(node: ast.ImportFrom, module: str, *, is_package: bool) -> str:
    """Absolute module that ``from ... import`` names, for a statement found in ``module``."""
    base = node.module or ""
    if not node.level:
        return base
    parts = module.split(".")
    keep = len(parts) - node.level + (1 if is_package else 0)
    return ".".join([*parts[:keep], *([base] if base else [])])


def is_deferred(node: ast.AST) -> bool:
    """Whether loading a module leaves this block aside: a function, or ``if TYPE_CHECKING:``."""
    if isinstance(node, ast.If):
        return ast.unparse(node.test).split(".")[-1] == "TYPE_CHECKING"
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def imports_of(source: str, module: str, *, is_package: bool) -> list[Import]:
    """Every import of a module, relative ones made absolute; imports in strings are not seen."""

    def visit(node: ast.AST, deferred: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(alias.name, child.lineno, deferred)
            elif isinstance(child, ast.ImportFrom):
                base = absolute_base(child, module, is_package=is_package)
                for alias in child.names:
                    # `from causal_lm_opt import core` names the room in the alias.
                    name = f"{base}.{alias.name}" if base == "causal_lm_opt" else base
                    yield Import(name, child.lineno, deferred)
            else:
                yield from visit(child, deferred or is_deferred(child))

    return list(visit(ast.parse(source), False))


def files(package: Path = PACKAGE) -> list[Path]:
    """All Python files of the package."""
    return sorted(package.rglob("*.py"))


def violations(path: Path, package: Path = PACKAGE) -> list[str]:
    """Imports of one file that the tables above do not allow."""
    module = module_name(path, package)
    here = room_of(module)
    if here not in MAY_IMPORT:
        return [f"{path.name}: room {here!r} is not in MAY_IMPORT; decide what it may import"]
    found = []
    for item in imports_of(
        path.read_text(encoding="utf-8"), module, is_package=path.stem == "__init__"
    ):
        top = item.module.split(".")[0]
        where = f"{module}:{item.line}"
        if top in KEPT_TO and here not in KEPT_TO[top]:
            found.append(f"{where} imports {top}, which belongs in {sorted(KEPT_TO[top])}")
        if top != "causal_lm_opt":
            continue
        target = room_of(item.module)
        # `.plot()` methods may reach for plots when they are called.
        late_plot = target == "plots" and item.deferred
        is_version = item.module == "causal_lm_opt.__version__"
        if target != here and target not in MAY_IMPORT[here] and not late_plot and not is_version:
            found.append(f"{where} imports {item.module}, above {here!r}")
    return sorted(set(found))


def test_imports_point_one_way() -> None:
    found = [line for path in files() for line in violations(path)]
    assert not found, "\n".join(found)


def test_deferred_imports_are_told_apart() -> None:
    source = (
        "import a\nif TYPE_CHECKING:\n    import b\ndef f():\n    import c\nclass D:\n    import d"
    )
    found = imports_of(source, "causal_lm_opt.x", is_package=False)
    assert [(item.module, item.deferred) for item in found] == [
        ("a", False),
        ("b", True),
        ("c", True),
        ("d", False),
    ]


def test_rooms_do_not_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for path in files():
        module = module_name(path, PACKAGE)
        here = room_of(module)
        if here == "__init__":
            continue
        source = path.read_text(encoding="utf-8")
        found = imports_of(source, module, is_package=path.stem == "__init__")
        graph.setdefault(here, set()).update(
            room_of(item.module)
            for item in found
            if item.module.startswith("causal_lm_opt.") and not item.deferred
        )
        graph[here].discard(here)
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize(
    ("path", "source", "said"),
    [
        ("core/a.py", "import torch", "belongs in"),
        ("core/a.py", "def f():\n    from sklearn.base import clone", "belongs in"),
        ("core/a.py", "from ..estimators import ipw", "above 'core'"),
        ("core/a.py", "if typing.TYPE_CHECKING:\n    from ..logged import x", "above 'core'"),
        ("core/__init__.py", "from .. import estimate", "above 'core'"),
        ("core/a.py", "from causal_lm_opt import logged", "above 'core'"),
        ("diagnostics/a.py", "if True:\n    import causal_lm_opt.estimators.ipw", "above"),
        ("datasets/a.py", "from causal_lm_opt.estimators import IPW", "above"),
        ("estimate.py", "from causal_lm_opt import plots", "above"),
        ("garage/a.py", "", "not in MAY_IMPORT"),
    ],
)
def test_a_wrong_import_is_found(tmp_path: Path, path: str, source: str, said: str) -> None:
    file = tmp_path / "causal_lm_opt" / path
    file.parent.mkdir(parents=True)
    file.write_text(source, encoding="utf-8")
    (found,) = violations(file, tmp_path / "causal_lm_opt")
    assert said in found


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("core/a.py", "from .weights import x\nfrom .._validation import y\nimport numpy"),
        ("core/__init__.py", "from .weights import x\nfrom causal_lm_opt.exceptions import y"),
        ("estimate.py", "def plot():\n    from causal_lm_opt import plots"),
        ("cli.py", "from causal_lm_opt import __version__, report"),
        ("rewards/a.py", "import torch, sklearn.base"),
    ],
)
def test_a_right_import_passes(tmp_path: Path, path: str, source: str) -> None:
    file = tmp_path / "causal_lm_opt" / path
    file.parent.mkdir(parents=True)
    file.write_text(source, encoding="utf-8")
    assert violations(file, tmp_path / "causal_lm_opt") == []


def run_python(code: str) -> str:
    """Run code in a new interpreter with warnings as errors; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_loads_neither_torch_nor_matplotlib() -> None:
    heavy = sorted(set(KEPT_TO) - {"sklearn"})
    code = f"import sys, causal_lm_opt, causal_lm_opt.core; print(set({heavy}) & set(sys.modules))"
    assert run_python(code) == "set()"


def test_no_module_outside_lm_and_rewards_loads_torch() -> None:
    names = [
        module_name(path, PACKAGE)
        for path in files()
        if path.stem != "__main__" and not {"lm", "rewards"} & set(path.relative_to(PACKAGE).parts)
    ]
    code = (
        "import importlib, sys\n"
        f"for name in {names}: importlib.import_module(name)\n"
        "print({'torch', 'transformers'} & set(sys.modules))"
    )
    assert run_python(code) == "set()"


@pytest.mark.parametrize(
    "module", sorted(module_name(p, PACKAGE) for p in files() if p.stem == "__init__")
)
def test_every_public_name_resolves(module: str) -> None:
    parts = module.split(".")
    if {"lm", "rewards"} & set(parts) and importlib.util.find_spec("torch") is None:
        pytest.skip(f"{module} needs torch")
    loaded = importlib.import_module(module)
    public = loaded.__all__
    assert len(public) == len(set(public)), f"{module}.__all__ names something twice"
    for name in public:
        assert name in dir(loaded), f"dir({module}) leaves out {name}"
        assert getattr(loaded, name, None) is not None, f"{module}.{name} does not resolve"


def test_a_star_import_needs_no_torch() -> None:
    code = "import sys; from causal_lm_opt import *; print('torch' in sys.modules, IPW.__name__)"
    assert run_python(code) == "False IPW"


def test_the_language_model_policy_is_public_though_no_star_import_brings_it() -> None:
    package = importlib.import_module("causal_lm_opt")
    assert "LanguageModelPolicy" in dir(package)
    if importlib.util.find_spec("torch") is None:
        with pytest.raises(ModuleNotFoundError, match=r"LanguageModelPolicy needs .*\[lm\]"):
            _ = package.LanguageModelPolicy
    else:
        assert package.LanguageModelPolicy.__module__ == "causal_lm_opt.lm.policy"
