r"""Which objective survives a confounded outcome model? Language models in worlds of known truth.

[Lin24] judged policies by a language model's preferences; here every policy has a true value. The
scenarios, with h the right outcome model's fit and m the mean outcome of the training rows:

*right*: predictions are h. *confounded*, strength b: m + (1 - b) (h - m), as where a confounder
works against the effect of the text: of strength 1 they say nothing, of strength 2 the opposite of
the truth. *wrong design*: the log-probabilities of the log are those of a design that it was not
dealt by. *both wrong*: the last two together.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from causal_lm_opt.datasets.pieces import PiecePolicy
from causal_lm_opt.exceptions import OverlapError
from causal_lm_opt.lm._features import TextFeatures
from causal_lm_opt.lm._heldout import HeldOut, draw_for
from causal_lm_opt.lm._optimizer_rows import Parts, read_rows, split
from causal_lm_opt.lm.optimizer import CausalLMOptimizer
from causal_lm_opt.lm.policy import LanguageModelPolicy
from causal_lm_opt.lm.training import from_texts
from causal_lm_opt.simulation.confounded_model import ConfoundedModel
from causal_lm_opt.simulation.piece_world import PieceWorld

__all__ = [
    "CONFOUNDED",
    "OBJECTIVE_OF",
    "RIGHT",
    "WRONG_BOTH",
    "WRONG_DESIGN",
    "LMWorld",
    "Scenario",
    "Training",
    "make_start",
    "run_one",
]

FloatArray = npt.NDArray[np.float64]
RIGHT, CONFOUNDED = "right", "confounded"
WRONG_DESIGN, WRONG_BOTH = "wrong design", "both wrong"
#: Objectives of the papers by the optimiser's names; "ft" is the fine-tuned start itself.
OBJECTIVE_OF: Mapping[str, str] = {
    "cpo": "ipw", "oo": "or", "dr": "dr", "targeted": "targeted",
}  # fmt: skip


@dataclass(frozen=True)
class Scenario:
    """What is wrong.

    Attributes
    ----------
    name : {"right", "confounded", "wrong design", "both wrong"}
    strength : float
        Of the outcome model's confounding.
    """

    name: str
    strength: float = 0.0

    @property
    def wrong_design(self) -> bool:
        """Whether the log's log-probabilities are another design's."""
        return self.name in (WRONG_DESIGN, WRONG_BOTH)


@dataclass(frozen=True)
class Training:
    """How policies are trained and valued: the same for every objective.

    Attributes
    ----------
    rows : int
        Of a log.
    steps, batch_size, round_size, eval_every, n_draws, tilt
        As :class:`CausalLMOptimizer` has them.
    fresh : int
        Texts by which the true value of a policy is taken.
    start_texts, start_epochs : int
        The start: a tiny GPT that imitates the design.
    """

    rows: int = 1983
    steps: int = 70
    batch_size: int = 64
    round_size: int = 448
    eval_every: int = 14
    n_draws: int = 400
    tilt: float | None = 8.0
    fresh: int = 1500
    start_texts: int = 3000
    start_epochs: int = 25


@dataclass(frozen=True, eq=False)
class LMWorld:
    """A world, and the design that the log is claimed to come from where that is wrong.

    Attributes
    ----------
    name : str
    world : PieceWorld
    claimed : PiecePolicy
        Stands for the logging policy in the scenarios of a wrong design.
    learning_rate : float
        Of all objectives.
    """

    name: str
    world: PieceWorld
    claimed: PiecePolicy
    learning_rate: float = 1e-3

    @cached_property
    def features(self) -> _Remembered:
        """What outcomes respond to, of any texts."""
        return _Remembered(self.world.features)

    def log(self, rows: int, seed: int) -> tuple[list[str], FloatArray]:
        """Texts and outcomes of a seed, the same for every scenario and objective."""
        rng = np.random.default_rng([77, seed])
        texts = [str(t) for t in self.world.design.sample(rows, random_state=rng)]
        return texts, self.world.outcomes(texts, rng)

    def logp(self, texts: list[str], scenario: Scenario) -> FloatArray:
        """Log-probabilities of the log, as they are told."""
        policy = self.claimed if scenario.wrong_design else self.world.design
        return np.asarray(policy.log_prob(texts), dtype=np.float64)

    def identity(self) -> dict[str, Any]:
        """What decides the world's figures."""
        world = self.world
        effects = {str(k): v for k, v in world.effects.items()}
        facts = {name: getattr(world, name) for name in ("base", "scale", "words")}
        return {
            "name": self.name, "effects": effects, **facts, "learning_rate": self.learning_rate,
            "policies": [_table(p) for p in (world.design, self.claimed)],
        }  # fmt: skip


