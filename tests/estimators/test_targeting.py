"""Retargeting: the weighted regression whose plug-in is doubly robust, in value and in direction.

Exact enumeration of a small world: two binary features, cell probabilities under the log and under
the policy, so that the population regression has no sampling error.
"""

from __future__ import annotations

import numpy as np
import pytest

from causal_lm_opt import DoublyRobust
from causal_lm_opt.estimators import targeting
from causal_lm_opt.estimators.targeting import WithinReach, regression_on, retarget

Z = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
LOGGING = np.array([0.4, 0.3, 0.2, 0.1])
POLICY = np.array([0.1, 0.2, 0.3, 0.4])
G = np.array([1.0, 3.0, 0.0, 2.0])  # linear in z
NEGATED = 2 * G.mean() - G


def rows(times: int = 1000) -> np.ndarray:
    """Cells of a log in exactly the proportions of LOGGING."""
    return np.repeat(np.arange(4), (LOGGING * times).astype(int))


def star(q: np.ndarray, weight: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """The retargeted model at the four cells."""
    at = rows()
    return q + retarget(basis[at], (G - q)[at], np.log(weight)[at])(basis)


RIGHT = POLICY / LOGGING
WRONG = np.array([2.0, 0.1, 0.5, 1.0])


@pytest.mark.parametrize(
    ("q", "weight"), [(NEGATED, RIGHT), (G, WRONG), (G, RIGHT)], ids=["q", "w", "none"]
)
def test_right_in_value_and_direction_if_weights_or_model_are(q, weight):
    """The plug-in mean of the policy is its value, and the order of the cells is right."""
    found = star(q, weight, Z)
    assert POLICY @ found == pytest.approx(POLICY @ G, abs=1e-3)
    assert np.corrcoef(found, G)[0, 1] > 0.9999


def curved() -> np.ndarray:
    """An outcome that a basis linear in z cannot hold."""
    return G + np.array([0.0, 0.0, 0.0, 3.0])


def test_right_weights_mend_the_value_even_where_the_basis_is_too_poor():
    """Negative control beside it: with wrong weights and a wrong model the value is off."""
    at, truth, q = rows(), curved(), np.zeros(4)

    def value(weight: np.ndarray) -> float:
        found = retarget(Z[at], (truth - q)[at], np.log(weight)[at])(Z)
        return float(POLICY @ (q + found))

    # the normal equations hold for the constant and z, whose means under w are the policy's
    assert value(RIGHT) == pytest.approx(POLICY @ truth, abs=1e-3)
    assert abs(value(WRONG) - POLICY @ truth) > 0.1


def test_a_constant_mends_the_value_and_not_the_direction():
    """A basis that does not vary leaves the wrong order as it was."""
    found = star(NEGATED, RIGHT, np.zeros((4, 1)))
    assert POLICY @ found == pytest.approx(POLICY @ G, abs=1e-9)
    assert np.corrcoef(found, G)[0, 1] == pytest.approx(-1.0)


def test_the_prediction_as_a_column_mends_a_wrong_sign_without_other_features():
    """Scale and sign of the model are mended where the basis is the model itself."""
    found = star(NEGATED, RIGHT, NEGATED[:, None])
    assert np.corrcoef(found, G)[0, 1] > 0.9999


@pytest.mark.parametrize("seed", range(5))
def test_weighted_residuals_vanish_whatever_the_penalty(seed):
    """The constant is not penalised: the doubly robust residual term is zero."""
    rng = np.random.default_rng(seed)
    z, y, ell = rng.normal(size=(60, 8)), rng.normal(size=60), rng.normal(size=60)
    ell[:3] = -np.inf
    weight = np.exp(ell)
    assert weight @ (y - retarget(z, y, ell)(z)) == pytest.approx(0.0, abs=1e-9 * weight.sum())


def test_plug_in_of_the_retargeted_model_is_the_doubly_robust_value():
    """The estimator's value with q* equals the mean of q* over the draws."""
    rng = np.random.default_rng(1)
    z, draws = rng.normal(size=(200, 3)), rng.normal(0.4, 1.0, (300, 3))
    y = z @ [1.0, -1.0, 0.5] + rng.normal(size=200)
    ell = 0.4 * z.sum(axis=1) - 0.24
    delta = retarget(z, y, ell)
    found = DoublyRobust().fit(
        z, y, logp_target=ell - 10, logp_logging=np.full(200, -10.0), X_target=draws,
        q_logged=delta(z), q_target=delta(draws),
    )  # fmt: skip
    assert found.value_ == pytest.approx(delta(draws).mean(), abs=1e-12)


def test_uniform_weights_and_little_penalty_are_least_squares():
    """With equal weights and a strong signal the slopes are those of ordinary least squares."""
    rng = np.random.default_rng(2)
    z = rng.normal(size=(500, 2))
    y = 3 + z @ [2.0, -1.0] + 0.01 * rng.normal(size=500)
    found = retarget(z, y, np.zeros(500))
    assert found.slopes / found.scale == pytest.approx([2.0, -1.0], abs=5e-3)
    assert found.effective_rows == pytest.approx(500)


def test_noise_is_shrunk_to_nothing():
    """Residuals that nothing explains leave next to no slopes."""
    rng = np.random.default_rng(3)
    found = retarget(rng.normal(size=(300, 5)), rng.normal(size=300), np.zeros(300))
    assert np.abs(found.slopes).max() < 0.06


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((np.zeros(3), np.zeros(3), np.zeros(3)), "basis"),
        ((np.full((3, 1), np.nan), np.zeros(3), np.zeros(3)), "basis"),
        ((np.zeros((3, 1)), np.zeros(2), np.zeros(3)), "residual"),
        ((np.zeros((3, 1)), np.zeros(3), np.full(3, -np.inf)), "log_ratio"),
        ((np.zeros((3, 1)), np.zeros(3), np.array([0.0, np.nan, 0.0])), "log_ratio"),
    ],
)
def test_bad_input_is_named(arguments, said):
    """One message that names the argument."""
    with pytest.raises(ValueError, match=said):
        retarget(*arguments)


