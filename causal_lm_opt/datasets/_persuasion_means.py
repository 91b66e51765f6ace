"""Means of messages, and what messages of one author differ by beyond their readers' noise."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__: list[str] = []


def message_means(messages: pd.DataFrame, readers: pd.DataFrame) -> pd.DataFrame:
    """The messages with their readers' mean and variance (columns mean, var), shape (M, ...).

    A message with one reader gets the pooled variance of readers within messages.
    """
    outcome = readers.groupby("message_id")["outcome"]
    found = outcome.agg(["mean", "var"]).reindex(messages["message_id"])
    spare = len(readers) - len(messages)
    pooled = float((found["var"] * (outcome.size() - 1)).sum()) / spare if spare else math.nan
    return messages.assign(
        mean=found["mean"].to_numpy(), var=found["var"].fillna(pooled).to_numpy()
    )


def between_messages(found: pd.DataFrame) -> float:
    """Variance between messages of one author on one issue; see `Persuasion.message_variance`.

    Parameters
    ----------
    found : DataFrame of shape (M, ...)
        As `message_means` returns it.
    """
    n = found["n_readers"].to_numpy(dtype=np.float64)
    spare = n.sum() - len(found)
    if spare == 0:
        return 0.0
    sigma2 = float((n - 1) @ found["var"].to_numpy()) / spare
    cells = [found["author"], found["issue"]]
    total = found["n_readers"].groupby(cells).transform("sum").to_numpy(dtype=np.float64)
    weighted = (n * found["mean"]).groupby(cells).transform("sum").to_numpy(dtype=np.float64)
    squares = float(n @ (found["mean"].to_numpy() - weighted / total) ** 2)
    df = len(found) - found.groupby(["author", "issue"]).ngroups
    scale = float(np.sum(n - n**2 / total))
    return max(squares - df * sigma2, 0.0) / scale if scale > 0 else 0.0


def error_over_messages(
    weight: npt.NDArray[np.float64],
    by_issue: pd.DataFrame,
    texts_variance: float,
) -> tuple[float, float]:
    r"""Standard error of a mean over messages to come, and its degrees of freedom.

    With :math:`S_c^2` the variance of the message means on issue c, which holds their readers'
    noise, :math:`\sum_c W_c^2 S_c^2/M_c` estimates the readers' part (`texts_variance`) plus
    what messages differ by. From few messages that second part may come out negative; it is then
    0, as in `between_messages`, and the readers' part is left. The floor is on the sum over
    issues, not on each: many small floors would add up to an error too large.

    Parameters
    ----------
    weight : array, shape (C,)
        Of the issues.
    by_issue : DataFrame of shape (C, ...)
        ``var`` and ``size``: variance of the message means, and messages of each issue.
    texts_variance : float
        Variance of the mean of *these* messages.

    Returns
    -------
    se, df : float
        ``nan`` where an issue has one message only. ``df`` (Welch and Satterthwaite) is that of
        the message means also at the floor, which errs on the side of wide intervals.
    """
    size = by_issue["size"].to_numpy(dtype=np.float64)
    if (size < 2).any():
        return math.nan, math.nan
    part = weight**2 * by_issue["var"].to_numpy(dtype=np.float64) / size
    total = float(part.sum())
    df = total**2 / float(np.sum(part**2 / (size - 1.0))) if total > 0 else float(size.min()) - 1.0
    return math.sqrt(max(total, texts_variance)), df
