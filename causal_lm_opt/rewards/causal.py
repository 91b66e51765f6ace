r"""Importance weights of preference pairs: to another law of objectives, or of latent cells.

A reward learnt where two factors of the texts move together need not know which of them people
respond to. Pairs weighted by :math:`w(k) = P_f(k)/P_R(k)`, with k the cell of the latent
differences (or the objective), are pairs of the law :math:`P_f`, as long as every cell of
:math:`P_f` occurs: latent positivity, assumption A5 of Kobalczyk and van der Schaar (2025). Weights
cannot make up for a cell that was never seen.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from causal_lm_opt._validation import check_groups
from causal_lm_opt.core.balancing import entropy_balance
from causal_lm_opt.diagnostics.overlap import effective_sample_size
from causal_lm_opt.exceptions import OverlapError

__all__ = ["CellWeights", "cell_weights", "objective_weights"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
Missing = Literal["raise", "drop"]
#: Decimals to which differences are the same cell.
ROUND = 9
#: Cells named in an error.
NAMED = 5


@dataclass(frozen=True, eq=False)
class CellWeights:
    """Weights of pairs towards a target law of cells.

    Attributes
    ----------
    weight : array, shape (n,)
        Averages 1; pass it as ``sample_weight``.
    ess : float
        Kish's effective number of pairs, of n.
    table : DataFrame
        One row a cell, seen or wanted: ``cell``, ``rows``, ``share``, ``target`` and ``weight``
        (NaN where the cell was never seen).
    missing_mass : float
        Target probability of cells never seen, left out under ``missing="drop"``: the weighted
        pairs then stand for the rest of the target only.
    """

    weight: FloatArray
    ess: float
    table: pd.DataFrame
    missing_mass: float = 0.0


def objective_weights(
    objective: Any, target: Mapping[Any, float] | None = None, *, missing: Missing = "raise"
) -> CellWeights:
    r"""Weights :math:`P_f(c)/P_R(c)` that bring objectives to another law.

    Parameters
    ----------
    objective : (n,) labels
    target : mapping from objective to share, optional
        Scaled to sum to 1. By default each objective that occurs has the same share.
    missing : {"raise", "drop"}
        What to do with wanted objectives that never occur.

    Raises
    ------
    OverlapError
        If a wanted objective never occurs, or none of them does.

    Examples
    --------
    >>> found = objective_weights(["help", "help", "help", "harm"])
    >>> found.weight.round(3).tolist(), round(found.ess, 2)
    ([0.667, 0.667, 0.667, 2.0], 3.0)
    """
    labels = _labels(objective, "objective")
    wanted = dict.fromkeys(dict.fromkeys(labels), 1.0) if target is None else target
    return _weights(labels, _law(wanted), missing, "objective")


def cell_weights(
    cells: Any,
    *,
    target: Any = None,
    target_correlation: float | None = None,
    symmetric: bool = True,
    missing: Missing = "raise",
) -> CellWeights:
    r"""Weights of pairs towards a target law of latent cells, or a target correlation.

    Parameters
    ----------
    cells : (n,) labels, or (n, k) numbers
        Cell of each pair; of an array, each distinct row is a cell: in Kobalczyk and van der
        Schaar the differences of the factors between the two texts. Continuous factors need to be
        binned first, except under ``target_correlation``.
    target : mapping, (cells, shares), or array
        Target law: a mapping from cell (label or tuple) to share; a pair of an array of cells and
        their shares; or cells of a target sample. Shares are scaled to sum to 1.
    target_correlation : float, optional
        In place of ``target``, for (n, 2) numbers: the law closest to the pairs' own (in
        Kullback-Leibler divergence) with their means and variances, but this correlation.
    symmetric : bool, default True
        Differences and their negatives are one cell (and have mean 0), because which text of a pair
        comes first says nothing. Without it, differences "chosen less rejected" would make the
        weights depend on the label. Cells given as labels are taken as they are.
    missing : {"raise", "drop"}
        What to do with cells that the target has and the pairs have not.

    Raises
    ------
    OverlapError
        If cells of the target were never seen (the message names the heaviest), or no weights on
        the pairs have the correlation asked for.
    ValueError
        If shapes do not fit, or both or neither target is given.

    Notes
    -----
    **Assumptions.** The label depends on a pair through its cell and what is independent of it;
    then weighted risks estimate those of the target law. Few effective pairs (``ess``) make
    them noisy: the largest weight is the target's share of a cell over that of its pairs.

    Examples
    --------
    >>> z = np.array([[1, 1], [-1, -1], [1, 1], [-1, -1], [1, -1], [-1, 1]])
    >>> found = cell_weights(z, target_correlation=0.0)
    >>> found.weight.round(3).tolist(), round(found.ess, 3)
    ([0.75, 0.75, 0.75, 0.75, 1.5, 1.5], 5.333)
    >>> same = cell_weights(z, target={(1, 1): 1, (1, -1): 1, (-1, 1): 1, (-1, -1): 1})
    >>> bool(np.allclose(same.weight, found.weight))
    True
    """
    if (target is None) == (target_correlation is None):
        raise ValueError("give either target or target_correlation.")
    if target_correlation is not None:
        z = np.asarray(cells, dtype=np.float64)
        return _correlation_weights(z, float(target_correlation), symmetric)
    labels = _labels(cells, "cells", symmetric)
    return _weights(labels, _target_law(target, symmetric), missing, "cell")


# ------------------------------------------------------------------------------ laws of cells
def _labels(cells: Any, name: str, symmetric: bool = False) -> list[Hashable]:
    """Cells (n,) as hashable labels; rows of numbers become tuples."""
    array = np.asarray(cells)
    if array.ndim == 2 and array.dtype.kind in "fiub":
        if not np.isfinite(array).all():
            raise ValueError(f"{name} has NaN or infinite entries; drop these pairs.")
        listed: list[Hashable] = [_key(row, symmetric) for row in map(tuple, array.tolist())]
    elif isinstance(cells, list | tuple) and any(isinstance(c, tuple) for c in cells):
        listed = [_key(c, symmetric) for c in cells]
    else:
        listed = [_key(c, symmetric) for c in check_groups(array, name, len(array)).tolist()]
    if not listed:
        raise ValueError(f"{name} is empty; at least one pair is needed.")
    return listed


def _key(cell: Any, symmetric: bool) -> Hashable:
    """A cell as it is compared: differences rounded and, where symmetric, of one sign."""
    if not isinstance(cell, tuple | list | np.ndarray):
        plain: Hashable = cell.item() if isinstance(cell, np.generic) else cell
        return plain
    if not all(isinstance(c, int | float | np.number) for c in cell):
        return tuple(cell)
    rounded = tuple(round(float(c), ROUND) + 0.0 for c in cell)  # -0.0 is 0.0
    return max(rounded, tuple(0.0 - c for c in rounded)) if symmetric else rounded


def _law(target: Mapping[Any, float], symmetric: bool = False) -> dict[Hashable, float]:
    """A mapping of shares, scaled to sum to 1."""
    law: dict[Hashable, float] = {}
    for cell, share in target.items():
        value = float(share)
        if not 0 <= value < np.inf:
            raise ValueError(f"target[{cell!r}] must be a share >= 0, got {share!r}.")
        key = _key(cell, symmetric)
        law[key] = law.get(key, 0.0) + value
    total = sum(law.values())
    if not total > 0:
        raise ValueError("target has no positive share.")
    return {cell: share / total for cell, share in law.items() if share > 0}


def _target_law(target: Any, symmetric: bool) -> dict[Hashable, float]:
    """The target law from any of the forms it may have."""
    if isinstance(target, Mapping):
        return _law(target, symmetric)
    with_shares = isinstance(target, tuple) and len(target) == 2
    cells = _labels(target[0] if with_shares else target, "target", symmetric)
    shares = np.asarray(target[1], dtype=np.float64) if with_shares else np.ones(len(cells))
    if shares.shape != (len(cells),):
        raise ValueError(f"target's shares must have shape ({len(cells)},), got {shares.shape}.")
    law: dict[Hashable, float] = {}
    for cell, share in zip(cells, shares.tolist(), strict=True):
        law[cell] = law.get(cell, 0.0) + share
    return _law(law)


def _weights(
    labels: list[Hashable], law: dict[Hashable, float], missing: Missing, what: str
) -> CellWeights:
    """Target share over own share, cell by cell."""
    if missing not in ("raise", "drop"):
        raise ValueError(f'missing must be "raise" or "drop", got {missing!r}.')
    n = len(labels)
    rows: dict[Hashable, int] = {}
    for label in labels:
        rows[label] = rows.get(label, 0) + 1
    absent = sorted((c for c in law if c not in rows), key=lambda c: -law[c])
    lost = sum(law[c] for c in absent)
    if absent and (missing == "raise" or lost >= 1.0 - 1e-12):
        named = ", ".join(f"{_shown(c)} ({law[c]:.3g})" for c in absent[:NAMED])
        more = f" and {len(absent) - NAMED} more" if len(absent) > NAMED else ""
        raise OverlapError(
            f"{len(absent)} {what}s of the target (share {lost:.3g}) have no pair: {named}{more}. "
            "Collect such pairs, choose a target within what was seen, or pass missing='drop' to "
            "weight towards the rest."
        )
    ratio = {c: law.get(c, 0.0) / (1.0 - lost) / (k / n) for c, k in rows.items()}
    weight = np.array([ratio[label] for label in labels])
    order = sorted({**rows, **law}, key=_shown)
    table = pd.DataFrame(
        {
            "cell": pd.Series(order, dtype=object),
            "rows": [rows.get(c, 0) for c in order],
            "share": [rows.get(c, 0) / n for c in order],
            "target": [law.get(c, 0.0) for c in order],
            "weight": [ratio.get(c, np.nan) for c in order],
        }
    )
    return CellWeights(weight, float(effective_sample_size(weight)), table, float(lost))


def _shown(cell: Hashable) -> str:
    """A cell in words: numbers of a tuple without needless decimals."""
    if isinstance(cell, tuple):
        return f"({', '.join(f'{c:g}' if isinstance(c, float) else str(c) for c in cell)})"
    return repr(cell)


# ------------------------------------------------------------------------------ correlation
def _correlation_weights(z: FloatArray, rho: float, symmetric: bool) -> CellWeights:
    """Exponential tilt of the pairs to a correlation, means and variances as they are."""
    if z.ndim != 2 or z.shape[1] != 2:
        raise ValueError(
            f"target_correlation needs cells of shape (n, 2), the two differences, got {z.shape}."
        )
    if not np.isfinite(z).all():
        raise ValueError("cells has NaN or infinite entries; drop these pairs.")
    if not -1 < rho < 1:
        raise ValueError(f"target_correlation must be within (-1, 1), got {rho!r}.")
    z = z if symmetric else z - z.mean(axis=0)
    spread = np.sqrt(np.mean(z**2, axis=0))
    if not (spread > 0).all():
        raise ValueError("cells: a difference that never varies has no correlation.")
    u = z / spread
    even = [u**2 - 1.0, u[:, :1] * u[:, 1:] - rho]
    features = np.hstack(even if symmetric else [u, *even])
    found = entropy_balance(features)
    if not found.converged:
        own = float(np.mean(u[:, 0] * u[:, 1]))
        raise OverlapError(
            f"no weights on these pairs have correlation {rho:g} (theirs is {own:.3g}) with the "
            f"same means and variances: {_scarcest(z)}. Collect such pairs, or ask for a "
            "correlation nearer to theirs."
        )
    weight = np.exp(found.log_weight)
    weight /= weight.mean()
    return CellWeights(weight, float(effective_sample_size(weight)), _sign_table(z, weight))


def _signs(z: FloatArray) -> list[str]:
    """Quadrant of each pair of differences."""
    return [
        f"({'-0+'[int(a) + 1]}, {'-0+'[int(b) + 1]})" for a, b in np.sign(z).astype(int).tolist()
    ]


def _sign_table(z: FloatArray, weight: FloatArray) -> pd.DataFrame:
    """Weights by the signs of the two differences."""
    frame = pd.DataFrame({"cell": _signs(z), "weight": weight})
    by = frame.groupby("cell")["weight"]
    table = by.agg(rows="size", target="sum", weight="mean").reset_index()
    table["target"] /= len(z)
    table.insert(2, "share", table["rows"] / len(z))
    return table


def _scarcest(z: FloatArray) -> str:
    """How many pairs the two emptiest quadrants have."""
    counts = pd.Series(_signs(z)).value_counts()
    quadrants = ["(+, +)", "(+, -)", "(-, +)", "(-, -)"]
    rare = sorted(quadrants, key=lambda q: int(counts.get(q, 0)))[:2]
    return "cells " + " and ".join(f"{q} have {int(counts.get(q, 0))} pairs" for q in rare)
