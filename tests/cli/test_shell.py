"""What surrounds a run: interrupts, full disks, progress, completion, help."""

from __future__ import annotations

import io
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pytest

from causal_lm_opt._run import optimize, score, simulate
from causal_lm_opt._run.interrupts import interrupts_kept
from causal_lm_opt._run.output import FORMULA, OutputError, check_output, csv_text
from causal_lm_opt.estimators import _progress
from causal_lm_opt.estimators._progress import progress_shown, track
from causal_lm_opt.logged import LoggedData

from .conftest import Files, Run, subprocess_run

CLI = [sys.executable, "-W", "error", "-m", "causal_lm_opt.cli"]


def folders(files: Files) -> list[str]:
    return [p.name for p in files.folder.iterdir() if p.is_dir()]


# ------------------------------------------------------------------------------ interrupts
def stop(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_ctrl_c_in_a_study_says_once_what_is_kept(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulate, "simulate", stop)
    out = tmp_path / "out"
    done = run(["simulate", "overlap", "--out", str(out)])
    assert (done.exit_code, done.stderr) == (130, "interrupted; nothing was written\n")
    out.mkdir()
    done = run(["simulate", "overlap", "--out", str(out)])
    none = "interrupted; run again to go on, no block was finished yet\n"
    assert (done.exit_code, done.stderr) == (130, none)
    (out / "blocks").mkdir()
    (out / "blocks" / "one.json.gz").touch()
    done = run(["simulate", "overlap", "--out", str(out)])
    kept = f"interrupted; run again to go on, finished blocks are in {out}\n"
    assert (done.exit_code, done.stderr) == (130, kept)


def test_ctrl_c_in_scoring_says_once_what_is_kept(
    files: Files, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score, "score_file", stop)
    done = run(["score", str(files.log), "--model", "none", "--out", str(files.folder / "s.csv")])
    kept = "interrupted; run again to go on, scores so far are kept\n"
    assert (done.exit_code, done.stderr) == (130, kept)


def test_ctrl_c_in_training_promises_no_folder_that_is_not_there(
    files: Files, tmp_path: Path
) -> None:
    class Stopped:
        fit = staticmethod(stop)

    log = LoggedData.read(files.log, text="text", outcome="y")
    for folder, notes in ((tmp_path / "none", 0), (tmp_path, 1)):
        with pytest.raises(KeyboardInterrupt) as stopped:
            optimize._fit(cast(Any, Stopped()), log, folder)
        assert len(getattr(stopped.value, "__notes__", ())) == notes


def test_a_folder_of_another_study_is_refused(tmp_path: Path, run: Run) -> None:
    (tmp_path / "study.json").write_text('{"designs": {"near": "x"}, "seed": 0}')
    done = run(["simulate", "overlap", "--quick", "--out", str(tmp_path)])
    assert done.exit_code == 3
    assert f"error: {tmp_path} holds an unfinished study of designs 'near'; give" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["study.json"]


# ------------------------------------------------------------------------------ output
@pytest.mark.parametrize("where", ["_put_in_place", "file_facts"])
def test_ctrl_c_in_a_real_process_leaves_nothing(files: Files, where: str) -> None:
    module = "provenance" if where == "file_facts" else "output"
    code = (
        "import os, signal, sys, time\n"
        # A shell's background job would hand on that it ignores the signal.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"import causal_lm_opt._run.{module} as module\n"
        "def stop(*_, **__):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(30)\n"
        f"module.{where} = stop\n"
        "from causal_lm_opt.cli import main\n"
        f"sys.argv = ['causal-lm-opt', 'evaluate', {str(files.log)!r}, '--outcome', 'y', "
        f"'--out', {str(files.folder / 'new' / 'out')!r}]\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 130
    assert done.stderr == "error: interrupted; nothing was written\n"
    assert folders(files) == []


def test_ctrl_c_that_falls_into_a_destructor_is_not_lost(files: Files) -> None:
    code = (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import causal_lm_opt._run.log as module\n"
        "class Bar:\n"
        "    def __del__(self):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        time.sleep(1)\n"
        "def work(*_, **__):\n"
        "    Bar()\n"
        "    print('it went on', file=sys.stderr)\n"
        "    time.sleep(30)\n"
        "module.evaluate_file = work\n"
        "from causal_lm_opt.cli import main\n"
        f"sys.argv = ['causal-lm-opt', 'evaluate', {str(files.log)!r}, '--outcome', 'y', "
        f"'--out', {str(files.folder / 'new')!r}]\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=25, check=False
    )
    assert done.returncode == 130
    assert done.stderr == "it went on\nerror: interrupted; nothing was written\n"


def test_what_else_a_destructor_raises_is_shown_as_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[type] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda ignored: seen.append(ignored.exc_type))
    before = sys.unraisablehook

    class Broken:
        def __del__(self) -> None:
            raise ValueError

    with interrupts_kept():
        Broken()
    assert seen == [ValueError]
    assert sys.unraisablehook is before


def test_a_full_disk_in_a_real_process_leaves_nothing(files: Files) -> None:
    def no_more_than_four_kilobytes() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    done = subprocess.run(
        [*CLI, "evaluate", str(files.log), "--outcome", "y", "--out", str(files.folder / "a/out")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=no_more_than_four_kilobytes,
    )
    assert done.returncode == 3, done.stderr
    (line,) = done.stderr.splitlines()
    assert "cannot be written: File too large" in line
    assert folders(files) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_summary_that_cannot_be_printed(files: Files) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            [*CLI, "evaluate", str(files.log), "--outcome", "y", *files.out()],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 3
    assert done.stderr == "error: the summary cannot be printed: No space left on device\n"
    assert (files.folder / "out/report.html").is_file()


def test_links_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(OutputError, match=r"circle.*(cannot be written|not a folder)"):
        check_output(tmp_path / "circle" / "out", overwrite=False)
    (tmp_path / "file").write_text("", encoding="utf-8")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with pytest.raises(OutputError, match="not a folder"):
        check_output(tmp_path / "link", overwrite=True)
    (tmp_path / "dangling").symlink_to(tmp_path / "new")
    assert check_output(tmp_path / "dangling", overwrite=False) == tmp_path / "new"


def test_a_folder_of_an_impossible_name_and_one_that_refuses(
    files: Files, refused: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OutputError, match="name too long"):
        check_output(files.folder / ("x" * 300), overwrite=False)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OutputError, match="no folder one may write to"):
        check_output(files.folder / "out", overwrite=False)


@pytest.mark.parametrize("sign", FORMULA)
def test_every_formula_sign_is_defused(sign: str) -> None:
    (row,) = csv_text(["a"], [[f"{sign}cmd|x"]]).split("\n", 1)[1:]
    assert row.lstrip('"').startswith("'")


# ------------------------------------------------------------------------------ progress
def test_bars_only_where_asked_and_only_late(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(track(range(3), 3, "things")) == [0, 1, 2]
    with progress_shown(True):
        assert list(track(range(3), 3, "things")) == [0, 1, 2]
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(_progress, "DELAY", 0.0)
    with progress_shown(True):
        assert list(track(range(3), 3, "things")) == [0, 1, 2]
    assert "things" in capsys.readouterr().err
    with progress_shown(False):
        assert list(track(range(3), 3, "things")) == [0, 1, 2]
    assert capsys.readouterr().err == ""


class _Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("quiet", [False, True])
def test_a_terminal_sees_bars_unless_quiet(
    files: Files, monkeypatch: pytest.MonkeyPatch, quiet: bool
) -> None:
    from causal_lm_opt.cli import app

    monkeypatch.setattr(_progress, "DELAY", 0.0)
    stderr = _Terminal()
    monkeypatch.setattr(sys, "stderr", stderr)
    options = ["--draws", str(files.draws), "--outcome-model", "ridge", "--feature", "length"]
    arguments = [*files.evaluate, *options, *files.out(), *(["--quiet"] if quiet else [])]
    with pytest.raises(SystemExit) as left:
        app(arguments, prog_name="causal-lm-opt")
    assert left.value.code == 0, stderr.getvalue()
    assert ("estimators" in stderr.getvalue()) != quiet


# ------------------------------------------------------------------------------ completion
@pytest.mark.parametrize(
    ("shell", "words", "expected"),
    [
        ("bash", {"COMP_WORDS": "causal-lm-opt eval", "COMP_CWORD": "1"}, "evaluate"),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "causal-lm-opt evaluate --outc"}, "--outcome"),
        (
            "fish",
            {"_TYPER_COMPLETE_ARGS": "causal-lm-opt ho", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
            "hong-kong",
        ),
    ],
)
def test_completion(
    run: Run, monkeypatch: pytest.MonkeyPatch, shell: str, words: dict[str, str], expected: str
) -> None:
    for name, value in words.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("_CAUSAL_LM_OPT_COMPLETE", f"complete_{shell}")
    result = run([])
    assert result.exit_code == 0
    assert expected in result.stdout
    monkeypatch.setenv("_CAUSAL_LM_OPT_COMPLETE", f"source_{shell}")
    assert f"complete_{shell}" in run([]).stdout


# ------------------------------------------------------------------------------ help
COMMANDS = ["evaluate", "demo", "hong-kong", "doctor"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_a_terminal_and_ends_with_an_example(run: Run, command: str) -> None:
    text = run([command, "--help"]).stdout
    assert max(map(len, text.splitlines())) <= 80
    assert f"\n    causal-lm-opt {command}" in text
    assert text.index("Example") > text.index("--help")


def test_help_groups_the_options_and_tells_every_default(run: Run) -> None:
    text = run(["evaluate", "--help"]).stdout
    titles = re.findall(r"^(\w.*):$", text, flags=re.MULTILINE)
    assert titles[:5] == ["Arguments", "Columns of LOG", "Policies", "Method", "The run"]
    for option in re.split(r"\n  (?=--)", text)[1:]:
        name, flat = option.split()[0], " ".join(option.split())
        if name not in ("--support", "--overwrite", "--quiet", "--help"):
            assert "default: " in flat, name


def test_the_example_of_the_help_works(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = run(["evaluate", "--help"]).stdout
    example = text[text.index("  causal-lm-opt evaluate") :].split("\n\n")[0]
    words = example.replace("\\\n", " ").split()[1:]
    words[words.index("--out") + 1] = str(tmp_path / "result")
    monkeypatch.chdir(Path(__file__).parents[2])
    result = run(words)
    assert (result.exit_code, result.stderr) == (0, "")
    found = pd.read_csv(tmp_path / "result/estimates.csv")
    assert {"friendly", "less_cost", "neighbours_and_easy"} < set(found["policy"])


# ------------------------------------------------------------------------------ doctor
def test_doctor_in_a_real_process(tmp_path: Path) -> None:
    import json

    (tmp_path / "hong_kong_2019.csv").write_text("x", encoding="utf-8")
    done = subprocess_run(["doctor", "--json"], CAUSAL_LM_OPT_DATA=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["works"]
    assert found["problem"] is None
    assert {"python", "numpy", "torch"} <= set(found["versions"])
    states = {file["name"]: file["state"] for file in found["data"]["files"]}
    assert states["hong_kong_2019.csv"] == "readable"
    assert states["upworthy_headlines.parquet"] == "not there"
    assert [p.name for p in tmp_path.iterdir()] == ["hong_kong_2019.csv"]


def test_doctor_says_what_is_lacking(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from causal_lm_opt._run import doctor

    monkeypatch.delenv("CAUSAL_LM_OPT_DATA", raising=False)
    monkeypatch.setattr(doctor, "find_spec", lambda _: None)
    monkeypatch.setattr(doctor, "requires", lambda _: ['torch-nonesuch>=1; extra == "lm"'])
    result = run(["doctor"])
    assert result.exit_code == 0
    assert "the core works" in result.stdout
    assert 'lacks torch-nonesuch: pip install "causal_lm_opt[lm]"' in result.stdout
    assert "not installed; the core needs none" in result.stdout
    assert "not set" in result.stdout


def test_doctor_of_a_broken_core(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from causal_lm_opt._run import doctor

    def broken(*_: object, **__: object) -> None:
        raise OSError("libopenblas.so: cannot open")

    monkeypatch.setattr("causal_lm_opt.IPW.fit", broken)
    monkeypatch.setattr(doctor, "_torch", lambda: {"problem": "no such device"})
    result = run(["doctor"])
    assert result.exit_code == 1
    assert "DOES NOT WORK: OSError: libopenblas.so" in result.stdout
    assert "does not start: no such device" in result.stdout
