"""Prompt and text worlds, and the truths added to the older ones, against brute force.

Simulated standard deviations are over 1,500 replications: their own error is 1.8 %, the tolerance
8 %; means are held to 4 standard errors.
"""

from __future__ import annotations

import itertools
import math
import pickle
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import make_pipeline

from causal_lm_opt import IPW, DoublyRobust
from causal_lm_opt.simulation import (
    GaussianDesign,
    PromptDesign,
    Study,
    TabularDesign,
    TextWorld,
    confounded_log,
    hidden_confounder,
    prompt_world,
    study_from_toml,
    text_world,
)

REPLICATIONS = 1500
SMALL = PromptDesign(
    [0.3, 0.7], logging=[[0.2, 0.3, 0.5], [0.6, 0.4, 0.0]],
    target=[[0.5, 0.5, 0.0], [0.9, 0.1, 0.0]], mean=[[1.0, 2.0, 5.0], [0.0, 3.0, 9.0]],
    per_prompt=3, draws_per_prompt=2, prompt_effect=0.8, scale=1.2,
)  # fmt: skip


# ---------------------------------------------------------------- prompts
def test_prompt_value_is_that_of_plain_loops() -> None:
    other = np.array([[0.1, 0.2, 0.7], [1.0, 0.0, 0.0]])
    for target, given in ((SMALL.target, None), (other, other)):
        looped = 0.0
        for c, x in itertools.product(range(2), range(3)):
            looped += SMALL.prompt_probs[c] * target[c, x] * SMALL.mean[c, x]
        assert SMALL.value(given) == pytest.approx(looped, abs=1e-12)


def test_prompt_information_is_the_mean_over_all_answers() -> None:
    """M_c by the sum over all J^k answers of D' Sigma^-1 D."""
    k, (_, J) = SMALL.per_prompt, SMALL.mean.shape
    sigma = SMALL.scale**2 * np.eye(k) + SMALL.prompt_effect**2 * np.ones((k, k))
    inverse = np.linalg.inv(sigma)
    for c in range(2):
        total = np.zeros((J, J))
        for answers in itertools.product(range(J), repeat=k):
            D = np.eye(J)[list(answers)]
            total += SMALL.logging[c, list(answers)].prod() * D.T @ inverse @ D
        np.testing.assert_allclose(SMALL._information(c), total, atol=1e-12)


def test_prompt_bound_without_shared_effect_is_the_textbook_one() -> None:
    world = PromptDesign(
        SMALL.prompt_probs, SMALL.logging, SMALL.target, SMALL.mean, per_prompt=3,
        prompt_effect=0.0, scale=1.2,
    )  # fmt: skip
    n, w2 = 300, 0.0
    for c, x in itertools.product(range(2), range(3)):
        if world.target[c, x] > 0:
            w2 += world.prompt_probs[c] * world.target[c, x] ** 2 / world.logging[c, x]
    spread = world.doubly_robust_variance(n) - 1.2**2 * w2 / n
    per_prompt = (world.target * world.mean).sum(axis=1)
    between = world.prompt_probs @ (per_prompt - world.value()) ** 2
    within = world.prompt_probs @ ((world.target * world.mean**2).sum(axis=1) - per_prompt**2)
    assert spread == pytest.approx((between + within / 4) / 100, abs=1e-12)
    assert world.efficiency_bound(n) == pytest.approx(world.doubly_robust_variance(n), rel=1e-12)
    assert SMALL.efficiency_bound(n) < SMALL.doubly_robust_variance(n)
    assert math.isinf(SMALL.efficiency_bound(n, [0.0, 0.0, 1.0]))


