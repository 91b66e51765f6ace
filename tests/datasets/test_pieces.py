"""PiecePolicy against brute force: every formula is checked by listing all texts."""

from __future__ import annotations

import itertools
import math
import pickle
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causal_lm_opt.datasets import PiecePolicy

# Ambiguous on purpose: "A B" is one piece of arm c, and also the pieces "A" and "B" of arms a, b.
WORDINGS = {"a": ("A", "A A"), "b": ("B", "A B"), "c": ("A B", "C")}
WORDING_PROB = {"a": (0.7, 0.3), "b": (0.6, 0.4), "c": (0.25, 0.75)}
SEQUENCES = (("a",), ("c",), ("a", "b"), ("b", "a"), ("c", "a"), ("a", "b", "c"))
PROB = (0.1, 0.15, 0.2, 0.25, 0.05, 0.25)


@pytest.fixture
def policy() -> PiecePolicy:
    return PiecePolicy(WORDINGS, WORDING_PROB, SEQUENCES, np.array(PROB), name="tiny")


def brute_force(policy: PiecePolicy) -> dict[str, float]:
    """P(text) by listing every choice of wordings; independent of the parser."""
    total: dict[str, float] = {}
    for sequence, p in zip(policy.sequences, policy.sequence_prob, strict=True):
        options = [
            list(zip(policy.wordings[arm], policy.wording_prob[arm], strict=True))
            for arm in sequence
        ]
        for choice in itertools.product(*options):
            text = " ".join(piece for piece, _ in choice)
            share = float(p) * math.prod(prob for _, prob in choice)
            total[text] = total.get(text, 0.0) + share
    return total


def test_log_prob_adds_up_all_parses_of_an_ambiguous_text(policy: PiecePolicy) -> None:
    # "A B": piece of c alone (.15 * .25), or "A" of a then "B" of b (.2 * .7 * .6); b alone is
    # not a sequence of this policy.
    assert policy.log_prob(["A B"])[0] == pytest.approx(math.log(0.15 * 0.25 + 0.2 * 0.7 * 0.6))


def test_log_prob_equals_brute_force(policy: PiecePolicy) -> None:
    truth = brute_force(policy)
    np.testing.assert_allclose(
        policy.log_prob(list(truth)), np.log(list(truth.values())), rtol=0, atol=1e-13
    )


def test_support_of_texts_sums_to_one_and_equals_brute_force(policy: PiecePolicy) -> None:
    texts, prob = policy.texts_support()
    assert prob.sum() == pytest.approx(1.0, abs=1e-14)
    assert len(set(texts)) == len(texts)
    assert dict(zip(texts, prob, strict=True)) == pytest.approx(brute_force(policy))
    np.testing.assert_allclose(np.exp(policy.log_prob(texts)), prob, rtol=1e-12)


@pytest.mark.parametrize("text", ["", " ", "A  B", "A B ", " A", "a", "B B", "A B C D", "AB"])
def test_a_text_outside_the_support_has_probability_zero(policy: PiecePolicy, text: str) -> None:
    assert policy.log_prob([text])[0] == -math.inf


def test_order_and_repetition_of_texts_do_not_matter(policy: PiecePolicy) -> None:
    texts, _ = policy.texts_support()
    shuffled = np.random.default_rng(0).choice(np.array(texts, dtype=object), size=50)
    fresh = PiecePolicy(WORDINGS, WORDING_PROB, SEQUENCES, np.array(PROB))
    one_by_one = [float(fresh.log_prob([text])[0]) for text in shuffled]
    np.testing.assert_array_equal(policy.log_prob(pd.Series(shuffled)), one_by_one)
    assert policy.log_prob([]).shape == (0,)


def test_sample_frequencies_pass_a_chi_square_test(policy: PiecePolicy) -> None:
    n = 20_000
    texts, prob = policy.texts_support()
    counts = Counter(policy.sample(n, random_state=1))
    assert set(counts) <= set(texts)
    observed = np.array([counts[text] for text in texts])
    keep = prob * n > 5
    chi2 = ((observed - n * prob)[keep] ** 2 / (n * prob)[keep]).sum()
    assert stats.chi2.sf(chi2, keep.sum() - 1) > 0.001


