"""Plots of the study of confounded outcome models: what is drawn where."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from causal_lm_opt import plots


def test_each_objective_stands_in_each_scene_with_its_interval() -> None:
    table = pd.DataFrame([
        {"scene": scene, "objective": o, "true_value": v + k, "low": v + k - 1,
         "high": np.nan if o == "ft" else v + k + 1}
        for k, scene in enumerate(("right", "confounded 2"))
        for o, v in (("ft", 54.0), ("oo", 60.0), ("dr", 62.0))
    ])  # fmt: skip
    table.loc[table["objective"] == "ft", "low"] = np.nan
    ax = plots.confounding_plot(table, start=54.0, best=66.0, title="t", ax=plots.new_axes())
    assert [t.get_text() for t in ax.get_yticklabels()] == ["right", "confounded 2"]
    assert ax.get_ylim() == (1.5, -0.5)  # the first on top
    points = [line for line in ax.lines if line.get_linestyle() == "None"]
    assert [float(p.get_xdata()[0]) for p in points] == table["true_value"].tolist()
    bars = [line for line in ax.lines if len(line.get_xdata()) == 2
            and line.get_xdata()[0] != line.get_xdata()[1]]  # fmt: skip
    assert len(bars) == 4
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["FT (start)", "OO-RLHF",
                                                                   "DR-CPO"]  # fmt: skip
    assert "dashed: start, 54.0" in ax.get_title(loc="left")
    with pytest.raises(ValueError, match="true_value"):
        plots.confounding_plot(table.assign(true_value=np.nan), start=0, best=1)


def test_paths_begin_at_the_start_and_may_end_early() -> None:
    ax = plots.training_paths_plot(
        {"dr": [[56.0, 58.0], [57.0]]}, every=14, start=54.0, best=66.0, ax=plots.new_axes()
    )
    thick = ax.lines[-1]
    assert thick.get_xdata() == pytest.approx([0, 14, 28])
    assert thick.get_ydata() == pytest.approx([54.0, 56.5, 58.0])
