r"""Authors whose texts nobody in the log read: their values from others' readers and their texts.

Weights cannot value such an author, since every one of its texts has probability 0 in the log.
What is left is a model of the outcome given the text, fitted on other authors and believed for
this one; how far it may be believed shows in how well it does when each *logged* author is left
out in turn. That is all this module does, and why no verdict here is better than ``caution``.

A text's mean outcome is taken to be

.. math:: \bar y_m = b_{issue(m)} + f_{author(m)} + a_{author(m)} + e_m, \quad
          Var(e_m) = \sigma^2 (\nu + 1/n_m), \quad Var(a) = \sigma^2 \alpha, \quad
          Cov(f) = \sigma^2 s \sum_k K_k

with :math:`n_m` readers of variance :math:`\sigma^2`, and :math:`K_k` kernels of *authors*: inner
products of the averages of their texts' features. Averages, because what is predicted is an
author's mean: how texts of one author differ in their outcome with, say, their length is another
question than how authors do (Mundlak 1978). What is predicted for an unread author is
:math:`\sum_m w_m b_m + f`: the best linear unbiased prediction (Robinson 1991), in which authors
with many readers do not drown the others, as readers cannot average an author's own :math:`a` away.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy import stats

from causal_lm_opt.estimators._read_texts import FEWEST_AUTHORS, ReadTexts, read_texts

__all__ = [
    "AuthorPrediction",
    "ReadTexts",
    "predict_author",
    "predict_by_others",
    "read_texts",
    "transport_variance",
    "transport_verdict",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
#: Shares of the readers' variance: what authors differ by as far as one kernel tells (so that an
#: author's mean moves by a tenth of one reader's standard deviation), what they and what single
#: texts differ by beyond that.
KERNEL_SHARE = 0.01
AUTHOR_SHARE = 0.002
TEXT_SHARE = 0.002
FAR = 0.25


# ------------------------------------------------------------------------------ prediction
@dataclass(frozen=True, eq=False)
class AuthorPrediction:
    """The value of an author whose readers were not looked at.

    Attributes
    ----------
    value : float
    errors, noise : (B,) float64 arrays
        Prediction less own mean of each logged author, left out in turn by the same procedure
        among the logged authors, and the variance of that own mean over its readers.
    size : (B,) float64 array
        Variance of those errors that the model expects beside the readers' noise, as a multiple of
        what it expects of this prediction: small where an author is like others.
    tau2 : float
        Variance of this prediction about the author's true mean; see `transport_variance`.
    shares : (C,) float64 array
        What each candidate contributes; sums to 1.
    """

    value: float
    errors: FloatArray
    noise: FloatArray
    size: FloatArray
    tau2: float
    shares: FloatArray

    def interval(self, level: float = 0.95, noise: float = 0.0) -> tuple[float, float]:
        """Interval for the author's true mean, or with ``noise`` for its mean over some readers.

        Parameters
        ----------
        level : float
        noise : float
            Variance over readers of the mean that the interval shall hold.

        Returns
        -------
        lower, upper : float
            ``value`` -+ a quantile of Student's t with B - 1 degrees of freedom times the root of
            ``tau2 + noise``. It is right if the logged authors tell, with ``size``, how predictable
            this one is.
        """
        half = float(stats.t.ppf((1 + level) / 2, self.errors.size - 1))
        half *= math.sqrt(self.tau2 + noise)
        return self.value - half, self.value + half


def transport_variance(
    errors: npt.ArrayLike, noise: npt.ArrayLike, size: npt.ArrayLike | None = None
) -> float:
    r"""Variance :math:`\tau^2` of predictions about true means, from errors against noisy means.

    .. math:: \hat\tau^2 = E[\tau^2 \mid e], \quad e_b \sim N(0, r_b \tau^2 + v_b), \quad
              p(\tau) \propto 1

    The posterior mean rather than the mean of :math:`e_b^2 - v_b`: that difference is below 0 by
    chance about as often as not where predictions are good, and an interval without
    :math:`\tau^2` is never right. The prior is Gelman's (2006) for a few groups.

    Parameters
    ----------
    errors : (B,) array
        Prediction less own mean.
    noise : (B,) array
        Variance of the own mean over its readers.
    size : (B,) array, optional
        Positive :math:`r_b`: how large each error's variance is expected to be beside the others';
        by default all 1.

    Returns
    -------
    float
        For a prediction of size 1.

    Raises
    ------
    ValueError
        With fewer than four errors, for which the posterior has no mean.

    Examples
    --------
    Without noise the posterior is inverse gamma, with mean ``sum(errors**2) / (B - 3)``:

    >>> errors = np.array([1.0, -2.0, 1.5, -0.5, 2.0, 1.0, -1.0])
    >>> round(transport_variance(errors, np.zeros(7)), 2), float(np.sum(errors**2) / 4)
    (3.38, 3.375)
    """
    e2, v = np.asarray(errors, dtype=np.float64) ** 2, np.asarray(noise, dtype=np.float64)
    r = np.ones_like(e2) if size is None else np.asarray(size, dtype=np.float64)
    if e2.ndim != 1 or e2.size < 4 or v.shape != e2.shape or r.shape != e2.shape:
        raise ValueError(
            f"four errors and as many variances are needed, got {e2.shape}, {v.shape}, {r.shape}."
        )
    top = float(np.sum(e2 / r))
    if top == 0.0:
        return 0.0
    # tau = scale * u / (1 - u): a grid that reaches far on both sides of the errors' size.
    u = (np.arange(4000) + 0.5) / 4000
    tau2 = top / e2.size * (u / (1 - u)) ** 2
    total = tau2[:, None] * r + v
    logp = -0.5 * np.sum(np.log(total) + e2 / total, axis=1) - 2 * np.log1p(-u)
    p = np.exp(logp - logp.max())
    return float(p @ tau2 / p.sum())


def predict_author(
    data: ReadTexts, author: int, *, kernels: Sequence[str] | None = None
) -> AuthorPrediction:
    r"""Value of an author from the other authors' readers and its own texts alone.

    Parameters
    ----------
    data : ReadTexts
    author : int
        Its code. Its outcomes, if any, are not used.
    kernels : sequence of str, optional
        Names in ``data.kernels``; by default all. Every subset of them, none included, is a
        candidate.

    Returns
    -------
    AuthorPrediction

    Raises
    ------
    ValueError
        If the author wrote on an issue of which no other author was read, or fewer than four
        other authors can be left out.

    Notes
    -----
    Each logged author is left out in turn under each candidate c (in closed form). A candidate
    contributes in proportion to :math:`\exp(-B L_c / 2 s^2)`, where :math:`L_c` is the mean squared
    error over the B authors less their readers' noise, and
    :math:`s^2 = \max(\min_c L_c, 0) + \bar v` what a squared error of the best is about: close
    candidates share, clearly worse ones drop out. Errors are of author means, as the prediction is.

    **Assumptions.** Readers were given texts at random within an issue, and outcomes depend on the
    texts of this author as they do on other authors'. No figure here tests the second.

    Examples
    --------
    Six authors, of whom the last was not read; what they add for longer texts is learnt from five.

    >>> texts = [f"{'We need this road. ' * (k + 1)}" for k in range(6)]
    >>> y, n = np.array([10.0, 12.0, 14.0, 16.0, 18.0, np.nan]), np.array([400.0] * 5 + [0.0])
    >>> data = read_texts(texts, y, np.full(6, 25.0), n, author=list("abcdef"))
    >>> found = predict_author(data, 5)
    >>> low, high = found.interval()
    >>> bool(found.value > y[:5].mean()), bool(low < found.value < high)
    (True, True)
    """
    names = tuple(data.kernels) if kernels is None else tuple(kernels)
    unknown = [name for name in names if name not in data.kernels]
    if unknown:
        raise ValueError(f"kernels {unknown} are not known; there are {list(data.kernels)}.")
    train, target, able = _split(data, author)
    candidates = [
        [name for name, is_in in zip(names, chosen, strict=True) if is_in]
        for chosen in product((False, True), repeat=len(names))
    ]
    fits = [_fit(data, candidate, train, target, able) for candidate in candidates]
    values = np.array([fit.value for fit in fits])
    errors = np.array([fit.errors for fit in fits])
    noise = _noise(data, author, able)
    loss = np.mean(errors**2 - noise, axis=1)
    scale = max(float(loss.min()), 0.0) + float(noise.mean())
    shares = np.exp(-len(able) * (loss - loss.min()) / (2 * scale))
    shares /= shares.sum()
    expected = shares @ np.array([fit.spread for fit in fits])
    own = float(shares @ np.array([fit.own_spread for fit in fits]))
    return _predicted(float(shares @ values), shares @ errors, noise, expected / own, shares)


def predict_by_others(data: ReadTexts, author: int) -> AuthorPrediction:
    """The grand mean: what others' readers said on the author's issues, whatever its texts.

    Parameters, errors and the interval are those of `predict_author`; the texts are not looked at.

    Examples
    --------
    >>> from causal_lm_opt.estimators import predict_by_others, read_texts
    >>> texts = [f"{'We need this road. ' * (k + 1)}" for k in range(6)]
    >>> y, n = np.array([10.0, 12.0, 14.0, 16.0, 18.0, np.nan]), np.array([400.0] * 5 + [0.0])
    >>> data = read_texts(texts, y, np.full(6, 25.0), n, author=list("abcdef"))
    >>> round(predict_by_others(data, 5).value, 2)
    14.0
    """
    train, target, able = _split(data, author)

    def by_issue(rows: IntArray, wanted: IntArray) -> float:
        n = np.bincount(data.issue[rows], data.readers[rows], data.issue.max() + 1)
        total = np.bincount(
            data.issue[rows], data.readers[rows] * data.outcome[rows], data.issue.max() + 1
        )
        at = data.issue[wanted]
        return float(data.weight[wanted] @ (total[at] / n[at]))

    errors = np.array([
        by_issue(train[data.author[train] != b], np.flatnonzero(data.author == b)) - data.value(b)
        for b in able
    ])  # fmt: skip
    alike = np.ones(len(able))
    return _predicted(
        by_issue(train, target), errors, _noise(data, author, able), alike, np.ones(1)
    )


def _predicted(
    value: float, errors: FloatArray, noise: FloatArray, size: FloatArray, shares: FloatArray
) -> AuthorPrediction:
    tau2 = transport_variance(errors, noise, size)
    return AuthorPrediction(value, errors, noise, size, tau2, shares)


def _noise(data: ReadTexts, author: int, able: Sequence[int]) -> FloatArray:
    """Readers' variance of the means of the authors left out, without a look at ``author``."""
    variance = data.variance_without(author)
    return np.array([data.noise(b, variance) for b in able])


