"""A discriminator that is fitted to a finished latent."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import ndtr

from causal_lm_opt.rewards import AdversarialReward
from causal_lm_opt.rewards.objective_probe import fresh_discriminator_accuracy


def shifted(n: int, shift: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Latents of two objectives whose means are ``shift`` apart in the first of three columns."""
    rng = np.random.default_rng(seed)
    objective = rng.integers(0, 2, n)
    return rng.normal(size=(n, 3)) + shift * objective[:, None] * [1.0, 0.0, 0.0], objective


@pytest.mark.parametrize("shift", [0.0, 2.0])
def test_it_comes_near_the_best_accuracy_there_is(shift: float) -> None:
    (z, c), (test, asked) = shifted(3000, shift, 0), shifted(4000, shift, 1)
    found = fresh_discriminator_accuracy(z, c, test, asked, hidden=(32,), epochs=10)
    assert found == pytest.approx(float(ndtr(shift / 2)), abs=0.03)


def test_scale_and_place_of_a_column_do_not_matter_and_a_seed_repeats() -> None:
    (z, c), (test, asked) = shifted(600, 2.0, 2), shifted(400, 2.0, 3)
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    one = fresh_discriminator_accuracy(z, c, test, asked, hidden=(32,), epochs=20)
    assert torch.equal(torch.rand(2), wanted)
    assert one == fresh_discriminator_accuracy(z, c, test, asked, hidden=(32,), epochs=20)
    far = [1e-4 * a + [5.0, 0.0, -3.0] for a in (z, test)]
    assert fresh_discriminator_accuracy(
        far[0], c, far[1], asked, hidden=(32,), epochs=20
    ) == pytest.approx(one, abs=0.01)
    flat = [np.column_stack([a, np.ones(len(a))]) for a in (z, test)]
    assert fresh_discriminator_accuracy(flat[0], c, flat[1], asked, hidden=(32,), epochs=20) > 0.7


def test_three_objectives_and_words() -> None:
    rng = np.random.default_rng(4)
    code = rng.integers(0, 3, 900)
    z = rng.normal(size=(900, 3)) + 6 * np.eye(3)[code]
    told = np.array(["a", "b", "c"])[code]
    found = fresh_discriminator_accuracy(
        z[:600], told[:600], z[600:], told[600:], hidden=(16,), epochs=20
    )
    assert found > 0.98


def test_it_finds_less_after_a_reversal_that_worked(small) -> None:
    """A column tells the objective and matters to nobody's choice."""
    rng = np.random.default_rng(7)
    objective = rng.integers(0, 2, 800)
    chosen, rejected = rng.normal(size=(2, 800, 4))
    for x in (chosen, rejected):
        x[:, 3] = 2 * objective - 1 + 0.3 * rng.normal(size=800)
    label = (chosen[:, 0] > rejected[:, 0]).astype(float)
    found = {}
    for lambda_ in (0.0, 3.0):
        model = AdversarialReward(lambda_, **{**small, "epochs": 10, "learning_rate": 5e-3})
        z = model.fit(chosen, rejected, objective=objective, label=label).transform(chosen)
        found[lambda_] = fresh_discriminator_accuracy(
            z[:400], objective[:400], z[400:], objective[400:], hidden=(32,), epochs=40
        )
    assert found[0.0] > 0.8
    assert found[3.0] < 0.7


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"latent": np.zeros(4)}, "latent must be a finite"),
        ({"latent": np.full((4, 2), np.nan)}, "latent must be a finite"),
        ({"test_latent": np.zeros((4, 3))}, "test_latent must have 2 columns"),
        ({"objective": [0, 1, 0]}, "objective must have shape"),
        ({"objective": [1, 1, 1, 1]}, "objective must hold two values"),
        ({"test_objective": [0, 1, 2, 0]}, "all of test_objective"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, object], said: str) -> None:
    given: dict[str, object] = {
        "latent": np.zeros((4, 2)), "objective": [0, 1, 0, 1],
        "test_latent": np.zeros((4, 2)), "test_objective": [0, 1, 0, 1],
    }  # fmt: skip
    with pytest.raises(ValueError, match=said):
        fresh_discriminator_accuracy(**{**given, **change})  # type: ignore[arg-type]
