"""The data shipped in ``data/``: writing them, finding them and reading them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd

from causal_lm_opt.datasets.text_experiment import (
    TextExperiment,
    assemble,
    make_text_experiment,
)
from causal_lm_opt.exceptions import DataError

__all__ = ["load_text_experiment", "shipped_data_dir", "write_shipped_data"]

EXPERIMENT = "text_experiment.csv"
DRAWS = "text_experiment_draws.csv"
OBSERVATIONAL = "text_experiment_observational.csv"
TRUTH = "text_experiment_truth.json"
FILES = (EXPERIMENT, DRAWS, OBSERVATIONAL, TRUTH)

_N_ROWS = 2000
_N_DRAWS = 1500
_SEED = 20240
# Enough digits for any use, and few enough that the last bit of a log() does not show.
_DECIMALS = 8


def shipped_data_dir() -> Path:
    """Find ``data/`` of a source checkout.

    Returns
    -------
    Path

    Raises
    ------
    FileNotFoundError
        If the package was installed without it.

    Examples
    --------
    >>> from causal_lm_opt.datasets import shipped_data_dir
    >>> shipped_data_dir().name  # doctest: +SKIP
    'data'
    """
    folder = Path(__file__).resolve().parents[2] / "data"
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder} does not hold {missing}: the data come with a source checkout, not with an "
            "installed package. Write them with `python -m causal_lm_opt.datasets DIR`, or call "
            "make_text_experiment()."
        )
    return folder


def load_text_experiment(
    path: str | Path | None = None, *, confounded: bool = False
) -> TextExperiment:
    """Load the shipped text experiment, or another file that the generator wrote.

    Parameters
    ----------
    path : str or Path, optional
        A folder with ``text_experiment.csv`` (or, if confounded,
        ``text_experiment_observational.csv``), or the CSV itself; by default `shipped_data_dir`.
    confounded : bool, default False
        Load the observational companion.

    Returns
    -------
    TextExperiment
        Arms and the targets' log-probabilities are recomputed from the texts.

    Raises
    ------
    FileNotFoundError
        If the file is not there.
    DataError
        If a column is missing, or a text is not one the generator writes.

    Examples
    --------
    >>> from causal_lm_opt.datasets import load_text_experiment
    >>> len(load_text_experiment())  # doctest: +SKIP
    2000
    """
    file = shipped_data_dir() if path is None else Path(path)
    if file.is_dir():
        file = file / (OBSERVATIONAL if confounded else EXPERIMENT)
    if not file.is_file():
        raise FileNotFoundError(
            f"no file {file}; `python -m causal_lm_opt.datasets DIR` writes it."
        )
    frame = pd.read_csv(file, dtype={"text": str}, keep_default_na=False, encoding="utf-8")
    logp = "logp_logging_true" if confounded else "logp_logging"
    needed = ("text", "outcome", logp, "reader_id", "age", "interest")
    missing = [column for column in needed if column not in frame.columns]
    if missing:
        raise DataError(f"{file}: columns {missing} are missing; it has {list(frame.columns)}.")
    try:
        return assemble(frame, frame[logp].to_numpy(dtype=np.float64), confounded=confounded)
    except ValueError as error:
        raise DataError(f"{file}: {error}") from error


def write_shipped_data(folder: str | Path) -> list[Path]:
    """Generate the shipped data; the same bytes every time.

    Parameters
    ----------
    folder : str or Path
        Made if missing; files of the same names are replaced, each in one step.

    Returns
    -------
    list of Path
        The files written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     print(sorted(path.name for path in write_shipped_data(folder))[0])
    text_experiment.csv
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    experiment = make_text_experiment(_N_ROWS, _SEED)
    observational = make_text_experiment(_N_ROWS, _SEED + 1, confounded=True)
    truth = {
        "randomised": {"true_value": _rounded(experiment.truth)},
        "observational": {
            "true_value": _rounded(observational.truth),
            "limit_of_naive_weighting": _rounded(observational.naive_limit),
        },
    }
    contents = {
        EXPERIMENT: _csv(experiment.frame),
        DRAWS: _csv(experiment.draws(_N_DRAWS, _SEED + 2)),
        OBSERVATIONAL: _csv(observational.frame),
        TRUTH: json.dumps(truth, indent=2) + "\n",
    }
    return [_write_atomically(target / name, text) for name, text in contents.items()]


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, _DECIMALS) for name, value in values.items()}


def _csv(frame: pd.DataFrame) -> str:
    shown = frame.copy()
    for column in shown.columns:
        if str(column).startswith("logp_"):
            shown[column] = [_fixed(value) for value in shown[column]]
    if "outcome" in shown.columns:
        shown["outcome"] = [f"{value:.2f}" for value in shown["outcome"]]
    return shown.to_csv(index=False, lineterminator="\n")


def _fixed(value: float) -> str:
    """Fixed decimals, and "-inf" for a text the policy never writes."""
    return f"{value:.{_DECIMALS}f}"


def _write_atomically(path: Path, text: str) -> Path:
    """Write beside the file and rename, so that no reader meets half a file."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(text.encode("utf-8"))
    os.replace(temporary, path)
    return path
