"""What ``benchmarks.estimators`` times: inputs, the package's way and the plain NumPy way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import cross_val_predict

from benchmarks import plain
from causal_lm_opt import IPW, DoublyRobust, TargetSample

FloatArray = npt.NDArray[np.float64]
Figures = dict[str, FloatArray]
Inputs = dict[str, Any]  # arrays, all of which count as inputs of the task
SEED = 20261121
N_SIM = 1000
HALF_LOG_2PI = 0.9189385332046727


# ------------------------------------------------------------------ inputs
def _normal_logp(x: FloatArray, mean: float) -> FloatArray:
    return -0.5 * (x - mean) ** 2 - HALF_LOG_2PI


def _outcome(X: FloatArray, rng: np.random.Generator) -> FloatArray:
    return np.asarray(X @ np.linspace(1.0, 0.2, X.shape[1]) + rng.standard_normal(X.shape[0]))


def make_values(n: int, _: int) -> Inputs:
    """One policy at sd(ell) = .5 with predictions made elsewhere, as many draws as rows."""
    rng = np.random.default_rng([SEED, n])
    X = rng.standard_normal((n, 1))
    return {
        "X": X,
        "y": _outcome(X, rng),
        "logp_logging": _normal_logp(X[:, 0], 0.0),
        "logp_target": _normal_logp(X[:, 0], 0.5),
        "q_logged": 0.9 * X[:, 0],
        "q_target": 0.9 * (rng.standard_normal(n) + 0.5),
    }


def make_policies(n: int, count: int) -> Inputs:
    """K policies at sd(ell) up to .5 that share n/10 draws of the logging policy."""
    rng = np.random.default_rng([SEED, n, count])
    X, draws = rng.standard_normal((n, 1)), rng.standard_normal((max(n // 10, 2), 1))
    shifts = np.linspace(0.5 / count, 0.5, count)

    def scored(x: FloatArray) -> FloatArray:
        out = np.empty((x.shape[0], count))
        for k, shift in enumerate(shifts):  # no temporary of this size
            out[:, k] = _normal_logp(x, shift)
        return out

    return {
        "X": X,
        "y": _outcome(X, rng),
        "logp_logging": _normal_logp(X[:, 0], 0.0),
        "logp_target": scored(X[:, 0]),
        "q_logged": 0.9 * X[:, 0],
        "draws": draws,
        "draws_target": scored(draws[:, 0]),
        "draws_sampling": _normal_logp(draws[:, 0], 0.0),
        "q_target": 0.9 * draws[:, 0],
    }


def make_crossfit(n: int, _: int) -> Inputs:
    """Ten features, a linear outcome, as many draws as rows."""
    rng = np.random.default_rng([SEED, n, 10])
    X, draws = rng.standard_normal((n, 10)), rng.standard_normal((n, 10))
    draws[:, 0] += 0.5
    return {
        "X": X,
        "y": _outcome(X, rng),
        "logp_logging": _normal_logp(X[:, 0], 0.0),
        "logp_target": _normal_logp(X[:, 0], 0.5),
        "draws": draws,
    }


def make_effect(n: int, _: int) -> Inputs:
    """A binary treatment that depends on five covariates; its effect averages 1."""
    rng = np.random.default_rng([SEED, n, 5])
    covariates = rng.standard_normal((n, 5))
    propensity = expit(0.5 * covariates[:, 0] - 0.25 * covariates[:, 1])
    treated = (rng.random(n) < propensity).astype(np.float64)
    y = _outcome(covariates, rng) + treated * (1.0 + 0.5 * covariates[:, 0])
    return {"covariates": covariates, "treated": treated, "y": y, "propensity": propensity}


# ------------------------------------------------------------------ the package's way
def _picked(a: Inputs, *names: str) -> Inputs:
    return {name: a[name] for name in names}


def ours_values(a: Inputs) -> Figures:
    """Three fits: Horvitz-Thompson, Hajek, doubly robust."""
    log = _picked(a, "X", "y", "logp_logging", "logp_target")
    ipw, hajek = IPW("ht").fit(**log), IPW().fit(**log)
    dr = DoublyRobust().fit(**log, **_picked(a, "q_logged", "q_target"))
    overlap = dr.result_.diagnostics[0]
    figures = {
        "ipw": ipw.value_, "ipw_se": ipw.se_, "hajek": hajek.value_, "hajek_se": hajek.se_,
        "dr": dr.value_, "dr_se": dr.se_, "ess": overlap["ess"], "pareto_k": overlap["pareto_k"],
    }  # fmt: skip
    return {name: np.atleast_1d(figure) for name, figure in figures.items()}


def ours_policies(a: Inputs, *, influence: str = "drop") -> Figures:
    """Hajek and doubly robust values of K policies, influence functions dropped."""
    log = _picked(a, "X", "y", "logp_logging", "logp_target")
    draws = TargetSample(
        a["draws"], logp_target=a["draws_target"], logp_sampling=a["draws_sampling"]
    )
    hajek = IPW(influence=influence).fit(**log)
    dr = DoublyRobust(influence=influence).fit(
        **log, X_target=draws, **_picked(a, "q_logged", "q_target")
    )
    overlap = dr.result_.diagnostics
    return {
        "hajek": hajek.value_,
        "hajek_se": hajek.se_,
        "dr": dr.value_,
        "dr_se": dr.se_,
        "ess": np.array([d["ess"] for d in overlap]),
        "pareto_k": np.array([d["pareto_k"] for d in overlap]),
    }


def ours_band(a: Inputs) -> Figures:
    """Hajek values of K policies and their max-t bands, contrasts with the first."""
    result = IPW().fit(**_picked(a, "X", "y", "logp_logging", "logp_target")).result_
    found = result.compare(reference=0, n_sim=N_SIM)
    return {
        "half_width": (found.bands[:, 1] - found.bands[:, 0]) / 2,
        "value": result.values,
        "contrast": found.contrasts.values,
        "contrast_half_width": (found.contrast_bands[:, 1] - found.contrast_bands[:, 0]) / 2,
    }


def fit_crossfit(a: Inputs, inference: str) -> DoublyRobust:
    """Cross-fitted doubly robust fit with OLS."""
    log = _picked(a, "X", "y", "logp_logging", "logp_target")
    return DoublyRobust(LinearRegression(), inference=inference).fit(
        **log, X_target=TargetSample(a["draws"])
    )


def ours_crossfit(a: Inputs, *, inference: str) -> Figures:
    """Value and standard error of :func:`fit_crossfit`."""
    fit = fit_crossfit(a, inference)
    return {"dr": np.asarray(fit.value_), "dr_se": np.asarray(fit.se_)}


def propensities(a: Inputs, how: str) -> FloatArray:
    """Treatment probabilities: ``"known"``, ``"fitted"`` on all rows or ``"cross-fitted"``."""
    if how == "known":
        return np.asarray(a["propensity"])
    model = LogisticRegression(C=np.inf)
    X, treated = a["covariates"], a["treated"]
    if how == "fitted":
        return np.asarray(model.fit(X, treated).predict_proba(X)[:, 1])
    found = cross_val_predict(model, X, treated, cv=5, method="predict_proba")
    return np.asarray(found[:, 1])


def fit_effect(a: Inputs, how: str, inference: str = "influence") -> DoublyRobust:
    """Values of "treat everyone" and "treat no one", covariates shared (one prompt a row)."""
    covariates, treated = a["covariates"], a["treated"]
    probability = propensities(a, how)
    n = treated.shape[0]
    prompt = np.arange(n)

    def design(arm: FloatArray) -> FloatArray:
        return np.column_stack([arm, covariates, arm[:, None] * covariates])

    with np.errstate(divide="ignore"):
        target = {"treat": np.log(treated), "control": np.log1p(-treated)}
    return DoublyRobust(LinearRegression(), inference=inference).fit(
        design(treated),
        a["y"],
        logp_logging=np.log(np.where(treated == 1.0, probability, 1.0 - probability)),
        logp_target=target,
        X_target={
            "treat": TargetSample(design(np.ones(n)), groups=prompt),
            "control": TargetSample(design(np.zeros(n)), groups=prompt),
        },
        groups=prompt,
    )


def ours_effect(a: Inputs, *, how: str) -> Figures:
    """Difference of the two values of :func:`fit_effect`, from data to standard error."""
    result = fit_effect(a, how).result_
    effect = result["treat"] - result["control"]
    return {"effect": np.asarray(effect.value), "effect_se": np.asarray(effect.se)}


# ------------------------------------------------------------------ plain NumPy, and agreement
def _plain(function: Callable[..., Figures], *names: str, **settings: Any) -> Any:
    """A run of a function of :mod:`benchmarks.plain` on the named inputs."""
    return lambda a: function(*(a[name] for name in names), **settings)


LOG = ("y", "logp_logging", "logp_target")
GIVEN = (*LOG, "q_logged", "q_target")
SHARED = (*LOG, "q_logged", "draws_target", "draws_sampling", "q_target")
FEATURES = ("X", *LOG, "draws")
TREATMENT = ("covariates", "treated", "y", "propensity")


def _folds(fit: DoublyRobust) -> npt.NDArray[np.intp]:
    fitted = fit.splits_[0].crossfit
    assert fitted is not None
    return fitted.folds.fold


def _same_folds_crossfit(a: Inputs) -> Figures:
    fold = _folds(fit_crossfit(a, "influence"))
    return plain.crossfit(*(a[name] for name in FEATURES), fold=fold)


def _same_folds_effect(a: Inputs) -> Figures:
    fold = _folds(fit_effect(a, "known"))
    return plain.treatment_effect(*(a[name] for name in TREATMENT), fold=fold)


@dataclass(frozen=True)
class Task:
    """One benchmark.

    Attributes
    ----------
    computes : str
        What every run computes.
    make : callable (n, K) -> inputs
    runs : mapping label -> run(inputs)
        The first is ours, the label ``"plain NumPy"`` the one that ratios refer to.
    same : callable
        Plain NumPy on our folds: its figures must equal those of the first run.
    policies : tuple of int
        Values of K.
    """

    computes: str
    make: Callable[[int, int], Inputs]
    runs: Mapping[str, Callable[[Inputs], Figures]]
    same: Callable[[Inputs], Figures]
    policies: tuple[int, ...] = (1,)


TASKS: dict[str, Task] = {
    "values": Task(
        "IPW, Hajek and doubly robust value of one policy (predictions given) with SE, ESS, k-hat",
        make_values,
        {
            "ours": ours_values,
            "plain NumPy": _plain(plain.values, *GIVEN),
            "plain NumPy, nothing shared": _plain(plain.values_apart, *GIVEN),
        },
        _plain(plain.values, *GIVEN),
    ),
    "policies": Task(
        "Hajek and doubly robust values of K policies (predictions given, draws of one sampling "
        "policy) with SE, ESS, k-hat; ours with influence='drop'",
        make_policies,
        {"ours": ours_policies, "plain NumPy": _plain(plain.policies, *SHARED)},
        _plain(plain.policies, *SHARED),
        (1, 10, 100),
    ),
    "band": Task(
        f"Hajek values of K policies and max-t bands of values and contrasts, {N_SIM} simulations",
        make_policies,
        {
            "ours": ours_band,
            "plain NumPy": _plain(plain.band, *LOG, n_sim=N_SIM),
            "plain NumPy, n multipliers": _plain(plain.band_by_multipliers, *LOG, n_sim=N_SIM),
        },
        _plain(plain.band, *LOG, n_sim=N_SIM),
        (5,),
    ),
    "crossfit": Task(
        "Doubly robust value, 5-fold OLS on 10 features, with SE",
        make_crossfit,
        {
            "ours": partial(ours_crossfit, inference="influence"),
            "ours, stacked (default)": partial(ours_crossfit, inference="auto"),
            "plain NumPy": _plain(plain.crossfit, *FEATURES),
            "plain NumPy, normal equations": _plain(plain.crossfit, *FEATURES, solver="normal"),
        },
        _same_folds_crossfit,
    ),
    "effect": Task(
        "Effect of a binary treatment, 5-fold OLS in each arm on 5 covariates, with SE",
        make_effect,
        {
            "ours": partial(ours_effect, how="known"),
            "ours, fitted": partial(ours_effect, how="fitted"),
            "ours, cross-fitted": partial(ours_effect, how="cross-fitted"),
            "plain NumPy": _plain(plain.treatment_effect, *TREATMENT),
        },
        _same_folds_effect,
    ),
}


def disagreement(task: Task, a: Inputs) -> float:
    """Largest difference of our figures from plain NumPy's on the same folds, relative to them."""
    ours, theirs = next(iter(task.runs.values()))(a), task.same(a)
    if set(ours) != set(theirs):
        raise ValueError(f"figures differ: ours {sorted(ours)}, plain NumPy {sorted(theirs)}.")
    return max(
        float(np.max(np.abs(ours[name] - theirs[name]) / (1.0 + np.abs(theirs[name]))))
        for name in ours
    )
