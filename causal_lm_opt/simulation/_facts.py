"""What ``study.json`` says of a study, and whether a folder's is of another one."""

from __future__ import annotations

import hashlib
import inspect
import math
import re
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causal_lm_opt._version import __version__

if TYPE_CHECKING:
    from causal_lm_opt.simulation.study import Study

__all__ = ["other_than", "study_facts"]

NAMED = 3  # designs or estimators that a message names
SAID = {"design_settings": "designs"}  # facts by the words of messages
FEW = 12  # numbers of an array that are written out
MOST_TOLD = 80  # characters of a setting that a message shows
#: Facts that tell one study from another, in the order in which a message looks for one: of a study
#: of estimators, and of the studies that train models, by name.
ESTIMATORS = ("designs", "design_settings", "estimators", "seed", "level")
PREFERENCES = (
    *("data", "quick", "columns", "encoder", "first_seed", "noises", "dimension", "entanglement"),
    *("nuisance", "rhos", "lambdas", "lambda_rho", "sizes", "model", "settings"),
)
DECIDING: Mapping[str, tuple[str, ...]] = {
    "latent-positivity": PREFERENCES,
    "user-objectives": PREFERENCES,
    "lm-confounding": ("quick", "worlds", "first_seed", "strengths", "spread", "training"),
}


def study_facts(study: Study) -> dict[str, Any]:
    """Settings of a study in words and numbers, as JSON holds them."""
    return {
        "about": study.about,
        "designs": {name: _described(design) for name, design in study.designs.items()},
        "design_settings": {name: _settings(design) for name, design in study.designs.items()},
        "estimators": _estimators(study),
        "sizes": list(study.sizes),
        "replications": study.replications,
        "seed": study.seed,
        "level": study.level,
        "version": __version__,
    }


def other_than(facts: Mapping[str, Any], held: Any) -> str | None:
    """What tells the study in ``held`` from that of ``facts``; ``None`` where they are one study.

    A study stays the same with more or fewer seeds, sizes of logs and replications, and under
    another version. What an older version's facts do not say is not compared.

    >>> near = {"designs": {"near": "x"}, "seed": 0, "sizes": [1]}
    >>> other_than(near, near | {"seed": 1})
    'seed 1'
    >>> other_than(near, near | {"sizes": [2]})
    >>> other_than(near, {"study": "latent-positivity", "dimension": 8})
    'latent-positivity'
    """
    mine, its = _kind(facts), _kind(held)
    if its is None:
        return "facts that this version does not know"
    if mine != its:
        same = mine is not None and mine[0] == its[0] and not its[1]
        return _kind_words(held) + (" in simulated worlds" if same else "")
    for key in DECIDING.get(its[0], ESTIMATORS):
        if key in facts and key in held and not _same(facts[key], held[key]):
            return _difference(key, facts[key], held[key])
    return None


def _kind(facts: Any) -> tuple[str, bool] | None:
    """Name of the kind of study, and whether it is of real ratings."""
    if not isinstance(facts, Mapping) or not ("study" in facts or "designs" in facts):
        return None
    return str(facts.get("study", "")), "data" in facts


def _kind_words(facts: Mapping[str, Any]) -> str:
    if "study" not in facts:
        return f"designs {_names(facts['designs'])}"
    data = facts.get("data")
    return str(facts["study"]) + (f" on {data.get('name')}" if isinstance(data, Mapping) else "")


def _same(mine: Any, its: Any) -> bool:
    """Whether two facts are one, whatever the number of seeds and the name of a file."""
    if isinstance(mine, Mapping) and isinstance(its, Mapping):
        keys = {"sha256"} if "sha256" in mine else {*mine, *its} - {"seeds"}
        return all(k in mine and k in its and _same(mine[k], its[k]) for k in keys)
    return bool(mine == its)


