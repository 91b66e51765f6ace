"""The array fields of a log: made from what a caller gives, cut into rows, hashed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from typing import Any, TypedDict, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causal_lm_opt._cells import (
    Cells,
    Float,
    Place,
    to_covariate,
    to_labels,
    to_numbers,
    to_strings,
)
from causal_lm_opt.exceptions import DataError

_NULL = b"\xff" * 8  # no text is that long, so it cannot be mistaken for a length
FEWEST_DISTINCT = 20
"""Distinct rows from which even numbers of copies are no accident (chance 2^-20)."""
MANY_COPIES = 0.05
"""Share of rows equal to an earlier one that is told..."""
FEW_OUTCOMES = 20
"""... unless the outcome takes no more values than these: equal rows are then common."""


class LogParts(TypedDict):
    """The array fields of ``LoggedData``, all of length n."""

    text: list[str]
    outcome: Float
    prompt: list[str] | None
    logp_logging: Float | None
    logp_target: pd.DataFrame | None
    groups: NDArray[np.object_] | None
    sample_weight: Float | None
    covariates: pd.DataFrame | None
    by: NDArray[np.object_] | None


def object_array(labels: Sequence[str]) -> NDArray[np.object_]:
    """Labels (n,) as an object array."""
    result = np.empty(len(labels), dtype=object)
    result[:] = labels
    return result


def cluster_label(prompt: str) -> str:
    """The label of a prompt's cluster; a label is never empty."""
    return prompt or "(no prompt)"


def prompt_clusters(prompts: Sequence[str] | None) -> NDArray[np.object_] | None:
    """Prompts (n,) as cluster labels; ``None`` where there are not two of them."""
    if prompts is None or len(set(prompts)) < 2:
        return None
    return object_array([cluster_label(prompt) for prompt in prompts])


def take(parts: LogParts, rows: NDArray[np.intp]) -> LogParts:
    """The given rows (zero-based, any order, repeats allowed) of every field."""
    text, prompt = parts["text"], parts["prompt"]

    def frame(table: pd.DataFrame | None) -> pd.DataFrame | None:
        return None if table is None else table.iloc[rows].reset_index(drop=True)

    return LogParts(
        text=[text[i] for i in rows],
        outcome=parts["outcome"][rows],
        prompt=None if prompt is None else [prompt[i] for i in rows],
        logp_logging=None if parts["logp_logging"] is None else parts["logp_logging"][rows],
        logp_target=frame(parts["logp_target"]),
        groups=None if parts["groups"] is None else parts["groups"][rows],
        sample_weight=None if parts["sample_weight"] is None else parts["sample_weight"][rows],
        covariates=frame(parts["covariates"]),
        by=None if parts["by"] is None else parts["by"][rows],
    )


def made(given: LogParts, place: Place) -> LogParts:
    """Fresh fields from what a caller gave: converted, copied, of equal length.

    Parameters
    ----------
    given : LogParts
        Array-likes in place of the arrays.
    place : Place
        Where they come from, for error messages.

    Returns
    -------
    LogParts
        Fields of the declared types; the numbers are not yet checked for range.

    Raises
    ------
    DataError
        If a cell has the wrong kind, lengths differ, or there is no row.
    ValueError
        If two of them carry the same index labels in different orders.
    """
    check_same_order(given)
    prompt = given["prompt"]
    parts = LogParts(
        text=_strings(given["text"], place, "text"),
        outcome=_vector(given["outcome"], place, "outcome"),
        prompt=None if prompt is None else _strings(prompt, place, "prompt"),
        logp_logging=_optional_vector(given["logp_logging"], place, "logp_logging"),
        logp_target=_numeric_frame(given["logp_target"], place),
        groups=_labels(given["groups"], place, "groups"),
        sample_weight=_optional_vector(given["sample_weight"], place, "sample_weight"),
        covariates=_covariate_frame(given["covariates"], place),
        by=_labels(given["by"], place, "by"),
    )
    _check_lengths(parts, place)
    return parts


