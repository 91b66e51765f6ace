"""What an optimiser reports: values on rows used once, with interval and verdict; as JSON too."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from causal_lm_opt.diagnostics.verdict import BLIND_SPOTS, Verdict, worst
from causal_lm_opt.estimate import ValueEstimate
from causal_lm_opt.exceptions import DataError

__all__ = ["OptimizerResult"]

WHICH = ("trained", "start", "difference")


@dataclass(frozen=True, eq=False)
class OptimizerResult:
    """Values of the trained policy and of the one it started from, on the report rows.

    Attributes
    ----------
    trained, start, difference : ValueEstimate
        V(f), V(f0) and V(f) - V(f0), in outcome units, each of one policy. Where no checkpoint was
        worth reporting, ``trained`` is the start and the difference 0.
    accepted : bool
        Whether ``policy_`` is the trained policy.
    decision : str
        Why, in words.
    ratio : str
        The kind of weights: "sequence", "latent", "classifier" or "balance".
    step : int
        Optimiser step of the chosen checkpoint; 0 is the start.
    model_based : float
        Mean of the outcome model over fresh texts of the trained policy: right only if that model
        is; not an estimate to report.
    level : float
        Of the intervals.
    """

    trained: ValueEstimate
    start: ValueEstimate
    difference: ValueEstimate
    accepted: bool
    decision: str
    ratio: str
    step: int
    model_based: float
    level: float = 0.95

    @property
    def verdict(self) -> Verdict:
        """Whether to believe the difference."""
        return self.difference.verdicts[0]

    def reasons(self) -> list[str]:
        """Each reason for the verdicts once, after the values that it is of; the gravest first.

        Of the start alone, where no checkpoint was worth reporting.
        """
        names = {"trained": "V(f)", "start": "V(f0)", "difference": "difference"}
        if self.step == 0:
            names = {"start": "V(f0)"}
        verdicts = {name: getattr(self, which).verdicts[0] for which, name in names.items()}
        whose: dict[str, list[str]] = {}
        for reason in worst(verdicts.values()).reasons:
            both = [name for name, v in verdicts.items() if reason in v.reasons]
            whose[reason] = [name for name in both if name != "difference"] or both
        return [f"{', '.join(who)}: {reason}" for reason, who in whose.items()]

    def to_frame(self) -> pd.DataFrame:
        """One row each for V(f), V(f0) and the difference: estimate, interval, verdict."""
        rows = []
        for name in WHICH:
            estimate: ValueEstimate = getattr(self, name)
            low, high = estimate.confint(self.level)
            rows.append((name, estimate.value, estimate.se, low, high, estimate.verdicts[0].level))
        columns = ["what", "value", "se", "lower", "upper", "verdict"]
        return pd.DataFrame(rows, columns=columns)

    def __str__(self) -> str:
        lines = [
            f"Report rows (used once), {self.trained.estimator}, {self.ratio} weights, "
            f"{self.level:.0%} intervals"
        ]
        names = {"trained": "V(f)", "start": "V(f0)", "difference": "V(f) - V(f0)"}
        lines += [
            f"  {names[str(row['what'])]:13} {row['value']:8.3f}  "
            f"[{row['lower']:.3f}, {row['upper']:.3f}]  {row['verdict']}"
            for row in self.to_frame().to_dict("records")
        ]
        if math.isfinite(self.model_based):
            lines.append(
                f"  model-based   {self.model_based:8.3f}  (outcome model's mean over fresh texts; "
                "no estimate to report)"
            )
        lines += [f"  - {reason}" for reason in self.reasons()]
        return "\n".join([*lines, self.decision, BLIND_SPOTS])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"

    # ------------------------------------------------------------------ files
    def to_dict(self) -> dict[str, Any]:
        """JSON-safe content, without influence functions."""
        plain = ("accepted", "decision", "ratio", "step", "model_based", "level")
        found: dict[str, Any] = {name: getattr(self, name) for name in plain}
        if not math.isfinite(self.model_based):
            found["model_based"] = None
        return found | {name: _as_dict(getattr(self, name)) for name in WHICH}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> OptimizerResult:
        """What `to_dict` gave.

        Raises
        ------
        DataError
            If something is missing.
        """
        try:
            estimates = {name: _from_dict(saved[name]) for name in WHICH}
            based = saved["model_based"]
            return cls(
                **estimates, accepted=bool(saved["accepted"]), decision=str(saved["decision"]),
                ratio=str(saved["ratio"]), step=int(saved["step"]),
                model_based=math.nan if based is None else float(based),
                level=float(saved["level"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"the saved result is damaged ({error!r}); fit again.") from error


def _as_dict(e: ValueEstimate) -> dict[str, Any]:
    dof = float(e.dof()[0])
    return {
        "value": float(e.values[0]), "variance": float(np.square(e.se)),
        "dof": dof if math.isfinite(dof) else None,
        "bias_bound": float(e.bias_bound[0]), "name": e.names[0], "estimator": e.estimator,
        "verdict": e.verdicts[0].level, "reasons": list(e.verdicts[0].reasons),
        "notes": list(e.notes), "counts": dict(e.counts),
        "figures": dict(e.diagnostics[0]) if e.diagnostics else {},
    }  # fmt: skip


def _from_dict(d: Mapping[str, Any]) -> ValueEstimate:
    return ValueEstimate(
        values=np.array([d["value"]], dtype=np.float64), names=(str(d["name"]),), samples=(),
        estimator=str(d["estimator"]), bias_bound=np.array([d["bias_bound"]], dtype=np.float64),
        verdicts=(Verdict(str(d["verdict"]), tuple(d["reasons"])),),
        diagnostics=(dict(d["figures"]),) if d["figures"] else (), notes=tuple(d["notes"]),
        dropped_variance=np.array([d["variance"]], dtype=np.float64),
        dropped_dof=np.array([math.inf if d["dof"] is None else d["dof"]], dtype=np.float64),
        counts=dict(d["counts"]),
    )  # fmt: skip
