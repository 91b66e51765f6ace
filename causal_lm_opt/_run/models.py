"""Policies that are language models: ``evaluate --policy NAME=FOLDER`` and ``--logging-policy``.

A log's texts are scored under each, and texts are drawn from the target policies where asked. One
model is in memory at a time; scores are kept on disk, so that a run that was stopped goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causal_lm_opt._cells import did_you_mean
from causal_lm_opt._evaluation import LOGGING, Table
from causal_lm_opt._parts import cluster_label, object_array
from causal_lm_opt._run.optimize_files import returned_model
from causal_lm_opt._run.shell import say
from causal_lm_opt._training_rows import needs_prompts
from causal_lm_opt.estimators import TargetSample
from causal_lm_opt.exceptions import DataError

if TYPE_CHECKING:
    from causal_lm_opt.lm import Draws, LanguageModelPolicy
    from causal_lm_opt.logged import LoggedData

__all__ = [
    "Models",
    "Scored",
    "check_folder",
    "forget_scores",
    "is_model_folder",
    "kept_scores",
    "score_log",
    "split_policies",
]

Float = NDArray[np.float64]
TARGET, STAND_IN = "target policy", "logging policy, estimated"
ESTIMATED = (
    "Estimated propensity: no column of the log says with what probability its texts were written; "
    "the model in {folder} (fingerprint {fingerprint}) stands in for that. Unless this very model, "
    "sampled at temperature 1 without truncation, wrote the texts, every weight carries its error, "
    "which no standard error or verdict here counts; --sensitivity bounds what such an error "
    "could do."
)


@dataclass(frozen=True)
class Models:
    """Models that take part in an evaluation.

    Attributes
    ----------
    targets : mapping of policy name to folder
    logging : str, optional
        Folder of the model whose log-probabilities stand in for the logging policy's.
    draws : int, optional
        Texts to draw from each target policy; of each prompt, where the log has several.
    seed : int
        Of the draws.
    cache : str, optional
        Folder in which scores are kept.
    progress : bool, optional
        Bars on stderr; None: on a terminal only.
    """

    targets: Mapping[str, str] = field(default_factory=dict)
    logging: str | None = None
    draws: int | None = None
    seed: int = 0
    cache: str | None = None
    progress: bool | None = None

    def __bool__(self) -> bool:
        return bool(self.targets) or self.logging is not None


@dataclass(frozen=True, eq=False)
class Scored:
    """A log with the models' log-probabilities, their draws, and what was scored with what.

    ``facts`` has one entry a model: policy, role, folder, fingerprint, decoding, dtype, numbers.
    """

    log: LoggedData
    draws: dict[str, TargetSample] | None
    facts: tuple[dict[str, Any], ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of the scores."""
        return tuple(
            ESTIMATED.format(**fact) for fact in self.facts if fact["role"] == STAND_IN
        ) + tuple(
            f"Of the {fact['draws'] + fact['cut']:,} texts drawn from {fact['policy']!r}, "
            f"{fact['cut']:,} did not end within the model's limit and are left out: its draws "
            "stand for its shorter texts."
            for fact in self.facts
            if fact["cut"]
        )

    @property
    def table(self) -> Table:
        """Which policy was scored with which model."""
        columns = ("policy", "role", "model", "fingerprint", "decoding", "dtype", "texts scored",
                   "draws")  # fmt: skip
        return Table(
            title="Scored by language models",
            text="Log-probabilities of these policies were computed in this run, each text from "
            "the beginning (or its prompt) to its end token. The fingerprint is of every weight, "
            "the configuration, the decoding and the precision. Those of other policies were read "
            "from the log.",
            columns=columns,
            rows=tuple(
                tuple(fact[{"model": "folder"}.get(name, name).replace(" ", "_")]
                      for name in columns)
                for fact in self.facts
            ),
        )  # fmt: skip


# ------------------------------------------------------------------------------ which is which
def is_model_folder(value: str) -> bool:
    """Whether ``--policy NAME=VALUE`` names a folder with a model (or an adapter) in it."""
    folder = Path(value).expanduser()
    return any((folder / name).is_file() for name in ("config.json", "adapter_config.json"))


def split_policies(
    policies: Mapping[str, str], header: Sequence[str], log: str
) -> tuple[dict[str, str], dict[str, str]]:
    """The policies that are columns of the log, and those that are folders of models.

    Raises
    ------
    ValueError
        If a value is both, is a folder without a model, or looks like a path that is not there.
    """
    columns: dict[str, str] = {}
    folders: dict[str, str] = {}
    for name, value in policies.items():
        if value in header:
            if is_model_folder(value):
                raise ValueError(
                    f"--policy {name}={value}: {log} has a column of that name, and there is a "
                    f"model in a folder of that name: write ./{value} for the model, or rename the "
                    "column"
                )
            columns[name] = value
        elif is_model_folder(value):
            folders[name] = value
        else:
            _check_column(f"--policy {name}={value}", value, header, log)
            columns[name] = value  # the reader says that it is not there
    return columns, folders


