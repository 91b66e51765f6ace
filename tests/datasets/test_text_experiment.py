"""The generated experiment: its truth by enumeration, its design, its files.

Statistical tolerances: means are held within 4 standard errors at fixed seeds, so a failure means
a changed generator, not bad luck (chance 6e-5 per comparison when a seed is changed).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causal_lm_opt.datasets import (
    TextExperiment,
    load_text_experiment,
    make_text_experiment,
    shipped_data_dir,
    true_mean,
    write_shipped_data,
)
from causal_lm_opt.datasets import _tree_messages as world
from causal_lm_opt.datasets.__main__ import main
from causal_lm_opt.datasets.shipped import FILES
from causal_lm_opt.exceptions import DataError

POLICIES = ["less_cost", "friendly", "neighbours_and_easy"]


@pytest.fixture(scope="module")
def experiment() -> TextExperiment:
    return make_text_experiment(20_000, random_state=5)


@pytest.fixture(scope="module")
def observational() -> TextExperiment:
    return make_text_experiment(20_000, random_state=6, confounded=True)


def hajek(weight: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Weighted mean and its standard error."""
    share = weight / weight.sum()
    value = float(share @ y)
    return value, float(np.sqrt(np.sum((share * (y - value)) ** 2)))


def test_true_values_equal_the_sum_over_all_texts(experiment: TextExperiment) -> None:
    everyone = {"logging": experiment.design, **experiment.policies}
    assert list(experiment.truth) == list(everyone)
    for name, policy in everyone.items():
        texts, prob = policy.texts_support()
        value = prob @ true_mean(policy.arms_of(texts))
        assert experiment.truth[name] == pytest.approx(value, abs=1e-10)


def test_true_mean_is_the_documented_formula() -> None:
    arms = pd.DataFrame([[1, 0, 1, 1, 0, 0, 3], [0, 1, 0, 0, 1, 1, 3]])
    arms.columns = pd.Index([*world.WORDINGS, "n_pieces"])
    assert true_mean(arms).tolist() == [42 + 3 + 6 + 5 + 6 - 3, 42 + 2 - 5 - 7 - 3]
    with pytest.raises(ValueError, match=r"lacks the columns \['n_pieces'\]"):
        true_mean(arms.drop(columns="n_pieces"))


def test_reader_effects_average_to_zero() -> None:
    levels = np.array(world.INTERESTS)
    assert levels @ np.array(world.INTEREST_PROB) == pytest.approx(world.INTEREST_MEAN)
    assert np.mean(np.arange(world.AGES[0], world.AGES[1] + 1)) == world.AGE_MEAN


def test_no_answer_can_leave_0_to_100() -> None:
    arms, _ = world.design_policy().support()
    mean = true_mean(arms)
    age = np.repeat(np.array(world.AGES), len(world.INTERESTS))
    effect = world.reader_effect(age, np.tile(np.array(world.INTERESTS), len(world.AGES)))
    assert mean.min() + effect.min() - world.NOISE_HALF_WIDTH >= 0
    assert mean.max() + effect.max() + world.NOISE_HALF_WIDTH <= 100


def test_the_design_is_a_distribution_and_not_uniform() -> None:
    design = world.design_policy()
    texts, prob = design.texts_support()
    assert prob.sum() == pytest.approx(1.0, abs=1e-12)
    assert len(texts) == 6 * 3 + 30 * 9 + 120 * 27
    assert prob.max() / prob.min() > 10


def test_inverse_weighting_recovers_the_truth(experiment: TextExperiment) -> None:
    for name in POLICIES:
        weight = np.exp(experiment.logp_target[name] - experiment.logp_logging).to_numpy()
        value, se = hajek(weight, experiment.outcome)
        assert abs(value - experiment.truth[name]) < 4 * se
        assert weight.mean() == pytest.approx(1.0, abs=4 * weight.std() / np.sqrt(len(weight)))
    se = experiment.outcome.std() / np.sqrt(len(experiment))
    assert abs(experiment.outcome.mean() - experiment.truth["logging"]) < 4 * se


