"""The invented world of the shipped experiment: its messages, its readers and their answers."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causal_lm_opt.datasets._vocabulary import ArmSequence
from causal_lm_opt.datasets.pieces import N_PIECES, PiecePolicy

__all__: list[str] = []

WORDINGS: dict[str, tuple[str, ...]] = {
    "shade": (
        "A grown tree cools a street by several degrees.",
        "Trees keep pavements cool in July.",
        "On hot days you will be glad of the shade.",
    ),
    "birds": (
        "Every tree is a home for birds.",
        "Blackbirds and tits move in within a few years.",
        "You will hear birdsong from your window.",
    ),
    "neighbours": (
        "Your neighbours have already signed up.",
        "Half of your street is coming.",
        "People near you plant together every autumn.",
    ),
    "easy": (
        "It takes one hour, and we bring the spades.",
        "No experience is needed.",
        "We dig the holes, you plant the trees.",
    ),
    "cost": (
        "Each tree costs the town 300 in its first year.",
        "The trees are paid for out of local taxes.",
        "The town pays for water and care.",
    ),
    "rule": (
        "The council asks every household to take part.",
        "Every street has been given a target.",
        "Residents are expected to help.",
    ),
}
_WORDING_PROB = (0.5, 0.3, 0.2)

# Chance of each arm to be dealt next, relative to the arms that are left; not uniform on purpose.
_ARM_SHARE = {
    "shade": 0.24,
    "birds": 0.20,
    "neighbours": 0.14,
    "easy": 0.16,
    "cost": 0.14,
    "rule": 0.12,
}
_LENGTH_PROB = {1: 0.15, 2: 0.50, 3: 0.35}

# The answer, 0 to 100: how likely are you to come to the tree-planting day?
INTERCEPT = 42.0
ARM_EFFECT = {
    "shade": 3.0,
    "birds": 2.0,
    "neighbours": 6.0,
    "easy": 5.0,
    "cost": -5.0,
    "rule": -7.0,
}
NEIGHBOURS_AND_EASY = 6.0
PER_EXTRA_PIECE = -1.5

# Readers: effects are of deviations from the population's mean, so that true_mean is their average.
INTERESTS = (1, 2, 3, 4, 5)
INTEREST_PROB = (0.15, 0.20, 0.30, 0.20, 0.15)
INTEREST_MEAN = 3.0
PER_INTEREST = 4.0
AGES = (18, 79)
AGE_MEAN = 48.5
PER_YEAR = -0.08
# Noise: a sum of three uniforms, bell-shaped and bounded, so that no answer has to be clipped.
NOISE_HALF_WIDTH = 15.0

# In the observational companion, how much each step of interest tilts who gets which arm.
CONFOUNDING = {"neighbours": 0.7, "cost": -0.7}


def design_policy() -> PiecePolicy:
    """Return the randomisation: the length, then arms one by one without replacement, unequal."""
    prob: dict[ArmSequence, float] = {}
    for length, length_prob in _LENGTH_PROB.items():
        for sequence in permutations(_ARM_SHARE, length):
            p, left = length_prob, 1.0
            for arm in sequence:
                p *= _ARM_SHARE[arm] / left
                left -= _ARM_SHARE[arm]
            prob[sequence] = p
    return PiecePolicy(
        wordings=dict(WORDINGS),
        wording_prob=dict.fromkeys(WORDINGS, _WORDING_PROB),
        sequences=tuple(prob),
        sequence_prob=np.array(list(prob.values())),
        name="logging",
    )


def target_policies(design: PiecePolicy) -> dict[str, PiecePolicy]:
    """Return the three target policies, from a mild to a strong shift."""
    policies = (
        design.tilt({"cost": -0.6}, name="less_cost"),
        design.tilt({"neighbours": 0.9, "easy": 0.6, "rule": -0.9}, name="friendly"),
        design.condition(include=("neighbours", "easy"), name="neighbours_and_easy"),
    )
    return {policy.name: policy for policy in policies}


def interest_policies(design: PiecePolicy) -> dict[int, PiecePolicy]:
    """Return who gets which text in the observational companion, by interest."""
    return {
        interest: design.tilt(
            {arm: theta * (interest - INTEREST_MEAN) for arm, theta in CONFOUNDING.items()},
            name=f"interest_{interest}",
        )
        for interest in INTERESTS
    }


def mean_answer(arms: pd.DataFrame) -> NDArray[np.float64]:
    """Mean answer of the population to texts with these arms, in points of 0 to 100.

    Parameters
    ----------
    arms : DataFrame of shape (n, 7)
        0/1 columns of the six arms, and ``n_pieces``.

    Returns
    -------
    (n,) float64 array
    """
    missing = [column for column in (*WORDINGS, N_PIECES) if column not in arms.columns]
    if missing:
        raise ValueError(f"arms lacks the columns {missing}; design.arms_of(texts) makes them all.")
    z = {column: arms[column].to_numpy(dtype=np.float64) for column in (*WORDINGS, N_PIECES)}
    mean = np.full(len(arms), INTERCEPT)
    for arm, effect in ARM_EFFECT.items():
        mean += effect * z[arm]
    mean += NEIGHBOURS_AND_EASY * z["neighbours"] * z["easy"]
    mean += PER_EXTRA_PIECE * (z[N_PIECES] - 1.0)
    return mean


def reader_effect(age: NDArray[np.int64], interest: NDArray[np.int64]) -> NDArray[np.float64]:
    """How far readers lie above the population's mean, whatever the text, in points."""
    effect: NDArray[np.float64] = PER_YEAR * (age - AGE_MEAN) + PER_INTEREST * (
        interest - INTEREST_MEAN
    )
    return effect
