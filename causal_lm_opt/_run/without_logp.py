"""The report's chapter on weights that were estimated from texts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd

from causal_lm_opt._evaluation import Evaluation, Part
from causal_lm_opt._run.glossary import figure_cell, figure_of
from causal_lm_opt._run.numbers import MANY
from causal_lm_opt._run.page import Chapter, bullets, folded, paragraph, table
from causal_lm_opt._views import RatioView

__all__ = ["TITLE", "ratio_chapters", "ratio_facts", "ratio_markdown", "ratio_sentences"]

TITLE = "Without log-probabilities"
ASKED, FOUND = "What this rests on", "What the weights reach"
LEAD = (
    "Nobody said how likely each text was under the policy that wrote the log, or under the "
    "policies asked about. So the weights of the logged texts were estimated from the texts "
    "themselves: logged texts that look like a policy's own count more. {how}"
)
HOW = {
    "classifier": "Here a classifier learnt to tell the policy's texts from logged ones by their "
    "words (and the features named), each text by a fit that had not seen it; the odds it gives, "
    "calibrated, are the weights. Classifier is the default because it needs no choice of what "
    "matters in a text beforehand, and because it shows most plainly where texts do not overlap.",
    "balance": "Here the weights are those closest to equal ones that bring the averages of a few "
    "topics of the texts (and of the features named) to the policy's own. Outcomes that depend on "
    "these evenly are then valued right, and no weight is larger than that needs. Where no weights "
    "bring the averages together, they are brought within 0.02, 0.05, 0.1 or 0.2 standard "
    "deviations, the first that can be reached; the interval of the Hajek value does not allow for "
    "what is left, and the doubly robust value takes it out.",
    "latent": "Here each text was reduced to a few topics (and the features named), and the odds "
    "that a logistic regression on them gives are the weights. Their own noise is in the standard "
    "errors; which topics there are is taken as given.",
}
RESTS = (
    "Outcomes respond to a text only through what the weights, or the outcome model, are made of: "
    "the words, topics and features seen here (latent sufficiency). If readers respond to "
    "something else, such as a tone that these do not show, and the policies differ in it, the "
    "values are wrong and no figure in this report can see it.",
    "The log holds texts like all of the policy's, as far as these features go (latent "
    "positivity). The figures below check that.",
    "No hidden reason decided which readers got which texts.",
)
VERDICTS = (
    "Since the first cannot be checked, no verdict here is better than caution, and none is better "
    "than what the estimator itself says."
)
SENSITIVITY = (
    "Where the chapter on hidden confounding speaks of stated probabilities, read: the estimated "
    "weights."
)
#: Figures of a policy, in the order of the table.
SHOWN = ("ess", "ratio_auc", "ratio_mean_weight", "ratio_unseen_mass", "ratio_calibration_slope",
         "ratio_curvature_z", "ratio_max_smd_unweighted", "ratio_max_smd",
         "readable_smd_unweighted", "readable_smd")  # fmt: skip
MOST_FEATURES = 14
WORST = 6  # features in the table
HUGE = 10  # standard deviations
CALIBRATION = ("ratio_calibration_slope", "ratio_curvature_z")
COLUMNS = ("Feature", "Before", "After", "Std. error")
CAPTION = (
    "How far the averages of readable features lie apart between logged and policy's texts, in "
    "standard deviations: before weighting (hollow) and after (filled). Filled points near zero "
    "mean that the weighted log looks like the policy's texts."
)


# ------------------------------------------------------------------------------ words
def ratio_sentences(view: RatioView) -> list[str]:
    """What was found of a policy's weights, in sentences."""
    found = view.found
    if found is None:
        return [f"{view.policy}: out of reach. {view.why}"]
    said = [
        f"{view.policy}: {_apart(found.auc)} Weighted towards its {found.m:,.0f} texts, the "
        f"{found.n:,.0f} logged rows are worth {figure_cell(found.ess, 'count')}. "
        + _unseen(found.unseen_mass)
    ]
    if view.balance is not None:
        b = view.balance
        said[0] += (
            f" The largest difference of {len(b.table)} readable features is "
            f"{b.max_unweighted:.2f} standard deviations before weighting and "
            f"{b.max_weighted:.2f} after."
        )
    return said + [f"{view.policy}: {text}" for _, text in found.findings]


