"""What a report shows of one policy beyond its value: arrays for plots, and texts that count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from causal_lm_opt.core.weights import Weighting, relative_weights
from causal_lm_opt.diagnostics.tilt import tilt_path
from causal_lm_opt.diagnostics.trust import TrustDetail
from causal_lm_opt.estimators import DoublyRobust
from causal_lm_opt.estimators._doubly_robust import target_predictions
from causal_lm_opt.estimators._progress import track
from causal_lm_opt.exceptions import OverlapError

if TYPE_CHECKING:
    from causal_lm_opt.diagnostics.balance import BalanceSummary
    from causal_lm_opt.diagnostics.ratio import RatioDiagnostics
    from causal_lm_opt.diagnostics.trust import TrustReport
    from causal_lm_opt.estimate import ValueEstimate

__all__ = [
    "PolicyView",
    "RatioView",
    "TextShare",
    "heaviest_texts",
    "policy_views",
    "ratio_views",
]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TextShare:
    """One logged text and what it does to a policy's value.

    Attributes
    ----------
    text : str
        As logged, not escaped.
    rows : float
        How often it was logged.
    outcome : float
        Its mean outcome.
    share : float
        Its part of all the weight.
    pull : float
        The value would move by about ``-pull`` without its rows, any outcome model held fixed.
    """

    text: str
    rows: float
    outcome: float
    share: float
    pull: float


def heaviest_texts(
    texts: Sequence[str] | npt.NDArray[Any],
    outcome: FloatArray,
    log_ratio: FloatArray,
    influence: FloatArray,
    *,
    sample_weight: FloatArray | None = None,
    count: int = 5,
) -> tuple[tuple[TextShare, ...], tuple[TextShare, ...]]:
    r"""The texts with the largest weight, and those with the largest influence on the value.

    Rows with equal texts are taken together. A self-normalised value without the rows ``A``, which
    carry the share ``h`` of the weight, is
    :math:`\hat V - \sum_{i \in A} s_i \phi_i / (\sum_i s_i\,(1 - h))`.

    Parameters
    ----------
    texts : sequence of n str
    outcome, log_ratio, influence : arrays, shape (n,)
        ``influence`` is that of the logged rows.
    sample_weight : array, shape (n,), optional
        Frequencies.
    count : int
        Texts of each kind.

    Returns
    -------
    by_weight, by_influence : tuples of TextShare

    Examples
    --------
    >>> y = np.array([1., 3., 8.])
    >>> weight, pull = heaviest_texts(["a", "a", "b"], y, np.zeros(3), y - 4., count=1)
    >>> weight[0].text, round(weight[0].share, 2), pull[0].text, round(pull[0].pull, 2)
    ('a', 0.67, 'a', -4.0)
    """
    s = np.ones(outcome.shape[0]) if sample_weight is None else sample_weight
    distinct, codes = np.unique(np.asarray(texts, dtype=object).astype(str), return_inverse=True)

    def total(values: FloatArray) -> FloatArray:
        return np.bincount(codes, weights=s * values, minlength=distinct.shape[0]).astype(
            np.float64
        )

    weight = relative_weights(log_ratio, normalize=True)
    rows = total(np.ones(s.shape[0]))
    share = total(weight) / float(s @ weight)
    rest = np.maximum(1.0 - share, np.finfo(np.float64).tiny)
    pull = total(influence) / float(s.sum()) / rest
    mean = total(outcome) / rows

    def told(order: npt.NDArray[np.intp]) -> tuple[TextShare, ...]:
        return tuple(
            TextShare(
                str(distinct[i]), float(rows[i]), float(mean[i]), float(share[i]), float(pull[i])
            )
            for i in order[:count]
        )

    return told(np.argsort(-share, kind="stable")), told(np.argsort(-np.abs(pull), kind="stable"))


@dataclass(frozen=True, eq=False)
class PolicyView:
    """What stands behind the estimate of one policy.

    Attributes
    ----------
    policy, estimator : str
        ``estimator`` is the one whose influence function and predictions are shown.
    log_ratio : array, shape (n,)
        Of the logged rows.
    sample_weight : array, shape (n,), optional
    drawn : tuple of (log ratios (m,), weights (m,) or None), optional
        Of the policy's draws or exact support.
    exact : bool
    detail : TrustDetail
        Balance, calibration, typicality, length.
    path : DataFrame, optional
        Value against shift strength (:func:`causal_lm_opt.diagnostics.tilt_path`).
    by_weight, by_influence : tuples of TextShare
    """

    policy: str
    estimator: str
    log_ratio: FloatArray
    sample_weight: FloatArray | None
    drawn: tuple[FloatArray, FloatArray | None] | None
    exact: bool
    detail: TrustDetail
    path: pd.DataFrame | None
    by_weight: tuple[TextShare, ...]
    by_influence: tuple[TextShare, ...]


def policy_views(
    fitted: Any, estimator: str, texts: Sequence[str] | None, policies: Sequence[str]
) -> tuple[PolicyView, ...]:
    """Views of some policies of a fitted `IPW` or `DoublyRobust`.

    Parameters
    ----------
    fitted : IPW or DoublyRobust
        With importance weights; others have no view.
    estimator : str
        Its name in the report.
    texts : sequence of n_given str, optional
        The logged texts, as they were given to ``fit``.
    policies : sequence of str
        Those to be shown.
    """
    log, given = fitted.log_, fitted.policies_
    if given.ell is None:
        return ()
    positions = [given.names.index(name) for name in policies]
    details = fitted._trust_details(positions)
    shown = None
    if texts is not None:
        shown = np.asarray(texts, dtype=object)
        shown = shown if log.taken is None else shown[log.taken]
    views = []
    shown_policies = zip(policies, positions, details, strict=True)
    for name, k, detail in track(shown_policies, len(policies), "policies"):
        ell, second = given.ell.column(k), given.rows_of(k)
        phi = _row_influence(fitted.result_.select([k], scalar=True), log.y, ell)
        heavy: tuple[tuple[TextShare, ...], tuple[TextShare, ...]] = ((), ())
        if shown is not None:
            heavy = heaviest_texts(shown, log.y, ell, phi, sample_weight=log.sample_weight)
        views.append(
            PolicyView(
                policy=name, estimator=estimator, log_ratio=ell, sample_weight=log.sample_weight,
                drawn=None if second is None else second.ratio_to_logging(k),
                exact=second is not None and second.exact,
                detail=detail,
                path=_path(fitted, k, ell),
                by_weight=heavy[0],
                by_influence=heavy[1],
            )
        )  # fmt: skip
    return tuple(views)


def _row_influence(value: ValueEstimate, y: FloatArray, ell: FloatArray) -> FloatArray:
    """Influence of each logged row (n,); of a bootstrapped value that of its weighted mean."""
    if any(s.role == "logged" for s in value.samples):
        return np.asarray(value.influence)
    return np.asarray(relative_weights(ell, normalize=True) * (y - value.value))


def _path(fitted: Any, k: int, ell: FloatArray) -> pd.DataFrame | None:
    """Value against shift strength; ``None`` where logging policy and target have no path."""
    log, policies = fitted.log_, fitted.policies_
    second = policies.rows_of(k)
    drawn = None if second is None else second.ratio_to_logging(k)
    # The path tilts self-normalised weights and adds variances of log and draws: where the estimate
    # does otherwise, the path would not end at it.
    weighting = Weighting.of(fitted.weights)
    if not (weighting.unbiased and weighting.normalize):
        return None
    if second is not None and second.shared is not None:
        return None
    if isinstance(fitted, DoublyRobust) and (drawn is None or second.logp_sampling is not None):
        return None
    extra: dict[str, Any] = {}
    if second is not None and drawn is not None and second.logp_sampling is None:
        extra = {"log_ratio_target": drawn[0], "target_weight": drawn[1], "exact": second.exact}
        if not second.exact:
            extra["target_codes"] = second.shared if second.shared is not None else second.groups
        if isinstance(fitted, DoublyRobust) and fitted.splits_[0].crossfit is not None:
            split = fitted.splits_[0]
            extra["q"] = split.logged
            extra["q_target"] = target_predictions(split, policies, log)[policies.of_policy[k]]
    try:
        return tilt_path(ell, log.y, sample_weight=log.sample_weight, codes=log.codes, **extra)
    except OverlapError:
        return None


# ------------------------------------------------------------------------------ estimated ratios
@dataclass(frozen=True, eq=False)
class RatioView:
    """How one policy's weights were estimated from texts, and what they reach.

    Attributes
    ----------
    policy : str
    kind : str
        ``"classifier"``, ``"balance"`` or ``"latent"``.
    estimator : str
        Whose verdict it is; empty where no weights reach the policy.
    verdict : str
    found : RatioDiagnostics or None
        ``None`` where no weights reach the policy.
    balance : BalanceSummary or None
        Of readable features of the texts, the ratio's own or not.
    why : str
        Why there are no weights, or no balance.
    """

    policy: str
    kind: str
    estimator: str
    verdict: str
    found: RatioDiagnostics | None
    balance: BalanceSummary | None
    why: str = ""

    @property
    def figures(self) -> dict[str, float]:
        """Figures for tables and programs; empty where no weights reach the policy."""
        if self.found is None:
            return {}
        shown = {"n": self.found.n, "ratio_texts": self.found.m, "ess": self.found.ess}
        shown |= self.found.to_dict()
        if self.balance is not None:
            shown["readable_smd_unweighted"] = self.balance.max_unweighted
            shown["readable_smd"] = self.balance.max_weighted
        return shown


def ratio_views(
    fitted: Any, report: TrustReport | None, estimator: str, kind: str, unreached: Mapping[str, str]
) -> tuple[RatioView, ...]:
    """Views of every policy of an estimator fitted with ``ratio=``.

    Parameters
    ----------
    fitted : IPW or DoublyRobust, or None
        ``None`` where no weights reach any policy.
    report : TrustReport or None
        Its own.
    estimator, kind : str
    unreached : mapping policy -> str
        Those left out, and why.
    """
    views = []
    if fitted is not None and report is not None:
        found = zip(report.names, fitted.ratio_, report.verdicts, report.details, strict=True)
        for name, ratio, verdict, detail in found:
            views.append(
                RatioView(
                    name, kind, estimator, verdict.level, ratio.diagnose(), detail.balance,
                    detail.notes.get("balance", ""),
                )
            )  # fmt: skip
    views += [RatioView(n, kind, "", "do not use", None, None, w) for n, w in unreached.items()]
    return tuple(views)
