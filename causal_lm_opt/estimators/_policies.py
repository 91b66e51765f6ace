"""Reading the target policies: log ratios of the logged rows, and second samples."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator

from causal_lm_opt._cells import shown
from causal_lm_opt._validation import (
    check_log_probs,
    policy_columns,
)
from causal_lm_opt.core.weights import log_ratio
from causal_lm_opt.estimators._estimated import EstimatedRatios, fit_ratios, refuse_log_probs
from causal_lm_opt.estimators._log import FEW_ROWS, Log, read_new_rows
from causal_lm_opt.estimators._target import TargetRows, resolve_targets
from causal_lm_opt.exceptions import EstimationWarning, NotIdentifiedError, OverlapError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
LOGGING_POLICY = "logging policy"
MOSTLY_SHARED = 0.5  # of the draws' labels; with fewer, labels may well mean different things
FIRST_LABELS = 5  # of many, named in a message


@dataclass(frozen=True, eq=False)
class LogRatios:
    """Log ratios of the logged rows, formed one policy at a time.

    Attributes
    ----------
    logp_target : array, shape (n_given, K)
        As given to ``fit``, without a copy.
    logp_logging : array, shape (n,)
    taken : integer array, shape (n,), optional
        Rows of ``logp_target`` (``None``: all).
    """

    logp_target: FloatArray
    logp_logging: FloatArray
    taken: IntArray | None = None

    @property
    def count(self) -> int:
        """Number of policies."""
        return int(self.logp_target.shape[1])

    def target(self, k: int) -> FloatArray:
        """Log-probs (n,) under policy ``k``."""
        target = self.logp_target[:, k]
        return target if self.taken is None else target[self.taken]

    def column(self, k: int) -> FloatArray:
        """Log ratios (n,) of policy ``k``, contiguous."""
        return np.asarray(log_ratio(self.target(k), self.logp_logging))

    def take(self, rows: IntArray) -> LogRatios:
        """The log ratios of a resample of the rows."""
        taken = rows if self.taken is None else self.taken[rows]
        return LogRatios(self.logp_target, self.logp_logging[rows], taken)

    def dead(self) -> npt.NDArray[np.bool_]:
        """Policies (K,) that give every row probability 0."""
        some = slice(0, FEW_ROWS) if self.taken is None else self.taken[:FEW_ROWS]
        written = (self.logp_target[some] > -np.inf).any(axis=0)
        if written.all():
            return np.asarray(~written)
        written = self.logp_target.max(axis=0) > -np.inf
        if self.taken is not None:  # rows that count may be dead where others are not
            for k in np.flatnonzero(written):
                written[k] = self.logp_target[self.taken, k].max() > -np.inf
        return np.asarray(~written)


@dataclass(frozen=True, eq=False)
class Policies:
    """Target policies: names, log ratios of the logged rows, and second samples.

    ``ell`` is ``None`` when only draws were given (outcome regression), and both are empty for
    the logging policy itself. With ``ratio=`` it holds log ratios estimated from the texts. With
    ``fixed`` the second samples are part of the estimand and have no sampling error. ``memo`` keeps
    what was found out about all of them together.
    """

    names: tuple[str, ...]
    ell: LogRatios | EstimatedRatios | None
    row_sets: tuple[TargetRows, ...]
    of_policy: tuple[int, ...]
    scalar: bool
    logging: bool = False
    fixed: bool = False
    memo: dict[str, Any] = field(default_factory=dict, init=False, compare=False, repr=False)

    @property
    def count(self) -> int:
        """Number of policies."""
        return len(self.names)

    @property
    def estimated(self) -> EstimatedRatios | None:
        """The estimated log ratios; ``None`` where log-probs state them."""
        return self.ell if isinstance(self.ell, EstimatedRatios) else None

    def log_ratio(self, k: int) -> FloatArray:
        """Log ratios of policy ``k`` at the logged rows, shape (n,).

        Raises
        ------
        NotIdentifiedError
            Where draws alone were given.
        """
        if self.ell is None:
            raise NotIdentifiedError(
                "X_target alone cannot be valued by weighting: give logp_target and logp_logging, "
                "or ratio=DensityRatio() to estimate the weights from the texts, or use "
                "OutcomeRegression."
            )
        return self.ell.column(k)

    def rows_of(self, k: int) -> TargetRows | None:
        """Second sample of policy ``k``."""
        return self.row_sets[self.of_policy[k]] if self.row_sets else None


def read_policies(
    estimator: BaseEstimator,
    log: Log,
    logp_target: Any,
    logp_logging: Any,
    X_target: Any,
    *,
    stand_in: bool = False,
    ratio: Any = None,
) -> Policies:
    """Check ``logp_target``, ``logp_logging`` and ``X_target`` together.

    A ``stand_in`` second sample has predictions and no texts, so that its X is not read. A
    ``ratio`` is cloned and fitted on the log and each policy's draws.
    """
    if ratio is not None:
        refuse_log_probs(logp_target, logp_logging, X_target)
    if (logp_target is None) != (logp_logging is None):
        given, lacking = (
            ("logp_target", "logp_logging") if logp_logging is None else
            ("logp_logging", "logp_target")
        )  # fmt: skip
        raise NotIdentifiedError(
            f"{given} was given without {lacking}: importance weights need both. Give neither to "
            "evaluate the logging policy itself."
        )
    if logp_target is None and X_target is None:
        return Policies((LOGGING_POLICY,), None, (), (), True, True, log.texts is not None)
    names: tuple[str, ...] | None = None
    ell: LogRatios | EstimatedRatios | None = None
    scalar, k = isinstance(X_target, Mapping) is False, None
    if logp_target is not None:
        ell, names, scalar = _read_ell(log, logp_target)
        k = ell.count
    row_sets: list[TargetRows] = []
    of_policy: list[int] = []
    if X_target is not None:
        row_sets, of_policy, names = resolve_targets(X_target, names, k)
        row_sets = [
            replace(r, stand_in=True)
            if stand_in
            else replace(r, X=read_new_rows(estimator, r.X, "X_target"))
            for r in row_sets
        ]
        named = isinstance(X_target, Mapping) and names is not None
        places = [f"X_target[{n!r}]" for n in names or ()] if named else ["X_target"]
        for rows, place in zip(row_sets, places, strict=True):
            _warn_of_unknown_subgroups(rows, log, place)
        row_sets = [
            _weight_shared_prompts(rows, log, place)
            for rows, place in zip(row_sets, places, strict=True)
        ]
        if k is None:
            k = len(of_policy)
            scalar = scalar and k == 1
    assert k is not None
    if names is None:
        names = ("target policy",) if k == 1 else tuple(f"policy {j}" for j in range(k))
    fixed = log.texts is not None
    policies = Policies(names, ell, tuple(row_sets), tuple(of_policy), scalar, fixed=fixed)
    return policies if ratio is None else with_ratio(ratio, log, policies)


def with_ratio(ratio: Any, log: Log, policies: Policies, *, replicate: bool = False) -> Policies:
    """The policies with log ratios of clones of ``ratio``, fitted on these rows and draws."""
    ell, row_sets = fit_ratios(ratio, log, policies.row_sets, policies.of_policy)
    noisy = not replicate and log.texts is None  # given the texts, a ratio has no noise
    ell = replace(ell, noisy=noisy, replicate=replicate)
    return replace(policies, ell=ell, row_sets=row_sets, of_policy=tuple(range(len(row_sets))))


def _read_ell(log: Log, logp_target: Any) -> tuple[LogRatios, tuple[str, ...] | None, bool]:
    """Log ratios (n, K) of the logged rows."""
    if log.logp_logging is None:
        raise NotIdentifiedError("logp_target needs logp_logging, which fit did not get.")
    values, names, scalar = policy_columns(logp_target)
    n = log.n_given
    if values.ndim not in (1, 2):
        raise ValueError(f"logp_target must have shape ({n},) or ({n}, K), got {values.shape}.")
    k = None if values.ndim == 1 else values.shape[1]
    if k == 0:
        raise ValueError("logp_target has no column; give one column per policy.")
    checked = check_log_probs(values, "logp_target", n, n_policies=k, allow_zero=True)
    ell = LogRatios(checked.reshape(n, -1), log.logp_logging, log.taken)
    dead = ell.dead()
    if dead.any():
        which = f" {names[int(np.argmax(dead))]!r}" if names else ""
        raise OverlapError(
            f"logp_target: the policy{which} gives every logged text probability 0, so the log "
            "says nothing about it; check that texts and log-probs are aligned, or use draws with "
            "OutcomeRegression."
        )
    return ell, names, scalar


def same_kind(
    left: npt.NDArray[Any], right: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Labels of two tables made comparable: prompt 7 of one file is "7" of the other."""
    if left.dtype.kind == right.dtype.kind != "O":
        return left, right

    def text(label: Any) -> str:
        whole = isinstance(label, float | np.floating) and float(label).is_integer()
        return str(int(label)) if whole else str(label)

    return np.array([text(x) for x in left]), np.array([text(x) for x in right])


