"""Density ratios from classifiers and cells: known ratios, invariances, refusals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import BernoulliNB
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from causal_lm_opt import IPW, DensityRatio
from causal_lm_opt.diagnostics.sufficiency import latent_sufficiency
from causal_lm_opt.estimators._ratio import read_samples
from causal_lm_opt.estimators._ratio_fits import fold_of_rows
from causal_lm_opt.exceptions import OverlapError

SHIFT = np.array([0.6, -0.3])


def gaussians(n: int, seed: int, m: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Logged N(0, I) and draws N(SHIFT, I)."""
    rng = np.random.default_rng([7, seed])
    return rng.normal(size=(n, 2)), rng.normal(size=(n if m is None else m, 2)) + SHIFT


def true_log_ratio(X: np.ndarray) -> np.ndarray:
    return X @ SHIFT - SHIFT @ SHIFT / 2


def test_a_gaussian_ratio_is_recovered_at_the_parametric_rate() -> None:
    """n times the mean square error is constant, and of the size that theory gives.

    The size comes from the sandwich of the logistic likelihood under two fixed sample sizes, by
    integration. One error is about a chi-square of 3: 60 samples give its mean to 11 %, so that
    35 % are three Monte-Carlo standard errors.
    """
    points = np.random.default_rng(0).normal(size=(200_000, 2))
    z = np.column_stack([np.ones(200_000), points])
    ell = true_log_ratio(points)
    p = 1.0 / (1.0 + np.exp(-ell))
    information = (z * (p * (1 - p) * (1 + np.exp(ell)))[:, None]).T @ z / 200_000
    one = (z * ((1 - p) * np.exp(ell))[:, None]).mean(axis=0)
    meat = information - 2.0 * np.outer(one, one)  # both sample sizes are fixed
    inverse = np.linalg.inv(information)
    size = np.trace(inverse @ meat @ inverse @ (z.T @ z / 200_000))
    scaled = []
    for n in (500, 2000, 8000):
        errors = []
        for seed in range(60):
            X, draws = gaussians(n, seed)
            error = DensityRatio().fit(X, draws).log_ratio_ - true_log_ratio(X)
            errors.append(np.mean(error**2))
        scaled.append(n * np.mean(errors))
    assert scaled == pytest.approx([size] * 3, rel=0.35)


@pytest.mark.parametrize("m", [200, 5000])
def test_the_share_of_draws_does_not_enter(m: int) -> None:
    X, draws = gaussians(3000, 1, m)
    fitted = DensityRatio().fit(X, draws)
    off = fitted.log_ratio_ - true_log_ratio(X)
    assert abs(off.mean()) < 0.12
    assert fitted.weights().mean() == pytest.approx(1.0)


def test_cells_are_shares_of_counts() -> None:
    z, target = np.array(list("aaabbc")), np.array(list("abbbd"))
    fitted = DensityRatio("cells").fit(z, target)
    expected = {"a": (1 / 5) / (3 / 6), "b": (3 / 5) / (2 / 6), "c": 0.0}
    assert np.exp(fitted.log_ratio_) == pytest.approx([expected[x] for x in z])
    assert np.isposinf(fitted.log_ratio_target_).tolist() == [False] * 4 + [True]
    assert np.exp(fitted.predict(["b", "a"])) == pytest.approx([expected["b"], expected["a"]])
    assert np.isnan(fitted.predict(["never"])).all()
    diagnostics = fitted.diagnose()
    assert diagnostics.empty_mass == pytest.approx(0.2)
    assert diagnostics.unseen_mass == pytest.approx(0.2)


def test_cells_of_a_latent_are_those_of_its_values() -> None:
    X, draws = gaussians(400, 2)

    def sign(rows: np.ndarray) -> np.ndarray:
        return rows[:, 0] > 0

    marginal = DensityRatio("cells", latent=sign).fit(X, draws)
    given = DensityRatio("cells").fit(sign(X)[:, None], sign(draws)[:, None])
    assert marginal.log_ratio_ == pytest.approx(given.log_ratio_)
    assert len(set(marginal.log_ratio_.round(9))) == 2


