"""Pairs whose reward is known, and small settings that learn it."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

#: Whole folder: these tests are left out where the extra `lm` is not installed.
collect_ignore_glob = ["test_*.py"] if importlib.util.find_spec("torch") is None else []


@dataclass(frozen=True)
class PairsOfKnownReward:
    """Features (n, d), objective (n,), and the label (n,) the first of two gets under it."""

    chosen: Any
    rejected: Any
    objective: Any
    label: Any
    groups: Any

    def take(self, rows: Any) -> PairsOfKnownReward:
        return PairsOfKnownReward(
            self.chosen[rows], self.rejected[rows], self.objective[rows], self.label[rows],
            self.groups[rows],
        )  # fmt: skip


def make_pairs(n: int, d: int = 6, seed: int = 0) -> PairsOfKnownReward:
    """Objective "kind" goes by the first feature, "short" by the second."""
    rng = np.random.default_rng(seed)
    chosen, rejected = rng.normal(size=(2, n, d)).astype(np.float32)
    objective = rng.choice(["kind", "short"], n)
    column = np.where(objective == "kind", 0, 1)
    gap = (chosen - rejected)[np.arange(n), column]
    label = (rng.random(n) < 1 / (1 + np.exp(-3 * gap))).astype(float)
    return PairsOfKnownReward(chosen, rejected, objective, label, rng.integers(0, n // 5, n))


@pytest.fixture(scope="session")
def pairs() -> PairsOfKnownReward:
    return make_pairs(600)


@pytest.fixture(scope="session")
def fresh() -> PairsOfKnownReward:
    return make_pairs(400, seed=1)


@pytest.fixture
def small() -> dict[str, Any]:
    """Settings of a network that learns in a blink."""
    return {"hidden": (16,), "latent_dim": 8, "learning_rate": 1e-2, "epochs": 6}
