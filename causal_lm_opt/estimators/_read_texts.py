"""Texts by several authors, what their readers said, and how alike the authors' texts are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from causal_lm_opt.estimators._text_quality import (
    QUALITY,
    average_kernel,
    linear_kernel,
    on_the_issue,
    quality_features,
    word_kernel,
)

__all__ = ["FEWEST_AUTHORS", "ReadTexts", "read_texts"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
FEWEST_AUTHORS = 5


@dataclass(frozen=True, eq=False)
class ReadTexts:
    """Texts by several authors, and what their readers said; made by `read_texts`.

    Attributes
    ----------
    authors : tuple of length A
        The authors' names, in the order of their codes.
    outcome, variance, readers : (M,) float64 arrays
        Mean and variance of each text's readers (``nan`` where there are too few), their number.
    author, issue : (M,) integer arrays
        Codes 0, 1, ...
    weight : (M,) float64 array
        Share of the text in its author's value; sums to 1 over an author.
    kernels : mapping name -> (M, M) float64 array
        Similarities of the texts' authors, read or not; mean of the diagonal 1.
    marks : mapping name -> (A,) float64 array
        Authors' averages of what the kernels are made of, as far as it has names.
    """

    authors: tuple[object, ...]
    outcome: FloatArray
    variance: FloatArray
    readers: FloatArray
    author: IntArray
    issue: IntArray
    weight: FloatArray
    kernels: Mapping[str, FloatArray]
    marks: Mapping[str, FloatArray]

    def value(self, author: int) -> float:
        """The author's own mean."""
        mine = self.author == author
        return float(self.weight[mine] @ self.outcome[mine])

    def variance_without(self, author: int) -> float:
        """Variance of readers of one text, pooled over the other authors' texts."""
        pooled = (self.author != author) & (self.readers > 1)
        spare = self.readers[pooled] - 1
        return float(spare @ self.variance[pooled] / spare.sum()) if spare.size else math.nan

    def noise(self, author: int, variance: float) -> float:
        """Variance over readers of the author's own mean, where ``variance`` is that of one."""
        mine = self.author == author
        return float(variance * np.sum(self.weight[mine] ** 2 / self.readers[mine]))


def read_texts(
    texts: Sequence[str],
    outcome: npt.ArrayLike,
    variance: npt.ArrayLike,
    readers: npt.ArrayLike,
    *,
    author: Sequence[object],
    issue: Sequence[object] | None = None,
    weight: npt.ArrayLike | None = None,
    embedding: npt.ArrayLike | None = None,
) -> ReadTexts:
    """Check the texts of several authors and compute how alike they are.

    Parameters
    ----------
    texts : sequence of str, length M
        One row a text; those of authors nobody read take part with ``readers`` 0.
    outcome, variance : (M,) arrays
        Mean and sample variance of the outcomes of the text's readers; not looked at where there
        are none, or fewer than two.
    readers : (M,) array
        Number of readers.
    author : sequence, length M
    issue : sequence, length M, optional
        What the text is about (the prompt). Comparisons are made within issues only.
    weight : (M,) array, optional
        Share of the text in its author's value, on any scale; by default the readers, and each
        text alike for an author with none.
    embedding : (M, d) array, optional
        Coordinates of the texts; makes a kernel ``"embedding"`` beside the others.

    Returns
    -------
    ReadTexts
        Authors and issues are coded 0, 1, ... in the order of their first text.

    Raises
    ------
    ValueError
        If lengths differ, a number is out of range or missing, or there are fewer than five
        authors.

    Examples
    --------
    >>> texts = ['Build parks.', 'Close parks!', 'Mend roads.', 'Mend schools.', 'Visit us.', 'Go.']
    >>> read = read_texts(
    ...     texts, [1., 2., 3., 2., 1., 0.], [1.] * 6, [9] * 5 + [0], author=list('abcdef')
    ... )
    >>> ''.join(read.authors), read.value(2)
    ('abcdef', 3.0)
    """
    rows = [str(text) for text in texts]
    n = np.asarray(readers, dtype=np.float64)
    y = np.asarray(outcome, dtype=np.float64)
    s2 = np.asarray(variance, dtype=np.float64)
    of_author, of_issue = _codes(author), _codes(issue if issue is not None else [0] * len(rows))
    for name, values in (
        ("outcome", y), ("variance", s2), ("readers", n), ("author", of_author),
        ("issue", of_issue),
    ):  # fmt: skip
        if values.shape != (len(rows),):
            raise ValueError(f"{name} has shape {values.shape} for {len(rows)} texts.")
    if not (np.isfinite(n).all() and (n >= 0).all()):
        raise ValueError("readers must be numbers of readers, 0 or more.")
    if not np.isfinite(y[n > 0]).all():
        raise ValueError("outcome is missing for a text that has readers.")
    if not (np.isfinite(s2[n > 1]).all() and (s2[n > 1] >= 0).all() and (n > 1).any()):
        raise ValueError("variance must be known, 0 or more, for texts with two readers or more.")
    authors = np.unique(of_author).size
    if authors < FEWEST_AUTHORS:
        raise ValueError(
            f"leaving one author out needs {FEWEST_AUTHORS} authors; there are {authors}."
        )
    share = _shares(weight, n, of_author)
    on_issue, quality = on_the_issue(rows, of_author, of_issue), quality_features(rows, of_author)
    kernels = {
        "on the issue": linear_kernel(on_issue, of_issue),
        "quality": linear_kernel(quality, of_issue),
        "words": word_kernel(rows, of_issue),
    }
    if embedding is not None:
        kernels["embedding"] = linear_kernel(embedding, of_issue)
    columns: dict[str, FloatArray] = {"on the issue": on_issue}
    columns |= dict(zip(QUALITY, quality.T, strict=True))
    return ReadTexts(
        tuple(dict.fromkeys(author)),
        np.where(n > 0, y, np.nan), np.where(n > 1, s2, np.nan), n, of_author, of_issue, share,
        {name: average_kernel(k, of_author, share) for name, k in kernels.items()},
        {name: np.bincount(of_author, share * mark).astype(np.float64)
         for name, mark in columns.items()},
    )  # fmt: skip


def _codes(labels: Sequence[object]) -> IntArray:
    """0, 1, ... in the order of first appearance."""
    seen = {label: code for code, label in enumerate(dict.fromkeys(labels))}
    return np.array([seen[label] for label in labels], dtype=np.intp)


def _shares(weight: npt.ArrayLike | None, readers: FloatArray, author: IntArray) -> FloatArray:
    """Weights that sum to 1 over each author, shape (M,)."""
    if weight is None:
        total = np.bincount(author, readers)[author]
        raw = np.where(total > 0, readers, 1.0)
    else:
        raw = np.asarray(weight, dtype=np.float64)
        if raw.shape != readers.shape or not (np.isfinite(raw).all() and (raw >= 0).all()):
            raise ValueError("weight must hold one number, 0 or more, for each text.")
    total = np.bincount(author, raw)[author]
    if (total <= 0).any():
        raise ValueError("an author's weights sum to 0: it has no value; leave its texts out.")
    return raw / total
