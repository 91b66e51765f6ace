"""Linear relations of the log that a policy breaks: by enumeration, and where there are none."""

from __future__ import annotations

import numpy as np
import pytest

from causal_lm_opt.diagnostics import broken_relations

RNG = np.random.default_rng(0)


def slots(n: int, *sizes: int) -> np.ndarray:
    """One column for each alternative of each slot."""
    return np.hstack([np.eye(size)[RNG.integers(size, size=n)] for size in sizes])


def test_each_slot_is_named_and_the_share_is_counted() -> None:
    """Of ten rows, weights 1 to 10, row 0 lacks the first slot and rows 0 and 9 the second."""
    log, drawn = slots(400, 3, 2), slots(10, 3, 2)
    drawn[0, :3] = 0.0
    drawn[[0, 9], 3:] = 0.0
    names = ["a", "b", "c", "d", "e"]
    found = broken_relations(log, drawn, names=names, target_weight=np.arange(1.0, 11.0))
    assert found.share == pytest.approx(11 / 55)
    assert found.relations == ("d + e = 1", "a + b + c = 1")
    assert "20.0% of the policy's texts break" in str(found)
    assert "(d + e = 1; 1 more)" in str(found)


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_units_and_other_columns_change_nothing(scale: float) -> None:
    x = RNG.normal(size=(300, 2))
    log = scale * np.column_stack([x, x @ [2.0, -1.0] + 3.0, RNG.normal(size=300)])
    drawn = np.vstack([log[:9], log[[9]] + [[0.0, 0.0, 0.1 * scale, 0.0]]])
    found = broken_relations(log, drawn, names=["u", "v", "w", "noise"])
    assert found.share == pytest.approx(0.1)
    assert found.relations == (f"u - 0.5 v - 0.5 w = {-1.5 * scale:.6g}",)


def test_a_feature_that_the_log_never_varies() -> None:
    log = np.column_stack([RNG.normal(size=100), np.full(100, 2.0)])
    drawn = np.array([[0.3, 2.0], [0.1, 3.0]])
    assert broken_relations(log, drawn).relations == ("x1 = 2",)
    assert broken_relations(log[:, 1:], drawn[:, 1:]).share == 0.5


def test_nothing_where_rows_keep_the_relations_or_there_are_none() -> None:
    for log, drawn in (
        (slots(500, 4, 3), slots(500, 4, 3)),
        (RNG.normal(size=(500, 6)), RNG.normal(size=(100, 6)) * 3),
    ):
        found = broken_relations(log, drawn)
        assert (found.share, found.relations, str(found)) == (0.0, (), "")


@pytest.mark.parametrize("n", [10, 40, 60])
def test_what_any_few_rows_keep_is_no_relation(n: int) -> None:
    """n rows of 50 columns always keep 50 - n + 1 relations, whatever law wrote them."""
    assert broken_relations(RNG.normal(size=(n, 50)), RNG.normal(size=(30, 50))).share == 0.0


def test_long_relations_are_cut_and_many_columns_passed_over() -> None:
    found = broken_relations(slots(900, 12), np.zeros((3, 12)))
    assert found.relations == ("x0 + x1 + x2 + x3 + x4 + x5 + 6 more terms = 1",)
    assert broken_relations(np.zeros((900, 600)), np.ones((3, 600))).share == 0.0


def test_bad_shapes() -> None:
    with pytest.raises(ValueError, match=r"must have shapes \(n, p\) and \(m, p\)"):
        broken_relations(np.zeros((5, 2)), np.zeros((5, 3)))
