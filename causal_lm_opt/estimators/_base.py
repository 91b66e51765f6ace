"""What the value estimators share: reading the log, assembling values and influence functions."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_is_fitted, column_or_1d, validate_data

from causal_lm_opt._validation import (
    as_text_rows,
    check_groups,
    check_log_probs,
    check_sample_weight,
    content_keys,
    is_frame,
    n_rows,
    policy_columns,
    take_rows,
)
from causal_lm_opt.core.inference import influence_covariance, welch_satterthwaite
from causal_lm_opt.core.scores import ipw_moment, plug_in_moment
from causal_lm_opt.core.solve import solve_linear_moment
from causal_lm_opt.core.weights import Weighting, log_ratio, relative_weights, transform_bias
from causal_lm_opt.diagnostics.overlap import OverlapDiagnostics, overlap
from causal_lm_opt.diagnostics.trust import TrustReport
from causal_lm_opt.diagnostics.verdict import Verdict, verdict
from causal_lm_opt.estimate import InfluenceSample, ValueEstimate, covariance_parts
from causal_lm_opt.estimators._target import TargetRows, resolve_targets
from causal_lm_opt.estimators.outcome_models import numeric_outcome
from causal_lm_opt.exceptions import NotIdentifiedError, OverlapError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
LOGGING_POLICY = "logging policy"
SAME_TEXT_NOTE = (
    "This is the value of the logging policy itself (the mean outcome of the log): no log-probs or "
    "draws of another policy were given."
)


# ------------------------------------------------------------------------------ the log
@dataclass(frozen=True, eq=False)
class Log:
    """Checked logged rows of positive weight.

    Attributes
    ----------
    X : array (n, d), frame, or object array of texts
    labels : array, shape (n,)
        Outcomes as given (what a classifier learns).
    y : array, shape (n,)
        Outcomes as numbers.
    sample_weight : array, shape (n,), optional
    codes : integer array, shape (n,), optional
    clusters : array of distinct labels, sorted as coded
    logp_logging : array, shape (n,), optional
    by : array, shape (n,), optional
    """

    X: Any
    labels: npt.NDArray[Any]
    y: FloatArray
    sample_weight: FloatArray | None
    codes: IntArray | None
    clusters: npt.NDArray[Any] | None
    logp_logging: FloatArray | None
    by: npt.NDArray[Any] | None
    keep: npt.NDArray[np.bool_] | None

    @property
    def size(self) -> float:
        """Number of rows (sum of frequency weights)."""
        return float(self.y.shape[0] if self.sample_weight is None else self.sample_weight.sum())

    @property
    def n_clusters(self) -> int:
        """Number of clusters, 0 without groups."""
        return 0 if self.clusters is None else int(self.clusters.shape[0])

    @cached_property
    def key(self) -> str:
        """Identity of the rows: their outcomes, weights, clusters and a sample of their content."""
        digest = hashlib.blake2b(np.ascontiguousarray(self.y).tobytes(), digest_size=16)
        if self.sample_weight is not None:
            digest.update(self.sample_weight.tobytes())
        n = self.y.shape[0]
        some = np.unique(np.linspace(0, n - 1, min(n, 1000)).astype(np.intp))
        digest.update(content_keys(take_rows(self.X, some)).tobytes())
        return f"log:{digest.hexdigest()}"

    @cached_property
    def cluster_key(self) -> str:
        """Identity of the cluster labels."""
        if self.clusters is None:
            return ""
        text = "\x1f".join(map(str, self.clusters))
        return (
            "clusters:"
            + hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        )


def read_log(
    estimator: BaseEstimator,
    X: Any,
    y: Any,
    *,
    sample_weight: Any,
    groups: Any,
    logp_logging: Any,
    by: Any,
    utility: Mapping[Any, float] | None,
) -> Log:
    """Check the arguments of ``fit`` and drop rows of weight 0; an earlier fit is forgotten."""
    for name in [a for a in vars(estimator) if a.endswith("_") and not a.startswith("_")]:
        delattr(estimator, name)
    X, labels = _read_rows(estimator, X, y, utility)
    n = labels.shape[0]
    s = check_sample_weight(sample_weight, n)
    keep = None if s is None or (s > 0).all() else s > 0

    def kept(a: Any) -> Any:
        return a if a is None or keep is None else a[keep]

    if keep is not None:
        X = take_rows(X, np.flatnonzero(keep))
    labels = kept(labels)
    codes = clusters = None
    if groups is not None:
        clusters, codes = np.unique(kept(check_groups(groups, "groups", n)), return_inverse=True)
        if clusters.shape[0] < 2:
            raise ValueError(
                "groups holds one distinct label; a standard error needs at least two."
            )
    if labels.shape[0] < 2 and s is None:
        raise ValueError(
            f"A standard error needs at least two rows: n_samples = {labels.shape[0]} "
            "(1 sample given)."
        )
    logging = None
    if logp_logging is not None:
        logging = check_log_probs(logp_logging, "logp_logging", n, allow_zero=False)
    return Log(
        X=X,
        labels=labels,
        y=numeric_outcome(labels, utility),
        sample_weight=kept(s),
        codes=codes,
        clusters=clusters,
        logp_logging=kept(logging),
        by=None if by is None else kept(check_groups(by, "by", n)),
        keep=keep,
    )


def _read_rows(
    estimator: BaseEstimator, X: Any, y: Any, utility: Mapping[Any, float] | None
) -> tuple[Any, npt.NDArray[Any]]:
    """X and y after their checks; numeric X is float64 (or sparse), texts an object array."""
    if y is None:
        raise ValueError(
            f"This {type(estimator).__name__} estimator requires y to be passed, but the target y "
            "is None."
        )
    texts = as_text_rows(X)
    loose = texts is not None or _mixed_frame(X)
    if _countable(X) and _countable(y):
        _same_length(X, y)
    if utility is None:
        _need_numbers(y)
    if not loose and utility is None:
        X, y = validate_data(estimator, X, y, accept_sparse="csr", y_numeric=True, dtype=np.float64)
        return X, np.asarray(y, dtype=np.float64)
    labels = column_or_1d(y, warn=True)
    if utility is None:
        labels = check_array(labels, ensure_2d=False, dtype=np.float64, input_name="y")
    if loose:
        X = X if texts is None else texts
    else:
        X = validate_data(estimator, X, accept_sparse="csr", dtype=np.float64)
    _same_length(X, labels)
    return X, labels


def _countable(a: Any) -> bool:
    """Whether rows can be counted before scikit-learn converts ``a``."""
    return isinstance(a, list | tuple) or len(getattr(a, "shape", ())) > 0


def _same_length(X: Any, y: Any) -> None:
    rows, outcomes = n_rows(X), n_rows(y, "y")
    if rows == 0:
        raise ValueError("X is empty (0 rows); give at least two logged rows.")
    if rows != outcomes:
        raise ValueError(f"X has {rows} rows and y has {outcomes}; they must agree.")


def _need_numbers(y: Any) -> None:
    values = np.asarray(y)
    if values.dtype.kind in "OUST" and any(isinstance(v, str) for v in values.ravel()):
        raise ValueError(
            "y holds strings where outcomes are numbers; for classes state "
            "utility={class: value} (and use a classifier as outcome_model)."
        )


def _mixed_frame(X: Any) -> bool:
    """A data frame with columns that are not numbers."""
    if not is_frame(X) or sparse.issparse(X):
        return False
    kinds = [np.asarray(X[c]).dtype.kind for c in X.columns]
    return any(k not in "biuf" for k in kinds)


def read_new_rows(estimator: BaseEstimator, X: Any, name: str = "X") -> Any:
    """X of ``predict`` or of a second sample, in the layout seen in ``fit``."""
    texts = as_text_rows(X, name)
    if texts is not None or _mixed_frame(X):
        if hasattr(estimator, "n_features_in_"):
            raise ValueError(f"{name} holds texts but the estimator was fitted on a numeric array.")
        return X if texts is None else texts
    if not hasattr(estimator, "n_features_in_"):
        raise ValueError(
            f"{name} is numeric but the estimator was fitted on texts or a mixed frame."
        )
    try:
        return validate_data(estimator, X, reset=False, accept_sparse="csr", dtype=np.float64)
    except ValueError as error:
        if name == "X":
            raise
        raise ValueError(f"{name} does not match the logged X: {error}") from error


# ------------------------------------------------------------------------------ the policies
@dataclass(frozen=True, eq=False)
class Policies:
    """Target policies: names, log ratios of the logged rows, and second samples.

    ``ell`` is ``None`` when only draws were given (outcome regression), and both are empty for
    the logging policy itself.
    """

    names: tuple[str, ...]
    ell: FloatArray | None
    row_sets: tuple[TargetRows, ...]
    of_policy: tuple[int, ...]
    scalar: bool
    logging: bool = False

    @property
    def count(self) -> int:
        """Number of policies."""
        return len(self.names)

    def rows_of(self, k: int) -> TargetRows | None:
        """Second sample of policy ``k``."""
        return self.row_sets[self.of_policy[k]] if self.row_sets else None


def read_policies(
    estimator: BaseEstimator, log: Log, logp_target: Any, logp_logging: Any, X_target: Any
) -> Policies:
    """Check ``logp_target``, ``logp_logging`` and ``X_target`` together."""
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
        return Policies((LOGGING_POLICY,), None, (), (), scalar=True, logging=True)
    names: tuple[str, ...] | None = None
    ell, scalar, k = None, isinstance(X_target, Mapping) is False, None
    if logp_target is not None:
        ell, names, scalar = _read_ell(log, logp_target)
        k = ell.shape[1]
    row_sets: list[TargetRows] = []
    of_policy: list[int] = []
    if X_target is not None:
        row_sets, of_policy, names = resolve_targets(X_target, names, k)
        row_sets = [replace(r, X=read_new_rows(estimator, r.X, "X_target")) for r in row_sets]
        row_sets = [_weight_shared_prompts(r, log) for r in row_sets]
        if k is None:
            k = len(of_policy)
            scalar = scalar and k == 1
    assert k is not None
    if names is None:
        names = ("target policy",) if k == 1 else tuple(f"policy {j}" for j in range(k))
    return Policies(names, ell, tuple(row_sets), tuple(of_policy), scalar)


def _read_ell(log: Log, logp_target: Any) -> tuple[FloatArray, tuple[str, ...] | None, bool]:
    """Log ratios (n, K) of the logged rows."""
    if log.logp_logging is None:
        raise NotIdentifiedError("logp_target needs logp_logging, which fit did not get.")
    values, names, scalar = policy_columns(logp_target)
    n = log.y.shape[0] if log.keep is None else log.keep.shape[0]
    if values.ndim not in (1, 2):
        raise ValueError(f"logp_target must have shape ({n},) or ({n}, K), got {values.shape}.")
    k = None if values.ndim == 1 else values.shape[1]
    if k == 0:
        raise ValueError("logp_target has no column; give one column per policy.")
    checked = check_log_probs(values, "logp_target", n, n_policies=k, allow_zero=True)
    checked = checked.reshape(n, -1)
    if log.keep is not None:
        checked = checked[log.keep]
    ell = np.asarray(log_ratio(checked, log.logp_logging))
    dead = ~np.isfinite(ell).any(axis=0)
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
    return replace(rows, frequency=rows.frequency * (logged / drawn)[codes], shared=codes)


# ------------------------------------------------------------------------------ one policy
@dataclass(frozen=True, eq=False)
class LoggedTerm:
    """The logged rows' term of one value: estimate, influence (n,), bias bound."""

    value: float
    influence: FloatArray
    bias_bound: float = 0.0


