"""Entropy balancing against a peer package's weights (``make_balancing.py`` made them)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from causal_lm_opt import IPW, BalancingRatio

FOUND = json.loads(Path(__file__).with_name("balancing.json").read_text(encoding="utf-8"))
LOGGED, TARGET = np.array(FOUND["logged"]), np.array(FOUND["target"])
WEIGHTS = np.array(FOUND["weights"])


def test_the_weights_are_the_peers() -> None:
    ours = BalancingRatio().fit(LOGGED, TARGET).weights()
    np.testing.assert_allclose(ours / ours.sum(), WEIGHTS, rtol=1e-6)


def test_the_value_is_the_mean_under_the_peers_weights() -> None:
    y = np.sin(LOGGED[:, 0]) + 0.1 * LOGGED[:, 1]
    est = IPW(ratio=BalancingRatio()).fit(LOGGED, y, X_target=TARGET)
    np.testing.assert_allclose(est.value_, WEIGHTS @ y, rtol=1e-8)