def test_sample_arms_are_the_arms_of_the_sample() -> None:
    clear = PiecePolicy(
        {"x": ("X1", "X2"), "y": ("Y",)},
        {"x": (0.5, 0.5), "y": (1.0,)},
        (("x",), ("y", "x"), ("x", "y")),
        np.array([0.2, 0.3, 0.5]),
    )
    texts = clear.sample(200, random_state=3)
    pd.testing.assert_frame_equal(clear.arms_of(texts), clear.sample_arms(200, random_state=3))
    assert clear.sample(0, random_state=0) == []
    assert clear.sample_arms(0).shape == (0, 3)
    assert clear.arms_of([]).shape == (0, 3)


def test_a_stored_random_state_gives_the_same_texts(policy: PiecePolicy) -> None:
    assert policy.sample(5, random_state=7) == policy.sample(5, random_state=7)
    assert policy.sample(50, random_state=7) != policy.sample(50, random_state=8)


def test_support_of_arms_adds_up_orders(policy: PiecePolicy) -> None:
    frame, prob = policy.support()
    assert list(frame.columns) == ["a", "b", "c", "n_pieces"]
    assert not frame.duplicated().any()
    both = (frame["a"] == 1) & (frame["b"] == 1) & (frame["c"] == 0)
    assert prob[both] == pytest.approx([0.45])
    assert prob.sum() == pytest.approx(1.0)
    ordered, ordered_prob = policy.support(level="sequences")
    assert list(ordered["sequence"]) == list(SEQUENCES)
    np.testing.assert_allclose(ordered_prob, PROB)


def test_log_prob_arms_sums_over_orders_and_optionally_lengths(policy: PiecePolicy) -> None:
    frame, prob = policy.support()
    np.testing.assert_allclose(policy.log_prob_arms(frame), np.log(prob))
    without_length = pd.DataFrame({"c": [0, 1, 1], "a": [1, 0, 1], "b": [1, 0, 0]})
    expected = np.log([0.45, 0.15, 0.05])
    np.testing.assert_allclose(policy.log_prob_arms(without_length), expected)
    never = pd.DataFrame({"a": [0], "b": [1], "c": [0]})
    assert policy.log_prob_arms(never)[0] == -math.inf
    with pytest.raises(ValueError, match=r"lacks the columns \['c'\]"):
        policy.log_prob_arms(frame[["a", "b"]])
    with pytest.raises(ValueError, match="0 and 1 only"):
        policy.log_prob_arms(frame.assign(a=2))


def outcome(texts: list[str]) -> np.ndarray:
    """Some function of the text."""
    return np.array([len(text) + 3.0 * text.count("B") for text in texts])


@pytest.mark.parametrize("within_length", [False, True])
def test_tilt_value_by_enumeration_is_the_importance_weighted_one(
    policy: PiecePolicy, within_length: bool
) -> None:
    target = policy.tilt({"b": 0.8, "c": -1.3}, within_length=within_length)
    texts, prob = policy.texts_support()
    target_texts, target_prob = target.texts_support()
    weight = np.exp(target.log_prob(texts) - policy.log_prob(texts))
    assert prob @ weight == pytest.approx(1.0, abs=1e-12)
    assert prob @ (weight * outcome(texts)) == pytest.approx(target_prob @ outcome(target_texts))


def test_tilt_is_exponential_in_the_indicators(policy: PiecePolicy) -> None:
    target = policy.tilt({"a": 0.5, "c": -2.0}, name="t")
    z, _ = policy.support(level="sequences")
    raw = np.array(PROB) * np.exp(0.5 * z["a"].to_numpy() - 2.0 * z["c"].to_numpy())
    np.testing.assert_allclose(target.sequence_prob, raw / raw.sum(), rtol=1e-13)
    assert target.name == "t"
    assert policy.tilt({}).name == "tiny"
    np.testing.assert_allclose(policy.tilt({}).sequence_prob, PROB)


def test_tilt_within_length_keeps_the_lengths(policy: PiecePolicy) -> None:
    target = policy.tilt({"a": 2.0, "b": -1.0}, within_length=True)
    z, prob = policy.support()
    z_target, prob_target = target.support()
    for length in (1, 2, 3):
        before = prob[z["n_pieces"] == length].sum()
        assert prob_target[z_target["n_pieces"] == length].sum() == pytest.approx(before)
    assert not np.allclose(target.sequence_prob, PROB)


