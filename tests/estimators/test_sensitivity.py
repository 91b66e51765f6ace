"""`sensitivity` on fitted estimators: identities, options, refusals, real data."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import GradientBoostingRegressor, HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, QuantileRegressor

from causal_lm_opt import IPW, DoublyRobust, OutcomeRegression
from causal_lm_opt.core import Clip
from causal_lm_opt.datasets import hong_kong_policies, load_hong_kong
from causal_lm_opt.estimators import Claim, TargetSample, sensitivity
from causal_lm_opt.simulation import GaussianDesign, TabularDesign

LINEAR = QuantileRegressor(alpha=0.0)
FAST = {"quantile_model": LINEAR, "n_bootstrap": 40}


def log_of(seed: int = 0, n: int = 250, **changes: object):  # type: ignore[no-untyped-def]
    design = GaussianDesign("linear", shift=0.5, dim=2, **changes)  # type: ignore[arg-type]
    return design.draw(n, np.random.default_rng(seed))


def two_policies(seed: int = 0) -> tuple[object, dict[str, object]]:
    """A log with two named policies and draws of each."""
    log = log_of(seed)
    logp = dict(log.log_probs)
    logp["logp_target"] = pd.DataFrame(
        {"f": logp["logp_target"], "h": logp["logp_logging"] - 0.3 * np.abs(log.X[:, 0])}
    )
    rng = np.random.default_rng(seed)
    draws = {"f": log.X_target, "h": rng.normal(size=(300, 2)) * 0.9}
    return log, {**logp, "X_target": draws}


@pytest.mark.parametrize("violation", ["hidden_confounder", "logging_probabilities"])
@pytest.mark.parametrize("kind", ["IPW", "DR"])
def test_no_violation_is_the_fitted_value(violation: str, kind: str) -> None:
    log, given = two_policies()
    est = IPW() if kind == "IPW" else DoublyRobust(LinearRegression())
    est.fit(log.X, log.y, **given)  # type: ignore[attr-defined]
    more = FAST if violation == "hidden_confounder" else {"n_bootstrap": 40}
    found = sensitivity(est, (1, 1.5, 2.5), violation=violation, **more)  # type: ignore[arg-type]
    assert found.quantities == ("f", "h")
    np.testing.assert_allclose(found.values, est.value_, rtol=1e-12)
    np.testing.assert_allclose(found.lower[:, 0], est.value_, atol=1e-10)
    np.testing.assert_allclose(found.upper[:, 0], est.value_, atol=1e-10)
    assert (np.diff(found.upper) > 0).all()
    assert (np.diff(found.lower) < 0).all()
    assert (found.ci_lower <= found.lower).all()
    assert (found.ci_upper >= found.upper).all()
    frame = found.to_frame()
    assert frame.shape == (6, 7)
    assert violation.split("_")[0] in str(found)


def test_the_interval_without_a_violation_is_the_usual_one() -> None:
    """Percentile bootstrap of 800 resamples against the influence function's se, to 10 %."""
    log = log_of(1, 600)
    for est in (IPW(), DoublyRobust(LinearRegression(), inference="influence")):
        est.fit(log.X, log.y, **log.fit_arguments())
        found = sensitivity(est, (1,), quantile_model=LINEAR, n_bootstrap=800)
        width = float(found.ci_upper[0, 0] - found.ci_lower[0, 0])
        assert width / (2 * 1.96 * est.se_) == pytest.approx(1, abs=0.1)


def test_clusters_and_shared_prompts_are_resampled_whole() -> None:
    log = log_of(2, 400, prompts=True)
    est = DoublyRobust(LinearRegression(), inference="influence")
    est.fit(log.X, log.y, **log.fit_arguments())
    found = sensitivity(est, (1,), quantile_model=LINEAR, n_bootstrap=800)
    width = float(found.ci_upper[0, 0] - found.ci_lower[0, 0])
    assert width / (2 * 1.96 * est.se_) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("violation", ["hidden_confounder", "logging_probabilities"])
def test_few_clusters_widen_the_interval_and_are_told(violation: str) -> None:
    log = log_of(2, 240, readers=20)
    est = IPW().fit(log.X, log.y, **log.fit_arguments(target=False))
    more = FAST if violation == "hidden_confounder" else {"n_bootstrap": 40}
    found = sensitivity(est, (1, 1.5), violation=violation, **more)  # type: ignore[arg-type]
    assert found.dof == 11.0
    assert "clusters worth 12 equal ones" in found.summary()
    plain = IPW().fit(log.X, log.y, **log.log_probs)
    rows = sensitivity(plain, (1,), violation=violation, **more)  # type: ignore[arg-type]
    assert rows.dof == np.inf
    assert "clusters" not in rows.summary()