@pytest.mark.parametrize(
    "ratio",
    [
        DensityRatio(),
        DensityRatio("cells", latent=lambda X: X[:, 0] > 0),
        DensityRatio(cv=3),
        DensityRatio(calibrate="sigmoid"),
    ],
    ids=["all rows", "cells", "folds", "calibrated"],
)
def test_frequencies_are_repeated_rows(ratio: DensityRatio) -> None:
    X, draws = gaussians(200, 3)
    rng = np.random.default_rng(0)
    s, t = rng.integers(1, 4, 200), rng.integers(1, 4, 200)
    short = clone(ratio).fit(X, draws, sample_weight=s, target_weight=t)
    long = clone(ratio).fit(np.repeat(X, s, axis=0), np.repeat(draws, t, axis=0))
    assert np.repeat(short.log_ratio_, s) == pytest.approx(long.log_ratio_, abs=1e-5)
    assert np.repeat(short.log_ratio_target_, t) == pytest.approx(long.log_ratio_target_, abs=1e-5)


@pytest.mark.parametrize("cv", ["auto", 4])
def test_row_order_does_not_matter(cv: int | str) -> None:
    X, draws = gaussians(300, 4)
    order = np.random.default_rng(1).permutation(300)
    one = DensityRatio(cv=cv).fit(X, draws)
    other = DensityRatio(cv=cv).fit(X[order], draws[order[::-1]])
    assert other.log_ratio_ == pytest.approx(one.log_ratio_[order], abs=1e-7)


def test_each_row_is_predicted_by_a_model_that_has_not_seen_its_text() -> None:
    """Equal texts of log and draws share a fold; groups stay whole, draws join their prompt's."""
    X = np.arange(40.0)[:, None]
    draws = np.concatenate([X[:15], X[:5], X[:20] + 100.0])
    samples = read_samples(X, draws, None, None, None, None)
    fold = fold_of_rows(samples, 5, 0)
    assert (fold[40:55] == fold[:15]).all()
    assert (fold[55:60] == fold[:5]).all()
    assert np.bincount(fold[:40]).tolist() == [8] * 5
    prompts, target_prompts = np.arange(40) // 4, np.arange(40) // 4
    samples = read_samples(X, draws, None, None, prompts, target_prompts)
    fold = fold_of_rows(samples, 5, 0)
    for g in range(10):
        held = np.concatenate([fold[:40][prompts == g], fold[40:][target_prompts == g]])
        assert np.unique(held).size == 1
    samples = read_samples(X, draws, None, None, prompts, None)
    fold = fold_of_rows(samples, 5, 0)
    assert (fold[40:55] == fold[:15]).all()


def test_a_black_box_is_cross_fitted_and_calibrated() -> None:
    X, draws = gaussians(1000, 5)
    forest = RandomForestClassifier(20, random_state=0)  # leaves of one row: odds far too sure
    fitted = DensityRatio(forest).fit(X, draws)
    raw = DensityRatio(forest, calibrate=None).fit(X, draws)
    assert fitted.influence_ is None
    assert fitted.diagnose().calibration_slope == pytest.approx(1.0, abs=1e-3)
    assert raw.diagnose().calibration_slope < 0.6
    truth = true_log_ratio(X)
    assert np.mean((fitted.log_ratio_ - truth) ** 2) < 0.4 * np.mean((raw.log_ratio_ - truth) ** 2)
    assert not hasattr(forest, "classes_")  # cloned
    assert np.isfinite(fitted.predict(X[:5])).all()


def test_a_classifier_without_probabilities_is_calibrated() -> None:
    X, draws = gaussians(1000, 6)
    fitted = DensityRatio(LinearSVC()).fit(X, draws)
    assert np.corrcoef(fitted.log_ratio_, true_log_ratio(X))[0, 1] > 0.95
    assert np.mean((fitted.log_ratio_ - true_log_ratio(X)) ** 2) < 0.05
    with pytest.raises(TypeError, match="calibrat"):
        DensityRatio(LinearSVC(), calibrate=None).fit(X, draws)


def texts(n: int, seed: int, kind: float) -> list[str]:
    rng = np.random.default_rng(seed)
    kinds = rng.random(n) < kind
    words = ["tax", "school", "road", "river"]
    return [f"{'please' if k else 'now'} {' '.join(rng.choice(words, 4))}" for k in kinds]


