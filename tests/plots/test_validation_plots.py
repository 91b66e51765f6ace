"""The validation plots draw the committed tables, and say below the axis what does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks import validation_plots


def coverage_rows() -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    rows = []
    for design in ("continuous", "shift 2", "wrong P_R"):
        for n in (200, 1000):
            for estimator in ("HT", "Hajek", "OR", "DR", "OR, draws only"):
                low = design == "shift 2" and estimator == "HT"
                trusted = 0.0 if estimator.startswith("OR") else float(rng.uniform(0.2, 0.9))
                rows.append(
                    {
                        "design": design, "n": n, "estimator": estimator, "replications": 400,
                        "sd_log_ratio": 0.5, "mc_se": 0.011, "coverage": 0.6 if low else 0.95,
                        "predicted": 0.62 if low else 0.94,
                        "share trustworthy": trusted, "share caution": 0.9 - trusted,
                        "share do not use": 0.1,
                        "coverage trustworthy": 0.95 if trusted else None,
                    }
                )  # fmt: skip
    return rows


def test_cells_lie_at_their_coverage_and_lost_ones_are_written() -> None:
    table = pd.DataFrame(coverage_rows())
    figure = validation_plots.coverage_figure(table)
    panels = {ax.get_title("left"): ax for ax in figure.axes}
    assert list(panels) == ["HT", "Hajek", "DR", "OR"]
    assert [t.get_text() for t in panels["HT"].texts] == ["60%", "60%"]
    assert not panels["DR"].texts
    points = [x.get_xdata() for x in panels["DR"].lines if x.get_marker() in ("v", "s")]
    assert sum(np.array_equal(np.ravel(x), [0.95]) for x in points) == 6


def test_verdicts_leave_out_what_no_diagnostic_sees() -> None:
    table = pd.DataFrame(coverage_rows())
    figure = validation_plots.verdict_figure(table)
    above, below = figure.axes
    assert "12 cells" in below.get_xlabel()
    heights = np.array([bar.get_height() for bar in above.patches]).reshape(3, 12)
    np.testing.assert_allclose(heights.sum(axis=0), 1.0)


def test_predictions_lie_against_coverage() -> None:
    figure = validation_plots.predicted_figure(pd.DataFrame(coverage_rows()))
    panels = {ax.get_title("left"): ax for ax in figure.axes}
    assert list(panels) == ["HT", "Hajek", "DR"]
    points = {
        (float(np.ravel(x.get_xdata())[0]), float(np.ravel(x.get_ydata())[0]))
        for x in panels["HT"].lines if x.get_marker() in ("v", "s") and len(x.get_xdata())
    }  # fmt: skip
    assert points == {(0.62, 0.6), (0.94, 0.95)}


def test_every_table_that_is_there_is_drawn_and_no_other(tmp_path: Path) -> None:
    rows = {"rows": coverage_rows()}
    (tmp_path / "c.json").write_text(json.dumps(rows), encoding="utf-8")
    written = validation_plots.draw(tmp_path, "c.json")
    assert [p.name for p in written] == [
        f"{name}.png" for name in ("coverage", "verdicts", "tradeoff", "predicted")
    ]
    first = written[2].read_bytes()
    assert validation_plots.draw(tmp_path, "c.json")[2].read_bytes() == first


@pytest.mark.parametrize("name", ["bands", "efficiency"])
def test_the_committed_tables_draw(name: str) -> None:
    file, make = validation_plots.FIGURES[name]
    figure = make(validation_plots.read(validation_plots.FOLDER / file))
    figure.canvas.draw()
    assert figure.axes[0].get_xlabel()
