"""TF-IDF pipelines: exact decomposition, few rows, any holder of texts, use in estimators."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from causal_lm_opt import DoublyRobust, OutcomeRegression, TargetSample
from causal_lm_opt.estimators import text_pipelines
from causal_lm_opt.estimators._text_style import STYLE
from causal_lm_opt.estimators.density_ratio import DensityRatio
from causal_lm_opt.estimators.text_pipelines import (
    TOKEN,
    LogLength,
    StyleFeatures,
    TextTopics,
    style_features,
    tfidf_features,
)

WORDS = ("the", "a", "good", "bad", "day", "night", "luck", "vote", "we", "you", "they", "3", "!")


def texts_of(n: int, seed: int = 0, longest: int = 12) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(2, longest))) for _ in range(n)]


# ------------------------------------------------------------------ the numbers
def test_coordinates_are_those_of_the_singular_value_decomposition() -> None:
    texts = texts_of(40)
    terms = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=TOKEN)
    dense = terms.fit_transform(texts).toarray()
    v = np.linalg.svd(dense, full_matrices=False)[2][:5]
    expected = dense @ v.T
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = tfidf_features(n_components=5).fit_transform(texts)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-10)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-10)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1)


def test_the_sparse_way_gives_the_dense_one(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = texts_of(60)
    dense = tfidf_features(n_components=10).fit(texts)
    monkeypatch.setattr(text_pipelines, "DENSE", 0)
    for seed in (0, 1):
        found = tfidf_features(n_components=10, random_state=seed).fit_transform(texts)
        np.testing.assert_allclose(found, dense.transform(texts), atol=1e-7)
    repeated = texts[:6] * 20  # rank 6: the other directions are rounding
    assert tfidf_features(n_components=50).fit_transform(repeated).shape == (120, 6)


def test_signs_and_order_of_rows() -> None:
    texts = texts_of(50)
    order = np.random.default_rng(1).permutation(50)
    one = tfidf_features(n_components=8, log_length=True, style=True).fit(texts)
    two = tfidf_features(n_components=8, log_length=True, style=True)
    np.testing.assert_array_equal(one.transform(texts), clone(one).fit(texts).transform(texts))
    shuffled = two.fit([texts[i] for i in order]).transform(texts)
    np.testing.assert_allclose(shuffled, one.transform(texts), atol=1e-8)
    components = TextTopics(4).fit(np.random.default_rng(0).normal(size=(9, 6))).components_
    assert (components.max(1) == np.abs(components).max(1)).all()


@pytest.mark.parametrize(
    ("texts", "width"),
    [(["good day"], 1), (["good", "bad"], 1), (["good"] * 5, 1), (["good day", "bad day", ""], 2),
     (["good day", "bad day", "bad luck", "vote now"], 3)],
    ids=["one", "two", "same", "empty", "four"],
)  # fmt: skip
def test_few_rows(texts: list[str], width: int) -> None:
    found = tfidf_features(words=(1, 1)).fit_transform(texts)
    assert found.shape == (len(texts), width)
    norms = np.linalg.norm(found, axis=1)
    np.testing.assert_allclose(norms[norms > 0], 1)
    wide = tfidf_features(log_length=True, style=True).fit_transform(texts)
    assert np.isfinite(wide).all()


def test_texts_without_known_terms_have_zeros() -> None:
    fitted = tfidf_features().fit(["good day", "bad day", "good luck"])
    assert not fitted.transform(["zebra", ""]).any()
    characters = tfidf_features(words=None, characters=(2, 3)).fit(["goodness", "badness", "x y"])
    assert characters.transform(["madness"]).any()
    both = tfidf_features(characters=(2, 3), n_components=None).fit(["good day", "bad"])
    assert any(name.startswith("characters__") for name in both.get_feature_names_out())
    few = tfidf_features(n_components=None, max_terms=2).fit_transform(["good day", "good luck"])
    assert few.shape == (2, 2)


def test_length_and_style_are_standardised_and_named() -> None:
    texts = texts_of(30)
    made = tfidf_features(n_components=3, log_length=True, style=True).fit(texts)
    found, names = made.transform(texts), made.get_feature_names_out().tolist()
    assert names == [
        *(f"text__topic{j}" for j in range(3)), "log_length__log words",
        *(f"style__{name}" for name in STYLE),
    ]  # fmt: skip
    assert found.shape == (30, len(names))
    beside = found[:, 3:]
    np.testing.assert_allclose(beside.mean(0), 0, atol=1e-12)
    spread = beside.std(0)
    np.testing.assert_allclose(spread[spread > 0], 1)
    words = np.array([len(text.replace("!", "").replace("?", "").split()) for text in texts])
    np.testing.assert_allclose(LogLength().fit_transform(texts)[:, 0], np.log1p(words))


def test_style_is_what_it_says() -> None:
    text = 'Why wait?\n\nJoin us NOW! "Every single vote" counts:\n- 3 of 4 said so\n'
    text += "* every single vote."
    found = dict(zip(STYLE, style_features(text), strict=True))
    words = 17  # why wait join us now every single vote counts 3 of 4 said so every single vote
    assert found == pytest.approx(
        {
            "mean word length": 62 / words,
            "long words": 0.0,
            "words per sentence": words / 3,
            "distinct words": 14 / np.sqrt(2 * words),
            "repeated runs": 1 / 15,
            "numbers": 200 / words,
            "questions": 1 / 3,
            "exclamations": 1 / 3,
            "quotation marks": 200 / words,
            "capitals": 1 / words,
            "list items": 2 / 4,
            "paragraphs": np.log(2),
            "you": 0.0,
            "we": 100 / words,
            "closed": 1.0,
        }
    )
    assert style_features(" ...") == (0.0,) * len(STYLE)
    assert StyleFeatures().transform([]).shape == (0, len(STYLE))
    assert dict(zip(STYLE, style_features("it breaks off in"), strict=True))["closed"] == 0


# ------------------------------------------------------------------ holders and errors
@pytest.mark.parametrize(
    "hold",
    [list, tuple, np.array, lambda t: np.array(t, dtype=object), pd.Series,
     lambda t: pd.Series(t, dtype=object, index=np.arange(len(t)) + 7),
     lambda t: pd.DataFrame({"age": 1.0, "text": t}), lambda t: pd.DataFrame({"said": t}),
     lambda t: np.array(t, dtype=object)[:, None]],
    ids=["list", "tuple", "str", "object", "series", "indexed", "frame", "one-column", "column"],
)  # fmt: skip
def test_texts_may_be_held_in_any_way(hold: Any) -> None:
    texts = texts_of(20)
    made = tfidf_features(n_components=4, log_length=True, style=True)
    np.testing.assert_array_equal(made.fit_transform(hold(texts)), clone(made).fit_transform(texts))


def test_texts_may_be_held_by_polars() -> None:
    polars = pytest.importorskip("polars")
    texts = texts_of(20)
    made = tfidf_features(n_components=4, log_length=True, style=True)
    expected = clone(made).fit_transform(texts)
    for held in (polars.DataFrame({"age": [1.0] * 20, "text": texts}), polars.Series(texts)):
        np.testing.assert_array_equal(made.fit_transform(held), expected)


def test_the_text_column_may_have_another_name() -> None:
    frame = pd.DataFrame({"age": 1.0, "said": texts_of(20)})
    made = tfidf_features(column="said", style=True, log_length=True)
    np.testing.assert_array_equal(
        made.fit_transform(frame), clone(made).fit_transform(frame["said"])
    )
    with pytest.raises(ValueError, match=r"X has no column 'text' but \['age', 'said'\]: name"):
        tfidf_features().fit(frame)


def test_scikit_learns_output_setting_does_no_harm() -> None:
    from sklearn import config_context

    with config_context(transform_output="pandas"):
        found = tfidf_features(n_components=3).fit_transform(texts_of(20))
    assert list(found.columns) == ["topic0", "topic1", "topic2"]


@pytest.mark.parametrize(
    ("settings", "X", "error", "said"),
    [({}, "good", TypeError, "X is one string"), ({}, ["a", 1.0], TypeError, r"X\[1\] is 1.0"),
     ({}, ["a", None], TypeError, r"X\[1\] is None"), ({}, [1.0, 2.0], ValueError, "must be texts"),
     ({}, pd.DataFrame({"text": ["a", np.nan]}), TypeError, r"X\['text'\]\[1\] is nan"),
     ({}, ["", " "], ValueError, "2 texts, and none has a visible character"),
     ({"n_components": 0}, ["a", "b"], ValueError, "n_components must be an integer >= 1"),
     ({"words": (2, 1)}, None, ValueError, r"words must be \(shortest, longest\)"),
     ({"characters": (0, 1)}, None, ValueError, "characters must be"),
     ({"words": None}, None, ValueError, "both None")],
    ids=["string", "mixed", "missing", "numbers", "nan", "empty", "components", "order", "zero",
         "none"],
)  # fmt: skip
def test_what_cannot_be_done_is_said(settings: Any, X: Any, error: Any, said: str) -> None:
    with pytest.raises(error, match=said):
        tfidf_features(**settings).fit(X)


# ------------------------------------------------------------------ in estimators
def test_as_an_outcome_model_of_texts_and_of_frames() -> None:
    texts = texts_of(300, 1)
    rng = np.random.default_rng(2)
    y = np.array([t.count("good") - t.count("bad") for t in texts]) + rng.normal(size=300) / 2
    weight = np.array([t.count("good") + 0.5 for t in texts])
    logp = np.log(weight / weight.sum())
    exact = TargetSample(texts, weight=weight / weight.sum(), exact=True)
    model = make_pipeline(tfidf_features(n_components=12, log_length=True), Ridge(0.1))
    doubly = DoublyRobust(model).fit(
        texts, y, logp_logging=np.full(300, -np.log(300)), logp_target=logp, X_target=exact
    )
    truth = np.average([t.count("good") - t.count("bad") for t in texts], weights=weight)
    assert abs(float(doubly.value_) - truth) < 3 * float(doubly.se_)
    frame = pd.DataFrame({"age": rng.normal(size=300), "text": texts})
    values = [
        OutcomeRegression(model).fit(X, y, X_target=TargetSample(X[:80]), **given).value_
        for X, given in ((texts, {}), (frame, {}), (texts, {"sample_weight": np.full(300, 2.0)}))
    ]
    np.testing.assert_allclose(values[1], values[0])
    assert np.isfinite(values).all()


def test_named_models_read_the_same_terms() -> None:
    from causal_lm_opt.estimators._named_models import named_outcome_model

    texts, y = texts_of(30), np.arange(30.0)
    terms = TfidfVectorizer(sublinear_tf=True, token_pattern=TOKEN)
    expected = make_pipeline(terms, Ridge(tol=1e-8)).fit(texts, y).predict(texts)
    found = named_outcome_model("tfidf-ridge").fit(texts, y).predict(texts)
    np.testing.assert_allclose(found, expected)


def test_as_the_latent_of_an_estimated_ratio() -> None:
    texts = texts_of(240, 3)
    draws = [text for text in texts_of(400, 4) if "good" in text or len(text) > 45]
    latent = tfidf_features(words=(1, 1), n_components=10)
    good = np.array(["good" in text for text in texts])
    for hold in (list, lambda t: pd.DataFrame({"age": 1.0, "text": t})):
        ratio = DensityRatio(latent=latent).fit(hold(texts), hold(draws))
        assert np.isfinite(ratio.log_ratio_).all()
        assert ratio.log_ratio_[good].mean() > ratio.log_ratio_[~good].mean() + 0.3
