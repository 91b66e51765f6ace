"""Learning curves draw the history they are given, and set apart what is model-based."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from causal_lm_opt import plots


def history(**changes: Any) -> pd.DataFrame:
    value = np.array([44.0, 47.5, 52.0, np.nan])
    found: dict[str, Any] = {
        "step": [16, 32, 48, 64], "value": value, "lower": value - 1, "upper": value + 1.5,
        "start": [43.0, 43.1, 43.0, np.nan], "difference": value - 43,
        "difference_lower": value - 44, "difference_upper": value - 42,
        "ess": [0.9, 0.5, 0.04, 0.0], "model_based": [45.0, 49.0, 55.0, 62.0],
        "verdict": ["trustworthy", "caution", "do not use", "do not use"],
    }  # fmt: skip
    return pd.DataFrame(found | changes)


def line(ax: Any, gid: str) -> tuple[np.ndarray, np.ndarray]:
    (found,) = [x for x in ax.lines if x.get_gid() == gid]
    return np.asarray(found.get_xdata()), np.asarray(found.get_ydata())


def gids(ax: Any) -> set[str]:
    return {str(x.get_gid()) for x in ax.get_children() if x.get_gid()}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_curves_are_the_history(theme: Any) -> None:
    table = history()
    values, gaps, sizes = plots.training_plot(
        table, chosen=32, floor=0.05, unit="rating", theme=theme
    )
    for name, column in {"value": "value", "start": "start", "model-based": "model_based"}.items():
        x, y = line(values, name)
        assert x.tolist() == [16, 32, 48, 64]
        np.testing.assert_array_equal(y, table[column])
    np.testing.assert_array_equal(line(gaps, "difference")[1], table["difference"])
    assert line(gaps, "bar-1")[1].tolist() == [3.5, 5.5]
    assert "bar-3" not in gids(gaps)  # not valued
    np.testing.assert_array_equal(line(sizes, "ess")[1], table["ess"])
    assert line(sizes, "floor")[1].tolist() == [0.05, 0.05]
    assert line(gaps, "chosen")[0].tolist() == [32, 32]
    assert values.get_ylabel() == "rating"


def test_points_are_the_verdicts_shape_and_colour() -> None:
    values, gaps, _ = plots.training_plot(history())
    for name, ax in (("value", values), ("difference", gaps)):
        marks = [x for x in ax.lines if str(x.get_gid()).startswith(f"{name}-at-")]
        assert [m.get_marker() for m in marks] == ["o", "D", "X"]
        colours = [plots.LIGHT.ok, plots.LIGHT.careful, plots.LIGHT.no]
        assert [m.get_color() for m in marks] == colours


def test_the_model_based_mean_looks_and_is_called_different() -> None:
    values, _, sizes = plots.training_plot(history(), chosen=0)
    styles = {x.get_gid(): x for x in values.lines}
    based, value = styles["model-based"], styles["value"]
    assert based.get_markerfacecolor() == "none"
    assert based.get_linestyle() != value.get_linestyle()
    assert based.get_color() != value.get_color()
    said = [text.get_text() for text in sizes.get_legend().get_texts()]
    assert "model-based, no estimate" in said
    assert not [words for words in said if words.startswith("chosen")]
    assert "chosen" not in gids(values)


def test_an_evaluation_without_neighbours_has_a_bar_in_place_of_a_band() -> None:
    table = history(start_lower=42.5, start_upper=43.5)
    (one, _, _) = plots.training_plot(table.iloc[:1])
    x, y = line(one, "value-bar-0")
    assert (x.tolist(), y.tolist()) == ([16, 16], [43.0, 45.5])
    assert [part.tolist() for part in line(one, "start-bar-0")] == [[0, 0], [42.5, 43.5]]
    assert not any("-bar-" in gid for gid in gids(plots.training_plot(table)[0]))
    gap = table.assign(lower=[np.nan, 46.5, np.nan, np.nan])
    assert "value-bar-1" in gids(plots.training_plot(gap)[0])


def test_the_start_has_a_band_where_its_interval_is_known() -> None:
    plain = plots.training_plot(history())[0]
    banded = plots.training_plot(history(start_lower=42.5, start_upper=43.5))[0]
    assert "start-band" not in gids(plain)
    assert {"start-band", "value-band"} <= gids(banded)


def test_one_evaluation_and_none_usable_still_draw() -> None:
    for rows in (history().iloc[:1], history().iloc[3:]):
        drawn: list[Any] = [plots.training_plot(rows, floor=0.05)[0].figure for _ in range(2)]
        svg, again = (plots.to_svg(figure, key="t", title="Curves") for figure in drawn)
        assert svg == again
        assert "floor 5%" in svg


def test_axes_of_ones_own() -> None:
    _, grid = plots.new_grid(3, 1, height=5, width=4)
    own = (grid[0][0], grid[1][0], grid[2][0])
    assert plots.training_plot(history(), axes=own) == own


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda h: h.drop(columns="ess"), "no column 'ess'"),
        (lambda h: h.iloc[:0], "no rows"),
        (lambda h: pd.concat([h, h]), "twice"),
        (lambda h: h.assign(verdict="fine"), "Unknown verdict 'fine'"),
    ],
    ids=["column", "rows", "twice", "verdict"],
)
def test_a_history_that_makes_no_sense_is_refused(change: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        plots.training_plot(change(history()))
