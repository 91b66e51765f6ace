"""Reading the log: the checked rows every value estimator works on."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn import config_context
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, column_or_1d, validate_data

from causal_lm_opt._validation import (
    as_text_rows,
    check_groups,
    check_log_probs,
    check_sample_weight,
    content_keys,
    digest,
    is_frame,
    n_rows,
    surely_finite,
    take_rows,
)
from causal_lm_opt.core.pareto import TIE
from causal_lm_opt.diagnostics.new_words import LoggedWords
from causal_lm_opt.diagnostics.unlogged import SOME, WEIGHT, distinct_mass, within_clusters
from causal_lm_opt.estimators._estimand import (
    check_estimand,
    check_readers,
    reader_noise,
    text_codes,
)
from causal_lm_opt.estimators._text_rows import text_columns
from causal_lm_opt.estimators.outcome_models import numeric_outcome

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
MAX_UNROLLED_ROWS = 1_000_000
FEW_ROWS = 256  # a glance at them spares most logs a pass over all rows
MANY_ROWS = 50_000  # equal texts are looked for among so many
LABEL = 2.0  # words at most, on average
MANY_READERS = 1.5  # rows a text from which a log without groups is asked about
REPEATS_Z = 3.29  # two-sided level .001
LEAST_MASS = 1.0 - (1.0 - SOME) / WEIGHT  # with less of the logging policy logged, nothing is told


class Repeats(NamedTuple):
    """Rows, their distinct texts, and how many times as often as log-probs allow these repeat.

    ``times`` is not a number where the log-probs do not tell, or not clearly.
    """

    rows: int
    distinct: int
    times: float


@dataclass(frozen=True, eq=False)
class Log:
    """Checked logged rows of positive weight.

    Attributes
    ----------
    X : array (n, d), frame, or object array of texts
    labels : array, shape (n,)
        Outcomes as given (what a classifier learns).
    y : array, shape (n,)
        Outcomes as numbers.
    sample_weight : array, shape (n,), optional
    codes : integer array, shape (n,), optional
    clusters : array of distinct labels, sorted as coded
    logp_logging : array, shape (n,), optional
    by : array, shape (n,), optional
    taken : integer array, shape (n,), optional
        Positions of these rows among the ``n_given`` rows of ``fit`` (``None``: all, in order).
    texts : integer array, shape (n,), optional
        The text of each row, where these texts are the estimand (``estimand="texts"``).
    columns : tuple of str
        Names of a numeric frame's columns.
    """

    X: Any
    labels: npt.NDArray[Any]
    y: FloatArray
    sample_weight: FloatArray | None
    codes: IntArray | None
    clusters: npt.NDArray[Any] | None
    logp_logging: FloatArray | None
    by: npt.NDArray[Any] | None
    taken: IntArray | None
    n_given: int
    texts: IntArray | None = None
    columns: tuple[str, ...] = ()

    @property
    def size(self) -> float:
        """Number of rows (sum of frequency weights)."""
        return float(self.y.shape[0] if self.sample_weight is None else self.sample_weight.sum())

    @property
    def n_clusters(self) -> int:
        """Number of clusters, 0 without groups."""
        return 0 if self.clusters is None else int(self.clusters.shape[0])

    @cached_property
    def units(self) -> Log:
        """The log as standard errors see it: where these texts are the estimand, unclustered."""
        return self if self.texts is None else replace(self, codes=None, clusters=None)

    @cached_property
    def words(self) -> dict[str, LoggedWords]:
        """Words of the texts, or of each of a frame's columns of texts; labels are no texts."""
        units = np.arange(self.y.shape[0]) if self.codes is None else self.codes
        found = {
            name: LoggedWords.of(x.tolist(), units, self.sample_weight)
            for name, x in text_columns(self.X).items()
        }
        if not is_frame(self.X):
            return found
        return {name: one for name, one in found.items() if one.length > LABEL}

    @property
    def estimand(self) -> str:
        """Whether texts are a sample (``"model"``) or held fixed (``"texts"``)."""
        return "model" if self.texts is None else "texts"

    @property
    def n_texts(self) -> int:
        """Number of texts held fixed, 0 where they are a sample."""
        return 0 if self.texts is None else int(np.unique(self.texts).shape[0])

    @cached_property
    def _noise(self) -> FloatArray:
        assert self.texts is not None
        return reader_noise(self.y, self.texts, self.sample_weight)

    def noise(self, rows: IntArray | None = None) -> FloatArray:
        """Outcomes of ``rows`` about their text's mean over these rows (:func:`reader_noise`)."""
        if rows is None:
            return self._noise
        assert self.texts is not None
        s = None if self.sample_weight is None else self.sample_weight[rows]
        check_readers(self.texts[rows], s, "rows of a subgroup (by=)")
        return reader_noise(self.y[rows], self.texts[rows], s)

    @cached_property
    def shown_to_many(self) -> Repeats | None:
        r"""How texts repeat, where each seems to have been shown to many readers.

        Texts also repeat where a policy writes them anew: two rows are equal with probability
        :math:`\sum_x P_R(x)^2`, the mean of ``exp(logp_logging)``. So they must repeat twice as
        often as that; without log-probs, every one must. So too where ``exp(logp_logging)`` of the
        distinct contents adds up to more than 1: densities of numbers, which never repeat by
        chance, or probabilities given a prompt. Among the first ``MANY_ROWS`` rows.
        """
        n = self.first_keys.shape[0]
        s = np.ones(n) if self.sample_weight is None else self.sample_weight[:n]
        _, texts = np.unique(self.first_keys, return_inverse=True)
        size = np.bincount(texts, weights=s)
        rows, distinct = float(s.sum()), int(size.shape[0])
        if distinct < 2 or rows < MANY_READERS * distinct:
            return None
        many, times = bool(size.min() >= 2), math.nan
        if self.logp_logging is not None:
            p = np.exp(np.minimum(self.logp_logging[:n], 0.0))
            of_text = np.bincount(texts, weights=s * p) / size
            if float(of_text.sum()) <= 1.0 + 1e-6:
                alike = float(s @ p) / rows
                pairs, due = float(size @ (size - 1)) / 2, rows * (rows - 1.0) * alike / 2
                many = pairs > 2.0 * due
                # equal pairs less those due: a U-statistic with mean 0 where rows are independent
                spread = rows**3 * float(s @ (p - alike) ** 2) / rows / 4
                if many and (pairs - due) ** 2 > REPEATS_Z**2 * (due + spread):
                    times = pairs / due if due > 0.0 else math.inf
        return Repeats(int(rows), distinct, times) if many else None

    @cached_property
    def contents(self) -> tuple[IntArray, IntArray]:
        """First row of each distinct content (c,), and the content of each row (n,)."""
        found = np.unique(content_keys(self.X), return_index=True, return_inverse=True)
        return found[1], found[2]

    def mass_of(self, rows: IntArray | None) -> tuple[float, tuple[IntArray, IntArray] | None]:
        """Probability, under the logging policy, of the distinct texts of all rows or some.

        Beside it the `contents` of those rows.

        Not a number where it tells nothing: of rows that are no texts, where log-probs are
        conditional (several of one text, or texts within clusters), and far from 1.
        """
        return self._mass if rows is None else self._mass_of(rows)

    @cached_property
    def _mass(self) -> tuple[float, tuple[IntArray, IntArray] | None]:
        return self._mass_of(None)

    def _mass_of(self, rows: IntArray | None) -> tuple[float, tuple[IntArray, IntArray] | None]:
        texts = isinstance(self.X, np.ndarray) and self.X.ndim == 1 and self.texts is None
        if not texts or self.logp_logging is None:
            return math.nan, None
        logp = self.logp_logging if rows is None else self.logp_logging[rows]
        # the sum over rows bounds that over distinct texts: of long texts nothing is looked up
        if np.exp(logp).sum() < LEAST_MASS:
            return math.nan, None
        first, inverse = self.contents
        codes = self.codes
        if rows is not None:
            first, inverse = np.unique(inverse[rows], return_index=True, return_inverse=True)[1:]
            codes = None if codes is None else codes[rows]
        own = distinct_mass(logp, first, inverse)
        nested = codes is not None and within_clusters(inverse, codes)
        return (math.nan if own is None or nested else float(own.sum())), (first, inverse)

    @cached_property
    def rarer_outcomes(self) -> float:
        """How often a binary outcome's rarer value was logged; ``inf`` for other outcomes."""
        if len(set(self.y[:FEW_ROWS].tolist())) > 2:
            return math.inf
        low, high = float(self.y.min()), float(self.y.max())
        is_high = self.y == high
        if low == high or not bool((is_high | (self.y == low)).all()):
            return math.inf
        s = self.sample_weight
        count = float(is_high.sum() if s is None else s[is_high].sum())
        return min(count, self.size - count)

    def rarer_outcomes_of(self, weight: FloatArray, rows: IntArray | None) -> float:
        """How often the rarer outcome was logged among the rows that carry 80 % of the variance.

        Rows count by :math:`s w^2`, heaviest first, ties together: a policy that puts its weight
        on few texts rests on the events among those.
        """
        if not math.isfinite(self.rarer_outcomes):
            return math.inf
        y = self.y if rows is None else self.y[rows]
        s = np.ones(y.shape[0])
        if self.sample_weight is not None:
            s = self.sample_weight if rows is None else self.sample_weight[rows]
        order = np.argsort(-weight, kind="stable")
        carried = np.cumsum((s * weight**2)[order])
        edge = int(np.searchsorted(carried, 0.8 * carried[-1]))
        heavy = weight >= weight[order[min(edge, order.size - 1)]] * (1.0 - TIE)
        is_high = y == self.y.max()
        return float(min(s[heavy & is_high].sum(), s[heavy & ~is_high].sum()))

    @cached_property
    def first_keys(self) -> npt.NDArray[np.uint64]:
        """Content keys of the first ``MANY_ROWS`` rows."""
        n = min(self.y.shape[0], MANY_ROWS)
        return content_keys(self.X if n == self.y.shape[0] else take_rows(self.X, np.arange(n)))

    @cached_property
    def keys(self) -> npt.NDArray[np.uint64]:
        """Distinct content keys of the rows, sorted."""
        return np.unique(content_keys(self.X))

    @cached_property
    def key(self) -> str:
        """Identity of the rows: their outcomes and weights, in order.

        Not their content: the same rows given as texts to one estimator and as features to another
        share their influence functions row by row.
        """
        parts = [self.y] if self.sample_weight is None else [self.y, self.sample_weight]
        return f"log:{digest(*parts)}"

    @cached_property
    def cluster_key(self) -> str:
        """Identity of the cluster labels."""
        if self.clusters is None:
            return ""
        text = "\x1f".join(map(str, self.clusters))
        return (
            "clusters:"
            + hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        )


