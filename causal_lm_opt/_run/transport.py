"""Leave one author out: its value predicted from the other authors' readers and its texts alone.

Weights cannot value an author whose texts nobody read: the propensity of every such text is 0. What
is left is an outcome model of the texts, fitted on other authors and believed for this one. Where
the author was randomised too, its own mean tells whether that belief was right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from causal_lm_opt.datasets import Persuasion
from causal_lm_opt.estimators._progress import track
from causal_lm_opt.estimators.transport import (
    AuthorPrediction,
    ReadTexts,
    predict_author,
    predict_by_others,
    read_texts,
)

__all__ = [
    "LENGTH",
    "Transport",
    "author_transport",
    "by_value",
    "message_features",
    "read_messages",
    "reachable_rank",
    "said",
    "score",
]

FloatArray = npt.NDArray[np.float64]
LENGTH = "log_words"
FEWEST_AUTHORS = 5


@dataclass(frozen=True, eq=False)
class Transport:
    """Predictions of each author's value without its readers, beside the direct means.

    Attributes
    ----------
    authors : tuple of str, length A
    direct, se_direct : (A,) float64 arrays
        Means of the author's own readers and their standard errors (these texts).
    predicted : mapping predictor -> (A,) array
        "text model" and "grand mean" (of the other authors' readers, issue by issue).
    se : mapping predictor -> (A,) array
        Of the difference: readers' noise of the direct mean, and the predictor's own error, told
        by how far it is off for each of the *other* authors, left out in turn among themselves.
    """

    authors: tuple[str, ...]
    direct: FloatArray
    se_direct: FloatArray
    predicted: dict[str, FloatArray]
    se: dict[str, FloatArray]


def message_features(data: Persuasion) -> pd.DataFrame:
    """What an outcome model reads of each message: its text and the log of its length, (M, 2)."""
    return pd.DataFrame(
        {"text": data.messages["text"], LENGTH: np.log(data.messages["words"].to_numpy())}
    )


def author_transport(data: Persuasion) -> Transport:
    """Predict every complete author's value from the others' readers.

    Parameters
    ----------
    data : Persuasion
        With at least five authors that have a message on every issue.

    Notes
    -----
    The text model is `causal_lm_opt.estimators.transport.predict_author` at its defaults. A
    left-out author's value weights issues and messages as its direct mean does.
    """
    authors = data.complete_authors
    if len(authors) < FEWEST_AUTHORS:
        raise ValueError(
            f"leaving one author out needs {FEWEST_AUTHORS} authors with messages on every issue; "
            f"there are {len(authors)}."
        )
    texts = read_messages(data)
    code = {author: k for k, author in enumerate(texts.authors)}
    direct = [data.direct(author) for author in authors]
    noise = np.array([d.se_texts for d in direct])
    predictors: dict[str, Callable[[ReadTexts, int], AuthorPrediction]] = {
        "text model": predict_author, "grand mean": predict_by_others,
    }  # fmt: skip
    found = {
        name: [predict(texts, code[a]) for a in track(authors, len(authors), "authors")]
        for name, predict in predictors.items()
    }
    return Transport(
        authors,
        np.array([d.value for d in direct]),
        noise,
        {name: np.array([p.value for p in each]) for name, each in found.items()},
        {name: np.sqrt([p.tau2 + v for p, v in zip(each, noise**2, strict=True)])
         for name, each in found.items()},
    )  # fmt: skip


def read_messages(data: Persuasion) -> ReadTexts:
    """The messages, weighted as their authors' direct means weight them.

    Authors with no message on some issue have no direct mean over all issues; to learn from, and
    to tell how far predictions are off, the issues that they have will do.
    """
    kept = data.messages
    outcome = data.readers.groupby("message_id")["outcome"].agg(["mean", "var"])
    at = outcome.reindex(kept["message_id"])
    own = kept.groupby(["author", "issue"])["text"].transform("size")
    return read_texts(
        kept["text"].tolist(), at["mean"].to_numpy(), at["var"].to_numpy(),
        kept["n_readers"].to_numpy(), author=kept["author"].tolist(),
        issue=kept["issue"].tolist(),
        weight=(kept["issue"].map(data.issue_weights()) / own).to_numpy(dtype=np.float64),
    )  # fmt: skip


@dataclass(frozen=True)
class Score:
    """How well a predictor did over authors.

    Attributes
    ----------
    nc_mse : float
        Mean squared difference less the readers' noise in the direct means.
    rank : float
        Spearman's correlation with the direct means; ``nan`` for a predictor that differs between
        authors only through who was left out.
    covered : int
        Authors whose direct mean lies within ``z`` standard errors of the prediction.
    interval_score : float
        Mean width plus the penalty of a miss (Gneiting and Raftery 2007); small is good.
    """

    nc_mse: float
    rank: float
    covered: int
    interval_score: float


def score(transport: Transport, name: str, level: float) -> Score:
    """Score predictor ``name`` at confidence ``level``."""
    predicted, truth = transport.predicted[name], transport.direct
    half = stats.t.ppf((1 + level) / 2, len(truth) - 2) * transport.se[name]
    missed = np.maximum(np.abs(predicted - truth) - half, 0.0)
    ranked = name != "grand mean"
    return Score(
        nc_mse=float(np.mean((predicted - truth) ** 2 - transport.se_direct**2)),
        rank=float(stats.spearmanr(predicted, truth).statistic) if ranked else math.nan,
        covered=int((missed == 0).sum()),
        interval_score=float(np.mean(2 * half + 2 / (1 - level) * missed)),
    )


def reachable_rank(transport: Transport, seed: int, draws: int = 500) -> float:
    """Median rank correlation a perfect predictor would have with the noisy direct means.

    True means are drawn about their average with the variance that the direct means have beyond
    the readers' noise.
    """
    rng = np.random.default_rng(seed)
    noise = transport.se_direct
    signal = max(float(transport.direct.var(ddof=1)) - float(np.mean(noise**2)), 0.0)
    if signal == 0.0:
        return 0.0
    true = rng.normal(scale=math.sqrt(signal), size=(draws, noise.shape[0]))
    seen = true + rng.normal(size=true.shape) * noise
    return float(
        np.median([stats.spearmanr(a, b).statistic for a, b in zip(true, seen, strict=True)])
    )


def said(difference: float, noise: float, se: float, critical: float) -> str:
    """How a prediction compares with the direct mean, in words.

    >>> said(1.0, 1.0, 2.0, 2.0), said(3.0, 1.0, 2.0, 2.0), said(5.0, 1.0, 2.0, 2.0)
    ("within readers' noise", 'within its usual error', 'misses')
    """
    if abs(difference) <= critical * noise:
        return "within readers' noise"
    return "within its usual error" if abs(difference) <= critical * se else "misses"


def by_value(transport: Transport) -> Sequence[int]:
    """Positions of the authors, highest direct mean first."""
    return [int(i) for i in np.argsort(-transport.direct, kind="stable")]
