"""From diagnostic figures to a verdict in words, one per estimate and policy.

Provisional thresholds: they follow the literature (ESS, Pareto k-hat) and simulations of unseen
mass; their operating characteristics are not yet validated.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from causal_lm_opt.diagnostics.overlap import OverlapDiagnostics

__all__ = ["BLIND_SPOTS", "LEVELS", "Verdict", "verdict", "worst"]

LEVELS = ("trustworthy", "caution", "do not use")

BLIND_SPOTS = (
    "No diagnostic sees a logging policy that is wrong while its weights still average 1, hidden "
    "confounding of readers and texts, or interference between readers."
)


@dataclass(frozen=True)
class Verdict:
    """Whether to believe an estimate.

    Attributes
    ----------
    level : {"trustworthy", "caution", "do not use"}
    reasons : tuple of str
        Sentences with the figures that decided, and what to do next.
    """

    level: str
    reasons: tuple[str, ...] = ()

    @property
    def blind_spots(self) -> str:
        """What no diagnostic can see, to be shown beside every verdict."""
        return BLIND_SPOTS

    def __str__(self) -> str:
        return self.level + ("" if not self.reasons else ": " + " ".join(self.reasons))


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The most severe verdict, with all reasons (each once)."""
    verdicts = tuple(verdicts)
    level = max((v.level for v in verdicts), key=LEVELS.index, default=LEVELS[0])
    reasons = dict.fromkeys(r for v in verdicts for r in v.reasons)
    return Verdict(level, tuple(reasons))


UNSEEN_UNKNOWN = (
    "Whether the policy writes texts the logger never wrote is unknown: give draws of the policy "
    "with their logging log-probs (X_target)."
)


def _weight_findings(d: OverlapDiagnostics, *, model_assisted: bool) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    if d.ess < 10:
        found.append((2, f"The effective sample size is {d.ess:.1f} rows of {d.n:.0f}: "
                         "value a policy closer to the logging policy."))  # fmt: skip
    elif d.ess < 50 or d.ess_share < 0.1:
        found.append((1, f"The effective sample size is {d.ess:.0f} rows of {d.n:.0f}."))
    if d.pareto_k > 1.0:
        found.append((2, f"The weights' tail is too heavy for a mean (Pareto k {d.pareto_k:.2f})."))
    elif d.pareto_k > 0.7:
        found.append(
            (
                1,
                f"The weights' tail is heavy (Pareto k {d.pareto_k:.2f} > .7): the standard error "
                "is itself unreliable.",
            )
        )
    if math.isnan(d.unseen_mass):
        found.append((1, UNSEEN_UNKNOWN))
    elif d.unseen_mass > 0.01:
        share = f"{d.unseen_mass:.1%} of the policy's own draws lie beyond every logged text"
        model = "; only the outcome model speaks for them." if model_assisted else "."
        found.append((2 if d.unseen_mass > 0.1 else 1, share + model))
    if d.clusters < 30:
        found.append((1, f"Only {d.clusters:.0f} independent clusters: intervals from so few are "
                         "rough."))  # fmt: skip
    return found


def verdict(
    overlap: OverlapDiagnostics | None,
    *,
    model_assisted: bool = False,
    model_only: bool = False,
    residual_z: float = math.nan,
    findings: Sequence[tuple[int, str]] = (),
) -> Verdict:
    """Provisional verdict of one estimate.

    Parameters
    ----------
    overlap : OverlapDiagnostics or None
        ``None`` for the logging policy itself or where no log-probs were given.
    model_assisted : bool
        Doubly robust value.
    model_only : bool
        Outcome regression: the weights do not enter, only the residual test does.
    residual_z : float
        Weighted residual of the outcome model over its standard error.
    findings : sequence of (severity, sentence)
        Further reasons, severity 0 (note), 1 (caution) or 2 (do not use).
    """
    found: list[tuple[int, str]] = []
    if overlap is not None and not model_only:
        found += _weight_findings(overlap, model_assisted=model_assisted)
    if model_only:
        found.append(
            (1, "Outcome regression is right only if its model is; no weight corrects it.")
        )
        if abs(residual_z) > 3:
            found.append((2, f"The model's weighted residuals are {residual_z:+.1f} standard "
                             "errors from zero: prefer the doubly robust value."))  # fmt: skip
    found += list(findings)
    level = max((severity for severity, _ in found), default=0)
    return Verdict(LEVELS[level], tuple(text for _, text in found))
