"""The plot of a study draws the figures of its table, each with its Monte-Carlo interval."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from causal_lm_opt import IPW, plots
from causal_lm_opt.simulation import GaussianDesign, run_study

FIGURES = ("coverage", "bias", "sd", "rmse", "se_over_sd", "width")
Z = 1.959963984540054


def table(designs: tuple[str, ...], sizes: tuple[int, ...], **columns: Any) -> pd.DataFrame:
    rows = [
        {"design": d, "n": n, "estimator": e, "coverage": 0.9 + 0.01 * k, "bias": 0.1 * k}
        for d in designs for n in sizes for k, e in enumerate(("A", "B"))
    ]  # fmt: skip
    frame = pd.DataFrame(rows).assign(coverage_mc_se=0.01, bias_mc_se=0.02)
    return frame.assign(**columns)


def drawn(frame: pd.DataFrame, **arguments: Any) -> Axes:
    ax = plots.plot_study(frame, ax=plots.new_axes(), **arguments)
    ax.figure.canvas.draw()
    return ax


def line(ax: Axes, gid: str) -> tuple[np.ndarray, np.ndarray]:
    (found,) = [x for x in ax.lines if x.get_gid() == gid]
    x, y = found.get_data()
    return np.asarray(x, dtype=float), np.asarray(y, dtype=float)


def test_numbers_at_the_end_of_names_are_the_axis() -> None:
    ax = drawn(table(("strength 2", "strength 0", "strength 0.5"), (500,)), y="bias")
    assert ax.get_xlabel() == "strength"
    assert ax.get_xticks().tolist() == [0.0, 0.5, 2.0]
    x, y = line(ax, "series-1")
    np.testing.assert_allclose(x, [0.0, 0.5, 2.0], atol=0.1)
    np.testing.assert_allclose(y, 0.1)
    _, ends = line(ax, "series-1-error-2")
    np.testing.assert_allclose(ends, [0.1 - Z * 0.02, 0.1 + Z * 0.02])


@pytest.mark.parametrize(
    "names",
    [("q wrong", "q right"), ("shift 1", "drift 2"), ("shift 1", "shift 1.0"), ("shift 1", "none")],
)
def test_other_names_are_categories(names: tuple[str, str]) -> None:
    ax = drawn(table(names, (500,)))
    assert [t.get_text().replace("\n", " ") for t in ax.get_xticklabels()] == list(names)


def test_sizes_are_numbers_and_far_apart_logarithmic() -> None:
    ax = drawn(table(("one",), (250, 1000, 4000)))
    assert (ax.get_xlabel(), ax.get_xscale()) == ("rows", "log")
    assert [t.get_text() for t in ax.get_xticklabels()] == ["250", "1,000", "4,000"]
    assert drawn(table(("one",), (500, 1000))).get_xscale() == "linear"


def test_coverage_has_its_line_and_a_floor() -> None:
    frame = table(("a", "b"), (500,))
    frame.loc[(frame["estimator"] == "A") & (frame["design"] == "b"), "coverage"] = 0.31
    ax = drawn(frame)
    assert line(ax, "wanted")[1].tolist() == [0.95, 0.95]
    y = line(ax, "series-0")[1]
    assert y[0] == 0.9
    assert math.isnan(y[1])
    assert [t.get_text() for t in ax.texts] == ["31%"]
    assert line(ax, "series-0-below-1")[1].tolist() == [0.7]
    assert "below 70% as written" in ax.get_title("left")


@pytest.mark.parametrize(("count", "crowded"), [(3, False), (7, True)])
def test_figures_at_the_floor_do_not_lie_on_one_another(count: int, crowded: bool) -> None:
    frame = pd.DataFrame([
        {"design": f"shift {s}", "n": n, "estimator": f"E{k}", "coverage": 0.05 * k + 0.1}
        for s in (0.1, 0.2, 0.3, 0.4, 0.6) for n in (200, 800)[: 1 + crowded] for k in range(count)
    ]).assign(coverage_mc_se=0.01)  # fmt: skip
    ax = drawn(frame)
    boxes = [t.get_window_extent() for t in ax.texts if t.get_visible() and "%" in t.get_text()]
    apart = [a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i]]
    assert len(boxes) >= 15
    assert not any(apart)
    assert max(b.y1 for b in boxes) < ax.get_window_extent().y1
    assert ("see the table" in ax.get_title("left")) == crowded
    assert (len(boxes) < len(frame)) == crowded


def test_an_estimator_all_below_the_floor_is_marks_alone() -> None:
    frame = pd.DataFrame({"design": ["a 1", "a 2"], "n": 5, "estimator": "E"})
    ax = drawn(frame.assign(coverage=[0.5, 0.6], coverage_mc_se=0.01))
    assert np.isnan(line(ax, "series-0")[1]).all()
    assert sorted(t.get_text() for t in ax.texts) == ["50%", "60%"]
    assert ax.get_ylim()[0] == pytest.approx(0.7)


def test_intervals_of_coverage_stay_within_shares() -> None:
    ax = drawn(table(("a", "b"), (500,), coverage=0.999))
    assert line(ax, "series-0-error-0")[1].max() == 1.0


def test_two_settings_are_hollow_and_full_and_three_are_refused() -> None:
    ax = drawn(table(("a", "b"), (500, 2000)))
    first, last = (
        next(x for x in ax.lines if x.get_gid() == f"series-0-{j}").get_markerfacecolor()
        for j in (0, 1)
    )
    assert first == "none" != last
    assert ax.get_legend() is not None
    words = [t.get_text() for t in ax.get_legend().get_texts()]  # type: ignore[union-attr]
    assert words == ["A", "B", "n = 500", "n = 2,000"]
    with pytest.raises(ValueError, match="3 settings of 'n'"):
        drawn(table(("a", "b"), (1, 2, 3)))
    drawn(table(("a", "b"), (1, 2, 3)), x="n")


def test_an_estimator_without_interval_is_named() -> None:
    frame = table(("a", "b"), (500,))
    frame.loc[frame["estimator"] == "B", "coverage"] = np.nan
    ax = drawn(frame)
    assert "without coverage of the interval: B" in ax.get_title("left")
    assert not [x for x in ax.lines if str(x.get_gid()).startswith("series-1")]
    with pytest.raises(ValueError, match="no finite 'coverage'"):
        drawn(frame[frame["estimator"] == "B"])


def test_an_estimator_looks_the_same_whatever_is_drawn() -> None:
    frame = table(("a", "b"), (500,))
    frame.loc[frame["estimator"] == "A", "coverage"] = np.nan
    looks = []
    for y in ("bias", "coverage"):
        (found,) = [x for x in drawn(frame, y=y).lines if x.get_gid() == "series-1"]
        looks.append((found.get_color(), found.get_marker()))
    assert looks[0] == looks[1]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("y", FIGURES)
def test_every_figure_of_a_study_draws(theme: Any, y: Any) -> None:
    result = run_study(
        {f"shift {s}": GaussianDesign(shift=s) for s in (0.1, 0.4)}, {"H": IPW(), "HT": IPW("ht")},
        sizes=[50], replications=6, level=0.9, progress=False,
    )  # fmt: skip
    ax = result.plot(y, theme=theme, ax=plots.new_axes())
    shown = result.summary[result.summary["estimator"] == "H"]
    values = line(ax, "series-0")[1]
    above = ~np.isnan(values)
    assert y == "coverage" or above.all()
    np.testing.assert_allclose(values[above], shown[y].to_numpy()[above])
    if y == "coverage":
        assert line(ax, "wanted")[1].tolist() == [0.9, 0.9]  # the study's level
    svg = plots.to_svg(ax.figure, key="s", title="Study")  # type: ignore[arg-type]
    assert svg == plots.to_svg(ax.figure, key="s", title="Study")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"y": "value"}, ValueError, "y='value' is not known"),
        ({"x": "estimator"}, ValueError, "x='estimator'"),
        ({"y": "rmse"}, ValueError, "no column 'rmse'"),
        ({"level": 95}, ValueError, "level"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], error: Any, said: str) -> None:
    with pytest.raises(error, match=said):
        drawn(table(("a", "b"), (500,)), **arguments)


def test_wrong_tables_are_named() -> None:
    good = table(("a", "b"), (500,))
    with pytest.raises(TypeError, match="StudyResult or its table"):
        plots.plot_study(3)
    with pytest.raises(ValueError, match="no rows"):
        plots.plot_study(good.iloc[:0])
    with pytest.raises(ValueError, match="occurs twice"):
        plots.plot_study(pd.concat([good, good]))
