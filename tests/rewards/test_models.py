"""What the three rewards promise: learning, symmetry, seeds, choice of the epoch, the adversary."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from causal_lm_opt.rewards import AdversarialReward, BradleyTerryReward, MultiHeadReward
from causal_lm_opt.rewards import _inputs as inputs

MODELS = [BradleyTerryReward, MultiHeadReward, AdversarialReward]


def fitted(kind: Any, pairs: Any, small: dict[str, Any], **settings: Any) -> Any:
    return kind(**{**small, **settings}).fit(
        pairs.chosen, pairs.rejected, objective=pairs.objective, label=pairs.label
    )


def weights(model: Any) -> list[Any]:
    return [p.detach().clone() for p in model.network_.parameters()]


def gaps(model: Any, x: Any) -> Any:
    """Rewards less the first: what is common to all has no meaning."""
    rewards = model.predict(x)
    return rewards - rewards[0]


def same(a: list[Any], b: list[Any]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


# ------------------------------------------------------------------ learning
@pytest.mark.parametrize("kind", MODELS)
def test_the_known_reward_is_learnt(kind, pairs, fresh, small) -> None:
    model = fitted(kind, pairs, small, epochs=15, lambda_=0.1) if kind is AdversarialReward else (
        fitted(kind, pairs, small, epochs=15)
    )  # fmt: skip
    found = model.score(fresh.chosen, fresh.rejected, fresh.objective, label=fresh.label)
    assert found > 0.8  # 0.86 at best
    assert model.objectives_.tolist() == ["kind", "short"]


@pytest.mark.parametrize("kind", MODELS)
def test_swapping_chosen_and_rejected_flips_probabilities(kind, pairs, fresh, small) -> None:
    model = fitted(kind, pairs, small)
    p = model.predict_proba(fresh.chosen, fresh.rejected, fresh.objective)
    q = model.predict_proba(fresh.rejected, fresh.chosen, fresh.objective)
    np.testing.assert_allclose(p + q, 1.0, atol=1e-6)
    gap = model.predict(fresh.chosen, fresh.objective) - model.predict(
        fresh.rejected, fresh.objective
    )
    np.testing.assert_allclose(p, 1 / (1 + np.exp(-gap)), atol=1e-12)
    assert model.score(fresh.chosen, fresh.rejected, fresh.objective) == pytest.approx(
        1 - model.score(fresh.rejected, fresh.chosen, fresh.objective)
    )


def test_swapping_training_pairs_with_their_labels_changes_rounding_only(pairs, small) -> None:
    model = BradleyTerryReward(**small).fit(pairs.chosen, pairs.rejected, label=pairs.label)
    other = BradleyTerryReward(**small).fit(pairs.rejected, pairs.chosen, label=1 - pairs.label)
    np.testing.assert_allclose(gaps(model, pairs.chosen), gaps(other, pairs.chosen), atol=1e-2)


def test_latent_and_head_make_the_reward(pairs, small) -> None:
    model = fitted(MultiHeadReward, pairs, small)
    z = model.transform(pairs.chosen)
    assert z.shape == (600, 8)
    head = model.network_.heads
    rewards = z @ head.weight.detach().double().numpy().T
    own = rewards[np.arange(600), (pairs.objective == "short").astype(int)]
    np.testing.assert_allclose(model.predict(pairs.chosen, pairs.objective), own, atol=1e-5)
    np.testing.assert_allclose(model.predict(pairs.chosen, "short"), rewards[:, 1], atol=1e-5)


def test_rows_and_batches_do_not_change_a_prediction(pairs, small) -> None:
    model = fitted(BradleyTerryReward, pairs, small)
    whole = model.predict(pairs.chosen, pairs.objective)
    one = [model.predict(pairs.chosen[i : i + 1], pairs.objective[i])[0] for i in range(5)]
    np.testing.assert_allclose(one, whole[:5], atol=1e-5)


def test_three_objectives_and_numbers_as_labels(pairs, small) -> None:
    objective = np.arange(600) % 3
    model = AdversarialReward(**small).fit(pairs.chosen, pairs.rejected, objective=objective)
    assert model.objectives_.tolist() == [0, 1, 2]
    assert model.network_.heads.out_features == 3
    assert 0 <= model.history_[-1]["discriminator_accuracy"] <= 1


# ------------------------------------------------------------------ seeds, clones, pickles
@pytest.mark.parametrize("kind", MODELS)
def test_a_seed_repeats_a_fit_and_leaves_torch_alone(kind, pairs, small) -> None:
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    first = fitted(kind, pairs, small)
    assert torch.equal(torch.rand(3), wanted)
    again = fitted(kind, pairs, small)
    assert same(weights(first), weights(again))
    assert first.history_ == again.history_
    assert not same(weights(first), weights(fitted(kind, pairs, small, random_state=1)))
    for model in (clone(first), pickle.loads(pickle.dumps(first))):
        params = model.get_params()
        assert params == first.get_params()
    twin = pickle.loads(pickle.dumps(first))
    np.testing.assert_array_equal(
        twin.predict(pairs.chosen, pairs.objective), first.predict(pairs.chosen, pairs.objective)
    )


# ------------------------------------------------------------------ the adversary
def test_no_adversary_at_lambda_zero_is_multi_head_bit_for_bit(pairs, small) -> None:
    plain = fitted(MultiHeadReward, pairs, small)
    zero = fitted(AdversarialReward, pairs, small, lambda_=0.0)
    assert same(weights(plain), weights(zero))
    shared = [{k: e[k] for k in e if not k.startswith("disc")} for e in zero.history_]
    assert shared == plain.history_
    one = fitted(AdversarialReward, pairs, small, lambda_=1.0)
    assert not same(weights(plain), weights(one))


def test_an_encoder_with_dropout_sees_the_same_masks_at_lambda_zero(pairs, small) -> None:
    encoder = torch.nn.Sequential(
        torch.nn.Linear(6, 16), torch.nn.Dropout(0.3), torch.nn.GELU(), torch.nn.Linear(16, 4)
    )
    plain = fitted(MultiHeadReward, pairs, small, encoder=encoder)
    zero = fitted(AdversarialReward, pairs, small, encoder=encoder, lambda_=0.0)
    assert same(weights(plain), weights(zero))


def test_the_discriminators_own_rate_moves_the_discriminator_alone_at_lambda_zero(
    pairs, small
) -> None:
    same_rate = fitted(AdversarialReward, pairs, small, lambda_=0.0)
    stated = fitted(
        AdversarialReward, pairs, small, lambda_=0.0,
        discriminator_learning_rate=small["learning_rate"],
    )  # fmt: skip
    fast = fitted(AdversarialReward, pairs, small, lambda_=0.0, discriminator_learning_rate=5e-2)
    assert stated.history_ == same_rate.history_  # the default is the network's rate
    assert same(weights(fast), weights(fitted(MultiHeadReward, pairs, small)))
    assert fast.history_ != same_rate.history_
    with pytest.raises(ValueError, match="discriminator_learning_rate must be positive"):
        fitted(AdversarialReward, pairs, small, discriminator_learning_rate=0.0)


@pytest.mark.parametrize(("rates", "swings"), [((1.0, 1.0), True), ((16.0, 1.0), False)])
def test_a_fast_discriminator_damps_the_game_of_two_shifted_latents(
    rates: tuple[float, float], swings: bool
) -> None:
    """The smallest game: latents c m / 2 + e, variance 1, logit phi u, exact gradients.

    By the linearised formula it swings unless the first rate is at least four times the second.
    """
    nodes, mass = np.polynomial.hermite_e.hermegauss(41)
    mass = mass / mass.sum()
    m, phi, low = 1.0, 0.0, 1.0
    for _ in range(4000):
        u = m / 2 + nodes  # by symmetry the objective +1 is enough
        wrong = 1 / (1 + np.exp(phi * u))
        pull, push = float(mass @ (wrong * u)), float(mass @ wrong) * phi / 2
        phi, m = phi + 0.02 * rates[0] * pull, m - 0.02 * rates[1] * push
        low = min(low, m)
    assert (low < -0.01) is swings
    assert low > -0.5


def test_reversal_hides_the_objective_from_the_latent(small) -> None:
    """A column tells the objective and matters to nobody's choice."""
    rng = np.random.default_rng(7)
    objective = rng.integers(0, 2, 800)
    chosen, rejected = rng.normal(size=(2, 800, 4))
    for x in (chosen, rejected):
        x[:, 3] = 2 * objective - 1 + 0.3 * rng.normal(size=800)
    label = (chosen[:, 0] > rejected[:, 0]).astype(float)
    seen = {}
    for lambda_ in (0.0, 3.0):
        model = AdversarialReward(lambda_, **{**small, "epochs": 10, "learning_rate": 5e-3})
        model.fit(chosen, rejected, objective=objective, label=label)
        last = model.history_[-1]
        seen[lambda_] = (last["discriminator_accuracy"], last["validation_accuracy"])
    assert seen[0.0][0] > 0.95
    assert seen[3.0][0] < 0.75
    assert seen[3.0][1] > 0.9


