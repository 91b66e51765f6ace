"""Simulation studies from the command line."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from causal_lm_opt._run.output import OutputError
from causal_lm_opt._run.terminal import printable
from causal_lm_opt.simulation.studies import STUDIES, named_study
from causal_lm_opt.simulation.study import StudyResult

__all__ = ["check_study_folder", "list_studies", "simulate"]

#: What a study writes; a folder that holds anything else is not a study's.
FILES = ("blocks", "replications.csv.gz", "study.json", "summary.csv")
SHOWN = (
    *("design", "n", "estimator", "bias", "bias_mc_se", "sd", "se_over_sd"),
    *("coverage", "coverage_mc_se", "share trustworthy"),
)


def list_studies() -> str:
    """Names of the shipped studies and what each shows."""
    return "".join(f"{name}\n    {make().about}\n" for name, make in STUDIES.items())


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
        The folder holds something else, or cannot be written.
    ValueError
        An unknown study or a bad file.
    """
    study = named_study(name, replications=replications, seed=seed, quick=quick)
    folder = check_study_folder(out)
    try:
        result = study.run(folder, jobs=jobs, progress=progress)
    except KeyboardInterrupt as error:
        error.add_note(f"Finished blocks are kept in {folder}: run again to go on.")
        raise
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error.strerror or error}") from error
    return _text(result, folder)


def check_study_folder(out: str | Path) -> Path:
    """The folder, if it is new, empty, or a study's.

    Raises
    ------
    OutputError
    """
    folder = Path(out).expanduser().resolve()
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{out} exists and is not a folder; give another --out")
    held = os.listdir(folder) if folder.is_dir() else []
    strange = sorted(set(held) - set(FILES))
    if strange:
        raise OutputError(f"{out} holds {strange[0]!r}, which no study wrote; give another --out")
    return folder


def _text(result: StudyResult, folder: Path) -> str:
    shown = [c for c in SHOWN if c in result.summary]
    lines = [printable(result.study.about), ""] if result.study.about else []
    lines += [printable(row) for row in _rows(result.summary[shown])]
    lines += ["", f"Written to {printable(str(folder))}:"]
    lines.append("  " + "  ".join(f for f in FILES if f != "blocks"))
    return "\n".join(lines) + "\n"


def _rows(table: pd.DataFrame) -> list[str]:
    return str(table.round(4).to_string(index=False)).splitlines()
