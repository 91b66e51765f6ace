"""``compare``: by how much one run's policy is better than another's, on the rows both report from.

Runs of one log, split and seed report from the same rows, on which no policy was trained or chosen.
Their values there are estimated anew, together, so that the rows' noise they share cancels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from causal_lm_opt._run.optimize_runs import FinishedRun, other_columns
from causal_lm_opt.exceptions import OverlapError

if TYPE_CHECKING:
    from causal_lm_opt.comparison import Comparison
    from causal_lm_opt.lm._optimizer_rows import Rows
    from causal_lm_opt.lm.optimizer import CausalLMOptimizer

__all__ = ["COLUMNS", "owned", "paired_lines", "paired_values"]

COLUMNS = ("difference", "value", "se", "ci_lower", "ci_upper", "verdict", "reasons")


def paired_values(
    rows: Rows, runs: Sequence[FinishedRun], loaded: Mapping[str, CausalLMOptimizer],
    *, seed: int, level: float,
) -> Comparison | str:  # fmt: skip
    """Values of the runs' policies on their common report rows and all differences; else why not.

    Parameters
    ----------
    rows : Rows
        The whole log.
    runs : sequence of FinishedRun
    loaded : mapping policy's name -> optimiser, in the order of ``runs``
    seed : int
        Of the texts drawn.
    level : float
        At which all differences hold together.
    """
    from causal_lm_opt._validation import digest
    from causal_lm_opt.lm._features import TextFeatures
    from causal_lm_opt.lm._heldout import HeldOut, draw_for
    from causal_lm_opt.lm._left_out import LoggedTexts, fixed_prompts, judged, response_beyond
    from causal_lm_opt.lm._optimizer_rows import split
    from causal_lm_opt.lm._optimizer_steps import nuisances_of

    if not all(run.of_part(runs[0]) for run in runs):
        apart = other_columns(runs)
        if apart and not all(run.of_log(runs[0]) for run in runs):
            return (
                f"Their differences are not told, as the runs were told different columns ({apart}"
                "), which count as different logs: make them with the same ones."
            )
        return "Their differences are not told, as the runs report from different rows."
    if not runs[0].of_rows(rows.digest(), rows.digest(logged=False)):
        return (
            "Differences between the runs are not told, as --log is not what they were trained on "
            "(the same file, and --text, --outcome, --prompt, --group as then)."
        )
    settings = runs[0].settings
    kept = int(settings["random_state"])
    parts = split(rows, settings["split"], kept)
    features = TextFeatures(None, parts.train.read, prompted=rows.prompts is not None)
    own = digest(features(parts.train.read).to_numpy())
    if {run.features for run in runs} != {own}:
        return (
            "Differences between the runs are not told, as they were trained with features of "
            "their own, which no folder keeps: value their policies together in Python."
        )
    nuisances = nuisances_of(parts.train, None, features, int(settings["cv"]), kept)
    kinds = {run.result.ratio for run in runs}
    # weights of sequences are of one column of log-probabilities, which must be that of all runs
    one = kinds != {"sequence"} or {run.rows for run in runs} == {rows.digest()}
    kind = kinds.pop() if one and len(kinds) == 1 else "latent"
    held = HeldOut(parts.report, features, nuisances.predict, kind)
    policies = {name: optimizer.policy_ for name, optimizer in loaded.items()}
    n_draws = max(int(run.settings["n_draws"]) for run in runs)
    drawn = {
        name: draw_for(policy, parts.report, n_draws, (seed, 12, i), loaded[name].max_new_tokens_)
        for i, (name, policy) in enumerate(policies.items())
    }
    logp = None
    if kind == "sequence":
        report = parts.report
        logp = {name: p.log_prob(report.texts, report.prompts) for name, p in policies.items()}
    try:
        values = held.value(drawn, logp, kind)
    except OverlapError as error:
        return f"Differences between the runs cannot be told: {error}"
    by_features = kind in ("latent", "balance")
    reasons = LoggedTexts.of(rows).beyond(drawn, estimated=kind != "sequence")
    response = response_beyond(rows, features) if by_features else None
    shared = [*(response.findings if response is not None else []), *fixed_prompts(rows)]
    return judged(values, shared, reasons).compare(level=level)


def paired_lines(found: Comparison) -> list[list[Any]]:
    """A line for each difference: name, value, standard error, band, verdict, its reasons."""
    told = found.contrasts
    return [
        [name, float(value), float(se), float(low), float(high), verdict.level,
         " ".join(owned(reason, found) for reason in verdict.reasons)]
        for name, value, se, (low, high), verdict in zip(
            told.names, told.values, np.atleast_1d(told.se), found.contrast_bands, told.verdicts,
            strict=True,
        )
    ]  # fmt: skip


def owned(reason: str, found: Comparison) -> str:
    """A reason with the runs whose values have it, unless all do."""
    values = found.values
    runs = [n for n, v in zip(values.names, values.verdicts, strict=True) if reason in v.reasons]
    return reason if len(runs) in (0, len(values.names)) else f"{', '.join(runs)}: {reason}"
