"""Tables of finished preference studies, beside the paper's figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from causal_lm_opt.simulation.latent_positivity import LatentPositivityWorld
from causal_lm_opt.simulation.preference_study import (
    ADVERSARIAL,
    BASE,
    LATENT,
    LINEAR,
    MULTI,
    OBJECTIVES,
    PAPER,
    TESTS,
    WEIGHTED,
    PreferenceStudy,
)
from causal_lm_opt.simulation.user_objectives import UserObjectiveWorld

__all__ = ["contrast_table", "gap_ratio", "gap_table", "summary_table", "t_interval"]

#: Models whose difference is told, the better one first.
CONTRASTS = ((WEIGHTED, BASE), (MULTI, BASE), (ADVERSARIAL, MULTI))


def summary_table(
    results: pd.DataFrame, study: PreferenceStudy, *, level: float = 0.95
) -> pd.DataFrame:
    """Mean accuracy over seeds with intervals, the paper's figure, and what enumeration says.

    Parameters
    ----------
    results : DataFrame
        Columns ``noise, rho, seed, model, lambda, test, accuracy``: one row per fit and test.
    study : PreferenceStudy
    level : float
        Of the t-intervals over seeds.

    Returns
    -------
    DataFrame
        ``noise, rho, model, lambda, test, seeds, accuracy, low, high, paper, true_weights``: the
        last is the accuracy of the true weights on the latents as the embedding shows them (no
        bound where factors disagree: there one factor's difference tells the other's sign). For
        latent-positivity also rows of the model "Large-sample linear", which has no seeds.
    """
    rows: list[dict[str, Any]] = []
    keys = ["noise", "rho", "model", "lambda", "test"]
    for at, part in results.groupby(keys, sort=False, dropna=False):
        noise, rho, model, strength, test = _key(at)
        found = t_interval(part["accuracy"].to_numpy(), level)
        low, high = (float(np.clip(end, 0.0, 1.0)) for end in found)  # accuracies are shares
        known = _paper(study, strength)
        rows.append(
            {
                "noise": noise, "rho": rho, "model": model, "lambda": strength, "test": test,
                "seeds": len(part), "accuracy": float(part["accuracy"].mean()), "low": low,
                "high": high, "paper": known.get((rho, model, test), np.nan),
                "true_weights": _true_weights(study, noise, rho, test),
            }
        )  # fmt: skip
    if study.name == LATENT:
        rows += _linear_rows(study, results)
    return pd.DataFrame(rows)


def t_interval(values: Any, level: float = 0.95) -> tuple[float, float]:
    """t-interval of a mean over seeds; not a number for one seed.

    >>> tuple(round(x, 3) for x in t_interval([1.0, 2.0, 3.0]))
    (-0.484, 4.484)
    """
    x = np.asarray(values, dtype=np.float64)
    if x.size < 2:
        return float("nan"), float("nan")
    half = stats.t.ppf(0.5 + level / 2, x.size - 1) * x.std(ddof=1) / np.sqrt(x.size)
    return float(x.mean() - half), float(x.mean() + half)


def _key(at: Any) -> tuple[str, float, str, float, str]:
    """Noise, rho, model, lambda (``nan`` for models without) and test of a group of rows."""
    noise, rho, model, strength, test = at
    return str(noise), float(rho), str(model), float(strength), str(test)


def _paper(study: PreferenceStudy, strength: float) -> Mapping[tuple[float, str, str], float]:
    """The paper's figures, which are of lambda 1."""
    return PAPER[study.name] if np.isnan(strength) or strength == 1.0 else {}


def _true_weights(study: PreferenceStudy, noise: str, rho: float, test: str) -> float:
    world = study.world(noise)
    if isinstance(world, UserObjectiveWorld):
        return world.objective_accuracy()
    law = world.opposite_law() if test == "ood" else world.law(rho)
    return world.linear_accuracy(world.weights, law)


def _linear_rows(study: PreferenceStudy, results: pd.DataFrame) -> list[dict[str, Any]]:
    """Accuracy of what least squares on the noisy latents finds in an endless sample."""
    rows = []
    for noise in dict.fromkeys(results["noise"]):
        world = study.world(noise)
        assert isinstance(world, LatentPositivityWorld)
        for rho in sorted(set(results["rho"])):
            weights = world.limit_weights(world.law(rho))
            for test in TESTS[LATENT]:
                law = world.opposite_law() if test == "ood" else world.law(rho)
                rows.append(
                    {
                        "noise": noise, "rho": rho, "model": LINEAR, "lambda": np.nan,
                        "test": test, "seeds": 0, "low": np.nan, "high": np.nan,
                        "accuracy": world.linear_accuracy(list(weights), law), "paper": np.nan,
                        "true_weights": _true_weights(study, noise, rho, test),
                    }
                )  # fmt: skip
    return rows


