"""Indexes that would be matched by position, and what a notebook shows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from causal_lm_opt import IPW, DoublyRobust, OutcomeRegression, TargetSample


def frame(n: int = 40) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "x": rng.normal(size=n),
            "y": rng.normal(size=n),
            "lp": np.full(n, -2.0),
            "new": rng.uniform(-3, -1, n),
            "g": np.arange(n) // 2,
        }
    )


@pytest.mark.parametrize("estimator", [IPW(), OutcomeRegression(), DoublyRobust()])
@pytest.mark.parametrize("column", ["y", "lp", "new", "g"])
def test_a_shuffled_index_is_refused(estimator: IPW, column: str) -> None:
    log = frame()
    shuffled = log.sample(frac=1, random_state=1)
    given = {c: shuffled[c] if c == column else log[c] for c in log}
    with pytest.raises(ValueError, match="carries the index labels of X in another order"):
        estimator.fit(
            log[["x"]], given["y"], logp_logging=given["lp"], logp_target=given["new"],
            groups=given["g"], X_target=log[["x"]] + 0.1,
        )  # fmt: skip


def test_one_order_or_plain_arrays_pass() -> None:
    log = frame()
    shuffled = log.sample(frac=1, random_state=1)
    a = IPW().fit(log[["x"]], log["y"], logp_logging=log["lp"], logp_target=log["new"])
    b = IPW().fit(
        shuffled[["x"]], shuffled["y"], logp_logging=shuffled["lp"], logp_target=shuffled["new"]
    )
    assert a.value_ == pytest.approx(b.value_)
    IPW().fit(log[["x"]], shuffled["y"].to_numpy())


def test_a_shuffled_second_sample_is_refused() -> None:
    log = frame()
    draws = TargetSample(log[["x"]], weight=log["g"].iloc[::-1] + 1)
    with pytest.raises(ValueError, match=r"X_target\.weight carries the index labels"):
        OutcomeRegression().fit(log[["x"]], log["y"], X_target=draws)


def test_a_notebook_shows_the_values_once_there_are_any() -> None:
    log = frame()
    assert "verdict" not in IPW()._repr_html_()
    fitted = IPW().fit(log[["x"]], log["y"], logp_logging=log["lp"], logp_target=log["new"])
    shown = fitted._repr_html_()
    assert "ci_lower" in shown
    assert fitted.result_.verdicts[0].level in shown
    assert shown.index("ci_lower") < shown.index("sk-top-container")
    assert "ci_lower" in fitted._repr_mimebundle_()["text/html"]
