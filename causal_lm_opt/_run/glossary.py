"""The words of a report, explained for a reader who is no statistician."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from causal_lm_opt._evaluation import LABELS

__all__ = [
    "BAND_OF_SUBGROUPS",
    "FIGURES",
    "GLOSSARY",
    "TRAINING",
    "Figure",
    "figure_cell",
    "figure_of",
    "which_to_read",
]


@dataclass(frozen=True)
class Figure:
    """How a page shows a diagnostic figure: its name, its kind of number, what it means."""

    name: str
    kind: Literal["count", "share", "number"]
    meaning: str


#: Diagnostic figures by their keys in diagnostics.json, in the order of tables.
FIGURES = {
    "n": Figure("rows", "count", "Logged rows that the estimate rests on."),
    "clusters": Figure(
        "effective clusters", "count", "How many independent groups of equal size the rows are "
        "worth.",
    ),
    "ess": Figure(
        "effective sample size (ESS)", "count", "How many rows, all counted equally, the weighted "
        "rows are worth.",
    ),
    "ess_share": Figure(
        "ESS per row", "share", "The effective sample size as a part of the logged rows.",
    ),
    "largest_share": Figure(
        "largest share", "share", "The part of all the weight that lies on one row.",
    ),
    "zero_share": Figure(
        "rows never written", "share", "The part of the logged rows that the target never writes: "
        "their weight is 0.",
    ),
    "pareto_k": Figure(
        "Pareto k", "number", "How heavy the weights' tail is. Above 0.7 averages of the weights "
        "settle too slowly to be trusted.",
    ),
    "mean_weight": Figure(
        "mean weight", "number", "Should be 1; far from it, the probabilities are wrong or the "
        "policies write different texts.",
    ),
    "mean_weight_z": Figure(
        "mean weight, z", "number", "The mean weight's distance from 1, in standard errors.",
    ),
    "sd_log_ratio": Figure(
        "sd(log ratio)", "number", "How far the target's probabilities are from the logging "
        "policy's, on the log scale. Above about 1.5 an estimate rests on few rows.",
    ),
    "unseen_mass": Figure(
        "unseen mass", "share", "The part of the target's own texts that lies beyond every logged "
        "one.",
    ),
    "unseen_variance": Figure(
        "unseen variance", "share", "The part of the weights' variability that lies beyond the "
        "logged texts, where the sample cannot show it.",
    ),
    "unsupported_mass": Figure(
        "unsupported mass", "share", "The part of the target's own texts that the logger never "
        "writes.",
    ),
    "predicted_coverage": Figure(
        "predicted coverage", "share", "How often a 95% interval is expected to hold the truth, "
        "given what was never logged.",
    ),
    "coverage_over_logs": Figure(
        "coverage over logs", "share", "How often a 95% interval holds the truth in logs drawn "
        "anew from this one and the policy's draws.",
    ),
    "interval_too_low": Figure(
        "interval too low", "share", "How often a 95% interval is expected to lie wholly below the "
        "truth; 2.5% is due.",
    ),
    "missing_in_se": Figure(
        "missing, in SEs", "number", "How far the texts that were never logged would move the "
        "value, in standard errors.",
    ),
    "se_dof": Figure(
        "degrees of freedom", "count", "How many independent pieces of information the standard "
        "error rests on.",
    ),
    "skewness": Figure(
        "skewness", "number", "How lopsided the estimate's errors are expected to be; 0 is even.",
    ),
    "agreement_z": Figure(
        "log against draws, z", "number", "How far the log and the draws disagree about the "
        "policies' probabilities, in standard errors.",
    ),
    "bias_bound": Figure(
        "bias bound", "number", "The most that changing the weights (such as capping them) may "
        "have moved the value, and about what an estimated ratio's penalty did; the interval is "
        "widened by it.",
    ),
    "plug_in": Figure(
        "model's average", "number", "The outcome model's average over the target's texts, before "
        "any correction.",
    ),
    "residual": Figure(
        "residual", "number", "The weighted mean error of the outcome model; its distance from "
        "zero tests the model.",
    ),
    "residual_se": Figure("residual, SE", "number", "The residual's standard error."),
    "weighted_residual": Figure(
        "weighted residual", "number", "The same for outcome regression, which is not corrected "
        "by it.",
    ),
    "weighted_residual_se": Figure(
        "weighted residual, SE", "number", "The weighted residual's standard error.",
    ),
    "ratio_auc": Figure(
        "told apart (AUC)", "number", "Weights estimated from texts: how often they tell a text of "
        "the policy from a logged one. 0.5 is a coin toss; near 1 the texts hardly mix.",
    ),
    "ratio_mean_weight": Figure(
        "mean estimated weight", "number", "Should be 1; far from it, the estimated weights do not "
        "fit, or the log lacks the policy's texts.",
    ),
    "ratio_unseen_mass": Figure(
        "unseen mass (estimated)", "share", "The part of the policy's texts that, by the estimated "
        "weights, lies beyond every logged one.",
    ),
    "ratio_empty_mass": Figure(
        "mass in empty cells", "share", "The part of the policy's texts of kinds that were never "
        "logged.",
    ),
    "ratio_calibration_slope": Figure(
        "calibration of the odds, slope", "number", "Should be 1: texts given odds of 3 to 1 are "
        "the policy's three times in four. Odds that were calibrated, or fitted on all rows, have "
        "it by construction; the bend then is what tests them.",
    ),
    "ratio_curvature_z": Figure(
        "calibration of the odds, bend (z)", "number", "How surely the odds are off in the middle "
        "or at the ends, in standard errors; beyond 3.3 their form is wrong.",
    ),
    "ratio_max_smd_unweighted": Figure(
        "largest imbalance before", "number", "Of what the weights are made of: the largest "
        "difference of an average between log and policy, in standard deviations.",
    ),
    "ratio_max_smd": Figure(
        "largest imbalance after", "number", "The same after weighting; above 0.1 is much.",
    ),
    "readable_smd_unweighted": Figure(
        "readable features, before", "number", "The largest such difference of readable features "
        "(words, length, style, columns), before weighting.",
    ),
    "readable_smd": Figure(
        "readable features, after", "number", "The same after weighting. It matters where outcomes "
        "respond to that feature.",
    ),
    "left_out_shift": Figure(
        "shift by what is left out", "number", "How far the value would move if readable features "
        "that the weights leave unbalanced were balanced too.",
    ),
    "left_out_z": Figure(
        "shift, z", "number", "That shift in standard errors: beyond 3.3 outcomes respond to "
        "something that the weights leave out.",
    ),
    "left_out_p_value": Figure(
        "response to a left-out feature, p", "number", "The chance of so sure a response of "
        "outcomes to one unbalanced feature, if there is none.",
    ),
    "unmet_share": Figure(
        "combinations never logged", "share", "The part of the policy's texts that combine two "
        "words or features as no logged text does, though chance would have made some.",
    ),
}  # fmt: skip


def figure_of(key: str) -> Figure:
    """The figure of a key; one that has no entry goes by its key.

    >>> figure_of("ess_share").name, figure_of("some_new_one").name
    ('ESS per row', 'some new one')
    """
    return FIGURES.get(key, Figure(key.replace("_", " "), "number", ""))


def figure_cell(value: Any, kind: str) -> str:
    """A figure as a table shows it: counts whole, shares as per cent, numbers to three digits.

    Numbers below 1e-6, such as the rounding of stored log-probabilities, are printed as 0.

    >>> figure_cell(1882.71, "count"), figure_cell(0.00059, "share"), figure_cell(1e-9, "number")
    ('1,883', '0.059%', '0')
    >>> figure_cell(None, "count"), figure_cell(0.9999, "share"), figure_cell(-0.5598, "number")
    ('', '99.99%', '-0.560')
    """
    if value is None:
        return ""
    if not isinstance(value, int | float):
        return str(value)
    if not math.isfinite(value):
        return "n/a" if math.isnan(value) else str(value)
    size = abs(value)
    if kind == "count":
        return f"{value:,.0f}" if size >= 100 else f"{value:.3g}"
    if kind == "share":
        percent = 0.0 if size < 1e-8 else 100 * value
        return f"{percent:.4g}%" if percent > 99 else f"{percent:.2g}%"
    if size < 1e-6:
        return "0"
    if size >= 1e6 or size < 1e-3:
        return f"{value:.2g}"
    return f"{value:,.{0 if size >= 100 else 2 if size >= 1 else 3}f}"


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
    "estimated weights": "Where log-probabilities are lacking: how much likelier the target seems "
    "to write a text than the logging policy, judged by features of their texts.",
    "outcome regression": "A model of the outcome given the text, averaged over texts of the "
    "target. Right only if the model is.",
    "doubly robust": "The model's average, corrected by the weighted errors it makes on logged "
    "texts. Right if the logging probabilities or the model are.",
    **{figure.name: figure.meaning for figure in FIGURES.values()},
}

#: Words of a training run's report alone.
TRAINING = {
    "policy": "A way of writing texts: here a language model, which writes some texts more often "
    "than others.",
    "start, f0": "The model before training for the outcome. By default it was first taught to "
    "write texts like those of the log.",
    "V(f), V(f0)": "The average outcome readers would have had, had the trained model (or the "
    "start) written the texts.",
    "train, select and report rows": "The log dealt into three parts that share no cluster: one to "
    "train on, one to choose by, one that is looked at once, for the values at the top.",
    "step": "One small change of the model's weights.",
    "checkpoint": "The model as it was after so many steps.",
    "model-based mean": "What the outcome model predicts, on average, for the model's own fresh "
    "texts. Training looks for texts of large predictions, errors included: no estimate.",
    "win rate": "How often one model's text is judged better than the other's; a tie counts half.",
    "accepted": "The trained model is returned only where the report rows' interval of the "
    "difference lies above 0 and its verdict is not 'do not use'; else the start is returned.",
}

READ = {
    "dr": "it is right if the logging probabilities or the outcome model are, and its interval "
    "counts both.",
    "hajek": "it is right if the logging probabilities are, and needs no outcome model.",
    "or": "it is right only if its model is, and nothing here can correct it.",
    "ht": "it is right if the logging probabilities are, and often noisier than Hajek.",
}


BAND_OF_SUBGROUPS = (
    "The joint bands hold for all policies and subgroups of an estimator together, but for those "
    "that are not to be used: read them when looking for a subgroup in which a policy differs."
)


def which_to_read(estimators: Iterable[str], *, estimated: bool = False) -> str:
    """Which estimator speaks for a policy and why; empty where there is none but the mean.

    ``estimated``: weights were estimated from texts, in place of logging probabilities.

    >>> which_to_read(["mean", "hajek", "dr"])[:26]
    'Read the doubly robust row'
    >>> which_to_read(name for name in ("mean", "hajek"))[:30]
    'All values are Hajek estimates'
    >>> which_to_read(["mean"])
    ''
    """
    text = _which_to_read(set(estimators))
    return text.replace("the logging probabilities", "the estimated weights") if estimated else text


def _which_to_read(given: set[str]) -> str:
    there = [name for name in READ if name in given]
    if not there:
        return ""
    first, others = there[0], there[1:]
    if not others:
        return f"All values are {LABELS[first]} estimates. Of each: {READ[first]}"
    text = f"Read the {LABELS[first]} row first: {READ[first]}"
    if first == "dr":
        return f"{text} The other rows show what it rests on."
    if first == "hajek" and "ht" in others:
        text += " Horvitz-Thompson rests on the same, with more noise."
    if "or" in others:
        text += " Outcome regression is right only if its model is."
    return text
