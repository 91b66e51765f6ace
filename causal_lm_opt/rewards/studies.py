"""The fits of a preference study, kept as they finish."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from causal_lm_opt._version import __version__
from causal_lm_opt.diagnostics import effective_sample_size
from causal_lm_opt.rewards import _base, _modules, _training, models, objective_probe
from causal_lm_opt.rewards.models import AdversarialReward, BradleyTerryReward, MultiHeadReward
from causal_lm_opt.rewards.objective_probe import fresh_discriminator_accuracy
from causal_lm_opt.simulation import (
    _difference_law,
    _embedding,
    correlation_shift,
    latent_positivity,
    preference_study,
    user_objectives,
)
from causal_lm_opt.simulation._blocks import Cell, run_cells
from causal_lm_opt.simulation._claim import claim
from causal_lm_opt.simulation._embedding import PreferencePairs
from causal_lm_opt.simulation.latent_positivity import LatentPositivityWorld
from causal_lm_opt.simulation.preference_study import (
    ADVERSARIAL,
    ADVERSARY_RATE,
    COLUMNS,
    MULTI,
    TESTS,
    WEIGHTED,
    Fit,
    PreferenceStudy,
    draw_pairs,
)

__all__ = ["make_model", "run_fit", "run_preference_study", "study_identity"]

#: Modules whose source decides the figures.
DECIDING = (
    _base, _modules, _training, models, objective_probe, _difference_law, _embedding,
    correlation_shift, latent_positivity, preference_study, user_objectives,
)  # fmt: skip


def make_model(fit: Fit, settings: Mapping[str, Any]) -> Any:
    """The reward model of a fit, not fitted yet."""
    common = dict(settings) | {"random_state": fit.seed, "device": "cpu"}
    if fit.model == ADVERSARIAL:
        return AdversarialReward(1.0 if fit.lambda_ is None else fit.lambda_, **common)
    common.pop(ADVERSARY_RATE, None)
    return (MultiHeadReward if fit.model == MULTI else BradleyTerryReward)(**common)


def run_fit(study: PreferenceStudy, fit: Fit) -> list[dict[str, Any]]:
    """Train one model and test it: one row per test.

    Training labels of ties are a coin's, in tests ties count half.

    Returns
    -------
    list of dict
        ``accuracy`` and the columns of ``COLUMNS``, with ``validation_accuracy``, ``best_epoch``,
        ``discriminator_accuracy`` (at the epoch kept), ``fresh_discriminator_accuracy`` (of one
        fitted to the latent kept, on half the validation pairs, and tried on the others) and
        ``weights_ess``, each where it exists.
    """
    train, valid = (draw_pairs(study, fit, part) for part in ("train", "valid"))
    weight = [stratum_weights(study, fit, pairs) for pairs in (train, valid)]
    model = make_model(fit, study.model).fit(
        train.chosen, train.rejected, objective=train.objective, sample_weight=weight[0],
        validation=_given(valid, weight[1]),
    )  # fmt: skip
    del train
    kept = model.history_[model.best_epoch_ - 1]
    facts = {
        "validation_accuracy": kept["validation_accuracy"],
        "best_epoch": model.best_epoch_,
        "discriminator_accuracy": kept.get("discriminator_accuracy"),
        "fresh_discriminator_accuracy": _fresh(model, valid, fit),
        "weights_ess": None if weight[0] is None else float(effective_sample_size(weight[0])),
    }
    head = dict(zip(COLUMNS[:6], (study.name, fit.noise, fit.rho, fit.seed, fit.model,
                                  fit.lambda_), strict=True))  # fmt: skip
    rows = []
    for test in TESTS[study.name]:
        pairs = draw_pairs(study, fit, test)
        accuracy = model.score(pairs.chosen, pairs.rejected, pairs.objective, label=pairs.label)
        rows.append(head | {"test": test, "accuracy": float(accuracy)} | facts)
    return rows


def _fresh(model: Any, valid: PreferencePairs, fit: Fit) -> float | None:
    """What a new discriminator reads from an adversarial model's latent."""
    if fit.model != ADVERSARIAL or valid.objective is None:
        return None
    half = len(valid) // 2
    z = [np.concatenate([model.transform(x[at]) for x in (valid.chosen, valid.rejected)])
         for at in (slice(half), slice(half, None))]  # fmt: skip
    told = [np.tile(valid.objective[at], 2) for at in (slice(half), slice(half, None))]
    return fresh_discriminator_accuracy(z[0], told[0], z[1], told[1], seed=fit.seed)


