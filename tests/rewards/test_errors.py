"""Input that makes no sense: one message each, which names the argument."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from causal_lm_opt.rewards import AdversarialReward, BradleyTerryReward, MultiHeadReward

X = np.random.default_rng(0).normal(size=(20, 3))
C = np.arange(20) % 2


def spoilt(value: float) -> Any:
    x = X.copy()
    x[4, 1] = value
    return x


@pytest.mark.parametrize(
    ("chosen", "rejected", "given", "said"),
    [
        (spoilt(np.nan), X, {}, "Input chosen contains NaN"),
        (X, spoilt(np.nan), {}, "Input rejected contains NaN"),
        (X, spoilt(np.inf), {}, "Input rejected contains infinity or a value too large"),
        (X, spoilt(1e300), {}, "Input rejected contains infinity or a value too large"),
        (X, X[:, :2], {}, "rejected has 2 features, but BradleyTerryReward is expecting 3"),
        (X, X[:19], {}, r"rejected must have as many rows as chosen \(20\), got 19"),
        (X[:0], X[:0], {}, r"Found array with 0 sample\(s\)"),
        (X[0], X[0], {}, "Expected 2D array, got 1D array"),
        (X, X, {"sample_weight": np.ones(3)}, r"sample_weight must have shape \(20,\)"),
        (X, X, {"sample_weight": np.where(C, 1, np.nan)}, "sample_weight has 10 NaN"),
        (X, X, {"sample_weight": np.where(C, 1, -1)}, "sample_weight must not be negative"),
        (X, X, {"sample_weight": np.zeros(20)}, "sample_weight is zero for every pair"),
        (X, X, {"label": np.full(20, 1.5)}, r"label is the probability in \[0, 1\].*1.5 at row 0"),
        (X, X, {"label": [1.0]}, r"label must have shape \(20,\)"),
        (X, X, {"groups": np.ones(3)}, r"groups must have shape \(20,\)"),
        (X, X, {"groups": np.ones(20)}, "needs at least two groups to part, got 1"),
        (X, X, {"objective": C[:5]}, r"objective must have shape \(20,\)"),
        (X, X, {"objective": np.zeros(20)}, "objective has one value only"),
        (X, X, {"objective": [None] * 20}, "objective has 20 missing labels"),
        (X, X, {"prompts": np.ones(20)}, r"prompts must be texts or an \(n, k\) array"),
        (X, X, {"prompts": np.ones((3, 2))}, r"prompts must have as many rows.*\(20\), got 3"),
        (X, X, {"validation": X}, "validation must be"),
        (X, X, {"validation": {"chosen": X}}, r"lacks \['rejected'\]"),
        (X, X, {"validation": {"chosen": X, "rejected": X, "y": 1}}, r"unknown keys \['y'\]"),
        (X, X, {"validation": (X, X[:, :2])}, "validation: rejected has 2 features"),
        (X, X, {"validation": (X, X[:2])}, "validation: rejected must have as many rows"),
    ],
    ids=range(26),
)
def test_what_is_fitted_is_checked(chosen, rejected, given, said) -> None:
    with pytest.raises((ValueError, TypeError), match=said):
        BradleyTerryReward(epochs=1, hidden=(4,)).fit(chosen, rejected, **given)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"epochs": 0}, "epochs must be an integer >= 1"),
        ({"epochs": None}, "epochs must be an integer >= 1"),
        ({"batch_size": 2.5}, "batch_size must be an integer >= 1"),
        ({"patience": 0}, "patience must be an integer >= 1"),
        ({"latent_dim": -1}, "latent_dim must be an integer >= 1"),
        ({"hidden": 512}, "hidden must be a tuple of integers"),
        ({"hidden": (8, 0)}, "hidden must be a tuple of integers"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"weight_decay": -1.0}, "weight_decay not negative"),
        ({"validation_fraction": 1.0}, r"validation_fraction must be in \[0, 1\)"),
        ({"calibration": "platt"}, 'calibration must be "temperature" or None'),
        ({"calibration": "temperature", "validation_fraction": 0}, "needs validation pairs"),
        ({"device": "moon"}, "device must be like"),
        ({"encoder": "cnn"}, 'encoder must be "mlp" or a torch.nn.Module'),
        ({"learning_rate": 1e30}, "training diverged in epoch"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_settings_are_checked_at_fit(settings, said) -> None:
    with pytest.raises(ValueError, match=said):
        BradleyTerryReward(**{"epochs": 2, "hidden": (4,), **settings}).fit(X, X[::-1])


def test_objectives_are_needed_where_heads_are() -> None:
    for kind in (MultiHeadReward, AdversarialReward):
        with pytest.raises(ValueError, match=f"{kind.__name__} needs objective="):
            kind().fit(X, X)
        with pytest.raises(ValueError, match="objective has one value only"):
            kind().fit(X, X, objective=np.zeros(20))
    with pytest.raises(ValueError, match="lambda_ must be a number >= 0"):
        AdversarialReward(-1.0).fit(X, X, objective=C)


def test_what_is_predicted_is_checked() -> None:
    model = MultiHeadReward(epochs=1, hidden=(4,)).fit(X, X[::-1], objective=C)
    for call in (lambda: model.predict(X), lambda: model.predict_proba(X, X)):
        with pytest.raises(ValueError, match=r"objective is needed: the model was fitted on \[.*0"):
            call()
    with pytest.raises(ValueError, match=r"objective 7 at row 0 is none of those"):
        model.predict(X, 7)
    with pytest.raises(ValueError, match="X has 2 features, but MultiHeadReward is expecting 3"):
        model.predict(X[:, :2], C)
    with pytest.raises(ValueError, match="Input rejected contains NaN"):
        model.predict_proba(X, spoilt(np.nan), C)
    with pytest.raises(ValueError, match="rejected must have as many rows"):
        model.score(X, X[:3], 0)
    assert model.transform(X).shape == (20, 512)  # the latent is the same for all objectives
    base = BradleyTerryReward(epochs=1, hidden=(4,)).fit(X, X[::-1])
    with pytest.raises(ValueError, match="the model was fitted without objectives"):
        base.predict(X, C)


@pytest.mark.parametrize("kind", [BradleyTerryReward, MultiHeadReward, AdversarialReward])
def test_unfitted_models_say_so(kind, tmp_path) -> None:
    model = kind()
    for call in (
        lambda: model.predict(X, C),
        lambda: model.predict_proba(X, X, C),
        lambda: model.score(X, X, C),
        lambda: model.transform(X),
        lambda: model.calibration_report(X, X, C),
        lambda: model.save(tmp_path / "x"),
    ):
        with pytest.raises(NotFittedError, match="is not fitted yet"):
            call()
