"""What a page shows of one policy beyond its values: plots, checks in words, texts that count."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import pandas as pd

from causal_lm_opt import plots
from causal_lm_opt._evaluation import LOGGING, MEAN, Part, Row
from causal_lm_opt._run.numbers import percent
from causal_lm_opt._run.page import TURNS, bullets, folded, paragraph
from causal_lm_opt._views import PolicyView, TextShare
from causal_lm_opt.diagnostics.trust import PARTS
from causal_lm_opt.plots._theme import shown_text

__all__ = ["forest_figure", "policy_details"]

LONGEST_TEXT = 500
MOST_FEATURES = 14
BESIDE = 22  # letters of a name that stands beside its row
#: A path from the logging policy is not drawn where most logged rows leave it at its first step.
MOST_NEVER_WRITTEN = 0.5
#: Title and caption of a policy's plots.
ABOUT = {
    "overlap": (
        "Overlap",
        "Where the logged texts lie, and where the policy's own texts do: the further right, the "
        "more the policy favours a text. The hatched part lies beyond every logged text: no "
        "weighting reaches it.",
    ),
    "weights": (
        "Weights",
        "How much of the weight the heaviest rows carry. A curve that shoots up means that few "
        "rows decide.",
    ),
    "balance": (
        "Balance",
        "Whether the weighted log looks like the policy's own texts: filled points near zero do.",
    ),
    "calibration": (
        "Calibration of the outcome model",
        "Whether outcomes are where the outcome model puts them; on the dashed line they are.",
    ),
    "path": (
        "Value against shift strength",
        "The value on the way from the logging policy (0) to the policy (1), solid where the "
        "diagnostics have nothing to say against it.",
    ),
}


def forest_figure(
    part: Part,
    level: float,
    *,
    rows: Sequence[Row] | None = None,
    name: str = "forest",
    main: bool = False,
    caption: str = "",
) -> str:
    """The values of a part, policy by policy; values that are not numbers are left to the table.

    Parameters
    ----------
    part : Part
    level : float
        Of the intervals.
    rows : sequence of Row, optional
        Those to draw; by default all of the part.
    name : str
        Makes the figure's ids unique within the part.
    main : bool
        The page's own figure: larger, one row a policy, without estimators' names.
    caption : str
        Plain text under the plot.
    """
    shown = [
        r
        for r in (part.rows if rows is None else rows)
        if math.isfinite(r.value) and not math.isnan(r.lower + r.upper)
    ]
    if not shown:
        return ""
    names, labels = _names(shown, main=main)
    table = pd.DataFrame(
        {
            "policy": names, "estimator": labels,
            "value": [r.value for r in shown], "ci_lower": [r.lower for r in shown],
            "ci_upper": [r.upper for r in shown], "verdict": [r.verdict for r in shown],
            "truth": [math.nan if r.truth is None else r.truth for r in shown],
        }
    )  # fmt: skip
    logged = (r.value for r in part.rows if (r.policy, r.estimator) == (LOGGING, MEAN))
    mean = next((v for v in logged if math.isfinite(v)), None)
    ax: Any = plots.forest_plot(
        table, level=level, reference=mean, unit=part.unit,
        ax=plots.new_axes(plots.forest_height(table)),
    )  # fmt: skip
    svg = plots.to_svg(
        ax.figure, key=f"{part.key}-{name}", title=f"Values of {part.unit}",
        description=f"Estimates with {percent(level)} intervals, policy by policy; the same "
        "figures are in the table below.",
    )  # fmt: skip
    said = f"<figcaption><p>{escape(caption)}</p></figcaption>" if caption else ""
    kind = ' class="main"' if main else ""
    return f"<figure{kind}>{svg}{said}</figure>"


def _names(rows: Sequence[Row], *, main: bool) -> tuple[list[str], list[str]]:
    """What rows stand under, and what stands beside each: estimators, or groups of a policy."""
    names = [r.name for r in rows]
    if main:
        short = [shown_text(name, BESIDE) for name in names]
        return (short if len(set(short)) == len(set(names)) else names), ["value"] * len(rows)
    if not all(r.subgroup for r in rows):
        return names, [r.label for r in rows]
    return [r.policy for r in rows], [r.subgroup for r in rows]


def policy_details(view: PolicyView, unit: str, key: str) -> str:
    """Folded HTML of one policy; ``key`` makes its ids unique on the page."""
    body = paragraph(f"Estimator: {view.estimator}.", "soft")
    body += f'<div class="plots">{"".join(_figures(view, unit, key))}</div>'
    body += "<h4>Checks in words</h4>"
    body += bullets([f"{PARTS[part]}: {said}" for part, said in view.detail.sentences.items()])
    if view.by_weight:
        body += "<h4>Texts that count most</h4>" + paragraph(
            f"Texts with the largest weight ({len(view.by_weight)}), then those without which the "
            "value would move most.", "soft",
        )  # fmt: skip
        body += _texts(dict.fromkeys((*view.by_weight, *view.by_influence)))
    return folded(f"What stands behind the value of {view.policy}", body)


def _figures(view: PolicyView, unit: str, key: str) -> list[str]:
    out = []

    def add(name: str, ax: Any) -> None:
        title, told = ABOUT[name]
        svg = plots.to_svg(
            ax.figure, key=f"{key}-{name}", title=f"{title}: {view.policy}", description=told
        )
        said = f"<b>{escape(title)}.</b> {escape(told)}"
        out.append(f"<figure>{svg}<figcaption><p>{said}</p></figcaption></figure>")

    ell, drawn = view.log_ratio, view.drawn
    ax = plots.overlap_plot(
        ell, None if drawn is None else drawn[0], sample_weight=view.sample_weight,
        target_weight=None if drawn is None else drawn[1], exact=view.exact,
        ax=plots.new_axes(),
    )  # fmt: skip
    add("overlap", ax)
    add("weights", plots.weights_plot(ell, view.sample_weight, ax=plots.new_axes()))
    detail = view.detail
    if detail.balance is not None:
        features = detail.balance.table
        ax = plots.new_axes(plots.love_height(min(len(features), MOST_FEATURES)))
        add("balance", plots.love_plot(features, n_features=MOST_FEATURES, ax=ax))
    if detail.calibration is not None:
        ax = plots.calibration_plot(detail.calibration.table, unit=unit, ax=plots.new_axes())
        add("calibration", ax)
    if view.path is not None and view.path["zero_share"].iloc[-1] <= MOST_NEVER_WRITTEN:
        add("path", plots.tilt_plot(view.path, unit=unit, ax=plots.new_axes()))
    return out


def _texts(shares: Iterable[TextShare]) -> str:
    """Texts as quotations, each with its facts under it: a table would squeeze them on a phone."""
    items = []
    for t in shares:
        rows = f"{t.rows:,.10g} row{'' if t.rows == 1 else 's'}"
        share = f"{t.share:.1%}" if t.share >= 0.001 or t.share == 0 else "below 0.1%"
        facts = (
            f"{rows}, mean outcome {t.outcome:.4g}, {share} of the weight; "
            f"the value moves by {-t.pull:+.2g} without it."
        )
        quoted = escape(_short(t.text)).translate({c: f"&#{c};" for c in TURNS})
        items.append(
            f'<li><blockquote dir="auto">{quoted}</blockquote>{paragraph(facts, "soft")}</li>'
        )
    return f'<ol class="texts">{"".join(items)}</ol>'


def _short(text: str) -> str:
    if len(text) <= LONGEST_TEXT:
        return text
    return f"{text[:LONGEST_TEXT]} ... ({len(text):,} characters)"
