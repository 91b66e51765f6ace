"""The notebooks are committed as they ran, run again without jupyter, and print the same.

Each runs once, in a process of its own, from its own folder and under a limit of processor time.
Printed text, and the HTML of the tables that end a cell, are compared with what was committed; not
where a notebook has a switch for a shorter run, which is on here.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SECONDS = 45  # of processor time; other work on the machine does not count
PATIENCE = 300  # seconds of the clock
SWITCH = "CAUSAL_LM_OPT_QUICK"
DATA = "CAUSAL_LM_OPT_DATA"
NEEDS_TORCH = re.compile(r"causal_lm_opt\.(?:lm|rewards)\b|import torch|import (?:.*\W)?lm\b")
MOST_CELLS = 14
PNG_START = "iVBORw0KGgo"  # base64 of a PNG's first bytes
#: Written in pieces, so that this file names no machine's folder either.
FOLDERS = "|".join(["home", "root", "tmp", "work", "opt", "mnt", "usr", "var", "Users", "private"])
ABSOLUTE = re.compile(rf"(?<![\w.:/~<])/(?:{FOLDERS})/\w|\b[A-Za-z]:\\+\w|\bfile://")

# Runs the cells of a notebook as IPython would: one namespace, and the value of a closing
# expression shown. Figures are counted and closed, as the inline backend does after each cell.
RUNNER = """
import ast, contextlib, io, json, sys, warnings
import matplotlib.pyplot as plt
warnings.simplefilter("error")
space, shown = {"__name__": "__main__"}, []
for number, source in enumerate(json.load(sys.stdin)):
    tree = ast.parse(source, f"cell {number}")
    last = None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        last = ast.Expression(tree.body.pop().value)
    value, out = None, io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(tree, f"cell {number}", "exec"), space)
        if last is not None:
            value = eval(compile(last, f"cell {number}", "eval"), space)
    html = value._repr_html_() if hasattr(value, "_repr_html_") else None
    plain = None if value is None or html else repr(value)
    figures = len(plt.get_fignums())
    for figure in map(plt.figure, plt.get_fignums()):
        figure.canvas.draw()
    plt.close("all")
    shown.append({"text": out.getvalue(), "html": html, "plain": plain, "figures": figures})
json.dump(shown, sys.stdout)
"""


def joined(text: str | list[str]) -> str:
    """Text of a notebook's field, which is a string or a list of lines."""
    return text if isinstance(text, str) else "".join(text)


def words(text: str | None) -> list[str]:
    """Text without its white space; no text is no words."""
    return (text or "").split()


def read(path: Path) -> dict[str, Any]:
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return notebook


def code_cells(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in read(path)["cells"] if cell["cell_type"] == "code"]


def committed(cell: dict[str, Any]) -> dict[str, Any]:
    """What a committed cell shows, in the runner's words."""
    outputs = cell["outputs"]
    text = "".join(joined(o["text"]) for o in outputs if o["output_type"] == "stream")
    results = [o["data"] for o in outputs if o["output_type"] == "execute_result"]
    html = next((joined(d["text/html"]) for d in results if "text/html" in d), None)
    plain = next((joined(d["text/plain"]) for d in results if "text/html" not in d), None)
    figures = sum("image/png" in o.get("data", {}) for o in outputs)
    return {"text": text, "html": html, "plain": plain, "figures": figures}


def run(sources: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run cells in a fresh process from ``folder``, as from a checkout that is not installed."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [sys.executable, "-c", RUNNER],
        input=json.dumps(sources),
        cwd=folder,
        env=os.environ
        | {"MPLBACKEND": "Agg", "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        | {"PYTHONUTF8": "1", "OMP_NUM_THREADS": "1", SWITCH: "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
    )


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_it_is_committed_as_it_ran(path: Path) -> None:
    notebook = read(path)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert len(notebook["cells"]) <= MOST_CELLS
    cells = code_cells(path)
    assert [c["execution_count"] for c in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [o for o in outputs if o["output_type"] == "error"]
    assert not [o for o in outputs if o.get("name") == "stderr"]
    assert all(cell["outputs"] for cell in cells), "a code cell shows nothing"
    images = [joined(o["data"]["image/png"]) for o in outputs if "image/png" in o.get("data", {})]
    assert images
    assert all(image.startswith(PNG_START) for image in images)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_it_names_no_machine(path: Path) -> None:
    notebook = read(path)
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("image/png", None)  # base64 is no text
    strings: list[str] = []

    def collect(node: Any) -> None:
        if isinstance(node, dict):
            for value in node.values():
                collect(value)
        elif isinstance(node, list):
            for value in node:
                collect(value)
        elif isinstance(node, str):
            strings.append(node)

    collect(notebook)
    assert not [text for text in strings if ABSOLUTE.search(text)]


@pytest.mark.parametrize("text", ["in /ho" + "me/ann/x", "C:" + r"\Users", "fi" + "le:///x"])
def test_an_absolute_path_is_found(text: str) -> None:
    assert ABSOLUTE.search(text)


@pytest.mark.parametrize("text", ["P_f(x) / P_R(x)", "https://x.org/work/a", "</td>", "a/home/b"])
def test_other_text_is_left_alone(text: str) -> None:
    assert not ABSOLUTE.search(text)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_it_runs_again_and_shows_the_same(path: Path) -> None:
    cells = code_cells(path)
    sources = [joined(cell["source"]) for cell in cells]
    everything = "\n".join(sources)
    if DATA in everything and DATA not in os.environ:
        pytest.skip(f"reads real data: set {DATA} to their folder")
    if NEEDS_TORCH.search(everything) and importlib.util.find_spec("torch") is None:
        pytest.skip("trains networks: torch is not installed")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run(sources, path.parent)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr[-4000:]
    assert after.ru_utime - before.ru_utime <= SECONDS
    if SWITCH in everything:
        return
    shown = json.loads(done.stdout)
    for number, (cell, now) in enumerate(zip(cells, shown, strict=True)):
        then = committed(cell)
        for kind in ("text", "html", "plain"):
            assert words(now[kind]) == words(then[kind]), f"code cell {number}: {kind}"
        assert now["figures"] == then["figures"], f"code cell {number}: figures"


def test_the_runner_shows_what_a_cell_prints_and_ends_with(tmp_path: Path) -> None:
    done = run(["x = 2\nprint('two', x)\nx + 1", "x"], tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = json.loads(done.stdout)
    assert (first["text"], first["plain"], second["plain"]) == ("two 2\n", "3", "2")


@pytest.mark.parametrize("source", ["1 / 0", "import warnings\nwarnings.warn('odd')"])
def test_the_runner_fails_on_an_error_and_on_a_warning(source: str, tmp_path: Path) -> None:
    assert run([source], tmp_path).returncode != 0
