"""The report's chapter on hidden confounding and wrong logging probabilities."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd

from causal_lm_opt._evaluation import LABELS, Doubt, Evaluation, Part
from causal_lm_opt._run.numbers import decimals_for, interval, named, number, percent
from causal_lm_opt._run.page import Chapter, bullets, folded, paragraph, table
from causal_lm_opt._sensitivity import OMITTED, TIMES, Omitted

__all__ = ["TITLE", "doubt_sentence", "omitted_sentence", "sensitivity_chapters",
           "sensitivity_facts", "sensitivity_markdown"]  # fmt: skip

TITLE = "What if readers and texts were matched by something hidden?"
LEAD = (
    "The answers above take two things for granted: that chance, with the stated probabilities, "
    "decided which reader got which text, and that these probabilities are right. Here is how far "
    "the differences between policies could be off if one of the two does not hold. They are two "
    "different doubts, and a small strength of one says nothing of the other. The bounds do not "
    "say that anything is wrong; they say how wrong it would have to be. The logging policy's own "
    "value is the mean that was observed: neither doubt moves it, so in a difference from it only "
    "the other policy's value is in doubt. Intervals here are quantiles of bootstrap resamples: "
    "at strength 1 they are near those above, and not the same."
)
HEADINGS = {
    "hidden_confounder": "(A) Something hidden decided who got what",
    "logging_probabilities": "(B) The stated probabilities are wrong",
    OMITTED: "(A) once more: how strong is that, beside what was recorded?",
}
EXPLAINED = {
    "hidden_confounder": (
        "Suppose that something nobody recorded, such as interest in the topic, did two things: "
        "it made some readers likelier to get certain texts, and it moved their outcomes. Lambda "
        "(Λ) is its strength: at Λ = 1.25 it made no text more than 1.25 times likelier for any "
        "reader, nor more than 1.25 times less likely, than stated. On average over readers the "
        "stated probabilities still hold. Where an experiment dealt the texts at random, Λ is 1."
    ),
    "logging_probabilities": (
        "Suppose that nothing is hidden, but the probabilities stated for the logged texts are "
        "off: scored with another version of the model, at another temperature or with another "
        "prompt, or read off a design that was not kept to. Lambda (Λ) is how wrong they are: at "
        "Λ = 1.25 no text's probability is off by more than a factor of 1.25 either way, apart "
        "from one factor common to all texts; rows of one text share its error. The bounds hold "
        "for the worst pattern of such errors, however odd."
    ),
    OMITTED: (
        "A strength Λ is hard to picture. Here the hidden factor is measured by what it would "
        "explain: a share of the variation of outcomes that the outcome model leaves, and a share "
        "of the variation of the right weights (of their difference, for two policies that are "
        "both weighted). The features "
        "that were recorded serve as a yardstick: a factor as strong as a feature moves outcomes "
        "and weights by as much as that feature does beyond the other features, one twice as "
        "strong by twice as much variance. Whether anything hidden may be that strong is for you "
        "to judge. Where chance dealt the texts, nothing hidden moves the weights, and the second "
        "share is 0."
    ),
}
#: Subject and verb of the sentence on where a claim falls, with the strength in words.
CULPRITS = {
    "hidden_confounder": (
        "a hidden factor that made some readers {} times likelier (or less likely) to be given "
        "some texts"
    ),
    "logging_probabilities": "stated probabilities that are wrong by a factor of {} at some texts",
}
CAPTION = (
    "Bounds of the difference against the strength Λ, darker; paler, with dashed ends, their "
    "{} interval, which allows for chance too."
)
CROSS = " At the cross the difference may be zero."
COLUMNS = ("Λ", "Difference lies within")
OMITTED_CAPTION = (
    "Along a curve the bias is at most the size at its end. Letters are hidden factors as strong "
    "as a recorded feature, or twice. Where it is hatched the difference (in the plot: the value) "
    "may be zero, chance left aside."
)
OMITTED_COLUMNS = ("Hidden factor", "Explains of outcomes", "Of weights", "Difference lies within")


# ------------------------------------------------------------------------------ words
def times(strength: float) -> str:
    """A strength in words, never rounded to 1.

    >>> times(1.034), times(1.0004), times(12.34), times(250.0)
    ('1.03', 'barely more than 1', '12', '250')
    """
    if strength < 1.005:
        return "barely more than 1"
    return f"{strength:.2f}" if strength < 10 else f"{strength:.0f}"


def doubt_sentence(doubt: Doubt, decimals: int) -> str:
    """Where the difference's sign stops being sure, in words."""
    side = "above" if doubt.value >= 0 else "below"
    size = number(abs(doubt.value), decimals)
    claim = f"{doubt.policy}, {size} {side} {named(doubt.reference)} ({LABELS[doubt.estimator]})"
    culprit = CULPRITS[doubt.violation].format(
        "1,000" if math.isinf(doubt.strength) else times(doubt.strength)
    )
    if doubt.strength <= 1.0:
        return f"{claim}: there is no difference to undo."
    if doubt.strength_ci <= 1.0:
        also = "but not even" if math.isinf(doubt.strength) else "and so could"
        return f"{claim}: chance alone could undo it, {also} {culprit}."
    if math.isinf(doubt.strength_ci):
        return f"{claim}: not even {culprit} would undo it, chance allowed for."
    said = f"{culprit} could be enough to undo it"
    if math.isinf(doubt.strength):
        said = f"not even {culprit} would undo it"
    return (
        f"{claim}: {said}; allowing for chance as well, a strength of {times(doubt.strength_ci)}."
    )