def weighted_term(
    ell: FloatArray, residual: FloatArray, weighting: Weighting, s: FloatArray | None, name: str
) -> LoggedTerm:
    """Importance-weighted mean of ``residual`` (``y``, or ``y - q``) under one policy."""
    weight = relative_weights(weighting.transform(ell, s), normalize=weighting.normalize)
    total = float(np.sum(weight if s is None else s * weight))
    if not math.isfinite(total) or not total > 0:
        largest = float(np.max(ell))
        raise OverlapError(
            f"The weights of {name} {'overflow' if not math.isfinite(total) else 'all vanish'} "
            f"under weights={weighting.label!r} (largest log ratio {largest:.4g}): use 'hajek' or "
            "Clip(c), and expect the verdict to be harsh."
        )
    a, b = ipw_moment(weight, residual, normalize=weighting.normalize)
    value, influence = solve_linear_moment(a, b, s)
    with np.errstate(over="ignore", invalid="ignore"):
        bias = float(transform_bias(ell, weighting, residual, s))
    return LoggedTerm(float(value), influence, bias if math.isfinite(bias) else math.inf)


def transform_finding(term: LoggedTerm, s: FloatArray | None) -> list[tuple[int, str]]:
    """A reason for caution where a transform's bias may exceed the sampling error."""
    se = float(np.sqrt(influence_covariance(term.influence, s)))
    if term.bias_bound <= se:
        return []
    return [
        (1, f"The weight transform may bias the value by up to {term.bias_bound:.3g}, more than "
            f"its standard error ({se:.3g}).")
    ]  # fmt: skip


