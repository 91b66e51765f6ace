"""Policies trained on real outcomes: what the report rows say, whatever it is.

``python -m benchmarks.real_training --data FOLDER --log upworthy --model tiny --out FILE.json``

*hong-kong*: support of readers for the texts they were dealt; the design's log-probabilities.
*upworthy*: clicks in 1,000 impressions of a headline, less its stratum's mean (test and image; the
dealing was at random within it) plus the mean of all; clusters are tests. Nobody knows how likely
a headline was: the start, fine-tuned on the training headlines, stands for the editors.

The truth is not known here. Told are the report rows' value, interval and verdict, the select rows'
history, win rates by an outcome model fitted on the report rows, and texts before and after.

With ``--truth vader`` the texts are real and the outcome is not: VADER's compound score of a text
plus noise (``pip install vaderSentiment``). Fresh texts of the start and of what was trained are
then scored by that score itself.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

STRATUM = ["test", "image"]


def hong_kong_log(data: Path, rows: int | None, seed: int) -> dict[str, Any]:
    """Texts, outcomes and the design's log-probabilities."""
    from causal_lm_opt.datasets import load_hong_kong

    found = load_hong_kong(data)
    texts = [str(t) for t in found.texts]
    at = _some(len(texts), rows, seed)
    logp = np.asarray(found.design.log_prob(texts), dtype=float)
    return {"texts": [texts[i] for i in at], "outcomes": np.asarray(found.outcome, dtype=float)[at],
            "logp_logging": logp[at]}  # fmt: skip


def upworthy_log(data: Path, rows: int | None, seed: int) -> dict[str, Any]:
    """Headlines, click rates within strata, tests."""
    import pandas as pd

    table = pd.read_parquet(data / "upworthy_headlines.parquet")
    table = table[~table["possibly_not_random"].astype(bool) & (table["impressions"] > 0)]
    rate = 1000.0 * table["clicks"] / table["impressions"]
    keys = [table["clickability_test_id"], table["eyecatcher_id"]]
    within = rate - rate.groupby(keys).transform("mean") + rate.mean()
    table = table.assign(rate=within)[rate.groupby(keys).transform("size") > 1]
    tests = table["clickability_test_id"].unique()
    order = np.random.default_rng(seed).permutation(tests)
    most = len(table) if rows is None else rows
    size = table.groupby("clickability_test_id").size().loc[order].cumsum()
    table = table[table["clickability_test_id"].isin(size.index[size <= most])]
    return {"texts": table["headline"].astype(str).tolist(),
            "outcomes": table["rate"].to_numpy(),
            "groups": table["clickability_test_id"].to_numpy()}  # fmt: skip


LOGS = {"hong-kong": hong_kong_log, "upworthy": upworthy_log}


def _some(n: int, rows: int | None, seed: int) -> Any:
    order = np.random.default_rng(seed).permutation(n)
    return np.sort(order if rows is None else order[:rows])


# ------------------------------------------------------------------------------ a known outcome
def vader(texts: Sequence[str]) -> FloatArray:
    """VADER's compound score of each text, from -1 to 1."""
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    score = SentimentIntensityAnalyzer().polarity_scores
    return np.array([score(text)["compound"] for text in texts], dtype=float)


TRUTHS: dict[str, Callable[[Sequence[str]], FloatArray]] = {"vader": vader}


def with_truth(log: dict[str, Any], truth: str, noise: float, seed: int) -> dict[str, Any]:
    """The log with outcomes that are a known function of its texts, plus normal noise."""
    rng = np.random.default_rng([seed, 1])
    known = TRUTHS[truth](log["texts"])
    return log | {"outcomes": known + noise * rng.normal(size=len(known))}


def mean_with_interval(values: FloatArray) -> dict[str, float]:
    """Mean, standard error, 95 % interval (normal)."""
    se = float(values.std(ddof=1) / np.sqrt(len(values)))
    return _interval(float(values.mean()), se)


def true_values(before: FloatArray, after: FloatArray) -> dict[str, dict[str, float]]:
    """Of fresh, independent texts: the start's value, the trained policy's, the difference."""
    start, trained = mean_with_interval(before), mean_with_interval(after)
    se = float(np.hypot(start["se"], trained["se"]))
    return {"start": start, "trained": trained,
            "difference": _interval(trained["value"] - start["value"], se)}  # fmt: skip


def _interval(value: float, se: float) -> dict[str, float]:
    return {"value": value, "se": se, "lower": value - 1.96 * se, "upper": value + 1.96 * se}


