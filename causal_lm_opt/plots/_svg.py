"""A figure as an SVG that can stand inside an HTML page: no script, nothing from outside."""

from __future__ import annotations

import io
import re
import warnings
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.figure import Figure

from causal_lm_opt.plots._compact import compact
from causal_lm_opt.plots._theme import DARK, LIGHT, TIPS

__all__ = ["to_svg"]

SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
KEY = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
COLOUR = re.compile(r"#[0-9a-fA-F]{6}\b")
REFERENCE = re.compile(r"url\(#([^)]+)\)")
FONT = "var(--plot-font, system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif)"
#: What a page may set, and the colours it replaces; where both themes give a variable a colour,
#: the one that was drawn is the fallback.
VARIABLES = {
    colour: f"var(--{role}, {colour})"
    for palette in (DARK, LIGHT)
    for role, colour in vars(palette).items()
}


def to_svg(figure: Figure, *, key: str, title: str, description: str = "") -> str:
    r"""A figure as one ``<svg>`` element for an HTML page.

    Text stays text. Colours of the theme become custom properties with the drawn colour as
    fallback: ``--ink``, ``--soft``, ``--line``, ``--ok``, ``--careful``, ``--no``, ``--first``,
    ``--second``; the font is ``--plot-font``. A page that sets them per colour scheme has plots
    for dark mode too.

    Parameters
    ----------
    figure : Figure
    key : str
        Letters, digits, ``-`` and ``_``, starting with a letter: begins every id, and so differs
        between the plots of a page.
    title, description : str
        Read to those who cannot see the plot (plain text; the figures it shows, or where they
        stand).

    Returns
    -------
    str
        The same for the same figure: neither date nor random ids.

    Examples
    --------
    >>> from causal_lm_opt import plots
    >>> ax = plots.weights_plot([0.1, -0.2, 0.3, 0.0], ax=plots.new_axes())
    >>> svg = plots.to_svg(ax.figure, key="w1", title="Weights")
    >>> svg[:40], "<title id=\"w1-title\">Weights</title>" in svg
    ('<svg xmlns="http://www.w3.org/2000/svg" ', True)
    """
    if not KEY.fullmatch(key):
        raise ValueError(
            f"key={key!r} must be letters, digits, '-' and '_' that start with a letter: ids are "
            "made of it."
        )
    if not title.strip():
        raise ValueError("title is empty: say what the plot shows, for those who cannot see it.")
    root = ElementTree.fromstring(_drawn(figure, key))
    for unwanted in ("metadata", "defs/style"):
        *above, last = unwanted.split("/")
        for parent in [root] if not above else root.findall(SVG + above[0]):
            for child in parent.findall(SVG + last):
                parent.remove(child)
    _rename(root, key)
    _tips(root, figure, key)
    _head(root, key, title, description, figure)
    marks = {artist.get_gid() for artist in figure.findobj()}
    compact(root, {f"{key}-{mark}" for mark in marks if mark})
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=True)


def _drawn(figure: Figure, key: str) -> bytes:
    """The SVG matplotlib writes, with texts as texts and ids that depend on ``key`` alone."""
    settings: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": key}
    out = io.BytesIO()
    with mpl.rc_context(settings), warnings.catch_warnings():
        # Text stays text: the reader's fonts draw it, whatever this machine's lack.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    return out.getvalue()


def _rename(root: ElementTree.Element, key: str) -> None:
    """Drop name spaces, put ``key`` before each id, name colours and font."""
    for element in root.iter():
        element.tag = element.tag.removeprefix(SVG)
        for name, value in list(element.attrib.items()):
            bare = name.removeprefix(XLINK)
            if bare == "id":
                value = f"{key}-{value}"
            elif bare == "href" and value.startswith("#"):
                value = f"#{key}-{value[1:]}"
            elif bare == "style":
                value = COLOUR.sub(lambda m: VARIABLES.get(m[0].lower(), m[0]), value)
                value = _without_font(value) if element.tag == "text" else value
            value = REFERENCE.sub(lambda m: f"url(#{key}-{m[1]})", value)
            if bare != name:
                del element.attrib[name]
            element.set(bare, value)


def _without_font(style: str) -> str:
    """The style of a text without matplotlib's font: the whole SVG has the page's."""
    parts = [p.strip() for p in style.split(";") if p.strip()]
    kept: list[str] = []
    for part in parts:
        name, _, value = part.partition(":")
        if name == "font":  # "bold 10px 'DejaVu Sans', ...": keep weight and size
            size = re.search(r"[\d.]+px", value)
            weight = re.search(r"\b(bold|[1-9]00)\b", value)
            kept += [f"font-size: {size[0]}"] if size else []
            kept += [f"font-weight: {weight[0]}"] if weight else []
        elif name != "font-family":
            kept.append(part)
    return "; ".join(kept)


def _tips(root: ElementTree.Element, figure: Figure, key: str) -> None:
    """Words shown when the pointer rests on a mark."""
    groups = {element.get("id"): element for element in root.iter("g")}
    for artist in figure.findobj():
        group = groups.get(f"{key}-{artist.get_gid()}")
        if group is not None and artist in TIPS:
            tip = ElementTree.Element("title")
            tip.text = TIPS[artist]
            group.insert(0, tip)


def _head(
    root: ElementTree.Element, key: str, title: str, description: str, figure: Figure
) -> None:
    """Name, role and size of the whole."""
    view = root.get("viewBox", "")
    root.attrib.clear()
    ids = f"{key}-title {key}-description" if description else f"{key}-title"
    wide = round(1.3 * 72 * figure.get_size_inches()[0])
    root.attrib.update(
        {
            "xmlns": SVG[1:-1],
            "class": "plot",
            "viewBox": view,
            "role": "img",
            "aria-labelledby": ids,
            "style": f"display: block; width: 100%; max-width: {wide}px; height: auto; "
            f"stroke-linejoin: round; stroke-linecap: butt; font-family: {FONT}",
        }
    )
    words = [("title", title)] + ([("description", description)] if description else [])
    for place, (name, text) in enumerate(words):
        element = ElementTree.Element("title" if name == "title" else "desc", id=f"{key}-{name}")
        element.text = text
        root.insert(place, element)