def test_shifts_run_from_mild_to_strong(experiment: TextExperiment) -> None:
    texts, prob = experiment.design.texts_support()
    logp = np.log(prob)
    second_moments = [
        float(prob @ np.exp(2 * (policy.log_prob(texts) - logp)))
        for policy in experiment.policies.values()
    ]
    assert second_moments == sorted(second_moments)
    assert second_moments[0] < 1.2
    assert second_moments[-1] > 8


def test_columns_agree_with_each_other(experiment: TextExperiment) -> None:
    frame = experiment.frame
    arms = experiment.design.arms_of(frame["text"])
    pd.testing.assert_frame_equal(frame[list(arms.columns)], arms)
    np.testing.assert_array_equal(frame["logp_logging"], experiment.design.log_prob(frame["text"]))
    for name in POLICIES:
        expected = experiment.policies[name].log_prob(frame["text"])
        np.testing.assert_array_equal(frame[f"logp_{name}"], expected)
    assert frame["reader_id"].is_unique
    assert list(experiment.logp_target.columns) == POLICIES


def test_confounded_weights_given_interest_are_right(observational: TextExperiment) -> None:
    frame = observational.frame
    assert "logp_logging" not in frame.columns
    for name in POLICIES:
        weight = np.exp((frame[f"logp_{name}"] - frame["logp_logging_true"]).to_numpy())
        value, se = hajek(weight, observational.outcome)
        assert abs(value - observational.truth[name]) < 4 * se


def test_confounded_naive_weights_tend_to_the_stated_wrong_value(
    observational: TextExperiment,
) -> None:
    frame = observational.frame
    for name in POLICIES:
        weight = np.exp((frame[f"logp_{name}"] - frame["logp_logging_naive"]).to_numpy())
        value, se = hajek(weight, observational.outcome)
        assert abs(value - observational.naive_limit[name]) < 4 * se
    # Negative control: the naive analysis must be visibly wrong for the last, strongest shift.
    assert abs(value - observational.truth["neighbours_and_easy"]) > 6 * se


def test_naive_limit_equals_the_sum_over_texts_and_interests(
    observational: TextExperiment,
) -> None:
    design, target = observational.design, observational.policies["friendly"]
    texts, prob = target.texts_support()
    share = np.array(world.INTEREST_PROB)
    given = np.exp([p.log_prob(texts) for p in world.interest_policies(design).values()])
    marginal = share @ given
    effect = world.PER_INTEREST * (np.array(world.INTERESTS) - world.INTEREST_MEAN)
    mean = true_mean(target.arms_of(texts)) + (share * effect) @ given / marginal
    assert observational.naive_limit["friendly"] == pytest.approx(prob @ mean, abs=1e-10)
    # The interest policies average to the naive marginal, which is a distribution over the texts.
    everything, _ = design.texts_support()
    given = np.exp([p.log_prob(everything) for p in world.interest_policies(design).values()])
    assert (share @ given).sum() == pytest.approx(1.0)


def test_confounded_weights_recover_the_design_too(observational: TextExperiment) -> None:
    logp = observational.design.log_prob(observational.texts)
    value, se = hajek(np.exp(logp - observational.logp_logging), observational.outcome)
    assert abs(value - observational.truth["logging"]) < 4 * se


def test_randomised_naive_limit_is_the_truth(experiment: TextExperiment) -> None:
    assert experiment.naive_limit == experiment.truth


def test_draws_come_from_the_policies(experiment: TextExperiment) -> None:
    draws = experiment.draws(4000, random_state=9)
    assert list(draws.columns) == ["policy", "text", "logp_target", "logp_logging"]
    assert draws.groupby("policy", sort=False).size().to_dict() == dict.fromkeys(POLICIES, 4000)
    for name, part in draws.groupby("policy"):
        policy = experiment.policies[str(name)]
        np.testing.assert_array_equal(part["logp_target"], policy.log_prob(part["text"]))
        np.testing.assert_array_equal(
            part["logp_logging"], experiment.design.log_prob(part["text"])
        )
        g = true_mean(policy.arms_of(part["text"]))
        assert abs(g.mean() - experiment.truth[str(name)]) < 4 * g.std() / np.sqrt(len(g))


