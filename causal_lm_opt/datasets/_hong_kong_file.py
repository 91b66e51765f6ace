"""Reading and checking the Hong Kong files; every message names file, row and column."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causal_lm_opt.datasets._vocabulary import ArmSequence
from causal_lm_opt.datasets.pieces import PiecePolicy
from causal_lm_opt.exceptions import DataError

__all__: list[str] = []

ROWS_NAME = "hong_kong_2019.csv"
PIECES_NAME = "hong_kong_arm_texts.csv"
PIECES = ("text1", "text2", "text3")
_ABSENT = ("", "NA")


def locate(path: Path, arm_texts: Path | None) -> tuple[Path, Path]:
    """Find the file of rows and the file of pieces."""
    rows = path / ROWS_NAME if path.is_dir() else path
    pieces = rows.parent / PIECES_NAME if arm_texts is None else arm_texts
    if not rows.is_file():
        raise FileNotFoundError(
            f"no file {rows}; give the folder that holds {ROWS_NAME}, or the CSV itself."
        )
    if not pieces.is_file():
        raise FileNotFoundError(
            f"no file {pieces}; put {PIECES_NAME} beside the rows, or pass arm_texts=."
        )
    return rows, pieces


def read_pieces(path: Path) -> dict[str, list[str]]:
    """Read the listed pieces by arm, in the file's order, repeats kept."""
    frame = _read_text_csv(path)
    _require(frame, ("arm", "text"), path)
    listed: dict[str, list[str]] = {}
    for row, (arm, text) in enumerate(zip(frame["arm"], frame["text"], strict=True), start=1):
        if not arm or not text:
            column = "arm" if not arm else "text"
            raise DataError(f"{path}, row {row}, column {column!r}: empty; every line names one.")
        listed.setdefault(arm, []).append(text)
    return listed


def read_rows(path: Path, arms: list[str]) -> pd.DataFrame:
    """Read the rows: outcome and indicators as numbers, everything else as text.

    Parameters
    ----------
    path : Path
    arms : list of str

    Returns
    -------
    DataFrame of shape (n, ...), index 0..n-1

    Raises
    ------
    DataError
        If a column is missing, there is no row, or a number is not one or out of range.
    """
    frame = _read_text_csv(path)
    _require(frame, ("resp", "numtexts", *arms, *PIECES, "text"), path)
    if frame.empty:
        raise DataError(f"{path}: no rows below the header.")
    frame["resp"] = _numbers(frame["resp"], path)
    out_of_range = np.flatnonzero(~frame["resp"].between(0.0, 100.0))
    if out_of_range.size:
        i = int(out_of_range[0])
        raise DataError(
            f"{path}, row {i + 1}, column 'resp': {frame['resp'].iloc[i]:g} is not within "
            f"0 to 100 ({out_of_range.size} such rows); drop or mend them first."
        )
    for column, allowed in (("numtexts", (2.0, 3.0)), *((arm, (0.0, 1.0)) for arm in arms)):
        values = _numbers(frame[column], path)
        odd = np.flatnonzero(~values.isin(allowed))
        if odd.size:
            i = int(odd[0])
            raise DataError(
                f"{path}, row {i + 1}, column {column!r}: {values.iloc[i]:g} is neither "
                f"{allowed[0]:g} nor {allowed[1]:g}."
            )
        frame[column] = values.astype(np.int64)
    return frame


def check_rows(
    frame: pd.DataFrame, listed: dict[str, list[str]], path: Path
) -> tuple[ArmSequence, ...]:
    """Hold each row's pieces against its other columns; return its arms in their order.

    Parameters
    ----------
    frame : DataFrame of shape (n, ...)
        As `read_rows` returns it.
    listed : dict of arm name to list of str
    path : Path
        For the messages.

    Returns
    -------
    tuple of n tuples of str

    Raises
    ------
    DataError
        If a piece is not listed, or the pieces contradict the text, the number of texts or the
        arms' indicators.
    """
    arm_of = {text: arm for arm, texts in listed.items() for text in texts}
    pieces = frame[list(PIECES)].to_numpy(dtype=object)
    sequences = []
    for i, row in enumerate(pieces):
        where = f"{path}, row {i + 1}"
        present = [piece for piece in row if piece not in _ABSENT]
        for column, piece in zip(PIECES, row, strict=True):
            if piece not in _ABSENT and piece not in arm_of:
                raise DataError(
                    f"{where}, column {column!r}: {piece[:80]!r} is not in the list of pieces."
                )
        if [*row[: len(present)]] != present:
            raise DataError(f"{where}, columns {PIECES}: an empty piece before another one.")
        if frame["numtexts"].iloc[i] != len(present):
            raise DataError(
                f"{where}, column 'numtexts': {frame['numtexts'].iloc[i]}, but the row has "
                f"{len(present)} pieces."
            )
        if frame["text"].iloc[i] != " ".join(present):
            raise DataError(f"{where}, column 'text': not the row's pieces joined by one space.")
        sequence = tuple(arm_of[piece] for piece in present)
        for arm in listed:
            if frame[arm].iloc[i] != (arm in sequence):
                raise DataError(
                    f"{where}, column {arm!r}: {frame[arm].iloc[i]}, but the pieces say "
                    f"{int(arm in sequence)}."
                )
        sequences.append(sequence)
    return tuple(sequences)


def check_support(logp: NDArray[np.float64], design: PiecePolicy, path: Path) -> None:
    """Raise DataError for the first row that the stated design cannot have produced."""
    impossible = np.flatnonzero(np.isneginf(logp))
    if impossible.size:
        raise DataError(
            f"{path}, row {int(impossible[0]) + 1}, column 'text': its arms cannot occur together "
            f"under the stated design ({impossible.size} such rows); three pieces always hold "
            f"treatycommit, and arms are {list(design.arms)}."
        )


def _read_text_csv(path: Path) -> pd.DataFrame:
    """Read all columns as text; nothing is turned into a missing value."""
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable CSV file in UTF-8: {error}") from error


def _require(frame: pd.DataFrame, columns: tuple[str, ...], path: Path) -> None:
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise DataError(
            f"{path}: columns {missing} are missing; the file has {list(frame.columns)}."
        )


def _numbers(column: pd.Series[str], path: Path) -> pd.Series[float]:
    values = pd.to_numeric(column, errors="coerce").astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        i = int(bad[0])
        raise DataError(
            f"{path}, row {i + 1}, column {str(column.name)!r}: {column.iloc[i]!r} is not a "
            f"finite number ({bad.size} such rows); drop or mend them first."
        )
    return values
