"""Authors nobody read: formulas by hand, what may not matter, worlds where texts tell or not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import integrate, stats

from causal_lm_opt import estimators
from causal_lm_opt.estimators import transport
from causal_lm_opt.estimators._text_quality import (
    QUALITY,
    average_kernel,
    linear_kernel,
    on_the_issue,
    quality_features,
    unusual_words,
    word_kernel,
)
from causal_lm_opt.estimators.transport import (
    ReadTexts,
    predict_author,
    predict_by_others,
    read_texts,
    transport_variance,
    transport_verdict,
)

FloatArray = npt.NDArray[np.float64]
ISSUES = {"tolls": "road traffic cars fee drivers", "parks": "trees lawn green shade benches"}
JUNK = [f"zz{k}qx" for k in range(400)]


def world(
    seed: int = 0, authors: int = 10, slope: float = 12.0, noise: float = 6.0, **given: Any
) -> ReadTexts:
    """Authors who keep to the issue more or less, and readers who are moved by just that."""
    rng = np.random.default_rng(seed)
    texts, author, issue, n, mean, variance = [], [], [], [], [], []
    for a in range(authors):
        quality = a / (authors - 1)
        for k, (name, words) in enumerate(ISSUES.items()):
            for _ in range(2):
                size = 60
                on = rng.random(size) < quality
                own = rng.choice(words.split(), size)
                junk = rng.choice(JUNK, size)
                texts.append(" ".join(np.where(on, own, junk)) + ".")
                readers = int(rng.integers(20, 40))
                y = 40 + 5 * k + slope * quality + rng.normal(0, noise, readers)
                author.append(f"author {a}")
                issue.append(name)
                n.append(readers)
                mean.append(y.mean())
                variance.append(y.var(ddof=1))
    return read_texts(texts, mean, variance, n, author=author, issue=issue, **given)


# ---------------------------------------------------------------------- tau^2
def test_tau2_without_noise_is_the_inverse_gamma_mean() -> None:
    errors = np.random.default_rng(0).normal(size=12)
    expected = float(errors @ errors) / (12 - 3)
    assert transport_variance(errors, np.zeros(12)) == pytest.approx(expected, rel=1e-4)


def test_tau2_is_the_posterior_mean() -> None:
    rng = np.random.default_rng(1)
    noise = rng.uniform(0.2, 3.0, 9)
    errors = rng.normal(size=9) * np.sqrt(1.5 + noise)

    def density(tau: float) -> float:
        return float(np.prod(stats.norm.pdf(errors, scale=np.sqrt(tau**2 + noise))) * 1e6)

    total = integrate.quad(density, 0, np.inf)[0]
    first = integrate.quad(lambda tau: tau**2 * density(tau), 0, np.inf)[0]
    assert transport_variance(errors, noise) == pytest.approx(first / total, rel=1e-3)


def test_tau2_of_errors_of_several_sizes() -> None:
    rng = np.random.default_rng(3)
    size = rng.uniform(0.3, 4.0, 11)
    errors = rng.normal(size=11) * np.sqrt(2 * size)
    expected = float(np.sum(errors**2 / size)) / (11 - 3)
    assert transport_variance(errors, np.zeros(11), size) == pytest.approx(expected, rel=1e-4)


def test_tau2_is_positive_where_the_moment_estimate_is_below_zero() -> None:
    errors, noise = np.array([0.1, -0.2, 0.3, 0.0, -0.1]), np.ones(5)
    assert np.mean(errors**2 - noise) < 0
    assert 0 < transport_variance(errors, noise) < 3
    assert transport_variance(np.zeros(5), noise) == 0.0


@pytest.mark.parametrize("tau", [0.3, 1.5])
def test_intervals_cover_an_author_like_the_others(tau: float) -> None:
    # 400 replications at 95 %: standard error 1.1 %; the posterior mean errs on the wide side.
    rng = np.random.default_rng(2)
    noise = rng.uniform(0.4, 3.0, 25)
    covered = 0
    for _ in range(400):
        errors = rng.normal(size=25) * np.sqrt(tau**2 + noise)
        tau2 = transport_variance(errors[1:], noise[1:])
        half = stats.t.ppf(0.975, 23) * np.sqrt(tau2 + noise[0])
        covered += abs(errors[0]) <= half
    assert 0.925 <= covered / 400 <= 0.99


@pytest.mark.parametrize(("errors", "noise"), [([1.0] * 3, [1.0] * 3), ([1.0] * 5, [1.0] * 4)])
def test_tau2_needs_enough(errors: list[float], noise: list[float]) -> None:
    with pytest.raises(ValueError, match="four errors"):
        transport_variance(errors, noise)


# ---------------------------------------------------------------------- the prediction
def dense_prediction(data: ReadTexts, names: list[str], left: set[int], author: int) -> float:
    """Generalised least squares and conditioning, written out, without the authors ``left``."""
    kernel = sum((transport.KERNEL_SHARE * data.kernels[k] for k in names), np.zeros((1, 1)))
    kernel = np.broadcast_to(kernel, (data.author.size, data.author.size))
    train = [m for m in range(data.author.size) if data.author[m] not in left]
    v = np.array([
        [kernel[i, j] + transport.AUTHOR_SHARE * (data.author[i] == data.author[j])
         + (i == j) * (transport.TEXT_SHARE + 1 / data.readers[i]) for j in train]
        for i in train
    ])  # fmt: skip
    x = np.array([[float(data.issue[i] == c) for c in range(2)] for i in train])
    vi = np.linalg.inv(v)
    beta = np.linalg.solve(x.T @ vi @ x, x.T @ vi @ data.outcome[train])
    rest = vi @ (data.outcome[train] - x @ beta)
    total = 0.0
    for m in np.flatnonzero(data.author == author):
        total += data.weight[m] * (beta[data.issue[m]] + kernel[m, train] @ rest)
    return float(total)


@pytest.mark.parametrize("names", [[], ["quality"], ["on the issue", "words"]])
def test_one_candidate_is_generalised_least_squares(names: list[str]) -> None:
    data = world(authors=6)
    found = transport._fit(data, names, *transport._split(data, 3))
    assert found.value == pytest.approx(dense_prediction(data, names, {3}, 3), rel=1e-9)
    for b, error in zip([0, 1, 2, 4, 5], found.errors, strict=True):
        expected = dense_prediction(data, names, {3, b}, b) - data.value(b)
        assert error == pytest.approx(expected, rel=1e-8, abs=1e-10)


@pytest.mark.parametrize("names", [[], ["quality"], ["on the issue", "words"]])
def test_expected_spread_of_an_error_is_that_of_its_prediction(names: list[str]) -> None:
    data = world(authors=7)
    found = transport._fit(data, names, *transport._split(data, 3))
    unread = replace(data, readers=np.where(data.author == 3, 0.0, data.readers))
    for b, spread in zip([0, 1, 2, 4, 5, 6], found.spread, strict=True):
        again = transport._fit(unread, names, *transport._split(unread, b))
        assert spread == pytest.approx(again.own_spread, rel=1e-8)


def test_extrapolation_is_believed_less() -> None:
    data = world()
    found = [predict_author(data, a) for a in range(10)]
    # Author 0 writes nothing but junk, author 5 like its neighbours on either side.
    assert found[0].tau2 > 1.5 * found[5].tau2
    assert np.median(found[0].size) < np.median(found[5].size)


def test_shares_follow_the_formula() -> None:
    data = world()
    found = predict_author(data, 4, kernels=["quality", "words"])
    split = transport._split(data, 4)
    fits = [transport._fit(data, c, *split) for c in ([], ["words"], ["quality"],
                                                     ["quality", "words"])]  # fmt: skip
    loss = np.array([np.mean(f.errors**2 - found.noise) for f in fits])
    raw = np.exp(-9 * loss / (2 * (max(loss.min(), 0) + found.noise.mean())))
    assert found.shares == pytest.approx(raw / raw.sum())
    assert found.value == pytest.approx(float(found.shares @ [f.value for f in fits]))
    assert found.tau2 == pytest.approx(transport_variance(found.errors, found.noise, found.size))
    own = found.shares @ [f.own_spread for f in fits]
    assert found.size == pytest.approx(found.shares @ np.array([f.spread for f in fits]) / own)
    low, high = found.interval(0.9, 2.0)
    half = stats.t.ppf(0.95, 8) * np.sqrt(found.tau2 + 2.0)
    assert ((high + low) / 2, (high - low) / 2) == pytest.approx((found.value, half))


def test_others_mean_by_hand() -> None:
    data = world(authors=5)
    expected = 0.0
    for m in np.flatnonzero(data.author == 2):
        same = (data.issue == data.issue[m]) & (data.author != 2)
        expected += data.weight[m] * np.average(data.outcome[same], weights=data.readers[same])
    found = predict_by_others(data, 2)
    assert found.value == pytest.approx(expected)
    assert found.errors.size == 4


# ---------------------------------------------------------------------- what may not matter
def test_the_authors_readers_are_not_looked_at() -> None:
    data = world()
    mine = data.author == 7
    changed = replace(data, outcome=np.where(mine, -1e6, data.outcome),
                      variance=np.where(mine, 1e9, data.variance))  # fmt: skip
    unread = replace(data, outcome=np.where(mine, np.nan, data.outcome),
                     readers=np.where(mine, 0.0, data.readers))  # fmt: skip
    for predict in (predict_author, predict_by_others):
        before = predict(data, 7)
        for other in (changed, unread):
            after = predict(other, 7)
            assert (after.value, after.tau2) == (before.value, before.tau2)
        assert predict(changed, 6).value != predict(data, 6).value


def test_origin_and_unit_of_the_outcome() -> None:
    data = world()
    moved = replace(data, outcome=3 + 10 * data.outcome, variance=100 * data.variance)
    before, after = predict_author(data, 4), predict_author(moved, 4)
    assert after.value == pytest.approx(3 + 10 * before.value)
    assert after.tau2 == pytest.approx(100 * before.tau2)
    # An issue's control mean is the same in prediction and truth.
    control = np.array([40.0, 55.0])[data.issue]
    effect = predict_author(replace(data, outcome=data.outcome - control), 4)
    mine = data.author == 4
    assert effect.value == pytest.approx(before.value - float(data.weight[mine] @ control[mine]))
    assert effect.errors == pytest.approx(before.errors)


def test_order_of_texts_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    texts = [f"{'good ' * k} {t} v{k}." for t in ISSUES.values() for k in range(6)]
    author, issue = list(range(6)) * 2, [0] * 6 + [1] * 6
    y, n = rng.normal(50, 5, 12), np.full(12, 30.0)
    data = read_texts(texts, y, np.full(12, 25.0), n, author=author, issue=issue)
    order = rng.permutation(12)
    mixed = read_texts(
        [texts[i] for i in order], y[order], np.full(12, 25.0), n,
        author=[author[i] for i in order], issue=[issue[i] for i in order],
    )  # fmt: skip
    for name in range(6):
        a, b = predict_author(data, name), predict_author(mixed, mixed.authors.index(name))
        assert a.value == pytest.approx(b.value)
        assert a.tau2 == pytest.approx(b.tau2)


# ---------------------------------------------------------------------- does it help, does it harm
def test_texts_that_tell_are_used() -> None:
    data = world()
    ours = [predict_author(data, a) for a in range(10)]
    grand = [predict_by_others(data, a) for a in range(10)]
    truth = np.array([data.value(a) for a in range(10)])
    square = [np.mean((np.array([p.value for p in ps]) - truth) ** 2) for ps in (ours, grand)]
    assert square[0] < 0.2 * square[1]
    assert np.mean([p.tau2 for p in ours]) < 0.3 * np.mean([p.tau2 for p in grand])
    assert stats.spearmanr([p.value for p in ours], truth).statistic > 0.8


def test_texts_that_tell_nothing_do_little_harm() -> None:
    ours, grand = [], []
    for seed in range(5):
        data = world(seed, slope=0.0, noise=20.0)
        for a in range(10):
            truth = data.value(a)
            ours.append((predict_author(data, a).value - truth) ** 2)
            grand.append((predict_by_others(data, a).value - truth) ** 2)
    assert np.mean(ours) < 1.25 * np.mean(grand)


def test_verdict_is_caution_and_names_extrapolation() -> None:
    data = world()
    level, reasons = transport_verdict(data, 5)
    assert (level, len(reasons)) == ("caution", 1)
    rows = ["word " * 60 + "."] * 2 + [f"{w} is {k} a fine matter." for k in range(5)
                                       for w in ISSUES.values()]  # fmt: skip
    author = ["dull", "dull", *[f"a{k}" for k in range(5) for _ in ISSUES]]
    odd = read_texts(rows, np.zeros(12), np.ones(12), np.full(12, 9), author=author,
                     issue=list(ISSUES) * 6)  # fmt: skip
    level, reasons = transport_verdict(odd, 0)
    assert level == "caution"
    assert any("repeated runs" in r and "above every author" in r for r in reasons)


# ---------------------------------------------------------------------- features and kernels
def test_kernels_are_inner_products_of_author_averages() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(12, 3))
    author, issue = np.arange(12) % 4, np.repeat([0, 1, 2], 4)
    weight = rng.uniform(1, 2, 12)
    weight /= np.bincount(author, weight)[author]
    centred = features - np.array([features[issue == i].mean(axis=0) for i in issue])
    centred /= centred.std(axis=0)
    kernel = linear_kernel(features, issue)
    inner = centred @ centred.T
    np.testing.assert_allclose(kernel, inner / np.trace(inner) * 12, atol=1e-12)
    mean = np.array([weight[author == a] @ centred[author == a] for a in author])
    inner = mean @ mean.T
    np.testing.assert_allclose(
        average_kernel(kernel, author, weight), inner / np.trace(inner) * 12, atol=1e-12
    )
    assert not linear_kernel(issue, issue).any()  # what varies between issues only tells nothing
    assert np.abs(word_kernel([f"w{k} x y" for k in range(12)], issue).sum()) < 1e-9


def test_features_of_odd_texts() -> None:
    texts, author = ["", "Yes.", "yes yes yes", "no"], np.array([0, 1, 2, 3])
    found = quality_features(texts, author)
    assert found.shape == (4, len(QUALITY))
    assert np.isfinite(found).all()
    assert unusual_words(texts, author)[0] == 0.0
    assert (on_the_issue(texts, author, np.zeros(4, dtype=np.intp)) >= 0).all()


# ---------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"outcome": [1.0]}, "outcome has shape"),
        ({"author": ["a"] * 20}, "needs 5 authors; there are 1"),
        ({"readers": [-1.0] * 20}, "readers must be"),
        ({"outcome": [np.nan] * 20}, "outcome is missing"),
        ({"variance": [np.nan] * 20}, "variance must be known"),
        ({"weight": [0.0] * 20}, "sum to 0"),
        ({"weight": [1.0] * 3}, "weight must hold"),
    ],
)
def test_bad_input(change: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {
        "texts": ["some text"] * 20, "outcome": [1.0] * 20, "variance": [1.0] * 20,
        "readers": [5.0] * 20, "author": list(range(5)) * 4,
    }  # fmt: skip
    with pytest.raises(ValueError, match=said):
        read_texts(**(given | change))


def test_what_cannot_be_predicted_is_refused() -> None:
    data = world(authors=6)
    with pytest.raises(ValueError, match=r"\['tone'\] are not known"):
        predict_author(data, 0, kernels=["tone"])
    with pytest.raises(ValueError, match="has no text"):
        predict_author(data, 17)
    alone = replace(data, issue=np.where(data.author == 0, 2, data.issue))
    with pytest.raises(ValueError, match="nothing predicts it"):
        predict_author(alone, 0)
    few = replace(data, readers=np.where(data.author < 3, data.readers, 0.0))
    with pytest.raises(ValueError, match="only 2 other authors"):
        predict_author(few, 0)


def test_what_others_tell_of_an_author_is_reached_from_the_room() -> None:
    for name in ("predict_author", "predict_by_others", "read_texts", "transport_verdict"):
        assert getattr(estimators, name) is getattr(transport, name)
        assert name in estimators.__all__