def _split(data: ReadTexts, author: int) -> tuple[IntArray, IntArray, list[int]]:
    """Rows to learn from, rows of the author, and authors that can be left out in turn."""
    train = np.flatnonzero((data.author != author) & (data.readers > 0))
    target = np.flatnonzero(data.author == author)
    if target.size == 0:
        raise ValueError(f"author {author!r} has no text.")
    if not np.isin(data.issue[target], data.issue[train]).all():
        raise ValueError("nobody read another author on an issue of this one: nothing predicts it.")
    able = _can_be_left_out(data, train)
    if len(able) < FEWEST_AUTHORS - 1:
        raise ValueError(
            f"only {len(able)} other authors can be left out in turn, where {FEWEST_AUTHORS - 1} "
            "are needed (of each issue another author must have been read)."
        )
    return train, target, able


def _can_be_left_out(data: ReadTexts, train: IntArray) -> list[int]:
    """Authors all of whose texts were read, and on whose issues others were read."""
    found = []
    for b in np.unique(data.author[train]):
        mine = data.author[train] == b
        whole = bool((data.readers[data.author == b] > 0).all())
        if whole and np.isin(data.issue[train][mine], data.issue[train][~mine]).all():
            found.append(int(b))
    return found


@dataclass(frozen=True, eq=False)
class _Fit:
    """A candidate: the value of the target's texts, its errors for the authors left out, (B,).

    ``own_spread`` and ``spread`` (B,) are the variances that the model expects of the two beside
    the readers' noise in own means, as shares of the readers' variance.
    """

    value: float
    own_spread: float
    errors: FloatArray
    spread: FloatArray


