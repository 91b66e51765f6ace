"""Estimated ratios: words by default, penalties, what is left out, names, weights, resamples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.preprocessing import StandardScaler

from causal_lm_opt import IPW, BalancingRatio, DensityRatio, DoublyRobust
from causal_lm_opt.datasets import load_hong_kong
from causal_lm_opt.estimators import _bootstrap
from causal_lm_opt.estimators._ratio import read_samples
from causal_lm_opt.estimators._ratio_fits import fold_of_rows
from causal_lm_opt.estimators.generalised_propensity import GeneralisedPropensity
from causal_lm_opt.estimators.observational import product_sample, text_and_reader

WORDS = np.array([f"w{i:02d}" for i in range(60)])
TILT = np.where(np.arange(60) < 12, 0.5, 0.0)
LOGGED = np.full(60, 1 / 60)
TARGET = LOGGED * np.exp(TILT) / (LOGGED @ np.exp(TILT))


def bags(rng: np.random.Generator, n: int, p: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Texts of 15 words, whose log ratio and outcome are linear in the counts."""
    drawn = rng.choice(60, (n, 15), p=p)
    return [" ".join(row) for row in WORDS[drawn]], TILT[drawn].sum(axis=1)


def test_the_default_for_texts_covers_where_the_ratio_is_linear_in_words() -> None:
    """30 samples: bias within three of its errors, and far from the .24 of a shrunken TF-IDF."""
    truth, off, ratio = 15 * float(TARGET @ TILT), [], []
    for seed in range(30):
        rng = np.random.default_rng([11, seed])
        texts, g = bags(rng, 600, LOGGED)
        draws, _ = bags(rng, 600, TARGET)
        est = IPW(ratio=DensityRatio()).fit(texts, g + rng.normal(size=600), X_target=draws)
        off.append(est.value_ - truth)
        ratio.append(off[-1] / est.se_)
    assert "60 words" in est.ratio_[0].label_
    assert abs(np.mean(off)) < 3 * np.std(off) / np.sqrt(30)
    assert np.mean(np.abs(ratio) < 1.96) > 0.85


def test_many_features_are_fitted_once_on_all_rows() -> None:
    """20 features, 150 rows: the noise of cross-fitted odds left a bias of 1.8 of 4."""
    off, ratio = [], []
    for seed in range(40):
        rng = np.random.default_rng([12, seed])
        X, draws = rng.normal(size=(150, 20)), rng.normal(0.2, 1.0, (150, 20))
        y = X.sum(axis=1) + rng.normal(size=150)
        est = IPW(ratio=DensityRatio()).fit(X, y, X_target=draws)
        off.append(est.value_ - 4.0)
        ratio.append(off[-1] / est.se_)
    assert abs(np.mean(off)) < 3 * np.std(off) / np.sqrt(40)
    assert np.mean(np.abs(ratio) < 1.96) > 0.85


def test_a_penalty_that_matters_has_no_first_order_interval() -> None:
    rng = np.random.default_rng(0)
    X, draws = rng.normal(size=(400, 2)), rng.normal(0.5, 1.0, (400, 2))
    weak = DensityRatio(LogisticRegression()).fit(X, draws)
    strong = DensityRatio(LogisticRegression(C=0.01)).fit(X, draws)
    assert weak.influence_ is not None
    assert strong.influence_ is None
    assert "cross-fitted" in strong.label_


def test_texts_without_a_repeated_word_are_read() -> None:
    logged, drawn = [f"a{i}" for i in range(30)], [f"b{i}" for i in range(30)]
    assert np.isfinite(DensityRatio().fit(logged, drawn).log_ratio_).all()


def test_what_is_left_out_is_in_the_verdict_of_a_text_ratio() -> None:
    """A ratio that reads one word, outcomes that respond to twelve."""
    rng = np.random.default_rng(0)
    texts, g = bags(rng, 1500, LOGGED)
    draws, _ = bags(rng, 1500, TARGET)
    one = DensityRatio(latent=lambda rows: np.array([[t.count("w00")] for t in rows]))
    est = IPW(ratio=one).fit(texts, g + rng.normal(size=1500), X_target=draws)
    assert est.result_.verdicts[0].level == "do not use"
    assert any("sufficiency fails" in r for r in est.result_.verdicts[0].reasons)
    full = IPW(ratio=DensityRatio()).fit(texts, g + rng.normal(size=1500), X_target=draws)
    assert full.result_.verdicts[0].level == "caution"


