"""How far violated assumptions could move the differences of a part: the report's arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from pandas.api.types import is_numeric_dtype

from causal_lm_opt._evaluation import LOGGING, Contrast, Doubt, Row, Sensitivity, Settings, Study
from causal_lm_opt.diagnostics.sensitivity import (
    ConfounderStrength,
    OmittedVariableBound,
    covariate_strengths,
    omitted_variable_bound,
)
from causal_lm_opt.estimators import Claim, DoublyRobust, SensitivityResult, sensitivity
from causal_lm_opt.estimators._progress import track
from causal_lm_opt.estimators._sensitivity import omitted_pieces

__all__ = ["MOST_POLICIES", "OMITTED", "STRENGTHS", "TIMES", "Omitted", "part_sensitivity"]

STRENGTHS = (1.0, 1.05, 1.1, 1.25, 1.5, 2.0, 3.0)
MOST_POLICIES = 8
RESAMPLES = 500
VIOLATIONS = ("hidden_confounder", "logging_probabilities")
#: Estimators that the bounds are for: the first that values a policy speaks for it.
BOUNDED = ("dr", "hajek")
COLUMNS = ["lambda", "value", "lower", "upper", "ci_lower", "ci_upper"]
OMITTED = "omitted_variable"
#: Recorded features that a hidden confounder is held against, and how strong beside them.
MOST_FEATURES = 3
TIMES = {1.0: "as strong as {}", 2.0: "twice as strong as {}"}


@dataclass(frozen=True, eq=False)
class Omitted(Doubt):
    """A hidden confounder held against recorded features.

    Attributes
    ----------
    table : DataFrame
        ``confounder`` (words), ``outcome``, ``weight`` (shares it explains), ``value``, ``lower``,
        ``upper``, ``ci_lower``, ``ci_upper``; first the row of no confounder, then the features
        from the strongest.
    strength, strength_ci : float
        Share of both explained at which the difference may have the other sign, and at which its
        interval may; 0: without any violation, 1: at none.
    bound : OmittedVariableBound
    n_features : int
        Features that there are; the table has the strongest few.
    """

    bound: OmittedVariableBound
    n_features: int

    @property
    def benchmarks(self) -> dict[str, ConfounderStrength]:
        """Strengths by their words."""
        rows = self.table.iloc[1:].to_dict("records")
        return {r["confounder"]: ConfounderStrength(r["outcome"], r["weight"]) for r in rows}


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
    modelled = [c for c in chosen.values() if c.estimator == "dr"]
    if modelled:
        found, why = _all_omitted(results["dr"], modelled, study, settings)
        doubts += found
        left_out += [why] if why else []
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
        random_state=settings.seed, level=settings.level, **_shared_texts(violation, study),
        **_policies(estimator, [*mine, *([] if reference == LOGGING else [reference])], study),
    )  # fmt: skip
    return [_doubt(found, k, p, c, violation) for k, (p, c) in enumerate(mine.items())]


def _shared_texts(violation: str, study: Study) -> dict[str, Any]:
    """Rows of one text share one mis-scoring; nothing to say where no text occurs twice."""
    if violation != "logging_probabilities" or study.texts is None:
        return {}
    labels = pd.factorize(pd.Series(study.texts, dtype=object))[0]
    repeated = (labels >= 0).all() and labels.max(initial=-1) + 1 < labels.size
    return {"texts": labels} if repeated else {}


def _policies(estimator: Any, names: Sequence[str], study: Study) -> dict[str, Any]:
    """Arguments that leave out policies nobody asks for; none where all are asked for."""
    if study.ratio is not None or set(names) == set(estimator.policies_.names):
        return {}  # another set of policies would need its ratios fitted anew
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


# ------------------------------------------------------------------------------ benchmarks
def _all_omitted(
    estimator: DoublyRobust, contrasts: Sequence[Contrast], study: Study, settings: Settings
) -> tuple[list[Omitted], str]:
    """Each difference's bounds for confounders like the features; or why there are none."""
    features = _features(study.X, estimator.log_.taken)
    if features is None:
        why = "comparison with recorded features: the outcome model reads no numbers (--feature)."
        return [], why
    found = [_omitted(estimator, features, c, settings) for c in contrasts]
    missing = [c.policy for c, o in zip(contrasts, found, strict=True) if o is None]
    why = ""
    if missing:
        why = f"{', '.join(missing)}: nothing is left for a hidden factor to explain."
    return [o for o in found if o is not None], why


def _features(X: Any, taken: Any) -> pd.DataFrame | None:
    """Columns of numbers that are not the same in all rows that an estimator took."""
    if not isinstance(X, pd.DataFrame):
        return None
    X = X if taken is None else X.iloc[taken]
    kept = [c for c in X.columns if is_numeric_dtype(X[c]) and X[c].nunique() > 1]
    return X[kept].astype("float64") if kept else None


def _omitted(
    estimator: DoublyRobust, features: pd.DataFrame, contrast: Contrast, settings: Settings
) -> Omitted | None:
    """One difference; ``None`` where outcome or weights leave nothing to explain."""
    log, pieces = estimator.log_, omitted_pieces(estimator, contrast.policy, contrast.reference)
    weights = {"reference_weight": pieces.reference_weight, "sample_weight": log.sample_weight}

    def at(strength: ConfounderStrength, draws_variance: float = 0.0) -> OmittedVariableBound:
        return omitted_variable_bound(
            pieces.residual, pieces.weight, strength, value=contrast.value,
            influence=pieces.influence, draws_variance=draws_variance, codes=log.codes, **weights,
        )  # fmt: skip

    none = at(ConfounderStrength(0.0, 0.0))
    if not none.scale > 0.0:
        return None
    draws = max(contrast.se**2 - none.se**2, 0.0)
    strengths: dict[str, ConfounderStrength] = {}
    found = {
        times: covariate_strengths(
            features.to_numpy(), log.y, pieces.residual, pieces.weight, fold=pieces.fold,
            times=times, **weights,
        )
        for times in TIMES
    }  # fmt: skip
    order = sorted(range(features.shape[1]), key=lambda j: -found[1.0][j].factor)
    for j in order[:MOST_FEATURES]:
        for times, words in TIMES.items():
            strengths[words.format(features.columns[j])] = found[times][j]
    bound = at(ConfounderStrength(0.0, 0.0), draws)
    rows = [_row("none", bound, settings.level)]
    rows += [_row(words, at(s, draws), settings.level) for words, s in strengths.items()]
    return Omitted(
        policy=contrast.policy, reference=contrast.reference, estimator=contrast.estimator,
        violation=OMITTED, table=pd.DataFrame(rows), strength=bound.robustness_value(0.0),
        strength_ci=bound.robustness_value(0.0, settings.level), bound=bound,
        n_features=features.shape[1],
    )  # fmt: skip


def _row(words: str, bound: OmittedVariableBound, level: float) -> dict[str, Any]:
    low, high = bound.interval(level)
    return {
        "confounder": words, "outcome": bound.strength.outcome, "weight": bound.strength.weight,
        "value": bound.value, "lower": bound.lower, "upper": bound.upper, "ci_lower": low,
        "ci_upper": high,
    }  # fmt: skip
