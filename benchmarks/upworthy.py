r"""Headlines valued off-policy and by what they then got: ``python -m benchmarks.upworthy``.

Each test of the archive dealt headlines to readers at random, within one image (a *stratum*).
Tests are split in halves at random, many times. On the training tests a ridge on TF-IDF learns how
far a headline's click rate lies from its stratum's. The policy "in each stratum the headline that
this model likes best" is then valued on the held-out tests, strata weighted by their impressions:

.. math:: V = \sum_s \omega_s \, p(s, \text{best}(s)), \qquad \omega_s = N_s / N .

The estimate is ``DoublyRobust`` (and ``IPW``) on clicks as counts, with the known
P_R(headline | stratum) = its share of the stratum's arms and predictions q from the training tests.
The truth is the realised click rate of those very headlines. From the same impressions the two are
nearly the same number (the weights pick the arms whose rate is the truth), which would prove
nothing. Two comparisons with separate readers instead:

``same tests``
    Each headline's impressions are dealt into two halves of fixed size (clicks: hypergeometric),
    one for the estimate, one for the realised rate. Tests and headlines are the same, so only
    readers vary: rows are readers (no groups), the support is enumerated. Given a headline's
    totals this split is ours, so that a miss here is the fault of weights, strata, q or standard
    error, and of nothing else.
``other tests``
    The held-out tests are halved: one half for the estimate, the other, with other headlines and
    readers, for the realised rate. Both are samples of tests (groups = test, draws shared with
    them), and so the intervals must allow for it.

Covered means: the interval of the *difference*, estimate - realised -+ 1.96 sqrt(se^2 + realised
se^2), holds 0. (The interval of the estimate alone covers an equally noisy truth 83 % of the time.)
Splits overlap, so that they are not 20 independent trials.

Negative controls, each a mistake one could make: click rates as rows weighted by impressions;
P_R over all headlines, strata ignored; the headline picked and valued on the same readers; the
outcome model's own claim, uncorrected (it has no interval; the realised rate's is taken).

A policy that picks one headline and arms that were equally likely leave DR little to do: both DR
and IPW are then the stratified mean but for chance imbalance of the arms, and a click is so rare
that q explains next to nothing of one reader's.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from tqdm import tqdm

from benchmarks.estimators import RESULTS, show, write
from benchmarks.headlines import Realised, best_of, fit_model, realised, stratum_share, thin
from benchmarks.validate import begin
from causal_lm_opt import IPW, DoublyRobust, LoggedData, ValueEstimate
from causal_lm_opt.datasets.upworthy import Upworthy, load_upworthy
from causal_lm_opt.diagnostics import LEVELS
from causal_lm_opt.estimators import TargetSample

SEED = 20130101
ALPHAS = (1.0, 3.0, 10.0, 30.0, 100.0)
Z = 1.959964
WANTED = 17 / 20
BEST, UNIFORM, LIFT = "best predicted", "uniform", "best - uniform"
SAME, OTHER = "same tests", "other tests"
Float = NDArray[np.float64]
Row = dict[str, Any]


# ------------------------------------------------------------------ off-policy, by the library
def logp(p: Float) -> Float:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(p))


def counts_log(
    cells: pd.DataFrame, q: Float, logging: Float, targets: Mapping[str, Float], group: str | None
) -> LoggedData:
    """Clicks of impressions as a log, with log-probabilities and predictions of each headline."""
    frame = cells.assign(q=q, logging=logp(logging))
    for name, p in targets.items():
        frame[name] = logp(p)
    return LoggedData.from_counts(
        frame, text="headline", clicks="clicks", impressions="impressions", group=group,
        logp_logging="logging", logp_target=list(targets), covariates=["q"],
    )  # fmt: skip


def on_same_tests(
    cells: pd.DataFrame, q: Float, targets: Mapping[str, Float], *, readers: bool = True
) -> dict[str, ValueEstimate]:
    """Value on these headlines: the support is enumerated, rows are readers (or arms clusters)."""
    share = stratum_share(cells)
    logging = share * cells["probability"].to_numpy()
    joint = {name: share * p for name, p in targets.items()}
    log = counts_log(cells, q, logging, joint, None)
    params = log.fit_params()
    if readers:  # from_counts makes each arm a cluster, which is for arms to come
        del params["groups"]
    assert log.covariates is not None
    support = TargetSample(
        cells["headline"].tolist(), exact=True, logp_logging=logp(logging),
        logp_target=pd.DataFrame({name: logp(p) for name, p in joint.items()}),
    )  # fmt: skip
    dr = DoublyRobust().fit(
        log.text, log.outcome, X_target=support, q_target=q,
        q_logged=log.covariates["q"].to_numpy(), **params,
    )  # fmt: skip
    ipw = IPW().fit(log.text, log.outcome, X_target=support, **params)
    return {"DR": dr.result_, "IPW": ipw.result_}


def on_other_tests(
    cells: pd.DataFrame, q: Float, targets: Mapping[str, Float]
) -> dict[str, ValueEstimate]:
    """Value for tests to come: tests are clusters, of the log and of the policy's headlines."""
    p = cells["probability"].to_numpy()
    log = counts_log(cells, q, p, targets, "test")
    assert log.covariates is not None
    total = cells.groupby("stratum")["impressions"].transform("sum").to_numpy(dtype=np.float64)
    draws, predicted = {}, {}
    for name, f in targets.items():
        rows = np.flatnonzero(f > 0)
        draws[name] = TargetSample(
            cells["headline"].iloc[rows].tolist(), weight=(total * f)[rows],
            groups=cells["test"].to_numpy()[rows], logp_target=logp(f[rows]),
            logp_logging=logp(p[rows]),
        )  # fmt: skip
        predicted[name] = q[rows]
    dr = DoublyRobust().fit(
        log.text, log.outcome, X_target=draws, q_target=predicted,
        q_logged=log.covariates["q"].to_numpy(), **log.fit_params(),
    )  # fmt: skip
    ipw = IPW().fit(log.text, log.outcome, X_target=draws, **log.fit_params())
    return {"DR": dr.result_, "IPW": ipw.result_}


