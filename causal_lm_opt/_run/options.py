"""Blocks of options of the command line.

Light to import: nothing here loads NumPy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "COLUMNS",
    "DEFAULT_OUT",
    "FILES",
    "METHOD",
    "POLICIES",
    "RATIO_NAMES",
    "RUN",
    "Cv",
    "Decimal",
    "Delimiter",
    "Dimension",
    "DiscriminatorRate",
    "Encoder",
    "Entanglement",
    "Factors",
    "Figures",
    "Level",
    "Noise",
    "Nuisance",
    "Out",
    "Overwrite",
    "Quiet",
    "Ratio",
    "RatingsFile",
    "RatingsPrompt",
    "RatingsText",
    "Seed",
    "Sensitivity",
    "TargetTexts",
    "mark",
]

RATIO_NAMES = ("classifier", "balance", "latent")

# ------------------------------------------------------------------------------ of most commands
RUN, COLUMNS, POLICIES, METHOD = "The run", "Columns of LOG", "Policies", "Method"
FILES = "Files"
Out = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Folder for the results.", rich_help_panel=RUN)
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite", help="Replace the results of an earlier run in DIR.", rich_help_panel=RUN
    ),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", help="Print warnings and errors alone.", rich_help_panel=RUN),
]
Level = Annotated[
    float,
    typer.Option(
        "--level", metavar="P", help="Confidence level, between 0 and 1.", rich_help_panel=METHOD
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        "--seed",
        metavar="N",
        min=0,
        max=2**32 - 1,
        help="Seed of folds and resamples.",
        rich_help_panel=METHOD,
    ),
]
Cv = Annotated[
    int,
    typer.Option(
        "--cv", metavar="N", min=2, help="Folds of cross-fitting.", rich_help_panel=METHOD
    ),
]
Delimiter = Annotated[
    str | None,
    typer.Option(
        "--delimiter",
        metavar="CHAR",
        help="What separates the columns of delimited text: one character, or tab.",
        show_default="tab for .tsv, else a comma",
        rich_help_panel=RUN,
    ),
]
Decimal = Annotated[
    str | None,
    typer.Option(
        "--decimal",
        metavar="[.|,]",
        help="Decimal sign of delimited text's numbers.",
        show_default="a point",
        rich_help_panel=RUN,
    ),
]
Figures = Annotated[
    bool,
    typer.Option(
        "--figures/--no-figures",
        envvar="CAUSAL_LM_OPT_FIGURES",
        help="Plots, and what stands behind each policy, in report.html.",
        rich_help_panel=RUN,
    ),
]
Sensitivity = Annotated[
    bool,
    typer.Option(
        "--sensitivity",
        help="Add to the report how far a hidden confounder, or wrong logging probabilities, could "
        "move the differences (takes seconds to minutes).",
        show_default="off",
        rich_help_panel=METHOD,
    ),
]
DEFAULT_OUT = Path("causal-lm-opt-output")


def mark(delimiter: str | None) -> str | None:
    """The delimiter itself; shells make a tab hard to type, so that ``tab`` stands for it."""
    if delimiter is not None and delimiter != "tab" and len(delimiter) != 1:
        raise ValueError(f"--delimiter must be one character, or tab; got {delimiter!r}")
    return "\t" if delimiter == "tab" else delimiter


# ------------------------------------------------------------------------------ of evaluate
TargetTexts = Annotated[
    str | None,
    typer.Option(
        "--target-texts",
        metavar="FILE",
        help="Texts of the target policies where nobody has log-probabilities: columns policy (or "
        "one policy, named after the file), text (and features); optional group, weight. The "
        "weights are estimated from the texts, in place of --policy, --logp-logging and --draws.",
        show_default="none",
        rich_help_panel=POLICIES,
    ),
]
Ratio = Annotated[
    str | None,
    typer.Option(
        "--ratio",
        metavar=f"[{'|'.join(RATIO_NAMES)}]",
        help="How --target-texts makes weights. classifier: odds of a classifier of words. "
        "balance: entropy balancing of a few topics of the texts. latent: odds of a logistic "
        "regression on a few topics, quickest on many texts.",
        show_default="classifier, which picks no topics beforehand and shows best where texts "
        "do not overlap",
        rich_help_panel=METHOD,
    ),
]

# ------------------------------------------------------------------------------ preference rewards
REWARDS = "Preference rewards (latent-positivity, user-objectives)"
RATINGS = "Real ratings (latent-positivity)"
Dimension = Annotated[
    int | None,
    typer.Option(
        "--dimension",
        metavar="D",
        min=1,
        help="Numbers of an embedding; the paper's have 4096.",
        show_default="256",
        rich_help_panel=REWARDS,
    ),
]
Entanglement = Annotated[
    float,
    typer.Option(
        "--entanglement",
        metavar="E",
        min=0.0,
        max=1.0,
        help="How far the prompt's type changes the way ratings show (user-objectives).",
        rich_help_panel=REWARDS,
    ),
]
Nuisance = Annotated[
    int | None,
    typer.Option(
        "--nuisance",
        metavar="N",
        min=0,
        help="Numbers in an embedding's latents that no rating moves (user-objectives).",
        show_default="8",
        rich_help_panel=REWARDS,
    ),
]
DiscriminatorRate = Annotated[
    float | None,
    typer.Option(
        "--discriminator-rate",
        metavar="R",
        help="Learning rate of the adversary's discriminator (user-objectives).",
        show_default="the network's",
        rich_help_panel=REWARDS,
    ),
]
Noise = Annotated[
    list[str] | None,
    typer.Option(
        "--noise",
        metavar="[low|medium|high]",
        help="How badly embeddings show the ratings (repeat for more).",
        show_default="high, which is near the paper's accuracy",
        rich_help_panel=REWARDS,
    ),
]
RatingsFile = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="FILE|FOLDER",
        help="CSV of rated responses in place of a simulated world; lm-confounding: folder of the "
        "Hong Kong experiment's files.",
        show_default="none",
        rich_help_panel=RATINGS,
    ),
]
RatingsText = Annotated[
    str | None,
    typer.Option(
        "--text", metavar="COL", help="Responses.", show_default="text", rich_help_panel=RATINGS
    ),
]
RatingsPrompt = Annotated[
    str | None,
    typer.Option(
        "--prompt",
        metavar="COL",
        help="What they respond to; pairs are made within it.",
        show_default="prompt",
        rich_help_panel=RATINGS,
    ),
]
Factors = Annotated[
    str | None,
    typer.Option(
        "--factors",
        metavar="A,B",
        help="Two columns of ratings; the reward is .25 A + .75 B.",
        show_default="none",
        rich_help_panel=RATINGS,
    ),
]
Encoder = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        metavar="FOLDER",
        help="Sentence encoder of the texts.",
        show_default="TF-IDF reduced to 256 numbers",
        rich_help_panel=RATINGS,
    ),
]