def test_plain_weights_and_repeated_splits() -> None:
    log = log_of(3)
    plain = IPW(weights="ht").fit(log.X, log.y, **log.fit_arguments())
    found = sensitivity(plain, (1, 2), **FAST)  # type: ignore[arg-type]
    assert found.lower[0, 0] == pytest.approx(plain.value_, rel=1e-12)
    with pytest.raises(ValueError, match="self-normalised"):
        sensitivity(plain, violation="logging_probabilities")
    for n_rep in (2, 3):
        est = DoublyRobust(LinearRegression(), n_rep=n_rep).fit(log.X, log.y, **log.fit_arguments())
        found = sensitivity(est, (1, 2), **FAST)  # type: ignore[arg-type]
        assert found.lower[0, 0] == pytest.approx(est.value_, abs=1e-10)


def test_claims_break_down_where_the_bounds_say() -> None:
    log, given = two_policies(4)
    est = DoublyRobust(LinearRegression()).fit(log.X, log.y, **given)  # type: ignore[attr-defined]
    v0 = float(est.value_[0]) - 0.3
    claims = [
        Claim("f", above=v0), Claim("f", better_than="h"),
        Claim("f", better_than="logging policy"), Claim("h", below=-50.0),
    ]  # fmt: skip
    grid = np.array([1.0, 1.1, 1.25, 1.5, 2, 3, 4, 6, 8])
    found = sensitivity(est, grid, claim=claims, **FAST)  # type: ignore[arg-type]
    assert found.quantities == ("f", "h", "f - h", "f - logging policy")
    above, better, _, fails = found.breakdowns
    for row, strength, null in ((0, above.strength, v0), (2, better.strength, 0.0)):
        holds = found.lower[row] > null
        assert 1 < strength < 8
        np.testing.assert_array_equal(holds, grid < strength)
    assert 1 < above.strength_ci < above.strength
    assert found.values[2] == pytest.approx(est.value_[0] - est.value_[1])
    assert fails.strength == 1.0
    assert "does not hold even without" in fails.sentence
    assert "beats" in str(found)


@pytest.mark.parametrize("violation", ["hidden_confounder", "logging_probabilities"])
@pytest.mark.parametrize("kind", ["IPW", "DR"])
def test_against_the_logging_policy_its_observed_mean_is_held_fixed(
    violation: str, kind: str
) -> None:
    """The bounds are those of the value, less the mean; resampled together."""
    log, given = two_policies(7)
    est = IPW() if kind == "IPW" else DoublyRobust(LinearRegression())
    weight = np.random.default_rng(1).integers(1, 4, size=250).astype(float)
    est.fit(log.X, log.y, sample_weight=weight, **given)  # type: ignore[attr-defined]
    more = FAST if violation == "hidden_confounder" else {"n_bootstrap": 40}
    claims = [Claim("f", better_than="logging policy"), Claim("logging policy", better_than="h"),
              Claim("logging policy", above=-9.0)]  # fmt: skip
    found = sensitivity(est, (1, 1.5, 3), violation=violation, claim=claims, **more)  # type: ignore[arg-type]
    mean = float(np.average(log.y, weights=weight))  # type: ignore[attr-defined]
    np.testing.assert_allclose(found.lower[2], found.lower[0] - mean, atol=1e-12)
    np.testing.assert_allclose(found.upper[2], found.upper[0] - mean, atol=1e-12)
    np.testing.assert_allclose(found.lower[3], mean - found.upper[1], atol=1e-12)
    np.testing.assert_allclose(found.values[2:], [est.value_[0] - mean, mean - est.value_[1]])
    # the mean is not known: the interval is not that of the value moved
    assert not np.allclose(found.ci_lower[2], found.ci_lower[0] - mean, atol=1e-3)
    assert (found.ci_lower[2] <= found.lower[2]).all()
    assert np.isinf(found.breakdowns[2].strength)  # no violation moves the mean


