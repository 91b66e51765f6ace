"""Rows of a log that trained a model, or chose it: no value of that model may come from them.

A trained model's folder says, wherever it is copied to, which texts it was given and which of them
it used: a 64-bit key of each text, without regard to case and blanks, and no text.
"""

from __future__ import annotations

import base64
import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causal_lm_opt._validation import content_keys
from causal_lm_opt.exceptions import DataError

__all__ = ["FILE", "TrainingRows", "plain_text", "read_training_rows", "write_training_rows"]

Mask = NDArray[np.bool_]
Keys = NDArray[np.uint64]
FILE = "training_rows.json"
SAME_ORDER, SAME_TEXTS, FEW = 0.9, 0.5, 20


def plain_text(text: str) -> str:
    r"""A text without regard to case, blanks and ways to code a character.

    >>> plain_text(" Join  us\n") == plain_text("join us")
    True
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


@dataclass(frozen=True, eq=False)
class TrainingRows:
    """The rows that a model's training was given.

    Attributes
    ----------
    keys : (m,) uint64 array
        Of each row's text, in their order.
    used : (m,) bool array
        Whether the row trained or chose the model; the others were held out.
    """

    keys: Keys
    used: Mask

    @classmethod
    def of(cls, texts: Sequence[str], used: Mask) -> TrainingRows:
        """Of m texts, in the log's order."""
        return cls(_keys(texts), np.asarray(used, dtype=bool))

    def among(self, texts: Sequence[str]) -> Mask | None:
        """Which of n texts were used, (n,); None where these are not the rows of that training.

        They are taken for those rows if they begin with the same texts in the same order, if most
        of the texts that they hold once are texts that training was given once (some of its rows,
        in any order), or if they hold most of the texts that training was given once (its rows
        among others, or several times).
        """
        keys = _keys(texts)
        both = min(keys.size, self.keys.size)
        if both and np.mean(keys[:both] == self.keys[:both]) > SAME_ORDER:
            seen = np.zeros(keys.size, dtype=bool)
            seen[:both] = self.used[:both]
            return seen
        single, theirs = _once(keys), _once(self.keys)
        some = single.size >= FEW and np.isin(single, theirs).mean() > SAME_TEXTS
        among = theirs.size >= FEW and np.isin(theirs, keys).mean() > SAME_TEXTS
        return np.isin(keys, self.keys[self.used]) if some or among else None

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        runs = [[bool(used), len(list(alike))] for used, alike in groupby(self.used.tolist())]
        return {
            "used": runs,
            "keys": base64.b64encode(self.keys.astype("<u8").tobytes()).decode("ascii"),
        }

    @classmethod
    def from_dict(cls, kept: dict[str, Any]) -> TrainingRows:
        """What `to_dict` gave; ``ValueError`` or its like where it is damaged."""
        keys = np.frombuffer(base64.b64decode(kept["keys"], validate=True), dtype="<u8")
        used = np.repeat([bool(u) for u, _ in kept["used"]], [int(m) for _, m in kept["used"]])
        if keys.shape != used.shape:
            raise ValueError(f"{keys.size} keys of {used.size} rows")
        return cls(keys.astype(np.uint64), used)


def write_training_rows(folder: Path, trainings: Sequence[TrainingRows]) -> None:
    """Put them beside a model; no file where there are none."""
    if trainings:
        content = {
            "about": "Keys of the texts of logs that trained this model, or held it out: its value "
            "must not be estimated from the rows that were used.",
            "trainings": [one.to_dict() for one in trainings],
        }  # fmt: skip
        (folder / FILE).write_text(json.dumps(content) + "\n", encoding="utf-8")


def read_training_rows(folder: Path) -> tuple[TrainingRows, ...]:
    """Those of the model in a folder, one for each log that trained it; none without the file.

    Raises
    ------
    DataError
        If the file is damaged.
    """
    file = folder / FILE
    if not file.is_file():
        return ()
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        return tuple(TrainingRows.from_dict(one) for one in kept["trainings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{file} is damaged ({error}): it says which rows of a log trained the model. Copy it "
            "anew from where the model was trained, or delete it if no row of the log had a part "
            "in that."
        ) from error


def _keys(texts: Sequence[str]) -> Keys:
    return content_keys(np.array([plain_text(text) for text in texts], dtype=object))


def _once(keys: Keys) -> Keys:
    """Keys that occur once."""
    distinct, count = np.unique(keys, return_counts=True)
    return np.asarray(distinct[count == 1])
