"""Four questions that the papers leave open, asked where the truth is known.

    python -m benchmarks.open_questions --question f0 --data FOLDER --seeds 5 --out DIR

*f0*: which start serves DR-CPO and OO-RLHF best: pre-trained on other texts, fine-tuned on the
log's training rows, or fine-tuned on these rows and as many texts of its own (a mixture)?
*unseen-arms*: two arms never meet in the log, and the best text has both. *three-classes*: readers
dislike, shrug or like; is the utility modelled directly, or by way of the classes' chances?
*model-size*: how much do weights vary as models grow (benchmarks/open_questions_sizes.py)?

Logs, training and truth are those of the study of confounded outcome models
(`causal-lm-opt simulate lm-confounding`); policies are those of the last step. Each unit is a line
of ``QUESTION.jsonl``; one that is there is not made again. ``--tables`` writes the tables alone.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import open_questions_sizes as sizes
from benchmarks import open_questions_worlds as worlds
from benchmarks.open_questions_tables import write_tables

QUESTIONS = ("f0", "unseen-arms", "three-classes", "model-size")
STARTS = ("pre-trained", "fine-tuned", "mixture")
EPOCHS = 5  # of fine-tuning
LOGS = 40  # of the values of one fixed policy, for each seed
LOGGED, DRAWN = 500, 2000
#: A fixed target of three-classes: log odds of arms.
TARGET = {"brave": 1.0, "threat": 0.7, "flag": -0.7}
Unit = tuple[str, Callable[[], dict[str, Any]]]


def run_of(world: Any, start: Any, training: Any, objective: str, seed: int, model: Any) -> Any:
    """Train on the log of a seed, as the study of confounded outcome models does."""
    from causal_lm_opt.lm.confounding import OBJECTIVE_OF
    from causal_lm_opt.lm.optimizer import CausalLMOptimizer
    from causal_lm_opt.simulation.confounded_model import ConfoundedModel

    texts, y = world.log(training.rows, seed)
    truth = world.world.mean_outcome
    run = CausalLMOptimizer(
        start, objective=OBJECTIVE_OF[objective], features=world.features,
        outcome_model=ConfoundedModel(world.features) if model is None else model,
        fine_tune_epochs=0, steps=training.steps, batch_size=training.batch_size,
        round_size=training.round_size, round_passes=1, learning_rate=world.learning_rate,
        eval_every=training.eval_every, n_draws=training.n_draws, tilt=training.tilt,
        random_state=seed, progress=False, ratio="latent", safe=False, choose="last",
        monitor={"truth": lambda some: float(np.mean(truth(some)))},
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the verdicts say it
        run.fit(texts, y, logp_logging=world.world.design.log_prob(texts))
    return run


def fresh_texts(run: Any, policy: Any, count: int, at: int) -> list[str]:
    """Draws of a policy: the same ones each time, made once a run."""
    known = run.__dict__.setdefault("_fresh", {})
    if at not in known:
        rng = np.random.default_rng([run.random_state, 9, at])
        known[at] = list(policy.sample(count, rng, max_new_tokens=run.max_new_tokens_).texts)
    return list(known[at])


def told(run: Any, world: Any, start: Any, training: Any) -> dict[str, Any]:
    """Truth of both policies, and what the report rows say of them."""
    from causal_lm_opt.lm.confounding import _chosen, _told

    found: dict[str, Any] = {}
    for name, policy, at in (("", run.trained_, 1), ("start_", start, 2)):
        g = world.world.mean_outcome(fresh_texts(run, policy, training.fresh, at))
        found |= {f"{name}true_value": float(g.mean()),
                  f"{name}true_se": float(g.std(ddof=1) / np.sqrt(g.size))}  # fmt: skip
    result = run.result_
    found |= _told(result, "trained")
    found |= {f"start_{k}": v for k, v in _told(result, "start").items()}
    if result.step:
        low, high = result.difference.confint()
        found |= {"gain_lo": float(low), "gain_hi": float(high),
                  "why": " ".join(result.trained.verdicts[0].reasons)}  # fmt: skip
    return found | _chosen(run.history_)


# ------------------------------------------------------------------------------ f0
def f0_units(data: Path, out: Path, seeds: range, training: Any) -> Iterator[Unit]:
    world = worlds.plain_world(data)
    home = out / "starts" / "broad"
    for seed in seeds:
        for name in STARTS:
            for objective in ("dr", "oo"):
                yield (
                    f"{name}|{objective}|{seed}",
                    partial(f0_one, world, home, training, name, objective, seed),
                )


def f0_one(
    world: Any, home: Path, training: Any, name: str, objective: str, seed: int
) -> dict[str, Any]:
    start = f0_start(world, home, training, name, seed)
    run = run_of(world, start, training, objective, seed, None)
    from causal_lm_opt.lm._optimizer_rows import read_rows, split

    texts, y = world.log(training.rows, seed)
    report = split(read_rows(texts, y, None, None, None), run.split, seed).report
    off = start.log_prob(report.texts) - world.world.design.log_prob(report.texts)
    drawn = fresh_texts(run, start, training.fresh, 2)
    arms = world.features(drawn).to_numpy().sum(axis=1)
    head = {"start": name, "objective": objective, "seed": seed, "best": world.world.best_value,
            "sd_log_start_over_design": float(off.std()), "ess_start": share(off),
            "start_off_topic": float((arms == 0).mean())}  # fmt: skip
    return head | told(run, world, start, training)


def f0_start(world: Any, home: Path, training: Any, name: str, seed: int) -> Any:
    """The start of a seed; report and select rows have no part in it."""
    from causal_lm_opt.lm._optimizer_rows import read_rows, split

    before = worlds.pretrained(world, training, home)
    if name == "pre-trained":
        return before
    kept = home.parent / f"{name}-{seed}"
    if not (kept / "config.json").is_file():
        texts, y = world.log(training.rows, seed)
        logged = list(split(read_rows(texts, y, None, None, None), (0.5, 0.2, 0.3), seed)
                      .train.texts)  # fmt: skip
        if name == "mixture":
            logged += list(before.sample(len(logged), np.random.default_rng([seed, 3])).texts)
        with tempfile.TemporaryDirectory() as folder:
            worlds.fine_tuned(before, logged, EPOCHS, seed, Path(folder)).save(kept)
    from causal_lm_opt.lm import LanguageModelPolicy

    return LanguageModelPolicy(kept, progress=False)


def share(log_ratio: Any) -> float:
    """Effective sample size as a share of the rows."""
    w = np.exp(np.asarray(log_ratio) - np.max(log_ratio))
    return float(w.sum() ** 2 / (w**2).sum() / w.size)


# ------------------------------------------------------------------------------ unseen arms
def unseen_units(data: Path, out: Path, seeds: range, training: Any) -> Iterator[Unit]:
    for apart in (True, False):
        world = worlds.pair_world(data, apart)
        home = out / "starts" / world.name
        home.parent.mkdir(parents=True, exist_ok=True)
        best = worlds.pair_world(data, False).world.best_value
        for seed in seeds:
            for objective in ("cpo", "dr", "oo", "targeted"):
                yield (
                    f"{world.name}|{objective}|{seed}",
                    partial(unseen_one, training, world, home, objective, seed, best),
                )


def unseen_one(
    training: Any, world: Any, home: Path, objective: str, seed: int, best: float
) -> dict[str, Any]:
    from causal_lm_opt.lm.confounding import make_start

    start = make_start(world, training, home)
    run = run_of(world, start, training, objective, seed, None)
    head = {"log": world.name, "objective": objective, "seed": seed, "best": best,
            "best_of_log": world.world.best_value}  # fmt: skip
    for name, policy, at in (("both", run.trained_, 1), ("start_both", start, 2)):
        met = worlds.both(world.features(fresh_texts(run, policy, training.fresh, at)))
        head[name] = float(met.mean())
    row = head | told(run, world, start, training) | levels(run, world, training)
    if world.name == "apart":  # the same log, the same policy, another truth
        for name in ("", "start_"):
            row[f"{name}backfire_value"] = (
                row[f"{name}true_value"] + worlds.BACKFIRE * row[f"{name}both"]
            )
    return row


def levels(run: Any, world: Any, training: Any) -> dict[str, Any]:
    """What the report rows' values and verdicts would be by several kinds of weights."""
    from causal_lm_opt.exceptions import OverlapError
    from causal_lm_opt.lm._features import TextFeatures
    from causal_lm_opt.lm._heldout import HeldOut, draw_for
    from causal_lm_opt.lm._optimizer_rows import read_rows, split

    texts, y = world.log(training.rows, run.random_state)
    logp = np.asarray(world.world.design.log_prob(texts))
    parts = split(read_rows(texts, y, None, logp, None), run.split, run.random_state)
    with_pair = lambda some: world.features(some).assign(  # noqa: E731
        both=lambda t: worlds.both(t)
    )
    policy, report = run.trained_, parts.report
    found: dict[str, Any] = {}
    drawn = draw_for(policy, report, training.n_draws, (run.random_state, 0, 2, 0),
                     run.max_new_tokens_, world.world.design)  # fmt: skip
    found["unseen"] = float(np.mean(~np.isfinite(np.asarray(drawn.logp_logging))))
    for name, features, kind in (
        ("latent", world.features, "latent"), ("cells", world.features, "cells"),
        ("product", with_pair, "latent"), ("sequence", world.features, "sequence"),
    ):  # fmt: skip
        held = HeldOut(report, TextFeatures(features, parts.train.read), run.nuisances_.predict,
                       kind)  # fmt: skip
        own = {"trained": policy.log_prob(report.texts)} if kind == "sequence" else None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the verdicts say it
                one = held.value({"trained": drawn}, own, kind)
        except OverlapError as error:
            found |= {f"{name}_level": "do not use", f"{name}_why": str(error)}
            continue
        low, high = np.ravel(one.confint())
        found |= {f"{name}_level": one.verdicts[0].level, f"{name}_lo": float(low),
                  f"{name}_hi": float(high),
                  f"{name}_why": " ".join(one.verdicts[0].reasons)}  # fmt: skip
    return found


