"""Weights of a peer's entropy balancing, which ``test_balancing_peer.py`` holds ours against.

Run by hand in an environment with empirical-calibration 0.12 (and patsy, absl-py):
``python tests/reference/make_balancing.py`` writes ``balancing.json`` beside this file.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np

SEED = 20261121


def samples() -> tuple[np.ndarray, np.ndarray]:
    """Logged features (120, 3) and target features (80, 3): shifted, scaled, one binary."""
    rng = np.random.default_rng(SEED)
    logged = np.column_stack([rng.normal(size=120), 100 + 15 * rng.normal(size=120),
                              rng.integers(0, 2, 120)])  # fmt: skip
    target = np.column_stack([rng.normal(0.4, 0.8, 80), 106 + 12 * rng.normal(size=80),
                              rng.random(80) < 0.7])  # fmt: skip
    return logged, target


def main() -> None:
    import empirical_calibration as peer  # type: ignore[import-not-found]

    logged, target = samples()
    weights, success = peer.calibrate(
        logged, target, autoscale=True, objective=peer.Objective.ENTROPY
    )
    assert success
    off = (weights @ logged - target.mean(axis=0)) / logged.std(axis=0)
    assert np.abs(off).max() < 1e-7, off
    found = {
        "peer": f"empirical-calibration {version('empirical-calibration')}",
        "logged": logged.tolist(),
        "target": target.tolist(),
        "weights": weights.tolist(),
    }
    out = Path(__file__).with_name("balancing.json")
    out.write_text(json.dumps(found) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
