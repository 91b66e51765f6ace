"""The shell of a report: one page that needs nothing from outside and runs no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Chapter", "bullets", "definitions", "folded", "page", "paragraph", "table"]

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

STYLE = """
:root{--ink:#1b1f24;--soft:#57606a;--paper:#fff;--band:#f5f7f9;--line:#d5dae0;
--ok:#0072b2;--careful:#b25800;--no:#7a1230;--first:#2f6f9f;--second:#b0530a;
--shade:#1b1f2455;color-scheme:light dark}
@media screen and (prefers-color-scheme:dark){:root{--ink:#e8eaed;--soft:#a5adb8;--paper:#15181c;
--band:#1e2329;--line:#3a414a;--ok:#56b4e9;--careful:#f5d04e;--no:#f2704f;
--first:#6fb7e0;--second:#f2a65a;--shade:#000c}}
*,::before{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,
"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;overflow-wrap:anywhere}
main{max-width:58rem;margin:0 auto;padding:1.5rem 1.25rem 4rem}
h1{font-size:1.7rem;line-height:1.2;margin:.4rem 0 .8rem;text-wrap:balance}
h2{font-size:1.25rem;margin:2.4rem 0 .6rem;padding-top:1rem;border-top:1px solid var(--line)}
h3{font-size:1.02rem;margin:1.6rem 0 .4rem}
h4{font-size:.95rem;margin:1.2rem 0 .3rem}
p,ul{margin:.5rem 0}ul{padding-left:1.2rem}li{margin:.25rem 0}
p,li,dd,blockquote{max-width:48rem}
.soft,figcaption,footer{color:var(--soft);font-size:.9rem}
.ask{font-size:1.1rem}.answers li{margin:.5rem 0}
.verdicts{list-style:none;padding:0}
.scroll{overflow-x:auto;margin:.7rem 0;background:
linear-gradient(to right,var(--paper) 40%,transparent) left/3rem 100%,
linear-gradient(to left,var(--paper) 40%,transparent) right/3rem 100%,
linear-gradient(to right,var(--shade),transparent) left/.9rem 100%,
linear-gradient(to left,var(--shade),transparent) right/.9rem 100%;
background-repeat:no-repeat;background-attachment:local,local,scroll,scroll}
:focus-visible{outline:2px solid var(--first);outline-offset:2px}
table{border-collapse:collapse;font-size:.87rem;font-variant-numeric:tabular-nums;width:100%;
overflow-wrap:break-word}
caption{text-align:left;color:var(--soft);padding-bottom:.4rem}
caption span{display:inline-block;position:sticky;left:0;max-width:calc(100vw - 3.5rem)}
th,td{padding:.32rem 1rem .32rem 0;text-align:left;vertical-align:top;
border-bottom:1px solid var(--line)}
th:last-child,td:last-child{padding-right:.2rem}
thead th{border-bottom:2px solid var(--soft);vertical-align:bottom;line-height:1.3}
tbody th{font-weight:600;max-width:22rem;min-width:8rem}
td.n,td.w,td.k{white-space:nowrap}.n{text-align:right}
.v{white-space:nowrap;font-weight:600}
.v::before{content:"";display:inline-block;width:.68em;height:.68em;margin-right:.45em}
.ok{--c:var(--ok)}.careful{--c:var(--careful)}.no{--c:var(--no)}
.v.ok,.v.careful,.v.no{color:var(--c)}
.v.ok::before{background:var(--c);border-radius:50%}
.v.careful::before{background:var(--c);transform:rotate(45deg) scale(.85)}
.v.no::before{content:"\\00d7";width:auto;height:auto;margin-right:.3em;font-weight:700}
figure{margin:1rem 0;background:var(--band);border-radius:8px;padding:1rem .9rem}
figure svg{display:block;width:100%;height:auto;margin:0 auto}
figure.main svg{max-width:540px!important}
figcaption p{margin:.6rem 0 0}figcaption b{color:var(--ink)}
.plots{display:grid;gap:1rem;align-items:start;
grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr))}
.plots figure{margin:0;height:100%}
dt{font-weight:600;margin-top:.6rem}dd{margin:.1rem 0 0 1rem}
blockquote{margin:.9rem 0 .1rem;padding:.1rem 0 .1rem .8rem;border-left:3px solid var(--line);
white-space:pre-wrap;font-size:.95rem}
.texts{padding:0;list-style:none}.texts p{margin:.1rem 0 .1rem .95rem}
details{margin:.8rem 0;border:1px solid var(--line);border-radius:8px;padding:.5rem .9rem}
summary{cursor:pointer;font-weight:600}
code{font-size:.86rem;overflow-wrap:anywhere}
pre{white-space:pre-wrap;background:var(--band);border-radius:8px;padding:.6rem .8rem}
pre .w{white-space:nowrap}
@media (max-width:40rem){figure{padding:.8rem .5rem}main{padding:1rem .9rem 3rem}
details{padding:.5rem .6rem}td.w{white-space:normal}
tbody th,thead th:first-child{position:sticky;left:0;background:var(--paper);max-width:9rem;
min-width:4rem}th,td,tbody th,thead th:first-child{padding-right:.6rem}}
@media (max-width:28rem){td.n{white-space:normal}}
@media print{body{font-size:11pt}main{max-width:none;padding:0}
.scroll{overflow:visible;background:none}table{font-size:8pt}th,td{padding-right:.5rem}
tbody th{min-width:4rem}td.n,td.w,td.k{white-space:normal}
figure{break-inside:avoid;background:none;border:1px solid var(--line)}
tr{break-inside:avoid}h2,h3,h4{break-after:avoid}}
"""
#: Marks that turn the reading order of what follows them: a name may not turn its sentence.
TURNS = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\ufffd")


@dataclass(frozen=True)
class Chapter:
    """A chapter of a report: its heading and its HTML (already escaped)."""

    title: str
    body: str


def page(title: str, lead: str, chapters: Sequence[Chapter], footer: str) -> str:
    """A whole HTML page; ``lead`` and bodies are HTML, titles and footer plain text.

    Marks that turn the reading order are replaced, wherever they stand, unless written as
    character references.
    """
    inner = "".join(f"<section><h2>{escape(c.title)}</h2>{c.body}</section>" for c in chapters)
    whole = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><main><h1>{escape(title)}</h1>{lead}{inner}\n"
        f"<footer><p>{escape(footer)}</p></footer></main></body></html>\n"
    )
    return whole.translate(TURNS)


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of plain text."""
    return f"<p{_class(kind)}>{escape(text)}</p>"


def definitions(items: Mapping[str, str]) -> str:
    """A list of terms and their plain-text definitions."""
    return (
        "<dl>"
        + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in items.items())
        + "</dl>"
    )


def folded(summary: str, body: str) -> str:
    """HTML that is folded away under a plain-text summary."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


def bullets(items: Sequence[str], kind: str = "") -> str:
    """A list of plain texts; empty for none."""
    if not items:
        return ""
    return f"<ul{_class(kind)}>" + "".join(f"<li>{escape(i)}</li>" for i in items) + "</ul>"


def table(
    caption: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    kinds: Sequence[str],
) -> str:
    """A table of ready HTML cells; ``kinds`` are the columns' classes, the first one a row header.

    Parameters
    ----------
    caption : str
        Plain text.
    columns : sequence of C str
        Plain text.
    rows : sequence of sequence of C str
        HTML.
    kinds : sequence of C str
        ``"n"`` for numbers, ``"w"`` to forbid wrapping but on a phone, ``"k"`` to forbid it
        everywhere, or empty.
    """
    head = "".join(
        f'<th scope="col"{_class(k)}>{escape(c)}</th>' for c, k in zip(columns, kinds, strict=True)
    )
    body = "".join(
        "<tr>"
        + f'<th scope="row">{row[0]}</th>'
        + "".join(f"<td{_class(k)}>{cell}</td>" for cell, k in zip(row[1:], kinds[1:], strict=True))
        + "</tr>"
        for row in rows
    )
    said = f"<caption><span>{escape(caption)}</span></caption>" if caption else ""
    named = escape(f"{caption} (table)" if caption else "table")
    return (
        f'<div class="scroll" role="group" tabindex="0" aria-label="{named}"><table>'
        f"{said}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
