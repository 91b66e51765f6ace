r"""Fitting the odds of a density ratio: one parametric model, or cross-fitted models.

With classes 0 (logged, total frequency n_R) and 1 (draws, n_f) Bayes' rule gives
:math:`\log w(x) = \log \mathrm{odds}(1 | x) + \log(n_R / n_f)`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed
from scipy import optimize, sparse, special
from scipy.sparse.csgraph import connected_components
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter

from causal_lm_opt._validation import content_keys, n_rows, take_rows
from causal_lm_opt.estimators._crossfit import _row_keys, deal_folds
from causal_lm_opt.estimators._linear import (
    LinearOutcome,
    coefficient_influence,
    linear_outcome,
    tractable,
)
from causal_lm_opt.estimators._ratio import (
    Block,
    BlockInfluence,
    Influence,
    RatioSamples,
    distinct_rows,
)

__all__ = ["FoldOdds", "SingleOdds", "fit_folds", "fit_single", "is_logistic"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
BoolArray = npt.NDArray[np.bool_]
#: Of the smaller sample's. Below, fits are too noisy for first order. Above, one fit on all rows
#: is far better than folds: its score equations balance the features that the value rests on, which
#: the noise of another fold's fit does not (tests/estimators/test_ratio_mends.py).
ROWS_PER_PARAMETER = 5.0
MOST_PENALTY_BIAS = 0.25  # standard errors of the combination of coefficients it moves most
MAX_CELLS = 60_000_000  # of the influence matrices, all folds together


# ------------------------------------------------------------------------------ one learner
def is_logistic(model: Any) -> bool:
    """Whether a classifier's last step is a logistic regression."""
    return type(model.steps[-1][1] if isinstance(model, Pipeline) else model) is LogisticRegression


def fit_classifier(model: Any, X: Any, y: IntArray, s: FloatArray) -> Any:
    """A fitted clone; frequencies mean repeated rows, and to a logistic model repeated rows mean
    frequencies (texts that many readers saw are fitted once).
    """
    learner = clone(model)
    if is_logistic(model):
        X, first, inverse = distinct_rows(X, y)
        y, s = y[first], np.asarray(np.bincount(inverse, weights=s), dtype=np.float64)
        name = f"{learner.steps[-1][0]}__" if isinstance(learner, Pipeline) else ""
        return _fit(learner, X, y, **{f"{name}sample_weight": s})
    if (s == 1).all():
        return _fit(learner, X, y)
    final = learner.steps[-1][1] if isinstance(learner, Pipeline) else learner
    whole = bool((s == np.rint(s)).all())
    if not isinstance(learner, Pipeline) and has_fit_parameter(learner, "sample_weight"):
        return _fit(learner, X, y, sample_weight=s)
    if whole and s.sum() <= 1_000_000:
        rows = np.repeat(np.arange(n_rows(X)), s.astype(np.intp))
        return _fit(learner, take_rows(X, rows), y[rows])
    if isinstance(learner, Pipeline) and has_fit_parameter(final, "sample_weight"):
        return _fit(learner, X, y, **{f"{learner.steps[-1][0]}__sample_weight": s})
    raise ValueError(
        f"The frequencies are fractional and the classifier {model!r} takes no sample_weight; use "
        "another classifier."
    )


def _fit(learner: Any, X: Any, y: IntArray, **weights: FloatArray) -> Any:
    try:
        return learner.fit(X, y, **weights)
    except ValueError as error:
        if "could not convert string to float" not in str(error):
            raise
        raise ValueError(
            f"The classifier {learner!r} takes numbers but the rows hold texts: use a text "
            "pipeline such as make_pipeline(TfidfVectorizer(), LogisticRegression()), or latent= "
            f"({error})."
        ) from error


def log_odds(model: Any, X: Any, least: float) -> FloatArray:
    """Log odds of being a draw, shape (rows,); probabilities are kept ``least`` off 0 and 1."""
    X, _, inverse = distinct_rows(X)
    if is_logistic(model) or not hasattr(model, "predict_proba"):
        return np.asarray(model.decision_function(X), dtype=np.float64).ravel()[inverse]
    p = np.asarray(model.predict_proba(X), dtype=np.float64)
    return np.asarray(special.logit(np.clip(p[:, 1], least, 1.0 - least)))[inverse]