def test_rare_words_beyond_those_that_a_ratio_reads_are_looked_at() -> None:
    """Outcomes respond to the 40th word by rank, which the table of readable features lacks."""
    rng = np.random.default_rng(0)
    p = np.exp(-0.03 * np.arange(60))
    q = p * np.where(np.arange(60) == 39, 5.0, 1.0)
    texts, draws = (
        [" ".join(row) for row in WORDS[rng.choice(60, (1200, 15), p=x / x.sum())]] for x in (p, q)
    )
    y = 2.0 * np.array([t.count("w39") for t in texts]) + rng.normal(size=1200)
    first = DensityRatio(latent=lambda rows: np.array([[t.count("w00")] for t in rows]))
    verdict = IPW(ratio=first).fit(texts, y, X_target=draws).result_.verdicts[0]
    assert verdict.level == "do not use"
    assert any("'count: w39'" in r for r in verdict.reasons)


@pytest.mark.parametrize("ratio", [BalancingRatio(), DensityRatio()])
def test_a_wrong_form_is_refuted_and_a_right_one_is_not(ratio: object) -> None:
    """Draws N(.2, .25), outcome x + x^2: first moments alone leave a bias of .7."""
    rng = np.random.default_rng(0)
    X, draws = rng.normal(size=(600, 1)), rng.normal(0.2, 0.5, (400, 1))
    y = X[:, 0] + X[:, 0] ** 2 + rng.normal(size=600)
    wrong = IPW(ratio=ratio).fit(X, y, X_target=draws).result_.verdicts[0]
    assert wrong.level == "do not use"
    assert any("form is wrong" in r and "^2'" in r for r in wrong.reasons)
    bent = type(ratio)(degree=2)
    est = IPW(ratio=bent).fit(X, y, X_target=draws)
    assert est.result_.verdicts[0].level == "caution"
    assert abs(est.value_ - 0.49) < 4 * est.se_


def test_a_curved_outcome_does_not_refute_a_right_ratio() -> None:
    refuted = []
    for seed in range(60):
        rng = np.random.default_rng([2, seed])
        X, draws = rng.normal(size=(400, 1)), rng.normal(0.5, 1.0, (400, 1))
        y = X[:, 0] ** 2 + rng.normal(size=400)
        est = IPW(ratio=DensityRatio()).fit(X, y, X_target=draws)
        refuted.append(est.result_.verdicts[0].level == "do not use")
    assert np.mean(refuted) < 0.04


def crossed(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=400)
    x = 0.5 * z + rng.normal(size=400)
    return x[:, None], z, x + z + 0.3 * x * z + rng.normal(size=400), rng.normal(0.5, 0.8, (30, 1))


def test_products_of_text_and_reader_are_seen_and_mended() -> None:
    x, z, y, draws = crossed(0)
    pairs = product_sample(draws, z)
    plain, bent = (
        IPW(ratio=DensityRatio(degree=degree)).fit(text_and_reader(x, z), y, X_target=pairs.sample)
        for degree in (1, 2)
    )
    assert abs(bent.value_ - draws.mean()) < abs(plain.value_ - draws.mean())
    assert bent.ratio_[0].diagnose().max_smd < 0.1


def test_degree_is_checked() -> None:
    X = np.random.default_rng(0).normal(size=(40, 1))
    for ratio, said in (
        (DensityRatio(degree=3), "degree must be"),
        (DensityRatio(LogisticRegression(), degree=2), "default classifier"),
    ):
        with pytest.raises(ValueError, match=said):
            ratio.fit(X, X)
    with pytest.raises(ValueError, match="latent="):
        DensityRatio(degree=2).fit(["a", "b"] * 5, ["a", "c"] * 5)


