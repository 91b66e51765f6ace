"""From diagnostic figures to a verdict in words, one per estimate and policy.

The thresholds' operating characteristics (how often sound and lost cells of a simulation get which
verdict) are measured by ``make validate`` and committed beside the coverage table. The thresholds
were chosen after looking at simulations of the same family of designs, so that these figures
describe the designs at hand and are no independent test of the rule.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from causal_lm_opt.diagnostics.coverage import PredictedCoverage
from causal_lm_opt.diagnostics.overlap import OverlapDiagnostics

__all__ = [
    "BLIND_SPOTS",
    "LEVELS",
    "Verdict",
    "clusters_finding",
    "draws_findings",
    "fractions_finding",
    "rare_outcome_finding",
    "sampling_findings",
    "skewness_finding",
    "unsupported_finding",
    "verdict",
    "worst",
]

#: Levels of a verdict, the best first.
LEVELS = ("trustworthy", "caution", "do not use")

#: What no diagnostic sees; printed under every summary.
BLIND_SPOTS = (
    "No diagnostic sees hidden confounding of readers and texts, interference between readers, "
    "outcomes that are missing for a reason, rows that move together but were not named as "
    "clusters, or an outcome so rare that none was logged; nor a logging policy that is wrong "
    "while its weights still average 1, unless draws of the target policy show it."
)


@dataclass(frozen=True)
class Verdict:
    """Whether to believe an estimate.

    Attributes
    ----------
    level : {"trustworthy", "caution", "do not use"}
    reasons : tuple of str
        Sentences with the figures that decided, and what to do next; the gravest first.
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
    """The most severe verdict, with all reasons (each once), those of the gravest verdict first.

    Examples
    --------
    >>> both = worst([Verdict('trustworthy', ()), Verdict('caution', ('few rows',))])
    >>> both.level, both.reasons
    ('caution', ('few rows',))
    """
    verdicts = sorted(verdicts, key=lambda v: -LEVELS.index(v.level))
    level = verdicts[0].level if verdicts else LEVELS[0]
    reasons = dict.fromkeys(r for v in verdicts for r in v.reasons)
    return Verdict(level, tuple(reasons))


UNSEEN_UNKNOWN = (
    "Whether the policy writes texts the logger never wrote is unknown: only draws of the policy "
    "with their log-probs under both policies tell (columns logp_target and logp_logging of "
    "--draws; in Python X_target; in training CausalLMOptimizer(logging_policy=), in Python alone)."
)
CLOSER = "Value a policy closer to the logging policy, or log more texts like the target's."

# Severity 1 is caution, 2 do not use.
MEAN_WEIGHT_Z = 3.29  # two-sided level .001
LOST_WEIGHT = 0.1  # mean weight below which no tail is an excuse
MISSING_MASS = 0.1  # sound logs with sd(log ratio) <= 1.3 pass it in < 1 % (n = 200), never later
UNSEEN_VARIANCE = (0.2, 0.5, 0.9)
OVER_LOGS = (0.92, 0.8)  # coverage over logs: caution, do not use
COVERAGE = (0.85, 0.88)  # of this log: caution; do not use where half of the variance is unseen
UNSUPPORTED = (0.0005, 0.005)
SKEWNESS_SQUARED = 0.08
RARE_OUTCOMES = 20
FEW_CLUSTERS = 30
SINGLE = 1.5  # equal clusters: one holds four fifths
SMALL_SHARE = 0.1  # of the rows, as effective sample size


def _overlap_findings(
    d: OverlapDiagnostics, *, plain: bool, enumerated: bool
) -> list[tuple[int, str]]:
    """Reasons from the logged rows' weights alone."""
    found: list[tuple[int, str]] = []
    if d.ess < 10:
        found.append((2, f"The effective sample size is {d.ess:.1f} rows of {d.n:.0f}. {CLOSER}"))
    elif d.ess < 50 or (d.ess_share < SMALL_SHARE and not (enumerated and d.unseen_mass == 0.0)):
        found.append((1, f"The effective sample size is {d.ess:.0f} rows of {d.n:.0f}."))
    if d.pareto_k > 1.0:
        found.append((2, f"The weights' tail is too heavy for a mean (Pareto k {d.pareto_k:.2f})."))
    elif d.pareto_k > 0.7:
        tail = f"The weights' tail is heavy (Pareto k {d.pareto_k:.2f} > .7): the standard error "
        found.append((1, tail + "is itself unreliable."))
    return found + mean_weight_finding(d, plain=plain) + clusters_finding(d.clusters)


