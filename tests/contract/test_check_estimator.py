"""scikit-learn's own checks at the defaults: every one runs, none is waived.

They run in a process of their own: SciPy reads ``SCIPY_ARRAY_API`` once, on import, and without it
scikit-learn skips its array-API checks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

ESTIMATORS = [
    "IPW",
    "OutcomeRegression",
    "DoublyRobust",
    "StatsmodelsGLM",
]
SWITCHES = ("no_validation", "_skip_test", "non_deterministic")  # tags that switch checks off

SCRIPT = """
import json, sys, warnings
warnings.simplefilter("ignore")
import causal_lm_opt
from scipy._lib._array_api import SCIPY_ARRAY_API
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import check_estimator

out = {"array_api": bool(SCIPY_ARRAY_API)}
for name in sys.argv[1:]:
    estimator = getattr(causal_lm_opt, name)()
    tags = get_tags(estimator)
    results = check_estimator(estimator, on_fail=None, on_skip=None)
    out[name] = {
        "results": [
            (r["check_name"], r["status"], repr(r["exception"]), bool(r["expected_to_fail"]))
            for r in results
        ],
        "switches": {s: bool(getattr(tags, s)) for s in %r},
        "two_d_array": tags.input_tags.two_d_array,
        "requires_fit": tags.requires_fit,
    }
print(json.dumps(out))
"""


@pytest.fixture(scope="module")
def report() -> dict[str, object]:
    """Results of all checks of all estimators."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT % (SWITCHES,), *ESTIMATORS],
        env={**os.environ, "SCIPY_ARRAY_API": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_array_api_dispatch_is_active(report):
    assert report["array_api"] is True


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_check_passes(report, name):
    results = report[name]["results"]
    assert [r for r in results if r[1] != "passed"] == []
    assert [r[0] for r in results if r[3]] == []  # expected to fail
    assert len(results) >= 50


@pytest.mark.parametrize("name", ESTIMATORS)
def test_no_tag_switches_checks_off(report, name):
    assert not any(report[name]["switches"].values())
    assert report[name]["two_d_array"]
    assert report[name]["requires_fit"]


def test_every_public_estimator_is_checked():
    from sklearn.base import ClassifierMixin, RegressorMixin, TransformerMixin

    import causal_lm_opt
    from causal_lm_opt.estimators._base import BaseValueEstimator

    public = [getattr(causal_lm_opt, name) for name in causal_lm_opt.__all__]
    # The others are no predictors of y from X: ratios learn from two samples, fit(X, X_target),
    # a Deconfounder from readers' covariates, fit(Z, y, X).
    kinds = (BaseValueEstimator, RegressorMixin, ClassifierMixin, TransformerMixin)
    fitted = {p.__name__ for p in public if isinstance(p, type) and issubclass(p, kinds)}
    assert fitted == set(ESTIMATORS)
