"""The semi-synthetic world of pieces: its truth by enumeration, its oracle on any text."""

from __future__ import annotations

import numpy as np
import pytest

from causal_lm_opt.datasets import PiecePolicy
from causal_lm_opt.simulation import PieceWorld

DESIGN = PiecePolicy(
    {
        "greet": ("Hello to you, dear friend.", "Hello to you, dear neighbour."),
        "ask": ("Will you join us today?",),
        "thank": ("We thank you for your time.",),
    },
    {"greet": (0.5, 0.5), "ask": (1.0,), "thank": (1.0,)},
    (("ask",), ("greet", "ask"), ("ask", "thank")),
    (0.5, 0.3, 0.2),
)
EFFECTS = {"greet": 4.0, "thank": -2.0}


@pytest.fixture(scope="module")
def world() -> PieceWorld:
    return PieceWorld(DESIGN, EFFECTS, base=10.0, scale=1.0)


def test_value_is_that_of_the_listed_texts(world):
    texts, probability = DESIGN.texts_support()
    assert world.value() == pytest.approx(probability @ world.mean_outcome(texts), abs=1e-12)
    tilted = DESIGN.tilt({"greet": 1.0})
    texts, probability = tilted.texts_support()
    assert world.value(tilted) == pytest.approx(probability @ world.mean_outcome(texts), abs=1e-12)
    assert world.best_value == 14.0
    g = world.mean_outcome(DESIGN.texts_support()[0])
    p = DESIGN.texts_support()[1]
    assert world.sd == pytest.approx(np.sqrt(p @ (g - p @ g) ** 2))


def test_the_oracle_reads_any_text(world):
    texts = ["", "Hello to you, dear", "hello TO you dear: we thank you for it", "thank you for"]
    assert world.mean_outcome(texts).tolist() == [10.0, 14.0, 12.0, 10.0]
    assert world.features(texts)["greet"].tolist() == [0.0, 1.0, 1.0, 0.0]
    assert world.features([]).shape == (0, 3)


def test_outcomes_have_the_stated_mean_and_spread(world):
    y = world.outcomes(["Will you join us today?"] * 20_000, 0)
    assert y.mean() == pytest.approx(10.0, abs=0.03)
    assert y.std() == pytest.approx(1.0, abs=0.02)


def test_refusals():
    with pytest.raises(ValueError, match="'wave' is no arm"):
        PieceWorld(DESIGN, {"wave": 1.0})
    with pytest.raises(ValueError, match="nothing tells the piece"):
        PieceWorld(DESIGN, EFFECTS, words=9)
    with pytest.raises(ValueError, match="scale"):
        PieceWorld(DESIGN, EFFECTS, scale=0.0)
