r"""Was the text assigned at random? Then readers' traits tell nothing about what they were given.

No outcome is needed. Whether each arm was given as often as stated is a check of its own
(:func:`~causal_lm_opt.diagnostics.allocation.allocation_check`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from causal_lm_opt._validation import check_groups, is_frame
from causal_lm_opt.core.inference import cluster_sums

__all__ = ["RandomisationCheck", "randomisation_check"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
TIE = 1e-9
ROUNDING = 1e-12  # of a column's largest entry: less than this is no variation


@dataclass(frozen=True, eq=False)
class RandomisationCheck:
    """Permutation test of covariates against the assignment.

    Attributes
    ----------
    statistic : float
        Largest absolute studentised association.
    p_value : float
        Share of permutations (the data counted as one) with a statistic as large.
    table : DataFrame
        One row per covariate and assignment column: ``correlation``, ``t`` and ``p_adjusted``
        (single-step max-t: it allows for all the pairs), largest ``|t|`` first.
    n_units : int
        Units permuted: rows, or whole clusters.
    n_permutations : int
    constant : tuple of str
        Covariates and assignment columns that do not vary (within strata), and so were not tested.
    """

    statistic: float
    p_value: float
    table: pd.DataFrame
    n_units: int
    n_permutations: int
    constant: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The finding in words."""
        top = self.table.iloc[0]
        where = f"{top['covariate']} against {top['assignment']}"
        text = (
            f"Largest association: {where} (correlation {top['correlation']:+.3f}, "
            f"t {top['t']:+.1f}); permutation p = {self.p_value:.3g} over {len(self.table)} "
            f"pairs and {self.n_units:,} units"
        )
        if self.constant:
            text += f" (not tested, as constant: {', '.join(self.constant)})"
        if self.p_value < 0.01:
            return text + ": the assignment does not look random; ask how it was made."
        return text + ": nothing speaks against random assignment."