def _prior(y: IntArray, s: FloatArray) -> float:
    """``log(n_R / n_f)``."""
    return math.log(float(s[y == 0].sum()) / float(s[y == 1].sum()))


def _shift(fitted: Any, rows: Any, y: IntArray, s: FloatArray, least: float) -> float:
    """What makes fitted log odds log ratios: ``log(n_R / n_f)``.

    Class weights stand for other shares of draws than these: the likeliest constant undoes them.
    """
    final = fitted.steps[-1][1] if isinstance(fitted, Pipeline) else fitted
    shift = _prior(y, s)
    if getattr(final, "class_weight", None) is None:
        return shift
    odds, drawn = log_odds(fitted, rows, least), float(s[y == 1].sum())

    def excess(a: float) -> float:
        return float(s @ special.expit(odds + a)) - drawn

    width = float(np.abs(odds).max()) + 50.0
    return shift + float(optimize.brentq(excess, -width, width))


# ------------------------------------------------------------------------------ all rows
@dataclass(frozen=True, eq=False)
class SingleOdds:
    """One model fitted on all rows."""

    model: Any
    shift: float
    least: float
    log_ratio: FloatArray
    log_ratio_target: FloatArray
    influence: Influence | None

    def predict(self, X: Any) -> FloatArray:
        """Log ratios of new rows."""
        return log_odds(self.model, X, self.least) + self.shift


def fit_single(model: Any, samples: RatioSamples) -> SingleOdds:
    """Fit on all rows; the influence is that of a (generalised) linear model, if it is one."""
    y, s = samples.is_target, samples.weight_both
    fitted = fit_classifier(model, samples.both, y, s)
    least = 0.5 / (float(s.sum()) + 1.0)
    shift = _shift(fitted, samples.both, y, s, least)
    ell = log_odds(fitted, samples.both, least) + shift
    n = samples.n
    influence = None
    linear = parametric_odds(fitted, samples)
    if linear is not None:
        every = np.arange(y.shape[0])
        block = _block(linear, samples, every, np.ones(n, dtype=bool))
        influence = BlockInfluence((block,))
    return SingleOdds(fitted, shift, least, ell[:n], ell[n:], influence)


def parametric_odds(fitted: Any, samples: RatioSamples, folds: int = 1) -> LinearOutcome | None:
    """The logistic model behind a classifier with rows enough for its parameters.

    ``None`` too where its penalty biases some combination of coefficients by more than a quarter
    of a standard error: no interval of first order allows for that.
    """
    linear = linear_outcome(fitted) if is_logistic(fitted) else None
    if linear is None:
        return None
    cells = linear.coef.size * (samples.n + samples.m) * folds
    enough = linear.coef.size * ROWS_PER_PARAMETER <= samples.units
    fits = tractable(linear, float(samples.n + samples.m), rows_per_parameter=1.0)
    if not (enough and fits and cells <= MAX_CELLS):
        return None
    return linear if penalty_bias(linear, samples) <= MOST_PENALTY_BIAS else None


def penalty_bias(linear: LinearOutcome, samples: RatioSamples) -> float:
    r"""Largest bias over standard error that a ridge penalty brings to a linear functional of b.

    With information H the penalised b is off by :math:`\delta = (H + \lambda)^{-1} \lambda b`, at a
    covariance of :math:`(H + \lambda)^{-1} H (H + \lambda)^{-1}`; the largest of
    :math:`D'\delta` over its standard error is the root of :math:`b'\lambda H^{-1} \lambda b`.
    """
    pull = linear.penalty * linear.coef
    if not pull.any():
        return 0.0
    rows, first, inverse = distinct_rows(samples.both)
    s = np.bincount(inverse, weights=samples.weight_both, minlength=first.size)
    z = linear.features(rows)
    p = special.expit(z @ linear.coef)
    information = z.T @ ((s * p * (1.0 - p))[:, None] * z)
    values, vectors = np.linalg.eigh(information)
    used = values > 1e-10 * float(values[-1])  # other directions move no log ratio
    return math.sqrt(float(((vectors[:, used].T @ pull) ** 2 / values[used]).sum()))


