"""Sensitivity plots carry their tables; curves of equal bias carry the bound's formula."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from causal_lm_opt import IPW, plots
from causal_lm_opt.diagnostics.sensitivity import (
    ConfounderStrength,
    OmittedVariableBound,
    omitted_variable_bound,
)
from causal_lm_opt.estimators import Claim, sensitivity


def data(ax: Axes, gid: str) -> tuple[np.ndarray, np.ndarray]:
    (found,) = [x for x in ax.lines if x.get_gid() == gid]
    x, y = found.get_data()
    return np.asarray(x, dtype=float), np.asarray(y, dtype=float)


def gids(ax: Axes) -> set[str | None]:
    return {x.get_gid() for x in ax.lines}


def words(ax: Axes) -> list[str]:
    legend = ax.get_legend()
    return [] if legend is None else [t.get_text() for t in legend.get_texts()]


# ------------------------------------------------------------------------------ bounds
def bounds() -> pd.DataFrame:
    grid = np.array([1.0, 1.25, 2.0])
    return pd.DataFrame(
        {
            "lambda": grid, "value": 3.0, "lower": 3 - np.log(grid), "upper": 3 + 2 * np.log(grid),
            "ci_lower": 2.5 - np.log(grid), "ci_upper": 3.5 + 2 * np.log(grid),
        }
    )  # fmt: skip


def test_bounds_and_interval_are_the_tables() -> None:
    table = bounds()
    ax = plots.sensitivity_plot(table, ax=plots.new_axes())
    for column in ("lower", "upper", "ci_lower", "ci_upper"):
        x, y = data(ax, column.replace("_", "-"))
        np.testing.assert_array_equal(x, table["lambda"])
        np.testing.assert_array_equal(y, table[column])
    assert [float(v.item()) for v in data(ax, "estimate")] == [1.0, 3.0]
    assert not {"claim", "breakdown"} & gids(ax)
    assert words(ax) == ["bounds", "95% interval", "estimate"]


def test_the_interval_is_the_paler_band() -> None:
    ax = plots.sensitivity_plot(bounds(), ax=plots.new_axes())
    alpha = {c.get_gid(): c.get_alpha() for c in ax.collections}
    assert alpha["interval"] < alpha["bounds"]


def test_claim_and_breakdown_are_marked_where_they_meet() -> None:
    cross = math.exp(0.5)
    ax = plots.sensitivity_plot(bounds(), claim=2.5, breakdown=cross, ax=plots.new_axes())
    assert [float(v.item()) for v in data(ax, "breakdown")] == [cross, 2.5]
    assert data(ax, "claim")[1].tolist() == [2.5, 2.5]
    assert ax.get_title("left") == "the claim holds up to Λ = 1.65"
    assert {"claim: 2.5", "claim falls"} <= set(words(ax))


@pytest.mark.parametrize(
    ("breakdown", "said"),
    [
        (1.0, "the claim fails even without a violation"),
        (7.25, "the claim holds up to Λ = 7.25, beyond this plot"),
        (math.inf, "the claim holds at every Λ tried"),
    ],
)
def test_a_breakdown_off_the_plot_is_told_in_words(breakdown: float, said: str) -> None:
    ax = plots.sensitivity_plot(bounds(), claim=0.0, breakdown=breakdown, ax=plots.new_axes())
    assert ax.get_title("left") == said
    assert ("breakdown" in gids(ax)) == (breakdown == 1.0)
    assert ax.get_ylim()[0] < 0.0  # the claim is in sight


def test_labels_of_strengths_do_not_overlap() -> None:
    grid = np.array([1.0, 1.05, 1.1, 1.25, 1.5, 2.0, 3.0])
    table = pd.DataFrame(
        {"lambda": grid, "value": 3.0, "lower": 3 - np.log(grid), "upper": 3 + np.log(grid),
         "ci_lower": 2 - np.log(grid), "ci_upper": 4 + np.log(grid)}
    )  # fmt: skip
    for last in range(2, grid.size + 1):
        ax = plots.sensitivity_plot(table.iloc[:last], ax=plots.new_axes(3.8))
        ax.figure.canvas.draw()
        boxes = [t.get_window_extent() for t in ax.get_xticklabels()]
        assert len(boxes) >= min(last, 3)
        assert all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes)), last
        assert ax.get_xticks()[[0, -1]].tolist() == [1.0, grid[last - 1]]


def test_hostile_names_are_drawn_as_they_are() -> None:
    table = bounds().assign(quantity="$x_1^{ <script>\n")
    ax = plots.sensitivity_plot(table, unit="$\\frac{", difference=True, ax=plots.new_axes())
    assert ax.get_title("left") == "$x_1^{ <script>"
    assert ax.get_ylabel() == "difference in\nmean of $\\frac{"
    ax.figure.canvas.draw()


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        ({"lower": math.nan}, {}, "'lower' has 3 NaN"),
        ({"lambda": [1.0, 2.0, 1.5]}, {}, "ascending"),
        ({"lambda": [0.5, 1.0, 2.0]}, {}, "1 or more"),
        ({"quantity": ["a", "a", "b"]}, {}, "several quantities"),
        ({}, {"breakdown": 2.0}, "pass claim"),
        ({}, {"claim": 0.0, "breakdown": 0.5}, "at least 1"),
        ({}, {"claim": math.nan}, "finite"),
    ],
)
def test_bad_tables_and_claims_are_refused(
    change: dict[str, Any], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        plots.sensitivity_plot(bounds().assign(**change), ax=plots.new_axes(), **options)
    with pytest.raises(ValueError, match="at least two"):
        plots.sensitivity_plot(bounds().head(1), ax=plots.new_axes())


def test_a_result_plots_its_first_claim() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, size=300)
    y = x + rng.normal(size=300)
    target = np.log([[0.1, 0.9], [0.7, 0.3]])[:, x].T
    est = IPW().fit(x[:, None], y, logp_logging=np.full(300, np.log(0.5)), logp_target=target)
    found = sensitivity(
        est, (1, 1.5, 2), violation="logging_probabilities", n_bootstrap=20,
        claim=[Claim(0, above=0.2), Claim(0, better_than=1)],
    )  # fmt: skip
    ax = found.plot(ax=plots.new_axes())
    assert data(ax, "claim")[1].tolist() == [0.2, 0.2]
    np.testing.assert_array_equal(data(ax, "lower")[1], found.lower[0])
    difference = found.quantities[2]
    ax = found.plot(difference, unit="y", ax=plots.new_axes())
    assert data(ax, "claim")[1].tolist() == [0.0, 0.0]
    assert ax.get_ylabel() == "difference in\nmean of y"
    np.testing.assert_array_equal(data(ax, "upper")[1], found.upper[2])
    assert "claim" not in gids(found.plot(1, ax=plots.new_axes()))
    with pytest.raises(ValueError, match="quantity 'x' is not known"):
        found.plot("x")


# ------------------------------------------------------------------------------ explained shares
def bound(value: float = 8.0, spread: float = 20.0) -> OmittedVariableBound:
    rng = np.random.default_rng(0)
    e, w = spread * rng.normal(size=200), np.exp(0.8 * rng.normal(size=200) - 0.32)
    return omitted_variable_bound(e, w, ConfounderStrength(0.1, 0.1), value=value, influence=w * e)


BENCHMARKS = {
    "as strong as age": ConfounderStrength(0.08, 0.02),
    "twice as strong as age": ConfounderStrength(0.16, 0.04),
    "as strong as $x_1$": ConfounderStrength(0.08, 0.021),
}


def test_each_curve_has_the_bias_it_is_labelled_with() -> None:
    found = bound()
    ax = plots.confounder_plot(found, benchmarks=BENCHMARKS, null=0.0, ax=plots.new_axes(5.0))
    curves = sorted(g for g in gids(ax) if g is not None and g.startswith("bias-"))
    labels = [t.get_text() for t in ax.texts if t.get_text()[0].isdigit()]
    assert len(curves) == len(labels) >= 2
    for curve, label in zip(curves, labels, strict=True):
        x, y = data(ax, curve)
        kept = y <= 1
        bias = [
            found.scale * ConfounderStrength(outcome, weight).factor
            for weight, outcome in zip(x[kept], y[kept], strict=True)
        ]
        np.testing.assert_allclose(bias, float(label), rtol=1e-9)


def test_the_null_curve_passes_through_the_robustness_value() -> None:
    found = bound()
    ax = plots.confounder_plot(found, null=1.0, ax=plots.new_axes())
    x, y = data(ax, "null")
    share = found.robustness_value(1.0)
    assert np.interp(share, x, y) == pytest.approx(share, rel=1e-3)
    assert "value could be 1" in words(ax)
    assert ax.get_title("left").startswith(f"explaining {100 * share:.2g}% of both")


def test_benchmarks_stand_at_their_shares_and_are_named() -> None:
    ax = plots.confounder_plot(bound(), benchmarks=BENCHMARKS, ax=plots.new_axes(5.0))
    for k, m in enumerate(BENCHMARKS.values()):
        assert [float(v.item()) for v in data(ax, f"benchmark-{k}")] == [m.weight, m.outcome]
    assert words(ax)[1:] == [f"{a}: {name}" for a, name in zip("ABC", BENCHMARKS, strict=True)]
    letters = {t.get_text(): t.get_position() for t in ax.texts if t.get_text() in "ABC"}
    assert letters["A"] != letters["C"]  # all but one place: their letters are moved apart
    ax.figure.canvas.draw()


def test_no_variation_no_bias() -> None:
    ax = plots.confounder_plot(bound(spread=0.0), null=0.0, ax=plots.new_axes())
    assert not gids(ax)
    ax.figure.canvas.draw()


def test_a_value_at_the_null_and_a_bad_null() -> None:
    ax = plots.confounder_plot(bound(value=0.0), null=0.0, ax=plots.new_axes())
    assert ax.get_title("left") == "the value may be 0 even without a confounder"
    with pytest.raises(ValueError, match="null must be a finite"):
        plots.confounder_plot(bound(), null=math.inf, ax=plots.new_axes())


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_both_go_into_a_page(theme: str) -> None:
    one = plots.sensitivity_plot(
        bounds(), claim=2.5, breakdown=1.65, theme=theme, ax=plots.new_axes()
    )
    two = plots.confounder_plot(
        bound(), benchmarks=BENCHMARKS, null=0.0, theme=theme, ax=plots.new_axes(5.0)
    )
    for k, ax in enumerate((one, two)):
        svg = plots.to_svg(ax.figure, key=f"s{k}", title="Sensitivity")  # type: ignore[arg-type]
        assert svg == plots.to_svg(ax.figure, key=f"s{k}", title="Sensitivity")  # type: ignore[arg-type]