def randomisation_check(
    assignment: Any,
    covariates: Any,
    *,
    codes: Any = None,
    strata: Any = None,
    n_permutations: int = 999,
    random_state: int = 0,
) -> RandomisationCheck:
    r"""Test whether covariates tell anything about the assignment.

    For each covariate ``z`` and assignment column ``a``, both centred (within strata),

    .. math:: T = \frac{\sum_i a_i z_i}{\sqrt{\sum_i a_i^2 z_i^2}},

    which stays a valid test of no correlation, in large samples, when the spread of covariates
    differs between arms (DiCiccio and Romano 2017). The largest ``|T|`` is compared with its value
    after random permutations of the units: exact when the assignment is exchangeable.

    Parameters
    ----------
    assignment : array (n,) of labels, or numeric array (n, a) or DataFrame
        Labels become one indicator a label; numbers (features of the text) are taken as they are.
    covariates : DataFrame, mapping name -> array (n,), or numeric array (n, p)
        Traits fixed before the assignment; strings become one indicator a value. Missing values
        are an indicator of their own.
    codes : array (n,), optional
        Clusters, permuted whole. The assignment must not vary within clusters (readers of a text
        assigned by village), or else no covariate may (a reader who saw many texts).
    strata : array (n,), optional
        Blocks within which the assignment was random (prompts, tests); permutations stay inside.
    n_permutations : int
    random_state : int

    Returns
    -------
    RandomisationCheck

    Raises
    ------
    ValueError
        For wrong shapes, a constant assignment, or clusters in which both sides vary.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> arm = rng.choice(["a", "b", "c"], size=300)
    >>> age = rng.normal(size=300)
    >>> randomisation_check(arm, {"age": age}, n_permutations=199).p_value > .05
    True
    >>> randomisation_check(arm, {"age": age + (arm == "c")}, n_permutations=199).p_value
    0.005
    """
    if not isinstance(n_permutations, int | np.integer) or n_permutations < 19:
        raise ValueError(f"n_permutations must be at least 19, got {n_permutations!r}.")
    a, a_names = _numeric_columns(assignment, "assignment", None)
    z, z_names = _numeric_columns(covariates, "covariates", a.shape[0])
    a_size, z_size = np.abs(a).max(axis=0), np.abs(z).max(axis=0)
    # Less its first entry a column loses no digits to a far origin, and a constant one is 0.
    a, z, blocks = _permuted_units(a - a[:1], z - z[:1], codes, strata)
    by_block = np.argsort(blocks, kind="stable")
    a, z, blocks = a[by_block], z[by_block], blocks[by_block]
    a, a_names, a_constant = _informative(_centred(a, blocks), a_names, a_size, "assignment")
    z, z_names, z_constant = _informative(_centred(z, blocks), z_names, z_size, "covariates")
    observed = _studentised(a, z, a * a, z * z)
    largest = np.empty(n_permutations)
    a2, z2 = a * a, z * z
    rng = np.random.default_rng(random_state)
    for b in range(n_permutations):
        order = _shuffle(blocks, rng)
        largest[b] = np.abs(_studentised(a, z[order], a2, z2[order])).max()
    top = float(np.abs(observed).max())
    ascending = np.sort(largest)
    flat = np.abs(observed).ravel()
    beyond = n_permutations - np.searchsorted(ascending, flat * (1 - TIE), side="left")
    spread = np.sqrt(a2.sum(axis=0)[:, None] * z2.sum(axis=0)[None, :])
    table = pd.DataFrame(
        {
            "covariate": np.tile(z_names, len(a_names)),
            "assignment": np.repeat(a_names, len(z_names)),
            "correlation": ((a.T @ z) / spread).ravel(),
            "t": observed.ravel(),
            "p_adjusted": (1.0 + beyond) / (1.0 + n_permutations),
        }
    )
    table = table.iloc[np.argsort(-flat, kind="stable")].reset_index(drop=True)
    return RandomisationCheck(
        top, float(table["p_adjusted"].iloc[0]), table, int(a.shape[0]), int(n_permutations),
        (*z_constant, *a_constant),
    )  # fmt: skip


def _numeric_columns(values: Any, name: str, n: int | None) -> tuple[FloatArray, list[str]]:
    """Columns as numbers (n, p): text becomes one indicator a value."""
    named: list[tuple[str, Any]]
    if isinstance(values, Mapping):
        named = [(str(k), v) for k, v in values.items()]
    elif is_frame(values):
        named = [(str(c), values[c]) for c in values.columns]
    else:
        array = np.asarray(values)
        if array.ndim not in (1, 2):
            raise ValueError(f"{name} must have shape (n,) or (n, p), got {array.shape}.")
        columns = [array] if array.ndim == 1 else list(array.T)
        labels = array.ndim == 1 and name == "assignment"
        named = [(name if array.ndim == 1 else f"{name}[{j}]", c) for j, c in enumerate(columns)]
        if labels:  # labels, whatever their type
            named = [("", pd.Series(array).astype(str).where(~pd.isna(array), None))]
    if not named:
        raise ValueError(f"{name} has no columns.")
    out: list[FloatArray] = []
    names: list[str] = []
    for label, column in named:
        for more, numbers in _one_column(label, np.asarray(column), name):
            names.append(more)
            out.append(numbers)
    lengths = {c.shape[0] for c in out} | (set() if n is None else {n})
    if len(lengths) > 1:
        raise ValueError(f"{name}: columns have lengths {sorted(lengths)}; they must agree.")
    return np.stack(out, axis=1), names


