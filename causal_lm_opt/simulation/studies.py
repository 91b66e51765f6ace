"""Shipped studies, and studies described by a TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression

from causal_lm_opt.estimators._named_models import named_outcome_model
from causal_lm_opt.estimators.doubly_robust import DoublyRobust
from causal_lm_opt.estimators.ipw import IPW
from causal_lm_opt.estimators.outcome_regression import OutcomeRegression
from causal_lm_opt.exceptions import DataError
from causal_lm_opt.simulation.appeals import text_world
from causal_lm_opt.simulation.confounded import (
    confounded_log,
    drifted_logging,
    hidden_confounder,
    token_world,
)
from causal_lm_opt.simulation.gaussian import GaussianDesign, SimulatedLog
from causal_lm_opt.simulation.prompts import prompt_world
from causal_lm_opt.simulation.study import Design, Study

__all__ = ["STUDIES", "WORLDS", "named_study", "study_from_toml"]

TEXT_MODEL = "tfidf-ridge"
QUICK = 40  # replications of a quick look
#: Worlds that a TOML file may name.
WORLDS: Mapping[str, Callable[..., Design]] = {
    "gaussian": GaussianDesign,
    "hidden-confounder": hidden_confounder,
    "confounded-log": confounded_log,
    "drifted-logging": drifted_logging,
    "tokens": token_world,
    "prompts": prompt_world,
    "texts": text_world,
}
ESTIMATORS: Mapping[str, Callable[..., Any]] = {
    "ht": lambda model: IPW("ht"),
    "hajek": lambda model: IPW(),
    "or": OutcomeRegression,
    "dr": DoublyRobust,
}


def _four(model: Any) -> dict[str, Any]:
    return {
        "HT": IPW("ht"),
        "Hajek": IPW(),
        "OR": OutcomeRegression(model),
        "DR": DoublyRobust(model),
    }


def _double_robustness() -> Study:
    return Study(
        designs={
            "P_R and q right": GaussianDesign("linear", shift=1.0),
            "q wrong": GaussianDesign("quadratic", shift=1.0),
            "P_R wrong": GaussianDesign("linear", shift=1.0, logging_error=0.5),
            "P_R and q wrong": GaussianDesign("quadratic", shift=1.0, logging_error=0.5),
        },
        estimators=_four(LinearRegression()),
        sizes=(500, 2000),
        about="Doubly robust values are right while the logging policy or the outcome model is; "
        "weighting needs the one, outcome regression the other.",
    )


def _confounding() -> Study:
    return Study(
        designs={f"strength {s:g}": confounded_log(s) for s in (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)},
        estimators=_four(LinearRegression()),
        sizes=(1000,),
        about="Readers choose what they read by a trait that no feature holds. Outcome regression "
        "drifts with the strength of the choice; with the readers' own propensities weighting and "
        "doubly robust values stay, at a growing standard error.",
    )


def _overlap() -> Study:
    return Study(
        designs={
            f"sd of log ratio {s:g}": GaussianDesign("linear", shift=s)
            for s in (0.5, 1.0, 1.5, 2.0, 2.5)
        },
        estimators=_four(LinearRegression()),
        sizes=(1000,),
        about="The further the target from the logger, the fewer rows speak of it: spread grows "
        "like exp of the squared sd of the log ratio, until intervals fail and verdicts say so.",
    )


def _forest() -> RandomForestRegressor:
    return RandomForestRegressor(n_estimators=50, min_samples_leaf=10, random_state=0)


def forest_plug_in(log: SimulatedLog) -> dict[str, float]:
    """Outcome regression by a forest: the value alone, as its bootstrap takes too long here."""
    fitted = _forest().fit(log.X, log.y)
    return {"value": float(fitted.predict(log.X_target.X).mean())}


def _nuisance() -> Study:
    estimators: dict[str, Any] = {
        "Hajek": IPW(),
        "OR, linear": OutcomeRegression(LinearRegression()),
        "DR, linear": DoublyRobust(LinearRegression(), inference="influence"),
        "OR, forest": forest_plug_in,
        "DR, forest": DoublyRobust(_forest(), inference="influence"),
    }
    return Study(
        designs={"curved outcome": GaussianDesign("quadratic", shift=0.5, draws_per_row=2.0)},
        estimators=estimators,
        sizes=(250, 1000, 4000),
        replications=200,
        about="A better outcome model narrows a doubly robust interval and never needs to be "
        "right; outcome regression inherits its bias.",
    )


#: Shipped studies by name.
STUDIES: Mapping[str, Callable[[], Study]] = {
    "double-robustness": _double_robustness,
    "confounding": _confounding,
    "overlap": _overlap,
    "nuisance": _nuisance,
}


def named_study(
    name: str, *, replications: int | None = None, seed: int = 0, quick: bool = False
) -> Study:
    """A shipped study, or the one that a TOML file describes.

    Parameters
    ----------
    name : str
        A key of ``STUDIES``, or the path of a ``.toml`` file (:func:`study_from_toml`).
    replications : int, optional
        In place of the study's own.
    seed : int
    quick : bool
        40 replications of the smallest size, for a first look.

    Raises
    ------
    ValueError
        An unknown name; :class:`DataError` for a bad file.

    Examples
    --------
    >>> named_study("overlap", quick=True).replications
    40
    """
    if name.endswith(".toml"):
        study = study_from_toml(name)
    elif name in STUDIES:
        study = STUDIES[name]()
    else:
        raise ValueError(
            f"study {name!r} is not known; use {', '.join(STUDIES)}, or the path of a .toml file."
        )
    if quick:
        study = replace(study, replications=QUICK, sizes=(min(study.sizes),))
    if replications is not None:
        study = replace(study, replications=replications)
    return replace(study, seed=seed)


def study_from_toml(path: str | Path) -> Study:
    """Read a study.

    Parameters
    ----------
    path : str or Path
        Keys ``sizes`` (whole numbers), ``replications``, ``level``, ``about``; a table
        ``[designs.NAME]`` for each design, with ``world`` (a key of ``WORLDS``) and its arguments;
        a table ``[estimators.NAME]`` for each estimator, with ``kind`` ("ht", "hajek", "or" or
        "dr") and for the last two ``outcome_model`` ("linear", "ridge", "logistic", "forest";
        "tfidf-ridge" for texts); ``designs``, a list of names, where it is for some only.

    Raises
    ------
    DataError
        Not TOML, an unknown key or name, arguments that a world does not take, sizes that are no
        distinct whole numbers, or an outcome model of texts for a world of numbers (and the other
        way round).

    Examples
    --------
    ::

        sizes = [500, 2000]
        replications = 1000

        [designs."strength 2"]
        world = "confounded-log"
        strength = 2.0

        [estimators.DR]
        kind = "dr"
        outcome_model = "linear"
    """
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"{path}: there is no such file; --list names the shipped studies"
        ) from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"{path}: is not a TOML file: {error}") from error
    known = {"sizes", "replications", "level", "about", "designs", "estimators"}
    _only(content, known, f"{path}")
    if not {"sizes", "designs", "estimators"} <= set(content):
        raise DataError(f"{path}: sizes, [designs.NAME] and [estimators.NAME] are needed")
    tables, estimators = (_tables(content, kind, path) for kind in ("designs", "estimators"))
    designs = {k: _world(v, f"{path}: designs.{k}") for k, v in tables.items()}
    try:
        study = Study(
            designs=designs,
            estimators=_estimators(estimators, designs, path),
            sizes=content["sizes"],
            replications=content.get("replications", 1000),
            level=content.get("level", 0.95),
            about=str(content.get("about", "")),
        )
    except DataError:
        raise
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: {error}") from error
    _check_readable(study, estimators, path)
    return study


def _tables(content: Mapping[str, Any], kind: str, path: str | Path) -> dict[str, dict[str, Any]]:
    """The tables ``[kind.NAME]`` by name."""
    found = content[kind]
    if not isinstance(found, dict) or not all(isinstance(v, dict) for v in found.values()):
        raise DataError(f"{path}: [{kind}] needs a table of its own for each, [{kind}.NAME]")
    return found


def _check_readable(
    study: Study, estimators: Mapping[str, Mapping[str, Any]], path: str | Path
) -> None:
    """Refuse a log that cannot be drawn, and outcome models that cannot read its rows."""
    for design, world in study.designs.items():
        try:
            log = world.draw(min(study.sizes), np.random.default_rng(0))
        except ValueError as error:
            raise DataError(f"{path}: designs.{design}: {error}") from error
        texts = np.asarray(log.X).dtype.kind == "O"
        for name, table in estimators.items():
            model = table.get("outcome_model")
            if design not in table.get("designs", study.designs):
                continue
            if model is not None and (model == TEXT_MODEL) != texts:
                reads = "texts" if texts else "numbers"
                use = TEXT_MODEL if texts else "a model of numbers, such as 'linear'"
                raise DataError(
                    f"{path}: estimators.{name}: outcome_model {model!r} cannot read the {reads} "
                    f"of designs.{design}; use {use}, or name its designs = [...]"
                )


def _estimators(
    tables: Mapping[str, Mapping[str, Any]], designs: Mapping[str, Any], path: str | Path
) -> Any:
    """Estimators by name; where some have designs of their own, a function of the design."""
    made = {k: _estimator(v, f"{path}: estimators.{k}") for k, v in tables.items()}
    own = {k: v["designs"] for k, v in tables.items() if "designs" in v}
    for name, wanted in own.items():
        where = f"{path}: estimators.{name}: designs"
        if not isinstance(wanted, list) or not wanted:
            raise DataError(f"{where} must be a list of names, got {wanted!r}")
        unknown = [d for d in wanted if d not in designs]
        if unknown:
            raise DataError(f"{where}: {unknown[0]!r} is not among {', '.join(designs)}")
    if not own:
        return made
    for design in designs:
        if not any(design in own.get(name, designs) for name in made):
            raise DataError(f"{path}: designs.{design}: no estimator is for it")

    def of_design(design: Any) -> dict[str, Any]:
        (name,) = (k for k, world in designs.items() if world is design)
        return {k: est for k, est in made.items() if name in own.get(k, designs)}

    return of_design


def _only(table: Mapping[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(set(table) - known)
    if unknown:
        raise DataError(f"{where}: unknown key {unknown[0]!r}; use {', '.join(sorted(known))}")


def _world(table: Mapping[str, Any], where: str) -> Design:
    arguments = dict(table)
    name = arguments.pop("world", None)
    if name not in WORLDS:
        raise DataError(f"{where}: world {name!r} is not known; use {', '.join(WORLDS)}")
    takes = signature(WORLDS[name]).parameters
    _only(arguments, set(takes), f"{where}: world {name!r}")
    lacking = [k for k, p in takes.items() if p.default is p.empty and k not in arguments]
    if lacking:
        known = {k: p.default for k, p in takes.items() if p.default is not p.empty}
        others = ", ".join(f"{k} = {value!r}" for k, value in known.items())
        raise DataError(
            f"{where}: world {name!r} needs {', '.join(lacking)}, as in {lacking[0]} = 1.0"
            f"{f'; and takes {others}' if others else ''}"
        )
    try:
        return WORLDS[name](**arguments)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: {error}") from error


def _estimator(table: Mapping[str, Any], where: str) -> Any:
    _only(table, {"kind", "outcome_model", "designs"}, where)
    kind, learner = str(table.get("kind")), table.get("outcome_model")
    if kind not in ESTIMATORS:
        raise DataError(f"{where}: kind {kind!r} is not known; use {', '.join(ESTIMATORS)}")
    if (learner is not None) != (kind in ("or", "dr")):
        raise DataError(f"{where}: outcome_model goes with kind 'or' and 'dr', and is needed there")
    features = () if learner == TEXT_MODEL else ("x",)
    try:
        model = None if learner is None else named_outcome_model(str(learner), features=features)
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error
    return ESTIMATORS[kind](model)
