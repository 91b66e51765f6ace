"""Sensitivity of a fitted value to a hidden confounder, or to wrong logging probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import is_classifier
from sklearn.utils.validation import check_is_fitted

from causal_lm_opt._validation import check_groups
from causal_lm_opt.core.weights import Weighting
from causal_lm_opt.diagnostics.sensitivity import Bounds, breakdown
from causal_lm_opt.diagnostics.sensitivity._bounds import LARGEST, check_lambdas
from causal_lm_opt.estimators._crossfit import make_folds
from causal_lm_opt.estimators._doubly_robust import need_both
from causal_lm_opt.estimators._policies import LOGGING_POLICY, Policies, read_policies
from causal_lm_opt.estimators._sensitivity import Pieces, Workspace
from causal_lm_opt.estimators._sensitivity_models import ConditionalModels, conditional_models
from causal_lm_opt.estimators._sensitivity_result import (
    WORDS,
    Breakdown,
    Claim,
    SensitivityResult,
    Violation,
)
from causal_lm_opt.estimators.doubly_robust import DoublyRobust
from causal_lm_opt.estimators.ipw import IPW

__all__ = ["Breakdown", "Claim", "SensitivityResult", "sensitivity"]

FloatArray = npt.NDArray[np.float64]


def sensitivity(
    estimator: Any,
    lambdas: Sequence[float] = (1, 1.1, 1.25, 1.5, 2, 3),
    *,
    logp_target: Any = None,
    X_target: Any = None,
    violation: Violation = "hidden_confounder",
    quantile_model: Any = None,
    claim: Claim | Sequence[Claim] | None = None,
    texts: Any = None,
    n_bootstrap: int = 500,
    random_state: int = 0,
    level: float = 0.95,
) -> SensitivityResult:
    r"""How far a violated assumption of strength :math:`\Lambda` could move a fitted value.

    Parameters
    ----------
    estimator : fitted IPW or DoublyRobust
        With ``weights="hajek"`` (or ``"ht"``, for a hidden confounder).
    lambdas : sequence of float
        Strengths, from 1 (no violation) to a million.
    logp_target, X_target : optional
        Other policies on the same log, as in ``estimator.evaluate``. Default: those of ``fit``.
    violation : {"hidden_confounder", "logging_probabilities"}
        Two different things; see Notes.
    quantile_model : scikit-learn quantile regressor, optional
        For ``"hidden_confounder"``: its parameter ``quantile`` (or ``alpha`` with
        ``loss="quantile"``) is set to each level. Default: boosted trees on the features, or on
        leading components of TF-IDF. For a binary outcome the quantiles follow from a
        classifier. A poor model widens the bounds and does not void them.
    claim : Claim or sequence of Claim, optional
        Claims whose breakdown strength is wanted.
    texts : array, shape (n,), optional
        For ``"logging_probabilities"``: label of each row's text. Rows of one text then share one
        mis-scoring, which narrows the bounds; a hidden confounder is then not covered by them.
    n_bootstrap : int
        Resamples of rows (or whole clusters) and draws; fitted models are held fixed. With
        clusters the intervals are stretched for their number.
    random_state : int
        At least 0.
    level : float

    Returns
    -------
    SensitivityResult

    Raises
    ------
    TypeError
        For another estimator.
    ValueError
        Bad arguments; weights with a transform, whose bias the bounds do not know of.

    Notes
    -----
    ``"hidden_confounder"``: sharp bounds from cross-fitted conditional quantiles
    (:func:`~causal_lm_opt.diagnostics.sensitivity.hidden_confounder_bounds`). For
    :class:`DoublyRobust` the bound's excess is regressed on the text with the outcome model's
    learner. ``"logging_probabilities"``: the linear-fractional bound
    (:func:`~causal_lm_opt.diagnostics.sensitivity.logging_probability_bounds`), which treats noise
    of the outcome like signal and so is wide.

    Examples
    --------
    >>> import numpy as np
    >>> from causal_lm_opt import IPW
    >>> rng = np.random.default_rng(0)
    >>> x = rng.integers(0, 2, size=400)                    # two texts, logged evenly
    >>> y = x + rng.normal(size=400)
    >>> logging, target = np.log(np.full(400, .5)), np.log(np.where(x == 1, .9, .1))
    >>> est = IPW().fit(x[:, None], y, logp_logging=logging, logp_target=target)
    >>> result = sensitivity(est, (1, 1.5), n_bootstrap=50, claim=Claim(above=0.5))
    >>> bool(np.isclose(result.lower[0, 0], est.value_)), bool(result.lower[0, 1] < est.value_)
    (True, True)
    >>> 1 < result.breakdowns[0].strength < 2
    True
    """
    if not isinstance(estimator, IPW | DoublyRobust):
        raise TypeError(
            f"sensitivity takes a fitted IPW or DoublyRobust, got {type(estimator).__name__}."
        )
    check_is_fitted(estimator, "result_")
    if violation not in WORDS:
        raise ValueError(f"violation={violation!r} is not known; use one of {sorted(WORDS)}.")
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie strictly between 0 and 1, got {level!r}.")
    if not isinstance(random_state, int | np.integer) or random_state < 0:
        raise ValueError(f"random_state must be a whole number, at least 0; got {random_state!r}.")
    grid = check_lambdas(lambdas)
    policies = _policies(estimator, logp_target, X_target)
    _check_weights(estimator, violation)
    claims = _claims(claim, (*policies.names, LOGGING_POLICY))
    models = None
    if violation == "hidden_confounder":
        if texts is not None:
            raise ValueError("texts is for violation='logging_probabilities'.")
        # a claim may break down beyond the grid, where unfitted quantiles would widen the bounds
        further = 2.0 * grid.max(), 5.0 * grid.max()
        beyond = [x for x in further if claims and x <= LARGEST]
        models = _models(estimator, policies, np.append(grid, beyond), quantile_model)
    elif quantile_model is not None:
        raise ValueError("quantile_model is for violation='hidden_confounder'.")
    pieces = Workspace(estimator, policies, n_bootstrap, int(random_state)).pieces(
        models, _texts(estimator, texts)
    )
    return _result(estimator, pieces, grid, violation, claims, level, n_bootstrap)


def _policies(estimator: Any, logp_target: Any, X_target: Any) -> Policies:
    """The policies of ``fit``, or others on the same log."""
    log, dr = estimator.log_, isinstance(estimator, DoublyRobust)
    if logp_target is None:
        if X_target is not None:
            raise ValueError("X_target was given without logp_target; give both or neither.")
        policies: Policies = estimator.policies_
        if policies.logging:
            raise ValueError(
                "The logging policy itself was fitted: its value is the mean outcome, which rests "
                "on neither assumption. Fit with logp_target and logp_logging."
            )
    else:
        draws = X_target if dr else None
        policies = read_policies(estimator, log, logp_target, log.logp_logging, draws)
        if dr:
            need_both(policies)
    if dr and estimator.splits_[0].crossfit is None:
        raise ValueError(
            "sensitivity needs a fitted outcome model, but predictions were given to fit; use the "
            "functions of causal_lm_opt.diagnostics.sensitivity with your arrays."
        )
    return policies


def _check_weights(estimator: Any, violation: str) -> None:
    if estimator.log_.texts is not None:
        raise ValueError(
            "A sensitivity analysis is of texts the policy would write: fit with estimand='model'."
        )
    weighting = Weighting.of(estimator.weights)
    if not weighting.unbiased:
        raise ValueError(
            f"weights={weighting.label!r} change the value that is estimated; fit with "
            "weights='hajek' for a sensitivity analysis."
        )
    if violation == "logging_probabilities" and not weighting.normalize:
        raise ValueError(
            "violation='logging_probabilities' needs self-normalised weights, which impose that "
            "the right weights average 1: fit with weights='hajek'."
        )


def _texts(estimator: Any, texts: Any) -> npt.NDArray[Any] | None:
    if texts is None:
        return None
    log = estimator.log_
    labels = check_groups(texts, "texts", log.n_given)
    return labels if log.taken is None else labels[log.taken]


def _models(
    estimator: Any, policies: Policies, grid: FloatArray, quantile_model: Any
) -> ConditionalModels:
    """Quantiles on the estimator's own folds, the excess with its own learner."""
    log = estimator.log_
    if isinstance(estimator, IPW):
        folds = make_folds(log.X, log.y, log.codes, 5, 0, log.taken, log.n_given)
        return conditional_models(
            log, folds, grid, quantile_model=quantile_model, policies=policies
        )
    fitted = estimator.splits_[0].crossfit
    assert fitted is not None
    learner = estimator._learner()
    return conditional_models(
        log, fitted.folds, grid, quantile_model=quantile_model, policies=policies, fitted=fitted,
        excess_model=None if is_classifier(learner) else learner, n_jobs=estimator.n_jobs,
    )  # fmt: skip


