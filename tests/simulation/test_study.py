"""The study engine: the same figures whoever computes them, in whatever order and however often."""

from __future__ import annotations

import gzip
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

from causal_lm_opt import IPW, DoublyRobust, EstimationWarning, OverlapError
from causal_lm_opt.exceptions import DataError
from causal_lm_opt.simulation import (
    STUDIES,
    GaussianDesign,
    Study,
    confounded_log,
    named_study,
    run_study,
    study_from_toml,
)
from causal_lm_opt.simulation import _blocks as engine
from causal_lm_opt.simulation.study import summarise

STUDY = Study(
    designs={"near": GaussianDesign("linear", shift=0.3), "chosen": confounded_log(1.0)},
    estimators={"Hajek": IPW(), "DR": DoublyRobust(LinearRegression(), inference="influence")},
    sizes=(60,),
    replications=12,
    seed=3,
)
BLOCK = 3


def run(out: Path | None = None, jobs: int = 1, study: Study = STUDY) -> Any:
    return study.run(out, jobs=jobs, block=BLOCK, progress=False)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("unbroken")
    run(out)
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if not p.is_dir()}


# ---------------------------------------------------------------- who computes
def test_two_workers_write_the_same_bytes(unbroken: Path, tmp_path: Path) -> None:
    run(tmp_path, jobs=2)
    assert contents(tmp_path) == contents(unbroken)


def test_nothing_on_disk_gives_the_same_table(unbroken: Path) -> None:
    result = run()
    assert result.summary.to_csv(index=False).encode() == (unbroken / "summary.csv").read_bytes()


def test_another_back_end_gives_the_same_table(unbroken: Path) -> None:
    with joblib.parallel_config(backend="threading", n_jobs=2):
        result = STUDY.run(jobs=None, block=BLOCK, progress=False)
    assert result.summary.to_csv(index=False).encode() == (unbroken / "summary.csv").read_bytes()


def test_figures_follow_from_names_not_from_order() -> None:
    full = run().replications.set_index(["design", "n", "estimator", "replication"])
    fewer = Study(
        designs={"other": GaussianDesign(shift=0.1), "chosen": STUDY.designs["chosen"]},
        estimators={"DR": STUDY.estimators["DR"]},  # type: ignore[index]
        sizes=(60,),
        replications=5,
        seed=3,
    )
    rows = run(study=fewer).replications.set_index(["design", "n", "estimator", "replication"])
    rows = rows.loc[["chosen"]]
    pd.testing.assert_frame_equal(
        rows[["value", "low"]], full.loc[rows.index, ["value", "low"]], check_exact=True
    )


def test_designs_and_seeds_have_their_own_random_numbers() -> None:
    twins = Study({"a": GaussianDesign(), "b": GaussianDesign()}, {"H": IPW()}, [50], 4)
    values = run(study=twins).replications["value"]
    assert values.nunique() == 8
    other = run_study(twins.designs, twins.estimators, sizes=[50], replications=4, seed=1,
                      progress=False)  # fmt: skip
    assert not set(other.replications["value"]) & set(values)


# ---------------------------------------------------------------- interrupted
def blocks(folder: Path) -> list[Path]:
    return sorted((folder / "blocks").glob("*.json.gz"))


def test_killed_three_times_and_resumed(unbroken: Path, tmp_path: Path) -> None:
    """SIGKILL once 2, 4 and 6 of 8 blocks are there; the last run finds the rest to do."""
    out = tmp_path / "out"
    code = (
        "import importlib.util, sys, time\n"
        f"spec = importlib.util.spec_from_file_location('settings', {str(Path(__file__))!r})\n"
        "settings = importlib.util.module_from_spec(spec)\n"
        "sys.modules['settings'] = settings\n"
        "spec.loader.exec_module(settings)\n"
        "one = settings.engine._run\n"
        "def slowly(*arguments):\n"
        "    time.sleep(.1)\n"
        "    return one(*arguments)\n"
        "settings.engine._run = slowly\n"
        "settings.run(sys.argv[1])\n"
    )
    for wanted in (2, 4, 6):
        process = subprocess.Popen([sys.executable, "-c", code, str(out)])
        deadline = time.monotonic() + 60
        while len(blocks(out)) < wanted and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert wanted <= len(blocks(out)) < 8
        assert not (out / "summary.csv").exists()
    run(out)
    assert contents(out) == contents(unbroken)


