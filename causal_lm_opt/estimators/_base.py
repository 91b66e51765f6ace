"""The base class of the value estimators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from causal_lm_opt.diagnostics.trust import TrustDetail, TrustReport
from causal_lm_opt.estimate import ValueEstimate
from causal_lm_opt.estimators._log import Log
from causal_lm_opt.estimators._policies import Policies, read_policies
from causal_lm_opt.estimators._trust import LoggedPredictions, trust_details
from causal_lm_opt.estimators.outcome_models import numeric_outcome

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
THESE_TEXTS_NOTE = (
    "Estimand: these texts. Logged texts (each counted by its readers) and draws are held fixed. "
    "The standard error is the readers' alone: it says nothing of other texts the policy may write "
    "(estimand='model')."
)


class BaseValueEstimator(BaseEstimator):
    """Shared behaviour of the value estimators; abstract."""

    def _seed(self) -> int:
        return int(check_random_state(getattr(self, "random_state", 0)).randint(2**31 - 1))

    def _publish(self, result: ValueEstimate) -> None:
        self.result_ = result
        self.value_ = result.value
        self.se_ = result.se

    def _other_policies(self, logp_target: Any, X_target: Any) -> Policies:
        """What ``evaluate`` was given, read as in the fit."""
        check_is_fitted(self, "result_")
        return read_policies(
            self, self.log_, logp_target, self.log_.logp_logging, X_target,
            ratio=getattr(self, "ratio", None),
        )  # fmt: skip

    def summary(self, level: float = 0.95) -> Any:
        """Statsmodels table of :attr:`result_`: values, intervals, verdicts, notes."""
        check_is_fitted(self, "result_")
        return self.result_.summary(level)

    def diagnose(self) -> TrustReport:
        """Trust report: the verdict of every policy, its reasons and the figures behind it.

        Beyond :attr:`result_` it holds, computed when called: balance of readable features between
        the weighted log and the policy's texts, calibration of the outcome model under the policy,
        typicality, and drift of the log ratio with length. Features that do not balance make a
        verdict at least ``caution`` here, which ``result_.verdicts`` do not know of. Under an
        estimated ratio only those count that outcomes respond to, and ``result_.verdicts`` know.
        """
        check_is_fitted(self, "result_")
        if not hasattr(self, "policies_"):
            return TrustReport.of(self.result_)
        return TrustReport.of(self.result_, self._trust_details())

    def _trust_details(self, positions: Sequence[int] | None = None) -> tuple[TrustDetail, ...]:
        """Details of the policies at ``positions`` (all)."""
        columns = getattr(self, "feature_names_in_", ())
        return trust_details(
            self.log_, self.policies_, self._logged_predictions(), columns, positions
        )

    def _logged_predictions(self) -> LoggedPredictions:
        """Predictions of the logged rows for the calibration check."""
        return LoggedPredictions(None, "this estimator has no outcome model.")

    def _html_repr(self) -> str:
        """What a notebook shows: the values, once there are any, and scikit-learn's diagram."""
        diagram = str(super()._html_repr())
        result = getattr(self, "result_", None)
        return diagram if result is None else result._repr_html_() + diagram

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.required = True
        return tags


def estimand_notes(log: Log, *, enumerated: bool = False) -> list[str]:
    """What the standard error takes for a sample, where a reader could take it otherwise.

    ``enumerated``: the policy's exact support is given, so that the texts are a fixed list.
    """
    if log.texts is not None:
        size = np.bincount(log.texts, weights=log.sample_weight)
        alone = int(((size > 0) & (size < 2)).sum())
        if not alone:
            return [THESE_TEXTS_NOTE]
        return [
            THESE_TEXTS_NOTE,
            f"{alone:,} of {log.n_texts:,} texts have one reader each, whose noise is taken to be "
            "that within the other texts.",
        ]
    if log.codes is not None or enumerated:
        return []
    if log.shown_to_many is None:
        return []
    rows, distinct, _ = log.shown_to_many
    return [
        f"{rows:,} rows hold {distinct:,} distinct texts (equal X), and rows count as independent: "
        "right where every reader's text was drawn anew, or at random from a fixed list. If texts "
        "were drawn once and shown to many, the standard error is too small: give the texts' ids "
        "as groups (--group); in Python, estimand='texts' values these texts alone."
    ]


def r2_of_predictions(
    prediction: FloatArray, y: Any, sample_weight: Any, utility: Mapping[Any, float] | None
) -> float:
    """R squared of expected-outcome predictions against numeric outcomes."""
    from sklearn.metrics import r2_score

    return float(
        r2_score(numeric_outcome(np.asarray(y), utility), prediction, sample_weight=sample_weight)
    )
