r"""Authors nobody read: ``python -m benchmarks.persuasion --messages FILE --outcomes FILE``.

Language models and people wrote messages on political issues, and who read which was randomised.
Each author in turn is left out: its mean effect (outcome less the control mean of the issue) is
estimated from the *other* authors' messages and readers and from its texts alone, and held against
its own randomised mean. Estimand: these texts, weighted by their readers. Control means are the
same in estimate and truth, so that their noise cancels.

Reported of each estimator, over authors:

``nc_mse``
    Mean squared error less the readers' variance of the author's own mean.
``rank``
    Spearman's correlation with the own means, beside what a perfect predictor would get
    (``reachable_rank``). None for the grand mean: it ranks authors by who was left out.
``coverage``, ``interval_score``
    Of 95 % intervals for the own mean: tau^2 from the other authors, each left out in turn among
    themselves (weights: their own standard error), plus readers' variance; Student's t. The default
    scales tau^2 to how far the author's texts lie from those of authors that were read.
``compared``
    The default against it: differences with paired bootstrap over authors.

``default`` (`causal_lm_opt.estimators.transport.predict_author`) mixes regressions on authors'
averages of three kinds of text features, as the other authors, left out in turn, would have it; no
figure of the author itself enters. Weights cannot value an author nobody read, whatever their
standard error says: see ``verdicts``.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from benchmarks.estimators import RESULTS, write
from benchmarks.persuasion_models import (
    Guess,
    Study,
    from_prediction,
    half_width,
    message_features,
    names_of,
    ridges,
    weighted_values,
)
from benchmarks.validate import begin
from causal_lm_opt._run.transport import Transport, reachable_rank, score
from causal_lm_opt.datasets import Persuasion, load_persuasion
from causal_lm_opt.estimators._progress import track
from causal_lm_opt.estimators.transport import (
    predict_author,
    predict_by_others,
    read_texts,
    transport_verdict,
)

FloatArray = npt.NDArray[np.float64]
SEED = 20261121
LEVEL = 0.95
DEFAULT, BASELINE, GRAND = "author_features", "tfidf_ridge", "grand_mean"
TEXT_KERNELS = ("on the issue", "quality", "words")


# ------------------------------------------------------------------------------ the experiment
def make_study(data: Persuasion, encoder: Path | None) -> Study:
    """Effects of messages and readers; raises ValueError where an issue has no control readers."""
    messages = data.messages
    control = data.control.groupby("issue")["outcome"].mean()
    lacking = sorted(set(data.issues) - set(control.index))
    if lacking:
        raise ValueError(f"no control readers on {lacking}: there is no effect on those issues.")
    effect = (data.readers["outcome"] - data.readers["issue"].map(control)).to_numpy(np.float64)
    of_message = pd.Series(effect).groupby(data.readers["message_id"].to_numpy())
    at = of_message.agg(["mean", "var"]).reindex(messages["message_id"])
    texts = messages["text"].tolist()
    return Study(
        texts=texts,
        words=np.maximum(messages["words"].to_numpy(dtype=np.float64), 1.0),
        data=read_texts(
            texts, at["mean"].to_numpy(), at["var"].to_numpy(), messages["n_readers"].to_numpy(),
            author=messages["author"].tolist(), issue=messages["issue"].tolist(),
            embedding=None if encoder is None else embed(texts, encoder),
        ),
        reader_of=pd.Index(messages["message_id"]).get_indexer(
            pd.Index(data.readers["message_id"])
        ),
        effect=effect,
    )  # fmt: skip


def embed(texts: list[str], encoder: Path) -> FloatArray:
    """Vectors of the texts by a Hugging Face encoder; needs the extra ``lm``."""
    from causal_lm_opt.lm.embed import TextEmbedder

    return np.asarray(TextEmbedder(str(encoder)).fit_transform(texts), dtype=np.float64)


def own_noise(study: Study, author: int) -> float:
    """Variance over readers of an author's own mean, within messages, from its own readers."""
    data = study.data
    mine = (data.author == author) & (data.readers > 1)
    spare = data.readers[mine] - 1
    if not spare.size:
        return data.noise(author, data.variance_without(author))
    return data.noise(author, float(spare @ data.variance[mine] / spare.sum()))


