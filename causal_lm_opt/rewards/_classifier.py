"""A sequence classifier with one label out of whatever language model is given."""

from __future__ import annotations

import copy
import os
from typing import Any

import torch

from causal_lm_opt.lm._loading import Loading, _load, check_object, transformers

__all__ = ["classifier_from", "load_classifier"]

#: What families of models call the head of a sequence classifier.
HEADS = ("score", "classifier", "classification_head")


def load_classifier(name: str | os.PathLike[str], loading: Loading, seed: int) -> tuple[Any, bool]:
    """A classifier with one label from a folder or hub name, and whether its head was stored.

    Raises
    ------
    ValueError
        If other weights than the head's are missing, or the head has another width.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, report = _load(
            "AutoModelForSequenceClassification", name, loading, output_loading_info=True,
            num_labels=1,
        )  # fmt: skip
    missing = sorted(report["missing_keys"])
    body = [key for key in missing if key.split(".")[0] not in HEADS]
    if body or report["mismatched_keys"]:
        wrong = [*body, *(str(key) for key in report["mismatched_keys"])]
        raise ValueError(
            f"model {os.fspath(name)!r} does not fit a reward with one number a text: {wrong[0]} "
            f"and {len(wrong) - 1} more weights are missing or of another shape."
        )
    return model, not missing


def classifier_from(model: Any, seed: int) -> tuple[Any, bool]:
    """A classifier with one label that shares no memory with the model, and whether it had a head.

    Raises
    ------
    TypeError
        If there is no sequence classifier of the model's family.
    """
    check_object(model, Loading())
    if getattr(model, "score", None) is not None and model.config.num_labels == 1:
        return copy.deepcopy(model), True
    config = copy.deepcopy(model.config)
    config.num_labels = 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            made = transformers().AutoModelForSequenceClassification.from_config(config)
        except ValueError as error:
            raise TypeError(
                f"transformers has no sequence classifier for {type(model).__name__}: "
                f"{str(error).splitlines()[0]}"
            ) from error
    made.base_model.load_state_dict(model.base_model.state_dict())
    return made.to(dtype=model.dtype, device=model.device), False
