"""Combinations that a policy writes and the log never holds, by enumeration and by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from causal_lm_opt.diagnostics import unmet_pairs

RNG = np.random.default_rng(0)


def test_shares_by_enumeration() -> None:
    """Three features on 4 cells of 100 rows: which pairs are lacking is seen from the table."""
    log = np.repeat([[0, 0, 0], [1, 0, 0], [0, 1, 1], [0, 0, 1]], 100, axis=0)
    drawn = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 1]])
    found = unmet_pairs(log, drawn, names=["a", "b", "c"], target_weight=[1, 2, 3, 4, 5])
    # lacking: a with b, a with c, b with no c; held by rows 0; 1 and 4; 0 and 2: all but row 3
    assert set(found.pairs) == {("a", "b"), ("a", "c"), ("b", "no c")}
    assert found.pairs[0] == ("a", "c")  # 7 of 15
    assert found.share == pytest.approx(11 / 15)
    present = unmet_pairs(log, drawn, names=["a", "b", "c"], absent=False)
    assert set(present.pairs) == {("a", "b"), ("a", "c")}
    assert present.share == pytest.approx(3 / 5)
    assert present.low == pytest.approx(0.14663, abs=1e-5)  # 3 of 5, exact binomial
    assert unmet_pairs(log, drawn, absent=False, exact=True).low == pytest.approx(3 / 5)


def test_nothing_where_the_policy_writes_what_was_logged() -> None:
    log = RNG.random((2000, 12)) < RNG.uniform(0.05, 0.6, 12)
    found = unmet_pairs(log, log[:500])
    assert (found.share, found.low, found.pairs, found.findings) == (0.0, 0.0, (), [])


def test_rare_pairs_are_no_finding_and_clusters_count_in_place_of_rows() -> None:
    """400 rows: .2 * .2 * 400 = 16 rows due; of 100 clusters 4."""
    log = np.repeat([[1, 0], [0, 1], [0, 0]], [80, 80, 240], axis=0)
    drawn = np.array([[1, 1], [0, 0]])
    assert unmet_pairs(log, drawn).share == 0.5
    assert unmet_pairs(log[::2], drawn).share == 0.0
    assert unmet_pairs(log[::2], drawn, sample_weight=np.full(200, 2.0)).share == 0.5
    assert unmet_pairs(log, drawn, codes=np.arange(400) // 4).share == 0.0


def test_independent_features_raise_no_alarm() -> None:
    """At 3e-7 a pair, 200 logs of 45 pairs with 4 combinations have .01 alarms."""
    alarms = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        p = rng.uniform(0.1, 0.5, 10)
        alarms += unmet_pairs(rng.random((300, 10)) < p, rng.random((300, 10)) < p).share > 0
    assert alarms == 0


@pytest.mark.parametrize(
    ("share", "severity"), [(0.005, None), (0.02, None), (0.05, 1), (0.13, 1), (0.3, 2)]
)
def test_severity(share: float, severity: int | None) -> None:
    log = np.repeat([[1, 0], [0, 1], [0, 0]], 200, axis=0)
    drawn = np.zeros((200, 2))
    drawn[: int(share * 200)] = 1.0
    findings = unmet_pairs(log, drawn, names=["brave", "evil"]).findings
    assert [level for level, _ in findings] == ([] if severity is None else [severity])
    if findings:
        assert f"{share:.0%} of the policy's texts combine" in findings[0][1]
        assert "brave with evil" in findings[0][1]


def test_bad_shapes() -> None:
    with pytest.raises(ValueError, match=r"must have shapes \(n, p\) and \(m, p\)"):
        unmet_pairs(np.zeros((5, 2)), np.zeros((5, 3)))
