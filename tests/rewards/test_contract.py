"""scikit-learn's own checks of estimators, as far as they have a meaning for pairs.

scikit-learn checks estimators fitted on rows X and targets y. A reward is fitted on pairs of rows,
so the checks see an *adapter*: a subclass with the same constructor, whose methods pair up the rows
of the X they are given and hand them on. Every check that scikit-learn yields is run on it.

Adaptations, each a place where a pair estimator's signature is another one:

* ``fit(X, y)`` pairs row i with the i-th from the end; y is not used. Models with heads get
  alternating objectives, and are asked for the first one's reward.
* ``fit_transform`` is fit and transform: the latent is that of single texts, and what it was
  fitted on is pairs, so the class itself has none.
* ``score(X, y)`` scores the same pairs by their predictions. ``predict_proba`` is hidden: it takes
  two texts and gives one column (`test_models`: swapping flips it; `test_errors`: its messages).
* The tag "y is required" is taken off the adapter, where y is not used; on the class it is set,
  because the rejected texts stand in y's place.

Departures from `check_estimator`, with reasons: see ``DEPARTURES``; each is expected to fail, so
that one which no longer does is noticed.

The checks run in a process of their own, where this file is the program: SciPy reads
``SCIPY_ARRAY_API`` once, on import, and without it a check is skipped. A skip is a failure here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import check_estimator

from causal_lm_opt.rewards import AdversarialReward, BradleyTerryReward, MultiHeadReward

DEPARTURES = {
    "check_sample_weight_equivalence_on_dense_data": (
        "a fit takes random mini-batches in single precision: a pair of weight 2 is two copies in "
        "the risk (test_losses, 1e-14) and, with full batches, in the fit up to rounding "
        "(test_models, 1e-3), and a pair of weight 0 is absent bit for bit; scikit-learn asks for "
        "1e-7 of a fit whose batches hold other rows"
    ),
}


class Adapter:
    """Turns calls on rows into calls on pairs; comes before the reward in the bases."""

    predict_proba = property(doc="Hidden: it takes two texts.")

    def fit(self: Any, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        n = X.shape[0] if hasattr(X, "shape") else len(np.asarray(X))
        given = {"objective": np.arange(n) % 2} if self._heads else {}
        whole = sparse.issparse(X) or not hasattr(X, "__getitem__")
        rejected = X if whole else X[::-1]
        return super().fit(X, rejected, sample_weight=sample_weight, **given)  # type: ignore[misc]

    def predict(self: Any, X: Any) -> Any:
        return super().predict(X, 0 if self._heads else None)  # type: ignore[misc]

    def transform(self: Any, X: Any) -> Any:
        return super().transform(X)  # type: ignore[misc]

    def fit_transform(self, X: Any, y: Any = None) -> Any:
        return self.fit(X, y).transform(X)

    def score(self: Any, X: Any, y: Any = None) -> Any:
        rewards = self.predict(X)
        return float(np.mean(rewards > rewards[::-1]))

    def __sklearn_tags__(self: Any) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.target_tags.required = False
        return tags


class AdaptedBradleyTerry(Adapter, BradleyTerryReward):
    pass


class AdaptedMultiHead(Adapter, MultiHeadReward):
    pass


class AdaptedAdversarial(Adapter, AdversarialReward):
    pass


ADAPTED = {
    BradleyTerryReward: AdaptedBradleyTerry,
    MultiHeadReward: AdaptedMultiHead,
    AdversarialReward: AdaptedAdversarial,
}


def run_checks() -> dict[str, list[tuple[str, str, str]]]:
    """Name, status and exception of every check of every model."""
    out = {}
    for kind, adapted in ADAPTED.items():
        results = check_estimator(
            adapted(hidden=(8,), latent_dim=4, epochs=2),
            expected_failed_checks=DEPARTURES, on_fail=None, on_skip=None,
        )  # fmt: skip
        out[kind.__name__] = [
            (r["check_name"], r["status"], repr(r["exception"])[:300]) for r in results
        ]
    return out


@pytest.fixture(scope="module")
def report() -> Any:
    done = subprocess.run(
        [sys.executable, __file__],
        # Sums of single precision in one order whatever the number of rows.
        env={**os.environ, "SCIPY_ARRAY_API": "1", "MKL_CBWR": "COMPATIBLE"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", [kind.__name__ for kind in ADAPTED])
def test_every_check_passes_but_for_the_departures(report: Any, name: str) -> None:
    results = report[name]
    assert [r for r in results if r[1] != "passed" and r[0] not in DEPARTURES] == []
    departed = {check: status for check, status, _ in results if check in DEPARTURES}
    assert departed == dict.fromkeys(DEPARTURES, "xfail")
    assert len(results) >= 50


@pytest.mark.parametrize("kind", ADAPTED, ids=lambda kind: kind.__name__)
def test_no_tag_switches_checks_off(kind: Any) -> None:
    tags = get_tags(kind())
    for switch in ("no_validation", "_skip_test", "non_deterministic"):
        assert not getattr(tags, switch)
    assert tags.input_tags.two_d_array
    assert tags.requires_fit
    assert tags.target_tags.required


@pytest.mark.parametrize("kind", ADAPTED, ids=lambda kind: kind.__name__)
def test_constructors_only_assign(kind: Any) -> None:
    """Checked on the class itself: no argument is read, changed or checked before ``fit``."""
    given = {name: object() for name in kind().get_params()}
    model = kind(**given)
    assert isinstance(model, BaseEstimator)
    assert vars(model) == given
    assert model.set_params(epochs=3).epochs == 3
    with pytest.raises(ValueError, match="Invalid parameter 'epoch'"):
        model.set_params(epoch=3)


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # the checks warn of what they provoke
    print(json.dumps(run_checks()))
