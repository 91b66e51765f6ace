"""The readers of a log: files and tables to checked rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Self, Unpack

import pandas as pd

from causal_lm_opt._columns import Chunk, Columns, ColumnSpec, CommonSpec, columns_from
from causal_lm_opt._files import FilePath, check_file, default_delimiter, format_of
from causal_lm_opt._readers import (
    CHUNK_ROWS,
    check_chunk_rows,
    csv_chunks,
    dataset_chunks,
    json_chunks,
    pandas_chunks,
    parquet_chunks,
    repeated_rows,
)
from causal_lm_opt.exceptions import DataError

__all__ = ["LogReaders"]


class LogReaders(ABC):
    """The ``from_...`` readers of :class:`causal_lm_opt.LoggedData`; abstract."""

    @classmethod
    @abstractmethod
    def _from_chunks(
        cls,
        chunks: Iterator[Chunk],
        columns: Columns,
        source: str,
        *,
        typed: bool = True,
        copies: Callable[[], int] | None = None,
    ) -> Self:
        """A log of the rows of some chunks; ``copies`` counts the repeated rows of their file."""

    @classmethod
    def from_csv(
        cls,
        path: FilePath,
        *,
        delimiter: str | None = None,
        decimal: str = ".",
        chunk_rows: int = CHUNK_ROWS,
        **columns: Unpack[ColumnSpec],
    ) -> Self:
        r"""Read a delimited text file, plain or gzipped, with a header line.

        Parameters
        ----------
        path : str or path-like
            The file.
        delimiter : str, optional
            One character; by default a tab for ``.tsv`` and ``.tsv.gz``, else a comma.
        decimal : {".", ","}
            Decimal sign of its numbers; with a comma, a number that holds a point is refused.
        chunk_rows : int
            Rows parsed at a time; a bound on memory, without effect on the result.
        **columns
            Column arguments, see the Notes of the class.

        Returns
        -------
        LoggedData
            The rows in the file's order.

        Raises
        ------
        DataError
            If the file cannot be read or a cell fails a check; names file, row, line and column.
        TypeError, ValueError
            If the column arguments are unknown or contradict each other.

        Examples
        --------
        >>> import tempfile, pathlib
        >>> from causal_lm_opt.logged import LoggedData
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "log.csv")
        ...     _ = path.write_text('text,y\n"Hello, you",1\nBye,0\n', encoding="utf-8")
        ...     log = LoggedData.from_csv(path, text="text", outcome="y")
        >>> log.text, log.outcome
        (['Hello, you', 'Bye'], array([1., 0.]))
        """
        spec, rows = columns_from(columns), check_chunk_rows(chunk_rows)
        mark = default_delimiter(path) if delimiter is None else delimiter
        file = check_file(path)
        chunks = csv_chunks(file, spec, rows, mark, decimal)
        copies = partial(repeated_rows, file, "csv", mark)
        return cls._from_chunks(chunks, spec, str(path), typed=False, copies=copies)

    @classmethod
    def from_jsonl(
        cls, path: FilePath, *, chunk_rows: int = CHUNK_ROWS, **columns: Unpack[ColumnSpec]
    ) -> Self:
        r"""Read a file with one JSON object a line, plain or gzipped.

        Parameters, result and errors are those of :meth:`from_csv`.

        Examples
        --------
        >>> import tempfile, pathlib
        >>> from causal_lm_opt.logged import LoggedData
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "log.jsonl")
        ...     _ = path.write_text('{"text": "Hello", "y": 1}\n', encoding="utf-8")
        ...     LoggedData.from_jsonl(path, text="text", outcome="y").text
        ['Hello']
        """
        spec, rows = columns_from(columns), check_chunk_rows(chunk_rows)
        file = check_file(path)
        copies = partial(repeated_rows, file, "jsonl")
        return cls._from_chunks(json_chunks(file, spec, rows), spec, str(path), copies=copies)

    @classmethod
    def from_parquet(
        cls, path: FilePath, *, chunk_rows: int = CHUNK_ROWS, **columns: Unpack[ColumnSpec]
    ) -> Self:
        """Read a Parquet file; columns not named are never decoded.

        Parameters, result and errors are those of :meth:`from_csv` (Parquet has no lines).

        Examples
        --------
        >>> import tempfile, pathlib
        >>> import pandas as pd
        >>> from causal_lm_opt.logged import LoggedData
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "log.parquet")
        ...     pd.DataFrame({"text": ["Hello"], "y": [1]}).to_parquet(path)
        ...     LoggedData.from_parquet(path, text="text", outcome="y").text
        ['Hello']
        """
        spec, rows = columns_from(columns), check_chunk_rows(chunk_rows)
        file = check_file(path)
        copies = partial(repeated_rows, file, "parquet")
        return cls._from_chunks(parquet_chunks(file, spec, rows), spec, str(path), copies=copies)

    @classmethod
    def from_pandas(cls, frame: pd.DataFrame, **columns: Unpack[ColumnSpec]) -> Self:
        """Take the named columns of a DataFrame; its index is ignored.

        Parameters
        ----------
        frame : DataFrame
            One row a text.
        **columns
            Column arguments, see the Notes of the class.

        Returns
        -------
        LoggedData
            The rows in the frame's order.

        Raises
        ------
        DataError
            If a column is missing or a cell fails a check.
        TypeError, ValueError
            If ``frame`` is no DataFrame or the column arguments are wrong.

        Examples
        --------
        >>> import pandas as pd
        >>> from causal_lm_opt.logged import LoggedData
        >>> frame = pd.DataFrame({"text": ["a", "b"], "y": [1, 0], "age": [30, 40]})
        >>> LoggedData.from_pandas(frame, text="text", outcome="y", covariates=["age"]).X
          text   age
        0    a  30.0
        1    b  40.0
        """
        spec = columns_from(columns)
        return cls._from_chunks(pandas_chunks(frame, spec), spec, "DataFrame")

    @classmethod
    def from_dataset(
        cls, dataset: Any, *, chunk_rows: int = CHUNK_ROWS, **columns: Unpack[ColumnSpec]
    ) -> Self:
        """Take the named columns of a ``datasets.Dataset`` or ``IterableDataset``.

        Parameters
        ----------
        dataset : datasets.Dataset or datasets.IterableDataset
            One split; its selection and order of rows are respected, its format is not.
        chunk_rows : int
            Rows taken at a time.
        **columns
            Column arguments, see the Notes of the class.

        Returns
        -------
        LoggedData
            The rows in the data set's order.

        Raises
        ------
        DataError
            If a column is missing or a cell fails a check.
        TypeError, ValueError
            If ``dataset`` is none or the column arguments are wrong.

        Examples
        --------
        >>> from causal_lm_opt.logged import LoggedData
        >>> from datasets import Dataset  # doctest: +SKIP
        >>> data = Dataset.from_dict({"text": ["Hello"], "y": [1.0]})  # doctest: +SKIP
        >>> LoggedData.from_dataset(data, text="text", outcome="y").text  # doctest: +SKIP
        ['Hello']
        """
        spec, rows = columns_from(columns), check_chunk_rows(chunk_rows)
        chunks = dataset_chunks(dataset, spec, rows)
        return cls._from_chunks(chunks, spec, type(dataset).__name__)

    @classmethod
    def from_counts(
        cls, frame: pd.DataFrame, *, clicks: str, impressions: str, **columns: Unpack[CommonSpec]
    ) -> Self:
        """Two weighted rows of each arm: successes (outcome 1) and failures (outcome 0).

        Parameters
        ----------
        frame : DataFrame
            One row an arm: its text and its counts.
        clicks, impressions : str
            Columns of the number of successes and of trials; integers, clicks <= impressions.
        **columns
            The other column arguments (no ``outcome``, no ``weight``), see the Notes of the class.

        Returns
        -------
        LoggedData
            Frequency weights in ``sample_weight``; ``groups`` is the arm (its row, 1-based)
            unless ``group`` is named: a cluster where arms are a sample of texts, the text itself
            under an estimator's ``estimand="texts"``. Arms that answer several prompts have none:
            the prompts are then the clusters.

        Raises
        ------
        DataError
            If a count is missing, negative or fractional, or clicks exceed impressions.

        Examples
        --------
        >>> import pandas as pd
        >>> from causal_lm_opt.logged import LoggedData
        >>> arms = pd.DataFrame({"headline": ["A", "B"], "clicks": [3, 0], "views": [10, 8]})
        >>> log = LoggedData.from_counts(
        ...     arms, text="headline", clicks="clicks", impressions="views"
        ... )
        >>> log.text, log.outcome, log.sample_weight, log.groups.tolist()
        (['A', 'A', 'B'], array([1., 0., 0.]), array([3., 7., 8.]), ['1', '1', '2'])
        """
        return cls.from_pandas(frame, clicks=clicks, impressions=impressions, **columns)

    @classmethod
    def read(
        cls,
        path: FilePath,
        *,
        delimiter: str | None = None,
        decimal: str = ".",
        chunk_rows: int = CHUNK_ROWS,
        **columns: Unpack[ColumnSpec],
    ) -> Self:
        r"""Read a file by its suffix: ``.csv``, ``.tsv``, ``.jsonl``, ``.json``, ``.ndjson`` (each
        also with ``.gz``) or ``.parquet``.

        Parameters, result and errors are those of :meth:`from_csv`; an unknown suffix is a
        ``DataError``, and so is a ``delimiter`` or a decimal comma for JSON lines or Parquet.

        Examples
        --------
        >>> import tempfile, pathlib
        >>> from causal_lm_opt.logged import LoggedData
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "log.tsv")
        ...     _ = path.write_text("text\ty\nHello\t1\n", encoding="utf-8")
        ...     LoggedData.read(path, text="text", outcome="y").text
        ['Hello']
        """
        kind = format_of(path)
        if kind == "csv":
            return cls.from_csv(
                path, delimiter=delimiter, decimal=decimal, chunk_rows=chunk_rows, **columns
            )
        if delimiter is not None:
            raise DataError(f"{path}: a delimiter is for .csv and .tsv files; leave it out")
        if decimal != ".":
            raise DataError(f"{path}: a decimal sign is for .csv and .tsv files; leave it out")
        reader = cls.from_jsonl if kind == "jsonl" else cls.from_parquet
        return reader(path, chunk_rows=chunk_rows, **columns)
