"""The demonstration and the Hong Kong experiment, from the command to the files."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causal_lm_opt import IPW
from causal_lm_opt.datasets import hong_kong_policies, load_hong_kong

from .conftest import Run, subprocess_run


def table(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "estimates.csv")


def test_demo(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    start = time.monotonic()
    done = subprocess_run(["demo", "--out", str(out)])
    assert time.monotonic() - start < 30
    assert (done.returncode, done.stderr) == (0, "")
    assert "one sample of twenty" in " ".join(done.stdout.split())
    values = table(out)
    assert values["truth"].notna().all()
    inside = values["truth"].between(values["ci_lower"], values["ci_upper"])
    assert inside.tolist() == values["covers_truth"].tolist()

    good = values.query("part == 'randomised'")
    assert len(good) == 1 + 3 * 4
    robust = good[good["estimator"].isin(["Hajek", "doubly robust"])]
    assert (abs(robust["value"] - robust["truth"]) < 3 * robust["se"]).all()

    # The naive propensities fail, as they must; the right ones do not.
    hajek = values[values["estimator"] == "Hajek"]
    naive = hajek.query("part == 'confounded_naive' and policy == 'neighbours_and_easy'").iloc[0]
    assert abs(naive["value"] - naive["truth"]) > 5 * naive["se"]
    right = hajek.query("part == 'confounded_right'")
    assert (abs(right["value"] - right["truth"]) < 3 * right["se"]).all()
    found = json.loads((out / "diagnostics.json").read_text(encoding="utf-8"))
    assert len(found["inputs"]) == 4


@pytest.mark.real_data
def test_hong_kong(data_dir: Path, tmp_path: Path, run: Run) -> None:
    result = run(["hong-kong", str(data_dir / "hong_kong_2019.csv"), "--out", str(tmp_path / "o")])
    assert result.exit_code == 0, result.output
    values = table(tmp_path / "o")
    data = load_hong_kong(data_dir)
    mean = values.query("policy == 'logging policy'")["value"].item()
    assert mean == pytest.approx(data.outcome.mean(), abs=1e-10)
    policies = hong_kong_policies(data.design)
    assert len(policies) >= 3
    for name, policy in policies.items():
        rows = values[values["policy"] == name].set_index("estimator")
        assert len(rows) == 4
        direct = IPW().fit(
            data.texts, data.outcome, logp_logging=data.logp_logging, groups=data.groups,
            logp_target=policy.log_prob(data.texts),
        )  # fmt: skip
        assert rows.loc["Hajek", "value"] == pytest.approx(direct.value_, rel=1e-9)
        assert rows.loc["Hajek", "se"] == pytest.approx(direct.se_, rel=1e-9)
        spread = rows["value"] - rows.loc["Hajek", "value"]
        assert (abs(spread) < 3 * rows["se"]).all()
    contrasts = pd.read_csv(tmp_path / "o/contrasts.csv").set_index(["policy", "estimator"])
    # As in the seven-arm regression: commitment to the treaty raises support.
    assert contrasts.loc[("more_commit", "doubly robust"), "difference"] > 0
    found = json.loads((tmp_path / "o/diagnostics.json").read_text(encoding="utf-8"))
    steps = {row["step"] for t in found["tables"] for row in t["rows"] if "step" in row}
    assert "order | 3 pieces" in steps
    assert "order | 3 pieces" in found["notes"][0]
    page = (tmp_path / "o/report.html").read_text(encoding="utf-8")
    assert "Does the stated design fit the counts?" in page


@pytest.mark.real_data
def test_hong_kong_by_evaluate(data_dir: Path, tmp_path: Path, run: Run) -> None:
    file = data_dir / "hong_kong_2019.csv"
    result = run(["evaluate", str(file), "--outcome", "resp", "--out", str(tmp_path / "mean")])
    assert result.exit_code == 0, result.output
    data = load_hong_kong(data_dir)
    assert table(tmp_path / "mean")["value"].item() == pytest.approx(data.outcome.mean())

    arms = list(data.design.arms)
    policies = hong_kong_policies(data.design)
    log = data.frame.assign(lp=data.logp_logging, same=data.groups)
    supports = []
    for name, policy in policies.items():
        log[f"lp_{name}"] = policy.log_prob(data.texts)
        support, prob = policy.support()
        logp = {"logp_target": np.log(prob), "logp_logging": data.design.log_prob_arms(support)}
        supports.append(support[arms].assign(policy=name, **logp))
    log.to_csv(tmp_path / "log.csv", index=False)
    pd.concat(supports).to_csv(tmp_path / "support.csv", index=False)
    arguments = ["evaluate", str(tmp_path / "log.csv"), "--outcome", "resp", "--group", "same"]
    arguments += ["--logp-logging", "lp", "--draws", str(tmp_path / "support.csv"), "--support"]
    arguments += [a for name in policies for a in ("--policy", f"{name}=lp_{name}")]
    arguments += [a for arm in arms for a in ("--feature", arm)]
    result = run([*arguments, "--outcome-model", "linear", "--out", str(tmp_path / "by_evaluate")])
    assert result.exit_code == 0, result.output
    run(["hong-kong", str(data_dir), "--out", str(tmp_path / "own")])
    keys = ["policy", "estimator"]
    ours = table(tmp_path / "by_evaluate").set_index(keys)
    own = table(tmp_path / "own").set_index(keys)
    # Folds are dealt by a hash of the cluster's label, a number there and a string here.
    free = ours.index.get_level_values("estimator") != "doubly robust"
    np.testing.assert_allclose(ours["value"][free], own["value"][free], rtol=1e-8)
    np.testing.assert_allclose(ours["se"][free], own["se"][free], rtol=1e-8)
    assert (abs(ours["value"] - own["value"]) < 0.2 * own["se"]).all()


@pytest.mark.real_data
def test_upworthy_clicks(data_dir: Path, tmp_path: Path, run: Run) -> None:
    arguments = ["evaluate", str(data_dir / "upworthy_headlines.parquet"), "--text", "headline"]
    arguments += ["--clicks", "clicks", "--impressions", "impressions"]
    arguments += ["--group", "clickability_test_id", "--out", str(tmp_path / "o")]
    result = run(arguments)
    assert result.exit_code == 0, result.output
    frame = pd.read_parquet(data_dir / "upworthy_headlines.parquet")
    expected = frame["clicks"].sum() / frame["impressions"].sum()
    assert table(tmp_path / "o")["value"].item() == pytest.approx(expected, rel=1e-9)
