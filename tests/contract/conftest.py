"""One small logged experiment in every container, and fits of all three estimators on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

import causal_lm_opt
from causal_lm_opt import DoublyRobust

N_ROWS, N_DRAWS = 120, 40
NOUNS = ("parks", "roads", "schools", "taxes", "rivers", "clinics", "trains")
VERBS = ("build", "mend", "praise", "close", "visit")


@dataclass(frozen=True)
class Experiment:
    """Gaussian features (or texts) with two target policies.

    ``X`` (n, 3), ``y`` (n,), ``logging`` (n,), ``target`` (n, 2), ``draws`` two arrays (m, 3),
    ``groups`` (n,), ``texts`` n strings, ``text_draws`` m strings.
    """

    X: Any
    y: Any
    logging: Any
    target: Any
    draws: tuple[Any, Any]
    groups: Any
    texts: Any
    text_draws: Any

    def arguments(self, kind: type, *, policies: int = 1) -> dict[str, Any]:
        """Keyword arguments of ``kind``'s fit for one or two policies."""
        one = policies == 1
        logs = {
            "logp_target": self.target[:, 0] if one else self.target,
            "logp_logging": self.logging,
        }
        second = self.draws[0] if one else {"a": self.draws[0], "b": self.draws[1]}
        if not hasattr(kind, "predict"):
            return logs
        return {**logs, "X_target": second}

    def rows(self, picked: Any) -> Experiment:
        """The logged rows at ``picked`` (repeated, permuted, dropped); draws as they are."""
        return replace(
            self,
            X=self.X[picked],
            y=self.y[picked],
            logging=self.logging[picked],
            target=self.target[picked],
            groups=self.groups[picked],
            texts=self.texts[picked],
        )


def _texts(rng: np.random.Generator, size: int) -> Any:
    verbs, nouns = rng.integers(0, len(VERBS), size), rng.integers(0, len(NOUNS), (size, 2))
    rows = [
        f"{VERBS[v]} {NOUNS[a]} and {NOUNS[b]} {i}"
        for i, (v, (a, b)) in enumerate(zip(verbs, nouns, strict=True))
    ]
    return np.array(rows, dtype=object)


def _density(x: Any, mean: float) -> Any:
    return -0.5 * (x - mean) ** 2 - 0.92


@pytest.fixture(scope="session")
def experiment() -> Experiment:
    rng = np.random.default_rng(20240)
    X = rng.normal(size=(N_ROWS, 3)).astype(np.float32).astype(np.float64)  # exact in float32
    y = np.rint(4 * (1 + X @ [1.0, -0.5, 0.25] + rng.normal(size=N_ROWS)))  # exact as integers
    return Experiment(
        X=X,
        y=y,
        logging=_density(X[:, 0], 0.0),
        target=np.column_stack([_density(X[:, 0], 0.5), _density(X[:, 0], -0.3)]),
        draws=(
            rng.normal((0.5, 0, 0), 1, (N_DRAWS, 3)),
            rng.normal((-0.3, 0, 0), 1, (N_DRAWS + 7, 3)),
        ),
        groups=rng.integers(0, 15, N_ROWS),
        texts=_texts(rng, N_ROWS),
        text_draws=_texts(rng, N_DRAWS),
    )


KINDS = [
    "IPW",
    "OutcomeRegression",
    "DoublyRobust",
]


def kinds(*, takes: str = "") -> list[Any]:
    """The estimators' classes: all of them, or those with a setting of that name."""
    every = [getattr(causal_lm_opt, name) for name in KINDS]
    return [kind for kind in every if not takes or takes in kind().get_params()]


def with_draws() -> list[Any]:
    """The estimators that predict, and read draws."""
    return [kind for kind in kinds() if hasattr(kind, "predict")]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Any:
    """Each value estimator in turn."""
    return getattr(causal_lm_opt, request.param)


@pytest.fixture
def figures() -> Callable[[Any], tuple[Any, Any, Any]]:
    """Value, standard error and interval of a fit."""
    return lambda est: (est.value_, est.se_, est.result_.confint())


@pytest.fixture
def refit(kind: Any, experiment: Any) -> Callable[..., Any]:
    """Fit with some arguments replaced."""
    e = experiment

    def run(settings: dict[str, Any] | None = None, **changes: Any) -> Any:
        given = {"X": e.X, "y": e.y, **e.arguments(kind), **changes}
        return kind(**(settings or {})).fit(given.pop("X"), given.pop("y"), **given)

    return run


@pytest.fixture
def robust(experiment: Any) -> Callable[..., Any]:
    """The same for :class:`DoublyRobust` alone."""
    e = experiment

    def run(settings: dict[str, Any] | None = None, **changes: Any) -> Any:
        given = {"X": e.X, "y": e.y, **e.arguments(DoublyRobust), **changes}
        return DoublyRobust(**(settings or {})).fit(given.pop("X"), given.pop("y"), **given)

    return run
