"""Importance-weighted value estimates (CPO's value)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from causal_lm_opt._parts import check_same_order
from causal_lm_opt.core.weights import Weighting
from causal_lm_opt.estimate import ValueEstimate
from causal_lm_opt.estimators._assemble import assemble, sample_mean
from causal_lm_opt.estimators._base import BaseValueEstimator, estimand_notes
from causal_lm_opt.estimators._bootstrap import (
    bootstrap_values,
    with_lost,
)
from causal_lm_opt.estimators._estimated import ratio_noise
from causal_lm_opt.estimators._figures import (
    judged,
    second_is_exact,
)
from causal_lm_opt.estimators._log import Log, read_log
from causal_lm_opt.estimators._policies import Policies, read_policies, with_ratio
from causal_lm_opt.estimators._samples import PolicyValue, Replicates
from causal_lm_opt.estimators._smoothing import smoothing_bias, smoothing_finding
from causal_lm_opt.estimators._subgroups import (
    Cell,
    cells_of,
    in_subgroup,
    spread,
    subgroup_worth,
)
from causal_lm_opt.estimators._terms import of_estimand, weighted_term

__all__ = ["IPW"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]


class IPW(BaseValueEstimator):
    r"""Inverse-propensity-weighted value of one or many target policies.

    .. math:: \hat V(f) = \frac{\sum_i w_i y_i}{\sum_i a_i}, \qquad
              w_i = \frac{P_f(x_i)}{P_R(x_i)}

    with :math:`a_i = w_i` (Hajek, the default) or :math:`a_i = 1` (Horvitz-Thompson). Use it when
    the logging probabilities are known by design and no outcome model is wanted. Without
    log-probabilities, ``ratio=`` estimates the weights from the texts of log and target.

    Parameters
    ----------
    weights : str or Weighting, default "hajek"
        ``"hajek"``, ``"ht"``, ``"psis"``, or ``Clip(c)``, ``Shrink(lam)``, ``Temper(beta)``,
        ``ParetoSmooth()``, ``Switch(tau)`` from :mod:`causal_lm_opt.core`. Transforms other than
        Hajek and Horvitz-Thompson are biased; intervals are widened by a bound on the bias.
    ratio : DensityRatio, BalancingRatio or the like, optional
        Estimates the weights from the logged texts and the draws ``X_target``, instead of
        ``logp_target`` and ``logp_logging``; cloned and fitted for every policy. The standard
        error carries its noise: to first order where it is parametric (a logistic regression on
        all rows, cells, balancing), else by a cluster bootstrap that fits it anew. Such a ratio is
        penalised or cross-fitted and balances less well: its interval is widened by the bias that
        a ridge regression of the outcomes on what it reads foresees (``bias_bound``).
    estimand : {"model", "texts"}, default "model"
        Whose value: of texts the policy would write, or of these texts as they stand (see Notes).
    utility : mapping class -> float, optional
        Turns class outcomes into numbers.
    n_bootstrap : int, default 200
        Resamples, where a ratio needs them.
    random_state : int, default 0
        Seed of the bootstrap.
    n_jobs : int, optional
    influence : {"keep", "drop"}, default "keep"
        ``"drop"`` keeps standard errors only, in memory constant in the number of policies.

    Attributes
    ----------
    value_, se_ : float, or array (K,) for K policies
    result_ : ValueEstimate
    result_by_ : ValueEstimate
        Values by subgroup, when ``by`` was given.
    ratio_ : tuple of fitted ratios, one a policy
        Where ``ratio`` was given.

    Notes
    -----
    **Assumptions.** Texts were assigned by the logging policy alone (no hidden confounding); it
    could write whatever the target writes (overlap); readers do not interfere. With hidden
    confounding or a wrong ``logp_logging`` the value is biased and nothing here can tell; without
    overlap the verdict says so only if draws are given (``X_target``).

    **Estimands.** ``"model"`` targets :math:`V(f) = E_f g(x)`, g(x) the mean outcome of the readers
    of x. The logged texts are a sample: rows of one text move together and need ``groups`` (rows
    without groups are independent, as for readers dealt at random to a fixed list of texts with
    known probabilities). ``"texts"`` holds fixed which texts were logged, how many readers
    :math:`n_x` each had, and the draws. Its target is the estimate's expectation over readers,
    :math:`\sum_x n_x w_x g(x) / \sum_x n_x w_x`, and each row's influence is
    :math:`w_i (y_i - \bar y_{x(i)}) \sqrt{n_x/(n_x - 1)} / \bar a`: its mean square is unbiased for
    the readers' variance. Texts are told apart by ``groups`` (a group is a text), else by equal
    ``X``. The only reader of a text is taken to vary as readers do within the other texts; where
    more than half of the rows are such, ``fit`` refuses. Readers are independent: one who read
    several texts is not allowed for. The target is :math:`\sum_x P_f(x) g(x)` over a listed support
    only where :math:`P_R(x) = n_x/n`, as when ``logp_logging`` are the realised shares. A weight
    transform's bias is bounded under both; an estimated ``ratio`` is part of the target, without
    noise.

    Source: Lin, Ben-Michael and Morency (2024), Prop. 4.1 and Thm 4.2. The Hajek form is invariant
    to a shift of the outcome; the Horvitz-Thompson form is unbiased but not invariant.

    With ``ratio`` the logged texts need no log-probabilities; what is assumed instead is said there
    (:class:`DensityRatio`, :class:`BalancingRatio`). For texts :class:`DoublyRobust` with a ratio
    is the recommendation: the outcome model takes out what the ratio leaves out.

    Examples
    --------
    >>> import numpy as np
    >>> from causal_lm_opt import IPW
    >>> texts, y = ["a", "a", "b", "b"], [1., 2., 3., 6.]
    >>> est = IPW().fit(texts, y, logp_logging=np.log([.5, .5, .5, .5]),
    ...                 logp_target=np.log([.2, .2, .8, .8]))
    >>> round(est.value_, 6)
    3.9

    Without log-probs, from texts alone:

    >>> from causal_lm_opt import DensityRatio
    >>> est = IPW(ratio=DensityRatio("cells")).fit(texts, y, X_target=["a", "b", "b", "b", "b"])
    >>> round(est.value_, 6)
    3.9
    """

    def __init__(
        self,
        weights: str | Weighting = "hajek",
        *,
        ratio: Any = None,
        estimand: str = "model",
        utility: Mapping[Any, float] | None = None,
        n_bootstrap: int = 200,
        random_state: int | None = 0,
        n_jobs: int | None = None,
        influence: str = "keep",
    ) -> None:
        self.weights = weights
        self.ratio = ratio
        self.estimand = estimand
        self.utility = utility
        self.n_bootstrap = n_bootstrap
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.influence = influence

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        logp_target: Any = None,
        logp_logging: Any = None,
        X_target: Any = None,
        groups: Any = None,
        sample_weight: Any = None,
        by: Any = None,
    ) -> IPW:
        """Estimate the value of the target policies.

        Parameters
        ----------
        X : array (n, d), DataFrame, or sequence of n texts
            Identifies the rows; what ``ratio`` is estimated from.
        y : array, shape (n,)
            Outcomes (numbers, or classes with ``utility``).
        logp_target : array (n,) or (n, K), DataFrame or mapping, optional
            Natural log-probabilities of the logged texts under the targets; ``-inf`` allowed.
            Without it (and ``logp_logging``) the logging policy itself is valued: ``mean(y)``.
        logp_logging : array, shape (n,), optional
            The same under the policy that wrote them, finite.
        X_target : array, TargetSample or mapping, optional
            Draws of the targets: what ``ratio`` is estimated from; without it for the unseen-mass
            check only (with ``logp_target`` and ``logp_logging`` of the draws).
        groups : array, shape (n,), optional
            Clusters (prompts, readers, texts): standard errors add within them. Under
            ``estimand="texts"`` the text of each row, whose rows are its readers.
        sample_weight : array, shape (n,), optional
            Frequencies: a row of weight 2 is two rows; rows of weight 0 are dropped.
        by : array, shape (n,), optional
            Subgroups of readers to value separately (``result_by_``).

        Raises
        ------
        ValueError
            Bad input, texts that cannot be told apart or have one reader each
            (``estimand="texts"``), one log-prob without the other, log-probs beside ``ratio``,
            ``ratio`` without draws (:class:`NotIdentifiedError`), or no overlap
            (:class:`OverlapError`).
        """
        check_same_order({
            "X": X, "y": y, "logp_target": logp_target, "logp_logging": logp_logging,
            "groups": groups, "sample_weight": sample_weight, "by": by,
        })  # fmt: skip
        self.log_ = read_log(
            self, X, y, sample_weight=sample_weight, groups=groups, logp_logging=logp_logging,
            by=by, utility=self.utility, estimand=self.estimand,
        )  # fmt: skip
        policies = read_policies(
            self, self.log_, logp_target, logp_logging, X_target, ratio=self.ratio
        )
        self.policies_ = policies
        if policies.estimated is not None:
            self.ratio_ = policies.estimated.fits
        self._publish(self._estimate(policies))
        if by is not None:
            self.result_by_ = self._estimate(policies, by=True)
        return self

    def evaluate(self, logp_target: Any = None, *, X_target: Any = None) -> ValueEstimate:
        """Value of other policies on the same log; ``ratio`` is fitted anew for each.

        Parameters
        ----------
        logp_target : array (n,) or (n, K), DataFrame or mapping
            Left out with ``ratio``.
        X_target : optional
            As in :meth:`fit`.
        """
        return self._estimate(self._other_policies(logp_target, X_target))

    def _estimate(self, policies: Policies, *, by: bool = False) -> ValueEstimate:
        weighting = Weighting.of(self.weights)
        log = self.log_.units
        cells = cells_of(log, policies, by=by)
        estimated, replicates = policies.estimated, None
        if estimated is not None and not estimated.parametric and not policies.fixed:
            replicates = self._bootstrap(policies, cells, weighting)
        order = {cell: c for c, cell in enumerate(cells)}

        def value_of(k: int, label: Any) -> PolicyValue:
            if policies.logging:
                return sample_mean(log, label)
            part = _ipw_value(log, policies, k, label, weighting)
            if replicates is None:
                return part
            column = replicates.column(order[k, label])
            said = with_lost(part.verdict, column.size, self.n_bootstrap)
            return replace(part, logged=None, target=None, replicates=column, verdict=said)

        plain = weighting.unbiased and not weighting.normalize and estimated is None
        name = weighting.label
        if estimated is not None:
            name += f", {type(self.ratio).__name__}"
        return assemble(
            log, policies, cells, value_of,
            estimator="sample mean" if policies.logging else f"IPW ({name})",
            notes=self._notes(policies),
            influence=self.influence,
            term_moment=(plain or policies.logging) and not by and not policies.fixed,
        )  # fmt: skip

    def _notes(self, policies: Policies) -> list[str]:
        about = estimand_notes(self.log_, enumerated=any(r.exact for r in policies.row_sets))
        if policies.estimated is None:
            return about
        label = f"Density ratio: {policies.estimated.labels}."
        if policies.fixed:
            return [label, "Standard errors: readers within texts, the ratio as it is.", *about]
        how = "influence function, with the noise of the ratio's fit"
        if not policies.estimated.parametric:
            how = (
                f"cluster bootstrap with refit of the ratio, {self.n_bootstrap} replicates; the "
                "interval is widened by the smoothing bias that a ridge regression of the outcomes "
                "on what the ratio reads foresees"
            )
        return [label, *about, f"Standard errors: {how}."]

    def _bootstrap(self, policies: Policies, cells: list[Cell], weighting: Weighting) -> Replicates:
        """Replicates of the cells' values, the ratio fitted anew on each resample."""

        def statistic(log: Log, resampled: Policies, _: IntArray) -> FloatArray:
            refitted = with_ratio(self.ratio, log, resampled, replicate=True)
            return np.array([_point(log, refitted, k, label, weighting) for k, label in cells])

        return bootstrap_values(
            self.log_, policies, statistic, n_bootstrap=self.n_bootstrap, seed=self._seed(),
            n_jobs=self.n_jobs,
        )  # fmt: skip