def read_log(
    estimator: BaseEstimator,
    X: Any,
    y: Any,
    *,
    sample_weight: Any,
    groups: Any,
    logp_logging: Any,
    by: Any,
    utility: Mapping[Any, float] | None,
    unroll_below: int = 0,
    estimand: str = "model",
) -> Log:
    """Check the arguments of ``fit`` and drop rows of weight 0; an earlier fit is forgotten."""
    for name in [a for a in vars(estimator) if a.endswith("_") and not a.startswith("_")]:
        delattr(estimator, name)
    check_estimand(estimand)
    X, labels = _read_rows(estimator, X, y, utility)
    n = labels.shape[0]
    s = check_sample_weight(sample_weight, n)
    taken, s = _rows_that_count(X, s, unroll_below if groups is None else 0)

    def kept(a: Any) -> Any:
        return a if a is None or taken is None else a[taken]

    if taken is not None:
        X = take_rows(X, taken)
    labels = kept(labels)
    codes = clusters = None
    if groups is not None:
        clusters, codes = np.unique(kept(check_groups(groups, "groups", n)), return_inverse=True)
        if clusters.shape[0] < 2 and estimand == "model":
            raise ValueError(
                "groups holds one distinct label; a standard error needs at least two."
            )
    if labels.shape[0] < 2 and s is None:
        raise ValueError(
            f"A standard error needs at least two rows: n_samples = {labels.shape[0]} "
            "(1 sample given)."
        )
    texts = None
    if estimand == "texts":
        texts = text_codes(X, codes)
        check_readers(texts, s)
    logging = None
    if logp_logging is not None:
        logging = check_log_probs(logp_logging, "logp_logging", n, allow_zero=False)
    return Log(
        X=X,
        labels=labels,
        y=numeric_outcome(labels, utility),
        sample_weight=s,
        codes=codes,
        clusters=clusters,
        logp_logging=kept(logging),
        by=None if by is None else kept(check_groups(by, "by", n)),
        taken=taken,
        n_given=n,
        texts=texts,
        columns=tuple(str(c) for c in getattr(estimator, "feature_names_in_", ())),
    )