# ------------------------------------------------------------------ what is compared
def compared(analysis: str, quantity: str, value: float, se: float, truth: float,
             truth_se: float, verdict: str = "") -> Row:  # fmt: skip
    """One comparison of an estimate with a realised rate of other readers."""
    half = Z * math.hypot(se, truth_se)
    return {
        "analysis": analysis, "quantity": quantity, "value": value, "se": se,
        "realised": truth, "realised_se": truth_se, "half_width": half,
        "covered": abs(value - truth) <= half,
        "covered_alone": abs(value - truth) <= Z * se, "verdict": verdict,
    }  # fmt: skip


def against(
    analysis: str, found: ValueEstimate, truth: Mapping[str, Realised], se: str
) -> list[Row]:
    """The best headlines' value and its lift over all headlines, against the realised ones."""
    quantities = {BEST: found[BEST], LIFT: found[BEST] - found[UNIFORM]}
    return [
        compared(analysis, name, float(e.value), float(e.se), truth[name].value,
                 getattr(truth[name], se), e.verdicts[0].level)
        for name, e in quantities.items()
    ]  # fmt: skip


def truths(cells: pd.DataFrame, targets: Mapping[str, Float], share: Float) -> dict[str, Realised]:
    """Realised rates of the best headlines and of their lift."""
    contrast = targets[BEST] - targets[UNIFORM]
    return {BEST: realised(cells, targets[BEST], share), LIFT: realised(cells, contrast, share)}


