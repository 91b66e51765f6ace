"""Overlap figures of a policy's weights on the log, or on a subgroup's rows."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from causal_lm_opt.core.weights import relative_weights
from causal_lm_opt.diagnostics.overlap import (
    OverlapDiagnostics,
    effective_clusters,
    overlap,
    unseen_mass,
)
from causal_lm_opt.estimators._log import Log
from causal_lm_opt.estimators._policies import Policies
from causal_lm_opt.estimators._subgroups import own_draws

__all__ = ["policy_overlap"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]


def policy_overlap(
    log: Log,
    policies: Policies,
    k: int,
    rows: IntArray | None,
    ell: FloatArray,
    raw_weight: FloatArray | None = None,
    raw_moments: tuple[float, float] | None = None,
    *,
    whoever: bool = False,
) -> OverlapDiagnostics:
    """Overlap figures of policy ``k`` from the log ratios of a subgroup's ``rows``.

    ``raw_weight`` and ``raw_moments``: the same rows' weights up to a factor and their mean and
    mean square, where they are at hand. ``whoever``: test that weights average 1 whoever states
    them, not of stated log-probs alone.
    """
    s, codes, n_codes = log.sample_weight, log.codes, log.n_clusters
    if log.n_texts > 1:  # whether weights average 1 is a matter of texts all the same
        codes, n_codes = log.texts, log.n_texts
    if rows is not None:
        s = None if s is None else s[rows]
        codes = None if codes is None else codes[rows]
    second = own_draws(log, policies.rows_of(k), rows)
    drawn = None if second is None else second.ratio_to_logging(k)
    unseen = math.nan if drawn is None else unseen_mass(drawn[0], float(np.max(ell)), drawn[1])
    clusters = math.nan
    if codes is not None and log.texts is None:  # worth of the clusters as this policy weights them
        weight = relative_weights(ell, normalize=True) if raw_weight is None else raw_weight
        clusters = effective_clusters(codes, weight if s is None else s * weight)
    found = overlap(
        ell, s, weight=raw_weight, moments=raw_moments, unseen=unseen, clusters=clusters,
        codes=codes, n_clusters=n_codes,
    )  # fmt: skip
    if rows is not None:  # of whose log-probs all readers' weights tell more
        found = replace(found, unit_scale=math.nan)
    # What a mean weight off 1 says of stated log-probs it does not say of an estimated ratio.
    stated = whoever or policies.estimated is None
    return found if stated else replace(found, mean_weight_z=math.nan)
