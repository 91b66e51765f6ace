"""The table of a simulation study: figures over replications, each with its Monte-Carlo error."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from causal_lm_opt.diagnostics.verdict import LEVELS

__all__ = ["summarise", "with_failures"]

Column = npt.NDArray[np.float64]


def summarise(frame: pd.DataFrame, truth: float, *, level: float = 0.95) -> list[dict[str, Any]]:
    r"""Figures of each estimator over the replications of a cell, with Monte-Carlo errors.

    Monte-Carlo errors (``..._mc_se``) are those of Morris, White and Crowther (2019), Table 6;
    that of a share counts two further successes and failures, so that 0 and 1 have an error too.

    Parameters
    ----------
    frame : DataFrame
        Columns ``estimator, value`` and what there is of ``se, low, high, verdict, error``.
    truth : float
    level : float
        Of the intervals, for ``width_over_oracle``.

    Returns
    -------
    list of dict
        ``estimator, replications, failures`` (refusals, and what :func:`with_failures` names;
        left out of all else), ``truth, bias, sd,
        rmse, se`` (mean), ``se_over_sd, coverage, width, width_over_oracle`` (over that of the true
        spread), with ``bias_mc_se, sd_mc_se, rmse_mc_se, se_over_sd_mc_se, coverage_mc_se,
        width_mc_se`` (that of the coverage by Agresti and Coull: two covered and two others are
        added to the replications); ``share`` and ``coverage`` of each verdict.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"estimator": "a", "value": [0., 2., 1., 1.], "se": 1.,
    ...                       "low": [-2., 0, -1, -1], "high": [.5, 4., 3., 3.]})
    >>> row = summarise(frame, truth=1.0)[0]
    >>> row["bias"], round(row["rmse"], 3), row["coverage"]
    (0.0, 0.707, 0.75)
    """
    rows = []
    frame = with_failures(frame)
    for name, part in frame.groupby("estimator", sort=False):
        failed = part["error"].notna() if "error" in part else pd.Series(False, index=part.index)
        good = part[~failed]
        row: dict[str, Any] = {
            "estimator": str(name),
            "replications": len(part),
            "failures": int(failed.sum()),
            "truth": float(truth),
        }
        row |= _value_figures(_column(good, "value"), _column(good, "se"), truth)
        covered, width = _interval(good, truth)
        row |= _interval_figures(covered, width, float(row["sd"]), level)
        verdicts = good["verdict"] if "verdict" in good else pd.Series("", index=good.index)
        judged = bool(verdicts.isin(LEVELS).any())  # a function of the log may judge nothing
        for verdict in LEVELS:
            chosen = (verdicts == verdict).to_numpy()
            row[f"share {verdict}"] = float(chosen.mean()) if judged else math.nan
            row[f"coverage {verdict}"] = _mean(covered[chosen])
        rows.append(row)
    return rows


def with_failures(frame: pd.DataFrame) -> pd.DataFrame:
    """Replications, with ``error`` filled in where a figure that others have is not a number.

    A value must be finite. An interval, or standard error, may be missing throughout (the
    estimator has none), not here and there.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"estimator": "a", "value": [0., float("nan")]})
    >>> with_failures(frame)["error"].tolist()
    [None, 'value is not a finite number']
    """
    failed = np.zeros(len(frame), dtype=bool)
    error = np.full(len(frame), None, dtype=object)
    if "error" in frame:
        failed = frame["error"].notna().to_numpy()
        error[failed] = frame["error"].to_numpy(dtype=object)[failed]
    for at in frame.groupby("estimator", sort=False).indices.values():
        part = frame.iloc[at]
        wrong = {"value": ~np.isfinite(_column(part, "value"))}
        for name in ("low", "high", "se"):
            lacking = np.isnan(_column(part, name))
            wrong[name] = lacking & (~lacking & ~failed[at]).any()
        for name, here in wrong.items():
            new = at[here & (error[at] == None)]  # noqa: E711 - elementwise
            error[new] = f"{name} is not a {'finite ' if name == 'value' else ''}number"
    if (error == None).all():  # noqa: E711 - elementwise
        return frame
    return frame.assign(error=pd.Series(error, index=frame.index, dtype=object))


def _column(frame: pd.DataFrame, name: str) -> Column:
    if name not in frame:
        return np.full(len(frame), np.nan)
    return frame[name].to_numpy(dtype=np.float64)


def _mean(values: Column) -> float:
    return float(values.mean()) if values.size else math.nan


def _mc_se(values: Column) -> float:
    """Standard error of a mean over replications."""
    return float(values.std(ddof=1)) / math.sqrt(values.size) if values.size > 1 else math.nan


def _value_figures(value: Column, se: Column, truth: float) -> dict[str, float]:
    """Bias, spread and error of the estimates, and of their standard errors."""
    count = value.size
    spread = float(value.std(ddof=1)) if count > 1 else math.nan
    square = (value - truth) ** 2
    rmse = math.sqrt(_mean(square)) if count else math.nan
    mean_se = _mean(se)
    ratio = mean_se / spread if spread > 0 else math.nan
    relative = _mc_se(se) / mean_se if mean_se > 0 else math.nan
    freedom = 2.0 * (count - 1) if count > 1 else math.nan
    return {
        "bias": _mean(value) - truth,
        "bias_mc_se": _mc_se(value),
        "sd": spread,
        "sd_mc_se": spread / math.sqrt(freedom),
        "rmse": rmse,
        "rmse_mc_se": _mc_se(square) / (2.0 * rmse) if rmse > 0 else math.nan,
        "se": mean_se,
        "se_over_sd": ratio,
        "se_over_sd_mc_se": ratio * math.sqrt(relative**2 + 1.0 / freedom),
    }


def _interval(good: pd.DataFrame, truth: float) -> tuple[Column, Column]:
    """Whether each interval covers (0 or 1; not a number without interval), and its width."""
    low, high = _column(good, "low"), _column(good, "high")
    known = ~(np.isnan(low) | np.isnan(high))
    covered = np.where(known, (low <= truth) & (truth <= high), np.nan)
    return covered, high - low


def _interval_figures(
    covered: Column, width: Column, spread: float, level: float
) -> dict[str, float]:
    coverage = _mean(covered)
    trials = covered.size + 4.0  # Agresti and Coull's: the error is never 0
    shrunk = (covered.sum() + 2.0) / trials
    oracle = 2.0 * float(stats.norm.ppf(0.5 + level / 2)) * spread
    error = math.sqrt(shrunk * (1.0 - shrunk) / trials) if covered.size else math.nan
    return {
        "coverage": coverage,
        "coverage_mc_se": error,
        "width": _mean(width),
        "width_mc_se": _mc_se(width),
        "width_over_oracle": _mean(width) / oracle if oracle > 0 else math.nan,
    }
