"""The log an optimiser is given: checked, told apart by cluster, split three ways."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from causal_lm_opt._parts import check_same_order
from causal_lm_opt._training_rows import plain_text
from causal_lm_opt._validation import (
    as_text_rows,
    check_groups,
    check_log_probs,
    check_vector,
    content_keys,
    digest,
    mix64,
)
from causal_lm_opt.exceptions import DataError
from causal_lm_opt.lm._encoding import prompt_words

__all__ = [
    "BREAK",
    "LEAST_CLUSTERS",
    "LEAST_ROWS",
    "Parts",
    "Rows",
    "joined",
    "many_prompts",
    "read_rows",
    "split",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
BREAK = "\n\n"  # between a prompt and its text
LEAST_ROWS, LEAST_CLUSTERS = 20, 10
MANY_PROMPTS = 50  # distinct prompts that stand for others like them; fewer are fixed strata


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows of a log.

    Attributes
    ----------
    texts : tuple of n str
    outcome : (n,) float64 array
    prompts : tuple of n prompts, or None
    logp_logging : (n,) float64 array, or None
    groups : (n,) int array
        Code of each row's cluster.
    """

    texts: tuple[str, ...]
    outcome: FloatArray
    prompts: tuple[Any, ...] | None
    logp_logging: FloatArray | None
    groups: IntArray

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def read(self) -> list[str]:
        """What outcome models and features read: the text, after its prompt where there is one."""
        return joined(self.texts, self.prompts)

    def take(self, at: IntArray) -> Rows:
        """The rows at some positions."""
        return Rows(
            tuple(self.texts[i] for i in at), self.outcome[at],
            None if self.prompts is None else tuple(self.prompts[i] for i in at),
            None if self.logp_logging is None else self.logp_logging[at], self.groups[at],
        )  # fmt: skip

    def digest(self, *, logged: bool = True) -> str:
        """Identity of the rows, for runs that are resumed.

        Without their log-probabilities (``logged=False``) it tells which rows they are, and so
        which are reported from.
        """
        parts = [content_keys(np.array(self.read, dtype=object)), self.outcome, self.groups]
        if logged and self.logp_logging is not None:
            parts.append(self.logp_logging)
        return digest(*parts)


class Parts(NamedTuple):
    """Rows to train on, to select a checkpoint by, and to report from: no cluster in two."""

    train: Rows
    select: Rows
    report: Rows


def joined(texts: Sequence[str], prompts: Sequence[Any] | None) -> list[str]:
    """Each text after its prompt; the first empty line is where the prompt ends."""
    if prompts is None:
        return list(texts)
    words = [re.sub(r"\n{2,}", "\n", prompt_words(p)).rstrip("\n") for p in prompts]
    return [f"{p}{BREAK}{t}" for p, t in zip(words, texts, strict=True)]


def read_rows(texts: Any, outcomes: Any, prompts: Any, logp_logging: Any, groups: Any) -> Rows:
    """The checked log.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was seen and what to do.
    """
    check_same_order({
        "texts": texts, "outcomes": outcomes, "prompts": prompts, "logp_logging": logp_logging,
        "groups": groups,
    })  # fmt: skip
    listed = as_text_rows(texts if isinstance(texts, str | np.ndarray) else list(texts), "texts")
    if listed is None:
        raise TypeError("texts must be a non-empty sequence of strings.")
    n = len(listed)
    y = check_vector(outcomes, "outcomes", n)
    if np.ptp(y) == 0:
        raise ValueError(
            f"outcomes are all {y[0]:g}: no text did better than another, so that there is nothing "
            "to optimise; check the column."
        )
    given = None if prompts is None else tuple(prompts)
    if given is not None:
        _check_prompts(given, n)
    logp = None
    if logp_logging is not None:
        logp = check_log_probs(logp_logging, "logp_logging", n, allow_zero=False)
    if groups is not None:
        labels: Any = check_groups(groups, "groups", n)
    else:
        labels = _own_clusters(list(listed), given)
    codes = pd.factorize(labels, sort=True)[0].astype(np.intp)
    return Rows(tuple(listed), y, given, logp, codes)


