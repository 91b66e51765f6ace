"""Do intervals of V(f) - V(f0) hold where outcomes and log odds add up over phrases?

``python -m benchmarks.phrases --out FILE.json --runs 200``

Replies of three slots answer 80 prompts, 16 rows each. Outcomes are additive in the phrases, with
an effect of each prompt and noise. Of both policies a share of the texts lacks its second slot, as
those of a small language model do; f prefers good phrases, f0 writes as the log does. Every run
deals a new log into train, select and report rows as :class:`~causal_lm_opt.lm.CausalLMOptimizer`
does, fits its default outcome model and values both policies on the report rows by odds of topics:
the default ones, which add up over words, and those of length 1.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

SLOTS = (
    ("Thank you", "Sorry", "We hear you", "Noted"),
    ("we will fix it", "it costs too much", "ask again later", "a crew comes on Monday",
     "nothing can be done"),
    ("Kind regards", "Best", "Yours"),
)  # fmt: skip
EFFECTS = ((0.5, 1.0, 0.8, -1.0), (1.0, -1.0, -0.5, 2.0, -2.0), (0.3, 0.0, -0.2))
LOGGED = ((0.3, 0.2, 0.2, 0.3), (0.2, 0.25, 0.2, 0.15, 0.2), (0.4, 0.4, 0.2))
TILTS = {"trained": 0.9, "start": 0.0}  # of the logged law by exp(tilt * effect)
BROKEN = {"trained": 0.12, "start": 0.05}
PROMPTS, EACH, PROMPT_SD, NOISE, DRAWS = 80, 16, 0.7, 1.5, 1000


def law(tilt: float) -> list[Any]:
    """Probabilities of the phrases of each slot."""
    found = []
    for p, effect in zip(LOGGED, EFFECTS, strict=True):
        q = np.array(p) * np.exp(tilt * np.array(effect))
        found.append(q / q.sum())
    return found


def write(rng: Any, n: int, tilt: float, broken: float) -> tuple[list[str], Any]:
    """Texts and their effects (n,)."""
    at = [rng.choice(len(q), size=n, p=q) for q in law(tilt)]
    whole = rng.random(n) >= broken
    texts = [
        f"{SLOTS[0][a]}, {SLOTS[1][b]}. {SLOTS[2][c]}" if ok else f"{SLOTS[0][a]}. {SLOTS[2][c]}"
        for a, b, c, ok in zip(*at, whole, strict=True)
    ]
    effects = [np.array(e)[i] for e, i in zip(EFFECTS, at, strict=True)]
    return texts, effects[0] + whole * effects[1] + effects[2]


def truth(name: str) -> float:
    """The policy's value, less the mean effect of prompts."""
    means = [float(q @ np.array(e)) for q, e in zip(law(TILTS[name]), EFFECTS, strict=True)]
    return means[0] + (1.0 - BROKEN[name]) * means[1] + means[2]


def one_run(seed: int) -> list[dict[str, Any]]:
    """Both kinds of topics on one log."""
    from causal_lm_opt.estimators.text_pipelines import tfidf_features
    from causal_lm_opt.lm._features import TextFeatures, Topics
    from causal_lm_opt.lm._heldout import Drawn, HeldOut
    from causal_lm_opt.lm._optimizer_rows import joined, read_rows, split
    from causal_lm_opt.lm._optimizer_steps import nuisances_of

    class Length1(Topics):
        """Topics as they were."""

        def fit(self, rows: Sequence[str]) -> Length1:
            super().fit(rows)
            texts = list(dict.fromkeys(self._parts(rows)[1]))
            self.of_texts = tfidf_features(n_components=self.n_components).fit(texts)
            self.kept = np.arange(self.of_texts.transform(texts[:1]).shape[1])
            return self

    rng = np.random.default_rng(seed)
    prompt = rng.permutation(np.repeat(np.arange(PROMPTS), EACH))
    names = [f"Reply to complaint {k}." for k in range(PROMPTS)]
    texts, effect = write(rng, prompt.size, 0.0, 0.0)
    y = effect + PROMPT_SD * rng.normal(size=PROMPTS)[prompt] + NOISE * rng.normal(size=prompt.size)
    parts = split(
        read_rows(texts, y, [names[k] for k in prompt], None, None), (0.5, 0.2, 0.3), seed
    )
    report, draws = parts.report, {}
    index = np.repeat(np.arange(len(report)), -(-DRAWS // len(report)))
    assert report.prompts is not None
    asked = [report.prompts[i] for i in index]
    for name, tilt in TILTS.items():
        own, _ = write(rng, index.size, tilt, BROKEN[name])
        draws[name] = Drawn(joined(own, asked), report.groups[index], np.zeros(index.size), None)
    found = []
    for kind, spec in (("add up", None), ("length 1", Length1(20, prompted=True))):
        features = TextFeatures(spec, parts.train.read, prompted=True)
        model = nuisances_of(parts.train, None, features, 5, seed)
        values = HeldOut(report, features, model.predict, "latent").value(draws, None, "latent")
        right = truth("trained") - truth("start")
        gain = values["trained"] - values["start"]
        low, high = (float(end) for end in np.ravel(gain.confint()))
        found.append({
            "seed": seed, "topics": kind, "error": float(gain.value) - right, "se": float(gain.se),
            "covered": low <= right <= high, "verdict": gain.verdicts[0].level,
        })  # fmt: skip
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Runs, and their summary as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=200)
    given = parser.parse_args(argv)
    rows: list[dict[str, Any]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # verdicts say it
        for seed in range(given.runs):
            rows += one_run(seed)
    table = pd.DataFrame(rows)
    used = table[table["verdict"] != "do not use"]
    summary = {
        str(kind): {
            "runs": len(part), "bias": part["error"].mean(), "sd": part["error"].std(),
            "mean se": part["se"].mean(), "covered": float(part["covered"].mean()),
            "do not use": float((part["verdict"] == "do not use").mean()),
            "covered, where used": float(used.loc[used["topics"] == kind, "covered"].mean()),
        }
        for kind, part in table.groupby("topics")
    }  # fmt: skip
    text = json.dumps({"truth": {k: truth(k) for k in TILTS}, "topics": summary}, indent=1) + "\n"
    given.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
