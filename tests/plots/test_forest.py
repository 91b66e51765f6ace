"""The forest plot carries the estimates' own numbers, and says what it cannot show."""

from __future__ import annotations

import math
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from causal_lm_opt import ValueEstimate, plots

HOSTILE = [
    "<script>alert(1)</script>",
    "$x^2$",
    "_hidden & 100%",
    "two\nlines\ttab",
    "\u202eevil\u200b name\x00",
    "مرحبا بالعالم",
    "\\textbf{x}",
    "",
    "long " * 40,
]


def line(ax: Axes, gid: str) -> np.ndarray:
    (found,) = [item for item in ax.lines if item.get_gid() == gid]
    return np.asarray(found.get_xdata(), dtype=float)


def gids(ax: Axes) -> set[str]:
    return {str(item.get_gid()) for item in ax.lines}


def rows(**changes: Any) -> pd.DataFrame:
    """Two policies of one estimator; ``changes`` replace columns."""
    columns: dict[str, Any] = {
        "policy": ["p", "q"],
        "estimator": "DR",
        "value": [1.0, 2.0],
        "ci_lower": [0.0, 1.0],
        "ci_upper": [2.0, 3.0],
        "verdict": ["trustworthy", "caution"],
    }
    return pd.DataFrame(columns | changes)


def test_whiskers_end_where_the_interval_does(estimates: dict[str, ValueEstimate]) -> None:
    ax = plots.forest_plot(estimates, level=0.9, ax=plots.new_axes())
    # Rows go policy by policy: a by Hajek, a by DR, b by Hajek, b by DR.
    k = 0
    for policy in range(2):
        for estimate in estimates.values():
            np.testing.assert_allclose(line(ax, f"interval-{k}"), estimate.confint(0.9)[policy])
            assert line(ax, f"estimate-{k}") == pytest.approx(estimate.values[policy])
            k += 1
    assert "90% interval" in [t.get_text() for t in ax.get_legend().get_texts()]


def test_bands_truth_and_reference_are_drawn(estimates: dict[str, ValueEstimate]) -> None:
    hajek = estimates["Hajek"]
    ax = hajek.plot(bands=True, truth={"b": 53.0}, reference=55.0, unit="points",
                    ax=plots.new_axes())  # fmt: skip
    bands = hajek.compare().bands
    np.testing.assert_allclose(line(ax, "band-0"), bands[0])
    np.testing.assert_allclose(line(ax, "band-1"), bands[1])
    assert line(ax, "truth-1") == 53.0
    assert "truth-0" not in gids(ax)
    (reference,) = [c for c in ax.collections if c.get_gid() == "reference"]
    assert all((s[:, 0] == 55.0).all() for s in reference.get_segments())
    assert ax.get_xlabel() == "mean of points"
    said = [t.get_text() for t in ax.get_legend().get_texts()]
    assert said == ["trustworthy", "95% interval", "95%, all jointly", "truth", "logging mean"]


def test_a_comparison_draws_contrasts_against_no_difference(
    estimates: dict[str, ValueEstimate],
) -> None:
    found = estimates["DR"].compare()
    ax = found.plot(unit="points", ax=plots.new_axes())
    np.testing.assert_allclose(line(ax, "interval-0"), found.contrasts.confint(0.95)[0])
    np.testing.assert_allclose(line(ax, "band-0"), found.contrast_bands[0])
    assert ax.get_xlabel() == "difference of mean points"
    assert [t.get_text() for t in ax.get_yticklabels()] == ["b - a"]


def test_verdicts_differ_by_marker_and_colour() -> None:
    levels = ["trustworthy", "caution", "do not use"]
    table = pd.concat([rows(verdict=v, policy=[v, v + "2"]) for v in levels])
    ax = plots.forest_plot(table, ax=plots.new_axes())
    points = [x for x in ax.lines if str(x.get_gid()).startswith("estimate")]
    assert len({p.get_marker() for p in points}) == 3
    assert len({p.get_color() for p in points}) == 3


def test_an_interval_without_end_gets_an_arrow() -> None:
    table = rows(ci_upper=[2.0, math.inf], ci_lower=[-math.inf, 1.0])
    ax = plots.forest_plot(table, ax=plots.new_axes())
    low, high = ax.get_xlim()
    assert line(ax, "interval-0").tolist() == [low, 2.0]
    assert line(ax, "interval-1").tolist() == [1.0, high]
    assert {"interval-0-cut-0", "interval-1-cut-1"} <= gids(ax)
    assert not {"interval-0-cut-1", "interval-1-cut-0"} & gids(ax)


