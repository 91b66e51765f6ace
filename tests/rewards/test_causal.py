"""Weights of pairs against their formulas; the doubly robust risk by exact enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from causal_lm_opt.exceptions import OverlapError
from causal_lm_opt.rewards import (
    BradleyTerryReward,
    cell_weights,
    crossfit_labels,
    doubly_robust_risk,
    expected_accuracy,
    fit_doubly_robust,
    objective_weights,
    pair_loss,
)
from causal_lm_opt.rewards import _inputs as inputs
from causal_lm_opt.rewards._inputs import Pairs
from causal_lm_opt.rewards._training import accuracy, risk
from causal_lm_opt.rewards.doubly_robust import _stacked

# A space of four pairs, enumerated: its logging and target laws, label probabilities, margins.
LOGGING = np.array([0.4, 0.3, 0.2, 0.1])
TARGET = np.array([0.1, 0.2, 0.3, 0.4])
TRUTH = np.array([0.9, 0.6, 0.3, 0.55])
MARGIN = np.array([1.2, -0.4, 0.7, -2.0])
WRONG_MODEL = np.array([0.5, 0.2, 0.8, 0.9])
WRONG_WEIGHT = np.array([1.0, 2.0, 0.5, 0.7])


def enumerated(weight: np.ndarray, model: np.ndarray, loss=pair_loss) -> float:
    """The risk with its expectations taken exactly: every pair with either label."""
    rows = list(itertools.product(range(4), (0.0, 1.0)))
    x = np.array([i for i, _ in rows])
    label = np.array([won for _, won in rows])
    probability = LOGGING[x] * np.where(label == 1, TRUTH[x], 1 - TRUTH[x])
    found = doubly_robust_risk(
        loss(MARGIN[x], label), loss(MARGIN[x], model[x]), weight[x], loss(MARGIN, model),
        normalize=False, sample_weight=1e6 * probability, target_weight=1e6 * TARGET,
    )  # fmt: skip
    return found.value


@pytest.mark.parametrize("loss", [pair_loss, expected_accuracy])
def test_the_risk_is_right_where_the_weights_or_the_label_model_are(loss) -> None:
    right = TARGET / LOGGING
    wanted = float(TARGET @ loss(MARGIN, TRUTH))
    assert enumerated(right, TRUTH, loss) == pytest.approx(wanted, abs=1e-12)
    assert enumerated(right, WRONG_MODEL, loss) == pytest.approx(wanted, abs=1e-12)
    assert enumerated(WRONG_WEIGHT, TRUTH, loss) == pytest.approx(wanted, abs=1e-12)


def test_with_both_wrong_the_bias_is_the_product_of_the_errors() -> None:
    """Negative control: wrong by what the module's formula says, and by a lot."""
    wanted = float(TARGET @ pair_loss(MARGIN, TRUTH))
    error = LOGGING * WRONG_WEIGHT / TARGET - 1.0
    bias = float(np.sum(TARGET * error * (WRONG_MODEL - TRUTH) * MARGIN))
    assert abs(bias) > 0.05
    assert enumerated(WRONG_WEIGHT, WRONG_MODEL) - wanted == pytest.approx(bias, abs=1e-12)


def test_the_loss_is_linear_in_the_label() -> None:
    m, p = np.linspace(-3, 3, 7), 0.3
    for loss in (pair_loss, expected_accuracy):
        mixed = p * loss(m, 1.0) + (1 - p) * loss(m, 0.0)
        np.testing.assert_allclose(loss(m, p), mixed, atol=1e-14)


# ------------------------------------------------------------------ weights
def test_objective_weights_are_target_over_own_share() -> None:
    objective = np.array(["a"] * 6 + ["b"] * 2)
    found = objective_weights(objective, {"a": 0.25, "b": 0.75})
    np.testing.assert_allclose(found.weight[objective == "a"], 0.25 / 0.75)
    np.testing.assert_allclose(found.weight[objective == "b"], 0.75 / 0.25)
    assert found.weight.mean() == pytest.approx(1.0)
    assert found.ess == pytest.approx(8**2 / np.sum(found.weight**2))
    assert objective_weights(objective).weight[0] == pytest.approx(0.5 / 0.75)


