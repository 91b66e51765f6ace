"""Policies trained on real outcomes: what the report rows say, whatever it is.

``python -m benchmarks.real_training --data FOLDER --log upworthy --model tiny --out FILE.json``

*hong-kong*: support of readers for the texts they were dealt; the design's log-probabilities.
*upworthy*: clicks in 1,000 impressions of a headline, less its stratum's mean (test and image; the
dealing was at random within it) plus the mean of all; clusters are tests. Nobody knows how likely
a headline was: the start, fine-tuned on the training headlines, stands for the editors.

The truth is not known here. Told are the report rows' value, interval and verdict, the select rows'
history, win rates by an outcome model fitted on the report rows, and texts before and after.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np

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


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Fit, and tell."""
    from causal_lm_opt._run.optimize import judge_on
    from causal_lm_opt.lm import CausalLMOptimizer, win_rates
    from causal_lm_opt.lm._optimizer_rows import read_rows, split

    log = LOGS[given.log](given.data, given.rows, given.seed)
    peft = None
    if given.lora:
        from peft import LoraConfig

        peft = LoraConfig(r=given.lora, lora_alpha=2 * given.lora, target_modules="all-linear",
                          task_type="CAUSAL_LM")  # fmt: skip
    begin = time.perf_counter()
    optimizer = CausalLMOptimizer(
        given.model, objective=given.objective, steps=given.steps, batch_size=given.batch_size,
        learning_rate=given.learning_rate, n_draws=given.n_draws, eval_every=given.eval_every,
        round_size=given.round_size, round_passes=1, peft_config=peft, progress=True,
        random_state=given.seed, out=given.folder,
    )  # fmt: skip
    optimizer.fit(**log)
    seconds = time.perf_counter() - begin
    result, trained = optimizer.result_, optimizer.trained_
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
    before = optimizer.start_.sample(200, 1, max_new_tokens=optimizer.max_new_tokens_)
    told["before"] = list(before.texts[:12])
    if trained is not None:
        after = trained.sample(200, 2, max_new_tokens=optimizer.max_new_tokens_)
        told["after"] = list(after.texts[:12])
        known = [log.get(k) for k in ("texts", "outcomes", "prompts", "logp_logging", "groups")]
        parts = split(read_rows(*known), optimizer.split, given.seed)
        judge = judge_on(parts.report, parts.train.read, seed=given.seed)
        rates = win_rates({"trained": after, "start": before}, judge, reference="start")
        told["win_rates"] = str(rates)
    return told


def main(argv: list[str] | None = None) -> None:
    """Command line."""
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
    for name, default in {"steps": 200, "batch-size": 32, "n-draws": 400, "eval-every": 25,
                          "round-size": 448, "seed": 0}.items():  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args(argv)
    told = run(given)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(told["said"])
    print(told.get("win_rates", ""))


if __name__ == "__main__":
    main()