def _table(policy: PiecePolicy) -> dict[str, Any]:
    return {
        "wordings": {k: list(v) for k, v in policy.wordings.items()},
        "wording_prob": {k: list(v) for k, v in policy.wording_prob.items()},
        "sequences": [list(s) for s in policy.sequences],
        "sequence_prob": [float(p) for p in policy.sequence_prob],
    }


@dataclass(eq=False)
class _Remembered:
    """Features of texts that are asked for again and again."""

    features: Any
    known: dict[str, Any] = field(default_factory=dict)

    def __call__(self, texts: Any) -> Any:
        listed = [str(t) for t in texts]
        new = [t for t in dict.fromkeys(listed) if t not in self.known]
        if new:
            made = self.features(new)
            self.columns = made.columns
            self.known |= dict(zip(new, made.to_numpy(), strict=True))
        return pd.DataFrame([self.known[t] for t in listed], columns=self.columns)

    def __deepcopy__(self, memo: Any) -> _Remembered:
        return self


def make_start(world: LMWorld, training: Training, folder: Path) -> LanguageModelPolicy:
    """The tiny GPT that every run starts from: made once, then read from ``folder``."""
    if not (folder / "config.json").is_file():
        texts = world.world.design.sample(training.start_texts, random_state=0)
        made = from_texts(
            [str(t) for t in texts], vocab_size=1500, phrases=True, n_layer=2, n_embd=64, n_head=2,
            epochs=training.start_epochs, learning_rate=4e-3,
        )  # fmt: skip
        beside = folder.with_name(folder.name + ".partial")
        made.save(beside)
        beside.replace(folder)
    return LanguageModelPolicy(folder, progress=False)


