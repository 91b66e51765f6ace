"""The palette is measured: contrast with the page, and distance for colour-blind readers."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from causal_lm_opt import plots
from causal_lm_opt.plots._theme import percent_text, shown_text

# Complete dichromacy in linear RGB: Machado, Oliveira and Fernandes (2009), table of severity 1.
VISION = {
    "normal": np.eye(3),
    "protan": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
         [-0.003882, -0.048116, 1.051998]]
    ),
    "deutan": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
         [-0.011820, 0.042940, 0.968881]]
    ),
    "tritan": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
         [0.004733, 0.691367, 0.303900]]
    ),
}  # fmt: skip
# Linear RGB to OKLab (Ottosson 2020).
CONE = np.array(
    [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
     [0.0883024619, 0.2817188376, 0.6299787005]]
)  # fmt: skip
LAB = np.array(
    [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
     [0.0259040371, 0.7827717662, -0.8086757660]]
)  # fmt: skip
PAGES = {"light": ("#ffffff", "#f5f7f9"), "dark": ("#15181c", "#1e2329")}


def linear(colour: str) -> np.ndarray:
    c = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def contrast(a: str, b: str) -> float:
    """WCAG 2 contrast ratio."""
    low, high = sorted(float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (a, b))
    return (high + 0.05) / (low + 0.05)


def distance(a: str, b: str, vision: np.ndarray) -> float:
    seen = [LAB @ np.cbrt(CONE @ np.clip(vision @ linear(c), 0, 1)) for c in (a, b)]
    return float(np.linalg.norm(seen[0] - seen[1]))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_ink_stands_out_from_the_page(theme: str) -> None:
    inks = {role: c for role, c in vars(plots.themed(theme)).items() if role != "line"}
    assert min(contrast(c, page) for c in inks.values() for page in PAGES[theme]) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("vision", list(VISION))
def test_verdicts_and_series_differ_for_colour_blind_readers(theme: str, vision: str) -> None:
    p = plots.themed(theme)
    pairs = [*combinations((p.ok, p.careful, p.no), 2), (p.first, p.second)]
    assert min(distance(a, b, VISION[vision]) for a, b in pairs) >= 0.15


def test_the_measure_sees_a_bad_palette() -> None:
    assert distance("#d62728", "#2ca02c", VISION["deutan"]) < 0.15  # red against green


def test_every_role_has_a_colour_of_its_own() -> None:
    # An SVG tells roles apart by their colour.
    for palette in (plots.LIGHT, plots.DARK):
        assert len(set(vars(palette).values())) == len(vars(palette))
    assert len(set(plots.MARKERS.values())) == 3


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("a\r\n b\u2028c", "a b c"),
        ("\u202e\u2066x\u200d\ufeff", "x"),
        ("\ud800x", "x"),
        (3, "3"),
        ("\x00", "(no name)"),
        ("é 政策 😀", "é 政策 😀"),
    ],
)
def test_texts_are_shown_on_one_line(text: object, shown: str) -> None:
    assert shown_text(text) == shown


@pytest.mark.parametrize("length", [3, 10, 22, 60])
def test_long_texts_keep_both_ends(length: int) -> None:
    shown = shown_text("abcdefghij" * 20, length)
    assert len(shown) == length
    assert shown.startswith("a")
    assert "…" in shown


def test_wide_letters_take_more_room() -> None:
    assert len(shown_text("W" * 60, 22)) < len(shown_text("a" * 60, 22)) == 22
    assert shown_text("日本語の方針", 10) == "日本語…針"
    assert shown_text("日本語の方針", 11) == "日本語の方針"[:6]


def test_shares_in_words() -> None:
    assert [percent_text(s) for s in (1.0, 0.9999, 0.5, 0.0049)] == [
        "100%", "99.99%", "50%", "0.49%",
    ]  # fmt: skip


def test_a_grid_of_axes() -> None:
    figure, axes = plots.new_grid(2, 3, height=4.0, width=6.0, sharex=True)
    assert [len(row) for row in axes] == [3, 3]
    assert figure.get_size_inches().tolist() == [6.0, 4.0]
