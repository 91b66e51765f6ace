"""The study of objectives under a confounded outcome model: all runs, kept as they finish."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import transformers

from causal_lm_opt._version import __version__
from causal_lm_opt.datasets import load_hong_kong
from causal_lm_opt.datasets.pieces import PiecePolicy
from causal_lm_opt.lm import (
    _heldout,
    _left_out,
    _optimizer_rows,
    _optimizer_steps,
    _targeted,
    confounding,
    gradient_variance,
    objectives,
    optimizer,
)
from causal_lm_opt.lm._features import TextFeatures
from causal_lm_opt.lm._optimizer_rows import read_rows, split
from causal_lm_opt.lm._optimizer_steps import most_tokens, nuisances_of
from causal_lm_opt.lm.confounding import (
    CONFOUNDED,
    RIGHT,
    WRONG_BOTH,
    WRONG_DESIGN,
    LMWorld,
    Scenario,
    Training,
    make_start,
    run_one,
)
from causal_lm_opt.lm.gradient_variance import dr_gradient, gradient_spread, ipw_gradient
from causal_lm_opt.lm.policy import LanguageModelPolicy
from causal_lm_opt.simulation import confounded_model
from causal_lm_opt.simulation._blocks import Cell, run_cells
from causal_lm_opt.simulation._claim import claim
from causal_lm_opt.simulation.appeals import text_world
from causal_lm_opt.simulation.confounded_model import ConfoundedModel
from causal_lm_opt.simulation.piece_world import PieceWorld

__all__ = [
    "ConfoundingStudy",
    "Run",
    "appeals_world",
    "confounding_facts",
    "hong_kong_world",
    "run_confounding_study",
]

#: Modules whose source decides the figures.
DECIDING = (
    _heldout, _left_out, _optimizer_rows, _optimizer_steps, _targeted, confounded_model,
    confounding, gradient_variance, objectives, optimizer,
)  # fmt: skip
SHORT = 28  # steps of the runs whose spread is compared
#: Points on a scale of 0 to 100. Effects and claimed designs were fixed before the first result;
#: noise, steps and learning rates after pilot runs of other seeds (see benchmarks/results/studies).
ARM_EFFECTS: Mapping[str, float] = {
    "brave": 6.0, "evil": 8.0, "flag": -4.0, "threat": 5.0, "economy": -3.0, "treatycommit": 2.0,
    "treatyviolation": 0.0,
}  # fmt: skip
LEVEL_EFFECTS: Mapping[str, float] = {
    "friendly": 4.0, "urgent": -3.0, "reservoir": 6.0, "others": 3.0, "forceful": 2.0,
    "pledge": 5.0,
}  # fmt: skip
NOISE = 5.0
CLAIMED = 0.7  # log odds by which a claimed design turns to every arm that raises the outcome


def hong_kong_world(folder: str | Path) -> LMWorld:
    """Texts and design of the Hong Kong experiment, the outcome a known function of its arms.

    Parameters
    ----------
    folder : path
        With the experiment's files: see :func:`causal_lm_opt.datasets.load_hong_kong`.
    """
    return _world("hong-kong", load_hong_kong(folder).design, ARM_EFFECTS, 4, 1e-3)


def appeals_world() -> LMWorld:
    """Short appeals to save water, of :func:`causal_lm_opt.simulation.text_world`.

    Their levels add up; a text speaks of a level where it has two words in a row that only this
    level's wordings have.
    """
    return _world("appeals", text_world().logging, LEVEL_EFFECTS, 2, 3e-3)


def _world(
    name: str, design: PiecePolicy, effects: Mapping[str, float], words: int, learning_rate: float
) -> LMWorld:
    better = {arm: CLAIMED for arm, effect in effects.items() if effect > 0}
    world = PieceWorld(design, effects, base=50.0, scale=NOISE, words=words)
    return LMWorld(name, world, design.tilt(better), learning_rate)


@dataclass(frozen=True)
class Run:
    """One policy to be trained.

    Attributes
    ----------
    world, objective : str
    scenario : Scenario
    seed : int
    short : bool
        Of the runs whose spread is compared.
    """

    world: str
    scenario: Scenario
    seed: int
    objective: str
    short: bool = False

    @property
    def name(self) -> str:
        """Readable and unique in a study."""
        kind = "short" if self.short else f"{self.scenario.name} {self.scenario.strength:g}"
        return f"{self.world} {kind} seed {self.seed} {self.objective}"


@dataclass(frozen=True)
class ConfoundingStudy:
    """Settings: everything that decides the figures but the worlds.

    Attributes
    ----------
    seeds, first_seed : int
    strengths : tuple of float
        Of confounding; above 1 predictions go against the truth, at 2 they are of the wrong sign.
    spread : int
        Short runs of CPO and DR-CPO each, and logs whose gradients are compared; in the first
        world.
    training : Training
    """

    seeds: int = 10
    first_seed: int = 0
    strengths: tuple[float, ...] = (1.5, 2.0)
    spread: int = 40
    training: Training = field(default_factory=Training)

    @classmethod
    def quick(cls, seeds: int = 2, first_seed: int = 0) -> ConfoundingStudy:
        """40 steps, two seeds: shows that all runs, not what is true."""
        training = Training(
            rows=1000, steps=40, round_size=256, eval_every=20, n_draws=200, fresh=400,
            start_texts=2000, start_epochs=15,
        )  # fmt: skip
        return cls(seeds, first_seed, (2.0,), 0, training)

    def _each(self) -> list[tuple[Scenario, str]]:
        """Scenarios and objectives of one log."""
        confounded = [Scenario(CONFOUNDED, b) for b in self.strengths]
        return [
            *((Scenario(RIGHT), o) for o in ("cpo", "oo", "dr", "targeted")),
            *((s, o) for s in confounded for o in ("oo", "dr", "targeted")),
            *((Scenario(WRONG_DESIGN), o) for o in ("cpo", "dr")),
            (Scenario(WRONG_BOTH, 2.0), "dr"),
        ]

    def runs(self, worlds: Sequence[LMWorld]) -> list[Run]:
        """Every run, seed by seed, so that a stopped study has whole seeds.

        What a scenario does not touch is not run again: CPO knows no outcome model; OO-RLHF and the
        targeted objective know no log-probabilities.
        """
        found = []
        for seed in range(self.first_seed, self.first_seed + self.seeds):
            for world in worlds:
                found += [Run(world.name, s, seed, o) for s, o in self._each()]
        for seed in range(1000 + self.first_seed, 1000 + self.first_seed + self.spread):
            found += [Run(worlds[0].name, Scenario(RIGHT), seed, o, True) for o in ("cpo", "dr")]
        return found


@dataclass(frozen=True, eq=False)
class _One:
    """A run as a cell of one replication."""

    world: LMWorld
    training: Training
    run: Run
    start: Path

    def __call__(self, replication: int) -> list[dict[str, Any]]:
        training = replace(self.training, steps=SHORT) if self.run.short else self.training
        with _OneThread():
            start = LanguageModelPolicy(self.start, progress=False)
            rows = run_one(
                self.world, start, training, self.run.scenario, self.run.objective, self.run.seed
            )
        return [row | {"short": self.run.short} for row in rows]


@dataclass(frozen=True, eq=False)
class _Gradients:
    """Gradients of CPO and DR-CPO at the start, over logs."""

    world: LMWorld
    training: Training
    seeds: range
    start: Path

    def __call__(self, replication: int) -> list[dict[str, Any]]:
        with _OneThread():
            start = LanguageModelPolicy(self.start, progress=False)
            pairs = [_gradients(self.world, start, self.training, seed) for seed in self.seeds]
        spread = [gradient_spread(np.stack(some)) for some in zip(*pairs, strict=True)]
        return [
            {"seed": seed, "cpo": float(cpo), "dr": float(dr)}
            for seed, cpo, dr in zip(self.seeds, *spread, strict=True)
        ]


class _OneThread:
    """One thread, so that any number of workers gives the same bytes; transformers' bars off."""

    def __enter__(self) -> None:
        said: Any = transformers.utils.logging
        self.before, self.level = torch.get_num_threads(), said.get_verbosity()
        self.bars = said.is_progress_bar_enabled()
        torch.set_num_threads(1)
        said.disable_progress_bar()
        said.set_verbosity_error()

    def __exit__(self, *_: Any) -> None:
        said: Any = transformers.utils.logging
        torch.set_num_threads(self.before)
        said.set_verbosity(self.level)
        if self.bars:
            said.enable_progress_bar()


