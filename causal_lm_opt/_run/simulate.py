"""Simulation studies from the command line."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from causal_lm_opt._run.output import OutputError, json_text
from causal_lm_opt._run.terminal import printable
from causal_lm_opt.simulation._blocks import clear_unfinished, unfinished_of, write_atomically
from causal_lm_opt.simulation._facts import other_than, study_facts
from causal_lm_opt.simulation.studies import STUDIES, named_study
from causal_lm_opt.simulation.study import StudyResult

__all__ = ["check_name", "check_study_folder", "list_studies", "simulate", "write_plots"]

#: What a study writes; a folder that holds anything else is not a study's.
FILES = (
    *("blocks", "replications.csv.gz", "study.json", "summary.csv"),
    *("bias.svg", "coverage.svg"),
)
#: What a plot shows, for those who cannot see it.
TITLES: dict[Literal["bias", "coverage"], str] = {
    "bias": "Bias by estimator",
    "coverage": "Coverage of the intervals by estimator",
}
SHOWN = (
    *("design", "n", "estimator", "bias", "bias_mc_se", "sd", "se_over_sd"),
    *("coverage", "coverage_mc_se", "share trustworthy"),
)


def list_studies() -> str:
    """Names of the shipped studies and what each shows."""
    return "".join(f"{name}\n    {make().about}\n" for name, make in STUDIES.items())


def check_name(name: str, others: Sequence[str]) -> None:
    """Whether a name is that of a study with estimators, or of a ``.toml`` file.

    Raises
    ------
    ValueError
        Naming all studies, the ``others`` too.
    """
    if not name.endswith(".toml") and name not in STUDIES:
        raise ValueError(
            f"study {name!r} is not known; use {', '.join((*STUDIES, *others))}, or the path of a "
            ".toml file"
        )


def simulate(
    name: str,
    out: str | Path,
    *,
    replications: int | None = None,
    seed: int = 0,
    jobs: int = 1,
    quick: bool = False,
    progress: bool = True,
) -> str:
    """Run a study, or what of it is not in ``out`` yet; return the text to print.

    Parameters
    ----------
    name : str
        A shipped study or the path of a ``.toml`` file.
    out : path
        New, empty, or the folder of an earlier run (whose finished blocks are used where they are
        of the same study).
    replications, seed, jobs, quick
        As in :func:`~causal_lm_opt.simulation.studies.named_study` and ``Study.run``.
    progress : bool
        Show a progress bar on stderr.

    Raises
    ------
    OutputError
        The folder holds something else or another study (of other designs, estimators, seed or
        level), or cannot be written.
    ValueError
        An unknown study or a bad file.
    """
    study = named_study(name, replications=replications, seed=seed, quick=quick)
    folder = check_study_folder(out)
    facts = study_facts(study)
    held = _held_facts(folder, facts, out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        clear_unfinished(folder)
        if held is None:  # so that also a run that is stopped says whose blocks these are
            write_atomically(folder / "study.json", json_text(facts).encode())
        result = study.run(folder, jobs=jobs, progress=progress)
        drawn = write_plots(result, folder)
    except KeyboardInterrupt as error:
        error.add_note(f"Finished blocks are kept in {folder}: run again to go on.")
        raise
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error.strerror or error}") from error
    return _text(result, folder, drawn) + _replaced(held or {}, facts)


def write_plots(result: StudyResult, folder: Path) -> list[str]:
    """Write ``bias.svg`` and, where there are intervals, ``coverage.svg``; return their names.

    A study with more than two settings of both designs and sizes is drawn at its largest size.
    """
    from causal_lm_opt import plots  # loads matplotlib

    table = result.summary
    if table["design"].nunique() > 1 and table["n"].nunique() > 2:
        table = table[table["n"] == table["n"].max()]
    at = ", ".join(f"{n:,}" for n in dict.fromkeys(table["n"]))
    written = []
    for y, title in TITLES.items():
        if not np.isfinite(table[y].to_numpy(dtype=np.float64)).any():
            (folder / f"{y}.svg").unlink(missing_ok=True)
            continue
        ax: Any = plots.plot_study(table, y=y, level=result.study.level, ax=plots.new_axes(3.8))
        svg = plots.to_svg(
            ax.figure, key=y, title=title, description=f"Rows: {at}. Figures: summary.csv."
        )
        write_atomically(folder / f"{y}.svg", (svg + "\n").encode())
        written.append(f"{y}.svg")
    return written


def check_study_folder(out: str | Path) -> Path:
    """The folder, if it is new, empty, or a study's (a killed run's unfinished files too).

    Raises
    ------
    OutputError
    """
    folder = Path(out).expanduser().resolve()
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{out} exists and is not a folder; give another --out")
    held = os.listdir(folder) if folder.is_dir() else []
    strange = sorted(name for name in held if (unfinished_of(name) or name) not in FILES)
    if strange:
        raise OutputError(f"{out} holds {strange[0]!r}, which no study wrote; give another --out")
    return folder


def _held_facts(folder: Path, facts: Mapping[str, Any], out: str | Path) -> dict[str, Any] | None:
    """What the folder says of the study it holds; ``None`` where it says nothing.

    Raises
    ------
    OutputError
        It is another study than that of ``facts``.
    """
    file = folder / "study.json"
    if not file.is_file():
        return None
    try:
        held = json.loads(file.read_bytes())
    except ValueError:
        held = None
    other = other_than(facts, held)
    if other is not None:
        done = "a finished" if (folder / "summary.csv").exists() else "an unfinished"
        raise OutputError(f"{out} holds {done} study of {other}; give another --out")
    return dict(held)


def _replaced(held: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """A line on what an earlier run's tables held and these do not."""
    fewer = int(held.get("replications", 0)) > facts["replications"]
    if not fewer and set(held.get("sizes", ())) <= set(facts["sizes"]):
        return ""
    sizes = ", ".join(f"{n:,}" for n in held["sizes"])
    return (
        f"The tables of {held['replications']:,} replications of {sizes} rows are replaced; their "
        "blocks are kept, and a run of them takes these up.\n"
    )


def _text(result: StudyResult, folder: Path, drawn: list[str]) -> str:
    shown = [c for c in SHOWN if c in result.summary]
    lines = [printable(result.study.about), ""] if result.study.about else []
    lines += [printable(row) for row in _rows(result.summary[shown])]
    lines += ["", f"Written to {printable(str(folder))}:"]
    tables = ["replications.csv.gz", "study.json", "summary.csv"]
    lines.append("  " + "  ".join([*tables, *drawn]))
    return "\n".join(lines) + "\n"


def _rows(table: pd.DataFrame) -> list[str]:
    return str(table.round(4).to_string(index=False)).splitlines()