def test_texts_have_a_default_and_latents_of_texts_work() -> None:
    logged, drawn = texts(300, 0, 0.3), texts(300, 1, 0.7)
    fitted = DensityRatio().fit(logged, drawn)
    polite = np.array([t.startswith("please") for t in logged])
    gap = fitted.log_ratio_[polite].mean() - fitted.log_ratio_[~polite].mean()
    assert gap == pytest.approx(2 * np.log(7 / 3), abs=0.5)
    latent = DensityRatio(
        LogisticRegression(C=1e4),
        latent=CountVectorizer(vocabulary=["please"]),
    ).fit(logged, drawn)
    assert latent.influence_ is not None
    share = np.mean([t.startswith("please") for t in drawn]) / polite.mean()
    assert np.exp(latent.log_ratio_[polite]) == pytest.approx(share, rel=1e-2)
    with pytest.raises(ValueError, match="text pipeline"):
        DensityRatio(LogisticRegression()).fit(logged, drawn)


def test_layouts_agree() -> None:
    X, draws = gaussians(300, 8)
    one = DensityRatio().fit(X, draws)
    frame = DensityRatio().fit(pd.DataFrame(X), pd.DataFrame(draws))
    names = DensityRatio(latent=["p", "q"]).fit(
        pd.DataFrame(X, columns=["p", "q"]).assign(text="x"),
        pd.DataFrame(draws, columns=["p", "q"]).assign(text="y"),
    )
    thin = DensityRatio().fit(sparse.csr_array(X), sparse.csr_array(draws))
    for other in (frame, names):
        assert other.log_ratio_ == pytest.approx(one.log_ratio_, abs=1e-6)
    assert thin.log_ratio_ == pytest.approx(one.log_ratio_, abs=1e-3)  # penalty off centre
    assert names.diagnose().balance["feature"].tolist() == ["p", "q"]


def test_parameters_follow_scikit_learn() -> None:
    ratio = DensityRatio(make_pipeline(BernoulliNB()), latent="text", cv=3)
    assert clone(ratio).get_params()["classifier__bernoullinb__alpha"] == 1.0
    assert set(DensityRatio().get_params()) == {
        "classifier", "latent", "cv", "calibrate", "degree", "random_state", "n_jobs",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("ratio", "error", "said"),
    [
        (DensityRatio(cv=1), ValueError, "cv must be"),
        (DensityRatio(cv=2.5), ValueError, "cv must be"),
        (DensityRatio("cell"), ValueError, "'cells'"),
        (DensityRatio(calibrate="isotonic"), ValueError, "calibrate="),
        (DensityRatio(object()), TypeError, "predict_proba"),
        (DensityRatio(latent=3.5), TypeError, "latent must be"),
        (DensityRatio(latent=lambda X: X[:3]), ValueError, "callable returned"),
    ],
)
def test_settings_are_checked(ratio: DensityRatio, error: type[Exception], said: str) -> None:
    X, draws = gaussians(30, 9)
    with pytest.raises(error, match=said):
        ratio.fit(X, draws)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"X_target": np.zeros((5, 3))}, "columns"),
        ({"X_target": ["a", "b"]}, "one layout"),
        ({"X_target": np.zeros((1, 2))}, "at least two"),
        ({"sample_weight": np.r_[0.0, np.ones(29)]}, "positive frequencies"),
        ({"target_weight": np.ones(3)}, "target_weight"),
        ({"groups": np.arange(3)}, "groups"),
        ({"target_groups": np.zeros(30)}, "target_groups holds one"),
        ({"X": np.full((30, 2), np.nan)}, "NaN"),
    ],
)
def test_input_is_checked(change: dict[str, object], said: str) -> None:
    X, draws = gaussians(30, 9)
    arguments = {"X": X, "X_target": draws} | change
    with pytest.raises(ValueError, match=said):
        DensityRatio().fit(**arguments)


def test_cells_without_overlap_are_refused() -> None:
    with pytest.raises(OverlapError, match="coarser latent"):
        DensityRatio("cells").fit(["a", "b"], ["c", "d"])


