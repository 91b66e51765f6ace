"""How far violated assumptions could move the differences of a part: the report's arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from causal_lm_opt._evaluation import LOGGING, Contrast, Doubt, Row, Sensitivity, Settings, Study
from causal_lm_opt.estimators import Claim, DoublyRobust, SensitivityResult, sensitivity
from causal_lm_opt.estimators._progress import track

__all__ = ["MOST_POLICIES", "STRENGTHS", "part_sensitivity"]

STRENGTHS = (1.0, 1.05, 1.1, 1.25, 1.5, 2.0, 3.0)
MOST_POLICIES = 8
RESAMPLES = 200
VIOLATIONS = ("hidden_confounder", "logging_probabilities")
#: Estimators that the bounds are for: the first that values a policy speaks for it.
BOUNDED = ("dr", "hajek")
COLUMNS = ["lambda", "value", "lower", "upper", "ci_lower", "ci_upper"]


def part_sensitivity(
    results: Mapping[str, Any],
    rows: Sequence[Row],
    contrasts: Sequence[Contrast],
    study: Study,
    settings: Settings,
) -> Sensitivity:
    """Bounds on the policies' differences from the reference, under each violation.

    Parameters
    ----------
    results : mapping estimator key -> fitted estimator
    rows, contrasts : sequences
        Of the part.
    study : Study
    settings : Settings

    Returns
    -------
    Sensitivity
        At most 8 policies, those with the largest values; none whose difference has the verdict
        ``do not use``, which no bound mends. ``left_out`` says why something is missing.
    """
    reference = settings.reference or LOGGING
    if not study.policies:
        why = "the mean under the logging policy rests on neither assumption."
        return Sensitivity(reference, RESAMPLES, (), (why,))
    speaking = _speaking(results, contrasts, reference)
    left_out = []
    silent = [p for p in study.policies if p not in speaking and p != reference]
    if silent:
        left_out.append(
            f"{', '.join(silent)}: the bounds are for the differences of the doubly robust and "
            "the Hajek estimator, and neither gives one."
        )
    unusable = [p for p, c in speaking.items() if c.verdict == "do not use"]
    if unusable:
        left_out.append(f"{', '.join(unusable)}: not to be used even without a violation.")
    values = {(r.policy, r.estimator): r.value for r in rows if not r.subgroup}
    usable = {p: c for p, c in speaking.items() if p not in unusable}
    largest = sorted(usable, key=lambda p: -values[p, usable[p].estimator])[:MOST_POLICIES]
    if len(usable) > len(largest):
        rest = len(usable) - len(largest)
        left_out.append(f"{rest} of {len(usable)} policies, those with the smallest values.")
    chosen = {p: usable[p] for p in usable if p in largest}
    jobs = [
        (key, violation)
        for key in BOUNDED
        if any(c.estimator == key for c in chosen.values())
        for violation in VIOLATIONS
    ]
    doubts = [
        doubt
        for key, violation in track(jobs, len(jobs), "sensitivity")
        for doubt in _doubts(results[key], key, violation, chosen, study, settings)
    ]
    return Sensitivity(reference, RESAMPLES, tuple(doubts), tuple(left_out))


def _speaking(
    results: Mapping[str, Any], contrasts: Sequence[Contrast], reference: str
) -> dict[str, Contrast]:
    """The difference of each target policy by the first estimator in ``BOUNDED`` that has one."""
    found: dict[str, Contrast] = {}
    for key in BOUNDED:
        for c in contrasts:
            if c.estimator == key and key in results and c.policy not in (LOGGING, reference):
                found.setdefault(c.policy, c)
    order = dict.fromkeys(c.policy for c in contrasts)
    return {p: found[p] for p in order if p in found}


def _doubts(
    estimator: Any,
    key: str,
    violation: str,
    chosen: Mapping[str, Contrast],
    study: Study,
    settings: Settings,
) -> list[Doubt]:
    """One violation's bounds on the differences that one estimator speaks for."""
    mine = {p: c for p, c in chosen.items() if c.estimator == key}
    reference = settings.reference or LOGGING
    # the claim is what the estimate says: above the reference, or below it
    claims = [
        Claim(p, better_than=reference) if c.value >= 0 else Claim(reference, better_than=p)
        for p, c in mine.items()
    ]
    found = sensitivity(
        estimator, STRENGTHS, violation=violation, claim=claims, n_bootstrap=RESAMPLES,  # type: ignore[arg-type]
        random_state=settings.seed, level=settings.level,
        **_policies(estimator, [*mine, *([] if reference == LOGGING else [reference])], study),
    )  # fmt: skip
    return [_doubt(found, k, p, c, violation) for k, (p, c) in enumerate(mine.items())]


def _policies(estimator: Any, names: Sequence[str], study: Study) -> dict[str, Any]:
    """Arguments that leave out policies nobody asks for; none where all are asked for."""
    if set(names) == set(estimator.policies_.names):
        return {}
    given = study.fit_params["logp_target"]
    out: dict[str, Any] = {"logp_target": pd.DataFrame({n: given[n] for n in names})}
    if isinstance(estimator, DoublyRobust):
        assert study.targets is not None
        out["X_target"] = {n: study.targets[n] for n in names}
    return out


def _doubt(
    found: SensitivityResult, k: int, policy: str, contrast: Contrast, violation: str
) -> Doubt:
    """The k-th claim's bounds, as the policy minus the reference whichever way it was claimed."""
    broken = found.breakdowns[k]
    table = found.to_frame()
    table = table.loc[table["quantity"] == broken.quantity, COLUMNS].reset_index(drop=True)
    if contrast.value < 0:
        turned = -table[["value", "upper", "lower", "ci_upper", "ci_lower"]].to_numpy()
        table[["value", "lower", "upper", "ci_lower", "ci_upper"]] = turned
    return Doubt(
        policy=policy, reference=contrast.reference, estimator=contrast.estimator,
        violation=violation, table=table, strength=broken.strength,
        strength_ci=broken.strength_ci,
    )  # fmt: skip
