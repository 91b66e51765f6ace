"""The trust report of an estimate: verdicts, reasons and figures together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import pandas as pd

from causal_lm_opt.diagnostics.balance import BalanceSummary
from causal_lm_opt.diagnostics.calibration import Calibration
from causal_lm_opt.diagnostics.drift import LengthDrift
from causal_lm_opt.diagnostics.typicality import TypicalityCoverage
from causal_lm_opt.diagnostics.verdict import BLIND_SPOTS, LEVELS, Verdict, worst

__all__ = [
    "FIGURE_HEADERS",
    "PARTS",
    "TrustDetail",
    "TrustReport",
    "balance_finding",
    "figure_cells",
]

#: The figures printed with every weighted estimate.
FIGURE_HEADERS = ("ESS", "largest share", "Pareto k", "mean weight", "sd(log ratio)", "residual")

#: The parts of a report beyond the verdict's own figures, and what they are called.
PARTS = {
    "balance": "Balance",
    "calibration": "Calibration",
    "typicality": "Typicality",
    "length_drift": "Length",
}
BALANCE_LEVEL = 0.001


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
        if 1e4 <= abs(value) < 1e15:
            return f"{value:,.0f}"
        return f"{0.0 if abs(value) < 1e-6 else value:.4g}"

    names = ("ess", "largest_share", "pareto_k", "mean_weight", "sd_log_ratio")
    cells = list(map(text, names))
    if figures.get("zero_share"):  # the spread is that of the rest
        cells[-1] += f" ({figures['zero_share']:.0%} of rows never)"
    residual = "-"
    if "residual" in figures:
        residual = f"{text('residual')} (se {text('residual_se')})"
    return [*cells, residual]


@dataclass(frozen=True, eq=False)
class TrustDetail:
    """What a report says of one policy beyond the verdict's own figures.

    Attributes
    ----------
    balance : BalanceSummary, optional
        Features of the weighted log against the target's draws; ``balance.table`` is a Love
        plot's.
    calibration : Calibration, optional
        Of the outcome model on the logged rows, weighted to the policy; ``calibration.table`` is
        a reliability diagram's.
    typicality : TypicalityCoverage, optional
    length_drift : LengthDrift, optional
    notes : mapping part -> sentence
        Why a part is missing, or what it rests on.

    Examples
    --------
    >>> import numpy as np
    >>> from causal_lm_opt import IPW
    >>> log = {"logp_logging": np.log([.5] * 4), "logp_target": np.log([.2, .2, .8, .8])}
    >>> report = IPW().fit(["a", "a", "b", "b"], [1., 2., 3., 6.], **log).diagnose()
    >>> report.details[0].balance is None  # no draws to hold the log against
    True
    """

    balance: BalanceSummary | None = None
    calibration: Calibration | None = None
    typicality: TypicalityCoverage | None = None
    length_drift: LengthDrift | None = None
    notes: Mapping[str, str] = field(default_factory=dict)

    def sentence(self, part: str) -> str:
        """One part in words, or why it is not available."""
        found, note = getattr(self, part), self.notes.get(part, "")
        if found is None:
            return f"not available: {note or 'not asked for.'}"
        return f"{found.sentence} {note}".rstrip()

    @property
    def sentences(self) -> dict[str, str]:
        """All parts in words."""
        return {part: self.sentence(part) for part in PARTS}

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe content; numbers that are not finite become ``None``."""
        return {
            part: {"sentence": self.sentence(part), **_plain(getattr(self, part))} for part in PARTS
        }


def _plain(found: Any) -> dict[str, Any]:
    """Fields of a diagnostic as JSON takes them; nothing of ``None``."""
    return {} if found is None else {f.name: _safe(getattr(found, f.name)) for f in fields(found)}