def test_interrupted_by_the_keyboard(
    unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, seen = engine._run, []

    def interrupted(*arguments: Any) -> Any:
        if len(seen) == 4:
            raise KeyboardInterrupt
        seen.append(arguments)
        return one(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(engine, "_run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path)
    assert len(blocks(tmp_path)) == 4
    before = {p: p.stat().st_mtime_ns for p in blocks(tmp_path)}
    run(tmp_path)
    assert contents(tmp_path) == contents(unbroken)
    assert all(p.stat().st_mtime_ns == t for p, t in before.items())  # not made again


def damages() -> Iterator[tuple[str, Any]]:
    yield "empty", lambda content: b""
    yield "cut off", lambda content: content[: len(content) // 2]
    yield "no gzip", lambda content: b"x" + content[1:]
    yield "another value", lambda content: changed(content)
    yield "no digest", lambda content: gzip.compress(b'{"columns": {}}')


def changed(content: bytes) -> bytes:
    held = json.loads(gzip.decompress(content))
    held["columns"]["value"][0] += 1.0
    return gzip.compress(json.dumps(held).encode())


@pytest.mark.parametrize(("name", "damage"), list(damages()), ids=[d[0] for d in damages()])
def test_a_damaged_block_is_made_again(unbroken: Path, name: str, damage: Any) -> None:
    before = contents(unbroken)
    victim = blocks(unbroken)[1]
    victim.write_bytes(damage(victim.read_bytes()))
    run(unbroken)
    assert contents(unbroken) == before


def test_the_folder_of_another_study_is_refused(tmp_path: Path) -> None:
    few = {"near": GaussianDesign(shift=0.3)}
    run(tmp_path, study=Study(few, {"H": IPW()}, [50], 4))
    before = contents(tmp_path)
    for other, said in (
        (Study(few, {"H": IPW("ht")}, [50], 4), "estimators 'H' of other settings"),
        (Study(few, {"H": IPW()}, [50], 4, seed=1), "seed 0"),
        (Study(few, {"H": IPW()}, [50], 4, level=0.9), "level 0.95"),
        (Study({"near": GaussianDesign(shift=0.4)}, {"H": IPW()}, [50], 4), "designs 'near' of"),
    ):
        with pytest.raises(ValueError, match=rf"holds a finished study of {said}.*; give another"):
            run(tmp_path, study=other)
    assert contents(tmp_path) == before
    more = Study(few, {"H": IPW()}, [50, 60], 8)
    assert run(tmp_path, study=more).summary.equals(run(study=more).summary)


def test_a_result_written_by_hand_replaces_no_other_study(tmp_path: Path) -> None:
    few = {"near": GaussianDesign(shift=0.3)}
    one, other = (run(study=Study(few, {"H": IPW()}, [50], 4, seed=seed)) for seed in (0, 1))
    one.write(tmp_path)
    one.write(tmp_path)  # its own again
    before = (tmp_path / "summary.csv").read_bytes()
    with pytest.raises(ValueError, match="holds a finished study of seed 0; give another out"):
        other.write(tmp_path)
    assert (tmp_path / "summary.csv").read_bytes() == before


def test_blocks_of_another_study_are_not_used(tmp_path: Path) -> None:
    few = {"near": GaussianDesign(shift=0.3)}
    study, other = (Study(few, {"H": IPW()}, [50], 4, seed=seed) for seed in (0, 1))
    run(tmp_path, study=study)
    made = contents(tmp_path)
    for name in ("study.json", "summary.csv", "replications.csv.gz"):
        (tmp_path / name).unlink()  # blocks alone, as a stopped run of an earlier version left
    with pytest.raises(ValueError, match=r"holds blocks without study\.json, none of which is of"):
        run(tmp_path, study=other)
    run(tmp_path, study=study)
    assert contents(tmp_path) == made
    cells = [cell for _, _, cell in other.cells()]  # also where somebody copied them together
    found = engine.run_cells(cells, out=tmp_path / "blocks", block=BLOCK, progress=False)
    assert len(blocks(tmp_path)) == 4
    assert found[0]["value"].tolist() == run(study=other).replications["value"].tolist()


def test_a_stopped_study_says_whose_its_blocks_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(engine, "_run", stop)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path)
    with pytest.raises(ValueError, match="holds an unfinished study of seed 3; give another out"):
        run(tmp_path, study=replace(STUDY, seed=4))
    run(tmp_path)
    (tmp_path / "study.json").write_text("[1]")
    with pytest.raises(ValueError, match="facts that this version does not know"):
        run(tmp_path)


# ---------------------------------------------------------------- what estimators may do
def refuses(log: Any) -> dict[str, float]:
    if log.y[0] > 1:
        raise OverlapError("no overlap")
    return {"value": float(log.y.mean())}


def fails(log: Any) -> dict[str, float]:
    raise RuntimeError("broken")


def no_number(log: Any) -> dict[str, float]:
    return {"value": math.nan}


def test_an_estimator_that_fails_on_every_log_is_told() -> None:
    study = Study({"d": GaussianDesign()}, {"f": no_number, "g": refuses}, [50], 20)
    with pytest.warns(EstimationWarning, match=r"^d, 50 rows: f failed on all 20 logs") as told:
        run(study=study)
    assert len(told) == 1


def test_an_error_names_the_estimator_and_the_design() -> None:
    study = Study({"d": GaussianDesign()}, {"f": DoublyRobust(LogisticRegression())}, [50], 20)
    with pytest.raises(ValueError, match=r"estimator 'f' in 'd', n = 50: outcome_model is a cla"):
        run(study=study)


@dataclass(frozen=True)
class Crooked:
    """A design with one thing wrong with it."""

    fault: str

    def value(self) -> Any:
        return {"nan": math.nan, "words": "much"}.get(self.fault, 0.0)

    def draw(self, n: int, rng: np.random.Generator) -> Any:
        log = GaussianDesign().draw(n, np.random.default_rng() if self.fault == "seed" else rng)
        return (log.X, log.y) if self.fault == "tuple" else log


@pytest.mark.parametrize(
    ("fault", "error", "said"),
    [
        ("nan", ValueError, r"design 'd': value\(\) is nan"),
        ("words", ValueError, r"design 'd': value\(\) is 'much'"),
        ("seed", ValueError, "design 'd': draw.* other outcomes from the same rng"),
        ("tuple", TypeError, "draw.* returned tuple.*return SimulatedLog"),
    ],
)
def test_a_crooked_design_is_met_in_words(fault: str, error: type, said: str) -> None:
    with pytest.raises(error, match=said):
        run(study=Study({"d": Crooked(fault)}, {"Hajek": IPW()}, [50], 4))


def test_refusals_are_counted_and_left_out() -> None:
    result = run(study=Study({"d": GaussianDesign()}, {"f": refuses}, [50], 40))
    row = result.summary.iloc[0]
    errors = result.replications["error"].notna()
    assert 5 < row["failures"] == errors.sum() < 35
    assert row["bias"] == pytest.approx(
        result.replications.loc[~errors, "value"].mean() - row["truth"]
    )
    assert math.isnan(row["coverage"])


def test_other_errors_end_the_study_and_name_the_cell() -> None:
    with pytest.raises(RuntimeError, match="broken") as caught:
        run(study=Study({"d": GaussianDesign()}, {"f": fails}, [50], 4))
    assert caught.value.__notes__ == ["in replication 0 of cell 'd-50'"]


def test_estimators_may_depend_on_the_design() -> None:
    study = Study(
        {"a": GaussianDesign(shift=0.1), "b": GaussianDesign(shift=0.2)},
        lambda design: {f"shift {design.shift}": IPW()},
        [50],
        2,
    )
    assert list(run(study=study).summary["estimator"]) == ["shift 0.1", "shift 0.2"]


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"designs": {}}, ValueError, "designs is empty"),
        ({"sizes": ()}, ValueError, "sizes is empty"),
        ({"replications": 1}, ValueError, "at least 2"),
        ({"level": 95}, ValueError, "level"),
        ({"designs": {"a": 3}}, TypeError, "draw"),
    ],
)
def test_bad_studies_are_refused(change: dict[str, Any], error: type, said: str) -> None:
    good: dict[str, Any] = {
        "designs": {"a": GaussianDesign()}, "estimators": {"H": IPW()}, "sizes": (50,)
    }  # fmt: skip
    with pytest.raises(error, match=said):
        Study(**(good | change))