def _apart(auc: float) -> str:
    """How well the ratio tells the two kinds of texts apart.

    >>> _apart(0.57)
    'of a text of the policy and a logged one, the weights pick the right one in 57 of 100 pairs.'
    """
    if math.isnan(auc):
        return ""
    pairs = f"{100 * auc:.0f} of 100 pairs" if auc < 0.995 else "nearly every pair"
    said = f"of a text of the policy and a logged one, the weights pick the right one in {pairs}"
    return f"{said}: the two kinds of texts hardly mix." if auc > 0.95 else f"{said}."


def _unseen(share: float) -> str:
    if share == 0.0:
        return "None of its texts lies beyond every logged one."
    return f"Of its texts, {figure_cell(share, 'share')} lie beyond every logged one."


def _title(part: Part, *, several: bool) -> str:
    return f"{TITLE} ({part.title})" if several else TITLE


def _lead(part: Part) -> str:
    return LEAD.format(how=HOW.get(part.ratios[0].kind, "")).rstrip()


def _verdicts(part: Part) -> str:
    return f"{VERDICTS} {SENSITIVITY}" if part.sensitivity is not None else VERDICTS


# ------------------------------------------------------------------------------ tables
def _figure_cells(views: Sequence[RatioView]) -> tuple[list[str], list[list[str]]]:
    """Keys of the figures that some policy has, and a row of cells for each."""
    keys = [k for k in SHOWN if any(_defined(v.figures.get(k)) for v in views)]
    if not any(v.found is not None and v.found.odds for v in views):
        keys = [k for k in keys if k not in CALIBRATION]  # balancing weights need not be odds
    cells = [[figure_cell(v.figures.get(k), figure_of(k).kind) for v in views] for k in keys]
    return keys, cells


def _defined(value: float | None) -> bool:
    return value is not None and not math.isnan(value)


def _worst(view: RatioView) -> pd.DataFrame:
    """The features farthest out of balance, after weighting first."""
    assert view.balance is not None
    lines = view.balance.table
    order = lines["smd_weighted"].abs().sort_values(ascending=False, kind="stable").index
    return lines.loc[order[:WORST]]


def _error(size: float) -> str:
    """A standard error; of an average to which hardly any row contributes, in words."""
    return f"{size:.2f}" if size < HUGE else f"over {HUGE}"


def _worst_cells(view: RatioView) -> list[list[str]]:
    return [
        [str(r["feature"]), *(f"{r[c]:.2f}" for c in ("smd_unweighted", "smd_weighted")),
         _error(float(r["se_weighted"]))]
        for r in _worst(view).to_dict("records")
    ]  # fmt: skip


# ------------------------------------------------------------------------------ the page
def ratio_chapters(evaluation: Evaluation) -> list[Chapter]:
    """A chapter for each part whose weights were estimated from texts."""
    several = len(evaluation.parts) > 1
    return [
        Chapter(_title(part, several=several), _chapter(part))
        for part in evaluation.parts
        if part.ratios
    ]


def _chapter(part: Part) -> str:
    views = part.ratios
    body = paragraph(_lead(part)) + f"<h3>{ASKED}</h3>" + bullets(RESTS)
    body += (
        paragraph(_verdicts(part))
        + f"<h3>{FOUND}</h3>"
        + bullets([said for view in views for said in ratio_sentences(view)])
    )
    reached = [v for v in views if v.found is not None]
    body += _figures(reached) if reached else ""
    for k, view in enumerate(reached):
        shown = _balance(view, f"{part.key}-ratio-{k}", figures=part.figures and k < MANY)
        head = f"Balance reached: {view.policy}"
        body += f"<h3>{escape(head)}</h3>{shown}" if k == 0 else folded(head, shown)
    return body


