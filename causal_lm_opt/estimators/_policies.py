"""Reading the target policies: log ratios of the logged rows, and second samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator

from causal_lm_opt._validation import (
    check_log_probs,
    policy_columns,
)
from causal_lm_opt.core.weights import log_ratio
from causal_lm_opt.estimators._estimated import EstimatedRatios, fit_ratios, refuse_log_probs
from causal_lm_opt.estimators._log import FEW_ROWS, Log, read_new_rows
from causal_lm_opt.estimators._target import TargetRows, resolve_targets
from causal_lm_opt.exceptions import NotIdentifiedError, OverlapError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
LOGGING_POLICY = "logging policy"


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

    def column(self, k: int) -> FloatArray:
        """Log ratios (n,) of policy ``k``, contiguous."""
        target = self.logp_target[:, k]
        if self.taken is not None:
            target = target[self.taken]
        return np.asarray(log_ratio(target, self.logp_logging))

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
    ``fixed`` the second samples are part of the estimand and have no sampling error.
    """

    names: tuple[str, ...]
    ell: LogRatios | EstimatedRatios | None
    row_sets: tuple[TargetRows, ...]
    of_policy: tuple[int, ...]
    scalar: bool
    logging: bool = False
    fixed: bool = False

    @property
    def count(self) -> int:
        """Number of policies."""
        return len(self.names)

    @property
    def estimated(self) -> EstimatedRatios | None:
        """The estimated log ratios; ``None`` where log-probs state them."""
        return self.ell if isinstance(self.ell, EstimatedRatios) else None

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
        row_sets = [_weight_shared_prompts(r, log) for r in row_sets]
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


def _weight_shared_prompts(rows: TargetRows, log: Log) -> TargetRows:
    """Weight draws to the log's prompt frequencies where draws and log share prompts."""
    if rows.groups is None or log.clusters is None or log.codes is None:
        return rows
    labels, logged_labels = same_kind(np.asarray(rows.groups), log.clusters)
    shared = np.isin(labels, logged_labels)
    if not shared.any():
        return rows
    lacking = ~np.isin(logged_labels, labels)
    if lacking.any() or not shared.all():
        raise ValueError(
            f"X_target.groups and groups share {np.unique(labels[shared]).size} labels, but "
            f"{int(lacking.sum())} logged groups have no draws and "
            f"{np.unique(labels[~shared]).size} groups of draws are not in the log. Shared "
            "prompts need draws for every logged prompt; if the labels mean different things, "
            "give the draws other labels."
        )
    order = np.argsort(logged_labels)
    codes = order[np.searchsorted(logged_labels[order], labels)]
    logged = np.bincount(log.codes, weights=log.sample_weight, minlength=log.n_clusters)
    drawn = np.bincount(codes, weights=rows.frequency, minlength=log.n_clusters)
    if not (drawn > 0).all():
        raise ValueError("X_target.weight is 0 for every draw of some logged prompt.")
    return replace(rows, frequency=rows.frequency * (logged / drawn)[codes], shared=codes)
