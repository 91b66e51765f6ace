"""Simulation studies of estimators: designs x estimators x sample sizes x replications.

A study is a table of claims about estimators, each with its own Monte-Carlo error. It is the same
table whoever computes it: random numbers follow from the names of design, size and replication,
not from the order of work, and finished work is kept.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import pandas as pd
from sklearn.base import clone

from causal_lm_opt._version import __version__
from causal_lm_opt.estimate import ValueEstimate
from causal_lm_opt.exceptions import DataError, EstimationWarning, OverlapError
from causal_lm_opt.simulation._blocks import BLOCK, Cell, run_cells, write_atomically
from causal_lm_opt.simulation._checks import check_count, check_number
from causal_lm_opt.simulation._claim import claim, refuse_other
from causal_lm_opt.simulation._facts import study_facts
from causal_lm_opt.simulation._identity import identity
from causal_lm_opt.simulation._summary import summarise, with_failures

if TYPE_CHECKING:
    from causal_lm_opt.plots import Axes

__all__ = [
    "Design",
    "Study",
    "StudyResult",
    "estimate_row",
    "random_generator",
    "result_figures",
    "run_study",
    "summarise",
]

Estimators = Mapping[str, Any]
#: What a function of the log may return; other figures go under the last.
RETURNED = ("value", "se", "low", "high", "verdict", "figures")
#: Columns of the table of replications that a figure may not take.
TAKEN = ("design", "n", "estimator", "replication", "error")


class Design(Protocol):
    """What a study draws logs from: any object with these two methods."""

    def draw(self, n: int, rng: np.random.Generator) -> Any:
        """A log of n rows: ``X``, ``y`` and ``fit_arguments()``."""

    def value(self) -> float:
        """The target's true value."""


