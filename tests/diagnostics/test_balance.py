"""Balance: the formula against loops, its error against simulation, and odd features.

Statistical tolerances: with R replications a rejection rate of 5 % has Monte-Carlo error
sqrt(.05 * .95 / R); rates are held to 4 of those plus .01 for finite samples.
"""

from __future__ import annotations

import math
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causal_lm_opt.diagnostics.balance import balance, balance_summary
from causal_lm_opt.exceptions import OverlapError

MU = np.array([0.4, -0.2, 0.0])


def gaussian(rng: np.random.Generator, n: int = 400, m: int = 1200) -> tuple[Any, Any, Any]:
    """Log from N(0, I), draws from N(MU, I), and the right log ratio."""
    x = rng.standard_normal((n, 3))
    return x, rng.standard_normal((m, 3)) + MU, x @ MU - MU @ MU / 2


def by_loop(x: Any, t: Any, ell: Any, s: Any, k: int) -> tuple[float, float, float]:
    """SMDs and standard error of one feature, row by row."""
    w = [math.exp(e) for e in ell]
    n, m = sum(s), len(t)
    mean_u = sum(si * row[k] for si, row in zip(s, x, strict=True)) / n
    total = sum(si * wi for si, wi in zip(s, w, strict=True))
    mean_w = sum(si * wi * row[k] for si, wi, row in zip(s, w, x, strict=True)) / total
    mean_t = sum(row[k] for row in t) / m
    var_u = sum(si * (row[k] - mean_u) ** 2 for si, row in zip(s, x, strict=True)) / n
    var_t = sum((row[k] - mean_t) ** 2 for row in t) / m
    sd = math.sqrt((var_u + var_t) / 2)
    phi = [wi * (row[k] - mean_w) / (total / n) for wi, row in zip(w, x, strict=True)]
    own = n / (n - 1) * sum(si * p * p for si, p in zip(s, phi, strict=True)) / n**2
    theirs = m / (m - 1) * var_t / m
    # neither sample may vary less than the other one expects of it
    var_w = sum(si * wi * (row[k] - mean_w) ** 2 for si, wi, row in zip(s, w, x, strict=True))
    error = max(own, var_t / n) + max(theirs, var_w / total / m)
    return (mean_u - mean_t) / sd, (mean_w - mean_t) / sd, math.sqrt(error) / sd


def test_formula_against_a_loop() -> None:
    rng = np.random.default_rng(1)
    x, t, ell = gaussian(rng, 30, 40)
    s = rng.integers(1, 4, 30).astype(float)
    table = balance(x, t, ell, sample_weight=s, names=["a", "b", "c"])
    columns = ["feature", "smd_unweighted", "smd_weighted", "se_weighted", "z"]
    assert list(table.columns) == columns
    for k in range(3):
        expected = by_loop(x, t, ell, s, k)
        np.testing.assert_allclose(table.iloc[k, 1:4].to_numpy(float), expected, rtol=1e-10)
    np.testing.assert_allclose(table["z"], table["smd_weighted"] / table["se_weighted"])


def test_frequencies_are_repetitions_and_zero_drops_the_row() -> None:
    rng = np.random.default_rng(2)
    x, t, ell = gaussian(rng, 50, 60)
    s, r = rng.integers(0, 4, 50), rng.integers(0, 3, 60)
    weighted = balance(x, t, ell, sample_weight=s, target_weight=r)
    repeated = balance(np.repeat(x, s, 0), np.repeat(t, r, 0), np.repeat(ell, s))
    pd.testing.assert_frame_equal(weighted, repeated, rtol=1e-9)
    codes, repeated_codes = np.arange(50) // 2, np.repeat(np.arange(50) // 2, s)
    clustered = balance(x, t, ell, sample_weight=s, target_weight=r, codes=codes)
    again = balance(np.repeat(x, s, 0), np.repeat(t, r, 0), np.repeat(ell, s), codes=repeated_codes)
    pd.testing.assert_frame_equal(clustered, again, rtol=1e-9)


