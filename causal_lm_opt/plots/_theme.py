"""Ink, palette, text and axes that every plot shares."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

import matplotlib.ticker as mticker
import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

__all__ = [
    "DARK",
    "Axes",
    "DATA_TEXT",
    "LIGHT",
    "MARKERS",
    "SMALL",
    "TIPS",
    "ThemeName",
    "Theme",
    "dress",
    "finite_column",
    "legend_below",
    "new_axes",
    "new_grid",
    "note_above",
    "open_axes",
    "percent_axis",
    "percent_text",
    "plain_numbers",
    "shown_text",
    "themed",
]

ThemeName = Literal["light", "dark"]
FloatArray = npt.NDArray[np.float64]

WIDTH = 4.4  # inches: at 300 px a 9 pt letter is still 8.5 px high
TEXT, SMALL = 10.0, 9.0  # points
#: Letters that take the room of more than one, in average letters.
WIDE = dict.fromkeys("W@%", 1.6) | dict.fromkeys("Mmw", 1.4)
#: How texts from data are drawn: as they are, neither as mathematics nor as TeX.
DATA_TEXT: dict[str, Any] = {"parse_math": False, "usetex": False}
#: Words shown when the pointer rests on a mark of an SVG.
TIPS: WeakKeyDictionary[Artist, str] = WeakKeyDictionary()


@dataclass(frozen=True)
class Theme:
    """Colours by role, as ``#rrggbb``; all roles differ, so that an SVG can name them.

    Contrast with a white (dark: ``#15181c``) page is at least 4.5:1 except for ``line``; verdict
    colours differ by at least .15 in OKLab for normal, protan, deutan and tritan vision.

    Attributes
    ----------
    ink, soft, line : str
        Text and marks; secondary text and axes; grid.
    ok, careful, no : str
        The verdicts ``trustworthy``, ``caution``, ``do not use``.
    first, second : str
        Series: logged rows, and the target's draws.
    """

    ink: str
    soft: str
    line: str
    ok: str
    careful: str
    no: str
    first: str
    second: str

    def verdict(self, level: str) -> str:
        """Colour of a verdict."""
        return {"trustworthy": self.ok, "caution": self.careful, "do not use": self.no}[level]


#: Dark ink, for light paper.
LIGHT = Theme(
    ink="#1b1f24", soft="#57606a", line="#d5dae0",
    ok="#0072b2", careful="#b25800", no="#7a1230", first="#2f6f9f", second="#b0530a",
)  # fmt: skip
#: Light ink, for dark paper.
DARK = Theme(
    ink="#e8eaed", soft="#a5adb8", line="#3a414a",
    ok="#56b4e9", careful="#f5d04e", no="#f2704f", first="#6fb7e0", second="#f2a65a",
)  # fmt: skip
#: Marker of each verdict.
MARKERS = {"trustworthy": "o", "caution": "D", "do not use": "X"}


def themed(theme: str) -> Theme:
    """The theme of a name.

    Raises
    ------
    ValueError
        For a name other than ``"light"`` and ``"dark"``.

    Examples
    --------
    >>> themed('light') is LIGHT
    True
    """
    if theme not in ("light", "dark"):
        raise ValueError(f"theme={theme!r} is not known; use 'light' or 'dark'.")
    return LIGHT if theme == "light" else DARK


# ------------------------------------------------------------------------------ axes
def new_axes(height: float = 3.6, *, width: float = WIDTH) -> Axes:
    """Axes of a new figure that pyplot does not know: nothing to close, no window.

    Parameters
    ----------
    height, width : float
        Inches. The default width stays legible at 300 px.

    Examples
    --------
    >>> new_axes(2.0, width=3.0).figure.get_size_inches().tolist()
    [3.0, 2.0]
    """
    return Figure(figsize=(width, height), layout="constrained").subplots()


def new_grid(
    rows: int,
    columns: int,
    *,
    height: float,
    width: float,
    sharex: bool = False,
    sharey: bool = False,
    theme: str = "light",
) -> tuple[Figure, list[list[Axes]]]:
    """A figure that pyplot does not know, with dressed axes ``[row][column]``; sizes in inches.

    Examples
    --------
    >>> figure, axes = new_grid(1, 2, height=2.0, width=5.0)
    >>> len(axes), len(axes[0])
    (1, 2)
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=sharex, sharey=sharey, squeeze=False)
    for ax in axes.flat:
        dress(ax, themed(theme))
    return figure, [list(row) for row in axes]


def open_axes(ax: Axes | None, height: float, theme: str) -> tuple[Axes, Theme]:
    """The caller's axes, or those of a new pyplot figure, dressed in the theme."""
    palette = themed(theme)
    if ax is None:
        import matplotlib.pyplot as plt

        figure, ax = plt.subplots(figsize=(WIDTH, height), layout="constrained")
        figure.patch.set_alpha(0.0)
    dress(ax, palette)
    return ax, palette


