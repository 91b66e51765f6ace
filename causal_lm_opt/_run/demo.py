"""The worked example: the shipped experiment, every estimate beside the truth."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from causal_lm_opt._evaluate import evaluate_part, study_of
from causal_lm_opt._evaluation import LOGGING, Evaluation, Part, Settings, Study
from causal_lm_opt._run.draws import DrawsFile, read_draws
from causal_lm_opt.datasets import load_text_experiment, shipped_data_dir
from causal_lm_opt.datasets.shipped import DRAWS, EXPERIMENT, OBSERVATIONAL, TRUTH
from causal_lm_opt.estimators._named_models import named_outcome_model
from causal_lm_opt.exceptions import DataError
from causal_lm_opt.logged import LoggedData

__all__ = ["demo", "demo_files"]

UNIT = "outcome (0 to 100)"
ONE_IN_TWENTY = (
    "The data are generated, so the true values are known. These are the intervals of one sample: "
    "a right 95% interval misses the truth in one sample of twenty, so a miss here is no proof of "
    "a fault, and a hit none of its absence."
)

NAIVE = (
    "Readers who were interested anyway got other messages than the rest. Weighting by how often "
    "a message was sent, whoever got it, is wrong, and nothing in the log says so: a verdict is "
    "not about confounding, and these intervals are not to be trusted."
)
RIGHT = (
    "The same readers and messages, weighted by the probability of the message given the "
    "reader's interest, which is what decided who got which."
)


def demo_files() -> list[tuple[str, Path]]:
    """Role and path of the demo's input files."""
    folder = shipped_data_dir()
    roles = {"experiment": EXPERIMENT, "draws": DRAWS, "observational": OBSERVATIONAL,
             "truth": TRUTH}  # fmt: skip
    return [(role, folder / name) for role, name in roles.items()]


def demo(settings: Settings) -> Evaluation:
    """Evaluate the shipped randomised experiment and its confounded companion."""
    folder = shipped_data_dir()
    truth = _truth(folder / TRUTH)
    return Evaluation(
        title="Demonstration: a text experiment with known true values",
        question=(
            "Readers were shown messages inviting them to a tree-planting day. What would the "
            "mean outcome have been under three other ways of writing the messages?"
        ),
        parts=(
            _randomised(folder, truth, settings),
            _observational(folder, truth, settings, naive=True),
            _observational(folder, truth, settings, naive=False),
        ),
        level=settings.level,
        notes=(ONE_IN_TWENTY,),
    )


def _truth(path: Path) -> dict[str, float]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))["randomised"]["true_value"]
    except (ValueError, KeyError) as error:
        raise DataError(f"{path}: is not the truth file that the generator writes") from error
    return {LOGGING if name == "logging" else name: float(v) for name, v in values.items()}


def _targets(truth: dict[str, float]) -> dict[str, str]:
    return {name: f"logp_{name}" for name in truth if name != LOGGING}


def _randomised(folder: Path, truth: dict[str, float], settings: Settings) -> Part:
    log = LoggedData.from_csv(
        folder / EXPERIMENT, text="text", outcome="outcome", logp_logging="logp_logging",
        logp_target=_targets(truth),
    )  # fmt: skip
    draws = read_draws(folder / DRAWS, DrawsFile())
    study = study_of(log, draws, model=named_outcome_model("tfidf-ridge"), unit=UNIT)
    return _part(
        study, truth, settings, key="randomised", title="Randomised messages",
        text="Chance alone decided who read what. The outcome model is a ridge regression on the "
        "words of the message; it cannot see that two of the arms work better together, so "
        "outcome regression goes wrong where a policy always uses both, and its verdict says so.",
    )  # fmt: skip


def _observational(
    folder: Path, truth: dict[str, float], settings: Settings, *, naive: bool
) -> Part:
    column = "logp_logging_naive" if naive else "logp_logging_true"
    # Loaded once by the data set's own loader, which checks that texts and arms agree.
    load_text_experiment(folder, confounded=True)
    log = LoggedData.from_csv(
        folder / OBSERVATIONAL, text="text", outcome="outcome", logp_logging=column,
        logp_target=_targets(truth),
    )  # fmt: skip
    study = study_of(log, unit=UNIT)
    title = f"Confounded messages, {'naive' if naive else 'right'} propensities"
    text = NAIVE if naive else RIGHT
    key = "confounded_naive" if naive else "confounded_right"
    return _part(study, truth, settings, key=key, title=title, text=text)


def _part(study: Study, truth: dict[str, float], settings: Settings, **words: str) -> Part:
    return evaluate_part(replace(study, truth=truth), settings, **words)
