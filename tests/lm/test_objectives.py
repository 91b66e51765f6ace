"""Objectives against the NumPy estimators, closed forms, finite differences and naive loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from causal_lm_opt import IPW, DoublyRobust, OutcomeRegression  # noqa: E402
from causal_lm_opt.core import Clip, ParetoSmooth, Shrink, Switch, Temper, Weighting  # noqa: E402
from causal_lm_opt.estimators import TargetSample  # noqa: E402
from causal_lm_opt.exceptions import OverlapError  # noqa: E402
from causal_lm_opt.lm.objectives import (  # noqa: E402
    Columns,
    DoublyRobustObjective,
    IPWObjective,
    LikelihoodObjective,
    Objective,
    OnPolicyObjective,
    OutcomeRegressionObjective,
)

pytestmark = pytest.mark.torch

RNG = np.random.default_rng(20240708)
N, M = 96, 32
LOGGING, SAMPLING = RNG.normal(-40, 3, N), RNG.normal(-40, 3, M)
ELL, ELL0 = RNG.normal(0, 0.8, N), RNG.normal(0, 0.6, M)
Y, Q, QT = RNG.normal(1, 1, N), RNG.normal(1, 0.5, N), RNG.normal(1.2, 0.5, M)
REFERENCE = LOGGING + RNG.normal(0, 0.2, N)
LOGP = np.r_[LOGGING + ELL, SAMPLING + ELL0]
PARAMETERS = torch.as_tensor(RNG.normal(size=(N + M, 5)))  # S_i = LOGP_i + x_i' theta
WEIGHTS: tuple[Weighting, ...] = (
    Weighting.of("hajek"), Weighting.of("ht"), Clip(2.0), Clip(2.0, normalize=False), Shrink(3.0),
    Temper(0.5), Switch(4.0), ParetoSmooth(), ParetoSmooth(normalize=False),
)  # fmt: skip
EXACT = WEIGHTS[:2]
Made = tuple[Objective, Any]


def columns(payoff: np.ndarray, logging: np.ndarray, reference: np.ndarray) -> Columns:
    return Columns(*(torch.as_tensor(x) for x in (payoff, logging, reference)))


def make(kind: str, **settings: Any) -> Made:
    """The objective with its rows, and the log-probabilities (leaf, float64) of all of them."""
    logged = columns(Y, LOGGING, REFERENCE)
    target = columns(QT, SAMPLING, SAMPLING)
    residual = columns(Y - Q, LOGGING, REFERENCE)
    objective: Objective
    if kind == "or" and "weights" in settings:
        settings["weights_target"] = settings.pop("weights")
    if kind == "dr" and "weights" in settings:
        settings["weights_target"] = settings["weights"]
    if kind == "ipw":
        objective, parts, logp = IPWObjective(**settings), [logged], LOGP[:N]
    elif kind == "or":
        objective, parts, logp = OutcomeRegressionObjective(**settings), [target], LOGP[N:]
    else:
        objective, parts, logp = DoublyRobustObjective(**settings), [residual, target], LOGP
    objective.begin(parts)
    leaf = torch.tensor(logp, requires_grad=True)
    objective.refresh(leaf)
    return objective, leaf


def estimate(kind: str, logp: np.ndarray, weights: Any) -> Any:
    """The NumPy estimator's value on the same inputs."""
    X = np.zeros((N, 1))
    if kind == "ipw":
        return IPW(weights=weights).fit(X, Y, logp_target=logp, logp_logging=LOGGING)
    draws = TargetSample(np.zeros((M, 1)), logp_target=logp[-M:], logp_sampling=SAMPLING)
    return DoublyRobust(weights=weights, weights_target=weights).fit(
        X, Y, logp_target=logp[:N], logp_logging=LOGGING, X_target=draws, q_logged=Q, q_target=QT
    )


def gradient(objective: Objective, logp: Any, rows: Any = None) -> np.ndarray:
    at = torch.arange(len(logp)) if rows is None else rows
    (found,) = torch.autograd.grad(objective(logp[at], at), logp)
    return np.asarray(found)


def hajek(log_weight: np.ndarray, payoff: np.ndarray) -> float:
    w = np.exp(log_weight - log_weight.max())
    return float(w @ payoff / w.sum())


