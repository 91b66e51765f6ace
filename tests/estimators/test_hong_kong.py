"""The Hong Kong experiment, end to end: real texts, real design, four estimators."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import statsmodels.api as sm
from sklearn.linear_model import LinearRegression

from causal_lm_opt import IPW, DoublyRobust, OutcomeRegression, TargetSample
from causal_lm_opt.datasets import hong_kong_policies, load_hong_kong

pytestmark = pytest.mark.real_data


def test_piece_policies_are_valued_by_four_estimators(data_dir: Path) -> None:
    hk = load_hong_kong(data_dir)
    policies = hong_kong_policies(hk.design)
    assert len(policies) >= 3
    log_probs = {
        "logp_target": {name: p.log_prob(hk.texts) for name, p in policies.items()},
        "logp_logging": hk.logp_logging,
        "groups": hk.groups,
    }
    support = {}
    for name, policy in policies.items():
        sets, probability = policy.support()
        support[name] = TargetSample(sets[list(hk.arms.columns)], weight=probability, exact=True)
    fits = [
        IPW("ht").fit(hk.arms, hk.outcome, **log_probs),
        IPW().fit(hk.arms, hk.outcome, **log_probs),
        OutcomeRegression(LinearRegression()).fit(
            hk.arms, hk.outcome, X_target=support, groups=hk.groups
        ),
        DoublyRobust(LinearRegression()).fit(hk.arms, hk.outcome, X_target=support, **log_probs),
    ]
    for fit in fits:
        interval = fit.result_.confint()
        assert interval.shape == (len(policies), 2)
        assert np.all((fit.value_ > 60) & (fit.value_ < 75))
        assert np.all((fit.se_ > 0.4) & (fit.se_ < 4))
    # Hajek and outcome regression agree with DR within two standard errors of the difference
    for fit in fits[1:3]:
        gap = fits[3].result_ - fit.result_
        assert np.all(np.abs(gap.value) <= 2.5 * gap.se + 0.2)


def test_the_logging_policy_is_the_mean_outcome(data_dir: Path) -> None:
    hk = load_hong_kong(data_dir)
    mean = float(np.mean(hk.outcome))
    for estimator in (IPW(), IPW("ht"), OutcomeRegression(), DoublyRobust()):
        assert estimator.fit(hk.arms, hk.outcome).value_ == mean


def test_tilts_agree_in_direction_with_the_seven_arm_regression(data_dir: Path) -> None:
    """Tilting towards an arm, the number of pieces held fixed, moves the value as its coefficient.

    treatycommit is in every three-piece text, so that a tilt that did not hold the number of
    pieces fixed would mix its effect with that of longer texts.
    """
    hk = load_hong_kong(data_dir)
    regression = sm.OLS(hk.outcome, sm.add_constant(hk.arms.astype(float))).fit(cov_type="HC3")
    assert regression.params["treatycommit"] == pytest.approx(5.2, abs=0.1)
    assert regression.bse["treatycommit"] == pytest.approx(1.8, abs=0.1)
    logging = IPW().fit(hk.arms, hk.outcome, groups=hk.groups).result_
    z = {}
    for arm in hk.arms.columns:
        tilted = hk.design.tilt({arm: 0.5}, within_length=True)
        value = (
            IPW()
            .fit(
                hk.arms,
                hk.outcome,
                logp_target=tilted.log_prob(hk.texts),
                logp_logging=hk.logp_logging,
                groups=hk.groups,
            )
            .result_
        )
        contrast = value - logging
        assert contrast.se < 0.3 * value.se  # shared rows are subtracted
        z[arm] = contrast.value / contrast.se
    assert z["treatycommit"] == pytest.approx(regression.tvalues["treatycommit"], abs=0.6)
    for arm, t in regression.tvalues.drop("const").items():
        if abs(t) >= 0.5:
            assert np.sign(z[arm]) == np.sign(t), arm