def _block(
    linear: LinearOutcome, samples: RatioSamples, train: IntArray, applied: BoolArray
) -> Block:
    """Influence of both samples' training rows on the coefficients.

    The two sample sizes are fixed, so that each sample's scores are centred at their own mean.
    ``applied`` (n,) marks the logged rows whose ratio comes from this model.
    """
    n, m = samples.n, samples.m
    s = samples.weight_both
    codes = samples.codes_both
    moved = coefficient_influence(
        linear, take_rows(samples.both, train), samples.is_target[train].astype(np.float64),
        sample_weight=s[train], codes=None if codes is None else codes[train],
        n_clusters=0 if codes is None else int(codes.max()) + 1,
    )  # fmt: skip
    full = np.zeros((n + m, moved.shape[1]))
    full[train] = moved
    total = float(s[train].sum())
    inside = np.zeros(n + m)
    inside[train] = s[train]
    parts = []
    for part in (slice(0, n), slice(n, n + m)):
        here = full[part]
        mean = inside[part] @ here / inside[part].sum()
        here = np.where(inside[part][:, None] > 0, here - mean, 0.0)
        parts.append(here * (float(s[part].sum()) / total))
    gradient = np.zeros((n, moved.shape[1]))
    rows = np.flatnonzero(applied)
    gradient[rows] = linear.features(take_rows(samples.X, rows))
    return Block(gradient, parts[0], parts[1])


# ------------------------------------------------------------------------------ cross-fitting
@dataclass(frozen=True, eq=False)
class FoldOdds:
    """Models of each fold; rows get the log odds of the model that has not seen them.

    ``calibration`` (a, b): the log ratio is ``a + b`` times the out-of-fold log odds (less their
    prior); new rows get the average over folds.
    """

    models: tuple[Any, ...]
    shifts: tuple[float, ...]
    least: float
    calibration: tuple[float, float]
    fold: IntArray
    log_ratio: FloatArray
    log_ratio_target: FloatArray
    influence: Influence | None

    def predict(self, X: Any) -> FloatArray:
        """Log ratios of new rows: the average over folds."""
        a, b = self.calibration
        parts = [
            log_odds(model, X, self.least) + shift
            for model, shift in zip(self.models, self.shifts, strict=True)
        ]
        return np.asarray(a + b * np.mean(parts, axis=0))


def fold_of_rows(samples: RatioSamples, cv: int, seed: int) -> IntArray:
    """Fold of each row of both samples, (n + m,); groups stay together.

    So do equal texts, of log and draws: without groups always where there are enough of them; with
    groups where what hangs together by a text or a group still makes twice ``cv`` parts of either
    sample (else a text's readers may lie in several folds). Logged and other rows are dealt apart,
    so that every fold has both.
    """
    keys = content_keys(samples.both)
    here, there = keys[: samples.n], keys[samples.n :]
    if samples.codes is None and samples.target_codes is None:
        if np.unique(here).size < 2 * cv or np.unique(there).size < 2 * cv:
            return np.concatenate(
                [deal_folds(_row_keys(here), cv, seed), deal_folds(_row_keys(there), cv, seed)]
            )
    else:
        labels = _parts(samples.codes_both, keys, samples.n, cv)
        first = dict(zip(here[::-1].tolist(), labels[: samples.n][::-1].tolist(), strict=True))
        here, there = labels[: samples.n], labels[samples.n :].copy()
        if samples.target_codes is None:  # draws that repeat a logged text join its group
            known = [first.get(key) for key in keys[samples.n :].tolist()]
            there = np.array(
                [own if k is None else k for k, own in zip(known, there.tolist(), strict=True)],
                dtype=np.uint64,
            )
    fold = deal_folds(here, min(cv, int(np.unique(here).size)), seed)
    out = np.empty(samples.n + samples.m, dtype=np.intp)
    out[: samples.n] = fold
    distinct, first_row = np.unique(here, return_index=True)
    place = np.minimum(np.searchsorted(distinct, there), distinct.size - 1)
    shared = distinct[place] == there
    other = np.zeros(samples.m, dtype=np.intp)
    other[shared] = fold[first_row[place[shared]]]
    if not shared.all():
        other[~shared] = deal_folds(there[~shared], int(fold.max()) + 1, seed)
    out[samples.n :] = other
    return out