@dataclass(frozen=True)
class Study:
    """A simulation study.

    Parameters
    ----------
    designs : mapping name -> Design
        For example :class:`GaussianDesign`.
    estimators : mapping name -> estimator, or callable design -> mapping
        An estimator of this package (cloned for every log, with the log's ``fit_arguments``), or a
        function of the log that returns a :class:`~causal_lm_opt.ValueEstimate` of one policy or a
        mapping with ``value`` and what it has of ``se, low, high, verdict`` and ``figures`` (a
        mapping of others, which become columns). A replication in which the value or the
        interval is not a number counts as a failure.
    sizes : sequence of int
        Numbers of rows, no number twice.
    replications : int
        At least 2.
    seed : int
        At least 0.
    level : float
        Of the intervals.
    about : str
        What the study shows, for reports.

    Examples
    --------
    >>> from causal_lm_opt import IPW
    >>> from causal_lm_opt.simulation import GaussianDesign, Study
    >>> study = Study({"near": GaussianDesign(shift=.3)}, {"Hajek": IPW(), "HT": IPW("ht")},
    ...               sizes=[200], replications=20)
    >>> table = study.run(progress=False).summary
    >>> table[["design", "n", "estimator", "replications"]].values.tolist()
    [['near', 200, 'Hajek', 20], ['near', 200, 'HT', 20]]
    """

    designs: Mapping[str, Design]
    estimators: Estimators | Callable[[Any], Estimators]
    sizes: Sequence[int]
    replications: int = 1000
    seed: int = 0
    level: float = 0.95
    about: str = ""

    def __post_init__(self) -> None:
        for name in ("designs", "estimators"):
            held = getattr(self, name)
            if not isinstance(held, Mapping) and not (name == "estimators" and callable(held)):
                raise TypeError(f"{name} must map names to {name}, got {type(held).__name__}.")
            if isinstance(held, Mapping) and not held:
                raise ValueError(f"{name} is empty; give at least one.")
        object.__setattr__(self, "sizes", _whole_sizes(self.sizes))
        object.__setattr__(self, "replications", check_count(self.replications, "replications", 2))
        check_count(self.seed, "seed", 0)
        if not 0.0 < check_number(self.level, "level") < 1.0:
            raise ValueError(f"level must lie strictly between 0 and 1, got {self.level!r}.")
        wrong = [d for d, o in self.designs.items() if not (_has(o, "draw") and _has(o, "value"))]
        if wrong:
            raise TypeError(f"designs {wrong} have no draw(n, rng) and value().")

    def estimators_for(self, design: Any) -> Estimators:
        """Estimators run on the logs of a design."""
        found = self.estimators if isinstance(self.estimators, Mapping) else self.estimators(design)
        if not found:
            raise ValueError(f"There are no estimators for {design!r}.")
        return found

    def cells(self, *, kept: bool = True) -> Iterator[tuple[str, int, Cell]]:
        """Name of the design, size and cell, in the order of the table.

        ``kept=False`` leaves out what tells the blocks of one study from those of another, for
        designs and estimators whose code or values cannot be read.
        """
        for name, design in self.designs.items():
            estimators = self.estimators_for(design)
            for n in self.sizes:
                one = _Replication(name, design, estimators, int(n), self.seed, self.level)
                told = one.identity() if kept else ""
                cell = Cell(f"{name}-{n}", one, self.replications, told)
                yield name, int(n), cell

    def run(
        self,
        out: str | Path | None = None,
        *,
        jobs: int | None = 1,
        block: int = BLOCK,
        progress: bool = True,
    ) -> StudyResult:
        """Run what is not there yet.

        Parameters
        ----------
        out : path, optional
            Folder for ``study.json``, finished blocks (``out/blocks``), and in the end
            ``summary.csv`` and ``replications.csv.gz``: new, or of this study (of the same designs,
            estimators, seed and level; sizes and replications may be others). A run that was
            stopped, by Ctrl-C or otherwise, goes on from its blocks when started again, to the same
            bytes. Blocks are used where also the code of functions and classes is the same (as
            far as they are written in Python outside installed libraries), the source of this
            package and the versions of what it computes with.
        jobs : int or None
            Worker processes, none of which changes a figure; ``None``: as
            :func:`joblib.parallel_config` says (Dask and Ray too).
        block : int
            Replications kept together; changing it starts anew.
        progress : bool
            Show a progress bar on stderr.

        Raises
        ------
        ValueError
            ``out`` holds another study.
        DataError
            With ``out``: a design or estimator whose values or code cannot be read (compiled
            functions, locks), so that nothing tells whether kept blocks are of this study.
        """
        truths = {name: _truth(name, design) for name, design in self.designs.items()}
        for name, design in self.designs.items():
            _check_drawn(name, design, min(self.sizes), self.seed)
        cells = list(self.cells(kept=out is not None))
        folder = None if out is None else Path(out) / "blocks"
        every = [c for _, _, c in cells]
        if out is not None:
            claim(Path(out), study_facts(self), every, block)
        frames = run_cells(every, out=folder, jobs=jobs, block=block, progress=progress)
        rows: list[dict[str, Any]] = []
        tables: list[pd.DataFrame] = []
        for (name, n, _), frame in zip(cells, frames, strict=True):
            frame = with_failures(frame)
            frame.insert(0, "design", name)
            frame.insert(1, "n", n)
            tables.append(frame)
            figures = summarise(frame, truths[name], level=self.level)
            rows += [{"design": name, "n": n} | row for row in figures]
            _warn_of_lost(name, n, figures, frame)
        result = StudyResult(pd.DataFrame(rows), pd.concat(tables, ignore_index=True), self)
        if out is not None:
            result.write(out)
        return result


def _truth(name: str, design: Any) -> float:
    """A design's value, a finite number."""
    value = design.value()
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        raise ValueError(
            f"design {name!r}: value() is {value!r}; the true value, a number, is due."
        )
    return found


def _check_drawn(name: str, design: Any, n: int, seed: int) -> None:
    """Refuse logs whose randomness does not come from the generator that ``draw`` is given."""
    logs = [design.draw(n, random_generator(seed, name, n, 0)) for _ in range(2)]
    one, two = (np.asarray(getattr(log, "y", None)) for log in logs)
    if np.issubdtype(one.dtype, np.number) and not np.array_equal(one, two, equal_nan=True):
        raise ValueError(
            f"design {name!r}: draw(n, rng) gives other outcomes from the same rng a second time: "
            "take every random number from rng, or nobody can repeat the study or go on with it."
        )


def _warn_of_lost(design: str, n: int, figures: list[dict[str, Any]], frame: pd.DataFrame) -> None:
    """Say which estimators failed on every log of a cell, and why the first did."""
    for row in figures:
        if row["failures"] == row["replications"]:
            why = str(frame.loc[frame["estimator"] == row["estimator"], "error"].iloc[0])
            warnings.warn(
                f"{design}, {n:,} rows: {row['estimator']} failed on all {row['replications']:,} "
                f"logs, so that its figures are missing; the first: {why}",
                EstimationWarning,
                stacklevel=3,
            )


