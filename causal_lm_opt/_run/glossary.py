"""The words of a report, explained for a reader who is no statistician."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["GLOSSARY", "which_to_read"]

GLOSSARY = {
    "logging policy": "What decided which texts readers saw when the data were collected.",
    "target policy": "The policy asked about: another way of writing, or choosing, the texts.",
    "value": "The average outcome readers would have had, had the policy written the texts.",
    "interval": "Of 100 such studies, about 95 would give a 95% interval that holds the true "
    "value, provided the verdict's conditions hold.",
    "joint band": "An interval widened so that those of all policies hold together; read it when "
    "choosing the best of several.",
    "verdict": "Whether to believe the estimate and its interval: trustworthy, caution, or do not "
    "use, each with its reasons.",
    "sample mean": "The plain average of the logged outcomes: the logging policy's own value.",
    "Horvitz-Thompson": "Each outcome weighted by how much likelier the target is to write its "
    "text. Right if the logging probabilities are; often noisy.",
    "Hajek": "The same with weights scaled to average one. Steadier, and unmoved by where the "
    "outcome's scale begins.",
    "outcome regression": "A model of the outcome given the text, averaged over texts of the "
    "target. Right only if the model is.",
    "doubly robust": "The model's average, corrected by the weighted errors it makes on logged "
    "texts. Right if the logging probabilities or the model are.",
    "effective sample size (ESS)": "How many rows, all counted equally, the weighted rows are "
    "worth.",
    "largest share": "The part of all the weight that lies on one row.",
    "Pareto k": "How heavy the weights' tail is. Above 0.7 averages of the weights settle too "
    "slowly to be trusted.",
    "mean weight": "Should be 1; far from it, the probabilities are wrong or the policies write "
    "different texts.",
    "sd(log ratio)": "How far the target's probabilities are from the logging policy's, on the "
    "log scale. Above about 1.5 an estimate rests on few rows.",
    "unseen mass": "The part of the target's own texts that lies beyond every logged one.",
    "predicted coverage": "How often a 95% interval is expected to hold the truth, given what was "
    "never logged.",
    "residual": "The weighted mean error of the outcome model; its distance from zero tests the "
    "model.",
}

READ = {
    "dr": "Read the doubly robust row first: it is right if the logging probabilities or the "
    "outcome model are, and its interval counts both. The other rows show what it rests on.",
    "hajek": "Read the Hajek row first: it needs the logging probabilities and no outcome model. "
    "Horvitz-Thompson rests on the same, with more noise.",
    "or": "Outcome regression is all that these inputs allow: it is right only if its model is, "
    "and nothing here can correct it.",
    "ht": "Horvitz-Thompson is all that was asked for: right if the logging probabilities are, "
    "and often noisier than Hajek.",
}


def which_to_read(estimators: Iterable[str]) -> str:
    """Which estimator speaks for a policy and why; empty where there is none but the mean.

    >>> which_to_read(["mean", "hajek", "dr"])[:26]
    'Read the doubly robust row'
    >>> which_to_read(["mean"])
    ''
    """
    there = set(estimators)
    return next((READ[name] for name in READ if name in there), "")
