"""Open question: how the weights of a trained policy vary as its model grows.

Short appeals (about 25 word tokens, so that a tiny GPT and a large model write texts of about as
many steps), one start for each size, which imitates the design; then as many CPO steps for all,
from the known design's log-probabilities. After every few steps, on fresh texts of the design:
sd of log f/f0 and log f/P_R, effective sample sizes; on fresh draws of f: KL(f || f0), true value.
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

#: Layers of each width; one head for 16 numbers of width.
LAYERS = {16: 2, 32: 2, 64: 2, 128: 3, 256: 4}
RATE, ADAPTER_RATE, START_RATE = 3e-4, 5e-4, 3e-3


@dataclass(frozen=True)
class Plan:
    """How much of everything: the same for all sizes but what a large model cannot afford.

    Attributes
    ----------
    logged : int
        Rows of a log.
    """

    start_texts: int = 2000
    epochs: int = 10
    logged: int = 640
    steps: int = 42
    batch: int = 16
    every: int = 7
    fresh: int = 400
    drawn: int = 400


LARGE = Plan(start_texts=192, epochs=1, steps=14, fresh=64, drawn=48)
Unit = tuple[str, Callable[[], dict[str, Any]]]


def units(
    out: Path, seeds: range, large: Path | None, widths: list[int], plan: Plan | None = None
) -> Iterator[Unit]:
    from causal_lm_opt.lm.confounding_study import appeals_world

    world, plan = appeals_world(), plan or Plan()
    for width in widths:
        for seed in seeds:
            home = out / "starts" / f"width-{width}"
            yield f"{width}|{seed}", partial(of_width, world, width, plan, home, seed)
    if large is not None:
        home = out / "starts" / "large"
        for seed in seeds:
            yield f"large|{seed}", partial(of_large, world, large, home, seed)


def of_width(world: Any, width: int, plan: Plan, home: Path, seed: int) -> dict[str, Any]:
    start = tiny_start(world, width, plan, home)
    return one(world, start, plan, str(width), seed, RATE, None)


def of_large(world: Any, source: Path, home: Path, seed: int) -> dict[str, Any]:
    start = large_start(world, source, LARGE, home)
    return one(world, start, LARGE, "large", seed, ADAPTER_RATE, adapter())


# ------------------------------------------------------------------------------ starts
def start_texts(world: Any, count: int) -> list[str]:
    return [str(t) for t in world.world.design.sample(count, random_state=0)]


def tiny_start(world: Any, width: int, plan: Plan, folder: Path) -> Any:
    """A GPT of a width that imitates the design: made once, then read."""
    from causal_lm_opt import lm

    if not (folder / "config.json").is_file():
        made = lm.from_texts(
            start_texts(world, plan.start_texts), vocab_size=500, n_layer=LAYERS[width],
            n_embd=width, n_head=max(1, width // 16), epochs=plan.epochs,
            learning_rate=START_RATE,
        )  # fmt: skip
        keep_policy(made, folder)
    return lm.LanguageModelPolicy(folder, progress=False)


def adapter() -> Any:
    """LoRA on every projection."""
    import peft

    return peft.LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")


def large_start(world: Any, source: Path, plan: Plan, folder: Path) -> Any:
    """The large model after an epoch of imitating texts of the design, its adapter merged."""
    from causal_lm_opt import lm
    from causal_lm_opt.lm.objectives import LikelihoodObjective

    if not (folder / "config.json").is_file():
        policy = lm.LanguageModelPolicy(source, progress=False)
        texts = start_texts(world, plan.start_texts)
        data = {"completion": texts, "outcome": [0.0] * len(texts)}
        with tempfile.TemporaryDirectory() as scratch:
            steps = plan.epochs * len(texts) // plan.batch
            trainer = trainer_of(
                policy, LikelihoodObjective(), data, scratch, steps, plan.batch, 0, ADAPTER_RATE,
                adapter(), None, steps,
            )  # fmt: skip
            trainer.train()
        merged = trainer.policy.model.merge_and_unload().eval()
        keep_policy(lm.LanguageModelPolicy(merged, policy.tokenizer), folder)
    return lm.LanguageModelPolicy(folder, progress=False)


def keep_policy(policy: Any, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = folder.with_name(folder.name + ".partial")
    policy.save(beside)
    beside.replace(folder)


# ------------------------------------------------------------------------------ training
def trainer_of(
    policy: Any, objective: Any, data: Any, folder: str, steps: int, batch: int, seed: int,
    rate: float, peft_config: Any, evaluator: Any, every: int,
) -> Any:  # fmt: skip
    from causal_lm_opt.lm._optimizer_steps import quiet
    from causal_lm_opt.lm.trainer import CausalPreferenceConfig, CausalPreferenceTrainer

    config = CausalPreferenceConfig(
        folder, max_steps=steps, per_device_train_batch_size=batch, learning_rate=rate, seed=seed,
        lr_scheduler_type="constant", report_to="none", save_strategy="no", disable_tqdm=True,
        eval_strategy="no" if evaluator is None else "steps", eval_steps=every,
        dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = CausalPreferenceTrainer(
        copy.deepcopy(policy.model), objective, config, data, processing_class=policy.tokenizer,
        evaluator=evaluator, peft_config=peft_config,
    )  # fmt: skip
    quiet(trainer)
    return trainer


def one(
    world: Any, start: Any, plan: Plan, size: str, seed: int, rate: float, peft_config: Any
) -> dict[str, Any]:
    """Train on the log of a seed; figures by step, the start's own as those of step 0."""
    from causal_lm_opt.lm.confounding import RIGHT, Scenario
    from causal_lm_opt.lm.objectives import IPWObjective

    texts, y = world.log(plan.logged, seed)
    logp = world.logp(texts, Scenario(RIGHT))
    data = {"completion": texts, "outcome": y.tolist(), "logp_logging": logp.tolist()}
    look = Look(world, start, plan, seed)
    lines = [look(start, 0)]
    with tempfile.TemporaryDirectory() as scratch:
        trainer = trainer_of(
            start, IPWObjective(ess_floor=0.0), data, scratch, plan.steps, plan.batch, seed, rate,
            peft_config, lambda policy, step: keep_line(lines, look(policy, step)), plan.every,
        )  # fmt: skip
        trainer.train()
    return {
        "size": size, "seed": seed, "tokens": look.tokens, "trained": count(trainer.policy.model),
        "parameters": sum(p.numel() for p in start.model.parameters()),
        "path": json.dumps(lines),
    }  # fmt: skip


