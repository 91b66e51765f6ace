"""The documentation site builds without a warning, and leads to every public name.

The site is built once. Names are those of each public module's ``__all__``.
"""

from __future__ import annotations

import doctest
import functools
import importlib
import inspect
import os
import re
import subprocess
import sys
import zlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
PAGES = sorted([*NOTEBOOKS.glob("*.md"), *(NOTEBOOKS / "site").glob("*.md")])
NEEDED = ("sphinx", "furo", "myst_nb", "numpydoc", "torch")
MISSING = [name for name in NEEDED if find_spec(name) is None]
needs_sphinx = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
#: Constants, and classes of other packages: their pages say what they are.
EXCUSED = {
    "causal_lm_opt.cli.main": "the command itself: the page on the command line has it",
    # They take what a run of `causal-lm-opt evaluate` holds in memory.
    "causal_lm_opt.report.contrasts_csv": "needs a whole run; `report_files` has the example",
    "causal_lm_opt.report.diagnostics_json": "needs a whole run; `report_files` has the example",
    "causal_lm_opt.report.estimates_csv": "needs a whole run; `report_files` has the example",
    "causal_lm_opt.report.report_html": "needs a whole run; `report_files` has the example",
}


def public_modules() -> list[str]:
    """Packages, and modules at the top of the package, without an underscore."""
    folder = ROOT / "causal_lm_opt"
    paths = [*folder.glob("*.py"), *folder.rglob("__init__.py")]
    names = {".".join(p.relative_to(ROOT).with_suffix("").parts) for p in paths}
    names = {name.removesuffix(".__init__") for name in names}
    return sorted(n for n in names if not any(p.startswith("_") for p in n.split(".")))


@functools.cache
def public() -> dict[str, Any]:
    """Every public name and its value; those that need torch are left out without it."""
    found: dict[str, Any] = {}
    for module in public_modules():
        if find_spec("torch") is None and {"lm", "rewards"} & set(module.split(".")):
            continue
        loaded = importlib.import_module(module)
        found |= {f"{module}.{name}": getattr(loaded, name) for name in loaded.__all__}
    return found


def ours(value: Any) -> bool:
    """Whether it is a class or function of the package."""
    home = str(getattr(value, "__module__", ""))
    kind = inspect.isclass(value) or inspect.isfunction(value)
    return kind and home.startswith("causal_lm_opt")


def own_doc(value: Any) -> str:
    """Docstring, not an inherited one; of a class with those of its methods."""
    docs = [value.__doc__ or ""]
    if inspect.isclass(value):
        members = [getattr(m, "__func__", getattr(m, "fget", m)) for m in vars(value).values()]
        docs += [m.__doc__ or "" for m in members if inspect.isfunction(m)]
    return "\n".join(docs)


def has_example(doc: str) -> bool:
    return ">>>" in doc or bool(re.search(r"^\s*Examples\n\s*-{8}", doc, re.MULTILINE))


def functions_of(value: Any) -> list[Any]:
    """The function itself, or the methods of a class, those of our own bases among them."""
    if not inspect.isclass(value):
        return [value]
    bases = [base for base in value.__mro__ if base.__module__.startswith("causal_lm_opt")]
    members = [member for base in bases for member in vars(base).values()]
    functions = [getattr(m, "__func__", getattr(m, "fget", m)) for m in members]
    return [function for function in functions if inspect.isfunction(function)]


@functools.cache
def results() -> frozenset[str]:
    """Names of classes that something with an example returns, or a result of it returns."""
    known = {n: v for n, v in public().items() if ours(v)}
    shown = {n for n, v in known.items() if has_example(own_doc(v))}
    while True:
        returned = " | ".join(
            str(function.__annotations__.get("return", ""))
            for name in shown
            for function in functions_of(known[name])
        )
        words = set(re.findall(r"\w+", returned))
        more = {n for n, v in known.items() if inspect.isclass(v) and v.__name__ in words}
        if more <= shown:
            return frozenset(shown)
        shown |= more


# ------------------------------------------------------------------ names
def test_every_public_name_has_a_docstring_of_its_own() -> None:
    bare = [
        name
        for name, value in public().items()
        if ours(value) and not re.match(r"\s*\S.*\S", value.__doc__ or "")
    ]
    generated = [  # dataclasses without a docstring get their signature
        name
        for name, value in public().items()
        if ours(value) and (value.__doc__ or "").startswith(f"{value.__name__}(")
    ]
    assert bare == generated == []


