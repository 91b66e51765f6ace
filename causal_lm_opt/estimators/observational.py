r"""Observational logs with reader covariates: draws of a policy crossed with the logged readers.

The value over the log's readers is :math:`V(f) = E_Z E_{x \sim f}[g(x, Z)]`. Its sample is that of
pairs (draw, reader), and the density ratio of these pairs to the logged pairs,

.. math:: w(x, z) = \frac{P_f(x) P(z)}{P_R(x, z)} = \frac{P_f(x)}{P_R(x \mid z)},

is the inverse of the generalised propensity of the text.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from causal_lm_opt._validation import (
    as_text_rows,
    check_sample_weight,
    check_vector,
    content_keys,
    digest,
    is_frame,
    n_rows,
    take_rows,
)
from causal_lm_opt.core.inference import cluster_sums, contributions
from causal_lm_opt.estimate import ValueEstimate
from causal_lm_opt.estimators._target import TargetSample
from causal_lm_opt.influence import InfluenceSample

__all__ = ["ProductSample", "product_sample", "text_and_reader"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
ALL_PAIRS = 200_000  # every pair is taken up to this many
PAIRS_PER_UNIT = 10  # of the larger sample, beyond


def text_and_reader(X: Any, Z: Any) -> Any:
    """Texts (or their features) and covariates side by side, row by row.

    Parameters
    ----------
    X : array (n, d), DataFrame, or sequence of n texts
    Z : array (n,) or (n, c), or DataFrame

    Returns
    -------
    array (n, d + c) where both are numeric arrays, else a DataFrame (texts in the column "text").

    Examples
    --------
    >>> import numpy as np
    >>> text_and_reader(np.array([[1.], [2.]]), [5., 6.]).tolist()
    [[1.0, 5.0], [2.0, 6.0]]
    >>> list(text_and_reader(["a", "b"], [5., 6.]).columns)
    ['text', 'z0']
    """
    n = n_rows(X)
    if n_rows(Z, "Z") != n:
        raise ValueError(f"X has {n} rows and Z has {n_rows(Z, 'Z')}; they must agree.")
    if not _is_table(X) and not _is_table(Z):
        return np.column_stack([np.asarray(X, dtype=float), np.asarray(Z, dtype=float)])
    left, right = _frame(X, "x"), _frame(Z, "z")
    both = [c for c in left.columns if c in set(right.columns)]
    if both:
        raise ValueError(f"X and Z both have the columns {both}; rename them.")
    return pd.concat([left, right], axis=1)


def _is_table(A: Any) -> bool:
    """A frame, texts, or labels."""
    return is_frame(A) or as_text_rows(A) is not None or np.asarray(A).dtype.kind not in "biuf"


def _frame(A: Any, letter: str) -> pd.DataFrame:
    if is_frame(A):
        return pd.DataFrame({str(c): np.asarray(A[c]) for c in A.columns})
    if letter == "x" and as_text_rows(A, "X") is not None:
        return pd.DataFrame({"text": as_text_rows(A, "X")})
    values = np.asarray(A)
    values = values[:, None] if values.ndim == 1 else values
    return pd.DataFrame({f"{letter}{j}": c for j, c in enumerate(values.T)}).infer_objects()


@dataclass(frozen=True, eq=False)
class ProductSample:
    r"""Pairs (draw of the policy, logged reader), made by :func:`product_sample`.

    Attributes
    ----------
    sample : TargetSample
        The M pairs in the layout of :func:`text_and_reader`: ``X_target`` of an estimator whose
        ``X`` is ``text_and_reader(X, Z)``.
    draw, reader : integer arrays, shape (M,)
        Which draw and which logged row each pair is made of.
    n_draws, n_readers : int
    reader_weight : array (n,), optional
        The log's frequency weights.
    draw_weight : array (m,), optional
        Weights of the draws (probabilities when ``exact``).
    exact : bool
        The draws are the policy's whole support: they bring no sampling error.
    draw_key : str
        Identity of the draws, shared by estimates made with them.
    """

    sample: TargetSample
    draw: IntArray
    reader: IntArray
    n_draws: int
    n_readers: int
    reader_weight: FloatArray | None
    draw_weight: FloatArray | None
    exact: bool
    draw_key: str

    @property
    def size(self) -> int:
        """Number of pairs M."""
        return int(self.draw.shape[0])

    def adjust(self, result: ValueEstimate) -> ValueEstimate:
        r"""The estimate with the variance of its two samples: readers and draws.

        An estimator takes the M pairs for independent, while every draw and every reader stands in
        many. The mean over pairs is projected on each (Hoeffding):

        .. math:: \bar q - V \approx \frac1m \sum_j \tilde\phi_j + \frac1n \sum_i \phi_i,\qquad
                  \tilde\phi_j = \operatorname{mean}_i q(\tilde x_j, z_i) - \bar q,\quad
                  \phi_i = \operatorname{mean}_j q(\tilde x_j, z_i) - \bar q

        and :math:`\phi_i` joins the logged row i of the same reader. With sampled pairs the means
        run over the pairs taken, which overstates the variance by at most Var(q) / M.

        Parameters
        ----------
        result : ValueEstimate
            Of an estimator fitted with ``X_target=sample`` on the log whose covariates were
            crossed, in its order, influence functions kept.

        Raises
        ------
        ValueError
            When the estimate does not rest on these pairs, or has no influence functions.
        """
        pairs = [s for s in result.samples if s.role == "target"]
        logged = [s for s in result.samples if s.role == "logged"]
        if result.dropped_variance is not None or len(logged) != 1 or len(pairs) != 1:
            raise ValueError(
                "adjust needs an estimate with influence functions of the log and of one product "
                "sample: fit with X_target=product.sample, influence='keep', no bootstrap, and one "
                "policy (or several on the same draws) at a time."
            )
        if pairs[0].influence.shape[0] != self.size:
            raise ValueError(
                f"The estimate's second sample has {pairs[0].influence.shape[0]} rows, not the "
                f"{self.size} pairs of this product sample."
            )
        cells = contributions(pairs[0].influence, pairs[0].sample_weight)
        by_reader = np.asarray(cluster_sums(cells, self.reader, self.n_readers))
        s = np.ones(self.n_readers) if self.reader_weight is None else self.reader_weight
        own = by_reader * np.divide(s.sum(), s, out=np.zeros_like(s), where=s > 0)[:, None]
        own = own[self._logged_rows(logged[0].influence.shape[0])]
        samples = [replace(logged[0], influence=logged[0].influence + own)]
        if not self.exact:
            by_draw = np.asarray(cluster_sums(cells, self.draw, self.n_draws))
            v = np.ones(self.n_draws) if self.draw_weight is None else self.draw_weight
            alike = by_draw * np.divide(v.sum(), v, out=np.zeros_like(v), where=v > 0)[:, None]
            samples.append(InfluenceSample(self.draw_key, "target", alike, self.draw_weight))
        rest = [x for x in result.samples if x is not logged[0] and x is not pairs[0]]
        note = (
            f"Value over the log's readers: {self.n_draws} draws crossed with {self.n_readers} "
            f"readers in {self.size} pairs; standard errors count readers and draws, not pairs."
        )
        return replace(result, samples=(*samples, *rest), notes=(*result.notes, note))

    def _logged_rows(self, n: int) -> IntArray:
        """Reader of each of the estimator's logged rows (rows of weight 0 are dropped there)."""
        s = self.reader_weight
        if n == self.n_readers:
            return np.arange(n)
        if s is not None and n == int((s > 0).sum()):
            return np.flatnonzero(s > 0)
        if s is not None and n == s.sum():  # whole weights unrolled into repeated rows
            return np.repeat(np.arange(self.n_readers), s.astype(np.intp))
        raise ValueError(
            f"The estimate rests on {n} logged rows, but {self.n_readers} readers were crossed: "
            "give product_sample the covariates (and sample_weight) of the rows given to fit."
        )


