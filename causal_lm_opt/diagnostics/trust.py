"""The trust report of an estimate: verdicts, reasons and figures together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from causal_lm_opt.diagnostics.verdict import BLIND_SPOTS, Verdict, worst

__all__ = ["FIGURE_HEADERS", "TrustReport", "figure_cells"]

#: The figures printed with every weighted estimate.
FIGURE_HEADERS = ("ESS", "largest share", "Pareto k", "mean weight", "sd(log ratio)", "residual")


def figure_cells(figures: Mapping[str, Any]) -> list[str] | None:
    """The figures of `FIGURE_HEADERS` as text; ``None`` for estimates without weights.

    A log ratio's spread below 1e-6 is the rounding of stored log-probs and printed as 0.

    Examples
    --------
    >>> figure_cells({"ess": 812.4, "largest_share": .0041, "pareto_k": None, "mean_weight": .99,
    ...               "sd_log_ratio": .5, "residual": .12, "residual_se": .3})
    ['812.4', '0.0041', '-', '0.99', '0.5', '0.12 (se 0.3)']
    """
    if figures.get("ess") is None:
        return None

    def text(name: str) -> str:
        value = figures.get(name)
        if value is None:
            return "-"
        return f"{0.0 if abs(value) < 1e-6 else value:.4g}"

    names = ("ess", "largest_share", "pareto_k", "mean_weight", "sd_log_ratio")
    residual = "-"
    if "residual" in figures:
        residual = f"{text('residual')} (se {text('residual_se')})"
    return [*map(text, names), residual]


@dataclass(frozen=True)
class TrustReport:
    """What ``estimator.diagnose()`` returns.

    Attributes
    ----------
    estimator : str
    names : tuple of str
        Policies.
    verdicts : tuple of Verdict
    figures : tuple of dict
        Diagnostic figures of each policy.
    """

    estimator: str
    names: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    figures: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, result: Any) -> TrustReport:
        """The report of a :class:`causal_lm_opt.ValueEstimate`."""
        return cls(result.estimator, result.names, result.verdicts, tuple(result.diagnostics))

    @property
    def verdict(self) -> Verdict:
        """The most severe verdict over the policies."""
        return worst(self.verdicts)

    def to_frame(self) -> pd.DataFrame:
        """One row per policy: verdict, reasons, figures."""
        frame = pd.DataFrame(
            {
                "policy": list(self.names),
                "estimator": self.estimator,
                "verdict": [v.level for v in self.verdicts],
                "reasons": [" ".join(v.reasons) for v in self.verdicts],
            }
        )
        return frame.join(pd.DataFrame(list(self.figures)))

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe content."""
        return {
            "estimator": self.estimator,
            "blind_spots": BLIND_SPOTS,
            "policies": [
                {
                    "policy": n,
                    "verdict": v.level,
                    "reasons": list(v.reasons),
                    "figures": dict(f),
                }
                for n, v, f in zip(self.names, self.verdicts, self.figures, strict=True)
            ],
        }

    def __str__(self) -> str:
        lines = [f"Trust report of {self.estimator}"]
        for name, verdict, figures in zip(self.names, self.verdicts, self.figures, strict=True):
            lines.append(f"{name}: {verdict.level}")
            lines += [f"  - {reason}" for reason in verdict.reasons]
            shown = [
                f"{k} {0.0 if abs(v) < 1e-6 else v:.4g}"
                for k, v in figures.items()
                if isinstance(v, float)
            ]
            if shown:
                lines.append("  " + ", ".join(shown))
        return "\n".join([*lines, BLIND_SPOTS])