@pytest.mark.parametrize("violation", ["hidden_confounder", "logging_probabilities"])
def test_a_confounded_difference_from_the_mean_is_covered(violation: str) -> None:
    """The trait matches readers to texts they like: had chance dealt them, less would be had.

    At the true strength of 1.5 the truth, V(f) less the mean under the log, is inside.
    """
    world = TabularDesign(
        [0.5, 0.5], logging=[[2 / 3, 1 / 3], [1 / 3, 2 / 3]], target=[0.3, 0.7],
        mean=[[1.0, 0.1], [0.0, 1.1]], scale=0.2,
    )  # fmt: skip
    assert world.strength == pytest.approx(1.5)
    mean = float((world.trait_probs[:, None] * world.logging * world.mean).sum())
    truth, random = world.value() - mean, world.value() - world.value(world.seen_logging()[0])
    assert abs(truth - random) > 0.1
    model = {"quantile_model": LINEAR} if violation == "hidden_confounder" else {}
    for seed in range(4):
        log = world.draw(1000, np.random.default_rng(seed))
        est = IPW().fit(log.X, log.y, **log.log_probs)
        found = sensitivity(
            est, (1, 1.5), violation=violation, n_bootstrap=40, **model,  # type: ignore[arg-type]
            claim=Claim(0, better_than="logging policy"),
        )  # fmt: skip
        low, high = found.ci_lower[1], found.ci_upper[1]
        assert low[1] <= truth <= high[1]
        assert not low[0] <= truth <= high[0]  # without the violation it is far off


def test_a_hidden_confounder_is_bounded_more_narrowly_than_wrong_probabilities() -> None:
    log = log_of(5, 500)
    est = IPW().fit(log.X, log.y, **log.fit_arguments())
    sharp = sensitivity(est, (1.5, 2), **FAST)  # type: ignore[arg-type]
    wide = sensitivity(est, (1.5, 2), violation="logging_probabilities", n_bootstrap=40)
    assert (sharp.upper < wide.upper).all()
    assert (sharp.lower > wide.lower).all()


def test_seeds_reproduce_and_results_pickle() -> None:
    log = log_of(6)
    est = IPW().fit(log.X, log.y, **log.fit_arguments())
    one, two = (sensitivity(est, (1, 2), **FAST) for _ in range(2))  # type: ignore[arg-type]
    pd.testing.assert_frame_equal(one.to_frame(), two.to_frame())
    again = pickle.loads(pickle.dumps(one))
    pd.testing.assert_frame_equal(one.to_frame(), again.to_frame())
    other = sensitivity(est, (1, 2), random_state=1, **FAST)  # type: ignore[arg-type]
    assert (other.ci_upper != one.ci_upper).all()
    assert (other.upper == one.upper).all()


@pytest.mark.parametrize("kind", ["numbers", "texts", "binary", "classifier"])
def test_default_quantile_models(kind: str) -> None:
    log = log_of(7, 200)
    X, y = log.X, log.y
    if kind == "texts":
        X = np.array([("warm " * int(a > 0) + "cold " * int(b > 0)) + "text" for a, b in log.X])
    if kind in ("binary", "classifier"):
        y = (y > 1).astype(float)
    given = {k: v for k, v in log.fit_arguments().items() if k != "X_target"}
    est = IPW()
    if kind == "classifier":
        est = DoublyRobust(LogisticRegression())
        given = log.fit_arguments()
    est.fit(X, y, **given)
    found = sensitivity(est, (1, 2), n_bootstrap=40)
    assert found.lower[0, 1] < found.lower[0, 0] == pytest.approx(est.value_)
    assert found.upper[0, 1] > found.upper[0, 0]
    if kind == "binary":
        assert found.lower[0, 1] > 0
        assert found.upper[0, 1] < 1


@pytest.mark.parametrize(
    "model",
    [
        GradientBoostingRegressor(loss="quantile", n_estimators=5),
        HistGradientBoostingRegressor(loss="quantile", quantile=0.5, max_iter=5),
    ],
    ids=["alpha", "quantile"],
)
def test_other_quantile_models(model: object) -> None:
    log = log_of(8, 120)
    est = IPW().fit(log.X, log.y, **log.fit_arguments())
    found = sensitivity(est, (1, 2), quantile_model=model, n_bootstrap=20)
    assert found.upper[0, 1] > found.upper[0, 0]


def test_rows_of_one_text_share_a_mis_scoring() -> None:
    rng = np.random.default_rng(9)
    text = rng.integers(0, 5, size=300)
    y, p = text + rng.normal(size=300), np.array([0.1, 0.1, 0.2, 0.3, 0.3])
    est = IPW().fit(
        text[:, None], y, logp_logging=np.full(300, np.log(0.2)), logp_target=np.log(p)[text]
    )
    wide = sensitivity(est, (2,), violation="logging_probabilities", n_bootstrap=20)
    one = sensitivity(est, (2,), violation="logging_probabilities", n_bootstrap=20, texts=text)
    assert (one.upper < wide.upper).all()
    assert (one.lower > wide.lower).all()