def check_same_order(given: Mapping[str, Any]) -> None:
    """``ValueError`` where pandas objects carry the same index labels in different orders.

    Rows are matched by position throughout the package. A Series taken from a shuffled frame
    would silently pair texts with the outcomes of others.

    Parameters
    ----------
    given : mapping argument -> value
        Values that are no pandas objects, and indexes with other labels, are passed over.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"text": ["a", "b"], "y": [1.0, 2.0]})
    >>> check_same_order({"X": frame["text"], "y": frame["y"]})
    >>> check_same_order({"X": frame["text"], "y": frame["y"][::-1]})
    Traceback (most recent call last):
    ...
    ValueError: y carries the index labels of X in another order, and rows are matched by ...
    """
    indexed = {
        name: value.index
        for name, value in given.items()
        if isinstance(value, pd.Series | pd.DataFrame)
    }
    if len(indexed) < 2:
        return
    first = next(iter(indexed))
    reference = indexed.pop(first)
    for name, index in indexed.items():
        if len(index) != len(reference) or index.equals(reference):
            continue
        if Counter(index) == Counter(reference):
            raise ValueError(
                f"{name} carries the index labels of {first} in another order, and rows are "
                f"matched by position: reorder it, {name}.loc[{first}.index], or pass "
                f"{name}.to_numpy() if its rows are in place already"
            )


def suspicions(parts: LogParts, source: str, copies: Callable[[], int] | None = None) -> list[str]:
    """What looks wrong with a log although each of its cells is fine, as warnings.

    Parameters
    ----------
    parts : LogParts
    source : str
    copies : callable, optional
        Counts the rows of the file that equal an earlier one in every column, also in those that
        were not read; called only where what was read says that there may be many.
    """
    found = []
    if _is_weighted_rate(parts["outcome"], parts["sample_weight"]):
        found.append(
            f"{source}: outcomes are fractions in [0, 1] and weights are whole numbers above 1. "
            "If these are rates weighted by their trials, standard errors will be far too small: "
            "give counts instead (from_counts, or clicks= and impressions=)."
        )
    if _is_doubled(parts):
        found.append(
            f"{source}: each of its {len(parts['text'])} rows occurs an even number of times. Was "
            "the file appended to itself, or joined twice? Standard errors are then too small by "
            "a factor of 1.4 or more: keep one copy of each row."
        )
    elif copies is not None and _may_hold_copies(parts):
        n, many = len(parts["text"]), copies()
        if many > MANY_COPIES * n:
            found.append(
                f"{source}: {many:,} of {n:,} rows are copies of earlier rows in every column: if "
                "an export repeated them, drop them, as standard errors would be too small."
            )
    return found


def _is_weighted_rate(outcome: Float, weight: Float | None) -> bool:
    if weight is None or not bool(np.all((outcome >= 0) & (outcome <= 1))):
        return False
    fractional = bool(np.any(outcome != np.floor(outcome)))
    return fractional and bool(np.all(weight == np.floor(weight)) and np.any(weight > 1))


def _is_doubled(parts: LogParts) -> bool:
    """Whether all rows come in even numbers: by chance hardly, with that many distinct rows."""
    counts = Counter(parts["text"])  # a glance at the texts settles it for nearly every log
    if any(count % 2 for count in counts.values()):
        return False
    _, copies = np.unique(_row_keys(parts), return_counts=True)
    return copies.size >= FEWEST_DISTINCT and bool((copies % 2 == 0).all())


def _may_hold_copies(parts: LogParts) -> bool:
    """Whether many rows equal an earlier one in what was read, and more than chance explains.

    Few texts with ratings from 0 to 100 have equal rows too, and no fewer with their outcomes
    shuffled over the rows.
    """
    text, outcome = parts["text"], parts["outcome"]
    enough = MANY_COPIES * len(text)
    if len(text) - len(set(text)) <= enough or np.unique(outcome).size <= FEW_OUTCOMES:
        return False
    copies = _count_copies(_row_keys(parts))
    if copies <= enough:
        return False
    shuffled = parts.copy()
    shuffled["outcome"] = np.random.default_rng(0).permutation(outcome)
    return copies > 2 * _count_copies(_row_keys(shuffled))


def _count_copies(keys: NDArray[Any]) -> int:
    return int(keys.size - np.unique(keys).size)


def _row_keys(parts: LogParts) -> NDArray[Any]:
    """A hash (n,) of each row, all fields together."""
    columns = {name: value for name, value in parts.items() if isinstance(value, list | np.ndarray)}
    frames = [value for value in parts.values() if isinstance(value, pd.DataFrame)]
    table = pd.concat([pd.DataFrame(columns), *frames], axis=1)
    table.columns = pd.RangeIndex(table.shape[1])  # names may repeat
    return pd.util.hash_pandas_object(table, index=False).to_numpy()


def _strings(values: Sequence[str], place: Place, name: str) -> list[str]:
    """Strings (n,) as a new list; only a prompt may be empty."""
    if isinstance(values, str):
        raise TypeError(f"{name} must be a sequence of strings, not one string")
    return to_strings(values, place, name, allow_empty=name == "prompt")


