"""The pair loss and the training risk against their formulas; gradient reversal by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from causal_lm_opt.rewards import _inputs as inputs
from causal_lm_opt.rewards import expected_accuracy, pair_loss
from causal_lm_opt.rewards._calibration import fit_temperature, pair_calibration
from causal_lm_opt.rewards._modules import reverse_gradient
from causal_lm_opt.rewards._training import accuracy, batches, risk


def test_the_loss_is_minus_the_log_likelihood() -> None:
    m, p = np.array([-3.0, 0.0, 0.4, 8.0]), np.array([0.0, 0.5, 1.0, 0.3])
    sigma = 1 / (1 + np.exp(-m))
    np.testing.assert_allclose(
        pair_loss(m, p), -(p * np.log(sigma) + (1 - p) * np.log(1 - sigma)), rtol=1e-12
    )


def test_the_loss_stays_finite_at_huge_margins_and_swaps() -> None:
    m = np.array([-1e4, -50.0, 50.0, 1e4])
    np.testing.assert_allclose(pair_loss(m, 1.0), [1e4, 50, 0, 0], atol=1e-12)
    p = np.array([0.1, 1.0, 0.4, 0.0])
    np.testing.assert_allclose(pair_loss(m, p), pair_loss(-m, 1 - p), rtol=1e-12, atol=1e-9)


def test_torch_equals_numpy_and_gradients_are_those_of_the_formula() -> None:
    m, p = np.linspace(-6, 6, 13), np.linspace(0, 1, 13)
    tm = torch.tensor(m, requires_grad=True)
    loss = pair_loss(tm, torch.tensor(p))
    np.testing.assert_allclose(loss.detach().numpy(), pair_loss(m, p), rtol=1e-12)
    loss.sum().backward()
    np.testing.assert_allclose(tm.grad.numpy(), 1 / (1 + np.exp(-m)) - p, rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(
        expected_accuracy(torch.tensor(m), torch.tensor(p)).numpy(), expected_accuracy(m, p)
    )


def test_accuracy_counts_ties_half() -> None:
    found = expected_accuracy(np.array([1.0, -1.0, 0.0, 1.0, -1.0]), np.array([1, 1, 1, 0.5, 0]))
    np.testing.assert_array_equal(found, [1.0, 0.0, 0.5, 0.5, 1.0])


def total(margin, label=None, weight=None) -> tuple[float, float]:
    """Risk and accuracy that training and validation see, per unit of weight."""
    sums = inputs.coefficients(label, weight, len(margin))
    m, c = torch.tensor(margin), torch.tensor(sums)
    return float(risk(m, c)) / sums[:, 0].sum(), float(accuracy(m, c)) / sums[:, 0].sum()


def test_soft_labels_equal_hard_labels_in_that_proportion() -> None:
    """Label 0.75 is three copies won and one lost; a tie is one of each."""
    m = np.array([0.7, -1.1])
    soft = total(m, label=[0.75, 0.5])
    copies = np.repeat(m, 4)
    hard = total(copies, label=[1, 1, 1, 0, 1, 1, 0, 0])
    assert soft == pytest.approx(hard, abs=1e-14)
    # a lost pair is the pair the other way round
    assert total(m, label=[0, 0]) == pytest.approx(total(-m), abs=1e-14)


def test_integer_weights_equal_repetition() -> None:
    rng = np.random.default_rng(0)
    m, p, s = rng.normal(size=9), rng.random(9), rng.integers(0, 4, 9)
    assert total(m, p, s) == pytest.approx(total(np.repeat(m, s), np.repeat(p, s)), abs=1e-14)


def test_batches_of_an_epoch_are_a_partition_whose_losses_average_to_the_whole() -> None:
    rng = np.random.default_rng(1)
    m, sums = torch.tensor(rng.normal(size=40)), torch.tensor(rng.random((40, 2)))
    generator = torch.Generator().manual_seed(3)
    orders = [list(batches(40, 8, generator)) for _ in range(2)]
    for order in orders:
        assert torch.cat(order).sort().values.tolist() == list(range(40))
        mean = sum(risk(m[at], sums[at]) / 8 for at in order) / 5
        assert float(mean) == pytest.approx(float(risk(m, sums)) / 40)
    assert not torch.equal(torch.cat(orders[0]), torch.cat(orders[1]))


# ------------------------------------------------------------------ gradient reversal
def test_gradient_reversal_by_hand() -> None:
    """z = a x, discriminator loss (c z - t)^2: dL/dc as usual, dL/da times -strength."""
    a, c = (torch.tensor(v, requires_grad=True, dtype=torch.float64) for v in (1.5, -0.7))
    x, t, strength = 2.0, 0.3, 0.4
    z = a * x
    loss = (c * reverse_gradient(z, strength) - t) ** 2 + 3.0 * z
    loss.backward()
    residual = 2 * (-0.7 * 3.0 - t)
    assert c.grad.item() == pytest.approx(residual * 3.0)
    assert a.grad.item() == pytest.approx(-strength * residual * -0.7 * x + 3.0 * x)


def test_gradient_reversal_passes_values_and_at_zero_nothing_back() -> None:
    z = torch.randn(5, 3, requires_grad=True, generator=torch.Generator().manual_seed(0))
    assert torch.equal(reverse_gradient(z, 1.0), z)
    assert not reverse_gradient(z, 0.0).requires_grad


# ------------------------------------------------------------------ calibration
def test_the_temperature_is_where_the_gradient_vanishes() -> None:
    rng = np.random.default_rng(2)
    m = 3 * rng.normal(size=4000)
    won = (rng.random(4000) < 1 / (1 + np.exp(-m / 2.5))).astype(float)
    sums = inputs.coefficients(won, None, 4000)
    t = fit_temperature(m, sums)
    slope = np.sum(m * (1 / (1 + np.exp(-m / t)) - won)) / 4000
    assert slope == pytest.approx(0.0, abs=1e-5)
    assert t == pytest.approx(2.5, rel=0.1)


def test_calibration_figures_by_hand_and_unchanged_by_swapping() -> None:
    p = np.array([0.9, 0.2, 0.6, 0.5, 0.7, 0.35])
    y = np.array([1.0, 0.0, 0.0, 1.0, 0.5, 1.0])
    w = np.array([1.0, 2.0, 1.0, 1.0, 3.0, 1.0])
    found = pair_calibration(p, y, w)
    assert found.brier == pytest.approx(np.average((p - y) ** 2, weights=w))
    logloss = -(y * np.log(p) + (1 - y) * np.log(1 - p))
    assert found.log_loss == pytest.approx(np.average(logloss, weights=w))
    assert found.accuracy == pytest.approx(np.average([1, 1, 0, 0.5, 0.5, 0], weights=w))
    swap = np.array([True, False, True, False, True, True])
    again = pair_calibration(np.where(swap, 1 - p, p), np.where(swap, 1 - y, y), w)
    for name in ("brier", "log_loss", "accuracy", "error"):
        assert getattr(again, name) == pytest.approx(getattr(found, name), abs=1e-12)
