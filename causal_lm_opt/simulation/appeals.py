"""A ready text world: short appeals to save water."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from causal_lm_opt.simulation.text_world import TextWorld

__all__ = ["text_world"]

GRAMMAR: Mapping[str, Mapping[str, Sequence[str]]] = {
    "opener": {
        "plain": ("Dear neighbour,", "Dear resident,"),
        "friendly": ("Hello neighbour,", "Hi there,"),
        "urgent": ("Attention please:", "Important notice:"),
    },
    "claim": {
        "saving": (
            "shorter showers cut your water bill.",
            "a tap left running costs you money.",
        ),
        "reservoir": (
            "our reservoir is half empty.",
            "the reservoir is at its lowest in ten years.",
        ),
        "others": (
            "most homes on your street already save water.",
            "your neighbours have started to save water.",
        ),
    },
    "tone": {
        "calm": ("Small steps are enough.", "Every litre helps."),
        "forceful": ("We must act now.", "There is no time to lose."),
    },
    "closing": {
        "thanks": ("Thank you!", "Many thanks."),
        "pledge": ("Will you sign the pledge?", "Please sign the pledge today."),
    },
}
EFFECTS: Mapping[tuple[str, ...], float] = {
    ("friendly",): 0.05,
    ("urgent",): -0.05,
    ("reservoir",): 0.10,
    ("others",): 0.15,
    ("pledge",): 0.10,
    ("forceful",): -0.05,
    ("reservoir", "forceful"): 0.15,
    ("others", "forceful"): -0.10,
}


def text_world(
    tilt: float = 1.0,
    *,
    wording_tilt: float = 0.0,
    entangled: float = 0.5,
    noise: Literal["binary", "normal"] = "binary",
) -> TextWorld:
    """Appeals to save water: 36 combinations of levels, 576 texts.

    Parameters
    ----------
    tilt : float
        How far the target turns to the reservoir, the forceful tone and the pledge (log odds).
    wording_tilt : float
        How far the target prefers each level's first wording, to which nobody responds.
    entangled : float
        Log odds by which the logger writes friendly openers and claims about others, so that texts
        of the log do not spread evenly.
    noise : {"binary", "normal"}

    Examples
    --------
    >>> world = text_world(noise="normal")
    >>> texts, p = world.logging.texts_support()
    >>> len(texts), texts[0]
    (576, 'Dear neighbour, shorter showers cut your water bill. Small steps are enough. Thank you!')
    """
    shape = TextWorld(GRAMMAR, logging={}, target={}, effects=EFFECTS, noise=noise)
    return replace(
        shape,
        logging=shape.policy({"friendly": entangled, "others": entangled}, name="logging"),
        target=shape.policy(
            {"reservoir": tilt, "forceful": tilt, "pledge": tilt},
            wording_tilt=wording_tilt, name="target",
        ),
        label=f"texts tilted by {tilt:g}",
    )  # fmt: skip