# ------------------------------------------------------------------------------ leaving out
def guesses(study: Study, features: FloatArray, author: int) -> dict[str, Guess | None]:
    """Every estimator's prediction of one author; None: refused."""
    data = study.data
    verdict = transport_verdict(data, author)[0]
    found: dict[str, Guess | None] = {GRAND: from_prediction(predict_by_others(data, author))}
    found |= ridges(study, author)
    found[DEFAULT] = from_prediction(predict_author(data, author, kernels=TEXT_KERNELS), verdict)
    for kernel in TEXT_KERNELS:
        found[names_of([kernel])] = from_prediction(
            predict_author(data, author, kernels=[kernel]), verdict
        )
    if "embedding" in data.kernels:
        for name, kernels in (
            ("embedding", ["embedding"]),
            (f"{DEFAULT}+embedding", [*TEXT_KERNELS, "embedding"]),
        ):
            found[name] = from_prediction(predict_author(data, author, kernels=kernels), verdict)
    return found | weighted_values(study, features, author)


def as_transport(study: Study, found: list[dict[str, Guess | None]], name: str) -> Transport:
    """An estimator's predictions of the authors that it did not refuse, beside the truth."""
    data = study.data
    kept = [k for k, each in enumerate(found) if each[name] is not None]
    given = [g for k in kept if (g := found[k][name]) is not None]
    noise = [data.noise(k, data.variance_without(k)) for k in kept]
    return Transport(
        authors=tuple(str(data.authors[k]) for k in kept),
        direct=np.array([data.value(k) for k in kept]),
        se_direct=np.sqrt([own_noise(study, k) for k in kept]),
        predicted={name: np.array([g.value for g in given])},
        se={name: np.sqrt([g.variance + v for g, v in zip(given, noise, strict=True)])},
    )


# ------------------------------------------------------------------------------ figures
def figures(study: Study, found: list[dict[str, Guess | None]], name: str) -> dict[str, Any]:
    """One estimator's row of the table."""
    transport = as_transport(study, found, name)
    size = len(transport.authors)
    said = Counter(g.verdict for each in found if (g := each[name]) is not None and g.verdict)
    if size < 4:
        return {"answered": size, "authors": len(found), "verdicts": dict(said)} | dict.fromkeys(
            ("nc_mse", "rank", "coverage", "interval_score", "covered", "mse"), None
        )
    scored = score(transport, name, LEVEL)
    error = transport.predicted[name] - transport.direct
    ranked = name != GRAND and math.isfinite(scored.rank)
    return {
        "nc_mse": scored.nc_mse,
        "rank": scored.rank if ranked else None,
        "coverage": scored.covered / size,
        "interval_score": scored.interval_score,
        "covered": scored.covered,
        "answered": size,
        "authors": len(found),
        "mse": float(np.mean(error**2)),
        "bias": float(np.mean(error)),
        "verdicts": dict(said),
    }


def compared(
    study: Study, found: list[dict[str, Guess | None]], name: str, resamples: int
) -> dict[str, Any] | None:
    """The default less another estimator, on the authors both answer, bootstrapped in pairs."""
    kept = [k for k, each in enumerate(found) if each[name] is not None]
    if len(kept) < 4:
        return None
    truth = np.array([study.data.value(k) for k in kept])
    ours, theirs = (
        np.array([g.value for k in kept if (g := found[k][n]) is not None]) for n in (DEFAULT, name)
    )
    rng = np.random.default_rng(SEED)
    drawn = rng.integers(len(kept), size=(resamples, len(kept)))
    square = ((ours - truth) ** 2)[drawn].mean(axis=1), ((theirs - truth) ** 2)[drawn].mean(axis=1)
    ratio = square[0] / square[1]
    result: dict[str, Any] = {
        "authors": len(kept),
        "mse_difference": float(np.mean((ours - truth) ** 2 - (theirs - truth) ** 2)),
        "mse_difference_95": np.quantile(square[0] - square[1], [0.025, 0.975]).tolist(),
        "mse_ratio": float(np.mean((ours - truth) ** 2) / np.mean((theirs - truth) ** 2)),
        "mse_ratio_90": np.quantile(ratio, [0.05, 0.95]).tolist(),
        "share_with_lower_mse": float(np.mean(square[0] < square[1])),
    }
    if name == GRAND:
        return result
    ranks = np.array(
        [_spearman(ours[at], truth[at]) - _spearman(theirs[at], truth[at]) for at in drawn]
    )
    return result | {
        "rank_difference": _spearman(ours, truth) - _spearman(theirs, truth),
        "rank_difference_95": np.quantile(ranks, [0.025, 0.975]).tolist(),
        "share_with_higher_rank": float(np.mean(ranks > 0)),
    }