def controls(
    half: pd.DataFrame, other: pd.DataFrame, q: Float, targets: Mapping[str, Float]
) -> list[Row]:
    """The mistakes, on the same halves as the comparison ``same tests``."""
    share = stratum_share(half)
    truth = truths(other, targets, share)
    arms = half["arms"].to_numpy(dtype=np.float64)
    pooled = {name: arms * (f > 0) / arms[f > 0].sum() for name, f in targets.items()}
    log = counts_log(half, q, arms / arms.sum(), pooled, None)
    params = {k: v for k, v in log.fit_params().items() if k != "groups"}
    ignored = IPW().fit(log.text, log.outcome, **params).result_
    rows = against("strata ignored", ignored, truth, "se_readers")

    seen = half["clicks"].to_numpy() / np.maximum(half["impressions"].to_numpy(), 1)
    lucky = {BEST: best_of(seen, half), UNIFORM: targets[UNIFORM]}
    found = on_same_tests(half, q, lucky)["IPW"]
    rows += against("picked on the same readers", found, truths(other, lucky, share), "se_readers")
    rates = half.assign(rate=seen, logging=logp(targets[UNIFORM]))
    for name, f in targets.items():
        rates[name] = logp(f)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        wrong = LoggedData.from_pandas(
            rates, text="headline", outcome="rate", weight="impressions", logp_logging="logging",
            logp_target=list(targets),
        )  # fmt: skip
    naive = IPW().fit(wrong.text, wrong.outcome, **wrong.fit_params()).result_
    for row in against("rates as rows", naive, truth, "se_readers"):
        # Both halves are alike: who takes rates for rows errs for the realised rate as well.
        rows.append(
            compared("rates as rows", row["quantity"], row["value"], row["se"], row["realised"],
                     row["se"], row["verdict"])
            | {"warned": any("far too small" in str(w.message) for w in said)}
        )  # fmt: skip
    claim = {BEST: float(share * targets[BEST] @ q)}
    claim[LIFT] = claim[BEST] - float(share * targets[UNIFORM] @ q)
    for name, value in claim.items():
        rows.append(
            compared("model alone", name, value, 0.0, truth[name].value, truth[name].se_readers)
        )
    return rows


