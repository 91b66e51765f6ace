"""Studies of preference rewards from the command line: run, tables beside the paper's, report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causal_lm_opt._run.optimize_settings import check_installed
from causal_lm_opt._run.output import file_facts
from causal_lm_opt._run.preference_report import told_facts, write_study
from causal_lm_opt._run.preference_words import WORDS
from causal_lm_opt._run.study_folder import check_study_folder, study_run, warn_of_replaced
from causal_lm_opt.exceptions import DataError
from causal_lm_opt.simulation._claim import read_facts, refuse_other
from causal_lm_opt.simulation.preference_study import (
    LATENT,
    OBJECTIVES,
    PreferenceStudy,
    preference_study,
)

__all__ = [
    "PREFERENCE_STUDIES",
    "Ratings",
    "list_studies",
    "ratings_of",
    "refuse_options",
    "simulate_preferences",
]

PREFERENCE_STUDIES = (LATENT, OBJECTIVES)


@dataclass(frozen=True)
class Ratings:
    """A table of rated responses, and where its texts' embeddings come from.

    Attributes
    ----------
    data : path
        CSV (also .gz).
    text, prompt : str
        Columns.
    factors : tuple of two str
        Columns of ratings.
    encoder : path or None
        Folder of a sentence encoder; ``None``: TF-IDF reduced to 256 numbers.
    """

    data: str
    text: str
    prompt: str
    factors: tuple[str, str]
    encoder: str | None = None


def list_studies() -> str:
    """Names of the studies of preference rewards and what each asks."""
    return "".join(f"{name}\n    {WORDS[name].lead}\n" for name in PREFERENCE_STUDIES)


def ratings_of(
    data: str | None,
    text: str | None,
    prompt: str | None,
    factors: str | None,
    encoder: str | None,
) -> Ratings | None:
    """What the options on real ratings ask for; ``None`` without ``--data``.

    Raises
    ------
    ValueError
        Options that lack ``--data``, or factors that are not two names.
    """
    if data is None:
        given = {"--text": text, "--prompt": prompt, "--factors": factors, "--encoder": encoder}
        strange = [name for name, value in given.items() if value is not None]
        if strange:
            raise ValueError(f"{strange[0]} goes with --data FILE")
        return None
    names = [] if factors is None else [name.strip() for name in factors.split(",")]
    if len(names) != 2 or not all(names):
        raise ValueError(
            f"--factors must name two columns of ratings, as in A,B; got {factors or 'none'}"
        )
    return Ratings(data, text or "text", prompt or "prompt", (names[0], names[1]), encoder)


def refuse_options(study: str, **given: Any) -> None:
    """Refuse options that only studies of preference rewards have."""
    strange = [name.replace("_", "-") for name, value in given.items() if value]
    if strange:
        raise ValueError(
            f"--{strange[0]} goes with {' and '.join(PREFERENCE_STUDIES)}, not with {study!r}"
        )


def simulate_preferences(
    name: str,
    out: str | Path,
    *,
    seeds: int | None = None,
    seed: int = 0,
    jobs: int = 1,
    quick: bool = False,
    dimension: int | None = None,
    entanglement: float = 0.0,
    nuisance: int | None = None,
    discriminator_learning_rate: float | None = None,
    noise: Sequence[str] = (),
    ratings: Ratings | None = None,
    progress: bool = True,
) -> str:
    """Run a study of preference rewards, or what of it is not in ``out`` yet.

    Parameters
    ----------
    name : {"latent-positivity", "user-objectives"}
    out : path
        New, empty, or the folder of an earlier run of the same settings, whose finished fits are
        used.
    seeds, seed, quick, dimension, entanglement, nuisance, discriminator_learning_rate
        As :func:`~causal_lm_opt.simulation.preference_study.preference_study`; ``seed`` is the
        first.
    jobs : int
    noise : sequence of {"low", "medium", "high"}
    ratings : Ratings, optional
        Real ratings in place of a simulated world (latent-positivity).
    progress : bool

    Returns
    -------
    str
        The text to print.

    Raises
    ------
    OutputError
        The folder holds something else, another study or this one of other settings, or cannot be
        written.
    ValueError
        Settings or data that make no sense.
    """
    folder = check_study_folder(out)
    if ratings is not None and (name != LATENT or noise or dimension is not None):
        raise ValueError(
            "--data goes with latent-positivity, and without --noise and --dimension, which are of "
            "simulated worlds"
        )
    study = preference_study(
        "latent-positivity" if name == LATENT else "user-objectives", seeds=seeds, first_seed=seed,
        noises=tuple(noise) or ("high",), dimension=dimension,
        entanglement=entanglement, nuisance=nuisance,
        discriminator_learning_rate=discriminator_learning_rate, quick=quick,
    )  # fmt: skip
    rows = None if ratings is None else read_ratings(ratings)
    check_installed(f"simulate {name}")
    held = read_facts(folder)
    with study_run(out, folder):
        facts: dict[str, Any] = {"quick": quick}
        if ratings is None or rows is None:
            from causal_lm_opt.rewards.studies import run_preference_study  # loads torch

            told = told_facts(study, facts)
            results = run_preference_study(study, folder, jobs=jobs, progress=progress, facts=told)
        else:
            study, results, facts = _rated(
                study, folder, rows, ratings, quick=quick, jobs=jobs, progress=progress
            )
        text = write_study(study, results, folder, facts)
    warn_of_replaced(held, read_facts(folder) or {})
    return text


# ------------------------------------------------------------------------------ real ratings
def _rated(
    study: PreferenceStudy,
    folder: Path,
    rows: pd.DataFrame,
    given: Ratings,
    *,
    quick: bool,
    jobs: int,
    progress: bool,
) -> tuple[PreferenceStudy, pd.DataFrame, dict[str, Any]]:
    """Run on real ratings; the study tells rhos and seeds alone."""
    from causal_lm_opt.rewards.rated_study import RatedStudy, run_rated_study  # loads torch
    from causal_lm_opt.simulation.rated_pairs import rated_pairs

    pairs = rated_pairs(rows, prompt=given.prompt, factors=given.factors)
    settings: dict[str, Any] = {"standardize": True}
    if quick:
        settings |= {"hidden": (32,), "latent_dim": 16, "epochs": 2}
    own = RatedStudy(seeds=study.seeds, first_seed=study.first_seed, model=settings)
    facts = {
        "data": {k: v for k, v in file_facts(given.data, "ratings").items() if k != "path"}
        | {"name": Path(given.data).name},
        "columns": {"text": given.text, "prompt": given.prompt, "factors": list(given.factors)},
        "encoder": "TF-IDF" if given.encoder is None else Path(given.encoder).name,
        "empty_texts": int((rows[given.text] == "").sum()),
        "pairs": len(pairs), "correlation": pairs.correlation,
        "ood_correlation": pairs.opposite().correlation, "settings": asdict(own), "quick": quick,
    }  # fmt: skip
    study = replace(study, rhos=own.rhos, noises=("high",))
    told = told_facts(study, facts)
    refuse_other(folder, told)  # before all texts are embedded
    results = run_rated_study(
        pairs, embedded(rows, given), own, folder, jobs=jobs, progress=progress, facts=told
    )
    return study, results, facts


def read_ratings(given: Ratings) -> pd.DataFrame:
    """The table, with text and prompt as strings; an empty text is a response like any other.

    Raises
    ------
    DataError
        If it cannot be read, or lacks a column.
    """
    try:
        # Words such as "None" are texts; only a rating may be missing.
        rows = pd.read_csv(
            given.data, keep_default_na=False, na_values={f: ["", "NA"] for f in given.factors},
            dtype={given.text: str, given.prompt: str},
        )  # fmt: skip
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"{given.data}: cannot be read as CSV: {error}") from error
    for column in (given.text, given.prompt, *given.factors):
        if column not in rows.columns:
            raise DataError(f"{given.data}: has no column {column!r}; it has {list(rows.columns)}")
    return rows


def embedded(rows: pd.DataFrame, given: Ratings) -> Any:
    """Embeddings (n, d), float32, of each response after its prompt."""
    texts = [f"{p}\n\n{t}" for p, t in zip(rows[given.prompt], rows[given.text], strict=True)]
    if given.encoder is not None:
        from causal_lm_opt.lm import TextEmbedder  # loads torch

        return TextEmbedder(given.encoder, progress=False).transform(texts).astype(np.float32)
    from causal_lm_opt.estimators.text_pipelines import tfidf_features

    width = min(256, len(texts) - 1)
    return tfidf_features(n_components=width).fit_transform(texts).astype(np.float32)
