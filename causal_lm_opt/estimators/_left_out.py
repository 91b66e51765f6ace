"""What an estimated ratio leaves out of balance and outcomes respond to, for the verdict."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from causal_lm_opt.core.inference import influence_covariance
from causal_lm_opt.diagnostics.coverage import PredictedCoverage
from causal_lm_opt.diagnostics.relations import broken_relations
from causal_lm_opt.diagnostics.sufficiency import Sufficiency, latent_sufficiency
from causal_lm_opt.diagnostics.verdict import UNSEEN_VARIANCE
from causal_lm_opt.estimators._estimated import ESTIMATED, EstimatedRatios
from causal_lm_opt.estimators._log import Log
from causal_lm_opt.estimators._policies import Policies
from causal_lm_opt.estimators._ratio import RatioSamples, distinct_rows
from causal_lm_opt.estimators._ratio_cells import CellOdds
from causal_lm_opt.estimators._target import TargetRows
from causal_lm_opt.estimators._trust import ReadableRows
from causal_lm_opt.estimators._unmet import beyond_findings, unmet_of
from causal_lm_opt.estimators._word_counts import WordCounts

__all__ = ["ratio_report", "relations_broken"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
ROWS_PER_WORD, MOST_WORDS = 4, 200  # of the words that a ratio of texts does not read
MOST_SQUARES, MOST_PRODUCTS = 20, 6  # features of the ratio whose squares, products are looked at


def ratio_report(
    log: Log,
    policies: Policies,
    k: int,
    rows: IntArray | None,
    residual: FloatArray,
    logged: FloatArray,
    target: FloatArray | None,
    *,
    tell_words: bool = True,
) -> tuple[list[tuple[int, str]], dict[str, Any]]:
    """Findings and figures of ratio ``k``; nothing where log-probs state it.

    Parameters
    ----------
    rows : integer array, optional
        Logged rows of a subgroup.
    residual : array, shape (rows,)
        Outcomes, or the residuals of an outcome model.
    logged, target : arrays, shape (n,), (m,)
        Influence on the value, for its standard error.
    tell_words : bool
        Whether words that no logged text holds call the value in doubt: not where predictions were
        given, by a model that may know them.
    """
    ratios = policies.estimated
    if ratios is None or ratios.replicate:
        return [], {}
    findings = [(1, ESTIMATED.format(label=ratios.fits[k].label_))]
    figures: dict[str, Any] = {}
    found = ratios.diagnostics(k)
    if found is not None:
        findings, figures = [*found.findings, *findings], found.to_dict()
    second = policies.rows_of(k)
    if second is None or second.stand_in:
        return findings, figures
    se = _value_se(log, second, logged, target)
    for name, form in (("left_out", False), ("form", True)):
        test = _test(log, ratios, policies, k, rows, residual, form=form)
        if test is not None:
            findings = [*test.findings_for(se, form=form), *findings]
            figures |= test.to_dict(name)
    unmet = unmet_of(log, second, k, getattr(ratios.fits[k], "_features", lambda: None)())
    words = beyond_findings(log, second, k) if tell_words else []
    findings = [*unmet.findings, *words, *findings]
    return findings, figures | {"unmet_share": unmet.share}


def relations_broken(
    ratios: EstimatedRatios | None, k: int, coverage: PredictedCoverage | None
) -> str:
    """What gives most of the weights to draws beyond the log, if that is a linear relation."""
    if ratios is None or ratios.replicate or coverage is None:
        return ""
    fitted = ratios.fits[k]
    made = getattr(fitted, "_features", lambda: None)()
    if made is None or isinstance(getattr(fitted, "odds_", None), CellOdds):
        return ""
    if coverage.unseen_variance <= UNSEEN_VARIANCE[1]:
        return ""
    weight = fitted.samples_.target_weight
    return str(broken_relations(made[0], made[1], target_weight=weight, names=made[2]))


def _value_se(log: Log, second: TargetRows, logged: FloatArray, target: FloatArray | None) -> float:
    """Standard error of the value; that of the logged rows where the draws bring none."""
    variance = float(influence_covariance(logged, log.sample_weight, log.codes, log.n_clusters))
    if target is not None and not second.exact:
        part = second.frequency * target / second.frequency.sum()
        if second.groups is not None:
            codes = np.unique(second.groups, return_inverse=True)[1]
            part = np.bincount(codes, weights=part)
        variance += float(part @ part)
    return math.sqrt(variance)


def _test(
    log: Log,
    ratios: EstimatedRatios,
    policies: Policies,
    k: int,
    rows: IntArray | None,
    residual: FloatArray,
    *,
    form: bool,
) -> Sufficiency | None:
    """Responses to readable features (``form``: to squares and products of the ratio's own)."""
    second = policies.row_sets[policies.of_policy[k]]
    made = getattr(ratios.fits[k], "_features", lambda: None)()
    latent = None if made is None else made[0]
    some: Any = slice(None) if rows is None else rows
    weight, there = second.frequency, slice(None)
    kept: Any = there
    if second.exact:
        assert second.probability is not None
        weight = second.probability[:, second.columns[k]]
        kept = np.flatnonzero(weight > 0)
    if form:
        if made is None:
            return None
        features, names = curved(made[0], made[2])
        features_target, _ = curved(made[1], made[2])
    else:
        readable = _readable(log, ratios, policies)
        table = readable.logged_features
        features, names = table.to_numpy(dtype=np.float64), [str(c) for c in table.columns]
        features_target = readable.features(second.X).to_numpy(dtype=np.float64)[kept]
        more = _unread(ratios.fits[k], table.shape[1])
        if more is not None:
            features = np.hstack([features, more[0]])
            features_target = np.hstack([features_target, more[1]])
            names = [*names, *more[2]]
    if not features.shape[1]:
        return None
    groups = second.groups if second.shared is None else second.shared
    codes = None if groups is None else np.unique(groups, return_inverse=True)[1]
    return latent_sufficiency(
        residual,
        ratios.column(k)[some],
        features[some],
        features_target,
        latent=None if latent is None else latent[some],
        sample_weight=None if log.sample_weight is None else log.sample_weight[some],
        target_weight=weight[kept],
        codes=None if log.codes is None else log.codes[some],
        target_codes=codes,
        exact=second.exact,
        squares=not form,
        names=names,
    )


def _readable(log: Log, ratios: EstimatedRatios, policies: Policies) -> ReadableRows:
    """Readable features, of all policies and subgroups at once."""
    if "rows" not in ratios.memo:
        ratios.memo["rows"] = ReadableRows(log.X, tuple(r.X for r in policies.row_sets))
    found: ReadableRows = ratios.memo["rows"]
    return found


def _unread(fitted: Any, taken: int) -> tuple[FloatArray, FloatArray, list[str]] | None:
    """Counts of the commonest words that the ratio does not read; as many as the rows bear."""
    samples: RatioSamples | None = getattr(fitted, "samples_", None)
    if samples is None or not samples.is_text:
        return None
    units = samples.n if samples.codes is None else np.unique(samples.codes).size
    most = min(MOST_WORDS, int(units / ROWS_PER_WORD) - taken)
    if most < 1:
        return None
    read: frozenset[str] = getattr(fitted, "_words_read", frozenset)()
    words = WordCounts(len(read) + most).fit(distinct_rows(samples.both)[0])
    names = words.get_feature_names_out()
    new = np.flatnonzero([name not in read for name in names])[:most]
    here, there = (
        np.asarray(words.transform(X)[:, new].toarray(), dtype=np.float64)
        for X in (samples.X, samples.X_target)
    )
    return here, there, [f"count: {name}" for name in names[new]]


def curved(values: FloatArray, names: list[str]) -> tuple[FloatArray, list[str]]:
    """Squares of few features, and products of very few, with their names."""
    width = values.shape[1]
    if width > MOST_SQUARES:
        return np.zeros((values.shape[0], 0)), []
    columns, named = [values**2], [f"{name}^2" for name in names]
    if width <= MOST_PRODUCTS:
        for i, j in combinations(range(width), 2):
            columns.append(values[:, [i]] * values[:, [j]])
            named.append(f"{names[i]} {names[j]}")
    return np.hstack(columns), named