@pytest.mark.statistical
def test_z_is_standard_normal_under_the_right_weights_only() -> None:
    rng = np.random.default_rng(3)
    replications = 400
    normals = rng.standard_normal((499, 3))
    z, wrong, p = [], [], []
    for _ in range(replications):
        x, t, ell = gaussian(rng)
        found = balance_summary(x, t, ell, normals=normals)
        z.append(found.table["z"].to_numpy())
        p.append(found.p_value)
        wrong.append(balance_summary(x, t, -ell, normals=normals).p_value)
    band = 4 * math.sqrt(0.05 * 0.95 / replications) + 0.01
    assert np.abs(np.mean(z, axis=0)).max() < 4 / math.sqrt(replications) + 0.1
    assert np.abs(np.std(z, axis=0) - 1).max() < 4 / math.sqrt(2 * replications)
    assert abs(np.mean(np.array(p) <= 0.05) - 0.05) < band
    assert np.mean(np.array(wrong) <= 0.05) > 0.99  # negative control: weights upside down


@pytest.mark.statistical
def test_errors_with_shared_prompts_need_shared_codes() -> None:
    """A feature of the prompt is equal in log and draws; adding variances is far too wide."""
    rng = np.random.default_rng(4)
    prompts = np.repeat(np.arange(60), 5)
    shared, added = [], []
    for _ in range(150):
        own = np.repeat(rng.standard_normal(60), 5)[:, None]
        x, t = own + 0.3 * rng.standard_normal((300, 1)), own + 0.3 * rng.standard_normal((300, 1))
        arguments = {"codes": prompts, "target_codes": prompts}
        shared.append(balance(x, t, np.zeros(300), **arguments, shared_codes=True)["z"][0])
        added.append(balance(x, t, np.zeros(300), **arguments)["z"][0])
    assert abs(np.std(shared) - 1) < 4 / math.sqrt(2 * 150) + 0.02
    assert np.std(added) < 0.3


@pytest.mark.statistical
def test_clustered_errors_and_draws_of_a_sampling_model() -> None:
    rng = np.random.default_rng(5)
    codes = np.repeat(np.arange(80), 4)
    clustered, rows, drawn = [], [], []
    for _ in range(200):
        x = np.repeat(rng.standard_normal((80, 1)), 4, axis=0)
        t = rng.standard_normal((2000, 1)) + 0.3
        ell = 0.3 * x[:, 0] - 0.045
        clustered.append(balance(x, t, ell, codes=codes)["z"][0])
        rows.append(balance(x, t, ell)["z"][0])
        y, f0 = rng.standard_normal((300, 1)), rng.standard_normal((300, 1))
        drawn.append(
            balance(y, f0, 0.3 * y[:, 0], target_log_ratio=0.3 * f0[:, 0])["z"][0]
        )  # both weighted to the target
    band = 4 / math.sqrt(2 * 200) + 0.03
    assert abs(np.std(clustered) - 1) < band
    assert np.std(rows) > 1.5  # negative control: readers of one text taken for texts
    assert abs(np.std(drawn) - 1) < band


def test_exact_support_has_no_sampling_error_of_its_own() -> None:
    x = np.array([[0.0], [0.0], [1.0], [1.0]])
    support, p = np.array([[0.0], [1.0]]), np.array([0.25, 0.75])
    ell = np.log(np.where(x[:, 0] == 1, 1.5, 0.5))
    found = balance(x, support, ell, target_weight=p, exact=True)
    assert found["smd_weighted"][0] == pytest.approx(0, abs=1e-12)
    mean, w = 0.75, np.exp(ell)
    phi = w * (x[:, 0] - mean)
    sd = math.sqrt((0.25 + 0.1875) / 2)
    assert found["se_weighted"][0] == pytest.approx(math.sqrt(4 / 3 * (phi**2).sum()) / 4 / sd)


def test_constant_features() -> None:
    rng = np.random.default_rng(6)
    x, t = np.full((20, 3), 0.1), np.full((30, 3), 0.1)
    t[:, 1] = 0.7  # constant at another value
    t[:, 2] = rng.random(30)  # varies among the draws alone: weights cannot move the log
    ell = rng.standard_normal(20)
    found = balance_summary(x, t, ell, normals=rng.standard_normal((99, 3)))
    assert found.table.iloc[0, 1:].tolist() == [0, 0, 0, 0]
    assert found.table["smd_weighted"][1] == found.table["z"][1] == -math.inf
    assert np.isfinite(found.table.iloc[2, 1:].to_numpy(float)).all()
    assert (found.max_weighted, found.worst, found.p_value) == (math.inf, "x1", 0.01)
    calm = balance_summary(x[:, :1], t[:, :1], ell, normals=rng.standard_normal((99, 1)))
    assert calm.p_value == 1.0
    assert "standard errors" in calm.sentence


