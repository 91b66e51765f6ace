"""Worlds, studies and returned figures that make no sense are refused, not taken for others."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from causal_lm_opt import IPW, EstimationWarning
from causal_lm_opt.simulation import (
    GaussianDesign,
    Study,
    TabularDesign,
    TextWorld,
    confounded_log,
    drifted_logging,
    hidden_confounder,
    prompt_world,
    study_from_toml,
    text_world,
    token_world,
)
from causal_lm_opt.simulation.study import summarise

NAN, INF = math.nan, math.inf
BINARY: dict[str, Any] = {
    "trait_probs": [0.5, 0.5], "logging": [0.5, 0.5], "target": [0.3, 0.7], "mean": [0.0, 1.0],
}  # fmt: skip


def tabular(**change: Any) -> TabularDesign:
    return TabularDesign(**(BINARY | change))


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "gaussian, outcome": (lambda: GaussianDesign("binry"), "'binry' is not known"),  # type: ignore[arg-type]
    "gaussian, shift": (lambda: GaussianDesign(shift=NAN), "shift must be a finite number"),
    "gaussian, words": (lambda: GaussianDesign(shift="a"), "shift must be a finite"),  # type: ignore[arg-type]
    "gaussian, dim": (lambda: GaussianDesign(dim=0), "dim must be a whole number, at least 1"),
    "gaussian, draws": (lambda: GaussianDesign(draws_per_row=0), "draws_per_row must be a finite"),
    "gaussian, readers": (lambda: GaussianDesign(readers=50).draw(20, rng()), "n must be .* 50"),
    "gaussian, no draws": (lambda: GaussianDesign(draws_per_row=0.01).draw(9, rng()), "no draws"),
    "gaussian, prompts": (
        lambda: GaussianDesign(prompts=True, sampling_shift=0.1), "leave out sampling_shift"
    ),
    "tabular, noise": (lambda: tabular(noise="binry"), "'binry' is not known"),
    "tabular, scale": (lambda: tabular(scale=-1), "scale must be a finite number above 0"),
    "tabular, draws": (lambda: tabular(draws_per_row=0), "draws_per_row must be"),
    "tabular, stated": (lambda: tabular(stated=[2.0, 3.0]), "stated must hold probabilities"),
    "tabular, class": (lambda: tabular(observed=[0.2, 0.9]), "observed must hold a class"),
    "tabular, classes": (lambda: tabular(observed=[0]), "observed must hold a class"),
    "tabular, minus": (lambda: tabular(observed=[-1, 0]), "observed must hold a class"),
    "tabular, features": (
        lambda: tabular(features=np.arange(4.0).reshape(2, 2, 1)), "features differs between"
    ),
    "tabular, texts": (lambda: tabular(texts=("a", "a")), "holds a text twice"),
    "tabular, value": (lambda: tabular().value([3.0, 4.0]), "target must hold probabilities"),
    "tabular, bound": (lambda: tabular().efficiency_bound(9, [3.0, 4.0]), "target must hold"),
    "tabular, hidden": (
        lambda: tabular().efficiency_bound(9, [[1.0, 0.0], [0.0, 1.0]]), "look the same"
    ),
    "tabular, weights": (lambda: tabular().doubly_robust_variance(9, weights="h"), "'h'"),  # type: ignore[arg-type]
    "hidden, strength": (lambda: hidden_confounder(INF), "strength must be a finite number"),
    "hidden, word": (lambda: hidden_confounder("2"), "strength must be a finite"),  # type: ignore[arg-type]
    "hidden, texts": (lambda: hidden_confounder(2.0, texts=4.0), "texts must be a whole"),  # type: ignore[arg-type]
    "hidden, edge": (
        lambda: hidden_confounder(2.0, edge=True, effect=-1.0), "effect must be a finite .* above 0"
    ),
    "hidden, no effect": (lambda: hidden_confounder(2.0, edge=True, effect=0.0), "above 0"),
    "chosen, texts": (lambda: confounded_log(1.0, texts=1), "texts must be a whole number"),
    "chosen, strength": (lambda: confounded_log(NAN), "strength must be a finite"),
    "drifted, texts": (lambda: drifted_logging(1.0, texts=2.5), "texts must be a whole"),  # type: ignore[arg-type]
    "tokens, twice": (lambda: token_world(vocabulary=("a", "a")), "different words"),
    "tokens, string": (lambda: token_world(vocabulary="ab"), "different words"),
    "tokens, number": (lambda: token_world(vocabulary=4), "different words"),  # type: ignore[arg-type]
    "tokens, space": (lambda: token_world(vocabulary=("a b", "b")), "without white space"),
    "prompts, rows": (lambda: prompt_world(per_prompt=20).draw(10, rng()), "n must be .* 20"),
    "prompts, bound": (lambda: prompt_world(per_prompt=20).efficiency_bound(10), "n must be"),
    "prompts, half": (lambda: prompt_world(per_prompt=2.5), "per_prompt must be a whole"),  # type: ignore[arg-type]
    "texts, tilt": (lambda: text_world(NAN), "must be a finite number"),
    "texts, scale": (
        lambda: TextWorld({"a": {"u": ("x",)}}, {}, {}, {}, noise="normal", scale=-1.0), "scale"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_senseless_worlds_are_refused(name: str) -> None:
    make, said = REFUSED[name]
    with pytest.raises(ValueError, match=said):
        make()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sizes": "500"}, "sizes must list"),
        ({"sizes": 500}, "sizes must list"),
        ({"sizes": ["60"]}, "whole number"),
        ({"sizes": [20.9]}, "whole number"),
        ({"sizes": [-5]}, "at least 1"),
        ({"sizes": [60, 60]}, "twice"),
        ({"replications": 2.5}, "replications must be a whole number"),
        ({"replications": "9"}, "replications must be a whole number"),
        ({"seed": -1}, "seed must be a whole number, at least 0"),
        ({"level": "95"}, "level must be a finite number"),
        ({"estimators": {}}, "estimators is empty"),
    ],
)
def test_senseless_studies_are_refused(change: dict[str, Any], said: str) -> None:
    good: dict[str, Any] = {
        "designs": {"d": GaussianDesign()}, "estimators": {"H": IPW()}, "sizes": [20]
    }  # fmt: skip
    Study(**good)
    with pytest.raises(ValueError, match=said):
        Study(**(good | change))


TOML = """
sizes = [60]
replications = 3
[designs.a]
world = "gaussian"
[estimators.E]
kind = "dr"
outcome_model = "linear"
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[60]", "60", "sizes must list"),
        ("[60]", '["60"]', "whole number"),
        ("[60]", "[60.7]", "whole number"),
        ("[60]", "[60, 60]", "twice"),
        ("= 3", "= 10.5", "replications must be a whole"),
        ("[designs.a]", "[designs]", r"\[designs\] needs a table of its own"),
        ('"gaussian"', '"gaussian"\nshift = "a"', "designs.a: shift must be a finite"),
        ('"gaussian"', '"gaussian"\nreaders = 100', "designs.a: n must be"),
        ('"linear"', '"tfidf-ridge"', "'tfidf-ridge' cannot read the numbers of designs.a"),
        ('"gaussian"', '"texts"', "'linear' cannot read the texts of designs.a"),
        ('"gaussian"', '"tokens"\nvocabulary = "ab"', "different words"),
        ('"gaussian"', '"hidden-confounder"', "needs strength, as in strength = 1.0; and takes"),
    ],
)
def test_senseless_files_are_refused_by_name(tmp_path: Path, old: str, new: str, said: str) -> None:
    file = tmp_path / "study.toml"
    file.write_text(TOML)
    study_from_toml(file)
    file.write_text(TOML.replace(old, new))
    with pytest.raises(ValueError, match=f"study.toml: .*{said}|study.toml: {said}"):
        study_from_toml(file)