def test_doubly_robust_variance_with_prompts_is_met() -> None:
    """The oracle DR value and its clustered interval, over 300 prompts."""
    world, n = prompt_world(prompt_effect=0.8), 1500
    values = []
    for b in range(REPLICATIONS):
        log = world.draw(n, np.random.default_rng([1, b]))
        w = np.exp(log.log_probs["logp_target"] - log.log_probs["logp_logging"])
        values.append(np.mean(w * (log.y - log.q_logged)) + np.mean(log.q_target))
    assert np.std(values) == pytest.approx(math.sqrt(world.doubly_robust_variance(n)), rel=0.08)
    assert abs(np.mean(values) - world.value()) < 4 * np.std(values) / math.sqrt(REPLICATIONS)
    log = world.draw(5 * n, np.random.default_rng(2))
    result = DoublyRobust(LinearRegression()).fit(log.X, log.y, **log.fit_arguments()).result_
    assert abs(result.value - world.value()) < 4 * result.se
    assert result.se == pytest.approx(math.sqrt(world.doubly_robust_variance(5 * n)), rel=0.1)
    oracle = DoublyRobust().fit(log.X, log.y, **log.fit_arguments(oracle=True)).result_
    assert oracle.value == pytest.approx(result.value, abs=0.2 * result.se)


def test_generalised_least_squares_meets_the_prompt_bound() -> None:
    """Cell means by GLS over 400 prompts, on which the bound's logged part rests."""
    world = prompt_world(texts=3, per_prompt=4, prompt_effect=2.0)
    k, J, count = world.per_prompt, 3, 400
    rho = 4.0 / (1.0 + k * 4.0)
    values = []
    for b in range(400):
        log = world.draw(count * k, np.random.default_rng([3, b]))
        D = log.X.reshape(count, k, -1)
        y = log.y.reshape(count, k)
        summed = D.sum(axis=1)
        A = np.einsum("gki,gkj->ij", D, D) - rho * summed.T @ summed
        right = np.einsum("gki,gk->i", D, y) - rho * summed.T @ y.sum(axis=1)
        g = np.linalg.solve(A, right)
        kinds = summed.reshape(count, -1, J).sum(axis=(0, 2)) / (count * k)
        values.append(float(kinds @ (world.target * g.reshape(-1, J)).sum(axis=1)))
    f, mean = world.target, world.mean
    per_kind = (f * mean).sum(axis=1)
    within = world.prompt_probs @ ((f * mean**2).sum(axis=1) - per_kind**2)
    bound = world.efficiency_bound(count * k) - within / world.draws_per_prompt / count
    assert np.std(values) == pytest.approx(math.sqrt(bound), rel=0.12)  # its error: 3.5 %
    assert bound < 0.97 * (world.doubly_robust_variance(count * k) - within / 4 / count)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"target": [0.5, 0.6]}, "sum to 1"),
        ({"logging": np.ones((3, 2)) / 2}, "shape"),
        ({"per_prompt": 0}, "per_prompt must be a whole number, at least 1"),
        ({"scale": 0.0}, "scale must be a finite number above 0"),
    ],
)
def test_impossible_prompt_worlds_are_refused(change: dict[str, Any], said: str) -> None:
    good: dict[str, Any] = {"prompt_probs": [0.5, 0.5], "logging": [0.5, 0.5],
                            "target": [0.5, 0.5], "mean": [[0.0, 1.0], [1.0, 2.0]]}  # fmt: skip
    with pytest.raises(ValueError, match=said):
        PromptDesign(**(good | change))


# ---------------------------------------------------------------- texts
WORLD = text_world(wording_tilt=0.7)


def loop_texts(world: TextWorld) -> dict[str, tuple[float, float, float]]:
    """Logging and target probability and mean of every text, by loops over the grammar.

    The tilts are those of ``text_world(wording_tilt=.7)``, written out.
    """
    logging_tilt = {"friendly": 0.5, "others": 0.5}
    target_tilt = {"reservoir": 1.0, "forceful": 1.0, "pledge": 1.0}
    rows: dict[str, tuple[float, float, float]] = {}
    for z in itertools.product(*world.grammar.values()):
        p = math.exp(sum(logging_tilt.get(level, 0.0) for level in z))
        f = math.exp(sum(target_tilt.get(level, 0.0) for level in z))
        mean = world.base
        for levels, effect in world.effects.items():
            mean += effect * all(level in z for level in levels)
        choices = [list(enumerate(world.grammar[k][level]))
                   for k, level in zip(world.grammar, z, strict=True)]  # fmt: skip
        for pieces in itertools.product(*choices):
            wording = 1.0
            for (k, _), options in zip(pieces, choices, strict=True):
                all_of_them = sum(math.exp(-0.7 * j) for j in range(len(options)))
                wording *= math.exp(-0.7 * k) / all_of_them
            share = math.prod(1.0 / len(options) for options in choices)
            rows[" ".join(words for _, words in pieces)] = (p * share, f * wording, mean)
    total = np.array(list(rows.values())).sum(axis=0)
    return {x: (p / total[0], f / total[1], m) for x, (p, f, m) in rows.items()}