def plug_in_term(
    rows: TargetRows, k: int, prediction: FloatArray, weighting: Weighting
) -> tuple[float, FloatArray]:
    """Mean prediction of policy ``k``'s second sample and its influence (m,); zeros when exact."""
    weight, normalize = rows.policy_weight(k, weighting)
    a, b = plug_in_moment(weight, prediction, normalize=normalize)
    value, influence = solve_linear_moment(a, b, rows.frequency)
    if rows.exact:
        influence = np.zeros_like(influence)
    return float(value), influence


# ------------------------------------------------------------------------------ assembling
@dataclass(frozen=True, eq=False)
class PolicyValue:
    """One policy's value with the pieces its estimate is assembled from."""

    value: float
    logged: FloatArray | None
    target: FloatArray | None
    bias_bound: float
    verdict: Verdict
    diagnostics: Mapping[str, Any]
    replicates: FloatArray | None = None


def logged_sample(log: Log, influence: FloatArray) -> InfluenceSample:
    """The logged rows' influence functions as a sample."""
    return InfluenceSample(
        key=log.key,
        role="logged",
        influence=influence,
        sample_weight=log.sample_weight,
        codes=log.codes,
        n_clusters=log.n_clusters,
        cluster_key=log.cluster_key,
    )


def target_sample(log: Log, rows: TargetRows, influence: FloatArray) -> InfluenceSample:
    """A second sample's influence functions; clustered with the log where prompts are shared."""
    frequency = None if (rows.frequency == 1).all() else rows.frequency
    if rows.shared is not None:
        return InfluenceSample(
            rows.key, "target", influence, frequency, rows.shared, log.n_clusters, log.cluster_key
        )
    if rows.groups is None:
        return InfluenceSample(rows.key, "target", influence, frequency)
    labels, codes = np.unique(rows.groups, return_inverse=True)
    if labels.shape[0] < 2:
        raise ValueError("X_target.groups holds one distinct label; at least two are needed.")
    return InfluenceSample(
        rows.key, "target", influence, frequency, codes, labels.shape[0], f"{rows.key}:groups"
    )