def test_what_is_not_fit_for_use_does_not_set_the_axis() -> None:
    table = rows(verdict=["caution", "do not use"], value=[1.0, 900.0], ci_lower=[0.0, 800.0],
                 ci_upper=[2.0, 1000.0])  # fmt: skip
    ax = plots.forest_plot(table, ax=plots.new_axes())
    assert ax.get_xlim()[1] < 3.0
    assert "interval-1" not in gids(ax)
    assert "900" in [t.get_text() for t in ax.texts]


def test_one_value_and_no_width_still_draw() -> None:
    table = rows(value=0.0, ci_lower=0.0, ci_upper=0.0)
    low, high = plots.forest_plot(table, ax=plots.new_axes()).get_xlim()
    assert low < 0.0 < high


def test_names_from_data_are_neither_mathematics_nor_markup() -> None:
    n = len(HOSTILE)
    table = pd.concat([rows(policy=name, estimator=["$e_1$", "DR"]) for name in HOSTILE])
    ax = plots.forest_plot(table, unit="$\\frac{", ax=plots.new_axes(9.0))
    texts = [*ax.texts, *ax.get_yticklabels(), ax.xaxis.label]
    assert len(texts) == n + 2 * n + 1
    assert not any(t.get_parse_math() or t.get_usetex() for t in texts)
    shown = [t.get_text() for t in ax.texts]
    assert shown[0] == "<script>alert(1)</script>"
    assert shown[3] == "two lines tab"
    assert shown[4] == "evil name"
    assert shown[7] == "(no name)"
    assert len(shown[8]) <= 40
    ax.figure.canvas.draw()


def test_short_names_of_one_estimator_stand_beside_their_rows() -> None:
    beside = plots.forest_plot(rows(), ax=plots.new_axes())
    assert [t.get_text() for t in beside.get_yticklabels()] == ["p", "q"]
    above = plots.forest_plot(rows(policy=["p", "a name of thirty-one characters"]),
                              ax=plots.new_axes())  # fmt: skip
    assert [t.get_text() for t in above.texts] == ["p", "a name of thirty-one characters"]
    assert [t.get_text() for t in above.get_yticklabels()] == ["", ""]
    assert plots.forest_height(rows()) < plots.forest_height(rows(estimator=["HT", "DR"]))


def test_without_axes_a_pyplot_figure_is_made(estimates: dict[str, ValueEstimate]) -> None:
    ax = estimates["DR"].plot()
    assert ax.figure in [plt.figure(k) for k in plt.get_fignums()]
    assert ax.figure.get_figheight() == pytest.approx(plots.forest_height(estimates["DR"]))


def test_dark_ink_is_light(estimates: dict[str, ValueEstimate]) -> None:
    ax = estimates["DR"].plot(theme="dark", ax=plots.new_axes())
    assert ax.xaxis.label.get_color() == plots.DARK.ink
    assert ax.patch.get_alpha() == 0.0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"value": [1.0, math.nan]}, "Column 'value' has 1 NaN"),
        ({"value": [1.0, math.inf]}, "Column 'value' has 1 NaN or infinite"),
        ({"ci_lower": [0.0, math.nan]}, "Column 'ci_lower' has 1 NaN"),
        ({"ci_lower": [5.0, 0.0]}, "Row 0: the interval's lower end"),
        ({"verdict": "splendid"}, "Unknown verdicts"),
        ({"value": "x"}, "must hold numbers"),
    ],
)
def test_bad_tables_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        plots.forest_plot(rows(**changes), ax=plots.new_axes())


def test_bad_arguments_are_refused(estimates: dict[str, ValueEstimate]) -> None:
    ax = plots.new_axes()
    with pytest.raises(ValueError, match="no column 'policy'"):
        plots.forest_plot(rows().drop(columns="policy"), ax=ax)
    with pytest.raises(ValueError, match="no estimate"):
        plots.forest_plot({}, ax=ax)
    with pytest.raises(ValueError, match="theme='sepia'"):
        plots.forest_plot(rows(), theme="sepia", ax=ax)
    with pytest.raises(ValueError, match="reference must be"):
        plots.forest_plot(rows(), reference=math.nan, ax=ax)
    with pytest.raises(ValueError, match="truth\\['a'\\]"):
        plots.forest_plot(estimates, truth={"a": math.inf}, ax=ax)
    with pytest.raises(ValueError, match="give a mapping"):
        plots.forest_plot(estimates, bands=np.zeros((2, 2)), ax=ax)
    with pytest.raises(ValueError, match="bands of 'DR'"):
        plots.forest_plot(estimates, bands={"DR": np.zeros((3, 2))}, ax=ax)
    with pytest.raises(ValueError, match="a table carries its own"):
        plots.forest_plot(rows(), bands=np.zeros((2, 2)), ax=ax)
    with pytest.raises(TypeError, match="must be a ValueEstimate"):
        plots.forest_plot({"x": 3}, ax=ax)  # type: ignore[dict-item]
