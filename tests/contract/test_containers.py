"""The same experiment in other containers gives the same figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import make_pipeline

from causal_lm_opt import DoublyRobust, OutcomeRegression, StatsmodelsGLM, TargetSample

NAMES = ["mood", "length", "warmth"]
INDICES = {
    "shuffled": lambda n: np.random.default_rng(1).permutation(n),
    "strings": lambda n: [f"row {i}" for i in range(n)],
    "duplicates": lambda n: np.arange(n) // 4,
}


@pytest.fixture
def plain(kind, experiment):
    """Fit on plain arrays, groups included."""
    e = experiment
    return kind().fit(e.X, e.y, groups=e.groups, **e.arguments(kind, policies=2))


def assert_same(left: Any, right: Any, rtol: float = 0.0) -> None:
    if rtol == 0.0:
        assert_array_equal(left.value_, right.value_)
        assert_array_equal(left.se_, right.se_)
        assert_array_equal(left.result_.confint(), right.result_.confint())
    else:
        assert_allclose(left.value_, right.value_, rtol=rtol)
        assert_allclose(left.se_, right.se_, rtol=rtol)


def converted(arguments: dict[str, Any], convert: Any) -> dict[str, Any]:
    """Every array in the fit arguments through ``convert``."""
    return {
        k: {name: convert(v) for name, v in a.items()} if isinstance(a, dict) else convert(a)
        for k, a in arguments.items()
    }


def read_only(a: Any) -> Any:
    out = np.array(a)
    out.setflags(write=False)
    return out


def strided(a: Any) -> Any:
    """The same numbers, neither C- nor Fortran-contiguous."""
    a = np.asarray(a)
    wide = np.full((*[2 * size for size in a.shape],), -1e3, dtype=a.dtype)
    wide[tuple(slice(None, None, 2) for _ in a.shape)] = a
    out = wide[tuple(slice(None, None, 2) for _ in a.shape)]
    assert not out.flags.contiguous
    return out


@pytest.mark.parametrize("convert", [read_only, strided, np.asfortranarray, np.ndarray.tolist])
def test_layout(plain, kind, experiment, convert):
    e = experiment
    arguments = converted(e.arguments(kind, policies=2), convert)
    other = kind().fit(convert(e.X), convert(e.y), groups=convert(e.groups), **arguments)
    assert_same(other, plain, rtol=1e-12)


def test_arguments_are_left_as_they_are(kind, experiment):
    e = experiment
    arguments = converted(e.arguments(kind, policies=2), np.array)
    s = np.resize([0, 1, 2], e.y.size)
    given = {**arguments, "X": e.X.copy(), "y": e.y.copy(), "groups": e.groups.copy()}
    kind().fit(**given, sample_weight=s)
    for name, a in {**e.arguments(kind, policies=2), "X": e.X, "y": e.y}.items():
        for left, right in zip(
            given[name].values() if isinstance(a, dict) else [given[name]],
            a.values() if isinstance(a, dict) else [a],
            strict=True,
        ):
            assert_array_equal(left, right)
    assert_array_equal(s, np.resize([0, 1, 2], e.y.size))


@pytest.mark.parametrize("y_type", [np.int64, np.int8, np.float32, object])
def test_outcome_types(plain, kind, experiment, y_type):
    """The outcomes are whole numbers here, so that every type holds them exactly."""
    e = experiment
    other = kind().fit(e.X, e.y.astype(y_type), groups=e.groups, **e.arguments(kind, policies=2))
    assert_same(other, plain)


def test_boolean_outcomes_are_zero_and_one(kind, experiment):
    e = experiment
    liked = e.y > 4
    left = kind().fit(e.X, liked, **e.arguments(kind))
    assert_same(left, kind().fit(e.X, liked.astype(float), **e.arguments(kind)))


def test_float32_features_and_integer_features(plain, kind, experiment):
    e = experiment  # X is exact in float32; the draws are not part of the comparison
    arguments = e.arguments(kind, policies=2)
    assert_same(kind().fit(e.X.astype(np.float32), e.y, groups=e.groups, **arguments), plain)
    whole = np.rint(3 * e.X)
    left = kind().fit(whole.astype(np.int32), e.y, **arguments)
    assert_same(left, kind().fit(whole, e.y, **arguments))


def test_float32_log_probs_are_used_as_float64(kind, experiment):
    e = experiment
    arguments = e.arguments(kind)
    short = {k: v.astype(np.float32) if k.startswith("logp") else v for k, v in arguments.items()}
    long = {k: v.astype(np.float64) if k.startswith("logp") else v for k, v in short.items()}
    assert_same(kind().fit(e.X, e.y, **short), kind().fit(e.X, e.y, **long))


@pytest.mark.parametrize("index", INDICES)
def test_pandas_indices_are_ignored(plain, kind, experiment, index):
    """Rows go together by position: an index is a label, not a key. (The same labels in another
    order are refused: tests/estimators/test_pandas_and_notebooks.py.)
    """
    e = experiment
    at = INDICES[index](e.y.size)
    arguments = e.arguments(kind, policies=2)
    arguments["logp_target"] = pd.DataFrame(e.target, columns=["a", "b"], index=at)
    arguments["logp_logging"] = pd.Series(e.logging, index=at)
    if hasattr(kind, "predict"):
        arguments["X_target"] = {
            name: pd.DataFrame(x, columns=NAMES, index=INDICES[index](len(x)))
            for name, x in arguments["X_target"].items()
        }
    other = kind().fit(
        pd.DataFrame(e.X, columns=NAMES, index=at),
        pd.Series(e.y, index=at),
        groups=pd.Series(e.groups, index=at),
        sample_weight=pd.Series(np.ones(e.y.size), index=at),
        **arguments,
    )
    assert_same(other, plain, rtol=1e-12)
    assert other.result_.names == ("a", "b")
    assert_array_equal(other.feature_names_in_, NAMES)


@pytest.mark.parametrize(
    "labels",
    [
        lambda g: np.array([f"prompt {i:02d}" for i in g]),
        lambda g: [f"prompt {i:02d}" for i in g],
        lambda g: pd.Series([f"prompt {i:02d}" for i in g]).astype("category"),
        lambda g: np.array([f"prompt {i:02d}" for i in g], dtype=object),
        lambda g: g.astype(float),
    ],
    ids=["U", "list", "category", "object", "float"],
)
def test_group_labels_are_only_labels(plain, kind, experiment, labels):
    e = experiment
    other = kind().fit(e.X, e.y, groups=labels(e.groups), **e.arguments(kind, policies=2))
    assert_same(other, plain)


def test_polars(plain, kind, experiment):
    pl = pytest.importorskip("polars")
    e = experiment
    arguments = e.arguments(kind, policies=2)
    arguments["logp_target"] = pl.DataFrame(e.target, schema=["a", "b"])
    arguments["logp_logging"] = pl.Series(e.logging)
    if hasattr(kind, "predict"):
        arguments["X_target"] = {
            name: pl.DataFrame(x, schema=NAMES) for name, x in arguments["X_target"].items()
        }
    other = kind().fit(
        pl.DataFrame(e.X, schema=NAMES), pl.Series(e.y), groups=pl.Series(e.groups), **arguments
    )
    assert_same(other, plain, rtol=1e-12)


@pytest.mark.parametrize("form", [sparse.csr_array, sparse.csc_array, sparse.coo_matrix])
@pytest.mark.parametrize("cls", [OutcomeRegression, DoublyRobust])
def test_sparse_equals_dense(cls, form, experiment):
    e = experiment
    thin = np.where(np.abs(e.X) > 0.7, e.X, 0.0)
    arguments = e.arguments(cls)
    draws = np.where(np.abs(e.draws[0]) > 0.7, e.draws[0], 0.0)
    dense = cls().fit(thin, e.y, **{**arguments, "X_target": draws})
    slim = cls().fit(form(thin), e.y, **{**arguments, "X_target": form(draws)})
    assert_same(slim, dense, rtol=1e-8)
    assert_allclose(slim.predict(form(thin)), dense.predict(thin), rtol=1e-8)


def test_stored_zeros_mean_nothing_and_stay(experiment):
    """A read-only sparse matrix with stored zeros: same folds as dense, nothing written to it."""
    e = experiment
    thin = np.where(np.abs(e.X) > 0.7, e.X, 0.0)
    stored = sparse.csr_array(np.ones_like(thin))
    stored.data = thin.ravel().copy()
    for part in (stored.data, stored.indices, stored.indptr):
        part.setflags(write=False)
    arguments = {**e.arguments(DoublyRobust), "X_target": TargetSample(stored[:30])}
    slim = DoublyRobust().fit(stored, e.y, **arguments)
    dense = DoublyRobust().fit(thin, e.y, **{**arguments, "X_target": TargetSample(thin[:30])})
    assert_same(slim, dense, rtol=1e-8)
    assert stored.nnz == thin.size


# ------------------------------------------------------------------------------ texts
TEXT_MODEL = make_pipeline(TfidfVectorizer(), Ridge())


@pytest.mark.parametrize(
    "form",
    [
        list,
        tuple,
        lambda t: np.array(list(t)),
        lambda t: pd.Series(list(t), index=np.arange(len(t))[::-1]),
        lambda t: pd.Series(list(t), dtype="string"),
        lambda t: pd.Series(list(t)).astype("category"),
    ],
    ids=["list", "tuple", "U array", "Series", "string Series", "category"],
)
@pytest.mark.parametrize("cls", [OutcomeRegression, DoublyRobust])
def test_texts_in_any_sequence(cls, form, experiment):
    e = experiment
    arguments = {**e.arguments(cls), "X_target": e.text_draws}
    objects = cls(TEXT_MODEL, n_bootstrap=20).fit(e.texts, e.y, **arguments)
    other = cls(TEXT_MODEL, n_bootstrap=20).fit(
        form(e.texts), e.y, **{**arguments, "X_target": form(e.text_draws)}
    )
    assert_same(other, objects)
    assert_array_equal(other.predict(form(e.texts)), objects.predict(e.texts))


def test_texts_in_polars(experiment):
    pl = pytest.importorskip("polars")
    e = experiment
    arguments = {**e.arguments(DoublyRobust), "X_target": e.text_draws}
    objects = DoublyRobust(TEXT_MODEL).fit(e.texts, e.y, **arguments)
    other = DoublyRobust(TEXT_MODEL).fit(
        pl.Series(list(e.texts)), e.y,
        **{**arguments, "X_target": pl.Series(list(e.text_draws))},
    )  # fmt: skip
    assert_same(other, objects)


def mixed_model() -> Any:
    columns = ColumnTransformer(
        [("text", TfidfVectorizer(), "text"), ("rest", "passthrough", ["mood", "warmth"])]
    )
    return make_pipeline(columns, Ridge(tol=1e-12))


def mixed_frame(library: Any, texts: Any, X: Any) -> Any:
    return library.DataFrame({"text": list(texts), "mood": X[:, 0], "warmth": X[:, 2]})


@pytest.mark.parametrize("cls", [OutcomeRegression, DoublyRobust])
def test_text_column_with_covariates(cls, experiment):
    """A frame with a text column equals the features made by hand from it."""
    e = experiment
    frame = mixed_frame(pd, e.texts, e.X)
    draws = mixed_frame(pd, e.text_draws, e.draws[0])
    folds = [(np.flatnonzero(np.arange(120) % 3 != k), np.arange(120)[k::3]) for k in range(3)]
    settings = {"cv": folds} if cls is DoublyRobust else {"n_bootstrap": 20}
    est = cls(mixed_model(), **settings).fit(frame, e.y, **{**e.arguments(cls), "X_target": draws})

    def prediction(train: Any) -> Any:
        words = TfidfVectorizer().fit(e.texts[train])

        def design(texts: Any, X: Any) -> Any:
            return np.column_stack([words.transform(texts).toarray(), X[:, [0, 2]]])

        ridge = Ridge().fit(design(e.texts[train], e.X[train]), e.y[train])
        return lambda texts, X: ridge.predict(design(texts, X))

    if cls is OutcomeRegression:
        value = prediction(np.arange(120))(e.text_draws, e.draws[0]).mean()
    else:
        w = np.exp(e.target[:, 0] - e.logging)
        q, plug_in = np.empty(120), 0.0
        for train, test in folds:
            fitted = prediction(train)
            q[test] = fitted(e.texts[test], e.X[test])
            plug_in += fitted(e.text_draws, e.draws[0]).mean() / 3
        value = w @ (e.y - q) / w.sum() + plug_in
    assert_allclose(est.value_, value, rtol=1e-10)


def test_mixed_frames_of_pandas_and_polars_agree(experiment):
    pl = pytest.importorskip("polars")
    e = experiment
    arguments = e.arguments(DoublyRobust)
    results = []
    for library in (pd, pl):
        frame = mixed_frame(library, e.texts, e.X)
        draws = mixed_frame(library, np.r_[e.texts[:20], e.text_draws[20:]], e.draws[0])
        est = DoublyRobust(mixed_model()).fit(frame, e.y, **{**arguments, "X_target": draws})
        results.append(est)
    assert_same(*results, rtol=1e-10)


def test_column_order_of_mixed_draws_does_not_matter(experiment):
    """Columns are told apart by name: draws that repeat logged rows find their fold either way."""
    e = experiment
    frame = mixed_frame(pd, e.texts, e.X)
    draws = frame.iloc[:40]
    arguments = e.arguments(DoublyRobust)
    left = DoublyRobust(mixed_model()).fit(frame, e.y, **{**arguments, "X_target": draws})
    turned = draws[["warmth", "text", "mood"]]
    right = DoublyRobust(mixed_model()).fit(frame, e.y, **{**arguments, "X_target": turned})
    assert_same(right, left, rtol=1e-12)


def test_statsmodels_learner_equals_scikit_learn(experiment):
    e = experiment
    for cls in (OutcomeRegression, DoublyRobust):
        left = cls(StatsmodelsGLM()).fit(e.X, e.y, **e.arguments(cls))
        assert_same(left, cls(LinearRegression()).fit(e.X, e.y, **e.arguments(cls)), rtol=1e-9)