def _one_column(
    label: str, column: npt.NDArray[Any], name: str
) -> Iterator[tuple[str, FloatArray]]:
    if column.ndim != 1:
        raise ValueError(f"{name}: the column {label!r} must be one-dimensional.")
    missing = np.asarray(pd.isna(column))
    if missing.any() and name == "assignment":
        raise ValueError(f"assignment has {int(missing.sum())} missing entries; drop these rows.")
    if column.dtype.kind in "biuf":
        numbers = column.astype(np.float64)
        if np.isinf(numbers).any():
            raise ValueError(f"{name}: the column {label!r} has infinite entries.")
        centre = float(numbers[~missing].mean()) if not missing.all() else 0.0
        yield label, np.where(missing, centre, numbers)
    else:
        text = column.astype(object)
        for value in sorted({str(v) for v in text[~missing]}):
            is_it = np.array([str(v) == value for v in text]) & ~missing
            yield (f"{label}={value}" if label else value), is_it.astype(np.float64)
    if missing.any():
        yield f"{label} missing", missing.astype(np.float64)


def _permuted_units(
    a: FloatArray, z: FloatArray, codes: Any, strata: Any
) -> tuple[FloatArray, FloatArray, IntArray]:
    """Both sides summed to units: the side that is constant within clusters keeps its value."""
    n = a.shape[0]
    blocks = np.zeros(n, dtype=np.intp)
    if strata is not None:
        blocks = np.unique(check_groups(strata, "strata", n), return_inverse=True)[1]
    if codes is None:
        return a, z, blocks
    labels, inverse = np.unique(check_groups(codes, "codes", n), return_inverse=True)
    count = int(labels.shape[0])
    first = np.full(count, n, dtype=np.intp)
    np.minimum.at(first, inverse, np.arange(n))
    if (blocks != blocks[first][inverse]).any():
        raise ValueError("strata must not split a cluster of codes.")

    def constant(x: FloatArray) -> bool:
        return bool((x == x[first][inverse]).all())

    def summed(x: FloatArray) -> FloatArray:
        centre = x - x.mean(axis=0)
        return np.asarray(cluster_sums(centre, inverse, count))

    if constant(a):
        return a[first], summed(z), blocks[first]
    if constant(z):
        return summed(a), z[first], blocks[first]
    raise ValueError(
        "codes: both the assignment and the covariates vary within clusters, so that clusters "
        "cannot be permuted whole; drop codes where rows were assigned one by one, or pass as "
        "strata the blocks within which they were."
    )


def _centred(x: FloatArray, blocks: IntArray) -> FloatArray:
    """Columns minus their means within blocks."""
    count = int(blocks.max()) + 1
    size = np.bincount(blocks, minlength=count)[:, None]
    return np.asarray(x - (cluster_sums(x, blocks, count) / size)[blocks])


def _informative(
    x: FloatArray, names: list[str], size: FloatArray, name: str
) -> tuple[FloatArray, list[str], list[str]]:
    """Columns that vary (within strata), in units of their largest entry; names; the others' names.

    Centred columns ``x`` are judged each by its own largest entry before centring, ``size``: units
    of measurement differ.
    """
    scale = np.abs(x).max(axis=0)
    keep = scale > ROUNDING * size
    if not keep.any():
        raise ValueError(f"{name} does not vary (within strata): nothing can be tested.")
    kept = [n for n, k in zip(names, keep, strict=True) if k]
    return x[:, keep] / scale[keep], kept, [n for n, k in zip(names, keep, strict=True) if not k]


def _studentised(a: FloatArray, z: FloatArray, a2: FloatArray, z2: FloatArray) -> FloatArray:
    """Studentised associations, shape (columns of a, columns of z); 0 where nothing overlaps."""
    bottom = a2.T @ z2
    safe = np.where(bottom > 0, bottom, 1.0)
    return np.asarray(np.where(bottom > 0, (a.T @ z) / np.sqrt(safe), 0.0))


def _shuffle(blocks: IntArray, rng: np.random.Generator) -> IntArray:
    """A permutation of the units that keeps each inside its block (blocks ascending)."""
    ties = rng.random(size=(blocks.shape[0],))
    return np.lexsort((ties, blocks))
