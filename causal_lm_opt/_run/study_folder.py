"""The folder of a study run from the command line: whose it may be, and what stops a run."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from causal_lm_opt._run.output import OutputError
from causal_lm_opt._run.preference_report import FILES as PREFERENCES
from causal_lm_opt.exceptions import EstimationWarning
from causal_lm_opt.simulation._blocks import clear_unfinished, unfinished_of
from causal_lm_opt.simulation._claim import OtherStudyError

__all__ = ["check_study_folder", "study_run", "warn_of_replaced"]

ESTIMATORS = (
    *("blocks", "replications.csv.gz", "study.json", "summary.csv"),
    *("bias.svg", "coverage.svg", "report.html", "report.md"),
)
CONFOUNDING = (
    *("blocks", "starts", "results.csv", "summary.csv", "claims.csv", "coverage.csv"),
    *("win_rates.csv", "spread.csv", "gradients.csv", "study.json", "report.html"),
    *(f"{kind}-{world}.svg" for world in ("hong-kong", "appeals") for kind in ("reached", "paths")),
)
#: What studies write; a folder that holds anything else is not a study's. Whose it is, its
#: ``study.json`` says.
FILES = frozenset((*ESTIMATORS, *PREFERENCES, *CONFOUNDING))


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


@contextmanager
def study_run(out: str | Path, folder: Path) -> Iterator[None]:
    """Run and write a study in here: what stops it is told of the folder as it was named.

    In the end, what killed runs left half written is removed.

    Raises
    ------
    OutputError
        The folder holds another study, or cannot be written.
    """
    try:
        yield
        clear_unfinished(folder)
    except OtherStudyError as error:
        raise OutputError(f"{out} holds {error.held}; give another --out") from error
    except KeyboardInterrupt as error:
        error.add_note(f"What is finished is kept in {folder}: run again to go on.")
        raise
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error.strerror or error}") from error


def warn_of_replaced(held: Mapping[str, Any] | None, facts: Mapping[str, Any]) -> None:
    """Warn of what an earlier run's tables held and these do not, if that is anything.

    Parameters
    ----------
    held : mapping or None
        What ``study.json`` said before the run.
    facts : mapping
        What it says now.
    """
    before, now = _size(held or {}), _size(facts)
    if before is None or now is None:
        return
    (count, unit, sizes), (count_now, _, sizes_now) = before, now
    if count <= count_now and set(sizes) <= set(sizes_now):
        return
    of = f" of {', '.join(f'{n:,}' for n in sizes)} rows" if sizes else ""
    told = (
        f"The tables of {count:,} {unit}{of} are replaced; their blocks are kept, and a run of "
        "them takes these up."
    )
    warnings.warn(told, EstimationWarning, stacklevel=2)


def _size(facts: Mapping[str, Any]) -> tuple[int, str, list[int]] | None:
    """How many replications or seeds a study has, which, and of what sizes of logs."""
    for unit in ("replications", "seeds"):
        for place in (facts, facts.get("settings")):
            if isinstance(place, Mapping) and isinstance(place.get(unit), int):
                sizes = place.get("sizes", ()) if unit == "replications" else ()
                return place[unit], unit, list(sizes)
    return None
