"""The correlation-shift study on real ratings: pairs of one table, embeddings of its texts."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from causal_lm_opt._validation import digest
from causal_lm_opt._version import __version__
from causal_lm_opt.diagnostics import effective_sample_size
from causal_lm_opt.rewards import _base, _modules, _training, models
from causal_lm_opt.rewards.models import BradleyTerryReward
from causal_lm_opt.simulation import rated_pairs as _rated
from causal_lm_opt.simulation._blocks import Cell, run_cells
from causal_lm_opt.simulation._claim import claim
from causal_lm_opt.simulation._embedding import label_by_reward
from causal_lm_opt.simulation.preference_study import BASE, COLUMNS, LATENT, WEIGHTED
from causal_lm_opt.simulation.rated_pairs import RatedPairs
from causal_lm_opt.simulation.study import random_generator

__all__ = ["RatedStudy", "run_rated_study"]

Matrix = npt.NDArray[np.floating[Any]]
FloatArray = npt.NDArray[np.float64]
#: Shares of the prompts to train on and to choose the epoch by; the rest is for the tests.
SPLIT = (0.6, 0.15)
FEWEST = 30  # pairs of a part
REAL = "ratings"  # stands where worlds have a noise level


@dataclass(frozen=True)
class RatedStudy:
    """Settings of a study on real ratings.

    Attributes
    ----------
    rhos : tuple of float
        Correlations of the two factors' differences in training.
    seeds, first_seed : int
        Seeds ``first_seed, ..., first_seed + seeds - 1``. Each splits the prompts anew, into 60 %
        to train on, 15 % to choose the epoch by and 25 % to test on, and draws pairs and weights
        of the network.
    weights : tuple of two floats
        The reward's, of the two factors in standard deviations.
    model : mapping
        Settings of :class:`BradleyTerryReward`.
    weighted : bool
        Fit also with stratum weights to correlation 0.
    """

    rhos: tuple[float, ...] = (0.0, 0.3, 0.6, 0.8)
    seeds: int = 5
    weights: tuple[float, float] = (0.25, 0.75)
    model: Mapping[str, Any] = field(default_factory=lambda: {"standardize": True})
    weighted: bool = True
    first_seed: int = 0

    @property
    def every_seed(self) -> range:
        """Seeds to run."""
        return range(self.first_seed, self.first_seed + self.seeds)


@dataclass(frozen=True)
class _Parts:
    """Pairs of one split, and how many to draw of each."""

    train: RatedPairs
    valid: RatedPairs
    test: RatedPairs
    sizes: tuple[int, int, int]


def run_rated_study(
    pairs: RatedPairs,
    embeddings: Matrix,
    study: RatedStudy,
    out: str | Path | None = None,
    *,
    jobs: int = 1,
    progress: bool = True,
    facts: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Fit rewards at every correlation and seed; test on pairs like training and on opposite signs.

    Every correlation has as many pairs, the most that each of them allows. The test "id" has the
    training's correlation, "ood" is all test pairs whose ratings differ in opposite directions.
    Prompts never stand on two sides. Ties of the reward are a coin's in training and count half
    in tests.

    Parameters
    ----------
    pairs : RatedPairs
    embeddings : array, shape (rows of the table, d)
    study : RatedStudy
    out, jobs, progress, facts
        As :func:`~causal_lm_opt.rewards.studies.run_preference_study`.

    Returns
    -------
    DataFrame
        As that function's, with ``noise`` "ratings", and ``n_train``, ``n_test``.

    Raises
    ------
    ValueError
        A correlation that the ratings do not reach, or fewer than 30 pairs of a part; ``out`` holds
        another study, or this one of other ratings or settings.
    """
    if embeddings.ndim != 2 or embeddings.shape[0] <= max(pairs.first.max(), pairs.second.max()):
        raise ValueError(f"embeddings must have a row per text, got shape {embeddings.shape}.")
    told = _identity(pairs, embeddings, study)
    splits = {seed: _split(pairs, study, seed) for seed in study.every_seed}
    names = [(BASE, True), (WEIGHTED, study.weighted)]
    cells = [
        Cell(f"rho {rho:g} seed {seed} {name}",
             _One(splits[seed], embeddings, study, rho, seed, name), 1, told)
        for seed in study.every_seed
        for rho in study.rhos
        for name, wanted in names
        if wanted and (name == BASE or rho != 0.0)
    ]  # fmt: skip
    folder = None if out is None else Path(out) / "blocks"
    if out is not None:
        claim(Path(out), _facts(pairs, study) if facts is None else facts, cells)
    frames = run_cells(cells, out=folder, jobs=jobs, progress=progress)
    return pd.concat(
        [f.astype({"lambda": float, "weights_ess": float}) for f in frames], ignore_index=True
    )


def _facts(pairs: RatedPairs, study: RatedStudy) -> dict[str, Any]:
    """What ``study.json`` says where the caller does not."""
    told = digest(pairs.first, pairs.second, pairs.differences, pairs.prompt)
    return {"study": LATENT, "version": __version__, "data": {"name": "ratings", "sha256": told},
            "settings": asdict(study)}  # fmt: skip


