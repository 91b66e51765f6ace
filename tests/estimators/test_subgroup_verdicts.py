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

from causal_lm_opt import IPW, TargetSample

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