def test_cell_weights_bring_a_law_to_the_target() -> None:
    rng = np.random.default_rng(0)
    z = rng.integers(-1, 2, size=(500, 2))
    target = {(-1, -1): 0.1, (-1, 1): 0.4, (1, -1): 0.4, (1, 1): 0.1}
    found = cell_weights(z, target=target, symmetric=False)
    for cell, share in target.items():
        assert found.weight[(z == cell).all(1)].sum() / 500 == pytest.approx(share)
    assert (found.weight[(z == 0).any(1)] == 0).all()
    assert found.table["target"].sum() == pytest.approx(1.0)
    # the same law as a table, or as a sample
    table = (np.array(list(target)), np.array(list(target.values())))
    sample = np.repeat(table[0], (10 * table[1]).astype(int), axis=0)
    for other in (table, sample):
        again = cell_weights(z, target=other, symmetric=False)
        np.testing.assert_allclose(again.weight, found.weight)


def test_symmetric_weights_do_not_depend_on_which_text_comes_first() -> None:
    rng = np.random.default_rng(1)
    z = rng.integers(-2, 3, size=(400, 2))
    flipped = z * rng.choice([-1, 1], size=(400, 1))
    law = {(1, -1): 3.0, (2, 1): 1.0, (1, 0): 2.0}
    for given in ({"target": law}, {"target_correlation": -0.4}):
        np.testing.assert_allclose(
            cell_weights(z, **given).weight, cell_weights(flipped, **given).weight, atol=1e-9
        )


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("rho", [0.0, -0.5, 0.8])
def test_the_correlation_asked_for_is_reached_and_moments_stay(symmetric, rho) -> None:
    rng = np.random.default_rng(2)
    z = rng.multivariate_normal([0.3, 0.0], [[1.0, 0.6], [0.6, 2.0]], size=2000)
    found = cell_weights(z, target_correlation=rho, symmetric=symmetric)
    w = found.weight / found.weight.sum()
    centre = np.zeros(2) if symmetric else z.mean(0)
    second = (w[:, None] * (z - centre)).T @ (z - centre)
    np.testing.assert_allclose(np.diag(second), np.mean((z - centre) ** 2, axis=0), rtol=1e-7)
    assert second[0, 1] / np.sqrt(second[0, 0] * second[1, 1]) == pytest.approx(rho, abs=1e-7)
    assert 1 < found.ess < 2000


def test_empty_cells_are_named_or_dropped() -> None:
    z = np.array([[1, 1], [-1, -1], [1, 1]])
    target = {(1, 1): 0.4, (1, -1): 0.6}
    with pytest.raises(OverlapError, match=r"1 cells of the target \(share 0.6\).*\(1, -1\) \(0.6"):
        cell_weights(z, target=target)
    found = cell_weights(z, target=target, missing="drop")
    assert found.missing_mass == pytest.approx(0.6)
    np.testing.assert_allclose(found.weight, 1.0)
    with pytest.raises(OverlapError, match="have no pair"):
        cell_weights(z, target={(1, -1): 1.0}, missing="drop")  # nothing is left
    with pytest.raises(OverlapError, match=r"\(\+, -\) have 0 pairs"):
        cell_weights(z, target_correlation=0.0)
    with pytest.raises(OverlapError, match=r"objectives of the target.*'c'"):
        objective_weights(["a", "b"], {"a": 1, "c": 1})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "either target or target_correlation"),
        ({"target": {(1.0, 1.0): -1.0}}, "must be a share"),
        ({"target": {(1.0, 1.0): 0.0}}, "no positive share"),
        ({"target": (np.ones((2, 2)), np.ones(3))}, r"must have shape \(2,\)"),
        ({"target_correlation": 1.0}, "within"),
        ({"target": {(1.0, 1.0): 1.0}, "missing": "zero"}, "missing must be"),
    ],
)
def test_targets_that_make_no_sense_are_refused(given, said) -> None:
    with pytest.raises(ValueError, match=said):
        cell_weights(np.array([[1.0, 1.0], [1.0, -1.0]]), **given)
    with pytest.raises(ValueError, match="NaN"):
        cell_weights(np.array([[1.0, np.nan]]), target={(1.0, 1.0): 1.0})


# ------------------------------------------------------------------ learning
def world(rng: np.random.Generator, n: int, rho: float) -> tuple[np.ndarray, ...]:
    """Pairs of two latents whose differences agree in sign with probability (1 + rho)/2."""
    d = rng.choice([-1.0, 1.0], size=n)
    d = np.column_stack([d, np.where(rng.random(n) < (1 + rho) / 2, d, -d)])
    base = rng.normal(size=(n, 2))
    first, second = base + d / 2, base - d / 2
    p = 1 / (1 + np.exp(-2.0 * d[:, 0] + 1.0 * d[:, 1]))
    won = rng.random(n) < p
    return first, second, won.astype(float), d, p


