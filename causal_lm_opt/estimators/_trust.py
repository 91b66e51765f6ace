"""The details of a trust report, from a fitted estimator's log, policies and predictions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from causal_lm_opt._validation import is_frame
from causal_lm_opt.core.weights import Hajek
from causal_lm_opt.diagnostics.balance import BalanceSummary, balance_summary
from causal_lm_opt.diagnostics.calibration import Calibration, calibration
from causal_lm_opt.diagnostics.drift import LengthDrift, length_drift
from causal_lm_opt.diagnostics.overlap import effective_sample_size
from causal_lm_opt.diagnostics.text_features import count_words, frequent_words, text_features
from causal_lm_opt.diagnostics.trust import TrustDetail
from causal_lm_opt.diagnostics.typicality import TypicalityCoverage, typicality_coverage
from causal_lm_opt.estimators._agreement import common_rows, scored_apart
from causal_lm_opt.estimators._log import Log
from causal_lm_opt.estimators._policies import LogRatios, Policies
from causal_lm_opt.estimators._target import TargetRows
from causal_lm_opt.estimators._text_rows import text_columns

__all__ = ["LoggedPredictions", "ReadableRows", "trust_details"]

FloatArray = npt.NDArray[np.float64]
T = TypeVar("T")
REPLICATES = 9999  # p-values down to 1e-4
MOST_FEATURES = 100
NO_TARGET = "the logging policy itself is valued, so that nothing is re-weighted."
NO_DRAWS = "there are no draws of the policy (X_target) to hold the weighted log against."
NO_TEXTS_OF_DRAWS = "predictions of the draws were given (q_target) without the draws."
NO_RATIO = "no log-probs (logp_target, logp_logging) were given, so that there are no weights."
SCORED_APART = (
    "rows that occur in the log and among the draws have different log-probs in the two: they "
    "were scored as different things (say with and without the wording)."
)
NEED_NOT_BALANCE = (
    "(The ratio is estimated: features that it leaves out matter only where outcomes respond to "
    "them.)"
)
NO_LENGTH = "the rows are no texts, so that their length is not known."


@dataclass(frozen=True, eq=False)
class LoggedPredictions:
    """An outcome model's predictions of the logged rows.

    Attributes
    ----------
    values : array, shape (n,), optional
    note : str
        What they are, or why there are none.
    """

    values: FloatArray | None
    note: str


def trust_details(
    log: Log,
    policies: Policies,
    predictions: LoggedPredictions,
    columns: Sequence[str] = (),
    positions: Sequence[int] | None = None,
) -> tuple[TrustDetail, ...]:
    """Balance, calibration, typicality and length drift of the policies at ``positions`` (all).

    Parameters
    ----------
    columns : sequence of str
        Names of a numeric X's columns.
    positions : sequence of int, optional
        Policies.
    """
    positions = range(policies.count) if positions is None else positions
    rows = ReadableRows(log.X, tuple(r.X for r in policies.row_sets if not r.stand_in), columns)
    return tuple(_detail(log, policies, k, predictions, rows) for k in positions)


def _detail(
    log: Log, policies: Policies, k: int, predictions: LoggedPredictions, rows: ReadableRows
) -> TrustDetail:
    ell = None if policies.ell is None else policies.ell.column(k)
    notes: dict[str, str] = {}

    def part(name: str, make: Callable[[], tuple[T | None, str]]) -> T | None:
        """What ``make`` finds, its note kept; a refusal is the note."""
        try:
            found, note = make()
        except ValueError as error:  # says which input does not bear the diagnostic
            found, note = None, str(error)
        if note:
            notes[name] = note
        return found

    return TrustDetail(
        balance=part("balance", lambda: _balance(log, policies, k, ell, rows)),
        calibration=part("calibration", lambda: _calibration(log, policies, ell, predictions)),
        typicality=part("typicality", lambda: _typicality(log, policies, k, rows)),
        length_drift=part("length_drift", lambda: _length_drift(log, policies, ell, rows)),
        notes=notes,
    )


# ------------------------------------------------------------------------------ rows
@dataclass(frozen=True, eq=False)
class ReadableRows:
    """Readable features and lengths of the logged rows and the second samples.

    Numeric columns stand for themselves (of more than ``MOST_FEATURES`` those that vary most over
    the logged rows), texts for :func:`text_features` with one list of words over all samples.
    """

    logged: Any
    targets: tuple[Any, ...]
    columns: Sequence[str] = ()

    @cached_property
    def words(self) -> Mapping[str, tuple[str, ...]]:
        """Words looked for in each text column."""
        return {
            name: frequent_words(texts, *(text_columns(t)[name] for t in self.targets))
            for name, texts in text_columns(self.logged).items()
        }

    @cached_property
    def varying(self) -> npt.NDArray[np.intp]:
        """Numeric columns that are shown."""
        numbers = _numbers(self.logged)
        if numbers is None:
            return np.zeros(0, dtype=np.intp)
        if numbers.shape[1] <= MOST_FEATURES:
            return np.arange(numbers.shape[1])
        mean = np.asarray(numbers.mean(axis=0)).ravel()
        square = np.asarray(_square(numbers).mean(axis=0))
        variance = square.ravel() - mean**2
        return np.sort(np.argsort(-variance, kind="stable")[:MOST_FEATURES])

    @property
    def note(self) -> str:
        """Which features were left out, if any."""
        numbers = _numbers(self.logged)
        if numbers is None or numbers.shape[1] <= MOST_FEATURES:
            return ""
        return f"(Of {numbers.shape[1]} columns the {MOST_FEATURES} that vary most.)"

    @cached_property
    def logged_features(self) -> pd.DataFrame:
        """Features of the logged rows."""
        return self.features(self.logged)

    @cached_property
    def logged_length(self) -> FloatArray | None:
        """Words of the logged rows."""
        return self.length(self.logged)

    def features(self, X: Any) -> pd.DataFrame:
        """Features of the logged rows or of a second sample, one row each."""
        parts = []
        numbers = _numbers(X)
        if numbers is not None:
            names = _number_names(X, self.columns, numbers.shape[1])
            some = numbers[:, self.varying]
            dense = some.toarray() if hasattr(some, "toarray") else some
            parts.append(pd.DataFrame(dense, columns=[names[j] for j in self.varying]))
        texts = text_columns(X)
        for name, values in texts.items():
            table = text_features(values, self.words[name])
            parts.append(table if len(texts) == 1 else table.add_prefix(f"{name}, "))
        return pd.concat(parts, axis=1)

    def length(self, X: Any) -> FloatArray | None:
        """Words of each row, at least 1; ``None`` without texts."""
        texts = text_columns(X)
        if not texts:
            return None
        one = texts.get("text")
        counts = count_words(one) if one is not None else sum(map(count_words, texts.values()))
        return np.maximum(counts, 1.0)


def _numbers(X: Any) -> Any:
    """The numeric columns (n, d), or ``None``."""
    if sparse.issparse(X):
        return X
    if not is_frame(X):
        return None if np.asarray(X).dtype.kind in "OUT" else X
    columns = [np.asarray(X[c]) for c in X.columns]
    numeric = [c.astype(np.float64) for c in columns if c.dtype.kind in "biuf"]
    return np.column_stack(numeric) if numeric else None


def _square(numbers: Any) -> Any:
    return numbers.power(2) if hasattr(numbers, "power") else numbers**2


def _number_names(X: Any, columns: Sequence[str], d: int) -> list[str]:
    if is_frame(X) and not sparse.issparse(X):
        return [str(c) for c in X.columns if np.asarray(X[c]).dtype.kind in "biuf"]
    return [str(c) for c in columns] if len(columns) == d else [f"x{j}" for j in range(d)]


# ------------------------------------------------------------------------------ parts
def _missing(policies: Policies, k: int) -> str:
    """Why log and second sample cannot be compared; empty when they can."""
    second = policies.rows_of(k)
    if policies.logging:
        return NO_TARGET
    if policies.ell is None:
        return NO_RATIO
    if second is None:
        return NO_DRAWS
    return NO_TEXTS_OF_DRAWS if second.stand_in else ""


def _balance(
    log: Log, policies: Policies, k: int, ell: FloatArray | None, rows: ReadableRows
) -> tuple[BalanceSummary | None, str]:
    missing, second = _missing(policies, k), policies.rows_of(k)
    if missing or second is None or ell is None:
        return None, missing
    logged, target = rows.logged_features, rows.features(second.X)
    shared = second.shared is not None
    drawn = second.ratio_to_logging(k)
    weighted = not second.exact and second.logp_sampling is not None
    found = balance_summary(
        logged,
        target,
        ell,
        normals=np.random.default_rng(0).standard_normal((REPLICATES, logged.shape[1])),
        sample_weight=log.sample_weight,
        target_weight=_support(second, k) if second.exact else second.frequency,
        target_log_ratio=second.log_ratio_sampling(k) if weighted else None,
        ell_target=None if drawn is None else drawn[0],
        codes=log.codes,
        target_codes=second.shared if shared else None if second.exact else second.groups,
        shared_codes=shared,
        exact=second.exact,
    )
    if policies.estimated is not None:  # made from other features, or no more than balanced
        found = replace(found, p_value=math.nan)
        return found, f"{NEED_NOT_BALANCE} {rows.note}".rstrip()
    return found, rows.note


def _support(second: TargetRows, k: int) -> FloatArray:
    assert second.probability is not None
    return second.probability[:, second.columns[k]]


def _calibration(
    log: Log, policies: Policies, ell: FloatArray | None, predictions: LoggedPredictions
) -> tuple[Calibration | None, str]:
    if predictions.values is None:
        return None, predictions.note
    found = calibration(
        log.y, predictions.values, log_ratio=ell, sample_weight=log.sample_weight, codes=log.codes
    )
    under = "weighted to the policy" if ell is not None else "under the logging policy"
    return found, f"({predictions.note}, {under}.)"


def _typicality(
    log: Log, policies: Policies, k: int, rows: ReadableRows
) -> tuple[TypicalityCoverage | None, str]:
    missing, second = _missing(policies, k), policies.rows_of(k)
    if missing or second is None or policies.ell is None:
        return None, missing
    if not isinstance(policies.ell, LogRatios):
        return None, "the ratio is estimated (ratio=): there are no log-probs."
    if second.logp_target is None:
        return None, "the draws have no log-probs under the policy (TargetSample(logp_target=))."
    logp_logged = policies.ell.target(k)
    logp_drawn = second.logp_target[:, second.columns[k]]
    if scored_apart(common_rows(log, second), logp_logged, logp_drawn):
        return None, SCORED_APART
    here, there = rows.logged_length, rows.length(second.X)
    note = "(Surprisal a word.)"
    if here is None or there is None:
        here, there = np.ones_like(logp_logged), np.ones_like(logp_drawn)
        note = "(Surprisal of whole rows, as the rows are no texts.)"
    weight, codes = second.frequency, second.shared if second.shared is not None else second.groups
    if second.exact:
        weight, codes = _support(second, k), None
    elif second.logp_sampling is not None:  # re-weighted draws are worth fewer
        importance, _ = second.policy_weight(k, Hajek())
        size = float(effective_sample_size(importance, second.frequency))
        weight = second.frequency * importance
        weight = weight * (size / weight.sum())
    kept = (weight > 0) if second.exact or second.logp_sampling is not None else slice(None)
    found = typicality_coverage(
        -logp_logged / here,
        (-logp_drawn / there)[kept],
        sample_weight=log.sample_weight,
        target_weight=weight[kept],
        codes=log.codes,
        target_codes=None if codes is None else codes[kept],
        exact=second.exact,
    )
    return found, note


def _length_drift(
    log: Log, policies: Policies, ell: FloatArray | None, rows: ReadableRows
) -> tuple[LengthDrift | None, str]:
    if ell is None:
        return None, NO_TARGET if policies.logging else NO_RATIO
    length = rows.logged_length
    if length is None:
        return None, NO_LENGTH
    written = np.isfinite(ell)
    if written.any() and float(np.ptp(ell[written])) < 1e-6:  # rounding of stored log-probs
        return None, "the log ratio is the same for every text that the policy writes."
    s, codes = log.sample_weight, log.codes
    found = length_drift(
        ell[written],
        length[written],
        sample_weight=None if s is None else s[written],
        codes=None if codes is None else codes[written],
        unit="word",
    )
    never = int((~written).sum())
    return found, f"({never} texts that the policy never writes are left out.)" if never else ""
