"""Evaluation without log-probabilities: texts of the target policies alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from causal_lm_opt._cells import did_you_mean
from causal_lm_opt._run.draws import DrawsFile, read_prompted_draws
from causal_lm_opt._run.options import RATIO_NAMES
from causal_lm_opt.estimators._named_ratios import named_ratio

if TYPE_CHECKING:
    from causal_lm_opt._run.log import Request
    from causal_lm_opt.estimators import TargetSample
    from causal_lm_opt.logged import LoggedData

__all__ = ["DEFAULT_RATIO", "check_target_texts", "read_target_texts", "request_ratio"]

#: It asks for no choice of topics beforehand, and tells best where texts do not overlap.
DEFAULT_RATIO = "classifier"


def check_target_texts(request: Request) -> None:
    """``ValueError`` for options that do not go with ``--target-texts``, or need it."""
    if request.target_texts is None:
        if request.ratio is not None:
            raise ValueError(
                "--ratio says how weights are estimated from texts: give --target-texts FILE"
            )
        return
    if request.ratio is not None and request.ratio not in RATIO_NAMES:
        raise ValueError(
            f"--ratio {request.ratio!r} is not known; use {', '.join(RATIO_NAMES)}"
            f"{did_you_mean(request.ratio, RATIO_NAMES)}"
        )
    others = {
        "--policy": request.policies, "--logp-logging": request.logp_logging,
        "--logging-policy": request.logging_policy, "--draws": request.draws,
        "--support": request.support,
    }  # fmt: skip
    given = [name for name, value in others.items() if value]
    if given:
        raise ValueError(
            f"--target-texts estimates the weights from texts, and {' and '.join(given)} would "
            f"give them by log-probabilities: leave out {'one' if len(given) == 1 else 'one side'}"
        )


def read_target_texts(
    request: Request, *, texts: bool
) -> tuple[dict[str, TargetSample], dict[str, NDArray[np.object_]]]:
    """The texts (and features) of each policy, and their prompts where these are no clusters."""
    assert request.target_texts is not None
    group = request.group or request.prompt or "group"
    spec = DrawsFile(
        text=request.text if texts else None,
        features=request.features,
        # Rows of one logged text may depend; texts that a policy wrote twice need not.
        group="group" if group in (request.text, "text") else group,
        prompt=None if request.group is None else request.prompt,
        by=request.by,
        delimiter=request.delimiter,
        decimal=request.decimal or ".",
        scored=False,
    )
    return read_prompted_draws(request.target_texts, spec)


def request_ratio(
    request: Request, log: LoggedData, targets: Mapping[str, TargetSample], *, texts: bool,
    cv: int, seed: int,
) -> Any:  # fmt: skip
    """The unfitted density ratio that was asked for, its features made from all the texts."""
    whole = None
    if texts:
        whole = list(log.text)
        for sample in targets.values():
            whole += list(sample.X["text"] if request.features else sample.X)
    units = [_units(log.groups, len(log))]
    units += [_units(sample.groups, len(sample.X)) for sample in targets.values()]
    return named_ratio(
        request.ratio or DEFAULT_RATIO, whole, features=request.features, units=min(units), cv=cv,
        seed=seed,
    )  # fmt: skip


def _units(groups: Any, rows: int) -> int:
    """Clusters of a sample, or its rows."""
    return rows if groups is None else int(np.unique(np.asarray(groups, dtype=object)).size)
