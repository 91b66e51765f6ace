"""A subgroup is judged by its own draws, and subgroups tell of confounding over all readers.

Texts 0 to 5 for two kinds of readers; the logging policy may differ between them. The level of the
alarm is .001 over the subgroups of a policy: of 100 sound logs none is told (one at most would be
due by chance).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import special

from causal_lm_opt import IPW, DoublyRobust, OutcomeRegression, TargetSample
from causal_lm_opt.diagnostics.agreement import bridge_means

TEXTS = np.array([f"appeal {i}" for i in range(6)], dtype=object)
TARGET = np.array([0.1, 0.1, 0.2, 0.2, 0.2, 0.2])
OF_READERS = {
    "new": np.array([0.35, 0.25, 0.2, 0.1, 0.05, 0.05]),
    "old": np.array([0.05, 0.05, 0.1, 0.2, 0.25, 0.35]),
}


def log(rng: np.random.Generator, n: int = 1200) -> tuple[Any, ...]:
    """Texts, outcomes, subgroups, log-probs given the subgroup, and those that do not know it."""
    by = np.where(rng.random(n) < 0.5, "new", "old")
    x = np.array([rng.choice(6, p=OF_READERS[b]) for b in by])
    y = x + 2.0 * (by == "old") + rng.normal(size=n)
    given = np.log([OF_READERS[b][i] for b, i in zip(by, x, strict=True)])
    marginal = np.log(np.mean(list(OF_READERS.values()), axis=0))[x]
    return TEXTS[x], y, by, given, marginal, np.log(TARGET)[x]


def scored(rng: np.random.Generator, m: int = 900) -> tuple[TargetSample, Any]:
    by = np.resize(["new", "old", "old"], m)
    x = rng.choice(6, p=TARGET, size=m)
    given = np.log([OF_READERS[b][i] for b, i in zip(by, x, strict=True)])
    draws = TargetSample(TEXTS[x], by=by, logp_target=np.log(TARGET)[x], logp_logging=given)
    return draws, by


def test_a_subgroup_is_judged_by_its_own_draws() -> None:
    """The figures are those of the subgroup's own log and draws."""
    rng = np.random.default_rng(0)
    texts, y, by, given, _, target = log(rng)
    draws, drawn_by = scored(rng)
    logs = {"logp_target": target, "logp_logging": given}
    found = IPW().fit(texts, y, by=by, X_target=draws, **logs).result_by_
    for k, label in enumerate(("new", "old")):
        rows, own = by == label, drawn_by == label
        part = TargetSample(
            draws.X[own], logp_target=draws.logp_target[own], logp_logging=draws.logp_logging[own]
        )
        alone = IPW().fit(
            texts[rows], y[rows], X_target=part, **{name: a[rows] for name, a in logs.items()}
        )
        assert found.verdicts[k].level == alone.result_.verdicts[0].level
        here, there = found.diagnostics[k], alone.result_.diagnostics[0]
        for name in ("unseen_mass", "agreement_z", "predicted_coverage", "unseen_variance"):
            assert_allclose(here[name], there[name], rtol=1e-3, atol=1e-9, err_msg=name)


def test_texts_that_hang_on_the_subgroup_are_told_where_log_probs_do_not_know_it() -> None:
    texts, y, by, given, marginal, target = log(np.random.default_rng(1))
    confounded = IPW().fit(texts, y, by=by, logp_target=target, logp_logging=marginal)
    for verdict in (confounded.result_.verdicts[0], confounded.result_by_.verdicts[1]):
        assert verdict.level == "do not use"
        assert "which texts they got depends on the subgroup" in str(verdict)
    sound = IPW().fit(texts, y, by=by, logp_target=target, logp_logging=given)
    assert "depends on the subgroup" not in str(sound.result_.verdicts[0])


def test_log_probs_that_know_the_subgroup_are_never_accused() -> None:
    for seed in range(100):
        texts, y, by, given, _, target = log(np.random.default_rng(seed), 300)
        found = IPW().fit(texts, y, by=by, logp_target=target, logp_logging=given).result_
        assert "depends on the subgroup" not in str(found.verdicts[0])


@pytest.mark.parametrize("distinct", [True, False])
def test_a_trait_of_the_text_is_no_more_than_a_caution(distinct: bool) -> None:
    rng = np.random.default_rng(2)
    x = rng.choice(6, p=TARGET[::-1], size=1200)
    trait = np.where(x > 2, "long", "short")
    texts = np.array([f"{TEXTS[i]} {j * distinct}" for j, i in enumerate(x)], dtype=object)
    logs = {"logp_target": np.log(TARGET)[x], "logp_logging": np.log(TARGET[::-1])[x]}
    found = IPW().fit(texts, rng.normal(size=1200), by=trait, **logs).result_.verdicts[0]
    assert found.level == "caution"
    assert "unless the subgroup is a trait of the text" in str(found)


