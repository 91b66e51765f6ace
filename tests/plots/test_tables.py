"""Love, calibration and tilt plots carry their tables."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from causal_lm_opt import plots
from causal_lm_opt.diagnostics import balance, calibration_table, tilt_path

Z = 1.959963984540054


def data(ax: Axes, gid: str) -> tuple[np.ndarray, np.ndarray]:
    (found,) = [x for x in ax.lines if x.get_gid() == gid]
    x, y = found.get_data()
    return np.asarray(x, dtype=float), np.asarray(y, dtype=float)


def labels(ax: Axes) -> list[str]:
    return [t.get_text() for t in ax.get_yticklabels()]


# ------------------------------------------------------------------------------ balance
def differences(d: int = 4, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    logged, target = rng.normal(size=(300, d)), rng.normal(0.4, 1, size=(200, d))
    return balance(logged, target, 0.4 * logged[:, 0], names=[f"f{k}" for k in range(d)])


def test_love_points_and_whiskers_are_the_tables() -> None:
    table = differences()
    ax = plots.love_plot(table, ax=plots.new_axes())
    order = [int(name[1:]) for name in labels(ax)]
    size = table[["smd_unweighted", "smd_weighted"]].abs().max(axis=1)
    assert (np.diff(size.to_numpy()[order]) <= 0).all()
    for k, row in enumerate(table.iloc[order].itertuples()):
        assert data(ax, f"before-{k}")[0] == pytest.approx(row.smd_unweighted)
        assert data(ax, f"after-{k}")[0] == pytest.approx(row.smd_weighted)
        half = Z * row.se_weighted
        np.testing.assert_allclose(
            data(ax, f"interval-{k}")[0], [row.smd_weighted - half, row.smd_weighted + half]
        )


def test_love_names_how_many_features_it_leaves_out() -> None:
    ax = plots.love_plot(differences(40), ax=plots.new_axes(8.0))
    assert len(labels(ax)) == 30
    assert ax.get_title("left") == "10 better balanced features not shown"
    few = plots.love_plot(differences(40), n_features=2, ax=plots.new_axes())
    assert len(labels(few)) == 2


def test_an_infinite_difference_is_an_arrow_head() -> None:
    table = balance([[1.0, 0.0], [1.0, 1.0]], [[0.0, 0.0], [0.0, 1.0]], np.zeros(2))
    ax = plots.love_plot(table, ax=plots.new_axes())
    marks = {line.get_gid(): line.get_marker() for line in ax.lines}
    assert marks["before-0"] == ">"
    assert marks["before-1"] == "o"
    assert "interval-0" not in marks


def test_love_draws_hostile_names_as_they_are() -> None:
    table = differences(2).assign(feature=["$x_1^{", "<script>\n"])
    ax = plots.love_plot(table, ax=plots.new_axes())
    assert set(labels(ax)) == {"$x_1^{", "<script>"}
    ax.figure.canvas.draw()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"smd_weighted": math.nan}, "'smd_weighted' has 4 NaN"),
        ({"se_weighted": -1.0}, "negative standard error"),
    ],
)
def test_bad_balance_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        plots.love_plot(differences().assign(**change), ax=plots.new_axes())
    with pytest.raises(ValueError, match="n_features"):
        plots.love_plot(differences(), n_features=0, ax=plots.new_axes())
    with pytest.raises(ValueError, match="'feature'"):
        plots.love_plot(differences().head(0), ax=plots.new_axes())


# ------------------------------------------------------------------------------ calibration
def bins() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    q = rng.normal(size=400)
    return calibration_table(q + rng.normal(size=400), q, bins=5)


def test_calibration_points_intervals_and_ranges_are_the_tables() -> None:
    table = bins()
    ax = plots.calibration_plot(table, unit="points", ax=plots.new_axes())
    for k, row in enumerate(table.itertuples()):
        x, y = data(ax, f"bin-{k}")
        assert (x.item(), y.item()) == (row.mean_q, row.mean_y)
        np.testing.assert_allclose(
            data(ax, f"interval-{k}")[1], [row.mean_y - Z * row.se, row.mean_y + Z * row.se]
        )
        assert data(ax, f"range-{k}")[0].tolist() == [row.low, row.high]
    assert ax.get_xlim() == ax.get_ylim()
    x, y = data(ax, "diagonal")
    np.testing.assert_array_equal(x, y)
    assert ax.get_ylabel() == "mean outcome,\npoints"


def test_a_bin_of_one_unit_is_hollow_and_named() -> None:
    table = bins()
    table.loc[0, "se"] = math.nan
    ax = plots.calibration_plot(table, ax=plots.new_axes())
    assert "interval-0" not in {x.get_gid() for x in ax.lines}
    said = [t.get_text() for t in ax.get_legend().get_texts()]
    assert "one unit: no interval" in said


def test_bad_calibration_is_refused() -> None:
    for change, said in (
        ({"mean_y": math.inf}, "'mean_y' has 5 NaN or infinite"),
        ({"se": -1.0}, "negative or infinite"),
        ({"low": None}, "'low'"),
    ):
        with pytest.raises(ValueError, match=said):
            plots.calibration_plot(bins().assign(**change), ax=plots.new_axes())
    with pytest.raises(ValueError, match="no bin"):
        plots.calibration_plot(bins().head(0), ax=plots.new_axes())


# ------------------------------------------------------------------------------ tilt
def path(sd: float = 2.0, **given: Any) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    ell = rng.normal(-(sd**2) / 2, sd, 2000)
    return tilt_path(ell, 50 + ell + rng.normal(size=2000), **given)


def test_the_trusted_part_is_solid_and_the_rest_is_not() -> None:
    table = path()
    ax = plots.tilt_plot(table, unit="points", reference=48.0, ax=plots.new_axes())
    last = int(np.flatnonzero(table["trusted"])[-1])
    assert 0 < last < len(table) - 1
    x, y = data(ax, "trusted-0")
    np.testing.assert_array_equal(x, table["t"][: last + 1])
    np.testing.assert_array_equal(y, table["value"][: last + 1])
    lost, _ = data(ax, "lost-0")
    np.testing.assert_array_equal(lost, table["t"][last:])
    styles = {line.get_gid(): line.get_linestyle() for line in ax.lines}
    assert styles["trusted-0"] == "-"
    assert styles["lost-0"] != "-"
    areas = {c.get_gid(): c for c in ax.collections}
    assert areas["lost-interval-0"].get_hatch()
    band = areas["trusted-interval-0"].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(table["upper"][: last + 1].max())
    assert band[:, 1].min() == pytest.approx(table["lower"][: last + 1].min())
    marks = {line.get_gid(): line.get_marker() for line in ax.lines}
    assert marks["value-at-1"] == "X"


def test_the_effective_sample_size_stands_above() -> None:
    table = path(0.3)
    ax = plots.tilt_plot(table, ax=plots.new_axes())
    shown = [t.get_text() for t in ax.texts]
    assert shown == [f"{table['ess'][k]:,.0f}" for k in (0, 5, 10, 15, 20)]
    assert to_hex(ax.texts[0].get_color()) == plots.LIGHT.soft


def test_rows_that_drop_out_part_the_path() -> None:
    rng = np.random.default_rng(0)
    ell = np.where(rng.random(500) < 0.5, -np.inf, np.log(2.0))
    table = tilt_path(ell, rng.normal(10, 1, 500) + np.isfinite(ell))
    ax = plots.tilt_plot(table, ax=plots.new_axes())
    assert data(ax, "trusted-0")[0][0] > 0.0
    assert data(ax, "value-at-0")[1] == pytest.approx(table["value"][0])
    low, high = data(ax, "interval-at-0")[1]
    assert (low, high) == pytest.approx((table["lower"][0], table["upper"][0]))
    assert "of the logged rows" in ax.get_title("left")


def test_an_infinite_interval_is_cut_by_the_axes() -> None:
    table = path(0.5)
    table.loc[20, ["lower", "upper", "trusted"]] = [-math.inf, math.inf, False]
    ax = plots.tilt_plot(table, ax=plots.new_axes())
    assert all(np.isfinite(ax.get_ylim()))
    ax.figure.canvas.draw()


def test_bad_paths_are_refused() -> None:
    table = path(0.5, grid=[0.0, 0.5, 1.0])
    with pytest.raises(ValueError, match="'value' has 3 NaN"):
        plots.tilt_plot(table.assign(value=math.nan), ax=plots.new_axes())
    with pytest.raises(ValueError, match="ascending"):
        plots.tilt_plot(table[::-1], ax=plots.new_axes())
    with pytest.raises(ValueError, match="'trusted'"):
        plots.tilt_plot(table.drop(columns="trusted"), ax=plots.new_axes())