def keep_line(lines: list[dict[str, float]], line: dict[str, float]) -> dict[str, float]:
    lines.append(line)
    return {}


def count(model: Any) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


class Look:
    """Figures of a policy on fresh texts of the design, and on its own draws."""

    def __init__(self, world: Any, start: Any, plan: Plan, seed: int) -> None:
        self.world, self.start, self.plan, self.seed = world, start, plan, seed
        rng = np.random.default_rng([seed, 31])
        self.texts = [str(t) for t in world.world.design.sample(plan.fresh, random_state=rng)]
        self.design = np.asarray(world.world.design.log_prob(self.texts))
        self.before = start.log_prob(self.texts)
        rows = [ids for _, ids in start.encode(self.texts)]
        self.tokens = float(np.mean([len(ids) for ids in rows]))
        self.limit = int(1.25 * max(map(len, rows))) + 8

    def __call__(self, policy: Any, step: int) -> dict[str, float]:
        now = policy.log_prob(self.texts)
        rng = np.random.default_rng([self.seed, 32, step])
        drawn = policy.sample(self.plan.drawn, rng, max_new_tokens=self.limit)
        ratio = np.asarray(drawn.log_prob) - self.start.log_prob_ids(drawn.token_ids)
        g = self.world.world.mean_outcome(list(drawn.texts))
        return {
            "step": step, "sd": float((now - self.before).std()), "ess": share(now - self.before),
            "sd_design": float((now - self.design).std()), "ess_design": share(now - self.design),
            "surprise": -float(now.mean()), "kl": float(ratio.mean()), "value": float(g.mean()),
            "value_se": float(g.std(ddof=1) / np.sqrt(g.size)),
        }  # fmt: skip


def share(log_ratio: Any) -> float:
    """Effective sample size as a share of the rows."""
    w = np.exp(np.asarray(log_ratio) - np.max(log_ratio))
    return float(w.sum() ** 2 / (w**2).sum() / w.size)
