"""A log small enough to enumerate, estimates on it, and no figure left open."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from causal_lm_opt import IPW, DoublyRobust, TargetSample, ValueEstimate


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    """No global setting changes, and pyplot's figures are closed."""
    before = dict(mpl.rcParams)
    yield
    assert dict(mpl.rcParams) == before
    plt.close("all")


@pytest.fixture(scope="session")
def estimates() -> dict[str, ValueEstimate]:
    """Two policies by two estimators."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, 400)
    y = 50 + 10 * x + rng.normal(size=400)
    logp = np.log([[0.3, 0.7], [0.6, 0.4]])
    targets = {
        name: TargetSample(np.array([[0], [1]]), logp_target=p, logp_logging=np.log([0.5, 0.5]),
                           exact=True)
        for name, p in zip("ab", logp, strict=True)
    }  # fmt: skip
    given = {
        "logp_target": {"a": logp[0][x], "b": logp[1][x]},
        "logp_logging": np.full(400, np.log(0.5)),
        "X_target": targets,
    }
    return {
        "Hajek": IPW().fit(x[:, None], y, **given).result_,
        "DR": DoublyRobust(cv=2).fit(x[:, None], y, **given).result_,
    }