# ------------------------------------------------------------------------------ three classes
def class_units(data: Path, out: Path, seeds: range, training: Any) -> Iterator[Unit]:
    made = {u: worlds.class_world(data, u) for u in worlds.UTILITIES}
    home = out / "starts" / "design"
    home.parent.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        for utility, world in made.items():
            for log in range(LOGS):
                yield f"value|{utility}|{seed}|{log}", partial(value_one, world, utility, seed, log)
            for objective in ("dr", "oo") if utility == "averse" else ():
                for model in ("direct", "classes"):
                    yield (
                        f"train|{utility}|{objective}|{model}|{seed}",
                        partial(class_one, training, world, home, utility, objective, model, seed),
                    )


def value_one(world: Any, utility: str, seed: int, log: int) -> dict[str, Any]:
    """Value of a fixed policy from one log, its arms known: directly, and by the classes."""
    from sklearn.linear_model import LogisticRegression, Ridge

    from causal_lm_opt import DoublyRobust

    truth, design = world.world, world.world.design
    target = design.tilt(TARGET)
    rng = np.random.default_rng([seed, log, 5])
    texts = [str(t) for t in design.sample(LOGGED, random_state=rng)]
    worth = truth.outcomes(texts, rng)
    drawn = [str(t) for t in target.sample(DRAWN, random_state=rng)]
    X, X_target = world.features(texts).to_numpy(), world.features(drawn).to_numpy()
    given = {"logp_target": target.log_prob(texts), "logp_logging": design.log_prob(texts),
             "X_target": X_target}  # fmt: skip
    answer = np.searchsorted(np.array(truth.utility), worth) - 1  # -1, 0, 1
    table = dict(zip((-1, 0, 1), truth.utility, strict=True))
    fits = {
        "direct": DoublyRobust(outcome_model=Ridge(1.0)).fit(X, worth, **given),
        "classes": DoublyRobust(
            outcome_model=LogisticRegression(max_iter=1000), utility=table
        ).fit(X, answer, **given),
    }  # fmt: skip
    found: dict[str, Any] = {"utility": utility, "seed": seed, "log": log,
                             "true_value": truth.value(target)}  # fmt: skip
    for name, fit in fits.items():
        low, high = fit.result_.confint()
        found |= {f"{name}_value": float(fit.value_), f"{name}_se": float(fit.se_),
                  f"{name}_lo": float(low), f"{name}_hi": float(high),
                  f"{name}_plug_in": float(np.mean(fit.predict(X_target)))}  # fmt: skip
    return found