def _rows_that_count(
    X: Any, s: FloatArray | None, unroll_below: int
) -> tuple[IntArray | None, FloatArray | None]:
    """Positions of the rows of positive weight, and their weights.

    Whole-number weights on fewer than ``unroll_below`` distinct rows are unrolled into repeated
    rows: row folds can then split the readers of one text, as they do when rows are repeated.
    """
    if s is None:
        return None, None
    taken = None if (s > 0).all() else np.flatnonzero(s > 0)
    whole = bool((s == np.rint(s)).all()) and s.sum() <= MAX_UNROLLED_ROWS
    if unroll_below and whole:
        rows = X if taken is None else take_rows(X, taken)
        if np.unique(content_keys(rows)).size < unroll_below:
            return np.repeat(np.arange(s.shape[0]), s.astype(np.intp)), None
    return taken, s if taken is None else s[taken]


def _read_rows(
    estimator: BaseEstimator, X: Any, y: Any, utility: Mapping[Any, float] | None
) -> tuple[Any, npt.NDArray[Any]]:
    """X and y after their checks; numeric X is float64 (or sparse), texts an object array."""
    if y is None:
        raise ValueError(
            f"This {type(estimator).__name__} estimator requires y to be passed, but the target y "
            "is None."
        )
    texts = as_text_rows(X)
    loose = texts is not None or _mixed_frame(X)
    if _countable(X) and _countable(y):
        _same_length(X, y)
    if utility is None:
        _need_numbers(y)
    if not loose and utility is None:
        known = surely_finite(X) and surely_finite(y)
        # scikit-learn need not look again
        with config_context(assume_finite=known or None), _rows_named(y):
            X, y = validate_data(
                estimator, X, y, accept_sparse="csr", y_numeric=True, dtype=np.float64
            )
        return X, np.asarray(y, dtype=np.float64)
    labels = column_or_1d(y, warn=True)
    if utility is None:
        with _rows_named(y):
            labels = check_array(labels, ensure_2d=False, dtype=np.float64, input_name="y")
    if loose:
        X = X if texts is None else texts
    else:
        X = validate_data(estimator, X, accept_sparse="csr", dtype=np.float64)
    _same_length(X, labels)
    return X, labels


