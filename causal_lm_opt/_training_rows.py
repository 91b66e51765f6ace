"""Rows of a log that trained a model, or chose it: no value of that model may come from them.

A trained model's folder says, wherever it is copied to, which texts it was given and which of them
it used: 64-bit keys of each text and its prompt, without regard to case and blanks, and no text.
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
FAR_Z = 3.29  # two-sided level .001
CHANCE = 1e-3  # of two logs of independent rows: that they share a run of neighbours


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
    prompts : (m,) uint64 array, optional
        Of each row's prompt; files of earlier versions hold none.
    """

    keys: Keys
    used: Mask
    prompted: bool = False
    prompts: Keys | None = None

    @classmethod
    def of(
        cls, texts: Sequence[str], used: Mask, *, prompts: Sequence[str] | None = None
    ) -> TrainingRows:
        """Of m texts and their prompts, in the log's order."""
        asked = None if prompts is None else _keys(prompts)
        return cls(_keys(texts), np.asarray(used, dtype=bool), prompts is not None, asked)

    def among(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Mask:
        """Which of n texts must not value the model, (n,).

        A row is the training's own where twelve neighbours or more are as they were there, in an
        order that occurred once (more than twelve where texts are so few that chance would do).
        Else it goes by its text: one that training was given once, and used, must not value the
        model in whatever row it is, where such texts are more than a fresh log would share with
        training's by chance (leaving those out would take rows by what they say). A text that is
        common (training was given it several times, or it is here more than five times) says so
        only where most of the log is known to be the training's. Where both have prompts, "text"
        is the prompt and its text.
        """
        return self._told(texts, prompts)[0]

    def unsure(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> float:
        """Share of n rows of texts that training used, which may be its own rows or not: of common
        texts, or no more of them than chance gives.
        """
        return float(self._told(texts, prompts)[1].mean()) if len(texts) else 0.0

    def _told(self, texts: Sequence[str], prompts: Sequence[str] | None) -> tuple[Mask, Mask]:
        """Rows that must not value the model, and those of which nothing tells."""
        keys, kept = _keys(texts), self.keys
        if not keys.size:
            return np.zeros(0, dtype=bool), np.zeros(0, dtype=bool)
        place = _places(keys, kept)  # of texts alone: prompts may have been put in other words
        if prompts is not None and self.prompts is not None:
            keys, kept = _pairs(keys, _keys(prompts)), _pairs(kept, self.prompts)
            paired = _places(keys, kept)
            place = np.where(paired >= 0, paired, place)
        known, once = place >= 0, _once(kept)
        distinct, which, count = np.unique(keys, return_inverse=True, return_counts=True)
        single = distinct[count == 1]
        same = single.size >= FEW and np.isin(single, once).mean() > MOST
        rare = np.isin(keys, once) & (count[which] <= COPIES)
        if not _beyond_chance(rare & ~known, kept):
            rare[:] = False
        used = np.isin(keys, kept[self.used])
        seen = (rare | same | (known.mean() > MOST)) & used
        seen[known] = self.used[place[known]]
        return seen, used & ~seen & ~known

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        runs = [[bool(used), len(list(alike))] for used, alike in groupby(self.used.tolist())]
        asked = {} if self.prompts is None else {"prompts": _packed(self.prompts)}
        return {"prompted": self.prompted, "used": runs, "keys": _packed(self.keys)} | asked

    @classmethod
    def from_dict(cls, kept: dict[str, Any]) -> TrainingRows:
        """What `to_dict` gave; ``ValueError`` or its like where it is damaged."""
        keys = _unpacked(kept["keys"])
        prompts = _unpacked(kept["prompts"]) if "prompts" in kept else None
        used = np.repeat([bool(u) for u, _ in kept["used"]], [int(m) for _, m in kept["used"]])
        for read in (keys, keys if prompts is None else prompts):
            if read.shape != used.shape:
                raise ValueError(f"{read.size} keys of {used.size} rows")
        return cls(keys, used, bool(kept.get("prompted", False)), prompts)


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
    """What to say of a model of prompts that is given none, or of one without that is given some;
    empty where nothing is amiss.
    """
    if not trainings or given == any(one.prompted for one in trainings):
        return ""
    if given:
        return (
            "this model was trained on texts without prompts, and what it writes given one nobody "
            "trained: leave prompts out (prompts= in Python, --prompt COL on the command line), "
            "or train it with them."
        )
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


def _packed(keys: Keys) -> str:
    return base64.b64encode(keys.astype("<u8").tobytes()).decode("ascii")


def _unpacked(packed: str) -> Keys:
    return np.frombuffer(base64.b64decode(packed, validate=True), dtype="<u8").astype(np.uint64)


def _pairs(texts: Keys, prompts: Keys) -> Keys:
    """A key of each text and its prompt, (n,)."""
    with np.errstate(over="ignore"):
        return mix64(texts + mix64(prompts, RUN), RUN)


def _places(keys: Keys, kept: Keys) -> NDArray[np.intp]:
    """Where in ``kept`` each of ``keys`` (n,) stands, -1 where no run of neighbours tells."""
    place = np.full(keys.size, -1, dtype=np.intp)
    length = max(_run_length(keys, kept), _run_length(kept, keys))
    mine, theirs = _runs(keys, length), _runs(kept, length)
    if not mine.size or not theirs.size:
        return place
    distinct, first, count = np.unique(theirs, return_index=True, return_counts=True)
    at = np.minimum(np.searchsorted(distinct, mine), distinct.size - 1)
    varied = np.zeros(mine.size, dtype=bool)  # a run of one text alone tells nothing
    for k in range(1, length):
        varied |= keys[k : k + mine.size] != keys[: mine.size]
    found = np.flatnonzero((distinct[at] == mine) & (count[at] == 1) & varied)
    for k in range(length):
        place[found + k] = first[at[found]] + k
    return place


def _run_length(keys: Keys, others: Keys) -> int:
    """Neighbours that two logs of independent rows share with probability `CHANCE` at most.

    Rows of ``keys`` (n,) are equal with probability c, and ``n * others.size`` pairs of places
    could begin a run, so that one of length l is met c^l times as often; texts that stand
    several times in a row are one draw.
    """
    heads = keys[np.r_[True, keys[1:] != keys[:-1]]] if keys.size else keys
    count = np.unique(heads, return_counts=True)[1].astype(float)
    equal = float(count @ (count - 1)) / max(heads.size * (heads.size - 1), 1)
    if equal >= 1:
        return RUN  # one text: no run is varied
    least = np.log(CHANCE / (keys.size * max(others.size, 1))) / np.log(max(equal, 1e-3))
    return max(RUN, int(np.ceil(least * keys.size / heads.size)))


def _runs(keys: Keys, length: int) -> Keys:
    """A key of each run of ``length`` neighbours, (n - length + 1,)."""
    out = np.zeros(max(keys.size - length + 1, 0), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for k in range(length if out.size else 0):
            out = mix64(out + keys[k : k + out.size], k + 1)
    return out


def _beyond_chance(rare: Mask, kept: Keys) -> bool:
    """Whether rows (n,) that hold a text which training was given once are more than a log of
    other rows would have: by Good's formula it has 2 f_2 / m of them, with f_2 texts given twice
    among the m of training. Few rows that chance may have made are taken for training's own.
    """
    twice = int((np.unique(kept, return_counts=True)[1] == 2).sum())
    each = 2.0 * rare.size / kept.size
    expected, noise = each * twice, np.sqrt(each * twice * (1.0 + each))  # of f_2 and of the rows
    return expected < FEW or bool(rare.sum() > expected + FAR_Z * noise)


def _once(keys: Keys) -> Keys:
    """Keys that occur once."""
    distinct, count = np.unique(keys, return_counts=True)
    return np.asarray(distinct[count == 1])
