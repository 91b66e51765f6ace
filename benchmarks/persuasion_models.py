"""Ways to value an author whom nobody read, for :mod:`benchmarks.persuasion`.

Each takes what the other authors' readers said and the author's texts, and returns a prediction.
The yardstick is ``tfidf_ridge``, a plain outcome regression with a penalty of its own; its tuned
form gets the penalty that the other authors, left out in turn, ask for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from causal_lm_opt import IPW, DoublyRobust
from causal_lm_opt.estimators import TargetSample
from causal_lm_opt.estimators._text_quality import on_the_issue, quality_features
from causal_lm_opt.estimators.balancing import BalancingRatio
from causal_lm_opt.estimators.density_ratio import DensityRatio
from causal_lm_opt.estimators.transport import AuthorPrediction, ReadTexts, transport_variance
from causal_lm_opt.exceptions import OverlapError

FloatArray = npt.NDArray[np.float64]
TOPICS = 100
#: Of the plain ridge, in readers; and those among which the tuned one chooses.
PENALTY = 200.0
PENALTIES = (2.0, 20.0, 200.0, 2000.0)


@dataclass(frozen=True, eq=False)
class Study:
    """The experiment as every estimator here sees it.

    Attributes
    ----------
    texts : list of str, length M
    words : (M,) float64 array
    data : ReadTexts
        Outcomes are effects: the message's mean less the control mean of its issue.
    reader_of : (n,) integer array
        Row of the message that each reader read.
    effect : (n,) float64 array
        Each reader's outcome less the control mean.
    """

    texts: list[str]
    words: FloatArray
    data: ReadTexts
    reader_of: npt.NDArray[np.intp]
    effect: FloatArray


@dataclass(frozen=True)
class Guess:
    """A prediction, the variance of its error about the true mean, and what was said of it."""

    value: float
    variance: float
    verdict: str = ""


def from_prediction(found: AuthorPrediction, verdict: str = "") -> Guess:
    """A prediction of `causal_lm_opt.estimators.transport`."""
    return Guess(found.value, found.tau2, verdict)


# ------------------------------------------------------------------------------ ridges
def ridges(study: Study, author: int) -> dict[str, Guess]:
    """Ridge on topics of TF-IDF terms, issue dummies and log length, by messages, reader-weighted.

    Vocabulary and topics are those of the other authors' messages. To tell how far a ridge is off,
    each of those authors is left out in turn, topics kept.
    """
    data = study.data
    features = _topics(study, data.author != author)
    out = data.author == author
    others = [int(b) for b in np.unique(data.author[~out])]
    values = np.empty(len(PENALTIES))
    errors = np.empty((len(PENALTIES), len(others)))
    for i, penalty in enumerate(PENALTIES):
        values[i] = data.weight[out] @ _ridge(features, data, ~out, out, penalty)
        for k, b in enumerate(others):
            mine = data.author == b
            predicted = _ridge(features, data, ~out & ~mine, mine, penalty)
            errors[i, k] = data.weight[mine] @ predicted - data.value(b)
    variance = data.variance_without(author)
    noise = np.array([data.noise(b, variance) for b in others])
    best = int(np.argmin(np.mean(errors**2 - noise, axis=1)))
    return {
        name: Guess(float(values[i]), transport_variance(errors[i], noise))
        for name, i in (
            ("tfidf_ridge", PENALTIES.index(PENALTY)), ("tfidf_ridge_tuned", best),
        )
    }  # fmt: skip


def _topics(study: Study, train: npt.NDArray[np.bool_]) -> FloatArray:
    texts = np.asarray(study.texts, dtype=object)
    # A term of one message is of no use to another; files of a few short messages have no others.
    terms = TfidfVectorizer(ngram_range=(1, 2), min_df=2 if train.sum() > 50 else 1)
    counts = terms.fit_transform(texts[train])
    topics = TruncatedSVD(min(TOPICS, counts.shape[0] - 1, counts.shape[1] - 1), random_state=0)
    topics.fit(counts)
    length = np.log(study.words)
    length = (length - length[train].mean()) / max(float(length[train].std()), 1e-9)
    issue = study.data.issue[:, None] == np.arange(int(study.data.issue.max()) + 1)
    return np.column_stack([topics.transform(terms.transform(texts)), issue, length])


def _ridge(
    features: FloatArray, data: ReadTexts, train: Any, wanted: Any, penalty: float
) -> FloatArray:
    """Predictions for ``wanted`` of a ridge with an intercept on ``train``, readers as weights."""
    x, y, w = features[train], data.outcome[train], data.readers[train]
    centre, level = w @ x / w.sum(), w @ y / w.sum()
    x = x - centre
    gram = (x.T * w) @ x + penalty * np.eye(x.shape[1])
    slope = np.linalg.solve(gram, (x.T * w) @ (y - level))
    return np.asarray(level + (features[wanted] - centre) @ slope)


# ------------------------------------------------------------------------------ weights
def message_features(study: Study) -> FloatArray:
    """What weights are made of: closeness to the issue, marks of quality, issues, (M, p)."""
    data = study.data
    issue = data.issue[:, None] == np.arange(1, int(data.issue.max()) + 1)
    return np.column_stack([
        on_the_issue(study.texts, data.author, data.issue),
        quality_features(study.texts, data.author), issue,
    ])  # fmt: skip


def weighting_estimators() -> dict[str, Any]:
    """Weights on text features, and their doubly robust form, unfitted."""
    # Nearly without a penalty: only against coefficients that run off where authors part cleanly.
    odds = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=1000))
    model = make_pipeline(StandardScaler(), Ridge(100.0))
    return {
        "classifier_ipw": IPW(ratio=DensityRatio(odds, cv=None, calibrate=None), n_bootstrap=50),
        "balancing": IPW(ratio=BalancingRatio()),
        "dr": DoublyRobust(model, ratio=DensityRatio(odds, cv=None, calibrate=None)),
        "dr_balancing": DoublyRobust(model, ratio=BalancingRatio()),
    }


def weighted_values(study: Study, features: FloatArray, author: int) -> dict[str, Guess | None]:
    """Values by weights on text features; None where the weights cannot reach the author's texts.

    Intervals are the estimators' own: no allowance for what differs between authors of like texts.
    """
    data = study.data
    others = data.author[study.reader_of] != author
    mine = data.author == author
    draws = TargetSample(features[mine], weight=data.readers[mine])
    found: dict[str, Guess | None] = {}
    for name, estimator in weighting_estimators().items():
        try:
            estimator.fit(features[study.reader_of][others], study.effect[others], X_target=draws)
        except OverlapError:
            found[name] = None
            continue
        verdict = estimator.diagnose().verdict
        found[name] = Guess(
            float(estimator.value_), float(estimator.se_) ** 2, str(verdict).split(":")[0]
        )
    return found


def half_width(variance: float, noise: float, errors: int, level: float) -> float:
    """Half-width of an interval for a mean over readers, from Student's t as in `transport`."""
    return float(stats.t.ppf((1 + level) / 2, errors - 1)) * math.sqrt(variance + noise)


def names_of(kernels: Sequence[str]) -> str:
    """A name in the table for predictions from these kernels.

    >>> names_of(["on the issue"]), names_of(["on the issue", "quality", "words"])
    ('on_the_issue', 'on_the_issue+quality+words')
    """
    return "+".join(kernel.replace(" ", "_") for kernel in kernels)