def test_fitting_uses_the_target_where_the_label_model_is_wrong() -> None:
    """The label model sees one factor only, so that alone it misleads under the target."""
    rng = np.random.default_rng(3)
    first, second, won, d, _ = world(rng, 1500, 0.6)
    target = world(rng, 1500, -0.6)
    weight = cell_weights(d, target={(1, 1): 0.2, (1, -1): 0.8}).weight

    class Blind(BradleyTerryReward):
        def fit(self, chosen, rejected, **given):
            return super().fit(chosen * [0, 1], rejected * [0, 1], **given)

        def predict_proba(self, chosen, rejected, **given):
            return super().predict_proba(chosen * [0, 1], rejected * [0, 1], **given)

    plain = {"hidden": (16,), "latent_dim": 8, "learning_rate": 1e-2, "epochs": 4}
    blind = Blind(**plain)
    _, guess = crossfit_labels(blind, first, second, label=won, target=target[:2], cv=2)
    fitted = fit_doubly_robust(
        BradleyTerryReward(**plain), first, second, label=won, weight=weight, target=target[:2],
        label_model=blind, cv=2,
    )  # fmt: skip
    misled = BradleyTerryReward(**plain).fit(target[0], target[1], label=guess)
    accuracy = fitted.score(target[0], target[1], label=target[4])
    assert accuracy > misled.score(target[0], target[1], label=target[4]) + 0.1
    best = np.maximum(target[4], 1 - target[4]).mean()
    assert accuracy > best - 0.02


def test_crossfitted_labels_come_from_other_rows() -> None:
    """With labels of pure noise, predictions do not know them."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(2, 60, 30))
    won = rng.integers(0, 2, 60).astype(float)
    model = BradleyTerryReward(hidden=(32,), learning_rate=1e-2, epochs=20, validation_fraction=0)
    own = model.fit(x[0], x[1], label=won).predict_proba(x[0], x[1])
    ours, none = crossfit_labels(model, x[0], x[1], label=won, cv=4)
    assert none is None
    assert np.corrcoef(own, won)[0, 1] > 0.9
    assert abs(np.corrcoef(ours, won)[0, 1]) < 0.4
    groups = np.repeat(np.arange(5), 12)
    with pytest.raises(ValueError, match=r"cv must be.*\(5\)"):
        crossfit_labels(model, x[0], x[1], groups=groups, cv=6)
    with pytest.raises(ValueError, match="target pairs have no"):
        fit_doubly_robust(
            model, x[0], x[1], weight=np.ones(60),
            target={"chosen": x[0], "rejected": x[1], "label": won},
        )  # fmt: skip


def test_standard_errors_of_the_risk_are_those_of_its_parts() -> None:
    rng = np.random.default_rng(5)
    loss, predicted, target = rng.random(40), rng.random(40), rng.random(25)
    found = doubly_robust_risk(loss, predicted, np.ones(40), target)
    variance = np.var(loss - predicted, ddof=1) / 40 + np.var(target, ddof=1) / 25
    assert found.se == pytest.approx(np.sqrt(variance))
    assert found.value == pytest.approx(found.plug_in + found.residual)
    clustered = doubly_robust_risk(loss, predicted, np.ones(40), target, groups=np.arange(40) // 2)
    assert clustered.value == found.value
    assert clustered.se != found.se


def test_stacked_pairs_have_the_doubly_robust_risk() -> None:
    """Risk and accuracy that training sees are those of `doubly_robust_risk`."""
    rng = np.random.default_rng(6)
    n, m = 30, 17
    margin, other, label, guess = (rng.normal(size=k) for k in (n, m, n, n))
    label, guess, w = label > 0, 1 / (1 + np.exp(-guess)), rng.random(n) + 0.1
    target_guess = rng.random(m)
    empty = {"chosen": np.empty((n, 0)), "rejected": np.empty((n, 0)), "objective": None}
    logged = Pairs(**empty, coefficients=inputs.coefficients(label, w, n))
    wanted = Pairs(
        np.empty((m, 0)), np.empty((m, 0)), None, inputs.coefficients(target_guess, None, m)
    )
    stacked = _stacked(logged, wanted, label - guess).scaled()
    margins, sums = torch.tensor(np.append(margin, other)), torch.tensor(stacked.coefficients)
    for loss, total in ((pair_loss, risk), (expected_accuracy, accuracy)):
        found = doubly_robust_risk(
            loss(margin, label), loss(margin, guess), w, loss(other, target_guess)
        )
        assert float(total(margins, sums)) / (n + m) == pytest.approx(found.value, abs=1e-12)
