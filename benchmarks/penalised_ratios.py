"""Do intervals of V(f) - V(f0) hold where few clusters make a penalised ratio of words?

``python -m benchmarks.penalised_ratios --out FILE.json --runs 100``

Texts are words dealt independently by the logging policy and, tilted towards words that readers
like, by f; outcomes are additive in the words, with an effect of each prompt and noise. Prompts
are the clusters of log and draws. The default ratio reads the words with a penalty, as few
clusters bear no more, and :class:`~causal_lm_opt.IPW` is bootstrapped. Its difference from the
logging policy's mean is looked at as it is reported, without the allowance for the penalty's bias,
and as if the two were independent; beside it the doubly robust one.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

#: Words, length of a text, prompts, rows, tilt.
WORLDS = {
    "100 words, 40 prompts": (100, 6, 40, 800, 0.7),
    "40 words, 60 prompts": (40, 5, 60, 600, 0.5),
    "100 words, 120 prompts": (100, 6, 120, 1200, 1.0),
}
RESAMPLES = 100


def laws(words: int, tilt: float) -> tuple[Any, Any, Any]:
    """Effects of the words, and their probabilities under the logging policy and f."""
    effect = 0.6 * np.random.default_rng(1).normal(size=words)
    logged = np.random.default_rng(2).dirichlet(np.full(words, 3.0))
    target = logged * np.exp(tilt * effect)
    return effect, logged, target / target.sum()


def truth(world: tuple[int, int, int, int, float]) -> float:
    """V(f) - V(f0)."""
    words, length, _, _, tilt = world
    effect, logged, target = laws(words, tilt)
    return float(length * (target - logged) @ effect)


def one_run(world: tuple[int, int, int, int, float], seed: int) -> list[dict[str, Any]]:
    """Errors and intervals of one log."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline

    from causal_lm_opt import IPW, DensityRatio, DoublyRobust
    from causal_lm_opt.core.inference import bias_aware_half_width
    from causal_lm_opt.estimators import TargetSample

    words, length, prompts, rows, tilt = world
    effect, p_logged, p_target = laws(words, tilt)
    rng = np.random.default_rng([18, seed])
    groups = np.repeat(np.arange(prompts), rows // prompts)
    names = np.array([f"w{i}" for i in range(words)])
    logged, drawn = (rng.choice(words, (groups.size, length), p=p) for p in (p_logged, p_target))
    y = effect[logged].sum(axis=1) + rng.normal(size=prompts)[groups] + rng.normal(size=groups.size)
    X, texts = ([" ".join(row) for row in names[at]] for at in (logged, drawn))
    data = {"X": X, "y": y, "groups": groups}
    mean = IPW().fit(**data).result_
    draws = TargetSample(texts, groups=groups)
    hajek = IPW(ratio=DensityRatio(), n_bootstrap=RESAMPLES).fit(**data, X_target=draws).result_
    model = make_pipeline(CountVectorizer(), RidgeCV(np.logspace(-1, 4, 11)))
    robust = DoublyRobust(model, ratio=DensityRatio()).fit(**data, X_target=draws).result_
    apart = hajek - mean
    right = truth(world)
    alone = float(np.hypot(hajek.se, mean.se))
    halves = {
        "Hajek": _half(apart),
        "Hajek, no allowance": _half(replace(apart, bias_bound=np.zeros(1))),
        "Hajek, as if independent": bias_aware_half_width(
            alone, level=0.95, dof=float(apart.dof()[0]), bias=0.0
        ),
        "DR": _half(robust - mean),
    }
    off = dict.fromkeys(halves, apart.value - right) | {"DR": (robust - mean).value - right}
    return [
        {"seed": seed, "estimator": name, "error": float(off[name]), "half width": float(half),
         "covered": bool(abs(off[name]) <= half)}
        for name, half in halves.items()
    ]  # fmt: skip


def _half(estimate: Any) -> float:
    low, high = np.ravel(estimate.confint())
    return float(high - low) / 2.0


def main(argv: Sequence[str] | None = None) -> None:
    """Runs, and their summary as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=100)
    given = parser.parse_args(argv)
    summary = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # verdicts say it
        for name, world in WORLDS.items():
            made = [row for seed in range(given.runs) for row in one_run(world, seed)]
            summary[name] = {"truth": truth(world)} | {
                str(kind): {
                    "runs": len(part), "bias": part["error"].mean(), "sd": part["error"].std(),
                    "mean half width": part["half width"].mean(),
                    "covered": float(part["covered"].mean()),
                }
                for kind, part in pd.DataFrame(made).groupby("estimator", sort=False)
            }  # fmt: skip
    text = json.dumps(summary, indent=1) + "\n"
    given.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
