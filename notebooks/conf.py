"""Settings of the documentation site: ``make docs``, or ``sphinx-build notebooks OUT``.

Pages are in ``site/``, the notebooks beside this file are shown as they were committed, and the
reference is made from each public module's ``__all__``. Figures come from ``benchmarks/results``
and the words of the glossary from the package, when the site is built.
"""

from __future__ import annotations

import html
import inspect
import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.ext import autosummary
from sphinx.util import logging

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "site")]

import _figures
import _reference

from causal_lm_opt import __version__

logger = logging.getLogger(__name__)
project = "causal_lm_opt"
copyright = "causal_lm_opt contributors"
version = release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_nb",
]
root_doc = "index"
exclude_patterns = ["**/.ipynb_checkpoints"]
nb_execution_mode = "off"
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath", "substitution"]
myst_heading_anchors = 3
myst_substitutions = _figures.substitutions()

autosummary_generate = False
autosummary.WELL_KNOWN_ABBREVIATIONS += ("Prop.", "Thm.", "sec.", "eq.", "cf.", "al.")
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_default_options = {"exclude-members": "__init__, __new__"}
numpydoc_show_class_members = False
add_module_names = False
python_maximum_signature_line_length = 88
toc_object_entries = False

html_theme = "furo"
html_title = f"causal_lm_opt {release}"
html_static_path = ["site/_static"]
smartquotes = False  # options of the command line begin with two hyphens
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_math_renderer = "mathml"
pygments_style = "default"


# ------------------------------------------------------------------ mathematics without a network
#: An accented letter: in braces, so that its index stands beside it and not below.
ACCENT = re.compile(
    r"\\(?:hat|tilde|bar|widehat|widetilde|overline)\s*(?:\{[^{}]*\}|\\[A-Za-z]+|[A-Za-z])"
)


#: What docutils does not know, in words that it does.
OTHER_WORDS = {
    r"\\(big|Big|bigg|Bigg)(?![a-zA-Z])": r"\\\1l",
    r"\\dots(?![a-zA-Z])": r"\\ldots",
    r"\\stackrel(?![a-zA-Z])": r"\\overset",
    r"\\mathds(?![a-zA-Z])": r"\\mathbb",
    r"\\textbf(?![a-zA-Z])": r"\\mathbf",
    r"\\(?:emph|textit)(?![a-zA-Z])": r"\\text",
    r"\\tag\{([^{}]*)\}": r"\\qquad \\text{(\1)}",
    r"\\(?:nonumber|middle|limits|small)(?![a-zA-Z])": "",
    r"\{align\*?\}": "{aligned}",
}


def mathml(node: Any, *, block: bool) -> str:
    """MathML of a formula; one that cannot be turned is a warning, and is shown as TeX."""
    text = ACCENT.sub(r"{\g<0>{}}", node.astext())
    for pattern, words in OTHER_WORDS.items():
        text = re.sub(pattern, words, text)
    if block and ("\\\\" in text or "&" in text) and "\\begin{" not in text:
        text = rf"\begin{{aligned}}{text}\end{{aligned}}"
    try:
        found = str(tex2mathml(text, as_block=block))
        return found.replace("ˉ", "¯")  # a bar that can be seen
    except MathError as error:
        logger.warning("no MathML for %s: %s", text, error, location=node)
        return f"<code>{html.escape(text)}</code>"


def visit_math(writer: Any, node: Any) -> None:
    """Write a formula of a line."""
    writer.body.append(mathml(node, block=False))
    raise nodes.SkipNode


def visit_math_block(writer: Any, node: Any) -> None:
    """Write a formula of its own."""
    writer.body.append(f'<div class="math">{mathml(node, block=True)}</div>\n')
    raise nodes.SkipNode


# ------------------------------------------------------------------ what the reference leaves out
def leave_out(app: Any, what: str, name: str, member: Any, skip: bool, options: Any) -> bool | None:
    """Leave out what other packages gave a class, such as scikit-learn's request setters."""
    if what not in ("class", "exception"):
        return None
    if name.startswith("set_") and name.endswith("_request"):
        return True
    function = inspect.unwrap(getattr(member, "fget", None) or getattr(member, "func", member))
    home = getattr(function, "__module__", None)
    if home is None or not str(home).startswith("causal_lm_opt"):
        return True
    return None


def setup(app: Any) -> dict[str, bool]:
    """Write the reference's pages, and register what Sphinx has no setting for."""
    _reference.write_pages(HERE / "site" / "api")
    app.connect("autodoc-skip-member", leave_out)
    app.connect("env-check-consistency", _reference.add_other_names)
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