def _point(log: Log, policies: Policies, k: int, label: Any, weighting: Weighting) -> float:
    """The value alone."""
    _, ell, y, s = in_subgroup(log, policies.log_ratio(k), label)
    return weighted_term(ell, y, weighting, s, policies.names[k]).value


def _ipw_value(
    log: Log, policies: Policies, k: int, label: Any, weighting: Weighting
) -> PolicyValue:
    """IPW value of policy ``k`` in a subgroup."""
    rows, ell, y, s = in_subgroup(log, policies.log_ratio(k), label)
    term = weighted_term(ell, y, weighting, s, policies.names[k])
    term = of_estimand(log, term, ell, weighting, rows, policies.names[k])
    logged = spread(term.influence, rows, log.sample_weight, log.y.shape[0], log.codes)
    centre = term.value if weighting.normalize else 0.0
    target = None
    noise = ratio_noise(policies.estimated, k, ell, y, weighting, centre, log, rows)
    if noise is not None:
        logged = logged + noise[0]
        target = None if second_is_exact(policies, k) else noise[1]
    smoothing = smoothing_bias(log, policies, k, rows, y, s, term, weighting)
    part = PolicyValue(
        value=term.value,
        logged=logged,
        target=target,
        bias_bound=term.bias_bound + smoothing,
        units=subgroup_worth(log, rows),
    )
    found = smoothing_finding(smoothing, logged, log)
    return judged(part, log, policies, k, rows, ell, term, lambda: y, weighting, found)