def _fit(
    data: ReadTexts, candidate: Sequence[str], train: IntArray, target: IntArray, able: list[int]
) -> _Fit:
    """Fit one candidate.

    With :math:`Q = V^{-1} - V^{-1}X(X'V^{-1}X)^{-1}X'V^{-1}`, what a block of observations is off
    its prediction from all others is :math:`Q_{bb}^{-1}(Qy)_b`, of variance :math:`Q_{bb}^{-1}`.
    """
    kernel = np.zeros((data.author.size, data.author.size))
    for name in candidate:
        kernel += KERNEL_SHARE * data.kernels[name]
    codes, y = data.author[train], data.outcome[train]
    covariance = kernel[np.ix_(train, train)] + AUTHOR_SHARE * (codes[:, None] == codes)
    covariance[np.diag_indices_from(covariance)] += TEXT_SHARE + 1 / data.readers[train]
    level, on = np.unique(data.issue[train], return_inverse=True)
    design = (on[:, None] == np.arange(level.size)).astype(np.float64)
    precision = np.linalg.inv(covariance)
    spread = precision @ design
    information = design.T @ spread
    contrast = precision - spread @ np.linalg.solve(information, spread.T)
    residual = contrast @ y
    effect = np.linalg.solve(information, spread.T @ y)

    weight = data.weight[target]
    near = kernel[target[0], train]  # the same for each of the author's texts
    issues = np.bincount(np.searchsorted(level, data.issue[target]), weight, level.size)
    rest = issues - near @ spread
    own = float(kernel[target[0], target[0]] + AUTHOR_SHARE + TEXT_SHARE * weight @ weight)
    own += float(rest @ np.linalg.solve(information, rest) - near @ precision @ near)

    errors, expected = np.empty(len(able)), np.empty(len(able))
    for k, b in enumerate(able):
        rows = np.flatnonzero(codes == b)
        w = data.weight[train[rows]]
        block = contrast[np.ix_(rows, rows)]
        solved = np.linalg.solve(block, np.column_stack([residual[rows], w]))
        errors[k] = -float(w @ solved[:, 0])
        expected[k] = float(w @ solved[:, 1] - np.sum(w**2 / data.readers[train[rows]]))
    return _Fit(float(issues @ effect + near @ residual), own, errors, expected)