def policy_samples(
    log: Log, policies: Policies, parts: Sequence[PolicyValue], positions: Sequence[int]
) -> tuple[InfluenceSample, ...]:
    """Influence samples of the policies at ``positions``; shared draws are one sample."""
    samples: list[InfluenceSample] = []
    logged = [p.logged for p in parts]
    if any(column is not None for column in logged):
        zero = np.zeros(log.y.shape[0])
        samples.append(
            logged_sample(log, np.stack([zero if c is None else c for c in logged], axis=1))
        )
    columns: dict[str, tuple[TargetRows, FloatArray]] = {}
    for j, (k, part) in enumerate(zip(positions, parts, strict=True)):
        rows = policies.rows_of(k)
        if rows is None or part.target is None or rows.exact:
            continue
        _, block = columns.setdefault(rows.key, (rows, np.zeros((rows.size, len(parts)))))
        block[:, j] = part.target
    samples += [target_sample(log, rows, block) for rows, block in columns.values()]
    if parts[0].replicates is not None:
        stacked = np.stack([p.replicates for p in parts if p.replicates is not None], axis=1)
        samples.append(InfluenceSample(f"{log.key}:bootstrap", "replicates", stacked))
    return tuple(samples)


Cell = tuple[int, Any]  # policy position, subgroup label (None: everyone)