def _gradients(
    world: LMWorld, start: LanguageModelPolicy, training: Training, seed: int
) -> tuple[Any, Any]:
    """Both gradients on the training rows of one log."""
    texts, y = world.log(training.rows, seed)
    logp = world.logp(texts, Scenario(RIGHT))
    train = split(read_rows(texts, y, None, logp, None), (0.5, 0.2, 0.3), seed).train
    features = TextFeatures(world.features, train.read, prompted=train.prompts is not None)
    model = nuisances_of(train, ConfoundedModel(world.features), features, 5, seed)
    assert train.logp_logging is not None
    log_ratio = start.log_prob(train.texts) - train.logp_logging
    rng = np.random.default_rng([seed, 11])
    drawn = start.sample(len(train), rng, max_new_tokens=most_tokens(start, train)).texts
    residual = train.outcome - model.predicted
    return (
        ipw_gradient(start, train.texts, log_ratio, train.outcome),
        dr_gradient(start, train.texts, log_ratio, residual, drawn, model.predict(list(drawn))),
    )


def run_confounding_study(
    study: ConfoundingStudy, worlds: Sequence[LMWorld], out: str | Path, *, jobs: int = 1,
    progress: bool = True, facts: Mapping[str, Any] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
    """Every run of a study that is not kept in ``out/blocks`` yet.

    Parameters
    ----------
    study : ConfoundingStudy
    worlds : sequence of LMWorld
    out : path
        A run that was stopped goes on from there, policy by policy. The starts are kept there too.
    jobs : int
        Worker processes, each on one thread; none changes a figure.
    progress : bool
    facts : mapping, optional
        What ``out/study.json`` is to say from the start; default: :func:`confounding_facts`.

    Returns
    -------
    rows : DataFrame
        A row per policy: see :func:`~causal_lm_opt.lm.confounding.run_one`.
    gradients : DataFrame
        Squared distances of gradients from their mean, a row per log: ``seed, cpo, dr``; empty
        where ``study.spread`` is 0.

    Raises
    ------
    ValueError
        ``out`` holds another study, or this one of other settings or worlds.
    """
    folder = Path(out)
    starts = {}
    for world in worlds:
        code = _identity(study, world)
        home = folder / "starts" / f"{world.name}-{hashlib.sha256(code.encode()).hexdigest()[:12]}"
        starts[world.name] = home
    known = {world.name: world for world in worlds}
    cells = [
        Cell(r.name, _One(known[r.world], study.training, r, starts[r.world]), 1,
             _identity(study, known[r.world]))
        for r in study.runs(worlds)
    ]  # fmt: skip
    if study.spread:
        first = worlds[0]
        seeds = range(2000 + study.first_seed, 2000 + study.first_seed + study.spread)
        gradients = _Gradients(first, study.training, seeds, starts[first.name])
        name = f"{first.name} gradients {seeds.start} {seeds.stop}"
        cells.append(Cell(name, gradients, 1, _identity(study, first)))
    claim(folder, confounding_facts(study, worlds) if facts is None else facts, cells)
    for world in worlds:
        starts[world.name].parent.mkdir(parents=True, exist_ok=True)
        with _OneThread():
            make_start(world, study.training, starts[world.name])
    frames = run_cells(cells, out=folder / "blocks", jobs=jobs, progress=progress)
    spread = frames.pop() if study.spread else pd.DataFrame(columns=["seed", "cpo", "dr"])
    return pd.concat(frames, ignore_index=True), spread


def confounding_facts(study: ConfoundingStudy, worlds: Sequence[LMWorld]) -> dict[str, Any]:
    """Settings and worlds as ``study.json`` holds them."""
    return {
        "study": "lm-confounding", "version": __version__, **asdict(study),
        "worlds": [w.identity() for w in worlds],
    }  # fmt: skip


def _identity(study: ConfoundingStudy, world: LMWorld) -> str:
    """World, settings, sources and versions that decide a run's figures."""
    source = hashlib.sha256("".join(inspect.getsource(m) for m in DECIDING).encode()).hexdigest()
    facts = json.dumps(
        {"world": world.identity(), "training": asdict(study.training)}, sort_keys=True
    )
    versions = (np.__version__, torch.__version__, transformers.__version__)
    return "|".join((facts, source, *versions))
