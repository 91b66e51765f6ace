"""Cross-fitted conditional quantiles of the outcome, and predictions of a bound's excess."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed
from scipy import sparse
from sklearn.base import clone, is_classifier
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from causal_lm_opt._validation import as_text_rows, is_frame, take_rows
from causal_lm_opt.diagnostics.sensitivity import (
    interpolate_columns,
    quantile_excess,
    quantile_levels,
)
from causal_lm_opt.estimators._crossfit import CrossFit, Folds
from causal_lm_opt.estimators._log import Log
from causal_lm_opt.estimators._policies import Policies
from causal_lm_opt.estimators.outcome_models import fit_outcome_model, predict_outcome

__all__ = ["ConditionalModels", "conditional_models"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
Table = Callable[[IntArray], FloatArray]
MAX_LEVELS = 21  # quantiles between are interpolated: a wrong quantile only widens
COMPONENTS = 20


@dataclass(frozen=True, eq=False)
class ConditionalModels:
    """Out-of-fold conditional quantiles, and the excess of the bounds on a grid of strengths.

    Attributes
    ----------
    levels : array, shape (T,)
    quantiles : array, shape (n, T), ascending within rows
    lambdas : array, shape (L,)
        Knots of the predicted excess.
    down, up : arrays (n, L) or None
        Predicted excess of the logged rows; ``None`` without an outcome model.
    draws_down, draws_up : tuples of arrays (m, L), one a second sample
    """

    levels: FloatArray
    quantiles: FloatArray
    lambdas: FloatArray
    down: FloatArray | None = None
    up: FloatArray | None = None
    draws_down: tuple[FloatArray, ...] = ()
    draws_up: tuple[FloatArray, ...] = ()

    @property
    def has_excess(self) -> bool:
        """Whether the excess was modelled."""
        return self.down is not None

    def quantiles_at(self, lambdas: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Quantiles for the lower and the upper bound, each (n, L)."""
        low, high = quantile_levels(lambdas)
        return (
            interpolate_columns(self.levels, self.quantiles, low),
            interpolate_columns(self.levels, self.quantiles, high),
        )

    def excess_at(self, lambdas: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Predicted excess of the logged rows, each (n, L)."""
        assert self.down is not None
        assert self.up is not None
        return (
            interpolate_columns(self.lambdas, self.down, lambdas),
            interpolate_columns(self.lambdas, self.up, lambdas),
        )


def default_quantile_model(X: Any, *, binary: bool) -> Any:
    """Boosted trees on the features, or on the leading components of TF-IDF for texts."""
    settings: dict[str, Any] = {
        "max_iter": 60, "max_leaf_nodes": 8, "min_samples_leaf": 20, "random_state": 0,
        "early_stopping": False,
    }  # fmt: skip
    trees: Any = (
        HistGradientBoostingClassifier(**settings)
        if binary
        else HistGradientBoostingRegressor(loss="quantile", quantile=0.5, **settings)
    )
    if as_text_rows(X) is not None:
        return make_pipeline(*_word_steps(X), trees)
    if sparse.issparse(X):
        columns = int(getattr(X, "shape", (0, 2))[1])
        svd = TruncatedSVD(max(min(COMPONENTS, columns - 1), 1), random_state=0)
        return make_pipeline(svd, trees)
    if is_frame(X):
        return make_pipeline(_frame_step(X), trees)
    return trees


def _word_steps(texts: Any) -> tuple[Any, ...]:
    """TF-IDF as few dense columns: the terms themselves where they are few."""
    # one-character words count: no text should lose all its terms
    words = TfidfVectorizer(max_features=5000, token_pattern=r"(?u)\b\w+\b|[^\w\s]")
    if words.fit(texts).idf_.shape[0] <= 3 * COMPONENTS:
        return clone(words), FunctionTransformer(_dense, accept_sparse=True)
    return clone(words), TruncatedSVD(COMPONENTS, random_state=0)


def _dense(X: Any) -> Any:
    return X.toarray()


def _frame_step(X: Any) -> Any:
    """Columns of texts as words, the others (numbers) as they are."""
    texts = [as_text_rows(X[c].to_list(), f"column {c!r}") for c in X.columns]
    parts = [
        (f"words{k}", make_pipeline(*_word_steps(rows)), k)
        for k, rows in enumerate(texts)
        if rows is not None
    ]
    return ColumnTransformer(parts, remainder="passthrough", sparse_threshold=0.0)


def at_level(model: Any, level: float) -> Any:
    """A clone of a quantile regressor (or of a pipeline that ends in one) set to ``level``.

    Examples
    --------
    >>> from sklearn.linear_model import QuantileRegressor
    >>> at_level(QuantileRegressor(), .75)
    QuantileRegressor(quantile=0.75)
    """
    params = model.get_params(deep=True)
    names = [p for p in params if p.split("__")[-1] == "quantile"]
    if not names:
        losses = [p for p in params if p.split("__")[-1] == "loss" and params[p] == "quantile"]
        names = [p[: -len("loss")] + "alpha" for p in losses]
    if len(names) != 1 or names[0] not in params:
        raise TypeError(
            "quantile_model must have one parameter 'quantile' (QuantileRegressor, "
            f"HistGradientBoostingRegressor) or loss='quantile' with 'alpha', got {model!r}."
        )
    loss = names[0].rpartition("__")[0]
    loss = f"{loss}__loss" if loss else "loss"
    if params.get(loss, "quantile") != "quantile":
        raise ValueError(f"quantile_model has loss={params[loss]!r}; set loss='quantile'.")
    return clone(model).set_params(**{names[0]: level})


def _levels(lambdas: FloatArray) -> FloatArray:
    """Levels at which quantiles are fitted: those of the strengths, thinned to at most 21."""
    low, high = quantile_levels(lambdas)
    exact = np.unique(np.concatenate([low, high]).round(12))
    if exact.size <= MAX_LEVELS:
        return np.asarray(exact)
    return np.linspace(exact[0], exact[-1], MAX_LEVELS)


def _two_values(log: Log) -> tuple[float, float] | None:
    """The two values of a binary outcome."""
    if math.isinf(log.rarer_outcomes):
        return None
    return float(log.y.min()), float(log.y.max())


def _fold_table(
    log: Log, train: IntArray, model: Any, levels: FloatArray, values: tuple[float, float] | None
) -> Table:
    """Quantiles of any rows by models fitted on ``train``."""
    s = None if log.sample_weight is None else log.sample_weight[train]
    X, y = take_rows(log.X, train), log.y[train]
    if values is not None:  # a binary outcome: the quantile follows from its probability
        fitted = fit_outcome_model(model, X, (y == values[1]).astype(np.float64), s)

        def two(rows: IntArray) -> FloatArray:
            chance = predict_outcome(fitted, take_rows(log.X, rows))
            return np.where(chance[:, None] > 1.0 - levels, values[1], values[0])

        return two
    models = [fit_outcome_model(at_level(model, float(t)), X, y, s) for t in levels]

    def many(rows: IntArray) -> FloatArray:
        some = take_rows(log.X, rows)
        return np.sort(np.stack([predict_outcome(m, some) for m in models], axis=1), axis=1)

    return many


def conditional_models(
    log: Log,
    folds: Folds,
    lambdas: FloatArray,
    *,
    quantile_model: Any,
    policies: Policies,
    fitted: CrossFit | None = None,
    excess_model: Any = None,
    n_jobs: int | None = None,
) -> ConditionalModels:
    """Fit quantiles on every fold's training rows; with ``excess_model``, the excess too.

    A fold's excess is computed with that fold's quantiles at its training rows, so that nothing
    predicted for a row has seen the row.
    """
    grid = np.unique(np.concatenate([[1.0], lambdas]))
    levels = _levels(grid)
    values = _two_values(log) if quantile_model is None else None
    model = quantile_model
    if model is None:
        model = default_quantile_model(log.X, binary=values is not None)
    elif is_classifier(model):
        raise TypeError(f"quantile_model must be a quantile regressor, got {model!r}.")

    def one(train: IntArray, test: IntArray) -> tuple[FloatArray, list[Any]]:
        table = _fold_table(log, train, model, levels, values)
        learners: list[Any] = []
        if excess_model is not None:
            learners = _excess_learners(log, train, table(train), levels, grid, excess_model)
        return table(test), learners

    tests = [np.flatnonzero(folds.fold == j) for j in range(folds.n_folds)]
    found = Parallel(n_jobs=n_jobs)(
        delayed(one)(train, test) for train, test in zip(folds.train, tests, strict=True)
    )
    quantiles = np.empty((log.y.shape[0], levels.size))
    for test, (part, _) in zip(tests, found, strict=True):
        quantiles[test] = part
    out = ConditionalModels(levels, quantiles, grid)
    if excess_model is None or fitted is None:
        return out
    return _with_excess(out, log, policies, fitted, [learners for _, learners in found])


def _excess_learners(
    log: Log,
    train: IntArray,
    table: FloatArray,
    levels: FloatArray,
    grid: FloatArray,
    model: Any,
) -> list[Any]:
    """Regressions of the excess on the text: lower bounds of all strengths, then upper ones."""
    low, high = quantile_levels(grid)
    down, up = quantile_excess(
        log.y[train], interpolate_columns(levels, table, low),
        interpolate_columns(levels, table, high), grid,
    )  # fmt: skip
    s = None if log.sample_weight is None else log.sample_weight[train]
    X = take_rows(log.X, train)
    targets = np.concatenate([down[:, 1:], up[:, 1:]], axis=1)  # nothing to learn at Lambda = 1
    return [fit_outcome_model(model, X, column, s) for column in targets.T]


def _with_excess(
    models: ConditionalModels,
    log: Log,
    policies: Policies,
    fitted: CrossFit,
    learners: list[list[Any]],
) -> ConditionalModels:
    size = models.lambdas.size - 1
    fits = [
        replace(fitted, models=tuple(fold[j] for fold in learners), utility=None)
        for j in range(2 * size)
    ]

    def both(columns: list[FloatArray], n: int) -> tuple[FloatArray, FloatArray]:
        # the excess is never negative, whatever a regression extrapolates to
        table = np.maximum(np.stack(columns, axis=1) if columns else np.zeros((n, 0)), 0.0)
        none = np.zeros((n, 1))
        return np.hstack([none, table[:, :size]]), np.hstack([none, table[:, size:]])

    down, up = both([f.predict_logged(log.X) for f in fits], log.y.shape[0])
    draws = [
        both([f.predict(r.X, f.fold_of_draws(r.keys, r.shared)) for f in fits], r.size)
        for r in policies.row_sets
    ]
    return replace(
        models, down=down, up=up, draws_down=tuple(d for d, _ in draws),
        draws_up=tuple(u for _, u in draws),
    )  # fmt: skip