def test_condition_is_renormalised_probability(policy: PiecePolicy) -> None:
    target = policy.condition(include=("a", "b"), exclude="c")
    assert target.sequences == (("a", "b"), ("b", "a"))
    np.testing.assert_allclose(target.sequence_prob, [0.2 / 0.45, 0.25 / 0.45])
    assert policy.condition(n_pieces=3).sequences == (("a", "b", "c"),)
    np.testing.assert_allclose(policy.condition().sequence_prob, PROB)
    assert policy.condition(include="c").sequences == (("c",), ("c", "a"), ("a", "b", "c"))


def test_mix_is_the_mixture(policy: PiecePolicy) -> None:
    other = policy.condition(include="c")
    texts, _ = policy.texts_support()
    expected = 0.7 * np.exp(policy.log_prob(texts)) + 0.3 * np.exp(other.log_prob(texts))
    mixed = policy.mix(other, 0.3)
    np.testing.assert_allclose(np.exp(mixed.log_prob(texts)), expected, atol=1e-15)
    short = policy.condition(n_pieces=1)
    np.testing.assert_allclose(short.mix(policy, 1.0).log_prob(texts), policy.log_prob(texts))
    np.testing.assert_array_equal(policy.mix(other, 0.0).sequence_prob, policy.sequence_prob)


def test_mixing_a_short_fresh_policy_with_a_longer_one_parses_the_longer_texts() -> None:
    short = PiecePolicy(WORDINGS, WORDING_PROB, (("a",),), np.array([1.0]))
    long = PiecePolicy(WORDINGS, WORDING_PROB, (("a", "b", "c"),), np.array([1.0]))
    mixed = short.mix(long, 0.5)
    assert mixed.log_prob(["A B C"])[0] == pytest.approx(
        math.log(0.5) + long.log_prob(["A B C"])[0]
    )


def test_arms_of_prefers_what_the_policy_can_write(policy: PiecePolicy) -> None:
    short = policy.condition(n_pieces=1)
    # Under the conditioned policy "A B" is c alone, although a + b could spell it.
    assert short.arms_of(["A B"]).iloc[0].tolist() == [0, 0, 1, 1]
    # Not in its support, but readable: "C A" is c + a.
    assert short.arms_of(["C A"]).iloc[0].tolist() == [1, 0, 1, 2]
    with pytest.raises(ValueError, match=r"texts\[1\] can be read as several sets of arms"):
        policy.arms_of(["A", "A B"])
    with pytest.raises(ValueError, match=r"texts\[1\] is not made of the policy's pieces"):
        policy.arms_of(["A", "Q", "Q", "A"])


def test_many_pieces_do_not_blow_up() -> None:
    # 2 ** 30 ways to cut the text, but one arm sequence of each length.
    policy = PiecePolicy(
        {"a": ("A", "A A")},
        {"a": (0.5, 0.5)},
        tuple(("a",) * k for k in range(1, 31)),
        np.full(30, 1 / 30),
    )
    # A text of 20 words needs k pieces, 20 - k of which are double.
    expected = sum(math.comb(k, 20 - k) * 0.5**k for k in range(10, 21)) / 30
    assert policy.log_prob(["A " * 19 + "A"])[0] == pytest.approx(math.log(expected))


def test_policies_pickle(policy: PiecePolicy) -> None:
    copy = pickle.loads(pickle.dumps(policy))
    np.testing.assert_array_equal(copy.log_prob(["A B", "C"]), policy.log_prob(["A B", "C"]))


def test_inputs_are_copied_and_the_table_is_read_only() -> None:
    prob = np.array(PROB)
    policy = PiecePolicy(WORDINGS, WORDING_PROB, SEQUENCES, prob)
    prob[:] = 0.0
    np.testing.assert_allclose(policy.sequence_prob, PROB)
    with pytest.raises(ValueError, match="read-only"):
        policy.sequence_prob[0] = 1.0


def test_sequences_without_probability_are_no_support() -> None:
    policy = PiecePolicy(WORDINGS, WORDING_PROB, (("a",), ("c",)), np.array([1.0, 0.0]))
    assert policy.sequences == (("a",),)
    assert policy.log_prob(["C"])[0] == -math.inf