def run_study(
    designs: Mapping[str, Design],
    estimators: Estimators | Callable[[Any], Estimators],
    *,
    sizes: Sequence[int],
    replications: int = 1000,
    seed: int = 0,
    out: str | Path | None = None,
    jobs: int | None = 1,
    level: float = 0.95,
    progress: bool = True,
) -> StudyResult:
    """Run a study in one call: see :class:`Study` and :meth:`Study.run`.

    Examples
    --------
    >>> from causal_lm_opt import IPW
    >>> from causal_lm_opt.simulation import GaussianDesign, run_study
    >>> near = {'near': GaussianDesign(shift=.3)}
    >>> done = run_study(near, {'Hajek': IPW()}, sizes=[200], replications=20, progress=False)
    >>> done.summary[['design', 'n', 'replications']].values.tolist()
    [['near', 200, 20]]
    """
    study = Study(designs, estimators, sizes, replications, seed, level)
    return study.run(out, jobs=jobs, progress=progress)


@dataclass(frozen=True, eq=False)
class StudyResult:
    """Figures of a study.

    Attributes
    ----------
    summary : DataFrame
        One row per design, size and estimator: see :func:`summarise`.
    replications : DataFrame
        One row per design, size, estimator and replication.
    study : Study
    """

    summary: pd.DataFrame
    replications: pd.DataFrame
    study: Study

    def to_frame(self) -> pd.DataFrame:
        """The summary."""
        return self.summary

    def plot(
        self,
        y: Literal["coverage", "bias", "sd", "rmse", "se_over_sd", "width"] = "coverage",
        *,
        x: Literal["design", "n"] | None = None,
        theme: Literal["light", "dark"] = "light",
        ax: Axes | None = None,
    ) -> Axes:
        """A figure over designs or sizes: :func:`causal_lm_opt.plots.plot_study`.

        Examples
        --------
        >>> from causal_lm_opt import IPW, plots
        >>> from causal_lm_opt.simulation import GaussianDesign, run_study
        >>> near = {f"shift {s}": GaussianDesign(shift=s) for s in (.2, .4)}
        >>> done = run_study(near, {"H": IPW()}, sizes=[50], replications=5, progress=False)
        >>> done.plot("bias", ax=plots.new_axes()).get_xlabel()
        'shift'
        """
        from causal_lm_opt.plots import plot_study

        return plot_study(self, x=x, y=y, theme=theme, ax=ax)

    def write(self, out: str | Path) -> None:
        """Write ``summary.csv``, ``replications.csv.gz`` and ``study.json``, each atomically.

        :func:`causal_lm_opt.report.study_files` makes a report of them, as ``simulate`` writes.

        Raises
        ------
        ValueError
            ``out`` holds another study.
        """
        folder, facts = Path(out), study_facts(self.study)
        refuse_other(folder, facts)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "study.json", (json.dumps(facts, indent=1) + "\n").encode())
        write_atomically(folder / "summary.csv", self.summary.to_csv(index=False).encode())
        replications = self.replications.to_csv(index=False).encode()
        write_atomically(folder / "replications.csv.gz", gzip.compress(replications, mtime=0))

    def _repr_html_(self) -> str:
        return str(self.summary.to_html(index=False, border=0, float_format="{:.4g}".format))


# ------------------------------------------------------------------------------ one replication
def random_generator(seed: int, name: str, n: int, replication: int) -> np.random.Generator:
    """Random numbers of one log, from names and numbers alone.

    >>> bool(random_generator(0, "a", 10, 3).random() == random_generator(0, "a", 10, 3).random())
    True
    """
    words = np.frombuffer(hashlib.sha256(name.encode()).digest()[:16], dtype="<u4")
    entropy = [seed, *(int(w) for w in words), n, replication]
    return np.random.default_rng(np.random.SeedSequence(entropy))


