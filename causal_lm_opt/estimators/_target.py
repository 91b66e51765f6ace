"""The second sample of a value estimate: draws of the target policies, or their exact support."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from causal_lm_opt._parts import check_same_order
from causal_lm_opt._validation import (
    as_text_rows,
    check_groups,
    check_log_probs,
    check_vector,
    content_keys,
    digest,
    n_rows,
    policy_columns,
    take_rows,
)
from causal_lm_opt.core.weights import Weighting, log_ratio, relative_weights
from causal_lm_opt.exceptions import NotIdentifiedError, OverlapError

__all__ = ["TargetRows", "TargetSample", "resolve_targets"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TargetSample:
    r"""Texts of the target policies, as ``X_target`` of an estimator.

    Three kinds, told apart by what is given:

    - draws of one policy: ``TargetSample(X)``;
    - draws of a sampling policy f0, re-weighted to one or K targets:
      ``TargetSample(X, logp_target=(m,) or (m, K), logp_sampling=(m,))``;
    - the exact finite support: ``TargetSample(X, weight=probabilities, exact=True)`` or
      ``TargetSample(X, logp_target=(m,) or (m, K), exact=True)``; no sampling error then.

    Parameters
    ----------
    X : array (m, d), DataFrame, or sequence of m texts
        In the layout of the ``X`` given to ``fit``.
    weight : array, shape (m,), optional
        Frequencies of draws, or probabilities when ``exact``.
    groups : array, shape (m,), optional
        Prompt (or other cluster) of each draw. Labels that also occur among ``groups`` of the log
        are *shared prompts*: every logged prompt then needs draws, draws are weighted to the
        log's prompt frequencies, and the standard error clusters log and draws together. Draws of
        other labels are left out, with a warning, where at least half of their labels are shared;
        with fewer they are refused.
    logp_target, logp_sampling, logp_logging : arrays, optional
        Natural log-probabilities of the draws under the targets, the policy that sampled them,
        and the logging policy (for the unseen-mass check).
    by : array, shape (m,), optional
        Subgroup of each draw, for ``fit(..., by=)``. The value over all readers then takes the
        subgroups in the log's shares, however many draws there are of each.
    exact : bool
        ``X`` lists the whole support.

    Examples
    --------
    >>> import numpy as np
    >>> TargetSample(np.array([[0.], [1.]]), weight=[.25, .75], exact=True).exact
    True
    """

    X: Any
    weight: Any = None
    groups: Any = None
    logp_target: Any = None
    logp_sampling: Any = None
    logp_logging: Any = None
    by: Any = None
    exact: bool = False


@dataclass(frozen=True, eq=False)
class TargetRows:
    """A checked second sample; a stand-in has predictions and no texts.

    ``columns`` maps a policy's position to its log-prob column; ``shared`` holds the log's cluster
    codes of the draws where prompts are shared; ``estimated`` the log ratio to the logger that was
    estimated from the texts (``ratio=``); ``taken`` the positions of these rows among the ``given``
    draws where some were left out.
    """

    X: Any
    frequency: FloatArray
    logp_target: FloatArray | None
    logp_sampling: FloatArray | None
    logp_logging: FloatArray | None
    groups: npt.NDArray[Any] | None
    by: npt.NDArray[Any] | None
    exact: bool
    probability: FloatArray | None
    columns: Mapping[int, int]
    shared: npt.NDArray[np.intp] | None = None
    stand_in: bool = False
    estimated: FloatArray | None = None
    taken: npt.NDArray[np.intp] | None = None
    given: int | None = None

    @cached_property
    def keys(self) -> npt.NDArray[np.uint64]:
        """Content key of each row."""
        return content_keys(self.X)

    @cached_property
    def key(self) -> str:
        """Identity of the rows."""
        if self.stand_in:
            return f"draws:given:{self.size}"
        parts = [self.keys] if self.plain else [self.keys, self.frequency]
        if self.groups is not None:
            parts.append(content_keys(np.reshape(self.groups, (-1, 1))))
        return f"draws:{digest(*parts)}"

    @cached_property
    def plain(self) -> bool:
        """Whether every row counts once."""
        return bool((self.frequency == 1).all())

    @property
    def size(self) -> int:
        """Number of rows."""
        return int(self.frequency.shape[0])

    def of_given(self, values: Any, name: str) -> FloatArray:
        """Numbers of the draws as they were given, for those kept, shape (m,).

        What is said of draws that were left out is not read.
        """
        if self.taken is None or self.given is None:
            return check_vector(values, name, self.size)
        if np.shape(values) not in ((self.given,), (self.given, 1)):
            raise ValueError(
                f"{name} must have shape ({self.given},), got {np.shape(values)}: one number for "
                "each draw given, also for those left out."
            )
        known = np.zeros(self.given, dtype=np.bool_)
        known[self.taken] = True
        read = np.where(known, np.asarray(values).ravel(), 0.0)
        return check_vector(read, name, self.given)[self.taken]

    def policy_weight(self, k: int, weighting: Weighting) -> tuple[FloatArray, bool]:
        """Weights (m,) of policy ``k``'s plug-in mean, and whether they are self-normalised."""
        if self.exact:
            assert self.probability is not None
            return self.probability[:, self.columns[k]], True
        if self.logp_sampling is None:
            return np.ones(self.size), True
        ell = self.log_ratio_sampling(k)
        return relative_weights(
            weighting.transform(ell, self.frequency), normalize=weighting.normalize
        ), weighting.normalize

    def log_ratio_sampling(self, k: int) -> FloatArray:
        """``log P_f - log P_0`` of policy ``k``, shape (m,)."""
        assert self.logp_target is not None
        assert self.logp_sampling is not None
        ell = np.asarray(log_ratio(self.logp_target[:, self.columns[k]], self.logp_sampling))
        if not np.isfinite(ell).any():
            raise OverlapError(
                "X_target: none of the draws of the sampling policy could be written by the target "
                "policy (all ratios are 0); draw from a policy closer to it."
            )
        return ell

    def ratio_to_logging(self, k: int) -> tuple[FloatArray, FloatArray] | None:
        """``log P_f - log P_R`` of policy ``k``'s second sample and its weights, each (m,).

        ``None`` without the log-probs of both; ``+inf`` where the logger never writes the text.
        """
        if self.estimated is not None:
            weight, _ = self.policy_weight(k, Weighting.of("hajek"))
            return self.estimated, weight * self.frequency
        if self.logp_target is None or self.logp_logging is None:
            return None
        with np.errstate(invalid="ignore"):
            ell = np.asarray(log_ratio(self.logp_target[:, self.columns[k]], self.logp_logging))
        ell = np.where(np.isnan(ell), -np.inf, ell)
        weight, _ = self.policy_weight(k, Weighting.of("hajek"))
        return ell, weight * self.frequency

    @property
    def codes(self) -> npt.NDArray[np.intp] | None:
        """Clusters (m,) of the draws: the log's own prompts, or groups of their own."""
        if self.shared is not None or self.groups is None:
            return self.shared
        return np.unique(self.groups, return_inverse=True)[1]

    def select_rows(self, rows: npt.NDArray[Any]) -> TargetRows:
        """A subset or a resample of the rows (frequencies kept); of which draws is not kept."""

        def pick(a: Any) -> Any:
            return None if a is None else a[rows]

        return replace(
            self,
            X=take_rows(self.X, rows),
            frequency=self.frequency[rows],
            logp_target=pick(self.logp_target),
            logp_sampling=pick(self.logp_sampling),
            logp_logging=pick(self.logp_logging),
            groups=pick(self.groups),
            by=pick(self.by),
            probability=pick(self.probability),
            shared=pick(self.shared),
            estimated=pick(self.estimated),
            taken=None,
            given=None,
        )


