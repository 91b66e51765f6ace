"""The plot of preference rewards: what is drawn where, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from causal_lm_opt import plots


def table() -> pd.DataFrame:
    rows = [
        {"rho": rho, "model": model, "accuracy": 0.7 - 0.1 * rho + 0.01 * k,
         "low": np.nan if k == 2 else 0.68 - 0.1 * rho, "high": np.nan if k == 2 else 0.75,
         "paper": 0.66 if k == 0 and rho < 0.5 else np.nan}
        for k, model in enumerate(["Base", "Weights", "Large-sample"])
        for rho in (0.0, 0.3, 0.6, 0.9)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_lines_intervals_and_the_papers_points() -> None:
    ax = plots.preference_plot(table(), title="ood", ax=plots.new_axes(), limits=(0.4, 0.8))
    lines = {line.get_gid(): line for line in ax.lines}
    drawn = table().query("model == 'Base'")
    assert lines["series-0"].get_ydata() == pytest.approx(drawn["accuracy"].to_numpy())
    assert lines["series-1"].get_xdata() == pytest.approx([0.0, 1 / 3, 2 / 3, 1.0])
    bar = lines["series-0-interval-1"]
    assert bar.get_ydata() == pytest.approx([0.65, 0.75])
    assert bar.get_xdata()[0] < lines["series-1-interval-1"].get_xdata()[0]  # side by side
    assert "series-2-interval-0" not in lines
    assert lines["series-2"].get_linestyle() != "-"
    assert lines["paper-0"].get_xdata() == pytest.approx([0.0, 1 / 3])
    assert "paper-1" not in lines
    assert lines["chance"].get_ydata() == pytest.approx([0.5, 0.5])
    assert ax.get_ylim() == (0.4, 0.8)
    assert "hollow: the paper" in ax.get_title(loc="left")
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["Base", "Weights",
                                                                   "Large-sample"]  # fmt: skip
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0", "0.3", "0.6", "0.9"]


def test_near_settings_stand_at_even_steps() -> None:
    rows = pd.concat([table(), table().query("rho == 0.9").assign(rho=0.91)])
    ax = plots.preference_plot(rows, ax=plots.new_axes())
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0", "0.3", "0.6", "0.9", "0.91"]
    assert ax.get_xticks() == pytest.approx([0, 1, 2, 3, 4])
    bare = plots.preference_plot(rows.drop(columns="paper"), ax=plots.new_axes())
    assert "hollow" not in bare.get_title(loc="left")
    one = plots.preference_plot(table().query("rho == 0"), ax=plots.new_axes())
    assert [t.get_text() for t in one.get_xticklabels()] == ["0"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.drop(columns="low"), "no column 'low'"),
        (lambda t: t.iloc[:0], "no rows"),
        (lambda t: pd.concat([t, t]), "twice at one rho"),
        (lambda t: t.assign(accuracy=np.nan), "NaN"),
    ],
)
def test_bad_tables_are_refused(change: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        plots.preference_plot(change(table()), ax=plots.new_axes())  # type: ignore[operator]
