"""Win rates of policies: the result, and how it is shown."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causal_lm_opt.lm._rates import RateInterval

if TYPE_CHECKING:
    from statsmodels.iolib.summary import Summary

__all__ = ["PairWinRate", "WinRates"]


@dataclass(frozen=True)
class PairWinRate:
    """How often texts of policy ``a`` beat texts of policy ``b``, a tie counting half.

    Attributes
    ----------
    a, b : str
    rate, se, lower, upper : float
    n, n_units : int
        Judged pairs of texts, and independent prompts or groups they come from.
    wins, ties, losses : int
        Pairs that score above, at and below 0.5.
    identical : int
        Pairs of equal texts: ties, never shown to the judge.
    unjudged : int
        Pairs without a judgement, left out.
    p_value, p_holm : float
        Matched-pairs sign test, and Holm-adjusted over the comparisons made.
    method : str
        How the interval was made.
    """

    a: str
    b: str
    rate: float
    se: float
    lower: float
    upper: float
    n: int
    n_units: int
    wins: int
    ties: int
    losses: int
    identical: int
    unjudged: int
    p_value: float
    p_holm: float
    method: str

    def turned(self) -> PairWinRate:
        """The same of ``b`` against ``a``; the two rates add up to 1 exactly."""
        return replace(
            self, a=self.b, b=self.a, rate=1.0 - self.rate, lower=1.0 - self.upper,
            upper=1.0 - self.lower, wins=self.losses, losses=self.wins,
        )  # fmt: skip

    @property
    def half_width(self) -> float:
        """Half the width of the interval."""
        return (self.upper - self.lower) / 2


@dataclass(frozen=True, eq=False, repr=False)
class WinRates:
    """Win rates of policies; made by `win_rates`.

    Attributes
    ----------
    policies : tuple of str
    pairs : tuple of PairWinRate
        Each comparison once, as (earlier, later) policy, or as (policy, reference).
    texts : mapping of str -> tuple of n str
        What each policy wrote; pass it as ``policies`` to have the same texts judged by another.
    judgements : DataFrame
        One row per pair of texts: ``a``, ``b``, ``row``, ``unit``, ``score`` (of ``a``; NaN where
        unjudged), ``verdict`` (``"a"``, ``"b"``, ``"tie"`` or None), ``shown_first`` (``"a"``,
        ``"b"`` or ``"both"``; None where the texts are equal and were not shown).
    first_shown : RateInterval or None
        How often the text shown first wins, over all pairs; 0.5 without position bias. ``None``
        where the judge cannot see the order.
    level : float
    order : {"random", "both"}
    reference : str or None
    notes : tuple of str
    prompts : tuple of n, optional
        What each row's texts answer.
    """

    policies: tuple[str, ...]
    pairs: tuple[PairWinRate, ...]
    texts: Mapping[str, tuple[str, ...]]
    judgements: pd.DataFrame
    first_shown: RateInterval | None
    level: float
    order: str
    reference: str | None = None
    notes: tuple[str, ...] = field(default=())
    prompts: tuple[Any, ...] | None = None

    def __getitem__(self, names: tuple[str, str]) -> PairWinRate:
        """The comparison of two policies, in the order asked for: ``rates["new", "old"]``."""
        for pair in self.pairs:
            if names == (pair.a, pair.b):
                return pair
            if names == (pair.b, pair.a):
                return pair.turned()
        raise KeyError(f"{names!r} were not compared; policies: {list(self.policies)}.")

    def ordered(self) -> list[PairWinRate]:
        """Every comparison, in both directions; against a reference in one."""
        if self.reference is not None:
            return list(self.pairs)
        return [self[a, b] for a in self.policies for b in self.policies if a != b]

    def to_frame(self) -> pd.DataFrame:
        """One row per comparison and direction, ``tie_share`` beside the counts."""
        frame = pd.DataFrame([vars(pair) for pair in self.ordered()])
        frame = frame.rename(columns={"lower": "ci_lower", "upper": "ci_upper"})
        frame.insert(
            list(frame.columns).index("identical"), "tie_share", frame["ties"] / frame["n"]
        )
        return frame

    def matrix(self) -> pd.DataFrame:
        """Rate at which the row beats the column, NaN where not compared."""
        names = list(self.policies)
        table = pd.DataFrame(np.nan, index=names, columns=names)
        for pair in self.pairs:
            table.loc[pair.a, pair.b] = pair.rate
            table.loc[pair.b, pair.a] = pair.turned().rate
        return table

    def summary(self) -> Summary:
        """The comparisons as a statsmodels ``Summary``."""
        from statsmodels.iolib.summary import Summary
        from statsmodels.iolib.table import SimpleTable

        cells = [
            [
                f"{p.rate:.3f}", f"{p.lower:.3f}", f"{p.upper:.3f}", f"{p.ties / p.n:.1%}",
                str(p.n), str(p.n_units), f"{p.p_holm:.3g}",
            ]
            for p in self.ordered()
        ]  # fmt: skip
        low, high = f"[{(1 - self.level) / 2:.3g}", f"{(1 + self.level) / 2:.3g}]"
        out = Summary()
        out.tables.append(
            SimpleTable(
                cells,
                headers=["win rate", low, high, "ties", "pairs", "units", "p (Holm)"],
                stubs=[f"{p.a} beats {p.b}" for p in self.ordered()],
                title="Win rates",
            )
        )
        out.add_extra_txt(self._told())
        return out

    def to_html(self) -> str:
        """A table and the notes; names are escaped."""
        shown = ["a", "b", "rate", "ci_lower", "ci_upper", "tie_share", "n", "n_units", "p_holm"]
        table = self.to_frame()[shown].to_html(
            index=False, escape=True, border=0, float_format="{:.3f}".format
        )
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self._told())
        return f"{table}<ul>{notes}</ul>"

    def _repr_html_(self) -> str:
        return self.to_html()

    def __repr__(self) -> str:
        rows = "; ".join(
            f"{p.a} beats {p.b} {p.rate:.3f} ({p.lower:.3f} to {p.upper:.3f})"
            for p in self.pairs[:4]
        )
        more = f"; ... {len(self.pairs) - 4} more" if len(self.pairs) > 4 else ""
        return f"<WinRates: {rows}{more}>"

    def _told(self) -> list[str]:
        told = [
            "A tie counts half. p: matched-pairs sign test, Holm-adjusted over "
            f"{len(self.pairs)} comparison{'s' if len(self.pairs) > 1 else ''}.",
        ]
        if self.first_shown is not None:
            f = self.first_shown
            told.append(
                f"The text shown first wins {f.rate:.3f} ({self.level:.0%} {f.lower:.3f} to "
                f"{f.upper:.3f}; 0.5 without position bias)."
            )
        return [*told, *self.notes]