def test_confounded_draws_carry_the_marginal_of_the_texts(observational: TextExperiment) -> None:
    draws = observational.draws(300, random_state=9)
    policies = world.interest_policies(observational.design).values()
    by_interest = np.exp([p.log_prob(draws["text"]) for p in policies])
    np.testing.assert_allclose(
        np.exp(draws["logp_logging"]), np.array(world.INTEREST_PROB) @ by_interest, rtol=1e-10
    )


def test_seeds_are_kept() -> None:
    one, two = make_text_experiment(50, 3), make_text_experiment(50, 3)
    pd.testing.assert_frame_equal(one.frame, two.frame)
    assert not one.frame.equals(make_text_experiment(50, 4).frame)
    pd.testing.assert_frame_equal(one.draws(5, 1), two.draws(5, 1))


@pytest.mark.parametrize("confounded", [False, True])
def test_one_reader_is_enough(confounded: bool) -> None:
    assert len(make_text_experiment(1, 0, confounded=confounded)) == 1
    with pytest.raises(ValueError, match="n must be 1 or more, got 0"):
        make_text_experiment(0, confounded=confounded)


# ---------------------------------------------------------------------- the shipped files


def test_shipped_files_are_what_the_generator_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(tmp_path / "new")])
    written = sorted((tmp_path / "new").iterdir())
    assert [path.name for path in written] == sorted(FILES)
    assert sorted(capsys.readouterr().out.split()) == [str(path) for path in written]
    for path in written:
        assert path.read_bytes() == (shipped_data_dir() / path.name).read_bytes(), path.name


def test_shipped_data_are_small() -> None:
    size = sum(path.stat().st_size for path in shipped_data_dir().iterdir())
    assert size < 2_000_000


@pytest.mark.parametrize("confounded", [False, True])
def test_a_loaded_experiment_equals_the_generated_one(tmp_path: Path, confounded: bool) -> None:
    loaded = load_text_experiment(confounded=confounded)
    seed = 20240 + int(confounded)
    made = make_text_experiment(2000, seed, confounded=confounded)
    # Log-probabilities are written with eight decimals.
    pd.testing.assert_frame_equal(loaded.frame, made.frame, rtol=0, atol=1e-8)
    assert loaded.truth == made.truth
    assert len(loaded) == 2000


def test_written_truth_is_the_truth() -> None:
    truth = json.loads((shipped_data_dir() / "text_experiment_truth.json").read_text("utf-8"))
    randomised, observational = load_text_experiment(), load_text_experiment(confounded=True)
    assert truth["randomised"]["true_value"] == pytest.approx(randomised.truth, abs=1e-7)
    assert truth["observational"]["limit_of_naive_weighting"] == pytest.approx(
        observational.naive_limit, abs=1e-7
    )


def test_written_draws_score_as_stated() -> None:
    draws = pd.read_csv(shipped_data_dir() / "text_experiment_draws.csv")
    policies = load_text_experiment().policies
    for name, part in draws.groupby("policy"):
        expected = policies[str(name)].log_prob(part["text"])
        np.testing.assert_allclose(part["logp_target"], expected, atol=1e-8)


def test_the_loader_names_file_and_problem(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no file"):
        load_text_experiment(tmp_path / "nothing.csv")
    write_shipped_data(tmp_path)
    file = tmp_path / "text_experiment.csv"
    with pytest.raises(DataError, match=r"text_experiment.csv: columns \['logp_logging_true'\]"):
        load_text_experiment(file, confounded=True)
    frame = pd.read_csv(file)
    frame.loc[2, "text"] = "Something else."
    frame.to_csv(file, index=False)
    with pytest.raises(DataError, match=r"text_experiment.csv: texts\[2\] is not made of"):
        load_text_experiment(file)


def test_an_interrupted_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "text_experiment.csv"
    old.write_text("old")

    def full_disk(self: Path, data: bytes) -> int:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="disk full"):
        write_shipped_data(tmp_path)
    assert old.read_text() == "old"
