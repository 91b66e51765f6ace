"""A simulation study as a page: what was asked, the figures, how to read them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from causal_lm_opt import __version__
from causal_lm_opt._run.numbers import percent
from causal_lm_opt._run.optimize_page import (
    Block,
    Grid,
    Picture,
    Points,
    Section,
    html_page,
    markdown_page,
)
from causal_lm_opt.diagnostics.typicality import binomial_interval
from causal_lm_opt.simulation.study import Study, StudyResult

__all__ = ["how_sure", "reading", "study_files"]

Z = 1.96
TOLD_BIAS, CHANCE_BIAS = 3.0, 0.0027  # Monte-Carlo standard errors; share beyond them by chance
#: Name of each figure, its title for those who cannot see it, and what stands under it.
FIGURES: dict[Literal["bias", "coverage"], tuple[str, str]] = {
    "bias": (
        "Bias by estimator",
        "Mean estimate less the true value; bars: 95% Monte-Carlo intervals.",
    ),
    "coverage": (
        "Coverage of the intervals by estimator",
        "Share of intervals that hold the true value; bars: 95% Monte-Carlo intervals.",
    ),
}
WORDS = (
    "bias: mean of the estimates less the true value; +- its Monte-Carlo standard error, of which "
    "there is less the more replications.",
    "sd: spread of the estimates; se / sd: mean standard error over it, 1 where it is right.",
    "coverage: share of intervals that hold the true value, which the level promises.",
    "trustworthy: share of the replications with that verdict.",
    "as stated: these replications do not contradict that the intervals cover as they say; covers "
    "too little, covers more than stated: the 95% interval (Wilson) of the coverage lies below, or "
    "above, the level.",
    f"biased: the bias is more than {TOLD_BIAS:.0f} of its Monte-Carlo standard errors; beside it "
    "the bias in sd of the estimates.",
)
MOST_TOLD = 1000  # characters of a design's or an estimator's own description


def how_sure(level: float, replications: int) -> str:
    """How well so many replications tell a coverage, in a sentence."""
    error = Z * math.sqrt(level * (1 - level) / (replications + 4))
    told = (
        f"{replications:,} replications tell a coverage of {percent(level)} to about "
        f"{100 * error:.1f} points"
    )
    return f"{told} either way." if error < 0.03 else f"{told} either way: a look, and no proof."


def reading(row: Mapping[Any, Any], level: float) -> str:
    """What a line of the summary says of its estimator.

    >>> row = {"bias": 0.5, "bias_mc_se": 0.01, "sd": 0.2, "coverage": 0.4, "replications": 50}
    >>> reading(row, 0.95)
    'covers too little; biased (2.5 sd)'
    """
    said = []
    coverage = float(row["coverage"])
    if np.isfinite(coverage):
        runs = int(row["replications"]) - int(row.get("failures", 0) or 0)
        low, high = binomial_interval(coverage * runs, runs, method="wilson")
        if low <= level <= high:
            said.append("as stated")
        else:
            said.append("covers too little" if coverage < level else "covers more than stated")
    bias, spread = float(row["bias"]), float(row["sd"])
    if spread > 0 and abs(bias) > TOLD_BIAS * float(row["bias_mc_se"]):
        said.append(f"biased ({abs(bias) / spread:.1f} sd)")
    if int(row.get("failures", 0) or 0):
        said.append(f"{int(row['failures']):,} replications failed and are left out")
    return "; ".join(said)


def study_files(result: StudyResult) -> dict[str, str]:
    """A study's report: ``report.html``, ``report.md`` and the figures as SVG, by name.

    Beside them :meth:`StudyResult.write <causal_lm_opt.simulation.StudyResult.write>` puts the
    tables that they name.

    Parameters
    ----------
    result : StudyResult

    Returns
    -------
    dict
        Name of the file -> its content. ``coverage.svg`` only where there are intervals.

    Examples
    --------
    >>> from causal_lm_opt import IPW
    >>> from causal_lm_opt.report import study_files
    >>> from causal_lm_opt.simulation import GaussianDesign, run_study
    >>> near = {"near": GaussianDesign(shift=.3)}
    >>> done = run_study(near, {"Hajek": IPW()}, sizes=[50], replications=5, progress=False)
    >>> sorted(study_files(done))
    ['bias.svg', 'coverage.svg', 'report.html', 'report.md']
    """
    pictures = _pictures(result)
    files = {f"{name}.svg": svg for name, svg in pictures.items()}
    return files | _pages(result, pictures)


def _pictures(result: StudyResult) -> dict[Literal["bias", "coverage"], str]:
    """Bias and, where there are intervals, coverage as SVG.

    A study with more than two settings of both designs and sizes is drawn at its largest size.
    """
    from causal_lm_opt import plots  # loads matplotlib

    table = result.summary
    if table["design"].nunique() > 1 and table["n"].nunique() > 2:
        table = table[table["n"] == table["n"].max()]
    at = ", ".join(f"{n:,}" for n in dict.fromkeys(table["n"]))
    drawn = {}
    for name, (title, _) in FIGURES.items():
        if np.isfinite(table[name].to_numpy(dtype=np.float64)).any():
            axes = plots.new_axes(3.8)
            ax: Any = plots.plot_study(table, y=name, level=result.study.level, ax=axes)
            told = f"Rows: {at}. Figures: summary.csv."
            drawn[name] = plots.to_svg(ax.figure, key=name, title=title, description=told) + "\n"
    return drawn


def _pages(
    result: StudyResult, pictures: Mapping[Literal["bias", "coverage"], str]
) -> dict[str, str]:
    """``report.html`` and ``report.md``."""
    study, table = result.study, result.summary
    columns = ["Design", "Rows", "Estimator", "Reading", "Coverage", "Bias", "sd", "se / sd",
               "Trustworthy"]  # fmt: skip
    lines = [
        [
            str(row["design"]), f"{int(row['n']):,}", str(row["estimator"]),
            reading(row, study.level), _share(row["coverage"]),
            f"{_figure(row['bias'])} ± {_figure(row['bias_mc_se'])}", _figure(row["sd"]),
            _figure(row["se_over_sd"]), _share(row.get("share trustworthy", math.nan)),
        ]
        for row in table.to_dict("records")
    ]  # fmt: skip
    grid = Grid(
        f"{percent(study.level)} intervals; {how_sure(study.level, _fewest(result))}", columns,
        lines, ["w", "n", "w", "", *"nnnnn"],
    )  # fmt: skip
    shown: list[Block] = [Picture(svg, FIGURES[name][1]) for name, svg in pictures.items()]
    lines_told = len(result.summary)
    chance = (
        f"Of {lines_told:,} lines about {0.05 * lines_told:.1f} are expected to be told of their "
        f"coverage by chance alone, and {CHANCE_BIAS * lines_told:.2g} of their bias: run a line "
        "that surprises again, with another seed."
    )
    made = [
        f"{_fewest(result):,} replications of each design and size, seed {study.seed}.",
        f"Truth by design: {'; '.join(_truths(result))}.",
        "All figures: summary.csv; each replication: replications.csv.gz; settings: study.json.",
    ]
    sections = [
        Section("What was found", [grid, *shown]),
        Section("Words", [Points((*WORDS, chance))]),
        Section("How it was made", [Points(made), _simulated(study)]),
    ]
    lead = study.about or "How far are estimates from a truth that is known?"
    footer = f"causal-lm-opt {__version__}"
    return {
        "report.md": markdown_page("Simulation study", lead, sections, footer),
        "report.html": html_page("Simulation study", lead, sections, footer),
    }


def _simulated(study: Study) -> Grid:
    """What the names of designs and estimators stand for."""
    lines = [["design", name, _described(design)] for name, design in study.designs.items()]
    known: dict[str, Any] = {}
    for design in study.designs.values():
        known |= study.estimators_for(design)
    lines += [["estimator", name, _described(one)] for name, one in known.items()]
    return Grid("What the names stand for", ["", "Name", "Is"], lines, ["w", "w", ""])


def _described(thing: Any) -> str:
    """Its representation in one line, or its name where that would be an address."""
    said = getattr(thing, "__qualname__", None) or repr(thing)
    if " at 0x" in said:
        said = type(thing).__qualname__
    said = " ".join(said.split())
    return said if len(said) <= MOST_TOLD else said[: MOST_TOLD - 3] + "..."


def _fewest(result: StudyResult) -> int:
    return int(result.summary["replications"].min())


def _truths(result: StudyResult) -> list[str]:
    found = result.summary.drop_duplicates("design")
    return [f"{d} {_figure(t)}" for d, t in zip(found["design"], found["truth"], strict=True)]


def _figure(value: Any) -> str:
    return f"{float(value):.3g}" if np.isfinite(float(value)) else ""


def _share(value: Any) -> str:
    return f"{float(value):.1%}" if np.isfinite(float(value)) else ""