def one_split(cells: pd.DataFrame, split: int, alphas: Sequence[float]) -> tuple[Row, list[Row]]:
    """Learn on half of the tests and value on the other half; figures of the split, comparisons."""
    rng = np.random.default_rng([SEED, split])
    tests = rng.permutation(np.unique(cells["test"]))
    train = cells["test"].isin(tests[: tests.size // 2])
    model = fit_model(cells[train], alphas)
    held = cells[~train].reset_index(drop=True)
    q = model.predict(held)
    targets = {BEST: best_of(q, held), UNIFORM: held["probability"].to_numpy()}

    half, other = thin(held, rng)
    same = on_same_tests(half, q, targets)
    truth = truths(other, targets, stratum_share(half))
    rows = [r for n, e in same.items() for r in against(f"{n}, {SAME}", e, truth, "se_readers")]
    rows += controls(half, other, q, targets)

    first = held["test"].isin(tests[tests.size // 2 :: 2])
    mine, theirs = held[first].reset_index(drop=True), held[~first].reset_index(drop=True)
    there = truths(theirs, {k: v[~first] for k, v in targets.items()}, stratum_share(theirs))
    for name, e in on_other_tests(
        mine, q[first], {k: v[first] for k, v in targets.items()}
    ).items():
        rows += against(f"{name}, {OTHER}", e, there, "se_tests")
    arms = on_same_tests(half, q, targets, readers=False)["DR"]
    whole = on_other_tests(held, q, targets)["DR"]
    lift = whole[BEST] - whole[UNIFORM]
    low, high = lift.confint()
    figures = {
        "split": split, "alpha": float(model.ridge.alpha), "training_tests": int(tests.size // 2),
        "held_out_tests": int(held["test"].nunique()),
        "held_out_strata": int(held["stratum"].nunique()),
        "held_out_impressions": int(held["impressions"].sum()),
        "se_readers": float(same["DR"][BEST].se), "se_arms": float(arms[BEST].se),
        "all_held_out": {
            "value": float(whole[BEST].value), "uniform": float(whole[UNIFORM].value),
            "lift": float(lift.value), "lift_low": float(low), "lift_high": float(high),
            "verdict": whole.verdicts[0].level, "reasons": list(whole.verdicts[0].reasons),
        },
    }  # fmt: skip
    return figures, [{"split": split} | row for row in rows]


# ------------------------------------------------------------------ summary
def summarise(rows: Sequence[Row]) -> list[Row]:
    """One row per analysis and quantity: coverage, average error and width, verdicts."""
    out = []
    for (analysis, quantity), part in pd.DataFrame(rows).groupby(
        ["analysis", "quantity"], sort=False
    ):
        gap = part["value"] - part["realised"]
        spread = part["half_width"] / Z
        out.append({
            "analysis": analysis, "quantity": quantity, "splits": len(part),
            "covered": int(part["covered"].sum()),
            "covered_alone": int(part["covered_alone"].sum()),
            "mean_value": float(part["value"].mean()),
            "mean_realised": float(part["realised"].mean()),
            "mean_difference": float(gap.mean()),
            "rms_z": float(np.sqrt(np.mean((gap / spread) ** 2))),
            "mean_se": float(part["se"].mean()),
            "mean_half_width": float(part["half_width"].mean()),
            "verdicts": {v: int((part["verdict"] == v).sum()) for v in LEVELS},
        })  # fmt: skip
    return out


def gain(figures: Sequence[Row]) -> Row:
    """Best - uniform on all held-out tests (clusters), averaged over splits."""
    table = pd.DataFrame([one["all_held_out"] for one in figures])
    names = ["value", "uniform", "lift", "lift_low", "lift_high"]
    return {name: float(table[name].mean()) for name in names} | {
        "splits_above_0": int((table["lift_low"] > 0).sum()),
        "verdicts": {v: int((table["verdict"] == v).sum()) for v in LEVELS},
    }


def run(data: Upworthy, splits: int, alphas: Sequence[float]) -> dict[str, Any]:
    """All splits, their summary and what is claimed."""
    cells = data.headlines()
    design = data.check_design().drop(columns="counts")
    figures, rows = [], []
    for split in tqdm(range(splits), desc="splits"):
        one, more = one_split(cells, split, alphas)
        figures.append(one)
        rows += more
    summary = summarise(rows)
    by = {(r["analysis"], r["quantity"]): r for r in summary}
    need = math.ceil(WANTED * splits)
    claims = [
        {"claim": f"{name}: {quantity} covered in at least {need} of {splits} splits",
         "figure": by[name, quantity]["covered"], "met": by[name, quantity]["covered"] >= need}
        for name in (f"DR, {SAME}", f"DR, {OTHER}") for quantity in (BEST, LIFT)
    ]  # fmt: skip
    naive = by["rates as rows", BEST]["mean_se"]
    return {
        "data": {
            "arms": len(data), "dropped_not_random": data.not_random,
            "dropped_no_image": data.no_image, "headlines": len(cells),
            "strata": int(cells["stratum"].nunique()), "tests": int(cells["test"].nunique()),
            "impressions": int(cells["impressions"].sum()), "clicks": int(cells["clicks"].sum()),
            "headlines_in_several_tests":
                int((cells.groupby("headline")["test"].nunique() > 1).sum()),
        },
        "design": design.reset_index().to_dict("records"),
        "se_over_that_of_rates_as_rows": by[f"DR, {SAME}", BEST]["mean_se"] / naive,
        "gain_on_all_held_out": gain(figures), "claims": claims,
        "summary": summary, "splits": figures, "rows": rows,
    }  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Run the splits, print the table, write the figures and draw them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help=".parquet, .csv, .tsv, .jsonl")
    parser.add_argument("--json", type=Path, help="default benchmarks/results/upworthy.json")
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="three splits, one alpha")
    parser.add_argument("--flag", default="possibly_not_random",
                        help="column of tests to drop; '' where the file has none")  # fmt: skip
    parser.add_argument("--no-plot", action="store_true")
    arguments = parser.parse_args(argv)
    if arguments.splits < 2:
        parser.error(f"--splits must be 2 or more, got {arguments.splits}")
    quick = arguments.quick
    file = arguments.json or RESULTS / ("upworthy-quick.json" if quick else "upworthy.json")
    splits = min(3, arguments.splits) if quick else arguments.splits
    begun = begin(SEED)
    data = load_upworthy(arguments.data, flag=arguments.flag or None)
    with threadpool_limits(1):
        found = run(data, splits, (10.0,) if quick else ALPHAS)
    begun["seconds"] = round(time.time() - begun["seconds"], 1)
    write(file, begun | {"quick": quick, "level": 0.95} | found)
    show("Against realised click rates", found["summary"],
         {"analysis": "", "quantity": "", "covered": "d", "splits": "d", "mean_value": ".5f",
          "mean_realised": ".5f", "mean_difference": ".5f", "rms_z": ".2f",
          "mean_se": ".6f"})  # fmt: skip
    show("Claims", found["claims"], {"claim": "", "figure": "d", "met": ""})
    if not arguments.no_plot:
        from benchmarks.upworthy_plot import draw

        print(draw(file))
    return 0


if __name__ == "__main__":
    sys.exit(main())
