"""What a judge says of every pair of texts, and the figures of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from causal_lm_opt.datasets._design_checks import holm
from causal_lm_opt.lm._judges import Judge
from causal_lm_opt.lm._policy_texts import Rows, named_seed
from causal_lm_opt.lm._rates import RateInterval, rate_interval, sign_test
from causal_lm_opt.lm._win_rate_result import PairWinRate

__all__ = [
    "Judged",
    "Order",
    "findings",
    "first_shown_rate",
    "judge_all",
    "judgement_table",
    "pair_rates",
]

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Order = Literal["random", "both"]


@dataclass(frozen=True)
class Judged:
    """Scores of the first policy of each of L comparisons on n rows, (L, n) arrays.

    ``first_wins`` is the score of the text shown first, NaN where texts were not shown.
    """

    score: Float
    judged: Bool
    identical: Bool
    a_first: Bool
    first_wins: Float


def judge_all(
    judge: Judge,
    compared: Sequence[tuple[str, str]],
    texts: Mapping[str, tuple[str, ...]],
    rows: Rows,
    random_state: int,
    order: Order,
) -> Judged:
    """All comparisons in one call of the judge (so that it can treat equal texts once)."""
    shape = (len(compared), rows.n)
    one = np.array([texts[a] for a, _ in compared], dtype=object).reshape(shape)
    two = np.array([texts[b] for _, b in compared], dtype=object).reshape(shape)
    a_first = np.stack([_shown_first(a, b, rows.n, random_state) for a, b in compared])
    identical = np.asarray(one == two, dtype=np.bool_)
    asked = ~identical
    first, second = np.where(a_first, one, two)[asked], np.where(a_first, two, one)[asked]
    prompts = _prompts_of(rows, asked)
    if order == "both":
        first, second = np.concatenate([first, second]), np.concatenate([second, first])
        prompts = None if prompts is None else prompts + prompts
    values, judged = _ask(judge, first.tolist(), second.tolist(), prompts)
    shown = values  # score of the text shown first
    if order == "both":
        half = values.size // 2
        shown = (values[:half] + values[half:]) / 2
        judged = judged[:half] & judged[half:]
        values = (values[:half] + 1.0 - values[half:]) / 2
    score, ok, first_wins = np.full(shape, 0.5), identical.copy(), np.full(shape, np.nan)
    score[asked] = np.where(a_first[asked], values, 1.0 - values)
    ok[asked] = judged
    first_wins[asked] = np.where(judged, shown, np.nan)
    return Judged(score, ok, identical, a_first, first_wins)


def _shown_first(a: str, b: str, n: int, random_state: int) -> Bool:
    """Where the text of ``a`` is shown before that of ``b``, whichever way they are compared."""
    one, two = sorted((a, b))
    drawn = np.random.default_rng(named_seed(int(random_state), "order", one, two)).random(n) < 0.5
    return drawn if a == one else ~drawn


def _prompts_of(rows: Rows, asked: Bool) -> list[Any] | None:
    prompts = rows.prompt_rows()
    return None if prompts is None else [prompts[i] for i in np.nonzero(asked)[1]]


def _ask(
    judge: Judge, first: list[str], second: list[str], prompts: list[Any] | None
) -> tuple[Float, Bool]:
    """Scores (N,) of the texts shown first, and whether each was given."""
    if not first:
        return np.zeros(0), np.zeros(0, dtype=np.bool_)
    given = judge(first, second, prompts)
    masked = np.ma.getmaskarray(np.ma.asarray(given))
    try:
        values = np.array(np.ma.getdata(given), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"judge returned what are no numbers: {error}.") from error
    if values.shape != (len(first),):
        raise ValueError(
            f"judge returned scores of shape {values.shape} for {len(first)} pairs; it must return "
            f"({len(first)},)."
        )
    values = np.where(masked, 0.5, values)
    if np.isnan(values).any():
        raise ValueError(
            f"judge returned {int(np.isnan(values).sum())} NaN scores, the first for pair "
            f"{int(np.argmax(np.isnan(values)))}; mask a pair without a judgement "
            "(numpy.ma.masked_invalid)."
        )
    outside = (values < 0) | (values > 1)
    if outside.any():
        i = int(np.argmax(outside))
        raise ValueError(
            f"judge returned {values[i]:.4g} for pair {i}: scores lie in [0, 1] (1: the first text "
            "is better). Scores of single texts need pointwise_judge."
        )
    return values, ~masked


# ------------------------------------------------------------------------------ figures
def pair_rates(
    compared: Sequence[tuple[str, str]], judged: Judged, rows: Rows, level: float
) -> tuple[PairWinRate, ...]:
    found: list[tuple[str, str, RateInterval, float, Float, int]] = []
    for index, (a, b) in enumerate(compared):
        kept = judged.judged[index]
        if not kept.any():
            raise ValueError(f"No pair of texts of {a!r} and {b!r} has a judgement.")
        scores = judged.score[index, kept]
        units = None if rows.units is None else rows.units[kept]
        interval = rate_interval(scores, units, level=level)
        same = int(judged.identical[index].sum())
        found.append((a, b, interval, sign_test(scores, units), scores, same))
    adjusted = holm([row[3] for row in found])
    return tuple(
        PairWinRate(
            a=a, b=b, rate=f.rate, se=f.se, lower=f.lower, upper=f.upper, n=f.n,
            n_units=f.n_units, wins=int((s > 0.5).sum()), ties=int((s == 0.5).sum()),
            losses=int((s < 0.5).sum()), identical=same, unjudged=rows.n - f.n,
            p_value=p, p_holm=float(q), method=f.method,
        )
        for (a, b, f, p, s, same), q in zip(found, adjusted, strict=True)
    )  # fmt: skip


def first_shown_rate(judged: Judged, rows: Rows, level: float) -> RateInterval | None:
    """How often the text shown first wins; the comparisons of a row share its texts."""
    at = np.nonzero(~np.isnan(judged.first_wins))
    units = at[1] if rows.units is None else rows.units[at[1]]
    if np.unique(units).size < 2:
        return None
    alone = rows.units is None and len(judged.score) == 1
    return rate_interval(judged.first_wins[at], None if alone else units, level=level)


def findings(pairs: Sequence[PairWinRate], first: RateInterval | None, order: Order) -> list[str]:
    notes = [
        f"{p.a} against {p.b}: {p.unjudged} of {p.n + p.unjudged} pairs have no judgement and are "
        "left out; the rate is of the others."
        for p in pairs
        if p.unjudged
    ]
    if first is not None and not first.lower <= 0.5 <= first.upper:
        which = "first" if first.rate > 0.5 else "second"
        notes.append(
            f"The judge prefers the text shown {which} (the first wins {first.rate:.3f}, "
            f"{first.lower:.3f} to {first.upper:.3f}). Both policies were shown first alike: rates "
            "lean to neither, but are drawn towards 0.5"
            + ('; order="both" takes out the noise.' if order == "random" else ".")
        )
    return notes


def judgement_table(
    compared: Sequence[tuple[str, str]], judged: Judged, rows: Rows, order: Order
) -> pd.DataFrame:
    units = np.arange(rows.n) if rows.units is None else rows.units
    parts = []
    for i, (a, b) in enumerate(compared):
        score = np.where(judged.judged[i], judged.score[i], np.nan)
        verdict = np.select([score > 0.5, score < 0.5, score == 0.5], ["a", "b", "tie"], "")
        shown = np.where(judged.a_first[i], "a", "b").astype(object)
        shown[:] = "both" if order == "both" else shown
        shown[judged.identical[i]] = None
        said = verdict.astype(object)
        said[~judged.judged[i]] = None
        parts.append(
            pd.DataFrame(
                {
                    "a": a, "b": b, "row": np.arange(rows.n), "unit": units, "score": score,
                    "verdict": pd.Series(said, dtype=object),
                    "shown_first": pd.Series(shown, dtype=object),
                }
            )
        )  # fmt: skip
    return pd.concat(parts, ignore_index=True)