# ---------------------------------------------------------------------------- values
@pytest.mark.filterwarnings("ignore::causal_lm_opt.exceptions.OverlapWarning")
@pytest.mark.parametrize("weights", WEIGHTS, ids=lambda w: w.label)
@pytest.mark.parametrize("kind", ["ipw", "dr"])
def test_the_value_is_the_estimators(kind: str, weights: Weighting) -> None:
    objective, logp = make(kind, weights=weights)
    theirs = estimate(kind, LOGP[: len(logp)], weights)
    whole = objective(logp, torch.arange(len(logp)))
    assert whole.item() == pytest.approx(float(theirs.value_), abs=1e-10)
    assert objective.value()[0] == pytest.approx(float(theirs.value_), abs=1e-10)


@pytest.mark.parametrize("weights", EXACT, ids=lambda w: w.label)
@pytest.mark.parametrize("kind", ["ipw", "dr"])
def test_the_standard_error_is_the_estimators(kind: str, weights: Weighting) -> None:
    objective, logp = make(kind, weights=weights)
    theirs = estimate(kind, LOGP[: len(logp)], weights)
    assert objective.value()[1] == pytest.approx(float(theirs.se_), rel=1e-10)


def test_outcome_regressions_value_is_the_estimators() -> None:
    from sklearn.base import BaseEstimator, RegressorMixin

    class Given(RegressorMixin, BaseEstimator):  # type: ignore[misc]
        """Predicts what it is told: the row's own feature."""

        def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Given:
            return self

        def predict(self, X: Any) -> Any:
            return np.asarray(X)[:, 0]

    objective, logp = make("or")
    draws = TargetSample(QT[:, None], logp_target=LOGP[N:], logp_sampling=SAMPLING)
    theirs = OutcomeRegression(outcome_model=Given()).fit(Q[:, None], Y, X_target=draws)
    assert objective(logp, torch.arange(M)).item() == pytest.approx(float(theirs.value_), abs=1e-10)


# ---------------------------------------------------------------------------- gradients
def closed_form(ell: np.ndarray, payoff: np.ndarray, normalize: bool) -> np.ndarray:
    w = np.exp(ell)
    return w * (payoff - hajek(ell, payoff)) / w.sum() if normalize else w * payoff / len(w)


@pytest.mark.parametrize("weights", EXACT, ids=lambda w: w.label)
def test_gradients_are_the_closed_forms(weights: Weighting) -> None:
    h = weights.normalize
    expected = {
        "ipw": closed_form(ELL, Y, h),
        "or": closed_form(ELL0, QT, h),
        "dr": np.r_[closed_form(ELL, Y - Q, h), closed_form(ELL0, QT, h)],
    }
    for kind, wanted in expected.items():
        np.testing.assert_allclose(gradient(*make(kind, weights=weights)), wanted, atol=1e-12)


@pytest.mark.filterwarnings("ignore::causal_lm_opt.exceptions.OverlapWarning")
@pytest.mark.parametrize(
    "weights", [w for w in WEIGHTS if w.kind in ("none", "shrink", "temper")], ids=lambda w: w.label
)
@pytest.mark.parametrize("kind", ["ipw", "dr"])
def test_gradients_are_the_estimators_finite_differences(kind: str, weights: Weighting) -> None:
    objective, logp = make(kind, weights=weights)
    slope, step = gradient(objective, logp), 1e-5
    direction = np.random.default_rng(1).normal(size=len(logp))
    ends = [
        float(estimate(kind, LOGP[: len(logp)] + sign * step * direction, weights).value_)
        for sign in (1, -1)
    ]
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(slope @ direction, rel=1e-6)
    np.testing.assert_allclose(slope, whole_gradient(kind, weights), atol=1e-12)


def whole_gradient(kind: str, weights: Weighting) -> np.ndarray:
    """Autograd through the estimator's own formula on the whole sample."""
    from causal_lm_opt import core

    logp = torch.tensor(LOGP[: N if kind == "ipw" else None], requires_grad=True)
    parts = [(logp[:N], LOGGING, Y if kind == "ipw" else Y - Q), (logp[N:], SAMPLING, QT)]
    total = torch.zeros(())
    for s, logging, payoff in parts[: 1 if kind == "ipw" else 2]:
        ell = weights.transform(core.log_ratio(s, torch.as_tensor(logging)))
        w = core.relative_weights(ell, normalize=weights.normalize)
        a, b = core.ipw_moment(w, torch.as_tensor(payoff), normalize=weights.normalize)
        total = total + core.solve_linear_moment(a, b)[0]
    (found,) = torch.autograd.grad(total, logp)
    return np.asarray(found)


