"""Weights and overlap: the curves and bins are the figures that the diagnostics report."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes

from causal_lm_opt import OverlapError, plots
from causal_lm_opt.diagnostics import overlap


def data(ax: Axes, gid: str) -> tuple[np.ndarray, np.ndarray]:
    (found,) = [x for x in ax.lines if x.get_gid() == gid]
    x, y = found.get_data()
    return np.asarray(x), np.asarray(y)


def bins(ax: Axes, gid: str) -> tuple[np.ndarray, np.ndarray]:
    (found,) = [p for p in ax.patches if p.get_gid() == gid]
    values, edges, _ = found.get_data()  # type: ignore[attr-defined]
    return np.asarray(values), np.asarray(edges)


def test_the_curve_is_the_cumulative_weight() -> None:
    weight = np.array([1.0, 4.0, 2.0, 1.0])
    x, y = data(plots.weights_plot(np.log(weight), ax=plots.new_axes()), "carried")
    np.testing.assert_allclose(x, [0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(y, [0.5, 0.75, 0.875, 1.0])


def test_a_row_of_weight_two_is_two_rows() -> None:
    ell = np.log([1.0, 4.0, 2.0])
    ax = plots.weights_plot(ell, [2, 1, 0], ax=plots.new_axes())
    twice = plots.weights_plot(np.log([1.0, 4.0, 1.0]), ax=plots.new_axes())
    assert ax.get_title("left") == twice.get_title("left")
    np.testing.assert_allclose(data(ax, "carried")[1], [4 / 6, 1.0])


def test_the_words_are_the_diagnostics_figures() -> None:
    ell = np.random.default_rng(0).normal(0, 1.5, 3000)
    figures = overlap(ell)
    ax = plots.weights_plot(ell, ax=plots.new_axes())
    said = ax.get_title("left")
    assert f"{figures.ess:,.0f} of 3,000 rows" in said
    assert f"heaviest row: {100 * figures.largest_share:.2g}%" in said
    assert f"Pareto k: {figures.pareto_k:.2f}" in said
    x, y = data(ax, "carried")
    assert len(x) <= 2000
    assert y[0] == pytest.approx(figures.largest_share)
    order = np.sort(np.exp(ell))[::-1]
    for share in (0.01, 0.1):
        ((_, reading),) = [data(ax, f"reading-{share:g}")]
        expected = order[: int(3000 * share)].sum() / order.sum()
        assert reading == pytest.approx(expected, rel=1e-3)


def test_extreme_ratios_neither_overflow_nor_vanish() -> None:
    ax = plots.weights_plot([-1e4, 0.0, 1e4, -np.inf], ax=plots.new_axes())
    assert data(ax, "carried")[1].tolist() == [1.0, 1.0, 1.0, 1.0]
    assert "rows the target never writes: 25%" in ax.get_title("left")
    ax.figure.canvas.draw()


def test_bins_hold_every_row_and_draw_once() -> None:
    rng = np.random.default_rng(1)
    ell, target = rng.normal(-1, 1, 500), rng.normal(1, 1, 400)
    ell[:50], target[:8] = -np.inf, np.inf
    ax = plots.overlap_plot(ell, target, ax=plots.new_axes())
    logged, edges = bins(ax, "logged")
    assert logged.sum() == pytest.approx(1.0)  # of the rows that have a place on the axis
    assert "not drawn: 10% of the rows, never written by the target" in ax.get_title("left")
    drawn, _ = bins(ax, "target")
    assert drawn.sum() == pytest.approx(1.0)
    beyond, _ = bins(ax, "beyond")
    share = float(np.mean(target > ell.max()))
    assert beyond.sum() == pytest.approx(share)
    assert np.isclose(edges, ell.max()).any()
    assert f"beyond every logged row: {100 * share:.2g}%" in ax.get_title("left")
    assert beyond[-1] >= 8 / 400
    assert logged[edges[1:] > ell.max() + 1e-9].sum() == 0.0


def test_rounding_of_stored_log_probs_is_not_unseen_mass() -> None:
    ax = plots.overlap_plot([0.0, 0.5], np.full(50, 0.5 + 1e-8), ax=plots.new_axes())
    assert bins(ax, "beyond")[0].sum() == 0.0
    assert "beyond every logged row: 0% (0% to" in ax.get_title("left")


def test_an_exact_support_has_no_interval() -> None:
    ax = plots.overlap_plot(
        [0.0, -1.0], [0.0, 1.0, 5.0], target_weight=[0.5, 0.5, 0.0], exact=True,
        ax=plots.new_axes(),
    )  # fmt: skip
    assert ax.get_title("left") == "beyond every logged row: 50%"
    assert bins(ax, "target")[0].sum() == pytest.approx(1.0)


def test_without_draws_the_plot_says_what_it_cannot_show() -> None:
    ax = plots.overlap_plot([0.0, 1.0], ax=plots.new_axes())
    assert "what was never logged is not seen" in ax.get_title("left")


@pytest.mark.parametrize(
    "ell", [[0.0, 0.0], [0.0, 700.0], [-750.0, -749.0], [2.5, -np.inf, -np.inf]]
)
def test_odd_ranges_draw(ell: list[float]) -> None:
    ax = plots.overlap_plot(ell, [0.0, 3.0], ax=plots.new_axes())
    ax.figure.canvas.draw()
    assert math.isclose(bins(ax, "target")[0].sum(), 1.0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"log_ratio": [0.0, math.nan]}, "log_ratio has 1 NaN"),
        ({"log_ratio": [0.0, math.inf]}, "log_ratio has 1 NaN or infinite"),
        ({"log_ratio": []}, "log_ratio must have shape"),
        ({"log_ratio": [[0.0]]}, "log_ratio must have shape"),
        ({"log_ratio": [0.0], "log_ratio_target": [-math.inf]}, "log_ratio_target has 1"),
        ({"log_ratio": [0.0], "exact": True}, "give log_ratio_target"),
        ({"log_ratio": [0.0], "log_ratio_target": [0.0], "exact": True}, "needs the support's"),
        (
            {"log_ratio": [0.0], "log_ratio_target": [0.0], "exact": True, "target_weight": [-1]},
            "non-negative",
        ),
    ],
)
def test_bad_input_is_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        plots.overlap_plot(**arguments, ax=plots.new_axes())


def test_no_weight_at_all_is_refused() -> None:
    for plot in (plots.weights_plot, plots.overlap_plot):
        with pytest.raises(OverlapError, match="all weights are 0"):
            plot([-math.inf, -math.inf], ax=plots.new_axes())  # type: ignore[operator]