def assemble(
    log: Log,
    policies: Policies,
    cells: Sequence[Cell],
    value_of: Callable[[int, Any], PolicyValue],
    *,
    estimator: str,
    notes: Sequence[str],
    influence: str,
    term_moment: bool = False,
) -> ValueEstimate:
    """Values of all cells; with ``influence="drop"`` one cell is held in memory at a time."""
    if influence not in ("keep", "drop"):
        raise ValueError(f"influence={influence!r} is not known; use 'keep' or 'drop'.")
    parts: list[PolicyValue] = []
    variance, dof = np.zeros(len(cells)), np.zeros(len(cells))
    samples: tuple[InfluenceSample, ...] = ()
    for c, (k, label) in enumerate(cells):
        part = value_of(k, label)
        if influence == "drop":
            pieces = covariance_parts(policy_samples(log, policies, [part], [k]))
            variances = [float(cov[0, 0]) for cov, _ in pieces]
            variance[c] = sum(variances)
            dof[c] = welch_satterthwaite(variances, [d for _, d in pieces])
            part = replace(part, logged=None, target=None, replicates=None)
        parts.append(part)
    positions = [k for k, _ in cells]
    if influence == "keep":
        samples = policy_samples(log, policies, parts, positions)
    return ValueEstimate(
        values=np.array([p.value for p in parts]),
        names=tuple(
            policies.names[k] if label is None else f"{policies.names[k]} | {label}"
            for k, label in cells
        ),
        samples=samples,
        estimator=estimator,
        bias_bound=np.array([p.bias_bound for p in parts]),
        verdicts=tuple(p.verdict for p in parts),
        diagnostics=tuple(p.diagnostics for p in parts),
        notes=tuple(notes),
        scalar=policies.scalar and len(cells) == 1,
        dropped_variance=variance if influence == "drop" else None,
        dropped_dof=dof if influence == "drop" else None,
        term_moment=term_moment,
        counts=_counts(log, policies),
    )


def all_cells(policies: Policies) -> list[Cell]:
    """Every policy over all readers."""
    return [(k, None) for k in range(policies.count)]


def subgroup_cells(log: Log, policies: Policies) -> list[Cell]:
    """Every policy in every subgroup of ``by``."""
    if log.by is None:
        return []
    labels = np.unique(log.by)
    s = np.ones(log.y.shape[0]) if log.sample_weight is None else log.sample_weight
    small = [str(b) for b in labels if float(s[log.by == b].sum()) < 2]
    if small:
        raise ValueError(
            f"by: {len(small)} subgroups hold fewer than two rows ({', '.join(small[:5])}"
            f"{', ...' if len(small) > 5 else ''}); merge them."
        )
    return [(k, label) for k in range(policies.count) for label in labels]


