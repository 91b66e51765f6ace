"""A smaller SVG that looks the same: a page of many plots has to travel by e-mail."""

from __future__ import annotations

import re
from xml.etree import ElementTree

__all__ = ["compact"]

NUMBER = re.compile(r"-?\d+\.\d{3,}(?:[eE][-+]?\d+)?")
REFERENCE = re.compile(r"url\(#([^)]+)\)")
UNTURNED = re.compile(r"rotate\(-?0(?:\.0*)?[ ,)]")
PLACES = ("d", "x", "y", "x1", "y1", "x2", "y2", "width", "height", "transform")
#: What the caller's own elements may be told by, and so is kept.
WORDS = frozenset({"text", "title", "desc", "tspan"})


def compact(root: ElementTree.Element, kept: set[str]) -> None:
    """Shorten an SVG in place: two decimals, no blanks between tags, no ids that nothing names.

    Parameters
    ----------
    root : Element
        Of an SVG without name spaces.
    kept : set of str
        Ids to keep beside those that the SVG itself refers to.

    Examples
    --------
    >>> svg = "<svg><g id='a'>  <g id='b'><path id='c' d='M 1.23456 2.0 '/></g></g></svg>"
    >>> root = ElementTree.fromstring(svg)
    >>> compact(root, {"c"})
    >>> ElementTree.tostring(root).decode()
    '<svg><path id="c" d="M1.23 2.0" /></svg>'
    """
    named = kept | _named(root)
    for element in root.iter():
        if element.get("id") is not None and element.get("id") not in named:
            del element.attrib["id"]
        if UNTURNED.match(element.get("transform", "")):
            del element.attrib["transform"]
        for name in PLACES:
            if name in element.attrib:
                element.set(name, NUMBER.sub(_rounded, element.get(name, "")))
        if "d" in element.attrib:
            element.set("d", _path(element.get("d", "")))
        if "style" in element.attrib:
            element.set("style", re.sub(r"\s*([:;])\s+", r"\1", element.get("style", "")))
        if element.tag not in WORDS:
            element.text = None
        for child in element:
            child.tail = None
    _prune(root)


def _named(root: ElementTree.Element) -> set[str]:
    """Ids that some element refers to."""
    found: set[str] = set()
    for element in root.iter():
        for name, value in element.attrib.items():
            if name == "href":
                found.add(value.removeprefix("#"))
            elif name == "aria-labelledby":
                found.update(value.split())
            else:
                found.update(REFERENCE.findall(value))
    return found


def _rounded(match: re.Match[str]) -> str:
    """Two decimals: a hundredth of a point is below what any screen shows."""
    shown = f"{float(match[0]):.2f}".rstrip("0").rstrip(".")
    return "0" if shown == "-0" else shown


def _path(d: str) -> str:
    """Path data without blanks around its letters."""
    return re.sub(r"\s*([A-DF-Za-df-z])\s*", r"\1", d).strip()


def _prune(parent: ElementTree.Element) -> None:
    """Take out what draws nothing, and groups that group nothing."""
    for child in list(parent):
        _prune(child)
        if _blank(child):
            parent.remove(child)
        elif child.tag == "g" and not child.attrib:
            at = list(parent).index(child)
            parent.remove(child)
            for k, grandchild in enumerate(list(child)):
                parent.insert(at + k, grandchild)


def _blank(element: ElementTree.Element) -> bool:
    """Empty groups, and shapes with neither filling nor line that nothing refers to."""
    if "id" in element.attrib:
        return False
    if element.tag in ("g", "defs"):
        return len(element) == 0
    style = element.get("style", "")
    return element.tag == "path" and "fill:none" in style and "stroke" not in style