# ------------------------------------------------------------------ epochs
def test_the_best_epoch_is_restored(pairs, fresh, small) -> None:
    validation = {"chosen": fresh.chosen, "rejected": fresh.rejected, "label": fresh.label}
    model = BradleyTerryReward(**{**small, "epochs": 12, "learning_rate": 5e-2})
    model.fit(pairs.chosen, pairs.rejected, label=pairs.label, validation=validation)
    accuracies = [epoch["validation_accuracy"] for epoch in model.history_]
    assert model.best_epoch_ == int(np.argmax(accuracies)) + 1
    assert model.score(fresh.chosen, fresh.rejected, label=fresh.label) == pytest.approx(
        max(accuracies), abs=1e-6
    )
    stopped = clone(model).set_params(patience=1)
    stopped.fit(pairs.chosen, pairs.rejected, label=pairs.label, validation=validation)
    falls = [i for i in range(1, 12) if accuracies[i] <= max(accuracies[:i])]
    assert stopped.n_epochs_ == falls[0] + 1
    assert stopped.history_ == model.history_[: falls[0] + 1]


def test_without_validation_the_last_epoch_is_kept(pairs, small) -> None:
    model = fitted(BradleyTerryReward, pairs, small, validation_fraction=0)
    assert model.best_epoch_ == model.n_epochs_ == 6
    assert sorted(model.history_[0]) == ["epoch", "train_loss"]


