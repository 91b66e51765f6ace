"""Intervals from clusters of unequal size: the jackknife and t of the equal ones they are worth.

The sandwich of cluster sums with G - 1 degrees of freedom, the same for equal clusters, is the
negative control: a large cluster pulls the value towards itself and hides its own deviation.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from causal_lm_opt import IPW

pytestmark = pytest.mark.statistical

REPLICATIONS = 1_000
ERROR = 4 * math.sqrt(0.95 * 0.05 / REPLICATIONS)
SIZES = {
    "Zipf": np.round(200 / np.arange(1, 41)).astype(int),
    "log-normal": 1 + np.exp(1.5 + np.random.default_rng(3).normal(size=97)).astype(int),
    "few": np.array([4, 6, 6, 8, 8, 10, 12, 14, 16, 18, 24, 30, 40, 60, 90]),
}


def covered(sizes: np.ndarray, *, weighted: bool) -> tuple[float, float, float]:
    """Coverage, mean standard error over the estimates' sd, coverage of the control."""
    codes = np.repeat(np.arange(sizes.size), sizes)
    rng = np.random.default_rng(11)
    truth, hits, control, values, errors = 0.25 * weighted, 0, 0, [], []
    for _ in range(REPLICATIONS):
        x = rng.normal(size=codes.size)
        between = math.sqrt(0.3) * rng.normal(size=sizes.size)
        y = 0.5 * x + between[codes] + math.sqrt(0.7) * rng.normal(size=codes.size)
        given = {}
        if weighted:
            given = {"logp_target": -((x - 0.5) ** 2) / 2 - 1, "logp_logging": -(x**2) / 2 - 1}
        found = IPW().fit(x[:, None], y, groups=codes, **given).result_
        low, high = found.confint()
        hits += low <= truth <= high
        sums = np.bincount(codes, weights=found.influence) / codes.size
        half = stats.t.ppf(0.975, sizes.size - 1) * math.sqrt(
            sizes.size / (sizes.size - 1) * float(sums @ sums)
        )
        control += abs(found.value - truth) <= half
        values.append(found.value)
        errors.append(found.se)
    ratio = float(np.mean(errors) / np.std(values))
    return hits / REPLICATIONS, ratio, control / REPLICATIONS


@pytest.mark.parametrize("weighted", [False, True], ids=["mean", "Hajek"])
@pytest.mark.parametrize("design", SIZES)
def test_unequal_clusters_are_covered(design: str, weighted: bool) -> None:
    coverage, ratio, control = covered(SIZES[design], weighted=weighted)
    assert abs(coverage - 0.95) < ERROR, (coverage, ratio, control)
    assert ratio > 0.9
    if design != "log-normal":
        assert control < 0.95 - ERROR, control
    assert control < coverage


def test_equal_clusters_have_what_they_had() -> None:
    coverage, _, control = covered(np.full(30, 10), weighted=False)
    assert coverage == control
