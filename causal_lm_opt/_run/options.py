"""Blocks of options of the command line.

Light to import: nothing here loads NumPy.
"""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = [
    "RATIO_NAMES",
    "Dimension",
    "Encoder",
    "Entanglement",
    "Factors",
    "Noise",
    "Ratio",
    "RatingsFile",
    "RatingsPrompt",
    "RatingsText",
    "TargetTexts",
]

RATIO_NAMES = ("classifier", "balance", "latent")

TargetTexts = Annotated[
    str | None,
    typer.Option(
        "--target-texts",
        metavar="FILE",
        help="Texts of the target policies where nobody has log-probabilities: columns policy (or "
        "one policy, named after the file), text (and features); optional group, weight. The "
        "weights are estimated from the texts, in place of --policy, --logp-logging and --draws.",
        show_default="none",
        rich_help_panel="Policies",
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
        rich_help_panel="Method",
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