def mean_weight_finding(d: OverlapDiagnostics, *, plain: bool = False) -> list[tuple[int, str]]:
    """Weights that do not average 1: more says that log-probs are wrong, less perhaps."""
    found: list[tuple[int, str]] = []
    if _weights_off(d):
        z = f" (z {d.mean_weight_z:+.1f})" if math.isfinite(d.mean_weight_z) else ""
        off = f"The weights average {d.mean_weight:.3g} where 1 is due{z}: "
        if d.mean_weight_z > 0:  # nothing legitimate makes weights average more than 1
            why = (
                "log-probs are swapped, not normalised, or not those that wrote the texts, or rows "
                "were left out of the log by what they say."
            )
            found.append((2, off + why + _scale_words(d.unit_scale)))
        else:
            lacking = missing_mass(d.mean_weight, d.mean_weight_z)
            least = f"{lacking:.0%} of its own or more, " if lacking >= 0.01 else ""
            why = (
                f"the target writes texts the logger cannot ({least}if log-probs are right), "
                "log-probs are not normalised or misstated, or rows were left out of the log by "
                "what they say."
            )
            why += _scale_words(d.unit_scale)
            found.append((2 if plain or lacking > MISSING_MASS else 1, off + why))
    elif d.mean_weight < LOST_WEIGHT and not math.isnan(d.mean_weight_z):  # in whatever tail
        found.append((2, (
            f"The weights average {d.mean_weight:.2g} where 1 is due: the log holds hardly "
            "anything of what the target writes, or log-probs are not those of these texts (given "
            f"a prompt that was not named? --prompt). {CLOSER}"
        )))  # fmt: skip
    return found


def _scale_words(scale: float) -> str:
    """What log-probs may be that would average 1 if they were multiplied by ``scale``."""
    if abs(scale / math.log(10) - 1) < 0.15:
        slip = "logarithms to base 10 (multiply by 2.3026)?"
    elif abs(scale / math.log(2) - 1) < 0.12:
        slip = "logarithms to base 2 (multiply by 0.6931)?"
    elif scale > 4:
        slip = "means per token, in place of sums?"
    else:
        return ""
    return f" Log ratios times {scale:.3g} would make them average 1: are they {slip}"


def _weights_off(d: OverlapDiagnostics) -> bool:
    """Whether weights do not average 1, where their tail allows a test."""
    return abs(d.mean_weight_z) > MEAN_WEIGHT_Z and not d.pareto_k >= 0.5


def missing_mass(mean_weight: float, z: float) -> float:
    r"""Lower limit of the share of the target's texts that the logger cannot write.

    Weights average :math:`1 - P_f\{P_R = 0\}`, so that 1 less the mean's upper limit (two-sided
    level .001) bounds that share from below, if both log-probabilities are right.

    Parameters
    ----------
    mean_weight, z : float
        Mean weight, and ``mean_weight - 1`` over its standard error (below 0).

    Examples
    --------
    >>> round(missing_mass(0.5, -20.0), 3)   # standard error .025
    0.418
    """
    se = (mean_weight - 1.0) / z if z else 0.0
    return max(0.0, 1.0 - mean_weight - MEAN_WEIGHT_Z * se)


def clusters_finding(
    effective: float, what: str = "rows", *, clustered: bool = True
) -> list[tuple[int, str]]:
    """Caution below 30 independent units (`effective_clusters`; ``nan`` where none are known)."""
    if not effective < FEW_CLUSTERS:
        return []
    if not clustered:
        return [(1, f"There are {effective:.0f} {what}: intervals from fewer than {FEW_CLUSTERS} "
                    "are rough; more of them would help.")]  # fmt: skip
    if effective < SINGLE:
        return [(2, f"All but one cluster carry next to nothing of the {what}: a single one has no "
                    "standard error. Log more of them, as large.")]  # fmt: skip
    return [
        (1, f"The {what} are worth {effective:.0f} independent units of equal size: intervals from "
            f"fewer than {FEW_CLUSTERS} are rough, and more {what} of the same units do not help.")
    ]  # fmt: skip