@pytest.mark.parametrize("shift", [1.0, 2.0])
def test_heavy_weights_of_many_small_subgroups_accuse_nobody(shift: float) -> None:
    """Ten subgroups of about 100 rows, log ratios of sd 1 and 2: weights average less by chance."""
    for seed in range(25):
        rng = np.random.default_rng(seed)
        x, by = rng.normal(size=1000), rng.integers(0, 10, 1000)
        logs = {"logp_target": -0.5 * (x - shift) ** 2 - 1, "logp_logging": -0.5 * x**2 - 1}
        found = IPW().fit(x[:, None], x, by=by, **logs).result_.verdicts[0]
        assert "depends on the subgroup" not in str(found)


# ------------------------------------------------------------------- weights that lean to no side
def parted(rng: np.random.Generator, n: int = 1500) -> tuple[Any, ...]:
    """As `log`, texts of two words of which the first hangs on the reader and cancels in weights.

    Both subgroups see the words 'rent' and 'school' with exchanged probabilities, and the target
    writes either as often.
    """
    p = {"new": 0.8, "old": 0.2}
    by = np.where(rng.random(n) < 0.5, "new", "old")
    first = rng.random(n) < np.array([p[b] for b in by])
    second = rng.random(n) < 0.5
    texts = np.array(
        [f"{'rent' if a else 'school'} {'now' if b else 'soon'}"
         for a, b in zip(first, second, strict=True)], dtype=object,
    )  # fmt: skip
    given = np.log(np.where(first, [p[b] for b in by], [1 - p[b] for b in by]) / 2)
    target = np.log(np.where(second, 0.7, 0.3) / 2)
    y = first * np.where(by == "new", 3.0, -3.0) + rng.normal(size=n)
    return texts, y, by, given, np.full(n, np.log(0.25)), target


def parted_draws(rng: np.random.Generator, *, known: bool, told: bool, m: int = 1200) -> Any:
    by = np.where(rng.random(m) < 0.5, "new", "old")
    first, second = rng.random(m) < 0.5, rng.random(m) < 0.7
    texts = np.array(
        [f"{'rent' if a else 'school'} {'now' if b else 'soon'}"
         for a, b in zip(first, second, strict=True)], dtype=object,
    )  # fmt: skip
    p = np.where(by == "new", 0.8, 0.2)
    logging = np.log(np.where(first, p, 1 - p) / 2) if known else np.full(m, np.log(0.25))
    return TargetSample(
        texts, logp_target=np.log(np.where(second, 0.7, 0.3) / 2), logp_logging=logging,
        by=by if told else None,
    )  # fmt: skip


def test_bridge_means_by_enumeration() -> None:
    """E_R[s(l) h] = E_f[s(-l) h] over six texts, and the variance of clusters of one row."""
    logging, h = OF_READERS["new"], np.arange(6.0)[:, None]
    ell = np.log(TARGET / logging)
    here, _ = bridge_means(special.expit(ell), h, frequency=logging)
    there, _ = bridge_means(special.expit(-ell), h, frequency=TARGET)
    assert_allclose(here, there, rtol=1e-12)
    rows = np.random.default_rng(0).normal(size=(40, 2))
    alone = bridge_means(np.ones(40), rows)
    assert_allclose(alone[1], rows.var(axis=0, ddof=1) / 40)
    assert_allclose(bridge_means(np.ones(40), rows, codes=np.arange(40))[1], alone[1])


@pytest.mark.parametrize("told", [True, False])
def test_texts_that_hang_on_the_subgroup_are_told_where_weights_average_one(told: bool) -> None:
    rng = np.random.default_rng(3)
    texts, y, by, _, marginal, target = parted(rng)
    draws = parted_draws(rng, known=False, told=told)
    found = IPW().fit(
        texts, y, by=by, X_target=draws, logp_target=target, logp_logging=marginal
    )  # fmt: skip
    for verdict in (*found.result_.verdicts, *found.result_by_.verdicts):
        assert verdict.level == "do not use"
        assert "depends on the subgroup" in str(verdict)
    assert "than the weights tell" in str(found.result_.verdicts[0])