def test_clip_of_the_value_and_clip_of_the_gradient() -> None:
    w, clipped = np.exp(ELL), np.minimum(np.exp(ELL), 1.5)
    value = clipped @ Y / clipped.sum()
    pull = clipped * (Y - value) / clipped.sum()
    np.testing.assert_allclose(
        gradient(*make("ipw", weights=Clip(1.5))), np.where(w < 1.5, pull, 0.0), atol=1e-12
    )
    np.testing.assert_allclose(
        gradient(*make("ipw", weights=Clip(1.5), clip="gradient")), pull, atol=1e-12
    )
    assert "clip of the gradient" in make("ipw", weights=Clip(1.5), clip="gradient")[0].label


def test_smoothed_weights_pull_with_their_smoothed_size() -> None:
    from causal_lm_opt.core import pareto_smooth

    smooth = np.asarray(pareto_smooth(ELL)[0])
    w = np.exp(smooth)
    expected = w * (Y - w @ Y / w.sum()) / w.sum()
    np.testing.assert_allclose(gradient(*make("ipw", weights="psis")), expected, atol=1e-12)


@pytest.mark.parametrize("through", ["value", "gradient"])
def test_penalties_are_differentiated_whole(through: str) -> None:
    kl, entropy = 0.3, 0.2
    objective, logp = make("ipw", kl=kl, entropy=entropy, clip=through)

    def penalised(s: np.ndarray) -> float:
        return hajek(s - LOGGING, Y - kl * (s - REFERENCE) - entropy * s)

    assert objective(logp, torch.arange(N)).item() == pytest.approx(penalised(LOGP[:N]), abs=1e-10)
    direction, step = np.random.default_rng(2).normal(size=N), 1e-6
    ends = [penalised(LOGP[:N] + s * step * direction) for s in (1, -1)]
    slope = gradient(objective, logp) @ direction
    assert slope == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-6)
    found = objective.diagnostics()
    assert found["kl"] == pytest.approx(hajek(ELL, LOGP[:N] - REFERENCE))
    assert found["entropy"] == pytest.approx(-hajek(ELL, LOGP[:N]))


# ---------------------------------------------------------------------------- steps and state
def through_theta(objective: Objective, theta: Any, rows: Any) -> Any:
    return objective(torch.as_tensor(LOGP)[rows] + PARAMETERS[rows] @ theta, rows)


def step_gradients(objective: Objective, batches: list[Any]) -> np.ndarray:
    theta = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    found = [
        torch.autograd.grad(through_theta(objective, theta, rows), theta)[0] for rows in batches
    ]
    return np.mean([np.asarray(g) for g in found], axis=0)


@pytest.mark.parametrize("batch", [1, 4, 64, N + M])
@pytest.mark.parametrize("weights", WEIGHTS, ids=lambda w: w.label)
def test_steps_average_to_the_full_gradient(batch: int, weights: Weighting) -> None:
    objective, _ = make("dr", weights=weights, kl=0.1)
    objective.frozen = True
    full = step_gradients(objective, [torch.arange(N + M)])
    order = torch.as_tensor(np.random.default_rng(3).permutation(N + M))
    parts = [order[i : i + batch] for i in range(0, N + M, batch)]
    np.testing.assert_allclose(step_gradients(objective, parts), full, atol=1e-12)
    with torch.no_grad():
        value = np.mean([through_theta(objective, torch.zeros(5).double(), r) for r in parts])
    assert value == pytest.approx(
        float(through_theta(objective, torch.zeros(5).double(), torch.arange(N + M))), abs=1e-10
    )


def test_negative_control_softmax_over_the_micro_batch() -> None:
    """What the CPO authors' code does: it fails the test above, by a lot."""

    def softmax_step(rows: Any, theta: Any) -> Any:
        s = torch.as_tensor(LOGP)[rows] + PARAMETERS[rows] @ theta
        return torch.softmax(s - torch.as_tensor(LOGGING)[rows], 0) @ torch.as_tensor(Y)[rows]

    def averaged(batch: int) -> np.ndarray:
        theta = torch.zeros(5, dtype=torch.float64, requires_grad=True)
        parts = torch.split(torch.arange(N), batch)
        return np.mean(
            [np.asarray(torch.autograd.grad(softmax_step(r, theta), theta)[0]) for r in parts], 0
        )

    full = averaged(N)
    objective, _ = make("ipw")
    np.testing.assert_allclose(step_gradients(objective, [torch.arange(N)]), full, atol=1e-12)
    assert np.linalg.norm(averaged(4) - full) > 0.1 * np.linalg.norm(full)


