"""Simulation studies from the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from causal_lm_opt._run.optimize_files import write_files
from causal_lm_opt._run.study_folder import check_study_folder, study_run, warn_of_replaced
from causal_lm_opt._run.study_report import how_sure, study_files
from causal_lm_opt._run.terminal import printable
from causal_lm_opt.simulation._claim import read_facts
from causal_lm_opt.simulation._facts import study_facts
from causal_lm_opt.simulation.studies import STUDIES, named_study
from causal_lm_opt.simulation.study import StudyResult

__all__ = ["check_name", "list_studies", "simulate"]

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
        New, empty, or the folder of an earlier run of this study, whose finished blocks are used.
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
    held = read_facts(folder)
    with study_run(out, folder):
        result = study.run(folder, jobs=jobs, progress=progress)
        pages = study_files(result)
        write_files(folder, pages)
    warn_of_replaced(held, study_facts(study))
    return _text(result, folder, list(pages))


def _text(result: StudyResult, folder: Path, pages: Sequence[str]) -> str:
    shown = [c for c in SHOWN if c in result.summary]
    lines = [printable(result.study.about), ""] if result.study.about else []
    lines += [printable(row) for row in _rows(result.summary[shown])]
    lines += ["", how_sure(result.study.level, int(result.summary["replications"].min()))]
    lines += ["", f"Written to {printable(str(folder))}:"]
    tables = ["replications.csv.gz", "study.json", "summary.csv"]
    lines.append("  " + "  ".join([*tables, *pages]))
    return "\n".join(lines) + "\n"


def _rows(table: pd.DataFrame) -> list[str]:
    return str(table.round(4).to_string(index=False)).splitlines()
