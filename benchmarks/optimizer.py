"""Is the optimiser's report honest? Many short runs in worlds whose truth is known.

``python -m benchmarks.optimizer --data FOLDER --out FOLDER --runs 200``

Texts and randomisation are those of the Hong Kong experiment, the outcome a known function of the
arms plus noise; a tiny GPT that imitates the design is where every run starts. Worlds:

*null*: no text is better than another. How often does ``safe=True`` accept a policy?
*right*: effects of arms; the outcome model is right.
*negated*: the same effects; the outcome model has the wrong sign.
*words*: the latent is not known: 20 topics of the words in its place, and a regression on them.
*hidden*: the arm that matters most is missing from the features. Do the diagnostics say so?

For every run policies are also valued in ways that should fail: on the select rows that chose them
(one fold for both), on the training rows, which choose the checkpoint as well (one fold for all),
and on the report rows by ratios of whole texts' probabilities. Each run is a line of
``runs.jsonl``; a run that is there is not made again.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import LinearRegression

WORLDS = ("null", "right", "negated", "words", "hidden")
HIDDEN = "evil"
#: Fixed before any result was seen.
EFFECTS = {
    "brave": 6.0, "evil": 8.0, "flag": -4.0, "threat": 5.0, "economy": -3.0, "treatycommit": 2.0,
    "treatyviolation": 0.0,
}  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """A short run."""

    rows: int = 1983
    steps: int = 56
    batch_size: int = 64
    round_size: int = 448
    learning_rate: float = 1e-3
    eval_every: int = 14
    n_draws: int = 400
    fresh: int = 1500


class ArmModel(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Linear regression on the arms, or its mirror image about the mean."""

    def __init__(self, features: Any, negated: bool = False) -> None:
        self.features = features
        self.negated = negated

    def fit(self, X: Any, y: Any) -> ArmModel:
        """Least squares."""
        self.mean_ = float(np.mean(y))
        self.model_ = LinearRegression().fit(np.asarray(self.features(X)), y)
        return self

    def predict(self, X: Any) -> Any:
        """Predictions (m,)."""
        found = self.model_.predict(np.asarray(self.features(X)))
        return 2 * self.mean_ - found if self.negated else found

    def __sklearn_clone__(self) -> ArmModel:
        return ArmModel(self.features, self.negated)


def make_world(data: Path, effects: bool) -> Any:
    from causal_lm_opt.datasets import load_hong_kong
    from causal_lm_opt.simulation import PieceWorld

    return PieceWorld(
        load_hong_kong(data).design, EFFECTS if effects else {}, base=50.0, scale=20.0
    )


def start_of(world: Any, folder: Path) -> Any:
    """The tiny GPT that every run starts from, made once."""
    from causal_lm_opt import lm

    if not (folder / "config.json").is_file():
        made = lm.from_texts(
            list(world.design.sample(3000, random_state=0)), vocab_size=1500, phrases=True,
            n_layer=2, n_embd=64, n_head=2, epochs=25, learning_rate=4e-3,
        )  # fmt: skip
        made.save(folder)
    return lm.LanguageModelPolicy(folder, progress=False)


