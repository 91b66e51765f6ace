"""A logging policy estimated by a language model, against the exact one: what it costs.

``python -m benchmarks.estimated_propensity --data FOLDER --json FILE`` trains a tiny GPT on the
texts of the Hong Kong experiment as an estimate of P_R, whose truth the design gives, and values
four piece policies with known log P_f by each of these logging probabilities:

*exact*: the design's. *in-sample*: a model trained on all texts scores them. *cross-fitted*: a
model trained on half of the texts scores the other half (equal texts stay together). *other texts*:
the model trained on all logged texts scores new logs drawn from the design. *counts of arms*: the
design's order and wordings, with the share of each set of arms counted in the log: what the
policies change is estimated, what they leave alone is not.

The simulated outcome is a known function of the arms plus noise, so that values are known exactly;
with the real outcome only differences from the estimate under the exact P_R can be told. *right q*
reads the arms and the one interaction of the simulated outcome, *wrong q* the number of pieces.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import logsumexp
from sklearn.linear_model import LinearRegression

from benchmarks.validate import begin, write_table
from causal_lm_opt import IPW, DoublyRobust, TargetSample, plots
from causal_lm_opt.datasets import HongKong, PiecePolicy, hong_kong_policies, load_hong_kong
from causal_lm_opt.datasets.hong_kong import ANCHOR
from causal_lm_opt.exceptions import EstimationWarning
from causal_lm_opt.lm import LanguageModelPolicy, from_texts

Float = npt.NDArray[np.float64]
HERE = Path(__file__).parent
SEED = 20261121
INTERACTS = "brave"  # beside the anchor, in the simulated outcome
NOISE = 25.0  # sd of the simulated outcome about its mean; its range is that of the real one
ESTIMATORS = ("Hajek", "DR, right q", "DR, wrong q")
EXACT, IN_SAMPLE, CROSS, OTHER, COUNTS = (
    "exact", "in-sample", "cross-fitted", "other texts", "counts of arms",
)  # fmt: skip


@dataclass(frozen=True)
class Effort:
    """Size of the model, and replications of the simulated outcome."""

    epochs: int = 12
    n_layer: int = 3
    n_embd: int = 128
    n_head: int = 4
    noises: int = 10  # noises drawn for the logged texts
    logs: int = 10  # new logs


QUICK = Effort(epochs=2, n_layer=1, n_embd=16, n_head=1, noises=3, logs=2)


# ------------------------------------------------------------------------------ P^_R
def trained(texts: list[str], folder: Path, effort: Effort) -> LanguageModelPolicy:
    """A model of the texts, kept in ``folder``; scores are kept beside it."""
    if not folder.is_dir():
        from_texts(
            texts, epochs=effort.epochs, n_layer=effort.n_layer, n_embd=effort.n_embd,
            n_head=effort.n_head, context=512, random_state=SEED, name=folder.name,
        ).save(folder)  # fmt: skip
    return LanguageModelPolicy(folder, cache=folder.with_name("scores"), name=folder.name)


def halves(groups: npt.NDArray[np.int64], seed: int = SEED) -> npt.NDArray[np.int64]:
    """Half (0 or 1) of each row, (n,); rows of a group (equal texts) are in the same one."""
    units, of_row = np.unique(groups, return_inverse=True)
    half = np.random.default_rng(seed).permutation(len(units)) % 2
    return half[of_row]


def cross_fitted(data: HongKong, models: Path, effort: Effort) -> Float:
    """log P^_R (n,) of each text under the model that was trained on the other half."""
    half = halves(data.groups)
    out = np.empty(len(data))
    for k in (0, 1):
        mine = np.flatnonzero(half == k)
        others = [data.texts[i] for i in np.flatnonzero(half != k)]
        model = trained(others, models / f"without-half-{k}", effort)
        out[mine] = model.log_prob([data.texts[i] for i in mine])
    return out


def counted(design: PiecePolicy, texts: list[str]) -> Float:
    """log P_R (n,) with the share of each set of arms as counted among the texts."""
    arms = design.arms_of(texts)
    sets = arms[list(design.arms)].astype(str).agg("".join, axis=1)
    shares = sets.map(sets.value_counts(normalize=True)).to_numpy(dtype=np.float64)
    return design.log_prob(texts) - design.log_prob_arms(arms) + np.log(shares)


# ------------------------------------------------------------------------------ agreement
def agreement(exact: Float, estimated: Float, n_pieces: npt.NDArray[np.int64]) -> dict[str, float]:
    """How log P^_R (n,) agrees with log P_R (n,).

    ``calibration`` is the line of the exact on the estimated one. Over texts that the model was not
    trained on, the mean of P^/P_R has as its expectation the probability that P^ gives to the
    design's texts, at most 1. The mean of P_R/P^ is what Horvitz-Thompson weights are multiplied by
    on average. ``kl`` is the mean of log P_R - log P^. The largest ratios belong to texts longer
    than those the model has seen, whose positions it has not learnt; so the effective share is told
    without them as well.
    """

    def log_mean(values: Float) -> float:
        return float(logsumexp(values)) - math.log(values.size)

    def ess_share(values: Float) -> float:
        return math.exp(2 * log_mean(values) - log_mean(2 * values))

    gap = exact - estimated
    slope, intercept = np.polyfit(estimated, exact, 1)
    within = [np.corrcoef(exact[n_pieces == k], estimated[n_pieces == k])[0, 1] for k in (2, 3)]
    return {
        "correlation": float(np.corrcoef(exact, estimated)[0, 1]),
        "correlation, 2 pieces": float(within[0]),
        "correlation, 3 pieces": float(within[1]),
        "calibration slope": float(slope),
        "calibration intercept": float(intercept),
        "kl": float(gap.mean()),
        "sd of log P_R - log P^": float(gap.std(ddof=1)),
        "log mean of P^/P_R": log_mean(-gap),
        "log mean of P_R/P^": log_mean(gap),
        "ESS share of P_R/P^": ess_share(gap),
        "ESS share, 2% largest left out": ess_share(np.sort(gap)[: -math.ceil(0.02 * gap.size)]),
    }


# ------------------------------------------------------------------------------ the outcome
def effects(arms: tuple[str, ...]) -> Float:
    """Effect of each arm on the simulated outcome, (A,): from -8 to 12 in their order."""
    return np.linspace(-8.0, 12.0, len(arms))


def mean_outcome(arms: pd.DataFrame, names: tuple[str, ...]) -> Float:
    """Mean (n,) of the simulated outcome: linear in the arms, and one interaction."""
    together = (arms[ANCHOR] * arms[INTERACTS]).to_numpy(dtype=np.float64)
    linear: Float = arms[list(names)].to_numpy(dtype=np.float64) @ effects(names)
    return 45.0 + linear + 10.0 * together


def truth(policy: PiecePolicy) -> float:
    """Value of a policy under the simulated outcome, by enumeration."""
    support, prob = policy.support()
    return float(prob @ mean_outcome(support, policy.arms))


def features(arms: pd.DataFrame, names: tuple[str, ...], *, right: bool) -> Float:
    """What q reads: arms and interaction (n, A + 1), or the number of pieces alone (n, 1)."""
    values: Float = arms[list(names)].to_numpy(dtype=np.float64)
    if not right:
        total: Float = values.sum(axis=1, keepdims=True)
        return total
    return np.column_stack([values, arms[ANCHOR] * arms[INTERACTS]])


# ------------------------------------------------------------------------------ values
@dataclass(frozen=True, eq=False)
class Log:
    """Texts with their arms, clusters and log P_f (n, K)."""

    arms: pd.DataFrame
    groups: npt.NDArray[Any]
    logp_target: pd.DataFrame


def make_log(texts: list[str], design: PiecePolicy, policies: Mapping[str, PiecePolicy]) -> Log:
    """A log of texts of the design."""
    return Log(
        design.arms_of(texts),
        pd.factorize(pd.Series(texts))[0],
        pd.DataFrame({name: policy.log_prob(texts) for name, policy in policies.items()}),
    )


def values(
    log: Log, y: Float, logp: Float, policies: Mapping[str, PiecePolicy]
) -> list[dict[str, Any]]:
    """Value, standard error and verdict of each policy by each estimator."""
    names = next(iter(policies.values())).arms
    rows: list[dict[str, Any]] = []
    given = {"logp_target": log.logp_target, "logp_logging": logp, "groups": log.groups}
    for estimator in ESTIMATORS:
        right = estimator != ESTIMATORS[2]
        fitted: Any = IPW()
        targets: dict[str, TargetSample] | None = None
        if estimator != ESTIMATORS[0]:
            fitted = DoublyRobust(LinearRegression(), inference="influence", random_state=SEED)
            targets = {}
            for name, policy in policies.items():
                support, prob = policy.support()
                X = features(support, names, right=right)
                targets[name] = TargetSample(X, logp_target=np.log(prob), exact=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EstimationWarning)  # the verdicts say it, and are kept
            X = features(log.arms, names, right=right)
            result = fitted.fit(X, y, X_target=targets, **given).result_
        frame = result.to_frame().set_index("policy")
        for name, verdict, figures in zip(
            result.names, result.verdicts, result.diagnostics, strict=True
        ):
            rows.append(
                {
                    "policy": name, "estimator": estimator,
                    "value": float(frame.loc[name, "value"]), "se": float(frame.loc[name, "se"]),
                    "verdict": verdict.level, "ess": figures.get("ess"),
                    "pareto_k": figures.get("pareto_k"),
                }
            )  # fmt: skip
    return rows


def compared(
    rows: pd.DataFrame, policies: Mapping[str, PiecePolicy], *, known: bool
) -> list[dict[str, Any]]:
    """Means over replications, beside the exact P_R's estimates (and the truth, where known)."""
    keys = ["policy", "estimator"]
    exact = rows[rows["P_R"] == EXACT].groupby(keys)[["value", "se"]].mean().T.to_dict("list")
    out = []
    for (kind, policy, estimator), part in rows.groupby(["P_R", *keys], sort=False):
        base, base_se = exact[(policy, estimator)]
        row = {
            "P_R": kind, "policy": policy, "estimator": estimator, "replications": len(part),
            "value": float(part["value"].mean()), "se": float(part["se"].mean()),
            "minus exact": float(part["value"].mean() - base), "se with exact": float(base_se),
            "ess": float(part["ess"].astype(float).mean()),
            "pareto_k": float(part["pareto_k"].astype(float).mean()),
            **{f"share {v}": float((part["verdict"] == v).mean())
               for v in ("trustworthy", "caution", "do not use")},
        }  # fmt: skip
        if known:
            value = truth(policies[str(policy)])
            error = part["value"] - value
            spread = float(error.std(ddof=1)) if len(part) > 1 else math.nan
            row |= {
                "truth": value,
                "error": float(error.mean()),
                "mc_se": spread / math.sqrt(len(part)),
                "coverage": float((error.abs() <= 1.96 * part["se"]).mean()),
            }
        # NaN (a k that the data do not define) is no JSON.
        out.append({k: None if isinstance(v, float) and v != v else v for k, v in row.items()})
    return out