@contextmanager
def _rows_named(y: Any) -> Iterator[None]:
    """Inside, scikit-learn's refusal of an outcome also says which row has it."""
    try:
        yield
    except ValueError as error:
        if "Input y contains" not in str(error):
            raise
        bad = np.flatnonzero(~np.isfinite(np.asarray(y, dtype=np.float64).ravel()))
        raise ValueError(
            f"{error} {bad.size:,} of the outcomes are not finite numbers, the first at row "
            f"{bad[0]}: leave out rows without an outcome, and ask why they have none (dropping "
            "them is right only if that has nothing to do with text and outcome)."
        ) from None


def _countable(a: Any) -> bool:
    """Whether rows can be counted before scikit-learn converts ``a``."""
    return isinstance(a, list | tuple) or len(getattr(a, "shape", ())) > 0


def _same_length(X: Any, y: Any) -> None:
    rows, outcomes = n_rows(X), n_rows(y, "y")
    if rows == 0:
        raise ValueError("X is empty (0 rows); give at least two logged rows.")
    if rows != outcomes:
        raise ValueError(f"X has {rows} rows and y has {outcomes}; they must agree.")


def _need_numbers(y: Any) -> None:
    values = np.asarray(y)
    if values.dtype.kind in "OUST" and any(isinstance(v, str) for v in values.ravel()):
        raise ValueError(
            "y holds strings where outcomes are numbers; for classes state "
            "utility={class: value} (and use a classifier as outcome_model)."
        )


def _mixed_frame(X: Any) -> bool:
    """A data frame with columns that are not numbers."""
    if not is_frame(X) or sparse.issparse(X):
        return False
    kinds = [np.asarray(X[c]).dtype.kind for c in X.columns]
    return any(k not in "biuf" for k in kinds)


def read_new_rows(estimator: BaseEstimator, X: Any, name: str = "X") -> Any:
    """X of ``predict`` or of a second sample, in the layout seen in ``fit``."""
    texts = as_text_rows(X, name)
    if texts is not None or _mixed_frame(X):
        if hasattr(estimator, "n_features_in_"):
            raise ValueError(f"{name} holds texts but the estimator was fitted on a numeric array.")
        return X if texts is None else texts
    if not hasattr(estimator, "n_features_in_"):
        raise ValueError(
            f"{name} is numeric but the estimator was fitted on texts or a mixed frame."
        )
    try:
        return validate_data(estimator, X, reset=False, accept_sparse="csr", dtype=np.float64)
    except ValueError as error:
        if name == "X":
            raise
        raise ValueError(f"{name} does not match the logged X: {error}") from error