def _spearman(a: FloatArray, b: FloatArray) -> float:
    """Rank correlation, 0 where one side is constant."""
    left, right = stats.rankdata(a), stats.rankdata(b)
    left, right = left - left.mean(), right - right.mean()
    scale = math.sqrt(float(left @ left) * float(right @ right))
    return float(left @ right) / scale if scale > 0 else 0.0


def author_rows(study: Study, found: list[dict[str, Guess | None]]) -> list[dict[str, Any]]:
    """Each author's own mean and predictions, for the record."""
    data, rows = study.data, []
    for k, each in enumerate(found):
        noise = data.noise(k, data.variance_without(k))
        chosen = each[DEFAULT]
        assert chosen is not None
        half = half_width(chosen.variance, noise, len(found) - 1, LEVEL)
        rows.append({
            "author": str(data.authors[k]),
            "readers": int(data.readers[data.author == k].sum()),
            "own_mean": data.value(k),
            "own_se": math.sqrt(own_noise(study, k)),
            "interval": [chosen.value - half, chosen.value + half],
            "reasons": list(transport_verdict(data, k)[1][1:]),
            "predicted": {name: None if g is None else g.value for name, g in each.items()},
        })  # fmt: skip
    return rows


# ------------------------------------------------------------------------------ the run
def run(
    messages: Path, outcomes: Path | None, encoder: Path | None = None, resamples: int = 2000
) -> dict[str, Any]:
    """All figures of the benchmark."""
    begun = begin(SEED)
    data = load_persuasion(messages, outcomes)
    study = make_study(data, encoder)
    features = message_features(study)
    authors = len(study.data.authors)
    found = [guesses(study, features, k) for k in track(range(authors), authors, "authors")]
    table = {name: figures(study, found, name) for name in found[0]}
    for name in table:
        if name != DEFAULT:
            table[name]["compared"] = compared(study, found, name, resamples)
        if table[name]["mse"] is not None and table[name]["answered"] == authors:
            table[name]["mse_ratio_to_grand_mean"] = table[name]["mse"] / table[GRAND]["mse"]
    left_out = [] if encoder else ["embedding names: give --encoder FOLDER"]
    return begun | {
        "default": DEFAULT,
        "estimators": table,
        "reachable_rank": reachable_rank(as_transport(study, found, GRAND), SEED),
        "level": LEVEL,
        "resamples": resamples,
        "issues": list(data.issues),
        "messages": len(data.messages),
        "readers": len(data.readers),
        "authors": author_rows(study, found),
        "standing_reason": transport_verdict(study.data, 0)[1][0],
        "left_out": left_out,
        "seconds": round(time.time() - begun["seconds"], 1),
    }


def show(found: dict[str, Any]) -> str:
    """The table in plain text."""
    lines = [f"{'estimator':28}{'nc MSE':>9}{'rank':>7}{'covered':>10}{'int. score':>12}  verdicts"]
    for name, row in found["estimators"].items():
        mark = " (default)" if name == found["default"] else ""
        if row["nc_mse"] is None:
            lines.append(f"{name:28}answered {row['answered']} of {row['authors']}")
            continue
        rank = "" if row["rank"] is None else f"{row['rank']:.2f}"
        said = ", ".join(f"{level} {n}" for level, n in row["verdicts"].items())
        covered = f"{row['covered']}/{row['answered']}"
        lines.append(
            f"{name + mark:28}{row['nc_mse']:9.2f}{rank:>7}{covered:>10}"
            f"{row['interval_score']:12.2f}  {said}"
        )
    return "\n".join([*lines, f"a perfect predictor's rank: {found['reachable_rank']:.2f}",
                      *found["left_out"], f"{found['seconds']} s"])  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.persuasion", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument(
        "--messages", type=Path, required=True, help="messages, or the folder of both files"
    )
    parser.add_argument("--outcomes", type=Path, help="readers' answers")
    parser.add_argument("--json", type=Path, default=RESULTS / "persuasion.json")
    parser.add_argument("--encoder", type=Path, help="folder of a Hugging Face encoder (optional)")
    parser.add_argument("--bootstrap", type=int, default=2000, help="resamples of authors")
    arguments = parser.parse_args(argv)
    if arguments.bootstrap < 1:
        parser.error("--bootstrap must be at least 1")
    found = run(arguments.messages, arguments.outcomes, arguments.encoder, arguments.bootstrap)
    write(arguments.json, found)
    print(show(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
