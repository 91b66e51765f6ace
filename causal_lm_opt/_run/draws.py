"""Reading a file of draws: each policy's texts, or its exact support."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causal_lm_opt._cells import (
    Place,
    check_finite,
    check_log_probs,
    check_weights,
    did_you_mean,
    to_labels,
    to_numbers,
    to_strings,
)
from causal_lm_opt._columns import Chunk, Columns, check_present
from causal_lm_opt._files import check_file, default_delimiter, format_of
from causal_lm_opt._parts import cluster_label
from causal_lm_opt._readers import (
    CHUNK_ROWS,
    check_delimiter,
    column_names,
    csv_chunks,
    json_chunks,
    parquet_chunks,
)
from causal_lm_opt.estimators import TargetSample
from causal_lm_opt.exceptions import DataError

__all__ = ["DrawsFile", "read_draws", "read_prompted_draws"]

#: Optional columns with numbers, and whether a log-probability of -inf is possible there.
NUMBERS = {"weight": None, "prob": None, "logp_target": True, "logp_sampling": False,
           "logp_logging": True}  # fmt: skip


@dataclass(frozen=True)
class DrawsFile:
    """What to read of a file of draws.

    Attributes
    ----------
    text : str, optional
        Column of texts; ``None`` where the outcome model reads features only.
    features : tuple of str
        Numeric columns that the outcome model reads.
    group, by : str
        Columns of clusters and subgroups, read where they are there.
    prompt : str, optional
        Column of the prompts answered, read where it is there, beside the clusters.
    exact : bool
        The file lists each policy's exact support.
    delimiter, decimal : str
        Of a delimited text file, and not looked at in others; by default a tab for ``.tsv``, else
        a comma, and a decimal point.
    scored : bool
        Columns of log-probabilities are read. If not, a file may do without the column ``policy``:
        its texts are then of one policy, named after the file.
    only : str, optional
        The one policy that was asked for: the file may then do without the column ``policy``.
    """

    text: str | None = "text"
    features: tuple[str, ...] = ()
    group: str = "group"
    by: str | None = None
    prompt: str | None = None
    exact: bool = False
    delimiter: str | None = None
    decimal: str = "."
    scored: bool = True
    only: str | None = None


@dataclass(frozen=True)
class _Named:
    """Columns to read by the part they play (what the chunk readers ask of ``Columns``)."""

    parts: Mapping[str, str]

    def wanted(self) -> dict[str, str]:
        return dict(self.parts)

    def names(self) -> list[str]:
        return list(dict.fromkeys(self.parts.values()))


def read_draws(path: str | Path, spec: DrawsFile) -> dict[str, TargetSample]:
    """Draws or support of each policy, in the file's order of policies.

    Parameters
    ----------
    path : str or Path
        A CSV, TSV, JSON-lines or Parquet file with a column ``policy``, the text and features, and
        any of ``weight``, ``prob``, ``logp_target``, ``logp_sampling``, ``logp_logging``, a group
        and a subgroup.
    spec : DrawsFile

    Returns
    -------
    dict policy -> TargetSample

    Raises
    ------
    DataError
        If the file cannot be read, lacks a column, or a cell fails a check; names file, row and
        column.
    """
    return read_prompted_draws(path, spec)[0]


def read_prompted_draws(
    path: str | Path, spec: DrawsFile
) -> tuple[dict[str, TargetSample], dict[str, NDArray[np.object_]]]:
    """As :func:`read_draws`, and the prompts (m,) by policy; none without ``spec.prompt``."""
    file = check_file(path)
    header = column_names(file, spec.delimiter)
    parts = _parts(header, spec, file)
    columns = cast(Columns, _Named(parts))
    cells: dict[str, list[Any]] = {name: [] for name in columns.names()}
    count = 0
    lines: list[int] = []
    for chunk in _chunks(file, columns, spec):
        count += len(next(iter(chunk.cells.values())))
        for name, values in cells.items():
            values.extend(list(chunk.cells[name]))
        lines.extend([] if chunk.lines is None else list(chunk.lines))
    decimal = spec.decimal if format_of(file) == "csv" else "."
    place = Place(str(file), lines or None, decimal=decimal)
    if not count:
        raise DataError(f"{file}: has no data rows")
    policies = np.full(count, spec.only or _stem(file), dtype=object)
    if "policy" in parts:
        policies = np.array(to_labels(cells[parts["policy"]], place, parts["policy"]), dtype=object)
    found = _converted(cells, parts, place)
    rows = {name: np.flatnonzero(policies == name) for name in dict.fromkeys(policies.tolist())}
    samples = {name: _sample(found, picked, spec) for name, picked in rows.items()}
    if "prompt" not in found:
        return samples, {}
    return samples, {name: found["prompt"][picked] for name, picked in rows.items()}


def _parts(header: Sequence[str], spec: DrawsFile, file: Path) -> dict[str, str]:
    """Columns by the part they play: those required, and the optional ones that are there."""
    needed = spec.scored and spec.only is None
    parts = {"policy": "policy"} if needed or "policy" in header else {}
    if spec.text is not None:
        # The log's own name of the column is as good as "text".
        parts["text"] = spec.text if spec.text in header else "text"
        if not spec.scored and len(header) == 1:  # a plain list of texts
            parts["text"] = header[0]
    parts |= {f"feature {name}": name for name in spec.features}
    if format_of(file) == "csv":
        _check_delimiter(header, parts, spec, file)
    check_present(header, parts, str(file))
    numbers = NUMBERS if spec.scored else ("weight",)
    parts |= {name: name for name in numbers if name in header}
    group = spec.group if spec.group in header else "group"
    if group in header:
        parts["group"] = group
    if spec.by is not None and spec.by in header:
        if not spec.scored:
            raise DataError(
                f"{file}: has the column {spec.by!r} of --by, and --target-texts fits one ratio "
                "for all readers: value each subgroup's log with its own texts apart, or leave the "
                "column out if the policy writes the same for everyone"
            )
        parts["by"] = spec.by
    if spec.prompt is not None and spec.prompt in header:
        parts["prompt"] = spec.prompt
    if spec.exact:
        parts.pop("weight", None)
        if "prob" not in parts and "logp_target" not in parts:
            raise DataError(
                f"{file}: the exact support needs a column 'prob' or 'logp_target'"
                f"{did_you_mean('prob', header)}"
            )
    elif not spec.scored and "prob" in header:
        raise DataError(
            f"{file}: has a column 'prob', and --target-texts takes texts that a policy wrote: "
            "name the column 'weight' if it holds their frequencies"
        )
    elif "prob" in parts:
        raise DataError(
            f"{file}: has a column 'prob': say --support if the file lists each policy's exact "
            "support, or name the column 'weight' if it holds frequencies of draws"
        )
    return parts


def _check_delimiter(
    header: Sequence[str], parts: Mapping[str, str], spec: DrawsFile, file: Path
) -> None:
    """As of the log; where its delimiter does not cut this file, both must be written alike."""
    try:
        check_delimiter(header, parts.values(), spec.delimiter or default_delimiter(file), file)
    except DataError as error:
        if spec.delimiter is None:
            raise
        raise DataError(
            f"{file}: found 1 column by the log's delimiter {spec.delimiter!r}, which is used for "
            "it too: write both files alike, or this one as .jsonl or .parquet"
        ) from error


def _stem(file: Path) -> str:
    """Name of a file without its endings.

    >>> _stem(Path("data/speeches.csv.gz"))
    'speeches'
    """
    return file.name.split(".")[0] or file.name


def _chunks(file: Path, columns: Columns, spec: DrawsFile) -> Iterator[Chunk]:
    kind = format_of(file)
    if kind == "csv":
        mark = spec.delimiter or default_delimiter(file)
        return csv_chunks(file, columns, CHUNK_ROWS, mark, spec.decimal)
    read = parquet_chunks if kind == "parquet" else json_chunks
    return read(file, columns, CHUNK_ROWS)


def _converted(
    cells: Mapping[str, list[Any]], parts: Mapping[str, str], place: Place
) -> dict[str, Any]:
    """Checked values (m,) by the part they play."""
    found: dict[str, Any] = {}
    for part, column in parts.items():
        if part == "text":
            found[part] = to_strings(cells[column], place, column, allow_empty=False)
        elif part in ("group", "by"):
            found[part] = np.array(to_labels(cells[column], place, column), dtype=object)
        elif part == "prompt":  # an empty one is a prompt, as in a log
            named = [cluster_label(c) if isinstance(c, str) else c for c in cells[column]]
            found[part] = np.array(to_labels(named, place, column), dtype=object)
        elif part != "policy":
            found[part] = _numbers(cells[column], part, place, column)
    return found


def _numbers(cells: list[Any], part: str, place: Place, column: str) -> NDArray[np.float64]:
    values = to_numbers(cells, place, column)
    impossible = NUMBERS.get(part)
    if impossible is not None:
        check_log_probs(values, place, column, allow_impossible=impossible)
    elif part in ("weight", "prob"):
        check_weights(values, place, column)
    else:
        check_finite(values, place, column)
    return values


def _sample(found: Mapping[str, Any], rows: NDArray[np.intp], spec: DrawsFile) -> TargetSample:
    """One policy's rows."""

    def pick(part: str) -> Any:
        return found[part][rows] if part in found else None

    texts = None if "text" not in found else [found["text"][i] for i in rows]
    X: Any = texts
    if spec.features:
        X = pd.DataFrame({name: found[f"feature {name}"][rows] for name in spec.features})
        if texts is not None:
            X.insert(0, "text", texts)
    logp = pick("logp_target")
    weight = pick("prob") if spec.exact and logp is None else pick("weight")
    return TargetSample(
        X, weight=weight, groups=pick("group"), logp_target=logp,
        logp_sampling=pick("logp_sampling"), logp_logging=pick("logp_logging"), by=pick("by"),
        exact=spec.exact,
    )  # fmt: skip
