"""Does training raise the TRUE value? A tiny GPT on real texts, with an outcome that is known.

``python -m benchmarks.training_value --texts FILE.csv --json FILE --plot FILE.png``

A GPT trained from scratch on the column ``text`` writes the log: it is the logging policy and the
start of every run. The outcome is a known function of the words (``oracle``) plus noise. After some
steps of each objective, fresh texts are drawn and given to the oracle: the true value, which no
objective sees.
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
    steps: int = 120
    points: int = 4
    fresh: int = 400
    rate: float = 3e-5
    kl: float = 0.02
    noise: float = 0.2
    ess_floor: float = 0.1
    seed: int = 0


def oracle(texts: list[str]) -> Any:
    """Mean outcome of a text: .2, and .6 more where freedom, say, is named."""
    return np.array([0.2 + 0.6 * any(w in t.lower() for w in WORDS) for t in texts])


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
        "SFT, all rows": lm.LikelihoodObjective(),
        "SFT, best half": lm.LikelihoodObjective("high"),
        "CPO": lm.IPWObjective(**own),
        "OO-RLHF": lm.OutcomeRegressionObjective(**own),
        "DR-CPO": lm.DoublyRobustObjective(**own),
        "on-policy": lm.OnPolicyObjective(kl=sizes.kl),
    }


def train(
    name: str, objective: Any, start: Any, data: dict[str, Any], drawn: dict[str, Any],
    models: list[Any], sizes: Sizes,
) -> dict[str, Any]:  # fmt: skip
    """True value by steps, and what the run told of itself."""
    import transformers

    from causal_lm_opt import lm

    on_policy = name == "on-policy"
    every = max(1, sizes.steps // sizes.points)
    told: list[tuple[int, float]] = []

    class Watch(transformers.TrainerCallback):  # type: ignore[misc]
        trainer: Any = None

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step % every == 0 or control.should_training_stop:
                fresh = self.trainer.policy.sample(sizes.fresh, 99, max_new_tokens=80)
                told.append((state.global_step, float(oracle(list(fresh.texts)).mean())))

    def reward(texts: list[str], prompts: Any) -> list[float]:
        # A regression on words knows no bounds; a policy would look for texts beyond them.
        return list(np.clip(np.mean([m.predict(texts) for m in models], axis=0), 0.0, 1.0))

    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        args = lm.CausalPreferenceConfig(
            folder, per_device_train_batch_size=sizes.batch, max_steps=sizes.steps,
            learning_rate=sizes.rate, report_to="none", disable_tqdm=True, save_strategy="no",
            use_cpu=True, dataloader_pin_memory=False, round_size=4 * sizes.batch,
            max_new_tokens=80, seed=sizes.seed,
        )  # fmt: skip
        trainer = lm.CausalPreferenceTrainer(
            copy.deepcopy(start.model), objective, args, None if on_policy else data,
            None if on_policy else drawn, processing_class=start.tokenizer,
            reward=reward if on_policy else None, callbacks=[watch],
        )  # fmt: skip
        watch.trainer = trainer
        begin = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OverlapWarning)  # the reason to stop is in the figures
            trainer.train()
        last = [line for line in trainer.state.log_history if "ess" in line][-1]
    return {
        "steps": told, "seconds": time.perf_counter() - begin, "stopped": trainer.stopped_because,
        "last": {k: last[k] for k in ("value", "ess", "sd_log_ratio", "kl")},
    }  # fmt: skip


def run(texts: list[str], sizes: Sizes) -> dict[str, Any]:
    """Every objective from the same start on the same log."""
    from causal_lm_opt import lm

    start = lm.from_texts(
        texts, vocab_size=sizes.vocab, n_embd=sizes.n_embd, n_layer=sizes.n_layer, n_head=2,
        epochs=sizes.pretrain, random_state=sizes.seed,
    )  # fmt: skip
    log = start.sample(sizes.logged, sizes.seed, max_new_tokens=80)
    more = start.sample(sizes.drawn, sizes.seed + 1, max_new_tokens=80)
    rng = np.random.default_rng(sizes.seed)
    y = oracle(list(log.texts)) + rng.normal(0, sizes.noise, sizes.logged)
    prediction, fold, models = outcome_models(list(log.texts), y, sizes.seed)
    data = {
        "completion": list(log.texts), "outcome": y.tolist(), "prediction": prediction.tolist(),
        "fold": fold.tolist(),
    }  # fmt: skip
    by_fold = np.array([m.predict(list(more.texts)) for m in models]).T
    drawn = {"completion": list(more.texts), "prediction": by_fold.tolist()}
    before = float(oracle(list(start.sample(sizes.fresh, 99, max_new_tokens=80).texts)).mean())
    print(f"start: true value {before:.3f}", flush=True)
    found = {}
    for name, objective in objectives(sizes).items():
        found[name] = train(name, objective, start, data, drawn, models, sizes)
        last = found[name]["steps"][-1]
        print(
            f"{name:15} {last[1]:.3f} after {last[0]} steps, {found[name]['seconds']:.0f} s; "
            f"ess {found[name]['last']['ess']:.2f}, told {found[name]['last']['value']:.3f}"
            f"{'; stopped' if found[name]['stopped'] else ''}",
            flush=True,
        )
    se = float(np.sqrt(before * (1 - before) / sizes.fresh))
    return {"sizes": asdict(sizes), "start": before, "se": se, "objectives": found}


def plot(found: dict[str, Any], file: Path) -> None:
    """True value by steps, a line an objective."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.6), layout="constrained")
    ends = []
    for name, result in found["objectives"].items():
        points = [(0, found["start"]), *result["steps"]]
        (line,) = axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name)
        said = f"{name} (floor of the effective sample size)" if result["stopped"] else name
        ends.append((points[-1][1], points[-1][0], said, line.get_color()))
    lowest = -1.0
    for value, step, said, colour in sorted(ends):
        lowest = max(value, lowest + 0.014)  # labels apart
        axes.text(step + 0.02 * found["sizes"]["steps"], lowest, said, color=colour, va="center")
    axes.axhline(found["start"], color="0.6", linewidth=0.8)
    axes.set_xlabel("Optimiser steps")
    axes.set_ylabel("True value of the policy (fresh texts, oracle)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlim(0, found["sizes"]["steps"] * 1.25)
    figure.savefig(file, dpi=150)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--texts", type=Path, required=True, help="CSV with a column 'text'")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    for name, default in asdict(Sizes()).items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    given = vars(parser.parse_args(argv))
    with open(given["texts"], encoding="utf-8", newline="") as handle:
        texts = sorted({row["text"] for row in csv.DictReader(handle)})
    found = run(texts, Sizes(**{name: given[name] for name in asdict(Sizes())}))
    if given["json"]:
        given["json"].write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if given["plot"]:
        plot(found, given["plot"])


if __name__ == "__main__":
    main()
