"""Tables of the open questions, from the lines of finished units."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causal_lm_opt.simulation.confounding_tables import paired_interval

POINTS = 3.0  # of the outcome's scale of 100, at which sizes are compared


def write_tables(file: Path, question: str, out: Path) -> str:
    """Write ``QUESTION.csv`` (units) and ``QUESTION-summary.csv``; return the text to print."""
    lines = file.read_text(encoding="utf-8").splitlines()
    units = pd.DataFrame([json.loads(line) for line in lines]).drop(columns="seconds")
    made = {"f0": f0_table, "unseen-arms": unseen_table, "three-classes": class_table,
            "model-size": size_table}  # fmt: skip
    summary = made[question](units)
    for name, frame in ((question, units), (f"{question}-summary", summary)):
        told = frame.to_csv(index=False, lineterminator="\n", float_format="%.6g")
        (out / f"{name}.csv").write_text(told, encoding="utf-8")
    with pd.option_context("display.width", 250, "display.max_columns", 50):
        return summary.round(3).to_string(index=False)


def mean_of(name: str, values: Any) -> dict[str, float]:
    """Mean over seeds with its 95 % t-interval."""
    found = np.asarray(values, dtype=np.float64)
    value, low, high = paired_interval(found[np.isfinite(found)])
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def covers(part: pd.DataFrame, truth: str = "true_value", at: str = "heldout") -> dict[str, float]:
    """Intervals that hold the truth, of those that may be used: hits, of how many."""
    used = part[(part["verdict"] != "do not use") & part[f"{at}_lo"].notna()]
    hits = (used[f"{at}_lo"] <= used[truth]) & (used[truth] <= used[f"{at}_hi"])
    return {"covered": float(hits.sum()), "used": float(len(used))}


def f0_table(units: pd.DataFrame) -> pd.DataFrame:
    """Means by start and objective; differences from the fine-tuned start, paired by seed."""
    wide = units.pivot_table(index=["objective", "seed"], columns="start", values="true_value")
    wide = wide.reindex(columns=sorted({*wide.columns, "fine-tuned"}))
    rows = []
    for (start, objective), part in units.groupby(["start", "objective"], sort=False):
        gain = part["true_value"] - part["start_true_value"]
        both: Any = wide.xs(objective)
        rows.append(
            {"start": start, "objective": objective, "seeds": len(part),
             "start_value": part["start_true_value"].mean()}
            | mean_of("value", part["true_value"]) | mean_of("gain", gain)
            | mean_of("less_fine_tuned", both[start] - both["fine-tuned"])
            | {"ess": part["ess"].mean(), "start_ess": part["start_ess"].mean(),
               "start_ess_sequence": part["ess_start"].mean(),
               "sd_log_start_over_design": part["sd_log_start_over_design"].mean(),
               "off_topic": part["start_off_topic"].mean(),
               "do_not_use": (part["verdict"] == "do not use").mean()}
            | covers(part)
        )  # fmt: skip
    return pd.DataFrame(rows)


def unseen_table(units: pd.DataFrame) -> pd.DataFrame:
    """Means by log and objective; verdicts as shares of the runs."""
    rows = []
    for (log, objective), part in units.groupby(["log", "objective"], sort=False):
        row = {"log": log, "objective": objective, "seeds": len(part)}
        for name in ("start_true_value", "start_both", "unseen", "ess"):
            row[name] = part[name].mean()
        row |= mean_of("value", part["true_value"]) | mean_of("both", part["both"])
        row |= covers(part)
        if log == "apart":
            row |= mean_of("backfire_value", part["backfire_value"])
            row |= mean_of("backfire_gain", part["backfire_value"] - part["start_backfire_value"])
            row["backfire_covered"] = covers(part, "backfire_value")["covered"]
        for kind in ("latent", "cells", "product", "sequence"):
            for level in ("trustworthy", "caution", "do not use"):
                row[f"{kind}: {level}"] = float((part[f"{kind}_level"] == level).mean())
        row["report: do not use"] = float((part["verdict"] == "do not use").mean())
        row["report: trustworthy"] = float((part["verdict"] == "trustworthy").mean())
        rows.append(row)
    return pd.DataFrame(rows)


def class_table(units: pd.DataFrame) -> pd.DataFrame:
    """Values of one policy over logs, then utilities that training reaches."""
    rows: list[dict[str, Any]] = []
    values = units[units["unit"].str.startswith("value")]
    for utility, part in values.groupby("utility", sort=False):
        truth = part["true_value"]
        for model in ("direct", "classes"):
            error = part[f"{model}_value"] - truth
            hits = (part[f"{model}_lo"] <= truth) & (truth <= part[f"{model}_hi"])
            rows.append(
                {"part": "value", "utility": utility, "objective": "DR", "model": model,
                 "runs": len(part), "truth": truth.mean(), "sd": error.std(),
                 "mean_se": part[f"{model}_se"].mean(), "coverage": hits.mean()}
                | mean_of("bias", error)
                | mean_of("plug_in_bias", part[f"{model}_plug_in"] - truth)
                | mean_of("less_direct", part[f"{model}_value"] - part["direct_value"])
                | {"sd_less_direct": (part[f"{model}_value"] - part["direct_value"]).std()}
            )  # fmt: skip
    trained = units[units["unit"].str.startswith("train")]
    if trained.empty:
        return pd.DataFrame(rows)
    for (utility, objective), both in trained.groupby(["utility", "objective"], sort=False):
        wide = both.pivot(index="seed", columns="model", values="true_value")
        for model in ("direct", "classes"):
            part = both[both["model"] == model]
            closed = (part["true_value"] - part["start_true_value"]) / (
                part["best"] - part["start_true_value"]
            )
            rows.append(
                {"part": "train", "utility": utility, "objective": objective, "model": model,
                 "runs": len(part), "start": part["start_true_value"].mean(),
                 "best": part["best"].mean(), "polarising": part["polarising"].mean(),
                 "ess": part["ess"].mean(),
                 "do_not_use": (part["verdict"] == "do not use").mean()}
                | mean_of("true_value", part["true_value"]) | mean_of("closed", closed)
                | mean_of("less_direct", wide[model] - wide["direct"]) | covers(part)
            )  # fmt: skip
    return pd.DataFrame(rows)


def size_table(units: pd.DataFrame) -> pd.DataFrame:
    """By size: the start, and the policy at each look; then at `POINTS` of gain and 1 nat."""
    rows = []
    for size, part in units.groupby("size", sort=False):
        paths = [pd.DataFrame(json.loads(p)) for p in part["path"]]
        head = {"size": size, "parameters": int(part["parameters"].iloc[0]), "seeds": len(part),
                "tokens": part["tokens"].mean()}  # fmt: skip
        for step in paths[0]["step"]:
            at = [path[path["step"] == step].iloc[0] for path in paths]
            gain = [a["value"] - path["value"].iloc[0] for a, path in zip(at, paths, strict=True)]
            row = head | {"at": f"step {step}"} | mean_of("gain", gain)
            for name in ("kl", "sd", "ess", "sd_design", "ess_design", "surprise"):
                row |= mean_of(name, [a[name] for a in at])
            rows.append(row)
        for what, level in (("gain", POINTS), ("kl", 1.0)):
            met = [crossed(path, what, level) for path in paths]
            row = head | {"at": f"{what} {level:g}", "reached": sum(m is not None for m in met)}
            for name in ("step", "gain", "kl", "sd", "ess", "sd_design", "ess_design"):
                row |= mean_of(name, [m[name] for m in met if m is not None])
            rows.append(row)
    return pd.DataFrame(rows)


def crossed(path: pd.DataFrame, what: str, level: float) -> dict[str, float] | None:
    """Figures where a path first reaches a level, interpolated; None where it does not."""
    path = path.assign(gain=path["value"] - path["value"].iloc[0])
    above = np.flatnonzero(path[what].to_numpy() >= level)
    if not above.size or above[0] == 0:
        return None
    one, two = path.iloc[above[0] - 1], path.iloc[above[0]]
    t = (level - one[what]) / (two[what] - one[what])
    return {str(k): float(one[k] + t * (two[k] - one[k])) for k in path.columns}