# ------------------------------------------------------------------------------ the run
def make_optimizer(given: argparse.Namespace) -> Any:
    """The optimiser of the settings."""
    import torch

    from causal_lm_opt.lm import CausalLMOptimizer

    peft = None
    if given.lora:
        from peft import LoraConfig

        peft = LoraConfig(r=given.lora, lora_alpha=2 * given.lora, target_modules="all-linear",
                          task_type="CAUSAL_LM")  # fmt: skip
    truth = TRUTHS.get(given.truth or "")
    return CausalLMOptimizer(
        given.model, objective=given.objective, steps=given.steps, batch_size=given.batch_size,
        learning_rate=given.learning_rate, n_draws=given.n_draws, eval_every=given.eval_every,
        round_size=given.round_size, round_passes=1, peft_config=peft, progress=True,
        fine_tune_epochs=given.fine_tune_epochs, max_new_tokens=given.max_new_tokens,
        choose=given.choose, kl=given.kl, random_state=given.seed, out=given.folder,
        monitor={} if truth is None else {"truth": lambda texts: float(truth(texts).mean())},
        training={"bf16": True, "use_cpu": not torch.cuda.is_available()} if given.bf16 else {},
    )  # fmt: skip


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Fit, and tell."""
    log = LOGS[given.log](given.data, given.rows, given.seed)
    if given.truth:
        log = with_truth(log, given.truth, given.noise, given.seed)
    begin = time.perf_counter()
    optimizer = make_optimizer(given)
    optimizer.fit(**log)
    seconds = time.perf_counter() - begin
    result = optimizer.result_
    told: dict[str, Any] = {
        "log": given.log, "model": Path(str(given.model)).name, "objective": given.objective,
        "rows": optimizer.sizes_, "steps": int(optimizer.history_["step"].max()),
        "chosen_step": result.step, "seconds": round(seconds), "machine": platform.machine(),
        "settings": {k: v for k, v in vars(given).items()
                     if k not in ("data", "out", "folder", "model")},
        "result": result.to_frame().to_dict("records"), "decision": result.decision,
        "reasons": list(result.verdict.reasons), "ratio": result.ratio,
        "model_based": result.model_based, "said": str(result),
        "history": json.loads(optimizer.history_.drop(columns="why").to_json(orient="records")),
    }  # fmt: skip
    return told | fresh_texts(optimizer, log, given)


def fresh_texts(optimizer: Any, log: dict[str, Any], given: argparse.Namespace) -> dict[str, Any]:
    """Texts of the start and of what was trained: shown, compared and, with a truth, scored."""
    limit = optimizer.max_new_tokens_
    before = optimizer.start_.sample(given.fresh, 1, max_new_tokens=limit)
    told: dict[str, Any] = {"before": list(before.texts[:12])}
    if optimizer.trained_ is None:
        return told
    after = optimizer.trained_.sample(given.fresh, 2, max_new_tokens=limit)
    told["after"] = list(after.texts[:12])
    told["words"] = {name: float(np.mean([len(t.split()) for t in some.texts]))
                     for name, some in (("start", before), ("trained", after))}  # fmt: skip
    told["unfinished"] = {name: float(np.mean(~np.asarray(some.finished)))
                          for name, some in (("start", before), ("trained", after))}  # fmt: skip
    told["win_rates"] = str(judged({"trained": after, "start": before}, log, optimizer.split,
                                   given.seed))  # fmt: skip
    if given.truth:
        truth = TRUTHS[given.truth]
        told["true_values"] = true_values(truth(before.texts), truth(after.texts))
    return told


def judged(draws: dict[str, Any], log: dict[str, Any], shares: Sequence[float], seed: int) -> Any:
    """Win rates by an outcome model that is fitted on the report rows."""
    from causal_lm_opt._run.optimize import judge_on
    from causal_lm_opt.lm import win_rates
    from causal_lm_opt.lm._optimizer_rows import read_rows, split

    known = [log.get(k) for k in ("texts", "outcomes", "prompts", "logp_logging", "groups")]
    parts = split(read_rows(*known), shares, seed)
    judge = judge_on(parts.report, parts.train.read, seed=seed)
    return win_rates(draws, judge, reference="start")


def settings() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--log", choices=sorted(LOGS), required=True)
    parser.add_argument("--model", default="tiny", help="'tiny' or a folder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--folder", type=Path, default=None, help="keep (and resume) the run here")
    parser.add_argument("--rows", type=int, default=None)
    parser.add_argument("--objective", default="dr")
    parser.add_argument("--lora", type=int, default=0, help="rank; 0: all weights")
    parser.add_argument("--learning-rate", type=float, default=None)
    parser.add_argument("--fine-tune-epochs", type=int, default=None, help="of the start")
    parser.add_argument("--max-new-tokens", type=int, default=None, help="of a draw")
    parser.add_argument("--bf16", action="store_true", help="mixed precision; weights in float32")
    parser.add_argument("--kl", type=float, default=0.0, help="penalty, outcome units per nat")
    parser.add_argument("--choose", choices=["lower", "last"], default="lower")
    parser.add_argument("--truth", choices=sorted(TRUTHS), default=None,
                        help="outcomes are this score of the text, plus noise")  # fmt: skip
    parser.add_argument("--noise", type=float, default=0.3, help="sd, with --truth")
    for name, default in {"steps": 200, "batch-size": 32, "n-draws": 400, "eval-every": 25,
                          "round-size": 448, "fresh": 200, "seed": 0}.items():  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run, and write."""
    given = settings().parse_args(argv)
    told = run(given)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(told["said"])
    print(told.get("win_rates", ""))
    for name, value in told.get("true_values", {}).items():
        print(f"true value, {name}: {value['value']:.3f} ({value['lower']:.3f} to "
              f"{value['upper']:.3f})")  # fmt: skip


if __name__ == "__main__":
    main()
