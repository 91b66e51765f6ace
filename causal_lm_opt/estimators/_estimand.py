r"""What a value is the value of: texts its policy would write, or these texts as they stand.

Logged row i is a reader of text x(i), with outcome mean g(x) over readers of x; n_x readers read x.

``"model"``: texts are a sample. The target is :math:`V(f) = E_f g(x)`; rows of one text move
together (``groups``), and draws add :math:`Var(q)/m`.

``"texts"``: the logged texts, the number of readers of each, and the second sample are held fixed;
only readers vary. The target is the estimate's own expectation over readers,

.. math:: V_{IPW} = \frac{\sum_x n_x w_x g(x)}{\sum_x n_x w_x}, \quad
          V_{DR} = \frac{\sum_x n_x w_x (g - q)(x)}{\sum_x n_x w_x}
                   + \frac1m \sum_j q(\tilde x_j), \quad
          V_{OR} = \frac1m \sum_j q(\tilde x_j),

q standing for the outcome model's expectation given the texts (Horvitz-Thompson: over
:math:`\sum_x n_x`). An estimate is (to first order; exactly, for linear outcome models) linear in
the outcomes, :math:`\hat V = \frac1n \sum_i h_i y_i + c`, with :math:`h_i, c` functions of the
texts: :math:`h_i = w_i / \bar a`, plus how an outcome model's fit moves with :math:`y_i`. So

.. math:: Var(\hat V \mid texts) = \frac1{n^2} \sum_i h_i^2 \, Var(Y \mid x(i)), \qquad
          \phi_i = h_i \, (y_i - \bar y_{x(i)}) \sqrt{n_x / (n_x - 1)},

whose mean square is unbiased for it text by text. Draws have no influence, nor has the noise of an
estimated density ratio, which is a function of the texts.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from causal_lm_opt._validation import as_text_rows, content_keys
from causal_lm_opt.core.solve import weighted_mean
from causal_lm_opt.core.weights import Weighting, relative_weights

__all__ = [
    "check_estimand",
    "check_readers",
    "outcome_slope",
    "reader_noise",
    "resample_readers",
    "spread_of_readers",
    "text_codes",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
MOST_ALONE = 0.5  # more than this share of rows the only reader of their text: refused
SAME_WEIGHT = 0.01  # log ratios of one text may differ by this (rounding of batched models)


def check_estimand(estimand: Any) -> None:
    """Refuse an estimand that is not known."""
    if estimand not in ("model", "texts"):
        raise ValueError(
            f"estimand={estimand!r} is not known; use 'model' (texts the policy would write) or "
            "'texts' (these texts as they stand)."
        )


def text_codes(X: Any, codes: IntArray | None) -> IntArray:
    """The text of each row, coded from 0, shape (n,): its group, else by equal content of X.

    Raises
    ------
    ValueError
        Where a group holds several texts (rows of X that are strings).
    """
    if codes is None:
        return np.asarray(np.unique(content_keys(X), return_inverse=True)[1], dtype=np.intp)
    if as_text_rows(X) is not None:
        _, content = np.unique(content_keys(X), return_inverse=True)
        first = np.empty(int(codes.max()) + 1, dtype=np.intp)
        first[codes[::-1]] = content[::-1]  # the first row's content of each group
        several = int(np.unique(codes[content != first[codes]]).size)
        if several:
            raise ValueError(
                f"groups: {several} groups hold several texts. Under estimand='texts' a group is "
                "one text and its rows are the text's readers: give ids of texts (or arms), or "
                "leave groups out to tell texts by their content."
            )
    return codes


def check_readers(texts: IntArray, s: FloatArray | None, where: str = "rows") -> None:
    """Refuse a log in which too many rows are their text's only reader.

    Raises
    ------
    ValueError
        More than half of the rows (``where`` names them).
    """
    size = np.bincount(texts, weights=s)
    alone = float(size[(size < 2) & (size > 0)].sum() / size.sum())
    if alone > MOST_ALONE:
        raise ValueError(
            f"estimand='texts' measures how readers of one text differ, but {alone:.0%} of the "
            f"{where} are the only reader of their text (at most {MOST_ALONE:.0%} may be). If X "
            "tells readers of one text apart (covariates), give the ids of the texts as groups=; "
            "else use estimand='model'."
        )


def reader_noise(y: FloatArray, texts: IntArray, s: FloatArray | None) -> FloatArray:
    r"""Outcomes about their text's mean, :math:`(y_i - \bar y_x) \sqrt{n_x / (n_x - 1)}`, (n,).

    Their weighted mean square, each row's times a function of its text, is unbiased for the
    readers' variance. The only reader of a text takes the root of the variance pooled within the
    other texts. A factor :math:`\sqrt{(n - 1)/n}` undoes the one of ``influence_covariance``.

    Examples
    --------
    >>> import numpy as np
    >>> noise = reader_noise(np.array([1., 3., 5., 9.]), np.array([0, 0, 1, 1]), None)
    >>> (noise * (4 / 3) ** .5).round(6).tolist()
    [-1.414214, 1.414214, -2.828427, 2.828427]
    """
    count = np.ones(y.shape[0]) if s is None else s
    size = np.bincount(texts, weights=count)
    safe = np.where(size > 0, size, 1.0)
    deviation = y - (np.bincount(texts, weights=count * y) / safe)[texts]
    many = size >= 2
    factor = np.zeros(size.shape[0])
    factor[many] = np.sqrt(size[many] / (size[many] - 1.0))
    noise = deviation * factor[texts]
    alone = ~many[texts]
    total = float(count.sum())
    if alone.any():
        inside = ~alone
        freedom = float((size[many] - 1.0).sum())
        pooled = float(count[inside] @ deviation[inside] ** 2) / freedom if freedom > 0 else 0.0
        above = y[alone] >= weighted_mean(y, s)
        noise[alone] = math.sqrt(pooled) * np.where(above, 1.0, -1.0)
    return np.asarray(noise * math.sqrt(max(total - 1.0, 0.0) / total))


def outcome_slope(
    ell: FloatArray, weighting: Weighting, s: FloatArray | None, texts: IntArray, name: str
) -> FloatArray:
    r"""How the weighted mean moves with each outcome, :math:`h_i = w_i / \bar a`, shape (n,).

    Raises
    ------
    ValueError
        Where rows of one text carry different log ratios: then it is not one text.
    """
    top = np.full(int(texts.max()) + 1, -np.inf)
    low = np.full(top.shape[0], np.inf)
    np.maximum.at(top, texts, ell)
    np.minimum.at(low, texts, ell)
    with np.errstate(invalid="ignore"):
        apart = np.where(top == low, 0.0, top - low)  # texts never written: both -inf
    apart = apart[np.unique(texts)]
    if float(apart.max()) > SAME_WEIGHT:
        raise ValueError(
            f"estimand='texts': {int((apart > SAME_WEIGHT).sum())} of {apart.shape[0]} texts have "
            f"rows with different log ratios under {name}. A text has one: give the ids of the "
            "texts as groups= (equal X is taken for one text without them; texts that answer "
            "different prompts, and readers, are not one text)."
        )
    weight = relative_weights(weighting.transform(ell, s), normalize=weighting.normalize)
    if not weighting.normalize:
        return np.asarray(weight)
    return np.asarray(weight / float(weighted_mean(weight, s)))


def resample_readers(texts: IntArray, s: FloatArray | None, rng: np.random.Generator) -> IntArray:
    """Rows of a resample of each text's readers, with as many readers as it had, (sum s,)."""
    order = np.argsort(texts, kind="stable")
    count = np.ones(texts.shape[0]) if s is None else s[order]
    ends = np.cumsum(count)
    size = np.bincount(texts, weights=s)
    size = size[size > 0]
    last = np.cumsum(size)
    times = np.maximum(np.rint(size), 1.0).astype(np.intp)
    start = np.repeat(last - size, times)
    at = start + rng.random(start.shape[0]) * np.repeat(size, times)
    picked = np.minimum(np.searchsorted(ends, at, side="right"), texts.shape[0] - 1)
    return np.asarray(order[picked])


def spread_of_readers(values: FloatArray, texts: IntArray, s: FloatArray | None) -> FloatArray:
    """Bootstrap replicates (B, L) about their mean, stretched by the root of n / (n - texts).

    A resample of r readers varies by (r - 1)/r of what they do; the stretch makes up for it,
    exactly where all texts have equally many readers.
    """
    size = np.bincount(texts, weights=s)
    rows, distinct = float(size.sum()), float((size > 0).sum())
    centre = values.mean(axis=0)
    return np.asarray(centre + (values - centre) * math.sqrt(rows / (rows - distinct)))