def class_one(
    training: Any, world: Any, home: Path, utility: str, objective: str, model: str, seed: int
) -> dict[str, Any]:
    from causal_lm_opt.lm.confounding import make_start

    start = make_start(world, training, home)
    outcome_model = worlds.MeanUtility(world.features) if model == "classes" else None
    run = run_of(world, start, training, objective, seed, outcome_model)
    arms = world.features(fresh_texts(run, run.trained_, training.fresh, 1)).mean()
    head = {"utility": utility, "objective": objective, "model": model, "seed": seed,
            "best": world.world.best_value, "polarising": float(arms["evil"])}  # fmt: skip
    return head | told(run, world, start, training)


# ------------------------------------------------------------------------------ the command
def units_of(given: argparse.Namespace, training: Any) -> Iterator[Unit]:
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    if given.question == "model-size":
        return sizes.units(given.out, seeds, given.large, given.widths)
    made = {"f0": f0_units, "unseen-arms": unseen_units, "three-classes": class_units}
    return made[given.question](given.data, given.out, seeds, training)


def keep(file: Path, units: Iterator[Unit], limit: int | None = None) -> None:
    """Make every unit that the file does not hold, and append it."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    done = {json.loads(line)["unit"] for line in lines}
    for name, make in units:
        if name in done:
            continue
        if limit is not None:
            if limit <= 0:
                return
            limit -= 1
        begin = time.process_time()
        row: dict[str, Any] = {"unit": name} | make()
        row["seconds"] = time.process_time() - begin
        with open(file, "a", encoding="utf-8") as handle:
            handle.write(json.dumps(row, default=float) + "\n")
        told = [f"{k} {v:.3g}" for k, v in row.items() if isinstance(v, float)]
        print(name, *told[:8], told[-1], flush=True)


def main(argv: list[str] | None = None, training: Any = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--question", required=True, choices=QUESTIONS)
    parser.add_argument("--data", type=Path, help="folder of the Hong Kong files")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=20)
    parser.add_argument("--widths", type=int, nargs="*", default=list(sizes.LAYERS))
    parser.add_argument("--large", type=Path, help="folder of a large model, for model-size")
    parser.add_argument("--units", type=int, help="stop after so many")
    parser.add_argument("--tables", action="store_true", help="write tables only")
    given = parser.parse_args(argv)
    if given.question != "model-size" and given.data is None and not given.tables:
        parser.error("--data is needed for this question")
    import torch
    from transformers.utils import logging as transformers_logging

    from causal_lm_opt.lm.confounding import Training

    torch.set_num_threads(1)
    said: Any = transformers_logging
    said.set_verbosity_error()
    said.disable_progress_bar()
    given.out.mkdir(parents=True, exist_ok=True)
    file = given.out / f"{given.question}.jsonl"
    if not given.tables:
        plain = replace(Training(eval_every=35, fresh=1000), **(training or {}))
        keep(file, units_of(given, plain), given.units)
    print(write_tables(file, given.question, given.out))


if __name__ == "__main__":
    main()