def test_diagnostics_see_a_wrong_form() -> None:
    """Draws of a wider spread: log odds are quadratic, a linear logistic shows curvature."""
    rng = np.random.default_rng(0)
    X, draws = rng.normal(size=(3000, 1)), rng.normal(0.5, 1.3, (3000, 1))
    wrong = DensityRatio().fit(X, draws).diagnose()
    right = DensityRatio(latent=lambda x: np.hstack([x, x**2])).fit(X, draws).diagnose()
    assert any("not calibrated" in text for _, text in wrong.findings)
    assert not any("not calibrated" in text for _, text in right.findings)
    assert "curvature" not in str(right)
    assert right.max_smd < 0.15 < right.max_smd_unweighted
    assert right.findings == []
    assert list(right.reliability) == ["predicted", "observed", "rows"]
    assert right.reliability["observed"].to_numpy() == pytest.approx(
        right.reliability["predicted"].to_numpy(), abs=0.06
    )


def test_errors_of_diagnostics_and_the_choice_of_a_fit_count_groups() -> None:
    """Forty readers of each text are no more texts: neither for z nor for rows a parameter."""
    X, draws = gaussians(40, 11)
    groups = np.repeat(np.arange(40), 40)
    many = np.repeat(X, 40, axis=0), np.repeat(draws, 40, axis=0)
    clustered = DensityRatio(cv=None).fit(*many, groups=groups, target_groups=groups + 40)
    once = DensityRatio(cv=None).fit(X, draws)
    one, other = clustered.diagnose(), once.diagnose()
    for name in ("mean_weight_z", "calibration_curvature_z"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=0.05, abs=0.02)
    few = groups // 4
    assert (
        "cross-fitted" in DensityRatio().fit(*many, groups=few, target_groups=few + 10).label_
    )  # 10 groups for 3 parameters
    assert "all rows" in DensityRatio().fit(*many).label_


def test_the_test_of_what_is_left_out_has_its_level_and_power() -> None:
    """400 samples: false alarms at z > 1.96 in 3-7 %; a factor of .15 sd is found in most."""
    alarms, found, named = [], [], []
    for seed in range(400):
        rng = np.random.default_rng([3, seed])
        X, draws = rng.normal(size=(400, 3)), rng.normal([0.5, 0.4, 0.8], 1.0, (800, 3))
        known = 0.5 * X[:, 0] - 0.125
        noise = rng.normal(size=400)
        for effect, out in ((0.0, alarms), (0.3, found)):
            result = latent_sufficiency(
                X[:, 0] + effect * X[:, 1] + noise, known, X, draws, latent=X[:, :1],
                names=["a", "b", "c"],
            )  # fmt: skip
            assert result is not None
            out.append(abs(result.z) > 1.96)
            if effect:
                named.append(result.worst == "b" and result.p_value < 0.001)
    assert 0.03 <= np.mean(alarms) <= 0.075
    assert np.mean(found) > 0.55
    assert np.mean(named) > 0.9  # the one factor stands out where the sum of all drowns it


def test_nothing_is_left_out_when_the_latent_is_all_there_is() -> None:
    X, draws = gaussians(300, 10)
    assert latent_sufficiency(X[:, 0], true_log_ratio(X), X, draws, latent=X) is None


@pytest.mark.statistical
def test_the_words_that_a_ratio_reads_are_not_said_to_be_left_out() -> None:
    """Outcomes additive in words, and a policy that is the logger: the ratio leaves nothing out."""
    words, effect = np.array([f"w{i}" for i in range(12)]), np.linspace(-1, 1, 12)
    told = 0
    for seed in range(25):
        rng = np.random.default_rng([15, seed])
        at, drawn = rng.integers(0, 12, (2, 1000, 3))
        y = effect[at].sum(axis=1) + rng.normal(size=1000)
        logged, draws = ([" ".join(w) for w in words[x]] for x in (at, drawn))
        est = IPW(ratio=DensityRatio()).fit(logged, y, X_target={"same": draws})
        told += any("Latent sufficiency fails" in r for r in est.result_.verdicts[0].reasons)
    assert told == 0  # 8 of 25 where the regression knew nothing of the words
