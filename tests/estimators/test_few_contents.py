"""Few distinct texts: held-out texts cost the outcome model much, and the summary says so.

Variances are over 80 replications: their own error is 16 %, the tolerance 35 %.
"""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold

from causal_lm_opt import DoublyRobust
from causal_lm_opt.simulation import TabularDesign

SAID = "distinct texts (rows of X) were logged"


def cells(texts: int) -> TabularDesign:
    """A randomised log of a few texts, each with its own indicator and mean."""
    z = np.linspace(-1.0, 1.0, texts)
    target = np.exp(z) / np.exp(z).sum()
    return TabularDesign([1.0], np.full(texts, 1.0 / texts), target, 2.0 * z)


def note(texts: int, cv: object = 5, *, groups: bool = False) -> str:
    log = cells(texts).draw(400, np.random.default_rng(0))
    clusters = {"groups": np.arange(400) // 2} if groups else {}
    fitted = DoublyRobust(Ridge(1e-3), cv=cv).fit(log.X, log.y, **log.fit_arguments(), **clusters)
    return fitted.summary().as_text().replace("\n", " ")


def test_few_distinct_texts_are_named_with_what_to_do() -> None:
    said = note(12)
    assert f"Only 12 {SAID}" in said
    assert "KFold" in said


@pytest.mark.parametrize(
    ("texts", "cv", "groups"),
    [(60, 5, False), (9, 5, False), (12, KFold(5, shuffle=True, random_state=0), False),
     (12, 5, True)],
    ids=["many", "too few: folds split rows", "own folds", "groups"],
)  # fmt: skip
def test_no_such_note_where_texts_are_seen_or_many(texts: int, cv: object, groups: bool) -> None:
    assert SAID not in note(texts, cv, groups=groups)


def test_a_short_log_of_different_texts_has_no_such_note() -> None:
    X = np.random.default_rng(0).normal(size=(40, 1))
    assert SAID not in DoublyRobust().fit(X, X[:, 0]).summary().as_text()
    logp = {"logp_target": -0.1 * np.abs(X[:, 0]), "logp_logging": np.zeros(40)}
    fitted = DoublyRobust().fit(X, X[:, 0], X_target=X + 0.1, **logp)
    assert fitted.fold_rule_ == "content"
    assert SAID not in fitted.summary().as_text()
    twice = fitted.fit(X, X[:, 0], X_target=X + 0.1, sample_weight=np.full(40, 2.0), **logp)
    assert f"Only 40 {SAID}" in twice.summary().as_text().replace("\n", " ")


def test_the_note_is_true() -> None:
    """Indicators of 20 texts: variance over the efficiency bound, by either kind of fold."""
    world, ratio = cells(20), {}
    kinds = {"texts": 5, "rows": KFold(5, shuffle=True, random_state=0)}
    for kind, cv in kinds.items():
        values = []
        for b in range(80):
            log = world.draw(500, np.random.default_rng([1, b]))
            model = DoublyRobust(Ridge(1e-3), cv=cv, inference="influence")
            values.append(model.fit(log.X, log.y, **log.fit_arguments()).value_)
        assert abs(np.mean(values) - world.value()) < 4 * np.std(values) / np.sqrt(80)
        ratio[kind] = np.var(values) / world.efficiency_bound(500)
    assert ratio["rows"] == pytest.approx(1.0, rel=0.35)
    assert ratio["texts"] > 1.3
