"""What decides the figures of a study, as one digest: settings, values and code.

Kept blocks are used again only under the same digest. A name does not tell what a function does
now, so functions and classes count by their code (and that of what they call), the package by its
source files, and installed libraries by their versions.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import sys
import sysconfig
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import metadata
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import joblib
from joblib.hashing import Hasher, NumpyHasher

from causal_lm_opt.exceptions import DataError

__all__ = ["identity", "source_digest"]

PACKAGE = __name__.partition(".")[0]
NUMERICAL = ("numpy", "scipy", "scikit-learn", "pandas")
#: Entries of a class that Python makes, or that hold nothing of its own.
MADE = {
    *("__module__", "__doc__", "__dict__", "__weakref__", "__qualname__", "__slots__"),
    *("__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__"),
    *("__firstlineno__", "__static_attributes__", "__match_args__", "__abstractmethods__"),
    *("_abc_impl", "__dataclass_fields__", "__dataclass_params__", "__parameters__"),
    "__orig_bases__",
}
DESCRIPTORS = (types.MemberDescriptorType, types.GetSetDescriptorType)


def identity(*parts: Any) -> str:
    """A digest of values and of the code that they lead to; the same in every process.

    Raises
    ------
    DataError
        Something whose value or code cannot be had.

    Examples
    --------
    >>> one, other = (eval(f"lambda x: x + {i}") for i in (1, 2))
    >>> identity(one) == identity(eval("lambda x: x + 1")), identity(one) == identity(other)
    (True, False)
    """
    digest = _Hasher(hash_name="sha256").hash((_surroundings(), parts))
    return str(digest)


#: Classes that no module names.
NAMELESS = (types.NoneType, types.NotImplementedType, types.EllipsisType)


class _Hasher(NumpyHasher):
    """joblib's hasher, to which functions, classes and modules are their code."""

    def __init__(self, hash_name: str) -> None:
        super().__init__(hash_name=hash_name)
        self.entered: set[int] = set()
        self.held: list[Any] = []  # keeps what is made here alive: the pickler goes by id()

    def hash(self, obj: Any, return_digest: bool = True) -> Any:
        """The digest; an error says what cannot be told apart."""
        try:
            return super().hash(obj, return_digest)
        except Exception as error:
            raise DataError(
                "cannot tell whether kept blocks are of the same study: a design or estimator "
                f"leads to something whose value or code cannot be had ({error}). Make it of "
                "Python code and plain values, or run without out, when nothing is kept."
            ) from error

    def reducer_override(self, obj: Any) -> Any:
        """Stand-ins for what pickles by name alone."""
        if obj is _stand_in:
            return NotImplemented
        if any(obj is kind for kind in NAMELESS):
            return _stand_in, (("nameless", obj.__name__),)
        if isinstance(obj, types.FunctionType):
            return self._described(obj, _function)
        if isinstance(obj, type):
            return self._described(obj, _class)
        if isinstance(obj, types.ModuleType):
            return _stand_in, (("module", *_module(obj)),)
        if isinstance(obj, (property, staticmethod, classmethod, functools.cached_property)):
            return self._made(("descriptor", type(obj).__name__, *_wrapped(obj)))
        if isinstance(obj, types.MappingProxyType):
            return self._made(("mapping", dict(obj)))
        if isinstance(obj, frozenset):
            return self._made(("frozenset", set(obj)))
        return NotImplemented

    def save(self, obj: Any) -> None:
        """As joblib's, but compiled functions count only where their version is known."""
        if isinstance(obj, types.BuiltinFunctionType) and isinstance(
            obj.__self__, types.ModuleType
        ):
            _refuse_unknown(obj.__self__.__name__, obj.__name__)
        super().save(obj)

    def save_global(self, obj: Any, name: str | None = None, **more: Any) -> None:
        """What pickles by name must be of a library."""
        _refuse_unknown(str(getattr(obj, "__module__", "")), name or obj.__qualname__)
        super().save_global(obj, name, **more)

    def _batch_setitems(self, items: Iterable[tuple[Any, Any]], *more: Any) -> None:
        """In the order of keys. joblib's own would start again, half-way, after a TypeError."""
        held = list(items)
        try:
            held.sort(key=lambda pair: pair[0])
        except TypeError:
            held.sort(key=lambda pair: str(joblib.hash(pair[0])))
        super(Hasher, self)._batch_setitems(iter(held), *more)

    def _described(self, obj: Any, describe: Callable[[Any], tuple[Any, ...]]) -> Any:
        name = (getattr(obj, "__module__", None), obj.__qualname__)
        if id(obj) in self.entered:  # calls itself, or is met again: its code is in the digest
            return _stand_in, (("again", *name),)
        self.entered.add(id(obj))
        if _is_named(obj):
            return _stand_in, (("named", *name, _version(str(name[0]))),)
        return self._made((*name, *describe(obj)))

    def _made(self, content: tuple[Any, ...]) -> Any:
        self.held.append(content)
        return _stand_in, (content,)


def _refuse_unknown(module: str, name: str) -> None:
    if not _is_library(module):
        raise DataError(f"{module}.{name} has no Python code")


