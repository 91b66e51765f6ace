"""Judges of two texts: from scores of single texts, and from judgements already made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from causal_lm_opt._cells import Place, shown, to_labels, to_strings
from causal_lm_opt._columns import check_present
from causal_lm_opt._files import FilePath, check_file, default_delimiter
from causal_lm_opt._readers import _csv_rows, check_delimiter
from causal_lm_opt._validation import check_vector
from causal_lm_opt.exceptions import DataError

__all__ = [
    "Judge",
    "PointwiseJudge",
    "TableJudge",
    "judge_from_csv",
    "judge_from_frame",
    "pointwise_judge",
]

Float = npt.NDArray[np.float64]
Key = tuple[str, str, str]

#: What the cells of a column of winners mean, case aside: the score of the first text.
WINNERS: Mapping[str, float] = {"a": 1.0, "b": 0.0, "tie": 0.5}


class Judge(Protocol):
    """What compares two texts; any function of this form will do.

    A judge whose verdict cannot depend on which text is shown first may say so by an attribute
    ``sees_position = False``; then no position bias is looked for.

    Examples
    --------
    >>> from causal_lm_opt.lm import pointwise_judge
    >>> longer: Judge = pointwise_judge(lambda texts: [len(text) for text in texts])
    >>> longer(["aa", "a"], ["a", "a"], None).tolist()
    [1.0, 0.5]
    """

    def __call__(
        self, texts_a: Sequence[str], texts_b: Sequence[str], prompts: Sequence[Any] | None, /
    ) -> npt.ArrayLike:
        """Scores (n,) in [0, 1] of ``texts_a`` against ``texts_b``.

        1: the first text is better; 0: the second; 0.5: a tie. A share (of annotators, or a
        probability) is allowed. A row without a judgement is masked (a numpy masked array), never
        NaN.
        """
        ...


# ------------------------------------------------------------------------------ from scores
@dataclass(frozen=True)
class PointwiseJudge:
    """The better text is the one of larger score; made by `pointwise_judge`."""

    score: Any
    tie: float
    with_prompts: bool
    sees_position: bool = field(default=False, init=False)

    def __call__(
        self, texts_a: Sequence[str], texts_b: Sequence[str], prompts: Sequence[Any] | None, /
    ) -> Float:
        """1, 0.5 or 0 for each of n pairs, (n,)."""
        n = len(texts_a)
        if self.with_prompts and prompts is None:
            raise ValueError("The score reads prompts (with_prompts=True) but there are none.")
        asked = prompts if self.with_prompts and prompts is not None else [None] * n
        rows = [*zip(texts_a, asked, strict=True), *zip(texts_b, asked, strict=True)]
        # Each text is scored once, however many pairs it is in; a prompt may be a list of messages.
        place: dict[tuple[str, str], int] = {}
        at = np.array([place.setdefault((t, repr(p)), len(place)) for t, p in rows], dtype=np.intp)
        first = np.unique(at, return_index=True)[1]
        values = self._scores([rows[i][0] for i in first], [rows[i][1] for i in first])[at]
        gap = values[:n] - values[n:]
        return np.where(np.abs(gap) <= self.tie, 0.5, (gap > 0).astype(np.float64))

    def _scores(self, texts: list[str], prompts: list[Any]) -> Float:
        predict = getattr(self.score, "predict", None)
        if not self.with_prompts:
            found = self.score(texts) if predict is None else predict(texts)
        else:
            found = (
                self.score(texts, prompts) if predict is None else predict(texts, prompts=prompts)
            )
        return check_vector(found, "score(texts)", len(texts))


def pointwise_judge(
    score: Callable[..., npt.ArrayLike] | Any, *, tie: float = 0.0, with_prompts: bool = False
) -> PointwiseJudge:
    """A judge that prefers the text of larger score.

    Parameters
    ----------
    score : callable, or object with ``predict``
        ``score(texts)`` -> (n,) finite numbers, larger is better: a world's true mean outcome, a
        fitted regressor, a reward model.
    tie : float
        Scores that differ by no more, in units of the score, tie.
    with_prompts : bool
        Whether it is called as ``score(texts, prompts)``, or ``predict(texts, prompts=prompts)``.

    Returns
    -------
    PointwiseJudge
        Called on n pairs it scores each distinct text once.

    Raises
    ------
    TypeError
        A ``score`` that is neither, or a classifier (whose labels would nearly always tie).
    ValueError
        A negative ``tie``; when judging, NaN scores or a wrong number of them.

    Examples
    --------
    >>> from causal_lm_opt.lm import pointwise_judge
    >>> longer = pointwise_judge(lambda texts: [len(t) for t in texts], tie=1)
    >>> longer(["aaaa", "a", "aa"], ["a", "aaaa", "a"], None).tolist()
    [1.0, 0.0, 0.5]
    """
    if not (callable(score) or hasattr(score, "predict")):
        raise TypeError(
            f"score must be callable or have a method predict, got {type(score).__name__}."
        )
    if hasattr(score, "classes_"):
        raise TypeError(
            "score is a classifier, whose labels would nearly always tie; pass its probability, "
            "lambda texts: model.predict_proba(texts)[:, 1]."
        )
    if not (np.isfinite(tie) and tie >= 0):
        raise ValueError(f"tie must be a number >= 0, got {tie!r}.")
    return PointwiseJudge(score, float(tie), bool(with_prompts))


# ------------------------------------------------------------------------------ from judgements
@dataclass(frozen=True, eq=False)
class TableJudge:
    r"""Looks judgements up; made by `judge_from_csv` and `judge_from_frame`.

    Attributes
    ----------
    scores : mapping of (prompt, text, text) -> float
        Mean score of the first text; the two texts in alphabetical order, each stripped of outer
        white space and with ``\n`` as its line end.
    ratings : DataFrame or None
        Where annotators are named: a row per pair, a column per annotator, the winner in cells
        (``"a"``: the first of the pair in alphabetical order), missing where he saw no such pair.
        What `agreement` takes.
    source : str
    missing : {"raise", "mask"}
    with_prompts : bool
    """

    scores: Mapping[Key, float] = field(repr=False)
    ratings: pd.DataFrame | None = field(repr=False)
    source: str
    missing: Literal["raise", "mask"]
    with_prompts: bool
    sees_position: bool = field(default=False, init=False)

    def __call__(
        self, texts_a: Sequence[str], texts_b: Sequence[str], prompts: Sequence[Any] | None, /
    ) -> np.ma.MaskedArray[Any, Any]:
        """Scores (n,), masked where there is no judgement and ``missing="mask"``."""
        asked = _asked_prompts(prompts, len(texts_a), self.with_prompts)
        keys = [_key(p, a, b) for p, a, b in zip(asked, texts_a, texts_b, strict=True)]
        found = [self.scores.get(key) for key, _ in keys]
        lacking = np.array([score is None for score in found], dtype=np.bool_)
        if lacking.any() and self.missing == "raise":
            i = int(np.argmax(lacking))
            raise ValueError(
                f"{self.source} has no judgement of {int(lacking.sum())} of {len(keys)} pairs, the "
                f"first {shown(texts_a[i])} against {shown(texts_b[i])}; have these judged, or "
                'leave them out with missing="mask".'
            )
        scores = [
            0.5 if score is None else 1.0 - score if swapped else score
            for score, (_, swapped) in zip(found, keys, strict=True)
        ]
        return np.ma.MaskedArray(np.array(scores, dtype=np.float64), mask=lacking)


def judge_from_csv(
    path: FilePath,
    *,
    text_a: str = "text_a",
    text_b: str = "text_b",
    winner: str = "winner",
    prompt: str | None = None,
    annotator: str | None = None,
    values: Mapping[str, float] | None = None,
    delimiter: str | None = None,
    missing: Literal["raise", "mask"] = "raise",
) -> TableJudge:
    r"""Human judgements from a CSV file, one row per judgement, as a judge.

    Parameters
    ----------
    path : path
        UTF-8, with a header; ``.gz`` allowed.
    text_a, text_b, winner : str
        Columns of the two texts and of who won. Which text stands first does not matter; outer
        white space and line ends of texts do not either.
    prompt : str, optional
        Column of the prompt; then a judgement is of two texts under this prompt.
    annotator : str, optional
        Column of who judged; fills ``ratings``, and a pair may be judged once by each.
    values : mapping of str -> float, optional
        Score of the first text for each cell of ``winner``, case aside; ``{"a": 1, "b": 0,
        "tie": 0.5}`` by default.
    delimiter : str, optional
        By default a tab for ``.tsv``, else a comma.
    missing : {"raise", "mask"}
        What to do with a pair that nobody judged. Pairs left out are counted in the result.

    Returns
    -------
    TableJudge
        Several judgements of a pair are averaged: the share that prefers the text.

    Raises
    ------
    DataError
        A file that cannot be read, a column that is missing, an unknown winner, an annotator who
        judged a pair twice.
    ValueError
        When judging: pairs that are not in the file, and how many.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from causal_lm_opt.lm import judge_from_csv
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder) / "judged.csv"
    ...     _ = file.write_text("text_a,text_b,winner\nyes,no,a\nno,yes,a\nno,maybe,tie\n")
    ...     judge = judge_from_csv(file)
    >>> judge(["yes", "maybe"], ["no", "no"], None).tolist()
    [0.5, 0.5]
    """
    file = check_file(path)
    mark = default_delimiter(file) if delimiter is None else delimiter
    wanted = _wanted(text_a, text_b, winner, prompt, annotator)
    rows = _csv_rows(file, mark)
    _, header = next(rows, (0, None))
    if header is None:
        raise DataError(f"{file}: has no header line")
    check_delimiter(header, wanted.values(), mark, Path(file))
    check_present(header, wanted, str(file))
    at = {role: header.index(column) for role, column in wanted.items()}
    lines: list[int] = []
    cells: dict[str, list[str]] = {role: [] for role in wanted}
    for line, row in rows:
        if len(row) != len(header):
            raise DataError(
                f"{file}, line {line}: {len(row)} fields where the header has {len(header)}; "
                "quote texts that hold the delimiter"
            )
        lines.append(line)
        for role, column in at.items():
            cells[role].append(row[column])
    return _table_judge(cells, Place(str(file), lines), wanted, values, missing)


def judge_from_frame(
    frame: pd.DataFrame,
    *,
    text_a: str = "text_a",
    text_b: str = "text_b",
    winner: str = "winner",
    prompt: str | None = None,
    annotator: str | None = None,
    values: Mapping[str, float] | None = None,
    missing: Literal["raise", "mask"] = "raise",
) -> TableJudge:
    """Human judgements in a pandas frame as a judge; parameters as in `judge_from_csv`.

    Examples
    --------
    >>> import pandas as pd
    >>> from causal_lm_opt.lm import judge_from_frame
    >>> judged = pd.DataFrame({"text_a": ["yes"], "text_b": ["no"], "winner": ["A"]})
    >>> judge_from_frame(judged)(["no"], ["yes"], None).tolist()
    [0.0]
    """
    wanted = _wanted(text_a, text_b, winner, prompt, annotator)
    check_present(list(frame.columns), wanted, "frame")
    cells = {role: frame[column].tolist() for role, column in wanted.items()}
    return _table_judge(cells, Place("frame"), wanted, values, missing)


def _wanted(
    text_a: str, text_b: str, winner: str, prompt: str | None, annotator: str | None
) -> dict[str, str]:
    roles = {"text_a": text_a, "text_b": text_b, "winner": winner}
    optional = {"prompt": prompt, "annotator": annotator}
    return roles | {role: column for role, column in optional.items() if column is not None}


def _table_judge(
    cells: Mapping[str, Sequence[Any]],
    place: Place,
    wanted: Mapping[str, str],
    values: Mapping[str, float] | None,
    missing: Literal["raise", "mask"],
) -> TableJudge:
    if missing not in ("raise", "mask"):
        raise ValueError(f'missing must be "raise" or "mask", got {missing!r}.')
    if not cells["winner"]:
        raise DataError(f"{place.source}: has no judgement; it needs a row for each")
    texts = {
        role: to_strings(cells[role], place, wanted[role], allow_empty=True)
        for role in ("text_a", "text_b", "prompt")
        if role in cells
    }
    scores = _winner_scores(cells["winner"], place, wanted["winner"], values)
    asked = texts.get("prompt", [""] * len(scores))
    keyed = [_key(*row) for row in zip(asked, texts["text_a"], texts["text_b"], strict=True)]
    keys = [key for key, _ in keyed]
    oriented = [
        0.5 if key[1] == key[2] else 1.0 - score if swapped else score
        for score, (key, swapped) in zip(scores, keyed, strict=True)
    ]
    ratings = None
    if "annotator" in cells:
        who = to_labels(cells["annotator"], place, wanted["annotator"])
        ratings = _ratings(keys, who, oriented, place, wanted["annotator"])
    of_pair: dict[Key, list[float]] = {}
    for key, score in zip(keys, oriented, strict=True):
        of_pair.setdefault(key, []).append(score)
    means = {key: float(np.mean(given)) for key, given in of_pair.items()}
    return TableJudge(means, ratings, place.source, missing, "prompt" in cells)


def _winner_scores(
    cells: Sequence[Any], place: Place, column: str, values: Mapping[str, float] | None
) -> list[float]:
    meaning = {str(k).strip().casefold(): float(v) for k, v in (values or WINNERS).items()}
    bad = [v for v in meaning.values() if not 0.0 <= v <= 1.0]
    if bad:
        raise ValueError(f"values must be scores in [0, 1], got {bad[0]!r}.")
    scores = []
    for i, cell in enumerate(to_labels(cells, place, column)):
        score = meaning.get(cell.strip().casefold())
        if score is None:
            raise DataError(
                f"{place.at(i, column)}: {shown(cell)} is none of {sorted(meaning)}; say what the "
                "cells mean by values={...}"
            )
        scores.append(score)
    return scores


def _ratings(
    keys: Sequence[Key], who: Sequence[str], scores: Sequence[float], place: Place, column: str
) -> pd.DataFrame:
    seen: dict[tuple[Key, str], str] = {}
    for i, (key, name, score) in enumerate(zip(keys, who, scores, strict=True)):
        if (key, name) in seen:
            raise DataError(f"{place.at(i, column)}: {shown(name)} judged this pair before")
        seen[key, name] = "tie" if score == 0.5 else "a" if score > 0.5 else "b"
    place_of = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    table = pd.DataFrame(index=range(len(place_of)), columns=list(dict.fromkeys(who)), dtype=object)
    for (key, name), verdict in seen.items():
        table.loc[place_of[key], name] = verdict
    table.index = pd.MultiIndex.from_tuples(list(place_of), names=["prompt", "first", "second"])
    return table


def _key(prompt: str, one: str, two: str) -> tuple[Key, bool]:
    """A pair whichever text comes first, and whether the order was turned round."""
    a, b = _plain(one), _plain(two)
    return ((_plain(prompt), b, a), True) if b < a else ((_plain(prompt), a, b), False)


def _plain(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").strip()


def _asked_prompts(prompts: Sequence[Any] | None, n: int, with_prompts: bool) -> Sequence[str]:
    if not with_prompts:
        return [""] * n
    if prompts is None:
        raise ValueError("The judgements are of texts under a prompt, but no prompts were given.")
    for i, prompt in enumerate(prompts):
        if not isinstance(prompt, str):
            raise TypeError(
                f"prompts[{i}] is {type(prompt).__name__}; judgements are looked up by a prompt "
                "that is one string."
            )
    return prompts
