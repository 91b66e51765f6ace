"""Whether the texts that were read depend on the subgroup, and log-probabilities do not know it.

Of a logging policy that knew what it wrote for whom two things hold in every subgroup: weights
average 1 (or less, where the target writes what the logger cannot), and weighted to a policy the
texts are those of the policy's draws. The first is seen where the policy leans to one side of what
subgroups were given; the second, tested word by word, also where it leans to neither.

What is found with one policy's weights is said of all: they share the logging log-probabilities.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from causal_lm_opt.diagnostics.agreement import bridge_means
from causal_lm_opt.diagnostics.verdict import mean_weight_finding
from causal_lm_opt.estimators._agreement import SAME, WRONG, disagreeing
from causal_lm_opt.estimators._log import Log
from causal_lm_opt.estimators._policies import Policies
from causal_lm_opt.estimators._policy_overlap import policy_overlap
from causal_lm_opt.estimators._subgroups import own_draws
from causal_lm_opt.estimators._text_rows import text_columns
from causal_lm_opt.estimators._trust import ReadableRows

__all__ = ["DEPENDS", "TRAIT", "dependence_finding", "known_dependence"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

TRAIT = ", unless the subgroup is a trait of the text"
DEPENDS = "which texts they got depends on the subgroup (by=, --by)"
LEVEL = 0.001  # of the subgroups, features and policies that were looked at, together
FEWEST = 30  # units of a subgroup, for a normal mean
FEWEST_HELD = 10  # rows of it that hold a word, and that do not
FURTHEST = 3.0  # standard deviations at which a number is capped


class Told(NamedTuple):
    """What speaks against one subgroup: policy, label, how strongly, and in words."""

    policy: int
    label: object
    z: float
    words: str


def dependence_finding(
    log: Log, policies: Policies, k: int, rows: IntArray | None
) -> list[tuple[int, str]]:
    """Reasons from subgroups whose texts are not those that the log-probabilities tell.

    That some weights average less than 1 is not asked: few rows of skewed weights do so by chance.
    Estimated ratios average 1 over all readers and read no subgroup: there weights that do not
    average 1 within one say the same. A label that is the text's own has such weights whoever
    reads it: a caution, of that label and policy alone.

    Parameters
    ----------
    rows : array, optional
        Logged rows of a subgroup.
    """
    ratios = policies.estimated
    if log.by is None or policies.fixed or (ratios is not None and ratios.replicate):
        return []
    first, inverse = log.contents
    of_readers = bool((log.by != log.by[first][inverse]).any())
    if "dependence" not in policies.memo:
        policies.memo["dependence"] = [
            *_by_weights(log, policies), *_by_texts(log, policies, of_readers)
        ]  # fmt: skip
    told: list[Told] = policies.memo["dependence"]
    own = [one for one in told if one.policy == k]
    if rows is not None and ratios is None and not of_readers:
        own = [one for one in own if one.label == log.by[rows[0]]]
    if not own and of_readers:
        own = told
    if not own:
        return []
    worst = max(own, key=lambda one: one.z)
    whose = "" if worst.policy == k else f" of {policies.names[worst.policy]!r}"
    trait = "" if of_readers else TRAIT
    who, more = "logp_logging does", "Give its log-probs given the subgroup"
    what = "the value over all readers is"
    if ratios is not None:
        who, what = "the estimated ratio does", "values of all readers and of each subgroup are"
        more = (
            "Give the logging policy's log-probs given the subgroup, or value each subgroup's log "
            "apart"
        )
    said = worst.words.replace("the weights", f"the weights{whose}", 1)
    return [(2 if of_readers else 1, (
        f"Among the readers {str(worst.label)!r} {said}: {DEPENDS}, and {who} not know it{trait}. "
        f"{more}: {what} confounded without."
    ))]  # fmt: skip


def known_dependence(log: Log) -> list[tuple[int, str]]:
    """Reason not to believe an outcome model that reads texts alone: assignment knew the subgroup.

    Equal rows then have other log-probs in other subgroups. (Rows of a model that reads the
    subgroup are never equal between subgroups.)
    """
    if log.by is None or log.logp_logging is None:
        return []
    _, inverse = log.contents
    labels, label = np.unique(log.by, return_inverse=True)
    finite = np.isfinite(log.logp_logging)
    logp = log.logp_logging[finite]
    cells, at = np.unique(inverse[finite] * labels.size + label[finite], return_inverse=True)
    least, most = _ranges(logp, at, cells.size)
    one = most - least <= SAME  # else rows stand for several wordings, scored each by itself
    content = np.unique(cells[one] // labels.size, return_inverse=True)[1]
    several = np.bincount(content) > 1
    if not several.any():
        return []
    low, high = _ranges(least[one], content, several.size)
    size = float(np.median((high - low)[several]))
    if not size > SAME:
        return []
    return [(2 if size > WRONG else 1, (
        f"Equal rows have other log-probs in other subgroups (by {size:.2g} nats): {DEPENDS}, and "
        "the outcome model does not read it, so that its average is confounded. Let it read the "
        "subgroup (--feature), or weight."
    ))]  # fmt: skip


def _ranges(values: FloatArray, at: IntArray, count: int) -> tuple[FloatArray, FloatArray]:
    """Least and largest value of each of ``count`` cells."""
    low, high = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(low, at, values)
    np.maximum.at(high, at, values)
    return low, high


def _by_weights(log: Log, policies: Policies) -> list[Told]:
    """Subgroups in which weights average more than 1."""
    assert log.by is not None
    labels, found = np.unique(log.by), []
    limit = stats.norm.isf(LEVEL / (labels.size * policies.count))
    for k in range(policies.count):
        ell = policies.log_ratio(k)
        if policies.estimated is not None:
            ell = ell - math.log(float(np.average(np.exp(ell), weights=log.sample_weight)))
        for label in labels:
            some = np.flatnonzero(log.by == label)
            figures = policy_overlap(log, policies, k, some, ell[some], whoever=True)
            z = figures.mean_weight_z
            if mean_weight_finding(figures) and z > limit:
                words = f"the weights average {figures.mean_weight:.3g} where 1 is due (z {z:+.1f})"
                found.append(Told(k, label, z, words))
    return found


def _by_texts(log: Log, policies: Policies, of_readers: bool) -> list[Told]:
    """Subgroups whose texts, weighted to a policy, are not those of its draws.

    The gap between texts and draws is compared with that of the other subgroups, so that draws of
    another temperature, say, are not taken for it. Draws that do not say whose readers they are for
    are the same for all: then equal texts must have equal log-probs in all subgroups.
    """
    assert log.by is not None
    if policies.estimated is not None or not of_readers or not policies.row_sets:
        return []
    scored = {
        k: rows for k in range(policies.count)
        if (rows := policies.rows_of(k)) is not None and rows.ratio_to_logging(k) is not None
    }  # fmt: skip
    of_all = any(rows.by is None for rows in scored.values())
    texts = bool(text_columns(log.X))
    if of_all and (not texts or _known_to_logger(log)):
        scored = {k: rows for k, rows in scored.items() if rows.by is not None}
    if not scored:
        return []
    readable = ReadableRows(log.X, tuple(rows.X for rows in policies.row_sets))
    here = readable.logged_features
    words = [c for c in here.columns if "word: " in str(c)] if texts else list(here.columns)
    if not words:
        return []
    logged = here[words].to_numpy(dtype=np.float64)
    centre, spread = logged.mean(axis=0), np.maximum(logged.std(axis=0), 1e-300)
    found = []
    for k, rows in scored.items():
        drawn = (readable.features(rows.X)[words].to_numpy(dtype=np.float64) - centre) / spread
        found += _gaps(
            log, policies, k, _capped((logged - centre) / spread), _capped(drawn), words,
            len(scored),
        )  # fmt: skip
    return found


def _capped(standardised: FloatArray) -> FloatArray:
    return np.clip(standardised, -FURTHEST, FURTHEST)


def _known_to_logger(log: Log) -> bool:
    """Whether equal texts have several log-probs, so that these are given something else."""
    if log.logp_logging is None:
        return True
    first, inverse = log.contents
    return disagreeing(log.logp_logging, first[inverse], SAME).size > 0


def _gaps(
    log: Log, policies: Policies, k: int, logged: FloatArray, drawn: FloatArray,
    names: list[str], tests: int,
) -> list[Told]:  # fmt: skip
    """Subgroups whose gap to the draws of policy ``k`` is not that of the others."""
    assert log.by is not None
    second, ell = policies.rows_of(k), policies.log_ratio(k)
    assert second is not None
    labels, means, variances, share = [], [], [], []
    for label in np.unique(log.by):
        some = np.flatnonzero(log.by == label)
        s = None if log.sample_weight is None else log.sample_weight[some]
        codes = log.codes if log.n_texts < 2 else log.texts
        codes = None if codes is None else codes[some]
        if (some.size if codes is None else np.unique(codes).size) < FEWEST:
            continue
        mean, variance = bridge_means(
            special.expit(ell[some]), logged[some], frequency=s, codes=codes
        )
        held = (logged[some] > 0).sum(axis=0)
        variance = np.where(np.minimum(held, some.size - held) < FEWEST_HELD, np.inf, variance)
        if second.by is not None:
            own = own_draws(log, second, some)
            ratio = None if own is None else own.ratio_to_logging(k)
            assert own is not None
            assert ratio is not None
            mine = np.asarray(second.by == label)
            there, more = bridge_means(
                special.expit(-ratio[0]), drawn[mine], frequency=ratio[1], codes=own.codes
            )
            mean, variance = mean - there, variance + (0.0 if second.exact else more)
        labels.append(label)
        means.append(mean)
        variances.append(variance)
        share.append(float(some.size if s is None else s.sum()))
    found = []
    limit = stats.norm.isf(LEVEL / (2 * max(len(labels), 1) * len(names) * tests))
    for b, label in enumerate(labels):
        others = [c for c in range(len(labels)) if c != b]
        if not others:
            continue
        weight = np.array([share[c] for c in others]) / sum(share[c] for c in others)
        gap = means[b] - weight @ np.array([means[c] for c in others])
        noise = variances[b] + weight**2 @ np.array([variances[c] for c in others])
        z = np.divide(gap, np.sqrt(noise), out=np.zeros_like(gap), where=noise > 0)
        j = int(np.argmax(np.abs(z)))
        if abs(z[j]) > limit:
            often = "more" if z[j] > 0 else "less"
            what = names[j].replace("word: ", "")
            said = f"texts hold {often} of {what!r} than the weights tell"
            said += f" (z {z[j]:+.1f} against the others)"
            found.append(Told(k, label, float(abs(z[j])), said))
    return found