def subgroup_rows(by: npt.NDArray[Any] | None, label: Any) -> IntArray | None:
    """Rows of a subgroup; ``None`` for everyone."""
    if label is None or by is None:
        return None
    rows = np.flatnonzero(by == label)
    if rows.size == 0:
        raise ValueError(
            f"X_target.by has no draw of the subgroup {str(label)!r}; give every subgroup draws."
        )
    return rows


def spread(
    influence: FloatArray, rows: IntArray | None, s: FloatArray | None, n: int
) -> FloatArray:
    """A subgroup's influence on all ``n`` rows: zero outside, scaled to the full sample."""
    if rows is None:
        return influence
    total = float(n if s is None else s.sum())
    inside = float(rows.shape[0] if s is None else s[rows].sum())
    out = np.zeros(n)
    out[rows] = influence * (total / inside)
    return out


def _counts(log: Log, policies: Policies) -> dict[str, float]:
    counts = {"Logged rows": log.size}
    if log.codes is not None:
        counts["Clusters"] = float(log.n_clusters)
    if policies.row_sets:
        what = "Support rows" if all(r.exact for r in policies.row_sets) else "Draws"
        counts[what] = float(sum(r.size for r in policies.row_sets))
    return counts


def policy_overlap(
    log: Log, policies: Policies, k: int, rows: IntArray | None = None
) -> OverlapDiagnostics | None:
    """Overlap figures of policy ``k`` (in a subgroup's ``rows``); ``None`` without log-probs."""
    if policies.ell is None:
        return None
    ell = np.ascontiguousarray(policies.ell[:, k])
    s, codes = log.sample_weight, log.codes
    if rows is not None:
        ell, s = ell[rows], None if s is None else s[rows]
        codes = None if codes is None else codes[rows]
    second = policies.rows_of(k)
    unseen = math.nan if second is None else second.unseen(k, float(np.max(ell)))
    clusters = math.nan if codes is None else float(np.unique(codes).size)
    return overlap(ell, s, unseen=unseen, clusters=clusters)


def sample_mean(log: Log, label: Any) -> PolicyValue:
    """The logging policy's own value: the mean outcome."""
    rows = subgroup_rows(log.by, label)
    y, s = log.y, log.sample_weight
    if rows is not None:
        y, s = y[rows], None if s is None else s[rows]
    value, phi = solve_linear_moment(*ipw_moment(np.ones_like(y), y, normalize=False), s)
    size = float(y.shape[0] if s is None else s.sum())
    n_units = size if log.codes is None else float(log.n_clusters)
    few = [(1, f"Only {n_units:.0f} independent units.")] if n_units < 30 else []
    return PolicyValue(
        value=float(value),
        logged=spread(phi, rows, log.sample_weight, log.y.shape[0]),
        target=None,
        bias_bound=0.0,
        verdict=verdict(None, findings=few),
        diagnostics={"n": size},
    )


# ------------------------------------------------------------------------------ the base class
class BaseValueEstimator(BaseEstimator):
    """Shared behaviour of the value estimators; abstract."""

    def _seed(self) -> int:
        return int(check_random_state(getattr(self, "random_state", 0)).randint(2**31 - 1))

    def _publish(self, result: ValueEstimate) -> None:
        self.result_ = result
        self.value_ = result.value
        self.se_ = result.se

    def summary(self, level: float = 0.95) -> Any:
        """Statsmodels table of :attr:`result_`: values, intervals, verdicts, notes."""
        check_is_fitted(self, "result_")
        return self.result_.summary(level)

    def diagnose(self) -> TrustReport:
        """Trust report: the verdict of every policy, its reasons and the figures behind it."""
        check_is_fitted(self, "result_")
        return TrustReport.of(self.result_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.required = True
        return tags


def r2_of_predictions(
    prediction: FloatArray, y: Any, sample_weight: Any, utility: Mapping[Any, float] | None
) -> float:
    """R squared of expected-outcome predictions against numeric outcomes."""
    from sklearn.metrics import r2_score

    return float(
        r2_score(numeric_outcome(np.asarray(y), utility), prediction, sample_weight=sample_weight)
    )