def test_texts_support_refuses_a_large_space(policy: PiecePolicy) -> None:
    assert policy.n_parses == 2 + 2 + 4 + 4 + 4 + 8
    with pytest.raises(ValueError, match="24 parses exceed limit=23"):
        policy.texts_support(limit=23)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p.tilt({"x": 1.0}), r"theta names unknown arms \['x'\]; known are"),
        (lambda p: p.tilt({"a": math.nan}), "theta must be finite"),
        (lambda p: p.tilt({"a": math.inf}), "theta must be finite"),
        (lambda p: p.tilt({"a": 2000.0}), "too strong"),
        (lambda p: p.condition(include=["x"]), r"include names unknown arms \['x'\]"),
        (lambda p: p.condition(exclude=["x"]), r"exclude names unknown arms \['x'\]"),
        (lambda p: p.condition(include="a", exclude="a"), "no sequence of policy 'tiny'"),
        (lambda p: p.condition(n_pieces=9), "no sequence of policy 'tiny'"),
        (lambda p: p.mix(p, 1.5), r"weight must lie in \[0, 1\]"),
        (lambda p: p.mix(p, math.nan), r"weight must lie in \[0, 1\]"),
        (lambda p: p.support(level="texts"), 'level must be "arms" or "sequences"'),
        (lambda p: p.sample(-1), "n must be 0 or more"),
    ],
)
def test_wrong_requests_have_clear_errors(policy: PiecePolicy, call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(policy)  # type: ignore[operator]


def test_mix_refuses_other_wordings(policy: PiecePolicy) -> None:
    other = PiecePolicy({"a": ("Z",)}, {"a": (1.0,)}, (("a",),), np.array([1.0]))
    with pytest.raises(ValueError, match="different wordings"):
        policy.mix(other, 0.5)


def test_a_bare_string_or_a_missing_text_is_refused(policy: PiecePolicy) -> None:
    with pytest.raises(TypeError, match="texts is one string"):
        policy.log_prob("A B")
    with pytest.raises(TypeError, match=r"texts\[1\] is a float"):
        policy.log_prob(["A", math.nan])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"wordings": {}, "wording_prob": {}}, ValueError, "wordings is empty"),
        ({"wording_prob": {"a": (0.7, 0.3)}}, ValueError, r"differing: \['b', 'c'\]"),
        ({"wordings": {**WORDINGS, "a": ("A", "A")}}, ValueError, "distinct, non-empty"),
        ({"wordings": {**WORDINGS, "a": ("A", "")}}, ValueError, "distinct, non-empty"),
        ({"wordings": {**WORDINGS, "a": "A"}}, TypeError, "is one string"),
        ({"wording_prob": {**WORDING_PROB, "a": (1.0,)}}, ValueError, "1 entries for 2"),
        ({"wording_prob": {**WORDING_PROB, "a": (1.0, 0.0)}}, ValueError, "positive"),
        ({"wording_prob": {**WORDING_PROB, "a": (0.7, 0.4)}}, ValueError, "must sum to 1"),
        ({"sequences": ("ab",), "sequence_prob": np.ones(1)}, TypeError, "not strings"),
        ({"sequences": ((),), "sequence_prob": np.ones(1)}, ValueError, "none of them empty"),
        ({"sequences": (("a",), ("a",))}, ValueError, "distinct"),
        ({"sequences": (("q",),)}, ValueError, "sequences names unknown arms"),
        ({"sequence_prob": np.array([1.0])}, ValueError, "1 entries for 6 sequences"),
        ({"sequence_prob": np.array([np.nan] * 6)}, ValueError, "finite"),
        ({"sequence_prob": np.array([1.1, -0.1, 0, 0, 0, 0])}, ValueError, "non-negative"),
    ],
)
def test_wrong_tables_have_clear_errors(
    change: dict[str, object], error: type[Exception], message: str
) -> None:
    arguments: dict[str, object] = {
        "wordings": WORDINGS,
        "wording_prob": WORDING_PROB,
        "sequences": SEQUENCES,
        "sequence_prob": np.array(PROB),
    }
    with pytest.raises(error, match=message):
        PiecePolicy(**{**arguments, **change})  # type: ignore[arg-type]


def test_an_arm_cannot_take_the_name_of_the_length_column() -> None:
    with pytest.raises(ValueError, match="cannot be called 'n_pieces'"):
        PiecePolicy({"n_pieces": ("A",)}, {"n_pieces": (1.0,)}, (("n_pieces",),), np.ones(1))


def test_repr_is_short_however_large_the_policy(policy: PiecePolicy) -> None:
    assert repr(policy) == (
        "PiecePolicy(name='tiny', arms=['a', 'b', 'c'], 6 sequences, 24 parses)"
    )
