"""A fitted reward model in a folder: weights as safetensors, the rest as JSON, no pickle."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from causal_lm_opt.exceptions import DataError
from causal_lm_opt.rewards._modules import RewardNetwork, make_encoder

__all__ = ["load_reward", "save_reward"]

WEIGHTS, SETTINGS = "reward.safetensors", "reward.json"
#: Of what the folder's JSON holds; a later layout gets another number.
LAYOUT = 1
#: Settings that are objects, to be given again when loading.
OBJECTS = ("embed", "encoder", "device", "random_state")


def save_reward(model: Any, folder: str | os.PathLike[str]) -> None:
    """Write a fitted model, whole or not at all; see `PairReward.save`."""
    target = Path(folder).expanduser().resolve()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{target} exists; save to a new folder.")
    described = json.dumps(_described(model), indent=1, allow_nan=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    staged = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    try:
        staged.mkdir()
        weights = {k: v.cpu().contiguous() for k, v in model.network_.state_dict().items()}
        save_file(_without_shared(weights), staged / WEIGHTS, {"format": "pt"})
        (staged / SETTINGS).write_text(described + "\n", encoding="utf-8")
        os.replace(staged, target)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _without_shared(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copies where tensors share memory, which the format refuses."""
    seen: set[int] = set()
    out = {}
    for name, tensor in weights.items():
        out[name] = tensor.clone() if tensor.data_ptr() in seen else tensor
        seen.add(tensor.data_ptr())
    return out


def _described(model: Any) -> dict[str, Any]:
    """Everything but the weights."""
    given = {k: v for k, v in model.get_params(deep=False).items() if k not in OBJECTS}
    seed = model.random_state
    own = isinstance(model.encoder, nn.Module)
    return {
        "layout": LAYOUT,
        "class": type(model).__name__,
        "params": {k: list(v) if isinstance(v, tuple) else v for k, v in given.items()}
        | {"random_state": int(seed) if isinstance(seed, int | np.integer) else None},
        "own_encoder": own,
        "width": int(model.network_width_),
        "latent_dim": model.latent_dim_,
        "dtype": str(model.network_.dtype).removeprefix("torch."),
        "objectives": _labels(model.objectives_),
        "n_features_in": model.n_features_in_,
        "n_prompt_features": model.n_prompt_features_,
        "text_prompts": model.text_prompts_,
        "feature_names_in": _labels(getattr(model, "feature_names_in_", None)),
        "center": None if model.center_ is None else model.center_.tolist(),
        "scale": None if model.scale_ is None else model.scale_.tolist(),
        "temperature": model.temperature_,
        "history": model.history_,
        "best_epoch": model.best_epoch_,
    }


def _labels(values: npt.NDArray[Any] | None) -> dict[str, Any] | None:
    """Labels and their kind, so that they come back as they were."""
    if values is None:
        return None
    listed = values.tolist()
    odd = [v for v in listed if not isinstance(v, str | int | float | bool)]
    if odd:
        raise TypeError(
            f"objective {odd[0]!r} cannot be written as JSON: use strings or numbers as labels."
        )
    return {"kind": "object" if values.dtype == object else values.dtype.str, "values": listed}


def _as_labels(found: dict[str, Any] | None) -> npt.NDArray[Any] | None:
    if found is None:
        return None
    return np.array(found["values"], dtype=object if found["kind"] == "object" else found["kind"])


def load_reward(cls: Any, folder: str | os.PathLike[str], *, embed: Any, encoder: Any) -> Any:
    """Read a folder that `save_reward` wrote; see `PairReward.load`."""
    place = Path(folder).expanduser()
    for name in (SETTINGS, WEIGHTS):
        if not (place / name).is_file():
            raise FileNotFoundError(f"{place} holds no {name}: it is no saved reward model.")
    found = _read_settings(place / SETTINGS, cls)
    if found.get("own_encoder") and encoder is None:
        raise ValueError(
            f"{place} was saved with an encoder of the user's own: pass encoder=, a module of the "
            "same architecture."
        )
    try:
        model = cls(**found["params"])
        model.set_params(embed=embed, encoder=encoder if found["own_encoder"] else "mlp")
        _restore(model, found)
        weights = load_file(place / WEIGHTS)
        model.network_.load_state_dict(weights)
    except (SafetensorError, OSError) as error:
        raise DataError(f"{place / WEIGHTS}: is damaged ({error}); save the model anew.") from error
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise DataError(
            f"{place}: {SETTINGS} and {WEIGHTS} do not fit each other or this version "
            f"({str(error).splitlines()[0]}); save the model anew."
        ) from error
    model.network_.eval()
    return model


def _read_settings(file: Path, cls: Any) -> dict[str, Any]:
    """The JSON of a saved model of this class."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read ({error}); save the model anew.") from error
    if not isinstance(found, dict) or found.get("layout") != LAYOUT:
        raise DataError(f"{file}: is no reward model of layout {LAYOUT}; save the model anew.")
    if found.get("class") != cls.__name__:
        raise DataError(f"{file}: holds a {found.get('class')}; load it with that class.")
    return found


def _restore(model: Any, found: dict[str, Any]) -> None:
    """Fitted attributes and an empty network of the right shape."""
    for name in ("hidden", "discriminator_hidden"):
        if name in found["params"]:
            setattr(model, name, tuple(found["params"][name]))
    model.objectives_ = _as_labels(found["objectives"])
    names = _as_labels(found["feature_names_in"])
    if names is not None:
        model.feature_names_in_ = names
    model.n_features_in_ = int(found["n_features_in"])
    model.n_prompt_features_ = int(found["n_prompt_features"])
    model.text_prompts_ = bool(found["text_prompts"])
    for name in ("center", "scale"):
        value = found[name]
        setattr(model, f"{name}_", None if value is None else np.asarray(value))
    model.temperature_ = float(found["temperature"])
    model.history_ = [dict(epoch) for epoch in found["history"]]
    model.n_epochs_, model.best_epoch_ = len(model.history_), int(found["best_epoch"])
    model.network_width_, model.latent_dim_ = int(found["width"]), int(found["latent_dim"])
    heads = len(model.objectives_) if model._heads else 1
    with torch.random.fork_rng(devices=[]):
        made, latent = make_encoder(
            model.encoder, model.network_width_, model.hidden, model.latent_dim_
        )
    network = RewardNetwork(made, latent, heads)
    model.network_ = network.to(getattr(torch, found["dtype"]))
