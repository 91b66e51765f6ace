"""The table of win rates of Lin, Ben-Michael and Morency (2024), and its published figures."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd

from causal_lm_opt.lm._win_rate_result import WinRates

__all__ = ["LIN24_METHODS", "LIN24_TABLE3", "Lin24Table", "table_of"]

LIN24_METHODS = ("FT", "OO-RLHF", "CPO", "DR-CPO")
"""The four policies of the table, in its order."""

#: Win rates of Lin et al. (2024), Table 3: data set -> (row policy, column policy) -> rate.
LIN24_TABLE3: Mapping[str, Mapping[tuple[str, str], float]] = MappingProxyType(
    {
        "hong_kong": MappingProxyType(
            {
                ("CPO", "FT"): 0.528,
                ("CPO", "OO-RLHF"): 0.542,
                ("CPO", "DR-CPO"): 0.559,
                ("DR-CPO", "FT"): 0.477,
                ("DR-CPO", "OO-RLHF"): 0.482,
                ("DR-CPO", "CPO"): 0.441,
            }
        ),
        "hate_speech": MappingProxyType(
            {
                ("CPO", "FT"): 0.517,
                ("CPO", "OO-RLHF"): 0.538,
                ("CPO", "DR-CPO"): 0.482,
                ("DR-CPO", "FT"): 0.524,
                ("DR-CPO", "OO-RLHF"): 0.560,
                ("DR-CPO", "CPO"): 0.518,
            }
        ),
    }
)
"""Published rates at which the first beats the second: Lin, Ben-Michael and Morency, Optimizing
Language Models for Human Preferences is a Causal Inference Problem (UAI 2024, arXiv 2402.14979),
Table 3; each is given there with a half width of 0.022.
"""

LIN24_HALF_WIDTH = 0.022
SOURCE = "published: Lin, Ben-Michael and Morency (UAI 2024), Table 3, half width 0.022"


@dataclass(frozen=True, eq=False, repr=False)
class Lin24Table:
    """Win rates of FT, OO-RLHF, CPO and DR-CPO; made by `lin24_table`.

    Attributes
    ----------
    rates : WinRates
    published : mapping of (row, column) -> float, or None
        What was published of the same policies; see `LIN24_TABLE3`.
    """

    rates: WinRates
    published: Mapping[tuple[str, str], float] | None = None

    def to_frame(self) -> pd.DataFrame:
        """One row per cell.

        Columns row, column, win_rate, half_width, ci_lower, ci_upper, n, published,
        published_half_width (NaN where nothing was published).
        """
        known = self.published or {}
        cells = []
        for p in self.rates.ordered():
            found = known.get((p.a, p.b), np.nan)
            cells.append(
                {
                    "row": p.a, "column": p.b, "win_rate": p.rate, "half_width": p.half_width,
                    "ci_lower": p.lower, "ci_upper": p.upper, "n": p.n, "published": found,
                    "published_half_width": LIN24_HALF_WIDTH if (p.a, p.b) in known else np.nan,
                }
            )  # fmt: skip
        return pd.DataFrame(cells)

    def matrix(self) -> pd.DataFrame:
        """Rates at which the row beats the column, as printed: ``0.528 ± 0.022 [0.541]``.

        The published rate stands in brackets.
        """
        names = list(self.rates.policies)
        table = pd.DataFrame("", index=names, columns=names, dtype=object)
        known = self.published or {}
        for p in self.rates.ordered():
            said = f" [{known[p.a, p.b]:.3f}]" if (p.a, p.b) in known else ""
            table.loc[p.a, p.b] = f"{p.rate:.3f} ± {p.half_width:.3f}{said}"
        return table

    def __repr__(self) -> str:
        return "\n".join([self.matrix().to_string(), *self._told()])

    def to_html(self) -> str:
        """The table and its notes; names are escaped."""
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self._told())
        return str(self.matrix().to_html(escape=True, border=0)) + f"<ul>{notes}</ul>"

    def _repr_html_(self) -> str:
        return self.to_html()

    def _told(self) -> list[str]:
        told = [f"Row beats column, ± half the {self.rates.level:.0%} interval; a tie counts half."]
        return [*told, *([SOURCE] if self.published else []), *self.rates.notes]


def table_of(rates: WinRates, published: str | None) -> Lin24Table:
    """Put the published figures beside rates."""
    return Lin24Table(rates, None if published is None else LIN24_TABLE3[published])