def test_laws_that_do_not_balance_are_refuted() -> None:
    """t bends in z; a linear law leaves z^2 out of balance, and outcomes respond to it."""
    rng = np.random.default_rng(1)
    z = rng.normal(size=500)
    t = (0.7 * z**2 - 0.7 + rng.normal(size=500))[:, None]
    y = t[:, 0] + 2 * z**2 + rng.normal(size=500)
    draws = rng.normal(0.5, 0.8, (50, 1))
    wrong = GeneralisedPropensity().fit(t, z, draws).value(IPW(), t, y)
    assert wrong.verdicts[0].level == "do not use"
    assert any("bends in z" in r for r in wrong.verdicts[0].reasons)
    right = GeneralisedPropensity().fit(t, np.column_stack([z, z**2]), draws)
    found = right.value(
        DoublyRobust(LinearRegression()), text_and_reader(t, np.column_stack([z, z**2])), y,
        product=product_sample(draws, np.column_stack([z, z**2])),
    )  # fmt: skip
    assert not any("bends in z" in r for r in found.verdicts[0].reasons)
    assert any("fitted laws of text features" in r for r in found.verdicts[0].reasons)
    assert found.verdicts[0].level != "trustworthy"


def test_few_floating_point_values_are_no_normal_feature() -> None:
    rng = np.random.default_rng(0)
    t, z = rng.integers(0, 2, 200).astype(float), rng.normal(size=200)
    with pytest.raises(ValueError, match="model='logistic'"):
        GeneralisedPropensity().fit(t, z, [1.0] * 50)
    GeneralisedPropensity("logistic").fit(t, z, [1.0] * 50)


def test_columns_of_numeric_frames_have_names() -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"topic": rng.integers(0, 3, 300), "len": rng.normal(size=300)})
    draws = pd.DataFrame({"topic": rng.integers(0, 3, 200), "len": rng.normal(0.3, 1.0, 200)})
    y = rng.normal(size=300)
    for named, placed in (
        (BalancingRatio("len"), BalancingRatio([1])),
        (DensityRatio(latent="len"), DensityRatio(latent=[1])),
        (DensityRatio("cells", latent="topic"), DensityRatio("cells", latent=[0])),
    ):
        one = IPW(ratio=named).fit(X, y, X_target=draws)
        other = IPW(ratio=placed).fit(X.to_numpy(), y, X_target=draws.to_numpy())
        assert one.value_ == pytest.approx(other.value_, abs=1e-7)
        assert one.se_ == pytest.approx(other.se_, rel=1e-4)
    dr = DoublyRobust(LinearRegression(), ratio=BalancingRatio("len"))
    assert np.isfinite(dr.fit(X, y, X_target=draws).se_)
    with pytest.raises(ValueError, match=r"no column 'nope' among \['topic', 'len'\]"):
        IPW(ratio=BalancingRatio("nope")).fit(X, y, X_target=draws)
    with pytest.raises(ValueError, match="no column names"):
        IPW(ratio=BalancingRatio("len")).fit(X.to_numpy(), y, X_target=draws.to_numpy())
    with pytest.raises(ValueError, match="2 columns"):
        BalancingRatio([2]).fit(X.to_numpy(), draws.to_numpy())


@pytest.mark.parametrize("cv", [None, 3])
def test_class_weights_do_not_move_the_weights_mean(cv: int | None) -> None:
    rng = np.random.default_rng(0)
    X, draws = rng.normal(size=(2000, 2)), rng.normal(0.3, 1.0, (200, 2))
    model = LogisticRegression(class_weight="balanced")
    found = DensityRatio(model, cv=cv, calibrate=None).fit(X, draws)
    assert np.exp(found.log_ratio_).mean() == pytest.approx(1.0, abs=0.1)


def test_resamples_without_a_value_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    X, draws = rng.normal(size=(40, 2)), rng.normal(0.9, 1.0, (40, 2))
    y = X.sum(axis=1) + rng.normal(size=40)
    est = DoublyRobust(
        LinearRegression(), ratio=BalancingRatio(), inference="bootstrap", n_bootstrap=60
    ).fit(X, y, X_target=draws)
    assert np.isfinite(est.se_)
    lost = 60 - est.result_.samples[0].influence.shape[0]
    said = any(f"{lost} of 60 bootstrap" in r for r in est.result_.verdicts[0].reasons)
    assert said == (lost > 3)
    assert lost > 0

    def never(*_: object) -> None:
        raise ValueError("no weights")

    with pytest.raises(ValueError, match=r"30 of 30 bootstrap.*Replicate 0: no weights"):
        _bootstrap.bootstrap_values(
            est.log_, est.policies_, never, n_bootstrap=30, seed=0, n_jobs=None
        )


