"""Kept blocks are of one study: settings, values and code decide, names do not."""

from __future__ import annotations

import importlib
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from causal_lm_opt import IPW
from causal_lm_opt.exceptions import DataError, EstimationWarning
from causal_lm_opt.simulation import GaussianDesign, Study, run_study, text_world
from causal_lm_opt.simulation import _identity as told
from causal_lm_opt.simulation._identity import identity, source_digest

MODULE = """
import functools
from dataclasses import dataclass

import numpy as np
from sklearn.base import BaseEstimator

from causal_lm_opt import IPW
from causal_lm_opt.simulation import GaussianDesign

SHIFT = 0.5
KNOWN = {"a", "b", "c"}

def helper(log):
    return float(np.mean(log.y)) + 0.0

def mean(log, scale=1.0):
    return {"value": helper(log) * scale if "a" in {"a", "b", None} else SHIFT}

def closed(by):
    def inner(log):
        return {"value": float(log.y.sum()) + by}
    return inner

@dataclass(frozen=True)
class World:
    size: float = 1.0
    FACTOR = 2.0

    @property
    def design(self):
        return GaussianDesign(shift=SHIFT)

    def draw(self, n, rng):
        return self.design.draw(n, rng)

    @staticmethod
    def value():
        return 1.0 + World.FACTOR

class Mine(IPW):
    def score_(self):
        return 1

class Other(BaseEstimator):
    def fit(self, X, y):
        return super().fit(X)

AFTER = "nothing reads this"
"""
THINGS = {
    "function": "mean",
    "closure": "closed(1.0)",
    "partial": "functools.partial(mean, scale=2.0)",
    "design": "World()",
    "method": "World().draw",
    "estimator": "Mine()",
    "own estimator": "Other()",
    "lambda": "(lambda log: mean(log))",
}


def loaded(text: str, name: str = "someones_module") -> ModuleType:
    """A module of this source, as if the user had written and imported it."""
    module = ModuleType(name)
    sys.modules[name] = module
    exec(compile(text, f"{name}.py", "exec"), vars(module))
    return module


def of(text: str, thing: str) -> str:
    return identity(eval(THINGS[thing], vars(loaded(text))))


@pytest.fixture(autouse=True)
def _forget() -> Any:
    yield
    sys.modules.pop("someones_module", None)


@pytest.mark.parametrize("thing", THINGS)
def test_the_same_code_elsewhere_in_the_file_is_the_same(thing: str) -> None:
    moved = MODULE.replace("import functools", "# a comment\n\n\nimport functools")
    moved = moved.replace("nothing reads this", "changed")
    assert of(MODULE, thing) == of(moved, thing)


@pytest.mark.parametrize(
    ("thing", "old", "new"),
    [
        ("function", "* scale", "/ scale"),
        ("function", "scale=1.0", "scale=2.0"),
        ("function", "+ 0.0", "+ 100.0"),  # of what it calls
        ("function", "SHIFT = 0.5", "SHIFT = 0.6"),  # of what it reads
        ("function", "np.mean", "np.median"),
        ("function", '{"a", "b", None}', '{"a", "b"}'),
        ("closure", "+ by", "- by"),
        ("partial", "+ 0.0", "+ 100.0"),
        ("design", "SHIFT = 0.5", "SHIFT = 0.6"),
        ("design", "1.0 + World", "2.0 + World"),
        ("design", "FACTOR = 2.0", "FACTOR = 3.0"),
        ("design", "size: float = 1.0", "size: float = 1.5"),
        ("method", "shift=SHIFT", "dim=2"),
        ("estimator", "return 1", "return 2"),
        ("own estimator", "super().fit(X)", "super().fit(y)"),
        ("lambda", "+ 0.0", "+ 100.0"),
    ],
)
def test_changed_code_makes_another_study(thing: str, old: str, new: str) -> None:
    assert old in MODULE
    assert of(MODULE, thing) != of(MODULE.replace(old, new), thing)


def test_changed_values_of_closures_and_methods_are_other_studies() -> None:
    module = loaded(MODULE)
    assert identity(module.closed(1.0)) != identity(module.closed(2.0))
    assert identity(module.World(1.0).draw) != identity(module.World(2.0).draw)


def test_processes_agree() -> None:
    """Sets and strings are hashed anew in each process; the identity is not."""
    code = MODULE + textwrap.dedent(
        """
        from causal_lm_opt.simulation import text_world
        from causal_lm_opt.simulation._identity import identity
        print(identity(text_world(), mean, closed(1.0), World(), Mine(), frozenset("abcdef")))
        """
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(told.__file__).parents[2])},
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(said) == 1


def test_any_change_of_the_package_makes_another_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    before = source_digest(tmp_path)
    source_digest.cache_clear()
    (tmp_path / "a.py").write_text("x = 2\n")
    assert source_digest(tmp_path) != before
    source_digest.cache_clear()
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "b.py").write_text("")
    assert source_digest(tmp_path) != before
    source_digest.cache_clear()
    study = Study({"d": GaussianDesign()}, {"H": IPW()}, [20], 2)
    one = next(study.cells())[2].identity
    monkeypatch.setattr(told, "source_digest", lambda folder: "another package")
    assert next(study.cells())[2].identity != one


def test_a_package_without_source_is_not_resumed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no source files"):
        source_digest(tmp_path)


def test_what_cannot_be_told_apart_is_refused_with_out_only(tmp_path: Path) -> None:
    lock = threading.Lock()

    def locked(log: Any) -> dict[str, float]:
        return {"value": float(log.y.mean()) + lock.locked()}

    study = Study({"d": GaussianDesign()}, {"f": locked}, [20], 2)
    assert study.run(progress=False).summary["replications"].tolist() == [2]
    with pytest.raises(DataError, match="run without out") as caught:
        study.run(tmp_path / "out", progress=False)
    assert caught.value.__notes__ == ["in the design 'd' or its estimators"]
    assert not (tmp_path / "out").exists()


def test_a_lambda_is_run_and_kept(tmp_path: Path) -> None:
    def run(by: float, out: Path | None) -> float:
        done = run_study(
            {"d": GaussianDesign()}, {"f": lambda log: {"value": float(log.y.mean()) + by}},
            sizes=[20], replications=3, out=out, progress=False,
        )  # fmt: skip
        return float(done.summary["bias"][0])

    assert run(0.0, None) == run(0.0, tmp_path)
    with pytest.warns(EstimationWarning, match="as other code computed it"):
        other = run(5.0, tmp_path)
    assert other == pytest.approx(run(0.0, None) + 5.0)
    assert run(5.0, tmp_path) == other
    assert len(list((tmp_path / "blocks").iterdir())) == 2


def test_a_world_that_was_used_is_the_same_world() -> None:
    world = text_world()
    before = identity(world)
    world.value()
    world.features(["x"])
    assert identity(world) == before


def test_packages_of_another_site_folder_count_as_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with ``pip install --user``, or a folder that a .pth file names."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "elsewhere_installed.py").write_text("def f(x):\n    return x\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    told._libraries.cache_clear()
    told._is_library.cache_clear()
    try:
        importlib.import_module("elsewhere_installed")
        assert told._is_library("elsewhere_installed")
    finally:
        told._libraries.cache_clear()
        told._is_library.cache_clear()


def test_classes_without_a_name_can_be_told() -> None:
    assert identity(type(None)) != identity(type(...))
