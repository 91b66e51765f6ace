"""Does training raise the TRUE value? A tiny GPT on real texts, with an outcome that is known.

``python -m benchmarks.training_value --texts FILE.csv --json FILE --plot FILE.png``

A GPT trained from scratch on the column ``text`` writes the log: it is the logging policy P_R and
the start of every run. The outcome is a known function of the words (``oracle``) plus noise. After
some steps of each objective, fresh texts are drawn and given to the oracle: the true value, which
no objective sees. All of it is done anew for each seed (GPT, log, noise, folds, batches), so that a
gain over the start is tested over seeds, start and end of a run paired.

*SFT on all rows* imitates the log. Its target is the logging policy itself, and it starts there:
its gain is 0 but for the accidents of the log. It is the baseline, and its row in the figures is a
test of equality. The claim that training raises the value concerns the other five objectives:
one-sided t tests of the paired gains over seeds. That ALL raise it is claimed where each does at
5 % (an intersection-union test, which needs no adjustment).

The figures are written after every seed; a run that was stopped goes on with the next one.
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from causal_lm_opt.exceptions import OverlapWarning

WORDS = ("freedom", "democracy", "human rights", "liberty")
BASELINE = "SFT, all rows"
NOTES = {
    "gain": "true value less that of the same seed's start, both of fresh texts by the oracle",
    "se": "the larger of the standard error over seeds and the Monte-Carlo error of the mean gain",
    "after_a_stop": "a run that left its trust region keeps the value it had when it stopped",
    "baseline": "SFT on all rows imitates the log: its target is the logging policy, its gain 0",
}


@dataclass(frozen=True)
class Sizes:
    """Model, log and steps."""

    n_embd: int = 64
    n_layer: int = 2
    vocab: int = 600
    pretrain: int = 30
    logged: int = 3000
    drawn: int = 3000
    batch: int = 64
    steps: int = 60
    points: int = 3
    fresh: int = 1200
    rate: float = 5e-5
    kl: float = 0.02
    noise: float = 0.2
    ess_floor: float = 0.1
    tokens: int = 80


def oracle(texts: list[str]) -> Any:
    """Mean outcome of a text: .2, and .6 more where freedom, say, is named."""
    return np.array([0.2 + 0.6 * any(w in t.lower() for w in WORDS) for t in texts])


def true_value(policy: Any, sizes: Sizes, seed: int, share: float = 1.0) -> tuple[float, float]:
    """Mean outcome of fresh texts, and its Monte-Carlo standard error.

    Every policy of a seed draws with the same random numbers.
    """
    count = max(2, round(share * sizes.fresh))
    found = oracle(list(policy.sample(count, 10_000 + seed, max_new_tokens=sizes.tokens).texts))
    return float(found.mean()), float(found.std(ddof=1) / np.sqrt(count))


def outcome_models(texts: list[str], y: Any, seed: int) -> tuple[Any, Any, list[Any]]:
    """Five cross-fitted regressions on words: predictions of the log, folds, models."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline

    fold = np.random.default_rng(seed).permutation(len(texts)) % 5
    found, models = np.empty(len(texts)), []
    for k in range(5):
        model = make_pipeline(CountVectorizer(min_df=2, ngram_range=(1, 2)), Ridge(5.0))
        model.fit([t for t, f in zip(texts, fold, strict=True) if f != k], y[fold != k])
        found[fold == k] = model.predict([t for t, f in zip(texts, fold, strict=True) if f == k])
        models.append(model)
    return found, fold, models


def objectives(sizes: Sizes) -> dict[str, Any]:
    from causal_lm_opt import lm

    own = {"kl": sizes.kl, "ess_floor": sizes.ess_floor}
    return {
        BASELINE: lm.LikelihoodObjective(),
        "SFT, best half": lm.LikelihoodObjective("high"),
        "CPO": lm.IPWObjective(**own),
        "OO-RLHF": lm.OutcomeRegressionObjective(**own),
        "DR-CPO": lm.DoublyRobustObjective(**own),
        "on-policy": lm.OnPolicyObjective(kl=sizes.kl),
    }


@dataclass(frozen=True)
class Log:
    """What a seed's runs share: the start, the log, the second sample, outcome models."""

    start: Any
    data: dict[str, Any]
    drawn: dict[str, Any]
    models: list[Any]