def _vector(values: Any, place: Place, name: str) -> Float:
    """Numbers (n,) as a new float64 array."""
    cells = values if isinstance(values, np.ndarray) else list(values)
    if isinstance(cells, np.ndarray) and cells.ndim != 1:
        raise DataError(f"{place.source}: {name} must have shape (n,), not {cells.shape}")
    return to_numbers(cells, place, name).copy()


def _optional_vector(values: Any, place: Place, name: str) -> Float | None:
    """As :func:`vector`, None for None."""
    return None if values is None else _vector(values, place, name)


def _labels(values: Any, place: Place, name: str) -> NDArray[np.object_] | None:
    """Labels (n,) as an object array of strings, None for None."""
    return None if values is None else object_array(to_labels(values, place, name))


def _numeric_frame(table: Any, place: Place) -> pd.DataFrame | None:
    """A DataFrame (n, K) of float64 with string column names and a fresh index."""
    if table is None:
        return None
    frame = _named_frame(table, place, "logp_target")
    return pd.DataFrame(
        {
            str(name): _vector(column.to_numpy(), place, f"logp_target[{name!r}]")
            for name, column in frame.items()
        }
    )


def _covariate_frame(table: Any, place: Place) -> pd.DataFrame | None:
    """A DataFrame (n, p) of float64 and string columns with a fresh index, or None."""
    if table is None:
        return None
    data: dict[str, Any] = {}
    for name, column in _named_frame(table, place, "covariates").items():
        if name == "text":
            raise DataError(f"{place.source}: covariates: 'text' is the name of the text in X")
        values = to_covariate(series_cells(column), place, str(name), typed=True)
        # A column of strings stays one where the rows at hand happen to be all missing.
        keep = isinstance(column.dtype, pd.StringDtype)
        data[str(name)] = pd.Series(values, dtype=column.dtype if keep else None)
    return pd.DataFrame(data)


def _named_frame(table: Any, place: Place, name: str) -> pd.DataFrame:
    if not isinstance(table, pd.DataFrame):
        raise TypeError(
            f"{name} must be a DataFrame with named columns, not {type(table).__name__}"
        )
    if table.shape[1] == 0:
        raise DataError(f"{place.source}: {name} has no columns; leave it out")
    columns = [str(column) for column in table.columns]
    repeated = [column for column in columns if columns.count(column) > 1]
    if repeated:
        raise DataError(f"{place.source}: {name} has more than one column {repeated[0]!r}")
    return table


def _check_lengths(parts: LogParts, place: Place) -> None:
    """``DataError`` unless every field that is there has as many rows as ``text``, at least 1."""
    n = len(parts["text"])
    if n == 0:
        raise DataError(f"{place.source}: has no rows")
    for name, value in parts.items():
        rows = n if value is None else len(cast(Sized, value))
        if rows != n:
            raise DataError(f"{place.source}: {name} has {rows} rows, text has {n}")


def series_cells(series: pd.Series) -> Cells:
    """A column (n,) as a numeric array, or as a list where it holds anything else or gaps."""
    if getattr(series.dtype, "kind", "O") in "fiub" and not series.hasnans:
        return series.to_numpy()
    return series.astype(object).tolist()


def fingerprint(parts: LogParts) -> str:
    """SHA-256 (hex) of all fields."""
    digest = hashlib.sha256(b"LoggedData/1")
    for name, value in parts.items():
        if value is None:
            continue
        if isinstance(value, pd.DataFrame):
            for column in value:
                _update(digest, f"{name}[{column}]", value[column].tolist())
        else:
            _update(digest, name, value)
    return digest.hexdigest()


def _update(digest: Any, name: str, values: Any) -> None:
    """Feed a named column to the digest so that no two contents give the same bytes."""
    numeric = all(isinstance(value, float) for value in values)
    _feed(digest, [name, "float" if numeric else "str", str(len(values))])
    if numeric:
        numbers = np.asarray(values, dtype="<f8") + 0.0  # -0.0 is 0.0
        digest.update(np.where(np.isnan(numbers), np.nan, numbers).astype("<f8").tobytes())
    else:
        _feed(digest, values)


def _feed(digest: Any, strings: Iterable[Any]) -> None:
    for value in strings:
        if isinstance(value, str):
            data = value.encode()
            digest.update(len(data).to_bytes(8, "big") + data)
        else:  # a missing covariate
            digest.update(_NULL)
