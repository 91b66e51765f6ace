r"""Draws of subgroups weighted to the subgroups' shares of the log (post-stratification).

A value over all readers is :math:`\sum_b P(b) V_b`, the shares being the log's. Draws that say
their subgroup tell of each :math:`V_b`; how many there are of each is the caller's choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from causal_lm_opt.core.weights import Weighting
from causal_lm_opt.estimators._log import Log
from causal_lm_opt.estimators._subgroups import in_the_log_s_mix, spread, subgroup_rows
from causal_lm_opt.estimators._target import TargetRows
from causal_lm_opt.estimators._terms import plug_in_term

__all__ = ["PlugIn", "mix_influence", "mix_note", "plug_in_of"]

FloatArray = npt.NDArray[np.float64]
NOTED = 0.05  # difference of shares


@dataclass(frozen=True, eq=False)
class PlugIn:
    """Mean prediction of a policy's second sample in a subgroup, or over all readers.

    Attributes
    ----------
    value : float
    rows : TargetRows
        The draws it averages, as they count.
    draws : array (m,)
        Influence of every draw of the sample.
    shares : array (n,) or None
        Influence of the log's rows by their subgroups' shares.
    own : bool
        Whether the draws are the subgroup's own, by what they say.
    """

    value: float
    rows: TargetRows
    draws: FloatArray
    shares: FloatArray | None
    own: bool


def plug_in_of(
    log: Log, second: TargetRows, k: int, label: Any, prediction: FloatArray, weighting: Weighting
) -> PlugIn:
    """Plug-in mean of policy ``k``; over all readers in the log's mix of subgroups."""
    if label is None:
        mixed = in_the_log_s_mix(log, second)
        value, influence = plug_in_term(mixed, k, prediction, weighting)
        return PlugIn(value, mixed, *mix_influence(log, second, mixed, influence), own=False)
    picked = subgroup_rows(second.by, label)
    part = second if picked is None else second.select_rows(picked)
    q = prediction if picked is None else prediction[picked]
    value, influence = plug_in_term(part, k, q, weighting)
    draws = spread(influence, picked, second.frequency, second.size)
    return PlugIn(value, part, draws, None, own=picked is not None)


def mix_note(log: Log, second: TargetRows) -> list[tuple[int, str]]:
    """What the draws' mix of subgroups was, where they count in another."""
    mixed = in_the_log_s_mix(log, second)
    if mixed is second or log.by is None or second.by is None:
        return []
    worst: tuple[float, str, float, float] = (NOTED, "", 0.0, 0.0)
    for label in np.unique(log.by):
        at = second.by == label
        drawn, logged = (
            float(rows.frequency[at].sum() / rows.frequency.sum()) for rows in (second, mixed)
        )
        worst = max(worst, (abs(drawn - logged), str(label), drawn, logged))
    if not worst[1]:
        return []
    return [(0, (
        "Draws count in the log's mix of subgroups (by=, --by): "
        f"{worst[1]!r} are {worst[2]:.0%} of the draws and {worst[3]:.0%} of the readers."
    ))]  # fmt: skip


def mix_influence(
    log: Log, second: TargetRows, mixed: TargetRows, influence: FloatArray
) -> tuple[FloatArray, FloatArray | None]:
    r"""Influence of the draws (m,) and of the log's shares (n,) on a mean of mixed draws.

    With :math:`u_j` the influence of draw j on the mean at fixed shares and :math:`r_j` its factor,
    draws have :math:`r_j (u_j - \bar u_b)`, rows :math:`\bar u_b`, b being their subgroup.

    Parameters
    ----------
    second, mixed : TargetRows
        Before and after `_subgroups.in_the_log_s_mix`.
    influence : array (m,)
        Under the frequencies of ``mixed``.
    """
    if mixed is second or second.by is None or log.by is None:
        return influence, None
    counted = np.where(second.frequency > 0, second.frequency, 1.0)
    factor = mixed.frequency / counted
    draws, rows = np.zeros(second.size), np.zeros(log.y.shape[0])
    for label in np.unique(log.by):
        at = second.by == label
        mean = np.average(influence[at], weights=second.frequency[at])
        draws[at] = factor[at] * (influence[at] - mean)
        rows[log.by == label] = mean
    return draws, rows