def _check_one(
    sample: TargetSample, name: str, positions: list[int], names: tuple[str, ...] | None
) -> TargetRows:
    check_same_order(
        {f"{name}.{field.name}": getattr(sample, field.name) for field in fields(sample)}
    )
    texts = as_text_rows(sample.X, name)
    X = sample.X if texts is None else texts
    m = n_rows(X, name)
    if m == 0:
        raise ValueError(f"{name} is empty: give draws of the target policy.")
    frequency: FloatArray = np.broadcast_to(1.0, (m,))  # no memory until frequencies are given
    if sample.weight is not None and not sample.exact:
        frequency = check_vector(sample.weight, f"{name}.weight", m)
        if (frequency < 0).any() or frequency.sum() <= 0:
            raise ValueError(f"{name}.weight must be non-negative frequencies with a positive sum.")
        if frequency.sum() <= 1 + 1e-6:
            raise ValueError(
                f"{name}.weight sums to {frequency.sum():.4g}: they are frequencies (a draw of "
                "weight 2 is two draws); for probabilities of the whole support pass exact=True."
            )
    logp = _target_columns(sample, name, m, len(positions), names)
    if sample.exact and sample.groups is not None:
        raise ValueError(f"{name}: exact=True takes no groups; pass draws for each prompt instead.")
    if sample.exact and len(positions) > 1 and logp is None:
        raise ValueError(
            f"{name}: one exact support for {len(positions)} policies needs logp_target of shape "
            f"({m}, {len(positions)})."
        )
    if sample.logp_sampling is not None and logp is None:
        raise ValueError(
            f"{name}: logp_sampling was given without logp_target; the ratio needs both."
        )
    if len(positions) > 1 and not sample.exact and sample.logp_sampling is None:
        raise NotIdentifiedError(
            f"{name} is one set of draws for {len(positions)} policies. Pass a mapping policy name "
            "-> draws, or TargetSample(draws, logp_target=(m, K), logp_sampling=(m,)) for draws "
            "of one sampling policy."
        )

    def scored(values: Any, what: str) -> FloatArray | None:
        if values is None:
            return None
        zero = what == "logp_logging"
        return check_log_probs(values, f"{name}.{what}", m, allow_zero=zero)

    several = logp is not None and logp.shape[1] > 1
    return TargetRows(
        X=X,
        frequency=frequency,
        logp_target=logp,
        logp_sampling=scored(sample.logp_sampling, "logp_sampling"),
        logp_logging=scored(sample.logp_logging, "logp_logging"),
        groups=None if sample.groups is None else check_groups(sample.groups, f"{name}.groups", m),
        by=None if sample.by is None else check_groups(sample.by, f"{name}.by", m),
        exact=sample.exact,
        probability=_support_probability(sample, name, m, logp) if sample.exact else None,
        columns={p: j if several else 0 for j, p in enumerate(positions)},
    )


