"""Words that no logged text holds: exact on small cases, level and power by simulation.

Level: 200 pairs of logs of one law; a lower end above 2 % would be an error of 1.96 standard errors
and 2 points. Power: a policy that coins 4.5 % or 30 % of its words.
"""

from __future__ import annotations

import numpy as np
import pytest

from causal_lm_opt.diagnostics import new_words
from causal_lm_opt.diagnostics.new_words import LoggedWords


def zipf_texts(n: int, rng: np.random.Generator, odd: float = 0.0) -> list[str]:
    """n texts of 12 words of a vocabulary with a long tail, a share of them coined."""
    rank = 1 / np.arange(1, 5001)
    words = rng.choice(5000, (n, 12), p=rank / rank.sum())
    coined = rng.random((n, 12)) < odd
    return [
        " ".join(f"x{rng.integers(10**9)}" if c else f"w{w}" for w, c in zip(a, b, strict=True))
        for a, b in zip(words, coined, strict=True)
    ]


def test_shares_are_those_of_counting() -> None:
    found = new_words(["a b", "b c", "b c", "d"], ["b e e f", "a d", "!"])
    assert found.share == pytest.approx((3 / 4 + 0 + 0) / 3)
    assert found.expected == pytest.approx((1 / 2 + 1 / 2 + 1) / 3)  # a; c, in one distinct text; d
    assert found.words == ("e", "f")


def test_a_repeated_text_is_nothing_new_and_case_is_no_word() -> None:
    found = new_words(["Join us.", "Stay here."], ["JOIN US", "stay here!"])
    assert (found.share, found.words) == (0.0, ())
    assert found.findings == []


def test_further_texts_of_the_same_law_are_expected() -> None:
    rng = np.random.default_rng(0)
    off = []
    for _ in range(200):
        found = new_words(zipf_texts(150, rng), zipf_texts(100, rng))
        assert found.expected > 0.05
        assert found.findings == []
        off.append((found.share - found.expected) / found.se)
    assert abs(np.mean(off)) < 0.3  # one text more or less
    assert 0.8 < np.std(off) < 1.25


@pytest.mark.parametrize(("odd", "severity"), [(0.045, 1), (0.3, 2)])
def test_coined_words_are_told(odd: float, severity: int) -> None:
    rng = np.random.default_rng(1)
    for _ in range(5):
        found = new_words(zipf_texts(1500, rng), zipf_texts(1500, rng, odd))
        ((level, said),) = found.findings
        assert level == severity
        assert "stand in no logged text" in said


def edited(texts: list[str], rng: np.random.Generator) -> list[str]:
    """Each text with two of its words replaced by common ones."""
    out = []
    for text in texts:
        words = text.split()
        for at in rng.choice(len(words), 2, replace=False):
            words[at] = f"w{rng.integers(20)}"
        out.append(" ".join(words))
    return out


def test_edited_versions_of_a_text_tell_nothing_of_further_texts() -> None:
    """Each text stands beside an edited one: their rare words would seem to be held twice."""
    rng = np.random.default_rng(5)
    off = []
    for _ in range(100):
        first = zipf_texts(100, rng)
        logged = [t for pair in zip(first, edited(first, rng), strict=True) for t in pair]
        drawn = zipf_texts(100, rng)
        found = new_words(logged, drawn[:50] + edited(drawn[50:], rng))
        assert found.findings == []
        off.append(found.share - found.expected)
        alone = new_words(first, drawn)
        assert LoggedWords.of(first).units == 100  # texts of their own are no versions
        assert alone.expected > found.expected > 0.05
    assert abs(np.mean(off)) < 0.02  # pairs that share one rare word alone stay two units


@pytest.mark.parametrize("versions", [3, 6, 10])
def test_many_versions_of_few_texts_are_as_many_texts(versions: int) -> None:
    rng = np.random.default_rng(versions)
    for _ in range(10):
        first = zipf_texts(100, rng)
        logged = [t for _ in range(versions) for t in edited(first, rng)]
        found = new_words(logged, edited(zipf_texts(300, rng), rng))
        assert found.findings == []
        assert LoggedWords.of(logged).units < 0.5 * len(logged)


@pytest.mark.parametrize("options", [5, 20, 60])
def test_most_texts_of_a_template_stay_texts_of_their_own(options: int) -> None:
    """Texts of three slots: they share most of their words, and few are versions of each other."""
    rng = np.random.default_rng(options)
    slots = rng.integers(0, options, (600, 3))
    texts = list(dict.fromkeys(f"dear a{a} please b{b} the c{c} today" for a, b, c in slots))
    assert LoggedWords.of(texts).units > 0.7 * len(texts)
    coined = [f"dear x{i} please b1 the y{i} today" for i in range(200)]
    ((level, _),) = new_words(texts, coined).findings
    assert level == 2


def test_versions_are_found_across_order_and_in_threes() -> None:
    texts = ["alpha beta gamma delta", "one two three four", "alpha beta gamma dogs"]
    texts += ["alpha beta gamma cats", "one two five six seven eight nine"]
    logged = LoggedWords.of(texts)
    assert logged.units == 3  # half of all words, not of the shorter text's alone
    assert logged.holds["alpha"] == 1
    assert logged.holds["one"] == 2


def test_texts_of_a_prompt_stand_together() -> None:
    rng = np.random.default_rng(2)
    logged, drawn = zipf_texts(100, rng), zipf_texts(20, rng, 0.2)
    alone = new_words(logged, drawn)
    again = new_words(logged, drawn * 10, codes_target=np.tile(np.arange(20), 10))
    assert again.se == pytest.approx(alone.se)
    assert new_words(logged, drawn * 10).se < 0.8 * alone.se


def test_no_texts() -> None:
    with pytest.raises(ValueError, match="texts of the policy"):
        new_words(["a"], [])