# ------------------------------------------------------------------------------ one run
def run_one(
    world: LMWorld, start: LanguageModelPolicy, training: Training, scenario: Scenario,
    objective: str, seed: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """Train by one objective on the log of a seed, and take the policy's true value.

    The policy is that of the last step; the checkpoint which the select rows would have chosen is
    told beside it. Value, interval and effective sample size are the report rows'.

    Returns
    -------
    list of dict
        One row; after that of ``"targeted"`` where nothing is wrong, the start's (``"ft"``).
    """
    texts, y = world.log(training.rows, seed)
    logp, oracle = world.logp(texts, scenario), world.world.mean_outcome
    run = CausalLMOptimizer(
        start, objective=OBJECTIVE_OF[objective], features=world.features,
        outcome_model=ConfoundedModel(world.features, scenario.strength),
        fine_tune_epochs=0, steps=training.steps, batch_size=training.batch_size,
        round_size=training.round_size, round_passes=1, learning_rate=world.learning_rate,
        eval_every=training.eval_every, n_draws=training.n_draws, tilt=training.tilt,
        random_state=seed, progress=False, ratio="latent", safe=False, choose="last",
        monitor={"truth": lambda some: float(np.mean(oracle(some)))},
    )  # fmt: skip
    parts = split(read_rows(texts, y, None, logp, None), run.split, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the verdicts say it
        run.fit(texts, y, logp_logging=logp)
        claim = _training_claim(run, parts, objective, training.n_draws)
    trained = run.trained_
    assert trained is not None
    head = {"world": world.name, "scenario": scenario.name, "strength": scenario.strength,
            "seed": seed}  # fmt: skip
    rows = [
        head | {"objective": objective} | _true(world, trained, run, training, 1)
        | _told(run.result_, "trained") | _chosen(run.history_) | claim
    ]  # fmt: skip
    if objective == "targeted" and scenario.name == RIGHT:
        rows.append(head | {"objective": "ft"} | _true(world, start, run, training, 2)
                    | _told(run.result_, "start"))  # fmt: skip
    return rows


def _true(
    world: LMWorld, policy: LanguageModelPolicy, run: CausalLMOptimizer, training: Training, at: int
) -> dict[str, Any]:
    """Mean of the oracle over fresh draws, its standard error, and how often it has each value."""
    rng = np.random.default_rng([run.random_state, 9, at])
    draws = policy.sample(training.fresh, rng, max_new_tokens=run.max_new_tokens_)
    g = world.world.mean_outcome(draws.texts)
    se = float(np.std(g, ddof=1) / np.sqrt(g.size))
    counts = zip(*np.unique(g.round(6), return_counts=True), strict=True)
    found = " ".join(f"{value:g}:{count}" for value, count in counts)
    return {"true_value": float(np.mean(g)), "true_se": se, "oracle": found}


def _told(result: Any, which: str) -> dict[str, Any]:
    """Report rows' value, interval, effective sample size and verdict."""
    if which == "trained" and not result.step:  # the report rows could not value it
        return {"verdict": "do not use"}
    estimate = getattr(result, which)
    low, high = estimate.confint(result.level)
    ess = estimate.diagnostics[0].get("ess_share") if estimate.diagnostics else None
    return {
        "heldout_value": float(estimate.value), "heldout_lo": float(low), "heldout_hi": float(high),
        "ess": None if ess is None else float(ess), "verdict": estimate.verdicts[0].level,
    }  # fmt: skip


def _chosen(history: Any) -> dict[str, Any]:
    """The checkpoint of the largest lower limit on the select rows, and the last one."""
    if history.empty:  # stopped before the first evaluation
        return {}
    found: dict[str, Any] = {"steps": int(history["step"].iloc[-1])}
    found["path"] = " ".join(f"{v:.4g}" for v in history["truth"])
    eligible = history[history["chosen_by"].notna()]
    if len(eligible):
        best = eligible.loc[eligible["chosen_by"].idxmax()]
        found |= {"chosen_step": int(best["step"]), "chosen_true_value": float(best["truth"])}
    return found


def _training_claim(
    run: CausalLMOptimizer, parts: Parts, objective: str, n_draws: int
) -> dict[str, float]:
    """What the objective's own estimate on the rows it was trained on says of the policy.

    Ratios of whole texts for CPO and DR-CPO, odds on the features for the targeted objective; the
    outcome model's mean for OO-RLHF, which has no interval.
    """
    if objective == "oo":
        return {"train_value": float(run.result_.model_based)}
    train, policy = parts.train, run.trained_
    assert policy is not None
    kind = "latent" if objective == "targeted" else "sequence"
    predict = run.nuisances_.predict
    if objective == "cpo":
        predict = _nothing
    held = HeldOut(train, TextFeatures(run.features, train.read), predict, kind)
    drawn = draw_for(policy, train, n_draws, (run.random_state, 8), run.max_new_tokens_)
    logp = None
    if kind == "sequence":
        logp = {"trained": policy.log_prob(train.texts)}
    try:
        found = held.value({"trained": drawn}, logp, kind)["trained"]
    except OverlapError:
        return {}
    low, high = found.confint()
    return {"train_value": float(found.value), "train_lo": float(low), "train_hi": float(high)}


def _nothing(read: list[str]) -> FloatArray:
    """No outcome model: the doubly robust value is then that of the weights alone."""
    return np.zeros(len(read))