def test_folds_keep_equal_texts_of_different_groups_together_where_they_can() -> None:
    X, draws = np.repeat(np.arange(60.0), 2)[:, None], np.arange(60.0)[:, None] + 100.0
    groups = np.concatenate([np.arange(60) * 2, np.arange(60) * 2 + 1])[
        np.argsort(np.tile(np.arange(60), 2), kind="stable")
    ]
    fold = fold_of_rows(read_samples(X, draws, None, None, groups, None), 5, 0)
    assert (fold[:120:2] == fold[1:120:2]).all()
    linked = np.roll(np.arange(120) // 2, 1)  # every group reads the next text too: one chain
    fold = fold_of_rows(read_samples(X, draws, None, None, linked, None), 5, 0)
    assert np.unique(fold).size == 5
    for g in range(60):
        assert np.unique(fold[:120][linked == g]).size == 1


def test_squares_are_of_standardised_columns() -> None:
    rng = np.random.default_rng(0)
    X, draws = rng.normal(size=(300, 2)), rng.normal(0.2, 0.9, (300, 2))
    near = BalancingRatio(degree=2, tolerance=0.02).fit(X, draws)
    far = BalancingRatio(degree=2, tolerance=0.02).fit(X + 1e4, draws + 1e4)
    assert far.log_ratio_ == pytest.approx(near.log_ratio_, abs=1e-4)
    assert far.predict(X + 1e4) == pytest.approx(near.log_ratio_, abs=1e-4)


def test_cells_of_tables_of_strings() -> None:
    z = np.array([["a", "x"], ["b", "y"]] * 5)
    target = np.array([["a", "x"], ["a", "x"], ["b", "y"], ["c", "x"]])
    found = DensityRatio("cells").fit(z, target)
    assert np.exp(found.log_ratio_[:2]) == pytest.approx([1.0, 0.5])
    assert np.isposinf(found.log_ratio_target_[3])


def test_classes_and_lists_are_refused() -> None:
    X = np.random.default_rng(0).normal(size=(40, 2))
    with pytest.raises(TypeError, match="tolerance must be one number"):
        BalancingRatio(tolerance=[0.1, 0.2]).fit(X, X)
    with pytest.raises(TypeError, match=r"give DensityRatio\(\)"):
        IPW(ratio=DensityRatio).fit(X, X[:, 0], X_target=X)
    with pytest.raises(TypeError, match=r"give LogisticRegression\(\)"):
        DensityRatio(LogisticRegression).fit(X, X)
    with pytest.raises(TypeError, match=r"give StandardScaler\(\)"):
        DensityRatio(latent=StandardScaler).fit(X, X)


def test_words_that_stand_together_are_fitted_to_the_end() -> None:
    """Phrases of many words: the penalised score is 0 within few steps, for either sample."""
    phrases = np.random.default_rng(0).choice(WORDS, (7, 6, 20))

    def written(rng: np.random.Generator, kinds: list[int]) -> str:
        held = rng.choice(kinds, 3, replace=False)
        return " ".join(w for k in held for w in phrases[k, rng.integers(6)])

    rng = np.random.default_rng(1)
    logged = [written(rng, list(range(7))) for _ in range(600)]
    draws = [written(rng, list(range(1, 7))) for _ in range(600)]
    ratio = DensityRatio().fit(logged, draws)
    *steps, model = [step for _, step in ratio.odds_.model.steps]
    z = steps[1].transform(steps[0].transform(logged + draws))
    error = model.predict_proba(z)[:, 1] - np.repeat([0.0, 1.0], 600)
    score = z.T @ error + model.coef_[0] / model.C
    assert np.abs(score).max() < 1e-7 * 1200
    assert abs(error.sum()) < 1e-7 * 1200
    assert model.n_iter_[0] < 50


@pytest.mark.real_data
def test_words_of_the_hong_kong_texts_are_fitted_to_the_end(data_dir: Path) -> None:
    """299 words of 42 wordings; a fit that stops before its end warns, which is an error here."""
    hk = load_hong_kong(data_dir)
    policy = hk.design.condition(exclude="treatycommit")
    draws = list(policy.sample(1500, random_state=1))
    ratio = DensityRatio().fit(hk.texts, draws, groups=hk.groups)
    assert "words" in ratio.label_
    never = np.isneginf(policy.log_prob(hk.texts))
    assert ratio.log_ratio_[never].max() < -5 < ratio.log_ratio_[~never].min()