def make_log(texts: list[str], sizes: Sizes, seed: int) -> Log:
    """A GPT, its texts with noisy outcomes, and more of its texts with predictions."""
    from causal_lm_opt import lm

    start = lm.from_texts(
        texts, vocab_size=sizes.vocab, n_embd=sizes.n_embd, n_layer=sizes.n_layer, n_head=2,
        epochs=sizes.pretrain, random_state=seed,
    )  # fmt: skip
    log = list(start.sample(sizes.logged, 2 * seed, max_new_tokens=sizes.tokens).texts)
    more = list(start.sample(sizes.drawn, 2 * seed + 1, max_new_tokens=sizes.tokens).texts)
    y = oracle(log) + np.random.default_rng(seed).normal(0, sizes.noise, sizes.logged)
    prediction, fold, models = outcome_models(log, y, seed)
    data = {
        "completion": log, "outcome": y.tolist(), "prediction": prediction.tolist(),
        "fold": fold.tolist(),
    }  # fmt: skip
    by_fold = np.array([m.predict(more) for m in models]).T
    return Log(start, data, {"completion": more, "prediction": by_fold.tolist()}, models)


# -------------------------------------------------------------------------------- one run
def watch_of(sizes: Sizes, seed: int, told: list[tuple[int, float, float]]) -> Any:
    """A callback that tells the true value now and then, and where training stops."""
    import transformers

    every = max(1, sizes.steps // sizes.points)

    class Watch(transformers.TrainerCallback):  # type: ignore[misc]
        trainer: Any = None

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            ends = state.global_step == sizes.steps or control.should_training_stop
            if ends or state.global_step % every == 0:
                share = 1.0 if ends else 0.25  # on the way a quarter of the texts will do
                found = true_value(self.trainer.policy, sizes, seed, share)
                told.append((state.global_step, *found))

    return Watch()


def train(objective: Any, log: Log, sizes: Sizes, seed: int) -> dict[str, Any]:
    """True value by steps, and what the run told of itself."""
    from causal_lm_opt import lm

    on_policy = isinstance(objective, lm.OnPolicyObjective)
    told: list[tuple[int, float, float]] = []

    def reward(texts: list[str], prompts: Any) -> list[float]:
        # A regression on words knows no bounds; a policy would look for texts beyond them.
        return list(np.clip(np.mean([m.predict(texts) for m in log.models], axis=0), 0.0, 1.0))

    watch = watch_of(sizes, seed, told)
    with tempfile.TemporaryDirectory() as folder:
        args = lm.CausalPreferenceConfig(
            folder, per_device_train_batch_size=sizes.batch, max_steps=sizes.steps,
            learning_rate=sizes.rate, report_to="none", disable_tqdm=True, save_strategy="no",
            use_cpu=True, dataloader_pin_memory=False, round_size=4 * sizes.batch,
            max_new_tokens=sizes.tokens, seed=seed,
        )  # fmt: skip
        trainer = lm.CausalPreferenceTrainer(
            copy.deepcopy(log.start.model), objective, args, None if on_policy else log.data,
            None if on_policy else log.drawn, processing_class=log.start.tokenizer,
            reward=reward if on_policy else None, callbacks=[watch],
        )  # fmt: skip
        watch.trainer = trainer
        begin, busy = time.perf_counter(), time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OverlapWarning)  # the reason to stop is in the figures
            trainer.train()
        seconds, processor = time.perf_counter() - begin, time.process_time() - busy
        last = [line for line in trainer.state.log_history if "ess" in line][-1]
    return {
        "steps": told, "seconds": seconds, "processor_seconds": processor,
        "stopped": trainer.stopped_because,
        "last": {k: last[k] for k in ("value", "ess", "sd_log_ratio", "kl")},
    }  # fmt: skip


def run(texts: list[str], sizes: Sizes, seed: int) -> dict[str, Any]:
    """Every objective from the same start on the same log."""
    log = make_log(texts, sizes, seed)
    before = true_value(log.start, sizes, seed)
    logged = float(oracle(log.data["completion"]).mean())
    print(f"seed {seed}: start {before[0]:.3f}, logged texts {logged:.3f}", flush=True)
    found = {}
    for name, objective in objectives(sizes).items():
        found[name] = train(objective, log, sizes, seed)
        step, value, se = found[name]["steps"][-1]
        print(
            f"  {name:15} {value:.3f} ({se:.3f}) after {step} steps, "
            f"{found[name]['seconds']:.0f} s; ess {found[name]['last']['ess']:.2f}, "
            f"told {found[name]['last']['value']:.3f}{'; stopped' * bool(found[name]['stopped'])}",
            flush=True,
        )
    return {
        "seed": seed, "start": {"value": before[0], "se": before[1]}, "logged_mean": logged,
        "objectives": found,
    }  # fmt: skip


