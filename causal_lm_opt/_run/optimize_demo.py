"""The demonstration's training run: a tiny model on the shipped experiment, beside the truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from causal_lm_opt._run.numbers import number
from causal_lm_opt._run.optimize import NAMES, Optimized, OptimizeRequest, optimize_file
from causal_lm_opt._run.optimize_files import own_folder
from causal_lm_opt._run.optimize_settings import check_installed
from causal_lm_opt.datasets import make_text_experiment, shipped_data_dir, true_mean
from causal_lm_opt.datasets.shipped import EXPERIMENT

__all__ = ["check_training_demo", "train_demo", "training_folder"]

#: Small enough for about a minute and a half on two cores.
SIZES = {"steps": 64, "round_size": 256, "n_draws": 500}


def training_folder(out: str | Path) -> Path:
    """Where the demonstration's training run is written: beside its report.

    >>> training_folder("demo-output").name
    'demo-output-training'
    """
    folder = Path(out).expanduser().resolve()
    return folder.with_name(f"{folder.name}-training")


def check_training_demo(out: str | Path) -> str | None:
    """Why training is left out, in one line; None where it can be done.

    Raises
    ------
    OutputError
        If the folder holds something else.
    """
    try:
        check_installed("training")
    except ValueError as error:
        return f"training is left out: {error}, then run this again"
    own_folder(training_folder(out), NAMES)
    return None


def train_demo(out: str | Path, *, seed: int, figures: bool, quiet: bool) -> Optimized:
    """Train a tiny model on the shipped experiment; the text ends with the truth.

    Parameters
    ----------
    out : path
        Of the demonstration; the run is written beside it.
    seed : int
    figures, quiet : bool
    """
    folder = training_folder(out)
    log = shipped_data_dir() / EXPERIMENT
    reproduce = (
        f"causal-lm-opt optimize {log} --outcome outcome --logp-logging logp_logging --seed {seed} "
        f"--config sizes.yaml --out {folder}  # sizes.yaml: {SIZES}"
    )
    request = OptimizeRequest(
        log=str(log), out=folder, outcome="outcome", logp_logging="logp_logging",
        flags=SIZES | {"random_state": seed}, overwrite=True, figures=figures,
        progress=False if quiet else None, reproduce=reproduce,
        arguments={"seed": seed, **SIZES},
    )  # fmt: skip
    done = optimize_file(request)
    told = "\n\nTraining a tiny language model on the same experiment\n\n"
    return Optimized(told.lstrip("\n") + done.text + _truth(done), done.warnings, done.pairs)


def _truth(done: Optimized) -> str:
    """True mean outcomes of the fresh texts: the data are generated, so they are known."""
    sides = [[pair[k] for pair in done.pairs] for k in (1, 2)]
    told = [
        f"{name} {number(value, 1)} ({known} of {len(side)})"
        for name, side in zip(("start", "trained"), sides, strict=True)
        for value, known in [known_truth([text for text in side if text is not None])]
        if known
    ]
    return (
        "The truth, over those fresh texts that are made of whole known sentences: "
        f"{'; '.join(told)}.\n"
    )


def known_truth(texts: Sequence[str]) -> tuple[float, int]:
    """Mean true outcome of the texts whose parts are all known, and how many these are.

    >>> known_truth(["No experience is needed.", "No experience is needed. Oops"])
    (47.0, 1)
    """
    design = make_text_experiment(n=1).design
    found = []
    for text in texts:
        try:
            found.append(float(true_mean(design.arms_of([text]))[0]))
        except ValueError:  # a text the experiment has no truth for
            continue
    return (float(np.mean(found)) if found else math.nan, len(found))
