"""Blocks of options of the command line.

Light to import: nothing here loads NumPy.
"""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["RATIO_NAMES", "Ratio", "TargetTexts"]

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