def _target_columns(
    sample: TargetSample, name: str, m: int, k: int, names: tuple[str, ...] | None
) -> FloatArray | None:
    if sample.logp_target is None:
        return None
    values, given, single = policy_columns(sample.logp_target)
    if single or values.ndim == 1:
        values = np.reshape(values, (-1, 1))
    if given is not None and names is not None:
        missing = [n for n in names if n not in given]
        if missing:
            raise ValueError(
                f"{name}.logp_target lacks the policies {missing}; it has {list(given)}."
            )
        values = values[:, [given.index(n) for n in names]]
    return check_log_probs(values, f"{name}.logp_target", m, n_policies=k, allow_zero=True)


def _support_probability(
    sample: TargetSample, name: str, m: int, logp: FloatArray | None
) -> FloatArray:
    if logp is not None:
        p = np.exp(logp)
    elif sample.weight is not None:
        p = check_vector(sample.weight, f"{name}.weight", m)[:, None]
    else:
        raise ValueError(
            f"{name}: exact=True needs the support's probabilities as weight= or logp_target=."
        )
    if (p < 0).any():
        raise ValueError(f"{name}.weight: probabilities must not be negative.")
    total = p.sum(axis=0)
    if np.abs(total - 1).max() > 1e-6:
        raise ValueError(
            f"{name}: the probabilities of the exact support sum to {total[0]:.6g}, not 1; list "
            "every text the policy can write, or pass draws without exact=True."
        )
    return np.asarray(p / total)


def resolve_targets(
    X_target: Any, names: tuple[str, ...] | None, n_policies: int | None
) -> tuple[list[TargetRows], list[int], tuple[str, ...] | None]:
    """Read ``X_target``.

    Returns
    -------
    row_sets : list of TargetRows
        Distinct second samples.
    of_policy : list of int, length K
        The row set of each policy.
    names : tuple of str or None
        Policy names, from the mapping when ``logp_target`` carried none.
    """
    if isinstance(X_target, Mapping):
        given = tuple(str(k) for k in X_target)
        if n_policies is not None and names is None and len(given) == n_policies:
            names = given
        if names is None:
            names = given
        missing, extra = set(names) - set(given), set(given) - set(names)
        if missing or extra:
            raise ValueError(
                "X_target and logp_target must name the same policies: "
                f"X_target lacks {sorted(missing)}, logp_target lacks {sorted(extra)}."
            )
        by_name = {str(k): v for k, v in X_target.items()}
        sets = [
            _check_one(_as_sample(by_name[n]), f"X_target[{n!r}]", [k], None)
            for k, n in enumerate(names)
        ]
        return sets, list(range(len(names))), names
    sample = _as_sample(X_target)
    k = n_policies
    if k is None:
        k = 1
        if sample.logp_target is not None:
            values, names, single = policy_columns(sample.logp_target)
            k = 1 if single else values.shape[1]
    rows = _check_one(sample, "X_target", list(range(k)), names)
    return [rows], [0] * k, names


def _as_sample(X: Any) -> TargetSample:
    return X if isinstance(X, TargetSample) else TargetSample(X)