def omitted_sentence(doubt: Omitted, decimals: int) -> str:
    """Where the difference's sign stops being sure, by explained shares, in words."""
    side = "above" if doubt.value >= 0 else "below"
    size = number(abs(doubt.value), decimals)
    claim = f"{doubt.policy}, {size} {side} {named(doubt.reference)} ({LABELS[doubt.estimator]})"
    if doubt.strength <= 0.0:
        return f"{claim}: there is no difference to undo."
    factor = f"a hidden factor that explained {explained(doubt.strength)} of both"
    if doubt.strength_ci <= 0.0:
        return f"{claim}: chance alone could undo it, and so could {factor}."
    said = (
        f"{claim}: {factor} could be enough to undo it; allowing for chance as well, one that "
        f"explained {explained(doubt.strength_ci)} of both."
    )
    last = doubt.table.iloc[min(2, len(doubt.table) - 1)]  # twice the strongest feature
    if last["ci_lower"] <= 0.0 <= last["ci_upper"]:
        able = "could" if last["lower"] <= 0.0 <= last["upper"] else "could, with chance,"
        return f"{said} One {last['confounder']} {able} be enough."
    return f"{said} One {last['confounder']} would not, chance allowed for."


def explained(share: float) -> str:
    """A share in words.

    >>> explained(0.1234), explained(0.004), explained(0.0), explained(0.00002)
    ('12%', '0.40%', '0%', 'below 0.01%')
    """
    if share == 0.0:
        return "0%"
    if share < 1e-4:
        return "below 0.01%"
    return f"{share:.2%}" if share < 0.01 else f"{share:.0%}"


def _title(part: Part, *, several: bool) -> str:
    return f"{TITLE} ({part.title})" if several else TITLE


def _by_violation(part: Part) -> dict[str, list[Doubt]]:
    """Doubts of each violation, in the order of the policies."""
    found: dict[str, list[Doubt]] = {}
    if part.sensitivity is None:
        return found
    order = {p: k for k, p in enumerate(dict.fromkeys(r.policy for r in part.rows))}
    for violation in HEADINGS:
        mine = [d for d in part.sensitivity.doubts if d.violation == violation]
        if mine:
            found[violation] = sorted(mine, key=lambda d: order[d.policy])
    return found


def _decimals(doubts: Sequence[Doubt]) -> int:
    """Decimals by the intervals' half widths without a violation."""
    return decimals_for(
        float(d.table["ci_upper"].iloc[0] - d.table["ci_lower"].iloc[0]) / 4 for d in doubts
    )


def _first(doubts: Sequence[Doubt], part: Part) -> str:
    """The policy with the largest value among those shown."""
    names = {d.policy: d.estimator for d in doubts}
    values = {
        r.policy: r.value
        for r in part.rows
        if not r.subgroup and names.get(r.policy) == r.estimator
    }
    return max(names, key=lambda p: values[p])


