"""The folder is written whole or not at all."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from causal_lm_opt._run.output import FILES, OutputError, csv_text, json_text, write_folder

from .conftest import Files, Run, make_draws

Refused = Callable[..., str]
NEW = dict.fromkeys(FILES, "new")


def content(folder: Path) -> dict[str, str]:
    return {p.name: p.read_text(encoding="utf-8") for p in folder.iterdir()}


def test_a_run_writes_four_files(files: Files, run: Run) -> None:
    out = files.folder / "deep" / "er"
    result = run([*files.evaluate, "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert {p.name for p in out.iterdir()} == set(FILES)
    assert [p.name for p in out.parent.iterdir()] == ["er"]


def test_rerun_refuses_and_keeps_the_old(files: Files, run: Run, refused: Refused) -> None:
    run([*files.evaluate, *files.out()])
    before = content(files.folder / "out")
    line = refused([*files.evaluate, *files.out()], code=3)
    assert "--overwrite" in line
    assert content(files.folder / "out") == before
    assert run([*files.evaluate, *files.out(), "--overwrite", "--level", "0.9"]).exit_code == 0
    assert content(files.folder / "out") != before


def test_the_folder_is_checked_before_the_work(
    files: Files, run: Run, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    run([*files.evaluate, *files.out()])

    def worked(*_: object) -> None:
        raise AssertionError("evaluated although the folder was taken")

    monkeypatch.setattr("causal_lm_opt._run.log.evaluate_file", worked)
    refused([*files.evaluate, *files.out()], code=3)


def test_an_empty_folder_is_used(files: Files, run: Run) -> None:
    (files.folder / "out").mkdir()
    assert run([*files.evaluate, *files.out()]).exit_code == 0


def test_overwrite_spares_folders_of_other_things(files: Files, refused: Refused) -> None:
    out = files.folder / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work", encoding="utf-8")
    line = refused([*files.evaluate, *files.out(), "--overwrite"], code=3)
    assert "thesis.tex" in line
    assert content(out) == {"thesis.tex": "years of work"}


def test_a_file_the_current_folder_or_one_above(
    files: Files, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "not a folder" in refused([*files.evaluate, "--out", str(files.log)], code=3)
    below = files.folder / "below"
    below.mkdir()
    monkeypatch.chdir(below)
    for name in (".", ".."):
        line = refused([*files.evaluate, "--out", name, "--overwrite"], code=3)
        assert "current folder" in line
    assert "cannot be written" in refused(
        [*files.evaluate, "--out", str(files.log / "out")], code=3
    )


def test_bad_input_keeps_an_old_folder(files: Files, run: Run, refused: Refused) -> None:
    run([*files.evaluate, *files.out()])
    before = content(files.folder / "out")
    files.log.write_text("text,y\n", encoding="utf-8")
    refused([*files.evaluate, *files.out(), "--overwrite"])
    assert content(files.folder / "out") == before


def test_interrupted_work_leaves_nothing(
    files: Files, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("causal_lm_opt._run.log.evaluate_file", interrupted)
    assert "interrupted" in refused([*files.evaluate, *files.out()], code=130)
    assert not [p for p in files.folder.iterdir() if p.is_dir()]


@pytest.mark.parametrize("failing", range(1, 3))
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_a_failed_rename_keeps_the_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int, error: BaseException
) -> None:
    out = write_folder(tmp_path / "out", dict.fromkeys(FILES, "old"), overwrite=False)
    calls, rename = [], os.rename

    def sometimes(*paths: object) -> None:
        calls.append(paths)
        if len(calls) == failing:
            raise error
        rename(*paths)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "rename", sometimes)
    with pytest.raises((KeyboardInterrupt, OutputError)):
        write_folder(out, NEW, overwrite=True)
    assert content(out) == dict.fromkeys(FILES, "old")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_keeps_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = write_folder(tmp_path / "out", dict.fromkeys(FILES, "old"), overwrite=False)
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.name == "diagnostics.json":
            raise OSError(28, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="No space left"):
        write_folder(out, NEW, overwrite=True)
    assert content(out) == dict.fromkeys(FILES, "old")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_link_to_a_folder_is_followed(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    write_folder(tmp_path / "link", NEW, overwrite=False)
    assert content(real) == NEW
    assert (tmp_path / "link").is_symlink()


def test_new_folders_follow_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        out = write_folder(tmp_path / "out", NEW, overwrite=False)
    finally:
        os.umask(old)
    assert out.stat().st_mode & 0o777 == 0o750


def test_formulas_are_defused_in_csv(files: Files, run: Run) -> None:
    names = ["=cmd()", "+1", "-1+2", "@x", "\tt"]
    drawn = make_draws().query("policy == 'warm'")
    pd.concat([drawn.assign(policy=name) for name in names]).to_csv(files.draws, index=False)
    log = ["evaluate", str(files.log), "--outcome", "y", "--draws", str(files.draws)]
    result = run([*log, *files.out()])
    assert result.exit_code == 0, result.output
    for file, number in (("estimates.csv", "value"), ("contrasts.csv", "difference")):
        with (files.folder / "out" / file).open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert {"'" + name for name in names} <= {r["policy"] for r in rows}
        assert all(math.isfinite(float(r[number])) for r in rows)


def test_negative_numbers_stay_numbers() -> None:
    rows = [[-1.5, "-x"], [None, "@y"], [float("nan"), "z"], [-2, "=w"]]
    assert csv_text(["a", "b"], rows) == "a,b\n-1.5,'-x\n,'@y\n,z\n-2,'=w\n"


def test_json_is_strict() -> None:
    text = json_text({"a": [float("nan"), float("-inf"), 1.5], "b": {"c": True, "d": None}})
    assert json.loads(text) == {"a": [None, None, 1.5], "b": {"c": True, "d": None}}


def test_a_closed_pipe_is_quiet(files: Files) -> None:
    command = [sys.executable, "-m", "causal_lm_opt.cli", *files.evaluate, *files.out()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        stderr = process.stderr.read()
        process.stderr.close()
        code = process.wait(timeout=60)
    assert (code, stderr) == (0, b"")
    assert (files.folder / "out/report.html").is_file()


def test_importing_the_command_line_is_quick() -> None:
    code = (
        "import sys, causal_lm_opt.cli; "
        "print({'numpy', 'pandas', 'sklearn', 'scipy', 'statsmodels'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("arguments", [["--help"], ["evaluate", "--help"], ["demo", "--help"]])
def test_help_tells_the_exit_codes(run: Run, arguments: list[str]) -> None:
    result = run(arguments)
    assert result.exit_code == 0
    told = " ".join(result.stdout.split())
    assert "Exit codes: 0 done; 2 bad" in told
    assert "130 interrupted" in told


def test_version(run: Run) -> None:
    from causal_lm_opt import __version__

    result = run(["--version"])
    assert (result.exit_code, result.stdout) == (0, f"causal-lm-opt {__version__}\n")