def dress(ax: Axes, palette: Theme, *, grid: Literal["x", "y", "both"] = "both") -> None:
    """Colours, text sizes, spines and grid of one axes; nothing outside it changes."""
    ax.patch.set_alpha(0.0)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(palette.soft)
    ax.tick_params(which="both", color=palette.soft, labelcolor=palette.ink, labelsize=SMALL)
    for axis in (ax.xaxis, ax.yaxis):
        axis.label.set(color=palette.ink, size=TEXT)
    ax.grid(False)
    ax.grid(True, axis=grid, color=palette.line, linewidth=0.7)
    ax.set_axisbelow(True)


def plain_numbers(axis: Any, *, wanted: int = 6) -> None:
    """Few round ticks, written without offset or mathematics."""
    axis.set_major_locator(mticker.MaxNLocator(wanted, steps=[1, 2, 2.5, 5, 10]))
    formatter = mticker.ScalarFormatter(useOffset=False, useMathText=False)
    formatter.set_powerlimits((-4, 6))
    axis.set_major_formatter(formatter)


def percent_axis(axis: Any, *, log: bool = False) -> None:
    """Ticks of shares written as per cent."""
    if log:
        axis.set_major_locator(mticker.LogLocator(numticks=6))
        axis.set_minor_formatter(mticker.NullFormatter())
    else:
        axis.set_major_locator(mticker.MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(mticker.FuncFormatter(lambda x, _: f"{100 * x:.4g}%"))


def percent_text(share: float) -> str:
    """A share in words.

    Examples
    --------
    >>> percent_text(0.41234), percent_text(0.0123), percent_text(0.00002), percent_text(0.0)
    ('41%', '1.2%', 'below 0.01%', '0%')
    """
    if 0.0 < share < 1e-4:
        return "below 0.01%"
    return f"{100 * share:.2g}%" if share < 0.995 else f"{100 * share:.4g}%"


def note_above(ax: Axes, lines: Sequence[str], palette: Theme, *, pad: float = 6.0) -> None:
    """Lines of words and figures above the axes, ``pad`` points away (the axes' left title)."""
    ax.set_title(
        "\n".join(lines), loc="left", fontsize=SMALL, color=palette.ink, pad=pad, linespacing=1.3,
        **DATA_TEXT,
    )  # fmt: skip


def legend_below(
    ax: Axes,
    entries: Sequence[tuple[Any, str]],
    palette: Theme,
    *,
    side: Literal["left", "right"] = "left",
    columns: int = 2,
) -> None:
    """A legend under the axis label, flush with one side of the axes."""
    if not entries:
        return
    shift = ScaledTranslation(0.0, -44 / 72, ax.figure.dpi_scale_trans)
    legend = ax.legend(
        [handle for handle, _ in entries], [words for _, words in entries],
        loc="upper left" if side == "left" else "upper right",
        bbox_to_anchor=(0.0 if side == "left" else 1.0, 0.0),
        bbox_transform=ax.transAxes + shift,
        ncols=columns, frameon=False, fontsize=SMALL, labelcolor=palette.ink, borderpad=0.0,
        borderaxespad=0.0, handlelength=1.6, columnspacing=1.2, handletextpad=0.6,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set(**DATA_TEXT)


# ------------------------------------------------------------------------------ text
def shown_text(text: object, length: int = 60) -> str:
    r"""A text from data on one line, without control or direction marks, at most ``length`` long.

    Wide letters count as more than one. Long texts keep both ends, since names of models tend to
    differ at the end.

    Examples
    --------
    >>> shown_text("two\nlines"), shown_text("a-rather-long-name-7B", 12)
    ('two lines', 'a-rather…-7B')
    >>> shown_text("WWWWWWWWWWWW", 12)
    'WWWWW…W'
    """
    kept = "".join(
        " " if unicodedata.category(c) in ("Zl", "Zp") or c in "\t\n\r" else c
        for c in str(text)
        if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Cn") or c in "\t\n\r"
    )
    line = " ".join(kept.split()) or "(no name)"
    if _letters(line) <= length:
        return line
    tail = (length - 1) // 3
    return f"{_start(line, length - 1 - tail)}…{_start(line[::-1], tail)[::-1]}"


def _letters(text: str) -> float:
    """Width in average letters: a fullwidth character takes 1.7, a capital W 1.6."""
    return sum(1.7 if unicodedata.east_asian_width(c) in "WF" else WIDE.get(c, 1.0) for c in text)


def _start(text: str, length: int) -> str:
    """The first letters that fit."""
    end = 0
    while end < len(text) and _letters(text[: end + 1]) <= length:
        end += 1
    return text[:end]


# ------------------------------------------------------------------------------ numbers
def finite_column(table: Any, column: str, *, infinite: bool = False) -> FloatArray:
    """A column of a table as floats (n,), refused where it is missing or not a number.

    Parameters
    ----------
    infinite : bool
        Whether infinities are let by.
    """
    if column not in table.columns:
        raise ValueError(f"The table has no column {column!r}; it has {list(table.columns)}.")
    try:
        values = np.asarray(table[column], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"Column {column!r} must hold numbers: {error}.") from error
    bad = np.isnan(values) if infinite else ~np.isfinite(values)
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(
            f"Column {column!r} has {int(bad.sum())} NaN{'' if infinite else ' or infinite'} "
            f"entries, the first in row {row}; drop or mend these rows."
        )
    return values