def test_validation_keeps_groups_whole(pairs) -> None:
    rng = np.random.RandomState(0)
    held = inputs.validation_rows(600, pairs.groups, 0.2, rng)
    assert 0.15 < held.mean() < 0.27
    assert not set(pairs.groups[held]) & set(pairs.groups[~held])
    assert inputs.validation_rows(2, None, 0.9, rng).sum() == 1  # never all


# ------------------------------------------------------------------ weights and labels
def test_a_pair_of_weight_zero_is_no_pair(pairs, small) -> None:
    counted = np.arange(600) % 3 > 0
    some = pairs.take(counted)
    model = BradleyTerryReward(**small).fit(some.chosen, some.rejected, label=some.label)
    other = BradleyTerryReward(**small).fit(
        pairs.chosen, pairs.rejected, label=pairs.label, sample_weight=counted.astype(float)
    )
    assert same(weights(model), weights(other))


def test_the_scale_of_weights_does_not_matter_and_their_ratio_does(pairs, small) -> None:
    w = np.where(pairs.objective == "kind", 5.0, 0.25)
    given = {"label": pairs.label}

    def fit(weight):
        return BradleyTerryReward(**small).fit(
            pairs.chosen, pairs.rejected, sample_weight=weight, **given
        )

    np.testing.assert_allclose(
        gaps(fit(w), pairs.chosen), gaps(fit(4 * w), pairs.chosen), atol=1e-4
    )
    kind = pairs.take(pairs.objective == "kind")
    heavy = fit(w).score(kind.chosen, kind.rejected, label=kind.label)
    light = fit(1 / w).score(kind.chosen, kind.rejected, label=kind.label)
    assert heavy > light + 0.1