def _coverage_findings(
    c: PredictedCoverage, unseen_mass: float, cause: str = ""
) -> list[tuple[int, str]]:
    """Reasons from the target's draws."""
    light, half, most = UNSEEN_VARIANCE
    doubtful, poor = COVERAGE
    beyond = (
        f"{unseen_mass:.1%} of the policy's own draws lie beyond every logged text, with "
        f"{c.unseen_variance:.0%} of the weights' second moment, and would move the value by "
        f"{c.missing:.1f} standard errors; "
    )
    if max(unseen_mass, c.unseen_variance, c.missing / 10.0) < 0.005:
        beyond = ""  # nothing of it is the cause
    below, above = c.too_low, 1.0 - c.over_logs - c.too_low
    side = f"below the value in {below:.0%}" if below > above else f"above it in {above:.0%}"
    lean = f" and to lie {side}" if max(below, above) > 2 * min(below, above) else ""
    lean = lean if c.coverage == c.over_logs else ""  # it is the cause
    sentence = (
        f"A nominal 95% interval is predicted to cover {c.coverage:.0%}{lean}: {beyond}the "
        f"standard error has {c.dof:,.0f} effective degrees of freedom."
    )
    found: list[tuple[int, str]] = []
    unseen = c.unseen_variance > most or (c.unseen_variance > half and c.coverage < poor)
    if unseen or c.over_logs < OVER_LOGS[1]:
        if c.coverage >= poor:
            sentence += f" With more than {most:.0%} of that unseen, neither is to be believed."
        found.append((2, f"{cause} {sentence}" if cause else f"{sentence} {CLOSER}"))
    elif c.unseen_variance > light or c.over_logs < OVER_LOGS[0] or c.coverage < doubtful:
        found.append((1, sentence))
    some, much = UNSUPPORTED
    if c.unsupported > some:
        never = f"The logger never writes {c.unsupported:.2%} of the policy's own draws: "
        found.append((2 if c.unsupported > much else 1, never + "no log of it can value them."))
    return found


def skewness_finding(
    skewness: float, of: str = "the mean outcome or residual, unweighted"
) -> list[tuple[int, str]]:
    """Caution where few large outcomes make a plain mean's symmetric interval miss on one side.

    For unweighted means, also those of the residuals that a weighted mean averages: a gate on the
    weighted contributions themselves distrusts sound estimates (`diagnostics.coverage`).
    """
    if skewness**2 <= SKEWNESS_SQUARED:
        return []
    return [
        (
            1,
            f"Few rows or clusters dominate (skewness {skewness:+.2f} of {of}): a symmetric "
            "interval misses on one side; more of them are needed.",
        )
    ]


FRACTIONS = (
    "{} holds fractions, but counts rows (a row of weight 2 is two rows): survey or importance "
    "weights make the standard error wrong. Give {} instead."
)


def fractions_finding(
    sample_weight: npt.ArrayLike | None, name: str, instead: str
) -> list[tuple[int, str]]:
    """Caution where weights that are read as frequencies are no whole numbers."""
    if sample_weight is None:
        return []
    given = np.asarray(sample_weight, dtype=np.float64)
    whole = bool((np.abs(given - np.rint(given)) <= 1e-9 * np.maximum(given, 1.0)).all())
    return [] if whole else [(1, FRACTIONS.format(name, instead))]


def unsupported_finding(share: float) -> list[tuple[int, str]]:
    """For a value by a model alone: draws to which the logger gives probability 0."""
    if not share > UNSUPPORTED[0]:
        return []
    text = (
        f"The logger never writes {share:.2%} of the policy's own draws: what the model says of "
        "them rests on other texts."
    )
    return [(2 if share > MISSING_MASS else 1, text)]


def rare_outcome_finding(count: float) -> list[tuple[int, str]]:
    """Caution where a binary outcome's rarer value was logged fewer than 20 times."""
    if count >= RARE_OUTCOMES:
        return []
    return [
        (1, f"Only {count:.0f} rows of the rarer outcome are among those that carry the estimate "
            "(four fifths of its variance): intervals from so few are rough.")
    ]  # fmt: skip