def _check_column(said: str, value: str, header: Sequence[str], log: str) -> None:
    """``ValueError`` if a value that is no column was meant as a folder."""
    folder = Path(value).expanduser()
    own = returned_model(folder)
    if own is not None:
        raise ValueError(f"{said}: is a run of optimize; its model is {own}")
    if folder.is_dir():
        raise ValueError(
            f"{said}: the folder has no config.json, so it holds no model; give a folder that "
            "save_pretrained wrote"
        )
    if "/" in value or "\\" in value:
        raise ValueError(
            f"{said}: {log} has no such column{did_you_mean(value, header)}, and there is no such "
            "folder; a model is named by its folder on this machine"
        )


def check_folder(option: str, value: str) -> None:
    """``ValueError`` unless an option names a folder with a model."""
    if not is_model_folder(value):
        own = returned_model(value)
        if own is not None:
            raise ValueError(f"{option} {value}: is a run of optimize; its model is {own}")
        inside = Path(value) / "trained"  # of a run in Python
        other = f" (there is one in {inside})" if is_model_folder(str(inside)) else ""
        raise ValueError(
            f"{option} {value}: no model there (no config.json); give a folder that "
            f"save_pretrained wrote{other}"
        )


# ------------------------------------------------------------------------------ scores on disk
def kept_scores(out: str | Path) -> Path:
    """Where scores are kept until the run is done: beside its output."""
    target = Path(out).expanduser().resolve()
    return target.with_name(f"{target.name}.scores")


def forget_scores(out: str | Path) -> None:
    """Remove the scores in the folder that :func:`kept_scores` names, and nothing else there."""
    folder = kept_scores(out)
    for part in folder.glob("*/*.scores"):
        part.unlink(missing_ok=True)
    for emptied in (*folder.glob("*"), folder):
        with suppress(OSError):  # not empty, or no folder: somebody else's
            emptied.rmdir()


# ------------------------------------------------------------------------------ scoring
def score_log(log: LoggedData, models: Models) -> Scored:
    """Score a log under its models, and draw from those that are target policies.

    Parameters
    ----------
    log : LoggedData
        Its own ``logp_target`` columns are kept.
    models : Models

    Returns
    -------
    Scored
        The log's policies: its own, then the models'.

    Raises
    ------
    DataError
        If a model cannot be loaded, or draws no text that ends.
    ValueError
        If a name is taken, torch is not installed, or a text does not fit the model.
    """
    frame = (
        pd.DataFrame(index=range(len(log))) if log.logp_target is None else log.logp_target.copy()
    )
    drawn: dict[str, _Drawn] = {}
    facts = []
    for k, (name, folder) in enumerate(models.targets.items()):
        if name in frame:
            raise ValueError(f"--policy names {name!r} twice")
        policy = _opened(folder, name, models)
        frame[name] = _scores(policy, log.text, log.prompt, f"--policy {name}={folder}")
        if models.draws is not None:
            rng = np.random.default_rng([models.seed, k])
            drawn[name] = _draw(policy, log, models, rng)
        facts.append(_facts(policy, folder, name, TARGET, log, drawn.get(name)))
    scored = replace(log, logp_target=frame) if models.targets else log
    if models.logging is not None:
        policy = _opened(models.logging, LOGGING, models)
        said = f"--logging-policy {models.logging}"
        scored = replace(scored, logp_logging=_scores(policy, log.text, log.prompt, said))
        drawn = {
            name: replace(one, logp_logging=_scores_that_fit(policy, one.texts, one.prompts))
            for name, one in drawn.items()
        }
        facts.append(_facts(policy, models.logging, LOGGING, STAND_IN, log, None))
    samples = {name: one.sample() for name, one in drawn.items()} if drawn else None
    return Scored(scored, samples, tuple(facts))


def _opened(folder: str, name: str, models: Models) -> LanguageModelPolicy:
    """The model of a folder; whatever is wrong with it said in one line."""
    try:
        from causal_lm_opt.lm import LanguageModelPolicy
        from causal_lm_opt.lm._loading import without_bars
    except ModuleNotFoundError as error:
        raise ValueError(f"policy {name!r} is a model: {error}") from error
    try:
        with without_bars():
            return LanguageModelPolicy(
                Path(folder).expanduser(), cache=models.cache, progress=models.progress, name=name,
                local_files_only=True,
            )  # fmt: skip
    except Exception as error:  # a loader raises errors of many libraries; each says: bad folder
        why = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{folder}: the model cannot be loaded: {why}") from error


