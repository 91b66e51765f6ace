"""Studies from the command line's function: what is printed, written and refused."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from causal_lm_opt import IPW
from causal_lm_opt._run.output import OutputError
from causal_lm_opt._run.simulate import list_studies, simulate
from causal_lm_opt._run.study_folder import check_study_folder
from causal_lm_opt._run.study_report import reading, study_files
from causal_lm_opt.exceptions import EstimationWarning
from causal_lm_opt.simulation import (
    STUDIES,
    GaussianDesign,
    SimulatedLog,
    Study,
    confounded_log,
    named_study,
)
from causal_lm_opt.simulation._facts import other_than, study_facts

TOML = """
about = "A tiny study."
sizes = [60]
replications = 3
[designs.near]
world = "gaussian"
shift = 0.3
[estimators.H]
kind = "hajek"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TOML)
    return path


def test_a_study_is_run_printed_and_written(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    text = simulate(str(file), out, progress=False)
    assert text.startswith("A tiny study.\n")
    assert "near 60         H" in text
    table = pd.read_csv(out / "summary.csv")
    assert table[["n", "replications"]].to_numpy().tolist() == [[60, 3]]
    rows = pd.read_csv(out / "replications.csv.gz")
    assert rows["value"].mean() - table["truth"][0] == pytest.approx(table["bias"][0])
    before = (out / "summary.csv").read_bytes()
    assert simulate(str(file), out, progress=False) == text  # a second time: nothing to do
    assert (out / "summary.csv").read_bytes() == before


def test_replications_and_seed_may_be_given(file: Path, tmp_path: Path) -> None:
    simulate(str(file), tmp_path / "a", replications=5, seed=1, progress=False)
    simulate(str(file), tmp_path / "b", replications=5, seed=2, progress=False)
    a, b = (pd.read_csv(tmp_path / name / "summary.csv") for name in "ab")
    assert a["replications"][0] == 5
    assert a["bias"][0] != b["bias"][0]


def test_a_folder_of_something_else_is_left_alone(file: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("words")
    with pytest.raises(OutputError, match=r"holds 'thesis\.txt'"):
        simulate(str(file), tmp_path / "mine", progress=False)
    with pytest.raises(OutputError, match="not a folder"):
        check_study_folder(file)


def test_what_a_killed_run_left_half_written_is_cleared(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    text = simulate(str(file), out, progress=False)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = out / f".replications.csv.gz.{gone.pid}.tmp"
    block = next((out / "blocks").iterdir())
    half = block.with_name(f".{block.name}.{gone.pid}.tmp")
    running = out / f".summary.csv.{os.getppid()}.tmp"
    for unfinished in (left, half, running):
        unfinished.write_bytes(b"half")
    assert simulate(str(file), out, progress=False) == text
    assert not left.exists()
    assert not half.exists()
    assert running.exists()  # its process may still be at it
    (out / ".thesis.txt.1.tmp").write_text("words")
    with pytest.raises(OutputError, match=r"holds '\.thesis\.txt\.1\.tmp'"):
        simulate(str(file), out, progress=False)


def test_another_study_in_the_folder_is_refused(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    simulate(str(file), out, progress=False)
    before = {p: p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}
    other = tmp_path / "other.toml"
    for change, said in (
        (("designs.near", "designs.far"), "designs 'near'; give another --out"),
        (("shift = 0.3", "shift = 0.4"), "designs 'near' of other settings (shift=0.3, here "),
        (("estimators.H", "estimators.X"), "estimators 'H'; give another --out"),
        (('kind = "hajek"', 'kind = "ht"'), "estimators 'H' of other settings (IPW(), here IPW("),
        (("sizes", "level = 0.9\nsizes"), "level 0.95; give another --out"),
    ):
        other.write_text(TOML.replace(*change))
        with pytest.raises(OutputError, match=rf"holds a finished study of {re.escape(said)}"):
            simulate(str(other), out, progress=False)
    with pytest.raises(OutputError, match="holds a finished study of seed 0; give"):
        simulate(str(file), out, seed=1, progress=False)
    assert {p: p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()} == before


def test_a_stopped_study_is_known_for_what_it_is(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "results"

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("causal_lm_opt.simulation.study.run_cells", stop)
        with pytest.raises(KeyboardInterrupt):
            simulate(str(file), out, progress=False)
    with pytest.raises(OutputError, match="holds an unfinished study of seed 0; give another"):
        simulate(str(file), out, seed=1, progress=False)
    simulate(str(file), out, progress=False)
    fresh = tmp_path / "fresh"
    simulate(str(file), fresh, progress=False)
    assert (out / "study.json").read_bytes() == (fresh / "study.json").read_bytes()
    (out / "study.json").write_text("words")
    with pytest.raises(OutputError, match="holds a finished study of facts that this version"):
        simulate(str(file), out, progress=False)


def test_a_smaller_run_of_the_same_study_says_what_it_replaces(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    simulate(str(file), out, replications=5, progress=False)
    blocks = set((out / "blocks").iterdir())
    told = "The tables of 5 replications of 60 rows are replaced; their blocks are kept, and a run"
    with pytest.warns(EstimationWarning, match=told):
        simulate(str(file), out, progress=False)
    assert blocks < set((out / "blocks").iterdir())
    simulate(str(file), out, replications=5, progress=False)  # no warning: that is an error here


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("text_effect = 2.0\n[estimators", "text_effect=0.5, here text_effect=2.0"),
        ("readers = 3\n[estimators", "readers=1, here readers=3"),
    ],
)
def test_a_setting_that_no_label_tells_makes_another_study(
    file: Path, tmp_path: Path, change: str, said: str
) -> None:
    out = tmp_path / "results"
    simulate(str(file), out, progress=False)
    held = {p.name: p.read_bytes() for p in out.glob("*.*")}
    text = file.read_text()
    file.write_text(text.replace("[estimators", change, 1))
    with pytest.raises(OutputError, match=f"designs 'near' of other settings .{said}"):
        simulate(str(file), out, progress=False)
    assert {p.name: p.read_bytes() for p in out.glob("*.*")} == held


def test_settings_of_designs_are_told_in_full_and_alike_in_every_process() -> None:
    """Two worlds of one label: what differs is named, arrays by their digest."""
    seen = [confounded_log(2.0, seen=s) for s in (False, True)]
    assert seen[0].label == seen[1].label
    studies = [
        Study(designs={"d": one}, estimators={"H": IPW()}, sizes=(50,), replications=2)
        for one in seen
    ]
    facts = [json.loads(json.dumps(study_facts(one))) for one in studies]
    assert facts[0] == json.loads(json.dumps(study_facts(studies[0])))
    assert other_than(facts[0], facts[0]) is None
    assert str(other_than(facts[0], facts[1])).startswith("designs 'd' of other settings (")
    older = {key: value for key, value in facts[1].items() if key != "design_settings"}
    assert other_than(facts[0], older) is None


def test_facts_of_an_older_version_and_of_every_shipped_study() -> None:
    for name in STUDIES:
        facts = json.loads(json.dumps(study_facts(named_study(name, quick=True))))
        assert " at 0x" not in str(facts)
        full = study_facts(named_study(name))
        assert other_than(full, facts) is None  # a quick look is the same study
        del facts["estimators"]
        assert other_than(full, facts) is None
    assert other_than(full, {"best_values": 1}) == "facts that this version does not know"


SEVERAL = """
sizes = [40, 50, 60]
replications = 2
[designs.near]
world = "gaussian"
[designs.far]
world = "gaussian"
shift = 0.8
[estimators.H]
kind = "hajek"
"""


@pytest.mark.parametrize("toml", [TOML, SEVERAL], ids=["one cell", "designs and sizes"])
def test_plots_are_written_beside_the_table(tmp_path: Path, toml: str) -> None:
    file = tmp_path / "study.toml"
    file.write_text(toml)
    text = simulate(str(file), tmp_path / "out", progress=False)
    assert text.endswith("summary.csv  bias.svg  coverage.svg  report.md  report.html\n")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2
    told = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "replications tell a coverage of 95% to about" in told
    assert "| Reading |" in told
    for name in ("bias", "coverage"):
        svg = (tmp_path / "out" / f"{name}.svg").read_text()
        assert svg.startswith("<svg ")
        assert "Rows: 60. Figures: summary.csv." in svg
    simulate(str(file), tmp_path / "out", progress=False)  # a folder with plots is a study's


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({}, "as stated"),
        ({"coverage": 0.5}, "covers too little"),
        ({"coverage": 1.0}, "covers more than stated"),
        ({"coverage": 1.0, "replications": 30}, "as stated"),  # Wilson: .886 to 1
        ({"bias": -0.4}, "as stated; biased (2.0 sd)"),
        ({"coverage": math.nan, "bias": 0.4}, "biased (2.0 sd)"),
        ({"failures": 3}, "as stated; 3 replications failed"),
    ],
)
def test_a_line_is_read_in_words(row: dict[str, float], said: str) -> None:
    sound = {"bias": 0.01, "bias_mc_se": 0.02, "sd": 0.2, "coverage": 0.93, "replications": 150}
    assert reading(sound | row, 0.95).startswith(said)


def test_a_study_without_intervals_has_no_plot_of_coverage(tmp_path: Path) -> None:
    study = Study({"d": GaussianDesign()}, {"mean": plain_mean}, [40], 3)
    files = study_files(study.run(progress=False))
    assert set(files) == {"bias.svg", "report.html", "report.md"}


def plain_mean(log: SimulatedLog) -> dict[str, float]:
    return {"value": float(log.y.mean())}


def test_every_shipped_study_is_listed() -> None:
    listed = list_studies().splitlines()
    assert [line for line in listed if not line.startswith(" ")] == list(STUDIES)