def _check_prompts(prompts: Sequence[Any], n: int) -> None:
    if len(prompts) != n:
        raise ValueError(f"prompts must be {n}, one for each text, got {len(prompts)}.")
    for i, prompt in enumerate(prompts):
        messages = isinstance(prompt, list | tuple) and all(
            isinstance(m, dict) and "content" in m for m in prompt
        )
        if not isinstance(prompt, str) and not messages:
            raise TypeError(
                f"prompts[{i}] must be a string or a conversation (a list of messages with role "
                f"and content), got {prompt!r}."
            )


def many_prompts(prompts: Sequence[Any]) -> bool:
    """Whether rows of equal prompt are clusters, their prompts standing for others like them."""
    return len({prompt_words(p) for p in prompts}) >= MANY_PROMPTS


def _own_clusters(texts: Sequence[str], prompts: Sequence[Any] | None) -> Any:
    """Equal prompts share a cluster where there are many, else rows that are equal but for case
    and blanks, under the first of their spellings.
    """
    if prompts is not None and many_prompts(prompts):
        return np.array([prompt_words(p) for p in prompts], dtype=object)
    rows = joined(texts, prompts)
    plain = [plain_text(row) for row in rows]
    first: dict[str, str] = {}
    for key, row in zip(plain, rows, strict=True):
        first[key] = min(row, first.get(key, row))
    return np.array([first[key] for key in plain], dtype=object)


def dealt(rows: Rows, shares: Sequence[float], seed: int) -> IntArray:
    """Part of each row (0 train, 1 select, 2 report): whole clusters, by a seeded hash's rank.

    Parameters
    ----------
    shares : three positive numbers
        Of the rows; they need not add up to one.
    """
    try:
        share = np.asarray(shares, dtype=np.float64)
    except (TypeError, ValueError):
        share = np.zeros(0)
    if share.shape != (3,) or not np.isfinite(share).all() or not (share > 0).all():
        raise ValueError(
            f"split must be three positive shares (train, select, report), got {shares!r}."
        )
    clusters, size = np.unique(rows.groups, return_counts=True)
    order = np.argsort(mix64(clusters.astype(np.uint64), seed), kind="stable")
    before = np.cumsum(size[order]) - size[order] / 2
    cuts = np.cumsum(share)[:2] / share.sum() * len(rows)
    part_of = np.empty(clusters.size, dtype=np.intp)
    part_of[order] = np.searchsorted(cuts, before)
    return part_of[np.searchsorted(clusters, rows.groups)]


def split(rows: Rows, shares: Sequence[float], seed: int) -> Parts:
    """The rows of each part, as `dealt`.

    Raises
    ------
    DataError
        If a part would have fewer than 20 rows or 10 clusters.
    """
    part = dealt(rows, shares, seed)
    clusters = np.unique(rows.groups).size
    could = len(rows) >= 3 * LEAST_ROWS and clusters >= 3 * LEAST_CLUSTERS
    other = f", or change split={tuple(shares)} (split: in --config)" if could else ""
    made = Parts(*(rows.take(np.flatnonzero(part == k)) for k in range(3)))
    for name, some in zip(Parts._fields, made, strict=True):
        found = np.unique(some.groups).size
        if len(some) < LEAST_ROWS or found < LEAST_CLUSTERS:
            raise DataError(
                f"after splitting, {name} has {len(some)} rows in {found} clusters (equal texts or "
                f"prompts, or groups); {LEAST_ROWS} rows in {LEAST_CLUSTERS} clusters are the "
                f"least. Log more texts{other}; where the same few texts went to many independent "
                "readers, groups=range(n) (--group and a column of row numbers on the command "
                "line) makes each reader a cluster: values are then of these texts' readers."
            )
        if np.ptp(some.outcome) == 0:
            raise DataError(
                f"after splitting, all {len(some)} outcomes of {name} are {some.outcome[0]:g}: "
                "outcomes vary too rarely for three parts; log more rows."
            )
    return made