def _scores(
    policy: LanguageModelPolicy, texts: Sequence[str], prompts: Sequence[str] | None, said: str
) -> Float:
    try:
        return policy.log_prob(texts, prompts)
    except ValueError as error:
        why = str(error).replace(
            "pass too_long='truncate' to score the beginning of each (the probability that a text "
            "begins so).",
            "score their beginnings into a column first: causal-lm-opt score --truncate.",
        )
        raise ValueError(f"{said}: {why}") from error


def _facts(
    policy: LanguageModelPolicy, folder: str, name: str, role: str, log: LoggedData,
    drawn: _Drawn | None,
) -> dict[str, Any]:  # fmt: skip
    from causal_lm_opt.lm._cache import fingerprint

    return {
        "policy": name, "role": role, "folder": folder,
        "fingerprint": fingerprint(policy.model, policy.decoding, policy.dtype_name),
        "decoding": policy.decoding.describe(), "dtype": policy.dtype_name,
        "texts_scored": len(set(zip(log.text, log.prompt or log.text, strict=True))),
        "draws": 0 if drawn is None else len(drawn.texts), "cut": 0 if drawn is None else drawn.cut,
    }  # fmt: skip


# ------------------------------------------------------------------------------ draws
@dataclass(frozen=True, eq=False)
class _Drawn:
    """m texts of a policy with their prompts, clusters and log-probabilities (m,)."""

    texts: list[str]
    prompts: list[str] | None
    groups: NDArray[np.object_] | None
    logp_target: Float
    cut: int
    logp_logging: Float | None = None

    def sample(self) -> TargetSample:
        return TargetSample(
            self.texts, groups=self.groups, logp_target=self.logp_target,
            logp_logging=self.logp_logging,
        )  # fmt: skip


def _draw(
    policy: LanguageModelPolicy, log: LoggedData, models: Models, rng: np.random.Generator
) -> _Drawn:
    """Texts of a policy: ``models.draws`` in all, or of each prompt where there are several."""
    count = models.draws or 0
    from causal_lm_opt.lm.policy import NEW_TOKENS

    distinct = None if log.prompt is None else list(dict.fromkeys(log.prompt))
    if distinct is not None and models.progress is not False:
        say(f"drawing {count:,} texts for each of {len(distinct):,} prompts from {policy.name!r}: "
            f"{count * len(distinct):,} in all\n", error=True)  # fmt: skip
    drawn = policy.sample(count, rng, prompts=distinct, max_new_tokens=NEW_TOKENS)
    kept = np.flatnonzero(drawn.finished)
    lost = np.setdiff1d(drawn.prompt_index, drawn.prompt_index[kept])
    if lost.size:
        asked = needs_prompts(policy.training_rows, given=distinct is not None)
        why = asked or "was the model trained to end its texts?"
        where = "" if distinct is None else f" for prompt {distinct[int(lost[0])][:60]!r}"
        raise DataError(
            f"policy {policy.name!r}: none of its {count:,} draws{where} ended within "
            f"{NEW_TOKENS} tokens (or its context), so that there is no text of its to value; {why}"
        )
    texts = [drawn.texts[i] for i in kept]
    prompts = None if distinct is None else [distinct[drawn.prompt_index[i]] for i in kept]
    groups = None
    if prompts is not None and len(set(prompts)) > 1:
        groups = object_array([cluster_label(prompt) for prompt in prompts])
    logp = _usual(policy, drawn, kept, texts, prompts)
    return _Drawn(texts, prompts, groups, logp, len(drawn) - len(texts))


def _usual(
    policy: LanguageModelPolicy, drawn: Draws, kept: NDArray[np.intp], texts: list[str],
    prompts: list[str] | None,
) -> Float:  # fmt: skip
    """Log-probability of each kept text in its usual spelling, as logged texts are scored.

    That of the tokens drawn, where the usual spelling is too long for the model.
    """
    logp = drawn.log_prob[kept].copy()
    odd = np.flatnonzero(~drawn.canonical[kept])
    asked = None if prompts is None else [prompts[i] for i in odd]
    found = _scores_that_fit(policy, [texts[i] for i in odd], asked)
    logp[odd] = np.where(np.isneginf(found), logp[odd], found)
    return logp


def _scores_that_fit(
    policy: LanguageModelPolicy, texts: Sequence[str], prompts: Sequence[str] | None
) -> Float:
    """Log-probabilities (m,) of drawn texts; ``-inf`` for one that the model has no room for."""
    encoder = policy.encoder
    room = np.inf if encoder.max_length is None else encoder.max_length
    contexts, bodies = encoder.contexts(prompts, len(texts)), encoder.texts(texts)
    lengths = [len(c) + len(x) for c, x in zip(contexts, bodies, strict=True)]
    fits = [i for i, length in enumerate(lengths) if length <= room]
    out = np.full(len(texts), -np.inf)
    if fits:
        asked = None if prompts is None else [prompts[i] for i in fits]
        out[fits] = policy.log_prob([texts[i] for i in fits], asked)
    return out
