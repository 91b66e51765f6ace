"""A log of texts and their outcomes, read from files and tables and checked on the way in."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from causal_lm_opt._cells import Float, Place, did_you_mean
from causal_lm_opt._columns import Chunk, Columns, check_numbers, read_log
from causal_lm_opt._log_readers import LogReaders
from causal_lm_opt._parts import LogParts, fingerprint, made, prompt_clusters, suspicions, take

__all__ = ["LoggedData"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class LoggedData(LogReaders):
    """Texts, the outcomes they had, and what else an estimator needs to know of each row.

    Make one with a reader (``from_csv``, ``from_jsonl``, ``from_parquet``, ``from_pandas``,
    ``from_dataset``, ``from_counts``, or ``read``, which goes by the file's suffix) or from
    arrays. Arrays are copied and made read-only; everything is checked once, here.

    Parameters
    ----------
    text : list of str, length n
        The texts, never empty.
    outcome : array-like (n,)
        Outcomes as finite float64, in the user's own units.
    prompt : list of str, length n, optional
        What each text answers; may be an empty string. Where there are no ``groups``, the rows of
        a prompt are a cluster.
    logp_logging : array-like (n,), optional
        Natural log-probability of each text under the policy that wrote it; finite, at most 0.
    logp_target : DataFrame (n, K), optional
        Natural log-probabilities under K target policies, a column for each, named after it;
        ``-inf`` where the policy never writes the text.
    groups : array-like (n,), optional
        Cluster labels (reader, test, arm); kept as strings. Rows of a group stay together.
    sample_weight : array-like (n,), optional
        Frequency weights: weight 3 means the row stands for three equal rows.
    covariates : DataFrame (n, p), optional
        Numbers (float64, NaN where missing) or strings that go into ``X`` beside the text.
    by : array-like (n,), optional
        Subgroup labels, kept as strings, for values by subgroup.
    source : str
        Where the rows come from; appears in error messages and ``repr``.

    Raises
    ------
    DataError
        If lengths differ or a value is not what the list above says; the message names the
        source, the row (1-based) and the column.

    Notes
    -----
    **Column arguments of the readers.** Every reader takes the same keywords, each the name of a
    column: ``text`` (required); ``outcome``, or both ``clicks`` and ``impressions``; ``prompt``;
    ``logp_logging``; ``logp_target`` (a mapping from policy name to column, or the columns, whose
    names then name the policies); ``group``; ``weight``; ``covariates`` (several); ``by``.

    With ``clicks`` and ``impressions`` each row is an arm and becomes a row with outcome 1 and
    weight ``clicks`` and a row with outcome 0 and weight ``impressions - clicks`` (zero weights
    are dropped), with the arm as group unless ``group`` is named.

    **What is read.** Texts are kept verbatim: ``"NA"``, ``"null"``, ``"007"``, ``"=1+1"`` and
    outer blanks survive. A numeric cell may be a number, a boolean (0 or 1) or a string that
    spells a number. Labels become strings. In a CSV file a covariate is numeric if every cell is
    a plain number, empty, ``NA`` or ``NaN`` (a leading zero makes it text). Text files are UTF-8,
    with or without a byte order mark.

    **Memory.** Files are streamed: beside the columns asked for, at most ``chunk_rows`` rows of
    them (and, for Parquet, one row group's pages of them) are held; other columns cost nothing.
    What is kept is about 60 bytes a text plus its characters and 8 bytes a number: three narrow
    columns of a CSV file of 200 MB and 100,000 rows raise the peak by 28 MB.

    **Assumptions.** None on how the texts were chosen: that is the estimators' affair. The readers
    warn of rates weighted by their number of trials, of logs in which every row occurs an even
    number of times and of files in which many rows repeat earlier ones in every column (standard
    errors would be too small), and of a CSV file whose last line has no line end (it may have been
    cut off). Rows go together by position: pandas objects that carry
    the same index labels in different orders are refused.

    Examples
    --------
    >>> import pandas as pd
    >>> from causal_lm_opt.logged import LoggedData
    >>> frame = pd.DataFrame({
    ...     "reply": ["Yes.", "No.", "NA"], "score": [3, 1, 2],
    ...     "lp": [-1.5, -2.0, -0.5], "lp_new": [-1.0, -4.0, float("-inf")],
    ... })
    >>> log = LoggedData.from_pandas(
    ...     frame, text="reply", outcome="score", logp_logging="lp", logp_target={"new": "lp_new"}
    ... )
    >>> log
    LoggedData(n=3, source='DataFrame', logp_logging, logp_target=['new'])
    >>> log.X, log.outcome
    (['Yes.', 'No.', 'NA'], array([3., 1., 2.]))
    >>> sorted(log.fit_params())
    ['logp_logging', 'logp_target']
    """

    text: list[str]
    outcome: Float
    prompt: list[str] | None = None
    logp_logging: Float | None = None
    logp_target: pd.DataFrame | None = None
    groups: NDArray[np.object_] | None = None
    sample_weight: Float | None = None
    covariates: pd.DataFrame | None = None
    by: NDArray[np.object_] | None = None
    source: str = "arrays"

    def __post_init__(self) -> None:
        place = Place(self.source)
        parts = made(self._parts(), place)
        check_numbers(parts, Columns(text="text", outcome="outcome"), place)
        for name, value in parts.items():
            if isinstance(value, np.ndarray):
                value.flags.writeable = False
            object.__setattr__(self, name, value)

    @classmethod
    def _from_chunks(
        cls,
        chunks: Iterator[Chunk],
        columns: Columns,
        source: str,
        *,
        typed: bool = True,
        copies: Callable[[], int] | None = None,
    ) -> Self:
        parts = read_log(chunks, columns, source, typed=typed)
        for warning in suspicions(parts, source, copies):
            warnings.warn(warning, UserWarning, stacklevel=3)
        return cls(**parts, source=source)

    @property
    def X(self) -> list[str] | pd.DataFrame:
        """What an estimator's ``fit`` takes as ``X``.

        The list of texts (n), or with covariates a DataFrame (n, 1 + p) whose first column,
        ``"text"``, holds them.
        """
        if self.covariates is None:
            return self.text
        frame = self.covariates.copy()
        frame.insert(0, "text", self.text)
        return frame

    @property
    def policies(self) -> list[str]:
        """Names of the K target policies."""
        return [] if self.logp_target is None else [str(name) for name in self.logp_target]

    def fit_params(self, policies: str | Iterable[str] | None = None) -> dict[str, Any]:
        """What ``estimator.fit(log.X, log.outcome, **log.fit_params())`` takes.

        Parameters
        ----------
        policies : str or iterable of str, optional
            Target policies, by default all. An empty iterable leaves out both log-probabilities:
            the estimator then evaluates the logging policy itself.

        Returns
        -------
        dict
            Those of ``logp_target`` (DataFrame (n, K)), ``logp_logging`` (n,), ``groups`` (n,),
            ``sample_weight`` (n,) and ``by`` (n,) that the log has. Where it has prompts and no
            groups, the rows of a prompt are a cluster: they share what the prompt does.

        Raises
        ------
        ValueError
            If the log has no such policy.

        Examples
        --------
        >>> from causal_lm_opt.logged import LoggedData
        >>> log = LoggedData(text=["a", "b"], outcome=[1.0, 2.0], groups=["u", "v"])
        >>> log.fit_params()
        {'groups': array(['u', 'v'], dtype=object)}
        """
        chosen = [policies] if isinstance(policies, str) else policies
        names = self.policies if chosen is None else list(chosen)
        for name in names:
            if name not in self.policies:
                raise ValueError(
                    f"policies: no policy {name!r} in {self.source}; it has "
                    f"{self.policies or 'none'}{did_you_mean(name, self.policies)}"
                )
        params: dict[str, Any] = {}
        if names and self.logp_target is not None:
            params["logp_target"] = self.logp_target[names].copy()
        if chosen is None or names:
            params["logp_logging"] = self.logp_logging
        groups = prompt_clusters(self.prompt) if self.groups is None else self.groups
        params |= {"groups": groups, "sample_weight": self.sample_weight, "by": self.by}
        return {name: value for name, value in params.items() if value is not None}

    def __len__(self) -> int:
        return len(self.text)

    def __getitem__(self, rows: slice | ArrayLike) -> LoggedData:
        """The rows of a slice, of integer positions or of a boolean mask, as a new log."""
        if isinstance(rows, slice):
            return self._take(np.arange(len(self))[rows])
        index = np.asarray(rows)
        if index.ndim == 1 and index.dtype == np.bool_:
            return self.subset(index)
        if index.ndim != 1 or (index.size and index.dtype.kind not in "iu"):
            raise TypeError("index a log with a slice, a list of integers or a boolean mask (n,)")
        return self._take(np.arange(len(self))[index.astype(np.intp)])

    def subset(self, mask: ArrayLike) -> LoggedData:
        """The rows where ``mask`` is true.

        Parameters
        ----------
        mask : array-like of bool (n,)
            Which rows to keep.

        Returns
        -------
        LoggedData
            At least one row.

        Raises
        ------
        ValueError
            If ``mask`` is not boolean of length n, or keeps nothing.

        Examples
        --------
        >>> from causal_lm_opt.logged import LoggedData
        >>> log = LoggedData(text=["a", "b"], outcome=[1.0, 2.0])
        >>> log.subset(log.outcome > 1).text
        ['b']
        """
        keep = np.asarray(mask)
        if keep.dtype != np.bool_ or keep.shape != (len(self),):
            raise ValueError(
                f"mask must be boolean of shape ({len(self)},), not {keep.dtype} of {keep.shape}"
            )
        return self._take(np.flatnonzero(keep))

    def split(
        self,
        sizes: Sequence[float],
        random_state: int | np.random.Generator | None = None,
    ) -> tuple[LoggedData, ...]:
        """Disjoint random parts that never split a group.

        Parameters
        ----------
        sizes : sequence of float or of int
            Fractions that sum to 1, or whole numbers that sum to the number of groups (of rows,
            where the log has no groups). The part sizes count groups, each drawn equally likely.
        random_state : int or numpy Generator, optional
            Seed; an int makes the split reproducible, whatever the order of the groups.

        Returns
        -------
        tuple of LoggedData
            One log a size, rows in their original order; together they are the whole log.

        Raises
        ------
        ValueError
            If ``sizes`` do not add up, or a part would be empty.

        Examples
        --------
        >>> from causal_lm_opt.logged import LoggedData
        >>> log = LoggedData(text=list("abcdef"), outcome=range(6), groups=[1, 1, 2, 2, 3, 3])
        >>> train, test = log.split([2, 1], random_state=0)
        >>> len(train), len(test), set(train.groups) & set(test.groups)
        (4, 2, set())
        """
        keys = np.arange(len(self)) if self.groups is None else self.groups
        units, unit_of_row = np.unique(keys, return_inverse=True)
        cuts = _cuts(sizes, len(units))
        order = np.random.default_rng(random_state).permutation(len(units))
        part_of_unit = np.empty(len(units), dtype=np.intp)
        for part, members in enumerate(np.split(order, cuts)):
            part_of_unit[members] = part
        part_of_row = part_of_unit[unit_of_row]
        return tuple(self._take(np.flatnonzero(part_of_row == k)) for k in range(len(cuts) + 1))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the content, in order; the source and the file's format do not count.

        Examples
        --------
        >>> from causal_lm_opt.logged import LoggedData
        >>> log = LoggedData(text=["a", "b"], outcome=[1.0, 2.0])
        >>> log.fingerprint == log[[0, 1]].fingerprint != log[[1, 0]].fingerprint
        True
        """
        return fingerprint(self._parts())

    def __repr__(self) -> str:
        shown = [f"n={len(self)}", f"source={_shorten(self.source)!r}"]
        for name in ("prompt", "logp_logging", "groups", "sample_weight", "by"):
            if getattr(self, name) is not None:
                shown.append(name)
        for name in ("logp_target", "covariates"):
            frame = getattr(self, name)
            if frame is not None:
                first = [_shorten(str(column)) for column in frame.columns[:3]]
                more = f"+{frame.shape[1] - 3}" if frame.shape[1] > 3 else ""
                shown.append(f"{name}={first}{more}")
        return f"LoggedData({', '.join(shown)})"

    def _parts(self) -> LogParts:
        return LogParts(
            text=self.text,
            outcome=self.outcome,
            prompt=self.prompt,
            logp_logging=self.logp_logging,
            logp_target=self.logp_target,
            groups=self.groups,
            sample_weight=self.sample_weight,
            covariates=self.covariates,
            by=self.by,
        )

    def _take(self, rows: NDArray[np.intp]) -> LoggedData:
        if rows.size == 0:
            raise ValueError(f"no rows of {self.source} selected; a log needs at least one")
        return LoggedData(**take(self._parts(), rows), source=self.source)


def _cuts(sizes: Sequence[float], units: int) -> list[int]:
    """Where to cut ``units`` shuffled groups into parts of the given sizes."""
    values = [float(size) for size in sizes]
    if not values or not all(math.isfinite(v) and v > 0 for v in values):
        raise ValueError(f"sizes must be positive numbers, not {list(sizes)!r}")
    total = math.fsum(values)
    whole = all(v.is_integer() for v in values) and total == units
    if not whole and abs(total - 1) > 1e-9:
        raise ValueError(
            f"sizes sum to {total:g}; give fractions that sum to 1, or whole numbers that sum to "
            f"the number of groups (rows, without groups), {units}"
        )
    ends = np.round(np.cumsum(values) * (1 if whole else units)).astype(int)
    if np.diff(ends, prepend=0).min() < 1:
        raise ValueError(f"sizes {list(sizes)!r} leave a part empty: only {units} groups (or rows)")
    return [int(end) for end in ends[:-1]]


def _shorten(name: str) -> str:
    return name if len(name) <= 40 else "..." + name[-37:]
