"""Several estimates as one: their joint covariance, and one table with simultaneous bands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import reduce

import numpy as np
import numpy.typing as npt
import pandas as pd

from causal_lm_opt.comparison import _band, simultaneous_critical_value
from causal_lm_opt.estimate import ValueEstimate, common_estimand
from causal_lm_opt.influence import InfluenceSample, merge_samples
from causal_lm_opt.selection import probability_best

__all__ = ["compare_estimates", "join_estimates", "simultaneous_band"]

FloatArray = npt.NDArray[np.float64]


def join_estimates(estimates: Mapping[str, ValueEstimate]) -> ValueEstimate:
    """Several estimates as one, with their joint covariance.

    Estimates that rest on the same rows or draws keep their correlation, so that contrasts between
    estimators, and between policies of different estimators, have right standard errors.

    Parameters
    ----------
    estimates : mapping label -> ValueEstimate
        Values are named ``label`` for estimates of one policy, ``"label: policy"`` otherwise.

    Returns
    -------
    ValueEstimate
        Of all policies of all estimates.

    Raises
    ------
    ValueError
        No estimate, dropped influence functions, or the same rows clustered in two ways.

    Examples
    --------
    >>> import numpy as np
    >>> from causal_lm_opt import IPW
    >>> half, to = np.log([.5, .5, .5, .5]), np.log([.3, .3, .7, .7])
    >>> fits = {w: IPW(w).fit(list("aabb"), [1., 2., 3., 6.], logp_logging=half,
    ...                       logp_target=to).result_ for w in ("ht", "hajek")}
    >>> join_estimates(fits).compare().contrasts.names
    ('hajek - ht',)
    """
    if not estimates:
        raise ValueError("estimates is empty; give at least one.")
    for label, estimate in estimates.items():
        if not isinstance(estimate, ValueEstimate):
            raise TypeError(f"estimates[{label!r}] is {type(estimate)}, not a ValueEstimate.")
        if estimate.dropped_variance is not None:
            raise ValueError(
                f"estimates[{label!r}] kept no influence function; fit with influence='keep'."
            )
    total = sum(len(e.names) for e in estimates.values())
    samples: list[tuple[InfluenceSample, ...]] = []
    names: list[str] = []
    for label, estimate in estimates.items():
        first = len(names)
        samples.append(tuple(_widened(s, first, total) for s in estimate.samples))
        one = len(estimate.names) == 1
        names += [label] if one else [f"{label}: {name}" for name in estimate.names]
    several = list(estimates.values())
    figures = [e.diagnostics or ({},) * len(e.names) for e in several]
    return ValueEstimate(
        values=np.concatenate([e.values for e in several]),
        names=tuple(names),
        samples=reduce(lambda a, b: merge_samples(a, b, 1.0), samples),
        estimator="; ".join(dict.fromkeys(e.estimator for e in several)),
        bias_bound=np.concatenate([e.bias_bound for e in several]),
        verdicts=tuple(v for e in several for v in e.verdicts),
        diagnostics=tuple(d for part in figures for d in part) if all(map(any, figures)) else (),
        notes=tuple(dict.fromkeys(n for e in several for n in e.notes)),
        scalar=total == 1,
        counts=dict(several[0].counts),
        estimand=common_estimand(several),
    )


def _widened(sample: InfluenceSample, first: int, total: int) -> InfluenceSample:
    """The sample with its columns at ``first`` of ``total``, zeros elsewhere."""
    here = slice(first, first + sample.influence.shape[1])
    influence = np.zeros((sample.influence.shape[0], total))
    influence[:, here] = sample.influence
    units = None
    if sample.units is not None:
        every = replace(sample, units=None, influence=influence).unit_counts()
        units = np.array(every)
        units[here] = sample.units
    return sample.with_influence(influence, units)


def compare_estimates(
    estimates: Mapping[str, ValueEstimate],
    *,
    reference: str | None = None,
    level: float = 0.95,
    n_sim: int = 50_000,
    random_state: int = 0,
) -> pd.DataFrame:
    """Policies by estimators in one table, with bands that hold for the whole table.

    Parameters
    ----------
    estimates : mapping label -> ValueEstimate
        One per estimator (or log); each of one or many policies.
    reference : str, optional
        A policy that every estimate values: adds each value's difference from it, within its own
        estimate, with its simultaneous band.
    level : float
    n_sim, random_state : int
        Normal draws behind critical values and probabilities.

    Returns
    -------
    DataFrame
        One row per estimate and policy: ``label, policy, estimator, value, se, ci_lower, ci_upper``
        (each alone), ``band_lower, band_upper`` (all rows together), ``prob_best`` (among the
        policies of the same estimate, empty for one alone; see
        :func:`~causal_lm_opt.selection.probability_best`), ``bias_bound``, ``verdict``;
        with ``reference`` also ``difference, difference_lower, difference_upper`` (all differences
        together).

    Examples
    --------
    >>> import numpy as np
    >>> from causal_lm_opt import IPW
    >>> half = np.log(np.full(4, .5))
    >>> to = {"mild": np.log([.4, .4, .6, .6]), "bold": np.log([.1, .1, .9, .9])}
    >>> fits = {w: IPW(w).fit(list("aabb"), [1., 2., 3., 6.], logp_logging=half,
    ...                       logp_target=to).result_ for w in ("ht", "hajek")}
    >>> compare_estimates(fits)[["label", "policy", "value"]].round(2).values.tolist()
    [['ht', 'mild', 3.3], ['ht', 'bold', 4.2], ['hajek', 'mild', 3.3], ['hajek', 'bold', 4.2]]
    """
    joint = join_estimates(estimates)
    frame = pd.concat([e.to_frame(level) for e in estimates.values()], ignore_index=True)
    frame = frame.drop(columns=["level", "reasons"])
    frame.insert(0, "label", [label for label, e in estimates.items() for _ in e.names])
    frame["policy"] = [name for e in estimates.values() for name in e.names]
    frame["estimator"] = [e.estimator for e in estimates.values() for _ in e.names]
    band = simultaneous_band(joint, level=level, n_sim=n_sim, random_state=random_state)
    frame.insert(7, "band_lower", band[:, 0])
    frame.insert(8, "band_upper", band[:, 1])
    frame.insert(
        9,
        "prob_best",
        np.concatenate([_prob_best(e, n_sim, random_state) for e in estimates.values()]),
    )
    if reference is None:
        return frame
    return _with_differences(frame, joint, estimates, reference, level, n_sim, random_state)


def _prob_best(estimate: ValueEstimate, n_sim: int, random_state: int) -> FloatArray:
    """Probabilities (K,); not a number for a policy alone."""
    if len(estimate.names) < 2:
        return np.array([np.nan])
    found = probability_best(estimate, n_sim=n_sim, random_state=random_state)
    return found["prob_best"].to_numpy()


def _with_differences(
    frame: pd.DataFrame,
    joint: ValueEstimate,
    estimates: Mapping[str, ValueEstimate],
    reference: str,
    level: float,
    n_sim: int,
    random_state: int,
) -> pd.DataFrame:
    """Differences from the reference policy of the same estimate."""
    rows: list[FloatArray] = []
    where: list[int] = []
    first = 0
    for label, estimate in estimates.items():
        if reference not in estimate.names:
            raise ValueError(f"estimates[{label!r}] has no policy {reference!r}: {estimate.names}.")
        base = first + estimate.position(reference)
        for k in range(first, first + len(estimate.names)):
            if k != base:
                row = np.zeros(len(joint.names))
                row[k], row[base] = 1.0, -1.0
                rows.append(row)
                where.append(k)
        first += len(estimate.names)
    if not rows:
        raise ValueError(f"No estimate has a policy besides the reference {reference!r}.")
    names = [f"{joint.names[k]} - {reference}" for k in where]
    differences = joint.linear(np.array(rows), names)
    band = simultaneous_band(differences, level=level, n_sim=n_sim, random_state=random_state)
    found = np.column_stack([differences.values, band])
    for position, column in enumerate(("difference", "difference_lower", "difference_upper")):
        frame[column] = np.nan
        frame.loc[where, column] = found[:, position]
    return frame


def simultaneous_band(
    estimate: ValueEstimate, *, level: float, n_sim: int, random_state: int
) -> FloatArray:
    """Max-t band (K, 2) of all values of an estimate.

    Examples
    --------
    >>> import numpy as np
    >>> from causal_lm_opt import IPW
    >>> rng = np.random.default_rng(0)
    >>> p = rng.uniform(.3, .7, (50, 2))
    >>> logs = {"logp_logging": np.log(np.full(50, .5)), "logp_target": np.log(p)}
    >>> estimate = IPW().fit(p, rng.normal(size=50), **logs).result_
    >>> band = simultaneous_band(estimate, level=.95, n_sim=2000, random_state=0)
    >>> bool((band[:, 0] < estimate.confint()[:, 0]).all())  # wider than each interval alone
    True
    """
    critical = simultaneous_critical_value(
        estimate, level=level, n_sim=n_sim, random_state=random_state
    )
    return _band(estimate, critical)