ROWS = loop_texts(WORLD)


def test_probabilities_and_means_of_every_text() -> None:
    texts = list(ROWS)
    p, f, g = np.array(list(ROWS.values())).T
    assert len(texts) == 576
    np.testing.assert_allclose(np.exp(WORLD.logging.log_prob(texts)), p, rtol=1e-12)
    np.testing.assert_allclose(np.exp(WORLD.target.log_prob(texts)), f, rtol=1e-12)
    np.testing.assert_allclose(WORLD.mean_outcome(texts), g, atol=1e-12)
    assert WORLD.value() == pytest.approx(float(f @ g), abs=1e-12)
    assert WORLD.value(WORLD.logging) == pytest.approx(float(p @ g), abs=1e-12)
    shouted = [f"  {x.upper()}\n" for x in texts]
    np.testing.assert_array_equal(WORLD.mean_outcome(shouted), WORLD.mean_outcome(texts))


@pytest.mark.parametrize(
    "text",
    ["", "Thank you!", "Dear neighbour, Every litre helps. Thank you!", "x" * 10_000,
     " ".join([next(iter(ROWS))] * 2)],
    ids=["empty", "closing alone", "without claim", "long", "twice"],
)  # fmt: skip
def test_a_text_that_cannot_be_read_has_the_stated_mean(text: str) -> None:
    assert WORLD.levels([text]) == [None]
    assert WORLD.mean_outcome([text]).tolist() == [WORLD.unparsed]
    assert WORLD.features([text]).to_numpy().sum() == 0
    assert np.isneginf(WORLD.logging.log_prob([text])).all()
    y = WORLD.outcomes([text] * 4000, 0)
    assert abs(y.mean() - WORLD.unparsed) < 4 * math.sqrt(0.05 * 0.95 / 4000)


def test_text_bounds_are_the_sums_over_all_texts() -> None:
    n, m = 500, 2000
    p, f, g = np.array(list(ROWS.values())).T
    spread = (f @ g**2 - (f @ g) ** 2) / m
    full = float((f**2 / p * g * (1 - g)).sum()) / n + spread
    assert WORLD.efficiency_bound(n) == pytest.approx(full, rel=1e-12)
    by_levels: dict[Any, list[float]] = {}
    for z, row in zip(WORLD.levels(ROWS), zip(p, f, g, strict=True), strict=True):
        held = by_levels.setdefault(z, [0.0, 0.0, 0.0])
        by_levels[z] = [held[0] + row[0], held[1] + row[1], row[2]]
    P, F, G = np.array(list(by_levels.values())).T
    latent = float((F**2 / P * G * (1 - G)).sum()) / n + spread
    assert WORLD.efficiency_bound(n, latent=True) == pytest.approx(latent, rel=1e-12)
    assert latent < full
    plain = text_world()  # wordings as logged: levels tell as much as texts
    assert plain.efficiency_bound(n) == pytest.approx(plain.efficiency_bound(n, latent=True))
    assert plain.efficiency_bound(n, plain.logging) < plain.efficiency_bound(n)


class Rambles:
    """A policy half of whose texts nobody can read."""

    def texts_support(self) -> tuple[list[str], np.ndarray]:
        return [next(iter(ROWS)), "Blah."], np.array([0.5, 0.5])