def _stand_in(content: tuple[Any, ...]) -> tuple[Any, ...]:
    """What the hasher writes for code; never called."""
    return content


# ------------------------------------------------------------------------------ whose code
@functools.cache
def source_digest(folder: Path) -> str:
    """Digest of every Python file of a folder, by relative path.

    Raises
    ------
    DataError
        No source files: only compiled ones, or a package in an archive.
    """
    total = hashlib.sha256()
    files = sorted(folder.rglob("*.py")) if folder.is_dir() else []
    if not files:
        raise DataError(f"{folder} holds no source files")
    for file in files:
        content = file.read_bytes()
        total.update(f"{file.relative_to(folder).as_posix()}|{len(content)}|".encode())
        total.update(content)
    return total.hexdigest()


def _surroundings() -> tuple[str, ...]:
    """Code of this package, and versions of what computes."""
    own = source_digest(Path(__file__).resolve().parents[1])
    return own, *(f"{name} {_distribution_version(name)}" for name in NUMERICAL)


@functools.cache
def _distribution_version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


@functools.cache
def _libraries() -> tuple[Path, ...]:
    """Folders of installed packages and of Python itself."""
    keys = ("stdlib", "platstdlib", "purelib", "platlib")
    found = [Path(sysconfig.get_path(key)) for key in keys]
    # Also a user's own site-packages, a distribution's, and those that a .pth file adds.
    found += [Path(p) for p in sys.path if Path(p).name in ("site-packages", "dist-packages")]
    return tuple(dict.fromkeys(folder.resolve() for folder in found))


@functools.cache
def _is_library(module: str) -> bool:
    """Whether a module is this package's, Python's or installed: told by version, not by code."""
    top = module.partition(".")[0]
    if top == PACKAGE or top in sys.stdlib_module_names:
        return top != "__main__"
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return False
    return any(Path(file).resolve().is_relative_to(folder) for folder in _libraries())


def _is_named(obj: Any) -> bool:
    """Whether a function or class is what its name says in a library."""
    module = getattr(obj, "__module__", None)
    if not isinstance(module, str) or not _is_library(module):
        return False
    found: Any = sys.modules.get(module)
    for part in obj.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is obj or isinstance(obj, type)


def _version(module: str) -> str:
    top = module.partition(".")[0]
    return str(getattr(sys.modules.get(top), "__version__", ""))


# ------------------------------------------------------------------------------ code
def _function(f: types.FunctionType) -> tuple[Any, ...]:
    """Code, defaults, closure, and the globals that the code reads."""
    cells = [_contents(cell) for cell in f.__closure__ or ()]
    read = {name: f.__globals__[name] for name in _globals(f.__code__) if name in f.__globals__}
    own = {k: v for k, v in vars(f).items() if k != "__wrapped__"}
    return (_code(f.__code__), f.__defaults__, f.__kwdefaults__, cells, read, own)


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return "empty cell"


def _globals(code: types.CodeType) -> Iterator[str]:
    """Names that code, and code within it, takes from its module."""
    names = {i.argval for i in dis.get_instructions(code) if i.opname in _READS}
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            names |= set(_globals(const))
    return iter(sorted(names))


_READS = ("LOAD_GLOBAL", "LOAD_NAME")


def _code(code: types.CodeType) -> str:
    """Everything of compiled code that decides what it does; no line numbers."""
    facts = (
        code.co_code.hex(), code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars,
        code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags,
        code.co_exceptiontable.hex(),
    )  # fmt: skip
    return f"{facts!r}{_constant(code.co_consts)}"


def _constant(value: Any) -> str:
    """A constant of compiled code in words that do not depend on the process."""
    if isinstance(value, types.CodeType):
        return f"<{_code(value)}>"
    if isinstance(value, tuple):
        return f"({','.join(map(_constant, value))})"
    if isinstance(value, frozenset):
        return f"{{{','.join(sorted(map(_constant, value)))}}}"
    return f"{type(value).__name__} {value!r}"


def _class(cls: type) -> tuple[Any, ...]:
    """Bases and everything that the class itself defines."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None) or ""
    if file.endswith(tuple(EXTENSION_SUFFIXES)):
        _refuse_unknown(cls.__module__, cls.__qualname__)
    own: Mapping[str, Any] = {
        name: value
        for name, value in vars(cls).items()
        if name not in MADE and not isinstance(value, DESCRIPTORS)
    }
    return cls.__bases__, type(cls), dict(own)


def _wrapped(obj: Any) -> tuple[Any, ...]:
    """Functions of a descriptor."""
    if isinstance(obj, property):
        return obj.fget, obj.fset, obj.fdel
    return (obj.func if isinstance(obj, functools.cached_property) else obj.__func__,)


def _module(module: types.ModuleType) -> tuple[str, ...]:
    """A library by name and version, any other module by its source."""
    name = module.__name__
    if _is_library(name):
        return name, _version(name)
    file = getattr(module, "__file__", None)
    if file is None or not file.endswith(".py"):
        raise DataError(f"the module {name!r} has no source file")
    if hasattr(module, "__path__"):
        return name, source_digest(Path(file).resolve().parent)
    return name, hashlib.sha256(Path(file).read_bytes()).hexdigest()