def test_sound_texts_of_subgroups_are_never_accused() -> None:
    """Log-probs that know the reader, or readers who got the same: 60 logs each, at level .001."""
    for seed in range(60):
        rng = np.random.default_rng(seed)
        texts, y, by, given, marginal, target = parted(rng, 400)
        draws = parted_draws(rng, known=True, told=True)
        known = IPW().fit(texts, y, by=by, X_target=draws, logp_target=target, logp_logging=given)
        same = IPW().fit(
            texts, y, by=rng.permutation(by), X_target=parted_draws(rng, known=False, told=False),
            logp_target=target, logp_logging=marginal,
        )  # fmt: skip
        for one in (known, same):
            assert "depends on the subgroup" not in str(one.result_.verdicts[0])


def test_what_one_policy_shows_is_said_of_all() -> None:
    rng = np.random.default_rng(1)
    texts, y, by, _, marginal, target = log(rng)
    pair = {"leaning": target, "logger": marginal}
    found = IPW().fit(texts, y, by=by, logp_target=pair, logp_logging=marginal).result_
    assert [v.level for v in found.verdicts] == ["do not use", "do not use"]
    assert "the weights of 'leaning' average" in str(found.verdicts[1])


def test_a_text_only_model_is_accused_where_log_probs_know_the_reader() -> None:
    rng = np.random.default_rng(4)
    texts, y, by, given, marginal, target = parted(rng)
    x = np.array([t.startswith("rent") for t in texts], dtype=float)[:, None]
    drawn = parted_draws(rng, known=True, told=True)
    second = TargetSample(
        np.array([t.startswith("rent") for t in drawn.X], dtype=float)[:, None], by=drawn.by
    )
    logs = {"logp_target": target, "X_target": second, "by": by}
    accused = OutcomeRegression().fit(x, y, logp_logging=given, **logs).result_.verdicts[0]
    assert accused.level == "do not use"
    assert "Equal rows have other log-probs in other subgroups" in str(accused)
    both = np.column_stack([x[:, 0], by == "old"])
    reads = TargetSample(np.column_stack([second.X[:, 0], drawn.by == "old"]), by=drawn.by)
    sound = OutcomeRegression().fit(
        both, y, logp_logging=given, **(logs | {"X_target": reads})
    )  # fmt: skip
    assert "Equal rows" not in str(sound.result_.verdicts[0])
    wordings = given + rng.normal(size=given.size)  # rows that stand for many texts
    many = OutcomeRegression().fit(x, y, logp_logging=wordings - 9.0, **logs)
    assert "Equal rows" not in str(many.result_.verdicts[0])
    marginals = OutcomeRegression().fit(x, y, logp_logging=marginal, **logs)
    assert "Equal rows" not in str(marginals.result_.verdicts[0])


def test_the_mix_of_draws_is_told_where_it_is_put_right() -> None:
    rng = np.random.default_rng(5)
    texts, y, by, given, _, target = parted(rng)
    draws = parted_draws(rng, known=True, told=True)
    kept = np.flatnonzero((draws.by == "new") | (rng.random(1200) < 0.3))
    fewer = TargetSample(
        draws.X[kept], logp_target=draws.logp_target[kept], by=draws.by[kept],
        logp_logging=draws.logp_logging[kept],
    )  # fmt: skip
    logs = {"logp_target": target, "logp_logging": given, "by": by}
    q = np.array([t.startswith("rent") for t in texts], dtype=float)
    q_drawn = np.array([t.startswith("rent") for t in fewer.X], dtype=float)
    found = DoublyRobust().fit(texts, y, X_target=fewer, q_logged=q, q_target=q_drawn, **logs)
    assert "Draws count in the log's mix of subgroups" in str(found.result_.verdicts[0])
    even = DoublyRobust().fit(
        texts, y, X_target=draws, q_logged=q,
        q_target=np.array([t.startswith("rent") for t in draws.X], dtype=float), **logs,
    )  # fmt: skip
    assert "Draws count" not in str(even.result_.verdicts[0])


def test_draws_of_another_mix_of_readers_contradict_nobody() -> None:
    """Log ratios depend on the reader, so that draws count in the log's mix in every test."""
    for seed in range(20):
        rng = np.random.default_rng([6, seed])
        texts, y, by, given, _, target = log(rng, 2000)
        keep = (by == "new") | (rng.random(2000) < 0.2)
        draws, _ = scored(rng, 2000)
        found = IPW().fit(
            texts[keep], y[keep], by=by[keep], X_target=draws, logp_target=target[keep],
            logp_logging=given[keep],
        ).result_  # fmt: skip
        assert "contradict" not in str(found.verdicts[0])
        assert abs(found.diagnostics[0]["agreement_z"]) < 3.3