def _difference(key: str, mine: Any, its: Any) -> str:
    """In words, what of ``its`` is not as in ``mine``."""
    if key == "quick":
        return "tiny sizes (--quick)" if its else "full sizes (without --quick)"
    if key == "worlds":
        mine, its = ({w["name"]: w for w in worlds} for worlds in (mine, its))
    if key == "data":
        other = " of another content" if mine.get("name") == its.get("name") else ""
        return f"data {its.get('name')}{other}"
    if key in ("designs", "design_settings", "estimators", "worlds") and isinstance(its, Mapping):
        if not isinstance(mine, Mapping) or set(mine) != set(its):
            return f"{key} {_names(its)}"
        changed = [name for name in its if not _same(mine[name], its[name])]
        told = _setting(mine[changed[0]], its[changed[0]])
        return f"{SAID.get(key, key)} {_names(changed)} of other settings ({told})"
    if isinstance(mine, Mapping) and isinstance(its, Mapping):
        at = next(k for k in (*its, *mine) if k != "seeds" and not _same(mine.get(k), its.get(k)))
        if at not in its:
            return f"the default {_words(at)}"
        return _difference(at, mine.get(at), its[at])
    told = ", ".join(map(str, its)) if isinstance(its, list) else its
    return f"{_words(key)} {told}"


def _setting(mine: Any, its: Any) -> str:
    """What of one thing is otherwise: the first setting that both name, else all of it.

    >>> _setting("GaussianDesign(shift=0.3, size=2)", "GaussianDesign(shift=0.4, size=2)")
    'shift=0.4, here shift=0.3'
    >>> _setting("IPW(weights='ht')", "IPW()")
    "IPW(), here IPW(weights='ht')"
    """
    if isinstance(mine, Mapping) and isinstance(its, Mapping):
        key = next(k for k in (*its, *mine) if not _same(mine.get(k), its.get(k)))
        return f"{_words(key)} {its.get(key)}, here {mine.get(key)}"
    ours, theirs = (re.findall(r"\b\w+=[^,()]+(?=[,)])", str(x)) for x in (mine, its))
    for a, b in zip(theirs, ours, strict=False):
        if a != b and a.partition("=")[0] == b.partition("=")[0]:
            return f"{_cut(a)}, here {_cut(b)}"
    return f"{_cut(str(its))}, here {_cut(str(mine))}"


def _cut(told: str) -> str:
    return told if len(told) <= MOST_TOLD else f"{told[: MOST_TOLD - 3]}..."


def _words(key: str) -> str:
    return {"first_seed": "seed", "noises": "noise"}.get(key, key.replace("_", " "))


def _names(named: Any) -> str:
    """The first few names.

    >>> _names({"a": 0, "b": 1, "c": 2, "d": 3})
    "'a', 'b', 'c', ..."
    """
    names = [repr(name) for name in named]
    return ", ".join(names[:NAMED] + ["..."] * (len(names) > NAMED))


def _estimators(study: Study) -> dict[str, str]:
    """Estimators by name; those that depend on the design carry its name where they differ."""
    found: dict[str, str] = {}
    for design, made in study.designs.items():
        for name, estimator in study.estimators_for(made).items():
            told = _described(estimator)
            if found.setdefault(name, told) != told:
                found[f"{name} ({design})"] = told
    return found


def _described(thing: Any) -> str:
    """A design or an estimator in words that are the same in every process."""
    if isinstance(thing, types.FunctionType):
        return f"{thing.__module__}.{thing.__qualname__}"
    told = str(getattr(thing, "label", "")) or " ".join(repr(thing).split())
    return type(thing).__qualname__ if " at 0x" in told else told


def _settings(thing: Any) -> dict[str, Any]:
    """What a design was made with, by name: a short label does not say all of it."""
    if isinstance(thing, types.FunctionType):
        return {}
    if is_dataclass(thing):
        names = [f.name for f in fields(thing) if f.init and f.repr]
    else:
        made = inspect.signature(type(thing)).parameters
        names = [name for name in made if name in getattr(thing, "__dict__", {})]
    return {name: _plain(getattr(thing, name)) for name in names}


def _plain(value: Any) -> Any:
    """A setting as JSON holds it, the same in every process; long arrays by their digest."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, np.ndarray):
        if value.size <= FEW and value.dtype.kind in "biuf":
            return value.tolist()
        told = "\x1f".join(map(repr, value.ravel().tolist()))
        return f"array of shape {value.shape}, {hashlib.sha256(told.encode()).hexdigest()[:12]}"
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    return getattr(value, "__qualname__", None) or _described(value)
