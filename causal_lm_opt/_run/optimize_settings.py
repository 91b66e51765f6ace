"""Settings of a training run: a YAML file, flags that override it, each checked by its name."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from causal_lm_opt._cells import did_you_mean
from causal_lm_opt.exceptions import DataError

__all__ = ["check_installed", "checked_settings", "read_config", "settings_of"]

NEEDED = ("torch", "transformers", "tokenizers", "safetensors", "accelerate")
#: Settings of the optimiser that a file cannot give.
ELSEWHERE = {
    "out": "--out names the folder",
    "progress": "--quiet leaves out the bars",
    "peft_config": "an adapter is given from Python",
}


def check_installed(command: str) -> None:
    """``ValueError`` that says how to get it where a package that training needs is missing."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ValueError(
            f"{command} needs {missing[0]}, which is not installed: pip install "
            "'causal_lm_opt[lm]' brings what language models need (in a checkout: pip install -c "
            "constraints.txt -e '.[lm]')"
        )


def settings_of(config: str | None, flags: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the optimiser from a YAML file (or none) and flags; a flag of None is not given.

    Raises
    ------
    DataError
        If the file cannot be read.
    ValueError
        An unknown setting, or a value of the wrong kind: named, with the nearest known.
    """
    given = {} if config is None else read_config(config)
    checked = checked_settings(given, config or "")
    return checked | {name: value for name, value in flags.items() if value is not None}


# ------------------------------------------------------------------------------ the file
def read_config(path: str | Path) -> dict[str, Any]:
    """The mapping of a YAML file; an empty file is an empty one.

    Raises
    ------
    DataError
        If it cannot be read, is no YAML, names a key twice or is no mapping.
    ValueError
        If PyYAML is not installed.
    """
    if find_spec("yaml") is None:
        raise ValueError(
            "--config needs PyYAML, which is not installed: pip install pyyaml (transformers "
            "brings it)"
        )
    yaml: Any = import_module("yaml")
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {_reason(error)}") from error
    try:
        twice = _named_twice(yaml.compose(text, Loader=yaml.SafeLoader))
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise DataError(f"{path}: is no YAML: {' '.join(str(error).split())}") from error
    if twice is not None:
        raise DataError(f"{path}: names {twice!r} twice; keep one")
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise DataError(f"{path}: must be lines of 'setting: value', as in 'steps: 80'")
    return found


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _named_twice(node: Any) -> str | None:
    """A key that a mapping of the document names twice: YAML would keep the last silently."""
    pairs = node.value if node is not None and node.id == "mapping" else []
    seen: set[str] = set()
    for key, value in pairs:
        name = str(key.value)
        if name in seen:
            return name
        seen.add(name)
        below = _named_twice(value)
        if below is not None:
            return below
    return None


# ------------------------------------------------------------------------------ checks
def checked_settings(given: Mapping[str, Any], source: str = "") -> dict[str, Any]:
    """The settings, each of the kind its name asks for.

    Parameters
    ----------
    given : mapping
        Names of :class:`~causal_lm_opt.lm.optimizer.CausalLMOptimizer`. ``features`` is a number
        of topics or the folder of a sentence encoder, ``outcome_model`` a name.
    source : str
        File named in errors.
    """
    from causal_lm_opt.lm.optimizer import CausalLMOptimizer  # loads torch

    place = f"{source}: " if source else ""
    kinds = {f.name: str(f.type) for f in dataclasses.fields(CausalLMOptimizer)}
    known = [name for name in kinds if name not in ELSEWHERE]
    found: dict[str, Any] = {}
    for name, value in given.items():
        if name in ELSEWHERE:
            raise ValueError(f"{place}{name} is no setting of a file: {ELSEWHERE[name]}")
        if name not in kinds:
            near = did_you_mean(name, known) or f"; settings: {', '.join(known)}"
            raise ValueError(f"{place}unknown setting {name!r}{near}")
        found[name] = _value(name, value, kinds[name], place)
    if "training" in found:
        _check_training(found["training"], place)
    return found


def _value(name: str, value: Any, kind: str, place: str) -> Any:
    """A value of the kind that a field's annotation says."""
    if name == "features":
        return _features(value, place)
    if name == "outcome_model":
        return _outcome_model(value, place)
    if value is None and "None" in kind:
        return None
    if name == "split":
        shares = value if isinstance(value, list) else []
        if len(shares) != 3:
            raise ValueError(f"{place}split must be three shares, as in [0.5, 0.2, 0.3]; "
                             f"got {value!r}")  # fmt: skip
        return tuple(_number(name, share, place) for share in shares)
    if kind.startswith("Mapping"):
        if not isinstance(value, dict):
            raise ValueError(f"{place}{name} must be a mapping of settings, got {value!r}")
        return {str(key): _spelt(one) for key, one in value.items()}
    if kind.startswith("bool"):
        if not isinstance(value, bool):
            raise ValueError(f"{place}{name} must be true or false, got {value!r}")
        return value
    if kind.startswith("int"):
        number = _number(name, value, place)
        if not number.is_integer():
            raise ValueError(f"{place}{name} must be a whole number, got {value!r}")
        return int(number)
    if kind.startswith("float"):
        return _number(name, value, place)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{place}{name} must be a word, got {value!r}")
    return value


def _number(name: str, value: Any, place: str) -> float:
    """A finite number; YAML reads 1e-4 (without a point) as a word."""
    spelt = _spelt(value)
    if isinstance(spelt, bool) or not isinstance(spelt, int | float) or not math.isfinite(spelt):
        raise ValueError(f"{place}{name} must be a number, got {value!r}")
    return float(spelt)


def _spelt(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value


def _features(value: Any, place: str) -> Any:
    """Topics by their number, or a sentence encoder by its folder."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    if isinstance(value, str) and Path(value).expanduser().is_dir():
        from causal_lm_opt.lm import TextEmbedder

        return TextEmbedder(str(Path(value).expanduser()), progress=False)
    raise ValueError(
        f"{place}features must be a number of topics, or the folder of a sentence encoder; "
        f"got {value!r}"
    )


def _outcome_model(value: Any, place: str) -> Any:
    """A model of the outcome by its name; those that read texts."""
    from causal_lm_opt.estimators._named_models import OUTCOME_MODELS, named_outcome_model

    if value is None:
        return None
    names = [name for name in OUTCOME_MODELS if name not in ("linear", "logistic")]
    if value not in names:
        raise ValueError(f"{place}outcome_model must be one of {', '.join(names)}; got {value!r}")
    return named_outcome_model(value)


def _check_training(given: Mapping[str, Any], place: str) -> None:
    """The names under ``training`` are those of the trainer's settings."""
    from causal_lm_opt.lm.trainer import CausalPreferenceConfig

    known = [f.name for f in dataclasses.fields(CausalPreferenceConfig)]
    for name in given:
        if name not in known:
            raise ValueError(
                f"{place}unknown setting {name!r} under training{did_you_mean(name, known)}"
            )