def test_regression_on_features_of_texts():
    """The default outcome model reads texts through the features."""
    texts = [f"{'a' * (i % 4)} text" for i in range(80)]
    model = regression_on(lambda some: np.array([[t.count("a")] for t in some], dtype=float))
    model.fit(texts, [float(i % 4) for i in range(80)])
    assert model.predict(["aa text"])[0] == pytest.approx(2.0, abs=0.05)
    assert set(targeting.__all__) == {"Correction", "regression_on", "retarget"}


def test_only_rows_beyond_the_training_rows_reach_are_moved():
    """Training rows stay; a far row lies on its own ray from the centre, as far as the furthest."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(200, 3)) @ np.diag([1.0, 5.0, 1e-4])
    near = WithinReach().fit(z)
    np.testing.assert_allclose(near.transform(z), z, atol=1e-12)
    far = np.array([[0.0, 0.0, 1.0], [40.0, -90.0, 0.0]])
    moved = near.transform(far)
    np.testing.assert_allclose(near._distance(moved), near.reach_)
    along = (moved - near.centre_) / (far - near.centre_)
    np.testing.assert_allclose(along, along[:, [0]] * np.ones(3))
    assert (along < 1).all()
    alone = WithinReach().fit(np.ones((4, 2)))  # rows that do not differ
    np.testing.assert_allclose(alone.transform(np.ones((1, 2))), 1.0)


@pytest.mark.parametrize("seed", range(5))
def test_a_feature_that_training_rows_hardly_have_does_not_run_away(seed):
    """Without the step, predictions of the new rows are off by 19 to 51 sd of the outcome."""
    rng = np.random.default_rng(seed)
    made = rng.normal(size=(300, 2)) * [1.0, 1e-3]
    made[250:, 1] = 1.0  # a word of theirs alone
    y = made[:, 0] + rng.normal(size=300)
    model = regression_on(lambda rows: made[rows]).fit(np.arange(250), y[:250])
    off = model.predict(np.arange(250, 300)) - y[250:]
    assert np.sqrt(np.mean(off**2)) < 2.0