def logged_tables(
    data: HongKong, logps: Mapping[str, Float], effort: Effort
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The simulated and the real outcome on the logged texts."""
    policies = hong_kong_policies(data.design)
    log = make_log(data.texts, data.design, policies)
    mean = mean_outcome(log.arms, data.design.arms)

    def table(outcomes: list[Float], *, known: bool) -> list[dict[str, Any]]:
        rows = [
            {"P_R": kind} | row
            for y in outcomes
            for kind, logp in logps.items()
            for row in values(log, y, logp, policies)
        ]
        return compared(pd.DataFrame(rows), policies, known=known)

    noise = np.random.default_rng(SEED).normal(scale=NOISE, size=(effort.noises, len(data)))
    return table([mean + e for e in noise], known=True), table([data.outcome], known=False)


def new_logs(
    data: HongKong, score: Callable[[list[str]], Float], effort: Effort
) -> list[dict[str, Any]]:
    """The simulated outcome on logs drawn from the design, of the size of the real one."""
    policies = hong_kong_policies(data.design)
    rows = []
    for replication in range(effort.logs):
        texts = data.design.sample(len(data), random_state=SEED + replication)
        log = make_log(texts, data.design, policies)
        rng = np.random.default_rng([SEED, replication])
        y = mean_outcome(log.arms, data.design.arms) + rng.normal(scale=NOISE, size=len(texts))
        logps = {EXACT: data.design.log_prob(texts), OTHER: score(texts),
                 COUNTS: counted(data.design, texts)}  # fmt: skip
        rows += [
            {"P_R": kind} | row
            for kind, logp in logps.items()
            for row in values(log, y, logp, policies)
        ]
    return compared(pd.DataFrame(rows), policies, known=True)


# ------------------------------------------------------------------------------ figure
def figure(logps: Mapping[str, Float], tables: Mapping[str, list[dict[str, Any]]]) -> Any:
    """Estimated against exact log P_R; errors with a known truth; shifts with the real outcome."""
    ink = plots.LIGHT
    styles = {EXACT: ("o", ink.ink), IN_SAMPLE: ("X", ink.no), CROSS: ("s", ink.first),
              OTHER: ("^", ink.second), COUNTS: ("D", ink.soft)}  # fmt: skip
    made, (axes,) = plots.new_grid(1, 4, width=13.0, height=5.0)
    ax, exact = axes[0], logps[EXACT]
    for kind in (CROSS, IN_SAMPLE):
        marker, colour = styles[kind]
        ax.plot(logps[kind], exact, marker, color=colour, markersize=2.0, alpha=0.35)
    ends = [exact.min() - 0.5, exact.max() + 0.5]
    ax.plot(ends, ends, color=ink.soft, linewidth=1.0)
    ax.set_xlabel("estimated log P_R (model)")
    ax.set_ylabel("exact log P_R (design)")
    ax.set_title("Logged texts", loc="left", fontsize=9, color=ink.ink)
    panels = (
        ("simulated", "error", "Simulated outcome: value - truth"),
        ("new logs", "error", "The same on new logs"),
        ("real", "minus exact", "Real outcome: value - exact P_R's"),
    )
    policies = list(dict.fromkeys(row["policy"] for row in tables["real"]))
    places = {key: i for i, key in enumerate((e, p) for e in ESTIMATORS for p in policies)}
    for panel, (name, column, words) in zip(axes[1:], panels, strict=True):
        kinds = list(dict.fromkeys(row["P_R"] for row in tables[name]))
        shift = dict(zip(kinds, np.linspace(-0.27, 0.27, len(kinds)), strict=True))
        for row in tables[name]:
            if name == "real" and row["P_R"] == EXACT:
                continue
            marker, colour = styles[row["P_R"]]
            y = places[row["estimator"], row["policy"]] + shift[row["P_R"]]
            half = 1.96 * row["se"]
            panel.plot([row[column] - half, row[column] + half], [y, y], color=colour,
                       linewidth=1.0, alpha=0.6)  # fmt: skip
            panel.plot(row[column], y, marker, color=colour, markersize=4.5)
        panel.axvline(0.0, color=ink.soft, linewidth=1.0)
        labels = [f"{e}: {p.replace('_', ' ')}" for e, p in places]
        panel.set_yticks(range(len(places)), labels if panel is axes[1] else [""] * len(places))
        panel.set_ylim(len(places) - 0.45, -0.55)
        panel.tick_params(axis="y", length=0)
        panel.grid(False, axis="y")
        panel.set_xlabel("points of 0 to 100, with 1.96 se")
        panel.set_title(words, loc="left", fontsize=9, color=ink.ink)
        for edge in (len(policies) * k - 0.5 for k in (1, 2)):
            panel.axhline(edge, color=ink.line, linewidth=0.8)
    for kind, (marker, colour) in styles.items():
        ax.plot([], [], marker, color=colour, markersize=5, label=f"P_R {kind}")
    made.legend(loc="outside lower left", ncols=5, frameon=False, fontsize=8, labelcolor=ink.ink)
    return made


# ------------------------------------------------------------------------------ running
def run(data: HongKong, path: Path, effort: Effort, models: Path) -> dict[str, Any]:
    """Train, compare, value; writes the table and its plot."""
    begun = begin(SEED)
    everyone = trained(data.texts, models / "all", effort)
    logps = {
        EXACT: data.logp_logging,
        IN_SAMPLE: everyone.log_prob(data.texts),
        CROSS: cross_fitted(data, models, effort),
        COUNTS: counted(data.design, data.texts),
    }
    fresh = data.design.sample(len(data), random_state=SEED)  # the first of the new logs
    found = {
        kind: agreement(logps[EXACT], logp, data.n_pieces)
        for kind, logp in logps.items()
        if kind != EXACT
    }
    found[OTHER] = agreement(
        data.design.log_prob(fresh), everyone.log_prob(fresh),
        data.design.arms_of(fresh)["n_pieces"].to_numpy(),
    )  # fmt: skip
    simulated, real = logged_tables(data, logps, effort)
    tables = {
        "simulated": simulated,
        "new logs": new_logs(data, everyone.log_prob, effort),
        "real": real,
    }
    rows = [{"outcome": name} | row for name, table in tables.items() for row in table]
    facts = {"n": len(data), "effort": asdict(effort), "agreement": found}
    write_table(path, begun | facts, rows)
    figure(logps, tables).savefig(
        path.with_suffix(".png"), dpi=130, facecolor="white", metadata={"Software": None},
        pil_kwargs={"optimize": True},
    )  # fmt: skip
    return {"agreement": found, "rows": rows}


def main(argv: list[str] | None = None) -> int:
    """Write ``estimated_propensity.json`` and its plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with hong_kong_2019.csv")
    parser.add_argument("--json", type=Path, default=HERE / "results" / "estimated_propensity.json")
    parser.add_argument("--models", type=Path, help="keep models and scores here, to go on later")
    parser.add_argument("--quick", action="store_true", help="a smaller model, fewer replications")
    arguments = parser.parse_args(argv)
    effort = QUICK if arguments.quick else Effort()
    with tempfile.TemporaryDirectory() as spare:
        models = arguments.models or Path(spare)
        found = run(load_hong_kong(arguments.data), arguments.json, effort, models)
    print(pd.DataFrame(found["agreement"]).round(3).to_string())
    shown = ["outcome", "estimator", "policy", "P_R", "value", "se", "error", "minus exact",
             "se with exact", "coverage", "ess", "share do not use"]  # fmt: skip
    print(pd.DataFrame(found["rows"])[shown].round(2).to_string(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