def product_sample(
    draws: Any,
    Z: Any,
    *,
    size: int | None = None,
    sample_weight: Any = None,
    random_state: int | None = 0,
) -> ProductSample:
    r"""Cross draws of a policy with the logged readers' covariates.

    Parameters
    ----------
    draws : array (m, d), DataFrame, sequence of m texts, or TargetSample
        Texts the policy writes whoever reads them. A ``TargetSample`` may carry ``weight``, and
        ``exact=True`` for the whole support.
    Z : array (n,) or (n, c), or DataFrame
        Covariates of the logged rows, in their order.
    size : int, optional
        Wanted number of pairs; every reader gets ``ceil(size / n)`` draws, every draw is taken
        equally often (up to one). Default: all n m pairs up to 200,000, else ten times the larger
        of n and m.
    sample_weight : array, shape (n,), optional
        Frequencies of the logged rows, as given to ``fit``; rows of weight 0 are not crossed.
    random_state : int, default 0
        Of the sampled pairs.

    Returns
    -------
    ProductSample

    Raises
    ------
    ValueError
        Bad input, or draws with log-probs of another sampling policy.

    Notes
    -----
    **Assumptions.** Z holds every reader covariate that moved both the text shown and the outcome,
    and was fixed before the text; wherever the policy writes x for a reader z, the log may show it
    (positivity in (x, z)); a policy that writes for its reader needs its own draws of pairs
    instead. With ``ratio=DensityRatio(...)`` texts that were chosen by reader differ from crossed
    pairs in their *products* with z: use ``DensityRatio(degree=2)``, as main effects alone cannot
    be right.

    Examples
    --------
    The mean over all pairs has two sources of variance, the readers and the draws:

    >>> import numpy as np
    >>> from sklearn.linear_model import LinearRegression
    >>> from causal_lm_opt import OutcomeRegression
    >>> rng = np.random.default_rng(0)
    >>> z = rng.normal(size=200)
    >>> x = z + rng.normal(size=200)
    >>> y = x + z + rng.normal(size=200)
    >>> pairs = product_sample(rng.normal(1., 1., (50, 1)), z)
    >>> pairs.size
    10000
    >>> est = OutcomeRegression(LinearRegression()).fit(
    ...     text_and_reader(x[:, None], z), y, X_target=pairs.sample)
    >>> right = pairs.adjust(est.result_)
    >>> bool(right.se > 1.5 * est.se_)
    True

    Weights of the pairs need the products of x and z:

    >>> from causal_lm_opt import DensityRatio, DoublyRobust
    >>> both = DoublyRobust(LinearRegression(), ratio=DensityRatio(degree=2)).fit(
    ...     text_and_reader(x[:, None], z), y, X_target=pairs.sample)
    >>> bool(abs(pairs.adjust(both.result_).value - 1.) < .5)
    True
    """
    given = draws if isinstance(draws, TargetSample) else TargetSample(draws)
    texts = as_text_rows(given.X, "draws")
    X = given.X if texts is None else texts
    m, n = n_rows(X, "draws"), n_rows(Z, "Z")
    if m == 0 or n < 2:
        raise ValueError(f"product_sample needs draws and at least two readers, got {m} and {n}.")
    scored = [a for a in ("logp_sampling", "groups", "by") if getattr(given, a) is not None]
    if scored:
        raise ValueError(
            f"draws carry {scored}, which pairs do not: give draws of the policy itself "
            "(TargetSample(X, weight=...))."
        )
    v = None if given.weight is None else check_vector(given.weight, "draws.weight", m)
    if v is not None and ((v < 0).any() or not v.any()):
        raise ValueError("draws.weight must be non-negative with a positive sum.")
    if given.exact and (v is None or abs(float(v.sum()) - 1.0) > 1e-6):
        raise ValueError("draws with exact=True need weight=: probabilities that sum to 1.")
    s = check_sample_weight(sample_weight, n)
    readers = np.arange(n) if s is None else np.flatnonzero(s > 0)
    texts_used = np.arange(m) if v is None else np.flatnonzero(v > 0)
    draw, reader = _pairs(texts_used, readers, size, random_state, whole=given.exact)
    weight = None
    if s is not None or v is not None:
        weight = np.ones(draw.shape[0])
        weight = weight if s is None else weight * s[reader]
        weight = weight if v is None else weight * v[draw]
        weight = weight * (draw.shape[0] / weight.sum())
    rows = text_and_reader(take_rows(X, draw), take_rows(_table(Z), reader))
    key = [content_keys(X)] if v is None else [content_keys(X), v]
    return ProductSample(
        TargetSample(rows, weight=weight), draw, reader, m, n, s, v, given.exact,
        f"draws:{digest(*key)}",
    )  # fmt: skip


def _table(Z: Any) -> Any:
    return Z if is_frame(Z) else np.asarray(Z)


def _pairs(
    draws: IntArray, readers: IntArray, size: int | None, seed: int | None, *, whole: bool
) -> tuple[IntArray, IntArray]:
    """Positions (M,) of draws and readers: all pairs, or equally many of each, shuffled."""
    n, m = readers.shape[0], draws.shape[0]
    if size is not None and (isinstance(size, bool) or size < 1):
        raise ValueError(f"size must be a positive number of pairs, got {size!r}.")
    if size is None:
        size = n * m if n * m <= ALL_PAIRS else PAIRS_PER_UNIT * max(n, m)
    each = min(-(-int(size) // n), m)
    if whole and each < m:
        raise ValueError(
            f"draws with exact=True are crossed whole, which makes {n * m} pairs: raise size= to "
            "that, or give draws."
        )
    reader = np.repeat(readers, each)
    if each == m:
        return np.tile(draws, n), reader
    rng = np.random.default_rng(seed)
    rounds = -(-reader.shape[0] // m)
    order = np.concatenate([rng.permutation(m) for _ in range(rounds)])[: reader.shape[0]]
    return draws[order], reader