def one_run(world: Any, name: str, start: Any, seed: int, sizes: Sizes, start_value: float) -> Any:
    """A log, a fit, and the truth."""
    from causal_lm_opt.lm import optimizer
    from causal_lm_opt.lm._heldout import NAMES, draw_for
    from causal_lm_opt.lm._optimizer_rows import read_rows, split

    rng = np.random.default_rng([WORLDS.index(name), seed])
    texts = list(world.design.sample(sizes.rows, random_state=rng))
    y, logp = world.outcomes(texts, rng), world.design.log_prob(texts)
    features: Any = Remembered(world.features)
    model: Any = ArmModel(features, name == "negated")
    if name == "hidden":
        features = Remembered(lambda some: world.features(some).drop(columns=HIDDEN))
        model = ArmModel(features)
    if name == "words":
        features, model = None, None
    begin = time.process_time()
    run = optimizer.CausalLMOptimizer(
        start, features=features, outcome_model=model,
        fine_tune_epochs=0, steps=sizes.steps, batch_size=sizes.batch_size,
        round_size=sizes.round_size, round_passes=1, learning_rate=sizes.learning_rate,
        eval_every=sizes.eval_every, n_draws=sizes.n_draws, random_state=seed, progress=False,
        ratio="latent", safe=False,
    )  # fmt: skip
    parts = split(read_rows(texts, y, None, logp, None), run.split, seed)
    heard = overheard(parts.train, world.mean_outcome)
    with mock.patch.object(optimizer, "HeldOut", heard):
        run.fit(texts, y, logp_logging=logp)
    seconds, result = time.process_time() - begin, run.result_
    fresh = run.policy_.sample(sizes.fresh, [7, seed], max_new_tokens=60)
    truth = float(world.mean_outcome(fresh.texts).mean())
    table = result.to_frame().set_index("what")
    found = {
        "world": name, "seed": seed, "seconds": seconds, "step": result.step, "truth": truth,
        "truth_start": start_value, "verdict": result.verdict.level,
        "sufficiency_fails": any("sufficiency fails" in r for r in result.verdict.reasons),
        "response_p": 1.0 if run.response_ is None else run.response_.p_value,
        "accepted": bool(
            result.step and result.verdict.level != "do not use"
            and table.loc["difference", "lower"] > 0
        ),
    }  # fmt: skip
    for what in ("trained", "difference"):
        found |= {
            f"{what}_{k}": float(table.loc[what, k]) for k in ("value", "se", "lower", "upper")
        }
    found |= max(heard.told, key=lambda x: float(x["one_fold_all_score"]))
    if not result.step:
        return found
    found["gain_estimated"] = float(table.loc["difference", "value"])
    chosen = run.history_.set_index("step").loc[result.step]
    found |= {
        "one_fold_value": chosen["value"], "one_fold_lower": chosen["lower"],
        "one_fold_upper": chosen["upper"], "one_fold_difference_lower": chosen["difference_lower"],
        "one_fold_difference_upper": chosen["difference_upper"], "ess": chosen["ess"],
    }  # fmt: skip
    report = parts.report
    draws = {
        n: draw_for(p, report, sizes.n_draws, (seed, 5, i), 60)
        for i, (n, p) in enumerate(zip(NAMES, (run.policy_, start), strict=True))
    }
    return found | sequence_interval(run, report, draws, start)


def overheard(train: Any, mean_outcome: Any) -> Any:
    """A HeldOut that tells what each checkpoint would be worth by the rows that trained it."""
    from causal_lm_opt.exceptions import OverlapError
    from causal_lm_opt.lm._heldout import HeldOut

    class Overheard(HeldOut):
        told: list[dict[str, float]] = []

        def chosen(self, draws: Any, logp: Any) -> Any:
            line = {"one_fold_all_truth": float(mean_outcome(draws["trained"].read).mean())}
            line["one_fold_all_truth_start"] = float(mean_outcome(draws["start"].read).mean())
            line["one_fold_all_score"] = -np.inf
            try:
                naive = replace(self, rows=train).value(draws, None, "latent")
            except OverlapError:
                pass
            else:
                gain = naive["trained"] - naive["start"]
                for name, one in (("value", naive["trained"]), ("difference", gain)):
                    low, high = one.confint()
                    line |= {f"one_fold_all_{name}": float(one.value),
                             f"one_fold_all_{name}_lower": float(low),
                             f"one_fold_all_{name}_upper": float(high)}  # fmt: skip
                if gain.verdicts[0].level != "do not use":
                    line["one_fold_all_score"] = line["one_fold_all_difference_lower"]
            self.told.append(line)
            return super().chosen(draws, logp)

    return Overheard


def sequence_interval(run: Any, report: Any, draws: Any, start: Any) -> dict[str, Any]:
    """The trained policy's value by ratios of whole texts, on the same report rows."""
    from causal_lm_opt.lm._features import TextFeatures
    from causal_lm_opt.lm._heldout import HeldOut

    held = HeldOut(report, TextFeatures(run.features, report.read), run.predict_outcome, "sequence")
    logp = {"trained": run.policy_.log_prob(report.texts), "start": start.log_prob(report.texts)}
    found = held.value(draws, logp, "sequence")["trained"]
    low, high = found.confint()
    return {"sequence_lower": float(low), "sequence_upper": float(high),
            "sequence_ess": found.diagnostics[0]["ess_share"],
            "sequence_verdict": found.verdicts[0].level}  # fmt: skip


class Remembered:
    """Features of texts that are asked for again and again."""

    def __init__(self, features: Any) -> None:
        self.features, self.known = features, {}

    def __call__(self, texts: Any) -> pd.DataFrame:
        """Features (n, p)."""
        listed = [str(t) for t in texts]
        new = [t for t in dict.fromkeys(listed) if t not in self.known]
        if new:
            made = self.features(new)
            self.columns = made.columns
            self.known |= dict(zip(new, made.to_numpy(), strict=True))
        return pd.DataFrame([self.known[t] for t in listed], columns=self.columns)

    def __deepcopy__(self, memo: Any) -> Remembered:
        return self


