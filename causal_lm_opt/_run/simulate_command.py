"""The command ``simulate``: its options, and what a Ctrl-C says.

Light to import: nothing here loads NumPy.
"""

from __future__ import annotations

from typing import Annotated

import typer

from causal_lm_opt._run.options import (
    DEFAULT_OUT,
    METHOD,
    RUN,
    Dimension,
    DiscriminatorRate,
    Encoder,
    Entanglement,
    Factors,
    Noise,
    Nuisance,
    Out,
    Quiet,
    RatingsFile,
    RatingsPrompt,
    RatingsText,
)
from causal_lm_opt._run.shell import say

__all__ = ["simulate"]


def simulate(
    study: Annotated[
        str | None,
        typer.Argument(metavar="NAME|FILE.toml", help="Study to run; --list names those shipped."),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="List the shipped studies.")] = False,
    seeds: Annotated[
        int | None,
        typer.Option("--seeds", metavar="N", min=2, help="Replications.",
                     show_default="the study's own", rich_help_panel=METHOD),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="A first look: 40 replications of the smallest size; of trained models, tiny "
            "ones.",
            rich_help_panel=METHOD,
        ),
    ] = False,
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs", "--workers", metavar="N", min=1, help="Worker processes.",
            rich_help_panel=RUN,
        ),
    ] = 1,
    seed: Annotated[
        int,
        typer.Option(
            "--seed", metavar="N", min=0, max=2**32 - 1,
            help="Seed of the study; where models are trained, the first of its seeds.",
            rich_help_panel=METHOD,
        ),
    ] = 0,
    dimension: Dimension = None,
    entanglement: Entanglement = 0.0,
    nuisance: Nuisance = None,
    discriminator_rate: DiscriminatorRate = None,
    noise: Noise = None,
    data: RatingsFile = None,
    text: RatingsText = None,
    prompt: RatingsPrompt = None,
    factors: Factors = None,
    encoder: Encoder = None,
    out: Out = DEFAULT_OUT,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Run a simulation study with known truth.

    Run it again with the same --out to go on where it stopped, or with more --seeds. A folder that
    holds another study, or this one of other settings (also --seed, --quick where models are
    trained; --seeds and sizes may change), is left as it is: give another --out.
    """
    from causal_lm_opt._run import lm_confounding, preferences
    from causal_lm_opt._run import simulate as runner

    if listed:
        own = f"{lm_confounding.NAME}\n    {lm_confounding.LEAD}\n"
        say(runner.list_studies() + preferences.list_studies() + own)
        return
    if study is None:
        raise ValueError("name a study or a .toml file; --list shows the shipped ones")
    trains = study == lm_confounding.NAME
    folder = data if trains else None  # of files, not a table of ratings
    ratings = preferences.ratings_of(None if trains else data, text, prompt, factors, encoder)
    world = {
        "dimension": dimension, "entanglement": entanglement, "nuisance": nuisance,
        "discriminator_rate": discriminator_rate, "noise": noise,
    }  # fmt: skip
    try:
        if trains:
            preferences.refuse_options(study, **world)
            done = lm_confounding.simulate_confounding(
                out, data=folder, seeds=seeds, seed=seed, jobs=jobs, quick=quick,
                progress=not quiet,
            )  # fmt: skip
        elif study in preferences.PREFERENCE_STUDIES:
            done = preferences.simulate_preferences(
                study, out, seeds=seeds, seed=seed, jobs=jobs, quick=quick, dimension=dimension,
                entanglement=entanglement, nuisance=nuisance,
                discriminator_learning_rate=discriminator_rate, noise=noise or (), ratings=ratings,
                progress=not quiet,
            )  # fmt: skip
        else:
            runner.check_name(study, (*preferences.PREFERENCE_STUDIES, lm_confounding.NAME))
            preferences.refuse_options(study, **world, data=ratings)
            done = runner.simulate(
                study, out, replications=seeds, seed=seed, jobs=jobs, quick=quick,
                progress=not quiet,
            )  # fmt: skip
    except KeyboardInterrupt:
        home = out.expanduser()
        kept = "nothing was written"
        if home.is_dir():
            some = any((home / "blocks").glob("*"))
            what = f"finished blocks are in {out}" if some else "no block was finished yet"
            kept = f"run again to go on, {what}"
        say(f"interrupted; {kept}\n", error=True)
        # Not typer.Exit(130): the shell would add that nothing was written.
        raise SystemExit(130) from None
    if not quiet:
        say(done)
