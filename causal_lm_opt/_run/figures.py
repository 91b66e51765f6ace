"""What a page shows of one policy beyond its values: plots, checks in words, texts that count."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

import pandas as pd

from causal_lm_opt import plots
from causal_lm_opt._evaluation import LOGGING, MEAN, Part
from causal_lm_opt._run.numbers import percent
from causal_lm_opt._run.page import bullets, folded, paragraph, table
from causal_lm_opt._views import PolicyView, TextShare
from causal_lm_opt.diagnostics.trust import PARTS

__all__ = ["forest_figure", "policy_details"]

LONGEST_TEXT = 500
MOST_FEATURES = 20
ABOUT = {
    "overlap": "Where the logged texts lie, and where the policy's own texts do. The hatched part "
    "lies beyond every logged text: no weighting reaches it.",
    "weights": "How much of the weight the heaviest rows carry. A curve that shoots up means that "
    "few rows decide.",
    "balance": "Whether the weighted log looks like the policy's own texts: points near zero do.",
    "calibration": "Whether outcomes are where the outcome model puts them; on the line they are.",
    "path": "The value on the way from the logging policy (0) to the policy (1), solid where the "
    "diagnostics have nothing to say against it.",
}


def forest_figure(part: Part, level: float) -> str:
    """The values of a part, policy by policy; values that are not numbers are left to the table."""
    rows = [r for r in part.rows if math.isfinite(r.value) and not math.isnan(r.lower + r.upper)]
    if not rows:
        return ""
    table = pd.DataFrame(
        {
            "policy": [r.policy for r in rows], "estimator": [r.label for r in rows],
            "value": [r.value for r in rows], "ci_lower": [r.lower for r in rows],
            "ci_upper": [r.upper for r in rows], "verdict": [r.verdict for r in rows],
            "truth": [math.nan if r.truth is None else r.truth for r in rows],
        }
    )  # fmt: skip
    mean = next((r.value for r in rows if (r.policy, r.estimator) == (LOGGING, MEAN)), None)
    ax: Any = plots.forest_plot(
        table, level=level, reference=mean, unit=part.unit,
        ax=plots.new_axes(plots.forest_height(table)),
    )  # fmt: skip
    svg = plots.to_svg(
        ax.figure, key=f"{part.key}-forest", title=f"Values of {part.unit}",
        description=f"Estimates with {percent(level)} intervals, policy by policy; the same "
        "figures are in the table below.",
    )  # fmt: skip
    return f"<figure>{svg}</figure>"


def policy_details(view: PolicyView, unit: str, key: str) -> str:
    """Folded HTML of one policy; ``key`` makes its ids unique on the page."""
    body = paragraph(f"Estimator: {view.estimator}.", "soft")
    body += "".join(_figures(view, unit, key))
    body += bullets([f"{PARTS[part]}: {said}" for part, said in view.detail.sentences.items()])
    if view.by_weight:
        body += "<h4>Texts with the largest weight</h4>" + _texts(view.by_weight)
        body += "<h4>Texts with the largest influence on the value</h4>" + _texts(view.by_influence)
    return folded(f"What stands behind the value of {view.policy}", body)


def _figures(view: PolicyView, unit: str, key: str) -> list[str]:
    out = []

    def add(name: str, ax: Any, title: str) -> None:
        svg = plots.to_svg(ax.figure, key=f"{key}-{name}", title=f"{title}: {view.policy}",
                           description=ABOUT[name])  # fmt: skip
        out.append(f"<figure>{svg}<figcaption><p>{escape(ABOUT[name])}</p></figcaption></figure>")

    ell, drawn = view.log_ratio, view.drawn
    ax = plots.overlap_plot(
        ell, None if drawn is None else drawn[0], sample_weight=view.sample_weight,
        target_weight=None if drawn is None else drawn[1], exact=view.exact,
        ax=plots.new_axes(),
    )  # fmt: skip
    add("overlap", ax, "Log ratios")
    add("weights", plots.weights_plot(ell, view.sample_weight, ax=plots.new_axes()), "Weights")
    detail = view.detail
    if detail.balance is not None:
        features = detail.balance.table
        ax = plots.new_axes(plots.love_height(min(len(features), MOST_FEATURES)))
        ax = plots.love_plot(features, n_features=MOST_FEATURES, ax=ax)
        add("balance", ax, "Balance")
    if detail.calibration is not None:
        ax = plots.calibration_plot(detail.calibration.table, unit=unit, ax=plots.new_axes())
        add("calibration", ax, "Calibration of the outcome model")
    if view.path is not None:
        ax = plots.tilt_plot(view.path, unit=unit, ax=plots.new_axes())
        add("path", ax, "Value against shift strength")
    return out


def _texts(shares: Sequence[TextShare]) -> str:
    rows = [
        [
            f"<blockquote dir=\"auto\">{escape(_short(t.text))}</blockquote>", f"{t.rows:,.10g}",
            f"{t.outcome:.4g}", f"{t.share:.1%}", f"{-t.pull:+.3g}",
        ]
        for t in shares
    ]  # fmt: skip
    columns = ["Text", "Rows", "Mean outcome", "Share of weight", "Value moves without it by"]
    return table("", columns, rows, ["", "n", "n", "n", "n"])


def _short(text: str) -> str:
    if len(text) <= LONGEST_TEXT:
        return text
    return f"{text[:LONGEST_TEXT]} ... ({len(text):,} characters)"