def _weight_shared_prompts(rows: TargetRows, log: Log, place: str) -> TargetRows:
    """Weight draws to the log's prompt frequencies where draws and log share prompts.

    Draws of prompts that no logged row has are left out, with a warning, where every logged prompt
    has draws and ``MOSTLY_SHARED`` of the draws' prompts were logged.
    """
    if rows.groups is None or log.clusters is None or log.codes is None:
        return rows
    labels, logged_labels = same_kind(np.asarray(rows.groups), log.clusters)
    shared = np.isin(labels, logged_labels)
    if not shared.any():
        return rows
    _check_shared(labels, shared, logged_labels, place)
    if not shared.all():
        kept = np.flatnonzero(shared)
        rows = replace(rows.select_rows(kept), taken=kept, given=rows.size)
        labels = labels[shared]
    order = np.argsort(logged_labels)
    codes = order[np.searchsorted(logged_labels[order], labels)]
    logged = np.bincount(log.codes, weights=log.sample_weight, minlength=log.n_clusters)
    frequency = to_logged_frequencies(rows.frequency, codes, logged.astype(np.float64))
    if not np.isfinite(frequency).all():
        raise ValueError(f"{place}.weight is 0 for every draw of some logged prompt.")
    return replace(rows, frequency=frequency, shared=codes)


