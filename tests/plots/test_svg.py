"""SVGs for a page: well-formed, silent, deterministic, and no prey to names."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from xml.etree import ElementTree

import pandas as pd
import pytest
from matplotlib.figure import Figure

from causal_lm_opt import ValueEstimate, plots
from causal_lm_opt.plots._compact import compact

NS = "{http://www.w3.org/2000/svg}"
HOSTILE = [
    '<script>alert("x")</script>',
    "]]><svg onload=alert(1)>",
    '" onmouseover="alert(1)',
    "#0072b2; fill: #1b1f24",
    "$\\frac{1}{2}$",
    "url(#a) &amp; \x07\x0b",
    "政策 مرحبا",
]


def forest() -> Figure:
    table = pd.DataFrame(
        {
            "policy": HOSTILE,
            "estimator": ["DR", "Hajek", "DR", "DR", "DR", "DR", "<b>"],
            "value": 1.0,
            "ci_lower": 0.0,
            "ci_upper": float("inf"),
            "verdict": "caution",
            "truth": 0.5,
        }
    )
    return plots.forest_plot(table, unit=HOSTILE[0], ax=plots.new_axes(5.0)).figure  # type: ignore[return-value]


def test_hostile_names_are_text_and_nothing_else() -> None:
    svg = plots.to_svg(forest(), key="f1", title=HOSTILE[0], description=HOSTILE[1])
    root = ElementTree.fromstring(svg)
    kinds = {element.tag.removeprefix(NS) for element in root.iter()}
    assert kinds <= {"svg", "g", "path", "text", "title", "desc", "defs", "clipPath", "rect", "use",
                     "pattern"}  # fmt: skip
    assert "<script" not in svg
    attributes = {name for element in root.iter() for name in element.attrib}
    assert not [a for a in attributes if a.lower().startswith("on")]
    references = re.findall(r'(?:href="|url\()([^")]*)', svg.split("<desc", 1)[0])
    assert all(r.startswith("#f1-") for r in references)
    texts = [e.text for e in root.iter(f"{NS}text")]
    assert HOSTILE[0] in texts
    assert "#0072b2; fill: #1b1f24" in texts  # a name's colours are not the palette's
    assert HOSTILE[4] in texts


def test_nothing_comes_from_outside() -> None:
    svg = plots.to_svg(forest(), key="f1", title="t")
    hosts = set(re.findall(r"https?://[^\s\"'<]+", svg))
    assert hosts == {"http://www.w3.org/2000/svg"}
    assert "<style" not in svg
    assert "<metadata" not in svg
    assert "<image" not in svg


def test_the_same_figure_gives_the_same_bytes() -> None:
    assert plots.to_svg(forest(), key="f1", title="t") == plots.to_svg(
        forest(), key="f1", title="t"
    )


def test_plots_of_one_page_share_no_id() -> None:
    ids = []
    for key in ("a", "b"):
        ax = plots.overlap_plot([0.0, 1.0], [0.5, 3.0], ax=plots.new_axes())
        root = ElementTree.fromstring(plots.to_svg(ax.figure, key=key, title="t"))  # type: ignore[arg-type]
        found = [e.get("id") for e in root.iter() if e.get("id")]
        assert len(found) == len(set(found))
        assert all(str(i).startswith(f"{key}-") for i in found)
        ids.append(set(found))
        targets = {str(u.get("href"))[1:] for u in root.iter(f"{NS}use")}
        assert targets <= set(found)
    assert not ids[0] & ids[1]


def test_it_is_named_for_those_who_cannot_see_it() -> None:
    svg = plots.to_svg(forest(), key="f1", title="Values & intervals", description="A < B")
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    named = {e.get("id"): e.text for e in root.iter() if e.get("id")}
    assert [named[i] for i in str(root.get("aria-labelledby")).split()] == [
        "Values & intervals",
        "A < B",
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_colour_is_a_property_of_the_page(
    theme: str, estimates: dict[str, ValueEstimate]
) -> None:
    ax = plots.forest_plot(estimates, theme=theme, ax=plots.new_axes())
    svg = plots.to_svg(ax.figure, key="f", title="t")  # type: ignore[arg-type]
    palette = vars(plots.themed(theme))
    assert f"var(--ink, {palette['ink']})" in svg
    assert f"var(--ok, {palette['ok']})" in svg
    bare = set(re.findall(r"(?<!, )#[0-9a-f]{6}\b", svg))
    assert bare <= {"#000000", "#ffffff"}  # clip paths and the like: never painted
    assert "var(--plot-font" in svg


def test_marks_carry_their_figures(estimates: dict[str, ValueEstimate]) -> None:
    ax = estimates["DR"].plot(ax=plots.new_axes())
    root = ElementTree.fromstring(plots.to_svg(ax.figure, key="f", title="t"))  # type: ignore[arg-type]
    (mark,) = [g for g in root.iter(f"{NS}g") if g.get("id") == "f-estimate-0"]
    value, (low, high) = estimates["DR"].values[0], estimates["DR"].confint()[0]
    assert mark[0].text == (
        f"a, {estimates['DR'].estimator}: {value:.4g} ({low:.4g} to {high:.4g}), trustworthy"
    )


@pytest.mark.filterwarnings("ignore:Glyph:UserWarning")  # the raster has no CJK font
def test_a_figure_of_the_callers_is_not_changed() -> None:
    figure = forest()
    before, after = io.BytesIO(), io.BytesIO()
    figure.savefig(before, format="raw", dpi=50)
    plots.to_svg(figure, key="f", title="t")
    figure.savefig(after, format="raw", dpi=50)
    assert before.getvalue() == after.getvalue()


def test_bad_keys_and_titles_are_refused() -> None:
    figure = plots.new_axes().figure
    for key in ("", "1a", "a b", 'a"', "é"):
        with pytest.raises(ValueError, match="key="):
            plots.to_svg(figure, key=key, title="t")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="title is empty"):
        plots.to_svg(figure, key="a", title=" ")  # type: ignore[arg-type]


def test_estimating_does_not_load_matplotlib() -> None:
    code = (
        "import sys, numpy as np\n"
        "from causal_lm_opt import IPW\n"
        "r = IPW().fit(np.zeros((4, 1)), [1., 2., 3., 6.]).result_\n"
        "repr(r), r.summary()\n"
        "print('matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_nothing_is_written_that_is_not_seen() -> None:
    """Plots of a page are many: no blanks, no ids that nothing names, two decimals."""
    ax = plots.love_plot(
        pd.DataFrame(
            {"feature": [f"f{k}" for k in range(20)], "smd_unweighted": 0.3, "smd_weighted": 0.1,
             "se_weighted": 0.02}
        ),
        ax=plots.new_axes(plots.love_height(20)),
    )  # fmt: skip
    svg = plots.to_svg(ax.figure, key="f", title="t")  # type: ignore[arg-type]
    assert len(svg) < 22_000
    assert ">\n" not in svg
    assert not re.search(r"\d\.\d{3,}", svg.split(">", 1)[1])
    assert "text_1" not in svg
    assert 'id="f-after-19"' in svg  # the plot's own marks keep their names


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("<svg><g><g id='a'/></g></svg>", "<svg />"),
        ("<svg><path style='fill: none'/></svg>", "<svg />"),
        (
            "<svg><path id='k' style='fill: none'/></svg>",
            '<svg><path id="k" style="fill:none" /></svg>',
        ),
        ("<svg><text x='0.126'> a <!--b--></text> </svg>", '<svg><text x="0.13"> a </text></svg>'),
        (
            "<svg><path id='m' d='M 0 -0.001 L 1e-05 2'/><use href='#m'/></svg>",
            '<svg><path id="m" d="M0 0L1e-05 2" /><use href="#m" /></svg>',
        ),
        ("<svg><text transform='rotate(-0 1 2)'>a</text></svg>", "<svg><text>a</text></svg>"),
        (
            "<svg><text transform='rotate(-90 1.2345 2)'>a</text></svg>",
            '<svg><text transform="rotate(-90 1.23 2)">a</text></svg>',
        ),
    ],
)
def test_compacting_leaves_what_is_seen(given: str, said: str) -> None:
    root = ElementTree.fromstring(given)
    compact(root, {"k"})
    assert ElementTree.tostring(root, encoding="unicode") == said