@given(
    x=hnp.arrays(np.float64, (12, 2), elements=st.floats(-1e3, 1e3)),
    shift=st.sampled_from([0.0, 1e4, -1e4]),
    order=st.permutations(range(12)),
    stretch=st.sampled_from([1e-3, 1.0, 1e3]),
)
@settings(max_examples=50)
def test_invariances(x: Any, shift: float, order: list[int], stretch: float) -> None:
    """A constant in ell, row order and the unit of a feature change nothing."""
    t = np.arange(20.0).reshape(10, 2)
    ell = np.linspace(-2, 2, 12)
    ell[3] = -math.inf
    one = balance(x, t, ell)
    two = balance(x[order] * stretch, t * stretch, ell[order] + shift)
    pd.testing.assert_frame_equal(one, two, rtol=1e-6, atol=1e-8)


def test_names_come_from_frames_and_must_agree() -> None:
    x = pd.DataFrame({"length": [1.0, 2.0, 4.0], "polite": [0, 1, 1]})
    assert balance(x, x, np.zeros(3))["feature"].tolist() == ["length", "polite"]
    assert balance(x["length"].to_numpy(), [1.0, 2.0], np.zeros(3))["feature"].tolist() == ["x0"]
    with pytest.raises(ValueError, match="differently"):
        balance(x, x[["polite", "length"]], np.zeros(3))


BAD: list[tuple[dict[str, Any], str]] = [
    ({"log_ratio": np.zeros(3)}, r"log_ratio must have shape \(4,\)"),
    ({"log_ratio": np.array([0, 0, np.nan, 0])}, "log_ratio has 1 NaN"),
    ({"log_ratio": np.array([0, 0, np.inf, 0])}, "log_ratio has 1 NaN or infinite"),
    ({"features_target": np.zeros((5, 3))}, "2 columns and features_target 3"),
    ({"features_logged": np.full((4, 2), np.nan)}, "features_logged has 8 NaN"),
    ({"features_logged": [["a", "b"]] * 4}, "features_logged must be a dense array of numbers"),
    ({"features_logged": np.zeros((0, 2)), "log_ratio": []}, "features_logged must have shape"),
    ({"names": ["a"]}, "names must hold 2"),
    ({"names": "ab"}, "names must hold 2"),
    ({"sample_weight": [1, -1, 1, 1]}, "sample_weight must be non-negative"),
    ({"target_weight": np.full(5, 0.2)}, "target_weight counts 1 "),
    ({"codes": [1, 1, 1, 1]}, "codes holds one distinct label"),
    ({"target_codes": ["a", None, "b", "b", "a"]}, "target_codes has 1 missing"),
    ({"shared_codes": True}, "shared_codes=True needs both"),
    ({"exact": True}, "needs the support's probabilities"),
    ({"exact": True, "target_weight": np.ones(5)}, "sum to 1"),
    ({"exact": True, "target_log_ratio": np.ones(5)}, "takes neither"),
]


@pytest.mark.parametrize("change,message", BAD)
def test_bad_input(change: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {
        "features_logged": np.arange(8.0).reshape(4, 2),
        "features_target": np.arange(10.0).reshape(5, 2),
        "log_ratio": np.zeros(4),
    }
    with pytest.raises(ValueError, match=message):
        balance(**(good | change))


def test_no_overlap_and_bad_normals() -> None:
    x = np.arange(4.0)
    with pytest.raises(OverlapError, match="log_ratio is -inf for every row"):
        balance(x, x, np.full(4, -np.inf))
    with pytest.raises(OverlapError, match="positive sample_weight"):
        balance(x, x, [0, 0, -np.inf, -np.inf], sample_weight=[0, 0, 1, 1])
    with pytest.raises(ValueError, match=r"normals must have shape \(B, 1\)"):
        balance_summary(x, x, np.zeros(4), normals=np.zeros((9, 2)))