def _parts(
    codes: IntArray | None, keys: npt.NDArray[np.uint64], n: int, cv: int
) -> npt.NDArray[np.uint64]:
    """Rows (n + m,) that hang together by group or text; by group alone where that is too much."""
    assert codes is not None
    text = np.unique(keys, return_inverse=True)[1]
    size, top = keys.size, int(codes.max()) + 1
    edges = (np.ones(size), (codes, top + text))
    width = top + int(text.max()) + 1
    whole = connected_components(sparse.coo_array(edges, (width, width)), directed=False)[1][codes]
    few = min(np.unique(whole[:n]).size, np.unique(whole[n:]).size) < 2 * cv
    return np.asarray((codes if few else whole).astype(np.uint64))


def fit_folds(
    model: Any, samples: RatioSamples, cv: int, *, calibrate: str | None, seed: int,
    n_jobs: int | None,
) -> FoldOdds:  # fmt: skip
    """Cross-fit; ``calibrate`` is ``"auto"``, ``"sigmoid"`` or ``None``."""
    y, s, n = samples.is_target, samples.weight_both, samples.n
    fold = fold_of_rows(samples, cv, seed)
    folds = int(fold.max()) + 1
    trains = [np.flatnonzero(fold != k) for k in range(folds)]
    if folds < 2 or any(np.unique(y[rows]).size < 2 for rows in trains):
        raise ValueError(
            f"cv={cv}: a fold's training rows hold only logged rows or only draws (too few "
            "distinct texts or groups); use fewer folds."
        )

    def fit(rows: IntArray) -> Any:
        return fit_classifier(model, take_rows(samples.both, rows), y[rows], s[rows])

    models = tuple(Parallel(n_jobs=n_jobs)(delayed(fit)(rows) for rows in trains))
    least = 0.5 / (float(s.sum()) + 1.0)
    shifts = tuple(
        _shift(fitted, take_rows(samples.both, rows), y[rows], s[rows], least)
        for fitted, rows in zip(models, trains, strict=True)
    )
    ell = np.empty(y.shape[0])
    for k, fitted in enumerate(models):
        test = np.flatnonzero(fold == k)
        if test.size:
            ell[test] = log_odds(fitted, take_rows(samples.both, test), least) + shifts[k]
    linear = [parametric_odds(fitted, samples, folds) for fitted in models]
    influence, line = None, (0.0, 1.0)
    if calibrate != "sigmoid" and all(x is not None for x in linear):
        blocks = [
            _block(x, samples, rows, fold[:n] == k)
            for k, (x, rows) in enumerate(zip(linear, trains, strict=True))
            if x is not None
        ]
        influence = BlockInfluence(tuple(blocks))
    elif calibrate is not None:
        line = _sigmoid(ell, y, s)
        ell = line[0] + line[1] * ell
    return FoldOdds(models, shifts, least, line, fold, ell[:n], ell[n:], influence)


def _sigmoid(ell: FloatArray, y: IntArray, s: FloatArray) -> tuple[float, float]:
    """(a, b) of the likeliest log ratio ``a + b ell`` (Platt 1999), b not negative."""
    offset = -_prior(y, s)
    mean, scale = float(np.average(ell, weights=s)), float(np.std(ell))
    if not scale > 1e-12:
        return -mean, 1.0
    x = (ell - mean) / scale
    design = np.column_stack([np.ones_like(x), x])
    b = np.array([0.0, scale])
    ridge = np.diag([0.0, 1e-6]) * float(s.sum())
    value = -math.inf
    for _ in range(100):
        eta = design @ b + offset
        p = special.expit(eta)
        gradient = design.T @ (s * (y - p)) - ridge @ b
        information = design.T @ ((s * p * (1 - p))[:, None] * design) + ridge
        step = np.linalg.solve(information + 1e-12 * np.eye(2), gradient)
        new = float(s @ (y * eta - np.logaddexp(0.0, eta))) - 0.5 * float(b @ ridge @ b)
        if float(np.abs(step).max()) < 1e-10 or abs(new - value) < 1e-13 * abs(new):
            break
        value = new
        b = b + step * min(1.0, 2.0 / float(np.abs(step).max()))
    slope = max(float(b[1]), 0.0) / scale
    return float(b[0]) - slope * mean if slope > 0 else 0.0, slope