# ------------------------------------------------------------------------------ what to believe
def transport_verdict(data: ReadTexts, author: int) -> tuple[str, tuple[str, ...]]:
    """How far to believe a prediction of `predict_author`: always ``"caution"``, and why.

    Returns
    -------
    level : str
    reasons : tuple of str
        The standing reason, and each mark by which the author's texts lie beyond those of every
        author that was read by more than a quarter of the range of those: there the prediction
        extrapolates.

    Examples
    --------
    >>> from causal_lm_opt.estimators import read_texts, transport_verdict
    >>> texts = [f"{'We need this road. ' * (k + 1)}" for k in range(6)]
    >>> y, n = np.array([10.0, 12.0, 14.0, 16.0, 18.0, np.nan]), np.array([400.0] * 5 + [0.0])
    >>> data = read_texts(texts, y, np.full(6, 25.0), n, author=list("abcdef"))
    >>> transport_verdict(data, 5)[0]
    'caution'
    """
    read = np.unique(data.author[(data.author != author) & (data.readers > 0)])
    reasons = [
        "no reader of this author was asked: weights cannot value it, and that the outcome depends "
        "on the texts as it does for other authors cannot be tested"
    ]
    for name, mark in data.marks.items():
        low, high = float(mark[read].min()), float(mark[read].max())
        beyond = max(low - float(mark[author]), float(mark[author]) - high)
        if beyond > FAR * (high - low):
            side = "below" if mark[author] < low else "above"
            reasons.append(
                f"extrapolation: {name} {mark[author]:.2f} is {side} every author that was read "
                f"({low:.2f} to {high:.2f})"
            )
    return "caution", tuple(reasons)