# -------------------------------------------------------------------------------- all seeds
def gain_at(one: dict[str, Any], name: str, step: int) -> tuple[float, float]:
    """Gain over the start after some steps, or where training had stopped, and its MC error."""
    if step == 0:
        return 0.0, 0.0
    told = one["objectives"][name]["steps"]
    _, value, se = next((t for t in told if t[0] >= step), told[-1])
    return value - one["start"]["value"], float(np.hypot(se, one["start"]["se"]))


def mean_gain(seeds: list[dict[str, Any]], name: str, step: int) -> dict[str, Any]:
    """Mean gain over seeds; its standard error is the larger of that and the Monte-Carlo one."""
    gains, errors = np.array([gain_at(one, name, step) for one in seeds]).T
    over_seeds = float(gains.std(ddof=1) / np.sqrt(len(gains)))
    monte_carlo = float(np.sqrt(np.sum(errors**2)) / len(gains))
    return {
        "step": step, "gains": gains.tolist(), "mean": float(gains.mean()),
        "se": max(over_seeds, monte_carlo), "se_over_seeds": over_seeds,
        "se_monte_carlo": monte_carlo,
    }  # fmt: skip


def summarise(seeds: list[dict[str, Any]], sizes: Sizes) -> dict[str, Any]:
    """Mean gains by steps, their 95 % intervals, and the tests of both claims."""
    from scipy import stats

    every = max(1, sizes.steps // sizes.points)
    names = list(seeds[0]["objectives"])
    table: dict[str, Any] = {}
    t = float(stats.t.ppf(0.975, len(seeds) - 1))
    for name in names:
        path = [mean_gain(seeds, name, step) for step in range(0, sizes.steps + 1, every)]
        end = path[-1]
        table[name] = end | {
            "interval_95": [end["mean"] - t * end["se"], end["mean"] + t * end["se"]],
            "stopped": sum(bool(one["objectives"][name]["stopped"]) for one in seeds),
            "path": [{k: point[k] for k in ("step", "mean", "se")} for point in path],
        }
    others = [name for name in names if name != BASELINE]
    for name in others:
        mean, se = table[name]["mean"], table[name]["se"]
        table[name]["p"] = float(stats.t.sf(mean / se, len(seeds) - 1)) if se else 1.0
    low, high = table[BASELINE]["interval_95"]
    return {
        "objectives": table,
        "claims": {
            "every objective but the baseline raises the true value": all(
                table[name]["p"] < 0.05 for name in others
            ),
            "the baseline's gain is 0 within its error": low <= 0.0 <= high,
        },
    }


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--texts", type=Path, required=True, help="CSV with a column 'text'")
    parser.add_argument("--seeds", type=int, default=3, help="at least 2")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--plot", type=Path)
    for name, default in asdict(Sizes()).items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    given = vars(parser.parse_args(argv))
    if given["seeds"] < 2:
        parser.error(f"--seeds must be at least 2: gains are tested over them; {given['seeds']}.")
    sizes = Sizes(**{name: given[name] for name in asdict(Sizes())})
    with open(given["texts"], encoding="utf-8", newline="") as handle:
        texts = sorted({row["text"] for row in csv.DictReader(handle)})
    file: Path = given["json"]
    file.parent.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {"sizes": asdict(sizes), "texts": len(texts), "notes": NOTES}
    kept = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    same = all(kept.get(key) == found[key] for key in ("sizes", "texts"))
    seeds = kept.get("seeds", [])[: given["seeds"]] if same else []
    for seed in range(len(seeds), given["seeds"]):
        seeds.append(run(texts, sizes, seed))
        file.write_text(json.dumps(found | {"seeds": seeds}, indent=1) + "\n", encoding="utf-8")
    found |= summarise(seeds, sizes) | {"seeds": seeds}
    file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found["claims"], indent=1))
    if given["plot"]:
        from benchmarks.training_value_plot import plot

        plot(json.loads(file.read_text(encoding="utf-8")), given["plot"])


if __name__ == "__main__":
    main()
