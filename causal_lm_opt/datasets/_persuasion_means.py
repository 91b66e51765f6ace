"""Means of messages, and what messages of one author differ by beyond their readers' noise."""

from __future__ import annotations

import math

import numpy as np
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