def gap_table(
    results: pd.DataFrame, study: PreferenceStudy, *, level: float = 0.95
) -> pd.DataFrame:
    """Differences between the two tests of each model, paired by seed, with t-intervals.

    Returns
    -------
    DataFrame
        ``noise, rho, model, lambda, gap, low, high, paper``: the first test's accuracy less the
        second's; and ``lost, lost_low, lost_high``: how much lower the second test's accuracy is
        than that of "Base" (user-objectives: of the same model) at the smallest rho.
    """
    first, second = TESTS[study.name]
    keys = ["noise", "rho", "model", "lambda", "seed"]
    wide = results.pivot_table(
        index=keys, columns="test", values="accuracy", dropna=False, observed=True
    ).dropna(how="all").reset_index()  # fmt: skip
    wide["gap"] = wide[first] - wide[second]
    rows = []
    for at, part in wide.groupby(keys[:-1], sort=False, dropna=False):
        noise, rho, model, strength, _ = _key((*at, ""))
        start = wide[(wide["noise"] == noise) & (wide["rho"] == min(study.rhos))]
        start = start[start["model"] == (BASE if study.name == LATENT else model)]
        if study.name == OBJECTIVES and model == ADVERSARIAL:
            start = start[start["lambda"] == 1.0]
        base = part["seed"].map(start.set_index("seed")[second]).to_numpy(dtype=np.float64)
        lost = base - part[second].to_numpy()
        lost = lost[np.isfinite(lost)]
        known = _paper(study, strength)
        both = [known.get((rho, model, test), np.nan) for test in (first, second)]
        gap = part["gap"].to_numpy(dtype=np.float64)
        rows.append(
            {"noise": noise, "rho": rho, "model": model, "lambda": strength}
            | dict(zip(("gap", "low", "high"), (gap.mean(), *t_interval(gap, level)), strict=True))
            | {"paper": both[0] - both[1]}
            | dict(zip(("lost", "lost_low", "lost_high"),
                       (lost.mean() if lost.size else np.nan, *t_interval(lost, level)),
                       strict=True))
        )  # fmt: skip
    return pd.DataFrame(rows)


def contrast_table(
    results: pd.DataFrame, study: PreferenceStudy, *, level: float = 0.95
) -> pd.DataFrame:
    """Differences between models on the same pairs, paired by seed, with t-intervals.

    Returns
    -------
    DataFrame
        ``noise, rho, test, contrast, difference, low, high, paper``; the adversary's at lambda 1.
    """
    some = results[results["lambda"].isna() | (results["lambda"] == 1.0)]
    rows = []
    for at, part in some.groupby(["noise", "rho", "test"], sort=False):
        noise, rho, _, _, test = _key((at[0], at[1], "", np.nan, at[2]))
        wide = part.pivot_table(index="seed", columns="model", values="accuracy")
        for first, second in CONTRASTS:
            if first not in wide or second not in wide:
                continue
            each = (wide[first] - wide[second]).dropna().to_numpy(dtype=np.float64)
            low, high = t_interval(each, level)
            known = [PAPER[study.name].get((rho, m, test), np.nan) for m in (first, second)]
            rows.append(
                {"noise": noise, "rho": rho, "test": test, "contrast": f"{first} less {second}",
                 "difference": float(each.mean()), "low": low, "high": high,
                 "paper": known[0] - known[1]}
            )  # fmt: skip
    return pd.DataFrame(rows)


def gap_ratio(
    results: pd.DataFrame, tests: tuple[str, str], rho: float, start: float, *, level: float = 0.95
) -> tuple[float, float, float]:
    """How many times larger the gap of "Base" is at one rho than at another, with an interval.

    The ratio of mean gaps; delta method, paired by seed, t.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = [(r, s, t, .7 - (t == "ood") * (.03 + .1 * r + .01 * s))
    ...         for r in (0., .9) for s in range(3) for t in ("id", "ood")]
    >>> table = pd.DataFrame(rows, columns=["rho", "seed", "test", "accuracy"])
    >>> table = table.assign(model="Base")
    >>> [round(x, 2) for x in gap_ratio(table, ("id", "ood"), .9, 0.)]
    [3.25, 1.85, 4.65]
    """
    base = results[results["model"] == BASE]
    wide = base.pivot_table(index=["rho", "seed"], columns="test", values="accuracy")
    gap = wide[tests[0]] - wide[tests[1]]
    by_seed = gap.unstack("rho")[[rho, start]].dropna().to_numpy(dtype=np.float64)
    far, near = by_seed[:, 0], by_seed[:, 1]
    ratio = float(far.mean() / near.mean())
    low, high = t_interval((far - ratio * near) / near.mean(), level)
    return ratio, ratio + low, ratio + high