def test_policies_outside_the_grammar_have_a_value() -> None:
    first = next(iter(ROWS))
    assert WORLD.value(Rambles()) == pytest.approx(0.5 * ROWS[first][2] + 0.5 * 0.05)
    for latent in (False, True):
        assert math.isinf(WORLD.efficiency_bound(100, Rambles(), latent=latent))
    v, se = WORLD.value_of_draws(WORLD.target.sample(20_000, random_state=1))
    assert abs(v - WORLD.value()) < 4 * se
    with pytest.raises(ValueError, match="two draws"):
        WORLD.value_of_draws(["one"])


def test_the_oracle_meets_the_text_bound() -> None:
    world, n, values = text_world(0.5), 200, []
    texts, p = world.logging.texts_support()
    g, logp = world.mean_outcome(texts), world.target.log_prob(texts) - np.log(p)
    written, f = world.target.texts_support()
    h = world.mean_outcome(written)
    for b in range(REPLICATIONS):
        rng = np.random.default_rng([4, b])
        i, j = rng.choice(p.size, n, p=p), rng.choice(f.size, 4 * n, p=f)
        y = (rng.random(n) < g[i]).astype(float)
        values.append(float(np.mean(np.exp(logp[i]) * (y - g[i])) + h[j].mean()))
    assert np.std(values) == pytest.approx(math.sqrt(world.efficiency_bound(n)), rel=0.08)
    assert abs(np.mean(values) - world.value()) < 4 * np.std(values) / math.sqrt(REPLICATIONS)


def test_estimators_run_on_texts() -> None:
    world = text_world(0.5)
    log = world.draw(3000, np.random.default_rng(5))
    assert isinstance(log.X[0], str)
    model = make_pipeline(CountVectorizer(ngram_range=(1, 2)), Ridge(10.0))
    for estimator in (IPW(), DoublyRobust(model)):
        result = estimator.fit(log.X, log.y, **log.fit_arguments()).result_
        assert abs(result.value - world.value()) < 4 * result.se
    oracle = DoublyRobust().fit(log.X, log.y, **log.fit_arguments(oracle=True)).result_
    assert oracle.se == pytest.approx(math.sqrt(world.efficiency_bound(3000)), rel=0.1)


def test_what_a_world_did_leaves_its_bytes_alone() -> None:
    """A study's blocks are kept under the hash of its design: caches must not enter it."""
    world = text_world()
    before = joblib.hash(world)
    world.draw(50, np.random.default_rng(0))
    world.value()
    assert joblib.hash(world) == before == joblib.hash(text_world())
    copy = pickle.loads(pickle.dumps(world))
    assert copy.value() == world.value()
    assert copy.with_target(copy.logging).value() == world.value(world.logging)
    assert joblib.hash(text_world(0.9)) != before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"effects": {("no such",): 1.0}}, "'no such' is no level"),
        ({"effects": {"friendly": 1.0}}, "keys are tuples"),
        ({"base": 0.9}, "probabilities for a binary outcome"),
        ({"unparsed": -0.1}, "probabilities for a binary outcome"),
        ({"base": math.inf, "noise": "normal"}, "finite"),
        ({"noise": "poisson"}, "noise='poisson'"),
        ({"grammar": {"a": {"u": ("x",)}, "b": {"u": ("y",)}}, "effects": {}}, "'u'|twice"),
        ({"grammar": {"a": {"u": ("x",), "v": ("X ",)}}, "effects": {}}, "in two ways"),
        ({"target": {"no such": 1.0}}, "no such"),
    ],
)
def test_impossible_text_worlds_are_refused(change: dict[str, Any], said: str) -> None:
    good: dict[str, Any] = {"grammar": WORLD.grammar, "logging": {}, "target": {},
                            "effects": WORLD.effects}  # fmt: skip
    with pytest.raises(ValueError, match=said):
        TextWorld(**(good | change)).value()