@pytest.mark.parametrize("rate", [0.02, 0.2])
def test_stale_state_bends_the_gradient_and_refreshing_straightens_it(rate: float) -> None:
    """An epoch of steps at a fixed distance per step; the bias grows with it and ends at 0."""
    objective, _ = make("ipw", ess_floor=0.0)
    theta = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    order = torch.as_tensor(np.random.default_rng(5).permutation(N))
    for rows in torch.split(order, 8):
        (slope,) = torch.autograd.grad(through_theta(objective, theta, rows), theta)
        objective.commit()
        with torch.no_grad():
            theta += rate * slope / slope.norm()
    rows = torch.arange(N)

    def full() -> np.ndarray:
        return np.asarray(torch.autograd.grad(through_theta(objective, theta, rows), theta)[0])

    stale = full()
    with torch.no_grad():
        objective.refresh(torch.as_tensor(LOGP)[:N] + PARAMETERS[:N] @ theta)
    exact = full()
    bias = np.linalg.norm(stale - exact) / np.linalg.norm(exact)
    low, high = {0.02: (1e-4, 0.1), 0.2: (0.02, 1.0)}[rate]
    assert low < bias < high
    s = (torch.as_tensor(LOGP)[:N] + PARAMETERS[:N] @ theta).detach().numpy()
    by_row = closed_form(s - LOGGING, Y, normalize=True)
    np.testing.assert_allclose(exact, by_row @ PARAMETERS[:N].numpy(), atol=1e-12)


def test_commit_takes_up_what_was_seen_and_frozen_state_stays() -> None:
    objective, logp = make("ipw")
    moved = (logp + 0.5).detach()
    before = objective.value()[0]
    objective.frozen = True
    objective(moved[:4], torch.arange(4))
    objective.commit()
    assert objective.value()[0] == before
    objective.frozen = False
    objective(moved[:4], torch.arange(4))
    assert objective.value()[0] == before  # fixed during the step
    objective.commit()
    ell = ELL + 0.5 * (np.arange(N) < 4)
    assert objective.value()[0] == pytest.approx(hajek(ell, Y), abs=1e-12)


def test_health_is_told_before_any_transform() -> None:
    raw, clipped = make("ipw")[0].diagnostics(), make("ipw", weights=Clip(1.0))[0].diagnostics()
    w = np.exp(ELL)
    assert raw["ess"] == clipped["ess"] == pytest.approx(w.sum() ** 2 / (w @ w) / N)
    assert raw["sd_log_ratio"] == clipped["sd_log_ratio"] == pytest.approx(ELL.std())
    assert raw["clip_share"] == 0.0
    assert clipped["clip_share"] == pytest.approx((w > 1).mean())
    assert make("dr")[0].diagnostics()["target_ess"] < 1


def test_trust_region() -> None:
    assert make("ipw", ess_floor=0.01)[0].violation() is None
    assert "ess_floor=0.9" in str(make("ipw", ess_floor=0.9)[0].violation())
    assert "kl_limit=0" in str(make("ipw", kl_limit=0.0)[0].violation())
    assert "target rows" in str(make("or", ess_floor=0.9)[0].violation())


