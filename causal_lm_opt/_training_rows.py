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

from causal_lm_opt._validation import content_keys, mix64
from causal_lm_opt.exceptions import DataError

__all__ = [
    "FILE",
    "MARK",
    "TrainingRows",
    "lost_training_rows",
    "needs_prompts",
    "plain_text",
    "read_training_rows",
    "write_training_rows",
]

Mask = NDArray[np.bool_]
Keys = NDArray[np.uint64]
FILE = "training_rows.json"
MARK = "training_rows"  # of a model's config: it was trained on rows that FILE tells
RUN, MOST, FEW, COPIES = 12, 0.5, 20, 5


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
    prompted : bool
        Whether the model was given a prompt with each text: without one it is another law.
    """

    keys: Keys
    used: Mask
    prompted: bool = False

    @classmethod
    def of(cls, texts: Sequence[str], used: Mask, *, prompted: bool = False) -> TrainingRows:
        """Of m texts, in the log's order."""
        return cls(_keys(texts), np.asarray(used, dtype=bool), prompted)

    def among(self, texts: Sequence[str]) -> Mask:
        """Which of n texts must not value the model, (n,).

        A row is the training's own where twelve neighbours or more are as they were there, in an
        order that occurred once. Else it goes by its text: one that training was given once, and
        used, must not value the model in whatever row it is, as the model may know it by heart. A
        text that is common (training was given it several times, or it is here more than five
        times) says so only where most of the log is known to be the training's.
        """
        return self._told(texts)[0]

    def unsure(self, texts: Sequence[str]) -> float:
        """Share of n rows of common texts that training used, which may be its own rows or not."""
        return float(self._told(texts)[1].mean()) if len(texts) else 0.0

    def _told(self, texts: Sequence[str]) -> tuple[Mask, Mask]:
        """Rows that must not value the model, and those of which nothing tells."""
        keys = _keys(texts)
        if not keys.size:
            return np.zeros(0, dtype=bool), np.zeros(0, dtype=bool)
        place = _places(keys, self.keys)
        known, once = place >= 0, _once(self.keys)
        distinct, which, count = np.unique(keys, return_inverse=True, return_counts=True)
        single = distinct[count == 1]
        same = single.size >= FEW and np.isin(single, once).mean() > MOST
        rare = np.isin(keys, once) & (count[which] <= COPIES)
        used = np.isin(keys, self.keys[self.used])
        seen = (rare | same | (known.mean() > MOST)) & used
        seen[known] = self.used[place[known]]
        return seen, used & ~seen & ~known

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        runs = [[bool(used), len(list(alike))] for used, alike in groupby(self.used.tolist())]
        return {
            "prompted": self.prompted,
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
        return cls(keys.astype(np.uint64), used, bool(kept.get("prompted", False)))


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


def needs_prompts(trainings: Sequence[TrainingRows], *, given: bool) -> str:
    """What to say of a model of prompts that is given none; empty where nothing is amiss."""
    if given or not any(one.prompted for one in trainings):
        return ""
    return (
        "this model was trained on texts given their prompts, and without a prompt it is another "
        "policy: name the log's prompts (prompts= in Python, --prompt COL on the command line)."
    )


def lost_training_rows(folder: Path) -> bool:
    """Whether a model's config says that rows of a log trained it, and the file that tells which
    is not beside it: transformers' own ``save_pretrained`` writes the one and not the other.
    """
    if (folder / FILE).is_file():
        return False
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and MARK in config


def _keys(texts: Sequence[str]) -> Keys:
    return content_keys(np.array([plain_text(text) for text in texts], dtype=object))


def _places(keys: Keys, kept: Keys) -> NDArray[np.intp]:
    """Where in ``kept`` each of ``keys`` (n,) stands, -1 where no run of `RUN` rows tells."""
    place = np.full(keys.size, -1, dtype=np.intp)
    mine, theirs = _runs(keys), _runs(kept)
    if not mine.size or not theirs.size:
        return place
    distinct, first, count = np.unique(theirs, return_index=True, return_counts=True)
    at = np.minimum(np.searchsorted(distinct, mine), distinct.size - 1)
    varied = np.zeros(mine.size, dtype=bool)  # a run of one text alone tells nothing
    for k in range(1, RUN):
        varied |= keys[k : k + mine.size] != keys[: mine.size]
    found = np.flatnonzero((distinct[at] == mine) & (count[at] == 1) & varied)
    for k in range(RUN):
        place[found + k] = first[at[found]] + k
    return place


def _runs(keys: Keys) -> Keys:
    """A key of each run of `RUN` neighbours, (n - RUN + 1,)."""
    out = np.zeros(max(keys.size - RUN + 1, 0), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for k in range(RUN if out.size else 0):
            out = mix64(out + keys[k : k + out.size], k + 1)
    return out


def _once(keys: Keys) -> Keys:
    """Keys that occur once."""
    distinct, count = np.unique(keys, return_counts=True)
    return np.asarray(distinct[count == 1])