# ------------------------------------------------------------------------------ the page
def sensitivity_chapters(evaluation: Evaluation) -> list[Chapter]:
    """A chapter for each part that was asked; none without ``--sensitivity``."""
    several = len(evaluation.parts) > 1
    return [
        Chapter(_title(part, several=several), _chapter(part, evaluation.level))
        for part in evaluation.parts
        if part.sensitivity is not None
    ]


def _chapter(part: Part, level: float) -> str:
    assert part.sensitivity is not None
    found = _by_violation(part)
    body = paragraph(LEAD)
    for violation, doubts in found.items():
        decimals = _decimals(doubts)
        body += f"<h3>{escape(HEADINGS[violation])}</h3>" + paragraph(EXPLAINED[violation])
        body += bullets([_sentence(d, decimals) for d in doubts])
        first = _first(doubts, part)
        for k, doubt in enumerate(doubts):
            show = _shown_omitted if isinstance(doubt, Omitted) else _shown
            shown = show(doubt, part, level, decimals, f"{part.key}-{violation}-{k}")
            head = f"{doubt.policy} against {named(doubt.reference)}"
            opened = doubt.policy == first
            body += f"<h4>{escape(head)}</h4>{shown}" if opened else folded(head, shown)
    left = [f"Left out: {why}" for why in part.sensitivity.left_out]
    return body + bullets(left)


def _shown(doubt: Doubt, part: Part, level: float, decimals: int, key: str) -> str:
    """Plot and table of one difference."""
    columns = [*COLUMNS, f"{percent(level)} interval"]
    caption = f"{doubt.policy} minus {doubt.reference}: difference of the mean of {part.unit}"
    rows = [[escape(cell) for cell in row] for row in _cells(doubt, decimals)]
    lines = table(caption, columns, rows, ["", "n", "n"])
    if not part.figures:
        return lines
    from causal_lm_opt import plots  # loads matplotlib

    drawn = near_breakdown(doubt)
    ax: Any = plots.sensitivity_plot(
        drawn, claim=0.0, breakdown=doubt.strength, level=level, unit=part.unit,
        difference=True, ax=plots.new_axes(3.8),
    )  # fmt: skip
    said = CAPTION.format(percent(level))
    if doubt.strength <= drawn["lambda"].max():
        said += CROSS
    svg = plots.to_svg(
        ax.figure, key=key.replace("_", "-"), title=f"{HEADINGS[doubt.violation]}: {doubt.policy}",
        description=f"{said} The table has the figures.",
    )  # fmt: skip
    caption = f"<figcaption><p>{escape(said)}</p></figcaption>"
    return f'<figure class="main">{svg}{caption}</figure>' + lines


def _sentence(doubt: Doubt, decimals: int) -> str:
    if isinstance(doubt, Omitted):
        return omitted_sentence(doubt, decimals)
    return doubt_sentence(doubt, decimals)


def _shown_omitted(doubt: Any, part: Part, level: float, decimals: int, key: str) -> str:
    """Plot and table of one difference beside recorded features."""
    columns = [*OMITTED_COLUMNS, f"{percent(level)} interval"]
    caption = f"{doubt.policy} minus {doubt.reference}: difference of the mean of {part.unit}"
    shown = len(doubt.benchmarks) // len(TIMES)
    if doubt.n_features > shown:
        caption += f" (the strongest {shown} of {doubt.n_features} features)"
    rows = [[escape(cell) for cell in row] for row in _omitted_cells(doubt, decimals)]
    lines = table(caption, columns, rows, ["", "n", "n", "n", "n"])
    if not part.figures:
        return lines
    from causal_lm_opt import plots  # loads matplotlib

    height = 4.2 + 0.18 * len(doubt.benchmarks)
    ax: Any = plots.confounder_plot(
        doubt.bound, benchmarks=doubt.benchmarks, null=0.0, unit=part.unit,
        ax=plots.new_axes(height),
    )  # fmt: skip
    svg = plots.to_svg(
        ax.figure, key=key.replace("_", "-"), title=f"{HEADINGS[OMITTED]}: {doubt.policy}",
        description=f"{OMITTED_CAPTION} The table has the figures.",
    )  # fmt: skip
    told = f"<figcaption><p>{escape(OMITTED_CAPTION)}</p></figcaption>"
    return f'<figure class="main">{svg}{told}</figure>' + lines


