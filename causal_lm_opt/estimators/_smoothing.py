"""What the penalty or the folds of an estimated ratio leave out of balance: a value's own bias."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from causal_lm_opt.core.inference import influence_covariance
from causal_lm_opt.core.weights import Weighting
from causal_lm_opt.estimators._linear import coefficient_influence, linear_outcome
from causal_lm_opt.estimators._log import Log
from causal_lm_opt.estimators._policies import Policies
from causal_lm_opt.estimators._ratio import RatioSamples, distinct_rows
from causal_lm_opt.estimators._subgroups import spread
from causal_lm_opt.estimators._terms import LoggedTerm
from causal_lm_opt.estimators._word_counts import WordCounts
from causal_lm_opt.estimators.text_pipelines import TOKEN

__all__ = ["smoothing_bias", "smoothing_finding"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
MOST_READ, MOST_CELLS = 300, 50_000_000  # 400 MB of them
PENALTIES = np.logspace(-1, 5, 13)  # of standardised features; leave-one-out picks
MARGIN = 1.645  # standard errors of the estimated bias, as for transforms: an upper 95 % limit


def smoothing_bias(
    log: Log,
    policies: Policies,
    k: int,
    rows: IntArray | None,
    y: FloatArray,
    s: FloatArray | None,
    term: LoggedTerm,
    weighting: Weighting,
) -> float:
    r"""Bound on the bias of a weighted mean whose ratio is penalised or cross-fitted.

    With :math:`\hat q` a ridge regression of the outcomes on what the ratio itself reads (the
    300 commonest words of texts, where a classifier of one's own reads them), the bias is
    :math:`\frac1m \sum_j \hat q(\tilde x_j) - \sum_i w_i \hat q(x_i) / \sum_i w_i`: the part of
    the doubly robust correction that a fit without penalty would make zero. No bootstrap sees it,
    since each resample shrinks its weights as the log does. The bound is its size and 1.645
    standard errors; zero where the fit has a first-order form, or texts are held fixed, so that
    the ratio is part of the target.

    Parameters
    ----------
    rows : integer array, optional
        Logged rows of a subgroup.
    y, s : arrays, shape (rows,)
        Outcomes and frequencies.
    term : LoggedTerm
        With their weights.
    """
    ratios = policies.estimated
    if ratios is None or policies.fixed or ratios.replicate:
        return 0.0
    fitted = ratios.fits[k]
    made = None if fitted.influence_ is not None else _read_by(fitted)
    if made is None or not made[0].shape[1]:
        return 0.0
    here, there = made[0] if rows is None else made[0][rows], made[1]
    model = make_pipeline(StandardScaler(with_mean=False), RidgeCV(PENALTIES))
    model.fit(here, y, ridgecv__sample_weight=s)
    linear = linear_outcome(model)
    assert linear is not None
    weight = term.weight if s is None else s * term.weight
    count = float(y.shape[0] if s is None else s.sum())
    total = float(weight.sum()) if weighting.normalize else count
    drawn = np.average(linear.features(there), axis=0, weights=fitted.samples_.target_weight)
    apart = drawn - weight @ linear.features(here) / total
    moved = coefficient_influence(linear, here, y, sample_weight=s) @ apart
    noise = spread(moved, rows, log.sample_weight, log.y.shape[0], log.codes)
    return abs(float(apart @ linear.coef)) + MARGIN * _se(noise, log)


def _se(influence: FloatArray, log: Log) -> float:
    """Standard error by the influence of all logged rows (n,)."""
    found = influence_covariance(influence, log.sample_weight, log.codes, log.n_clusters)
    return float(np.sqrt(found))


def _read_by(fitted: Any) -> tuple[Any, Any] | None:
    """What a ratio reads of log (n, d) and draws (m, d); ``None`` where it does not say."""
    samples: RatioSamples | None = getattr(fitted, "samples_", None)
    if samples is None:
        return None
    most = max(1, min(MOST_READ, MOST_CELLS // max(samples.n, samples.m)))
    made = getattr(fitted, "_features", lambda: None)()
    if made is not None:
        widest = np.argsort(-made[0].var(axis=0), kind="stable")[:most]
        return made[0][:, widest], made[1][:, widest]
    if not samples.is_text:
        return None
    words = sorted(getattr(fitted, "_words_read", frozenset)())
    if not words or len(words) > most:  # a classifier of one's own, or a very long log
        commonest = WordCounts(most).fit(distinct_rows(samples.both)[0])
        words = commonest.get_feature_names_out().tolist()
    counts = CountVectorizer(token_pattern=TOKEN, vocabulary=words, dtype=np.float64)
    return counts.transform(samples.X), counts.transform(samples.X_target)


def smoothing_finding(bias: float, influence: FloatArray, log: Log) -> list[tuple[int, str]]:
    """A reason for caution where the bias is more than the standard error (influence (n,))."""
    se = _se(influence, log)
    if bias <= se:
        return []
    return [
        (1, f"The ratio's penalty or folds leave words or features that it reads out of balance, "
            f"which may bias the value by up to {bias:.3g}, more than its standard error "
            f"({se:.3g}): the interval allows for it. DoublyRobust takes it out.")
    ]  # fmt: skip
