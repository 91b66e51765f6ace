"""Text for a terminal; light to import, as every error message passes here."""

from __future__ import annotations

import unicodedata

__all__ = ["printable", "width"]


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