def _omitted_cells(doubt: Omitted, decimals: int) -> list[list[str]]:
    return [
        [
            r["confounder"], explained(r["outcome"]), explained(r["weight"]),
            interval(r["lower"], r["upper"], decimals),
            interval(r["ci_lower"], r["ci_upper"], decimals),
        ]
        for r in doubt.table.to_dict("records")
    ]  # fmt: skip


def near_breakdown(doubt: Doubt) -> pd.DataFrame:
    """The strengths worth drawing: a breakdown at 1.03 cannot be seen on an axis up to 3."""
    grid = doubt.table["lambda"]
    wanted = max(1.25, doubt.strength**3) if doubt.strength > 1 else math.inf
    last = min([x for x in grid if x >= wanted], default=grid.max())
    kept: pd.DataFrame = doubt.table.loc[grid <= last]
    return kept


def _cells(doubt: Doubt, decimals: int) -> list[list[str]]:
    return [
        [
            f"{r['lambda']:.4g}", interval(r["lower"], r["upper"], decimals),
            interval(r["ci_lower"], r["ci_upper"], decimals),
        ]
        for r in doubt.table.to_dict("records")
    ]  # fmt: skip


# ------------------------------------------------------------------------------ other formats
def sensitivity_markdown(evaluation: Evaluation) -> list[str]:
    """The chapters as Markdown blocks: words, and one table a violation."""
    from causal_lm_opt._run.markdown import _bullets, _table, escaped

    several, out = len(evaluation.parts) > 1, []
    for part in evaluation.parts:
        if part.sensitivity is None:
            continue
        out += [f"## {escaped(_title(part, several=several))}", escaped(LEAD)]
        for violation, doubts in _by_violation(part).items():
            decimals = _decimals(doubts)
            out += [f"### {escaped(HEADINGS[violation])}", escaped(EXPLAINED[violation])]
            out.append(_bullets([_sentence(d, decimals) for d in doubts]))
            columns = OMITTED_COLUMNS if violation == OMITTED else COLUMNS
            head = ["policy", "minus", *columns, f"{percent(evaluation.level)} interval"]
            rows = [
                [escaped(d.policy), escaped(d.reference), *map(escaped, cells)]
                for d in doubts
                for cells in (
                    _omitted_cells(d, decimals) if isinstance(d, Omitted) else _cells(d, decimals)
                )
            ]
            out.append(_table(head, rows, set(range(len(head))) - {0, 1} - _words(violation)))
        out.append(_bullets([f"Left out: {why}" for why in part.sensitivity.left_out]))
    return out


def _words(violation: str) -> set[int]:
    """Columns of a Markdown table that hold words."""
    return {2} if violation == OMITTED else set()


def sensitivity_facts(part: Part) -> Mapping[str, Any]:
    """What a program may want, under the key ``sensitivity``; empty where nobody asked."""
    if part.sensitivity is None:
        return {}
    doubts = [
        {
            "policy": d.policy, "reference": d.reference, "estimator": LABELS[d.estimator],
            "violation": d.violation, "breakdown": d.strength, "breakdown_ci": d.strength_ci,
            "holds_at_all_tried": math.isinf(d.strength),
            "bounds": d.table.to_dict("records"),
        }
        for d in part.sensitivity.doubts
        if not isinstance(d, Omitted)
    ]  # fmt: skip
    omitted = [
        {
            "policy": d.policy, "reference": d.reference, "estimator": LABELS[d.estimator],
            "explained_to_undo": d.strength, "explained_to_undo_ci": d.strength_ci,
            "scale": d.bound.scale, "scale_se": d.bound.scale_se,
            "confounders": d.table.to_dict("records"),
        }
        for d in part.sensitivity.doubts
        if isinstance(d, Omitted)
    ]  # fmt: skip
    return {
        "sensitivity": {
            "n_bootstrap": part.sensitivity.n_bootstrap, "doubts": doubts, OMITTED: omitted,
            "left_out": part.sensitivity.left_out,
        }
    }  # fmt: skip