# ------------------------------------------------------------------------------ the figures
def share(hits: Sequence[bool] | Any) -> dict[str, float]:
    """A share with its Wilson interval."""
    hits = np.asarray(hits, dtype=bool)
    if not hits.size:
        return {"runs": 0}
    low, high = stats.binomtest(int(hits.sum()), hits.size).proportion_ci(method="wilson")
    return {"share": float(hits.mean()), "low": float(low), "high": float(high), "runs": hits.size}


def covered(table: pd.DataFrame, name: str, truth: Any) -> pd.Series:
    return (table[f"{name}_lower"] <= truth) & (truth <= table[f"{name}_upper"])


def summary(table: pd.DataFrame, sd: float) -> dict[str, Any]:
    """What was claimed, per world."""
    found: dict[str, Any] = {}
    for name, runs in table.groupby("world"):
        moved = runs[runs["step"] > 0]
        gain = runs["truth"] - runs["truth_start"]
        tested = moved[moved["verdict"] != "do not use"]
        told = runs[runs["response_p"].notna()]  # older runs did not ask
        naive = told[np.isfinite(told["one_fold_all_score"])]
        found[str(name)] = {
            "do not use": share(runs["verdict"] == "do not use"),
            "latent sufficiency refuted": share(told["sufficiency_fails"]),
            "no checkpoint chosen": share(runs["step"] == 0),
            "report rows cover V(f), where used": share(
                covered(tested, "trained", tested["truth"])
            ),
            "report rows cover V(f) - V(f0), where used": share(
                covered(tested, "difference", tested["truth"] - tested["truth_start"])
            ),
            "safe accepts": share(runs["accepted"]),
            "one fold covers V(f)": share(covered(moved, "one_fold", moved["truth"])),
            "one fold covers V(f) - V(f0)": share(
                covered(moved, "one_fold_difference", moved["truth"] - moved["truth_start"])
            ),
            "one fold accepts": share(
                np.append(moved["one_fold_difference_lower"] > 0, np.zeros(len(runs) - len(moved)))
            ),
            "training rows cover V(f)": share(
                covered(naive, "one_fold_all_value", naive["one_fold_all_truth"])
            ),
            "training rows cover V(f) - V(f0)": share(
                covered(naive, "one_fold_all_difference",
                        naive["one_fold_all_truth"] - naive["one_fold_all_truth_start"])
            ),
            "training rows accept": share(
                np.append(naive["one_fold_all_score"] > 0, np.zeros(len(told) - len(naive)))
            ),
            "sequence weights cover V(f)": share(covered(moved, "sequence", moved["truth"])),
            "sequence weights 'do not use'": share(moved["sequence_verdict"] == "do not use"),
            "gain, mean": float(gain.mean()), "gain, se": float(gain.sem()),
            "gain in sd of g": float(gain.mean() / sd) if sd else None,
            "seconds of processor, median": float(runs["seconds"].median()),
        }  # fmt: skip
    return found


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the Hong Kong files")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--worlds", nargs="+", default=list(WORLDS), choices=WORLDS)
    parser.add_argument("--first-seed", type=int, default=0)
    for name, default in asdict(Sizes()).items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    given = parser.parse_args(argv)
    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    sizes = Sizes(**{name: getattr(given, name) for name in asdict(Sizes())})
    given.out.mkdir(parents=True, exist_ok=True)
    log = given.out / "runs.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    done = {(r["world"], r["seed"]) for r in map(json.loads, lines)}
    worlds = {name: make_world(given.data, name != "null") for name in WORLDS}
    start = start_of(worlds["right"], given.out / "start")
    sure = start.sample(20_000, 99, max_new_tokens=60).texts
    truths = {name: float(w.mean_outcome(sure).mean()) for name, w in worlds.items()}
    for seed in range(given.first_seed, given.first_seed + given.runs):
        for name in given.worlds:
            if (name, seed) in done:
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # verdicts say it
                found = one_run(worlds[name], name, start, seed, sizes, truths[name])
            with open(log, "a", encoding="utf-8") as handle:
                handle.write(json.dumps(found, default=float) + "\n")
            print(
                {k: v if isinstance(v, str) else round(v, 2) for k, v in found.items()}, flush=True
            )
    summarise(given.out, worlds["right"].sd, sizes)


def summarise(folder: Path, sd: float, sizes: Sizes) -> None:
    """Write ``summary.json`` of all lines that are there."""
    lines = (folder / "runs.jsonl").read_text(encoding="utf-8").splitlines()
    table = pd.DataFrame([json.loads(line) for line in lines])
    found = {"sizes": asdict(sizes), "effects": EFFECTS, "sd of g": sd}
    found["worlds"] = summary(table, sd)
    text = json.dumps(found, indent=1) + "\n"
    (folder / "summary.json").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