# ---------------------------------------------------------------------------- the other two
@pytest.mark.parametrize("which", ["all", "high", "weighted"])
def test_likelihood_is_a_weighted_mean(which: Any) -> None:
    outcome = np.abs(Y)
    objective = LikelihoodObjective(which, share=0.25)
    objective.begin([columns(outcome, LOGGING, LOGGING)])
    logp = torch.tensor(LOGP[:N], requires_grad=True)
    objective.refresh(logp)
    top = (outcome >= np.sort(outcome)[-N // 4]).astype(float)
    weight = {"all": np.ones(N), "high": top, "weighted": outcome}[which]
    mean = weight @ LOGP[:N] / weight.sum()
    assert objective(logp, torch.arange(N)).item() == pytest.approx(mean, abs=1e-10)
    assert objective.value()[0] == pytest.approx(mean, abs=1e-10)
    np.testing.assert_allclose(gradient(objective, logp), weight / weight.sum(), atol=1e-14)
    parts = [gradient(objective, logp, rows) for rows in torch.split(torch.arange(N), 8)]
    np.testing.assert_allclose(np.mean(parts, 0), weight / weight.sum(), atol=1e-14)
    assert not objective.exact
    assert "surrogate" in objective.label


def on_policy(ell: np.ndarray, **settings: Any) -> Made:
    objective = OnPolicyObjective(**settings)
    objective.begin([columns(Y, LOGGING, REFERENCE)])
    logp = torch.tensor(LOGGING + ell, requires_grad=True)
    objective.refresh(logp)
    return objective, logp


def test_on_policy_is_the_policy_gradient_where_the_round_begins() -> None:
    found = gradient(*on_policy(np.zeros(N)))
    np.testing.assert_allclose(found, (Y - Y.mean()) / N, atol=1e-14)


def test_on_policy_clips_as_a_loop_does() -> None:
    objective, logp = on_policy(ELL, clip_range=0.2)
    terms, slopes = [], []
    for ell, y in zip(ELL, Y, strict=True):
        rho, advantage = np.exp(ell), y - Y.mean()
        terms.append(min(rho * advantage, np.clip(rho, 0.8, 1.2) * advantage))
        beyond = (rho > 1.2 and advantage > 0) or (rho < 0.8 and advantage < 0)
        slopes.append(0.0 if beyond else rho * advantage / N)
    value = objective(logp, torch.arange(N)).item()
    assert value == pytest.approx(np.mean(terms) + Y.mean(), abs=1e-12)
    np.testing.assert_allclose(gradient(objective, logp), slopes, atol=1e-12)
    share = np.mean(np.abs(np.exp(ELL) - 1) > 0.2)
    assert objective.diagnostics()["clip_share"] == pytest.approx(share)


def test_on_policy_steps_average_to_the_whole_round() -> None:
    objective, logp = on_policy(ELL, kl=0.2, entropy=0.1)
    parts = [gradient(objective, logp, rows) for rows in torch.split(torch.arange(N), 8)]
    np.testing.assert_allclose(np.mean(parts, 0), gradient(objective, logp), atol=1e-12)


# ---------------------------------------------------------------------------- labels and refusals
def test_labels_tell_exact_from_surrogate() -> None:
    assert [make("ipw", weights=w)[0].exact for w in WEIGHTS[:4]] == [True, True, False, False]
    assert make("dr")[0].label == "doubly robust (DR-CPO) [Hajek, draws Hajek; exact]"
    assert "surrogate" in on_policy(ELL)[0].label
    assert "held fixed" in make("ipw", weights="psis")[0].label


def test_unknown_log_probabilities_are_the_references() -> None:
    nothing = np.full(N, np.nan)
    objective = IPWObjective()
    objective.begin([columns(Y, nothing, nothing)])
    assert not objective.ready
    objective.fill(torch.as_tensor(LOGGING))
    objective.refresh(torch.as_tensor(LOGGING))
    assert objective.ready
    assert objective.value()[0] == pytest.approx(Y.mean())


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: IPWObjective("best"), "weights='best' is not known"),
        (lambda: IPWObjective(clip="both"), "clip must be"),
        (lambda: IPWObjective(kl=-1), "kl must be a number"),
        (lambda: IPWObjective(ess_floor=2), "ess_floor must be a number"),
        (lambda: LikelihoodObjective("some"), "rows must be"),
        (lambda: DoublyRobustObjective().begin([columns(Y, Y, Y)]), "2 sample"),
        (lambda: Columns(torch.zeros(2), torch.zeros(3), torch.zeros(2)), "columns must be"),
        (lambda: make("ipw")[0].refresh(torch.zeros(3)), "one number per row"),
        (lambda: make("ipw")[0](torch.zeros(2), torch.zeros(3)), "must be"),
        (
            lambda: LikelihoodObjective("weighted").begin([columns(-Y, LOGGING, LOGGING)]),
            "not negative",
        ),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_refusals(call: Callable[[], Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        call()


@pytest.mark.parametrize(
    "named",
    [{"samples": ("loged",)}, {"needs": (("target", "prediction"),)}],
    ids=["no such sample", "a column of a sample that it does not rest on"],
)
def test_a_class_that_names_an_unknown_sample_is_refused(named: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="Mine names a sample"):
        type("Mine", (IPWObjective,), named)


def test_overflow_and_rows_that_never_came() -> None:
    objective, logp = make("ipw", weights="ht")
    with pytest.raises(OverlapError, match="weight overflows"):
        objective(logp.detach() + 1000, torch.arange(N))
    with pytest.raises(OverlapError, match="not finite"):
        objective.refresh(torch.full((N,), float("nan")))
    with pytest.raises(RuntimeError, match="call begin"):
        IPWObjective().value()


def test_state_is_saved_and_belongs_to_its_rows() -> None:
    objective, logp = make("dr")
    saved = {k: v.clone() for k, v in objective.state_dict().items()}
    objective.refresh(logp.detach() + torch.linspace(0, 1, N + M))
    assert objective.value()[0] != pytest.approx(make("dr")[0].value()[0], abs=1e-6)
    objective.load_buffers(saved)
    assert objective.value() == make("dr")[0].value()
    other = {k: v + 1 if k.endswith("payoff") else v for k, v in saved.items()}
    with pytest.raises(ValueError, match="other rows"):
        objective.load_buffers(other)
    with pytest.raises(ValueError, match="other rows"):
        make("ipw")[0].load_buffers(saved)