def test_every_public_name_has_an_example() -> None:
    """Its own; a result's in the function that makes it. Errors and warnings need none."""
    left = [
        name
        for name, value in public().items()
        if ours(value)
        and name not in EXCUSED
        and name not in results()
        and not (inspect.isclass(value) and issubclass(value, Exception))
    ]
    assert left == []


def test_the_excused_exist_and_have_no_example() -> None:
    values = public()
    assert [name for name in EXCUSED if has_example(own_doc(values[name]))] == []


# ------------------------------------------------------------------ pages
def blocks(path: Path) -> str:
    """The interactive examples of a page, one after the other."""
    found = re.findall(r"```python\n(>>>.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
    return "\n".join(found)


@pytest.mark.parametrize(
    "path", [p for p in PAGES if blocks(p)], ids=lambda p: p.relative_to(NOTEBOOKS).as_posix()
)
def test_the_examples_of_a_page_run(path: Path) -> None:
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    test = doctest.DocTestParser().get_doctest(blocks(path), {}, path.name, str(path), 0)
    said: list[str] = []
    result = doctest.DocTestRunner(optionflags=flags).run(test, out=said.append)
    assert result.attempted > 0
    assert result.failed == 0, "".join(said)


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.relative_to(NOTEBOOKS).as_posix())
def test_what_a_page_names_in_the_repository_is_there(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    linked = [
        path.parent / target.split("#")[0]
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
        if "://" not in target
    ]
    written = [
        ROOT / name for name in re.findall(r"`((?:benchmarks|tests|causal_lm_opt)/[\w./-]+)`", text)
    ]
    assert [str(p) for p in [*linked, *written] if not p.exists()] == []


def test_the_command_line_page_has_every_exit_code() -> None:
    from causal_lm_opt._run.shell import EXIT_CODES

    page = (NOTEBOOKS / "site/command-line.md").read_text(encoding="utf-8")
    codes = set(re.findall(r"\b(\d+) \w", EXIT_CODES))
    assert codes
    assert [code for code in codes if not re.search(rf"\b{code}\b", page)] == []


# ------------------------------------------------------------------ the built site
@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built once, every warning an error."""
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-d",
         str(out / "doctrees"), str(NOTEBOOKS), str(out / "html")],
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return out / "html"


def inventory(path: Path) -> dict[str, str]:
    """Names of Python objects in an inventory, and their pages."""
    packed = path.read_bytes().split(b"\n", 4)[4]  # after four lines of comment
    lines = zlib.decompress(packed).decode("utf-8").splitlines()
    fields = [line.split(" ", 4) for line in lines]
    return {name: uri.split("#")[0] for name, kind, _, uri, _ in fields if kind[:3] == "py:"}


@needs_sphinx
def test_every_public_name_is_in_the_inventory(site: Path) -> None:
    listed = inventory(site / "objects.inv")
    assert sorted(set(public()) - set(listed)) == []
    assert [uri for uri in set(listed.values()) if not (site / uri).is_file()] == []


@needs_sphinx
def test_every_page_is_reached_from_the_index(site: Path) -> None:
    """By links alone, as a reader would: pages, notebooks, modules, and each name's own page."""
    seen, waiting = set(), [site / "index.html"]
    while waiting:
        page = waiting.pop()
        if page in seen:
            continue
        seen.add(page)
        links = re.findall(r'<a [^>]*href="([^"#]+\.html)', page.read_text(encoding="utf-8"))
        waiting += [
            target
            for link in links
            if "://" not in link and (target := (page.parent / link).resolve()).is_file()
        ]
    sources = [*PAGES, *NOTEBOOKS.glob("*.ipynb"), *(NOTEBOOKS / "site/api").glob("*.rst")]
    wanted = {site / p.relative_to(NOTEBOOKS).with_suffix(".html") for p in sources}
    assert sorted(str(p) for p in wanted - {p.resolve() for p in seen}) == []


@needs_sphinx
def test_no_table_is_left_out_and_no_formula_left_as_it_was(site: Path) -> None:
    for page in [site / "index.html", *(site / "site").glob("*.html")]:
        text = page.read_text(encoding="utf-8")
        assert "{{" not in text, page.name
        assert "$$" not in text, page.name
    assert "<math" in (site / "site/mathematics.html").read_text(encoding="utf-8")
