"""Texts that no row holds: exact on small cases, silence where nothing can be told, level, power.

Level: logs of a known law over 20 to 400 texts, log ratios of sd .3 to 1: at most 2 % of them have
a policy that is told (and of that policy 5 % or more was never logged).
"""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from causal_lm_opt.diagnostics import UnloggedTexts, unlogged_texts
from causal_lm_opt.diagnostics.unlogged import distinct_mass
from causal_lm_opt.estimators import IPW, DoublyRobust, TargetSample

WORDS = np.array([f"text {i}" for i in range(400)], dtype=object)


def said(result: object) -> str:
    return " ".join(result.verdicts[0].reasons)  # type: ignore[attr-defined]


def test_share_room_and_interval_by_hand() -> None:
    log, logp = ["a", "b", "a"], np.log([0.6, 0.3, 0.6])
    found = unlogged_texts(log, logp, ["a"] * 30 + ["c"] * 10)
    assert found is not None
    assert found.share == 0.25
    assert found.room == pytest.approx(0.1)
    se = np.sqrt(0.25 * 0.75 / 40)
    assert found.low == pytest.approx(0.25 - 2.0227 * se, abs=1e-4)
    in_one = unlogged_texts(log, logp, ["a"] * 30 + ["c"] * 10, codes_target=[0] * 20 + [1] * 20)
    assert in_one is not None
    assert in_one.low == 0.0  # two clusters tell nothing


def test_mass_of_distinct_contents() -> None:
    first, inverse = np.array([0, 2]), np.array([0, 0, 1, 0])
    logp = np.log([0.5, 0.5, 0.25, 0.5])
    assert distinct_mass(logp, first, inverse) == pytest.approx([0.5, 0.25])
    logp[3] = np.log(0.125)  # one text, two probabilities
    assert distinct_mass(logp, first, inverse) is None


def test_prompts_have_texts_of_their_own() -> None:
    log, prompts = ["yes", "no", "one", "two"], ["Q", "Q", "N", "N"]
    logp = np.log([0.5, 0.5, 0.5, 0.5])
    swapped = unlogged_texts(
        log, logp, ["yes"] * 10 + ["one"] * 10,
        prompts=prompts, prompts_target=["N"] * 10 + ["Q"] * 10,
    )  # fmt: skip
    assert swapped is not None
    assert (swapped.share, swapped.low, swapped.room) == (1.0, 1.0, pytest.approx(0.0))
    other = unlogged_texts(log, logp, ["x"] * 20, prompts=prompts, prompts_target=["?"] * 20)
    assert other is not None
    assert (other.room, other.findings()) == (1.0, [])
    assert unlogged_texts(log, logp, ["yes"] * 20) is None  # adds up to 2: not of these texts
    with pytest.raises(ValueError, match="go together"):
        unlogged_texts(log, logp, ["yes"], prompts=prompts)
    with pytest.raises(ValueError, match="needs logged texts and draws"):
        unlogged_texts([], [], ["yes"])


@pytest.mark.parametrize(
    ("low", "room", "level", "estimated"),
    [(0.3, 0.0, 2, False), (0.3, 0.0, 1, True), (0.1, 0.0, 1, False), (0.1, 0.02, 0, False),
     (1.0, 0.4, 0, False), (0.5, 0.09, 2, False)],
)  # fmt: skip
def test_findings(low: float, room: float, level: int, *, estimated: bool) -> None:
    found = UnloggedTexts(low, low, room).findings(estimated=estimated)
    assert [how for how, _ in found] == [level] * (level > 0)


def test_stated_log_probs_tell_it_without_draws() -> None:
    """A policy that puts 30 % on a text nobody logs, to which the logger gives .001."""
    rng = np.random.default_rng(0)
    p = np.r_[np.full(20, 0.999 / 20), 0.001]
    f = np.r_[np.full(20, 0.7 / 20), 0.3]
    row = rng.choice(20, 300)
    y = rng.normal(size=300)
    told = {"logp_logging": np.log(p[row]), "logp_target": np.log(f[row])}
    result = IPW().fit(WORDS[row], y, **told).result_
    assert result.verdicts[0].level == "do not use"
    assert "30.0% of what the policy writes are texts that no row holds" in said(result)
    draws = TargetSample(WORDS[rng.choice(21, 300, p=f)])
    model = make_pipeline(TfidfVectorizer(), Ridge())
    both = DoublyRobust(model).fit(WORDS[row], y, X_target=draws, **told).result_
    assert "no row holds" in said(both)
    # of features, which may be equal where texts differ, nothing is said
    assert "no row holds" not in said(IPW().fit(row[:, None].astype(float), y, **told).result_)


def test_policies_on_the_logged_texts_are_left_alone() -> None:
    rng = np.random.default_rng(1)
    told = 0
    for _ in range(200):
        size = int(rng.choice([20, 80, 400]))
        p = np.exp(rng.normal(size=size))
        p /= p.sum()
        f = p * np.exp(rng.uniform(0.3, 1.0) * rng.normal(size=size))
        f /= f.sum()
        row = np.unique(rng.choice(size, int(rng.choice([60, 200, 1000])), p=p))
        unseen = 1.0 - float(f[row].sum())
        told += bool(UnloggedTexts(unseen, unseen, 1.0 - float(p[row].sum())).findings())
    assert told <= 4


@pytest.mark.parametrize("base", [10.0, 2.0])
def test_log_probs_that_add_up_to_more_than_1_are_named(base: float) -> None:
    rng = np.random.default_rng(2)
    row, y = rng.integers(0, 20, 400), rng.normal(size=400)
    f = rng.dirichlet(np.full(20, 5.0))
    logging = np.full(400, -np.log(20))
    result = (
        IPW()
        .fit(WORDS[row], y, logp_logging=logging, logp_target=np.log(f[row]) / np.log(base))
        .result_
    )
    wrong = "under this policy add up to" in said(result)
    assert wrong == (base == 10.0)  # to base 2 they are smaller: the mean weight tells
    both = IPW().fit(WORDS[row], y, logp_logging=logging / np.log(10), logp_target=np.log(f[row]))
    assert "under the logging policy add up to" in said(both.result_)


def test_probabilities_given_a_prompt_are_not_accused() -> None:
    """40 prompts with 5 answers each: the probabilities add up to 40, rightly."""
    rng = np.random.default_rng(3)
    prompt = rng.integers(0, 40, 600)
    text = np.array([f"{p} {a}" for p, a in zip(prompt, rng.integers(0, 5, 600), strict=True)])
    logp = np.full(600, -np.log(5))
    result = (
        IPW()
        .fit(
            text.astype(object),
            rng.normal(size=600),
            groups=prompt,
            logp_logging=logp,
            logp_target=logp,
        )
        .result_
    )
    assert "add up to" not in said(result)


def test_weights_that_average_next_to_nothing_are_no_good_whatever_their_tail() -> None:
    """Log-probs of another law (here given a prompt that was not named): a tail without a test."""
    rng = np.random.default_rng(4)
    ratio = -15.0 + 4.0 * rng.standard_t(3, size=400)
    result = IPW("ht").fit(
        rng.normal(size=(400, 1)), rng.normal(6.0, size=400),
        logp_logging=np.full(400, -90.0), logp_target=-90.0 + ratio - ratio.max(),
    ).result_  # fmt: skip
    assert result.diagnostics[0]["mean_weight"] < 0.1
    assert result.verdicts[0].level == "do not use"
    assert "where 1 is due" in said(result)