def test_other_policies_on_the_same_fit() -> None:
    log = log_of(10)
    est = DoublyRobust(LinearRegression()).fit(log.X, log.y, **log.fit_arguments())
    other = TargetSample(log.X[:100])
    same = log.log_probs["logp_logging"]
    found = sensitivity(est, (1, 2), logp_target=same, X_target=other, **FAST)  # type: ignore[arg-type]
    assert found.values[0] == pytest.approx(est.evaluate(same, other).value)


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda e, _: sensitivity(OutcomeRegression()), TypeError, "IPW or DoublyRobust"),
        (lambda e, _: sensitivity(e, violation="both"), ValueError, "is not known"),
        (lambda e, _: sensitivity(e, (0.5,)), ValueError, "at least 1"),
        (lambda e, _: sensitivity(e, (1e300,)), ValueError, "at most 1,000,000"),
        (lambda e, _: sensitivity(e, "abc"), ValueError, "lambdas must be finite numbers"),
        (lambda e, _: sensitivity(e, random_state=None), ValueError, "random_state must be"),
        (lambda e, _: sensitivity(e, random_state=-1), ValueError, "random_state must be"),
        (lambda e, _: sensitivity(e, level=95), ValueError, "level"),
        (lambda e, _: sensitivity(e, claim=Claim("g", above=1)), ValueError, "no policy named"),
        (lambda e, _: sensitivity(e, claim=Claim(3, above=1)), ValueError, "does not exist"),
        (
            lambda e, _: sensitivity(e, claim=Claim(0, better_than=0)),
            ValueError,
            "better than itself",
        ),
        (lambda e, _: sensitivity(e, claim="f > h"), TypeError, "must be a Claim"),  # type: ignore[arg-type]
        (lambda e, _: Claim("f"), ValueError, "exactly one"),
        (lambda e, _: sensitivity(e, texts=[1]), ValueError, "texts is for"),
        (lambda e, _: sensitivity(e, quantile_model=LinearRegression()), TypeError, "quantile"),
        (
            lambda e, _: sensitivity(e, quantile_model=HistGradientBoostingRegressor()),
            ValueError,
            "set loss='quantile'",
        ),
        (
            lambda e, log: sensitivity(
                IPW(weights=Clip(2)).fit(log.X, log.y, **log.fit_arguments())
            ),
            ValueError,
            "weights='hajek'",
        ),
        (lambda e, log: sensitivity(IPW().fit(log.X, log.y)), ValueError, "logging policy itself"),
        (
            lambda e, log: sensitivity(
                DoublyRobust().fit(
                    log.X, log.y, **log.log_probs, q_logged=log.y, q_target=np.zeros(9)
                )
            ),
            ValueError,
            "predictions were given",
        ),
    ],
    ids=[
        "estimator", "violation", "lambda", "huge", "word", "no seed", "seed", "level",
        "policy", "position", "itself", "claim", "empty", "texts", "regressor", "loss", "clip",
        "logging", "given",
    ],
)  # fmt: skip
def test_refusals(call, error: type[Exception], said: str) -> None:  # type: ignore[no-untyped-def]
    log = log_of(11, 100)
    est = IPW().fit(log.X, log.y, **log.fit_arguments())
    with pytest.raises(error, match=said):
        call(est, log)


@pytest.mark.real_data
def test_hong_kong_orders_are_fragile(data_dir: Path) -> None:
    """The randomised design rules a confounder out; had it not, small ones would undo the order."""
    data = load_hong_kong(data_dir)
    policies = hong_kong_policies(data.design)
    logp = pd.DataFrame({n: p.log_prob(data.texts) for n, p in policies.items()})
    est = IPW().fit(
        data.arms[list(data.design.arms)].to_numpy(float), data.outcome, logp_target=logp,
        logp_logging=data.logp_logging, groups=data.groups,
    )  # fmt: skip
    claim = Claim("more_commit", better_than="logging policy")
    found = sensitivity(est, (1, 1.1), claim=claim, n_bootstrap=100)
    np.testing.assert_allclose(found.lower[:4, 0], est.value_, atol=1e-9)
    (broken,) = found.breakdowns
    # .3 points above the logged mean, which no confounder moves: V's bounds alone carry the doubt.
    assert broken.strength == pytest.approx(1.0136, abs=0.002)
    assert 1.0 < broken.strength_ci < broken.strength
