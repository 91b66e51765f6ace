"""Scraps of logged texts strung together are told, and texts of the logging policy are not.

40 logs of a closed world, draws of the same policy: never told (the lower limit of an excess of 0
would have to exceed .05).
"""

from __future__ import annotations

import numpy as np
import pytest

from causal_lm_opt.diagnostics import LoggedPairs, new_pairs

SLOTS = [["Thank you.", "Good question.", "Well."], ["Go step by step.", "Just try it.", "Ask us."],
         ["Good luck!", "That is all.", "Write again."]]  # fmt: skip


def whole(rng: np.random.Generator, n: int) -> list[str]:
    return [" ".join(slot[rng.integers(3)] for slot in SLOTS) for _ in range(n)]


def scraps(rng: np.random.Generator, n: int) -> list[str]:
    """Whole texts that lose their third word."""
    return [" ".join(w for i, w in enumerate(text.split()) if i != 2) for text in whole(rng, n)]


def test_the_logging_policy_s_own_texts_are_never_told() -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        found = new_pairs(whole(rng, 150), whole(rng, 200), codes_target=np.arange(200) // 4)
        assert not found.findings


def test_scraps_are_told_with_their_share() -> None:
    rng = np.random.default_rng(0)
    found = new_pairs(whole(rng, 300), whole(rng, 300) + scraps(rng, 300))
    assert found.share == pytest.approx(0.5, abs=0.1)
    assert found.expected < 0.05
    ((severity, said),) = found.findings
    assert severity == 1
    assert "put words side by side that stand so in no logged text" in said


def test_free_texts_tell_nothing() -> None:
    """Of words in any order nearly every text has a pair of its own."""
    rng = np.random.default_rng(1)
    words = [f"w{i}" for i in range(200)]
    log, policy = ([" ".join(rng.choice(words, 12)) for _ in range(200)] for _ in range(2))
    found = new_pairs(log, policy)
    assert found.expected > 0.95
    assert not found.findings


def test_few_texts_tell_nothing_and_prompts_make_texts_units() -> None:
    log = ["join us now"] * 6
    assert not new_pairs(log, ["us join now"] * 9).findings
    assert LoggedPairs.of(log).expected == 1.0
    assert LoggedPairs.of(log, range(6)).expected == 0.0
    with pytest.raises(ValueError, match="new_pairs needs logged texts"):
        new_pairs([], ["a"])