def draws_findings(agreement_z: float) -> list[tuple[int, str]]:
    """Reasons not to believe that log, draws and stated log-probs belong together.

    Parameters
    ----------
    agreement_z : float
        See :func:`causal_lm_opt.diagnostics.draws_agreement`; ``nan`` without scored draws.
    """
    if not abs(agreement_z) > MEAN_WEIGHT_Z:
        return []
    return [
        (
            2,
            "Log, draws and log-probs contradict each other (bridge test, z "
            f"{agreement_z:+.1f}): target and logging columns are swapped, log-probs not "
            "normalised or misstated (of the log given its readers, of the draws not?), or the "
            "draws are not from the policy that is scored (temperature, truncation, duplicates "
            "removed).",
        )
    ]


def sampling_findings(ess: float, m: float, sd_log_ratio: float) -> list[tuple[int, str]]:
    r"""Reasons from the weights of draws of a sampling policy.

    For log-normal weights with standard deviation ``s`` of the log ratio, about
    :math:`P(Z > z_{1-1/m} - 2s)` of their second moment lies beyond ``m`` draws.
    """
    unseen = float(stats.norm.sf(stats.norm.isf(1.0 / max(m, 2.0)) - 2.0 * sd_log_ratio))
    text = (
        f"The draws' weights from their sampling policy are uneven: effective sample size "
        f"{ess:.0f} of {m:.0f}, about {unseen:.0%} of their second moment beyond the draws. "
        "Draw from a policy closer to the target."
    )
    light, half, _ = UNSEEN_VARIANCE
    if ess < 10 or unseen > half:
        return [(2, text)]
    return [(1, text)] if ess < 50 or unseen > light else []


def verdict(
    overlap: OverlapDiagnostics | None,
    *,
    coverage: PredictedCoverage | None = None,
    cause: str = "",
    enumerated: bool = False,
    plain: bool = False,
    model_only: bool = False,
    residual_z: float = math.nan,
    findings: Sequence[tuple[int, str]] = (),
) -> Verdict:
    """Verdict of one estimate of one policy.

    ``trustworthy`` needs draws of the policy: weights alone cannot vouch for an interval. Outcome
    regression is never more than ``caution``, as nothing in it corrects its model.

    Parameters
    ----------
    overlap : OverlapDiagnostics or None
        ``None`` for the logging policy itself or where no log-probs were given.
    coverage : PredictedCoverage or None
        ``None`` where no draws with their logging log-probs were given.
    cause : str
        What draws beyond the log have in common and what to do, where that is known.
    enumerated : bool
        The target's whole support is known, so that without unseen mass a small share of rows is
        no sign of rows that are lacking.
    plain : bool
        Weights are not self-normalised, so that a mean weight off 1 biases the value itself.
    model_only : bool
        Outcome regression: the weights do not enter, only the residual test does.
    residual_z : float
        Weighted residual of the outcome model over its standard error.
    findings : sequence of (severity, sentence)
        Further reasons, severity 0 (note), 1 (caution) or 2 (do not use).

    Examples
    --------
    >>> import numpy as np
    >>> from causal_lm_opt.diagnostics import overlap
    >>> figures = overlap(np.zeros(500))  # the policy is the logger
    >>> answer = verdict(figures)
    >>> answer.level
    'caution'
    """
    found: list[tuple[int, str]] = []
    if overlap is not None and not model_only:
        found += _overlap_findings(overlap, plain=plain, enumerated=enumerated)
        if coverage is not None:
            found += _coverage_findings(coverage, overlap.unseen_mass, cause)
        elif not (_weights_off(overlap) and overlap.mean_weight < 1):  # they have told already
            found.append((1, UNSEEN_UNKNOWN))
    if model_only:
        found.append((1, "Outcome regression is right only if its model is; nothing corrects it."))
        if abs(residual_z) > 3:
            far = f"{residual_z:+.1f}" if abs(residual_z) < 1000 else f"{residual_z:+.0e}"
            off = f"The model's weighted residuals are {far} standard errors from zero: "
            found.append((2, off + "prefer the doubly robust value, where its verdict allows it."))
    found = sorted([*found, *findings], key=lambda one: -one[0])
    level = found[0][0] if found else 0
    return Verdict(LEVELS[level], tuple(text for _, text in found))