def stratum_weights(
    study: PreferenceStudy, fit: Fit, pairs: PreferencePairs
) -> npt.NDArray[np.float64] | None:
    """Weights to independent differences, for the model that has them."""
    if fit.model != WEIGHTED:
        return None
    world = study.world(fit.noise)
    assert isinstance(world, LatentPositivityWorld)
    return world.stratum_weights(pairs, fit.rho)


def _given(pairs: PreferencePairs, weight: Any) -> dict[str, Any]:
    """Validation pairs as the models take them."""
    given = {"chosen": pairs.chosen, "rejected": pairs.rejected, "objective": pairs.objective,
             "sample_weight": weight}  # fmt: skip
    return {name: value for name, value in given.items() if value is not None}


def study_identity(study: PreferenceStudy, fit: Fit) -> str:
    """Settings, sources and versions that decide the figures of a fit."""
    source = hashlib.sha256("".join(inspect.getsource(m) for m in DECIDING).encode()).hexdigest()
    facts = {"sizes": vars(study.sizes), "dimension": study.dimension, "model": dict(study.model),
             "world": repr(study.world(fit.noise))}  # fmt: skip
    return "|".join((json.dumps(facts, sort_keys=True), source, np.__version__, torch.__version__))


@dataclass(frozen=True)
class _One:
    """A fit as a cell of one replication."""

    study: PreferenceStudy
    fit: Fit

    def __call__(self, replication: int) -> list[dict[str, Any]]:
        before = torch.get_num_threads()
        torch.set_num_threads(1)  # so that any number of workers gives the same bytes
        try:
            return run_fit(self.study, self.fit)
        finally:
            torch.set_num_threads(before)


def run_preference_study(
    study: PreferenceStudy,
    out: str | Path | None = None,
    *,
    jobs: int = 1,
    progress: bool = True,
    facts: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Every fit of a study that is not kept in ``out/blocks`` yet.

    Parameters
    ----------
    study : PreferenceStudy
    out : path, optional
        A run that was stopped goes on from there, fit by fit.
    jobs : int
        Worker processes, each on one thread; none changes a figure.
    progress : bool
        Show a bar on stderr.
    facts : mapping, optional
        What ``out/study.json`` is to say from the start; default: the study's settings.

    Returns
    -------
    DataFrame
        Tidy: a row per fit and test, in the order of :meth:`PreferenceStudy.fits`.

    Raises
    ------
    ValueError
        ``out`` holds another study, or this one under other settings.

    Examples
    --------
    >>> from dataclasses import replace
    >>> from causal_lm_opt.simulation.preference_study import preference_study
    >>> tiny = replace(preference_study("latent-positivity", quick=True), seeds=1, rhos=(0.0,))
    >>> run_preference_study(tiny, progress=False)["test"].tolist()
    ['id', 'ood']
    """
    cells = [Cell(fit.name, _One(study, fit), 1, study_identity(study, fit))
             for fit in study.fits()]  # fmt: skip
    folder = None if out is None else Path(out) / "blocks"
    if out is not None:
        own = {"study": study.name, "version": __version__, **study.facts()}
        claim(Path(out), own if facts is None else facts, cells)
    frames = run_cells(cells, out=folder, jobs=jobs, progress=progress)
    table = pd.concat([f.astype({"lambda": float}) for f in frames], ignore_index=True)
    read = ("discriminator_accuracy", "fresh_discriminator_accuracy", "weights_ess")
    return table.astype(dict.fromkeys(read, float))
