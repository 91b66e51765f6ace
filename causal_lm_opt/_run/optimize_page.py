"""Chapters of a training run told once and written twice: as HTML and as Markdown."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import assert_never

from causal_lm_opt._run import page
from causal_lm_opt._run.chapters import CLASSES
from causal_lm_opt._run.markdown import code, escaped
from causal_lm_opt._run.page import TURNS
from causal_lm_opt._run.terminal import printable

__all__ = [
    "Block",
    "Command",
    "Fold",
    "Grid",
    "Pairs",
    "Picture",
    "Points",
    "Section",
    "Terms",
    "Words",
    "html_page",
    "markdown_page",
]


@dataclass(frozen=True)
class Words:
    """A paragraph of plain text."""

    text: str
    soft: bool = False


@dataclass(frozen=True)
class Points:
    """A list of plain texts."""

    items: Sequence[str]


@dataclass(frozen=True)
class Grid:
    """A table of plain texts; the first column names its row.

    Attributes
    ----------
    kinds : sequence of {"", "n", "w", "v", "t"}
        Of each column: words, numbers, words on one line, a verdict, a text from data.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    kinds: Sequence[str]


@dataclass(frozen=True)
class Picture:
    """A plot as SVG with its caption; in Markdown the caption alone stands for it."""

    svg: str
    caption: str


@dataclass(frozen=True)
class Pairs:
    """Texts side by side, one below the other on a phone.

    Attributes
    ----------
    titles : sequence of str
        Of the columns.
    rows : sequence of (prompt or None, texts)
    """

    titles: Sequence[str]
    rows: Sequence[tuple[str | None, Sequence[str]]]


@dataclass(frozen=True)
class Terms:
    """Words and what they mean."""

    items: Mapping[str, str]


@dataclass(frozen=True)
class Command:
    """A command to type."""

    text: str


@dataclass(frozen=True)
class Fold:
    """Blocks that are folded away under a title."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Section:
    """A chapter."""

    title: str
    blocks: Sequence[Block] = field(default=())


Block = Words | Points | Grid | Picture | Pairs | Terms | Command | Fold


# ------------------------------------------------------------------------------ HTML
def html_page(title: str, lead: str, sections: Sequence[Section], footer: str) -> str:
    """One page that needs nothing from outside; every text is escaped."""
    chapters = [page.Chapter(s.title, "".join(map(_html, s.blocks))) for s in sections]
    return page.page(title, f'<p class="ask">{escape(lead)}</p>', chapters, footer)


def _html(block: Block) -> str:
    match block:
        case Words():
            return page.paragraph(block.text, "soft" if block.soft else "")
        case Points():
            return page.bullets(list(block.items))
        case Grid():
            return _html_table(block)
        case Picture():
            said = f"<figcaption><p>{escape(block.caption)}</p></figcaption>"
            return f'<figure class="main">{block.svg}{said}</figure>'
        case Pairs():
            return "".join(_html_pair(block.titles, *row) for row in block.rows)
        case Terms():
            return page.definitions(block.items)
        case Command():
            return f"<pre><code>{escape(block.text)}</code></pre>"
        case Fold():
            return page.folded(block.title, "".join(map(_html, block.blocks)))
        case _:
            assert_never(block)


def _html_pair(titles: Sequence[str], prompt: str | None, texts: Sequence[str]) -> str:
    asked = "" if prompt is None else f"<h4>Prompt: {_html_text(prompt)}</h4>"
    sides = "".join(
        f"<div>{page.paragraph(title, 'soft')}<blockquote>{_html_text(text)}</blockquote></div>"
        for title, text in zip(titles, texts, strict=True)
    )
    return f'{asked}<div class="plots">{sides}</div>'


def _html_text(text: str) -> str:
    """A text from data: marks that turn the reading order become references, control marks go."""
    kept = "".join("\ufffd" if unicodedata.category(c) == "Cc" and c not in "\n\t" else c
                   for c in text)  # fmt: skip
    return f'<span dir="auto">{escape(kept).translate({c: f"&#{c};" for c in TURNS})}</span>'


def _html_table(grid: Grid) -> str:
    kinds = [{"v": "w", "t": ""}.get(kind, kind) for kind in grid.kinds]
    rows = [
        [_html_cell(cell, kind) for cell, kind in zip(row, grid.kinds, strict=True)]
        for row in grid.rows
    ]
    return page.table(grid.caption, list(grid.columns), rows, kinds)


def _html_cell(cell: str, kind: str) -> str:
    if kind == "v" and cell in CLASSES:
        return f'<span class="v {CLASSES[cell]}">{escape(cell)}</span>'
    return _html_text(cell) if kind == "t" else escape(cell)


# ------------------------------------------------------------------------------ Markdown
def markdown_page(title: str, lead: str, sections: Sequence[Section], footer: str) -> str:
    """The same without pictures: for a pull request, a notebook or an e-mail."""
    out = [f"# {escaped(title)}", escaped(lead)]
    for section in sections:
        out += [f"## {escaped(section.title)}", *map(_markdown, section.blocks)]
    return "\n\n".join(part for part in [*out, escaped(footer)] if part) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Words():
            return escaped(block.text)
        case Points():
            return "\n".join(f"- {escaped(item)}" for item in block.items)
        case Grid():
            rule = ["---:" if kind == "n" else "---" for kind in block.kinds]
            body = [[escaped(cell) for cell in row] for row in block.rows]
            lines = [[escaped(c) for c in block.columns], rule, *body]
            table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
            return f"{escaped(block.caption)}\n\n{table}" if block.caption else table
        case Picture():
            return f"*{escaped(block.caption)}* (drawn in report.html)"
        case Pairs():
            asked = any(prompt is not None for prompt, _ in block.rows)
            columns = ["", *(["Prompt"] if asked else []), *block.titles]
            cells = [
                [f"{k + 1}", *([prompt or ""] if asked else []), *texts]
                for k, (prompt, texts) in enumerate(block.rows)
            ]
            return _markdown(Grid("", columns, cells, [""] * len(columns)))
        case Terms():
            return "\n".join(f"- {escaped(k)}: {escaped(v)}" for k, v in block.items.items())
        case Command():
            if "\n" in block.text:
                return "\n".join(f"    {printable(line)}" for line in block.text.splitlines())
            return code(block.text)
        case Fold():
            inside = "\n\n".join(map(_markdown, block.blocks))
            return f"### {escaped(block.title)}\n\n{inside}"
        case _:
            assert_never(block)
