"""Differences within subgroups are those of the subgroup's own log, jointly banded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causal_lm_opt._evaluation import Contrast, Part, Row
from causal_lm_opt._run.text import reasons_of_differences
from causal_lm_opt.diagnostics.verdict import LEVELS

from .conftest import Files, Run, make_log

WEIGHTED = ["--estimator", "ht", "--estimator", "hajek"]


def contrasts(folder: Path) -> pd.DataFrame:
    """Differences of all rows by policy and estimator; of subgroups by these and the subgroup."""
    table = pd.read_csv(folder / "contrasts.csv", keep_default_na=False)
    return table.set_index(["policy", "estimator", *(["subgroup"] if "subgroup" in table else [])])


@pytest.mark.parametrize("reference", [None, "warm"])
def test_they_are_those_of_the_subgroup_s_own_log(
    files: Files, run: Run, reference: str | None
) -> None:
    options = [*WEIGHTED, *([] if reference is None else ["--reference", reference])]
    done = run([*files.evaluate, "--by", "town", *options, *files.out()])
    assert done.exit_code == 0, done.output
    within, log = contrasts(files.folder / "out"), make_log()
    for town in ("north", "south"):
        log[log["town"] == town].to_csv(files.log, index=False)
        assert run([*files.evaluate, *options, *files.out(town)]).exit_code == 0
        alone = contrasts(files.folder / town)
        for (policy, estimator), row in alone.iterrows():
            found = within.loc[(policy, estimator, town)]
            assert found["reference"] == (reference or "logging policy")
            for column in ("difference", "se"):
                assert found[column] == pytest.approx(row[column], rel=1e-9), (policy, column)
            half = stats.t.ppf(0.975, (log["town"] == town).sum() - 1) * found["se"]
            assert found["ci_upper"] - found["difference"] == pytest.approx(half)
            # more differences share one band
            assert found["band_upper"] > row["band_upper"]
            assert found["band_lower"] < row["band_lower"]


def test_over_all_readers_nothing_changes(files: Files, run: Run) -> None:
    assert run([*files.evaluate, *files.out("plain")]).exit_code == 0
    assert run([*files.evaluate, "--by", "town", *files.out()]).exit_code == 0
    found = contrasts(files.folder / "out")
    every = found.xs("", level="subgroup")
    pd.testing.assert_frame_equal(every, contrasts(files.folder / "plain"))
    values = pd.read_csv(files.folder / "out/estimates.csv", keep_default_na=False)
    levels = values.set_index(["policy", "estimator", "subgroup"])["verdict"]
    for (policy, estimator, town), row in found.iterrows():
        sides = [policy, row["reference"]]
        own = [levels.get((side, estimator, town), LEVELS[0]) for side in sides]
        assert LEVELS.index(row["verdict"]) >= max(map(LEVELS.index, own))


def test_clusters_may_lie_in_several_subgroups(files: Files, run: Run) -> None:
    """The covariance of two subgroups' values enters no difference within one."""
    options = [*files.evaluate, "--group", "reader", "--by", "town", *WEIGHTED]
    assert run([*options, *files.out()]).exit_code == 0
    within, log = contrasts(files.folder / "out"), make_log()
    log[log["town"] == "south"].to_csv(files.log, index=False)
    assert (
        run([*files.evaluate, "--group", "reader", *WEIGHTED, *files.out("south")]).exit_code == 0
    )
    for (policy, estimator), row in contrasts(files.folder / "south").iterrows():
        found = within.loc[(policy, estimator, "south")]
        for column in ("difference", "se", "ci_lower", "ci_upper"):
            assert found[column] == pytest.approx(row[column], rel=1e-9), (policy, column)


def test_labels_that_differ_in_blanks_alone_are_told(files: Files, run: Run) -> None:
    log = make_log()
    log.loc[log.index[::3], "town"] += " "
    log.to_csv(files.log, index=False)
    done = run([*files.evaluate, "--by", "town", *files.out()])
    assert done.exit_code == 0, done.output
    told = (files.folder / "out/report.md").read_text(encoding="utf-8")
    assert "differ in case or blanks alone" in told


def test_they_are_told_everywhere(files: Files, run: Run) -> None:
    assert run([*files.evaluate, "--by", "town", *WEIGHTED, *files.out()]).exit_code == 0
    out = files.folder / "out"
    page, told = ((out / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))
    assert "Differences from the logging policy within subgroups" in page
    assert "### Differences within subgroups" in told
    for text in (page, told):
        assert "hold for all policies and subgroups of an estimator together" in text
    facts = json.loads((out / "diagnostics.json").read_text(encoding="utf-8"))["parts"][0]
    named = {(c["policy"], c["reference"], c.get("subgroup")) for c in facts["contrasts"]}
    assert {("warm", "logging policy", None), ("warm", "logging policy", "north")} <= named
    for text in (page, told):
        assert "warm | north" in text.replace("\\|", "|")
    bands = np.array([[c["band_lower"], c["band_upper"]] for c in facts["contrasts"]])
    assert np.isfinite(bands).all()


def test_a_difference_says_why_it_is_less_trusted_than_its_values() -> None:
    """Its own reasons alone, each once; what a value has is told of the value."""
    given: dict[str, Any] = {
        "value": 1.0,
        "se": 1.0,
        "lower": -1.0,
        "upper": 3.0,
        "verdict": "caution",
    }
    row = Row(policy="f", estimator="dr", reasons=("few rows",), figures={}, **given)
    own = "Few rows dominate (skewness +{} of it)."
    contrasts = [
        Contrast(policy="f", reference="g", estimator=e, band_lower=-2.0, band_upper=4.0,
                 subgroup=by, reasons=("few rows", own.format(skew)), **given)
        for e, by, skew in (("dr", "", 0.31), ("hajek", "old", 0.4))
    ]  # fmt: skip
    part = Part(
        key="log", title="", text="", unit="y", rows=(row,), contrasts=(contrasts[0],),
        left_out=(), notes=(), counts={}, subgroup_contrasts=(contrasts[1],),
    )  # fmt: skip
    (told,) = reasons_of_differences(part)
    assert told.startswith("f less g (doubly robust); f")
    assert "f | old less g | old (Hajek)" in told
    assert told.endswith("Few rows dominate (skewness +0.31 to 0.4 of it).")