# ---------------------------------------------------------------- older worlds, and studies
@pytest.mark.parametrize("make", [confounded_log, hidden_confounder])
def test_tabular_bound(make: Any) -> None:
    world = make(2.0)
    if (world.stated == world.seen_logging()).all():
        assert world.efficiency_bound(100) == pytest.approx(world.doubly_robust_variance(100))
    policy = np.full(world.mean.shape[1], 1.0 / world.mean.shape[1])
    seen, shown = world.seen_mean(), world.seen_logging()
    logged = spread = 0.0
    for t, x in itertools.product(range(world.trait_probs.size), range(policy.size)):
        pi = world.trait_probs[t]
        within = 1.0 + (world.mean[t, x] - seen[t, x]) ** 2  # unit normal noise
        logged += pi * world.logging[t, x] * (policy[x] / shown[t, x]) ** 2 * within
        spread += pi * policy[x] * (seen[t, x] - (world.trait_probs @ seen @ policy)) ** 2
    expected = logged / 100 + spread / 400
    assert world.efficiency_bound(100, policy) == pytest.approx(expected, rel=1e-12)


def test_tabular_bound_without_overlap_is_infinite() -> None:
    world = TabularDesign([1.0], [0.5, 0.5, 0.0], [0.2, 0.2, 0.6], [0.0, 1.0, 2.0])
    assert math.isinf(world.efficiency_bound(50))
    assert math.isfinite(world.efficiency_bound(50, [0.5, 0.5, 0.0]))
    assert math.isfinite(hidden_confounder(2.0, edge=True).efficiency_bound(50))


@pytest.mark.parametrize(
    "design",
    [
        GaussianDesign("binary", shift=0.7),
        GaussianDesign("heavy", shift=0.5),
        GaussianDesign("linear", shift=0.5, readers=4, text_effect=0.8),
        GaussianDesign("skewed", shift=0.5),
        GaussianDesign("skewed", shift=0.3, readers=4, text_effect=0.4),
    ],
    ids=["binary", "heavy", "readers", "skewed", "skewed, readers"],
)
def test_gaussian_bounds_are_integrals_over_large_samples(design: GaussianDesign) -> None:
    """E_R[w^2 Var(Y|X)] by the squared residuals of 400,000 rows, to 5 standard errors."""
    n = 400_000
    log = design.draw(n, np.random.default_rng(6))
    w = np.exp(log.log_probs["logp_target"] - log.log_probs["logp_logging"])
    residual = (log.y - log.q_logged).reshape(-1, design.readers).mean(axis=1)
    terms = w[:: design.readers] ** 2 * residual**2
    if design.outcome == "heavy":  # squares of t(2.5) have no variance: hold to 15 %
        expected = (design.efficiency_bound(n) - design.value_variance() / (4 * n)) * n
        assert terms.mean() == pytest.approx(expected, rel=0.15)
        return
    texts = n // design.readers
    expected = (design.efficiency_bound(n) - design.value_variance() / (4 * n)) * texts
    assert abs(terms.mean() - expected) < 5 * terms.std() / math.sqrt(texts)


@pytest.mark.parametrize("outcome", ["linear", "quadratic", "binary", "skewed"])
@pytest.mark.parametrize("sampling_shift", [0.0, -0.3])
def test_gaussian_bound_with_weighted_draws(outcome: Any, sampling_shift: float) -> None:
    """E_0[w0^2 (g - V)^2] over 400,000 draws, to 5 standard errors."""
    design = GaussianDesign(outcome, shift=0.4, sampling_shift=sampling_shift, draws_per_row=40.0)
    drawn = design.draw(10_000, np.random.default_rng(9)).X_target
    w0 = np.exp(drawn.logp_target - drawn.logp_sampling)
    terms = w0**2 * (design.mean_outcome(drawn.X) - design.value()) ** 2
    plain = GaussianDesign(outcome, shift=0.4, draws_per_row=40.0)
    logged = plain.efficiency_bound(10_000) - plain.value_variance() / 400_000
    expected = (design.efficiency_bound(10_000) - logged) * 400_000
    assert abs(terms.mean() - expected) < 5 * terms.std() / math.sqrt(terms.size)
    same = GaussianDesign(outcome, shift=0.4, sampling_shift=0.4)
    assert same.efficiency_bound(100) == pytest.approx(
        GaussianDesign(outcome, shift=0.4).efficiency_bound(100), rel=1e-12
    )


