"""Probes of a learnt latent: which factors it holds, and what the reward does with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = ["latent_probes"]

FloatArray = npt.NDArray[np.float64]
FOLDS = 5
RIDGE = 1e-3  # of the mean variance of the latent


def latent_probes(
    latent_chosen: Any,
    latent_rejected: Any,
    factors_chosen: Any,
    factors_rejected: Any,
    *,
    margin: Any,
    label: Any = None,
    names: Sequence[str] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    r"""Which known factors a latent holds, and accuracy when a factor is taken out of it.

    Probe: ridge regression of each factor on the latent x of both responses, cross-validated over
    pairs; R2 near 1 says that the factor can be read linearly. Removal: with
    :math:`c = \mathrm{Cov}(x, f)` and the probe's slopes :math:`b = \mathrm{Var}(x)^{-1} c`,

    .. math:: D' = D - \frac{c\, b^\top D}{b^\top c}

    of the pairs' latent differences D is the smallest change after which no linear function of the
    latent correlates with the factor (least-squares concept erasure, Belrose et al. 2023; taking
    out b itself would leave the factor in the directions that correlate with it). The reward's own
    head (least squares of its margins on D; exact where the reward is linear in the latent) judges
    what is left. Of factors that correlate, what they share goes too.

    Parameters
    ----------
    latent_chosen, latent_rejected : arrays, shape (n, p)
        ``model.transform(...)`` of both responses.
    factors_chosen, factors_rejected : arrays or frames, shape (n, K)
    margin : array, shape (n,)
        The model's reward of the chosen less that of the rejected response.
    label : array, shape (n,), optional
        Probability that the chosen one is better; 1 by default, .5 for ties.
    names : sequence of K str, optional
    seed : int
        Of the folds.

    Returns
    -------
    DataFrame
        A row per factor, and first one "(none removed)": ``factor``, ``r2`` (cross-validated),
        ``accuracy`` without it, ``margin_share``: mean square of what its removal takes off the
        margins, as a share of the margins' own.

    Raises
    ------
    ValueError
        Shapes that do not fit, entries that are not finite, or fewer than 20 pairs.

    Examples
    --------
    A latent of three factors whose reward uses the first alone:

    >>> rng = np.random.default_rng(0)
    >>> a, b = rng.normal(size=(2, 400, 3))
    >>> table = latent_probes(a, b, a[:, :2], b[:, :2], margin=a[:, 0] - b[:, 0],
    ...                       label=(a[:, 0] > b[:, 0]).astype(float), names=["used", "unused"])
    >>> table["r2"].round(2).tolist()[1:], table["accuracy"].round(2).tolist()
    ([1.0, 1.0], [1.0, 0.5, 1.0])
    """
    za, zb = _matrix(latent_chosen, "latent_chosen"), _matrix(latent_rejected, "latent_rejected")
    columns = getattr(factors_chosen, "columns", None)
    fa = _matrix(factors_chosen, "factors_chosen")
    fb = _matrix(factors_rejected, "factors_rejected")
    n, k = fa.shape
    if not za.shape[0] == zb.shape[0] == n == fb.shape[0] or za.shape[1] != zb.shape[1]:
        raise ValueError("latents and factors of both responses must have the same shapes.")
    if fb.shape[1] != k or n < 2 * 2 * FOLDS:
        raise ValueError(f"at least {4 * FOLDS} pairs with the same factors are needed, got {n}.")
    m = np.asarray(margin, dtype=np.float64)
    p = np.ones(n) if label is None else np.asarray(label, dtype=np.float64)
    if m.shape != (n,) or p.shape != (n,) or not np.isfinite(m).all():
        raise ValueError(f"margin and label must be {n} finite numbers each.")
    if names is None:
        names = [f"z{j + 1}" for j in range(k)] if columns is None else [str(c) for c in columns]
    fold = np.random.default_rng(seed).permutation(n) % FOLDS
    both, targets = np.vstack([za, zb]), np.vstack([fa, fb])
    folds = np.concatenate([fold, fold])
    d = za - zb
    head = _ridge(d, m[:, None], centre=False)[1][:, 0]
    rows = [("(none removed)", np.nan, _accuracy(m, p), np.nan)]
    slopes = _ridge(both, targets)[1]
    together = (both - both.mean(axis=0)).T @ (targets - targets.mean(axis=0))
    r2 = _cross_validated(both, targets, folds)
    size = max(float(m @ m), 1e-300)
    for j, name in enumerate(names):
        b, c = slopes[:, j], together[:, j]
        read = float(b @ c)
        gone = (d @ b) * (float(c @ head) / read) if read > 0.0 else np.zeros(n)
        left = m - gone
        # Below the noise of rounding nothing is left to judge by: a tie.
        left = np.where(np.abs(left) <= 1e-3 * np.abs(m).mean(), 0.0, left)
        rows.append((name, float(r2[j]), _accuracy(left, p), float(gone @ gone) / size))
    return pd.DataFrame(rows, columns=["factor", "r2", "accuracy", "margin_share"])


def _matrix(values: Any, name: str) -> FloatArray:
    out = np.asarray(values, dtype=np.float64)
    if out.ndim != 2 or not out.size or not np.isfinite(out).all():
        raise ValueError(
            f"{name} must be a table (n, k) of finite numbers, got {np.shape(values)}."
        )
    return out


def _ridge(x: FloatArray, y: FloatArray, *, centre: bool = True) -> tuple[FloatArray, FloatArray]:
    """Intercepts (q,) and slopes (p, q) of a light ridge regression."""
    a = x.mean(axis=0) if centre else np.zeros(x.shape[1])
    b = y.mean(axis=0) if centre else np.zeros(y.shape[1])
    gram = (x - a).T @ (x - a)
    # A light penalty, without which dead latent dimensions have no slope at all.
    penalty = RIDGE * max(float(np.trace(gram)) / x.shape[1], 1e-12) if centre else 1e-9
    gram[np.diag_indices_from(gram)] += penalty
    slopes = np.linalg.solve(gram, (x - a).T @ (y - b))
    return b - a @ slopes, slopes


def _cross_validated(x: FloatArray, y: FloatArray, fold: npt.NDArray[np.int64]) -> FloatArray:
    """R2 of predictions from the other folds, shape (q,)."""
    off = np.empty_like(y)
    for f in range(FOLDS):
        held = fold == f
        offset, slopes = _ridge(x[~held], y[~held])
        off[held] = y[held] - offset - x[held] @ slopes
    spread = ((y - y.mean(axis=0)) ** 2).sum(axis=0)
    return np.asarray(1.0 - (off**2).sum(axis=0) / np.where(spread > 0.0, spread, np.nan))


def _accuracy(margin: FloatArray, label: FloatArray) -> float:
    right = np.where(margin > 0.0, label, np.where(margin < 0.0, 1.0 - label, 0.5))
    return float(right.mean())
