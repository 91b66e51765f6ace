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
from causal_lm_opt.estimators._named_models import named_outcome_model
from causal_lm_opt.estimators._progress import track

__all__ = [
    "LENGTH",
    "Transport",
    "author_transport",
    "by_value",
    "message_features",
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
        by how far it was off for the *other* authors beyond their readers' noise.
    """

    authors: tuple[str, ...]
    direct: FloatArray
    se_direct: FloatArray
    predicted: dict[str, FloatArray]
    se: dict[str, FloatArray]


def message_features(data: Persuasion) -> pd.DataFrame:
    """What the text model reads of each message: its text and the log of its length, (M, 2)."""
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
    The text model is a ridge regression on the words and the length of a message (the command
    line's default outcome model, penalty untouched) of its mean outcome beyond the issue's, each
    message counted by its readers. Issue means are those of the other authors' readers. A left-out
    author's value weights issues and messages as its direct mean does.
    """
    authors = data.complete_authors
    if len(authors) < FEWEST_AUTHORS:
        raise ValueError(
            f"leaving one author out needs {FEWEST_AUTHORS} authors with messages on every issue; "
            f"there are {len(authors)}."
        )
    means = data.readers.groupby("message_id")["outcome"].mean()
    y = means.reindex(data.messages["message_id"]).to_numpy(dtype=np.float64)
    issue_weight = data.messages["issue"].map(data.issue_weights()).to_numpy(dtype=np.float64)
    direct = [data.direct(author) for author in authors]
    predicted: dict[str, FloatArray] = {}
    predictors: dict[str, Callable[..., FloatArray]] = {
        "text model": _text_model, "grand mean": _grand_mean,
    }  # fmt: skip
    features = message_features(data)
    for name, predict in predictors.items():
        values = []
        for author in track(authors, len(authors), "authors"):
            weight = issue_weight * data.policy(author).to_numpy()
            out = (data.messages["author"] == author).to_numpy()
            values.append(float(weight[out] @ predict(data.messages, features, y, out)))
        predicted[name] = np.array(values)
    truth = np.array([d.value for d in direct])
    noise = np.array([d.se_texts for d in direct])
    se = {name: _error(value - truth, noise) for name, value in predicted.items()}
    return Transport(authors, truth, noise, predicted, se)


def _issue_means(messages: pd.DataFrame, y: FloatArray, out: npt.NDArray[np.bool_]) -> FloatArray:
    """Mean outcome of the issue's readers of the messages not in ``out``, shape (M,)."""
    n = messages["n_readers"].where(~out, 0)
    total = (n * y).groupby(messages["issue"]).transform("sum")
    readers = n.groupby(messages["issue"]).transform("sum")
    if (readers[out] == 0).any():
        lone = messages.loc[out & (readers == 0).to_numpy(), "issue"].iloc[0]
        raise ValueError(f"only one author wrote on {lone!r}: nothing predicts it without.")
    return (total / readers.where(readers > 0, 1)).to_numpy(dtype=np.float64)


def _grand_mean(
    messages: pd.DataFrame, features: pd.DataFrame, y: FloatArray, out: npt.NDArray[np.bool_]
) -> FloatArray:
    """Every text is worth what the others' readers of its issue said, shape (M_out,)."""
    return _issue_means(messages, y, out)[out]


def _text_model(
    messages: pd.DataFrame, features: pd.DataFrame, y: FloatArray, out: npt.NDArray[np.bool_]
) -> FloatArray:
    """The issue's mean and a ridge regression on words and length, shape (M_out,)."""
    base = _issue_means(messages, y, out)
    model = named_outcome_model("tfidf-ridge", features=[LENGTH], weighted=True)
    weight = messages["n_readers"].to_numpy(dtype=np.float64)
    model.fit(features[~out], (y - base)[~out], sample_weight=weight[~out])
    return base[out] + np.asarray(model.predict(features[out]), dtype=np.float64)


def _error(difference: FloatArray, noise: FloatArray) -> FloatArray:
    """Standard error of each difference, the predictor's part told by the other authors', (A,)."""
    beyond = difference**2 - noise**2
    others = (beyond.sum() - beyond) / (beyond.shape[0] - 1)
    return np.asarray(np.sqrt(np.maximum(others, 0.0) + noise**2))


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