@dataclass(frozen=True)
class _Replication:
    """One log of a design, and every estimator's row on it."""

    name: str
    design: Any
    estimators: Estimators
    n: int
    seed: int
    level: float

    def identity(self) -> str:
        """What decides the figures besides the replication number."""
        try:
            what = identity(self.design, dict(self.estimators))
        except DataError as error:
            error.add_note(f"in the design {self.name!r} or its estimators")
            raise
        return f"{what}|{self.n}|{self.seed}|{self.level!r}|{__version__}"

    def __call__(self, replication: int) -> list[dict[str, Any]]:
        rng = random_generator(self.seed, self.name, self.n, replication)
        log = self.design.draw(self.n, rng)
        rows = []
        for name, estimator in self.estimators.items():
            head = {"estimator": name, "replication": replication}
            try:
                rows.append(head | estimate_row(estimator, log, self.level))
            except OverlapError as error:  # the estimator's refusal, counted in the table
                rows.append(head | {"error": str(error)})
            except (TypeError, ValueError) as error:
                kind = TypeError if isinstance(error, TypeError) else ValueError
                raise kind(f"estimator {name!r} in {self.name!r}, n = {self.n}: {error}") from error
        return rows


def estimate_row(estimator: Any, log: Any, level: float = 0.95) -> dict[str, Any]:
    """Figures of one estimator on one log: value, se, low, high, verdict and its diagnostics.

    Raises
    ------
    ValueError
        Several policies at once, or a mapping without ``value`` or with unknown keys.
    """
    if _has(estimator, "fit"):
        if not _has(log, "fit_arguments"):
            raise TypeError(
                f"draw(n, rng) returned {type(log).__name__}, which has no rows to fit on: return "
                "SimulatedLog(X, y, logs, X_target, groups) of causal_lm_opt.simulation."
            )
        result = clone(estimator).fit(log.X, log.y, **log.fit_arguments()).result_
    else:
        result = estimator(log)
    if isinstance(result, Mapping):
        return _returned_figures(result)
    if not isinstance(result, ValueEstimate):
        raise TypeError(f"An estimator returned {type(result)}; a ValueEstimate or mapping is due.")
    return result_figures(result, level)


def _returned_figures(result: Mapping[Any, Any]) -> dict[str, Any]:
    """Figures that a function of the log returned, its others beside them."""
    unknown = sorted(str(key) for key in result if key not in RETURNED)
    if unknown or "value" not in result:
        said = f"the key {unknown[0]!r}" if unknown else "no 'value'"
        raise ValueError(
            f"An estimator returned {said}; its keys are 'value' and, where it has them, "
            f"{', '.join(RETURNED[1:])} (a mapping of any others)."
        )
    if ("low" in result) != ("high" in result):
        raise ValueError("An estimator returned one end of an interval; give low and high.")
    figures = dict(result.get("figures") or {})
    taken = sorted(str(k) for k in figures if k in (*RETURNED, *TAKEN))
    if taken:
        raise ValueError(f"figures: {taken[0]!r} is a column of the table; name it otherwise.")
    row = {key: value for key, value in result.items() if key != "figures"}
    lacking = [k for k in ("value", "low", "high") if k in row and _is_nan(row[k])]
    if lacking:
        row["error"] = f"{lacking[0]} is not a number"
    return row | figures


def _is_nan(value: Any) -> bool:
    return value is None or math.isnan(value)


def result_figures(result: ValueEstimate, level: float = 0.95) -> dict[str, Any]:
    """Figures of an estimate of one policy: value, se, low, high, verdict and its diagnostics."""
    if len(result.names) != 1:
        raise ValueError(f"A study values one policy; the estimate has {list(result.names)}.")
    low, high = np.ravel(result.confint(level))
    figures = result.diagnostics[0] if result.diagnostics else {}
    return {
        "value": float(result.values[0]),
        "se": float(np.ravel(result.se)[0]),
        "low": float(low),
        "high": float(high),
        "verdict": result.verdicts[0].level,
        **{k: v for k, v in figures.items() if k != "n"},  # n is the cell's
    }


def _whole_sizes(sizes: Any) -> tuple[int, ...]:
    """Sizes, which must be distinct whole numbers."""
    if isinstance(sizes, str | bytes | Mapping) or not isinstance(sizes, Iterable):
        raise ValueError(f"sizes must list numbers of rows, as in [500, 2000]; got {sizes!r}.")
    given = list(sizes)
    if not given:
        raise ValueError("sizes is empty; give at least one.")
    whole = tuple(check_count(n, "sizes: each") for n in given)
    if len(set(whole)) < len(whole):
        raise ValueError(f"sizes holds a number twice: {given}.")
    return whole


def _has(thing: Any, method: str) -> bool:
    return callable(getattr(thing, method, None))
