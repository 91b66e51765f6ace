"""The pages of the reference: one a public module, made from its ``__all__``."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path
from typing import Any, NamedTuple

from sphinx.errors import PycodeError
from sphinx.pycode import ModuleAnalyzer

import causal_lm_opt

PACKAGE = "causal_lm_opt"


class Entry(NamedTuple):
    """A public name of a module, and the name it is documented under."""

    module: str
    name: str
    home: str
    value: Any

    @property
    def kind(self) -> str:
        """What it is: a class, a function, or data (constants, and classes of other packages)."""
        if not str(getattr(self.value, "__module__", "")).startswith(PACKAGE):
            return "data"
        if inspect.isclass(self.value):
            return "class"
        return "function" if inspect.isfunction(self.value) else "data"


def public_modules() -> list[str]:
    """Packages, and modules beside them at the top, whose names carry no underscore."""
    names = [PACKAGE]
    for found in pkgutil.walk_packages(causal_lm_opt.__path__, f"{PACKAGE}."):
        parts = found.name.split(".")[1:]
        if not any(part.startswith("_") for part in parts) and (found.ispkg or len(parts) == 1):
            names.append(found.name)
    return sorted(names)


def public_names(module: str) -> list[str]:
    """``__all__``; of the package itself also the names that need torch."""
    loaded = importlib.import_module(module)
    return sorted({*loaded.__all__, *(dir(loaded) if module == PACKAGE else [])}, key=str.lower)


def entries() -> list[Entry]:
    """Every public name; one that several modules export has its page under the shortest."""
    homes: dict[int, str] = {}
    found = []
    for module in sorted(public_modules(), key=lambda name: (name.count("."), name)):
        for name in public_names(module):
            value = getattr(importlib.import_module(module), name)
            home = homes.setdefault(id(value), f"{module}.{name}")
            found.append(Entry(module, name, home, value))
    return found


def file_of(entry: Entry, everything: list[Entry]) -> str:
    """File of a name's own page; a function whose name is a class's in small letters says so.

    Some file systems do not tell such names apart.
    """
    lower = [e.home.lower() for e in everything if e.home == f"{e.module}.{e.name}"]
    twice = lower.count(entry.home.lower()) > 1 and entry.kind == "function"
    return f"{entry.home}{'-function' if twice else ''}.rst"


def comment_of(entry: Entry) -> list[str]:
    """The ``#:`` comment above a constant, wherever in the package it is defined."""
    if inspect.isclass(entry.value):
        return [
            f"``{entry.value.__module__.split('.')[0]}``'s class of that name, for annotations."
        ]
    inside = [
        found.name
        for found in pkgutil.walk_packages(causal_lm_opt.__path__, f"{PACKAGE}.")
        if found.name.startswith(f"{entry.module}.")
    ]
    for module in [entry.module, *inside]:
        try:
            docs = ModuleAnalyzer.for_module(module).find_attr_docs()
        except PycodeError:
            continue
        if ("", entry.name) in docs:
            return list(docs["", entry.name])
    return []


def page(module: str, names: list[Entry]) -> str:
    """A module's page: its docstring, its constants, tables of its classes and functions."""
    lines = [module, "=" * len(module), "", f".. automodule:: {module}", ""]
    lines += [f".. currentmodule:: {module}", ""]
    for title, kind in (("Classes", "class"), ("Functions", "function")):
        own = [e for e in names if e.kind == kind and e.home == f"{module}.{e.name}"]
        others = [e for e in names if e.kind == kind and e not in own]
        if own or others:
            lines += ["", title, "-" * len(title), ""]
        if own:
            lines += [".. autosummary::", "   :nosignatures:", ""]
            lines += [f"   {e.name}" for e in own]
        if others:
            lines += ["", "Also here:", "", ".. autosummary::", "   :nosignatures:", ""]
            lines += [f"   ~{e.home}" for e in others]
    constants = [e for e in names if e.kind == "data"]
    if constants:
        lines += ["", "Constants", "---------", ""]
    for entry in constants:
        lines += [f".. py:data:: {entry.name}", ""]
        lines += [f"   {line}" for line in comment_of(entry)] + [""]
    return "\n".join(lines) + "\n"


def own_page(entry: Entry) -> str:
    """The page of one class or function.

    It is in no table of contents, which would else hold hundreds of lines on every page; the
    module's page leads to it.
    """
    lines = [":orphan:", "", entry.name, "=" * len(entry.name), ""]
    lines += [f"In :mod:`{entry.module}`.", "", f".. currentmodule:: {entry.module}", ""]
    lines += [f".. auto{entry.kind}:: {entry.name}"]
    if entry.kind == "class":
        lines += ["   :members:", "   :inherited-members:"]
    return "\n".join(lines) + "\n"


def write_pages(folder: Path) -> None:
    """Write the pages; files that are as they should be are not touched."""
    folder.mkdir(parents=True, exist_ok=True)
    everything = entries()
    wanted = {
        f"module-{module}.rst": page(module, [e for e in everything if e.module == module])
        for module in public_modules()
    }
    for entry in everything:
        if entry.kind != "data" and entry.home == f"{entry.module}.{entry.name}":
            wanted[file_of(entry, everything)] = own_page(entry)
    for path in folder.glob("*.rst"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def add_other_names(app: Any, env: Any) -> None:
    """Let a name be found (links, search, objects.inv) under each module that exports it."""
    objects = env.get_domain("py").objects
    for entry in entries():
        if entry.home in objects:
            other = objects[entry.home]._replace(aliased=True)
            objects.setdefault(f"{entry.module}.{entry.name}", other)
