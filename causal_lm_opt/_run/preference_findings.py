"""What a finished study of preference rewards found, in sentences made of its figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from causal_lm_opt.simulation.preference_study import (
    BASE,
    LATENT,
    MULTI,
    TESTS,
    WEIGHTED,
    PreferenceStudy,
)
from causal_lm_opt.simulation.preference_tables import gap_ratio

__all__ = ["findings"]

FEW_SEEDS = 5
NEAR = 0.015  # of the accuracy at the first rho, which weights are to restore


def findings(
    study: PreferenceStudy,
    results: pd.DataFrame,
    summary: pd.DataFrame,
    gaps: pd.DataFrame,
    contrasts: pd.DataFrame,
) -> list[str]:
    """Sentences on each noise level; ``gaps`` and ``contrasts`` are the tables of those names."""
    said, seeds = [], int(results["seed"].nunique())
    if seeds < FEW_SEEDS:
        said.append(
            f"{seeds} seeds describe this run and decide nothing: intervals over so few are rough."
        )
    for noise in dict.fromkeys(results["noise"]):
        one = [t[t["noise"] == noise] for t in (results, summary, gaps, contrasts)]
        made = _latent(study, *one[:3]) if study.name == LATENT else _objectives(study, *one[1:])
        several = results["noise"].nunique() > 1
        said += [f"{noise} noise: {text}" if several else text for text in made]
    return said


def _latent(
    study: PreferenceStudy, results: pd.DataFrame, summary: pd.DataFrame, gaps: pd.DataFrame
) -> list[str]:
    first, second = TESTS[LATENT]
    base = summary[summary["model"] == BASE].sort_values("rho")
    ood = base[base["test"] == second]
    said = [
        f"Without weights ood accuracy is {_series(ood)}: {_monotone(ood['accuracy'])}.",
        f"Id accuracy is {_series(base[base['test'] == first])}.",
    ]
    rhos = sorted(set(results["rho"]))
    far = 0.9 if 0.9 in rhos else rhos[-1]
    start = rhos[0]
    at = {float(row["rho"]): row for row in gaps[gaps["model"] == BASE].to_dict("records")}
    text = (
        f"The gap of id to ood is {_interval(at[start], 'gap')} points at rho {start:g} and "
        f"{_interval(at[far], 'gap')} at {far:g}"
    )
    if at[start]["gap"] > 0.01:  # a ratio to nothing says nothing
        ratio = gap_ratio(results, (first, second), far, start)
        text += f", {ratio[0]:.1f} times as large ({ratio[1]:.1f} to {ratio[2]:.1f})"
    known = [float(at[r]["paper"]) for r in (start, far)]
    if np.isfinite(known).all():
        text += (
            f"; the paper's {100 * known[0]:.1f} and {100 * known[1]:.1f}, "
            f"{known[1] / known[0]:.2f} times"
        )
    said.append(text + ".")
    return said + _weights(results, gaps)


def _weights(results: pd.DataFrame, gaps: pd.DataFrame) -> list[str]:
    """How near stratum weights bring ood accuracy to that of the first rho."""
    said = []
    start = float(results["rho"].min())
    ess = results[results["model"] == WEIGHTED].groupby("rho")["weights_ess"].mean()
    for row in gaps[gaps["model"] == WEIGHTED].to_dict("records"):
        rho, lost = row["rho"], float(row["lost"])
        low, high = float(row["lost_low"]), float(row["lost_high"])
        sure = high <= NEAR or low > NEAR
        near = f"{'at most' if lost <= NEAR else 'more than'} {100 * NEAR:.1f} points below it"
        said.append(
            f"Stratum weights at rho {rho:g} ({ess[rho]:,.0f} effective pairs): ood accuracy less "
            f"that of no weights at rho {start:g} is {-100 * lost:+.1f} points "
            f"({-100 * high:+.1f} to {-100 * low:+.1f}), {near}{'' if sure else ', not surely'}."
        )
    return said


def _objectives(
    study: PreferenceStudy, summary: pd.DataFrame, gaps: pd.DataFrame, contrasts: pd.DataFrame
) -> list[str]:
    said = []
    for test in TESTS[study.name]:
        for models in dict.fromkeys(contrasts["contrast"]):
            part = contrasts[(contrasts["contrast"] == models) & (contrasts["test"] == test)]
            part = part.sort_values("rho")
            steps = [f"{_interval(row, 'difference')} at {row['rho']:g}"
                     for row in part.to_dict("records")]  # fmt: skip
            said.append(f"{test.capitalize()} pairs, {models}, points: {'; '.join(steps)}.")
    multi = summary[(summary["model"] == MULTI) & (summary["test"] == TESTS[study.name][1])]
    said.append(f"Inconsistent pairs, {MULTI}: {_series(multi.sort_values('rho'))}.")
    return said


def _series(rows: pd.DataFrame) -> str:
    figures = [f"{100 * a:.1f}" for a in rows["accuracy"]]
    return f"{', '.join(figures)} at rho {', '.join(f'{r:g}' for r in rows['rho'])}"


def _monotone(values: Any) -> str:
    steps = np.diff(np.asarray(values, dtype=np.float64))
    if len(steps) == 1:
        return "the mean falls" if steps[0] < 0 else "the mean does not fall"
    return "the mean falls at every step" if (steps < 0).all() else "not falling at every step"


def _interval(row: Mapping[Any, Any], name: str) -> str:
    text = f"{100 * row[name]:+.1f}"
    if np.isfinite(row["low"]):
        text += f" ({100 * row['low']:+.1f} to {100 * row['high']:+.1f})"
    return text
