"""What ``study.json`` says of a study, and whether a folder's is of another one."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from causal_lm_opt._version import __version__

if TYPE_CHECKING:
    from causal_lm_opt.simulation.study import Study

__all__ = ["other_than", "study_facts"]

NAMED = 3  # designs or estimators that a message names


def study_facts(study: Study) -> dict[str, Any]:
    """Settings of a study in words and numbers, as JSON holds them."""
    return {
        "about": study.about,
        "designs": {name: _described(design) for name, design in study.designs.items()},
        "estimators": _estimators(study),
        "sizes": list(study.sizes),
        "replications": study.replications,
        "seed": study.seed,
        "level": study.level,
        "version": __version__,
    }


def other_than(facts: Mapping[str, Any], held: Any) -> str | None:
    """What tells the study in ``held`` from that of ``facts``; ``None`` where they are one study.

    A study stays the same with other sizes and replications, and under another version. What an
    older version's facts do not say is not compared.

    >>> other_than({"seed": 0, "level": 0.95}, {"seed": 1, "level": 0.95})
    'seed 1'
    >>> other_than({"seed": 0, "sizes": [1]}, {"seed": 0, "sizes": [2]})
    """
    if not isinstance(held, Mapping):
        return "facts that this version does not know"
    for key in ("designs", "estimators", "seed", "level"):
        mine, its = facts.get(key), held.get(key)
        if mine == its or (key == "estimators" and its is None):
            continue
        if not isinstance(its, Mapping):
            return f"{key} {its}"
        names = [repr(name) for name in its]
        told = ", ".join(names[:NAMED] + ["..."] * (len(names) > NAMED))
        also = " of other settings" if isinstance(mine, Mapping) and set(mine) == set(its) else ""
        return f"{key} {told}{also}"
    return None


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