def _figures(views: Sequence[RatioView]) -> str:
    """The figures of all policies, whichever way round is narrower; what they mean below."""
    keys, cells = _figure_cells(views)
    side, head = [figure_of(k).name for k in keys], [v.policy for v in views]
    if len(views) > len(keys):
        side, head, cells = head, side, [list(c) for c in zip(*cells, strict=True)]
    rows = [[escape(name), *map(escape, line)] for name, line in zip(side, cells, strict=True)]
    corner = "Figure" if len(views) <= len(keys) else "Policy"
    caption = f"How the weights were made: {', '.join(_labels(views))}"
    shown = table(caption, [corner, *head], rows, ["", *("n" for _ in head)])
    told = [f"{figure_of(k).name}: {figure_of(k).meaning}" for k in keys]
    return shown + folded("What these figures mean", bullets(told))


def _labels(views: Sequence[RatioView]) -> list[str]:
    return list(dict.fromkeys(v.found.label for v in views if v.found is not None))


def _balance(view: RatioView, key: str, *, figures: bool) -> str:
    if view.balance is None:
        return paragraph(f"Not available: {view.why}")
    rows = [[escape(cell) for cell in line] for line in _worst_cells(view)]
    caption = f"The {len(rows)} features farthest apart after weighting, of "
    caption += f"{len(view.balance.table)}, in standard deviations"
    lines = table(caption, list(COLUMNS), rows, ["", "n", "n", "n"])
    if not figures:
        return lines
    from causal_lm_opt import plots  # loads matplotlib

    features = view.balance.table
    ax: Any = plots.love_plot(
        features, n_features=MOST_FEATURES,
        ax=plots.new_axes(plots.love_height(min(len(features), MOST_FEATURES))),
    )  # fmt: skip
    svg = plots.to_svg(
        ax.figure, key=key, title=f"Balance reached: {view.policy}",
        description=f"{CAPTION} The table has the worst.",
    )  # fmt: skip
    said = f"<figcaption><p>{escape(CAPTION)}</p></figcaption>"
    return f'<figure class="main">{svg}{said}</figure>' + lines


# ------------------------------------------------------------------------------ other formats
def ratio_markdown(evaluation: Evaluation) -> list[str]:
    """The chapters as Markdown blocks."""
    from causal_lm_opt._run.markdown import _bullets, _table, escaped

    several, out = len(evaluation.parts) > 1, []
    for part in evaluation.parts:
        if not part.ratios:
            continue
        out += [f"## {escaped(_title(part, several=several))}", escaped(_lead(part))]
        out += [f"### {ASKED}", _bullets(RESTS), escaped(_verdicts(part)), f"### {FOUND}"]
        out.append(_bullets([said for view in part.ratios for said in ratio_sentences(view)]))
        reached = [v for v in part.ratios if v.found is not None]
        if not reached:
            continue
        keys, cells = _figure_cells(reached)
        head = ["figure", *(escaped(v.policy) for v in reached)]
        rows = [[figure_of(k).name, *line] for k, line in zip(keys, cells, strict=True)]
        out.append(_table(head, rows, set(range(1, len(head)))))
        balanced = [v for v in reached if v.balance is not None]
        lines = [[escaped(v.policy), *map(escaped, c)] for v in balanced for c in _worst_cells(v)]
        if lines:
            out.append("Features farthest apart after weighting, in standard deviations:")
            out.append(_table(["policy", *(c.lower() for c in COLUMNS)], lines, {2, 3, 4}))
    return out


def ratio_facts(part: Part) -> Mapping[str, Any]:
    """What a program may want, under the key ``estimated_ratios``; empty with log-probabilities."""
    if not part.ratios:
        return {}
    return {
        "estimated_ratios": {
            "ratio": part.ratios[0].kind, "rests_on": list(RESTS),
            "policies": [_policy_facts(view) for view in part.ratios],
        }
    }  # fmt: skip


def _policy_facts(view: RatioView) -> dict[str, Any]:
    if view.found is None:
        return {"policy": view.policy, "reached": False, "reason": view.why}
    found = view.found
    features = [] if view.balance is None else view.balance.table.to_dict("records")
    return {
        "policy": view.policy, "reached": True, "made_by": found.label,
        "estimator": view.estimator, "verdict": view.verdict, "figures": view.figures,
        "findings": [text for _, text in found.findings],
        "reliability": found.reliability.to_dict("records"), "balance": features,
    }  # fmt: skip
