"""Linear relations that every logged row keeps and a policy's rows break."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from causal_lm_opt._validation import check_vector

__all__ = ["BrokenRelations", "broken_relations"]

FloatArray = npt.NDArray[np.float64]
NULL = 1e-10  # share of the largest eigenvalue below which a direction is not there
BROKEN = 1e-4  # standard deviations
SPARE = 15  # rows that keep the relations without being needed to pose them
MOST_COLUMNS = 512
MOST_TERMS = 6


@dataclass(frozen=True)
class BrokenRelations:
    """What share of a policy's rows breaks a linear relation that all logged rows keep.

    Attributes
    ----------
    share : float
        Of the policy's rows, breaking any relation.
    relations : tuple of str
        The relations that are broken, by most rows first.
    """

    share: float
    relations: tuple[str, ...]

    def __str__(self) -> str:
        """What happened and what to do; empty where no relation is broken."""
        if not self.relations:
            return ""
        more = f"; {len(self.relations) - 1} more" if len(self.relations) > 1 else ""
        return (
            f"{self.share:.1%} of the policy's texts break what every logged row keeps "
            f"({self.relations[0]}{more}): by these features the log has no text like them. Value "
            "a policy that keeps it, log such texts, or leave out one of these features, which "
            "takes such texts for logged ones that agree in the others."
        )


def broken_relations(
    features: npt.ArrayLike,
    features_target: npt.ArrayLike,
    *,
    target_weight: npt.ArrayLike | None = None,
    names: list[str] | None = None,
) -> BrokenRelations:
    r"""Find the linear relations of the logged rows that a policy's rows break.

    With one column for each of the alternatives of a phrase, :math:`\sum_j z_j = 1` in every logged
    row; a model of linear odds gives rows that break it odds without bound, however small its
    other coefficients. A feature that the log never varies is such a relation too.

    Parameters
    ----------
    features : array, shape (n, p)
        Of the logged rows. Beyond 512 columns nothing is looked for.
    features_target : array, shape (m, p)
        Of the policy's rows.
    target_weight : array, shape (m,), optional
        Frequencies, or probabilities, of the policy's rows.
    names : list of p str, optional

    Returns
    -------
    BrokenRelations

    Raises
    ------
    ValueError
        For shapes that do not agree.

    Notes
    -----
    The relations are the null space of the moments of :math:`(1, z)`, reduced to echelon form so
    that each names as few features as it can. Relations count only where 15 distinct rows more
    keep them than are needed to pose them (any p + 1 rows keep some). Memory is that of the
    features, standardised.

    Examples
    --------
    >>> log = np.eye(3)[np.arange(60) % 3]                     # exactly one of three phrases
    >>> drawn = np.vstack([np.eye(3), [[0., 0., 0.]]])
    >>> found = broken_relations(log, drawn, names=["hello", "hi", "dear"])
    >>> found.share, found.relations
    (0.25, ('hello + hi + dear = 1',))
    """
    here, there = (np.asarray(X, dtype=np.float64) for X in (features, features_target))
    if here.ndim != 2 or there.ndim != 2 or here.shape[1] != there.shape[1]:
        raise ValueError(
            "features and features_target must have shapes (n, p) and (m, p), got "
            f"{here.shape} and {there.shape}."
        )
    p = here.shape[1]
    names = [f"x{j}" for j in range(p)] if names is None else list(names)
    weight = np.ones(there.shape[0])
    if target_weight is not None:
        weight = check_vector(target_weight, "target_weight", there.shape[0])
    if not 0 < p <= MOST_COLUMNS or here.shape[0] <= SPARE:
        return BrokenRelations(0.0, ())
    centre, scale = here.mean(axis=0), here.std(axis=0)
    scale = np.where(scale > 1e-9 * (1.0 + np.abs(centre)), scale, 1.0 + np.abs(centre))
    z = (here - centre) / scale
    values, vectors = np.linalg.eigh(z.T @ z / z.shape[0])
    null = vectors[:, values <= NULL * max(float(values[-1]), 1.0)]
    rank = p - null.shape[1]
    if not null.shape[1] or here.shape[0] < rank + SPARE:
        return BrokenRelations(0.0, ())
    relations = _echelon(null.T / scale)
    if np.unique(here, axis=0).shape[0] < rank + SPARE:
        relations = relations[[_whole(row) for row in relations]]
    unit = relations * scale
    unit /= np.abs(unit).max(axis=1, keepdims=True)
    off = np.abs((there - centre) / scale @ unit.T) > BROKEN
    share = weight @ off / weight.sum()
    order = [int(r) for r in np.argsort(-share, kind="stable") if share[r] > 0]
    said = tuple(_equation(relations[r], centre, names) for r in order)
    return BrokenRelations(float(weight @ off.any(axis=1) / weight.sum()), said)


def _whole(values: FloatArray) -> bool:
    return bool((np.abs(values - np.rint(values)) < 1e-6).all())


def _echelon(rows: FloatArray) -> FloatArray:
    """Reduced row echelon form (r, p) of r independent rows: pivots 1, alone in their columns."""
    rows = rows / np.abs(rows).max(axis=1, keepdims=True)
    done = 0
    for j in range(rows.shape[1]):
        if done == rows.shape[0]:
            break
        pivot = done + int(np.argmax(np.abs(rows[done:, j])))
        if abs(rows[pivot, j]) < 1e-7:
            continue
        rows[[done, pivot]] = rows[[pivot, done]]
        rows[done] /= rows[done, j]
        others = np.arange(rows.shape[0]) != done
        rows[others] -= np.outer(rows[others, j], rows[done])
        done += 1
    return np.where(np.abs(rows) < 1e-7, 0.0, rows)


def _equation(coefficients: FloatArray, centre: FloatArray, names: list[str]) -> str:
    """``a + 2 b - c = 1``; of many terms the first few."""
    parts = coefficients * centre
    constant = float(parts.sum())
    if abs(constant) < 1e-9 * float(np.abs(parts).sum()):
        constant = 0.0
    used = np.flatnonzero(coefficients)
    said = ""
    for j in used[:MOST_TERMS]:
        size = f"{abs(coefficients[j]):.3g} " if abs(abs(coefficients[j]) - 1) > 1e-6 else ""
        below = bool(coefficients[j] < 0)
        sign = ("- " if below else "+ ") if said else "-" * below
        said += f"{sign}{size}{names[j]} "
    if used.size > MOST_TERMS:
        said += f"+ {used.size - MOST_TERMS} more terms "
    return f"{said}= {constant:.6g}"