# ---------------------------------------------------------------- the table
def test_figures_by_hand() -> None:
    rng = np.random.default_rng(0)
    value, se = rng.normal(1.0, 2.0, size=50), rng.uniform(1.5, 2.5, size=50)
    frame = pd.DataFrame(
        {"estimator": "a", "value": value, "se": se, "low": value - se, "high": value + 2 * se,
         "verdict": ["trustworthy"] * 20 + ["caution"] * 30}
    )  # fmt: skip
    (row,) = summarise(frame, truth=1.5)
    error = value - 1.5
    covered = (value - se <= 1.5) & (value + 2 * se >= 1.5)
    assert row["bias"] == pytest.approx(error.mean())
    assert row["bias_mc_se"] == pytest.approx(value.std(ddof=1) / math.sqrt(50))
    assert row["rmse"] == pytest.approx(math.sqrt((error**2).mean()))
    mse_se = math.sqrt(((error**2 - (error**2).mean()) ** 2).sum() / (50 * 49))
    assert row["rmse_mc_se"] == pytest.approx(mse_se / (2 * row["rmse"]))
    assert row["sd_mc_se"] == pytest.approx(value.std(ddof=1) / math.sqrt(98))
    assert row["se_over_sd"] == pytest.approx(se.mean() / value.std(ddof=1))
    assert row["coverage"] == covered.mean()
    assert row["width"] == pytest.approx(3 * se.mean())
    assert row["share trustworthy"] == 0.4
    assert row["coverage caution"] == covered[20:].mean()
    assert math.isnan(row["coverage do not use"])


