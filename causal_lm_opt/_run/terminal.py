"""Text for a terminal; light to import, as every error message passes here."""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["collected_warnings", "of_draws_files", "printable", "width"]

_DRAWS = re.compile(
    r"""(?P<new>^|(?<=[.] ))?X_target(?:\[(?P<of>'[^']*'|"[^"]*")\])?(?P<part>\.\w+)?"""
)
_OPTIONS = {".groups": " (--group)", ".by": " (--by)", ".weight": " (their frequencies)"}


def of_draws_files(message: str) -> str:
    """A message of an estimator in the words of the command line: draws come of files there.

    >>> of_draws_files("X_target['f'].groups: 3 of 9 draws are left out.")
    "The draws of 'f' (--group): 3 of 9 draws are left out."
    >>> of_draws_files("it takes X_target (--draws FILE)")
    'it takes the draws (--draws FILE)'
    """

    def said(found: re.Match[str]) -> str:
        whose = "" if found["of"] is None else f" of {found['of']}"
        part = found["part"] or ""
        start = "The" if found["new"] is not None else "the"
        return f"{start} draws{whose}{_OPTIONS.get(part, part)}"

    return _DRAWS.sub(said, message)


def printable(text: str) -> str:
    r"""Text safe for a terminal: control characters and line breaks are spelled out.

    >>> printable("a\x1b[31m\n")
    'a\\x1b[31m\\n'
    """
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def width(text: str) -> int:
    """Columns a text takes in a terminal.

    >>> width("abc"), width("日本")
    (3, 4)
    """
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """A command's warnings raised inside, each once in its words, filled in on leaving."""
    messages: list[str] = []
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("ignore")  # deprecations of libraries; ours are told, just below
        for category in (UserWarning, RuntimeWarning):
            warnings.simplefilter("always", category)
        yield messages
    messages += dict.fromkeys(of_draws_files(" ".join(str(w.message).split())) for w in seen)