# ---------------------------------------------------------------- figures that are not numbers
def typo(log: Any) -> dict[str, float]:
    return {"value": 1.0, "lwo": 0.0}


def nothing(log: Any) -> dict[str, float]:
    return {"low": 0.0, "high": 1.0}


def half(log: Any) -> dict[str, float]:
    return {"value": 1.0, "low": 0.0}


def taking(log: Any) -> dict[str, Any]:
    return {"value": 1.0, "figures": {"n": 3}}


def now_and_then(log: Any) -> dict[str, Any]:
    """An interval in some replications, a value that is no number in others."""
    if log.y[0] > 2:
        return {"value": NAN}
    return {"value": float(log.y.mean()), "figures": {"first": float(log.y[0])}} | (
        {"low": -5.0, "high": 5.0} if log.y[0] > 0 else {}
    )


def nan_interval(log: Any) -> dict[str, float]:
    return {"value": 1.0, "low": NAN, "high": NAN}


def ran(estimator: Any, replications: int = 3) -> Any:
    return Study({"d": GaussianDesign()}, {"f": estimator}, [20], replications).run(progress=False)


@pytest.mark.parametrize(
    ("estimator", "said"),
    [(typo, "'lwo'"), (nothing, "no 'value'"), (half, "one end"), (taking, "'n' is a column")],
    ids=["typo", "no value", "one end", "taken"],
)
def test_unknown_figures_are_refused(estimator: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ran(estimator)


def test_figures_that_are_not_numbers_are_failures() -> None:
    result = ran(now_and_then, 60)
    table, row = result.replications, result.summary.iloc[0]
    said = table["error"].value_counts()
    assert set(said.index) == {"value is not a finite number", "low is not a number"} or set(
        said.index
    ) == {"value is not a number", "low is not a number"}
    good = table["error"].isna()
    assert row["failures"] == (~good).sum() > 0
    assert row["bias"] == pytest.approx(table.loc[good, "value"].mean() - row["truth"])
    assert row["coverage"] == 1.0
    assert (table.loc[good, "first"] > 0).all()
    with pytest.warns(EstimationWarning, match="failed on all 3 logs"):
        assert ran(nan_interval).summary["failures"].tolist() == [3]


def test_an_estimator_without_intervals_has_no_failures() -> None:
    frame = pd.DataFrame({"estimator": "a", "value": [0.0, 1.0], "low": NAN, "high": NAN})
    (row,) = summarise(frame, 0.5)
    assert row["failures"] == 0
    assert math.isnan(row["coverage"])
    frame.loc[0, ["low", "high"]] = [-1.0, 2.0]
    (row,) = summarise(frame, 0.5)
    assert row["failures"] == 1
    assert row["coverage"] == 1.0