@pytest.mark.parametrize("outcome", ["linear", "quadratic"])
def test_gaussian_bound_with_prompts_is_that_of_the_prompt_world(outcome: Any) -> None:
    """The design on a Gauss-Hermite grid is a PromptDesign, whose bound is by enumeration."""
    design = GaussianDesign(outcome, shift=0.6, dim=2, prompts=True)
    node, weight = np.polynomial.hermite_e.hermegauss(40)
    weight = weight / weight.sum()
    target = weight * np.exp(0.6 * node)
    pairs = np.stack(np.meshgrid(node, node, indexing="ij"), axis=-1)
    world = PromptDesign(
        weight, logging=weight, target=target / target.sum(),
        mean=design.mean_outcome(pairs.reshape(-1, 2)).reshape(40, 40), per_prompt=5,
        draws_per_prompt=5, prompt_effect=0.0, scale=1.0,
    )  # fmt: skip
    assert world.value() == pytest.approx(design.value(), rel=1e-9)
    assert design.efficiency_bound(500) == pytest.approx(world.efficiency_bound(500), rel=1e-9)


@pytest.mark.parametrize("outcome", ["linear", "quadratic", "binary", "heavy", "skewed"])
def test_gaussian_bound_with_prompts_is_the_oracles_variance(outcome: Any) -> None:
    """Variance over 60,000 prompts of the efficient score, straight from drawn logs."""
    design = GaussianDesign(outcome, shift=0.6, prompts=True)
    n = 300_000
    log = design.draw(n, np.random.default_rng(8))
    w = np.exp(log.log_probs["logp_target"] - log.log_probs["logp_logging"])
    assert log.q_logged is not None
    assert log.q_target is not None
    residual = (w * (log.y - log.q_logged)).reshape(-1, 5).mean(axis=1)
    plug_in = log.q_target.reshape(-1, 5).mean(axis=1)
    square = (residual + plug_in - design.value()) ** 2
    expected = design.efficiency_bound(n) * square.size
    if outcome == "heavy":  # squares of t(2.5) have no variance
        assert square.mean() == pytest.approx(expected, rel=0.15)
        return
    assert abs(square.mean() - expected) < 4 * square.std() / math.sqrt(square.size)


def test_prompts_exclude_what_the_design_does_not_draw() -> None:
    with pytest.raises(ValueError, match="readers"):
        GaussianDesign(prompts=True, readers=4)
    with pytest.raises(ValueError, match="dim"):
        GaussianDesign(prompts=True, dim=1)


@pytest.mark.parametrize("outcome", ["quadratic", "skewed"])
def test_gaussian_values_of_other_policies(outcome: Any) -> None:
    design, mean = GaussianDesign(outcome, shift=0.5), np.array([0.3, -0.2, 0.4])
    x = mean + np.random.default_rng(7).normal(size=(200_000, 3))
    g = design.mean_outcome(x)
    assert abs(g.mean() - design.value(mean)) < 5 * g.std() / math.sqrt(g.size)
    assert design.value(design.mean_target) == design.value()
    with pytest.raises(ValueError, match="shape"):
        design.value(np.zeros(2))


def test_new_worlds_in_studies(tmp_path: Any) -> None:
    file = tmp_path / "study.toml"
    file.write_text(
        'sizes = [60]\nreplications = 3\n[designs.p]\nworld = "prompts"\ntilt = 0.5\n'
        '[designs.t]\nworld = "texts"\ntilt = 0.5\n[estimators.H]\nkind = "hajek"\n'
    )
    study = study_from_toml(file)
    table = study.run(progress=False).summary
    assert table["truth"].tolist() == [prompt_world(0.5).value(), text_world(0.5).value()]
    assert isinstance(study, Study)


def test_a_log_without_oracle_says_so() -> None:
    log = prompt_world().draw(20, np.random.default_rng(0))
    bare = type(log)(log.X, log.y, log.log_probs, log.X_target, log.groups)
    with pytest.raises(ValueError, match="no oracle"):
        bare.fit_arguments(oracle=True)