def to_logged_frequencies(frequency: FloatArray, codes: IntArray, logged: FloatArray) -> FloatArray:
    """Frequencies (m,) of draws, those of each logged cluster summing to its rows.

    Parameters
    ----------
    frequency, codes : arrays, shape (m,)
        Of the draws, the codes those of the log's clusters.
    logged : array, shape (clusters,)
        Rows of each; NaN comes of a cluster whose draws all have frequency 0.
    """
    drawn = np.bincount(codes, weights=frequency, minlength=logged.shape[0])
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(frequency * (logged / drawn)[codes])


def _check_shared(
    labels: npt.NDArray[Any],
    shared: npt.NDArray[np.bool_],
    logged_labels: npt.NDArray[Any],
    place: str,
) -> None:
    """Refuse, or warn of, prompts that only the log or only the draws have.

    Parameters
    ----------
    labels, shared : arrays, shape (m,)
        Prompts of the draws, and whether they were logged.
    logged_labels : array of the log's distinct prompts
    """
    common, unknown = np.unique(labels[shared]), np.unique(labels[~shared])
    both = f"{place}.groups and the log's groups share {common.size:,} labels (prompts)"
    apart = "if the labels mean different things, give the draws other labels"
    lacking = logged_labels[~np.isin(logged_labels, labels)]
    if lacking.size:
        raise ValueError(
            f"{both}, but {lacking.size:,} logged ones have no draws ({_first(lacking)}): draw "
            f"texts for these too, or leave their rows out of the log; {apart}."
        )
    if common.size < MOSTLY_SHARED * (common.size + unknown.size):
        raise ValueError(
            f"{both}, but no logged row has the other {unknown.size:,} of the draws "
            f"({_first(unknown)}): leave out draws of prompts that were not logged; {apart}."
        )
    if unknown.size:
        warnings.warn(
            f"{place}.groups: {int((~shared).sum()):,} of {labels.size:,} draws are left out, as "
            f"no logged row has their label (prompt): {_first(unknown)}.",
            EstimationWarning,
            stacklevel=6,
        )


def _warn_of_unknown_subgroups(rows: TargetRows, log: Log, place: str) -> None:
    """Say which draws are of subgroups that no logged row has."""
    if rows.by is None or log.by is None:
        return
    logged = set(np.unique(log.by).tolist())
    labels, count = np.unique(rows.by, return_counts=True)
    unknown = np.array([label not in logged for label in labels.tolist()])
    if unknown.any():
        warnings.warn(
            f"{place}.by: {int(count[unknown].sum()):,} of {rows.size:,} draws are of subgroups "
            f"that no logged row has ({_first(labels[unknown])}): no subgroup's value uses them; "
            "check the labels.",
            EstimationWarning,
            stacklevel=4,
        )


def _first(labels: Iterable[Any]) -> str:
    """The first few of some labels, for a message.

    >>> _first(["a", "b"]), _first(range(9))
    ("'a', 'b'", "'0', '1', '2', '3', '4', ...")
    """
    named = [shown(str(label)) for label in labels]
    return ", ".join(named[:FIRST_LABELS] + ["..."] * (len(named) > FIRST_LABELS))