def _safe(value: Any) -> Any:
    if isinstance(value, pd.DataFrame):
        return [{str(k): _safe(v) for k, v in row.items()} for row in value.to_dict("records")]
    if isinstance(value, np.ndarray):
        return [_safe(v) for v in value.tolist()]
    if isinstance(value, list):
        return [_safe(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def balance_finding(found: BalanceSummary | None) -> list[tuple[int, str]]:
    """Caution where weighted log and draws differ by more than chance allows (level .001)."""
    if found is None or not found.p_value < BALANCE_LEVEL:
        return []
    return [
        (
            1,
            "Weighted to the policy, the log does not look like the policy's own texts (test of "
            f"{len(found.table)} features, p {found.p_value:.2g}; most of all {found.worst!r}, "
            f"{found.max_z:.1f} standard errors): log-probs misstated, draws from another policy "
            "(temperature, truncation, duplicates removed), or texts the log lacks. Score log and "
            "draws again with the sampler's own settings.",
        )
    ]


@dataclass(frozen=True)
class TrustReport:
    """What ``estimator.diagnose()`` returns.

    Attributes
    ----------
    estimator : str
    names : tuple of str
        Policies.
    verdicts : tuple of Verdict
        The estimate's verdicts, made more severe where a detail gives reason to: features that do
        not balance are at least ``caution``. So they can differ from ``result_.verdicts``, which
        are those that simulations tested.
    figures : tuple of dict
        Diagnostic figures of each policy.
    details : tuple of TrustDetail
        Balance, calibration, typicality and drift of each policy; empty for a report made of a
        result alone.
    """

    estimator: str
    names: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    figures: tuple[Mapping[str, Any], ...]
    details: tuple[TrustDetail, ...] = ()

    @classmethod
    def of(cls, result: Any, details: Sequence[TrustDetail] = ()) -> TrustReport:
        """The report of a :class:`causal_lm_opt.ValueEstimate`, with details of each policy."""
        verdicts = tuple(result.verdicts)
        if details:
            verdicts = tuple(map(_with_details, verdicts, details))
        return cls(
            result.estimator, result.names, verdicts, tuple(result.diagnostics), tuple(details)
        )

    @property
    def verdict(self) -> Verdict:
        """The most severe verdict over the policies."""
        return worst(self.verdicts)

    @property
    def balance(self) -> dict[str, BalanceSummary | None]:
        """Balance of each policy, ``None`` where it is not available."""
        return {name: d.balance for name, d in zip(self.names, self.details, strict=False)}

    @property
    def calibration(self) -> dict[str, Calibration | None]:
        """Calibration of the outcome model under each policy, ``None`` where not available."""
        return {name: d.calibration for name, d in zip(self.names, self.details, strict=False)}

    @property
    def typicality(self) -> dict[str, TypicalityCoverage | None]:
        """Target-typicality coverage of each policy, ``None`` where it is not available."""
        return {name: d.typicality for name, d in zip(self.names, self.details, strict=False)}

    @property
    def length_drift(self) -> dict[str, LengthDrift | None]:
        """Drift of each policy's log ratio with length, ``None`` where it is not available."""
        return {name: d.length_drift for name, d in zip(self.names, self.details, strict=False)}

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
        details = self.details or (None,) * len(self.names)
        return {
            "estimator": self.estimator,
            "blind_spots": BLIND_SPOTS,
            "policies": [
                {
                    "policy": n,
                    "verdict": v.level,
                    "reasons": list(v.reasons),
                    "figures": {name: _safe(value) for name, value in f.items()},
                    **({} if d is None else d.to_dict()),
                }
                for n, v, f, d in zip(self.names, self.verdicts, self.figures, details, strict=True)
            ],
        }

    def __str__(self) -> str:
        lines = [f"Trust report of {self.estimator}"]
        details = self.details or (None,) * len(self.names)
        for name, verdict, figures, detail in zip(
            self.names, self.verdicts, self.figures, details, strict=True
        ):
            lines.append(f"{name}: {verdict.level}")
            lines += [f"  - {reason}" for reason in verdict.reasons]
            shown = [
                f"{k} {0.0 if abs(v) < 1e-6 else v:.4g}"
                for k, v in figures.items()
                if isinstance(v, float)
            ]
            if shown:
                lines.append("  " + ", ".join(shown))
            if detail is not None:
                lines += [f"  {PARTS[part]}: {text}" for part, text in detail.sentences.items()]
        return "\n".join([*lines, BLIND_SPOTS])


def _with_details(verdict: Verdict, detail: TrustDetail) -> Verdict:
    found = balance_finding(detail.balance)
    return worst([verdict, *(Verdict(LEVELS[severity], (text,)) for severity, text in found)])
