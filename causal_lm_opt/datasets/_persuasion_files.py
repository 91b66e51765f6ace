"""Reading and checking the files of the persuasion experiment; messages name file, row, column."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causal_lm_opt._cells import shown
from causal_lm_opt._files import check_file, open_text, reading
from causal_lm_opt.exceptions import DataError

__all__: list[str] = []

MESSAGES_NAME = "llm_persuasion_messages.csv"
OUTCOMES_NAME = "llm_persuasion_outcomes.csv"
COVARIATES = ("party", "ideology", "knowledge")
CONTROL_ID = 0
LARGEST_ID = 2**53
_MISSING = ("", "NA", "nan", "NaN")


def locate(messages: Path, outcomes: Path | None) -> tuple[Path, Path]:
    """Find the file of messages and the file of outcomes.

    Parameters
    ----------
    messages : Path
        A folder with files of the usual names (gzipped or not), or the file itself.
    outcomes : Path or None
        By default the file beside ``messages`` whose name has "outcomes" for "messages".
    """
    if messages.is_dir():
        folder = messages
        messages = _plain_or_gz(folder / MESSAGES_NAME)
        if not messages.is_file():
            raise FileNotFoundError(
                f"no file {MESSAGES_NAME} or {MESSAGES_NAME}.gz in {folder}; name the file itself."
            )
        outcomes = _plain_or_gz(folder / OUTCOMES_NAME) if outcomes is None else outcomes
    elif not messages.is_file():
        raise FileNotFoundError(
            f"no file {messages}; give the file of messages, or the folder that holds "
            f"{MESSAGES_NAME}."
        )
    if outcomes is None:
        if "messages" not in messages.name:
            raise FileNotFoundError(
                f"which file of outcomes belongs to {messages} cannot be told from its name; "
                "name it as well."
            )
        outcomes = messages.with_name(messages.name.replace("messages", "outcomes"))
    if not outcomes.is_file():
        raise FileNotFoundError(f"no file {outcomes}; name the file of outcomes.")
    return messages, outcomes


def _plain_or_gz(path: Path) -> Path:
    packed = path.with_name(path.name + ".gz")
    return packed if packed.is_file() and not path.is_file() else path


def read_messages(path: Path) -> pd.DataFrame:
    """Read the messages.

    Returns
    -------
    DataFrame of shape (M, 4)
        message_id (int64, distinct, at least 1), issue, author, text; in the file's order.

    Raises
    ------
    DataError
        If a column is missing, a cell empty, or an id is no whole number, 0 or not distinct.
    """
    frame = _read_text_csv(path)
    _require(frame, ("message_id", "issue", "model", "text"), path)
    ids = _ids(frame["message_id"], path)
    for bad, what in (
        (ids == CONTROL_ID, f"{CONTROL_ID} marks the control group, which has no message"),
        (pd.Series(ids).duplicated().to_numpy(), "occurs twice; every message has its own number"),
    ):
        if bad.any():
            i = int(np.argmax(bad))
            raise DataError(f"{path}, row {i + 1}, column 'message_id': {ids[i]} {what}.")
    for column in ("issue", "model", "text"):
        _refuse_empty(frame[column], path)
    return pd.DataFrame(
        {"message_id": ids, "issue": frame["issue"], "author": frame["model"],
         "text": frame["text"]}
    )  # fmt: skip


def read_outcomes(path: Path, messages: pd.DataFrame) -> pd.DataFrame:
    """Read the readers and hold them against the messages.

    Parameters
    ----------
    path : Path
    messages : DataFrame of shape (M, 4)
        As `read_messages` returns it.

    Returns
    -------
    DataFrame
        message_id (0 for control readers), issue, outcome, those of ``COVARIATES`` that the file
        has (float64, missing is NaN), and condition where the file has it.

    Raises
    ------
    DataError
        If a column is missing, a number is not one or out of range, a message is unknown, or a
        row's columns contradict the messages.
    """
    frame = _read_text_csv(path)
    _require(frame, ("message_id", "issue", "dv_response_mean"), path)
    ids = _ids(frame["message_id"], path)
    unknown = ~np.isin(ids, [CONTROL_ID, *messages["message_id"]])
    if unknown.any():
        i = int(np.argmax(unknown))
        raise DataError(
            f"{path}, row {i + 1}, column 'message_id': {ids[i]} is not among the messages "
            f"({int(unknown.sum())} such rows); do the two files belong together?"
        )
    if (ids == CONTROL_ID).all():
        raise DataError(f"{path}: every reader is in the control group (message_id {CONTROL_ID}).")
    out = pd.DataFrame({"message_id": ids, "issue": frame["issue"]})
    out["outcome"] = _outcomes(frame["dv_response_mean"], path)
    for column in COVARIATES:
        if column in frame.columns:
            out[column] = _numbers(frame[column], path, missing=True)
    if "condition" in frame.columns:
        out["condition"] = frame["condition"]
    _check_issues(out, messages, path)
    _check_conditions(out, path)
    if "model" in frame.columns:
        _check_authors(frame["model"], ids, messages, path)
    return out


def _check_issues(out: pd.DataFrame, messages: pd.DataFrame, path: Path) -> None:
    """A reader's issue is the message's; a control reader's is one that messages are about."""
    of_message = messages.set_index("message_id")["issue"]
    due = out["message_id"].map(of_message)
    control = (out["message_id"] == CONTROL_ID).to_numpy()
    wrong = np.where(control, ~out["issue"].isin(set(of_message)), out["issue"] != due)
    if not wrong.any():
        return
    i = int(np.argmax(wrong))
    has = f"{path}, row {i + 1}, column 'issue': {shown(out['issue'].iloc[i])}, but "
    if control[i]:
        raise DataError(has + "no message is about it; drop these control readers first.")
    said = shown(due.iloc[i])
    raise DataError(has + f"message {out['message_id'].iloc[i]} is about {said}.")