def test_full_batches_make_weights_equal_repetition_up_to_rounding(small) -> None:
    """One gradient step a pass: then it holds for the fit too, not only for the risk."""
    rng = np.random.default_rng(3)
    x, s = rng.normal(size=(2, 40, 3)), rng.integers(0, 4, 40)
    model = BradleyTerryReward(**{**small, "epochs": 20, "batch_size": 200}, validation_fraction=0)
    weighted = clone(model).fit(x[0], x[1], sample_weight=s)
    repeated = clone(model).fit(np.repeat(x[0], s, axis=0), np.repeat(x[1], s, axis=0))
    np.testing.assert_allclose(gaps(weighted, x[0]), gaps(repeated, x[0]), atol=1e-3)


# ------------------------------------------------------------------ inputs
def test_prompts_as_features_stand_beside_each_text(pairs, small) -> None:
    prompts = np.random.default_rng(0).normal(size=(600, 2))
    model = BradleyTerryReward(**small).fit(
        pairs.chosen, pairs.rejected, prompts=prompts, label=pairs.label
    )
    assert model.network_.encoder[0].in_features == 8
    assert model.predict(pairs.chosen, prompts=prompts).shape == (600,)
    with pytest.raises(ValueError, match="the 2 columns that the model was fitted with, got 0"):
        model.predict(pairs.chosen)


class Lengths:
    """Embeds a text as its length and its number of exclamation marks; remembers what it read."""

    def transform(self, texts: Any) -> Any:
        self.read = list(texts)
        return np.array([[len(t), t.count("!")] for t in texts], dtype=float)


def test_texts_are_embedded_with_their_prompts(small) -> None:
    chosen, rejected = ["good!", "fine!!", "yes!", "ok!"] * 5, ["bad", "poor", "no", "well"] * 5
    prompts = ["How?"] * 20
    embed = Lengths()
    model = BradleyTerryReward(**small, embed=embed, standardize=True)
    model.fit(chosen, rejected, prompts=prompts)
    assert model.score(chosen, rejected, prompts=prompts) == 1.0
    assert embed.read[0] == "How?\n\nbad"
    with pytest.raises(ValueError, match="fitted with prompt texts, and here they are missing"):
        model.predict(chosen)
    with pytest.raises(TypeError, match="prompts are texts, but X is not"):
        model.predict(np.ones((20, 2)), prompts=prompts)
    with pytest.raises(TypeError, match=r"chosen holds texts: pass embed="):
        BradleyTerryReward(**small).fit(chosen, rejected)


def test_standardising_makes_scale_and_shift_irrelevant(pairs, small) -> None:
    settings = {**small, "standardize": True}
    model = BradleyTerryReward(**settings).fit(pairs.chosen, pairs.rejected, label=pairs.label)
    other = BradleyTerryReward(**settings).fit(
        1e-3 * pairs.chosen + 5, 1e-3 * pairs.rejected + 5, label=pairs.label
    )
    np.testing.assert_allclose(
        gaps(model, pairs.chosen), gaps(other, 1e-3 * pairs.chosen + 5), atol=0.05
    )
    both = np.concatenate([pairs.chosen, pairs.rejected])
    np.testing.assert_allclose(model.center_, both.mean(0), atol=1e-5)
    np.testing.assert_allclose(model.scale_, both.std(0), rtol=1e-5)