def _identity(pairs: RatedPairs, embeddings: Matrix, study: RatedStudy) -> str:
    modules = (_base, _modules, _training, models, _rated, inspect.getmodule(_identity))
    source = "".join(inspect.getsource(m) for m in modules if m is not None)
    data = digest(pairs.first, pairs.second, pairs.differences, pairs.prompt, embeddings)
    # Seeds are in the cells' names; further ones may be added to kept ones.
    settings = {k: v for k, v in asdict(study).items() if k not in ("seeds", "first_seed")}
    facts = json.dumps(settings, sort_keys=True)
    words = (facts, hashlib.sha256(source.encode()).hexdigest(), data)
    return "|".join((*words, np.__version__, torch.__version__))


@dataclass(frozen=True, eq=False)
class _One:
    """One fit as a cell of one replication."""

    parts: _Parts
    embeddings: Matrix
    study: RatedStudy
    rho: float
    seed: int
    name: str

    def __call__(self, replication: int) -> list[dict[str, Any]]:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return self._fit()
        finally:
            torch.set_num_threads(before)

    def _fit(self) -> list[dict[str, Any]]:
        parts = self.parts
        rng = random_generator(self.seed, f"ratings|{self.rho:g}", sum(parts.sizes), 0)
        drawn = {}
        for part, n in zip(("train", "valid", "id"), parts.sizes, strict=True):
            pool = {"train": parts.train, "valid": parts.valid, "id": parts.test}[part]
            drawn[part] = self._draw(pool, n, rng)
        (train, w), (valid, v), (like, _) = (drawn[p] for p in ("train", "valid", "id"))
        given = {"sample_weight": v} if self.name == WEIGHTED else {}
        chosen, rejected, _ = self._labelled(valid, rng)
        model = BradleyTerryReward(**{**self.study.model, "random_state": self.seed})
        first, second, _ = self._labelled(train, rng)
        model.fit(
            first, second, sample_weight=w if self.name == WEIGHTED else None,
            validation={"chosen": chosen, "rejected": rejected, **given},
        )  # fmt: skip
        head = dict(zip(COLUMNS[:6], (LATENT, REAL, self.rho, self.seed, self.name, None),
                        strict=True))  # fmt: skip
        rows = []
        for test, pool in {"id": like, "ood": parts.test.opposite()}.items():
            chosen, rejected, tie = self._labelled(pool, rng)
            accuracy = model.score(chosen, rejected, label=np.where(tie, 0.5, 1.0))
            rows.append(
                head | {"test": test, "accuracy": float(accuracy), "best_epoch": model.best_epoch_,
                        "n_train": len(train), "n_test": len(pool),
                        "weights_ess": float(effective_sample_size(w))
                        if self.name == WEIGHTED else None}
            )  # fmt: skip
        return rows

    def _draw(
        self, pool: RatedPairs, n: int, rng: np.random.Generator
    ) -> tuple[RatedPairs, FloatArray]:
        """Pairs at this correlation, and their weights to correlation 0."""
        strata = pool.at_correlation(self.rho)
        rows = strata.rows(n, rng)
        if self.name == BASE:
            return pool.take(rows), np.ones(n)
        return pool.take(rows), strata.weights_to(pool.at_correlation(0.0), rows)

    def _labelled(
        self, pairs: RatedPairs, rng: np.random.Generator
    ) -> tuple[Matrix, Matrix, npt.NDArray[np.bool_]]:
        """Embeddings of the better and the other response of each pair, and whether they tie."""
        wins, tie = label_by_reward(pairs.differences @ np.asarray(self.study.weights), rng)
        first, second = pairs.first, pairs.second
        better, other = np.where(wins, first, second), np.where(wins, second, first)
        return self.embeddings[better], self.embeddings[other], tie


def _split(pairs: RatedPairs, study: RatedStudy, seed: int) -> _Parts:
    """Whole prompts on three sides, and the numbers of pairs that every correlation allows."""
    prompts = np.unique(pairs.prompt)
    order = random_generator(seed, "ratings|split", prompts.size, 0).permutation(prompts)
    ends = np.rint(np.cumsum(SPLIT) * prompts.size).astype(int)
    train, valid, test = (pairs.of_prompts(part) for part in np.split(order, ends))
    sizes = [_common(side, study.rhos) for side in (train, valid, test)]
    for name, size in zip(("training", "validation", "test"), sizes, strict=True):
        if size < FEWEST:
            raise ValueError(
                f"{size} {name} pairs at some correlation of {list(study.rhos)} (seed {seed}); at "
                f"least {FEWEST} are needed. Use correlations nearer the pool's "
                f"{pairs.correlation:.2f}, or more prompts."
            )
    return _Parts(train, valid, test, (sizes[0], sizes[1], sizes[2]))


def _common(side: RatedPairs, rhos: Sequence[float]) -> int:
    if len(side) < FEWEST:
        return len(side)
    return min(side.at_correlation(rho).largest() for rho in rhos)