def _check_conditions(out: pd.DataFrame, path: Path) -> None:
    """Exactly the control readers have message 0, where the file says who they are."""
    if "condition" not in out.columns:
        return
    says = (out["condition"].str.lower() == "control").to_numpy()
    wrong = says != (out["message_id"] == CONTROL_ID).to_numpy()
    if wrong.any():
        i = int(np.argmax(wrong))
        raise DataError(
            f"{path}, row {i + 1}, column 'condition': {shown(out['condition'].iloc[i])} for "
            f"message_id {out['message_id'].iloc[i]}; exactly the control readers have "
            f"{CONTROL_ID}."
        )


def _check_authors(
    names: pd.Series[str], ids: NDArray[np.int64], messages: pd.DataFrame, path: Path
) -> None:
    """The two files may spell authors differently, but one to one."""
    author = pd.Series(ids).map(messages.set_index("message_id")["author"])
    treated = ids != CONTROL_ID
    pairs = pd.DataFrame({"here": names.to_numpy(), "there": author})[treated]
    first = pairs.drop_duplicates()
    for key in ("there", "here"):
        again = first[first[key].duplicated()]
        if len(again):
            i, row = int(again.index[0]), again.iloc[0]
            before = first[first[key] == row[key]].iloc[0]
            raise DataError(
                f"{path}, row {i + 1}, column 'model': {shown(row['here'])} for a message by "
                f"{shown(row['there'])}, but rows before it pair {shown(before['here'])} with "
                f"{shown(before['there'])}."
            )


def _outcomes(column: pd.Series[str], path: Path) -> NDArray[np.float64]:
    values = _numbers(column, path)
    bad = ~((values >= 0.0) & (values <= 100.0))
    if bad.any():
        i = int(np.argmax(bad))
        raise DataError(
            f"{path}, row {i + 1}, column {str(column.name)!r}: {values[i]:g} is not within 0 to "
            f"100 ({int(bad.sum())} such rows); drop or mend them first."
        )
    return values


def _ids(column: pd.Series[str], path: Path) -> NDArray[np.int64]:
    values = _numbers(column, path)
    bad = (values != np.floor(values)) | (values < 0) | (values > LARGEST_ID)
    if bad.any():
        i = int(np.argmax(bad))
        raise DataError(
            f"{path}, row {i + 1}, column {str(column.name)!r}: {shown(column.iloc[i])} is not a "
            f"whole number from 0 to 2**53."
        )
    return values.astype(np.int64)


def _numbers(column: pd.Series[str], path: Path, *, missing: bool = False) -> NDArray[np.float64]:
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
    bad = ~np.isfinite(values)
    if missing:
        bad &= ~column.isin(_MISSING).to_numpy()
    if bad.any():
        i = int(np.argmax(bad))
        raise DataError(
            f"{path}, row {i + 1}, column {str(column.name)!r}: {shown(column.iloc[i])} is not a "
            f"finite number ({int(bad.sum())} such rows); drop or mend them first."
        )
    return values


def _refuse_empty(column: pd.Series[str], path: Path) -> None:
    empty = (column.str.strip() == "").to_numpy()
    if empty.any():
        i = int(np.argmax(empty))
        raise DataError(f"{path}, row {i + 1}, column {str(column.name)!r}: is empty.")


def _read_text_csv(path: Path) -> pd.DataFrame:
    """Read all columns as text; nothing is turned into a missing value."""
    check_file(path)
    records: list[list[str]] = []
    try:
        with reading(path), open_text(path) as stream:
            lines = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
            records.extend(cells for cells in csv.reader(lines, strict=True) if cells)
    except csv.Error as error:
        where = f"after row {len(records) - 1}" if records else "in the header"
        raise DataError(f"{path}, {where}: not a readable CSV file: {error}.") from error
    if len(records) < 2:
        raise DataError(f"{path}: no rows below the header.")
    header = records[0]
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise DataError(f"{path}: column {shown(twice[0])} occurs {header.count(twice[0])} times.")
    for row, cells in enumerate(records[1:], start=1):
        if len(cells) != len(header):
            raise DataError(
                f"{path}, row {row}: has {len(cells)} cells, the header {len(header)}; is the file "
                "cut off, or a comma not quoted?"
            )
    return pd.DataFrame(records[1:], columns=header, dtype=str)


def _require(frame: pd.DataFrame, columns: tuple[str, ...], path: Path) -> None:
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise DataError(f"{path}: columns {missing} are missing; the file has {shown_all(frame)}.")


def shown_all(frame: pd.DataFrame) -> list[str]:
    """Names of the columns, few and short enough for an error message."""
    names = [shown(str(name)).strip("'\"") for name in frame.columns]
    return names if len(names) <= 20 else [*names[:20], "..."]