def test_a_module_as_encoder_starts_from_its_weights_and_is_not_changed(pairs, small) -> None:
    encoder = torch.nn.Linear(6, 3, dtype=torch.float64)
    before = encoder.weight.detach().clone()
    model = BradleyTerryReward(**{**small, "learning_rate": 1e-9}, encoder=encoder)
    model.fit(pairs.chosen, pairs.rejected, label=pairs.label)
    assert torch.equal(encoder.weight, before)
    assert model.latent_dim_ == 3
    assert model.network_.dtype == torch.float64
    z = pairs.chosen @ before.numpy().T + encoder.bias.detach().numpy()
    np.testing.assert_allclose(model.transform(pairs.chosen), z, atol=1e-4)
    with pytest.raises(ValueError, match="encoder cannot read rows of 6 features"):
        BradleyTerryReward(encoder=torch.nn.Linear(5, 3)).fit(pairs.chosen, pairs.rejected)
    with pytest.raises(ValueError, match=r"must map \(n, 6\) to \(n, k\)"):
        BradleyTerryReward(encoder=torch.nn.Flatten(0)).fit(pairs.chosen, pairs.rejected)


def test_calibration_divides_rewards_by_the_temperature(pairs, fresh, small) -> None:
    settings = {**small, "epochs": 20, "validation_fraction": 0.3}
    plain = BradleyTerryReward(**settings).fit(pairs.chosen, pairs.rejected, label=pairs.label)
    model = BradleyTerryReward(**settings, calibration="temperature")
    model.fit(pairs.chosen, pairs.rejected, label=pairs.label)
    np.testing.assert_allclose(
        model.predict(fresh.chosen) * model.temperature_, plain.predict(fresh.chosen), rtol=1e-9
    )
    assert model.temperature_ != 1.0
    report = model.calibration_report(fresh.chosen, fresh.rejected, label=fresh.label)
    before = plain.calibration_report(fresh.chosen, fresh.rejected, label=fresh.label)
    assert report.log_loss < before.log_loss
    assert report.accuracy == before.accuracy == pytest.approx(
        model.score(fresh.chosen, fresh.rejected, label=fresh.label)
    )  # fmt: skip


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU on this machine")
@pytest.mark.parametrize("kind", MODELS)
def test_gpu_equals_cpu(kind, pairs, fresh, small) -> None:
    found = [
        fitted(kind, pairs, small, device=device).predict_proba(
            fresh.chosen, fresh.rejected, fresh.objective
        )
        for device in ("cpu", "cuda")
    ]
    np.testing.assert_allclose(found[0], found[1], atol=5e-3)


def test_a_grid_search_slices_both_texts_of_a_pair(pairs, small) -> None:
    model = BradleyTerryReward(**{**small, "epochs": 2})
    won = pairs.label == 1
    chosen = np.where(won[:, None], pairs.chosen, pairs.rejected)
    rejected = np.where(won[:, None], pairs.rejected, pairs.chosen)
    search = GridSearchCV(model, {"learning_rate": [1e-6, 1e-2]}, cv=2, error_score="raise")
    search.fit(chosen, rejected)
    assert search.best_params_ == {"learning_rate": 1e-2}


def test_a_frame_keeps_its_column_names(pairs, small) -> None:
    names = list("abcdef")
    chosen, rejected = (pd.DataFrame(x, columns=names) for x in (pairs.chosen, pairs.rejected))
    model = BradleyTerryReward(**small).fit(chosen, rejected, label=pairs.label)
    plain = BradleyTerryReward(**small).fit(pairs.chosen, pairs.rejected, label=pairs.label)
    np.testing.assert_array_equal(model.predict(chosen), plain.predict(pairs.chosen))
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(chosen.rename(columns={"a": "z"}))