def test_monte_carlo_errors_are_the_spread_of_the_figures() -> None:
    """400 tables of 200 replications: the sd of a figure against its mean error, to 15 %."""
    rng = np.random.default_rng(1)
    rows = []
    for _ in range(400):
        value, se = rng.normal(size=200), rng.uniform(0.7, 1.3, size=200)
        half = 1.96 * se
        frame = pd.DataFrame(
            {"estimator": "a", "value": value, "se": se, "low": value - half, "high": value + half}
        )
        rows += summarise(frame, truth=0.2)
    table = pd.DataFrame(rows)
    for figure in ("bias", "sd", "rmse", "se_over_sd", "coverage", "width"):
        stated = table[f"{figure}_mc_se"].mean()
        assert table[figure].std() == pytest.approx(stated, rel=0.15), figure


# ---------------------------------------------------------------- shipped and described studies
@pytest.mark.parametrize("name", STUDIES)
def test_shipped_studies_have_cells(name: str) -> None:
    study = named_study(name, quick=True, seed=4)
    assert study.replications == 40
    assert study.seed == 4
    assert len(list(study.cells())) == len(study.designs)
    assert study.about.endswith(".")


def test_an_unknown_study_is_named() -> None:
    with pytest.raises(ValueError, match="confounding"):
        named_study("no such")


TOML = """
sizes = [60]
replications = 3
[designs."strength 2"]
world = "confounded-log"
strength = 2.0
[estimators.DR]
kind = "dr"
outcome_model = "linear"
[estimators.H]
kind = "hajek"
"""


def test_a_study_from_toml(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text(TOML)
    study = named_study(str(file), replications=4)
    table = run(study=study).summary
    assert list(table["estimator"]) == ["DR", "H"]
    assert table["truth"].iloc[0] == pytest.approx(confounded_log(2.0).value())
    assert (table["replications"] == 4).all()


def test_estimators_of_texts_and_of_numbers_in_one_study(tmp_path: Path) -> None:
    """Each estimator is run on the designs that it names, and none on others."""
    worlds = '[designs.words]\nworld = "tokens"\n[designs.numbers]\nworld = "gaussian"\n'
    file = tmp_path / "study.toml"
    own = {"T": ("tfidf-ridge", "words"), "L": ("linear", "numbers")}
    kinds = "".join(
        f'[estimators.{k}]\nkind = "or"\noutcome_model = "{model}"\ndesigns = ["{design}"]\n'
        for k, (model, design) in own.items()
    )
    hajek = '[estimators.H]\nkind = "hajek"\n'
    file.write_text(f"sizes = [80]\nreplications = 2\n{worlds}{kinds}{hajek}")
    table = run(tmp_path / "out", study=study_from_toml(file)).summary
    found = set(zip(table["design"], table["estimator"], strict=True))
    assert found == {("words", "T"), ("words", "H"), ("numbers", "L"), ("numbers", "H")}
    file.write_text(f"sizes = [80]\n{worlds}{kinds}".replace('["words"]', '["numbers"]'))
    with pytest.raises(DataError, match=r"cannot read the numbers|no estimator is for it"):
        study_from_toml(file)
    file.write_text(f"sizes = [80]\n{worlds}{kinds}".replace('["words"]', '["word"]'))
    with pytest.raises(DataError, match="'word' is not among words, numbers"):
        study_from_toml(file)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("sizes", "size", "unknown key 'size'"),
        ("confounded-log", "moon", "world 'moon' is not known"),
        ("strength = 2.0", "strenght = 2.0", "strenght"),
        ('kind = "dr"', 'kind = "drr"', "kind 'drr' is not known"),
        ('outcome_model = "linear"', "", "outcome_model goes with"),
        ('outcome_model = "linear"', 'outcome_model = "net"', "'net' is not known"),
        ("[estimators.H]", "[estimators.H", "not a TOML file"),
        ("sizes = [60]", "sizes = 60", "sizes must list"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    file = tmp_path / "study.toml"
    file.write_text(TOML.replace(old, new))
    with pytest.raises(ValueError, match=said):
        study_from_toml(file)