def _claims(claim: Claim | Sequence[Claim] | None, names: tuple[str, ...]) -> list[Claim]:
    """The claims, about policies that exist."""
    claims = [] if claim is None else [claim] if isinstance(claim, Claim) else list(claim)
    for c in claims:
        if not isinstance(c, Claim):
            raise TypeError(f"claim must be a Claim or a sequence of them, got {c!r}.")
        one = _position(names, c.policy)
        if c.better_than is not None and _position(names, c.better_than) == one:
            raise ValueError(f"Claim: {names[one]!r} cannot be better than itself.")
    return claims


def _position(names: tuple[str, ...], policy: str | int) -> int:
    """Position of a policy; the logging policy is the last."""
    if isinstance(policy, str):
        if policy not in names:
            raise ValueError(f"Claim: no policy named {policy!r}; there are {list(names)}.")
        return names.index(policy)
    count = len(names) - 1
    if not 0 <= policy < count:
        raise ValueError(f"Claim: policy {policy} of {count} does not exist.")
    return int(policy)


def _result(
    estimator: Any,
    pieces: Pieces,
    grid: FloatArray,
    violation: Violation,
    claims: list[Claim],
    level: float,
    n_bootstrap: int,
) -> SensitivityResult:
    names = list(pieces.names[:-1])
    found: list[Bounds] = [pieces.bounds(k, grid) for k in range(len(names))]
    breakdowns = []
    for c in claims:
        k = _position(pieces.names, c.policy)
        other = None if c.better_than is None else _position(pieces.names, c.better_than)
        if other is not None and f"{pieces.names[k]} - {pieces.names[other]}" not in names:
            names.append(f"{pieces.names[k]} - {pieces.names[other]}")
            found.append(pieces.contrast(k, other, grid))
        breakdowns.append(_breakdown(pieces, c, k, other, level))
    intervals = [b.interval(level) for b in found]
    return SensitivityResult(
        violation=violation, estimator=estimator.result_.estimator, quantities=tuple(names),
        lambdas=grid, values=np.array([b.value for b in found]),
        lower=np.stack([b.lower for b in found]), upper=np.stack([b.upper for b in found]),
        ci_lower=np.stack([i[:, 0] for i in intervals]),
        ci_upper=np.stack([i[:, 1] for i in intervals]), level=level, n_bootstrap=n_bootstrap,
        breakdowns=tuple(breakdowns), dof=found[0].dof,
    )  # fmt: skip


def _breakdown(pieces: Pieces, claim: Claim, k: int, other: int | None, level: float) -> Breakdown:
    """Breakdown strength of a claim: of the bounds, and of their interval."""

    def at(strength: float) -> Bounds:
        grid = np.array([strength])
        return pieces.bounds(k, grid) if other is None else pieces.contrast(k, other, grid)

    def margin(low: float, high: float) -> float:
        if claim.below is not None:
            return claim.below - high
        return low - (claim.above or 0.0)

    def interval(strength: float) -> float:
        low, high = at(strength).interval(level)[0]
        return margin(float(low), float(high))

    def bound(strength: float) -> float:
        b = at(strength)
        return margin(float(b.lower[0]), float(b.upper[0]))

    name, reference = pieces.names[k], None if other is None else pieces.names[other]
    threshold = claim.above if claim.above is not None else claim.below
    return Breakdown(
        claim.words(name, reference), breakdown(bound, tolerance=1e-4),
        breakdown(interval, tolerance=1e-3),
        quantity=name if reference is None else f"{name} - {reference}",
        threshold=0.0 if threshold is None else threshold, difference=other is not None,
    )  # fmt: skip
